/* SPDX-License-Identifier: Apache-2.0
 * The inside of the sync engine, shared by the files that make it up:
 *   clock.c           time, chance, waking, stamps
 *   states.c          the states of store, origin and feed, and their moves
 *   state.c           questions that change nothing
 *   session.c         the session with the source
 *   schedule.c        what is due when
 *   sync.c            a round; opening and closing
 *   thread.c          rounds, and the sleep between them
 *   engine_options.c  a copy of the options
 *   reconfigure.c     what a reload changes
 *   host.c            what is told to whoever runs the engine
 *   show.c            what other threads see of it
 *   pause.c           the source is left alone, and comes back
 *   health.c          what does not work, since when, when it is tried again, and the phase that follows from it
 *   store_health.c    what is left of the store, and who is to give some of it back
 *   saved_feed.c      the feed's position that the store keeps
 *   generation.c      which store to start from, the first write after a restart, switching and retiring generations
 *   audit.c           who wrote what
 *   accept.c          a source that is no longer what the store was filled from
 *   reconcile.c       load(): the first one into a new generation, later ones merged with the store
 *   merge.c           the rows of either, into the store
 *   by_keys.c         the same where one row keeps load() from showing anything
 *   compare.c         load() aside: what differs is read again by the queue
 *   pass.c            what both need
 *   group_commit.c    group commit of operations
 *   request_ids.c     what was done under which request id
 *   turns.c           whose operations are next
 *   admin_jobs.c      lists of objects, invalidation
 *   reread.c          keys that are to be read again
 *   queue.c           keys that wait: who asks for them
 *   queue_entries.c   the entries, and their states
 *   queue_answers.c   what whoever waits for them is told
 *   askers.c          how many keys each user may have read
 *   orphans.c         offsets and leases that came before their topic
 *   absent.c          what the source was just found not to have
 *   fetch_result.c    what a bulk fetch answered
 *   refresh.c         the change feed, and what it and readers name
 *   failing.c         keys that fail by themselves
 *   alone.c           records whose key could not be read: they keep the time until which they were known to be true
 *   quarantine.c      rows that cannot be served, as records of the store
 *   batch.c           bulk fetches, commits and answers
 *   batch_apply.c     what was fetched, into the store
 *   stream.c          the same for what is too large to be collected first
 * All of it but the queue (under lock) belongs to the engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_ENGINE_H
#define SHMETA_WRITER_ENGINE_ENGINE_H

#include <pthread.h>

#include "writer/apply/apply.h"
#include "writer/engine/states.h"
#include "writer/engine/sync.h"
#include "writer/keys/apply_clock.h"
#include "writer/keys/orphans.h"

enum { SYNC_LEAVING_MAX = 16 };
#define SYNC_NEVER UINT64_MAX
#define SYNC_MS 1000000ull
#define SYNC_S 1000000000ull
/* Offsets are 0..2^63-1 (C9); a source that binds signed integers takes this as "to the end". */
#define SYNC_LAST_OFFSET ((uint64_t)INT64_MAX)

/* Something does not work and is tried again: one try at a time, further apart, with full jitter. */
struct sync_trouble {
	bool on;
	uint64_t since_ns, next_ns;
	int64_t since_s; /* of the wall clock */
	uint32_t attempts;
	char text[700]; /* the longest: that the store is full, with the error that says so */
	/* What fails again soon after it has worked, with the same words, has never been well: its end is believed after a while. */
	uint32_t returns;
	uint64_t works_since_ns, ended_ns; /* 0: not */
};

/* What the source is asked for. Each has a trouble of its own, which ends when the same thing works again; any of them shows that
 * the connection (OPEN) works. */
enum sync_job {
	SYNC_JOB_OPEN,  /* connecting, resuming the feed, writes, lists of objects */
	SYNC_JOB_FEED,  /* a poll of the change feed */
	SYNC_JOB_FETCH, /* keys */
	SYNC_JOB_PASS,  /* everything: shows that keys can be read, too */
	SYNC_JOBS
};

struct sync_queue;  /* queue.h */
struct sync_writes; /* write_queue.h */
struct sync_admin;  /* admin_jobs.c */
struct audit;       /* audit.c */

/* A source that would not be read before its feed has told what became of it. */
enum look_state {
	LOOK_NONE,
	LOOK_NEEDED, /* a fetch met one: it is looked at, and what was to be fetched waits for that */
	LOOK_MADE    /* the next fetch is made right behind such a look: a second refusal is a failure */
};

/* saved_feed.c: META_FEED. value: as it was last put; kept: as the store had it when it was read. */
struct saved_feed {
	uint8_t *value, *kept;
	size_t value_room, kept_bytes;
};

