/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what has changed.
 *
 * shmeta_changes, which triggers fill, says what; each of its rows carries the transaction that
 * wrote it. The position is a snapshot, not a number: a poll takes, in one statement, the server's
 * snapshot of now and the rows of transactions that the snapshot of the former poll did not see:
 * those from its xmax on, and those that were in progress then. Whatever committed in between is
 * reported once, in whatever order transactions end, and a transaction that stays open for long
 * costs nothing.
 *
 * Rows of our own carry our origin: apply() has told of them already. Other hosts read them here.
 * The origin is new with each connection, so that after a commit of unknown outcome nothing is
 * taken for known.
 *
 * That the log is complete, and that it is the one that the position belongs to, is for each poll
 * to show, in the same statement: it reads the basis (pg_coverage.c), and looks for the witness,
 * the newest row that the former poll has seen. A server that was set back to an earlier state, and
 * has gone on, gives its numbers again, but not the row's token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/postgres/pg_changefeed.h"
#include "backends/postgres/pg_coverage.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_link.h"
#include "backends/postgres/pg_pool.h"
#include "backends/postgres/pg_prune.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"
#include "backends/postgres/pg_values.h"
#include "backends/sql/log_keys.h"

enum { CLASS_KEYS_MOST = 2000 };

/* A row of the log, to be known again. xid 0: there was none. */
struct witness {
	uint64_t xid;
	int64_t seq, token;
};

/* Where a snapshot belongs. */
struct place {
	uint64_t line;  /* to which history: cluster, timeline, database, log */
	uint64_t basis; /* on what the completeness of the log rested          */
	struct witness witness;
	int64_t missed; /* statements that no trigger could log, ever */
	uint64_t owed;  /* below this one there may be transactions with such statements; 0: none */
};
/* Not asked for yet. No transaction of anybody's has this number. */
enum { OWED_UNKNOWN = 1 };

struct pg_feed {
	bool baseline; /* snapshot is where changes() goes on; false: it reports LIST */
	bool followed; /* what changes is told: when there is no feed any more, everything has to be
                        * looked at once */
	char *snapshot;
	struct place place, loading_place;
	char history[300]; /* what is to be told of it; "": nothing */
	const char *anew;  /* why there is no baseline; NULL: there was none yet */
	uint64_t connects;
	char *loading;       /* the snapshot of the load that is on */
	uint64_t look_at_ns; /* when the next poll also looks at the log itself */
};

/* Kept with the store, followed by the snapshot's text. */
struct position {
	uint16_t version, feed;
	uint32_t bytes;
	uint64_t source;
	struct place place;
};
enum { POSITION_VERSION = 4 }; /* 2 is a changefeed's */

static struct pg_feed *feed_of(struct pg_state *state)
{
	if (state->feed == NULL)
		state->feed = calloc(1, sizeof *state->feed);
	return state->feed;
}

bool pg_feed_has_baseline(const struct pg_state *state)
{
	return state->feed != NULL && state->feed->baseline;
}

const char *pg_feed_trouble(void *data)
{
	const struct pg_state *state = data;

	return state->changefeed != NULL ? pg_changefeed_trouble(data) : state->coverage.trouble;
}

void pg_feed_free(struct pg_state *state)
{
	if (state->feed == NULL)
		return;
	free(state->feed->snapshot);
	free(state->feed->loading);
	free(state->feed);
	state->feed = NULL;
}

static bool set_text(char **text, const char *to)
{
	char *copy = strdup(to);

	if (copy == NULL)
		return false;
	free(*text);
	*text = copy;
	return true;
}

static enum shmeta_status no_memory(const struct pg_state *state, struct backend_error *err)
{
	return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
}

/* ---- baseline ---- */

/* "xid seq token", or nothing. */
static struct witness witness_of(const char *text)
{
	struct witness ret = {.xid = 0};
	char *rest;

	ret.xid = strtoull(text, &rest, 10);
	ret.seq = strtoll(rest, &rest, 10);
	ret.token = strtoll(rest, NULL, 10);
	return ret;
}

