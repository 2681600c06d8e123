/* SPDX-License-Identifier: Apache-2.0
 * A store from the snapshot file: its rows take the way of a first load.
 *
 * A file of this boot has times of this boot's clock. One of another boot is as old as the wall
 * clock says: then the stamps of the classes are unproved (board.h), and the records have none of
 * their own. */
#include "writer/load/warm.h"

#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "writer/load/merge.h"
#include "writer/load/warm_file.h"
#include "writer/load/warm_row.h"

/* Ahead of every clock: no age is known. */
#define AGELESS (UINT64_C(1) << 62)
enum { POSITION_MOST = (16 << 20) + 4096 };
#define AGE_MOST_MS (INT64_C(20) * 365 * 86400 * 1000)

struct load {
	struct sync *s;
	struct merge *m;
	struct backend_sink sink;
	struct warm_begin begin;
	uint64_t now_ns; /* when it was read, by both clocks */
	int64_t now_ms;
	struct shmeta_store_format format;
	uint8_t *feed; /* META_FEED */
	size_t feed_bytes, feed_room;
	struct warm_texts texts;
	uint64_t rows;
	/* The row being read. */
	const uint8_t *at;
	size_t left;
	bool bad;
	struct shmeta_err err;
};

static uint64_t u64(struct load *w)
{
	uint64_t v = 0;

	if (!warm_get_number(&w->at, &w->left, &v)) {
		w->bad = true;
		w->left = 0;
	}
	return v;
}

static struct shmeta_str str(struct load *w)
{
	uint64_t bytes = u64(w);
	struct shmeta_str s = {(const char *)w->at, (size_t)bytes};

	if (bytes > w->left) {
		w->bad = true;
		w->left = 0;
		return (struct shmeta_str){"", 0};
	}
	w->at += bytes;
	w->left -= bytes;
	return s;
}

/* A text without what it has in common with the one before it. */
static struct shmeta_str like(struct load *w, enum warm_text which)
{
	size_t common = (size_t)u64(w);
	struct shmeta_str rest = str(w);

	if (w->bad || !warm_keep(&w->texts, which, common, rest)) {
		w->bad = true;
		return (struct shmeta_str){"", 0};
	}
	return (struct shmeta_str){w->texts.last[which].data, w->texts.last[which].bytes};
}

static struct shmeta_map map(struct load *w)
{
	struct shmeta_str s = str(w);

	return (struct shmeta_map){s.data, s.bytes};
}

static enum shmeta_status damaged(struct load *w)
{
	return shmeta_fail(&w->err, SHMETA_ERR_CORRUPT, "row %llu is damaged", (unsigned long long)w->rows);
}

static enum shmeta_status load_begin(struct load *w)
{
	struct shmeta_str source;

	if (w->left < sizeof w->begin || w->rows != 0)
		return damaged(w);
	memcpy(&w->begin, w->at, sizeof w->begin);
	w->at += sizeof w->begin;
	w->left -= sizeof w->begin;
	source = str(w);
	w->feed_room = (size_t)u64(w);
	if (w->bad || w->left != 0 || source.bytes >= sizeof w->format.source || w->feed_room > POSITION_MOST)
		return damaged(w);
	w->feed = malloc(w->feed_room + 1);
	if (w->feed == NULL)
		return shmeta_fail(&w->err, SHMETA_ERR_NO_MEMORY, "out of memory");
	w->format = (struct shmeta_store_format){.format = SHMETA_STORE_FORMAT,
	                                         .writer_version = SHMETA_VERSION_MAJOR << 16 |
	                                                           SHMETA_VERSION_MINOR << 8 | SHMETA_VERSION_PATCH,
	                                         .created_at_ns = sync_now(w->s),
	                                         .fingerprint = w->begin.fingerprint};
	memcpy(w->format.boot_id, w->s->board->boot_id, sizeof w->format.boot_id);
	memcpy(w->format.source, source.data, source.bytes);
	return SHMETA_OK;
}

