/* SPDX-License-Identifier: Apache-2.0
 * Two hosts, each with a daemon and a store, on one set of tables behind a faulty network
 * (support/ddb_proxy.h): either writer is killed under load, again and again. What was acknowledged
 * is in the tables and in both stores, nothing is there twice, and no epoch of a lease comes
 * back. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/rows.h"
#include "tests/support/ddb_proxy.h"
#include "tests/support/ddb_server.h"
#include "tests/support/figure.h"
#include "tests/support/recorder.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"
#include "tests/support/run_topic.h"

TestSuite(dynamodb_hosts, .timeout = 3600); /* make faults takes its time */

enum {
	HOSTS = 2,
	LOADERS = 4,
	LEASED = LOADERS,
	PARTITIONS,
	MOST = 100000,
	EPOCHS = 100000,
	BATCH = 4,
	WAIT_MS = 20000,
	PATIENCE_S = 60
};

static struct ddb_server emulator;
static struct ddb_proxy proxy;
static struct run_daemon host[HOSTS];
static char uri[120], direct[120];

struct loader {
	_Atomic uint32_t acknowledged, sent;
	uint32_t other;
	char why[160];
	uint8_t done[MOST];
};

struct load {
	_Atomic uint32_t stop;
	struct loader loader[LOADERS];
	/* The lease: who was granted an epoch, plus 1. */
	_Atomic uint32_t holder[EPOCHS];
	_Atomic uint32_t granted, twice, back;
};

static void begin(void)
{
	if (!ddb_server_installed())
		cr_skip_test("no emulator of DynamoDB (tests/requirements.txt)");
	ddb_server_start(&emulator);
	ddb_proxy_start(&proxy, emulator.port);
	ddb_server_uri(proxy.port, "hosts", uri, sizeof uri);
	ddb_server_uri(emulator.port, "hosts", direct, sizeof direct);
	for (int i = 0; i < HOSTS; i++) {
		FILE *f;

		cr_assert_eq(run_daemon_init(&host[i]), 0);
		f = fopen(host[i].config, "we");
		cr_assert_not_null(f);
		(void)fputs("source { timeout_ms = 8s }\nfeed { poll_min_ms = 50ms poll_max_ms = 200ms }\n"
		            "retry { min_ms = 50ms max_ms = 200ms }\n",
		            f);
		(void)fclose(f);
		cr_assert_eq(run_daemon_start(&host[i], uri), 0);
	}
}

static void end(void)
{
	if (emulator.pid == 0)
		return;
	for (int i = 0; i < HOSTS; i++)
		run_daemon_done(&host[i]);
	ddb_proxy_stop(&proxy);
	ddb_server_stop(&emulator);
}

/* ---- the load; in children: no Criterion ---- */

struct process {
	struct shmeta *instance;
	struct shmeta_client *client;
};

static bool enter(struct process *p, int on, const char *name)
{
	p->instance = run_daemon_open(&host[on], name, 0);
	return p->instance != NULL && shmeta_client_open(p->instance, NULL, &p->client) == SHMETA_OK;
}

static void leave(struct process *p)
{
	shmeta_client_close(p->client);
	shmeta_close(p->instance);
}

static bool is_unsure(enum shmeta_status status)
{
	return status == SHMETA_ERR_OUTCOME_UNKNOWN || status == SHMETA_ERR_WRITER_AWAY ||
	       status == SHMETA_ERR_SOURCE || status == SHMETA_ERR_BUSY || status == SHMETA_ERR_TIMEOUT ||
	       status == SHMETA_ERR_NOT_CACHED;
}

static int load_partition(struct load *load, uint32_t me)
{
	struct loader *l = &load->loader[me];
	struct process p;

	if (!enter(&p, (int)me % HOSTS, "load"))
		return 2;
	while (!atomic_load(&load->stop) && l->sent + BATCH <= MOST) {
		struct shmeta_result results[BATCH];
		struct shmeta_op ops[BATCH];
		char id[BATCH][40];
		uint32_t first = l->sent;

		for (uint32_t i = 0; i < BATCH; i++) {
			(void)snprintf(id[i], sizeof id[i], "s-%u-%u", me, first + i);
			ops[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
			                            .name = rows_str("load"),
			                            .partition_id = me,
			                            .u.segment = {.base_offset = first + i,
			                                          .end_offset = first + i,
			                                          .record_count = 1,
			                                          .size_bytes = 1,
			                                          .id = rows_str(id[i]),
			                                          .s3_bucket = rows_str("b"),
			                                          .s3_key = rows_str(id[i])}};
			results[i].status = SHMETA_ERR_OUTCOME_UNKNOWN;
		}
		(void)!shmeta_write(p.client, ops, BATCH, WAIT_MS, results, NULL);
		for (uint32_t i = 0; i < BATCH; i++) {
			if (results[i].status == SHMETA_OK) {
				l->done[first + i] = 1;
				atomic_fetch_add(&l->acknowledged, 1);
			} else if (!is_unsure(results[i].status)) {
				l->other++;
				(void)snprintf(l->why, sizeof l->why, "%s", results[i].text);
			}
		}
		atomic_store(&l->sent, first + BATCH);
	}
	leave(&p);
	return 0;
}