enum shmeta_status pg_feed_baseline(struct pg_state *state, struct pg_conn *conn, uint64_t *ret_total,
                                    struct backend_error *err)
{
	struct pg_feed *feed = feed_of(state);
	PGresult *result = NULL;
	enum shmeta_status status;
	int64_t total;

	if (feed == NULL)
		return no_memory(state, err);
	status = pg_query(state, conn, PG_LOAD_STATE, NULL, &result, err);
	if (status != SHMETA_OK)
		return status;
	total = pg_int(result, 0, 0);
	*ret_total = total > 0 ? (uint64_t)total : 0;
	snprintf(state->written.loading, sizeof state->written.loading, "%s", pg_value(result, 0, 3));
	snprintf(state->written.cluster, sizeof state->written.cluster, "%s", pg_value(result, 0, 4));
	feed->loading_place = (struct place){.line = pg_hash_value(result, 0, 2),
	                                     .basis = pg_hash_value(result, 0, 5),
	                                     .witness = witness_of(pg_value(result, 0, 6)),
	                                     .missed = pg_int(result, 0, 7)};
	/* What was missed before may be committed after. */
	feed->loading_place.owed = feed->loading_place.missed != 0 ? OWED_UNKNOWN : 0;
	if (!set_text(&feed->loading, pg_value(result, 0, 1)))
		status = no_memory(state, err);
	PQclear(result);
	return status;
}

#define ANOTHER_LOG "the log of changes is another one: another schema's, or made anew"

/* It goes on with what is there now. The sentence is kept until there is somebody to be told. */
static void note_history(struct pg_state *state, const char *why)
{
	struct pg_feed *feed = state->feed;
	char place[200];

	snprintf(feed->history, sizeof feed->history, "%s: %.120s: %s", state->dialect->engine,
	         pg_place(&state->primary, place, sizeof place), why);
	feed->baseline = false;
}

void pg_feed_loaded(struct pg_state *state, bool ok)
{
	struct pg_feed *feed = state->feed;
	uint64_t former;

	if (feed == NULL || feed->loading == NULL || !ok)
		return;
	free(feed->snapshot);
	feed->snapshot = feed->loading;
	feed->loading = NULL;
	memcpy(state->written.told, state->written.loading, sizeof state->written.told);
	feed->connects = state->primary.connects;
	feed->followed = state->shape.feed;
	feed->baseline = false;
	if (!state->shape.feed)
		return;
	former = feed->place.line;
	feed->place = feed->loading_place;
	/* What the log rested on when the load read is not what it was found to rest on: look
	 * again. */
	if (feed->place.basis != state->coverage.basis)
		state->attached = false;
	if (former != 0 && former != feed->place.line)
		note_history(state, ANOTHER_LOG);
	/* What is to be told of its history is told by changes(). */
	feed->baseline = state->attached && feed->history[0] == '\0';
}

/* ---- the hint ---- */

/* LISTEN before the log is looked at: what commits afterwards wakes us. Without it there is a hint
 * less: polling goes on. */
static void hear(struct pg_state *state)
{
	struct pg_conn *conn = &state->listener;
	PGnotify *word;

	if (!state->options.notify || !state->dialect->listen || !state->shape.feed)
		return;
	if (pg_connected(conn) && !PQconsumeInput(conn->pg))
		pg_disconnect(state, conn);
	if (!pg_connected(conn)) {
		if (pg_connect(state, conn, NULL) == SHMETA_OK &&
		    pg_execute(state, conn, "LISTEN " PG_CHANNEL, NULL, NULL) != SHMETA_OK)
			pg_disconnect(state, conn);
		return;
	}
	while ((word = PQnotifies(conn->pg)) != NULL)
		PQfreemem(word);
}

/* ---- the log ---- */

static uint64_t xmin_of(const char *snapshot)
{
	return strtoull(snapshot, NULL, 10);
}

static uint64_t xmax_of(const char *snapshot)
{
	const char *colon = strchr(snapshot, ':');

	return colon != NULL ? strtoull(colon + 1, NULL, 10) : 0;
}

