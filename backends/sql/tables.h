/* SPDX-License-Identifier: Apache-2.0
 * StreamHouse's tables: their columns, in the order in which row_decode.h reads them, which of them
 * a source must have, and the DDL that makes them in an empty database. */
#ifndef SHMETA_BACKENDS_SQL_TABLES_H
#define SHMETA_BACKENDS_SQL_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/sql/statement_template.h"

enum table_index { TOPICS, PARTITIONS, SEGMENTS, GROUPS, OFFSETS, AGENTS, LEASES, TABLE_COUNT };
enum { TABLE_COLUMNS_MAX = 13, TABLE_STATEMENTS = 10 };

/* Flags of templates, which both engines' shapes know. */
enum {
	FLAG_ORGANIZATION = 'o', /* topics, partitions, segments, groups and offsets carry
                                  * organization_id */
	FLAG_AGENTS_ORGANIZATION = 'a',
	FLAG_LEASES_ORGANIZATION = 'l',
	FLAG_CLEANUP_POLICY = 'c',
	FLAG_TIMESTAMPS = 't'
};

enum column_type { COLUMN_TEXT, COLUMN_INTEGER };
struct table_column {
	const char *name; /* NULL: the one before was the last */
	enum column_type type;
	char flag; /* 0: every source has it; otherwise those of which the flag holds */
};

/* organization: the flag of sources whose rows of the table begin with organization_id. */
extern const struct table {
	const char *name;
	char organization;
	struct table_column columns[TABLE_COLUMNS_MAX];
} backend_tables[TABLE_COUNT];

/* An expression for the column of the row that is called alias; NULL: of a source that does not
 * have it. */
typedef void table_spell_fn(FILE *out, const void *arg, enum table_index table, const struct table_column *column,
                            const char *alias);
/* A word @topics, @partitions, @segments (of rows t, p, s), @agents, @consumer_groups,
 * @consumer_offsets, @partition_leases (of rows r): all columns of the table, organization_id
 * first. Returns the word's length; 0: it is none of them. */
size_t tables_word(FILE *out, const struct sql_words *words, const char *text, table_spell_fn *spell);

/* CREATE TABLE and CREATE INDEX: templates with the words @key (a text that is ordered by its
 * bytes), @bigint, @map, @clustered. */
extern const char *const table_statements[TABLE_STATEMENTS];

/* What has been found of the tables. Zeroed at first. */
struct table_sight {
	bool exists[TABLE_COUNT], organization[TABLE_COUNT];
	uint32_t columns[TABLE_COUNT]; /* a bit each, in the order of backend_tables */
};
/* compare: strcmp() or the like, by which names are the same. -1: no such table, or column. */
int table_find(const char *name, int (*compare)(const char *, const char *));
int table_find_column(enum table_index table, const char *name, int (*compare)(const char *, const char *));
void table_see(struct table_sight *sight, enum table_index table, const char *column,
               int (*compare)(const char *, const char *));
/* Has the table all of the columns that have this flag? */
bool table_has(const struct table_sight *sight, enum table_index table, char flag);
/* What a source must have and does not, as a sentence's part; empty: nothing. */
void table_list_missing(const struct table_sight *sight, char *ret, size_t bytes);
/* One more of such a list: "column topics.name". column "": the table. */
void table_list(char *list, size_t bytes, const char *what, const char *table, const char *column);

#endif
