/* SPDX-License-Identifier: Apache-2.0
 * Reading bytes that may change while they are read: pages of the map under a reader whose snapshot
 * is not protected, and pages that were damaged. A number from such a page that bounds another
 * access is read once, and the number that was judged is the number that is used: without the
 * barriers below the compiler may load it a second time. */
#ifndef SHMETA_BASE_ONCE_H
#define SHMETA_BASE_ONCE_H

#include <stdint.h>
#include <string.h>

/* The value as it was loaded, not to be loaded again. */
static inline uint64_t shmeta__once64(uint64_t v)
{
	__asm__("" : "+r"(v));
	return v;
}
static inline uint32_t shmeta__once32(uint32_t v)
{
	__asm__("" : "+r"(v));
	return v;
}
/* Copy; the compiler cannot read the original again. */
static inline void shmeta__copy_once(void *to, const void *from, size_t bytes)
{
	memcpy(to, from, bytes);
	__asm__ volatile("" : : "r"(to) : "memory");
}

#endif
