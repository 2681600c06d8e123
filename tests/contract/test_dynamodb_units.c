/* SPDX-License-Identifier: Apache-2.0
 * What each operation costs on DynamoDB, in units as an emulator counts them: the table of
 * docs/backends.md, and what a fleet pays that does nothing. A figure that changes here is changed
 * there. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_state.h"
#include "backends/rows.h"
#include "tests/support/source_world.h"

static struct ddb_server emulator;
static struct world w;

static void begin(void)
{
	if (!world_open_alone(&w, &emulator))
		cr_skip_test("no emulator of DynamoDB (tests/requirements.txt)");
	cr_assert_eq(world_changes(&w), SHMETA_OK, "%s", w.err.text);
}

static void end(void)
{
	world_free_alone(&w, &emulator);
}

TestSuite(dynamodb_units, .init = begin, .fini = end, .timeout = 180);

struct units {
	uint64_t read, written;
};

static struct units used(void)
{
	struct backend_counters c = world_counters(&w);

	return (struct units){c.read_units_load + c.read_units_fetch + c.read_units_feed + c.read_units_write,
	                      c.write_units};
}

enum { MOST = 40 };
static struct shmeta_op ops[MOST];
static char ids[MOST][40];
static size_t count;

static struct shmeta_op *add(enum shmeta_op_type type, const char *topic, uint32_t partition)
{
	ops[count] = (struct shmeta_op){.type = type, .name = rows_str(topic), .partition_id = partition};
	return &ops[count++];
}

/* id: written here, and the segment's as long as it is. */
static struct shmeta_segment segment_of(uint32_t partition, uint64_t base, char id[40])
{
	(void)snprintf(id, 40, "t-%u-%llu", partition, (unsigned long long)base);
	return (struct shmeta_segment){.base_offset = base,
	                               .end_offset = base + 9,
	                               .record_count = 10,
	                               .size_bytes = 100,
	                               .created_at_ms = 5,
	                               .partition_id = partition,
	                               .id = rows_str(id),
	                               .s3_bucket = rows_str("bucket"),
	                               .s3_key = rows_str(id)};
}

static void add_segment(uint32_t partition, uint64_t base)
{
	size_t at = count;

	add(SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK, "t", partition)->u.segment =
		segment_of(partition, base, ids[at]);
}

