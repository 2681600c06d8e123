/* SPDX-License-Identifier: Apache-2.0
 * dump: every record as one JSON object a line, topic by topic in bounded snapshots. The lines of
 * one slice are of one commit; a topic with more rows than a slice holds may show a later commit
 * further down, as "txn" of its partitions tells. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/inspect.h"
#include "tools/shmetactl/paging.h"

struct dump {
	struct session s;
	struct tool *tool;
	struct list lines;
	struct shmeta_str tenant;
	char **names; /* of the tenant's topics */
	size_t name_count, names_kept, name_capacity;
	uint64_t topics, partitions, segments, agents, groups, offsets, leases, snapshots, repeated;
	char **group_ids; /* `groups` of them, and those of the slice */
	size_t group_capacity;
	bool lacks;        /* the store has not all that the source has */
	const char *group; /* whose offsets come */
	uint64_t rows;     /* of the slice, of the kind that *count counts */
	uint64_t *count;
};

/* Where the walk through one topic stands. */
struct place {
	bool topic_done, partition_done; /* its line is out */
	int64_t partition;               /* -1: none yet */
	bool has_base;
	uint64_t base;
	uint64_t partitions, segments;
};

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static size_t head_fields(const struct dump *d, struct field *fields, const char *kind)
{
	fields[0] = f_word("kind", kind);
	fields[1] = f_text("tenant", d->tenant);
	return 2;
}

static void dump_topic(struct dump *d, const struct shmeta_topic *t, const struct shmeta_freshness *fresh)
{
	struct field f[20];
	size_t n = head_fields(d, f, "topic");

	f[n++] = f_text("name", t->name);
	f[n++] = f_count("topic_id", t->topic_id);
	f[n++] = f_count("partition_count", t->partition_count);
	f[n++] = t->has_retention ? f_count("retention_ms", (uint64_t)t->retention_ms) : f_null("retention_ms");
	f[n++] = f_text("cleanup_policy", t->cleanup_policy);
	f[n++] = f_map("config", t->config);
	f[n++] = f_time("created_at_ms", t->created_at_ms);
	f[n++] = f_time("updated_at_ms", t->updated_at_ms);
	f[n++] = f_age("age_ms", fresh->age_ns);
	f[n++] = f_bool("fresh", fresh->fresh != 0);
	f[n++] = f_count("txn", fresh->txn);
	list_row(&d->lines, f, n);
}

static void dump_partition(struct dump *d, const char *topic, const struct shmeta_partition *p,
                           const struct shmeta_freshness *fresh)
{
	struct field f[20];
	size_t n = head_fields(d, f, "partition");

	f[n++] = f_text("topic", str(topic));
	f[n++] = f_count("partition_id", p->partition_id);
	f[n++] = f_count("log_start_offset", p->log_start_offset);
	f[n++] = f_count("high_watermark", p->high_watermark);
	f[n++] = f_count("segment_count", p->segment_count);
	f[n++] = f_bytes("size_bytes", p->size_bytes);
	f[n++] = f_time("created_at_ms", p->created_at_ms);
	f[n++] = f_time("updated_at_ms", p->updated_at_ms);
	f[n++] = f_age("age_ms", fresh->age_ns);
	f[n++] = f_bool("fresh", fresh->fresh != 0);
	f[n++] = f_count("txn", fresh->txn);
	list_row(&d->lines, f, n);
}

static void dump_segment(struct dump *d, const char *topic, const struct shmeta_segment *g)
{
	struct field f[20];
	size_t n = head_fields(d, f, "segment");

	f[n++] = f_text("topic", str(topic));
	f[n++] = f_count("partition_id", g->partition_id);
	f[n++] = f_count("base_offset", g->base_offset);
	f[n++] = f_count("end_offset", g->end_offset);
	f[n++] = f_count("record_count", g->record_count);
	f[n++] = f_bytes("size_bytes", g->size_bytes);
	f[n++] = f_text("id", g->id);
	f[n++] = f_text("s3_bucket", g->s3_bucket);
	f[n++] = f_text("s3_key", g->s3_key);
	f[n++] = f_time("created_at_ms", g->created_at_ms);
	f[n++] = f_time_known("min_timestamp_ms", g->min_timestamp_ms);
	f[n++] = f_time_known("max_timestamp_ms", g->max_timestamp_ms);
	list_row(&d->lines, f, n);
}

