/* SPDX-License-Identifier: Apache-2.0
 * Group commit through the sync engine, on a SQLite source and on the in-memory reference, without
 * the engine's thread: what each operation answers, what the store shows at once, and that nothing
 * is done twice. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/memory/memory.h"
#include "shm/index/part.h"
#include "shm/page/board.h"
#include "shm/record/key.h"
#include "shm/record/record.h"
#include "tests/support/quiet_host.h"
#include "tests/support/run_daemon.h"
#include "tests/support/usual_options.h"
#include "tests/support/write_ops.h"
#include "writer/apply/apply.h"
#include "writer/engine/sync.h"

TestSuite(write_sqlite, .timeout = 120);
TestSuite(write_memory, .timeout = 120);

/* The same claim about both engines. */
#define CLAIM(claim)                                                      \
	static void claim(void);                                          \
	Test(write_sqlite, claim, .init = setup_sqlite, .fini = teardown) \
	{                                                                 \
		claim();                                                  \
	}                                                                 \
	Test(write_memory, claim, .init = setup_memory, .fini = teardown) \
	{                                                                 \
		claim();                                                  \
	}                                                                 \
	static void claim(void)

enum { RESULTS = 512 };

static struct {
	struct run_daemon at; /* its directory */
	char uri[160];
	struct memory_db *db; /* the in-memory engine's rows; NULL: SQLite */
	struct sync *sync;
	struct shmeta_board *board;
	int dir_fd;
	int64_t wall_ms;
	struct shmeta_result result[RESULTS];
	size_t results;
	enum shmeta_status status;
	uint64_t txn, answered;
	char text[300];
} w;

static uint64_t no_pin(void *arg, uint64_t generation)
{
	(void)arg;
	(void)generation;
	return UINT64_MAX;
}
static int kept(void *arg)
{
	(void)arg;
	return 0;
}
static void phase(void *arg, enum shmeta_phase p, const char *sentence)
{
	(void)arg;
	(void)p;
	(void)sentence;
}
static void progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)done;
	(void)total;
}
static void note(void *arg, int priority, const char *event, const char *sentence)
{
	(void)arg;
	if (priority <= 4)
		(void)fprintf(stderr, "%s: %s\n", event, sentence);
}
static void refreshed(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
                      uint64_t generation, uint64_t synced)
{
	(void)arg;
	(void)ticket;
	(void)status;
	(void)sentence;
	(void)txn;
	(void)generation;
	(void)synced;
}
static void written(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence,
                    const struct shmeta_op *ops, const struct shmeta_result *results, size_t count, uint64_t txn,
                    uint64_t generation)
{
	(void)arg;
	(void)ticket;
	(void)generation;
	(void)ops;
	w.status = status;
	w.txn = txn;
	w.answered++;
	(void)snprintf(w.text, sizeof w.text, "%s", sentence);
	w.results = count;
	for (size_t i = 0; i < count && i < RESULTS; i++)
		w.result[i] = results[i];
}
static int64_t wall(void *arg)
{
	(void)arg;
	return w.wall_ms;
}

static void open_engine(void)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	struct sync_host host = quiet_host((struct sync_host){.oldest_pin = no_pin,
	                                                      .all_registrations_kept = kept,
	                                                      .phase = phase,
	                                                      .progress = progress,
	                                                      .log = note,
	                                                      .answer = refreshed,
	                                                      .written = written});
	struct sync_options o = {.source = {.uri = w.uri, .timeout_ms = 1000, .manage_schema = 1, .create = 1},
	                         .store_max_bytes = 256 << 20,
	                         .grace_ns = 1000000,
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
	                         .wall_ms = wall};

	w.board->epoch++;
	cr_assert_eq(sync_open(w.dir_fd, w.board, &o, &host, &w.sync, &err), SHMETA_OK, "%s", err.text);
}

