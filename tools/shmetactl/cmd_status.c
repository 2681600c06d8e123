/* SPDX-License-Identifier: Apache-2.0
 * status and version: from the board, the generation and the stats page, without asking the
 * writer. */
#include "tools/shmetactl/inspect.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *count_text(uint64_t value)
{
	return value == UINT64_MAX ? "?" : out_count(value);
}

/* What the store holds; where it cannot be opened, what the writer counted last. UINT64_MAX: not
 * known. */
struct content {
	uint64_t topics, partitions, segments, quarantined, used;
	uint64_t pinned; /* free, but kept for readers, as the writer measured it last */
};

static struct content content_of(const struct tool *tool, const struct pages *p)
{
	struct shmeta_store_counters stored;
	struct content c = {.pinned = pages_counter(p, SHMETA_COUNTER_store_pinned)};

	if (pages_content(tool, p, &stored, &c.used)) {
		c.topics = stored.topics;
		c.partitions = stored.partitions;
		c.segments = stored.segments;
		c.quarantined = stored.quarantined;
		return c;
	}
	c.topics = pages_counter(p, SHMETA_COUNTER_topics);
	c.partitions = pages_counter(p, SHMETA_COUNTER_partitions);
	c.segments = pages_counter(p, SHMETA_COUNTER_segments);
	c.quarantined = pages_counter(p, SHMETA_COUNTER_quarantined);
	c.used = pages_counter(p, SHMETA_COUNTER_store_used);
	return c;
}

/* How full the store is, and what is to be done about it; 0 and "": nothing. */
static unsigned level_of(const struct pages *p, const struct content *c, const char **ret)
{
	if (c->used == UINT64_MAX) {
		*ret = "";
		return 0;
	}
	return shmeta__room_level(c->used, c->pinned == UINT64_MAX ? 0 : c->pinned, p->generation.max_bytes, ret);
}

/* The pressure in a bounded store, and what the writer does about it. */
static const struct pressure {
	const char *name, *action;
} pressures[] = {
	{"normal", ""},
	{"elevated", "nothing is read ahead of its expiry"},
	{"high", "a batch of records leaves each second, or readers with old snapshots are cut off"},
	{"critical", "four batches of records leave each second, or readers with old snapshots are cut off"},
};

/* NULL: the writer does not say. */
static const struct pressure *pressure_of(const struct pages *p)
{
	uint64_t level = pages_counter(p, SHMETA_COUNTER_pressure);

	return level < sizeof(pressures) / sizeof(pressures[0]) ? &pressures[level] : NULL;
}

/* A class that was not verified in time; -1: none. */
static int late_class(const struct pages *p)
{
	return p->published ? shmeta__late_class(&p->generation, p->now_ns) : -1;
}

enum { REASON_BYTES = 2 * 1024 + 200 };

/* Why the newest start failed, why the phase is what it is, and what else is wrong; "": nothing. */
static void reason_of(const struct pages *p, char *ret, size_t bytes)
{
	static const char told_by_stats[] = "cannot start: ";
	const struct shmeta_stats *st = p->stats;
	const char *reason = st != NULL ? st->reason : "";
	int late = late_class(p), length = st != NULL ? (int)strnlen(reason, sizeof(st->reason)) : 0;
	size_t used = 0;

	if (p->start_failed) {
		(void)snprintf(ret, bytes, "the last start failed at %s: %s", out_time(p->last_start.failed_at_ms),
		               p->last_start.sentence);
		used = strlen(ret);
		if (strncmp(reason, told_by_stats, strlen(told_by_stats)) == 0)
			length = 0;
	}
	(void)snprintf(ret + used, bytes - used, "%s%.*s", used > 0 && length > 0 ? "; before that: " : "", length,
	               reason);
	used = strlen(ret);
	if (p->alive && p->board.phase == SHMETA_PHASE_SERVING && late >= 0)
		(void)snprintf(ret + used, bytes - used, "%sclass %s was last verified %s ago", used > 0 ? "; " : "",
		               pages_class((enum shmeta_class)late),
		               out_ns(pages_since(p->now_ns, p->generation.stamp[late].synced_at_ns)));
}