/* accept.c: a source that is not what the store was filled from */
struct accept {
	bool changed;
	uint64_t look_due_ns, load_due_ns, reload_ns; /* load_due_ns: when something has changed */
	uint64_t topics, topics_lost, partitions, partitions_lost;
	char sentence[700];
	/* Under seen_lock. */
	uint64_t consent;
	struct sync_held seen;
};

/* pause.c */
struct pause {
	bool on; /* the engine's thread: there is no session, and none is opened */
	/* Under seen_lock: what was asked for, and not done yet. */
	bool asked, resume;
	bool seen; /* on, or about to be: as the last one that asked left it */
	uint64_t ticket;
	char why[700];
};

struct failing_key; /* failing.h: a key that fails by itself */
enum { SYNC_FAILING_BUCKETS = 1024 };
/* A generation that is no longer current: its directory goes when nobody can be opening it any more. */
struct sync_leaving {
	uint64_t number, due_ns;
};

struct sync {
	int dir_fd;
	struct shmeta_board *board;
	struct sync_options options; /* strings are ours */
	struct sync_host host;
	uint64_t random;

	/* The source. */
	const struct backend_engine *engine;
	void *backend;
	bool source_open;
	enum feed_state feed;
	enum origin_state origin;
	enum backend_feed_kind feed_kind;
	bool unwritable; /* as it says */
	uint64_t uri_hash;
	struct backend_counters counted; /* of states that were closed */
	struct sync_trouble source;      /* it is not asked before next_ns */
	struct sync_trouble job[SYNC_JOBS];
	char source_full[500]; /* the last write that the source had no room for; "": one was done since */
	int64_t source_full_s; /* when, by the wall clock */
	bool source_failing;   /* one of them */
	uint64_t failing_since_ns;
	char phase_reason[512]; /* as the host was told */

	/* The store. */
	struct shmeta__store *store; /* the current generation; NULL: none */
	struct shmeta_generation *gen;
	uint64_t newest_number; /* of all generations that ever had a directory here */
	uint64_t next_topic_id; /* lower bound for a new generation: identities are never reused in an instance */
	enum store_state store_state;
	struct accept accept;
	struct audit *audit;
	uint64_t load_began_ns;   /* 0: no load into a new generation is under way */
	uint64_t adopted_at_ns;   /* when the store of a former writer was taken over */
	struct sync_trouble room; /* the store cannot take what it should */
	bool room_limited;        /* for a limit of the system, which is looked at meanwhile */
	uint64_t room_looked_ns;
	enum shmeta_status room_status;
	uint64_t
		room_pinned; /* while it is full: the most that was held back, in bytes; when half of it is free it is tried again */
	unsigned room_level; /* of shmeta__room_level(), as it was told */
	uint32_t batch_full; /* keys of the batch under way for which the store has no room */
	struct sync_leaving leaving[SYNC_LEAVING_MAX];
	size_t leaving_count;
	bool leaving_more; /* directories that did not fit the list: it is made again when these have gone */
	struct saved_feed saved_feed;
	struct pause pause;

	/* What is due when (CLOCK_BOOTTIME ns). */
	uint64_t poll_due_ns, poll_every_ns, poll_busy_until_ns;
	uint64_t load_lag_ns; /* how much older than the last full pass its topics were already */
	uint64_t reconcile_due_ns, reconcile_not_before_ns, reconcile_began_ns, reconcile_took_ns, hints_due_ns;
	uint64_t looked_ns, room_look_ns, shown_ns, last_commit;
	uint64_t deaf_until_ns; /* the source's signs are those of our own commit: it is asked then, not woken for */
	bool reconcile_asked;   /* wanted as soon as the rate allows */
	char asked_why[200];    /* by what */
	bool woken;             /* the source gave a sign: it may come a little before what it announces */
	uint64_t polled_at_ns;
	uint64_t born_since;  /* next_topic_id when the feed was last asked, or everything was read */
	uint64_t feed_at_ns;  /* until when the feed has told */
	uint64_t feed_lag_ns; /* how long that was before it was asked */
	char feed_trouble[400];
	uint64_t wake_ns; /* the earliest time that anything asked to be waited for in this round */

	/* A load that shrank by more than half must be seen twice (reliability row 46). */
	bool shrunken;
	uint64_t shrunken_topics, shrunken_segments;
	bool split_removals; /* the next pass may commit removals before its end: its size is known to be right */

