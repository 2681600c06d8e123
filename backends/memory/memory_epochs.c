/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine: which epochs of a partition something was written under, and from where
 * on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/leader_epochs.h"
#include "backends/memory/memory_own.h"
#include "backends/memory/memory_side.h"

void memory_epochs_forget(struct memory_side *m, const char *tenant, const char *topic)
{
	for (size_t i = 0; i < m->epoch_count; i++)
		if (strcmp(m->epochs[i].tenant, tenant) == 0 && strcmp(m->epochs[i].topic, topic) == 0) {
			m->epochs[i].led.count = 0;
			m->epochs[i].led.dropped = false;
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
		leader_epochs_look_up(&e->led, ask->epoch, &facts);
		facts.current = e->epoch;
		if (memory_find_lease(db, tenant, topic, ask->partition_id, &lease) && lease.epoch > facts.current)
			facts.current = lease.epoch;
	}
	return leader_epoch_judge(ask, &facts, ret, err);
}
