/* SPDX-License-Identifier: Apache-2.0
 * What to change, and why (advice.h). */
#include "tools/monitor/advice.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SAMPLES_MIN = 2000 }; /* fewer say little of a curve */

/* Less is not worth a change. */
#define GAIN_MIN 0.01

static uint64_t count(const struct advice_facts *f, enum shmeta_counter counter)
{
	return f->counter[counter];
}

static const json_t *option(const struct advice_facts *f, const char *name)
{
	const json_t *one;
	size_t i;

	json_array_foreach(f->options, i, one)
	{
		const char *is = json_string_value(json_object_get(one, "name"));

		if (is != NULL && strcmp(is, name) == 0)
			return one;
	}
	return NULL;
}

static uint64_t number(const struct advice_facts *f, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(option(f, name), "number"));
}

static const char *word(const struct advice_facts *f, const char *name)
{
	const char *text = json_string_value(json_object_get(option(f, name), "value"));

	return text != NULL ? text : "";
}

bool advice_is_bounded(const struct advice_facts *f)
{
	return strcmp(word(f, "store.mode"), "bounded") == 0;
}

__attribute__((format(printf, 2, 3))) static void say(char ret[ADVICE_BYTES], const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(ret, ADVICE_BYTES, fmt, args);
	va_end(args);
}

/* ---- room and its curve ---- */

/* Do partitions leave for their bytes, while there could be more of them? */
static bool is_by_bytes(const struct advice_facts *f)
{
	return count(f, SHMETA_COUNTER_evicted_partitions) > 0 &&
	       count(f, SHMETA_COUNTER_partitions) < number(f, "bounded.max_partitions") / 10 * 9;
}

/* So many partitions fit. */
static double room_of(const struct advice_facts *f)
{
	uint64_t room = is_by_bytes(f) ? count(f, SHMETA_COUNTER_partitions) : number(f, "bounded.max_partitions");

	return room > 0 ? (double)room : 1;
}

bool advice_knows_curve(const struct shmeta_usage *usage)
{
	return usage->curve_samples >= SAMPLES_MIN && usage->miss[0] != 0;
}

double advice_miss_at(const struct shmeta_usage *usage, size_t i)
{
	return usage->miss[i] > 0 ? (double)(usage->miss[i] - 1) / SHMETA_USAGE_ALL : 1;
}

/* The share of lookups that miss with room for so many partitions, but for first lookups, which no
 * room answers. */
static double lost_at(const struct advice_facts *f, double partitions)
{
	double at = log2(partitions / (double)SHMETA_USAGE_SIZE(0)),
	       floor_miss = advice_miss_at(f->usage, SHMETA_USAGE_SIZES - 1);
	size_t i = at <= 0 ? 0 : at >= SHMETA_USAGE_SIZES - 1 ? SHMETA_USAGE_SIZES - 1 : (size_t)at;
	double next = advice_miss_at(f->usage, i + 1 < SHMETA_USAGE_SIZES ? i + 1 : i),
	       here = advice_miss_at(f->usage, i);
	double part = at > (double)i && i + 1 < SHMETA_USAGE_SIZES ? at - (double)i : 0;

	return here + (next - here) * part - floor_miss;
}

/* ---- rules: each says what there is, or false ---- */

static bool budget_too_small(const struct advice_facts *f, struct advice *ret)
{
	enum { TIMES_MAX = 64 };
	uint64_t evicted = count(f, SHMETA_COUNTER_evicted_partitions), times = 2;
	double room = room_of(f), now, then;

	if (!advice_is_bounded(f) || !advice_knows_curve(f->usage) || evicted == 0)
		return false;
	while (times < TIMES_MAX && lost_at(f, room * (double)times) - lost_at(f, room * (double)times * 2) >= GAIN_MIN)
		times *= 2;
	now = lost_at(f, room);
	then = lost_at(f, room * (double)times);
	if (now - then < GAIN_MIN)
		return false;
	say(ret->because,
	    "%" PRIu64
	    " partitions were evicted, and %.1f %% of the lookups need one that does not fit beside %.0f others",
	    evicted, now * 100, room);
	if (is_by_bytes(f))
		say(ret->change,
		    "bounded.max_segment_bytes = %" PRIu64 " and bounded.max_bytes = %" PRIu64
		    ", with store.max_bytes at least twice that",
		    number(f, "bounded.max_segment_bytes") * times, number(f, "bounded.max_bytes") * times);
	else
		say(ret->change,
		    "bounded.max_partitions = %" PRIu64 ", and the budgets of bytes where they are exceeded then",
		    number(f, "bounded.max_partitions") * times);
	say(ret->effect, "about %.1f %% of the lookups miss for want of room, not %.1f %%", then * 100, now * 100);
	return true;
}

static bool budget_too_large(const struct advice_facts *f, struct advice *ret)
{
	uint64_t most = number(f, "bounded.max_partitions");
	double more;

	if (!advice_is_bounded(f) || !advice_knows_curve(f->usage) || is_by_bytes(f) ||
	    count(f, SHMETA_COUNTER_partitions) < most / 2)
		return false;
	more = lost_at(f, room_of(f) / 2) - lost_at(f, room_of(f));
	if (more >= GAIN_MIN / 4)
		return false;
	say(ret->because, "half of the room for %" PRIu64 " partitions would cost %.2f %% of the hits", most,
	    more * 100);
	say(ret->change, "bounded.max_partitions = %" PRIu64, most / 2);
	say(ret->effect, "about half of the memory of the store and of each agent's map of touches");
	return true;
}