/* One agent a host: an epoch that it is granted is greater than any it saw, and nobody else's. */
static int run_for_lease(struct load *load, uint32_t me)
{
	struct shmeta_op op = {
		.type = SHMETA_OP_ACQUIRE_LEASE, .name = rows_str("load"), .partition_id = LEASED, .duration_ms = 30};
	uint64_t newest = 0;
	struct process p;
	char name[20];

	(void)snprintf(name, sizeof name, "agent-%u", me);
	op.agent_id = rows_str(name);
	if (!enter(&p, (int)me, name))
		return 2;
	while (!atomic_load(&load->stop)) {
		struct shmeta_result result = {.status = SHMETA_ERR_OUTCOME_UNKNOWN};
		uint32_t nobody = 0;

		(void)!shmeta_write(p.client, &op, 1, WAIT_MS, &result, NULL);
		if (result.status == SHMETA_OK && result.lease.epoch < EPOCHS) {
			atomic_fetch_add(&load->granted, 1);
			load->back += result.lease.epoch < newest;
			newest = result.lease.epoch;
			if (!atomic_compare_exchange_strong(&load->holder[newest], &nobody, me + 1) && nobody != me + 1)
				atomic_fetch_add(&load->twice, 1);
		}
		(void)usleep(20000);
	}
	leave(&p);
	return 0;
}

/* ---- the test ---- */

static uint32_t acknowledged_of(struct load *load, int on)
{
	uint32_t sum = 0;

	for (int i = on; i < LOADERS; i += HOSTS)
		sum += atomic_load(&load->loader[i].acknowledged);
	return sum;
}

static void await_acknowledged(struct load *load, int on, uint32_t more)
{
	uint32_t goal = acknowledged_of(load, on) + more;
	double last = run_now_s() + PATIENCE_S;

	while (acknowledged_of(load, on) < goal) {
		cr_assert_lt(run_now_s(), last, "host %d: nothing is acknowledged any more", on);
		(void)usleep(2000);
	}
}

static void make_topic(void)
{
	struct shmeta_result result;
	struct process p;

	cr_assert(enter(&p, 0, "maker"));
	cr_assert_eq(run_topic_create(p.client, "load", PARTITIONS, &result), SHMETA_OK, "%s", result.text);
	for (uint32_t i = 0; i < HOSTS; i++) {
		struct shmeta_op op = {.type = SHMETA_OP_REGISTER_AGENT};
		char name[20];

		(void)snprintf(name, sizeof name, "agent-%u", i);
		op.u.agent = (struct shmeta_agent){.agent_id = rows_str(name),
		                                   .address = rows_str(name),
		                                   .availability_zone = rows_str("z"),
		                                   .agent_group = rows_str("g")};
		cr_assert_eq(shmeta_write(p.client, &op, 1, WAIT_MS, &result, NULL), SHMETA_OK);
		cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
	}
	leave(&p);
	for (int i = 0; i < HOSTS; i++) {
		struct shmeta *instance = run_daemon_open(&host[i], "judge", 0);
		struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;

		cr_assert_not_null(reader);
		run_topic_await(reader, "load", 1);
		shmeta_reader_free(reader);
		shmeta_close(instance);
	}
}

/* ---- what the tables hold, read by an engine of its own ---- */

struct found {
	struct recorder recorder;
	uint32_t times[LOADERS][MOST];
	uint64_t epoch;
};
static struct found *found;

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *s)
{
	(void)arg;
	if (s->partition_id < LOADERS && s->base_offset < MOST)
		found->times[s->partition_id][s->base_offset]++;
	return SHMETA_OK;
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	(void)arg, (void)tenant, (void)topic;
	found->epoch = lease->epoch;
	return SHMETA_OK;
}

