/* SPDX-License-Identifier: Apache-2.0
 * No public call uses more than 8 KiB of the caller's stack, what it calls of libc and LMDB
 * included. Each call runs on a thread whose stack was painted before; the deepest byte that is not
 * paint any more tells. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/fake_writer.h"

enum { STACK_BYTES = 512 * 1024, PAINT = 0xa5, MOST = 8 * 1024 };

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static struct shmeta_handle *handle;
static struct shmeta_client *client;
static uint32_t topic;
static char buffer[70000];
static const struct shmeta_read source = {sizeof source, SHMETA_SOURCE, 5000, 0, 0, buffer, sizeof buffer};
static const struct shmeta_read moving = {sizeof moving, SHMETA_SOURCE, 5000, SHMETA_READ_MAY_MOVE, 0, NULL, 0};

static void set_up(void)
{
	const struct shmeta_agent agent = {.agent_id = {"a", 1}, .address = {"h:1", 3}, .last_heartbeat_ms = 1000};

	w = fake_writer_new();
	fake_begin(w);
	topic = fake_simple_topic(w, "t", 2);
	fake_even_partition(w, topic, 0, 30000, 10);
	fake_agent(w, NULL, &agent, 0);
	fake_lease(w, topic, 0, "a", 5000, 1);
	fake_group(w, NULL, "g");
	fake_offset(w, NULL, "g", topic, 0, 5, "m");
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
}

static void tear_down(void)
{
	shmeta_client_close(client);
	shmeta_partition_close(handle);
	fake_close_all(w, instance, reader);
}

TestSuite(stack, .init = set_up, .fini = tear_down, .timeout = 60);

/* ---- the calls; what they answer is other tests' ---- */

static void nothing(void)
{
}

static void open_and_close(void)
{
	const struct shmeta_options o = {.size = sizeof o, .directory = w->dir, .error = buffer, .error_bytes = 500};
	struct shmeta *other;

	if (shmeta_open(&o, &other) == SHMETA_OK)
		shmeta_close(other);
}

static void open_what_is_not_there(void)
{
	static char long_path[4000];
	struct shmeta_options o = {
		.size = sizeof o, .directory = "/nonexistent/x", .error = buffer, .error_bytes = 500};
	struct shmeta *other;

	(void)!shmeta_open(&o, &other);
	memset(long_path, 'x', sizeof long_path - 1);
	o.directory = long_path;
	(void)!shmeta_open(&o, &other);
	o.directory = NULL;
	o.instance = "no-such-instance";
	(void)!shmeta_open(&o, &other);
}

static void reader_and_back(void)
{
	struct shmeta_reader *r;

	if (shmeta_reader_new(instance, &r) == SHMETA_OK)
		shmeta_reader_free(r);
}

static void begin_and_end(void)
{
	struct shmeta_snapshot_info info;

	(void)!shmeta_begin(reader);
	(void)!shmeta_snapshot_info(reader, &info);
	(void)!shmeta_end(reader);
}

static void begin_in_a_new_generation(void)
{
	begin_and_end();
}

