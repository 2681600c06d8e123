/* SPDX-License-Identifier: Apache-2.0
 * What every lookup does before and after it has looked: may it, how old is the answer, does it still hold. */
#ifndef SHMETA_READER_LOOKUP_LOOKUP_H
#define SHMETA_READER_LOOKUP_LOOKUP_H

#include "base/limits.h"
#include "reader/internal.h"

enum { SAMPLE_EVERY = 1024 };
#define FOR_EVER UINT64_MAX /* a time to live, of what cannot become otherwise */

static inline enum shmeta_status lookup_ready(const struct shmeta_reader *r)
{
	if (unlikely(shmeta_peek(r->fork_word) != r->token))
		return SHMETA_ERR_FORKED;
	return likely(r->snapshot != 0) ? SHMETA_OK : SHMETA_ERR_NO_SNAPSHOT;
}

/* When the class was last known to be true as this snapshot shows it; 0: nothing of the class was complete in it. A stamp that
 * speaks of a later commit says nothing about this one: then what the reader saw before holds. */
static inline uint64_t class_synced_at(struct shmeta_reader *r, enum shmeta_class cls)
{
	const struct shmeta_stamp *stamp = &r->gen->stamp[cls];
	uint64_t synced = shmeta_observe(&stamp->synced_at_ns); /* PAIR 3 */

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
		r->slot->counters.stale++;
		/* Once a second at most: begin then looks whether this instance is still the one to follow. */
		if (now >= r->look_ns) {
			r->look_ns = now + 1000 * MILLION;
			shmeta_poke(&r->attention, 1);
		}
	}
}

/* Of a read's options: may it have to ask the writer? ERR_INVALID_ARGUMENT when they are none. */
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
	if ((read->flags & ~(uint32_t)SHMETA_READ_MAY_MOVE) != 0)
		return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT, "read options: unknown flags 0x%x",
		                           read->flags & ~(uint32_t)SHMETA_READ_MAY_MOVE);
	if (read->buffer == NULL && read->buffer_bytes != 0)
		return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT,
		                           "read options: buffer_bytes is %zu, buffer is NULL", read->buffer_bytes);
	*ret_asks = read->consistency != SHMETA_CACHED;
	return SHMETA_OK;
}

/* Of a read that may: does this answer of the store not do? */
static inline int must_ask(const struct shmeta_read *read, enum shmeta_status status,
                           const struct shmeta_freshness *fresh)
{
	return status >= 0 && fresh->ttl_ns != FOR_EVER &&
	       (read->consistency == SHMETA_SOURCE || status == SHMETA_UNKNOWN || !fresh->fresh);
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

/* 0: what was just read may have come from a recycled page, and must not be remembered. */
static inline int snapshot_holds(const struct shmeta_reader *r)
{
	return likely(shmeta_observe(r->guard) == 0) || !shmeta__snapshot_expired(r); /* PAIR 5 */
}

/* Last step of every lookup: count, and discard what may have been read from recycled pages. */
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
	return status;
}

/* The end of a list is an answer too: what it was concluded from may have been recycled. */
static inline enum shmeta_status list_done(struct shmeta_reader *r)
{
	return snapshot_holds(r) ? SHMETA_END : SHMETA_ERR_EXPIRED;
}

/* Not there: ABSENT when all of the class was known in this snapshot, otherwise nothing may be concluded. */
static inline enum shmeta_status absent_or_unknown(struct shmeta_reader *r, enum shmeta_class cls,
                                                   const struct known *known)
{
	return class_synced_at(r, cls) != 0 || known->synced_at_ns != 0 ? SHMETA_ABSENT : SHMETA_UNKNOWN;
}

/* An answer that something is absent is given only when nothing is quarantined that may be it. */
static inline enum shmeta_status unless_quarantined(struct shmeta_reader *r, const struct missing *missing,
                                                    enum shmeta_status status)
{
	if (!is_absent(status) || (r->quarantined_txn == r->snapshot && r->quarantined == 0))
		return status;
	return shmeta__missing(r, missing, status);
}

/* The answer of a lookup by a name, or for a tenant, that cannot exist: whatever was loaded, and without asking anybody. */
static inline enum shmeta_status never_there(const struct shmeta_reader *r, int hint,
                                             struct shmeta_freshness *ret_fresh)
{
	if (ret_fresh != NULL)
		*ret_fresh = (struct shmeta_freshness){
			.ttl_ns = FOR_EVER, .txn = r->snapshot, .fresh = 1, .hint = (uint32_t)hint};
	return SHMETA_ABSENT;
}

/* OK when the name may be looked for; ABSENT when it is empty or too long for a key. One that is badly spelt is merely never found,
 * so it is judged only then, by name_exists(). */
static inline enum shmeta_status name_fits(struct shmeta_reader *r, const char *what, const char *name, size_t bytes)
{
	if (likely(name != NULL && bytes - 1 < SHMETA_NAME_MAX))
		return SHMETA_OK;
	if (name != NULL || bytes == 0)
		return SHMETA_ABSENT;
	return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT, "%s: NULL, and %zu bytes", what, bytes);
}

/* Of a name that was not found: can it exist at all? */
static inline int name_exists(const struct shmeta_reader *r, const char *name, size_t bytes)
{
	return !r->instance->no_tenant && shmeta__name_error(name, bytes, SHMETA_NAME_MAX) == NULL;
}

/* A record that was decoded carries its own times. */
static inline struct known known_of(const struct shmeta__stamps *stamps)
{
	return (struct known){stamps->synced_at_ns, stamps->ttl_ms};
}

/* The handle's partition as this snapshot shows it: OK, ABSENT, ERR_*. */
static inline enum shmeta_status handle_right(struct shmeta_handle *h)
{
	return likely(h->ready == h->reader->snapshot) ? SHMETA_OK : shmeta__partition_resolve(h);
}

/* Record a sampled lookup's time and place. Who asks for no ages finds out here that its writer's directory was made anew: the next begin
 * looks whether the writer's heart still beats. */
static inline void sample_lookup(struct shmeta_reader *r, uint64_t begun_ns, uint64_t part_key)
{
	uint64_t took = shmeta__monotonic_ns() - begun_ns;

	r->slot->histogram[shmeta__histogram_bucket(took)]++;
	r->slot->sample[r->tick / SAMPLE_EVERY % SHMETA_SAMPLES] = part_key;
	shmeta_poke(&r->attention, 1);
}

#endif
