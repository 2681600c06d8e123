/* SPDX-License-Identifier: Apache-2.0
 * Which process is this? A private page that the kernel empties in every child (MADV_WIPEONFORK)
 * holds a word that the process chose; handles remember the word they were made under. So a lookup
 * learns of a fork by one load, without getpid() and without pthread_atfork().
 *
 * In a child the word reads 0. The first shmeta_open() there gives it a word of its own and forgets
 * what the registry inherited: its lock may be held for ever by a thread that the child does not
 * have, and its mappings were not all inherited. What the child inherited is never unmapped or
 * closed by us, see shmeta_close(). */
#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "reader/attach/attach.h"

enum { TOKEN_CLAIMED = 1 }; /* a thread of this process is resetting the registry */

const uint64_t shmeta__detached_word = 1;

static uint64_t *word_page;

static enum shmeta_status make_page(uint64_t **ret, struct shmeta_err *err)
{
	uint64_t *page, *nobody = NULL;

	page = mmap(NULL, SHMETA_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return shmeta_fail_errno(err, errno, "a page to notice fork() by");
	if (madvise(page, SHMETA_PAGE, MADV_WIPEONFORK) < 0) {
		int error = errno;

		(void)munmap(page, SHMETA_PAGE);
		return shmeta_fail_errno(err, error, "madvise(MADV_WIPEONFORK)");
	}
	/* Before any handle exists; a child that inherits the page forgets nothing, as there is
	 * nothing yet. */
	if (!shmeta_replace(&word_page, &nobody, page)) {
		(void)munmap(page, SHMETA_PAGE);
		page = nobody;
	}
	*ret = page;
	return SHMETA_OK;
}

enum shmeta_status shmeta__fork_token(void (*forget)(void), const uint64_t **ret_word, uint64_t *ret_token,
                                      struct shmeta_err *err)
{
	uint64_t *page = shmeta_observe(&word_page);
	uint64_t token, none = 0;
	enum shmeta_status status;

	if (page == NULL) {
		status = make_page(&page, err);
		if (status != SHMETA_OK)
			return status;
	}
	if (shmeta_replace(page, &none, TOKEN_CLAIMED)) {
		forget();
		/* Differs from every ancestor's: a descendant can have an ancestor's pid, but not
		 * at the same nanosecond. */
		token = shmeta__boottime_ns() << 16 ^ (uint64_t)getpid();
		shmeta_publish(page, token < 2 ? token + 2 : token);
	}
	while ((token = shmeta_observe(page)) == TOKEN_CLAIMED)
		(void)sched_yield();
	*ret_word = page;
	*ret_token = token;
	return SHMETA_OK;
}
