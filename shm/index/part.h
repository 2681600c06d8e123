/* SPDX-License-Identifier: Apache-2.0
 * The segment index of one partition: a head (the value in PARTS), sealed blocks and directory
 * pages (values in BLOCKS).
 *
 *   head: fixed fields | entries: directory pages, then blocks, oldest first, the tail's last |
 *   tail: the newest rows, unsealed
 *   block: up to a page of sealed rows; immutable; dropped from the front, added at the end,
 *   rewritten whole otherwise directory page: SHMETA_DIR_FANOUT block entries that were moved out
 *   of the head, so that a head stays small
 *
 * Rows (struct shmeta_segment) are encoded row-major with per-block biases and widths (frame of
 * reference): a StreamHouse-shaped segment takes 12-18 bytes, and a floor search that interpolates
 * ends in the cache line that holds the record. Strings are templates in the block's pool
 * ("data/\1/\2/\4.seg": \1 topic, \2 partition, \3 base, \4 base as %020, \5 end), so a string that
 * follows the field's conventions costs nothing and an odd one costs its own bytes. docs/LAYOUT.md
 * has the tables.
 *
 * Reading is pure: it takes bytes and a map, never fails otherwise than by SHMETA_ERR_CORRUPT, and
 * never reads outside the bytes it was given or the map. Writing goes through a pager, so that it
 * can be tested without LMDB. */
#ifndef SHMETA_SHM_INDEX_PART_H
#define SHMETA_SHM_INDEX_PART_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "include/shmeta.h"
#include "shm/page/frozen.h"

enum {
	SHMETA_BLOCK_BYTES = 4096 - 16, /* a block fills one LMDB overflow page exactly */
	SHMETA_HEAD_PINNED = 1024,      /* a head of this size or more, or one that refers to any
                                         * block, is padded onto pages of its own, so that its
                                         * address outlives commits that do not touch it */
	SHMETA_HEAD_PADDED = 4096 - 16, /* ... to this size at least, 4096 * k - 16 in general */
	SHMETA_DIR_FANOUT = 63          /* entries in a directory page: it fills one page exactly */
};

/* ---- layout ---- */

enum shmeta_part_flags {
	SHMETA_PART_OVERLAPS = 1u << 0, /* some row begins at or below the end of an earlier one */
	SHMETA_PART_WINDOW = 1u << 1    /* older rows are not here: struct shmeta_part_window
                                         * follows the head */
};

/* The value in PARTS. Fields are read by memcpy: a small head may lie at any address. */
struct shmeta_part_head {
	uint64_t checksum;       /*   0  XXH3 with the part's key as seed, over all bytes of the value from 8 on */
	uint64_t synced_at_ns;   /*   8  as struct shmeta_record_head */
	uint32_t ttl_ms;         /*  16  0: the class's */
	uint16_t kind;           /*  20  SHMETA_RECORD_PARTITION */
	uint16_t reserved;       /*  22 */
	uint32_t flags;          /*  24  enum shmeta_part_flags */
	uint32_t rewrites;       /*  28  counts changes other than appending and dropping from the front */
	uint64_t high_watermark; /*  32  as the source says */
	int64_t created_at_ms;   /*  40  as the source says */
	int64_t updated_at_ms;   /*  48  as the source says */
	uint64_t segment_count;  /*  56  sum over the entries */
	uint64_t size_bytes;     /*  64  sum over the entries */
	uint64_t max_end;        /*  72  largest end_offset; 0 when there is no segment */
	uint64_t block_slope;    /*  80  entries per offset * 2^64, over the head's block entries */
	uint64_t dir_slope;      /*  88  the same over its directory entries */
	uint32_t first_block;    /*  96  ordinal of the head's first block entry: counts up as blocks leave it */
	uint32_t first_dir;      /* 100  ordinal of its first directory page */
	uint32_t dirs;           /* 104  directory entries */
	uint16_t blocks;         /* 108  block entries, the tail's included */
	uint16_t entries_at;     /* 110  where the entries begin; the tail follows them */
};
SHMETA_FROZEN(shmeta_part_head, checksum, 0);
SHMETA_FROZEN(shmeta_part_head, synced_at_ns, 8);
SHMETA_FROZEN(shmeta_part_head, ttl_ms, 16);
SHMETA_FROZEN(shmeta_part_head, kind, 20);
SHMETA_FROZEN(shmeta_part_head, reserved, 22);
SHMETA_FROZEN(shmeta_part_head, flags, 24);
SHMETA_FROZEN(shmeta_part_head, rewrites, 28);
SHMETA_FROZEN(shmeta_part_head, high_watermark, 32);
SHMETA_FROZEN(shmeta_part_head, created_at_ms, 40);
SHMETA_FROZEN(shmeta_part_head, updated_at_ms, 48);
SHMETA_FROZEN(shmeta_part_head, segment_count, 56);
SHMETA_FROZEN(shmeta_part_head, size_bytes, 64);
SHMETA_FROZEN(shmeta_part_head, max_end, 72);
SHMETA_FROZEN(shmeta_part_head, block_slope, 80);
SHMETA_FROZEN(shmeta_part_head, dir_slope, 88);
SHMETA_FROZEN(shmeta_part_head, first_block, 96);
SHMETA_FROZEN(shmeta_part_head, first_dir, 100);
SHMETA_FROZEN(shmeta_part_head, dirs, 104);
SHMETA_FROZEN(shmeta_part_head, blocks, 108);
SHMETA_FROZEN(shmeta_part_head, entries_at, 110);
SHMETA_FROZEN_SIZE(shmeta_part_head, 112);

