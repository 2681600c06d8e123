/* SPDX-License-Identifier: Apache-2.0
 * Fields of a row of the snapshot file (warm_row.h). */
#include "writer/load/warm_row.h"

#include <string.h>

size_t warm_put_number(uint8_t *at, uint64_t value)
{
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		at[n++] = (uint8_t)(value | 0x80);
	at[n++] = (uint8_t)value;
	return n;
}

bool warm_get_number(const uint8_t **at, size_t *left, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && *left > 0; shift += 7) {
		uint8_t byte = *(*at)++;

		(*left)--;
		if (shift == 63 && byte > 1)
			return false;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret = value;
			return true;
		}
	}
	return false;
}

size_t warm_common(const struct warm_texts *texts, enum warm_text which, struct shmeta_str s)
{
	size_t most = s.bytes < texts->last[which].bytes ? s.bytes : texts->last[which].bytes, n = 0;

	while (n < most && s.data[n] == texts->last[which].data[n])
		n++;
	return n;
}

bool warm_keep(struct warm_texts *texts, enum warm_text which, size_t common, struct shmeta_str rest)
{
	if (common > texts->last[which].bytes || rest.bytes > sizeof texts->last[which].data - common)
		return false;
	if (rest.bytes > 0)
		memcpy(texts->last[which].data + common, rest.data, rest.bytes);
	texts->last[which].bytes = common + rest.bytes;
	return true;
}
