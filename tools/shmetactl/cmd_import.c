/* SPDX-License-Identifier: Apache-2.0
 * import: what `export` wrote, into another source.
 *
 * The whole file is read and judged before anything is written; every line that is wrong is told
 * with its number. Then rows go to the source in batches, each one transaction. What was written is
 * told, also when it ends early: the same command with --merge goes on, because a row that is there
 * already is recognised, and one that is there with other content stays as it is.
 *
 * Opens the target through the engines (docs/decisions/0019-moving-between-engines.md). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/shmetactl/move_rows.h"

enum { FAULTS_SHOWN = 50, BATCH_ROWS = 5000, LINE_MAX_BYTES = 4 << 20 };
enum { BATCH_BYTES = 16 << 20 };

struct item {
	uint64_t number; /* of its line */
	json_t *line;
	void *map;
};

struct import {
	struct tool *tool;
	FILE *in;
	char *text; /* the line that was read */
	size_t bytes, capacity;
	uint64_t number; /* of that line */
	uint64_t faults;
	/* Order: what came last. */
	int rank;
	bool ended, has_partition, has_base;
	char *tenant, *topic;
	uint32_t partition;
	uint64_t base;
	uint64_t rows[BACKEND_ROW_KINDS], all, shown_ns;
	/* The batch. */
	struct move_source target;
	struct item items[BATCH_ROWS];
	struct backend_row row[BATCH_ROWS];
	struct shmeta_result result[BATCH_ROWS];
	size_t count, batch_bytes;
	uint64_t put, same, refused, last_line; /* last_line: of the last batch that was written */
	char why[2048]; /* it ended early; told with the report, which is one document of JSON */
};

/* The exit code; the sentence is told by whoever knows what was done until then. */
__attribute__((format(printf, 3, 4))) static int fail(struct import *im, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(im->why, sizeof(im->why), fmt, ap);
	va_end(ap);
	return code;
}

/* ---- lines ---- */

__attribute__((format(printf, 2, 3))) static void wrong(struct import *im, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (im->faults++ >= FAULTS_SHOWN)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "shmetactl: line %" PRIu64 ": %s\n", im->number, out_safe(text, strlen(text)));
}

/* The next line, without its end. false: there is none. A line that is too long is told and passed
 * over. */
static bool read_line(struct import *im)
{
	for (;;) {
		bool too_long = false, whole = false;

		im->bytes = 0;
		while (!whole) {
			size_t n;

			if (im->capacity - im->bytes < 4096 && im->capacity < LINE_MAX_BYTES) {
				im->capacity = im->capacity > 0 ? 2 * im->capacity : 65536;
				im->text = tool_grow(im->text, im->capacity);
			} else if (im->capacity - im->bytes < 2) {
				too_long = true;
				im->bytes = 0;
			}
			/* Its NUL bytes, if it has any, end a piece early: what is left of the line
			 * then is no JSON. */
			if (fgets(im->text + im->bytes, (int)(im->capacity - im->bytes), im->in) == NULL)
				break;
			n = strlen(im->text + im->bytes);
			if (n == 0)
				break;
			im->bytes += n;
			whole = im->text[im->bytes - 1] == '\n';
		}
		if (im->bytes == 0 && !too_long)
			return false;
		im->number++;
		im->bytes -= whole;
		if (!too_long)
			return true;
		wrong(im, "longer than %d MiB", LINE_MAX_BYTES >> 20);
	}
}

/* The line as an object. NULL: told. */
static json_t *parse_line(struct import *im)
{
	json_error_t error;
	json_t *line = json_loadb(im->text, im->bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);

	if (line == NULL)
		wrong(im, "not JSON: %s", error.text);
	else if (!json_is_object(line)) {
		wrong(im, "no object");
		json_decref(line);
		line = NULL;
	}
	return line;
}

static const char *word_of(const json_t *line, const char *name)
{
	const json_t *value = json_object_get(line, name);

	return json_is_string(value) ? json_string_value(value) : "";
}

/* 0, or an exit code. */
static int read_header(struct import *im)
{
	json_t *line = read_line(im) ? parse_line(im) : NULL;
	const json_t *version = json_object_get(line, "version");
	int code = 0;

	if (line == NULL || strcmp(word_of(line, "schema"), MOVE_SCHEMA) != 0 ||
	    strcmp(word_of(line, "kind"), "header") != 0)
		code = fail(im, TOOL_USAGE, "%s: not an export of shmetactl: the first line is not its header",
		            im->tool->argv[0]);
	else if (!json_is_integer(version) || json_integer_value(version) != MOVE_VERSION)
		code = fail(im, TOOL_VERSION,
		            "%s: an export of version %" JSON_INTEGER_FORMAT "; this program reads version %d",
		            im->tool->argv[0], json_integer_value(version), MOVE_VERSION);
	json_decref(line);
	return code;
}

