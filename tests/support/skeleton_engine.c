/* SPDX-License-Identifier: Apache-2.0
 * An engine for a source that answers one request at a time: the names of the topics, one topic
 * with all that is in it, or one class of the other records. Each answer is of one moment, two
 * answers may be of different ones.
 *
 * The client library of that source is played by the in-memory engine (`remote`), whose rows come
 * judged: an engine that reads raw values judges them with rows_check_...() of backends/rows.h, and
 * hands what fails to rows_quarantine(). */
#include "tests/support/skeleton_engine.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rows.h"

static const struct backend_engine *const remote = &backend_memory;

struct skeleton {
	void *client; /* NULL: not open */
};

/* ---- one request ---- */

/* What a request hands on, and how many rows that were. */
struct request {
	const struct backend_sink *sink; /* the caller's */
	bool loading;
	uint64_t rows, total;
};

/* Before each row: the caller hears now and then how far a load is, and may end it. */
static enum shmeta_status count(struct request *r)
{
	enum { EVERY = 10000 };

	r->rows++;
	return r->loading && r->rows % EVERY == 0 && r->sink->progress != NULL
	               ? r->sink->progress(r->sink->arg, r->rows, r->total)
	               : SHMETA_OK;
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct request *r = arg;
	enum shmeta_status status = count(r);

	return status == SHMETA_OK ? r->sink->topic(r->sink->arg, tenant, topic) : status;
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct request *r = arg;
	enum shmeta_status status = count(r);

	return status == SHMETA_OK ? r->sink->partition(r->sink->arg, partition) : status;
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct request *r = arg;
	enum shmeta_status status = count(r);

	return status == SHMETA_OK ? r->sink->segment(r->sink->arg, segment) : status;
}

static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct request *r = arg;
	enum shmeta_status status = count(r);

	return status == SHMETA_OK ? r->sink->agent(r->sink->arg, tenant, agent) : status;
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct request *r = arg;
	enum shmeta_status status = count(r);

	return status == SHMETA_OK ? r->sink->group(r->sink->arg, tenant, group) : status;
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	struct request *r = arg;
	enum shmeta_status status = count(r);

	return status == SHMETA_OK ? r->sink->offset(r->sink->arg, tenant, topic, offset) : status;
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	struct request *r = arg;
	enum shmeta_status status = count(r);

	return status == SHMETA_OK ? r->sink->lease(r->sink->arg, tenant, topic, lease) : status;
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	struct request *r = arg;

	r->rows++;
	r->sink->quarantine(r->sink->arg, row, sentence);
}

/* A load has no keys: a topic that went between the list and its turn is not there any more. */
static enum shmeta_status on_key_begin(void *arg, const struct backend_key *key)
{
	struct request *r = arg;

	return r->loading ? SHMETA_OK : r->sink->key_begin(r->sink->arg, key);
}

static enum shmeta_status on_key_end(void *arg, const struct backend_key *key, enum shmeta_status status,
                                     const char *sentence)
{
	struct request *r = arg;

	return r->loading ? SHMETA_OK : r->sink->key_end(r->sink->arg, key, status, sentence);
}

/* One key, from one moment. */
static enum shmeta_status ask(struct skeleton *s, struct request *r, const struct backend_key *key,
                              struct backend_error *err)
{
	const struct backend_sink sink = {.arg = r,
	                                  .topic = on_topic,
	                                  .partition = on_partition,
	                                  .segment = on_segment,
	                                  .agent = on_agent,
	                                  .group = on_group,
	                                  .offset = on_offset,
	                                  .lease = on_lease,
	                                  .quarantine = on_quarantine,
	                                  .key_begin = on_key_begin,
	                                  .key_end = on_key_end};

	return remote->source->fetch(s->client, key, 1, &sink, err);
}

/* ---- the names ---- */

struct names {
	struct backend_key *key; /* each one's strings are one allocation, which tenant.data is */
	size_t count, capacity;
};

static enum shmeta_status on_name(void *arg, const struct backend_key *key)
{
	struct names *names = arg;
	char *text;

