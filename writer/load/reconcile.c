/* SPDX-License-Identifier: Apache-2.0
 * The pass over a store that is there: whoever wants everything compared with the source, for
 * whatever reason, gets this one.
 *
 *   the feed, asked from here on
 *     -> load() over a connection of its own, compared (compare.c) -> judged
 *        (no connection, or a row breaks it: names -> judged -> all keys, reload_by_keys.c)
 *     -> what differs is read again
 *
 * Others have their turn all the time. When all has been read again, everything that the store
 * shows was true when the last look began, or later: so the classes get that time, and a feed that
 * was asked before that look began, and has named since all that changed, is in step. */
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "writer/engine/failing.h"
#include "writer/keys/refresh.h"
#include "writer/keys/reread.h"
#include "writer/load/pass.h"

/* A second connection to the same source; NULL: there is none to be had. */
static void *open_second(struct sync *s)
{
	struct backend_options options = s->options.source;
	struct backend_error err = {.code = SHMETA_OK};
	void *backend = calloc(1, s->engine->state_bytes);

	if (backend == NULL)
		return NULL;
	options.manage_schema = options.create = 0;
	options.changefeed = 0;
	options.beside = 1;
	if (s->engine->source->open(backend, &options, &err) == SHMETA_OK &&
	    s->engine->source->fingerprint(backend) == s->engine->source->fingerprint(s->backend))
		return backend;
	sync_log(s, LOG_NOTICE, "second_connection",
	         "the full comparison reads everything by its keys, as there is no second connection for it: %s",
	         err.text[0] != '\0' ? err.text : "it leads to another source");
	s->engine->source->close(backend);
	free(backend);
	return NULL;
}

static void close_second(struct sync *s, void *backend)
{
	struct backend_counters counters = {0};

	if (backend == NULL)
		return;
	s->engine->source->counters(backend, &counters);
	session_count(s, &counters);
	s->engine->source->close(backend);
	free(backend);
}

/* A feed that does not go on from what the store shows is asked where it stands: what it does not
 * tell from here on, the pass finds. false: it cannot be asked, or the source is another one. */
static bool meet_feed(struct sync *s)
{
	if (feed_in_step(s) || s->engine->feed == NULL)
		return true;
	if (!refresh_poll(s) || source_is_away(s) || origin_is_foreign(s))
		return false;
	if (session_has_feed(&s->session))
		feed_begins(s);
	return true;
}

static enum pass_end begin(struct pass *p)
{
	struct sync *s = p->s;
	struct shmeta__txn *txn;
	enum shmeta_status status;

	p->losses = s->losses;
	p->began_ns = p->synced_at_ns = sync_now(s);
	schedule_pass_answered(s);
	schedule_pass_began(s, p->began_ns);
	p->source_status = SHMETA_OK;
	p->source_err = (struct backend_error){.code = SHMETA_OK};
	pass_free_known(&p->known);
	pass_forget_unnamed(p);
	differences_begin(&p->found, s->options.pass_keys);
	status = pass_read_known(&p->known, s->store, &p->err);
	if (status == SHMETA_OK)
		status = shmeta__txn_read(s->store, &txn, &p->err);
	if (status == SHMETA_OK) {
		status = quarantine_unlisted(txn, p->unlisted_before, &p->err);
		shmeta__txn_abort(txn);
	}
	return status == SHMETA_OK ? PASS_DONE : pass_store_failed(p, status);
}

/* One look at everything. What it has found and not held is for the next one. */
static enum pass_end look(struct pass *p, void *second)
{
	struct sync *s = p->s;
	enum pass_end end = begin(p);

	if (end == PASS_DONE)
		end = second != NULL && s->bounded == NULL ? compare_all(p, second) : PASS_BY_KEYS;
	if (end == PASS_BY_KEYS) {
		if (second != NULL && s->bounded == NULL)
			sync_log(s, LOG_NOTICE, "read_by_keys",
			         "the source cannot be read as a whole, so it is read key by key: %s",
			         p->source_err.text);
		differences_begin(&p->found, s->options.pass_keys);
		end = pages_all(p, second);
	}
	if (end == PASS_DONE) {
		failing_try_now(s);
		/* Without a feed they have a time of their own, which is shorter, unless somebody
		 * asked for everything. */
		if (!p->may_lag || session_has_feed(&s->session))
			reread_advisory(s, true);
		end = pass_bring_over(p);
	}
	schedule_pass_ended(s);
	return end;
}

/* had_feed: then what differs is what it has not told. */
static void tell_changed(struct sync *s, bool had_feed, const char *why)
{
	if (s->pass_rows == 0)
		return;
	if (had_feed)
		s->counters.reconcile_repairs += s->pass_rows;
	if (had_feed || session_feed_names_keys(&s->session))
		sync_log(s, LOG_INFO, "reconciled", "a full comparison changed %llu rows; it was made because %s",
		         (unsigned long long)s->pass_rows, why);
}

static void answer(const struct pass *p, struct sync_list_tickets tickets)
{
	struct sync *s = p->s;
	enum shmeta_status status = SHMETA_OK;
	char text[600] = "";
	size_t count;
	const struct failing_key *failing = failing_since(s, p->began_ns, &count);

	if (failing != NULL) {
		status = failing->status;
		snprintf(text, sizeof text, "%zu keys could not be read; the last: %s", count, failing->sentence);
	}
	/* The list is in step; who asked for everything hears what is missing. */
	refresh_answer_list(s, (struct sync_list_tickets){.list = tickets.list}, SHMETA_OK, "", p->synced_at_ns);
	refresh_answer_list(s, (struct sync_list_tickets){.pass = tickets.pass}, status, text, p->synced_at_ns);
}