	struct apply apply;
	struct sync_queue *queue;
	struct sync_writes *writes;
	struct sync_admin *admin;
	struct floor floor;
	struct {
		struct failing_key *bucket[SYNC_FAILING_BUCKETS];
		size_t count, holding; /* holding: their classes are held */
	} failing;                     /* failing.h */
	struct orphans orphans;

	/* Rows that entered, and that left, the quarantine in the pass that is under way. */
	uint64_t pass_quarantined[2], quarantine_window_ns;
	const char *quarantine_pass;

	enum look_state look; /* batch.c */

	void (*fetched_hook)(void *arg);
	void *fetched_hook_arg;

	/* What other threads look at, under seen_lock. */
	pthread_mutex_t seen_lock;
	struct sync_counters counters, seen_counters;
	uint64_t seen_feed_at_ns;
	bool reconfigured; /* there are next_options */
	struct sync_options next_options;
	char seen_source[1024];

	int event_fd;
	uint32_t stopping;
	uint32_t kicked;   /* there may be something to do: the thread has not looked since   */
	uint32_t sleeping; /* and it waits for event_fd                                       */
	/* After a small write the thread stays awake for the next one of a client that waits for each, as long as that is not in
	 * vain. */
	bool linger;
	uint32_t lingered_in_vain, lingers_left_out;
	bool has_thread;
	pthread_t thread;
};

/* ---- clock.c, sync.c -------------------------------------------------------------------------- */

uint64_t sync_now(struct sync *s);
int64_t sync_wall_ms(struct sync *s); /* what records carry */
/* U(low, high) in thousandths of value. */
uint64_t sync_jitter(struct sync *s, uint64_t value, uint32_t low, uint32_t high);
bool sync_stopping(struct sync *s);
void sync_wake(struct sync *s); /* any thread */
/* Something is due at this time: the round must not wait longer. */
void sync_wake_at(struct sync *s, uint64_t due_ns);
/* Everything of the class that commit txn shows was true of the source at synced_at_ns (PAIR 3). */
void sync_stamp(struct sync *s, struct shmeta_generation *gen, enum shmeta_class cls, uint64_t txn,
                uint64_t synced_at_ns);
void sync_stamp_all(struct sync *s, struct shmeta_generation *gen, uint64_t txn, uint64_t synced_at_ns);
uint64_t sync_committed(struct sync *s);
uint64_t sync_oldest_pin(struct sync *s);

/* ---- state.c: questions that change nothing ------------------------------------------------------ */

/* The first job of the source that is in trouble; NULL: none is. */
const struct sync_trouble *state_job_in_trouble(const struct sync *s);
/* The source refuses writes that nobody has forbidden. */
bool state_unwritable(const struct sync *s);

/* ---- session.c: the session with the source -------------------------------------------------- */

/* The source is open afterwards, or err says why not. */
enum shmeta_status session_open(struct sync *s, struct backend_error *err);
/* May the source be asked now? Opens it, and has its feed go on where the store's ended; what fails is told. */
bool session_ready(struct sync *s);
/* Everything has just been read, or the feed asked: is there a feed to follow? It may have come with the one or gone with the
 * other; then full passes find what changes, and the operator hears why. */
bool session_look_for_feed(struct sync *s);
/* Readable when the source may have changed; -1: it gives no sign. */
int session_wake_fd(struct sync *s);

/* The session ends; its place is remembered, and session_ready() opens another one. Nothing of it is under way. */
void session_close(struct sync *s);

/* ---- pause.c: the source is left alone --------------------------------------------------------- */

/* Does somebody want it left alone, or back, and was that not done yet? */
bool pause_asked(struct sync *s);
/* Do it; between two things that ask the source. */
void pause_take(struct sync *s);
/* At the start: as the options say. */
void pause_begin(struct sync *s);

/* ---- schedule.c: what is due when -------------------------------------------------------------- */

/* A full pass is wanted as soon as the rate allows; the first reason stays. list_dirty: until then the list is not known to be in step. */
void schedule_ask_pass(struct sync *s, bool list_dirty, const char *why);
/* Does somebody wait for a full pass? */
bool schedule_pass_wanted(struct sync *s);
/* Why a pass that is due now is made: the text outlives the question, which the pass answers. */
void schedule_why_pass(struct sync *s, char *ret, size_t bytes);
/* When the next full pass may begin. */
uint64_t schedule_reconcile_when(struct sync *s);
/* When a pass is due because the feed lags behind; SYNC_NEVER where it does not. */
uint64_t schedule_lag_when(const struct sync *s);
/* When the next full pass is due if nothing asks for one. */
void schedule_reconcile(struct sync *s);
/* When the advisory classes are to be read whole; schedule_hints(): once more, from now on. */
uint64_t schedule_hints_when(const struct sync *s);
void schedule_hints(struct sync *s);
/* Does the feed tell at once of all that changes? Then it is asked whether the list is in step. */
bool schedule_feed_tells_at_once(const struct sync *s);

