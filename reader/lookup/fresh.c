/* SPDX-License-Identifier: Apache-2.0
 * Lookups with FRESH and SOURCE: answer, ask the writer, wait until the store shows what it said,
 * answer again. And those that leave no trace. */
#include <stdlib.h>

#include "reader/lookup/lookup.h"

/* Where an answer comes from: the caller's reader, or one of the call's own whose snapshot is
 * newer. */
struct asked {
	struct shmeta_reader *reader;
	struct shmeta_handle *handle; /* of that reader; NULL for lookups by name */
	uint64_t synced_at_ns;        /* when the source was read; 0: it was not asked */
	int absent;                   /* it said that it does not have what is looked up */
	uint64_t deadline;            /* of all that is asked; 0: nothing was yet */
};

/* What a bounded store was made to load may have left again before it was looked at: then the
 * writer is asked once more, so many times in all. */
enum { ASKS_MAX = 3 };

/* Does this answer of the store not do? */
static int must_ask(const struct shmeta_read *read, enum shmeta_status status, const struct shmeta_freshness *fresh)
{
	return read->consistency != SHMETA_CACHED && status >= 0 && fresh->ttl_ns != FOR_EVER &&
	       (read->consistency == SHMETA_SOURCE || status == SHMETA_UNKNOWN || !fresh->fresh);
}

static int leaves_no_trace(const struct shmeta_reader *r, const struct shmeta_read *read)
{
	return (r->instance->flags & SHMETA_OPEN_NO_FILL) != 0 ||
	       (read != NULL && (read->flags & SHMETA_READ_NO_FILL) != 0);
}

/* One key or many, and how long what is answered by it lives. */
struct question {
	struct asked_key *keys;
	size_t count;
	int is_list;  /* its snapshot lives as long as the list */
	int is_batch; /* a key that the writer refuses has that status alone */
};

/* What the error is about: the place, where one was asked for. */
static void note_place(struct shmeta_reader *r, const struct question *q)
{
	const struct want *want = &q->keys[0].want;
	struct reader_error *error = *r->error;

	if (error == NULL || q->count != 1 || want->topic_bytes == 0 || want->topic_bytes > SHMETA_NAME_MAX)
		return;
	error->has_place = 1;
	error->partition_id = want->partition_id;
	memcpy(error->topic, want->topic, want->topic_bytes);
	error->topic[want->topic_bytes] = '\0';
}

static enum shmeta_status ask(struct shmeta_reader *r, const struct shmeta_handle *h, const struct question *q,
                              const struct shmeta_read *read, struct asked *asked)
{
	uint64_t since_ns = read->consistency == SHMETA_SOURCE ? shmeta__writer_now_ns(r->core) : 0;
	struct shmeta_frame_answer newest = {.status = SHMETA_OK};
	struct shmeta_err err = {0};
	enum shmeta_status status;

	if (asked->deadline == 0)
		asked->deadline = shmeta__deadline_of(read->timeout_ms);
	r->slot->counters.fresh_waits++;
	/* What was read in the snapshot that is about to be left. */
	if ((read->flags & SHMETA_READ_MAY_MOVE) != 0 && shmeta__snapshot_expired(r))
		r->expired = 1;
	for (size_t i = 0; i < q->count; i++)
		q->keys[i].want.no_fill = (uint32_t)leaves_no_trace(r, read);
	status = shmeta__ask_all(r->instance, r->core, q->keys, q->count, q->is_batch, since_ns, asked->deadline,
	                         &newest, &err);
	if (err.code != SHMETA_OK) {
		(void)shmeta__reader_keep(r, &err);
		note_place(r, q);
	}
	if (status != SHMETA_OK)
		return status;
	if ((read->flags & SHMETA_READ_MAY_MOVE) == 0 && asked->reader == r) {
		asked->reader = shmeta__reader_aside(r, !q->is_list);
		if (asked->reader == NULL) {
			asked->reader = r;
			return SHMETA_ERR_NO_MEMORY;
		}
	}
	status = shmeta__snapshot_advance(asked->reader, newest.generation, newest.txn, asked->deadline);
	if (status == SHMETA_OK && h != NULL && asked->reader != r && asked->handle == h) {
		asked->handle = shmeta__handle_for(h, asked->reader);
		if (asked->handle == NULL)
			status = SHMETA_ERR_NO_MEMORY;
	}
	return status;
}

/* The one key of a lookup or a list. */
static enum shmeta_status ask_one(struct shmeta_reader *r, const struct shmeta_handle *h, const struct want *want,
                                  int is_list, const struct shmeta_read *read, struct asked *asked)
{
	struct asked_key key = {.want = *want};
	const struct question q = {&key, 1, is_list, 0};
	enum shmeta_status status = ask(r, h, &q, read, asked);

	asked->synced_at_ns = key.synced_at_ns;
	asked->absent = key.absent;
	return status;
}

static void free_handle(const struct asked *asked)
{
	if (asked->handle != NULL && asked->handle->reader == asked->reader)
		shmeta__handle_free(asked->handle);
}

