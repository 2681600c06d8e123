/* SPDX-License-Identifier: Apache-2.0
 * A faulty DynamoDB (ddb_proxy.h). */
#include "tests/support/ddb_proxy.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/ddb_verify.h"
#include "tests/support/run_daemon.h"

enum { HEAD_MAX = 16 << 10, BODY_MAX = 20 << 20, RULES = 8, LOGINS = 4, SLOW_MS = 300, CHAOS_MS = 30 };

struct rule {
	struct ddb_rule rule;
	char target[40], part[80];
	_Atomic uint32_t met;
};

/* Shared by the test and the proxy. */
struct ddb_proxy_page {
	pthread_mutex_t lock; /* of rules and logins */
	struct rule rules[RULES];
	size_t rule_count;
	struct ddb_login logins[LOGINS];
	char why[DDB_VERIFY_WHY];
	_Atomic uint32_t chaos, released;
	_Atomic uint64_t requests, refused, stale, held, faults[DDB_FAULTS];
};

/* One client's connection, and that to the emulator. */
struct session {
	struct ddb_proxy_page *page;
	int client, server;
	uint16_t upstream;
	char head[HEAD_MAX], target[64];
	char *body;
	size_t body_bytes;
	/* The emulator's answer. */
	int status;
	char *answer;
	size_t answer_bytes;
};

