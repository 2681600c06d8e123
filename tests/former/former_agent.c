/* SPDX-License-Identifier: Apache-2.0
 * An agent that uses only what the pinned version had (former_version.sh): it writes, reads what it
 * wrote in each way, and prints what it saw. Compiled against the header of then and of now. Exit
 * status 0: all of it was right.
 *
 *   former_agent INSTANCE_DIRECTORY TOPIC */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <shmeta.h>

enum { SEGMENTS = 200, WAIT_MS = 30000 };

static struct shmeta *instance;
static struct shmeta_client *client;
static struct shmeta_reader *reader;
static struct shmeta_str topic;

static int failed(const char *doing, int status)
{
	char text[480];

	(void)fprintf(stderr, "%s: status %d, %s\n", doing, status, shmeta_last_error(instance, text, sizeof text));
	return 1;
}

static int write_one(const char *doing, struct shmeta_op op)
{
	struct shmeta_result result = {.status = SHMETA_OK};
	enum shmeta_status status = shmeta_write(client, &op, 1, WAIT_MS, &result, NULL);

	if (status == SHMETA_OK && result.status == SHMETA_OK)
		return 0;
	(void)fprintf(stderr, "%s: %s\n", doing, result.text);
	return failed(doing, status);
}

static int write_all(void)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = topic, .partition_count = 3}};
	char id[96];

	if (write_one("creating the topic", op) != 0)
		return 1;
	for (int i = 0; i < SEGMENTS; i++) {
		int bytes = snprintf(id, sizeof id, "%.60s-%d", topic.data, i);

		op = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
		                        .name = topic,
		                        .partition_id = 1,
		                        .u.segment = {.id = {id, (size_t)bytes},
		                                      .base_offset = (uint64_t)i * 10,
		                                      .end_offset = (uint64_t)i * 10 + 9,
		                                      .record_count = 10,
		                                      .size_bytes = 1000,
		                                      .s3_bucket = {"b", 1},
		                                      .s3_key = {id, (size_t)bytes}}};
		if (write_one("adding a segment", op) != 0)
			return 1;
	}
	return write_one("making a group", (struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = {"g", 1}}) ||
	       write_one("committing an offset",
	                 (struct shmeta_op){.type = SHMETA_OP_COMMIT_OFFSET,
	                                    .name = topic,
	                                    .partition_id = 1,
	                                    .u.committed = {.group_id = {"g", 1}, .committed_offset = 1234}});
}

static int read_all(enum shmeta_consistency consistency)
{
	const struct shmeta_read how = {
		.size = sizeof how, .consistency = consistency, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_committed_offset offset;
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	struct shmeta_freshness fresh;
	enum shmeta_status status;

	status = shmeta_get_partition_named(reader, topic.data, topic.bytes, 1, &how, &partition, &fresh);
	if (status != SHMETA_OK || partition.high_watermark != SEGMENTS * 10)
		return failed("the partition", status);
	for (uint64_t at = 0; at < SEGMENTS * 10; at += 7) {
		status = shmeta_find_segment_named(reader, topic.data, topic.bytes, 1, at, &how, &segment, &fresh);
		if (status != SHMETA_OK || segment.base_offset != at / 10 * 10 || segment.end_offset < at)
			return failed("a segment", status);
	}
	status = shmeta_find_segment_named(reader, topic.data, topic.bytes, 1, SEGMENTS * 10, &how, &segment, &fresh);
	if (status != SHMETA_ABSENT_AT_END)
		return failed("what is behind the end", status);
	status = shmeta_get_partition_named(reader, topic.data, topic.bytes, 7, &how, &partition, &fresh);
	if (status != SHMETA_ABSENT)
		return failed("a partition that there is not", status);
	status = shmeta_get_committed_offset(reader, "g", 1, topic.data, topic.bytes, 1, &how, &offset, &fresh);
	if (status != SHMETA_OK || offset.committed_offset != 1234)
		return failed("the committed offset", status);
	return 0;
}

int main(int argc, char **argv)
{
	struct shmeta_options options = {.size = sizeof options, .agent = "former", .threads = 1};
	enum shmeta_status status;
	int bad;

	if (argc != 3)
		return 2;
	options.directory = argv[1];
	topic = (struct shmeta_str){argv[2], strlen(argv[2])};
	status = shmeta_open(&options, &instance);
	if (status != SHMETA_OK)
		return failed("open", status);
	status = shmeta_reader_new(instance, &reader);
	if (status == SHMETA_OK)
		status = shmeta_client_open(instance, NULL, &client);
	if (status != SHMETA_OK)
		return failed("reader and client", status);
	bad = write_all();
	if (!bad && (status = shmeta_begin(reader)) != SHMETA_OK)
		bad = failed("begin", status);
	bad = bad || read_all(SHMETA_CACHED) || read_all(SHMETA_FRESH) || read_all(SHMETA_SOURCE);
	if (!bad && (status = shmeta_end(reader)) != SHMETA_OK)
		bad = failed("end", status);
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return bad;
}
