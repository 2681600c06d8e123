/* SPDX-License-Identifier: Apache-2.0
 * One leader of a partition at a time, and no write of a former one: leader DIRECTORY TOPIC
 * PARTITION AGENT APPENDS [LEASE_MS].
 *
 * The agent registers, acquires the partition's lease, and appends so many segments (here: their
 * metadata alone), each fenced by its name and the lease's epoch. It renews its heartbeat and all
 * of its leases by one operation, three times as often as they last. Where it was stopped for
 * longer, another one may lead meanwhile: its lease has another epoch, so what this one still sends
 * is refused with ERR_FENCED, whatever its own clock says. It then gives up what it believed, and
 * begins again with what the source holds.
 *
 * Compile: cc leader.c $(pkg-config --cflags --libs shmeta) */
#include <inttypes.h>
#include <shmeta.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIMEOUT_MS = 10000, PAUSE_MS = 20, RECORDS = 10 };

static struct shmeta *instance;
static struct shmeta_client *client;
static struct shmeta_reader *reader;
static struct shmeta_str topic, agent;
static uint32_t partition;
static int64_t lease_ms = 3000;

static int64_t now_ms(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	(void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* One operation, which the library may send again when its answer is lost. */
static enum shmeta_status do_one(struct shmeta_op *op, struct shmeta_result *result)
{
	enum shmeta_status status;

	(void)shmeta_request_id(op->request_id);
	status = shmeta_write(client, op, 1, TIMEOUT_MS, result, NULL);
	/* Not shown yet: it is done all the same. */
	return status == SHMETA_OK || status == SHMETA_ERR_NOT_CACHED ? result->status : status;
}

static enum shmeta_status say(const char *what, enum shmeta_status status, const struct shmeta_result *result)
{
	(void)fprintf(stderr, "%.*s: %s: %s\n", (int)agent.bytes, agent.data, what,
	              result->text[0] != '\0' ? result->text : shmeta_strerror(status));
	return status;
}

/* Wait until nobody else holds it. */
static enum shmeta_status acquire(uint64_t *ret_epoch)
{
	struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE,
	                       .name = topic,
	                       .partition_id = partition,
	                       .agent_id = agent,
	                       .duration_ms = lease_ms};
	struct shmeta_result result;
	enum shmeta_status status;

	while ((status = do_one(&op, &result)) == SHMETA_ERR_CONFLICT)
		pause_ms(lease_ms / 10);
	if (status != SHMETA_OK)
		return say("acquiring the lease", status, &result);
	*ret_epoch = result.lease.epoch;
	(void)printf("%.*s leads at epoch %" PRIu64 "\n", (int)agent.bytes, agent.data, *ret_epoch);
	(void)fflush(stdout);
	return SHMETA_OK;
}

/* Where the next segment begins, on the source's own word: a former leader may have appended until
 * a moment ago. */
static enum shmeta_status next_offset(uint64_t *ret)
{
	const struct shmeta_read source = {.size = sizeof source,
	                                   .consistency = SHMETA_SOURCE,
	                                   .timeout_ms = TIMEOUT_MS,
	                                   .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_partition p;
	enum shmeta_status status;

	do
		status = shmeta_begin(reader);
	while (status == SHMETA_ERR_CONTENDED);
	if (status != SHMETA_OK)
		return status;
	status = shmeta_get_partition_named(reader, topic.data, topic.bytes, partition, &source, &p, NULL);
	if (shmeta_end(reader) == SHMETA_ERR_EXPIRED)
		return next_offset(ret);
	if (status == SHMETA_OK)
		*ret = p.high_watermark;
	return status;
}

static enum shmeta_status append(uint64_t epoch, uint64_t *offset)
{
	char id[80], key[80];
	struct shmeta_op op = {.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                       .name = topic,
	                       .partition_id = partition,
	                       .fence = {agent, epoch},
	                       .u.segment = {.base_offset = *offset,
	                                     .end_offset = *offset + RECORDS - 1,
	                                     .record_count = RECORDS,
	                                     .size_bytes = 1000,
	                                     .s3_bucket = {"bucket", 6},
	                                     .created_at_ms = now_ms(CLOCK_REALTIME)}};
	struct shmeta_result result;
	enum shmeta_status status;

	op.u.segment.id.data = id;
	op.u.segment.id.bytes = (size_t)snprintf(id, sizeof id, "led-%" PRIu32 "-%" PRIu64, partition, *offset);
	op.u.segment.s3_key.data = key;
	op.u.segment.s3_key.bytes = (size_t)snprintf(key, sizeof key, "led/%" PRIu32 "/%" PRIu64, partition, *offset);
	status = do_one(&op, &result);
	if (status == SHMETA_OK)
		*offset += RECORDS;
	else
		(void)say("appending", status, &result);
	return status;
}

/* 0: none of its leases lasts any more. */
static uint64_t renew(void)
{
	struct shmeta_op op = {.type = SHMETA_OP_RENEW_AGENT,
	                       .agent_id = agent,
	                       .duration_ms = lease_ms,
	                       .u.agent = {.last_heartbeat_ms = now_ms(CLOCK_REALTIME)}};
	struct shmeta_result result;
	enum shmeta_status status = do_one(&op, &result);

	if (status != SHMETA_OK)
		(void)say("renewing", status, &result);
	return status == SHMETA_OK ? result.count : 0;
}

/* Lead until `appends` are done or the lease is lost. Returns how many were done; *ret_status: OK,
 * or what cannot be helped. */
static uint64_t lead(uint64_t appends, enum shmeta_status *ret_status)
{
	uint64_t epoch, offset, done = 0;
	int64_t renewed_ms;

	*ret_status = acquire(&epoch);
	renewed_ms = now_ms(CLOCK_BOOTTIME);
	if (*ret_status == SHMETA_OK)
		*ret_status = next_offset(&offset);
	while (*ret_status == SHMETA_OK && done < appends) {
		if (now_ms(CLOCK_BOOTTIME) - renewed_ms > lease_ms / 3) {
			renewed_ms = now_ms(CLOCK_BOOTTIME);
			if (renew() == 0)
				break;
		}
		*ret_status = append(epoch, &offset);
		done += *ret_status == SHMETA_OK;
		pause_ms(PAUSE_MS);
	}
	/* Another one leads by now, or nobody can say whether it was done: look at the source, and
	 * begin again. */
	if (*ret_status == SHMETA_ERR_FENCED || *ret_status == SHMETA_ERR_OUTCOME_UNKNOWN ||
	    *ret_status == SHMETA_ERR_TIMEOUT || *ret_status == SHMETA_ERR_WRITER_AWAY)
		*ret_status = SHMETA_OK;
	if (done < appends && *ret_status == SHMETA_OK)
		(void)printf("%.*s leads no more\n", (int)agent.bytes, agent.data);
	(void)fflush(stdout);
	return done;
}

int main(int argc, char **argv)
{
	char why[480] = "", address[120];
	struct shmeta_options options = {.size = sizeof options, .error = why, .error_bytes = sizeof why};
	struct shmeta_op op = {.type = SHMETA_OP_REGISTER_AGENT};
	struct shmeta_result result;
	enum shmeta_status status;
	uint64_t appends, done = 0;

	if (argc < 6 || argc > 7 || argv[1][0] == '-') {
		(void)fprintf(stderr, "usage: leader DIRECTORY TOPIC PARTITION AGENT APPENDS [LEASE_MS]\n");
		return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	options.directory = argv[1];
	topic = (struct shmeta_str){argv[2], strlen(argv[2])};
	partition = (uint32_t)strtoul(argv[3], NULL, 10);
	agent = (struct shmeta_str){argv[4], strlen(argv[4])};
	appends = strtoull(argv[5], NULL, 10);
	if (argc == 7)
		lease_ms = strtoll(argv[6], NULL, 10);
	if (shmeta_open(&options, &instance) != SHMETA_OK || shmeta_client_open(instance, NULL, &client) != SHMETA_OK ||
	    shmeta_reader_new(instance, &reader) != SHMETA_OK) {
		(void)fprintf(stderr, "%s\n", instance != NULL ? shmeta_last_error(instance, why, sizeof why) : why);
		return 1;
	}
	(void)snprintf(address, sizeof address, "%.100s:9092", argv[4]);
	op.u.agent.agent_id = agent;
	op.u.agent.address = (struct shmeta_str){address, strlen(address)};
	op.u.agent.last_heartbeat_ms = op.u.agent.started_at_ms = now_ms(CLOCK_REALTIME);
	status = do_one(&op, &result);
	if (status != SHMETA_OK)
		(void)say("registering", status, &result);
	while (status == SHMETA_OK && done < appends)
		done += lead(appends - done, &status);
	/* What it held is free at once for the next one. */
	op = (struct shmeta_op){.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = agent};
	(void)do_one(&op, &result);
	(void)printf("%.*s appended %" PRIu64 "\n", (int)agent.bytes, agent.data, done);
	shmeta_reader_free(reader);
	shmeta_client_close(client);
	shmeta_close(instance);
	return status == SHMETA_OK ? 0 : 1;
}
