/* SPDX-License-Identifier: Apache-2.0
 * Rows that cannot be served (quarantine.h). */
#include "writer/apply/quarantine.h"

#include <stdio.h>

#include "base/row_limits.h"
#include "base/str.h"
#include "writer/apply/apply.h"
#include "writer/apply/apply_private.h"

/* Base offsets are below 2^63: with this bit it is the hash of a sentence. */
static const uint64_t UNREAD_BASE = UINT64_C(1) << 63;
static const uint32_t EVERY_CLASS = (1u << SHMETA_CLASS_COUNT) - 1;

_Static_assert((int)SHMETA_UNREAD_TENANT == (int)BACKEND_UNREAD_TENANT &&
                       (int)SHMETA_UNREAD_TOPIC == (int)BACKEND_UNREAD_TOPIC &&
                       (int)SHMETA_UNREAD_NAME == (int)BACKEND_UNREAD_NAME &&
                       (int)SHMETA_UNREAD_PARTITION == (int)BACKEND_UNREAD_PARTITION &&
                       (int)SHMETA_UNREAD_BASE == (int)BACKEND_UNREAD_BASE,
               "records have the marks of the engines");

static struct shmeta_store_counters *counters(struct apply *a)
{
	return shmeta__store_counters(a->store);
}

void quarantine_begin(struct quarantine *q, bool partial)
{
	q->partial = partial;
	q->held = false;
	q->key_bytes = 0;
	keyset_clear(&q->seen);
	memset(q->unlisted, 0, sizeof q->unlisted);
}

void quarantine_free(struct quarantine *q)
{
	keyset_free(&q->seen);
}

bool quarantine_covers(const struct backend_key *above, const struct backend_key *row)
{
	if (above->unread != 0 || !str_equal(above->tenant, row->tenant) || !str_equal(above->topic, row->topic))
		return false;
	if (above->cls == SHMETA_CLASS_TOPIC)
		return row->cls == SHMETA_CLASS_PARTITION || row->cls == SHMETA_CLASS_SEGMENT;
	return above->cls == SHMETA_CLASS_PARTITION && row->cls == SHMETA_CLASS_SEGMENT &&
	       (row->unread & BACKEND_UNREAD_PARTITION) == 0 && above->partition_id == row->partition_id;
}

/* ---- keys ---- */

/* A part of a key into its buffer; what cannot be one is unread. */
static void keep_text(struct shmeta_str *text, char *buffer, size_t most, enum backend_unread bit, uint32_t *unread)
{
	if (text->bytes > most || (text->bytes > 0 && memchr(text->data, 0, text->bytes) != NULL)) {
		*text = (struct shmeta_str){"", 0};
		*unread |= bit;
		return;
	}
	if (text->bytes > 0)
		memcpy(buffer, text->data, text->bytes);
	text->data = buffer;
}

/* The name that a class's keys begin with. */
static struct shmeta_str name_of(const struct backend_key *row)
{
	return row->cls == SHMETA_CLASS_AGENT || row->cls == SHMETA_CLASS_OFFSET ? row->name : row->topic;
}

static uint64_t topic_hash(const struct backend_key *row)
{
	return row->cls == SHMETA_CLASS_OFFSET && row->topic.bytes > 0
	               ? shmeta__name_hash(0, row->topic.data, row->topic.bytes)
	               : 0;
}

/* Everything but the number. */
static size_t make_key(const struct quarantine *q, uint32_t tenant, uint8_t *key)
{
	const struct backend_key *row = &q->row;
	struct shmeta_str name = name_of(row);
	struct shmeta__quarantine_place place = {.topic = topic_hash(row), .partition_id = row->partition_id};

	if (row->cls == SHMETA_CLASS_SEGMENT)
		place.base = row->from;
	if (row->unread != 0)
		place.base = shmeta__name_hash(row->unread, q->sentence, q->sentence_bytes) | UNREAD_BASE;
	return shmeta__quarantine_key(key, shmeta__quarantine_prefix(key, row->cls, tenant, name.data, name.bytes),
	                              &place);
}

static uint64_t hash_key(const uint8_t *key, size_t bytes)
{
	return shmeta__name_hash(SHMETA_DB_QUARANTINE, key, bytes);
}

