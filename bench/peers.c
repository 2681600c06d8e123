/* SPDX-License-Identifier: Apache-2.0
 * The same lookups by the programs that people use today: SQLite in process, PostgreSQL, Redis and
 * memcached on Unix sockets, and the in-process cache of the kind StreamHouse has (reader-writer
 * lock, LRU, a clone for each hit).
 * Servers are started here, in the work directory, and ended by their process ids. One that is not
 * installed is reported as missing, never as passed. */
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/server.h"

enum { QUERIES = 1024 };

struct ask {
	const struct part *part;
	uint64_t offset, base;
};

static struct ask asks[QUERIES];

static void choose(const struct bench *b)
{
	uint64_t seed = b->seed ^ 0x5eed;

	for (int i = 0; i < QUERIES; i++) {
		const struct part *p =
			&b->parts[(uint64_t)(rng(&seed) % HOT_PARTITIONS) * b->part_count / HOT_PARTITIONS];
		uint64_t row = p->first + rng(&seed) % p->count;

		asks[i] = (struct ask){.part = p, .offset = offset_in(b, p, row, &seed), .base = b->rows[row].base};
	}
}

/* Each peer: prepare once, then figure() per round: nanoseconds a lookup, wrong answers end the
 * run. */

static void wrong(const char *peer, const struct ask *a, const char *got)
{
	die("%s: %s/%u %llu answered %s, not %llu", peer, a->part->topic, a->part->partition_id,
	    (unsigned long long)a->offset, got, (unsigned long long)a->base);
}

static void check(const char *peer, const struct ask *a, const char *got)
{
	if (got == NULL || strtoull(got, NULL, 10) != a->base)
		wrong(peer, a, got != NULL ? got : "nothing");
}

/* ---- SQLite in process ---- */

static sqlite3 *sq;
static sqlite3_stmt *sq_find;

static void sqlite_prepare(const struct bench *b)
{
	if (sqlite3_open_v2(b->db, &sq, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_exec(sq, "PRAGMA mmap_size = 17179869184", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(
		    sq,
		    "SELECT base_offset, id, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at "
		    "FROM segments WHERE topic = ? AND partition_id = ? AND base_offset <= ? "
		    "ORDER BY base_offset DESC LIMIT 1",
		    -1, &sq_find, NULL) != SQLITE_OK)
		die("%s: %s", b->db, sqlite3_errmsg(sq));
}

static double sqlite_figure(void)
{
	double start = now_s();

	for (int i = 0; i < QUERIES; i++) {
		const struct ask *a = &asks[i];

		(void)sqlite3_bind_text(sq_find, 1, a->part->topic, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(sq_find, 2, a->part->partition_id);
		(void)sqlite3_bind_int64(sq_find, 3, (sqlite3_int64)a->offset);
		if (sqlite3_step(sq_find) != SQLITE_ROW || (uint64_t)sqlite3_column_int64(sq_find, 0) != a->base)
			wrong("sqlite", a, "something else");
		(void)sqlite3_reset(sq_find);
	}
	return (now_s() - start) * 1e9 / QUERIES;
}

/* ---- programs on Unix sockets ---- */

static bool installed(const char *program)
{
	char path[300];
	const char *dirs[] = {"/usr/bin", "/usr/sbin", "/usr/local/bin"};

	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", dirs[i], program);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static int connect_to(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	double end = now_s() + 10;

	(void)snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
	while (now_s() < end) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0)
			return fd;
		(void)close(fd);
		(void)usleep(10000);
	}
	return -1;
}

static void send_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

		if (sent < 0)
			die("a peer's socket: %s", strerror(errno));
		bytes += sent;
		n -= (size_t)sent;
	}
}

/* Reads until `end` terminates what was received; returns its length. */
static size_t receive_until(int fd, char *buffer, size_t room, const char *end)
{
	size_t n = 0, e = strlen(end);

	for (;;) {
		ssize_t got = recv(fd, buffer + n, room - 1 - n, 0);

		if (got <= 0)
			die("a peer closed its socket");
		n += (size_t)got;
		buffer[n] = '\0';
		if (n >= e && memcmp(buffer + n - e, end, e) == 0)
			return n;
		if (n == room - 1)
			die("a peer's answer is too long");
	}
}

