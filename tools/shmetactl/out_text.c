/* SPDX-License-Identifier: Apache-2.0
 * Text that no record can use to talk to the terminal, and the display of progress. */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/size_text.h"
#include "tools/shmetactl/out.h"

enum { RING = 16 };

char *out_ring(void)
{
	static char buffers[RING][OUT_RING_BYTES];
	static unsigned next;

	return buffers[next++ % RING];
}

const char *out_safe(const void *text, size_t bytes)
{
	return shmeta__escape(out_ring(), OUT_RING_BYTES, text != NULL ? text : "", text != NULL ? bytes : 0);
}

const char *out_safez(const char *text, size_t capacity)
{
	return out_safe(text, strnlen(text, capacity));
}

const char *out_ns(uint64_t ns)
{
	char *b = out_ring();
	uint64_t s = ns / 1000000000u;

	if (ns == UINT64_MAX)
		return "never";
	if (ns < 1000u)
		(void)snprintf(b, OUT_RING_BYTES, "%" PRIu64 " ns", ns);
	else if (ns < 1000000u)
		(void)snprintf(b, OUT_RING_BYTES, "%" PRIu64 " us", ns / 1000u);
	else if (ns < 100000000u)
		(void)snprintf(b, OUT_RING_BYTES, "%.1f ms", (double)ns / 1e6);
	else if (ns < 1000000000u)
		(void)snprintf(b, OUT_RING_BYTES, "%" PRIu64 " ms", ns / 1000000u);
	else if (s < 60)
		(void)snprintf(b, OUT_RING_BYTES, "%.1f s", (double)ns / 1e9);
	else if (s < 3600)
		(void)snprintf(b, OUT_RING_BYTES, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(b, OUT_RING_BYTES, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
	else
		(void)snprintf(b, OUT_RING_BYTES, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s % 86400 / 3600);
	return b;
}

const char *out_size(uint64_t bytes)
{
	_Static_assert((int)OUT_RING_BYTES >= (int)SIZE_TEXT_BYTES, "as much as it needs");
	return size_text(bytes, out_ring());
}

const char *out_count(uint64_t value)
{
	char digits[24], *b = out_ring();
	int n = snprintf(digits, sizeof(digits), "%" PRIu64, value), at = 0;

	for (int i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			b[at++] = ' ';
		b[at++] = digits[i];
	}
	b[at] = '\0';
	return b;
}

const char *out_time(int64_t ms)
{
	int64_t s = ms / 1000, part = ms % 1000;
	time_t at;
	struct tm tm;
	char *b = out_ring();

	if (part < 0) {
		part += 1000;
		s--;
	}
	at = (time_t)s;
	if (gmtime_r(&at, &tm) == NULL || tm.tm_year + 1900 < 0 || tm.tm_year + 1900 > 9999) {
		(void)snprintf(b, OUT_RING_BYTES, "%" PRId64 " ms", ms);
		return b;
	}
	(void)snprintf(b, OUT_RING_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
	               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)part);
	return b;
}

const char *out_paint(const struct tool *tool, enum paint paint, const char *text)
{
	static const char *const code[] = {"32", "33", "31;1", "2"};
	char *b;

	if (!tool->color)
		return text;
	b = out_ring();
	(void)snprintf(b, OUT_RING_BYTES, "\033[%sm%s\033[0m", code[paint], text);
	return b;
}

enum { PROGRESS_FIRST_MS = 1000, PROGRESS_PAUSE_MS = 200 };
static struct {
	uint64_t began_ns, shown_ns;
	bool on_screen, rows_on_screen;
} progress;

void out_progress(const char *what, uint64_t done)
{
	uint64_t now = tool_monotonic_ns();

	if (progress.began_ns == 0)
		progress.began_ns = now;
	if (progress.rows_on_screen || now - progress.began_ns < PROGRESS_FIRST_MS * 1000000ull ||
	    now - progress.shown_ns < PROGRESS_PAUSE_MS * 1000000ull || isatty(STDERR_FILENO) != 1)
		return;
	progress.shown_ns = now;
	progress.on_screen = true;
	(void)fprintf(stderr, "\r\033[K%s: %s looked at", what, out_count(done));
}

void out_progress_end(void)
{
	if (progress.on_screen)
		(void)fputs("\r\033[K", stderr);
	progress.on_screen = false;
}

void out_progress_rows(void)
{
	out_progress_end();
	progress.rows_on_screen = isatty(STDOUT_FILENO) == 1;
}
