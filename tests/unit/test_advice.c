/* SPDX-License-Identifier: Apache-2.0
 * Advice: each rule speaks when its figures say so, names the option and its value, and is silent
 * otherwise. */
#include <criterion/criterion.h>
#include <string.h>

#include "tools/monitor/advice.h"

TestSuite(advice, .timeout = 30);

static struct shmeta_usage usage;
static struct advice_facts facts;
static struct advice advice[ADVICE_MAX];
static json_t *options;

static void set(const char *name, const char *value, json_int_t number)
{
	json_array_append_new(options, json_pack("{s:s, s:s, s:I}", "name", name, "value", value, "number", number));
}

/* A bounded store with room for 1024 partitions, which it has; no first lookups, and misses that
 * fall by a tenth at each doubling of the room up to 16384. */
static void begin(void)
{
	usage = (struct shmeta_usage){.curve_samples = 100000};
	for (int i = 0; i < SHMETA_USAGE_SIZES; i++)
		usage.miss[i] = (uint16_t)(1 + (i < 10 ? 10000 - 1000 * i : 0));
	options = json_array();
	set("store.mode", "bounded", 0);
	set("bounded.max_partitions", "1024", 1024);
	set("bounded.max_segment_bytes", "64M", 64 << 20);
	set("bounded.max_bytes", "256M", 256 << 20);
	set("bounded.freshness", "fixed", 0);
	facts = (struct advice_facts){.usage = &usage, .options = options};
	facts.counter[SHMETA_COUNTER_partitions] = 1024;
	facts.counter[SHMETA_COUNTER_polls] = 1;
}

static void end(void)
{
	json_decref(options);
}

static const struct advice *told(const char *name)
{
	size_t n = advice_judge(&facts, advice);

	for (size_t i = 0; i < n; i++)
		if (strcmp(advice[i].name, name) == 0)
			return &advice[i];
	return NULL;
}

Test(advice, where_all_is_well_there_is_none, .init = begin, .fini = end)
{
	cr_expect_eq(advice_judge(&facts, advice), 0, "%s", advice[0].name);
}

Test(advice, a_budget_that_misses_much_is_to_be_doubled_as_long_as_that_helps, .init = begin, .fini = end)
{
	const struct advice *a;

	facts.counter[SHMETA_COUNTER_evicted_partitions] = 5;
	a = told("budget_too_small");
	cr_assert_not_null(a);
	cr_expect_not_null(strstr(a->because, "40.0 % of the lookups"), "%s", a->because);
	cr_expect_not_null(strstr(a->change, "bounded.max_partitions = 16384"), "%s", a->change);
	cr_expect_not_null(strstr(a->effect, "about 0.0 % of the lookups miss"), "%s", a->effect);
	usage.curve_samples = 10;
	cr_expect_null(told("budget_too_small"), "of ten samples nothing is known");
}

Test(advice, where_bytes_are_what_is_short_bytes_are_to_be_raised, .init = begin, .fini = end)
{
	const struct advice *a;

	facts.counter[SHMETA_COUNTER_evicted_partitions] = 5;
	facts.counter[SHMETA_COUNTER_partitions] = 512;
	a = told("budget_too_small");
	cr_assert_not_null(a);
	cr_expect_not_null(strstr(a->change, "bounded.max_segment_bytes = 2147483648"), "%s", a->change);
}

Test(advice, a_budget_of_which_half_would_do_is_to_be_halved, .init = begin, .fini = end)
{
	for (int i = 4; i < SHMETA_USAGE_SIZES; i++)
		usage.miss[i] = 1;
	cr_assert_not_null(told("budget_too_large"));
	cr_expect_str_eq(told("budget_too_large")->change, "bounded.max_partitions = 512");
	facts.counter[SHMETA_COUNTER_partitions] = 100;
	cr_expect_null(told("budget_too_large"), "a budget that is not used costs nothing");
}

Test(advice, times_to_live_are_judged_where_there_is_no_feed, .init = begin, .fini = end)
{
	facts.counter[SHMETA_COUNTER_rows_unchanged] = 99000;
	facts.counter[SHMETA_COUNTER_rows_applied] = 1000;
	cr_expect_null(told("ttl_too_short"), "a feed tells what changes");
	facts.counter[SHMETA_COUNTER_polls] = 0;
	cr_assert_not_null(told("ttl_too_short"));
	cr_expect_str_eq(told("ttl_too_short")->change, "bounded.freshness = balanced");
	facts.counter[SHMETA_COUNTER_rows_applied] = 50000;
	cr_expect_null(told("ttl_too_short"));
}

Test(advice, what_waits_is_dropped_or_does_not_fit_is_told, .init = begin, .fini = end)
{
	facts.counter[SHMETA_COUNTER_postponed] = 49;
	facts.counter[SHMETA_COUNTER_pressure] = 1;
	facts.counter[SHMETA_COUNTER_missed] = 100;
	facts.counter[SHMETA_COUNTER_missed_dropped] = 5;
	cr_expect_eq(advice_judge(&facts, advice), 0);
	facts.counter[SHMETA_COUNTER_postponed] = 50;
	facts.counter[SHMETA_COUNTER_pressure] = 2;
	facts.counter[SHMETA_COUNTER_missed_dropped] = 50;
	facts.counter[SHMETA_COUNTER_too_large] = 1;
	cr_expect_not_null(told("source_budget_too_small"));
	cr_expect_not_null(told("store_too_small"));
	cr_expect_not_null(told("fills_too_slowly"));
	cr_expect_not_null(told("partitions_too_large"));
}
