/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: operations.
 *
 * One transaction for all of them. SQLite takes a failed statement back by itself, so an operation of one statement needs nothing
 * more; one of several runs in a savepoint. Watermarks that come with segments are gathered by partition and written once, before
 * anything else looks at the partition and at the end.
 *
 * No trigger runs for what we write, unless the file has triggers of others (sqlite.h): a trigger costs each row a program of its
 * own. What ours would write to the change log, for other daemons on the file and for this one's successor, is written once for each
 * place and batch, and what they would do about slices is done by statements. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/feed.h"
#include "backends/refuse.h"
#include "backends/sqlite/sqlite.h"

enum { PLACES = 1024, PLACE_SLOTS = 2 * PLACES, MANY_OPS = 16, NAMED_MOST = 64 };

/* One apply(). */
struct writing {
	struct sqlite_state *state;
	const struct backend_op *ops;
	struct shmeta_result *results;
	int64_t now_ms;
	struct backend_error *err;
	int failed; /* SQLite's code when the transaction cannot go on */
	bool made_slices;
	int64_t object; /* of the unit being written, -1: none           */
	const struct shmeta_op *object_op;
	/* The object's own first status when it is not OK: its slices get it too. */
	struct shmeta_result object_refused;
	/* Partitions that were written to. */
	struct place {
		struct shmeta_str tenant, topic;
		uint32_t partition_id;
		bool marked; /* value is to become the watermark, if it is higher      */
		bool added;  /* segments with bases from..to                           */
		bool set;    /* the watermark was set                                  */
		int64_t value;
		uint64_t from, to;
	} places[PLACES];
	size_t place_count;
	size_t marks;                /* places that are marked */
	uint16_t slot[PLACE_SLOTS];  /* 1 + index of the place */
	bool logs;                   /* the triggers do not */
	int64_t log_first, log_last; /* of the rows we wrote */
	uint32_t classes;            /* a bit for each class that changed, and is logged as a whole */
	uint32_t named;              /* agents, leases and offsets that were logged by their names */
};

/* ---- statements -------------------------------------------------------------------------------------------------------------- */

static sqlite3_stmt *take(struct writing *w, enum sqlite_statement which)
{
	enum shmeta_status status;
	sqlite3_stmt *statement = sqlite_prepare(w->state, which, NULL, &status);

	if (statement == NULL && w->failed == SQLITE_OK)
		w->failed = sqlite3_errcode(w->state->db);
	return statement;
}

static void bind_str(sqlite3_stmt *statement, int at, struct shmeta_str text)
{
	sqlite3_bind_text(statement, at, text.data != NULL ? text.data : "", (int)text.bytes, SQLITE_STATIC);
}

static void bind_int(sqlite3_stmt *statement, int at, int64_t value)
{
	sqlite3_bind_int64(statement, at, value);
}

/* Step once and reset. SQLITE_DONE, SQLITE_ROW (columns are gone), or an extended code; a code other than a constraint's ends the
 * transaction. */
static int run(struct writing *w, sqlite3_stmt *statement)
{
	int rc;

	w->state->counters.queries++;
	rc = sqlite3_step(statement);
	if (rc != SQLITE_DONE && rc != SQLITE_ROW && (rc & 0xff) != SQLITE_CONSTRAINT)
		w->failed = rc;
	(void)sqlite3_reset(statement);
	return rc;
}

/* A row to look at: true; the caller resets. */
static bool look(struct writing *w, sqlite3_stmt *statement)
{
	int rc;

	w->state->counters.queries++;
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		return true;
	if (rc != SQLITE_DONE)
		w->failed = rc;
	(void)sqlite3_reset(statement);
	return false;
}

static bool exists(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant, struct shmeta_str name,
                   int64_t number)
{
	sqlite3_stmt *q = take(w, which);
	bool found;

	if (q == NULL)
		return false;
	bind_str(q, 1, tenant);
	bind_str(q, 2, name);
	if (number >= 0)
		bind_int(q, 3, number);
	found = look(w, q);
	(void)sqlite3_reset(q);
	return found;
}

static struct shmeta_str column_str(sqlite3_stmt *q, int at)
{
	const char *text = (const char *)sqlite3_column_text(q, at);

	return (struct shmeta_str){text, text != NULL ? (size_t)sqlite3_column_bytes(q, at) : 0};
}

