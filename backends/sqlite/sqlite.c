/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the connection and its statements. */
#include "backends/sqlite/sqlite.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Page cache of the connection, KiB. The ordered scan of segments jumps over the table. */
enum { CACHE_KIB = 32768, BUSY_DEFAULT_MS = 5000 };

static const char *code_name(int extended)
{
	switch (extended & 0xff) {
	case SQLITE_BUSY:
		return extended == SQLITE_BUSY_SNAPSHOT ? "SQLITE_BUSY_SNAPSHOT" : "SQLITE_BUSY";
	case SQLITE_LOCKED:
		return "SQLITE_LOCKED";
	case SQLITE_CORRUPT:
		return "SQLITE_CORRUPT";
	case SQLITE_NOTADB:
		return "SQLITE_NOTADB";
	case SQLITE_CANTOPEN:
		return "SQLITE_CANTOPEN";
	case SQLITE_READONLY:
		return "SQLITE_READONLY";
	case SQLITE_IOERR:
		return "SQLITE_IOERR";
	case SQLITE_FULL:
		return "SQLITE_FULL";
	case SQLITE_SCHEMA:
		return "SQLITE_SCHEMA";
	case SQLITE_NOMEM:
		return "SQLITE_NOMEM";
	case SQLITE_PERM:
		return "SQLITE_PERM";
	default:
		return "SQLITE_ERROR";
	}
}

enum shmeta_status sqlite_fail(struct sqlite_state *state, int rc, const char *doing, struct backend_error *err)
{
	int extended = state->db != NULL ? sqlite3_extended_errcode(state->db) : rc;
	const char *said = state->db != NULL ? sqlite3_errmsg(state->db) : sqlite3_errstr(rc);
	enum shmeta_status status = SHMETA_ERR_SOURCE;

	if ((extended & 0xff) != (rc & 0xff)) { /* something else has failed since */
		extended = rc;
		said = sqlite3_errstr(rc);
	}
	if ((rc & 0xff) == SQLITE_NOMEM)
		status = SHMETA_ERR_NO_MEMORY;
	else if ((rc & 0xff) == SQLITE_NOTADB)
		status = SHMETA_ERR_CONFIG;
	else if ((rc & 0xff) == SQLITE_ERROR)
		state->objects = 0; /* the schema is not what it was: the next call looks at it again */
	return backend_fail(err, status, "sqlite: %s %s: %s (%s, %d)", doing, state->path, said, code_name(extended),
	                    extended);
}

sqlite3_stmt *sqlite_prepare(struct sqlite_state *state, enum sqlite_statement which, struct backend_error *err,
                             enum shmeta_status *ret_status)
{
	int rc;

	if (state->statements[which] != NULL)
		return state->statements[which];
	state->counters.prepares++;
	rc = sqlite3_prepare_v3(state->db, state->sql[which], -1, SQLITE_PREPARE_PERSISTENT, &state->statements[which],
	                        NULL);
	if (rc == SQLITE_OK)
		return state->statements[which];
	*ret_status = sqlite_fail(state, rc, "preparing a statement on", err);
	return NULL;
}

int sqlite_number(struct sqlite_state *state, enum sqlite_statement which, int64_t *ret)
{
	enum shmeta_status status;
	sqlite3_stmt *statement = sqlite_prepare(state, which, NULL, &status);
	int rc, reset;

	if (statement == NULL)
		return sqlite3_errcode(state->db);
	state->counters.queries++;
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW && ret != NULL)
		*ret = sqlite3_column_int64(statement, 0);
	reset = sqlite3_reset(statement);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : reset != SQLITE_OK ? reset : rc;
}

int sqlite_run(struct sqlite_state *state, enum sqlite_statement which)
{
	return sqlite_number(state, which, NULL);
}

enum shmeta_status sqlite_begin(struct sqlite_state *state, const char *doing, struct backend_error *err)
{
	int rc;

	if (sqlite3_get_autocommit(state->db) == 0)
		sqlite_end(state);
	rc = sqlite_run(state, ST_BEGIN);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, doing, err);
	state->counters.transactions++;
	return SHMETA_OK;
}

void sqlite_end(struct sqlite_state *state)
{
	if (sqlite3_get_autocommit(state->db) == 0 && sqlite_run(state, ST_COMMIT) != SQLITE_OK)
		sqlite_run(state, ST_ROLLBACK);
}

static uint64_t count_reprepares(struct sqlite_state *state)
{
	uint64_t count = 0;

	for (int i = 0; i < ST_COUNT; i++)
		if (state->statements[i] != NULL)
			count += (uint64_t)sqlite3_stmt_status(state->statements[i], SQLITE_STMTSTATUS_REPREPARE, 0);
	return count;
}

