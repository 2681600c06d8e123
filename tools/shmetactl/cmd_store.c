/* SPDX-License-Identifier: Apache-2.0
 * store: what the store holds and costs. Also the ways to open a generation below the public
 * API. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tools/shmetactl/inspect.h"

static const char *const db_names[SHMETA_DB_COUNT] = {
#define X(name, text, integer, what) [SHMETA_DB_##name] = text,
	SHMETA_DB_LIST(X)
#undef X
};

static void generation_path(const struct tool *tool, const struct pages *pages, char ret[PATH_MAX + 32])
{
	(void)snprintf(ret, PATH_MAX + 32, "%s/store.%" PRIu64, tool->dir, pages->board.generation);
}

bool pages_content(const struct tool *tool, const struct pages *pages, struct shmeta_store_counters *ret,
                   uint64_t *ret_used)
{
	struct shmeta__inspected *store = NULL;
	struct shmeta__store_usage usage;
	struct shmeta_err err;
	char path[PATH_MAX + 32];
	bool known = false;

	if (!pages->published)
		return false;
	generation_path(tool, pages, path);
	if (shmeta__inspect_open(path, &store, &err) == SHMETA_OK &&
	    shmeta__inspect_usage(store, &usage, &err) == SHMETA_OK) {
		*ret = store->counters;
		*ret_used = usage.used_bytes;
		known = true;
	}
	shmeta__inspect_close(store);
	return known;
}

int store_path(struct tool *tool, const char *given, char ret[PATH_MAX])
{
	struct stat st;
	const char *slash;

	if (stat(given, &st) != 0)
		return tool_error(tool, TOOL_NOT_RUNNING, "%s: no such file or directory", given);
	if (strlen(given) >= PATH_MAX)
		return tool_error(tool, TOOL_USAGE, "--store: the path is too long");
	(void)snprintf(ret, PATH_MAX, "%s", given);
	if (S_ISDIR(st.st_mode)) {
		int fd = open(given, O_PATH | O_DIRECTORY | O_CLOEXEC);
		bool store = fd < 0 || faccessat(fd, "data.mdb", F_OK, 0) == 0 || errno != ENOENT;

		if (fd >= 0)
			(void)close(fd);
		return store ? 0
		             : tool_error(tool, TOOL_VERSION,
		                          "%s is not a store: a store is a directory with data.mdb in it", given);
	}
	/* Its data file is as good as the directory. */
	slash = strrchr(given, '/');
	if (strcmp(slash != NULL ? slash + 1 : given, "data.mdb") != 0)
		return tool_error(tool, TOOL_VERSION, "%s is not a store: a store is a directory with data.mdb in it",
		                  given);
	if (slash == NULL)
		(void)snprintf(ret, PATH_MAX, ".");
	else
		ret[slash == given ? 1 : (size_t)(slash - given)] = '\0';
	return 0;
}

int store_say(struct tool *tool, const char *path, const struct shmeta_err *err)
{
	size_t n = strlen(path);
	const char *text = strncmp(err->text, path, n) == 0 && strncmp(err->text + n, ": ", 2) == 0 ? err->text + n + 2
	                                                                                            : err->text;

	if (err->code == SHMETA_ERR_NOT_RUNNING || err->code == SHMETA_ERR_CORRUPT || err->code == SHMETA_ERR_VERSION)
		return tool_error(tool, TOOL_VERSION, "%s is not a store that this program can read: %s", path, text);
	return tool_error(tool, tool_exit_of(err->code), "%s: %s", path, text);
}

static void add(char ***list, size_t *count, const void *text, size_t bytes)
{
	*list = tool_grow(*list, (*count + 1) * sizeof(**list));
	(*list)[(*count)++] = tool_copy(text, bytes);
}

