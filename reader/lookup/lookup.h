/* SPDX-License-Identifier: Apache-2.0
 * lookup/: answers from a snapshot.
 *
 * struct shmeta_handle is a partition as one reader knows it, the caller's or an element of the
 * cache behind the *_named calls; it owns a struct shmeta__part. struct shmeta_iter is a list under
 * way; struct name_entry a topic's name in the reader's cache. Caches, handles and iterators belong
 * to the reader; handles and iterators outlive it detached.
 *
 * Layers, bottom up: age.c, walk.c (databases and iterators), names.c, head_places.c;
 * quarantined.c; resident.c; handle.c; fresh.c; then the public lookups: topic.c, partition.c,
 * segment.c, plan.c, advisory.c, advisory_list.c, await.c; columns.c and once.c are built of these.
 * copy.c stands apart.
 *
 * The inline functions below are what every lookup does before and after it has looked: may it, how
 * old is the answer, does it still hold. */
#ifndef SHMETA_READER_LOOKUP_LOOKUP_H
#define SHMETA_READER_LOOKUP_LOOKUP_H

#include <string.h>

#include "base/probes.h"
#include "base/row_limits.h"
#include "reader/request/request.h"
#include "reader/snapshot/snapshot.h"
#include "shm/index/part.h"
#include "shm/page/histogram.h"
#include "shm/record/record.h"

#define NOT_READY UINT64_MAX /* no commit */

/* What a find by handle reads comes first: two cache lines, and a third for its age. */
struct shmeta_handle {
	const uint64_t *fork_word;
	uint64_t fork_token;
	struct shmeta_reader *reader;
	uint64_t ready; /* the snapshot in which `part` may be used without a look; NOT_READY:
                         * none */
	struct shmeta__part part;
	uint64_t known;  /* the commit for which `part` (or `absent`) is known to be right; 0:
                          * none */
	uint32_t absent; /* 1: not there in the commit known; 2: never again */
	uint32_t pinned; /* 1: the head lies on pages of its own */
	uint64_t part_key;
	uint64_t lineage; /* of the env in which part_key means the partition */
	int64_t topic_created_at_ms;
	uint32_t word; /* touched word */
	uint32_t topic_bytes;
	struct shmeta_handle *next, **link; /* the caller's handles of this reader */
	char topic[];
} __attribute__((aligned(64)));

struct name_entry {
	uint64_t hash;
	uint64_t known;      /* the commit for which the topic's number is known to be right */
	uint64_t record_txn; /* the commit for which all of topic and stamps is */
	struct shmeta_topic topic;
	struct shmeta__stamps stamps;
	uint32_t name_bytes; /* 0: empty */
	char name[92];       /* longer names are not kept */
};

/* ---- walking a database, iterators (walk.c) ---- */

struct walk {
	enum shmeta_db db;
	int started;
	struct shmeta__tree_place place;
};
void shmeta__walk_open(enum shmeta_db db, struct walk *ret);
/* The first entry at or behind key (key NULL: the next one). OK, END, ERR_CORRUPT, ERR_EXPIRED. */
enum shmeta_status shmeta__walk_next(struct shmeta_reader *reader, struct walk *walk, const void *key, size_t key_bytes,
                                     const uint8_t **ret_key, size_t *ret_key_bytes, const void **ret_value,
                                     size_t *ret_bytes);
/* The entry that was shown lies behind what the walk is about. END, or ERR_CORRUPT: it is not the
 * one that the writer put there. */
enum shmeta_status shmeta__walk_ends(const struct walk *walk, const uint8_t *key, size_t key_bytes, const void *value,
                                     size_t bytes);

enum iter_kind {
	ITER_TOPICS,
	ITER_PARTITIONS,
	ITER_SEGMENTS,
	ITER_AGENTS,
	ITER_LEASES,
	ITER_OFFSETS,
	ITER_GROUPS,
	ITER_CHANGES
};

/* Topics that a list of leases or offsets visits, in order of name. */
struct topic_range {
	uint32_t topic_id;
	uint32_t name_bytes;
	const char *name;
};

