/* SPDX-License-Identifier: Apache-2.0
 * Rows of a database to the sink (row_decode.h). */
#include "backends/sql/row_decode.h"

static bool get_int(const struct emit *emit, void *row, int column, const char *field, int64_t *ret,
                    struct rows_fault *fault)
{
	return emit->columns->integer(row, column, field, ret, fault);
}

static bool get_u64(const struct emit *emit, void *row, int column, const char *field, uint64_t *ret,
                    struct rows_fault *fault)
{
	int64_t value = 0;

	return get_int(emit, row, column, field, &value, fault) && rows_u64(field, value, ret, fault);
}

static bool get_u32(const struct emit *emit, void *row, int column, const char *field, uint32_t *ret,
                    struct rows_fault *fault)
{
	int64_t value = 0;

	return get_int(emit, row, column, field, &value, fault) && rows_u32(field, value, ret, fault);
}

static bool get_text(const struct emit *emit, void *row, int column, const char *field, struct shmeta_str *ret,
                     struct rows_fault *fault)
{
	return emit->columns->text(row, column, field, ret, fault);
}

static bool get_optional_text(const struct emit *emit, void *row, int column, const char *field, struct shmeta_str *ret,
                              struct rows_fault *fault)
{
	*ret = (struct shmeta_str){"", 0};
	return emit->columns->is_null(row, column) || get_text(emit, row, column, field, ret, fault);
}

static bool get_tenant(const struct emit *emit, bool has_column, void *row, struct shmeta_str *ret,
                       struct rows_fault *fault)
{
	*ret = rows_str(SHMETA_DEFAULT_TENANT);
	return !has_column || get_text(emit, row, 0, "organization_id", ret, fault);
}

/* The row that the cursor stands on: its key has been read. */
static void quarantine_at(const struct backend_sink *sink, const struct walk_cursor *at, uint64_t end,
                          const struct rows_fault *fault)
{
	struct backend_key row = {.cls = at->cls, .tenant = at->tenant, .topic = at->topic};

	if (at->cls != SHMETA_CLASS_TOPIC)
		rows_key_partition(&row, at->partition);
	if (at->cls == SHMETA_CLASS_SEGMENT) {
		rows_key_base(&row, at->base);
		row.to = end;
	}
	rows_quarantine(sink, &row, fault);
}

/* Where the key of a row is; 0: it has no such column. */
struct key_columns {
	enum shmeta_class cls;
	int name, topic, partition, base;
};

static struct shmeta_str key_text(const struct emit *emit, void *row, int column, enum backend_unread bit,
                                  uint32_t *unread)
{
	struct shmeta_str text = {"", 0};
	struct rows_fault ignored;

	rows_faultless(&ignored);
	if (column > 0 && (!get_text(emit, row, column, "", &text, &ignored) || text.bytes == 0)) {
		text = (struct shmeta_str){"", 0};
		*unread |= bit;
	}
	return text;
}

static bool key_int(const struct emit *emit, void *row, int column, enum backend_unread bit, int64_t *ret,
                    uint32_t *unread)
{
	struct rows_fault ignored;

	rows_faultless(&ignored);
	if (column > 0 && get_int(emit, row, column, "", ret, &ignored))
		return true;
	if (column > 0)
		*unread |= bit;
	return false;
}

/* A row of which something could not be read: which one it is, as far as that can be read. */
static void quarantine_row(const struct emit *emit, const struct key_columns *columns, void *row,
                           const struct rows_fault *fault)
{
	bool owned = columns->cls == SHMETA_CLASS_AGENT
	                     ? emit->agents_organization && !emit->columns->is_null(row, 0)
	                     : (columns->cls == SHMETA_CLASS_LEASE ? emit->leases_organization : emit->organization);
	struct backend_key key = {.cls = columns->cls};
	struct rows_fault ignored;
	int64_t number;

	rows_faultless(&ignored);
	if (!get_tenant(emit, owned, row, &key.tenant, &ignored)) {
		key.tenant = (struct shmeta_str){"", 0};
		key.unread |= BACKEND_UNREAD_TENANT;
	}
	key.name = key_text(emit, row, columns->name, BACKEND_UNREAD_NAME, &key.unread);
	key.topic = key_text(emit, row, columns->topic, BACKEND_UNREAD_TOPIC, &key.unread);
	if (key_int(emit, row, columns->partition, BACKEND_UNREAD_PARTITION, &number, &key.unread))
		rows_key_partition(&key, number);
	if (key_int(emit, row, columns->base, BACKEND_UNREAD_BASE, &number, &key.unread))
		rows_key_base(&key, number);
	if (columns->base > 0)
		key.to = INT64_MAX;
	rows_quarantine(emit->sink, &key, fault);
}

