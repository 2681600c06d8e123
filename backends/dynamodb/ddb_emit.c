/* SPDX-License-Identifier: Apache-2.0
 * Items to rows (ddb_read.h). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_ledger.h"
#include "backends/dynamodb/ddb_read.h"
#include "backends/dynamodb/ddb_segment.h"

/* SHARDS_AT_ONCE: of headers. TRIES: a partition that changes each time it is read is left to the
 * next read. */
enum { SHARDS_AT_ONCE = 4, GROUPS_AT_ONCE = 16, QUERIES_AT_ONCE = 64, TRIES = 12, PROGRESS_MS = 50 };

static enum shmeta_status tell(struct ddb_reading *r)
{
	uint64_t now_ns = ddb_now_ns();
	enum shmeta_status status;

	if (now_ns - r->told_ns < PROGRESS_MS * UINT64_C(1000000))
		return SHMETA_OK;
	status = r->sink->progress(r->sink->arg, r->rows, 0);
	r->told_ns = ddb_now_ns();
	return status;
}

/* Before each row. */
static enum shmeta_status count(struct ddb_reading *r)
{
	r->rows++;
	r->s->rows++;
	return !r->loading || r->sink->progress == NULL || r->rows % 64 != 0 ? SHMETA_OK : tell(r);
}

static bool two_names(const json_t *item, struct shmeta_str ret[2])
{
	struct shmeta_str sk;

	ret[0] = ret[1] = (struct shmeta_str){"", 0};
	return ddb_get_s(item, "sk", &sk) && ddb_split(sk, ret, 2) == 2;
}

/* Quarantined: the row of this key. */
static enum shmeta_status put_aside(struct ddb_reading *r, struct backend_key key, const struct rows_fault *fault)
{
	rows_quarantine(r->sink, &key, fault);
	return SHMETA_OK;
}

static bool number(const json_t *item, const char *name, const char *field, int64_t *ret, struct rows_fault *fault)
{
	if (ddb_get_n(item, name, ret))
		return true;
	rows_blame(fault, "%s (attribute %s) is no number of 64 bits", field, name);
	return false;
}

/* ---- topics ---- */

static bool read_topic(struct ddb_reading *r, const json_t *item, struct shmeta_str name, struct shmeta_topic *ret,
                       struct rows_fault *fault)
{
	struct shmeta_str config = {"", 0};
	int64_t n;

	memset(ret, 0, sizeof *ret);
	ret->name = name;
	(void)ddb_get_s(item, "cp", &ret->cleanup_policy);
	(void)ddb_get_s(item, "cfg", &config);
	if (!number(item, "n", "partition_count", &n, fault) ||
	    !rows_u32("partition_count", n, &ret->partition_count, fault) ||
	    !number(item, "cat", "created_at", &ret->created_at_ms, fault) ||
	    !number(item, "uat", "updated_at", &ret->updated_at_ms, fault))
		return false;
	ret->has_retention = ddb_get_n(item, "ret", &ret->retention_ms);
	return rows_map(&r->s->scratch, config, &ret->config, fault) && rows_check_topic(ret, fault);
}

bool ddb_header_is_of(const json_t *header, const json_t *topic)
{
	return header != NULL && !ddb_has(header, "dead") &&
	       strcmp(ddb_text(header, "inc"), ddb_text(topic, "inc")) == 0;
}

enum shmeta_status ddb_emit_partition(struct ddb_reading *r, const struct backend_key *where, const json_t *header,
                                      const json_t *topic)
{
	struct shmeta_partition p = {.partition_id = where->partition_id};
	struct rows_fault fault = {""};
	int64_t hw = 0;
	enum shmeta_status status = count(r);
	bool good = true;

	if (status != SHMETA_OK)
		return status;
	if (header != NULL) {
		good = number(header, "hw", "high_watermark", &hw, &fault) &&
		       rows_u64("high_watermark", hw, &p.high_watermark, &fault) &&
		       number(header, "cat", "created_at", &p.created_at_ms, &fault) &&
		       number(header, "uat", "updated_at", &p.updated_at_ms, &fault);
	} else {
		p.created_at_ms = p.updated_at_ms = ddb_number(topic, "cat");
	}
	if (good && rows_check_partition(&p, &fault))
		return r->sink->partition(r->sink->arg, &p);
	return put_aside(r,
	                 (struct backend_key){.cls = SHMETA_CLASS_PARTITION,
	                                      .tenant = where->tenant,
	                                      .topic = where->topic,
	                                      .partition_id = where->partition_id},
	                 &fault);
}