/* Do what was added, in one call; it takes so many units. */
static void expect(const char *what, uint64_t written, uint64_t read)
{
	struct backend_op batch[MOST];
	struct shmeta_result results[MOST];
	struct units before = used(), after;

	for (size_t i = 0; i < count; i++)
		batch[i] = (struct backend_op){.op = &ops[i], .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
	recorder_clear(&w.recorder);
	/* What deleted topics left is looked for now and then: not within what is measured. */
	((struct ddb_state *)w.state)->swept_ns = ddb_now_ns();
	cr_assert_eq(w.ops->writer->apply(w.state, batch, count, 1700000000000, results, &w.recorder.sink, &w.err),
	             SHMETA_OK, "%s: %s", what, w.err.text);
	for (size_t i = 0; i < count; i++)
		cr_assert_eq(results[i].status, SHMETA_OK, "%s: %s", what, results[i].text);
	after = used();
	cr_expect_eq(after.written - before.written, written, "%s: %llu written", what,
	             (unsigned long long)(after.written - before.written));
	cr_expect_eq(after.read - before.read, read, "%s: %llu read", what,
	             (unsigned long long)(after.read - before.read));
	count = 0;
}

/* Read these partitions' newest segments, in one call. */
static void expect_fetch(uint32_t first, uint32_t end, uint64_t read)
{
	struct backend_key keys[MOST];
	struct units before = used(), after;
	uint32_t n = 0;

	for (uint32_t p = first; p < end; p++)
		keys[n++] = (struct backend_key){.cls = SHMETA_CLASS_SEGMENT,
		                                 .tenant = rows_str(SHMETA_DEFAULT_TENANT),
		                                 .topic = rows_str("t"),
		                                 .partition_id = p,
		                                 .from = 10,
		                                 .to = 10};
	cr_assert_eq(world_fetch(&w, keys, n), SHMETA_OK, "%s", w.err.text);
	cr_expect_eq(w.recorder.segments, n);
	after = used();
	cr_expect_eq(after.read - before.read, read, "a fetch of %u segments: %llu read", n,
	             (unsigned long long)(after.read - before.read));
}

Test(dynamodb_units, each_operation_takes_what_the_document_says)
{
	static struct shmeta_segment olds[32], merged;
	static char old_ids[32][40];
	struct shmeta_op *op;

	add(SHMETA_OP_CREATE_TOPIC, "", 0)->u.topic =
		(struct shmeta_topic){.name = rows_str("t"), .partition_count = 1000};
	expect("the first write: the announcement of the log, too", 5, 1);
	add(SHMETA_OP_CREATE_TOPIC, "", 0)->u.topic =
		(struct shmeta_topic){.name = rows_str("u"), .partition_count = 1000};
	expect("create a topic", 4, 1);
	add_segment(0, 0);
	expect("the first segment of a partition", 8, 3);
	add_segment(0, 10);
	expect("a segment", 6, 2);
	for (uint32_t i = 1; i <= 32; i++)
		add_segment(i, 0);
	expect("32 partitions' first segments", 32 * 4 + 2 + 4, 32 * 2 + 1);
	for (uint32_t i = 1; i <= 32; i++)
		add_segment(i, 10);
	expect("32 segments of 32 partitions", 32 * 4 + 4, 32 * 2);
	expect_fetch(1, 2, 5);
	expect_fetch(1, 33, 98);
	for (uint64_t i = 2; i < 34; i++)
		add_segment(0, i * 10);
	expect("32 segments of one partition", 33 * 2 + 4, 33);
	add(SHMETA_OP_UPDATE_HIGH_WATERMARK, "t", 0)->offset = 1000;
	expect("a watermark", 4, 1);
	add(SHMETA_OP_REGISTER_AGENT, "", 0)->u.agent = (struct shmeta_agent){.agent_id = rows_str("agent"),
	                                                                      .address = rows_str("a:1"),
	                                                                      .availability_zone = rows_str("z"),
	                                                                      .agent_group = rows_str("g")};
	expect("register an agent", 6, 2);
	add(SHMETA_OP_REGISTER_AGENT, "", 0)->u.agent = (struct shmeta_agent){.agent_id = rows_str("agent"),
	                                                                      .address = rows_str("a:1"),
	                                                                      .availability_zone = rows_str("z"),
	                                                                      .agent_group = rows_str("g"),
	                                                                      .last_heartbeat_ms = 9};
	expect("a heartbeat", 4, 2);
	op = add(SHMETA_OP_ACQUIRE_LEASE, "t", 0);
	op->agent_id = rows_str("agent");
	op->duration_ms = 60000;
	expect("take a lease", 8, 2);
	op = add(SHMETA_OP_ACQUIRE_LEASE, "t", 0);
	op->agent_id = rows_str("agent");
	op->duration_ms = 60000;
	expect("renew a lease", 4, 2);
	for (uint32_t i = 0; i < 2; i++) {
		op = add(SHMETA_OP_COMMIT_OFFSET, "t", 0);
		op->u.committed = (struct shmeta_committed_offset){
			.group_id = rows_str("g"), .committed_offset = i, .committed_at_ms = 1};
		op->group_id = rows_str("g");
		if (i == 0)
			expect("the first offset of a group", 6, 2);
		else
			expect("an offset", 4, 2);
	}
	for (int again = 0; again < 2; again++) {
		for (uint32_t i = 1; i <= 32; i++) {
			op = add(SHMETA_OP_ACQUIRE_LEASE, "t", i);
			op->agent_id = rows_str("agent");
			op->duration_ms = 60000;
		}
		if (again)
			expect("renew 32 leases", 32 * 2 + 4, 32 + 1);
		else
			expect("take 32 leases", 32 * 4 + 2 + 4, 32 + 1);
	}
	add(SHMETA_OP_COMMIT_OBJECT, "", 0)->u.object =
		(struct shmeta_object){rows_str("bucket"), rows_str("object"), 3200, 5};
	for (uint32_t i = 1; i <= 32; i++) {
		add_segment(i, 20);
		ops[i].type = SHMETA_OP_ADD_SLICE;
		ops[i].u.segment.s3_key = rows_str("object");
		ops[i].u.segment.position = i * 100 - 100;
	}
	expect("an object of 32 slices", 2 + 32 * 4 + 4, 1 + 32 * 2);
	op = add(SHMETA_OP_DELETE_SEGMENTS_BEFORE, "t", 0);
	op->offset = 320;
	expect("delete 32 segments", 33 * 2 + 2, 3);
	for (uint32_t i = 0; i < 32; i++)
		add(SHMETA_OP_ADD_SEGMENT, "t", 40)->u.segment = olds[i] = segment_of(40, i * 10, old_ids[i]);
	expect("the first 32 segments of a partition", 34 * 2 + 4, 32 + 2);
	merged = olds[0];
	merged.end_offset = 319;
	merged.s3_key = rows_str("merged");
	add(SHMETA_OP_REPLACE_SEGMENTS, "t", 40)->u.replace =
		(struct shmeta_replace){.old_segments = olds, .new_segments = &merged, .old_count = 32, .new_count = 1};
	expect("replace 32 segments by one", 33 * 2 + 2, 4);
	for (uint64_t epoch = 1; epoch <= 3; epoch++) {
		op = add(SHMETA_OP_ACQUIRE_LEASE, "t", 41);
		op->agent_id = rows_str("agent");
		op->duration_ms = 60000;
		add_segment(41, epoch * 20);
		ops[1].fence = (struct shmeta_fence){rows_str("agent"), epoch};
		/* The first lease of a partition takes 6 more; epochs before this one have an item
		 * of their own. */
		expect("a lease and the first segment under it", epoch == 1 ? 12 : 8, 4);
		add_segment(41, epoch * 20 + 10);
		ops[0].fence = (struct shmeta_fence){rows_str("agent"), epoch};
		expect("the next segment under an epoch", 6, 2);
	}
}

/* Ten hosts that have written and do nothing: what a month of their polls costs at feed.poll_max_ms
 * (1 s), and of their signs of life. */
Test(dynamodb_units, ten_hosts_that_do_nothing_cost_less_than_ten_dollars_a_month)
{
	enum { HOSTS = 10, POLLS = 20 };
	const double month_s = 30 * 86400.0, read_usd = 0.125e-6, write_usd = 0.625e-6, beats_s = 600;
	struct world other[HOSTS - 1];
	struct backend_counters before, after;
	double reads, usd;
	void *first = w.state;

	add(SHMETA_OP_CREATE_TOPIC, "", 0)->u.topic =
		(struct shmeta_topic){.name = rows_str("t"), .partition_count = 100};
	expect("create a topic", 5, 1);
	for (uint32_t i = 0; i < HOSTS - 1; i++) {
		other[i] = w;
		other[i].state = NULL;
		recorder_init(&other[i].recorder);
		world_open(&other[i]);
		w.state = other[i].state;
		add_segment(i, 0);
		expect("a segment of another host", 9, 3);
	}
	w.state = first;
	for (int i = 0; i < 4; i++) { /* until nobody has announced more than it wrote */
		cr_assert_eq(world_changes(&w), SHMETA_OK, "%s", w.err.text);
		for (int k = 0; k < HOSTS - 1; k++)
			cr_assert_eq(world_changes(&other[k]), SHMETA_OK, "%s", other[k].err.text);
	}
	before = world_counters(&w);
	for (int i = 0; i < POLLS; i++)
		cr_assert_eq(world_changes(&w), SHMETA_OK, "%s", w.err.text);
	after = world_counters(&w);
	cr_expect_eq(after.write_units, before.write_units);
	reads = (double)(after.read_units_feed - before.read_units_feed) / POLLS;
	cr_expect_eq(reads, 1, "a poll takes %.2f units", reads);
	usd = HOSTS * (month_s * reads * read_usd + month_s / beats_s * write_usd);
	cr_expect_lt(usd, 10, "a month of %d idle hosts: %.2f USD", HOSTS, usd);
	cr_expect_eq((int)(usd * 100), 326, "docs/backends.md says 3.27 USD, this is %.2f", usd);
	for (int k = 0; k < HOSTS - 1; k++) {
		world_close(&other[k]);
		recorder_free(&other[k].recorder);
	}
}
