/* SPDX-License-Identifier: Apache-2.0
 * The store's rows into the snapshot file.
 *
 * It is written on the engine's thread, which gives way every millisecond and after that many
 * segments: between two topics, partitions or runs of segments no transaction is open, so nothing
 * is held back in the store, and a store that is replaced meanwhile ends it. The rows are of
 * several commits. The position of the feed and the times of the classes are those from before the
 * first row, so whoever goes on from there is told of all that the rows may lack. */
#include "writer/load/warm_save.h"

#include <stdlib.h>
#include <string.h>

#include "writer/engine/engine.h"
#include "writer/load/warm.h"
#include "writer/load/warm_row.h"

enum { TURN_ROWS = 1024, TURN_NS = 1000000, POSITION_PIECE = 64 << 10 };

struct save {
	struct sync *s;
	bool (*meanwhile)(struct sync *s); /* NULL: nobody waits */
	uint64_t number;                   /* of the store */
	struct shmeta__txn *txn;
	uint64_t turn_began_ns;
	struct warm_out *out;
	uint64_t rows;
	size_t bytes;
	struct warm_texts texts;
	struct shmeta_err err;
	/* Where the class goes on: behind this key. */
	uint8_t key[SHMETA_QUARANTINE_KEY_MAX];
	size_t key_bytes;
	/* The topic whose partitions are written. */
	uint32_t topic_id;
	char topic[SHMETA_NAME_MAX];
	size_t topic_bytes;
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	uint8_t row[WARM_ROW_MAX];
};

/* All fields of a row fit: the largest row is a topic's. */
static void u64(struct save *w, uint64_t v)
{
	w->bytes += warm_put_number(w->row + w->bytes, v);
}

static void text(struct save *w, const void *data, size_t bytes)
{
	u64(w, bytes);
	if (bytes > 0)
		memcpy(w->row + w->bytes, data, bytes);
	w->bytes += bytes;
}

static void str(struct save *w, struct shmeta_str s)
{
	text(w, s.data, s.bytes);
}

/* Without what it has in common with the one before it. */
static void like(struct save *w, enum warm_text which, struct shmeta_str s)
{
	size_t common = warm_common(&w->texts, which, s);

	const struct shmeta_str rest = {s.data + common, s.bytes - common};

	u64(w, common);
	str(w, rest);
	(void)warm_keep(&w->texts, which, common, rest);
}

static void put(struct save *w, enum warm_kind kind)
{
	warm_out_row(w->out, (uint8_t)kind, w->row, w->bytes);
	w->bytes = 0;
	w->rows++;
}

/* Others have their turn, when it is time: whatever was read from the transaction is void then. */
static enum shmeta_status turn(struct save *w)
{
	if (w->out->failed != SHMETA_OK)
		return w->out->failed;
	if (w->meanwhile == NULL || sync_now(w->s) - w->turn_began_ns < TURN_NS)
		return SHMETA_OK;
	shmeta__txn_abort(w->txn);
	w->txn = NULL;
	if (sync_stopping(w->s) || !w->meanwhile(w->s) || w->s->store == NULL ||
	    shmeta__store_number(w->s->store) != w->number)
		return shmeta_fail(&w->err, SHMETA_ERR_BUSY, "something else has to come first");
	w->turn_began_ns = sync_now(w->s);
	return shmeta__txn_read(w->s->store, &w->txn, &w->err);
}

