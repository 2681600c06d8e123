/* SPDX-License-Identifier: Apache-2.0
 * export: everything that a source holds, as JSON lines that `import` puts into another one.
 *
 * Objects come first, so that an import knows a slice when it sees one; then what load() shows,
 * from one consistent read; then the highest epochs, which only ever go up: read last they are
 * never below a lease before them. Objects are read once more at the end: when they changed
 * meanwhile, somebody was writing, and the export is none.
 *
 * Opens the source as verify does (docs/decisions/0011-verify-reads-the-source.md,
 * 0019-moving-between-engines.md). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "tools/shmetactl/inspect.h"
#include "tools/shmetactl/move_rows.h"
#include "tools/shmetactl/whole_file.h"

enum { LEFT_OUT_SHOWN = 20 };

struct export
{
	struct tool *tool;
	struct move_source source;
	FILE *out;
	char *tenant, *topic; /* of the rows that come */
	uint64_t rows[BACKEND_ROW_KINDS], left_out;
	uint64_t objects_hash, shown_ns, done;
	int write_error; /* errno */
	bool only_hash;
};

static bool written(struct export *e, bool ok)
{
	if (!ok && e->write_error == 0)
		e->write_error = errno;
	return ok;
}

static bool put_line(struct export *e, json_t *line)
{
	bool ok = written(e, json_dumpf(line, e->out, JSON_COMPACT | JSON_ENSURE_ASCII) == 0 &&
	                             fputc('\n', e->out) != EOF);

	json_decref(line);
	return ok;
}

static void leave_out(struct export *e, const char *sentence)
{
	if (e->left_out++ < LEFT_OUT_SHOWN)
		(void)fprintf(stderr, "shmetactl: left out: %s\n", out_safe(sentence, strlen(sentence)));
}

static enum shmeta_status put_row(struct export *e, const struct backend_row *row)
{
	json_t *line = move_row_json(row);

	if (line == NULL) {
		leave_out(e, "a map has a key with a NUL byte, which JSON cannot hold");
		return SHMETA_OK;
	}
	e->rows[row->kind]++;
	return put_line(e, line) ? SHMETA_OK : SHMETA_ERR_SYSTEM;
}

static struct backend_row row_of(const struct export *e, enum backend_row_kind kind)
{
	return (struct backend_row){.kind = kind,
	                            .tenant = {e->tenant, e->tenant != NULL ? strlen(e->tenant) : 0},
	                            .topic = {e->topic, e->topic != NULL ? strlen(e->topic) : 0}};
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct export *e = arg;
	struct backend_row row;

	free(e->tenant);
	free(e->topic);
	e->tenant = tool_copy(tenant.data, tenant.bytes);
	e->topic = tool_copy(topic->name.data, topic->name.bytes);
	row = row_of(e, BACKEND_ROW_TOPIC);
	row.u.topic = *topic;
	return put_row(e, &row);
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct backend_row row = row_of(arg, BACKEND_ROW_PARTITION);

	row.u.partition = *partition;
	return put_row(arg, &row);
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct backend_row row = row_of(arg, BACKEND_ROW_SEGMENT);

	row.u.segment = *segment;
	return put_row(arg, &row);
}

static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	const struct backend_row row = {.kind = BACKEND_ROW_AGENT, .tenant = tenant, .u.agent = *agent};

	return put_row(arg, &row);
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	const struct backend_row row = {.kind = BACKEND_ROW_GROUP, .tenant = tenant, .u.group = *group};

	return put_row(arg, &row);
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	const struct backend_row row = {
		.kind = BACKEND_ROW_OFFSET, .tenant = tenant, .topic = topic, .u.offset = *offset};

	return put_row(arg, &row);
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	const struct backend_row row = {.kind = BACKEND_ROW_LEASE, .tenant = tenant, .topic = topic, .u.lease = *lease};

	return put_row(arg, &row);
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	(void)row;
	leave_out(arg, sentence);
}

static void hash_string(uint64_t *hash, struct shmeta_str text)
{
	*hash = (hash_bytes(*hash, text.data, text.bytes) ^ text.bytes) * UINT64_C(0x100000001b3);
}

static enum shmeta_status on_extra(void *arg, const struct backend_row *row)
{
	struct export *e = arg;

	if (row->kind == BACKEND_ROW_OBJECT) {
		hash_string(&e->objects_hash, row->tenant);
		hash_string(&e->objects_hash, row->u.object.s3_bucket);
		hash_string(&e->objects_hash, row->u.object.s3_key);
	}
	return e->only_hash ? SHMETA_OK : put_row(e, row);
}

static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct export *e = arg;
	uint64_t now = tool_monotonic_ns();

	if (isatty(STDERR_FILENO) && now - e->shown_ns > 500000000u) {
		e->shown_ns = now;
		(void)fprintf(stderr, "\r%s of %s rows ", out_count(done), total > 0 ? out_count(total) : "?");
	}
	return SHMETA_OK;
}

static bool put_header(struct export *e)
{
	json_t *line = out_document("export");
	char description[480];

	e->source.engine->source->describe(e->source.state, description, sizeof(description));
	out_set(line, "kind", json_string("header"));
	out_set(line, "source", out_json_text(description, strlen(description)));
	out_set(line, "shmeta", json_string(shmeta_version()));
	return put_line(e, line);
}

