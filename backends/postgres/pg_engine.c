/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: its two entries in the table of engines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_changefeed.h"
#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_epochs.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_fetch.h"
#include "backends/postgres/pg_load.h"
#include "backends/postgres/pg_locked.h"
#include "backends/postgres/pg_login.h"
#include "backends/postgres/pg_move.h"
#include "backends/postgres/pg_objects.h"
#include "backends/postgres/pg_reading.h"
#include "backends/postgres/pg_schema.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_write.h"

bool (*const pg_all_texts[])(struct pg_state *state) = {
	pg_read_texts,
	pg_feed_texts,
	pg_locked_texts,
	pg_write_kind_texts,
	pg_write_look_back_texts,
	pg_write_beside_texts,
	pg_write_run_texts,
	pg_write_apart_texts,
	pg_write_resolve_texts,
	pg_object_texts,
	pg_epoch_texts,
	pg_move_texts,
	NULL,
};

/* Nothing is begun in a source that has not been spoken of, nor through a connection that leads
 * elsewhere. */
static enum shmeta_status ready(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	if (conn == &state->primary && state->careful)
		return pg_feed_told(state, err);
	return conn == &state->writer ? pg_meet_writer(state, err) : SHMETA_OK;
}

/* A secret that the connection string carries goes into no sentence: libpq's own complaint about a
 * malformed one would quote it. It may stand before an '@', or behind a keyword, which may be
 * percent-encoded. */
static bool may_hold_secret(const char *conninfo)
{
	return strcasestr(conninfo, "pass") != NULL || strpbrk(conninfo, "@%") != NULL;
}

/* libpq tells it only when it connects, as it tells that a server is away. */
static bool has_sslmode(const PQconninfoOption *options, const char **ret_mode)
{
	static const char *const modes[] = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"};

	while (options->keyword != NULL && strcmp(options->keyword, "sslmode") != 0)
		options++;
	*ret_mode = options->keyword != NULL && options->val != NULL ? options->val : modes[0];
	for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
		if (strcmp(*ret_mode, modes[i]) == 0)
			return true;
	return false;
}

static enum shmeta_status judge_conninfo(const struct pg_state *state, const char *what, const char *conninfo,
                                         struct backend_error *err)
{
	char *said = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &said);
	enum shmeta_status status = SHMETA_OK;
	const char *mode;

	if (options == NULL)
		status = backend_fail(
			err, SHMETA_ERR_CONFIG, "%s: %s is not a connection string: %.*s", state->dialect->engine, what,
			said != NULL && !may_hold_secret(conninfo) ? (int)strcspn(said, "\n") : 36,
			said != NULL && !may_hold_secret(conninfo) ? said : "it does not parse (it is not shown)");
	else if (!has_sslmode(options, &mode))
		status = backend_fail(
			err, SHMETA_ERR_CONFIG,
			"%s: sslmode=%.40s of %s is none of disable, allow, prefer, require, verify-ca and verify-full",
			state->dialect->engine, mode, what);
	PQconninfoFree(options);
	PQfreemem(said);
	return status;
}

/* What libpq reads: postgresql://..., or, after the scheme, a list of key=value. */
static char *conninfo_of(const struct pg_dialect *dialect, const char *uri)
{
	size_t scheme = strlen(dialect->scheme);
	char *conninfo = NULL;

	if (strncmp(uri, "postgres:", 9) == 0)
		scheme = strlen("postgres");
	if (strncmp(uri, dialect->scheme, scheme) != 0 || uri[scheme] != ':')
		return strdup(uri);
	if (strncmp(uri + scheme, "://", 3) != 0)
		return strdup(uri + scheme + 1);
	if (asprintf(&conninfo, "postgresql%s", uri + scheme) < 0)
		return NULL;
	return conninfo;
}

static enum shmeta_status prepare(struct pg_state *state, const struct pg_dialect *dialect,
                                  const struct backend_options *options, struct backend_error *err)
{
	enum shmeta_status status;
	int copied = backend_options_copy(options, &state->options);

	state->dialect = dialect;
	state->texts = pg_all_texts;
	state->ready = ready;
	state->doing = "opening";
	state->primary.role = "primary";
	state->replica.role = "replica";
	state->listener.role = "primary";
	state->writer.role = "primary";
	state->streamer.role = "changefeed";
	state->uri = conninfo_of(dialect, options->uri);
	if (options->read_uri != NULL && options->read_uri[0] != '\0')
		state->read_uri = conninfo_of(dialect, options->read_uri);
	if (!copied || state->uri == NULL || !pg_changefeed_prepare(state))
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", dialect->engine);
	state->primary.conninfo = state->uri;
	state->replica.conninfo = state->read_uri;
	state->listener.conninfo = state->uri;
	state->writer.conninfo = state->uri;
	state->streamer.conninfo = state->uri;
	status = judge_conninfo(state, "the source's uri", state->uri, err);
	if (status == SHMETA_OK && state->read_uri != NULL)
		status = judge_conninfo(state, "the uri to read from", state->read_uri, err);
	return status;
}

