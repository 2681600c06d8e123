/* SPDX-License-Identifier: Apache-2.0
 * Readers over files that were damaged, before they opened them or under them: everything that can
 * be asked is asked, and answered as by the good files or with an error. `make faults` prints a
 * table by kind of damage. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/damage.h"
#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"

TestSuite(damage, .timeout = 3600); /* make faults takes its time */

enum { TOPICS = 40, PARTITIONS = 4, SEGMENTS = 250, SPAN = 1000, OFFSETS = 14, AGENTS = 20, GROUPS = 10 };
enum { ANSWERS_MAX = 16384, HANG_CPU_S = 20, READ_KINDS = DAMAGE_KINDS - DAMAGE_KINDS_OF_STATS };

static const char seed_sql[] =
	"BEGIN;"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 39) "
	"INSERT INTO topics(name, partition_count, retention_ms, created_at, updated_at, config) "
	"SELECT 'topic-' || i, 4, 604800000, 1 + i, 1, '{\"key\":\"value\"}' FROM n;"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 3) "
	"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
	"SELECT name, i, 250000, 1, 1 FROM topics, n;"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 249) "
	"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, "
	"created_at) SELECT topic || '-' || partition_id || '-' || i, topic, partition_id, i * 1000, i * 1000 + 999, 1000, "
	"100000 + abs(random()) % 900000, 'bucket', 'data/' || topic || '/' || partition_id || '/' || i, 1000 + i "
	"FROM partitions, n;"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19) "
	"INSERT INTO agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at, metadata) "
	"SELECT 'agent-' || i, '10.0.0.' || i, 'zone-' || i % 3, 'default', 1000 + i, 1, '{\"key\":\"value\"}' FROM n;"
	"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9) "
	"INSERT INTO consumer_groups(group_id, created_at, updated_at) SELECT 'group-' || i, 1, 1 FROM n;"
	"INSERT INTO consumer_offsets(group_id, topic, partition_id, committed_offset, metadata, committed_at) "
	"SELECT group_id, topic, partition_id, 100 * partition_id, 'note', 1 FROM consumer_groups, partitions;"
	"INSERT INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch) "
	"SELECT topic, partition_id, 'agent-' || partition_id, 1000000, 1, 3 FROM partitions;"
	"COMMIT;";

enum outcome { RIGHT, REPORTED, REFUSED, WRONG, HANG, ENDED, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {"right", "reported", "refused", "wrong", "hang", "ended"};

struct answer {
	uint64_t hash;
	const char *about;
	enum shmeta_status status;
};

/* Of all processes of a test. */
struct page {
	struct answer good[ANSWERS_MAX];
	size_t count;
	/* Of a trial. */
	uint32_t wrong, reported;
	struct answer first_wrong;
	int code;
};

static struct run_daemon d;
static struct damage damage;
static struct page *page;

static void setup(void)
{
	page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(page, MAP_FAILED);
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_sql(&d, seed_sql), 0);
	run_daemon_forget(&d);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(damage_init(&damage, d.instance), 0);
}

static void teardown(void)
{
	damage_free(&damage);
	run_daemon_done(&d);
	(void)munmap(page, sizeof *page);
}

/* ---- asking everything ---- */

static bool recording;
static size_t asked;

static void answer(const char *about, enum shmeta_status status, uint64_t hash)
{
	struct answer *good = &page->good[asked++];
	struct answer a = {status == SHMETA_OK ? hash : 0, about, status};

	if (asked > ANSWERS_MAX)
		abort();
	if (recording) {
		*good = a;
		page->count = asked;
	} else if (status < 0 || status == SHMETA_UNKNOWN) {
		page->reported++;
	} else if ((a.status != good->status || a.hash != good->hash) && page->wrong++ == 0) {
		page->first_wrong = a;
	}
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t count)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < count; i++)
		hash = (hash ^ b[i]) * UINT64_C(1099511628211);
	return hash;
}

