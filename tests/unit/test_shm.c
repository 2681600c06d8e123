/* SPDX-License-Identifier: Apache-2.0
 * Board, generation page, registration page, stats page and frames: what is accepted, and that
 * everything else is refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "shm/page/board.h"
#include "shm/page/histogram.h"
#include "shm/page/seqlock.h"
#include "shm/page/slots.h"
#include "shm/page/stats_page.h"
#include "shm/wire/wire.h"
#include "tests/support/scratch.h"

TestSuite(board, .timeout = 10);
TestSuite(generation, .timeout = 10);
TestSuite(slots, .timeout = 10);
TestSuite(wire, .timeout = 10);
TestSuite(stats, .timeout = 10);
TestSuite(err, .timeout = 10);

static struct shmeta_board good_board(void)
{
	return (struct shmeta_board){.signature = "SHMBOAR",
	                             .incompat = SHMETA_BOARD_INCOMPAT_V1,
	                             .board_bytes = sizeof(struct shmeta_board),
	                             .phase = SHMETA_PHASE_SERVING};
}

Test(board, a_change_in_any_signature_byte_is_refused)
{
	struct shmeta_board good = good_board();

	good.signature[7] = 'D';
	cr_assert_eq(shmeta__board_check(&good, SHMETA_PAGE, NULL), SHMETA_OK);
	for (size_t i = 0; i < sizeof good.signature; i++) {
		struct shmeta_board bad = good;

		bad.signature[i] ^= 1;
		cr_assert_eq(shmeta__board_check(&bad, SHMETA_PAGE, NULL), SHMETA_ERR_CORRUPT);
	}
}

Test(board, an_unknown_incompatible_bit_is_refused_and_an_unknown_compatible_one_is_not)
{
	struct shmeta_err err = {0};

	for (int bit = 0; bit < 32; bit++) {
		struct shmeta_board b = good_board();

		b.signature[7] = 'D';
		b.incompat |= 1u << bit;
		cr_assert_eq(shmeta__board_check(&b, SHMETA_PAGE, &err), bit == 0 ? SHMETA_OK : SHMETA_ERR_VERSION);
		b.incompat = SHMETA_BOARD_INCOMPAT_V1;
		b.compat |= 1u << bit;
		cr_assert_eq(shmeta__board_check(&b, SHMETA_PAGE, &err), SHMETA_OK);
	}
	cr_assert(strstr(err.text, SHMETA_VERSION_STRING), "the sentence names this version: %s", err.text);
}

Test(board, sizes_that_do_not_fit_the_file_are_refused)
{
	struct shmeta_board b = good_board();

	b.signature[7] = 'D';
	cr_assert_eq(shmeta__board_check(&b, sizeof b, NULL), SHMETA_OK);
	cr_assert_eq(shmeta__board_check(&b, sizeof b - 1, NULL), SHMETA_ERR_CORRUPT);
	b.board_bytes--;
	cr_assert_eq(shmeta__board_check(&b, SHMETA_PAGE, NULL), SHMETA_ERR_CORRUPT);
	b.board_bytes = sizeof b + 100; /* a later writer's, with fields appended */
	cr_assert_eq(shmeta__board_check(&b, SHMETA_PAGE, NULL), SHMETA_OK);
	b.phase = SHMETA_PHASE_STOPPED + 1;
	cr_assert_eq(shmeta__board_check(&b, SHMETA_PAGE, NULL), SHMETA_ERR_CORRUPT);
}

static struct shmeta_generation good_generation(void)
{
	struct shmeta_generation g = {.incompat = SHMETA_GEN_INCOMPAT_V1,
	                              .generation = 7,
	                              .max_bytes = 1 << 20,
	                              .touched_words = SHMETA_TOUCHED_WORDS,
	                              .touched_at = SHMETA_PAGE};

	memcpy(g.signature, "SHMGENER", 8);
	return g;
}