static void setup(void)
{
	w.wall_ms = 1000000;
	struct shmeta_err err = {.code = SHMETA_OK};
	void *map;

	cr_assert_eq(run_daemon_init(&w.at), 0);
	w.dir_fd = open(w.at.instance, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(shmeta__map_file(w.dir_fd, "board", SHMETA_PAGE, 1, &map, &err), SHMETA_OK, "%s", err.text);
	w.board = map;
	memcpy(w.board->boot_id, "0123456789abcdef", 16);
	if (w.db == NULL)
		(void)snprintf(w.uri, sizeof w.uri, "sqlite:%s", w.at.db);
	open_engine();
}

static void setup_sqlite(void)
{
	setup();
}

static void setup_memory(void)
{
	w.db = memory_db_new("write");
	(void)snprintf(w.uri, sizeof w.uri, "memory:write");
	setup();
}

static void teardown(void)
{
	sync_close(w.sync);
	memory_db_free(w.db);
	(void)munmap(w.board, SHMETA_PAGE);
	(void)close(w.dir_fd);
	run_daemon_done(&w.at);
}

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

/* Submit and run until it is answered; the first result's status. */
static enum shmeta_status do_ops(const struct shmeta_op *ops, size_t count)
{
	uint64_t before = w.answered, wait;
	enum shmeta_status status =
		write_ops(w.sync, str(SHMETA_DEFAULT_TENANT), ops, count, UINT64_MAX, 0, 1, "uid 0 pid 1", 7);

	if (status != SHMETA_OK)
		return status;
	for (int i = 0; i < 2000 && w.answered == before; i++) {
		cr_assert_eq(sync_run_once(w.sync, &wait), SHMETA_OK);
		if (w.answered == before)
			(void)usleep(1000);
	}
	cr_assert_eq(w.answered, before + 1, "answered exactly once");
	return w.status != SHMETA_OK ? w.status : w.result[0].status;
}

static enum shmeta_status create(const char *name, uint32_t partitions)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = str(name), .partition_count = partitions}};

	return do_ops(&op, 1);
}

static struct shmeta_op add_op(const char *topic, uint32_t partition, uint64_t base, char *id)
{
	(void)snprintf(id, 64, "%s-%u-%llu", topic, partition, (unsigned long long)base);
	return (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                          .name = str(topic),
	                          .partition_id = partition,
	                          .u.segment = {.base_offset = base,
	                                        .end_offset = base + 9,
	                                        .record_count = 10,
	                                        .size_bytes = 100,
	                                        .created_at_ms = 5,
	                                        .id = str(id),
	                                        .s3_bucket = str("b"),
	                                        .s3_key = str(id)}};
}

/* What the store shows now; ABSENT when the partition is not there. */
static enum shmeta_status stored(const char *topic, uint32_t partition, struct shmeta_partition *ret)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	struct shmeta__txn *txn = NULL;
	struct shmeta_topic t;
	uint64_t last;
	bool any;
	enum shmeta_status status = shmeta__txn_read(sync_store(w.sync), &txn, &err);

	cr_assert_eq(status, SHMETA_OK);
	status = apply_topic_get(txn, str(SHMETA_DEFAULT_TENANT), str(topic), &t, NULL, &err);
	if (status == SHMETA_OK)
		status = apply_partition_get(txn, t.topic_id, partition, ret, &last, &any, &err);
	shmeta__txn_abort(txn);
	return status;
}

