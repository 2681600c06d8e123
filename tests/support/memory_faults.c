/* SPDX-License-Identifier: Apache-2.0
 * Faults around the in-memory engine (memory_faults.h). What was asked for is kept by database. */
#include "tests/support/memory_faults.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/memory/memory_own.h"
#include "backends/rows.h"
#include "tests/support/sink_relay.h"

struct fault {
	uint32_t times;
	uint64_t after_rows;
	enum shmeta_status status;
	char sentence[200];
};

struct row_fault {
	struct row_fault *next;
	uint32_t partition_id;
	bool stray;
	enum shmeta_status status;
	char topic[SHMETA_NAME_MAX + 1];
	char sentence[160];
};

struct plan {
	struct plan *next;
	struct memory_db *db;
	struct fault faults[MEMORY_CALLS];
	struct row_fault *rows;
	uint32_t lie_empty;
	size_t position_pad;
	uint64_t lag_ns, feed_lag_ns;
	const char *trouble;
	enum backend_feed_kind kind;
	bool read_only;
	void (*hook)(void *arg, enum memory_call call, int end);
	void *hook_arg;
	struct memory_stats stats;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all plans */
static struct plan *plans;

/* With the lock held until give_back(). */
static struct plan *plan_of(struct memory_db *db)
{
	struct plan *plan;

	(void)pthread_mutex_lock(&lock);
	for (plan = plans; plan != NULL && plan->db != db;)
		plan = plan->next;
	if (plan == NULL) {
		plan = calloc(1, sizeof *plan);
		if (plan == NULL)
			abort();
		plan->db = db;
		plan->kind = BACKEND_FEED_KEYS;
		plan->next = plans;
		plans = plan;
	}
	return plan;
}

static void give_back(void)
{
	(void)pthread_mutex_unlock(&lock);
}

void memory_faults_forget(struct memory_db *db)
{
	(void)pthread_mutex_lock(&lock);
	for (struct plan **at = &plans; *at != NULL; at = &(*at)->next) {
		struct plan *plan = *at;

		if (plan->db != db)
			continue;
		for (struct row_fault *row = plan->rows, *next; row != NULL; row = next) {
			next = row->next;
			free(row);
		}
		*at = plan->next;
		free(plan);
		break;
	}
	give_back();
}

/* ---- what is asked for ---- */

void memory_fail(struct memory_db *db, enum memory_call call, uint32_t times, uint64_t after_rows,
                 enum shmeta_status status, const char *sentence)
{
	struct fault *fault = &plan_of(db)->faults[call];

	*fault = (struct fault){.times = times, .after_rows = after_rows, .status = status};
	(void)snprintf(fault->sentence, sizeof fault->sentence, "%s", sentence);
	give_back();
}

static bool add_row_fault(struct memory_db *db, const char *topic, uint32_t partition_id, bool stray,
                          enum shmeta_status status, const char *sentence)
{
	struct row_fault *fault = calloc(1, sizeof *fault);
	struct plan *plan;