enum shmeta_status ddb_emit_segments(struct ddb_reading *r, const struct backend_key *where, const json_t *items,
                                     uint64_t from, uint64_t to)
{
	enum shmeta_status status = SHMETA_OK;
	size_t i;
	json_t *item;

	json_array_foreach(items, i, item)
	{
		struct shmeta_segment s;
		struct rows_fault fault = {""};

		ddb_segment_of(item, &s);
		s.partition_id = where->partition_id;
		if (s.base_offset < from || s.base_offset > to)
			continue;
		status = count(r);
		if (status != SHMETA_OK)
			break;
		if (!ddb_has(item, "e") || !ddb_has(item, "i"))
			rows_blame(&fault, "its end_offset or its id is missing");
		if (fault.text[0] != '\0' || !rows_check_segment(&s, &fault)) {
			struct backend_key key = *where;

			key.cls = SHMETA_CLASS_SEGMENT;
			rows_key_base(&key, (int64_t)s.base_offset);
			if (s.end_offset >= s.base_offset && s.end_offset <= ROWS_OFFSET_MAX)
				key.to = s.end_offset;
			status = put_aside(r, key, &fault);
		} else {
			status = r->sink->segment(r->sink->arg, &s);
		}
		if (status != SHMETA_OK)
			break;
	}
	return status;
}

/* Some shards of headers, and the segments of their partitions. */
struct chunk {
	struct ddb_key keys[SHARDS_AT_ONCE];
	struct ddb_query headers[SHARDS_AT_ONCE];
	size_t shards;
	uint32_t first, count;
	const json_t *header[SHARDS_AT_ONCE * DDB_PARTITIONS_PER_SHARD]; /* borrowed of headers */
	struct ddb_query segments[SHARDS_AT_ONCE * DDB_PARTITIONS_PER_SHARD];
	struct ddb_key segment_keys[SHARDS_AT_ONCE * DDB_PARTITIONS_PER_SHARD];
	/* under which segments were read */
	char v[SHARDS_AT_ONCE * DDB_PARTITIONS_PER_SHARD][DDB_RANDOM_BYTES];
};

static enum shmeta_status read_headers(struct ddb_reading *r, struct chunk *c, const json_t *topic,
                                       struct shmeta_str tenant, struct shmeta_str name)
{
	enum shmeta_status status;
	size_t k;
	json_t *item;

	ddb_queries_free(c->headers, c->shards);
	for (size_t i = 0; i < c->shards; i++) {
		ddb_key_header(&c->keys[i], tenant, name, c->first + (uint32_t)i * DDB_PARTITIONS_PER_SHARD);
		c->headers[i] = (struct ddb_query){.table = DDB_META, .pk = c->keys[i].pk};
	}
	status = ddb_queries(r->s, c->headers, c->shards, "reading partitions", r->err);
	memset(c->header, 0, sizeof c->header);
	for (size_t i = 0; status == SHMETA_OK && i < c->shards; i++)
		json_array_foreach(c->headers[i].items, k, item)
		{
			struct shmeta_str sk;
			uint64_t id;

			if (ddb_get_s(item, "sk", &sk) && ddb_u64(sk, &id) && id >= c->first &&
			    id - c->first < c->count && ddb_header_is_of(item, topic))
				c->header[id - c->first] = item;
		}
	return status;
}

/* Segments of the partitions whose header is not the one that they were read under. *ret: how many
 * those were. */