static void read_tables(void)
{
	struct backend_options options = {.uri = direct, .timeout_ms = 20000};
	struct backend_error err = {.code = SHMETA_OK};
	void *state = calloc(1, backend_dynamodb.state_bytes);

	found = calloc(1, sizeof *found);
	cr_assert(state != NULL && found != NULL);
	recorder_init(&found->recorder);
	found->recorder.sink.segment = on_segment;
	found->recorder.sink.lease = on_lease;
	cr_assert_eq(backend_dynamodb.source->open(state, &options, &err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(backend_dynamodb.source->load(state, &found->recorder.sink, &err), SHMETA_OK, "%s", err.text);
	backend_dynamodb.source->close(state);
	free(state);
}

static void expect_store_equal(int on)
{
	struct run_tool t = {.out = NULL};
	double last = run_now_s() + PATIENCE_S;

	for (;;) {
		run_tool(&t, "shmetactl --dir %s --timeout 20s verify --source '%s'", host[on].instance, direct);
		if (t.code == 0 || run_now_s() > last)
			break;
		run_tool_done(&t);
		(void)usleep(200000);
	}
	cr_expect_eq(t.code, 0, "host %d: %d: %s%s", on, t.code, t.out, t.err);
	run_tool_done(&t);
}

static double counted(int on, const char *name)
{
	struct run_tool t;
	double value = -1;
	json_t *doc, *row;
	size_t i;

	run_tool(&t, "shmetactl --dir %s stat --json", host[on].instance);
	doc = run_tool_json(&t);
	json_array_foreach(json_object_get(doc, "metrics"), i,
	                   row) if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0) value =
		json_number_value(json_object_get(row, "value"));
	json_decref(doc);
	run_tool_done(&t);
	return value;
}

static void judge(struct load *load, uint32_t rounds)
{
	uint32_t lost = 0, acknowledged = 0, twice = 0;
	double read_for_writes = 0, written = 0;
	struct ddb_proxy_counts counts;
	uint64_t faults = 0;

	read_tables();
	for (uint32_t p = 0; p < LOADERS; p++) {
		struct loader *l = &load->loader[p];

		cr_expect_eq(l->other, 0, "loader %u: %s", p, l->why);
		acknowledged += l->acknowledged;
		for (uint32_t i = 0; i < MOST; i++) {
			lost += l->done[i] && found->times[p][i] == 0;
			twice += found->times[p][i] > 1;
		}
	}
	cr_expect_eq(lost, 0, "%u of %u acknowledged segments are not in the tables", lost, acknowledged);
	cr_expect_eq(twice, 0);
	cr_expect_eq(load->twice, 0, "%u epochs with two holders", load->twice);
	cr_expect_eq(load->back, 0, "an epoch went back %u times", load->back);
	cr_expect_gt(load->granted, 1);
	for (uint32_t e = EPOCHS - 1; e > found->epoch; e--)
		cr_assert_eq(load->holder[e], 0, "epoch %u was granted, and the tables have %llu", e,
		             (unsigned long long)found->epoch);
	for (int i = 0; i < HOSTS; i++) {
		double last = run_now_s() + PATIENCE_S;

		expect_store_equal(i);
		/* The one that was started last may not have asked yet. */
		while (counted(i, "read_units_feed") <= 0 && run_now_s() < last)
			(void)usleep(100000);
		cr_expect_gt(counted(i, "read_units_feed"), 0);
		cr_expect_eq(counted(i, "postponed_ns"), 0);
		/* Nor written. */
		read_for_writes += counted(i, "read_units_write");
		written += counted(i, "write_units");
	}
	cr_expect_gt(read_for_writes, 0);
	cr_expect_gt(written, 0);
	ddb_proxy_counts(&proxy, &counts);
	for (int i = 0; i < DDB_FAULTS; i++)
		faults += counts.faults[i];
	cr_expect_gt(faults, 0);
	cr_expect_eq(counts.refused, 0, "a signature was refused: %s", ddb_proxy_why(&proxy));
	cr_expect_eq(counts.stale, 0);
	figure("kill -9 of either of two hosts' writers under load on DynamoDB behind a faulty network", rounds, 200,
	       "kills",
	       "%u segments acknowledged, %u lost, %u twice; %u leases granted, epoch %llu; %llu requests, %llu faults",
	       acknowledged, lost, twice, load->granted, (unsigned long long)found->epoch,
	       (unsigned long long)counts.requests, (unsigned long long)faults);
	recorder_free(&found->recorder);
	free(found);
}

Test(dynamodb_hosts, what_was_acknowledged_is_in_the_tables_and_in_both_stores_however_often_a_writer_is_killed,
     .init = begin, .fini = end)
{
	const uint32_t rounds = run_rounds(4, 200);
	struct load *load = mmap(NULL, sizeof *load, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t children[LOADERS + HOSTS];
	unsigned int seed = 20261;

	cr_assert_neq(load, MAP_FAILED);
	make_topic();
	ddb_proxy_chaos(&proxy, 60);
	for (uint32_t i = 0; i < LOADERS + HOSTS; i++) {
		children[i] = run_fork();
		if (children[i] == 0)
			_exit(i < LOADERS ? load_partition(load, i) : run_for_lease(load, i - LOADERS));
	}
	for (uint32_t i = 0; i < rounds; i++) {
		int on = (int)(i % HOSTS);

		await_acknowledged(load, on, 8);
		(void)usleep((useconds_t)rand_r(&seed) % 50000);
		cr_assert_eq(run_daemon_end(&host[on], SIGKILL), SIGKILL + 128);
		cr_assert_eq(run_daemon_start(&host[on], uri), 0);
	}
	for (int i = 0; i < HOSTS; i++)
		await_acknowledged(load, i, 8);
	atomic_store(&load->stop, 1);
	for (int i = 0; i < LOADERS + HOSTS; i++)
		cr_assert_eq(run_reap(children[i]), 0);
	ddb_proxy_chaos(&proxy, 0);
	judge(load, rounds);
	(void)munmap(load, sizeof *load);
}