	if (fault == NULL)
		return false;
	fault->partition_id = partition_id;
	fault->stray = stray;
	fault->status = status;
	(void)snprintf(fault->topic, sizeof fault->topic, "%s", topic);
	(void)snprintf(fault->sentence, sizeof fault->sentence, "%s", sentence);
	plan = plan_of(db);
	fault->next = plan->rows;
	plan->rows = fault;
	give_back();
	return true;
}

bool memory_break_partition(struct memory_db *db, const char *topic, uint32_t partition_id, enum shmeta_status status,
                            const char *sentence)
{
	return add_row_fault(db, topic, partition_id, false, status, sentence);
}

bool memory_stray_partition(struct memory_db *db, const char *topic, uint32_t partition_id)
{
	return add_row_fault(db, topic, partition_id, true, SHMETA_OK, "");
}

void memory_mend_partition(struct memory_db *db, const char *topic, uint32_t partition_id)
{
	for (struct row_fault **at = &plan_of(db)->rows; *at != NULL;) {
		struct row_fault *fault = *at;

		if (fault->partition_id != partition_id || strcmp(fault->topic, topic) != 0) {
			at = &fault->next;
			continue;
		}
		*at = fault->next;
		free(fault);
	}
	give_back();
}

void memory_lie_empty(struct memory_db *db, uint32_t times)
{
	plan_of(db)->lie_empty = times;
	give_back();
}

void memory_pad_position(struct memory_db *db, size_t bytes)
{
	plan_of(db)->position_pad = bytes;
	give_back();
}

void memory_set_lag(struct memory_db *db, uint64_t lag_ns)
{
	plan_of(db)->lag_ns = lag_ns;
	give_back();
}

void memory_set_feed(struct memory_db *db, uint64_t lag_ns, const char *trouble)
{
	struct plan *plan = plan_of(db);

	plan->feed_lag_ns = lag_ns;
	plan->trouble = trouble;
	give_back();
}

void memory_set_feed_kind(struct memory_db *db, enum backend_feed_kind kind)
{
	plan_of(db)->kind = kind;
	give_back();
}

void memory_set_read_only(struct memory_db *db, bool read_only)
{
	plan_of(db)->read_only = read_only;
	give_back();
}

void memory_set_hook(struct memory_db *db, void (*hook)(void *arg, enum memory_call call, int end), void *arg)
{
	struct plan *plan = plan_of(db);

	plan->hook = hook;
	plan->hook_arg = arg;
	give_back();
}

void memory_read_stats(struct memory_db *db, struct memory_stats *ret)
{
	*ret = plan_of(db)->stats;
	give_back();
}

/* ---- one call ---- */

struct call {
	struct sink_relay relay;
	void *state;
	struct memory_db *db;
	enum memory_call kind;
	struct backend_counters before;
	bool armed, lie, fired;
	struct fault fault;
	uint64_t left; /* rows until it fails */
	const struct backend_key *keys;
	size_t ended; /* keys that are answered */
	bool in_key;
	struct row_fault broken; /* the key that is being answered came to it; topic "": none */
	char topic[SHMETA_NAME_MAX + 1];
};

static enum shmeta_status row(struct sink_relay *relay, bool listed)
{
	struct call *call = (struct call *)relay;

	(void)listed;
	if (call->armed && call->left-- == 0) {
		call->fired = true;
		return call->fault.status;
	}
	return call->lie || call->broken.topic[0] != '\0' ? SHMETA_ABSENT : SHMETA_OK;
}

static void run_hook(struct memory_db *db, enum memory_call kind, int end)
{
	const struct plan *plan = plan_of(db);
	void (*hook)(void *arg, enum memory_call call, int end) = plan->hook;
	void *arg = plan->hook_arg;

	give_back();
	if (hook != NULL)
		hook(arg, kind, end);
}

static void call_begin(struct call *call, void *state, const struct backend_sink *sink, enum memory_call kind)
{
	struct plan *plan;

	*call = (struct call){.state = state, .db = memory_db_of(state), .relay = {sink, row}, .kind = kind};
	backend_memory.source->counters(state, &call->before);
	run_hook(call->db, kind, 0);
	plan = plan_of(call->db);
	plan->stats.calls[kind]++;
	if (plan->faults[kind].times > 0) {
		plan->faults[kind].times--;
		call->armed = true;
		call->fault = plan->faults[kind];
		call->left = call->fault.after_rows;
	}
	if (kind == MEMORY_LOAD && plan->lie_empty > 0) {
		plan->lie_empty--;
		call->lie = true;
	}
	give_back();
}

static enum shmeta_status call_end(struct call *call, enum shmeta_status status, struct backend_error *err)
{
	static const char *const doing[] = {"opening", "loading", "fetching", "reading changes", "starting", "writing"};
	struct backend_counters after;
	struct plan *plan;

	/* A fault that was to come after more rows than there were comes at the end. */
	if (call->armed && status == SHMETA_OK)
		status = call->fault.status;
	if (call->armed && status == call->fault.status)
		(void)backend_fail(err, status, "memory: %s: %s", doing[call->kind], call->fault.sentence);
	backend_memory.source->counters(call->state, &after);
	plan = plan_of(call->db);
	plan->stats.rows += after.rows - call->before.rows;
	plan->stats.queries += after.queries - call->before.queries;
	give_back();
	run_hook(call->db, call->kind, 1);
	return status;
}

/* ---- the rows on their way ---- */

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct call *call = arg;

	(void)snprintf(call->topic, sizeof call->topic, "%.*s", (int)topic->name.bytes, topic->name.data);
	return sink_relay_of(&call->relay).topic(arg, tenant, topic);
}