static bool partitions_too_large(const struct advice_facts *f, struct advice *ret)
{
	uint64_t n = count(f, SHMETA_COUNTER_too_large);

	if (!advice_is_bounded(f) || n == 0)
		return false;
	say(ret->because,
	    "partitions that alone exceed bounded.max_segment_bytes (%s) were read %" PRIu64 " times, and not kept",
	    word(f, "bounded.max_segment_bytes"), n);
	say(ret->change, "bounded.max_segment_bytes above the size that a FRESH lookup in such a partition is told");
	say(ret->effect, "they are resident, and are not read again each minute");
	return true;
}

/* With a feed nothing is read because a time is over. */
static bool ttl_too_short(const struct advice_facts *f, struct advice *ret)
{
	enum { PERCENT = 95, ROWS_MIN = 10000 };
	uint64_t same = count(f, SHMETA_COUNTER_rows_unchanged), rows = same + count(f, SHMETA_COUNTER_rows_applied);

	if (count(f, SHMETA_COUNTER_polls) > 0 || rows < ROWS_MIN || same * 100 < rows * PERCENT)
		return false;
	say(ret->because,
	    "there is no change feed, and of %" PRIu64 " rows that were read and compared %.1f %% were as before", rows,
	    100 * (double)same / (double)rows);
	if (advice_is_bounded(f) && strcmp(word(f, "bounded.freshness"), "fixed") == 0) {
		say(ret->change, "bounded.freshness = balanced");
		say(ret->effect,
		    "what does not change is read up to 20 times less often: about a sixth of the rows where changes "
		    "are in few partitions");
		return true;
	}
	if (advice_is_bounded(f))
		say(ret->change,
		    "bounded.fresh_base_ms and bounded.fresh_max_ms twice as long, or bounded.freshness = read-heavy");
	else
		say(ret->change, "ttl.partition_ms and ttl.segment_ms twice as long (now %s and %s)",
		    word(f, "ttl.partition_ms"), word(f, "ttl.segment_ms"));
	say(ret->effect, "about half of these rows are read; an answer that is called fresh may be twice as old");
	return true;
}

static bool source_budget_too_small(const struct advice_facts *f, struct advice *ret)
{
	enum { PERCENT = 50 };
	uint64_t waited = count(f, SHMETA_COUNTER_postponed);

	if (waited < PERCENT)
		return false;
	say(ret->because,
	    "reads waited for their budget in %" PRIu64 " %% of the last ten seconds; %" PRIu64 " keys wait", waited,
	    count(f, SHMETA_COUNTER_queue_depth));
	say(ret->change,
	    "refresh.queries_s (%s), refresh.rows_s (%s) or source.read_units_s (%s) higher, as far as the source bears it, or "
	    "longer times to live",
	    word(f, "refresh.queries_s"), word(f, "refresh.rows_s"), word(f, "source.read_units_s"));
	say(ret->effect, "a FRESH lookup waits for the source alone, and what is in use is read before it expires");
	return true;
}

static bool fills_too_slowly(const struct advice_facts *f, struct advice *ret)
{
	enum { PART = 10 };
	uint64_t dropped = count(f, SHMETA_COUNTER_missed_dropped), all = dropped + count(f, SHMETA_COUNTER_missed);

	if (!advice_is_bounded(f) || dropped == 0 || dropped * PART < all)
		return false;
	say(ret->because,
	    "of %" PRIu64 " keys that lookups met unknown %" PRIu64 " were dropped: a user had had its share", all,
	    dropped);
	say(ret->change, "refresh.user_rate above %s, as far as the source bears it", word(f, "refresh.user_rate"));
	say(ret->effect, "what is looked up is resident sooner: so many keys a second of each user");
	return true;
}

static bool store_too_small(const struct advice_facts *f, struct advice *ret)
{
	enum { HIGH = 2 };

	if (count(f, SHMETA_COUNTER_pressure) < HIGH)
		return false;
	say(ret->because,
	    "the store has taken 85 %% of what it may, or more; %" PRIu64 " partitions left for that alone",
	    count(f, SHMETA_COUNTER_relieved));
	say(ret->change,
	    "store.max_bytes higher (at a restart), room in the instance's file system, or bounded.max_bytes lower");
	say(ret->effect, "nothing leaves while the budgets hold, and what is in use is read before it expires");
	return true;
}

static const struct {
	const char *name;
	bool (*judge)(const struct advice_facts *f, struct advice *ret);
} rules[ADVICE_MAX] = {
	{"budget_too_small", budget_too_small},
	{"budget_too_large", budget_too_large},
	{"partitions_too_large", partitions_too_large},
	{"ttl_too_short", ttl_too_short},
	{"source_budget_too_small", source_budget_too_small},
	{"fills_too_slowly", fills_too_slowly},
	{"store_too_small", store_too_small},
};

size_t advice_judge(const struct advice_facts *f, struct advice ret[ADVICE_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < ADVICE_MAX; i++) {
		ret[n].name = rules[i].name;
		n += rules[i].judge(f, &ret[n]);
	}
	return n;
}