static void disconnect(struct sqlite_state *state)
{
	state->reprepares_closed += count_reprepares(state);
	for (int i = 0; i < ST_COUNT; i++) {
		sqlite3_finalize(state->statements[i]);
		state->statements[i] = NULL;
		sqlite3_free(state->sql[i]);
		state->sql[i] = NULL;
	}
	sqlite_unwatch(state);
	sqlite3_close(state->db);
	state->db = NULL;
	state->baseline = false;
}

/* What keeps a file that SQLite could not open from being opened, in words that say what to do. */
static enum shmeta_status explain_cantopen(struct sqlite_state *state, int rc, struct backend_error *err)
{
	enum shmeta_status status = state->opened_before ? SHMETA_ERR_SOURCE : SHMETA_ERR_CONFIG;
	char copy[PATH_MAX];
	const char *folder;
	struct stat st;

	snprintf(copy, sizeof copy, "%s", state->path);
	folder = dirname(copy);
	if (stat(folder, &st) != 0)
		return backend_fail(err, status, "sqlite: opening %s: the folder %s: %s", state->path, folder,
		                    strerror(errno));
	if (stat(state->path, &st) != 0)
		return backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: opening %s: %s%s", state->path, strerror(errno),
		                    errno == ENOENT && state->options.read_only ? " (a read-only source is not created)"
		                                                                : "");
	if (S_ISDIR(st.st_mode))
		return backend_fail(err, status, "sqlite: opening %s: it is a folder, not a file", state->path);
	if (access(state->path, R_OK) != 0)
		return backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: opening %s: %s", state->path, strerror(errno));
	return backend_fail(
		err, SHMETA_ERR_SOURCE,
		"sqlite: opening %s: %s (%s). A database in WAL mode needs its -shm file, which this process "
		"can neither find nor make: let it write in %s, keep another connection open, or set "
		"journal_mode=DELETE",
		state->path, sqlite3_errstr(rc), code_name(rc), folder);
}

static int journal_mode(void *arg, int count, char **values, char **columns)
{
	struct sqlite_state *state = arg;

	(void)columns;
	state->wal = count > 0 && values[0] != NULL && strcmp(values[0], "wal") == 0;
	return 0;
}

static int on_wal(void *arg, sqlite3 *db, const char *name, int pages)
{
	(void)db;
	(void)name;
	((struct sqlite_state *)arg)->wal_pages = pages;
	return SQLITE_OK;
}

