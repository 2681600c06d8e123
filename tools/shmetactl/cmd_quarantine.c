/* SPDX-License-Identifier: Apache-2.0
 * quarantine: the rows of the source that cannot be served, and why. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "shm/record/record.h"
#include "tools/shmetactl/inspect.h"

struct rows {
	struct shmeta__quarantined *row; /* their strings are copies */
	size_t count, capacity;
	uint64_t total, unlisted[8]; /* total: rows that they stand for, unlisted ones included */
};

static struct shmeta_str copy(struct shmeta_str text)
{
	return (struct shmeta_str){tool_copy(text.data, text.bytes), text.bytes};
}

static void rows_clear(struct rows *r)
{
	for (size_t i = 0; i < r->count; i++) {
		free((char *)(uintptr_t)r->row[i].tenant.data);
		free((char *)(uintptr_t)r->row[i].topic.data);
		free((char *)(uintptr_t)r->row[i].name.data);
		free((char *)(uintptr_t)r->row[i].sentence.data);
	}
	r->count = 0;
}

static void rows_free(struct rows *r)
{
	rows_clear(r);
	free(r->row);
}

static void add(struct rows *r, const struct shmeta__quarantined *row)
{
	if (r->count == r->capacity) {
		r->capacity = r->capacity > 0 ? 2 * r->capacity : 64;
		r->row = tool_grow(r->row, r->capacity * sizeof(*r->row));
	}
	struct shmeta__quarantined *to = &r->row[r->count++];

	*to = *row;
	to->tenant = copy(row->tenant);
	to->topic = copy(row->topic);
	to->name = copy(row->name);
	to->sentence = copy(row->sentence);
}

static enum shmeta_status read_store(const char *path, struct rows *r, struct shmeta_err *err)
{
	struct shmeta__inspected *store = NULL;
	struct shmeta__inspect_walk walk;
	struct shmeta__tree_entry entry;
	struct shmeta__quarantined row;
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__inspect_open(path, &store, err);

	if (status == SHMETA_OK)
		status = shmeta__inspect_get(store, SHMETA_DB_META, SHMETA_META_UNLISTED,
		                             sizeof(SHMETA_META_UNLISTED) - 1, &value, &bytes, err);
	if (status == SHMETA_OK && bytes == sizeof(r->unlisted))
		memcpy(r->unlisted, value, bytes);
	if (status >= SHMETA_OK)
		status = shmeta__inspect_first(&walk, store, SHMETA_DB_QUARANTINE, NULL, 0, &entry, err);
	for (; status == SHMETA_OK; status = shmeta__inspect_next(&walk, &entry, err)) {
		status =
			shmeta__quarantined_decode(entry.value, entry.bytes, entry.key, entry.key_bytes, 1, &row, NULL);
		if (status != SHMETA_OK) {
			(void)shmeta_fail(err, status, "a quarantined row: its record fails its checksum or bounds");
			break;
		}
		add(r, &row);
	}
	shmeta__inspect_close(store);
	return status == SHMETA_END ? SHMETA_OK : status;
}

/* Under a snapshot of our own the pages that are read are not recycled. */
static int rows_read(struct tool *tool, struct rows *ret)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	enum shmeta_status status = SHMETA_OK;
	char path[PATH_MAX + 32];
	struct session s;
	int code = session_open_long(tool, tool->tenant, &s);

	memset(ret, 0, sizeof(*ret));
	if (code != 0)
		return code;
	do {
		struct pages pages = {.dir_fd = -1};

		rows_clear(ret);
		memset(ret->unlisted, 0, sizeof(ret->unlisted));
		code = session_begin(&s);
		if (code != 0)
			break;
		code = pages_open(tool, &pages);
		if (code == 0) {
			(void)snprintf(path, sizeof(path), "%s/store.%" PRIu64, tool->dir, pages.board.generation);
			status = read_store(path, ret, &err);
			pages_close(&pages);
		} else {
			int unused;

			(void)session_end(&s, &unused);
			break;
		}
	} while (!session_end(&s, &code) && code == 0);
	session_close(&s);
	if (code == 0 && status != SHMETA_OK)
		code = store_say(tool, path, &err);
	for (size_t i = 0; i < ret->count; i++)
		ret->total += ret->row[i].rows;
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		ret->total += ret->unlisted[cls];
	return code;
}

/* May the row be why the store has no such topic, partition (partition_id >= 0) or segment (offset
 * not NULL)? */
