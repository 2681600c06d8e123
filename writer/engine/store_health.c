/* SPDX-License-Identifier: Apache-2.0
 * The store's health (store_health.h): its states, and what is left of it. */
#include <stdio.h>
#include <syslog.h>

#include "base/size_text.h"
#include "writer/daemon/limits.h"
#include "writer/engine/engine.h"
#include "writer/keys/bounded.h"
#include "writer/keys/refresh.h"

/* A load that did not fit is tried again after so many times its length. */
enum { LOOK_EVERY_MS = 100, PRESSED_EVERY_MS = 20, FULL_SHARE = 3, LOOK_S = 1 };

static uint64_t max_bytes(const struct sync *s)
{
	return s->gen != NULL ? s->gen->max_bytes : s->options.store_max_bytes;
}

/* The one way from one state to another: any may follow any other. */
static void become(struct sync *s, enum store_health_state to)
{
	s->store_health.state = to;
	if (to != STORE_TAKES)
		return;
	s->store_health.trouble.on = false;
	s->store_health.trouble.attempts = 0;
	s->store_health.trouble.text[0] = '\0';
}

/* Does a limit of the system keep its files from growing? In words. */
static bool is_capped(struct sync *s, char *limit, size_t bytes)
{
	return limits_of_files(s->dir_fd, s->store == NULL, max_bytes(s), limit, bytes);
}

void sync_store_failed(struct sync *s, enum shmeta_status status, const char *sentence)
{
	struct store_health *h = &s->store_health;
	char text[sizeof h->trouble.text], limit[400], bytes[32];
	uint64_t began = generation_load_began(&s->generations), now = sync_now(s);
	const char *is = s->store == NULL ? "not loaded" : "no longer brought up to date";

	become(s, status != SHMETA_ERR_FULL           ? STORE_FAILS
	          : is_capped(s, limit, sizeof limit) ? STORE_CAPPED
	                                              : STORE_FULL);
	h->status = status;
	h->cap_looked_ns = now;
	s->counters.store_full += status == SHMETA_ERR_FULL;
	if (h->state == STORE_CAPPED) {
		shmeta__say(text, sizeof text, "the store cannot grow and is %s: %s (%s)", is, limit, sentence);
	} else if (h->state == STORE_FULL) {
		shmeta__say(
			text, sizeof text,
			"the store is full (store.max_bytes = %s, or less where the file system has no room) and is %s; delete "
			"topics or segments, or raise it and restart: %s",
			limits_spell_bytes(max_bytes(s), bytes, sizeof bytes), is, sentence);
	} else {
		shmeta__say(text, sizeof text, "the store cannot be brought up to date: %s", sentence);
	}
	if (status == SHMETA_ERR_CORRUPT && s->store != NULL) {
		/* What is damaged is not patched: the source has it all. */
		store_move(s, STORE_DAMAGED);
	}
	health_trouble(s, &h->trouble, status == SHMETA_ERR_FULL ? "store_full" : "store_failed", text);
	/* What did not fit will hardly fit a moment later, and a load reads everything for that. */
	if (status == SHMETA_ERR_FULL && began > 0) {
		uint64_t rest = FULL_SHARE * (now - began), most = s->options.retry_max_ms * SYNC_MS;

		h->trouble.next_ns = now + (rest > most ? rest : most);
	}
	refresh_answer_all(s, status, h->trouble.text);
	sync_settle_phase(s);
	sync_show(s);
}

bool store_health_uncapped(struct sync *s)
{
	struct store_health *h = &s->store_health;
	char limit[400];
	uint64_t now = sync_now(s);

	if (h->state != STORE_CAPPED)
		return false;
	if (now >= h->cap_looked_ns + LOOK_S * SYNC_S) {
		h->cap_looked_ns = now;
		if (!is_capped(s, limit, sizeof limit))
			become(s, STORE_FULL);
	}
	if (h->state == STORE_CAPPED)
		sync_wake_at(s, h->cap_looked_ns + LOOK_S * SYNC_S);
	return h->state != STORE_CAPPED;
}

void sync_store_works(struct sync *s)
{
	if (store_takes(s))
		return;
	become(s, STORE_TAKES);
	sync_settle_phase(s);
	sync_show(s);
	sync_log(s, LOG_NOTICE, "store_writable", "the store is brought up to date again");
}

/* ---- what is left ---- */

