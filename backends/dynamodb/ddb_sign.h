/* SPDX-License-Identifier: Apache-2.0
 * AWS Signature Version 4 of one request: what is signed, and the header that proves it. libcurl's
 * own signer cannot be told the time, so that a wrong clock could not be corrected, and signs
 * headers that it does not send. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_SIGN_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A header that is signed. name: lower case. value: as it is sent, without blanks around it.
 * Headers are given in the order of their names (memcmp). */
struct ddb_header {
	const char *name, *value;
};

enum { DDB_SIGN_HEADERS = 16, DDB_AUTHORIZATION_MAX = 1024, DDB_TIME_BYTES = 17 };

struct ddb_signing {
	const char *access_key, *secret_key;
	const char *region, *service;
	const char *method, *path; /* the path is one that needs no encoding */
	const struct ddb_header *headers;
	size_t header_count; /* at most DDB_SIGN_HEADERS */
	const void *body;
	size_t body_bytes;
	char time[DDB_TIME_BYTES]; /* "20150830T123600Z", which one of the headers has, too */
};

/* The time as it is signed and sent. */
void ddb_sign_time(int64_t unix_s, char ret[DDB_TIME_BYTES]);
/* The value of the header Authorization. Owns: nothing. Blocks: never. false: it does not fit, or
 * libcrypto failed. */
bool ddb_sign(const struct ddb_signing *s, char ret[DDB_AUTHORIZATION_MAX]);

#endif