static enum shmeta_status open_source(struct pg_state *state, const struct pg_dialect *dialect,
                                      const struct backend_options *options, struct backend_error *err)
{
	enum shmeta_status status = prepare(state, dialect, options, err);

	return status == SHMETA_OK ? pg_ensure(state, err) : status;
}

static enum shmeta_status open_postgresql(void *data, const struct backend_options *options, struct backend_error *err)
{
	return open_source(data, &pg_postgresql, options, err);
}

static enum shmeta_status open_cockroachdb(void *data, const struct backend_options *options, struct backend_error *err)
{
	return open_source(data, &pg_cockroachdb, options, err);
}

static enum shmeta_status schema(struct pg_state *state, const struct pg_dialect *dialect,
                                 const struct backend_options *options, enum backend_schema_verb verb, int dry_run,
                                 backend_schema_fn *say, void *arg, struct backend_error *err)
{
	enum shmeta_status status = prepare(state, dialect, options, err);

	return status == SHMETA_OK ? pg_schema(state, verb, dry_run, say, arg, err) : status;
}

static enum shmeta_status schema_postgresql(void *data, const struct backend_options *options,
                                            enum backend_schema_verb verb, int dry_run, backend_schema_fn *say,
                                            void *arg, struct backend_error *err)
{
	return schema(data, &pg_postgresql, options, verb, dry_run, say, arg, err);
}

static enum shmeta_status schema_cockroachdb(void *data, const struct backend_options *options,
                                             enum backend_schema_verb verb, int dry_run, backend_schema_fn *say,
                                             void *arg, struct backend_error *err)
{
	return schema(data, &pg_cockroachdb, options, verb, dry_run, say, arg, err);
}

/* The value that libpq would use, but for a service file's: "" where it is not known. */
static const char *told(const PQconninfoOption *given, const PQconninfoOption *standard, const char *keyword)
{
	const PQconninfoOption *lists[] = {given, standard};

	for (size_t i = 0; i < 2; i++)
		for (const PQconninfoOption *o = lists[i]; o != NULL && o->keyword != NULL; o++)
			if (strcmp(o->keyword, keyword) == 0 && o->val != NULL && o->val[0] != '\0')
				return o->val;
	return "";
}

static enum shmeta_status judge_proof(const struct pg_state *state, const char *conninfo, struct backend_error *err)
{
	PQconninfoOption *given = PQconninfoParse(conninfo, NULL), *standard = PQconndefaults();
	const char *hosts = told(given, standard, "hostaddr");
	enum shmeta_status status = SHMETA_OK;

	if (hosts[0] == '\0')
		hosts = told(given, standard, "host");
	/* What a service adds is known when it is used: the login judges it. */
	if (told(given, standard, "service")[0] == '\0')
		status = pg_judge_hosts(state, hosts, told(given, standard, "sslmode"), err);
	PQconninfoFree(given);
	PQconninfoFree(standard);
	return status;
}

static void close_source(void *data);

static enum shmeta_status judge(const struct pg_dialect *dialect, const struct backend_options *options,
                                struct backend_error *err)
{
	struct pg_state *state = calloc(1, sizeof *state);
	enum shmeta_status status;

	if (state == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", dialect->engine);
	status = prepare(state, dialect, options, err);
	if (status == SHMETA_OK)
		status = judge_proof(state, state->uri, err);
	if (status == SHMETA_OK && state->read_uri != NULL)
		status = judge_proof(state, state->read_uri, err);
	close_source(state);
	free(state);
	return status;
}

static enum shmeta_status judge_postgresql(const struct backend_options *options, struct backend_error *err)
{
	return judge(&pg_postgresql, options, err);
}

static enum shmeta_status judge_cockroachdb(const struct backend_options *options, struct backend_error *err)
{
	return judge(&pg_cockroachdb, options, err);
}

static void forget(char **secret)
{
	if (*secret != NULL)
		explicit_bzero(*secret, strlen(*secret));
	free(*secret);
	*secret = NULL;
}

static void close_source(void *data)
{
	struct pg_state *state = data;

	if (state->dialect == NULL)
		return; /* never opened */
	pg_forget_started(state);
	pg_disconnect(state, &state->primary);
	pg_disconnect(state, &state->writer);
	pg_disconnect(state, &state->replica);
	pg_disconnect(state, &state->listener);
	pg_disconnect(state, &state->streamer);
	pg_feed_free(state);
	pg_changefeed_free(state);
	rows_scratch_free(&state->scratch);
	for (int i = 0; i < PG_STATEMENTS; i++)
		free(state->sql[i]);
	forget(&state->uri);
	forget(&state->read_uri);
	backend_options_free(&state->options);
	memset(state, 0, sizeof *state);
}

static enum backend_feed_kind feed_kind(void *data)
{
	const struct pg_state *state = data;