/* What a look at the log says of a position in it. */
enum reach {
	REACHES,
	REACHES_NOT, /* what happened since then is not all in it */
	IS_ANOTHER   /* it is another one, or has taken another course since */
};

/* *ret_why: a sentence, where it is another one. */
static enum shmeta_status reaches(struct pg_state *state, const char *snapshot, const struct place *place,
                                  enum reach *ret, const char **ret_why, struct backend_error *err)
{
	struct pg_params params;
	PGresult *result = NULL;
	enum shmeta_status status;
	uint64_t pruned, next;
	bool seen;

	pg_params_clear(&params);
	pg_param_int(&params, (int64_t)place->witness.xid);
	pg_param_int(&params, place->witness.seq);
	pg_param_int(&params, place->witness.token);
	status = pg_query(state, &state->primary, PG_FEED_STATE, &params, &result, err);
	*ret = REACHES_NOT;
	if (status != SHMETA_OK)
		return status;
	pruned = (uint64_t)pg_int(result, 0, 1);
	next = (uint64_t)pg_int(result, 0, 2);
	seen = place->witness.xid == 0 || pg_int(result, 0, 3) != 0;
	if (pg_hash_value(result, 0, 0) != place->line) {
		*ret = IS_ANOTHER;
		*ret_why = "this is another database, another log, or another timeline of the cluster";
	} else if (next < xmax_of(snapshot)) {
		*ret = IS_ANOTHER;
		*ret_why = "the server is at an earlier state than it was: it was set back";
	} else if (!seen && pruned <= place->witness.xid) {
		*ret = IS_ANOTHER;
		*ret_why =
			"the last change that was seen is no longer in the log: the server was set back to an earlier state and "
			"has gone on from there, or the log was emptied";
	} else if (seen && pruned <= xmin_of(snapshot) && pg_int(result, 0, 5) == place->missed &&
	           pg_hash_value(result, 0, 4) == place->basis && place->basis == state->coverage.basis) {
		*ret = REACHES;
	}
	PQclear(result);
	return SHMETA_OK;
}

static enum shmeta_status report_list(const struct backend_sink *sink, const char *why, uint64_t *ret_keys)
{
	(*ret_keys)++;
	return sink->changed(sink->arg, &(struct backend_key){.cls = SHMETA_CLASS_LIST, .name = rows_str(why)});
}

/* The row of a poll that is no change. */
struct poll_end {
	const char *snapshot; /* NULL: there was none */
	const char *found;    /* for pg_prune_log(); NULL: it was not looked */
	uint64_t basis;
	struct witness witness; /* the newest row */
	bool seen;              /* the one that was the newest is still there */
	int64_t session;
	uint64_t pruned; /* rows of transactions below this one may have gone */
	int64_t missed;
};

/* The rows of one poll, as keys. */
static enum shmeta_status report_rows(struct pg_state *state, const struct backend_sink *sink, const PGresult *result,
                                      struct poll_end *ret_end, uint64_t *ret_keys)
{
	enum shmeta_status status = SHMETA_OK;
	struct feed_round round = {.keys = 0};
	uint32_t keys[SHMETA_CLASS_COUNT] = {0};
	int64_t rows = 0;

