/* SPDX-License-Identifier: Apache-2.0
 * Where keys are from (ddb_credentials.h). */
#include <curl/curl.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backends/dynamodb/ddb_credentials.h"

enum { ANSWER_MAX = 65536, FILE_MAX = 1 << 20 };

static const char *env(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

__attribute__((format(printf, 2, 3))) static enum shmeta_status fails(const struct ddb_asking *a, const char *fmt, ...)
{
	char text[360];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	return backend_fail(a->err, SHMETA_ERR_SOURCE, "dynamodb: credentials: %s", text);
}

static bool put(char *to, size_t room, const char *from)
{
	int n = snprintf(to, room, "%s", from);

	return n >= 0 && (size_t)n < room;
}

/* The whole of a small file, terminated, to be cleared and freed. NULL: it cannot be read, or is a
 * FIFO, for which one would wait. */
static char *read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	FILE *f = fd >= 0 && fstat(fd, &st) == 0 && !S_ISFIFO(st.st_mode) ? fdopen(fd, "r") : NULL;
	char *text = f != NULL ? calloc(1, FILE_MAX + 1) : NULL;
	size_t bytes = text != NULL ? fread(text, 1, FILE_MAX, f) : 0;

	if (f != NULL)
		(void)fclose(f);
	else if (fd >= 0)
		(void)close(fd);
	if (text != NULL)
		text[bytes] = '\0';
	return text;
}

static void forget(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

static int64_t time_of(const char *text)
{
	struct tm tm = {.tm_sec = 0};

	return text != NULL && strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) != NULL ? (int64_t)timegm(&tm) : 0;
}

static enum shmeta_status take(const struct ddb_asking *a, const char *from, const char *access, const char *secret,
                               const char *token, const char *expires, struct ddb_keys *ret)
{
	if (access == NULL || secret == NULL)
		return fails(a, "%s has no access key and secret key", from);
	if (!put(ret->access, sizeof ret->access, access) || !put(ret->secret, sizeof ret->secret, secret) ||
	    !put(ret->token, sizeof ret->token, token != NULL ? token : ""))
		return fails(a, "a key of %s is too long", from);
	ret->expires_s = time_of(expires);
	if (expires != NULL && ret->expires_s == 0)
		return fails(a, "%s: the time when they expire cannot be read", from);
	return SHMETA_OK;
}

enum shmeta_status ddb_keys_of_environment(const struct ddb_asking *a, struct ddb_keys *ret)
{
	const char *access = env("AWS_ACCESS_KEY_ID"), *secret = env("AWS_SECRET_ACCESS_KEY");

	if (access == NULL && secret == NULL)
		return SHMETA_ABSENT;
	return take(a, "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)", access, secret,
	            env("AWS_SESSION_TOKEN"), NULL, ret);
}

/* ---- asking an endpoint ---- */

/* One exchange that must answer 200; its body in x->answer. */
static enum shmeta_status ask(const struct ddb_asking *a, struct ddb_exchange *x, const char *from)
{
	x->answer_max = ANSWER_MAX;
	ddb_http_run(a->http, x, 1, a->deadline_ns);
	if (x->status == 200 && x->answer != NULL)
		return SHMETA_OK;
	if (x->status == 0)
		return fails(a, "%s does not answer: %s", from, x->error);
	return fails(a, "%s answers with HTTP status %ld", from, x->status);
}

static enum shmeta_status take_json(const struct ddb_asking *a, const char *from, const char *text,
                                    struct ddb_keys *ret)
{
	json_t *doc = json_loads(text, 0, NULL);
	const char *code = json_string_value(json_object_get(doc, "Code"));
	enum shmeta_status status;

	if (code != NULL && strcmp(code, "Success") != 0)
		status = fails(a, "%s answers %.60s", from, code);
	else
		status = take(a, from, json_string_value(json_object_get(doc, "AccessKeyId")),
		              json_string_value(json_object_get(doc, "SecretAccessKey")),
		              json_string_value(json_object_get(doc, "Token")),
		              json_string_value(json_object_get(doc, "Expiration")), ret);
	json_decref(doc);
	return status;
}

/* The text of the first element of that name; it is cut off in place. NULL: there is none. */
static char *element(char *xml, const char *name)
{
	char open[40], close[40], *from, *to;

	(void)snprintf(open, sizeof open, "<%s>", name);
	(void)snprintf(close, sizeof close, "</%s", name);
	from = strstr(xml, open);
	if (from == NULL)
		return NULL;
	from += strlen(open);
	to = strstr(from, close);
	if (to == NULL)
		return NULL;
	return strndup(from, (size_t)(to - from));
}

