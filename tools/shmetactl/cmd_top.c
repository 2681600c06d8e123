/* SPDX-License-Identifier: Apache-2.0
 * top: a live view of an instance, from its pages alone. It ends with its terminal, follows its
 * size, and shows a writer that died, or one that was started again, as what it is. */
#include <curses.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/escape.h"
#include "shm/page/histogram.h"
#include "tools/monitor/metrics.h"
#include "tools/shmetactl/inspect.h"

enum { SAMPLES = 1000, USUAL_MS = 1000, MOST_MS = 60000, LINE_BYTES = 2048, HEAD_LINES = 5, FOOT_LINES = 2 };

enum view { VIEW_CLASSES, VIEW_COUNTERS, VIEW_READERS, VIEW_LOOKUPS, VIEW_HEALTH, VIEW_HELP };

/* What readers had counted at a moment. */
struct sample {
	uint64_t at_ns, epoch, found, absent, unknown, stale, errors;
};

struct top {
	struct tool *tool;
	struct pages pages;
	struct health health;
	bool readable;
	char trouble[512]; /* why not */
	enum view view;
	size_t selected, first; /* row of the view, and the first that is shown */
	bool hide_zero;
	uint32_t every_ms;
	struct sample sample[SAMPLES]; /* a ring */
	uint64_t samples;              /* ever taken */
	/* Of each row of metrics: as it was in the round before, and what happened a second
	 * since. */
	uint64_t *before;
	double *rate;
	uint64_t before_ns, before_epoch;
};

static volatile sig_atomic_t over;

static void on_signal(int signo)
{
	(void)signo;
	over = 1;
}

/* ---- looking ---- */

static const struct sample *back(const struct top *t, uint64_t n)
{
	uint64_t most = t->samples < SAMPLES ? t->samples : SAMPLES;

	if (most == 0)
		return NULL;
	return &t->sample[(t->samples - 1 - (n < most ? n : most - 1)) % SAMPLES];
}

static void take_sample(struct top *t)
{
	const struct shmeta_reader_counters *c = &t->pages.stats->all_readers;
	struct sample s = {t->pages.now_ns, t->pages.board.epoch, c->found, c->absent, c->unknown, c->stale, c->errors};

	/* Another writer counts from zero. */
	if (t->samples > 0 && back(t, 0)->epoch != s.epoch)
		t->samples = 0;
	t->sample[t->samples++ % SAMPLES] = s;
}

static void take_rates(struct top *t)
{
	struct metric_view view = {
		.instance = t->tool->instance, .readable = true, .pages = &t->pages, .health = &t->health};
	struct metric_value values[METRIC_VALUES];
	double seconds = (double)(t->pages.now_ns - t->before_ns) / 1e9;
	bool anew = t->before_ns == 0 || t->before_epoch != t->pages.board.epoch;

	for (size_t i = 0; i < metric_count(); i++) {
		size_t n = metric_read(metric_row(i), &view, values);
		uint64_t value = n == 1 ? values[0].value : 0;

		t->rate[i] =
			anew || seconds <= 0 || value < t->before[i] ? 0 : (double)(value - t->before[i]) / seconds;
		t->before[i] = value;
	}
	t->before_ns = t->pages.now_ns;
	t->before_epoch = t->pages.board.epoch;
}

static void look(struct top *t)
{
	struct shmeta_err err = {0};
	char name[PAGES_NAME_BYTES];

	pages_close(&t->pages);
	t->readable = pages_read(t->tool->dir, &t->pages, name, &err) == SHMETA_OK;
	if (!t->readable) {
		(void)snprintf(t->trouble, sizeof(t->trouble), "%s", err.text);
		return;
	}
	tool_health(t->tool, &t->pages, &t->health);
	if (t->pages.stats != NULL)
		take_sample(t);
	take_rates(t);
}

/* ---- drawing ---- */

