/* SPDX-License-Identifier: Apache-2.0
 * status and version: from the board, the generation page and the stats page alone. */
#include "tools/shmetactl/inspect.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const class_names[] = {
#define X(name, number, text, ttl_ms) [SHMETA_CLASS_##name] = text,
	SHMETA_CLASS_LIST(X)
#undef X
};

static uint64_t counter(const struct pages *p, const char *name)
{
	uint64_t value = UINT64_MAX;

	(void)pages_counter(p, name, &value);
	return value;
}

static const char *count_text(uint64_t value)
{
	return value == UINT64_MAX ? "?" : out_count(value);
}

static bool healthy(const struct pages *p)
{
	return p->alive && p->board.phase == SHMETA_PHASE_SERVING;
}

/* "away since WHEN: WHY" as the writer says it: both also on their own. */
static void source_trouble(json_t *source, const struct shmeta_stats *st)
{
	static const char away[] = "away since ";
	char text[sizeof(st->source_status) + 1];
	const char *when = text + strlen(away), *why;

	memcpy(text, st->source_status, sizeof(st->source_status));
	text[sizeof(text) - 1] = '\0';
	why = strncmp(text, away, strlen(away)) == 0 ? strstr(when, ": ") : NULL;
	out_set(source, "away_since", why != NULL ? out_json_text(when, (size_t)(why - when)) : json_null());
	out_set(source, "away_because", why != NULL ? out_json_text(why + 2, strlen(why + 2)) : json_null());
}

static void status_json(struct tool *tool, const struct pages *p)
{
	json_t *doc = out_document("status"), *writer = json_object(), *classes = json_object(), *store = json_object(),
	       *readers = json_object(), *source = json_object(), *counters = json_object();
	const struct shmeta_board *b = &p->board;

	out_set(doc, "directory", out_json_text(tool->dir, strlen(tool->dir)));
	out_set(doc, "healthy", json_boolean(healthy(p)));
	out_set(writer, "alive", json_boolean(p->alive));
	out_set(writer, "state",
	        json_string(p->liveness == WRITER_ALIVE     ? "alive"
	                    : p->liveness == WRITER_STALLED ? "stalled"
	                                                    : "dead"));
	out_set(writer, "pid", out_json_count(b->writer_pid));
	out_set(writer, "heartbeat_age_ms", out_json_age(pages_since(p->now_ns, b->heartbeat_ns)));
	out_set(writer, "up_ms", out_json_age(pages_since(p->now_ns, b->started_at_ns)));
	out_set(writer, "epoch", out_json_count(b->epoch));
	out_set(writer, "same_boot", json_boolean(p->same_boot));
	out_set(doc, "writer", writer);
	out_set(doc, "phase", json_string(pages_phase(b->phase)));
	out_set(doc, "phase_age_ms", out_json_age(pages_since(p->now_ns, b->phase_since_ns)));
	out_set(doc, "generation", out_json_count(b->generation));
	out_set(doc, "committed_txn", out_json_count(p->generation.committed));
	for (size_t i = 0; i < SHMETA_CLASS_COUNT; i++) {
		const struct shmeta_stamp *s = &p->generation.stamp[i];
		uint64_t age = pages_since(p->now_ns, s->synced_at_ns);
		json_t *c = json_object();

		out_set(c, "age_ms", out_json_age(age));
		out_set(c, "ttl_ms", out_json_age(s->ttl_ns));
		out_set(c, "fresh", json_boolean(age < s->ttl_ns));
		out_set(c, "changed_txn", out_json_count(s->changed_txn));
		out_set(classes, class_names[i], c);
	}
	out_set(doc, "classes", classes);
	if (p->stats != NULL) {
		const struct shmeta_stats *st = p->stats;
		uint64_t pinned = 0;

		out_set(source, "name", out_json_text(st->source, strnlen(st->source, sizeof(st->source))));
		out_set(source, "status",
		        out_json_text(st->source_status, strnlen(st->source_status, sizeof(st->source_status))));
		source_trouble(source, st);
		for (uint32_t i = 0; i < st->reader_count && i < SHMETA_STATS_READERS; i++)
			pinned += st->reader[i].oldest_pin != 0;
		out_set(readers, "registered", out_json_count(st->readers_total));
		out_set(readers, "holding_a_snapshot", out_json_count(pinned));
		for (uint32_t i = 0; i < st->counter_count && i < SHMETA_STATS_COUNTERS; i++) {
			json_t *name = out_json_text(st->counter_name[i],
			                             strnlen(st->counter_name[i], sizeof(st->counter_name[i])));

			out_set(counters, json_string_value(name), out_json_count(st->counter[i]));
			json_decref(name);
		}
		out_set(doc, "stats_age_ms", out_json_age(pages_since(p->now_ns, st->updated_at_ns)));
	} else {
		out_set(doc, "stats_age_ms", json_null());
		out_set(doc, "stats_error", out_json_text(p->stats_error.text, strlen(p->stats_error.text)));
	}
	out_set(store, "limit_bytes", out_json_count(p->generation.max_bytes));
	out_set(store, "used_bytes",
	        counter(p, "store_used") == UINT64_MAX ? json_null() : out_json_count(counter(p, "store_used")));
	out_set(store, "grace_ms", out_json_age(p->generation.grace_ns));
	out_set(doc, "source", source);
	out_set(doc, "readers", readers);
	out_set(doc, "store", store);
	out_set(doc, "counters", counters);
	out_json(doc, 2);
}

