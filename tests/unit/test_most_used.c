/* SPDX-License-Identifier: Apache-2.0
 * The keys that are sampled most: what is used much is found among what is used once, in order, and
 * is forgotten when it is used no more; and the miss-ratio curve of samples. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "shm/page/touch.h"
#include "tests/support/random.h"
#include "writer/serve/most_used.h"

TestSuite(most_used, .timeout = 30);

#define SECOND UINT64_C(1000000000)

static struct most_used *m;
static struct shmeta_usage page, copy;

static void begin(void)
{
	m = calloc(1, sizeof *m);
	cr_assert_not_null(m);
	memset(&page, 0, sizeof page);
}

static void end(void)
{
	most_used_free(m);
	free(m);
}

static void show(uint64_t at_s)
{
	most_used_show(m, &page, (1000 + at_s) * SECOND);
	cr_assert_eq(shmeta__usage_copy(&page, &copy, NULL), SHMETA_OK);
}

Test(most_used, what_is_used_much_is_found_among_many_that_are_used_once, .init = begin, .fini = end)
{
	enum { HOT = 50, ROUNDS = 400, COLD = 100000 };
	uint64_t cold = 1u << 20;

	for (int round = 0; round < ROUNDS; round++) {
		for (uint64_t hot = 1; hot <= HOT; hot++)
			for (uint64_t n = 0; n < 1 + hot % 2; n++)
				most_used_add(m, hot << 32);
		for (int i = 0; i < COLD / ROUNDS; i++)
			most_used_add(m, ++cold << 32);
	}
	show(0);
	cr_assert_geq(copy.count, HOT);
	cr_assert_eq(copy.samples, ROUNDS * HOT * 3 / 2 + COLD);
	for (int i = 0; i < HOT; i++) {
		uint64_t topic = copy.used[i].key >> 32;

		cr_expect(topic <= HOT, "%d: %llu", i, (unsigned long long)topic);
		cr_expect_eq(topic % 2, i < HOT / 2, "%d: those that are used twice as much come first", i);
	}
}

Test(most_used, what_is_used_no_more_is_forgotten, .init = begin, .fini = end)
{
	show(0);
	cr_expect_eq(copy.count, 0);
	for (int i = 0; i < 8; i++)
		most_used_add(m, 7);
	show(1);
	cr_assert_eq(copy.count, 1);
	cr_expect_eq(copy.used[0].samples, 8);
	show(59);
	cr_expect_eq(copy.used[0].samples, 8);
	for (uint64_t n = 1; n <= 4; n++)
		show(60 * n);
	cr_expect_eq(copy.count, 0);
	cr_expect_eq(copy.samples, 0);
}

/* A popular key is a small number: each octave of keys has as many lookups, about Zipf 1. */
static uint64_t skewed(void)
{
	uint32_t octave = (uint32_t)random_below(12);

	return UINT64_C(7) << 32 | (1U << octave | (uint32_t)random_below(1U << octave));
}

Test(most_used, the_curve_of_sampled_lookups_is_that_of_all, .init = begin, .fini = end)
{
	enum { LOOKUPS = 2000000, EVERY = 17 };
	struct curve *all = curve_new(CURVE_KEYS_DEFAULT);

	cr_assert_not_null(all);
	show(0);
	cr_expect_eq(copy.miss[0], 0, "nothing is known");
	for (int i = 0; i < LOOKUPS; i++) {
		uint64_t key = skewed();

		curve_access(all, key, 1);
		if (random_below(EVERY) == 0)
			most_used_add(m, key);
	}
	most_used_add(m, UINT64_C(7) << 32 | TOUCH_TOPIC);
	show(1);
	cr_expect(copy.curve_samples > LOOKUPS / EVERY / 10 * 9 && copy.curve_samples < LOOKUPS / EVERY / 9 * 10, "%u",
	          copy.curve_samples);
	for (int i = 0; i < SHMETA_USAGE_SIZES; i++) {
		double is = (double)(copy.miss[i] - 1) / SHMETA_USAGE_ALL,
		       expected = curve_miss_ratio(all, SHMETA_USAGE_SIZE(i));

		cr_expect(is - expected < 0.05 && expected - is < 0.05, "%llu partitions: %.3f, not %.3f",
		          (unsigned long long)SHMETA_USAGE_SIZE(i), is, expected);
	}
	curve_free(all);
}

static int more_first(const void *a, const void *b)
{
	const struct shmeta_used *x = a, *y = b;

	if (x->samples != y->samples)
		return x->samples > y->samples ? -1 : 1;
	return (x->key > y->key) - (x->key < y->key);
}

Test(most_used, the_most_used_of_more_keys_than_fit_are_shown_in_order, .init = begin, .fini = end)
{
	enum { PLACES = MOST_USED_SETS * MOST_USED_WAYS };
	struct shmeta_used *all = &m->set[0][0];

	for (uint64_t i = 0; i < PLACES; i++)
		/* many are alike */
		all[i] = (struct shmeta_used){.key = i, .samples = 1 + i * 7919 % 1000};
	show(0);
	qsort(all, PLACES, sizeof *all, more_first);
	cr_assert_eq(copy.count, SHMETA_USAGE_KEYS);
	cr_expect_arr_eq(copy.used, all, sizeof copy.used);
}

Test(most_used, keys_are_written_where_something_was_counted_or_another_writer_left_them, .init = begin, .fini = end)
{
	page.count = 1;
	page.used[0] = (struct shmeta_used){.key = 9, .samples = 9};
	show(0);
	cr_expect_eq(copy.count, 0, "what another writer left is shown");
	most_used_add(m, 7);
	show(1);
	cr_assert_eq(copy.count, 1);
	page.used[0].samples = 5; /* seen again where nobody has written it */
	show(2);
	cr_expect_eq(copy.used[0].samples, 5, "written although nothing was counted");
	cr_expect_eq(copy.updated_at_ns, (1000 + 2) * SECOND);
	most_used_add(m, 7);
	show(3);
	cr_expect_eq(copy.used[0].samples, 2);
}

Test(most_used, a_page_that_is_none_or_is_being_written_is_refused, .init = begin, .fini = end)
{
	cr_expect_eq(shmeta__usage_copy(&page, &copy, NULL), SHMETA_ERR_CORRUPT);
	show(0);
	page.sequence |= 1;
	cr_expect_eq(shmeta__usage_copy(&page, &copy, NULL), SHMETA_ERR_CONTENDED);
	show(1); /* a writer that died in the middle left it so */
	page.count = SHMETA_USAGE_KEYS + 1;
	cr_expect_eq(shmeta__usage_copy(&page, &copy, NULL), SHMETA_ERR_CORRUPT);
	page.version++;
	cr_expect_eq(shmeta__usage_copy(&page, &copy, NULL), SHMETA_ERR_VERSION);
}
