/* SPDX-License-Identifier: Apache-2.0
 * The store's room: who holds it back is asked to let go before it is used up, and what did not fit is tried again when there is some. */
#include <syslog.h>

#include "writer/engine.h"

enum { LOOK_EVERY_MS = 100, PRESSED_EVERY_MS = 20 };

/* May what did not fit a moment ago fit now? */
static bool has_room(const struct shmeta__store_room *room)
{
	return room->used_bytes + room->pinned_bytes < room->max_bytes / 100 * 95;
}

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
	s->room_left = room.left_bytes;
	tell_level(s, &room);
	if (s->writable && shmeta__room_pressed(&room) && oldest != UINT64_MAX)
		s->host.relieve(s->host.arg, s->gen->generation, oldest >= room.half_txn ? oldest + 1 : room.half_txn);
	if (!s->room.on || s->room_status != SHMETA_ERR_FULL)
		return;
	if (has_room(&room) && s->room_pinned)
		s->room.next_ns = now;
	s->room_pinned = !has_room(&room);
	sync_wake_at(s, s->room.next_ns < s->room_look_ns ? s->room.next_ns : s->room_look_ns);
}
