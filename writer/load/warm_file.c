/* SPDX-License-Identifier: Apache-2.0
 * Chunks of the snapshot file, and its place in the directory (warm_file.h). */
#include "writer/load/warm_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MAGIC "shmetaWF"

struct chunk_head {
	char magic[8];     /*  0                                                  */
	uint32_t version;  /*  8  WARM_VERSION                                    */
	uint32_t sequence; /* 12  of the chunk, from 0                            */
	uint32_t bytes;    /* 16  of rows that follow                             */
	uint32_t reserved; /* 20  0                                               */
	uint64_t checksum; /* 24  XXH3 of the rows, seeded with XXH3 of bytes 0-23 */
};
_Static_assert(sizeof(struct chunk_head) == 32, "frozen");

struct row_head {
	uint32_t bytes; /* behind this head */
	uint32_t kind;
};

static uint64_t checksum_of(const struct chunk_head *head, const uint8_t *rows)
{
	return XXH3_64bits_withSeed(rows, head->bytes, XXH3_64bits(head, offsetof(struct chunk_head, checksum)));
}

/* The directory of path, and the name in it. */
static enum shmeta_status open_directory(const char *path, int *ret_fd, const char **ret_name, struct shmeta_err *err)
{
	const char *slash = strrchr(path, '/');
	char directory[4096];
	struct stat st;

	*ret_name = slash != NULL ? slash + 1 : path;
	snprintf(directory, sizeof directory, "%.*s",
	         slash == NULL   ? 1
	         : slash == path ? 1
	                         : (int)(slash - path),
	         slash == NULL ? "." : path);
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return shmeta_fail_errno(err, errno, "%s", directory);
	if (fstat(fd, &st) < 0 || (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		close(fd);
		return shmeta_fail(err, SHMETA_ERR_PERMISSION,
		                   "%s: somebody else than the daemon's user may write in it", directory);
	}
	*ret_fd = fd;
	return SHMETA_OK;
}

static void out_failed(struct warm_out *out, enum shmeta_status status)
{
	if (out->failed == SHMETA_OK)
		out->failed = status;
}

static void write_all(struct warm_out *out, const void *bytes, size_t count)
{
	const uint8_t *p = bytes;

	while (count > 0 && out->failed == SHMETA_OK) {
		ssize_t n = write(out->fd, p, count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			out_failed(out, shmeta_fail_errno(&out->err, errno, "writing %s", out->temporary));
			return;
		}
		p += n;
		count -= (size_t)n;
	}
}

static void flush(struct warm_out *out)
{
	struct chunk_head head = {.magic = MAGIC, .version = WARM_VERSION, .sequence = out->sequence++};

	head.bytes = (uint32_t)out->used;
	head.checksum = checksum_of(&head, out->chunk);
	write_all(out, &head, sizeof head);
	write_all(out, out->chunk, out->used);
	out->used = 0;
}

enum shmeta_status warm_out_begin(struct warm_out *out, const char *path, struct shmeta_err *err)
{
	const char *name;

	*out = (struct warm_out){.fd = -1, .dir_fd = -1};
	enum shmeta_status status = open_directory(path, &out->dir_fd, &name, err);

	if (status != SHMETA_OK)
		return status;
	snprintf(out->name, sizeof out->name, "%s", name);
	snprintf(out->temporary, sizeof out->temporary, "%s.new", out->name);
	out->chunk = malloc(WARM_CHUNK);
	(void)unlinkat(out->dir_fd, out->temporary, 0); /* of a writer that was killed */
	if (out->chunk != NULL)
		out->fd =
			openat(out->dir_fd, out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out->fd >= 0)
		return SHMETA_OK;
	status = out->chunk == NULL ? shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory")
	                            : shmeta_fail_errno(err, errno, "creating %s.new", path);
	free(out->chunk);
	close(out->dir_fd);
	return status;
}

void warm_out_row(struct warm_out *out, uint8_t kind, const void *row, size_t bytes)
{
	const struct row_head head = {(uint32_t)bytes, kind};

	if (out->failed != SHMETA_OK)
		return;
	if (bytes > WARM_ROW_MAX) {
		out_failed(out, shmeta_fail(&out->err, SHMETA_ERR_INVALID_ARGUMENT, "a row of %zu bytes", bytes));
		return;
	}
	if (out->used + sizeof head + bytes > WARM_CHUNK)
		flush(out);
	memcpy(out->chunk + out->used, &head, sizeof head);
	memcpy(out->chunk + out->used + sizeof head, row, bytes);
	out->used += sizeof head + bytes;
}

enum shmeta_status warm_out_end(struct warm_out *out, int keep, struct shmeta_err *err)
{
	if (keep && out->failed == SHMETA_OK)
		flush(out);
	if (keep && out->failed == SHMETA_OK &&
	    (fsync(out->fd) < 0 || renameat(out->dir_fd, out->temporary, out->dir_fd, out->name) < 0 ||
	     fsync(out->dir_fd) < 0))
		out_failed(out, shmeta_fail_errno(&out->err, errno, "replacing %s", out->name));
	if (!keep || out->failed != SHMETA_OK)
		(void)unlinkat(out->dir_fd, out->temporary, 0);
	close(out->fd);
	close(out->dir_fd);
	free(out->chunk);
	if (out->failed != SHMETA_OK && err != NULL)
		*err = out->err;
	return out->failed;
}

enum shmeta_status warm_in_begin(struct warm_in *in, const char *path, struct shmeta_err *err)
{
	const char *name;
	struct stat st;
	int dir_fd;

