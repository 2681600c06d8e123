/* SPDX-License-Identifier: Apache-2.0
 * Somebody who plays a changefeed through the scripted peer from what really happens in the
 * PostgreSQL behind it. Triggers write down each row that changes; a child of the test takes what
 * has been committed, says it to the streams with the time of taking, and says `resolved` behind
 * it: so that is true of every time that it names. */
#ifndef SHMETA_TESTS_SUPPORT_FEED_PLAYER_H
#define SHMETA_TESTS_SUPPORT_FEED_PLAYER_H

#include <libpq-fe.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/support/pg_cluster.h"
#include "tests/support/pgwire.h"

enum feed_mode {
	FEED_PLAYS,
	FEED_FORGETS, /* rows are taken and not said: `resolved` is wrong */
	FEED_STANDS   /* nothing is said, nothing is taken                */
};

struct feed_player {
	pid_t pid;
	struct feed_player_page *page;
};

/* Once, when the tables are there. */
void feed_player_install(PGconn *sql);
/* lag_ms: `resolved` trails what it could say by this. */
int feed_player_start(struct feed_player *p, struct pgwire *w, const struct pg_cluster *server, const char *database,
                      uint32_t lag_ms);
/* Returns when it is so. */
void feed_player_mode(struct feed_player *p, enum feed_mode mode);
void feed_player_end(struct feed_player *p);

#endif
