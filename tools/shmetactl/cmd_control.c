/* SPDX-License-Identifier: Apache-2.0
 * refresh, and what all verbs that ask the daemon share. */
#include "tools/shmetactl/tool.h"

#include <string.h>
#include <unistd.h>

bool tool_agreed(struct tool *tool, const char *what, const char *why)
{
	char answer[16] = "";

	if (tool->yes)
		return true;
	if (!isatty(STDIN_FILENO)) {
		(void)tool_error(tool, TOOL_USAGE, "%s: %s; say --yes", what, why);
		return false;
	}
	(void)fprintf(stderr, "%s? %c%s. Type yes: ", what, why[0] - 'a' + 'A', why + 1);
	if (fgets(answer, sizeof(answer), stdin) != NULL && strcmp(answer, "yes\n") == 0)
		return true;
	(void)tool_error(tool, TOOL_USAGE, "nothing was done");
	return false;
}

int tool_open_control(struct tool *tool, struct shmeta **ret)
{
	char error[512] = "";
	struct shmeta_options options = {
		.size = sizeof(options),
		.directory = tool->dir,
		.tenant = tool->tenant,
		.agent = "shmetactl",
		.flags = SHMETA_OPEN_UNREGISTERED, /* it asks, and reads nothing */
		.threads = 1,
		.error = error,
		.error_bytes = sizeof(error),
	};
	enum shmeta_status status = shmeta_open(&options, ret);

	if (status == SHMETA_OK)
		return 0;
	return tool_say_not_opened(tool, status, error);
}

int tool_say_absent(struct tool *tool, const char *topic, int64_t partition)
{
	struct shmeta_partition p;
	struct shmeta_topic t;
	enum shmeta_status status = SHMETA_ABSENT, head = SHMETA_ABSENT;
	char reason[TOOL_REASON_BYTES];
	struct session s;
	int code = session_open(tool, tool->tenant, &s);

	if (code != 0)
		return code;
	do {
		code = session_begin(&s);
		if (code != 0)
			break;
		status = shmeta_get_topic(s.reader, topic, strlen(topic), NULL, &t, NULL);
		head = partition < 0 ? status
		                     : shmeta_get_partition_named(s.reader, topic, strlen(topic), (uint32_t)partition,
		                                                  NULL, &p, NULL);
	} while (!session_end(&s, &code) && code == 0);
	session_close(&s);
	if (code != 0)
		return code;
	/* A bounded store may just not have it. */
	if ((status == SHMETA_UNKNOWN || head == SHMETA_UNKNOWN) &&
	    quarantine_reason(tool, topic, partition, NULL, reason))
		return tool_error(tool, TOOL_UNHEALTHY, "the source has it, and it cannot be served: %s", reason);
	if (status == SHMETA_ABSENT)
		return tool_error(tool, TOOL_NOT_FOUND, "topic not found: '%s'", topic);
	if (partition >= 0 && head == SHMETA_ABSENT)
		return tool_error(tool, TOOL_NOT_FOUND, "partition not found: '%s' has no partition %u", topic,
		                  (unsigned)partition);
	return 0;
}

int verb_refresh(struct tool *tool)
{
	static const struct {
		int args;
		const char *wants;
	} shape[] = {
		[SHMETA_CLASS_TOPIC] = {1, "TOPIC"},
		[SHMETA_CLASS_PARTITION] = {2, "TOPIC PARTITION"},
		[SHMETA_CLASS_SEGMENT] = {2, "TOPIC PARTITION"},
		[SHMETA_CLASS_LIST] = {0, "no further argument"},
		[SHMETA_CLASS_AGENT] = {0, "no further argument"},
		[SHMETA_CLASS_LEASE] = {0, "no further argument"},
		[SHMETA_CLASS_OFFSET] = {0, "no further argument"},
	};
	const char *topic = tool->argc > 1 ? tool->argv[1] : NULL;
	uint64_t partition = 0, txn = 0, began;
	struct shmeta *instance;
	enum shmeta_status status;
	enum shmeta_class cls = tool_class(tool->argv[0]);
	int code;

	if (cls == SHMETA_CLASS_COUNT)
		return tool_error(
			tool, TOOL_USAGE,
			"'%s' is not a class; expected topic, partition, segment, list, agent, lease or offset",
			tool->argv[0]);
	if (tool->argc - 1 != shape[cls].args)
		return tool_error(tool, TOOL_USAGE, "'refresh %s' takes %s", tool_classes[cls], shape[cls].wants);
	if (tool->argc > 2 && !tool_parse_u64(tool->argv[2], UINT32_MAX, &partition))
		return tool_error(tool, TOOL_USAGE, "'%s' is not a partition id", tool->argv[2]);
	code = tool_open_control(tool, &instance);
	if (code != 0)
		return code;
	began = tool_monotonic_ns();
	status = shmeta_refresh(instance, cls, topic, topic != NULL ? strlen(topic) : 0, (uint32_t)partition,
	                        tool->timeout_ms, &txn);
	if (status != SHMETA_OK)
		code = tool_say_failed(tool, instance, status, "refresh");
	else if (topic != NULL)
		code = tool_say_absent(tool, topic, tool->argc > 2 ? (int64_t)partition : -1);
	if (code != 0) {
		/* it was said */
	} else if (tool->json) {
		out_record(tool, "refresh",
		           (struct field[]){f_word("class", tool_classes[cls]), f_count("txn", txn),
		                            f_age("waited_ms", tool_monotonic_ns() - began)},
		           3);
	} else {
		(void)printf("refreshed in %s; commit %s shows it\n", out_ns(tool_monotonic_ns() - began),
		             out_count(txn));
	}
	shmeta_close(instance);
	return code;
}