static enum shmeta_status save_begin(struct save *w)
{
	const struct shmeta_store_format *format = shmeta__store_format(w->s->store);
	struct warm_begin begin = {
		.fingerprint = format->fingerprint, .boottime_ns = sync_now(w->s), .wall_ms = sync_wall_ms(w->s)};
	const void *feed;
	size_t bytes;
	enum shmeta_status status =
		shmeta__get(w->txn, SHMETA_DB_META, SHMETA_META_FEED, strlen(SHMETA_META_FEED), &feed, &bytes, &w->err);

	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? shmeta_fail(&w->err, SHMETA_ERR_NOT_FOUND, "no position is kept")
		                               : status;
	memcpy(begin.boot_id, format->boot_id, sizeof begin.boot_id);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		begin.synced_at_ns[cls] = shmeta_peek(&w->s->gen->stamp[cls].synced_at_ns);
	memcpy(w->row, &begin, sizeof begin);
	w->bytes = sizeof begin;
	text(w, format->source, strnlen(format->source, sizeof format->source));
	u64(w, bytes);
	put(w, WARM_BEGIN);
	for (size_t at = 0; at < bytes; at += POSITION_PIECE) {
		text(w, (const uint8_t *)feed + at, bytes - at < POSITION_PIECE ? bytes - at : POSITION_PIECE);
		put(w, WARM_POSITION);
	}
	return SHMETA_OK;
}

static void put_segment(struct save *w, const struct shmeta_segment *g)
{
	u64(w, g->base_offset);
	u64(w, g->end_offset - g->base_offset);
	u64(w, g->size_bytes);
	u64(w, (uint64_t)g->created_at_ms);
	u64(w, (uint64_t)g->min_timestamp_ms);
	u64(w, (uint64_t)g->max_timestamp_ms);
	u64(w, g->record_count);
	u64(w, g->position);
	like(w, WARM_TEXT_ID, g->id);
	like(w, WARM_TEXT_BUCKET, g->s3_bucket);
	like(w, WARM_TEXT_KEY, g->s3_key);
	put(w, WARM_SEGMENT);
}

/* Up to TURN_ROWS segments from *from on, which becomes where the next ones are. OK: there are
 * more; END; ABSENT: the partition is not there. */
static enum shmeta_status save_segments(struct save *w, uint64_t key, bool first, uint64_t *from)
{
	const struct shmeta__pages pages = shmeta__txn_pages(w->txn);
	struct shmeta__part part = {0};
	struct shmeta__part_cursor cursor;
	struct shmeta_partition p;
	struct shmeta_segment g;
	const void *head;
	size_t bytes;
	enum shmeta_status status = shmeta__get(w->txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, &w->err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__part_open(&part, key, head, bytes, &pages);
	if (status == SHMETA_OK && first) {
		shmeta__part_record(&part, &p);
		u64(w, (uint32_t)key);
		u64(w, p.high_watermark);
		u64(w, (uint64_t)p.created_at_ms);
		u64(w, (uint64_t)p.updated_at_ms);
		put(w, WARM_PARTITION);
	}
	if (status == SHMETA_OK)
		status = shmeta__part_seek(&part, *from, UINT64_MAX, &cursor);
	for (size_t n = 0; status == SHMETA_OK && n < TURN_ROWS; n++) {
		status = shmeta__part_next(&part, &cursor, &g);
		if (status != SHMETA_OK || g.base_offset < *from)
			continue; /* one that only reaches into what is left */
		status = shmeta__part_strings(&part, w->topic, w->topic_bytes, &g, w->strings, sizeof w->strings);
		if (status != SHMETA_OK)
			break;
		put_segment(w, &g);
		*from = g.base_offset + 1;
	}
	shmeta__part_close(&part);
	if (status < 0)
		return shmeta_fail(&w->err, status, "the stored index of a partition is damaged");
	return status;
}

/* The next partition of the topic from *from on; ABSENT: there is none. */
static enum shmeta_status next_partition(struct save *w, uint64_t from, uint64_t *ret)
{
	struct shmeta__cursor *cursor;
	const void *key, *value;
	size_t key_bytes, bytes;
	enum shmeta_status status = shmeta__cursor_open(w->txn, SHMETA_DB_PARTS, &from, sizeof from, &cursor, &w->err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &w->err);
	if (status == SHMETA_OK)
		memcpy(ret, key, sizeof *ret);
	shmeta__cursor_close(cursor);
	return status == SHMETA_OK && *ret >> 32 == w->topic_id ? SHMETA_OK : status < 0 ? status : SHMETA_ABSENT;
}

static enum shmeta_status save_partitions(struct save *w)
{
	uint64_t key = shmeta__part_key(w->topic_id, 0);
	enum shmeta_status status;