static bool explains(const struct tool *tool, const struct shmeta__quarantined *row, const char *topic,
                     int64_t partition_id, const uint64_t *offset)
{
	if (!str_is(row->tenant, tool->tenant) || !str_is(row->topic, topic))
		return false;
	if (row->cls == SHMETA_CLASS_TOPIC)
		return true;
	if (partition_id < 0 || (row->unread & SHMETA_UNREAD_PARTITION) != 0 || row->partition_id != partition_id)
		return false;
	return row->cls == SHMETA_CLASS_PARTITION ||
	       (row->cls == SHMETA_CLASS_SEGMENT && offset != NULL &&
	        ((row->unread & SHMETA_UNREAD_BASE) != 0 ||
	         (row->base <= *offset && (*offset <= row->end || row->end < row->base))));
}

bool quarantine_reason(struct tool *tool, const char *topic, int64_t partition_id, const uint64_t *offset,
                       char ret[TOOL_REASON_BYTES])
{
	struct rows r;
	bool found = false;

	if (rows_read(tool, &r) == 0)
		for (size_t i = 0; i < r.count && !found; i++)
			if (explains(tool, &r.row[i], topic, partition_id, offset)) {
				(void)snprintf(ret, TOOL_REASON_BYTES, "quarantined: %.*s",
				               (int)r.row[i].sentence.bytes, r.row[i].sentence.data);
				found = true;
			}
	rows_free(&r);
	return found;
}

static void show(struct list *list, const struct shmeta__quarantined *row)
{
	bool has_partition = row->cls != SHMETA_CLASS_TOPIC && row->cls != SHMETA_CLASS_AGENT && row->topic.bytes > 0 &&
	                     (row->unread & SHMETA_UNREAD_PARTITION) == 0;
	struct field fields[12];
	size_t n = 0;

	fields[n++] = f_word("class", tool_classes[row->cls]);
	fields[n++] = f_hidden(row->tenant.bytes > 0 ? f_text("tenant", row->tenant) : f_null("tenant"));
	fields[n++] = row->topic.bytes > 0 ? f_text("topic", row->topic) : f_null("topic");
	fields[n++] = has_partition ? f_count("partition_id", row->partition_id) : f_null("partition_id");
	fields[n++] = row->cls == SHMETA_CLASS_SEGMENT && (row->unread & SHMETA_UNREAD_BASE) == 0
	                      ? f_count("base_offset", row->base)
	                      : f_null("base_offset");
	fields[n++] = row->name.bytes > 0 ? f_text("name", row->name) : f_null("name");
	fields[n++] = f_count("rows", row->rows);
	fields[n++] = f_time("since_ms", row->since_ms);
	fields[n++] = f_text("reason", row->sentence);
	list_row(list, fields, n);
}

int verb_quarantine(struct tool *tool)
{
	uint64_t shown = 0, left_out = 0, total = 0, unlisted = 0;
	struct list list;
	struct rows r;
	int code = rows_read(tool, &r);

	if (code != 0) {
		rows_free(&r);
		return code;
	}
	list_begin(&list, tool, "quarantine");
	for (size_t i = 0; i < r.count; i++) {
		if (tool->tenant_given && !str_is(r.row[i].tenant, tool->tenant))
			continue;
		total += r.row[i].rows;
		if (tool->limit == 0 || shown < tool->limit)
			show(&list, &r.row[i]);
		else
			left_out++;
		shown++;
	}
	/* Of whom the rows are that are only counted, nobody knows. */
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		unlisted += r.unlisted[cls];
	list.incomplete = left_out + unlisted > 0;
	list_end(&list, NULL, 0);
	list_free(&list);
	if (!tool->tenant_given)
		total += unlisted;
	if (!tool->json) {
		(void)printf("%s rows of %s cannot be served%s\n", out_count(total),
		             tool->tenant_given ? "this tenant" : "the source",
		             total > 0 ? "; lookups of them, and of what lies below them, answer UNKNOWN" : "");
		if (left_out > 0)
			(void)printf("%s entries more: raise --limit\n", out_count(left_out));
		for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
			if (r.unlisted[cls] > 0)
				(void)printf(
					"of class %s %s rows of all tenants are only counted: nothing of that class is called absent\n",
					tool_classes[cls], out_count(r.unlisted[cls]));
	}
	rows_free(&r);
	return TOOL_OK;
}
