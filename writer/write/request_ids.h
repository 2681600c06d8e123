/* SPDX-License-Identifier: Apache-2.0
 * Results of operations that were done, by request id: an operation that comes again is answered
 * with the first one's result. An id belongs to its user and tenant, and to one operation. All of
 * it is the engine's thread's, and ends with the process. */
#ifndef SHMETA_WRITER_WRITE_REQUEST_IDS_H
#define SHMETA_WRITER_WRITE_REQUEST_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"

/* Remembered at a time, of all users together. When there is no room, the user with the most loses
 * its oldest: with n users each keeps its newest REQUEST_IDS_MAX / n at least, whatever the others
 * do. More than 256 users share what the 257th would have. */
enum { REQUEST_IDS_MAX = 16384 };

/* An operation under its id. */
struct request {
	uint64_t id[2];             /* both 0: it has none */
	uint64_t tenant, operation; /* hashes */
	uint32_t uid;
	enum shmeta_op_type type;
};

struct request_ids;

/* NULL: no memory. */
struct request_ids *request_ids_new(void);
void request_ids_free(struct request_ids *ids);

/* encoded: the operation as shmeta__op_encode() writes it. object: of a slice, what its object's
 * hash is; otherwise 0. The id itself is not part of it. */
uint64_t request_operation_hash(const void *encoded, size_t bytes, uint64_t object);

static inline bool request_has_id(const struct request *request)
{
	return request->id[0] != 0 || request->id[1] != 0;
}

/* The same id, whatever the operation. */
bool request_same_id(const struct request *a, const struct request *b);
/* For hash tables. Nobody outside can choose ids that meet in it. */
uint64_t request_id_hash(const struct request_ids *ids, const struct request *request);

enum request_known {
	REQUEST_NEW,   /* nothing is known under the id */
	REQUEST_SAME,  /* this operation: it gets the first one's result */
	REQUEST_OTHER, /* another operation: this one is refused with ERR_CONFLICT */
};

/* *ret_result is written unless it is new. */
enum request_known request_ids_recall(const struct request_ids *ids, const struct request *request,
                                      struct shmeta_result *ret_result);
/* Refuse one whose id `first` has taken. */
void request_refuse(const struct request *first, struct shmeta_result *ret_result);
/* Without an id, or without memory, nothing is noted. */
void request_ids_note(struct request_ids *ids, const struct request *request, const struct shmeta_result *result);

#endif
