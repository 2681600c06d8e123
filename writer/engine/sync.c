/* SPDX-License-Identifier: Apache-2.0
 * Rounds of the engine, its beginning and its end.
 *
 * One round (sync_run_once) does everything that is due, in this order: options that changed, the
 * source (open, or one try when it is away), a store if there is none, the feed, the keys that
 * wait, the stamps, a full pass. Then it sleeps until the next of these, a wake-up from
 * sync_refresh(), or the source's own wake-up: something may have changed. */
#include <poll.h>
#include <syslog.h>

#include "writer/engine/engine.h"
#include "writer/engine/failing.h"
#include "writer/engine/phase.h"
#include "writer/keys/bounded.h"
#include "writer/keys/refresh.h"
#include "writer/keys/reread.h"
#include "writer/load/warm.h"

/* A stamp that a file of an earlier boot left says less than any read. */
static bool is_older(uint64_t synced_at_ns, uint64_t than_ns)
{
	return shmeta__stamp_is_unproved(synced_at_ns) || synced_at_ns <= than_ns;
}

/* Whatever the feed named is in the store: all of it was true at the time until which the feed
 * tells. What was read since then says more. */
static void stamp_applied(struct sync *s)
{
	uint64_t until = stamps_unapplied(&s->stamps);

	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if (is_older(shmeta_peek(&s->gen->stamp[cls].synced_at_ns), until) &&
		    !failing_holds(s, (enum shmeta_class)cls) && !refresh_class_waiting(s, (enum shmeta_class)cls))
			sync_stamp(s, s->gen, (enum shmeta_class)cls, sync_committed(s), until);
	stamps_applied(s);
}

/* Is the feed asked? In a pass it is, too, when only that pass will have brought it in step: but
 * one that could not be asked a moment ago, and one that has nothing to add to what it has told
 * already, would only keep the pass from its end. */
static bool is_polled(const struct sync *s)
{
	if (!s->in_pass)
		return feed_in_step(s);
	return feed_is_followed(s) && !health_job_on(&s->health, SYNC_JOB_FEED) &&
	       (feed_in_step(s) || session_feed_names_keys(&s->session));
}

/* What follows a poll. */
static bool follow_on(struct sync *s, bool retried)
{
	uint64_t now = sync_now(s);

	/* A source in trouble that no poll asks, because it has no feed or everything is to be read
	 * first, and one that could not be read, is asked for the advisory classes, which are
	 * small: somebody has to find out that it is back. */
	bool probe = source_is_away(s) ? (!feed_in_step(s))
	                               : health_job_fails(&s->health, SYNC_JOB_FETCH) && !refresh_waiting(s);

	probe = probe && sync_job_due(s, SYNC_JOB_FETCH) && generation_writable(s);
	/* It may be another source, or course, by now: nothing is fetched before it has said so. */
	if (probe && feed_is_followed(s) && feed_is_behind(s))
		(void)refresh_poll(s);
	if (probe || (!source_is_away(s) && now >= schedule_advisory_when(s))) {
		orphans_are_read(&s->orphans);
		reread_advisory(s, false);
		schedule_advisory(s);
	}
	if (probe)
		refresh_drain(s);
	if (source_is_away(s))
		return false;
	if (write_waiting(s) && store_takes(s) && generation_writable(s))
		write_commit(s);
	if (!source_is_away(s) && !origin_is_foreign(s) && admin_waiting(s)) {
		write_drain(s);
		admin_work(s);
	}
	if (source_is_away(s))
		return false;
	if (refresh_waiting(s) && generation_writable(s)) {
		if (sync_job_due(s, SYNC_JOB_FETCH))
			refresh_drain(s);
		else
			refresh_answer_all(s, SHMETA_ERR_SOURCE, health_job_text(&s->health, SYNC_JOB_FETCH));
	}
	if (source_is_away(s) || (!store_takes(s) && !retried) ||
	    (!store_takes(s) && sync_now(s) < store_health_when(&s->store_health)))
		return false;
	if (feed_in_step(s) && stamps_unapplied(&s->stamps) > 0 && !refresh_pending_feed(s)) {
		stamp_applied(s);
		if (retried)
			sync_store_works(s);
	}
	return true;
}

/* The feed, the keys that wait, the stamps. false: something is in trouble. retried: it is the one
 * try of a store that was in trouble. */
