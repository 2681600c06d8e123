/* SPDX-License-Identifier: Apache-2.0
 * What the verbs of shmetactl share: options, exit codes, output, and snapshots through the public
 * API in slices. A verb is a row of the table in verb_table.c and one function; it prints its own
 * errors and returns an exit code. */
#ifndef SHMETA_TOOLS_SHMETACTL_TOOL_H
#define SHMETA_TOOLS_SHMETACTL_TOOL_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "include/shmeta.h"

/* X(name, number, sentence). Documented in shmetactl(1) and printed by help; a number never changes
 * its meaning. */
#define TOOL_EXIT_LIST(X)                                                                            \
	X(OK, 0, "done, and what was looked at is well")                                             \
	X(UNHEALTHY, 1, "it could be looked at and is not well: degraded, writer dead, differences") \
	X(USAGE, 2, "the command line or the configuration is wrong; trying again is useless")       \
	X(NOT_RUNNING, 3, "no writer has published this instance, or it cannot be reached")          \
	X(PERMISSION, 4, "permission denied")                                                        \
	X(NOT_FOUND, 5, "the store knows that the source does not have it")                          \
	X(VERSION, 6, "not a store, or written by an incompatible version")                          \
	X(TIMEOUT, 7, "the deadline passed")

enum tool_exit {
#define X(name, number, text) TOOL_##name = number,
	TOOL_EXIT_LIST(X)
#undef X
};

struct tool {
	const char *verb; /* the row's full name: "ls topics" */
	char dir[PATH_MAX];
	const char *instance, *tenant, *prefix, *glob, *after, *store, *source, *target, *password_file, *config, *by;
	uint64_t limit;                        /* 0: none */
	uint64_t count;                        /* of repetitions, or keys; 0: without end */
	uint64_t rate;                         /* a second; 0: the usual one */
	uint32_t timeout_ms, every_ms, for_ms; /* every_ms 0: once */
	uint32_t min_age_ms;                   /* 0: the usual one */
	bool tell_writer;                      /* pages_open() says once what the writer is doing */
	bool json, defaults, no_header, color, wait, yes, all, deletable, dry_run, merge, tenant_given;
	bool list, follow, running, changed, needs_restart, all_instances;
	int argc; /* what follows the verb, options removed */
	char **argv;
	const struct verb *verbs; /* all of them */
	size_t verb_count;
};

