/* SPDX-License-Identifier: Apache-2.0
 * Budgets of a bounded store (bounded.h).
 *
 * What a transaction changes is kept in a list; before the commit it goes into the residency, which
 * then says what has to leave. A transaction that ends otherwise leaves the residency in doubt: it
 * is made anew from the store before the next commit. */
#include "writer/keys/bounded.h"

#include <stdlib.h>
#include <syslog.h>

#include "shm/index/part.h"
#include "shm/page/touch.h"
#include "writer/daemon/limits.h"
#include "writer/engine/engine.h"
#include "writer/keys/absence_ring.h"
#include "writer/keys/oversized.h"
#include "writer/resident/evictions.h"

enum {
	VICTIMS_AT_ONCE = 256,
	ABSENCES_MIN = 1024, /* also where the writer remembers fewer: the reader that asked finds
                              * its answer in them */
	DROPS_AT_ONCE = 64,  /* for each one noted, where a reload has lowered how many there may
                              * be */
	TOPIC_BYTES = 300,   /* of a topic whose record was not looked at */
	BATCH_PART = 32      /* a batch loads no more than this part of the partitions */
};

#define COLLECT_NS SYNC_S
#define MISSED_NS (100 * SYNC_MS)

struct change {
	uint64_t key, bytes; /* 0: it is gone */
	uint64_t due_ns;     /* expiry.h */
	bool passing;
};

struct missed {
	uint32_t uid;
	struct shmeta_miss key;
};

struct bounded {
	struct resident_budget budget;
	struct resident_set *residency;
	uint64_t store; /* number of the store that it describes; 0: none */
	bool in_doubt;  /* it is made anew */
	bool added;     /* a record came in the last transaction */
	bool passing;   /* what is applied now was asked for with SHMETA_READ_NO_FILL alone */
	bool fitted;    /* it shows what the open transaction does */
	bool over_told;
	struct change *change;
	size_t change_count, change_capacity, settled; /* settled: of them, in the residency */
	uint8_t *seen;                                 /* touches as they were collected; NULL: not
                                                        * yet */
	uint64_t waited[SHMETA_TOUCHED_WORDS / 64];    /* the same of waits, which need no reader:
                                                        * by touched words */
	uint64_t collected_ns, missed_ns;
	struct missed *missed; /* taken from the readers, not in the queue yet */
	size_t missed_count, missed_room;
	struct absence_ring absences;
	bool absences_counted;
	bool absences_moved;                 /* in the open transaction */
	enum policy_level level, level_told; /* of the store as it was measured last */
	bool relieves;                       /* a batch is to leave for it */
	uint64_t relieved_ns;                /* when one did */
	struct oversized oversized;
	struct evictions evictions;
	uint64_t refused_bytes; /* of what bounded_too_large() found last */
};

/* ---- the state ---- */

/* Room for as many absences as the options say. What the store has beyond them leaves as others are
 * noted. */
static bool configure_absences(struct bounded *b, const struct sync_options *o)
{
	return absence_ring_configure(&b->absences, o->absent_max > ABSENCES_MIN ? o->absent_max : ABSENCES_MIN);
}

bool bounded_configure(struct sync *s)
{
	const struct sync_options *o = &s->options;
	struct bounded *b = s->bounded;

	if (!o->bounded)
		return true;
	if (b == NULL && (b = calloc(1, sizeof *b)) == NULL)
		return false;
	if (!configure_absences(b, o) && s->bounded == NULL) {
		free(b);
		return false;
	}
	s->bounded = b;
	const struct resident_budget budget = {.max_topics = o->max_topics,
	                                       .max_partitions = o->max_partitions,
	                                       .max_segment_bytes = o->max_segment_bytes,
	                                       .max_bytes = o->max_bytes,
	                                       .batch_percent = o->batch_percent,
	                                       .hot_touches = o->hot_touches};

	s->bounded->in_doubt |= memcmp(&s->bounded->budget, &budget, sizeof budget) != 0;
	s->bounded->budget = budget;
	return true;
}

void bounded_free(struct sync *s)
{
	struct bounded *b = s->bounded;

	if (b == NULL)
		return;
	absence_ring_free(&b->absences);
	free(b->change);
	free(b->seen);
	free(b->missed);
	resident_free(b->residency);
	evictions_free(&b->evictions);
	free(b);
	s->bounded = NULL;
}

