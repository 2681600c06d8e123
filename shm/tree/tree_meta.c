/* SPDX-License-Identifier: Apache-2.0
 * LMDB's two meta pages: commit n is written to page n modulo 2. */
#include "base/once.h"
#include "shm/page/board.h"
#include "shm/tree/tree_layout.h"

static const uint32_t meta_magic = 0xBEEFC0DE, meta_version = 1;

enum shmeta_status shmeta__tree_judge_meta(const struct meta *meta, uint64_t number, struct shmeta_err *err)
{
	if (meta->page.number != number || meta->page.flags != PAGE_META || meta->magic != meta_magic)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb: its page %llu is no meta page",
		                   (unsigned long long)number);
	if (meta->version != meta_version || meta->free.page_bytes != SHMETA_PAGE)
		return shmeta_fail(err, SHMETA_ERR_VERSION,
		                   "data.mdb: layout %u of LMDB with pages of %u bytes; this library reads layout %u "
		                   "with pages of %d (LMDB 0.9)",
		                   meta->version, meta->free.page_bytes, meta_version, SHMETA_PAGE);
	return SHMETA_OK;
}

enum shmeta_status shmeta__tree_read_meta(const uint8_t *base, uint64_t txn, struct shmeta__tree_meta *ret,
                                          uint64_t *ret_newest, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_ABSENT, judged = SHMETA_ERR_CORRUPT;
	uint64_t newest = 0;
	unsigned int good = 0;

	for (uint64_t number = 0; number < 2; number++) {
		struct meta meta;

		shmeta__copy_once(&meta, base + number * SHMETA_PAGE, sizeof meta);
		judged = shmeta__tree_judge_meta(&meta, number, err);
		if (judged != SHMETA_OK)
			continue;
		good++;
		if (meta.txn > newest)
			newest = meta.txn;
		if (meta.txn != txn)
			continue;
		ret->txn = meta.txn;
		ret->last_page = meta.last_page;
		ret->map_bytes = meta.map_bytes;
		(void)tree_of_database(&meta.free, SHMETA_TREE_FREE, &ret->free);
		status = tree_of_database(&meta.databases, SHMETA_DB_COUNT, &ret->databases) ? SHMETA_OK
		                                                                             : SHMETA_ERR_CORRUPT;
	}
	if (ret_newest != NULL)
		*ret_newest = newest;
	if (status == SHMETA_ERR_CORRUPT)
		(void)shmeta_fail(err, status, "data.mdb: the meta page of commit %llu is damaged",
		                  (unsigned long long)txn);
	return good == 0 ? judged : status;
}
