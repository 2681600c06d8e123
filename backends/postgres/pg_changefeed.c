/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what has changed, as CockroachDB's changefeed tells it.
 *
 * A changefeed without a sink is a statement that never ends, on a connection of its own: a row for
 * each changed row, at least once and in no order but that of a key, and now and then one that says
 * `resolved`: everything until then was told. A changed row is a hint, a key to be fetched by the
 * normal connection, and goes to the sink as soon as it comes; `resolved` says until when changes()
 * tells, and where to go on.
 *
 *   not there --load()--> there, cursor from before the load --changes()--> open --a row-> answered
 *       ^                    ^                                               |
 *       |                    '-- lost, silent: open again at the cursor <----|
 *       '--------------- refused by the server: passes, until a load() <-----'
 *
 * Clocks. `resolved` is a time of the cluster's; changes() answers in ours. The two are compared
 * once a minute, by a query to one node; what other nodes' clocks may be ahead of it is taken off.
 * A time that lies ahead of now is no time. */
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/postgres/pg_changefeed.h"
#include "backends/postgres/pg_changefeed_row.h"
#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_link.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_values.h"

enum {
	CURSOR_MAX = 48,
	ROWS_MOST = 50000,    /* of one call */
	RESOLVED_EVERY_S = 1, /* as the statement asks */
	SILENT_FOR = 4,       /* so many times that, or the timeout, whatever is more */
	CLOCK_EVERY_S = 60,
	PAUSE_MOST_S = 60,
	TRIES_MOST = 6, /* of one call: once more for each option that the server does not know, and
                         * for the other spelling */
};

/* What not every version knows, and what can be done without. */
static const struct {
	const char *quoted, *text;
} options[] = {
	/* The row as it was before: without it a deleted row is known by its primary key alone. */
	{"\"diff\"", ", diff"},
	/* Otherwise `resolved` comes every 30 s. */
	{"\"min_checkpoint_frequency\"", ", min_checkpoint_frequency = '1s'"},
	/* A column more or less says nothing of the rows. */
	{"\"schema_change_policy\"", ", schema_change_policy = 'nobackfill'"},
};
enum { OPTIONS = sizeof options / sizeof options[0] };

struct mark {
	char cursor[CURSOR_MAX];
	uint64_t told_ns; /* everything until then is told, or shown by a load; CLOCK_BOOTTIME, as
                           * all times here */
};

struct pg_changefeed {
	bool there; /* changes() goes on from the mark */
	struct mark mark, loading;
	uint64_t source; /* whose it is */
	bool answered;   /* `resolved` has come on this connection */
	uint64_t opened_ns, heard_ns;
	uint64_t retry_at_ns;
	uint32_t failures;
	bool create;             /* the statement begins with CREATE, not with EXPERIMENTAL */
	bool without[OPTIONS];   /* the server does not know it */
	uint64_t clock_ns;       /* when the server's clock was read, */
	int64_t clock_server_ns; /* what it said, */
	uint64_t clock_connects; /* and over which connection */
	char trouble[400];
};

/* Kept with the store, followed by the cursor. */
struct position {
	uint16_t version, feed;
	uint32_t bytes;
	uint64_t source;
};
enum { POSITION_VERSION = 2 }; /* that of the change log is 1 */

static const uint64_t second_ns = 1000000000;

/* Also while the machine sleeps, as the core's. */
static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * second_ns + (uint64_t)now.tv_nsec;
}

static uint64_t timeout_ns(const struct pg_state *state)
{
	return (uint64_t)pg_timeout_of(state) * 1000000;
}

bool pg_changefeed_prepare(struct pg_state *state)
{
	if (state->options.changefeed)
		state->changefeed = calloc(1, sizeof *state->changefeed);
	return !state->options.changefeed || state->changefeed != NULL;
}

void pg_changefeed_free(struct pg_state *state)
{
	free(state->changefeed);
	state->changefeed = NULL;
}

bool pg_changefeed_runs(const struct pg_state *state)
{
	return state->changefeed != NULL && state->changefeed->there;
}

const char *pg_changefeed_trouble(void *data)
{
	const struct pg_state *state = data;

	return state->changefeed != NULL ? state->changefeed->trouble : "";
}

/* ---- clocks ---- */