bool bounded_has_room(const struct sync *s, uint64_t topics)
{
	return topics < s->bounded->budget.max_topics;
}

bool bounded_lacks(const struct sync *s, enum shmeta_class cls)
{
	return (shmeta__store_counters(s->store)->incomplete >> cls & 1) != 0;
}

size_t bounded_batch(const struct sync *s, size_t most)
{
	size_t part = s->bounded->budget.max_partitions / BATCH_PART + 1;

	return most < part ? most : part;
}

/* ---- what is resident ---- */

static void changed(void *arg, struct apply *a, enum shmeta_db db, const void *key, const void *value, size_t bytes)
{
	struct bounded *b = ((struct sync *)arg)->bounded;
	struct change change = {.bytes = bytes, .passing = b->passing};
	uint32_t topic_id;

	if (b->in_doubt || b->store != shmeta__store_number(a->store)) {
		b->in_doubt = true;
		return;
	}
	if (b->change_count == b->change_capacity) {
		size_t more = b->change_capacity == 0 ? 256 : b->change_capacity * 2;
		struct change *bigger = reallocarray(b->change, more, sizeof change);

		if (bigger == NULL) {
			b->in_doubt = true;
			return;
		}
		b->change = bigger;
		b->change_capacity = more;
	}
	if (db == SHMETA_DB_NAMES) {
		memcpy(&topic_id,
		       (const uint8_t *)value + sizeof(struct shmeta_record_head) +
		               offsetof(struct shmeta_topic_record, topic_id),
		       sizeof topic_id);
		change.key = (uint64_t)topic_id << 32 | RESIDENT_TOPIC;
	} else {
		memcpy(&change.key, key, sizeof change.key);
		if (db == SHMETA_DB_TOPICS)
			change.key = change.key << 32 | RESIDENT_TOPIC;
		else if (value != NULL) {
			change.due_ns = expiry_due_ns((const struct sync *)arg, value, bytes);
			change.bytes = shmeta__part_footprint(value, bytes);
		}
	}
	b->change[b->change_count++] = change;
}

static void ended(void *arg, bool committed)
{
	struct bounded *b = ((struct sync *)arg)->bounded;

	b->in_doubt |= b->fitted && !committed;
	/* The store has those again that were dropped, and nobody would drop them any more. */
	if (b->absences_moved && !committed)
		b->absences_counted = false;
	b->absences_moved = false;
	b->fitted = b->passing = false;
	b->change_count = b->settled = 0;
}

void bounded_apply(struct sync *s, const struct sync_entry *e)
{
	if (s->bounded == NULL)
		return;
	pthread_mutex_lock(&s->queue->lock);
	s->bounded->passing = e->want.no_fill && !e->want.fill;
	pthread_mutex_unlock(&s->queue->lock);
}

static void note_eviction(struct sync *s, struct apply *a, uint64_t key, enum policy_why why)
{
	struct shmeta_str tenant, name;
	struct shmeta_err err;

	if ((uint32_t)key != RESIDENT_TOPIC)
		evictions_note(&s->bounded->evictions, key, why, sync_now(s));
	else if (apply_topic_name(a->txn, (uint32_t)(key >> 32), &tenant, &name, &err) == SHMETA_OK)
		evictions_note(&s->bounded->evictions, evictions_topic(tenant, name), why, sync_now(s));
}

static enum shmeta_status evict(struct sync *s, struct apply *a, uint64_t key, struct shmeta_err *err)
{
	bool is_topic = (uint32_t)key == RESIDENT_TOPIC;
	uint64_t partitions = shmeta__store_counters(a->store)->partitions;

	note_eviction(s, a, key, resident_why(s->bounded->residency, key));

	enum shmeta_status status = is_topic ? apply_evict_topic(a, (uint32_t)(key >> 32), err)
	                                     : apply_evict_partition(a, (uint32_t)(key >> 32), (uint32_t)key, err);

	if (status < 0)
		return status;
	/* Also of what is not there: it is a victim no more. */
	resident_drop(s->bounded->residency, key);
	s->counters.evicted_topics += is_topic && status == SHMETA_OK;
	s->counters.evicted_partitions += partitions - shmeta__store_counters(a->store)->partitions;
	return SHMETA_OK;
}

/* Have leave what does not fit into a store of so many bytes, or (room) one record. *ret: how many
 * left. */