void emit_unread(const struct emit *emit, enum shmeta_class cls, void *row, const struct rows_fault *fault)
{
	const struct key_columns columns = {.cls = cls,
	                                    .topic = 1,
	                                    .partition = cls == SHMETA_CLASS_TOPIC ? 0 : 2,
	                                    .base = cls == SHMETA_CLASS_SEGMENT ? 3 : 0};

	quarantine_row(emit, &columns, row, fault);
}

enum shmeta_status emit_topic(const struct emit *emit, const struct walk_cursor *at, void *row, bool *ret_there)
{
	struct shmeta_topic topic = {.name = at->topic, .has_retention = !emit->columns->is_null(row, 3)};
	struct shmeta_str config;
	struct rows_fault fault;

	rows_faultless(&fault);
	if (at->again)
		rows_blame(&fault, "it is there twice; left out");
	*ret_there = !at->again && get_u32(emit, row, 2, "partition_count", &topic.partition_count, &fault) &&
	             (!topic.has_retention || get_int(emit, row, 3, "retention_ms", &topic.retention_ms, &fault)) &&
	             get_int(emit, row, 4, "created_at", &topic.created_at_ms, &fault) &&
	             get_int(emit, row, 5, "updated_at", &topic.updated_at_ms, &fault) &&
	             get_optional_text(emit, row, 6, "config", &config, &fault) &&
	             get_optional_text(emit, row, 7, "cleanup_policy", &topic.cleanup_policy, &fault) &&
	             rows_map(emit->scratch, config, &topic.config, &fault) && rows_check_tenant(at->tenant, &fault) &&
	             rows_check_topic(&topic, &fault);
	if (*ret_there)
		return emit->sink->topic(emit->sink->arg, at->tenant, &topic);
	quarantine_at(emit->sink, at, INT64_MAX, &fault);
	return SHMETA_OK;
}

enum shmeta_status emit_partition(const struct emit *emit, const struct walk_cursor *at, void *row, bool parent,
                                  bool *ret_there)
{
	struct shmeta_partition partition = {.partition_id = 0};
	struct rows_fault fault;

	rows_faultless(&fault);
	if (!parent)
		rows_blame(&fault, "there is no such topic");
	else if (at->again)
		rows_blame(&fault, "it is there twice; left out");
	*ret_there = parent && !at->again && get_u32(emit, row, 2, "partition_id", &partition.partition_id, &fault) &&
	             get_u64(emit, row, 3, "high_watermark", &partition.high_watermark, &fault) &&
	             get_int(emit, row, 4, "created_at", &partition.created_at_ms, &fault) &&
	             get_int(emit, row, 5, "updated_at", &partition.updated_at_ms, &fault) &&
	             rows_check_partition(&partition, &fault);
	if (*ret_there)
		return emit->sink->partition(emit->sink->arg, &partition);
	quarantine_at(emit->sink, at, INT64_MAX, &fault);
	return SHMETA_OK;
}

enum shmeta_status emit_bad_segment(const struct backend_sink *sink, const struct walk_cursor *at, bool parent,
                                    const struct shmeta_segment *segment, struct rows_fault *fault)
{
	char quoted[ROWS_QUOTE_MAX];

	if (!parent)
		rows_blame(fault, "there is no such partition");
	else if (segment != NULL)
		rows_blame(fault, "it is there twice; left out: %s", rows_quote(quoted, segment->id));
	quarantine_at(sink, at, segment != NULL ? segment->end_offset : INT64_MAX, fault);
	return SHMETA_OK;
}

static enum shmeta_status emit_agent(const struct emit *emit, void *row, struct rows_fault *fault)
{
	struct shmeta_agent agent = {.last_heartbeat_ms = 0};
	struct shmeta_str tenant, metadata;
	/* NULL: an agent of all organizations; it is shown under the default one. */
	bool owned = emit->agents_organization && !emit->columns->is_null(row, 0);

