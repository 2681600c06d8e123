/* SPDX-License-Identifier: Apache-2.0
 * `make demo`: the main job on a real database file, from an empty directory to a table of what was seen. It starts everything it
 * shows (generator, shmetad, four readers, the sqlite3 shell, shmetactl), ends all of it, and leaves nothing behind. Exit status 0
 * only if every answer was right, none failed, every change was seen, and `shmetactl verify` found no difference. */
#include "tools/demo/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	SETTLE_MS = 1500,   /* of undisturbed reading */
	DEAD_MS = 1500,     /* without a writer */
	VISIBLE_MS = 10000, /* a change that takes longer has failed */
	SERVE_MS = 30000,
	SQL_MS = 1000,    /* of the same lookups by SQL */
	SILENT_MS = 2000, /* before something that goes on says so */
	CHANGES_MAX = 16
};

struct change {
	char what[48];
	double ms; /* until the last reader saw it; < 0: not seen */
};

/* --small is for tests of the demo itself. */
static const struct size {
	uint32_t topics, partitions, segments;
} full = {1000, 10000, 1000000}, small = {50, 500, 20000};
static struct size size;
static struct demo_shared *shared;
static char work[PATH_MAX], bin[PATH_MAX];
static pid_t writer, readers[READERS], shell;
static int shell_in = -1, shell_out = -1;
static volatile sig_atomic_t interrupted;
static bool color, terminal;
static struct change changes[CHANGES_MAX];
static size_t change_count;
static struct shmeta *look; /* the driver's own view, unregistered */

/* ---- text ----------------------------------------------------------------------------------------------------------------- */

static const char *bold(const char *text)
{
	static char buffer[4][256];
	static unsigned next;
	char *b = buffer[next++ % 4];

	if (!color)
		return text;
	(void)snprintf(b, sizeof(buffer[0]), "\033[1m%s\033[0m", text);
	return b;
}

/* 1 000 000, in one of a few static buffers. */
static const char *number(uint64_t value)
{
	static char buffer[8][40];
	static unsigned next;
	char digits[24], *b = buffer[next++ % 8];
	int n = snprintf(digits, sizeof(digits), "%" PRIu64, value), at = 0;

	for (int i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			b[at++] = ' ';
		b[at++] = digits[i];
	}
	b[at] = '\0';
	return b;
}

static void title(const char *text)
{
	(void)printf("\n%s\n", bold(text));
	(void)fflush(stdout);
}

__attribute__((format(printf, 2, 3))) static void fact(const char *name, const char *fmt, ...)
{
	va_list ap;

	(void)printf("  %-30s ", name);
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
	(void)putchar('\n');
	(void)fflush(stdout);
}

/* ---- the end, whichever way it comes ---------------------------------------------------------------------------------------- */

