/* SPDX-License-Identifier: Apache-2.0
 * A snapshot is accepted only if its commit was published when its roots were read, and no later
 * one until after that. What reads the meta pages, and LMDB's commit, are this program's own, so
 * that a test can act exactly there. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <lmdb.h>
#include <stdbool.h>
#include <string.h>

#include "tests/support/fake_writer.h"
#include "tests/support/read_meta.h"

enum { OLD = 200, NEW = 300 };

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;
static uint64_t committed;
static unsigned int looked;

static void watermark(uint64_t value)
{
	fake_begin(w);
	fake_partition(w, topic, 0, value, NULL, 0, 0, 0);
	committed = fake_commit(w);
}

static void set_up(void)
{
	w = fake_writer_with_topic(&topic);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	watermark(OLD);
}

static void tear_down(void)
{
	on_read_meta = NULL;
	fake_close_all(w, instance, reader);
}

TestSuite(snapshot_renewal, .init = set_up, .fini = tear_down, .timeout = 30);

static uint64_t shown(void)
{
	struct shmeta_partition p;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return p.high_watermark;
}

/* Two commits more: the second may have written over the page while it was copied, so the copy may
 * be anything. */
static void replaced_once(uint64_t txn, struct shmeta__tree_meta *roots)
{
	(void)txn;
	on_read_meta = NULL;
	memset(&roots->databases, 0xA5, sizeof roots->databases);
	watermark(OLD + 1);
	watermark(NEW);
}

Test(snapshot_renewal, roots_that_were_read_while_a_later_commit_was_published_are_read_anew)
{
	cr_assert_eq(shown(), OLD);
	watermark(OLD);
	on_read_meta = replaced_once;
	cr_assert_eq(shown(), NEW);
	cr_assert_eq(shown(), NEW);
}

static void replaced_always(uint64_t txn, struct shmeta__tree_meta *roots)
{
	(void)txn;
	memset(&roots->databases, 0xA5, sizeof roots->databases);
	watermark(NEW);
}

Test(snapshot_renewal, a_begin_that_failed_leaves_nothing_that_the_next_one_accepts)
{
	cr_assert_eq(shown(), OLD);
	watermark(OLD);
	on_read_meta = replaced_always;
	cr_assert_eq(shmeta_begin(reader), SHMETA_ERR_CONTENDED);
	on_read_meta = NULL;
	cr_assert_eq(fake_oldest_pin(w), UINT64_MAX, "nothing stays pinned");
	cr_assert_eq(shown(), NEW, "not what the failed begin had read");
}

static void count(uint64_t txn, struct shmeta__tree_meta *roots)
{
	(void)txn;
	(void)roots;
	looked++;
}

Test(snapshot_renewal, roots_are_read_once_a_commit)
{
	on_read_meta = count;
	watermark(NEW);
	for (int i = 0; i < 10; i++)
		cr_assert_eq(shown(), NEW);
	cr_assert_eq(looked, 1);
}

/* What a reader is shown right before and right after LMDB's own commit. */
static uint64_t shown_around[2];
static bool watching;

int mdb_txn_commit(MDB_txn *txn)
{
	static int (*real)(MDB_txn *);
	int rc;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "mdb_txn_commit");
	if (!watching)
		return real(txn);
	shown_around[0] = shown();
	rc = real(txn);
	shown_around[1] = shown();
	return rc;
}

Test(snapshot_renewal, a_commit_is_shown_only_after_it_is_written_and_published)
{
	watermark(OLD);
	watching = true;
	watermark(NEW);
	watching = false;
	cr_assert_eq(shown_around[0], OLD, "not yet written");
	cr_assert_eq(shown_around[1], OLD, "not yet published");
	cr_assert_eq(shown(), NEW);
}