struct iter_text { /* the caller's; NULL: none */
	const char *text;
	size_t bytes;
};

/* A text to compare with; NULL: none. Of segments the first one is the topic. */
struct iter_filter {
	char *text;
	size_t bytes;
};

struct shmeta_iter {
	enum iter_kind kind;
	uint32_t serial; /* of the snapshot it belongs to */
	const uint64_t *fork_word;
	uint64_t fork_token;
	struct shmeta_reader *reader; /* whose snapshot it walks */
	struct shmeta_reader *keeper; /* whose list it is in: `reader`, or the one that `reader` was
                                       * made beside */
	struct shmeta_iter *next, **link;
	struct walk walk;
	uint32_t tenant;
	uint32_t topic_id;
	uint32_t partition_id; /* segments */
	uint32_t done;
	uint32_t never; /* 1: whatever is quarantined, nothing of it belongs into the list */
	int64_t now_ms;
	struct iter_filter filter[2]; /* topics: glob; agents: group, zone; leases: topic, agent */
	struct topic_range *ranges;   /* leases and offsets: in order of name */
	size_t range_count, range;
	struct shmeta__part part; /* segments */
	struct shmeta__part_cursor cursor;
	struct shmeta__journal_part changes;
	size_t prefix_bytes; /* what all keys of the list begin with */
	uint8_t prefix[SHMETA_KEY_MAX];
	size_t skip_bytes; /* the walk begins at this key when it is behind the prefix */
	uint8_t skip[SHMETA_KEY_MAX];
};
/* db: what it walks; SHMETA_DB_COUNT: nothing. */
enum shmeta_status shmeta__iter_new(struct shmeta_reader *reader, enum iter_kind kind, enum shmeta_db db,
                                    struct shmeta_iter **ret);
/* The next entry whose key begins with the prefix. */
enum shmeta_status shmeta__iter_walk(struct shmeta_iter *iter, const uint8_t **ret_key, size_t *ret_key_bytes,
                                     const void **ret_value, size_t *ret_bytes);
/* The iterator goes on in the snapshot of its reader, which was made aside of the keeper and is the
 * iterator's from now on. */
void shmeta__iter_keep(struct shmeta_iter *iter, struct shmeta_reader *keeper);
/* Frees what it holds of its reader, which goes; the iterator itself is its owner's. */
void shmeta__iter_detach(struct shmeta_iter *iter);
/* May this call go on with the iterator? */
enum shmeta_status shmeta__iter_ready(const struct shmeta_iter *iter, enum iter_kind kind);

/* When an answer was last known to be true, as far as its own record says. */
struct known {
	uint64_t synced_at_ns;
	uint32_t ttl_ms; /* 0: the class's */
};

/* ---- ages (age.c) ---- */

/* Sets what it found in the reader. Once a second. */
void shmeta__reader_judge_clock(struct shmeta_reader *r, uint64_t monotonic_ns);

/* ---- quarantined rows (quarantined.c) ---- */

/* What a lookup did not find. */
/* Offsets, both inclusive. */
struct span {
	uint64_t first, last;
	int begins; /* 1: a segment counts by its base alone; 0: by all that it may hold */
};
struct missing {
	enum shmeta_class cls; /* TOPIC, PARTITION, SEGMENT; AGENT, LEASE, OFFSET */
	const char *name;      /* the topic, NULL: any; the agent; of offsets: the group */
	size_t name_bytes;
	const char *topic; /* of offsets */
	size_t topic_bytes;
	uint32_t partition_id;
	const struct span *span; /* SEGMENT: what it is to hold some of; NULL: anything */
};
/* `absent`, or UNKNOWN when the source has a row that may be the one and cannot be served.
 * ERR_CORRUPT, ERR_EXPIRED. */
enum shmeta_status shmeta__missing(struct shmeta_reader *reader, const struct missing *missing,
                                   enum shmeta_status absent);

/* UNKNOWN: the source has quarantined rows that belong into the list, whose iterator is ready;
 * otherwise OK, ERR_*. */
