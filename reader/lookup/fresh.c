/* SPDX-License-Identifier: Apache-2.0
 * Lookups with FRESH and SOURCE: answer, ask the writer, wait until the store shows what it said,
 * answer again. */
#include "reader/lookup/lookup.h"

/* Where an answer comes from: the caller's reader, or one of the call's own whose snapshot is
 * newer. */
struct asked {
	struct shmeta_reader *reader;
	struct shmeta_handle *handle; /* of that reader; NULL for lookups by name */
	uint64_t synced_at_ns;        /* when the source was read; 0: it was not asked */
};

/* Does this answer of the store not do? */
static int must_ask(const struct shmeta_read *read, enum shmeta_status status, const struct shmeta_freshness *fresh)
{
	return status >= 0 && fresh->ttl_ns != FOR_EVER &&
	       (read->consistency == SHMETA_SOURCE || status == SHMETA_UNKNOWN || !fresh->fresh);
}

static enum shmeta_status ask(struct shmeta_reader *r, const struct shmeta_handle *h, const struct want *want,
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

static enum shmeta_status finish(struct shmeta_reader *r, struct asked *asked, enum shmeta_status status)
{
	struct shmeta_reader *from = asked->reader;

	status = lookup_done(from, status);
	if (from == r)
		return status;
	shmeta__counters_add(&r->slot->counters, &from->own.counters);
	if (asked->handle != NULL && asked->handle->reader == from)
		shmeta__handle_free(asked->handle);
	shmeta__reader_drop(from);
	return status;
}

enum shmeta_status shmeta__fresh_lookup(struct shmeta_reader *r, struct shmeta_handle *h, const struct want *want,
                                        const struct shmeta_read *read, shmeta__answer_fn *answer, void *arg,
                                        struct shmeta_freshness *ret_fresh)
{
	struct asked asked = {r, h, 0};
	struct shmeta_freshness fresh = {0};
	enum shmeta_status status = answer(arg, r, h, 0, &fresh);

	if (must_ask(read, status, &fresh)) {
		status = ask(r, h, want, read, &asked);
		if (status == SHMETA_OK)
			status = answer(arg, asked.reader, asked.handle, asked.synced_at_ns, &fresh);
	}
	status = finish(r, &asked, status);
	if (ret_fresh != NULL && status >= 0)
		*ret_fresh = fresh;
	return status;
}
