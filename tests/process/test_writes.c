/* SPDX-License-Identifier: Apache-2.0
 * Writing as a fleet of processes does it: what one wrote another reads, one lease has one holder,
 * kill -9 loses nothing that was acknowledged, and who may not write or does not speak the protocol
 * harms nobody. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/wire/wire.h"
#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(writes, .timeout = 3600); /* make faults takes its time */

enum { RACERS = 100, RACES_MAX = 200, WAIT_MS = 20000, NOBODY = 65534 };

/* In `make test`, and in `make faults`. */
static uint32_t pairs(void)
{
	return run_rounds(20000, 100000);
}
static uint32_t races(void)
{
	return run_rounds(20, RACES_MAX);
}
static uint32_t kills(void)
{
	return run_rounds(20, 200);
}
static uint32_t frames(void)
{
	return run_rounds(500, 20000);
}

static struct run_daemon d;

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
}

static void end(void)
{
	run_daemon_done(&d);
}

static void write_config(const char *text)
{
	cr_assert_eq(run_daemon_configure(&d, text, ""), 0);
}

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void *shared(size_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(map, MAP_FAILED);
	return map;
}

/* A process's way in. No Criterion here: it is used in children. */
struct process {
	struct shmeta *instance;
	struct shmeta_client *client;
};

static int enter(struct process *p, const char *name)
{
	p->client = NULL;
	p->instance = run_daemon_open(&d, name, 0);
	return p->instance != NULL && shmeta_client_open(p->instance, NULL, &p->client) == SHMETA_OK;
}

static void leave(struct process *p)
{
	shmeta_client_close(p->client);
	shmeta_close(p->instance);
}

static enum shmeta_status do_one(struct process *p, const struct shmeta_op *op, struct shmeta_result *ret,
                                 struct shmeta_token *ret_token)
{
	enum shmeta_status status;

	memset(ret, 0, sizeof *ret);
	status = shmeta_write(p->client, op, 1, WAIT_MS, ret, ret_token);
	return status != SHMETA_OK ? status : ret->status;
}

static enum shmeta_status create(struct process *p, const char *name, uint32_t partitions)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = str(name), .partition_count = partitions}};
	struct shmeta_result result;

	return do_one(p, &op, &result, NULL);
}

static enum shmeta_status register_agent(struct process *p, const char *name)
{
	struct shmeta_op op = {.type = SHMETA_OP_REGISTER_AGENT,
	                       .u.agent = {.agent_id = str(name),
	                                   .address = str(name),
	                                   .availability_zone = str("z"),
	                                   .agent_group = str("g")}};
	struct shmeta_result result;

	return do_one(p, &op, &result, NULL);
}

/* ---- read your writes ---- */

static int write_and_tell(int out)
{
	struct process p;
	struct shmeta_result result;
	struct shmeta_token token;
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = str("orders")};

	if (!enter(&p, "teller"))
		return 2;
	for (uint64_t i = 1; i <= pairs(); i++) {
		op.offset = i;
		if (do_one(&p, &op, &result, &token) != SHMETA_OK)
			return 3;
		if (write(out, &token, sizeof token) != (ssize_t)sizeof token)
			return 4;
	}
	leave(&p);
	return 0;
}

/* The number of stale reads, at most 100. */
static int read_what_was_told(int in)
{
	struct shmeta *instance = run_daemon_open(&d, "listener", 0);
	struct shmeta_reader *reader = instance == NULL ? NULL : run_daemon_reader(instance);
	struct shmeta_partition p;
	struct shmeta_token token;
	int stale = 0;

	if (reader == NULL)
		return 101;
	for (uint64_t i = 1; i <= pairs(); i++) {
		if (read(in, &token, sizeof token) != (ssize_t)sizeof token)
			return 102;
		/* Not a moment to wait: it was acknowledged. */
		if (shmeta_wait_token(instance, &token, 0) != SHMETA_OK || run_daemon_begin(reader) != SHMETA_OK)
			return 103;
		if (shmeta_get_partition_named(reader, "orders", 6, 0, NULL, &p, NULL) != SHMETA_OK ||
		    p.high_watermark < i)
			stale += stale < 100;
		(void)shmeta_end(reader);
	}
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return stale;
}

/* Reads of the same keys from the source, beside the writes, until it is ended: none of them may
 * bring back what was before. */