static void receive_lines(int fd, size_t lines)
{
	char buffer[4096];

	while (lines > 0) {
		ssize_t got = recv(fd, buffer, sizeof buffer, 0);

		if (got <= 0)
			die("a peer closed its socket");
		for (ssize_t i = 0; i < got && lines > 0; i++)
			lines -= buffer[i] == '\n';
	}
}

static int redis = -1, memcached = -1;

static bool redis_prepare(const struct bench *b)
{
	char sock[320], log[320], *command = NULL;
	size_t size = 0, sent = 0;

	if (!installed("redis-server"))
		return false;
	(void)snprintf(sock, sizeof sock, "%s/redis.sock", b->dir);
	(void)snprintf(log, sizeof log, "%s/redis.log", b->dir);
	(void)env_spawn((char *const[]){"redis-server", "--port", "0", "--unixsocket", sock, "--save", "",
	                                "--appendonly", "no", "--dir", (char *)b->dir, NULL},
	                log);
	redis = connect_to(sock);
	if (redis < 0)
		return false;
	/* One sorted set a hot partition: score = base, member = the record. */
	for (int h = 0; h < HOT_PARTITIONS; h++) {
		const struct part *p = &b->parts[(uint64_t)h * b->part_count / HOT_PARTITIONS];

		for (uint32_t i = 0; i < p->count; i++) {
			const struct flat_row *row = &b->rows[p->first + i];
			char key[96], score[32], member[160];
			FILE *f = open_memstream(&command, &size);

			(void)snprintf(key, sizeof key, "%s/%u", p->topic, p->partition_id);
			(void)snprintf(score, sizeof score, "%llu", (unsigned long long)row->base);
			(void)snprintf(member, sizeof member, "%llu %llu %u %llu streamhouse data/%s/%u/%020llu.seg",
			               (unsigned long long)row->base, (unsigned long long)row->end, row->record_count,
			               (unsigned long long)row->size_bytes, p->topic, p->partition_id,
			               (unsigned long long)row->base);
			(void)fprintf(f, "*4\r\n$4\r\nZADD\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(key),
			              key, strlen(score), score, strlen(member), member);
			(void)fclose(f);
			send_all(redis, command, size);
			free(command);
			if (++sent % 64 == 0)
				receive_lines(redis, 64);
		}
	}
	receive_lines(redis, sent % 64);
	return true;
}

static double redis_figure(void)
{
	double start = now_s();

	for (int i = 0; i < QUERIES; i++) {
		const struct ask *a = &asks[i];
		char key[96], max[32], command[400], answer[1024], *line;
		int n;

		(void)snprintf(key, sizeof key, "%s/%u", a->part->topic, a->part->partition_id);
		(void)snprintf(max, sizeof max, "%llu", (unsigned long long)a->offset);
		n = snprintf(
			command, sizeof command,
			"*7\r\n$16\r\nZREVRANGEBYSCORE\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n$1\r\n0\r\n$5\r\nLIMIT\r\n$1\r\n0\r\n$1\r\n1\r\n",
			strlen(key), key, strlen(max), max);
		send_all(redis, command, (size_t)n);
		(void)receive_until(redis, answer, sizeof answer, ".seg\r\n");
		line = strchr(answer, '\n');
		line = line != NULL ? strchr(line + 1, '\n') : NULL;
		check("redis", a, line != NULL ? line + 1 : NULL);
	}
	return (now_s() - start) * 1e9 / QUERIES;
}

