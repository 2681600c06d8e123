/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: operations.
 *
 * One transaction for all of them. SQLite takes a failed statement back by itself, so an operation
 * of one statement needs nothing more; one of several runs in a savepoint, and where the
 * application has triggers every one does, because RAISE(FAIL) leaves behind what its statement did
 * before. Watermarks that come with segments are gathered by partition and written once, before
 * anything else looks at the partition and at the end.
 *
 * A batch that a trigger rolled back, or that COMMIT refused, is done again in parts until the
 * culprit is alone: each part is a transaction of its own, in the order of the operations.
 *
 * No trigger runs for what we write, unless the file has triggers of others (sqlite_state.h): a
 * trigger costs each row a program of its own. What ours would write to the change log, for other
 * daemons on the file and for this one's successor, is written once for each place and batch, and
 * what they would do about slices is done by statements. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/leader_epochs.h"
#include "backends/sqlite/sqlite_connection.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_feed.h"
#include "backends/sqlite/sqlite_files.h"
#include "backends/sqlite/sqlite_wake.h"
#include "backends/sqlite/sqlite_write.h"
#include "backends/sqlite/sqlite_writing.h"

/* ---- one operation ---- */

static void one(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	if (!w->state->shape.organization && !str_equal(op->tenant, rows_str(SHMETA_DEFAULT_TENANT))) {
		refuse_tenant(op, r);
		return;
	}
	switch (op->op->type) {
	case SHMETA_OP_CREATE_TOPIC:
		sqlite_write_create_topic(w, op, r);
		break;
	case SHMETA_OP_DELETE_TOPIC:
		sqlite_write_delete_topic(w, op, r);
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		sqlite_write_update_watermark(w, op, r);
		break;
	case SHMETA_OP_ADD_SEGMENT:
		sqlite_write_add_segment(w, op, &op->op->u.segment, r);
		break;
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		sqlite_write_add_segment(w, op, &op->op->u.segment, r);
		if (r->status == SHMETA_OK && w->failed == SQLITE_OK)
			sqlite_write_gather_watermark(w, op, (int64_t)op->op->u.segment.end_offset + 1);
		break;
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		sqlite_write_delete_before(w, op, r);
		break;
	case SHMETA_OP_ENSURE_GROUP:
		sqlite_write_ensure_group(w, op, op->op->group_id, r);
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		sqlite_write_commit_offset(w, op, r);
		break;
	case SHMETA_OP_DELETE_GROUP:
		sqlite_write_delete_group(w, op);
		break;
	case SHMETA_OP_REGISTER_AGENT:
		sqlite_write_register_agent(w, op, r);
		break;
	case SHMETA_OP_DEREGISTER_AGENT:
		sqlite_write_deregister_agent(w, op);
		break;
	case SHMETA_OP_ACQUIRE_LEASE:
		sqlite_write_acquire_lease(w, op, r);
		break;
	case SHMETA_OP_RELEASE_LEASE:
		sqlite_write_release_lease(w, op, r);
		break;
	case SHMETA_OP_OFFER_LEASE:
		sqlite_write_offer_lease(w, op, r);
		break;
	case SHMETA_OP_ACCEPT_LEASE:
		sqlite_write_answer_offer(w, op, "pending", "accepted", false, r);
		break;
	case SHMETA_OP_COMPLETE_LEASE:
		sqlite_write_answer_offer(w, op, "accepted", "completed", true, r);
		break;
	case SHMETA_OP_REJECT_LEASE:
		sqlite_write_answer_offer(w, op, "pending", "rejected", false, r);
		break;
	case SHMETA_OP_COMMIT_OBJECT:
		sqlite_write_commit_object(w, op, r);
		break;
	case SHMETA_OP_ADD_SLICE:
		sqlite_write_add_slice(w, op, r);
		break;
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		sqlite_write_confirm_deleted(w, op, r);
		break;
	case SHMETA_OP_RENEW_AGENT:
		sqlite_write_renew_agent(w, op, r);
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		sqlite_write_replace(w, op, r);
		break;
	case SHMETA_OP_TYPES:
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "no such operation");
		break;
	}
	if (op->op->type != SHMETA_OP_COMMIT_OBJECT && op->op->type != SHMETA_OP_ADD_SLICE)
		w->object_op = NULL;
}

