/* SPDX-License-Identifier: Apache-2.0
 * Calls of the DynamoDB API (ddb_call.h). */
#include "backends/dynamodb/ddb_call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "backends/dynamodb/ddb_sign.h"

enum { PARALLEL = 16, ANSWER_MAX = 48 << 20, BACKOFF_MS = 25, BACKOFF_MAX_MS = 1000, SLICE_MS = 50 };
#define ATTEMPT_LEAST_NS UINT64_C(1000000000)

enum shmeta_status ddb_link_open(struct ddb_link *link, const struct backend_options *options,
                                 struct backend_error *err)
{
	enum shmeta_status status = ddb_uri_parse(options, &link->uri, err);

	if (status != SHMETA_OK)
		return status;
	link->http = ddb_http_new(PARALLEL);
	if (link->http == NULL ||
	    !ddb_budget_open(&link->budget, link->uri.table[DDB_META], options->read_units_s, options->write_units_s))
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	return SHMETA_OK;
}

void ddb_link_close(struct ddb_link *link)
{
	ddb_http_free(link->http);
	link->http = NULL;
	ddb_budget_close(&link->budget);
	ddb_credentials_forget(&link->credentials);
}

void ddb_call_free(struct ddb_call *call)
{
	json_decref(call->answer);
	call->answer = NULL;
	free(call->text);
	call->text = NULL;
}

/* ---- one attempt ---- */

struct attempt {
	struct ddb_call *call;
	struct ddb_exchange x;
	char target[80], host[220], date[40], *token, authorization[DDB_AUTHORIZATION_MAX + 20];
	const char *headers[8];
};

static bool prepare(struct ddb_link *link, struct attempt *a, const struct ddb_keys *keys)
{
	struct ddb_header signed_headers[5];
	struct ddb_signing s = {.access_key = keys->access,
	                        .secret_key = keys->secret,
	                        .region = link->uri.region,
	                        .service = "dynamodb",
	                        .method = "POST",
	                        .path = "/",
	                        .headers = signed_headers,
	                        .body = a->call->text,
	                        .body_bytes = strlen(a->call->text)};
	static const char authorization[] = "Authorization: ";
	char *value = a->authorization + sizeof authorization - 1;
	size_t n = 0, h = 0;

	ddb_sign_time((int64_t)time(NULL) + link->skew_s, s.time);
	(void)snprintf(a->target, sizeof a->target, "X-Amz-Target: DynamoDB_20120810.%s", a->call->target);
	(void)snprintf(a->host, sizeof a->host, "Host: %s", link->uri.host);
	(void)snprintf(a->date, sizeof a->date, "X-Amz-Date: %s", s.time);
	signed_headers[n++] = (struct ddb_header){"content-type", "application/x-amz-json-1.0"};
	signed_headers[n++] = (struct ddb_header){"host", link->uri.host};
	signed_headers[n++] = (struct ddb_header){"x-amz-date", s.time};
	if (keys->token[0] != '\0') {
		if (asprintf(&a->token, "X-Amz-Security-Token: %s", keys->token) < 0) {
			a->token = NULL;
			return false;
		}
		signed_headers[n++] = (struct ddb_header){"x-amz-security-token", keys->token};
	}
	signed_headers[n++] = (struct ddb_header){"x-amz-target", a->target + strlen("X-Amz-Target: ")};
	s.header_count = n;
	memcpy(a->authorization, authorization, sizeof authorization);
	if (!ddb_sign(&s, value))
		return false;
	a->headers[h++] = "Content-Type: application/x-amz-json-1.0";
	a->headers[h++] = "Expect:"; /* not signed, and not to be waited for */
	a->headers[h++] = a->target;
	a->headers[h++] = a->host;
	a->headers[h++] = a->date;
	a->headers[h++] = a->authorization;
	if (a->token != NULL)
		a->headers[h++] = a->token;
	a->headers[h] = NULL;
	a->x.method = "POST";
	a->x.url = link->uri.endpoint;
	a->x.headers = a->headers;
	a->x.body = a->call->text;
	a->x.body_bytes = s.body_bytes;
	a->x.answer_max = ANSWER_MAX;
	return true;
}

