/* SPDX-License-Identifier: Apache-2.0
 * What concerns a DynamoDB source, on the emulator of the tests, which is no AWS: each rate stands
 * beside the emulator's own, and what AWS bills are the units. Writes, how soon another host shows
 * a change, first load. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/churn.h"
#include "bench/emulator.h"
#include "bench/source.h"

enum { PARTITIONS = 32, EACH = 4, SAMPLES = 4096 };

static int up(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* A host: its daemon, and a client of it. */
struct host {
	pid_t daemon;
	char instance[400];
	struct shmeta *open;
	struct shmeta_client *client;
};

static double host_start(struct host *h, const struct bench *b, const char *name)
{
	char uri[100];
	double took;

	emulator_uri(uri, sizeof uri, "bench");
	(void)snprintf(h->instance, sizeof h->instance, "%s/dynamodb-%s", b->dir, name);
	h->daemon = env_start_daemon(b, uri, h->instance, "source { timeout_ms = 30s }", &took);
	h->open = env_open(h->instance);
	if (shmeta_client_open(h->open, NULL, &h->client) != SHMETA_OK)
		die("no client");
	return took;
}

static void host_stop(struct host *h)
{
	shmeta_client_close(h->client);
	shmeta_close(h->open);
	env_kill(&h->daemon, SIGTERM);
}

static void write_all(const struct host *h, const struct shmeta_op *ops, uint32_t count)
{
	static struct shmeta_result results[PARTITIONS * EACH];
	enum shmeta_status status = shmeta_write(h->client, ops, count, 60000, results, NULL);

	if (status == SHMETA_ERR_NOT_CACHED) /* the emulator had no time to show it; it was done */
		status = SHMETA_OK;
	for (uint32_t i = 0; i < count; i++)
		if (status != SHMETA_OK || results[i].status != SHMETA_OK)
			die("a write to DynamoDB: %s; %s", shmeta_strerror(status), results[i].text);
}

/* `each` segments from the n-th on of each of the first `partitions`, in one call. */
static void add(const struct host *h, uint64_t n, uint32_t partitions, uint32_t each)
{
	static struct shmeta_op ops[PARTITIONS * EACH];
	static char id[PARTITIONS * EACH][64];
	uint32_t count = partitions * each;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t partition = i % partitions;
		uint64_t base = (n + i / partitions) * 100;
		const int bytes =
			snprintf(id[i], sizeof id[i], CHURN_TOPIC "-%u-%llu", partition, (unsigned long long)base);
		const struct shmeta_str text = {id[i], (size_t)bytes};

		ops[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
		                            .name = {CHURN_TOPIC, strlen(CHURN_TOPIC)},
		                            .partition_id = partition,
		                            .u.segment = {.partition_id = partition,
		                                          .base_offset = base,
		                                          .end_offset = base + 99,
		                                          .record_count = 100,
		                                          .size_bytes = 123456,
		                                          .created_at_ms = 1700000000000,
		                                          .id = text,
		                                          .s3_bucket = {"streamhouse", 11},
		                                          .s3_key = text}};
	}
	write_all(h, ops, count);
}

/* ---- the emulator itself ---- */

/* One transaction as the engine's of so many segments: their headers, they, and the entry of the
 * log. */
static void raw_transaction(uint64_t n, uint32_t segments)
{
	static char body[PARTITIONS * 800];
	size_t used = (size_t)snprintf(body, sizeof body, "{\"TransactItems\":[");

	for (uint32_t i = 0; i < segments; i++)
		used += (size_t)snprintf(
			body + used, sizeof body - used,
			"{\"Put\":{\"TableName\":\"bench_seg\",\"Item\":{\"pk\":{\"S\":\"header\"},\"sk\":{\"S\":\"%u\"},"
			"\"v\":{\"S\":\"%llu\"},\"hw\":{\"N\":\"%llu\"}}}},{\"Put\":{\"TableName\":\"bench_seg\",\"Item\":{"
			"\"pk\":{\"S\":\"raw%u\"},\"sk\":{\"S\":\"%020llu\"},\"e\":{\"N\":\"%llu\"},\"c\":{\"N\":\"100\"},"
			"\"z\":{\"N\":\"123456\"},\"cat\":{\"N\":\"1700000000000\"},\"b\":{\"S\":\"streamhouse\"},\"k\":{"
			"\"S\":\"" CHURN_TOPIC "-%u-%llu\"}}}},",
			i, (unsigned long long)n, (unsigned long long)n, i, (unsigned long long)n,
			(unsigned long long)n + 99, i, (unsigned long long)n);
	(void)snprintf(
		body + used, sizeof body - used,
		"{\"Put\":{\"TableName\":\"bench_seg\",\"Item\":{\"pk\":{\"S\":\"log\"},\"sk\":{\"S\":\"%llu\"}}}}]}",
		(unsigned long long)n);
	(void)emulator_call("TransactWriteItems", body);
}

