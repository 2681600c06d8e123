/* SPDX-License-Identifier: Apache-2.0
 * Steps into transactions (ddb_write.h). */
#include "backends/dynamodb/ddb_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/op_errors.h"
#include "base/hash.h"

enum { TRIES = 24 };

/* ---- judging ---- */

/* The last state before the unit is kept: the group may have to be closed without it. */
static void touch(struct ddb_writing *w, struct ddb_entry *entry, enum ddb_touch kind)
{
	for (size_t i = 0; i < w->unit_count; i++)
		if (w->unit[i].entry == entry) {
			if (kind > w->unit[i].touch)
				w->unit[i].touch = kind;
			return;
		}
	if (w->unit_count == sizeof w->unit / sizeof *w->unit) {
		w->too_much = true;
		return;
	}
	w->unit[w->unit_count++] = (struct ddb_touched){entry, kind};
	entry->in_unit = true;
	entry->before = json_incref(entry->item);
}

void ddb_stable(const struct ddb_writing *w, const struct ddb_key *key, char ret[DDB_RANDOM_BYTES])
{
	uint64_t hash = hash_bytes(HASH_FIRST, w->seed, strlen(w->seed));

	hash = hash_bytes(hash_bytes(hash, key->pk, strlen(key->pk)), key->sk, strlen(key->sk));
	(void)snprintf(ret, DDB_RANDOM_BYTES, "%016" PRIx64, hash);
}

void ddb_check(struct ddb_writing *w, struct ddb_entry *entry, enum ddb_touch kind)
{
	touch(w, entry, kind);
}

void ddb_write(struct ddb_writing *w, struct ddb_entry *entry, json_t *item)
{
	char v[DDB_RANDOM_BYTES];

	touch(w, entry, DDB_WRITTEN);
	if (item != NULL) {
		ddb_random(v);
		ddb_put_t(item, "v", v);
	}
	json_decref(entry->item);
	entry->item = item;
}

void ddb_remove(struct ddb_writing *w, struct ddb_entry *entry)
{
	ddb_write(w, entry, NULL);
}

void ddb_tell(struct ddb_writing *w, const struct backend_key *key)
{
	(void)json_array_append_new(w->unit_keys, ddb_log_key(key));
}

/* ---- gathering ---- */

/* One item of a transaction: from what was sent to what it is to be. */
static json_t *item_of(const struct ddb_state *s, const struct ddb_entry *e, const json_t *to)
{
	json_t *body = json_pack("{s:s}", "TableName", s->link.uri.table[e->key.table]), *wrapped;
	const char *verb = "ConditionCheck";

	if (e->touch == DDB_WRITTEN && to != NULL) {
		verb = "Put";
		(void)json_object_set(body, "Item", (json_t *)to);
	} else {
		if (e->touch == DDB_WRITTEN && (e->blind || e->sent != NULL))
			verb = "Delete";
		(void)json_object_set_new(body, "Key", ddb_item_of(&e->key));
	}
	if (!e->blind) {
		const char *v = ddb_text(e->sent, "v");

		(void)json_object_set_new(body, "ConditionExpression",
		                          json_string(e->sent == NULL          ? "attribute_not_exists(pk)"
		                                      : e->touch == DDB_EXISTS ? "attribute_exists(pk)"
		                                                               : "v = :v"));
		if (e->sent != NULL && e->touch != DDB_EXISTS)
			(void)json_object_set_new(body, "ExpressionAttributeValues",
			                          json_pack("{s:{s:s}}", ":v", "S", v));
	}
	wrapped = json_object();
	(void)json_object_set_new(wrapped, verb, body);
	return wrapped;
}