Test(generation, touched_words_outside_the_file_are_refused)
{
	struct shmeta_generation g = good_generation();

	cr_assert_eq(shmeta__generation_check(&g, SHMETA_GENERATION_BYTES, NULL), SHMETA_OK);
	cr_assert_eq(shmeta__generation_check(&g, SHMETA_GENERATION_BYTES - 1, NULL), SHMETA_ERR_CORRUPT);
	g.touched_at += 4;
	cr_assert_eq(shmeta__generation_check(&g, SHMETA_GENERATION_BYTES + 8, NULL), SHMETA_ERR_CORRUPT);
	g.touched_at = 8;
	cr_assert_eq(shmeta__generation_check(&g, SHMETA_GENERATION_BYTES, NULL), SHMETA_ERR_CORRUPT);
	g = good_generation();
	g.touched_words *= 2;
	cr_assert_eq(shmeta__generation_check(&g, (uint64_t)1 << 30, NULL), SHMETA_ERR_CORRUPT);
	g = good_generation();
	g.max_bytes = 4097;
	cr_assert_eq(shmeta__generation_check(&g, SHMETA_GENERATION_BYTES, NULL), SHMETA_ERR_CORRUPT);
	g = good_generation();
	g.incompat |= 2;
	cr_assert_eq(shmeta__generation_check(&g, SHMETA_GENERATION_BYTES, NULL), SHMETA_ERR_VERSION);
	g = good_generation();
	g.signature[0] = 'X';
	cr_assert_eq(shmeta__generation_check(&g, SHMETA_GENERATION_BYTES, NULL), SHMETA_ERR_CORRUPT);
}

Test(generation, every_touched_word_index_lies_in_the_array)
{
	uint64_t x = 1;

	for (int i = 0; i < 100000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		cr_assert_lt(shmeta__touched_partition((uint32_t)x, (uint32_t)(x >> 32)), SHMETA_TOUCHED_WORDS);
		cr_assert_lt(shmeta__touched_name(x), SHMETA_TOUCHED_WORDS);
	}
}

Test(board, map_file_creates_allocated_files_and_refuses_short_and_missing_ones)
{
	char dir[SCRATCH_PATH_MAX];
	struct shmeta_err err = {0};
	struct stat st;
	void *map = NULL;
	int fd;

	cr_assert(scratch_dir("shm", dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(shmeta__map_file(fd, "board", SHMETA_PAGE, 0, &map, &err), SHMETA_ERR_NOT_RUNNING);
	cr_assert_eq(shmeta__map_file(fd, "board", SHMETA_PAGE, 1, &map, &err), SHMETA_OK);
	cr_assert_eq(fstatat(fd, "board", &st, 0), 0);
	cr_assert_eq(st.st_size, SHMETA_PAGE);
	cr_assert_eq(st.st_mode & 0777, 0640);
	cr_assert_geq(st.st_blocks * 512, SHMETA_PAGE, "not sparse");
	cr_assert_eq(munmap(map, SHMETA_PAGE), 0);
	cr_assert_eq(shmeta__map_file(fd, "board", SHMETA_PAGE + 1, 0, &map, &err), SHMETA_ERR_CORRUPT);
	cr_assert_eq(symlinkat("board", fd, "link"), 0);
	cr_assert_eq(shmeta__map_file(fd, "link", SHMETA_PAGE, 0, &map, &err), SHMETA_ERR_SYSTEM,
	             "links are not followed");
	cr_assert_eq(unlinkat(fd, "link", 0), 0);
	cr_assert_eq(unlinkat(fd, "board", 0), 0);
	(void)close(fd);
	cr_assert_eq(rmdir(dir), 0);
}

Test(slots, every_bucket_holds_exactly_the_values_from_its_floor_to_the_next)
{
	for (uint32_t i = 0; i + 1 < SHMETA_HISTOGRAM_BUCKETS; i++) {
		cr_assert_lt(shmeta__histogram_floor(i), shmeta__histogram_floor(i + 1));
		cr_assert_eq(shmeta__histogram_bucket(shmeta__histogram_floor(i)), i);
		cr_assert_eq(shmeta__histogram_bucket(shmeta__histogram_floor(i + 1) - 1), i);
	}
	cr_assert_eq(shmeta__histogram_bucket(UINT64_MAX), SHMETA_HISTOGRAM_BUCKETS - 1);
}

static size_t good_refresh(uint64_t *packet, uint32_t name, uint32_t tenant)
{
	size_t bytes = sizeof(struct shmeta_frame_refresh) + name + tenant;
	struct shmeta_frame_refresh f = {
		.head = {.bytes = (uint32_t)bytes, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_REFRESH},
		.cls = SHMETA_CLASS_SEGMENT,
		.name_bytes = name,
		.tenant_bytes = tenant};

	memcpy(packet, &f, sizeof f);
	return bytes;
}

Test(wire, a_frame_is_accepted_at_its_exact_length_only)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8 + 1] = {0};
	size_t bytes = good_refresh(packet, SHMETA_NAME_MAX, SHMETA_TENANT_MAX);
	struct shmeta_frame *head = (struct shmeta_frame *)packet;

	cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_OK);
	for (size_t n = 0; n <= bytes + 64; n++) {
		if (n == bytes)
			continue;
		cr_assert_eq(shmeta__frame_check(packet, n), SHMETA_ERR_PROTOCOL, "%zu", n);
		head->bytes = (uint32_t)n; /* also when the frame admits it */
		cr_assert_eq(shmeta__frame_check(packet, n), SHMETA_ERR_PROTOCOL, "%zu", n);
		head->bytes = (uint32_t)bytes;
	}
	/* Nor when it says that it is another one's length. */
	head->bytes = (uint32_t)bytes - 1;
	cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL);
	head->bytes = (uint32_t)bytes + 1;
	cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL);
}