/* ---- the first reading: is all of it right? ---- */

static bool same_text(const char *a, struct shmeta_str b)
{
	return a != NULL && strlen(a) == b.bytes && memcmp(a, b.data, b.bytes) == 0;
}

/* Parents stand before their children, as an export has them: so a row that hangs on nothing is
 * told before anything is written. */
static void judge_place(struct import *im, const struct backend_row *row)
{
	static const int ranks[BACKEND_ROW_KINDS] = {
		[BACKEND_ROW_OBJECT] = 0,  [BACKEND_ROW_TOPIC] = 1, [BACKEND_ROW_PARTITION] = 1,
		[BACKEND_ROW_SEGMENT] = 1, [BACKEND_ROW_AGENT] = 2, [BACKEND_ROW_GROUP] = 3,
		[BACKEND_ROW_OFFSET] = 4,  [BACKEND_ROW_LEASE] = 5, [BACKEND_ROW_EPOCH] = 6};

	if (ranks[row->kind] < im->rank)
		wrong(im, "a %s behind rows that come after all of its kind", move_kind_name(row->kind));
	else
		im->rank = ranks[row->kind];
	switch ((int)row->kind) {
	case BACKEND_ROW_TOPIC:
		free(im->tenant);
		free(im->topic);
		im->tenant = tool_copy(row->tenant.data, row->tenant.bytes);
		im->topic = tool_copy(row->u.topic.name.data, row->u.topic.name.bytes);
		im->has_partition = false;
		break;
	case BACKEND_ROW_PARTITION:
		if (!same_text(im->tenant, row->tenant) || !same_text(im->topic, row->topic))
			wrong(im, "a partition of another topic than the one before it");
		else if (im->has_partition && row->u.partition.partition_id <= im->partition)
			wrong(im, "partition %" PRIu32 " behind partition %" PRIu32, row->u.partition.partition_id,
			      im->partition);
		im->has_partition = true;
		im->has_base = false;
		im->partition = row->u.partition.partition_id;
		break;
	case BACKEND_ROW_SEGMENT:
		if (!same_text(im->tenant, row->tenant) || !same_text(im->topic, row->topic) || !im->has_partition ||
		    row->u.segment.partition_id != im->partition)
			wrong(im, "a segment of another partition than the one before it");
		else if (im->has_base && row->u.segment.base_offset <= im->base)
			wrong(im, "a segment at %" PRIu64 " behind one at %" PRIu64, row->u.segment.base_offset,
			      im->base);
		im->has_base = true;
		im->base = row->u.segment.base_offset;
		break;
	default:
		break;
	}
}

static void judge_end(struct import *im, const json_t *line)
{
	const json_t *rows = json_object_get(line, "rows");

	im->ended = true;
	if (!json_is_integer(rows) || (uint64_t)json_integer_value(rows) != im->all)
		wrong(im, "the end says %" JSON_INTEGER_FORMAT " rows; there are %" PRIu64 " before it",
		      json_integer_value(rows), im->all);
}

static int judge_all(struct import *im)
{
	int code = read_header(im);

	if (code != 0)
		return tool_error(im->tool, code, "%s", im->why);
	while (read_line(im)) {
		json_t *line;
		struct backend_row row;
		char fault[480];
		void *map = NULL;

		if (im->ended) {
			wrong(im, "something behind the end");
			break;
		}
		line = parse_line(im);
		if (line == NULL)
			continue;
		if (strcmp(word_of(line, "kind"), "end") == 0) {
			judge_end(im, line);
		} else {
			im->all++;
			if (!move_row_parse(line, &row, &map, fault)) {
				wrong(im, "%s", fault);
			} else {
				im->rows[row.kind]++;
				judge_place(im, &row);
			}
			free(map);
		}
		json_decref(line);
	}
	if (ferror(im->in))
		return tool_error(im->tool, TOOL_UNHEALTHY, "%s: %s", im->tool->argv[0], strerror(errno));
	if (!im->ended)
		wrong(im, "the file ends here without its last line: the export is not complete");
	if (im->faults > 0)
		return tool_error(im->tool, TOOL_USAGE, "%s: %s lines are wrong; nothing was written",
		                  im->tool->argv[0], out_count(im->faults));
	return 0;
}