static bool same(struct shmeta_str a, struct shmeta_str b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* ---- watermarks that came with segments ---------------------------------------------------------------------------------------- */

static void flush_watermarks(struct writing *w)
{
	sqlite3_stmt *q = NULL;

	for (size_t i = 0; w->marks > 0 && w->failed == SQLITE_OK && i < w->place_count; i++) {
		struct place *p = &w->places[i];

		if (!p->marked || (q == NULL && (q = take(w, ST_W_WATERMARK_MAX)) == NULL))
			continue;
		bind_str(q, 1, p->tenant);
		bind_str(q, 2, p->topic);
		bind_int(q, 3, p->partition_id);
		bind_int(q, 4, p->value);
		bind_int(q, 5, w->now_ms);
		(void)run(w, q);
		p->marked = false;
	}
	w->marks = 0;
}

/* ---- the change log -------------------------------------------------------------------------------------------------------------- */

/* place NULL: the class as a whole. name: of an agent or a group, or empty. */
static void log_key(struct writing *w, enum shmeta_class cls, enum feed_op op, const struct place *place, int64_t base,
                    struct shmeta_str name)
{
	sqlite3_stmt *q = w->logs ? take(w, ST_W_LOG) : NULL;

	if (q == NULL || w->failed != SQLITE_OK)
		return;
	(void)sqlite3_clear_bindings(q);
	bind_int(q, 1, cls);
	bind_int(q, 2, op);
	if (place != NULL) {
		if (w->state->shape.organization)
			bind_str(q, 3, place->tenant);
		if (place->topic.bytes > 0)
			bind_str(q, 4, place->topic);
		if (place->topic.bytes > 0 && cls != SHMETA_CLASS_TOPIC)
			bind_int(q, 5, place->partition_id);
		if (cls == SHMETA_CLASS_SEGMENT)
			bind_int(q, 6, base);
		if (name.bytes > 0)
			bind_str(q, 7, name);
	}
	if (run(w, q) != SQLITE_DONE)
		return;
	w->log_last = sqlite3_last_insert_rowid(w->state->db);
	if (w->log_first == 0)
		w->log_first = w->log_last;
}

static void log_change(struct writing *w, enum shmeta_class cls, enum feed_op op, const struct place *place,
                       int64_t base)
{
	log_key(w, cls, op, place, base, (struct shmeta_str){NULL, 0});
}

/* An agent, a lease, an offset or a group: by its name, or, of many, the class. */
static enum shmeta_status log_named(void *arg, const struct backend_key *key)
{
	const struct place place = {.tenant = key->tenant, .topic = key->topic, .partition_id = key->partition_id};
	struct writing *w = arg;

	if (backend_key_is_class(key) || w->named == NAMED_MOST) {
		w->classes |= 1u << key->cls;
		return SHMETA_OK;
	}
	w->named++;
	log_key(w, key->cls, FEED_UPDATE, &place, 0, key->name);
	return SHMETA_OK;
}

/* Watermarks, and the log's rows of all places; then there is room for others. */
static void flush_places(struct writing *w)
{
	flush_watermarks(w);
	for (size_t i = 0; w->failed == SQLITE_OK && i < w->place_count; i++) {
		const struct place *p = &w->places[i];

		if (p->set)
			log_change(w, SHMETA_CLASS_PARTITION, FEED_UPDATE, p, 0);
		if (p->added)
			log_change(w, SHMETA_CLASS_SEGMENT, FEED_INSERT, p, (int64_t)p->from);
		if (p->added && p->to != p->from)
			log_change(w, SHMETA_CLASS_SEGMENT, FEED_INSERT, p, (int64_t)p->to);
	}
	if (w->place_count > 0)
		memset(w->slot, 0, sizeof w->slot);
	w->place_count = 0;
}

static struct place *place_of(struct writing *w, const struct backend_op *op)
{
	uint64_t hash = op->op->partition_id * UINT64_C(0x9E3779B97F4A7C15) + op->op->name.bytes;
	struct place *p;
	size_t at;

	if (w->place_count == PLACES)
		flush_places(w);
	/* Names that differ only inside share a chain; batches of very many topics are rare. */
	for (size_t i = 0; i < op->op->name.bytes; i += 1 + op->op->name.bytes / 8)
		hash = (hash ^ (uint8_t)op->op->name.data[i]) * UINT64_C(0x100000001b3);
	for (at = (hash >> 20) % PLACE_SLOTS; w->slot[at] != 0; at = (at + 1) % PLACE_SLOTS) {
		p = &w->places[w->slot[at] - 1];
		if (p->partition_id == op->op->partition_id && same(p->topic, op->op->name) &&
		    same(p->tenant, op->tenant))
			return p;
	}
	p = &w->places[w->place_count++];
	w->slot[at] = (uint16_t)w->place_count;
	*p = (struct place){.tenant = op->tenant, .topic = op->op->name, .partition_id = op->op->partition_id};
	return p;
}

static void gather_watermark(struct writing *w, const struct backend_op *op, int64_t value)
{
	struct place *p = place_of(w, op);

	p->value = p->marked && p->value > value ? p->value : value;
	w->marks += !p->marked;
	p->marked = true;
}

/* What the triggers would have written about an operation that succeeded. */
static void note_change(struct writing *w, const struct backend_op *op, const struct shmeta_result *r)
{
	struct place topic = {.tenant = op->tenant, .topic = op->op->name, .partition_id = op->op->partition_id};
	struct place *p;

	if (!w->logs)
		return;
	switch (op->op->type) {
	case SHMETA_OP_CREATE_TOPIC:
		topic.topic = op->op->u.topic.name;
		log_change(w, SHMETA_CLASS_TOPIC, FEED_INSERT, &topic, 0);
		break;
	case SHMETA_OP_DELETE_TOPIC:
		log_change(w, SHMETA_CLASS_TOPIC, FEED_DELETE, &topic, 0);
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		place_of(w, op)->set = true;
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
	case SHMETA_OP_ADD_SLICE:
		p = place_of(w, op);
		if (!p->added || op->op->u.segment.base_offset < p->from)
			p->from = op->op->u.segment.base_offset;
		if (!p->added || op->op->u.segment.base_offset > p->to)
			p->to = op->op->u.segment.base_offset;
		p->added = true;
		break;
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		if (r->count == 0)
			break;
		log_change(w, SHMETA_CLASS_SEGMENT, FEED_DELETE, &topic, 0);
		log_change(w, SHMETA_CLASS_SEGMENT, FEED_DELETE, &topic, (int64_t)op->op->offset);
		break;
	case SHMETA_OP_ENSURE_GROUP:
	case SHMETA_OP_COMMIT_OFFSET:
	case SHMETA_OP_DELETE_GROUP:
	case SHMETA_OP_DEREGISTER_AGENT:
	case SHMETA_OP_REGISTER_AGENT:
	case SHMETA_OP_ACQUIRE_LEASE:
	case SHMETA_OP_RELEASE_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
		(void)backend_tell(op, &(struct backend_sink){.arg = w, .changed = log_named});
		break;
	case SHMETA_OP_OFFER_LEASE:
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_REJECT_LEASE:
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
	case SHMETA_OP_TYPES:
		break;
	}
}

static void flush_log(struct writing *w)
{
	flush_places(w);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if ((w->classes & 1u << cls) != 0)
			log_change(w, (enum shmeta_class)cls, FEED_UPDATE, NULL, 0);
}

/* ---- common refusals ----------------------------------------------------------------------------------------------------------- */

static void no_place(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	refuse_place(op->op, exists(w, ST_W_TOPIC_EXISTS, op->tenant, op->op->name, -1), r);
}

static bool has_partition(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	if (exists(w, ST_W_PARTITION, op->tenant, op->op->name, op->op->partition_id))
		return true;
	if (w->failed == SQLITE_OK)
		no_place(w, op, r);
	return false;
}

struct lease {
	bool there;
	char leader[SHMETA_NAME_MAX * 4 + 1];
	size_t leader_bytes;
	int64_t expires_ms, acquired_ms, epoch;
};

static void get_lease(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                      struct lease *ret)
{
	sqlite3_stmt *q = take(w, ST_W_LEASE_GET);

	memset(ret, 0, sizeof *ret);
	if (q == NULL)
		return;
	bind_str(q, 1, tenant);
	bind_str(q, 2, topic);
	bind_int(q, 3, partition);
	if (look(w, q)) {
		struct shmeta_str leader = column_str(q, 0);

		ret->there = true;
		ret->leader_bytes = leader.bytes < sizeof ret->leader ? leader.bytes : sizeof ret->leader - 1;
		memcpy(ret->leader, leader.data, ret->leader_bytes);
		ret->expires_ms = sqlite3_column_int64(q, 1);
		ret->acquired_ms = sqlite3_column_int64(q, 2);
		ret->epoch = sqlite3_column_int64(q, 3);
	}
	(void)sqlite3_reset(q);
}

static bool held_by(const struct lease *lease, struct shmeta_str agent, int64_t now_ms)
{
	return lease->there && lease->expires_ms > now_ms &&
	       same((struct shmeta_str){lease->leader, lease->leader_bytes}, agent);
}

/* C7: a fence must be the current holder's, with the current epoch. At a place that is not there the place is what is wrong. */
static bool passes_fence(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_fence *fence = &op->op->fence;
	struct lease lease;

	if (fence->agent_id.bytes == 0)
		return true;
	get_lease(w, op->tenant, op->op->name, op->op->partition_id, &lease);
	if (w->failed != SQLITE_OK)
		return false;
	if (held_by(&lease, fence->agent_id, w->now_ms) && (uint64_t)lease.epoch == fence->epoch)
		return true;
	if (has_partition(w, op, r))
		refuse_fence(op->op, r);
	return false;
}

/* ---- topics ----------------------------------------------------------------------------------------------------------------------- */

/* A slice whose segment is gone holds its object no longer. */
static void drop_slices(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                        struct shmeta_str topic, uint32_t partition, uint64_t before)
{
	sqlite3_stmt *q = w->state->shape.feed && !w->state->shape.triggers ? take(w, which) : NULL;

	if (q == NULL || w->failed != SQLITE_OK)
		return;
	bind_str(q, 1, tenant);
	bind_str(q, 2, topic);
	bind_int(q, 3, partition);
	bind_int(q, 4, (int64_t)before);
	(void)run(w, q);
}

/* The later StreamHouse shape has lost the cascades to segments, offsets and leases: done here, for no row of a topic that is gone may
 * show under another one of its name (C2). */
static void clear_topic(struct writing *w, struct shmeta_str tenant, struct shmeta_str name)
{
	static const enum sqlite_statement rows[] = {ST_W_TOPIC_SEGMENTS, ST_W_TOPIC_OFFSETS, ST_W_TOPIC_LEASES};

	for (size_t i = 0; w->state->shape.organization && w->failed == SQLITE_OK && i < sizeof rows / sizeof *rows;
	     i++) {
		sqlite3_stmt *q = take(w, rows[i]);

		if (q == NULL)
			return;
		bind_str(q, 1, tenant);
		bind_str(q, 2, name);
		(void)run(w, q);
	}
	drop_slices(w, ST_W_SLICES_TOPIC, tenant, name, 0, 0);
}

static void create_topic(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_topic *topic = &op->op->u.topic;
	sqlite3_stmt *q = take(w, ST_W_TOPIC_INSERT), *p = take(w, ST_W_PARTITIONS);
	char *config = rows_json(&topic->config), name[ROWS_QUOTE_MAX];
	int rc;

	if (config == NULL)
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
	if (config == NULL || q == NULL || p == NULL) {
		free(config);
		return;
	}
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, topic->name);
	bind_int(q, 3, topic->partition_count);
	if (topic->has_retention)
		bind_int(q, 4, topic->retention_ms);
	else
		sqlite3_bind_null(q, 4);
	bind_int(q, 5, w->now_ms);
	sqlite3_bind_text(q, 6, config, -1, SQLITE_TRANSIENT);
	if (w->state->shape.cleanup_policy) {
		if (topic->cleanup_policy.bytes > 0)
			bind_str(q, 7, topic->cleanup_policy);
		else
			sqlite3_bind_null(q, 7);
	}
	free(config);
	rc = run(w, q);
	if (rc == SQLITE_DONE) {
		clear_topic(w, op->tenant, topic->name);
		bind_str(p, 1, op->tenant);
		bind_str(p, 2, topic->name);
		bind_int(p, 3, topic->partition_count);
		bind_int(p, 5, w->now_ms);
		rc = run(w, p);
	}
	if (rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_UNIQUE)
		refuse_topic_exists(op->op, r);
	else if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
		refuse_tenant(op, r);
	else if (rc != SQLITE_DONE)
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "topic %s: refused by the source (%d)",
		       rows_quote(name, topic->name), rc);
}

