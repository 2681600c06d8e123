/* SPDX-License-Identifier: Apache-2.0
 * The log as its writer sees it (ddb_log.h). */
#include "backends/dynamodb/ddb_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/dynamodb/ddb_state.h"

/* A signed request is refused after 15 minutes: entries live longer, or one that comes late would
 * succeed where its void entry was. FOLLOWED_S: no follower resumes after a longer time
 * (feed.keep_s is at most a week); it is to find every writer that wrote meanwhile. */
enum { SPARE_S = 3600, AHEAD = 256, BEAT_S = 600, FOLLOWED_S = 7 * 86400 };
#define TRY_AGAIN_NS UINT64_C(1000000000) /* between two questions what became of transactions */

static void forget_doubt(struct ddb_doubt *doubt)
{
	json_decref(doubt->keys);
	json_decref(doubt->blind);
}

void ddb_log_free(struct ddb_log *log)
{
	for (size_t i = 0; i < log->doubt_count; i++)
		forget_doubt(&log->doubts[i]);
	free(log->doubts);
	free(log->unused);
	free(log->followed);
	memset(log, 0, sizeof *log);
}

int64_t ddb_log_keep_s(const struct ddb_state *s)
{
	return s->options.feed_keep_s > DDB_KEEP_LEAST_S ? s->options.feed_keep_s : DDB_KEEP_LEAST_S;
}

int64_t ddb_log_now_ms(const struct ddb_state *s)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return ((int64_t)t.tv_sec + s->link.skew_s) * 1000 + t.tv_nsec / 1000000;
}

/* ---- the writer's item ---- */

static enum shmeta_status say_announced(struct ddb_state *s, int64_t announced, struct backend_error *err)
{
	struct ddb_key key;
	struct ddb_call call = {.target = "PutItem"};
	enum shmeta_status status = SHMETA_OK;
	json_t *item;

	ddb_key_writer(&key, s->log.writer);
	item = ddb_item_of(&key);
	ddb_put_n(item, "seq", announced);
	ddb_put_n(item, "keep", ddb_log_keep_s(s));
	ddb_put_n(item, "ttl", ddb_log_now_ms(s) / 1000 + FOLLOWED_S + 2 * (ddb_log_keep_s(s) + SPARE_S));
	call.body = json_pack("{s:s, s:o, s:s}", "TableName", s->link.uri.table[DDB_WRITERS], "Item", item,
	                      "ReturnConsumedCapacity", "TOTAL");
	ddb_link_run(&s->link, &call, 1, s->deadline_ns);
	if (call.outcome != DDB_DONE)
		status = ddb_call_fail(&s->link, &call, "saying how far the log goes", err);
	s->log.beat_ms = ddb_log_now_ms(s);
	if (status == SHMETA_OK) {
		s->log.announced = announced;
		s->log.said_ms = s->log.beat_ms;
	}
	json_decref(call.body);
	ddb_call_free(&call);
	return status;
}

/* The clock of the wall: the other one stands still while the machine sleeps. */
static bool is_older(const struct ddb_state *s, int64_t when_ms, int64_t seconds)
{
	return llabs(ddb_log_now_ms(s) - when_ms) > seconds * 1000;
}

enum shmeta_status ddb_log_announce(struct ddb_state *s, size_t more, struct backend_error *err)
{
	/* After a long pause the item may be gone. */
	if ((int64_t)(s->log.next + more) <= s->log.announced + 1 && !is_older(s, s->log.said_ms, 2 * BEAT_S))
		return SHMETA_OK;
	return say_announced(s, (int64_t)(s->log.next + more + AHEAD), err);
}

enum shmeta_status ddb_log_rest(struct ddb_state *s, struct backend_error *err)
{
	struct ddb_log *log = &s->log;
	bool idle = log->noticed_next == log->next;

