/* SPDX-License-Identifier: Apache-2.0
 * The store's room: who holds it back is asked to let go before it is used up, and what did not fit is tried again when there is some. */
#include <stdio.h>
#include <syslog.h>

#include "writer/engine/engine.h"

enum { LOOK_EVERY_MS = 100, PRESSED_EVERY_MS = 20 };

/* Told when it rises; a store at the edge of two levels is not told of again and again. */
static void tell_level(struct sync *s, const struct shmeta__store_room *room)
{
	enum { FALL = 5 };
	const char *advice;
	unsigned level = shmeta__room_level(room->used_bytes, room->pinned_bytes, room->max_bytes, &advice);

	if (level > s->room_level)
		sync_log(s, LOG_WARNING, "store_filling",
		         "%llu of %llu bytes of the store are used, %llu more pinned: %s",
		         (unsigned long long)room->used_bytes, (unsigned long long)room->max_bytes,
		         (unsigned long long)room->pinned_bytes, advice);
	else if (s->room_level > 0 &&
	         room->used_bytes + room->pinned_bytes >= room->max_bytes / 100 * (s->room_level - FALL))
		return;
	s->room_level = level;
}

void room_watch(struct sync *s)
{
	uint64_t now = sync_now(s), oldest;
	struct shmeta__store_room room;
	struct shmeta_err err;

	if (s->store == NULL || s->apply.txn != NULL)
		return;
	if (now < s->room_look_ns) {
		if (s->room.on)
			sync_wake_at(s, s->room_look_ns);
		return;
	}
	oldest = sync_oldest_pin(s);
	s->room_look_ns = now + LOOK_EVERY_MS * SYNC_MS;
	if (shmeta__store_room(s->store, oldest, &room, &err) != SHMETA_OK)
		return;
	if (shmeta__room_pressed(&room))
		s->room_look_ns = now + PRESSED_EVERY_MS * SYNC_MS;
	s->counters.store_used = room.used_bytes;
	s->counters.store_pinned = room.pinned_bytes;
	tell_level(s, &room);
	if (store_is_writable(s) && shmeta__room_pressed(&room) && oldest != UINT64_MAX)
		s->host.relieve(s->host.arg, s->gen->generation, oldest >= room.half_txn ? oldest + 1 : room.half_txn);
	if (!s->room.on || s->room_status != SHMETA_ERR_FULL)
		return;
	/* What the newest commit freed is nobody's only behind the next one, which may be what does not fit. */
	if (store_is_writable(s) && room.half_txn >= sync_committed(s))
		(void)shmeta__store_step(s->store, oldest, &err);
	if (room.pinned_bytes < s->room_pinned / 2)
		s->room.next_ns = now;
	if (room.pinned_bytes < s->room_pinned / 2 || room.pinned_bytes > s->room_pinned)
		s->room_pinned = room.pinned_bytes;
	sync_wake_at(s, s->room.next_ns < s->room_look_ns ? s->room.next_ns : s->room_look_ns);
}

/* ---- what is asked of it ------------------------------------------------------------------------------------------------------ */

bool room_made_by(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_DELETE_TOPIC || op->type == SHMETA_OP_DELETE_SEGMENTS_BEFORE ||
	       op->type == SHMETA_OP_DELETE_GROUP;
}

bool room_for(struct sync *s, const struct shmeta_op *op, uint64_t *left, struct shmeta_result *ret)
{
	/* 137 to 138 were measured of topics with 10 000 and 100 000 partitions. */
	enum { PARTITION_BYTES = 138, MIB = 1 << 20 };
	struct shmeta__store_room room;
	struct shmeta_err err;
	uint64_t needs;

	if (op->type != SHMETA_OP_CREATE_TOPIC || s->store == NULL)
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
	         "%u partitions take %.1f MiB, and the store has %.1f MiB left: raise store.max_bytes and restart, or "
	         "delete topics or segments",
	         op->u.topic.partition_count, (double)needs / MIB, (double)*left / MIB);
	return false;
}