/* ---- engine_options.c -------------------------------------------------------------------------------- */

/* A copy whose strings are its own, with every number brought to something that works. false: no memory. */
bool options_copy(const struct sync_options *from, struct sync_options *ret);
void options_free(struct sync_options *o);
/* Those of the last sync_reconfigure(), as far as a reload may change them. */
void options_take(struct sync *s);
/* A topic's own time to live; 0: its class's. arg: the struct sync. */
uint32_t options_ttl_ms(void *arg, struct shmeta_str topic);
/* The shortest of the topic, partition, segment and list TTLs, and of the hints'. */
uint64_t sync_main_ttl_ns(const struct sync *s);
uint64_t sync_hint_ttl_ns(const struct sync *s);

/* ---- host.c ----------------------------------------------------------------------------------- */

/* With something in the place of each function that it does not have. */
struct sync_host host_complete(const struct sync_host *host);
__attribute__((format(printf, 4, 5))) void sync_log(struct sync *s, int priority, const char *event, const char *fmt,
                                                    ...);
/* Rows that enter or leave the quarantine are spelled out ten times a pass; passes of one kind (a constant string) that follow each
 * other within a minute are one. end: say how many there were. */
void sync_quarantine_pass_begin(struct sync *s, const char *what);
void sync_quarantine_pass_end(struct sync *s);
struct apply_host sync_apply_host(struct sync *s);

/* ---- show.c ----------------------------------------------------------------------------------- */

void sync_count_commit(struct sync *s, const struct apply *a, uint64_t began_ns);
void sync_show_now_and_then(struct sync *s); /* as often as somebody can look */
void sync_show(struct sync *s);              /* counters and the state of the source for other threads */

/* ---- health.c --------------------------------------------------------------------------------------------------------------- */

void sync_move(struct sync *s, enum shmeta_phase phase, const char *sentence);
/* SERVING or DEGRADED, as the troubles say, and why. */
void sync_settle_phase(struct sync *s);
/* ERR_INVALID_ARGUMENT: the source answers, but not this; any other status: nothing is asked of it before a pause. */
void sync_source_failed(struct sync *s, enum sync_job job, enum shmeta_status status, const char *sentence);
void sync_source_works(struct sync *s, enum sync_job job);
/* May it be tried now? Otherwise sync_wake_at() was told. */
bool sync_job_due(struct sync *s, enum sync_job job);
/* The source is not asked, for the reason given, until health_unpaused(). */
void health_paused(struct sync *s, const char *why);
void health_unpaused(struct sync *s);
/* Nobody will ask for it any more. */
void sync_job_forget(struct sync *s, enum sync_job job);
void sync_room_failed(struct sync *s, enum shmeta_status status, const char *sentence);
void sync_room_works(struct sync *s);
/* Has the limit of the system that kept the store from growing been lifted? Otherwise sync_wake_at() was told when to look again. */
bool health_room_returned(struct sync *s);
/* Troubles that have been away for long enough end. */
void health_run(struct sync *s);
void health_tell_writable(struct sync *s); /* in the log */
/* A write failed for want of room at the source, which reads as before; a write was done. */
void health_source_full(struct sync *s, const char *sentence);
void health_source_has_room(struct sync *s);

/* ---- audit.c ---------------------------------------------------------------------------------- */

enum shmeta_status audit_init(struct sync *s, struct shmeta_err *err);
void audit_free(struct sync *s);
/* What became of the operations of one call. again: which were answered with the result of one that came before, and not done. */
void audit_ops(struct sync *s, const char *who, struct shmeta_str tenant, const struct shmeta_op *ops,
               const struct shmeta_result *results, const bool *again, size_t count);
void audit_say(struct sync *s, const char *text); /* a whole line */
void audit_run(struct sync *s);
void audit_flush(struct sync *s); /* before the end */

/* ---- accept.c --------------------------------------------------------------------------------- */

/* The source is another one, or (course) the same one back in another state: moves the origin, logs. */
void accept_changed(struct sync *s, bool course, const char *sentence);
/* The origin is not the same: is everything to be read now? Otherwise sync_wake_at() was told, or the source is the old one again. */
bool accept_load_due(struct sync *s);
/* May next, which was loaded from the source, become current? false: the source is held. */
bool accept_judge(struct sync *s, struct shmeta__store *next, uint64_t took_ns);
void accept_published(struct sync *s);

