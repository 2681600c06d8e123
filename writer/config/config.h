/* SPDX-License-Identifier: Apache-2.0
 * The configuration: one table. A line of it is the field, the parser's row, the manual's entry and
 * the sample's line; nothing about an option is written anywhere else. Loading never changes what
 * is running: it gives a new struct, judged whole, or every reason why not. */
#ifndef SHMETA_WRITER_CONFIG_CONFIG_H
#define SHMETA_WRITER_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "base/err.h"
#include "include/shmeta.h"
#include "writer/engine/sync.h"

/* TEXT  a string; min and max are its length
 * BYTES a size: a number of bytes, or one with K, M, G or T (powers of 1024)
 * MS    a duration: a number of milliseconds, or one with ms, s, m or h
 * SEC   a duration: a number of seconds, or one with s, m or h
 * COUNT a plain number
 * BOOL  on, off, true, false, yes, no
 * LEVEL err, warning, notice, info, debug */
enum config_kind { CONFIG_TEXT, CONFIG_BYTES, CONFIG_MS, CONFIG_SEC, CONFIG_COUNT, CONFIG_BOOL, CONFIG_LEVEL };

/* What it takes for a new value to be used. */
enum config_when {
	CONFIG_AT_RELOAD,
	CONFIG_BY_FILE, /* at a reload, too, but by the file alone: rights, the audit, consent to a
                         * source */
	CONFIG_AT_RESTART
};

/* T(section, name, default, min, max, when, help)         text
 * N(section, name, kind, default, min, max, when, help)   everything else; the default is spelled
 *                                                         as in a file */