static void delete_topic(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = take(w, ST_W_TOPIC_DELETE);

	if (q == NULL)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	if (run(w, q) != SQLITE_DONE)
		return;
	if (sqlite3_changes(w->state->db) == 0)
		refuse_place(op->op, false, r);
	else
		clear_topic(w, op->tenant, op->op->name);
}

/* ---- partitions and segments ------------------------------------------------------------------------------------------------------- */

static void update_high_watermark(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = take(w, ST_W_WATERMARK);

	if (q == NULL || !passes_fence(w, op, r))
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_int(q, 4, (int64_t)op->op->offset);
	bind_int(q, 5, w->now_ms);
	if (run(w, q) == SQLITE_DONE && sqlite3_changes(w->state->db) == 0)
		no_place(w, op, r);
}

/* What stands where the segment should go: fill r. false: nothing does. */
static bool segment_there(struct writing *w, const struct backend_op *op, const struct shmeta_segment *s,
                          struct shmeta_result *r)
{
	sqlite3_stmt *q = take(w, ST_W_SEGMENT_AT);
	struct shmeta_segment *e = &r->existing;
	bool identical;

	if (q == NULL)
		return false;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_int(q, 4, (int64_t)s->base_offset);
	if (!look(w, q))
		return false;
	e->partition_id = op->op->partition_id;
	e->base_offset = s->base_offset;
	e->end_offset = (uint64_t)sqlite3_column_int64(q, 1);
	e->record_count = (uint32_t)sqlite3_column_int64(q, 2);
	e->size_bytes = (uint64_t)sqlite3_column_int64(q, 3);
	e->created_at_ms = sqlite3_column_int64(q, 6);
	e->min_timestamp_ms = sqlite3_column_int64(q, 7);
	e->max_timestamp_ms = sqlite3_column_int64(q, 8);
	identical = same(column_str(q, 0), s->id) && same(column_str(q, 4), s->s3_bucket) &&
	            same(column_str(q, 5), s->s3_key) && e->end_offset == s->end_offset &&
	            e->record_count == s->record_count && e->size_bytes == s->size_bytes &&
	            e->created_at_ms == s->created_at_ms &&
	            (!w->state->shape.timestamps ||
	             (e->min_timestamp_ms == s->min_timestamp_ms && e->max_timestamp_ms == s->max_timestamp_ms));
	(void)sqlite3_reset(q);
	refuse_segment(op->op, identical, r);
	return true;
}

