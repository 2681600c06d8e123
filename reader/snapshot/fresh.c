/* SPDX-License-Identifier: Apache-2.0
 * Lookups with FRESH and SOURCE: ask the writer, wait until the store shows its answer, and look again: in the caller's reader when
 * the read lets it move, otherwise in a reader of the call's own, so that the caller's snapshot stays what it is. */
#include "reader/lookup/lookup.h"

enum shmeta_status shmeta__asked_begin(struct shmeta_reader *r, const struct shmeta_handle *h, const struct want *want,
                                       const struct shmeta_read *read, struct asked *asked)
{
	uint64_t deadline = shmeta__deadline_of(read->timeout_ms);
	uint64_t since_ns = read->consistency == SHMETA_SOURCE ? shmeta__writer_now_ns(r->core) : 0;
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct answer answer = {.body_type = 0};

	r->slot->counters.fresh_waits++;
	/* What was read in the snapshot that is about to be left. */
	if ((read->flags & SHMETA_READ_MAY_MOVE) != 0 && shmeta__snapshot_expired(r))
		r->expired = 1;
	status = shmeta__ask_since(r->instance, r->core, want, since_ns, deadline, &answer, &err);
	if (status != SHMETA_OK)
		return shmeta__instance_fail(r->instance, &err);
	if ((read->flags & SHMETA_READ_MAY_MOVE) == 0) {
		asked->reader = shmeta__reader_aside(r);
		if (asked->reader == NULL) {
			asked->reader = r;
			return SHMETA_ERR_NO_MEMORY;
		}
	}
	status = shmeta__snapshot_advance(asked->reader, answer.frame.generation, answer.frame.txn, deadline);
	if (status == SHMETA_OK && h != NULL && asked->reader != r) {
		asked->handle = shmeta__handle_for(h, asked->reader);
		if (asked->handle == NULL)
			status = SHMETA_ERR_NO_MEMORY;
	}
	if (status == SHMETA_OK)
		asked->synced_at_ns = answer.frame.synced_at_ns;
	return status;
}

enum shmeta_status shmeta__asked_end(struct shmeta_reader *r, struct asked *asked, enum shmeta_status status)
{
	struct shmeta_reader *from = asked->reader;

	status = lookup_done(from, status);
	if (from == r)
		return status;
	shmeta__counters_add(&r->slot->counters, &from->own.counters);
	if (asked->handle != NULL && asked->handle->reader == from)
		shmeta__handle_free(asked->handle);
	shmeta__reader_aside_free(from);
	return status;
}