/* Options, one line each: X(enum, flag, argument or NULL, global, help). */
#define TOOL_OPTION_LIST(X)                                                                                          \
	X(DIR, "dir", "DIR", 1, "instance directory (default: /run/shmeta/INSTANCE)")                                \
	X(INSTANCE, "instance", "NAME", 1, "name of the instance (default: default)")                                \
	X(TENANT, "tenant", "ID", 1, "tenant to look at (default: the one tenant of a database that knows none)")    \
	X(JSON, "json", NULL, 1, "one JSON object instead of text")                                                  \
	X(TIMEOUT, "timeout", "TIME", 1, "longest wait: 500ms, 5s, 2m, 1h; a bare number is seconds (default: 10s)") \
	X(COLOR, "color", "WHEN", 1, "auto, always or never (default: auto; NO_COLOR counts)")                       \
	X(NO_HEADER, "no-header", NULL, 1, "no line of column names above a list")                                   \
	X(PREFIX, "prefix", "TEXT", 0, "only names that begin with TEXT")                                            \
	X(GLOB, "glob", "PATTERN", 0, "only names that match PATTERN as a whole; only '*' is special")               \
	X(LIMIT, "limit", "N", 0, "at most N rows")                                                                  \
	X(AFTER, "after", "KEY", 0, "only rows behind KEY: a topic name, a partition id, a base offset")             \
	X(STORE, "store", "DIR", 0, "look at a copied store directory instead of an instance; structure only")       \
	X(SOURCE, "source", "URI", 0, "the source to read (default: the one the daemon names)")                      \
	X(TARGET, "target", "URI", 0, "the source to write to")                                                      \
	X(PASSWORD_FILE, "password-file", "FILE", 0, "the first line of FILE is the password for the source")        \
	X(MERGE, "merge", NULL, 0, "into a target that holds rows: add what is missing, leave what is there")        \
	X(CONFIG, "config", "FILE", 0, "configuration file (default: the one that the daemon reads)")                \
	X(DEFAULTS, "defaults", NULL, 0, "the built-in defaults, of no daemon and no file")                          \
	X(WAIT, "wait", NULL, 0, "wait until the daemon has answered")                                               \
	X(YES, "yes", NULL, 0, "do not ask before what cannot be taken back or costs much")                          \
	X(ALL, "all", NULL, 0, "everything, of all tenants")                                                         \
	X(DRY_RUN, "dry-run", NULL, 0, "only say what would be done")                                                \
	X(DELETABLE, "deletable", NULL, 0, "only objects without slices whose grace has passed")                     \
	X(EVERY, "every", "TIME", 0, "again after each TIME, until interrupted or --count is reached")               \
	X(COUNT, "count", "N", 0, "so many rounds, or keys")                                                         \
	X(LIST, "list", NULL, 0, "also the unit and the meaning of each (-l)")                                       \
	X(BY, "by", "COLUMN", 0, "what is ranked by")                                                                \
	X(RUNNING, "running", NULL, 0, "only of the daemon that runs; its file alone will not do")                   \
	X(CHANGED, "changed", NULL, 0, "only options that differ from their default")                                \
	X(NEEDS_RESTART, "needs-restart", NULL, 0, "only options whose new value waits for a restart")               \
	X(FOLLOW, "follow", NULL, 0, "go on with what comes, until interrupted or --count is reached (-f)")          \
	X(RATE, "rate", "N/s", 0, "at most so many keys a second (default: 100/s)")                                  \
	X(FOR, "for", "TIME", 0, "for so long (default: until the next reload)")                                     \
	X(MIN_AGE, "min-age", "TIME", 0, "only objects that were written longer ago: 90m, 24h, 7d (default: 24h)")   \
	X(ALL_INSTANCES, "all-instances", NULL, 0, "each instance in /run/shmeta, or in the directory given by --dir")

enum tool_option {
#define X(name, flag, arg, global, help) TOOL_OPT_##name,
	TOOL_OPTION_LIST(X)
#undef X
		TOOL_OPT_NUMBER
};

struct tool_option_row {
	const char *flag, *arg, *help;
	bool global;
};
extern const struct tool_option_row tool_options[TOOL_OPT_NUMBER];

struct verb {
	const char *name; /* one word or two */
	const char *args; /* as help shows them: "TOPIC PARTITION" */
	int min_args, max_args;
	uint64_t options; /* UINT64_C(1) << enum tool_option, beside the global ones */
	char group;       /* 'A': shared memory alone; 'B': asks the daemon or the source; 'C':
                           * about the tool */
	const char *help;
	const char *more; /* examples, for help VERB */
	int (*run)(struct tool *tool);
};
/* verb_table.c: the table. */
const struct verb *tool_all_verbs(size_t *ret_count);

/* help.c: the verb that these words name; ret_words: how many of them. NULL: none. */
const struct verb *tool_find_verb(const struct tool *tool, int argc, char **argv, int *ret_words);
/* There is no such verb, said, with what may have been meant. second: NULL: there is no second
 * word. */
int tool_bad_verb(const struct tool *tool, const char *first, const char *second);
/* Letters to add, to change or to take away. */
unsigned tool_distance(const char *a, const char *b);