static _Noreturn void refresh_for_ever(void)
{
	static const enum shmeta_class classes[] = {SHMETA_CLASS_PARTITION, SHMETA_CLASS_TOPIC, SHMETA_CLASS_SEGMENT,
	                                            SHMETA_CLASS_LIST};
	struct shmeta *instance = run_daemon_open(&d, "refresher", 0);

	if (instance == NULL)
		_exit(1);
	for (unsigned int i = 0;; i++)
		(void)!shmeta_refresh(instance, classes[i % 4], i % 4 == 3 ? NULL : "orders", i % 4 == 3 ? 0 : 6, 0,
		                      WAIT_MS, NULL);
}

/* ---- the audit ---- */

Test(writes, every_deletion_is_on_record_whatever_the_log_level, .init = begin, .fini = end)
{
	enum { TOPICS = 40 };
	static char log[1 << 20];
	struct shmeta_result result;
	struct process p;
	size_t bytes;
	FILE *file;

	write_config("log { level = err }");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert(enter(&p, "auditor"));
	for (int i = 0; i < TOPICS; i++) {
		char name[16];
		struct shmeta_op delete = {.type = SHMETA_OP_DELETE_TOPIC};

		snprintf(name, sizeof name, "t%02d", i);
		delete.name = str(name);
		cr_assert_eq(create(&p, name, 1), SHMETA_OK);
		cr_assert_eq(do_one(&p, &delete, &result, NULL), SHMETA_OK);
	}
	leave(&p);
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	file = fopen(d.log, "re");
	cr_assert_not_null(file);
	bytes = fread(log, 1, sizeof log - 1, file);
	(void)fclose(file);
	log[bytes] = '\0';
	for (int i = 0; i < TOPICS; i++) {
		char line[120];

		snprintf(line, sizeof line, "audit: uid %u pid %d: delete_topic: topic 't%02d'", (unsigned)geteuid(),
		         (int)getpid(), i);
		cr_expect_not_null(strstr(log, line), "%s is not on record:\n%s", line, log);
	}
}

static void expect_rows(const char *args, size_t least)
{
	struct run_tool t;
	json_t *doc;

	run_tool(&t, "shmetactl --dir %s --json %s", d.instance, args);
	cr_assert_eq(t.code, 0, "%s: %d %s%s", args, t.code, t.out, t.err);
	doc = run_tool_json(&t);
	cr_expect_geq(json_array_size(json_object_get(doc, "items")), least, "%s: %s", args, t.out);
	json_decref(doc);
	run_tool_done(&t);
}

Test(writes, a_trace_id_is_in_the_audit_and_the_events, .init = begin, .fini = end)
{
	static const char trace[] = "00c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1";
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .offset = 5};
	struct shmeta_result result;
	char line[200], *log;
	struct process p;

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert(enter(&p, "traced"));
	cr_assert_eq(create(&p, "orders", 1), SHMETA_OK);
	op.name = str("orders");
	memset(op.trace_id, 0xc1, sizeof op.trace_id);
	op.trace_id[0] = 0;
	cr_assert_eq(do_one(&p, &op, &result, NULL), SHMETA_OK);
	leave(&p);
	snprintf(line, sizeof line, "events --limit 500 --by write --glob '*of 1 calls, trace %s'", trace);
	expect_rows(line, 1);
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	log = run_read_file(d.log);
	cr_assert_not_null(log);
	snprintf(line, sizeof line, "audit: uid %u pid %d: update_high_watermark: topic 'orders' partition 0, tenant '",
	         (unsigned)geteuid(), (int)getpid());
	cr_expect_not_null(strstr(log, line), "%s", log);
	snprintf(line, sizeof line, ", trace %s\n", trace);
	cr_expect_not_null(strstr(log, line), "%s", log);
	free(log);
}

Test(writes, what_turns_the_audit_off_is_on_record, .init = begin, .fini = end)
{
	struct process p;
	char sentence[300], line[80], *log;

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert(enter(&p, "operator"));
	write_config("write { audit = off }");
	cr_assert_eq(shmeta_reload(p.instance, WAIT_MS, sentence, sizeof sentence), SHMETA_OK, "%s", sentence);
	cr_assert_eq(create(&p, "unseen", 1), SHMETA_OK);
	leave(&p);
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	log = run_read_file(d.log);
	cr_assert_not_null(log);
	snprintf(line, sizeof line, "audit: uid %u pid %d: reload: ", (unsigned)geteuid(), (int)getpid());
	cr_expect_not_null(strstr(log, line), "%s", log);
	cr_expect_null(strstr(log, "unseen"), "the audit is off: %s", log);
	free(log);
}

