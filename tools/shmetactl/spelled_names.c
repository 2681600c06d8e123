/* SPDX-License-Identifier: Apache-2.0
 * Names that were copied from our output, where out_safe() has spelled what nobody can see. */
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/tool.h"

/* The character of "\xNN", "\uNNNN" or "\UNNNNNNNN" at text, as UTF-8 (\x: as that byte); returns
 * the bytes of the spelling, 0: none. */
static size_t spelled(const char *text, char ret[4], size_t *ret_bytes)
{
	size_t digits = text[0] != '\\' ? 0 : text[1] == 'x' ? 2 : text[1] == 'u' ? 4 : text[1] == 'U' ? 8 : 0;
	char number[9] = "";
	unsigned long c;

	if (digits == 0 || strspn(text + 2, "0123456789abcdefABCDEF") < digits)
		return 0;
	memcpy(number, text + 2, digits);
	c = strtoul(number, NULL, 16);
	*ret_bytes = digits == 2 || c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	if (c == 0 || c > 0x10ffff)
		return 0;
	for (size_t i = *ret_bytes; i-- > 1; c >>= 6)
		ret[i] = (char)(0x80 | (c & 0x3f));
	ret[0] = (char)(*ret_bytes == 1 ? c : (0xf00 >> *ret_bytes & 0xff) | c);
	return 2 + digits;
}

static bool is_there(struct session *s, const char *name)
{
	struct shmeta_topic topic;
	enum shmeta_status status;
	int code;

	do {
		if (session_begin(s) != 0)
			return false;
		status = shmeta_get_topic(s->reader, name, strlen(name), NULL, &topic, NULL);
	} while (!session_end(s, &code) && code == 0);
	return status == SHMETA_OK;
}

const char *session_topic(struct session *s, const char *given)
{
	char *name, *to;

	if (strchr(given, '\\') == NULL || is_there(s, given))
		return given;
	name = to = tool_alloc(strlen(given) + 1);
	for (const char *p = given; *p != '\0';) {
		char utf8[4];
		size_t bytes = 0, used = spelled(p, utf8, &bytes);

		if (used == 0) {
			*to++ = *p++;
			continue;
		}
		memcpy(to, utf8, bytes);
		to += bytes;
		p += used;
	}
	*to = '\0';
	if (is_there(s, name))
		return name; /* until the program ends */
	free(name);
	return given;
}