/* Operations that write more than one statement, and must be taken back whole. */
static bool needs_savepoint(enum shmeta_op_type type)
{
	return type == SHMETA_OP_CREATE_TOPIC || type == SHMETA_OP_DELETE_TOPIC || type == SHMETA_OP_COMMIT_OFFSET ||
	       type == SHMETA_OP_DEREGISTER_AGENT || type == SHMETA_OP_ACQUIRE_LEASE ||
	       type == SHMETA_OP_RELEASE_LEASE || type == SHMETA_OP_COMPLETE_LEASE || type == SHMETA_OP_ADD_SLICE ||
	       type == SHMETA_OP_DELETE_SEGMENTS_BEFORE || type == SHMETA_OP_RENEW_AGENT ||
	       type == SHMETA_OP_REPLACE_SEGMENTS;
}

static bool only_adds(enum shmeta_op_type type)
{
	return type == SHMETA_OP_ADD_SEGMENT || type == SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK ||
	       type == SHMETA_OP_ADD_SLICE || type == SHMETA_OP_COMMIT_OBJECT;
}

static bool simple(struct writing *w, enum sqlite_statement which)
{
	sqlite3_stmt *q = sqlite_write_take(w, which);
	int rc = q != NULL ? sqlite_write_run(w, q) : SQLITE_ERROR;

	return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static void run_one(struct writing *w, size_t at)
{
	const struct backend_op *op = &w->ops[at];
	struct shmeta_result *r = &w->results[at];
	bool save = needs_savepoint(op->op->type) || w->state->shape.triggers;

	if (w->left_out != NULL && w->left_out[at])
		return;
	memset(r, 0, sizeof *r);
	r->partition_id = op->op->partition_id;
	w->culprit = at;
	if (!only_adds(op->op->type))
		sqlite_write_flush_watermarks(w);
	if (w->failed != SQLITE_OK || (save && !simple(w, ST_W_SAVE)))
		return;
	w->r = r;
	one(w, op, r);
	/* A watermark that a trigger may refuse is written while the segment can still be taken
	 * back. */
	if (w->state->shape.triggers && r->status == SHMETA_OK)
		sqlite_write_flush_watermarks(w);
	w->r = NULL;
	if (w->failed != SQLITE_OK)
		return;
	if (save && r->status != SHMETA_OK)
		(void)simple(w, ST_W_UNDO);
	if (save)
		(void)simple(w, ST_W_RELEASE);
	if (w->failed != SQLITE_OK || r->status != SHMETA_OK)
		return;
	if (only_adds(op->op->type) && w->state->shape.own && leader_epoch_writes(op->op))
		sqlite_write_gather_epoch(w, op);
	sqlite_write_note_change(w, op, r);
}

static bool any_done(const struct writing *w, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (w->results[i].status == SHMETA_OK)
			return true;
	return false;
}

int sqlite_begin_write(struct sqlite_state *state, enum shmeta_status *ret_status, struct backend_error *err)
{
	for (int i = 0; *ret_status == SHMETA_OK && i < 4; i++) {
		int64_t version = 0;
		int rc;

		if (sqlite3_get_autocommit(state->db) == 0)
			sqlite_end(state);
		rc = sqlite_run(state, ST_BEGIN_IMMEDIATE);
		if (rc != SQLITE_OK)
			return rc;
		state->counters.transactions++;
		rc = sqlite_number(state, ST_SCHEMA_VERSION, &version);
		if (rc != SQLITE_OK || version == state->schema_version)
			return rc;
		(void)sqlite_run(state, ST_ROLLBACK);
		*ret_status = sqlite_check_schema(state, err);
	}
	if (*ret_status == SHMETA_OK)
		*ret_status = backend_fail(err, SHMETA_ERR_SOURCE, "sqlite: writing to %s: its schema keeps changing",
		                           state->path);
	return SQLITE_OK;
}

/* The operations in [from, to), in one transaction. OK: all that went well is committed, or
 * w->failed says, by w->blame, that nothing is, and why that is some operation's doing. Otherwise
 * nothing is, and it is the source's. */
static enum shmeta_status attempt(struct writing *w, size_t from, size_t to)
{
	struct sqlite_state *state = w->state;
	enum shmeta_status status = SHMETA_OK;
	bool committed = false;
	int rc;

	memset(w->slot, 0, sizeof w->slot);
	w->place_count = w->marks = 0;
	w->classes = w->named = 0;
	w->log_first = w->log_last = 0;
	w->failed = SQLITE_OK;
	w->blame = WRITING_SOURCE;
	w->r = NULL;
	w->object = -1;
	w->object_op = NULL;
	rc = sqlite_begin_write(state, &status, w->err);
	if (status != SHMETA_OK)
		return status;
	w->logs = state->shape.feed && !state->shape.triggers;
	for (size_t i = from; rc == SQLITE_OK && i < to && w->failed == SQLITE_OK; i++)
		run_one(w, i);
	if (rc == SQLITE_OK && w->failed == SQLITE_OK)
		sqlite_write_flush_log(w);
	if (rc == SQLITE_OK)
		rc = w->failed;
	if (rc == SQLITE_OK && any_done(w, from, to)) {
		status = sqlite_files_check(state, w->err);
		rc = status == SHMETA_OK ? sqlite_run(state, ST_COMMIT) : SQLITE_OK;
		committed = status == SHMETA_OK && rc == SQLITE_OK;
		if ((rc & 0xff) == SQLITE_CONSTRAINT) { /* one that is deferred */
			(void)snprintf(w->said, sizeof w->said, "the source refuses it at the commit: %s",
			               sqlite3_errmsg(state->db));
			w->failed = rc;
			w->blame = WRITING_DEFERRED;
		}
	}
	if (committed) {
		/* What the application's triggers did in our transaction is told like anybody
		 * else's changes. */
		if (w->logs && w->log_first > 0)
			sqlite_feed_own(state, w->log_first - 1, w->log_last, w->log_token);
		state->look |= state->shape.foreign || (state->shape.feed && state->shape.triggers);
		state->wrote = true;
		/* Files that were exchanged just now may have taken the commit with them. */
		if (sqlite_files_check(state, w->err) != SHMETA_OK)
			status = SHMETA_ERR_OUTCOME_UNKNOWN;
		return status;
	}
	/* SQLite's commit is not ambiguous: what it did not say is done is taken back. */
	if (status == SHMETA_OK && rc != SQLITE_OK && (w->failed == SQLITE_OK || w->blame == WRITING_SOURCE))
		status = sqlite_fail_write(state, rc, "writing to", w->err);
	if (sqlite3_get_autocommit(state->db) == 0)
		(void)sqlite_run(state, ST_ROLLBACK);
	return status;
}

/* ---- parts of a batch ---- */

/* The end of the unit that begins at `at`: an object and its slices, or a single operation. */
static size_t unit_end(const struct writing *w, size_t at, size_t count)
{
	size_t end = at + 1;

	while (w->ops[at].op->type == SHMETA_OP_COMMIT_OBJECT && end < count &&
	       w->ops[end].op->type == SHMETA_OP_ADD_SLICE)
		end++;
	return end;
}

/* The last beginning of a unit in (from, most]; from, where there is none. */
static size_t unit_before(const struct writing *w, size_t from, size_t most, size_t count)
{
	size_t begin = from;

	for (size_t at = from; at <= most && at < count; at = unit_end(w, at, count))
		begin = at;
	return begin;
}

/* Where a part that begins at `at` and should end at `most` ends: it holds whole units, and one at
 * least. */
static size_t part_end(const struct writing *w, size_t at, size_t most, size_t count)
{
	size_t end = unit_before(w, at, most, count);

	return end > at ? end : unit_end(w, at, count);
}

/* Nothing of the unit is committed: what went well before the culprit did not. */
static void refuse_unit(struct writing *w, size_t from, size_t to)
{
	const struct shmeta_result *culprit = &w->results[w->culprit];
	const char *sentence = w->blame == WRITING_DEFERRED ? w->said : culprit->text;
	enum shmeta_status code =
		w->blame == WRITING_DEFERRED || culprit->status == SHMETA_OK
			? sqlite_is_damage(w->failed) ? SHMETA_ERR_SOURCE : SHMETA_ERR_INVALID_ARGUMENT
			: culprit->status;

	for (size_t i = from; i < to; i++)
		if (i > w->culprit || w->results[i].status == SHMETA_OK) {
			char said[sizeof w->said];

			(void)snprintf(said, sizeof said, "%s", sentence);
			memset(&w->results[i], 0, sizeof w->results[i]);
			w->results[i].partition_id = w->ops[i].op->partition_id;
			refuse(&w->results[i], code, "%s", said);
		}
}

/* A slice that rolls its unit's transaction back is refused like one that does not: alone. false:
 * it is no slice, or no memory. */
static bool leave_out(struct writing *w, size_t from, size_t count)
{
	if (w->blame != WRITING_ROLLED_BACK || w->culprit == from)
		return false;
	if (w->left_out == NULL)
		w->left_out = calloc(count, sizeof *w->left_out);
	if (w->left_out == NULL)
		return false;
	w->left_out[w->culprit] = true;
	return true;
}

/* A page is damaged, or this connection's files are mixed up: a new one shows which. true: it is
 * made, and nothing of the part that failed was committed. */
static bool connected_anew(struct writing *w)
{
	struct sqlite_state *state = w->state;

	if (!sqlite_is_damage(w->failed) || w->blame != WRITING_SOURCE || w->anew)
		return false;
	w->anew = true;
	state->damaged_in = state->counters.reconnects + 2;
	state->renew = true;
	return sqlite_ensure_told(state, w->err) == SHMETA_OK && !state->read_only;
}

/* All of them, in as few transactions as the source lets it be. *ret_done: those before it are done
 * with. */
static enum shmeta_status all(struct writing *w, size_t count, size_t *ret_done)
{
	size_t at = 0, to = count;

	while (at < count) {
		enum shmeta_status status = attempt(w, at, to);

		*ret_done = at;
		if (status == SHMETA_ERR_SOURCE && connected_anew(w))
			continue;
		if (status != SHMETA_OK)
			return status;
		if (w->failed == SQLITE_OK) {
			size_t size = to - at;

			at = to;
			to = count - at > 2 * size ? part_end(w, at, at + 2 * size, count) : count;
			continue;
		}
		if (to == unit_end(w, at, count) && leave_out(w, at, count))
			continue; /* the others of the unit, without it */
		if (to == unit_end(w, at, count)) {
			refuse_unit(w, at, to);
			at = to;
			to = count;
		} else if (w->blame == WRITING_ROLLED_BACK && unit_before(w, at, w->culprit, count) > at) {
			/* those before the culprit; then it is the first */
			to = unit_before(w, at, w->culprit, count);
		} else if (w->blame == WRITING_ROLLED_BACK) {
			to = unit_end(w, at, count);
		} else {
			to = part_end(w, at, at + (to - at) / 2, count);
		}
	}
	*ret_done = count;
	return SHMETA_OK;
}

/* *ret_done: what became of those before it is known. Not OK: all others are not done, or of
 * unknown outcome. */
static enum shmeta_status write_all(struct sqlite_state *state, const struct backend_op *ops, size_t count,
                                    int64_t now_ms, struct shmeta_result *results, size_t *ret_done,
                                    struct backend_error *err)
{
	enum shmeta_status status = sqlite_ensure_told(state, err);
	struct writing *w;

	if (status != SHMETA_OK)
		return status;
	if (state->read_only)
		return backend_fail(err, SHMETA_ERR_READ_ONLY, "sqlite: %s may not be written by this process",
		                    state->path);
	if (state->writing == NULL)
		state->writing = calloc(1, sizeof *w);
	w = state->writing;
	if (w == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "sqlite: writing to %s: out of memory", state->path);
	/* The places, which are large, are only counted anew. */
	memset(w, 0, offsetof(struct writing, places));
	w->state = state;
	w->ops = ops;
	w->results = results;
	w->now_ms = now_ms;
	w->err = err;
	sqlite_checkpoint(state, SQLITE_CHECKPOINT_PAGES_MAX); /* nobody has polled for long */
	sqlite_suppress_wakeups(state);
	status = all(w, count, ret_done);
	free(w->left_out);
	w->left_out = NULL;
	if (status == SHMETA_OK && state->cramped)
		state->objects = 0; /* there is room again */
	if (w->made_slices && !state->shape.slices && state->db != NULL && sqlite_rewrite(state) != SQLITE_OK)
		state->objects = 0; /* looked at anew before the next call */
	return status;
}

enum shmeta_status sqlite_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err)
{
	struct sqlite_state *state = data;
	struct backend_error own = {.code = SHMETA_OK}, *why = err != NULL ? err : &own;
	struct writing *w;
	size_t done = 0;
	enum shmeta_status status = write_all(state, ops, count, now_ms, results, &done, why), told;

	if (status != SHMETA_OK)
		status = backend_answer_all(ops + done, count - done, results + done, status, why->text);
	told = backend_tell_done(ops, count, results, sink);
	w = state->writing;
	if (w != NULL)
		told = renewed_tell(&w->renewed, told, sink);
	return status != SHMETA_OK ? status : told;
}
