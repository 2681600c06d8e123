/* SPDX-License-Identifier: Apache-2.0
 * The snapshot hammer: a writer that commits as fast as it can, and reader processes that check, in
 * each snapshot, everything the store holds. What is moved between partitions is conserved, and
 * every topic carries the number of the commit that wrote it, so that a snapshot that mixes two
 * commits, or that shows recycled pages, cannot add up.
 *
 * The same hammer without pins and without grace must find something: otherwise it proves nothing.
 *
 * LMDB reuses the pages that were freed first, and the pinned readers keep many of those: what an
 * unregistered reader holds beyond its grace is overwritten only much later. So such a snapshot is
 * not found by its content; it must be told that it has expired. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "shm/record/record.h"
#include "shm/store/store.h"
#include "tests/support/run_daemon.h"
#include "writer/serve/registry.h"
#include "writer/serve/shares.h"

TestSuite(hammer, .timeout = 120);

enum {
	TOPICS = 16,
	PARTITIONS = 12,  /* of each topic                            */
	START = 40,       /* segments a partition begins with         */
	RANGE = 10,       /* offsets a segment                        */
	MOVES = 6,        /* segments moved by one commit             */
	PINNED = 6,       /* registered reader processes              */
	UNREGISTERED = 2, /* readers by grace rules                   */
	READERS = PINNED + UNREGISTERED
};
#define GRACE_NS 200000000u

struct shared {
	_Atomic int stop;
	_Atomic uint64_t snapshots, discarded, held;
	_Atomic uint64_t committed; /* by the writer */
	_Atomic int up;
	char why[READERS][160];
};

static struct run_daemon at; /* only its directory */
static struct shared *shared;

/* ---- readers ---- */

/* Everything in the snapshot; NULL, or what does not add up. */
static const char *check_all(struct shmeta_reader *reader, uint64_t *seed, int hold)
{
	static char why[160];
	struct shmeta_iter *topics = NULL;
	struct shmeta_topic topic;
	uint64_t retained = 0, seen = 0;
	int64_t commit = -1;
	enum shmeta_status status;

	if (shmeta_list_topics(reader, NULL, 0, 0, NULL, &topics) != SHMETA_OK)
		return "list_topics failed";
	while ((status = shmeta_next_topic(topics, &topic, NULL)) == SHMETA_OK) {
		struct shmeta_iter *partitions = NULL;
		struct shmeta_partition p;
		char name[SHMETA_NAME_MAX];
		size_t name_bytes = topic.name.bytes;

		memcpy(name, topic.name.data, name_bytes < sizeof name ? name_bytes : 0);
		if (commit == -1)
			commit = topic.updated_at_ms;
		if (topic.updated_at_ms != commit) {
			(void)snprintf(why, sizeof why, "two topics are of commits %lld and %lld", (long long)commit,
			               (long long)topic.updated_at_ms);
			return why;
		}
		if (hold && seen == TOPICS * PARTITIONS / 2)
			(void)usleep(3 * GRACE_NS / 1000);
		if (shmeta_list_partitions(reader, name, name_bytes, NULL, &partitions) != SHMETA_OK)
			return "list_partitions failed";
		while ((status = shmeta_next_partition(partitions, &p, NULL)) == SHMETA_OK) {
			struct shmeta_segment s = {.base_offset = 0};
			uint64_t offset;

			retained += p.high_watermark - p.log_start_offset;
			seen++;
			*seed = *seed * 6364136223846793005u + 1442695040888963407u;
			if (p.high_watermark == p.log_start_offset)
				continue;
			offset = p.log_start_offset + (*seed >> 33) % (p.high_watermark - p.log_start_offset);
			status = shmeta_find_segment_named(reader, name, name_bytes, p.partition_id, offset, NULL, &s,
			                                   NULL);
			if (status != SHMETA_OK || s.base_offset != offset / RANGE * RANGE ||
			    s.end_offset != s.base_offset + RANGE - 1 ||
			    s.size_bytes != s.base_offset * 7 + p.partition_id) {
				(void)snprintf(
					why, sizeof why, "%.*s/%u [%llu, %llu): offset %llu answers %d, %llu..%llu",
					(int)name_bytes, name, p.partition_id, (unsigned long long)p.log_start_offset,
					(unsigned long long)p.high_watermark, (unsigned long long)offset, (int)status,
					(unsigned long long)s.base_offset, (unsigned long long)s.end_offset);
				return why;
			}
		}
		shmeta_iter_free(partitions);
		if (status != SHMETA_END)
			return "a list of partitions broke off";
	}
	shmeta_iter_free(topics);
	if (status != SHMETA_END)
		return "the list of topics broke off";
	if (seen != TOPICS * PARTITIONS || retained != (uint64_t)TOPICS * PARTITIONS * START * RANGE) {
		(void)snprintf(why, sizeof why, "%llu partitions hold %llu offsets", (unsigned long long)seen,
		               (unsigned long long)retained);
		return why;
	}
	return NULL;
}

