/* SPDX-License-Identifier: Apache-2.0
 * Changing a partition's segment index.
 *
 * An edit holds the block entries in memory: those of a directory page as a group, loaded when it is first needed, those of the
 * head as the vector `leaves`. The tail is a builder, filled from the old head when it is first needed; until then the old bytes
 * are the tail. replace() streams the blocks that own a base in [from, to] through a second builder, `work`: a block that is
 * already what it should be stays, the others are released and their rows go on, with the new ones, into blocks that are sealed
 * when full. What is left when the stream meets an untouched block is sealed too, or, when less than half a page, takes that
 * block with it, so that blocks do not wear down to crumbs. What is left at the end is the tail. */
#include <stdlib.h>

#include "shm/index/block.h"
#include "shm/record/record.h"

enum {
	HEAD_BYTES = sizeof(struct shmeta_part_head),
	ENTRY_BYTES = sizeof(struct shmeta_part_entry),
	DIR_BYTES = sizeof(struct shmeta_part_dir)
};

struct entries {
	struct shmeta_part_entry *at;
	size_t count, capacity;
};

struct group {                        /* a directory page */
	struct shmeta_part_entry dir; /* as it will be in the head */
	struct entries entries;       /* those in use, when loaded */
	int loaded;
	int dirty; /* the page must be written anew */
};

struct shmeta__part_edit {
	uint64_t key;
	struct shmeta__pager pager;
	struct shmeta_part_head head;
	struct group *groups;
	size_t group_count, group_capacity;
	struct entries leaves;               /* the tail's not included */
	struct shmeta_part_entry tail_entry; /* rows 0: there is no tail; meaningful while !tail_built */
	size_t tail_size;
	int tail_built; /* the tail is in `tail` */
	int rewritten;  /* something but appending and dropping from the front was done */
	struct shmeta__builder *tail, *work;
	struct shmeta__values values;
	char topic[SHMETA_NAME_MAX];
	uint8_t *out;
	size_t out_capacity;
	uint8_t tail_bytes
		[SHMETA_BLOCK_BYTES]; /* the old head's tail and what could be put behind it; while !tail_built */
	uint8_t scratch[SHMETA_BLOCK_BYTES]; /* a copy of the block being read: the pager's views may move */
	struct shmeta__builder builders[2];
};

/* ---- small things ----------------------------------------------------------------------------------------------------- */

static enum shmeta_status no_memory(struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory while changing a partition's segment index");
}

static enum shmeta_status corrupt(const struct shmeta__part_edit *edit, struct shmeta_err *err, const char *what)
{
	return shmeta_fail(err, SHMETA_ERR_CORRUPT, "partition %u of topic id %u: %s", (uint32_t)edit->key,
	                   (uint32_t)(edit->key >> 32), what);
}

static enum shmeta_status pager_failed(const struct shmeta__part_edit *edit, enum shmeta_status status,
                                       struct shmeta_err *err, const char *what)
{
	return shmeta_fail(err, status, "partition %u of topic id %u: a block could not be %s: %s (%d)",
	                   (uint32_t)edit->key, (uint32_t)(edit->key >> 32), what,
	                   status == SHMETA_ERR_FULL ? "the store is full" : "the store failed", status);
}

static int push_entry(struct entries *entries, const struct shmeta_part_entry *entry)
{
	if (entries->count == entries->capacity) {
		size_t capacity = entries->capacity ? 2 * entries->capacity : 8;
		void *at = realloc(entries->at, capacity * sizeof *entries->at);

		if (!at)
			return 0;
		entries->at = at;
		entries->capacity = capacity;
	}
	entries->at[entries->count++] = *entry;
	return 1;
}

static void drop_front(struct entries *entries, size_t count)
{
	entries->count -= count;
	memmove(entries->at, entries->at + count, entries->count * sizeof *entries->at);
}

static struct group *push_group(struct shmeta__part_edit *edit, size_t at)
{
	if (edit->group_count == edit->group_capacity) {
		size_t capacity = edit->group_capacity ? 2 * edit->group_capacity : 8;
		void *groups = realloc(edit->groups, capacity * sizeof *edit->groups);

		if (!groups)
			return NULL;
		edit->groups = groups;
		edit->group_capacity = capacity;
	}
	memmove(edit->groups + at + 1, edit->groups + at, (edit->group_count - at) * sizeof *edit->groups);
	edit->group_count++;
	edit->groups[at] = (struct group){.loaded = 1, .dirty = 1};
	return &edit->groups[at];
}

static enum shmeta_status release(struct shmeta__part_edit *edit, uint64_t id, struct shmeta_err *err)
{
	enum shmeta_status status = edit->pager.release(edit->pager.arg, id);

	return status ? pager_failed(edit, status, err, "released") : SHMETA_OK;
}

static enum shmeta_status alloc(struct shmeta__part_edit *edit, uint64_t *ret_id, uint32_t *ret_locator,
                                uint8_t **ret_block, struct shmeta_err *err)
{
	uint64_t locator;
	void *block;
	enum shmeta_status status = edit->pager.alloc(edit->pager.arg, SHMETA_BLOCK_BYTES, ret_id, &locator, &block);

	if (status)
		return pager_failed(edit, status, err, "allocated");
	if (!locator || locator > UINT32_MAX)
		return shmeta_fail(err, SHMETA_ERR_FULL, "the store has more pages than a locator can name");
	*ret_locator = (uint32_t)locator;
	*ret_block = block;
	return SHMETA_OK;
}