static void add_segment(struct writing *w, const struct backend_op *op, const struct shmeta_segment *s,
                        struct shmeta_result *r)
{
	sqlite3_stmt *q = take(w, ST_W_SEGMENT_INSERT);
	char name[ROWS_QUOTE_MAX];
	int rc;

	if (q == NULL || !passes_fence(w, op, r))
		return;
	/* The later StreamHouse shape has lost the constraints that say this. */
	if (w->state->shape.organization && (!has_partition(w, op, r) || segment_there(w, op, s, r)))
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_str(q, 4, s->id);
	bind_int(q, 5, (int64_t)s->base_offset);
	bind_int(q, 6, (int64_t)s->end_offset);
	bind_int(q, 7, s->record_count);
	bind_int(q, 8, (int64_t)s->size_bytes);
	bind_str(q, 9, s->s3_bucket);
	bind_str(q, 10, s->s3_key);
	bind_int(q, 11, s->created_at_ms);
	if (w->state->shape.timestamps) {
		bind_int(q, 12, s->min_timestamp_ms);
		bind_int(q, 13, s->max_timestamp_ms);
	}
	rc = run(w, q);
	if (rc == SQLITE_DONE || w->failed != SQLITE_OK)
		return;
	if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
		no_place(w, op, r);
	else if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY) {
		if (!segment_there(w, op, s, r) && w->failed == SQLITE_OK && has_partition(w, op, r))
			refuse_segment_id(op->op, r);
	} else
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "%s/%u: the segment at %llu is refused by the source (%d)",
		       rows_quote(name, op->op->name), op->op->partition_id, (unsigned long long)s->base_offset, rc);
}

static void delete_before(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = take(w, ST_W_SEGMENTS_BEFORE);

	if (q == NULL)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_int(q, 4, (int64_t)op->op->offset);
	if (run(w, q) == SQLITE_DONE)
		r->count = (uint64_t)sqlite3_changes(w->state->db);
	if (r->count > 0)
		drop_slices(w, ST_W_SLICES_BEFORE, op->tenant, op->op->name, op->op->partition_id, op->op->offset);
}

/* ---- groups and agents -------------------------------------------------------------------------------------------------------------- */

static void ensure_group(struct writing *w, const struct backend_op *op, struct shmeta_str group,
                         struct shmeta_result *r)
{
	sqlite3_stmt *q = take(w, ST_W_GROUP_ENSURE);
	int rc;

	if (q == NULL)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, group);
	bind_int(q, 3, w->now_ms);
	rc = run(w, q);
	if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
		refuse_tenant(op, r);
	else if (rc != SQLITE_DONE && w->failed == SQLITE_OK)
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "the group is refused by the source (%d)", rc);
}

static void commit_offset(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_committed_offset *c = &op->op->u.committed;
	sqlite3_stmt *q = take(w, ST_W_OFFSET_PUT);
	int rc;

	/* Our answer to an unknown place leaves no group row behind. */
	if (q == NULL || !has_partition(w, op, r))
		return;
	ensure_group(w, op, c->group_id, r);
	if (w->failed != SQLITE_OK || r->status != SHMETA_OK)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_str(q, 4, c->group_id);
	bind_int(q, 5, (int64_t)c->committed_offset);
	if (c->has_metadata)
		bind_str(q, 6, c->metadata);
	else
		sqlite3_bind_null(q, 6);
	bind_int(q, 7, w->now_ms);
	rc = run(w, q);
	if (rc != SQLITE_DONE && w->failed == SQLITE_OK)
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "the offset is refused by the source (%d)", rc);
}

/* Idempotent deletes by name. */
static void delete_by(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant, struct shmeta_str name)
{
	sqlite3_stmt *q = take(w, which);

	if (q == NULL)
		return;
	bind_str(q, 1, tenant);
	bind_str(q, 2, name);
	(void)run(w, q);
}