static bool close_group(struct ddb_writing *w)
{
	struct ddb_group *groups, *g;

	if (w->gathered_count == 0)
		return true;
	groups = reallocarray(w->groups, w->group_count + 1, sizeof *groups);
	if (groups == NULL)
		return false;
	w->groups = groups;
	g = &groups[w->group_count++];
	*g = (struct ddb_group){.items = json_array(), .keys = w->gathered_keys, .blind = json_array()};
	w->gathered_keys = json_array();
	for (size_t i = 0; i < w->gathered_count; i++) {
		struct ddb_entry *e = w->gathered[i];
		json_t *to = e->in_unit ? e->before : e->item;
		bool written = e->touch == DDB_WRITTEN;

		(void)json_array_append_new(g->items, item_of(w->s, e, to));
		if (written && e->blind)
			(void)json_array_append_new(g->blind, ddb_key_text(&e->key));
		g->writes += written;
		if (e->writer > 0 && groups[e->writer - 1].wave >= g->wave)
			g->wave = groups[e->writer - 1].wave + 1;
		if (written && e->checker > 0 && groups[e->checker - 1].wave >= g->wave)
			g->wave = groups[e->checker - 1].wave + 1;
	}
	for (size_t i = 0; i < w->gathered_count; i++) {
		struct ddb_entry *e = w->gathered[i];

		if (e->touch == DDB_WRITTEN) {
			e->writer = w->group_count;
			json_decref(e->sent);
			e->sent = json_incref(e->in_unit ? e->before : e->item);
		} else {
			e->checker = w->group_count;
		}
		e->touch = DDB_NONE;
	}
	w->gathered_count = 0;
	return g->items != NULL;
}

static void drop_unit(struct ddb_writing *w, bool undo)
{
	for (size_t i = 0; i < w->unit_count; i++) {
		struct ddb_entry *e = w->unit[i].entry;

		if (undo) {
			json_decref(e->item);
			e->item = e->before;
		} else {
			json_decref(e->before);
		}
		e->before = NULL;
		e->in_unit = false;
	}
	w->unit_count = 0;
	(void)json_array_clear(w->unit_keys);
}

static bool waits_for_doubt(const struct ddb_writing *w)
{
	bool waits = false;

	for (size_t i = 0; i < w->unit_count && !waits; i++)
		waits = w->unit[i].touch == DDB_WRITTEN && ddb_log_holds(w->s, &w->unit[i].entry->key);
	return waits;
}

/* The unit that was judged joins the group, or begins the next one. */
static bool end_unit(struct ddb_writing *w, struct ddb_step *first, const struct ddb_step *end)
{
	size_t more = 0;

	for (size_t i = 0; i < w->unit_count; i++)
		more += w->unit[i].entry->touch == DDB_NONE;
	if (w->ledger.met_throttled) {
		drop_unit(w, true);
		for (struct ddb_step *step = first; step < end; step++)
			refuse(step->result, SHMETA_ERR_BUSY, "%s", w->kept_back);
	} else if (waits_for_doubt(w)) {
		drop_unit(w, true);
		for (struct ddb_step *step = first; step < end; step++)
			refuse(step->result, SHMETA_ERR_BUSY,
			       "what became of an earlier transaction that writes the same is not known yet");
	} else if (w->too_much || w->unit_count > DDB_UNIT_ITEMS) {
		drop_unit(w, true);
		for (struct ddb_step *step = first; step < end; step++)
			refuse(step->result, SHMETA_ERR_INVALID_ARGUMENT,
			       "it touches more than the %d items that one transaction can", DDB_UNIT_ITEMS);
	} else if ((first->single || w->gathered_count + more > DDB_UNIT_ITEMS) && !close_group(w)) {
		return false;
	}
	w->too_much = false;
	for (size_t i = 0; i < w->unit_count; i++) {
		struct ddb_entry *e = w->unit[i].entry;

		if (e->touch == DDB_NONE)
			w->gathered[w->gathered_count++] = e;
		if (w->unit[i].touch > e->touch)
			e->touch = w->unit[i].touch;
	}
	for (size_t i = 0; i < json_array_size(w->unit_keys); i++) {
		size_t n = json_array_size(w->gathered_keys);
		json_t *key = json_array_get(w->unit_keys, i);

		/* Steps of one operation tell the same key one after the other. */
		if (n == 0 || !json_equal(json_array_get(w->gathered_keys, n - 1), key))
			(void)json_array_append(w->gathered_keys, key);
	}
	for (struct ddb_step *step = first; step < end; step++) {
		step->group = w->group_count + (w->gathered_count > 0);
		step->alone = w->unit_count == 0;
	}
	drop_unit(w, false);
	return !first->single || close_group(w);
}