/* Copy a block or directory page to scratch, its checksum verified. */
static enum shmeta_status fetch(struct shmeta__part_edit *edit, const struct shmeta_part_entry *entry,
                                struct shmeta_err *err)
{
	const void *bytes;
	size_t size;
	enum shmeta_status status = edit->pager.at(edit->pager.arg, entry->id, &bytes, &size);

	if (status)
		return pager_failed(edit, status, err, "read");
	if (size < SHMETA_BLOCK_BYTES)
		return corrupt(edit, err, "a block is too short");
	memcpy(edit->scratch, bytes, SHMETA_BLOCK_BYTES);
	if (shmeta__ld64(edit->scratch) != shmeta__block_checksum(edit->scratch) ||
	    shmeta__ld64(edit->scratch + 8) != edit->key || shmeta__ld64(edit->scratch + 16) != entry->id)
		return corrupt(edit, err, "a block's bytes are not what was written");
	return SHMETA_OK;
}

static enum shmeta_status fetch_block(struct shmeta__part_edit *edit, const struct shmeta_part_entry *entry,
                                      struct shmeta__block *ret, struct shmeta_err *err)
{
	enum shmeta_status status = fetch(edit, entry, err);

	if (status)
		return status;
	if (!shmeta__block_view(edit->scratch, SHMETA_BLOCK_BYTES, entry->rows, entry->stride, ret))
		return corrupt(edit, err, "a block's widths are impossible");
	return SHMETA_OK;
}

/* The sum of some entries: what their directory page's entry says of them. */
static struct shmeta_part_entry sum_of(const struct shmeta_part_entry *entries, size_t count)
{
	struct shmeta_part_entry sum = {.flags = SHMETA_ENTRY_DIR};

	for (size_t i = 0; i < count; i++) {
		const struct shmeta_part_entry *e = &entries[i];

		if (!i) {
			sum.base = e->base;
			sum.max_timestamp_ms = e->max_timestamp_ms;
		} else if (e->base <= sum.max_end) {
			sum.flags |= SHMETA_ENTRY_OVERLAPS;
		}
		sum.flags |= e->flags & SHMETA_ENTRY_OVERLAPS;
		if (e->max_end > sum.max_end)
			sum.max_end = e->max_end;
		if (e->max_timestamp_ms > sum.max_timestamp_ms)
			sum.max_timestamp_ms = e->max_timestamp_ms;
		sum.size_bytes += e->size_bytes;
		sum.rows += e->rows;
	}
	sum.count = (uint8_t)count;
	if (count)
		sum.slope = shmeta__slope(count - 1, entries[count - 1].base - entries[0].base);
	return sum;
}

static enum shmeta_status load_group(struct shmeta__part_edit *edit, struct group *group, struct shmeta_err *err)
{
	enum shmeta_status status;

	if (group->loaded)
		return SHMETA_OK;
	status = fetch(edit, &group->dir, err);
	if (status)
		return status;
	if (!group->dir.count || group->dir.first + group->dir.count > SHMETA_DIR_FANOUT)
		return corrupt(edit, err, "a directory page's entry is impossible");
	group->entries.count = 0;
	for (unsigned i = 0; i < group->dir.count; i++) {
		struct shmeta_part_entry entry;

		memcpy(&entry, edit->scratch + DIR_BYTES + ENTRY_BYTES * (group->dir.first + i), sizeof entry);
		if (!push_entry(&group->entries, &entry))
			return no_memory(err);
	}
	group->loaded = 1;
	return SHMETA_OK;
}

/* Write a directory page for these entries; *ret is its entry. */
static enum shmeta_status write_dir(struct shmeta__part_edit *edit, const struct shmeta_part_entry *entries,
                                    size_t count, struct shmeta_part_entry *ret, struct shmeta_err *err)
{
	struct shmeta_part_entry sum = sum_of(entries, count);
	struct shmeta_part_dir head = {.key = edit->key, .entries = (uint32_t)count};
	enum shmeta_status status;
	uint8_t *page;

	status = alloc(edit, &sum.id, &sum.locator, &page, err);
	if (status)
		return status;
	head.id = sum.id;
	memcpy(page, &head, sizeof head);
	memcpy(page + DIR_BYTES, entries, count * ENTRY_BYTES);
	memset(page + DIR_BYTES + count * ENTRY_BYTES, 0, (SHMETA_DIR_FANOUT - count) * ENTRY_BYTES);
	head.checksum = shmeta__block_checksum(page);
	memcpy(page, &head.checksum, 8);
	*ret = sum;
	return SHMETA_OK;
}

/* Move the oldest entries of the head to directory pages, while there are more than one page of them. */
static enum shmeta_status fold(struct shmeta__part_edit *edit, struct shmeta_err *err)
{
	size_t done = 0;

	while (edit->leaves.count - done > SHMETA_DIR_FANOUT) {
		struct shmeta_part_entry dir;
		struct group *group;
		enum shmeta_status status = write_dir(edit, edit->leaves.at + done, SHMETA_DIR_FANOUT, &dir, err);

		if (status)
			return status;
		group = push_group(edit, edit->group_count);
		if (!group)
			return no_memory(err);
		*group = (struct group){.dir = dir};
		done += SHMETA_DIR_FANOUT;
	}
	if (done) {
		drop_front(&edit->leaves, done);
		edit->head.first_leaf += (uint32_t)done;
	}
	return SHMETA_OK;
}