static enum shmeta_status read_clock(struct pg_state *state, struct backend_error *err)
{
	struct pg_changefeed *feed = state->changefeed;
	PGresult *result = NULL;
	enum shmeta_status status = SHMETA_OK;

	/* Twice, where the connection turns out to be dead. */
	for (int tries = 0; tries < 2; tries++) {
		uint64_t before = now_ns();

		status = pg_execute(state, &state->primary,
		                    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8", &result, err);
		if (status == SHMETA_OK) {
			feed->clock_ns = before;
			feed->clock_server_ns = pg_clock_ns(strtoll(pg_value(result, 0, 0), NULL, 10));
			feed->clock_connects = state->primary.connects;
			PQclear(result);
			return SHMETA_OK;
		}
		if (pg_connected(&state->primary) || state->primary.timed_out || pg_ensure(state, err) != SHMETA_OK)
			break;
	}
	return status;
}

/* By our clock; at the earliest. */
static uint64_t local_of(const struct pg_changefeed *feed, int64_t server_ns)
{
	return pg_clock_local(server_ns, feed->clock_server_ns, feed->clock_ns);
}

static struct mark mark_of(const struct pg_changefeed *feed, int64_t server_ns)
{
	struct mark mark = {.told_ns = local_of(feed, server_ns)};

	snprintf(mark.cursor, sizeof mark.cursor, "%" PRId64 ".0000000000", server_ns);
	return mark;
}

/* ---- a load ---- */

enum shmeta_status pg_changefeed_load(struct pg_state *state, int64_t read_us, struct backend_error *err)
{
	struct pg_changefeed *feed = state->changefeed;
	enum shmeta_status status;
	int64_t from;

	if (feed == NULL)
		return SHMETA_OK;
	status = read_clock(state, err);
	if (status != SHMETA_OK)
		return status;
	from = feed->clock_server_ns;
	if (read_us > 0 && pg_clock_ns(read_us) < from)
		from = pg_clock_ns(read_us);
	/* The load may read on another node, whose clock is behind: what it does not show is told
	 * again. */
	feed->loading = mark_of(feed, from > (int64_t)PG_CLOCKS_NS ? from - (int64_t)PG_CLOCKS_NS : 0);
	return SHMETA_OK;
}

void pg_changefeed_loaded(struct pg_state *state)
{
	struct pg_changefeed *feed = state->changefeed;

	if (feed == NULL)
		return;
	if (feed->there && pg_connected(&state->streamer)) {
		if (feed->loading.told_ns > feed->mark.told_ns)
			feed->mark.told_ns = feed->loading.told_ns;
		return;
	}
	feed->mark = feed->loading;
	feed->source = state->source;
	feed->there = feed->there || now_ns() >= feed->retry_at_ns;
}

/* ---- opening, closing ---- */

static uint64_t pause_ns(const struct pg_state *state)
{
	uint32_t failures = state->changefeed->failures;
	uint64_t pause = failures == 0 ? 0 : timeout_ns(state) / 5 << (failures < 10 ? failures - 1 : 9);

	return pause < PAUSE_MOST_S * second_ns ? pause : PAUSE_MOST_S * second_ns;
}

/* It will be opened again at the mark: at once the first time, then with growing pauses. */
__attribute__((format(printf, 2, 3))) static void interrupt(struct pg_state *state, const char *fmt, ...)
{
	struct pg_changefeed *feed = state->changefeed;
	va_list args;

	va_start(args, fmt);
	vsnprintf(feed->trouble, sizeof feed->trouble, fmt, args);
	va_end(args);
	pg_disconnect(state, &state->streamer);
	feed->retry_at_ns = now_ns() + pause_ns(state);
	feed->failures++;
}

static void lost(struct pg_state *state, const char *why)
{
	interrupt(
		state,
		"the changefeed was interrupted (%.*s); until it goes on, from where it was, changes are found by full "
		"passes",
		(int)strcspn(why, "\n"), why);
}

static enum shmeta_status send_statement(struct pg_state *state, struct backend_error *err)
{
	const struct pg_changefeed *feed = state->changefeed;
	struct pg_conn *conn = &state->streamer;
	enum shmeta_status status;
	char sql[600];
	int n;