CLAIM(a_topic_and_its_partitions_are_there_when_the_call_is_answered)
{
	struct shmeta_partition p;

	cr_assert_eq(create("orders", 3), SHMETA_OK);
	cr_assert_eq(stored("orders", 2, &p), SHMETA_OK);
	cr_assert_eq(p.high_watermark, 0);
	cr_assert_eq(p.created_at_ms, 1000000);
	cr_assert_eq(stored("orders", 3, &p), SHMETA_ABSENT);
	cr_assert_eq(create("orders", 1), SHMETA_ERR_ALREADY_EXISTS);
	cr_assert_eq(stored("orders", 2, &p), SHMETA_OK, "unchanged");
	cr_assert_eq(create("none", 0), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(stored("none", 0, &p), SHMETA_ABSENT);
}

CLAIM(an_added_segment_and_its_watermark_show_at_once_and_a_retry_is_recognised)
{
	struct shmeta_partition p;
	char id[64];
	struct shmeta_op op = add_op("orders", 0, 0, id);

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	cr_assert_eq(do_ops(&op, 1), SHMETA_OK);
	cr_assert_eq(stored("orders", 0, &p), SHMETA_OK);
	cr_assert_eq(p.high_watermark, 10);
	cr_assert_eq(p.segment_count, 1);
	cr_assert_eq(do_ops(&op, 1), SHMETA_ERR_ALREADY_EXISTS);
	cr_assert_eq(w.result[0].existing.end_offset, 9);
	op.u.segment.size_bytes++;
	cr_assert_eq(do_ops(&op, 1), SHMETA_ERR_CONFLICT);
	op.name = str("nothing");
	cr_assert_eq(do_ops(&op, 1), SHMETA_ERR_TOPIC_NOT_FOUND);
	op.name = str("orders");
	op.partition_id = 1;
	cr_assert_eq(do_ops(&op, 1), SHMETA_ERR_PARTITION_NOT_FOUND);
}

CLAIM(one_bad_operation_harms_no_other_of_its_batch)
{
	struct shmeta_partition p;
	struct shmeta_op op[5];
	char id[5][64];

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	for (int i = 0; i < 5; i++)
		op[i] = add_op("orders", i == 2 ? 9 : 0, (uint64_t)i * 10, id[i]);
	op[3].u.segment.end_offset = op[3].u.segment.base_offset - 1;
	cr_assert_eq(do_ops(op, 5), SHMETA_OK);
	cr_assert_eq(w.results, 5);
	cr_assert_eq(w.result[1].status, SHMETA_OK);
	cr_assert_eq(w.result[2].status, SHMETA_ERR_PARTITION_NOT_FOUND);
	cr_assert_eq(w.result[3].status, SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(w.result[4].status, SHMETA_OK);
	cr_assert_eq(stored("orders", 0, &p), SHMETA_OK);
	cr_assert_eq(p.segment_count, 3);
	cr_assert_eq(p.high_watermark, 50);
}

CLAIM(the_same_request_id_is_answered_with_the_first_result_and_not_done_twice)
{
	struct shmeta_op acquire = {.type = SHMETA_OP_ACQUIRE_LEASE,
	                            .name = str("orders"),
	                            .agent_id = str("a"),
	                            .duration_ms = 1000,
	                            .request_id = {1, 2}};
	struct shmeta_op agent = {.type = SHMETA_OP_REGISTER_AGENT,
	                          .u.agent = {.agent_id = str("a"),
	                                      .address = str("h:1"),
	                                      .availability_zone = str("z"),
	                                      .agent_group = str("g"),
	                                      .last_heartbeat_ms = 1,
	                                      .started_at_ms = 1}};

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	cr_assert_eq(do_ops(&agent, 1), SHMETA_OK);
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 1);
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 1, "recognised");
	acquire.request_id[1] = 3;
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 2, "a renewal");
}

/* Nobody has asked for these leases by an operation. */
Test(write_memory, epochs_that_others_gave_do_not_go_back_however_their_lease_goes, .init = setup_memory,
     .fini = teardown)
{
	const struct shmeta_op acquire = {
		.type = SHMETA_OP_ACQUIRE_LEASE, .name = str("orders"), .agent_id = str("a"), .duration_ms = 1000};
	const struct shmeta_op agent = {.type = SHMETA_OP_REGISTER_AGENT,
	                                .u.agent = {.agent_id = str("a"),
	                                            .address = str("h:1"),
	                                            .availability_zone = str("z"),
	                                            .agent_group = str("g"),
	                                            .last_heartbeat_ms = 1,
	                                            .started_at_ms = 1}};
	struct shmeta_lease foreign = {.leader_agent_id = str("x"), .epoch = 100};

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	cr_assert_eq(do_ops(&agent, 1), SHMETA_OK);
	for (int way = 0; way < 4; way++) {
		cr_assert(memory_put_lease(w.db, NULL, "orders", &foreign));
		switch (way) {
		case 0: /* its topic goes */
			memory_delete_topic(w.db, NULL, "orders");
			cr_assert_eq(create("orders", 1), SHMETA_OK);
			break;
		case 1: /* its agent */
			memory_delete_agent(w.db, NULL, "x");
			break;
		case 2: /* itself */
			memory_delete_lease(w.db, NULL, "orders", 0);
			break;
		default: /* a lower one comes */
			foreign.epoch = 1;
			cr_assert(memory_put_lease(w.db, NULL, "orders", &foreign));
			foreign.epoch = (uint64_t)(way + 1) * 100;
			break;
		}
		cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
		cr_assert_eq(w.result[0].status, SHMETA_OK, "%s", w.result[0].text);
		cr_expect_eq(w.result[0].lease.epoch, foreign.epoch + 1, "way %d", way);
		foreign.epoch += 100;
	}
}

