/* SPDX-License-Identifier: Apache-2.0
 * `make demo`: a generated database, what the readers share, and the readers. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/demo/driver.h"

void demo_make_work(void)
{
	static const char *const places[] = {"/dev/shm", "/tmp"};
	ssize_t n = readlink("/proc/self/exe", driver.bin, sizeof(driver.bin) - 1);
	char *slash;

	driver.bin[n > 0 ? n : 0] = '\0';
	slash = strrchr(driver.bin, '/');
	if (slash != NULL)
		*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		(void)snprintf(driver.work, sizeof(driver.work), "%s/shmeta-demo-XXXXXX", places[i]);
		if (mkdtemp(driver.work) != NULL)
			return;
	}
	driver.work[0] = '\0';
	demo_give_up("no place for temporary files: %s", strerror(errno));
}

uint64_t demo_generate(void)
{
	char topics[16], partitions[16], segments[16], path[PATH_MAX + 16];
	char *argv[] = {(char *)"shmeta-gen",
	                (char *)"--topics",
	                topics,
	                (char *)"--partitions",
	                partitions,
	                (char *)"--segments",
	                segments,
	                (char *)"--seed",
	                (char *)"42",
	                path,
	                NULL};
	uint64_t began = demo_now_ns();
	struct stat st;
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)snprintf(topics, sizeof(topics), "%" PRIu32, driver.size.topics);
	(void)snprintf(partitions, sizeof(partitions), "%" PRIu32, driver.size.partitions);
	(void)snprintf(segments, sizeof(segments), "%" PRIu32, driver.size.segments);
	(void)snprintf(path, sizeof(path), "%s/metadata.db", driver.work);
	if (demo_finish(demo_start(argv, -1, fd, -1)) != 0)
		demo_give_up("the generator failed");
	(void)close(fd);
	if (stat(path, &st) != 0)
		demo_give_up("%s: %s", path, strerror(errno));
	demo_fact("SQLite file", "%.1f MiB, written in %.1f s", (double)st.st_size / 1048576,
	          (double)(demo_now_ns() - began) / 1e9);
	return (uint64_t)st.st_size;
}

void demo_map_shared(void)
{
	char path[PATH_MAX + 16];
	sqlite3 *db = NULL;
	sqlite3_stmt *statement = NULL;
	uint32_t topics = 0, partitions = 0, last = UINT32_MAX;
	size_t bytes = sizeof(struct demo_shared) + sizeof(struct demo_topic) * (driver.size.topics + 1) +
	               sizeof(struct demo_partition) * (driver.size.partitions + 1);

	driver.shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (driver.shared == MAP_FAILED) {
		driver.shared = NULL;
		demo_give_up("mmap: %s", strerror(errno));
	}
	driver.shared->topic = (struct demo_topic *)(driver.shared + 1);
	driver.shared->partition = (struct demo_partition *)(driver.shared->topic + driver.size.topics + 1);
	(void)snprintf(path, sizeof(path), "%s/metadata.db", driver.work);
	(void)snprintf(driver.shared->database, sizeof(driver.shared->database), "%s", path);
	(void)snprintf(driver.shared->instance, sizeof(driver.shared->instance), "%s/instance", driver.work);
	if (mkdir(driver.shared->instance, 0755) != 0)
		demo_give_up("%s: %s", driver.shared->instance, strerror(errno));
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(
		    db, "SELECT topic, partition_id, high_watermark FROM partitions ORDER BY topic, partition_id", -1,
		    &statement, NULL) != SQLITE_OK)
		demo_give_up("%s: %s", path, sqlite3_errmsg(db));
	while (sqlite3_step(statement) == SQLITE_ROW && partitions < driver.size.partitions) {
		const char *name = (const char *)sqlite3_column_text(statement, 0);

		if (last == UINT32_MAX || strcmp(driver.shared->topic[last].name, name) != 0) {
			if (topics == driver.size.topics)
				break;
			last = topics++;
			(void)snprintf(driver.shared->topic[last].name, NAME_BYTES, "%s", name);
		}
		driver.shared->partition[partitions].topic = last;
		driver.shared->partition[partitions].id = (uint32_t)sqlite3_column_int64(statement, 1);
		atomic_store(&driver.shared->partition[partitions].high_watermark,
		             (uint64_t)sqlite3_column_int64(statement, 2));
		partitions++;
	}
	(void)sqlite3_finalize(statement);
	(void)sqlite3_close(db);
	if (partitions == 0)
		demo_give_up("%s holds no partitions", path);
	driver.shared->topic_count = topics;
	driver.shared->partition_count = partitions;
}

void demo_start_readers(void)
{
	pid_t parent = getpid();

	(void)fflush(NULL);
	for (uint32_t i = 0; i < READERS; i++) {
		driver.readers[i] = fork();
		if (driver.readers[i] < 0)
			demo_give_up("fork: %s", strerror(errno));
		if (driver.readers[i] == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			demo_read(driver.shared, i);
		}
	}
	for (int i = 0; i < READERS; i++)
		while (atomic_load(&driver.shared->reader[i].ready) == 0) {
			demo_reap_readers();
			demo_pause_ms(1);
		}
}
