/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: how a connection is made. Who must prove who it is, where the password comes from, what a session is set to, and how
 * long nobody tries again after it was refused. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/postgres/pg_conn.h"

enum { EXTRA_MS = 1000, LOGIN_GATE_MS = 15000, GATE_FIRST_MS = 100, GATE_MOST_MS = 3000, SECRET_MAX = 1024 };

static const char *option_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options != NULL && options->keyword != NULL; options++)
		if (strcmp(options->keyword, keyword) == 0)
			return options->val != NULL ? options->val : "";
	return "";
}

/* One host of a list: does what is sent to it stay on this machine? */
static bool stays_here(const char *host, size_t bytes)
{
	char copy[64];
	struct in6_addr six;
	struct in_addr four;

	if (bytes == 0 || host[0] == '/' || host[0] == '@')
		return true;
	if (bytes >= sizeof copy)
		return false;
	memcpy(copy, host, bytes);
	copy[bytes] = '\0';
	if (strcmp(copy, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, copy, &four) == 1)
		return ntohl(four.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, copy, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

enum shmeta_status pg_judge_hosts(const struct pg_state *state, const char *hosts, const char *mode,
                                  struct backend_error *err)
{
	size_t bytes;

	if (state->options.allow_insecure || strcmp(mode, "verify-full") == 0)
		return SHMETA_OK;
	for (const char *at = hosts;; at += bytes + 1) {
		bytes = strcspn(at, ",");
		if (!stays_here(at, bytes))
			return backend_fail(
				err, SHMETA_ERR_CONFIG,
				"%s: the connection to %.*s would have sslmode=%s, which does not prove who answers: use "
				"sslmode=verify-full with sslrootcert, or say source.allow_insecure",
				state->dialect->engine, bytes < 100 ? (int)bytes : 100, at, mode);
		if (at[bytes] == '\0')
			return SHMETA_OK;
	}
}

/* A server that cannot be told from another must not be believed, nor given a password. The decision is made on what libpq will
 * really use: service files and its environment included. */
static enum shmeta_status judge_tls(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	PQconninfoOption *options = PQconninfo(conn->pg);
	const char *hosts = option_of(options, "hostaddr");
	enum shmeta_status status;

	if (options == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	if (hosts[0] == '\0')
		hosts = option_of(options, "host");
	status = pg_judge_hosts(state, hosts, option_of(options, "sslmode"), err);
	PQconninfoFree(options);
	return status;
}

/* The password of the credentials file, without its newline. Read each time: passwords are rotated. */
static enum shmeta_status read_secret(struct pg_state *state, char out[SECRET_MAX], struct backend_error *err)
{
	const char *path = state->options.password_file;
	ssize_t n = -1;
	int fd;

	out[0] = '\0';
	if (path == NULL || path[0] == '\0')
		return SHMETA_OK;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, SECRET_MAX);
		close(fd);
	}
	if (n < 0)
		return backend_fail(err, SHMETA_ERR_SOURCE, "%s: the password file %s: %s", state->dialect->engine,
		                    path, strerror(errno));
	if (n == SECRET_MAX || memchr(out, '\0', (size_t)n) != NULL) {
		explicit_bzero(out, SECRET_MAX);
		return backend_fail(err, SHMETA_ERR_SOURCE, "%s: the password file %s holds no password of one line",
		                    state->dialect->engine, path);
	}
	out[n] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	return SHMETA_OK;
}

static void start_login(struct pg_state *state, struct pg_conn *conn, const char *secret)
{
	const char *keys[16], *values[16];
	char patience[16];
	int n = 0;
#define GIVE(key, value) (keys[n] = (key), values[n++] = (value))

	snprintf(patience, sizeof patience, "%u", pg_timeout_of(state));
	/* Before the configured string: defaults that it overrides. Keepalives find a dead idle link in 10 s, tcp_user_timeout a
	 * dead one with something in flight; our own deadlines everything else. */
	GIVE("keepalives_idle", "4");
	GIVE("keepalives_interval", "2");
	GIVE("keepalives_count", "3");
	GIVE("tcp_user_timeout", patience);
	GIVE("fallback_application_name", "shmetad");
	if (conn != &state->replica && !state->options.read_only)
		GIVE("target_session_attrs", strchr(conn->conninfo, ',') != NULL ? "read-write" : "any");
	GIVE("dbname", conn->conninfo);
	GIVE("client_encoding", "UTF8");
	if (secret[0] != '\0')
		GIVE("password", secret);
#undef GIVE
	keys[n] = NULL;
	values[n] = NULL;
	conn->pg = PQconnectStartParams(keys, values, 1);
}

/* An engine prints nothing. */
static void swallow(void *arg, const PGresult *result)
{
	(void)arg;
	(void)result;
}

enum shmeta_status pg_login(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	/* What can be done without is not waited for. */
	uint32_t patience =
		conn == &state->primary || pg_timeout_of(state) < EXTRA_MS ? pg_timeout_of(state) : EXTRA_MS;
	uint64_t deadline = pg_now_ns() + (uint64_t)patience * 1000000u;
	PostgresPollingStatusType what = PGRES_POLLING_WRITING;
	char secret[SECRET_MAX];
	enum shmeta_status status = read_secret(state, secret, err);

	if (status != SHMETA_OK)
		return status;
	start_login(state, conn, secret);
	explicit_bzero(secret, sizeof secret);
	if (conn->pg == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	(void)PQsetNoticeReceiver(conn->pg, swallow, NULL);
	if (PQstatus(conn->pg) == CONNECTION_BAD)
		return pg_fail(state, conn, NULL, err);
	status = judge_tls(state, conn, err);
	while (status == SHMETA_OK) {
		status = pg_wait_for(state, conn, what == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, err);
		if (status != SHMETA_OK)
			break;
		what = PQconnectPoll(conn->pg);
		if (what == PGRES_POLLING_FAILED)
			return pg_fail(state, conn, NULL, err);
		if (what == PGRES_POLLING_OK)
			break;
	}
	if (status == SHMETA_OK && (PQsetnonblocking(conn->pg, 1) != 0 || !PQenterPipelineMode(conn->pg)))
		status = pg_fail(state, conn, NULL, err);
	return status;
}

/* Nothing of a session is left to the server's or the role's settings. Its answer says what kind of server this is. */
static enum shmeta_status set_up_session(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	const char *encoding = PQparameterStatus(conn->pg, "server_encoding");
	uint32_t timeout = pg_timeout_of(state);
	uint64_t before_ns;
	PGresult *result = NULL;
	enum shmeta_status status;
	char sql[1000];

	if (PQparameterStatus(conn->pg, "crdb_version") != NULL)
		state->dialect = &pg_cockroachdb;
	if (state->options.follower_reads && !state->dialect->historical_reads)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"%s: follower reads (source.follower_reads) are CockroachDB's; a replica of PostgreSQL is "
			"read with source.read_uri",
			state->dialect->engine);
	if (state->options.changefeed && !state->dialect->changefeeds)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"%s: changefeeds (feed.changefeed) are CockroachDB's; PostgreSQL is followed by its change log",
			state->dialect->engine);
	conn->server_version = PQserverVersion(conn->pg);
	if (conn == &state->primary) {
		uint64_t random = pg_scatter(state);

		snprintf(state->origin, sizeof state->origin, "%016" PRIx64, random);
	}
	(void)snprintf(sql, sizeof sql, "SELECT %s, %s",
	               state->dialect->replay_positions
	                       ? "pg_is_in_recovery()::int, (current_setting('transaction_read_only') = 'on')::int, "
	                         "pg_backend_pid()"
	                       : "0, 0, 0",
	               state->dialect->clock);
	before_ns = pg_now_ns();
	status = pg_execute(state, conn, sql, &result, err);
	if (status != SHMETA_OK)
		return status;
	if (conn == &state->primary) {
		state->clock.known = false; /* it may be another server than before */
		pg_clock_seen(state, strtoll(PQgetvalue(result, 0, 3), NULL, 10), before_ns, pg_now_ns());
	}
	conn->in_recovery = PQgetvalue(result, 0, 0)[0] == '1';
	conn->server_read_only = PQgetvalue(result, 0, 1)[0] == '1';
	conn->session = (int)strtol(PQgetvalue(result, 0, 2), NULL, 10);
	PQclear(result);
	/* The server gives each session's number at login; what is between us and it has given one of its own. */
	conn->pooled = state->dialect->replay_positions && conn->session != PQbackendPID(conn->pg);
	if (conn->pooled && (conn == &state->primary || conn == &state->replica)) {
		/* Before anything is set in a session that may be another's next. */
		status = pg_judge_pool(state, conn, err);
		if (status == SHMETA_OK)
			status = pg_execute(state, conn, "DEALLOCATE ALL", NULL, err);
		if (status != SHMETA_OK)
			return status;
	}
	/* The server gives up a little before we do: then the connection can be kept. And a plan for what is polled, kept from when a
	 * table was small, must not read it from end to end when it is not: only a load does that, and says so. A statement outside of a
	 * transaction is one of its own, and must neither wait for nor fail with others' (SERIALIZABLE, DEFERRABLE). */
	snprintf(
		sql, sizeof sql,
		"SELECT set_config('statement_timeout', '%u', false), set_config('lock_timeout', '%u', false), "
		"set_config('idle_in_transaction_session_timeout', '%u', false)%s%s%s%s",
		timeout - timeout / 10, pg_lock_wait_of(state), 4 * timeout,
		state->dialect->triggers
			? ", set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false), "
			  "set_config('jit', 'off', false), set_config('plan_cache_mode', 'force_generic_plan', false), "
			  "set_config('default_transaction_isolation', 'read committed', false), "
			  "set_config('default_transaction_deferrable', 'off', false), "
			  "set_config('standard_conforming_strings', 'on', false), set_config('quote_all_identifiers', 'off', false)"
			: "",
		state->dialect->triggers && conn->server_version >= 140000
			? ", set_config('idle_session_timeout', '0', false)"
			: "",
		state->dialect->triggers && conn->server_version >= 170000
			? ", set_config('transaction_timeout', '0', false)"
			: "",
		/* It knows nothing of its bytes, and would fail a statement for one that is no UTF-8: that is ours to find, row by row. */
		encoding != NULL && strcmp(encoding, "SQL_ASCII") == 0
			? ", set_config('client_encoding', 'SQL_ASCII', false)"
			: "");
	return pg_execute(state, conn, sql, NULL, err);
}

