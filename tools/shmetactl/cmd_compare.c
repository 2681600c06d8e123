/* SPDX-License-Identifier: Apache-2.0
 * compare: a canary. Keys of the store are sampled, read from the source at a bounded rate, and
 * compared with what the store answers. What differs is read again, as it may have changed in
 * between, and counts only when the same difference stays. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/shmetactl/paging.h"
#include "tools/shmetactl/verify_contents.h"

enum {
	USUAL_KEYS = 1000,
	USUAL_RATE = 100,
	TICK_MS = 100,
	SEGMENTS_MOST = 10000, /* of a partition whose segments are compared; of a larger one its
                                * own row alone */
	BATCH_KEYS = 64,
	AGAIN_MS = 200
};

struct sampled_topic {
	char *name;
	uint32_t partitions;
	uint64_t before; /* partitions of the topics before it */
};

struct sample {
	char *topic;
	bool whole; /* the topic's own row; otherwise a partition */
	bool segments;
	uint32_t partition;
};

struct canary {
	struct verify v; /* first: the sink's argument is both */
	const struct backend_engine *engine;
	void *state;
	struct backend_sink sink;
	struct sampled_topic *topic;
	size_t count, capacity, kept;
	uint64_t partitions, random;
	uint64_t compared, unread, looked_again, mismatches;
	char unread_why[512];
	struct findings found; /* that stay */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signo)
{
	(void)signo;
	interrupted = 1;
}

/* ---- what there is to be sampled ---- */

static bool add_topic(void *arg, const struct shmeta_topic *topic, const struct shmeta_freshness *fresh)
{
	struct canary *c = arg;

	(void)fresh;
	if (c->count == c->capacity) {
		c->capacity = c->capacity > 0 ? 2 * c->capacity : 1024;
		c->topic = tool_grow(c->topic, c->capacity * sizeof(*c->topic));
	}
	c->topic[c->count++] = (struct sampled_topic){.name = tool_copy(topic->name.data, topic->name.bytes),
	                                              .partitions = topic->partition_count};
	return true;
}

static enum shmeta_status topic_slice(struct session *s, struct page_place *at, void *arg)
{
	return page_topics(s, at, add_topic, arg);
}

static void keep_topics(void *arg)
{
	struct canary *c = arg;

	for (; c->kept < c->count; c->kept++) {
		c->topic[c->kept].before = c->partitions;
		c->partitions += c->topic[c->kept].partitions;
	}
}

static void drop_topics(void *arg)
{
	struct canary *c = arg;

	while (c->count > c->kept)
		free(c->topic[--c->count].name);
}

static uint64_t next_random(struct canary *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random;
}

/* Each partition is as likely as any other; one key of eight is a topic's own row. */
static struct sample draw(struct canary *c)
{
	struct sample s = {.whole = next_random(c) % 8 == 0 || c->partitions == 0};
	struct shmeta_partition p;
	size_t low = 0, high = c->count;
	uint64_t at;
	int code;

	if (s.whole) {
		s.topic = c->topic[next_random(c) % c->count].name;
		return s;
	}
	at = next_random(c) % c->partitions;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (c->topic[middle].before <= at)
			low = middle;
		else
			high = middle;
	}
	s.topic = c->topic[low].name;
	s.partition = (uint32_t)(at - c->topic[low].before);
	if (session_begin(c->v.s) == 0) {
		s.segments = shmeta_get_partition_named(c->v.s->reader, s.topic, strlen(s.topic), s.partition, NULL, &p,
		                                        NULL) == SHMETA_OK &&
		             p.segment_count <= SEGMENTS_MOST;
		(void)session_end(c->v.s, &code);
	}
	return s;
}

/* ---- comparing ---- */

static enum shmeta_status key_begin(void *arg, const struct backend_key *key)
{
	struct verify *v = arg;

	if (key->cls != SHMETA_CLASS_TOPIC)
		verify_begin_partition(v, key->topic, key->cls == SHMETA_CLASS_SEGMENT);
	return verify_stop(v);
}