	status = pg_connect(state, conn, err);
	/* It never ends. */
	if (status == SHMETA_OK)
		status = pg_execute(state, conn,
		                    "SELECT set_config('statement_timeout', '0', false), "
		                    "set_config('idle_in_transaction_session_timeout', '0', false)",
		                    NULL, err);
	if (status != SHMETA_OK)
		return status;
	n = snprintf(sql, sizeof sql,
	             "%s CHANGEFEED FOR topics, partitions, segments, consumer_groups, consumer_offsets, agents, "
	             "partition_leases WITH cursor = '%s', envelope = 'wrapped', resolved = '%ds'",
	             feed->create ? "CREATE" : "EXPERIMENTAL", feed->mark.cursor, RESOLVED_EVERY_S);
	for (int i = 0; i < OPTIONS; i++)
		n += snprintf(sql + n, sizeof sql - (size_t)n, "%s", feed->without[i] ? "" : options[i].text);
	state->counters.queries++;
	/* The simple protocol, one row at a time: nothing of it is kept. */
	if (!PQexitPipelineMode(conn->pg) || !PQsendQuery(conn->pg, sql) || !PQsetSingleRowMode(conn->pg))
		return pg_fail(state, conn, NULL, err);
	conn->streaming = true;
	return pg_flush(state, conn, err);
}

static void open_feed(struct pg_state *state)
{
	struct pg_changefeed *feed = state->changefeed;
	struct backend_error err = {.code = SHMETA_OK};

	if (send_statement(state, &err) != SHMETA_OK) {
		lost(state, err.text);
		return;
	}
	feed->answered = false;
	feed->opened_ns = feed->heard_ns = now_ns();
}

/* What to do comes behind it, and status cuts what is long. */
static size_t first_sentence(const char *said)
{
	size_t line = strcspn(said, "\n");
	const char *end = strstr(said, ". ");

	return end != NULL && (size_t)(end - said) < line ? (size_t)(end - said) : line;
}

/* The server has ended it. *ret_list: what was missed is to be looked for at once. */
static void judge(struct pg_state *state, const PGresult *result, bool *ret_list)
{
	struct pg_changefeed *feed = state->changefeed;
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *said = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	char place[200];

	if (said == NULL)
		said = PQresultErrorMessage(result)[0] != '\0' ? PQresultErrorMessage(result) : "it has ended";
	code = code != NULL ? code : "";
	for (int i = 0; i < OPTIONS; i++)
		if (!feed->without[i] && strstr(said, "invalid option") != NULL &&
		    strstr(said, options[i].quoted) != NULL) {
			feed->without[i] = true;
			pg_disconnect(state, &state->streamer);
			return;
		}
	if (strcmp(code, "42601") == 0 && !feed->create) {
		feed->create = true;
		pg_disconnect(state, &state->streamer);
		return;
	}
	/* A node that goes away, and somebody who cancels. */
	if (code[0] == '\0' || strncmp(code, "57", 2) == 0 || strncmp(code, "08", 2) == 0) {
		lost(state, said);
		return;
	}
	(void)pg_place(&state->streamer, place, sizeof place);
	feed->there = false;
	*ret_list = feed->answered || strstr(said, "GC threshold") != NULL;
	interrupt(
		state,
		"%s: %.60s %s the changefeed: %.*s%s; changes are found by full passes, and with each it is asked for again",
		state->dialect->engine, place, feed->answered ? "has ended" : "refuses", (int)first_sentence(said),
		said,
		strstr(said, "kv.rangefeed.enabled") != NULL
			? " (an administrator does SET CLUSTER SETTING kv.rangefeed.enabled = true)"
			: "");
}

/* ---- rows ---- */

/* BYTES come as bytea, in text. *ret_own: to be freed with PQfreemem(). */
static struct shmeta_str value_of(const PGresult *result, int column, unsigned char **ret_own)
{
	enum { BYTEA = 17 };
	size_t bytes = 0;

