/* SPDX-License-Identifier: Apache-2.0
 * The segment index of one partition: a head (the value in PARTS), sealed blocks and directory pages (values in BLOCKS).
 *
 *   head:  fixed fields | directory entries, oldest first | tail: the newest rows, not sealed yet
 *   block: up to a page of sealed rows; immutable; dropped from the front, added at the end, rewritten whole otherwise
 *   directory page: SHMETA_DIR_FANOUT block entries that were moved out of the head, so that a head stays small
 *
 * Rows (struct shmeta_segment) are encoded row-major with per-block biases and widths (frame of reference): a StreamHouse-shaped
 * segment takes 14-18 bytes, and a floor search that interpolates ends in the cache line that holds the record. Strings are
 * templates in the block's pool ("data/\1/\2/\4.seg": \1 topic, \2 partition, \3 base, \4 base as %020, \5 end), so a string
 * that follows the field's conventions costs nothing and an odd one costs its own bytes.
 *
 * Reading is pure: it takes bytes and a map, never fails otherwise than by SHMETA_ERR_CORRUPT, and never reads outside the
 * bytes it was given or the map. Writing goes through a pager, so that it can be tested without LMDB.
 */
#ifndef SHMETA_SHM_PART_H
#define SHMETA_SHM_PART_H

#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "shm/err.h"

enum {
	SHMETA_BLOCK_BYTES = 4096 - 16, /* a block fills one LMDB overflow page exactly                           */
	SHMETA_HEAD_PINNED = 1024,      /* a head of this size or more is padded onto pages of its own, so that its
					 * address outlives commits that do not touch it                          */
	SHMETA_HEAD_PADDED = 4096 - 16, /* ... to this size at least, 4096 * k - 16 in general                    */
	SHMETA_DIR_FANOUT = 96
};

/* ---- reading ---------------------------------------------------------------------------------------------------------- */

/* The map that locators speak of. A locator is a page number: its bytes begin at base + locator * page_bytes + 16. */
struct shmeta__pages {
	const uint8_t *base;
	uint64_t bytes; /* readable from base on */
	uint32_t page_bytes;
};

/* What a partition handle remembers. Small enough to be embedded; `checked` says which blocks' checksums were verified. */
struct shmeta__part {
	const uint8_t *head;
	uint32_t head_bytes;
	uint32_t rewrites;      /* of the head when `checked` was begun                        */
	uint64_t key;           /* topic_id << 32 | partition                                  */
	uint64_t first_ordinal; /* of the head's first block                                   */
	struct shmeta__pages pages;
	uint64_t checked[4]; /* by ordinal % 256; reset when rewrites or ordinals say so     */
	uint64_t checked_dirs[2];
};

/* Open a head. part may hold an older state of the same partition (same key): then verified blocks stay verified. Zeroed memory
 * is a fresh one. The head's own checksum and every bound that later calls rely on are verified here. */
enum shmeta_status shmeta__part_open(struct shmeta__part *part, uint64_t key, const void *head, size_t head_bytes,
                                     const struct shmeta__pages *pages);

void shmeta__part_record(const struct shmeta__part *part, struct shmeta_partition *ret);
uint64_t shmeta__part_synced_at_ns(const struct shmeta__part *part);
uint32_t shmeta__part_ttl_ms(const struct shmeta__part *part); /* 0: the class's */

/* As the public functions of the same names say (strings left empty, locator set). OK, ABSENT_*, ERR_CORRUPT. */
enum shmeta_status shmeta__part_find(struct shmeta__part *part, uint64_t offset, struct shmeta_segment *ret);
enum shmeta_status shmeta__part_find_timestamp(struct shmeta__part *part, int64_t timestamp_ms,
                                               struct shmeta_segment *ret);
enum shmeta_status shmeta__part_last(struct shmeta__part *part, struct shmeta_segment *ret);

/* Rows in ascending order of base that overlap [from, to]; both inclusive. */
struct shmeta__part_cursor {
	uint64_t from, to;
	uint64_t entry; /* position: directory entry, entry within a directory page, row */
	uint32_t sub, row;
};
enum shmeta_status shmeta__part_seek(struct shmeta__part *part, uint64_t from, uint64_t to,
                                     struct shmeta__part_cursor *ret);
