/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: watermarks and epochs that came with segments, and what a batch writes to the
 * change log. */
#include "backends/replace.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"
#include "base/hash.h"

enum { NAMED_MOST = 64 };

/* ---- watermarks and epochs that came with segments ---- */

static void flush_epoch(struct writing *w, struct place *p)
{
	if (p->led)
		sqlite_write_record_epoch(w, p->tenant, p->topic, p->partition_id, p->epoch, p->led_from, true);
	p->led = false;
}

static void not_raised(struct writing *w, const struct place *p)
{
	if (sqlite_write_exists(w, ST_W_WATERMARK_ODD, p->tenant, p->topic, p->partition_id))
		sqlite_write_not_done(w, "the partition's high_watermark is no integer, so nothing is above it: set it "
		                         "first (update_high_watermark)");
	else
		sqlite_write_unchanged(w);
}

void sqlite_write_flush_watermarks(struct writing *w)
{
	sqlite3_stmt *q = NULL;

	for (size_t i = 0; w->marks > 0 && w->failed == SQLITE_OK && i < w->place_count; i++) {
		struct place *p = &w->places[i];

		flush_epoch(w, p);
		if (!p->marked || (q == NULL && (q = sqlite_write_take(w, ST_W_WATERMARK_MAX)) == NULL))
			continue;
		bind_str(q, 1, p->tenant);
		bind_str(q, 2, p->topic);
		bind_int(q, 3, p->partition_id);
		bind_int(q, 4, p->value);
		bind_int(q, 5, w->now_ms);
		if (sqlite_write_run(w, q) == SQLITE_DONE && sqlite3_changes(w->state->db) == 0)
			not_raised(w, p);
		p->marked = false;
	}
	w->marks = 0;
}

/* ---- the change log ---- */

/* place NULL: the class as a whole. name: of an agent or a group, or empty. */
static void log_key(struct writing *w, enum shmeta_class cls, enum feed_op op, const struct place *place, int64_t base,
                    struct shmeta_str name)
{
	sqlite3_stmt *q = w->logs ? sqlite_write_take(w, ST_W_LOG) : NULL;
	int64_t token;

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
	sqlite3_randomness(sizeof token, &token);
	bind_int(q, 8, token);
	if (sqlite_write_run(w, q) != SQLITE_DONE)
		return;
	w->log_token = token;
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
	sqlite_write_flush_watermarks(w);
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

	if (w->place_count == WRITING_PLACES)
		flush_places(w);
	/* Names that differ only inside share a chain; batches of very many topics are rare. */
	for (size_t i = 0; i < op->op->name.bytes; i += 1 + op->op->name.bytes / 8)
		hash = hash_byte(hash, (uint8_t)op->op->name.data[i]);
	for (at = (hash >> 20) % WRITING_SLOTS; w->slot[at] != 0; at = (at + 1) % WRITING_SLOTS) {
		p = &w->places[w->slot[at] - 1];
		if (p->partition_id == op->op->partition_id && str_equal(p->topic, op->op->name) &&
		    str_equal(p->tenant, op->tenant))
			return p;
	}
	p = &w->places[w->place_count++];
	w->slot[at] = (uint16_t)w->place_count;
	*p = (struct place){.tenant = op->tenant, .topic = op->op->name, .partition_id = op->op->partition_id};
	return p;
}

void sqlite_write_gather_watermark(struct writing *w, const struct backend_op *op, int64_t value)
{
	struct place *p = place_of(w, op);

	p->value = p->marked && p->value > value ? p->value : value;
	w->marks += !p->marked && !p->led;
	p->marked = true;
}

void sqlite_write_gather_epoch(struct writing *w, const struct backend_op *op)
{
	const uint64_t base = op->op->u.segment.base_offset;
	struct place *p = place_of(w, op);

	/* One epoch of a place is current at a time, and nothing but an operation that flushes
	 * changes which. */
	w->marks += !p->marked && !p->led;
	p->led_from = p->led && p->led_from < base ? p->led_from : base;
	p->epoch = op->op->fence.epoch;
	p->led = true;
}

/* What the triggers would have written about an operation that succeeded. */
void sqlite_write_note_change(struct writing *w, const struct backend_op *op, const struct shmeta_result *r)
{
	const struct backend_sink log = {.arg = w, .changed = log_named};
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
	case SHMETA_OP_REPLACE_SEGMENTS:
		log_change(w, SHMETA_CLASS_SEGMENT, FEED_DELETE, &topic,
		           (int64_t)op->op->u.replace.old_segments[0].base_offset);
		log_change(w, SHMETA_CLASS_SEGMENT, FEED_DELETE, &topic, (int64_t)replace_end(&op->op->u.replace));
		break;
	case SHMETA_OP_ENSURE_GROUP:
	case SHMETA_OP_COMMIT_OFFSET:
	case SHMETA_OP_DELETE_GROUP:
	case SHMETA_OP_DEREGISTER_AGENT:
	case SHMETA_OP_REGISTER_AGENT:
	case SHMETA_OP_ACQUIRE_LEASE:
	case SHMETA_OP_RELEASE_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
		(void)backend_tell(op, &log);
		break;
	case SHMETA_OP_RENEW_AGENT:
		(void)backend_tell(op, &log);
		(void)renewed_show(&w->renewed, r->count, &log);
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

void sqlite_write_flush_log(struct writing *w)
{
	flush_places(w);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if ((w->classes & 1u << cls) != 0)
			log_change(w, (enum shmeta_class)cls, FEED_UPDATE, NULL, 0);
}
