/* SPDX-License-Identifier: Apache-2.0
 * A source's tables and a store's snapshot as the lines of a model (views.h). */
#include "tests/support/views.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/run_daemon.h"

void view_each_row(struct world *w, const char *sql, void (*row)(const char *const *column, struct model_lines *lines),
                   struct model_lines *lines)
{
	const char *column[12] = {NULL};

	if (w->pg != NULL) {
		PGresult *result = PQexec(w->pg, sql);

		cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(w->pg));
		for (int i = 0; i < PQntuples(result); i++) {
			for (int k = 0; k < PQnfields(result); k++)
				column[k] = PQgetisnull(result, i, k) ? NULL : PQgetvalue(result, i, k);
			row(column, lines);
		}
		PQclear(result);
		return;
	}
	sqlite3_stmt *statement;

	cr_assert_eq(sqlite3_prepare_v2(w->app, sql, -1, &statement, NULL), SQLITE_OK, "%s: %s", sql,
	             sqlite3_errmsg(w->app));
	while (sqlite3_step(statement) == SQLITE_ROW) {
		for (int k = 0; k < sqlite3_column_count(statement); k++)
			column[k] = (const char *)sqlite3_column_text(statement, k);
		row(column, lines);
	}
	sqlite3_finalize(statement);
}