static void register_agent(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_agent *a = &op->op->u.agent;
	sqlite3_stmt *q = take(w, ST_W_AGENT_PUT);
	char *metadata = rows_json(&a->metadata);
	int rc;

	if (metadata == NULL)
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
	if (metadata == NULL || q == NULL) {
		free(metadata);
		return;
	}
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, a->agent_id);
	bind_str(q, 3, a->address);
	bind_str(q, 4, a->availability_zone);
	bind_str(q, 5, a->agent_group);
	bind_int(q, 6, a->last_heartbeat_ms);
	bind_int(q, 7, a->started_at_ms);
	sqlite3_bind_text(q, 8, metadata, -1, SQLITE_TRANSIENT);
	free(metadata);
	rc = run(w, q);
	if (rc == SQLITE_CONSTRAINT_UNIQUE)
		refuse_address(a, r);
	else if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
		refuse_tenant(op, r);
	else if (rc == SQLITE_DONE && sqlite3_changes(w->state->db) == 0)
		refuse_agent_id(a, r);
	else if (rc != SQLITE_DONE && w->failed == SQLITE_OK)
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "the agent is refused by the source (%d)", rc);
}

/* ---- leases --------------------------------------------------------------------------------------------------------------------------- */

static int64_t epoch_floor(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition)
{
	sqlite3_stmt *q = take(w, ST_W_EPOCH_GET);
	int64_t epoch = 0;

	if (q == NULL)
		return 0;
	bind_str(q, 1, tenant);
	bind_str(q, 2, topic);
	bind_int(q, 3, partition);
	if (look(w, q))
		epoch = sqlite3_column_int64(q, 0);
	(void)sqlite3_reset(q);
	return epoch;
}

static int64_t later(int64_t now_ms, int64_t duration_ms)
{
	return duration_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + duration_ms;
}

/* The lease goes to the agent with an epoch beyond every former one. */
static void give_lease(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                       struct shmeta_str agent, int64_t duration_ms, const struct lease *former,
                       struct shmeta_result *r)
{
	sqlite3_stmt *put = take(w, ST_W_LEASE_PUT), *note = take(w, ST_W_EPOCH_PUT);
	int64_t floor = epoch_floor(w, tenant, topic, partition), epoch;

	if (put == NULL || note == NULL || w->failed != SQLITE_OK)
		return;
	epoch = (former->there && former->epoch > floor ? former->epoch : floor) + 1;
	bind_str(put, 1, tenant);
	bind_str(put, 2, topic);
	bind_int(put, 3, partition);
	bind_str(put, 4, agent);
	bind_int(put, 5, later(w->now_ms, duration_ms));
	bind_int(put, 6, w->now_ms);
	bind_int(put, 7, epoch);
	if (run(w, put) != SQLITE_DONE) {
		if (w->failed == SQLITE_OK)
			refuse(r, SHMETA_ERR_NOT_FOUND, "the lease is refused by the source");
		return;
	}
	bind_str(note, 1, tenant);
	bind_str(note, 2, topic);
	bind_int(note, 3, partition);
	bind_int(note, 4, epoch);
	(void)run(w, note);
	r->lease.partition_id = partition;
	r->lease.epoch = (uint64_t)epoch;
	r->lease.acquired_at_ms = w->now_ms;
	r->lease.lease_expires_at_ms = later(w->now_ms, duration_ms);
}

static bool has_agent(struct writing *w, struct shmeta_str tenant, struct shmeta_str agent, struct shmeta_result *r)
{
	if (exists(w, ST_W_AGENT_EXISTS, tenant, agent, -1))
		return true;
	if (w->failed == SQLITE_OK)
		refuse_agent(agent, r);
	return false;
}

static void acquire_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct lease lease;

	if (!has_partition(w, op, r) || !has_agent(w, op->tenant, op->op->agent_id, r))
		return;
	get_lease(w, op->tenant, op->op->name, op->op->partition_id, &lease);
	if (w->failed != SQLITE_OK)
		return;
	if (lease.there && lease.expires_ms > w->now_ms && !held_by(&lease, op->op->agent_id, w->now_ms)) {
		refuse_leased(op->op, lease.expires_ms - w->now_ms, r);
		return;
	}
	give_lease(w, op->tenant, op->op->name, op->op->partition_id, op->op->agent_id, op->op->duration_ms, &lease, r);
}

static void release_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = take(w, ST_W_LEASE_DELETE);
	struct lease lease;

	get_lease(w, op->tenant, op->op->name, op->op->partition_id, &lease);
	if (q == NULL || w->failed != SQLITE_OK)
		return;
	if (!lease.there || !same((struct shmeta_str){lease.leader, lease.leader_bytes}, op->op->agent_id)) {
		refuse_release(op->op, r);
		return;
	}
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	(void)run(w, q);
}

static bool has_transfers(struct writing *w, struct shmeta_result *r)
{
	if (w->state->shape.feed)
		return true;
	refuse_unsupported(r);
	return false;
}

static void offer_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *pending = take(w, ST_W_OFFER_PENDING), *put = take(w, ST_W_OFFER_PUT);
	struct lease lease;
	bool open;

	if (pending == NULL || put == NULL || !has_transfers(w, r) || !has_partition(w, op, r) ||
	    !has_agent(w, op->tenant, op->op->to_agent_id, r))
		return;
	get_lease(w, op->tenant, op->op->name, op->op->partition_id, &lease);
	if (w->failed != SQLITE_OK)
		return;
	if (!held_by(&lease, op->op->agent_id, w->now_ms)) {
		refuse_offer(op->op, false, r);
		return;
	}
	bind_str(pending, 1, op->tenant);
	bind_str(pending, 2, op->op->name);
	bind_int(pending, 3, op->op->partition_id);
	bind_int(pending, 4, w->now_ms);
	open = look(w, pending);
	(void)sqlite3_reset(pending);
	if (open) {
		refuse_offer(op->op, true, r);
		return;
	}
	bind_str(put, 1, op->tenant);
	bind_str(put, 2, op->op->name);
	bind_int(put, 3, op->op->partition_id);
	bind_str(put, 4, op->op->agent_id);
	bind_str(put, 5, op->op->to_agent_id);
	bind_int(put, 6, w->now_ms);
	bind_int(put, 7, later(w->now_ms, op->op->duration_ms));
	if (run(w, put) == SQLITE_DONE)
		r->transfer_id = (uint64_t)sqlite3_last_insert_rowid(w->state->db);
}