static bool follow(struct sync *s, bool retried)
{
	struct sync_list_tickets asked = {0};
	uint64_t now = sync_now(s), polled_at_ns;
	bool ok;

	failing_retry(s);
	if (schedule_feed_tells_at_once(s) && refresh_list_waiting(s)) {
		asked = refresh_take_list(s, false);
		schedule_poll_by(s, now);
	}
	/* Who writes waits for an answer; the feed has its turn behind each commit. */
	if (is_polled(s) && schedule_poll_due(&s->schedule, now) && sync_job_due(s, SYNC_JOB_FEED))
		(void)refresh_poll(s);
	polled_at_ns = stamps_unapplied(&s->stamps);
	ok = follow_on(s, retried);
	if (asked.list == NULL)
		return ok;
	if (ok && polled_at_ns > 0 && stamps_unapplied(&s->stamps) == 0 && schedule_feed_tells_at_once(s))
		refresh_answer_list(s, asked, SHMETA_OK, "", polled_at_ns);
	else
		refresh_return_list(s, asked);
	return ok;
}

/* Has the source sent a wake-up? It is drained by the poll that follows. */
static void take_wake_up(struct sync *s, uint64_t now)
{
	struct pollfd fd = {.fd = session_wake_fd(s), .events = POLLIN};

	if (fd.fd >= 0 && poll(&fd, 1, 0) > 0)
		schedule_woken(s, now);
}

/* In a long pass: the feed and the readers have their turn (engine.h). false: that is in
 * trouble. */
static bool turn(struct sync *s, bool at_once)
{
	uint64_t now = sync_now(s);

	if (!schedule_look(s) && !at_once)
		return true;
	if (pause_asked(s))
		return false;
	options_take(s);
	explain_take(s);
	shmeta_poke(&s->gen->boot_offset_ns, shmeta_peek(&s->board->boot_offset_ns));
	sync_show_clock(s);
	take_wake_up(s, now);
	store_health_watch(s);
	sync_show_now_and_then(s);
	retime_some(s);
	if (!at_once && !schedule_poll_due(&s->schedule, now) && !refresh_waiting(s) && !write_waiting(s) &&
	    !admin_waiting(s))
		return true;
	/* A pass over a store that was in trouble is the try of it. */
	return follow(s, !store_takes(s)) && !origin_is_foreign(s);
}

/* The same in what is not a pass, and is nothing worth where what changes is not known by name. */
static bool follow_meanwhile(struct sync *s)
{
	return turn(s, false) && !feed_is_behind(s);
}

static void full_pass(struct sync *s)
{
	/* It may have come back with what has worked, and tells what was missed. */
	if (feed_in_step(s) && health_job_on(&s->health, SYNC_JOB_FEED)) {
		if (refresh_poll(s) && !source_is_away(s)) {
			sync_wake_at(s, sync_now(s));
			return;
		}
	}
	write_drain(s);
	if (reconcile_pass(s, turn) && !source_is_away(s) && store_takes(s))
		schedule_reconcile(s);
}

/* A poll that failed may have failed alone, as where the change log may no longer be read: whoever
 * waits meanwhile is tried at the pace of his own kind, and what the feed would have told is read
 * before it is too old. What works opens the gate again; a full pass is made only behind something
 * that has worked. */
static void try_others(struct sync *s)
{
	bool pass_due, advisory_due;

	if (!source_is_away(s) || !health_job_on(&s->health, SYNC_JOB_FEED) || !session_is_open(&s->session) ||
	    s->store == NULL || !feed_is_tried(s) || origin_is_foreign(s) || store_is_damaged(s) || !store_takes(s))
		return;
	/* A round that is under way already is drained by the next round of ours. */
	if (!write_is_begun(s) && write_waiting(s) && sync_job_due(s, SYNC_JOB_OPEN) && generation_writable(s))
		write_commit(s);
	pass_due = sync_now(s) >= schedule_reconcile_when(s);
	advisory_due = sync_now(s) >= schedule_advisory_when(s);
	if (!pass_due)
		sync_wake_at(s, schedule_reconcile_when(s));
	if (!advisory_due)
		sync_wake_at(s, schedule_advisory_when(s));
	if ((refresh_waiting(s) || pass_due || advisory_due) && sync_job_due(s, SYNC_JOB_FETCH) &&
	    generation_writable(s)) {
		if (pass_due || advisory_due) {
			reread_advisory(s, false);
			schedule_advisory(s);
		}
		refresh_drain(s);
	}
	if (pass_due && !source_is_away(s) && store_takes(s) && !origin_is_foreign(s) && generation_writable(s))
		full_pass(s);
}