enum shmeta_status shmeta__iter_quarantined(const struct shmeta_iter *iter);
/* Does this snapshot lack some of the class? ERR_*. */
enum shmeta_status shmeta__incomplete(struct shmeta_reader *reader, enum shmeta_class cls, int *ret);

/* ---- records that are not resident (resident.c) ---- */

/* As shmeta__missing(), of a record that is looked up by its key in a store that may lack some. */
enum shmeta_status shmeta__lacking(struct shmeta_reader *reader, const struct missing *missing,
                                   enum shmeta_status absent);

/* ---- names of topics (names.c) ---- */

/* What is known of a topic by name. */
struct found_topic {
	struct shmeta_topic topic;
	struct shmeta__stamps stamps;
};
/* Look it up in the store, and keep it in the reader's cache. OK, ABSENT, ERR_*. */
enum shmeta_status shmeta__names_load(struct shmeta_reader *reader, uint32_t tenant, const char *name, size_t bytes,
                                      uint64_t hash, struct found_topic *ret);
/* Before many names are looked up: have the memory fetch where the cache would have each. */
void shmeta__name_fetch(const struct shmeta_reader *reader, const struct shmeta_str *name);
void shmeta__names_forget(struct shmeta_reader *reader); /* all of it; the memory goes back */
/* The topic's number: OK, ABSENT, ERR_*. */
enum shmeta_status shmeta__topic_resolve(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                         uint32_t *ret_id);
/* The same with its record. */
enum shmeta_status shmeta__topic_record(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                        struct shmeta_topic *ret);
/* Its record's time where that counts alone (SHMETA_SYNCED_ALONE), otherwise 0. */
enum shmeta_status shmeta__topic_alone(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                       uint64_t *ret_synced_at_ns);
/* The name of a topic of any tenant in this snapshot: tenant number and view. ABSENT when it is
 * gone. */
enum shmeta_status shmeta__topic_name(struct shmeta_reader *reader, uint32_t topic_id, uint32_t *ret_tenant,
                                      struct shmeta_str *ret_name);

/* ---- where heads lie (head_places.c) ---- */

/* Remember where the head was found in this snapshot, and that its checksum was verified. */
void shmeta__places_keep(struct shmeta_reader *reader, uint64_t part_key, const void *head, size_t bytes);
/* A head that is right for this snapshot. word: the partition's touched word. NULL: look it up. */
const void *shmeta__places_find(struct shmeta_reader *reader, uint64_t part_key, uint32_t word, size_t *ret_bytes);
/* Before many are found: have the memory fetch where the place would be. */
void shmeta__places_fetch(const struct shmeta_reader *reader, uint64_t part_key);
void shmeta__places_forget(struct shmeta_reader *reader); /* all of it; the memory goes back */

/* ---- handles (handle.c) ---- */

/* A cached handle for the partition, made right for the snapshot; valid until the next call. When
 * it is not there: the right one of ABSENT and UNKNOWN, with its age by class cls. */
enum shmeta_status shmeta__partition_named(struct shmeta_reader *reader, const char *topic, size_t topic_bytes,
                                           uint32_t partition_id, enum shmeta_class cls, uint64_t assured_ns,
                                           struct shmeta_freshness *ret_fresh, struct shmeta_handle **ret);
/* Before finds by name: have the memory fetch what leads to their partitions, side by side. At most
 * AT_A_TIME of them. */
void shmeta__partitions_fetch(struct shmeta_reader *reader, const struct shmeta_find_named *finds, size_t count);
/* A handle for the partition that is wanted, right for the snapshot and in no list;
 * shmeta__handle_free(). When it is not there, as shmeta__partition_named(). */
enum shmeta_status shmeta__handle_named(struct shmeta_reader *reader, const struct want *want, uint64_t assured_ns,
                                        struct shmeta_freshness *ret_fresh, struct shmeta_handle **ret);
/* The handle's partition for another reader; shmeta__handle_free(). */
struct shmeta_handle *shmeta__handle_for(const struct shmeta_handle *handle, struct shmeta_reader *reader);
void shmeta__handle_free(struct shmeta_handle *handle); /* one that is in no list; accepts NULL */
enum shmeta_status shmeta__handle_absent(struct shmeta_handle *handle, enum shmeta_class cls, uint64_t assured_ns,
                                         struct shmeta_freshness *ret_fresh);