#define CONFIG_OPTIONS(T, N)                                                                                                         \
	T(instance, name, "default", 1, 64, RESTART, "Name of the instance: letters, digits, '_', '-' and '.'.")                     \
	T(instance, directory, "", 0, 4000, RESTART,                                                                                 \
	  "Directory of the instance, an absolute path, best on tmpfs. Empty: the service manager's runtime "                        \
	  "directory, else /run/shmeta/NAME.")                                                                                       \
	T(source, uri, "", 0, 4000, RESTART,                                                                                         \
	  "Where the metadata comes from: sqlite:PATH, postgresql://..., cockroachdb://..., dynamodb://REGION/PREFIX "               \
	  "or memory:. Empty: NAME.db in the service manager's state directory, else /var/lib/shmeta/NAME.db.")                      \
	N(source, create, BOOL, "off", 0, 1, RESTART,                                                                                \
	  "Create the database, and the seven tables in an empty one, if they do not exist. Off: a source that is "                  \
	  "missing or empty is an error. The built-in default path of source.uri is always created.")                                \
	T(source, accept, "", 0, 16, FILE_ONLY,                                                                                      \
	  "Consent to publish a source that is another one than before and lost most of its topics or partitions. "                  \
	  "The value is the fingerprint that status and the log show. Good for that one change. Empty: ask.")                        \
	T(source, read_uri, "", 0, 4000, RESTART,                                                                                    \
	  "A replica of the same PostgreSQL, read instead of it when it has caught up. Empty: none.")                                \
	N(source, follower_reads, BOOL, "off", 0, 1, RESTART,                                                                        \
	  "Let CockroachDB's nearest replicas answer the full passes, some seconds behind, unless something newer "                  \
	  "was shown or written.")                                                                                                   \
	T(source, password_file, "", 0, 4000, RESTART,                                                                               \
	  "File whose first line is the password, read for each login; a name without '/' is a credential of the service "           \
	  "manager. Empty: what libpq finds by itself.")                                                                             \
	N(source, allow_insecure, BOOL, "off", 0, 1, RESTART,                                                                        \
	  "Connect to another machine even if it does not prove its identity (sslmode=verify-full).")                                \
	N(source, timeout_ms, MS, "5s", 100, 600000, RESTART,                                                                        \
	  "The longest that one call to the source may wait for a lock or the network.")                                             \
	N(source, read_units_s, COUNT, "0", 0, 1000000, RESTART,                                                                     \
	  "DynamoDB: units that may be read a second (RCU); what needs more waits. 0: no limit.")                                    \
	N(source, write_units_s, COUNT, "0", 0, 1000000, RESTART,                                                                    \
	  "DynamoDB: units that may be written a second (WCU); what needs more waits. 0: no limit.")                                 \
	N(source, read_only, BOOL, "off", 0, 1, RESTART,                                                                             \
	  "Never write to the source: no schema, no triggers; changes are then found by comparing.")                                 \
	N(source, manage_schema, BOOL, "on", 0, 1, RESTART,                                                                          \
	  "Create shmeta's own tables and triggers (shmeta_...) beside the seven in a source that lacks them. Those "                \
	  "of a newer version are left as they are. Without them changes are found by comparing everything.")                        \
	N(store, max_bytes, BYTES, "1G", 1 << 20, UINT64_C(1) << 40, RESTART,                                                        \
	  "Size limit of a store generation. Address space until it is used.")                                                       \
	T(store, mode, "mirror", 1, 16, RESTART,                                                                                     \
	  "mirror: the store has everything that the source has. bounded: it has what this host uses, within the "                   \
	  "budgets of section bounded; the rest is read from the source when a reader asks for it.")                                 \
	N(store, grace_ms, MS, "1s", 50, 60000, RESTART,                                                                             \
	  "How long the memory of a past commit is kept for readers that are not registered.")                                       \
	N(bounded, max_topics, COUNT, "10000", 1, 10000000, RELOAD, "Bounded mode: most topics in the store.")                       \
	N(bounded, max_partitions, COUNT, "100000", 1, 100000000, RELOAD,                                                            \
	  "Bounded mode: most partitions in the store.")                                                                             \
	N(bounded, max_segment_bytes, BYTES, "64M", 65536, UINT64_C(1) << 39, RELOAD,                                                \
	  "Bounded mode: most bytes of partitions with their segment indexes. The index of a partition that alone "                  \
	  "takes more is not kept.")                                                                                                 \
	N(bounded, batch_percent, COUNT, "2", 1, 50, RELOAD,                                                                         \
	  "Bounded mode: when a budget is exceeded, so much of it is freed at once, in percent.")                                    \
	N(bounded, hot_touches, COUNT, "1", 1, 3, RELOAD,                                                                            \
	  "Bounded mode: a record that was found in use so many times since it came is kept beside those that only "                 \
	  "pass through. The writer looks about once a second, and before it evicts.")                                               \
	N(bounded, max_bytes, BYTES, "256M", 1 << 19, UINT64_C(1) << 39, RELOAD,                                                     \
	  "Bounded mode: most bytes of the content of the store; at most half of store.max_bytes.")                                  \
	T(bounded, freshness, "fixed", 1, 32, RELOAD,                                                                                \
	  "Bounded mode where the source has no change feed. fixed: all that the store has is compared within the times to live. "   \
	  "balanced, high-throughput, memory-constrained, write-heavy, read-heavy: each partition is fresh, with its segments, "     \
	  "for a time of its own, which grows when a read finds nothing new and shrinks when it finds a change; what is used is "    \
	  "read again in time, and a ttl_override stands. The names are presets of the five options below.")                         \
	N(bounded, fresh_min_ms, MS, "0", 0, 2678400000, RELOAD, "The shortest of these times. 0: the preset's.")                    \
	N(bounded, fresh_base_ms, MS, "0", 0, 2678400000, RELOAD,                                                                    \
	  "The time of a partition that was read once. 0: the preset's.")                                                            \
	N(bounded, fresh_max_ms, MS, "0", 0, 2678400000, RELOAD, "The longest of these times. 0: the preset's.")                     \
	N(bounded, fresh_longer_percent, COUNT, "0", 0, 800, RELOAD,                                                                 \
	  "The time after a read that found nothing new, in percent of the one before: 100 or more. 0: the preset's.")               \
	N(bounded, fresh_shorter_percent, COUNT, "0", 0, 100, RELOAD,                                                                \
	  "The time after a read that found a change, in percent of the one before: 10 or more. 0: the preset's.")                   \
	N(snapshot, max_age, SEC, "60s", 0, 86400, RELOAD,                                                                           \
	  "A reader whose snapshot has been out of date for longer is cut off: its next call answers "                               \
	  "SHMETA_ERR_EXPIRED. 0: only when the store is full. Never less than store.grace_ms.")                                     \
	T(warm, file, "", 0, 4000, RESTART,                                                                                          \
	  "Snapshot file of the store, an absolute path that survives a reboot: written every warm.interval and at a clean "         \
	  "stop, served at a start that finds no store, until the source has told what changed. Only the daemon's user may "         \
	  "write its directory. Without effect where store.mode is bounded. Empty: none.")                                           \
	N(warm, interval, SEC, "5m", 0, 86400, RELOAD,                                                                               \
	  "How often the snapshot file is written, if anything changed. 0: at a stop only.")                                         \
	N(ttl, topic_ms, MS, "5m", 1, 604800000, RELOAD, "Topics are fresh this long after the source was read.")                    \
	N(ttl, partition_ms, MS, "30s", 1, 604800000, RELOAD,                                                                        \
	  "Partitions are fresh this long after the source was read.")                                                               \
	N(ttl, segment_ms, MS, "30s", 1, 604800000, RELOAD,                                                                          \
	  "Segment indexes are fresh this long after the source was read.")                                                          \
	N(ttl, list_ms, MS, "30s", 1, 604800000, RELOAD,                                                                             \
	  "The list of topics is fresh this long after the source was read.")                                                        \
	N(ttl, agent_ms, MS, "5s", 1, 604800000, RELOAD, "Agents are fresh this long after the source was read.")                    \
	N(ttl, lease_ms, MS, "5s", 1, 604800000, RELOAD, "Leases are fresh this long after the source was read.")                    \
	N(ttl, offset_ms, MS, "5s", 1, 604800000, RELOAD,                                                                            \
	  "Committed offsets and groups are fresh this long after the source was read.")                                             \
	N(feed, poll_min_ms, MS, "5ms", 1, 60000, RELOAD, "Interval of the change feed's polls while changes come.")                 \
	N(feed, poll_max_ms, MS, "1s", 1, 600000, RELOAD,                                                                            \
	  "Interval of the change feed's polls while nothing changes.")                                                              \
	N(feed, reconcile_s, SEC, "5m", 0, 604800, RELOAD,                                                                           \
	  "Interval of the full comparison with the source while there is a change feed: it finds what the feed does not "           \
	  "report. 0: none by time. A comparison is made all the same where somebody asks for one, where the feed is lost or "       \
	  "lags behind, and, within the times to live, where there is no feed.")                                                     \
	N(feed, keep_s, SEC, "1h", 60, 604800, RESTART,                                                                              \
	  "How long changes are kept for other hosts: PostgreSQL's log, up to about a million rows, and DynamoDB's, an hour at "     \
	  "least.")                                                                                                                  \
	N(feed, notify, BOOL, "off", 0, 1, RESTART,                                                                                  \
	  "Let PostgreSQL's triggers NOTIFY: changes show sooner, but every commit there waits for one lock.")                       \
	N(feed, changefeed, BOOL, "off", 0, 1, RESTART,                                                                              \
	  "Follow CockroachDB by a changefeed, which the cluster has to allow (kv.rangefeed.enabled). Off: by full passes.")         \
	N(refresh, batch_keys, COUNT, "1000", 1, 100000, RELOAD, "Most keys fetched from the source in one call.")                   \
	N(refresh, queue_max, COUNT, "262144", 16, 16777216, RELOAD,                                                                 \
	  "Most keys waiting to be fetched; a request beyond it is answered BUSY.")                                                  \
	N(refresh, queue_bytes, BYTES, "64M", 1 << 20, UINT64_C(1) << 36, RELOAD,                                                    \
	  "Most memory for keys that readers asked for and for their requests; one beyond it is answered BUSY.")                     \
	N(refresh, user_rate, COUNT, "50", 0, 1000000, RELOAD,                                                                       \
	  "Most keys a second that are read from the source because one user asked. Joining a read that waits or is "                \
	  "in flight costs nothing. A key waits for its turn; it is answered BUSY if that would come after the "                     \
	  "reader's deadline. Root and the daemon's user are not bound. 0: nobody is.")                                              \
	N(refresh, user_burst, COUNT, "100", 1, 1000000, RELOAD,                                                                     \
	  "Most of these keys at once, for a user who has asked for nothing for a while.")                                           \
	N(refresh, queries_s, COUNT, "0", 0, 1000000, RELOAD,                                                                        \
	  "Statements a second that reads for readers may take, those that times to live cause included. What needs more waits, "    \
	  "and its age grows. Polls, full comparisons, and what the feed named or was written are not bound. 0: no limit.")          \
	N(refresh, rows_s, COUNT, "0", 0, 1000000, RELOAD,                                                                           \
	  "The same in rows. What a read brought beyond it is paid off before the next one begins. 0: no limit.")                    \
	N(refresh, absent_ttl_ms, MS, "1s", 0, 5000, RELOAD,                                                                         \
	  "How long a key that the source did not have is answered absent from memory, unless something reports "                    \
	  "otherwise. 0: never.")                                                                                                    \
	N(refresh, absent_max, COUNT, "10000", 0, 1000000, RELOAD,                                                                   \
	  "Most of these absent keys remembered at a time; the oldest go first.")                                                    \
	N(retry, min_ms, MS, "100ms", 1, 60000, RELOAD, "First pause before a source that failed is tried again.")                   \
	N(retry, max_ms, MS, "15s", 1, 3600000, RELOAD, "Longest pause before a source that failed is tried again.")                 \
	N(write, queue_max, COUNT, "262144", 16, 16777216, RELOAD,                                                                   \
	  "Most operations waiting to be committed; a call beyond it is answered BUSY.")                                             \
	N(write, queue_bytes, BYTES, "64M", 1 << 20, UINT64_C(1) << 36, RELOAD,                                                      \
	  "Most memory for operations waiting to be committed; a call beyond it is answered BUSY.")                                  \
	N(write, connection_bytes, BYTES, "16M", 1 << 17, UINT64_C(1) << 36, RELOAD,                                                 \
	  "Most of this memory for one connection.")                                                                                 \
	N(write, batch_max, COUNT, "4096", 1, 65536, RELOAD,                                                                         \
	  "Most operations in one transaction of the source. No engine takes more than 4096.")                                       \
	N(write, linger_ms, MS, "0", 0, 100, RELOAD,                                                                                 \
	  "How long operations wait for others before they are committed together.")                                                 \
	N(write, audit, BOOL, "on", 0, 1, FILE_ONLY,                                                                                 \
	  "Log who wrote, whatever log.level is: a line for each operation that deletes, creates a topic or "                        \
	  "administers, and for ten with a trace id, with its key and result; all others, and refusals beyond ten, "                 \
	  "counted by second, user and kind. Nothing is left out; a kill -9 loses the sums of the last second, and a log that "      \
	  "nobody reads all lines beyond 4 MiB, which are counted.")                                                                 \
	N(objects, grace_ms, MS, "0", 0, UINT64_C(31536000000), RELOAD,                                                              \
	  "An object without slices is listed as deletable after that long. At least twice the longest time to live, "               \
	  "since readers may go by what they know until then. 0: just that.")                                                        \
	N(load, commit_rows, COUNT, "100000", 100, 100000000, RESTART, "Rows in one commit while loading.")                          \
	T(control, group, "shmeta", 0, 64, RESTART,                                                                                  \
	  "Group that may connect to the control socket. Without such a group only the daemon's own group may. "                     \
	  "Empty: the same.")                                                                                                        \
	T(control, admin_group, "", 0, 64, FILE_ONLY,                                                                                \
	  "Group whose members may administer (reload, invalidate, list objects), besides root and the daemon's user. Empty: none.") \
	T(control, write_groups, "", 0, 1024, FILE_ONLY,                                                                             \
	  "Groups whose members may write, comma-separated, besides root and the daemon's user. Empty: none.")                       \
	T(control, write_users, "", 0, 1024, FILE_ONLY, "Users who may write, comma-separated names or numbers.")                    \
	N(control, connections_max, COUNT, "1024", 8, 4096, RELOAD, "Most connections at a time.")                                   \
	N(control, connections_reserved, COUNT, "16", 0, 1024, RELOAD,                                                               \
	  "How many of these connections are kept for root and the daemon's user.")                                                  \
	N(control, connections_per_user, COUNT, "64", 1, 4096, RELOAD,                                                               \
	  "Most connections of one user that have not registered.")                                                                  \
	N(control, registrations_per_user, COUNT, "512", 1, 4096, RELOAD, "Most registered processes of one user.")                  \
	N(control, user_share, COUNT, "50", 1, 100, RELOAD,                                                                          \
	  "Most that one user may take of the connections, readers' slots and queues that the others leave, in "                     \
	  "percent. Set 100 where all agents run as one user. Root and the daemon's user are bound only by the "                     \
	  "whole.")                                                                                                                  \
	N(control, requests_per_connection, COUNT, "1024", 1, 65536, RELOAD,                                                         \
	  "Most refreshes that one connection may have in flight; more are answered BUSY.")                                          \
	N(control, first_frame_ms, MS, "2s", 10, 60000, RELOAD, "How long a new connection may stay silent.")                        \
	N(control, idle_s, SEC, "60s", 1, 86400, RELOAD,                                                                             \
	  "How long a connection that has not registered may stay idle.")                                                            \
	N(control, output_max_bytes, BYTES, "256K", 65536, 16777216, RELOAD,                                                         \
	  "Most bytes of answers that a client may leave unread before its connection is closed.")                                   \
	N(log, level, LEVEL, "info", 3, 7, RELOAD,                                                                                   \
	  "The least important messages to log: err, warning, notice, info, debug.")