static enum shmeta_status make_room(struct sync *s, struct apply *a, uint64_t content, bool room, size_t *ret,
                                    struct shmeta_err *err)
{
	uint64_t victim[VICTIMS_AT_ONCE];
	enum shmeta_status status = SHMETA_OK;

	*ret = resident_victims(s->bounded->residency, content, room, victim, VICTIMS_AT_ONCE);
	for (size_t i = 0; i < *ret && status == SHMETA_OK; i++)
		status = evict(s, a, victim[i], err);
	return status;
}

static enum shmeta_status put(struct sync *s, struct apply *a, const struct change *c, struct shmeta_err *err)
{
	bool (*const enter)(struct resident_set * r, uint64_t key, uint64_t bytes) =
		c->passing ? resident_pass : resident_put;
	const uint64_t key = c->key, bytes = c->bytes;
	struct bounded *b = s->bounded;
	enum shmeta_status status = SHMETA_OK;
	size_t left = 1;

	/* An index larger than the budget would put everything else out, and still not fit. */
	if ((uint32_t)key != RESIDENT_TOPIC && bytes > b->budget.max_segment_bytes) {
		oversized_note(&b->oversized, key, bytes, sync_now(s));
		s->counters.too_large++;
		note_eviction(s, a, key, POLICY_TOO_LARGE);
		return apply_evict_partition(a, (uint32_t)(key >> 32), (uint32_t)key, err);
	}
	b->added |= !resident_has(b->residency, key);
	while (!enter(b->residency, key, bytes) && status == SHMETA_OK) {
		if (left == 0)
			return shmeta_fail(err, SHMETA_ERR_FULL, "there is no place for another resident record");
		status = make_room(s, a, 0, true, &left, err);
	}
	resident_expires(b->residency, key, c->due_ns);
	return status;
}

/* What the transaction has changed is in the residency afterwards. */
static enum shmeta_status settle(struct sync *s, struct apply *a, struct shmeta_err *err)
{
	struct bounded *b = s->bounded;
	enum shmeta_status status = SHMETA_OK;

	/* What leaves meanwhile is added behind the others. */
	while (b->settled < b->change_count && status >= 0 && !b->in_doubt) {
		const struct change change = b->change[b->settled++];

		if (change.bytes == 0)
			resident_drop(b->residency, change.key);
		else
			status = put(s, a, &change, err);
	}
	return status < 0 ? status : SHMETA_OK;
}

static enum shmeta_status note_all(struct sync *s, struct apply *a, enum shmeta_db db, struct shmeta_err *err)
{
	struct bounded *b = s->bounded;
	struct shmeta__cursor *cursor;
	enum shmeta_status status = shmeta__cursor_open(a->txn, db, NULL, 0, &cursor, err);

	while (status == SHMETA_OK) {
		const void *key, *value;
		size_t key_bytes, bytes;
		uint64_t number;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK)
			break;
		memcpy(&number, key, sizeof number);
		if (!resident_put(b->residency, db == SHMETA_DB_TOPICS ? number << 32 | RESIDENT_TOPIC : number,
		                  db == SHMETA_DB_TOPICS ? TOPIC_BYTES : shmeta__part_footprint(value, bytes)))
			status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "the store has more records than it counts");
		else if (db == SHMETA_DB_PARTS)
			resident_expires(b->residency, number, expiry_due_ns(s, value, bytes));
	}
	if (status >= 0)
		shmeta__cursor_close(cursor);
	return status == SHMETA_END ? SHMETA_OK : status;
}

/* The residency is what the transaction shows. */
static enum shmeta_status look(struct sync *s, struct apply *a, struct shmeta_err *err)
{
	enum { SPARE_MIN = 1024 };
	struct bounded *b = s->bounded;
	const struct shmeta_store_counters *c = shmeta__store_counters(a->store);
	uint64_t most = (uint64_t)b->budget.max_topics + b->budget.max_partitions, has = c->topics + c->partitions;
	uint64_t spare = (has > most ? has - most : 0) + most / 8 + SPARE_MIN;
	enum shmeta_status status;

