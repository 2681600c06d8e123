/* SPDX-License-Identifier: Apache-2.0
 * The kernel's name of a boot, as /proc/sys/kernel/random/boot_id spells it: 32 hexadecimal digits
 * with hyphens between some of them. */
#ifndef SHMETA_BASE_BOOT_ID_TEXT_H
#define SHMETA_BASE_BOOT_ID_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/hex.h"

/* false: fewer digits; those that are there are in ret, zeros behind them. */
static inline bool shmeta__boot_id_parse(const char *text, size_t bytes, uint8_t ret[16])
{
	size_t digits = 0;

	memset(ret, 0, 16);
	for (size_t i = 0; i < bytes && digits < 32; i++) {
		int digit = shmeta__hex_value(text[i]);

		if (digit < 0)
			continue;
		ret[digits / 2] = (uint8_t)(ret[digits / 2] << 4 | digit);
		digits++;
	}
	return digits == 32;
}

#endif
