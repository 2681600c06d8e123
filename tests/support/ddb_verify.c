/* SPDX-License-Identifier: Apache-2.0
 * Signatures, checked (ddb_verify.h). */
#include "tests/support/ddb_verify.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/hex.h"

/* ---- SHA-256 (FIPS 180-4) and HMAC (RFC 2104) ---- */

struct sha {
	uint32_t h[8];
	unsigned char block[64];
	uint64_t bytes;
};

/* The first 32 bits of the fractional parts of the roots of the first primes: computed as the
 * standard defines them. */
static uint32_t k[64], h0[8];

static uint32_t fraction_of_root(unsigned int prime, bool cube)
{
	/* The greatest x with x^2 (x^3) <= prime * 2^64 (2^96): its low 32 bits are the
	 * fraction's. */
	unsigned __int128 low = 0, high = (unsigned __int128)1 << 37;

	while (high - low > 1) {
		unsigned __int128 x = (low + high) / 2;
		bool less =
			cube ? x * x <= ((unsigned __int128)prime << 96) / x : x * x <= (unsigned __int128)prime << 64;

		if (less)
			low = x;
		else
			high = x;
	}
	return (uint32_t)low;
}

static void make_constants(void)
{
	unsigned int n = 0;

	for (unsigned int p = 2; n < 64; p++) {
		bool prime = true;

		for (unsigned int d = 2; d * d <= p; d++)
			prime = prime && p % d != 0;
		if (!prime)
			continue;
		if (n < 8)
			h0[n] = fraction_of_root(p, false);
		k[n++] = fraction_of_root(p, true);
	}
}

static uint32_t turn(uint32_t x, unsigned int by)
{
	return x >> by | x << (32 - by);
}

static void take_block(struct sha *s)
{
	uint32_t w[64], v[8];

	for (size_t i = 0; i < 16; i++)
		w[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 |
		       (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
	for (size_t i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) +
		       (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
	}
	memcpy(v, s->h, sizeof v);
	for (size_t i = 0; i < 64; i++) {
		uint32_t t1 = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) +
		              ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
		uint32_t t2 = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) +
		              ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof *v);
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (size_t i = 0; i < 8; i++)
		s->h[i] += v[i];
}

static void sha_begin(struct sha *s)
{
	if (k[0] == 0)
		make_constants();
	memcpy(s->h, h0, sizeof s->h);
	s->bytes = 0;
}

static void sha_add(struct sha *s, const void *data, size_t bytes)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < bytes; i++) {
		s->block[s->bytes++ % 64] = p[i];
		if (s->bytes % 64 == 0)
			take_block(s);
	}
}