/* In it: a copy of the fault of that partition; its topic is "" where there is none. */
static void find_row_fault(struct memory_db *db, const char *topic, uint32_t partition_id, struct row_fault *ret)
{
	const struct row_fault *fault = plan_of(db)->rows;

	while (fault != NULL && (fault->partition_id != partition_id || strcmp(fault->topic, topic) != 0))
		fault = fault->next;
	if (fault != NULL)
		*ret = *fault;
	else
		ret->topic[0] = '\0';
	give_back();
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct call *call = arg;
	struct row_fault fault;

	find_row_fault(call->db, call->topic, partition->partition_id, &fault);
	if (fault.topic[0] != '\0' && !fault.stray) {
		if (call->kind == MEMORY_FETCH) {
			call->broken = fault;
			return SHMETA_OK;
		}
		call->armed = true;
		call->fault.status = fault.status;
		(void)snprintf(call->fault.sentence, sizeof call->fault.sentence, "%s", fault.sentence);
		return fault.status;
	}
	return sink_relay_of(&call->relay).partition(arg, partition);
}

static void on_quarantine(void *arg, const struct backend_key *key, const char *sentence)
{
	struct call *call = arg;

	if (call->armed && call->left > 0)
		call->left--;
	if (!call->lie && call->broken.topic[0] == '\0')
		call->relay.to->quarantine(call->relay.to->arg, key, sentence);
}

static enum shmeta_status on_key_begin(void *arg, const struct backend_key *key)
{
	struct call *call = arg;

	(void)snprintf(call->topic, sizeof call->topic, "%.*s", (int)key->topic.bytes, key->topic.data);
	call->broken.topic[0] = '\0';
	call->in_key = true;
	return call->relay.to->key_begin(call->relay.to->arg, &call->keys[call->ended]);
}

static enum shmeta_status on_key_end(void *arg, const struct backend_key *key, enum shmeta_status status,
                                     const char *sentence)
{
	struct call *call = arg;
	bool broken = call->broken.topic[0] != '\0';

	(void)key;
	call->in_key = false;
	return call->relay.to->key_end(call->relay.to->arg, &call->keys[call->ended++],
	                               broken ? call->broken.status : status,
	                               broken ? call->broken.sentence : sentence);
}

/* The load has not moved the feed yet when it is told of its end: so a fault that has not come by
 * then comes here. */
static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct call *call = arg;

	if (call->armed && done == total)
		return call->fault.status;
	return call->relay.to->progress != NULL ? call->relay.to->progress(call->relay.to->arg, done, total)
	                                        : SHMETA_OK;
}

static struct backend_sink sink_of(struct call *call)
{
	struct backend_sink sink = sink_relay_of(&call->relay);

	sink.topic = on_topic;
	sink.partition = on_partition;
	sink.quarantine = on_quarantine;
	sink.key_begin = on_key_begin;
	sink.key_end = on_key_end;
	sink.progress = on_progress;
	return sink;
}

/* ---- source ---- */

static enum shmeta_status faulty_open(void *state, const struct backend_options *options, struct backend_error *err)
{
	enum shmeta_status status = backend_memory.source->open(state, options, err);
	struct call call;

	if (status != SHMETA_OK)
		return status;
	call_begin(&call, state, NULL, MEMORY_OPEN);
	return call_end(&call, SHMETA_OK, err);
}

static void faulty_close(void *state)
{
	backend_memory.source->close(state);
}

static uint64_t faulty_fingerprint(void *state)
{
	return backend_memory.source->fingerprint(state);
}

static void faulty_describe(void *state, char *ret, size_t bytes)
{
	backend_memory.source->describe(state, ret, bytes);
}

static void faulty_counters(void *state, struct backend_counters *ret)
{
	backend_memory.source->counters(state, ret);
}

static enum shmeta_status faulty_load(void *state, const struct backend_sink *sink, struct backend_error *err)
{
	struct call call;
	struct backend_sink mine;
	uint64_t lag_ns;

	call_begin(&call, state, sink, MEMORY_LOAD);
	if (call.armed && call.left == 0)
		return call_end(&call, call.fault.status, err);
	mine = sink_of(&call);
	lag_ns = plan_of(call.db)->lag_ns;
	give_back();
	if (lag_ns > 0 && sink->may_lag != NULL && sink->key == NULL)
		(void)sink->may_lag(sink->arg, lag_ns);
	return call_end(&call, backend_memory.source->load(state, &mine, err), err);
}

/* The keys with the ranges that stray. NULL: no memory. */
static struct backend_key *astray(struct memory_db *db, const struct backend_key *keys, size_t count)
{
	struct backend_key *own = calloc(count + 1, sizeof *own);

