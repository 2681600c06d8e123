/* SPDX-License-Identifier: Apache-2.0
 * lag: how far each class is behind the source, and how the changes arrive. */
#include <string.h>

#include "tools/shmetactl/inspect.h"

/* Until the class is too old; 0: it is already, or it was never read. */
static uint64_t due_in(const struct shmeta_stamp *stamp, uint64_t age_ns)
{
	return age_ns < stamp->ttl_ns ? stamp->ttl_ns - age_ns : 0;
}

static const char *state_of(const struct shmeta_stamp *stamp, uint64_t age_ns)
{
	return age_ns == UINT64_MAX ? "never read" : age_ns < stamp->ttl_ns ? "fresh" : "stale";
}

static void classes_text(struct tool *tool, const struct pages *p)
{
	struct list list;

	list_begin(&list, tool, "classes");
	for (int i = 0; i < SHMETA_CLASS_COUNT; i++) {
		const struct shmeta_stamp *s = &p->generation.stamp[i];
		uint64_t age = pages_since(p->now_ns, s->synced_at_ns);
		struct field f[] = {f_string("class", pages_class((enum shmeta_class)i)),
		                    f_string("state", state_of(s, age)),
		                    f_string("verified", out_ns(age)),
		                    f_string("ttl", out_ns(s->ttl_ns)),
		                    f_string("due_in", out_ns(due_in(s, age))),
		                    f_count("changed_txn", s->changed_txn)};

		for (size_t k = 2; k < 5; k++)
			f[k].flags |= FIELD_RIGHT;
		list_row(&list, f, 6);
	}
	list_end(&list, NULL, 0);
	list_free(&list);
}

static json_t *classes_json(const struct pages *p)
{
	json_t *classes = json_array();

	for (int i = 0; i < SHMETA_CLASS_COUNT; i++) {
		const struct shmeta_stamp *s = &p->generation.stamp[i];
		uint64_t age = pages_since(p->now_ns, s->synced_at_ns);
		json_t *c = json_object();

		out_set(c, "class", json_string(pages_class((enum shmeta_class)i)));
		out_set(c, "state", json_string(state_of(s, age)));
		out_set(c, "age_ms", out_json_age(age));
		out_set(c, "ttl_ms", out_json_age(s->ttl_ns));
		out_set(c, "due_in_ms", out_json_age(due_in(s, age)));
		out_set(c, "changed_txn", out_json_count(s->changed_txn));
		(void)json_array_append_new(classes, c);
	}
	return classes;
}

static json_t *counter_json(const struct pages *p, enum shmeta_counter counter)
{
	uint64_t value = pages_counter(p, counter);

	return value == UINT64_MAX ? json_null() : out_json_count(value);
}

int verb_lag(struct tool *tool)
{
	/* the texts of out_safez() last for a few calls only */
	char status[2 * SHMETA_STATS_TEXT] = "unknown";
	struct pages p;
	uint64_t lag;
	json_t *doc;
	int code = pages_open(tool, &p);

	if (code != 0)
		return code;
	if (!p.published) {
		pages_close(&p);
		return tool_error(tool, TOOL_NOT_RUNNING, "%s: the writer has not published anything yet", tool->dir);
	}
	lag = pages_counter(&p, SHMETA_COUNTER_lag_ns);
	if (p.stats != NULL)
		(void)snprintf(status, sizeof(status), "%s",
		               out_safez(p.stats->source_status, sizeof(p.stats->source_status)));
	if (tool->json) {
		doc = out_document("lag");
		out_set(doc, "classes", classes_json(&p));
		out_set(doc, "feed_lag_ms", out_json_age(lag));
		out_set(doc, "source_status", json_string(status));
		out_set(doc, "source_current", json_boolean(p.alive));
		out_set(doc, "polls", counter_json(&p, SHMETA_COUNTER_polls));
		out_set(doc, "changes", counter_json(&p, SHMETA_COUNTER_changes));
		out_set(doc, "reconciles", counter_json(&p, SHMETA_COUNTER_reconciles));
		out_set(doc, "reconcile_repairs", counter_json(&p, SHMETA_COUNTER_reconcile_repairs));
		out_json(doc, 2);
	} else {
		classes_text(tool, &p);
		(void)printf("source   %s%s\n", p.alive ? "" : "nobody asks it; the last was: ", status);
		if (p.stats != NULL)
			(void)printf("feed     what it told last is %s old; asked %s times, it named %s keys\n",
			             out_ns(lag), out_count(pages_counter(&p, SHMETA_COUNTER_polls)),
			             out_count(pages_counter(&p, SHMETA_COUNTER_changes)));
		if (p.stats != NULL)
			(void)printf("passes   %s full comparisons, which alone found %s differences\n",
			             out_count(pages_counter(&p, SHMETA_COUNTER_reconciles)),
			             out_count(pages_counter(&p, SHMETA_COUNTER_reconcile_repairs)));
	}
	pages_close(&p);
	return TOOL_OK;
}