	while ((status = next_partition(w, key, &key)) == SHMETA_OK) {
		uint64_t from = 0;
		bool first = true;

		do {
			status = save_segments(w, key, first, &from);
			first = false;
			if (status >= SHMETA_OK) {
				enum shmeta_status others = turn(w);

				status = others != SHMETA_OK ? others : status;
			}
		} while (status == SHMETA_OK);
		if (status < 0)
			return status;
		key++;
	}
	return status < 0 ? status : SHMETA_OK;
}

static enum shmeta_status tenant_of(struct save *w, uint32_t number, struct shmeta_str *ret)
{
	static const size_t prefix = sizeof SHMETA_META_TENANT - 1;
	struct shmeta__cursor *cursor;
	const void *key, *value;
	size_t key_bytes, bytes;
	enum shmeta_status status =
		shmeta__cursor_open(w->txn, SHMETA_DB_META, SHMETA_META_TENANT, prefix, &cursor, &w->err);
	uint32_t found = 0;

	if (status != SHMETA_OK)
		return status;
	while (found != number &&
	       (status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &w->err)) == SHMETA_OK &&
	       key_bytes > prefix && memcmp(key, SHMETA_META_TENANT, prefix) == 0 && bytes == sizeof found) {
		memcpy(&found, value, sizeof found);
		*ret = (struct shmeta_str){(const char *)key + prefix, key_bytes - prefix};
	}
	shmeta__cursor_close(cursor);
	if (status < 0)
		return status;
	return found == number ? SHMETA_OK : shmeta_fail(&w->err, SHMETA_ERR_CORRUPT, "a tenant is not in the store");
}

static enum shmeta_status save_topic(struct save *w, const uint8_t *key, size_t key_bytes, const void *value,
                                     size_t bytes)
{
	struct shmeta_str tenant;
	struct shmeta_topic t;
	enum shmeta_status status = shmeta__topic_decode(value, bytes, key, key_bytes, 1, &t, NULL);

	if (status == SHMETA_OK)
		status = tenant_of(w, shmeta__get_be32(key), &tenant);
	if (status != SHMETA_OK)
		return shmeta_fail(&w->err, status, "the stored record of a topic is damaged");
	str(w, tenant);
	str(w, t.name);
	u64(w, (uint64_t)t.created_at_ms);
	u64(w, (uint64_t)t.updated_at_ms);
	u64(w, (uint64_t)t.retention_ms);
	u64(w, t.has_retention);
	u64(w, t.partition_count);
	str(w, t.cleanup_policy);
	text(w, t.config.data, t.config.bytes);
	put(w, WARM_TOPIC);
	w->topic_id = t.topic_id;
	memcpy(w->topic, t.name.data, t.name.bytes);
	w->topic_bytes = t.name.bytes;
	return SHMETA_OK;
}

static enum shmeta_status save_agent(struct save *w, const uint8_t *key, size_t key_bytes, const void *value,
                                     size_t bytes)
{
	struct shmeta_str tenant;
	struct shmeta_agent a;
	enum shmeta_status status = shmeta__agent_decode(value, bytes, key, key_bytes, 1, &a, NULL);

	if (status == SHMETA_OK)
		status = tenant_of(w, shmeta__get_be32(key), &tenant);
	if (status != SHMETA_OK)
		return shmeta_fail(&w->err, status, "the stored record of an agent is damaged");
	str(w, tenant);
	str(w, a.agent_id);
	str(w, a.address);
	str(w, a.availability_zone);
	str(w, a.agent_group);
	text(w, a.metadata.data, a.metadata.bytes);
	u64(w, (uint64_t)a.last_heartbeat_ms);
	u64(w, (uint64_t)a.started_at_ms);
	put(w, WARM_AGENT);
	return SHMETA_OK;
}

