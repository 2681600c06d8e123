/* SPDX-License-Identifier: Apache-2.0
 * What a broker does for a consumer: plan, read, and at the end of the log wait: fetch_loop
 * DIRECTORY TOPIC PARTITION FROM TO. It prints the byte ranges that hold the offsets FROM to TO -
 * 1, and waits for those that are not there yet. */
#include <shmeta.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENTS = 64, RANGES = 16, MAX_BYTES = 1 << 20, WAIT_MS = 30000 };

/* Here a broker would read from object storage. */
static void read_ranges(const struct shmeta_fetch_range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++)
		printf("GET %.*s/%.*s bytes %llu-%llu, %u segments\n", (int)ranges[i].s3_bucket.bytes,
		       ranges[i].s3_bucket.data, (int)ranges[i].s3_key.bytes, ranges[i].s3_key.data,
		       (unsigned long long)ranges[i].position,
		       (unsigned long long)(ranges[i].position + ranges[i].bytes - 1), ranges[i].count);
	fflush(stdout);
}

/* One fetch: moves *from on. 0: it failed. No snapshot stays open, neither over reads nor over
 * waits. */
static int fetch(struct shmeta_reader *reader, struct shmeta_handle *partition, uint64_t *from)
{
	static struct shmeta_segment segments[SEGMENTS];
	static struct shmeta_fetch_range ranges[RANGES];
	static char strings[SEGMENTS * 512 + 3 * (SHMETA_STRING_MAX + 1)];
	const struct shmeta_fetch want = {.size = sizeof want,
	                                  .from = *from,
	                                  .max_bytes = MAX_BYTES,
	                                  .max_segments = SEGMENTS,
	                                  .segments = segments,
	                                  .max_ranges = RANGES,
	                                  .ranges = ranges,
	                                  .buffer = strings,
	                                  .buffer_bytes = sizeof strings};
	struct shmeta_fetch_plan plan = {.size = sizeof plan};
	struct shmeta_wait wait = {.handle = partition, .high_watermark = *from, .status = SHMETA_OK};
	enum shmeta_status status = shmeta_begin(reader);

	if (status == SHMETA_ERR_CONTENDED)
		return 1;
	if (status == SHMETA_OK) {
		status = shmeta_plan_fetch(partition, &want, NULL, &plan, NULL);
		/* The snapshot was taken back: what was planned does not count. */
		if (shmeta_end(reader) == SHMETA_ERR_EXPIRED)
			return 1;
	}
	if (status == SHMETA_OK) {
		read_ranges(ranges, plan.ranges);
		*from = plan.next_offset;
		return 1;
	}
	if (status == SHMETA_ABSENT_AT_END)
		status = shmeta_wait_partitions(&wait, 1, WAIT_MS, NULL);
	if (status == SHMETA_OK && wait.status == SHMETA_OK)
		return 1;
	fprintf(stderr, "from %llu: %s\n", (unsigned long long)*from,
	        shmeta_strerror(status != SHMETA_OK ? status : wait.status));
	return 0;
}

int main(int argc, char **argv)
{
	char why[480] = "";
	struct shmeta_options options = {.size = sizeof options, .error = why, .error_bytes = sizeof why};
	struct shmeta_handle *partition;
	struct shmeta_reader *reader;
	struct shmeta *instance;
	uint64_t next, to;

	if (argc != 6) {
		fprintf(stderr, "usage: fetch_loop DIRECTORY TOPIC PARTITION FROM TO\n");
		return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	options.directory = argv[1];
	next = strtoull(argv[4], NULL, 10);
	to = strtoull(argv[5], NULL, 10);
	if (shmeta_open(&options, &instance) != SHMETA_OK) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	if (shmeta_reader_new(instance, &reader) != SHMETA_OK || shmeta_begin(reader) != SHMETA_OK ||
	    shmeta_partition_open(reader, argv[2], strlen(argv[2]), (uint32_t)strtoul(argv[3], NULL, 10), &partition) !=
	            SHMETA_OK) {
		fprintf(stderr, "no partition %s of topic '%s'\n", argv[3], argv[2]);
		return 1;
	}
	(void)shmeta_end(reader);
	while (next < to)
		if (!fetch(reader, partition, &next))
			return 1;
	printf("up to offset %llu\n", (unsigned long long)next);
	shmeta_partition_close(partition);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return 0;
}