/* Make the handle right for the snapshot: OK or ABSENT, ERR_*. */
enum shmeta_status shmeta__partition_resolve(struct shmeta_handle *handle);
void shmeta__handle_detach(struct shmeta_handle *handle); /* as shmeta__iter_detach() */
/* Why a handle cannot be used whose fork word is not its token. */
enum shmeta_status shmeta__handle_unusable(const struct shmeta_handle *handle);
/* The answer for a partition that was not found: its topic is absent, or the topic has no partition
 * of that number. */
enum shmeta_status shmeta__partition_absent(struct shmeta_reader *reader, enum shmeta_class cls,
                                            const struct missing *missing, uint64_t assured_ns,
                                            struct shmeta_freshness *ret_fresh);
/* Handles lose what they know of the env; cached ones are freed. */
void shmeta__handles_forget(struct shmeta_reader *reader);

/* ---- reads that may ask the writer, or leave no trace (fresh.c) ---- */

/* Answer from a reader's snapshot, or by a handle of that reader; what was found goes to arg.
 * assured_ns: when the source was last read, as far as the writer said; 0: it was not asked. */
typedef enum shmeta_status shmeta__answer_fn(void *arg, struct shmeta_reader *reader, struct shmeta_handle *handle,
                                             uint64_t assured_ns, struct shmeta_freshness *ret_fresh);

/* Answer; where the read's options do not let that answer do, ask the writer for what is wanted,
 * wait until the store shows it, and answer again: in the caller's reader when the read lets it
 * move, otherwise in one of the call's own, so that the caller's snapshot stays what it is. handle:
 * NULL for lookups by name. The last step of a lookup, as lookup_done(). ret_fresh may be NULL. */
enum shmeta_status shmeta__fresh_lookup(struct shmeta_reader *reader, struct shmeta_handle *handle,
                                        const struct want *want, const struct shmeta_read *read,
                                        shmeta__answer_fn *answer, void *arg, struct shmeta_freshness *ret_fresh);

/* A whole lookup by name of the partition that is wanted, from what answers it by handle; for those
 * that look up one. */
enum shmeta_status shmeta__lookup_named(struct shmeta_reader *reader, const struct want *want,
                                        const struct shmeta_read *read, shmeta__answer_fn *answer, void *arg,
                                        struct shmeta_freshness *ret_fresh);

/* Make a list of what the reader's snapshot shows, as shmeta__answer_fn answers. ret_fresh: of the
 * list as a whole; NULL: nobody asks. *ret is written with OK only. */
typedef enum shmeta_status shmeta__list_fn(void *arg, struct shmeta_reader *reader, struct shmeta_handle *handle,
                                           uint64_t assured_ns, struct shmeta_freshness *ret_fresh,
                                           struct shmeta_iter **ret);
/* As shmeta__fresh_lookup(), for lists, with any options. Where the reader may not move, the
 * iterator keeps the snapshot that was made for it. */
enum shmeta_status shmeta__list(struct shmeta_reader *reader, struct shmeta_handle *handle, const struct want *want,
                                const struct shmeta_read *read, shmeta__list_fn *list, void *arg,
                                struct shmeta_iter **ret);

/* Many lookups of one reader. begin(): all are answered now, in order; what was answered before is
 * void. want(): what the source is to be asked for lookup i. answer(): as shmeta__answer_fn. */
struct shmeta__many {
	size_t count;
	void *arg;
	void (*begin)(void *arg);
	void (*want)(const void *arg, size_t i, struct want *ret);
	enum shmeta_status (*answer)(void *arg, struct shmeta_reader *reader, size_t i, uint64_t assured_ns,
	                             struct shmeta_freshness *ret_fresh);
};
/* Answer all; ask the writer for those whose answer does not do, side by side; then answer all anew
 * from one newer snapshot. A lookup that the writer could not do has its status. */
