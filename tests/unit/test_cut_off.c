/* SPDX-License-Identifier: Apache-2.0
 * Sizes of mapped files are checked against what their headers promise before anything is touched:
 * a file that was cut off is an error of whoever opens it, reader, tool or daemon, and never a
 * SIGBUS. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reader/lookup/lookup.h"
#include "shm/store/store_inspect.h"
#include "shm/store/store_private.h"
#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static char path[160];

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	fake_even_partition(w, fake_simple_topic(w, "t", 1), 0, 20000, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	(void)snprintf(path, sizeof path, "%s/store.1/data.mdb", w->dir);
}

static void tear_down(void)
{
	fake_writer_free(w);
}

TestSuite(cut_off, .init = set_up, .fini = tear_down, .timeout = 60);

static off_t size_of(const char *file)
{
	struct stat st;

	cr_assert_eq(stat(file, &st), 0);
	return st.st_size;
}

static void copy(const char *from, const char *to)
{
	static char bytes[1 << 20];
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	ssize_t n;

	cr_assert(in >= 0 && out >= 0);
	while ((n = read(in, bytes, sizeof bytes)) > 0)
		cr_assert_eq(write(out, bytes, (size_t)n), n);
	(void)close(in);
	(void)close(out);
}

/* Opening in a child: what would have killed it shows as a signal. */
static enum shmeta_status try_reader(char *error, size_t bytes)
{
	const struct shmeta_options o = {.size = sizeof o,
	                                 .directory = w->dir,
	                                 .flags = SHMETA_OPEN_UNREGISTERED,
	                                 .error = error,
	                                 .error_bytes = bytes};
	struct shmeta *instance;
	enum shmeta_status status = shmeta_open(&o, &instance);

	if (status == SHMETA_OK)
		shmeta_close(instance);
	return status;
}

static enum shmeta_status try_store(struct shmeta_err *err)
{
	struct shmeta__store *store;
	enum shmeta_status status = shmeta__store_open(w->dir_fd, 1, &store, err);

	if (status == SHMETA_OK)
		shmeta__store_close(store);
	return status;
}

static enum shmeta_status try_inspect(struct shmeta_err *err)
{
	struct shmeta__inspected *of;
	char dir[160];
	enum shmeta_status status;

	(void)snprintf(dir, sizeof dir, "%s/store.1", w->dir);
	status = shmeta__inspect_open(dir, &of, err);
	if (status == SHMETA_OK)
		shmeta__inspect_close(of);
	return status;
}

Test(cut_off, a_store_cut_at_any_page_is_corrupt_for_readers_tools_and_the_daemon)
{
	char whole[160], error[512] = "";
	struct shmeta_err err = {0};
	off_t bytes = size_of(path);

	shmeta__store_close(w->store); /* the daemon is gone */
	w->store = NULL;
	(void)snprintf(whole, sizeof whole, "%s/whole", w->dir);
	copy(path, whole);
	for (off_t cut = 0; cut < bytes; cut += bytes / 4096 / 23 * 4096 + 1024) {
		copy(whole, path);
		cr_assert_eq(truncate(path, cut), 0);
		cr_assert_eq(try_reader(error, sizeof error), SHMETA_ERR_CORRUPT, "%lld of %lld: %s", (long long)cut,
		             (long long)bytes, error);
		cr_assert_eq(try_inspect(&err), SHMETA_ERR_CORRUPT, "%lld: %s", (long long)cut, err.text);
		cr_assert_eq(try_store(&err), SHMETA_ERR_CORRUPT, "%lld: %s", (long long)cut, err.text);
	}
	cr_assert_neq(strstr(error, "cut off"), NULL, "%s", error);
	copy(whole, path);
	cr_assert_eq(try_reader(error, sizeof error), SHMETA_OK, "%s", error);
	cr_assert_eq(try_inspect(&err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(try_store(&err), SHMETA_OK, "%s", err.text);
}

Test(cut_off, so_is_a_generation_page)
{
	char page[160], error[512] = "";
	struct shmeta_err err = {0};
	off_t bytes;

	(void)snprintf(page, sizeof page, "%s/store.1/generation", w->dir);
	bytes = size_of(page);
	shmeta__store_close(w->store);
	w->store = NULL;
	for (off_t cut = bytes - 1; cut > 0; cut -= bytes / 5) {
		cr_assert_eq(truncate(page, cut), 0);
		cr_assert_eq(try_reader(error, sizeof error), SHMETA_ERR_CORRUPT, "%lld: %s", (long long)cut, error);
		cr_assert_eq(try_inspect(&err), SHMETA_ERR_CORRUPT, "%lld: %s", (long long)cut, err.text);
		cr_assert_eq(try_store(&err), SHMETA_ERR_CORRUPT, "%lld: %s", (long long)cut, err.text);
	}
}

/* A clock by which the grace of every former commit is over. */
static uint64_t later(void *unused)
{
	static uint64_t now_ns = UINT64_C(1) << 60;

	(void)unused;
	return now_ns += UINT64_C(10000000000);
}

Test(cut_off, a_commit_that_released_what_it_allocated_leaves_a_file_as_long_as_it_says)
{
	struct shmeta *instance;
	struct shmeta_reader *reader;
	struct shmeta__pages pages;
	struct shmeta__pager pager;
	uint64_t ids[64], locator;
	void *block;

	/* Pages that earlier commits gave back are to be had: then LMDB keeps what is released
	 * again out of the file. */
	w->store->now_ns = later;
	for (int i = 0; i < 20; i++) {
		fake_begin(w);
		fake_offset(w, NULL, "g", 1, 0, (uint64_t)i, NULL);
		(void)fake_commit(w);
	}
	fake_begin(w);
	pager = shmeta__txn_pager(w->txn);
	for (int i = 0; i < 64; i++)
		cr_assert_eq(pager.alloc(pager.arg, SHMETA_BLOCK_BYTES, &ids[i], &locator, &block), SHMETA_OK);
	for (int i = 0; i < 64; i++)
		cr_assert_eq(pager.release(pager.arg, ids[i]), SHMETA_OK);
	fake_group(w, NULL, "g");
	(void)fake_commit(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	pages = reader->view.pages;
	cr_assert_leq(pages.bytes, (uint64_t)size_of(path));
	/* What a wrong locator may lead to at most. */
	cr_assert_geq(((const volatile uint8_t *)pages.base)[pages.bytes - 1], 0);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}
