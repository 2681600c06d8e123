/* SPDX-License-Identifier: Apache-2.0
 * Calls that wait for the engine, served in turns: user after user, and within a user connection
 * after connection, by the work that they make (deficit round robin), so that who asks for much
 * waits for himself. Of one connection the earlier call comes first.
 *
 * While several users write, a round makes work for TURNS_ROUND_NS at the pace of the last ones, or
 * for as long as any round takes whatever is in it (the source's commit): who comes waits for two
 * rounds that are at most twice as long as his own alone, and half of the throughput is left at
 * least. A large part, which may take longer by its work, or because what it makes of work is not
 * known, is a round by itself; after one that did take longer, the next one, whoever's it is, waits
 * four times as long, so that all of them together get a fifth of the time. A user alone gets all.
 *
 * The queue is bounded in operations and in bytes, in all, per user (shares.h) and per connection.
 * Nothing here locks. */
#ifndef SHMETA_WRITER_WRITE_TURNS_H
#define SHMETA_WRITER_WRITE_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TURNS_ROUND_NS UINT64_C(500000)
#define TURNS_MEMORY_NS UINT64_C(1000000000) /* so long a user counts as one who writes */

/* The first member of a call's part: what is done in one round. A call's parts lie behind each
 * other in one line, and are taken in that order; between two of them others have their turns. */
struct turn {
	struct turn *next;
	uint32_t uid;
	uint64_t connection; /* never the same number for two of them */
	size_t ops, bytes;
	uint64_t work;   /* at least 1 */
	bool open_ended; /* how much work it makes depends on what it meets */
	bool last;       /* of its call */
};

struct turns_limits {
	size_t ops;
	uint64_t bytes, connection_bytes;
	uint32_t user_share; /* percent; root and the daemon's user are bound by the rest only */
};

struct turn_user;

struct turns {
	struct turns_limits limits;
	struct turn_user *first, **end; /* all of them that count, in the order of their turns */
	size_t users;
	size_t calls, ops, bytes; /* waiting; a call with its last part */
	size_t peak_bytes;        /* the most since turns_at_rest() */
	uint64_t since_ns;        /* when something began to wait, or was last taken */
	uint64_t work_ns;         /* what a unit of work took lately, in 1/1024 ns */
	uint64_t fixed_ns;        /* what a round of next to no work took lately */
	uint64_t large_from_ns;   /* when a large call may be begun */
};

void turns_init(struct turns *t);
/* Calls are the caller's: take them before. */
void turns_free(struct turns *t);

/* Is there room for such a call? Of it uid, connection, ops and bytes count. */
bool turns_room(const struct turns *t, const struct turn *call);
/* The parts of a call in a list, all or none. false: there is no room for them, or no memory. */
bool turns_add(struct turns *t, struct turn *parts, uint64_t now_ns);
/* The next parts in a list, `most` of work at most, one at least. NULL: none, or large ones that
 * are not to be begun yet. all: everything, in its turns. */
struct turn *turns_take(struct turns *t, uint64_t most, bool all, uint64_t now_ns);
/* A round with so much work has taken so long; its largest part. */
void turns_took(struct turns *t, uint64_t work, const struct turn *largest, uint64_t took_ns, uint64_t now_ns);
/* When somebody who waits may be served: now_ns, later, or UINT64_MAX: nobody waits. */
uint64_t turns_when(const struct turns *t, uint64_t now_ns);
/* Nothing waits: how many bytes waited at most since the last call of this. */
size_t turns_at_rest(struct turns *t);

#endif