/* The source does not have it: does the store know that, too? */
static void compare_absent(struct verify *v, const struct backend_key *key)
{
	char *name = text_of(key->topic);
	enum shmeta_status status;
	struct shmeta_partition p;
	struct shmeta_topic t;
	struct look look;

	do {
		if (!verify_look_begin(v, &look))
			break;
		status = key->cls == SHMETA_CLASS_TOPIC
		                 ? shmeta_get_topic(v->s->reader, name, strlen(name), NULL, &t, NULL)
		                 : shmeta_get_partition_named(v->s->reader, name, strlen(name), key->partition_id, NULL,
		                                              &p, NULL);
		if (status == SHMETA_OK && key->cls == SHMETA_CLASS_TOPIC)
			differs(v, SHMETA_CLASS_TOPIC, v->tenant, name,
			        "topic %s: the store has it, the source does not", name);
		else if (status == SHMETA_OK)
			differs(v, SHMETA_CLASS_PARTITION, v->tenant, name,
			        "topic %s, partition %" PRIu32 ": the store has it, the source does not", name,
			        key->partition_id);
	} while (!verify_look_end(&look) && v->code == 0);
	free(name);
}

static enum shmeta_status key_end(void *arg, const struct backend_key *key, enum shmeta_status result,
                                  const char *sentence)
{
	struct canary *c = arg;
	struct verify *v = &c->v;

	verify_end_rows(v);
	if (v->code != 0)
		return verify_stop(v);
	if (result < 0) {
		c->unread++;
		(void)snprintf(c->unread_why, sizeof(c->unread_why), "%s", sentence);
	} else if (result != SHMETA_OK) {
		compare_absent(v, key);
	}
	return verify_stop(v);
}

static struct backend_key key_of(const struct canary *c, const struct sample *s)
{
	return (struct backend_key){
		.cls = s->whole      ? SHMETA_CLASS_TOPIC
	               : s->segments ? SHMETA_CLASS_SEGMENT
	                             : SHMETA_CLASS_PARTITION,
		.tenant = {c->v.tenant, strlen(c->v.tenant)},
		.topic = {s->topic, strlen(s->topic)},
		.partition_id = s->partition,
		.row_only = s->whole,
		.to = INT64_MAX,
	};
}

/* 0, or an exit code, said. *ret_away: the source cannot be read now. */
static int read_keys(struct canary *c, const struct sample *samples, size_t count, bool *ret_away)
{
	struct backend_key keys[BATCH_KEYS];
	struct backend_error err = {0};
	enum shmeta_status status;

	for (size_t i = 0; i < count; i++)
		keys[i] = key_of(c, &samples[i]);
	status = c->engine->source->fetch(c->state, keys, count, &c->sink, &err);
	*ret_away = status != SHMETA_OK;
	if (status != SHMETA_OK && c->v.code == 0) {
		c->unread += count;
		(void)snprintf(c->unread_why, sizeof(c->unread_why), "%s",
		               err.text[0] != '\0' ? err.text : shmeta_strerror(status));
	}
	return c->v.code;
}

static bool of_sample(const struct finding *f, const struct sample *s)
{
	char where[SHMETA_NAME_MAX + 40];
	size_t n;

	if (f->topic == NULL || strcmp(f->topic, s->topic) != 0)
		return false;
	if (s->whole)
		return f->cls == SHMETA_CLASS_TOPIC;
	n = (size_t)snprintf(where, sizeof(where), "topic %s, partition %" PRIu32, s->topic, s->partition);
	return strncmp(f->text, where, n) == 0 && (f->text[n] == ':' || f->text[n] == ',');
}

/* Until it agrees, or the same difference stays for --timeout; with the writer dead nothing will
 * follow. */
