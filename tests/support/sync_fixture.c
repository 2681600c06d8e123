/* SPDX-License-Identifier: Apache-2.0
 * A sync engine on a memory source (sync_fixture.h). */
#include "tests/support/sync_fixture.h"
#include "tests/support/quiet_host.h"
#include "tests/support/write_ops.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/record/record.h"
#include "shm/store/store_inspect.h"
#include "tests/support/scratch.h"
#include "tests/support/usual_options.h"
#include "writer/apply/apply.h"

/* ---- host ---- */

static uint64_t now(void *arg)
{
	struct fixture *f = arg;

	if (f->on_clock != NULL)
		f->on_clock(f);
	return f->now_ns;
}

static uint64_t oldest_pin(void *arg, uint64_t generation)
{
	(void)generation;
	return ((struct fixture *)arg)->oldest_pin;
}

static void touched(void *arg, uint8_t *seen, uint32_t ceiling)
{
	struct fixture *f = arg;

	if (f->on_touched != NULL)
		f->on_touched(f, seen, ceiling);
}

static void waited(void *arg, uint64_t *words)
{
	struct fixture *f = arg;

	if (f->on_waited != NULL)
		f->on_waited(f, words);
}

static int all_kept(void *arg)
{
	return ((struct fixture *)arg)->kept;
}

static void on_phase(void *arg, enum shmeta_phase phase, const char *sentence)
{
	struct fixture *f = arg;

	f->phase = phase;
	snprintf(f->sentence, sizeof f->sentence, "%s", sentence);
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	((struct fixture *)arg)->progress_calls++;
}

static void on_log(void *arg, int priority, const char *event, const char *sentence)
{
	struct fixture *f = arg;
	int n = snprintf(f->log + f->log_bytes, sizeof f->log - f->log_bytes, "%d %s: %s\n", priority, event, sentence);

	if (n > 0 && f->log_bytes + (size_t)n < sizeof f->log)
		f->log_bytes += (size_t)n;
}

static void on_answer(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
                      uint64_t generation, uint64_t synced_at_ns)
{
	struct fixture *f = arg;

	cr_assert_lt(f->answer_count, FIXTURE_ANSWERS);
	struct fixture_answer *a = &f->answers[f->answer_count++];

	*a = (struct fixture_answer){
		.ticket = ticket, .status = status, .txn = txn, .generation = generation, .synced_at_ns = synced_at_ns};
	snprintf(a->sentence, sizeof a->sentence, "%s", sentence);
}

static void on_written(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence,
                       const struct shmeta_op *ops, const struct shmeta_result *results, size_t count, uint64_t txn,
                       uint64_t generation)
{
	struct fixture *f = arg;

	(void)ticket;
	(void)ops;
	(void)txn;
	(void)generation;
	f->writes_answered++;
	f->write_status = status;
	(void)snprintf(f->write_sentence, sizeof f->write_sentence, "%s", sentence);
	memset(f->write_result, 0, sizeof f->write_result);
	if (results != NULL && count <= sizeof f->write_result / sizeof f->write_result[0])
		memcpy(f->write_result, results, count * sizeof *results);
}

/* ---- life ---- */

void fixture_init(struct fixture *f)
{
	static unsigned serial;
	struct shmeta_err err = {0};
	void *map;

	memset(f, 0, sizeof *f);
	cr_assert(scratch_dir("sync", f->dir));
	f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(f->dir_fd, 0);
	cr_assert_eq(shmeta__map_file(f->dir_fd, "board", SHMETA_PAGE, 1, &map, &err), SHMETA_OK, "%s", err.text);
	f->board = map;
	memcpy(f->board->boot_id, "0123456789abcdef", 16);
	snprintf(f->name, sizeof f->name, "fixture%d-%u", (int)getpid(), serial++);
	snprintf(f->uri, sizeof f->uri, "memory:%s", f->name);
	f->db = memory_db_new(f->name);
	cr_assert_not_null(f->db);
	f->now_ns = 1000 * 1000000000ull;
	f->oldest_pin = UINT64_MAX;
	f->options = (struct sync_options){
		.source = {.uri = f->uri, .timeout_ms = 1000, .manage_schema = 1, .create = 1},
		.engine = &memory_with_faults,
		.store_max_bytes = 256 << 20,
		.grace_ns = 1000000000,
		.ttl_ms = {300000, 30000, 30000, 30000, 5000, 5000, 5000},
		.poll_min_ms = 5,
		.poll_max_ms = 1000,
		.reconcile_s = 3600,
		.refresh_batch_keys = 1000,
		.refresh_queue_max = 10000,
		.write_queue_max = 10000,
		.write_batch_max = 4096,
		.retry_min_ms = 100,
		.retry_max_ms = 10000,
		.commit_rows = 10000,
		.seed = 1,
		USUAL_BUDGETS,
		USUAL_QUEUES,
		.clock = {f, now},
	};
}

