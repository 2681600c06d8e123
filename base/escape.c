/* SPDX-License-Identifier: Apache-2.0
 * Spelling what a terminal, a log line or an error text must not hold. */
#include "base/escape.h"

#include <stdbool.h>
#include <stdint.h>

#include "base/hex.h"
#include "base/utf8.h"

/* Characters that control a terminal, reorder or end its line, and invisible ones: two names that
 * differ must look different. */
static bool is_unprintable(uint32_t point)
{
	static const struct {
		uint32_t from, to;
	} ranges[] = {
		{0xad, 0xad},     {0x34f, 0x34f},   {0x61c, 0x61c},   {0x115f, 0x1160},   {0x17b4, 0x17b5},
		{0x180b, 0x180f}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},   {0x3164, 0x3164},
		{0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfffb}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
	};

	if (shmeta__utf8_is_control(point))
		return true;
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges && point >= ranges[i].from; i++)
		if (point <= ranges[i].to)
			return true;
	return false;
}

/* Spell one character, and `quote` (0: none) escaped. Returns the bytes written, at most 10;
 * *ret_used: the bytes read. */
static size_t spell(char *out, const uint8_t *p, size_t bytes, char quote, size_t *ret_used)
{
	uint32_t point = 0;
	size_t n = shmeta__utf8_decode(p, bytes, &point), digits = n == 4 ? 8 : 4;

	*ret_used = n == 0 ? 1 : n;
	if (n != 0 && !is_unprintable(point) && (quote == 0 || point != (uint8_t)quote)) {
		memcpy(out, p, n);
		return n;
	}
	out[0] = '\\';
	if (n <= 1) {
		out[1] = 'x';
		out[2] = shmeta__hex_digit(p[0] >> 4);
		out[3] = shmeta__hex_digit(p[0]);
		return 4;
	}
	out[1] = n == 4 ? 'U' : 'u';
	for (size_t i = 0; i < digits; i++)
		out[2 + i] = shmeta__hex_digit(point >> 4 * (digits - 1 - i));
	return 2 + digits;
}

static char *escape(char *out, size_t capacity, const void *text, size_t bytes, char quote)
{
	const uint8_t *p = text;
	size_t at = 0, safe = 0, used;
	char piece[10];

	if (capacity == 0)
		return out;
	for (size_t i = 0; p != NULL && i < bytes; i += used) {
		size_t n = spell(piece, p + i, bytes - i, quote, &used);

		if (at + n > capacity - 1) {
			/* The last place at which the dots fit. */
			at = safe;
			for (int dot = 0; dot < 3 && at < capacity - 1; dot++)
				out[at++] = '.';
			break;
		}
		memcpy(out + at, piece, n);
		at += n;
		if (at + 3 <= capacity - 1)
			safe = at;
	}
	out[at] = 0;
	return out;
}

char *shmeta__escape(char *out, size_t capacity, const void *text, size_t bytes)
{
	return escape(out, capacity, text, bytes, 0);
}

char *shmeta__quote(char *out, size_t capacity, const void *text, size_t bytes)
{
	size_t n;

	out[0] = '\'';
	(void)escape(out + 1, capacity - 2, text, bytes, '\'');
	n = strlen(out);
	out[n] = '\'';
	out[n + 1] = 0;
	return out;
}
