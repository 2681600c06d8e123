/* SPDX-License-Identifier: Apache-2.0
 * Leader epochs: what a source knows, judged. */
#include "backends/leader_epochs.h"

#include "backends/rows.h"

enum shmeta_status leader_epoch_judge(const struct backend_epoch *ask, const struct leader_epoch_facts *facts,
                                      struct backend_epoch_end *ret, struct backend_error *err)
{
	char quoted[ROWS_QUOTE_MAX];

	if (!facts->topic)
		return backend_fail(err, SHMETA_ERR_TOPIC_NOT_FOUND, "topic not found: %s",
		                    rows_quote(quoted, ask->topic));
	if (!facts->partition)
		return backend_fail(err, SHMETA_ERR_PARTITION_NOT_FOUND, "partition not found: %s/%u",
		                    rows_quote(quoted, ask->topic), ask->partition_id);
	if (ask->epoch > facts->current)
		return backend_fail(err, SHMETA_ABSENT, "epoch %llu has not begun: the highest of partition %u is %llu",
		                    (unsigned long long)ask->epoch, ask->partition_id,
		                    (unsigned long long)facts->current);
	if (facts->recorded && facts->epoch == 0)
		return backend_fail(err, SHMETA_ABSENT_BEFORE_START,
		                    "epoch %llu is older than those that are kept of partition %u",
		                    (unsigned long long)ask->epoch, ask->partition_id);
	/* Whoever took 0 for it would drop all that it has. */
	if ((facts->followed ? facts->next_start : facts->high_watermark) > INT64_MAX)
		return backend_alone(
			err,
			backend_fail(
				err, SHMETA_ERR_SOURCE,
				"where epoch %llu of partition %u ends cannot be read: the source has no such offset",
				(unsigned long long)ask->epoch, ask->partition_id));
	*ret = (struct backend_epoch_end){.epoch = facts->recorded ? facts->epoch : 0,
	                                  .end_offset = facts->followed ? facts->next_start : facts->high_watermark};
	return SHMETA_OK;
}