static uint64_t number(uint64_t hash, uint64_t n)
{
	return mix(hash, &n, sizeof n);
}

static uint64_t text(uint64_t hash, struct shmeta_str s)
{
	return number(mix(hash, s.data, s.bytes), s.bytes);
}

static uint64_t map(uint64_t hash, struct shmeta_map m)
{
	return number(mix(hash, m.data, m.bytes), m.bytes);
}

static uint64_t topic_hash(uint64_t hash, const struct shmeta_topic *t)
{
	hash = map(number(number(text(hash, t->name), t->topic_id), t->partition_count), t->config);
	return number(number(hash, (uint64_t)t->retention_ms), (uint64_t)t->created_at_ms);
}

static uint64_t partition_hash(uint64_t hash, const struct shmeta_partition *p)
{
	hash = number(number(number(hash, p->partition_id), p->high_watermark), p->log_start_offset);
	return number(number(hash, p->segment_count), p->size_bytes);
}

static uint64_t segment_hash(uint64_t hash, const struct shmeta_segment *s)
{
	hash = number(number(number(hash, s->base_offset), s->end_offset), s->size_bytes);
	return number(number(hash, s->record_count), (uint64_t)s->created_at_ms);
}

/* A list is one answer: all of it, or what it broke off with. */
#define LIST(about, open, next, step)                                             \
	do {                                                                      \
		struct shmeta_iter *iter_;                                        \
		enum shmeta_status status_ = (open);                              \
		uint64_t hash = 1;                                                \
		if (status_ == SHMETA_OK) {                                       \
			while ((status_ = (next)) == SHMETA_OK)                   \
				hash = (step);                                    \
			shmeta_iter_free(iter_);                                  \
		}                                                                 \
		answer(about, status_ == SHMETA_END ? SHMETA_OK : status_, hash); \
	} while (0)

static void ask_segments(struct shmeta_handle *handle)
{
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_segment s = {0};
	enum shmeta_status status;

	for (uint64_t i = 0; i < OFFSETS; i++) {
		status = shmeta_find_segment(handle, (uint64_t)SEGMENTS * SPAN * i / (OFFSETS - 2), NULL, &s, NULL);
		answer("a segment by offset", status, segment_hash(1, &s));
		if (status == SHMETA_OK)
			status = shmeta_segment_strings(handle, &s, strings, sizeof strings);
		answer("its strings", status,
		       status == SHMETA_OK ? text(text(text(1, s.id), s.s3_bucket), s.s3_key) : 0);
	}
	status = shmeta_find_segment_for_timestamp(handle, 1100, NULL, &s, NULL);
	answer("a segment by time", status, segment_hash(1, &s));
	status = shmeta_last_segment(handle, NULL, &s, NULL);
	answer("the last segment", status, segment_hash(1, &s));
	LIST("segments", shmeta_list_segments(handle, 0, UINT64_MAX, NULL, &iter_), shmeta_next_segment(iter_, &s),
	     segment_hash(hash, &s));
}

static void ask_partition(struct shmeta_reader *r, const char *name, uint32_t id, struct shmeta_handle *kept)
{
	struct shmeta_handle *handle = kept;
	struct shmeta_partition p = {0};
	struct shmeta_committed_offset o = {0};
	struct shmeta_lease l = {0};
	enum shmeta_status status;
	size_t bytes = strlen(name), before;

	status = shmeta_get_partition_named(r, name, bytes, id, NULL, &p, NULL);
	answer("a partition", status, partition_hash(1, &p));
	status = shmeta_get_lease(r, name, bytes, id, 1000, NULL, &l, NULL);
	answer("a lease", status, number(status == SHMETA_OK ? text(1, l.leader_agent_id) : 0, l.epoch));
	status = shmeta_get_committed_offset(r, "group-1", 7, name, strlen(name), id, NULL, &o, NULL);
	answer("an offset", status, number(status == SHMETA_OK ? text(1, o.metadata) : 0, o.committed_offset));
	before = asked;
	status = handle != NULL ? SHMETA_OK : shmeta_partition_open(r, name, bytes, id, &handle);
	if (status == SHMETA_OK)
		ask_segments(handle);
	else /* ABSENT here is as wrong as it is for each segment */
		answer("a handle", status, 1);
	asked = before + 2 * OFFSETS + 3;
	if (kept == NULL)
		shmeta_partition_close(handle);
}

