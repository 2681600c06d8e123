/* SPDX-License-Identifier: Apache-2.0
 * AWS Signature Version 4 (ddb_sign.h). */
#include "backends/dynamodb/ddb_sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/hex.h"

enum { HASH_BYTES = 32, HEX_BYTES = HASH_BYTES * 2 + 1 };

static bool keyed(const void *key, size_t key_bytes, const char *text, unsigned char ret[HASH_BYTES])
{
	unsigned int bytes = HASH_BYTES;

	return HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)text, strlen(text), ret, &bytes) != NULL;
}

/* What is hashed piece by piece: the canonical request. */
static bool feed(EVP_MD_CTX *ctx, const char *text)
{
	return EVP_DigestUpdate(ctx, text, strlen(text)) == 1;
}

static bool feed_value(EVP_MD_CTX *ctx, const char *value)
{
	bool good = true;

	/* Blanks that follow each other count as one. */
	for (const char *at = value; good && *at != '\0'; at++)
		if (at[0] != ' ' || at[1] != ' ')
			good = EVP_DigestUpdate(ctx, at, 1) == 1;
	return good;
}

static bool names_of(const struct ddb_signing *s, char *ret, size_t room)
{
	size_t used = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < s->header_count; i++) {
		int n = snprintf(ret + used, room - used, "%s%s", i > 0 ? ";" : "", s->headers[i].name);

		if (n < 0 || (size_t)n >= room - used)
			return false;
		used += (size_t)n;
	}
	return true;
}

static bool hash_request(const struct ddb_signing *s, const char *names, char ret[HEX_BYTES])
{
	unsigned char hash[HASH_BYTES];
	char body[HEX_BYTES];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = ctx != NULL && EVP_Digest(s->body, s->body_bytes, hash, NULL, EVP_sha256(), NULL) == 1;

	if (good)
		shmeta__hex_write(body, hash, HASH_BYTES);
	good = good && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && feed(ctx, s->method) && feed(ctx, "\n") &&
	       feed(ctx, s->path) && feed(ctx, "\n\n");
	for (size_t i = 0; good && i < s->header_count; i++)
		good = feed(ctx, s->headers[i].name) && feed(ctx, ":") && feed_value(ctx, s->headers[i].value) &&
		       feed(ctx, "\n");
	good = good && feed(ctx, "\n") && feed(ctx, names) && feed(ctx, "\n") && feed(ctx, body) &&
	       EVP_DigestFinal_ex(ctx, hash, NULL) == 1;
	EVP_MD_CTX_free(ctx);
	if (good)
		shmeta__hex_write(ret, hash, HASH_BYTES);
	return good;
}

void ddb_sign_time(int64_t unix_s, char ret[DDB_TIME_BYTES])
{
	time_t at = (time_t)unix_s;
	struct tm tm;

	if (gmtime_r(&at, &tm) == NULL || strftime(ret, DDB_TIME_BYTES, "%Y%m%dT%H%M%SZ", &tm) == 0)
		ret[0] = '\0';
}

bool ddb_sign(const struct ddb_signing *s, char ret[DDB_AUTHORIZATION_MAX])
{
	char names[512], request[HEX_BYTES], text[512], day[9], first[512], signature[HEX_BYTES];
	unsigned char key[HASH_BYTES];
	int n;
	bool good;

	if (s->header_count > DDB_SIGN_HEADERS || strlen(s->time) != DDB_TIME_BYTES - 1 ||
	    !names_of(s, names, sizeof names) || !hash_request(s, names, request))
		return false;
	(void)snprintf(day, sizeof day, "%.8s", s->time);
	n = snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s/%s/%s/aws4_request\n%s", s->time, day, s->region,
	             s->service, request);
	good = n > 0 && (size_t)n < sizeof text;
	n = snprintf(first, sizeof first, "AWS4%s", s->secret_key);
	good = good && n > 0 && (size_t)n < sizeof first && keyed(first, (size_t)n, day, key) &&
	       keyed(key, sizeof key, s->region, key) && keyed(key, sizeof key, s->service, key) &&
	       keyed(key, sizeof key, "aws4_request", key) && keyed(key, sizeof key, text, key);
	explicit_bzero(first, sizeof first);
	if (!good)
		return false;
	shmeta__hex_write(signature, key, HASH_BYTES);
	n = snprintf(ret, DDB_AUTHORIZATION_MAX,
	             "AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, SignedHeaders=%s, Signature=%s",
	             s->access_key, day, s->region, s->service, names, signature);
	return n > 0 && n < DDB_AUTHORIZATION_MAX;
}