	*ret_own = NULL;
	if (PQftype(result, column) != BYTEA || PQfformat(result, column) != 0)
		return pg_text(result, 0, column);
	*ret_own = PQunescapeBytea((const unsigned char *)pg_value(result, 0, column), &bytes);
	return *ret_own != NULL ? (struct shmeta_str){(const char *)*ret_own, bytes} : (struct shmeta_str){"", 0};
}

static void take_resolved(struct pg_state *state, struct shmeta_str value)
{
	struct pg_changefeed *feed = state->changefeed;
	uint64_t now = now_ns(), at;
	struct mark mark = {.told_ns = 0};

	if (!pg_changefeed_resolved(value, mark.cursor, sizeof mark.cursor))
		return;
	at = local_of(feed, strtoll(mark.cursor, NULL, 10));
	/* Of a future that has not been nobody can tell all. Then it is as if nothing had come. */
	if (at > now + PG_CLOCKS_NS) {
		snprintf(
			feed->trouble, sizeof feed->trouble,
			"the changefeed says that it has told of what is to come: the clocks of the cluster's nodes differ; "
			"until that ends, changes are found by full passes");
		return;
	}
	mark.told_ns = at > PG_CLOCKS_NS ? at - PG_CLOCKS_NS : 0;
	if (mark.told_ns > feed->mark.told_ns)
		feed->mark = mark;
	feed->heard_ns = now;
	feed->answered = true;
	feed->trouble[0] = '\0';
	if (now - feed->opened_ns > pause_ns(state))
		feed->failures = 0;
}

/* What came in one call. */
struct taken {
	uint32_t rows, changes;
	bool list; /* only everything would tell what has changed */
};

static enum shmeta_status take_row(struct pg_state *state, const PGresult *result, const struct backend_sink *sink,
                                   struct taken *taken)
{
	struct pg_changefeed *feed = state->changefeed;
	enum shmeta_status status = SHMETA_OK;
	unsigned char *own = NULL;
	struct shmeta_str value;

	if (PQnfields(result) < 3)
		return SHMETA_OK;
	if (!feed->answered)
		feed->heard_ns = now_ns(); /* it is catching up */
	value = value_of(result, 2, &own);
	if (pg_is_null(result, 0, 0)) {
		take_resolved(state, value);
	} else {
		taken->changes++;
		status = pg_changefeed_row(pg_text(result, 0, 0), value, sink, &taken->list);
	}
	PQfreemem(own);
	return status;
}

/* What has come. Not OK: the sink's answer. */
static enum shmeta_status take_rows(struct pg_state *state, const struct backend_sink *sink, struct taken *taken)
{
	struct pg_conn *conn = &state->streamer;
	struct pollfd fd = {.events = POLLIN};
	enum shmeta_status status = SHMETA_OK;
	PGresult *result;

	do {
		if (!PQconsumeInput(conn->pg)) {
			lost(state, PQerrorMessage(conn->pg));
			return SHMETA_OK;
		}
		while (taken->rows < ROWS_MOST && !PQisBusy(conn->pg)) {
			result = PQgetResult(conn->pg);
			if (PQresultStatus(result) != PGRES_SINGLE_TUPLE) {
				judge(state, result, &taken->list);
				PQclear(result);
				return SHMETA_OK;
			}
			status = take_row(state, result, sink, taken);
			PQclear(result);
			/* What the sink did not take is told again. */
			if (status != SHMETA_OK) {
				pg_disconnect(state, conn);
				return status;
			}
			taken->rows++;
		}
		fd.fd = PQsocket(conn->pg);
	} while (taken->rows < ROWS_MOST && poll(&fd, 1, 0) > 0);
	return SHMETA_OK;
}

static void listen_for_life(struct pg_state *state)
{
	struct pg_changefeed *feed = state->changefeed;
	uint64_t most = SILENT_FOR * (timeout_ns(state) > RESOLVED_EVERY_S * second_ns ? timeout_ns(state)
	                                                                               : RESOLVED_EVERY_S * second_ns);

	/* From its cursor on it may have to look through much, before it says anything. */
	if (!feed->answered)
		most *= 3;
	if (now_ns() - feed->heard_ns <= most)
		return;
	interrupt(state,
	          "the changefeed has not said for %" PRIu64
	          " s until when it tells; it is opened again, and until it does, changes are found by full passes",
	          most / second_ns);
}

/* ---- the vtable's part ---- */

static enum shmeta_status follow(struct pg_state *state, const struct backend_sink *sink, struct taken *taken)
{
	struct pg_changefeed *feed = state->changefeed;
	enum shmeta_status status = SHMETA_OK;

