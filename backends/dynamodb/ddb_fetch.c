/* SPDX-License-Identifier: Apache-2.0
 * Rows by key (ddb_read.h): what all keys need is read in three rounds, however many keys there
 * are. */
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_ledger.h"
#include "backends/dynamodb/ddb_read.h"

enum { TRIES = 12, LATE_MOST = 4 };

/* What a key needs beyond the items of the ledger. */
struct wanted {
	const struct backend_key *key;
	json_t *header; /* SEGMENT: as it was before its segments were read */
	json_t *segments;
	bool good;
	bool busy; /* something of it was kept back, and was given up */
};

static bool needs_topic(const struct backend_key *key)
{
	return key->cls == SHMETA_CLASS_TOPIC || key->cls == SHMETA_CLASS_PARTITION ||
	       key->cls == SHMETA_CLASS_SEGMENT || (key->cls == SHMETA_CLASS_LEASE && key->topic.bytes > 0) ||
	       (key->cls == SHMETA_CLASS_OFFSET && key->name.bytes > 0 && key->topic.bytes > 0);
}

static bool needs_header(const struct backend_key *key)
{
	return key->cls == SHMETA_CLASS_PARTITION || key->cls == SHMETA_CLASS_SEGMENT ||
	       (key->cls == SHMETA_CLASS_LEASE && key->topic.bytes > 0);
}

static const json_t *find(struct ddb_ledger *l, const struct ddb_key *key)
{
	const struct ddb_entry *e = ddb_ledger_get(l, key);

	return e != NULL ? e->base : NULL;
}

static const json_t *topic_of(struct ddb_ledger *l, const struct backend_key *key)
{
	struct ddb_key k;
	const json_t *topic;

	ddb_key_topic(&k, key->tenant, key->topic);
	topic = find(l, &k);
	return topic != NULL && !ddb_has(topic, "gone") ? topic : NULL;
}

static const json_t *header_of(struct ddb_ledger *l, const struct backend_key *key)
{
	struct ddb_key k;

	ddb_key_header(&k, key->tenant, key->topic, key->partition_id);
	return find(l, &k);
}

/* Ask for the items of a key; later calls find them. */
static void look_at(struct ddb_ledger *l, const struct backend_key *key)
{
	struct ddb_key k;

	if (needs_topic(key))
		(void)topic_of(l, key);
	if (needs_header(key))
		(void)header_of(l, key);
	if (key->cls == SHMETA_CLASS_AGENT && key->name.bytes > 0) {
		ddb_key_agent(&k, key->tenant, key->name);
		(void)find(l, &k);
	}
	if (key->cls == SHMETA_CLASS_OFFSET && key->name.bytes > 0) {
		ddb_key_group(&k, key->tenant, key->name);
		(void)find(l, &k);
		if (key->topic.bytes > 0) {
			ddb_key_offset(&k, key->tenant, key->name, key->topic, key->partition_id);
			(void)find(l, &k);
		}
	}
}

/* Of those whose items were read. */
static void set_busy(struct wanted *wanted, size_t count, struct ddb_ledger *l)
{
	for (size_t i = 0; i < count; i++)
		if (!wanted[i].busy) {
			l->met_throttled = false;
			look_at(l, wanted[i].key);
			wanted[i].busy = l->met_throttled;
			wanted[i].good |= wanted[i].busy;
		}
}

/* The segments of those keys that have none of one moment yet. */
static enum shmeta_status read_segments(struct ddb_reading *r, struct wanted *wanted, size_t count,
                                        struct ddb_ledger *l)
{
	struct ddb_query *q = calloc(count + 1, sizeof *q);
	struct ddb_key(*k)[2] = calloc(count + 1, sizeof *k);
	size_t *of = calloc(count + 1, sizeof *of), n = 0;
	enum shmeta_status status = SHMETA_OK;

	if (q == NULL || k == NULL || of == NULL)
		status = backend_fail(r->err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		const struct backend_key *key = wanted[i].key;
		const json_t *header = header_of(l, key), *topic = topic_of(l, key);

		if (wanted[i].good)
			continue;
		json_decref(wanted[i].header);
		wanted[i].header = json_incref((json_t *)header);
		json_decref(wanted[i].segments);
		wanted[i].segments = NULL;
		if (key->cls != SHMETA_CLASS_SEGMENT || topic == NULL || !ddb_header_is_of(header, topic)) {
			wanted[i].good = true;
			continue;
		}
		ddb_key_segment(&k[n][0], key->tenant, ddb_text(header, "inc"), key->partition_id, key->from);
		ddb_key_segment(&k[n][1], key->tenant, ddb_text(header, "inc"), key->partition_id, key->to);
		q[n] = (struct ddb_query){
			.table = DDB_SEG, .pk = k[n][0].pk, .from = k[n][0].sk, .to = k[n][1].sk, .tolerant = true};
		of[n++] = i;
	}
	if (status == SHMETA_OK)
		status = ddb_queries(r->s, q, n, "reading segments", r->err);
	for (size_t i = 0; i < n; i++) {
		wanted[of[i]].segments = q[i].items;
		wanted[of[i]].busy = q[i].throttled;
		wanted[of[i]].good |= q[i].throttled;
	}
	free(q);
	free(k);
	free(of);
	return status;
}