	for (int row = 0; row < PQntuples(result); row++) {
		int64_t class = pg_int(result, row, 0);

		if (rows <= PG_CHANGES_MOST) {
			int64_t more = pg_int(result, row, 7);

			rows = more < 0 || more > PG_CHANGES_MOST ? PG_CHANGES_MOST + 1 : rows + more;
		}
		if (class >= 0 && class < SHMETA_CLASS_COUNT)
			keys[class]++;
		if (class < 0) {
			*ret_end = (struct poll_end){.snapshot = pg_value(result, row, 2),
			                             .session = pg_int(result, row, 4),
			                             .pruned = (uint64_t)pg_int(result, row, 5),
			                             .seen = pg_int(result, row, 1) != 0,
			                             .witness = witness_of(pg_value(result, row, 8)),
			                             .basis = pg_hash_value(result, row, 9),
			                             .found = pg_is_null(result, row, 10) ? NULL
			                                                                  : pg_value(result, row, 10),
			                             .missed = pg_int(result, row, 11)};
			snprintf(state->written.told, sizeof state->written.told, "%s", pg_value(result, row, 3));
		}
	}
	if (rows > PG_CHANGES_MOST) /* then some were left out, or all cost more than a full pass */
		return report_list(sink, "more has changed than is read by its keys", ret_keys);
	for (int row = 0; status == SHMETA_OK && row < PQntuples(result); row++) {
		int64_t cls = pg_int(result, row, 0), partition = pg_int(result, row, 4), from = pg_int(result, row, 5),
			to = pg_int(result, row, 6);
		struct feed_change change = {.cls = (enum shmeta_class)cls,
		                             .op = (enum feed_op)pg_int(result, row, 1),
		                             .tenant = pg_is_null(result, row, 2) ? rows_str(SHMETA_DEFAULT_TENANT)
		                                                                  : pg_text(result, row, 2),
		                             .topic = pg_text(result, row, 3),
		                             .name = pg_text(result, row, 8),
		                             .from = (uint64_t)from,
		                             .to = (uint64_t)to,
		                             .unread = feed_change_unread(partition, from, to)};

		if (cls < 0 || cls >= SHMETA_CLASS_COUNT)
			continue;
		if ((cls == SHMETA_CLASS_PARTITION || cls == SHMETA_CLASS_SEGMENT) && pg_is_null(result, row, 4))
			change.unread |= FEED_UNREAD_PARTITION;
		if (cls == SHMETA_CLASS_SEGMENT && pg_is_null(result, row, 5))
			change.unread |= FEED_UNREAD_BASE;
		change.partition_id = (uint32_t)partition;
		/* So many of them are read at one go, and so is what no key can name. */
		if (cls > SHMETA_CLASS_SEGMENT && (change.unread != 0 || keys[cls] > CLASS_KEYS_MOST))
			change.topic = change.name = (struct shmeta_str){"", 0};
		status = feed_change(&round, &change, sink);
	}
	*ret_keys += round.keys;
	return status;
}

/* A statement that was not logged is committed at some time: until all transactions that may have
 * had one have ended, everything is looked at again. All those have lower numbers than one that is
 * given now; a snapshot's xmax may be one of theirs. */
static enum shmeta_status owes(struct pg_state *state, const struct poll_end *end, bool *ret, struct backend_error *err)
{
	struct place *place = &state->feed->place;
	char next[24];
	enum shmeta_status status;

	if (end->missed != place->missed)
		place->owed = OWED_UNKNOWN;
	place->missed = end->missed;
	*ret = place->owed != 0;
	if (place->owed != OWED_UNKNOWN) {
		if (place->owed <= xmin_of(end->snapshot))
			place->owed = 0;
		return SHMETA_OK;
	}
	status = pg_one_text(state, "SELECT pg_current_xact_id()::text", next, sizeof next, err);
	if (status == SHMETA_OK)
		place->owed = strtoull(next, NULL, 10);
	return status;
}

/* What a poll that came from the session that was looked at says of the log. */
static enum shmeta_status judge_poll(struct pg_state *state, const struct backend_sink *sink,
                                     const struct poll_end *end, uint64_t *ret_keys, bool *ret_again,
                                     struct backend_error *err)
{
	struct pg_feed *feed = state->feed;
	enum shmeta_status status;
	bool owed;

