/* SPDX-License-Identifier: Apache-2.0
 * n reader processes at a time, without and with a committing writer. */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/churn.h"

enum { MAX_READERS = 64 };

struct shared {
	_Atomic int ready, go, stop;
	struct {
		_Alignas(128) uint64_t lookups;
		uint64_t failed;
		double cpu_s;
	} reader[MAX_READERS];
};

static void reader_process(const struct bench *b, struct shared *shared, int me)
{
	struct shmeta *instance = env_open(b->instance);
	struct shmeta_reader *reader = env_reader(instance);
	struct shmeta_handle *handle[HOT_PARTITIONS];
	uint64_t seed = b->seed + (uint64_t)me, offset[HOT_PARTITIONS], lookups = 0, failed = 0;
	struct shmeta_segment s;
	struct shmeta_freshness f;

	if (shmeta_begin(reader) != SHMETA_OK)
		_exit(1);
	for (int i = 0; i < HOT_PARTITIONS; i++) {
		const struct part *p = &b->parts[(uint64_t)i * b->part_count / HOT_PARTITIONS];

		if (shmeta_partition_open(reader, p->topic, strlen(p->topic), p->partition_id, &handle[i]) != SHMETA_OK)
			_exit(1);
		offset[i] = b->rows[p->first + rng(&seed) % p->count].base;
	}
	(void)shmeta_end(reader);
	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->go))
		(void)usleep(100);
	while (!atomic_load_explicit(&shared->stop, memory_order_relaxed))
		for (int i = 0; i < HOT_PARTITIONS; i++) {
			enum shmeta_status status = shmeta_begin(reader);

			if (status == SHMETA_OK) {
				status = shmeta_find_segment(handle[i], offset[i], NULL, &s, &f);
				(void)shmeta_end(reader);
			}
			failed += status != SHMETA_OK || s.base_offset != offset[i];
			lookups++;
		}
	shared->reader[me].lookups = lookups;
	shared->reader[me].failed = failed;
	_exit(0);
}

/* Nothing but snapshots. */
static void begin_process(const struct bench *b, struct shared *shared, int me)
{
	struct shmeta_reader *reader = env_reader(env_open(b->instance));
	uint64_t begins = 0, failed = 0;
	double start;

	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->go))
		(void)usleep(100);
	start = cpu_s();
	while (!atomic_load_explicit(&shared->stop, memory_order_relaxed))
		for (int i = 0; i < HOT_PARTITIONS; i++) {
			failed += shmeta_begin(reader) != SHMETA_OK;
			(void)shmeta_end(reader);
			begins++;
		}
	shared->reader[me].cpu_s = cpu_s() - start;
	shared->reader[me].lookups = begins;
	shared->reader[me].failed = failed;
	_exit(0);
}

typedef void process_fn(const struct bench *b, struct shared *shared, int me);

/* Lookups a second of all together; *ret_cpu_s: processor time of one, on average. */
static double run(const struct bench *b, process_fn *process, int readers, double seconds, double *ret_cpu_s)
{
	double cpu = 0;
	struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid[MAX_READERS];
	uint64_t lookups = 0, failed = 0;
	double start;

	if (shared == MAP_FAILED)
		die("out of memory");
	for (int i = 0; i < readers; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			process(b, shared, i);
		}
		env_track(pid[i]);
	}
	start = now_s();
	while (atomic_load(&shared->ready) < readers) {
		if (now_s() > start + 20)
			die("a reader process did not come up");
		(void)usleep(500);
	}
	start = now_s();
	atomic_store(&shared->go, 1);
	(void)usleep((useconds_t)(seconds * 1e6));
	atomic_store(&shared->stop, 1);
	seconds = now_s() - start;
	for (int i = 0; i < readers; i++)
		env_kill(&pid[i], 0); /* signal 0: only reap */
	for (int i = 0; i < readers; i++) {
		lookups += shared->reader[i].lookups;
		failed += shared->reader[i].failed;
		cpu += shared->reader[i].cpu_s;
	}
	(void)munmap(shared, sizeof *shared);
	if (failed != 0)
		die("%llu of %llu lookups failed with %d readers", (unsigned long long)failed,
		    (unsigned long long)lookups, readers);
	if (ret_cpu_s != NULL)
		*ret_cpu_s = cpu / (double)lookups;
	return (double)lookups / seconds;
}

static void begins(const struct bench *b, int readers, double seconds)
{
	char name[64];
	double cpu, rate = run(b, begin_process, readers, seconds, &cpu);

	(void)snprintf(name, sizeof name, "snapshot.begin_end.readers_%d", readers);
	result_value(result_add(name, "ns"), 1e9 / rate);
	result_cpu(result_add(name, "ns"), cpu * 1e9);
}

void bench_scale(struct bench *b)
{
	int cores = (int)sysconf(_SC_NPROCESSORS_ONLN), counts[16], n = 0;
	double seconds = b->quick ? 0.15 : 0.4;

	for (int c = 1; c < cores && c < MAX_READERS; c *= 2)
		counts[n++] = c;
	counts[n++] = cores < MAX_READERS ? cores : MAX_READERS;
	for (int round = 0; round < b->rounds; round++) {
		begins(b, 8, seconds);
		for (int committing = 0; committing < 2; committing++) {
			pid_t churn = committing ? churn_start(b, 1000) : 0;

			for (int i = 0; i < n; i++) {
				char name[64];

				(void)snprintf(name, sizeof name, "scale.readers_%d.%s", counts[i],
				               committing ? "committing" : "idle");
				result_value(result_add(name, "1/s"), run(b, reader_process, counts[i], seconds, NULL));
			}
			env_kill(&churn, SIGKILL);
		}
	}
	for (int i = 1; i < n; i++)
		for (int committing = 0; committing < 2; committing++) {
			char name[64], one[64];

			(void)snprintf(name, sizeof name, "scale.readers_%d.%s", counts[i],
			               committing ? "committing" : "idle");
			(void)snprintf(one, sizeof one, "scale.readers_1.%s", committing ? "committing" : "idle");
			target_min_ratio(name, 0.9 * counts[i], one);
		}
}
