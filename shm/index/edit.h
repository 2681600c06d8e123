/* SPDX-License-Identifier: Apache-2.0
 * A partition being changed, as the files of the edit share it. edit_pages.c is below the others:
 * block entries, directory pages, sealing. Above it edit_rows.c puts rows into builders and
 * appends, and part_edit.c opens and encodes; edit_replace.c, on top, replaces a range. */
#ifndef SHMETA_SHM_INDEX_EDIT_H
#define SHMETA_SHM_INDEX_EDIT_H

#include "shm/index/builder.h"

enum {
	EDIT_HEAD_BYTES = sizeof(struct shmeta_part_head),
	EDIT_ENTRY_BYTES = sizeof(struct shmeta_part_entry),
	EDIT_DIR_BYTES = sizeof(struct shmeta_part_dir)
};

struct entries {
	struct shmeta_part_entry *at;
	size_t count, capacity;
};

struct dir_page {
	struct shmeta_part_entry entry; /* as it will be in the head */
	struct entries entries;         /* those in use, when loaded */
	int loaded;
	int dirty; /* the page must be written anew */
};

struct shmeta__part_edit {
	uint64_t key;
	struct shmeta__pager pager;
	struct shmeta_part_head head;
	struct shmeta_part_window window; /* from 0: none */
	struct dir_page *dirs;
	size_t dir_count, dir_capacity;
	struct entries blocks;               /* the tail's not included */
	struct shmeta_part_entry tail_entry; /* rows 0: there is no tail; meaningful while
                                              * !tail_built */
	size_t tail_size;
	int tail_built; /* the tail is in `tail` */
	int rewritten;  /* something but appending and dropping from the front was done */
	struct shmeta__builder *tail, *work;
	struct shmeta__values values;
	char topic[SHMETA_NAME_MAX];
	uint8_t *out;
	size_t out_capacity;
	uint8_t tail_bytes[SHMETA_BLOCK_BYTES]; /* the old head's tail and what could be put behind
                                                 * it; while !tail_built */
	uint8_t scratch[SHMETA_BLOCK_BYTES];    /* a copy of the block being read: the pager's views
                                              * may move */
	struct shmeta__builder builders[2];
};

enum shmeta_status shmeta__edit_no_memory(struct shmeta_err *err);

enum shmeta_status shmeta__edit_corrupt(const struct shmeta__part_edit *edit, struct shmeta_err *err, const char *what);

int shmeta__edit_push_entry(struct entries *entries, const struct shmeta_part_entry *entry);

struct dir_page *shmeta__edit_push_dir(struct shmeta__part_edit *edit, size_t at);

enum shmeta_status shmeta__edit_release(struct shmeta__part_edit *edit, uint64_t id, struct shmeta_err *err);

enum shmeta_status shmeta__edit_fetch_block(struct shmeta__part_edit *edit, const struct shmeta_part_entry *entry,
                                            struct shmeta__block *ret, struct shmeta_err *err);

/* The sum of some entries: what their directory page's entry says of them. */
struct shmeta_part_entry shmeta__edit_sum_of(const struct shmeta_part_entry *entries, size_t count);

enum shmeta_status shmeta__edit_load_dir(struct shmeta__part_edit *edit, struct dir_page *page, struct shmeta_err *err);

/* Write a directory page for these entries; *ret is its entry. */
enum shmeta_status shmeta__edit_write_dir(struct shmeta__part_edit *edit, const struct shmeta_part_entry *entries,
                                          size_t count, struct shmeta_part_entry *ret, struct shmeta_err *err);

/* Move the oldest entries of the head to directory pages, while there are more than one page of
 * them. */
enum shmeta_status shmeta__edit_fold(struct shmeta__part_edit *edit, struct shmeta_err *err);

/* Turn a builder's rows into a block and forget them. */
enum shmeta_status shmeta__edit_seal(struct shmeta__part_edit *edit, struct shmeta__builder *builder,
                                     struct entries *out, struct shmeta_err *err);

enum shmeta_status shmeta__edit_add_row(struct shmeta__part_edit *edit, struct shmeta__builder *builder,
                                        const struct shmeta_segment *row, struct entries *out, struct shmeta_err *err);

enum shmeta_status shmeta__edit_copy_row(struct shmeta__part_edit *edit, struct shmeta__builder *builder,
                                         const uint8_t *bytes, size_t readable, const struct shmeta__block *block,
                                         uint32_t row, struct entries *out, struct shmeta_err *err);

enum shmeta_status shmeta__edit_check_rows(uint64_t from, uint64_t to, const struct shmeta_segment *rows, size_t count,
                                           struct shmeta_err *err);

/* The largest base there is. *ret_any 0: no row at all. */
enum shmeta_status shmeta__edit_last_base(struct shmeta__part_edit *edit, int *ret_any, uint64_t *ret,
                                          struct shmeta_err *err);

enum shmeta_status shmeta__edit_append(struct shmeta__part_edit *edit, const struct shmeta_segment *rows, size_t count,
                                       struct shmeta_err *err);

#endif
