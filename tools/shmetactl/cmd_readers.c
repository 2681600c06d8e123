/* SPDX-License-Identifier: Apache-2.0
 * readers, revoke: who is registered, from the stats page, and who is not to be any longer. */
#include "tools/shmetactl/inspect.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int by_pin_age(const void *a, const void *b)
{
	const struct shmeta_stats_reader *x = a, *y = b;

	if (x->pin_age_ns != y->pin_age_ns)
		return x->pin_age_ns < y->pin_age_ns ? 1 : -1;
	return x->registration < y->registration ? -1 : x->registration > y->registration;
}

int verb_readers(struct tool *tool)
{
	struct pages p;
	struct list list;
	uint32_t count;
	uint64_t shown;
	int code = pages_open(tool, &p);

	if (code != 0)
		return code;
	if (p.stats == NULL) {
		code = tool_error(tool, tool_exit_of(p.stats_error.code), "no stats: %s", p.stats_error.text);
		pages_close(&p);
		return code;
	}
	count = p.stats->reader_count < SHMETA_STATS_READERS ? p.stats->reader_count : SHMETA_STATS_READERS;
	qsort(p.stats->reader, count, sizeof(p.stats->reader[0]), by_pin_age);
	shown = tool->limit > 0 && tool->limit < count ? tool->limit : count;
	list_begin(&list, tool, "readers");
	for (uint32_t i = 0; i < shown; i++) {
		const struct shmeta_stats_reader *r = &p.stats->reader[i];
		char version[24];
		struct field fields[16 + sizeof(struct shmeta_reader_counters) / 8];
		size_t n = 0;

		(void)pages_version(r->version, version);
		fields[n++] = f_count("pid", r->pid);
		fields[n++] = f_text("agent", (struct shmeta_str){r->name, strnlen(r->name, sizeof(r->name))});
		fields[n++] =
			f_age(tool->json ? "connected_ms" : "connected", pages_since(p.now_ns, r->connected_at_ns));
		fields[n++] = f_count("slots", r->slots);
		fields[n++] = r->oldest_pin != 0 ? f_count("pin", r->oldest_pin) : f_null("pin");
		fields[n++] = f_age(tool->json ? "pin_age_ms" : "pin_age", r->oldest_pin != 0 ? r->pin_age_ns : 0);
		fields[n++] = f_count("lag", r->pin_lag);
		fields[n++] = f_count("uid", r->uid);
		fields[n++] = f_word("version", version);
		fields[n++] = f_hidden(f_count("gid", r->gid));
		fields[n++] = f_hidden(f_count("agent_pid", r->agent_pid));
		fields[n++] = f_hidden(f_count("registration", r->registration));
#define C(name, unit, help) fields[n++] = f_hidden(f_count(#name, r->counters.name));
		SHMETA_READER_COUNTERS(C)
#undef C
		/* The text shows those that an operator asks for first. */
		for (size_t k = 0; k < n; k++)
			if (strcmp(fields[k].name, "found") == 0 || strcmp(fields[k].name, "absent") == 0 ||
			    strcmp(fields[k].name, "stale") == 0 || strcmp(fields[k].name, "errors") == 0)
				fields[k].flags = 0;
		list_row(&list, fields, n);
	}
	list.incomplete = shown < p.stats->readers_total;
	list_end(&list, NULL, 0);
	list_free(&list);
	if (!tool->json && p.stats->readers_total > count)
		(void)printf("and %" PRIu32 " more\n", p.stats->readers_total - count);
	pages_close(&p);
	return TOOL_OK;
}

int verb_revoke(struct tool *tool)
{
	uint64_t reader, count = 0;
	struct shmeta *instance;
	enum shmeta_status status;
	int code;

	if (!tool_parse_u64(tool->argv[0], UINT64_MAX, &reader) || reader == 0)
		return tool_error(tool, TOOL_USAGE,
		                  "'%s' is neither a process id nor a registration; 'shmetactl readers' lists them",
		                  tool->argv[0]);
	if (!tool_agreed(tool, "take back the snapshots of this reader", "what it reads in them is void"))
		return TOOL_USAGE;
	code = tool_open_control(tool, &instance);
	if (code != 0)
		return code;
	status = shmeta_revoke_reader(instance, reader, tool->timeout_ms, &count);
	if (status != SHMETA_OK)
		code = tool_say_failed(tool, instance, status, "revoke");
	else if (tool->json)
		out_record(tool, "revoke", (struct field[]){f_count("reader", reader), f_count("revoked", count)}, 2);
	else
		(void)printf("revoked %s registration%s; it registers anew at its next snapshot\n", out_count(count),
		             count == 1 ? "" : "s");
	shmeta_close(instance);
	return code;
}