Test(wire, names_beyond_their_limit_unknown_classes_types_and_versions_are_refused)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8 + 1] = {0};
	struct shmeta_frame_refresh *f = (struct shmeta_frame_refresh *)packet;
	size_t bytes = good_refresh(packet, SHMETA_NAME_MAX + 1, 0);

	cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL);
	bytes = good_refresh(packet, 3, SHMETA_TENANT_MAX + 1);
	cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL);
	bytes = good_refresh(packet, 3, 3);
	f->name_bytes = UINT32_MAX;
	f->tenant_bytes = 7; /* the sum wraps to 6 in 32 bits */
	cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL);
	bytes = good_refresh(packet, 3, 3);
	f->cls = SHMETA_CLASS_COUNT;
	cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL);
	bytes = good_refresh(packet, 3, 3);
	f->head.version = 2;
	cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL);
	f->head.version = SHMETA_WIRE_VERSION;
	for (unsigned type = 0; type < 65536; type++) {
		f->head.type = (uint16_t)type;
		/* An invalidation has the same shape. */
		if (type != SHMETA_FRAME_REFRESH && type != SHMETA_FRAME_INVALIDATE)
			cr_assert_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL, "%u", type);
	}
	cr_assert_str_eq(shmeta__frame_name(SHMETA_FRAME_RELOAD), "reload");
	cr_assert_str_eq(shmeta__frame_name(999), "unknown");
}

Test(wire, a_refresh_names_an_agent_or_a_group_behind_the_tenant_and_nothing_of_other_classes)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8 + 1] = {0};
	struct shmeta_frame_refresh *f = (struct shmeta_frame_refresh *)packet;

	for (uint32_t cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		for (size_t id = 0; id <= SHMETA_NAME_MAX + 1; id++) {
			size_t bytes = good_refresh(packet, 3, 3) + id;
			int named = cls == SHMETA_CLASS_AGENT || cls == SHMETA_CLASS_OFFSET;

			f->cls = cls;
			f->head.bytes = (uint32_t)bytes;
			cr_assert_eq(shmeta__frame_check(packet, bytes),
			             id == 0 || (named && id <= SHMETA_NAME_MAX) ? SHMETA_OK : SHMETA_ERR_PROTOCOL,
			             "class %u, %zu bytes", cls, id);
		}
}

static size_t good_invalidate(uint64_t *packet, enum shmeta_class cls, uint32_t name, uint32_t flags)
{
	size_t bytes = sizeof(struct shmeta_frame_invalidate) + name;
	struct shmeta_frame_invalidate f = {
		.head = {.bytes = (uint32_t)bytes, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_INVALIDATE},
		.cls = cls,
		.name_bytes = name,
		.flags = flags};

	memcpy(packet, &f, sizeof f);
	return bytes;
}