/* memcached has no ordered search: its client must already know the base. That is granted. */
static bool memcached_prepare(const struct bench *b)
{
	char sock[320], log[320], answer[64], *argv[12];
	int n = 0;

	if (!installed("memcached"))
		return false;
	(void)snprintf(sock, sizeof sock, "%s/memcached.sock", b->dir);
	(void)snprintf(log, sizeof log, "%s/memcached.log", b->dir);
	argv[n++] = "memcached";
	argv[n++] = "-s";
	argv[n++] = sock;
	argv[n++] = "-m";
	argv[n++] = "256";
	if (getuid() == 0) {
		argv[n++] = "-u";
		argv[n++] = "root";
	}
	argv[n] = NULL;
	(void)env_spawn(argv, log);
	memcached = connect_to(sock);
	if (memcached < 0)
		return false;
	for (int i = 0; i < QUERIES; i++) {
		const struct ask *a = &asks[i];
		char value[200], command[500];
		int v = snprintf(value, sizeof value, "%llu streamhouse data/%s/%u/%020llu.seg",
		                 (unsigned long long)a->base, a->part->topic, a->part->partition_id,
		                 (unsigned long long)a->base);
		int c = snprintf(command, sizeof command, "set %s/%u/%llu 0 0 %d\r\n%s\r\n", a->part->topic,
		                 a->part->partition_id, (unsigned long long)a->base, v, value);

		send_all(memcached, command, (size_t)c);
		(void)receive_until(memcached, answer, sizeof answer, "STORED\r\n");
	}
	return true;
}

static double memcached_figure(void)
{
	double start = now_s();

	for (int i = 0; i < QUERIES; i++) {
		const struct ask *a = &asks[i];
		char command[300], answer[600], *line;
		int n = snprintf(command, sizeof command, "get %s/%u/%llu\r\n", a->part->topic, a->part->partition_id,
		                 (unsigned long long)a->base);

		send_all(memcached, command, (size_t)n);
		(void)receive_until(memcached, answer, sizeof answer, "END\r\n");
		line = strchr(answer, '\n');
		check("memcached", a, line != NULL ? line + 1 : NULL);
	}
	return (now_s() - start) * 1e9 / QUERIES;
}

/* ---- PostgreSQL ---- */

static PGconn *pg;

static bool pg_prepare(const struct bench *b)
{
	PGresult *res;

	pg = server_connect(b, "peer");
	if (pg == NULL)
		return false;
	res = PQexec(
		pg,
		"CREATE TABLE segments(id text primary key, topic text, partition_id int, base_offset bigint, end_offset "
		"bigint, record_count int, size_bytes bigint, s3_bucket text, s3_key text, created_at bigint);"
		"COPY segments FROM STDIN");
	if (PQresultStatus(res) != PGRES_COPY_IN)
		die("PostgreSQL: %s", PQerrorMessage(pg));
	PQclear(res);
	for (int h = 0; h < HOT_PARTITIONS; h++) {
		const struct part *p = &b->parts[(uint64_t)h * b->part_count / HOT_PARTITIONS];

		for (uint32_t i = 0; i < p->count; i++) {
			const struct flat_row *row = &b->rows[p->first + i];
			char line[500];
			int n = snprintf(
				line, sizeof line,
				"%s-%u-%llu\t%s\t%u\t%llu\t%llu\t%u\t%llu\tstreamhouse\tdata/%s/%u/%020llu.seg\t%lld\n",
				p->topic, p->partition_id, (unsigned long long)row->base, p->topic, p->partition_id,
				(unsigned long long)row->base, (unsigned long long)row->end, row->record_count,
				(unsigned long long)row->size_bytes, p->topic, p->partition_id,
				(unsigned long long)row->base, (long long)row->created_at_ms);

			if (PQputCopyData(pg, line, n) != 1)
				die("PostgreSQL: %s", PQerrorMessage(pg));
		}
	}
	(void)PQputCopyEnd(pg, NULL);
	while ((res = PQgetResult(pg)) != NULL)
		PQclear(res);
	PQclear(PQexec(pg, "CREATE UNIQUE INDEX ON segments(topic, partition_id, base_offset); ANALYZE segments"));
	res = PQprepare(
		pg, "find",
		"SELECT base_offset, id, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at FROM segments "
		"WHERE topic = $1 AND partition_id = $2::int AND base_offset <= $3::bigint ORDER BY base_offset DESC LIMIT 1",
		3, NULL);
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		die("PostgreSQL: %s", PQerrorMessage(pg));
	PQclear(res);
	return true;
}