/* Accept, complete, reject: each from one state to another, by one of the two parties. */
static void answer_offer(struct writing *w, const struct backend_op *op, const char *from, const char *to,
                         bool by_holder, struct shmeta_result *r)
{
	sqlite3_stmt *get = take(w, ST_W_OFFER_GET), *put = take(w, ST_W_OFFER_STATE);
	struct lease lease = {.there = false};
	char *topic = NULL, *holder = NULL, *other = NULL, state[16] = "";
	struct transfer_state transfer = {.found = false};
	int64_t partition = 0;
	bool copied;

	if (get == NULL || put == NULL || !has_transfers(w, r))
		return;
	bind_str(get, 1, op->tenant);
	bind_int(get, 2, (int64_t)op->op->transfer_id);
	transfer.found = look(w, get);
	if (transfer.found) {
		topic = sqlite3_mprintf("%s", sqlite3_column_text(get, 0));
		partition = sqlite3_column_int64(get, 1);
		holder = sqlite3_mprintf("%s", sqlite3_column_text(get, 2));
		other = sqlite3_mprintf("%s", sqlite3_column_text(get, 3));
		(void)snprintf(state, sizeof state, "%s", sqlite3_column_text(get, 4));
		transfer.in_time = sqlite3_column_int64(get, 5) > w->now_ms;
	}
	(void)sqlite3_reset(get);
	copied = topic != NULL && holder != NULL && other != NULL;
	if (transfer.found && !copied)
		w->failed = SQLITE_NOMEM;
	if (copied) {
		transfer.addressed = same(rows_str(by_holder ? holder : other), op->op->agent_id);
		transfer.expected = strcmp(state, from) == 0;
		transfer.state = rows_str(state);
		if (by_holder)
			get_lease(w, op->tenant, rows_str(topic), (uint32_t)partition, &lease);
		transfer.held = by_holder && held_by(&lease, op->op->agent_id, w->now_ms);
	}
	if (w->failed == SQLITE_OK && !refuse_transfer(op->op, &transfer, r) && copied) {
		if (by_holder)
			give_lease(w, op->tenant, rows_str(topic), (uint32_t)partition, rows_str(other),
			           op->op->duration_ms, &lease, r);
		if (w->failed == SQLITE_OK && r->status == SHMETA_OK) {
			bind_int(put, 2, (int64_t)op->op->transfer_id);
			bind_str(put, 3, rows_str(to));
			(void)run(w, put);
		}
	}
	sqlite3_free(topic);
	sqlite3_free(holder);
	sqlite3_free(other);
}

/* ---- objects ---------------------------------------------------------------------------------------------------------------------------- */

/* The object's row: its id, size and slices. -1: there is none. */
static int64_t find_object(struct writing *w, struct shmeta_str tenant, const struct shmeta_object *object,
                           int64_t *ret_size, int64_t *ret_slices)
{
	sqlite3_stmt *q = take(w, ST_W_OBJECT_GET);
	int64_t id = -1;

	if (q == NULL)
		return -1;
	bind_str(q, 1, tenant);
	bind_str(q, 2, object->s3_bucket);
	bind_str(q, 3, object->s3_key);
	if (look(w, q)) {
		id = sqlite3_column_int64(q, 0);
		*ret_size = sqlite3_column_int64(q, 1);
		*ret_slices = sqlite3_column_int64(q, 2);
	}
	(void)sqlite3_reset(q);
	return id;
}

static void commit_object(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_object *object = &op->op->u.object;
	sqlite3_stmt *put = take(w, ST_W_OBJECT_PUT);
	int64_t size = 0, slices = 0;
	int rc;

	w->object = -1;
	w->object_op = op->op;
	memset(&w->object_refused, 0, sizeof w->object_refused);
	if (put != NULL && has_transfers(w, r)) {
		w->object = find_object(w, op->tenant, object, &size, &slices);
		if (w->failed != SQLITE_OK)
			return;
		/* A retry: its slices say for themselves whether they are there. */
		if (w->object >= 0 && size == (int64_t)object->size_bytes) {
			sqlite3_stmt *keep = take(w, ST_W_OBJECT_KEEP);

			/* Slices may follow: whoever listed it as deletable must see it without them anew. */
			if (keep != NULL) {
				bind_int(keep, 1, w->object);
				(void)run(w, keep);
			}
			refuse_object(object, (uint64_t)size, (uint64_t)slices, r);
			return;
		}
		if (w->object >= 0) {
			refuse_object(object, (uint64_t)size, (uint64_t)slices, r);
			w->object = -1;
		} else {
			bind_str(put, 1, op->tenant);
			bind_str(put, 2, object->s3_bucket);
			bind_str(put, 3, object->s3_key);
			bind_int(put, 4, (int64_t)object->size_bytes);
			bind_int(put, 5, object->created_at_ms);
			rc = run(w, put);
			if (rc == SQLITE_DONE)
				w->object = sqlite3_last_insert_rowid(w->state->db);
			else if (w->failed == SQLITE_OK)
				refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "the object is refused by the source (%d)", rc);
		}
	}
	if (r->status != SHMETA_OK)
		w->object_refused = *r;
}

static void add_slice(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct shmeta_segment slice = op->op->u.segment;
	sqlite3_stmt *put = take(w, ST_W_SLICE_PUT);

	if (w->object_op != NULL && w->object < 0) {
		*r = w->object_refused;
		return;
	}
	if (refuse_slice(w->object_op != NULL ? &w->object_op->u.object.size_bytes : NULL, &slice, r))
		return;
	slice.s3_bucket = w->object_op->u.object.s3_bucket;
	slice.s3_key = w->object_op->u.object.s3_key;
	add_segment(w, op, &slice, r);
	if (put == NULL || r->status != SHMETA_OK || w->failed != SQLITE_OK)
		return;
	bind_str(put, 1, op->tenant);
	bind_str(put, 2, op->op->name);
	bind_int(put, 3, op->op->partition_id);
	bind_int(put, 4, (int64_t)slice.base_offset);
	bind_int(put, 5, w->object);
	bind_int(put, 6, (int64_t)slice.position);
	if (run(w, put) == SQLITE_DONE)
		w->made_slices = true;
	gather_watermark(w, op, (int64_t)slice.end_offset + 1);
}

