/* SPDX-License-Identifier: Apache-2.0
 * explain: why a lookup of a key answers what it answers: is it resident, how old is it, by what
 * was it verified, and when is it read again. In a bounded store, since when it is resident and
 * when it leaves, or why it left: the writer alone knows that. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/inspect.h"

/* Two looks at clocks of one moment differ by less than that. */
#define SAME_NS UINT64_C(100000000)

enum { ASK_MS = 1000 }; /* how long the writer has for its part */

struct question {
	enum shmeta_class cls; /* TOPIC, PARTITION or SEGMENT */
	const char *topic;
	uint32_t partition;
	uint64_t offset;
};

struct finding {
	enum shmeta_status status;
	struct shmeta_freshness fresh;
	uint64_t topic_id;
	bool has_topic;
	int64_t updated_at_ms; /* 0: unknown */
};

static const char *string_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

static int parse(struct tool *tool, struct question *q)
{
	static const struct {
		const char *kind, *wants;
		enum shmeta_class cls;
		int args;
	} kinds[] = {{"topic", "TOPIC", SHMETA_CLASS_TOPIC, 2},
	             {"partition", "TOPIC PARTITION", SHMETA_CLASS_PARTITION, 3},
	             {"segment", "TOPIC PARTITION OFFSET", SHMETA_CLASS_SEGMENT, 4}};
	size_t k = 0;
	uint64_t number;

	while (k < 3 && strcmp(tool->argv[0], kinds[k].kind) != 0)
		k++;
	if (k == 3)
		return tool_error(tool, TOOL_USAGE, "'%s' is not a kind; expected topic, partition or segment",
		                  tool->argv[0]);
	if (tool->argc != kinds[k].args)
		return tool_error(tool, TOOL_USAGE, "'explain %s' takes %s", kinds[k].kind, kinds[k].wants);
	*q = (struct question){.cls = kinds[k].cls, .topic = tool->argv[1]};
	if (tool->argc > 2) {
		if (!tool_parse_u64(tool->argv[2], UINT32_MAX, &number))
			return tool_error(tool, TOOL_USAGE, "'%s' is not a partition id", tool->argv[2]);
		q->partition = (uint32_t)number;
	}
	if (tool->argc > 3 && !tool_parse_u64(tool->argv[3], UINT64_MAX, &q->offset))
		return tool_error(tool, TOOL_USAGE, "'%s' is not an offset", tool->argv[3]);
	return 0;
}

static void look(struct shmeta_reader *reader, const struct question *q, struct finding *ret)
{
	size_t bytes = strlen(q->topic);
	struct shmeta_topic topic;
	struct shmeta_partition partition;
	struct shmeta_segment segment;

	*ret = (struct finding){.status = SHMETA_UNKNOWN};
	ret->status = shmeta_get_topic(reader, q->topic, bytes, NULL, &topic, &ret->fresh);
	ret->has_topic = ret->status == SHMETA_OK;
	if (!ret->has_topic)
		return;
	ret->topic_id = topic.topic_id;
	ret->updated_at_ms = topic.updated_at_ms;
	if (q->cls == SHMETA_CLASS_TOPIC)
		return;
	ret->status = shmeta_get_partition_named(reader, q->topic, bytes, q->partition, NULL, &partition, &ret->fresh);
	ret->updated_at_ms = ret->status == SHMETA_OK ? partition.updated_at_ms : 0;
	if (q->cls == SHMETA_CLASS_PARTITION || ret->status != SHMETA_OK)
		return;
	ret->status = shmeta_find_segment_named(reader, q->topic, bytes, q->partition, q->offset, NULL, &segment,
	                                        &ret->fresh);
	ret->updated_at_ms = ret->status == SHMETA_OK ? segment.created_at_ms : 0;
}

/* The newest commit that may have changed the key: its word is shared with others. 0: none since
 * the store was made. */
static uint64_t changed_txn(const struct pages *p, const struct question *q, const struct finding *f)
{
	const uint64_t *words;

	if (!f->has_topic || q->cls == SHMETA_CLASS_TOPIC || p->generation.touched_at != SHMETA_PAGE ||
	    p->generation.touched_words != SHMETA_TOUCHED_WORDS)
		return 0;
	words = (const uint64_t *)(const void *)((const char *)p->live + SHMETA_PAGE);
	return shmeta_observe(&words[shmeta__touched_partition((uint32_t)f->topic_id, q->partition)]);
}