static void judge_all(struct ddb_writing *w, struct ddb_step *steps, size_t count)
{
	struct ddb_step *first = NULL;

	w->gathered_count = w->unit_count = 0;
	(void)json_array_clear(w->gathered_keys);
	(void)json_array_clear(w->unit_keys);
	ddb_ledger_rewind(&w->ledger);
	w->in_object = false;
	w->object = NULL;
	for (size_t i = 0; i <= count; i++) {
		if (i < count && steps[i].settled)
			continue;
		if ((i == count || !steps[i].behind) && first != NULL) {
			if (!end_unit(w, first, &steps[i]))
				w->ledger.no_memory = true;
			first = NULL;
		}
		if (i == count)
			break;
		if (first == NULL) {
			first = &steps[i];
			w->ledger.met_throttled = false;
		}
		memset(steps[i].result, 0, sizeof *steps[i].result);
		if (steps[i].op != NULL)
			steps[i].result->partition_id = steps[i].op->op->partition_id;
		steps[i].judge(w, &steps[i]);
	}
	if (!close_group(w))
		w->ledger.no_memory = true;
}

static void drop_groups(struct ddb_writing *w)
{
	for (size_t i = 0; i < w->group_count; i++) {
		json_decref(w->groups[i].items);
		json_decref(w->groups[i].keys);
		json_decref(w->groups[i].blind);
	}
	w->group_count = 0;
}

/* Judge until all that is asked for was read. */
static enum shmeta_status judge(struct ddb_writing *w, struct ddb_step *steps, size_t count, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;

	for (;;) {
		drop_groups(w);
		judge_all(w, steps, count);
		if (w->ledger.no_memory)
			return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
		if (!w->ledger.missing)
			return SHMETA_OK;
		w->ledger.tolerant = true;
		err->code = SHMETA_OK;
		status = ddb_ledger_read(w->s, &w->ledger, err);
		if (status != SHMETA_OK)
			return status;
		if (err->code == SHMETA_ERR_BUSY)
			(void)snprintf(w->kept_back, sizeof w->kept_back, "%.159s", err->text);
	}
}

/* ---- sending ---- */

static struct ddb_call call_of(struct ddb_writing *w, struct ddb_group *g)
{
	char a[DDB_RANDOM_BYTES], b[DDB_RANDOM_BYTES], token[40];
	json_t *items = json_copy(g->items), *entry;

	g->seq = ddb_log_take(w->s);
	entry = ddb_log_entry(w->s, g->seq, g->keys);
	(void)json_array_append_new(items,
	                            json_pack("{s:{s:s, s:o, s:s}}", "Put", "TableName", w->s->link.uri.table[DDB_LOG],
	                                      "Item", entry, "ConditionExpression", "attribute_not_exists(pk)"));
	ddb_random(a);
	ddb_random(b);
	(void)snprintf(token, sizeof token, "%s%s", a, b);
	w->s->transactions++;
	return (struct ddb_call){.target = "TransactWriteItems",
	                         .body = json_pack("{s:o, s:s, s:s}", "TransactItems", items, "ClientRequestToken",
	                                           token, "ReturnConsumedCapacity", "TOTAL")};
}

static bool log_entry_was_there(const struct ddb_call *call, size_t items)
{
	const json_t *reason = json_array_get(json_object_get(call->answer, "CancellationReasons"), items);
	const char *code = json_string_value(json_object_get(reason, "Code"));

	return code != NULL && strcmp(code, "ConditionalCheckFailed") == 0;
}

/* Was it refused for what it says? All other refusals are the account's, the table's or the
 * login's. */
static bool is_about_items(const struct ddb_call *call)
{
	static const char *const words[] = {"Validation", "ItemCollectionSizeLimitExceeded", "RequestEntityTooLarge",
	                                    "HTTP 413", "SerializationException"};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strstr(call->error, words[i]) != NULL)
			return true;
	return false;
}

/* What became of a transaction. OK; otherwise why its steps were not done, or ERR_OUTCOME_UNKNOWN.
 * CONTENDED: they are to be judged anew. */
static enum shmeta_status settle(struct ddb_writing *w, struct ddb_group *g, struct ddb_call *call,
                                 struct backend_error *err)
{
	enum shmeta_status status = SHMETA_ERR_CONTENDED;
	bool doubted = call->doubted || call->outcome == DDB_UNKNOWN ||
	               (call->outcome == DDB_CONDITION && log_entry_was_there(call, json_array_size(g->items)));

	if (call->outcome == DDB_DONE)
		return SHMETA_OK;
	if (call->outcome != DDB_CONDITION)
		status = ddb_call_fail(&w->s->link, call, "writing", err);
	else
		(void)backend_fail(err, status, "others change what it needs again and again");
	if (call->outcome == DDB_REFUSED && is_about_items(call))
		status = SHMETA_ERR_INVALID_ARGUMENT;
	if (!doubted) {
		ddb_log_give_back(w->s, g->seq);
		return status;
	}
	switch (ddb_log_settle(w->s, g->seq, err)) {
	case SHMETA_OK:
		return SHMETA_OK;
	case SHMETA_ABSENT:
		return status;
	default:
		ddb_log_doubt(w->s, g->seq, json_incref(g->keys), json_incref(g->blind));
		return SHMETA_ERR_OUTCOME_UNKNOWN;
	}
}