void fixture_done(struct fixture *f)
{
	char command[128];

	if (f->sync != NULL)
		sync_close(f->sync);
	memory_faults_forget(f->db);
	memory_db_free(f->db);
	munmap(f->board, SHMETA_PAGE);
	close(f->dir_fd);
	snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
	cr_assert_eq(system(command), 0);
}

static void on_objects(void *arg, uint64_t ticket, const void *rows, size_t bytes, size_t count, bool more)
{
	struct fixture *f = arg;

	(void)rows;
	(void)bytes;
	on_answer(arg, ticket, SHMETA_OK, "", 0, 0, 0);
	f->answers[f->answer_count - 1].objects = count;
	f->answers[f->answer_count - 1].more = more;
}

static void on_invalidated(void *arg, uint64_t ticket, const struct sync_invalidated *count, uint64_t txn,
                           uint64_t generation)
{
	struct fixture *f = arg;

	on_answer(arg, ticket, SHMETA_OK, "", txn, generation, 0);
	f->answers[f->answer_count - 1].count = *count;
}

enum shmeta_status fixture_try_open(struct fixture *f, struct shmeta_err *err)
{
	const struct sync_host host = quiet_host((struct sync_host){.arg = f,
	                                                            .oldest_pin = oldest_pin,
	                                                            .touched = touched,
	                                                            .waited = waited,
	                                                            .all_registrations_kept = all_kept,
	                                                            .phase = on_phase,
	                                                            .progress = on_progress,
	                                                            .log = on_log,
	                                                            .answer = on_answer,
	                                                            .written = on_written,
	                                                            .objects = on_objects,
	                                                            .invalidated = on_invalidated});

	f->board->epoch++;
	return sync_open(f->dir_fd, f->board, &f->options, &host, &f->sync, err);
}

void fixture_open(struct fixture *f)
{
	struct shmeta_err err = {0};

	cr_assert_eq(fixture_try_open(f, &err), SHMETA_OK, "%s", err.text);
}

void fixture_close(struct fixture *f)
{
	sync_close(f->sync);
	f->sync = NULL;
}

void fixture_crash(struct fixture *f)
{
	sync_crash(f->sync);
	f->sync = NULL;
}

uint64_t fixture_run(struct fixture *f)
{
	uint64_t wait_ns = 0;

	cr_assert_eq(sync_run_once(f->sync, &wait_ns), SHMETA_OK);
	return wait_ns;
}

void fixture_pass(struct fixture *f, uint64_t ms)
{
	uint64_t end = f->now_ns + ms * 1000000;

	for (;;) {
		uint64_t wait = fixture_run(f);

		if (wait >= end - f->now_ns)
			break;
		/* The clock stands still within a round; outside of one it never does. */
		f->now_ns += wait > 0 ? wait : 1000;
	}
	f->now_ns = end;
	fixture_run(f);
}

struct sync_counters fixture_counters(struct fixture *f)
{
	struct sync_counters c;

	sync_read_counters(f->sync, &c);
	return c;
}

uint64_t fixture_committed(struct fixture *f)
{
	return shmeta__store_generation(sync_store(f->sync))->committed;
}

uint64_t fixture_stamp_age_ms(struct fixture *f, enum shmeta_class cls)
{
	return (f->now_ns - shmeta__store_generation(sync_store(f->sync))->stamp[cls].synced_at_ns) / 1000000;
}

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static enum shmeta_status ask(struct fixture *f, enum shmeta_class cls, const char *topic, uint32_t partition_id,
                              bool recent, uint64_t ticket)
{
	const struct backend_key key = {.cls = cls,
	                                .tenant = str(SHMETA_DEFAULT_TENANT),
	                                .topic = str(topic != NULL ? topic : ""),
	                                .partition_id = partition_id,
	                                .to = UINT64_MAX};

	return sync_refresh(f->sync, &key, recent, f->uid, UINT64_MAX, ticket);
}

