/* SPDX-License-Identifier: Apache-2.0
 * The pages of an instance, copied and judged. */
#include "tools/monitor/instance_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/boot_id_text.h"

/* The writer's loop beats four times a second. A process that is gone needs only one missed second
 * to be believed dead: it could also live in another pid namespace, where its number means nothing
 * here. */
enum { STALLED_MS = 5000, GONE_MS = 1000, AHEAD_MS = 1000 };

/* Word by word, so that a number that moves meanwhile is either the old one or the new one. */
static void copy_words(void *to, const void *from, size_t bytes)
{
	uint64_t *t = to;
	const uint64_t *f = from;

	for (size_t i = 0; i < bytes / 8; i++)
		t[i] = shmeta_observe(&f[i]);
}

static uint64_t file_bytes(int dir_fd, const char *name)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, 0) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

static bool same_boot(const uint8_t boot_id[16])
{
	char text[64] = "";
	uint8_t id[16];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		(void)close(fd);
	/* Where /proc does not say, the heartbeat decides alone. */
	return n <= 0 || !shmeta__boot_id_parse(text, (size_t)n, id) || memcmp(id, boot_id, 16) == 0;
}

/* Is it the process that the board names: same number, same start? */
static bool process_is(uint64_t pid, uint64_t start_ticks)
{
	char path[64], text[1024], *at;
	unsigned long long ticks = 0;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	/* the name may hold anything, but is the last thing in parentheses */
	at = strrchr(text, ')');
	if (at == NULL || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X') /* dead, not reaped */
		return false;
	for (int field = 3; at != NULL && field <= 22; field++)
		at = strchr(at + 1, ' ');
	if (at != NULL)
		ticks = strtoull(at + 1, NULL, 10);
	return at != NULL && ticks == start_ticks;
}

static enum liveness judge(const struct pages *pages)
{
	uint64_t age = pages_since(pages->now_ns, pages->board.heartbeat_ns);

	if (pages->board.phase == SHMETA_PHASE_STOPPED || !pages->same_boot)
		return WRITER_DEAD;
	if (process_is(pages->board.writer_pid, pages->board.writer_start_ticks))
		return age < STALLED_MS * 1000000ull ? WRITER_ALIVE : WRITER_STALLED;
	return age < GONE_MS * 1000000ull ? WRITER_ALIVE : WRITER_DEAD;
}

static enum shmeta_status open_generation(struct pages *pages, char name[PAGES_NAME_BYTES], struct shmeta_err *err)
{
	void *map;

	(void)snprintf(name, PAGES_NAME_BYTES, "store.%llu/generation", (unsigned long long)pages->board.generation);
	if (shmeta__map_file(pages->dir_fd, name, SHMETA_GENERATION_BYTES, 0, &map, err) != SHMETA_OK)
		return err->code;
	pages->live = map;
	copy_words(&pages->generation, map, sizeof(pages->generation));
	return shmeta__generation_check(&pages->generation, file_bytes(pages->dir_fd, name), err);
}

static void open_stats(struct pages *pages)
{
	void *map;

	if (shmeta__map_file(pages->dir_fd, "stats", sizeof(struct shmeta_stats), 0, &map, &pages->stats_error) !=
	    SHMETA_OK)
		return;
	pages->stats = malloc(sizeof(*pages->stats));
	if (pages->stats == NULL)
		(void)shmeta_fail(&pages->stats_error, SHMETA_ERR_NO_MEMORY, "out of memory");
	else if (shmeta__stats_copy(map, pages->stats, &pages->stats_error) != SHMETA_OK) {
		free(pages->stats);
		pages->stats = NULL;
	}
	(void)munmap(map, sizeof(struct shmeta_stats));
}

/* What the writer counted as an age was that when it wrote the page: where nobody writes it any
 * more, it has grown since. */
static void grow_ages(struct pages *pages)
{
	uint64_t since, depth = pages_counter(pages, SHMETA_COUNTER_queue_depth);

	if (pages->alive || pages->stats == NULL)
		return;
	since = pages_since(pages->now_ns, pages->stats->updated_at_ns);
	if (since == UINT64_MAX)
		return;
	shmeta__stats_grow(pages->stats, SHMETA_COUNTER_lag_ns, since);
	if (depth > 0)
		shmeta__stats_grow(pages->stats, SHMETA_COUNTER_queue_age_ns, since);
}

void pages_read_memory(FILE *mounts, FILE *meminfo, dev_t device, struct pages_memory *ret)
{
	static const char huge[] = "ShmemHugePages:";
	char line[1024], major_of[16], minor_of[16];

	*ret = (struct pages_memory){0};
	while (mounts != NULL && fgets(line, sizeof(line), mounts) != NULL)
		if (sscanf(line, "%*s %*s %15[0-9]:%15[0-9]", major_of, minor_of) == 2 &&
		    makedev((unsigned int)strtoul(major_of, NULL, 10), (unsigned int)strtoul(minor_of, NULL, 10)) ==
		            device)
			ret->wants_huge = strstr(line, "huge=") != NULL && strstr(line, "huge=never") == NULL;
	while (meminfo != NULL && fgets(line, sizeof(line), meminfo) != NULL)
		if (strncmp(line, huge, sizeof huge - 1) == 0)
			ret->huge_bytes = strtoull(line + sizeof huge - 1, NULL, 10) * 1024;
	if (mounts != NULL)
		(void)fclose(mounts);
	if (meminfo != NULL)
		(void)fclose(meminfo);
}

static void open_memory(struct pages *pages)
{
	struct stat st;

	if (fstat(pages->dir_fd, &st) == 0)
		pages_read_memory(fopen("/proc/self/mountinfo", "re"), fopen("/proc/meminfo", "re"), st.st_dev,
		                  &pages->memory);
}

const char *pages_writer(const struct pages *pages)
{
	return pages->liveness == WRITER_ALIVE              ? "alive"
	       : pages->liveness == WRITER_STALLED          ? "stalled"
	       : pages->board.phase == SHMETA_PHASE_STOPPED ? "stopped"
	                                                    : "dead";
}

/* As a start that failed behind the making of it leaves it: no writer has announced itself. */
static bool is_blank(const struct shmeta_board *board)
{
	static const struct shmeta_board blank;

	return memcmp(board, &blank, sizeof(blank)) == 0;
}

enum shmeta_status pages_read(const char *dir, struct pages *ret, char ret_name[PAGES_NAME_BYTES],
                              struct shmeta_err *err)
{
	void *map;

	memset(ret, 0, sizeof(*ret));
	ret_name[0] = '\0';
	ret->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ret->dir_fd < 0) {
		if (errno == ENOENT)
			return shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "no such directory");
		if (errno == ENOTDIR)
			return shmeta_fail(err, SHMETA_ERR_VERSION, "not a directory");
		return shmeta_fail_errno(err, errno, "opening the directory");
	}
	(void)snprintf(ret_name, PAGES_NAME_BYTES, "board");
	if (shmeta__map_file(ret->dir_fd, "board", SHMETA_PAGE, 0, &map, err) != SHMETA_OK)
		return err->code;
	ret->live_board = map;
	/* A generation that is replaced while we look at the board is looked for again. */
	for (int i = 0; i < 3; i++) {
		(void)snprintf(ret_name, PAGES_NAME_BYTES, "board");
		copy_words(&ret->board, map, sizeof(ret->board));
		if (is_blank(&ret->board))
			return shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "no writer has run here");
		if (shmeta__board_check(&ret->board, file_bytes(ret->dir_fd, "board"), err) != SHMETA_OK)
			return err->code;
		ret->published = ret->board.generation != 0;
		if (!ret->published || open_generation(ret, ret_name, err) == SHMETA_OK)
			break;
		if (shmeta_observe(&ret->live_board->generation) == ret->board.generation || i == 2)
			return err->code;
	}
	open_stats(ret);
	open_memory(ret);
	ret->now_ns = shmeta__boottime_ns();
	ret->same_boot = same_boot(ret->board.boot_id);
	ret->liveness = judge(ret);
	ret->alive = ret->liveness == WRITER_ALIVE;
	grow_ages(ret);
	ret->start_failed = ret->liveness == WRITER_DEAD && shmeta__last_start_read(ret->dir_fd, &ret->last_start);
	return SHMETA_OK;
}