enum shmeta_status shmeta__part_next(struct shmeta__part *part, struct shmeta__part_cursor *cursor,
                                     struct shmeta_segment *ret); /* OK, END, ERR_CORRUPT */

/* Spell the strings of a row that a lookup of this part gave. ERR_BUFFER, ERR_CORRUPT. Each string is terminated by NUL. */
enum shmeta_status shmeta__part_strings(struct shmeta__part *part, const char *topic, size_t topic_bytes,
                                        struct shmeta_segment *segment, char *buffer, size_t bytes);

/* Verify everything: checksums of head, directory pages and blocks, order, bounds, counts, sums, maxima. */
enum shmeta_status shmeta__part_verify(struct shmeta__part *part, struct shmeta_err *err);

/* Every block id (blocks and directory pages) that the part refers to, for the leak check of `verify`. */
enum shmeta_status shmeta__part_blocks(struct shmeta__part *part,
                                       void (*each)(void *arg, uint64_t block_id, uint64_t locator), void *arg);

/* ---- writing ---------------------------------------------------------------------------------------------------------- */

/* Where blocks go. Implemented by the store on LMDB and by tests on the heap. Every call may fail with ERR_FULL. */
struct shmeta__pager {
	void *arg;
	/* A block of `bytes` (4096 * k - 16) bytes to be filled before the next call; its id is never used again. */
	enum shmeta_status (*alloc)(void *arg, size_t bytes, uint64_t *ret_id, uint64_t *ret_locator, void **ret_block);
	enum shmeta_status (*release)(void *arg, uint64_t id);
	/* The block's bytes, for reading, as they are now (also within the transaction that wrote them). */
	enum shmeta_status (*at)(void *arg, uint64_t id, const void **ret_block, size_t *ret_bytes);
};

/* A partition being changed: decoded from a head (head == NULL: a new one), changed, encoded into a new head. */
struct shmeta__part_edit;

enum shmeta_status shmeta__part_edit_new(uint64_t key, const char *topic, size_t topic_bytes, const void *head,
                                         size_t head_bytes, const struct shmeta__pager *pager,
                                         struct shmeta__part_edit **ret, struct shmeta_err *err);
void shmeta__part_edit_free(struct shmeta__part_edit *edit); /* accepts NULL */

/* The source's row: high watermark, created_at, updated_at are taken, the rest of *record is ignored.
 * Returns 1 when something differed from what the head held. */
int shmeta__part_edit_record(struct shmeta__part_edit *edit, const struct shmeta_partition *record);
void shmeta__part_edit_stamp(struct shmeta__part_edit *edit, uint64_t synced_at_ns, uint32_t ttl_ms);

/* Make the rows with from <= base_offset <= to be exactly rows[0..count) (ascending by base, no base twice, all within
 * [from, to]). Only what differs is rewritten: appended rows touch the tail and now and then seal a block, rows dropped from the
 * front release blocks, equal rows cost a comparison. *ret_changed: rows added + removed + altered. */
enum shmeta_status shmeta__part_edit_replace(struct shmeta__part_edit *edit, uint64_t from, uint64_t to,
                                             const struct shmeta_segment *rows, size_t count, uint64_t *ret_changed,
                                             struct shmeta_err *err);

/* For loading: rows in ascending order, beyond every row the part has. As replace(), without reading back. */
enum shmeta_status shmeta__part_edit_append(struct shmeta__part_edit *edit, const struct shmeta_segment *rows,
                                            size_t count, struct shmeta_err *err);

/* The new head: *ret_head lives until the edit is freed. */
enum shmeta_status shmeta__part_edit_encode(struct shmeta__part_edit *edit, const void **ret_head, size_t *ret_bytes,
                                            struct shmeta_err *err);

/* Release every block (the partition is being deleted). */
enum shmeta_status shmeta__part_edit_drop(struct shmeta__part_edit *edit, struct shmeta_err *err);

#endif
