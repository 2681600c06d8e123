/* SPDX-License-Identifier: Apache-2.0
 * The sync engine, for the files that make it up. Each part of it owns a structure in struct sync,
 * which only the part's own file changes; its header says what it is, who may call it, and answers
 * questions about it (inline, of the part alone). tools/lint/owners.sh holds that.
 *
 *   engine_clock.h wake.h thread.h  time and chance; sleep; the thread
 *   engine_options.h                the options, and what a reload changes
 *   states.h                        the states of store, origin and feed, and their moves
 *   source_health.h store_health.h  what does not work at the source, and at the store; the phase
 *   session.h pause.h               the session with the source; the source is left alone, and
 *                                   comes back
 *   schedule.h                      what is due when
 *   stamps.h                        until when what the store shows was true
 *   retime.h                        records whose time to live was configured anew
 *   show.h quarantine_log.h         what other threads see, what the log says
 *   admin_jobs.h failing.h          lists of objects and invalidations; keys that fail by
 *                                   themselves
 *   load/generation.h accept.h saved_feed.h pass.h    stores, a source that has changed, the feed's
 *                                                     position, reading everything
 *   load/shrink.h                   a look at everything that shows too little
 *   keys/queue.h refresh.h batch.h  keys that wait, the feed, bulk fetches and their commits
 *   keys/bounded.h                  budgets: what is resident, what is read where not everything is
 *   keys/explain.h                  why a key is, or is not, in a bounded store
 *   keys/expiry.h                   partitions whose times to live are their own
 *   keys/query_budget.h             what reads for readers may cost the source
 *   write/group_commit.h            operations
 *
 * All of it but the queue, and what a header says otherwise of, belongs to the engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_ENGINE_H
#define SHMETA_WRITER_ENGINE_ENGINE_H

#include <pthread.h>

#include "writer/apply/apply.h"
#include "writer/daemon/audit.h"
#include "writer/engine/admin_jobs.h"
#include "writer/engine/engine_clock.h"
#include "writer/engine/engine_options.h"
#include "writer/engine/measured.h"
#include "writer/engine/pause.h"
#include "writer/engine/quarantine_log.h"
#include "writer/engine/retime.h"
#include "writer/engine/schedule.h"
#include "writer/engine/session.h"
#include "writer/engine/show.h"
#include "writer/engine/source_health.h"
#include "writer/engine/stamps.h"
#include "writer/engine/states.h"
#include "writer/engine/store_health.h"
#include "writer/engine/sync.h"
#include "writer/engine/thread.h"
#include "writer/engine/wake.h"
#include "writer/keys/apply_clock.h"
#include "writer/keys/batch_state.h"
#include "writer/keys/expiry.h"
#include "writer/keys/explain.h"
#include "writer/keys/orphans.h"
#include "writer/keys/query_budget.h"
#include "writer/load/accept.h"
#include "writer/load/generation.h"
#include "writer/load/saved_feed.h"
#include "writer/load/shrink.h"
#include "writer/write/group_commit.h"

struct sync_queue;  /* queue.h */
struct sync_writes; /* write_queue.h */
struct sync_admin;  /* admin_jobs.c */
struct audit;       /* audit.c */
struct failing_key; /* failing.h */

enum { SYNC_FAILING_BUCKETS = 1024 };

struct sync {
	/* What it was given. */
	int dir_fd;
	struct shmeta_board *board;
	struct sync_options options; /* strings are ours */
	struct sync_host host;

	/* The source: its functions and its state (session.h says whether it is open), and the
	 * current generation; NULL: none. */
	const struct backend_engine *engine;
	void *backend;
	struct shmeta__store *store;
	struct shmeta_generation *gen;

	enum store_state store_state;
	enum origin_state origin;
	enum feed_state feed;

	struct engine_clock clock;
	struct engine_wake wake;
	struct engine_thread thread;
	struct next_options next_options;
	struct session session;
	struct pause pause;
	struct schedule schedule;
	struct stamps stamps;
	struct health health;
	struct store_health store_health;
	struct measured measured;
	struct show show;
	struct quarantine_log quarantine_log;
	struct generations generations;
	struct accept accept;
	struct saved_feed saved_feed;
	struct shrink shrink;
	struct retime retime;
	struct {
		struct failing_key *bucket[SYNC_FAILING_BUCKETS];
		size_t count, holding;  /* holding: their classes are held */
	} failing;                      /* failing.h */
	struct apply_clock apply_clock; /* apply_clock.h */
	struct orphans orphans;
	struct apply apply;
	struct bounded *bounded; /* bounded.h; NULL: everything is resident */
	struct query_budget query_budget;
	struct expiry expiry;
	struct explain explain;
	struct batch_state batch;
	struct audit *audit;
	struct sync_queue *queue;
	struct sync_writes *writes;
	struct sync_admin *admin;
	struct sync_counters counters; /* show.h shows a copy */

	bool in_pass;       /* reconcile.c: one is under way */
	uint64_t pass_rows; /* batch.c: that differed and were read again for the pass */
	uint64_t losses;    /* states.c: how often what changes was not known by name */

	struct warm *warm; /* warm.c; NULL: none yet */

	void (*fetched_hook)(void *arg);
	void *fetched_hook_arg;
};

/* Nothing is asked of the source before a pause. */
static inline bool source_is_away(const struct sync *s)
{
	return s->health.gate.on;
}
/* What is applied can be put into the store, as far as is known. */
static inline bool store_takes(const struct sync *s)
{
	return s->store_health.state == STORE_TAKES;
}
static inline size_t failing_count(const struct sync *s)
{
	return s->failing.count;
}

/* As printf. The engine's thread. */
__attribute__((format(printf, 4, 5))) void sync_log(struct sync *s, int priority, const char *event, const char *fmt,
                                                    ...);
/* Tell of what was done. took_ns 0: nobody measured; txn 0: no commit. */
__attribute__((format(printf, 7, 8))) void sync_tell(struct sync *s, enum shmeta_event_kind kind, bool failed,
                                                     uint64_t rows, uint64_t took_ns, uint64_t txn, const char *fmt,
                                                     ...);
/* The oldest commit of the current generation that a registered reader pins; UINT64_MAX: none. */
uint64_t sync_oldest_pin(struct sync *s);

/* ---- first_load.c, reconcile.c ---- */

/* Load everything into a new generation and make it current. */
void reconcile_first(struct sync *s);
/* Others have their turn: the feed, who writes, and who reads. at_once: also where the last one was
 * a moment ago. false: the pass is to end. */
typedef bool pass_turn_fn(struct sync *s, bool at_once);
/* Compare everything with the store, and have what differs read again. false: the source or the
 * store ended it, and it is due again when their trouble lets it be tried. */
bool reconcile_pass(struct sync *s, pass_turn_fn *turn);

#endif
