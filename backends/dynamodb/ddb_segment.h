/* SPDX-License-Identifier: Apache-2.0
 * Segments as items, and what goes with each: its id, its object's count, and what its partition's
 * header tells of all of them. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_SEGMENT_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_SEGMENT_H

#include "backends/dynamodb/ddb_write.h"

json_t *ddb_segment_item(const struct ddb_key *key, const struct shmeta_segment *s);
/* The segment of an item; its strings are the item's. */
void ddb_segment_of(const json_t *item, struct shmeta_segment *ret);
/* Is the id made of the place? */
bool ddb_id_is_of_place(struct shmeta_str id, struct shmeta_str topic, uint32_t partition, uint64_t base);
/* Is the id another segment's? An id that is made of its own place is nobody else's, but for those
 * that were given another one's on purpose; all others have an item, *ret. false: it is free, or
 * something has to be read. */
bool ddb_segment_id_is_taken(struct ddb_writing *w, const struct backend_op *op, const struct shmeta_segment *s,
                             struct ddb_entry **ret);
/* Its id, and its object's count, go with it. false: something has to be read. */
bool ddb_segment_remove(struct ddb_writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                        struct ddb_entry *e);

/* One of its object's slices more. */
void ddb_object_add(struct ddb_writing *w, struct ddb_entry *object);

/* A partition's header (to be changed) with one segment more, or one less: ns, how many there are,
 * and lg, a bound of how far one reaches behind its base. */
void ddb_header_add(json_t *header, const struct shmeta_segment *s);
void ddb_header_take(json_t *header);

#endif
