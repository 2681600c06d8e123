/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the connection and its statements. */
#include "backends/sqlite/sqlite.h"

#include <errno.h>
#include <fcntl.h>
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

bool sqlite_unwritten(int rc)
{
	/* ENOSPC has a code of its own; EDQUOT and EFBIG are errors of the write. */
	return (rc & 0xff) == SQLITE_FULL || rc == SQLITE_IOERR_WRITE || rc == SQLITE_IOERR_TRUNCATE ||
	       rc == SQLITE_IOERR_FSYNC;
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
	else if ((rc & 0xff) == SQLITE_NOTADB && !state->opened_before)
		status = SHMETA_ERR_CONFIG;
	switch (rc & 0xff) {
	case SQLITE_ERROR:
		state->objects = 0; /* the schema is not what it was: the next call looks at it again */
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
		state->renew |= !sqlite_unwritten(rc); /* what is wrong may be this connection's files */
		break;
	default:
		break;
	}
	return backend_fail(err, status, "sqlite: %s %s: %s (%s, %d)", doing, state->path, said, code_name(extended),
	                    extended);
}

enum shmeta_status sqlite_fail_write(struct sqlite_state *state, int rc, const char *doing, struct backend_error *err)
{
	enum shmeta_status status = sqlite_fail(state, rc, doing, err);

	if (!sqlite_unwritten(rc))
		return status;
	if (err != NULL)
		err->code = SHMETA_ERR_FULL;
	if (err != NULL && rc == SQLITE_IOERR_WRITE)
		(void)snprintf(err->text + strlen(err->text), sizeof err->text - strlen(err->text),
		               ": is there a quota, or a limit on file sizes (LimitFSIZE=)?");
	return SHMETA_ERR_FULL;
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

int sqlite_query(struct sqlite_state *state, const char *sql, sqlite3_stmt **ret)
{
	state->counters.prepares++;
	state->counters.queries++;
	return sqlite3_prepare_v2(state->db, sql, -1, ret, NULL);
}

int sqlite_execute(struct sqlite_state *state, const char *sql)
{
	state->counters.prepares++;
	state->counters.queries++;
	return sqlite3_exec(state->db, sql, NULL, NULL, NULL);
}

int sqlite_one_number(struct sqlite_state *state, const char *sql, int64_t *ret)
{
	sqlite3_stmt *statement = NULL;
	int rc = sqlite_query(state, sql, &statement);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
		*ret = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
		rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
	}
	sqlite3_finalize(statement);
	return rc;
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
	/* The last connection copies the -wal into the database when it closes: not one whose files are no longer those at the paths. */
	if (state->db != NULL &&
	    (state->renew || state->vanished || sqlite_files_judge(state, NULL) != SQLITE_FILES_SAME))
		(void)sqlite3_db_config(state->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_close(state->db);
	state->db = NULL;
	state->baseline = false;
	state->renew = state->vanished = false;
	/* From now on a new file may get an old one's inode number. */
	for (int i = 0; i < SQLITE_FILES; i++)
		if (state->files[i].born == 0)
			state->files[i].there = false;
}

/* What keeps a file that SQLite could not open from being opened, in words that say what to do. */
static enum shmeta_status explain_cantopen(struct sqlite_state *state, int rc, struct backend_error *err)
{
	enum shmeta_status status = state->opened_before ? SHMETA_ERR_SOURCE : SHMETA_ERR_CONFIG;
	char copy[PATH_MAX];
	int error = state->db != NULL ? sqlite3_system_errno(state->db) : 0;
	struct stat st;

	if (error == EMFILE || error == ENFILE || error == ENOSPC || error == EDQUOT)
		return backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: opening %s: %s", state->path, strerror(error));
	/* The path is named once: what is said behind a long one must not be cut. */
	snprintf(copy, sizeof copy, "%s", state->path);
	if (stat(dirname(copy), &st) != 0)
		return backend_fail(err, status, "sqlite: opening %s: its folder: %s", state->path, strerror(errno));
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
		"can neither find nor make: let it write in its folder, keep another connection open, or set "
		"journal_mode=DELETE",
		state->path, sqlite3_errstr(rc), code_name(rc));
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

/* By the rights that count for open(), of the files that are there. */
static uint32_t denied(const struct sqlite_state *state)
{
	static const char *const suffixes[SQLITE_FILES] = {"", "-wal", "-shm"};
	char path[PATH_MAX];
	uint32_t bits = 0;

	for (int i = 0; i < SQLITE_FILES; i++) {
		snprintf(path, sizeof path, "%s%s", state->real != NULL ? state->real : state->path, suffixes[i]);
		if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0 && errno != ENOENT)
			bits |= 1u << i;
	}
	return bits;
}

static enum shmeta_status connect_file(struct sqlite_state *state, struct backend_error *err)
{
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	enum shmeta_status status;
	char pragmas[160];
	struct stat st;
	int rc;

