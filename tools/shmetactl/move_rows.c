/* SPDX-License-Identifier: Apache-2.0
 * The format of `export` and `import` (move_rows.h). */
#include "tools/shmetactl/move_rows.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rows.h"

enum column_type {
	COLUMN_TEXT,
	COLUMN_U32,
	COLUMN_U64,
	COLUMN_I64,
	COLUMN_MAP,
	COLUMN_OPT_I64, /* null unless the flag beside it is set */
	COLUMN_OPT_TEXT
};

struct column {
	const char *name;
	enum column_type type;
	size_t at, flag;
};

#define AT(field) offsetof(struct backend_row, field)
#define END_OF_COLUMNS       \
	{                    \
		.name = NULL \
	}

enum { COLUMNS_MAX = 14 };
static const struct {
	const char *name;
	struct column columns[COLUMNS_MAX];
} kinds[BACKEND_ROW_KINDS] = {
	[BACKEND_ROW_OBJECT] = {"object",
                                {{"s3_bucket", COLUMN_TEXT, AT(u.object.s3_bucket), 0},
                                 {"s3_key", COLUMN_TEXT, AT(u.object.s3_key), 0},
                                 {"size_bytes", COLUMN_U64, AT(u.object.size_bytes), 0},
                                 {"created_at_ms", COLUMN_I64, AT(u.object.created_at_ms), 0},
                                 {"unreferenced_since_ms", COLUMN_I64, AT(since_ms), 0}}},
	[BACKEND_ROW_TOPIC] = {"topic",
                               {{"name", COLUMN_TEXT, AT(u.topic.name), 0},
                                {"partition_count", COLUMN_U32, AT(u.topic.partition_count), 0},
                                {"retention_ms", COLUMN_OPT_I64, AT(u.topic.retention_ms), AT(u.topic.has_retention)},
                                {"cleanup_policy", COLUMN_TEXT, AT(u.topic.cleanup_policy), 0},
                                {"created_at_ms", COLUMN_I64, AT(u.topic.created_at_ms), 0},
                                {"updated_at_ms", COLUMN_I64, AT(u.topic.updated_at_ms), 0},
                                {"config", COLUMN_MAP, AT(u.topic.config), 0}}},
	[BACKEND_ROW_PARTITION] = {"partition",
                                   {{"topic", COLUMN_TEXT, AT(topic), 0},
                                    {"partition_id", COLUMN_U32, AT(u.partition.partition_id), 0},
                                    {"high_watermark", COLUMN_U64, AT(u.partition.high_watermark), 0},
                                    {"created_at_ms", COLUMN_I64, AT(u.partition.created_at_ms), 0},
                                    {"updated_at_ms", COLUMN_I64, AT(u.partition.updated_at_ms), 0}}},
	[BACKEND_ROW_SEGMENT] = {"segment",
                                 {{"topic", COLUMN_TEXT, AT(topic), 0},
                                  {"partition_id", COLUMN_U32, AT(u.segment.partition_id), 0},
                                  {"base_offset", COLUMN_U64, AT(u.segment.base_offset), 0},
                                  {"end_offset", COLUMN_U64, AT(u.segment.end_offset), 0},
                                  {"record_count", COLUMN_U32, AT(u.segment.record_count), 0},
                                  {"size_bytes", COLUMN_U64, AT(u.segment.size_bytes), 0},
                                  {"id", COLUMN_TEXT, AT(u.segment.id), 0},
                                  {"s3_bucket", COLUMN_TEXT, AT(u.segment.s3_bucket), 0},
                                  {"s3_key", COLUMN_TEXT, AT(u.segment.s3_key), 0},
                                  {"position", COLUMN_U64, AT(u.segment.position), 0},
                                  {"created_at_ms", COLUMN_I64, AT(u.segment.created_at_ms), 0},
                                  {"min_timestamp_ms", COLUMN_I64, AT(u.segment.min_timestamp_ms), 0},
                                  {"max_timestamp_ms", COLUMN_I64, AT(u.segment.max_timestamp_ms), 0}}},
	[BACKEND_ROW_AGENT] = {"agent",
                               {{"agent_id", COLUMN_TEXT, AT(u.agent.agent_id), 0},
                                {"address", COLUMN_TEXT, AT(u.agent.address), 0},
                                {"availability_zone", COLUMN_TEXT, AT(u.agent.availability_zone), 0},
                                {"agent_group", COLUMN_TEXT, AT(u.agent.agent_group), 0},
                                {"last_heartbeat_ms", COLUMN_I64, AT(u.agent.last_heartbeat_ms), 0},
                                {"started_at_ms", COLUMN_I64, AT(u.agent.started_at_ms), 0},
                                {"metadata", COLUMN_MAP, AT(u.agent.metadata), 0}}},
	[BACKEND_ROW_GROUP] = {"group",
                               {{"group_id", COLUMN_TEXT, AT(u.group.group_id), 0},
                                {"created_at_ms", COLUMN_I64, AT(u.group.created_at_ms), 0},
                                {"updated_at_ms", COLUMN_I64, AT(u.group.updated_at_ms), 0}}},
	[BACKEND_ROW_OFFSET] = {"offset",
                                {{"group_id", COLUMN_TEXT, AT(u.offset.group_id), 0},
                                 {"topic", COLUMN_TEXT, AT(topic), 0},
                                 {"partition_id", COLUMN_U32, AT(u.offset.partition_id), 0},
                                 {"committed_offset", COLUMN_U64, AT(u.offset.committed_offset), 0},
                                 {"metadata", COLUMN_OPT_TEXT, AT(u.offset.metadata), AT(u.offset.has_metadata)},
                                 {"committed_at_ms", COLUMN_I64, AT(u.offset.committed_at_ms), 0}}},
	[BACKEND_ROW_LEASE] = {"lease",
                               {{"topic", COLUMN_TEXT, AT(topic), 0},
                                {"partition_id", COLUMN_U32, AT(u.lease.partition_id), 0},
                                {"leader_agent_id", COLUMN_TEXT, AT(u.lease.leader_agent_id), 0},
                                {"lease_expires_at_ms", COLUMN_I64, AT(u.lease.lease_expires_at_ms), 0},
                                {"acquired_at_ms", COLUMN_I64, AT(u.lease.acquired_at_ms), 0},
                                {"epoch", COLUMN_U64, AT(u.lease.epoch), 0}}},
	[BACKEND_ROW_EPOCH] = {"epoch",
                               {{"topic", COLUMN_TEXT, AT(topic), 0},
                                {"partition_id", COLUMN_U32, AT(partition_id), 0},
                                {"epoch", COLUMN_U64, AT(epoch), 0}}},
};

