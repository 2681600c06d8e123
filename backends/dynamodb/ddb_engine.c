/* SPDX-License-Identifier: Apache-2.0
 * The engine of DynamoDB: what the core calls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_epochs.h"
#include "backends/dynamodb/ddb_move.h"
#include "backends/dynamodb/ddb_ops.h"
#include "backends/dynamodb/ddb_read.h"
#include "backends/dynamodb/ddb_schema.h"

/* UNIT_OPS: an object and slices of three items each, in one transaction. */
enum { UNIT_OPS = 33, KEYS = 1000, OPS = 4096 };

/* To the core there is no less than the source where nothing can be asked before this. */
static enum shmeta_status as_the_source(enum shmeta_status status, struct backend_error *err)
{
	return status == SHMETA_ERR_BUSY ? (err->code = SHMETA_ERR_SOURCE) : status;
}

static enum shmeta_status engine_open(void *state, const struct backend_options *options, struct backend_error *err)
{
	struct ddb_state *s = state;
	enum shmeta_status status = SHMETA_OK;

	if (!backend_options_copy(options, &s->options))
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	ddb_sweep_begin(s);
	status = ddb_link_open(&s->link, options, err);
	if (status == SHMETA_OK) {
		ddb_begin(s, DDB_FOR_FETCH);
		status = ddb_identity(s, &s->fingerprint, err);
	}
	if (status == SHMETA_OK && s->fingerprint == 0 && options->create && !options->read_only) {
		status = ddb_schema(s, BACKEND_SCHEMA_APPLY, 0, NULL, NULL, err);
		if (status == SHMETA_OK)
			status = ddb_identity(s, &s->fingerprint, err);
	}
	if (status == SHMETA_OK && s->fingerprint == 0)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"dynamodb: there is no table %s in %s: `shmetactl schema apply` makes the tables, or "
			"source.create",
			s->link.uri.table[DDB_META], s->link.uri.region);
	return as_the_source(status, err);
}

static void engine_close(void *state)
{
	struct ddb_state *s = state;

	ddb_link_close(&s->link);
	ddb_log_free(&s->log);
	rows_scratch_free(&s->scratch);
	backend_options_free(&s->options);
}

static enum shmeta_status engine_check(const struct backend_options *options, struct backend_error *err)
{
	struct ddb_uri uri;

	return ddb_uri_parse(options, &uri, err);
}

static uint64_t engine_fingerprint(void *state)
{
	return ((struct ddb_state *)state)->fingerprint;
}

static void engine_describe(void *state, char *ret, size_t bytes)
{
	const struct ddb_state *s = state;

	(void)snprintf(ret, bytes, "dynamodb: table %s in %s, %s", s->link.uri.table[DDB_META], s->link.uri.region,
	               s->link.uri.host);
}

static void engine_counters(void *state, struct backend_counters *ret)
{
	const struct ddb_state *s = state;

	const struct ddb_budget *b = &s->link.budget;
	double written = 0;

	for (int i = 0; i < DDB_PURPOSES; i++)
		written += b->write_units[i];
	*ret = (struct backend_counters){.queries = s->reads,
	                                 .rows = s->rows,
	                                 .transactions = s->transactions,
	                                 .read_units_load = (uint64_t)b->read_units[DDB_FOR_LOAD],
	                                 .read_units_fetch = (uint64_t)b->read_units[DDB_FOR_FETCH],
	                                 .read_units_feed = (uint64_t)b->read_units[DDB_FOR_FEED],
	                                 .read_units_write = (uint64_t)b->read_units[DDB_FOR_WRITE],
	                                 .write_units = (uint64_t)written,
	                                 .throttled = s->link.throttled,
	                                 .postponed_ns = b->postponed_ns};
}

/* ---- feed ---- */

static enum backend_feed_kind engine_kind(void *state)
{
	(void)state;
	return BACKEND_FEED_KEYS;
}

static enum shmeta_status engine_changes(void *state, const struct backend_sink *sink, int *ret_changed,
                                         uint64_t *ret_lag_ns, struct backend_error *err)
{
	enum shmeta_status status;

	ddb_begin(state, DDB_FOR_FEED);
	status = ddb_log_changes(state, sink, ret_changed, ret_lag_ns, err);
	if (status == SHMETA_OK)
		ddb_sweep(state);
	return status;
}

static enum shmeta_status engine_position(void *state, void *ret, size_t capacity, size_t *ret_bytes)
{
	return ddb_log_position(state, ret, capacity, ret_bytes);
}

static enum shmeta_status engine_resume(void *state, const void *position, size_t bytes, struct backend_error *err)
{
	ddb_begin(state, DDB_FOR_FEED);
	return as_the_source(ddb_log_resume(state, position, bytes, err), err);
}

/* ---- writer ---- */

static int engine_writable(void *state)
{
	return !((struct ddb_state *)state)->options.read_only;
}

/* The operations [from, to), none of them apart. */
static enum shmeta_status do_steps(struct ddb_writing *w, const struct backend_op *ops, struct ddb_step *steps,
                                   size_t count, struct shmeta_result *results, struct backend_error *err)
{
	for (size_t i = 0; i < count; i++)
		steps[i] = (struct ddb_step){.judge = ddb_judge_op,
		                             .op = &ops[i],
		                             .result = &results[i],
		                             .behind = ops[i].op->type == SHMETA_OP_ADD_SLICE && i > 0};
	return count > 0 ? ddb_steps(w, steps, count, err) : SHMETA_OK;
}

