/* SPDX-License-Identifier: Apache-2.0
 * Many small segments become few: what lies side by side in a partition is copied into one object,
 * which takes its place.
 *
 *   compactor INSTANCE_DIRECTORY OBJECT_DIRECTORY TOPIC PARTITION TARGET_BYTES [EPOCH]
 *
 * Segments of the partition are walked in order. Those that follow each other without a gap and
 * have no more than TARGET_BYTES together are read, written behind each other into a new object
 * (here: a file, written aside, synced and renamed), and replaced by one segment of that object, in
 * one unit: a reader sees the old ones or the new one, and finds the bytes of both.
 *
 * First the object, then its registration: where this program dies in between, the new object is
 * garbage that nobody refers to. The old objects are not deleted here. Who deletes them waits until
 * the times to live of readers have passed (objects.grace_ms): objects that hold slices of many
 * partitions are listed by `shmetactl objects --deletable` then; this program names the others.
 *
 * Where another compactor, or retention, was faster, the operation is refused with ERR_CONFLICT and
 * nothing has happened: the new object is removed, the partition is read anew from the source, and
 * it is looked at again from there. After any error that leaves open what happened the object
 * stays, because the store may name it. EPOCH is the compactor's own: one whose successor has begun
 * with a higher number is refused with ERR_FENCED.
 *
 * Compile: cc compactor.c $(pkg-config --cflags --libs shmeta) */
#include <inttypes.h>
#include <shmeta.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* So many segments fit a frame of 128 KiB whatever their strings are, within reason. */
enum { RUN_MAX = 200, TIMEOUT_MS = 30000, CONFLICTS_MAX = 10, TEXT_BYTES = 3 * (SHMETA_STRING_MAX + 1) };

static struct shmeta *instance;
static struct shmeta_client *client;
static const char *directory, *topic;
static uint32_t partition;
static uint64_t target_bytes, epoch, replaced, made;
static int conflicts; /* in a row */

static struct shmeta_segment run[RUN_MAX];
static char text[RUN_MAX][TEXT_BYTES];
static uint32_t count;
static uint64_t bytes;

static int failed(const char *doing, const char *why)
{
	char last[480];

	(void)fprintf(stderr, "%s: %s\n", doing, why[0] != '\0' ? why : shmeta_last_error(instance, last, sizeof last));
	return -1;
}

static FILE *open_object(struct shmeta_str bucket, struct shmeta_str key, const char *mode)
{
	char path[4200];

	(void)snprintf(path, sizeof path, "%s/%.*s/%.*s", directory, (int)bucket.bytes, bucket.data, (int)key.bytes,
	               key.data);
	return fopen(path, mode);
}

static int copy(const struct shmeta_segment *s, FILE *to)
{
	FILE *from = open_object(s->s3_bucket, s->s3_key, "rbe");
	int bad = from == NULL || fseeko(from, (off_t)s->position, SEEK_SET) != 0;
	char piece[65536];

	for (uint64_t left = s->size_bytes; !bad && left > 0;) {
		size_t n = fread(piece, 1, left < sizeof piece ? (size_t)left : sizeof piece, from);

		bad = n == 0 || fwrite(piece, 1, n, to) != n;
		left -= n;
	}
	if (from != NULL)
		(void)fclose(from);
	return bad ? -1 : 0;
}

/* The bytes of the run, in an object of that key. */
static int put(struct shmeta_str bucket, const char *key)
{
	char aside[4300], path[4200];
	FILE *f;
	int bad = 0;

	(void)snprintf(path, sizeof path, "%s/%.*s/%s", directory, (int)bucket.bytes, bucket.data, key);
	(void)snprintf(aside, sizeof aside, "%s.part", path);
	f = fopen(aside, "wbe");
	if (f == NULL)
		return perror(aside), -1;
	for (uint32_t i = 0; !bad && i < count; i++)
		bad = copy(&run[i], f) != 0;
	bad |= fflush(f) != 0 || fsync(fileno(f)) != 0;
	bad |= fclose(f) != 0;
	if (bad || rename(aside, path) != 0) {
		perror(path);
		(void)unlink(aside);
		return -1;
	}
	return 0;
}

static void remove_object(struct shmeta_str bucket, const char *key)
{
	char path[4200];

	(void)snprintf(path, sizeof path, "%s/%.*s/%s", directory, (int)bucket.bytes, bucket.data, key);
	(void)unlink(path);
}

/* Nothing was done, because these segments are not there any more: *from is where to look again. */
static int look_again(uint64_t *from)
{
	*from = run[0].base_offset;
	count = 0;
	if (++conflicts > CONFLICTS_MAX)
		return failed("replacing segments", "others are always faster");
	if (shmeta_refresh(instance, SHMETA_CLASS_PARTITION, topic, strlen(topic), partition, TIMEOUT_MS, NULL) !=
	    SHMETA_OK)
		return failed("reading the partition anew", "");
	return 0;
}

