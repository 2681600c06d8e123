/* SPDX-License-Identifier: Apache-2.0
 * Waits of connections: each for one of some touched words to move, or for any commit. The engine's
 * thread notes which words a commit moved; the loop finds whose waits are over by those words, so
 * waits for other words cost a commit nothing.
 *
 * Everything but armed_note() and armed_waited() is the loop's thread's. Private to
 * writer/serve/. */
#ifndef SHMETA_WRITER_SERVE_ARMED_H
#define SHMETA_WRITER_SERVE_ARMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "shm/wire/wire.h"

enum { ARMED_WORDS_MAX = 1 << 18 }; /* of all waits; each takes 32 bytes */

struct armed;
struct connection;

/* NULL: no memory. */
struct armed *armed_new(void);
void armed_free(struct armed *armed); /* accepts NULL */

/* The engine's thread: a commit is published that moved these touched words, a bit for each; NULL:
 * all of them. true: somebody waits for one, and the loop is to call armed_take(). Blocks for as
 * long as a pointer is exchanged. */
bool armed_note(struct armed *armed, const uint64_t *touched);

/* Any thread: set the bit of each word that was waited for since the last call, or is. */
void armed_waited(struct armed *armed, uint64_t *words);

/* How many words wait. */
size_t armed_words(const struct armed *armed);
/* Begin a wait. From here on no commit is missed; what was committed before, the caller has to
 * judge then. false: no memory. */
bool armed_add(struct armed *armed, struct connection *c, uint64_t ticket, const struct shmeta_frame_wait *frame);
/* Take back the wait that a frame with this id began. false: there is none. */
bool armed_withdraw(struct armed *armed, struct connection *c, uint64_t id, uint64_t *ret_ticket);
/* The next wait that is over: it is gone. false: none. */
bool armed_take(struct armed *armed, uint64_t *ret_ticket);
/* A wait of a connection that ends is forgotten; nobody else will end its ticket. false: it has
 * none. */
bool armed_forget(struct armed *armed, struct connection *c, uint64_t *ret_ticket);

#endif
