/* SPDX-License-Identifier: Apache-2.0
 * Faults of passes (pass_faults.h). */
#include "tests/support/pass_faults.h"

#include <string.h>

struct pass_faults pass_faults;
static const struct backend_engine *inside;
static struct backend_engine outside;
static struct backend_source source;
static struct backend_feed feed;

struct call {
	const struct backend_sink *sink;
	uint64_t rows;
	bool load;
};

static const uint64_t BREAKS_AT = 5000;

/* Before each row. */
static enum shmeta_status row(struct call *call)
{
	call->rows++;
	pass_faults.rows++;
	if (pass_faults.on_row != NULL)
		pass_faults.on_row();
	return call->load && pass_faults.broken && call->rows > BREAKS_AT ? SHMETA_ERR_INVALID_ARGUMENT : SHMETA_OK;
}

#define HAND_ON(function, ...)                                                                                \
	do {                                                                                                  \
		struct call *call_ = arg;                                                                     \
		enum shmeta_status status_ = row(call_);                                                      \
		return status_ != SHMETA_OK ? status_ : call_->sink->function(call_->sink->arg, __VA_ARGS__); \
	} while (0)

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	HAND_ON(topic, tenant, topic);
}
static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	HAND_ON(partition, partition);
}
static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	HAND_ON(segment, segment);
}
static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	HAND_ON(agent, tenant, agent);
}
static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	HAND_ON(group, tenant, group);
}
static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	HAND_ON(offset, tenant, topic, offset);
}
static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	HAND_ON(lease, tenant, topic, lease);
}
static enum shmeta_status on_key(void *arg, const struct backend_key *key)
{
	struct call *call = arg;

	return call->sink->key(call->sink->arg, key);
}
static enum shmeta_status on_key_begin(void *arg, const struct backend_key *key)
{
	struct call *call = arg;

	return call->sink->key_begin(call->sink->arg, key);
}
static enum shmeta_status on_key_end(void *arg, const struct backend_key *key, enum shmeta_status status,
                                     const char *sentence)
{
	struct call *call = arg;

	return call->sink->key_end(call->sink->arg, key, status, sentence);
}
static void on_quarantine(void *arg, const struct backend_key *key, const char *sentence)
{
	struct call *call = arg;

	call->sink->quarantine(call->sink->arg, key, sentence);
}
static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct call *call = arg;

	return call->sink->progress != NULL ? call->sink->progress(call->sink->arg, done, total) : SHMETA_OK;
}

static struct backend_sink sink_of(struct call *call)
{
	return (struct backend_sink){.arg = call,
	                             .topic = on_topic,
	                             .partition = on_partition,
	                             .segment = on_segment,
	                             .agent = on_agent,
	                             .group = on_group,
	                             .offset = on_offset,
	                             .lease = on_lease,
	                             .quarantine = on_quarantine,
	                             .key_begin = on_key_begin,
	                             .key_end = on_key_end,
	                             .progress = on_progress,
	                             .key = call->sink->key != NULL ? on_key : NULL};
}

static enum shmeta_status faulty_open(void *state, const struct backend_options *options, struct backend_error *err)
{
	pass_faults.states++; /* close() follows in any case */
	if (pass_faults.no_second && pass_faults.states > 1)
		return backend_fail(err, SHMETA_ERR_SOURCE, "there is no second connection");
	return inside->source->open(state, options, err);
}

static void faulty_close(void *state)
{
	pass_faults.states--;
	inside->source->close(state);
}

static enum shmeta_status faulty_load(void *state, const struct backend_sink *sink, struct backend_error *err)
{
	struct call call = {.sink = sink, .load = true};
	const struct backend_sink mine = sink_of(&call);
	enum shmeta_status status;

	pass_faults.loads += sink->key == NULL;
	pass_faults.lists += sink->key != NULL;
	status = inside->source->load(state, &mine, err);
	if (status == SHMETA_ERR_INVALID_ARGUMENT)
		(void)backend_fail(err, status, "a row cannot be read");
	return status;
}

static enum shmeta_status faulty_fetch(void *state, const struct backend_key *keys, size_t count,
                                       const struct backend_sink *sink, struct backend_error *err)
{
	struct call call = {.sink = sink};
	const struct backend_sink mine = sink_of(&call);
	enum shmeta_status status = inside->source->fetch(state, keys, count, &mine, err);

	pass_faults.fetches++;
	if (count > pass_faults.fetch_keys_most)
		pass_faults.fetch_keys_most = count;
	if (call.rows > pass_faults.fetch_rows_most)
		pass_faults.fetch_rows_most = call.rows;
	return status;
}

static enum shmeta_status faulty_resume(void *state, const void *position, size_t bytes, struct backend_error *err)
{
	pass_faults.resumes++;
	return pass_faults.no_resume ? backend_fail(err, SHMETA_ABSENT, "the position is of no use")
	                             : inside->feed->resume(state, position, bytes, err);
}

const struct backend_engine *pass_faults_around(const struct backend_engine *engine, bool with_feed)
{
	memset(&pass_faults, 0, sizeof pass_faults);
	inside = engine;
	source = *engine->source;
	source.open = faulty_open;
	source.close = faulty_close;
	source.load = faulty_load;
	source.fetch = faulty_fetch;
	feed = *engine->feed;
	feed.resume = faulty_resume;
	outside = *engine;
	outside.source = &source;
	outside.feed = with_feed ? &feed : NULL;
	return &outside;
}
