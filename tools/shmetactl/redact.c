/* SPDX-License-Identifier: Apache-2.0
 * Text without secrets. */
#include "tools/shmetactl/redact.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/shmetactl/tool.h"

enum { LEAST_KNOWN = 4 };

void redact_know(struct redact_known *known, const char *text, size_t bytes)
{
	if (bytes < LEAST_KNOWN)
		return;
	known->text = tool_grow(known->text, (known->count + 1) * sizeof(*known->text));
	known->text[known->count++] = tool_copy(text, bytes);
}

void redact_forget(struct redact_known *known)
{
	for (size_t i = 0; i < known->count; i++)
		free(known->text[i]);
	free(known->text);
	*known = (struct redact_known){.text = NULL};
}

struct out {
	char *text;
	size_t bytes, capacity;
};

static void put(struct out *o, const char *text, size_t bytes)
{
	if (o->capacity - o->bytes <= bytes) {
		o->capacity = (o->capacity + bytes) * 2 + 256;
		o->text = tool_grow(o->text, o->capacity);
	}
	memcpy(o->text + o->bytes, text, bytes);
	o->bytes += bytes;
}

static bool of_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

/* Does the word before a value say that the value is a secret? A file that has one is not. */
static bool names_secret(const char *word, size_t bytes)
{
	static const char *const names[] = {"password",  "passwd",      "secret",     "token",  "access_key",
	                                    "accesskey", "private_key", "credential", "sslkey", "pgpass"};
	static const char *const files[] = {"file", "path", "passfile", "directory"};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		size_t n = strlen(files[i]);

		if (bytes >= n && strncasecmp(word + bytes - n, files[i], n) == 0)
			return false;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t n = strlen(names[i]);

		for (size_t at = 0; at + n <= bytes; at++)
			if (strncasecmp(word + at, names[i], n) == 0)
				return true;
	}
	return false;
}

/* The bytes of the secret that begins at text[at]; 0: none does. */
static size_t known_at(const struct redact_known *known, const char *text, size_t bytes, size_t at)
{
	size_t longest = 0;

	for (size_t i = 0; i < known->count; i++) {
		size_t n = strlen(known->text[i]);

		if (n > longest && n <= bytes - at && memcmp(text + at, known->text[i], n) == 0)
			longest = n;
	}
	return longest;
}

/* Of "://user:SECRET@": at stands behind "://". Where the secret begins, and its bytes; 0: there is none. A password that was not
 * spelled as a URI wants it may hold '@' and '/', so the last '@' counts: rather too much is hidden than too little. */
static size_t uri_password(const char *text, size_t bytes, size_t at, size_t *ret_begin)
{
	size_t end = at, begin = 0, last = 0;

	while (end < bytes && !isspace((unsigned char)text[end]) && strchr("\"'<>", text[end]) == NULL) {
		if (text[end] == ':' && begin == 0)
			begin = end + 1;
		if (text[end] == '@')
			last = end;
		end++;
	}
	if (begin == 0 || last <= begin)
		return 0;
	*ret_begin = begin;
	return last - begin;
}

/* Behind a word that names one: "=", ":" or blanks, maybe quotes. Where the secret begins, and its bytes. */
static size_t named_value(const char *text, size_t bytes, size_t at, size_t *ret_begin)
{
	bool assigned = false;
	char quote = '\0';
	size_t begin = at, n = 0;

	if (begin < bytes && (text[begin] == '"' || text[begin] == '\'')) /* the end of a quoted name */
		begin++;
	while (begin < bytes &&
	       (text[begin] == ' ' || text[begin] == '\t' || text[begin] == '=' || text[begin] == ':')) {
		assigned = assigned || text[begin] == '=' || text[begin] == ':';
		begin++;
	}
	if (!assigned || begin == bytes)
		return 0;
	if (text[begin] == '"' || text[begin] == '\'')
		quote = text[begin++];
	while (begin + n < bytes && text[begin + n] != '\n') {
		if (quote != '\0' ? text[begin + n] == quote : strchr(" \t,;&}]\"'", text[begin + n]) != NULL)
			break;
		n += quote != '\0' && text[begin + n] == '\\' && begin + n + 1 < bytes ? 2 : 1;
	}
	*ret_begin = begin;
	return n;
}

/* Between the lines of "-----BEGIN ... PRIVATE KEY-----" and "-----END"; without an end, all the rest. */
static size_t private_key(const char *text, size_t bytes, size_t at, size_t *ret_begin)
{
	static const char begin[] = "-----BEGIN ", kind[] = "PRIVATE KEY-----", end[] = "-----END ";
	const char *line_end, *head, *last;

	if (bytes - at < sizeof(begin) || strncmp(text + at, begin, sizeof(begin) - 1) != 0)
		return 0;
	line_end = memchr(text + at, '\n', bytes - at);
	head = memmem(text + at, line_end != NULL ? (size_t)(line_end - text) - at : bytes - at, kind,
	              sizeof(kind) - 1);
	if (head == NULL)
		return 0;
	*ret_begin = (size_t)(head - text) + sizeof(kind) - 1;
	last = memmem(text + *ret_begin, bytes - *ret_begin, end, sizeof(end) - 1);
	return last != NULL ? (size_t)(last - text) - *ret_begin : bytes - *ret_begin;
}

char *redact(const struct redact_known *known, const char *text, size_t bytes, size_t *ret_bytes)
{
	struct out o = {.text = NULL};
	size_t word = 0; /* where the word at hand begins */

	for (size_t at = 0; at < bytes;) {
		size_t n = known_at(known, text, bytes, at), begin = at;

		if (n == 0 && bytes - at > 3 && strncmp(text + at, "://", 3) == 0)
			n = uri_password(text, bytes, at + 3, &begin);
		else if (n == 0 && !of_word(text[at]) && word < at && names_secret(text + word, at - word))
			n = named_value(text, bytes, at, &begin);
		else if (n == 0 && text[at] == '-')
			n = private_key(text, bytes, at, &begin);
		if (n > 0) {
			put(&o, text + at, begin - at);
			if (begin > at && known_at(known, text, bytes, begin) > n)
				n = known_at(known, text, bytes, begin);
			put(&o, "***", 3);
			at = word = begin + n;
			continue;
		}
		if (!of_word(text[at]))
			word = at + 1;
		put(&o, text + at, 1);
		at++;
	}
	put(&o, "", 1);
	*ret_bytes = o.bytes - 1;
	return o.text;
}