/* Turn a builder's rows into a block and forget them. */
static enum shmeta_status seal(struct shmeta__part_edit *edit, struct shmeta__builder *builder, struct entries *out,
                               struct shmeta_err *err)
{
	struct shmeta_part_entry entry;
	size_t bytes = shmeta__builder_bytes(builder);
	enum shmeta_status status;
	uint64_t id, checksum;
	uint32_t locator;
	uint8_t *block;

	status = alloc(edit, &id, &locator, &block, err);
	if (status)
		return status;
	shmeta__builder_encode(builder, edit->key, id, block, &entry);
	memset(block + bytes, 0, SHMETA_BLOCK_BYTES - bytes);
	checksum = shmeta__block_checksum(block);
	memcpy(block, &checksum, 8);
	entry.locator = locator;
	shmeta__builder_reset(builder);
	return push_entry(out, &entry) ? SHMETA_OK : no_memory(err);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------------- */

void shmeta__part_edit_free(struct shmeta__part_edit *edit)
{
	if (!edit)
		return;
	for (size_t i = 0; i < edit->group_count; i++)
		free(edit->groups[i].entries.at);
	free(edit->groups);
	free(edit->leaves.at);
	free(edit->out);
	shmeta__builder_free(&edit->builders[0]);
	shmeta__builder_free(&edit->builders[1]);
	free(edit);
}

static enum shmeta_status decode(struct shmeta__part_edit *edit, const uint8_t *bytes, size_t size,
                                 struct shmeta_err *err)
{
	static const struct shmeta__pages no_pages = {NULL, 0, SHMETA_HEAD_PADDED + 16};
	struct shmeta__part part = {0};
	const uint8_t *entries;
	enum shmeta_status status = shmeta__part_open(&part, edit->key, bytes, size, &no_pages);

	shmeta__part_close(&part);
	if (status)
		return corrupt(edit, err, "its head is not what was written");
	memcpy(&edit->head, bytes, sizeof edit->head);
	entries = bytes + edit->head.entries_at;
	for (uint32_t i = 0; i < edit->head.dirs; i++, entries += ENTRY_BYTES) {
		struct group *group = push_group(edit, edit->group_count);

		if (!group)
			return no_memory(err);
		*group = (struct group){0};
		memcpy(&group->dir, entries, sizeof group->dir);
	}
	for (uint32_t i = 0; i < edit->head.leaves; i++, entries += ENTRY_BYTES) {
		struct shmeta_part_entry entry;

		memcpy(&entry, entries, sizeof entry);
		if (!entry.locator) {
			entries += ENTRY_BYTES;
			if (i + 1 != edit->head.leaves)
				return corrupt(edit, err, "its tail is out of place");
			edit->tail_entry = entry;
			edit->tail_size = (size_t)shmeta__ld16(entries + offsetof(struct shmeta_block_head, pool_at)) +
			                  shmeta__ld16(entries + offsetof(struct shmeta_block_head, pool_bytes));
			if (edit->tail_size > size - (size_t)(entries - bytes) ||
			    edit->tail_size > SHMETA_BLOCK_BYTES || !entry.rows)
				return corrupt(edit, err, "its tail is out of bounds");
			memcpy(edit->tail_bytes, entries, edit->tail_size);
			break;
		}
		if (!push_entry(&edit->leaves, &entry))
			return no_memory(err);
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_edit_new(uint64_t key, const char *topic, size_t topic_bytes, const void *head,
                                         size_t head_bytes, const struct shmeta__pager *pager,
                                         struct shmeta__part_edit **ret, struct shmeta_err *err)
{
	struct shmeta__part_edit *edit;
	enum shmeta_status status;

	if (topic_bytes > SHMETA_NAME_MAX)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "a topic's name has %zu bytes; the limit is %d",
		                   topic_bytes, SHMETA_NAME_MAX);
	edit = malloc(sizeof *edit);
	if (!edit)
		return no_memory(err);
	/* The builders' tables are large, and reset where they are used. */
	memset(edit, 0, offsetof(struct shmeta__part_edit, tail_bytes));
	for (int i = 0; i < 2; i++) {
		edit->builders[i].rows = NULL;
		edit->builders[i].capacity = 0;
		shmeta__builder_reset(&edit->builders[i]);
	}
	edit->key = key;
	edit->pager = *pager;
	edit->tail = &edit->builders[0];
	edit->work = &edit->builders[1];
	if (topic_bytes)
		memcpy(edit->topic, topic, topic_bytes);
	shmeta__values_part(&edit->values, key, edit->topic, topic_bytes);
	if (head) {
		status = decode(edit, head, head_bytes, err);
		if (status) {
			shmeta__part_edit_free(edit);
			return status;
		}
	}
	*ret = edit;
	return SHMETA_OK;
}

int shmeta__part_edit_record(struct shmeta__part_edit *edit, const struct shmeta_partition *record)
{
	struct shmeta_part_head *head = &edit->head;
	int differs = head->high_watermark != record->high_watermark || head->created_at_ms != record->created_at_ms ||
	              head->updated_at_ms != record->updated_at_ms;

	head->high_watermark = record->high_watermark;
	head->created_at_ms = record->created_at_ms;
	head->updated_at_ms = record->updated_at_ms;
	return differs;
}

void shmeta__part_edit_stamp(struct shmeta__part_edit *edit, uint64_t synced_at_ns, uint32_t ttl_ms)
{
	edit->head.synced_at_ns = synced_at_ns;
	edit->head.ttl_ms = ttl_ms;
}

/* ---- rows ------------------------------------------------------------------------------------------------------------- */

static enum shmeta_status built(struct shmeta__part_edit *edit, enum shmeta__build result, int is_corrupt,
                                struct shmeta_err *err)
{
	if (result == SHMETA_BUILD_ADDED)
		return SHMETA_OK;
	if (is_corrupt)
		return corrupt(edit, err, "a block's strings are out of bounds");
	if (result == SHMETA_BUILD_NO_MEMORY)
		return no_memory(err);
	return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "a segment does not fit into a block");
}

static enum shmeta_status add_row(struct shmeta__part_edit *edit, struct shmeta__builder *builder,
                                  const struct shmeta_segment *row, struct entries *out, struct shmeta_err *err)
{
	enum shmeta__build result = shmeta__builder_add(builder, row, &edit->values);
	enum shmeta_status status;

	if (result == SHMETA_BUILD_NO_ROOM && builder->count) {
		status = seal(edit, builder, out, err);
		if (status)
			return status;
		result = shmeta__builder_add(builder, row, &edit->values);
	}
	return result == SHMETA_BUILD_ADDED ? SHMETA_OK : built(edit, result, 0, err);
}

static enum shmeta_status copy_row(struct shmeta__part_edit *edit, struct shmeta__builder *builder,
                                   const uint8_t *bytes, size_t readable, const struct shmeta__block *block,
                                   uint32_t row, struct entries *out, struct shmeta_err *err)
{
	int is_corrupt;
	enum shmeta__build result = shmeta__builder_copy(builder, bytes, readable, block, row, &is_corrupt);
	enum shmeta_status status;

	if (result == SHMETA_BUILD_NO_ROOM && builder->count) {
		status = seal(edit, builder, out, err);
		if (status)
			return status;
		result = shmeta__builder_copy(builder, bytes, readable, block, row, &is_corrupt);
	}
	return result == SHMETA_BUILD_ADDED ? SHMETA_OK : built(edit, result, is_corrupt, err);
}

static enum shmeta_status build_tail(struct shmeta__part_edit *edit, struct shmeta_err *err)
{
	struct shmeta__block block;