	/* Only the first open may create, where that is asked for: a file that vanished later is being replaced, or its disk is
	 * away. A link that leads nowhere was made for a file that is not there yet. */
	flags |= state->options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
	if (!state->options.read_only && state->options.create && !state->opened_before) {
		flags |= SQLITE_OPEN_CREATE;
		if (lstat(state->path, &st) == 0 && S_ISLNK(st.st_mode) && stat(state->path, &st) != 0)
			return backend_fail(
				err, SHMETA_ERR_CONFIG,
				"sqlite: opening %s: it is a symbolic link that leads to no file, and none is "
				"created behind a link",
				state->path);
	}
	status = sqlite_files_before_open(state, err);
	if (status != SHMETA_OK)
		return status;
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
	state->denied = denied(state);
	state->read_only =
		state->options.read_only || state->denied != 0 || sqlite3_db_readonly(state->db, "main") != 0;
	status = sqlite_files_opened(state, err);
	if (status == SHMETA_OK && !state->bare)
		status = sqlite_attach(state, err);
	if (status == SHMETA_OK)
		status = sqlite_files_check(state, err);
	if (status != SHMETA_OK)
		goto fail;
	state->unproved = state->opened_before;
	state->shown = false;
	state->told = state->opened_before ? state->told : state->source;
	state->opened_before = true;
	state->renew = state->vanished = false;
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
	if (state->db != NULL)
		switch (sqlite_files_judge(state, err)) {
		case SQLITE_FILES_SAME:
			/* Whoever moved it away may have written to it elsewhere. */
			if (state->renew || state->vanished) {
				disconnect(state);
			} else if (!state->options.read_only && denied(state) != state->denied) {
				/* The -wal stays for whoever may write it: who lost the rights could not open the file without. */
				state->renew = true;
				disconnect(state);
			}
			break;
		case SQLITE_FILES_OTHER:
			sqlite_feed_replaced(state);
			disconnect(state);
			break;
		case SQLITE_FILES_BESIDE: /* what was lost with them, the log shows */
			disconnect(state);
			break;
		case SQLITE_FILES_GONE: /* what is open is nobody's database any more */
			disconnect(state);
			return SHMETA_ERR_SOURCE;
		case SQLITE_FILES_MIXED:
			state->vanished = true;
			return SHMETA_ERR_SOURCE;
		case SQLITE_FILES_UNKNOWN:
			return SHMETA_ERR_SOURCE;
		}
	if (state->db == NULL && state->opened_before && sqlite_files_judge(state, err) == SQLITE_FILES_MIXED)
		return SHMETA_ERR_SOURCE;
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

	state->wake = state->inotify = state->again = -1;
	state->watch_dir = state->watch_file = state->watch_wal = -1;
	if (!backend_options_copy(options, &state->options))
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "sqlite: opening %s: out of memory", path);
	state->path = state->options.uri + strlen("sqlite:");
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

	if (state->options.uri == NULL)
		return; /* never opened: there is nothing, not even -1 for no descriptor */
	disconnect(state);
	sqlite_stop_waking(state);
	rows_scratch_free(&state->scratch);
	free(state->writing);
	state->writing = NULL;
	free(state->real);
	state->real = NULL;
	backend_options_free(&state->options);
}

static enum backend_feed_kind feed_kind(void *data)
{
	return ((const struct sqlite_state *)data)->shape.feed ? BACKEND_FEED_KEYS : BACKEND_FEED_HINT;
}

static int writable(void *data)
{
	return !((const struct sqlite_state *)data)->read_only;
}

static uint64_t fingerprint(void *data)
{
	return ((const struct sqlite_state *)data)->source;
}

static void describe(void *data, char *ret, size_t bytes)
{
	const struct sqlite_state *state = data;

	if (state->db == NULL)
		snprintf(ret, bytes, "sqlite: %s, not open",
		         state->real != NULL   ? state->real
		         : state->path != NULL ? state->path
		                               : "");
	else
		snprintf(ret, bytes, "sqlite: %s (%s, %s, %s)", state->real != NULL ? state->real : state->path,
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

static const struct backend_source source = {.open = open_source,
                                             .close = close_source,
                                             .fingerprint = fingerprint,
                                             .describe = describe,
                                             .counters = counters,
                                             .load = sqlite_load,
                                             .fetch = sqlite_fetch};
static const struct backend_feed feed = {.kind = feed_kind,
                                         .trouble = sqlite_feed_trouble,
                                         .changes = sqlite_changes,
                                         .position = sqlite_position,
                                         .resume = sqlite_resume,
                                         .wake_fd = sqlite_wake_fd};
static const struct backend_writer writer = {.writable = writable, .apply = sqlite_apply};
static const struct backend_admin admin = {
	.objects = sqlite_list_objects, .schema = schema, .extras = sqlite_extras, .restore = sqlite_restore};

const struct backend_engine backend_sqlite = {.name = "sqlite",
                                              .state_bytes = sizeof(struct sqlite_state),
                                              .source = &source,
                                              .feed = &feed,
                                              .writer = &writer,
                                              .admin = &admin};
