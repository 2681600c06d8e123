/* SPDX-License-Identifier: Apache-2.0
 * What the daemon says to its operator: one line an event, to the journal with fields, to any other
 * stderr with a "<n>" priority, to a terminal in plain words. Each event is limited by itself, and
 * what was held back is counted and told. Any thread.
 *
 * Nobody who logs waits for who reads the log: a thread writes it, and what waits is bounded, the
 * audit by a bound of its own. What is lost is counted, and told once the log is read again. */
#ifndef SHMETA_WRITER_DAEMON_LOG_H
#define SHMETA_WRITER_DAEMON_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <syslog.h>

enum { LOG_BURST = 10, LOG_WINDOW_S = 60, LOG_PROGRESS_S = 10 };

/* Where lines go is decided once, from the stream and JOURNAL_STREAM. level: priorities above it
 * are dropped. */
void log_open(FILE *stream, const char *instance, int level);
/* From here on a thread writes. false: there is none, and each line is written before its call
 * ends. */
bool log_start(void);
/* Once all is written, or the time is over: then a stuck reader has what it has. */
void log_stop(uint64_t most_ms);
/* Lines that nobody has read, ever. */
uint64_t log_lost(void);
void log_set_level(int level);
/* Each line that is written is also told to this; NULL: no more. It logs nothing itself. */
void log_listen(void (*line)(void *arg, int priority, const char *event, const char *line), void *arg);

/* event: a short stable word of events.h, the key of the limit and a field of the journal. */
__attribute__((format(printf, 3, 4))) void log_event(int priority, const char *event, const char *fmt, ...);

/* The same for what a user of the socket causes: the limit is the user's own, so that a flood of
 * one hides nothing of another. */
__attribute__((format(printf, 4, 5))) void log_event_by(uint32_t uid, int priority, const char *event, const char *fmt,
                                                        ...);

/* Without the limit: for what somebody with the right to do so has just asked for. */
void log_unlimited(int priority, const char *event, const char *sentence);

/* The same whatever the level is: what was asked to be on record. */
void log_audit(const char *sentence);

/* Tell what was held back in windows that have ended. Called about once a second; with UINT64_MAX
 * at the end. */
void log_flush_held(uint64_t now_ns);

/* How far a load is: on a terminal a line that is drawn over itself, elsewhere a line now and then.
 * total 0: not known. */
void log_progress(uint64_t done, uint64_t total, uint64_t now_ns);
void log_progress_end(void);

/* "debug" .. "err", -1 when the word is none of them. */
int log_level_parse(const char *word);
const char *log_level_name(int level);

#endif
