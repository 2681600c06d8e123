/* SPDX-License-Identifier: Apache-2.0
 * HTTP over libcurl (ddb_http.h). */
#include "backends/dynamodb/ddb_http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct slot {
	CURL *easy;
	struct ddb_exchange *x; /* NULL: free */
	struct curl_slist *headers;
	size_t room;
	bool too_long;
	char error[CURL_ERROR_SIZE];
};

struct ddb_http {
	void (*turn)(void *arg);
	void *turn_arg;
	CURLM *multi;
	struct slot *slots;
	size_t count;
};

uint64_t ddb_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint32_t ddb_crc32(const void *data, size_t bytes)
{
	const unsigned char *p = data;
	uint32_t crc = UINT32_MAX;
	static const uint32_t nibble[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
	                                    0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
	                                    0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};

	for (size_t i = 0; i < bytes; i++) {
		crc ^= p[i];
		crc = crc >> 4 ^ nibble[crc & 15];
		crc = crc >> 4 ^ nibble[crc & 15];
	}
	return ~crc;
}

static void begin_curl(void)
{
	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct ddb_http *ddb_http_new(size_t parallel)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct ddb_http *http = calloc(1, sizeof *http);

	(void)pthread_once(&once, begin_curl);
	if (http == NULL)
		return NULL;
	http->multi = curl_multi_init();
	http->slots = calloc(parallel, sizeof *http->slots);
	http->count = parallel;
	for (size_t i = 0; http->slots != NULL && i < parallel; i++) {
		http->slots[i].easy = curl_easy_init();
		if (http->slots[i].easy == NULL) {
			ddb_http_free(http);
			return NULL;
		}
	}
	if (http->multi == NULL || http->slots == NULL) {
		ddb_http_free(http);
		return NULL;
	}
	(void)curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)parallel);
	(void)curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	return http;
}

void ddb_http_free(struct ddb_http *http)
{
	if (http == NULL)
		return;
	for (size_t i = 0; http->slots != NULL && i < http->count; i++)
		curl_easy_cleanup(http->slots[i].easy);
	if (http->multi != NULL)
		(void)curl_multi_cleanup(http->multi);
	free(http->slots);
	free(http);
}

void ddb_exchange_free(struct ddb_exchange *x)
{
	if (x->answer != NULL) /* it may hold credentials */
		explicit_bzero(x->answer, x->answer_bytes);
	free(x->answer);
	x->answer = NULL;
	x->answer_bytes = 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct slot *slot = arg;
	struct ddb_exchange *x = slot->x;
	size_t bytes = size * count, want = x->answer_bytes + bytes + 1;

	if (bytes > x->answer_max - x->answer_bytes) {
		slot->too_long = true;
		return 0;
	}
	if (want > slot->room) {
		size_t room = slot->room < 2048 ? 4096 : slot->room * 2;
		char *bigger;

		if (room < want)
			room = want;
		bigger = malloc(room);
		if (bigger == NULL)
			return 0;
		if (x->answer != NULL) {
			memcpy(bigger, x->answer, x->answer_bytes);
			explicit_bzero(x->answer, x->answer_bytes);
			free(x->answer);
		}
		x->answer = bigger;
		slot->room = room;
	}
	memcpy(x->answer + x->answer_bytes, data, bytes);
	x->answer_bytes += bytes;
	x->answer[x->answer_bytes] = '\0';
	return bytes;
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
	static const char crc[] = "x-amz-crc32:", date[] = "date:";
	struct ddb_exchange *x = ((struct slot *)arg)->x;
	size_t bytes = size * count;
	char line[128];

	(void)snprintf(line, sizeof line, "%.*s", (int)(bytes < sizeof line ? bytes : sizeof line - 1), data);
	if (strncasecmp(line, crc, sizeof crc - 1) == 0) {
		char *end;
		unsigned long long value = strtoull(line + sizeof crc - 1, &end, 10);

		x->has_crc = end != line + sizeof crc - 1 && value <= UINT32_MAX;
		x->crc = (uint32_t)value;
	} else if (strncasecmp(line, date, sizeof date - 1) == 0) {
		time_t at = curl_getdate(line + sizeof date - 1, NULL);

		x->server_s = at > 0 ? (int64_t)at : 0;
	}
	return bytes;
}