/* Behind the head where SHMETA_PART_WINDOW is set: what is known of the rows that are not resident,
 * as it was when they left. */
struct shmeta_part_window {
	uint64_t from;            /*  0  rows with this base or a higher one are all here, no others */
	uint64_t max_end;         /*  8  largest end_offset below; UINT64_MAX: not known */
	uint64_t log_start;       /* 16  base of the first row below */
	uint64_t segment_count;   /* 24  rows below */
	uint64_t size_bytes;      /* 32  sum over them */
	int64_t max_timestamp_ms; /* 40  largest below */
	uint64_t reserved[2];     /* 48 */
};
SHMETA_FROZEN(shmeta_part_window, from, 0);
SHMETA_FROZEN(shmeta_part_window, max_end, 8);
SHMETA_FROZEN(shmeta_part_window, log_start, 16);
SHMETA_FROZEN(shmeta_part_window, segment_count, 24);
SHMETA_FROZEN(shmeta_part_window, size_bytes, 32);
SHMETA_FROZEN(shmeta_part_window, max_timestamp_ms, 40);
SHMETA_FROZEN(shmeta_part_window, reserved, 48);
SHMETA_FROZEN_SIZE(shmeta_part_window, 64);

enum shmeta_part_entry_flags {
	SHMETA_ENTRY_DIR = 1u << 0,        /* of a directory page */
	SHMETA_ENTRY_OVERLAPS = 1u << 1,   /* rows below it overlap one another */
	SHMETA_ENTRY_TIME_SORTED = 1u << 2 /* max_timestamp_ms never decreases from row to row
                                            * (block only) */
};

/* One block, the tail or a directory page. One cache line where the head or page has pages of its
 * own. */
struct shmeta_part_entry {
	uint64_t base;            /*  0  base_offset of its first row */
	uint64_t max_end;         /*  8  largest end_offset below it */
	uint64_t slope;           /* 16  rows (directory page: entries) per offset * 2^64 */
	uint64_t size_bytes;      /* 24  sum over its rows */
	int64_t max_timestamp_ms; /* 32  largest below it */
	uint64_t id;              /* 40  key in BLOCKS; 0: the tail */
	uint32_t locator;         /* 48  0: the tail */
	uint32_t rows;            /* 52  segments below it */
	uint16_t flags;           /* 56  enum shmeta_part_entry_flags */
	uint8_t stride;           /* 58  bytes of a row */
	uint8_t base_width;       /* 59  bytes of a row's base */
	uint8_t first;            /* 60  directory page: its first entry in use; those before it were dropped */
	uint8_t count;            /* 61  directory page: entries in use */
	uint16_t reserved;        /* 62 */
};
SHMETA_FROZEN(shmeta_part_entry, base, 0);
SHMETA_FROZEN(shmeta_part_entry, max_end, 8);
SHMETA_FROZEN(shmeta_part_entry, slope, 16);
SHMETA_FROZEN(shmeta_part_entry, size_bytes, 24);
SHMETA_FROZEN(shmeta_part_entry, max_timestamp_ms, 32);
SHMETA_FROZEN(shmeta_part_entry, id, 40);
SHMETA_FROZEN(shmeta_part_entry, locator, 48);
SHMETA_FROZEN(shmeta_part_entry, rows, 52);
SHMETA_FROZEN(shmeta_part_entry, flags, 56);
SHMETA_FROZEN(shmeta_part_entry, stride, 58);
SHMETA_FROZEN(shmeta_part_entry, base_width, 59);
SHMETA_FROZEN(shmeta_part_entry, first, 60);
SHMETA_FROZEN(shmeta_part_entry, count, 61);
SHMETA_FROZEN(shmeta_part_entry, reserved, 62);
SHMETA_FROZEN_SIZE(shmeta_part_entry, 64);

