/* SPDX-License-Identifier: Apache-2.0
 * Writing the stats page. */
#include "writer/daemon/stats_writer.h"

#include <stdio.h>
#include <string.h>

#include "shm/page/seqlock.h"

_Static_assert((int)SHMETA_COUNTER_COUNT <= (int)SHMETA_STATS_COUNTERS + (int)SHMETA_STATS_MORE,
               "the stats page has no room for so many counters");

static void put(struct shmeta_stats *page, uint32_t at, const char *name, uint64_t value)
{
	(void)snprintf(shmeta__stats_name(page, at), SHMETA_STATS_NAME, "%s", name);
	*shmeta__stats_value(page, at) = value;
}

void stats_write(struct shmeta_stats *page, const struct stats_input *input)
{
	const uint32_t count = SHMETA_COUNTER_COUNT;
	uint64_t now = shmeta__boottime_ns();

	shmeta__seqlock_begin(&page->sequence);
	memcpy(page->signature, "SHMSTATS", sizeof(page->signature));
	page->version = SHMETA_STATS_VERSION;
	page->reader_bytes = sizeof(struct shmeta_stats_reader);
	page->counter_count = count < SHMETA_STATS_COUNTERS ? count : SHMETA_STATS_COUNTERS;
	page->more_count = count - page->counter_count;
	page->flags = input->flags;
	shmeta__say(page->source, sizeof(page->source), "%s", input->source);
	shmeta__say(page->reason, sizeof(page->reason), "%s", input->reason);
	shmeta__say(page->source_status, sizeof(page->source_status), "%s", input->source_status);
#define C(name, kind, unit, help) put(page, SHMETA_COUNTER_##name, #name, input->control->name);
	SHMETA_CONTROL_COUNTERS(C)
#undef C
#define C(name, kind, unit, help) put(page, SHMETA_COUNTER_##name, #name, input->sync->name);
	SHMETA_SYNC_COUNTERS(C)
#undef C
	memcpy(page->times, input->times, sizeof(page->times));
	registry_report(input->registry, page, input->committed, now);
	page->updated_at_ns = now;
	shmeta__seqlock_end(&page->sequence);
}

json_t *stats_json(const struct sync_counters *sync, const struct control_counters *control)
{
	json_t *counters = json_object();

#define C(name, kind, unit, help) json_object_set_new(counters, #name, json_integer((json_int_t)control->name));
	SHMETA_CONTROL_COUNTERS(C)
#undef C
#define C(name, kind, unit, help) json_object_set_new(counters, #name, json_integer((json_int_t)sync->name));
	SHMETA_SYNC_COUNTERS(C)
#undef C
	return counters;
}
