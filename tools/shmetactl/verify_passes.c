/* SPDX-License-Identifier: Apache-2.0
 * verify: passes over the source. A live source moves on while it is read, so what differs is read
 * and compared again until it agrees or the time is over; what still differs then, the store being
 * as it was before, is reported. With the writer dead nothing will follow, so the first look
 * decides.
 *
 * Only this file of verify calls an engine (docs/decisions/0011-verify-reads-the-source.md). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/shmetactl/verify_contents.h"

enum {
	AGAIN_TOPICS = 2000, /* differing topics that are worth a second look */
	AGAIN_PAUSE_MS = 200
};

static void progress_done(const struct verify *v)
{
	if (v->progress_shown_ns != 0)
		(void)fputs("\r\033[K", stderr);
}

struct engine {
	const struct backend_engine *engine;
	void *state;
	struct backend_sink sink;
};

static enum shmeta_status again_key_begin(void *arg, const struct backend_key *key)
{
	struct verify *v = arg;

	verify_end_topic(v);
	if (key->cls == SHMETA_CLASS_TOPIC && v->code == 0)
		(void)verify_use_tenant(v, key->tenant);
	return verify_stop(v);
}

static enum shmeta_status again_key_end(void *arg, const struct backend_key *key, enum shmeta_status result,
                                        const char *sentence)
{
	struct verify *v = arg;
	struct shmeta_topic topic;
	enum shmeta_status status;
	struct look look;
	char *name;

	verify_end_topic(v);
	if (v->code == 0 && result < 0)
		v->code = tool_error(v->tool, tool_exit_of(result), "reading the source again: %s", sentence);
	if (v->code != 0 || key->cls != SHMETA_CLASS_TOPIC || result == SHMETA_OK)
		return verify_stop(v);
	name = text_of(key->topic);
	do {
		if (!verify_look_begin(v, &look))
			break;
		status = shmeta_get_topic(v->s->reader, name, strlen(name), NULL, &topic, NULL);
		if (status == SHMETA_OK)
			differs(v, SHMETA_CLASS_TOPIC, v->tenant, name,
			        "topic %s: the store has it, the source does not", name);
	} while (!verify_look_end(&look) && v->code == 0);
	free(name);
	return verify_stop(v);
}

static int source_failed(struct verify *v, const char *doing, enum shmeta_status status,
                         const struct backend_error *err)
{
	if (v->code != 0)
		return v->code;
	return tool_error(v->tool, source_exit(status, err), "%s: %s", doing,
	                  err->text[0] != '\0' ? err->text : shmeta_strerror(status));
}

static int first_pass(struct verify *v, struct engine *e)
{
	struct backend_error err = {0};
	enum shmeta_status status;

	v->groups = 0; /* what the structure check counted */
	v->topics = v->partitions = v->segments = v->agents = v->offsets = v->groupless = v->leases = 0;
	status = e->engine->source->load(e->state, &e->sink, &err);
	if (v->code == 0 && status == SHMETA_OK)
		verify_end_topic(v);
	progress_done(v);
	if (status != SHMETA_OK || v->code != 0)
		return source_failed(v, "reading the source", status, &err);
	verify_extra_topics(v);
	if (v->code == 0)
		verify_extra_advisory(v);
	return v->code;
}

/* What is to be looked at again: topics by name, and whether the advisory records are. */
struct todo {
	struct {
		char *tenant, *name;
	} topic[AGAIN_TOPICS];
	size_t count;
	bool advisory, too_many;
};

static void todo_clear(struct todo *todo)
{
	while (todo->count > 0) {
		free(todo->topic[--todo->count].tenant);
		free(todo->topic[todo->count].name);
	}
	todo->advisory = todo->too_many = false;
}

/* From the findings from `from` on, each topic once. They come topic by topic, so equal ones are
 * neighbours but for the last look at the whole list. */
static void todo_fill(struct todo *todo, const struct findings *f, size_t from)
{
	todo_clear(todo);
	for (size_t i = from; i < f->count; i++) {
		const struct finding *row = &f->row[i];
		size_t k;

		if (row->topic == NULL) {
			todo->advisory = todo->advisory || row->cls >= SHMETA_CLASS_AGENT;
			continue;
		}
		for (k = todo->count; k > 0; k--)
			if (strcmp(todo->topic[k - 1].name, row->topic) == 0 &&
			    strcmp(todo->topic[k - 1].tenant, row->tenant) == 0)
				break;
		if (k > 0)
			continue;
		if (todo->count == AGAIN_TOPICS) {
			todo->too_many = true;
			return;
		}
		todo->topic[todo->count].tenant = tool_copy(row->tenant, strlen(row->tenant));
		todo->topic[todo->count++].name = tool_copy(row->topic, strlen(row->topic));
	}
}