/* The pieces of the position, which are the next rows: whose source is it? */
static enum shmeta_status load_position(struct load *w, struct warm_in *in)
{
	enum shmeta_status status = SHMETA_OK;
	struct shmeta_str piece;
	uint8_t kind;

	while (w->feed_bytes < w->feed_room && status == SHMETA_OK) {
		status = warm_in_row(in, &kind, &w->at, &w->left, &w->err);
		if (status != SHMETA_OK)
			return status;
		w->rows++;
		piece = str(w);
		if (kind != WARM_POSITION || w->bad || w->left != 0 || piece.bytes > w->feed_room - w->feed_bytes)
			return damaged(w);
		memcpy(w->feed + w->feed_bytes, piece.data, piece.bytes);
		w->feed_bytes += piece.bytes;
	}
	if (!saved_feed_is_of_this_uri(w->s, w->feed, w->feed_bytes))
		return shmeta_fail(&w->err, SHMETA_ERR_CONFLICT, "it was written for a source of another name");
	return SHMETA_OK;
}

static enum shmeta_status emit(struct load *w, uint8_t kind)
{
	struct shmeta_str tenant, topic;

	switch (kind) {
	case WARM_TOPIC: {
		struct shmeta_topic t = {0};

		tenant = str(w);
		t.name = str(w);
		t.created_at_ms = (int64_t)u64(w);
		t.updated_at_ms = (int64_t)u64(w);
		t.retention_ms = (int64_t)u64(w);
		t.has_retention = (uint32_t)u64(w);
		t.partition_count = (uint32_t)u64(w);
		t.cleanup_policy = str(w);
		t.config = map(w);
		return w->bad ? damaged(w) : w->sink.topic(w->m, tenant, &t);
	}
	case WARM_PARTITION: {
		struct shmeta_partition p = {0};

		p.partition_id = (uint32_t)u64(w);
		p.high_watermark = u64(w);
		p.created_at_ms = (int64_t)u64(w);
		p.updated_at_ms = (int64_t)u64(w);
		return w->bad ? damaged(w) : w->sink.partition(w->m, &p);
	}
	case WARM_SEGMENT: {
		struct shmeta_segment g = {0};

		g.base_offset = u64(w);
		g.end_offset = g.base_offset + u64(w);
		g.size_bytes = u64(w);
		g.created_at_ms = (int64_t)u64(w);
		g.min_timestamp_ms = (int64_t)u64(w);
		g.max_timestamp_ms = (int64_t)u64(w);
		g.record_count = (uint32_t)u64(w);
		g.position = u64(w);
		g.id = like(w, WARM_TEXT_ID);
		g.s3_bucket = like(w, WARM_TEXT_BUCKET);
		g.s3_key = like(w, WARM_TEXT_KEY);
		return w->bad ? damaged(w) : w->sink.segment(w->m, &g);
	}
	case WARM_AGENT: {
		struct shmeta_agent a = {0};

		tenant = str(w);
		a.agent_id = str(w);
		a.address = str(w);
		a.availability_zone = str(w);
		a.agent_group = str(w);
		a.metadata = map(w);
		a.last_heartbeat_ms = (int64_t)u64(w);
		a.started_at_ms = (int64_t)u64(w);
		return w->bad ? damaged(w) : w->sink.agent(w->m, tenant, &a);
	}
	case WARM_GROUP: {
		struct shmeta_group g = {0};

		tenant = str(w);
		g.group_id = str(w);
		g.created_at_ms = (int64_t)u64(w);
		g.updated_at_ms = (int64_t)u64(w);
		return w->bad ? damaged(w) : w->sink.group(w->m, tenant, &g);
	}
	case WARM_OFFSET: {
		struct shmeta_committed_offset o = {0};

		tenant = str(w);
		topic = str(w);
		o.group_id = str(w);
		o.metadata = str(w);
		o.has_metadata = (uint32_t)u64(w);
		o.committed_offset = u64(w);
		o.committed_at_ms = (int64_t)u64(w);
		o.partition_id = (uint32_t)u64(w);
		return w->bad ? damaged(w) : w->sink.offset(w->m, tenant, topic, &o);
	}
	case WARM_LEASE: {
		struct shmeta_lease l = {0};

		tenant = str(w);
		topic = str(w);
		l.leader_agent_id = str(w);
		l.lease_expires_at_ms = (int64_t)u64(w);
		l.acquired_at_ms = (int64_t)u64(w);
		l.epoch = u64(w);
		l.partition_id = (uint32_t)u64(w);
		return w->bad ? damaged(w) : w->sink.lease(w->m, tenant, topic, &l);
	}
	case WARM_QUARANTINED: {
		struct backend_key row = {.cls = (enum shmeta_class)u64(w)};
		char sentence[SHMETA_SENTENCE_MAX + 1];
		uint64_t rows;

		row.unread = (uint32_t)u64(w);
		row.tenant = str(w);
		row.topic = str(w);
		row.name = str(w);
		row.partition_id = (uint32_t)u64(w);
		row.from = u64(w);
		row.to = u64(w);
		rows = u64(w);
		topic = str(w);
		if (w->bad || topic.bytes > SHMETA_SENTENCE_MAX || (unsigned)row.cls >= SHMETA_CLASS_COUNT)
			return damaged(w);
		memcpy(sentence, topic.data, topic.bytes);
		sentence[topic.bytes] = '\0';
		enum shmeta_status status = merge_fail(w->m, merge_enter_classes(w->m));

		return status != SHMETA_OK ? status
		                           : merge_fail(w->m, quarantine_row(merge_applier(w->m), &w->m->quarantine,
		                                                             &row, rows, sentence, &w->m->err));
	}
	default:
		return damaged(w);
	}
}

