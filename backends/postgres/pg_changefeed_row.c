/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: one row of a changefeed, as keys.
 *
 * Of a row's value only what names it is looked at, in the image of the row before and in that
 * after; what the row holds is fetched. Every row that a statement touches has an event of its own,
 * those of a cascade included, so a key need not cover others. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "backends/postgres/pg_changefeed_row.h"
#include "backends/sql/tables.h"

/* The last part of a name that may be qualified. */
static int table_of(struct shmeta_str name)
{
	for (size_t i = name.bytes; i-- > 0;)
		if (name.data[i] == '.') {
			name.data += i + 1;
			name.bytes -= i + 1;
			break;
		}
	for (int i = 0; i < TABLE_COUNT; i++)
		if (rows_compare(name, rows_str(backend_tables[i].name)) == 0)
			return i;
	return -1;
}

static bool text_of(const json_t *image, const char *column, struct shmeta_str *ret)
{
	const json_t *value = json_object_get(image, column);

	if (!json_is_string(value))
		return false;
	*ret = (struct shmeta_str){json_string_value(value), json_string_length(value)};
	return true;
}

static bool int_of(const json_t *image, const char *column, json_int_t *ret)
{
	const json_t *value = json_object_get(image, column);

	*ret = json_integer_value(value);
	return json_is_integer(value);
}

/* false: the image does not name a row. *ret_good: it does, and there can be such a row in the
 * store. */
static bool key_of(int table, const json_t *image, bool gone, struct backend_key *ret, bool *ret_good)
{
	json_int_t partition = 0, base = 0;
	struct backend_key key = {.tenant = rows_str(SHMETA_DEFAULT_TENANT), .to = INT64_MAX};
	bool named;

	(void)text_of(image, "organization_id", &key.tenant);
	switch (table) {
	case TOPICS:
		key.cls = SHMETA_CLASS_TOPIC;
		key.with_segments = gone;
		named = text_of(image, "name", &key.topic);
		break;
	case PARTITIONS:
		key.cls = gone ? SHMETA_CLASS_SEGMENT : SHMETA_CLASS_PARTITION;
		named = text_of(image, "topic", &key.topic) && int_of(image, "partition_id", &partition);
		break;
	case SEGMENTS:
		key.cls = SHMETA_CLASS_SEGMENT;
		named = text_of(image, "topic", &key.topic) && int_of(image, "partition_id", &partition) &&
		        int_of(image, "base_offset", &base);
		key.from = key.to = (uint64_t)base;
		break;
	case GROUPS:
		key.cls = SHMETA_CLASS_OFFSET;
		named = text_of(image, "group_id", &key.name);
		break;
	case OFFSETS:
		key.cls = SHMETA_CLASS_OFFSET;
		named = text_of(image, "group_id", &key.name) && text_of(image, "topic", &key.topic) &&
		        int_of(image, "partition_id", &partition);
		break;
	case AGENTS:
		key.cls = SHMETA_CLASS_AGENT;
		named = text_of(image, "agent_id", &key.name);
		break;
	default:
		key.cls = SHMETA_CLASS_LEASE;
		named = text_of(image, "topic", &key.topic) && int_of(image, "partition_id", &partition);
	}
	key.partition_id = (uint32_t)partition;
	*ret = key;
	*ret_good = partition >= 0 && partition <= UINT32_MAX && base >= 0;
	/* A name that is empty would say the whole class; no good row has one. */
	if (key.cls == SHMETA_CLASS_AGENT || key.cls == SHMETA_CLASS_OFFSET)
		*ret_good &= key.name.bytes > 0;
	if (table != GROUPS && table != AGENTS)
		*ret_good &= key.topic.bytes > 0;
	return named;
}

static bool same(const struct backend_key *a, const struct backend_key *b)
{
	return a->cls == b->cls && a->partition_id == b->partition_id && a->from == b->from && a->to == b->to &&
	       rows_compare(a->tenant, b->tenant) == 0 && rows_compare(a->topic, b->topic) == 0 &&
	       rows_compare(a->name, b->name) == 0;
}

/* What has changed cannot be told: so much that it is in it. */
static enum shmeta_status coarse(int table, const struct backend_sink *sink, bool *ret_list)
{
	struct backend_key key = {.cls = SHMETA_CLASS_OFFSET};

	if (table <= SEGMENTS) {
		*ret_list = true;
		return SHMETA_OK;
	}
	if (table == AGENTS || table == LEASES)
		key.cls = table == AGENTS ? SHMETA_CLASS_AGENT : SHMETA_CLASS_LEASE;
	return sink->changed(sink->arg, &key);
}

static enum shmeta_status images(int table, const json_t *root, const struct backend_sink *sink, bool *ret_list)
{
	const json_t *before = json_object_get(root, "before"), *after = json_object_get(root, "after");
	bool was = json_is_object(before), is = json_is_object(after), good = false, was_good = false;
	enum shmeta_status status = SHMETA_OK;
	struct backend_key key, former;

	if ((!was && !is) || (is && !key_of(table, after, false, &key, &good)) ||
	    (was && !key_of(table, before, false, &former, &was_good)))
		return coarse(table, sink, ret_list);
	if (was && was_good && (!is || !same(&key, &former))) {
		(void)key_of(table, before, true, &former, &was_good);
		status = sink->changed(sink->arg, &former);
	}
	return status == SHMETA_OK && is && good ? sink->changed(sink->arg, &key) : status;
}

enum shmeta_status pg_changefeed_row(struct shmeta_str table, struct shmeta_str value, const struct backend_sink *sink,
                                     bool *ret_list)
{
	int index = table_of(table);
	enum shmeta_status status;
	json_t *root;

	if (index < 0) {
		*ret_list = true;
		return SHMETA_OK;
	}
	root = json_loadb(value.data, value.bytes, JSON_ALLOW_NUL, NULL);
	status = json_is_object(root) ? images(index, root, sink, ret_list) : coarse(index, sink, ret_list);
	json_decref(root);
	return status;
}

bool pg_changefeed_resolved(struct shmeta_str value, char *ret, size_t bytes)
{
	json_t *root = json_loadb(value.data, value.bytes, 0, NULL);
	struct shmeta_str text = {"", 0};
	bool is = text_of(root, "resolved", &text) && text.bytes < bytes;

	if (is) {
		memcpy(ret, text.data, text.bytes);
		ret[text.bytes] = '\0';
		is = pg_changefeed_is_time(ret);
	}
	json_decref(root);
	return is;
}

/* Nanoseconds, and behind the point a counter. */
bool pg_changefeed_is_time(const char *text)
{
	size_t whole = strspn(text, "0123456789");

	return whole > 0 && whole <= 19 &&
	       (text[whole] == '\0' || (text[whole] == '.' && text[whole + 1] != '\0' &&
	                                text[whole + 1 + strspn(text + whole + 1, "0123456789")] == '\0'));
}