void pg_shun(struct pg_state *state, struct pg_conn *conn, const struct backend_error *why)
{
	pg_disconnect(state, conn);
	conn->refused = *why;
	conn->retry_at_ns = pg_now_ns() + (uint64_t)LOGIN_GATE_MS * 1000000u;
}

enum shmeta_status pg_connect(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	struct backend_error refused = {0};
	enum shmeta_status status;
	uint64_t gate_ms;
	bool login_refused;

	if (pg_connected(conn) && !conn->strange)
		return SHMETA_OK;
	pg_disconnect(state, conn);
	if (pg_now_ns() < conn->retry_at_ns) {
		if (err != NULL)
			*err = conn->refused;
		return conn->refused.code;
	}
	if (state->seed == 0) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		state->seed = ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec ^ (uint64_t)getpid() << 20 ^
		               (uint64_t)(uintptr_t)state) |
		              1;
		(void)pg_scatter(state);
	}
	conn->sqlstate[0] = '\0';
	conn->connects++;
	state->counters.reconnects += conn->connects > 1;
	if (conn == &state->primary)
		state->attached = false;
	status = pg_login(state, conn, &refused);
	if (status == SHMETA_OK)
		status = set_up_session(state, conn, &refused);
	if (status == SHMETA_OK) {
		conn->failures = 0;
		conn->retry_at_ns = 0;
		return SHMETA_OK;
	}
	/* One attempt at a time, and after a refused one a pause in which everyone gets its answer: long where trying again
	 * looks like an attack, short where a server is coming back. libpq gives no SQLSTATE of a login; its text is in English or
	 * not, so anything that got as far as a server's refusal counts. */
	login_refused = conn->pg != NULL && PQconnectionNeedsPassword(conn->pg) | PQconnectionUsedPassword(conn->pg);
	pg_disconnect(state, conn);
	gate_ms = (uint64_t)GATE_FIRST_MS << (conn->failures < 8 ? conn->failures : 8);
	if (gate_ms > GATE_MOST_MS)
		gate_ms = GATE_MOST_MS;
	if (login_refused || status == SHMETA_ERR_CONFIG || conn != &state->primary)
		gate_ms = LOGIN_GATE_MS;
	conn->failures++;
	conn->retry_at_ns = pg_now_ns() + (gate_ms - pg_scatter(state) % (gate_ms / 4)) * 1000000u;
	conn->refused = refused;
	if (err != NULL)
		*err = refused;
	return status;
}