static double pg_figure(void)
{
	double start = now_s();

	for (int i = 0; i < QUERIES; i++) {
		const struct ask *a = &asks[i];
		char partition[16], offset[32];
		const char *values[3] = {a->part->topic, partition, offset};
		PGresult *res;

		(void)snprintf(partition, sizeof partition, "%u", a->part->partition_id);
		(void)snprintf(offset, sizeof offset, "%llu", (unsigned long long)a->offset);
		res = PQexecPrepared(pg, "find", 3, values, NULL, NULL, 0);
		check("postgres", a, PQntuples(res) == 1 ? PQgetvalue(res, 0, 0) : NULL);
		PQclear(res);
	}
	return (now_s() - start) * 1e9 / QUERIES;
}

/* ---- the in-process cache: one lock, LRU order moved on each hit, a clone handed out ---- */

struct lru_topic {
	struct lru_topic *next, *prev, *chain;
	char *name;
	char *config[4][2];
	int64_t created_at, retention;
	uint32_t partitions;
};
enum { LRU_BUCKETS = 16384 };
static struct {
	pthread_rwlock_t lock;
	struct lru_topic *bucket[LRU_BUCKETS], head;
} lru = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static uint32_t lru_hash(const char *name)
{
	uint32_t h = 2166136261u;

	while (*name != '\0')
		h = (h ^ (uint8_t)*name++) * 16777619u;
	return h % LRU_BUCKETS;
}

static void lru_free(struct lru_topic *t)
{
	for (int i = 0; i < 4; i++) {
		free(t->config[i][0]);
		free(t->config[i][1]);
	}
	free(t->name);
	free(t);
}

static struct lru_topic *lru_clone(const struct lru_topic *from)
{
	struct lru_topic *t = malloc(sizeof *t);

	if (t == NULL)
		die("out of memory");
	*t = *from;
	t->name = strdup(from->name);
	for (int i = 0; i < 4; i++) {
		t->config[i][0] = strdup(from->config[i][0]);
		t->config[i][1] = strdup(from->config[i][1]);
	}
	return t;
}

static void lru_prepare(const struct bench *b)
{
	lru.head.next = lru.head.prev = &lru.head;
	for (uint32_t i = 0; i < b->part_count; i++) {
		const struct part *p = &b->parts[i];
		struct lru_topic **at = &lru.bucket[lru_hash(p->topic)], *t;

		if (i > 0 && strcmp(p->topic, p[-1].topic) == 0)
			continue;
		t = calloc(1, sizeof *t);
		if (t == NULL)
			die("out of memory");
		t->name = strdup(p->topic);
		for (int c = 0; c < 4; c++) {
			t->config[c][0] = strdup(c == 0   ? "cleanup.policy"
			                         : c == 1 ? "compression.type"
			                         : c == 2 ? "min.insync"
			                                  : "owner");
			t->config[c][1] = strdup("delete");
		}
		t->chain = *at;
		*at = t;
		t->next = lru.head.next;
		t->prev = &lru.head;
		t->next->prev = t->prev->next = t;
	}
}

static struct lru_topic *lru_get(const char *name)
{
	struct lru_topic *t, *clone = NULL;

	/* a hit moves the entry: StreamHouse takes the write lock too */
	(void)pthread_rwlock_wrlock(&lru.lock);
	for (t = lru.bucket[lru_hash(name)]; t != NULL && strcmp(t->name, name) != 0; t = t->chain)
		;
	if (t != NULL) {
		t->next->prev = t->prev;
		t->prev->next = t->next;
		t->next = lru.head.next;
		t->prev = &lru.head;
		t->next->prev = t->prev->next = t;
		clone = lru_clone(t);
	}
	(void)pthread_rwlock_unlock(&lru.lock);
	return clone;
}

