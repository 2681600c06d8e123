/* SPDX-License-Identifier: Apache-2.0
 * groups, agents, leases: the advisory records of the store. */
#include "tools/shmetactl/paging.h"

struct rows {
	struct list *list;
	int64_t now_ms; /* by the clock that the records' times are of */
};

static struct rows rows_of(const struct session *s, void *list)
{
	struct shmeta_state state = {.size = sizeof(state)};

	if (shmeta_get_state(s->instance, &state) != SHMETA_OK)
		state.source_ahead_ms = 0;
	return (struct rows){list, tool_wall_ms() + state.source_ahead_ms};
}

static void keep(void *arg)
{
	list_flush(arg);
}

static void drop(void *arg)
{
	list_drop(arg);
}

static int run(struct tool *tool, const char *schema, page_slice_fn *slice)
{
	struct list list;
	struct paging paging = {.slice = slice, .keep = keep, .drop = drop, .arg = &list, .what = schema};
	struct session s;
	int code = session_open_long(tool, tool->tenant, &s);

	if (code != 0)
		return code;
	list_begin(&list, tool, schema);
	code = page_all(&s, &paging);
	list.incomplete = s.lacks;
	if (code == 0)
		list_end(&list, NULL, 0);
	if (code == 0)
		session_tell_lacks(&s);
	session_close(&s);
	list_free(&list);
	return code;
}

static void group_row(void *list, const struct shmeta_group *g, const struct shmeta_freshness *fresh)
{
	struct field f[] = {f_text("group_id", g->group_id), f_time("created_at_ms", g->created_at_ms),
	                    f_age("age_ms", fresh->age_ns), f_bool("fresh", fresh->fresh != 0)};

	list_row(list, f, sizeof(f) / sizeof(*f));
}

static void agent_row(void *arg, const struct shmeta_agent *a, const struct shmeta_freshness *fresh)
{
	const struct rows *rows = arg;
	struct field f[] = {f_text("agent_id", a->agent_id),
	                    f_text("address", a->address),
	                    f_text("availability_zone", a->availability_zone),
	                    f_text("agent_group", a->agent_group),
	                    f_time("last_heartbeat_ms", a->last_heartbeat_ms),
	                    f_bool("alive", a->last_heartbeat_ms > rows->now_ms - 60000),
	                    f_time("started_at_ms", a->started_at_ms),
	                    f_age("age_ms", fresh->age_ns)};

	list_row(rows->list, f, sizeof(f) / sizeof(*f));
}

static void lease_row(void *arg, struct shmeta_str topic, const struct shmeta_lease *l,
                      const struct shmeta_freshness *fresh)
{
	const struct rows *rows = arg;
	struct field f[] = {f_text("topic", topic),
	                    f_count("partition_id", l->partition_id),
	                    f_text("leader_agent_id", l->leader_agent_id),
	                    f_count("epoch", l->epoch),
	                    f_time("lease_expires_at_ms", l->lease_expires_at_ms),
	                    f_bool("held", l->lease_expires_at_ms > rows->now_ms),
	                    f_time("acquired_at_ms", l->acquired_at_ms),
	                    f_age("age_ms", fresh->age_ns)};

	list_row(rows->list, f, sizeof(f) / sizeof(*f));
}

static enum shmeta_status slice_groups(struct session *s, struct page_place *at, void *list)
{
	return page_groups(s, at, group_row, list);
}

static enum shmeta_status slice_agents(struct session *s, struct page_place *at, void *list)
{
	struct rows rows = rows_of(s, list);

	return page_agents(s, at, agent_row, &rows);
}

static enum shmeta_status slice_leases(struct session *s, struct page_place *at, void *list)
{
	struct rows rows = rows_of(s, list);

	return page_leases(s, at, lease_row, &rows);
}

int verb_groups(struct tool *tool)
{
	return run(tool, "groups", slice_groups);
}

int verb_agents(struct tool *tool)
{
	return run(tool, "agents", slice_agents);
}

int verb_leases(struct tool *tool)
{
	return run(tool, "leases", slice_leases);
}
