/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: which files the source is.
 *
 * A database in WAL mode is three files: the database, its -wal and its -shm. SQLite opens whatever
 * lies at the three paths and asks nobody whether they belong together: an old -wal beside a new
 * database is copied over it. So the identities of all three are kept, and compared at each call
 * and around each commit. While they are of two sets (a database that was moved in beside the -wal
 * of the one before it, a -wal that was removed and a -shm that was not) nothing is read or
 * written, and the connection stays open: as long as it holds the old files, no new one can get the
 * inode number of one of them. Once the set at the paths is whole, the connection is closed without
 * a checkpoint, and the new set is opened. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/sqlite/sqlite_files.h"
#include "base/hash.h"

static const char *const suffix[SQLITE_FILES] = {"", "-wal", "-shm"};

/* 0, or errno when it cannot be said whether there is such a file. */
static int identify(const char *path, struct sqlite_file *ret)
{
	struct statx st;

	memset(ret, 0, sizeof *ret);
	if (statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &st) != 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : errno;
	ret->there = true;
	ret->device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	ret->inode = st.stx_ino;
	if ((st.stx_mask & STATX_BTIME) != 0)
		ret->born = st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec;
	return 0;
}

static bool same_file(const struct sqlite_file *a, const struct sqlite_file *b)
{
	return a->there && b->there && a->device == b->device && a->inode == b->inode && a->born == b->born;
}

/* The files at the paths. The side files lie beside the file that a symbolic link leads to. */
static int look(const struct sqlite_state *state, bool resolve, struct sqlite_file ret[SQLITE_FILES])
{
	char beside[PATH_MAX + 8], real[PATH_MAX];
	const char *base = resolve && realpath(state->path, real) != NULL ? real : state->real;
	size_t bytes = base != NULL ? strlen(base) : 0;
	int error = identify(state->path, &ret[0]);

	memset(ret + 1, 0, (SQLITE_FILES - 1) * sizeof *ret);
	memcpy(beside, base != NULL ? base : "", bytes);
	for (int i = 1; bytes > 0 && error == 0 && i < SQLITE_FILES; i++) {
		memcpy(beside + bytes, suffix[i], sizeof "-wal");
		error = identify(beside, &ret[i]);
	}
	return error;
}

/* Keep the identities of the files that are at the paths. */
static void sqlite_files_note(struct sqlite_state *state)
{
	const char *full = state->db != NULL ? sqlite3_db_filename(state->db, "main") : NULL;

	free(state->real);
	state->real = full != NULL && full[0] != '\0' && strlen(full) < PATH_MAX ? strdup(full) : NULL;
	if (look(state, false, state->files) != 0)
		memset(state->files, 0, sizeof state->files);
}

/* Which of the files at the paths other connections of this process have open. */
struct held {
	bool removed;  /* a side file that is at its path no more            */
	bool beside;   /* a side file that is at its path                    */
	bool database; /* the database that is at the path                   */
};

static struct held look_for_held(const char *base, const struct stat *database)
{
	DIR *dir = opendir("/proc/self/fd");
	struct held held = {.removed = false};

	for (const struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
		char link[PATH_MAX], path[PATH_MAX + 8];
		ssize_t bytes = readlinkat(dirfd(dir), entry->d_name, link, sizeof link - 1);
		struct stat st;

		if (bytes <= 0)
			continue;
		link[bytes] = '\0';
		for (int i = 1; i < SQLITE_FILES; i++) {
			size_t length = (size_t)snprintf(path, sizeof path, "%s%s", base, suffix[i]);

			held.beside |= strcmp(link, path) == 0;
			held.removed |= strncmp(link, path, length) == 0 && strcmp(link + length, " (deleted)") == 0;
		}
		held.database |= fstat((int)strtol(entry->d_name, NULL, 10), &st) == 0 &&
		                 st.st_dev == database->st_dev && st.st_ino == database->st_ino;
	}
	if (dir != NULL)
		(void)closedir(dir);
	return held;
}

