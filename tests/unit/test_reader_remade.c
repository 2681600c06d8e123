/* SPDX-License-Identifier: Apache-2.0
 * A directory that was removed and made anew under a process that goes on: what its new writer
 * answers is shown by the new store. The numbers of generations and commits begin again there, so
 * that the old store's are no smaller. */
#include <criterion/criterion.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/tree/tree.h"

/* The real one, under another name. */
static enum shmeta_status real_tree_get(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                                        const void *key, size_t key_bytes, const void **ret_value, size_t *ret_bytes);
#define shmeta__tree_get real_tree_get
#include "shm/tree/tree.c" /* NOLINT(bugprone-suspicious-include) */
#undef shmeta__tree_get

#include "reader/lookup/lookup.h"
#include "tests/support/fake_writer.h"
#include "tests/support/scripted_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static struct shmeta_handle *handle;
static char buffer[SHMETA_NAME_MAX + SHMETA_STRING_MAX + SHMETA_MAP_MAX];
static const struct shmeta_read stay = {sizeof stay, SHMETA_SOURCE, 5000, 0, 0, buffer, sizeof buffer};
static const struct shmeta_read moving = {sizeof moving, SHMETA_SOURCE, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};

static void set_up(void)
{
	uint32_t topic;

	w = fake_writer_new();
	fake_begin(w);
	(void)fake_simple_topic(w, "gone", 1);
	topic = fake_simple_topic(w, "kept", 1);
	fake_even_partition(w, topic, 0, 10, 10);
	(void)fake_commit(w);
	for (int i = 0; i < 20; i++) {
		fake_begin(w);
		fake_group(w, NULL, "elsewhere");
		(void)fake_commit(w);
	}
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "kept", 4, 0, &handle), SHMETA_OK);
	fake_remake(w);
	fake_begin(w);
	(void)fake_simple_topic(w, "new", 1);
	topic = fake_simple_topic(w, "kept", 1);
	fake_even_partition(w, topic, 0, 11, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
}

static void tear_down(void)
{
	shmeta_partition_close(handle);
	fake_close_all(w, instance, reader);
}

TestSuite(reader_remade, .init = set_up, .fini = tear_down, .timeout = 30);

static struct shmeta_reader *revoked; /* its registration is, once its next record was found */

enum shmeta_status shmeta__tree_get(const struct shmeta__pages *pages, const struct shmeta__tree *tree, const void *key,
                                    size_t key_bytes, const void **ret_value, size_t *ret_bytes)
{
	enum shmeta_status status = real_tree_get(pages, tree, key, key_bytes, ret_value, ret_bytes);

	if (status == SHMETA_OK && revoked != NULL) {
		if (revoked->membership != NULL)
			revoked->membership->page->revoked = 1;
		revoked = NULL;
	}
	return status;
}

static enum shmeta_status get(const char *name, const struct shmeta_read *read)
{
	struct shmeta_topic t;

	return shmeta_get_topic(reader, name, strlen(name), read, &t, NULL);
}