	return state->shape.feed || pg_changefeed_runs(state) ? BACKEND_FEED_KEYS : BACKEND_FEED_NONE;
}

static int writable(void *data)
{
	return !((const struct pg_state *)data)->read_only;
}

static uint64_t fingerprint(void *data)
{
	return ((const struct pg_state *)data)->source;
}

static void describe(void *data, char *ret, size_t bytes)
{
	const struct pg_state *state = data;
	const struct pg_conn *conn = &state->primary;
	char place[200];

	if (!pg_connected(conn))
		snprintf(ret, bytes, "%s: not connected",
		         state->dialect != NULL ? state->dialect->engine : "postgresql");
	else
		snprintf(ret, bytes, "%s: %s (server %d.%d, %s, %s%s%s)", state->dialect->engine,
		         pg_place(conn, place, sizeof place), conn->server_version / 10000,
		         conn->server_version % 10000,
		         state->shape.organization ? "with organizations" : "without organizations",
		         pg_changefeed_runs(state) ? "changefeed"
		         : state->shape.feed       ? "change feed"
		         : state->read_only        ? "read-only, no change feed"
		                                   : "no change feed",
		         conn->in_recovery ? ", a standby" : "",
		         !state->options.follower_reads ? ""
		         : state->follower.refused      ? ", follower reads refused"
		                                        : ", follower reads");
}

static int64_t clock_ahead_ms(void *state, int64_t now_ms)
{
	return pg_clock_distance(state, now_ms);
}

static void counters(void *data, struct backend_counters *ret)
{
	*ret = ((const struct pg_state *)data)->counters;
}

static const struct backend_feed feed = {.kind = feed_kind,
                                         .trouble = pg_feed_trouble,
                                         .changes = pg_changes,
                                         .position = pg_position,
                                         .resume = pg_resume,
                                         .wake_fd = pg_wake_fd};
static const struct backend_writer writer = {
	.writable = writable, .apply = pg_apply, .start = pg_start, .finish = pg_finish};

/* Two engines that differ in how they are opened. */
#define ENGINE(scheme, suffix, more)                                                                                   \
	static const struct backend_source source_##suffix = {.open = open_##suffix,                                   \
	                                                      .close = close_source,                                   \
	                                                      .check = judge_##suffix,                                 \
	                                                      .fingerprint = fingerprint,                              \
	                                                      .describe = describe,                                    \
	                                                      .counters = counters,                                    \
	                                                      .load = pg_load,                                         \
	                                                      .fetch = pg_fetch,                                       \
	                                                      .clock_ahead_ms = clock_ahead_ms};                       \
	static const struct backend_admin admin_##suffix = {.objects = pg_list_objects,                                \
	                                                    .epoch_end = pg_epoch_end,                                 \
	                                                    .schema = schema_##suffix,                                 \
	                                                    .extras = pg_extras,                                       \
	                                                    .restore = pg_restore};                                    \
	const struct backend_engine backend_##suffix = {.name = (scheme),                                              \
	                                                .state_bytes = sizeof(struct pg_state),                        \
	                                                .uses = BACKEND_USES_READ_URI | BACKEND_USES_PASSWORD_FILE |   \
	                                                        BACKEND_USES_ALLOW_INSECURE | BACKEND_USES_FEED_KEEP | \
	                                                        (more),                                                \
	                                                .limits = {.keys = 4096, .ops = 4096, .unit_ops = 4096},       \
	                                                .source = &source_##suffix,                                    \
	                                                .feed = &feed,                                                 \
	                                                .writer = &writer,                                             \
	                                                .admin = &admin_##suffix}

ENGINE("postgresql", postgresql, BACKEND_USES_NOTIFY);
ENGINE("cockroachdb", cockroachdb, BACKEND_USES_FOLLOWER_READS | BACKEND_USES_CHANGEFEED);