enum shmeta_status fixture_refresh(struct fixture *f, enum shmeta_class cls, const char *topic, uint32_t partition_id,
                                   uint64_t ticket)
{
	return ask(f, cls, topic, partition_id, false, ticket);
}

enum shmeta_status fixture_compare_all(struct fixture *f, uint64_t ticket)
{
	const struct sync_invalidation all = {.cls = SHMETA_CLASS_LIST, .tenant = str(SHMETA_DEFAULT_TENANT)};

	return sync_invalidate(f->sync, &all, UINT64_MAX, "test", ticket);
}

enum shmeta_status fixture_refresh_recent(struct fixture *f, enum shmeta_class cls, const char *topic,
                                          uint32_t partition_id, uint64_t ticket)
{
	return ask(f, cls, topic, partition_id, true, ticket);
}

enum shmeta_status fixture_write(struct fixture *f, const struct shmeta_op *ops, size_t count)
{
	return write_ops(f->sync, str(SHMETA_DEFAULT_TENANT), ops, count, UINT64_MAX, 0, 1, "test", f->writes_answered);
}

const struct fixture_answer *fixture_answer(struct fixture *f, uint64_t ticket)
{
	const struct fixture_answer *found = NULL;

	for (size_t i = 0; i < f->answer_count; i++)
		if (f->answers[i].ticket == ticket) {
			cr_assert_null(found, "ticket %llu was answered twice", (unsigned long long)ticket);
			found = &f->answers[i];
		}
	return found;
}

bool fixture_logged(const struct fixture *f, const char *event)
{
	char what[64];

	snprintf(what, sizeof what, " %s: ", event);
	return strstr(f->log, what) != NULL;
}

/* ---- rows ---- */

struct shmeta_segment fixture_segment(uint32_t partition_id, uint64_t base, uint64_t records)
{
	return (struct shmeta_segment){.base_offset = base,
	                               .end_offset = base + records - 1,
	                               .size_bytes = records * 100,
	                               .created_at_ms = (int64_t)(1700000000000 + base),
	                               .record_count = (uint32_t)records,
	                               .partition_id = partition_id};
}

bool fixture_add_segment(struct fixture *f, const char *topic, uint32_t partition_id, uint64_t base, uint64_t records)
{
	struct shmeta_segment s = fixture_segment(partition_id, base, records);
	char id[400], key[400];

	snprintf(id, sizeof id, "%s-%u-%llu", topic, partition_id, (unsigned long long)base);
	snprintf(key, sizeof key, "data/%s/%u/%020llu.seg", topic, partition_id, (unsigned long long)base);
	s.id = str(id);
	s.s3_bucket = str("bucket");
	s.s3_key = str(key);
	return memory_put_segment(f->db, NULL, topic, &s) &&
	       memory_set_watermark(f->db, NULL, topic, partition_id, base + records);
}

void fixture_topic(struct fixture *f, const char *topic, uint32_t partitions, uint32_t segments, int64_t created_at_ms)
{
	cr_assert(memory_create_topic(f->db, NULL, topic, partitions, created_at_ms));
	for (uint32_t p = 0; p < partitions; p++)
		for (uint32_t i = 0; i < segments; i++)
			cr_assert(fixture_add_segment(f, topic, p, i * 1000ull, 1000));
}

/* ---- the oracle ---- */

struct text {
	char *data;
	size_t bytes, capacity;
	char **lines; /* of the small classes: their order is not defined */
	size_t line_count, line_capacity;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *fmt, ...)
{
	va_list args;
	char line[4096];

	va_start(args, fmt);
	int n = vsnprintf(line, sizeof line, fmt, args);

	va_end(args);
	cr_assert(n >= 0 && (size_t)n < sizeof line);
	if (t->bytes + (size_t)n + 1 > t->capacity) {
		t->capacity = (t->bytes + (size_t)n + 1) * 2;
		t->data = realloc(t->data, t->capacity);
		cr_assert_not_null(t->data);
	}
	memcpy(t->data + t->bytes, line, (size_t)n + 1);
	t->bytes += (size_t)n;
}

