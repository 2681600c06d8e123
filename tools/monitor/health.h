/* SPDX-License-Identifier: Apache-2.0
 * Is an instance well, and if not, what is to be done? Owns: the table of checks, with their
 * thresholds and their advice. `shmetactl health` and `status`, the exporter and its page all say
 * what this says. */
#ifndef SHMETA_TOOLS_MONITOR_HEALTH_H
#define SHMETA_TOOLS_MONITOR_HEALTH_H

#include "tools/monitor/instance_pages.h"

/* By weight; exit codes of `shmetactl health` are those of health_exit(). */
enum health_severity { HEALTH_OK, HEALTH_WARNING, HEALTH_UNKNOWN, HEALTH_CRITICAL };

/* X(name, what is judged, thresholds). */
#define HEALTH_CHECK_LIST(X)                                                                                          \
	X(writer, "the writer runs", "critical: dead, stopped, or no heartbeat for 5 s; warning: nobody can connect") \
	X(phase, "the writer serves", "critical: any other phase than serving; warning: paused")                      \
	X(source, "the source answers", "warning: away or paused; critical: away for 60 s")                           \
	X(feed, "changes of the source arrive", "warning: 10 s late; critical: 60 s")                                 \
	X(freshness, "every class was verified within its time to live",                                              \
	  "warning: older than its TTL; critical: by half of it and 2 s")                                             \
	X(answers, "lookups are answered", "warning: more than 5 % UNKNOWN or errors, of 1000 or more")               \
	X(checksums, "what readers found is whole", "critical: one wrong checksum")                                   \
	X(pins, "readers let go of old snapshots", "warning: 10 s; critical: 60 s")                                   \
	X(store, "the store has room", "warning: 70 % of store.max_bytes with what is pinned; critical: 95 %")        \
	X(memory, "the file system has room for the store", "warning: less free than the store may grow, and 10 %")   \
	X(units, "reads and writes have their budgets", "warning: they waited half of the last ten seconds")          \
	X(slots, "every thread of a reader has a slot", "warning: a process uses 90 % of the slots it may have")      \
	X(hugepages, "huge pages that the mount asks for are given", "warning: none, and the store has 64 MiB")       \
	X(budget, "what a bounded store must keep fits its budgets", "warning: bounded.max_bytes is exceeded")        \
	X(queue, "keys are fetched as fast as they are asked for",                                                    \
	  "warning: 10 000 keys wait, or one for 10 s; critical: 100 000, or 60 s")                                   \
	X(quarantine, "every row of the source can be served", "warning: one row")                                    \
	X(snapshot_file, "the snapshot file is written", "warning: it lacks what is three warm.interval old")         \
	X(clock, "clocks agree",                                                                                      \
	  "critical: the heartbeat is 1 s ahead of this process's clock; warning: the source's clock is 5 s off")     \
	X(versions, "writer and readers are of one version", "warning: any other version")                            \
	X(reload, "the newest reload was taken over", "warning: it was refused")                                      \
	X(restart, "the configuration is in use", "warning: options wait for a restart")                              \
	X(stats, "the writer counts", "warning: no counters for 5 s; unknown: no stats page")

enum health_check {
#define X(name, what, thresholds) HEALTH_CHECK_##name,
	HEALTH_CHECK_LIST(X)
#undef X
		HEALTH_CHECK_COUNT
};

enum { HEALTH_VALUE_BYTES = 1400, HEALTH_COMMAND_BYTES = 300 };
struct health_finding {
	enum health_severity severity;
	char value[HEALTH_VALUE_BYTES];     /* what was found, for people: printable, without raw
                                             * text of others */
	const char *advice;                 /* what to do; "" when nothing is to be done */
	char command[HEALTH_COMMAND_BYTES]; /* the command that does it or shows more; "" */
};
struct health {
	enum health_severity worst;
	unsigned count[HEALTH_CRITICAL + 1]; /* of findings, by severity */
	struct health_finding finding[HEALTH_CHECK_COUNT];
};

/* Judges a copy of the pages: no system call but one statvfs(). instance: its name, or its
 * directory when it begins with '/'; it becomes part of the commands. */
void health_judge(const struct pages *pages, const char *instance, struct health *ret);

const char *health_name(enum health_check check);       /* "freshness" */
const char *health_what(enum health_check check);       /* what is judged */
const char *health_thresholds(enum health_check check); /* from when on it is not well */
const char *health_word(enum health_severity severity); /* "ok", "warning", "unknown", "critical" */
int health_exit(enum health_severity severity);         /* 0, 1, 3, 2: as monitoring plug-ins do */

/* The bytes that the file system of the instance has left, and of how many. false: it does not
 * say. */
bool health_free_bytes(const struct pages *pages, uint64_t *ret_free, uint64_t *ret_size);
/* The registered processes that hold a snapshot; the age of the oldest and the commits it is
 * behind. */
uint32_t health_pins(const struct pages *pages, uint64_t *ret_age_ns, uint64_t *ret_lag);
/* The source answers, as far as the writer knows. */
bool health_source_up(const struct pages *pages);

#endif