/* Until each partition has the same header after its segments as before. *l ends with the newest
 * headers. */
static enum shmeta_status read_all(struct ddb_reading *r, struct wanted *wanted, size_t count, struct ddb_ledger *l)
{
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; i < count; i++)
		look_at(l, wanted[i].key);
	status = ddb_ledger_read(r->s, l, r->err);
	if (status == SHMETA_OK)
		set_busy(wanted, count, l);
	for (unsigned int tries = 1; status == SHMETA_OK && tries <= TRIES; tries++) {
		struct ddb_ledger after = {.tolerant = true};
		size_t left = 0;

		status = read_segments(r, wanted, count, l);
		for (size_t i = 0; i < count; i++)
			if (!wanted[i].good)
				look_at(&after, wanted[i].key);
		if (status == SHMETA_OK && after.count > 0)
			status = ddb_ledger_read(r->s, &after, r->err);
		for (size_t i = 0; status == SHMETA_OK && i < count; i++)
			if (!wanted[i].good) {
				const json_t *now;

				after.met_throttled = false;
				now = header_of(&after, wanted[i].key);
				wanted[i].busy = after.met_throttled;
				wanted[i].good = wanted[i].busy ||
				                 strcmp(ddb_text(now, "v"), ddb_text(wanted[i].header, "v")) == 0;
				left += !wanted[i].good;
			}
		if (status != SHMETA_OK || left == 0) {
			ddb_ledger_free(&after);
			break;
		}
		/* The others go on with what is true now. */
		for (size_t i = 0; i < count; i++)
			if (wanted[i].good && !wanted[i].busy)
				look_at(&after, wanted[i].key);
		status = ddb_ledger_read(r->s, &after, r->err);
		if (status == SHMETA_OK)
			set_busy(wanted, count, &after);
		ddb_ledger_free(l);
		*l = after;
		if (tries > 2)
			ddb_pause(tries - 2, r->s->deadline_ns);
	}
	return status;
}

static enum shmeta_status emit_place(struct ddb_reading *r, struct wanted *w, struct ddb_ledger *l, bool *there)
{
	const struct backend_key *key = w->key;
	const json_t *topic = topic_of(l, key),
		     *header = key->cls == SHMETA_CLASS_SEGMENT ? w->header : header_of(l, key);
	enum shmeta_status status;

	if (topic != NULL && !ddb_header_is_of(header, topic))
		header = NULL;
	*there = topic != NULL && (int64_t)key->partition_id < ddb_number(topic, "n");
	if (!*there)
		return SHMETA_OK;
	status = ddb_emit_partition(r, key, header, topic);
	if (status == SHMETA_OK && key->cls == SHMETA_CLASS_SEGMENT)
		status = ddb_emit_segments(r, key, w->segments, key->from, key->to);
	return status;
}

static enum shmeta_status emit_offset(struct ddb_reading *r, const struct backend_key *key, struct ddb_ledger *l)
{
	struct ddb_key k;
	const json_t *group, *topic, *offset;
	enum shmeta_status status;

	if (key->name.bytes == 0)
		return ddb_emit_groups(r);
	ddb_key_group(&k, key->tenant, key->name);
	group = find(l, &k);
	if (group == NULL)
		return SHMETA_OK;
	if (key->topic.bytes == 0)
		return ddb_emit_group(r, group);
	status = ddb_emit_group_row(r, group);
	ddb_key_offset(&k, key->tenant, key->name, key->topic, key->partition_id);
	offset = find(l, &k);
	topic = topic_of(l, key);
	if (status == SHMETA_OK && offset != NULL && topic != NULL &&
	    strcmp(ddb_text(offset, "gi"), ddb_text(group, "gi")) == 0 &&
	    strcmp(ddb_text(offset, "inc"), ddb_text(topic, "inc")) == 0)
		status = ddb_emit_offset(r, key->tenant, key->topic, key->name, offset);
	return status;
}

