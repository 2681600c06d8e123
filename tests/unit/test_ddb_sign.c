/* SPDX-License-Identifier: Apache-2.0
 * Signature Version 4 against the vectors that AWS publishes (aws-sig-v4-test-suite), and the
 * checksum of answers. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backends/dynamodb/ddb_http.h"
#include "backends/dynamodb/ddb_sign.h"
#include "tests/support/ddb_verify.h"

#define HOST                                    \
	{                                       \
		"host", "example.amazonaws.com" \
	}
#define DATE                                     \
	{                                        \
		"x-amz-date", "20150830T123600Z" \
	}
#define FORM                                                        \
	{                                                           \
		"content-type", "application/x-www-form-urlencoded" \
	}
static const char token[] =
	"AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI"
	"/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d"
	"+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

static const struct vector {
	const char *name, *method, *body, *signature;
	struct ddb_header headers[4];
} vectors[] = {
	{"get-vanilla", "GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", {HOST, DATE}},
	{"get-header-value-trim",
         "GET",
         "",
         "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
         {HOST, {"my-header1", "value1"}, {"my-header2", "\"a   b   c\""}, DATE}},
	{"post-vanilla", "POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", {HOST, DATE}},
	{"post-header-key-sort",
         "POST",
         "",
         "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
         {HOST, {"my-header1", "value1"}, DATE}},
	{"post-header-value-case",
         "POST",
         "",
         "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
         {HOST, {"my-header1", "VALUE1"}, DATE}},
	{"post-x-www-form-urlencoded",
         "POST",
         "Param1=value1",
         "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
         {FORM, HOST, DATE}},
	{"post-sts-header-before",
         "POST",
         "",
         "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
         {HOST, DATE, {"x-amz-security-token", token}}},
};

Test(ddb_sign, the_published_vectors_are_met)
{
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
		const struct vector *v = &vectors[i];
		struct ddb_signing s = {.access_key = "AKIDEXAMPLE",
		                        .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		                        .region = "us-east-1",
		                        .service = "service",
		                        .method = v->method,
		                        .path = "/",
		                        .headers = v->headers,
		                        .body = v->body,
		                        .body_bytes = strlen(v->body)};
		char answer[DDB_AUTHORIZATION_MAX], wanted[100];

		while (s.header_count < 4 && v->headers[s.header_count].name != NULL)
			s.header_count++;
		ddb_sign_time(1440938160, s.time);
		cr_expect_str_eq(s.time, "20150830T123600Z");
		cr_assert(ddb_sign(&s, answer), "%s", v->name);
		(void)snprintf(wanted, sizeof wanted, "Signature=%s", v->signature);
		cr_expect_not_null(strstr(answer, wanted), "%s: %s", v->name, answer);
		cr_expect_not_null(strstr(answer, "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
		                                  "SignedHeaders="),
		                   "%s", answer);
	}
}

Test(ddb_sign, what_does_not_fit_is_not_signed)
{
	char secret[600], answer[DDB_AUTHORIZATION_MAX];
	struct ddb_header header = {"host", "h"};
	struct ddb_signing s = {.access_key = "a",
	                        .secret_key = secret,
	                        .region = "r",
	                        .service = "s",
	                        .method = "POST",
	                        .path = "/",
	                        .headers = &header,
	                        .header_count = 1,
	                        .body = "",
	                        .time = "20150830T123600Z"};

	memset(secret, 'x', sizeof secret);
	secret[sizeof secret - 1] = '\0';
	cr_expect_not(ddb_sign(&s, answer), "a secret that was cut would sign, too, and wrongly");
	secret[10] = '\0';
	cr_expect(ddb_sign(&s, answer));
	s.time[0] = '\0';
	cr_expect_not(ddb_sign(&s, answer), "a time is needed");
}

Test(ddb_sign, the_checksum_is_that_of_zlib)
{
	cr_expect_eq(ddb_crc32("123456789", 9), 0xcbf43926u);
	cr_expect_eq(ddb_crc32("", 0), 0u);
}

/* ---- the verifier that the faulty proxy of other tests has ---- */

Test(ddb_verify, its_hash_is_the_standards)
{
	char hash[65];

	ddb_verify_sha256("abc", 3, hash);
	cr_expect_str_eq(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	ddb_verify_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hash);
	cr_expect_str_eq(hash, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static struct ddb_login login = {.access = "AKIDEXAMPLE", .secret = "hush", .token = "a-token"};

/* A request of ours as it is sent; then what is wrong with it, or NULL. */
static const char *verified(int64_t ahead_s, const char *more, const char *body, char why[DDB_VERIFY_WHY])
{
	static char head[2048];
	char authorization[DDB_AUTHORIZATION_MAX];
	struct ddb_signing s = {.access_key = "AKIDEXAMPLE",
	                        .secret_key = "hush",
	                        .region = "us-east-1",
	                        .service = "dynamodb",
	                        .method = "POST",
	                        .path = "/",
	                        .body = "{}",
	                        .body_bytes = 2};
	struct ddb_header headers[] = {{"content-type", "application/x-amz-json-1.0"},
	                               {"host", "127.0.0.1:8000"},
	                               {"x-amz-date", s.time},
	                               {"x-amz-security-token", "a-token"},
	                               {"x-amz-target", "DynamoDB_20120810.Query"}};

	s.headers = headers;
	s.header_count = sizeof headers / sizeof *headers;
	ddb_sign_time((int64_t)time(NULL) + ahead_s, s.time);
	cr_assert(ddb_sign(&s, authorization));
	(void)snprintf(head, sizeof head,
	               "POST / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/x-amz-json-1.0\r\n"
	               "X-Amz-Date: %s\r\nX-Amz-Security-Token: a-token\r\nX-Amz-Target: DynamoDB_20120810.Query\r\n"
	               "Authorization: %s\r\n%s",
	               s.time, authorization, more);
	return ddb_verify(head, body, strlen(body), "us-east-1", &login, 1, why);
}

Test(ddb_verify, what_the_signer_signs_is_right_and_nothing_else_is)
{
	char why[DDB_VERIFY_WHY] = "";

	cr_expect_null(verified(0, "", "{}", why), "%s", why);
	cr_expect_str_eq(verified(0, "", "{ }", why), "InvalidSignatureException", "another body");
	cr_expect_str_eq(verified(0, "X-Amz-More: 1\r\n", "{}", why), "InvalidSignatureException", "not signed");
	cr_expect_str_eq(verified(0, "Host: other\r\n", "{}", why), "InvalidSignatureException", "sent twice");
	cr_expect_str_eq(verified(1000, "", "{}", why), "InvalidSignatureException", "of another time");
	cr_expect_null(verified(800, "", "{}", why), "%s", why);
	(void)snprintf(login.secret, sizeof login.secret, "other");
	cr_expect_str_eq(verified(0, "", "{}", why), "InvalidSignatureException", "another secret");
	login.expired = true;
	cr_expect_str_eq(verified(0, "", "{}", why), "ExpiredTokenException");
	(void)snprintf(login.access, sizeof login.access, "OTHER");
	cr_expect_str_eq(verified(0, "", "{}", why), "UnrecognizedClientException");
}