enum shmeta_status shmeta__fresh_many(struct shmeta_reader *reader, const struct shmeta__many *many,
                                      const struct shmeta_read *read, enum shmeta_status *ret_status);

/* ---- advisory.c ---- */

/* What the source's clock says when the host's says now_ms. */
int64_t shmeta__by_source(const struct shmeta_reader *reader, int64_t now_ms);
/* now_ms: by the source's clock */
int shmeta__lease_held(const struct shmeta_lease *lease, int64_t now_ms);
void shmeta__advisory_age(struct shmeta_reader *reader, enum shmeta_class cls, const struct shmeta__stamps *stamps,
                          struct shmeta_freshness *ret_fresh);

/* ---- topic.c ---- */

/* A topic that is not there: absent as far as the list of topics is known. */
enum shmeta_status shmeta__topic_absent(struct shmeta_reader *reader, const char *name, size_t bytes,
                                        const struct known *known, struct shmeta_freshness *ret_fresh);

/* ---- segment.c ---- */

/* The inside of shmeta_find_segment(). */
enum shmeta_status shmeta__segment_find(struct shmeta_handle *handle, uint64_t offset, uint64_t assured_ns,
                                        struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh);

/* shmeta_find_segment_for_timestamp() by name; timestamp_ms NULL: shmeta_last_segment(). */
enum shmeta_status shmeta__other_segment_named(struct shmeta_reader *reader, const struct want *want,
                                               const int64_t *timestamp_ms, const struct shmeta_read *read,
                                               struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh);

/* No resident segment holds any of the offsets first to last, which lie below the high watermark:
 * ABSENT_GAP; UNKNOWN: one that is not resident, or cannot be read, may. ERR_*. */
enum shmeta_status shmeta__segment_hole(struct shmeta_handle *handle, uint64_t first, uint64_t last);

/* ---- plan.c ---- */

/* shmeta_plan_fetch() by name. */
enum shmeta_status shmeta__plan_fetch_named(struct shmeta_reader *reader, const struct want *want,
                                            const struct shmeta_fetch *fetch, const struct shmeta_read *read,
                                            struct shmeta_fetch_plan *ret, struct shmeta_freshness *ret_fresh);

/* ---- before and after each lookup ---- */

#define FOR_EVER UINT64_MAX /* a time to live, of what cannot become otherwise */

static inline enum shmeta_status lookup_ready(const struct shmeta_reader *r)
{
	if (unlikely(shmeta_peek(r->fork_word) != r->fork_token))
		return SHMETA_ERR_FORKED;
	return likely(r->snapshot != 0) ? SHMETA_OK : SHMETA_ERR_NO_SNAPSHOT;
}

/* When the class was last known to be true as this snapshot shows it; 0: the class was not complete
 * in it. A stamp of a later commit says nothing about this snapshot: then the stamp that the reader
 * saw before holds. */
static inline uint64_t class_synced_at(struct shmeta_reader *r, enum shmeta_class cls)
{
	const struct shmeta_stamp *stamp = &r->gen->stamp[cls];
	uint64_t synced = shmeta_observe(&stamp->synced_at_ns); /* PAIR 3: a stamp's commit before its time */

	if (likely(shmeta_observe(&stamp->txn) <= r->snapshot))
		r->seen[cls] = synced;
	return r->seen[cls];
}

static inline uint64_t reader_now_ns(struct shmeta_reader *r)
{
	uint64_t monotonic = likely(r->clock == CLOCK_COARSE) ? shmeta__coarse_boottime_ns(0) : shmeta__monotonic_ns();
	int64_t offset = shmeta_peek(&r->gen->boot_offset_ns);

	if (unlikely(monotonic >= r->judge_ns))
		shmeta__reader_judge_clock(r, monotonic);
	if (unlikely(offset < r->offset_least))
		offset = r->offset_least;
	return monotonic + (uint64_t)offset;
}

/* The class was not verified in this boot: the answer has the age of the file it came from, or, if
 * its key was read since, that. */