CLAIM(the_same_request_id_twice_in_one_round_is_done_once)
{
	struct shmeta_op op[3] = {{.type = SHMETA_OP_REGISTER_AGENT,
	                           .u.agent = {.agent_id = str("a"),
	                                       .address = str("h:1"),
	                                       .availability_zone = str("z"),
	                                       .agent_group = str("g")}},
	                          {.type = SHMETA_OP_ACQUIRE_LEASE,
	                           .name = str("orders"),
	                           .agent_id = str("a"),
	                           .duration_ms = 1000,
	                           .request_id = {1, 2}}};
	uint64_t wait;

	op[2] = op[1];
	cr_assert_eq(create("orders", 1), SHMETA_OK);
	/* A call that waits, and the same again from a connection that its client made anew. */
	cr_assert_eq(write_ops(w.sync, str(SHMETA_DEFAULT_TENANT), op, 3, UINT64_MAX, 0, 1, "test", 8), SHMETA_OK);
	cr_assert_eq(write_ops(w.sync, str(SHMETA_DEFAULT_TENANT), op + 1, 1, UINT64_MAX, 0, 1, "test", 9), SHMETA_OK);
	for (int i = 0; i < 2000 && w.answered < 3; i++)
		cr_assert_eq(sync_run_once(w.sync, &wait), SHMETA_OK);
	cr_assert_eq(w.answered, 3);
	cr_assert_eq(w.result[0].status, SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 1, "the second call's");
	op[1].request_id[0] = 5;
	cr_assert_eq(do_ops(op + 1, 2), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 2);
	cr_assert_eq(w.result[1].lease.epoch, 1, "remembered");
}

CLAIM(epochs_never_go_back_through_release_deregistration_recreation_and_restart)
{
	struct shmeta_op agent = {.type = SHMETA_OP_REGISTER_AGENT,
	                          .u.agent = {.agent_id = str("a"),
	                                      .address = str("h:1"),
	                                      .availability_zone = str("z"),
	                                      .agent_group = str("g"),
	                                      .last_heartbeat_ms = 1,
	                                      .started_at_ms = 1}};
	struct shmeta_op acquire = {
		.type = SHMETA_OP_ACQUIRE_LEASE, .name = str("orders"), .agent_id = str("a"), .duration_ms = 1000};
	struct shmeta_op release = {.type = SHMETA_OP_RELEASE_LEASE, .name = str("orders"), .agent_id = str("a")};
	struct shmeta_op deregister = {.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = str("a")};
	struct shmeta_op drop = {.type = SHMETA_OP_DELETE_TOPIC, .name = str("orders")};

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_ERR_NOT_FOUND, "no such agent");
	cr_assert_eq(do_ops(&agent, 1), SHMETA_OK);
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 1);
	cr_assert_eq(do_ops(&release, 1), SHMETA_OK);
	cr_assert_eq(do_ops(&release, 1), SHMETA_ERR_NOT_FOUND);
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 2);
	cr_assert_eq(do_ops(&deregister, 1), SHMETA_OK);
	cr_assert_eq(do_ops(&deregister, 1), SHMETA_OK, "idempotent");
	cr_assert_eq(do_ops(&agent, 1), SHMETA_OK);
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 3);
	cr_assert_eq(do_ops(&drop, 1), SHMETA_OK);
	cr_assert_eq(do_ops(&drop, 1), SHMETA_ERR_TOPIC_NOT_FOUND);
	cr_assert_eq(create("orders", 1), SHMETA_OK);
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 4);
	sync_close(w.sync);
	open_engine();
	cr_assert_eq(do_ops(&acquire, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 5);
}