static void *lru_thread(void *lookups)
{
	for (uint64_t n = *(uint64_t *)lookups; n > 0; n--) {
		struct lru_topic *t = lru_get(asks[n % QUERIES].part->topic);

		keep(t);
		lru_free(t);
	}
	return NULL;
}

static double lru_figure(int threads)
{
	pthread_t thread[64];
	uint64_t lookups = 100000;
	double start = now_s();

	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, lru_thread, &lookups) != 0)
			die("no thread");
	for (int i = 0; i < threads; i++)
		(void)pthread_join(thread[i], NULL);
	return (now_s() - start) * 1e9 / (double)(lookups * (uint64_t)threads);
}

/* The same topics by our library, threads as processes would: each its own reader. */
static void *our_thread(void *instance)
{
	struct shmeta_reader *reader = env_reader(instance);
	struct shmeta_topic t;
	struct shmeta_freshness f;

	for (uint32_t n = 400000; n > 0; n--) {
		const char *name = asks[n % QUERIES].part->topic;

		if (shmeta_begin(reader) != SHMETA_OK ||
		    shmeta_get_topic(reader, name, strlen(name), NULL, &t, &f) != SHMETA_OK)
			die("get_topic %s failed", name);
		keep(&t);
		(void)shmeta_end(reader);
	}
	shmeta_reader_free(reader);
	return NULL;
}

static double our_figure(struct shmeta *instance, int threads)
{
	pthread_t thread[64];
	double start = now_s();

	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, our_thread, instance) != 0)
			die("no thread");
	for (int i = 0; i < threads; i++)
		(void)pthread_join(thread[i], NULL);
	return (now_s() - start) * 1e9 / (400000.0 * threads);
}

void bench_peers(struct bench *b)
{
	int cores = (int)sysconf(_SC_NPROCESSORS_ONLN) < 64 ? (int)sysconf(_SC_NPROCESSORS_ONLN) : 64;
	bool has_redis, has_memcached, has_pg;
	struct shmeta *instance = env_open(b->instance);
	char many[64], ours[64];

	choose(b);
	sqlite_prepare(b);
	lru_prepare(b);
	has_redis = redis_prepare(b);
	has_memcached = memcached_prepare(b);
	has_pg = pg_prepare(b);
	(void)snprintf(many, sizeof many, "peer.rwlock_lru.get_topic.threads_%d", cores);
	(void)snprintf(ours, sizeof ours, "get_topic.threads_%d", cores);
	for (int round = 0; round < b->rounds; round++) {
		result_value(result_add("peer.sqlite.find", "ns"), sqlite_figure());
		if (has_pg)
			result_value(result_add("peer.postgres.find", "ns"), pg_figure());
		if (has_redis)
			result_value(result_add("peer.redis.find", "ns"), redis_figure());
		if (has_memcached)
			result_value(result_add("peer.memcached.find", "ns"), memcached_figure());
		result_value(result_add("peer.rwlock_lru.get_topic", "ns"), lru_figure(1));
		result_value(result_add(many, "ns"), lru_figure(cores));
		result_value(result_add(ours, "ns"), our_figure(instance, cores));
	}
	if (!has_pg)
		result_missing("peer.postgres.find", "ns", "no PostgreSQL server could be started");
	if (!has_redis)
		result_missing("peer.redis.find", "ns", "no redis-server could be started");
	if (!has_memcached)
		result_missing("peer.memcached.find", "ns", "no memcached could be started");
	target_min_ratio("peer.sqlite.find", 50, "find_segment.name.hot");
	target_min_ratio("peer.postgres.find", 500, "find_segment.name.hot");
	target_min_ratio("peer.redis.find", 500, "find_segment.name.hot");
	target_min_ratio("peer.memcached.find", 500, "find_segment.name.hot");
	target_min_ratio("peer.rwlock_lru.get_topic", 3, "get_topic.hot");
	target_min_ratio(many, 3 * cores, ours);
	if (pg != NULL)
		PQfinish(pg);
	(void)sqlite3_finalize(sq_find);
	(void)sqlite3_close(sq);
	(void)close(redis);
	(void)close(memcached);
	shmeta_close(instance);
}
