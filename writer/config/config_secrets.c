/* SPDX-License-Identifier: Apache-2.0
 * A source's address without the passwords in it: for the log, status and config show. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/hex.h"
#include "writer/config/config.h"

/* Where the value of "password=" ends that begins here: in a URI at the next parameter, in a list
 * of key=value at a space, or with its quotes. */
static const char *secret_end(const char *value, bool uri)
{
	if (uri)
		return value + strcspn(value, "&");
	if (*value != '\'')
		while (*value != '\0' && strchr(" \t\r\n", *value) == NULL)
			value += *value == '\\' && value[1] != '\0' ? 2 : 1;
	else
		for (value++; *value != '\0' && *value++ != '\'';)
			value += value[-1] == '\\' && *value != '\0';
	return value;
}

/* Does the keyword of a URI's parameter, which may be percent-encoded in any part, end in
 * "password"? sslpassword, too. */
static bool is_secret(const char *keyword, size_t bytes)
{
	static const char secret[] = "password";
	const size_t wanted = sizeof(secret) - 1;
	char last[sizeof(secret) - 1] = "";

	for (const char *end = keyword + bytes; keyword < end; keyword++) {
		char c = *keyword;

		if (shmeta__percent_read(keyword, (size_t)(end - keyword), &c) > 0)
			keyword += 2;
		memmove(last, last + 1, wanted - 1);
		last[wanted - 1] = c;
	}
	return memcmp(last, secret, wanted) == 0;
}

/* The value of the next secret at or behind the text; NULL: there is none. */
static const char *next_secret(const char *text, bool uri)
{
	for (size_t bytes; uri; text += bytes) {
		text += strcspn(text, "?&");
		if (*text == '\0')
			return NULL;
		text++;
		bytes = strcspn(text, "=&");
		if (text[bytes] == '=' && is_secret(text, bytes))
			return text + bytes + 1;
	}
	while ((text = strstr(text, "password")) != NULL) {
		text += strlen("password");
		text += strspn(text, " \t");
		if (*text == '=')
			return text + 1 + strspn(text + 1, " \t");
	}
	return NULL;
}

char *config_hide_secrets(const char *uri, char *ret, size_t bytes)
{
	const char *host = strstr(uri, "://"), *at, *colon, *end = uri, *value;
	size_t used = 0;

	if (bytes == 0)
		return ret;
	ret[0] = '\0';
	at = host != NULL ? strrchr(host, '@') : NULL;
	colon = at != NULL ? memchr(host + 3, ':', (size_t)(at - host - 3)) : NULL;
	if (colon != NULL) {
		used = (size_t)snprintf(ret, bytes, "%.*s:***", (int)(colon - uri), uri);
		end = at;
	}
	while (used < bytes && (value = next_secret(end, host != NULL)) != NULL) {
		used += (size_t)snprintf(ret + used, bytes - used, "%.*s***", (int)(value - end), end);
		end = secret_end(value, host != NULL);
	}
	if (used < bytes)
		snprintf(ret + used, bytes - used, "%s", end);
	return ret;
}