/* ---- what an answer means ---- */

enum verdict { SETTLED, AGAIN, AGAIN_AT_ONCE };

static bool names(const char *type, const char *const *some)
{
	for (; *some != NULL; some++)
		if (strcmp(type, *some) == 0)
			return true;
	return false;
}

/* Of a transaction that was cancelled. */
static enum verdict judge_reasons(struct ddb_link *link, struct ddb_call *call, const json_t *reasons)
{
	static const char *const throttled[] = {"ThrottlingError", "ProvisionedThroughputExceeded", NULL};
	static const char *const passing[] = {"TransactionConflict", "DuplicateRequest", NULL};
	enum verdict verdict = SETTLED;
	bool condition = false;
	size_t i;
	json_t *reason;

	json_array_foreach(reasons, i, reason)
	{
		const char *code = json_string_value(json_object_get(reason, "Code"));

		if (code == NULL || strcmp(code, "None") == 0)
			continue;
		condition |= strcmp(code, "ConditionalCheckFailed") == 0;
		call->throttled |= names(code, throttled);
		if (names(code, throttled) || names(code, passing))
			verdict = AGAIN;
		(void)snprintf(call->error, sizeof call->error, "%s of item %zu: %.160s", code, i,
		               json_string_value(json_object_get(reason, "Message")) != NULL
		                       ? json_string_value(json_object_get(reason, "Message"))
		                       : "");
	}
	link->throttled += call->throttled;
	link->answered++;
	call->late = verdict == AGAIN && !condition;
	if (condition)
		verdict = SETTLED;
	call->outcome = condition ? DDB_CONDITION : verdict == AGAIN ? DDB_AWAY : DDB_REFUSED;
	return verdict;
}

static enum verdict judge_error(struct ddb_link *link, struct ddb_call *call, const struct ddb_exchange *x)
{
	static const char *const throttled[] = {"ThrottlingException", "ProvisionedThroughputExceededException",
	                                        "RequestLimitExceeded", "LimitExceededException", NULL};
	static const char *const passing[] = {"TransactionConflictException", "TransactionInProgressException", NULL};
	static const char *const login[] = {"ExpiredTokenException", "UnrecognizedClientException",
	                                    "InvalidClientTokenId", NULL};
	static const char *const clock[] = {"InvalidSignatureException", "RequestTimeTooSkewed", NULL};
	const char *type = json_string_value(json_object_get(call->answer, "__type"));
	const char *text = json_string_value(json_object_get(call->answer, "message")), *hash;
	int64_t now_s = (int64_t)time(NULL);

	if (text == NULL)
		text = json_string_value(json_object_get(call->answer, "Message"));
	hash = type != NULL ? strchr(type, '#') : NULL;
	type = hash != NULL ? hash + 1 : type != NULL ? type : "an error without a name";
	(void)snprintf(call->error, sizeof call->error, "HTTP %ld, %.60s: %.200s", x->status, type,
	               text != NULL ? text : "");
	call->outcome = DDB_REFUSED;
	if (strcmp(type, "TransactionCanceledException") == 0)
		return judge_reasons(link, call, json_object_get(call->answer, "CancellationReasons"));
	if (strcmp(type, "ConditionalCheckFailedException") == 0) {
		call->outcome = DDB_CONDITION;
		return SETTLED;
	}
	if (names(type, throttled) || names(type, passing)) {
		call->throttled = names(type, throttled);
		call->late = true;
		link->throttled += call->throttled;
		link->answered++;
		call->outcome = DDB_AWAY;
		return AGAIN;
	}
	if (names(type, login)) {
		call->outcome = DDB_AWAY;
		return call->renewed++ == 0 ? AGAIN_AT_ONCE : SETTLED;
	}
	if (names(type, clock) && x->server_s != 0 && llabs(x->server_s - now_s - link->skew_s) > 60) {
		int64_t off = now_s - x->server_s;

		link->skew_s = -off;
		(void)snprintf(call->error, sizeof call->error,
		               "%.60s: this host's clock is %" PRId64 " s %s that of DynamoDB", type,
		               off < 0 ? -off : off, off < 0 ? "behind" : "ahead of");
		call->outcome = DDB_AWAY;
		return AGAIN;
	}
	if (x->status >= 500) {
		call->outcome = DDB_UNKNOWN;
		call->doubted = true;
		return AGAIN;
	}
	return SETTLED;
}