Test(writes, what_one_process_was_told_is_written_another_reads, .init = begin, .fini = end)
{
	struct process p;
	int tokens[2], stale;
	pid_t a, b, c;

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert(enter(&p, "maker"));
	cr_assert_eq(create(&p, "orders", 1), SHMETA_OK);
	leave(&p);
	cr_assert_eq(pipe2(tokens, O_CLOEXEC), 0);
	c = run_fork();
	if (c == 0)
		refresh_for_ever();
	b = run_fork();
	if (b == 0) {
		(void)close(tokens[1]);
		_exit(read_what_was_told(tokens[0]));
	}
	a = run_fork();
	if (a == 0) {
		(void)close(tokens[0]);
		_exit(write_and_tell(tokens[1]));
	}
	(void)close(tokens[0]);
	(void)close(tokens[1]);
	cr_expect_eq(run_reap(a), 0);
	stale = run_reap(b);
	(void)kill(c, SIGKILL);
	(void)run_reap(c);
	cr_expect_eq(stale, 0, "stale reads (above 100: it could not read)");
	figure("what one process was told is written, another reads", pairs(), 100000, "pairs", "%d stale", stale);
}

/* ---- one lease ---- */

struct race {
	uint32_t go, granted, twice, failed;
	uint32_t holder[RACERS * RACES_MAX + 2]; /* of an epoch: the racer's number + 1 */
};