	if (edit->tail_built)
		return SHMETA_OK;
	if (edit->tail_entry.rows) {
		if (!shmeta__block_view(edit->tail_bytes, edit->tail_size, edit->tail_entry.rows,
		                        edit->tail_entry.stride, &block))
			return corrupt(edit, err, "its tail's widths are impossible");
		for (uint32_t i = 0; i < block.rows; i++) {
			/* What was one tail fits into one. */
			enum shmeta_status status = copy_row(edit, edit->tail, edit->tail_bytes, edit->tail_size,
			                                     &block, i, &edit->leaves, err);

			if (status)
				return status;
		}
	}
	edit->tail_built = 1;
	return SHMETA_OK;
}

static enum shmeta_status check_row(const struct shmeta_segment *row, struct shmeta_err *err)
{
	if (row->end_offset < row->base_offset || row->end_offset > INT64_MAX)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                   "end_offset %llu of the segment at base_offset %llu is not in [base_offset, 2^63-1]",
		                   (unsigned long long)row->end_offset, (unsigned long long)row->base_offset);
	if (row->id.bytes > SHMETA_STRING_MAX || row->s3_bucket.bytes > SHMETA_STRING_MAX ||
	    row->s3_key.bytes > SHMETA_STRING_MAX)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                   "a string of the segment at base_offset %llu is longer than %d bytes",
		                   (unsigned long long)row->base_offset, SHMETA_STRING_MAX);
	return SHMETA_OK;
}

static enum shmeta_status check_rows(uint64_t from, uint64_t to, const struct shmeta_segment *rows, size_t count,
                                     struct shmeta_err *err)
{
	for (size_t i = 0; i < count; i++) {
		enum shmeta_status status = check_row(&rows[i], err);

		if (status)
			return status;
		if (rows[i].base_offset < from || rows[i].base_offset > to ||
		    (i && rows[i].base_offset <= rows[i - 1].base_offset))
			return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                   "the segment at base_offset %llu is out of range or order",
			                   (unsigned long long)rows[i].base_offset);
	}
	return SHMETA_OK;
}

/* The largest base there is. *ret_any 0: no row at all. */
static enum shmeta_status last_base(struct shmeta__part_edit *edit, int *ret_any, uint64_t *ret, struct shmeta_err *err)
{
	const struct shmeta_part_entry *entry;
	struct shmeta__block block;
	enum shmeta_status status;

	*ret_any = 1;
	if (edit->tail_built ? edit->tail->count : edit->tail_entry.rows) {
		if (edit->tail_built) {
			*ret = edit->tail->rows[edit->tail->count - 1][SHMETA_FIELD_BASE];
			return SHMETA_OK;
		}
		if (!shmeta__block_view(edit->tail_bytes, edit->tail_size, edit->tail_entry.rows,
		                        edit->tail_entry.stride, &block))
			return corrupt(edit, err, "its tail's widths are impossible");
		*ret = shmeta__block_base(&block, block.rows - 1);
		return SHMETA_OK;
	}
	if (edit->leaves.count) {
		entry = &edit->leaves.at[edit->leaves.count - 1];
	} else if (edit->group_count) {
		struct group *group = &edit->groups[edit->group_count - 1];

		status = load_group(edit, group, err);
		if (status)
			return status;
		entry = &group->entries.at[group->entries.count - 1];
	} else {
		*ret_any = 0;
		*ret = 0;
		return SHMETA_OK;
	}
	status = fetch_block(edit, entry, &block, err);
	if (status)
		return status;
	*ret = shmeta__block_base(&block, block.rows - 1);
	return SHMETA_OK;
}

