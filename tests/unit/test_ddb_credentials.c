/* SPDX-License-Identifier: Apache-2.0
 * The sources of credentials, each against a stub on loopback: their order, what each asks for,
 * when keys are renewed, and that no key is ever in a sentence. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backends/dynamodb/ddb_credentials.h"
#include "tests/support/http_stub.h"
#include "tests/support/scratch.h"

static struct ddb_credentials credentials;
static struct ddb_http *http;
static struct backend_error err;
static char dir[64];
static struct http_stub stub;

static void clean(void)
{
	static const char *const variables[] = {"AWS_ACCESS_KEY_ID",
	                                        "AWS_SECRET_ACCESS_KEY",
	                                        "AWS_SESSION_TOKEN",
	                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
	                                        "AWS_ROLE_ARN",
	                                        "AWS_ROLE_SESSION_NAME",
	                                        "AWS_ENDPOINT_URL_STS",
	                                        "AWS_PROFILE",
	                                        "AWS_SHARED_CREDENTIALS_FILE",
	                                        "AWS_CONFIG_FILE",
	                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
	                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT"};

	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		unsetenv(variables[i]);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	cr_assert(scratch_dir("credentials", dir));
	setenv("HOME", dir, 1);
	http = ddb_http_new(2);
	cr_assert_not_null(http);
}

static void done(void)
{
	static const char *const files[] = {"token", "file", "credentials"};
	char path[100];

	http_stub_stop(&stub);
	ddb_http_free(http);
	for (size_t i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", dir, files[i]);
		(void)unlink(path);
	}
	(void)rmdir(dir);
}

TestSuite(ddb_credentials, .init = clean, .fini = done, .timeout = 30);

static const char *file(const char *name, const char *text)
{
	static char path[100];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fputs(text, f);
	(void)fclose(f);
	return path;
}

static enum shmeta_status get(bool again)
{
	const struct ddb_keys *keys;

	return ddb_credentials_get(&credentials, http, "eu-west-1", again, ddb_now_ns() + UINT64_C(5000000000), &keys,
	                           &err);
}

static void expect(const char *access, const char *secret, const char *token)
{
	cr_assert_eq(get(false), SHMETA_OK, "%s", err.text);
	cr_expect_str_eq(credentials.keys.access, access);
	cr_expect_str_eq(credentials.keys.secret, secret);
	cr_expect_str_eq(credentials.keys.token, token);
}

Test(ddb_credentials, without_any_source_the_sentence_names_them_all)
{
	cr_expect_eq(get(false), SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(err.text, "there are no credentials"), "%s", err.text);
}

Test(ddb_credentials, the_environment_comes_first)
{
	setenv("AWS_SHARED_CREDENTIALS_FILE",
	       file("credentials", "[default]\naws_access_key_id=fromfile\naws_secret_access_key=x\n"), 1);
	setenv("AWS_ACCESS_KEY_ID", "fromenv", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "hush", 1);
	setenv("AWS_SESSION_TOKEN", "session", 1);
	expect("fromenv", "hush", "session");
}

Test(ddb_credentials, half_a_pair_is_said_and_no_other_source_is_taken)
{
	setenv("AWS_SHARED_CREDENTIALS_FILE",
	       file("credentials", "[default]\naws_access_key_id=fromfile\naws_secret_access_key=x\n"), 1);
	setenv("AWS_SECRET_ACCESS_KEY", "hush-hush", 1);
	cr_expect_eq(get(false), SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(err.text, "AWS_ACCESS_KEY_ID"), "%s", err.text);
	cr_expect_null(strstr(err.text, "hush-hush"), "%s", err.text);
}

Test(ddb_credentials, a_profile_is_found_in_the_credentials_file)
{
	setenv("AWS_PROFILE", "second", 1);
	setenv("AWS_SHARED_CREDENTIALS_FILE",
	       file("credentials", "[default]\naws_access_key_id=a\naws_secret_access_key=b\n\n[second]\n# a note\n"
	                           " aws_access_key_id = two \naws_secret_access_key\t=\tsecret=with=signs\r\n"
	                           "aws_session_token=tok\n[third]\naws_access_key_id=c\n"),
	       1);
	expect("two", "secret=with=signs", "tok");
}

Test(ddb_credentials, a_profile_is_found_in_the_config_file_under_its_longer_heading)
{
	setenv("AWS_PROFILE", "second", 1);
	setenv("AWS_CONFIG_FILE",
	       file("file", "[second]\naws_access_key_id=wrong\naws_secret_access_key=b\n[profile second]\n"
	                    "aws_access_key_id=right\naws_secret_access_key=b\n"),
	       1);
	expect("right", "b", "");
}

Test(ddb_credentials, a_profile_that_was_asked_for_and_is_nowhere_is_said)
{
	setenv("AWS_PROFILE", "none", 1);
	cr_expect_eq(get(false), SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(err.text, "AWS_PROFILE"), "%s", err.text);
}

Test(ddb_credentials, a_web_identity_is_exchanged_for_keys_and_its_token_is_coded)
{
	static const struct http_line lines[] = {
		{"Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&"
	         "RoleSessionName=shmeta&WebIdentityToken=a%2Fb%2Bc%3D%3D",
	         "<R><Credentials><AccessKeyId>AK</AccessKeyId><SecretAccessKey>SK</SecretAccessKey>"
	         "<SessionToken>ST</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
	         "</Credentials></R>"}};

	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file("token", "a/b+c==\n"), 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
	http_stub_start(&stub, lines, 1);
	setenv("AWS_ENDPOINT_URL_STS", stub.url, 1);
	expect("AK", "SK", "ST");
	cr_expect_eq(credentials.keys.expires_s, 4070908800);
}

/* Nobody writes it. */
Test(ddb_credentials, a_fifo_is_not_waited_for)
{
	char path[100];

	(void)snprintf(path, sizeof path, "%s/token", dir);
	cr_assert_eq(mkfifo(path, 0600), 0);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
	cr_expect_eq(get(false), SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(err.text, "AWS_WEB_IDENTITY_TOKEN_FILE cannot be read"), "%s", err.text);
}

