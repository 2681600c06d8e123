/* SPDX-License-Identifier: Apache-2.0
 * Text without secrets. */
#include "tools/shmetactl/redact.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hex.h"
#include "tools/shmetactl/tool.h"

enum { SHORT_KNOWN = 3 };

static void know(struct redact_known *known, const char *text, size_t bytes)
{
	for (size_t i = 0; i < known->count; i++)
		if (strlen(known->text[i]) == bytes && memcmp(known->text[i], text, bytes) == 0)
			return;
	known->text = tool_grow(known->text, (known->count + 1) * sizeof(*known->text));
	known->text[known->count++] = tool_copy(text, bytes);
}

void redact_know(struct redact_known *known, const char *text, size_t bytes)
{
	json_t *string;
	char *json;

	bytes = strnlen(text, bytes);
	if (bytes == 0 || (bytes == 3 && memcmp(text, "***", 3) == 0))
		return;
	know(known, text, bytes);
	/* What is not ASCII is spelled otherwise in documents. */
	string = json_stringn(text, bytes);
	json = string != NULL ? json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
	if (json != NULL && strlen(json) > 2)
		know(known, json + 1, strlen(json) - 2);
	free(json);
	json_decref(string);
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
	return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.' || c == '%';
}

/* Does the word before a value say that the value is a secret? A file that has one is not. */
static bool names_secret(const char *word, size_t word_bytes)
{
	static const char *const names[] = {"password",  "passwd",      "secret",     "token",  "access_key",
	                                    "accesskey", "private_key", "credential", "sslkey", "pgpass"};
	static const char *const files[] = {"file", "path", "passfile", "directory"};
	char decoded[128];
	size_t bytes = 0;

	/* The end of a long one says what it is. */
	for (size_t at = word_bytes > sizeof(decoded) ? word_bytes - sizeof(decoded) : 0; at < word_bytes;) {
		size_t n = shmeta__percent_read(word + at, word_bytes - at, &decoded[bytes]);

		if (n == 0)
			decoded[bytes] = word[at];
		at += n > 0 ? n : 1;
		bytes++;
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		size_t n = strlen(files[i]);

		if (bytes >= n && strncasecmp(decoded + bytes - n, files[i], n) == 0)
			return false;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t n = strlen(names[i]);

		for (size_t at = 0; at + n <= bytes; at++)
			if (strncasecmp(decoded + at, names[i], n) == 0)
				return true;
	}
	return false;
}

/* The bytes that the secret takes here, however each of its characters is spelled; 0: it is not
 * here. */
static size_t spelled(const char *secret, const char *text, size_t bytes)
{
	size_t at = 0;

	for (; *secret != '\0'; secret++) {
		char c = '\0';
		size_t n = at < bytes ? shmeta__percent_read(text + at, bytes - at, &c) : 0;

		if (at < bytes && text[at] == *secret) {
			/* Doubled, as SQL has it. */
			at += *secret == '\'' && secret[1] != '\'' && at + 1 < bytes && text[at + 1] == '\'' ? 2 : 1;
		} else if (n > 0 && c == *secret) {
			at += n;
		} else if (at + 1 < bytes && text[at] == '\\' && text[at + 1] == *secret) {
			at += 2;
		} else {
			return 0;
		}
	}
	return at;
}

/* The bytes of the secret that begins at text[at]; 0: none does. */
static size_t known_at(const struct redact_known *known, const char *text, size_t bytes, size_t at)
{
	size_t longest = 0;

	for (size_t i = 0; i < known->count; i++) {
		char c = known->text[i][0];
		size_t n = text[at] == c || text[at] == '%' || text[at] == '\\'
		                   ? spelled(known->text[i], text + at, bytes - at)
		                   : 0;

		if (n > 0 && strlen(known->text[i]) <= SHORT_KNOWN &&
		    ((at > 0 && isalnum((unsigned char)text[at - 1])) ||
		     (at + n < bytes && isalnum((unsigned char)text[at + n]))))
			continue;
		if (n > longest)
			longest = n;
	}
	return longest;
}

/* Of "://user:SECRET@": at stands behind "://". Where the secret begins, and its bytes; 0: there is
 * none. A password that was not spelled as a URI wants it may hold '@' and '/', so the last '@'
 * counts: rather too much is hidden than too little. */
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

/* Behind a word that names one: "=", ":" or blanks, maybe quotes; in a URI up to the next
 * parameter. Without "=" it is in quotes, as SQL has it, or the word is an option of a command
 * line. Where the secret begins, and its bytes. */