void shmeta__lookup_age_unproved(uint64_t now_ns, uint64_t synced_at_ns, const struct known *known,
                                 struct shmeta_freshness *ret);

static inline void lookup_age(struct shmeta_reader *r, enum shmeta_class cls, int hint, const struct known *known,
                              struct shmeta_freshness *ret)
{
	uint64_t synced = class_synced_at(r, cls), now = reader_now_ns(r);
	uint64_t ttl = likely(known->ttl_ms == 0) ? shmeta_peek(&r->gen->stamp[cls].ttl_ns)
	                                          : (uint64_t)known->ttl_ms * MILLION;

	if (known->synced_at_ns > synced)
		synced = known->synced_at_ns & ~SHMETA_SYNCED_ALONE;
	ret->age_ns = shmeta__age(now, synced);
	if (unlikely(r->ageless))
		ret->age_ns = UINT64_MAX;
	ret->ttl_ns = ttl;
	ret->txn = r->snapshot;
	ret->fresh = ret->age_ns < ttl;
	ret->hint = (uint32_t)hint;
	if (unlikely(!ret->fresh)) {
		if (shmeta__stamp_is_unproved(synced) && !r->ageless)
			shmeta__lookup_age_unproved(now, synced, known, ret);
		r->slot->counters.stale++;
		/* At most once a second, have begin check whether this instance is still the one to
		 * follow. */
		if (now >= r->look_ns) {
			r->look_ns = now + 1000 * MILLION;
			shmeta_poke(&r->attached.attention, 1);
		}
	}
}

enum { READ_FLAGS = SHMETA_READ_MAY_MOVE | SHMETA_READ_NO_FILL };

/* Validate read options; *ret_asks is 1 when fresh.c answers: the read may need the writer, or
 * leaves no trace. */
static inline enum shmeta_status lookup_options(struct shmeta_reader *r, const struct shmeta_read *read, int *ret_asks)
{
	*ret_asks = 0;
	if (likely(read == NULL))
		return SHMETA_OK;
	if (read->size < sizeof *read)
		return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT,
		                           "read options: size is %zu, this library's struct shmeta_read has %zu bytes",
		                           read->size, sizeof *read);
	if (read->consistency != SHMETA_CACHED && read->consistency != SHMETA_FRESH &&
	    read->consistency != SHMETA_SOURCE)
		return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT, "read options: consistency %d is none",
		                           (int)read->consistency);
	if ((read->flags & ~(uint32_t)READ_FLAGS) != 0)
		return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT, "read options: unknown flags 0x%x",
		                           read->flags & ~(uint32_t)READ_FLAGS);
	if (read->buffer == NULL && read->buffer_bytes != 0)
		return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT,
		                           "read options: buffer_bytes is %zu, buffer is NULL", read->buffer_bytes);
	*ret_asks = read->consistency != SHMETA_CACHED || (read->flags & SHMETA_READ_NO_FILL) != 0;
	return SHMETA_OK;
}

/* Are the answer's strings to be copied, because its snapshot may end with the call? */
static inline int is_copied(const struct shmeta_read *read)
{
	return read->consistency != SHMETA_CACHED &&
	       (read->buffer != NULL || (read->flags & SHMETA_READ_MAY_MOVE) == 0);
}

static inline enum shmeta_status buffer_too_small(struct shmeta_reader *r, const struct shmeta_read *read,
                                                  const char *what)
{
	return shmeta__reader_fail(r, SHMETA_ERR_BUFFER, "read options: %s do not fit the buffer of %zu bytes", what,
	                           read->buffer_bytes);
}

static inline int is_absent(enum shmeta_status status)
{
	return status >= SHMETA_ABSENT && status <= SHMETA_ABSENT_AT_END;
}

/* 0: what was just read may come from a recycled page and must not be remembered. */
static inline int snapshot_holds(const struct shmeta_reader *r)
{
	return likely(shmeta_observe(r->guard) == 0) ||
	       !shmeta__snapshot_expired(r); /* PAIR 5: revocation before recycling */
}

/* The last step of every lookup: count it, and discard an answer that may come from recycled
 * pages. */
