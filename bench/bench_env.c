/* SPDX-License-Identifier: Apache-2.0
 * What the figures run on: generated data, a daemon, children that are ended by their process
 * ids. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "shm/page/board.h"
#include "shm/page/stats_page.h"

enum { CHILDREN = 64 };
static struct child {
	pid_t pid;
	int end; /* the signal that ends it */
} children[CHILDREN];
static char work_dir[256];
static pid_t owner;

double now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double cpu_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct span span_begin(void)
{
	return (struct span){now_s(), cpu_s()};
}

void span_end(const char *name, struct span begun, double lookups)
{
	double cpu = cpu_s() - begun.cpu_s, wall = now_s() - begun.wall_s;
	struct result *r;

	if (name == NULL)
		return;
	r = result_add(name, "ns");
	result_value(r, wall * 1e9 / lookups);
	result_cpu(r, cpu * 1e9 / lookups);
}

static cpu_set_t allowed;

void env_pin(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((unsigned)sched_getcpu(), &one);
	(void)sched_setaffinity(0, sizeof one, &one);
}

void env_unpin(void)
{
	(void)sched_setaffinity(0, sizeof allowed, &allowed);
}

uint64_t rng(uint64_t *state)
{
	uint64_t z = *state += 0x9E3779B97F4A7C15u;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return z ^ z >> 31;
}

