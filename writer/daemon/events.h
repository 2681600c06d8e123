/* SPDX-License-Identifier: Apache-2.0
 * The events that the daemon logs: one table of their words, of their ids in the journal
 * (MESSAGE_ID=) and of what they mean to an operator, from which the journal's catalog is made.
 * Nothing here changes. Any thread. */
#ifndef SHMETA_WRITER_DAEMON_EVENTS_H
#define SHMETA_WRITER_DAEMON_EVENTS_H

#include <stdio.h>

struct event {
	const char *word;    /* as in log_event() */
	const char *id;      /* 32 hexadecimal digits */
	const char *subject; /* a few words */
	const char *text;    /* what it means and what to do */
};

/* NULL: there is no such event. tests/unit/events.sh compares the table with the words in the
 * code. */
const struct event *event_find(const char *word);

/* The file below /usr/lib/systemd/catalog. */
void event_print_catalog(FILE *stream);

#endif
