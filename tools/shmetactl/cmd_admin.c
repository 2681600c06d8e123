/* SPDX-License-Identifier: Apache-2.0
 * objects, invalidate, accept-source: what only the daemon can do, and not for everybody. */
#include "tools/shmetactl/tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- objects ---- */

enum { ROWS_AT_ONCE = 1000 };

/* Is the object behind --after, BUCKET/KEY, in the order of the list? The bucket of a key has no
 * '/'. */
static bool is_behind(const char *after, const struct shmeta_object *object)
{
	const char *slash = after != NULL ? strchr(after, '/') : NULL;
	const struct shmeta_str wanted[] = {{after, slash != NULL   ? (size_t)(slash - after)
	                                            : after != NULL ? strlen(after)
	                                                            : 0},
	                                    {slash != NULL ? slash + 1 : "", slash != NULL ? strlen(slash + 1) : 0}};
	const struct shmeta_str is[] = {object->s3_bucket, object->s3_key};

	if (after == NULL)
		return true;
	for (size_t i = 0; i < 2; i++) {
		size_t least = is[i].bytes < wanted[i].bytes ? is[i].bytes : wanted[i].bytes;
		int order = memcmp(is[i].data, wanted[i].data, least);

		if (order != 0 || is[i].bytes != wanted[i].bytes)
			return order > 0 || (order == 0 && is[i].bytes > wanted[i].bytes);
	}
	return false;
}

/* As --after takes it. Owns: the caller frees it. */
static char *object_place(const struct shmeta_object *object)
{
	size_t bytes = object->s3_bucket.bytes + 1 + object->s3_key.bytes;
	char *ret = tool_alloc(bytes + 1);

	(void)snprintf(ret, bytes + 1, "%.*s/%.*s", (int)object->s3_bucket.bytes, object->s3_bucket.data,
	               (int)object->s3_key.bytes, object->s3_key.data);
	return ret;
}

static enum shmeta_status object_rows(struct tool *tool, struct shmeta_objects *objects, struct list *list,
                                      char **ret_cut)
{
	struct shmeta_object_info info;
	enum shmeta_status status;
	uint64_t rows = 0;
	char *last = NULL;

	while ((status = shmeta_next_object(objects, &info)) == SHMETA_OK) {
		struct field f[] = {f_text("bucket", info.object.s3_bucket),
		                    f_text("key", info.object.s3_key),
		                    f_bytes("size_bytes", info.object.size_bytes),
		                    f_time("created_at_ms", info.object.created_at_ms),
		                    f_count("slices", info.slices),
		                    f_time_known("unreferenced_since_ms", info.unreferenced_since_ms)};

		if (!is_behind(tool->after, &info.object))
			continue;
		if (tool->limit != 0 && rows == tool->limit) {
			*ret_cut = last;
			return SHMETA_OK;
		}
		if (++rows == tool->limit)
			last = object_place(&info.object);
		list_row(list, f, sizeof(f) / sizeof(*f));
		if (list->waiting >= ROWS_AT_ONCE)
			list_flush(list);
	}
	free(last);
	return status == SHMETA_END ? SHMETA_OK : status;
}

int verb_objects(struct tool *tool)
{
	struct shmeta_objects *objects = NULL;
	struct shmeta *instance;
	struct list list;
	enum shmeta_status status;
	char *cut = NULL;
	int code = tool_open_control(tool, &instance);

	if (code != 0)
		return code;
	status = shmeta_list_objects(instance, tool->deletable ? SHMETA_OBJECTS_DELETABLE : 0, tool->timeout_ms,
	                             &objects);
	if (status == SHMETA_OK) {
		list_begin(&list, tool, "objects");
		status = object_rows(tool, objects, &list, &cut);
		if (status == SHMETA_OK)
			list_end(&list, cut, cut != NULL ? strlen(cut) : 0);
		list_free(&list);
	} else if (status == SHMETA_ERR_UNSUPPORTED) {
		/* a source without a place for objects has none */
		list_begin(&list, tool, "objects");
		list_end(&list, NULL, 0);
		list_free(&list);
		if (isatty(STDERR_FILENO) == 1)
			(void)fputs("the source has no tables for objects; 'shmetactl schema apply' makes them\n",
			            stderr);
	} else {
		code = tool_say_failed(tool, instance, status, "objects");
	}
	free(cut);
	shmeta_objects_free(objects);
	shmeta_close(instance);
	return code;
}

