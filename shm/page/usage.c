/* SPDX-License-Identifier: Apache-2.0
 * Reading the usage page. */
#include "shm/page/usage.h"

#include <string.h>

#include "shm/page/seqlock.h"

enum shmeta_status shmeta__usage_copy(const struct shmeta_usage *page, struct shmeta_usage *ret, struct shmeta_err *err)
{
	if (memcmp(page->signature, "SHMUSAGE", sizeof page->signature) != 0)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "usage: not a usage page of shmeta");
	if (page->version != SHMETA_USAGE_VERSION)
		return shmeta_fail(err, SHMETA_ERR_VERSION, "usage: version %u of its writer, version %d here",
		                   page->version, SHMETA_USAGE_VERSION);
	if (!shmeta__seqlock_copy(ret, page, sizeof *ret, &page->sequence))
		return shmeta_fail(err, SHMETA_ERR_CONTENDED, "usage: was being written at every try");
	if (ret->count > SHMETA_USAGE_KEYS)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "usage: %u keys do not fit", ret->count);
	return SHMETA_OK;
}
