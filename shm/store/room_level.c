/* SPDX-License-Identifier: Apache-2.0
 * When a store is too full, and what is to be done: for the daemon and for tools, which do without
 * LMDB. */
#include "shm/store/store.h"

unsigned shmeta__room_level(uint64_t used_bytes, uint64_t pinned_bytes, uint64_t max_bytes, const char **ret)
{
	static const struct {
		unsigned level;
		const char *content, *readers; /* whichever takes more of it */
	} levels[] = {
		{95,
	         "full: raise store.max_bytes and restart, or delete topics or segments; only what does not grow it is taken",
	         "full: 'shmetactl readers' says who holds back what is pinned, 'shmetactl revoke' ends that"},
		{85, "nearly full: raise store.max_bytes and restart, or delete topics or segments",
	         "nearly full: readers with old snapshots are cut off; 'shmetactl readers' says who holds back what is pinned"},
		{70, "filling up: plan a larger store.max_bytes",
	         "filling up: 'shmetactl readers' says who holds back what is pinned"},
	};

	*ret = "";
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
		if (used_bytes + pinned_bytes < max_bytes / 100 * levels[i].level)
			continue;
		*ret = pinned_bytes > used_bytes ? levels[i].readers : levels[i].content;
		return levels[i].level;
	}
	return 0;
}