/* Was it held, without a pin, for longer than its pages are kept? */
static int outlived(struct shmeta_reader *reader, int held)
{
	struct shmeta_snapshot_info info;

	return held && shmeta_snapshot_info(reader, &info) == SHMETA_OK && !info.registered &&
	       atomic_load(&shared->committed) > info.txn;
}

static int reader_process(int me)
{
	int pinned = me < PINNED;
	struct shmeta *instance = NULL;
	struct shmeta_reader *reader = NULL;
	uint64_t seed = (uint64_t)me + 1;

	for (double end = run_now_s() + 20; instance == NULL && run_now_s() < end; (void)usleep(10000)) {
		struct shmeta_options o = {.size = sizeof o,
		                           .directory = at.instance,
		                           .agent = "hammer",
		                           .flags = pinned ? 0 : SHMETA_OPEN_UNREGISTERED};

		if (shmeta_open(&o, &instance) != SHMETA_OK)
			instance = NULL;
	}
	if (instance == NULL)
		return 2;
	if (pinned)
		reader = run_daemon_reader(instance);
	else if (shmeta_reader_new(instance, &reader) != SHMETA_OK)
		reader = NULL;
	if (reader == NULL)
		return 3;
	(void)atomic_fetch_add(&shared->up, 1);
	while (!atomic_load(&shared->stop)) {
		/* longer than grace: for who is not registered, in vain */
		int hold = (seed >> 40) % 64 == 0;
		int too_long;
		const char *why;

		if (run_daemon_begin(reader) != SHMETA_OK)
			return 4;
		why = check_all(reader, &seed, hold);
		too_long = outlived(reader, hold && why == NULL);
		if (shmeta_end(reader) == SHMETA_ERR_EXPIRED) {
			(void)atomic_fetch_add(&shared->discarded, 1);
			continue;
		}
		if (too_long)
			why = "a snapshot that outlived its grace has not expired";
		if (why != NULL) {
			(void)snprintf(shared->why[me], sizeof shared->why[me], "%s", why);
			return 5;
		}
		(void)atomic_fetch_add(&shared->snapshots, 1);
		(void)atomic_fetch_add(&shared->held, (uint64_t)hold);
	}
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return 0;
}

/* ---- the writer ---- */

struct server {
	struct registry *registry;
	int listener;
	_Atomic int stop;
	struct {
		int fd;
		struct registration *registration;
	} peer[64];
	int count;
};

static void answer(struct server *s, int i)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8];
	ssize_t got = recv(s->peer[i].fd, packet, sizeof packet, MSG_DONTWAIT);
	const struct shmeta_frame_register *request = (const void *)packet;
	struct registry_peer who = {.pid = getpid(), .uid = getuid(), .gid = getgid()};
	struct shmeta_err err = {.code = SHMETA_OK};
	int fd = -1;

	if (got <= 0) {
		if (s->peer[i].registration != NULL)
			registry_revoke(s->registry, s->peer[i].registration, shmeta__boottime_ns());
		(void)close(s->peer[i].fd);
		s->peer[i] = s->peer[--s->count];
		return;
	}
	if (shmeta__frame_check(packet, (size_t)got) == SHMETA_OK && request->head.type == SHMETA_FRAME_REGISTER &&
	    registry_add(s->registry, request, &who, s->peer[i].fd, 1024, SHARE_PERCENT, &fd, &s->peer[i].registration,
	                 &err) == SHMETA_OK) {
		struct shmeta_frame_registered reply = {.head = {.bytes = sizeof reply,
		                                                 .version = SHMETA_WIRE_VERSION,
		                                                 .type = SHMETA_FRAME_REGISTERED,
		                                                 .id = request->head.id},
		                                        .registration = registration_number(s->peer[i].registration),
		                                        .epoch = 1,
		                                        .slot_count = registration_slots(s->peer[i].registration)};
		struct iovec iov = {&reply, sizeof reply};
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(sizeof(int))];
		} control = {.bytes = {0}};
		struct msghdr m = {
			.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
		(void)sendmsg(s->peer[i].fd, &m, MSG_NOSIGNAL);
		(void)close(fd);
	}
}

