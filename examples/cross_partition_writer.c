/* SPDX-License-Identifier: Apache-2.0
 * Many partitions, little data in each: one object for all of them instead of one for each.
 *
 *   cross_partition_writer [OPTION=VALUE ...] INSTANCE_DIRECTORY OBJECT_DIRECTORY
 *
 *   topic=NAME       where to append; made when it is not there           (default: cross)
 *   partitions=N     of that topic                                        (1000)
 *   batches=N        tiny batches for each partition, taken in turn       (10)
 *   records=N        in a batch                                           (5)
 *   pause_us=N       between two batches                                  (0)
 *   window_ms=N      an object is closed so long after its first record   (100)
 *   object_bytes=N   ... or when it has so many bytes                     (8388608)
 *
 * What comes within a window is gathered by partition. When the window is over, or the object is
 * large enough, all of it becomes one object: each partition's records in one run of bytes, the
 * runs one after the other. The object is PUT (here: a file, written aside, synced and renamed),
 * and then registered by one call: COMMIT_OBJECT and an ADD_SLICE for each partition, with the byte
 * at which its run begins. The writer commits them as one unit; readers find slices as they find
 * segments, and read size_bytes from `position`.
 *
 * At the end it says how many PUTs that saved, compared with one object for each partition in each
 * window.
 *
 * First the object, then its registration: a reader that finds a slice finds its bytes. An object
 * that was put and not registered, because the program died in between, is garbage that nobody
 * refers to; its name says who made it, so a sweep of names that are not listed by `shmetactl
 * objects` finds it. Once retention has taken all slices, `shmetactl objects --deletable` lists the
 * object.
 *
 * Each operation has a request id, so that a registration whose answer was lost is sent again by
 * the library and not done twice. Only one process may append to a partition at a time: in earnest
 * it holds the partition's lease and writes its epoch as op.fence.
 *
 * Compile: cc cross_partition_writer.c $(pkg-config --cflags --libs shmeta) */
#include <errno.h>
#include <fcntl.h>
#include <shmeta.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* An object with its slices must fit one frame of 128 KiB: a slice takes 128 bytes and its
 * names. */
enum { SLICES_MAX = 400, NAME_BYTES_MAX = 64, TIMEOUT_MS = 30000 };

/* What was gathered of one partition since the last object. */
struct run {
	char *bytes;
	size_t used, room;
	uint64_t base; /* of its first record */
	uint64_t next; /* of the record to come */
	uint32_t records;
};

static struct {
	const char *topic;
	uint64_t partitions, batches, records, pause_us, window_ms, object_bytes;
} want = {"cross", 1000, 10, 5, 0, 100, 8 << 20};

static struct {
	uint64_t objects, slices, records, bytes, refused;
} done;

static struct shmeta *instance;
static struct shmeta_client *client;
static const char *directory;
static struct run *run;    /* of each partition */
static uint32_t *gathered; /* partitions with records, in order of their first one */
static uint64_t gathered_count, gathered_bytes;
static int64_t gathered_since_us;