enum shmeta_status ddb_keys_of_web_identity(const struct ddb_asking *a, struct ddb_keys *ret)
{
	static const char from[] = "the token service (AssumeRoleWithWebIdentity)";
	const char *path = env("AWS_WEB_IDENTITY_TOKEN_FILE"), *role = env("AWS_ROLE_ARN");
	const char *session = env("AWS_ROLE_SESSION_NAME"), *endpoint = env("AWS_ENDPOINT_URL_STS");
	const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded", NULL};
	char url[300], *token, *text, *role_coded, *token_coded, *session_coded, *parts[4] = {NULL};
	struct ddb_exchange x = {.method = "POST", .url = url, .headers = headers};
	enum shmeta_status status;

	if (path == NULL || role == NULL)
		return SHMETA_ABSENT;
	token = read_file(path);
	if (token == NULL)
		return fails(a, "the file of AWS_WEB_IDENTITY_TOKEN_FILE cannot be read");
	token[strcspn(token, "\r\n")] = '\0';
	if (endpoint != NULL)
		(void)snprintf(url, sizeof url, "%s", endpoint);
	else
		(void)snprintf(url, sizeof url, "https://sts.%s.amazonaws.com/", a->region);
	role_coded = curl_easy_escape(NULL, role, 0);
	token_coded = curl_easy_escape(NULL, token, 0);
	session_coded = curl_easy_escape(NULL, session != NULL ? session : "shmeta", 0);
	if (role_coded == NULL || token_coded == NULL || session_coded == NULL ||
	    asprintf(&text,
	             "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=%s&RoleSessionName=%s&"
	             "WebIdentityToken=%s",
	             role_coded, session_coded, token_coded) < 0)
		text = NULL;
	if (text != NULL) {
		x.body = text;
		x.body_bytes = strlen(text);
		status = ask(a, &x, from);
	} else {
		status = fails(a, "out of memory");
	}
	if (status == SHMETA_OK) {
		static const char *const names[] = {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"};

		for (size_t i = 0; i < 4; i++)
			parts[i] = element(x.answer, names[i]);
		status = take(a, from, parts[0], parts[1], parts[2], parts[3], ret);
		for (size_t i = 0; i < 4; i++)
			forget(parts[i]);
	}
	ddb_exchange_free(&x);
	forget(token);
	forget(text);
	curl_free(role_coded);
	curl_free(token_coded);
	curl_free(session_coded);
	return status;
}

/* ---- profile files ---- */

static char *trimmed(char *text)
{
	char *end = text + strlen(text);

	while (*text == ' ' || *text == '\t')
		text++;
	while (end > text && strchr(" \t\r", end[-1]) != NULL)
		*--end = '\0';
	return text;
}

/* The keys below "[heading]". false: there is no such heading. */
static bool find_profile(char *text, const char *heading, const char *values[3])
{
	static const char *const names[3] = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"};
	bool here = false, found = false;
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		char *at = trimmed(line), *equals = strchr(at, '=');

		if (at[0] == '[') {
			char *close = strchr(at, ']');

			if (close != NULL)
				*close = '\0';
			here = close != NULL && strcmp(trimmed(at + 1), heading) == 0;
			found |= here;
		} else if (here && equals != NULL && at[0] != '#' && at[0] != ';') {
			*equals = '\0';
			for (size_t i = 0; i < 3; i++)
				if (strcmp(trimmed(at), names[i]) == 0)
					values[i] = trimmed(equals + 1);
		}
	}
	return found;
}

enum shmeta_status ddb_keys_of_profile(const struct ddb_asking *a, struct ddb_keys *ret)
{
	const char *asked = env("AWS_PROFILE"), *profile = asked != NULL ? asked : "default", *home = env("HOME");
	const char *variables[2] = {"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"},
		   *files[2] = {"credentials", "config"};
	enum shmeta_status status = SHMETA_ABSENT;

	for (size_t i = 0; status == SHMETA_ABSENT && i < 2; i++) {
		const char *values[3] = {NULL, NULL, NULL};
		char path[600], heading[300], *text;

		if (env(variables[i]) != NULL)
			(void)snprintf(path, sizeof path, "%s", env(variables[i]));
		else if (home != NULL)
			(void)snprintf(path, sizeof path, "%s/.aws/%s", home, files[i]);
		else
			continue;
		/* In the file config the headings of all but the default one begin with a word of
		 * their own. */
		(void)snprintf(heading, sizeof heading, "%s%s",
		               i == 1 && strcmp(profile, "default") != 0 ? "profile " : "", profile);
		text = read_file(path);
		if (text == NULL)
			continue;
		size_t bytes = strlen(text);

		if (find_profile(text, heading, values) && (values[0] != NULL || values[1] != NULL))
			status = take(a, "the profile", values[0], values[1], values[2], NULL, ret);
		explicit_bzero(text, bytes); /* it was cut to pieces */
		free(text);
	}
	if (status == SHMETA_ABSENT && asked != NULL)
		return fails(
			a,
			"the profile of AWS_PROFILE is in no file with an access key and a secret key; a profile that "
			"starts a program, signs in or takes on a role is not followed");
	return status;
}

