/* SPDX-License-Identifier: Apache-2.0
 * Rows that make trees of several levels, and the file that they are in. */
#ifndef SHMETA_TESTS_SUPPORT_TREE_ROWS_H
#define SHMETA_TESTS_SUPPORT_TREE_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/fake_writer.h"

/* Between fake_begin() and fake_commit(): topic i with a partition of so many segments and its
 * lease; or a group with an offset, too. */
void tree_topic(struct fake_writer *w, int i, size_t segments, bool group);
void tree_delete_topic(struct fake_writer *w, int i);
/* The data.mdb of generation 1, twice, each in memory of exactly its size, so that a sanitizer sees
 * a read beyond it. What *ret and *ret_good point to is freed first; afterwards it is the caller's.
 * Returns the size. */
size_t tree_read_file(const struct fake_writer *w, uint8_t **ret, uint8_t **ret_good);

#endif
