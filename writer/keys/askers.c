/* SPDX-License-Identifier: Apache-2.0
 * Buckets of tokens. A bucket is the time at which it will be full. */
#include "writer/keys/askers.h"

#include <stdlib.h>
#include <unistd.h>

static uint64_t interval_ns(const struct askers *askers)
{
	return askers->rate > 0 ? 1000000000 / askers->rate : 0;
}

void askers_configure(struct askers *askers, uint32_t rate, uint32_t burst, uint64_t now_ns)
{
	uint64_t before = interval_ns(askers);

	if (rate == askers->rate && burst == askers->burst)
		return;
	askers->rate = rate;
	askers->burst = burst;
	for (struct asker *a = askers->first; a != NULL; a = a->next) {
		uint64_t used = before > 0 && a->full_ns > now_ns ? (a->full_ns - now_ns + before - 1) / before : 0;

		a->full_ns = now_ns + (used < burst ? used : burst) * interval_ns(askers);
	}
}

bool asker_is_privileged(const struct asker *asker)
{
	return asker->uid == 0 || asker->uid == geteuid();
}

struct asker *asker_of(struct askers *askers, uint32_t uid, uint64_t now_ns)
{
	struct asker *a;

	for (struct asker **at = &askers->first; (a = *at) != NULL;) {
		if (a->uid == uid)
			return a;
		if (a->throttled.count > 0 || a->tickets > 0 || a->full_ns > now_ns) {
			at = &a->next;
			continue;
		}
		*at = a->next; /* as good as none */
		free(a);
	}
	a = calloc(1, sizeof *a);
	if (a == NULL)
		return NULL;
	a->uid = uid;
	a->next = askers->first;
	askers->first = a;
	return a;
}

uint64_t asker_when(const struct askers *askers, const struct asker *asker, size_t behind, uint64_t now_ns)
{
	uint64_t step = interval_ns(askers), at_once = (askers->burst - 1) * step,
		 full = (asker->full_ns > now_ns ? asker->full_ns : now_ns) + behind * step;

	if (asker_is_privileged(asker) || full < at_once)
		return 0;
	return full - at_once;
}

void asker_pay(const struct askers *askers, struct asker *asker, uint64_t now_ns)
{
	asker->full_ns = (asker->full_ns > now_ns ? asker->full_ns : now_ns) + interval_ns(askers);
}

void askers_free(struct askers *askers)
{
	for (struct asker *a = askers->first, *next; a != NULL; a = next) {
		next = a->next;
		free(a);
	}
	askers->first = NULL;
}
