/* SPDX-License-Identifier: Apache-2.0
 * The source's uri (ddb_uri.h). */
#include "backends/dynamodb/ddb_uri.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char scheme[] = "dynamodb://";

static bool all_of(const char *text, size_t bytes, const char *more)
{
	for (size_t i = 0; i < bytes; i++)
		if ((text[i] < 'a' || text[i] > 'z') && (text[i] < '0' || text[i] > '9') &&
		    strchr(more, text[i]) == NULL)
			return false;
	return bytes > 0;
}

static bool is_here(const char *host)
{
	size_t n = strcspn(host, ":/");

	return strncmp(host, "[::1]", 5) == 0 || (n == 9 && memcmp(host, "localhost", 9) == 0) ||
	       (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n);
}

enum shmeta_status ddb_uri_parse(const struct backend_options *options, struct ddb_uri *ret, struct backend_error *err)
{
	static const char *const suffixes[DDB_TABLES] = {"meta", "seg", "log", "writers"}, param[] = "endpoint=";
	static const char more[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_.";
	const char *at = options->uri, *slash, *question, *host;
	size_t region, prefix, bytes;

	memset(ret, 0, sizeof *ret);
	if (strncmp(at, scheme, sizeof scheme - 1) != 0)
		return backend_fail(err, SHMETA_ERR_CONFIG, "dynamodb: the source is dynamodb://REGION/PREFIX");
	at += sizeof scheme - 1;
	slash = strchr(at, '/');
	region = slash != NULL ? (size_t)(slash - at) : 0;
	if (region >= sizeof ret->region || !all_of(at, region, "-"))
		return backend_fail(err, SHMETA_ERR_CONFIG,
		                    "dynamodb: the source is dynamodb://REGION/PREFIX, and a region has small letters, "
		                    "digits and '-'");
	question = strchr(slash, '?');
	prefix = question != NULL ? (size_t)(question - slash - 1) : strlen(slash + 1);
	if (prefix > 48 || !all_of(slash + 1, prefix, more))
		return backend_fail(err, SHMETA_ERR_CONFIG,
		                    "dynamodb: the prefix of the tables has 1 to 48 letters, digits, '-', '_' and '.'");
	(void)snprintf(ret->region, sizeof ret->region, "%.*s", (int)region, at);
	for (int i = 0; i < DDB_TABLES; i++)
		(void)snprintf(ret->table[i], sizeof ret->table[i], "%.*s_%s", (int)prefix, slash + 1, suffixes[i]);
	if (question == NULL) {
		(void)snprintf(ret->host, sizeof ret->host, "dynamodb.%s.amazonaws.com", ret->region);
		(void)snprintf(ret->endpoint, sizeof ret->endpoint, "https://%s/", ret->host);
		return SHMETA_OK;
	}
	if (strncmp(question + 1, param, sizeof param - 1) != 0)
		return backend_fail(err, SHMETA_ERR_CONFIG, "dynamodb: the one parameter is endpoint=URL");
	at = question + sizeof param;
	host = strncmp(at, "http://", 7) == 0 ? at + 7 : strncmp(at, "https://", 8) == 0 ? at + 8 : NULL;
	bytes = host != NULL ? strcspn(host, "/") : 0;
	if (bytes == 0 || bytes >= sizeof ret->host || (host[bytes] != '\0' && host[bytes + 1] != '\0') ||
	    strpbrk(host, "@?#& ") != NULL)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"dynamodb: endpoint= is http://HOST:PORT or https://HOST:PORT, without a path or a user");
	if (host == at + 7 && !is_here(host) && !options->allow_insecure)
		return backend_fail(err, SHMETA_ERR_CONFIG,
		                    "dynamodb: an endpoint on another machine needs https (or source.allow_insecure)");
	(void)snprintf(ret->host, sizeof ret->host, "%.*s", (int)bytes, host);
	(void)snprintf(ret->endpoint, sizeof ret->endpoint, "%.*s/", (int)(host - at + (ptrdiff_t)bytes), at);
	return SHMETA_OK;
}
