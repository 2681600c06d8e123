/* SPDX-License-Identifier: Apache-2.0
 * A process that opens an instance many times, for many tenants, say, has a registration that grows
 * with it: what it held before goes back. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>

#include "tests/support/fake_writer.h"

enum { OPENS = 40 };

static struct fake_writer *w;
static struct shmeta *instance[OPENS];
static struct shmeta_reader *reader[OPENS];

TestSuite(many_opens, .timeout = 60);

static uint64_t slots_held(void)
{
	uint64_t slots = 0;

	(void)pthread_mutex_lock(&w->lock);
	for (int i = 0; i < FAKE_CLIENTS; i++)
		if (w->client[i].fd >= 0 && w->client[i].page != NULL)
			slots += w->client[i].page->slot_count;
	(void)pthread_mutex_unlock(&w->lock);
	return slots;
}

Test(many_opens, hold_no_more_slots_than_their_readers_can_use)
{
	uint64_t registered = 0;

	w = fake_writer_with_topic(NULL);
	for (int i = 0; i < OPENS; i++) {
		char tenant[16];

		(void)snprintf(tenant, sizeof tenant, "tenant-%d", i);
		(void)poll(NULL, 0, 5); /* one after the other, as they come */
		instance[i] = fake_open(w, tenant, 0, 0);
		cr_assert_not_null(instance[i]);
		reader[i] = fake_reader(instance[i]);
		cr_assert_not_null(reader[i]);
		cr_assert_eq(fake_until_registered(reader[i], 1), 0);
	}
	/* Every reader is used now and then, and sees a commit of before and after. */
	for (int round = 0; round < 3; round++) {
		fake_begin(w);
		fake_group(w, NULL, "g");
		(void)fake_commit(w);
		for (int i = 0; i < OPENS; i++)
			cr_assert_eq(fake_until_registered(reader[i], 1), 0);
	}
	/* its thread sees the connections close */
	for (int i = 0; i < 5000 && w->registrations > 1; i++)
		(void)poll(NULL, 0, 1);
	registered = w->registered_ever;
	fprintf(stderr, "# registered %llu times, %u now, %llu slots\n", (unsigned long long)registered,
	        w->registrations, (unsigned long long)slots_held());
	cr_expect_eq(w->registrations, 1, "%u registrations", w->registrations);
	cr_expect_leq(slots_held(), 1024);
	cr_expect_leq(registered, 8, "registered %llu times", (unsigned long long)registered);
	for (int i = 0; i < OPENS; i++) {
		shmeta_reader_free(reader[i]);
		shmeta_close(instance[i]);
	}
	fake_writer_free(w);
}

Test(many_opens, keep_what_they_have_where_the_writer_has_no_more_to_give)
{
	struct shmeta_snapshot_info info;

	w = fake_writer_with_topic(NULL);
	instance[0] = fake_open(w, NULL, 0, 8);
	reader[0] = fake_reader(instance[0]);
	cr_assert_eq(fake_until_registered(reader[0], 1), 0);
	w->slots_max = 1;
	(void)poll(NULL, 0, 5);
	instance[1] = fake_open(w, "another", 0, 8);
	for (int i = 1; i < 4; i++) {
		reader[i] = fake_reader(instance[1]);
		cr_expect_eq(fake_until_registered(reader[i], 1), 0, "reader %d has no slot", i);
	}
	cr_assert_eq(shmeta_begin(reader[0]), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader[0], &info), SHMETA_OK);
	cr_expect_eq(info.registered, 1);
	cr_assert_eq(shmeta_end(reader[0]), SHMETA_OK);
	for (int i = 0; i < 4; i++)
		shmeta_reader_free(reader[i]);
	shmeta_close(instance[0]);
	shmeta_close(instance[1]);
	fake_writer_free(w);
}