static int64_t clock_us(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static int failed(const char *doing)
{
	char why[480];

	(void)fprintf(stderr, "%s: %s\n", doing, shmeta_last_error(instance, why, sizeof why));
	return -1;
}

/* ---- object storage: a directory ---- */

/* PUT: the whole object or nothing under that name. */
static int put(const char *path)
{
	char aside[4200];
	FILE *f;
	int bad = 0;

	(void)snprintf(aside, sizeof aside, "%s.part", path);
	f = fopen(aside, "wbe");
	if (f == NULL)
		return perror(aside), -1;
	for (uint64_t i = 0; i < gathered_count; i++)
		bad |= fwrite(run[gathered[i]].bytes, 1, run[gathered[i]].used, f) != run[gathered[i]].used;
	bad |= fflush(f) != 0 || fsync(fileno(f)) != 0;
	bad |= fclose(f) != 0;
	if (bad || rename(aside, path) != 0) {
		perror(path);
		(void)unlink(aside);
		return -1;
	}
	return 0;
}

/* ---- one object ---- */

/* The registration: the object, and behind it a slice for each partition. */
static void describe(struct shmeta_op *ops, char (*ids)[NAME_BYTES_MAX], const char *key, int64_t now_ms)
{
	uint64_t position = 0;

	ops[0] = (struct shmeta_op){.type = SHMETA_OP_COMMIT_OBJECT,
	                            .u.object = {.s3_bucket = str("objects"),
	                                         .s3_key = str(key),
	                                         .size_bytes = gathered_bytes,
	                                         .created_at_ms = now_ms}};
	/* without one, a lost answer is an unknown outcome */
	(void)shmeta_request_id(ops[0].request_id);
	for (uint64_t i = 0; i < gathered_count; i++) {
		const struct run *r = &run[gathered[i]];
		struct shmeta_op *op = &ops[i + 1];

		(void)snprintf(ids[i], NAME_BYTES_MAX, "%.20s-%u-%llu", want.topic, gathered[i],
		               (unsigned long long)r->base);
		*op = (struct shmeta_op){.type = SHMETA_OP_ADD_SLICE,
		                         .name = str(want.topic),
		                         .partition_id = gathered[i],
		                         .u.segment = {.id = str(ids[i]),
		                                       .base_offset = r->base,
		                                       .end_offset = r->next - 1,
		                                       .record_count = r->records,
		                                       .position = position,
		                                       .size_bytes = r->used,
		                                       .created_at_ms = now_ms}};
		(void)shmeta_request_id(op->request_id);
		position += r->used;
	}
}

/* A slice that is there already, word for word, was registered by this call's first try. */
static int is_done(const struct shmeta_result *result)
{
	return result->status == SHMETA_OK || result->status == SHMETA_ERR_ALREADY_EXISTS;
}

static int flush(void)
{
	static struct shmeta_op ops[SLICES_MAX + 1];
	static struct shmeta_result results[SLICES_MAX + 1];
	static char ids[SLICES_MAX][NAME_BYTES_MAX];
	static unsigned long long number;
	int64_t now_ms = clock_us(CLOCK_REALTIME) / 1000;
	uint64_t registered = 0;
	char key[NAME_BYTES_MAX], path[4100];
	enum shmeta_status status;

	if (gathered_count == 0)
		return 0;
	(void)snprintf(key, sizeof key, "cross/%d-%lld-%llu", (int)getpid(), (long long)now_ms, number++);
	(void)snprintf(path, sizeof path, "%s/objects/%s", directory, key);
	if (put(path) != 0)
		return -1;
	describe(ops, ids, key, now_ms);
	status = shmeta_write(client, ops, gathered_count + 1, TIMEOUT_MS, results, NULL);
	/* Not done, or not known: this program ends; one that lives longer asks find_ends() what is
	 * there and goes on from it. */
	if (status != SHMETA_OK && status != SHMETA_ERR_NOT_CACHED)
		return failed("registering an object");
	for (uint64_t i = 0; i < gathered_count; i++) {
		struct run *r = &run[gathered[i]];

		if (is_done(&results[i + 1])) {
			registered++;
			done.records += r->records;
		} else {
			/* fenced, or the partition is gone: these records belong to somebody else
			 * now */
			done.refused++;
			(void)fprintf(stderr, "%s/%u: %s\n", want.topic, gathered[i], results[i + 1].text);
			r->next = r->base;
		}
		r->used = r->records = 0;
	}
	/* One that is registered without slices is listed as deletable by and by, like any
	 * other. */
	if (!is_done(&results[0]))
		(void)unlink(path);
	done.objects += registered > 0;
	done.slices += registered;
	done.bytes += gathered_bytes;
	gathered_count = gathered_bytes = 0;
	return 0;
}

/* ---- gathering ---- */

/* Must the object be closed before something of this partition is added? */
static int is_due(uint32_t partition)
{
	if (gathered_count == 0)
		return 0;
	return (gathered_count == SLICES_MAX && run[partition].records == 0) || gathered_bytes >= want.object_bytes ||
	       clock_us(CLOCK_MONOTONIC) - gathered_since_us >= (int64_t)want.window_ms * 1000;
}

/* A record is a line that says where it belongs, so that one can see that it got there. */
static int append(uint32_t partition)
{
	struct run *r = &run[partition];
	char line[160];
	int bytes = snprintf(line, sizeof line, "%.64s/%u/%llu\n", want.topic, partition, (unsigned long long)r->next);

	if (r->used + (size_t)bytes > r->room) {
		size_t room = r->room == 0 ? 1024 : 2 * r->room;
		char *more = realloc(r->bytes, room);

		if (more == NULL)
			return perror("memory"), -1;
		r->bytes = more;
		r->room = room;
	}
	if (gathered_count == 0)
		gathered_since_us = clock_us(CLOCK_MONOTONIC);
	if (r->records == 0) {
		r->base = r->next;
		gathered[gathered_count++] = partition;
	}
	memcpy(r->bytes + r->used, line, (size_t)bytes);
	r->used += (size_t)bytes;
	r->next++;
	r->records++;
	gathered_bytes += (size_t)bytes;
	return 0;
}

static int produce(void)
{
	for (uint64_t batch = 0; batch < want.batches; batch++)
		for (uint32_t p = 0; p < want.partitions; p++) {
			if (is_due(p) && flush() != 0)
				return -1;
			for (uint64_t i = 0; i < want.records; i++)
				if (append(p) != 0)
					return -1;
			if (want.pause_us > 0)
				(void)usleep((useconds_t)want.pause_us);
		}
	return flush();
}

/* ---- the topic ---- */

static int make_topic(void)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = str(want.topic), .partition_count = (uint32_t)want.partitions}};
	struct shmeta_result result;

	if (shmeta_write(client, &op, 1, TIMEOUT_MS, &result, NULL) != SHMETA_OK)
		return failed("creating the topic");
	if (result.status == SHMETA_OK || result.status == SHMETA_ERR_ALREADY_EXISTS)
		return 0;
	(void)fprintf(stderr, "creating the topic: %s\n", result.text);
	return -1;
}