	resident_free(b->residency);
	b->residency = spare < UINT32_MAX ? resident_new(&b->budget, (uint32_t)spare) : NULL;
	if (b->residency == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for what is resident");
	b->change_count = b->settled = 0;
	status = note_all(s, a, SHMETA_DB_TOPICS, err);
	if (status == SHMETA_OK)
		status = note_all(s, a, SHMETA_DB_PARTS, err);
	b->store = shmeta__store_number(a->store);
	b->in_doubt = status != SHMETA_OK;
	return status;
}

static bool was_used(void *arg, uint64_t key)
{
	const struct sync *s = arg;
	uint32_t word = shmeta__touched_partition((uint32_t)(key >> 32), (uint32_t)key);

	if (s->bounded->seen[touch_slot(key, s->options.touch_ceiling)] != 0)
		return true;
	return (uint32_t)key != RESIDENT_TOPIC && (s->bounded->waited[word / 64] >> word % 64 & 1) != 0;
}

/* What readers have used since the last time. */
static void collect_touches(struct sync *s)
{
	struct bounded *b = s->bounded;

	if (s->host.touched == NULL || s->options.touch_ceiling == 0 || b->residency == NULL)
		return;
	if (b->seen == NULL)
		b->seen = malloc(s->options.touch_ceiling);
	if (b->seen == NULL)
		return;
	memset(b->seen, 0, s->options.touch_ceiling);
	s->host.touched(s->host.arg, b->seen, s->options.touch_ceiling);
	memset(b->waited, 0, sizeof b->waited);
	if (s->host.waited != NULL)
		s->host.waited(s->host.arg, b->waited);
	resident_touch(b->residency, was_used, s);
	b->collected_ns = sync_now(s);
}

/* Under the registry's lock. */
static void note_missed(void *arg, uint32_t uid, const struct shmeta_miss *miss)
{
	struct bounded *b = arg;

	if (b->missed_count == b->missed_room) {
		size_t more = b->missed_room == 0 ? SHMETA_MISSES : b->missed_room * 2;
		struct missed *bigger = reallocarray(b->missed, more, sizeof *bigger);

		if (bigger == NULL)
			return; /* whoever looks again leaves it again */
		b->missed = bigger;
		b->missed_room = more;
	}
	b->missed[b->missed_count++] = (struct missed){uid, *miss};
}

/* Have loaded what lookups met unknown. */
static void load_missed(struct sync *s)
{
	struct bounded *b = s->bounded;

	b->missed_count = 0;
	s->host.missed(s->host.arg, note_missed, b);
	for (size_t i = 0; i < b->missed_count; i++) {
		const struct shmeta_miss *m = &b->missed[i].key;
		const bool is_topic = m->partition_id == SHMETA_MISS_TOPIC;
		const struct backend_key key = {.cls = is_topic ? SHMETA_CLASS_TOPIC : SHMETA_CLASS_PARTITION,
		                                .topic = {m->text, m->name_bytes},
		                                .tenant = {m->text + m->name_bytes, m->tenant_bytes},
		                                .partition_id = is_topic ? 0 : m->partition_id,
		                                .to = UINT64_MAX};
		bool taken = queue_missed(s, &key, b->missed[i].uid);

		s->counters.missed += taken;
		s->counters.missed_dropped += !taken;
	}
}

static uint64_t collect_every_ns(const struct sync *s)
{
	uint64_t due_ns = 5 * expiry_every_ns(s);

	return expiry_is_by_record(&s->expiry) && due_ns < COLLECT_NS ? due_ns : COLLECT_NS;
}

/* ---- pressure ---- */

void bounded_pressed(struct sync *s, const struct shmeta__store_room *room)
{
	static const char *const name[] = {"normal", "elevated", "high", "critical"};
	uint64_t taken = room->used_bytes + room->pinned_bytes;
	uint64_t limit = limits_file_bytes(s->dir_fd, room->file_bytes, room->max_bytes);
	struct bounded *b = s->bounded;

	if (b == NULL)
		return;
	b->level = b->residency != NULL ? resident_level(b->residency, taken, limit) : POLICY_NORMAL;
	b->relieves = b->level >= POLICY_HIGH && room->used_bytes >= room->pinned_bytes;
	s->counters.pressure = b->level;
	if (b->level > b->level_told && b->level >= POLICY_HIGH)
		sync_log(s, LOG_WARNING, "bounded_pressure",
		         "%llu of the %llu bytes that the store may take are taken, %llu of them by what readers pin: "
		         "pressure is %s",
		         (unsigned long long)taken, (unsigned long long)limit, (unsigned long long)room->pinned_bytes,
		         name[b->level]);
	if (b->level > b->level_told || b->level == POLICY_NORMAL)
		b->level_told = b->level;
}

/* What leaves is free one grace period later: only then is it known whether it was enough. */
static uint64_t relief_when(const struct sync *s)
{
	return s->bounded->relieved_ns + (s->options.grace_ns > SYNC_S ? s->options.grace_ns : SYNC_S);
}

static bool relief_is_due(struct sync *s)
{
	return s->bounded->relieves && s->bounded->residency != NULL && sync_now(s) >= relief_when(s);
}

/* Have a batch leave a store with that content. */
static enum shmeta_status relieve(struct sync *s, struct apply *a, uint64_t content, struct shmeta_err *err)
{
	struct bounded *b = s->bounded;
	uint64_t victim[VICTIMS_AT_ONCE], due = resident_relief(b->residency, b->level, content), left = 0;
	uint64_t partitions = s->counters.evicted_partitions;
	enum shmeta_status status = SHMETA_OK;
	size_t n = 1;