/* ---- invalidate ---- */

struct order {
	enum shmeta_class cls;
	const char *topic; /* or a prefix */
	uint64_t partition;
	uint32_t flags;
	char what[300];
};

/* Exactly one of KIND KEY, --prefix and --all. */
static int parse_order(struct tool *tool, struct order *ret)
{
	const char *topic = tool->argc > 1 ? tool->argv[1] : NULL;
	enum shmeta_class cls;
	int wanted;

	ret->flags = tool->dry_run ? SHMETA_INVALIDATE_DRY_RUN : 0;
	if ((tool->argc > 0) + (tool->prefix != NULL) + tool->all != 1)
		return tool_error(tool, TOOL_USAGE, "'invalidate' takes one of KIND KEY, --prefix TEXT and --all");
	if (tool->all) {
		ret->cls = SHMETA_CLASS_LIST;
		(void)snprintf(ret->what, sizeof(ret->what), "read everything again");
		return 0;
	}
	if (tool->prefix != NULL) {
		if (strlen(tool->prefix) > SHMETA_NAME_MAX)
			return tool_error(tool, TOOL_USAGE, "--prefix: names have at most %d bytes", SHMETA_NAME_MAX);
		ret->cls = SHMETA_CLASS_TOPIC;
		ret->topic = tool->prefix;
		ret->flags |= SHMETA_INVALIDATE_PREFIX;
		(void)snprintf(ret->what, sizeof(ret->what), "read the topics that begin with '%s' again",
		               out_safe(tool->prefix, strlen(tool->prefix)));
		return 0;
	}
	cls = tool_class(tool->argv[0]);
	if (cls == SHMETA_CLASS_COUNT || cls == SHMETA_CLASS_LIST)
		return tool_error(
			tool, TOOL_USAGE,
			"'%s' is not a kind; expected topic, partition, segment, agent, lease or offset, or --all",
			tool->argv[0]);
	wanted = cls == SHMETA_CLASS_TOPIC ? 1 : cls <= SHMETA_CLASS_SEGMENT ? 2 : 0;
	if (tool->argc - 1 != wanted)
		return tool_error(tool, TOOL_USAGE, "'invalidate %s' takes %s", tool_classes[cls],
		                  wanted == 1   ? "TOPIC"
		                  : wanted == 2 ? "TOPIC PARTITION"
		                                : "no further argument");
	if (wanted == 2 && !tool_parse_u64(tool->argv[2], UINT32_MAX, &ret->partition))
		return tool_error(tool, TOOL_USAGE, "'%s' is not a partition id", tool->argv[2]);
	ret->cls = cls;
	ret->topic = topic;
	return 0;
}

