/* SPDX-License-Identifier: Apache-2.0
 * What all kinds of passes share: the topics that were shown, turns of others, keys that are read
 * again, the judgement, and quarantined rows that no key leads to. */
#include "writer/load/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "writer/keys/refresh.h"

enum { PORTION = 256 }; /* keys of a pass in the queue at once */

static int compare_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

bool pass_see(struct pass_known *k, uint32_t topic_id)
{
	const uint32_t *id = k->count > 0 ? bsearch(&topic_id, k->id, k->count, sizeof *id, compare_id) : NULL;

	if (id != NULL)
		k->seen[id - k->id] = 1;
	return id != NULL;
}

void pass_free_known(struct pass_known *k)
{
	free(k->id);
	free(k->seen);
	*k = (struct pass_known){0};
}

enum shmeta_status pass_read_known(struct pass_known *k, struct shmeta__store *store, struct shmeta_err *err)
{
	struct shmeta__txn *txn;
	struct shmeta__cursor *cursor;
	size_t capacity = 0;
	enum shmeta_status status = shmeta__txn_read(store, &txn, err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__cursor_open(txn, SHMETA_DB_TOPICS, NULL, 0, &cursor, err);
	while (status == SHMETA_OK) {
		const void *key, *value;
		size_t key_bytes, bytes;
		uint64_t id;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK || key_bytes != sizeof id)
			break;
		if (k->count == capacity) {
			capacity = capacity == 0 ? 1024 : capacity * 2;
			uint32_t *bigger = reallocarray(k->id, capacity, sizeof *bigger);

			if (bigger == NULL) {
				status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory while reconciling");
				break;
			}
			k->id = bigger;
		}
		memcpy(&id, key, sizeof id);
		k->id[k->count++] = (uint32_t)id;
	}
	if (status >= 0)
		shmeta__cursor_close(cursor);
	shmeta__txn_abort(txn);
	if (status < 0)
		return status;
	k->seen = calloc(k->count + 1, 1);
	if (k->seen == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory while reconciling");
	k->segments = shmeta__store_counters(store)->segments;
	return SHMETA_OK;
}

/* ---- turns ---- */

enum pass_end pass_store_failed(struct pass *p, enum shmeta_status status)
{
	if (p->err.code == SHMETA_OK)
		(void)shmeta_fail(&p->err, status, "%s",
		                  status == SHMETA_ERR_NO_MEMORY ? "out of memory while comparing everything"
		                                                 : shmeta_strerror(status));
	return PASS_STORE;
}

enum pass_end pass_turn(struct pass *p)
{
	return !sync_stopping(p->s) && p->turn(p->s, false) ? PASS_DONE : PASS_POSTPONED;
}

/* Until nothing in the queue is wanted by the pass any more. */
static enum pass_end settle(struct pass *p)
{
	while (queue_pass_keys(p->s) > 0) {
		if (sync_stopping(p->s) || !p->turn(p->s, true) || health_job_fails(&p->s->health, SYNC_JOB_FETCH))
			return PASS_POSTPONED;
		(void)batch_run_pass(p->s);
	}
	return PASS_DONE;
}

enum pass_end pass_bring_over(struct pass *p)
{
	enum pass_end end;

	do {
		if (!differences_ask(&p->found, p->s, PORTION))
			return pass_store_failed(p, SHMETA_ERR_NO_MEMORY);
		end = settle(p);
	} while (end == PASS_DONE && p->found.count > 0);
	return end;
}

/* ---- the judgement ---- */

enum pass_end pass_judge(struct pass *p, uint64_t topics, uint64_t segments)
{
	struct sync *s = p->s;
	const struct shrink_rows had = {p->known.count, p->known.segments}, shown = {topics, segments};