static enum shmeta_status append(struct shmeta__part_edit *edit, const struct shmeta_segment *rows, size_t count,
                                 struct shmeta_err *err)
{
	enum shmeta_status status;

	while (count && !edit->tail_built && edit->tail_entry.rows &&
	       shmeta__block_append(edit->tail_bytes, &edit->tail_size, &edit->tail_entry, rows, &edit->values)) {
		rows++;
		count--;
	}
	status = count ? build_tail(edit, err) : SHMETA_OK;
	for (size_t i = 0; !status && i < count; i++) {
		status = add_row(edit, edit->tail, &rows[i], &edit->leaves, err);
		if (!status && edit->leaves.count > SHMETA_DIR_FANOUT)
			status = fold(edit, err);
	}
	return status;
}

enum shmeta_status shmeta__part_edit_append(struct shmeta__part_edit *edit, const struct shmeta_segment *rows,
                                            size_t count, struct shmeta_err *err)
{
	enum shmeta_status status;
	uint64_t last;
	int any;

	if (!count)
		return SHMETA_OK;
	status = last_base(edit, &any, &last, err);
	if (status)
		return status;
	if (any && last == UINT64_MAX)
		return corrupt(edit, err, "its last base is impossible");
	status = check_rows(any ? last + 1 : 0, UINT64_MAX, rows, count, err);
	return status ? status : append(edit, rows, count, err);
}

/* ---- replacing -------------------------------------------------------------------------------------------------------- */

struct pass {
	struct shmeta__part_edit *edit;
	uint64_t from, to;
	const struct shmeta_segment *rows;
	size_t count;
	uint64_t changed;
	int emitted; /* an entry has gone out or a row into work: what is released from now on is not the front */
	struct shmeta_err *err;
};

static int row_is(struct pass *pass, const uint8_t *bytes, size_t readable, const struct shmeta__block *block,
                  uint32_t i, const struct shmeta_segment *row, enum shmeta_status *ret_status)
{
	const uint8_t *p = shmeta__block_at(block, i);
	char scratch[SHMETA_KEY_TEXT];
	struct shmeta_str strings[SHMETA_STRINGS] = {row->id, row->s3_bucket, shmeta__key_text(row, scratch)};
	struct shmeta_segment s = {0};

	shmeta__block_row(block, p, &s);
	if (s.base_offset != row->base_offset || s.end_offset != row->end_offset || s.size_bytes != row->size_bytes ||
	    s.created_at_ms != row->created_at_ms || s.min_timestamp_ms != row->min_timestamp_ms ||
	    s.max_timestamp_ms != row->max_timestamp_ms || s.record_count != row->record_count)
		return 0;
	shmeta__values_row(&pass->edit->values, s.base_offset, s.end_offset);
	for (unsigned f = 0; f < SHMETA_STRINGS; f++) {
		struct shmeta_str string;
		int is_template;

		if (!shmeta__block_string(bytes, readable, block, p, SHMETA_NUMBERS + f, &string, &is_template)) {
			*ret_status = corrupt(pass->edit, pass->err, "a block's strings are out of bounds");
			return 0;
		}
		if (!shmeta__spells(string, is_template, &pass->edit->values, strings[f]))
			return 0;
	}
	return 1;
}