static int look_again(struct canary *c, const struct sample *s)
{
	const struct timespec pause = {.tv_nsec = AGAIN_MS * 1000000};
	uint64_t deadline = tool_monotonic_ns() + c->v.tool->timeout_ms * 1000000ull;
	struct findings before = {0};
	bool away = false;
	int code = 0;

	c->looked_again++;
	while (code == 0 && c->v.found.count > 0 && verify_writer_alive(&c->v) && tool_monotonic_ns() < deadline &&
	       !interrupted) {
		(void)nanosleep(&pause, NULL);
		findings_take(&c->v.found, 0, &before);
		code = read_keys(c, s, 1, &away);
		if (away)
			break;
	}
	if (before.count > 0)
		findings_keep(&c->v.found, 0, &before);
	findings_cut(&before, 0);
	free(before.row);
	if (c->v.found.count > 0 && !away && code == 0) {
		c->mismatches++;
		for (size_t i = 0; i < c->v.found.count && c->found.count < VERIFY_SHOWN; i++)
			findings_add(&c->found, c->v.found.row[i].cls, c->v.found.row[i].tenant,
			             c->v.found.row[i].topic, "%s", c->v.found.row[i].text);
	}
	findings_cut(&c->v.found, 0);
	return code;
}

/* A batch, and each key of it that differs by itself. */
static int compare_batch(struct canary *c, size_t count)
{
	struct sample samples[BATCH_KEYS];
	bool differing[BATCH_KEYS] = {false}, away;
	int code;

	for (size_t i = 0; i < count; i++)
		samples[i] = draw(c);
	code = read_keys(c, samples, count, &away);
	if (code != 0 || away) {
		findings_cut(&c->v.found, 0);
		return code;
	}
	c->compared += count;
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < c->v.found.count; k++)
			differing[i] = differing[i] || of_sample(&c->v.found.row[k], &samples[i]);
	findings_cut(&c->v.found, 0);
	for (size_t i = 0; i < count && code == 0; i++) {
		if (!differing[i])
			continue;
		code = read_keys(c, &samples[i], 1, &away); /* what it differs by now */
		if (code == 0 && !away)
			code = look_again(c, &samples[i]);
	}
	return code;
}

static int run(struct canary *c)
{
	const struct tool *tool = c->v.tool;
	uint64_t most = tool->count > 0    ? tool->count
	                : tool->for_ms > 0 ? UINT64_MAX
	                                   : USUAL_KEYS,
		 rate = tool->rate > 0 ? tool->rate : USUAL_RATE, began = tool_monotonic_ns(), asked = 0;
	uint64_t until = tool->for_ms > 0 ? began + tool->for_ms * UINT64_C(1000000) : UINT64_MAX;
	int code = 0;

	while (code == 0 && asked < most && tool_monotonic_ns() < until && !interrupted) {
		/* What is due by now, at the rate; what a slow source missed is not made up for. */
		uint64_t due = (tool_monotonic_ns() - began) * rate / 1000000000u + 1;
		uint64_t n = due > asked ? due - asked : 0;

		if (n == 0) {
			(void)nanosleep(&(struct timespec){.tv_nsec = TICK_MS * 1000000}, NULL);
			continue;
		}
		n = n < BATCH_KEYS ? n : BATCH_KEYS;
		n = n < most - asked ? n : most - asked;
		code = compare_batch(c, (size_t)n);
		asked += n;
		if (due > asked + rate)
			began = tool_monotonic_ns() - asked * 1000000000u / rate;
		out_progress("keys", asked);
	}
	out_progress_end();
	return code;
}

static void report(struct canary *c, const char *uri)
{
	struct tool *tool = c->v.tool;
	char words[64];

	(void)snprintf(words, sizeof(words), "%s mismatch%s", out_count(c->mismatches), c->mismatches == 1 ? "" : "es");
	if (tool->json) {
		json_t *doc = out_document("compare"), *items = json_array();

		for (size_t i = 0; i < c->found.count; i++)
			(void)json_array_append_new(items,
			                            out_json_text(c->found.row[i].text, strlen(c->found.row[i].text)));
		out_set(doc, "source", out_json_text(uri, strlen(uri)));
		out_set(doc, "keys_compared", out_json_count(c->compared));
		out_set(doc, "segments_compared", out_json_count(c->v.segments));
		out_set(doc, "keys_read_again", out_json_count(c->looked_again));
		out_set(doc, "keys_unread", out_json_count(c->unread));
		out_set(doc, "unread_because",
		        c->unread > 0 ? out_json_text(c->unread_why, strlen(c->unread_why)) : json_null());
		out_set(doc, "mismatches", out_json_count(c->mismatches));
		out_set(doc, "items", items);
		out_json(doc, 2);
		return;
	}
	for (size_t i = 0; i < c->found.count; i++)
		(void)printf("%s\n", out_safe(c->found.row[i].text, strlen(c->found.row[i].text)));
	if (c->unread > 0)
		(void)printf("%s keys could not be read: %s\n", out_count(c->unread),
		             out_safe(c->unread_why, strlen(c->unread_why)));
	(void)printf("compared %s keys with %s segments, %s of them more than once: %s\n", out_count(c->compared),
	             out_count(c->v.segments), out_count(c->looked_again),
	             out_paint(tool, c->mismatches == 0 ? PAINT_GOOD : PAINT_BAD, words));
}

