/* SPDX-License-Identifier: Apache-2.0
 * Every byte that two processes share has a place that the compiler checks. docs/LAYOUT.md lists
 * the same places; a test compares the two. */
#ifndef SHMETA_SHM_PAGE_FROZEN_H
#define SHMETA_SHM_PAGE_FROZEN_H

#include <stddef.h>

#define SHMETA_FROZEN(T, field, off) _Static_assert(offsetof(struct T, field) == (off), #T "." #field " moved")
#define SHMETA_FROZEN_SIZE(T, bytes) _Static_assert(sizeof(struct T) == (bytes), #T " changed its size")

#endif