enum config_index {
#define T(section, name, ...) CONFIG_##section##_##name,
#define N(section, name, ...) CONFIG_##section##_##name,
	CONFIG_OPTIONS(T, N)
#undef T
#undef N
		CONFIG_OPTION_COUNT
};

struct config_override {
	char *prefix;
	uint64_t ttl_ms;
	char *origin;
};

struct config {
#define T(section, name, ...) char *section##_##name;
#define N(section, name, ...) uint64_t section##_##name;
	CONFIG_OPTIONS(T, N)
#undef T
#undef N
	char *origin[CONFIG_OPTION_COUNT];  /* "default", "FILE:LINE", a flag, or a variable */
	char *pending[CONFIG_OPTION_COUNT]; /* as shown: the value that a restart will bring; NULL:
                                             * the same */
	struct config_override *overrides;  /* ttl_override "PREFIX" { ttl_ms = ... } */
	size_t override_count;
	char *file; /* NULL: none was named */
};

struct config_option {
	const char *section, *name, *key; /* key: "section.name" */
	enum config_kind kind;
	enum config_when when;
	const char *standard; /* the default, as in a file */
	uint64_t min, max;
	const char *help;
	size_t at; /* in struct config: char * for TEXT, uint64_t otherwise */
};
extern const struct config_option config_options[CONFIG_OPTION_COUNT];

