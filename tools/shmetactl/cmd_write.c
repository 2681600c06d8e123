/* SPDX-License-Identifier: Apache-2.0
 * topic create, topic delete, segments delete-before and replace: writes as any program makes them.
 * What cannot be taken back asks first. */
#include "tools/shmetactl/move_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One operation. 0 and *ret, or an exit code after having said why. */
static int write_one(struct tool *tool, const struct shmeta_op *op, const char *doing, struct shmeta_result *ret,
                     struct shmeta_token *ret_token)
{
	char error[512] = "";
	struct shmeta_options options = {.size = sizeof(options),
	                                 .directory = tool->dir,
	                                 .tenant = tool->tenant,
	                                 .agent = "shmetactl",
	                                 .flags = SHMETA_OPEN_UNREGISTERED,
	                                 .error = error,
	                                 .error_bytes = sizeof(error)};
	struct shmeta_client *client = NULL;
	struct shmeta *instance;
	enum shmeta_status status = shmeta_open(&options, &instance);
	struct shmeta_op known = *op;
	int code = 0;

	if (status != SHMETA_OK)
		return tool_say_not_opened(tool, status, error);
	/* An answer that is lost is asked for again. */
	(void)shmeta_request_id(known.request_id);
	memset(ret, 0, sizeof(*ret));
	status = shmeta_client_open(instance, NULL, &client);
	if (status == SHMETA_OK)
		status = shmeta_write(client, &known, 1, tool->timeout_ms, ret, ret_token);
	if (status == SHMETA_OK || status == SHMETA_ERR_NOT_CACHED)
		status = ret->status != SHMETA_OK ? ret->status : status;
	if (status != SHMETA_OK) {
		char last[512];

		(void)shmeta_last_error(instance, last, sizeof(last));
		code = tool_error(tool, tool_exit_of(status), "%s: %s", doing,
		                  ret->text[0] != '\0' ? ret->text
		                  : last[0] != '\0'    ? last
		                                       : shmeta_strerror(status));
	}
	shmeta_client_close(client);
	shmeta_close(instance);
	return code;
}

static int say_done(struct tool *tool, const char *schema, const struct field *fields, size_t count,
                    const struct shmeta_token *token)
{
	struct field all[8];

	for (size_t i = 0; i < count; i++)
		all[i] = fields[i];
	all[count++] = f_count("generation", token->generation);
	all[count++] = f_count("txn", token->txn);
	out_record(tool, schema, all, count);
	return TOOL_OK;
}

int verb_topic_create(struct tool *tool)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = {tool->argv[0], strlen(tool->argv[0])}}};
	struct shmeta_result result;
	struct shmeta_token token = {0};
	uint64_t partitions;
	int code;

	if (!tool_parse_u64(tool->argv[1], UINT32_MAX, &partitions))
		return tool_error(tool, TOOL_USAGE, "'%s' is not a number of partitions", tool->argv[1]);
	op.u.topic.partition_count = (uint32_t)partitions;
	code = write_one(tool, &op, "topic create", &result, &token);
	return code != 0
	               ? code
	               : say_done(tool, "topic_create",
	                          (struct field[]){f_text("topic", op.u.topic.name), f_count("partitions", partitions)},
	                          2, &token);
}

int verb_topic_delete(struct tool *tool)
{
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {tool->argv[0], strlen(tool->argv[0])}};
	struct shmeta_result result;
	struct shmeta_token token = {0};
	char what[320];
	int code;

	(void)snprintf(what, sizeof(what), "delete topic %s with its partitions, segments, offsets and leases",
	               out_safe(tool->argv[0], strlen(tool->argv[0])));
	if (!tool_agreed(tool, what, "it cannot be taken back"))
		return TOOL_USAGE;
	code = write_one(tool, &op, "topic delete", &result, &token);
	return code != 0 ? code : say_done(tool, "topic_delete", (struct field[]){f_text("topic", op.name)}, 1, &token);
}

int verb_segments_delete_before(struct tool *tool)
{
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE,
	                       .name = {tool->argv[0], strlen(tool->argv[0])}};
	struct shmeta_result result;
	struct shmeta_token token = {0};
	uint64_t partition;
	char what[320];
	int code;

	if (!tool_parse_u64(tool->argv[1], UINT32_MAX, &partition))
		return tool_error(tool, TOOL_USAGE, "'%s' is not a partition id", tool->argv[1]);
	if (!tool_parse_u64(tool->argv[2], INT64_MAX, &op.offset))
		return tool_error(tool, TOOL_USAGE, "'%s' is not an offset", tool->argv[2]);
	op.partition_id = (uint32_t)partition;
	(void)snprintf(what, sizeof(what), "delete the segments of %s/%u that end before offset %s",
	               out_safe(tool->argv[0], strlen(tool->argv[0])), op.partition_id, tool->argv[2]);
	if (!tool_agreed(tool, what, "it cannot be taken back"))
		return TOOL_USAGE;
	code = write_one(tool, &op, "segments delete-before", &result, &token);
	if (code == 0 && result.count == 0) /* none to delete, or nothing to delete from */
		code = tool_say_absent(tool, tool->argv[0], (int64_t)partition);
	return code != 0 ? code
	                 : say_done(tool, "segments_delete_before",
	                            (struct field[]){f_text("topic", op.name), f_count("partition_id", partition),
	                                             f_count("deleted", result.count)},
	                            3, &token);
}