/* How many of the pass's next rows have a base <= limit. */
static size_t rows_up_to(const struct pass *pass, uint64_t limit)
{
	size_t low = 0, high = pass->count;

	if (!high || pass->rows[high - 1].base_offset <= limit)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (pass->rows[middle].base_offset <= limit)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Compare a block with the rows it should hold in [from, to]: rows added, removed and altered are counted. */
static enum shmeta_status compare(struct pass *pass, const uint8_t *bytes, size_t readable,
                                  const struct shmeta__block *block, size_t count, uint64_t *ret_changed)
{
	enum shmeta_status status = SHMETA_OK;
	uint64_t changed = 0;
	size_t k = 0;

	for (uint32_t i = 0; i < block->rows; i++) {
		uint64_t base = shmeta__block_base(block, i);

		if (base < pass->from || base > pass->to)
			continue;
		while (k < count && pass->rows[k].base_offset < base) {
			changed++;
			k++;
		}
		if (k == count || pass->rows[k].base_offset > base)
			changed++;
		else if (!row_is(pass, bytes, readable, block, i, &pass->rows[k++], &status))
			changed++;
		if (status)
			return status;
	}
	*ret_changed = changed + (count - k);
	return SHMETA_OK;
}

/* Send a block's rows, with [from, to] replaced by the pass's next `count` rows, into work; seal work when it reaches `split`
 * bytes, once. */
static enum shmeta_status stream(struct pass *pass, const uint8_t *bytes, size_t readable,
                                 const struct shmeta__block *block, size_t count, size_t split, struct entries *out)
{
	struct shmeta__part_edit *edit = pass->edit;
	enum shmeta_status status = SHMETA_OK;
	size_t k = 0;

	for (uint32_t i = 0; !status && i < (block ? block->rows : 0); i++) {
		uint64_t base = shmeta__block_base(block, i);
		int replaced = base >= pass->from && base <= pass->to;

		while (!status && k < count && (pass->rows[k].base_offset < base))
			status = add_row(edit, edit->work, &pass->rows[k++], out, pass->err);
		if (!status && !replaced)
			status = copy_row(edit, edit->work, bytes, readable, block, i, out, pass->err);
		if (!status && shmeta__builder_bytes(edit->work) >= split) {
			status = seal(edit, edit->work, out, pass->err);
			split = SIZE_MAX;
		}
	}
	while (!status && k < count)
		status = add_row(edit, edit->work, &pass->rows[k++], out, pass->err);
	pass->rows += count;
	pass->count -= count;
	if (edit->work->count)
		pass->emitted = 1;
	return status;
}

/* One block entry that owns the bases [low, high]. */
static enum shmeta_status pass_entry(struct pass *pass, const struct shmeta_part_entry *entry, uint64_t low,
                                     uint64_t high, struct entries *out, int *ret_changed)
{
	struct shmeta__part_edit *edit = pass->edit;
	enum shmeta_status status;
	struct shmeta__block block;
	int affected = low <= pass->to && high >= pass->from;
	uint64_t changed = 0;
	size_t count = 0, split = SIZE_MAX;

	if (affected) {
		count = rows_up_to(pass, high);
		status = fetch_block(edit, entry, &block, pass->err);
		if (!status)
			status = compare(pass, edit->scratch, SHMETA_BLOCK_BYTES, &block, count, &changed);
		if (status)
			return status;
		pass->changed += changed;
	}
	if (!changed && (!edit->work->count || shmeta__builder_bytes(edit->work) >= SHMETA_BLOCK_BYTES / 2)) {
		if (edit->work->count) {
			status = seal(edit, edit->work, out, pass->err);
			if (status)
				return status;
			*ret_changed = 1;
		}
		pass->rows += count;
		pass->count -= count;
		pass->emitted = 1;
		return push_entry(out, entry) ? SHMETA_OK : no_memory(pass->err);
	}
	if (!affected) {
		status = fetch_block(edit, entry, &block, pass->err);
		if (status)
			return status;
	}
	if (!changed) {
		/* What work holds is too little for a block of its own. Both halves of what the two make together are enough, so
		 * that the next block can stay. */
		size_t both = shmeta__builder_bytes(edit->work) +
		              shmeta__ld16(edit->scratch + offsetof(struct shmeta_block_head, pool_at)) +
		              shmeta__ld16(edit->scratch + offsetof(struct shmeta_block_head, pool_bytes));

		if (both > SHMETA_BLOCK_BYTES)
			split = both / 2;
	}
	*ret_changed = 1;
	status = stream(pass, edit->scratch, SHMETA_BLOCK_BYTES, &block, count, split, out);
	if (!status)
		status = release(edit, entry->id, pass->err);
	if (pass->emitted)
		edit->rewritten = 1;
	return status;
}

/* A run of entries, the first of which owns the bases from low on; high: the last base the last of them owns. *ret_front: how
 * many went from the front while nothing else in the run was changed. */
static enum shmeta_status pass_entries(struct pass *pass, struct entries *entries, uint64_t low, uint64_t high,
                                       size_t *ret_front, int *ret_changed)
{
	struct entries out = {0};
	enum shmeta_status status = SHMETA_OK;
	size_t front = 0;
	int changed = 0, other = 0;

	for (size_t i = 0; !status && i < entries->count; i++) {
		uint64_t next = i + 1 < entries->count ? entries->at[i + 1].base - 1 : high;
		int one = 0;

		status = pass_entry(pass, &entries->at[i], i ? entries->at[i].base : low, next, &out, &one);
		changed |= one;
		if (one && !pass->emitted)
			front++;
		else if (one)
			other = 1;
	}
	if (!status && changed) {
		free(entries->at);
		*entries = out;
	} else {
		free(out.at);
	}
	*ret_front = front;
	*ret_changed = other;
	return status;
}

static enum shmeta_status pass_tail(struct pass *pass, uint64_t low)
{
	struct shmeta__part_edit *edit = pass->edit;
	const uint8_t *bytes = edit->tail_bytes;
	size_t readable = edit->tail_size;
	struct shmeta_part_entry entry = edit->tail_entry;
	struct shmeta__block block;
	enum shmeta_status status;
	uint64_t changed = 0;
	int any;

	if (edit->tail_built && edit->tail->count) {
		shmeta__builder_encode(edit->tail, edit->key, 0, edit->scratch, &entry);
		bytes = edit->scratch;
		readable = shmeta__builder_bytes(edit->tail);
	}
	any = edit->tail_built ? edit->tail->count != 0 : entry.rows != 0;
	if (!any)
		low = 0;
	if (any && !shmeta__block_view(bytes, readable, entry.rows, entry.stride, &block))
		return corrupt(edit, pass->err, "its tail's widths are impossible");
	if (!any) {
		changed = pass->count;
	} else if (low <= pass->to) {
		status = compare(pass, bytes, readable, &block, pass->count, &changed);
		if (status)
			return status;
	}
	pass->changed += changed;
	if (!changed) {
		if (!edit->work->count)
			return SHMETA_OK;
		if (any && shmeta__builder_bytes(edit->work) >= SHMETA_BLOCK_BYTES / 2)
			return seal(edit, edit->work, &edit->leaves, pass->err);
	}
	status = stream(pass, bytes, readable, any ? &block : NULL, pass->count, SIZE_MAX, &edit->leaves);
	if (!status) {
		struct shmeta__builder *tail = edit->work;

		edit->work = edit->tail;
		edit->tail = tail;
		edit->tail_built = 1;
	}
	shmeta__builder_reset(edit->work);
	return status;
}

/* Where the entries behind group g begin. */
static uint64_t next_base(const struct shmeta__part_edit *edit, size_t g)
{
	if (g < edit->group_count)
		return edit->groups[g].dir.base;
	if (edit->leaves.count)
		return edit->leaves.at[0].base;
	if (edit->tail_built)
		return edit->tail->count ? edit->tail->rows[0][SHMETA_FIELD_BASE] : 0;
	return edit->tail_entry.rows ? edit->tail_entry.base : 0;
}

static void keep_group(struct shmeta__part_edit *edit, size_t from, size_t to)
{
	if (from == to)
		return;
	edit->groups[to] = edit->groups[from];
	edit->groups[from] = (struct group){0};
}

static enum shmeta_status replace(struct pass *pass)
{
	struct shmeta__part_edit *edit = pass->edit;
	enum shmeta_status status;
	uint64_t low = 0, high;
	size_t front, kept = 0;
	int changed;

	for (size_t g = 0; g < edit->group_count; g++, low = high + 1) {
		struct group *group = &edit->groups[g];
		struct shmeta_part_entry dir = group->dir;

		high = next_base(edit, g + 1) - 1; /* 0 - 1: nothing behind it */
		if (!edit->work->count && (low > pass->to || high < pass->from)) {
			pass->emitted = 1;
			keep_group(edit, g, kept++);
			continue;
		}
		status = load_group(edit, group, pass->err);
		if (!status)
			status = pass_entries(pass, &group->entries, low, high, &front, &changed);
		if (status)
			return status;
		if (!group->entries.count) {
			status = dir.id ? release(edit, dir.id, pass->err) : SHMETA_OK;
			if (status)
				return status;
			if (!pass->emitted)
				edit->head.first_dir++;
			free(group->entries.at);
			*group = (struct group){0};
			continue;
		}
		if (front || changed) {
			group->dirty |= changed;
			group->dir = sum_of(group->entries.at, group->entries.count < SHMETA_DIR_FANOUT
			                                               ? group->entries.count
			                                               : (size_t)SHMETA_DIR_FANOUT);
			group->dir.id = dir.id;
			group->dir.locator = dir.locator;
			group->dir.first = (uint8_t)(dir.first + front);
			group->dir.base = group->entries.at[0].base;
		}
		keep_group(edit, g, kept++);
	}
	edit->group_count = kept;
	high = (edit->tail_built ? edit->tail->count != 0 : edit->tail_entry.rows != 0)
	               ? (edit->tail_built ? edit->tail->rows[0][SHMETA_FIELD_BASE] : edit->tail_entry.base) - 1
	               : UINT64_MAX;
	if (edit->leaves.count) {
		status = pass_entries(pass, &edit->leaves, low, high, &front, &changed);
		if (status)
			return status;
		edit->head.first_leaf += (uint32_t)front;
		low = high + 1;
	}
	status = pass_tail(pass, low);
	return status ? status : fold(edit, pass->err);
}

enum shmeta_status shmeta__part_edit_replace(struct shmeta__part_edit *edit, uint64_t from, uint64_t to,
                                             const struct shmeta_segment *rows, size_t count, uint64_t *ret_changed,
                                             struct shmeta_err *err)
{
	struct pass pass = {edit, from, to, rows, count, 0, 0, err};
	enum shmeta_status status;
	uint64_t last;
	int any;

	if (from > to)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "the range [%llu, %llu] is empty",
		                   (unsigned long long)from, (unsigned long long)to);
	status = check_rows(from, to, rows, count, err);
	if (!status)
		status = last_base(edit, &any, &last, err);
	if (status)
		return status;
	if (!any || from > last) {
		status = append(edit, rows, count, err);
		pass.changed = count;
	} else {
		status = replace(&pass);
	}
	if (!status)
		*ret_changed = pass.changed;
	return status;
}