static uint64_t time_of(const struct load *w, enum shmeta_class cls)
{
	const struct warm_begin *begin = &w->begin;
	uint64_t at = begin->synced_at_ns[cls], now = w->now_ns;
	int64_t passed_ms = w->now_ms - begin->wall_ms;

	if (at == 0)
		return 0;
	if (memcmp(begin->boot_id, w->s->board->boot_id, sizeof begin->boot_id) == 0)
		return at <= now ? at : AGELESS;
	if (at > begin->boottime_ns || passed_ms < 0 || passed_ms > AGE_MOST_MS ||
	    begin->boottime_ns - at > AGE_MOST_MS * SYNC_MS)
		return AGELESS;
	return shmeta__stamp_unproved((int64_t)now - passed_ms * (int64_t)SYNC_MS - (int64_t)(begin->boottime_ns - at));
}

static enum shmeta_status read_rows(struct load *w, struct warm_in *in)
{
	enum shmeta_status status = SHMETA_OK;
	uint64_t oldest = UINT64_MAX;
	struct shmeta__store *store;
	size_t bytes;
	uint8_t kind;

	status = warm_in_row(in, &kind, &w->at, &w->left, &w->err);
	if (status == SHMETA_OK)
		status = kind == WARM_BEGIN ? load_begin(w) : damaged(w);
	if (status != SHMETA_OK)
		return status;
	w->rows = 1;
	status = load_position(w, in);
	if (status != SHMETA_OK)
		return status;
	status = generation_create_as(w->s, &w->format, &store, &w->err);
	if (status != SHMETA_OK)
		return status;
	w->m = merge_new(w->s, store);
	if (w->m == NULL) {
		generation_discard(w->s, store);
		return shmeta_fail(&w->err, SHMETA_ERR_NO_MEMORY, "out of memory");
	}
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		oldest = time_of(w, (enum shmeta_class)cls) < oldest ? time_of(w, (enum shmeta_class)cls) : oldest;
	w->m->began_ns = oldest == AGELESS || shmeta__stamp_is_unproved(oldest) ? 0 : oldest;
	w->sink = merge_sink(w->m);
	status = merge_fail(w->m, merge_begin(w->m));