/* An option that was set in the running daemon (`shmetactl set`). */
struct config_setting {
	const struct config_option *option;
	char *value;
	char *origin; /* who set it, as it is shown */
};

/* From the command line; NULL: not given. They win over the file. Settings win over all. */
struct config_flags {
	const char *file, *source, *directory, *instance;
	bool create;
	const struct config_setting *settings;
	size_t setting_count;
};

/* problem() is told of every mistake, in the order of the lines: "FILE:LINE: KEY: what is wrong".
 * refused() (may be NULL) is called once when there were any: with the instance directory, as far
 * as the flags and what could be read of the file name it. */
struct config_listener {
	void *arg;
	void (*problem)(void *arg, const char *sentence);
	void (*refused)(void *arg, const char *directory);
};

/* Read the file, or none, and judge all of it. OK and a new struct, or ERR_CONFIG (err: the first
 * mistake and how many more there are), ERR_NO_MEMORY. Reads STATE_DIRECTORY and RUNTIME_DIRECTORY.
 * listener may be NULL. */
enum shmeta_status config_load(const struct config_flags *flags, const struct config_listener *listener,
                               struct config **ret, struct shmeta_err *err);
void config_free(struct config *config); /* accepts NULL */
/* "section.name"; NULL: there is none. */
const struct config_option *config_find(const char *key);

