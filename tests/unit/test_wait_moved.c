/* SPDX-License-Identifier: Apache-2.0
 * Whether what a connection begins to wait for has come already, as the daemon judges it while the
 * engine commits. */
#include <criterion/criterion.h>

#include "writer/daemon/control_calls.c" /* NOLINT(bugprone-suspicious-include) */

#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static struct daemon *d;

static void set_up(void)
{
	w = fake_writer_with_topic(NULL);
	d = calloc(1, sizeof *d);
	cr_assert_not_null(d);
	d->instance.board = w->board;
	d->instance.dir_fd = w->dir_fd;
}

static void tear_down(void)
{
	free(d);
	fake_writer_free(w);
}

TestSuite(wait_moved, .init = set_up, .fini = tear_down, .timeout = 30);

static bool moved_since(uint64_t generation, uint64_t txn, uint32_t word)
{
	struct {
		struct shmeta_frame_wait head;
		uint32_t word;
	} frame = {.head = {.generation = generation, .txn = txn, .word_count = 1}, .word = word};

	return serve_has_moved(d, &frame.head);
}

/* As the engine does while it makes a commit. */
static void touch(uint32_t word, uint64_t txn)
{
	uint64_t *touched = (uint64_t *)(void *)((char *)w->gen + SHMETA_PAGE);

	shmeta_publish(&touched[word], txn); /* PAIR 2: touch before commit */
}

Test(wait_moved, a_commit_in_flight_hides_none_that_is_published)
{
	uint64_t txn = shmeta_load(&w->gen->committed), generation = w->gen->generation;

	touch(9, txn + 1);
	cr_expect_not(moved_since(generation, txn, 9), "it is not published: who looks sees nothing");
	fake_begin(w);
	fake_group(w, NULL, "g");
	(void)fake_commit(w);
	touch(9, txn + 1);
	cr_expect(moved_since(generation, txn, 9));
	cr_expect_not(moved_since(generation, txn, 10));
	touch(9, txn + 2);
	cr_expect(moved_since(generation, txn, 9), "it may be given up, and then nothing tells of the one before");
	cr_expect_not(moved_since(generation, txn + 1, 9), "and who has looked at that one waits");
}