static void on_signal(int signo)
{
	interrupted = signo;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void end_process(pid_t *pid, int signo)
{
	if (*pid <= 0)
		return;
	(void)kill(*pid, signo);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
}

static void clean_up(void)
{
	if (shared != NULL)
		atomic_store(&shared->stop, 1);
	for (int i = 0; i < READERS; i++)
		end_process(&readers[i], SIGKILL);
	end_process(&shell, SIGKILL);
	end_process(&writer, SIGKILL);
	if (work[0] != '\0')
		(void)nftw(work, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	work[0] = '\0';
}

__attribute__((format(printf, 1, 2), noreturn)) static void give_up(const char *fmt, ...)
{
	va_list ap;

	(void)fflush(stdout);
	(void)fputs("\ndemo: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	clean_up();
	exit(1);
}

static void check_interrupted(void)
{
	if (interrupted == 0)
		return;
	(void)fprintf(stderr, "\ndemo: interrupted; everything it started has been ended and removed\n");
	clean_up();
	exit(128 + interrupted);
}

static void pause_ms(long ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	(void)nanosleep(&t, NULL);
	check_interrupted();
}

/* ---- programs --------------------------------------------------------------------------------------------------------------- */

/* Start argv[0] (beside this program, or on the PATH when it is a plain name that is not). out, in: -1 or descriptors for it. */
static pid_t start(char *const argv[], int in, int out, int err)
{
	char path[PATH_MAX + 64];
	pid_t parent = getpid(), pid;

	(void)fflush(NULL);
	pid = fork();
	if (pid < 0)
		give_up("fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	(void)signal(SIGINT, SIG_IGN); /* the driver ends what it started */
	(void)signal(SIGPIPE, SIG_DFL);
	if (in >= 0)
		(void)dup2(in, STDIN_FILENO);
	if (out >= 0)
		(void)dup2(out, STDOUT_FILENO);
	if (err >= 0)
		(void)dup2(err, STDERR_FILENO);
	(void)snprintf(path, sizeof(path), "%s/%s", bin, argv[0]);
	(void)execv(path, argv);
	(void)execvp(argv[0], argv);
	(void)dprintf(STDERR_FILENO, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static int finish(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
		if (interrupted != 0)
			(void)kill(pid, SIGKILL);
	}
	check_interrupted();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Until there is some, or its end; true when it was long enough to say on a terminal that it goes on. */
static bool wait_for_output(int fd, uint64_t began, bool quiet)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	bool said = false;

	while (poll(&p, 1, 1000) == 0 && interrupted == 0) {
		if (!terminal || quiet || demo_now_ns() - began < SILENT_MS * 1000000ull)
			continue;
		(void)printf("\r    working, %.0f s", (double)(demo_now_ns() - began) / 1e9);
		(void)fflush(stdout);
		said = true;
	}
	return said;
}

/* Run it, its output indented below a line that names it. Returns the exit status; *keep (may be NULL) gets the output. */
static int show(char *const argv[], bool quiet, char *keep, size_t keep_bytes)
{
	char line[1024];
	size_t have = 0;
	bool waiting = false;
	uint64_t began;
	FILE *from;
	pid_t pid;
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) != 0)
		give_up("pipe: %s", strerror(errno));
	if (!quiet) {
		(void)printf("\n  $ %s", argv[0]);
		for (int i = 1; argv[i] != NULL; i++)
			if (strcmp(argv[i], "--dir") != 0 && (i == 1 || strcmp(argv[i - 1], "--dir") != 0))
				(void)printf(" %s", argv[i]);
		(void)putchar('\n');
	}
	pid = start(argv, -1, fd[1], -1);
	(void)close(fd[1]);
	from = fdopen(fd[0], "r");
	if (from == NULL)
		give_up("fdopen: %s", strerror(errno));
	(void)setvbuf(from, NULL, _IONBF, 0); /* so that poll() tells all there is */
	began = demo_now_ns();
	for (;;) {
		size_t n;

		waiting = wait_for_output(fd[0], began, quiet) || waiting;
		if (waiting)
			(void)fputs("\r\033[K", stdout);
		waiting = false;
		if (fgets(line, sizeof(line), from) == NULL)
			break;
		n = strlen(line);

		if (!quiet)
			(void)printf("    %s", line);
		if (keep != NULL && have + n + 1 < keep_bytes) {
			memcpy(keep + have, line, n + 1);
			have += n;
		}
	}
	(void)fclose(from);
	(void)fflush(stdout);
	return finish(pid);
}

/* ---- the writer ------------------------------------------------------------------------------------------------------------- */

/* The first one may show its progress on our terminal; what it says later goes to a log that is shown when something fails. */
static void start_writer(bool first)
{
	char source[PATH_MAX + 32], config[PATH_MAX + 16], log[PATH_MAX + 16];
	char *argv[] = {(char *)"shmetad", (char *)"--config", config, (char *)"--dir",
	                shared->instance,  (char *)"--source", source, NULL};
	int fd;

	(void)snprintf(source, sizeof(source), "sqlite:%s", shared->database);
	(void)snprintf(config, sizeof(config), "%s/shmeta.conf", work);
	(void)snprintf(log, sizeof(log), "%s/shmetad.log", work);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		give_up("%s: %s", log, strerror(errno));
	writer = start(argv, -1, fd, first && isatty(STDERR_FILENO) == 1 ? -1 : fd);
	(void)close(fd);
}

static void give_up_with_log(const char *what)
{
	char path[PATH_MAX + 16], line[512];
	FILE *log;

	(void)snprintf(path, sizeof(path), "%s/shmetad.log", work);
	log = fopen(path, "re");
	while (log != NULL && fgets(line, sizeof(line), log) != NULL)
		(void)fprintf(stderr, "shmetad: %s", line);
	if (log != NULL)
		(void)fclose(log);
	give_up("%s", what);
}

static bool writer_ended(void)
{
	if (waitpid(writer, NULL, WNOHANG) != writer)
		return false;
	writer = 0;
	return true;
}

/* Wait until a writer with a later epoch serves; returns its epoch. */
static uint64_t wait_until_serving(uint64_t epoch)
{
	struct shmeta_options options = {.size = sizeof(options),
	                                 .directory = shared->instance,
	                                 .flags = SHMETA_OPEN_UNREGISTERED,
	                                 .threads = 1};
	uint64_t began = demo_now_ns(), now;
	struct shmeta_state state;

	for (;;) {
		state = (struct shmeta_state){.size = sizeof(state)};
		if (look == NULL && shmeta_open(&options, &look) != SHMETA_OK)
			look = NULL;
		if (look != NULL && shmeta_get_state(look, &state) == SHMETA_OK && state.epoch > epoch &&
		    state.phase == SHMETA_PHASE_SERVING)
			break;
		if (writer_ended())
			give_up_with_log("shmetad ended instead of serving");
		now = demo_now_ns();
		if (now - began > SERVE_MS * 1000000ull)
			give_up_with_log("shmetad does not serve");
		pause_ms(2);
	}
	return state.epoch;
}

/* ---- the sqlite3 shell, kept open so that a change costs no start of a program ------------------------------------------------ */

static void start_shell(void)
{
	char *argv[] = {(char *)"sqlite3", (char *)"-batch", shared->database, NULL};
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
		give_up("pipe: %s", strerror(errno));
	shell = start(argv, in[0], out[1], out[1]);
	(void)close(in[0]);
	(void)close(out[1]);
	shell_in = in[1];
	shell_out = out[0];
}

/* Run a statement or several and wait for the shell to have done so. */
__attribute__((format(printf, 1, 2))) static void sql(const char *fmt, ...)
{
	static const char done[] = "\n.print done\n";
	char text[8192], answer[1024] = "";
	size_t have = 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text) - sizeof(done), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(text) - sizeof(done))
		give_up("statement too long");
	memcpy(text + n, done, sizeof(done));
	if (write(shell_in, text, strlen(text)) != (ssize_t)strlen(text))
		give_up("the sqlite3 program went away");
	while (have < 5 || memcmp(answer + have - 5, "done\n", 5) != 0) {
		ssize_t k = read(shell_out, answer + have, sizeof(answer) - 1 - have);

		check_interrupted();
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			give_up("the sqlite3 program went away");
		have += (size_t)k;
		if (have == sizeof(answer) - 1)
			break;
	}
	answer[have] = '\0';
	if (strcmp(answer, "done\n") != 0)
		give_up("sqlite3: %s", answer);
}

/* ---- changes ---------------------------------------------------------------------------------------------------------------- */

static struct demo_topic *topic_of(const char *name)
{
	for (uint32_t i = 0; i < shared->topic_count; i++)
		if (strcmp(shared->topic[i].name, name) == 0)
			return &shared->topic[i];
	return NULL;
}

/* Announce the change; from now on readers look for it, and do not compare its topic with the file. */
static void change_begin(const struct demo_probe *probe)
{
	struct demo_topic *topic = topic_of(probe->topic);

	if (topic != NULL)
		atomic_store(&topic->changing, 1);
	/* A reader that compares right now and saw 0 looks again when it is done. */
	shared->probe = *probe;
	atomic_fetch_add_explicit(&shared->probe_number, 1, memory_order_release);
}

static bool all_saw(uint64_t number_of_probe, uint64_t *ret_last_ns)
{
	uint64_t last = 0;

	for (int i = 0; i < READERS; i++) {
		uint64_t at;

		if (atomic_load_explicit(&shared->reader[i].seen_probe, memory_order_acquire) != number_of_probe)
			return false;
		at = atomic_load(&shared->reader[i].seen_at_ns);
		last = at > last ? at : last;
	}
	*ret_last_ns = last;
	return true;
}

static void reap_readers(void)
{
	for (int i = 0; i < READERS; i++) {
		int status;

		if (readers[i] > 0 && waitpid(readers[i], &status, WNOHANG) == readers[i]) {
			readers[i] = 0;
			give_up("reader %d ended (status %d): %s", i + 1, status, shared->reader[i].first_trouble);
		}
	}
}

/* Wait until all readers saw it, and note how long after `from_ns` that was. */
static void change_end(const char *what, uint64_t from_ns)
{
	struct demo_topic *topic = topic_of(shared->probe.topic);
	uint64_t probe = atomic_load(&shared->probe_number), last = 0, began = demo_now_ns();
	struct change *change = &changes[change_count++];

	(void)snprintf(change->what, sizeof(change->what), "%s", what);
	change->ms = -1;
	while (demo_now_ns() - began < VISIBLE_MS * 1000000ull) {
		if (all_saw(probe, &last)) {
			change->ms = last > from_ns ? (double)(last - from_ns) / 1e6 : 0;
			break;
		}
		reap_readers();
		pause_ms(1);
	}
	atomic_fetch_add(&shared->probe_number, 1);
	if (change->ms < 0) {
		fact(what, "not seen by every reader within %d s", VISIBLE_MS / 1000);
		return;
	}
	if (topic != NULL)
		atomic_store(&topic->changing, 0);
	fact(what, "%8.1f ms", change->ms);
}

/* Quoted for SQL: names may hold quotes. */
static const char *quoted(const char *text)
{
	static char buffer[4][2 * NAME_BYTES + 2];
	static unsigned next;
	char *b = buffer[next++ % 4];
	size_t n = 0;

	for (; *text != '\0'; text++) {
		if (*text == '\'')
			b[n++] = '\'';
		b[n++] = *text;
	}
	b[n] = '\0';
	return b;
}

static struct demo_partition *pick(uint64_t *seed)
{
	struct demo_partition *p;

	do {
		p = &shared->partition[demo_random(seed) % shared->partition_count];
	} while (atomic_load(&shared->topic[p->topic].changing) != 0);
	return p;
}

/* count segments of 1 000 records at the end of a partition, and its high watermark behind them, in one transaction; the probe is
 * the last of them. */
static uint64_t add_segments(struct demo_partition *p, unsigned count, bool announce)
{
	const char *topic = shared->topic[p->topic].name;
	uint64_t base = atomic_load(&p->high_watermark), end = base + 1000 * (uint64_t)count, began;
	struct demo_probe probe = {.kind = PROBE_FIND, .partition = p->id, .offset = end - 1000, .value = end - 1};

	(void)snprintf(probe.topic, sizeof(probe.topic), "%s", topic);
	if (announce)
		change_begin(&probe);
	began = demo_now_ns();
	sql("BEGIN IMMEDIATE;"
	    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
	    "INSERT INTO segments (id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, "
	    "created_at) SELECT 'demo-%" PRIu64 "-' || i, '%s', %" PRIu32 ", %" PRIu64 " + i * 1000, %" PRIu64
	    " + i * 1000, 1000, 65536, 'demo-bucket', printf('data/%%s/%%d/%%020d.seg', '%s', %" PRIu32 ", %" PRIu64
	    " + i * 1000), 1700000000000 + i FROM n;"
	    "UPDATE partitions SET high_watermark = %" PRIu64 " WHERE topic = '%s' AND partition_id = %" PRIu32 ";"
	    "COMMIT;",
	    count - 1, began, quoted(topic), p->id, base, base + 999, quoted(topic), p->id, base, end, quoted(topic),
	    p->id);
	atomic_store(&p->high_watermark, end);
	return began;
}

static void move_watermark(struct demo_partition *p)
{
	const char *topic = shared->topic[p->topic].name;
	uint64_t before = atomic_load(&p->high_watermark), began;
	struct demo_probe probe = {
		.kind = PROBE_WATERMARK, .partition = p->id, .before = before, .value = before + 12345};

	(void)snprintf(probe.topic, sizeof(probe.topic), "%s", topic);
	change_begin(&probe);
	began = demo_now_ns();
	sql("UPDATE partitions SET high_watermark = %" PRIu64 " WHERE topic = '%s' AND partition_id = %" PRIu32 ";",
	    before + 12345, quoted(topic), p->id);
	atomic_store(&p->high_watermark, before + 12345);
	change_end("high watermark moved", began);
}

static void create_topic(void)
{
	struct demo_probe probe = {.kind = PROBE_APPEARS, .topic = "made-by-the-demo", .partition = 3};
	uint64_t began;

	change_begin(&probe);
	began = demo_now_ns();
	sql("BEGIN IMMEDIATE;"
	    "INSERT INTO topics (name, partition_count, retention_ms, created_at, updated_at, config) "
	    "VALUES ('made-by-the-demo', 4, NULL, 1700000000000, 1700000000000, '{\"cleanup.policy\": \"delete\"}');"
	    "INSERT INTO partitions (topic, partition_id, high_watermark, created_at, updated_at) VALUES "
	    "('made-by-the-demo', 0, 0, 1700000000000, 1700000000000), ('made-by-the-demo', 1, 0, 1700000000000, 1700000000000),"
	    "('made-by-the-demo', 2, 0, 1700000000000, 1700000000000), ('made-by-the-demo', 3, 0, 1700000000000, 1700000000000);"
	    "COMMIT;");
	change_end("topic created, 4 partitions", began);
}

static void delete_topic(struct demo_partition *p)
{
	struct demo_probe probe = {.kind = PROBE_VANISHES};
	uint64_t began;

	(void)snprintf(probe.topic, sizeof(probe.topic), "%s", shared->topic[p->topic].name);
	change_begin(&probe);
	began = demo_now_ns();
	sql("DELETE FROM topics WHERE name = '%s';", quoted(probe.topic));
	change_end("topic deleted", began);
}

/* ---- setting up --------------------------------------------------------------------------------------------------------------- */

static void make_work(void)
{
	static const char *const places[] = {"/dev/shm", "/tmp"};
	ssize_t n = readlink("/proc/self/exe", bin, sizeof(bin) - 1);
	char *slash;

	bin[n > 0 ? n : 0] = '\0';
	slash = strrchr(bin, '/');
	if (slash != NULL)
		*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		(void)snprintf(work, sizeof(work), "%s/shmeta-demo-XXXXXX", places[i]);
		if (mkdtemp(work) != NULL)
			return;
	}
	work[0] = '\0';
	give_up("no place for temporary files: %s", strerror(errno));
}