static void line(const char *name)
{
	(void)printf("%-9s  ", name);
}

/* "topic 0.4 s, partition stale 45 s of 30 s" for classes [from, to). */
static void status_classes(struct tool *tool, const struct pages *p, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		const struct shmeta_stamp *s = &p->generation.stamp[i];
		uint64_t age = pages_since(p->now_ns, s->synced_at_ns);

		(void)printf("%s%s ", i > from ? ", " : "", class_names[i]);
		if (age == UINT64_MAX)
			(void)fputs(out_paint(tool, PAINT_WARN, "never"), stdout);
		else if (age < s->ttl_ns)
			(void)fputs(out_ns(age), stdout);
		else
			(void)printf("%s %s (ttl %s)", out_paint(tool, PAINT_WARN, "stale"), out_ns(age),
			             out_ns(s->ttl_ns));
	}
	(void)putchar('\n');
}

static void status_readers(const struct pages *p)
{
	uint64_t pinned = 0, oldest = 0, lag = 0;
	const struct shmeta_stats *st = p->stats;

	if (st == NULL) {
		(void)puts("unknown");
		return;
	}
	for (uint32_t i = 0; i < st->reader_count && i < SHMETA_STATS_READERS; i++) {
		if (st->reader[i].oldest_pin == 0)
			continue;
		pinned++;
		if (st->reader[i].pin_age_ns > oldest) {
			oldest = st->reader[i].pin_age_ns;
			lag = st->reader[i].pin_lag;
		}
	}
	(void)printf("%" PRIu32 " registered", st->readers_total);
	if (pinned > 0)
		(void)printf(", %" PRIu64 " hold a snapshot, oldest %s (%s commits behind)", pinned, out_ns(oldest),
		             out_count(lag));
	(void)putchar('\n');
}