static int run_for_it(struct race *race, uint32_t number)
{
	struct process p;
	struct shmeta_result result;
	char name[32];
	struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE, .name = str("orders"), .duration_ms = 1};

	(void)snprintf(name, sizeof name, "racer-%u", number);
	op.agent_id = str(name);
	if (!enter(&p, name) || register_agent(&p, name) != SHMETA_OK)
		return 2;
	while (!__atomic_load_n(&race->go, __ATOMIC_ACQUIRE))
		(void)usleep(1000);
	for (uint32_t i = 0; i < races(); i++) {
		enum shmeta_status status = do_one(&p, &op, &result, NULL);
		uint32_t nobody = 0;

		if (status == SHMETA_ERR_CONFLICT)
			continue;
		if (status != SHMETA_OK || result.lease.epoch < 1 ||
		    result.lease.epoch > (uint64_t)RACERS * RACES_MAX) {
			__atomic_fetch_add(&race->failed, 1, __ATOMIC_RELAXED);
			continue;
		}
		__atomic_fetch_add(&race->granted, 1, __ATOMIC_RELAXED);
		if (!__atomic_compare_exchange_n(&race->holder[result.lease.epoch], &nobody, number + 1, 0,
		                                 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			__atomic_fetch_add(&race->twice, 1, __ATOMIC_RELAXED);
	}
	leave(&p);
	return 0;
}

Test(writes, an_epoch_of_a_lease_has_one_holder_whoever_races_for_it, .init = begin, .fini = end)
{
	struct race *race = shared(sizeof *race);
	struct process p;
	pid_t racers[RACERS];

	write_config("control { connections_per_user = 300 }\n");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert(enter(&p, "maker"));
	cr_assert_eq(create(&p, "orders", 1), SHMETA_OK);
	leave(&p);
	for (uint32_t i = 0; i < RACERS; i++) {
		racers[i] = run_fork();
		if (racers[i] == 0)
			_exit(run_for_it(race, i));
	}
	__atomic_store_n(&race->go, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < RACERS; i++)
		cr_expect_eq(run_reap(racers[i]), 0, "racer %d", i);
	cr_expect_eq(race->twice, 0);
	cr_expect_eq(race->failed, 0);
	cr_expect_geq(race->granted, 1);
	for (uint32_t epoch = 1; epoch <= race->granted; epoch++)
		cr_expect_neq(race->holder[epoch], 0, "epoch %u was skipped", epoch);
	figure("processes race for one lease", (uint64_t)RACERS * races(), 0, "tries",
	       "%u granted, %u epochs with two holders", race->granted, race->twice);
	(void)munmap(race, sizeof *race);
}

/* ---- kill -9 ---- */

enum { LOAD_MAX = 1000000, LOAD_BATCH = 8 };

struct load {
	uint32_t stop, acknowledged, other;
	uint32_t next; /* bases below it were sent */
	uint8_t done[LOAD_MAX];
};

static int write_until_told(struct load *load)
{
	struct process p;
	struct shmeta_result results[LOAD_BATCH];
	struct shmeta_op ops[LOAD_BATCH];
	char id[LOAD_BATCH][32];

	if (!enter(&p, "load"))
		return 2;
	while (!__atomic_load_n(&load->stop, __ATOMIC_ACQUIRE) && load->next + LOAD_BATCH <= LOAD_MAX) {
		uint32_t first = load->next;

		for (uint32_t i = 0; i < LOAD_BATCH; i++) {
			(void)snprintf(id[i], sizeof id[i], "s-%u", first + i);
			ops[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
			                            .name = str("orders"),
			                            .u.segment = {.base_offset = first + i,
			                                          .end_offset = first + i,
			                                          .record_count = 1,
			                                          .size_bytes = 1,
			                                          .id = str(id[i]),
			                                          .s3_bucket = str("b"),
			                                          .s3_key = str(id[i])}};
		}
		load->next = first + LOAD_BATCH;
		if (shmeta_write(p.client, ops, LOAD_BATCH, WAIT_MS, results, NULL) == SHMETA_ERR_INVALID_ARGUMENT)
			return 3;
		for (uint32_t i = 0; i < LOAD_BATCH; i++) {
			if (results[i].status == SHMETA_OK) {
				load->done[first + i] = 1;
				load->acknowledged++;
			} else if (results[i].status != SHMETA_ERR_OUTCOME_UNKNOWN &&
			           results[i].status != SHMETA_ERR_WRITER_AWAY) {
				load->other++;
			}
		}
	}
	leave(&p);
	return 0;
}

Test(writes, what_was_acknowledged_is_in_the_database_and_the_store_however_often_the_writer_is_killed, .init = begin,
     .fini = end)
{
	struct load *load = shared(sizeof *load);
	struct shmeta_handle *handle = NULL;
	struct shmeta_iter *iter = NULL;
	struct shmeta_reader *reader;
	struct shmeta_segment s;
	sqlite3_stmt *rows = NULL;
	sqlite3 *db = NULL;
	struct process p;
	uint32_t lost = 0, differ = 0, found = 0;
	unsigned int seed = 20261;
	pid_t writer;

	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert(enter(&p, "maker"));
	cr_assert_eq(create(&p, "orders", 1), SHMETA_OK);
	leave(&p);
	writer = run_fork();
	if (writer == 0)
		_exit(write_until_told(load));
	for (uint32_t i = 0; i < kills(); i++) {
		uint32_t before = __atomic_load_n(&load->acknowledged, __ATOMIC_ACQUIRE);

		/* Under load: something has been acknowledged since it came back. */
		for (int k = 0; k < 10000 && __atomic_load_n(&load->acknowledged, __ATOMIC_ACQUIRE) == before; k++)
			(void)usleep(1000);
		(void)usleep((useconds_t)rand_r(&seed) % 20000);
		cr_assert_eq(run_daemon_end(&d, SIGKILL), SIGKILL + 128);
		cr_assert_eq(run_daemon_start(&d, NULL), 0);
	}
	__atomic_store_n(&load->stop, 1, __ATOMIC_RELEASE);
	cr_assert_eq(run_reap(writer), 0);
	cr_expect_eq(load->other, 0);
	cr_expect_geq(load->acknowledged, kills());

	p.instance = run_daemon_open(&d, "judge", 0);
	cr_assert_not_null(p.instance);
	reader = run_daemon_reader(p.instance);
	cr_assert_not_null(reader);
	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "orders", 6, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_list_segments(handle, 0, INT64_MAX, NULL, &iter), SHMETA_OK);
	cr_assert_eq(sqlite3_open(d.db, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_prepare_v2(db, "SELECT base_offset FROM segments ORDER BY base_offset", -1, &rows, NULL),
	             SQLITE_OK);
	/* Row by row: the store's is the database's, each base comes once, and no acknowledged one
	 * was passed over. */
	for (int64_t last = -1;;) {
		bool row = sqlite3_step(rows) == SQLITE_ROW;
		int64_t base = row ? sqlite3_column_int64(rows, 0) : load->next;
		bool shown = shmeta_next_segment(iter, &s) == SHMETA_OK;

		if (row != shown || (row && (base <= last || s.base_offset != (uint64_t)base)))
			differ++;
		for (int64_t k = last + 1; k < base && k < LOAD_MAX; k++)
			lost += load->done[k];
		last = base;
		if (!row || !shown)
			break;
		found++;
	}
	cr_expect_eq(differ, 0);
	cr_expect_eq(lost, 0, "%u acknowledged ones are not there", lost);
	cr_expect_geq(found, load->acknowledged);
	figure("kill -9 of the writer under a load of writes", kills(), 1000, "kills",
	       "%u segments acknowledged, %u lost, %u different", load->acknowledged, lost, differ);
	(void)sqlite3_finalize(rows);
	(void)sqlite3_close(db);
	shmeta_iter_free(iter);
	shmeta_partition_close(handle);
	shmeta_reader_free(reader);
	shmeta_close(p.instance);
	(void)munmap(load, sizeof *load);
}

/* ---- strangers ---- */

static int dial(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (snprintf(at.sun_path, sizeof at.sun_path, "%s/control.sock", d.instance) >= (int)sizeof at.sun_path) {
		(void)close(fd);
		return -1;
	}
	if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

/* How many connections were not closed for what they sent. */
static int send_rubbish(void)
{
	uint8_t packet[512];
	unsigned int seed = 5;
	int open_still = 0;

	for (uint32_t i = 0; i < frames(); i++) {
		struct shmeta_frame_write frame = {
			.head = {.bytes = sizeof frame, .version = 1, .type = SHMETA_FRAME_WRITE}, .op_count = 3};
		size_t bytes = 1 + (size_t)rand_r(&seed) % (sizeof packet - 1);
		struct pollfd p = {.fd = dial(), .events = POLLIN};

		if (p.fd < 0)
			return 100;
		for (size_t k = 0; k < sizeof packet; k++)
			packet[k] = (uint8_t)rand_r(&seed);
		if (i % 3 == 1)
			frame.head.bytes = UINT32_MAX;
		if (i % 3 == 2)
			frame.op_count = UINT32_MAX;
		if (i % 3 != 0) {
			memcpy(packet, &frame, sizeof frame);
			bytes = i % 3 == 1 && i % 2 ? sizeof frame : sizeof frame - 4;
		}
		/* Recognised as closed by the end of the stream; an answer before it is none of
		 * ours. */
		if (send(p.fd, packet, bytes, MSG_NOSIGNAL) < 0)
			open_still += 1;
		for (ssize_t n = 1; n > 0;) {
			if (poll(&p, 1, 5000) != 1) {
				open_still++;
				break;
			}
			n = recv(p.fd, packet, sizeof packet, 0);
		}
		(void)close(p.fd);
	}
	return open_still > 99 ? 99 : open_still;
}

static long resident_kib(pid_t pid)
{
	char path[64], line[128];
	long kib = -1;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, "RssAnon:", 8) == 0)
			kib = strtol(line + 8, NULL, 10);
	if (f != NULL)
		(void)fclose(f);
	return kib;
}