static void work(struct sync *s)
{
	uint64_t now = sync_now(s);

	if (source_is_away(s) || !store_takes(s) || s->store == NULL || origin_is_foreign(s) || store_is_damaged(s))
		write_drain(s);
	if (!session_ready(s))
		return;
	if (!store_takes(s) && now < store_health_when(&s->store_health) && !store_health_uncapped(s)) {
		sync_wake_at(s, store_health_when(&s->store_health));
		return;
	}
	bool retried = !store_takes(s);

	if (s->store == NULL || origin_is_foreign(s) || store_is_damaged(s)) {
		if (origin_is_foreign(s) && !accept_load_due(s))
			return;
		if (!sync_job_due(s, SYNC_JOB_PASS))
			return;
		reconcile_first(s);
		generation_loads(&s->generations, 0);
		if (s->store != NULL && !origin_is_foreign(s) && store_takes(s) && !source_is_away(s)) {
			schedule_poll_now(s);
			schedule_reconcile(s);
			schedule_advisory(s);
			sync_settle_phase(s);
			sync_wake_at(s, sync_now(s));
		}
		return;
	}
	if (!follow(s, retried))
		return;
	if (feed_is_behind(s))
		generation_judge(s);
	if (origin_is_foreign(s)) {
		sync_wake_at(s, sync_now(s));
		return;
	}
	if (sync_now(s) >= schedule_reconcile_when(s) && generation_writable(s))
		full_pass(s);
}

/* While the source or the store is in trouble nobody waits for it, whether the request came before
 * the round, during it, or while the round tried in vain whether the trouble is over: a request
 * that only a round before the next try refused would meet no such round. */
static void refuse_what_waits(struct sync *s)
{
	bool away = source_is_away(s) || origin_is_held(s) ||
	            ((s->store == NULL || origin_is_foreign(s)) && health_job_on(&s->health, SYNC_JOB_PASS));
	enum shmeta_status status = away ? SHMETA_ERR_SOURCE : store_health_status(&s->store_health);
	const char *sentence = source_is_away(s)   ? health_source_text(&s->health)
	                       : origin_is_held(s) ? accept_sentence(&s->accept)
	                       : away              ? health_job_text(&s->health, SYNC_JOB_PASS)
	                                           : store_health_text(&s->store_health);

	if (!away && store_takes(s))
		return;
	refresh_answer_all(s, status, sentence);
	/* A full store shows it when there is room; what is damaged, or of another source, nobody
	 * knows when. */
	if (!away && store_is_full(&s->store_health) && s->store != NULL && feed_is_tried(s) && !origin_is_foreign(s) &&
	    !store_is_damaged(s))
		write_commit(s);
	else
		write_answer_all(s, status, sentence);
	admin_answer_all(s, status, sentence);
}

static void run_bounded(struct sync *s)
{
	const struct apply_host host = sync_apply_host(s);
	struct shmeta_err err;
	enum shmeta_status status = bounded_run(s, &host, &err);

	if (status != SHMETA_OK)
		sync_store_failed(s, status, err.text);
}

enum shmeta_status sync_run_once(struct sync *s, uint64_t *ret_wait_ns)
{
	clock_round_begins(s);
	options_take(s);
	pause_take(s);
	explain_take(s);
	if (s->gen != NULL)
		shmeta_poke(&s->gen->boot_offset_ns, shmeta_peek(&s->board->boot_offset_ns));
	sync_show_clock(s);
	generation_remove_left(s);
	store_health_watch(s);
	run_bounded(s);
	expiry_run(s);
	refresh_answer_refused(s);
	retime_some(s);
	work(s);
	try_others(s);
	refuse_what_waits(s);
	warm_run(s, follow_meanwhile);
	health_run(s);
	audit_run(s);
	if (!source_is_away(s) && store_takes(s) && s->store != NULL && !origin_is_foreign(s)) {
		if (feed_in_step(s) && sync_job_due(s, SYNC_JOB_FEED))
			sync_wake_at(s, schedule_poll_when(&s->schedule));
		sync_wake_at(s, schedule_advisory_when(s));
		sync_wake_at(s, warm_when(s));
		if (store_is_writable(s))
			sync_wake_at(s, schedule_reconcile_when(s));
	}
	sync_show(s);

	uint64_t now = sync_now(s);

	if (write_is_begun(s))
		sync_wake_at(s, now);
	/* Whatever the reason why it was not asked this time. */
	if (source_is_away(s) && !pause_is_on(&s->pause))
		sync_wake_at(s, now < health_source_when(&s->health) ? health_source_when(&s->health)
		                                                     : now + s->options.retry_max_ms * SYNC_MS);
	*ret_wait_ns = clock_round_wait(s);
	return SHMETA_OK;
}

/* ---- opening, closing, the thread ---- */

static void destroy(struct sync *s)
{
	if (s == NULL)
		return;
	apply_free(&s->apply);
	session_free(s);
	shmeta__store_close(s->store);
	warm_free(s);
	saved_feed_forget(s);
	failing_forget_all(s);
	bounded_free(s);
	refresh_free(s);
	write_free(s);
	admin_free(s);
	audit_free(s);
	next_options_free(s);
	options_free(&s->options);
	accept_free(s);
	pause_free(s);
	explain_free(s);
	show_free(s);
	wake_free(s);
	free(s);
}

