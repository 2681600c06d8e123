/* SPDX-License-Identifier: Apache-2.0
 * The segment index of a partition against a naive model: a sorted array of rows. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/index/builder.h"
#include "shm/index/part.h"
#include "tests/support/heap_pager.h"

TestSuite(part, .timeout = 120);

/* ---- the model ---- */

static const uint64_t KEY = (UINT64_C(77) << 32) | 12;
static const char TOPIC[] = "orders-7";

struct rng {
	uint64_t state;
};

static uint64_t draw(struct rng *rng)
{
	uint64_t z = (rng->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t below(struct rng *rng, uint64_t n)
{
	return draw(rng) % n;
}

struct model {
	struct shmeta_segment *rows;
	size_t count, capacity;
	uint64_t high_watermark;
};

static struct shmeta_str text(const char *fmt, uint64_t a, uint64_t b)
{
	char *s = malloc(SHMETA_STRING_MAX + 1);
	int n;

	cr_assert_not_null(s);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	n = snprintf(s, SHMETA_STRING_MAX + 1, fmt, (unsigned long long)a, (unsigned long long)b);
#pragma GCC diagnostic pop
	return (struct shmeta_str){s, (size_t)n};
}

static void free_row(struct shmeta_segment *row)
{
	free((void *)(uintptr_t)row->id.data);
	free((void *)(uintptr_t)row->s3_bucket.data);
	free((void *)(uintptr_t)row->s3_key.data);
}

static void model_free(struct model *model)
{
	for (size_t i = 0; i < model->count; i++)
		free_row(&model->rows[i]);
	free(model->rows);
	*model = (struct model){0};
}

/* Rows with from <= base <= to become rows[0..count), which the model then owns. */
static void model_replace(struct model *model, uint64_t from, uint64_t to, const struct shmeta_segment *rows,
                          size_t count)
{
	size_t low = 0, high;

	while (low < model->count && model->rows[low].base_offset < from)
		low++;
	for (high = low; high < model->count && model->rows[high].base_offset <= to; high++)
		free_row(&model->rows[high]);
	if (model->count - (high - low) + count > model->capacity) {
		model->capacity = 2 * (model->count + count);
		model->rows = realloc(model->rows, model->capacity * sizeof *model->rows);
		cr_assert_not_null(model->rows);
	}
	if (model->count > high)
		memmove(model->rows + low + count, model->rows + high, (model->count - high) * sizeof *model->rows);
	if (count)
		memcpy(model->rows + low, rows, count * sizeof *rows);
	model->count = model->count - (high - low) + count;
}

static enum shmeta_status model_absent(const struct model *model, uint64_t offset)
{
	uint64_t start = model->count ? model->rows[0].base_offset : model->high_watermark;

	if (offset < start)
		return SHMETA_ABSENT_BEFORE_START;
	return offset >= model->high_watermark ? SHMETA_ABSENT_AT_END : SHMETA_ABSENT_GAP;
}

static enum shmeta_status model_find(const struct model *model, uint64_t offset, const struct shmeta_segment **ret)
{
	for (size_t i = model->count; i-- > 0;) {
		if (model->rows[i].base_offset <= offset && offset <= model->rows[i].end_offset) {
			*ret = &model->rows[i];
			return SHMETA_OK;
		}
	}
	return model_absent(model, offset);
}

enum shape {
	STREAMHOUSE, /* contiguous, templates */
	GAPS,
	OVERLAPS,
	ODD,  /* odd strings, odd counts, timestamps all over */
	HUGE, /* spans of all magnitudes, up to 2^63-1 */
	TINY, /* one offset each */
	LONG, /* strings of their own of 1 kB: a few rows fill a block */
	SHAPES
};

static struct shmeta_segment make_row(struct rng *rng, enum shape shape, uint64_t base, uint64_t end, uint64_t serial)
{
	struct shmeta_segment row = {.base_offset = base, .end_offset = end};

	row.record_count = (uint32_t)(end - base + 1);
	row.size_bytes = 100000 + below(rng, 4000000);
	row.created_at_ms = (int64_t)(UINT64_C(1700000000000) + serial * 60000 + below(rng, 1000));
	row.min_timestamp_ms = row.created_at_ms - 60000;
	row.max_timestamp_ms = row.created_at_ms;
	row.id = text("orders-7-12-%llu", base, 0);
	row.s3_bucket = text("streamhouse-%llu", 12, 0);
	row.s3_key = text("data/orders-7/12/%020llu.seg", base, 0);
	if (shape == ODD && below(rng, 3) == 0) {
		free_row(&row);
		row.id = text(below(rng, 2) ? "%016llx-\x01\x02\x05%llx" : "", draw(rng), draw(rng));
		row.s3_bucket = text("b%llu\x06", below(rng, 3), 0);
		row.s3_key = text(below(rng, 2) ? "%llu/%llu/orders-7/orders-77" : "%0600llu\xff%llu", base, end);
		row.record_count = (uint32_t)draw(rng);
		row.size_bytes = draw(rng);
		row.created_at_ms = (int64_t)draw(rng);
		row.min_timestamp_ms = (int64_t)draw(rng);
		row.max_timestamp_ms = (int64_t)draw(rng);
	}
	if (shape == LONG) {
		free_row(&row);
		row.id = text("%0500llu\xff%llu", base, end);
		row.s3_bucket = (struct shmeta_str){NULL, 0};
		row.s3_key = text("%0500llu\xfe%llu", base, end);
	}
	if (shape == OVERLAPS && below(rng, 4) == 0)
		row.max_timestamp_ms = row.min_timestamp_ms = 0;
	return row;
}

/* count rows from *next on; *next moves behind them. */
static struct shmeta_segment *make_rows(struct rng *rng, enum shape shape, uint64_t *next, size_t count,
                                        size_t *ret_count)
{
	struct shmeta_segment *rows = calloc(count + 1, sizeof *rows);
	size_t n = 0;

	cr_assert_not_null(rows);
	while (n < count && *next <= INT64_MAX) {
		uint64_t base = *next, span = 200 + below(rng, 1600), end;

		if (shape == TINY)
			span = 1;
		if (shape == HUGE)
			span = UINT64_C(1) << below(rng, 61);
		if (shape == GAPS && below(rng, 5) == 0)
			base += below(rng, 3000);
		if (base > INT64_MAX)
			break;
		end = base + span - 1;
		*next = end + 1;
		if (shape == OVERLAPS) {
			if (below(rng, 5) == 0)
				end += below(rng, below(rng, 20) ? 3000 : 200000);
			*next = base + 1 + below(rng, span + 300);
		}
		if (end > INT64_MAX)
			end = INT64_MAX;
		rows[n] = make_row(rng, shape, base, end, n + base / 1000 % 100000);
		n++;
	}
	*ret_count = n;
	return rows;
}

/* ---- the thing ---- */

struct subject {
	struct heap_pager heap;
	uint8_t *head;
	size_t head_bytes;
	struct shmeta__part part;
};

static void subject_init(struct subject *subject)
{
	memset(subject, 0, sizeof *subject);
	heap_pager_init(&subject->heap);
}

static void subject_free(struct subject *subject)
{
	shmeta__part_close(&subject->part);
	free(subject->head);
	heap_pager_free(&subject->heap);
}

static struct shmeta__part_edit *edit_begin(struct subject *subject)
{
	struct shmeta__part_edit *edit = NULL;
	struct shmeta_err err = {0};
	enum shmeta_status status = shmeta__part_edit_new(KEY, TOPIC, strlen(TOPIC), subject->head, subject->head_bytes,
	                                                  &subject->heap.pager, &edit, &err);

	cr_assert_eq(status, SHMETA_OK, "%s", err.text);
	return edit;
}

static void edit_end(struct subject *subject, struct shmeta__part_edit *edit)
{
	struct shmeta_err err = {0};
	const void *head = NULL;
	size_t bytes = 0;
	uint8_t *copy;

	cr_assert_eq(shmeta__part_edit_encode(edit, &head, &bytes, &err), SHMETA_OK, "%s", err.text);
	cr_assert(bytes < SHMETA_HEAD_PINNED || (bytes + 16) % 4096 == 0, "%zu", bytes);
	/* Exactly the head's bytes, so that a sanitizer sees a read beyond them; at an odd address,
	 * as LMDB may have it. */
	copy = malloc(bytes);
	cr_assert_not_null(copy);
	memcpy(copy, head, bytes);
	free(subject->head);
	subject->head = copy;
	subject->head_bytes = bytes;
	shmeta__part_edit_free(edit);
	cr_assert_eq(shmeta__part_open(&subject->part, KEY, subject->head, subject->head_bytes, &subject->heap.pages),
	             SHMETA_OK);
}

static void subject_watermark(struct subject *subject, uint64_t high_watermark)
{
	struct shmeta_partition record = {.high_watermark = high_watermark, .created_at_ms = 5, .updated_at_ms = -6};
	struct shmeta__part_edit *edit = edit_begin(subject);

	shmeta__part_edit_record(edit, &record);
	shmeta__part_edit_stamp(edit, 123456789, 777);
	edit_end(subject, edit);
}

static uint64_t subject_replace(struct subject *subject, uint64_t from, uint64_t to, const struct shmeta_segment *rows,
                                size_t count)
{
	struct shmeta__part_edit *edit = edit_begin(subject);
	struct shmeta_err err = {0};
	uint64_t changed = UINT64_MAX;

	cr_assert_eq(shmeta__part_edit_replace(edit, from, to, rows, count, &changed, &err), SHMETA_OK, "%s", err.text);
	edit_end(subject, edit);
	return changed;
}

struct counting {
	struct subject *subject;
	uint64_t seen;
};

static void count_block(void *arg, uint64_t id, uint64_t locator)
{
	struct counting *counting = arg;

	cr_assert_lt(id, counting->subject->heap.next_id);
	cr_assert_eq(counting->subject->heap.locators[id], locator);
	counting->seen++;
}

static void assert_same(const struct shmeta_segment *got, const struct shmeta_segment *want)
{
	cr_assert_eq(got->base_offset, want->base_offset, "%llu is not %llu", (unsigned long long)got->base_offset,
	             (unsigned long long)want->base_offset);
	cr_assert_eq(got->end_offset, want->end_offset);
	cr_assert_eq(got->size_bytes, want->size_bytes);
	cr_assert_eq(got->created_at_ms, want->created_at_ms);
	cr_assert_eq(got->min_timestamp_ms, want->min_timestamp_ms);
	cr_assert_eq(got->max_timestamp_ms, want->max_timestamp_ms);
	cr_assert_eq(got->record_count, want->record_count);
	cr_assert_eq(got->partition_id, (uint32_t)KEY);
}

static void assert_string(struct shmeta_str got, struct shmeta_str want)
{
	cr_assert_eq(got.bytes, want.bytes, "%.*s", (int)got.bytes, got.data);
	if (want.bytes)
		cr_assert_arr_eq(got.data, want.data, want.bytes);
	cr_assert_eq(got.data[got.bytes], '\0');
}

static void assert_strings(struct subject *subject, struct shmeta_segment *got, const struct shmeta_segment *want)
{
	char buffer[3 * (SHMETA_STRING_MAX + 1)];
	size_t need = want->id.bytes + want->s3_bucket.bytes + want->s3_key.bytes + 3;

	cr_assert_eq(shmeta__part_strings(&subject->part, TOPIC, strlen(TOPIC), got, buffer, need - 1),
	             SHMETA_ERR_BUFFER);
	cr_assert_eq(shmeta__part_strings(&subject->part, TOPIC, strlen(TOPIC), got, buffer, need), SHMETA_OK);
	assert_string(got->id, want->id);
	assert_string(got->s3_bucket, want->s3_bucket);
	assert_string(got->s3_key, want->s3_key);
}

static void assert_find(struct subject *subject, const struct model *model, uint64_t offset)
{
	const struct shmeta_segment *want = NULL;
	struct shmeta_segment got;
	enum shmeta_status expected = model_find(model, offset, &want), status;

	memset(&got, 0x5a, sizeof got);
	status = shmeta__part_find(&subject->part, offset, &got);
	cr_assert_eq(status, expected, "offset %llu: %d, expected %d", (unsigned long long)offset, status, expected);
	if (status == SHMETA_OK) {
		assert_same(&got, want);
		cr_assert_eq(got.id.bytes + got.s3_bucket.bytes + got.s3_key.bytes, 0);
	} else {
		cr_assert_eq(got.base_offset, UINT64_C(0x5a5a5a5a5a5a5a5a), "written without success");
	}
}

/* All of the part against all of the model. stride: only every so manieth row is looked up. */
static void assert_equal(struct subject *subject, const struct model *model, size_t stride)
{
	struct shmeta__part *part = &subject->part;
	struct shmeta_partition record;
	struct shmeta__part_cursor cursor;
	struct shmeta_segment got;
	struct shmeta_err err = {0};
	struct counting counting = {subject, 0};
	uint64_t size = 0;

	cr_assert_eq(shmeta__part_verify(part, &err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(shmeta__part_blocks(part, count_block, &counting), SHMETA_OK);
	cr_assert_eq(counting.seen, subject->heap.live, "blocks have leaked");

	cr_assert_eq(shmeta__part_seek(part, 0, UINT64_MAX, &cursor), SHMETA_OK);
	for (size_t i = 0; i < model->count; i++) {
		cr_assert_eq(shmeta__part_next(part, &cursor, &got), SHMETA_OK);
		assert_same(&got, &model->rows[i]);
		size += got.size_bytes;
		if (i % stride == 0)
			assert_strings(subject, &got, &model->rows[i]);
	}
	cr_assert_eq(shmeta__part_next(part, &cursor, &got), SHMETA_END);
	cr_assert_eq(shmeta__part_next(part, &cursor, &got), SHMETA_END);

	shmeta__part_record(part, &record);
	cr_assert_eq(record.segment_count, model->count);
	cr_assert_eq(record.size_bytes, size);
	cr_assert_eq(record.high_watermark, model->high_watermark);
	cr_assert_eq(record.log_start_offset, model->count ? model->rows[0].base_offset : model->high_watermark);
	cr_assert_eq(record.topic_id, 77);
	cr_assert_eq(record.partition_id, 12);

	assert_find(subject, model, 0);
	assert_find(subject, model, UINT64_MAX);
	assert_find(subject, model, INT64_MAX);
	for (size_t i = 0; i < model->count; i += stride) {
		const struct shmeta_segment *row = &model->rows[i];

		if (row->base_offset)
			assert_find(subject, model, row->base_offset - 1);
		assert_find(subject, model, row->base_offset);
		assert_find(subject, model, row->base_offset + (row->end_offset - row->base_offset) / 2);
		assert_find(subject, model, row->end_offset);
		assert_find(subject, model, row->end_offset + 1);
		assert_find(subject, model, row->end_offset + 700);
	}
	assert_find(subject, model, model->high_watermark);
	if (model->high_watermark)
		assert_find(subject, model, model->high_watermark - 1);

	if (model->count) {
		cr_assert_eq(shmeta__part_last(part, &got), SHMETA_OK);
		assert_same(&got, &model->rows[model->count - 1]);
	} else {
		cr_assert_eq(shmeta__part_last(part, &got), SHMETA_ABSENT_AT_END);
	}
}

static void assert_sum(struct subject *subject, const struct model *model, uint64_t offset)
{
	uint64_t sum = 0, got;

	for (size_t i = 0; i < model->count && model->rows[i].base_offset < offset; i++)
		sum += model->rows[i].size_bytes;
	cr_assert_eq(shmeta__part_bytes_below(&subject->part, offset, &got), SHMETA_OK);
	cr_assert_eq(got, sum, "%llu, not %llu below %llu", (unsigned long long)got, (unsigned long long)sum,
	             (unsigned long long)offset);
}

static void assert_walks(struct subject *subject, const struct model *model, uint64_t from, uint64_t to)
{
	struct shmeta__part_cursor cursor;
	struct shmeta_segment got;

	assert_sum(subject, model, from);
	assert_sum(subject, model, to);
	cr_assert_eq(shmeta__part_seek(&subject->part, from, to, &cursor), SHMETA_OK);
	for (size_t i = 0; i < model->count; i++) {
		if (model->rows[i].end_offset < from || model->rows[i].base_offset > to)
			continue;
		cr_assert_eq(shmeta__part_next(&subject->part, &cursor, &got), SHMETA_OK);
		assert_same(&got, &model->rows[i]);
	}
	cr_assert_eq(shmeta__part_next(&subject->part, &cursor, &got), SHMETA_END);
}

static void assert_timestamp(struct subject *subject, const struct model *model, int64_t timestamp_ms)
{
	struct shmeta_segment got;
	enum shmeta_status status = shmeta__part_find_timestamp(&subject->part, timestamp_ms, &got);

	for (size_t i = 0; i < model->count; i++) {
		if (model->rows[i].max_timestamp_ms >= timestamp_ms) {
			cr_assert_eq(status, SHMETA_OK);
			assert_same(&got, &model->rows[i]);
			return;
		}
	}
	cr_assert_eq(status, SHMETA_ABSENT_AT_END);
}

/* A part and its model with `count` rows. */
static void fill(struct subject *subject, struct model *model, struct rng *rng, enum shape shape, uint64_t next,
                 size_t count)
{
	size_t made;
	struct shmeta_segment *rows = make_rows(rng, shape, &next, count, &made);

	subject_init(subject);
	memset(model, 0, sizeof *model);
	cr_assert_eq(subject_replace(subject, 0, UINT64_MAX, rows, made), made);
	model_replace(model, 0, UINT64_MAX, rows, made);
	free(rows);
	model->high_watermark = next + 10;
	subject_watermark(subject, model->high_watermark);
}

/* ---- claims ---- */

Test(part, an_empty_partition_answers_and_is_small)
{
	struct subject subject;
	struct model model = {0};

	subject_init(&subject);
	subject_watermark(&subject, 0);
	assert_equal(&subject, &model, 1);
	model.high_watermark = 500;
	subject_watermark(&subject, 500);
	assert_equal(&subject, &model, 1);
	cr_assert_leq(subject.head_bytes, 112);
	cr_assert_eq(shmeta__part_synced_at_ns(&subject.part), 123456789);
	cr_assert_eq(shmeta__part_ttl_ms(&subject.part), 777);
	subject_free(&subject);
}

Test(part, every_boundary_of_every_shape_and_size_answers_as_the_model)
{
	static const size_t sizes[] = {1, 2, 3, 10, 100, 700, 3000, 30000};
	struct rng rng = {1};

	for (int shape = 0; shape < SHAPES; shape++) {
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			struct subject subject;
			struct model model;

			if (shape == LONG && sizes[i] > 3000)
				continue;
			fill(&subject, &model, &rng, (enum shape)shape, below(&rng, 2) ? 0 : below(&rng, 1000000),
			     sizes[i]);
			assert_equal(&subject, &model, 1 + model.count / 500);
			for (int k = 0; k < 20 && model.count; k++) {
				uint64_t last = model.rows[model.count - 1].end_offset;
				uint64_t from = below(&rng, last + 2);

				assert_find(&subject, &model, from);
				assert_walks(&subject, &model, from, from + below(&rng, last / 8 + 2));
				assert_timestamp(&subject, &model,
				                 model.rows[below(&rng, model.count)].max_timestamp_ms +
				                         (int64_t)below(&rng, 3) - 1);
			}
			assert_timestamp(&subject, &model, INT64_MIN);
			assert_timestamp(&subject, &model, INT64_MAX);
			model_free(&model);
			subject_free(&subject);
		}
	}
}

Test(part, find_answers_the_largest_base_on_overlap_also_behind_a_shorter_one)
{
	struct rng rng = {2};
	struct subject subject;
	struct model model = {.high_watermark = 300};
	struct shmeta_segment rows[3] = {make_row(&rng, STREAMHOUSE, 0, 99, 0), make_row(&rng, STREAMHOUSE, 50, 60, 1),
	                                 make_row(&rng, STREAMHOUSE, 200, 220, 2)};
	struct shmeta_segment got;

	subject_init(&subject);
	subject_watermark(&subject, 300);
	subject_replace(&subject, 0, UINT64_MAX, rows, 3);
	model_replace(&model, 0, UINT64_MAX, rows, 3);
	cr_assert_eq(shmeta__part_find(&subject.part, 75, &got), SHMETA_OK);
	cr_assert_eq(got.base_offset, 0);
	cr_assert_eq(shmeta__part_find(&subject.part, 55, &got), SHMETA_OK);
	cr_assert_eq(got.base_offset, 50);
	cr_assert_eq(shmeta__part_find(&subject.part, 150, &got), SHMETA_ABSENT_GAP);
	cr_assert_eq(shmeta__part_find(&subject.part, 250, &got), SHMETA_ABSENT_GAP);
	cr_assert_eq(shmeta__part_find(&subject.part, 300, &got), SHMETA_ABSENT_AT_END);
	for (uint64_t offset = 0; offset < 320; offset++)
		assert_find(&subject, &model, offset);
	model_free(&model);
	subject_free(&subject);
}

Test(part, one_segment_over_everything_is_found_from_every_gap)
{
	struct rng rng = {3};
	struct subject subject;
	struct model model;
	struct shmeta_segment cover;

	fill(&subject, &model, &rng, GAPS, 1000, 40000);
	cover = make_row(&rng, STREAMHOUSE, 3, model.high_watermark - 20, 0);
	cr_assert_eq(subject_replace(&subject, 0, 999, &cover, 1), 1);
	model_replace(&model, 0, 999, &cover, 1);
	assert_equal(&subject, &model, 97);
	for (int i = 0; i < 200; i++)
		assert_find(&subject, &model, below(&rng, model.high_watermark));
	model_free(&model);
	subject_free(&subject);
}

Test(part, offsets_up_to_the_largest_are_kept)
{
	struct rng rng = {4};
	struct subject subject;
	struct model model = {.high_watermark = (uint64_t)INT64_MAX + 1};
	struct shmeta_segment rows[3] = {make_row(&rng, ODD, 0, 0, 0), make_row(&rng, ODD, 1, INT64_MAX - 1, 1),
	                                 make_row(&rng, ODD, INT64_MAX, INT64_MAX, 2)};

	subject_init(&subject);
	subject_watermark(&subject, model.high_watermark);
	subject_replace(&subject, 0, UINT64_MAX, rows, 3);
	model_replace(&model, 0, UINT64_MAX, rows, 3);
	assert_equal(&subject, &model, 1);
	model_free(&model);
	subject_free(&subject);
}

Test(part, strings_of_every_length_and_byte_come_back)
{
	struct rng rng = {5};
	struct subject subject;
	struct model model = {.high_watermark = 100000};
	struct shmeta_segment rows[600];
	size_t n = 0;

	for (size_t bytes = 0; bytes <= SHMETA_STRING_MAX; bytes += bytes < 40 ? 1 : 61, n++) {
		char *all[3];

		for (int k = 0; k < 3; k++) {
			all[k] = malloc(bytes + 1);
			cr_assert_not_null(all[k]);
			for (size_t i = 0; i < bytes; i++)
				all[k][i] = k == 1 ? "0123456789orders-7/"[below(&rng, 19)] : (char)draw(&rng);
		}
		rows[n] = make_row(&rng, STREAMHOUSE, n * 10, n * 10 + 9, n);
		free_row(&rows[n]);
		rows[n].id = (struct shmeta_str){all[0], bytes};
		rows[n].s3_bucket = (struct shmeta_str){all[1], bytes};
		rows[n].s3_key = (struct shmeta_str){all[2], bytes};
	}
	for (int c = 1; c < 256; c++, n++) {
		char *id, *bucket, *key;

		rows[n] = make_row(&rng, STREAMHOUSE, n * 10, n * 10 + 9, n);
		free_row(&rows[n]);
		cr_assert_gt(asprintf(&id, "orders-7%c12", c), 0);
		cr_assert_gt(asprintf(&bucket, "%c%zu", c, n * 10), 0);
		cr_assert_gt(asprintf(&key, "12%c12", c), 0);
		rows[n].id = (struct shmeta_str){id, 11};
		rows[n].s3_bucket = (struct shmeta_str){bucket, strlen(bucket)};
		rows[n].s3_key = (struct shmeta_str){key, 5};
	}
	subject_init(&subject);
	subject_watermark(&subject, model.high_watermark);
	cr_assert_eq(subject_replace(&subject, 0, UINT64_MAX, rows, n), n);
	cr_assert_eq(subject_replace(&subject, 0, UINT64_MAX, rows, n), 0, "unchanged strings were taken for changed");
	model_replace(&model, 0, UINT64_MAX, rows, n);
	assert_equal(&subject, &model, 1);
	model_free(&model);
	subject_free(&subject);
}

Test(part, rows_that_are_out_of_order_or_bounds_are_refused_and_change_nothing)
{
	struct rng rng = {6};
	struct subject subject;
	struct model model;
	struct shmeta_segment rows[2] = {make_row(&rng, STREAMHOUSE, 10, 19, 0),
	                                 make_row(&rng, STREAMHOUSE, 20, 29, 0)};
	struct shmeta_segment bad[2];
	struct shmeta__part_edit *edit;
	struct shmeta_err err;
	uint64_t changed = 42;
	char long_string[SHMETA_STRING_MAX + 1] = {0};

	fill(&subject, &model, &rng, STREAMHOUSE, 100, 50);
	edit = edit_begin(&subject);
#define REFUSED(from, to, count)                                                            \
	cr_assert_eq(shmeta__part_edit_replace(edit, from, to, bad, count, &changed, &err), \
	             SHMETA_ERR_INVALID_ARGUMENT);                                          \
	cr_assert_eq(changed, 42);                                                          \
	cr_assert_gt(strlen(err.text), 20)
	memcpy(bad, rows, sizeof bad);
	bad[0] = rows[1], bad[1] = rows[0];
	REFUSED(0, 99, 2);
	bad[0] = bad[1] = rows[0];
	REFUSED(0, 99, 2);
	bad[0] = rows[0];
	REFUSED(11, 99, 1);
	REFUSED(0, 9, 1);
	REFUSED(9, 8, 0);
	bad[0].end_offset = 9;
	REFUSED(0, 99, 1);
	bad[0].end_offset = (uint64_t)INT64_MAX + 1;
	REFUSED(0, 99, 1);
	bad[0] = rows[0];
	bad[0].s3_key = (struct shmeta_str){long_string, sizeof long_string};
	REFUSED(0, 99, 1);
	bad[0] = rows[0];
	cr_assert_eq(shmeta__part_edit_append(edit, bad, 1, &err), SHMETA_ERR_INVALID_ARGUMENT);
	edit_end(&subject, edit);
	assert_equal(&subject, &model, 1);
	free_row(&rows[0]);
	free_row(&rows[1]);
	model_free(&model);
	subject_free(&subject);
}

/* A random change within a random range, applied to both. */
static void mutate(struct subject *subject, struct model *model, struct rng *rng, enum shape shape)
{
	uint64_t last = model->count ? model->rows[model->count - 1].base_offset : 0, from, to, next, changed,
		 expected = 0;
	size_t low = 0, high, count, made = 0;
	struct shmeta_segment *rows;

	switch (below(rng, 8)) {
	case 0: /* drop from the front */
		from = 0;
		to = model->count ? model->rows[below(rng, model->count)].base_offset : 10;
		count = 0;
		break;
	case 1: /* drop from the end */
		from = model->count ? model->rows[below(rng, model->count)].base_offset : 0;
		to = UINT64_MAX;
		count = 0;
		break;
	case 2: /* all of it, the same */
		from = 0;
		to = UINT64_MAX;
		count = SIZE_MAX;
		break;
	case 3:
	case 4: /* append */
		from = last + 1;
		to = UINT64_MAX;
		count = below(rng, below(rng, 4) ? 20 : 3000);
		break;
	default: /* in the middle */
		from = below(rng, last + 2);
		to = from + below(rng, last / (1 + below(rng, 40)) + 1);
		count = below(rng, below(rng, 4) ? 5 : 1000);
	}
	if (from > to)
		return;
	while (low < model->count && model->rows[low].base_offset < from)
		low++;
	for (high = low; high < model->count && model->rows[high].base_offset <= to; high++)
		;
	if (count == SIZE_MAX) {
		cr_assert_eq(subject_replace(subject, from, to, model->rows, model->count), 0);
		return;
	}
	next = from;
	rows = make_rows(rng, shape, &next, count, &made);
	while (made && rows[made - 1].base_offset > to)
		free_row(&rows[--made]);
	/* Now and then an old row stays, so that equal, altered and new ones mix. */
	for (size_t i = low, k = 0; i < high && k < made; i++) {
		while (k < made && rows[k].base_offset < model->rows[i].base_offset)
			k++;
		if (k < made && rows[k].base_offset == model->rows[i].base_offset)
			expected++;
	}
	expected = (high - low) + made - expected;
	changed = subject_replace(subject, from, to, rows, made);
	cr_assert_leq(changed, expected);
	model_replace(model, from, to, rows, made);
	free(rows);
}

static void mutate_many(enum shape shape, uint64_t seed, int rounds, size_t start)
{
	struct rng rng = {seed};
	struct subject subject;
	struct model model;

	fill(&subject, &model, &rng, shape, 0, start);
	for (int i = 0; i < rounds; i++) {
		mutate(&subject, &model, &rng, shape);
		assert_equal(&subject, &model, 1 + model.count / 20);
		if (model.count > 60000 || model.count < 10) {
			model_free(&model);
			subject_free(&subject);
			fill(&subject, &model, &rng, shape, 0, start);
		}
	}
	model_free(&model);
	subject_free(&subject);
}

Test(part, random_changes_equal_the_model_contiguous)
{
	mutate_many(STREAMHOUSE, 10, 700, 2000);
}
Test(part, random_changes_equal_the_model_gaps)
{
	mutate_many(GAPS, 11, 700, 500);
}
Test(part, random_changes_equal_the_model_overlaps)
{
	mutate_many(OVERLAPS, 12, 700, 2000);
}
Test(part, random_changes_equal_the_model_odd)
{
	mutate_many(ODD, 13, 700, 400);
}
Test(part, random_changes_equal_the_model_with_directory_pages)
{
	mutate_many(ODD, 14, 200, 12000);
	mutate_many(STREAMHOUSE, 15, 60, 50000);
}

Test(part, equal_rows_change_nothing_and_rewrite_nothing)
{
	struct rng rng = {20};
	struct subject subject;
	struct model model;
	uint64_t allocs, releases;
	uint8_t *old;
	size_t old_bytes;

	fill(&subject, &model, &rng, ODD, 0, 20000);
	allocs = subject.heap.allocs;
	releases = subject.heap.releases;
	old_bytes = subject.head_bytes;
	old = malloc(old_bytes);
	cr_assert_not_null(old);
	memcpy(old, subject.head, old_bytes);
	cr_assert_eq(subject_replace(&subject, 0, UINT64_MAX, model.rows, model.count), 0);
	cr_assert_eq(subject.heap.allocs, allocs);
	cr_assert_eq(subject.heap.releases, releases);
	cr_assert_eq(subject.head_bytes, old_bytes);
	cr_assert_arr_eq(subject.head, old, old_bytes);
	free(old);
	model_free(&model);
	subject_free(&subject);
}

Test(part, a_change_of_one_row_in_the_middle_rewrites_a_few_pages_only)
{
	struct rng rng = {21};
	struct subject subject;
	struct model model;
	struct shmeta_segment row;
	uint64_t allocs;

	fill(&subject, &model, &rng, STREAMHOUSE, 0, 100000);
	allocs = subject.heap.allocs;
	row = model.rows[30000];
	row.size_bytes++;
	cr_assert_eq(subject_replace(&subject, row.base_offset, row.base_offset, &row, 1), 1);
	cr_assert_leq(subject.heap.allocs - allocs, 4);
	model.rows[30000].size_bytes++;
	assert_equal(&subject, &model, 1000);
	model_free(&model);
	subject_free(&subject);
}

Test(part, appending_seals_a_block_now_and_then_and_touches_nothing_else)
{
	struct rng rng = {22};
	struct subject subject;
	struct model model;

	fill(&subject, &model, &rng, STREAMHOUSE, 0, 40000);
	for (int i = 0; i < 2000; i++) {
		uint64_t next = model.rows[model.count - 1].end_offset + 1, releases = subject.heap.releases;
		size_t made;
		struct shmeta_segment *rows = make_rows(&rng, STREAMHOUSE, &next, 1, &made);
		struct shmeta__part_edit *edit = edit_begin(&subject);
		struct shmeta_err err;

		cr_assert_eq(shmeta__part_edit_append(edit, rows, made, &err), SHMETA_OK, "%s", err.text);
		edit_end(&subject, edit);
		model_replace(&model, rows->base_offset, rows->base_offset, rows, made);
		free(rows);
		cr_assert_eq(subject.heap.releases, releases);
		assert_find(&subject, &model, model.rows[model.count - 1].end_offset);
	}
	assert_equal(&subject, &model, 100);
	model_free(&model);
	subject_free(&subject);
}

Test(part, dropping_from_the_front_releases_blocks_and_rewrites_one_at_most)
{
	struct rng rng = {23};
	struct subject subject;
	struct model model;

	fill(&subject, &model, &rng, STREAMHOUSE, 0, 60000);
	while (model.count) {
		size_t drop = 1 + below(&rng, 900);
		uint64_t allocs = subject.heap.allocs, to;

		if (drop > model.count)
			drop = model.count;
		to = model.rows[drop - 1].base_offset;
		cr_assert_eq(subject_replace(&subject, 0, to, NULL, 0), drop);
		/* The block on the boundary, perhaps the next one with it, and its directory
		 * page. */
		cr_assert_leq(subject.heap.allocs - allocs, 4);
		model_replace(&model, 0, to, NULL, 0);
		assert_equal(&subject, &model, 1 + model.count / 20);
	}
	cr_assert_eq(subject.heap.live, 0);
	model_free(&model);
	subject_free(&subject);
}

Test(part, dropping_a_partition_releases_every_block)
{
	struct rng rng = {24};
	struct subject subject;
	struct model model;
	struct shmeta__part_edit *edit;
	struct shmeta_err err;

	fill(&subject, &model, &rng, ODD, 0, 20000);
	cr_assert_gt(subject.heap.live, 100);
	edit = edit_begin(&subject);
	cr_assert_eq(shmeta__part_edit_drop(edit, &err), SHMETA_OK);
	shmeta__part_edit_free(edit);
	cr_assert_eq(subject.heap.live, 0);
	model_free(&model);
	subject_free(&subject);
}

Test(part, directory_pages_alone_answer_too)
{
	struct rng rng = {27};
	struct subject subject;
	struct model model;
	uint64_t from;

	fill(&subject, &model, &rng, LONG, 100, 700);
	cr_assert_gt(subject.part.dir_count, 2);
	/* Drop from the end until nothing but pages is left, and go on. */
	while (subject.part.block_count) {
		from = model.rows[model.count - 1].base_offset;
		cr_assert_eq(subject_replace(&subject, from, UINT64_MAX, NULL, 0), 1);
		model_replace(&model, from, UINT64_MAX, NULL, 0);
	}
	cr_assert_gt(subject.part.dir_count, 2);
	assert_equal(&subject, &model, 1);
	assert_walks(&subject, &model, 0, UINT64_MAX);
	assert_timestamp(&subject, &model, model.rows[model.count - 1].max_timestamp_ms);
	while (model.count) {
		from = model.rows[model.count - 1 - below(&rng, model.count < 9 ? model.count : 9)].base_offset;
		subject_replace(&subject, from, UINT64_MAX, NULL, 0);
		model_replace(&model, from, UINT64_MAX, NULL, 0);
		assert_equal(&subject, &model, 1 + model.count / 20);
	}
	cr_assert_eq(subject.heap.live, 0);
	model_free(&model);
	subject_free(&subject);
}

Test(part, a_full_store_fails_with_a_sentence_and_leaks_nothing)
{
	struct rng rng = {25};
	struct subject subject;
	struct model model;

	fill(&subject, &model, &rng, ODD, 0, 12000);
	for (uint64_t fail = 0;; fail += 1 + fail / 8) {
		struct shmeta__part_edit *edit = edit_begin(&subject);
		struct shmeta_err err = {0};
		uint64_t changed = 42;
		const void *head;
		size_t bytes;
		enum shmeta_status status;

		for (size_t i = 200; i < 9000; i++)
			model.rows[i].size_bytes++;
		subject.heap.fail_after = fail;
		status = shmeta__part_edit_replace(edit, model.rows[100].base_offset, model.rows[9000].base_offset,
		                                   model.rows + 200, 8000, &changed, &err);
		if (status)
			cr_assert_eq(changed, 42);
		else
			status = shmeta__part_edit_encode(edit, &head, &bytes, &err);
		shmeta__part_edit_free(edit);
		subject.heap.fail_after = UINT64_MAX;
		if (!status) {
			cr_assert_gt(fail, 30);
			break;
		}
		cr_assert_eq(status, SHMETA_ERR_FULL);
		cr_assert_gt(strlen(err.text), 20);
		/* A transaction would be aborted now. */
		model_free(&model);
		subject_free(&subject);
		fill(&subject, &model, &rng, ODD, 0, 12000);
	}
	model_free(&model);
	subject_free(&subject);
}

Test(part, a_streamhouse_segment_takes_at_most_twenty_bytes)
{
	struct rng rng = {26};
	struct subject subject;
	struct model model;

	fill(&subject, &model, &rng, STREAMHOUSE, 0, 100000);
	cr_assert_lt((double)(subject.heap.live * 4096 + subject.head_bytes) / (double)model.count, 20.0);
	model_free(&model);
	subject_free(&subject);
	fill(&subject, &model, &rng, STREAMHOUSE, 0, 1000);
	cr_assert_lt((double)(subject.heap.live * 4096 + subject.head_bytes) / (double)model.count, 26.0);
	model_free(&model);
	subject_free(&subject);
}

/* ---- corruption ---- */

static void read_everything(struct shmeta__part *part, uint64_t span)
{
	struct shmeta_segment got;
	struct shmeta__part_cursor cursor;
	char buffer[3 * (SHMETA_STRING_MAX + 1)];
	enum shmeta_status status;

	for (uint64_t i = 0; i < 64; i++) {
		status = shmeta__part_find(part, span / 64 * i, &got);
		if (status == SHMETA_OK)
			status = shmeta__part_strings(part, TOPIC, strlen(TOPIC), &got, buffer, sizeof buffer);
	}
	(void)shmeta__part_find_timestamp(part, 1700000000000, &got);
	(void)shmeta__part_last(part, &got);
	if (shmeta__part_seek(part, 0, UINT64_MAX, &cursor) == SHMETA_OK) {
		while (shmeta__part_next(part, &cursor, &got) == SHMETA_OK)
			;
	}
}

Test(part, a_flipped_byte_of_the_head_is_noticed_when_it_is_opened)
{
	struct rng rng = {30};
	struct subject subject;
	struct model model;

	fill(&subject, &model, &rng, ODD, 0, 5000);
	for (size_t i = 0; i < subject.head_bytes; i++) {
		uint8_t flip = (uint8_t)(1 + below(&rng, 255));

		subject.head[i] ^= flip;
		cr_assert_eq(
			shmeta__part_open(&subject.part, KEY, subject.head, subject.head_bytes, &subject.heap.pages),
			SHMETA_ERR_CORRUPT, "byte %zu", i);
		subject.head[i] ^= flip;
	}
	cr_assert_eq(shmeta__part_open(&subject.part, KEY + 1, subject.head, subject.head_bytes, &subject.heap.pages),
	             SHMETA_ERR_CORRUPT, "another partition's head");
	cr_assert_eq(shmeta__part_open(&subject.part, KEY, subject.head, subject.head_bytes, &subject.heap.pages),
	             SHMETA_OK);
	assert_equal(&subject, &model, 50);
	model_free(&model);
	subject_free(&subject);
}

Test(part, a_flipped_byte_of_a_block_or_directory_page_is_noticed_by_lookups_and_verify)
{
	struct rng rng = {31};
	struct subject subject;
	struct model model;

	fill(&subject, &model, &rng, ODD, 0, 3000);
	for (int i = 0; i < 4000; i++) {
		uint64_t page = 2 + below(&rng, subject.heap.pages.bytes / 4096 - 2);
		uint8_t *at = (uint8_t *)(uintptr_t)subject.heap.pages.base + page * 4096 + 16 +
		              below(&rng, SHMETA_BLOCK_BYTES),
			flip = (uint8_t)(1 + below(&rng, 255));
		struct shmeta__part part = {0};
		struct shmeta_err err = {0};
		struct shmeta_segment got;
		int noticed = 0;

		*at ^= flip;
		cr_assert_eq(shmeta__part_open(&part, KEY, subject.head, subject.head_bytes, &subject.heap.pages),
		             SHMETA_OK);
		cr_assert_eq(shmeta__part_verify(&part, &err), SHMETA_ERR_CORRUPT);
		cr_assert_gt(strlen(err.text), 20);
		for (size_t k = 0; k < model.count; k += 3)
			noticed |= shmeta__part_find(&part, model.rows[k].base_offset, &got) == SHMETA_ERR_CORRUPT;
		cr_assert(noticed);
		shmeta__part_close(&part);
		*at ^= flip;
	}
	model_free(&model);
	subject_free(&subject);
}

Test(part, a_forged_number_of_rows_is_refused_at_once)
{
	static const uint32_t forged[] = {0, 4097, UINT32_C(1) << 31, UINT32_MAX};
	struct rng rng = {33};
	struct subject subject;
	struct model model;
	uint8_t *entry, *tail;

	fill(&subject, &model, &rng, STREAMHOUSE, 0, 5);
	entry = subject.head + sizeof(struct shmeta_part_head);
	tail = entry + sizeof(struct shmeta_part_entry);
	/* Rows of no bytes at all: as many as one likes fit. */
	entry[offsetof(struct shmeta_part_entry, stride)] = 0;
	memset(tail + offsetof(struct shmeta_block_head, width), 0, 8);
	for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
		struct shmeta_segment got;
		uint64_t checksum;

		memcpy(entry + offsetof(struct shmeta_part_entry, rows), &forged[i], sizeof forged[i]);
		checksum = shmeta__head_checksum(subject.head, subject.head_bytes, KEY);
		memcpy(subject.head, &checksum, sizeof checksum);
		cr_assert_eq(
			shmeta__part_open(&subject.part, KEY, subject.head, subject.head_bytes, &subject.heap.pages),
			SHMETA_OK);
		cr_assert_eq(shmeta__part_find(&subject.part, model.rows[1].base_offset, &got), SHMETA_ERR_CORRUPT);
		cr_assert_eq(shmeta__part_last(&subject.part, &got), SHMETA_ERR_CORRUPT);
		cr_assert_eq(shmeta__part_verify(&subject.part, NULL), SHMETA_ERR_CORRUPT);
	}
	model_free(&model);
	subject_free(&subject);
}

Test(part, a_page_that_is_overwritten_after_it_was_verified_is_harmless)
{
	struct rng rng = {32};
	struct subject subject;
	struct model model;
	uint64_t span;

	fill(&subject, &model, &rng, ODD, 0, 30000);
	span = model.high_watermark;
	read_everything(&subject.part, span);
	for (int i = 0; i < 3000; i++) {
		uint64_t page = 2 + below(&rng, subject.heap.pages.bytes / 4096 - 2);
		uint8_t *at = (uint8_t *)(uintptr_t)subject.heap.pages.base + page * 4096 + 16;

		/* The fields that say how the rest is read are hit most. */
		for (int k = 0; k < 8; k++)
			at[below(&rng, below(&rng, 3) ? 128 : SHMETA_BLOCK_BYTES)] = (uint8_t)draw(&rng);
		if (i % 100 == 0)
			read_everything(&subject.part, span);
	}
	read_everything(&subject.part, span);
	model_free(&model);
	subject_free(&subject);
}

Test(part, the_head_of_another_partition_in_its_place_is_noticed_where_the_tail_is_used)
{
	const uint64_t other = KEY + 1;
	struct shmeta_segment row;
	struct rng rng = {33};
	struct subject subject;
	struct model model;

	fill(&subject, &model, &rng, GAPS, 0, 40);
	cr_assert_eq(shmeta__part_last(&subject.part, &row), SHMETA_OK);
	cr_assert_eq(shmeta__part_find(&subject.part, row.base_offset, &row), SHMETA_OK);
	/* Of the same shape, so that only the key tells them apart. */
	memcpy((uint8_t *)(uintptr_t)subject.part.tail + 8, &other, sizeof other);
	cr_expect_eq(shmeta__part_find(&subject.part, row.base_offset, &row), SHMETA_ERR_CORRUPT);
	cr_expect_eq(shmeta__part_last(&subject.part, &row), SHMETA_ERR_CORRUPT);
	model_free(&model);
	subject_free(&subject);
}

/* ---- what is verified once ---- */

static uint64_t id_of(const struct subject *subject, uint64_t locator)
{
	for (uint64_t id = 1; id < subject->heap.next_id; id++) {
		if (subject->heap.locators[id] == locator)
			return id;
	}
	cr_assert_fail("no block has the locator");
	return 0;
}

/* Look up a row, after its block's checksum was broken: passes only when the handle has verified
 * the block before. */
static void probe(struct subject *subject, uint64_t offset, uint8_t *touched, int touch)
{
	struct shmeta__part look = {0};
	struct shmeta_segment got;
	enum shmeta_status status;
	uint8_t *block;
	uint64_t id;

	cr_assert_eq(shmeta__part_open(&look, KEY, subject->head, subject->head_bytes, &subject->heap.pages),
	             SHMETA_OK);
	cr_assert_eq(shmeta__part_find(&look, offset, &got), SHMETA_OK);
	shmeta__part_close(&look);
	if (!got.locator[0])
		return; /* the tail */
	id = id_of(subject, got.locator[0]);
	cr_assert_lt(id, 1 << 20);
	block = (uint8_t *)(uintptr_t)subject->heap.pages.base + got.locator[0] * 4096 + 16;
	block[0] ^= 1; /* nothing else looks at it */
	status = shmeta__part_find(&subject->part, offset, &got);
	cr_assert(status == SHMETA_ERR_CORRUPT || touched[id], "block %llu passed unseen", (unsigned long long)id);
	block[0] ^= 1;
	if (touch) {
		cr_assert_eq(shmeta__part_find(&subject->part, offset, &got), SHMETA_OK);
		touched[id] = 1;
	}
}

/* Blocks are known by id here, and by their place among others inside: a handle must never take one
 * for another that it has verified, whatever was appended, dropped, folded into directory pages or
 * rewritten in between. */
static void marks(enum shape shape, uint64_t seed, size_t start, int rounds)
{
	struct rng rng = {seed};
	struct subject subject;
	struct model model;
	uint8_t *touched = calloc(1, 1 << 20);

	cr_assert_not_null(touched);
	fill(&subject, &model, &rng, shape, 0, start);
	for (int i = 0; i < rounds && model.count; i++) {
		for (int k = 0; k < 30; k++)
			probe(&subject, model.rows[below(&rng, model.count)].base_offset, touched, below(&rng, 2) != 0);
		mutate(&subject, &model, &rng, shape);
	}
	free(touched);
	model_free(&model);
	subject_free(&subject);
}

/* Rows in at the end, whole blocks out at the front: every ordinal comes round again. */
static void marks_turning(uint64_t seed, size_t start, int rounds)
{
	struct rng rng = {seed};
	struct subject subject;
	struct model model;
	uint8_t *touched = calloc(1, 1 << 20);

	cr_assert_not_null(touched);
	fill(&subject, &model, &rng, LONG, 0, start);
	for (int i = 0; i < rounds; i++) {
		uint64_t from = model.rows[model.count - 1].end_offset + 1, next = from, first = 0;
		size_t made, drop = 0, blocks = 0, most = 1 + below(&rng, 20);
		struct shmeta_segment *rows = make_rows(&rng, LONG, &next, below(&rng, 60), &made), got;
		struct shmeta__part_cursor cursor;
		struct shmeta__part look = {0}; /* walks without leaving marks in the subject's */

		subject_replace(&subject, from, UINT64_MAX, rows, made);
		model_replace(&model, from, UINT64_MAX, rows, made);
		free(rows);
		for (int k = 0; k < 40; k++)
			probe(&subject, model.rows[below(&rng, model.count)].base_offset, touched, 1);
		cr_assert_eq(shmeta__part_open(&look, KEY, subject.head, subject.head_bytes, &subject.heap.pages),
		             SHMETA_OK);
		cr_assert_eq(shmeta__part_seek(&look, 0, UINT64_MAX, &cursor), SHMETA_OK);
		for (size_t k = 0; k < model.count && model.count > start; k++) {
			cr_assert_eq(shmeta__part_next(&look, &cursor, &got), SHMETA_OK);
			if (got.locator[0] == first)
				continue;
			first = got.locator[0];
			drop = k;
			if (blocks++ == most || !first)
				break;
		}
		shmeta__part_close(&look);
		if (drop) {
			uint32_t rewrites = subject.part.rewrites;

			next = model.rows[drop - 1].base_offset;
			cr_assert_eq(subject_replace(&subject, 0, next, NULL, 0), drop);
			model_replace(&model, 0, next, NULL, 0);
			cr_assert_eq(subject.part.rewrites, rewrites, "dropping whole blocks rewrote something");
		}
	}
	assert_equal(&subject, &model, 10);
	free(touched);
	model_free(&model);
	subject_free(&subject);
}

Test(part, no_block_is_taken_for_another_that_was_verified)
{
	marks(STREAMHOUSE, 40, 3000, 300);
	marks(ODD, 41, 9000, 150);
	marks(STREAMHOUSE, 42, 120000, 40);
	marks_turning(44, 30, 200);
	marks_turning(45, 2500, 150);
}

Test(part, a_block_is_verified_once_while_it_stays)
{
	struct rng rng = {43};
	struct subject subject;
	struct model model;
	struct shmeta_segment got;
	uint8_t *block;
	uint64_t next;

	fill(&subject, &model, &rng, STREAMHOUSE, 0, 3000);
	cr_assert_eq(shmeta__part_find(&subject.part, model.rows[500].base_offset, &got), SHMETA_OK);
	block = (uint8_t *)(uintptr_t)subject.heap.pages.base + got.locator[0] * 4096 + 16;
	block[0] ^= 1;
	cr_assert_eq(shmeta__part_find(&subject.part, model.rows[500].base_offset, &got), SHMETA_OK);
	/* Appending keeps what is known. */
	for (int i = 0; i < 3; i++) {
		struct shmeta_segment *rows;
		size_t made;

		next = model.rows[model.count - 1].end_offset + 1;
		rows = make_rows(&rng, STREAMHOUSE, &next, 700, &made);
		subject_replace(&subject, rows->base_offset, UINT64_MAX, rows, made);
		model_replace(&model, rows->base_offset, UINT64_MAX, rows, made);
		free(rows);
		cr_assert_eq(shmeta__part_find(&subject.part, model.rows[500].base_offset, &got), SHMETA_OK);
	}
	/* Another partition's head in the same handle knows nothing. */
	subject.part.key++;
	cr_assert_eq(shmeta__part_open(&subject.part, KEY, subject.head, subject.head_bytes, &subject.heap.pages),
	             SHMETA_OK);
	cr_assert_eq(shmeta__part_find(&subject.part, model.rows[500].base_offset, &got), SHMETA_ERR_CORRUPT);
	model_free(&model);
	subject_free(&subject);
}
