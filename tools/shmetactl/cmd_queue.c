/* SPDX-License-Identifier: Apache-2.0
 * queue: what waits for the source, and what the way to it has cost so far. */
#include "tools/shmetactl/inspect.h"

#define COUNT(name) pages_count(&p, SHMETA_COUNTER_##name)

/* UINT64_MAX, "never", where there was none. */
static uint64_t each_ns(uint64_t total_ns, uint64_t count)
{
	return count > 0 ? total_ns / count : UINT64_MAX;
}

int verb_queue(struct tool *tool)
{
	struct field fields[20];
	struct pages p;
	size_t n = 0;
	int code = pages_open(tool, &p);

	if (code != 0)
		return code;
	if (p.stats == NULL) {
		code = tool_error(tool, tool_exit_of(p.stats_error.code), "no stats: %s", p.stats_error.text);
		pages_close(&p);
		return code;
	}
	fields[n++] = f_count("keys_waiting", COUNT(queue_depth));
	fields[n++] = f_count("requests", COUNT(refresh_requests));
	fields[n++] = f_count("requests_that_joined", COUNT(refresh_coalesced));
	fields[n++] = f_count("requests_answered_absent", COUNT(absent_answers));
	fields[n++] = f_count("keys_fetched", COUNT(refresh_keys));
	fields[n++] = f_count("fetches", COUNT(fetches));
	fields[n++] =
		f_age(tool->json ? "average_fetch_ms" : "average_fetch", each_ns(COUNT(fetch_ns), COUNT(fetches)));
	fields[n++] = f_count("commits", COUNT(commits));
	fields[n++] =
		f_age(tool->json ? "average_commit_ms" : "average_commit", each_ns(COUNT(apply_ns), COUNT(commits)));
	fields[n++] = f_count("writes", COUNT(write_ops));
	fields[n++] = f_count("source_commits", COUNT(write_batches));
	fields[n++] = f_age(tool->json ? "average_source_commit_ms" : "average_source_commit",
	                    each_ns(COUNT(write_source_ns), COUNT(write_batches)));
	fields[n++] = f_count("source_errors", COUNT(source_errors));
	fields[n++] = f_count("rows_quarantined", COUNT(quarantined));
	fields[n++] = f_age(tool->json ? "stats_age_ms" : "stats_age", pages_since(p.now_ns, p.stats->updated_at_ns));
	out_record(tool, "queue", fields, n);
	pages_close(&p);
	return TOOL_OK;
}