uint64_t offset_in(const struct bench *b, const struct part *p, uint64_t row, uint64_t *seed)
{
	uint64_t last = b->rows[row].end;

	if (row + 1 < (uint64_t)p->first + p->count && b->rows[row + 1].base <= last)
		last = b->rows[row + 1].base - 1;
	return b->rows[row].base + rng(seed) % (last - b->rows[row].base + 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	(void)remove(path);
	return 0;
}

void env_init(struct bench *b)
{
	owner = getpid();
	(void)sched_getaffinity(0, sizeof allowed, &allowed);
	if (mkdtemp(b->dir) == NULL) {
		(void)fprintf(stderr, "shmeta-bench: %s: %s\n", b->dir, strerror(errno));
		_exit(1);
	}
	(void)snprintf(work_dir, sizeof work_dir, "%s", b->dir);
}

void env_track_to_end(pid_t pid, int signo)
{
	for (int i = 0; i < CHILDREN; i++)
		if (children[i].pid == 0) {
			children[i] = (struct child){pid, signo};
			return;
		}
	die("more than %d children", CHILDREN);
}

void env_track(pid_t pid)
{
	env_track_to_end(pid, SIGKILL);
}

int env_wait(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	for (int i = 0; i < CHILDREN; i++)
		if (children[i].pid == pid)
			children[i].pid = 0;
	return status;
}

void env_kill(pid_t *pid, int signo)
{
	if (*pid <= 0)
		return;
	(void)kill(*pid, signo);
	(void)env_wait(*pid);
	*pid = 0;
}

void env_remove(const char *dir)
{
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void env_cleanup(void)
{
	if (owner != getpid())
		return;
	for (int i = 0; i < CHILDREN; i++)
		if (children[i].pid > 0) {
			pid_t pid = children[i].pid;

			env_kill(&pid, children[i].end);
		}
	if (work_dir[0] != '\0')
		env_remove(work_dir);
	work_dir[0] = '\0';
}

void die(const char *fmt, ...)
{
	va_list ap;

	(void)fputs("shmeta-bench: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	env_cleanup();
	_exit(1);
}

pid_t env_spawn(char *const argv[], const char *log)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0) {
		int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		env_unpin();
		if (fd >= 0) {
			(void)dup2(fd, 1);
			(void)dup2(fd, 2);
		}
		execvp(argv[0], argv);
		_exit(127);
	}
	env_track(pid);
	return pid;
}

void env_generate(const struct bench *b, const char *db, uint32_t topics, uint32_t partitions, uint64_t segments)
{
	char program[512], log[512], number[4][32];
	int status;

	(void)snprintf(program, sizeof program, "%s/shmeta-gen", b->bin);
	(void)snprintf(log, sizeof log, "%s/gen.log", b->dir);
	(void)snprintf(number[0], sizeof number[0], "%llu", (unsigned long long)b->seed);
	(void)snprintf(number[1], sizeof number[1], "%u", topics);
	(void)snprintf(number[2], sizeof number[2], "%u", partitions);
	(void)snprintf(number[3], sizeof number[3], "%llu", (unsigned long long)segments);
	status = env_wait(env_spawn((char *const[]){program, "--seed", number[0], "--topics", number[1], "--partitions",
	                                            number[2], "--segments", number[3], (char *)db, NULL},
	                            log));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		die("%s failed (wait status %d)", program, status);
}

static struct part *next_part(struct bench *b, uint32_t *room, const char *topic, uint32_t id)
{
	struct part *p = b->part_count ? &b->parts[b->part_count - 1] : NULL;

	if (p != NULL && p->partition_id == id && strcmp(p->topic, topic) == 0)
		return p;
	if (b->parts == NULL || b->part_count == *room) {
		*room = *room ? *room * 2 : 1024;
		b->parts = realloc(b->parts, *room * sizeof *b->parts);
		if (b->parts == NULL)
			die("out of memory");
	}
	p = &b->parts[b->part_count++];
	memset(p, 0, sizeof *p);
	(void)snprintf(p->topic, sizeof p->topic, "%s", topic);
	p->partition_id = id;
	p->first = (uint32_t)b->row_count;
	return p;
}

void env_read_flat(struct bench *b)
{
	sqlite3 *db;
	sqlite3_stmt *q;
	uint32_t part_room = 0;
	uint64_t row_room = b->segments;

	if (sqlite3_open_v2(b->db, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		die("%s: %s", b->db, sqlite3_errmsg(db));
	b->rows = calloc(row_room, sizeof *b->rows);
	b->bases = calloc(row_room, sizeof *b->bases);
	if (b->rows == NULL || b->bases == NULL)
		die("out of memory");
	if (sqlite3_prepare_v2(
		    db,
		    "SELECT topic, partition_id, base_offset, end_offset, size_bytes, created_at, record_count "
		    "FROM segments ORDER BY topic, partition_id, base_offset",
		    -1, &q, NULL) != SQLITE_OK)
		die("%s", sqlite3_errmsg(db));
	while (sqlite3_step(q) == SQLITE_ROW) {
		struct part *p = next_part(b, &part_room, (const char *)sqlite3_column_text(q, 0),
		                           (uint32_t)sqlite3_column_int64(q, 1));
		struct flat_row *row;

		if (b->row_count == row_room)
			die("more segments than were asked for");
		row = &b->rows[b->row_count];
		row->base = (uint64_t)sqlite3_column_int64(q, 2);
		row->end = (uint64_t)sqlite3_column_int64(q, 3);
		row->size_bytes = (uint64_t)sqlite3_column_int64(q, 4);
		row->created_at_ms = sqlite3_column_int64(q, 5);
		row->record_count = (uint32_t)sqlite3_column_int64(q, 6);
		b->bases[b->row_count++] = row->base;
		p->count++;
		p->high_watermark = row->end + 1;
	}
	(void)sqlite3_finalize(q);
	(void)sqlite3_close(db);
	if (b->part_count < HOT_PARTITIONS)
		die("the data has %u partitions with segments; %d are needed", b->part_count, HOT_PARTITIONS);
}

static bool read_board(const char *instance, struct shmeta_board *ret)
{
	char path[400];
	FILE *f;
	bool got;

	(void)snprintf(path, sizeof path, "%s/board", instance);
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	got = fread(ret, sizeof *ret, 1, f) == 1;
	(void)fclose(f);
	return got;
}

pid_t env_start_daemon(const struct bench *b, const char *source, const char *instance, const char *extra,
                       double *ret_ready_s)
{
	char program[512], config[512], log[512], uri[1024];
	struct shmeta_board board = {0};
	uint64_t old_epoch;
	double start;
	FILE *f;
	pid_t pid;

	(void)snprintf(program, sizeof program, "%s/shmetad", b->bin);
	(void)snprintf(config, sizeof config, "%s.conf", instance);
	(void)snprintf(log, sizeof log, "%s.log", instance);
	(void)snprintf(uri, sizeof uri, "%s%s", source[0] == '/' ? "sqlite:" : "", source);
	(void)mkdir(instance, 0755);
	f = fopen(config, "we");
	if (f == NULL)
		die("%s: %s", config, strerror(errno));
	(void)fprintf(f, "%s\n", extra != NULL ? extra : "");
	(void)fclose(f);
	(void)read_board(instance, &board);
	old_epoch = board.epoch;
	start = now_s();
	pid = env_spawn((char *const[]){program, "--config", config, "--source", uri, "--create", "--dir",
	                                (char *)instance, NULL},
	                log);
	(void)setpriority(PRIO_PROCESS, (id_t)pid,
	                  -10); /* as its unit starts it; without the right to, it goes as it is */
	while (!read_board(instance, &board) || board.epoch == old_epoch || board.generation == 0 ||
	       board.phase != SHMETA_PHASE_SERVING) {
		if (now_s() > start + 300 || waitpid(pid, NULL, WNOHANG) == pid) {
			(void)fprintf(stderr, "--- last lines of its log:\n");
			f = fopen(log, "re");
			for (int c; f != NULL && (c = fgetc(f)) != EOF;)
				(void)fputc(c, stderr);
			die("shmetad did not come to serve");
		}
		(void)usleep(1000);
	}
	if (ret_ready_s != NULL)
		*ret_ready_s = now_s() - start;
	return pid;
}

struct shmeta *env_open(const char *instance)
{
	char error[480] = "";
	struct shmeta *m = NULL;
	struct shmeta_options o = {.size = sizeof o,
	                           .directory = instance,
	                           .agent = "shmeta-bench",
	                           .error = error,
	                           .error_bytes = sizeof error};

	if (shmeta_open(&o, &m) != SHMETA_OK)
		die("%s: %s", instance, error);
	return m;
}

struct shmeta_reader *env_reader(struct shmeta *instance)
{
	struct shmeta_reader *r = NULL;

	if (shmeta_reader_new(instance, &r) != SHMETA_OK)
		die("no reader");
	/* Registration needs a begin or two. */
	for (int i = 0; i < 1000; i++) {
		struct shmeta_snapshot_info info = {0};

		if (shmeta_begin(r) != SHMETA_OK)
			continue;
		(void)!shmeta_snapshot_info(r, &info);
		(void)shmeta_end(r);
		if (info.registered)
			return r;
		(void)usleep(5000);
	}
	die("the reader was not registered within five seconds");
}

static struct shmeta_stats *stats_copy(const char *instance)
{
	struct shmeta_stats *copy = malloc(sizeof *copy);
	struct shmeta_err err = {0};
	void *map;
	int fd = open(instance, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (copy == NULL || fd < 0 || shmeta__map_file(fd, "stats", sizeof *copy, 0, &map, &err) != SHMETA_OK)
		die("%s: stats: %s", instance, err.text);
	(void)close(fd);
	if (shmeta__stats_copy(map, copy, &err) != SHMETA_OK)
		die("%s: %s", instance, err.text);
	(void)munmap(map, sizeof *copy);
	return copy;
}

uint64_t env_counter(const char *instance, const char *name)
{
	struct shmeta_stats *s = stats_copy(instance);
	uint64_t value = 0;
	bool found = false;

	for (uint32_t i = 0; i < shmeta__stats_counters(s) && !found; i++)
		if (strncmp(shmeta__stats_name(s, i), name, SHMETA_STATS_NAME) == 0) {
			value = *shmeta__stats_value(s, i);
			found = true;
		}
	free(s);
	if (!found)
		die("no counter %s", name);
	return value;
}

void env_wait_stats(const char *instance)
{
	uint64_t asked = shmeta__boottime_ns(), updated;

	do {
		struct shmeta_stats *s = stats_copy(instance);

		updated = s->updated_at_ns;
		free(s);
		(void)usleep(20000);
	} while (updated < asked && shmeta__boottime_ns() - asked < (uint64_t)5000000000);
}