	for (size_t i = 0; own != NULL && i < count; i++) {
		char topic[SHMETA_NAME_MAX + 1];
		struct row_fault fault;

		own[i] = keys[i];
		(void)snprintf(topic, sizeof topic, "%.*s", (int)keys[i].topic.bytes, keys[i].topic.data);
		find_row_fault(db, topic, keys[i].partition_id, &fault);
		if (keys[i].cls == SHMETA_CLASS_SEGMENT && fault.topic[0] != '\0' && fault.stray) {
			own[i].from = 0;
			own[i].to = UINT64_MAX;
		}
	}
	return own;
}

static enum shmeta_status faulty_fetch(void *state, const struct backend_key *keys, size_t count,
                                       const struct backend_sink *sink, struct backend_error *err)
{
	struct backend_key *own;
	struct backend_sink mine;
	enum shmeta_status status;
	struct call call;

	call_begin(&call, state, sink, MEMORY_FETCH);
	plan_of(call.db)->stats.keys_fetched += count;
	give_back();
	call.keys = keys;
	mine = sink_of(&call);
	own = astray(call.db, keys, count);
	status = own != NULL ? backend_memory.source->fetch(state, own, count, &mine, err)
	                     : backend_fail(err, SHMETA_ERR_NO_MEMORY, "memory: out of memory");
	free(own);
	if (call.fired && (status == SHMETA_ERR_INVALID_ARGUMENT || status == SHMETA_ERR_BUSY)) {
		call.armed = false;
		status = backend_fail_keys(keys + call.ended, count - call.ended, call.in_key, sink, status,
		                           call.fault.sentence);
	}
	return call_end(&call, status, err);
}

/* ---- feed ---- */

static enum backend_feed_kind faulty_kind(void *state)
{
	enum backend_feed_kind kind = plan_of(memory_db_of(state))->kind;

	give_back();
	return kind;
}

static const char *faulty_trouble(void *state)
{
	const char *trouble = plan_of(memory_db_of(state))->trouble;

	give_back();
	return trouble != NULL ? trouble : "";
}

static enum shmeta_status swallow(void *arg, const struct backend_key *key)
{
	(void)arg;
	(void)key;
	return SHMETA_OK;
}

static enum shmeta_status faulty_changes(void *state, const struct backend_sink *sink, int *ret_changed,
                                         uint64_t *ret_lag_ns, struct backend_error *err)
{
	const struct backend_key list = {.cls = SHMETA_CLASS_LIST};
	enum backend_feed_kind kind = faulty_kind(state);
	struct backend_sink mine = *sink;
	enum shmeta_status status;
	struct call call;

	call_begin(&call, state, sink, MEMORY_CHANGES);
	if (call.armed)
		return call_end(&call, call.fault.status, err);
	if (kind != BACKEND_FEED_KEYS)
		mine.changed = swallow;
	status = backend_memory.feed->changes(state, &mine, ret_changed, ret_lag_ns, err);
	*ret_lag_ns = plan_of(call.db)->feed_lag_ns;
	give_back();
	*ret_changed |= kind == BACKEND_FEED_NONE;
	if (status == SHMETA_OK && kind != BACKEND_FEED_KEYS && *ret_changed)
		status = sink->changed(sink->arg, &list);
	return call_end(&call, status, err);
}

/* What is behind the position of the engine inside. */
static uint8_t pad_byte(size_t at)
{
	return (uint8_t)(at * 31 + (at >> 8));
}

static size_t position_pad(void *state)
{
	size_t pad = plan_of(memory_db_of(state))->position_pad;

	give_back();
	return pad;
}

static enum shmeta_status faulty_position(void *state, void *ret, size_t capacity, size_t *ret_bytes)
{
	uint8_t inner[256], *to = ret;
	size_t bytes, pad = position_pad(state);
	enum shmeta_status status = backend_memory.feed->position(state, inner, sizeof inner, &bytes);

	*ret_bytes = bytes + pad;
	if (status != SHMETA_OK || capacity < *ret_bytes)
		return status != SHMETA_OK ? status : SHMETA_ERR_BUFFER;
	memcpy(to, inner, bytes);
	for (size_t i = 0; i < pad; i++)
		to[bytes + i] = pad_byte(i);
	return SHMETA_OK;
}

static enum shmeta_status faulty_resume(void *state, const void *position, size_t bytes, struct backend_error *err)
{
	const uint8_t *from = position;
	size_t pad = position_pad(state);
	enum shmeta_status status;

	if (bytes < pad)
		return SHMETA_ABSENT;
	for (size_t i = 0; i < pad; i++)
		if (from[bytes - pad + i] != pad_byte(i))
			return SHMETA_ABSENT;
	status = backend_memory.feed->resume(state, position, bytes - pad, err);
	return status == SHMETA_OK && faulty_kind(state) != BACKEND_FEED_KEYS ? SHMETA_ABSENT : status;
}