void pages_close(struct pages *pages)
{
	if (pages->live != NULL)
		(void)munmap((void *)(uintptr_t)pages->live, SHMETA_GENERATION_BYTES);
	if (pages->live_board != NULL)
		(void)munmap((void *)(uintptr_t)pages->live_board, SHMETA_PAGE);
	if (pages->dir_fd >= 0)
		(void)close(pages->dir_fd);
	free(pages->stats);
	*pages = (struct pages){.dir_fd = -1};
}

bool pages_name_of(const char *dir, char ret[UNIT_BYTES])
{
	static const char root[] = "/run/shmeta/";
	char real[PATH_MAX];
	const char *name;

	if (realpath(dir, real) == NULL)
		(void)snprintf(real, sizeof(real), "%s", dir);
	name = real + strlen(root);
	return strncmp(real, root, strlen(root)) == 0 && name[0] != '\0' && strchr(name, '/') == NULL &&
	       (size_t)snprintf(ret, UNIT_BYTES, "%s", name) < UNIT_BYTES;
}

const char *pages_unit(const char *instance, char ret[UNIT_BYTES])
{
	if (strcmp(instance, "default") == 0)
		(void)snprintf(ret, UNIT_BYTES, "shmetad");
	else
		(void)snprintf(ret, UNIT_BYTES, "shmetad@%.*s", UNIT_BYTES - 9, instance);
	return ret;
}