	*in = (struct warm_in){.fd = -1};
	enum shmeta_status status = open_directory(path, &dir_fd, &name, err);

	if (status != SHMETA_OK)
		return status;
	in->fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int error = errno;

	close(dir_fd);
	if (in->fd < 0)
		return error == ENOENT ? SHMETA_ABSENT : shmeta_fail_errno(err, error, "%s", path);
	if (fstat(in->fd, &st) < 0)
		status = shmeta_fail_errno(err, errno, "%s", path);
	else if (!S_ISREG(st.st_mode))
		status = shmeta_fail(err, SHMETA_ERR_PERMISSION, "%s: is not a regular file", path);
	else if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		status = shmeta_fail(err, SHMETA_ERR_PERMISSION,
		                     "%s: somebody else than the daemon's user may have written it", path);
	else if ((in->chunk = malloc(WARM_CHUNK)) == NULL)
		status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	if (status != SHMETA_OK)
		warm_in_end(in);
	return status;
}

/* Fewer than count bytes: the file ends, or cannot be read. */
static size_t read_all(int fd, void *bytes, size_t count)
{
	size_t got = 0;

	while (got < count) {
		ssize_t n = read(fd, (uint8_t *)bytes + got, count - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

static enum shmeta_status next_chunk(struct warm_in *in, struct shmeta_err *err)
{
	struct chunk_head head;
	size_t got = read_all(in->fd, &head, sizeof head);

	if (got < sizeof head)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "it is cut off in chunk %u", in->sequence);
	if (memcmp(head.magic, MAGIC, sizeof head.magic) != 0)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "chunk %u does not begin like one", in->sequence);
	if (head.version != WARM_VERSION)
		return shmeta_fail(err, SHMETA_ERR_VERSION, "it has format %u, and this program reads format %d",
		                   head.version, WARM_VERSION);
	if (head.bytes > WARM_CHUNK || head.sequence != in->sequence)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "chunk %u has a damaged head", in->sequence);
	if (read_all(in->fd, in->chunk, head.bytes) < head.bytes)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "it is cut off in chunk %u", in->sequence);
	if (checksum_of(&head, in->chunk) != head.checksum)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "the checksum of chunk %u is wrong", in->sequence);
	in->used = head.bytes;
	in->at = 0;
	in->sequence++;
	return SHMETA_OK;
}

enum shmeta_status warm_in_row(struct warm_in *in, uint8_t *ret_kind, const uint8_t **ret_row, size_t *ret_bytes,
                               struct shmeta_err *err)
{
	struct row_head head;
	enum shmeta_status status = in->at == in->used ? next_chunk(in, err) : SHMETA_OK;

	if (status != SHMETA_OK)
		return status;
	if (in->used - in->at < sizeof head)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "chunk %u ends within a row", in->sequence - 1);
	memcpy(&head, in->chunk + in->at, sizeof head);
	if (head.bytes > in->used - in->at - sizeof head || head.kind > UINT8_MAX)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "chunk %u ends within a row", in->sequence - 1);
	*ret_kind = (uint8_t)head.kind;
	*ret_row = in->chunk + in->at + sizeof head;
	*ret_bytes = head.bytes;
	in->at += sizeof head + head.bytes;
	return SHMETA_OK;
}

int warm_in_is_over(struct warm_in *in)
{
	uint8_t byte;

	return in->at == in->used && read_all(in->fd, &byte, 1) == 0;
}

void warm_in_end(struct warm_in *in)
{
	if (in->fd >= 0)
		close(in->fd);
	free(in->chunk);
	*in = (struct warm_in){.fd = -1};
}