static enum verdict judge(struct ddb_link *link, struct ddb_call *call, const struct ddb_exchange *x)
{
	call->begun |= x->begun;
	/* What an earlier attempt was told says more than that time is up. */
	if (x->status != 0 || x->sent)
		call->throttled = call->late = false;
	call->late |= x->status == 0 && (link->budget.purpose == DDB_FOR_FETCH || !call->begun);
	if (x->status == 0) {
		if (x->sent || call->error[0] == '\0')
			(void)snprintf(call->error, sizeof call->error, "%s", x->error);
		call->doubted |= x->sent;
		call->outcome = DDB_AWAY;
		return AGAIN;
	}
	json_decref(call->answer);
	call->answer = NULL;
	if (x->has_crc && ddb_crc32(x->answer, x->answer_bytes) != x->crc) {
		(void)snprintf(call->error, sizeof call->error, "an answer whose checksum (x-amz-crc32) is wrong");
		call->doubted = true;
		call->outcome = DDB_AWAY;
		return AGAIN;
	}
	call->answer = json_loadb(x->answer != NULL ? x->answer : "", x->answer_bytes, JSON_ALLOW_NUL, NULL);
	if (x->status == 200 && json_is_object(call->answer)) {
		link->answered++;
		call->outcome = DDB_DONE;
		return SETTLED;
	}
	if (x->status == 200) {
		(void)snprintf(call->error, sizeof call->error, "an answer that is no JSON");
		call->doubted = true;
		call->outcome = DDB_AWAY;
		return AGAIN;
	}
	return judge_error(link, call, x);
}

/* ---- many ---- */

/* Until then, or until the deadline. Returns how long it was. */
static uint64_t wait_until(uint64_t when_ns, uint64_t deadline_ns)
{
	uint64_t now_ns = ddb_now_ns(), wait_ns;

	if (when_ns > deadline_ns)
		when_ns = deadline_ns;
	wait_ns = when_ns > now_ns ? when_ns - now_ns : 0;
	(void)nanosleep(&(struct timespec){(time_t)(wait_ns / 1000000000), (long)(wait_ns % 1000000000)}, NULL);
	return wait_ns;
}

static uint64_t pause_end(unsigned int tries)
{
	uint64_t bound_ms = BACKOFF_MS, now_ns = ddb_now_ns();
	uint32_t random = 0;

	for (unsigned int i = 1; i < tries && bound_ms < BACKOFF_MAX_MS; i++)
		bound_ms *= 2;
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
		random = (uint32_t)now_ns;
	return now_ns + random % (bound_ms * 1000) * UINT64_C(1000);
}

void ddb_pause(unsigned int tries, uint64_t deadline_ns)
{
	(void)wait_until(pause_end(tries), deadline_ns);
}

static void give_turn(struct ddb_link *link)
{
	uint64_t began_ns = ddb_now_ns();

	if (link->turn == NULL || link->turned != SHMETA_OK)
		return;
	link->turned = link->turn(link->turn_arg);
	link->budget.excused_ns += ddb_now_ns() - began_ns;
}

static void http_turn(void *arg)
{
	give_turn(arg);
}

void ddb_link_turns(struct ddb_link *link, enum shmeta_status (*turn)(void *arg), void *arg)
{
	link->turn = turn;
	link->turn_arg = arg;
	link->turned = SHMETA_OK;
	ddb_http_turns(link->http, turn != NULL ? http_turn : NULL, link);
}

/* Until then, or until the deadline, in slices with a turn between them. Returns how long it
 * was. */