/* END: the partition is done. OK: the slice is over. */
static enum shmeta_status slice_segments(struct dump *d, const char *topic, struct place *at)
{
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_handle *handle = NULL;
	struct shmeta_iter *iter = NULL;
	struct shmeta_segment g;
	bool behind = at->has_base;
	uint64_t after = at->base;
	enum shmeta_status status;

	status = shmeta_partition_open(d->s.reader, topic, strlen(topic), (uint32_t)at->partition, &handle);
	if (status == SHMETA_OK)
		status = shmeta_list_segments(handle, behind ? after + 1 : 0, UINT64_MAX, NULL, &iter);
	while (status == SHMETA_OK && (status = shmeta_next_segment(iter, &g)) == SHMETA_OK) {
		if (behind && g.base_offset <= after)
			continue;
		status = shmeta_segment_strings(handle, &g, strings, sizeof(strings));
		if (status != SHMETA_OK)
			break;
		dump_segment(d, topic, &g);
		at->segments++;
		at->has_base = true;
		at->base = g.base_offset;
		if (session_due(&d->s))
			break;
	}
	session_lists(&d->s, iter);
	shmeta_iter_free(iter);
	shmeta_partition_close(handle);
	return status;
}

/* END: the topic is done; ABSENT: it is no longer there; OK: the slice is over. */
static enum shmeta_status slice_topic(struct dump *d, const char *topic, struct place *at)
{
	struct shmeta_freshness fresh;
	struct shmeta_topic record;
	struct shmeta_partition p;
	struct shmeta_iter *iter = NULL;
	enum shmeta_status status = shmeta_get_topic(d->s.reader, topic, strlen(topic), NULL, &record, &fresh);

	if (status != SHMETA_OK)
		return status;
	if (!at->topic_done)
		dump_topic(d, &record, &fresh);
	at->topic_done = true;
	status = shmeta_list_partitions(d->s.reader, topic, strlen(topic), NULL, &iter);
	while (status == SHMETA_OK && (status = shmeta_next_partition(iter, &p, &fresh)) == SHMETA_OK) {
		bool resumed = (int64_t)p.partition_id == at->partition;

		if ((int64_t)p.partition_id < at->partition || (resumed && at->partition_done))
			continue;
		if (!resumed) {
			dump_partition(d, topic, &p, &fresh);
			at->partitions++;
			at->partition = p.partition_id;
			at->has_base = false;
		}
		at->partition_done = false;
		status = slice_segments(d, topic, at);
		if (status != SHMETA_END && status != SHMETA_ABSENT)
			break;
		at->partition_done = true;
		status = SHMETA_OK;
		if (session_due(&d->s))
			break;
	}
	session_lists(&d->s, iter);
	shmeta_iter_free(iter);
	return status;
}

static int dump_one(struct dump *d, const char *topic)
{
	struct place at = {.partition = -1}, next;
	enum shmeta_status status;
	int code = 0;

	do {
		code = session_begin(&d->s);
		if (code != 0)
			return code;
		next = at;
		status = slice_topic(d, topic, &next);
		if (!session_end(&d->s, &code)) {
			list_drop(&d->lines);
			status = SHMETA_OK;
			continue;
		}
		if (status < SHMETA_OK) {
			list_drop(&d->lines);
			return session_say(&d->s, status, topic);
		}
		list_flush(&d->lines);
		at = next;
	} while (code == 0 && status == SHMETA_OK);
	d->topics += at.topic_done;
	d->partitions += at.partitions;
	d->segments += at.segments;
	return code;
}

static bool add_name(void *arg, const struct shmeta_topic *topic, const struct shmeta_freshness *fresh)
{
	struct dump *d = arg;

	(void)fresh;
	if (d->name_count == d->name_capacity) {
		d->name_capacity = d->name_capacity > 0 ? d->name_capacity * 2 : 1024;
		d->names = tool_grow(d->names, d->name_capacity * sizeof(*d->names));
	}
	d->names[d->name_count++] = tool_copy(topic->name.data, topic->name.bytes);
	return true;
}

static enum shmeta_status slice_names(struct session *s, struct page_place *at, void *arg)
{
	return page_topics(s, at, add_name, arg);
}

