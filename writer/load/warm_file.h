/* SPDX-License-Identifier: Apache-2.0
 * The snapshot file as bytes: chunks, each with a checksum over its place and its content, in a
 * file that replaces the former one as a whole or not at all. What the rows say is warm.h's.
 * docs/LAYOUT.md has the format. */
#ifndef SHMETA_WRITER_LOAD_WARM_FILE_H
#define SHMETA_WRITER_LOAD_WARM_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { WARM_VERSION = 1, WARM_CHUNK = 1 << 18, WARM_ROW_MAX = WARM_CHUNK / 2 };

/* A file being written. Zeroed: none. */
struct warm_out {
	int fd, dir_fd;
	char name[256], temporary[272]; /* in dir_fd */
	uint8_t *chunk;
	size_t used;
	uint32_t sequence;
	enum shmeta_status failed;
	struct shmeta_err err;
};
/* Begin the file that is to replace path. ERR_PERMISSION: its directory may be written by others.
 * Nothing of it is seen before warm_out_end(). */
enum shmeta_status warm_out_begin(struct warm_out *out, const char *path, struct shmeta_err *err);
/* One row of at most WARM_ROW_MAX bytes. What fails is kept until the end. */
void warm_out_row(struct warm_out *out, uint8_t kind, const void *row, size_t bytes);
/* keep: it is whole; synced, it takes the place of the former one. Otherwise, and when anything
 * failed, it goes. */
enum shmeta_status warm_out_end(struct warm_out *out, int keep, struct shmeta_err *err);

/* A file being read. Zeroed: none. */
struct warm_in {
	int fd;
	uint8_t *chunk;
	size_t used, at;
	uint32_t sequence;
};
/* ABSENT: there is none. ERR_PERMISSION: others may have written it. */
enum shmeta_status warm_in_begin(struct warm_in *in, const char *path, struct shmeta_err *err);
/* The next row; it lives until the next call. ERR_VERSION: another format. ERR_CORRUPT: cut off or
 * damaged. */
enum shmeta_status warm_in_row(struct warm_in *in, uint8_t *ret_kind, const uint8_t **ret_row, size_t *ret_bytes,
                               struct shmeta_err *err);
/* Is this all of the file? For the row that says it is the last. */
int warm_in_is_over(struct warm_in *in);
void warm_in_end(struct warm_in *in);

#endif
