/* SPDX-License-Identifier: Apache-2.0
 * Building blocks: rows go into a builder until a block is full, and out encoded. */
#ifndef SHMETA_SHM_INDEX_BUILDER_H
#define SHMETA_SHM_INDEX_BUILDER_H

#include "shm/index/block.h"
#include "shm/index/row_template.h"

enum { SHMETA_POOL_STRINGS = 2048, SHMETA_POOL_CHAINS = 256 };

/* Rows on their way into a block: values as they are, strings as places in the pool, and what they
 * would take encoded. */
struct shmeta__builder {
	uint64_t (*rows)[SHMETA_FIELDS];
	uint32_t count, capacity;
	uint32_t stride;
	uint32_t pool_bytes;
	uint64_t low[SHMETA_FIELDS], high[SHMETA_FIELDS]; /* as signed numbers */
	uint8_t width[SHMETA_FIELDS];
	struct { /* the pool's strings that this kind of string had last: tried before a template is
                  * derived anew */
		uint16_t literal, pattern;
	} recent[SHMETA_STRINGS];
	uint32_t string_count;
	uint16_t chains[SHMETA_POOL_CHAINS]; /* 1 + index of the newest string with that hash */
	struct {
		uint16_t at, next;
	} strings[SHMETA_POOL_STRINGS];
	uint8_t pool[SHMETA_BLOCK_BYTES];
};

enum shmeta__build { SHMETA_BUILD_ADDED, SHMETA_BUILD_NO_ROOM, SHMETA_BUILD_NO_MEMORY };

void shmeta__builder_reset(struct shmeta__builder *builder);
void shmeta__builder_free(struct shmeta__builder *builder);
/* Add a row beyond all others. NO_ROOM: it does not fit, nothing has changed. values: _part() was
 * called, _row() is done here. */
enum shmeta__build shmeta__builder_add(struct shmeta__builder *builder, const struct shmeta_segment *segment,
                                       struct shmeta__values *values);
/* The same with a row of a block of the same partition. NO_MEMORY with *ret_corrupt 1: the row's
 * strings are corrupt. */
enum shmeta__build shmeta__builder_copy(struct shmeta__builder *builder, const uint8_t *bytes, size_t readable,
                                        const struct shmeta__block *block, uint32_t row, int *ret_corrupt);
size_t shmeta__builder_bytes(const struct shmeta__builder *builder);
/* Encode count > 0 rows to out (shmeta__builder_bytes()), without a checksum; fill all of *ret but
 * id and locator. */
void shmeta__builder_encode(const struct shmeta__builder *builder, uint64_t key, uint64_t id, uint8_t *out,
                            struct shmeta_part_entry *ret);

/* Put a row behind the last of an encoded tail of *size bytes (capacity SHMETA_BLOCK_BYTES) and
 * adjust its entry, if the row fits the widths that are there and its strings are spelled like the
 * last row's. 0: it does not, nothing has changed. */
int shmeta__block_append(uint8_t *bytes, size_t *size, struct shmeta_part_entry *entry,
                         const struct shmeta_segment *segment, struct shmeta__values *values);

#endif
