/* SPDX-License-Identifier: Apache-2.0
 * The registered readers: one sealed memfd each, mapped here and in the reader's process. The
 * loop's thread adds, revokes and drops; the engine's thread asks for the oldest pin. What a reader
 * wrote in its page is copied once, bounds-checked, and only then used; whatever it writes, it
 * harms nobody's snapshot but its own.
 *
 *   connected --connection closed, process ended--> revoked (pins still count)
 *       \--snapshot too old, no room, asked for-------^   |
 *                                                          '--one grace period--> dropped (once
 *                                                          the connection is closed as well)
 *
 * The age of a pin is the time for which its commit has not been the newest: what it holds back
 * began to be replaced then. So it does not matter how often a reader stores it, or that it moves
 * between old commits. A pin of a commit before the registration, which no honest reader can have,
 * holds back what one of the registration's time would. */
#ifndef SHMETA_WRITER_SERVE_REGISTRY_H
#define SHMETA_WRITER_SERVE_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "shm/page/board.h"
#include "shm/page/slots.h"
#include "shm/page/stats_page.h"
#include "shm/page/touch.h"
#include "shm/wire/wire.h"

enum {
	REGISTRY_SLOTS_TOTAL = 131072
};                                         /* over all readers, shared by user (shares.h). 128
                                            * MiB */
enum { REGISTRY_TOUCH_TOTAL = 512 << 20 }; /* bytes of touch maps, likewise */

struct registry;
struct registration;

struct registry_peer { /* SO_PEERCRED */
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

/* epoch: of this writer, also the high part of every number it gives. board: its count of
 * registrations is kept up to date in the order that lets the next writer trust it (see
 * registry_restored_all()). */
enum shmeta_status registry_new(struct shmeta_board *board, uint64_t epoch, uint64_t grace_ns, struct registry **ret,
                                struct shmeta_err *err);
void registry_free(struct registry *registry); /* unmaps; tells nobody; accepts NULL */

/* A page for a process. *ret_fd: the memfd, to be sent and then closed by the caller. The
 * descriptors are handed to the service manager too. user_share: percent, see shares.h. Errors:
 * ERR_BUSY (limits), ERR_NO_MEMORY, ERR_FULL, ERR_SYSTEM. */
enum shmeta_status registry_add(struct registry *registry, const struct shmeta_frame_register *request,
                                const struct registry_peer *peer, int connection, uint32_t per_user_max,
                                uint32_t user_share, int *ret_fd, struct registration **ret, struct shmeta_err *err);

/* Pages that are made from now on have touch maps of so many slots; 0: none. Of `total` bytes in
 * all each user has a share; where that is held, a page has a map of a few slots, whose misses are
 * taken, but whose touches nobody collects. */
void registry_set_touch(struct registry *registry, uint32_t ceiling, uint64_t total);
/* Any thread: or what the readers with maps of so many slots have touched since the last call into
 * seen[ceiling]. */
void registry_collect_touched(struct registry *registry, uint32_t ceiling, uint8_t *seen);

/* Any thread: take the keys that these readers met unknown, each with its user. missed() is called
 * under the registry's lock. */
typedef void registry_missed_fn(void *arg, uint32_t uid, const struct shmeta_miss *miss);
void registry_take_missed(struct registry *registry, registry_missed_fn *missed, void *arg);

/* Take the samples that readers have left since the last call: keys as in shm/page/slots.h. Of each
 * process a bounded number. */
typedef void registry_sampled_fn(void *arg, uint64_t key);
void registry_take_samples(struct registry *registry, registry_sampled_fn *sampled, void *arg);

/* The connection has closed. */
void registry_revoke(struct registry *registry, struct registration *registration, uint64_t now_ns);
/* Of what was revoked longer than a grace period ago no pin counts any more; where the connection
 * has closed, too, it is dropped. */
void registry_sweep(struct registry *registry, uint64_t now_ns);

/* ---- snapshots that end before their reader ends them: its next call answers ERR_EXPIRED, and it
 * registers anew ------------- */

enum registry_why { REGISTRY_TOO_OLD, REGISTRY_NO_ROOM, REGISTRY_ASKED };

/* Pins that are older are revoked by registry_look(), but none that is younger than a grace period.
 * 0: none is. */
void registry_set_max_age(struct registry *registry, uint64_t max_age_ns);
/* Called a few times a second, with the newest commit of the current generation. */
void registry_look(struct registry *registry, uint64_t generation, uint64_t committed, uint64_t now_ns);
/* Any thread: revoke those that pin a commit before `before`, but none that is younger than a grace
 * period, and let go of those that were revoked a grace period ago. Returns how many were
 * revoked. */
size_t registry_relieve(struct registry *registry, uint64_t generation, uint64_t before, uint64_t now_ns);
/* Revoke, whatever it pins: a registration by its number, or all of a process by its id. Numbers
 * are above all ids. Returns how many. */
size_t registry_evict(struct registry *registry, uint64_t number_or_pid, uint64_t now_ns);

struct registry_revoked {
	uint64_t number;
	enum registry_why why;
	uint64_t pin, age_ns; /* pin 0: none */
	struct registry_peer peer;
	char name[64];
};
/* Who was revoked and not told of yet. The connection is to be closed. False: nobody. */
bool registry_next_revoked(struct registry *registry, struct registry_revoked *ret);
bool registration_is_revoked(const struct registration *registration);

/* Descriptors that the service manager kept: call registry_restore() for each one with its name
 * before anybody connects. Takes fd. Returns the name's kind, and for a connection its
 * registration's number, which registry_find() finds. */
enum registry_restored { REGISTRY_NOT_OURS, REGISTRY_PAGE, REGISTRY_CONNECTION };
enum registry_restored registry_restore(struct registry *registry, const char *name, int fd, uint64_t now_ns,
                                        uint64_t *ret_number);
struct registration *registry_find(struct registry *registry, uint64_t number);
/* A page is back: whose it is. A page whose connection did not come back is revoked by
 * registry_restore_end(). */
void registry_reconnect(struct registration *registration, const struct registry_peer *peer);
void registry_restore_end(struct registry *registry, uint64_t now_ns);
/* 1: every registration that the former writer counted came back. */
int registry_restored_all(const struct registry *registry);

/* Any thread: the oldest commit of the generation that a reader pins; UINT64_MAX: none. */
uint64_t registry_oldest_pin(struct registry *registry, uint64_t generation);

uint64_t registry_epoch(const struct registry *registry);
uint64_t registration_number(const struct registration *registration);
uint32_t registration_slots(const struct registration *registration);
uint32_t registry_count(const struct registry *registry);

/* The readers' part of the stats page. committed: of the generation. */
void registry_report(struct registry *registry, struct shmeta_stats *stats, uint64_t committed, uint64_t now_ns);
/* The reader that has held back recycling for longest. False: none does. */
bool registry_oldest_holder(const struct registry *registry, uint64_t now_ns, uint64_t *ret_pin_age_ns, char *ret_who,
                            size_t bytes);

#endif
