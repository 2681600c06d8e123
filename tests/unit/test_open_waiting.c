/* SPDX-License-Identifier: Apache-2.0
 * Opening an instance that is not there, or not served, yet. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static char hidden[80];

static void set_up(void)
{
	w = fake_writer_with_topic(NULL);
	(void)snprintf(hidden, sizeof hidden, "%s.away", w->dir);
}

static void tear_down(void)
{
	fake_writer_free(w);
}

TestSuite(open_waiting, .init = set_up, .fini = tear_down, .timeout = 60);

static char error[300];

static enum shmeta_status open_it(uint32_t wait_ms, struct shmeta **ret)
{
	const struct shmeta_options options = {.size = sizeof options,
	                                       .directory = w->dir,
	                                       .wait_ms = wait_ms,
	                                       .error = error,
	                                       .error_bytes = sizeof error};

	return shmeta_open(&options, ret);
}

static void *come(void *unused)
{
	(void)unused;
	cr_assert_eq(rename(hidden, w->dir), 0);
	return NULL;
}

Test(open_waiting, it_waits_for_the_instance)
{
	struct shmeta *opened;
	pthread_t thread;

	cr_assert_eq(rename(w->dir, hidden), 0);
	cr_expect_eq(open_it(0, &opened), SHMETA_ERR_NOT_RUNNING);
	cr_expect_eq(open_it(30, &opened), SHMETA_ERR_NOT_RUNNING);
	cr_assert_eq(pthread_create(&thread, NULL, come, NULL), 0);
	cr_assert_eq(open_it(60000, &opened), SHMETA_OK, "%s", error);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	shmeta_close(opened);
}

static void *finish(void *unused)
{
	char board[100];

	(void)unused;
	(void)snprintf(board, sizeof board, "%s/board", w->dir);
	cr_assert_eq(unlink(board), 0);
	cr_assert_eq(rmdir(w->dir), 0);
	return come(NULL);
}

Test(open_waiting, it_waits_while_the_board_is_being_made)
{
	static const char zeros[4096];
	struct shmeta *opened;
	pthread_t thread;
	char board[100];
	FILE *f;

	cr_assert_eq(rename(w->dir, hidden), 0);
	cr_assert_eq(mkdir(w->dir, 0755), 0);
	(void)snprintf(board, sizeof board, "%s/board", w->dir);
	f = fopen(board, "w");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(zeros, sizeof zeros, 1, f), 1);
	cr_assert_eq(fclose(f), 0);
	cr_expect_eq(open_it(30, &opened), SHMETA_ERR_CORRUPT, "%s", error);
	cr_assert_eq(pthread_create(&thread, NULL, finish, NULL), 0);
	cr_assert_eq(open_it(60000, &opened), SHMETA_OK, "%s", error);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	shmeta_close(opened);
}

static void *serve(void *unused)
{
	(void)unused;
	shmeta_publish(&w->board->phase, (uint32_t)SHMETA_PHASE_SERVING);
	return NULL;
}

Test(open_waiting, it_waits_for_a_writer_that_serves_and_says_when_none_does)
{
	struct shmeta_state state = {.size = sizeof state};
	struct shmeta *opened;
	pthread_t thread;

	shmeta_publish(&w->board->phase, (uint32_t)SHMETA_PHASE_LOADING);
	cr_assert_eq(open_it(0, &opened), SHMETA_OK, "who does not wait takes what is there");
	shmeta_close(opened);
	cr_expect_eq(open_it(30, &opened), SHMETA_ERR_TIMEOUT);
	cr_expect(strstr(error, "does not serve yet") != NULL, "%s", error);
	cr_assert_eq(pthread_create(&thread, NULL, serve, NULL), 0);
	cr_assert_eq(open_it(60000, &opened), SHMETA_OK, "%s", error);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_eq(shmeta_get_state(opened, &state), SHMETA_OK);
	cr_expect_eq(state.phase, SHMETA_PHASE_SERVING);
	shmeta_close(opened);
}