int verb_invalidate(struct tool *tool)
{
	struct order order = {.topic = NULL};
	struct shmeta_invalidated done = {.topics = 0};
	struct shmeta *instance;
	enum shmeta_status status;
	uint64_t began;
	int code = parse_order(tool, &order);

	if (code != 0)
		return code;
	if (order.what[0] != '\0' && !tool->dry_run &&
	    !tool_agreed(tool, order.what, "it costs the source as much as it holds of that"))
		return TOOL_USAGE;
	code = tool_open_control(tool, &instance);
	if (code != 0)
		return code;
	began = tool_monotonic_ns();
	status = shmeta_invalidate(instance, order.cls, order.topic, order.topic != NULL ? strlen(order.topic) : 0,
	                           (uint32_t)order.partition, order.flags, tool->timeout_ms, &done);
	if (status != SHMETA_OK)
		code = tool_say_failed(tool, instance, status, "invalidate");
	else if (tool->argc > 1)
		code = tool_say_absent(tool, order.topic, tool->argc > 2 ? (int64_t)order.partition : -1);
	else if (tool->prefix != NULL && done.topics == 0)
		code = tool_error(tool, TOOL_NOT_FOUND, "no topic begins with '%s'", tool->prefix);
	if (code != 0) {
		/* it was said */
	} else if (tool->json) {
		out_record(tool, "invalidate",
		           (struct field[]){f_bool("dry_run", tool->dry_run), f_count("topics", done.topics),
		                            f_count("partitions", done.partitions), f_count("records", done.records),
		                            f_count("txn", done.txn), f_age("waited_ms", tool_monotonic_ns() - began)},
		           6);
	} else {
		(void)printf("%s: %s topics, %s partitions, %s agents, groups, offsets and leases",
		             tool->dry_run ? "would read again" : "read again", out_count(done.topics),
		             out_count(done.partitions), out_count(done.records));
		if (tool->dry_run)
			(void)puts("");
		else
			(void)printf("; took %s, commit %s shows it\n", out_ns(tool_monotonic_ns() - began),
			             out_count(done.txn));
	}
	shmeta_close(instance);
	return code;
}

/* ---- accept-source ---- */

static int say_nothing_waits(struct tool *tool)
{
	if (tool->json)
		out_record(tool, "accept-source", (struct field[]){f_bool("waits", false), f_bool("accepted", false)},
		           2);
	else
		(void)puts("no source waits for consent");
	return TOOL_NOT_FOUND;
}

int verb_accept_source(struct tool *tool)
{
	uint64_t asked = 0, waits = 0;
	char text[1024] = "", word[20], *end = NULL;
	struct shmeta *instance;
	enum shmeta_status status;
	int code;

	if (tool->argc > 0) {
		asked = strtoull(tool->argv[0], &end, 16);
		if (strlen(tool->argv[0]) != 16 || *end != '\0' || asked == 0)
			return tool_error(tool, TOOL_USAGE,
			                  "'%s' is not a fingerprint, which has 16 hexadecimal digits", tool->argv[0]);
	}
	code = tool_open_control(tool, &instance);
	if (code != 0)
		return code;
	status = shmeta_accept_source(instance, 0, tool->timeout_ms, &waits, text, sizeof(text));
	(void)snprintf(word, sizeof(word), "%016" PRIx64, waits);
	if (status == SHMETA_ERR_NOT_FOUND) {
		code = say_nothing_waits(tool);
	} else if (status != SHMETA_OK) {
		code = tool_say_failed(tool, instance, status, "accept-source");
	} else if (asked != 0 && asked != waits) {
		code = tool_error(tool, TOOL_UNHEALTHY, "accept-source: the fingerprint is %s now: %s", word, text);
	} else if (!tool->dry_run && !tool_agreed(tool, "publish the source as it is now", text)) {
		code = TOOL_USAGE;
	} else {
		/* What was shown is what is consented to, and nothing that came after it. */
		if (!tool->dry_run)
			status = shmeta_accept_source(instance, waits, tool->timeout_ms, NULL, NULL, 0);
		if (status != SHMETA_OK)
			code = tool_say_failed(tool, instance, status, "accept-source");
		else if (tool->json)
			out_record(tool, "accept-source",
			           (struct field[]){f_bool("waits", true), f_bool("accepted", !tool->dry_run),
			                            f_word("fingerprint", word), f_word("reason", text)},
			           4);
		else if (tool->dry_run)
			(void)printf("%s\n", out_safez(text, sizeof(text)));
		else
			(void)printf("accepted %s; it is read and published now\n", word);
	}
	shmeta_close(instance);
	return code;
}