CLAIM(a_fence_holds_off_everybody_but_the_holder_of_the_current_epoch)
{
	struct shmeta_op op[3];
	char id[64];

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	for (int i = 0; i < 2; i++)
		op[i] = (struct shmeta_op){.type = SHMETA_OP_REGISTER_AGENT,
		                           .u.agent = {.agent_id = str(i ? "b" : "a"),
		                                       .address = str(i ? "h:2" : "h:1"),
		                                       .availability_zone = str("z"),
		                                       .agent_group = str("g"),
		                                       .last_heartbeat_ms = 1,
		                                       .started_at_ms = 1}};
	op[2] = (struct shmeta_op){
		.type = SHMETA_OP_ACQUIRE_LEASE, .name = str("orders"), .agent_id = str("a"), .duration_ms = 1000};
	cr_assert_eq(do_ops(op, 3), SHMETA_OK);
	cr_assert_eq(w.result[2].lease.epoch, 1);
	op[0] = add_op("orders", 0, 0, id);
	op[0].fence = (struct shmeta_fence){str("a"), 2};
	cr_assert_eq(do_ops(op, 1), SHMETA_ERR_FENCED);
	op[0].fence = (struct shmeta_fence){str("b"), 1};
	cr_assert_eq(do_ops(op, 1), SHMETA_ERR_FENCED);
	op[0].fence = (struct shmeta_fence){str("a"), 1};
	cr_assert_eq(do_ops(op, 1), SHMETA_OK);
	op[2].agent_id = str("b");
	cr_assert_eq(do_ops(&op[2], 1), SHMETA_ERR_CONFLICT);
	w.wall_ms += 1000; /* expires == now: expired for everyone */
	op[0].u.segment.base_offset = 10;
	op[0].u.segment.end_offset = 19;
	cr_assert_eq(do_ops(op, 1), SHMETA_ERR_FENCED);
	cr_assert_eq(do_ops(&op[2], 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 2);
}

CLAIM(a_lease_goes_to_the_agent_it_was_offered_to)
{
	struct shmeta_op op[4];
	uint64_t transfer;

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	for (int i = 0; i < 2; i++)
		op[i] = (struct shmeta_op){.type = SHMETA_OP_REGISTER_AGENT,
		                           .u.agent = {.agent_id = str(i ? "b" : "a"),
		                                       .address = str(i ? "h:2" : "h:1"),
		                                       .availability_zone = str("z"),
		                                       .agent_group = str("g"),
		                                       .last_heartbeat_ms = 1,
		                                       .started_at_ms = 1}};
	op[2] = (struct shmeta_op){
		.type = SHMETA_OP_ACQUIRE_LEASE, .name = str("orders"), .agent_id = str("a"), .duration_ms = 10000};
	op[3] = (struct shmeta_op){.type = SHMETA_OP_OFFER_LEASE,
	                           .name = str("orders"),
	                           .agent_id = str("a"),
	                           .to_agent_id = str("b"),
	                           .duration_ms = 500};
	cr_assert_eq(do_ops(op, 4), SHMETA_OK);
	cr_assert_eq(w.result[3].status, SHMETA_OK, "%s", w.result[3].text);
	transfer = w.result[3].transfer_id;
	cr_assert_eq(do_ops(&op[3], 1), SHMETA_ERR_CONFLICT, "one offer at a time");
	op[0] = (struct shmeta_op){
		.type = SHMETA_OP_COMPLETE_LEASE, .transfer_id = transfer, .agent_id = str("a"), .duration_ms = 1000};
	cr_assert_eq(do_ops(op, 1), SHMETA_ERR_CONFLICT, "not accepted yet");
	op[1] = (struct shmeta_op){.type = SHMETA_OP_ACCEPT_LEASE, .transfer_id = transfer, .agent_id = str("a")};
	cr_assert_eq(do_ops(&op[1], 1), SHMETA_ERR_CONFLICT, "not addressed to it");
	op[1].agent_id = str("b");
	cr_assert_eq(do_ops(&op[1], 1), SHMETA_OK);
	cr_assert_eq(do_ops(op, 1), SHMETA_OK);
	cr_assert_eq(w.result[0].lease.epoch, 2);
	cr_assert_eq(do_ops(&op[2], 1), SHMETA_ERR_CONFLICT, "the former holder has lost it");
}

/* How many rows of one kind the store has. */
static size_t stored_rows(enum shmeta_db db)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	struct shmeta__txn *txn = NULL;
	struct shmeta__cursor *cursor = NULL;
	const void *key, *value;
	size_t key_bytes, bytes, count = 0;

	cr_assert_eq(shmeta__txn_read(sync_store(w.sync), &txn, &err), SHMETA_OK);
	cr_assert_eq(shmeta__cursor_open(txn, db, NULL, 0, &cursor, &err), SHMETA_OK);
	while (shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &err) == SHMETA_OK)
		count++;
	shmeta__cursor_close(cursor);
	shmeta__txn_abort(txn);
	return count;
}