	b->relieved_ns = sync_now(s);
	while (n > 0 && left < due && status == SHMETA_OK) {
		uint64_t before = resident_bytes(b->residency);

		n = resident_relieve(b->residency, b->level, content, victim, VICTIMS_AT_ONCE);
		for (size_t i = 0; i < n && status == SHMETA_OK; i++)
			status = evict(s, a, victim[i], err);
		left += before - resident_bytes(b->residency);
	}
	s->counters.relieved += s->counters.evicted_partitions - partitions;
	return status;
}

/* Also where nothing else is committed. */
static enum shmeta_status relieve_now(struct sync *s, const struct apply_host *host, struct shmeta_err *err)
{
	uint64_t txn, began_ns = sync_now(s);
	enum shmeta_status status;

	if (!s->bounded->relieves || s->store == NULL || !store_is_writable(s) || !store_takes(s))
		return SHMETA_OK;
	if (relief_is_due(s)) {
		status = apply_begin(&s->apply, s->store, host, sync_oldest_pin(s), false, err);
		if (status == SHMETA_OK)
			status = apply_commit(&s->apply, &txn, err);
		if (status != SHMETA_OK) {
			apply_abort(&s->apply);
			return status;
		}
		sync_count_commit(s, &s->apply, began_ns);
	}
	sync_wake_at(s, relief_when(s));
	return SHMETA_OK;
}

enum shmeta_status bounded_run(struct sync *s, const struct apply_host *host, struct shmeta_err *err)
{
	struct bounded *b = s->bounded;
	uint64_t now = sync_now(s);
	enum shmeta_status status;

	if (b == NULL)
		return SHMETA_OK;
	if (now >= b->collected_ns + collect_every_ns(s))
		collect_touches(s);
	status = relieve_now(s, host, err);
	if (s->host.missed == NULL)
		return status;
	if (now >= b->missed_ns + MISSED_NS) {
		b->missed_ns = now;
		load_missed(s);
	}
	sync_wake_at(s, b->missed_ns + MISSED_NS);
	return status;
}

static enum shmeta_status fit(void *arg, struct apply *a, struct shmeta_err *err)
{
	struct sync *s = arg;
	struct bounded *b = s->bounded;
	enum shmeta_status status = SHMETA_OK;
	uint64_t content = 0;
	size_t left = 1;
	bool looked = false;