static enum shmeta_status read_segments(struct ddb_reading *r, struct chunk *c, struct shmeta_str tenant, size_t *ret)
{
	enum { MOST = SHARDS_AT_ONCE * DDB_PARTITIONS_PER_SHARD };
	struct ddb_query *some = calloc(MOST, sizeof *some);
	uint32_t of[MOST];
	enum shmeta_status status;
	size_t n = 0;

	if (some == NULL)
		return backend_fail(r->err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (uint32_t p = 0; p < c->count; p++) {
		const json_t *header = c->header[p];
		const char *v = ddb_text(header, "v");

		if (header == NULL || (c->v[p][0] == '\0' && ddb_number(header, "ns") == 0)) {
			json_decref(c->segments[p].items);
			c->segments[p].items = NULL;
			continue;
		}
		if (strcmp(v, c->v[p]) == 0)
			continue;
		(void)snprintf(c->v[p], sizeof c->v[p], "%s", v);
		ddb_key_segment(&c->segment_keys[p], tenant, ddb_text(header, "inc"), c->first + p, 0);
		some[n] = (struct ddb_query){.table = DDB_SEG, .pk = c->segment_keys[p].pk};
		of[n++] = p;
	}
	status = ddb_queries(r->s, some, n, "reading segments", r->err);
	for (size_t i = 0; i < n; i++) {
		json_decref(c->segments[of[i]].items);
		c->segments[of[i]].items = some[i].items;
	}
	free(some);
	*ret = n;
	return status;
}

static enum shmeta_status read_chunk(struct ddb_reading *r, struct chunk *c, const json_t *topic,
                                     struct shmeta_str tenant, struct shmeta_str name, bool segments)
{
	enum shmeta_status status = read_headers(r, c, topic, tenant, name);
	size_t again = 0;