static void *serve(void *arg)
{
	struct server *s = arg;

	while (!atomic_load(&s->stop)) {
		struct pollfd p[65] = {{.fd = s->listener, .events = POLLIN}};

		for (int i = 0; i < s->count; i++)
			p[i + 1] = (struct pollfd){.fd = s->peer[i].fd, .events = POLLIN};
		if (poll(p, (nfds_t)s->count + 1, 50) > 0) {
			for (int i = s->count - 1; i >= 0; i--)
				if (p[i + 1].revents != 0)
					answer(s, i);
			if (p[0].revents != 0 && s->count < 64) {
				int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

				if (fd >= 0) {
					s->peer[s->count].registration = NULL;
					s->peer[s->count++].fd = fd;
				}
			}
		}
		registry_sweep(s->registry, shmeta__boottime_ns());
	}
	return NULL;
}

struct model {
	struct {
		uint64_t first, next; /* offsets */
	} part[TOPICS][PARTITIONS];
	uint64_t seed;
};

static uint64_t pick(struct model *m, uint64_t n)
{
	m->seed = m->seed * 6364136223846793005u + 1442695040888963407u;
	return (m->seed >> 33) % n;
}

static struct shmeta_segment segment(uint64_t base, uint32_t partition)
{
	return (struct shmeta_segment){.base_offset = base,
	                               .end_offset = base + RANGE - 1,
	                               .record_count = RANGE,
	                               .size_bytes = base * 7 + partition,
	                               .partition_id = partition,
	                               .created_at_ms = 1,
	                               .id = {"i", 1},
	                               .s3_bucket = {"b", 1},
	                               .s3_key = {"k", 1}};
}

static enum shmeta_status put_topic(struct shmeta__txn *txn, uint32_t tenant, uint32_t id, int64_t commit,
                                    struct shmeta_err *err)
{
	char name[16], value[1024];
	uint8_t key[SHMETA_KEY_MAX];
	uint64_t integer = id;
	size_t key_bytes, bytes;
	struct shmeta_topic topic = {.updated_at_ms = commit, .partition_count = PARTITIONS, .topic_id = id};
	enum shmeta_status status;

	(void)snprintf(name, sizeof name, "topic-%02u", id);
	topic.name = (struct shmeta_str){name, strlen(name)};
	key_bytes = shmeta__name_key(key, tenant, name, strlen(name));
	bytes = shmeta__topic_encode(&topic, &(struct shmeta__stamps){.synced_at_ns = 1}, key, key_bytes, value,
	                             sizeof value);
	status = shmeta__put(txn, SHMETA_DB_NAMES, key, key_bytes, value, bytes, err);
	if (status == SHMETA_OK)
		status = shmeta__put(txn, SHMETA_DB_TOPICS, &integer, sizeof integer, key, key_bytes, err);
	shmeta__touch(txn, shmeta__touched_name(shmeta__name_hash(tenant, name, strlen(name))));
	return status;
}

/* Bring the stored partition to what the model says. */
static enum shmeta_status put_part(struct shmeta__txn *txn, const struct model *m, uint32_t id, uint32_t partition,
                                   struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(id, partition), first = m->part[id - 1][partition].first,
		 next = m->part[id - 1][partition].next, changed;
	struct shmeta__pager pager = shmeta__txn_pager(txn);
	struct shmeta__part_edit *edit = NULL;
	struct shmeta_segment *rows = calloc((next - first) / RANGE + 1, sizeof *rows);
	const void *head = NULL;
	size_t bytes = 0, count = 0;
	char name[16];
	enum shmeta_status status = shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, err);

	if (rows == NULL || (status != SHMETA_OK && status != SHMETA_ABSENT)) {
		free(rows);
		return status != SHMETA_OK && status != SHMETA_ABSENT ? status : SHMETA_ERR_NO_MEMORY;
	}
	if (status == SHMETA_ABSENT)
		head = NULL;
	(void)snprintf(name, sizeof name, "topic-%02u", id);
	for (uint64_t base = first; base < next; base += RANGE)
		rows[count++] = segment(base, partition);
	status = shmeta__part_edit_new(key, name, strlen(name), head, head != NULL ? bytes : 0, &pager, &edit, err);
	if (status == SHMETA_OK) {
		(void)shmeta__part_edit_record(edit, &(struct shmeta_partition){.high_watermark = next});
		shmeta__part_edit_stamp(edit, 1, 0);
		status = shmeta__part_edit_replace(edit, 0, INT64_MAX, rows, count, &changed, err);
	}
	if (status == SHMETA_OK)
		status = shmeta__part_edit_encode(edit, &head, &bytes, err);
	if (status == SHMETA_OK)
		status = shmeta__put(txn, SHMETA_DB_PARTS, &key, sizeof key, head, bytes, err);
	shmeta__part_edit_free(edit);
	shmeta__touch(txn, shmeta__touched_partition(id, partition));
	free(rows);
	return status;
}