static uint64_t wait_in_turns(struct ddb_link *link, uint64_t when_ns, uint64_t deadline_ns)
{
	uint64_t slice_ns = link->turn != NULL ? SLICE_MS * UINT64_C(1000000) : UINT64_MAX, waited_ns = 0, left_ns;

	if (when_ns > deadline_ns)
		when_ns = deadline_ns;
	do {
		uint64_t now_ns = ddb_now_ns();

		left_ns = when_ns > now_ns ? when_ns - now_ns : 0;
		waited_ns += wait_until(left_ns > slice_ns ? now_ns + slice_ns : when_ns, deadline_ns);
		give_turn(link);
	} while (left_ns > slice_ns && link->turned == SHMETA_OK);
	return waited_ns;
}

void ddb_link_pause(struct ddb_link *link, unsigned int tries, uint64_t deadline_ns)
{
	(void)wait_in_turns(link, pause_end(tries), deadline_ns);
}

/* How long an attempt is waited for: half of what is left, so that one connection that has gone
 * silent does not take all of it. */
static uint64_t attempt_end(uint64_t deadline_ns)
{
	uint64_t now_ns = ddb_now_ns(), end_ns = now_ns + ATTEMPT_LEAST_NS;

	if (deadline_ns > now_ns && now_ns + (deadline_ns - now_ns) / 2 > end_ns)
		end_ns = now_ns + (deadline_ns - now_ns) / 2;
	return end_ns < deadline_ns ? end_ns : deadline_ns;
}

bool ddb_link_gives_up(const struct ddb_link *link)
{
	return link->patience_ns != 0 && ddb_now_ns() >= link->patience_ns;
}

/* Nobody can log in. */
static void give_up(struct ddb_call *calls, size_t count, const char *why)
{
	for (size_t i = 0; i < count; i++)
		if (!calls[i].settled) {
			calls[i].settled = true;
			calls[i].outcome = DDB_AWAY;
			calls[i].throttled = calls[i].late = false;
			(void)snprintf(calls[i].error, sizeof calls[i].error, "%.*s", (int)sizeof calls[i].error - 1,
			               why);
		}
}

static void postpone(const struct ddb_link *link, struct ddb_call *call)
{
	if (!call->throttled)
		(void)snprintf(call->error, sizeof call->error, "postponed: %s allows no more now",
		               ddb_budget_option(call->target));
	call->throttled = true;
	call->settled = link->in_haste;
}

/* One round: each call that is not settled is sent once, unless it has to wait for its units.
 * Returns how many are to be sent again; *ret_tries: after how long a pause; *ret_when: where
 * nothing was sent, when the first of them has its units. */
static size_t round_of(struct ddb_link *link, struct ddb_call *calls, size_t count, struct attempt *attempts,
                       uint64_t deadline_ns, bool *renew, unsigned int *ret_tries, uint64_t *ret_when)
{
	const struct ddb_keys *keys;
	struct backend_error err = {.code = SHMETA_OK};
	struct ddb_exchange *xs;
	size_t sent = 0, again = 0;

	if (ddb_credentials_get(&link->credentials, link->http, link->uri.region, *renew, deadline_ns, &keys, &err) !=
	    SHMETA_OK) {
		give_up(calls, count, err.text);
		return 0;
	}
	*renew = false;
	*ret_tries = 0;
	*ret_when = 0;
	xs = count > 0 ? calloc(count, sizeof *xs) : NULL;
	for (size_t i = 0; i < count; i++) {
		uint64_t when = 0;

		if (calls[i].settled)
			continue;
		if (!ddb_budget_take(&link->budget, calls[i].target, calls[i].body, &calls[i].units, &when)) {
			if (*ret_when == 0 || when < *ret_when)
				*ret_when = when;
			postpone(link, &calls[i]);
			again += !calls[i].settled;
			continue;
		}
		attempts[sent].call = &calls[i];
		if (xs == NULL || !prepare(link, &attempts[sent], keys)) {
			calls[i].settled = true;
			(void)snprintf(calls[i].error, sizeof calls[i].error, "out of memory");
			free(attempts[sent].token);
			memset(&attempts[sent], 0, sizeof attempts[sent]);
			continue;
		}
		xs[sent] = attempts[sent].x;
		sent++;
	}
	if (sent > 0) {
		*ret_when = 0;
		ddb_http_run(link->http, xs, sent, attempt_end(deadline_ns));
	}
	link->calls += sent;
	for (size_t i = 0; i < sent; i++) {
		struct ddb_call *call = attempts[i].call;
		enum verdict verdict = judge(link, call, &xs[i]);

		ddb_budget_settle(&link->budget, call->target, &call->units, call->answer,
		                  call->outcome == DDB_DONE || call->outcome == DDB_CONDITION);
		call->tries++;
		call->settled = verdict == SETTLED || (call->throttled && ddb_link_gives_up(link));
		*renew |= verdict == AGAIN_AT_ONCE;
		again += !call->settled;
		if (verdict == AGAIN && call->tries > *ret_tries)
			*ret_tries = call->tries;
		ddb_exchange_free(&xs[i]);
		free(attempts[i].token);
		memset(&attempts[i], 0, sizeof attempts[i]);
	}
	free(xs);
	return again;
}