/* A directory page: this, then SHMETA_DIR_FANOUT entries, unused ones zero. */
struct shmeta_part_dir {
	uint64_t checksum;    /*  0  XXH3 over the page's bytes from 8 on */
	uint64_t key;         /*  8  of the partition */
	uint64_t id;          /* 16  its own key in BLOCKS */
	uint32_t entries;     /* 24  in it, dropped ones included */
	uint32_t reserved0;   /* 28 */
	uint64_t reserved[2]; /* 32 */
};
SHMETA_FROZEN(shmeta_part_dir, checksum, 0);
SHMETA_FROZEN(shmeta_part_dir, key, 8);
SHMETA_FROZEN(shmeta_part_dir, id, 16);
SHMETA_FROZEN(shmeta_part_dir, entries, 24);
SHMETA_FROZEN(shmeta_part_dir, reserved0, 28);
SHMETA_FROZEN(shmeta_part_dir, reserved, 32);
SHMETA_FROZEN_SIZE(shmeta_part_dir, 48);
_Static_assert(sizeof(struct shmeta_part_dir) + SHMETA_DIR_FANOUT * sizeof(struct shmeta_part_entry) ==
                       SHMETA_BLOCK_BYTES,
               "a directory page fills a page");

/* ---- reading ---- */

/* The map that locators speak of. A locator is a page number: its bytes begin at base + locator *
 * page_bytes + 16. */
struct shmeta__pages {
	const uint8_t *base;
	uint64_t bytes; /* readable from base on */
	uint32_t page_bytes;
	struct shmeta__verified *verified; /* what the process has verified of this store; NULL:
                                            * nobody remembers */
};

/* The row that was found last, decoded: one cache line. A consumer asks for offsets of one segment
 * several times before it asks for the next. */
struct shmeta__part_hit {
	uint64_t base, end; /* base > end: none */
	uint64_t size_bytes;
	int64_t created_at_ms, min_timestamp_ms, max_timestamp_ms;
	uint32_t record_count;
	uint32_t locator, row_at; /* of struct shmeta_segment's locator */
	uint32_t reserved;
};

/* What a partition handle remembers: a copy of what a lookup needs of the head, and which blocks'
 * checksums were verified. Small enough to be embedded. Zeroed memory is a fresh one;
 * shmeta__part_close() ends it. Its fields are part.c's own. */
struct shmeta__part {
	const uint8_t *blocks; /* the head's block entries, the tail's last */
	uint64_t block_base;   /* base of the first of them; UINT64_MAX when there is none */
	uint64_t block_slope;
	uint32_t block_count;
	uint32_t flags;
	struct shmeta__pages pages;
	uint32_t last_page; /* the last that is there as a whole */
	uint32_t first_block;
	uint64_t checked[2]; /* blocks in the head, by ordinal % 128 */
	uint64_t key;        /* topic_id << 32 | partition */
	const uint8_t *tail;
	uint32_t tail_bytes; /* readable from tail on */
	uint32_t ttl_ms;
	uint64_t synced_at_ns;
	/* Up to here: two cache lines, all that finding a row in the head's blocks touches. */
	const uint8_t *head;
	uint32_t head_bytes;
	uint32_t rewrites;
	const uint8_t *dirs;
	uint64_t dir_base;
	uint64_t dir_slope;
	uint32_t dir_count;
	uint32_t first_dir;
	uint32_t reserved;
	uint32_t dir_words;     /* power of two: words in use of dir_inline or dir_heap */
	uint64_t dir_inline[4]; /* a word for each directory page by ordinal: bit 63 the page, the
                                 * others its blocks */
	uint64_t *dir_heap;     /* the same, for more pages than fit inline */
	/* A line of its own in a handle, whose alignment is a line and in which this stands 32
	 * bytes behind one. */
	uint64_t spare;
	struct shmeta__part_hit last;
};

/* Open a head. part may hold an older state of the same partition (same key): then verified blocks
 * stay verified. Zeroed memory is a fresh one. The head's own checksum and every bound that later
 * calls rely on are verified here. After ERR_CORRUPT the part may only be opened again or closed.
 * Allocates for partitions of more than 4 directory pages (some 80 000 segments); without memory it
 * works all the same and verifies again at every touch. */
enum shmeta_status shmeta__part_open(struct shmeta__part *part, uint64_t key, const void *head, size_t head_bytes,
                                     const struct shmeta__pages *pages);
/* The same for a head whose checksum was verified by this process and that has not been written
 * since. Bounds are verified as ever. */