static enum shmeta_status commit_one(struct shmeta__store *store, struct model *m, uint32_t tenant, int64_t number,
                                     int all, uint64_t oldest_pin, struct shmeta_err *err)
{
	struct shmeta__txn *txn = NULL;
	uint64_t done;
	enum shmeta_status status = shmeta__txn_begin(store, oldest_pin, &txn, err);

	for (uint32_t id = 1; status == SHMETA_OK && id <= TOPICS; id++)
		status = put_topic(txn, tenant, id, number, err);
	for (int i = 0; status == SHMETA_OK && i < (all ? TOPICS * PARTITIONS : MOVES); i++) {
		uint32_t gt = (uint32_t)pick(m, TOPICS), gp = (uint32_t)pick(m, PARTITIONS),
			 tt = (uint32_t)pick(m, TOPICS), tp = (uint32_t)pick(m, PARTITIONS);

		if (all) {
			status = put_part(txn, m, (uint32_t)i / PARTITIONS + 1, (uint32_t)i % PARTITIONS, err);
			continue;
		}
		if (m->part[tt][tp].next - m->part[tt][tp].first <= RANGE)
			continue;
		/* one drops its oldest segment, one gains a newest */
		m->part[tt][tp].first += RANGE;
		m->part[gt][gp].next += RANGE;
		status = put_part(txn, m, tt + 1, tp, err);
		if (status == SHMETA_OK)
			status = put_part(txn, m, gt + 1, gp, err);
	}
	if (status != SHMETA_OK) {
		shmeta__txn_abort(txn);
		return status;
	}
	return shmeta__txn_commit(txn, &done, err);
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof a.sun_path)
		return -1;
	memcpy(a.sun_path, path, strlen(path) + 1);
	return fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 64) == 0 ? fd : -1;
}

