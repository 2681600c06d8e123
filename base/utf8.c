/* SPDX-License-Identifier: Apache-2.0
 * UTF-8. */
#include "base/utf8.h"

#include <string.h>

size_t shmeta__utf8_decode(const uint8_t *p, size_t bytes, uint32_t *ret_point)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t point;
	size_t n;

	if (bytes == 0)
		return 0;
	if (p[0] < 0x80) {
		*ret_point = p[0];
		return 1;
	}
	n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || n > bytes)
		return 0;
	point = p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (p[i] & 0x3fu);
	}
	if (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
		return 0;
	*ret_point = point;
	return n;
}

static uint64_t eight(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof word);
	return word;
}

bool shmeta__utf8_valid(const void *text, size_t bytes)
{
	const uint8_t *p = text;
	uint64_t high = 0;
	uint32_t point;
	size_t at = 0, n;

	/* Nearly every name and key is ASCII: eight bytes at a time, the last eight overlapping
	 * those before. */
	if (bytes >= 8) {
		for (; at + 8 <= bytes; at += 8)
			high |= eight(p + at);
		high |= eight(p + bytes - 8);
		if ((high & 0x8080808080808080u) == 0)
			return true;
	}
	for (at = 0; at < bytes; at += n) {
		n = shmeta__utf8_decode(p + at, bytes - at, &point);
		if (n == 0)
			return false;
	}
	return true;
}