/* ---- containers and instances ---- */

/* Plain HTTP is for this host and for the addresses that AWS gives to it alone. */
static bool may_ask(const char *url)
{
	static const char *const hosts[] = {"http://127.",          "http://localhost",      "http://[::1]",
	                                    "http://169.254.170.2", "http://169.254.170.23", "http://[fd00:ec2::23]"};

	if (strchr(url, '@') != NULL)
		return false;
	if (strncmp(url, "https://", 8) == 0)
		return true;
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		size_t n = strlen(hosts[i]);
		const char *behind = url + n;

		if (strncmp(url, hosts[i], n) != 0)
			continue;
		if (i == 0) /* 127.x.y.z: digits and points alone, up to the port or the path */
			behind += strspn(behind, "0123456789.");
		if (*behind == '\0' || *behind == '/' || *behind == ':')
			return true;
	}
	return false;
}

enum shmeta_status ddb_keys_of_container(const struct ddb_asking *a, struct ddb_keys *ret)
{
	static const char from[] = "the container's endpoint";
	const char *relative = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	const char *path = env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *given = env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	char url[1024], *token = NULL, *header = NULL;
	const char *headers[2] = {NULL, NULL};
	struct ddb_exchange x = {.method = "GET", .url = url, .headers = headers};
	enum shmeta_status status = SHMETA_OK;

	if (relative == NULL && full == NULL)
		return SHMETA_ABSENT;
	(void)snprintf(url, sizeof url, "%s%s", relative != NULL ? "http://169.254.170.2" : "",
	               relative != NULL ? relative : full);
	if (!may_ask(url))
		return fails(a,
		             "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of this host or of its "
		             "container service");
	if (path != NULL) {
		token = read_file(path);
		if (token == NULL)
			return fails(a, "the file of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read");
	} else if (given != NULL) {
		token = strdup(given);
	}
	if (token != NULL) {
		token[strcspn(token, "\r\n")] = '\0';
		if (asprintf(&header, "Authorization: %s", token) < 0) {
			header = NULL;
			status = fails(a, "out of memory");
		}
		headers[0] = header;
	}
	if (status == SHMETA_OK)
		status = ask(a, &x, from);
	if (status == SHMETA_OK)
		status = take_json(a, from, x.answer, ret);
	ddb_exchange_free(&x);
	forget(token);
	forget(header);
	return status;
}

enum shmeta_status ddb_keys_of_instance(const struct ddb_asking *asking, struct ddb_keys *ret)
{
	/* Outside of AWS nobody is there, and nothing says so. */
	const uint64_t soon_ns = ddb_now_ns() + UINT64_C(1000000000);
	const struct ddb_asking own = {asking->http, asking->region,
	                               asking->deadline_ns < soon_ns ? asking->deadline_ns : soon_ns, asking->err};
	const struct ddb_asking *a = &own;
	static const char from[] = "the instance's metadata", roles[] = "/latest/meta-data/iam/security-credentials/";
	const char *disabled = env("AWS_EC2_METADATA_DISABLED"), *endpoint = env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *const lease[] = {"X-aws-ec2-metadata-token-ttl-seconds: 21600", NULL};
	char url[700], header[400];
	const char *const with_token[] = {header, NULL};
	struct ddb_exchange x = {.method = "PUT", .url = url, .headers = lease};
	size_t base;
	enum shmeta_status status;

	if (disabled != NULL && strcasecmp(disabled, "true") == 0)
		return SHMETA_ABSENT;
	if (endpoint == NULL)
		endpoint = "http://169.254.169.254";
	base = strlen(endpoint);
	while (base > 0 && endpoint[base - 1] == '/')
		base--;
	(void)snprintf(url, sizeof url, "%.*s/latest/api/token", (int)base, endpoint);
	status = ask(a, &x, from);
	if (status == SHMETA_OK) {
		(void)snprintf(header, sizeof header, "X-aws-ec2-metadata-token: %.300s", x.answer);
		ddb_exchange_free(&x);
		x.method = "GET";
		x.headers = with_token;
		(void)snprintf(url, sizeof url, "%.*s%s", (int)base, endpoint, roles);
		status = ask(a, &x, from);
	}
	if (status == SHMETA_OK) {
		x.answer[strcspn(x.answer, "\r\n")] = '\0';
		(void)snprintf(url, sizeof url, "%.*s%s%.200s", (int)base, endpoint, roles, x.answer);
		ddb_exchange_free(&x);
		status = ask(a, &x, from);
	}
	if (status == SHMETA_OK)
		status = take_json(a, from, x.answer, ret);
	ddb_exchange_free(&x);
	explicit_bzero(header, sizeof header);
	return status;
}
