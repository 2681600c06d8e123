/* SPDX-License-Identifier: Apache-2.0
 * Everything, read again by its keys: where there is no second connection to load() over, or some
 * row keeps load() from showing anything.
 *
 *   names -> judged -> topics that the store does not have
 *     -> the rows of all topics -> their partitions, a few thousand stored rows at a time
 *
 * The names are listed first; all that is read later is at least as new. Those that the store has
 * are not kept, and of the others as many are as the pass may hold: when these have been read, the
 * names are listed once more. All keys go through the queue, a portion at a time, so the one that
 * fails is halved out of its batch (batch.c) and fails alone, and others have their turn in
 * between. */
#include <stdlib.h>

#include "base/row_limits.h"
#include "writer/keys/bounded.h"
#include "writer/load/pass.h"

enum { PORTION_KEYS = 256, PORTION_ROWS = 8192, PAGE_ROWS = 4096, NAMES_A_TURN = 4096 };

struct pages {
	struct pass *p;
	struct sync *s;
	bool second;
	enum pass_end ended;
	uint64_t listed, unknown; /* names; those that the store does not have */
	uint64_t unlisted[QUARANTINE_CLASSES];
	/* What is in the queue of the portion. */
	size_t keys;
	uint64_t rows;
	/* The topic whose keys are asked for. */
	struct shmeta_str tenant, topic; /* in text */
	char tenant_text[SHMETA_TENANT_MAX], topic_text[SHMETA_NAME_MAX];
	uint32_t should; /* have so many partitions */
	uint32_t *ids;   /* that the store has */
	size_t id_count, id_capacity;
};

static enum shmeta_status fail(struct pages *g, enum shmeta_status status)
{
	if (status < 0 && g->ended == PASS_DONE)
		g->ended = pass_store_failed(g->p, status);
	return status;
}

/* ---- names ---- */

/* Over the engine's own connection others cannot have theirs. */
static enum shmeta_status give_way(struct pages *g)
{
	if (g->second)
		g->ended = pass_turn(g->p);
	else if (sync_stopping(g->s))
		g->ended = PASS_POSTPONED;
	return g->ended == PASS_DONE ? SHMETA_OK : SHMETA_ERR_BUSY;
}

/* The list is waited for. */
static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	return give_way(arg);
}

static enum shmeta_status on_key(void *arg, const struct backend_key *key)
{
	struct pages *g = arg;
	struct shmeta__txn *txn;
	struct shmeta_topic stored;
	enum shmeta_status status;

	g->listed++;
	if (g->listed % NAMES_A_TURN == 0 && give_way(g) != SHMETA_OK)
		return SHMETA_ERR_BUSY;
	if (shmeta__name_error(key->topic.data, key->topic.bytes, SHMETA_NAME_MAX) != NULL ||
	    shmeta__name_error(key->tenant.data, key->tenant.bytes, SHMETA_TENANT_MAX) != NULL)
		return SHMETA_OK; /* none that can be served */
	status = fail(g, shmeta__txn_read(g->s->store, &txn, &g->p->err));
	if (status != SHMETA_OK)
		return status;
	status = fail(g, apply_topic_get(txn, key->tenant, key->topic, &stored, NULL, &g->p->err));
	if (status == SHMETA_OK)
		(void)pass_see(&g->p->known, stored.topic_id);
	shmeta__txn_abort(txn);
	if (status != SHMETA_ABSENT)
		return status;
	/* In bounded mode there is no need for others. */
	if (g->s->bounded != NULL && bounded_lacks(g->s, SHMETA_CLASS_TOPIC) &&
	    !bounded_has_room(g->s, shmeta__store_counters(g->s->store)->topics))
		return SHMETA_OK;
	g->unknown++;
	return fail(g, differences_topic(&g->p->found, key->tenant, key->topic, false));
}

/* Where it stands for all names that could not be listed, no topic is known to be absent. */
static void on_unread_name(void *arg, const struct backend_key *row, const char *sentence)
{
	const uint32_t all = BACKEND_UNREAD_TENANT | BACKEND_UNREAD_TOPIC;
	struct pages *g = arg;

	if (!quarantine_is_unnamed(row) || row->cls != SHMETA_CLASS_TOPIC)
		return; /* its topic says so, when it is read */
	g->unlisted[SHMETA_CLASS_TOPIC] += (row->unread & all) == all;
	(void)fail(g, pass_add_unnamed(g->p, row, 1, (struct shmeta_str){sentence, strlen(sentence)}));
}

static enum pass_end list(struct pages *g, void *backend)
{
	const struct backend_sink sink = {
		.arg = g, .key = on_key, .quarantine = on_unread_name, .progress = on_progress};
	struct pass *p = g->p;
	uint64_t began = sync_now(g->s);
	enum shmeta_status status;

