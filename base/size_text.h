/* SPDX-License-Identifier: Apache-2.0
 * A number of bytes in the unit that says something: "812 bytes", "13.5 MiB". */
#ifndef SHMETA_BASE_SIZE_TEXT_H
#define SHMETA_BASE_SIZE_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SIZE_TEXT_BYTES = 24 };

static inline const char *size_text(uint64_t bytes, char ret[SIZE_TEXT_BYTES])
{
	static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	size_t u = 0;

	for (; v >= 1024 && u < 4; u++)
		v /= 1024;
	(void)snprintf(ret, SIZE_TEXT_BYTES, u == 0 ? "%.0f %s" : "%.1f %s", v, unit[u]);
	return ret;
}

#endif