static uint64_t rows_read(void)
{
	struct backend_counters c;

	(w.db != NULL ? &backend_memory : &backend_sqlite)->source->counters(sync_backend_state(w.sync), &c);
	return c.rows;
}

static struct shmeta_op agent_op(int n, char text[2][40])
{
	(void)snprintf(text[0], 40, "agent-%d", n);
	(void)snprintf(text[1], 40, "host:%d", n);
	return (struct shmeta_op){.type = SHMETA_OP_REGISTER_AGENT,
	                          .u.agent = {.agent_id = str(text[0]),
	                                      .address = str(text[1]),
	                                      .availability_zone = str("z"),
	                                      .agent_group = str("g"),
	                                      .last_heartbeat_ms = 1,
	                                      .started_at_ms = 1}};
}

CLAIM(a_heartbeat_a_lease_and_a_committed_offset_read_back_no_more_than_themselves)
{
	enum { MANY = 400 };
	static char text[MANY][2][40];
	struct shmeta_op op[MANY];
	uint64_t before;

	cr_assert_eq(create("orders", MANY), SHMETA_OK);
	for (int i = 0; i < MANY; i++)
		op[i] = agent_op(i, text[i]);
	cr_assert_eq(do_ops(op, MANY), SHMETA_OK);
	for (int i = 0; i < MANY; i++)
		op[i] = (struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
		                           .name = str("orders"),
		                           .partition_id = (uint32_t)i,
		                           .agent_id = str(text[i % 2][0]),
		                           .duration_ms = 10000};
	cr_assert_eq(do_ops(op, MANY), SHMETA_OK);
	for (int i = 0; i < MANY; i++)
		op[i] = (struct shmeta_op){
			.type = SHMETA_OP_COMMIT_OFFSET,
			.name = str("orders"),
			.partition_id = (uint32_t)i,
			.u.committed = {.group_id = str(i % 2 ? "odd" : "even"), .committed_offset = 7}};
	cr_assert_eq(do_ops(op, MANY), SHMETA_OK);
	cr_assert_eq(stored_rows(SHMETA_DB_AGENTS), MANY);
	cr_assert_eq(stored_rows(SHMETA_DB_LEASES), MANY);
	cr_assert_eq(stored_rows(SHMETA_DB_OFFSETS), MANY);
	cr_assert_eq(stored_rows(SHMETA_DB_GROUPS), 2);

	before = rows_read();
	op[1].partition_id = 5;
	op[2] = agent_op(3, text[3]);
	op[2].u.agent.last_heartbeat_ms = 2;
	op[3] = (struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
	                           .name = str("orders"),
	                           .partition_id = 6,
	                           .agent_id = str("agent-0"),
	                           .duration_ms = 20000};
	cr_assert_eq(do_ops(op + 1, 3), SHMETA_OK);
	cr_assert_eq(w.result[2].status, SHMETA_OK, "%s", w.result[2].text);
	if (w.db != NULL)
		return; /* the reference tells its own changes once more, by class */
	cr_assert_leq(rows_read() - before, 4, "a group, an offset, an agent, a lease; not %d",
	              (int)(rows_read() - before));
}