/* The number of this row among those of its place. */
static enum shmeta_status number_key(struct quarantine *q, uint8_t *key, size_t bytes, struct shmeta_err *err)
{
	int added = 0;

	if (q->key_bytes == bytes && memcmp(q->key, key, bytes - 4) == 0) {
		q->number++;
	} else {
		memcpy(q->key, key, bytes);
		q->key_bytes = bytes;
		q->number = 0;
	}
	for (; added == 0; q->number += added == 0) {
		shmeta__put_be32(key + bytes - 4, q->number);
		added = keyset_add(&q->seen, hash_key(key, bytes));
	}
	return added > 0 ? SHMETA_OK
	                 : shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the keys of quarantined rows");
}

/* ---- rows ---- */

enum shmeta_status quarantine_unlisted(struct shmeta__txn *txn, uint64_t ret[QUARANTINE_CLASSES],
                                       struct shmeta_err *err)
{
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__get(txn, SHMETA_DB_META, SHMETA_META_UNLISTED,
	                                        sizeof SHMETA_META_UNLISTED - 1, &value, &bytes, err);

	memset(ret, 0, QUARANTINE_CLASSES * sizeof *ret);
	if (status == SHMETA_OK && bytes == QUARANTINE_CLASSES * sizeof *ret)
		memcpy(ret, value, bytes);
	return status < 0 ? status : SHMETA_OK;
}

static enum shmeta_status write_unlisted(struct apply *a, const uint64_t numbers[QUARANTINE_CLASSES],
                                         struct shmeta_err *err)
{
	return shmeta__put(a->txn, SHMETA_DB_META, SHMETA_META_UNLISTED, sizeof SHMETA_META_UNLISTED - 1, numbers,
	                   QUARANTINE_CLASSES * sizeof *numbers, err);
}

/* There is room for a row of a class of which some are not listed: it is taken for one of those,
 * and not counted again. */
static enum shmeta_status take_unlisted(struct apply *a, const struct shmeta__quarantined *row, struct shmeta_err *err)
{
	uint64_t numbers[QUARANTINE_CLASSES], taken;
	enum shmeta_status status = quarantine_unlisted(a->txn, numbers, err);

	if (status != SHMETA_OK || numbers[row->cls] == 0)
		return status;
	taken = numbers[row->cls] < row->rows ? numbers[row->cls] : row->rows;
	numbers[row->cls] -= taken;
	counters(a)->quarantined -= taken;
	return write_unlisted(a, numbers, err);
}

static enum shmeta_status put(struct apply *a, struct quarantine *q, uint32_t tenant, struct shmeta_err *err)
{
	struct shmeta__quarantined row = {.cls = q->row.cls,
	                                  .unread = q->row.unread,
	                                  .tenant = q->row.tenant,
	                                  .topic = q->row.topic,
	                                  .name = q->row.name,
	                                  .partition_id = q->row.partition_id,
	                                  .base = q->row.from,
	                                  .end = q->row.to,
	                                  .since_ms = a->host.now_ms,
	                                  .rows = q->rows,
	                                  .sentence = {q->sentence, q->sentence_bytes}};
	struct shmeta__stamps stamps = {a->synced_at_ns, 0}, old_stamps;
	uint8_t key[SHMETA_QUARANTINE_KEY_MAX], encoded[SHMETA_QUARANTINED_MAX];
	size_t key_bytes = make_key(q, tenant, key), bytes, out;
	struct shmeta__quarantined old = {.rows = 0};
	const void *value;
	enum shmeta_status status = number_key(q, key, key_bytes, err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__get(a->txn, SHMETA_DB_QUARANTINE, key, key_bytes, &value, &bytes, err);
	if (status < 0)
		return status;
	if (status == SHMETA_OK) {
		if (shmeta__quarantined_decode(value, bytes, key, key_bytes, 1, &old, &old_stamps) != SHMETA_OK)
			return shmeta_fail(err, SHMETA_ERR_CORRUPT,
			                   "the stored record of a quarantined row is damaged");
		row.since_ms = old.since_ms;
		if (q->partial && row.cls == SHMETA_CLASS_PARTITION && row.rows < old.rows)
			row.rows = old.rows;
		out = shmeta__quarantined_encode(&row, &old_stamps, key, key_bytes, encoded, sizeof encoded);
		if (out == bytes && memcmp(encoded, value, bytes) == 0)
			return SHMETA_OK;
	} else if (counters(a)->listed >= QUARANTINE_LISTED_MAX) {
		q->unlisted[row.cls] += row.rows;
		return SHMETA_OK;
	}
	out = shmeta__quarantined_encode(&row, &stamps, key, key_bytes, encoded, sizeof encoded);
	counters(a)->quarantined += row.rows - old.rows;
	if (old.rows == 0) {
		status = take_unlisted(a, &row, err);
		if (status < 0)
			return status;
		counters(a)->listed++;
		apply_note_quarantine(a, false, row.cls, row.sentence);
	}
	return apply_put(a, SHMETA_DB_QUARANTINE, key, key_bytes, encoded, out, row.cls, err);
}

enum shmeta_status quarantine_flush(struct apply *a, struct quarantine *q, struct shmeta_err *err)
{
	uint32_t tenant = 0;
	enum shmeta_status status = SHMETA_OK;

