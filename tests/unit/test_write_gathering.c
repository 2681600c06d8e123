/* SPDX-License-Identifier: Apache-2.0
 * For whom a round of writes waits: for many clients who have just been answered, not for the
 * operations of one. Through the sync engine on the in-memory source, with a clock that stands. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/support/sync_fixture.h"

TestSuite(write_gathering, .timeout = 60);

enum { MANY = 300 };

static struct fixture f;
static struct shmeta_op op[MANY];

static void begin(void)
{
	for (int i = 0; i < MANY; i++)
		op[i] = (struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = {"g", 1}};
	fixture_init(&f);
	fixture_open(&f);
	(void)fixture_run(&f);
}

static void end(void)
{
	fixture_done(&f);
}

Test(write_gathering, a_round_behind_one_large_call_is_begun_at_once, .init = begin, .fini = end)
{
	cr_assert_eq(fixture_write(&f, op, MANY), SHMETA_OK);
	(void)fixture_run(&f);
	cr_assert_eq(f.writes_answered, 1);
	cr_assert_eq(fixture_write(&f, op, 1), SHMETA_OK);
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, 2);
}

Test(write_gathering, a_round_behind_many_calls_waits_a_moment_for_the_others, .init = begin, .fini = end)
{
	for (int i = 0; i < MANY; i++)
		cr_assert_eq(fixture_write(&f, op, 1), SHMETA_OK);
	(void)fixture_run(&f);
	cr_assert_eq(f.writes_answered, MANY);
	cr_assert_eq(fixture_write(&f, op, 1), SHMETA_OK);
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, MANY);
	fixture_pass(&f, 3);
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, MANY + 1);
}