CLAIM(what_is_taken_away_is_gone_from_the_store_and_nothing_else_is)
{
	char text[3][2][40];
	struct shmeta_op op[8];

	cr_assert_eq(create("orders", 4), SHMETA_OK);
	for (int i = 0; i < 3; i++)
		op[i] = agent_op(i, text[i]);
	for (int i = 3; i < 5; i++)
		op[i] = (struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
		                           .name = str("orders"),
		                           .partition_id = (uint32_t)i - 3,
		                           .agent_id = str(text[i - 3][0]),
		                           .duration_ms = 10000};
	for (int i = 5; i < 8; i++)
		op[i] = (struct shmeta_op){
			.type = SHMETA_OP_COMMIT_OFFSET,
			.name = str("orders"),
			.partition_id = (uint32_t)i - 5,
			.u.committed = {.group_id = str(i == 7 ? "g" : "gr"), .committed_offset = 7}};
	cr_assert_eq(do_ops(op, 8), SHMETA_OK);
	cr_assert_eq(stored_rows(SHMETA_DB_OFFSETS), 3);

	op[0] = (struct shmeta_op){.type = SHMETA_OP_DELETE_GROUP, .group_id = str("g")};
	op[1] = (struct shmeta_op){.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = str("agent-0")};
	cr_assert_eq(do_ops(op, 2), SHMETA_OK);
	cr_assert_eq(stored_rows(SHMETA_DB_GROUPS), 1, "the other group's name begins alike");
	cr_assert_eq(stored_rows(SHMETA_DB_OFFSETS), 2);
	cr_assert_eq(stored_rows(SHMETA_DB_AGENTS), 2);
	cr_assert_eq(stored_rows(SHMETA_DB_LEASES), 1, "its lease went with it");

	op[0] = (struct shmeta_op){
		.type = SHMETA_OP_RELEASE_LEASE, .name = str("orders"), .partition_id = 1, .agent_id = str("agent-1")};
	op[1] = (struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = str("new")};
	cr_assert_eq(do_ops(op, 2), SHMETA_OK);
	cr_assert_eq(stored_rows(SHMETA_DB_LEASES), 0);
	cr_assert_eq(stored_rows(SHMETA_DB_GROUPS), 2);
	cr_assert_eq(stored_rows(SHMETA_DB_AGENTS), 2);
	cr_assert_eq(stored_rows(SHMETA_DB_OFFSETS), 2);
}

Test(write, slices_of_an_object_show_their_bytes_and_the_object_goes_when_the_last_is_gone, .init = setup,
     .fini = teardown)
{
	char id[64];
	struct shmeta_partition p;
	struct shmeta_op op[4] = {{.type = SHMETA_OP_COMMIT_OBJECT,
	                           .u.object = {.s3_bucket = str("b"), .s3_key = str("obj/1"), .size_bytes = 500}},
	                          add_op("orders", 0, 0, id),
	                          add_op("orders", 1, 0, id),
	                          add_op("orders", 7, 0, id)};

	cr_assert_eq(create("orders", 2), SHMETA_OK);
	for (int i = 1; i < 4; i++) {
		op[i].type = SHMETA_OP_ADD_SLICE;
		op[i].u.segment.id = str(i == 1 ? "s1" : i == 2 ? "s2" : "s3");
		op[i].u.segment.position = (uint64_t)(i - 1) * 100;
		op[i].u.segment.s3_bucket = op[i].u.segment.s3_key = str("");
	}
	cr_assert_eq(do_ops(op, 4), SHMETA_OK, "%s", w.result[0].text);
	cr_assert_eq(w.result[1].status, SHMETA_OK, "%s", w.result[1].text);
	cr_assert_eq(w.result[2].status, SHMETA_OK);
	cr_assert_eq(w.result[3].status, SHMETA_ERR_PARTITION_NOT_FOUND);
	cr_assert_eq(stored("orders", 1, &p), SHMETA_OK);
	cr_assert_eq(p.high_watermark, 10);
	op[0].type = SHMETA_OP_CONFIRM_OBJECT_DELETED;
	cr_assert_eq(do_ops(op, 1), SHMETA_ERR_CONFLICT);
	for (uint32_t i = 0; i < 2; i++) {
		struct shmeta_op before = {.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE,
		                           .name = str("orders"),
		                           .partition_id = i,
		                           .offset = 10};

		cr_assert_eq(do_ops(&before, 1), SHMETA_OK);
		cr_assert_eq(w.result[0].count, 1);
	}
	cr_assert_eq(do_ops(op, 1), SHMETA_OK, "%s", w.result[0].text);
	cr_assert_eq(do_ops(op, 1), SHMETA_OK, "idempotent");
}