Test(wire, an_invalidation_names_what_its_class_needs_and_nothing_else)
{
	static const struct {
		enum shmeta_class cls;
		uint32_t name, flags;
		enum shmeta_status answer;
	} cases[] = {
		{SHMETA_CLASS_TOPIC, 3, 0, SHMETA_OK},
		{SHMETA_CLASS_TOPIC, 0, 0, SHMETA_ERR_PROTOCOL},
		{SHMETA_CLASS_TOPIC, 0, SHMETA_INVALIDATE_ASK_PREFIX, SHMETA_OK},
		{SHMETA_CLASS_TOPIC, 3, SHMETA_INVALIDATE_ASK_PREFIX | SHMETA_INVALIDATE_ASK_DRY_RUN, SHMETA_OK},
		{SHMETA_CLASS_TOPIC, SHMETA_NAME_MAX + 1, 0, SHMETA_ERR_PROTOCOL},
		{SHMETA_CLASS_TOPIC, 3, 4, SHMETA_ERR_PROTOCOL},
		{SHMETA_CLASS_PARTITION, 3, 0, SHMETA_OK},
		{SHMETA_CLASS_PARTITION, 3, SHMETA_INVALIDATE_ASK_PREFIX, SHMETA_ERR_PROTOCOL},
		{SHMETA_CLASS_SEGMENT, 0, 0, SHMETA_ERR_PROTOCOL},
		{SHMETA_CLASS_LIST, 0, 0, SHMETA_OK},
		{SHMETA_CLASS_LIST, 3, 0, SHMETA_ERR_PROTOCOL},
		{SHMETA_CLASS_OFFSET, 0, SHMETA_INVALIDATE_ASK_DRY_RUN, SHMETA_OK},
		{SHMETA_CLASS_OFFSET, 1, 0, SHMETA_ERR_PROTOCOL},
		{SHMETA_CLASS_COUNT, 0, 0, SHMETA_ERR_PROTOCOL},
	};
	uint64_t packet[64] = {0};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t bytes = good_invalidate(packet, cases[i].cls, cases[i].name, cases[i].flags);

		cr_expect_eq(shmeta__frame_check(packet, bytes), cases[i].answer, "case %zu", i);
		cr_expect_eq(shmeta__frame_check(packet, bytes + 8), SHMETA_ERR_PROTOCOL, "case %zu", i);
	}
}

Test(wire, a_page_of_objects_is_asked_for_with_strings_within_their_limits)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8] = {0};
	struct shmeta_frame_objects *f = (struct shmeta_frame_objects *)packet;
	struct shmeta_frame_object_list *l = (struct shmeta_frame_object_list *)packet;
	uint32_t bytes = sizeof *f + SHMETA_TENANT_MAX + 2 * SHMETA_STRING_MAX;

	*f = (struct shmeta_frame_objects){
		.head = {.bytes = bytes, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_OBJECTS},
		.tenant_bytes = SHMETA_TENANT_MAX,
		.bucket_bytes = SHMETA_STRING_MAX,
		.key_bytes = SHMETA_STRING_MAX,
		.flags = SHMETA_OBJECTS_ASK_DELETABLE};
	cr_expect_eq(shmeta__frame_check(packet, bytes), SHMETA_OK);
	f->flags = 2;
	cr_expect_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL);
	f->flags = 0;
	f->bucket_bytes++;
	f->key_bytes--;
	cr_expect_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL, "a bucket of 1025 bytes");
	f->bucket_bytes = UINT32_MAX;
	f->key_bytes = 1; /* the sum wraps in 32 bits */
	f->head.bytes = sizeof *f + SHMETA_TENANT_MAX;
	cr_expect_eq(shmeta__frame_check(packet, f->head.bytes), SHMETA_ERR_PROTOCOL);

	*l = (struct shmeta_frame_object_list){
		.head = {.bytes = sizeof *l + 100, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_OBJECT_LIST},
		.object_count = 2,
		.more = 1};
	cr_expect_eq(shmeta__frame_check(packet, sizeof *l + 100), SHMETA_OK);
	l->object_count = 3;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *l + 100), SHMETA_ERR_PROTOCOL, "so many cannot fit");
	l->object_count = 2;
	l->more = 2;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *l + 100), SHMETA_ERR_PROTOCOL);
}