	if (get_tenant(emit, owned, row, &tenant, fault) &&
	    get_text(emit, row, 1, "agent_id", &agent.agent_id, fault) &&
	    get_text(emit, row, 2, "address", &agent.address, fault) &&
	    get_text(emit, row, 3, "availability_zone", &agent.availability_zone, fault) &&
	    get_text(emit, row, 4, "agent_group", &agent.agent_group, fault) &&
	    get_int(emit, row, 5, "last_heartbeat", &agent.last_heartbeat_ms, fault) &&
	    get_int(emit, row, 6, "started_at", &agent.started_at_ms, fault) &&
	    get_optional_text(emit, row, 7, "metadata", &metadata, fault) &&
	    rows_map(emit->scratch, metadata, &agent.metadata, fault) && rows_check_tenant(tenant, fault) &&
	    rows_check_agent(&agent, fault))
		return emit->sink->agent(emit->sink->arg, tenant, &agent);
	return SHMETA_OK;
}

static enum shmeta_status emit_group(const struct emit *emit, void *row, struct rows_fault *fault)
{
	struct shmeta_group group = {.created_at_ms = 0};
	struct shmeta_str tenant;

	if (get_tenant(emit, emit->organization, row, &tenant, fault) &&
	    get_text(emit, row, 1, "group_id", &group.group_id, fault) &&
	    get_int(emit, row, 2, "created_at", &group.created_at_ms, fault) &&
	    get_int(emit, row, 3, "updated_at", &group.updated_at_ms, fault) && rows_check_tenant(tenant, fault) &&
	    rows_check_group(&group, fault))
		return emit->sink->group(emit->sink->arg, tenant, &group);
	return SHMETA_OK;
}

static enum shmeta_status emit_offset(const struct emit *emit, void *row, struct rows_fault *fault)
{
	struct shmeta_committed_offset offset = {.has_metadata = !emit->columns->is_null(row, 5)};
	struct shmeta_str tenant, topic;

	if (get_tenant(emit, emit->organization, row, &tenant, fault) &&
	    get_text(emit, row, 1, "group_id", &offset.group_id, fault) &&
	    get_text(emit, row, 2, "topic", &topic, fault) &&
	    get_u32(emit, row, 3, "partition_id", &offset.partition_id, fault) &&
	    get_u64(emit, row, 4, "committed_offset", &offset.committed_offset, fault) &&
	    get_optional_text(emit, row, 5, "metadata", &offset.metadata, fault) &&
	    get_int(emit, row, 6, "committed_at", &offset.committed_at_ms, fault) && rows_check_tenant(tenant, fault) &&
	    rows_check_offset(topic, &offset, fault))
		return emit->sink->offset(emit->sink->arg, tenant, topic, &offset);
	return SHMETA_OK;
}

static enum shmeta_status emit_lease(const struct emit *emit, void *row, struct rows_fault *fault)
{
	struct shmeta_lease lease = {.topic_id = 0};
	struct shmeta_str tenant, topic;

	if (get_tenant(emit, emit->leases_organization, row, &tenant, fault) &&
	    get_text(emit, row, 1, "topic", &topic, fault) &&
	    get_u32(emit, row, 2, "partition_id", &lease.partition_id, fault) &&
	    get_text(emit, row, 3, "leader_agent_id", &lease.leader_agent_id, fault) &&
	    get_int(emit, row, 4, "lease_expires_at", &lease.lease_expires_at_ms, fault) &&
	    get_int(emit, row, 5, "acquired_at", &lease.acquired_at_ms, fault) &&
	    get_u64(emit, row, 6, "epoch", &lease.epoch, fault) && rows_check_tenant(tenant, fault) &&
	    rows_check_lease(topic, &lease, fault))
		return emit->sink->lease(emit->sink->arg, tenant, topic, &lease);
	return SHMETA_OK;
}

static const struct {
	struct key_columns key;
	enum shmeta_status (*emit)(const struct emit *emit, void *row, struct rows_fault *fault);
} others[EMIT_OTHERS] = {
	[EMIT_AGENT] = {{SHMETA_CLASS_AGENT, .name = 1}, emit_agent},
	[EMIT_GROUP] = {{SHMETA_CLASS_OFFSET, .name = 1}, emit_group},
	[EMIT_OFFSET] = {{SHMETA_CLASS_OFFSET, .name = 1, .topic = 2, .partition = 3}, emit_offset},
	[EMIT_LEASE] = {{SHMETA_CLASS_LEASE, .topic = 1, .partition = 2}, emit_lease},
};

enum shmeta_class emit_class(enum emit_other other)
{
	return others[other].key.cls;
}

enum shmeta_status emit_other(const struct emit *emit, enum emit_other other, void *row)
{
	struct rows_fault fault;
	enum shmeta_status status;

	rows_faultless(&fault);
	status = others[other].emit(emit, row, &fault);
	if (fault.text[0] != '\0')
		quarantine_row(emit, &others[other].key, row, &fault);
	return status;
}