	g->listed = g->unknown = 0;
	differences_begin(&p->found, g->s->options.pass_keys);
	memset(g->unlisted, 0, sizeof g->unlisted);
	pass_forget_unnamed(p);
	status = g->s->engine->source->load(backend, &sink, &p->source_err);
	g->s->counters.fetch_ns += sync_now(g->s) - began;
	/* The engine's own feed goes on from here; what it had not told until now is read with all
	 * the rest. A list that cannot be made has moved nothing. */
	if (!g->second && status != SHMETA_ERR_INVALID_ARGUMENT) {
		feed_lost_names(g->s);
		p->losses = g->s->losses;
	}
	if (g->ended != PASS_DONE)
		return g->ended;
	p->source_status = status;
	if (status == SHMETA_OK)
		sync_source_works(g->s, SYNC_JOB_OPEN);
	return status == SHMETA_OK ? PASS_DONE : PASS_SOURCE;
}

/* ---- keys ---- */

/* What is in the queue is read, as soon as it is a portion; all: in any case. */
static enum pass_end read_portion(struct pages *g, bool all)
{
	if (g->ended != PASS_DONE || (!all && g->keys < PORTION_KEYS && g->rows < PORTION_ROWS))
		return g->ended;
	g->keys = 0;
	g->rows = 0;
	g->ended = pass_bring_over(g->p);
	return g->ended;
}

static enum pass_end ask(struct pages *g, const struct identity *id, struct want want, uint64_t rows)
{
	want.pass = want.repair = true;
	if (!queue_want_now(g->s, id, &want))
		(void)fail(g, SHMETA_ERR_NO_MEMORY);
	g->keys++;
	g->rows += rows;
	return g->ended;
}

/* The rows that the store has of a partition from `from` on, up to a page of them: the last offset
 * that belongs to the page. */
static enum shmeta_status find_page(struct pages *g, uint32_t topic_id, uint32_t partition_id, uint64_t from,
                                    uint64_t *ret_to, uint64_t *ret_rows)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	struct shmeta__part part = {0};
	struct shmeta__part_cursor cursor;
	struct shmeta_segment row;
	struct shmeta__txn *txn;
	const void *head;
	size_t bytes;
	enum shmeta_status status = fail(g, shmeta__txn_read(g->s->store, &txn, &g->p->err));

	*ret_to = SYNC_LAST_OFFSET;
	*ret_rows = 0;
	if (status != SHMETA_OK)
		return status;
	const struct shmeta__pages pages = shmeta__txn_pages(txn);

	status = shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, &g->p->err);
	if (status == SHMETA_OK) {
		status = shmeta__part_open(&part, key, head, bytes, &pages);
		if (status == SHMETA_OK)
			status = shmeta__part_seek(&part, from, SYNC_LAST_OFFSET, &cursor);
		while (status == SHMETA_OK && (status = shmeta__part_next(&part, &cursor, &row)) == SHMETA_OK) {
			if (row.base_offset < from)
				continue; /* one that only reaches into the page */
			if (*ret_rows == PAGE_ROWS) {
				*ret_to = row.base_offset - 1;
				break;
			}
			(*ret_rows)++;
		}
		shmeta__part_close(&part);
		if (status < 0)
			(void)shmeta_fail(&g->p->err, status,
			                  "the stored index of partition %u of topic number %u is damaged",
			                  partition_id, topic_id);
	}
	shmeta__txn_abort(txn);
	return fail(g, status < 0 ? status : SHMETA_OK);
}

static enum pass_end read_partition(struct pages *g, uint32_t topic_id, uint32_t partition_id)
{
	const struct identity id = queue_identity(ENTRY_PART, g->tenant, g->topic, partition_id);
	uint64_t from = 0, to, rows;

	do {
		struct want want = {.whole = false};

		if (find_page(g, topic_id, partition_id, from, &to, &rows) != SHMETA_OK)
			return g->ended;
		want.whole = from == 0 && to == SYNC_LAST_OFFSET;
		if (!want.whole)
			queue_add_range(&want, from, to);
		(void)ask(g, &id, want, rows);
		/* Pages of one partition would become one range in the queue. */
		(void)read_portion(g, to != SYNC_LAST_OFFSET);
		from = to + 1;
	} while (g->ended == PASS_DONE && to != SYNC_LAST_OFFSET);
	return g->ended;
}

/* The topic behind *id, and its partitions. ABSENT: there is none below `end`. */
static enum shmeta_status next_topic(struct pages *g, uint32_t *id, uint64_t end)
{
	struct shmeta__cursor *cursor;
	struct shmeta__txn *txn;
	struct shmeta_topic stored;
	const void *key, *value;
	size_t key_bytes, bytes;
	uint64_t number = (uint64_t)*id + 1;
	struct shmeta_err *err = &g->p->err;
	enum shmeta_status status = fail(g, shmeta__txn_read(g->s->store, &txn, err));