/* Steps of the group have this result, from now on. */
static void answer_group(struct ddb_step *steps, size_t count, size_t group, enum shmeta_status status, const char *why)
{
	for (size_t i = 0; i < count; i++)
		if (!steps[i].settled && steps[i].group == group && !steps[i].alone) {
			steps[i].settled = true;
			if (status != SHMETA_OK)
				refuse(steps[i].result, status, "%.159s", why);
		}
}

/* The transaction was refused, for the sake of one of its units or for the size of them all: each
 * of them is judged anew, for one of its own. false: it has only one. */
static bool take_apart(struct ddb_step *steps, size_t count, size_t group)
{
	size_t units = 0;

	for (size_t i = 0; i < count; i++)
		units += !steps[i].settled && steps[i].group == group && !steps[i].alone && !steps[i].behind;
	for (size_t i = 0; units > 1 && i < count; i++)
		steps[i].single |= !steps[i].settled && steps[i].group == group && !steps[i].alone;
	return units > 1;
}

/* A failure of some steps alone, and to be judged anew, are less than that the source is away. */
static int badness(enum shmeta_status status)
{
	return status == SHMETA_OK                    ? 0
	       : status == SHMETA_ERR_CONTENDED       ? 1
	       : status == SHMETA_ERR_BUSY            ? 2
	       : status == SHMETA_ERR_OUTCOME_UNKNOWN ? 3
	                                              : 4;
}

/* Too much of what was sent is in doubt: the groups of the wave from this one on are not. */
static enum shmeta_status keep_rest_back(const struct ddb_writing *w, struct ddb_step *steps, size_t count, size_t wave,
                                         size_t from, struct backend_error *err)
{
	(void)backend_fail(err, SHMETA_ERR_BUSY, "what became of earlier transactions is not known yet");
	for (size_t i = from; i < w->group_count; i++)
		if (w->groups[i].wave == wave)
			answer_group(steps, count, i + 1, SHMETA_ERR_BUSY, err->text);
	return SHMETA_ERR_BUSY;
}

/* Send the groups of a wave. Returns the worst that became of one. */
static enum shmeta_status send_wave(struct ddb_writing *w, struct ddb_step *steps, size_t count, size_t wave,
                                    struct backend_error *err)
{
	enum shmeta_status worst = SHMETA_OK;

	for (size_t next = 0; next < w->group_count;) {
		struct ddb_call calls[DDB_IN_FLIGHT_MAX];
		size_t of[DDB_IN_FLIGHT_MAX], n = 0, room = ddb_log_room(w->s);

		if (room == 0)
			return keep_rest_back(w, steps, count, wave, next, err);
		for (; n < room && next < w->group_count; next++) {
			struct ddb_group *g = &w->groups[next];

			if (g->wave != wave)
				continue;
			if (g->writes == 0) {
				g->done = true;
				answer_group(steps, count, next + 1, SHMETA_OK, "");
				continue;
			}
			calls[n] = call_of(w, g);
			of[n++] = next;
		}
		ddb_link_run(&w->s->link, calls, n, w->s->deadline_ns);
		for (size_t i = 0; i < n; i++) {
			struct ddb_group *g = &w->groups[of[i]];
			struct backend_error own = {.code = SHMETA_OK};
			enum shmeta_status status = settle(w, g, &calls[i], &own);

			if (status == SHMETA_ERR_BUSY && calls[i].throttled)
				ddb_was_in_vain(w->s);
			if ((status == SHMETA_ERR_INVALID_ARGUMENT || status == SHMETA_ERR_BUSY) &&
			    take_apart(steps, count, of[i] + 1))
				status = SHMETA_ERR_CONTENDED;
			g->done = status == SHMETA_OK;
			if (status == SHMETA_OK)
				(void)json_array_extend(w->told, g->keys);
			if (status != SHMETA_ERR_CONTENDED)
				answer_group(steps, count, of[i] + 1, status, own.text);
			if (badness(status) > badness(worst)) {
				worst = status;
				*err = own;
			}
			ddb_call_free(&calls[i]);
			json_decref(calls[i].body);
		}
	}
	return worst;
}