Test(writes, rubbish_closes_its_own_connection_and_nothing_else, .init = begin, .fini = end)
{
	struct process p;
	char path[128];
	pid_t stranger;
	long before;

	if (geteuid() != 0) {
		end(); /* a skipped test has no .fini */
		cr_skip_test("needs root to be somebody else");
	}
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	(void)snprintf(path, sizeof path, "%s/control.sock", d.instance);
	cr_assert_eq(chmod(path, 0666), 0);
	cr_assert(enter(&p, "writer"));
	cr_assert_eq(create(&p, "before", 1), SHMETA_OK);
	before = resident_kib(d.pid);
	stranger = run_fork();
	if (stranger == 0) {
		if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(101);
		_exit(send_rubbish());
	}
	cr_expect_eq(run_reap(stranger), 0, "connections that stayed open (100: none could be made)");
	cr_expect_eq(create(&p, "after", 1), SHMETA_OK);
	figure("bad frames of a stranger", frames(), 0, "frames", "%ld KiB of the writer's memory more",
	       resident_kib(d.pid) - before);
	cr_expect_lt(resident_kib(d.pid) - before, 4096, "KiB of memory for %u bad frames", frames());
	leave(&p);
}

Test(writes, who_may_not_write_is_told_so_and_writes_nothing_until_the_configuration_says_otherwise, .init = begin,
     .fini = end)
{
	static const char *const configs[] = {"", "control { write_users = \"65534\" }\n"};
	static const enum shmeta_status answers[] = {SHMETA_ERR_DENIED, SHMETA_OK};
	struct shmeta_reader *reader;
	struct shmeta_topic t;
	struct process p;
	char error[300] = "";

	if (geteuid() != 0) {
		end(); /* a skipped test has no .fini */
		cr_skip_test("needs root to be somebody else");
	}
	write_config(configs[0]);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	for (int i = 0; i < 2; i++) {
		pid_t child;

		if (i > 0) {
			write_config(configs[i]);
			cr_assert(enter(&p, "judge"));
			cr_assert_eq(shmeta_reload(p.instance, WAIT_MS, error, sizeof error), SHMETA_OK, "%s", error);
			leave(&p);
		}
		child = run_fork();
		if (child == 0) {
			struct process mine;

			/* Of the groups that may read and connect, as an agent is. */
			if (run_daemon_become(&d, NOBODY, 0) != 0 || !enter(&mine, "nobody"))
				_exit(101);
			_exit(create(&mine, "mine", 1) == answers[i] ? 0 : 1);
		}
		cr_expect_eq(run_reap(child), 0, "round %d", i);
		cr_assert(enter(&p, "judge"));
		reader = run_daemon_reader(p.instance);
		cr_assert_not_null(reader);
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_expect_eq(shmeta_get_topic(reader, "mine", 4, NULL, &t, NULL), i == 0 ? SHMETA_ABSENT : SHMETA_OK);
		shmeta_reader_free(reader);
		leave(&p);
	}
}

