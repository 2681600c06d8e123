/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the connection to the file that is at the path now. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/sqlite/sqlite_connection.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_files.h"
#include "backends/sqlite/sqlite_schema.h"
#include "backends/sqlite/sqlite_wake.h"

/* Page cache of the connection, KiB. The ordered scan of segments jumps over the table. */
enum { CACHE_KIB = 32768, BUSY_DEFAULT_MS = 5000 };

void sqlite_disconnect(struct sqlite_state *state)
{
	state->reprepares_closed += sqlite_reprepares(state);
	for (int i = 0; i < ST_COUNT; i++) {
		sqlite3_finalize(state->statements[i]);
		state->statements[i] = NULL;
		free(state->sql[i]);
		state->sql[i] = NULL;
	}
	sqlite_unwatch(state);
	/* The last connection copies the -wal into the database when it closes: not one whose files
	 * are no longer those at the paths. */
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
	if (stat(dirname(copy), &st) != 0) {
		error = errno;
		status = backend_fail(err, status, "sqlite: opening %s: its folder: %s", state->path, strerror(error));
		return error == EACCES ? backend_denied(err, status) : status;
	}
	if (stat(state->path, &st) != 0) {
		error = errno;
		status = backend_fail(
			err, SHMETA_ERR_SOURCE, "sqlite: opening %s: %s%s", state->path, strerror(error),
			error == ENOENT && state->options.read_only ? " (a read-only source is not created)" : "");
		return error == EACCES ? backend_denied(err, status) : status;
	}
	if (S_ISDIR(st.st_mode))
		return backend_fail(err, status, "sqlite: opening %s: it is a folder, not a file", state->path);
	if (access(state->path, R_OK) != 0) {
		error = errno;
		status = backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: opening %s: %s", state->path, strerror(error));
		return error == EACCES ? backend_denied(err, status) : status;
	}
	error = faccessat(AT_FDCWD, copy, W_OK | X_OK, AT_EACCESS) != 0 ? errno : 0;
	status = backend_fail(
		err, SHMETA_ERR_SOURCE,
		"sqlite: opening %s: %s (%s). A database in WAL mode needs its -shm file, which this process "
		"can neither find nor make: let it write in its folder, keep another connection open, or set "
		"journal_mode=DELETE",
		state->path, sqlite3_errstr(rc), sqlite_code_name(rc));
	return error == EACCES ? backend_denied(err, status) : status;
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

	/* Only the first open may create, where that is asked for: a file that vanished later is
	 * being replaced, or its disk is away. A link that leads nowhere was made for a file that
	 * is not there yet. */
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
	if (state->options.beside && !state->wal) {
		status =
			backend_fail(err, SHMETA_ERR_CONFIG,
		                     "sqlite: %s is not in WAL mode, in which alone it can be written while it is read",
		                     state->path);
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
	/* in place of SQLite's own, within the commit */
	(void)sqlite3_wal_hook(state->db, on_wal, state);
	sqlite_watch(state);
	return SHMETA_OK;
fail:
	sqlite_disconnect(state);
	return status;
}

static void note_replaced(struct sqlite_state *state)
{
	if (state->at.version != 0 && state->history[0] == '\0')
		(void)snprintf(state->history, sizeof state->history, "sqlite: another file is at %s", state->path);
}

enum shmeta_status sqlite_ensure(struct sqlite_state *state, struct backend_error *err)
{
	if (state->db != NULL)
		switch (sqlite_files_judge(state, err)) {
		case SQLITE_FILES_SAME:
			/* Whoever moved it away may have written to it elsewhere. */
			if (state->renew || state->vanished) {
				sqlite_disconnect(state);
			} else if (!state->options.read_only && denied(state) != state->denied) {
				/* The -wal stays for whoever may write it: who lost the rights
				 * could not open the file without. */
				state->renew = true;
				sqlite_disconnect(state);
			}
			break;
		case SQLITE_FILES_OTHER:
			note_replaced(state);
			sqlite_disconnect(state);
			break;
		case SQLITE_FILES_BESIDE: /* what was lost with them, the log shows */
			sqlite_disconnect(state);
			break;
		case SQLITE_FILES_GONE: /* what is open is nobody's database any more */
			sqlite_disconnect(state);
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
	sqlite_disconnect(state);
	return connect_file(state, err);
}

enum shmeta_status sqlite_check_schema(struct sqlite_state *state, struct backend_error *err)
{
	int64_t version = 0;
	uint64_t objects = 0;
	int rc = sqlite_number(state, ST_SCHEMA_VERSION, &version);

	if (rc == SQLITE_OK && version == state->schema_version)
		return SHMETA_OK;
	if (rc == SQLITE_OK)
		rc = sqlite_objects(state, &objects, &version);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "reading the schema of", err);
	state->altered |= sqlite_may_have_missed(state->schema_version, version);
	state->schema_version = version;
	if (objects == state->objects)
		return SHMETA_OK;
	state->objects = 0;
	return sqlite_ensure(state, err);
}
