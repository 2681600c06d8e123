/* SPDX-License-Identifier: Apache-2.0
 * What was once written of a partition is read for ever.
 *
 * tests/golden/part-NAME.bin holds a head and the pages it refers to, part-NAME.txt what it must
 * read as: the partition, then a line for each row, strings in hex. Neither is ever changed. A new
 * file is added by adding its name and maker to the table below and running this test: it writes
 * both files to the build folder, says so, and fails; look at them, then move them. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/index/part.h"
#include "tests/support/heap_pager.h"
#include "tests/support/places.h"

TestSuite(part_golden, .timeout = 60);

static const uint64_t KEY = (UINT64_C(77) << 32) | 12;
static const char TOPIC[] = "orders-7";

enum { PAGES_MAX = 256 };

/* ---- making a new file ---- */

struct maker {
	struct heap_pager heap;
	uint8_t *head;
	size_t head_bytes;
};

static struct shmeta__part_edit *begin(struct maker *maker)
{
	struct shmeta__part_edit *edit = NULL;

	cr_assert_eq(shmeta__part_edit_new(KEY, TOPIC, strlen(TOPIC), maker->head, maker->head_bytes,
	                                   &maker->heap.pager, &edit, NULL),
	             SHMETA_OK);
	return edit;
}

static void end(struct maker *maker, struct shmeta__part_edit *edit)
{
	const void *head;
	size_t bytes;

	cr_assert_eq(shmeta__part_edit_encode(edit, &head, &bytes, NULL), SHMETA_OK);
	maker->head = realloc(maker->head, bytes);
	cr_assert_not_null(maker->head);
	memcpy(maker->head, head, bytes);
	maker->head_bytes = bytes;
	shmeta__part_edit_free(edit);
}

static void add(struct maker *maker, uint64_t base, uint64_t records, const char *id, const char *bucket,
                const char *key, int wild)
{
	struct shmeta__part_edit *edit = begin(maker);
	struct shmeta_segment row = {
		.base_offset = base,
		.end_offset = base + records - 1,
		.size_bytes = wild ? UINT64_MAX - base : records * 731,
		.created_at_ms = wild ? INT64_MIN + (int64_t)base : 1700000000000 + (int64_t)(base / 7),
		.min_timestamp_ms = wild ? INT64_MAX : 1699999990000 + (int64_t)(base / 7),
		.max_timestamp_ms = wild ? -1 : 1700000000000 + (int64_t)(base / 7),
		.record_count = wild ? UINT32_MAX : (uint32_t)records,
		.id = {id, strlen(id)},
		.s3_bucket = {bucket, strlen(bucket)},
		.s3_key = {key, strlen(key)},
	};
	uint64_t changed;

	cr_assert_eq(shmeta__part_edit_replace(edit, base, base, &row, 1, &changed, NULL), SHMETA_OK);
	end(maker, edit);
}

static void stamp(struct maker *maker, uint64_t high_watermark)
{
	struct shmeta_partition record = {
		.high_watermark = high_watermark, .created_at_ms = 1690000000000, .updated_at_ms = 1700000000001};
	struct shmeta__part_edit *edit = begin(maker);

	shmeta__part_edit_record(edit, &record);
	shmeta__part_edit_stamp(edit, 987654321, 15000);
	end(maker, edit);
}

static void add_templated(struct maker *maker, uint64_t base, uint64_t records)
{
	char id[64], key[96];

	(void)snprintf(id, sizeof id, "%s-12-%" PRIu64, TOPIC, base);
	(void)snprintf(key, sizeof key, "data/%s/12/%020" PRIu64 ".seg", TOPIC, base);
	add(maker, base, records, id, "streamhouse", key, 0);
}

static void make_empty(struct maker *maker)
{
	stamp(maker, 4711);
}

static void make_small(struct maker *maker)
{
	for (uint64_t i = 0; i < 40; i++)
		add_templated(maker, 1000 + i * i * 50, 100);
	stamp(maker, 1000000);
}

/* Overlaps, gaps, odd strings, extreme numbers; some blocks. */
static void make_odd(struct maker *maker)
{
	char id[64], key[256];
	uint64_t base = 0;

	for (uint64_t i = 0; i < 500; i++) {
		uint64_t records = 10 + i % 7 * 1000;

		if (i % 5 == 2) {
			(void)snprintf(id, sizeof id, "%08" PRIx64 "-\x01\x02\x03\x04\x05\x06-%" PRIu64,
			               i * 2654435761u, i);
			(void)snprintf(key, sizeof key, "compacted/%s/%" PRIu64 "/%" PRIu64 "/%" PRIu64 ".zst", TOPIC,
			               base, base + records - 1, i);
			add(maker, base, records, id, i % 3 ? "archive" : "", key, i % 25 == 7);
		} else {
			add_templated(maker, base, records);
		}
		base += i % 11 == 3 ? records + 5 : i % 13 == 4 ? 5 : records;
	}
	add(maker, INT64_MAX - 1, 2, "last", "b", "k", 1);
	stamp(maker, (uint64_t)INT64_MAX + 1);
}