static int faulty_wake_fd(void *state)
{
	return backend_memory.feed->wake_fd(state);
}

/* ---- writer ---- */

static int faulty_writable(void *state)
{
	bool read_only = plan_of(memory_db_of(state))->read_only;

	give_back();
	return !read_only;
}

/* apply() or finish(), whichever it is. */
static enum shmeta_status write_ops(void *state, bool started, const struct backend_op *ops, size_t count,
                                    int64_t now_ms, struct shmeta_result *results, const struct backend_sink *sink,
                                    struct backend_error *err)
{
	const struct backend_sink nobody = {.changed = swallow};
	struct memory_db *db = memory_db_of(state);
	struct plan *plan = plan_of(db);
	struct fault fault = plan->faults[MEMORY_APPLY];
	enum shmeta_status status = SHMETA_OK;

	plan->stats.calls[MEMORY_APPLY]++;
	plan->faults[MEMORY_APPLY].times -= fault.times > 0;
	give_back();
	if (fault.times > 0)
		sink = &nobody;
	if (fault.times > 0 && fault.after_rows == 0)
		memory_started_of(state)->ops = NULL;
	else if (started)
		status = backend_memory.writer->finish(state, sink, err);
	else
		status = backend_memory.writer->apply(state, ops, count, now_ms, results, sink, err);
	if (fault.times == 0)
		return status;
	(void)backend_fail(err, fault.status, "memory: %s", fault.sentence);
	return backend_answer_all(ops, count, results, fault.status, fault.sentence);
}

static enum shmeta_status faulty_apply(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                       struct shmeta_result *results, const struct backend_sink *sink,
                                       struct backend_error *err)
{
	return write_ops(state, false, ops, count, now_ms, results, sink, err);
}

static enum shmeta_status faulty_start(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                       struct shmeta_result *results, struct backend_error *err)
{
	struct plan *plan = plan_of(memory_db_of(state));
	struct fault fault = plan->faults[MEMORY_START];

	plan->stats.calls[MEMORY_START]++;
	plan->faults[MEMORY_START].times -= fault.times > 0;
	give_back();
	if (fault.times > 0)
		return backend_fail(err, fault.status, "memory: %s", fault.sentence);
	return backend_memory.writer->start(state, ops, count, now_ms, results, err);
}

static enum shmeta_status faulty_finish(void *state, const struct backend_sink *sink, struct backend_error *err)
{
	const struct memory_started s = *memory_started_of(state);

	return write_ops(state, true, s.ops, s.count, s.now_ms, s.results, sink, err);
}

static enum shmeta_status faulty_objects(void *state, const struct backend_object_list *list, backend_object_fn *emit,
                                         void *arg, struct backend_error *err)
{
	return backend_memory.admin->objects(state, list, emit, arg, err);
}

static enum shmeta_status faulty_extras(void *state, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                                        struct backend_error *err)
{
	return backend_memory.admin->extras(state, kind, emit, arg, err);
}

static const struct backend_source source = {.open = faulty_open,
                                             .close = faulty_close,
                                             .fingerprint = faulty_fingerprint,
                                             .describe = faulty_describe,
                                             .counters = faulty_counters,
                                             .load = faulty_load,
                                             .fetch = faulty_fetch};
static const struct backend_feed feed = {.kind = faulty_kind,
                                         .trouble = faulty_trouble,
                                         .changes = faulty_changes,
                                         .position = faulty_position,
                                         .resume = faulty_resume,
                                         .wake_fd = faulty_wake_fd};
static const struct backend_writer writer = {
	.writable = faulty_writable, .apply = faulty_apply, .start = faulty_start, .finish = faulty_finish};
static enum shmeta_status faulty_epoch_end(void *state, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                           struct backend_error *err)
{
	return backend_memory.admin->epoch_end(state, ask, ret, err);
}

static const struct backend_admin admin = {
	.objects = faulty_objects, .epoch_end = faulty_epoch_end, .extras = faulty_extras};

const struct backend_engine memory_with_faults = {.name = "memory",
                                                  .state_bytes = sizeof(struct memory_state),
                                                  .limits = {.keys = 4096, .ops = 4096, .unit_ops = 4096},
                                                  .source = &source,
                                                  .feed = &feed,
                                                  .writer = &writer,
                                                  .admin = &admin};