/* What was gathered is replaced by one. */
static int flush(uint64_t *from)
{
	char key[160], id[160];
	struct shmeta_segment merged = run[0];
	struct shmeta_result result;
	struct shmeta_op op = {.type = SHMETA_OP_REPLACE_SEGMENTS,
	                       .name = {topic, strlen(topic)},
	                       .partition_id = partition,
	                       .u.replace = {.old_segments = run,
	                                     .new_segments = &merged,
	                                     .old_count = count,
	                                     .new_count = 1,
	                                     .compaction_epoch = epoch}};
	enum shmeta_status status;

	if (count < 2) {
		count = 0;
		return 0;
	}
	(void)snprintf(key, sizeof key, "compacted-%.80s-%" PRIu32 "-%" PRIu64 "-%" PRIu64 "-%d", topic, partition,
	               run[0].base_offset, run[count - 1].end_offset, (int)getpid());
	(void)snprintf(id, sizeof id, "%.100s-%" PRIu32 "-%" PRIu64, topic, partition, run[0].base_offset);
	if (put(run[0].s3_bucket, key) != 0)
		return -1;
	merged.end_offset = run[count - 1].end_offset;
	merged.size_bytes = bytes;
	merged.position = 0;
	merged.id = (struct shmeta_str){id, strlen(id)};
	merged.s3_key = (struct shmeta_str){key, strlen(key)};
	for (uint32_t i = 1; i < count; i++) {
		merged.record_count += run[i].record_count;
		merged.created_at_ms =
			run[i].created_at_ms > merged.created_at_ms ? run[i].created_at_ms : merged.created_at_ms;
		merged.min_timestamp_ms = run[i].min_timestamp_ms < merged.min_timestamp_ms ? run[i].min_timestamp_ms
		                                                                            : merged.min_timestamp_ms;
		merged.max_timestamp_ms = run[i].max_timestamp_ms > merged.max_timestamp_ms ? run[i].max_timestamp_ms
		                                                                            : merged.max_timestamp_ms;
	}
	(void)shmeta_request_id(op.request_id);
	status = shmeta_write(client, &op, 1, TIMEOUT_MS, &result, NULL);
	if (status == SHMETA_OK && (result.status == SHMETA_ERR_CONFLICT || result.status == SHMETA_ERR_FENCED))
		remove_object(run[0].s3_bucket, key);
	if (status == SHMETA_OK && result.status == SHMETA_ERR_CONFLICT)
		return look_again(from);
	if (status != SHMETA_OK || result.status != SHMETA_OK)
		return failed("replacing segments", result.text);
	conflicts = 0;
	for (uint32_t i = 0; i < count; i++)
		(void)printf("replaced %.*s/%.*s %" PRIu64 "+%" PRIu64 "\n", (int)run[i].s3_bucket.bytes,
		             run[i].s3_bucket.data, (int)run[i].s3_key.bytes, run[i].s3_key.data, run[i].position,
		             run[i].size_bytes);
	replaced += count;
	made++;
	count = 0;
	return 0;
}

/* A page of segments is gathered within one snapshot; work is done outside of any. Moves *from to
 * where to go on, UINT64_MAX at the end. */
static int gather(struct shmeta_reader *reader, uint64_t *from)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_segment s;
	enum shmeta_status status = shmeta_begin(reader);
	uint64_t next = UINT64_MAX;

	bytes = 0;
	count = 0;
	if (status == SHMETA_ERR_CONTENDED)
		return 0; /* once more */
	if (status != SHMETA_OK)
		return failed("beginning a snapshot", shmeta_strerror(status));
	status = shmeta_list_segments_named(reader, topic, strlen(topic), partition, *from, INT64_MAX, NULL, &iter);
	while (status == SHMETA_OK && (status = shmeta_next_segment(iter, &s)) == SHMETA_OK) {
		int follows = count > 0 && s.base_offset == run[count - 1].end_offset + 1;

		if (count == RUN_MAX || (count > 0 && (!follows || bytes + s.size_bytes > target_bytes))) {
			next = s.base_offset;
			break;
		}
		status = shmeta_iter_segment_strings(iter, &s, text[count], TEXT_BYTES);
		if (status != SHMETA_OK)
			break;
		bytes += s.size_bytes;
		run[count++] = s;
	}
	shmeta_iter_free(iter);
	/* The snapshot was taken back: what was read of it does not count. */
	if (shmeta_end(reader) == SHMETA_ERR_EXPIRED) {
		count = 0;
		return 0;
	}
	if (status != SHMETA_OK && status != SHMETA_END)
		return failed("listing segments", shmeta_strerror(status));
	*from = next;
	return 0;
}

int main(int argc, char **argv)
{
	char why[400] = "";
	struct shmeta_options options = {.size = sizeof options,
	                                 .directory = argc > 1 ? argv[1] : NULL,
	                                 .error = why,
	                                 .error_bytes = sizeof why};
	struct shmeta_reader *reader = NULL;
	uint64_t from = 0;
	int bad = 0;

	if (argc != 6 && argc != 7)
		return puts("usage: compactor INSTANCE OBJECTS TOPIC PARTITION TARGET_BYTES [EPOCH]"), 2;
	directory = argv[2];
	topic = argv[3];
	partition = (uint32_t)strtoul(argv[4], NULL, 10);
	target_bytes = strtoull(argv[5], NULL, 10);
	epoch = argc > 6 ? strtoull(argv[6], NULL, 10) : 0;
	if (shmeta_open(&options, &instance) != SHMETA_OK)
		return puts(why), 1;
	if (shmeta_client_open(instance, NULL, &client) != SHMETA_OK ||
	    shmeta_reader_new(instance, &reader) != SHMETA_OK)
		bad = failed("opening", "");
	while (bad == 0 && from != UINT64_MAX) {
		bad = gather(reader, &from);
		if (bad == 0)
			bad = flush(&from);
	}
	(void)printf("%" PRIu64 " segments became %" PRIu64 "\n", replaced, made);
	shmeta_reader_free(reader);
	shmeta_client_close(client);
	shmeta_close(instance);
	return bad != 0;
}
