/* SPDX-License-Identifier: Apache-2.0
 * REPLACE_SEGMENTS (semantics.md C12), as far as it can be judged in one way for all engines. Lists
 * are checked against C9 already: they ascend, the new ones do not overlap and lie within the old
 * ones. */
#ifndef SHMETA_BACKENDS_REPLACE_H
#define SHMETA_BACKENDS_REPLACE_H

#include <stdbool.h>

#include "backends/backend.h"

/* How many segments before the first old one are looked at for one that reaches the new ones: those
 * of the nearest bases. One that as many others begin within is not found (DynamoDB keeps how long
 * the longest is, and finds it). */
#define REPLACE_BEFORE 1024

/* The greatest offset of the old ones. */
uint64_t replace_end(const struct shmeta_replace *replace);
/* Is the segment, of one of the lists, given in both? Then it stays. timestamps: the source keeps
 * them. */
bool replace_keeps(const struct shmeta_replace *replace, const struct shmeta_segment *s, bool timestamps);
/* How many old ones go. */
uint64_t replace_leaving(const struct shmeta_replace *replace, bool timestamps);

enum replace_verdict { REPLACE_REFUSED, REPLACE_DONE_BEFORE, REPLACE_GOES };
/* rows: the segments of the partition whose bases lie from the first old base to replace_end(),
 * ascending; of a base only the first. reaching: does one of the REPLACE_BEFORE before them reach
 * the first new base? result is filled where it is refused. */
enum replace_verdict replace_judge(const struct shmeta_op *op, const struct shmeta_segment *rows, size_t count,
                                   bool reaching, bool timestamps, struct shmeta_result *result);
/* A new one that does not stay: of an object that was committed (its size), or NULL, then of its
 * own. true: refused. */
bool replace_refuse_new(const struct shmeta_replace *replace, const struct shmeta_segment *s,
                        const uint64_t *object_bytes, struct shmeta_result *result);

/* May the new one have its id? taken: a segment that is there has it, which may be one that
 * leaves. */
bool replace_id_is_free(const struct shmeta_replace *replace, uint32_t at, bool taken, bool timestamps);

/* What is wrong with the segment at a base. */
enum replace_wrong { REPLACE_MISSING, REPLACE_OTHER, REPLACE_BETWEEN, REPLACE_IN_THE_WAY };
void replace_refuse(enum replace_wrong wrong, uint64_t base, struct shmeta_result *result);
void replace_refuse_epoch(uint64_t given, uint64_t highest, struct shmeta_result *result);
void replace_refuse_id(struct shmeta_str id, struct shmeta_result *result);

#endif