	/* A file may be replaced at any time: what was read may be another source's. */
	generation_judge(s);
	if (origin_is_foreign(s))
		return PASS_POSTPONED;
	if (shrink_judge(s, had, shown))
		return PASS_DONE;
	schedule_ask_pass(s, !feed_in_step(s), "the source had lost more than half of its rows");
	schedule_pass_again(s);
	return PASS_POSTPONED;
}

/* ---- quarantined rows without a key ---- */

struct unnamed_row {
	struct unnamed_row *next;
	struct backend_key row;
	uint64_t rows;
	struct shmeta_str sentence; /* ends with a NUL */
};

void pass_forget_unnamed(struct pass *p)
{
	arena_reset(&p->unnamed_memory);
	p->unnamed = NULL;
	p->unnamed_count = 0;
	p->unnamed_differ = false;
}

enum shmeta_status pass_add_unnamed(struct pass *p, const struct backend_key *row, uint64_t rows,
                                    struct shmeta_str sentence)
{
	struct unnamed_row *u;
	char *text;

	if (p->unnamed_count == QUARANTINE_LISTED_MAX)
		return SHMETA_OK;
	u = arena_alloc(&p->unnamed_memory, sizeof *u);
	text = arena_alloc(&p->unnamed_memory, sentence.bytes + 1);
	if (u == NULL || text == NULL)
		return SHMETA_ERR_NO_MEMORY;
	memcpy(text, sentence.data, sentence.bytes);
	text[sentence.bytes] = '\0';
	*u = (struct unnamed_row){.next = p->unnamed, .row = *row, .rows = rows, .sentence = {text, sentence.bytes}};
	if (arena_str(&p->unnamed_memory, row->tenant, &u->row.tenant) != 0 ||
	    arena_str(&p->unnamed_memory, row->topic, &u->row.topic) != 0 ||
	    arena_str(&p->unnamed_memory, row->name, &u->row.name) != 0)
		return SHMETA_ERR_NO_MEMORY;
	p->unnamed = u;
	p->unnamed_count++;
	return SHMETA_OK;
}

static enum shmeta_status put_unnamed(struct pass *p, enum shmeta_class last,
                                      const uint64_t unlisted[QUARANTINE_CLASSES])
{
	struct apply *a = &p->s->apply;
	uint64_t now[QUARANTINE_CLASSES], txn, began_ns = sync_now(p->s);
	struct quarantine q = {.partial = false};
	struct apply_host host = sync_apply_host(p->s);
	enum shmeta_status status = apply_begin(a, p->s->store, &host, sync_oldest_pin(p->s), false, &p->err);

	if (status == SHMETA_OK)
		status = quarantine_unlisted(a->txn, now, &p->err);
	a->synced_at_ns = p->began_ns;
	for (const struct unnamed_row *u = p->unnamed; u != NULL && status == SHMETA_OK; u = u->next)
		status = quarantine_row(a, &q, &u->row, u->rows, u->sentence.data, &p->err);
	/* Numbers that changed meanwhile are the next pass's. */
	if (status == SHMETA_OK)
		status = quarantine_unnamed_end(
			a, &q, last, memcmp(now, p->unlisted_before, sizeof now) == 0 ? unlisted : NULL, &p->err);
	if (status == SHMETA_OK)
		status = apply_commit(a, &txn, &p->err);
	if (status == SHMETA_OK)
		sync_count_commit(p->s, a, began_ns);
	else
		apply_abort(a);
	quarantine_free(&q);
	return status;
}

enum pass_end pass_put_unnamed(struct pass *p, enum shmeta_class last, const uint64_t unlisted[QUARANTINE_CLASSES])
{
	enum shmeta_status status;

	for (int cls = 0; cls <= (int)last; cls++)
		p->unnamed_differ |= unlisted[cls] != p->unlisted_before[cls];
	if (!p->unnamed_differ)
		return PASS_DONE;
	status = put_unnamed(p, last, unlisted);
	return status == SHMETA_OK ? PASS_DONE : pass_store_failed(p, status);
}
