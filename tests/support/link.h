/* SPDX-License-Identifier: Apache-2.0
 * A link between a client and a PostgreSQL server that a test can hold, cut, refuse, delay, or rob
 * of one message: a proxy in a child of its own, which reads the framing of the protocol (version
 * 3) as long as it is not encrypted. */
#ifndef SHMETA_TESTS_SUPPORT_LINK_H
#define SHMETA_TESTS_SUPPORT_LINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum link_family { LINK_UNIX, LINK_TCP };

enum link_mode {
	LINK_PASS,
	LINK_HOLD,  /* connections are accepted, nothing is forwarded and nothing is lost: a dead
                    * link. Closing does not pass either */
	LINK_REFUSE /* new connections are refused (ECONNREFUSED); those there are go on */
};

/* What happens to the message of a client that a trap catches. The connection is ended abruptly on
 * both sides, but for STALL. */
enum link_loss {
	LINK_LOSE_REQUEST, /* the server never gets it */
	LINK_LOSE_ANSWER,  /* the server does it to the end; the client never hears */
	LINK_STALL_ANSWER  /* as LOSE_ANSWER, but the connection stays, dead, until link_cut() */
};

enum { LINK_PATTERN_MAX = 64, LINK_ATTEMPTS = 64 };

struct link_counts {
	uint64_t accepted;                  /* connections so far */
	uint64_t open;                      /* now */
	uint64_t unreached;                 /* of these the server could not be reached: closed at
                                             * once */
	uint64_t most_at_once;              /* the most there were between accept and the server's
                                             * first ReadyForQuery (or TLS), not given up by the
                                             * client */
	uint64_t caught;                    /* messages lost by traps */
	uint64_t up, down;                  /* bytes forwarded to the server, to clients */
	int64_t attempts_ns[LINK_ATTEMPTS]; /* CLOCK_MONOTONIC of accept number i at [(i - 1) %
                                             * LINK_ATTEMPTS] */
};

struct link_page;
struct link {
	char host[64]; /* for the client: a directory with the socket, or 127.0.0.1 */
	int port;
	pid_t pid;
	int wake_fd;
	struct link_page *page;
};

/* Start it. server_host: a directory with a Unix socket, or an IPv4 address. The server may come
 * later. 0, or -1 after a sentence on stderr. */
int link_start(struct link *l, enum link_family family, const char *server_host, int server_port);
/* Idempotent; also for a link that did not start (zeroed). */
void link_end(struct link *l);

/* Each returns when it has been done (0), or -1 when the child is gone. */
int link_mode(struct link *l, enum link_mode mode);
/* Every chunk (at most 64 KiB) is kept so long before it is forwarded, in each direction. */
int link_delay(struct link *l, uint32_t ms);
/* End all connections abruptly; the mode stays. */
int link_cut(struct link *l);
/* Catch the nth (from 1) message of any client, from now on, that contains the pattern (its type
 * byte and length included). One trap at a time; pattern NULL: none. */
int link_trap(struct link *l, enum link_loss loss, const void *pattern, size_t bytes, uint32_t nth);

/* The same, of messages that come on their connection behind one that contains `first`, each of
 * which counts once: of all COMMITs the one of a transaction that began so. */
int link_trap_behind(struct link *l, enum link_loss loss, const char *first, const char *pattern, uint32_t nth);

void link_counts(const struct link *l, struct link_counts *ret);
/* Wait until counts.caught reaches this (at most timeout_ms). 0 or -1. */
int link_wait_caught(const struct link *l, uint64_t caught, int timeout_ms);

#endif