	if (end->session != state->primary.session)
		return pg_refuse_pool(state, &state->primary, err);
	/* A trigger is away, or was; a table is another one; something passes the log by: the
	 * schema is looked at again, what is missing is made where that is allowed, and everything
	 * is compared. */
	if (end->snapshot == NULL || end->basis != feed->place.basis) {
		state->attached = false;
		feed->baseline = false;
		feed->anew = "a trigger or a table of the feed is another one, or was missing";
		*ret_again = true;
		return SHMETA_OK;
	}
	status = owes(state, end, &owed, err);
	/* A mark of another cluster says nothing: pg_prune_log(). */
	if (status == SHMETA_OK &&
	    (owed || !end->seen || (end->pruned > xmin_of(feed->snapshot) && end->pruned <= xmax_of(end->snapshot))))
		status = report_list(sink,
		                     owed         ? "statements were not logged"
		                     : !end->seen ? "the last change that was read is no longer in the log"
		                                  : "changes were removed from the log before they were read",
		                     ret_keys);
	feed->place.witness = end->witness;
	return status == SHMETA_OK && !set_text(&feed->snapshot, end->snapshot) ? no_memory(state, err) : status;
}

/* *ret_again: the query had to connect anew, or something is not as it was: that is to be looked at
 * first. */
static enum shmeta_status poll_log(struct pg_state *state, const struct backend_sink *sink, uint64_t *ret_keys,
                                   bool *ret_again, struct backend_error *err)
{
	struct pg_feed *feed = state->feed;
	struct poll_end end = {.snapshot = NULL};
	bool look = pg_now_ns() >= feed->look_at_ns;
	struct pg_params params;
	PGresult *result = NULL;
	enum shmeta_status status;

	pg_params_clear(&params);
	pg_param_text(&params, rows_str(feed->snapshot));
	/* No row has this for an origin. */
	pg_param_text(&params, rows_str(state->coverage.meddled ? "-" : state->origin));
	pg_param_int(&params, (int64_t)feed->place.witness.xid);
	pg_param_int(&params, feed->place.witness.seq);
	pg_param_int(&params, feed->place.witness.token);
	status = pg_query(state, &state->primary, look ? PG_FEED_LOOK : PG_FEED_CHANGES, &params, &result, err);
	*ret_again = feed->connects != state->primary.connects;
	/* Who has answered may not have what was asked for. */
	if (status != SHMETA_OK && *ret_again && pg_connected(&state->primary))
		return SHMETA_OK;
	if (status != SHMETA_OK)
		return status;
	if (!*ret_again) {
		status = report_rows(state, sink, result, &end, ret_keys);
		if (status == SHMETA_OK)
			status = judge_poll(state, sink, &end, ret_keys, ret_again, err);
		if (status == SHMETA_OK && look && !*ret_again)
			pg_prune_log(state, end.found != NULL ? end.found : "", &feed->look_at_ns);
	}
	PQclear(result);
	return status;
}

/* The feed has no baseline: where is the server now? Everything is looked at. */
static enum shmeta_status begin_anew(struct pg_state *state, const struct backend_sink *sink, uint64_t *ret_keys,
                                     struct backend_error *err)
{
	struct pg_feed *feed = state->feed;
	uint64_t total = 0;
	enum shmeta_status status = pg_feed_baseline(state, &state->primary, &total, err);

	if (status != SHMETA_OK)
		return status;
	if (feed->place.line != 0 && feed->place.line != feed->loading_place.line)
		note_history(state, ANOTHER_LOG);
	if (feed->history[0] != '\0' && sink->history != NULL)
		sink->history(sink->arg, feed->history);
	state->courses += feed->history[0] != '\0';
	feed->history[0] = '\0';
	feed->place.line = 0;
	status = report_list(sink, feed->anew != NULL ? feed->anew : "the change feed begins", ret_keys);
	feed->anew = NULL;
	pg_feed_loaded(state, status == SHMETA_OK);
	return status;
}

enum shmeta_status pg_feed_meet(struct pg_state *state, struct backend_error *err)
{
	struct pg_feed *feed = state->feed;
	const char *why = "";
	enum reach reach = REACHES_NOT;
	enum shmeta_status status;