/* One line, cut at the width of the terminal, in ASCII. */
__attribute__((format(printf, 3, 4))) static void put(int row, int attributes, const char *fmt, ...)
{
	char line[LINE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (char *c = line; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
			*c = '?';
	(void)attrset(attributes);
	(void)mvaddnstr(row, 0, line, COLS);
	(void)attrset(A_NORMAL);
}

static int paint(enum health_severity severity)
{
	if (!has_colors())
		return severity == HEALTH_OK ? A_NORMAL : A_BOLD;
	return COLOR_PAIR(severity == HEALTH_OK         ? 1
	                  : severity == HEALTH_CRITICAL ? 3
	                                                : 2) |
	       (severity == HEALTH_OK ? A_NORMAL : A_BOLD);
}

/* The share of answers that were no UNKNOWN and no error, over the last n samples; negative: there
 * were none. */
static double hit_share(const struct top *t, uint64_t n)
{
	const struct sample *now = back(t, 0), *then = back(t, n);
	uint64_t good, bad;

	if (now == NULL || now == then)
		return -1;
	good = now->found + now->absent - then->found - then->absent;
	bad = now->unknown + now->errors - then->unknown - then->errors;
	return good + bad > 0 ? 100.0 * (double)good / (double)(good + bad) : -1;
}

static const char *share_text(double share, char ret[16])
{
	if (share < 0)
		(void)snprintf(ret, 16, "-");
	else
		(void)snprintf(ret, 16, "%.2f%%", share);
	return ret;
}

static double per_second(const struct top *t, uint64_t now, uint64_t then)
{
	const struct sample *a = back(t, 0), *b = back(t, 1);
	double seconds = a != NULL && a != b ? (double)(a->at_ns - b->at_ns) / 1e9 : 0;

	return seconds > 0 ? (double)(now - then) / seconds : 0;
}

static void draw_head(const struct top *t)
{
	const struct pages *p = &t->pages;
	const struct sample *now = back(t, 0), *then = back(t, 1);
	uint64_t age = 0, lag = 0, used = pages_counter(p, SHMETA_COUNTER_store_used), limit = p->generation.max_bytes,
		 size, room = 0;
	char a[16], b[16], c[16], bar[21], text[2 * SHMETA_STATS_TEXT], version[24];
	int full;

	put(0, A_BOLD, "shmeta %s  %s  up %s  phase %s  commit %s of generation %" PRIu64,
	    pages_version(p->board.writer_version, version), t->tool->instance,
	    out_ns(pages_since(p->now_ns, p->board.started_at_ns)), pages_phase(p->board.phase),
	    out_count(p->generation.committed), p->board.generation);
	if (!p->alive) {
		put(1, paint(HEALTH_CRITICAL), "the writer is %s, last heartbeat %s ago: this is what it left",
		    pages_writer(p), p->same_boot ? out_ns(pages_since(p->now_ns, p->board.heartbeat_ns)) : "a boot");
	} else {
		size_t n = (size_t)snprintf(text, sizeof(text), "health %s", health_word(t->health.worst));
		const char *before = ": ";

		for (int severity = HEALTH_CRITICAL; severity > HEALTH_OK; severity--)
			for (int i = 0; i < HEALTH_CHECK_COUNT; i++)
				if ((int)t->health.finding[i].severity == severity) {
					n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", before,
					                      health_name((enum health_check)i));
					before = ", ";
				}
		put(1, paint(t->health.worst), "%s", text);
	}
	if (now != NULL)
		put(2, A_NORMAL,
		    "answered n=10 %s  n=100 %s  n=1000 %s   lookups %.0f/s  absent %.0f/s  stale %.0f/s  unknown %.0f/s",
		    share_text(hit_share(t, 10), a), share_text(hit_share(t, 100), b),
		    share_text(hit_share(t, 1000), c),
		    per_second(t, now->found + now->absent + now->unknown + now->errors,
		               then->found + then->absent + then->unknown + then->errors),
		    per_second(t, now->absent, then->absent), per_second(t, now->stale, then->stale),
		    per_second(t, now->unknown, then->unknown));
	else
		put(2, paint(HEALTH_WARNING), "nothing is counted: %s", p->stats_error.text);
	full = limit > 0 && used != UINT64_MAX ? (int)(20 * used / limit) : 0;
	memset(bar, '.', 20);
	memset(bar, '#', (size_t)(full < 20 ? full : 20));
	bar[20] = '\0';
	(void)health_free_bytes(p, &room, &size);
	put(3, A_NORMAL,
	    "store [%s] %s of %s  tmpfs free %s   readers %" PRIu32 ", %" PRIu32 " hold a snapshot (oldest %s)", bar,
	    used != UINT64_MAX ? out_size(used) : "?", out_size(limit), out_size(room),
	    p->stats != NULL ? p->stats->readers_total : 0, health_pins(p, &age, &lag), out_ns(age));
	text[0] = '\0';
	if (p->stats != NULL)
		(void)shmeta__escape(text, sizeof(text), p->stats->source_status,
		                     strnlen(p->stats->source_status, sizeof(p->stats->source_status)));
	put(4, A_NORMAL, "queue %" PRIu64 " keys  feed %s behind   source %s",
	    p->stats != NULL ? pages_counter(p, SHMETA_COUNTER_queue_depth) : 0,
	    out_ns(pages_counter(p, SHMETA_COUNTER_lag_ns)), text);
}

/* Rows of the view that fit, and which of them comes first. */
static int body_rows(void)
{
	int rows = LINES - HEAD_LINES - FOOT_LINES - 2;

	return rows > 0 ? rows : 0;
}

static void scroll_to(struct top *t, size_t rows)
{
	size_t fit = (size_t)body_rows();

	if (rows == 0)
		t->selected = 0;
	else if (t->selected >= rows)
		t->selected = rows - 1;
	if (t->selected < t->first)
		t->first = t->selected;
	if (fit > 0 && t->selected >= t->first + fit)
		t->first = t->selected - fit + 1;
}

/* Where the i-th row of the view stands; false: it is not on the screen. */
static bool place_of(const struct top *t, size_t i, int *ret_row)
{
	if (i < t->first || i >= t->first + (size_t)body_rows())
		return false;
	*ret_row = HEAD_LINES + 2 + (int)(i - t->first);
	return true;
}

static int mark(const struct top *t, size_t i)
{
	return i == t->selected ? (int)A_REVERSE : (int)A_NORMAL;
}

static void draw_classes(struct top *t)
{
	const struct pages *p = &t->pages;
	int row;

	scroll_to(t, SHMETA_CLASS_COUNT);
	put(HEAD_LINES + 1, A_UNDERLINE, "%-10s %8s %12s %12s %12s %14s", "class", "state", "verified", "ttl", "due in",
	    "changed by");
	for (size_t i = 0; i < SHMETA_CLASS_COUNT; i++) {
		const struct shmeta_stamp *s = &p->generation.stamp[i];
		uint64_t age = pages_since(p->now_ns, s->synced_at_ns);
		bool fresh = age < s->ttl_ns;

		if (place_of(t, i, &row))
			put(row, fresh ? mark(t, i) : mark(t, i) | paint(HEALTH_WARNING),
			    "%-10s %8s %12s %12s %12s %14s", pages_class((enum shmeta_class)i),
			    fresh ? "fresh" : "stale", out_ns(age), out_ns(s->ttl_ns),
			    out_ns(fresh ? s->ttl_ns - age : 0), out_count(s->changed_txn));
	}
	put(LINES - FOOT_LINES, A_DIM,
	    "verified: how long ago all of the class agreed with the source; changed by: the last commit that changed it");
}

static void draw_counters(struct top *t)
{
	size_t rows = 0, chosen = 0;
	int row;

	/* Which rows there are depends on what is hidden, so they are numbered twice. */
	for (size_t i = 0; i < metric_count(); i++)
		rows += metric_row(i)->label == NULL && !metric_is_histogram(metric_row(i)) &&
		        (!t->hide_zero || t->before[i] != 0);
	scroll_to(t, rows);
	put(HEAD_LINES + 1, A_UNDERLINE, "%-28s %22s %14s  %s", "counter", "value", "per second", "unit");
	rows = 0;
	for (size_t i = 0; i < metric_count(); i++) {
		const struct metric *m = metric_row(i);

		if (m->label != NULL || metric_is_histogram(m) || (t->hide_zero && t->before[i] == 0))
			continue;
		if (rows == t->selected)
			chosen = i;
		if (place_of(t, rows, &row)) {
			if (m->kind == METRIC_COUNTER)
				put(row, mark(t, rows), "%-28s %22s %14.1f  %s", m->key, out_count(t->before[i]),
				    t->rate[i], m->unit);
			else
				put(row, mark(t, rows), "%-28s %22s %14s  %s", m->key, out_count(t->before[i]), "",
				    m->unit);
		}
		rows++;
	}
	put(LINES - FOOT_LINES, A_DIM, "%s: %s", metric_row(chosen)->key, metric_row(chosen)->help);
}

static void draw_readers(struct top *t)
{
	const struct shmeta_stats *st = t->pages.stats;
	size_t rows = st == NULL                                ? 0
	              : st->reader_count < SHMETA_STATS_READERS ? st->reader_count
	                                                        : SHMETA_STATS_READERS;
	int row;

	scroll_to(t, rows);
	put(HEAD_LINES + 1, A_UNDERLINE, "%10s %8s %-20s %12s %12s %10s %14s", "pid", "uid", "agent", "connected",
	    "pin age", "behind", "lookups");
	for (size_t i = 0; i < rows; i++) {
		const struct shmeta_stats_reader *r = &st->reader[i];
		char name[4 * sizeof(r->name) + 1];

		if (!place_of(t, i, &row))
			continue;
		(void)shmeta__escape(name, sizeof(name), r->name, strnlen(r->name, sizeof(r->name)));
		put(row, mark(t, i), "%10" PRIu64 " %8" PRIu32 " %-20.20s %12s %12s %10s %14s", r->pid, r->uid, name,
		    out_ns(pages_since(t->pages.now_ns, r->connected_at_ns)),
		    r->oldest_pin != 0 ? out_ns(r->pin_age_ns) : "-", r->oldest_pin != 0 ? out_count(r->pin_lag) : "-",
		    out_count(r->counters.found + r->counters.absent + r->counters.unknown));
	}
	put(LINES - FOOT_LINES, A_DIM,
	    "pin age: since the commit after the oldest snapshot that the process holds; behind: commits since");
}

static void draw_lookups(struct top *t)
{
	const struct shmeta_stats *st = t->pages.stats;
	uint64_t most = 1;
	size_t rows = 0;
	int row, width = COLS - 40;

	for (uint32_t i = 0; st != NULL && i < SHMETA_HISTOGRAM_BUCKETS; i++)
		most = st->lookups_ns[i] > most ? st->lookups_ns[i] : most;
	for (uint32_t i = 0; st != NULL && i < SHMETA_HISTOGRAM_BUCKETS; i++)
		rows += st->lookups_ns[i] > 0;
	scroll_to(t, rows);
	put(HEAD_LINES + 1, A_UNDERLINE, "%14s %18s  sampled lookups, on a logarithmic scale", "from", "lookups");
	rows = 0;
	for (uint32_t i = 0; st != NULL && i < SHMETA_HISTOGRAM_BUCKETS; i++) {
		char bar[LINE_BYTES / 4];
		double part = log2(1 + (double)st->lookups_ns[i]) / log2(1 + (double)most);
		int n = width > 0 ? (int)(part * width) : 0;

		if (st->lookups_ns[i] == 0)
			continue;
		n = n < (int)sizeof(bar) - 1 ? n : (int)sizeof(bar) - 1;
		memset(bar, '|', (size_t)n);
		bar[n] = '\0';
		if (place_of(t, rows, &row))
			put(row, mark(t, rows), "%14s %18s  %s", out_ns(shmeta__histogram_floor(i)),
			    out_count(st->lookups_ns[i]), bar);
		rows++;
	}
	put(LINES - FOOT_LINES, A_DIM, "how long sampled lookups of all readers took since the writer started");
}

static void draw_health(struct top *t)
{
	size_t rows = 0, chosen = 0;
	int row;

	scroll_to(t, HEALTH_CHECK_COUNT);
	put(HEAD_LINES + 1, A_UNDERLINE, "%-9s %-11s %s", "status", "check", "value");
	for (int severity = HEALTH_CRITICAL; severity >= HEALTH_OK; severity--)
		for (size_t i = 0; i < HEALTH_CHECK_COUNT; i++) {
			const struct health_finding *f = &t->health.finding[i];

			if ((int)f->severity != severity)
				continue;
			if (rows == t->selected)
				chosen = i;
			if (place_of(t, rows, &row))
				put(row, mark(t, rows) | paint(f->severity), "%-9s %-11s %s", health_word(f->severity),
				    health_name((enum health_check)i), f->value);
			rows++;
		}
	put(LINES - FOOT_LINES, A_DIM, "%s%s%s", t->health.finding[chosen].advice,
	    t->health.finding[chosen].command[0] != '\0' ? "  $ " : health_thresholds((enum health_check)chosen),
	    t->health.finding[chosen].command);
}

static void draw_help(void)
{
	static const char *const lines[] = {
		"1 classes   2 counters   3 readers   4 lookups   5 health   h this help",
		"j, down / k, up   the next row, the one before; its meaning is in the line below",
		"d   hide counters that are zero, or show them again",
		"+ / -   look twice, or half, as often",
		"q   quit",
		"",
		"Everything is read from shared memory: a writer that is stopped or dead is shown as that,",
		"and one that starts again is followed.",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]) && (int)i < body_rows() + 1; i++)
		put(HEAD_LINES + 1 + (int)i, A_NORMAL, "%s", lines[i]);
}