static void lookups(void)
{
	struct shmeta_freshness f;
	struct shmeta_topic_stats stats;
	struct shmeta_partition p;
	struct shmeta_handle *h;
	struct shmeta_segment s;
	struct shmeta_topic t;
	struct shmeta_pair pairs[2] = {{{"b", 1}, {"2", 1}}, {{"a", 1}, {"1", 1}}};
	const struct shmeta_str name = {"t", 1};
	struct shmeta_find find = {handle, 77};
	struct shmeta_find_named find_named = {.topic = {"t", 1}, .offset = 77};
	static struct shmeta_segment segments[8];
	static struct shmeta_fetch_range ranges[8];
	const struct shmeta_fetch fetch = {.size = sizeof fetch,
	                                   .max_segments = 8,
	                                   .segments = segments,
	                                   .max_ranges = 8,
	                                   .ranges = ranges,
	                                   .buffer = buffer,
	                                   .buffer_bytes = sizeof buffer};
	struct shmeta_fetch_plan plan = {.size = sizeof plan};
	struct shmeta_error error = {.size = sizeof error};
	struct shmeta_committed_offset committed;
	struct shmeta_group group;
	struct shmeta_agent agent;
	struct shmeta_lease lease;
	int32_t found;
	const struct shmeta_columns columns = {.size = sizeof columns, .status = &found};
	struct shmeta_str value;
	enum shmeta_status status;
	uint64_t id[2];
	size_t bytes;

	(void)!shmeta_begin(reader);
	(void)!shmeta_get_topic(reader, "t", 1, NULL, &t, &f);
	(void)!shmeta_copy_topic(&t, buffer, sizeof buffer, &bytes);
	(void)!shmeta_map_get(&t.config, "a", &value);
	(void)!shmeta_map_pack(pairs, 2, buffer, sizeof buffer, &t.config, &bytes);
	bytes = 0;
	(void)!shmeta_map_next(&t.config, &bytes, &value, &value);
	(void)shmeta_strerror(SHMETA_ERR_FULL);
	(void)shmeta_version();
	(void)!shmeta_request_id(id);
	(void)!shmeta_get_topic(reader, "a\nb", 3, NULL, &t, &f);
	(void)!shmeta_get_topic(reader, NULL, 3, NULL, &t, &f);
	(void)!shmeta_get_topic_by_id(reader, topic, &source, &t, &f);
	(void)!shmeta_get_topics(reader, 1, &name, NULL, &status, &t);
	(void)!shmeta_topic_stats(reader, "t", 1, NULL, &stats, &f);
	if (shmeta_partition_open(reader, "t", 1, 0, &h) == SHMETA_OK)
		shmeta_partition_close(h);
	(void)!shmeta_get_partition(handle, NULL, &p, &f);
	(void)!shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, &f);
	(void)!shmeta_get_partitions(1, &handle, NULL, &status, &p);
	(void)!shmeta_find_segment_for_timestamp(handle, 5, NULL, &s, &f);
	(void)!shmeta_last_segment(handle, NULL, &s, &f);
	(void)!shmeta_find_segments(1, &find, NULL, &status, &s);
	(void)!shmeta_find_segments_named(reader, 1, &find_named, NULL, &status, &s);
	(void)!shmeta_plan_fetch(handle, &fetch, NULL, &plan, NULL);
	(void)!shmeta_find_segment_named(reader, "t", 1, 0, 12345, NULL, &s, &f);
	(void)!shmeta_segment_strings_named(reader, "t", 1, &s, buffer, sizeof buffer);
	(void)!shmeta_find_segment(handle, 155555, NULL, &s, &f);
	(void)!shmeta_segment_strings(handle, &s, buffer, sizeof buffer);
	(void)!shmeta_find_columns(&handle, 1, NULL, &find.offset, 1, &source, &columns);
	(void)!shmeta_end(reader);
	(void)!shmeta_once_topic(reader, "t", 1, NULL, buffer, sizeof buffer, &t, &f);
	(void)!shmeta_once_topic_by_id(reader, topic, &source, buffer, sizeof buffer, &t, &f);
	(void)!shmeta_once_topic_stats(reader, "t", 1, &source, &stats, &f);
	(void)!shmeta_once_partition(reader, "t", 1, 0, &source, &p, &f);
	(void)!shmeta_once_segment(reader, "t", 1, 0, 77, &source, buffer, sizeof buffer, &s, &f);
	(void)!shmeta_once_segment_for_timestamp(reader, "t", 1, 0, 5, &source, buffer, sizeof buffer, &s, &f);
	(void)!shmeta_once_last_segment(reader, "t", 1, 0, &source, buffer, sizeof buffer, &s, &f);
	(void)!shmeta_once_fetch_plan(reader, "t", 1, 0, &fetch, &source, &plan, &f);
	(void)!shmeta_once_group(reader, "g", 1, &source, buffer, sizeof buffer, &group, &f);
	(void)!shmeta_once_agent(reader, "a", 1, &source, buffer, sizeof buffer, &agent, &f);
	(void)!shmeta_once_lease(reader, "t", 1, 0, 1000, &source, buffer, sizeof buffer, &lease, &f);
	(void)!shmeta_once_committed_offset(reader, "g", 1, "t", 1, 0, &source, buffer, sizeof buffer, &committed, &f);
	(void)!shmeta_reader_error(reader, &error);
	(void)shmeta_sizeof("shmeta_topic");
	(void)shmeta_abi_matches();
}