int verb_status(struct tool *tool);
int verb_stat(struct tool *tool);
int verb_health(struct tool *tool);
int verb_hist(struct tool *tool);
int verb_lag(struct tool *tool);
int verb_queue(struct tool *tool);
int verb_biggest(struct tool *tool);
int verb_hot(struct tool *tool);
int verb_advise(struct tool *tool);
int verb_explain(struct tool *tool);
int verb_readers(struct tool *tool);
int verb_store(struct tool *tool);
int verb_quarantine(struct tool *tool);
int verb_ls_topics(struct tool *tool);
int verb_ls_partitions(struct tool *tool);
int verb_ls_segments(struct tool *tool);
int verb_get_topic(struct tool *tool);
int verb_get_partition(struct tool *tool);
int verb_find(struct tool *tool);
int verb_dump(struct tool *tool);
int verb_verify(struct tool *tool);
int verb_compare(struct tool *tool);
int verb_top(struct tool *tool);
int verb_support_bundle(struct tool *tool);
int verb_export(struct tool *tool);
int verb_import(struct tool *tool);
int verb_schema_apply(struct tool *tool);
int verb_schema_remove(struct tool *tool);
int verb_schema_status(struct tool *tool);
int verb_refresh(struct tool *tool);
int verb_reload(struct tool *tool);
int verb_objects(struct tool *tool);
int verb_objects_audit(struct tool *tool);
int verb_invalidate(struct tool *tool);
int verb_accept_source(struct tool *tool);
int verb_revoke(struct tool *tool);
int verb_events(struct tool *tool);
int verb_slow(struct tool *tool);
int verb_clients(struct tool *tool);
int verb_pause(struct tool *tool);
int verb_resume(struct tool *tool);
int verb_log_level(struct tool *tool);
int verb_set(struct tool *tool);
int verb_groups(struct tool *tool);
int verb_agents(struct tool *tool);
int verb_leases(struct tool *tool);
int verb_topic_create(struct tool *tool);
int verb_topic_delete(struct tool *tool);
int verb_segments_delete_before(struct tool *tool);
int verb_segments_replace(struct tool *tool);
int verb_epoch_end(struct tool *tool);
int verb_config_show(struct tool *tool);
int verb_config_check(struct tool *tool);
int verb_completion(struct tool *tool);
int verb_version(struct tool *tool);
int verb_help(struct tool *tool);

/* ---- errors ---- */

/* "shmetactl: sentence" on stderr, with --json also an object with "error" on stdout; returns
 * code. */
__attribute__((format(printf, 3, 4))) int tool_error(const struct tool *tool, int code, const char *fmt, ...);
/* The exit code that a status means. */
int tool_exit_of(enum shmeta_status status);
/* The word of an outcome: "found", "absent", "absent_gap", "unknown", "error", ... */
const char *tool_outcome(enum shmeta_status status);

/* ---- output: fields, once for text and JSON ---- */

enum field_kind {
	FIELD_TEXT,    /* untrusted bytes                                              */
	FIELD_WORD,    /* our own constant text                                        */
	FIELD_COUNT,   /* unsigned number                                              */
	FIELD_BYTES,   /* unsigned number of bytes; text of a record: 61.2 MiB         */
	FIELD_NUMBER,  /* signed number                                                */
	FIELD_TIME,    /* ms since the epoch; text: RFC 3339                           */
	FIELD_AGE,     /* ns; JSON: milliseconds with a fraction; UINT64_MAX: null     */
	FIELD_PERCENT, /* tenths of one; JSON: percent with a fraction                 */
	FIELD_BOOL,
	FIELD_MAP, /* packed map: JSON object of strings                           */
	FIELD_NULL
};
/* flags */
enum { FIELD_JSON_ONLY = 1, FIELD_RIGHT = 2 /* a text that stands to the right in a table */ };
struct field {
	const char *name; /* JSON key and column */
	enum field_kind kind;
	uint32_t flags;
	uint64_t u;
	int64_t i;
	struct shmeta_str text;
	struct shmeta_map map;
};
struct field f_text(const char *name, struct shmeta_str text);
struct field f_word(const char *name, const char *word);
struct field f_string(const char *name, const char *text); /* untrusted, terminated */
struct field f_count(const char *name, uint64_t value);
struct field f_bytes(const char *name, uint64_t value);
struct field f_time(const char *name, int64_t ms);
struct field f_time_known(const char *name, int64_t ms); /* 0: null */
struct field f_age(const char *name, uint64_t ns);
struct field f_percent(const char *name, double percent);
struct field f_bool(const char *name, bool value);
struct field f_map(const char *name, struct shmeta_map map);
struct field f_null(const char *name);
struct field f_hidden(struct field field); /* JSON only */

