/* SPDX-License-Identifier: Apache-2.0
 * Lines for the operator. */
#include "writer/daemon/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/escape.h"
#include "shm/page/board.h"
#include "writer/daemon/events.h"

enum { LINE_MAX_BYTES = 2048, EVENTS_MAX = 64 };
enum { WAITING_BYTES = 256 << 10, WAITING_AUDIT_BYTES = 4 << 20 };
#define ANYBODY UINT32_MAX /* an event that is nobody's */

struct limit {
	char event[32];
	uint32_t uid;
	uint64_t window_ns; /* when the window began */
	uint32_t told;
	uint64_t held;
};

enum line_kind { ORDINARY, AUDIT, DRAWING };

/* What is to be written, and waits while nobody reads. */
struct out_line {
	struct out_line *next;
	size_t bytes; /* of memory */
	int priority;
	enum line_kind kind;
	bool erases; /* the drawing on a terminal */
	char event[32];
	char text[];
};

static struct {
	pthread_mutex_t lock;
	FILE *stream;
	char instance[65];
	int level;
	enum { TO_PIPE, TO_TERMINAL, TO_JOURNAL } sink;
	bool progress_shown;
	void (*listener)(void *arg, int priority, const char *event, const char *line);
	void *listener_arg;
	uint64_t progress_at_ns, progress_done; /* of the last line that is no drawing; 0: no load
                                                 * is known */
	/* Users have a table of their own: however many there are, no other event loses its
	 * place. */
	struct limit limits[2][EVENTS_MAX];
	size_t limit_count[2];

	/* Of the thread that writes. Without it lines are written at once, by whoever has something
	 * to say. */
	pthread_t thread;
	pthread_cond_t more, ended;
	bool has_thread, ends, has_ended;
	struct out_line *first, **end;
	size_t waiting[2]; /* bytes, of ordinary lines and of the audit */
	uint64_t lost[2];  /* lines, that were not told of yet */
	uint64_t lost_ever;
	int write_error; /* why the newest of these could not be written; 0: nobody read */
	bool is_torn;    /* a line was written in part: of who writes alone */
} out = {.lock = PTHREAD_MUTEX_INITIALIZER,
         .level = LOG_INFO,
         .more = PTHREAD_COND_INITIALIZER,
         .ended = PTHREAD_COND_INITIALIZER};

static const struct {
	const char *name;
	int level;
} levels[] = {
	{"err", LOG_ERR}, {"warning", LOG_WARNING}, {"notice", LOG_NOTICE}, {"info", LOG_INFO}, {"debug", LOG_DEBUG},
};

int log_level_parse(const char *word)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		if (strcmp(levels[i].name, word) == 0)
			return levels[i].level;
	return -1;
}

const char *log_level_name(int level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		if (levels[i].level == level)
			return levels[i].name;
	return "?";
}

/* The journal names the device and inode of the stream that it reads; a redirected stderr inherits
 * the variable but not them. */
static bool is_journal(int fd)
{
	const char *named = getenv("JOURNAL_STREAM");
	uint64_t dev, ino;
	struct stat st;
	char *end;

	if (named == NULL || fstat(fd, &st) < 0)
		return false;
	dev = strtoull(named, &end, 10);
	if (*end != ':')
		return false;
	ino = strtoull(end + 1, &end, 10);
	return *end == '\0' && st.st_dev == (dev_t)dev && st.st_ino == (ino_t)ino;
}

void log_open(FILE *stream, const char *instance, int level)
{
	int fd = fileno(stream);

	pthread_mutex_lock(&out.lock);
	out.stream = stream;
	snprintf(out.instance, sizeof(out.instance), "%s", instance);
	out.level = level;
	out.sink = is_journal(fd) ? TO_JOURNAL : isatty(fd) ? TO_TERMINAL : TO_PIPE;
	pthread_mutex_unlock(&out.lock);
}

void log_set_level(int level)
{
	pthread_mutex_lock(&out.lock);
	out.level = level;
	pthread_mutex_unlock(&out.lock);
}

void log_listen(void (*line)(void *arg, int priority, const char *event, const char *line), void *arg)
{
	pthread_mutex_lock(&out.lock);
	out.listener = line;
	out.listener_arg = arg;
	pthread_mutex_unlock(&out.lock);
}