static void ask_hints(struct shmeta_reader *r)
{
	struct shmeta_committed_offset o = {0};
	struct shmeta_agent a;
	struct shmeta_lease l = {0};
	struct shmeta_group g;
	struct shmeta_str topic;
	char name[16];

	LIST("agents", shmeta_list_agents(r, NULL, 0, NULL, 0, 1000, NULL, &iter_), shmeta_next_agent(iter_, &a, NULL),
	     number(map(text(hash, a.agent_id), a.metadata), (uint64_t)a.last_heartbeat_ms));
	LIST("leases", shmeta_list_leases(r, NULL, 0, NULL, 0, 1000, NULL, &iter_),
	     shmeta_next_lease(iter_, &topic, &l, NULL), number(text(text(hash, topic), l.leader_agent_id), l.epoch));
	LIST("groups", shmeta_list_groups(r, NULL, &iter_), shmeta_next_group(iter_, &g, NULL), text(hash, g.group_id));
	for (int i = 0; i <= GROUPS; i++) {
		(void)snprintf(name, sizeof name, "group-%d", i);
		LIST("offsets", shmeta_list_committed_offsets(r, name, strlen(name), NULL, &iter_),
		     shmeta_next_committed_offset(iter_, &topic, &o, NULL),
		     number(number(text(hash, topic), o.partition_id), o.committed_offset));
	}
	for (int i = 0; i <= AGENTS; i++) {
		enum shmeta_status status;

		(void)snprintf(name, sizeof name, "agent-%d", i);
		status = shmeta_get_agent(r, name, strlen(name), NULL, &a, NULL);
		answer("an agent", status, status == SHMETA_OK ? map(text(1, a.address), a.metadata) : 0);
	}
}

static bool begun(struct shmeta_reader *r)
{
	enum shmeta_status status = run_daemon_begin(r);

	page->reported += status != SHMETA_OK;
	return status == SHMETA_OK;
}

/* One topic, partition, group and agent more than there are. kept: handles, or NULL where there is
 * none. */
static void ask_everything(struct shmeta_reader *r, struct shmeta_handle *const *kept)
{
	struct shmeta_topic_stats sums = {0};
	struct shmeta_partition p = {0};
	struct shmeta_topic t;
	enum shmeta_status status;
	char name[16];

	asked = 0;
	if (!begun(r))
		return;
	LIST("topics", shmeta_list_topics(r, NULL, 0, 0, NULL, &iter_), shmeta_next_topic(iter_, &t, NULL),
	     topic_hash(hash, &t));
	ask_hints(r);
	page->reported += shmeta_end(r) != SHMETA_OK;
	for (uint32_t i = 0; i <= TOPICS; i++) {
		size_t bytes = (size_t)snprintf(name, sizeof name, "topic-%u", i);

		if (!begun(r))
			return;
		status = shmeta_get_topic(r, name, bytes, NULL, &t, NULL);
		answer("a topic", status, status == SHMETA_OK ? topic_hash(1, &t) : 0);
		status = shmeta_topic_stats(r, name, bytes, NULL, &sums, NULL);
		answer("sums", status,
		       number(number(number(1, sums.partition_count), sums.segment_count), sums.size_bytes));
		LIST("partitions", shmeta_list_partitions(r, name, bytes, NULL, &iter_),
		     shmeta_next_partition(iter_, &p, NULL), partition_hash(hash, &p));
		for (uint32_t id = 0; id <= PARTITIONS; id++)
			ask_partition(r, name, id, i < TOPICS && id < PARTITIONS ? kept[i * PARTITIONS + id] : NULL);
		page->reported += shmeta_end(r) != SHMETA_OK;
	}
}