static uint64_t generate(void)
{
	char topics[16], partitions[16], segments[16], path[PATH_MAX + 16];
	char *argv[] = {(char *)"shmeta-gen",
	                (char *)"--topics",
	                topics,
	                (char *)"--partitions",
	                partitions,
	                (char *)"--segments",
	                segments,
	                (char *)"--seed",
	                (char *)"42",
	                path,
	                NULL};
	uint64_t began = demo_now_ns();
	struct stat st;
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)snprintf(topics, sizeof(topics), "%" PRIu32, size.topics);
	(void)snprintf(partitions, sizeof(partitions), "%" PRIu32, size.partitions);
	(void)snprintf(segments, sizeof(segments), "%" PRIu32, size.segments);
	(void)snprintf(path, sizeof(path), "%s/metadata.db", work);
	if (finish(start(argv, -1, fd, -1)) != 0)
		give_up("the generator failed");
	(void)close(fd);
	if (stat(path, &st) != 0)
		give_up("%s: %s", path, strerror(errno));
	fact("SQLite file", "%.1f MiB, written in %.1f s", (double)st.st_size / 1048576,
	     (double)(demo_now_ns() - began) / 1e9);
	return (uint64_t)st.st_size;
}

/* What the readers look up: every partition of the file. */
static void map_shared(void)
{
	char path[PATH_MAX + 16];
	sqlite3 *db = NULL;
	sqlite3_stmt *statement = NULL;
	uint32_t topics = 0, partitions = 0, last = UINT32_MAX;
	size_t bytes = sizeof(struct demo_shared) + sizeof(struct demo_topic) * (size.topics + 1) +
	               sizeof(struct demo_partition) * (size.partitions + 1);

	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		shared = NULL;
		give_up("mmap: %s", strerror(errno));
	}
	shared->topic = (struct demo_topic *)(shared + 1);
	shared->partition = (struct demo_partition *)(shared->topic + size.topics + 1);
	(void)snprintf(path, sizeof(path), "%s/metadata.db", work);
	(void)snprintf(shared->database, sizeof(shared->database), "%s", path);
	(void)snprintf(shared->instance, sizeof(shared->instance), "%s/instance", work);
	if (mkdir(shared->instance, 0755) != 0)
		give_up("%s: %s", shared->instance, strerror(errno));
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(
		    db, "SELECT topic, partition_id, high_watermark FROM partitions ORDER BY topic, partition_id", -1,
		    &statement, NULL) != SQLITE_OK)
		give_up("%s: %s", path, sqlite3_errmsg(db));
	while (sqlite3_step(statement) == SQLITE_ROW && partitions < size.partitions) {
		const char *name = (const char *)sqlite3_column_text(statement, 0);

		if (last == UINT32_MAX || strcmp(shared->topic[last].name, name) != 0) {
			if (topics == size.topics)
				break;
			last = topics++;
			(void)snprintf(shared->topic[last].name, NAME_BYTES, "%s", name);
		}
		shared->partition[partitions].topic = last;
		shared->partition[partitions].id = (uint32_t)sqlite3_column_int64(statement, 1);
		atomic_store(&shared->partition[partitions].high_watermark,
		             (uint64_t)sqlite3_column_int64(statement, 2));
		partitions++;
	}
	(void)sqlite3_finalize(statement);
	(void)sqlite3_close(db);
	if (partitions == 0)
		give_up("%s holds no partitions", path);
	shared->topic_count = topics;
	shared->partition_count = partitions;
}

