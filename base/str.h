/* SPDX-License-Identifier: Apache-2.0
 * Strings that carry their length. data may be NULL where there are no bytes. */
#ifndef SHMETA_BASE_STR_H
#define SHMETA_BASE_STR_H

#include <stdbool.h>
#include <string.h>

#include "include/shmeta.h"

static inline bool str_equal(struct shmeta_str a, struct shmeta_str b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

static inline bool str_is(struct shmeta_str a, const char *text)
{
	return str_equal(a, (struct shmeta_str){text, strlen(text)});
}

#endif
