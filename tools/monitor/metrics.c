/* SPDX-License-Identifier: Apache-2.0
 * The table of metrics, and where each value comes from. */
#include "tools/monitor/metrics.h"

#include <stddef.h>
#include <string.h>

#include "shm/page/histogram.h"

static size_t one(struct metric_value *ret, uint64_t value)
{
	*ret = (struct metric_value){"", value};
	return 1;
}

static size_t age(struct metric_value *ret, const struct metric_view *v, uint64_t then_ns)
{
	uint64_t ns = pages_since(v->pages->now_ns, then_ns);

	return ns == UINT64_MAX ? 0 : one(ret, ns);
}

/* ---- of the stats page ---- */

static size_t read_counter(const struct metric_view *v, uint32_t counter, struct metric_value *ret)
{
	uint64_t value;

	if (v->pages->stats == NULL || !shmeta__stats_counter(v->pages->stats, (enum shmeta_counter)counter, &value))
		return 0;
	return one(ret, value);
}

static size_t read_reader(const struct metric_view *v, uint32_t at, struct metric_value *ret)
{
	uint64_t value;

	if (v->pages->stats == NULL)
		return 0;
	memcpy(&value, (const char *)&v->pages->stats->all_readers + at, sizeof(value));
	return one(ret, value);
}

static size_t read_lookups(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	(void)unused;
	if (v->pages->stats == NULL)
		return 0;
	for (uint32_t i = 0; i < SHMETA_HISTOGRAM_BUCKETS; i++)
		ret[i] = (struct metric_value){"", v->pages->stats->lookups_ns[i]};
	return SHMETA_HISTOGRAM_BUCKETS;
}

static size_t read_times(const struct metric_view *v, uint32_t what, struct metric_value *ret)
{
	const struct shmeta_times *times;

	if (v->pages->stats == NULL)
		return 0;
	times = &v->pages->stats->times[what];
	for (uint32_t i = 0; i < SHMETA_TIMES_BUCKETS; i++)
		ret[i] = (struct metric_value){"", times->count[i]};
	ret[SHMETA_TIMES_BUCKETS] = (struct metric_value){"", times->sum_ns};
	return SHMETA_TIMES_BUCKETS + 1;
}

static size_t read_stats_age(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	(void)unused;
	return v->pages->stats == NULL ? 0 : age(ret, v, v->pages->stats->updated_at_ns);
}

static size_t read_flag(const struct metric_view *v, uint32_t flag, struct metric_value *ret)
{
	return v->pages->stats == NULL ? 0 : one(ret, (v->pages->stats->flags & flag) != 0);
}

static size_t read_source_up(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	(void)unused;
	return one(ret, health_source_up(v->pages));
}

enum pin_part { PIN_READERS, PIN_AGE, PIN_LAG };

static size_t read_pins(const struct metric_view *v, uint32_t part, struct metric_value *ret)
{
	uint64_t age_ns, lag, readers = health_pins(v->pages, &age_ns, &lag);

	if (v->pages->stats == NULL)
		return 0;
	return one(ret, part == PIN_READERS ? readers : part == PIN_AGE ? age_ns : lag);
}

/* ---- of the board and the generation ---- */

static size_t read_alive(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	(void)unused;
	return one(ret, v->pages->alive);
}

enum board_part { BOARD_HEARTBEAT, BOARD_UPTIME, BOARD_PHASE_AGE };

static size_t read_board_age(const struct metric_view *v, uint32_t part, struct metric_value *ret)
{
	const struct shmeta_board *b = &v->pages->board;

	return age(ret, v,
	           part == BOARD_HEARTBEAT ? b->heartbeat_ns
	           : part == BOARD_UPTIME  ? b->started_at_ns
	                                   : b->phase_since_ns);
}

static size_t read_board_word(const struct metric_view *v, uint32_t at, struct metric_value *ret)
{
	uint64_t value;

	memcpy(&value, (const char *)&v->pages->board + at, sizeof(value));
	return one(ret, value);
}