/* A JSON value that keeps what it was given: invalid UTF-8 becomes U+FFFD, numbers above 2^53
 * become strings. */
json_t *out_json_text(const void *text, size_t bytes);
json_t *out_json_count(uint64_t value);
json_t *out_json_age(uint64_t ns); /* milliseconds; null for UINT64_MAX */
/* Sets object[name]; takes value. Out of memory ends the program. */
void out_set(json_t *object, const char *name, json_t *value);
void out_set_field(json_t *object, const struct field *field);
/* {"schema": "shmeta.NAME", "version": 1, "time": RFC 3339 UTC} */
json_t *out_document(const char *name);
/* From now on each document has this as "writer_state". */
void out_writer(const char *state);
/* What was put goes out, and then a pause. False: nobody reads on (a pipe that was closed, a
 * terminal that is gone), or a signal came. */
bool out_pause(uint64_t ms);
/* The end of the output: the exit status, and a sentence where not all of the output could be
 * written. */
int out_end(int code);
/* "shmetactl: sentence" at stderr: what should be known of the output. */
__attribute__((format(printf, 1, 2))) void out_note(const char *fmt, ...);
/* Print it and free it: indent 0: one line. ASCII only, no raw control byte. */
void out_json(json_t *value, int indent);

/* One record: "name  value" lines, or one document. */
void out_record(const struct tool *tool, const char *schema, const struct field *fields, size_t count);

/* A list that is made in slices. Rows are rendered when they are given and wait until list_flush()
 * prints them, so that list_drop() can take back a slice whose snapshot expired. Text: a table.
 * JSON: {"schema", ..., "items": [...], "count", "complete", "next_after"}, or with `lines` one
 * object a line and nothing around them. */
enum { LIST_COLUMNS = 24 };
struct list {
	const struct tool *tool;
	const char *schema;
	bool lines, begun;
	bool incomplete;  /* the caller's: rows were left out, behind which nothing can be asked
                           * for */
	uint64_t printed; /* rows */
	uint64_t waiting; /* rows */
	size_t columns;
	size_t shown; /* of the columns: those that the terminal has room for */
	char *title[LIST_COLUMNS];
	int width[LIST_COLUMNS];
	bool right[LIST_COLUMNS];
	char **cell; /* of a table */
	size_t cells, capacity;
	char *json; /* of JSON: rows, with what stands between them */
	size_t json_bytes, json_capacity;
};
void list_begin(struct list *list, const struct tool *tool, const char *schema);
void list_row(struct list *list, const struct field *fields, size_t count);
void list_flush(struct list *list);
void list_drop(struct list *list);
/* Prints what waits and ends the list. after: the key to go on with; NULL: the list is complete, or
 * there is none. */
void list_end(struct list *list, const char *after, size_t after_bytes);
void list_free(struct list *list);

/* Text in a static ring of buffers; good for a few calls in one printf. */
const char *out_ns(uint64_t ns);       /* 12 ms, 3.4 s, 2 min 5 s, 3 d 4 h */
const char *out_size(uint64_t bytes);  /* 61.2 MiB */
const char *out_count(uint64_t value); /* 1 000 000 */
const char *out_time(int64_t ms);      /* RFC 3339 UTC */
const char *out_safe(const void *text, size_t bytes);
const char *out_safez(const char *text, size_t capacity); /* up to a NUL */

/* "leases: 120 000 looked at" on a terminal at stderr, once it has taken a while; erased before
 * anything is printed. */
void out_progress(const char *what, uint64_t done);
void out_progress_end(void);

enum paint { PAINT_GOOD, PAINT_WARN, PAINT_BAD };
const char *out_paint(const struct tool *tool, enum paint paint, const char *text);

/* ---- the public API in slices ---- */

