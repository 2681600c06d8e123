/* SPDX-License-Identifier: Apache-2.0
 * What each user may have read from the source: a bucket of tokens a user, one for each key that is
 * read because of it. A key beyond it waits in the user's own line for a token, and is not taken at
 * all when that comes after the asker's deadline. Nothing here locks. */
#ifndef SHMETA_WRITER_KEYS_ASKERS_H
#define SHMETA_WRITER_KEYS_ASKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sync_entry;

struct sync_list {
	struct sync_entry *first, *last; /* in order of arrival */
	size_t count, bytes;
};

struct asker {
	struct asker *next;
	uint32_t uid;
	uint64_t full_ns; /* when its bucket is full again */
	struct sync_list throttled;
	size_t tickets; /* requests that are not answered */
};

struct askers {
	struct asker *first;
	uint32_t rate, burst; /* tokens a second, and at once; rate 0: no limit */
};

/* Another rate and burst from now on. What a user has used up is counted in tokens: a higher rate
 * gives them back sooner. */
void askers_configure(struct askers *askers, uint32_t rate, uint32_t burst, uint64_t now_ns);
/* Root and the daemon's user are bound by the whole only. */
bool asker_is_privileged(const struct asker *asker);
/* Made when there is none; NULL: no memory. */
struct asker *asker_of(struct askers *askers, uint32_t uid, uint64_t now_ns);
/* When it will have a token, behind so many others of its own; now_ns or earlier: it has one. */
uint64_t asker_when(const struct askers *askers, const struct asker *asker, size_t behind, uint64_t now_ns);
void asker_pay(const struct askers *askers, struct asker *asker, uint64_t now_ns);
void askers_free(struct askers *askers);

#endif