static void keep_names(void *arg)
{
	struct dump *d = arg;

	d->names_kept = d->name_count;
}

static void drop_names(void *arg)
{
	struct dump *d = arg;

	while (d->name_count > d->names_kept)
		free(d->names[--d->name_count]);
}

static int collect_names(struct dump *d)
{
	const struct paging paging = {slice_names, keep_names, drop_names, d, "topics", true};

	d->name_count = d->names_kept = 0;
	return page_all(&d->s, &paging);
}

static void agent_line(void *arg, const struct shmeta_agent *a, const struct shmeta_freshness *fresh)
{
	struct dump *d = arg;
	struct field f[16];
	size_t n = head_fields(d, f, "agent");

	(void)fresh;
	f[n++] = f_text("agent_id", a->agent_id);
	f[n++] = f_text("address", a->address);
	f[n++] = f_text("availability_zone", a->availability_zone);
	f[n++] = f_text("agent_group", a->agent_group);
	f[n++] = f_time("last_heartbeat_ms", a->last_heartbeat_ms);
	f[n++] = f_time("started_at_ms", a->started_at_ms);
	f[n++] = f_map("metadata", a->metadata);
	list_row(&d->lines, f, n);
	d->rows++;
}

static void lease_line(void *arg, struct shmeta_str topic, const struct shmeta_lease *l,
                       const struct shmeta_freshness *fresh)
{
	struct dump *d = arg;
	struct field f[16];
	size_t n = head_fields(d, f, "lease");

	(void)fresh;
	f[n++] = f_text("topic", topic);
	f[n++] = f_count("partition_id", l->partition_id);
	f[n++] = f_text("leader_agent_id", l->leader_agent_id);
	f[n++] = f_time("lease_expires_at_ms", l->lease_expires_at_ms);
	f[n++] = f_time("acquired_at_ms", l->acquired_at_ms);
	f[n++] = f_count("epoch", l->epoch);
	list_row(&d->lines, f, n);
	d->rows++;
}

static void group_line(void *arg, const struct shmeta_group *g, const struct shmeta_freshness *fresh)
{
	struct dump *d = arg;
	struct field f[8];
	size_t n = head_fields(d, f, "group");

	(void)fresh;
	f[n++] = f_text("group_id", g->group_id);
	f[n++] = f_time("created_at_ms", g->created_at_ms);
	f[n++] = f_time("updated_at_ms", g->updated_at_ms);
	list_row(&d->lines, f, n);
	if (d->groups + d->rows == d->group_capacity) {
		d->group_capacity = d->group_capacity > 0 ? d->group_capacity * 2 : 64;
		d->group_ids = tool_grow(d->group_ids, d->group_capacity * sizeof(*d->group_ids));
	}
	d->group_ids[d->groups + d->rows++] = tool_copy(g->group_id.data, g->group_id.bytes);
}

static enum shmeta_status slice_agents(struct session *s, struct page_place *at, void *arg)
{
	return page_agents(s, at, agent_line, arg);
}

static enum shmeta_status slice_groups(struct session *s, struct page_place *at, void *arg)
{
	return page_groups(s, at, group_line, arg);
}

static enum shmeta_status slice_leases(struct session *s, struct page_place *at, void *arg)
{
	return page_leases(s, at, lease_line, arg);
}

/* Of one group: all in one snapshot. */
static enum shmeta_status slice_offsets(struct session *s, struct page_place *at, void *arg)
{
	struct dump *d = arg;
	struct shmeta_iter *iter = NULL;
	struct shmeta_committed_offset o;
	struct shmeta_str topic;
	enum shmeta_status status = shmeta_list_committed_offsets(s->reader, d->group, strlen(d->group), NULL, &iter);

	while (status == SHMETA_OK && (status = shmeta_next_committed_offset(iter, &topic, &o, NULL)) == SHMETA_OK) {
		struct field f[12];
		size_t n = head_fields(d, f, "committed_offset");

		f[n++] = f_text("group_id", o.group_id);
		f[n++] = f_text("topic", topic);
		f[n++] = f_count("partition_id", o.partition_id);
		f[n++] = f_count("committed_offset", o.committed_offset);
		f[n++] = o.has_metadata ? f_text("metadata", o.metadata) : f_null("metadata");
		f[n++] = f_time("committed_at_ms", o.committed_at_ms);
		list_row(&d->lines, f, n);
		d->rows++;
		at->looked++;
	}
	session_lists(s, iter);
	shmeta_iter_free(iter);
	return status;
}