struct session {
	struct tool *tool;
	struct shmeta *instance;
	struct shmeta_reader *reader;
	uint64_t slice_ns; /* how long a snapshot may be held: a part of the grace period */
	uint64_t begun_ns; /* of the slice */
	uint32_t tries;
	bool registered;              /* the writer keeps its snapshots readable for as long as they
                                       * last */
	bool lacks;                   /* a list that was read has not all that the source has */
	uint64_t snapshots, repeated; /* ended; of these, those that took too long */
};
/* Unregistered: never contacts the writer. Returns 0, or an exit code after having said why. */
int session_open(struct tool *tool, const char *tenant, struct session *ret);
/* For what takes long: registers as any reader does, where the writer is alive and lets us. */
int session_open_long(struct tool *tool, const char *tenant, struct session *ret);
void session_close(struct session *session);
/* Begin a snapshot, trying again while the writer commits. 0 or an exit code, said. */
int session_begin(struct session *session);
/* Of a list (NULL: none) that is about to be freed: has it all? */
void session_lists(struct session *session, const struct shmeta_iter *iter);
/* Beside what was printed: it is not all. */
void session_tell_lacks(const struct session *session);
/* Is it time to end this slice? */
bool session_due(const struct session *session);
/* End it. true: what was read may be used. false: it took too long, discard and read the slice
 * again (*ret_code is 0), or it failed for good (*ret_code is an exit code, said). */
bool session_end(struct session *session, int *ret_code);
/* The topic that an argument means: the name itself, or where there is no such topic, what its
 * \uNNNN spell (out_safe()). */
const char *session_topic(struct session *session, const char *given);
/* Why the store of this tenant answers UNKNOWN for a topic, a partition of it (partition_id >= 0)
 * or an offset (not NULL): the sentence of a quarantined row. false: there is none. */
enum { TOOL_REASON_BYTES = 1100 };
bool quarantine_reason(struct tool *tool, const char *topic, int64_t partition_id, const uint64_t *offset,
                       char ret[TOOL_REASON_BYTES]);
/* "doing: status: the library's last sentence"; returns the exit code. */
int session_say(struct session *session, enum shmeta_status status, const char *doing);

/* ---- asking the daemon ---- */

extern const char *const tool_classes[SHMETA_CLASS_COUNT]; /* "topic", ... */
/* SHMETA_CLASS_COUNT: there is none of that name. */
enum shmeta_class tool_class(const char *name);
/* shmeta_open() failed: its sentence, which may begin with the directory already. Returns the exit
 * code. */
int tool_say_not_opened(struct tool *tool, enum shmeta_status status, const char *error);
/* TOOL_NOT_FOUND, said, when the store knows that there is no such topic or, partition >= 0,
 * partition; TOOL_UNHEALTHY, said, when the source has it and it is quarantined; otherwise 0. */
int tool_say_absent(struct tool *tool, const char *topic, int64_t partition);
/* 0 and *ret to be closed, or an exit code, said. */
int tool_open_control(struct tool *tool, struct shmeta **ret);
/* The configuration that the daemon runs with; NULL: none answers, or this user may not ask
 * (TOOL_PERMISSION). why: the reason (may be NULL). */
json_t *tool_running_config(struct tool *tool, char *why, size_t bytes, int *ret_code);
/* "doing: the last sentence"; returns the exit code. */
int tool_say_failed(struct tool *tool, struct shmeta *instance, enum shmeta_status status, const char *doing);
/* Yes was said, by --yes or on the terminal. what: "delete topic x"; why it is asked: "it cannot be
 * taken back". */
bool tool_agreed(struct tool *tool, const char *what, const char *why);

/* A verb for each instance below the directory of the command line, or /run/shmeta; the worst exit
 * code. */
int tool_each_instance(struct tool *tool, int (*run)(struct tool *tool));

/* Never NULL: out of memory ends the program with a sentence. */
void *tool_alloc(size_t bytes);
void *tool_grow(void *old, size_t bytes);
char *tool_copy(const void *text, size_t bytes); /* terminated */

/* As "now" of a list of agents or leases: nobody is too old, nothing has expired. */
#define TOOL_BEGINNING_MS INT64_MIN

bool tool_parse_u64(const char *text, uint64_t max, uint64_t *ret);
uint64_t tool_monotonic_ns(void);
int64_t tool_wall_ms(void);

#endif