static enum shmeta_status finish(struct shmeta_reader *r, struct asked *asked, enum shmeta_status status)
{
	struct shmeta_reader *from = asked->reader;

	status = lookup_done(from, status);
	if (from == r)
		return status;
	shmeta__counters_add(&r->slot->counters, &from->own.counters);
	free_handle(asked);
	shmeta__reader_drop(from);
	return status;
}

/* Is it unknown because it is not in the snapshot, and not because the source's row cannot be
 * served? */
static int may_have_left(const struct shmeta_reader *r, enum shmeta_status status)
{
	return status == SHMETA_UNKNOWN && r->quarantined_txn == r->snapshot && r->incomplete != 0;
}

/* What the first look at the store may mark. What it misses is asked for, if the read may ask. */
static struct touch_view marks_of(const struct shmeta_reader *r, const struct shmeta_read *read)
{
	struct touch_view touch = r->touch;

	if (leaves_no_trace(r, read))
		return (struct touch_view){.slots = NULL};
	if (read != NULL && read->consistency != SHMETA_CACHED)
		touch.misses = NULL;
	return touch;
}

/* What is answered until the reader's touch map is put back does not count as used. */
static struct touch_view set_touch_aside(struct shmeta_reader *r)
{
	const struct touch_view touch = r->touch;

	r->touch = (struct touch_view){.slots = NULL};
	return touch;
}

enum shmeta_status shmeta__fresh_lookup(struct shmeta_reader *r, struct shmeta_handle *h, const struct want *want,
                                        const struct shmeta_read *read, shmeta__answer_fn *answer, void *arg,
                                        struct shmeta_freshness *ret_fresh)
{
	struct asked asked = {.reader = r, .handle = h};
	struct shmeta_freshness fresh = {0};
	struct touch_view touch = r->touch;
	enum shmeta_status status;

	r->touch = marks_of(r, read);
	status = answer(arg, r, h, 0, &fresh);
	r->touch = touch;
	for (int asks = 0;
	     asks == 0 ? must_ask(read, status, &fresh) : asks < ASKS_MAX && may_have_left(asked.reader, status);
	     asks++) {
		status = ask_one(r, h, want, 0, read, &asked);
		if (status != SHMETA_OK)
			continue;
		/* A record that this brought in was not used for that. */
		touch = set_touch_aside(asked.reader);
		asked.reader->told_absent = asked.absent;
		status = answer(arg, asked.reader, asked.handle, asked.synced_at_ns, &fresh);
		asked.reader->told_absent = 0;
		asked.reader->touch = touch;
	}
	status = finish(r, &asked, status);
	if (ret_fresh != NULL && status >= 0)
		*ret_fresh = fresh;
	return status;
}

/* A lookup by handle, done by name. */
struct named {
	const struct want *want;
	shmeta__answer_fn *answer;
	void *arg;
};

static enum shmeta_status answer_named(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused,
                                       uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	const struct named *n = arg;
	struct shmeta_handle *h;
	enum shmeta_status status = shmeta__handle_named(r, n->want, assured_ns, ret_fresh, &h);

	(void)unused;
	if (status != SHMETA_OK)
		return status;
	status = n->answer(n->arg, r, h, assured_ns, ret_fresh);
	shmeta__handle_free(h);
	return status;
}

enum shmeta_status shmeta__lookup_named(struct shmeta_reader *r, const struct want *want,
                                        const struct shmeta_read *read, shmeta__answer_fn *answer, void *arg,
                                        struct shmeta_freshness *ret_fresh)
{
	struct named named = {want, answer, arg};
	enum shmeta_status status = lookup_ready(r);
	int asks;

	if (status == SHMETA_OK)
		status = name_fits(r, "topic", want->topic, want->topic_bytes);
	if (status == SHMETA_OK)
		status = lookup_options(r, read, &asks);
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? lookup_done(r, never_there(r, 0, ret_fresh)) : status;
	return asks ? shmeta__fresh_lookup(r, NULL, want, read, answer_named, &named, ret_fresh)
	            : lookup_done(r, answer_named(&named, r, NULL, 0, ret_fresh));
}

enum shmeta_status shmeta__list(struct shmeta_reader *r, struct shmeta_handle *h, const struct want *want,
                                const struct shmeta_read *read, shmeta__list_fn *list, void *arg,
                                struct shmeta_iter **ret)
{
	struct asked asked = {.reader = r, .handle = h};
	struct shmeta_freshness fresh = {0};
	struct shmeta_iter *iter = NULL;
	struct touch_view touch = r->touch;
	enum shmeta_status status;
	int asks;