	struct shmeta_store_counters *counters = shmeta__store_counters(store);

	if (status == SHMETA_OK && counters->next_topic_id < generation_next_topic_id(&w->s->generations))
		counters->next_topic_id = generation_next_topic_id(&w->s->generations);
	while (status == SHMETA_OK && (status = warm_in_row(in, &kind, &w->at, &bytes, &w->err)) == SHMETA_OK) {
		w->left = bytes;
		if (kind == WARM_END) {
			if (u64(w) != w->rows || w->left != 0 || w->bad || !warm_in_is_over(in))
				return damaged(w);
			break;
		}
		status = emit(w, kind);
		if (status == SHMETA_OK && w->left != 0)
			status = damaged(w);
		w->rows++;
	}
	if (status == SHMETA_OK)
		status = merge_fail(w->m, merge_enter_classes(w->m));
	if (status == SHMETA_OK)
		status = merge_fail(w->m, merge_finish(w->m));
	if (w->m->failed != SHMETA_OK)
		w->err = w->m->err;
	return status;
}

/* In the place of what the load of a source would have kept. */
static enum shmeta_status keep_position(struct load *w, uint64_t *ret_txn)
{
	struct apply_host host = sync_apply_host(w->s);
	struct apply *a = &w->s->apply;
	enum shmeta_status status = apply_begin(a, w->m->store, &host, UINT64_MAX, false, &w->err);

	if (status == SHMETA_OK && (status = apply_feed(a, w->feed, w->feed_bytes, &w->err)) == SHMETA_OK)
		return apply_commit(a, ret_txn, &w->err);
	apply_abort(a);
	return status;
}

static void publish(struct load *w, uint64_t began, uint64_t txn)
{
	struct sync *s = w->s;
	struct shmeta__store *store = w->m->store;

	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if (time_of(w, (enum shmeta_class)cls) != 0)
			sync_stamp(s, shmeta__store_generation(store), (enum shmeta_class)cls, txn,
			           time_of(w, (enum shmeta_class)cls));
	sync_log(s, LOG_INFO, "warm_loaded",
	         "loaded %llu topics, %llu partitions, %llu segments from the snapshot file in %llu ms",
	         (unsigned long long)w->m->topics, (unsigned long long)w->m->partitions,
	         (unsigned long long)w->m->segments, (unsigned long long)((sync_now(s) - began) / SYNC_MS));
	merge_free(w->m);
	w->m = NULL;
	generation_publish(s, store);
	saved_feed_read(s);
	generation_judge(s);
}

void warm_load(struct sync *s)
{
	const char *path = s->options.warm_file;
	uint64_t began = sync_now(s), txn;
	struct warm_in in;

	if (path == NULL || path[0] == '\0' || s->options.bounded || s->store != NULL)
		return;
	struct load *w = calloc(1, sizeof *w);

	if (w == NULL)
		return;
	w->s = s;
	w->now_ns = began;
	w->now_ms = sync_wall_ms(s);
	enum shmeta_status status = warm_in_begin(&in, path, &w->err);

	if (status == SHMETA_OK) {
		status = read_rows(w, &in);
		warm_in_end(&in);
		if (status == SHMETA_OK)
			status = keep_position(w, &txn);
		if (status == SHMETA_OK)
			publish(w, began, txn);
	}
	if (w->m != NULL) {
		struct shmeta__store *store = w->m->store;

		merge_free(w->m);
		generation_discard(s, store);
	}
	if (status < 0)
		sync_log(s, LOG_NOTICE, "warm_refused",
		         "the snapshot file %s cannot be used, loading from the source: %s", path, w->err.text);
	free(w->feed);
	free(w);
}
