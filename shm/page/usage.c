/* SPDX-License-Identifier: Apache-2.0
 * Reading the usage page. */
#include "shm/page/usage.h"

#include <string.h>

enum shmeta_status shmeta__usage_copy(const struct shmeta_usage *page, struct shmeta_usage *ret, struct shmeta_err *err)
{
	enum { TRIES = 1000 };

	if (memcmp(page->signature, "SHMUSAGE", sizeof page->signature) != 0)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "usage: not a usage page of shmeta");
	if (page->version != SHMETA_USAGE_VERSION)
		return shmeta_fail(err, SHMETA_ERR_VERSION, "usage: version %u of its writer, version %d here",
		                   page->version, SHMETA_USAGE_VERSION);
	for (int i = 0; i < TRIES; i++) {
		uint64_t before = shmeta_observe(&page->sequence); /* PAIR 6: stats within an even sequence */

		memcpy(ret, page, sizeof *ret);
		shmeta_fence_read();
		if ((before & 1) != 0 || shmeta_peek(&page->sequence) != before)
			continue;
		if (ret->count > SHMETA_USAGE_KEYS)
			return shmeta_fail(err, SHMETA_ERR_CORRUPT, "usage: %u keys do not fit", ret->count);
		return SHMETA_OK;
	}
	return shmeta_fail(err, SHMETA_ERR_CONTENDED, "usage: was being written at every try");
}