	if (feed == NULL || !feed->baseline || !state->shape.feed || feed->connects == state->primary.connects)
		return SHMETA_OK;
	status = reaches(state, feed->snapshot, &feed->place, &reach, &why, err);
	if (status != SHMETA_OK)
		return status;
	feed->connects = state->primary.connects;
	if (reach == IS_ANOTHER)
		note_history(state, why);
	/* It may have been a crash, which has emptied tables that have no log at the server. */
	if (reach != REACHES || state->coverage.unlogged) {
		feed->baseline = false;
		feed->anew = "after a new connection the change log does not go on from what was read";
	}
	return SHMETA_OK;
}

void pg_feed_spoke(struct pg_state *state)
{
	state->courses += state->told != state->source;
	state->told = state->source;
}

enum shmeta_status pg_feed_told(struct pg_state *state, struct backend_error *err)
{
	const struct pg_feed *feed = state->feed;
	enum shmeta_status status = pg_feed_meet(state, err);
	char place[200];

	if (status != SHMETA_OK || state->shown_connects == state->primary.connects)
		return status;
	if (feed != NULL && state->shape.feed && feed->history[0] != '\0')
		return backend_fail(err, SHMETA_ERR_CONFLICT, "%s: it is looked at before anything is done in it",
		                    feed->history);
	if (state->told == state->source)
		return SHMETA_OK;
	return backend_fail(err, SHMETA_ERR_CONFLICT,
	                    "%s: %s is another source: it is looked at before anything is done in it",
	                    state->dialect->engine, pg_place(&state->primary, place, sizeof place));
}

enum shmeta_status pg_ensure_told(struct pg_state *state, const char *doing, struct backend_error *err)
{
	enum shmeta_status status;

	state->doing = doing;
	state->careful = true;
	status = pg_ensure(state, err);
	return status == SHMETA_OK ? pg_feed_told(state, err) : status;
}

/* There is no feed. If there was one, everything is to be looked at once more. */
static enum shmeta_status leave_feed(struct pg_state *state, const struct backend_sink *sink, int *ret_changed)
{
	struct pg_feed *feed = state->feed;
	uint64_t keys = 0;

	feed->baseline = false;
	*ret_changed = feed->followed;
	if (!feed->followed)
		return SHMETA_OK;
	feed->followed = false;
	return report_list(sink, "the change feed has ended", &keys);
}

static enum shmeta_status changes(struct pg_state *state, const struct backend_sink *sink, int *ret_changed,
                                  uint64_t *ret_lag_ns, struct backend_error *err)
{
	struct pg_feed *feed = feed_of(state);
	enum shmeta_status status = SHMETA_OK;
	bool again = true;
	uint64_t keys = 0;

	*ret_changed = 0;
	*ret_lag_ns = 0;
	state->doing = "reading the changes of";
	if (state->changefeed != NULL)
		return pg_changefeed_changes(state, sink, ret_changed, ret_lag_ns, err);
	/* What kept the feed away may be gone. */
	if (!state->shape.feed && state->dialect->triggers)
		state->attached = false;
	for (int tries = 0; again && tries < 3; tries++) {
		again = false;
		status = feed == NULL ? no_memory(state, err) : pg_ensure(state, err);
		if (status != SHMETA_OK)
			return status;
		if (!state->shape.feed)
			return leave_feed(state, sink, ret_changed);
		hear(state);
		status = pg_feed_meet(state, err);
		if (status == SHMETA_OK)
			status = feed->baseline ? poll_log(state, sink, &keys, &again, err)
			                        : begin_anew(state, sink, &keys, err);
		if (status != SHMETA_OK)
			return status;
	}
	if (again)
		return backend_fail(
			err, SHMETA_ERR_SOURCE,
			"%s: %s: the connection is lost, or the schema is another one, each time it is looked at",
			state->dialect->engine, state->doing);
	*ret_changed = keys > 0;
	return SHMETA_OK;
}

enum shmeta_status pg_changes(void *data, const struct backend_sink *sink, int *ret_changed, uint64_t *ret_lag_ns,
                              struct backend_error *err)
{
	struct pg_state *state = data;
	enum shmeta_status status;

	state->careful = false;
	status = changes(state, sink, ret_changed, ret_lag_ns, err);
	if (status == SHMETA_OK)
		pg_feed_spoke(state);
	return status;
}