static void keep_rows(void *arg)
{
	struct dump *d = arg;

	list_flush(&d->lines);
	*d->count += d->rows;
	d->rows = 0;
}

static void drop_rows(void *arg)
{
	struct dump *d = arg;

	list_drop(&d->lines);
	for (; d->count == &d->groups && d->rows > 0; d->rows--)
		free(d->group_ids[d->groups + d->rows - 1]);
	d->rows = 0;
}

static int dump_rows(struct dump *d, page_slice_fn *slice, const char *what, uint64_t *count)
{
	const struct paging paging = {slice, keep_rows, drop_rows, d, what, true};

	d->count = count;
	return page_all(&d->s, &paging);
}

static int dump_advisory(struct dump *d)
{
	const uint64_t before = d->groups;
	int code = dump_rows(d, slice_agents, "agents", &d->agents);

	if (code == 0)
		code = dump_rows(d, slice_groups, "groups", &d->groups);
	for (uint64_t i = before; code == 0 && i < d->groups; i++) {
		d->group = d->group_ids[i];
		code = dump_rows(d, slice_offsets, "committed offsets", &d->offsets);
	}
	if (code == 0)
		code = dump_rows(d, slice_leases, "leases", &d->leases);
	return code;
}

static int dump_tenant(struct dump *d, const char *tenant)
{
	int code = session_open_long(d->tool, tenant, &d->s);

	if (code != 0)
		return code;
	d->tenant = str(tenant);
	code = collect_names(d);
	for (size_t i = 0; code == 0 && i < d->name_count; i++) {
		code = dump_one(d, d->names[i]);
		out_progress("topics", i + 1);
	}
	/* A choice of topics is a choice of topics alone. */
	if (code == 0 && d->tool->prefix == NULL && d->tool->glob == NULL)
		code = dump_advisory(d);
	while (d->name_count > 0)
		free(d->names[--d->name_count]);
	d->snapshots += d->s.snapshots;
	d->repeated += d->s.repeated;
	d->lacks |= d->s.lacks;
	session_tell_lacks(&d->s);
	session_close(&d->s);
	return code;
}

int verb_dump(struct tool *tool)
{
	struct dump d = {.tool = tool};
	struct pages pages;
	char **tenants = NULL;
	size_t tenant_count = 0;
	json_t *head;
	int code = pages_open(tool, &pages);

	if (code != 0)
		return code;
	head = out_document("dump");
	out_set(head, "kind", json_string("header"));
	out_set(head, "directory", out_json_text(tool->dir, strlen(tool->dir)));
	out_set(head, "generation", out_json_count(pages.board.generation));
	out_set(head, "txn", out_json_count(pages.generation.committed));
	code = pages_tenants(tool, &pages, &tenants, &tenant_count);
	pages_close(&pages);
	if (code != 0) {
		json_decref(head);
		return code;
	}
	list_begin(&d.lines, tool, "dump");
	d.lines.lines = true;
	out_json(head, 0);
	for (size_t i = 0; code == 0 && i < tenant_count; i++)
		code = dump_tenant(&d, tenants[i]);
	if (code == 0) {
		struct field f[] = {
			f_word("kind", "end"),
			f_count("topics", d.topics),
			f_count("partitions", d.partitions),
			f_count("segments", d.segments),
			f_count("agents", d.agents),
			f_count("groups", d.groups),
			f_count("committed_offsets", d.offsets),
			f_count("leases", d.leases),
			f_count("snapshots", d.snapshots),
			f_count("snapshots_repeated", d.repeated),
			f_bool("complete", !d.lacks),
		};

		list_row(&d.lines, f, sizeof(f) / sizeof(f[0]));
		list_end(&d.lines, NULL, 0);
	}
	list_free(&d.lines);
	while (tenant_count > 0)
		free(tenants[--tenant_count]);
	free(tenants);
	free(d.names);
	for (uint64_t i = 0; i < d.groups; i++)
		free(d.group_ids[i]);
	free(d.group_ids);
	return code;
}
