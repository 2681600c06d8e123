/* SPDX-License-Identifier: Apache-2.0
 * The states of the engine, and the one way from one to another: what may be done with the store,
 * whether the store is of the source that is open, and whether the change feed tells all that
 * changes. Each has a table of moves (states.c; docs/states.md draws them). A move that is not in
 * the table is refused and logged; the state stays.
 *
 * The engine's thread changes them. Nobody else reads them. */
#ifndef SHMETA_WRITER_ENGINE_STATES_H
#define SHMETA_WRITER_ENGINE_STATES_H

#include <stdbool.h>
#include <stdint.h>

struct sync;

/* The current generation. */
enum store_state {
	STORE_NONE,     /* there is none */
	STORE_ADOPTED,  /* a former writer's, which readers of its time may still look at: not
                         * written */
	STORE_WRITABLE, /* ours to write */
	STORE_DAMAGED,  /* served, but not written any more: everything is to be loaded into another
                         * one */
	STORE_STATES
};

/* Is the source the one, and on the course, that the store was filled from? */
enum origin_state {
	ORIGIN_SAME,        /* as far as is known                                              */
	ORIGIN_OTHER,       /* it is another source: what it shows is to be read apart         */
	ORIGIN_COURSE,      /* it is the same source, back in another state: likewise          */
	ORIGIN_OTHER_HELD,  /* another source, read, and not accepted: an operator is to judge */
	ORIGIN_COURSE_HELD, /* the same of another state                                       */
	ORIGIN_STATES
};

/* Does the feed go on from what the store shows? */
enum feed_state {
	FEED_UNTRIED,     /* the position that the store keeps has not been tried */
	FEED_IN_STEP,     /* it does, and names all that changes */
	FEED_BEHIND,      /* it is asked, but what changed before is not known by name: a full pass
                           * is to bring that in */
	FEED_NONE,        /* there is none to follow: full passes find what changes */
	FEED_NONE_BEHIND, /* the same, and the list is known not to be in step */
	FEED_STATES
};

enum state_moved {
	STATE_MOVED,
	STATE_THERE,  /* it is the state already  */
	STATE_REFUSED /* it may not follow this one */
};

/* Pure: what the tables say. */
enum state_moved store_state_may(enum store_state from, enum store_state to);
enum state_moved origin_state_may(enum origin_state from, enum origin_state to);
enum state_moved feed_state_may(enum feed_state from, enum feed_state to);
const char *store_state_name(enum store_state state);
const char *origin_state_name(enum origin_state state);
const char *feed_state_name(enum feed_state state);

/* ---- the store ---- */

void store_move(struct sync *s, enum store_state to);
bool store_is_writable(const struct sync *s);
bool store_is_damaged(const struct sync *s);

/* ---- the origin ---- */

void origin_move(struct sync *s, enum origin_state to);
/* It changed. What is held stays held: what is there now is to be judged in its place. */
void origin_changed(struct sync *s, bool course);
void origin_held(struct sync *s); /* what it shows was judged, and not accepted */
bool origin_is_foreign(const struct sync *s);
bool origin_is_held(const struct sync *s);
bool origin_is_course(const struct sync *s);

/* ---- the feed ---- */

void feed_move(struct sync *s, enum feed_state to);
/* What has changed is not known by name. Before the position was tried this says nothing new. */
void feed_lost_names(struct sync *s);
/* It is asked from now on; what changed before is not known by name. */
void feed_begins(struct sync *s);
/* There is nothing to follow any more. */
void feed_gone(struct sync *s);
/* Everything has been read; follow: and there is a feed that goes on from there. */
void feed_all_read(struct sync *s, bool follow);
bool feed_is_tried(const struct sync *s);
bool feed_is_followed(const struct sync *s); /* in step or behind */
bool feed_in_step(const struct sync *s);
bool feed_is_behind(const struct sync *s); /* followed or not */

#endif