/* ---- request ids ---- */

static int groups_in_database(void)
{
	sqlite3_stmt *count = NULL;
	sqlite3 *db = NULL;
	int found = -1;

	if (sqlite3_open_v2(d.db, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
	    sqlite3_prepare_v2(db, "SELECT count(*) FROM consumer_groups", -1, &count, NULL) == SQLITE_OK &&
	    sqlite3_step(count) == SQLITE_ROW)
		found = sqlite3_column_int(count, 0);
	(void)sqlite3_finalize(count);
	(void)sqlite3_close(db);
	return found;
}

static struct shmeta_op counted(const char *group, uint64_t number)
{
	return (struct shmeta_op){
		.type = SHMETA_OP_ENSURE_GROUP, .group_id = str(group), .request_id = {number, number}};
}

Test(writes, users_that_count_their_request_ids_alike_lose_nothing, .init = begin, .fini = end)
{
	enum { COUNT = 50 };
	struct shmeta_result result;
	struct shmeta_op op;
	struct process p;
	char name[32];
	pid_t child;

	if (geteuid() != 0) {
		end(); /* a skipped test has no .fini */
		cr_skip_test("needs root to be somebody else");
	}
	write_config("control { write_users = \"65534\" }\n");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert(enter(&p, "counter"));
	child = run_fork();
	if (child == 0) {
		struct process mine;
		int failed = 0;

		if (run_daemon_become(&d, NOBODY, 0) != 0 || !enter(&mine, "nobody"))
			_exit(101);
		for (uint64_t i = 1; i <= COUNT; i++) {
			(void)snprintf(name, sizeof name, "theirs-%u", (unsigned)i);
			op = counted(name, i);
			failed += do_one(&mine, &op, &result, NULL) != SHMETA_OK;
		}
		leave(&mine);
		_exit(failed);
	}
	for (uint64_t i = 1; i <= COUNT; i++) {
		(void)snprintf(name, sizeof name, "ours-%u", (unsigned)i);
		op = counted(name, i);
		cr_expect_eq(do_one(&p, &op, &result, NULL), SHMETA_OK, "%s", result.text);
	}
	cr_expect_eq(run_reap(child), 0, "of another user (101: it could not begin)");
	/* Of one user they meet, and are told. */
	op = counted("more", 1);
	cr_expect_eq(do_one(&p, &op, &result, NULL), SHMETA_ERR_CONFLICT);
	cr_expect_not_null(strstr(result.text, "another operation"), "%s", result.text);
	leave(&p);
	cr_expect_eq(groups_in_database(), 2 * COUNT);
}