static json_t *last_start_json(const struct pages *p)
{
	json_t *failed;

	if (!p->start_failed)
		return json_null();
	failed = json_object();
	out_set(failed, "failed_at", json_string(out_time(p->last_start.failed_at_ms)));
	out_set(failed, "failed_at_ms", json_integer(p->last_start.failed_at_ms));
	out_set(failed, "reason", out_json_text(p->last_start.sentence, strlen(p->last_start.sentence)));
	return failed;
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

static json_t *known_count(uint64_t value)
{
	return value == UINT64_MAX ? json_null() : out_json_count(value);
}

static void status_json(struct tool *tool, const struct pages *p, const struct content *stored,
                        const struct health *health)
{
	char reason[REASON_BYTES];
	const char *advice;
	unsigned level = level_of(p, stored, &advice);
	const struct pressure *pressure = pressure_of(p);
	json_t *content = json_object(), *doc = out_document("status"), *writer = json_object(),
	       *classes = json_object(), *store = json_object(), *readers = json_object(), *source = json_object(),
	       *counters = json_object();
	const struct shmeta_board *b = &p->board;

	out_set(doc, "directory", out_json_text(tool->dir, strlen(tool->dir)));
	out_set(doc, "healthy", json_boolean(health->worst != HEALTH_CRITICAL));
	out_set(doc, "health", json_string(health_word(health->worst)));
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
	reason_of(p, reason, sizeof(reason));
	out_set(doc, "phase_reason", out_json_text(reason, strlen(reason)));
	out_set(doc, "last_start_failed", last_start_json(p));
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
		out_set(classes, pages_class((enum shmeta_class)i), c);
	}
	out_set(doc, "classes", classes);
	if (p->stats != NULL) {
		const struct shmeta_stats *st = p->stats;
		uint64_t pinned = 0;

		out_set(source, "name", out_json_text(st->source, strnlen(st->source, sizeof(st->source))));
		out_set(source, "status",
		        out_json_text(st->source_status, strnlen(st->source_status, sizeof(st->source_status))));
		out_set(source, "current", json_boolean(p->alive));
		source_trouble(source, st);
		for (uint32_t i = 0; i < st->reader_count && i < SHMETA_STATS_READERS; i++)
			pinned += st->reader[i].oldest_pin != 0;
		out_set(readers, "registered", out_json_count(st->readers_total));
		out_set(readers, "holding_a_snapshot", out_json_count(pinned));
		for (uint32_t i = 0; i < shmeta__stats_counters(st); i++) {
			const char *text = shmeta__stats_name(p->stats, i);
			json_t *name = out_json_text(text, strnlen(text, SHMETA_STATS_NAME));

			out_set(counters, json_string_value(name), out_json_count(*shmeta__stats_value(p->stats, i)));
			json_decref(name);
		}
		out_set(doc, "stats_age_ms", out_json_age(pages_since(p->now_ns, st->updated_at_ns)));
	} else {
		out_set(doc, "stats_age_ms", json_null());
		out_set(doc, "stats_error", out_json_text(p->stats_error.text, strlen(p->stats_error.text)));
	}
	out_set(store, "limit_bytes", out_json_count(p->generation.max_bytes));
	out_set(store, "used_bytes", known_count(stored->used));
	out_set(store, "pinned_bytes", known_count(stored->pinned));
	out_set(store, "level", out_json_count(level));
	out_set(store, "advice", level > 0 ? json_string(advice) : json_null());
	out_set(store, "pressure", pressure != NULL ? json_string(pressure->name) : json_null());
	out_set(store, "pressure_action",
	        pressure != NULL && pressure->action[0] != '\0' ? json_string(pressure->action) : json_null());
	out_set(content, "topics", known_count(stored->topics));
	out_set(content, "partitions", known_count(stored->partitions));
	out_set(content, "segments", known_count(stored->segments));
	out_set(content, "quarantined", known_count(stored->quarantined));
	out_set(doc, "content", content);
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

		(void)printf("%s%s ", i > from ? ", " : "", pages_class((enum shmeta_class)i));
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
	(void)puts(p->liveness == WRITER_DEAD ? " when the writer went away" : "");
}

static double share(uint64_t part, uint64_t whole)
{
	return whole > 0 ? 100.0 * (double)part / (double)whole : 0.0;
}

static void status_store(struct tool *tool, const struct pages *p, const struct content *c)
{
	const struct pressure *pressure = pressure_of(p);
	uint64_t limit = p->generation.max_bytes;
	const char *advice;
	unsigned level = level_of(p, c, &advice);

	if (limit > 0 && c->used == UINT64_MAX) {
		(void)printf("? of %s\n", out_size(limit));
		return;
	}
	if (limit == 0)
		(void)printf("none is served yet");
	else
		(void)printf("%s of %s used (%.1f %%)", out_size(c->used), out_size(limit), share(c->used, limit));
	if (limit > 0 && c->pinned != UINT64_MAX)
		(void)printf(", %s pinned by readers (%.1f %%)", out_size(c->pinned), share(c->pinned, limit));
	if (level > 0)
		(void)printf("; %s", out_paint(tool, level >= 95 ? PAINT_BAD : PAINT_WARN, advice));
	if (pressure != NULL && pressure->action[0] != '\0')
		(void)printf("; pressure %s: %s", out_paint(tool, PAINT_WARN, pressure->name), pressure->action);
	(void)putchar('\n');
}