static uint64_t number(const char *text)
{
	return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static int64_t integer(const char *text)
{
	return text != NULL ? strtoll(text, NULL, 10) : 0;
}

static void row_topic(const char *const *c, struct model_lines *lines)
{
	model_line_topic(lines, c[0], number(c[1]), c[2] != NULL, integer(c[2]), (int)integer(c[3]));
}

static void row_partition(const char *const *c, struct model_lines *lines)
{
	model_line_partition(lines, c[0], number(c[1]), number(c[2]));
}

static void row_segment(const char *const *c, struct model_lines *lines)
{
	model_line_segment(lines, c[0], number(c[1]), number(c[2]), number(c[3]), number(c[4]), number(c[5]),
	                   integer(c[6]), c[7], c[8]);
}

static void row_group(const char *const *c, struct model_lines *lines)
{
	model_line_group(lines, c[0]);
}

static void row_offset(const char *const *c, struct model_lines *lines)
{
	model_line_offset(lines, c[0], c[1], number(c[2]), number(c[3]), c[4] != NULL);
}

static void row_agent(const char *const *c, struct model_lines *lines)
{
	model_line_agent(lines, c[0], c[1], integer(c[2]), integer(c[3]));
}

static void row_lease(const char *const *c, struct model_lines *lines)
{
	model_line_lease(lines, c[0], number(c[1]), c[2], number(c[3]), integer(c[4]) == 1);
}

char *view_source(struct world *w)
{
	struct model_lines lines = {.line = NULL};

	view_each_row(w,
	              w->pg != NULL
	                      ? "SELECT name, partition_count, retention_ms, config->>'k' FROM topics"
	                      : "SELECT name, partition_count, retention_ms, json_extract(config, '$.k') FROM topics",
	              row_topic, &lines);
	view_each_row(w, "SELECT topic, partition_id, high_watermark FROM partitions", row_partition, &lines);
	view_each_row(
		w,
		"SELECT topic, partition_id, base_offset, end_offset, record_count, size_bytes, created_at, id, s3_key "
		"FROM segments",
		row_segment, &lines);
	view_each_row(w, "SELECT group_id FROM consumer_groups", row_group, &lines);
	view_each_row(w, "SELECT group_id, topic, partition_id, committed_offset, metadata FROM consumer_offsets",
	              row_offset, &lines);
	view_each_row(w, "SELECT agent_id, address, last_heartbeat, started_at FROM agents", row_agent, &lines);
	view_each_row(w, "SELECT topic, partition_id, leader_agent_id, epoch, lease_expires_at FROM partition_leases",
	              row_lease, &lines);
	return model_lines_text(&lines);
}

static const char *terminated(char ret[MODEL_TEXT], struct shmeta_str text)
{
	(void)snprintf(ret, MODEL_TEXT, "%.*s", (int)text.bytes, text.bytes > 0 ? text.data : "");
	return ret;
}

/* A snapshot that expires or a list that breaks off is looked at again. */
#define LOOK(call)                       \
	do {                             \
		if ((call) != SHMETA_OK) \
			return false;    \
	} while (0)

static void show_segment(const char *topic, const struct shmeta_segment *g, struct model_lines *lines)
{
	char id[MODEL_TEXT], key[MODEL_TEXT];

	model_line_segment(lines, topic, g->partition_id, g->base_offset, g->end_offset, g->record_count, g->size_bytes,
	                   g->created_at_ms, terminated(id, g->id), terminated(key, g->s3_key));
}

static bool look_segments(struct shmeta_reader *reader, const char *topic, uint32_t partition,
                          struct model_lines *lines)
{
	struct shmeta_handle *handle;
	struct shmeta_iter *iter;
	struct shmeta_segment g;
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	enum shmeta_status status;
	bool ok = true;

	LOOK(shmeta_partition_open(reader, topic, strlen(topic), partition, &handle));
	status = shmeta_list_segments(handle, 0, UINT64_MAX, NULL, &iter);
	if (status == SHMETA_OK) {
		while (ok && (status = shmeta_next_segment(iter, &g)) == SHMETA_OK) {
			ok = shmeta_segment_strings(handle, &g, strings, sizeof strings) == SHMETA_OK;
			if (ok)
				show_segment(topic, &g, lines);
		}
		shmeta_iter_free(iter);
	}
	shmeta_partition_close(handle);
	return ok && status == SHMETA_END;
}

static bool look_partitions(struct shmeta_reader *reader, const char *topic, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_partition p;
	enum shmeta_status status;

	LOOK(shmeta_list_partitions(reader, topic, strlen(topic), NULL, &iter));
	while ((status = shmeta_next_partition(iter, &p, NULL)) == SHMETA_OK) {
		model_line_partition(lines, topic, p.partition_id, p.high_watermark);
		if (!look_segments(reader, topic, p.partition_id, lines))
			break;
	}
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

/* name: filled. */
static void show_topic(const struct shmeta_topic *t, char name[MODEL_TEXT], struct model_lines *lines)
{
	struct shmeta_str k = {"0", 1};
	char value[MODEL_TEXT];

	(void)!shmeta_map_get(&t->config, "k", &k);
	model_line_topic(lines, terminated(name, t->name), t->partition_count, t->has_retention, t->retention_ms,
	                 (int)integer(terminated(value, k)));
}

static bool look_topics(struct shmeta_reader *reader, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_topic t;
	enum shmeta_status status;
	char name[MODEL_TEXT];

	LOOK(shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter));
	while ((status = shmeta_next_topic(iter, &t, NULL)) == SHMETA_OK) {
		show_topic(&t, name, lines);
		if (!look_partitions(reader, name, lines))
			break;
	}
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

static bool look_groups(struct shmeta_reader *reader, struct model_lines *lines)
{
	struct shmeta_iter *iter, *offsets;
	struct shmeta_group g;
	enum shmeta_status status, inner = SHMETA_END;
	char group[MODEL_TEXT], topic[MODEL_TEXT];

	LOOK(shmeta_list_groups(reader, NULL, &iter));
	while (inner == SHMETA_END && (status = shmeta_next_group(iter, &g, NULL)) == SHMETA_OK) {
		struct shmeta_committed_offset o;
		struct shmeta_str name;

		model_line_group(lines, terminated(group, g.group_id));
		inner = shmeta_list_committed_offsets(reader, group, strlen(group), NULL, &offsets);
		if (inner != SHMETA_OK)
			break;
		while ((inner = shmeta_next_committed_offset(offsets, &name, &o, NULL)) == SHMETA_OK)
			model_line_offset(lines, group, terminated(topic, name), o.partition_id, o.committed_offset,
			                  o.has_metadata);
		shmeta_iter_free(offsets);
	}
	shmeta_iter_free(iter);
	return inner == SHMETA_END && status == SHMETA_END;
}

static bool look_agents(struct shmeta_reader *reader, const struct shmeta_read *read, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_agent a;
	enum shmeta_status status;
	char agent[MODEL_TEXT], address[MODEL_TEXT];

	LOOK(shmeta_list_agents(reader, NULL, 0, NULL, 0, INT64_MIN / 2, read, &iter));
	while ((status = shmeta_next_agent(iter, &a, NULL)) == SHMETA_OK)
		model_line_agent(lines, terminated(agent, a.agent_id), terminated(address, a.address),
		                 a.last_heartbeat_ms, a.started_at_ms);
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

static bool look_leases(struct shmeta_reader *reader, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_lease l;
	struct shmeta_str name;
	enum shmeta_status status;
	char topic[MODEL_TEXT], agent[MODEL_TEXT];

	LOOK(shmeta_list_leases(reader, NULL, 0, NULL, 0, 0, NULL, &iter));
	while ((status = shmeta_next_lease(iter, &name, &l, NULL)) == SHMETA_OK)
		model_line_lease(lines, terminated(topic, name), l.partition_id, terminated(agent, l.leader_agent_id),
		                 l.epoch, l.lease_expires_at_ms == 1);
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

/* The place that a line is about, as "t0/1"; "" for what belongs to no topic. */
static void place_of(const char *line, char topic[4], uint32_t *ret_partition)
{
	const char *at = strstr(line, " t");

	topic[0] = '\0';
	*ret_partition = UINT32_MAX;
	if (strncmp(line, "agent", 5) == 0 || strncmp(line, "group", 5) == 0 || at == NULL)
		return;
	(void)snprintf(topic, 4, "%.2s", at + 1);
	if (at[3] == '/')
		*ret_partition = (uint32_t)number(at + 4);
}

const char *view_difference(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		const char *x = a + strcspn(a, "\n"), *y = b + strcspn(b, "\n");

		if (x - a != y - b || memcmp(a, b, (size_t)(x - a)) != 0)
			break;
		a = *x == '\n' ? x + 1 : x;
		b = *y == '\n' ? y + 1 : y;
	}
	if (*a == '\0' && *b == '\0')
		return NULL;
	if (*a == '\0' || *b == '\0')
		return *a == '\0' ? b : a;
	return strcmp(a, b) < 0 ? a : b;
}

char *view_store(struct shmeta_reader *reader, const char *expected, uint64_t *ret_age_ns)
{
	struct model_lines lines = {.line = NULL};
	char *text = NULL;

	*ret_age_ns = UINT64_MAX;
	if (run_daemon_begin(reader) != SHMETA_OK)
		return NULL;
	bool ok = look_topics(reader, &lines) && look_groups(reader, &lines) && look_agents(reader, NULL, &lines) &&
	          look_leases(reader, &lines);

	text = model_lines_text(&lines);
	const char *differs = view_difference(expected, text);
	struct shmeta_freshness age = {.age_ns = UINT64_MAX};

	if (ok && differs != NULL) {
		struct shmeta_partition p;
		struct shmeta_topic t;
		uint32_t partition;
		char topic[4];

		place_of(differs, topic, &partition);
		if (topic[0] != '\0' && strncmp(differs, "offset", 6) != 0 && strncmp(differs, "lease", 5) != 0) {
			enum shmeta_status status =
				partition == UINT32_MAX ? shmeta_get_topic(reader, topic, strlen(topic), NULL, &t, &age)
							: shmeta_get_partition_named(reader, topic, strlen(topic),
			                                                             partition, NULL, &p, &age);
			if (status >= 0 && status != SHMETA_UNKNOWN)
				*ret_age_ns = age.age_ns;
		}
	}
	if (shmeta_end(reader) != SHMETA_OK || !ok) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- by key, on the source's own word ---- */

/* What fails, as while the writer is away, is asked for again. No row of a model is one that cannot
 * be served, so none is unknown. */
#define ASK(call)                                                                               \
	do {                                                                                    \
		enum shmeta_status asked = (call);                                              \
		cr_assert_neq(asked, SHMETA_UNKNOWN, "the source was asked for it: %s", #call); \
		if (asked != SHMETA_OK)                                                         \
			return false;                                                           \
	} while (0)

static bool ask_segments(struct shmeta_reader *reader, const struct shmeta_read *read, const char *topic,
                         uint32_t partition, struct model_lines *lines)
{
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_iter *iter;
	struct shmeta_segment g;
	enum shmeta_status status;
	bool ok = true;

	ASK(shmeta_list_segments_named(reader, topic, strlen(topic), partition, 0, UINT64_MAX, read, &iter));
	while (ok && (status = shmeta_next_segment(iter, &g)) == SHMETA_OK) {
		ok = shmeta_iter_segment_strings(iter, &g, strings, sizeof strings) == SHMETA_OK;
		if (ok)
			show_segment(topic, &g, lines);
	}
	shmeta_iter_free(iter);
	return ok && status == SHMETA_END;
}

static bool ask_partitions(struct shmeta_reader *reader, const struct shmeta_read *read, const char *topic,
                           struct model_lines *lines)
{
	for (uint32_t id = 0; id < MODEL_PARTITIONS; id++) {
		struct shmeta_partition p;
		enum shmeta_status status =
			shmeta_get_partition_named(reader, topic, strlen(topic), id, read, &p, NULL);

		if (status == SHMETA_ABSENT)
			continue;
		ASK(status);
		model_line_partition(lines, topic, id, p.high_watermark);
		if (!ask_segments(reader, read, topic, id, lines))
			return false;
	}
	return true;
}

static bool ask_topics(struct shmeta_reader *reader, const struct shmeta_read *read, struct model_lines *lines)
{
	for (int i = 0; i < MODEL_TOPICS; i++) {
		char topic[MODEL_TEXT], name[MODEL_TEXT];
		struct shmeta_topic t;
		enum shmeta_status status;

		(void)snprintf(topic, sizeof topic, "t%d", i);
		status = shmeta_get_topic(reader, topic, strlen(topic), read, &t, NULL);
		if (status == SHMETA_ABSENT)
			continue;
		ASK(status);
		show_topic(&t, name, lines);
		if (!ask_partitions(reader, read, topic, lines))
			return false;
	}
	return true;
}

/* What is listed, and complete as the list says, is as much as there is. */
static void expect_listed(struct shmeta_iter *iter, const char *what, unsigned listed, unsigned there,
                          struct model_lines *lines)
{
	if (shmeta_iter_complete(iter) == SHMETA_OK && listed != there)
		model_line(lines, "%s: %u in a list that calls itself complete, and there are %u", what, listed, there);
}

static bool ask_leases(struct shmeta_reader *reader, const struct shmeta_read *read, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_lease l;
	struct shmeta_str name;
	enum shmeta_status status;
	unsigned listed = 0, there = 0;

	for (int i = 0; i < MODEL_TOPICS * MODEL_PARTITIONS; i++) {
		char topic[MODEL_TEXT], agent[MODEL_TEXT];

		(void)snprintf(topic, sizeof topic, "t%d", i / MODEL_PARTITIONS);
		status = shmeta_get_lease(reader, topic, strlen(topic), (uint32_t)i % MODEL_PARTITIONS, INT64_MIN, read,
		                          &l, NULL);
		if (status == SHMETA_ABSENT)
			continue;
		ASK(status);
		there++;
		model_line_lease(lines, topic, l.partition_id, terminated(agent, l.leader_agent_id), l.epoch,
		                 l.lease_expires_at_ms == 1);
	}
	ASK(shmeta_list_leases(reader, NULL, 0, NULL, 0, INT64_MIN, read, &iter));
	while ((status = shmeta_next_lease(iter, &name, &l, NULL)) == SHMETA_OK)
		listed++;
	expect_listed(iter, "leases", listed, there, lines);
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

static bool ask_offsets(struct shmeta_reader *reader, const struct shmeta_read *read, const char *group,
                        struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_committed_offset o;
	struct shmeta_str name;
	enum shmeta_status status;
	unsigned listed = 0, there = 0;

	for (int i = 0; i < MODEL_TOPICS * MODEL_PARTITIONS; i++) {
		char topic[MODEL_TEXT];

		(void)snprintf(topic, sizeof topic, "t%d", i / MODEL_PARTITIONS);
		status = shmeta_get_committed_offset(reader, group, strlen(group), topic, strlen(topic),
		                                     (uint32_t)i % MODEL_PARTITIONS, read, &o, NULL);
		if (status == SHMETA_ABSENT)
			continue;
		ASK(status);
		there++;
		model_line_offset(lines, group, topic, o.partition_id, o.committed_offset, o.has_metadata);
	}
	ASK(shmeta_list_committed_offsets(reader, group, strlen(group), read, &iter));
	while ((status = shmeta_next_committed_offset(iter, &name, &o, NULL)) == SHMETA_OK)
		listed++;
	expect_listed(iter, group, listed, there, lines);
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

static bool ask_groups(struct shmeta_reader *reader, const struct shmeta_read *read, struct model_lines *lines)
{
	struct shmeta_iter *iter;
	struct shmeta_group g;
	enum shmeta_status status;

	ASK(shmeta_list_groups(reader, read, &iter));
	while ((status = shmeta_next_group(iter, &g, NULL)) == SHMETA_OK) {
		char group[MODEL_TEXT];

		model_line_group(lines, terminated(group, g.group_id));
		if (!ask_offsets(reader, read, group, lines))
			break;
	}
	shmeta_iter_free(iter);
	return status == SHMETA_END;
}

char *view_asked(struct shmeta_reader *reader)
{
	enum { WAIT_MS = 20000 };
	static char buffer[SHMETA_NAME_MAX + SHMETA_STRING_MAX + SHMETA_MAP_MAX];
	const struct shmeta_read read = {.size = sizeof read,
	                                 .consistency = SHMETA_SOURCE,
	                                 .timeout_ms = WAIT_MS,
	                                 .buffer = buffer,
	                                 .buffer_bytes = sizeof buffer};
	struct model_lines lines = {.line = NULL};
	char *text;
	bool ok;

	if (run_daemon_begin(reader) != SHMETA_OK)
		return NULL;
	ok = ask_topics(reader, &read, &lines) && ask_groups(reader, &read, &lines) &&
	     look_agents(reader, &read, &lines) && ask_leases(reader, &read, &lines);
	text = model_lines_text(&lines);
	if (shmeta_end(reader) != SHMETA_OK || !ok) {
		free(text);
		return NULL;
	}
	return text;
}
