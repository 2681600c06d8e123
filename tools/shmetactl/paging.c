/* SPDX-License-Identifier: Apache-2.0
 * Long lists in slices (paging.h), through the public API. */
#include "tools/shmetactl/paging.h"

#include <string.h>

int page_all(struct session *s, const struct paging *paging)
{
	enum shmeta_status status;
	struct page_place at = {0};
	int code;

	do {
		struct page_place next = at;

		code = session_begin(s);
		if (code != 0)
			return code;
		status = paging->slice(s, &next, paging->arg);
		if (!session_end(s, &code)) {
			paging->drop(paging->arg);
			status = SHMETA_OK;
			continue;
		}
		if (status == SHMETA_UNKNOWN && paging->unknown_is_none)
			status = SHMETA_END;
		if (status != SHMETA_OK && status != SHMETA_END) {
			paging->drop(paging->arg);
			return session_say(s, status, paging->what);
		}
		paging->keep(paging->arg);
		at = next;
		out_progress(paging->what, at.looked);
	} while (code == 0 && status == SHMETA_OK);
	return code;
}

static void passed(struct page_place *at, struct shmeta_str name)
{
	at->begun = true;
	at->name_bytes = name.bytes < sizeof(at->name) ? name.bytes : sizeof(at->name) - 1;
	memcpy(at->name, name.data, at->name_bytes);
	at->name[at->name_bytes] = '\0';
	at->looked++;
}

/* Remembers the last star: what it swallowed grows by one whenever the rest does not fit. */
bool page_matches(const char *p, const char *s, size_t bytes)
{
	const char *star = NULL, *end = s + bytes, *swallowed = s;

	while (s < end) {
		if (*p == '*') {
			star = p++;
			swallowed = s;
		} else if (*p == *s && *p != '\0') {
			p++;
			s++;
		} else if (star != NULL) {
			p = star + 1;
			s = ++swallowed;
		} else {
			return false;
		}
	}
	return p[strspn(p, "*")] == '\0';
}

enum shmeta_status page_topics(struct session *s, struct page_place *at,
                               bool (*row)(void *arg, const struct shmeta_topic *topic,
                                           const struct shmeta_freshness *fresh),
                               void *arg)
{
	const char *glob = s->tool->glob, *prefix = glob != NULL ? glob : s->tool->prefix;
	size_t prefix_bytes = glob != NULL ? strcspn(glob, "*") : prefix != NULL ? strlen(prefix) : 0;
	struct shmeta_iter *iter = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_topic topic;
	enum shmeta_status status = shmeta_list_topics(s->reader, prefix, prefix_bytes, 0, NULL, &iter);

	if (status == SHMETA_OK && at->begun)
		status = shmeta_skip_topics(iter, at->name, at->name_bytes);
	while (status == SHMETA_OK && (status = shmeta_next_topic(iter, &topic, &fresh)) == SHMETA_OK) {
		if ((glob == NULL || glob[0] == '\0' || page_matches(glob, topic.name.data, topic.name.bytes)) &&
		    !row(arg, &topic, &fresh))
			break;
		passed(at, topic.name);
		if (session_due(s))
			break;
	}
	session_lists(s, iter);
	shmeta_iter_free(iter);
	return status;
}

enum shmeta_status page_agents(struct session *s, struct page_place *at,
                               void (*row)(void *arg, const struct shmeta_agent *agent,
                                           const struct shmeta_freshness *fresh),
                               void *arg)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_agent agent;
	enum shmeta_status status = shmeta_list_agents(s->reader, NULL, 0, NULL, 0, TOOL_BEGINNING_MS, NULL, &iter);

	if (status == SHMETA_OK && at->begun)
		status = shmeta_skip_agents(iter, at->name, at->name_bytes);
	while (status == SHMETA_OK && (status = shmeta_next_agent(iter, &agent, &fresh)) == SHMETA_OK) {
		row(arg, &agent, &fresh);
		passed(at, agent.agent_id);
		if (session_due(s))
			break;
	}
	session_lists(s, iter);
	shmeta_iter_free(iter);
	return status;
}

enum shmeta_status page_groups(struct session *s, struct page_place *at,
                               void (*row)(void *arg, const struct shmeta_group *group,
                                           const struct shmeta_freshness *fresh),
                               void *arg)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_group group;
	enum shmeta_status status = shmeta_list_groups(s->reader, NULL, &iter);

	if (status == SHMETA_OK && at->begun)
		status = shmeta_skip_groups(iter, at->name, at->name_bytes);
	while (status == SHMETA_OK && (status = shmeta_next_group(iter, &group, &fresh)) == SHMETA_OK) {
		row(arg, &group, &fresh);
		passed(at, group.group_id);
		if (session_due(s))
			break;
	}
	session_lists(s, iter);
	shmeta_iter_free(iter);
	return status;
}

struct lease_row {
	struct session *s;
	struct page_place *at;
	void (*row)(void *arg, struct shmeta_str topic, const struct shmeta_lease *lease,
	            const struct shmeta_freshness *fresh);
	void *arg;
	bool resumes; /* in the topic of the place: partitions up to at->partition were seen */
};

/* END: all leases of the topic; OK: the slice is over. */
static enum shmeta_status leases_of(struct lease_row *l, const char *topic, struct shmeta_str name)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_lease lease;
	struct shmeta_str of;
	enum shmeta_status status =
		shmeta_list_leases(l->s->reader, topic, strlen(topic), NULL, 0, TOOL_BEGINNING_MS, NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_lease(iter, &of, &lease, &fresh)) == SHMETA_OK) {
		if (l->resumes && lease.partition_id <= l->at->partition)
			continue;
		l->resumes = false;
		l->row(l->arg, name, &lease, &fresh);
		l->at->in_topic = true;
		l->at->partition = lease.partition_id;
		if (session_due(l->s))
			break;
	}
	session_lists(l->s, iter);
	shmeta_iter_free(iter);
	l->resumes = false;
	return status;
}

enum shmeta_status page_leases(struct session *s, struct page_place *at,
                               void (*row)(void *arg, struct shmeta_str topic, const struct shmeta_lease *lease,
                                           const struct shmeta_freshness *fresh),
                               void *arg)
{
	struct lease_row l = {.s = s, .at = at, .row = row, .arg = arg};
	struct shmeta_iter *topics = NULL;
	struct shmeta_topic topic;
	enum shmeta_status status = SHMETA_END;

	if (at->in_topic) { /* the slice before ended within it */
		l.resumes = true;
		status = leases_of(&l, at->name, (struct shmeta_str){at->name, at->name_bytes});
		if (status != SHMETA_END && status != SHMETA_ABSENT)
			return status;
		at->in_topic = false;
	}
	status = shmeta_list_topics(s->reader, NULL, 0, 0, NULL, &topics);
	if (status == SHMETA_OK && at->begun)
		status = shmeta_skip_topics(topics, at->name, at->name_bytes);
	while (status == SHMETA_OK && (status = shmeta_next_topic(topics, &topic, NULL)) == SHMETA_OK) {
		passed(at, topic.name);
		status = leases_of(&l, at->name, topic.name);
		if (status != SHMETA_END)
			break;
		at->in_topic = false;
		status = SHMETA_OK;
		if (session_due(s))
			break;
	}
	session_lists(s, topics);
	shmeta_iter_free(topics);
	return status;
}