static void lists(void)
{
	struct shmeta_committed_offset o;
	struct shmeta_partition p;
	struct shmeta_segment s;
	struct shmeta_iter *iter;
	struct shmeta_agent a;
	struct shmeta_lease l;
	struct shmeta_change change;
	struct shmeta_group g;
	struct shmeta_topic t;
	struct shmeta_str name;

	(void)!shmeta_begin(reader);
#define WALK(begin, next)                                                    \
	do {                                                                 \
		iter = NULL;                                                 \
		if ((begin) == SHMETA_OK)                                    \
			for (int i = 0; i < 300 && (next) == SHMETA_OK; i++) \
				;                                            \
		shmeta_iter_free(iter);                                      \
	} while (0)
	WALK(shmeta_list_topics(reader, "*", 1, 1, NULL, &iter), shmeta_next_topic(iter, &t, NULL));
	WALK(shmeta_list_partitions(reader, "t", 1, NULL, &iter), shmeta_next_partition(iter, &p, NULL));
	WALK(shmeta_list_segments(handle, 0, 300000, NULL, &iter), shmeta_next_segment(iter, &s));
	WALK(shmeta_list_segments_named(reader, "t", 1, 0, 0, 300000, &source, &iter), shmeta_next_segment(iter, &s));
	if (shmeta_list_segments(handle, 0, 20, NULL, &iter) == SHMETA_OK) {
		if (shmeta_next_segment(iter, &s) == SHMETA_OK)
			(void)!shmeta_iter_segment_strings(iter, &s, buffer, sizeof buffer);
		(void)!shmeta_copy_segment(&s, buffer + 4096, 4096, NULL);
		shmeta_iter_free(iter);
	}
	WALK(shmeta_list_agents(reader, NULL, 0, NULL, 0, 2000, NULL, &iter), shmeta_next_agent(iter, &a, NULL));
	WALK(shmeta_list_leases(reader, NULL, 0, NULL, 0, 2000, NULL, &iter), shmeta_next_lease(iter, &name, &l, NULL));
	WALK(shmeta_list_committed_offsets(reader, "g", 1, NULL, &iter),
	     shmeta_next_committed_offset(iter, &name, &o, NULL));
	WALK(shmeta_list_groups(reader, NULL, &iter), shmeta_next_group(iter, &g, NULL));
	WALK(shmeta_changes_since(reader, &(struct shmeta_token){1, 1}, &iter), shmeta_next_change(iter, &change));
	if (shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter) == SHMETA_OK) {
		(void)!shmeta_skip_topics(iter, "a", 1);
		(void)!shmeta_skip_agents(iter, "a", 1);
		(void)!shmeta_skip_groups(iter, "a", 1);
		(void)!shmeta_iter_complete(iter);
		shmeta_iter_free(iter);
	}
	if (shmeta_get_agent(reader, "a", 1, NULL, &a, NULL) == SHMETA_OK)
		(void)!shmeta_copy_agent(&a, buffer, sizeof buffer, NULL);
	if (shmeta_get_group(reader, "g", 1, &source, &g, NULL) == SHMETA_OK)
		(void)!shmeta_copy_group(&g, buffer + 4096, 4096, NULL);
	if (shmeta_get_lease(reader, "t", 1, 0, 2000, NULL, &l, NULL) == SHMETA_OK)
		(void)!shmeta_copy_lease(&l, buffer, sizeof buffer, NULL);
	if (shmeta_get_committed_offset(reader, "g", 1, "t", 1, 0, NULL, &o, NULL) == SHMETA_OK)
		(void)!shmeta_copy_committed_offset(&o, buffer, sizeof buffer, NULL);
	(void)!shmeta_end(reader);
}