	log->noticed_next = log->next;
	if (log->writer[0] == '\0' || log->announced < 0)
		return SHMETA_OK;
	if ((idle && log->announced >= (int64_t)log->next) || is_older(s, log->beat_ms, BEAT_S))
		return say_announced(s, idle ? (int64_t)log->next - 1 : log->announced, err);
	return SHMETA_OK;
}

/* ---- entries ---- */

uint64_t ddb_log_take(struct ddb_state *s)
{
	return s->log.unused_count > 0 ? s->log.unused[--s->log.unused_count] : s->log.next++;
}

void ddb_log_give_back(struct ddb_state *s, uint64_t seq)
{
	uint64_t *more = reallocarray(s->log.unused, s->log.unused_count + 1, sizeof *more);

	if (more == NULL)
		return; /* followers find the gap, and close it */
	s->log.unused = more;
	more[s->log.unused_count++] = seq;
}

static json_t *entry_of(struct ddb_state *s, const char *writer, uint64_t seq)
{
	struct ddb_key key;
	json_t *item;
	int64_t now_s = ddb_log_now_ms(s) / 1000;

	ddb_key_log(&key, writer, seq);
	item = ddb_item_of(&key);
	ddb_put_n(item, "at", now_s * 1000);
	ddb_put_n(item, "ttl", now_s + ddb_log_keep_s(s) + SPARE_S);
	return item;
}

json_t *ddb_log_entry(struct ddb_state *s, uint64_t seq, json_t *keys)
{
	json_t *item = entry_of(s, s->log.writer, seq);

	(void)json_object_set_new(item, "ks", json_pack("{s:O}", "L", keys));
	return item;
}

static json_t *void_body(struct ddb_state *s, const char *writer, uint64_t seq)
{
	json_t *item = entry_of(s, writer, seq);

	ddb_put_n(item, "void", 1);
	return json_pack("{s:s, s:o, s:s, s:s, s:s}", "TableName", s->link.uri.table[DDB_LOG], "Item", item,
	                 "ConditionExpression", "attribute_not_exists(pk)", "ReturnValuesOnConditionCheckFailure",
	                 "ALL_OLD", "ReturnConsumedCapacity", "TOTAL");
}

/* What became of a transaction of which it was said that it never happened. OK, ABSENT, or the
 * call's failure. */
static enum shmeta_status outcome_of(const struct ddb_state *s, const struct ddb_call *call, struct backend_error *err)
{
	if (call->outcome == DDB_DONE)
		return SHMETA_ABSENT;
	if (call->outcome == DDB_CONDITION)
		return ddb_has(json_object_get(call->answer, "Item"), "void") ? SHMETA_ABSENT : SHMETA_OK;
	return ddb_call_fail(&s->link, call, "learning what became of a transaction", err);
}

enum shmeta_status ddb_log_settle_of(struct ddb_state *s, const char *writer, uint64_t seq, struct backend_error *err)
{
	struct ddb_call call = {.target = "PutItem", .body = void_body(s, writer, seq)};
	enum shmeta_status status;

	ddb_link_run(&s->link, &call, 1, s->settle_ns);
	status = outcome_of(s, &call, err);
	if (status == SHMETA_ERR_CONFIG)
		status = SHMETA_ERR_SOURCE;
	json_decref(call.body);
	ddb_call_free(&call);
	return status;
}

enum shmeta_status ddb_log_settle(struct ddb_state *s, uint64_t seq, struct backend_error *err)
{
	return ddb_log_settle_of(s, s->log.writer, seq, err);
}

/* ---- transactions in doubt ---- */

void ddb_log_doubt(struct ddb_state *s, uint64_t seq, json_t *keys, json_t *blind)
{
	struct ddb_doubt doubt = {.seq = seq, .since_ns = ddb_now_ns(), .keys = keys, .blind = blind};
	struct ddb_doubt *more = reallocarray(s->log.doubts, s->log.doubt_count + 1, sizeof *more);

	if (more == NULL) { /* the next pass over everything finds it */
		forget_doubt(&doubt);
		return;
	}
	s->log.doubts = more;
	more[s->log.doubt_count++] = doubt;
}