static void sha_end(struct sha *s, unsigned char ret[32])
{
	uint64_t bits = s->bytes * 8;
	unsigned char end[8];

	sha_add(s, "\x80", 1);
	while (s->bytes % 64 != 56)
		sha_add(s, "", 1);
	for (size_t i = 0; i < 8; i++)
		end[i] = (unsigned char)(bits >> (56 - 8 * i));
	sha_add(s, end, sizeof end);
	for (size_t i = 0; i < 32; i++)
		ret[i] = (unsigned char)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

static void hmac(const void *key, size_t key_bytes, const char *text, unsigned char ret[32])
{
	unsigned char pad[64] = {0}, inner[32];
	struct sha s;

	memcpy(pad, key, key_bytes); /* none of ours is longer than a block */
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36;
	sha_begin(&s);
	sha_add(&s, pad, sizeof pad);
	sha_add(&s, text, strlen(text));
	sha_end(&s, inner);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	sha_begin(&s);
	sha_add(&s, pad, sizeof pad);
	sha_add(&s, inner, sizeof inner);
	sha_end(&s, ret);
}

void ddb_verify_sha256(const void *data, size_t bytes, char ret[65])
{
	unsigned char hash[32];
	struct sha s;

	sha_begin(&s);
	sha_add(&s, data, bytes);
	sha_end(&s, hash);
	shmeta__hex_write(ret, hash, 32);
}

/* ---- the request ---- */

/* The value of a header, without the blanks around it. How often it is there. */
static size_t header(const char *head, const char *name, char *ret, size_t room)
{
	size_t found = 0, length = strlen(name);

	ret[0] = '\0';
	for (const char *line = strstr(head, "\r\n"); line != NULL && line[2] != '\0';
	     line = strstr(line + 2, "\r\n")) {
		const char *value = line + 2 + length, *end = strstr(line + 2, "\r\n");

		if (strncasecmp(line + 2, name, length) != 0 || *value != ':' || end == NULL)
			continue;
		for (value++; *value == ' '; value++)
			;
		while (end > value && end[-1] == ' ')
			end--;
		found++;
		(void)snprintf(ret, room, "%.*s", (int)(end - value), value);
	}
	return found;
}

static bool listed(const char *list, const char *name)
{
	size_t bytes = strlen(name);

	for (const char *p = list; (p = strstr(p, name)) != NULL; p += bytes)
		if ((p == list || p[-1] == ';') && (p[bytes] == ';' || p[bytes] == '\0'))
			return true;
	return false;
}

/* Is every header that AWS wants signed in the list? */
static const char *unsigned_of(const char *head, const char *list, char name[64])
{
	if (!listed(list, "host"))
		return "host";
	for (const char *line = strstr(head, "\r\n"); line != NULL && line[2] != '\0';
	     line = strstr(line + 2, "\r\n")) {
		size_t n = strcspn(line + 2, ":");

		if (strncasecmp(line + 2, "x-amz-", 6) != 0 || n >= 64)
			continue;
		for (size_t i = 0; i <= n; i++)
			name[i] = i < n ? (char)tolower((unsigned char)line[2 + i]) : '\0';
		if (!listed(list, name))
			return name;
	}
	return NULL;
}

static bool part_of(const char *authorization, const char *name, char *ret, size_t room)
{
	const char *at = strstr(authorization, name);

	if (at == NULL)
		return false;
	at += strlen(name);
	(void)snprintf(ret, room, "%.*s", (int)strcspn(at, ", "), at);
	return true;
}

const char *ddb_verify(const char *head, const void *body, size_t bytes, const char *region,
                       const struct ddb_login *logins, size_t count, char why[DDB_VERIFY_WHY])
{
	char authorization[2048], credential[256], list[512], given[80], date[64], token[128], name[64], scope[160];
	char text[8192], hash[65], *slash;
	const struct ddb_login *login = NULL;
	unsigned char key[80], mac[32];
	struct tm tm = {0};
	size_t used;
	int line;

	if (header(head, "authorization", authorization, sizeof authorization) != 1 ||
	    strncmp(authorization, "AWS4-HMAC-SHA256 ", 17) != 0 ||
	    !part_of(authorization, "Credential=", credential, sizeof credential) ||
	    !part_of(authorization, "SignedHeaders=", list, sizeof list) ||
	    !part_of(authorization, "Signature=", given, sizeof given)) {
		(void)snprintf(why, DDB_VERIFY_WHY, "no header Authorization that can be understood");
		return "MissingAuthenticationTokenException";
	}
	if (header(head, "x-amz-date", date, sizeof date) != 1 || strptime(date, "%Y%m%dT%H%M%SZ", &tm) == NULL) {
		(void)snprintf(why, DDB_VERIFY_WHY, "no X-Amz-Date, or several");
		return "IncompleteSignatureException";
	}
	(void)snprintf(scope, sizeof scope, "%.8s/%s/dynamodb/aws4_request", date, region);
	slash = strchr(credential, '/');
	if (slash == NULL || strcmp(slash + 1, scope) != 0) {
		(void)snprintf(why, DDB_VERIFY_WHY, "the scope of %.80s is not %.80s", credential, scope);
		return "InvalidSignatureException";
	}
	*slash = '\0';
	for (size_t i = 0; i < count; i++)
		if (logins[i].access[0] != '\0' && strcmp(logins[i].access, credential) == 0)
			login = &logins[i];
	if (login == NULL) {
		(void)snprintf(why, DDB_VERIFY_WHY, "The security token included in the request is invalid");
		return "UnrecognizedClientException";
	}
	(void)header(head, "x-amz-security-token", token, sizeof token);
	if (login->expired || strcmp(token, login->token) != 0) {
		(void)snprintf(why, DDB_VERIFY_WHY, "The security token included in the request is expired");
		return "ExpiredTokenException";
	}
	if (llabs((long long)(timegm(&tm) - time(NULL))) > 900) {
		(void)snprintf(why, DDB_VERIFY_WHY, "Signature expired, or not yet current: %s", date);
		return "InvalidSignatureException";
	}
	if (unsigned_of(head, list, name) != NULL) {
		(void)snprintf(why, DDB_VERIFY_WHY, "%s is sent and not signed", unsigned_of(head, list, name));
		return "InvalidSignatureException";
	}

	/* The canonical request: method, path, query, headers, their names, hash of the body. */
	line = snprintf(text, sizeof text, "%.*s\n/\n\n", (int)strcspn(head, " "), head);
	used = (size_t)line;
	for (const char *p = list; *p != '\0';) {
		char value[4096], before[64];
		size_t length = strcspn(p, ";");

		(void)snprintf(before, sizeof before, "%s", p == list ? "" : name);
		(void)snprintf(name, sizeof name, "%.*s", (int)length, p);
		if (strcmp(before, name) >= 0) {
			(void)snprintf(why, DDB_VERIFY_WHY, "the signed headers are not sorted: %.100s", list);
			return "InvalidSignatureException";
		}
		if (header(head, name, value, sizeof value) != 1) {
			(void)snprintf(
				why, DDB_VERIFY_WHY,
				"'%s' is named as a SignedHeader, but it does not exist in the HTTP request, or twice",
				name);
			return "InvalidSignatureException";
		}
		line = snprintf(text + used, sizeof text - used, "%s:%s\n", name, value);
		used += (size_t)line;
		p += length;
		p += *p == ';';
	}
	ddb_verify_sha256(body, bytes, hash);
	line = snprintf(text + used, sizeof text - used, "\n%s\n%s", list, hash);
	used += (size_t)line;
	ddb_verify_sha256(text, used, hash);
	(void)snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, hash);

	line = snprintf((char *)key, sizeof key, "AWS4%s", login->secret);
	date[8] = '\0';
	hmac(key, (size_t)line, date, mac);
	hmac(mac, 32, region, mac);
	hmac(mac, 32, "dynamodb", mac);
	hmac(mac, 32, "aws4_request", mac);
	hmac(mac, 32, text, mac);
	shmeta__hex_write(hash, mac, 32);
	if (strcmp(hash, given) == 0)
		return NULL;
	(void)snprintf(why, DDB_VERIFY_WHY,
	               "The request signature we calculated does not match the signature you provided");
	return "InvalidSignatureException";
}
