/* SPDX-License-Identifier: Apache-2.0
 * What reads for readers may cost the source (query_budget.h). */
#include "writer/keys/query_budget.h"

#include "writer/engine/engine.h"

/* A bucket holds what comes in a second. */
static void configure(struct tokens *t, uint32_t rate, uint64_t now_ns)
{
	if (t->rate != rate)
		tokens_configure(t, rate, rate > 0 ? rate : 1, now_ns);
}

void query_budget_configure(struct sync *s)
{
	configure(&s->query_budget.queries, s->options.refresh_queries_s, sync_now(s));
	configure(&s->query_budget.rows, s->options.refresh_rows_s, sync_now(s));
}

uint64_t query_budget_when(struct sync *s)
{
	struct query_budget *b = &s->query_budget;
	uint64_t now = sync_now(s), queries, rows;

	if (!query_budget_is_set(b) || source_is_away(s) || health_job_fails(&s->health, SYNC_JOB_FETCH))
		return now;
	queries = tokens_when(&b->queries, 1, now);
	rows = tokens_when(&b->rows, 1, now);
	return queries > rows ? queries : rows;
}

void query_budget_waits(struct sync *s, bool waits)
{
	struct query_budget *b = &s->query_budget;

	if (waits == (b->waits_since_ns != 0))
		return;
	if (!waits)
		b->waited_ns = query_budget_waited_ns(b, sync_now(s));
	b->waits_since_ns = waits ? sync_now(s) : 0;
}

/* settle() fills no bucket: it is to be full of what came until now before anything is taken out of
 * it. */
static void pay(struct tokens *t, uint64_t cost, uint64_t now_ns)
{
	(void)tokens_when(t, 1, now_ns);
	tokens_settle(t, 0, cost < TOKENS_MAX ? (uint32_t)cost : TOKENS_MAX);
}

void query_budget_pay(struct sync *s, const struct backend_counters *before)
{
	struct query_budget *b = &s->query_budget;
	struct backend_counters after;
	uint64_t now = sync_now(s);

	session_counters(&s->session, s->engine, s->backend, &after);
	pay(&b->queries, after.queries - before->queries, now);
	pay(&b->rows, after.rows - before->rows, now);
}