/* A line that is sorted in at the end. */
__attribute__((format(printf, 2, 3))) static void say_later(struct text *t, const char *fmt, ...)
{
	va_list args;
	char *line;

	va_start(args, fmt);
	cr_assert_geq(vasprintf(&line, fmt, args), 0);
	va_end(args);
	if (t->line_count == t->line_capacity) {
		t->line_capacity = t->line_capacity * 2 + 64;
		t->lines = reallocarray(t->lines, t->line_capacity, sizeof *t->lines);
		cr_assert_not_null(t->lines);
	}
	t->lines[t->line_count++] = line;
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *finish(struct text *t)
{
	if (t->line_count > 0)
		qsort(t->lines, t->line_count, sizeof *t->lines, compare_lines);
	say(t, "%s", "");
	for (size_t i = 0; i < t->line_count; i++) {
		say(t, "%s", t->lines[i]);
		free(t->lines[i]);
	}
	free(t->lines);
	return t->data;
}

#define S(s) (int)(s).bytes, (s).data != NULL ? (s).data : ""

static void say_topic(struct text *t, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < topic->config.bytes; i++)
		sum = sum * 31 + ((const uint8_t *)topic->config.data)[i];
	say(t, "topic %.*s/%.*s created %lld updated %lld retention %u %lld count %u policy %.*s config %zu %llx\n",
	    S(tenant), S(topic->name), (long long)topic->created_at_ms, (long long)topic->updated_at_ms,
	    topic->has_retention, (long long)(topic->has_retention ? topic->retention_ms : 0), topic->partition_count,
	    S(topic->cleanup_policy), topic->config.bytes, (unsigned long long)sum);
}

static void say_partition(struct text *t, const struct shmeta_partition *p)
{
	say(t, " partition %u watermark %llu created %lld updated %lld\n", p->partition_id,
	    (unsigned long long)p->high_watermark, (long long)p->created_at_ms, (long long)p->updated_at_ms);
}

static void say_segment(struct text *t, const struct shmeta_segment *s)
{
	say(t, "  segment %llu..%llu size %llu created %lld times %lld %lld count %u id %.*s bucket %.*s key %.*s\n",
	    (unsigned long long)s->base_offset, (unsigned long long)s->end_offset, (unsigned long long)s->size_bytes,
	    (long long)s->created_at_ms, (long long)s->min_timestamp_ms, (long long)s->max_timestamp_ms,
	    s->record_count, S(s->id), S(s->s3_bucket), S(s->s3_key));
}

static void say_agent(struct text *t, struct shmeta_str tenant, const struct shmeta_agent *a)
{
	say_later(t, "agent %.*s/%.*s address %.*s zone %.*s group %.*s beat %lld started %lld metadata %zu\n",
	          S(tenant), S(a->agent_id), S(a->address), S(a->availability_zone), S(a->agent_group),
	          (long long)a->last_heartbeat_ms, (long long)a->started_at_ms, a->metadata.bytes);
}

static void say_group(struct text *t, struct shmeta_str tenant, const struct shmeta_group *g)
{
	say_later(t, "group %.*s/%.*s created %lld updated %lld\n", S(tenant), S(g->group_id),
	          (long long)g->created_at_ms, (long long)g->updated_at_ms);
}

static void say_offset(struct text *t, struct shmeta_str tenant, struct shmeta_str topic,
                       const struct shmeta_committed_offset *o)
{
	say_later(t, "offset %.*s/%.*s %.*s/%u at %llu committed %lld metadata %u %.*s\n", S(tenant), S(o->group_id),
	          S(topic), o->partition_id, (unsigned long long)o->committed_offset, (long long)o->committed_at_ms,
	          o->has_metadata, S(o->metadata));
}

static void say_lease(struct text *t, struct shmeta_str tenant, struct shmeta_str topic, const struct shmeta_lease *l)
{
	say_later(t, "lease %.*s/%.*s/%u leader %.*s expires %lld acquired %lld epoch %llu\n", S(tenant), S(topic),
	          l->partition_id, S(l->leader_agent_id), (long long)l->lease_expires_at_ms,
	          (long long)l->acquired_at_ms, (unsigned long long)l->epoch);
}