/* Returns how many readers found something; -1 when the hammer itself failed. */
static int hammer(double seconds, int honour_pins)
{
	struct model m = {.seed = 42};
	struct shmeta_err err = {.code = SHMETA_OK};
	struct shmeta_store_format format = {.format = SHMETA_STORE_FORMAT, .fingerprint = 1};
	struct server server = {.listener = -1};
	struct shmeta__store *store = NULL;
	struct shmeta__txn *txn = NULL;
	struct shmeta_board *board = NULL;
	pthread_t thread;
	pid_t pid[READERS];
	uint32_t tenant = 0;
	int64_t number = 1;
	int bad = 0;
	char path[128];
	double end, busy;
	int dir;

	cr_assert_eq(run_daemon_init(&at), 0);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(shared, MAP_FAILED);
	for (int i = 0; i < READERS; i++) {
		pid[i] = run_fork();
		if (pid[i] == 0)
			_exit(reader_process(i));
	}
	dir = open(at.instance, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(dir, 0);
	(void)snprintf(path, sizeof path, "%s/control.sock", at.instance);
	server.listener = listen_at(path);
	cr_assert_geq(server.listener, 0);
	cr_assert_eq(
		shmeta__store_create(dir, 1, (uint64_t)512 << 20, honour_pins ? GRACE_NS : 1, &format, &store, &err),
		SHMETA_OK, "%s", err.text);
	/* What the reader relies on is taken away: it believes in a grace period that nobody
	 * keeps. */
	if (!honour_pins)
		shmeta__store_generation(store)->grace_ns = (uint64_t)60000000000;
	for (int t = 0; t < TOPICS; t++)
		for (int p = 0; p < PARTITIONS; p++)
			m.part[t][p].next = START * RANGE;
	cr_assert_eq(shmeta__txn_begin(store, UINT64_MAX, &txn, &err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(shmeta__tenant(txn, SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT), 1, &tenant, &err),
	             SHMETA_OK);
	cr_assert_eq(shmeta__txn_commit(txn, &(uint64_t){0}, &err), SHMETA_OK);
	cr_assert_eq(commit_one(store, &m, tenant, number, 1, UINT64_MAX, &err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(shmeta__map_file(dir, "board", SHMETA_PAGE, 1, (void **)&board, &err), SHMETA_OK, "%s", err.text);
	shmeta__store_inode(store, &board->store_dev, &board->store_ino);
	board->incompat = SHMETA_BOARD_INCOMPAT_V1;
	board->board_bytes = sizeof *board;
	board->epoch = 1;
	board->phase = SHMETA_PHASE_SERVING;
	board->boot_offset_ns = shmeta__boot_offset_ns();
	board->heartbeat_ns = shmeta__boottime_ns();
	shmeta__store_generation(store)->boot_offset_ns = board->boot_offset_ns;
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		shmeta__store_generation(store)->stamp[cls] =
			(struct shmeta_stamp){.txn = 1,
		                              .synced_at_ns = shmeta__boottime_ns(),
		                              .ttl_ns = (uint64_t)60000000000,
		                              .changed_txn = 1};
	cr_assert_eq(registry_new(board, 1, GRACE_NS, &server.registry, &err), SHMETA_OK, "%s", err.text);
	cr_assert_eq(pthread_create(&thread, NULL, serve, &server), 0);
	shmeta_publish(&board->generation, 1);
	memcpy(board->signature, "SHMBOARD", 8);
	for (end = run_now_s() + 30; atomic_load(&shared->up) < READERS && run_now_s() < end; (void)usleep(10000))
		;
	busy = run_now_s();
	/* For the time given, and on a slow machine until enough has happened for the answer to
	 * mean something. */
	end = busy + seconds;
	while (run_now_s() < end || (honour_pins && run_now_s() < end + 40 &&
	                             (number <= 1000 || atomic_load(&shared->snapshots) <= 1000 ||
	                              atomic_load(&shared->held) == 0 || atomic_load(&shared->discarded) == 0))) {
		uint64_t pin = honour_pins ? registry_oldest_pin(server.registry, 1) : UINT64_MAX;

		cr_assert_eq(commit_one(store, &m, tenant, ++number, 0, pin, &err), SHMETA_OK, "%s", err.text);
		atomic_store(&shared->committed, shmeta_load(&shmeta__store_generation(store)->committed));
		if (number % 64 == 0) {
			int status;

			for (int i = 0; i < READERS; i++)
				if (pid[i] > 0 && waitpid(pid[i], &status, WNOHANG) == pid[i]) {
					pid[i] = 0;
					bad++;
				}
			if (bad > 0)
				break;
		}
	}
	busy = run_now_s() - busy;
	atomic_store(&shared->stop, 1);
	for (int i = 0; i < READERS; i++) {
		int status = pid[i] > 0 ? run_reap(pid[i]) : 0;

		if (status != 0) {
			bad++;
		}
	}
	for (int i = 0; i < READERS; i++)
		if (shared->why[i][0] != '\0')
			cr_log_info("reader %d: %s", i, shared->why[i]);
	atomic_store(&server.stop, 1);
	(void)pthread_join(thread, NULL);
	cr_log_info("%llu snapshots, %llu held for three grace periods, %llu discarded, %.0f commits/s",
	            (unsigned long long)atomic_load(&shared->snapshots), (unsigned long long)atomic_load(&shared->held),
	            (unsigned long long)atomic_load(&shared->discarded), (double)number / busy);
	if (honour_pins) {
		cr_expect_gt(atomic_load(&shared->snapshots), 1000u, "the readers hardly read");
		cr_expect_gt(atomic_load(&shared->held), 0u, "no snapshot was held for long");
		cr_expect_gt(atomic_load(&shared->discarded), 0u, "no snapshot outlived its grace");
		cr_expect_gt(number, 1000, "the writer hardly wrote");
	}
	registry_free(server.registry);
	for (int i = 0; i < server.count; i++)
		(void)close(server.peer[i].fd);
	(void)close(server.listener);
	shmeta__store_close(store);
	(void)munmap(board, SHMETA_PAGE);
	(void)close(dir);
	run_daemon_done(&at);
	(void)munmap(shared, sizeof *shared);
	return bad;
}

Test(hammer, no_snapshot_is_ever_torn_mixed_or_recycled_under_full_speed_commits)
{
	cr_assert_eq(hammer(6, 1), 0);
}

Test(hammer, without_pins_and_grace_the_same_hammer_finds_bad_snapshots)
{
	cr_assert_gt(hammer(30, 0), 0);
}