/* ---- the target ---- */

static enum shmeta_status stop_at_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	(void)tenant;
	(void)topic;
	*(bool *)arg = true;
	return SHMETA_END;
}
static enum shmeta_status pass_partition(void *arg, const struct shmeta_partition *partition)
{
	(void)arg;
	(void)partition;
	return SHMETA_OK;
}
static enum shmeta_status pass_segment(void *arg, const struct shmeta_segment *segment)
{
	(void)arg;
	(void)segment;
	return SHMETA_OK;
}
static enum shmeta_status stop_at_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	(void)tenant;
	(void)agent;
	*(bool *)arg = true;
	return SHMETA_END;
}
static enum shmeta_status stop_at_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	(void)tenant;
	(void)group;
	*(bool *)arg = true;
	return SHMETA_END;
}
static enum shmeta_status pass_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                      const struct shmeta_committed_offset *offset)
{
	(void)arg;
	(void)tenant;
	(void)topic;
	(void)offset;
	return SHMETA_OK;
}
static enum shmeta_status pass_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                     const struct shmeta_lease *lease)
{
	(void)arg;
	(void)tenant;
	(void)topic;
	(void)lease;
	return SHMETA_OK;
}
static enum shmeta_status stop_at_object(void *arg, const struct backend_row *row)
{
	(void)row;
	*(bool *)arg = true;
	return SHMETA_END;
}

/* Is there anything in it? 0, or an exit code, said. */
static int look_for_rows(struct import *im, bool *ret_any)
{
	const struct backend_sink sink = {.arg = ret_any,
	                                  .topic = stop_at_topic,
	                                  .partition = pass_partition,
	                                  .segment = pass_segment,
	                                  .agent = stop_at_agent,
	                                  .group = stop_at_group,
	                                  .offset = pass_offset,
	                                  .lease = pass_lease};
	const struct backend_engine *engine = im->target.engine;
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;

	*ret_any = false;
	status = engine->source->load(im->target.state, &sink, &err);
	if (status == SHMETA_OK && engine->admin != NULL && engine->admin->extras != NULL)
		status = engine->admin->extras(im->target.state, BACKEND_ROW_OBJECT, stop_at_object, ret_any, &err);
	return status == SHMETA_OK || *ret_any ? 0 : move_failed(im->tool, "looking at the target", status, &err);
}

static int holds_rows(struct import *im)
{
	if (im->tool->merge)
		return 0;
	return tool_error(im->tool, TOOL_USAGE,
	                  "%s holds rows already; --merge adds what is missing and leaves what is there as it is",
	                  im->tool->target);
}

/* ---- the second reading: into the target ---- */

static void drop_batch(struct import *im)
{
	for (size_t i = 0; i < im->count; i++) {
		free(im->items[i].map);
		json_decref(im->items[i].line);
	}
	im->count = im->batch_bytes = 0;
}

static void refused(struct import *im, size_t i)
{
	if (im->refused++ < FAULTS_SHOWN)
		(void)fprintf(stderr, "shmetactl: line %" PRIu64 ": this %s was refused: %s\n", im->items[i].number,
		              move_kind_name(im->row[i].kind),
		              im->result[i].text[0] != '\0' ? out_safez(im->result[i].text, sizeof(im->result[i].text))
		                                            : shmeta_strerror(im->result[i].status));
}

static int write_batch(struct import *im)
{
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;
	uint64_t now;

	if (im->count == 0)
		return 0;
	status = im->target.engine->admin->restore(im->target.state, im->row, im->count, im->result, &err);
	if (status != SHMETA_OK)
		return fail(im, tool_exit_of(status), "%s: %s",
		            status == SHMETA_ERR_OUTCOME_UNKNOWN
		                    ? "writing; whether the last batch was written is unknown"
		                    : "writing",
		            err.text[0] != '\0' ? err.text : shmeta_strerror(status));
	for (size_t i = 0; i < im->count; i++) {
		if (im->result[i].status == SHMETA_OK)
			im->put++;
		else if (im->result[i].status == SHMETA_ERR_ALREADY_EXISTS)
			im->same++;
		else
			refused(im, i);
	}
	im->last_line = im->items[im->count - 1].number;
	drop_batch(im);
	now = tool_monotonic_ns();
	if (isatty(STDERR_FILENO) && now - im->shown_ns > 500000000u) {
		im->shown_ns = now;
		(void)fprintf(stderr, "\r%s of %s rows ", out_count(im->put + im->same + im->refused),
		              out_count(im->all));
	}
	return 0;
}