static bool is_of_partitions(enum shmeta_class cls)
{
	return cls == SHMETA_CLASS_PARTITION || cls == SHMETA_CLASS_SEGMENT;
}

/* Each partition has a time of its own, nobody asks for everything, and everything was compared
 * once. */
static bool need_no_partitions(struct sync *s)
{
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++) {
		uint64_t at = shmeta_peek(&s->gen->stamp[cls].synced_at_ns);

		if (is_of_partitions((enum shmeta_class)cls) && (at == 0 || shmeta__stamp_is_unproved(at)))
			return false;
	}
	return expiry_is_by_record(&s->expiry) && !schedule_pass_is_asked(&s->schedule) && !refresh_pass_waiting(s);
}

/* unfed: the feed could not be asked. */
static void end_well(struct pass *p, bool unfed, struct sync_list_tickets tickets)
{
	static const enum shmeta_class compared[] = {SHMETA_CLASS_TOPIC, SHMETA_CLASS_PARTITION, SHMETA_CLASS_SEGMENT,
	                                             SHMETA_CLASS_LIST};
	struct sync *s = p->s;

	sync_source_works(s, SYNC_JOB_PASS);
	sync_store_works(s);
	for (size_t i = 0; i < sizeof compared / sizeof *compared; i++)
		if (!(p->rows_only && is_of_partitions(compared[i])) && !failing_holds(s, compared[i]) &&
		    shmeta_peek(&s->gen->stamp[compared[i]].synced_at_ns) < p->synced_at_ns)
			sync_stamp(s, s->gen, compared[i], sync_committed(s), p->synced_at_ns);
	if (!feed_in_step(s) && !unfed && s->losses == p->losses) {
		feed_all_read(s, feed_is_followed(s));
		(void)saved_feed_keep(s);
	}
	shrink_over(s);
	schedule_pass_lagged(s, p->began_ns - p->synced_at_ns);
	s->counters.reconciles_lagged += p->began_ns > p->synced_at_ns;
	s->counters.reconciles++;
	answer(p, tickets);
}

/* beside: it read over a connection of its own. wanted: it is made once more, as soon as the rate
 * allows. */
static void end_early(struct pass *p, enum pass_end end, bool beside, bool wanted, const char *why,
                      struct sync_list_tickets tickets)
{
	struct sync *s = p->s;

	if (end == PASS_STORE)
		refresh_answer_list(s, tickets, p->err.code, p->err.text, 0);
	else if (end == PASS_SOURCE && !sync_stopping(s))
		refresh_answer_list(s, tickets, p->source_status, p->source_err.text, 0);
	else
		refresh_return_list(s, tickets);
	if (sync_stopping(s))
		return;
	if (wanted)
		schedule_ask_pass(s, !feed_in_step(s), why);
	if (end == PASS_STORE) {
		sync_store_failed(s, p->err.code, p->err.text);
	} else if (end == PASS_SOURCE) {
		if (p->source_status == SHMETA_ERR_INVALID_ARGUMENT)
			schedule_postpone_pass(s);
		if (beside)
			sync_pass_failed(s, p->source_status, p->source_err.text);
		else
			sync_source_failed(s, SYNC_JOB_PASS, p->source_status, p->source_err.text);
	}
	sync_wake_at(s, sync_now(s));
}

bool reconcile_pass(struct sync *s, pass_turn_fn *turn)
{
	struct pass p = {.s = s,
	                 .turn = turn,
	                 .may_lag = !schedule_pass_is_asked(&s->schedule) && !feed_is_behind(s) &&
	                            !refresh_list_waiting(s) && !refresh_pass_waiting(s),
	                 .rows_only = need_no_partitions(s)};
	bool had_feed = feed_is_followed(s), wanted = schedule_pass_is_asked(&s->schedule) || !feed_in_step(s), unfed,
	     made;
	char why[SCHEDULE_WHY];
	struct sync_list_tickets tickets;
	enum pass_end end = PASS_POSTPONED;
	void *second = NULL;
	uint64_t rows;

	schedule_why_pass(s, why, sizeof why);
	s->in_pass = true;
	s->pass_rows = 0;
	unfed = !meet_feed(s);
	/* one that begins now goes on from what all has been compared with */
	p.rows_only = p.rows_only && !feed_is_followed(s);
	if (!origin_is_foreign(s))
		second = open_second(s);
	/* A feed that cannot be read keeps nothing from being read. */
	if (second != NULL)
		sync_source_works(s, SYNC_JOB_OPEN);
	made = second != NULL || !unfed;
	if (made) {
		tickets = refresh_take_list(s, true);
		do {
			rows = s->pass_rows;
			end = look(&p, second);
		} while (end == PASS_DONE && p.found.more && s->pass_rows > rows);
		if (end == PASS_DONE && p.found.more)
			end = PASS_POSTPONED; /* reading what was held has not changed a thing */
		tell_changed(s, had_feed, why);
		if (end == PASS_DONE)
			end_well(&p, unfed, tickets);
		else
			end_early(&p, end, second != NULL, wanted || p.found.more, why, tickets);
	}
	s->in_pass = false;
	close_second(s, second);
	pass_free_known(&p.known);
	pass_forget_unnamed(&p);
	arena_free(&p.unnamed_memory);
	differences_free(&p.found);
	return made && end != PASS_SOURCE && end != PASS_STORE;
}
