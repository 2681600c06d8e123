/* SPDX-License-Identifier: Apache-2.0
 * shmeta-gen: a StreamHouse-shaped SQLite database, the same one for the same options. For the
 * demo, the benchmark and whoever wants to try the daemon on something of size; it is not
 * installed.
 *
 * What it resembles: few topics are large and most are small; partitions of a topic differ; most
 * segments are named by StreamHouse's template, some (compacted, imported) are not; some logs start
 * above 0; a few have gaps and overlaps. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/streamhouse_schema.h"

enum { NAME_BYTES = 96, AGENTS = 16, GROUPS = 12, BUCKETS = 3 };

struct options {
	uint64_t seed, topics, partitions, segments, organizations;
	bool later, wal, quiet;
	const char *path;
};

static const char *const default_organization = "00000000-0000-0000-0000-000000000000";
static const int64_t epoch_ms = 1767225600000; /* 2026-01-01 */

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fputs("shmeta-gen: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* ---- numbers: splitmix64, so that a seed means the same everywhere ---- */

static uint64_t mix(uint64_t z)
{
	z += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint64_t next(uint64_t *state)
{
	return mix(*state += 0x9e3779b97f4a7c15u);
}

/* 0 <= x < 1 */
static double unit(uint64_t *state)
{
	return (double)(next(state) >> 11) * 0x1p-53;
}

/* Share `total` out by weight, at least `least` each; the sum is exact. */
static void share(const double *weights, uint64_t count, uint64_t total, uint64_t least, uint64_t *ret)
{
	double sum = 0, seen = 0;
	uint64_t given = 0, spare = total - least * count;

	for (uint64_t i = 0; i < count; i++)
		sum += weights[i];
	for (uint64_t i = 0; i < count; i++) {
		uint64_t until;

		seen += weights[i];
		until = i + 1 == count ? spare : (uint64_t)((double)spare * (seen / sum));
		if (until < given)
			until = given;
		if (until > spare)
			until = spare;
		ret[i] = least + until - given;
		given = until;
	}
}

/* ---- SQLite ---- */

static void run(sqlite3 *db, const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		die("%s: %.60s", sqlite3_errmsg(db), sql);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement;

	if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
		die("%s: %.60s", sqlite3_errmsg(db), sql);
	return statement;
}

static void text(sqlite3_stmt *statement, int at, const char *value, int bytes)
{
	sqlite3_bind_text(statement, at, value, bytes, SQLITE_STATIC);
}

static void step(sqlite3 *db, sqlite3_stmt *statement)
{
	if (sqlite3_step(statement) != SQLITE_DONE)
		die("%s", sqlite3_errmsg(db));
	sqlite3_reset(statement);
}

/* ---- writing ---- */

struct generator {
	const struct options *options;
	sqlite3 *db;
	sqlite3_stmt *topic, *partition, *segment, *lease, *offset;
	uint64_t written, told;
	bool terminal;
};

static void organization_id(uint64_t n, char out[40])
{
	snprintf(out, 40, "%08x-0000-4000-8000-0000%08x", (unsigned)n, (unsigned)mix(n));
}

static const char *organization_of(const struct generator *g, uint64_t topic, char out[40])
{
	uint64_t n = g->options->organizations > 1
	                     ? mix(g->options->seed ^ topic * 31) % (g->options->organizations + 2)
	                     : 0;

	/* the default one has the most */
	if (n == 0 || n >= g->options->organizations)
		return default_organization;
	organization_id(n, out);
	return out;
}

static void topic_name(uint64_t seed, uint64_t topic, char out[NAME_BYTES])
{
	static const char *const areas[] = {"orders",   "payments",           "clicks", "metrics",
	                                    "audit",    "iot.telemetry",      "logs",   "inventory",
	                                    "sessions", "cdc.public.accounts"};
	static const char *const places[] = {"eu", "us-east-1", "ap-south", "global"};
	uint64_t h = mix(seed ^ topic);

	switch (h % 4) {
	case 0:
		snprintf(out, NAME_BYTES, "%s-%05" PRIu64, areas[h / 4 % 10], topic);
		break;
	case 1:
		snprintf(out, NAME_BYTES, "%s.%s.%" PRIu64, places[h / 4 % 4], areas[h / 16 % 10], topic);
		break;
	case 2:
		snprintf(out, NAME_BYTES, "%s_%s_v%" PRIu64 "_%" PRIu64, areas[h / 4 % 10], places[h / 64 % 4],
		         h / 256 % 5, topic);
		break;
	default:
		snprintf(out, NAME_BYTES, "team-%02" PRIu64 "/%s/%" PRIu64, h / 4 % 40, areas[h / 256 % 10], topic);
		break;
	}
}

static const char hex[] = "0123456789abcdef";

static int put_uuid(char *out, uint64_t *state)
{
	static const char dashes[] = {8, 13, 18, 23};
	uint64_t bits = 0;
	int left = 0, at = 0;

	for (size_t i = 0; i < 36; i++) {
		if (i == (size_t)dashes[0] || i == (size_t)dashes[1] || i == (size_t)dashes[2] ||
		    i == (size_t)dashes[3]) {
			out[at++] = '-';
			continue;
		}
		if (left == 0) {
			bits = next(state);
			left = 16;
		}
		out[at++] = hex[bits & 15];
		bits >>= 4;
		left--;
	}
	return at;
}

/* Decimal, at least `width` digits: the row writer's hot spot, so not snprintf. */
static int put_number(char *out, uint64_t value, int width)
{
	char digits[20];
	int n = 0;

	do
		digits[n++] = (char)('0' + value % 10);
	while ((value /= 10) > 0 || n < width);
	for (int i = 0; i < n; i++)
		out[i] = digits[n - 1 - i];
	return n;
}

static int put_text(char *out, const char *value, size_t bytes)
{
	memcpy(out, value, bytes);
	return (int)bytes;
}

static void tell(struct generator *g)
{
	if (!g->terminal || g->written - g->told < 50000)
		return;
	g->told = g->written;
	printf("\r%" PRIu64 " of %" PRIu64 " segments", g->written, g->options->segments);
	fflush(stdout);
}

/* The segments of one partition; returns its high watermark. */
static uint64_t write_segments(struct generator *g, const char *organization, const char *name, uint64_t partition,
                               uint64_t count, uint64_t state)
{
	static const char *const buckets[BUCKETS] = {"streamhouse", "streamhouse-eu", "archive"};
	const struct options *options = g->options;
	size_t name_bytes = strlen(name);
	uint64_t kind = next(&state) % 100, base = 0, watermark = 0;
	/* steady: batches of one size; odd: none of its segments is named by the template */
	bool steady = kind < 30, odd = kind == 99;
	const char *bucket = buckets[kind < 90 ? 0 : kind < 97 ? 1 : 2];
	int64_t created = epoch_ms - (int64_t)(next(&state) % 86400000);
	sqlite3_stmt *row = g->segment;
	char id[192], key[224];

	if (kind % 5 == 0 && count > 0) /* retention has removed the front */
		base = next(&state) % 50 * 100000;
	text(row, 2, name, (int)name_bytes);
	sqlite3_bind_int64(row, 3, (int64_t)partition);
	text(row, 8, bucket, -1);
	if (options->later)
		text(row, 13, organization, -1);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t dice = next(&state), records = steady ? 1000 : 200 + dice % 1600, end, size;
		int bytes = 0, key_bytes = 0;

		if (dice % 1000 == 7)
			base += 1 + dice / 1000 % 5000; /* a gap */
		else if (dice % 5000 == 11 && i > 0)
			/* an overlap: a base is never there twice */
			base -= 50 < records ? 50 : records / 2;
		end = base + records - 1;
		size = records * (80 + dice / 4096 % 600);
		created += (int64_t)(1000 + dice / 65536 % 60000);
		if (odd || dice % 50 == 13) {
			bytes = put_uuid(id, &state);
			key_bytes = put_text(key, "compacted/", 10);
			key_bytes += put_text(key + key_bytes, id, (size_t)bytes);
			key_bytes += put_text(key + key_bytes, "/part-", 6);
			key_bytes += put_number(key + key_bytes, dice % 10000, 5);
			key_bytes += put_text(key + key_bytes, ".seg.zst", 8);
		} else {
			bytes = put_text(id, name, name_bytes);
			id[bytes++] = '-';
			bytes += put_number(id + bytes, partition, 1);
			id[bytes++] = '-';
			bytes += put_number(id + bytes, base, 1);
			key_bytes = put_text(key, "data/", 5);
			key_bytes += put_text(key + key_bytes, name, name_bytes);
			key[key_bytes++] = '/';
			key_bytes += put_number(key + key_bytes, partition, 1);
			key[key_bytes++] = '/';
			key_bytes += put_number(key + key_bytes, base, 20);
			key_bytes += put_text(key + key_bytes, ".seg", 4);
		}
		text(row, 1, id, bytes);
		sqlite3_bind_int64(row, 4, (int64_t)base);
		sqlite3_bind_int64(row, 5, (int64_t)end);
		sqlite3_bind_int64(row, 6, (int64_t)records);
		sqlite3_bind_int64(row, 7, (int64_t)size);
		text(row, 9, key, key_bytes);
		sqlite3_bind_int64(row, 10, created);
		if (options->later) {
			sqlite3_bind_int64(row, 11, created - (int64_t)(dice / 65536 % 60000));
			sqlite3_bind_int64(row, 12, created);
		}
		step(g->db, row);
		g->written++;
		base = end + 1;
		if (base > watermark)
			watermark = base;
	}
	tell(g);
	return watermark;
}

static void write_topic(struct generator *g, uint64_t topic, uint64_t partitions, const uint64_t *segments)
{
	const struct options *options = g->options;
	uint64_t state = mix(options->seed * 1000003 + topic), dice = next(&state);
	int64_t created = epoch_ms - (int64_t)(next(&state) % 31536000000);
	char name[NAME_BYTES], owned[40], agent[32], group[32];
	const char *organization = organization_of(g, topic, owned);

	topic_name(options->seed, topic, name);
	text(g->topic, 1, name, -1);
	sqlite3_bind_int64(g->topic, 2, (int64_t)partitions);
	if (dice % 3 == 0)
		sqlite3_bind_null(g->topic, 3);
	else
		sqlite3_bind_int64(g->topic, 3, (int64_t)(1 + dice % 30) * 86400000);
	sqlite3_bind_int64(g->topic, 4, created);
	text(g->topic, 5,
	     dice % 4 == 0   ? "{}"
	     : dice % 4 == 1 ? "{\"compression\":\"lz4\"}"
	     : dice % 4 == 2 ? "{\"cleanup.policy\":\"compact\",\"min.insync.replicas\":\"2\",\"owner\":\"platform\"}"
	                     : "{\"segment.bytes\":\"67108864\",\"schema\":\"avro\",\"compression\":\"zstd\"}",
	     -1);
	if (options->later) {
		text(g->topic, 6, dice % 4 == 2 ? "compact" : "delete", -1);
		text(g->topic, 7, organization, -1);
	}
	step(g->db, g->topic);
	for (uint64_t p = 0; p < partitions; p++) {
		uint64_t watermark = write_segments(g, organization, name, p, segments[p], mix(state ^ p));

		text(g->partition, 1, name, -1);
		sqlite3_bind_int64(g->partition, 2, (int64_t)p);
		sqlite3_bind_int64(g->partition, 3, (int64_t)watermark);
		sqlite3_bind_int64(g->partition, 4, created);
		sqlite3_bind_int64(g->partition, 5, epoch_ms);
		if (options->later)
			text(g->partition, 6, organization, -1);
		step(g->db, g->partition);
		if (mix(state + p) % 2 == 0)
			continue;
		snprintf(agent, sizeof agent, "agent-%02" PRIu64, mix(topic * 7919 + p) % AGENTS);
		text(g->lease, 1, name, -1);
		sqlite3_bind_int64(g->lease, 2, (int64_t)p);
		text(g->lease, 3, agent, -1);
		sqlite3_bind_int64(g->lease, 4, epoch_ms + 300000);
		sqlite3_bind_int64(g->lease, 5, epoch_ms);
		sqlite3_bind_int64(g->lease, 6, (int64_t)(1 + dice % 40));
		if (options->later)
			text(g->lease, 7, organization, -1);
		step(g->db, g->lease);
		/* groups are the default organization's */
		if (organization != default_organization)
			continue;
		snprintf(group, sizeof group, "group-%02" PRIu64, topic % GROUPS);
		text(g->offset, 1, group, -1);
		text(g->offset, 2, name, -1);
		sqlite3_bind_int64(g->offset, 3, (int64_t)p);
		sqlite3_bind_int64(g->offset, 4, (int64_t)(watermark - watermark / 10));
		sqlite3_bind_int64(g->offset, 5, epoch_ms);
		step(g->db, g->offset);
	}
}

static void write_people(struct generator *g)
{
	char sql[512], owned[40];

	for (int i = 0; i < AGENTS; i++) {
		snprintf(
			sql, sizeof sql,
			"INSERT INTO agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at, "
			"metadata) VALUES('agent-%02d', '10.0.%d.%d:9092', 'zone-%c', '%s', %" PRId64 ", %" PRId64
			", '{\"version\":\"0.1.0\"}')",
			i, i / 8, 10 + i, 'a' + i % 3, i % 4 == 0 ? "batch" : "online", epoch_ms, epoch_ms - 86400000);
		run(g->db, sql);
	}
	for (int i = 0; i < GROUPS; i++) {
		snprintf(sql, sizeof sql,
		         "INSERT INTO consumer_groups(group_id, created_at, updated_at) VALUES('group-%02d', %" PRId64
		         ", %" PRId64 ")",
		         i, epoch_ms - 86400000, epoch_ms - 86400000);
		run(g->db, sql);
	}
	for (uint64_t n = 1; n < g->options->organizations; n++) {
		organization_id(n, owned);
		snprintf(sql, sizeof sql,
		         "INSERT INTO organizations(id, name, slug) VALUES('%s', 'Organization %" PRIu64
		         "', 'org-%" PRIu64 "')",
		         owned, n, n);
		run(g->db, sql);
	}
}

static void generate(struct generator *g)
{
	const struct options *options = g->options;
	double *weights =
		calloc(options->partitions > options->topics ? options->partitions : options->topics, sizeof *weights);
	uint64_t *partitions = calloc(options->topics, sizeof *partitions);
	uint64_t *segments = calloc(options->partitions, sizeof *segments);
	uint64_t state = mix(options->seed), first = 0;

	if (weights == NULL || partitions == NULL || segments == NULL)
		die("out of memory");
	/* Zipf over topics; within that, partitions spread by a factor of 20. */
	for (uint64_t i = 0; i < options->topics; i++)
		weights[i] = 1.0 / pow((double)(mix(options->seed + i) % options->topics + 1), 0.7);
	share(weights, options->topics, options->partitions, 1, partitions);
	for (uint64_t i = 0; i < options->partitions; i++)
		weights[i] = exp(6.0 * unit(&state) * unit(&state));
	share(weights, options->partitions, options->segments, 0, segments);
	for (uint64_t i = 0; i < options->topics; i++) {
		if (partitions[i] > 100000)
			die("topic %" PRIu64 " would get %" PRIu64
			    " partitions; the limit is 100000: ask for more topics",
			    i, partitions[i]);
		write_topic(g, i, partitions[i], segments + first);
		first += partitions[i];
	}
	free(weights);
	free(partitions);
	free(segments);
}

/* The file is complete or it is not there. */
static void build(const struct options *options, const char *temporary)
{
	struct generator g = {.options = options, .terminal = !options->quiet && isatty(1)};
	bool later = options->later;

	if (sqlite3_open_v2(temporary, &g.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK)
		die("%s: %s", temporary, sqlite3_errmsg(g.db));
	/* Nothing needs to survive a crash: no journal, no fsync, parents are right by
	 * construction. */
	run(g.db,
	    "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA foreign_keys=OFF; "
	    "PRAGMA cache_size=-262144; PRAGMA threads=4; BEGIN");
	run(g.db, later ? STREAMHOUSE_LATER_TABLES : STREAMHOUSE_V01_TABLES);
	write_people(&g);
	g.topic = prepare(
		g.db, later ? "INSERT INTO topics(name, partition_count, retention_ms, created_at, updated_at, config, "
			      "cleanup_policy, organization_id) VALUES(?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7)"
			    : "INSERT INTO topics(name, partition_count, retention_ms, created_at, updated_at, config) "
			      "VALUES(?1, ?2, ?3, ?4, ?4, ?5)");
	g.partition = prepare(
		g.db, later ? "INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at, "
			      "organization_id) VALUES(?, ?, ?, ?, ?, ?)"
			    : "INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
			      "VALUES(?, ?, ?, ?, ?)");
	g.segment = prepare(
		g.db, later ? "INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, "
			      "size_bytes, s3_bucket, s3_key, created_at, min_timestamp, max_timestamp, "
			      "organization_id) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
			    : "INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, "
			      "size_bytes, s3_bucket, s3_key, created_at) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
	g.lease = prepare(
		g.db, later ? "INSERT INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, "
			      "acquired_at, epoch, organization_id) VALUES(?, ?, ?, ?, ?, ?, ?)"
			    : "INSERT INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, "
			      "acquired_at, epoch) VALUES(?, ?, ?, ?, ?, ?)");
	g.offset = prepare(
		g.db, "INSERT INTO consumer_offsets(group_id, topic, partition_id, committed_offset, committed_at) "
		      "VALUES(?, ?, ?, ?, ?)");
	generate(&g);
	sqlite3_finalize(g.topic);
	sqlite3_finalize(g.partition);
	sqlite3_finalize(g.segment);
	sqlite3_finalize(g.lease);
	sqlite3_finalize(g.offset);
	if (g.terminal)
		printf("\rbuilding indexes over %" PRIu64 " segments\n", g.written);
	run(g.db, later ? STREAMHOUSE_LATER_INDEXES : STREAMHOUSE_V01_INDEXES);
	run(g.db, "COMMIT");
	/* The header carries the mode; the first connection makes its log. */
	run(g.db, options->wal ? "PRAGMA locking_mode=NORMAL; PRAGMA journal_mode=WAL" : "PRAGMA journal_mode=DELETE");
	if (sqlite3_close(g.db) != SQLITE_OK)
		die("%s: %s", temporary, sqlite3_errmsg(g.db));
}

static uint64_t number(const char *option, const char *value, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (errno != 0 || *value < '0' || *value > '9' || *end != '\0' || n < least || n > most)
		die("--%s is '%.40s'; it must be a number from %" PRIu64 " to %" PRIu64, option, value, least, most);
	return n;
}

static void usage(FILE *out)
{
	fputs("usage: shmeta-gen [options] FILE\n"
	      "Write a StreamHouse-shaped SQLite database; the same options give the same rows.\n"
	      "  --seed N            default 1\n"
	      "  --topics N          default 1000\n"
	      "  --partitions N      of all topics together, default 10000\n"
	      "  --segments N        of all partitions together, default 1000000\n"
	      "  --shape v01|later   StreamHouse v0.1, or with organizations and timestamps; default v01\n"
	      "  --organizations N   shape later: topics are spread over so many; default 1\n"
	      "  --journal wal|delete  the file's journal mode; default wal\n"
	      "  --force             replace FILE\n"
	      "  --quiet             no progress\n",
	      out);
}

int main(int argc, char **argv)
{
	enum { SEED = 1, TOPICS, PARTITIONS, SEGMENTS, SHAPE, ORGANIZATIONS, JOURNAL, FORCE, QUIET, HELP };
	static const struct option long_options[] = {
		{"seed", required_argument, NULL, SEED},
		{"topics", required_argument, NULL, TOPICS},
		{"partitions", required_argument, NULL, PARTITIONS},
		{"segments", required_argument, NULL, SEGMENTS},
		{"shape", required_argument, NULL, SHAPE},
		{"organizations", required_argument, NULL, ORGANIZATIONS},
		{"journal", required_argument, NULL, JOURNAL},
		{"force", no_argument, NULL, FORCE},
		{"quiet", no_argument, NULL, QUIET},
		{"help", no_argument, NULL, HELP},
		{NULL, 0, NULL, 0},
	};
	struct options options = {
		.seed = 1, .topics = 1000, .partitions = 10000, .segments = 1000000, .organizations = 1, .wal = true};
	struct timespec begun, ended;
	bool force = false;
	struct stat st;
	char *temporary;
	int option;

	while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
		switch (option) {
		case SEED:
			options.seed = number("seed", optarg, 0, UINT64_MAX);
			break;
		case TOPICS:
			options.topics = number("topics", optarg, 1, 10000000);
			break;
		case PARTITIONS:
			options.partitions = number("partitions", optarg, 1, 100000000);
			break;
		case SEGMENTS:
			options.segments = number("segments", optarg, 0, 1000000000);
			break;
		case SHAPE:
			if (strcmp(optarg, "v01") != 0 && strcmp(optarg, "later") != 0)
				die("--shape is '%.40s'; it must be v01 or later", optarg);
			options.later = strcmp(optarg, "later") == 0;
			break;
		case ORGANIZATIONS:
			options.organizations = number("organizations", optarg, 1, 1000);
			break;
		case JOURNAL:
			if (strcmp(optarg, "wal") != 0 && strcmp(optarg, "delete") != 0)
				die("--journal is '%.40s'; it must be wal or delete", optarg);
			options.wal = strcmp(optarg, "wal") == 0;
			break;
		case FORCE:
			force = true;
			break;
		case QUIET:
			options.quiet = true;
			break;
		case HELP:
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	if (optind + 1 != argc) {
		usage(stderr);
		return 2;
	}
	options.path = argv[optind];
	if (options.partitions < options.topics)
		die("--partitions is %" PRIu64 "; %" PRIu64 " topics need at least one each", options.partitions,
		    options.topics);
	if (options.organizations > 1 && !options.later)
		die("--organizations needs --shape later");
	if (!force && stat(options.path, &st) == 0)
		die("%s exists; --force replaces it", options.path);
	if (asprintf(&temporary, "%s.new.%d", options.path, (int)getpid()) < 0)
		die("out of memory");
	clock_gettime(CLOCK_MONOTONIC, &begun);
	build(&options, temporary);
	if (rename(temporary, options.path) != 0)
		die("%s: %s", options.path, strerror(errno));
	free(temporary);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	if (!options.quiet && stat(options.path, &st) == 0)
		printf("%s: %" PRIu64 " topics, %" PRIu64 " partitions, %" PRIu64 " segments, %.1f MB, %.1f s\n",
		       options.path, options.topics, options.partitions, options.segments, (double)st.st_size / 1e6,
		       (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9);
	return 0;
}