/* Asked once, and not for longer than others wait for what is throttled: they do not depend on
 * it. */
static void ask_for_doubts(struct ddb_state *s, struct backend_error *err)
{
	struct ddb_log *log = &s->log;
	struct ddb_link *link = &s->link;
	struct ddb_call calls[DDB_IN_FLIGHT_MAX];
	struct ddb_doubt *of[DDB_IN_FLIGHT_MAX];
	uint64_t patience_ns = link->patience_ns;
	bool in_haste = link->in_haste;
	size_t n = 0;

	for (size_t i = 0; i < log->doubt_count && n < DDB_IN_FLIGHT_MAX; i++)
		if (!log->doubts[i].known) {
			of[n] = &log->doubts[i];
			calls[n++] = (struct ddb_call){.target = "PutItem",
			                               .body = void_body(s, log->writer, log->doubts[i].seq)};
		}
	if (n == 0)
		return;
	link->patience_ns = ddb_now_ns();
	link->in_haste = true;
	ddb_link_run(link, calls, n, s->patience_ns);
	link->patience_ns = patience_ns;
	link->in_haste = in_haste;
	for (size_t i = 0; i < n; i++) {
		enum shmeta_status status = outcome_of(s, &calls[i], err);

		of[i]->known = status == SHMETA_OK || status == SHMETA_ABSENT;
		of[i]->done = status == SHMETA_OK;
		json_decref(calls[i].body);
		ddb_call_free(&calls[i]);
	}
	log->tried_ns = ddb_now_ns();
}

size_t ddb_log_room(const struct ddb_state *s)
{
	const struct ddb_log *log = &s->log;
	size_t room = DDB_IN_FLIGHT_MAX;

	for (size_t i = 0; i < log->doubt_count && room > 0; i++)
		if (!log->doubts[i].known)
			room = log->doubts[i].seq + DDB_WINDOW - DDB_IN_FLIGHT_MAX <= log->next ? 0 : room - 1;
	return room;
}

bool ddb_log_holds(const struct ddb_state *s, const struct ddb_key *key)
{
	json_t *text = s->log.doubt_count > 0 ? ddb_key_text(key) : NULL, *other;
	bool holds = false;
	size_t k;

	for (size_t i = 0; i < s->log.doubt_count && text != NULL; i++)
		json_array_foreach(s->log.doubts[i].blind, k, other) holds |=
			!s->log.doubts[i].known && json_equal(text, other);
	json_decref(text);
	return holds;
}

enum shmeta_status ddb_log_register(struct ddb_state *s, struct backend_error *err)
{
	if (s->log.writer[0] == '\0') {
		ddb_random(s->log.writer);
		s->log.announced = -1;
	}
	if (s->log.doubt_count > 0 && (ddb_log_room(s) == 0 || ddb_now_ns() - s->log.tried_ns >= TRY_AGAIN_NS))
		ask_for_doubts(s, err);
	return ddb_log_room(s) > 0 ? SHMETA_OK
	                           : backend_fail(err, SHMETA_ERR_BUSY,
	                                          "dynamodb: what became of earlier transactions is not known yet");
}

enum shmeta_status ddb_log_settle_doubts(struct ddb_state *s, const struct backend_sink *sink, int *changed,
                                         uint64_t *ret_lag_ns)
{
	struct ddb_log *log = &s->log;
	struct backend_error err;
	enum shmeta_status status = SHMETA_OK;
	size_t kept = 0;

	*ret_lag_ns = 0;
	ask_for_doubts(s, &err);
	for (size_t i = 0; i < log->doubt_count; i++) {
		struct ddb_doubt doubt = log->doubts[i];
		uint64_t since_ns = ddb_now_ns() - doubt.since_ns + s->options.timeout_ms * UINT64_C(1000000);

		if (doubt.known && doubt.done && status == SHMETA_OK) {
			status = ddb_log_tell(doubt.keys, sink);
			*changed = 1;
		}
		if (doubt.known && status == SHMETA_OK) {
			forget_doubt(&doubt);
			continue;
		}
		*ret_lag_ns = !doubt.known && since_ns > *ret_lag_ns ? since_ns : *ret_lag_ns;
		log->doubts[kept++] = doubt;
	}
	log->doubt_count = kept;
	return status;
}