static void pause_ms(long ms)
{
	(void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* ---- HTTP ---- */

/* A head and its body are sent apart, and the second one is not to wait until the first one is
 * acknowledged (40 ms). */
static void send_at_once(int fd)
{
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static bool send_all(int fd, const void *data, size_t bytes)
{
	const char *p = data;

	while (bytes > 0) {
		ssize_t n = send(fd, p, bytes, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		bytes -= (size_t)n;
	}
	return true;
}

/* A head, terminated, and a body with a length, terminated; *body is freed by the caller. */
static bool read_message(int fd, char head[HEAD_MAX], char **body, size_t *bytes)
{
	size_t have = 0, head_bytes, length = 0;
	char *end = NULL, *p;

	while (end == NULL) {
		ssize_t n = recv(fd, head + have, HEAD_MAX - 1 - have, 0);

		if (n <= 0)
			return false;
		have += (size_t)n;
		head[have] = '\0';
		end = strstr(head, "\r\n\r\n");
	}
	head_bytes = (size_t)(end + 4 - head);
	p = strcasestr(head, "\r\nContent-Length:");
	if (p != NULL && p < end)
		length = strtoul(p + strlen("\r\nContent-Length:"), NULL, 10);
	if (length > BODY_MAX || have - head_bytes > length || (*body = malloc(length + 1)) == NULL)
		return false;
	memcpy(*body, head + head_bytes, have - head_bytes);
	for (have -= head_bytes; have < length;) {
		ssize_t n = recv(fd, *body + have, length - have, 0);

		if (n <= 0) {
			free(*body);
			return false;
		}
		have += (size_t)n;
	}
	(*body)[length] = '\0';
	end[2] = '\0';
	*bytes = length;
	return true;
}

static uint32_t crc_of(const char *data, size_t bytes)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < bytes; i++) {
		crc ^= (unsigned char)data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

static bool answer(struct session *s, int status, const char *body, size_t bytes, bool right)
{
	char head[300], date[40];
	time_t now = time(NULL);
	struct tm tm;
	int n;

	(void)strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
	n = snprintf(head, sizeof head,
	             "HTTP/1.1 %d %s\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %zu\r\n"
	             "x-amz-crc32: %u\r\nDate: %s\r\n\r\n",
	             status, status == 200 ? "OK" : "Refused", bytes, crc_of(body, bytes) ^ (right ? 0 : 1), date);
	return send_all(s->client, head, (size_t)n) && send_all(s->client, body, bytes);
}

static bool refuse(struct session *s, int status, const char *type, const char *text)
{
	char body[500];
	int n = snprintf(body, sizeof body, "{\"__type\":\"com.amazonaws.dynamodb.v20120810#%s\",\"message\":\"%s\"}",
	                 type, text);

	return answer(s, status, body, (size_t)n, true);
}

/* Let the emulator do it. false: it is gone. */
static bool forward(struct session *s, const char *body, size_t bytes)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons(s->upstream), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char head[1024];
	const char *authorization = strcasestr(s->head, "\r\nAuthorization:");
	int n = snprintf(head, sizeof head,
	                 "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-amz-json-1.0\r\n"
	                 "X-Amz-Target: DynamoDB_20120810.%s\r\nContent-Length: %zu%.*s\r\n\r\n",
	                 s->target, bytes, (int)strcspn(authorization + 2, "\r") + 2, authorization);

	free(s->answer);
	s->answer = NULL;
	for (int tries = 0; tries < 2; tries++) {
		char answered[HEAD_MAX];

		if (s->server < 0) {
			s->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			send_at_once(s->server);
			if (connect(s->server, (struct sockaddr *)&at, sizeof at) != 0)
				return false;
		}
		if (send_all(s->server, head, (size_t)n) && send_all(s->server, body, bytes) &&
		    read_message(s->server, answered, &s->answer, &s->answer_bytes)) {
			s->status = atoi(answered + strlen("HTTP/1.1 "));
			return true;
		}
		s->answer = NULL;
		(void)close(s->server); /* it was idle for too long */
		s->server = -1;
	}
	return false;
}

/* ---- what is done to a request ---- */

/* Is it a read that does not ask for what was written last? */
static bool is_stale(const struct session *s, const json_t *body)
{
	const char *name;
	json_t *of;

	if (strcmp(s->target, "BatchGetItem") == 0) {
		json_object_foreach(json_object_get(body, "RequestItems"), name,
		                    of) if (!json_is_true(json_object_get(of, "ConsistentRead"))) return true;
		return false;
	}
	return (strcmp(s->target, "GetItem") == 0 || strcmp(s->target, "Query") == 0 ||
	        strcmp(s->target, "Scan") == 0) &&
	       !json_is_true(json_object_get(body, "ConsistentRead"));
}

/* The second half of each table's keys (or puts) is left. */
static bool half(struct session *s, json_t *body)
{
	bool reads = strcmp(s->target, "BatchGetItem") == 0;
	json_t *left = json_object(), *of, *tables = json_object_get(body, "RequestItems"), *doc;
	const char *name;
	char *text;
	bool good;

	json_object_foreach(tables, name, of)
	{
		json_t *list = reads ? json_object_get(of, "Keys") : of, *rest = json_array();
		size_t n = json_array_size(list);

		while (json_array_size(list) > (n + 1) / 2 && n > 1) {
			(void)json_array_append(rest, json_array_get(list, json_array_size(list) - 1));
			(void)json_array_remove(list, json_array_size(list) - 1);
		}
		if (json_array_size(rest) == 0) {
			json_decref(rest);
			continue;
		}
		(void)json_object_set_new(left, name,
		                          reads ? json_pack("{s:b,s:o}", "ConsistentRead", 1, "Keys", rest) : rest);
	}
	text = json_dumps(body, JSON_COMPACT);
	good = forward(s, text, strlen(text));
	free(text);
	if (!good)
		return false;
	doc = json_loadb(s->answer, s->answer_bytes, 0, NULL);
	(void)json_object_set_new(doc, reads ? "UnprocessedKeys" : "UnprocessedItems", left);
	text = json_dumps(doc, JSON_COMPACT);
	good = answer(s, s->status, text, strlen(text), true);
	free(text);
	json_decref(doc);
	return good;
}

static bool one_a_page(struct session *s, json_t *body)
{
	char *text;
	bool good;

	(void)json_object_set_new(body, "Limit", json_integer(1));
	text = json_dumps(body, JSON_COMPACT);
	good = forward(s, text, strlen(text)) && answer(s, s->status, s->answer, s->answer_bytes, true);
	free(text);
	return good;
}

static bool pass(struct session *s)
{
	return forward(s, s->body, s->body_bytes) && answer(s, s->status, s->answer, s->answer_bytes, true);
}

static bool conflict(struct session *s, bool throttled)
{
	char body[300];
	int n;

	if (strcmp(s->target, "TransactWriteItems") != 0)
		return refuse(s, 400,
		              throttled ? "ProvisionedThroughputExceededException" : "TransactionConflictException",
		              throttled ? "The level of configured provisioned throughput for the table was exceeded"
		                        : "Transaction is ongoing for the item");
	n = snprintf(body, sizeof body,
	             "{\"__type\":\"com.amazonaws.dynamodb.v20120810#TransactionCanceledException\",\"message\":"
	             "\"Transaction cancelled\",\"CancellationReasons\":[{\"Code\":\"%s\",\"Message\":\"%s\"}]}",
	             throttled ? "ThrottlingError" : "TransactionConflict",
	             throttled ? "Throughput exceeds the current capacity" : "Transaction is ongoing for the item");
	return answer(s, 400, body, (size_t)n, true);
}

static void be_silent(struct session *s)
{
	char byte;

	while (recv(s->client, &byte, 1, 0) > 0) /* until the client goes */
		;
}

/* false: the connection is to end. */
static bool do_fault(struct session *s, enum ddb_fault fault, json_t *body, long slow_ms)
{
	static const char html[] =
		"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 40\r\n\r\n"
		"<html>Service Temporarily Unavailable...";
	uint32_t released = atomic_load(&s->page->released);

	atomic_fetch_add(&s->page->faults[fault], 1);
	switch (fault) {
	case DDB_FAULT_CONFLICT:
	case DDB_FAULT_THROTTLED:
		return conflict(s, fault == DDB_FAULT_THROTTLED);
	case DDB_FAULT_NO_BACKUPS:
		return refuse(s, 400, "ContinuousBackupsUnavailableException",
		              "Backups are being enabled for the table. Please retry later");
	case DDB_FAULT_INVALID:
		return refuse(s, 400, "ValidationException", "Item size has exceeded the maximum allowed size");
	case DDB_FAULT_500_DONE:
		if (!forward(s, s->body, s->body_bytes))
			return false;
		__attribute__((fallthrough));
	case DDB_FAULT_500:
		return refuse(s, 500, "InternalServerError", "The request processing has failed");
	case DDB_FAULT_503:
		return send_all(s->client, html, sizeof html - 1);
	case DDB_FAULT_CUT_DONE:
		(void)forward(s, s->body, s->body_bytes);
		return false;
	case DDB_FAULT_UNPROCESSED:
		return half(s, body);
	case DDB_FAULT_ONE_A_PAGE:
		return one_a_page(s, body);
	case DDB_FAULT_CRC:
		return forward(s, s->body, s->body_bytes) && answer(s, s->status, s->answer, s->answer_bytes, false);
	case DDB_FAULT_EXPIRED:
		return refuse(s, 400, "ExpiredTokenException", "The security token included in the request is expired");
	case DDB_FAULT_SLOW:
		pause_ms(slow_ms);
		return pass(s);
	case DDB_FAULT_HOLD:
		atomic_fetch_add(&s->page->held, 1);
		while (atomic_load(&s->page->released) == released)
			pause_ms(2);
		atomic_fetch_sub(&s->page->held, 1);
		return pass(s);
	case DDB_FAULT_SILENT_DONE:
		(void)forward(s, s->body, s->body_bytes);
		__attribute__((fallthrough));
	case DDB_FAULT_SILENT:
		be_silent(s);
		return false;
	default:
		return false;
	}
}

static bool can_meet(const struct session *s, enum ddb_fault fault)
{
	if (fault == DDB_FAULT_UNPROCESSED)
		return strncmp(s->target, "Batch", 5) == 0;
	if (fault == DDB_FAULT_ONE_A_PAGE)
		return strcmp(s->target, "Query") == 0 || strcmp(s->target, "Scan") == 0;
	if (fault == DDB_FAULT_CONFLICT)
		return strstr(s->target, "Get") == NULL && strcmp(s->target, "Query") != 0 &&
		       strcmp(s->target, "Scan") != 0;
	return true;
}

/* The fault that this request meets; DDB_FAULTS: none. */
static enum ddb_fault choose(struct session *s, long *slow_ms)
{
	static const enum ddb_fault passing[] = {DDB_FAULT_CONFLICT,    DDB_FAULT_THROTTLED, DDB_FAULT_500,
	                                         DDB_FAULT_500_DONE,    DDB_FAULT_503,       DDB_FAULT_CUT,
	                                         DDB_FAULT_CUT_DONE,    DDB_FAULT_CUT_DONE,  DDB_FAULT_UNPROCESSED,
	                                         DDB_FAULT_ONE_A_PAGE,  DDB_FAULT_CRC,       DDB_FAULT_SLOW,
	                                         DDB_FAULT_SILENT_DONE, DDB_FAULT_CUT_DONE};
	enum ddb_fault fault = DDB_FAULTS;
	uint32_t random[2] = {0, 0};

	*slow_ms = SLOW_MS;
	(void)pthread_mutex_lock(&s->page->lock);
	for (size_t i = 0; i < s->page->rule_count && fault == DDB_FAULTS; i++) {
		struct rule *r = &s->page->rules[i];
		uint32_t met;

		if (strncmp(s->target, r->target, strlen(r->target)) != 0 ||
		    (r->part[0] != '\0' && strstr(s->body, r->part) == NULL) || !can_meet(s, r->rule.fault))
			continue;
		met = atomic_fetch_add(&r->met, 1);
		if (met >= r->rule.skip && met - r->rule.skip < r->rule.times)
			fault = r->rule.fault;
	}
	(void)pthread_mutex_unlock(&s->page->lock);
	if (fault == DDB_FAULTS && getrandom(random, sizeof random, 0) == sizeof random &&
	    random[0] % 1000 < atomic_load(&s->page->chaos)) {
		fault = passing[random[1] % (sizeof passing / sizeof *passing)];
		*slow_ms = CHAOS_MS;
		if (!can_meet(s, fault))
			fault = DDB_FAULTS;
	}
	return fault;
}

/* ---- connections ---- */

static bool serve_one(struct session *s)
{
	char why[DDB_VERIFY_WHY], target[64] = "";
	struct ddb_login logins[LOGINS];
	const char *type, *at = strcasestr(s->head, "\r\nX-Amz-Target: DynamoDB_20120810.");
	enum ddb_fault fault;
	json_t *body;
	long slow_ms;
	bool good;

	if (at != NULL)
		(void)snprintf(target, sizeof target, "%.*s", (int)strcspn(at + 34, "\r"), at + 34);
	memcpy(s->target, target, sizeof s->target);
	(void)pthread_mutex_lock(&s->page->lock);
	memcpy(logins, s->page->logins, sizeof logins);
	(void)pthread_mutex_unlock(&s->page->lock);
	type = ddb_verify(s->head, s->body, s->body_bytes, "us-east-1", logins, LOGINS, why);
	if (type != NULL) {
		atomic_fetch_add(&s->page->refused, 1);
		(void)pthread_mutex_lock(&s->page->lock);
		memcpy(s->page->why, why, sizeof why);
		(void)pthread_mutex_unlock(&s->page->lock);
		return refuse(s, 400, type, why);
	}
	atomic_fetch_add(&s->page->requests, 1);
	body = json_loadb(s->body, s->body_bytes, JSON_ALLOW_NUL, NULL);
	if (body == NULL)
		return refuse(s, 400, "SerializationException", "not JSON");
	if (is_stale(s, body)) {
		static const char nothing[] = "{\"Items\":[],\"Count\":0,\"Responses\":{},\"UnprocessedKeys\":{}}";

		atomic_fetch_add(&s->page->stale, 1);
		json_decref(body);
		return answer(s, 200, nothing, sizeof nothing - 1, true);
	}
	fault = choose(s, &slow_ms);
	good = fault == DDB_FAULTS ? pass(s) : do_fault(s, fault, body, slow_ms);
	json_decref(body);
	return good;
}

static void *serve(void *arg)
{
	struct session *s = arg;

	while (read_message(s->client, s->head, &s->body, &s->body_bytes)) {
		bool good = serve_one(s);

		free(s->body);
		if (!good)
			break;
	}
	(void)close(s->client);
	if (s->server >= 0)
		(void)close(s->server);
	free(s->answer);
	free(s);
	return NULL;
}

__attribute__((noreturn)) static void run(int listener, uint16_t upstream, struct ddb_proxy_page *page)
{
	pthread_attr_t attr;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (;;) {
		struct session *s = calloc(1, sizeof *s);
		pthread_t thread;

		if (s == NULL)
			_exit(1);
		s->page = page;
		s->upstream = upstream;
		s->server = -1;
		s->client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		send_at_once(s->client);
		if (s->client < 0 || pthread_create(&thread, &attr, serve, s) != 0)
			free(s);
	}
}

/* ---- the test's side ---- */

void ddb_proxy_start(struct ddb_proxy *p, uint16_t upstream)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof at;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_mutexattr_t shared;

	p->page = mmap(NULL, sizeof *p->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->page == MAP_FAILED || listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) != 0 ||
	    listen(listener, 128) != 0 || getsockname(listener, (struct sockaddr *)&at, &bytes) != 0)
		abort();
	(void)pthread_mutexattr_init(&shared);
	(void)pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	(void)pthread_mutex_init(&p->page->lock, &shared);
	p->port = ntohs(at.sin_port);
	ddb_proxy_login(p, "AKIDTEST", "test-secret", "", 0);
	p->pid = run_fork();
	if (p->pid == 0)
		run(listener, upstream, p->page);
	(void)close(listener);
}

void ddb_proxy_stop(struct ddb_proxy *p)
{
	if (p->pid > 0) {
		(void)kill(p->pid, SIGKILL);
		(void)run_reap(p->pid);
		(void)munmap(p->page, sizeof *p->page);
	}
	p->pid = 0;
	p->page = NULL;
}

void ddb_proxy_rule(struct ddb_proxy *p, struct ddb_rule rule)
{
	struct rule *r;

	(void)pthread_mutex_lock(&p->page->lock);
	if (p->page->rule_count == RULES)
		abort();
	r = &p->page->rules[p->page->rule_count];
	r->rule = rule;
	atomic_store(&r->met, 0);
	(void)snprintf(r->target, sizeof r->target, "%s", rule.target != NULL ? rule.target : "");
	(void)snprintf(r->part, sizeof r->part, "%s", rule.part != NULL ? rule.part : "");
	p->page->rule_count++;
	(void)pthread_mutex_unlock(&p->page->lock);
}

void ddb_proxy_clear(struct ddb_proxy *p)
{
	(void)pthread_mutex_lock(&p->page->lock);
	p->page->rule_count = 0;
	(void)pthread_mutex_unlock(&p->page->lock);
	ddb_proxy_release(p);
}

void ddb_proxy_release(struct ddb_proxy *p)
{
	atomic_fetch_add(&p->page->released, 1);
}

void ddb_proxy_chaos(struct ddb_proxy *p, uint32_t per_mille)
{
	atomic_store(&p->page->chaos, per_mille);
}

void ddb_proxy_login(struct ddb_proxy *p, const char *access, const char *secret, const char *token, int expired)
{
	struct ddb_login *l = p->page->logins;

	(void)pthread_mutex_lock(&p->page->lock);
	while (l < p->page->logins + LOGINS - 1 && l->access[0] != '\0' && strcmp(l->access, access) != 0)
		l++;
	(void)snprintf(l->access, sizeof l->access, "%s", access);
	(void)snprintf(l->secret, sizeof l->secret, "%s", secret);
	(void)snprintf(l->token, sizeof l->token, "%s", token);
	l->expired = expired;
	(void)pthread_mutex_unlock(&p->page->lock);
}

void ddb_proxy_counts(const struct ddb_proxy *p, struct ddb_proxy_counts *ret)
{
	ret->requests = atomic_load(&p->page->requests);
	ret->refused = atomic_load(&p->page->refused);
	ret->stale = atomic_load(&p->page->stale);
	ret->held = atomic_load(&p->page->held);
	for (size_t i = 0; i < DDB_FAULTS; i++)
		ret->faults[i] = atomic_load(&p->page->faults[i]);
}

const char *ddb_proxy_why(const struct ddb_proxy *p)
{
	return p->page->why;
}