	if (status != SHMETA_OK)
		return status;
	status = shmeta__cursor_open(txn, SHMETA_DB_TOPICS, &number, sizeof number, &cursor, err);
	if (status == SHMETA_OK) {
		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status == SHMETA_OK)
			memcpy(&number, key, sizeof number);
		shmeta__cursor_close(cursor);
	}
	if (status == SHMETA_END || (status == SHMETA_OK && number >= end))
		status = SHMETA_ABSENT;
	if (status == SHMETA_OK)
		status = apply_topic_name(txn, (uint32_t)number, &g->tenant, &g->topic, err);
	if (status == SHMETA_OK)
		status = apply_topic_get(txn, g->tenant, g->topic, &stored, NULL, err);
	if (status == SHMETA_OK)
		status = apply_partition_ids(txn, (uint32_t)number, &g->ids, &g->id_count, &g->id_capacity, err);
	if (status == SHMETA_OK) {
		*id = (uint32_t)number;
		g->should = stored.partition_count;
		memcpy(g->tenant_text, g->tenant.data, g->tenant.bytes);
		memcpy(g->topic_text, g->topic.data, g->topic.bytes);
		g->tenant.data = g->tenant_text;
		g->topic.data = g->topic_text;
	}
	shmeta__txn_abort(txn);
	return fail(g, status);
}

/* Those that the topic should have, and those that the store has beyond that; in bounded mode those
 * that the store has. */
static void read_partitions(struct pages *g, uint32_t topic_id)
{
	uint32_t should = g->s->bounded != NULL ? 0 : g->should;
	size_t beyond = 0;

	while (beyond < g->id_count && g->ids[beyond] < should)
		beyond++;
	for (uint32_t i = 0; i < should && g->ended == PASS_DONE; i++)
		(void)read_partition(g, topic_id, i);
	for (; beyond < g->id_count && g->ended == PASS_DONE; beyond++)
		(void)read_partition(g, topic_id, g->ids[beyond]);
}

/* Of all topics with a number below `end`: their rows, or their partitions. A row that is read
 * first says which partitions there are, and takes those along of a topic that is gone. */
static enum pass_end read_topics(struct pages *g, uint64_t end, bool rows)
{
	uint32_t id = 0;

	while (g->ended == PASS_DONE && next_topic(g, &id, end) == SHMETA_OK) {
		const struct identity topic = queue_identity(ENTRY_TOPIC, g->tenant, g->topic, 0);

		if (rows)
			(void)ask(g, &topic, (struct want){.row_only = true}, 1);
		else
			read_partitions(g, id);
		(void)read_portion(g, false);
	}
	return read_portion(g, true);
}

/* ---- all of it ---- */

/* In bounded mode what is read are the records that are resident: no partition is known not to
 * exist, and no key to be absent. */
static enum pass_end doubt_absences(struct pass *p)
{
	struct apply *a = &p->s->apply;
	struct apply_host host = sync_apply_host(p->s);
	uint64_t txn;
	enum shmeta_status status = apply_begin(a, p->s->store, &host, sync_oldest_pin(p->s), false, &p->err);

	if (status == SHMETA_OK) {
		apply_lacks(a, BOUNDED_PARTITIONS);
		status = bounded_forget_absences(p->s, a, &p->err);
	}
	if (status == SHMETA_OK)
		status = apply_commit(a, &txn, &p->err);
	if (status == SHMETA_OK)
		return PASS_DONE;
	apply_abort(a);
	return pass_store_failed(p, status);
}

enum pass_end pages_all(struct pass *p, void *second)
{
	struct pages g = {.p = p, .s = p->s, .second = second != NULL, .ended = PASS_DONE};
	uint64_t end_id, unknown = UINT64_MAX;
	enum pass_end end;

	do {
		bool first = unknown == UINT64_MAX;

		unknown = first ? UINT64_MAX - 1 : g.unknown;
		end = list(&g, second != NULL ? second : p->s->backend);
		if (end == PASS_DONE && first)
			end = pass_judge(p, g.listed, p->known.segments);
		if (end == PASS_DONE && first && p->s->bounded != NULL)
			end = doubt_absences(p);
		end_id = shmeta__store_counters(p->s->store)->next_topic_id;
		differences_found(&p->found, p->s, p->s->apply_clock.sequence);
		if (end == PASS_DONE)
			end = pass_bring_over(p);
		if (end == PASS_DONE && p->found.more && g.unknown >= unknown)
			end = PASS_POSTPONED; /* reading them has not made them known */
	} while (end == PASS_DONE && p->found.more);
	if (end == PASS_DONE) {
		for (int cls = SHMETA_CLASS_TOPIC + 1; cls < QUARANTINE_CLASSES; cls++)
			g.unlisted[cls] = p->unlisted_before[cls];
		p->unnamed_differ = true; /* nobody has compared them */
		end = pass_put_unnamed(p, SHMETA_CLASS_TOPIC, g.unlisted);
	}
	/* Where the names cannot be listed, what is known is read all the same. */
	if (end == PASS_DONE || (end == PASS_SOURCE && p->source_status == SHMETA_ERR_INVALID_ARGUMENT)) {
		if (read_topics(&g, end_id, true) == PASS_DONE && !p->rows_only)
			(void)read_topics(&g, end_id, false);
		end = g.ended == PASS_DONE ? end : g.ended;
	}
	free(g.ids);
	return end;
}