/* "warning: quarantine, versions; 'shmetactl health' says what to do": the worst first. */
static void status_health(struct tool *tool, const struct health *health)
{
	const char *before = ": ";

	(void)fputs(out_paint(tool,
	                      health->worst == HEALTH_OK         ? PAINT_GOOD
	                      : health->worst == HEALTH_CRITICAL ? PAINT_BAD
	                                                         : PAINT_WARN,
	                      health_word(health->worst)),
	            stdout);
	for (int severity = HEALTH_CRITICAL; severity > HEALTH_OK; severity--)
		for (int i = 0; i < HEALTH_CHECK_COUNT; i++)
			if ((int)health->finding[i].severity == severity) {
				(void)printf("%s%s", before, health_name((enum health_check)i));
				before = ", ";
			}
	(void)puts(health->worst == HEALTH_OK ? "" : "; 'shmetactl health' says what to do");
}

int verb_status(struct tool *tool)
{
	struct pages p;
	const struct shmeta_board *b = &p.board;
	uint64_t stats_age;
	struct content content;
	struct health health;
	char reason[REASON_BYTES], unit[UNIT_BYTES], where[UNIT_BYTES + 40] = "";
	bool well;
	int code = pages_open(tool, &p);

	if (code != 0)
		return code;
	tool_health(tool, &p, &health);
	well = health.worst != HEALTH_CRITICAL;
	content = content_of(tool, &p);
	if (tool->json) {
		out_writer(pages_writer(&p));
		status_json(tool, &p, &content, &health);
		pages_close(&p);
		return well ? TOOL_OK : TOOL_UNHEALTHY;
	}
	stats_age = p.stats != NULL ? pages_since(p.now_ns, p.stats->updated_at_ns) : UINT64_MAX;

	/* Its end, or its start, can be told by nobody else. */
	if (p.liveness == WRITER_DEAD && !p.start_failed)
		(void)snprintf(where, sizeof(where), "; 'journalctl -u %s' says why", pages_unit_of(tool->dir, unit));

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
		(void)printf("%s (it ran before this machine started)%s\n", out_paint(tool, PAINT_BAD, "dead"), where);
	else
		(void)printf("%s, pid %" PRIu64 " gave its last heartbeat %s ago%s\n",
		             out_paint(tool, PAINT_BAD, pages_writer(&p)), b->writer_pid,
		             out_ns(pages_since(p.now_ns, b->heartbeat_ns)), where);
	line("phase");
	(void)fputs(out_paint(tool, well ? PAINT_GOOD : PAINT_WARN, pages_phase(b->phase)), stdout);
	if (p.alive || b->phase == SHMETA_PHASE_STOPPED)
		(void)printf(" for %s", out_ns(pages_since(p.now_ns, b->phase_since_ns)));
	else
		(void)fputs(" when the writer went away", stdout);
	reason_of(&p, reason, sizeof(reason));
	(void)printf("%s%s\n", reason[0] != '\0' ? ": " : "", out_safez(reason, sizeof(reason)));
	line("health");
	status_health(tool, &health);
	line("commit");
	if (p.published)
		(void)printf("%s of generation %" PRIu64 ", epoch %" PRIu64 "\n", out_count(p.generation.committed),
		             b->generation, b->epoch);
	else
		(void)printf("nothing published yet, epoch %" PRIu64 "\n", b->epoch);
	line("fresh");
	status_classes(tool, &p, SHMETA_CLASS_TOPIC, SHMETA_CLASS_AGENT);
	line("advisory");
	status_classes(tool, &p, SHMETA_CLASS_AGENT, SHMETA_CLASS_COUNT);
	line("source");
	(void)printf("%s: ", p.stats != NULL ? out_safez(p.stats->source, sizeof(p.stats->source)) : "unknown");
	if (p.stats == NULL)
		(void)puts("unknown");
	else
		(void)printf("%s%s\n", p.alive ? "" : "nobody asks it; the last was: ",
		             p.stats->source_status[0] == '\0'
		                     ? "not connected"
		                     : out_safez(p.stats->source_status, sizeof(p.stats->source_status)));
	line("content");
	(void)printf("%s topics, %s partitions, %s segments\n", count_text(content.topics),
	             count_text(content.partitions), count_text(content.segments));
	line("readers");
	status_readers(&p);
	line("store");
	status_store(tool, &p, &content);
	line("queue");
	(void)printf("%s keys to fetch, %s rows quarantined%s\n",
	             count_text(pages_counter(&p, SHMETA_COUNTER_queue_depth)), count_text(content.quarantined),
	             content.quarantined > 0 && content.quarantined != UINT64_MAX ? " (shmetactl quarantine lists them)"
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
