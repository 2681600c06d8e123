/* SPDX-License-Identifier: Apache-2.0
 * The page of what the writer did lately: a ring that tells what it lost, and the slowest of each
 * minute. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/page/activity.h"

TestSuite(activity, .timeout = 30);

static struct shmeta_activity *fresh(void)
{
	struct shmeta_activity *page = calloc(1, sizeof(*page));

	shmeta__activity_begin(page);
	return page;
}

static void add(struct shmeta_activity *page, uint32_t kind, int64_t at_ms, uint64_t took_ns, const char *text)
{
	struct shmeta_event e = {.kind = kind, .at_ms = at_ms, .took_ns = took_ns};

	(void)snprintf(e.text, sizeof(e.text), "%s", text);
	shmeta__activity_add(page, &e);
}

Test(activity, the_ring_keeps_the_newest_and_the_next_writer_goes_on)
{
	struct shmeta_activity *page = fresh();
	struct shmeta_event e;
	struct shmeta_err err;
	char text[32];

	cr_assert_eq(shmeta__activity_check(page, &err), SHMETA_OK);
	cr_assert(!shmeta__activity_event(page, 0, &e) && !shmeta__activity_event(page, 1, &e));
	for (int i = 1; i <= SHMETA_EVENTS + 10; i++) {
		(void)snprintf(text, sizeof(text), "event %d", i);
		add(page, SHMETA_EVENT_FEED, 1000 + i, 0, text);
	}
	cr_assert_eq(page->newest, SHMETA_EVENTS + 10);
	cr_assert(!shmeta__activity_event(page, 10, &e), "it was overwritten");
	cr_assert(shmeta__activity_event(page, 11, &e) && strcmp(e.text, "event 11") == 0, "%s", e.text);
	cr_assert(shmeta__activity_event(page, SHMETA_EVENTS + 10, &e) && e.at_ms == 1000 + SHMETA_EVENTS + 10);
	shmeta__activity_begin(page);
	add(page, SHMETA_EVENT_LOG, 1, 0, "of the next writer");
	cr_assert(shmeta__activity_event(page, SHMETA_EVENTS + 11, &e) && strcmp(e.text, "of the next writer") == 0);
	/* What another program left is not gone on with. */
	page->version = 99;
	cr_assert_eq(shmeta__activity_check(page, &err), SHMETA_ERR_VERSION);
	shmeta__activity_begin(page);
	cr_assert(page->newest == 0 && page->version == SHMETA_ACTIVITY_VERSION);
	page->signature[0] = 'x';
	cr_assert_eq(shmeta__activity_check(page, &err), SHMETA_ERR_CORRUPT);
	free(page);
}

static int count_slow(const struct shmeta_activity *page, int what, uint64_t least_ns)
{
	struct shmeta_event e;
	int n = 0;

	for (int minute = 0; minute < SHMETA_SLOW_MINUTES; minute++)
		for (int i = 0; i < SHMETA_SLOW_EACH; i++)
			n += shmeta__activity_slow(&page->slow[what][minute][i], &e) && e.took_ns >= least_ns;
	return n;
}

Test(activity, the_slowest_of_each_minute_are_kept_for_an_hour)
{
	struct shmeta_activity *page = fresh();

	/* A hundred a minute for an hour, in an order that helps nobody. */
	for (int minute = 0; minute < 60; minute++)
		for (int i = 0; i < 100; i++)
			add(page, SHMETA_EVENT_FETCH, minute * 60000 + i, (uint64_t)(i * 37 % 100 + 1), "x");
	cr_assert_eq(count_slow(page, 0, 1), 60 * SHMETA_SLOW_EACH);
	cr_assert_eq(count_slow(page, 0, 101 - SHMETA_SLOW_EACH), 60 * SHMETA_SLOW_EACH, "they are the slowest");
	cr_assert_eq(count_slow(page, 1, 0), 0);
	/* An hour later the first minute is another one. */
	add(page, SHMETA_EVENT_COMMIT, 3600000, 5, "c");
	add(page, SHMETA_EVENT_FETCH, 3600000, 5, "later");
	cr_assert_eq(count_slow(page, 0, 90), 60 * SHMETA_SLOW_EACH - 1);
	cr_assert_eq(count_slow(page, 1, 5), 1);
	/* Nobody measured a line of the log. */
	add(page, SHMETA_EVENT_LOG, 0, 0, "log");
	cr_assert_eq(count_slow(page, 1, 0), 1);
	free(page);
}

static uint32_t over;

static void *writes(void *arg)
{
	char text[SHMETA_EVENT_TEXT];

	for (uint64_t i = 1; !shmeta_load(&over); i++) {
		memset(text, 'a' + (int)(i % 26), sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		add(arg, SHMETA_EVENT_FETCH, (int64_t)i, i, text);
	}
	return NULL;
}

/* Whoever copies an event has all of it or is told that he has not. */
Test(activity, an_event_that_is_read_while_it_is_written_is_whole_or_refused)
{
	struct shmeta_activity *page = fresh();
	struct shmeta_event e;
	uint64_t seen = 0;
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, writes, page), 0);
	while (seen < 20000) {
		uint64_t newest = shmeta_observe(&page->newest);

		if (!shmeta__activity_event(page, newest, &e))
			continue;
		seen++;
		cr_assert_eq(e.number, newest);
		cr_assert_eq(e.took_ns, newest);
		for (size_t k = 0; k < sizeof(e.text) - 1; k++)
			cr_assert_eq(e.text[k], 'a' + (char)(newest % 26));
	}
	shmeta_store(&over, 1u);
	(void)pthread_join(thread, NULL);
	free(page);
}