	if (!q->held)
		return SHMETA_OK;
	q->held = false;
	if (q->row.tenant.bytes > 0)
		status = shmeta__tenant(a->txn, q->row.tenant.data, q->row.tenant.bytes, 1, &tenant, err);
	return status == SHMETA_OK ? put(a, q, tenant, err) : status;
}

/* Keep the row until the next one tells what it is. */
static void hold(struct quarantine *q, const struct backend_key *row, uint64_t rows, const char *sentence)
{
	size_t bytes = strlen(sentence);

	q->held = true;
	q->row = *row;
	q->rows = rows;
	if (shmeta__name_error(row->tenant.data, row->tenant.bytes, SHMETA_TENANT_MAX) != NULL) {
		q->row.tenant = (struct shmeta_str){"", 0};
		q->row.unread |= BACKEND_UNREAD_TENANT;
	}
	keep_text(&q->row.tenant, q->tenant, sizeof q->tenant, BACKEND_UNREAD_TENANT, &q->row.unread);
	keep_text(&q->row.topic, q->topic, sizeof q->topic, BACKEND_UNREAD_TOPIC, &q->row.unread);
	keep_text(&q->row.name, q->name, sizeof q->name, BACKEND_UNREAD_NAME, &q->row.unread);
	q->sentence_bytes = bytes < sizeof q->sentence ? bytes : sizeof q->sentence;
	memcpy(q->sentence, sentence, q->sentence_bytes);
}

enum shmeta_status quarantine_row(struct apply *a, struct quarantine *q, const struct backend_key *row, uint64_t rows,
                                  const char *sentence, struct shmeta_err *err)
{
	enum shmeta_status status;

	if (q->held && quarantine_covers(&q->row, row)) {
		q->rows += rows;
		return SHMETA_OK;
	}
	status = quarantine_flush(a, q, err);
	if (status == SHMETA_OK)
		hold(q, row, rows, sentence);
	return status;
}

/* ---- extents ---- */

struct leaving { /* a record to be deleted, found while a cursor was open */
	struct leaving *next;
	uint64_t rows;
	enum shmeta_class cls;
	struct shmeta_str sentence;
	size_t bytes;
	uint8_t key[];
};

/* Which rows of those that begin with a prefix. */
struct extent {
	const struct backend_key *key; /* NULL: all of them */
	bool unnamed;                  /* without a key: only those of which not even the topic can
                                        * be read ... */
	enum shmeta_class last;        /* ... of the classes up to this one */
};

static bool unnamed(enum shmeta_class cls, struct shmeta_str topic, uint32_t unread)
{
	return cls <= SHMETA_CLASS_SEGMENT &&
	       (topic.bytes == 0 || (unread & (BACKEND_UNREAD_TENANT | BACKEND_UNREAD_TOPIC)) != 0);
}

bool quarantine_is_unnamed(const struct backend_key *row)
{
	return unnamed(row->cls, row->topic, row->unread);
}

static bool holds(const struct extent *extent, const struct shmeta__quarantined *row)
{
	const struct backend_key *key = extent->key;

	if (key == NULL)
		return !extent->unnamed || (row->cls <= extent->last && unnamed(row->cls, row->topic, row->unread));
	switch (key->cls) {
	case SHMETA_CLASS_PARTITION:
	case SHMETA_CLASS_LEASE:
		return (row->unread & BACKEND_UNREAD_PARTITION) == 0 && row->partition_id == key->partition_id;
	case SHMETA_CLASS_SEGMENT:
		if ((row->unread & BACKEND_UNREAD_PARTITION) != 0 || row->partition_id != key->partition_id)
			return false;
		return row->cls == SHMETA_CLASS_PARTITION ||
		       ((row->unread & BACKEND_UNREAD_BASE) == 0 && row->base >= key->from && row->base <= key->to);
	case SHMETA_CLASS_OFFSET:
		if (key->topic.bytes == 0 || (row->topic.bytes == 0 && (row->unread & BACKEND_UNREAD_TOPIC) == 0))
			return true;
		return row->unread == 0 && str_equal(row->topic, key->topic) && row->partition_id == key->partition_id;
	default:
		return true;
	}
}

static enum shmeta_status leave(struct apply *a, const struct leaving *l, struct shmeta_err *err)
{
	enum shmeta_status status = apply_delete(a, SHMETA_DB_QUARANTINE, l->key, l->bytes, l->cls, err);