static bool set_up(struct slot *slot, long timeout_ms)
{
	struct ddb_exchange *x = slot->x;
	CURL *e = slot->easy;
	bool good = true;

	slot->room = 0;
	slot->too_long = false;
	slot->error[0] = '\0';
	x->status = 0;
	x->sent = false;
	x->has_crc = false;
	x->server_s = 0;
	curl_easy_reset(e);
	for (size_t i = 0; x->headers[i] != NULL; i++) {
		struct curl_slist *longer = curl_slist_append(slot->headers, x->headers[i]);

		if (longer == NULL)
			return false;
		slot->headers = longer;
	}
#define SET(option, value) good = good && curl_easy_setopt(e, option, value) == CURLE_OK
	SET(CURLOPT_URL, x->url);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_TIMEOUT_MS, timeout_ms);
	SET(CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
	SET(CURLOPT_MAXLIFETIME_CONN, 300L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_HTTPHEADER, slot->headers);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, slot);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, slot);
	SET(CURLOPT_ERRORBUFFER, slot->error);
	SET(CURLOPT_PRIVATE, slot);
	if (x->body != NULL) {
		SET(CURLOPT_POSTFIELDS, x->body);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body_bytes);
	}
	SET(CURLOPT_CUSTOMREQUEST, x->method);
#undef SET
	return good;
}

static void release(struct slot *slot)
{
	curl_slist_free_all(slot->headers);
	slot->headers = NULL;
	slot->x = NULL;
}

static void begin(struct ddb_http *http, struct slot *slot, struct ddb_exchange *x, uint64_t deadline_ns)
{
	uint64_t now = ddb_now_ns();
	long left_ms = deadline_ns > now ? (long)((deadline_ns - now) / 1000000) : 0;

	slot->x = x;
	if (left_ms == 0 || !set_up(slot, left_ms) || curl_multi_add_handle(http->multi, slot->easy) != CURLM_OK) {
		(void)snprintf(x->error, sizeof x->error, "%s", left_ms == 0 ? "the deadline passed" : "out of memory");
		x->status = 0;
		x->sent = false;
		release(slot);
	} else {
		x->begun = true;
	}
}

static void end(struct ddb_http *http, struct slot *slot, CURLcode code)
{
	struct ddb_exchange *x = slot->x;
	long request_bytes = 0;

	(void)curl_easy_getinfo(slot->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
	x->sent = request_bytes > 0;
	if (code == CURLE_OK)
		(void)curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &x->status);
	else if (slot->too_long)
		(void)snprintf(x->error, sizeof x->error, "the answer is longer than %zu bytes", x->answer_max);
	else
		(void)snprintf(x->error, sizeof x->error, "%s",
		               slot->error[0] != '\0' ? slot->error : curl_easy_strerror(code));
	(void)curl_multi_remove_handle(http->multi, slot->easy);
	release(slot);
}

void ddb_http_turns(struct ddb_http *http, void (*turn)(void *arg), void *arg)
{
	http->turn = turn;
	http->turn_arg = arg;
}

void ddb_http_run(struct ddb_http *http, struct ddb_exchange *exchanges, size_t count, uint64_t deadline_ns)
{
	size_t next = 0, under_way = 0;

	do {
		int running = 0, left;
		CURLMsg *msg;

		for (size_t i = 0; next < count && i < http->count; i++)
			if (http->slots[i].x == NULL) {
				begin(http, &http->slots[i], &exchanges[next++], deadline_ns);
				under_way += http->slots[i].x != NULL;
			}
		(void)curl_multi_perform(http->multi, &running);
		while ((msg = curl_multi_info_read(http->multi, &left)) != NULL) {
			struct slot *slot = NULL;

			if (msg->msg != CURLMSG_DONE)
				continue;
			(void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &slot);
			end(http, slot, msg->data.result);
			under_way--;
		}
		/* Each handle's own timeout ends what the deadline ends. */
		if (under_way > 0 && running > 0)
			(void)curl_multi_poll(http->multi, NULL, 0, http->turn != NULL ? 50 : 100, NULL);
		if (http->turn != NULL)
			http->turn(http->turn_arg);
	} while (under_way > 0 || next < count);
}
