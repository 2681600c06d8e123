/* SPDX-License-Identifier: Apache-2.0
 * See bare_engine.h. */
#include "tests/support/bare_engine.h"
#include "tests/support/quiet_host.h"
#include "tests/support/usual_options.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/page/board.h"

void bare_engine_must(bool holds, const char *what, const struct shmeta_err *err)
{
	if (holds)
		return;
	(void)fprintf(stderr, "bare engine: %s: %s\n", what, err != NULL ? err->text : strerror(errno));
	abort();
}

void bare_engine_init(struct bare_engine *e)
{
	static unsigned serial;
	struct shmeta_err err = {.text = ""};
	char name[32];
	void *map;

	memset(e, 0, sizeof *e);
	bare_engine_must(scratch_dir("engine", e->dir), "a directory", NULL);
	e->dir_fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bare_engine_must(e->dir_fd >= 0, e->dir, NULL);
	bare_engine_must(shmeta__map_file(e->dir_fd, "board", SHMETA_PAGE, 1, &map, &err) == SHMETA_OK, "a board",
	                 &err);
	e->board = map;
	memcpy(e->board->boot_id, "0123456789abcdef", sizeof e->board->boot_id);
	(void)snprintf(name, sizeof name, "bare%d-%u", (int)getpid(), serial++);
	(void)snprintf(e->uri, sizeof e->uri, "memory:%s", name);
	e->db = memory_db_new(name);
	bare_engine_must(e->db != NULL, "a source", NULL);
	e->options = (struct sync_options){
		.source = {.uri = e->uri, .timeout_ms = 1000, .manage_schema = 1, .create = 1},
		.store_max_bytes = 64 << 20,
		.grace_ns = 1000000000,
		.ttl_ms = {300000, 30000, 30000, 30000, 5000, 5000, 5000},
		.poll_min_ms = 5,
		.poll_max_ms = 1000,
		.reconcile_s = 3600,
		.refresh_batch_keys = 1000,
		.refresh_queue_max = 10000,
		.refresh_queue_bytes = 4 << 20,
		.write_queue_max = 10000,
		.write_queue_bytes = 16 << 20,
		.write_connection_bytes = 4 << 20,
		.user_share = 50,
		.write_batch_max = 4096,
		.retry_min_ms = 100,
		.retry_max_ms = 10000,
		.commit_rows = 10000,
		.seed = 1,
		USUAL_BUDGETS,
	};
}

enum shmeta_status bare_engine_open(struct bare_engine *e, struct shmeta_err *err)
{
	const struct sync_host host = quiet_host(e->host);

	e->board->epoch++;
	return sync_open(e->dir_fd, e->board, &e->options, &host, &e->sync, err);
}

void bare_engine_close(struct bare_engine *e)
{
	if (e->sync != NULL)
		sync_close(e->sync);
	e->sync = NULL;
}

static void remove_all(int dir_fd)
{
	DIR *dir = fdopendir(dup(dir_fd));
	struct dirent *entry;

	bare_engine_must(dir != NULL, "a directory", NULL);
	while ((entry = readdir(dir)) != NULL) {
		int fd;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(dir_fd, entry->d_name, 0) == 0)
			continue;
		fd = openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		bare_engine_must(fd >= 0, entry->d_name, NULL);
		remove_all(fd);
		(void)close(fd);
		bare_engine_must(unlinkat(dir_fd, entry->d_name, AT_REMOVEDIR) == 0, entry->d_name, NULL);
	}
	(void)closedir(dir);
}

void bare_engine_done(struct bare_engine *e)
{
	bare_engine_close(e);
	memory_db_free(e->db);
	(void)munmap(e->board, SHMETA_PAGE);
	remove_all(e->dir_fd);
	(void)close(e->dir_fd);
	bare_engine_must(rmdir(e->dir) == 0, e->dir, NULL);
}
