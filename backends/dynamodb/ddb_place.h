/* SPDX-License-Identifier: Apache-2.0
 * Where an operation is: the header of its partition, which is made by the first write to the
 * partition. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_PLACE_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_PLACE_H

#include "backends/dynamodb/ddb_write.h"

/* The header of a partition, as it is to be changed. */
struct ddb_place {
	struct ddb_entry *header, *topic; /* topic: where the header has to be made */
	json_t *item;                     /* a copy; ddb_place_write() takes it, or json_decref() */
};
/* Is there a partition that was not deleted? header: NULL for none. */
bool ddb_is_alive(const json_t *header);
/* false: refused, or something has to be read. */
bool ddb_place_of(struct ddb_writing *w, const struct backend_op *op, struct ddb_place *ret, struct shmeta_result *r);
/* false: refused, the lease is not the fence's. */
bool ddb_passes_fence(const struct ddb_writing *w, const struct shmeta_op *op, const json_t *header,
                      struct shmeta_result *r);
/* Note the changed item as one to be written; takes it. */
void ddb_place_write(struct ddb_writing *w, struct ddb_place *place);

#endif
