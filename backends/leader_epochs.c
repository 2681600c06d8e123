/* SPDX-License-Identifier: Apache-2.0
 * Leader epochs: lists of them, and what a source knows, judged. */
#include "backends/leader_epochs.h"

#include <stdlib.h>
#include <string.h>

#include "backends/rows.h"

static void drop_oldest(struct leader_epochs *e)
{
	e->count--;
	memmove(e->list, e->list + 1, e->count * sizeof *e->list);
	e->dropped = true;
}

bool leader_epochs_record(struct leader_epochs *e, uint64_t epoch, uint64_t start, bool lowers)
{
	struct leader_epoch *list;
	size_t at = e->count;

	while (at > 0 && e->list[at - 1].epoch > epoch)
		at--;
	if (at > 0 && e->list[at - 1].epoch == epoch) {
		if (lowers && start < e->list[at - 1].start)
			e->list[at - 1].start = start;
		return true;
	}
	/* Room for as many as the next power of two. */
	list = (e->count & (e->count - 1)) == 0 ? reallocarray(e->list, e->count > 0 ? 2 * e->count : 1, sizeof *list)
	                                        : e->list;
	if (list == NULL)
		return false;
	e->list = list;
	memmove(&list[at + 1], &list[at], (e->count - at) * sizeof *list);
	list[at] = (struct leader_epoch){.epoch = epoch, .start = start};
	e->count++;
	if (e->count > LEADER_EPOCHS_MOST)
		drop_oldest(e);
	return true;
}

static bool has_ended(const struct leader_epochs *e, size_t at, uint64_t log_start)
{
	return at + 1 < e->count && e->list[at + 1].start <= log_start;
}

bool leader_epochs_trim(struct leader_epochs *e, uint64_t log_start)
{
	size_t newest = e->count, kept = 0, before = e->count;

	while (newest > 0 && !has_ended(e, newest - 1, log_start))
		newest--;
	for (size_t i = 0; i < before; i++)
		if (i + 1 >= newest || !has_ended(e, i, log_start))
			e->list[kept++] = e->list[i];
	e->count = kept;
	e->dropped |= kept < before;
	return kept < before;
}

void leader_epochs_look_up(const struct leader_epochs *e, uint64_t asked, struct leader_epoch_facts *facts)
{
	facts->recorded = e->dropped;
	for (size_t i = 0; i < e->count && !facts->followed; i++) {
		facts->followed = e->list[i].epoch > asked;
		facts->next_start = e->list[i].start;
		if (!facts->followed) {
			facts->recorded = true;
			facts->epoch = e->list[i].epoch;
		}
	}
}

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
	if (ask->epoch > facts->current) {
		ret->epoch = facts->current;
		return backend_fail(err, SHMETA_ABSENT, "epoch %llu has not begun: the highest of partition %u is %llu",
		                    (unsigned long long)ask->epoch, ask->partition_id,
		                    (unsigned long long)facts->current);
	}
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