enum shmeta_status shmeta__part_reopen(struct shmeta__part *part, uint64_t key, const void *head, size_t head_bytes,
                                       const struct shmeta__pages *pages);
/* Frees what open allocated; part is zeroed memory again. Accepts NULL. */
void shmeta__part_close(struct shmeta__part *part);

void shmeta__part_record(const struct shmeta__part *part, struct shmeta_partition *ret);
uint64_t shmeta__part_synced_at_ns(const struct shmeta__part *part);
uint32_t shmeta__part_ttl_ms(const struct shmeta__part *part); /* 0: the class's */
uint64_t shmeta__part_rows(const struct shmeta__part *part);   /* resident ones */
/* 1: older rows are not resident, and *ret says what is known of them; 0: all are. */
int shmeta__part_window(const struct shmeta__part *part, struct shmeta_part_window *ret);
/* What a head takes of the store, with the pages that it refers to; head: a value of PARTS as its
 * writer has it. */
uint64_t shmeta__part_footprint(const void *head, size_t bytes);
/* The window that is left when the oldest blocks go, as few of them as have min_bytes of pages (a
 * part of a page for the tail). OK; ABSENT: the part has no rows; ERR_CORRUPT. */
enum shmeta_status shmeta__part_narrow(struct shmeta__part *part, uint64_t min_bytes, struct shmeta_part_window *ret);

/* As the public functions of the same names say (strings left empty, locator set). OK, ABSENT_*,
 * UNKNOWN where a row that is not resident may be the one, ERR_CORRUPT. Which ABSENT, where the
 * source contradicts itself: below the log start first, then at or beyond the high watermark, then
 * gap. */
enum shmeta_status shmeta__part_find(struct shmeta__part *part, uint64_t offset, struct shmeta_segment *ret);
/* Remember what shmeta__part_find() found, until the part is opened again. Where rows overlap, the
 * row that has an offset is not the answer for each of its offsets: then nothing is remembered. */
static inline void shmeta__part_keep(struct shmeta__part *part, const struct shmeta_segment *found)
{
	struct shmeta__part_hit *last = &part->last;

	if (part->flags & SHMETA_PART_OVERLAPS)
		return;
	last->base = found->base_offset;
	last->end = found->end_offset;
	last->size_bytes = found->size_bytes;
	last->created_at_ms = found->created_at_ms;
	last->min_timestamp_ms = found->min_timestamp_ms;
	last->max_timestamp_ms = found->max_timestamp_ms;
	last->record_count = found->record_count;
	last->locator = (uint32_t)found->locator[0];
	last->row_at = (uint32_t)found->locator[1];
}
/* The same answer for an offset of the row that is remembered: 1. Otherwise 0, and *ret is
 * untouched. */
static inline int shmeta__part_find_again(const struct shmeta__part *part, uint64_t offset, struct shmeta_segment *ret)
{
	const struct shmeta__part_hit *last = &part->last;

	if (offset < last->base || offset > last->end)
		return 0;
	ret->base_offset = last->base;
	ret->end_offset = last->end;
	ret->size_bytes = last->size_bytes;
	ret->created_at_ms = last->created_at_ms;
	ret->min_timestamp_ms = last->min_timestamp_ms;
	ret->max_timestamp_ms = last->max_timestamp_ms;
	ret->record_count = last->record_count;
	ret->partition_id = (uint32_t)part->key;
	/* As in give_row(): one after the other, not chained. */
	ret->id = (struct shmeta_str){NULL, 0};
	ret->s3_bucket = (struct shmeta_str){NULL, 0};
	ret->s3_key = (struct shmeta_str){NULL, 0};
	ret->locator[0] = last->locator;
	ret->locator[1] = last->row_at;
	ret->position = 0;
	return 1;
}
/* Before many finds: have the memory fetch what each will read, and go on with the next meanwhile.
 * First the entry; when that has arrived, the row. They answer nothing and change nothing. */
void shmeta__part_fetch_entry(const struct shmeta__part *part, uint64_t offset);
void shmeta__part_fetch_row(const struct shmeta__part *part, uint64_t offset);
void shmeta__part_fetch_record(const struct shmeta__part *part); /* before shmeta__part_record() */
enum shmeta_status shmeta__part_find_timestamp(struct shmeta__part *part, int64_t timestamp_ms,
                                               struct shmeta_segment *ret);
enum shmeta_status shmeta__part_last(struct shmeta__part *part, struct shmeta_segment *ret);
/* The resident row with the largest base below this one: OK, ABSENT, ERR_CORRUPT. */
enum shmeta_status shmeta__part_before(struct shmeta__part *part, uint64_t base, struct shmeta_segment *ret);

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

