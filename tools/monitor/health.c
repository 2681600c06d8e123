/* SPDX-License-Identifier: Apache-2.0
 * The checks: one function each, which says what it found and, when that is not well, what to
 * do. */
#include "tools/monitor/health.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/escape.h"
#include "base/size_text.h"
#include "shm/store/store.h"

#define SECOND UINT64_C(1000000000)

enum {
	AWAY_CRITICAL_S = 60,
	LAG_WARNING_S = 10,
	LAG_CRITICAL_S = 60,
	PIN_WARNING_S = 10,
	PIN_CRITICAL_S = 60,
	LOOKUPS_LEAST = 1000,
	QUEUE_WARNING = 10000,
	QUEUE_CRITICAL = 100000,
	UNITS_WARNING = 50, /* percent */
	QUEUE_AGE_WARNING_S = 10,
	QUEUE_AGE_CRITICAL_S = 60,
	SLOTS_WARNING_PERCENT = 90,
	HUGE_LEAST_MIB = 64,
	SNAPSHOT_FILE_LAG = 300, /* percent */
	SOURCE_CLOCK_S = 5,
	STATS_LATE_S = 5
};

static const char away[] = "away since ";

/* The finding, and what was found. */
__attribute__((format(printf, 3, 4))) static void found(struct health_finding *f, enum health_severity severity,
                                                        const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	shmeta__vsay(f->value, sizeof(f->value), fmt, ap);
	va_end(ap);
	f->severity = severity;
}