/* ---- encoding --------------------------------------------------------------------------------------------------------- */

/* Write the directory pages that have changed: each is replaced by as many as its entries need. */
static enum shmeta_status flush(struct shmeta__part_edit *edit, struct shmeta_err *err)
{
	for (size_t g = 0; g < edit->group_count; g++) {
		struct entries entries = edit->groups[g].entries;
		size_t pages = (entries.count + SHMETA_DIR_FANOUT - 1) / SHMETA_DIR_FANOUT, done = 0;
		enum shmeta_status status;

		if (!edit->groups[g].dirty)
			continue;
		if (edit->groups[g].dir.id) {
			status = release(edit, edit->groups[g].dir.id, err);
			if (status)
				return status;
		}
		edit->groups[g] = (struct group){0};
		for (size_t i = 0; i < pages; i++) {
			size_t count = (entries.count - done) / (pages - i);
			struct shmeta_part_entry dir;

			status = write_dir(edit, entries.at + done, count, &dir, err);
			if (!status && i && !push_group(edit, g + i))
				status = no_memory(err);
			if (status) {
				free(entries.at);
				return status;
			}
			edit->groups[g + i] = (struct group){.dir = dir};
			done += count;
		}
		free(entries.at); /* NOLINT(clang-analyzer-unix.Malloc): the group was emptied above */
		g += pages - 1;
	}
	return SHMETA_OK;
}