enum shmeta_status sqlite_files_before_open(const struct sqlite_state *state, struct backend_error *err)
{
	char real[PATH_MAX];
	struct stat database;
	struct held held;

	if (realpath(state->path, real) == NULL || stat(real, &database) != 0)
		return SHMETA_OK; /* opening it says why not */
	held = look_for_held(real, &database);
	if (!held.removed && (!held.beside || held.database))
		return SHMETA_OK;
	return backend_fail(
		err, SHMETA_ERR_SOURCE,
		"sqlite: opening %s: another connection of this process still has the files open that were there "
		"before",
		state->path);
}

enum sqlite_files_verdict sqlite_files_judge(struct sqlite_state *state, struct backend_error *err)
{
	struct sqlite_file now[SQLITE_FILES];
	const struct sqlite_file *old = state->files;
	int error = look(state, false, now);
	bool wal, shm;

	if (error == 0 && now[0].there && !same_file(&now[0], &old[0]))
		error = look(state, true, now);
	if (error != 0) {
		(void)backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: looking for %s: %s", state->path, strerror(error));
		return SQLITE_FILES_UNKNOWN;
	}
	wal = same_file(&now[1], &old[1]);
	shm = same_file(&now[2], &old[2]);
	if (!now[0].there) {
		(void)backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: opening %s: %s", state->path, strerror(ENOENT));
		return wal || shm ? SQLITE_FILES_MIXED : SQLITE_FILES_GONE;
	}
	if (!same_file(&now[0], &old[0])) {
		if (!wal && !shm)
			return SQLITE_FILES_OTHER;
		(void)backend_fail(
			err, SHMETA_ERR_SOURCE,
			"sqlite: %s was replaced, but %s beside it belong%s to the file before it: remove "
			"'-wal' and '-shm' while no program has the database open. Nothing is read or written "
			"until then",
			state->path,
			wal && shm ? "its -wal and -shm"
			: wal      ? "its -wal"
				   : "its -shm",
			wal && shm ? "" : "s");
		return SQLITE_FILES_MIXED;
	}
	/* Its journal mode was changed to WAL since, perhaps. */
	if (!old[1].there && !old[2].there) {
		state->files[1] = now[1];
		state->files[2] = now[2];
		return SQLITE_FILES_SAME;
	}
	if (wal == old[1].there && shm == old[2].there)
		return SQLITE_FILES_SAME;
	if (!wal && !shm)
		return SQLITE_FILES_BESIDE;
	(void)backend_fail(
		err, SHMETA_ERR_SOURCE,
		"sqlite: %s: its %s was removed or replaced, and its %s was not: close the programs that have "
		"the database open and remove both. Nothing is read or written until then",
		state->path, wal ? "-shm" : "-wal", wal ? "-wal" : "-shm");
	return SQLITE_FILES_MIXED;
}

enum shmeta_status sqlite_files_check(struct sqlite_state *state, struct backend_error *err)
{
	switch (sqlite_files_judge(state, err)) {
	case SQLITE_FILES_SAME:
		return SHMETA_OK;
	case SQLITE_FILES_OTHER:
	case SQLITE_FILES_BESIDE:
		return backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: %s was replaced meanwhile", state->path);
	default:
		return SHMETA_ERR_SOURCE;
	}
}

enum shmeta_status sqlite_files_opened(struct sqlite_state *state, struct backend_error *err)
{
	int moved = 0;

	/* Which file is it that is open? Only when the path still leads to it does the path's
	 * identity say so. */
	sqlite_files_note(state);
	if (!state->files[0].there ||
	    sqlite3_file_control(state->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || moved)
		return backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: opening %s: it was replaced meanwhile",
		                    state->path);
	return SHMETA_OK;
}

uint64_t sqlite_place(const struct sqlite_state *state)
{
	uint64_t place[3] = {state->files[0].device, state->files[0].inode, (uint64_t)state->files[0].born};
	const char *full = sqlite3_db_filename(state->db, "main");

	if (full == NULL)
		full = state->path;
	return hash_bytes(hash_bytes(HASH_FIRST, full, strlen(full)), place, sizeof place) | 1;
}