static void draw(struct top *t)
{
	(void)erase();
	if (!t->readable) {
		put(0, paint(HEALTH_CRITICAL), "%s: %s", t->tool->dir, t->trouble);
		put(1, A_NORMAL, "waiting for a writer; q quits");
	} else {
		draw_head(t);
		if (t->view == VIEW_CLASSES)
			draw_classes(t);
		else if (t->view == VIEW_COUNTERS)
			draw_counters(t);
		else if (t->view == VIEW_READERS)
			draw_readers(t);
		else if (t->view == VIEW_LOOKUPS)
			draw_lookups(t);
		else if (t->view == VIEW_HEALTH)
			draw_health(t);
		else
			draw_help();
	}
	put(LINES - 1, A_REVERSE,
	    "1 classes  2 counters  3 readers  4 lookups  5 health  h help  d zeros  +/- every %s  q quit",
	    out_ns(t->every_ms * UINT64_C(1000000)));
	(void)refresh();
}

/* ---- keys ---- */

static void choose(struct top *t, enum view view)
{
	t->view = view;
	t->selected = t->first = 0;
}

static void on_key(struct top *t, int key)
{
	if (key >= '1' && key <= '5')
		choose(t, (enum view)(key - '1'));
	else if (key == 'h' || key == '?')
		choose(t, VIEW_HELP);
	else if (key == 'q')
		over = 1;
	else if (key == 'd')
		t->hide_zero = !t->hide_zero;
	else if (key == 'j' || key == KEY_DOWN)
		t->selected++;
	else if ((key == 'k' || key == KEY_UP) && t->selected > 0)
		t->selected--;
	else if (key == '+' && t->every_ms > 200)
		t->every_ms /= 2;
	else if (key == '-' && t->every_ms < MOST_MS)
		t->every_ms *= 2;
}

