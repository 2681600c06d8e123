/* SPDX-License-Identifier: Apache-2.0
 * Snapshots that grow old, in words. */
#include "writer/serve/pins.h"

#include <inttypes.h>
#include <stdio.h>
#include <syslog.h>

#include "shm/page/board.h"
#include "writer/daemon/log.h"

enum { WARN_S = 5 };
#define SECOND UINT64_C(1000000000)

static void tell(const struct registry_revoked *r, uint64_t max_age_s)
{
	char who[160], why[160];

	snprintf(who, sizeof(who), "%s (pid %d, uid %u)", r->name, (int)r->peer.pid, (unsigned)r->peer.uid);
	if (r->why == REGISTRY_TOO_OLD)
		snprintf(why, sizeof(why), "longer than snapshot.max_age = %" PRIu64 "s", max_age_s);
	else
		snprintf(why, sizeof(why), "%s",
		         r->why == REGISTRY_NO_ROOM ? "and the store has no room left for what it holds back"
		                                    : "an administrator asked for it");
	if (r->pin != 0)
		log_event(LOG_WARNING, "snapshot-revoked",
		          "revoked the snapshot of %s: its commit %" PRIu64 " has been out of date for %" PRIu64
		          ".%" PRIu64 " s, %s",
		          who, r->pin, r->age_ns / SECOND, r->age_ns / (SECOND / 10) % 10, why);
	else
		log_event(LOG_WARNING, "snapshot-revoked", "revoked the registration of %s: %s", who, why);
}

uint64_t pins_tell_revoked(struct registry *registry, uint64_t max_age_s)
{
	struct registry_revoked revoked;
	uint64_t count = 0;

	for (; registry_next_revoked(registry, &revoked); count++)
		tell(&revoked, max_age_s);
	return count;
}

void pins_warn(struct registry *registry, bool *warned)
{
	uint64_t age = 0;
	char who[160];

	if (!registry_oldest_holder(registry, shmeta__boottime_ns(), &age, who, sizeof(who)) || age < WARN_S * SECOND) {
		*warned = false;
		return;
	}
	if (!*warned)
		log_event(LOG_WARNING, "old-snapshot",
		          "%s has held one snapshot for %" PRIu64
		          " s; the store grows until it lets go, or 'shmetactl revoke' or snapshot.max_age ends it",
		          who, age / SECOND);
	*warned = true;
}

enum shmeta_status pins_revoke(struct registry *registry, uint64_t number_or_pid, uint64_t *ret_count,
                               char *ret_sentence, size_t bytes)
{
	*ret_count = registry_evict(registry, number_or_pid, shmeta__boottime_ns());
	if (*ret_count > 0) {
		snprintf(ret_sentence, bytes, "revoked %" PRIu64 " registration%s", *ret_count,
		         *ret_count > 1 ? "s" : "");
		return SHMETA_OK;
	}
	snprintf(ret_sentence, bytes,
	         "no registered process has the id or registration %" PRIu64 "; 'shmetactl readers' lists them",
	         number_or_pid);
	return SHMETA_ERR_NOT_FOUND;
}