/* ---- generation.c ----------------------------------------------------------------------------------------------------------- */

/* At the start: adopt the store that the board names when it is of this boot and (as far as can be told) of this source; where the
 * source is not usable, only one that was filled from the same URI. */
enum shmeta_status generation_adopt(struct sync *s, bool usable, struct shmeta_err *err);
/* Is the adopted store of the source that has been opened? Moves the origin. */
void generation_judge(struct sync *s);
/* May the store be written now? false: not yet, sync_wake_at() was told, or it failed and room trouble says why. */
bool generation_writable(struct sync *s);
enum shmeta_status generation_create(struct sync *s, struct shmeta__store **ret, struct shmeta_err *err);
void generation_discard(struct sync *s, struct shmeta__store *store); /* one that was never published */
/* Make store the current generation and retire the former one. */
void generation_publish(struct sync *s, struct shmeta__store *store);
void generation_remove_left(struct sync *s);

/* ---- store_health.c ---- */

/* Measure, at its time; ask for room where it goes to readers. Between transactions. */
void room_watch(struct sync *s);
/* Will the store show what the operation makes? Of the room that is left, *left, it takes its part; the first of several measures that:
 * UINT64_MAX before it. false: no; *ret says what to do. */
bool room_for(struct sync *s, const struct shmeta_op *op, uint64_t *left, struct shmeta_result *ret);
/* Does it make room? Then a full store takes it at once, not only when it is tried again. */
bool room_made_by(const struct shmeta_op *op);

/* ---- saved_feed.c: the feed's position that the store keeps ------------------------------------------- */

/* Put into the open transaction: the backend's position, or (position false) that there is none, so that the next writer reads
 * everything. A position that the engine cannot give, or that is longer than any can be, is none. */
enum shmeta_status saved_feed_put(struct sync *s, bool position, struct shmeta_err *err);
/* The backend's position in what saved_feed_read() found, until its next call; 0 bytes: none. */
const uint8_t *saved_feed_position(struct sync *s, size_t *ret_bytes);
/* Keep the feed's position in the store, so that whoever opens the source next need not read again what is in it. false: it cannot be
 * kept. */
bool saved_feed_keep(struct sync *s);
void saved_feed_forget(struct sync *s);
/* What the store's META_FEED says. */
void saved_feed_read(struct sync *s);
/* Was the store filled from a source of this name? */
bool saved_feed_of_this_uri(struct sync *s);

/* ---- reconcile.c ------------------------------------------------------------------------------------------------------------ */

/* Load everything into a new generation and make it current. */
void reconcile_first(struct sync *s);
/* why: for the log. Load everything and merge it with the store. The feed stands still meanwhile, and goes on from what was read. */
void reconcile_pass(struct sync *s, const char *why);
/* Some row keeps load() from showing anything: have what the store has, and what backend, a connection aside, lists, read by its keys,
 * of which only that row's fail. What differs is a repair. */
void reconcile_by_keys(struct sync *s, void *backend);

/* ---- compare.c -------------------------------------------------------------------------------------------------------------- */

/* Compare everything with the store over a connection of its own, while the feed is followed. false: there is none. */
bool compare_pass(struct sync *s, bool (*meanwhile)(struct sync *s));

/* ---- group_commit.c ---------------------------------------------------------------------------------------------------------------- */

enum shmeta_status write_init(struct sync *s, struct shmeta_err *err);
void write_free(struct sync *s);
void write_set_limits(struct sync *s, const struct sync_options *options); /* any thread */
bool write_waiting(struct sync *s);
size_t write_ops_waiting(struct sync *s);
/* A round has been begun that is not at its end: write_commit() and write_land() go on with it. */
bool write_is_begun(const struct sync *s);
/* Do what waits: at most one transaction of the source. */
void write_commit(struct sync *s);
/* Bring to its end what write_commit() has begun, and begin nothing: before the engine's thread does something else for long. */
void write_land(struct sync *s);
/* Answer all that waits; nothing of it was done. */
void write_answer_all(struct sync *s, enum shmeta_status status, const char *sentence);

/* ---- admin_jobs.c ---------------------------------------------------------------------------------------------------------------- */

enum shmeta_status admin_init(struct sync *s, struct shmeta_err *err);
void admin_free(struct sync *s);
bool admin_waiting(struct sync *s);
/* List objects; take the next step of an invalidation. */
void admin_work(struct sync *s);
/* Answer all that waits. */
void admin_answer_all(struct sync *s, enum shmeta_status status, const char *sentence);

#endif
