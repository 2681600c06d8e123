/* SPDX-License-Identifier: Apache-2.0
 * StreamHouse's tables and the columns that a source must have of them. The organizations' columns and the others that came later are
 * each engine's to look for. */
#ifndef SHMETA_BACKENDS_SQL_TABLES_H
#define SHMETA_BACKENDS_SQL_TABLES_H

enum table_index { TOPICS, PARTITIONS, SEGMENTS, GROUPS, OFFSETS, AGENTS, LEASES, TABLE_COUNT };
enum { TABLE_COLUMNS_MAX = 11 };

/* columns: NULL from the last one on. */
extern const struct table {
	const char *name;
	const char *columns[TABLE_COLUMNS_MAX];
} backend_tables[TABLE_COUNT];

#endif
