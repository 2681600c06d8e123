/* SPDX-License-Identifier: Apache-2.0
 * What reads for readers, and for times to live, may cost the source a second: statements and rows
 * (refresh.queries_s, refresh.rows_s). They wait for a token, and what they cost beyond it is paid
 * before the next one is given. What the feed named, what was written, and what a pass compares is
 * read without one. It owns s->query_budget; the engine's thread uses it alone. */
#ifndef SHMETA_WRITER_KEYS_QUERY_BUDGET_H
#define SHMETA_WRITER_KEYS_QUERY_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "backends/tokens.h"

struct sync;

struct query_budget {
	struct tokens queries, rows;
	uint64_t waits_since_ns; /* something waits for a token; 0: nothing does */
	uint64_t waited_ns;      /* what waited before that */
};

/* The budgets of the options are in force from now on. */
void query_budget_configure(struct sync *s);
static inline bool query_budget_is_set(const struct query_budget *b)
{
	return b->queries.rate != 0 || b->rows.rate != 0;
}
/* When the next read may begin: now, or earlier, where it may. A source in trouble is tried at the
 * pace of its retries instead. */
uint64_t query_budget_when(struct sync *s);
/* Something waits for a token, or nothing does any more. */
void query_budget_waits(struct sync *s, bool waits);
/* A read is over; before: what the source's counters were when it began. */
void query_budget_pay(struct sync *s, const struct backend_counters *before);
/* How long something has waited in all. */
static inline uint64_t query_budget_waited_ns(const struct query_budget *b, uint64_t now_ns)
{
	return b->waited_ns + (b->waits_since_ns != 0 ? now_ns - b->waits_since_ns : 0);
}

#endif