/* What this host says to a configuration that is in itself right: users, groups, files and folders
 * that are not there, options that the source's engine does not use. None of it keeps a daemon from
 * starting; without its source it waits. Returns how much it was; listener is told of each as by
 * config_load(). */
size_t config_judge_host(const struct config *config, const struct config_listener *listener);

/* The next configuration takes effect but for what needs a restart: those values of *next are
 * replaced by the running ones and kept in next->pending as they would be shown. Their keys are
 * listed in ret_restart, separated by ", " (empty: none). */
void config_keep_started(const struct config *running, struct config *next, char *ret_restart, size_t bytes);

/* Names, values, defaults, limits, when they change, where each comes from, and what is pending.
 * Passwords in URIs are not shown. */
json_t *config_json(const struct config *config);
void config_print(const struct config *config, FILE *stream);
/* A sample file: every option with its help, commented out. */
void config_print_sample(FILE *stream);
/* The options as scdoc(5) text, for shmeta.conf(5). */
void config_print_manual(FILE *stream);

/* For the engine. The struct borrows from config and from overrides[config->override_count]; NULL:
 * without them. */
void config_sync_options(const struct config *config, struct sync_ttl_override *overrides, struct sync_options *ret);

/* Slots of the readers' touch maps; 0: they have none. */
uint32_t config_touch_ceiling(const struct config *config);

/* "scheme://user:password@host" with the password hidden. Returns ret. */
char *config_hide_secrets(const char *uri, char *ret, size_t bytes);

#endif
