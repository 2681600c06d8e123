/* SPDX-License-Identifier: Apache-2.0
 * From the engine's thread to the loop: messages in order, an eventfd that says that there are
 * some, and progress, of which only the newest counts. Posting never blocks. */
#ifndef SHMETA_WRITER_DAEMON_MAILBOX_H
#define SHMETA_WRITER_DAEMON_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "include/shmeta.h"

enum mail_kind { MAIL_PHASE, MAIL_LOG, MAIL_ANSWER, MAIL_WRITTEN, MAIL_STOPPED };

struct mail {
	struct mail *next;
	enum mail_kind kind;
	int number; /* PHASE: enum shmeta_phase; LOG: priority; ANSWER: enum shmeta_status */
	uint64_t ticket, txn, generation, synced_at_ns; /* ANSWER */
	char event[32];                                 /* LOG */
	size_t bytes;                                   /* WRITTEN: of the frame in text */
	_Alignas(8) char text[];
};

struct mailbox;

enum shmeta_status mailbox_new(struct mailbox **ret, struct shmeta_err *err);
void mailbox_free(struct mailbox *box);    /* accepts NULL */
int mailbox_fd(const struct mailbox *box); /* readable when mailbox_take() has something */

/* A message with a copy of text (NULL: ""). Filled in by the caller and then posted; NULL: no
 * memory, counted as lost. */
struct mail *mailbox_letter(struct mailbox *box, enum mail_kind kind, const char *text);
/* One with room for `bytes` of a frame in text (8-aligned). */
struct mail *mailbox_parcel(struct mailbox *box, enum mail_kind kind, size_t bytes);
/* An answer will be owed: a letter for it is reserved, so that it can be given without memory, too.
 * false: no memory. */
bool mailbox_owe(struct mailbox *box);
/* It has been given. */
void mailbox_settle(struct mailbox *box);
/* The letter reserved for an answer that is owed, with as much of text as it has room for. Never
 * NULL while one is owed. */
struct mail *mailbox_spare(struct mailbox *box, enum mail_kind kind, const char *text);
void mailbox_post(struct mailbox *box, struct mail *letter);
/* Have the loop look, without a letter. */
void mailbox_wake(struct mailbox *box);
/* Many letters follow each other, from one thread: ring once for so many, and for the rest at the
 * end. */
void mailbox_hold(struct mailbox *box);
void mailbox_release(struct mailbox *box);
/* All that was posted, in order; the caller frees each. */
struct mail *mailbox_take(struct mailbox *box);

void mailbox_progress(struct mailbox *box, uint64_t done, uint64_t total);
/* false: nothing new */
bool mailbox_take_progress(struct mailbox *box, uint64_t *ret_done, uint64_t *ret_total);
uint64_t mailbox_lost(struct mailbox *box); /* letters for which there was no memory, so far */

#endif