/* A topic whose name is not free yet: what is left of the one before it is taken away, and then it
 * is tried again. */
static enum shmeta_status create_again(struct ddb_writing *w, const struct backend_op *ops, size_t count,
                                       struct shmeta_result *results, struct backend_error *err)
{
	struct ddb_step step;
	enum shmeta_status status = SHMETA_OK;
	bool swept = false;

	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		if (ops[i].op->type != SHMETA_OP_CREATE_TOPIC || results[i].status != SHMETA_ERR_BUSY ||
		    ddb_now_ns() >= w->s->deadline_ns)
			continue;
		if (!swept)
			ddb_free_names(w);
		swept = true;
		status = do_steps(w, &ops[i], &step, 1, &results[i], err);
	}
	return status;
}

static enum shmeta_status engine_apply(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                       struct shmeta_result *results, const struct backend_sink *sink,
                                       struct backend_error *err)
{
	struct ddb_state *s = state;
	struct ddb_writing *w = calloc(1, sizeof *w);
	struct ddb_step *steps = calloc(count + 1, sizeof *steps);
	enum shmeta_status status = SHMETA_OK, told;
	size_t from = 0;

	if (s->options.read_only || w == NULL || steps == NULL) {
		free(w);
		free(steps);
		return backend_answer_all(
			ops, count, results, s->options.read_only ? SHMETA_ERR_READ_ONLY : SHMETA_ERR_NO_MEMORY,
			s->options.read_only ? "dynamodb: source.read_only is set" : "dynamodb: out of memory");
	}
	w->s = s;
	w->now_ms = now_ms;
	ddb_begin(s, DDB_FOR_WRITE);
	while (status == SHMETA_OK && from < count) {
		size_t end = from;

		while (end < count && !ddb_is_apart(ops[end].op))
			end++;
		if (end > from) {
			status = do_steps(w, ops + from, steps, end - from, results + from, err);
			if (status == SHMETA_OK)
				status = create_again(w, ops + from, end - from, results + from, err);
		} else {
			status = ddb_do_apart(w, &ops[end++], &results[from], err);
			/* Where it ended early it answers for itself. */
			if (status != SHMETA_OK && results[from].status == SHMETA_OK)
				(void)backend_answer_all(&ops[from], 1, &results[from],
				                         status == SHMETA_ERR_BUSY ? status : SHMETA_ERR_SOURCE,
				                         err->text);
			if (status == SHMETA_ERR_BUSY)
				status = SHMETA_OK;
		}
		from = end;
	}
	if (status != SHMETA_OK)
		(void)backend_answer_all(ops + from, count - from, results + from, status, err->text);
	ddb_log_close_gaps(s);
	s->sweep_due = true;
	told = ddb_log_tell(w->told, sink);
	ddb_writing_free(w);
	free(w);
	free(steps);
	return told != SHMETA_OK ? told : status == SHMETA_ERR_NO_MEMORY ? SHMETA_OK : status;
}

/* ---- admin ---- */

static enum shmeta_status engine_schema(void *state, const struct backend_options *options,
                                        enum backend_schema_verb verb, int dry_run, backend_schema_fn *say, void *arg,
                                        struct backend_error *err)
{
	struct ddb_state *s = state;
	enum shmeta_status status;

	if (!backend_options_copy(options, &s->options))
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	status = ddb_link_open(&s->link, options, err);
	return status == SHMETA_OK ? ddb_schema(s, verb, dry_run, say, arg, err) : status;
}

static const struct backend_source source = {.open = engine_open,
                                             .close = engine_close,
                                             .check = engine_check,
                                             .fingerprint = engine_fingerprint,
                                             .describe = engine_describe,
                                             .counters = engine_counters,
                                             .load = ddb_load,
                                             .fetch = ddb_fetch};
static const struct backend_feed feed = {
	.kind = engine_kind, .changes = engine_changes, .position = engine_position, .resume = engine_resume};
static const struct backend_writer writer = {.writable = engine_writable, .apply = engine_apply};
static const struct backend_admin admin = {.objects = ddb_objects,
                                           .epoch_end = ddb_epoch_end,
                                           .schema = engine_schema,
                                           .extras = ddb_extras,
                                           .restore = ddb_restore};

const struct backend_engine backend_dynamodb = {.name = "dynamodb",
                                                .state_bytes = sizeof(struct ddb_state),
                                                .uses = BACKEND_USES_ALLOW_INSECURE | BACKEND_USES_FEED_KEEP |
                                                        BACKEND_USES_UNITS,
                                                .limits = {.keys = KEYS,
                                                           .ops = OPS,
                                                           .unit_ops = UNIT_OPS,
                                                           .keep_least_s = DDB_KEEP_LEAST_S,
                                                           .moment = BACKEND_BRACKETED},
                                                .source = &source,
                                                .feed = &feed,
                                                .writer = &writer,
                                                .admin = &admin};