static size_t read_phase(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	size_t n = 0;

	(void)unused;
#define X(name, number, text) ret[n++] = (struct metric_value){text, v->pages->board.phase == SHMETA_PHASE_##name};
	SHMETA_PHASE_LIST(X)
#undef X
	return n;
}

static size_t read_generation_word(const struct metric_view *v, uint32_t at, struct metric_value *ret)
{
	uint64_t value;

	if (!v->pages->published)
		return 0;
	memcpy(&value, (const char *)&v->pages->generation + at, sizeof(value));
	return one(ret, value);
}

static size_t read_class_age(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	size_t n = 0;

	(void)unused;
	for (int i = 0; i < SHMETA_CLASS_COUNT; i++) {
		uint64_t ns = pages_since(v->pages->now_ns, v->pages->generation.stamp[i].synced_at_ns);

		if (ns != UINT64_MAX)
			ret[n++] = (struct metric_value){pages_class((enum shmeta_class)i), ns};
	}
	return n;
}

static size_t read_class_ttl(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	size_t n = 0;

	(void)unused;
	for (int i = 0; i < SHMETA_CLASS_COUNT; i++) {
		uint64_t ttl = v->pages->generation.stamp[i].ttl_ns;

		if (ttl != 0 && ttl <= UINT64_MAX / 2)
			ret[n++] = (struct metric_value){pages_class((enum shmeta_class)i), ttl};
	}
	return n;
}

static size_t read_free(const struct metric_view *v, uint32_t size, struct metric_value *ret)
{
	uint64_t left, bytes;

	return health_free_bytes(v->pages, &left, &bytes) ? one(ret, size != 0 ? bytes : left) : 0;
}

static size_t read_info(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	static __thread char version[24];

	(void)unused;
	*ret = (struct metric_value){pages_version(v->pages->board.writer_version, version), 1};
	return 1;
}

static size_t read_health(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	(void)unused;
	for (int i = 0; i < HEALTH_CHECK_COUNT; i++)
		ret[i] = (struct metric_value){health_name((enum health_check)i),
		                               (uint64_t)health_exit(v->health->finding[i].severity)};
	return HEALTH_CHECK_COUNT;
}

static size_t read_readable(const struct metric_view *v, uint32_t unused, struct metric_value *ret)
{
	(void)unused;
	return one(ret, v->readable);
}

/* ---- the table ---- */

#define BOARD(field) offsetof(struct shmeta_board, field)
#define GENERATION(field) offsetof(struct shmeta_generation, field)

/* G(key, label, unit, help, where it comes from, its argument) */
#define DERIVED_GAUGES(G)                                                                                              \
	G(readable, NULL, "", "1: the instance can be looked at", read_readable, 0)                                    \
	G(health, "check", "", "what each check found: 0 ok, 1 warning, 2 critical, 3 unknown", read_health, 0)        \
	G(writer_info, "version", "", "1, with the writer's version", read_info, 0)                                    \
	G(writer_alive, NULL, "", "1: the writer's process is there and its heart beats", read_alive, 0)               \
	G(heartbeat_age_ns, NULL, "nanoseconds", "since the writer's last heartbeat", read_board_age, BOARD_HEARTBEAT) \
	G(writer_age_ns, NULL, "nanoseconds", "since the start of the newest writer", read_board_age, BOARD_UPTIME)    \
	G(phase, "phase", "", "1 for the writer's phase, 0 for the others", read_phase, 0)                             \
	G(phase_age_ns, NULL, "nanoseconds", "since the phase changed", read_board_age, BOARD_PHASE_AGE)               \
	G(source_up, NULL, "", "1: the writer is alive and its source answers", read_source_up, 0)                     \
	G(epoch, NULL, "", "starts of writers on this instance", read_board_word, BOARD(epoch))                        \
	G(generation, NULL, "", "number of the current generation of the store", read_board_word, BOARD(generation))   \
	G(commit, NULL, "", "number of the newest published commit", read_generation_word, GENERATION(committed))      \
	G(class_age_ns, "class", "nanoseconds", "since all records of the class were verified", read_class_age, 0)     \
	G(class_ttl_ns, "class", "nanoseconds", "time to live of the class", read_class_ttl, 0)                        \
	G(readers_pinning, NULL, "processes", "registered processes that hold a snapshot", read_pins, PIN_READERS)     \
	G(oldest_pin_age_ns, NULL, "nanoseconds", "for how long the oldest snapshot has been out of date", read_pins,  \
	  PIN_AGE)                                                                                                     \
	G(oldest_pin_commits, NULL, "commits", "commits since the oldest snapshot", read_pins, PIN_LAG)                \
	G(memory_free, NULL, "bytes", "free in the file system of the instance", read_free, 0)                         \
	G(memory_size, NULL, "bytes", "size of the file system of the instance", read_free, 1)                         \
	G(reload_refused, NULL, "", "1: the newest reload was refused", read_flag, SHMETA_STATS_RELOAD_REFUSED)        \
	G(restart_needed, NULL, "", "1: changed options wait for a restart", read_flag, SHMETA_STATS_RESTART_NEEDED)   \
	G(stats_age_ns, NULL, "nanoseconds", "since the writer wrote what it counted", read_stats_age, 0)