/* A directory page whose first entries were dropped. */
static void make_directory(struct maker *maker)
{
	struct shmeta__part_edit *edit;
	char id[1001], key[1001];
	uint64_t changed;

	memset(id, 'i', sizeof id);
	memset(key, 'k', sizeof key);
	id[1000] = key[1000] = 0;
	for (uint64_t i = 0; i < 128; i++) {
		(void)snprintf(id, 20, "%019" PRIu64, i * 77);
		(void)snprintf(key, 20, "%019" PRIu64, i * 99);
		id[19] = key[19] = '/';
		add(maker, i * 100, 100, id, "streamhouse", key, 0);
	}
	edit = begin(maker);
	cr_assert_eq(shmeta__part_edit_replace(edit, 0, 12199, NULL, 0, &changed, NULL), SHMETA_OK);
	end(maker, edit);
	stamp(maker, 12800);
}

/* The oldest blocks are not resident, nor are some that left before. */
static void make_window(struct maker *maker)
{
	for (uint64_t i = 0; i < 1200; i++)
		add_templated(maker, 1000 + i * i * 50, 100);
	stamp(maker, UINT64_C(1) << 40);
	for (int i = 0; i < 2; i++) {
		struct shmeta_part_window window;
		struct shmeta__part part = {0};
		struct shmeta__part_edit *edit;

		cr_assert_eq(shmeta__part_open(&part, KEY, maker->head, maker->head_bytes, &maker->heap.pages),
		             SHMETA_OK);
		cr_assert_eq(shmeta__part_narrow(&part, 1, &window), SHMETA_OK);
		shmeta__part_close(&part);
		edit = begin(maker);
		cr_assert_eq(shmeta__part_edit_window(edit, &window, NULL), SHMETA_OK);
		end(maker, edit);
	}
}

static const struct {
	const char *name;
	void (*make)(struct maker *maker);
} files[] = {{"empty", make_empty},
             {"small", make_small},
             {"odd", make_odd},
             {"directory", make_directory},
             {"window", make_window}};

static void write_words(FILE *file, const uint32_t *words, size_t count)
{
	cr_assert_eq(fwrite(words, sizeof *words, count, file), count);
}

static void list_page(void *arg, uint64_t id, uint64_t locator)
{
	uint32_t *words = arg;

	(void)id;
	cr_assert_lt(words[1], PAGES_MAX);
	words[2 + words[1]++] = (uint32_t)locator;
}

/* ---- reading ---- */

static void print_hex(FILE *file, struct shmeta_str text)
{
	(void)fprintf(file, " ");
	for (size_t i = 0; i < text.bytes; i++)
		(void)fprintf(file, "%02x", (unsigned char)text.data[i]);
	if (!text.bytes)
		(void)fprintf(file, "-");
}

/* The part in words. */
static void print_part(FILE *file, struct shmeta__part *part)
{
	struct shmeta_partition p;
	struct shmeta_part_window w;
	struct shmeta__part_cursor cursor;
	struct shmeta_segment s, found;
	char buffer[3 * (SHMETA_STRING_MAX + 1)];
	enum shmeta_status status;

	shmeta__part_record(part, &p);
	(void)fprintf(file, "partition %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 "\n",
	              p.topic_id, p.partition_id, p.high_watermark, p.log_start_offset, p.segment_count, p.size_bytes,
	              p.created_at_ms, p.updated_at_ms);
	(void)fprintf(file, "stamps %" PRIu64 " %u\n", shmeta__part_synced_at_ns(part), shmeta__part_ttl_ms(part));
	if (shmeta__part_window(part, &w))
		(void)fprintf(file, "window %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 "\n",
		              w.from, w.max_end, w.log_start, w.segment_count, w.size_bytes, w.max_timestamp_ms);
	cr_assert_eq(shmeta__part_seek(part, 0, UINT64_MAX, &cursor), SHMETA_OK);
	while ((status = shmeta__part_next(part, &cursor, &s)) == SHMETA_OK) {
		cr_assert_eq(shmeta__part_find(part, s.base_offset, &found), SHMETA_OK);
		cr_assert_eq(found.base_offset, s.base_offset);
		cr_assert_eq(shmeta__part_strings(part, TOPIC, strlen(TOPIC), &s, buffer, sizeof buffer), SHMETA_OK);
		(void)fprintf(file, "%" PRIu64 " %" PRIu64 " %u %" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64,
		              s.base_offset, s.end_offset, s.record_count, s.size_bytes, s.created_at_ms,
		              s.min_timestamp_ms, s.max_timestamp_ms);
		print_hex(file, s.id);
		print_hex(file, s.s3_bucket);
		print_hex(file, s.s3_key);
		(void)fprintf(file, "\n");
	}
	cr_assert_eq(status, SHMETA_END);
}