/* Told when it rises; a store at the edge of two levels is not told of again and again. */
static void tell_level(struct sync *s, const struct shmeta__store_room *room)
{
	enum { FALL = 5 };
	const char *advice;
	unsigned level = shmeta__room_level(room->used_bytes, room->pinned_bytes, room->max_bytes, &advice);

	if (level > s->store_health.level)
		sync_log(s, LOG_WARNING, "store_filling",
		         "%llu of %llu bytes of the store are used, %llu more pinned: %s",
		         (unsigned long long)room->used_bytes, (unsigned long long)room->max_bytes,
		         (unsigned long long)room->pinned_bytes, advice);
	else if (s->store_health.level > 0 &&
	         room->used_bytes + room->pinned_bytes >= room->max_bytes / 100 * (s->store_health.level - FALL))
		return;
	s->store_health.level = level;
}

void store_health_watch(struct sync *s)
{
	uint64_t now = sync_now(s), oldest;
	struct shmeta__store_room room;
	struct shmeta_err err;

	if (s->store == NULL || s->apply.txn != NULL)
		return;
	if (now < s->store_health.look_ns) {
		if (!store_takes(s))
			sync_wake_at(s, s->store_health.look_ns);
		return;
	}
	oldest = sync_oldest_pin(s);
	s->store_health.look_ns = now + LOOK_EVERY_MS * SYNC_MS;
	if (shmeta__store_room(s->store, oldest, &room, &err) != SHMETA_OK)
		return;
	if (shmeta__room_pressed(&room))
		s->store_health.look_ns = now + PRESSED_EVERY_MS * SYNC_MS;
	s->counters.store_used = room.used_bytes;
	s->counters.store_pinned = room.pinned_bytes;
	tell_level(s, &room);
	bounded_pressed(s, &room);
	if (store_is_writable(s) && shmeta__room_pressed(&room) && oldest != UINT64_MAX)
		s->host.relieve(s->host.arg, s->gen->generation, oldest >= room.half_txn ? oldest + 1 : room.half_txn);
	if (!store_is_full(&s->store_health))
		return;
	/* What the newest commit freed is nobody's only behind the next one, which may be what does
	 * not fit. */
	if (store_is_writable(s) && room.half_txn >= sync_committed(s))
		(void)shmeta__store_step(s->store, oldest, &err);
	if (room.pinned_bytes < s->store_health.pinned_bytes / 2)
		s->store_health.trouble.next_ns = now;
	if (room.pinned_bytes < s->store_health.pinned_bytes / 2 || room.pinned_bytes > s->store_health.pinned_bytes)
		s->store_health.pinned_bytes = room.pinned_bytes;
	sync_wake_at(s, s->store_health.trouble.next_ns < s->store_health.look_ns ? s->store_health.trouble.next_ns
	                                                                          : s->store_health.look_ns);
}

/* ---- what is asked of it ---- */

bool store_health_freed_by(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_DELETE_TOPIC || op->type == SHMETA_OP_DELETE_SEGMENTS_BEFORE ||
	       op->type == SHMETA_OP_REPLACE_SEGMENTS || op->type == SHMETA_OP_DELETE_GROUP;
}

bool store_health_fits(struct sync *s, const struct shmeta_op *op, uint64_t *left, struct shmeta_result *ret)
{
	/* 137 to 138 were measured of topics with 10 000 and 100 000 partitions. */
	enum { PARTITION_BYTES = 138 };
	char takes[SIZE_TEXT_BYTES], has[SIZE_TEXT_BYTES];
	struct shmeta__store_room room;
	struct shmeta_err err;
	uint64_t needs;

	/* A bounded store does not take in the partitions of a new topic. */
	if (op->type != SHMETA_OP_CREATE_TOPIC || s->store == NULL || s->bounded != NULL)
		return true;
	if (*left == UINT64_MAX) {
		if (shmeta__store_room(s->store, sync_oldest_pin(s), &room, &err) != SHMETA_OK)
			return true;
		*left = room.left_bytes;
	}
	needs = (uint64_t)op->u.topic.partition_count * PARTITION_BYTES;
	if (needs <= *left) {
		*left -= needs;
		return true;
	}
	ret->status = SHMETA_ERR_FULL;
	snprintf(ret->text, sizeof ret->text,
	         "%u partitions take %s, and the store has %s left: raise store.max_bytes and restart, or "
	         "delete topics or segments",
	         op->u.topic.partition_count, size_text(needs, takes), size_text(*left, has));
	return false;
}
