/* SPDX-License-Identifier: Apache-2.0
 * Where the tables are: dynamodb://REGION/PREFIX, with ?endpoint=URL for an emulator or a VPC
 * endpoint. The tables are PREFIX_meta, PREFIX_seg, PREFIX_log and PREFIX_writers. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_URI_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_URI_H

#include "backends/backend.h"

enum ddb_table { DDB_META, DDB_SEG, DDB_LOG, DDB_WRITERS, DDB_TABLES };

struct ddb_uri {
	char region[40], endpoint[256]; /* the latter ends with a slash */
	char host[200];                 /* as the header Host has it */
	char table[DDB_TABLES][64];     /* their names */
};

/* OK or ERR_CONFIG with a sentence. Plain HTTP leaves this machine only where the options allow
 * it. */
enum shmeta_status ddb_uri_parse(const struct backend_options *options, struct ddb_uri *ret, struct backend_error *err);

#endif