void ddb_log_close_gaps(struct ddb_state *s)
{
	enum { MOST = 16 };
	struct ddb_log *log = &s->log;
	struct ddb_call calls[MOST];
	size_t n = 0;

	/* The newest need no entry. */
	for (bool found = true; found;) {
		found = false;
		for (size_t i = 0; i < log->unused_count; i++)
			if (log->unused[i] + 1 == log->next) {
				log->next--;
				log->unused[i] = log->unused[--log->unused_count];
				found = true;
			}
	}
	for (; n < MOST && n < log->unused_count; n++)
		calls[n] = (struct ddb_call){.target = "PutItem", .body = void_body(s, log->writer, log->unused[n])};
	ddb_link_run(&s->link, calls, n, s->settle_ns);
	for (size_t i = n; i-- > 0;) {
		if (calls[i].outcome == DDB_DONE || calls[i].outcome == DDB_CONDITION)
			log->unused[i] = log->unused[--log->unused_count];
		json_decref(calls[i].body);
		ddb_call_free(&calls[i]);
	}
}

/* ---- keys ---- */

static const char letters[SHMETA_CLASS_COUNT + 1] = "TPSZALO";

json_t *ddb_log_key(const struct backend_key *key)
{
	char text[3 * SHMETA_STRING_MAX];
	int n = snprintf(text, sizeof text,
	                 "%c" DDB_US "%.*s" DDB_US "%.*s" DDB_US "%.*s" DDB_US "%" PRIu32 DDB_US "%" PRIu64 DDB_US
	                 "%" PRIu64 DDB_US "%" PRIu32 DDB_US "%" PRIu32,
	                 letters[key->cls], (int)key->tenant.bytes, key->tenant.data, (int)key->topic.bytes,
	                 key->topic.data, (int)key->name.bytes, key->name.data, key->partition_id, key->from, key->to,
	                 key->with_segments, key->deleted);

	return ddb_s((struct shmeta_str){text, n > 0 && (size_t)n < sizeof text ? (size_t)n : 0});
}

static bool parse_key(struct shmeta_str text, struct backend_key *ret)
{
	struct shmeta_str part[9];
	uint64_t number[5];
	const char *letter;

	memset(ret, 0, sizeof *ret);
	if (ddb_split(text, part, 9) != 9 || part[0].bytes != 1)
		return false;
	for (size_t i = 0; i < 5; i++)
		if (!ddb_u64(part[4 + i], &number[i]))
			return false;
	letter = strchr(letters, part[0].data[0]);
	if (letter == NULL || *letter == '\0')
		return false;
	ret->cls = (enum shmeta_class)(letter - letters);
	ret->tenant = part[1];
	ret->topic = part[2];
	ret->name = part[3];
	ret->partition_id = (uint32_t)number[0];
	ret->from = number[1];
	ret->to = number[2];
	ret->with_segments = (uint32_t)number[3];
	ret->deleted = (uint32_t)number[4];
	return true;
}

enum shmeta_status ddb_log_tell(const json_t *keys, const struct backend_sink *sink)
{
	enum shmeta_status status = SHMETA_OK;
	size_t i;
	json_t *value;

	json_array_foreach(keys, i, value)
	{
		const json_t *text = json_object_get(value, "S");
		struct backend_key key;

		/* What is not understood may be anything. */
		if (!parse_key((struct shmeta_str){json_string_value(text), json_string_length(text)}, &key))
			key = (struct backend_key){.cls = SHMETA_CLASS_LIST};
		if (status == SHMETA_OK)
			status = sink->changed(sink->arg, &key);
	}
	return status;
}