const char *pages_unit_of(const char *dir, char ret[UNIT_BYTES])
{
	char name[UNIT_BYTES];

	if (pages_name_of(dir, name))
		return pages_unit(name, ret);
	(void)snprintf(ret, UNIT_BYTES, "UNIT");
	return ret;
}

const char *pages_phase(uint32_t phase)
{
	switch ((enum shmeta_phase)phase) {
#define X(name, number, text)     \
	case SHMETA_PHASE_##name: \
		return text;
		SHMETA_PHASE_LIST(X)
#undef X
	}
	return "unknown phase";
}

const char *pages_class(enum shmeta_class cls)
{
	static const char *const names[] = {
#define X(name, number, text, ttl_ms) [SHMETA_CLASS_##name] = text,
		SHMETA_CLASS_LIST(X)
#undef X
	};

	return names[cls];
}

const char *pages_version(uint32_t version, char ret[24])
{
	(void)snprintf(ret, 24, "%u.%u.%u", version >> 16, version >> 8 & 0xff, version & 0xff);
	return ret;
}

uint64_t pages_since(uint64_t now_ns, uint64_t then_ns)
{
	if (shmeta__stamp_is_unproved(then_ns))
		return shmeta__stamp_unproved_age(now_ns, then_ns);
	/* Ahead by more than clocks of one machine differ by: of another time namespace. */
	if (then_ns == 0 || (then_ns > now_ns && then_ns - now_ns > AHEAD_MS * 1000000ull))
		return UINT64_MAX;
	return now_ns > then_ns ? now_ns - then_ns : 0;
}

uint64_t pages_counter(const struct pages *pages, enum shmeta_counter counter)
{
	uint64_t value = UINT64_MAX;

	if (pages->stats != NULL)
		(void)shmeta__stats_counter(pages->stats, counter, &value);
	return value;
}

uint64_t pages_count(const struct pages *pages, enum shmeta_counter counter)
{
	uint64_t value = pages_counter(pages, counter);

	return value != UINT64_MAX ? value : 0;
}