static void confirm_deleted(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = take(w, ST_W_OBJECT_DELETE);
	int64_t size = 0, slices = 0, id;

	if (q == NULL || !has_transfers(w, r))
		return;
	id = find_object(w, op->tenant, &op->op->u.object, &size, &slices);
	if (id < 0 || w->failed != SQLITE_OK)
		return; /* gone already: confirmed */
	if (slices > 0) {
		refuse_object_used((uint64_t)slices, r);
		return;
	}
	bind_int(q, 2, id);
	(void)run(w, q);
}

/* ---- one operation --------------------------------------------------------------------------------------------------------------------- */

static void one(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	if (!w->state->shape.organization && !same(op->tenant, rows_str(SHMETA_DEFAULT_TENANT))) {
		refuse_tenant(op, r);
		return;
	}
	switch (op->op->type) {
	case SHMETA_OP_CREATE_TOPIC:
		create_topic(w, op, r);
		break;
	case SHMETA_OP_DELETE_TOPIC:
		delete_topic(w, op, r);
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		update_high_watermark(w, op, r);
		break;
	case SHMETA_OP_ADD_SEGMENT:
		add_segment(w, op, &op->op->u.segment, r);
		break;
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		add_segment(w, op, &op->op->u.segment, r);
		if (r->status == SHMETA_OK && w->failed == SQLITE_OK)
			gather_watermark(w, op, (int64_t)op->op->u.segment.end_offset + 1);
		break;
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		delete_before(w, op, r);
		break;
	case SHMETA_OP_ENSURE_GROUP:
		ensure_group(w, op, op->op->group_id, r);
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		commit_offset(w, op, r);
		break;
	case SHMETA_OP_DELETE_GROUP:
		delete_by(w, ST_W_GROUP_DELETE, op->tenant, op->op->group_id);
		break;
	case SHMETA_OP_REGISTER_AGENT:
		register_agent(w, op, r);
		break;
	case SHMETA_OP_DEREGISTER_AGENT:
		delete_by(w, ST_W_AGENT_DELETE, op->tenant, op->op->agent_id);
		break;
	case SHMETA_OP_ACQUIRE_LEASE:
		acquire_lease(w, op, r);
		break;
	case SHMETA_OP_RELEASE_LEASE:
		release_lease(w, op, r);
		break;
	case SHMETA_OP_OFFER_LEASE:
		offer_lease(w, op, r);
		break;
	case SHMETA_OP_ACCEPT_LEASE:
		answer_offer(w, op, "pending", "accepted", false, r);
		break;
	case SHMETA_OP_COMPLETE_LEASE:
		answer_offer(w, op, "accepted", "completed", true, r);
		break;
	case SHMETA_OP_REJECT_LEASE:
		answer_offer(w, op, "pending", "rejected", false, r);
		break;
	case SHMETA_OP_COMMIT_OBJECT:
		commit_object(w, op, r);
		break;
	case SHMETA_OP_ADD_SLICE:
		add_slice(w, op, r);
		break;
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		confirm_deleted(w, op, r);
		break;
	case SHMETA_OP_TYPES:
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "no such operation");
		break;
	}
	if (op->op->type != SHMETA_OP_COMMIT_OBJECT && op->op->type != SHMETA_OP_ADD_SLICE)
		w->object_op = NULL;
}

/* Operations that write more than one statement, and must be taken back whole. */
static bool needs_savepoint(enum shmeta_op_type type)
{
	return type == SHMETA_OP_CREATE_TOPIC || type == SHMETA_OP_COMMIT_OFFSET || type == SHMETA_OP_ACQUIRE_LEASE ||
	       type == SHMETA_OP_COMPLETE_LEASE || type == SHMETA_OP_ADD_SLICE;
}

static bool only_adds(enum shmeta_op_type type)
{
	return type == SHMETA_OP_ADD_SEGMENT || type == SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK ||
	       type == SHMETA_OP_ADD_SLICE || type == SHMETA_OP_COMMIT_OBJECT;
}

static int simple(struct writing *w, enum sqlite_statement which)
{
	sqlite3_stmt *q = take(w, which);
	int rc = q != NULL ? run(w, q) : SQLITE_ERROR;

	return rc == SQLITE_ROW ? SQLITE_DONE : rc;
}

static void run_all(struct writing *w, size_t count)
{
	for (size_t i = 0; i < count && w->failed == SQLITE_OK; i++) {
		const struct backend_op *op = &w->ops[i];
		struct shmeta_result *r = &w->results[i];
		bool save = needs_savepoint(op->op->type);

		memset(r, 0, sizeof *r);
		r->partition_id = op->op->partition_id;
		if (!only_adds(op->op->type))
			flush_watermarks(w);
		if (save && simple(w, ST_W_SAVE) != SQLITE_DONE)
			return;
		one(w, op, r);
		if (save && w->failed == SQLITE_OK && r->status != SHMETA_OK)
			(void)simple(w, ST_W_UNDO);
		if (save && w->failed == SQLITE_OK)
			(void)simple(w, ST_W_RELEASE);
		if (w->failed == SQLITE_OK && r->status == SHMETA_OK)
			note_change(w, op, r);
	}
	if (w->failed == SQLITE_OK)
		flush_log(w);
}

static bool any_done(const struct writing *w, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (w->results[i].status == SHMETA_OK)
			return true;
	return false;
}