CLAIM(what_there_is_no_room_for_is_not_even_parsed)
{
	static struct shmeta_op op[1000];
	static char id[1000][64];
	static const uint64_t junk[64];
	const struct sync_write write = {.tenant = str(SHMETA_DEFAULT_TENANT),
	                                 .ops = junk,
	                                 .bytes = sizeof junk,
	                                 .count = 2,
	                                 .deadline_ns = UINT64_MAX,
	                                 .connection = 1,
	                                 .who = "test"};
	uint64_t wait, taken = 0;

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	for (int i = 0; i < 1000; i++)
		op[i] = add_op("orders", 0, (uint64_t)i * 10, id[i]);
	cr_expect_eq(sync_write(w.sync, &write), SHMETA_ERR_PROTOCOL);
	w.answered = 0;
	for (size_t count = 1000; count > 0; count /= 2)
		while (write_ops(w.sync, str(SHMETA_DEFAULT_TENANT), op, count, UINT64_MAX, 0, 1, "test", 1) ==
		       SHMETA_OK)
			taken++;
	cr_expect_gt(taken, 0);
	cr_expect_eq(sync_write(w.sync, &write), SHMETA_ERR_BUSY);
	for (int i = 0; i < 5000 && w.answered < taken; i++)
		cr_assert_eq(sync_run_once(w.sync, &wait), SHMETA_OK);
	cr_expect_eq(w.answered, taken);
}

CLAIM(a_full_queue_answers_busy_and_loses_nothing)
{
	static struct shmeta_op op[5000];
	static char id[5000][64];
	uint64_t wait;
	int accepted = 0;

	cr_assert_eq(create("orders", 1), SHMETA_OK);
	for (int i = 0; i < 5000; i++)
		op[i] = add_op("orders", 0, (uint64_t)i * 10, id[i]);
	for (int i = 0; i < 5000; i += 1000) {
		enum shmeta_status status = write_ops(w.sync, str(SHMETA_DEFAULT_TENANT), op + i, 1000, UINT64_MAX, 0,
		                                      1, "test", (uint64_t)i);

		accepted += status == SHMETA_OK;
	}
	cr_assert_eq(accepted, 5);
	cr_assert_eq(write_ops(w.sync, str(SHMETA_DEFAULT_TENANT), op, 5000, UINT64_MAX, 0, 1, "test", 1), SHMETA_OK);
	cr_assert_eq(write_ops(w.sync, str(SHMETA_DEFAULT_TENANT), op, 1, UINT64_MAX, 0, 1, "test", 1),
	             SHMETA_ERR_BUSY);
	w.answered = 0;
	for (int i = 0; i < 1000 && w.answered < 6; i++) {
		(void)sync_run_once(w.sync, &wait);
		(void)usleep(1000);
	}
	cr_assert_eq(w.answered, 6);
	{
		struct shmeta_partition p;

		cr_assert_eq(stored("orders", 0, &p), SHMETA_OK);
		cr_assert_eq(p.segment_count, 5000);
		cr_assert_eq(p.high_watermark, 50000);
	}
}
