/* SPDX-License-Identifier: Apache-2.0
 * Faults of passes (pass_faults.h). */
#include "tests/support/pass_faults.h"

#include <string.h>

#include "tests/support/sink_relay.h"

struct pass_faults pass_faults;
static const struct backend_engine *inside;
static struct backend_engine outside;
static struct backend_source source;
static struct backend_feed feed;

struct call {
	struct sink_relay relay;
	uint64_t rows;
	bool load;
};

static const uint64_t BREAKS_AT = 5000;

static enum shmeta_status row(struct sink_relay *relay, bool listed)
{
	struct call *call = (struct call *)relay;

	if (listed)
		return SHMETA_OK;
	call->rows++;
	pass_faults.rows++;
	if (pass_faults.on_row != NULL)
		pass_faults.on_row();
	return call->load && pass_faults.broken && call->rows > BREAKS_AT ? SHMETA_ERR_INVALID_ARGUMENT : SHMETA_OK;
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
	struct call call = {.relay = {sink, row}, .load = true};
	const struct backend_sink mine = sink_relay_of(&call.relay);
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
	struct call call = {.relay = {sink, row}};
	const struct backend_sink mine = sink_relay_of(&call.relay);
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