/* ---- segments replace ---- */

/* The lines that were read; their texts are the JSON's. */
struct changes {
	json_t *lines;
	struct shmeta_segment *list[2]; /* those that go, those that come */
	uint32_t count[2];
	char *text;
	size_t capacity;
	uint64_t number;
};

/* One line. 0, or an exit code after having said why. */
static int take_line(struct tool *tool, struct changes *c, uint32_t partition)
{
	const int comes = c->text[0] == '+';
	char fault[480] = "it begins with neither - nor +";
	struct backend_row row = {.kind = BACKEND_ROW_KINDS};
	json_error_t error;
	json_t *line = NULL;
	void *map = NULL;
	bool good = false;

	if (comes || c->text[0] == '-')
		line = json_loads(c->text + 1, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (line != NULL && json_is_object(line))
		good = move_row_parse(line, &row, &map, fault);
	else if (comes || c->text[0] == '-')
		(void)snprintf(fault, sizeof(fault), "what follows its sign is no JSON object");
	free(map);
	if (good &&
	    (row.kind != BACKEND_ROW_SEGMENT || row.u.segment.partition_id != partition ||
	     row.topic.bytes != strlen(tool->argv[0]) || memcmp(row.topic.data, tool->argv[0], row.topic.bytes) != 0)) {
		(void)snprintf(fault, sizeof(fault), "it is no segment of this partition");
		good = false;
	}
	if (line != NULL)
		(void)json_array_append_new(c->lines, line); /* the row's texts are its */
	if (!good)
		return tool_error(tool, TOOL_USAGE, "line %llu: %s", (unsigned long long)c->number, fault);
	c->list[comes] = tool_grow(c->list[comes], (c->count[comes] + 1) * sizeof(struct shmeta_segment));
	c->list[comes][c->count[comes]++] = row.u.segment;
	return 0;
}

static int read_changes(struct tool *tool, struct changes *c, const char *name, uint32_t partition)
{
	FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
	int code = 0;
	ssize_t n;

	if (in == NULL)
		return tool_error(tool, errno == EACCES ? TOOL_PERMISSION : TOOL_USAGE, "%s: %s", name,
		                  strerror(errno));
	while (code == 0 && (n = getline(&c->text, &c->capacity, in)) > 0) {
		c->number++;
		if (c->text[0] != '\n')
			code = take_line(tool, c, partition);
	}
	if (code == 0 && ferror(in))
		code = tool_error(tool, TOOL_UNHEALTHY, "%s: %s", name, strerror(errno));
	if (in != stdin)
		(void)fclose(in);
	return code;
}

static int replace(struct tool *tool, const struct shmeta_op *op)
{
	struct shmeta_result result;
	struct shmeta_token token = {0};
	char what[320];
	int code;

	(void)snprintf(what, sizeof(what), "replace %u segments of %s/%u by %u", op->u.replace.old_count,
	               out_safe(tool->argv[0], strlen(tool->argv[0])), op->partition_id, op->u.replace.new_count);
	if (!tool_agreed(tool, what, "it cannot be taken back"))
		return TOOL_USAGE;
	code = write_one(tool, op, "segments replace", &result, &token);
	return code != 0
	               ? code
	               : say_done(tool, "segments_replace",
	                          (struct field[]){f_text("topic", op->name), f_count("partition_id", op->partition_id),
	                                           f_count("replaced", result.count),
	                                           f_count("new", op->u.replace.new_count)},
	                          4, &token);
}

int verb_segments_replace(struct tool *tool)
{
	struct shmeta_op op = {.type = SHMETA_OP_REPLACE_SEGMENTS, .name = {tool->argv[0], strlen(tool->argv[0])}};
	struct changes c = {.lines = json_array()};
	uint64_t partition, epoch = 0;
	int code;

	if (!tool_parse_u64(tool->argv[1], UINT32_MAX, &partition))
		code = tool_error(tool, TOOL_USAGE, "'%s' is not a partition id", tool->argv[1]);
	else if (tool->argc > 3 && !tool_parse_u64(tool->argv[3], INT64_MAX, &epoch))
		code = tool_error(tool, TOOL_USAGE, "'%s' is not an epoch", tool->argv[3]);
	else
		code = read_changes(tool, &c, tool->argv[2], (uint32_t)partition);
	if (code == 0 && c.count[0] == 0)
		code = tool_error(tool, TOOL_USAGE, "%s: no segment is to go: no line begins with '-'", tool->argv[2]);
	if (code == 0) {
		op.partition_id = (uint32_t)partition;
		op.u.replace = (struct shmeta_replace){.old_segments = c.list[0],
		                                       .new_segments = c.list[1],
		                                       .old_count = c.count[0],
		                                       .new_count = c.count[1],
		                                       .compaction_epoch = epoch};
		code = replace(tool, &op);
	}
	free(c.list[0]);
	free(c.list[1]);
	free(c.text);
	json_decref(c.lines);
	return code;
}