	if (status < 0)
		return status;
	counters(a)->quarantined -= l->rows;
	counters(a)->listed--;
	apply_note_quarantine(a, true, l->cls, l->sentence);
	return SHMETA_OK;
}

/* Rows of the extent that were not reported leave. */
static enum shmeta_status sweep(struct apply *a, struct quarantine *q, const uint8_t *prefix, size_t prefix_bytes,
                                const struct extent *extent, struct shmeta_err *err)
{
	struct leaving *list = NULL;
	struct shmeta__cursor *cursor;
	enum shmeta_status status = shmeta__cursor_open(a->txn, SHMETA_DB_QUARANTINE, prefix_bytes > 0 ? prefix : NULL,
	                                                prefix_bytes, &cursor, err);

	if (status != SHMETA_OK)
		return status;
	for (;;) {
		const void *key, *value;
		size_t key_bytes, bytes;
		struct shmeta__quarantined row;
		struct leaving *l;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK || key_bytes < prefix_bytes ||
		    (prefix_bytes > 0 && memcmp(key, prefix, prefix_bytes) != 0))
			break;
		status = shmeta__quarantined_decode(value, bytes, key, key_bytes, 1, &row, NULL);
		if (status != SHMETA_OK) {
			status = shmeta_fail(err, status, "the stored record of a quarantined row is damaged");
			break;
		}
		if (keyset_has(&q->seen, hash_key(key, key_bytes)) || !holds(extent, &row))
			continue;
		l = arena_alloc(&a->arena, sizeof *l + key_bytes);
		if (l == NULL || arena_str(&a->arena, row.sentence, &l->sentence) != 0) {
			status =
				shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for quarantined rows that leave");
			break;
		}
		l->next = list;
		l->rows = row.rows;
		l->cls = row.cls;
		l->bytes = key_bytes;
		memcpy(l->key, key, key_bytes);
		list = l;
	}
	shmeta__cursor_close(cursor);
	for (; list != NULL && status >= 0; list = list->next)
		status = leave(a, list, err);
	return status < 0 ? status : SHMETA_OK;
}

static enum shmeta_status sweep_name(struct apply *a, struct quarantine *q, enum shmeta_class cls, uint32_t tenant,
                                     struct shmeta_str name, const struct extent *extent, struct shmeta_err *err)
{
	uint8_t prefix[SHMETA_QUARANTINE_KEY_MAX];

	return sweep(a, q, prefix, shmeta__quarantine_prefix(prefix, cls, tenant, name.data, name.bytes), extent, err);
}

/* exact: bits of the classes of which all was read, so that their numbers are exact. Of others it
 * is only known that there are some. */
static enum shmeta_status count_unlisted(struct apply *a, const uint64_t found[QUARANTINE_CLASSES], uint32_t exact,
                                         struct shmeta_err *err)
{
	uint64_t old[QUARANTINE_CLASSES], now[QUARANTINE_CLASSES], some = exact;
	enum shmeta_status status;

	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		some |= found[cls];
	if (some == 0)
		return SHMETA_OK;
	status = quarantine_unlisted(a->txn, old, err);
	if (status != SHMETA_OK)
		return status;
	memcpy(now, old, sizeof now);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++) {
		if ((exact >> cls & 1) != 0 || old[cls] == 0)
			now[cls] = found[cls];
		counters(a)->quarantined += now[cls] - old[cls];
		/* Told with the others, of which some have their sentence. */
		a->entered.count += now[cls] > old[cls] ? now[cls] - old[cls] : 0;
		a->left.count += now[cls] < old[cls] ? old[cls] - now[cls] : 0;
	}
	if (memcmp(old, now, sizeof now) == 0)
		return SHMETA_OK;
	return write_unlisted(a, now, err);
}

