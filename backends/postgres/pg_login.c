/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: logging in: who must prove who it is, and where the password comes from. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/postgres/pg_login.h"

enum { EXTRA_MS = 1000, SECRET_MAX = 1024 };

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

/* A server that cannot be told from another must not be believed, nor given a password. The
 * decision is made on what libpq will really use: service files and its environment included. */
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

/* The password of the credentials file, without its newline. Read each time: passwords are
 * rotated. */
static enum shmeta_status read_secret(struct pg_state *state, char out[SECRET_MAX], struct backend_error *err)
{
	const char *path = state->options.password_file;
	struct stat st;
	ssize_t n = -1;
	int fd;

	out[0] = '\0';
	if (path == NULL || path[0] == '\0')
		return SHMETA_OK;
	/* whoever opens a FIFO would wait for a writer */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)) {
		close(fd);
		return backend_fail(err, SHMETA_ERR_SOURCE, "%s: the password file %s is a FIFO, not a file",
		                    state->dialect->engine, path);
	}
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
	/* Before the configured string: defaults that it overrides. Keepalives find a dead idle
	 * link in 10 s, tcp_user_timeout a dead one with something in flight; our own deadlines
	 * everything else. */
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

void pg_shun(struct pg_state *state, struct pg_conn *conn, const struct backend_error *why)
{
	pg_disconnect(state, conn);
	conn->refused = *why;
	conn->retry_at_ns = pg_now_ns() + (uint64_t)PG_LOGIN_GATE_MS * 1000000u;
}