int sqlite_begin_write(struct sqlite_state *state, enum shmeta_status *ret_status, struct backend_error *err)
{
	for (int i = 0; *ret_status == SHMETA_OK && i < 4; i++) {
		int64_t version = 0;
		int rc;

		if (sqlite3_get_autocommit(state->db) == 0)
			sqlite_end(state);
		rc = sqlite_run(state, ST_BEGIN_IMMEDIATE);
		if (rc != SQLITE_OK)
			return rc;
		state->counters.transactions++;
		rc = sqlite_number(state, ST_SCHEMA_VERSION, &version);
		if (rc != SQLITE_OK || version == state->schema_version)
			return rc;
		(void)sqlite_run(state, ST_ROLLBACK);
		*ret_status = sqlite_check_schema(state, err);
	}
	if (*ret_status == SHMETA_OK)
		*ret_status = backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: writing to %s: its schema keeps changing",
		                           state->path);
	return SQLITE_OK;
}

enum shmeta_status sqlite_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err)
{
	struct sqlite_state *state = data;
	enum shmeta_status status = sqlite_ensure(state, err);
	bool many = count >= MANY_OPS;
	int64_t after = 0, last = 0;
	struct writing *w;
	int rc;

	if (status != SHMETA_OK)
		return status;
	if (state->read_only)
		return backend_fail(err, SHMETA_ERR_READ_ONLY, "sqlite: %s may not be written by this process",
		                    state->path);
	if (state->writing == NULL)
		state->writing = calloc(1, sizeof *w);
	w = state->writing;
	if (w == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "sqlite: writing to %s: out of memory", state->path);
	/* The places, which are large, are only counted anew. */
	memset(w, 0, offsetof(struct writing, places));
	memset(w->slot, 0, sizeof w->slot);
	w->place_count = w->marks = 0;
	w->classes = w->named = 0;
	w->log_first = w->log_last = 0;
	w->state = state;
	w->ops = ops;
	w->results = results;
	w->now_ms = now_ms;
	w->err = err;
	w->object = -1;
	sqlite_checkpoint(state, SQLITE_CHECKPOINT_PAGES_MAX); /* nobody has polled for long */
	rc = sqlite_begin_write(state, &status, err);
	if (status != SHMETA_OK)
		return status;
	if (many)
		sqlite_watch_wal(state, false);
	if (rc == SQLITE_OK) {
		w->logs = state->shape.feed && !state->shape.triggers;
		if (state->shape.feed && !w->logs)
			w->failed = sqlite_number(state, ST_W_LOG_END, &after);
		run_all(w, count);
		if (state->shape.feed && !w->logs && w->failed == SQLITE_OK)
			w->failed = sqlite_number(state, ST_W_LOG_END, &last);
		rc = w->failed;
	}
	if (w->log_first > 0) { /* nobody else writes to it before our commit, so they follow each other */
		after = w->log_first - 1;
		last = w->log_last;
	}
	if (rc == SQLITE_OK && any_done(w, count)) {
		rc = sqlite_run(state, ST_COMMIT);
		if (rc == SQLITE_OK)
			sqlite_feed_own(state, after, last);
		state->wrote = true;
	} else if (rc == SQLITE_OK) {
		(void)sqlite_run(state, ST_ROLLBACK); /* every operation was refused: nothing to commit */
	}
	if (rc != SQLITE_OK) {
		/* SQLite's commit is not ambiguous: what it did not say is done is taken back. */
		status = sqlite_fail(state, rc, "writing to", err);
		if (sqlite3_get_autocommit(state->db) == 0)
			(void)sqlite_run(state, ST_ROLLBACK);
	}
	if (many)
		sqlite_watch_wal(state, true);
	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		if (results[i].status == SHMETA_OK)
			status = backend_tell(&ops[i], sink);
	if (w->made_slices && !state->shape.slices && sqlite_rewrite(state) != SQLITE_OK)
		state->objects = 0; /* looked at anew before the next call */
	return status;
}

enum shmeta_status sqlite_list_objects(void *data, const struct backend_object_list *list, backend_object_fn *emit,
                                       void *arg, struct backend_error *err)
{
	struct sqlite_state *state = data;
	enum shmeta_status status = sqlite_ensure(state, err);
	sqlite3_stmt *q;
	int rc;

	if (status != SHMETA_OK)
		return status;
	if (!state->shape.feed)
		return backend_fail(err, SHMETA_ERR_UNSUPPORTED,
		                    "sqlite: %s has none of shmeta's own tables, so it keeps no objects", state->path);
	if (!state->read_only && list->after_bucket.bytes == 0 && list->after_key.bytes == 0) {
		q = sqlite_prepare(state, ST_W_OBJECTS_MARK, err, &status);
		if (q == NULL)
			return status;
		bind_str(q, 1, list->tenant);
		bind_int(q, 2, list->now_ms);
		state->counters.queries++;
		rc = sqlite3_step(q);
		(void)sqlite3_reset(q);
		if (rc != SQLITE_DONE)
			return sqlite_fail(state, rc, "marking the objects of", err);
	}
	q = sqlite_prepare(state, ST_W_OBJECTS, err, &status);
	if (q == NULL)
		return status;
	bind_str(q, 1, list->tenant);
	bind_str(q, 2, list->after_bucket);
	bind_str(q, 3, list->after_key);
	bind_int(q, 4, list->all != 0);
	bind_int(q, 5, list->now_ms - list->grace_ms);
	bind_int(q, 6, list->most > INT64_MAX ? INT64_MAX : (int64_t)list->most);
	state->counters.queries++;
	while (status == SHMETA_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
		const struct shmeta_object_info info = {.object = {.s3_bucket = column_str(q, 0),
		                                                   .s3_key = column_str(q, 1),
		                                                   .size_bytes = (uint64_t)sqlite3_column_int64(q, 2),
		                                                   .created_at_ms = sqlite3_column_int64(q, 3)},
		                                        .slices = (uint64_t)sqlite3_column_int64(q, 4),
		                                        .unreferenced_since_ms = sqlite3_column_int64(q, 5)};

		state->counters.rows++;
		status = emit(arg, &info);
	}
	if (status == SHMETA_OK && rc != SQLITE_DONE)
		status = sqlite_fail(state, rc, "listing the objects of", err);
	(void)sqlite3_reset(q);
	return status;
}