enum shmeta_status sync_open(int dir_fd, struct shmeta_board *board, const struct sync_options *options,
                             const struct sync_host *host, struct sync **ret, struct shmeta_err *err)
{
	struct backend_error source_err = {0};
	struct sync *s = calloc(1, sizeof *s);
	enum shmeta_status status;

	if (s == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the sync engine");
	s->dir_fd = dir_fd;
	s->board = board;
	s->host = *host;
	show_init(s);
	accept_init(s);
	next_options_init(s);
	pause_init(s);
	explain_init(s);
	status = wake_init(s, err);
	if (status == SHMETA_OK)
		status = refresh_init(s, err);
	if (status == SHMETA_OK)
		status = write_init(s, err);
	if (status == SHMETA_OK)
		status = admin_init(s, err);
	if (status == SHMETA_OK)
		status = audit_init(s, err);
	if (status == SHMETA_OK && options->source.uri == NULL)
		status = shmeta_fail(err, SHMETA_ERR_CONFIG, "no source is configured");
	if (status == SHMETA_OK && !options_copy(options, &s->options))
		status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the sync engine's options");
	if (status != SHMETA_OK)
		goto fail;
	if (!bounded_configure(s)) {
		status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the budgets of the store");
		goto fail;
	}
	refresh_set_limits(s, &s->options);
	admin_set_limits(s, &s->options);
	query_budget_configure(s);
	write_set_limits(s, &s->options);
	clock_seed(s, s->options.seed);
	generation_init(s);
	schedule_init(s);
	status = session_init(s, err);
	if (status != SHMETA_OK)
		goto fail;
	phase_begin(s->board, sync_now(s));
	s->host.phase(s->host.arg, SHMETA_PHASE_STARTING, "starting");
	status = s->options.paused != NULL ? SHMETA_ERR_SOURCE : session_open(s, &source_err);
	if (status == SHMETA_ERR_NO_MEMORY) {
		status = shmeta_fail(err, status, "%s", source_err.text);
		goto fail;
	}
	enum shmeta_status source_status = status;

	/* A source that can never be used is a mistake of the configuration, unless the store was
	 * filled from it: then it is the source that has changed, and a restore brings it back. */
	status = generation_adopt(s, source_status != SHMETA_ERR_CONFIG, err);
	if (status == SHMETA_OK && source_status == SHMETA_ERR_CONFIG && s->store == NULL)
		status = shmeta_fail(err, source_status, "%s", source_err.text);
	if (status != SHMETA_OK)
		goto fail;
	warm_load(s);
	schedule_reconcile(s);
	schedule_advisory(s);
	if (s->options.paused != NULL)
		pause_begin(s);
	else if (source_status != SHMETA_OK)
		sync_source_failed(s, SYNC_JOB_OPEN, source_status, source_err.text);
	sync_settle_phase(s);
	sync_show(s);
	*ret = s;
	return SHMETA_OK;
fail:
	destroy(s);
	return status;
}

void sync_close(struct sync *s)
{
	if (s == NULL)
		return;
	wake_stop(s);
	sync_move(s, SHMETA_PHASE_DRAINING, "stopping");
	refresh_answer_all(s, SHMETA_ERR_WRITER_AWAY, "the writer is stopping");
	admin_answer_all(s, SHMETA_ERR_WRITER_AWAY, "the writer is stopping");
	explain_refuse(s, SHMETA_ERR_WRITER_AWAY, "the writer is stopping");
	/* What was taken before the stop is done, as long as nothing fails. */
	if (s->store != NULL)
		write_drain(s);
	for (size_t before = SIZE_MAX; s->store != NULL && store_is_writable(s) && session_is_open(&s->session) &&
	                               !source_is_away(s) && !origin_is_foreign(s) && store_takes(s) &&
	                               write_waiting(s) && write_ops_waiting(s) < before;) {
		before = write_ops_waiting(s);
		write_commit(s);
	}
	write_answer_all(s, SHMETA_ERR_WRITER_AWAY, "the writer is stopping; nothing was done");
	audit_flush(s);
	/* The next start need not read again what is in the store. */
	(void)saved_feed_keep(s);
	warm_stop(s);
	sync_move(s, SHMETA_PHASE_STOPPED, "stopped");
	destroy(s);
}

void sync_crash(struct sync *s)
{
	destroy(s);
}

void sync_set_fetched_hook(struct sync *s, void (*hook)(void *arg), void *arg)
{
	s->fetched_hook = hook;
	s->fetched_hook_arg = arg;
}

struct shmeta__store *sync_store(struct sync *s)
{
	return s->store;
}

void *sync_backend_state(struct sync *s)
{
	return s->backend;
}
