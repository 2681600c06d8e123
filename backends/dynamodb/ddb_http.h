/* SPDX-License-Identifier: Apache-2.0
 * HTTP over libcurl: several exchanges at a time, all ended by one deadline; connections are kept.
 * Nothing is followed (no redirect, no proxy of the environment), and no answer is longer than the
 * caller allows. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_HTTP_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ddb_http;

struct ddb_exchange {
	const char *method, *url;
	const char *const *headers; /* "Name: value", NULL at the end */
	const void *body;           /* NULL: none */
	size_t body_bytes, answer_max;
	/* What came of it: the status, 0 where there was no whole answer; error says why. sent: the
	 * request may have arrived. begun: there was time to try. */
	long status;
	bool sent, begun;
	char *answer; /* terminated; freed by ddb_exchange_free() */
	size_t answer_bytes;
	bool has_crc;
	uint32_t crc;     /* of x-amz-crc32 */
	int64_t server_s; /* of Date; 0: none */
	char error[256];
};

/* NULL: no memory. At most `parallel` exchanges are under way at a time. Owned by one thread. */
struct ddb_http *ddb_http_new(size_t parallel);
void ddb_http_free(struct ddb_http *http);
/* While exchanges are under way, this is called every 50 ms or more often. NULL: nothing is. */
void ddb_http_turns(struct ddb_http *http, void (*turn)(void *arg), void *arg);
/* Do them all. Blocks: until each has an answer or the deadline (CLOCK_MONOTONIC) has passed. */
void ddb_http_run(struct ddb_http *http, struct ddb_exchange *exchanges, size_t count, uint64_t deadline_ns);
void ddb_exchange_free(struct ddb_exchange *x);

uint64_t ddb_now_ns(void); /* CLOCK_MONOTONIC */
uint32_t ddb_crc32(const void *data, size_t bytes);

#endif