/* Steps that touched nothing were judged behind the groups before them: they hold where all of
 * those were done. */
static void settle_alone(struct ddb_writing *w, struct ddb_step *steps, size_t count)
{
	size_t good = 0;

	while (good < w->group_count && w->groups[good].done)
		good++;
	for (size_t i = 0; i < count; i++)
		if (!steps[i].settled && steps[i].alone && steps[i].group <= good)
			steps[i].settled = true;
}

static enum shmeta_status send_all(struct ddb_writing *w, struct ddb_step *steps, size_t count,
                                   struct backend_error *err)
{
	enum shmeta_status worst = SHMETA_OK;
	size_t last = 0;

	for (size_t i = 0; i < w->group_count; i++)
		last = w->groups[i].wave > last ? w->groups[i].wave : last;
	for (size_t wave = 0; worst == SHMETA_OK && wave <= last && w->group_count > 0; wave++)
		worst = send_wave(w, steps, count, wave, err);
	settle_alone(w, steps, count);
	return worst;
}

static bool begin(struct ddb_writing *w)
{
	ddb_random(w->seed);
	if (w->told == NULL)
		w->told = json_array();
	if (w->unit_keys == NULL)
		w->unit_keys = json_array();
	if (w->gathered_keys == NULL)
		w->gathered_keys = json_array();
	return w->told != NULL && w->unit_keys != NULL && w->gathered_keys != NULL;
}

void ddb_writing_free(struct ddb_writing *w)
{
	drop_groups(w);
	free(w->groups);
	ddb_ledger_free(&w->ledger);
	json_decref(w->told);
	json_decref(w->unit_keys);
	json_decref(w->gathered_keys);
	memset(w, 0, sizeof *w);
}

static void answer_rest(struct ddb_step *steps, size_t count, enum shmeta_status status, const char *why)
{
	for (size_t i = 0; i < count; i++)
		if (!steps[i].settled) {
			memset(steps[i].result, 0, sizeof *steps[i].result);
			refuse(steps[i].result, status, "%.159s", why);
			steps[i].settled = true;
		}
}

/* Is it about some of the steps alone? */
static bool is_of_steps(enum shmeta_status status)
{
	return status == SHMETA_ERR_CONTENDED || status == SHMETA_ERR_BUSY || status == SHMETA_ERR_INVALID_ARGUMENT ||
	       status == SHMETA_ERR_OUTCOME_UNKNOWN;
}

/* A part of the time goes to what is throttled, where others may be done without it; none where
 * that was in vain a moment ago. How many steps are left. */
static size_t be_patient(struct ddb_writing *w, const struct ddb_step *steps, size_t count)
{
	uint64_t now_ns = ddb_now_ns();
	size_t left = 0, units = 0;

	for (size_t i = 0; i < count; i++) {
		left += !steps[i].settled;
		units += !steps[i].settled && !steps[i].behind;
	}
	w->s->link.patience_ns = units <= 1 ? 0 : now_ns < w->s->hot_ns ? now_ns : w->s->patience_ns;
	return left;
}

enum shmeta_status ddb_steps(struct ddb_writing *w, struct ddb_step *steps, size_t count, struct backend_error *err)
{
	enum shmeta_status status = begin(w) ? ddb_log_register(w->s, err)
	                                     : backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");

	for (unsigned int tries = 1; status == SHMETA_OK; tries++) {
		size_t left;

		(void)be_patient(w, steps, count);
		status = judge(w, steps, count, err);
		if (status == SHMETA_OK && w->group_count > 0)
			status = ddb_log_announce(w->s, w->group_count, err);
		if (status == SHMETA_OK)
			status = send_all(w, steps, count, err);
		left = be_patient(w, steps, count);
		ddb_ledger_free(&w->ledger);
		if (left == 0 && is_of_steps(status))
			status = SHMETA_OK;
		if (left == 0)
			break;
		if (!is_of_steps(status))
			break;
		if (tries == TRIES || ddb_now_ns() >= w->s->deadline_ns) {
			answer_rest(steps, count, SHMETA_ERR_BUSY, err->text);
			status = SHMETA_OK;
			break;
		}
		ddb_pause(tries, w->s->deadline_ns);
		status = SHMETA_OK;
	}
	w->s->link.patience_ns = 0;
	if (status != SHMETA_OK)
		answer_rest(steps, count, status, err->text);
	return status == SHMETA_ERR_BUSY ? SHMETA_OK : status;
}
