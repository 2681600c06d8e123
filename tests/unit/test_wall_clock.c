/* SPDX-License-Identifier: Apache-2.0
 * The clock on the wall is set: nothing that shmeta knows becomes older or younger by it, and
 * nothing is read again. */
#include <criterion/criterion.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/sync_fixture.h"

TestSuite(wall_clock, .timeout = 60);

static int64_t set_by_s;

/* The program's own, which stand before libc's: all of the engine and the library is in this
 * program, and none of it can tell that the host's clock was not set. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, ret);

	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
		ret->tv_sec += set_by_s;
	return rc;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	*ret = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (ret != NULL)
		*ret = now.tv_sec;
	return now.tv_sec;
}

static struct fixture f;

static struct memory_stats reads(void)
{
	struct memory_stats stats;

	memory_read_stats(f.db, &stats);
	return stats;
}

/* What ten seconds cost the source, and how old everything is at their end. */
static void ten_seconds(struct memory_stats *ret, uint64_t age_ms[SHMETA_CLASS_COUNT])
{
	struct memory_stats before = reads();

	fixture_pass(&f, 10000);
	*ret = reads();
	for (int call = 0; call < MEMORY_CALLS; call++)
		ret->calls[call] -= before.calls[call];
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		age_ms[cls] = fixture_stamp_age_ms(&f, (enum shmeta_class)cls);
}

static void step_and_compare(enum backend_feed_kind kind)
{
	static const int64_t steps_s[] = {0, 3600, -3600, 1, -1, 10 * 365 * 86400, -10 * 365 * 86400};

	set_by_s = 0;
	fixture_init(&f);
	f.options.wall_ms = NULL; /* the host's */
	memory_set_feed_kind(f.db, kind);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 20000);
	for (size_t i = 0; i < sizeof steps_s / sizeof *steps_s; i++) {
		uint64_t age_ms[SHMETA_CLASS_COUNT];
		struct memory_stats cost;

		set_by_s = steps_s[i];
		ten_seconds(&cost, age_ms);
		/* With a feed nothing is read; without one, what its time to live asks for. */
		cr_expect_leq(cost.calls[MEMORY_LOAD], kind != BACKEND_FEED_NONE ? 0 : 2,
		              "set by %lld s: %llu full passes", (long long)set_by_s,
		              (unsigned long long)cost.calls[MEMORY_LOAD]);
		cr_expect_leq(cost.calls[MEMORY_FETCH], kind != BACKEND_FEED_NONE ? 0 : 4, "set by %lld s",
		              (long long)set_by_s);
		for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
			cr_expect_lt(age_ms[cls], f.options.ttl_ms[cls], "set by %lld s: class %d is %llu ms old",
			             (long long)set_by_s, cls, (unsigned long long)age_ms[cls]);
	}
	cr_expect_null(fixture_difference(&f));
	fixture_done(&f);
}

Test(wall_clock, that_is_set_makes_nothing_be_read_that_a_feed_tells)
{
	struct timespec now, stepped;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	set_by_s = 3600;
	(void)clock_gettime(CLOCK_REALTIME, &stepped);
	cr_assert_geq(stepped.tv_sec - now.tv_sec, 3600, "the clock was not set");
	step_and_compare(BACKEND_FEED_KEYS);
}

Test(wall_clock, that_is_set_makes_nothing_older_or_younger_without_a_feed)
{
	step_and_compare(BACKEND_FEED_NONE);
}