static void asking_lookups(void)
{
	const struct shmeta_find finds[4] = {{handle, 1}, {handle, 11}, {handle, 21}, {handle, 31}};
	static struct shmeta_segment many[4];
	enum shmeta_status status[4];
	struct shmeta_freshness f;
	struct shmeta_partition p;
	struct shmeta_segment s;
	struct shmeta_topic t;

	(void)!shmeta_begin(reader);
	(void)!shmeta_get_topic(reader, "t", 1, &source, &t, &f);
	(void)!shmeta_get_partition(handle, &source, &p, &f);
	(void)!shmeta_get_partition_named(reader, "t", 1, 0, &source, &p, &f);
	(void)!shmeta_find_segment(handle, 5, &source, &s, &f);
	(void)!shmeta_find_segment_named(reader, "t", 1, 0, 5, &source, &s, &f);
	(void)!shmeta_find_segments(4, finds, &source, status, many);
	(void)!shmeta_find_segment(handle, 5, &moving, &s, &f);
	(void)!shmeta_end(reader);
}

static void requests(void)
{
	struct shmeta_state state = {.size = sizeof state};
	struct shmeta_invalidated done;
	struct shmeta_object_info object;
	struct shmeta_objects *objects;
	struct shmeta_wait wait = {.handle = handle, .high_watermark = UINT64_MAX};
	struct shmeta_token token = {1, 1};
	char *config;
	uint64_t txn;

	(void)!shmeta_get_state(instance, &state);
	(void)!shmeta_changed_txn(instance, SHMETA_CLASS_TOPIC, &txn);
	(void)!shmeta_wait_commit(instance, txn + 1000, 20, &txn);
	(void)!shmeta_wait_partitions(&wait, 1, 20, NULL);
	(void)!shmeta_wait_token(instance, &token, 20);
	(void)!shmeta_refresh(instance, SHMETA_CLASS_TOPIC, "t", 1, 0, 5000, &txn);
	(void)!shmeta_refresh(instance, SHMETA_CLASS_TOPIC, "a\nb", 3, 0, 5000, &txn);
	(void)!shmeta_invalidate(instance, SHMETA_CLASS_TOPIC, "t", 1, 0, 0, 200, &done);
	(void)!shmeta_reload(instance, 5000, buffer, 500);
	if (shmeta_list_objects(instance, 0, 200, &objects) == SHMETA_OK) {
		(void)!shmeta_next_object(objects, &object);
		shmeta_objects_free(objects);
	}
	(void)!shmeta_leader_epoch_end(instance, "t", 1, 0, 1, 200, &txn, NULL);
	(void)!shmeta_accept_source(instance, 1, 200, NULL, buffer, 500);
	(void)!shmeta_revoke_reader(instance, 1, 200, NULL);
	if (shmeta_get_config(instance, 200, &config) == SHMETA_OK)
		free(config);
	if (shmeta_operate(instance, SHMETA_OPERATE_PAUSE, "why", 0, 200, &config) == SHMETA_OK)
		free(config);
	(void)shmeta_last_error(instance, buffer, 500);
}

static void done(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                 const struct shmeta_token *token)
{
	(void)arg;
	(void)status;
	(void)results;
	(void)count;
	(void)token;
}