static inline enum shmeta_status lookup_done(struct shmeta_reader *r, enum shmeta_status status)
{
	struct shmeta_reader_counters *c = &r->slot->counters;

	if (unlikely(!snapshot_holds(r)))
		status = SHMETA_ERR_EXPIRED;
	if (likely(status == SHMETA_OK))
		c->found++;
	else if (is_absent(status))
		c->absent++;
	else if (status == SHMETA_UNKNOWN)
		c->unknown++;
	else {
		c->errors++;
		c->corrupt += status == SHMETA_ERR_CORRUPT;
	}
	shmeta_probe_find((int)status, r->snapshot);
	return status;
}

/* The end of a list is an answer, too, and may come from recycled pages. */
static inline enum shmeta_status list_done(struct shmeta_reader *r)
{
	return snapshot_holds(r) ? SHMETA_END : SHMETA_ERR_EXPIRED;
}

/* Nothing was found: ABSENT when all of the class was known in this snapshot, otherwise UNKNOWN. */
static inline enum shmeta_status absent_or_unknown(struct shmeta_reader *r, enum shmeta_class cls,
                                                   const struct known *known)
{
	return class_synced_at(r, cls) != 0 || known->synced_at_ns != 0 ? SHMETA_ABSENT : SHMETA_UNKNOWN;
}

/* Answer that something is absent only when no quarantined row may be it. */
static inline enum shmeta_status unless_quarantined(struct shmeta_reader *r, const struct missing *missing,
                                                    enum shmeta_status status)
{
	if (!is_absent(status) || (r->quarantined_txn == r->snapshot && r->quarantined == 0))
		return status;
	return shmeta__missing(r, missing, status);
}

/* The same, and only when no record that is not resident may be it. */
static inline enum shmeta_status unless_lacking(struct shmeta_reader *r, const struct missing *missing,
                                                enum shmeta_status status)
{
	if (!is_absent(status) || (r->quarantined_txn == r->snapshot && (r->quarantined | r->incomplete) == 0))
		return status;
	return shmeta__lacking(r, missing, status);
}

/* The answer for a name or tenant that cannot exist: ABSENT, fresh for ever, whatever was loaded,
 * without asking the writer. */
static inline enum shmeta_status never_there(const struct shmeta_reader *r, int hint,
                                             struct shmeta_freshness *ret_fresh)
{
	if (ret_fresh != NULL)
		*ret_fresh = (struct shmeta_freshness){
			.ttl_ns = FOR_EVER, .txn = r->snapshot, .fresh = 1, .hint = (uint32_t)hint};
	return SHMETA_ABSENT;
}

/* OK: look the name up; ABSENT: it is empty or too long for a key. Other invalid names are never
 * found; name_exists() checks them then. */
static inline enum shmeta_status name_fits(struct shmeta_reader *r, const char *what, const char *name, size_t bytes)
{
	if (likely(name != NULL && bytes - 1 < SHMETA_NAME_MAX))
		return SHMETA_OK;
	if (name != NULL || bytes == 0)
		return SHMETA_ABSENT;
	return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT, "%s: NULL, and %zu bytes", what, bytes);
}

/* For a name that was not found: 1 when it can exist. */
static inline int name_exists(const struct shmeta_reader *r, const char *name, size_t bytes)
{
	return !r->instance->no_tenant && shmeta__name_error(name, bytes, SHMETA_NAME_MAX) == NULL;
}

/* A record that was decoded carries its own times. */
static inline struct known known_of(const struct shmeta__stamps *stamps)
{
	return (struct known){stamps->synced_at_ns, stamps->ttl_ms};
}

enum {
	AT_A_TIME = 16
}; /* lookups of a batch whose waits run side by side: more than a core can
                          * have under way */

/* A handle that a batch comes to soon. */
static inline void handle_fetch(const struct shmeta_handle *h)
{
	__builtin_prefetch(h);
	__builtin_prefetch((const char *)h + 64);
	__builtin_prefetch((const char *)h + 128);
}