/* Keys until it is time to look again. A terminal that is gone answers every wait at once: that is
 * the end. */
static void wait_for_keys(struct top *t, uint64_t until_ns)
{
	while (!over) {
		uint64_t now = tool_monotonic_ns();
		struct pollfd terminal = {.fd = STDIN_FILENO, .events = POLLIN};
		int ready, key;

		if (now >= until_ns)
			return;
		ready = poll(&terminal, 1, (int)((until_ns - now) / 1000000u) + 1);
		if ((ready < 0 && errno != EINTR) || (ready > 0 && (terminal.revents & POLLIN) == 0)) {
			over = 1;
			return;
		}
		/* also after a signal: the new size of the terminal comes as a key */
		key = getch();
		if (ready > 0 && key == ERR) {
			over = 1;
			return;
		}
		if (key == ERR)
			continue;
		while (key != ERR) {
			on_key(t, key);
			key = getch();
		}
		draw(t);
	}
}

static bool start_screen(void)
{
	struct sigaction end = {.sa_handler = on_signal};
	SCREEN *screen = newterm(NULL, stdout, stdin);

	if (screen == NULL)
		return false;
	(void)set_term(screen);
	(void)sigaction(SIGHUP, &end, NULL);
	(void)sigaction(SIGTERM, &end, NULL);
	(void)sigaction(SIGINT, &end, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)cbreak();
	(void)noecho();
	(void)nodelay(stdscr, TRUE);
	(void)keypad(stdscr, TRUE);
	(void)curs_set(0);
	if (has_colors()) {
		(void)start_color();
		(void)use_default_colors();
		(void)init_pair(1, COLOR_GREEN, -1);
		(void)init_pair(2, COLOR_YELLOW, -1);
		(void)init_pair(3, COLOR_RED, -1);
	}
	return true;
}