enum shmeta_status quarantine_read_end(struct apply *a, struct quarantine *q, struct shmeta_err *err)
{
	enum shmeta_status status = quarantine_flush(a, q, err);

	return status == SHMETA_OK ? count_unlisted(a, q->unlisted, 0, err) : status;
}

enum shmeta_status quarantine_key_end(struct apply *a, struct quarantine *q, const struct backend_key *key,
                                      struct shmeta_err *err)
{
	bool is_class = key->cls > SHMETA_CLASS_SEGMENT && backend_key_is_class(key);
	const struct extent extent = {.key = is_class ? NULL : key};
	const uint8_t class_prefix = (uint8_t)(key->cls + 1);
	struct shmeta_str name = name_of(key);
	enum shmeta_status status = quarantine_flush(a, q, err);
	uint32_t tenant;

	if (status == SHMETA_OK)
		status = count_unlisted(a, q->unlisted, is_class ? 1u << key->cls : 0, err);
	if (status != SHMETA_OK || counters(a)->listed == 0)
		return status;
	if (is_class)
		return sweep(a, q, &class_prefix, 1, &extent, err);
	if (name.bytes == 0 || name.bytes > SHMETA_NAME_MAX || key->tenant.bytes > SHMETA_TENANT_MAX)
		return SHMETA_OK;
	status = shmeta__tenant(a->txn, key->tenant.data, key->tenant.bytes, 0, &tenant, err);
	if (status != SHMETA_OK)
		return status < 0 ? status : SHMETA_OK;
	if ((key->cls == SHMETA_CLASS_TOPIC && !key->row_only) || key->cls == SHMETA_CLASS_SEGMENT)
		status = sweep_name(a, q, SHMETA_CLASS_PARTITION, tenant, name, &extent, err);
	if (status == SHMETA_OK && key->cls == SHMETA_CLASS_TOPIC && key->with_segments)
		status = sweep_name(a, q, SHMETA_CLASS_SEGMENT, tenant, name, &extent, err);
	return status == SHMETA_OK ? sweep_name(a, q, key->cls, tenant, name, &extent, err) : status;
}

enum shmeta_status quarantine_pass_end(struct apply *a, struct quarantine *q, struct shmeta_err *err)
{
	const struct extent everything = {.key = NULL};
	enum shmeta_status status = quarantine_flush(a, q, err);

	if (status == SHMETA_OK)
		status = count_unlisted(a, q->unlisted, EVERY_CLASS, err);
	if (status != SHMETA_OK || counters(a)->listed == 0)
		return status;
	return sweep(a, q, NULL, 0, &everything, err);
}

enum shmeta_status quarantine_unnamed_end(struct apply *a, struct quarantine *q, enum shmeta_class last,
                                          const uint64_t unlisted[QUARANTINE_CLASSES], struct shmeta_err *err)
{
	const struct extent extent = {.unnamed = true, .last = last};
	enum shmeta_status status = quarantine_flush(a, q, err);

	if (status == SHMETA_OK && unlisted != NULL)
		status = count_unlisted(a, unlisted, (2u << last) - 1, err);
	if (status != SHMETA_OK || counters(a)->listed == 0)
		return status;
	return sweep(a, q, NULL, 0, &extent, err);
}

/* ---- comparing ---- */

/* The row reported last, against the store. */
static enum shmeta_status compare_held(const struct quarantine_compare *c, struct shmeta_err *err)
{
	struct quarantine *q = c->q;
	uint8_t key[SHMETA_QUARANTINE_KEY_MAX];
	struct shmeta__quarantined stored;
	const void *value;
	size_t key_bytes, bytes;
	uint32_t tenant = 0;
	enum shmeta_status status = SHMETA_OK;
	bool same, full = shmeta__store_counters(c->store)->listed >= QUARANTINE_LISTED_MAX;

