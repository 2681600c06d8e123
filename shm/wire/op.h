/* SPDX-License-Identifier: Apache-2.0
 * Operations and results as they travel: the codec that both ends of the control socket share. Pure
 * and total: any bytes give either operations or ERR_PROTOCOL, and decoding never reads outside
 * them.
 *
 * An operation is struct shmeta_wire_op, its strings one after the other in the order of
 * string_bytes[], zeros up to a multiple of 8, and with HAS_TRACE its trace id. The last string of
 * REPLACE_SEGMENTS is its segments, the old ones first: each is struct shmeta_wire_segment, its
 * strings, zeros up to a multiple of 8. */
#ifndef SHMETA_SHM_WIRE_OP_H
#define SHMETA_SHM_WIRE_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "include/shmeta.h"
#include "shm/page/frozen.h"

enum shmeta_wire_string {
	SHMETA_WIRE_NAME,  /* topic                                          */
	SHMETA_WIRE_FENCE, /* fence.agent_id                                 */
	SHMETA_WIRE_ACTOR, /* agent_id or group_id                           */
	SHMETA_WIRE_OTHER, /* to_agent_id                                    */
	SHMETA_WIRE_A,     /* segment.id, agent.address, topic.cleanup_policy */
	SHMETA_WIRE_B,     /* s3_bucket, availability_zone                   */
	SHMETA_WIRE_C,     /* s3_key, agent_group                            */
	SHMETA_WIRE_MAP,   /* topic.config, agent.metadata, committed.metadata, replace's
                            * segments */
	SHMETA_WIRE_STRINGS
};
enum {
	SHMETA_WIRE_HAS_RETENTION = 1u << 0,
	SHMETA_WIRE_HAS_METADATA = 1u << 1,
	SHMETA_WIRE_HAS_TRACE = 1u << 2 /* its last SHMETA_TRACE_BYTES are its trace id */
};
enum { SHMETA_TRACE_BYTES = 16, SHMETA_TRACE_TEXT = 2 * SHMETA_TRACE_BYTES + 1 };

struct shmeta_wire_op {
	uint32_t bytes;         /*   0  of the whole operation, padding included             */
	uint16_t type;          /*   4  enum shmeta_op_type                                  */
	uint16_t flags;         /*   6  SHMETA_WIRE_HAS_*                                    */
	uint32_t partition_id;  /*   8                                                       */
	uint32_t count;         /*  12  partition_count, record_count, replace.old_count     */
	uint64_t request_id[2]; /*  16                                                       */
	uint64_t fence_epoch;   /*  32                                                       */
	uint64_t offset;        /*  40  offset, committed_offset, base_offset                */
	uint64_t end_offset;    /*  48                                                       */
	uint64_t size_bytes;    /*  56  size_bytes, replace.new_count                        */
	uint64_t position;      /*  64  position, transfer_id, replace.compaction_epoch      */
	int64_t time_ms[3];     /*  72  created_at, min and max timestamp; heartbeat, started; retention; duration */
	uint32_t string_bytes[SHMETA_WIRE_STRINGS]; /* 96                                     */
};
SHMETA_FROZEN(shmeta_wire_op, bytes, 0);
SHMETA_FROZEN(shmeta_wire_op, type, 4);
SHMETA_FROZEN(shmeta_wire_op, flags, 6);
SHMETA_FROZEN(shmeta_wire_op, partition_id, 8);
SHMETA_FROZEN(shmeta_wire_op, count, 12);
SHMETA_FROZEN(shmeta_wire_op, request_id, 16);
SHMETA_FROZEN(shmeta_wire_op, fence_epoch, 32);
SHMETA_FROZEN(shmeta_wire_op, offset, 40);
SHMETA_FROZEN(shmeta_wire_op, end_offset, 48);
SHMETA_FROZEN(shmeta_wire_op, size_bytes, 56);
SHMETA_FROZEN(shmeta_wire_op, position, 64);
SHMETA_FROZEN(shmeta_wire_op, time_ms, 72);
SHMETA_FROZEN(shmeta_wire_op, string_bytes, 96);
SHMETA_FROZEN_SIZE(shmeta_wire_op, 128);

struct shmeta_wire_segment {
	uint64_t base_offset;     /*  0                              */
	uint64_t end_offset;      /*  8                              */
	uint64_t size_bytes;      /* 16                              */
	uint64_t position;        /* 24                              */
	int64_t time_ms[3];       /* 32  created, min, max timestamp */
	uint32_t record_count;    /* 56                              */
	uint32_t string_bytes[3]; /* 60  id, bucket, key             */
};
SHMETA_FROZEN(shmeta_wire_segment, base_offset, 0);
SHMETA_FROZEN(shmeta_wire_segment, end_offset, 8);
SHMETA_FROZEN(shmeta_wire_segment, size_bytes, 16);
SHMETA_FROZEN(shmeta_wire_segment, position, 24);
SHMETA_FROZEN(shmeta_wire_segment, time_ms, 32);
SHMETA_FROZEN(shmeta_wire_segment, record_count, 56);
SHMETA_FROZEN(shmeta_wire_segment, string_bytes, 60);
SHMETA_FROZEN_SIZE(shmeta_wire_segment, 72);