/* What the answer's age counts from. */
static const char *verified_by(const struct finding *f, uint64_t class_age_ns)
{
	if (f->fresh.age_ns == UINT64_MAX)
		return "nothing that this process can date";
	if (class_age_ns != UINT64_MAX && f->fresh.age_ns + SAME_NS >= class_age_ns &&
	    class_age_ns + SAME_NS >= f->fresh.age_ns)
		return "the class: the change feed is up to date, or a full comparison found all of it equal";
	if (f->fresh.age_ns < class_age_ns)
		return "a read of this key: it changed, was asked for, or had expired";
	return "its own last read: the source could not show the key when it may have changed";
}

/* What the writer says of the key's place in a bounded store. NULL: nothing; ret_why says why, ""
 * where there is nothing to be said. */
static json_t *ask_residency(struct tool *tool, const struct question *q, const struct pages *p, char *ret_why,
                             size_t bytes)
{
	uint32_t timeout_ms = ASK_MS;
	json_t *doc = NULL;
	json_error_t error;
	struct shmeta *instance;
	char *text = NULL;
	enum shmeta_status status;
	struct shmeta_options options = {.size = sizeof(options),
	                                 .directory = tool->dir,
	                                 .tenant = tool->tenant,
	                                 .agent = "shmetactl",
	                                 .flags = SHMETA_OPEN_UNREGISTERED,
	                                 .threads = 1,
	                                 .error = ret_why,
	                                 .error_bytes = bytes};

	ret_why[0] = '\0';
	/* A writer that hangs keeps nobody from what the store says. */
	if (tool->timeout_ms < timeout_ms)
		timeout_ms = tool->timeout_ms;
	if (!p->alive || shmeta_open(&options, &instance) != SHMETA_OK)
		return NULL;
	status = shmeta_operate(instance, SHMETA_OPERATE_EXPLAIN, q->topic,
	                        q->cls == SHMETA_CLASS_TOPIC ? UINT64_MAX : q->partition, timeout_ms, &text);
	if (status == SHMETA_OK)
		doc = json_loads(text, 0, &error);
	else
		(void)shmeta_last_error(instance, ret_why, bytes);
	free(text);
	shmeta_close(instance);
	if (strcmp(string_of(doc, "mode"), "bounded") == 0)
		return doc;
	json_decref(doc);
	return NULL;
}

static struct field age_of(const json_t *doc, const char *name, const char *name_of_text, bool json)
{
	const json_t *ms = json_object_get(doc, name);

	return json_is_integer(ms) ? f_age(json ? name : name_of_text, (uint64_t)json_integer_value(ms) * 1000000)
	                           : f_null(json ? name : name_of_text);
}

static size_t residency_fields(const struct tool *tool, const json_t *doc, bool resident, struct field *ret)
{
	static const char *const counts[] = {"queue_before", "queue_records", "touches", "bytes"};
	size_t n = 0;

	if (json_is_string(json_object_get(doc, "queue"))) {
		ret[n++] = age_of(doc, "resident_for_ms", "resident_for", tool->json);
		ret[n++] = f_word("queue", string_of(doc, "queue"));
		for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
			ret[n++] = f_count(counts[i], (uint64_t)json_integer_value(json_object_get(doc, counts[i])));
		ret[n++] = f_word("next_eviction", string_of(doc, "next_eviction"));
	} else if (doc != NULL && !resident) {
		ret[n++] = age_of(doc, "evicted_ms_ago", "evicted_ago", tool->json);
		if (json_is_string(json_object_get(doc, "evicted_because")))
			ret[n++] = f_word("evicted_because", string_of(doc, "evicted_because"));
		else
			ret[n++] =
				f_word("residency", "it was never resident, or left before what the writer remembers");
	}
	return n;
}