static void writes(void)
{
	static struct shmeta_result results[2];
	struct shmeta_op ops[2] = {{.type = SHMETA_OP_DELETE_TOPIC, .name = {"t", 1}},
	                           {.type = SHMETA_OP_DELETE_TOPIC, .name = {"a\nb", 3}}};
	const struct shmeta_key key = {.cls = SHMETA_CLASS_TOPIC, .topic = {"t", 1}};
	static struct shmeta_watch watch = {.topic = {"t", 1}};
	struct shmeta_done settled = {.size = sizeof settled};
	struct shmeta_client *other;
	uint64_t ticket = 0;
	uint32_t wait;

	if (shmeta_client_open(instance, NULL, &other) == SHMETA_OK) {
		(void)!shmeta_write(other, ops, 1, 50, results, NULL);
		(void)!shmeta_write(other, ops, 2, 50, results, NULL);
		(void)!shmeta_submit(other, ops, 1, done, NULL);
		(void)!shmeta_submit_wait(other, &watch, 1, done, NULL, &ticket);
		(void)!shmeta_client_process(other, &wait);
		(void)!shmeta_submit_wait_commit(other, &(struct shmeta_token){0}, done, NULL, &ticket);
		(void)!shmeta_submit_refresh(other, &key, 0, done, NULL, &ticket);
		(void)!shmeta_client_cancel(other, ticket);
		(void)!shmeta_client_process(other, &wait);
		(void)!shmeta_client_next_done(other, &settled);
		(void)shmeta_client_fd(other);
		(void)shmeta_client_events(other);
		shmeta_client_close(other);
	}
}

/* ---- measuring ---- */

static void *run(void *call)
{
	(*(void (**)(void))call)();
	return NULL;
}

static size_t depth_of(void (*call)(void))
{
	unsigned char *stack = aligned_alloc(4096, STACK_BYTES);
	pthread_attr_t attr;
	pthread_t thread;
	size_t clean = 0;

	cr_assert_neq(stack, NULL);
	memset(stack, PAINT, STACK_BYTES);
	cr_assert_eq(pthread_attr_init(&attr), 0);
	cr_assert_eq(pthread_attr_setstack(&attr, stack, STACK_BYTES), 0);
	cr_assert_eq(pthread_create(&thread, &attr, run, &call), 0);
	(void)pthread_join(thread, NULL);
	(void)pthread_attr_destroy(&attr);
	while (clean < STACK_BYTES && stack[clean] == PAINT)
		clean++;
	free(stack);
	return STACK_BYTES - clean;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MEASURED = 0 }; /* frames of instrumented code are not those of the library */
#else
enum { MEASURED = 1 };
#endif

Test(stack, no_public_call_takes_more_than_8_KiB)
{
	static const struct {
		const char *name;
		void (*call)(void);
	} calls[] = {
		{"shmeta_open, shmeta_close", open_and_close},
		{"shmeta_open that fails", open_what_is_not_there},
		{"shmeta_reader_new, shmeta_reader_free", reader_and_back},
		{"shmeta_begin, shmeta_end", begin_and_end},
		{"shmeta_begin in a new generation", begin_in_a_new_generation},
		{"lookups", lookups},
		{"lists", lists},
		{"lookups with SOURCE", asking_lookups},
		{"state, waits and requests", requests},
		{"writes", writes},
	};
	size_t base;

	(void)depth_of(nothing); /* what the first thread of a process costs */
	base = depth_of(nothing);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		size_t depth;

		if (calls[i].call == begin_in_a_new_generation)
			fake_switch_generation(w);
		depth = depth_of(calls[i].call);
		depth = depth > base ? depth - base : 0;
		(void)fprintf(stderr, "# %5zu bytes of stack: %s\n", depth, calls[i].name);
		if (MEASURED)
			cr_expect_leq(depth, (size_t)MOST, "%s: %zu bytes", calls[i].name, depth);
	}
}