static void the_next_snapshot_is_of_the_new_store(void)
{
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(get("new", NULL), SHMETA_OK);
	cr_assert_eq(get("gone", NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_remade, a_read_that_asks_is_answered_by_the_new_store_and_the_snapshot_stays_what_it_is)
{
	struct shmeta_partition p;

	cr_assert_eq(get("new", &stay), SHMETA_OK);
	cr_assert_eq(get("gone", &stay), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_partition(handle, &stay, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, 11);
	cr_assert_eq(get("gone", NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	the_next_snapshot_is_of_the_new_store();
}

Test(reader_remade, a_read_that_may_move_moves_to_the_new_store)
{
	struct shmeta_partition p;

	cr_assert_eq(get("new", &moving), SHMETA_OK);
	cr_assert_eq(get("gone", NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_partition(handle, &moving, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, 11);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_remade, what_was_refreshed_is_shown_by_the_next_snapshot)
{
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	the_next_snapshot_is_of_the_new_store();
}

Test(reader_remade, a_token_of_the_new_writer_is_waited_for_in_the_new_store)
{
	const struct shmeta_token token = {1, w->gen->committed};

	cr_assert_eq(shmeta_wait_token(instance, &token, 5000), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	the_next_snapshot_is_of_the_new_store();
}

Test(reader_remade, a_handle_remembers_nothing_of_a_snapshot_that_expired_while_it_followed)
{
	struct shmeta_partition p;

	cr_assert_eq(get("new", &moving), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_assert_eq(fake_until_registered(reader, 1), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	revoked = reader;
	cr_assert_eq(shmeta_get_partition(handle, NULL, &p, NULL), SHMETA_ERR_EXPIRED);
	cr_assert_eq(revoked, NULL);
	cr_assert_neq(handle->lineage, reader->env->lineage, "it is still to follow");
	cr_assert_eq(shmeta_end(reader), SHMETA_ERR_EXPIRED);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_partition(handle, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(p.segment_count, 11);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

/* The source takes its time, and what is read then is taken back. */
static void be_slow_and_revoke(struct fake_writer *f, void *arg)
{
	(void)f;
	(void)arg;
	(void)poll(NULL, 0, 1200);
	shmeta_poke(&revoked, reader);
}

Test(reader_remade, a_lookup_with_its_own_snapshot_has_its_time_for_all_tries_together)
{
	const struct shmeta_read soon = {.size = sizeof soon, .consistency = SHMETA_SOURCE, .timeout_ms = 2000};
	struct shmeta_agent agent;
	uint64_t began, took;

	fake_begin(w);
	fake_agent(w, NULL, &(struct shmeta_agent){.agent_id = fake_str("a"), .address = fake_str("here")}, 0);
	(void)fake_commit(w);
	cr_assert_eq(get("new", &moving), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_assert_eq(fake_until_registered(reader, 1), 0);
	w->on_refresh = be_slow_and_revoke;
	began = shmeta__boottime_ns();
	cr_expect_eq(shmeta_once_agent(reader, "a", 1, &soon, buffer, sizeof buffer, &agent, NULL), SHMETA_ERR_TIMEOUT);
	took = (shmeta__boottime_ns() - began) / 1000000;
	cr_expect(took >= 2000 && took < 4000, "%llu ms of 2000", (unsigned long long)took);
	w->on_refresh = NULL;
}

static void note_status(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                        const struct shmeta_token *token)
{
	(void)results;
	(void)count;
	(void)token;
	*(enum shmeta_status *)arg = status;
}

Test(reader_remade, what_was_written_through_the_new_writer_is_shown_by_the_next_snapshot)
{
	const struct shmeta_op op = {.type = SHMETA_OP_DELETE_GROUP, .group_id = {"g", 1}};
	static struct scripted_write write;
	enum shmeta_status status = SHMETA_UNKNOWN;
	static struct scripted_writer s;
	struct shmeta_client *c;

	fake_unserve(w);
	scripted_listen(&s, w->dir);
	cr_assert_eq(shmeta_client_open(instance, NULL, &c), SHMETA_OK);
	cr_assert_eq(shmeta_submit(c, &op, 1, note_status, &status), SHMETA_OK);
	scripted_greet(&s);
	cr_assert_eq(shmeta_client_process(c, NULL), SHMETA_OK);
	cr_assert_eq(scripted_take(&s, &write, SCRIPTED_PATIENCE_MS), 1);
	scripted_results(&s, &write, NULL, SHMETA_OK, 1, w->gen->committed);
	cr_assert_eq(shmeta_client_process(c, NULL), SHMETA_OK);
	cr_assert_eq(status, SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	the_next_snapshot_is_of_the_new_store();
	shmeta_client_close(c);
	scripted_stop(&s);
}

/* Generations and commits are counted anew in the new directory: what is taken from a snapshot of
 * the old one proves nothing there. */
Test(reader_remade, what_changed_since_a_snapshot_of_the_old_store_cannot_be_told)
{
	struct shmeta_snapshot_info old, now;
	struct shmeta_iter *iter;

	cr_assert_eq(shmeta_snapshot_info(reader, &old), SHMETA_OK);
	cr_assert_eq(get("new", &moving), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &now), SHMETA_OK);
	cr_assert_eq(old.generation, now.generation);
	cr_assert_lt(now.txn, old.txn);
	for (int i = 0; i < 2; i++)
		cr_expect_eq(shmeta_changes_since(reader, &(struct shmeta_token){old.generation, old.txn}, &iter),
		             SHMETA_TOO_OLD, "of another store");
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	fake_begin(w);
	(void)fake_simple_topic(w, "newer", 1);
	(void)fake_commit(w);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_changes_since(reader, &(struct shmeta_token){now.generation, now.txn}, &iter), SHMETA_OK,
	             "of this one");
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_remade, what_cannot_be_followed_is_no_answer)
{
	char sentence[512];

	cr_assert_eq(chmod(w->dir, 0777), 0); /* nothing in it can be believed */
	cr_assert_eq(get("gone", &stay), SHMETA_ERR_WRITER_AWAY);
	cr_assert_neq(strstr(shmeta_last_error(instance, sentence, sizeof sentence), "mode 0777"), NULL, "%s",
	              sentence);
	cr_assert_eq(get("gone", &moving), SHMETA_ERR_WRITER_AWAY);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL), SHMETA_ERR_WRITER_AWAY);
	cr_assert_eq(get("gone", NULL), SHMETA_OK, "the snapshot is still open");
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static void leave_no_descriptor(struct rlimit *ret_former)
{
	struct rlimit none;
	int next = dup(0);

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, ret_former), 0);
	none = *ret_former;
	none.rlim_cur = (rlim_t)next;
	(void)close(next);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
}

static void expect_descriptors_are_told(void)
{
	char text[300];

	(void)shmeta_last_error(instance, text, sizeof text);
	cr_expect_not_null(strstr(text, "Too many open files"), "%s", text);
}

/* The old store shows such a commit, too: it is not the one that the writer spoke of. */
Test(reader_remade, what_cannot_be_opened_for_want_of_descriptors_is_not_taken_from_the_old_store)
{
	const struct shmeta_token token = {1, w->gen->committed};
	struct rlimit former;

	leave_no_descriptor(&former);
	cr_expect_eq(shmeta_wait_token(instance, &token, 5000), SHMETA_ERR_WRITER_AWAY);
	expect_descriptors_are_told();
	cr_expect_eq(shmeta__snapshot_advance(reader, token.generation, token.txn, 0), SHMETA_ERR_WRITER_AWAY,
	             "as a lookup does that was answered on its connection of before");
	expect_descriptors_are_told();
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &former), 0);
	cr_assert_eq(shmeta_wait_token(instance, &token, 5000), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	the_next_snapshot_is_of_the_new_store();
}