Test(ddb_credentials, a_container_is_asked_with_its_token_read_from_the_file)
{
	static const struct http_line lines[] = {
		{"Authorization: of-the-file\r\n",
	         "{\"AccessKeyId\":\"CA\",\"SecretAccessKey\":\"CS\",\"Token\":\"CT\",\"Expiration\":"
	         "\"2099-01-01T00:00:00Z\"}      "}};
	char uri[100];

	http_stub_start(&stub, lines, 1);
	(void)snprintf(uri, sizeof uri, "%s/creds", stub.url);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri, 1);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-the-environment", 1);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file("token", "of-the-file\n"), 1);
	expect("CA", "CS", "CT");
}

Test(ddb_credentials, a_container_uri_that_leaves_the_host_in_plain_text_is_refused)
{
	static const char *const uris[] = {"http://192.0.2.1/",         "http://127.0.0.1.example/",
	                                   "http://localhost.example/", "http://localhost:80@192.0.2.1/",
	                                   "http://169.254.170.20/",    "file:///etc/passwd"};

	for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
		setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", uris[i], 1);
		cr_expect_eq(get(false), SHMETA_ERR_SOURCE, "%s", uris[i]);
		cr_expect_not_null(strstr(err.text, "must be https"), "%s: %s", uris[i], err.text);
	}
}

Test(ddb_credentials, instance_metadata_is_asked_by_version_two_alone)
{
	static const struct http_line lines[] = {
		{"PUT /latest/api/token HTTP/1.1", "tok"},
		{"GET /latest/meta-data/iam/security-credentials/ HTTP/1.1", "role"},
		{"GET /latest/meta-data/iam/security-credentials/role HTTP/1.1",
	         "{\"Code\":\"Success\",\"AccessKeyId\":\"IA\",\"SecretAccessKey\":\"IS\",\"Token\":\"IT\","
	         "\"Expiration\":\"2099-01-01T00:00:00Z\"}"}};

	http_stub_start(&stub, lines, 3);
	unsetenv("AWS_EC2_METADATA_DISABLED");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", stub.url, 1);
	expect("IA", "IS", "IT");
}

Test(ddb_credentials, keys_that_end_soon_are_renewed_and_used_on_when_that_fails)
{
	char body[200], when[30];
	time_t soon = time(NULL) + 100;
	struct tm tm;
	struct http_line lines[] = {{NULL, body}, {NULL, ""}};
	char uri[100];

	cr_assert_not_null(gmtime_r(&soon, &tm));
	(void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)snprintf(body, sizeof body,
	               "{\"AccessKeyId\":\"A1\",\"SecretAccessKey\":\"S1\",\"Token\":\"\",\"Expiration\":\"%s\"}",
	               when);
	http_stub_start(&stub, lines, 2);
	(void)snprintf(uri, sizeof uri, "%s/creds", stub.url);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri, 1);
	expect("A1", "S1", "");
	cr_expect_eq(credentials.tried_ns, 0);
	cr_expect_eq(get(false), SHMETA_OK, "they are good for 100 s");
	cr_expect_neq(credentials.tried_ns, 0, "nobody asked for new ones");
	cr_expect_eq(get(true), SHMETA_ERR_SOURCE, "keys that were refused are not used again");
}

Test(ddb_credentials, a_silent_endpoint_is_given_up_at_the_deadline)
{
	static const struct http_line lines[] = {{NULL, NULL}};
	const struct ddb_keys *keys;
	uint64_t begun = ddb_now_ns();

	http_stub_start(&stub, lines, 1);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", stub.url, 1);
	cr_expect_eq(ddb_credentials_get(&credentials, http, "r", false, begun + 300000000, &keys, &err),
	             SHMETA_ERR_SOURCE);
	cr_expect_lt(ddb_now_ns() - begun, UINT64_C(5000000000));
	cr_expect_not_null(strstr(err.text, "does not answer"), "%s", err.text);
}