	for (int tries = 0; status == SHMETA_OK && feed->there && tries < TRIES_MOST; tries++) {
		if (!pg_connected(&state->streamer)) {
			if (now_ns() < feed->retry_at_ns)
				return SHMETA_OK;
			open_feed(state);
			if (!pg_connected(&state->streamer))
				return SHMETA_OK;
		}
		status = take_rows(state, sink, taken);
		if (status == SHMETA_OK && pg_connected(&state->streamer)) {
			listen_for_life(state);
			return SHMETA_OK;
		}
	}
	return status;
}

enum shmeta_status pg_changefeed_changes(struct pg_state *state, const struct backend_sink *sink, int *ret_changed,
                                         uint64_t *ret_lag_ns, struct backend_error *err)
{
	struct pg_changefeed *feed = state->changefeed;
	uint64_t began = now_ns();
	enum shmeta_status status = pg_ensure(state, err);
	struct taken taken = {.rows = 0};

	if (status == SHMETA_OK && feed->there &&
	    (feed->clock_connects != state->primary.connects || began - feed->clock_ns > CLOCK_EVERY_S * second_ns))
		status = read_clock(state, err);
	if (status != SHMETA_OK)
		return status;
	if (feed->there && feed->source != state->source) {
		feed->there = false;
		taken.list = true;
		pg_disconnect(state, &state->streamer);
		if (sink->history != NULL)
			sink->history(sink->arg, "cockroachdb: the database is not the one that was followed before");
	}
	/* From a moment before this call on; what was before that is not told. */
	if (!feed->there && began >= feed->retry_at_ns) {
		status = pg_changefeed_load(state, 0, err);
		if (status != SHMETA_OK)
			return status;
		pg_changefeed_loaded(state);
		taken.list = true;
	}
	status = follow(state, sink, &taken);
	if (status == SHMETA_OK && taken.list)
		status = sink->changed(sink->arg, &(struct backend_key){.cls = SHMETA_CLASS_LIST,
		                                                        .name = rows_str("the changefeed began anew")});
	*ret_changed = taken.changes > 0 || taken.list;
	*ret_lag_ns = began > feed->mark.told_ns ? began - feed->mark.told_ns : 1;
	return status;
}

enum shmeta_status pg_changefeed_position(struct pg_state *state, void *ret, size_t capacity, size_t *ret_bytes)
{
	const struct pg_changefeed *feed = state->changefeed;
	size_t bytes = feed->there ? strlen(feed->mark.cursor) : 0;
	const struct position position = {
		.version = POSITION_VERSION, .feed = feed->there, .bytes = (uint32_t)bytes, .source = state->source};

	*ret_bytes = sizeof position + bytes;
	if (*ret_bytes > capacity)
		return SHMETA_ERR_BUFFER;
	memcpy(ret, &position, sizeof position);
	memcpy((char *)ret + sizeof position, feed->mark.cursor, bytes);
	return SHMETA_OK;
}

enum shmeta_status pg_changefeed_resume(struct pg_state *state, const void *bytes, size_t size,
                                        struct backend_error *err)
{
	struct pg_changefeed *feed = state->changefeed;
	struct position position;
	struct mark mark = {.told_ns = 0};
	enum shmeta_status status;

	if (size <= sizeof position)
		return SHMETA_ABSENT;
	memcpy(&position, bytes, sizeof position);
	if (position.version != POSITION_VERSION || !position.feed || position.bytes != size - sizeof position ||
	    position.bytes >= sizeof mark.cursor)
		return SHMETA_ABSENT;
	if (position.source != state->source)
		return backend_fail(err, SHMETA_ERR_CONFLICT, "%s: this is not the database that was followed before",
		                    state->dialect->engine);
	memcpy(mark.cursor, (const char *)bytes + sizeof position, position.bytes);
	if (!pg_changefeed_is_time(mark.cursor))
		return SHMETA_ABSENT;
	status = read_clock(state, err);
	if (status != SHMETA_OK)
		return status;
	mark.told_ns = local_of(feed, strtoll(mark.cursor, NULL, 10));
	if (mark.told_ns > now_ns())
		return SHMETA_ABSENT;
	mark.told_ns = mark.told_ns > PG_CLOCKS_NS ? mark.told_ns - PG_CLOCKS_NS : 0;
	feed->mark = mark;
	feed->source = state->source;
	feed->there = true;
	return SHMETA_OK;
}