static void start_readers(void)
{
	pid_t parent = getpid();

	(void)fflush(NULL);
	for (uint32_t i = 0; i < READERS; i++) {
		readers[i] = fork();
		if (readers[i] < 0)
			give_up("fork: %s", strerror(errno));
		if (readers[i] == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			demo_read(shared, i);
		}
	}
	for (int i = 0; i < READERS; i++)
		while (atomic_load(&shared->reader[i].ready) == 0) {
			reap_readers();
			pause_ms(1);
		}
}

/* ---- the table at the end ------------------------------------------------------------------------------------------------------ */

#define SUM(field)                                                      \
	({                                                              \
		uint64_t sum_ = 0;                                      \
		for (int i_ = 0; i_ < READERS; i_++)                    \
			sum_ += atomic_load(&shared->reader[i_].field); \
		sum_;                                                   \
	})

static uint64_t percentile(double part)
{
	uint64_t total = 0, seen = 0;

	for (int b = 0; b < BUCKETS; b++)
		total += SUM(histogram[b]);
	for (uint32_t b = 0; b < BUCKETS; b++) {
		seen += SUM(histogram[b]);
		if ((double)seen >= part * (double)total)
			return demo_bucket_ns(b + 1); /* the upper bound */
	}
	return 0;
}

static int by_ms(const void *a, const void *b)
{
	const struct change *x = a, *y = b;

	return x->ms < y->ms ? -1 : x->ms > y->ms;
}