static enum shmeta_status save_group(struct save *w, const uint8_t *key, size_t key_bytes, const void *value,
                                     size_t bytes)
{
	struct shmeta_str tenant;
	struct shmeta_group g;
	enum shmeta_status status = shmeta__group_decode(value, bytes, key, key_bytes, 1, &g, NULL);

	if (status == SHMETA_OK)
		status = tenant_of(w, shmeta__get_be32(key), &tenant);
	if (status != SHMETA_OK)
		return shmeta_fail(&w->err, status, "the stored record of a group is damaged");
	str(w, tenant);
	str(w, g.group_id);
	u64(w, (uint64_t)g.created_at_ms);
	u64(w, (uint64_t)g.updated_at_ms);
	put(w, WARM_GROUP);
	return SHMETA_OK;
}

static enum shmeta_status save_offset(struct save *w, const uint8_t *key, size_t key_bytes, const void *value,
                                      size_t bytes)
{
	struct shmeta_str tenant, topic;
	struct shmeta_committed_offset o;
	enum shmeta_status status = shmeta__offset_decode(value, bytes, key, key_bytes, 1, &o, NULL);

	if (status == SHMETA_OK)
		status = apply_topic_name(w->txn, o.topic_id, &tenant, &topic, &w->err);
	if (status != SHMETA_OK)
		return shmeta_fail(&w->err, SHMETA_ERR_CORRUPT, "the stored record of an offset is damaged");
	str(w, tenant);
	str(w, topic);
	str(w, o.group_id);
	str(w, o.has_metadata ? o.metadata : (struct shmeta_str){"", 0});
	u64(w, o.has_metadata);
	u64(w, o.committed_offset);
	u64(w, (uint64_t)o.committed_at_ms);
	u64(w, o.partition_id);
	put(w, WARM_OFFSET);
	return SHMETA_OK;
}

static enum shmeta_status save_lease(struct save *w, const uint8_t *key, size_t key_bytes, const void *value,
                                     size_t bytes)
{
	struct shmeta_str tenant, topic;
	struct shmeta_lease l;
	enum shmeta_status status = shmeta__lease_decode(value, bytes, key, key_bytes, 1, &l, NULL);

	if (status == SHMETA_OK)
		status = apply_topic_name(w->txn, l.topic_id, &tenant, &topic, &w->err);
	if (status != SHMETA_OK)
		return shmeta_fail(&w->err, SHMETA_ERR_CORRUPT, "the stored record of a lease is damaged");
	str(w, tenant);
	str(w, topic);
	str(w, l.leader_agent_id);
	u64(w, (uint64_t)l.lease_expires_at_ms);
	u64(w, (uint64_t)l.acquired_at_ms);
	u64(w, l.epoch);
	u64(w, l.partition_id);
	put(w, WARM_LEASE);
	return SHMETA_OK;
}

static enum shmeta_status save_quarantined(struct save *w, const uint8_t *key, size_t key_bytes, const void *value,
                                           size_t bytes)
{
	struct shmeta__quarantined q;
	enum shmeta_status status = shmeta__quarantined_decode(value, bytes, key, key_bytes, 1, &q, NULL);

	if (status != SHMETA_OK)
		return shmeta_fail(&w->err, status, "the stored record of a quarantined row is damaged");
	u64(w, q.cls);
	u64(w, q.unread);
	str(w, q.tenant);
	str(w, q.topic);
	str(w, q.name);
	u64(w, q.partition_id);
	u64(w, q.base);
	u64(w, q.end);
	u64(w, q.rows);
	str(w, q.sentence);
	put(w, WARM_QUARANTINED);
	return SHMETA_OK;
}