void sqlite_checkpoint(struct sqlite_state *state, int pages)
{
	if (state->db == NULL || state->wal_pages < pages)
		return;
	state->wal_pages = 0;
	/* What readers of the log hold back stays, and is tried again after the next commit. */
	(void)sqlite3_wal_checkpoint_v2(state->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

static enum shmeta_status connect_file(struct sqlite_state *state, struct backend_error *err)
{
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	enum shmeta_status status;
	char pragmas[160];
	struct stat st;
	int rc, moved = 0;

	/* Only the first open may create: a file that vanished later is being replaced, or its disk is away. */
	flags |= state->options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
	if (!state->options.read_only && !state->opened_before)
		flags |= SQLITE_OPEN_CREATE;
	rc = sqlite3_open_v2(state->path, &state->db, flags, NULL);
	if (rc != SQLITE_OK) {
		status = (rc & 0xff) == SQLITE_CANTOPEN ? explain_cantopen(state, rc, err)
		                                        : sqlite_fail(state, rc, "opening", err);
		goto fail;
	}
	sqlite3_busy_timeout(state->db,
	                     (int)(state->options.timeout_ms > 0 ? state->options.timeout_ms : BUSY_DEFAULT_MS));
	snprintf(pragmas, sizeof pragmas,
	         "PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-%d",
	         CACHE_KIB);
	rc = sqlite3_exec(state->db, pragmas, NULL, NULL, NULL);
	/* The first statement that reads the file: here a WAL file without its -shm shows. */
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(state->db, "PRAGMA journal_mode", journal_mode, state, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(state->db, "SELECT 1 FROM sqlite_master LIMIT 1", NULL, NULL, NULL);
	if (rc != SQLITE_OK) {
		status = (rc & 0xff) == SQLITE_CANTOPEN || rc == SQLITE_READONLY_CANTINIT ||
		                         rc == SQLITE_READONLY_DIRECTORY
		                 ? explain_cantopen(state, rc, err)
		                 : sqlite_fail(state, rc, "opening", err);
		goto fail;
	}
	state->read_only = state->options.read_only || sqlite3_db_readonly(state->db, "main") != 0;
	/* Which file is it that is open? Only when the path still leads to it does the path's stat() say so. */
	if (stat(state->path, &st) != 0 ||
	    sqlite3_file_control(state->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || moved) {
		status = backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: opening %s: it was replaced meanwhile",
		                      state->path);
		goto fail;
	}
	state->device = st.st_dev;
	state->inode = st.st_ino;
	status = state->bare ? SHMETA_OK : sqlite_attach(state, err);
	if (status != SHMETA_OK)
		goto fail;
	state->opened_before = true;
	state->wal_pages = 0;
	(void)sqlite3_wal_hook(state->db, on_wal, state); /* in place of SQLite's own, within the commit */
	sqlite_watch(state);
	return SHMETA_OK;
fail:
	disconnect(state);
	return status;
}

enum shmeta_status sqlite_ensure(struct sqlite_state *state, struct backend_error *err)
{
	struct stat st;

	if (state->db != NULL) {
		if (stat(state->path, &st) == 0) {
			if (st.st_dev != state->device || st.st_ino != state->inode)
				disconnect(state);
		} else if (errno == ENOENT || errno == ENOTDIR) {
			disconnect(state); /* what is open is nobody's database any more */
		} else {
			return backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: looking for %s: %s", state->path,
			                    strerror(errno));
		}
	}
	if (state->db == NULL) {
		state->counters.reconnects += state->opened_before;
		return connect_file(state, err);
	}
	if (state->objects != 0)
		return SHMETA_OK;
	state->counters.reconnects++;
	disconnect(state);
	return connect_file(state, err);
}

static enum shmeta_status open_source(void *data, const struct backend_options *options, struct backend_error *err)
{
	struct sqlite_state *state = data;
	const char *path = options->uri + strlen("sqlite:");

	state->options = *options;
	state->wake = state->inotify = state->again = -1;
	state->watch_dir = state->watch_file = state->watch_wal = -1;
	state->uri_copy = strdup(options->uri);
	if (state->uri_copy == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "sqlite: opening %s: out of memory", path);
	state->options.uri = state->uri_copy;
	state->path = state->uri_copy + strlen("sqlite:");
	if (*path == '\0' || path[0] == ':' || strncmp(path, "file:", 5) == 0 || strlen(path) > PATH_MAX - 16)
		return backend_fail(err, SHMETA_ERR_CONFIG, "sqlite: '%.100s' names no file; it is written sqlite:PATH",
		                    options->uri);
	return sqlite_ensure(state, err);
}

static enum shmeta_status schema(void *data, const struct backend_options *options, enum backend_schema_verb verb,
                                 int dry_run, backend_schema_fn *say, void *arg, struct backend_error *err)
{
	struct backend_options own = *options;
	struct sqlite_state *state = data;
	enum shmeta_status status;

	own.read_only |= dry_run != 0 || verb == BACKEND_SCHEMA_STATUS;
	state->bare = true;
	status = open_source(state, &own, err);
	return status == SHMETA_OK ? sqlite_schema(state, verb, dry_run, say, arg, err) : status;
}

static void close_source(void *data)
{
	struct sqlite_state *state = data;

	if (state->uri_copy == NULL)
		return; /* never opened: there is nothing, not even -1 for no descriptor */
	disconnect(state);
	sqlite_stop_waking(state);
	rows_scratch_free(&state->scratch);
	free(state->writing);
	state->writing = NULL;
	free(state->uri_copy);
	state->uri_copy = NULL;
}

static uint32_t capabilities(void *data)
{
	const struct sqlite_state *state = data;

	return BACKEND_HAS_HINT | (state->shape.feed ? (uint32_t)BACKEND_HAS_FEED : 0) |
	       (state->read_only ? (uint32_t)BACKEND_READ_ONLY : 0) |
	       (state->shape.timestamps ? (uint32_t)BACKEND_TIMESTAMPS : 0);
}

static uint64_t fingerprint(void *data)
{
	return ((const struct sqlite_state *)data)->source;
}

static void describe(void *data, char *ret, size_t bytes)
{
	const struct sqlite_state *state = data;

	if (state->db == NULL)
		snprintf(ret, bytes, "sqlite: %s, not open", state->path != NULL ? state->path : "");
	else
		snprintf(ret, bytes, "sqlite: %s (%s, %s, %s)", state->path,
		         state->shape.organization ? "with organizations" : "without organizations",
		         state->wal ? "WAL" : "rollback journal: a full load blocks its writers",
		         state->shape.feed  ? "change feed"
		         : state->read_only ? "read-only, no change feed"
		                            : "no change feed");
}

static void counters(void *data, struct backend_counters *ret)
{
	struct sqlite_state *state = data;

	*ret = state->counters;
	ret->prepares += state->reprepares_closed + (state->db != NULL ? count_reprepares(state) : 0);
}

const struct backend_ops backend_sqlite = {
	.name = "sqlite",
	.state_bytes = sizeof(struct sqlite_state),
	.open = open_source,
	.close = close_source,
	.capabilities = capabilities,
	.fingerprint = fingerprint,
	.describe = describe,
	.counters = counters,
	.load = sqlite_load,
	.fetch = sqlite_fetch,
	.changes = sqlite_changes,
	.position = sqlite_position,
	.resume = sqlite_resume,
	.apply = sqlite_apply,
	.objects = sqlite_list_objects,
	.extras = sqlite_extras,
	.restore = sqlite_restore,
	.schema = schema,
	.wake_fd = sqlite_wake_fd,
};