const char *move_kind_name(enum backend_row_kind kind)
{
	return kinds[kind].name;
}

/* ---- a row as a line ---- */

static json_t *text_json(struct shmeta_str text)
{
	return json_stringn(text.bytes > 0 ? text.data : "", text.bytes);
}

/* NULL: a key with a NUL in it. */
static json_t *map_json(const struct shmeta_map *map)
{
	json_t *object = json_object();
	struct shmeta_str key, value;
	size_t cursor = 0;

	while (shmeta_map_next(map, &cursor, &key, &value) == SHMETA_OK) {
		char *name = tool_copy(key.data, key.bytes);
		bool whole = strlen(name) == key.bytes;

		if (whole)
			out_set(object, name, text_json(value));
		free(name);
		if (!whole) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

json_t *move_row_json(const struct backend_row *row)
{
	const char *base = (const char *)row;
	json_t *line = json_object();

	out_set(line, "kind", json_string(kinds[row->kind].name));
	out_set(line, "tenant", text_json(row->tenant));
	for (const struct column *c = kinds[row->kind].columns;
	     c < kinds[row->kind].columns + COLUMNS_MAX && c->name != NULL; c++) {
		const void *at = base + c->at;
		bool set = (c->type != COLUMN_OPT_I64 && c->type != COLUMN_OPT_TEXT) ||
		           *(const uint32_t *)(const void *)(base + c->flag) != 0;
		json_t *value = NULL;

		switch (c->type) {
		case COLUMN_TEXT:
		case COLUMN_OPT_TEXT:
			value = set ? text_json(*(const struct shmeta_str *)at) : json_null();
			break;
		case COLUMN_U32:
			value = json_integer(*(const uint32_t *)at);
			break;
		case COLUMN_U64:
			value = out_json_count(*(const uint64_t *)at);
			break;
		case COLUMN_I64:
		case COLUMN_OPT_I64:
			value = set ? json_integer(*(const int64_t *)at) : json_null();
			break;
		case COLUMN_MAP:
			value = map_json(at);
			if (value == NULL) {
				json_decref(line);
				return NULL;
			}
			break;
		}
		out_set(line, c->name, value);
	}
	return line;
}

/* ---- a line as a row ---- */

__attribute__((format(printf, 2, 3))) static bool blame(char fault[480], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(fault, 480, fmt, ap);
	va_end(ap);
	return false;
}

/* Whole numbers beyond 2^53 travel as text. */
static bool number_of(const json_t *value, uint64_t max, uint64_t *ret)
{
	if (json_is_integer(value) && json_integer_value(value) >= 0)
		*ret = (uint64_t)json_integer_value(value);
	else if (!json_is_string(value) || !tool_parse_u64(json_string_value(value), max, ret))
		return false;
	return *ret <= max;
}

static bool text_of(const json_t *value, struct shmeta_str *ret)
{
	if (!json_is_string(value))
		return false;
	*ret = (struct shmeta_str){json_string_value(value), json_string_length(value)};
	return true;
}

/* The map, packed; *ret_memory is to be freed. */
static bool map_of(json_t *value, struct shmeta_map *ret, void **ret_memory, char fault[480])
{
	struct rows_scratch scratch = {NULL, 0};
	struct rows_fault why;
	struct rows_pair *pairs;
	json_t *item;
	const char *key;
	size_t count = 0;
	bool ok = true;

	if (!json_is_object(value))
		return blame(fault, "is not an object");
	pairs = tool_alloc((json_object_size(value) + 1) * sizeof(*pairs));
	json_object_foreach(value, key, item)
	{
		pairs[count].key = (struct shmeta_str){key, strlen(key)};
		if (!text_of(item, &pairs[count++].value)) {
			ok = blame(fault, "has a value that is not a string");
			break;
		}
	}
	rows_faultless(&why);
	if (ok && !rows_pack(&scratch, pairs, count, ret, &why))
		ok = blame(fault, "%s", why.text);
	free(pairs);
	*ret_memory = scratch.map;
	return ok;
}

static bool column_of(json_t *value, const struct column *c, struct backend_row *row, void **ret_map, char fault[480])
{
	char *base = (char *)row;
	void *at = base + c->at;
	uint64_t number;

	if ((c->type == COLUMN_OPT_I64 || c->type == COLUMN_OPT_TEXT) && json_is_null(value))
		return true;
	switch (c->type) {
	case COLUMN_OPT_TEXT:
		*(uint32_t *)(void *)(base + c->flag) = 1;
		return text_of(value, at) || blame(fault, "is neither text nor null");
	case COLUMN_TEXT:
		return text_of(value, at) || blame(fault, "is not text");
	case COLUMN_U32:
		if (!number_of(value, UINT32_MAX, &number))
			return blame(fault, "is not a whole number from 0 to 4294967295");
		*(uint32_t *)at = (uint32_t)number;
		return true;
	case COLUMN_U64:
		if (!number_of(value, INT64_MAX, &number))
			return blame(fault, "is not a whole number from 0 to 2^63 - 1");
		*(uint64_t *)at = number;
		return true;
	case COLUMN_OPT_I64:
		*(uint32_t *)(void *)(base + c->flag) = 1;
		__attribute__((fallthrough));
	case COLUMN_I64:
		if (!json_is_integer(value))
			return blame(fault, "is not a whole number");
		*(int64_t *)at = json_integer_value(value);
		return true;
	case COLUMN_MAP:
		return map_of(value, at, ret_map, fault);
	}
	return false;
}

static bool judge(const struct backend_row *row, struct rows_fault *fault)
{
	if (!rows_check_tenant(row->tenant, fault))
		return false;
	switch (row->kind) {
	case BACKEND_ROW_TOPIC:
		return rows_check_topic(&row->u.topic, fault);
	case BACKEND_ROW_PARTITION:
		return rows_check_partition(&row->u.partition, fault);
	case BACKEND_ROW_SEGMENT:
		return rows_check_segment(&row->u.segment, fault);
	case BACKEND_ROW_AGENT:
		return rows_check_agent(&row->u.agent, fault);
	case BACKEND_ROW_GROUP:
		return rows_check_group(&row->u.group, fault);
	case BACKEND_ROW_OFFSET:
		return rows_check_offset(row->topic, &row->u.offset, fault);
	case BACKEND_ROW_LEASE:
		return rows_check_lease(row->topic, &row->u.lease, fault);
	case BACKEND_ROW_OBJECT: {
		/* As its slices will name it. */
		const struct shmeta_segment named = {.s3_bucket = row->u.object.s3_bucket,
		                                     .s3_key = row->u.object.s3_key};

		return rows_check_segment(&named, fault);
	}
	case BACKEND_ROW_EPOCH: {
		const struct shmeta_lease named = {
			.leader_agent_id = {"-", 1}, .epoch = row->epoch, .partition_id = row->partition_id};

		return rows_check_lease(row->topic, &named, fault);
	}
	case BACKEND_ROW_KINDS:
		break;
	}
	return false;
}

bool move_row_parse(json_t *line, struct backend_row *ret, void **ret_map, char ret_fault[480])
{
	const json_t *kind = json_object_get(line, "kind");
	const char *word = json_is_string(kind) ? json_string_value(kind) : NULL;
	struct rows_fault fault;
	char why[480];
	size_t fields = 2;

	*ret_map = NULL;
	memset(ret, 0, sizeof(*ret));
	ret->kind = BACKEND_ROW_KINDS;
	for (int i = 0; word != NULL && i < BACKEND_ROW_KINDS; i++)
		if (strcmp(word, kinds[i].name) == 0)
			ret->kind = (enum backend_row_kind)i;
	if (ret->kind == BACKEND_ROW_KINDS)
		return blame(ret_fault, "\"kind\" is missing or is none that this version knows");
	if (!text_of(json_object_get(line, "tenant"), &ret->tenant))
		return blame(ret_fault, "\"tenant\" is missing or is not text");
	for (const struct column *c = kinds[ret->kind].columns;
	     c < kinds[ret->kind].columns + COLUMNS_MAX && c->name != NULL; c++, fields++) {
		json_t *value = json_object_get(line, c->name);

		if (value == NULL)
			return blame(ret_fault, "a %s without \"%s\"", word, c->name);
		if (!column_of(value, c, ret, ret_map, why))
			return blame(ret_fault, "\"%s\" of a %s %.400s", c->name, word, why);
	}
	if (json_object_size(line) != fields)
		return blame(ret_fault, "a %s has fields that this version does not know", word);
	rows_faultless(&fault);
	return judge(ret, &fault) || blame(ret_fault, "%s", fault.text);
}

/* ---- the source ---- */

int move_failed(struct tool *tool, const char *doing, enum shmeta_status status, const struct backend_error *err)
{
	return tool_error(tool, source_exit(status, err), "%s: %s", doing,
	                  err->text[0] != '\0' ? err->text : shmeta_strerror(status));
}

int move_source_uri(struct tool *tool, char ret[SOURCE_URI_MAX])
{
	struct pages pages = {0};
	int code = tool->source == NULL ? pages_open(tool, &pages) : 0;
	bool named;

	if (code != 0)
		return code;
	if (tool->source != NULL && strlen(tool->source) >= SOURCE_URI_MAX)
		return tool_error(tool, TOOL_USAGE, "--source: longer than %d bytes", SOURCE_URI_MAX - 1);
	named = source_uri(tool, &pages, ret);
	if (tool->source == NULL)
		pages_close(&pages);
	if (!named)
		return tool_error(tool, TOOL_USAGE,
		                  "the daemon names no source that can be opened from here; say --source");
	return source_judge(tool, ret);
}

int move_open(struct tool *tool, const char *uri, bool writes, struct move_source *ret)
{
	const struct backend_options options = {.uri = uri,
	                                        .timeout_ms = tool->timeout_ms,
	                                        .read_only = !writes,
	                                        .manage_schema = writes,
	                                        .create = writes,
	                                        .password_file = tool->password_file};
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;

	*ret = (struct move_source){NULL, NULL};
	ret->engine = backend_find(uri, &err);
	if (ret->engine == NULL)
		return tool_error(tool, TOOL_USAGE, "%s", err.text);
	ret->state = tool_alloc(ret->engine->state_bytes);
	memset(ret->state, 0, ret->engine->state_bytes);
	status = ret->engine->source->open(ret->state, &options, &err);
	return status == SHMETA_OK ? 0 : move_failed(tool, "opening the source", status, &err);
}

void move_close(struct move_source *source)
{
	if (source->state != NULL)
		source->engine->source->close(source->state);
	free(source->state);
	source->state = NULL;
}