/* The next record of a class, written. ABSENT: there is none. */
static enum shmeta_status save_next(struct save *w, enum shmeta_db db,
                                    enum shmeta_status (*each)(struct save *, const uint8_t *, size_t, const void *,
                                                               size_t))
{
	struct shmeta__cursor *cursor;
	const void *key, *value;
	size_t key_bytes, bytes;
	enum shmeta_status status =
		shmeta__cursor_open(w->txn, db, w->key_bytes > 0 ? w->key : NULL, w->key_bytes, &cursor, &w->err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &w->err);
	if (status == SHMETA_OK && key_bytes == w->key_bytes && memcmp(key, w->key, key_bytes) == 0)
		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &w->err);
	if (status == SHMETA_OK && key_bytes > sizeof w->key)
		status = shmeta_fail(&w->err, SHMETA_ERR_CORRUPT, "a key of the store has %zu bytes", key_bytes);
	if (status == SHMETA_OK) {
		memcpy(w->key, key, key_bytes);
		w->key_bytes = key_bytes;
		status = each(w, key, key_bytes, value, bytes);
	}
	shmeta__cursor_close(cursor);
	return status > 0 ? SHMETA_ABSENT : status;
}

static enum shmeta_status save_class(struct save *w, enum shmeta_db db,
                                     enum shmeta_status (*each)(struct save *, const uint8_t *, size_t, const void *,
                                                                size_t))
{
	enum shmeta_status status;

	w->key_bytes = 0;
	while ((status = save_next(w, db, each)) == SHMETA_OK) {
		status = db == SHMETA_DB_NAMES ? save_partitions(w) : SHMETA_OK;
		if (status == SHMETA_OK)
			status = turn(w);
		if (status != SHMETA_OK)
			return status;
	}
	return status < 0 ? status : SHMETA_OK;
}

/* Rows that are counted and not listed cannot be brought back. */
static enum shmeta_status all_listed(struct save *w)
{
	uint64_t unlisted[SHMETA_CLASS_COUNT];
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__get(w->txn, SHMETA_DB_META, SHMETA_META_UNLISTED,
	                                        strlen(SHMETA_META_UNLISTED), &value, &bytes, &w->err);

	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	memcpy(unlisted, value, bytes < sizeof unlisted ? bytes : sizeof unlisted);
	for (size_t i = 0; i < SHMETA_CLASS_COUNT; i++)
		if (unlisted[i] != 0)
			return shmeta_fail(&w->err, SHMETA_ERR_FULL, "too many rows are quarantined");
	return SHMETA_OK;
}

static enum shmeta_status save_rows(struct save *w)
{
	static const struct {
		enum shmeta_db db;
		enum shmeta_status (*each)(struct save *, const uint8_t *, size_t, const void *, size_t);
	} all[] = {{SHMETA_DB_NAMES, save_topic},  {SHMETA_DB_AGENTS, save_agent},
	           {SHMETA_DB_GROUPS, save_group}, {SHMETA_DB_OFFSETS, save_offset},
	           {SHMETA_DB_LEASES, save_lease}, {SHMETA_DB_QUARANTINE, save_quarantined}};
	enum shmeta_status status = all_listed(w);

	if (status == SHMETA_OK)
		status = save_begin(w);
	for (size_t i = 0; i < sizeof all / sizeof all[0] && status == SHMETA_OK; i++)
		status = save_class(w, all[i].db, all[i].each);
	if (status == SHMETA_OK) {
		u64(w, w->rows);
		put(w, WARM_END);
	}
	return status;
}

enum shmeta_status warm_save_rows(struct sync *s, bool (*meanwhile)(struct sync *s), struct warm_out *out,
                                  uint64_t *ret_rows, struct shmeta_err *err)
{
	struct save *w = calloc(1, sizeof *w);

	if (w == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	*w = (struct save){.s = s,
	                   .meanwhile = meanwhile,
	                   .number = shmeta__store_number(s->store),
	                   .turn_began_ns = sync_now(s),
	                   .out = out};
	enum shmeta_status status = shmeta__txn_read(s->store, &w->txn, &w->err);

	if (status == SHMETA_OK)
		status = save_rows(w);
	shmeta__txn_abort(w->txn);
	*ret_rows = w->rows;
	if (status != SHMETA_OK && out->failed == SHMETA_OK)
		*err = w->err;
	else
		*err = out->err;
	free(w);
	return status;
}