/* To the stream; by the thread without stdio, whose locks a stuck write would hold when the process
 * ends. false: it could not be written, errno. */
static bool emit(const char *bytes, size_t count)
{
	FILE *stream = out.stream != NULL ? out.stream : stderr;
	int fd = fileno(stream);

	if (!out.has_thread)
		return fwrite(bytes, 1, count, stream) == count && fflush(stream) == 0;
	while (count > 0) {
		ssize_t wrote = write(fd, bytes, count);

		if (wrote > 0) {
			bytes += wrote;
			count -= (size_t)wrote;
			out.is_torn = count > 0;
		} else if (wrote < 0 && errno == EAGAIN) {
			(void)poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		} else if (wrote == 0 || errno != EINTR) {
			return false;
		}
	}
	return true;
}

static bool write_out(const struct out_line *line)
{
	const struct event *known = event_find(line->event);
	char text[LINE_MAX_BYTES + 64];
	int length = 0;

	/* What a full file system took of the line before is no part of this one. */
	if (out.is_torn && !emit("\n", 1))
		return false;
	if (line->kind == DRAWING)
		return emit(line->text, strlen(line->text));
	switch (out.sink) {
	case TO_JOURNAL:
		if (sd_journal_send("MESSAGE=%s", line->text, "PRIORITY=%i", line->priority,
		                    "SYSLOG_IDENTIFIER=shmetad", "SHMETA_EVENT=%s", line->event, "SHMETA_INSTANCE=%s",
		                    out.instance, known != NULL ? "MESSAGE_ID=%s" : NULL,
		                    known != NULL ? known->id : NULL, NULL) >= 0)
			return true;
		/* Its socket may be away; the stream is what this process was started with. */
		__attribute__((fallthrough));
	case TO_PIPE:
		length = snprintf(text, sizeof(text), "<%d>%s: %s\n", line->priority, line->event, line->text);
		break;
	case TO_TERMINAL:
		length = snprintf(text, sizeof(text), "%sshmetad: %s\n", line->erases ? "\r\033[K" : "", line->text);
		break;
	}
	return emit(text, (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1);
}

static struct out_line *line_new(enum line_kind kind, int priority, const char *event, const char *text)
{
	size_t length = strlen(text) + 1;
	struct out_line *line = malloc(sizeof(*line) + length);

	if (line == NULL)
		return NULL;
	line->next = NULL;
	line->bytes = sizeof(*line) + length;
	line->priority = priority;
	line->kind = kind;
	line->erases = kind != DRAWING && out.progress_shown;
	snprintf(line->event, sizeof(line->event), "%s", event);
	memcpy(line->text, text, length);
	return line;
}

static void append(struct out_line *line)
{
	out.waiting[line->kind == AUDIT] += line->bytes;
	*out.end = line;
	out.end = &line->next;
	(void)pthread_cond_signal(&out.more);
}

/* Under the lock. Told to the listener, which is another place than the log. error 0: nobody
 * reads. */
static void lose(enum line_kind kind, int error)
{
	char text[200];

	if (out.lost[0] + out.lost[1] == 0 && out.listener != NULL) {
		snprintf(text, sizeof(text), "lines of the log are being lost: %s%s",
		         error == 0 ? "nobody reads them" : "standard error cannot be written: ",
		         error == 0 ? "" : strerror(error));
		out.listener(out.listener_arg, LOG_ERR, "log_lost", text);
	}
	out.write_error = error;
	out.lost[kind == AUDIT]++;
	out.lost_ever++;
}

static void put(enum line_kind kind, int priority, const char *event, const char *text)
{
	static const size_t most[2] = {WAITING_BYTES, WAITING_AUDIT_BYTES};
	struct out_line *line = line_new(kind, priority, event, text);

	if (line != NULL && !out.has_thread) {
		(void)write_out(line);
		free(line);
	} else if (line != NULL && out.waiting[kind == AUDIT] + line->bytes <= most[kind == AUDIT]) {
		append(line);
	} else {
		free(line);
		if (kind != DRAWING)
			lose(kind, 0);
	}
}

static void write_line_of(enum line_kind kind, int priority, const char *event, const char *line)
{
	if (out.listener != NULL)
		out.listener(out.listener_arg, priority, event, line);
	put(kind, priority, event, line);
	out.progress_shown = false;
}

static void write_line(int priority, const char *event, const char *line)
{
	write_line_of(ORDINARY, priority, event, line);
}

/* It can be written again. */
static void tell_lost(void)
{
	struct out_line *line;
	char text[200];

	snprintf(text, sizeof(text), "%" PRIu64 " lines of the log were lost, %" PRIu64 " of them of the audit: %s%s",
	         out.lost[0] + out.lost[1], out.lost[1],
	         out.write_error == 0 ? "nobody had read what waited" : "standard error could not be written: ",
	         out.write_error == 0 ? "" : strerror(out.write_error));
	line = line_new(ORDINARY, LOG_ERR, "log_lost", text);
	if (line == NULL)
		return;
	out.lost[0] = out.lost[1] = 0;
	if (out.listener != NULL)
		out.listener(out.listener_arg, LOG_ERR, "log_lost", text);
	append(line);
}

static void *write_waiting(void *arg)
{
	struct out_line *line;
	bool written;
	int error;

	pthread_mutex_lock(&out.lock);
	for (;;) {
		while (out.first == NULL && !out.ends)
			(void)pthread_cond_wait(&out.more, &out.lock);
		line = out.first;
		if (line == NULL)
			break;
		out.first = line->next;
		if (out.first == NULL)
			out.end = &out.first;
		pthread_mutex_unlock(&out.lock);
		written = write_out(line);
		error = errno;
		pthread_mutex_lock(&out.lock);
		out.waiting[line->kind == AUDIT] -= line->bytes;
		if (!written && line->kind != DRAWING)
			lose(line->kind, error);
		free(line);
		if (written && out.lost[0] + out.lost[1] > 0 && out.waiting[0] < WAITING_BYTES / 2)
			tell_lost();
	}
	out.has_ended = true;
	(void)pthread_cond_signal(&out.ended);
	pthread_mutex_unlock(&out.lock);
	return arg;
}

bool log_start(void)
{
	sigset_t all, before;

	pthread_mutex_lock(&out.lock);
	out.end = &out.first;
	out.ends = out.has_ended = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	out.has_thread = pthread_create(&out.thread, NULL, write_waiting, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_mutex_unlock(&out.lock);
	return out.has_thread;
}

void log_stop(uint64_t most_ms)
{
	struct timespec until;

	if (!out.has_thread)
		return;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(most_ms / 1000);
	pthread_mutex_lock(&out.lock);
	out.ends = true;
	(void)pthread_cond_signal(&out.more);
	while (!out.has_ended && pthread_cond_clockwait(&out.ended, &out.lock, CLOCK_MONOTONIC, &until) == 0)
		continue;
	pthread_mutex_unlock(&out.lock);
	/* Otherwise it is stuck in a write, and ends with the process. */
	if (out.has_ended) {
		(void)pthread_join(out.thread, NULL);
		out.has_thread = false;
	}
}

uint64_t log_lost(void)
{
	uint64_t lost;

	pthread_mutex_lock(&out.lock);
	lost = out.lost_ever;
	pthread_mutex_unlock(&out.lock);
	return lost;
}

static void tell_held(struct limit *limit)
{
	char line[LINE_MAX_BYTES], whose[32] = "";

	if (limit->held == 0)
		return;
	if (limit->uid != ANYBODY)
		snprintf(whose, sizeof(whose), " by user %u", limit->uid);
	snprintf(line, sizeof(line),
	         "%" PRIu64 " more messages of the event '%s'%s were held back (suppressed=%" PRIu64 ")", limit->held,
	         limit->event, whose, limit->held);
	limit->held = 0;
	write_line(LOG_NOTICE, limit->event, line);
}

static bool is_over(const struct limit *limit, uint64_t now)
{
	return now - limit->window_ns >= LOG_WINDOW_S * UINT64_C(1000000000);
}

static struct limit *limit_of(const char *event, uint32_t uid, uint64_t now)
{
	struct limit *table = out.limits[uid != ANYBODY], *limit = NULL;
	size_t *count = &out.limit_count[uid != ANYBODY];

	for (size_t i = 0; i < *count; i++)
		if (table[i].uid == uid && strncmp(table[i].event, event, sizeof(table[i].event) - 1) == 0)
			return &table[i];
	if (*count < EVENTS_MAX)
		limit = &table[(*count)++];
	for (size_t i = 0; limit == NULL && uid != ANYBODY && i < EVENTS_MAX; i++)
		if (is_over(&table[i], now))
			limit = &table[i];
	/* More than the table holds share its last entry, so that no flood goes unlimited. */
	if (limit == NULL)
		return &table[EVENTS_MAX - 1];
	tell_held(limit);
	*limit = (struct limit){.uid = uid, .window_ns = now};
	snprintf(limit->event, sizeof(limit->event), "%s", event);
	return limit;
}

static bool may_tell(const char *event, uint32_t uid)
{
	uint64_t now = shmeta__boottime_ns();
	struct limit *limit = limit_of(event, uid, now);

	if (is_over(limit, now)) {
		tell_held(limit);
		limit->window_ns = now;
		limit->told = 0;
	}
	if (limit->told >= LOG_BURST) {
		limit->held++;
		return false;
	}
	limit->told++;
	return true;
}

__attribute__((format(printf, 4, 0))) static void tell(int priority, const char *event, uint32_t uid, const char *fmt,
                                                       va_list args)
{
	char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
	int saved = errno;

	shmeta__vsay(text, sizeof(text), fmt, args);
	pthread_mutex_lock(&out.lock);
	if (priority <= out.level && may_tell(event, uid))
		write_line(priority, event, shmeta__escape_line(line, sizeof(line), text));
	pthread_mutex_unlock(&out.lock);
	errno = saved;
}

void log_event(int priority, const char *event, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tell(priority, event, ANYBODY, fmt, args);
	va_end(args);
}

void log_event_by(uint32_t uid, int priority, const char *event, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	tell(priority, event, uid, fmt, args);
	va_end(args);
}

void log_unlimited(int priority, const char *event, const char *sentence)
{
	char line[LINE_MAX_BYTES];

	pthread_mutex_lock(&out.lock);
	if (priority <= out.level)
		write_line(priority, event, shmeta__escape_line(line, sizeof(line), sentence));
	pthread_mutex_unlock(&out.lock);
}

void log_audit(const char *sentence)
{
	char line[LINE_MAX_BYTES];

	pthread_mutex_lock(&out.lock);
	write_line_of(AUDIT, LOG_NOTICE, "audit", shmeta__escape_line(line, sizeof(line), sentence));
	pthread_mutex_unlock(&out.lock);
}

void log_flush_held(uint64_t now_ns)
{
	pthread_mutex_lock(&out.lock);
	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; i < out.limit_count[k]; i++) {
			struct limit *limit = &out.limits[k][i];

			if (limit->held > 0 && is_over(limit, now_ns)) {
				tell_held(limit);
				limit->window_ns = now_ns;
				limit->told = 0;
			}
		}
	pthread_mutex_unlock(&out.lock);
}

void log_progress(uint64_t done, uint64_t total, uint64_t now_ns)
{
	char line[120], drawing[sizeof(line) + 8];

	if (total > 0)
		snprintf(line, sizeof(line), "loading: %" PRIu64 " of %" PRIu64 " rows (%u%%)", done, total,
		         (unsigned)(done >= total ? 100 : done * 100 / total));
	else
		snprintf(line, sizeof(line), "loading: %" PRIu64 " rows", done);
	pthread_mutex_lock(&out.lock);
	if (out.sink == TO_TERMINAL && out.level >= LOG_NOTICE) {
		snprintf(drawing, sizeof(drawing), "\r\033[K%s", line);
		put(DRAWING, LOG_INFO, "", drawing);
		out.progress_shown = true;
	} else if (out.sink != TO_TERMINAL && out.level >= LOG_INFO) {
		/* A short load is told when it is over. A new one begins with fewer rows. */
		if (out.progress_at_ns == 0 || done < out.progress_done)
			out.progress_at_ns = now_ns;
		else if (now_ns - out.progress_at_ns >= LOG_PROGRESS_S * UINT64_C(1000000000)) {
			out.progress_at_ns = now_ns;
			write_line(LOG_INFO, "loading", line);
		}
		out.progress_done = done;
	}
	pthread_mutex_unlock(&out.lock);
}

void log_progress_end(void)
{
	pthread_mutex_lock(&out.lock);
	out.progress_at_ns = 0;
	if (out.progress_shown) {
		put(DRAWING, LOG_INFO, "", "\r\033[K");
		out.progress_shown = false;
	}
	pthread_mutex_unlock(&out.lock);
}