static uint8_t *read_file(const char *path, size_t *ret_bytes)
{
	FILE *file = fopen(path, "rb");
	uint8_t *bytes;
	long size;

	if (!file)
		return NULL;
	cr_assert_eq(fseek(file, 0, SEEK_END), 0);
	size = ftell(file);
	cr_assert_geq(size, 0);
	rewind(file);
	bytes = malloc((size_t)size + 1);
	cr_assert_not_null(bytes);
	cr_assert_eq(fread(bytes, 1, (size_t)size, file), (size_t)size);
	bytes[size] = 0;
	(void)fclose(file);
	*ret_bytes = (size_t)size;
	return bytes;
}

static void make(const char *name, void (*maker_of)(struct maker *maker))
{
	struct maker maker = {.head = NULL};
	struct shmeta__part part = {0};
	uint32_t words[2 + PAGES_MAX] = {0};
	char path[512];
	FILE *file;

	heap_pager_init(&maker.heap);
	maker_of(&maker);
	cr_assert_eq(shmeta__part_open(&part, KEY, maker.head, maker.head_bytes, &maker.heap.pages), SHMETA_OK);
	words[0] = (uint32_t)maker.head_bytes;
	cr_assert_eq(shmeta__part_blocks(&part, list_page, words), SHMETA_OK);

	(void)snprintf(path, sizeof path, "%s/part-%s.bin", places_build, name);
	file = fopen(path, "wb");
	cr_assert_not_null(file);
	write_words(file, words, 2 + words[1]);
	cr_assert_eq(fwrite(maker.head, 1, maker.head_bytes, file), maker.head_bytes);
	for (uint32_t i = 0; i < words[1]; i++)
		cr_assert_eq(
			fwrite(maker.heap.pages.base + (size_t)words[2 + i] * 4096 + 16, 1, SHMETA_BLOCK_BYTES, file),
			SHMETA_BLOCK_BYTES);
	cr_assert_eq(fclose(file), 0);
	(void)snprintf(path, sizeof path, "%s/part-%s.txt", places_build, name);
	file = fopen(path, "w");
	cr_assert_not_null(file);
	print_part(file, &part);
	cr_assert_eq(fclose(file), 0);
	shmeta__part_close(&part);
	free(maker.head);
	heap_pager_free(&maker.heap);
}

Test(part_golden, files_of_every_shape_read_as_they_always_did)
{
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		struct shmeta__pages pages = {.page_bytes = 4096};
		struct shmeta__part part = {0};
		struct shmeta_err err = {0};
		uint32_t head_bytes, count, most = 1;
		size_t bytes = 0, expected_bytes = 0, actual_bytes = 0;
		uint8_t *data, *map;
		char path[512], *expected, *got = NULL;
		FILE *file;

		(void)snprintf(path, sizeof path, "%s/tests/golden/part-%s.bin", places_source, files[i].name);
		data = read_file(path, &bytes);
		if (!data) {
			make(files[i].name, files[i].make);
			cr_assert_fail(
				"%s is not there; part-%s.bin and .txt were made in %s: look at them and move them",
				path, files[i].name, places_build);
		}
		(void)snprintf(path, sizeof path, "%s/tests/golden/part-%s.txt", places_source, files[i].name);
		expected = (char *)read_file(path, &expected_bytes);
		cr_assert_not_null(expected);

		memcpy(&head_bytes, data, 4);
		memcpy(&count, data + 4, 4);
		cr_assert_eq(bytes, 8 + 4 * (size_t)count + head_bytes + (size_t)count * SHMETA_BLOCK_BYTES);
		for (uint32_t k = 0; k < count; k++) {
			uint32_t locator;

			memcpy(&locator, data + 8 + 4 * (size_t)k, 4);
			if (locator > most)
				most = locator;
		}
		pages.bytes = ((uint64_t)most + 1) * 4096;
		map = calloc(1, pages.bytes);
		cr_assert_not_null(map);
		pages.base = map;
		for (uint32_t k = 0; k < count; k++) {
			uint32_t locator;

			memcpy(&locator, data + 8 + 4 * (size_t)k, 4);
			memcpy(map + (size_t)locator * 4096 + 16,
			       data + 8 + 4 * (size_t)count + head_bytes + (size_t)k * SHMETA_BLOCK_BYTES,
			       SHMETA_BLOCK_BYTES);
		}
		cr_assert_eq(shmeta__part_open(&part, KEY, data + 8 + 4 * (size_t)count, head_bytes, &pages), SHMETA_OK,
		             "%s", files[i].name);
		cr_assert_eq(shmeta__part_verify(&part, &err), SHMETA_OK, "%s: %s", files[i].name, err.text);
		file = open_memstream(&got, &actual_bytes);
		cr_assert_not_null(file);
		print_part(file, &part);
		cr_assert_eq(fclose(file), 0);
		cr_assert_eq(actual_bytes, expected_bytes, "%s", files[i].name);
		cr_assert_arr_eq(got, expected, expected_bytes);
		shmeta__part_close(&part);
		free(got);
		free(expected);
		free(map);
		free(data);
	}
}