/* As the lists of counters spell a kind. */
#define KIND(text) ((text)[0] == 'c' ? METRIC_COUNTER : METRIC_GAUGE)

static const struct metric rows[] = {
#define G(key, label, unit, help, read, argument) {#key, label, unit, help, read, argument, METRIC_GAUGE},
	DERIVED_GAUGES(G)
#undef G
#define C(name, kind, unit, help) {#name, NULL, unit, help, read_counter, SHMETA_COUNTER_##name, KIND(kind)},
		SHMETA_CONTROL_COUNTERS(C) SHMETA_SYNC_COUNTERS(C)
#undef C
#define C(name, unit, help) \
	{"reader_" #name, NULL, unit, help, read_reader, offsetof(struct shmeta_reader_counters, name), METRIC_COUNTER},
			SHMETA_READER_COUNTERS(C)
#undef C
				{"lookup_ns", NULL, "nanoseconds",
                                 "how long sampled lookups took; the sum is that of the middles of the buckets",
                                 read_lookups, 0, METRIC_LOOKUPS},
#define X(NAME, name, help) \
	{#name "_time_ns", NULL, "nanoseconds", help, read_times, SHMETA_TIMED_##NAME, METRIC_TIMES},
	SHMETA_TIMES_LIST(X)
#undef X
};

size_t metric_count(void)
{
	return sizeof(rows) / sizeof(rows[0]);
}

const struct metric *metric_row(size_t i)
{
	return &rows[i];
}

const char *metric_kind(enum metric_kind kind)
{
	static const char *const words[] = {"counter", "gauge", "histogram", "histogram"};

	return words[kind];
}

bool metric_is_histogram(const struct metric *row)
{
	return row->kind == METRIC_LOOKUPS || row->kind == METRIC_TIMES;
}

size_t metric_buckets(const struct metric *row)
{
	return row->kind == METRIC_TIMES ? SHMETA_TIMES_BUCKETS : SHMETA_HISTOGRAM_BUCKETS;
}

uint64_t metric_floor(const struct metric *row, size_t i)
{
	return row->kind == METRIC_TIMES ? shmeta__times_floor((uint32_t)i) : shmeta__histogram_floor((uint32_t)i);
}

size_t metric_read(const struct metric *row, const struct metric_view *view, struct metric_value ret[METRIC_VALUES])
{
	_Static_assert((int)HEALTH_CHECK_COUNT <= (int)METRIC_VALUES &&
	                       (int)SHMETA_HISTOGRAM_BUCKETS <= (int)METRIC_VALUES &&
	                       (int)SHMETA_TIMES_BUCKETS < (int)METRIC_VALUES,
	               "a row has more values than there is room for");

	return view->readable || row->read == read_readable ? row->read(view, row->argument, ret) : 0;
}
