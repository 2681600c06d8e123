/* SPDX-License-Identifier: Apache-2.0
 * explain: why a lookup of a key answers what it answers: is it resident, how old is it, by what was it verified, and when is it read
 * again. */
#include <inttypes.h>
#include <string.h>

#include "tools/shmetactl/inspect.h"

/* Two looks at clocks of one moment differ by less than that. */
#define SAME_NS UINT64_C(100000000)

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

/* The newest commit that may have changed the key: its word is shared with others. 0: none since the store was made. */
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
	char reason[TOOL_REASON_BYTES];
	struct field fields[24];
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
	fields[n++] = f_age(tool->json ? "class_age_ms" : "class_age", class_age);
	fields[n++] = changed != 0 ? f_count("changed_txn_at_most", changed) : f_null("changed_txn_at_most");
	fields[n++] = f_count("committed_txn", p->generation.committed);
	if (f->status == SHMETA_UNKNOWN &&
	    quarantine_reason(tool, q->topic, q->cls == SHMETA_CLASS_TOPIC ? -1 : (int64_t)q->partition,
	                      q->cls == SHMETA_CLASS_SEGMENT ? &q->offset : NULL, reason))
		fields[n++] = f_text("reason", (struct shmeta_str){reason, strlen(reason)});
	fields[n++] = f_word("next", next_of(p, f));
	out_record(tool, "explain", fields, n);
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
