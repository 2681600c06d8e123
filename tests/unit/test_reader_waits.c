/* SPDX-License-Identifier: Apache-2.0
 * shmeta_begin() waits for no other thread: locks that are held while files are opened are held
 * here by the test itself, which a begin that waited for one of them would never get back from. And
 * the counters of a slot go on from owner to owner. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "reader/snapshot/snapshot.h"
#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;

static void set_up(void)
{
	w = fake_writer_with_topic(NULL);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(reader_waits, .init = set_up, .fini = tear_down, .timeout = 30);

static uint64_t generation(void)
{
	struct shmeta_snapshot_info info;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return info.generation;
}

Test(reader_waits, begin_goes_on_in_the_old_generation_while_another_thread_opens_the_new_one)
{
	struct core *core = reader->core;

	cr_assert_eq(generation(), 1);
	fake_switch_generation(w);
	(void)pthread_mutex_lock(&core->lock);
	cr_assert_eq(generation(), 1);
	(void)pthread_mutex_unlock(&core->lock);
	cr_assert_eq(generation(), 2);
}

Test(reader_waits, begin_follows_a_directory_that_was_made_anew_while_the_old_cores_lock_is_held)
{
	struct core *core = shmeta__core_ref(reader->core, 0);
	struct shmeta_topic t;
	int found = 0;

	fake_unserve(w);
	fake_advance(w, UINT64_C(400000000000));
	fake_remake(w);
	fake_begin(w);
	(void)fake_simple_topic(w, "new", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	(void)pthread_mutex_lock(&core->lock);
	for (int i = 0; i < 300 && !found; i++) { /* it looks once a second at most */
		struct shmeta_freshness fresh;

		cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
		found = shmeta_get_topic(reader, "new", 3, NULL, &t, &fresh) == SHMETA_OK;
		cr_assert_eq(shmeta_end(reader), SHMETA_OK);
		(void)poll(NULL, 0, 10);
	}
	(void)pthread_mutex_unlock(&core->lock);
	cr_assert(found);
	shmeta__core_unref(core, 0);
}

Test(reader_waits, an_error_is_told_while_another_thread_follows_a_directory)
{
	const struct shmeta_read none = {.size = 1};
	struct shmeta_topic t;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	(void)pthread_mutex_lock(&instance->lock);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, &none, &t, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	(void)pthread_mutex_unlock(&instance->lock);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static struct shmeta_reader_counters sum(void)
{
	struct shmeta_reader_counters all = {0};

	for (uint32_t i = 0; i < reader->membership->slot_count; i++)
		shmeta__counters_add(&all, &fake_slot(w, i)->counters);
	return all;
}

Test(reader_waits, the_counters_of_a_slot_go_on_when_its_owner_changes)
{
	struct shmeta_reader_counters before, after;
	uint64_t timed = 0, still_timed = 0;
	struct shmeta_reader *other;
	struct shmeta_topic t;

	for (int k = 0; k < 3; k++) {
		other = fake_reader(instance);
		cr_assert_eq(shmeta_begin(other), SHMETA_OK);
		for (int i = 0; i < 2000; i++)
			cr_assert_eq(shmeta_get_topic(other, "t", 1, NULL, &t, NULL), SHMETA_OK);
		cr_assert_eq(shmeta_end(other), SHMETA_OK);
		for (int b = 0; b < SHMETA_HISTOGRAM_BUCKETS; b++)
			timed += other->slot->histogram[b];
		before = sum();
		shmeta_reader_free(other);
		other = fake_reader(instance);
		after = sum();
		cr_assert_geq(after.found, before.found);
		cr_assert_geq(after.begins, before.begins);
		cr_assert_eq(after.found, 2000u * (unsigned)(k + 1));
		for (int b = 0; b < SHMETA_HISTOGRAM_BUCKETS; b++)
			still_timed += other->slot->histogram[b];
		cr_assert_eq(still_timed, timed);
		shmeta_reader_free(other);
	}
}

Test(reader_waits, what_was_counted_without_a_slot_is_added_when_one_is_taken)
{
	struct shmeta_topic t;
	uint64_t begins;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	fake_unserve(w);
	fake_new_epoch(w);
	cr_assert_eq(fake_until_registered(reader, 0), 0);
	begins = reader->slot->counters.begins;
	cr_assert_gt(begins, 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &t, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	fake_serve(w);
	cr_assert_eq(fake_until_registered(reader, 1), 0);
	cr_assert_eq(reader->slot->counters.found, 5, "in the new page");
	cr_assert_gt(reader->slot->counters.begins, begins);
	cr_assert_eq(reader->own.counters.found, 0, "and counted once");
}