	for (unsigned int tries = 1; status == SHMETA_OK && segments; tries++) {
		status = read_segments(r, c, tenant, &again);
		if (status != SHMETA_OK || again == 0)
			break;
		if (tries == TRIES)
			return backend_fail(r->err, SHMETA_ERR_SOURCE,
			                    "dynamodb: a partition changed each of %d times that it was read", TRIES);
		if (tries > 2)
			ddb_link_pause(&r->s->link, tries - 2, r->s->deadline_ns);
		status = read_headers(r, c, topic, tenant, name);
	}
	return status;
}

static void free_chunk(struct chunk *c)
{
	ddb_queries_free(c->headers, c->shards);
	ddb_queries_free(c->segments, sizeof c->segments / sizeof *c->segments);
}

static enum shmeta_status emit_partitions(struct ddb_reading *r, const json_t *topic, struct shmeta_str tenant,
                                          const struct shmeta_topic *row, bool segments)
{
	enum { MOST = SHARDS_AT_ONCE * DDB_PARTITIONS_PER_SHARD };
	struct chunk *c = calloc(1, sizeof *c);
	enum shmeta_status status =
		c != NULL ? SHMETA_OK : backend_fail(r->err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");

	for (uint32_t first = 0; status == SHMETA_OK && first < row->partition_count; first += MOST) {
		uint32_t left = row->partition_count - first;

		memset(c, 0, sizeof *c);
		c->first = first;
		c->count = left < MOST ? left : MOST;
		c->shards = (c->count + DDB_PARTITIONS_PER_SHARD - 1) / DDB_PARTITIONS_PER_SHARD;
		if (r->loading || first > 0)
			ddb_go_on(r->s);
		status = read_chunk(r, c, topic, tenant, row->name, segments);
		for (uint32_t p = 0; status == SHMETA_OK && p < c->count; p++) {
			struct backend_key where = {.tenant = tenant, .topic = row->name, .partition_id = first + p};

			status = ddb_emit_partition(r, &where, c->header[p], topic);
			if (status == SHMETA_OK && c->segments[p].items != NULL)
				status = ddb_emit_segments(r, &where, c->segments[p].items, 0, UINT64_MAX);
		}
		free_chunk(c);
	}
	free(c);
	return status;
}

enum shmeta_status ddb_emit_topic(struct ddb_reading *r, const json_t *item, bool partitions, bool segments)
{
	struct shmeta_str name[2];
	struct shmeta_topic row;
	struct rows_fault fault = {""};
	enum shmeta_status status = count(r);

	if (status != SHMETA_OK)
		return status;
	if (!two_names(item, name) || !rows_check_tenant(name[0], &fault) ||
	    !read_topic(r, item, name[1], &row, &fault))
		return put_aside(r,
		                 (struct backend_key){.cls = SHMETA_CLASS_TOPIC,
		                                      .tenant = name[0],
		                                      .topic = name[1],
		                                      .unread = name[1].bytes == 0 ? BACKEND_UNREAD_TOPIC : 0},
		                 &fault);
	status = r->sink->topic(r->sink->arg, name[0], &row);
	if (status == SHMETA_OK && partitions)
		status = emit_partitions(r, item, name[0], &row, segments);
	return status;
}

enum shmeta_status ddb_all_topics(struct ddb_reading *r, struct ddb_query *ret)
{
	size_t i = 0;

	*ret = (struct ddb_query){.table = DDB_META, .pk = "T"};
	enum shmeta_status status = ddb_queries(r->s, ret, 1, "reading topics", r->err);

	while (status == SHMETA_OK && i < json_array_size(ret->items))
		if (ddb_has(json_array_get(ret->items, i), "gone"))
			(void)json_array_remove(ret->items, i);
		else
			i++;
	return status;
}

/* ---- the others ---- */

enum shmeta_status ddb_emit_agent(struct ddb_reading *r, const json_t *item)
{
	struct shmeta_str name[2], metadata = {"", 0};
	struct shmeta_agent a = {.last_heartbeat_ms = 0};
	struct rows_fault fault = {""};
	enum shmeta_status status = count(r);

	if (status != SHMETA_OK)
		return status;
	(void)two_names(item, name);
	a.agent_id = name[1];
	(void)ddb_get_s(item, "ad", &a.address);
	(void)ddb_get_s(item, "az", &a.availability_zone);
	(void)ddb_get_s(item, "gr", &a.agent_group);
	(void)ddb_get_s(item, "md", &metadata);
	if (rows_check_tenant(name[0], &fault) && number(item, "hb", "last_heartbeat", &a.last_heartbeat_ms, &fault) &&
	    number(item, "st", "started_at", &a.started_at_ms, &fault) &&
	    rows_map(&r->s->scratch, metadata, &a.metadata, &fault) && rows_check_agent(&a, &fault))
		return r->sink->agent(r->sink->arg, name[0], &a);
	return put_aside(r, (struct backend_key){.cls = SHMETA_CLASS_AGENT, .tenant = name[0], .name = name[1]},
	                 &fault);
}

enum shmeta_status ddb_emit_group_row(struct ddb_reading *r, const json_t *item)
{
	struct shmeta_str name[2];
	struct shmeta_group g = {.created_at_ms = 0};
	struct rows_fault fault = {""};
	enum shmeta_status status = count(r);

	if (status != SHMETA_OK)
		return status;
	(void)two_names(item, name);
	g.group_id = name[1];
	if (rows_check_tenant(name[0], &fault) && number(item, "cat", "created_at", &g.created_at_ms, &fault) &&
	    number(item, "uat", "updated_at", &g.updated_at_ms, &fault) && rows_check_group(&g, &fault))
		return r->sink->group(r->sink->arg, name[0], &g);
	return put_aside(r, (struct backend_key){.cls = SHMETA_CLASS_OFFSET, .tenant = name[0], .name = name[1]},
	                 &fault);
}

enum shmeta_status ddb_emit_offset(struct ddb_reading *r, struct shmeta_str tenant, struct shmeta_str topic,
                                   struct shmeta_str group, const json_t *item)
{
	struct shmeta_committed_offset o = {.group_id = group};
	struct rows_fault fault = {""};
	struct shmeta_str sk, part[2];
	uint64_t partition = 0;
	int64_t committed;
	enum shmeta_status status = count(r);

	if (status != SHMETA_OK)
		return status;
	if (ddb_get_s(item, "sk", &sk) && ddb_split(sk, part, 2) == 2)
		(void)ddb_u64(part[1], &partition);
	o.partition_id = (uint32_t)partition;
	o.has_metadata = ddb_get_s(item, "m", &o.metadata);
	if (number(item, "off", "committed_offset", &committed, &fault) &&
	    rows_u64("committed_offset", committed, &o.committed_offset, &fault) &&
	    number(item, "at", "committed_at", &o.committed_at_ms, &fault) && rows_check_offset(topic, &o, &fault))
		return r->sink->offset(r->sink->arg, tenant, topic, &o);
	return put_aside(r,
	                 (struct backend_key){.cls = SHMETA_CLASS_OFFSET,
	                                      .tenant = tenant,
	                                      .topic = topic,
	                                      .name = group,
	                                      .partition_id = o.partition_id},
	                 &fault);
}

enum shmeta_status ddb_emit_lease(struct ddb_reading *r, const struct backend_key *where, const json_t *header)
{
	struct shmeta_lease l = {.partition_id = where->partition_id};
	struct rows_fault fault = {""};
	int64_t epoch;
	enum shmeta_status status;

	if (!ddb_get_s(header, "ag", &l.leader_agent_id))
		return SHMETA_OK;
	status = count(r);
	if (status != SHMETA_OK)
		return status;
	if (number(header, "ep", "epoch", &epoch, &fault) && rows_u64("epoch", epoch, &l.epoch, &fault) &&
	    number(header, "exp", "lease_expires_at", &l.lease_expires_at_ms, &fault) &&
	    number(header, "acq", "acquired_at", &l.acquired_at_ms, &fault) &&
	    rows_check_lease(where->topic, &l, &fault))
		return r->sink->lease(r->sink->arg, where->tenant, where->topic, &l);
	return put_aside(r,
	                 (struct backend_key){.cls = SHMETA_CLASS_LEASE,
	                                      .tenant = where->tenant,
	                                      .topic = where->topic,
	                                      .partition_id = where->partition_id},
	                 &fault);
}

/* ---- groups and their offsets ---- */

/* Some groups, and the shards of their offsets. */
struct some_groups {
	const json_t *item[GROUPS_AT_ONCE];
	size_t count;
	struct ddb_key key[GROUPS_AT_ONCE * DDB_OFFSET_SHARDS];
	struct ddb_query q[GROUPS_AT_ONCE * DDB_OFFSET_SHARDS];
	struct ddb_ledger topics;
};

/* What the topics say of the offsets of a group, which are emitted where they were read. Offsets of
 * another life of the group, or of the topic, are not these. */
static enum shmeta_status judge_offsets(struct ddb_reading *r, struct some_groups *g, size_t at, bool emit)
{
	struct shmeta_str name[2], sk, part[2];
	struct ddb_key topic_key;
	enum shmeta_status status = SHMETA_OK;
	size_t k;
	json_t *offset;

	(void)two_names(g->item[at], name);
	for (size_t i = at * DDB_OFFSET_SHARDS; i < (at + 1) * DDB_OFFSET_SHARDS; i++)
		json_array_foreach(g->q[i].items, k, offset)
		{
			const struct ddb_entry *topic;

			if (!ddb_get_s(offset, "sk", &sk) || ddb_split(sk, part, 2) != 2 ||
			    strcmp(ddb_text(offset, "gi"), ddb_text(g->item[at], "gi")) != 0)
				continue;
			ddb_key_topic(&topic_key, name[0], part[0]);
			topic = ddb_ledger_get(&g->topics, &topic_key);
			if (emit && status == SHMETA_OK && topic != NULL && topic->base != NULL &&
			    !ddb_has(topic->base, "gone") &&
			    strcmp(ddb_text(topic->base, "inc"), ddb_text(offset, "inc")) == 0)
				status = ddb_emit_offset(r, name[0], part[0], name[1], offset);
		}
	return status;
}

static enum shmeta_status emit_some_groups(struct ddb_reading *r, struct some_groups *g)
{
	size_t shards = g->count * DDB_OFFSET_SHARDS;
	struct shmeta_str name[2];
	enum shmeta_status status;

	for (size_t i = 0; i < shards; i++) {
		(void)two_names(g->item[i / DDB_OFFSET_SHARDS], name);
		ddb_pk_offsets(&g->key[i], name[0], name[1], (unsigned int)(i % DDB_OFFSET_SHARDS));
		g->q[i] = (struct ddb_query){.table = DDB_META, .pk = g->key[i].pk};
	}
	status = ddb_queries(r->s, g->q, shards, "reading committed offsets", r->err);
	for (size_t i = 0; status == SHMETA_OK && i < g->count; i++)
		status = judge_offsets(r, g, i, false);
	if (status == SHMETA_OK)
		status = ddb_ledger_read(r->s, &g->topics, r->err);
	for (size_t i = 0; status == SHMETA_OK && i < g->count; i++) {
		status = ddb_emit_group_row(r, g->item[i]);
		if (status == SHMETA_OK)
			status = judge_offsets(r, g, i, true);
	}
	ddb_queries_free(g->q, shards);
	ddb_ledger_free(&g->topics);
	return status;
}

enum shmeta_status ddb_emit_group(struct ddb_reading *r, const json_t *item)
{
	struct some_groups *g = calloc(1, sizeof *g);
	enum shmeta_status status;

	if (g == NULL)
		return backend_fail(r->err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	g->item[g->count++] = item;
	status = emit_some_groups(r, g);
	free(g);
	return status;
}

enum shmeta_status ddb_emit_groups(struct ddb_reading *r)
{
	struct ddb_query all = {.table = DDB_META, .pk = "G"};
	struct some_groups *g = calloc(1, sizeof *g);
	enum shmeta_status status = g != NULL ? ddb_queries(r->s, &all, 1, "reading groups", r->err)
	                                      : backend_fail(r->err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");

	for (size_t i = 0; status == SHMETA_OK && i < json_array_size(all.items);) {
		memset(g, 0, sizeof *g);
		for (; g->count < GROUPS_AT_ONCE && i < json_array_size(all.items); i++)
			g->item[g->count++] = json_array_get(all.items, i);
		ddb_go_on(r->s);
		status = emit_some_groups(r, g);
	}
	ddb_queries_free(&all, 1);
	free(g);
	return status;
}

/* ---- whole classes ---- */

enum shmeta_status ddb_emit_agents(struct ddb_reading *r)
{
	struct ddb_query q = {.table = DDB_META, .pk = "A"};
	enum shmeta_status status = ddb_queries(r->s, &q, 1, "reading agents", r->err);

	for (size_t i = 0; status == SHMETA_OK && i < json_array_size(q.items); i++)
		status = ddb_emit_agent(r, json_array_get(q.items, i));
	ddb_queries_free(&q, 1);
	return status;
}

/* Shards of headers, of any topics. */
struct some_shards {
	const json_t *topic[QUERIES_AT_ONCE];
	uint32_t first[QUERIES_AT_ONCE];
	size_t count;
	struct ddb_key key[QUERIES_AT_ONCE];
	struct ddb_query q[QUERIES_AT_ONCE];
};

static enum shmeta_status emit_leases_of(struct ddb_reading *r, const json_t *topic, const json_t *headers)
{
	struct shmeta_str name[2], sk;
	enum shmeta_status status = SHMETA_OK;
	uint64_t id;
	size_t k;
	json_t *item;

	(void)two_names(topic, name);
	json_array_foreach(headers, k, item)
	{
		if (status != SHMETA_OK || !ddb_get_s(item, "sk", &sk) || !ddb_u64(sk, &id) ||
		    (int64_t)id >= ddb_number(topic, "n") || !ddb_header_is_of(item, topic))
			continue;
		status = ddb_emit_lease(
			r, &(struct backend_key){.tenant = name[0], .topic = name[1], .partition_id = (uint32_t)id},
			item);
	}
	return status;
}

static enum shmeta_status emit_some_leases(struct ddb_reading *r, struct some_shards *h)
{
	struct shmeta_str name[2];
	enum shmeta_status status;

	for (size_t i = 0; i < h->count; i++) {
		(void)two_names(h->topic[i], name);
		ddb_key_header(&h->key[i], name[0], name[1], h->first[i]);
		h->q[i] = (struct ddb_query){.table = DDB_META, .pk = h->key[i].pk};
	}
	status = ddb_queries(r->s, h->q, h->count, "reading leases", r->err);
	for (size_t i = 0; status == SHMETA_OK && i < h->count; i++)
		status = emit_leases_of(r, h->topic[i], h->q[i].items);
	ddb_queries_free(h->q, h->count);
	return status;
}

enum shmeta_status ddb_emit_leases(struct ddb_reading *r)
{
	struct ddb_query topics = {.items = NULL};
	struct some_shards *h = calloc(1, sizeof *h);
	enum shmeta_status status = h != NULL ? ddb_all_topics(r, &topics)
	                                      : backend_fail(r->err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	int64_t first = 0;

	for (size_t i = 0; status == SHMETA_OK && i < json_array_size(topics.items);) {
		memset(h, 0, sizeof *h);
		while (h->count < QUERIES_AT_ONCE && i < json_array_size(topics.items)) {
			const json_t *topic = json_array_get(topics.items, i);

			if (first >= ddb_number(topic, "n") || first > UINT32_MAX) {
				i++;
				first = 0;
				continue;
			}
			h->topic[h->count] = topic;
			h->first[h->count++] = (uint32_t)first;
			first += DDB_PARTITIONS_PER_SHARD;
		}
		ddb_go_on(r->s);
		status = emit_some_leases(r, h);
	}
	ddb_queries_free(&topics, 1);
	free(h);
	return status;
}

/* While its calls are waited for. */
static enum shmeta_status turn(void *arg)
{
	return tell(arg);
}

enum shmeta_status ddb_load(void *state, const struct backend_sink *sink, struct backend_error *err)
{
	struct ddb_state *s = state;
	struct ddb_reading r = {.s = s, .sink = sink, .loading = true, .err = err, .told_ns = ddb_now_ns()};
	struct ddb_query topics = {.items = NULL};
	struct shmeta_str name[2];
	enum shmeta_status status;

	ddb_begin(s, DDB_FOR_LOAD);
	ddb_link_turns(&s->link, sink->progress != NULL ? turn : NULL, &r);
	status = ddb_log_baseline(s, err);
	if (status == SHMETA_OK)
		status = ddb_all_topics(&r, &topics);
	for (size_t i = 0; status == SHMETA_OK && i < json_array_size(topics.items); i++) {
		const json_t *item = json_array_get(topics.items, i);

		ddb_begin(s, DDB_FOR_LOAD);
		if (sink->key == NULL)
			status = ddb_emit_topic(&r, item, true, true);
		else if (two_names(item, name))
			status = sink->key(
				sink->arg,
				&(struct backend_key){.cls = SHMETA_CLASS_TOPIC, .tenant = name[0], .topic = name[1]});
	}
	ddb_queries_free(&topics, 1);
	if (status == SHMETA_OK && sink->key == NULL)
		status = ddb_emit_agents(&r);
	if (status == SHMETA_OK && sink->key == NULL)
		status = ddb_emit_groups(&r);
	if (status == SHMETA_OK && sink->key == NULL)
		status = ddb_emit_leases(&r);
	if (status == SHMETA_OK || s->link.turned != SHMETA_OK)
		status = s->link.turned;
	ddb_link_turns(&s->link, NULL, NULL);
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, r.rows, r.rows);
	return status;
}
