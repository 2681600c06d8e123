/* SPDX-License-Identifier: Apache-2.0
 * What the tables may be asked per second, and what they were asked: units of reads (RCU) and of
 * writes (WCU). All sources that one process has open on the same tables share the buckets; each
 * counts for itself. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_BUDGET_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_BUDGET_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What for: the class under which units are counted. WRITE: the reads that operations are judged
 * by, too. */
enum ddb_purpose { DDB_FOR_FETCH, DDB_FOR_LOAD, DDB_FOR_FEED, DDB_FOR_WRITE, DDB_PURPOSES };

struct ddb_buckets;

struct ddb_budget {
	struct ddb_buckets *shared; /* NULL: no limits */
	enum ddb_purpose purpose;
	uint64_t excused_ns; /* by so much the deadline of a load has moved: it is patient where
                              * others are not */
	/* Counted. */
	double read_units[DDB_PURPOSES], write_units[DDB_PURPOSES];
	uint64_t postponed_ns;
};

/* 0: no limit. name: which tables. false: no memory. */
bool ddb_budget_open(struct ddb_budget *b, const char *name, uint32_t read_units_s, uint32_t write_units_s);
void ddb_budget_close(struct ddb_budget *b);

/* Of a call: the least that it costs, nearly, and what was taken for it. */
struct ddb_units {
	uint32_t least, taken;
};

/* May this call be made now? What it may cost is taken, as an estimate: of a Query of a load, and
 * of the next page of any, a full page, as far as two seconds' units. Otherwise nothing is taken,
 * and *ret_when (CLOCK_MONOTONIC) is when to ask again. A load leaves a second's units to all
 * others. ret goes to ddb_budget_settle(). */
bool ddb_budget_take(struct ddb_budget *b, const char *target, const json_t *body, struct ddb_units *ret,
                     uint64_t *ret_when);
/* It was made. billed: it was done, or a condition of it does not hold. Then it cost what its
 * answer says, or the least where that says nothing; otherwise it cost nothing. */
void ddb_budget_settle(struct ddb_budget *b, const char *target, const struct ddb_units *of, const json_t *answer,
                       bool billed);
/* Which of the options holds calls of this operation back: its name. */
const char *ddb_budget_option(const char *target);

#endif