enum shmeta_status pg_position(void *data, void *ret, size_t capacity, size_t *ret_bytes)
{
	struct pg_state *state = data;
	const struct pg_feed *feed = feed_of(state);
	bool there = feed != NULL && feed->baseline && state->shape.feed;
	struct position position = {.version = POSITION_VERSION, .feed = there, .source = state->source};
	const char *snapshot = there ? feed->snapshot : "";

	if (state->changefeed != NULL)
		return pg_changefeed_position(state, ret, capacity, ret_bytes);
	*ret_bytes = sizeof position + strlen(snapshot);
	if (*ret_bytes > capacity)
		return SHMETA_ERR_BUFFER;
	position.bytes = (uint32_t)strlen(snapshot);
	if (there)
		position.place = feed->place;
	memcpy(ret, &position, sizeof position);
	memcpy((char *)ret + sizeof position, snapshot, strlen(snapshot));
	return SHMETA_OK;
}

/* digits:digits:digits,digits... */
static bool is_snapshot(const char *text)
{
	return text[strspn(text, "0123456789")] == ':' && strspn(text, "0123456789:,") == strlen(text) &&
	       strchr(text, ':') != strrchr(text, ':');
}

static enum shmeta_status resume(struct pg_state *state, const void *bytes, size_t size, struct backend_error *err)
{
	struct pg_feed *feed = feed_of(state);
	struct position position;
	enum shmeta_status status;
	enum reach reach = REACHES_NOT;
	const char *why = "";
	char *snapshot, place[200];

	state->doing = "resuming from";
	status = feed == NULL ? no_memory(state, err) : pg_ensure(state, err);
	if (status != SHMETA_OK)
		return status;
	if (state->changefeed != NULL)
		return pg_changefeed_resume(state, bytes, size, err);
	if (size < sizeof position)
		return SHMETA_ABSENT;
	memcpy(&position, bytes, sizeof position);
	if (position.version != POSITION_VERSION || position.bytes != size - sizeof position)
		return SHMETA_ABSENT;
	(void)pg_place(&state->primary, place, sizeof place);
	if (position.source != state->source)
		return backend_fail(err, SHMETA_ERR_CONFLICT, "%s: %s is not the source that was followed before",
		                    state->dialect->engine, place);
	if (!position.feed || !state->shape.feed)
		return backend_fail(err, SHMETA_ABSENT, "there is no change feed, or there was none");
	snapshot = strndup((const char *)bytes + sizeof position, position.bytes);
	if (snapshot == NULL)
		return no_memory(state, err);
	if (is_snapshot(snapshot))
		status = reaches(state, snapshot, &position.place, &reach, &why, err);
	if (status != SHMETA_OK || reach != REACHES || state->coverage.unlogged) {
		free(snapshot);
		if (status == SHMETA_OK && reach == IS_ANOTHER)
			return backend_fail(err, SHMETA_ERR_CONFLICT, "%s: %s: %s", state->dialect->engine, place, why);
		return status == SHMETA_OK
		               ? backend_fail(err, SHMETA_ABSENT,
		                              "the change log does not go on from what was read, or not with the same "
		                              "triggers and tables")
		               : status;
	}
	free(feed->snapshot);
	feed->snapshot = snapshot;
	feed->place = position.place;
	feed->connects = state->primary.connects;
	feed->baseline = feed->followed = true;
	return SHMETA_OK;
}

enum shmeta_status pg_resume(void *data, const void *bytes, size_t size, struct backend_error *err)
{
	struct pg_state *state = data;
	enum shmeta_status status;

	state->careful = false;
	status = resume(state, bytes, size, err);
	if (status == SHMETA_OK)
		pg_feed_spoke(state);
	return status;
}

int pg_wake_fd(void *data)
{
	const struct pg_state *state = data;

	return pg_connected(&state->listener)   ? PQsocket(state->listener.pg)
	       : pg_connected(&state->streamer) ? PQsocket(state->streamer.pg)
	                                        : -1;
}