static int write_all(struct import *im)
{
	int code = read_header(im);

	while (code == 0 && read_line(im)) {
		struct item *item = &im->items[im->count];
		char fault[480];

		*item = (struct item){.number = im->number, .line = parse_line(im)};
		if (item->line != NULL && strcmp(word_of(item->line, "kind"), "end") == 0) {
			json_decref(item->line);
			break;
		}
		if (item->line == NULL || !move_row_parse(item->line, &im->row[im->count], &item->map, fault)) {
			free(item->map);
			json_decref(item->line);
			code = fail(im, TOOL_UNHEALTHY, "line %" PRIu64 ": the file changed while it was read",
			            im->number);
			break;
		}
		im->count++;
		im->batch_bytes += im->bytes;
		if (im->count == BATCH_ROWS || im->batch_bytes >= BATCH_BYTES)
			code = write_batch(im);
	}
	if (code == 0)
		code = write_batch(im);
	drop_batch(im);
	if (isatty(STDERR_FILENO) && im->shown_ns > 0)
		(void)fputs("\r\033[K", stderr);
	return code;
}

static void report(const struct import *im, int code)
{
	if (code != 0 && im->tool->json)
		out_note("%s", im->why);
	else if (code != 0)
		(void)tool_error(im->tool, code, "%s", im->why);
	if (im->tool->json) {
		json_t *doc = out_document("imported");

		out_set(doc, "target", out_json_text(im->tool->target, strlen(im->tool->target)));
		out_set(doc, "dry_run", json_boolean(im->tool->dry_run));
		out_set(doc, "complete", json_boolean(code == 0));
		out_set(doc, "rows", out_json_count(im->all));
		out_set(doc, "put", out_json_count(im->put));
		out_set(doc, "there_already", out_json_count(im->same));
		out_set(doc, "refused", out_json_count(im->refused));
		if (code != 0) {
			out_set(doc, "error", out_json_text(im->why, strlen(im->why)));
			out_set(doc, "exit", json_integer(code));
		}
		out_json(doc, 2);
		return;
	}
	if (im->tool->dry_run) {
		(void)printf("would put %s rows into %s\n", out_count(im->all), im->tool->target);
		return;
	}
	(void)printf("put %s rows into %s", out_count(im->put), im->tool->target);
	if (im->same > 0)
		(void)printf("; %s were there already", out_count(im->same));
	if (im->refused > 0)
		(void)printf("; %s were refused", out_count(im->refused));
	(void)puts("");
	if (code != 0 && im->last_line > 0)
		(void)printf("it ended early: written are the lines up to %" PRIu64
		             "; the same command with --merge goes on\n",
		             im->last_line);
	else if (code != 0)
		(void)puts(
			"it ended early, before anything was known to be written; the same command with --merge goes on");
}

/* A file is read twice: what comes through a pipe, whatever its name, is kept meanwhile. */
static FILE *open_input(struct tool *tool, const char *name)
{
	FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "re"), *kept;
	char piece[65536];
	struct stat st;
	bool failed;
	size_t n;

	if (in == NULL) {
		(void)tool_error(tool, errno == EACCES ? TOOL_PERMISSION : TOOL_USAGE, "%s: %s", name, strerror(errno));
		return NULL;
	}
	if (in != stdin && fstat(fileno(in), &st) == 0 && S_ISREG(st.st_mode))
		return in;
	kept = tmpfile();
	while (kept != NULL && (n = fread(piece, 1, sizeof(piece), in)) > 0)
		if (fwrite(piece, 1, n, kept) != n)
			break;
	failed = kept == NULL || ferror(in) || ferror(kept) || fflush(kept) != 0;
	if (failed)
		(void)tool_error(tool, TOOL_UNHEALTHY, "keeping what was read of %s: %s", name, strerror(errno));
	if (in != stdin)
		(void)fclose(in);
	if (failed && kept != NULL)
		(void)fclose(kept);
	if (failed)
		return NULL;
	rewind(kept);
	return kept;
}

static enum shmeta_status pass_statement(void *arg, const char *about, const char *text)
{
	(void)arg;
	(void)about;
	(void)text;
	return SHMETA_OK;
}

/* Would what is missing be made? As `schema apply` finds out, without writing. 0, or an exit code,
 * said. */