/* What the source is asked for the handle's partition. */
static inline struct want want_of(const struct shmeta_handle *h, enum shmeta_class cls)
{
	return (struct want){
		.cls = cls, .topic = h->topic, .topic_bytes = h->topic_bytes, .partition_id = (uint32_t)h->part_key};
}

/* The record was used: in bounded mode, the writer hears of it. */
static inline void lookup_touch(const struct shmeta_reader *r, uint64_t part_key)
{
	if (unlikely(r->touch.ceiling != 0))
		touch_mark(r->touch, touch_slot(part_key, r->touch.ceiling));
}

/* The handle's partition as this snapshot shows it: OK, ABSENT, ERR_*. */
static inline enum shmeta_status handle_right(struct shmeta_handle *h)
{
	enum shmeta_status status = likely(h->ready == h->reader->snapshot) ? SHMETA_OK : shmeta__partition_resolve(h);

	if (likely(status == SHMETA_OK))
		lookup_touch(h->reader, h->part_key);
	return status;
}

/* How old a segment of the partition is; assured_ns: the source was asked for it then. */
static inline void segment_age(struct shmeta_handle *h, uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	struct known known = {shmeta__part_synced_at_ns(&h->part), shmeta__part_ttl_ms(&h->part)};

	if (known.synced_at_ns < assured_ns)
		known.synced_at_ns = assured_ns;
	lookup_age(h->reader, SHMETA_CLASS_SEGMENT, 0, &known, ret_fresh);
}

/* Record a sampled lookup's time and partition. A caller that asks for no ages learns here that the
 * instance directory was created again: the next begin checks the heartbeat. */
static inline void sample_lookup(struct shmeta_reader *r, uint64_t begun_ns, uint64_t part_key)
{
	uint64_t took = shmeta__monotonic_ns() - begun_ns;

	r->slot->histogram[shmeta__histogram_bucket(took)]++;
	if ((r->instance->flags & SHMETA_OPEN_NO_FILL) == 0)
		r->slot->sample[r->tick / SHMETA_SAMPLE_EVERY % SHMETA_SAMPLES] = part_key;
	shmeta_poke(&r->attached.attention, 1);
}

/* ---- names, the part that a lookup by name takes when it was here before ---- */

enum { NAME_WAYS = 4 }; /* how many entries a name may have */

static inline int names_equal(const struct name_entry *e, uint64_t hash, const char *name, size_t bytes)
{
	return e->hash == hash && e->name_bytes == bytes && memcmp(e->name, name, bytes) == 0;
}

/* The entry of a name if its topic is known in this snapshot. */
static inline struct name_entry *names_find(struct shmeta_reader *r, uint64_t hash, const char *name, size_t bytes)
{
	struct name_entry *e;
	uint64_t touched;

	if (unlikely(r->names == NULL))
		return NULL;
	e = &r->names[hash & r->name_mask];
	for (uint32_t way = 1; !likely(names_equal(e, hash, name, bytes)); way++) {
		if (way == NAME_WAYS)
			return NULL;
		e = &r->names[(hash & r->name_mask) ^ way];
	}
	if (likely(e->known == r->snapshot))
		return e;
	touched = shmeta_observe(&r->env->touched[shmeta__touched_name(hash)]); /* PAIR 2: touch before commit */
	if (e->known == 0 || touched > e->known || touched > r->snapshot)
		return NULL;
	e->known = r->snapshot;
	return e;
}

static inline enum shmeta_status find_topic(struct shmeta_reader *r, const char *name, size_t bytes,
                                            struct found_topic *ret)
{
	struct name_entry *e;
	uint32_t tenant;
	uint64_t hash;
	enum shmeta_status status = shmeta__snapshot_tenant(r, &tenant);

	if (unlikely(status != SHMETA_OK))
		return status;
	hash = shmeta__name_hash(tenant, name, bytes);
	e = names_find(r, hash, name, bytes);
	if (likely(e != NULL && e->record_txn == r->snapshot)) {
		ret->topic = e->topic;
		ret->stamps = e->stamps;
		return SHMETA_OK;
	}
	return shmeta__names_load(r, tenant, name, bytes, hash, ret);
}

#endif
