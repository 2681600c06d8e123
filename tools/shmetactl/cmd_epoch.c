/* SPDX-License-Identifier: Apache-2.0
 * epoch-end: where what was written under an epoch ends. */
#include "tools/shmetactl/tool.h"

#include <string.h>

int verb_epoch_end(struct tool *tool)
{
	const char *topic = tool->argv[0];
	uint64_t partition = 0, epoch = 0, found = 0, end = 0;
	struct shmeta *instance;
	struct field f[6];
	enum shmeta_status status;
	size_t n = 0;
	int code;

	if (!tool_parse_u64(tool->argv[1], UINT32_MAX, &partition))
		return tool_error(tool, TOOL_USAGE, "'%s' is not a partition id", tool->argv[1]);
	if (!tool_parse_u64(tool->argv[2], UINT64_MAX, &epoch))
		return tool_error(tool, TOOL_USAGE, "'%s' is not an epoch", tool->argv[2]);
	code = tool_open_control(tool, &instance);
	if (code != 0)
		return code;
	status = shmeta_leader_epoch_end(instance, topic, strlen(topic), (uint32_t)partition, epoch, tool->timeout_ms,
	                                 &found, &end);
	if (status < 0) {
		code = tool_say_failed(tool, instance, status, "epoch-end");
		shmeta_close(instance);
		return code;
	}
	f[n++] = f_word("outcome", tool_outcome(status));
	f[n++] = f_text("topic", (struct shmeta_str){topic, strlen(topic)});
	f[n++] = f_count("partition_id", partition);
	f[n++] = f_count("asked", epoch);
	if (status == SHMETA_OK) {
		f[n++] = f_count("epoch", found);
		f[n++] = f_count("end_offset", end);
	}
	out_record(tool, "epoch_end", f, n);
	shmeta_close(instance);
	return tool_exit_of(status);
}