int pages_tenants(struct tool *tool, const struct pages *pages, char ***ret, size_t *ret_count)
{
	static const char prefix[] = SHMETA_META_TENANT;
	struct shmeta__inspected *store = NULL;
	struct shmeta__inspect_walk walk;
	struct shmeta__tree_entry entry;
	struct shmeta_err err = {0};
	size_t count = 0;
	char path[PATH_MAX + 32], **list = NULL;
	enum shmeta_status status;

	*ret = NULL;
	*ret_count = 0;
	if (!pages->published)
		return tool_error(tool, TOOL_NOT_RUNNING, "%s: the writer has not published anything yet", tool->dir);
	if (tool->tenant_given) {
		add(ret, ret_count, tool->tenant, strlen(tool->tenant));
		return 0;
	}
	generation_path(tool, pages, path);
	status = shmeta__inspect_open(path, &store, &err);
	if (status == SHMETA_OK)
		status = shmeta__inspect_first(&walk, store, SHMETA_DB_META, prefix, sizeof(prefix) - 1, &entry, &err);
	for (; status == SHMETA_OK; status = shmeta__inspect_next(&walk, &entry, &err)) {
		if (entry.key_bytes < sizeof(prefix) - 1 || memcmp(entry.key, prefix, sizeof(prefix) - 1) != 0)
			break;
		add(&list, &count, entry.key + sizeof(prefix) - 1, entry.key_bytes - (sizeof(prefix) - 1));
	}
	shmeta__inspect_close(store);
	if (status != SHMETA_OK && status != SHMETA_END) {
		while (count > 0)
			free(list[--count]);
		free(list);
		return store_say(tool, path, &err);
	}
	*ret = list;
	*ret_count = count;
	return 0;
}

int verb_store(struct tool *tool)
{
	struct shmeta__inspected *store = NULL;
	struct shmeta__store_usage u;
	struct shmeta_err err = {0};
	struct pages pages = {.dir_fd = -1};
	struct statvfs fs;
	char path[PATH_MAX + 32];
	bool live = tool->store == NULL;
	int code;

	code = live ? pages_open(tool, &pages) : store_path(tool, tool->store, path);
	if (code != 0)
		return code;
	if (live && !pages.published) {
		pages_close(&pages);
		return tool_error(tool, TOOL_NOT_RUNNING, "%s: the writer has not published anything yet", tool->dir);
	}
	if (live)
		generation_path(tool, &pages, path);
	if (shmeta__inspect_open(path, &store, &err) != SHMETA_OK ||
	    shmeta__inspect_usage(store, &u, &err) != SHMETA_OK) {
		code = store_say(tool, path, &err);
		goto out;
	}
	if (statvfs(path, &fs) != 0)
		memset(&fs, 0, sizeof(fs));
	if (tool->json) {
		json_t *doc = out_document("store"), *dbs = json_object();

		out_set(doc, "directory", out_json_text(path, strlen(path)));
		out_set(doc, "generation", out_json_count(store->number));
		out_set(doc, "limit_bytes", out_json_count(u.max_bytes));
		out_set(doc, "used_bytes", out_json_count(u.used_bytes));
		out_set(doc, "free_bytes", out_json_count(u.free_bytes));
		out_set(doc, "file_bytes", out_json_count(u.file_bytes));
		out_set(doc, "filesystem_free_bytes", out_json_count((uint64_t)fs.f_bavail * fs.f_frsize));
		out_set(doc, "source", out_json_text(store->format.source, strlen(store->format.source)));
		for (size_t i = 0; i < SHMETA_DB_COUNT; i++) {
			json_t *db = json_object();

			out_set(db, "entries", out_json_count(u.entries[i]));
			out_set(db, "bytes", out_json_count(u.db_bytes[i]));
			out_set(dbs, db_names[i], db);
		}
		out_set(doc, "databases", dbs);
		out_json(doc, 2);
		goto out;
	}
	(void)printf("store       %s\n", out_safe(path, strlen(path)));
	(void)printf("source      %s\n", out_safe(store->format.source, strlen(store->format.source)));
	(void)printf("limit       %s\n", out_size(u.max_bytes));
	(void)printf("used        %s (%.1f %%)\n", out_size(u.used_bytes),
	             u.max_bytes > 0 ? 100.0 * (double)u.used_bytes / (double)u.max_bytes : 0.0);
	(void)printf("free pages  %s inside the file, to be used again\n", out_size(u.free_bytes));
	(void)printf("file        %s; %s left on its file system\n\n", out_size(u.file_bytes),
	             out_size((uint64_t)fs.f_bavail * fs.f_frsize));
	(void)printf("%-9s  %14s  %12s\n", "database", "entries", "bytes");
	for (size_t i = 0; i < SHMETA_DB_COUNT; i++)
		(void)printf("%-9s  %14s  %12s\n", db_names[i], out_count(u.entries[i]), out_size(u.db_bytes[i]));
out:
	shmeta__inspect_close(store);
	pages_close(&pages);
	return code;
}