	b->fitted = true;
	if (b->residency == NULL || b->in_doubt || b->store != shmeta__store_number(a->store))
		status = look(s, a, err);
	if (status == SHMETA_OK)
		resident_clock(b->residency, sync_now(s));
	if (status == SHMETA_OK && b->added)
		resident_tick(b->residency);
	b->added = false;
	if (status == SHMETA_OK && relief_is_due(s)) {
		collect_touches(s);
		looked = true;
		status = settle(s, a, err);
		if (status == SHMETA_OK)
			status = shmeta__txn_content(a->txn, &content, err);
		if (status == SHMETA_OK)
			status = relieve(s, a, content, err);
	}
	while (left > 0 && status == SHMETA_OK) {
		status = settle(s, a, err);
		if (status == SHMETA_OK)
			status = shmeta__txn_content(a->txn, &content, err);
		if (status != SHMETA_OK || !resident_exceeds(b->residency, content))
			break;
		if (!looked)
			collect_touches(s);
		looked = true;
		status = make_room(s, a, content, false, &left, err);
	}
	if (status == SHMETA_OK)
		s->counters.bounded_over = content > b->budget.max_bytes ? content - b->budget.max_bytes : 0;
	if (status == SHMETA_OK && content <= b->budget.max_bytes)
		b->over_told = false;
	if (status == SHMETA_OK && content > b->budget.max_bytes && !b->over_told) {
		sync_log(s, LOG_WARNING, "bounded_over",
		         "agents, leases, offsets and absences alone take %llu bytes of the store, and "
		         "bounded.max_bytes is %llu",
		         (unsigned long long)content, (unsigned long long)b->budget.max_bytes);
		b->over_told = true;
	}
	return status;
}

const struct apply_watch bounded_watch = {.ttl_ms = expiry_ttl_ms, .changed = changed, .fit = fit, .ended = ended};

const struct resident_set *bounded_residency(const struct sync *s)
{
	return s->bounded->residency;
}

const struct evictions *bounded_evictions(const struct sync *s)
{
	return &s->bounded->evictions;
}

void bounded_look_again(struct sync *s)
{
	s->bounded->in_doubt = true;
}

size_t bounded_due(struct sync *s, uint64_t now_ns, uint64_t again_ns, uint64_t *ret_keys, size_t n)
{
	struct bounded *b = s->bounded;

	/* Under pressure what expires is read when somebody asks for it. */
	return b->residency == NULL || b->level >= POLICY_ELEVATED
	               ? 0
	               : resident_due(b->residency, now_ns, again_ns, ret_keys, n);
}

/* ---- what is too large ---- */

uint64_t bounded_too_large(struct sync *s, uint64_t key)
{
	struct bounded *b = s->bounded;
	uint64_t bytes = oversized_bytes(&b->oversized, key, sync_now(s));

	/* A reload may have raised the budget. */
	b->refused_bytes = bytes > b->budget.max_segment_bytes ? bytes : 0;
	return b->refused_bytes;
}

uint64_t bounded_refused_bytes(const struct sync *s)
{
	return s->bounded->refused_bytes;
}

/* ---- absences ---- */

static enum shmeta_status note(struct sync *s, const struct sync_entry *e, uint64_t read_at_ns, struct shmeta_err *err)
{
	struct bounded *b = s->bounded;
	struct apply *a = &s->apply;
	uint8_t key[SHMETA_ABSENT_KEY_MAX];
	size_t bytes;
	enum shmeta_status status = apply_absence_note(a, e->tenant, e->topic,
	                                               e->kind == ENTRY_TOPIC ? APPLY_ABSENT_TOPIC : e->partition_id,
	                                               read_at_ns, key, &bytes, err);

	if (status != SHMETA_OK || bytes == 0)
		return status;
	b->absences_moved = true;
	for (int i = 0; i < DROPS_AT_ONCE && absence_ring_is_full(&b->absences) && status == SHMETA_OK; i++) {
		struct absence *oldest = absence_ring_take(&b->absences);

		status = apply_absence_drop(a, oldest->key, oldest->bytes, err);
		free(oldest);
	}
	/* What nobody could take away again is not noted. */
	return status == SHMETA_OK && !absence_ring_add(&b->absences, key, bytes)
	               ? apply_absence_drop(a, key, bytes, err)
	               : status;
}

enum shmeta_status bounded_note_absences(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;
	enum shmeta_status status = SHMETA_OK;

	/* Nobody counts the absences that another writer left. */
	if (!s->bounded->absences_counted)
		status = bounded_forget_absences(s, &s->apply, err);
	s->bounded->absences_counted |= status == SHMETA_OK;
	for (size_t i = 0; i < b->key_count && status == SHMETA_OK; i++) {
		const struct fetched_key *g = &b->fetched[i];
		const struct sync_entry *e = g->entry;

		if (e == NULL || e->kind > ENTRY_PART)
			continue;
		bool there = g->found && (e->kind == ENTRY_TOPIC ? g->has_topic : g->part_count > 0);

		pthread_mutex_lock(&s->queue->lock);
		bool asked = e->tickets != NULL || e->want.topic_asked || e->want.missed;

		pthread_mutex_unlock(&s->queue->lock);
		if (there)
			status = apply_absences_forget(&s->apply, &e->tenant, e->topic, err);
		else if (asked)
			status = note(s, e, b->read_at_ns, err);
	}
	return status;
}

enum shmeta_status bounded_forget_absences(struct sync *s, struct apply *a, struct shmeta_err *err)
{
	absence_ring_forget(&s->bounded->absences);
	s->bounded->absences_moved = true;
	return apply_absences_forget(a, NULL, (struct shmeta_str){"", 0}, err);
}
