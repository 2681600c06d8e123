/* SPDX-License-Identifier: Apache-2.0
 * A cache of one's own behind the store's, kept right by the change journal: second_level_cache
 * DIRECTORY TOPIC ROUNDS. It keeps what is expensive to make of a record (here: a line of text of
 * each partition), asks in each round which keys changed since the last one, and makes only those
 * anew. --check in front of DIRECTORY compares every cached line with the store. */
#include <shmeta.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTITIONS = 1024, LINE = 96, WAIT_MS = 1000 };

static struct {
	char line[LINE]; /* empty: forgotten */
} cache[PARTITIONS];
static struct shmeta_token position; /* what the cache shows */
static unsigned long long made, used, emptied;

/* Here a program would do something that takes long. */
static void make_line(struct shmeta_reader *reader, const char *topic, uint32_t id, char *ret)
{
	struct shmeta_partition partition;
	enum shmeta_status status =
		shmeta_get_partition_named(reader, topic, strlen(topic), id, NULL, &partition, NULL);

	if (status == SHMETA_OK)
		snprintf(ret, LINE, "%u: %llu segments up to %llu", id, (unsigned long long)partition.segment_count,
		         (unsigned long long)partition.high_watermark);
	else
		snprintf(ret, LINE, "%u: %s", id, shmeta_strerror(status));
}

/* Forget what changed; in an open snapshot. 0: the snapshot is of no use. */
static int forget_changed(struct shmeta_reader *reader, const char *topic)
{
	struct shmeta_change change;
	struct shmeta_iter *iter;
	enum shmeta_status status = shmeta_changes_since(reader, &position, &iter);

	if (status == SHMETA_TOO_OLD) { /* also in the first round */
		memset(cache, 0, sizeof cache);
		emptied++;
		return 1;
	}
	if (status != SHMETA_OK)
		return 0;
	while ((status = shmeta_next_change(iter, &change)) == SHMETA_OK)
		if (change.cls == SHMETA_CLASS_PARTITION && change.partition_id < PARTITIONS &&
		    change.topic.bytes == strlen(topic) && memcmp(change.topic.data, topic, change.topic.bytes) == 0)
			cache[change.partition_id].line[0] = '\0';
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

/* One round: 0 when a cached line was wrong. */
static int look(struct shmeta_reader *reader, const char *topic, uint32_t partitions, int check)
{
	struct shmeta_snapshot_info info;
	char truth[LINE];
	int right = 1;

	if (shmeta_begin(reader) != SHMETA_OK)
		return 1;
	if (shmeta_snapshot_info(reader, &info) != SHMETA_OK || !forget_changed(reader, topic)) {
		(void)shmeta_end(reader);
		return 1;
	}
	for (uint32_t id = 0; id < partitions; id++) {
		if (cache[id].line[0] == '\0') {
			make_line(reader, topic, id, cache[id].line);
			made++;
		} else {
			used++;
		}
		if (!check)
			continue;
		make_line(reader, topic, id, truth);
		if (strcmp(cache[id].line, truth) != 0) {
			fprintf(stderr, "commit %llu: the cache says '%s', the store '%s'\n",
			        (unsigned long long)info.txn, cache[id].line, truth);
			right = 0;
		}
	}
	/* A snapshot that was taken back may have shown anything. */
	if (shmeta_end(reader) == SHMETA_OK) {
		position.generation = info.generation;
		position.txn = info.txn;
		return right;
	}
	memset(cache, 0, sizeof cache);
	position.generation = 0;
	return 1;
}

int main(int argc, char **argv)
{
	int check = argc > 1 && strcmp(argv[1], "--check") == 0;
	char why[480] = "";
	struct shmeta_options options = {.size = sizeof options, .error = why, .error_bytes = sizeof why};
	struct shmeta_reader *reader;
	struct shmeta *instance;
	unsigned long rounds;

	argv += check;
	if (argc - check != 4) {
		fprintf(stderr, "usage: second_level_cache [--check] DIRECTORY TOPIC ROUNDS\n");
		return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	options.directory = argv[1];
	rounds = strtoul(argv[3], NULL, 10);
	if (shmeta_open(&options, &instance) != SHMETA_OK) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	if (shmeta_reader_new(instance, &reader) != SHMETA_OK)
		return 1;
	for (unsigned long i = 0; i < rounds; i++) {
		if (!look(reader, argv[2], 64, check))
			return 1;
		/* Until something changes, or a second has passed. */
		if (shmeta_wait_commit(instance, position.txn, WAIT_MS, NULL) == SHMETA_ERR_FORKED)
			return 1;
	}
	printf("%s: %llu lines made, %llu used again, emptied %llu times\n", check ? "equal to the store" : "done",
	       made, used, emptied);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return 0;
}