	status = lookup_options(r, read, &asks);
	if (status != SHMETA_OK)
		return status;
	asks = asks && read->consistency != SHMETA_CACHED;
	r->touch = marks_of(r, read);
	status = list(arg, r, h, 0, asks ? &fresh : NULL, &iter);
	r->touch = touch;
	for (int made = 0; asks && (made == 0 ? must_ask(read, status, &fresh)
	                                      : made < ASKS_MAX && may_have_left(asked.reader, status));
	     made++) {
		shmeta_iter_free(iter);
		iter = NULL;
		status = ask_one(r, h, want, 1, read, &asked);
		if (status != SHMETA_OK)
			continue;
		touch = set_touch_aside(asked.reader);
		status = list(arg, asked.reader, asked.handle, asked.synced_at_ns, &fresh, &iter);
		asked.reader->touch = touch;
	}
	if (status == SHMETA_OK && !snapshot_holds(asked.reader)) {
		shmeta_iter_free(iter);
		status = SHMETA_ERR_EXPIRED;
	}
	if (status != SHMETA_OK)
		return finish(r, &asked, status);
	if (asked.reader != r) {
		free_handle(&asked);
		shmeta__iter_keep(iter, r);
	}
	*ret = iter;
	return SHMETA_OK;
}

/* Answer all from the reader's snapshot, those that were asked for with what the writer said. */
static enum shmeta_status answer_all(struct shmeta_reader *r, const struct shmeta__many *many,
                                     const struct asked_key *keys, size_t key_count, enum shmeta_status *ret_status)
{
	struct shmeta_freshness fresh = {0};
	size_t k = 0;

	many->begin(many->arg);
	for (size_t i = 0; i < many->count; i++) {
		uint64_t assured_ns = 0;

		if (k < key_count && keys[k].index == i) {
			ret_status[i] = keys[k].status;
			assured_ns = keys[k++].synced_at_ns;
			if (ret_status[i] != SHMETA_OK)
				continue;
		}
		ret_status[i] = lookup_done(r, many->answer(many->arg, r, i, assured_ns, &fresh));
		if (ret_status[i] == SHMETA_ERR_EXPIRED)
			return SHMETA_ERR_EXPIRED;
	}
	return SHMETA_OK;
}

/* Which of them the writer must be asked for. ERR_NO_MEMORY. */
static enum shmeta_status judge(struct shmeta_reader *r, const struct shmeta__many *many,
                                const struct shmeta_read *read, struct asked_key **ret, size_t *ret_count)
{
	size_t room = 0;

	many->begin(many->arg);
	for (size_t i = 0; i < many->count; i++) {
		struct shmeta_freshness fresh = {0};
		struct asked_key *more;

		if (!must_ask(read, many->answer(many->arg, r, i, 0, &fresh), &fresh))
			continue;
		if (*ret_count == room) {
			room = room == 0 ? AT_A_TIME : room * 2;
			more = reallocarray(*ret, room, sizeof *more);
			if (more == NULL)
				return SHMETA_ERR_NO_MEMORY;
			*ret = more;
		}
		more = &(*ret)[(*ret_count)++];
		*more = (struct asked_key){.index = i};
		many->want(many->arg, i, &more->want);
	}
	return SHMETA_OK;
}

/* Ask once more for those that may have left before they were looked at. END: there are none. */
static enum shmeta_status ask_again(struct shmeta_reader *r, const struct question *q, const struct shmeta_read *read,
                                    const enum shmeta_status *answers, struct asked *asked)
{
	struct question again = {calloc(q->count, sizeof *again.keys), 0, 0, 1};
	enum shmeta_status status = SHMETA_END;

	if (again.keys == NULL)
		return SHMETA_ERR_NO_MEMORY;
	for (size_t k = 0; k < q->count; k++)
		if (may_have_left(asked->reader, answers[q->keys[k].index]))
			again.keys[again.count++] = (struct asked_key){.want = q->keys[k].want, .index = k};
	if (again.count > 0)
		status = ask(r, NULL, &again, read, asked);
	for (size_t i = 0; i < again.count && status == SHMETA_OK; i++) {
		struct asked_key *key = &q->keys[again.keys[i].index];

		key->status = again.keys[i].status;
		key->synced_at_ns = again.keys[i].synced_at_ns;
	}
	free(again.keys);
	return status;
}

enum shmeta_status shmeta__fresh_many(struct shmeta_reader *r, const struct shmeta__many *many,
                                      const struct shmeta_read *read, enum shmeta_status *ret_status)
{
	struct asked asked = {.reader = r};
	struct question q = {NULL, 0, 0, 1};
	struct touch_view touch = r->touch;
	enum shmeta_status status = SHMETA_OK;

	r->touch = marks_of(r, read);
	if (read->consistency != SHMETA_CACHED)
		status = judge(r, many, read, &q.keys, &q.count);
	r->touch = touch;
	if (status == SHMETA_OK && q.count > 0)
		status = ask(r, NULL, &q, read, &asked);
	for (int asks = 1; status == SHMETA_OK; asks++) {
		touch = set_touch_aside(asked.reader); /* judged to be used, or brought in */
		status = answer_all(asked.reader, many, q.keys, q.count, ret_status);
		asked.reader->touch = touch;
		if (status != SHMETA_OK || q.count == 0 || asks == ASKS_MAX)
			break;
		status = ask_again(r, &q, read, ret_status, &asked);
	}
	if (status == SHMETA_END)
		status = SHMETA_OK;
	free(q.keys);
	if (asked.reader != r) {
		shmeta__counters_add(&r->slot->counters, &asked.reader->own.counters);
		shmeta__reader_drop(asked.reader);
	}
	return status;
}