	if (!q->held)
		return SHMETA_OK;
	q->held = false;
	if (q->row.tenant.bytes > 0)
		status = shmeta__tenant(c->txn, q->row.tenant.data, q->row.tenant.bytes, 0, &tenant, err);
	if (status == SHMETA_OK) {
		key_bytes = make_key(q, tenant, key);
		status = number_key(q, key, key_bytes, err);
	}
	if (status == SHMETA_OK)
		status = shmeta__get(c->txn, SHMETA_DB_QUARANTINE, key, key_bytes, &value, &bytes, err);
	if (status < 0)
		return status;
	same = status == SHMETA_OK &&
	       shmeta__quarantined_decode(value, bytes, key, key_bytes, 1, &stored, NULL) == SHMETA_OK &&
	       stored.rows == q->rows &&
	       str_equal(stored.sentence, (struct shmeta_str){q->sentence, q->sentence_bytes});
	/* Where no more are listed, that one is not says nothing. */
	if (status == SHMETA_ABSENT && full) {
		q->unlisted[q->row.cls] += q->rows;
		same = true;
	}
	if (quarantine_is_unnamed(&q->row))
		c->unnamed(c->arg, &q->row, q->rows, (struct shmeta_str){q->sentence, q->sentence_bytes}, same);
	else if (!same)
		c->differs(c->arg, &q->row);
	return SHMETA_OK;
}

enum shmeta_status quarantine_compare_row(const struct quarantine_compare *c, const struct backend_key *row,
                                          const char *sentence, struct shmeta_err *err)
{
	enum shmeta_status status;

	if (c->q->held && quarantine_covers(&c->q->row, row)) {
		c->q->rows++;
		return SHMETA_OK;
	}
	status = compare_held(c, err);
	if (status == SHMETA_OK)
		hold(c->q, row, 1, sentence);
	return status;
}

enum shmeta_status quarantine_compare_end(const struct quarantine_compare *c, struct shmeta_err *err)
{
	struct shmeta__cursor *cursor;
	enum shmeta_status status = compare_held(c, err);

	if (status != SHMETA_OK || shmeta__store_counters(c->store)->listed == 0)
		return status;
	status = shmeta__cursor_open(c->txn, SHMETA_DB_QUARANTINE, NULL, 0, &cursor, err);
	if (status != SHMETA_OK)
		return status;
	for (;;) {
		const void *key, *value;
		size_t key_bytes, bytes;
		struct shmeta__quarantined row;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK)
			break;
		status = shmeta__quarantined_decode(value, bytes, key, key_bytes, 1, &row, NULL);
		if (status != SHMETA_OK || row.cls > SHMETA_CLASS_SEGMENT)
			break; /* the classes behind are read by the queue */
		if (!keyset_has(&c->q->seen, hash_key(key, key_bytes)))
			c->differs(c->arg, &(struct backend_key){.cls = row.cls,
			                                         .tenant = row.tenant,
			                                         .topic = row.topic,
			                                         .partition_id = row.partition_id,
			                                         .from = row.base,
			                                         .to = row.end,
			                                         .unread = row.unread});
	}
	shmeta__cursor_close(cursor);
	return status < 0 ? status : SHMETA_OK;
}

enum shmeta_status quarantine_has_orphans(struct apply *a, bool *ret, struct shmeta_err *err)
{
	static const enum shmeta_class classes[] = {SHMETA_CLASS_OFFSET, SHMETA_CLASS_LEASE};
	enum shmeta_status status = SHMETA_OK;

	*ret = false;
	if (counters(a)->listed == 0)
		return SHMETA_OK;
	for (size_t i = 0; i < sizeof classes / sizeof *classes && !*ret && status == SHMETA_OK; i++) {
		const uint8_t prefix = (uint8_t)(classes[i] + 1);
		const void *key, *value;
		size_t key_bytes, bytes;
		struct shmeta__cursor *cursor;

		status = shmeta__cursor_open(a->txn, SHMETA_DB_QUARANTINE, &prefix, 1, &cursor, err);
		if (status != SHMETA_OK)
			break;
		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		*ret = status == SHMETA_OK && *(const uint8_t *)key == prefix;
		shmeta__cursor_close(cursor);
		if (status == SHMETA_END)
			status = SHMETA_OK;
	}
	return status;
}