/* ---- trials ---- */

enum when { BEFORE_THE_OPEN, UNDER_A_READER };

/* Exit statuses of a child that lived. */
enum { LIVED = 40, LIVED_REFUSED };

static int read_damaged(const struct damage_kind *kind, uint64_t seed, enum when when)
{
	struct shmeta_handle *kept[TOPICS * PARTITIONS] = {NULL};
	struct shmeta_options options = {
		.size = sizeof options, .directory = d.instance, .flags = SHMETA_OPEN_UNREGISTERED};
	struct shmeta *instance;
	struct shmeta_reader *r;
	char name[16];

	if (shmeta_open(&options, &instance) != SHMETA_OK)
		return LIVED_REFUSED;
	if (shmeta_reader_new(instance, &r) != SHMETA_OK)
		return 1;
	if (when == UNDER_A_READER) {
		/* Every other topic's partitions are known already. */
		if (run_daemon_begin(r) != SHMETA_OK)
			return 2;
		for (uint32_t i = 0; i < TOPICS * PARTITIONS; i++) {
			size_t bytes = (size_t)snprintf(name, sizeof name, "topic-%u", i / PARTITIONS);

			if (i / PARTITIONS % 2 == 0 &&
			    shmeta_partition_open(r, name, bytes, i % PARTITIONS, &kept[i]) != SHMETA_OK)
				return 3;
		}
		if (shmeta_end(r) != SHMETA_OK || damage_do(&damage, kind, seed) != 0)
			return 4;
	}
	ask_everything(r, kept);
	return LIVED;
}

static void limit_child(void)
{
	const struct rlimit cpu = {HANG_CPU_S, HANG_CPU_S}, core = {0, 0};

	(void)setrlimit(RLIMIT_CPU, &cpu);
	(void)setrlimit(RLIMIT_CORE, &core);
	(void)signal(SIGSEGV, SIG_DFL);
	(void)signal(SIGBUS, SIG_DFL);
	(void)signal(SIGABRT, SIG_DFL);
}

static enum outcome try(const struct damage_kind *kind, uint64_t seed, enum when when)
{
	pid_t pid;
	int code;

	page->wrong = page->reported = 0;
	if (when == BEFORE_THE_OPEN)
		cr_assert_eq(damage_do(&damage, kind, seed), 0);
	pid = run_fork();
	if (pid == 0) {
		limit_child();
		_exit(read_damaged(kind, seed, when));
	}
	code = run_reap(pid);
	cr_assert_eq(damage_undo(&damage, kind->file), 0);
	switch (code) {
	case LIVED_REFUSED:
		return REFUSED;
	case LIVED:
		return page->wrong > 0 ? WRONG : page->reported > 0 ? REPORTED : RIGHT;
	case 128 + SIGXCPU:
	case 128 + SIGKILL:
		return HANG;
	default:
		page->code = code;
		return ENDED;
	}
}

static void learn_what_is_right(void)
{
	pid_t pid = run_fork();
	size_t absent = 0;

	if (pid == 0) {
		recording = true;
		_exit(read_damaged(NULL, 0, BEFORE_THE_OPEN));
	}
	cr_assert_eq(run_reap(pid), LIVED);
	cr_assert_eq(page->reported, 0);
	cr_assert_gt(page->count, TOPICS * PARTITIONS * OFFSETS);
	for (size_t i = 0; i < page->count; i++) {
		const struct answer *a = &page->good[i];

		cr_assert(a->status >= 0 && a->status != SHMETA_UNKNOWN, "%s: %s", a->about,
		          shmeta_strerror(a->status));
		absent += a->status == SHMETA_ABSENT;
	}
	cr_assert_gt(absent, TOPICS, "what is not there was asked for, too");
}

