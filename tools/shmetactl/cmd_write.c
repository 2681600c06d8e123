/* SPDX-License-Identifier: Apache-2.0
 * topic create, topic delete, segments delete-before: writes as any program makes them. What cannot be taken back asks first. */
#include "tools/shmetactl/tool.h"

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
