/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: its entry in the table of engines. */
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
#include "backends/sqlite/sqlite_epochs.h"
#include "backends/sqlite/sqlite_feed.h"
#include "backends/sqlite/sqlite_fetch.h"
#include "backends/sqlite/sqlite_load.h"
#include "backends/sqlite/sqlite_move.h"
#include "backends/sqlite/sqlite_objects.h"
#include "backends/sqlite/sqlite_schema.h"
#include "backends/sqlite/sqlite_wake.h"
#include "backends/sqlite/sqlite_write.h"

static enum shmeta_status prepare(struct sqlite_state *state, const struct backend_options *options,
                                  struct backend_error *err)
{
	const char *path = options->uri + strlen("sqlite:");

	state->wake = state->inotify = state->again = -1;
	state->watch_dir = state->watch_file = state->watch_wal = -1;
	if (!backend_options_copy(options, &state->options))
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "sqlite: opening %s: out of memory", path);
	state->path = state->options.uri + strlen("sqlite:");
	if (*path == '\0' || path[0] == ':' || strncmp(path, "file:", 5) == 0 || strlen(path) > PATH_MAX - 16)
		return backend_fail(err, SHMETA_ERR_CONFIG, "sqlite: '%.100s' names no file; it is written sqlite:PATH",
		                    options->uri);
	return SHMETA_OK;
}

static enum shmeta_status open_source(void *data, const struct backend_options *options, struct backend_error *err)
{
	enum shmeta_status status = prepare(data, options, err);

	return status == SHMETA_OK ? sqlite_ensure(data, err) : status;
}

/* What would be made in the place of a file that is not there: told of an empty database in memory,
 * so that nothing is made. */
static enum shmeta_status imagine(struct sqlite_state *state, backend_schema_fn *say, void *arg,
                                  struct backend_error *err)
{
	char folder[PATH_MAX];
	struct stat st;
	int rc;

	if (lstat(state->path, &st) == 0)
		return backend_fail(err, SHMETA_ERR_CONFIG,
		                    "sqlite: opening %s: it is a symbolic link that leads to no file, and none is "
		                    "created behind a link",
		                    state->path);
	snprintf(folder, sizeof folder, "%s", state->path);
	if (faccessat(AT_FDCWD, dirname(folder), W_OK | X_OK, AT_EACCESS) != 0)
		return backend_fail(err, errno == EACCES ? SHMETA_ERR_PERMISSION : SHMETA_ERR_CONFIG,
		                    "sqlite: opening %s: its folder: %s", state->path, strerror(errno));
	rc = sqlite3_open_v2(":memory:", &state->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	return rc == SQLITE_OK ? sqlite_schema(state, BACKEND_SCHEMA_APPLY, 1, say, arg, err)
	                       : sqlite_fail(state, rc, "imagining", err);
}

static enum shmeta_status schema(void *data, const struct backend_options *options, enum backend_schema_verb verb,
                                 int dry_run, backend_schema_fn *say, void *arg, struct backend_error *err)
{
	struct backend_options own = *options;
	struct sqlite_state *state = data;
	enum shmeta_status status;

	own.read_only |= dry_run != 0 || verb == BACKEND_SCHEMA_STATUS;
	state->bare = true;
	status = prepare(state, &own, err);
	if (status == SHMETA_OK && dry_run && verb == BACKEND_SCHEMA_APPLY && own.create &&
	    access(state->path, F_OK) != 0 && errno == ENOENT)
		return imagine(state, say, arg, err);
	if (status == SHMETA_OK)
		status = sqlite_ensure(state, err);
	return status == SHMETA_OK ? sqlite_schema(state, verb, dry_run, say, arg, err) : status;
}

static void close_source(void *data)
{
	struct sqlite_state *state = data;

	if (state->options.uri == NULL)
		return; /* never opened: there is nothing, not even -1 for no descriptor */
	sqlite_disconnect(state);
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
	ret->prepares += state->reprepares_closed + (state->db != NULL ? sqlite_reprepares(state) : 0);
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
static const struct backend_admin admin = {.objects = sqlite_list_objects,
                                           .epoch_end = sqlite_epoch_end,
                                           .schema = schema,
                                           .extras = sqlite_extras,
                                           .restore = sqlite_restore};

const struct backend_engine backend_sqlite = {.name = "sqlite",
                                              .state_bytes = sizeof(struct sqlite_state),
                                              .limits = {.keys = 4096, .ops = 4096, .unit_ops = 4096},
                                              .source = &source,
                                              .feed = &feed,
                                              .writer = &writer,
                                              .admin = &admin};
