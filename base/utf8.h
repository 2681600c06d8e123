/* SPDX-License-Identifier: Apache-2.0
 * UTF-8: the one decoder, for text from the source, from clients and from pages of the store. Total
 * on any bytes. */
#ifndef SHMETA_BASE_UTF8_H
#define SHMETA_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the character at p; 0 when none begins there: no overlong forms, no surrogates, at
 * most U+10FFFF. */
size_t shmeta__utf8_decode(const uint8_t *p, size_t bytes, uint32_t *ret_point);
bool shmeta__utf8_valid(const void *text, size_t bytes);

/* C0, DEL and C1. */
static inline bool shmeta__utf8_is_control(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0);
}

#endif
