/* SPDX-License-Identifier: Apache-2.0
 * verify: what the store has beside the source. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/paging.h"
#include "tools/shmetactl/verify_contents.h"

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void compare_group(struct verify *v, const struct shmeta_group *have)
{
	char where[SHMETA_STRING_MAX + 16], *id = text_of(have->group_id);
	struct group_row *row = verify_find_group(v, id);

	(void)snprintf(where, sizeof(where), "group %s", out_safe(have->group_id.data, have->group_id.bytes));
	if (row != NULL) {
		const struct pair numbers[] = {{"created_at", row->created_at_ms, have->created_at_ms},
		                               {"updated_at", row->updated_at_ms, have->updated_at_ms}};

		row->in_store = true;
		(void)verify_pairs_differ(v, SHMETA_CLASS_OFFSET, where, numbers, 2);
	} else {
		differs(v, SHMETA_CLASS_OFFSET, v->tenant, NULL, "%s: the store has it, the source does not", where);
	}
	free(id);
}

/* What the store has beside the source: topics that the source did not give, and the numbers of the
 * advisory records. */
struct advisory {
	struct verify *v;
	uint64_t agents, leases, offsets; /* kept, of all tenants */
	uint64_t rows;                    /* of the slice, of the kind that *count counts */
	uint64_t *count;
	size_t found, groups_kept; /* when the slice began */
	char **groups;             /* of the tenant */
	size_t group_count, group_capacity;
	const char *group; /* whose offsets are counted */
};

static void count_agent(void *arg, const struct shmeta_agent *agent, const struct shmeta_freshness *fresh)
{
	(void)agent;
	(void)fresh;
	((struct advisory *)arg)->rows++;
}

static void count_lease(void *arg, struct shmeta_str topic, const struct shmeta_lease *lease,
                        const struct shmeta_freshness *fresh)
{
	(void)topic;
	(void)lease;
	(void)fresh;
	((struct advisory *)arg)->rows++;
}

static void take_group(void *arg, const struct shmeta_group *group, const struct shmeta_freshness *fresh)
{
	struct advisory *a = arg;

	(void)fresh;
	compare_group(a->v, group);
	if (a->group_count == a->group_capacity) {
		a->group_capacity = a->group_capacity > 0 ? a->group_capacity * 2 : 64;
		a->groups = tool_grow(a->groups, a->group_capacity * sizeof(*a->groups));
	}
	a->groups[a->group_count++] = text_of(group->group_id);
}

static enum shmeta_status slice_agents(struct session *s, struct page_place *at, void *arg)
{
	return page_agents(s, at, count_agent, arg);
}

static enum shmeta_status slice_leases(struct session *s, struct page_place *at, void *arg)
{
	return page_leases(s, at, count_lease, arg);
}

static enum shmeta_status slice_groups(struct session *s, struct page_place *at, void *arg)
{
	return page_groups(s, at, take_group, arg);
}

static enum shmeta_status slice_offsets(struct session *s, struct page_place *at, void *arg)
{
	struct advisory *a = arg;
	struct shmeta_committed_offset offset;
	struct shmeta_iter *iter = NULL;
	struct shmeta_str topic;
	enum shmeta_status status = shmeta_list_committed_offsets(s->reader, a->group, strlen(a->group), NULL, &iter);

	for (; status == SHMETA_OK && (status = shmeta_next_committed_offset(iter, &topic, &offset, NULL)) == SHMETA_OK;
	     a->rows++)
		at->looked++;
	shmeta_iter_free(iter);
	return status;
}

static void keep_slice(void *arg)
{
	struct advisory *a = arg;

	if (a->count != NULL)
		*a->count += a->rows;
	a->rows = 0;
	a->groups_kept = a->group_count;
	a->found = a->v->found.count;
}

static void drop_slice(void *arg)
{
	struct advisory *a = arg;

	a->rows = 0;
	while (a->group_count > a->groups_kept)
		free(a->groups[--a->group_count]);
	findings_cut(&a->v->found, a->found);
}

static void page_advisory(struct advisory *a, page_slice_fn *slice, const char *what, uint64_t *count)
{
	const struct paging paging = {slice, keep_slice, drop_slice, a, what, true};

	a->count = count;
	a->found = a->v->found.count;
	if (a->v->code == 0)
		a->v->code = page_all(a->v->s, &paging);
}

static bool judge_topic(void *arg, const struct shmeta_topic *topic, const struct shmeta_freshness *fresh)
{
	struct verify *v = ((struct advisory *)arg)->v;
	char *name;

	(void)fresh;
	if (v->seen_count > 0 && bsearch(&topic->topic_id, v->seen, v->seen_count, sizeof(*v->seen), by_number) != NULL)
		return true;
	name = text_of(topic->name);
	differs(v, SHMETA_CLASS_TOPIC, v->tenant, name, "topic %s: the store has it, the source does not", name);
	free(name);
	return true;
}

static enum shmeta_status slice_topics(struct session *s, struct page_place *at, void *arg)
{
	return page_topics(s, at, judge_topic, arg);
}

void verify_extra_topics(struct verify *v)
{
	struct advisory a = {.v = v};
	char **tenants = NULL;
	size_t count = 0;

	if (v->seen_count > 0)
		qsort(v->seen, v->seen_count, sizeof(*v->seen), by_number);
	v->code = pages_tenants(v->tool, &v->pages, &tenants, &count);
	for (size_t i = 0; v->code == 0 && i < count; i++)
		if (verify_use_tenant(v, (struct shmeta_str){tenants[i], strlen(tenants[i])}))
			page_advisory(&a, slice_topics, "topics", NULL);
	while (count > 0)
		free(tenants[--count]);
	free(tenants);
}

/* Agents, offsets and leases that the source gave were looked up one by one; so the numbers tell
 * whether the store has others. Offsets are counted by the groups that have a row: the store lists
 * no others. */
void verify_extra_advisory(struct verify *v)
{
	struct advisory a = {.v = v};

	for (size_t i = 0; i < v->sessions; i++) {
		v->s = &v->session[i].s;
		v->tenant = v->session[i].tenant;
		page_advisory(&a, slice_agents, "agents", &a.agents);
		page_advisory(&a, slice_leases, "leases", &a.leases);
		page_advisory(&a, slice_groups, "groups", NULL);
		for (size_t k = 0; k < a.groups_kept; k++) {
			a.group = a.groups[k];
			page_advisory(&a, slice_offsets, "committed offsets", &a.offsets);
		}
		while (a.group_count > 0)
			free(a.groups[--a.group_count]);
		a.groups_kept = 0;
	}
	free(a.groups);
	if (v->code != 0)
		return;
	for (uint64_t i = 0; i < v->groups; i++)
		if (!v->group[i].in_store)
			differs(v, SHMETA_CLASS_OFFSET, v->group[i].tenant, NULL,
			        "group %s: the source has it, the store does not", v->group[i].id);
	if (a.agents != v->agents)
		differs(v, SHMETA_CLASS_AGENT, NULL, NULL, "%" PRIu64 " agents in the source, %" PRIu64 " in the store",
		        v->agents, a.agents);
	if (a.offsets + v->groupless != v->offsets)
		differs(v, SHMETA_CLASS_OFFSET, NULL, NULL,
		        "%" PRIu64 " committed offsets in the source, %" PRIu64 " in the store", v->offsets,
		        a.offsets + v->groupless);
	if (a.leases != v->leases)
		differs(v, SHMETA_CLASS_LEASE, NULL, NULL, "%" PRIu64 " leases in the source, %" PRIu64 " in the store",
		        v->leases, a.leases);
}