Test(wire, an_epoch_is_asked_for_with_a_name_and_a_tenant_within_their_limits)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8] = {0};
	struct shmeta_frame_epoch_end *f = (struct shmeta_frame_epoch_end *)packet;
	const uint32_t bytes = sizeof *f + SHMETA_NAME_MAX + SHMETA_TENANT_MAX;

	*f = (struct shmeta_frame_epoch_end){
		.head = {.bytes = bytes, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_EPOCH_END},
		.name_bytes = SHMETA_NAME_MAX,
		.tenant_bytes = SHMETA_TENANT_MAX};
	cr_expect_eq(shmeta__frame_check(packet, bytes), SHMETA_OK);
	f->name_bytes++;
	f->tenant_bytes--;
	cr_expect_eq(shmeta__frame_check(packet, bytes), SHMETA_ERR_PROTOCOL, "a name of 250 bytes");
	f->name_bytes = UINT32_MAX;
	f->tenant_bytes = 1; /* the sum wraps in 32 bits */
	f->head.bytes = sizeof *f;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f), SHMETA_ERR_PROTOCOL);
	f->name_bytes = f->tenant_bytes = 0;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f), SHMETA_ERR_PROTOCOL, "of no topic");
}

Test(wire, a_wait_has_words_that_exist_or_says_that_it_needs_none)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8] = {0};
	struct shmeta_frame_wait *f = (struct shmeta_frame_wait *)packet;
	uint32_t *words = (uint32_t *)(f + 1);

	f->head = (struct shmeta_frame){
		.bytes = sizeof *f + 8, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_WAIT};
	f->word_count = 2;
	words[0] = SHMETA_TOUCHED_WORDS - 1;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f + 8), SHMETA_OK);
	words[1] = SHMETA_TOUCHED_WORDS;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f + 8), SHMETA_ERR_PROTOCOL, "a word behind the last one");
	words[1] = 0;
	f->flags = SHMETA_WAIT_ANY;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f + 8), SHMETA_ERR_PROTOCOL, "words, and none needed");
	f->flags = 0;
	f->word_count = 1u << 30; /* the bytes wrap in 32 bits */
	f->head.bytes = sizeof *f;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f), SHMETA_ERR_PROTOCOL);
	f->word_count = 0;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f), SHMETA_ERR_PROTOCOL, "nothing to wait for");
	f->flags = SHMETA_WAIT_ANY;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f), SHMETA_OK);
	f->flags = SHMETA_WAIT_END;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f), SHMETA_OK);
	f->flags = SHMETA_WAIT_ANY | SHMETA_WAIT_END;
	cr_expect_eq(shmeta__frame_check(packet, sizeof *f), SHMETA_ERR_PROTOCOL, "both");
}

Test(err, a_sentence_that_does_not_fit_says_so_behind_a_whole_character)
{
	char text[12], path[600];
	struct shmeta_err err;

	shmeta__say(text, sizeof text, "%s", "eleven byte");
	cr_expect_str_eq(text, "eleven byte");
	shmeta__say(text, sizeof text, "%s", "twelve bytes");
	cr_expect_str_eq(text, "twelve b...");
	shmeta__say(text, sizeof text, "%s", "sevenn\xe2\x82\xac and");
	cr_expect_str_eq(text, "sevenn...");
	shmeta__say(text, 3, "%s", "no room even for that");
	cr_expect_str_eq(text, "no");
	/* The reason stands at the end, and stays. */
	memset(path, 'x', sizeof path);
	path[sizeof path - 1] = '\0';
	cr_expect_eq(shmeta_fail_errno(&err, ENOSPC, "cannot open %s", path), SHMETA_ERR_FULL);
	cr_expect_not_null(strstr(err.text, "xxx...: No space left on device"), "%s", err.text);
	cr_expect_eq(strlen(err.text), sizeof err.text - 1);
}