/* Adds what this look finds. */
static int look_again(struct verify *v, struct engine *e, const struct todo *todo)
{
	static const struct backend_key advisory[] = {
		{.cls = SHMETA_CLASS_AGENT}, {.cls = SHMETA_CLASS_LEASE}, {.cls = SHMETA_CLASS_OFFSET}};
	struct backend_error err = {0};
	struct backend_key *keys = tool_alloc(todo->count * sizeof(*keys));
	uint64_t topics = v->topics, partitions = v->partitions, segments = v->segments;
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; i < todo->count; i++)
		keys[i] = (struct backend_key){
			.cls = SHMETA_CLASS_TOPIC,
			.with_segments = 1,
			.to = INT64_MAX,
			.tenant = {todo->topic[i].tenant, strlen(todo->topic[i].tenant)},
			.topic = {todo->topic[i].name, strlen(todo->topic[i].name)},
		};
	if (todo->count > 0)
		status = e->engine->source->fetch(e->state, keys, todo->count, &e->sink, &err);
	free(keys);
	if (status == SHMETA_OK && v->code == 0 && todo->advisory) {
		verify_forget_groups(v);
		v->agents = v->offsets = v->groupless = v->leases = 0;
		status = e->engine->source->fetch(e->state, advisory, sizeof(advisory) / sizeof(advisory[0]), &e->sink,
		                                  &err);
		if (status == SHMETA_OK && v->code == 0)
			verify_extra_advisory(v);
	}
	v->topics = topics;
	v->partitions = partitions;
	v->segments = segments;
	return status != SHMETA_OK || v->code != 0 ? source_failed(v, "reading the source again", status, &err) : 0;
}

bool verify_writer_alive(const struct verify *v)
{
	uint64_t now = shmeta__boottime_ns(), beat = shmeta_observe(&v->pages.live_board->heartbeat_ns);

	return v->pages.alive && pages_since(now, beat) < 5000000000u;
}

int verify_contents(struct verify *v, const char *uri)
{
	static struct todo todo;
	const struct timespec pause = {.tv_nsec = AGAIN_PAUSE_MS * 1000000};
	struct engine e = {.sink = verify_sink};
	struct backend_options options = {
		.uri = uri, .timeout_ms = v->tool->timeout_ms, .read_only = 1, .password_file = v->tool->password_file};
	struct backend_error err = {0};
	struct findings before = {0};
	uint64_t deadline;
	unsigned looks = 0;
	size_t from = v->found.count;
	int code = 0;

	e.sink.arg = v;
	e.sink.key_begin = again_key_begin;
	e.sink.key_end = again_key_end;
	e.engine = backend_find(uri, &err);
	if (e.engine == NULL)
		return tool_error(v->tool, TOOL_USAGE, "%s", err.text);
	e.state = tool_alloc(e.engine->state_bytes);
	memset(e.state, 0, e.engine->state_bytes);
	if (e.engine->source->open(e.state, &options, &err) != SHMETA_OK)
		code = source_failed(v, "opening the source", err.code, &err);
	if (code == 0)
		code = first_pass(v, &e);
	deadline = tool_monotonic_ns() + v->tool->timeout_ms * 1000000ull;
	v->again = true;
	while (code == 0 && v->found.count > from && verify_writer_alive(v) && tool_monotonic_ns() < deadline) {
		todo_fill(&todo, &v->found, from);
		if (todo.too_many || (todo.count == 0 && !todo.advisory))
			break;
		(void)nanosleep(&pause, NULL);
		findings_take(&v->found, from, &before);
		code = look_again(v, &e, &todo);
		looks++;
	}
	if (looks > 0)
		findings_keep(&v->found, from, &before);
	findings_cut(&before, 0);
	free(before.row);
	todo_clear(&todo);
	e.engine->source->close(e.state);
	free(e.state);
	v->contents_checked = code == 0;
	return code;
}

void verify_close(struct verify *v)
{
	for (size_t i = 0; i < v->sessions; i++) {
		session_close(&v->session[i].s);
		free(v->session[i].tenant);
	}
	verify_drop_rows(v);
	verify_forget_groups(v);
	free(v->group);
	findings_cut(&v->found, 0);
	free(v->found.row);
	free(v->session);
	free(v->topic);
	free(v->partition_ids);
	free(v->seen);
	pages_close(&v->pages);
}