static bool put_end(struct export *e)
{
	json_t *line = json_object(), *rows = json_object();
	uint64_t all = 0;

	for (int i = 0; i < BACKEND_ROW_KINDS; i++) {
		out_set(rows, move_kind_name((enum backend_row_kind)i), out_json_count(e->rows[i]));
		all += e->rows[i];
	}
	out_set(line, "kind", json_string("end"));
	out_set(line, "rows", out_json_count(all));
	out_set(line, "of_kind", rows);
	out_set(line, "left_out", out_json_count(e->left_out));
	return put_line(e, line);
}

static int write_all(struct export *e)
{
	const struct backend_engine *engine = e->source.engine;
	const struct backend_sink sink = {.arg = e,
	                                  .topic = on_topic,
	                                  .partition = on_partition,
	                                  .segment = on_segment,
	                                  .agent = on_agent,
	                                  .group = on_group,
	                                  .offset = on_offset,
	                                  .lease = on_lease,
	                                  .quarantine = on_quarantine,
	                                  .progress = on_progress};
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status = put_header(e) ? SHMETA_OK : SHMETA_ERR_SYSTEM;
	uint64_t before = 0;

	if (engine->admin == NULL || engine->admin->extras == NULL)
		return tool_error(e->tool, TOOL_UNHEALTHY, "%s: this engine cannot be moved from", engine->name);
	if (status == SHMETA_OK)
		status = engine->admin->extras(e->source.state, BACKEND_ROW_OBJECT, on_extra, e, &err);
	before = e->objects_hash;
	if (status == SHMETA_OK)
		status = engine->source->load(e->source.state, &sink, &err);
	if (status == SHMETA_OK)
		status = engine->admin->extras(e->source.state, BACKEND_ROW_EPOCH, on_extra, e, &err);
	e->objects_hash = 0;
	e->only_hash = true;
	if (status == SHMETA_OK)
		status = engine->admin->extras(e->source.state, BACKEND_ROW_OBJECT, on_extra, e, &err);
	if (isatty(STDERR_FILENO) && e->shown_ns > 0)
		(void)fputs("\r\033[K", stderr);
	if (status == SHMETA_OK && e->objects_hash != before)
		return tool_error(e->tool, TOOL_UNHEALTHY,
		                  "objects were written while they were exported: stop the writers and export again");
	if (status == SHMETA_OK && (!put_end(e) || !written(e, fflush(e->out) == 0)))
		status = SHMETA_ERR_SYSTEM;
	if (e->write_error != 0) {
		clearerr(e->out); /* this is told here, and once */
		return tool_error(e->tool, TOOL_UNHEALTHY, "%s: writing the export: %s",
		                  e->out == stdout ? "standard output" : e->tool->argv[0], strerror(e->write_error));
	}
	return status == SHMETA_OK ? 0 : move_failed(e->tool, "reading the source", status, &err);
}

static int to_file(struct export *e, const char *name)
{
	struct whole_file file;
	int code = whole_file_begin(e->tool, name, "an export", ", or to standard output: '-'", &file);

	if (code != 0)
		return code;
	e->out = file.out;
	return whole_file_end(&file, write_all(e));
}

static void report(const struct export *e, const char *name)
{
	uint64_t all = 0;

	for (int i = 0; i < BACKEND_ROW_KINDS; i++)
		all += e->rows[i];
	if (e->tool->json && strcmp(name, "-") != 0) {
		json_t *doc = out_document("exported");

		out_set(doc, "file", out_json_text(name, strlen(name)));
		out_set(doc, "rows", out_json_count(all));
		out_set(doc, "left_out", out_json_count(e->left_out));
		out_json(doc, 2);
	} else if (!e->tool->json) {
		(void)fprintf(
			stderr,
			"exported %s rows: %s topics, %s partitions, %s segments, %s groups, %s offsets, %s agents, %s leases, "
			"%s objects\n",
			out_count(all), out_count(e->rows[BACKEND_ROW_TOPIC]),
			out_count(e->rows[BACKEND_ROW_PARTITION]), out_count(e->rows[BACKEND_ROW_SEGMENT]),
			out_count(e->rows[BACKEND_ROW_GROUP]), out_count(e->rows[BACKEND_ROW_OFFSET]),
			out_count(e->rows[BACKEND_ROW_AGENT]), out_count(e->rows[BACKEND_ROW_LEASE]),
			out_count(e->rows[BACKEND_ROW_OBJECT]));
	}
	if (e->left_out > 0)
		(void)fprintf(stderr, "shmetactl: %s rows of the source were left out, because they are quarantined\n",
		              out_count(e->left_out));
}

int verb_export(struct tool *tool)
{
	struct export e = {.tool = tool};
	char uri[SOURCE_URI_MAX];
	int code = move_source_uri(tool, uri);

	if (code == 0)
		code = move_open(tool, uri, false, &e.source);
	if (code == 0 && strcmp(tool->argv[0], "-") == 0) {
		e.out = stdout;
		code = write_all(&e);
	} else if (code == 0) {
		code = to_file(&e, tool->argv[0]);
	}
	if (code == 0) {
		report(&e, tool->argv[0]);
		code = e.left_out > 0 ? TOOL_UNHEALTHY : TOOL_OK;
	}
	move_close(&e.source);
	free(e.tenant);
	free(e.topic);
	return code;
}