int verb_status(struct tool *tool)
{
	struct pages p;
	const struct shmeta_board *b = &p.board;
	uint64_t used, limit, stats_age;
	bool well;
	int code = pages_open(tool, &p);

	if (code != 0)
		return code;
	well = healthy(&p);
	if (tool->json) {
		status_json(tool, &p);
		pages_close(&p);
		return well ? TOOL_OK : TOOL_UNHEALTHY;
	}
	used = counter(&p, "store_used");
	limit = p.generation.max_bytes;
	stats_age = p.stats != NULL ? pages_since(p.now_ns, p.stats->updated_at_ns) : UINT64_MAX;

	line("instance");
	(void)puts(out_safez(tool->dir, sizeof(tool->dir)));
	line("writer");
	if (p.alive)
		(void)printf("%s, pid %" PRIu64 ", up %s, heartbeat %s ago\n", out_paint(tool, PAINT_GOOD, "alive"),
		             b->writer_pid, out_ns(pages_since(p.now_ns, b->started_at_ns)),
		             out_ns(pages_since(p.now_ns, b->heartbeat_ns)));
	else if (b->phase == SHMETA_PHASE_STOPPED)
		(void)printf("%s for %s (was pid %" PRIu64 ")\n", out_paint(tool, PAINT_BAD, "stopped"),
		             out_ns(pages_since(p.now_ns, b->phase_since_ns)), b->writer_pid);
	else if (!p.same_boot)
		(void)printf("%s (it ran before this machine started)\n", out_paint(tool, PAINT_BAD, "dead"));
	else
		(void)printf("%s, pid %" PRIu64 " gave its last heartbeat %s ago\n",
		             out_paint(tool, PAINT_BAD, p.liveness == WRITER_DEAD ? "dead" : "stalled"), b->writer_pid,
		             out_ns(pages_since(p.now_ns, b->heartbeat_ns)));
	line("phase");
	(void)printf("%s for %s%s\n",
	             out_paint(tool, b->phase == SHMETA_PHASE_SERVING ? PAINT_GOOD : PAINT_WARN, pages_phase(b->phase)),
	             out_ns(pages_since(p.now_ns, b->phase_since_ns)),
	             p.alive ? "" : " (as it was when the writer went away)");
	line("commit");
	if (p.published)
		(void)printf("%s of generation %" PRIu64 ", epoch %" PRIu64 "\n", out_count(p.generation.committed),
		             b->generation, b->epoch);
	else
		(void)printf("nothing published yet, epoch %" PRIu64 "\n", b->epoch);
	line("fresh");
	status_classes(tool, &p, SHMETA_CLASS_TOPIC, SHMETA_CLASS_AGENT);
	line("hints");
	status_classes(tool, &p, SHMETA_CLASS_AGENT, SHMETA_CLASS_COUNT);
	line("source");
	(void)printf("%s: %s\n", p.stats != NULL ? out_safez(p.stats->source, sizeof(p.stats->source)) : "unknown",
	             p.stats != NULL ? out_safez(p.stats->source_status, sizeof(p.stats->source_status)) : "unknown");
	line("content");
	(void)printf("%s topics, %s partitions, %s segments\n", count_text(counter(&p, "topics")),
	             count_text(counter(&p, "partitions")), count_text(counter(&p, "segments")));
	line("readers");
	status_readers(&p);
	line("store");
	if (used == UINT64_MAX)
		(void)printf("? of %s\n", out_size(limit));
	else
		(void)printf("%s of %s used (%.1f %%)\n", out_size(used), out_size(limit),
		             limit > 0 ? 100.0 * (double)used / (double)limit : 0.0);
	line("queue");
	(void)printf("%s keys to fetch, %s rows quarantined%s\n", count_text(counter(&p, "queue_depth")),
	             count_text(counter(&p, "quarantined")),
	             counter(&p, "quarantined") > 0 && counter(&p, "quarantined") != UINT64_MAX
	                     ? " (shmetactl quarantine lists them)"
	                     : "");
	line("stats");
	if (p.stats == NULL)
		(void)printf("none: %s\n", out_safez(p.stats_error.text, sizeof(p.stats_error.text)));
	else
		(void)printf("updated %s%s\n", out_ns(stats_age), stats_age == UINT64_MAX ? "" : " ago");
	pages_close(&p);
	return well ? TOOL_OK : TOOL_UNHEALTHY;
}

int verb_version(struct tool *tool)
{
	struct shmeta_err err;
	char writer[24], path[PATH_MAX];
	bool known = false;
	void *map;

	/* Of the writer only if it is there: this verb says what is installed, and never fails. */
	if (tool->dir[0] == '\0')
		(void)snprintf(tool->dir, sizeof(tool->dir), "/run/shmeta/%s", tool->instance);
	if ((size_t)snprintf(path, sizeof(path), "%s/board", tool->dir) < sizeof(path) &&
	    shmeta__map_file(-1, path, SHMETA_PAGE, 0, &map, &err) == SHMETA_OK) {
		struct shmeta_board board;

		memcpy(&board, map, sizeof(board));
		known = shmeta__board_check(&board, SHMETA_PAGE, &err) == SHMETA_OK;
		(void)pages_version(board.writer_version, writer);
	}
	if (!tool->json) {
		(void)printf("shmetactl %s%s%s%s\n", SHMETA_VERSION_STRING, known ? " (writer " : "",
		             known ? writer : "", known ? ")" : "");
		return TOOL_OK;
	}
	out_record(tool, "version",
	           (struct field[]){
			   f_word("shmetactl", SHMETA_VERSION_STRING),
			   f_word("library", shmeta_version()),
			   known ? f_word("writer", writer) : f_null("writer"),
			   f_word("compiler", __VERSION__),
			   f_word("jansson", JANSSON_VERSION),
		   },
	           5);
	return TOOL_OK;
}
