/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine: which epochs of a partition something was written under, and from where on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/leader_epochs.h"
#include "backends/memory/memory_own.h"
#include "backends/memory/memory_side.h"

static void drop(struct epoch *e, size_t at)
{
	memmove(&e->led[at], &e->led[at + 1], (e->led_count - at - 1) * sizeof *e->led);
	e->led_count--;
	e->led_dropped = true;
}

bool memory_epoch_record(struct epoch *e, uint64_t epoch, uint64_t start, bool lowers)
{
	size_t at = e->led_count;
	struct led *one;

	while (at > 0 && e->led[at - 1].epoch > epoch)
		at--;
	if (at > 0 && e->led[at - 1].epoch == epoch) {
		one = &e->led[at - 1];
		if (lowers && start < one->start)
			one->start = start;
		return true;
	}
	if (memory_grow((void **)&e->led, &e->led_count, sizeof *e->led) == NULL)
		return false;
	memmove(&e->led[at + 1], &e->led[at], (e->led_count - at - 1) * sizeof *e->led);
	e->led[at] = (struct led){.epoch = epoch, .start = start};
	if (e->led_count > LEADER_EPOCHS_MOST)
		drop(e, 0);
	return true;
}

static bool has_ended(const struct epoch *e, size_t at, uint64_t log_start)
{
	return at + 1 < e->led_count && e->led[at + 1].start <= log_start;
}

void memory_epochs_trim(struct epoch *e, uint64_t log_start)
{
	size_t newest = e->led_count, kept = 0;

	while (newest > 0 && !has_ended(e, newest - 1, log_start))
		newest--;
	for (size_t i = 0; i < e->led_count; i++)
		if (i + 1 < newest && has_ended(e, i, log_start))
			e->led_dropped = true;
		else
			e->led[kept++] = e->led[i];
	e->led_count = kept;
}

void memory_epochs_forget(struct memory_side *m, const char *tenant, const char *topic)
{
	for (size_t i = 0; i < m->epoch_count; i++)
		if (strcmp(m->epochs[i].tenant, tenant) == 0 && strcmp(m->epochs[i].topic, topic) == 0) {
			m->epochs[i].led_count = 0;
			m->epochs[i].led_dropped = false;
		}
}

static void look_up(const struct epoch *e, uint64_t asked, struct leader_epoch_facts *facts)
{
	facts->current = e->epoch;
	facts->recorded = e->led_dropped;
	for (size_t i = 0; i < e->led_count && !facts->followed; i++) {
		facts->followed = e->led[i].epoch > asked;
		facts->next_start = e->led[i].start;
		if (!facts->followed) {
			facts->recorded = true;
			facts->epoch = e->led[i].epoch;
		}
	}
}

enum shmeta_status memory_epoch_end(void *state, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                    struct backend_error *err)
{
	struct memory_db *db = memory_db_of(state);
	char tenant[SHMETA_TENANT_MAX + 1], topic[SHMETA_NAME_MAX + 1];
	struct leader_epoch_facts facts = {.topic = false};
	struct shmeta_partition row;
	struct shmeta_lease lease;
	struct epoch *e;

	if (memory_is_started(state, err))
		return SHMETA_ERR_SOURCE;
	if (!memory_side_of(db))
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "memory: out of memory");
	(void)snprintf(tenant, sizeof tenant, "%.*s", (int)ask->tenant.bytes, ask->tenant.data);
	(void)snprintf(topic, sizeof topic, "%.*s", (int)ask->topic.bytes, ask->topic.data);
	facts.topic = memory_find_topic(db, tenant, topic);
	facts.partition = memory_find_partition(db, tenant, topic, ask->partition_id, &row);
	if (facts.topic && facts.partition) {
		e = memory_epoch_of(db->side, tenant, topic, ask->partition_id);
		if (e == NULL)
			return backend_fail(err, SHMETA_ERR_NO_MEMORY, "memory: out of memory");
		facts.high_watermark = row.high_watermark;
		look_up(e, ask->epoch, &facts);
		if (memory_find_lease(db, tenant, topic, ask->partition_id, &lease) && lease.epoch > facts.current)
			facts.current = lease.epoch;
	}
	return leader_epoch_judge(ask, &facts, ret, err);
}
