/* SPDX-License-Identifier: Apache-2.0
 * Hexadecimal digits. */
#ifndef SHMETA_BASE_HEX_H
#define SHMETA_BASE_HEX_H

#include <stddef.h>
#include <stdint.h>

/* Of either case; -1: it is no digit. */
static inline int shmeta__hex_value(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	                              : -1;
}

/* The lower four bits. */
static inline char shmeta__hex_digit(uint32_t value)
{
	return "0123456789abcdef"[value & 15];
}

/* ret: 2 * bytes + 1, terminated. */
static inline void shmeta__hex_write(char *ret, const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		*ret++ = shmeta__hex_digit(data[i] >> 4);
		*ret++ = shmeta__hex_digit(data[i]);
	}
	*ret = '\0';
}

/* Does a percent-encoded text begin with "%XX"? Then *ret is the byte that it stands for, and 3 is
 * returned; otherwise 0. */
static inline size_t shmeta__percent_read(const char *text, size_t bytes, char *ret)
{
	if (bytes < 3 || text[0] != '%' || shmeta__hex_value(text[1]) < 0 || shmeta__hex_value(text[2]) < 0)
		return 0;
	*ret = (char)(shmeta__hex_value(text[1]) << 4 | shmeta__hex_value(text[2]));
	return 3;
}

#endif