/* What to do. In the command "@" stands for shmetactl and the instance, "%" for its unit. */
static void advise(struct health_finding *f, const char *advice, const char *command)
{
	f->advice = advice;
	(void)snprintf(f->command, sizeof(f->command), "%s", command);
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static void judge_writer(const struct pages *p, struct health_finding *f)
{
	uint64_t age = pages_since(p->now_ns, p->board.heartbeat_ns);

	if (p->alive && p->stats != NULL && (p->stats->flags & SHMETA_STATS_CUT) != 0) {
		found(f, HEALTH_WARNING, "alive, pid %" PRIu64 ", but nobody can connect", p->board.writer_pid);
		advise(f, "Readers go on; new ones and writes do not. The phase says why, and what to do.", "@ status");
		return;
	}
	if (p->alive) {
		found(f, HEALTH_OK, "alive, pid %" PRIu64 ", heartbeat %.1f s ago", p->board.writer_pid, seconds(age));
		return;
	}
	if (p->start_failed) {
		char why[1100];

		found(f, HEALTH_CRITICAL, "%s; the last start failed: %s", pages_writer(p),
		      shmeta__escape_line(why, sizeof(why), p->last_start.sentence));
		advise(f, "Correct what the sentence names, then start the writer. Readers go on with what it left.",
		       "systemctl restart %");
		return;
	}
	if (!p->same_boot)
		found(f, HEALTH_CRITICAL, "dead: it ran before this machine started");
	else if (age == UINT64_MAX)
		found(f, HEALTH_CRITICAL, "%s", pages_writer(p));
	else
		found(f, HEALTH_CRITICAL, "%s, last heartbeat %.0f s ago", pages_writer(p), seconds(age));
	if (p->liveness == WRITER_STALLED)
		advise(f, "The process is there and does not run: stopped, or hung. Readers go on. Restart it.",
		       "systemctl restart %");
	else if (p->board.phase == SHMETA_PHASE_STOPPED)
		advise(f, "It was stopped. Readers go on with what it left. Start it.", "systemctl start %");
	else
		advise(f, "Readers go on with what it left. The journal says why it ended; start it.",
		       "journalctl -u % -e; systemctl start %");
}

/* Somebody wanted it so. */
static bool is_paused(const struct pages *p)
{
	static const char paused[] = "paused since ";

	return p->alive && p->stats != NULL && strncmp(p->stats->source_status, paused, strlen(paused)) == 0;
}

static void judge_phase(const struct pages *p, struct health_finding *f)
{
	char why[SHMETA_STATS_TEXT + 200] = "";

	if (p->stats != NULL)
		(void)shmeta__escape(why, sizeof(why), p->stats->reason,
		                     strnlen(p->stats->reason, sizeof(p->stats->reason)));
	found(f,
	      p->alive && p->board.phase == SHMETA_PHASE_SERVING ? HEALTH_OK
	      : is_paused(p)                                     ? HEALTH_WARNING
	                                                         : HEALTH_CRITICAL,
	      "%s%s%s%s", pages_phase(p->board.phase), p->alive ? "" : " when the writer went away",
	      why[0] != '\0' ? ": " : "", why);
	if (f->severity == HEALTH_OK)
		return;
	if (is_paused(p))
		advise(f,
		       "Lookups are answered from what is known, and grow old. End the pause when the maintenance is over.",
		       "@ resume");
	else if (p->board.phase == SHMETA_PHASE_LOADING || p->board.phase == SHMETA_PHASE_STARTING)
		advise(f, "It reads the source for the first time; wait until the rows are read.", "@ status");
	else if (p->board.phase == SHMETA_PHASE_DEGRADED)
		advise(f, "Lookups are answered from what is known, and grow old. Cure the reason that is given.",
		       "@ status");
	else
		advise(f, "The writer does not run or is about to end; see the check 'writer'.", "@ status");
}

bool health_source_up(const struct pages *p)
{
	static const char up[] = "connected";

	return p->alive && p->stats != NULL && strncmp(p->stats->source_status, up, strlen(up)) == 0;
}

/* Since when the source is away, as the writer wrote it; -1: it does not say. */
static double away_s(const struct shmeta_stats *st)
{
	char text[sizeof(st->source_status) + 1];
	struct tm tm = {0};

	memcpy(text, st->source_status, sizeof(st->source_status));
	text[sizeof(text) - 1] = '\0';
	if (strncmp(text, away, strlen(away)) != 0 || strptime(text + strlen(away), "%Y-%m-%dT%H:%M:%S", &tm) == NULL)
		return -1;
	return difftime(time(NULL), timegm(&tm));
}

static void judge_source(const struct pages *p, struct health_finding *f)
{
	char text[SHMETA_STATS_TEXT + 200];

	if (p->stats == NULL || !p->alive) {
		found(f, HEALTH_UNKNOWN, "nobody asks it");
		advise(f, "Start the writer first.", "");
		return;
	}
	(void)shmeta__escape(text, sizeof(text), p->stats->source_status,
	                     strnlen(p->stats->source_status, sizeof(p->stats->source_status)));
	if (health_source_up(p)) {
		found(f, HEALTH_OK, "%s", text);
		return;
	}
	if (is_paused(p)) {
		found(f, HEALTH_WARNING, "%s", text);
		advise(f, "Writes are refused meanwhile. End the pause when the maintenance is over.", "@ resume");
		return;
	}
	found(f, away_s(p->stats) >= AWAY_CRITICAL_S ? HEALTH_CRITICAL : HEALTH_WARNING, "%s",
	      text[0] != '\0' ? text : "not connected");
	advise(f, "Lookups go on and grow old; writes fail. Look at the database, its network and its password.",
	       "@ schema status");
}

static void judge_feed(const struct pages *p, struct health_finding *f)
{
	uint64_t lag = pages_counter(p, SHMETA_COUNTER_lag_ns);

	if (lag == UINT64_MAX) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	found(f,
	      lag >= LAG_CRITICAL_S * SECOND  ? HEALTH_CRITICAL
	      : lag >= LAG_WARNING_S * SECOND ? HEALTH_WARNING
	                                      : HEALTH_OK,
	      "%.1f s behind", seconds(lag));
	if (f->severity != HEALTH_OK)
		advise(f, "Changes by others are seen late. A long transaction or a slow source holds the feed back.",
		       "@ schema status");
}

static void judge_freshness(const struct pages *p, struct health_finding *f)
{
	int late = p->published ? shmeta__late_class(&p->generation, p->now_ns) : -1, stale = -1;
	uint64_t age;

	if (!p->published) {
		found(f, HEALTH_CRITICAL, "nothing was published yet");
		advise(f, "Wait for the first load; the phase says how far it is.", "@ status");
		return;
	}
	for (int i = 0; i < SHMETA_CLASS_COUNT && stale < 0; i++) {
		age = pages_since(p->now_ns, p->generation.stamp[i].synced_at_ns);
		if (age != UINT64_MAX && age >= p->generation.stamp[i].ttl_ns)
			stale = i;
	}
	if (late < 0 && stale < 0) {
		found(f, HEALTH_OK, "all %d classes", (int)SHMETA_CLASS_COUNT);
		return;
	}
	stale = late >= 0 ? late : stale;
	age = pages_since(p->now_ns, p->generation.stamp[stale].synced_at_ns);
	found(f, late >= 0 ? HEALTH_CRITICAL : HEALTH_WARNING, "class %s was last verified %.1f s ago (TTL %.1f s)",
	      pages_class((enum shmeta_class)stale), age == UINT64_MAX ? 0.0 : seconds(age),
	      seconds(p->generation.stamp[stale].ttl_ns));
	if (!p->alive)
		advise(f, "Nobody verifies it: start the writer.", "systemctl start %");
	else
		advise(f, "Refreshes fail or are late: see 'source' and 'phase'; a refresh says what fails.",
		       "@ refresh list");
}

static void judge_answers(const struct pages *p, struct health_finding *f)
{
	const struct shmeta_reader_counters *c;
	uint64_t all, bad;

	if (p->stats == NULL) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	c = &p->stats->all_readers;
	bad = c->unknown + c->errors;
	all = c->found + c->absent + bad;
	found(f, all >= LOOKUPS_LEAST && bad > all / 20 ? HEALTH_WARNING : HEALTH_OK,
	      "%.2f %% of %" PRIu64 " lookups since the writer started",
	      all > 0 ? 100.0 * (double)(all - bad) / (double)all : 100.0, all);
	if (f->severity != HEALTH_OK)
		advise(f, "Readers ask for rows that are not loaded or cannot be read.", "@ quarantine");
}

static void judge_checksums(const struct pages *p, struct health_finding *f)
{
	if (p->stats == NULL) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	found(f, p->stats->all_readers.corrupt > 0 ? HEALTH_CRITICAL : HEALTH_OK, "%" PRIu64 " wrong",
	      p->stats->all_readers.corrupt);
	if (f->severity != HEALTH_OK)
		advise(f, "The store was damaged from outside: check it, then restart the writer with a new one.",
		       "@ verify; systemctl restart %");
}

uint32_t health_pins(const struct pages *p, uint64_t *ret_age_ns, uint64_t *ret_lag)
{
	uint32_t holding = 0;

	*ret_age_ns = *ret_lag = 0;
	for (uint32_t i = 0; p->stats != NULL && i < p->stats->reader_count && i < SHMETA_STATS_READERS; i++) {
		const struct shmeta_stats_reader *r = &p->stats->reader[i];

		if (r->oldest_pin == 0)
			continue;
		holding++;
		if (r->pin_age_ns > *ret_age_ns) {
			*ret_age_ns = r->pin_age_ns;
			*ret_lag = r->pin_lag;
		}
	}
	return holding;
}

static void judge_pins(const struct pages *p, struct health_finding *f)
{
	uint64_t age, lag;
	uint32_t holding;

	if (p->stats == NULL) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	holding = health_pins(p, &age, &lag);
	found(f,
	      age >= PIN_CRITICAL_S * SECOND  ? HEALTH_CRITICAL
	      : age >= PIN_WARNING_S * SECOND ? HEALTH_WARNING
	                                      : HEALTH_OK,
	      "%" PRIu32 " readers hold a snapshot, the oldest for %.1f s, %" PRIu64 " commits behind", holding,
	      seconds(age), lag);
	if (f->severity != HEALTH_OK)
		advise(f, "It holds back room in the store. Find the process; if it hangs, take its snapshots back.",
		       "@ readers; @ revoke PID");
}

static void judge_store(const struct pages *p, struct health_finding *f)
{
	uint64_t used = pages_counter(p, SHMETA_COUNTER_store_used),
		 pinned = pages_counter(p, SHMETA_COUNTER_store_pinned), limit = p->generation.max_bytes;
	char text[SIZE_TEXT_BYTES];
	const char *advice;
	unsigned level;

	if (used == UINT64_MAX || limit == 0) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	if (pinned == UINT64_MAX)
		pinned = 0;
	level = shmeta__room_level(used, pinned, limit, &advice);
	found(f,
	      level >= 95 ? HEALTH_CRITICAL
	      : level > 0 ? HEALTH_WARNING
	                  : HEALTH_OK,
	      "%.1f %% used, %.1f %% pinned, of %s", 100.0 * (double)used / (double)limit,
	      100.0 * (double)pinned / (double)limit, size_text(limit, text));
	if (level > 0)
		advise(f, advice, pinned > used ? "@ readers" : "@ store");
}

bool health_free_bytes(const struct pages *p, uint64_t *ret_free, uint64_t *ret_size)
{
	struct statvfs fs;

	if (fstatvfs(p->dir_fd, &fs) != 0)
		return false;
	*ret_free = (uint64_t)fs.f_bavail * fs.f_frsize;
	*ret_size = (uint64_t)fs.f_blocks * fs.f_frsize;
	return true;
}

static void judge_memory(const struct pages *p, struct health_finding *f)
{
	char name[64], text[3][SIZE_TEXT_BYTES];
	uint64_t room, size, used = 0, grow;
	struct stat st;

	if (!health_free_bytes(p, &room, &size)) {
		found(f, HEALTH_UNKNOWN, "the file system does not say");
		return;
	}
	(void)snprintf(name, sizeof(name), "store.%" PRIu64 "/data.mdb", p->board.generation);
	if (fstatat(p->dir_fd, name, &st, 0) == 0)
		used = (uint64_t)st.st_blocks * 512;
	grow = p->generation.max_bytes > used ? p->generation.max_bytes - used : 0;
	found(f, room < grow && room < size / 10 ? HEALTH_WARNING : HEALTH_OK,
	      "%s of %s free; the store may grow by %s", size_text(room, text[0]), size_text(size, text[1]),
	      size_text(grow, text[2]));
	if (f->severity != HEALTH_OK)
		advise(f, "A full file system stops commits. Remove what else is in it, or make it larger.",
		       "df -h /run/shmeta; mount -o remount,size=SIZE /run/shmeta");
}

static void judge_slots(const struct pages *p, struct health_finding *f)
{
	const struct shmeta_stats_reader *most = NULL;

	if (p->stats == NULL) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	/* Who has one thread needs one slot, and has it. */
	for (uint32_t i = 0; i < p->stats->reader_count && i < SHMETA_STATS_READERS; i++)
		if (p->stats->reader[i].slots_max != 1 && (most == NULL || p->stats->reader[i].slots > most->slots))
			most = &p->stats->reader[i];
	if (most == NULL || most->slots_max == 0) {
		found(f, HEALTH_OK, "%" PRIu32 " processes are registered", p->stats->readers_total);
		return;
	}
	found(f,
	      (uint64_t)most->slots * 100 >= (uint64_t)most->slots_max * SLOTS_WARNING_PERCENT ? HEALTH_WARNING
	                                                                                       : HEALTH_OK,
	      "pid %" PRIu64 " uses %" PRIu32 " of its %" PRIu32 " slots, the most of %" PRIu32 " processes", most->pid,
	      most->slots, most->slots_max, p->stats->readers_total);
	if (f->severity != HEALTH_OK)
		advise(f,
		       "A thread without a slot reads unregistered: a long snapshot of its is void after 0.5 s. Have the agent ask "
		       "for more slots when it opens.",
		       "@ readers");
}

static void judge_hugepages(const struct pages *p, struct health_finding *f)
{
	uint64_t used = pages_count(p, SHMETA_COUNTER_store_used);
	char text[SIZE_TEXT_BYTES];

	if (!p->memory.wants_huge) {
		found(f, HEALTH_OK, "the mount does not ask for any");
		return;
	}
	found(f, p->memory.huge_bytes == 0 && used >= (uint64_t)HUGE_LEAST_MIB << 20 ? HEALTH_WARNING : HEALTH_OK,
	      "%s of this machine's shared memory", size_text(p->memory.huge_bytes, text));
	if (f->severity != HEALTH_OK)
		advise(f,
		       "Lookups over a large store are slower without. See what the kernel lets, and whether memory is split.",
		       "cat /sys/kernel/mm/transparent_hugepage/shmem_enabled; grep -i huge /proc/meminfo");
}

static void judge_budget(const struct pages *p, struct health_finding *f)
{
	uint64_t over = pages_count(p, SHMETA_COUNTER_bounded_over);
	char text[SIZE_TEXT_BYTES];

	found(f, over > 0 ? HEALTH_WARNING : HEALTH_OK, "%s beyond bounded.max_bytes", size_text(over, text));
	if (over > 0)
		advise(f,
		       "Agents, leases and offsets alone take more, so nothing else stays. Give bounded.max_bytes more.",
		       "@ config show; @ reload --wait");
}

static void judge_snapshot_file(const struct pages *p, struct health_finding *f)
{
	uint64_t lag = pages_count(p, SHMETA_COUNTER_snapshot_file_lag);

	found(f, lag >= SNAPSHOT_FILE_LAG ? HEALTH_WARNING : HEALTH_OK,
	      "it lacks what was committed in the last %.1f times warm.interval", (double)lag / 100);
	if (f->severity != HEALTH_OK)
		advise(f, "A start after a reboot would show older rows. The journal says why it is not written.",
		       "journalctl -u % | grep warm_not_saved");
}

static void judge_queue(const struct pages *p, struct health_finding *f)
{
	uint64_t depth = pages_counter(p, SHMETA_COUNTER_queue_depth),
		 age = pages_count(p, SHMETA_COUNTER_queue_age_ns);

	if (depth == UINT64_MAX) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	found(f,
	      depth >= QUEUE_CRITICAL || age >= QUEUE_AGE_CRITICAL_S * SECOND ? HEALTH_CRITICAL
	      : depth >= QUEUE_WARNING || age >= QUEUE_AGE_WARNING_S * SECOND ? HEALTH_WARNING
	                                                                      : HEALTH_OK,
	      "%" PRIu64 " keys wait, the oldest for %.1f s", depth, seconds(age));
	if (f->severity != HEALTH_OK)
		advise(f, "The source is slower than the changes and refreshes: look at its load.", "@ stat");
}

static void judge_units(const struct pages *p, struct health_finding *f)
{
	uint64_t percent = pages_counter(p, SHMETA_COUNTER_postponed);

	if (percent == UINT64_MAX) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	found(f, percent >= UNITS_WARNING ? HEALTH_WARNING : HEALTH_OK, "waited for %" PRIu64 " %% of the time",
	      percent);
	if (f->severity != HEALTH_OK)
		advise(f,
		       "Reads or writes wait for refresh.queries_s, refresh.rows_s, source.read_units_s or "
		       "source.write_units_s: raise what is set, or do less.",
		       "@ stat");
}

static void judge_quarantine(const struct pages *p, struct health_finding *f)
{
	uint64_t rows = pages_counter(p, SHMETA_COUNTER_quarantined);

	if (rows == UINT64_MAX) {
		found(f, HEALTH_UNKNOWN, "not counted");
		return;
	}
	found(f, rows > 0 ? HEALTH_WARNING : HEALTH_OK, "%" PRIu64 " rows", rows);
	if (f->severity != HEALTH_OK)
		advise(f,
		       "These rows are answered UNKNOWN. Each is listed with what is wrong: correct it in the source.",
		       "@ quarantine");
}

static void judge_clock(const struct pages *p, struct health_finding *f)
{
	uint64_t beat = p->board.heartbeat_ns, off = pages_count(p, SHMETA_COUNTER_source_clock_off_ns);

	if (p->same_boot && beat > p->now_ns + SECOND) {
		found(f, HEALTH_CRITICAL, "the heartbeat is %.1f s ahead", seconds(beat - p->now_ns));
		advise(f, "This process is in a time namespace of its own: ages are wrong. Run it in the host's.",
		       "lsns -t time");
		return;
	}
	found(f, off >= SOURCE_CLOCK_S * SECOND ? HEALTH_WARNING : HEALTH_OK,
	      "the heartbeat is not ahead; the clock of the source is %.1f s off", seconds(off));
	if (f->severity != HEALTH_OK)
		advise(f,
		       "The source decides when leases end; times of records differ by that much. Set the clocks right.",
		       "timedatectl timesync-status");
}

static void judge_versions(const struct pages *p, struct health_finding *f)
{
	uint32_t others = 0;
	char writer[24];

	for (uint32_t i = 0; p->stats != NULL && i < p->stats->reader_count && i < SHMETA_STATS_READERS; i++)
		others += p->stats->reader[i].version != p->board.writer_version && p->stats->reader[i].version != 0;
	(void)pages_version(p->board.writer_version, writer);
	if (strcmp(writer, SHMETA_VERSION_STRING) != 0) {
		found(f, HEALTH_WARNING, "writer %s, installed %s", writer, SHMETA_VERSION_STRING);
		advise(f, "The writer still runs the former version: restart it; readers stay attached.",
		       "systemctl restart %");
		return;
	}
	found(f, others > 0 ? HEALTH_WARNING : HEALTH_OK, "writer %s, %" PRIu32 " readers of another version", writer,
	      others);
	if (others > 0)
		advise(f, "Restart the agents that were started before the upgrade.", "@ readers");
}

static void judge_reload(const struct pages *p, struct health_finding *f)
{
	if (p->stats == NULL) {
		found(f, HEALTH_UNKNOWN, "not known");
		return;
	}
	if ((p->stats->flags & SHMETA_STATS_RELOAD_REFUSED) == 0) {
		found(f, HEALTH_OK, "no reload was refused");
		return;
	}
	found(f, HEALTH_WARNING, "refused; the configuration before it is in use");
	advise(f, "Correct the file, check it, reload.", "@ config check; @ reload --wait");
}

static void judge_restart(const struct pages *p, struct health_finding *f)
{
	if (p->stats == NULL) {
		found(f, HEALTH_UNKNOWN, "not known");
		return;
	}
	if ((p->stats->flags & SHMETA_STATS_RESTART_NEEDED) == 0) {
		found(f, HEALTH_OK, "nothing waits for a restart");
		return;
	}
	found(f, HEALTH_WARNING, "options were changed that wait for a restart");
	advise(f, "See which; restart when it suits: readers go on meanwhile.", "@ config show; systemctl restart %");
}

static void judge_stats(const struct pages *p, struct health_finding *f)
{
	char why[600];
	uint64_t age;

	if (p->stats == NULL) {
		found(f, HEALTH_UNKNOWN, "%s", shmeta__escape_line(why, sizeof(why), p->stats_error.text));
		advise(f, "The stats page cannot be read: restart the writer if it is of another version.",
		       "systemctl restart %");
		return;
	}
	age = pages_since(p->now_ns, p->stats->updated_at_ns);
	if (age == UINT64_MAX) {
		found(f, HEALTH_WARNING, "never written");
		return;
	}
	found(f, age >= STATS_LATE_S * SECOND ? HEALTH_WARNING : HEALTH_OK, "written %.1f s ago", seconds(age));
	if (f->severity != HEALTH_OK)
		advise(f, "What is counted is from then; see the check 'writer'.", "@ status");
}

static const struct {
	const char *name, *what, *thresholds;
	void (*judge)(const struct pages *pages, struct health_finding *ret);
} checks[HEALTH_CHECK_COUNT] = {
#define X(name, what, thresholds) {#name, what, thresholds, judge_##name},
	HEALTH_CHECK_LIST(X)
#undef X
};

/* "@" and "%" of a command, in place. */
static void spell_command(struct health_finding *f, const char *instance)
{
	char text[HEALTH_COMMAND_BYTES], unit[UNIT_BYTES], name[HEALTH_COMMAND_BYTES / 2];
	size_t used = 0;

	(void)shmeta__escape_line(name, sizeof(name), instance);
	(void)(instance[0] == '/' ? pages_unit_of(instance, unit) : pages_unit(name, unit));
	for (const char *c = f->command; *c != '\0' && used + 1 < sizeof(text); c++) {
		size_t room = sizeof(text) - used;
		int n;

		if (*c == '%')
			n = snprintf(text + used, room, "%s", unit);
		else if (*c != '@')
			n = snprintf(text + used, room, "%c", *c);
		else if (strcmp(instance, "default") == 0)
			n = snprintf(text + used, room, "shmetactl");
		else
			n = snprintf(text + used, room, "shmetactl --%s %s", instance[0] == '/' ? "dir" : "instance",
			             name);
		used += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
	}
	text[used] = '\0';
	memcpy(f->command, text, used + 1);
}

void health_judge(const struct pages *pages, const char *instance, struct health *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < HEALTH_CHECK_COUNT; i++) {
		struct health_finding *f = &ret->finding[i];

		f->advice = "";
		checks[i].judge(pages, f);
		spell_command(f, instance);
		ret->count[f->severity]++;
		if (f->severity > ret->worst)
			ret->worst = f->severity;
	}
}

const char *health_name(enum health_check check)
{
	return checks[check].name;
}

const char *health_what(enum health_check check)
{
	return checks[check].what;
}

const char *health_thresholds(enum health_check check)
{
	return checks[check].thresholds;
}

const char *health_word(enum health_severity severity)
{
	static const char *const words[] = {"ok", "warning", "unknown", "critical"};

	return words[severity];
}

int health_exit(enum health_severity severity)
{
	static const int codes[] = {0, 1, 3, 2};

	return codes[severity];
}
