/* SPDX-License-Identifier: Apache-2.0
 * What a host does that hears nothing. */
#include "tests/support/quiet_host.h"

static uint64_t no_pin(void *arg, uint64_t generation)
{
	(void)arg;
	(void)generation;
	return UINT64_MAX;
}
static void no_relief(void *arg, uint64_t generation, uint64_t before)
{
	(void)arg;
	(void)generation;
	(void)before;
}
static int not_kept(void *arg)
{
	(void)arg;
	return 0;
}
static void no_phase(void *arg, enum shmeta_phase phase, const char *sentence)
{
	(void)arg;
	(void)phase;
	(void)sentence;
}
static void no_progress(void *arg, uint64_t rows_done, uint64_t rows_total)
{
	(void)arg;
	(void)rows_done;
	(void)rows_total;
}
static void no_log(void *arg, int priority, const char *event, const char *sentence)
{
	(void)arg;
	(void)priority;
	(void)event;
	(void)sentence;
}
static void no_answer(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
                      uint64_t generation, uint64_t synced_at_ns)
{
	(void)arg;
	(void)ticket;
	(void)status;
	(void)sentence;
	(void)txn;
	(void)generation;
	(void)synced_at_ns;
}

static void no_objects(void *arg, uint64_t ticket, const void *rows, size_t bytes, size_t count, bool more)
{
	(void)arg;
	(void)ticket;
	(void)rows;
	(void)bytes;
	(void)count;
	(void)more;
}
static void no_invalidated(void *arg, uint64_t ticket, const struct sync_invalidated *count, uint64_t txn,
                           uint64_t generation)
{
	(void)arg;
	(void)ticket;
	(void)count;
	(void)txn;
	(void)generation;
}
static void no_company(void *arg, size_t calls)
{
	(void)arg;
	(void)calls;
}
static void no_result(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence,
                      const struct shmeta_op *ops, const struct shmeta_result *results, size_t count, uint64_t txn,
                      uint64_t generation)
{
	(void)arg;
	(void)ticket;
	(void)status;
	(void)sentence;
	(void)ops;
	(void)results;
	(void)count;
	(void)txn;
	(void)generation;
}

struct sync_host quiet_host(struct sync_host host)
{
#define OR(name, quiet) host.name = host.name != NULL ? host.name : (quiet)
	OR(oldest_pin, no_pin);
	OR(relieve, no_relief);
	OR(all_registrations_kept, not_kept);
	OR(phase, no_phase);
	OR(progress, no_progress);
	OR(log, no_log);
	OR(answering, no_company);
	OR(written, no_result);
	OR(objects, no_objects);
	OR(invalidated, no_invalidated);
	OR(answer, no_answer);
#undef OR
	return host;
}