/* A result is this, its text, zeros up to a multiple of 8. */
struct shmeta_wire_result {
	uint32_t bytes;        /*   0                                              */
	int32_t status;        /*   4                                              */
	uint32_t partition_id; /*   8                                              */
	uint32_t text_bytes;   /*  12                                              */
	uint64_t count;        /*  16  count, transfer_id                          */
	uint64_t epoch;        /*  24                                              */
	int64_t time_ms[3];    /*  32  lease: expires, acquired; segment: created, min and max timestamp */
	uint64_t base_offset;  /*  56                                              */
	uint64_t end_offset;   /*  64                                              */
	uint64_t size_bytes;   /*  72                                              */
	uint32_t record_count; /*  80                                              */
	uint32_t reserved;     /*  84                                              */
};
SHMETA_FROZEN(shmeta_wire_result, bytes, 0);
SHMETA_FROZEN(shmeta_wire_result, status, 4);
SHMETA_FROZEN(shmeta_wire_result, partition_id, 8);
SHMETA_FROZEN(shmeta_wire_result, text_bytes, 12);
SHMETA_FROZEN(shmeta_wire_result, count, 16);
SHMETA_FROZEN(shmeta_wire_result, epoch, 24);
SHMETA_FROZEN(shmeta_wire_result, time_ms, 32);
SHMETA_FROZEN(shmeta_wire_result, base_offset, 56);
SHMETA_FROZEN(shmeta_wire_result, end_offset, 64);
SHMETA_FROZEN(shmeta_wire_result, size_bytes, 72);
SHMETA_FROZEN(shmeta_wire_result, record_count, 80);
SHMETA_FROZEN_SIZE(shmeta_wire_result, 88);

/* Bytes it will take; SIZE_MAX: it cannot be spelled (shmeta__op_check() says why). */
size_t shmeta__op_bytes(const struct shmeta_op *op);
/* Write it. Returns the bytes written; 0: it cannot be spelled, or capacity is less than
 * shmeta__op_bytes(). Fields that the type does not read are left out, except for a fence:
 * shmeta__op_check() of the other side is to refuse it. */
size_t shmeta__op_encode(const struct shmeta_op *op, void *out, size_t capacity);
/* Read the operation at `bytes` (8-aligned, `size` readable). *ret's views point into bytes.
 * *ret_used: where the next one begins. ERR_PROTOCOL: it cannot be an operation (the connection is
 * to be closed). Of u.replace the counts and the epoch are read; its lists are NULL until
 * shmeta__op_unpack(). */
enum shmeta_status shmeta__op_decode(const void *bytes, size_t size, struct shmeta_op *ret, size_t *ret_used);
/* The encoded operation at `from` without its trace id, at `to`, which may be before it in the same
 * memory. Returns the bytes written. */
size_t shmeta__op_untrace(void *to, const void *from);
/* The trace id in hexadecimal digits; "" when it has none. Returns ret. */
const char *shmeta__op_trace(const struct shmeta_op *op, char ret[SHMETA_TRACE_TEXT]);
bool shmeta__op_is_traced(const struct shmeta_op *op);
/* How many segments it has in lists; for shmeta__op_unpack(). 0: it needs none. */
size_t shmeta__op_rows(const struct shmeta_op *op);
/* The lists of an operation that was decoded from `bytes`, into rows, which has room for them and
 * outlives *op. */
void shmeta__op_unpack(const void *bytes, struct shmeta_segment *rows, struct shmeta_op *op);
/* C9: names, limits, offsets, maps, durations; which fields a type needs. OK or
 * ERR_INVALID_ARGUMENT with the sentence that names the field, the value and the limit. */
enum shmeta_status shmeta__op_check(const struct shmeta_op *op, struct shmeta_err *err);

/* The same for results; a type has exactly the fields that struct shmeta_result names for it, and a
 * text. */
size_t shmeta__result_bytes(const struct shmeta_result *result);
size_t shmeta__result_encode(enum shmeta_op_type type, const struct shmeta_result *result, void *out, size_t capacity);
enum shmeta_status shmeta__result_decode(enum shmeta_op_type type, const void *bytes, size_t size,
                                         struct shmeta_result *ret, size_t *ret_used);

/* An object of a list is this, its bucket, its key, zeros up to a multiple of 8. */
struct shmeta_wire_object {
	uint32_t bytes;                /*  0  of all of it, padding included */
	uint32_t bucket_bytes;         /*  4                                 */
	uint32_t key_bytes;            /*  8                                 */
	uint32_t reserved;             /* 12                                 */
	uint64_t size_bytes;           /* 16                                 */
	int64_t created_at_ms;         /* 24                                 */
	uint64_t slices;               /* 32                                 */
	int64_t unreferenced_since_ms; /* 40                                 */
};
SHMETA_FROZEN(shmeta_wire_object, bytes, 0);
SHMETA_FROZEN(shmeta_wire_object, bucket_bytes, 4);
SHMETA_FROZEN(shmeta_wire_object, key_bytes, 8);
SHMETA_FROZEN(shmeta_wire_object, size_bytes, 16);
SHMETA_FROZEN(shmeta_wire_object, created_at_ms, 24);
SHMETA_FROZEN(shmeta_wire_object, slices, 32);
SHMETA_FROZEN(shmeta_wire_object, unreferenced_since_ms, 40);
SHMETA_FROZEN_SIZE(shmeta_wire_object, 48);

/* The same for these; bucket and key have at most SHMETA_STRING_MAX bytes. */
size_t shmeta__object_bytes(const struct shmeta_object_info *object);
size_t shmeta__object_encode(const struct shmeta_object_info *object, void *out, size_t capacity);
enum shmeta_status shmeta__object_decode(const void *bytes, size_t size, struct shmeta_object_info *ret,
                                         size_t *ret_used);

/* Is it a number of enum shmeta_status? What another process sent may be any. */
int shmeta__status_known(int32_t status);

const char *shmeta__op_name(enum shmeta_op_type type); /* "add_segment"; "unknown" */

#endif