static size_t padded(size_t bytes, size_t sealed)
{
	if (bytes < SHMETA_HEAD_PINNED && sealed == 0)
		return bytes;
	return (bytes + 16 + 4095) / 4096 * 4096 - 16;
}

enum shmeta_status shmeta__part_edit_encode(struct shmeta__part_edit *edit, const void **ret_head, size_t *ret_bytes,
                                            struct shmeta_err *err)
{
	struct shmeta_part_head *head = &edit->head;
	struct shmeta_part_entry tail = edit->tail_entry, sum;
	int has_tail = edit->tail_built ? edit->tail->count != 0 : tail.rows != 0;
	size_t tail_bytes = 0, bytes, whole, leaves;
	enum shmeta_status status = flush(edit, err);
	uint8_t *p;

	if (status)
		return status;
	if (has_tail)
		tail_bytes = edit->tail_built ? shmeta__builder_bytes(edit->tail) : edit->tail_size;
	leaves = edit->leaves.count + (has_tail ? 1 : 0);
	bytes = HEAD_BYTES + ENTRY_BYTES * (edit->group_count + leaves) + tail_bytes;
	whole = padded(bytes, edit->group_count + edit->leaves.count);
	if (whole > UINT32_MAX || edit->group_count > UINT32_MAX)
		return shmeta_fail(err, SHMETA_ERR_FULL, "partition %u of topic id %u has too many segments",
		                   (uint32_t)edit->key, (uint32_t)(edit->key >> 32));
	if (edit->out_capacity < whole) {
		free(edit->out);
		edit->out_capacity = whole;
		edit->out = malloc(edit->out_capacity);
		if (!edit->out) {
			edit->out_capacity = 0;
			return no_memory(err);
		}
	}
	p = edit->out + HEAD_BYTES;
	for (size_t g = 0; g < edit->group_count; g++, p += ENTRY_BYTES)
		memcpy(p, &edit->groups[g].dir, ENTRY_BYTES);
	if (edit->leaves.count) /* there may be no array at all */
		memcpy(p, edit->leaves.at, ENTRY_BYTES * edit->leaves.count);
	p += ENTRY_BYTES * edit->leaves.count;
	if (has_tail) {
		if (edit->tail_built)
			shmeta__builder_encode(edit->tail, edit->key, 0, p + ENTRY_BYTES, &tail);
		else
			memcpy(p + ENTRY_BYTES, edit->tail_bytes, edit->tail_size);
		memcpy(p, &tail, ENTRY_BYTES);
	}
	memset(edit->out + bytes, 0, whole - bytes);

	p = edit->out + HEAD_BYTES;
	head->segment_count = head->size_bytes = head->max_end = head->leaf_slope = head->dir_slope = 0;
	head->flags = 0;
	for (size_t i = 0; i < edit->group_count + leaves; i++) {
		memcpy(&sum, p + ENTRY_BYTES * i, sizeof sum);
		head->segment_count += sum.rows;
		head->size_bytes += sum.size_bytes;
		if (sum.flags & SHMETA_ENTRY_OVERLAPS || (i && sum.base <= head->max_end))
			head->flags |= SHMETA_PART_OVERLAPS;
		if (sum.max_end > head->max_end)
			head->max_end = sum.max_end;
	}
	head->dirs = (uint32_t)edit->group_count;
	head->leaves = (uint16_t)leaves;
	head->entries_at = HEAD_BYTES;
	if (head->dirs)
		head->dir_slope =
			shmeta__slope(head->dirs - 1, edit->groups[head->dirs - 1].dir.base - edit->groups[0].dir.base);
	if (leaves) {
		uint64_t first = shmeta__ld64(p + ENTRY_BYTES * edit->group_count);
		uint64_t last = shmeta__ld64(p + ENTRY_BYTES * (edit->group_count + leaves - 1));

		head->leaf_slope = shmeta__slope(leaves - 1, last - first);
	}
	if (edit->rewritten) {
		head->rewrites++;
		edit->rewritten = 0;
	}
	head->kind = SHMETA_RECORD_PARTITION;
	memcpy(edit->out, head, HEAD_BYTES);
	head->checksum = shmeta__head_checksum(edit->out, whole, edit->key);
	memcpy(edit->out, &head->checksum, sizeof head->checksum);
	*ret_head = edit->out;
	*ret_bytes = whole;
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_edit_drop(struct shmeta__part_edit *edit, struct shmeta_err *err)
{
	enum shmeta_status status;

	for (size_t g = 0; g < edit->group_count; g++) {
		struct group *group = &edit->groups[g];

		status = load_group(edit, group, err);
		for (size_t i = 0; !status && i < group->entries.count; i++)
			status = release(edit, group->entries.at[i].id, err);
		if (!status && group->dir.id)
			status = release(edit, group->dir.id, err);
		free(group->entries.at);
		*group = (struct group){.loaded = 1};
		if (status)
			return status;
	}
	edit->group_count = 0;
	for (size_t i = 0; i < edit->leaves.count; i++) {
		status = release(edit, edit->leaves.at[i].id, err);
		if (status)
			return status;
	}
	edit->leaves.count = 0;
	edit->tail_entry.rows = 0;
	edit->tail_built = 1;
	shmeta__builder_reset(edit->tail);
	return SHMETA_OK;
}