static enum shmeta_status emit_key(struct ddb_reading *r, struct wanted *w, struct ddb_ledger *l, bool *there)
{
	const struct backend_key *key = w->key;
	const json_t *item;
	struct ddb_key k;

	*there = true;
	switch (key->cls) {
	case SHMETA_CLASS_TOPIC:
		item = topic_of(l, key);
		*there = item != NULL;
		return *there ? ddb_emit_topic(r, item, !key->row_only, key->with_segments) : SHMETA_OK;
	case SHMETA_CLASS_PARTITION:
	case SHMETA_CLASS_SEGMENT:
		return emit_place(r, w, l, there);
	case SHMETA_CLASS_AGENT:
		if (key->name.bytes == 0)
			return ddb_emit_agents(r);
		ddb_key_agent(&k, key->tenant, key->name);
		item = find(l, &k);
		return item != NULL ? ddb_emit_agent(r, item) : SHMETA_OK;
	case SHMETA_CLASS_LEASE:
		if (key->topic.bytes == 0)
			return ddb_emit_leases(r);
		item = topic_of(l, key);
		return item != NULL && ddb_header_is_of(header_of(l, key), item)
		               ? ddb_emit_lease(r, key, header_of(l, key))
		               : SHMETA_OK;
	default:
		return emit_offset(r, key, l);
	}
}

/* A part of its time goes to keys that are throttled. Where that, or waiting for units, was in vain
 * a moment ago, none does: the core asks for them one by one. */
static void begin(struct ddb_state *s)
{
	uint64_t now_ns = ddb_now_ns();

	ddb_begin(s, DDB_FOR_FETCH);
	s->link.in_haste = now_ns < s->hot_ns;
	s->link.patience_ns = s->link.in_haste ? now_ns : s->patience_ns;
}

static enum shmeta_status end_busy(struct ddb_reading *r, const struct backend_key *key)
{
	ddb_was_in_vain(r->s);
	return r->sink->key_end(r->sink->arg, key, SHMETA_ERR_BUSY, r->err->text);
}

/* Its time was over a moment ago, too, and it showed none of its keys: to ask for fewer at a time,
 * each time until the deadline, would take all of the caller's time. */
static bool is_away(const struct ddb_reading *r, const struct wanted *wanted, size_t count)
{
	bool away = r->s->link.in_haste && r->s->link.late > 0 && count > LATE_MOST;

	for (size_t i = 0; away && i < count; i++)
		away = wanted[i].busy;
	return away;
}

enum shmeta_status ddb_fetch(void *state, const struct backend_key *keys, size_t count, const struct backend_sink *sink,
                             struct backend_error *err)
{
	struct ddb_reading r = {.s = state, .sink = sink, .err = err};
	struct ddb_ledger ledger = {.tolerant = true};
	struct wanted *wanted = calloc(count + 1, sizeof *wanted);
	enum shmeta_status status = SHMETA_OK;

	if (wanted == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (size_t i = 0; i < count; i++) {
		wanted[i].key = &keys[i];
		if (status == SHMETA_OK &&
		    (keys[i].cls == SHMETA_CLASS_LIST || (unsigned)keys[i].cls >= SHMETA_CLASS_COUNT))
			status = backend_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                      "dynamodb: a key of class %d cannot be fetched", (int)keys[i].cls);
	}
	begin(r.s);
	if (status == SHMETA_OK)
		status = read_all(&r, wanted, count, &ledger);
	if (status == SHMETA_OK && is_away(&r, wanted, count))
		status = err->code = SHMETA_ERR_SOURCE;
	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		bool there = true;

		status = sink->key_begin(sink->arg, &keys[i]);
		if (status != SHMETA_OK)
			break;
		if (!wanted[i].busy && wanted[i].good) {
			err->code = SHMETA_OK;
			status = emit_key(&r, &wanted[i], &ledger, &there);
			wanted[i].busy = status == SHMETA_ERR_BUSY && err->code == SHMETA_ERR_BUSY;
		}
		if (wanted[i].busy)
			status = end_busy(&r, &keys[i]);
		else if (status == SHMETA_OK && !wanted[i].good)
			status = sink->key_end(sink->arg, &keys[i], SHMETA_ERR_BUSY,
			                       "dynamodb: the partition changed each time that it was read");
		else if (status == SHMETA_OK)
			status = sink->key_end(sink->arg, &keys[i], there ? SHMETA_OK : SHMETA_ABSENT, "");
	}
	for (size_t i = 0; i < count; i++) {
		json_decref(wanted[i].header);
		json_decref(wanted[i].segments);
	}
	free(wanted);
	ddb_ledger_free(&ledger);
	return status;
}
