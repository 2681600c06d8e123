/* SPDX-License-Identifier: Apache-2.0
 * Judging and mapping the board and the generation page; clocks. */
#include "shm/page/board.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum shmeta_status shmeta__board_check(const struct shmeta_board *copy, uint64_t file_bytes, struct shmeta_err *err)
{
	if (memcmp(copy->signature, "SHMBOARD", sizeof copy->signature) != 0)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "board: not a board of shmeta");
	if ((copy->incompat & ~(uint32_t)SHMETA_BOARD_INCOMPAT_KNOWN) != 0)
		return shmeta_fail(
			err, SHMETA_ERR_VERSION,
			"board: its writer (version %u.%u.%u) uses features 0x%x that this library (%s) does not "
			"know; upgrade the library",
			copy->writer_version >> 16, copy->writer_version >> 8 & 255, copy->writer_version & 255,
			copy->incompat & ~(uint32_t)SHMETA_BOARD_INCOMPAT_KNOWN, SHMETA_VERSION_STRING);
	if (copy->board_bytes < sizeof *copy || copy->board_bytes > file_bytes)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "board: says it has %u bytes, its file has %llu",
		                   copy->board_bytes, (unsigned long long)file_bytes);
	if (copy->phase > SHMETA_PHASE_STOPPED)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "board: phase %u is none", copy->phase);
	return SHMETA_OK;
}

enum shmeta_status shmeta__generation_check(const struct shmeta_generation *copy, uint64_t file_bytes,
                                            struct shmeta_err *err)
{
	if (memcmp(copy->signature, "SHMGENER", sizeof copy->signature) != 0)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "generation: not a generation page of shmeta");
	if ((copy->incompat & ~(uint32_t)SHMETA_GEN_INCOMPAT_KNOWN) != 0)
		return shmeta_fail(err, SHMETA_ERR_VERSION,
		                   "generation %llu: uses features 0x%x that this version (%s) does not know",
		                   (unsigned long long)copy->generation,
		                   copy->incompat & ~(uint32_t)SHMETA_GEN_INCOMPAT_KNOWN, SHMETA_VERSION_STRING);
	if (copy->touched_words != SHMETA_TOUCHED_WORDS || copy->touched_at < sizeof *copy ||
	    copy->touched_at % sizeof(uint64_t) != 0 || file_bytes < copy->touched_at ||
	    file_bytes - copy->touched_at < (uint64_t)copy->touched_words * sizeof(uint64_t))
		return shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                   "generation %llu: %u touched words at %u do not fit %llu bytes",
		                   (unsigned long long)copy->generation, copy->touched_words, copy->touched_at,
		                   (unsigned long long)file_bytes);
	if (copy->max_bytes == 0 || copy->max_bytes % SHMETA_PAGE != 0 || copy->max_bytes > (uint64_t)1 << 46)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "generation %llu: a map of %llu bytes cannot be",
		                   (unsigned long long)copy->generation, (unsigned long long)copy->max_bytes);
	return SHMETA_OK;
}

enum shmeta_status shmeta__data_check(uint64_t file_bytes, uint64_t last_page, uint32_t page_bytes,
                                      struct shmeta_err *err)
{
	if (last_page < file_bytes / page_bytes)
		return SHMETA_OK;
	return shmeta_fail(
		err, SHMETA_ERR_CORRUPT,
		"data.mdb: has %llu bytes, its newest commit has pages up to number %llu of %u bytes: it was cut "
		"off",
		(unsigned long long)file_bytes, (unsigned long long)last_page, page_bytes);
}

/* Remove a file that this call created but could not allocate, so that nobody finds it
 * incomplete. */
static enum shmeta_status allocate(int dir_fd, const char *name, int fd, uint64_t bytes, struct shmeta_err *err)
{
	int error = posix_fallocate(fd, 0, (off_t)bytes);

	if (error == 0)
		return SHMETA_OK;
	(void)unlinkat(dir_fd, name, 0);
	return shmeta_fail_errno(err, error, "%s: allocating %llu bytes", name, (unsigned long long)bytes);
}

enum shmeta_status shmeta__map_file(int dir_fd, const char *name, uint64_t bytes, int write, void **ret_map,
                                    struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_OK;
	int created = 0;
	struct stat st;
	void *map;
	/* A FIFO in its place is not waited for. */
	int fd = openat(dir_fd, name, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT && write) {
		fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
		created = fd >= 0;
	}
	if (fd < 0 && errno == ENOENT)
		return shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: does not exist; no writer has run here", name);
	if (fd < 0)
		return shmeta_fail_errno(err, errno, "%s: opening", name);
	/* The reading group relies on the mode, whatever the umask and the former mode. */
	if (write)
		(void)fchmod(fd, 0640);
	if (created)
		status = allocate(dir_fd, name, fd, bytes, err);
	if (status == SHMETA_OK && fstat(fd, &st) < 0)
		status = shmeta_fail_errno(err, errno, "%s: fstat", name);
	if (status == SHMETA_OK && !S_ISREG(st.st_mode))
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: is not a regular file", name);
	if (status == SHMETA_OK && (st.st_size < 0 || (uint64_t)st.st_size < bytes))
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: has %lld bytes where %llu belong", name,
		                     (long long)st.st_size, (unsigned long long)bytes);
	if (status != SHMETA_OK) {
		(void)close(fd);
		return status;
	}
	map = mmap(NULL, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		status = shmeta_fail_errno(err, errno, "%s: mapping %llu bytes", name, (unsigned long long)bytes);
	(void)close(fd);
	if (status == SHMETA_OK)
		*ret_map = map;
	return status;
}

int shmeta__late_class(const struct shmeta_generation *copy, uint64_t now_ns)
{
	/* A refresh is begun at 80 % of the time to live, and takes a while. */
	const uint64_t least = 2000000000u;

	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++) {
		const struct shmeta_stamp *stamp = &copy->stamp[cls];
		uint64_t ttl = shmeta_peek(&stamp->ttl_ns), at = shmeta_peek(&stamp->synced_at_ns);

		if (shmeta__stamp_is_unproved(at) && ttl <= UINT64_MAX / 2)
			return cls;
		if (ttl <= UINT64_MAX / 2 && now_ns > at && now_ns - at > ttl + ttl / 2 && now_ns - at - ttl > least)
			return cls;
	}
	return -1;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t = {0};

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t shmeta__boottime_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

uint64_t shmeta__coarse_boottime_ns(int64_t boot_offset_ns)
{
	return clock_ns(CLOCK_MONOTONIC_COARSE) + (uint64_t)boot_offset_ns;
}

int64_t shmeta__boot_offset_ns(void)
{
	return (int64_t)(clock_ns(CLOCK_BOOTTIME) - clock_ns(CLOCK_MONOTONIC));
}