/* Each partition goes on where the source says that it ends. */
static int find_ends(void)
{
	const struct shmeta_read read = {.size = sizeof read,
	                                 .consistency = SHMETA_SOURCE,
	                                 .timeout_ms = TIMEOUT_MS,
	                                 .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_reader *reader;
	struct shmeta_topic topic;
	int bad = 0;

	if (shmeta_reader_new(instance, &reader) != SHMETA_OK || shmeta_begin(reader) != SHMETA_OK)
		return failed("reading");
	if (shmeta_get_topic(reader, want.topic, strlen(want.topic), &read, &topic, NULL) != SHMETA_OK)
		bad = failed("reading the topic");
	for (uint32_t p = 0; !bad && p < want.partitions; p++) {
		struct shmeta_partition partition;

		if (shmeta_get_partition_named(reader, want.topic, strlen(want.topic), p, NULL, &partition, NULL) !=
		    SHMETA_OK)
			bad = failed("reading a partition");
		else
			run[p].next = partition.high_watermark;
	}
	(void)shmeta_end(reader);
	shmeta_reader_free(reader);
	return bad ? -1 : 0;
}

/* ---- command line ---- */

static int option(const char *word)
{
	static const struct {
		const char *name;
		uint64_t *value, least, most;
	} numbers[] = {
		{"partitions=", &want.partitions, 1, 100000}, {"batches=", &want.batches, 0, 1000000},
		{"records=", &want.records, 1, 100000},       {"pause_us=", &want.pause_us, 0, 999999},
		{"window_ms=", &want.window_ms, 1, 60000},    {"object_bytes=", &want.object_bytes, 1, 1 << 30},
	};
	char *end;

	if (strncmp(word, "topic=", 6) == 0 && word[6] != '\0' && strlen(word + 6) < NAME_BYTES_MAX) {
		want.topic = word + 6;
		return 0;
	}
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		size_t bytes = strlen(numbers[i].name);
		unsigned long long value;

		if (strncmp(word, numbers[i].name, bytes) != 0)
			continue;
		value = strtoull(word + bytes, &end, 10);
		if (end == word + bytes || *end != '\0' || value < numbers[i].least || value > numbers[i].most)
			break;
		*numbers[i].value = value;
		return 0;
	}
	(void)fprintf(stderr, "'%s': no such option, or not such a value; see the beginning of the source\n", word);
	return -1;
}

static int make_directories(void)
{
	static const char *const parts[] = {"", "/objects", "/objects/cross"};
	char path[4096];

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if ((size_t)snprintf(path, sizeof path, "%s%s", directory, parts[i]) >= sizeof path)
			return -1;
		if (mkdir(path, 0755) != 0 && errno != EEXIST)
			return perror(path), -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct shmeta_options options = {.size = sizeof options, .agent = "cross_partition_writer"};
	char why[480] = "";
	int bad;

	options.error = why;
	options.error_bytes = sizeof why;
	for (; argc > 1 && strchr(argv[1], '=') != NULL; argc--, argv++)
		if (option(argv[1]) != 0)
			return 2;
	if (argc != 3) {
		(void)fprintf(stderr,
		              "usage: cross_partition_writer [OPTION=VALUE ...] INSTANCE_DIRECTORY OBJECT_DIRECTORY\n");
		return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	options.directory = argv[1];
	directory = argv[2];
	run = calloc(want.partitions, sizeof *run);
	gathered = calloc(want.partitions, sizeof *gathered);
	if (run == NULL || gathered == NULL || make_directories() != 0)
		return 1;
	if (shmeta_open(&options, &instance) != SHMETA_OK)
		return (void)fprintf(stderr, "%s\n", why), 1;
	if (shmeta_client_open(instance, NULL, &client) != SHMETA_OK)
		return (void)fprintf(stderr, "%s\n", shmeta_last_error(instance, why, sizeof why)), 1;
	bad = make_topic() != 0 || find_ends() != 0 || produce() != 0;
	(void)printf("%llu objects with %llu slices, %llu records, %llu bytes, %llu slices refused\n",
	             (unsigned long long)done.objects, (unsigned long long)done.slices,
	             (unsigned long long)done.records, (unsigned long long)done.bytes,
	             (unsigned long long)done.refused);
	if (done.slices > 0)
		(void)printf("%.1f %% of the PUTs saved: %llu instead of %llu\n",
		             100.0 - 100.0 * (double)done.objects / (double)done.slices,
		             (unsigned long long)done.objects, (unsigned long long)done.slices);
	for (uint64_t p = 0; p < want.partitions; p++)
		free(run[p].bytes);
	free(run);
	free(gathered);
	shmeta_client_close(client);
	shmeta_close(instance);
	return bad || done.refused > 0 ? 1 : 0;
}