/* All rows of raw_transaction(), some of them a page. */
static double raw_read(uint64_t rows)
{
	double began = now_s();
	uint64_t found = 0;

	for (uint32_t i = 0; i < PARTITIONS; i++) {
		char body[200];

		(void)snprintf(
			body, sizeof body,
			"{\"TableName\":\"bench_seg\",\"ConsistentRead\":true,\"KeyConditionExpression\":\"pk = :p\","
			"\"ExpressionAttributeValues\":{\":p\":{\"S\":\"raw%u\"}}}",
			i);
		for (const char *at = emulator_call("Query", body); (at = strstr(at, "\"sk\"")) != NULL; at++)
			found++;
	}
	if (found < rows)
		die("the emulator shows %llu of %llu rows", (unsigned long long)found, (unsigned long long)rows);
	return (double)found / (now_s() - began);
}

/* ---- figures ---- */

/* Calls, or transactions, one after the other. */
struct series {
	double took[SAMPLES], sum;
	uint64_t count;
};

static void note(struct series *of, double began)
{
	of->took[of->count] = now_s() - began;
	of->sum += of->took[of->count++];
}

static double median(struct series *of)
{
	qsort(of->took, of->count, sizeof *of->took, up);
	return of->took[of->count / 2];
}

static uint64_t units(const struct host *h)
{
	env_wait_stats(h->instance);
	return env_counter(h->instance, "write_units");
}

/* Calls of one segment for each of so many partitions. Returns the number of the next one. */
static uint64_t measure_units(const struct host *h, uint64_t n, uint32_t partitions)
{
	enum { CALLS = 20 };
	uint64_t before = units(h);
	char name[64];

	for (uint32_t i = 0; i < CALLS; i++)
		add(h, n + i, partitions, 1);
	(void)snprintf(name, sizeof name, "units.dynamodb.write_per_add.call_%u", partitions);
	result_value(result_add(name, "WCU"), (double)(units(h) - before) / CALLS / partitions);
	return n + CALLS;
}

/* Ours and the emulator's own in turn: calls of many segments, which are transactions of 99 items
 * beside each other; then of one. */
static void measure_writes(const struct host *h, uint64_t n, double seconds)
{
	static struct series ours, raw;

	memset(&ours, 0, sizeof ours);
	memset(&raw, 0, sizeof raw);
	for (double began = now_s(); now_s() - began < seconds && ours.count < SAMPLES; n += EACH) {
		double t = now_s();

		add(h, n, PARTITIONS, EACH);
		note(&ours, t);
		t = now_s();
		raw_transaction(n, PARTITIONS);
		note(&raw, t);
	}
	result_value(result_add("write.dynamodb.acked", "adds/s"), (double)ours.count * PARTITIONS * EACH / ours.sum);
	result_value(result_add("limit.dynamodb_transaction", "adds/s"), (double)raw.count * PARTITIONS / raw.sum);
	result_value(result_add("limit.dynamodb_query", "rows/s"), raw_read(raw.count * PARTITIONS));
	ours.count = raw.count = 0;
	for (double began = now_s(); now_s() - began < seconds / 2 && ours.count < SAMPLES; n++) {
		double t = now_s();

		add(h, n, 1, 1);
		note(&ours, t);
		t = now_s();
		raw_transaction(n, 1);
		note(&raw, t);
	}
	result_value(result_add("write.dynamodb.single_p50", "us"), median(&ours) * 1e6);
	result_value(result_add("limit.dynamodb_single_transaction_p50", "us"), median(&raw) * 1e6);
}

/* Another host comes: it reads all that the first one has written. */
static void measure_load(struct bench *b, struct host *other)
{
	double took = host_start(other, b, "other"), rows;

	env_wait_stats(other->instance);
	rows = (double)env_counter(other->instance, "segments");
	result_value(result_add("load.dynamodb", "rows/s"), rows / took);
	target_min_ratio("load.dynamodb", 0.3, "limit.dynamodb_query");
	result_value(result_add("units.dynamodb.read_per_loaded_row", "RCU"),
	             (double)env_counter(other->instance, "read_units_load") / rows);
}

static void set_watermark(void *arg, uint64_t watermark)
{
	const struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
	                             .name = {CHURN_TOPIC, strlen(CHURN_TOPIC)},
	                             .partition_id = 3,
	                             .offset = watermark};

	write_all(arg, &op, 1);
}

void bench_dynamodb(struct bench *b)
{
	const struct shmeta_op create = {
		.type = SHMETA_OP_CREATE_TOPIC,
		.u.topic = {.name = {CHURN_TOPIC, strlen(CHURN_TOPIC)}, .partition_count = PARTITIONS}};
	struct host writer = {0}, other = {0};
	pid_t emulator;

	if (!emulator_start(b, &emulator)) {
		result_missing("load.dynamodb", "rows/s", "the emulator is not installed (tests/pypi.sh)");
		return;
	}
	(void)host_start(&writer, b, "writer");
	write_all(&writer, &create, 1);
	add(&writer, 0, PARTITIONS, 1);
	measure_writes(&writer, measure_units(&writer, measure_units(&writer, 1, 1), PARTITIONS), b->quick ? 2 : 20);
	measure_load(b, &other);
	source_visibility(b, "dynamodb", other.instance, 0, &(struct source_change){set_watermark, &writer});
	host_stop(&other);
	host_stop(&writer);
	env_kill(&emulator, SIGTERM);
}
