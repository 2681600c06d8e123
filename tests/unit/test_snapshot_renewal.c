/* SPDX-License-Identifier: Apache-2.0
 * A snapshot is accepted only if its commit was published when the transaction was renewed. The reader's pause between two tries is
 * this program's own, so that a test can act exactly there. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "reader/internal.h"
#include "shm/store_private.h"
#include "tests/support/fake_writer.h"

enum { OLD = 200, NEW = 300, MM_ADDRESS = 24, MM_TXNID = 144 };

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;
static void (*on_pause)(void);

void shmeta__relax(unsigned tries)
{
	(void)tries;
	if (on_pause != NULL)
		on_pause();
}

static uint64_t newest; /* the commit that is being made */
static int data_fd;
static uint8_t whole[META_BYTES], torn[META_BYTES];

static off_t meta_at(void)
{
	return (off_t)(newest & 1) * SHMETA_PAGE;
}

static void watermark(uint64_t value)
{
	fake_begin(w);
	fake_partition(w, topic, 0, value, NULL, 0, 0, 0);
	newest = fake_commit(w);
}

static void set_up(void)
{
	char path[128];

	w = fake_writer_new();
	fake_begin(w);
	topic = fake_simple_topic(w, "t", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	(void)snprintf(path, sizeof path, "%s/store.1/data.mdb", w->dir);
	data_fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(data_fd, 0);
	watermark(OLD);
}

static void tear_down(void)
{
	(void)close(data_fd);
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

static void put_meta(const uint8_t meta[META_BYTES])
{
	cr_assert_eq(pwrite(data_fd, meta, META_BYTES, meta_at()), META_BYTES);
}

/* Between LMDB's commit and its publication the reader sees what a write of a meta page may look like to another processor: its last
 * word, the number of the commit, is there, the roots are the former commit's. */
static uint8_t former[META_BYTES];
static void (*when_torn)(void);

static void tear(void *arg, const char *where)
{
	(void)arg;
	if (strcmp(where, "written") != 0)
		return;
	newest++;
	cr_assert_eq(pread(data_fd, whole, META_BYTES, meta_at()), META_BYTES);
	memcpy(torn, former, META_BYTES);
	memcpy(torn + MM_TXNID, whole + MM_TXNID, META_BYTES - MM_TXNID);
	put_meta(torn);
	when_torn();
	put_meta(whole);
}

static void commit_torn(void (*then)(void))
{
	/* What the page of commit n holds before it is written is commit n - 2. */
	cr_assert_eq(pread(data_fd, former, META_BYTES, (off_t)((newest + 1) & 1) * SHMETA_PAGE), META_BYTES);
	when_torn = then;
	w->store->step = tear;
	watermark(NEW);
	w->store->step = NULL;
	on_pause = NULL;
}

/* What the writer does next anyway, between the reader's first and second try. */
static void publish(void)
{
	put_meta(whole);
	shmeta_store(&w->gen->committed, newest);
	on_pause = NULL;
}

static void begin_while_torn(void)
{
	on_pause = publish;
	cr_assert_eq(shown(), NEW, "the roots were read anew after the commit was published");
}

Test(snapshot_renewal, a_transaction_taken_before_its_commit_was_published_is_renewed)
{
	watermark(OLD);
	cr_assert_eq(shown(), OLD);
	watermark(OLD);
	commit_torn(begin_while_torn);
	cr_assert_eq(shown(), NEW);
}

/* The page does not hold still: a commit that looks stuck is not taken for good. */
static void flicker(void)
{
	torn[MM_ADDRESS]++;
	put_meta(torn);
}

static void begin_in_vain(void)
{
	on_pause = flicker;
	cr_assert_eq(shmeta_begin(reader), SHMETA_ERR_CONTENDED);
	on_pause = NULL;
}

Test(snapshot_renewal, a_begin_that_failed_leaves_nothing_that_the_next_one_accepts)
{
	watermark(OLD);
	cr_assert_eq(shown(), OLD);
	watermark(OLD);
	commit_torn(begin_in_vain);
	cr_assert_eq(shown(), NEW, "not what the failed begin had read");
}