static size_t named_value(const char *text, size_t bytes, size_t at, bool uri, bool option, size_t *ret_begin)
{
	bool assigned = false;
	char quote = '\0';
	size_t begin = at, n = 0;

	if (begin < bytes && text[begin] == '\\') /* within a text of JSON */
		begin++;
	/* the end of a quoted name */
	if (begin < bytes && (text[begin] == '"' || text[begin] == '\''))
		begin++;
	while (begin < bytes &&
	       (text[begin] == ' ' || text[begin] == '\t' || text[begin] == '=' || text[begin] == ':')) {
		assigned = assigned || text[begin] == '=' || text[begin] == ':';
		begin++;
	}
	if (begin == bytes || begin == at)
		return 0;
	if (!assigned && bytes - begin > 1 && strchr("eE", text[begin]) != NULL && text[begin + 1] == '\'')
		begin++;
	if (bytes - begin > 1 && text[begin] == '\\' && (text[begin + 1] == '"' || text[begin + 1] == '\''))
		begin++; /* its end has one, too */
	if (text[begin] == '"' || text[begin] == '\'')
		quote = text[begin++];
	if (!assigned && !option && quote == '\0')
		return 0;
	while (begin + n < bytes && text[begin + n] != '\n') {
		char c = text[begin + n];

		if (quote == '\'' && c == quote && begin + n + 1 < bytes && text[begin + n + 1] == quote) {
			n += 2;
			continue;
		}
		if (quote != '\0' ? c == quote : strchr(uri ? " \t&\"'" : " \t\"'", c) != NULL)
			break;
		n += c == '\\' && begin + n + 1 < bytes && text[begin + n + 1] != '\n' ? 2 : 1;
	}
	*ret_begin = begin;
	return n;
}

/* Between the lines of "-----BEGIN ... PRIVATE KEY-----" and "-----END"; without an end, all the
 * rest. */
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

/* A secret as it was written, and without what its place asked for: percent signs of a URI,
 * backslashes, doubled quotes. */
static void know_value(struct redact_known *known, const char *text, size_t bytes)
{
	char *plain = tool_copy(text, bytes);
	size_t used = 0;

	redact_know(known, text, bytes);
	for (size_t at = 0; at < bytes; used++) {
		size_t n = shmeta__percent_read(text + at, bytes - at, &plain[used]);

		if (n == 0 && text[at] == '\\' && at + 1 < bytes)
			at++;
		if (n == 0)
			plain[used] = text[at];
		at += n > 0 ? n : 1;
	}
	redact_know(known, plain, used);
	free(plain);
}

/* One pass over a text: what is no secret goes to o, each secret to known. Either may be NULL. */
static void pass(const struct redact_known *known, const char *text, size_t bytes, struct out *o,
                 struct redact_known *found)
{
	size_t word = 0; /* where the word at hand begins */
	bool uri = false;

	for (size_t at = 0; at < bytes;) {
		size_t n = known != NULL ? known_at(known, text, bytes, at) : 0, begin = at;

		if (n == 0 && bytes - at > 3 && strncmp(text + at, "://", 3) == 0) {
			n = uri_password(text, bytes, at + 3, &begin);
			uri = true;
		} else if (n == 0 && !of_word(text[at]) && word < at && names_secret(text + word, at - word)) {
			n = named_value(text, bytes, at, uri, strncmp(text + word, "--", 2) == 0, &begin);
		} else if (n == 0 && text[at] == '-') {
			n = private_key(text, bytes, at, &begin);
		}
		if (n > 0) {
			if (o != NULL)
				put(o, text + at, begin - at);
			if (known != NULL && begin > at && known_at(known, text, bytes, begin) > n)
				n = known_at(known, text, bytes, begin);
			if (found != NULL)
				know_value(found, text + begin, n);
			if (o != NULL)
				put(o, "***", 3);
			at = word = begin + n;
			continue;
		}
		if (isspace((unsigned char)text[at]) || text[at] == '"' || text[at] == '\'')
			uri = false;
		if (!of_word(text[at]))
			word = at + 1;
		if (o != NULL)
			put(o, text + at, 1);
		at++;
	}
}

void redact_know_named(struct redact_known *known, const char *text, size_t bytes)
{
	pass(NULL, text, bytes, NULL, known);
}

char *redact(const struct redact_known *known, const char *text, size_t bytes, size_t *ret_bytes)
{
	struct out o = {.text = NULL};

	pass(known, text, bytes, &o, NULL);
	put(&o, "", 1);
	*ret_bytes = o.bytes - 1;
	return o.text;
}