/* The two that had to wait for something else, an idle poll or a start, are named; of the others the median and the slowest. */
static bool show_changes(void)
{
	struct change busy[CHANGES_MAX] = {{.ms = 0}};
	size_t n = 0, unseen = 0;
	char name[64];

	for (size_t i = 0; i < change_count; i++) {
		const struct change *c = &changes[i];

		if (c->ms < 0)
			unseen++;
		else if (strstr(c->what, "idling") != NULL || strstr(c->what, "in between") != NULL)
			fact(c->what, "visible after %.1f ms", c->ms);
		else
			busy[n++] = *c;
	}
	qsort(busy, n, sizeof(busy[0]), by_ms);
	(void)snprintf(name, sizeof(name), "the %zu other changes", n);
	if (n > 0)
		fact(name, "visible after %.1f ms (median), %.1f ms (slowest)", busy[n / 2].ms, busy[n - 1].ms);
	if (unseen > 0)
		fact("changes never seen", "%zu", unseen);
	return unseen == 0;
}

/* "name": digits, in JSON that shmetactl printed. */
static uint64_t json_number(const char *json, const char *name)
{
	char key[64];
	const char *at;

	(void)snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(json, key);
	return at != NULL ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Until the new writer's list of readers shows all of them again. */
static bool wait_until_registered(uint64_t from_ns)
{
	char text[16384];

	for (int i = 0; i < 100; i++) {
		text[0] = '\0';
		if (show((char *[]){(char *)"shmetactl", (char *)"--dir", shared->instance, (char *)"readers",
		                    (char *)"--json", NULL},
		         true, text, sizeof(text)) == 0 &&
		    json_number(text, "count") == READERS) {
			fact("all readers registered again", "%8.1f s", (double)(demo_now_ns() - from_ns) / 1e9);
			return true;
		}
		pause_ms(100);
	}
	fact("readers registered again", "not all of them");
	return false;
}

static char *ctl(const char *verb)
{
	return (char *)(uintptr_t)verb;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	uint64_t began = demo_now_ns(), at, epoch, seed = 42, read_from, before, used, file_bytes, busy_ns, by_sql,
		 rate;
	struct demo_partition *p, *busiest;
	char text[16384], partition[16], offset[24];
	bool held = true;
	int verified, status_dead;
	FILE *config;

	if (argc > 2 || (argc == 2 && strcmp(argv[1], "--small") != 0)) {
		(void)fputs("usage: shmeta-demo [--small]\n", stderr);
		return 2;
	}
	size = argc == 2 ? small : full;
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	terminal = isatty(STDOUT_FILENO) == 1;
	color = terminal && getenv("NO_COLOR") == NULL;

	make_work();
	(void)snprintf(text, sizeof(text), "%s/shmeta.conf", work);
	config = fopen(text, "we");
	if (config == NULL || fputs("log { level = notice }\n", config) < 0 || fclose(config) != 0)
		give_up("%s: %s", text, strerror(errno));

	(void)printf("%s\n", bold("shmeta: one SQLite database, one writer, four reading processes, no locks"));
	title("1  A database as a streaming platform writes it");
	fact("contents", "%s topics, %s partitions, %s segments", number(size.topics), number(size.partitions),
	     number(size.segments));
	file_bytes = generate();
	map_shared();
	by_sql = demo_measure_sql(shared, SQL_MS);
	check_interrupted();
	if (by_sql == 0)
		give_up("%s cannot be asked by SQL", shared->database);
	fact("a lookup by SQL", "%s/s in one process, with a prepared statement", number(by_sql));
	start_shell();
	sql(".timeout 5000\nPRAGMA foreign_keys = ON;");

	title("2  The writer copies it into shared memory");
	at = demo_now_ns();
	start_writer(true);
	epoch = wait_until_serving(0);
	fact("loaded and serving", "after %.1f s", (double)(demo_now_ns() - at) / 1e9);
	shmeta_close(look); /* before the readers are forked */
	look = NULL;

	title("3  Four processes look up as fast as they can, and compare a sample with SQL on the file");
	start_readers();
	read_from = demo_now_ns();
	pause_ms(SETTLE_MS);
	fact("the first 1.5 s", "%s lookups/s, all memory still being touched for the first time; %s answers compared",
	     number(SUM(lookups) * 1000000000u / (demo_now_ns() - read_from)), number(SUM(compared)));

	title("4  The sqlite3 program changes rows; how long until the last of the four has seen it");
	change_end("new segment, after idling", add_segments(pick(&seed), 1, true));
	change_end("new segment", add_segments(pick(&seed), 1, true));
	change_end("new segment", add_segments(pick(&seed), 1, true));
	change_end("1 000 new segments at once", add_segments(pick(&seed), 1000, true));
	move_watermark(pick(&seed));
	create_topic();
	delete_topic(pick(&seed));

	title("5  SIGKILL, and a new writer under the readers");
	p = pick(&seed);
	before = SUM(lookups);
	end_process(&writer, SIGKILL);
	at = demo_now_ns();
	pause_ms(DEAD_MS);
	fact("without a writer", "%s lookups in %.1f s, %s failed", number(SUM(lookups) - before),
	     (double)(demo_now_ns() - at) / 1e9, number(SUM(failed)));
	status_dead =
		show((char *[]){ctl("shmetactl"), ctl("--dir"), shared->instance, ctl("status"), NULL}, true, NULL, 0);
	/* A change that nobody can follow yet. */
	add_segments(p, 1, true);
	at = demo_now_ns();
	start_writer(false);
	(void)wait_until_serving(epoch);
	fact("killed and started again", "serving after %.0f ms", (double)(demo_now_ns() - at) / 1e6);
	change_end("segment added in between", at);
	change_end("new segment after that", add_segments(pick(&seed), 1, true));
	held = wait_until_registered(at);
	busy_ns = demo_now_ns() - read_from;

	title("6  What an operator sees (readers have counted since they registered with the new writer)");
	held = show((char *[]){ctl("shmetactl"), ctl("--dir"), shared->instance, ctl("status"), NULL}, false, NULL,
	            0) == 0 &&
	       held;
	busiest = p;
	(void)snprintf(partition, sizeof(partition), "%" PRIu32, busiest->id);
	(void)snprintf(offset, sizeof(offset), "%" PRIu64, atomic_load(&busiest->high_watermark) - 1);
	held = show((char *[]){ctl("shmetactl"), ctl("--dir"), shared->instance, ctl("find"),
	                       shared->topic[busiest->topic].name, partition, offset, NULL},
	            false, NULL, 0) == 0 &&
	       held;
	held = show((char *[]){ctl("shmetactl"), ctl("--dir"), shared->instance, ctl("readers"), NULL}, false, NULL,
	            0) == 0 &&
	       held;
	verified =
		show((char *[]){ctl("shmetactl"), ctl("--dir"), shared->instance, ctl("verify"), NULL}, false, NULL, 0);
	if (show((char *[]){ctl("shmetactl"), ctl("--dir"), shared->instance, ctl("store"), ctl("--json"), NULL}, true,
	         text, sizeof(text)) != 0)
		held = false;
	used = json_number(text, "used_bytes");

	/* The readers come to an end by themselves, so that what they free is freed. */
	atomic_store(&shared->stop, 1);
	for (int i = 0; i < READERS; i++) {
		pid_t pid = readers[i];

		readers[i] = 0;
		if (finish(pid) != 0)
			held = false;
	}
	shmeta_close(look);

	title("Result");
	rate = SUM(lookups) * 1000000000u / busy_ns;
	fact("lookups", "%s in 4 processes, %s/s", number(SUM(lookups)), number(rate));
	fact("the same by SQL", "%s/s in one process: 1 of the 4 does %.0f times as many here", number(by_sql),
	     (double)rate / READERS / (double)by_sql);
	fact("a lookup, p50 / p99", "%s / %s ns (sampled, with the clock that measures it)", number(percentile(0.50)),
	     number(percentile(0.99)));
	fact("compared with SQL", "%s answers", number(SUM(compared)));
	fact("wrong answers", "%s", number(SUM(wrong)));
	fact("failed reads", "%s", number(SUM(failed)));
	held = show_changes() && held;
	fact("store",
	     "%.1f MiB; shared among all segments, topics and partitions: %.1f bytes a segment (the file: %.1f)",
	     (double)used / 1048576, (double)used / size.segments, (double)file_bytes / size.segments);
	for (int i = 0; i < READERS; i++)
		if (shared->reader[i].first_trouble[0] != '\0')
			fact("first trouble", "reader %d: %s", i + 1, shared->reader[i].first_trouble);
	if (status_dead != 1)
		fact("status of a dead writer", "exit status %d instead of 1", status_dead);
	held = held && verified == 0 && status_dead == 1 && SUM(wrong) == 0 && SUM(failed) == 0 && SUM(compared) > 0;
	fact("took", "%.1f s", (double)(demo_now_ns() - began) / 1e9);
	(void)printf("\n%s\n", held ? bold("All checks passed.") : bold("Some checks failed."));
	(void)fflush(stdout);
	end_process(&writer, SIGTERM);
	clean_up();
	return held ? 0 : 1;
}