static int look_at_schema(struct import *im)
{
	const struct backend_options options = {.uri = im->tool->target,
	                                        .timeout_ms = im->tool->timeout_ms,
	                                        .create = true,
	                                        .password_file = im->tool->password_file};
	struct backend_error err = {.code = SHMETA_OK};
	const struct backend_engine *engine = backend_find(options.uri, &err);
	enum shmeta_status status;
	void *state;

	if (engine == NULL)
		return tool_error(im->tool, TOOL_USAGE, "%s", err.text);
	if (engine->admin == NULL || engine->admin->restore == NULL)
		return tool_error(im->tool, TOOL_USAGE, "%s: this engine cannot be moved to", engine->name);
	if (engine->admin->schema == NULL)
		return 0;
	state = tool_alloc(engine->state_bytes);
	memset(state, 0, engine->state_bytes);
	status = engine->admin->schema(state, &options, BACKEND_SCHEMA_APPLY, 1, pass_statement, NULL, &err);
	engine->source->close(state);
	free(state);
	return status == SHMETA_OK ? 0 : move_failed(im->tool, "looking at the target", status, &err);
}

/* Without writing. */
static int look_only(struct import *im)
{
	const char *path = strncmp(im->tool->target, "sqlite:", 7) == 0 ? im->tool->target + 7 : NULL;
	const struct backend_options options = {.uri = im->tool->target,
	                                        .timeout_ms = im->tool->timeout_ms,
	                                        .read_only = true,
	                                        .password_file = im->tool->password_file};
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;
	bool any = false;
	int code = look_at_schema(im);

	if (code != 0)
		return code;
	if (path != NULL && access(path, F_OK) != 0 && errno == ENOENT) {
		(void)fprintf(stderr, "%s is not there yet and will be made\n", im->tool->target);
		return 0;
	}
	if (path != NULL && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0)
		return tool_error(im->tool, errno == EACCES ? TOOL_PERMISSION : TOOL_USAGE, "%s: %s", im->tool->target,
		                  strerror(errno));
	im->target.engine = backend_find(im->tool->target, &err);
	im->target.state = tool_alloc(im->target.engine->state_bytes);
	memset(im->target.state, 0, im->target.engine->state_bytes);
	status = im->target.engine->source->open(im->target.state, &options, &err);
	/* what would be made is missing: nothing else keeps it from being opened */
	if (status == SHMETA_ERR_CONFIG) {
		(void)fprintf(stderr, "%s has no tables yet; they will be made\n", im->tool->target);
		return 0;
	}
	if (status != SHMETA_OK)
		return move_failed(im->tool, "opening the target", status, &err);
	code = look_for_rows(im, &any);
	return code != 0 || !any ? code : holds_rows(im);
}

static int put_into_target(struct import *im)
{
	struct tool *tool = im->tool;
	char what[PATH_MAX + 64];
	bool any = false;
	int code;

	if (tool->dry_run) {
		code = look_only(im);
		if (code == 0)
			report(im, code);
		return code;
	}
	(void)snprintf(what, sizeof(what), "put %s rows into %s", out_count(im->all), tool->target);
	if (!tool_agreed(tool, what, "it writes to a database"))
		return TOOL_USAGE;
	code = move_open(tool, tool->target, true, &im->target);
	if (code == 0 && (im->target.engine->admin == NULL || im->target.engine->admin->restore == NULL))
		code = tool_error(tool, TOOL_USAGE, "%s: this engine cannot be moved to", im->target.engine->name);
	if (code == 0)
		code = look_for_rows(im, &any);
	if (code == 0 && any)
		code = holds_rows(im);
	if (code != 0)
		return code;
	rewind(im->in);
	im->number = 0;
	code = write_all(im);
	report(im, code);
	return code == 0 && im->refused > 0 ? TOOL_UNHEALTHY : code;
}

int verb_import(struct tool *tool)
{
	struct import *im;
	int code;

	if (tool->target == NULL)
		return tool_error(tool, TOOL_USAGE, "--target is missing: the URI of the source to write to");
	if (strncmp(tool->target, "memory:", 7) == 0)
		return tool_error(tool, TOOL_USAGE, "what is put into memory: is gone when this program ends");
	im = tool_alloc(sizeof(*im));
	memset(im, 0, sizeof(*im));
	im->tool = tool;
	im->in = open_input(tool, tool->argv[0]);
	code = im->in != NULL ? judge_all(im) : TOOL_USAGE;
	if (code == 0)
		code = put_into_target(im);
	move_close(&im->target);
	if (im->in != NULL)
		(void)fclose(im->in);
	free(im->text);
	free(im->tenant);
	free(im->topic);
	free(im);
	return code;
}