static const char *next_of(const struct pages *p, const struct finding *f)
{
	if (!p->alive)
		return "nobody reads it again: the writer is gone";
	if (!health_source_up(p))
		return "it is read again when the source answers";
	if (f->status == SHMETA_UNKNOWN)
		return "a FRESH lookup has the writer read it now";
	if (f->fresh.fresh != 0)
		return "a lookup is answered from the store; a change of the source is told by the feed";
	return "a FRESH lookup has the writer read it now; CACHED ones get the old answer with its age";
}

static void print(struct tool *tool, const struct question *q, const struct finding *f, const struct pages *p)
{
	/* That there is no such topic is known from the list of them. */
	const struct shmeta_stamp *stamp = &p->generation.stamp[f->has_topic ? q->cls : SHMETA_CLASS_LIST];
	uint64_t class_age = pages_since(p->now_ns, stamp->synced_at_ns), changed = changed_txn(p, q, f);
	char reason[TOOL_REASON_BYTES], why[512];
	json_t *residency = ask_residency(tool, q, p, why, sizeof(why));
	struct field fields[32];
	size_t n = 0;

	fields[n++] = f_word("outcome", tool_outcome(f->status));
	fields[n++] = f_word("kind", tool_classes[q->cls]);
	fields[n++] = f_text("topic", (struct shmeta_str){q->topic, strlen(q->topic)});
	if (q->cls != SHMETA_CLASS_TOPIC)
		fields[n++] = f_count("partition_id", q->partition);
	if (q->cls == SHMETA_CLASS_SEGMENT)
		fields[n++] = f_count("offset", q->offset);
	fields[n++] = f_bool("resident", f->status == SHMETA_OK);
	if (f->has_topic)
		fields[n++] = f_count("topic_id", f->topic_id);
	if (f->updated_at_ms != 0)
		fields[n++] = f_time("source_updated_at_ms", f->updated_at_ms);
	if (f->status != SHMETA_UNKNOWN) {
		fields[n++] = f_age(tool->json ? "age_ms" : "age", f->fresh.age_ns);
		fields[n++] = f_age(tool->json ? "ttl_ms" : "ttl", f->fresh.ttl_ns);
		fields[n++] = f_word("ttl_of", f->fresh.ttl_ns == stamp->ttl_ns ? "the class" : "the record");
		fields[n++] = f_bool("fresh", f->fresh.fresh != 0);
		fields[n++] = f_word("verified_by", verified_by(f, class_age));
	}
	n += residency_fields(tool, residency, f->status == SHMETA_OK, fields + n);
	if (why[0] != '\0')
		fields[n++] = f_text("residency", (struct shmeta_str){why, strlen(why)});
	fields[n++] = f_age(tool->json ? "class_age_ms" : "class_age", class_age);
	fields[n++] = changed != 0 ? f_count("changed_txn_at_most", changed) : f_null("changed_txn_at_most");
	fields[n++] = f_count("committed_txn", p->generation.committed);
	if (f->status == SHMETA_UNKNOWN &&
	    quarantine_reason(tool, q->topic, q->cls == SHMETA_CLASS_TOPIC ? -1 : (int64_t)q->partition,
	                      q->cls == SHMETA_CLASS_SEGMENT ? &q->offset : NULL, reason))
		fields[n++] = f_text("reason", (struct shmeta_str){reason, strlen(reason)});
	fields[n++] = f_word("next", next_of(p, f));
	out_record(tool, "explain", fields, n);
	json_decref(residency);
}

int verb_explain(struct tool *tool)
{
	struct question q;
	struct finding f = {.status = SHMETA_UNKNOWN};
	struct session s;
	struct pages p;
	int code = parse(tool, &q);

	if (code == 0)
		code = session_open(tool, tool->tenant, &s);
	if (code != 0)
		return code;
	q.topic = session_topic(&s, q.topic);
	do {
		code = session_begin(&s);
		if (code != 0)
			break;
		look(s.reader, &q, &f);
	} while (!session_end(&s, &code) && code == 0);
	if (code == 0 && (f.status < SHMETA_OK || f.status > SHMETA_UNKNOWN))
		code = session_say(&s, f.status, q.topic);
	if (code == 0) {
		code = pages_open(tool, &p);
		if (code == 0) {
			print(tool, &q, &f, &p);
			pages_close(&p);
			code = tool_exit_of(f.status);
		}
	}
	session_close(&s);
	return code;
}