static enum shmeta_status src_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	say_topic(arg, tenant, topic);
	return SHMETA_OK;
}
static enum shmeta_status src_partition(void *arg, const struct shmeta_partition *partition)
{
	say_partition(arg, partition);
	return SHMETA_OK;
}
static enum shmeta_status src_segment(void *arg, const struct shmeta_segment *segment)
{
	say_segment(arg, segment);
	return SHMETA_OK;
}
static enum shmeta_status src_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	say_agent(arg, tenant, agent);
	return SHMETA_OK;
}
static enum shmeta_status src_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	say_group(arg, tenant, group);
	return SHMETA_OK;
}
static enum shmeta_status src_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                     const struct shmeta_committed_offset *offset)
{
	say_offset(arg, tenant, topic, offset);
	return SHMETA_OK;
}
static enum shmeta_status src_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_lease *lease)
{
	say_lease(arg, tenant, topic, lease);
	return SHMETA_OK;
}
static void src_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	(void)arg;
	(void)row;
	(void)sentence;
}
static enum shmeta_status src_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)done;
	(void)total;
	return SHMETA_OK;
}

char *fixture_source_text(struct fixture *f)
{
	struct text t = {0};
	struct backend_error err = {0};
	const struct backend_sink sink = {.arg = &t,
	                                  .topic = src_topic,
	                                  .partition = src_partition,
	                                  .segment = src_segment,
	                                  .agent = src_agent,
	                                  .group = src_group,
	                                  .offset = src_offset,
	                                  .lease = src_lease,
	                                  .quarantine = src_quarantine,
	                                  .progress = src_progress};
	const struct backend_engine *ops =
		f->options.engine != NULL ? f->options.engine : backend_find(f->options.source.uri, &err);

	cr_assert_not_null(ops, "%s", err.text);
	void *state = calloc(1, ops->state_bytes);

	cr_assert_not_null(state);
	cr_assert_eq(ops->source->open(state, &f->options.source, &err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(ops->source->load(state, &sink, &err), SHMETA_OK, "%s", err.text);
	ops->source->close(state);
	free(state);
	return finish(&t);
}

struct walk {
	struct fixture *f;
	struct shmeta__txn *txn;
	struct text text;
	char tenants[32][SHMETA_TENANT_MAX + 1];
};

static void each(struct walk *w, enum shmeta_db db,
                 void (*row)(struct walk *w, const uint8_t *key, size_t key_bytes, const void *value, size_t bytes))
{
	struct shmeta__cursor *cursor;
	const void *key, *value;
	size_t key_bytes, bytes;
	struct shmeta_err err = {0};
	enum shmeta_status status;

	cr_assert_eq(shmeta__cursor_open(w->txn, db, NULL, 0, &cursor, &err), SHMETA_OK, "%s", err.text);
	while ((status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &err)) == SHMETA_OK)
		row(w, key, key_bytes, value, bytes);
	cr_assert_eq(status, SHMETA_END, "%s", err.text);
	shmeta__cursor_close(cursor);
}

static void meta_row(struct walk *w, const uint8_t *key, size_t key_bytes, const void *value, size_t bytes)
{
	size_t prefix = strlen(SHMETA_META_TENANT);
	uint32_t number;

	if (key_bytes <= prefix || memcmp(key, SHMETA_META_TENANT, prefix) != 0)
		return;
	cr_assert_eq(bytes, sizeof number);
	memcpy(&number, value, sizeof number);
	cr_assert_lt(number, 32);
	memcpy(w->tenants[number], key + prefix, key_bytes - prefix);
}

static struct shmeta_str topic_name(struct walk *w, uint32_t topic_id)
{
	uint64_t id = topic_id;
	const void *value;
	size_t bytes;
	struct shmeta_err err = {0};

	cr_assert_eq(shmeta__get(w->txn, SHMETA_DB_TOPICS, &id, sizeof id, &value, &bytes, &err), SHMETA_OK,
	             "topic number %u is referred to and does not exist", topic_id);
	return (struct shmeta_str){(const char *)value + 4, bytes - 4};
}

static void topic_row(struct walk *w, const uint8_t *key, size_t key_bytes, const void *value, size_t bytes)
{
	struct shmeta_topic topic;
	struct shmeta__cursor *cursor;
	const void *k, *head;
	size_t k_bytes, head_bytes;
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct shmeta__pages pages = shmeta__txn_pages(w->txn);

	cr_assert_eq(shmeta__topic_decode(value, bytes, key, key_bytes, 1, &topic, NULL), SHMETA_OK);
	say_topic(&w->text, str(w->tenants[shmeta__get_be32(key)]), &topic);

	uint64_t first = shmeta__part_key(topic.topic_id, 0);

	cr_assert_eq(shmeta__cursor_open(w->txn, SHMETA_DB_PARTS, &first, sizeof first, &cursor, &err), SHMETA_OK);
	while ((status = shmeta__cursor_next(cursor, &k, &k_bytes, &head, &head_bytes, &err)) == SHMETA_OK) {
		uint64_t part_key;
		struct shmeta__part part = {0};
		struct shmeta_partition record;
		struct shmeta__part_cursor rows;
		struct shmeta_segment segment;
		uint64_t count = 0;
		char buffer[3 * (SHMETA_STRING_MAX + 1)];

		memcpy(&part_key, k, sizeof part_key);
		if (part_key >> 32 != topic.topic_id)
			break;
		cr_assert_eq(shmeta__part_open(&part, part_key, head, head_bytes, &pages), SHMETA_OK);
		shmeta__part_record(&part, &record);
		say_partition(&w->text, &record);
		status = shmeta__part_seek(&part, 0, INT64_MAX, &rows);
		while (status == SHMETA_OK && (status = shmeta__part_next(&part, &rows, &segment)) == SHMETA_OK) {
			cr_assert_eq(shmeta__part_strings(&part, topic.name.data, topic.name.bytes, &segment, buffer,
			                                  sizeof buffer),
			             SHMETA_OK);
			say_segment(&w->text, &segment);
			count++;
		}
		cr_assert_geq(status, 0, "%s", shmeta_strerror(status));
		cr_assert_eq(count, record.segment_count);
		shmeta__part_close(&part);
	}
	shmeta__cursor_close(cursor);
}

static void agent_row(struct walk *w, const uint8_t *key, size_t key_bytes, const void *value, size_t bytes)
{
	struct shmeta_agent agent;

	cr_assert_eq(shmeta__agent_decode(value, bytes, key, key_bytes, 1, &agent, NULL), SHMETA_OK);
	say_agent(&w->text, str(w->tenants[shmeta__get_be32(key)]), &agent);
}

static void group_row(struct walk *w, const uint8_t *key, size_t key_bytes, const void *value, size_t bytes)
{
	struct shmeta_group group;

	cr_assert_eq(shmeta__group_decode(value, bytes, key, key_bytes, 1, &group, NULL), SHMETA_OK);
	say_group(&w->text, str(w->tenants[shmeta__get_be32(key)]), &group);
}

static void offset_row(struct walk *w, const uint8_t *key, size_t key_bytes, const void *value, size_t bytes)
{
	struct shmeta_committed_offset offset;

	cr_assert_eq(shmeta__offset_decode(value, bytes, key, key_bytes, 1, &offset, NULL), SHMETA_OK);
	say_offset(&w->text, str(w->tenants[shmeta__get_be32(key)]), topic_name(w, offset.topic_id), &offset);
}

static void lease_row(struct walk *w, const uint8_t *key, size_t key_bytes, const void *value, size_t bytes)
{
	struct shmeta_lease lease;
	uint64_t id;
	const void *name;
	size_t name_bytes;
	struct shmeta_err err = {0};

	cr_assert_eq(shmeta__lease_decode(value, bytes, key, key_bytes, 1, &lease, NULL), SHMETA_OK);
	id = lease.topic_id;
	struct shmeta_str topic = topic_name(w, lease.topic_id);

	cr_assert_eq(shmeta__get(w->txn, SHMETA_DB_TOPICS, &id, sizeof id, &name, &name_bytes, &err), SHMETA_OK);
	say_lease(&w->text, str(w->tenants[shmeta__get_be32(name)]), topic, &lease);
}

char *fixture_store_text(struct fixture *f)
{
	struct walk w = {.f = f};
	struct shmeta_err err = {0};

	cr_assert_eq(shmeta__txn_read(sync_store(f->sync), &w.txn, &err), SHMETA_OK, "%s", err.text);
	each(&w, SHMETA_DB_META, meta_row);
	each(&w, SHMETA_DB_NAMES, topic_row);
	each(&w, SHMETA_DB_AGENTS, agent_row);
	each(&w, SHMETA_DB_GROUPS, group_row);
	each(&w, SHMETA_DB_OFFSETS, offset_row);
	each(&w, SHMETA_DB_LEASES, lease_row);
	shmeta__txn_abort(w.txn);
	return finish(&w.text);
}

static void on_problem(void *arg, const char *sentence)
{
	char *first = arg;

	if (first[0] == '\0')
		snprintf(first, 400, "verify: %s", sentence);
}

const char *fixture_difference(struct fixture *f)
{
	static char difference[1000];
	struct shmeta__inspected *of;
	struct shmeta_err err = {0};
	struct shmeta__verify_report report;
	char path[128];

	difference[0] = '\0';
	if (sync_store(f->sync) == NULL)
		return "there is no store";
	snprintf(path, sizeof path, "%s/store.%llu", f->dir,
	         (unsigned long long)shmeta__store_number(sync_store(f->sync)));
	cr_assert_eq(shmeta__inspect_open(path, &of, &err), SHMETA_OK, "%s", err.text);
	if (shmeta__store_verify(of, on_problem, difference, &report, &err) != SHMETA_OK && difference[0] == '\0')
		snprintf(difference, sizeof difference, "verify: %s", err.text);
	shmeta__inspect_close(of);
	if (difference[0] != '\0')
		return difference;

	char *source = fixture_source_text(f), *store = fixture_store_text(f), *a = source, *b = store;

	while (*a != '\0' || *b != '\0') {
		size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");

		if (n != m || memcmp(a, b, n) != 0) {
			snprintf(difference, sizeof difference, "source '%.*s', store '%.*s'", (int)(n < 400 ? n : 400),
			         a, (int)(m < 400 ? m : 400), b);
			break;
		}
		a += n + (a[n] == '\n');
		b += m + (b[m] == '\n');
	}
	free(source);
	free(store);
	return difference[0] != '\0' ? difference : NULL;
}

uint32_t fixture_topic_id(struct fixture *f, const char *topic)
{
	struct shmeta__txn *txn;
	struct shmeta_topic record;
	struct shmeta_err err = {0};

	cr_assert_eq(shmeta__txn_read(sync_store(f->sync), &txn, &err), SHMETA_OK, "%s", err.text);
	enum shmeta_status status = apply_topic_get(txn, str(SHMETA_DEFAULT_TENANT), str(topic), &record, NULL, &err);

	shmeta__txn_abort(txn);
	cr_assert_geq(status, 0, "%s", err.text);
	return status == SHMETA_OK ? record.topic_id : 0;
}

bool fixture_record_stamp(struct fixture *f, const char *topic, int64_t partition, uint64_t *ret_synced_at_ns,
                          uint32_t *ret_ttl_ms)
{
	struct shmeta__txn *txn;
	struct shmeta_topic record;
	struct shmeta__stamps stamps;
	struct shmeta_err err = {0};
	bool found = false;

	cr_assert_eq(shmeta__txn_read(sync_store(f->sync), &txn, &err), SHMETA_OK, "%s", err.text);
	if (apply_topic_get(txn, str(SHMETA_DEFAULT_TENANT), str(topic), &record, &stamps, &err) == SHMETA_OK) {
		uint64_t key = shmeta__part_key(record.topic_id, (uint32_t)partition);
		const void *head;
		size_t bytes;
		struct shmeta__part part = {0};
		struct shmeta__pages pages = shmeta__txn_pages(txn);

		if (partition < 0) {
			found = true;
		} else if (shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, &err) == SHMETA_OK) {
			cr_assert_eq(shmeta__part_open(&part, key, head, bytes, &pages), SHMETA_OK);
			stamps = (struct shmeta__stamps){shmeta__part_synced_at_ns(&part), shmeta__part_ttl_ms(&part)};
			shmeta__part_close(&part);
			found = true;
		}
	}
	shmeta__txn_abort(txn);
	if (found) {
		*ret_synced_at_ns = stamps.synced_at_ns;
		*ret_ttl_ms = stamps.ttl_ms;
	}
	return found;
}