Test(stats, a_copy_is_refused_while_the_page_is_being_written_and_consistent_otherwise)
{
	struct shmeta_stats *page = calloc(2, sizeof *page), *copy = page + 1;

	cr_assert(page);
	memcpy(page->signature, "SHMSTATS", 8);
	page->version = SHMETA_STATS_VERSION;
	page->reader_bytes = sizeof(struct shmeta_stats_reader);
	shmeta__seqlock_begin(&page->sequence);
	cr_assert_eq(shmeta__stats_copy(page, copy, NULL), SHMETA_ERR_CONTENDED);
	/* the next writer after one that died in the middle */
	shmeta__seqlock_begin(&page->sequence);
	page->reader_count = 3;
	page->updated_at_ns = 42;
	shmeta__seqlock_end(&page->sequence);
	cr_assert_eq(shmeta__stats_copy(page, copy, NULL), SHMETA_OK);
	cr_assert_eq(copy->reader_count, 3);
	cr_assert_eq(copy->updated_at_ns, 42);
	page->reader_count = SHMETA_STATS_READERS + 1;
	cr_assert_eq(shmeta__stats_copy(page, copy, NULL), SHMETA_ERR_CORRUPT);
	page->version = SHMETA_STATS_VERSION - 1;
	cr_assert_eq(shmeta__stats_copy(page, copy, NULL), SHMETA_ERR_VERSION);
	page->signature[0] = 0;
	cr_assert_eq(shmeta__stats_copy(page, copy, NULL), SHMETA_ERR_CORRUPT);
	free(page);
}

Test(stats, counters_that_find_their_array_full_follow_behind_the_readers)
{
	struct shmeta_stats *page = calloc(1, sizeof *page);
	uint64_t value = 0;

	cr_assert(page);
	page->counter_count = SHMETA_STATS_COUNTERS;
	page->more_count = 2;
	cr_assert_eq(shmeta__stats_counters(page), SHMETA_STATS_COUNTERS + 2);
	strcpy(page->counter_name[SHMETA_STATS_COUNTERS - 1], "polls");
	page->counter[SHMETA_STATS_COUNTERS - 1] = 7;
	strcpy(page->more_name[1], "loads");
	page->more[1] = 8;
	cr_expect(shmeta__stats_counter(page, SHMETA_COUNTER_polls, &value));
	cr_expect_eq(value, 7);
	shmeta__stats_grow(page, SHMETA_COUNTER_loads, 2);
	cr_expect(shmeta__stats_counter(page, SHMETA_COUNTER_loads, &value));
	cr_expect_eq(value, 10);
	cr_expect_not(shmeta__stats_counter(page, SHMETA_COUNTER_fetches, &value));
	page->more_count = 1000000;
	cr_expect_eq(shmeta__stats_counters(page), SHMETA_STATS_COUNTERS + SHMETA_STATS_MORE);
	page->counter_count = 3;
	cr_expect_eq(shmeta__stats_counters(page), 3, "there is no gap");
	free(page);
}

Test(err, sentences_are_prefixed_and_system_errors_keep_their_kind)
{
	struct shmeta_err err = {0};

	cr_assert_eq(shmeta_fail_errno(&err, EACCES, "opening %s", "x"), SHMETA_ERR_PERMISSION);
	cr_assert_str_eq(err.text, "opening x: Permission denied");
	cr_assert_eq(shmeta_fail_prefix(&err, "store %d", 3), SHMETA_ERR_PERMISSION);
	cr_assert_str_eq(err.text, "store 3: opening x: Permission denied");
	cr_assert_eq(shmeta_fail_errno(&err, ENOSPC, "a"), SHMETA_ERR_FULL);
	cr_assert_eq(shmeta_fail_errno(&err, ENOMEM, "a"), SHMETA_ERR_NO_MEMORY);
	cr_assert_eq(shmeta_fail_errno(NULL, EIO, "a"), SHMETA_ERR_SYSTEM);
	for (int i = 0; i < 200; i++)
		(void)shmeta_fail_prefix(&err, "%s", "a long prefix that in the end does not fit");
	cr_assert_eq(strlen(err.text), sizeof err.text - 1, "cut, not overrun");
}
