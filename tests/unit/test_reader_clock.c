/* SPDX-License-Identifier: Apache-2.0
 * Ages where clocks are not what they seem: ahead, of a machine that has slept, of a writer whose
 * heart stands still. */
#include <criterion/criterion.h>
#include <string.h>

#include "reader/snapshot/snapshot.h"
#include "tests/support/fake_writer.h"

static const uint64_t second = UINT64_C(1000000000);

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;

static void set_up(void)
{
	w = fake_writer_with_topic(NULL);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

/* A reader that has looked at no clock yet. */
static struct shmeta_freshness look(void)
{
	struct shmeta_freshness fresh;
	struct shmeta_topic t;

	shmeta_reader_free(reader);
	shmeta_close(instance);
	instance = fake_open(w, NULL, 0, 0);
	reader = fake_reader(instance);
	cr_assert_not_null(reader);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, &fresh), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return fresh;
}

static struct shmeta_state state(void)
{
	struct shmeta_state s = {.size = sizeof s};

	cr_assert_eq(shmeta_get_state(instance, &s), SHMETA_OK);
	return s;
}

TestSuite(reader_clock, .init = set_up, .fini = tear_down, .timeout = 60);

Test(reader_clock, a_stamp_that_is_ahead_by_more_than_a_second_is_no_age_and_counts_as_stale)
{
	struct shmeta_freshness fresh = look();
	uint64_t stale;

	cr_assert_eq(fresh.fresh, 1);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		shmeta_publish(&w->gen->stamp[cls].synced_at_ns, fake_now_ns(w) + second / 2);
	fresh = look();
	cr_assert_eq(fresh.age_ns, 0, "clocks are not read at once");
	cr_assert_eq(fresh.fresh, 1);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		shmeta_publish(&w->gen->stamp[cls].synced_at_ns, fake_now_ns(w) + 2 * second);
	fresh = look();
	cr_assert_eq(fresh.age_ns, UINT64_MAX);
	cr_assert_eq(fresh.fresh, 0);
	stale = fake_slot(w, 0)->counters.stale;
	cr_assert_eq(stale, 1);
	cr_assert_eq(state().class_age_ns[SHMETA_CLASS_LIST], UINT64_MAX);
	/* It becomes one when its time has come. */
	fake_advance(w, 3 * second);
	fresh = look();
	cr_assert_lt(fresh.age_ns, 2 * second);
	cr_assert_eq(fresh.fresh, 1);
}

Test(reader_clock, what_no_source_has_confirmed_in_this_boot_has_the_age_of_its_file_and_is_not_fresh)
{
	const uint64_t before_boot = 3600 * second;
	struct shmeta_freshness fresh;

	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		shmeta_publish(&w->gen->stamp[cls].synced_at_ns, shmeta__stamp_unproved(-(int64_t)before_boot));
	fresh = look();
	cr_assert_geq(fresh.age_ns, before_boot);
	cr_assert_lt(fresh.age_ns, before_boot + fake_now_ns(w) + second);
	cr_assert_eq(fresh.fresh, 0);
	cr_assert_geq(state().class_age_ns[SHMETA_CLASS_LIST], before_boot);
	/* Also where the file is younger than the time to live. */
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		shmeta_publish(&w->gen->stamp[cls].synced_at_ns, shmeta__stamp_unproved((int64_t)fake_now_ns(w)));
	fresh = look();
	cr_assert_lt(fresh.age_ns, second);
	cr_assert_eq(fresh.fresh, 0);
}

Test(reader_clock, where_the_heartbeat_is_ahead_nothing_is_fresh_and_nobody_is_alive)
{
	struct shmeta_freshness fresh;

	shmeta_publish(&w->board->heartbeat_ns, fake_now_ns(w) + second / 2);
	fresh = look();
	cr_assert_eq(fresh.fresh, 1);
	cr_assert_eq(state().writer_alive, 1);
	shmeta_publish(&w->board->heartbeat_ns, fake_now_ns(w) + 2 * second);
	fresh = look();
	cr_assert_eq(fresh.age_ns, UINT64_MAX, "its stamps seem young, and its clock is another one");
	cr_assert_eq(fresh.fresh, 0);
	cr_assert_eq(state().writer_alive, 0);
	cr_assert_eq(state().heartbeat_age_ns, UINT64_MAX);
	fake_beat(w);
	fresh = look();
	cr_assert_eq(fresh.fresh, 1);
	cr_assert_eq(state().writer_alive, 1);
}

Test(reader_clock, a_clock_is_judged_anew_within_a_second)
{
	(void)look();
	cr_assert_neq(reader->judge_ns, 0);
	cr_assert_leq(reader->judge_ns, shmeta__monotonic_ns() + second);
}

/* The writer died, and its machine slept: what it said of the two clocks is behind by the sleep. */
Test(reader_clock, the_sleep_of_a_machine_is_part_of_every_age)
{
	struct shmeta_freshness fresh;
	/* A machine cannot have slept for longer than it is up. */
	int64_t up = (int64_t)fake_now_ns(w), slept = up / 2 < 3600 * (int64_t)second ? up / 2 : 3600 * (int64_t)second;

	w->board->boot_offset_ns -= slept;
	shmeta_poke(&w->gen->boot_offset_ns, w->board->boot_offset_ns);
	fake_stamp_all(w);
	fake_beat(w);
	fresh = look();
	cr_assert_geq(fresh.age_ns, (uint64_t)slept - second);
	cr_assert_leq(fresh.age_ns, (uint64_t)slept + 10 * second);
	cr_assert_eq(fresh.fresh, 0);
	cr_assert_eq(state().writer_alive, 0);
	cr_assert_geq(state().heartbeat_age_ns, (uint64_t)slept - second);
	cr_assert_geq(state().class_age_ns[SHMETA_CLASS_TOPIC], (uint64_t)slept - second);
}