int verb_top(struct tool *tool)
{
	struct top t = {
		.tool = tool, .pages = {.dir_fd = -1}, .every_ms = tool->every_ms > 0 ? tool->every_ms : USUAL_MS};
	uint64_t round = 0, due = tool_monotonic_ns();

	if (tool->json || isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1)
		return tool_error(
			tool, TOOL_USAGE,
			"top needs a terminal; 'shmetactl stat --every 1s' prints the same figures, with --json too");
	t.before = tool_alloc(metric_count() * sizeof(*t.before));
	t.rate = tool_alloc(metric_count() * sizeof(*t.rate));
	memset(t.before, 0, metric_count() * sizeof(*t.before));
	memset(t.rate, 0, metric_count() * sizeof(*t.rate));
	if (!start_screen()) {
		free(t.before);
		free(t.rate);
		return tool_error(tool, TOOL_USAGE, "the terminal '%s' is not known; set TERM",
		                  getenv("TERM") != NULL ? getenv("TERM") : "");
	}
	while (!over && (tool->count == 0 || round < tool->count)) {
		look(&t);
		draw(&t);
		round++;
		due += t.every_ms * UINT64_C(1000000);
		if (due < tool_monotonic_ns())
			due = tool_monotonic_ns() + t.every_ms * UINT64_C(1000000);
		wait_for_keys(&t, due);
	}
	(void)endwin();
	pages_close(&t.pages);
	free(t.before);
	free(t.rate);
	return TOOL_OK;
}
