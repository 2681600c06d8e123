/* SPDX-License-Identifier: Apache-2.0
 * groups, agents, leases: what the store holds as hints, through the public API. They are few; each list is one snapshot. */
#include "tools/shmetactl/tool.h"

#include <string.h>
#include <time.h>

enum { TRIES = 5 };

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* All rows of a list. OK at its end. */
typedef enum shmeta_status rows_fn(struct session *s, struct list *list);

static int run_hints(struct tool *tool, const char *schema, rows_fn *rows)
{
	struct session s;
	struct list list;
	int code = session_open(tool, tool->tenant, &s);
	bool read = false;

	if (code != 0)
		return code;
	list_begin(&list, tool, schema);
	for (int i = 0; code == 0 && !read && i < TRIES; i++) {
		enum shmeta_status status;

		code = session_begin(&s);
		if (code != 0)
			break;
		status = rows(&s, &list);
		read = session_end(&s, &code);
		if (!read)
			list_drop(&list);
		else if (status != SHMETA_OK)
			code = session_say(&s, status, schema);
	}
	if (code == 0 && !read)
		code = tool_error(tool, TOOL_UNHEALTHY, "%s: no snapshot lived long enough to read them all", schema);
	if (code == 0)
		list_end(&list, NULL, 0);
	list_free(&list);
	session_close(&s);
	return code;
}

static enum shmeta_status ended(struct shmeta_iter *iter, enum shmeta_status status)
{
	shmeta_iter_free(iter);
	return status == SHMETA_END ? SHMETA_OK : status;
}

static enum shmeta_status group_rows(struct session *s, struct list *list)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_group g;
	enum shmeta_status status = shmeta_list_groups(s->reader, &iter);

	if (status != SHMETA_OK)
		return status;
	while ((status = shmeta_next_group(iter, &g, &fresh)) == SHMETA_OK) {
		struct field f[] = {f_text("group_id", g.group_id), f_time("created_at_ms", g.created_at_ms),
		                    f_age("age_ms", fresh.age_ns), f_bool("fresh", fresh.fresh != 0)};

		list_row(list, f, sizeof(f) / sizeof(*f));
	}
	return ended(iter, status);
}

static enum shmeta_status agent_rows(struct session *s, struct list *list)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_agent a;
	int64_t now = now_ms();
	enum shmeta_status status = shmeta_list_agents(s->reader, NULL, NULL, TOOL_BEGINNING_MS, &iter);

	if (status != SHMETA_OK)
		return status;
	while ((status = shmeta_next_agent(iter, &a, &fresh)) == SHMETA_OK) {
		struct field f[] = {f_text("agent_id", a.agent_id),
		                    f_text("address", a.address),
		                    f_text("availability_zone", a.availability_zone),
		                    f_text("agent_group", a.agent_group),
		                    f_time("last_heartbeat_ms", a.last_heartbeat_ms),
		                    f_bool("alive", a.last_heartbeat_ms > now - 60000),
		                    f_time("started_at_ms", a.started_at_ms),
		                    f_age("age_ms", fresh.age_ns)};

		list_row(list, f, sizeof(f) / sizeof(*f));
	}
	return ended(iter, status);
}

static enum shmeta_status lease_rows(struct session *s, struct list *list)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_lease l;
	struct shmeta_str topic;
	int64_t now = now_ms();
	enum shmeta_status status = shmeta_list_leases(s->reader, NULL, NULL, TOOL_BEGINNING_MS, &iter);

	if (status != SHMETA_OK)
		return status;
	while ((status = shmeta_next_lease(iter, &topic, &l, &fresh)) == SHMETA_OK) {
		struct field f[] = {f_text("topic", topic),
		                    f_count("partition_id", l.partition_id),
		                    f_text("leader_agent_id", l.leader_agent_id),
		                    f_count("epoch", l.epoch),
		                    f_time("lease_expires_at_ms", l.lease_expires_at_ms),
		                    f_bool("held", l.lease_expires_at_ms > now),
		                    f_time("acquired_at_ms", l.acquired_at_ms),
		                    f_age("age_ms", fresh.age_ns)};

		list_row(list, f, sizeof(f) / sizeof(*f));
	}
	return ended(iter, status);
}

int verb_groups(struct tool *tool)
{
	return run_hints(tool, "groups", group_rows);
}

int verb_agents(struct tool *tool)
{
	return run_hints(tool, "agents", agent_rows);
}

int verb_leases(struct tool *tool)
{
	return run_hints(tool, "leases", lease_rows);
}
