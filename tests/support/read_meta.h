/* SPDX-License-Identifier: Apache-2.0
 * Acting between the copy of a commit's roots and what the reader does next. A test program that
 * includes this, in one file, has its own shmeta__tree_read_meta(): the real one, and the hook
 * behind it. */
#ifndef SHMETA_TESTS_SUPPORT_READ_META_H
#define SHMETA_TESTS_SUPPORT_READ_META_H

#include "shm/tree/tree.h"

static enum shmeta_status real_tree_meta(const uint8_t *base, uint64_t txn, struct shmeta__tree_meta *ret,
                                         uint64_t *ret_newest, struct shmeta_err *err);
#define shmeta__tree_read_meta real_tree_meta
#include "shm/tree/tree_meta.c"
#undef shmeta__tree_read_meta

/* NULL: nothing. txn: the commit that was asked for; roots: what was found, if anything. */
static void (*on_read_meta)(uint64_t txn, struct shmeta__tree_meta *roots);

enum shmeta_status shmeta__tree_read_meta(const uint8_t *base, uint64_t txn, struct shmeta__tree_meta *ret,
                                          uint64_t *ret_newest, struct shmeta_err *err)
{
	enum shmeta_status status = real_tree_meta(base, txn, ret, ret_newest, err);

	if (on_read_meta != NULL)
		on_read_meta(txn, ret);
	return status;
}

#endif
