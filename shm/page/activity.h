/* SPDX-License-Identifier: Apache-2.0
 * <instance>/activity: what the writer did lately, so that it can be looked at without a socket and
 * when the writer is dead: a ring of its newest events, the slowest calls of the last hour, and who
 * is connected. Bounded, and lossy where somebody looks too seldom: each event carries its number,
 * so that who looks knows how many were missed. */
#ifndef SHMETA_SHM_PAGE_ACTIVITY_H
#define SHMETA_SHM_PAGE_ACTIVITY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/page/frozen.h"
#include "shm/page/order.h"

/* X(name, number, text, meaning) */
#define SHMETA_EVENT_LIST(X)                                                        \
	X(COMMIT, 1, "commit", "the store got a commit")                            \
	X(FETCH, 2, "fetch", "keys were read from the source, for whatever reason") \
	X(FEED, 3, "feed", "the change feed named keys")                            \
	X(WRITE, 4, "write", "operations of clients were committed to the source")  \
	X(PASS, 5, "pass", "everything was read, to load or to compare")            \
	X(LOG, 6, "log", "a line of the log; the word of the event is its first word")

enum shmeta_event_kind {
#define X(name, number, text, meaning) SHMETA_EVENT_##name = number,
	SHMETA_EVENT_LIST(X)
#undef X
		SHMETA_EVENT_KINDS = 7
};

enum {
	SHMETA_ACTIVITY_VERSION = 1,
	SHMETA_EVENTS = 2048,
	SHMETA_EVENT_TEXT = 200,
	SHMETA_SLOW_MINUTES = 60,
	SHMETA_SLOW_EACH = 4, /* of a minute, the slowest */
	SHMETA_USERS = 128
};

struct shmeta_event {
	uint64_t number;              /*   0  from 1 on; 0: being written              PAIR 7   */
	int64_t at_ms;                /*   8  CLOCK_REALTIME, of its end                        */
	uint64_t took_ns;             /*  16  0: not measured                                   */
	uint64_t txn;                 /*  24  the commit; 0: of none                            */
	uint64_t rows;                /*  32  rows, keys or operations                          */
	uint32_t kind;                /*  40  enum shmeta_event_kind                            */
	uint32_t failed;              /*  44  1: it failed; the text says why                   */
	char text[SHMETA_EVENT_TEXT]; /*  48  terminated; names in it are of others: escape it  */
	uint64_t reserved;            /* 248                                                    */
};
SHMETA_FROZEN(shmeta_event, number, 0);
SHMETA_FROZEN(shmeta_event, at_ms, 8);
SHMETA_FROZEN(shmeta_event, took_ns, 16);
SHMETA_FROZEN(shmeta_event, txn, 24);
SHMETA_FROZEN(shmeta_event, rows, 32);
SHMETA_FROZEN(shmeta_event, kind, 40);
SHMETA_FROZEN(shmeta_event, failed, 44);
SHMETA_FROZEN(shmeta_event, text, 48);
SHMETA_FROZEN_SIZE(shmeta_event, 256);

/* The connections of a user. */
struct shmeta_user {
	uint32_t uid;         /*  0                                   */
	uint32_t connections; /*  4                                   */
	uint32_t registered;  /*  8  of these, those of readers       */
	uint32_t requests;    /* 12  that wait for an answer          */
	uint64_t output;      /* 16  bytes of answers not read yet    */
	uint64_t since_ns;    /* 24  CLOCK_BOOTTIME, of the oldest    */
};
SHMETA_FROZEN(shmeta_user, uid, 0);
SHMETA_FROZEN(shmeta_user, connections, 4);
SHMETA_FROZEN(shmeta_user, registered, 8);
SHMETA_FROZEN(shmeta_user, requests, 12);
SHMETA_FROZEN(shmeta_user, output, 16);
SHMETA_FROZEN(shmeta_user, since_ns, 24);
SHMETA_FROZEN_SIZE(shmeta_user, 32);

struct shmeta_activity {
	uint8_t signature[8];                  /*      0  "SHMACTIV"                              */
	uint32_t version;                      /*      8                                          */
	uint32_t event_bytes;                  /*     12                                          */
	uint64_t newest;                       /*     16  number of the newest event; goes on with the next writer */
	uint32_t user_count;                   /*     24  rows in use                             */
	uint32_t users_total;                  /*     28  users, shown or not                     */
	uint64_t reserved[12];                 /*     32                                          */
	struct shmeta_user user[SHMETA_USERS]; /*    128                                          */
	/* By minute of CLOCK_REALTIME modulo 60; [0]: asking the source, [1]: commits of the
	 * store. */
	struct shmeta_event slow[2][SHMETA_SLOW_MINUTES][SHMETA_SLOW_EACH]; /*   4224           */
	struct shmeta_event event[SHMETA_EVENTS]; /* 127104  by number modulo their count          */
};
SHMETA_FROZEN(shmeta_activity, signature, 0);
SHMETA_FROZEN(shmeta_activity, version, 8);
SHMETA_FROZEN(shmeta_activity, event_bytes, 12);
SHMETA_FROZEN(shmeta_activity, newest, 16);
SHMETA_FROZEN(shmeta_activity, user_count, 24);
SHMETA_FROZEN(shmeta_activity, users_total, 28);
SHMETA_FROZEN(shmeta_activity, reserved, 32);
SHMETA_FROZEN(shmeta_activity, user, 128);
SHMETA_FROZEN(shmeta_activity, slow, 4224);
SHMETA_FROZEN(shmeta_activity, event, 127104);
SHMETA_FROZEN_SIZE(shmeta_activity, 127104 + 2048 * 256);

/* The writer: one caller at a time. */
void shmeta__activity_begin(struct shmeta_activity *page);
/* What is in *event but its number; slow events are also kept for an hour. */
void shmeta__activity_add(struct shmeta_activity *page, const struct shmeta_event *event);

/* Anyone. OK or ERR_VERSION, ERR_CORRUPT. */
enum shmeta_status shmeta__activity_check(const struct shmeta_activity *page, struct shmeta_err *err);
/* The event of that number; false: it has been overwritten, or is being written. */
bool shmeta__activity_event(const struct shmeta_activity *page, uint64_t number, struct shmeta_event *ret);
/* A slow one, as it is; false: there is none, or it is being written. */
bool shmeta__activity_slow(const struct shmeta_event *event, struct shmeta_event *ret);
const char *shmeta__event_name(uint32_t kind); /* "?" */

#endif