/* Bytes of all resident rows whose base is below the offset. Takes time in proportion to the
 * directory pages between the row and the nearer end, a page for 63 blocks. OK, ERR_CORRUPT. */
enum shmeta_status shmeta__part_bytes_below(struct shmeta__part *part, uint64_t offset, uint64_t *ret);
int shmeta__part_overlaps(const struct shmeta__part *part); /* 1: some row begins below the end of
                                                             * an earlier one */

/* Spell the strings of a row that a lookup of this part gave; found again by its base_offset.
 * ERR_BUFFER, ERR_CORRUPT, ERR_INVALID_ARGUMENT when the part has no such row. Each string is
 * terminated by NUL. */
enum shmeta_status shmeta__part_strings(struct shmeta__part *part, const char *topic, size_t topic_bytes,
                                        struct shmeta_segment *segment, char *buffer, size_t bytes);

/* Verify everything: checksums of head, directory pages and blocks, order, bounds, counts, sums,
 * maxima. */
enum shmeta_status shmeta__part_verify(struct shmeta__part *part, struct shmeta_err *err);

/* Every block id (blocks and directory pages) that the part refers to, for the leak check of
 * `verify`. */
enum shmeta_status shmeta__part_blocks(struct shmeta__part *part,
                                       void (*each)(void *arg, uint64_t block_id, uint64_t locator), void *arg);

/* ---- writing ---- */

/* Where blocks go. Implemented by the store on LMDB and by tests on the heap. Every call may fail
 * with ERR_FULL. */
struct shmeta__pager {
	void *arg;
	/* A block of `bytes` (4096 * k - 16) bytes to be filled before the next call; its id is
	 * never used again. */
	enum shmeta_status (*alloc)(void *arg, size_t bytes, uint64_t *ret_id, uint64_t *ret_locator, void **ret_block);
	enum shmeta_status (*release)(void *arg, uint64_t id);
	/* The block's bytes, for reading, as they are now (also within the transaction that wrote
	 * them). */
	enum shmeta_status (*at)(void *arg, uint64_t id, const void **ret_block, size_t *ret_bytes);
};

/* A partition being changed: decoded from a head (head == NULL: a new one), changed, encoded into a
 * new head. */
struct shmeta__part_edit;

enum shmeta_status shmeta__part_edit_new(uint64_t key, const char *topic, size_t topic_bytes, const void *head,
                                         size_t head_bytes, const struct shmeta__pager *pager,
                                         struct shmeta__part_edit **ret, struct shmeta_err *err);
void shmeta__part_edit_free(struct shmeta__part_edit *edit); /* accepts NULL */

/* The source's row: high watermark, created_at, updated_at are taken, the rest of *record is
 * ignored. Returns 1 when something differed from what the head held. */
int shmeta__part_edit_record(struct shmeta__part_edit *edit, const struct shmeta_partition *record);
void shmeta__part_edit_stamp(struct shmeta__part_edit *edit, uint64_t synced_at_ns, uint32_t ttl_ms);

/* Make the rows with from <= base_offset <= to be exactly rows[0..count) (ascending by base, no
 * base twice, all within [from, to]). Only what differs is rewritten: appended rows touch the tail
 * and now and then seal a block, rows dropped from the front release blocks, equal rows cost a
 * comparison. *ret_changed: rows added + removed + altered. */
enum shmeta_status shmeta__part_edit_replace(struct shmeta__part_edit *edit, uint64_t from, uint64_t to,
                                             const struct shmeta_segment *rows, size_t count, uint64_t *ret_changed,
                                             struct shmeta_err *err);

/* Rows below window->from leave, without being absent: the window says so from now on. NULL: all
 * rows that the source has are here, or are about to be put here. */
enum shmeta_status shmeta__part_edit_window(struct shmeta__part_edit *edit, const struct shmeta_part_window *window,
                                            struct shmeta_err *err);

/* For loading: rows in ascending order, beyond every row the part has. As replace(), without
 * reading back. */
enum shmeta_status shmeta__part_edit_append(struct shmeta__part_edit *edit, const struct shmeta_segment *rows,
                                            size_t count, struct shmeta_err *err);

/* The new head: *ret_head lives until the edit is freed. */
enum shmeta_status shmeta__part_edit_encode(struct shmeta__part_edit *edit, const void **ret_head, size_t *ret_bytes,
                                            struct shmeta_err *err);

/* Release every block (the partition is being deleted). */
enum shmeta_status shmeta__part_edit_drop(struct shmeta__part_edit *edit, struct shmeta_err *err);

#endif