static int compare_with(struct canary *c, const char *uri)
{
	struct tool *tool = c->v.tool;
	struct backend_options options = {
		.uri = uri, .timeout_ms = tool->timeout_ms, .read_only = 1, .password_file = tool->password_file};
	struct sigaction stop = {.sa_handler = on_signal};
	struct backend_error err = {0};
	int code = 0;

	c->engine = backend_find(uri, &err);
	if (c->engine == NULL)
		return tool_error(tool, TOOL_USAGE, "%s", err.text);
	if (!verify_use_tenant(&c->v, (struct shmeta_str){tool->tenant, strlen(tool->tenant)}))
		return c->v.code;
	code = page_all(
		c->v.s,
		&(struct paging){
			.slice = topic_slice, .keep = keep_topics, .drop = drop_topics, .arg = c, .what = "topics"});
	if (code != 0)
		return code;
	if (c->count == 0)
		return tool_error(tool, TOOL_NOT_FOUND, "the store has no topic of this tenant to compare");
	c->state = tool_alloc(c->engine->state_bytes);
	memset(c->state, 0, c->engine->state_bytes);
	if (c->engine->source->open(c->state, &options, &err) != SHMETA_OK) {
		code = tool_error(tool, source_exit(err.code, &err), "opening the source: %s", err.text);
	} else {
		(void)sigaction(SIGINT, &stop, NULL);
		(void)sigaction(SIGTERM, &stop, NULL);
		code = run(c);
	}
	c->engine->source->close(c->state);
	free(c->state);
	if (code == 0)
		report(c, uri);
	if (code == 0 && c->compared == 0)
		return tool_error(tool, TOOL_UNHEALTHY, "nothing was compared: %s",
		                  c->unread > 0 ? c->unread_why : "it was interrupted");
	return code != 0 ? code : c->mismatches > 0 ? TOOL_UNHEALTHY : TOOL_OK;
}

int verb_compare(struct tool *tool)
{
	struct canary *c = tool_alloc(sizeof(*c));
	char uri[SOURCE_URI_MAX] = "";
	const char *source = tool->source;
	int code;

	memset(c, 0, sizeof(*c));
	c->v.tool = tool;
	c->v.again = true; /* rows that cannot be served are none of its business */
	c->random = tool_monotonic_ns() | 1;
	c->sink = verify_sink;
	c->sink.arg = &c->v;
	c->sink.key_begin = key_begin;
	c->sink.key_end = key_end;
	code = pages_open(tool, &c->v.pages);
	if (code == 0 && c->v.pages.published)
		code = verify_incomplete(tool, &c->v.pages, &c->v.incomplete);
	if (code == 0 && source == NULL)
		source = source_uri(tool, &c->v.pages, uri) ? uri : NULL;
	if (code == 0 && source == NULL)
		code = tool_error(tool, TOOL_USAGE,
		                  "the daemon names no source that can be opened here; name it with --source");
	if (code == 0)
		code = source_judge(tool, source);
	if (code == 0)
		code = compare_with(c, source);
	verify_close(&c->v);
	for (size_t i = 0; i < c->count; i++)
		free(c->topic[i].name);
	free(c->topic);
	findings_cut(&c->found, 0);
	free(c->found.row);
	free(c);
	return code;
}