void ddb_link_run(struct ddb_link *link, struct ddb_call *calls, size_t count, uint64_t deadline_ns)
{
	const struct ddb_budget *b = &link->budget;
	struct attempt *attempts = calloc(count + 1, sizeof *attempts);
	bool renew = false;

	for (size_t i = 0; i < count; i++) {
		calls[i].outcome = DDB_AWAY;
		calls[i].doubted = calls[i].throttled = calls[i].late = calls[i].settled = calls[i].begun = false;
		calls[i].tries = calls[i].renewed = 0;
		calls[i].error[0] = '\0';
		calls[i].text = json_dumps(calls[i].body, JSON_COMPACT);
		if (calls[i].text == NULL || attempts == NULL) {
			calls[i].settled = true;
			(void)snprintf(calls[i].error, sizeof calls[i].error,
			               "out of memory, or a text that is not UTF-8");
		}
	}
	while (attempts != NULL && link->turned == SHMETA_OK) {
		unsigned int tries = 0;
		uint64_t when = 0;
		size_t again =
			round_of(link, calls, count, attempts, deadline_ns + b->excused_ns, &renew, &tries, &when);

		give_turn(link);
		if (again == 0 || ddb_now_ns() >= deadline_ns + b->excused_ns)
			break;
		if (when != 0) {
			bool loading = b->purpose == DDB_FOR_LOAD;
			uint64_t waited_ns = wait_in_turns(link, when, loading ? when : deadline_ns);

			link->budget.postponed_ns += waited_ns;
			link->budget.excused_ns += loading ? waited_ns : 0;
			continue;
		}
		link->retries += again;
		if (tries > 0)
			ddb_link_pause(link, tries, deadline_ns + b->excused_ns);
	}
	for (size_t i = 0; i < count; i++) {
		if (calls[i].outcome == DDB_AWAY && calls[i].doubted)
			calls[i].outcome = DDB_UNKNOWN;
		link->late += calls[i].late;
		free(calls[i].text);
		calls[i].text = NULL;
	}
	free(attempts);
}

bool ddb_call_kept_back(const struct ddb_link *link, const struct ddb_call *call)
{
	return (call->outcome == DDB_AWAY || call->outcome == DDB_UNKNOWN) &&
	       (call->throttled || (call->late && link->answered > 0));
}

enum shmeta_status ddb_call_fail(const struct ddb_link *link, const struct ddb_call *call, const char *doing,
                                 struct backend_error *err)
{
	bool loading = link->budget.purpose == DDB_FOR_LOAD;
	enum shmeta_status status = call->outcome == DDB_REFUSED                 ? SHMETA_ERR_CONFIG
	                            : !loading && ddb_call_kept_back(link, call) ? SHMETA_ERR_BUSY
	                                                                         : SHMETA_ERR_SOURCE;

	if (link->turned != SHMETA_OK)
		return link->turned;
	return backend_fail(err, status, "dynamodb: %s (%s at %s): %s", doing, call->target, link->uri.host,
	                    call->error);
}
