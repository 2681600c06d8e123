/* SPDX-License-Identifier: Apache-2.0
 * Rows of the in-memory engine that a test has broken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/memory/memory.h"

const struct memory_row_fault *memory_row_fault(const struct memory_row_fault *first, struct shmeta_str topic,
                                                uint32_t partition_id)
{
	for (const struct memory_row_fault *fault = first; fault != NULL; fault = fault->next)
		if (fault->partition_id == partition_id && strlen(fault->topic) == topic.bytes &&
		    memcmp(fault->topic, topic.data, topic.bytes) == 0)
			return fault;
	return NULL;
}

void memory_row_faults_free(struct memory_row_fault *first)
{
	for (struct memory_row_fault *next; first != NULL; first = next) {
		next = first->next;
		free(first);
	}
}

static bool add(struct memory_db *db, const char *topic, uint32_t partition_id, bool stray, enum shmeta_status status,
                const char *sentence)
{
	struct memory_row_fault *fault = calloc(1, sizeof *fault), **first;

	if (fault == NULL)
		return false;
	fault->partition_id = partition_id;
	fault->stray = stray;
	fault->status = status;
	(void)snprintf(fault->topic, sizeof fault->topic, "%s", topic);
	(void)snprintf(fault->sentence, sizeof fault->sentence, "%s", sentence);
	first = memory_lock_row_faults(db);
	fault->next = *first;
	*first = fault;
	memory_unlock_row_faults(db);
	return true;
}

bool memory_break_partition(struct memory_db *db, const char *topic, uint32_t partition_id, enum shmeta_status status,
                            const char *sentence)
{
	return add(db, topic, partition_id, false, status, sentence);
}

bool memory_stray_partition(struct memory_db *db, const char *topic, uint32_t partition_id)
{
	return add(db, topic, partition_id, true, SHMETA_OK, "");
}

void memory_mend_partition(struct memory_db *db, const char *topic, uint32_t partition_id)
{
	struct memory_row_fault **at = memory_lock_row_faults(db);

	while (*at != NULL) {
		struct memory_row_fault *fault = *at;

		if (fault->partition_id != partition_id || strcmp(fault->topic, topic) != 0) {
			at = &fault->next;
			continue;
		}
		*at = fault->next;
		free(fault);
	}
	memory_unlock_row_faults(db);
}