	if (names->count == names->capacity) {
		size_t more = names->capacity * 2 + 16;
		struct backend_key *bigger = reallocarray(names->key, more, sizeof *bigger);

		if (bigger == NULL)
			return SHMETA_ERR_NO_MEMORY;
		names->key = bigger;
		names->capacity = more;
	}
	text = malloc(key->tenant.bytes + key->topic.bytes + 1);
	if (text == NULL)
		return SHMETA_ERR_NO_MEMORY;
	memcpy(text, key->tenant.data, key->tenant.bytes);
	memcpy(text + key->tenant.bytes, key->topic.data, key->topic.bytes);
	names->key[names->count++] = (struct backend_key){.cls = SHMETA_CLASS_TOPIC,
	                                                  .tenant = {text, key->tenant.bytes},
	                                                  .topic = {text + key->tenant.bytes, key->topic.bytes},
	                                                  .with_segments = 1};
	return SHMETA_OK;
}

static int compare_names(const void *a, const void *b)
{
	const struct backend_key *x = a, *y = b;
	int order = rows_compare(x->tenant, y->tenant);

	return order != 0 ? order : rows_compare(x->topic, y->topic);
}

static void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free((char *)names->key[i].tenant.data);
	free(names->key);
}

/* ---- the table ---- */

static enum shmeta_status skeleton_open(void *state, const struct backend_options *options, struct backend_error *err)
{
	struct skeleton *s = state;
	struct backend_options own = *options;
	char uri[256];

	(void)snprintf(uri, sizeof uri, "memory:%s", options->uri + strlen("skeleton:"));
	own.uri = uri;
	s->client = calloc(1, remote->state_bytes);
	if (s->client == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "skeleton: opening: out of memory");
	return remote->source->open(s->client, &own, err);
}

static void skeleton_close(void *state)
{
	struct skeleton *s = state;

	if (s->client != NULL)
		remote->source->close(s->client);
	free(s->client);
	s->client = NULL;
}

static uint64_t skeleton_fingerprint(void *state)
{
	return remote->source->fingerprint(((struct skeleton *)state)->client);
}

static void skeleton_describe(void *state, char *ret, size_t bytes)
{
	(void)snprintf(ret, bytes, "skeleton: %s", ((struct skeleton *)state)->client != NULL ? "open" : "not open");
}

static void skeleton_counters(void *state, struct backend_counters *ret)
{
	remote->source->counters(((struct skeleton *)state)->client, ret);
}

static enum shmeta_status skeleton_load(void *state, const struct backend_sink *sink, struct backend_error *err)
{
	static const struct backend_key classes[] = {
		{.cls = SHMETA_CLASS_AGENT}, {.cls = SHMETA_CLASS_OFFSET}, {.cls = SHMETA_CLASS_LEASE}};
	struct skeleton *s = state;
	struct request request = {.sink = sink, .loading = true};
	struct names names = {.count = 0};
	const struct backend_sink list = {.arg = &names, .key = on_name};
	enum shmeta_status status = remote->source->load(s->client, &list, err);

	if (names.count > 0)
		qsort(names.key, names.count, sizeof *names.key, compare_names);
	for (size_t i = 0; status == SHMETA_OK && i < names.count; i++)
		status = sink->key != NULL ? sink->key(sink->arg, &names.key[i]) : ask(s, &request, &names.key[i], err);
	for (size_t i = 0; status == SHMETA_OK && sink->key == NULL && i < sizeof classes / sizeof *classes; i++)
		status = ask(s, &request, &classes[i], err);
	if (status == SHMETA_OK && sink->progress != NULL)
		status = sink->progress(sink->arg, request.rows, request.rows);
	names_free(&names);
	return status;
}

static enum shmeta_status skeleton_fetch(void *state, const struct backend_key *keys, size_t count,
                                         const struct backend_sink *sink, struct backend_error *err)
{
	struct request request = {.sink = sink};
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; i < count; i++)
		if (keys[i].cls == SHMETA_CLASS_LIST || (unsigned)keys[i].cls >= SHMETA_CLASS_COUNT)
			return backend_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                    "skeleton: a key of class %d cannot be fetched", (int)keys[i].cls);
	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		status = ask(state, &request, &keys[i], err);
	return status;
}

static const struct backend_source source = {.open = skeleton_open,
                                             .close = skeleton_close,
                                             .fingerprint = skeleton_fingerprint,
                                             .describe = skeleton_describe,
                                             .counters = skeleton_counters,
                                             .load = skeleton_load,
                                             .fetch = skeleton_fetch};

const struct backend_engine backend_skeleton = {.name = "skeleton",
                                                .state_bytes = sizeof(struct skeleton),
                                                .limits = {.keys = 1000, .moment = BACKEND_BRACKETED},
                                                .source = &source};