static bool is_cut(const struct damage_kind *kind)
{
	return kind->how == DAMAGE_CUT || kind->how == DAMAGE_CUT_PAGES;
}

static void tell(enum when when, const char *kind, const uint32_t outcome[OUTCOMES])
{
	char name[100], line[200] = "";
	uint32_t all = 0;
	int at = 0;

	(void)snprintf(name, sizeof name, "damaged %s: %s",
	               when == UNDER_A_READER ? "under a reader" : "before the open", kind);
	for (int o = 0; o < OUTCOMES; o++) {
		all += outcome[o];
		at += snprintf(line + at, sizeof line - (size_t)at, "%s%u %s", o > 0 ? ", " : "", outcome[o],
		               outcome_names[o]);
	}
	figure(name, all, 0, "damages", "%s", line);
}

/* Details are printed, not logged: a warning in Criterion's log makes a program whose tests all
 * passed exit with 1. sum: of all kinds, by outcome; cut: of files of the store that were cut
 * off. */
static void try_all(uint32_t trials, enum when when, uint32_t sum[OUTCOMES], uint32_t cut[OUTCOMES])
{
	uint32_t outcome[READ_KINDS][OUTCOMES] = {{0}};

	learn_what_is_right();
	for (uint32_t i = 0; i < trials; i++) {
		const struct damage_kind *kind = &damage_kinds[i % READ_KINDS];
		enum outcome o = try(kind, i, when);

		outcome[i % READ_KINDS][o]++;
		if (o == WRONG)
			(void)printf("%s, seed %u: %u wrong answers, the first about %s: %s\n", kind->name, i,
			             page->wrong, page->first_wrong.about, shmeta_strerror(page->first_wrong.status));
		if (o == ENDED && (when == BEFORE_THE_OPEN || !is_cut(kind)))
			(void)printf("%s, seed %u: ended with %d\n", kind->name, i, page->code);
	}
	for (int k = 0; k < READ_KINDS; k++) {
		const struct damage_kind *kind = &damage_kinds[k];

		tell(when, kind->name, outcome[k]);
		for (int o = 0; o < OUTCOMES; o++) {
			sum[o] += outcome[k][o];
			if (is_cut(kind))
				cut[o] += outcome[k][o];
		}
	}
	tell(when, "all kinds", sum);
}

/* One page may stand where another state of it stood: it is whole, and fits
 * (docs/decisions/0034). */
static uint32_t wrong_at_most(uint32_t trials)
{
	return (trials * 5 + 9999) / 10000;
}

Test(damage, a_reader_of_damaged_files_answers_rightly_or_with_an_error, .init = setup, .fini = teardown)
{
	uint32_t trials = run_rounds(210, 21000), sum[OUTCOMES] = {0}, cut[OUTCOMES] = {0};

	try_all(trials, BEFORE_THE_OPEN, sum, cut);
	cr_expect_eq(sum[ENDED], 0);
	cr_expect_eq(sum[HANG], 0);
	cr_expect_leq(sum[WRONG], wrong_at_most(trials));
	cr_expect_gt(sum[REPORTED], trials / 10, "the damage was where nobody looks");
	cr_expect_eq(cut[RIGHT] + cut[REPORTED] + cut[WRONG], 0, "a file that is too short is seen when it is opened");
}

/* Where a file that is mapped becomes shorter, the system ends whoever touches what was there. */
Test(damage, a_reader_whose_files_are_damaged_under_it_lives_unless_they_are_cut_off, .init = setup, .fini = teardown)
{
	uint32_t trials = run_rounds(84, 10500), sum[OUTCOMES] = {0}, cut[OUTCOMES] = {0};

	try_all(trials, UNDER_A_READER, sum, cut);
	cr_expect_eq(sum[ENDED], cut[ENDED]);
	cr_expect_eq(sum[HANG], 0);
	cr_expect_eq(sum[REFUSED], 0);
	cr_expect_gt(sum[REPORTED], trials / 10, "the damage was where nobody looks");
}
