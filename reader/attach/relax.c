/* SPDX-License-Identifier: Apache-2.0
 * Pausing between two tries. A file of its own, so that a test program can put its own pause in
 * place of this one. */
#include "reader/attach/attach.h"

void shmeta__relax(unsigned tries)
{
	for (unsigned i = 0; i < (tries < 64 ? tries : 64); i++) {
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#elif defined(__aarch64__)
		__asm__ volatile("yield");
#else
		__asm__ volatile("");
#endif
	}
}
