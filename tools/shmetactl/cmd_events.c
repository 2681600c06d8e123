/* SPDX-License-Identifier: Apache-2.0
 * events, slow: what the writer did lately, and what of it took longest. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/shmetactl/inspect.h"
#include "tools/shmetactl/paging.h"

enum { USUAL_EVENTS = 20, FOLLOW_MS = 100, USUAL_SLOW = 10 };

/* --by KIND[,KIND]: which kinds; false: one of them is none, said. */
static bool kinds_of(const struct tool *tool, uint32_t *ret)
{
	const char *at = tool->by;

	*ret = UINT32_MAX;
	if (at == NULL)
		return true;
	*ret = 0;
	while (*at != '\0') {
		size_t n = strcspn(at, ",");
		uint32_t kind = 1;

		while (kind < SHMETA_EVENT_KINDS &&
		       (strlen(shmeta__event_name(kind)) != n || strncmp(shmeta__event_name(kind), at, n) != 0))
			kind++;
		if (kind == SHMETA_EVENT_KINDS) {
			(void)tool_error(
				tool, TOOL_USAGE,
				"--by: '%.*s' is no kind of event; there are commit, fetch, feed, write, pass and log",
				(int)n, at);
			return false;
		}
		*ret |= 1u << kind;
		at += n + (at[n] == ',');
	}
	return true;
}

static bool wanted(const struct tool *tool, uint32_t kinds, const struct shmeta_event *e)
{
	return (kinds >> (e->kind & 31) & 1) != 0 &&
	       (tool->glob == NULL || page_matches(tool->glob, e->text, strlen(e->text)));
}

static size_t fields_of(const struct tool *tool, const struct shmeta_event *e, struct field *f)
{
	size_t n = 0;

	f[n++] = f_hidden(f_count("number", e->number));
	f[n++] = f_time("at_ms", e->at_ms);
	f[n++] = f_word("kind", shmeta__event_name(e->kind));
	f[n++] = e->took_ns > 0 ? f_age(tool->json ? "took_ms" : "took", e->took_ns)
	                        : f_null(tool->json ? "took_ms" : "took");
	f[n++] = e->kind != SHMETA_EVENT_LOG ? f_count("rows", e->rows) : f_null("rows");
	f[n++] = e->txn > 0 ? f_count("txn", e->txn) : f_null("txn");
	f[n++] = f_bool("failed", e->failed != 0);
	f[n++] = f_string("text", e->text);
	return n;
}

/* Those from *next on that there are by now, oldest first; *next: where to go on. Those that were
 * overwritten before are counted. */
static uint64_t show_new(struct list *list, const struct shmeta_activity *page, uint32_t kinds, uint64_t *next)
{
	uint64_t newest = shmeta_observe(&page->newest), lost = 0; /* PAIR 7: an event within its number */
	struct shmeta_event e;
	struct field fields[10];

	if (newest >= SHMETA_EVENTS && *next <= newest - SHMETA_EVENTS) {
		lost = newest - SHMETA_EVENTS + 1 - *next;
		*next = newest - SHMETA_EVENTS + 1;
	}
	for (; *next <= newest; (*next)++) {
		if (!shmeta__activity_event(page, *next, &e))
			lost++;
		else if (wanted(list->tool, kinds, &e))
			list_row(list, fields, fields_of(list->tool, &e, fields));
	}
	return lost;
}

/* The number of the oldest of the last `most` events that are wanted. */
static uint64_t first_of_last(const struct tool *tool, const struct shmeta_activity *page, uint32_t kinds,
                              uint64_t most)
{
	uint64_t newest = shmeta_observe(&page->newest),
		 oldest = newest > SHMETA_EVENTS ? newest - SHMETA_EVENTS + 1 : 1;
	uint64_t at = newest + 1;
	struct shmeta_event e;

	while (at > oldest && most > 0) {
		at--;
		most -= shmeta__activity_event(page, at, &e) && wanted(tool, kinds, &e);
	}
	return at;
}

static void tell_lost(uint64_t lost)
{
	if (lost > 0)
		out_note("%" PRIu64 " events were overwritten before they could be shown", lost);
}

int verb_events(struct tool *tool)
{
	const struct shmeta_activity *page;
	struct pages pages;
	struct list list;
	uint64_t next, shown = 0;
	uint32_t kinds;
	int code;

	if (!kinds_of(tool, &kinds))
		return TOOL_USAGE;
	code = activity_open(tool, &pages, &page);
	if (code != 0)
		return code;
	next = first_of_last(tool, page, kinds, tool->limit > 0 ? tool->limit : USUAL_EVENTS);
	list_begin(&list, tool, "events");
	list.lines = tool->json && tool->follow;
	tell_lost(show_new(&list, page, kinds, &next));
	/* The page outlives its writer, and the next one goes on in it. */
	while (tool->follow && (tool->count == 0 || shown + list.printed + list.waiting < tool->count)) {
		list_flush(&list);
		if (!out_pause(FOLLOW_MS))
			break;
		tell_lost(show_new(&list, page, kinds, &next));
	}
	list_end(&list, NULL, 0);
	list_free(&list);
	activity_close(&pages, page);
	return TOOL_OK;
}

/* ---- slow ---- */

static int slowest_first(const void *a, const void *b)
{
	const struct shmeta_event *x = a, *y = b;

	return x->took_ns != y->took_ns ? (x->took_ns < y->took_ns ? 1 : -1)
	                                : (x->number > y->number) - (x->number < y->number);
}

int verb_slow(struct tool *tool)
{
	enum { MOST = SHMETA_SLOW_MINUTES * SHMETA_SLOW_EACH };
	static struct shmeta_event found[MOST];
	const struct shmeta_activity *page;
	struct timespec now;
	struct pages pages;
	struct list list;
	int first = 0, last = 1, code;
	uint64_t limit = tool->limit > 0 ? tool->limit : USUAL_SLOW;

	if (tool->by != NULL && strcmp(tool->by, "source") != 0 && strcmp(tool->by, "commits") != 0)
		return tool_error(tool, TOOL_USAGE, "--by: '%s' is not source or commits", tool->by);
	if (tool->by != NULL)
		first = last = strcmp(tool->by, "commits") == 0;
	code = activity_open(tool, &pages, &page);
	if (code != 0)
		return code;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	list_begin(&list, tool, "slow");
	for (int what = first; what <= last; what++) {
		size_t n = 0;

		for (int minute = 0; minute < SHMETA_SLOW_MINUTES; minute++)
			for (int i = 0; i < SHMETA_SLOW_EACH; i++)
				if (shmeta__activity_slow(&page->slow[what][minute][i], &found[n]) &&
				    found[n].at_ms >= ((int64_t)now.tv_sec - 3600) * 1000)
					n++;
		qsort(found, n, sizeof(found[0]), slowest_first);
		for (size_t i = 0; i < n && i < limit; i++) {
			struct field fields[12];
			size_t k = fields_of(tool, &found[i], fields);

			list_row(&list, fields, k);
		}
	}
	list_end(&list, NULL, 0);
	list_free(&list);
	activity_close(&pages, page);
	return TOOL_OK;
}
