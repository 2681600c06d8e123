/* SPDX-License-Identifier: Apache-2.0
 * The public half of the client: who drives the connection, who waits, and when callbacks run.
 *
 * There is no thread of our own, so whoever waits drives. Of the threads in shmeta_write() one at a
 * time polls the descriptor, without the lock, and receives for all of them; the others send for
 * themselves and wait on a condition of their own. Whoever leaves while nobody polls wakes one that
 * waits, and that one drives on. While a thread polls, it alone receives and closes the
 * descriptor. */
#include "reader/client/client.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "reader/reader.h"

static const uint64_t SEND_AGAIN_NS = 5 * MILLION; /* while another thread polls */
enum { CALLS_DEFAULT = 1024, BYTES_DEFAULT = 16 << 20, CALL_AGAIN_MS = 1000 };

/* ---- who is told of calls; without the lock ---- */

static void tell_begin(struct shmeta_client *c, struct call *call)
{
	if (c->on_call == NULL)
		return;
	(void)pthread_mutex_lock(&c->lock);
	call->event.id = ++c->begun;
	(void)pthread_mutex_unlock(&c->lock);
	call->began_ns = shmeta__monotonic_ns();
	c->on_call(c->on_call_arg, &call->event);
}

static struct shmeta_call_event end_of(const struct call *call, enum shmeta_status status)
{
	struct shmeta_call_event event = call->event;

	event.ended = 1;
	event.status = status;
	event.took_ns = shmeta__monotonic_ns() - call->began_ns;
	return event;
}

void shmeta__client_tell_end(struct shmeta_client *c, const struct call *call, enum shmeta_status status)
{
	struct shmeta_call_event event;

	if (c->on_call == NULL)
		return;
	event = end_of(call, status);
	c->on_call(c->on_call_arg, &event);
}

/* ---- calls come and go ---- */

static enum shmeta_status admit(struct shmeta_client *c, struct call *call, uint64_t deadline_ns,
                                struct shmeta_err *err)
{
	if (c->closing)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "this client is being closed");
	if (c->call_count >= c->calls_max)
		return shmeta_fail(err, SHMETA_ERR_BUSY, "%u calls of this client have no answer yet: requests_max",
		                   c->call_count);
	if (c->bytes + call->bytes > c->bytes_max)
		return shmeta_fail(err, SHMETA_ERR_BUSY, "calls without an answer hold %zu of %u bytes: output_bytes",
		                   c->bytes, c->bytes_max);
	call->id = c->last_id + 1;
	c->last_id += call->count;
	call->deadline_ns = deadline_ns;
	c->call_count++;
	c->bytes += call->bytes;
	shmeta__call_append(&c->calls, call);
	if (c->sending == NULL)
		c->sending = call;
	return SHMETA_OK;
}

/* ---- open and close ---- */

enum shmeta_status shmeta_client_open(struct shmeta *instance, const struct shmeta_client_options *options,
                                      struct shmeta_client **ret)
{
	struct shmeta_err err = {0};
	struct shmeta_client *c;

	if (instance == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	/* A program of before the callback has a shorter struct. */
	if (options != NULL && options->size < offsetof(struct shmeta_client_options, on_call)) {
		(void)shmeta_fail(
			&err, SHMETA_ERR_INVALID_ARGUMENT,
			"client options: size is %zu, this library's struct shmeta_client_options has %zu bytes: set "
			"it to sizeof",
			options->size, sizeof *options);
		return shmeta__instance_fail(instance, &err);
	}
	c = calloc(1, sizeof *c);
	if (c == NULL)
		return SHMETA_ERR_NO_MEMORY;
	c->fork_word = instance->fork_word;
	c->fork_token = instance->fork_token;
	c->instance = instance;
	c->calls_max = options != NULL && options->requests_max != 0 ? options->requests_max : CALLS_DEFAULT;
	c->bytes_max = options != NULL && options->output_bytes != 0 ? options->output_bytes : BYTES_DEFAULT;
	c->submit_timeout_ms = options != NULL ? options->submit_timeout_ms : 0;
	if (options != NULL && options->size >= sizeof *options) {
		c->on_call = options->on_call;
		c->on_call_arg = options->on_call_arg;
	}
	c->fd = -1;
	c->frame_max = SHMETA_FRAME_MAX;
	c->random = (shmeta__monotonic_ns() ^ (uint64_t)(uintptr_t)c) | 1;
	(void)pthread_mutex_init(&c->lock, NULL);
	shmeta__instance_ref(instance);
	*ret = c;
	return SHMETA_OK;
}

bool shmeta__client_is_forked(const struct shmeta_client *c)
{
	return shmeta_peek(c->fork_word) != c->fork_token;
}

static void describe_refresh(struct call *call)
{
	struct shmeta_frame_refresh frame;

	(void)shmeta__refresh_frame(call, &frame);
	call->results[0].topic = (struct shmeta_str){(const char *)call->encoded + sizeof frame, frame.name_bytes};
	call->results[0].partition_id = frame.partition_id;
}

/* What the results that failed, and leases, are about, as the operations say it. */
static void describe(struct call *call)
{
	if (call->kind == CALL_REFRESHES)
		describe_refresh(call);
	for (size_t i = 0; call->kind == CALL_WRITES && i < call->count; i++) {
		struct shmeta_op op;
		size_t used;

		if ((call->results[i].status < 0 || call->ops[i].type == SHMETA_OP_ACQUIRE_LEASE) &&
		    shmeta__op_decode(call->encoded + call->ops[i].offset, op_end(call, i) - call->ops[i].offset, &op,
		                      &used) == SHMETA_OK)
			shmeta__result_describe(&call->results[i], &op);
	}
}

/* Callbacks run without the lock, each call taken off the list first: so each runs once, whoever
 * else is delivering. */
static void deliver(struct shmeta_client *c)
{
	struct shmeta_call_event event = {0};
	struct call *call;

	while ((call = c->ready.first) != NULL) {
		bool queued = call->done == NULL;

		shmeta__call_unlink(&c->ready, call);
		describe(call);
		if (c->on_call != NULL)
			event = end_of(call, call->status);
		if (queued)
			/* from where another thread may take it at once */
			shmeta__call_append(&c->over, call);
		else
			call_gone(c, call);
		if (queued && c->on_call == NULL)
			continue;
		(void)pthread_mutex_unlock(&c->lock);
		if (c->on_call != NULL)
			c->on_call(c->on_call_arg, &event);
		if (!queued) {
			call->done(call->arg, call->status, call->results, call->count, &call->token);
			shmeta__call_free(call);
		}
		(void)pthread_mutex_lock(&c->lock);
	}
}

void shmeta_client_close(struct shmeta_client *c)
{
	struct call *call;

	if (c == NULL)
		return;
	if (shmeta__client_is_forked(c)) {
		/* The calls are the parent's, and so are their callbacks. */
		if (c->fd >= 0 && shmeta__fd_is(c->fd, c->fd_dev, c->fd_ino))
			(void)close(c->fd);
		shmeta__reader_own_free(c->reader);
		shmeta__instance_unref(c->instance);
		free(c);
		return;
	}
	(void)pthread_mutex_lock(&c->lock);
	c->closing = true;
	while ((call = c->calls.first) != NULL) {
		for (size_t i = 0; i < call->count; i++)
			if (shmeta__op_is_exposed(call, i))
				shmeta__call_settle(call, i, i + 1, SHMETA_ERR_OUTCOME_UNKNOWN,
				                    "the client was closed before the writer answered: it may be done");
		shmeta__call_settle(call, 0, call->count, SHMETA_ERR_WRITER_AWAY,
		                    call->kind != CALL_WRITES ? "the client was closed before the writer answered"
		                                              : "the client was closed before it was sent");
		shmeta__call_finish(c, call);
	}
	deliver(c);
	while ((call = c->over.first) != NULL) {
		shmeta__call_unlink(&c->over, call);
		shmeta__call_free(call);
	}
	shmeta__call_free(c->taken);
	shmeta__reader_own_free(c->reader);
	shmeta__link_close(c);
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_mutex_destroy(&c->lock);
	shmeta__instance_unref(c->instance);
	free(c);
}

/* ---- blocking calls ---- */

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

/* Releases the lock while it polls. May return early; the caller checks again. */
static void poll_until(struct shmeta_client *c, uint64_t until_ns)
{
	struct pollfd p = {.fd = c->fd, .events = shmeta__link_events(c)};
	uint64_t now = shmeta__monotonic_ns();
	struct timespec t = timespec_of(until_ns > now ? until_ns - now : 0);

	c->polling = true;
	(void)pthread_mutex_unlock(&c->lock);
	(void)ppoll(&p, 1, &t, NULL);
	(void)pthread_mutex_lock(&c->lock);
	c->polling = false;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void wait_answered(struct shmeta_client *c, struct call *call)
{
	uint64_t now = shmeta__monotonic_ns();

	if (c->polling)
		shmeta__link_send(c, now);
	while (!call->finished) {
		now = shmeta__monotonic_ns();
		if (now >= call->deadline_ns) {
			shmeta__call_expire(c, call);
		} else if (c->polling) {
			struct timespec until;

			/* The thread that polls does not know that there is more to send by now. */
			if (c->blocked || c->stalled_ns != 0)
				shmeta__link_send(c, now);
			until = timespec_of(c->blocked || c->stalled_ns != 0
			                            ? earlier(call->deadline_ns, now + SEND_AGAIN_NS)
			                            : call->deadline_ns);
			(void)pthread_cond_timedwait(call->waiter, &c->lock, &until);
		} else {
			shmeta__link_step(c, now);
			if (!call->finished)
				poll_until(c, earlier(call->deadline_ns, shmeta__link_due_ns(c)));
		}
	}
}

/* When no thread polls, wake one that waits, so that it does. */
static void hand_over(struct shmeta_client *c)
{
	if (c->polling)
		return;
	for (struct call *call = c->calls.first; call != NULL; call = call->next) {
		if (call->waiter != NULL) {
			(void)pthread_cond_signal(call->waiter);
			return;
		}
	}
}

static enum shmeta_status wait_init(pthread_cond_t *cond, struct shmeta_err *err)
{
	pthread_condattr_t attr;
	int rc = pthread_condattr_init(&attr);

	if (rc == 0) {
		rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		if (rc == 0)
			rc = pthread_cond_init(cond, &attr);
		(void)pthread_condattr_destroy(&attr);
	}
	return rc == 0 ? SHMETA_OK : shmeta_fail_errno(err, rc, "a condition to wait on");
}

/* Set shmeta_last_error() to the text of the first operation that has the call's status. */
static enum shmeta_status tell(struct shmeta_client *c, const struct call *call)
{
	struct shmeta_err err = {0};
	size_t i = 0;

	if (call->status == SHMETA_OK)
		return SHMETA_OK;
	while (i < call->count && call->results[i].status != call->status)
		i++;
	(void)shmeta_fail(&err, call->status, "write: %s",
	                  i < call->count ? call->results[i].text : shmeta_strerror(call->status));
	return shmeta__instance_fail(c->instance, &err);
}

static size_t unit_max(struct shmeta_client *c)
{
	size_t room;

	(void)pthread_mutex_lock(&c->lock);
	room = shmeta__frame_room(c, c->frame_max);
	(void)pthread_mutex_unlock(&c->lock);
	return room;
}

/* Nothing was sent: every operation gets the same result. */
static enum shmeta_status refuse(struct shmeta_client *c, struct shmeta_err *err, const struct shmeta_op *ops,
                                 struct shmeta_result *results, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		shmeta__result_set(&results[i], err->code, err->text);
		shmeta__result_describe(&results[i], &ops[i]);
	}
	(void)shmeta_fail_prefix(err, "write");
	return shmeta__instance_fail(c->instance, err);
}

static enum shmeta_status write_and_wait(struct shmeta_client *c, struct call *call, uint64_t deadline_ns,
                                         struct shmeta_err *err)
{
	enum shmeta_status status = wait_init(&call->answered, err);

	if (status != SHMETA_OK)
		return status;
	call->waiter = &call->answered;
	(void)pthread_mutex_lock(&c->lock);
	status = admit(c, call, deadline_ns, err);
	if (status == SHMETA_OK) {
		wait_answered(c, call);
		hand_over(c);
	}
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_cond_destroy(&call->answered);
	return status;
}

enum shmeta_status shmeta_write(struct shmeta_client *c, const struct shmeta_op *ops, size_t count, uint32_t timeout_ms,
                                struct shmeta_result *ret_results, struct shmeta_token *ret_token)
{
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct call *call;

	if (c == NULL || ops == NULL || ret_results == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__client_is_forked(c))
		return SHMETA_ERR_FORKED;
	status = shmeta__instance_tenant(c->instance, &err);
	if (status == SHMETA_OK)
		status = shmeta__call_new(ops, count, unit_max(c), c->bytes_max, ret_results, &call, &err);
	if (status != SHMETA_OK)
		return refuse(c, &err, ops, ret_results, count);
	tell_begin(c, call);
	status = write_and_wait(c, call, deadline, &err);
	if (status != SHMETA_OK) {
		shmeta__client_tell_end(c, call, status);
		shmeta__call_free(call);
		return refuse(c, &err, ops, ret_results, count);
	}
	status = tell(c, call);
	for (size_t i = 0; i < count; i++)
		shmeta__result_describe(&ret_results[i], &ops[i]);
	if (ret_token != NULL)
		*ret_token = call->token;
	shmeta__client_tell_end(c, call, status);
	shmeta__call_free(call);
	return status;
}

/* ---- event loops ---- */

enum shmeta_status shmeta__client_submit(struct shmeta_client *c, struct call *call, uint64_t *ret_ticket,
                                         struct shmeta_err *err)
{
	enum shmeta_status status;
	uint64_t now;

	tell_begin(c, call);
	(void)pthread_mutex_lock(&c->lock);
	now = shmeta__monotonic_ns();
	status = admit(c, call,
	               c->submit_timeout_ms == 0 || call->kind == CALL_WAITS
	                       ? NEVER
	                       : now + (uint64_t)c->submit_timeout_ms * MILLION,
	               err);
	if (status == SHMETA_OK) {
		if (ret_ticket != NULL)
			*ret_ticket = call->id;
		/* Nothing is received here: what is ready must be announced by the descriptor. */
		if (!c->polling)
			shmeta__link_connect(c, now);
		shmeta__link_send(c, now);
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (status != SHMETA_OK)
		shmeta__client_tell_end(c, call, status);
	return status;
}

enum shmeta_status shmeta_submit(struct shmeta_client *c, const struct shmeta_op *ops, size_t count,
                                 shmeta_done_fn *done, void *arg)
{
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct call *call;

	if (c == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__client_is_forked(c))
		return SHMETA_ERR_FORKED;
	status = shmeta__instance_tenant(c->instance, &err);
	if (status == SHMETA_OK)
		status = shmeta__call_new(ops, count, unit_max(c), c->bytes_max, NULL, &call, &err);
	if (status != SHMETA_OK) {
		(void)shmeta_fail_prefix(&err, "submit");
		return shmeta__instance_fail(c->instance, &err);
	}
	call->done = done;
	call->arg = arg;
	status = shmeta__client_submit(c, call, NULL, &err);
	if (status == SHMETA_OK)
		return SHMETA_OK;
	shmeta__call_free(call);
	return shmeta__instance_fail(c->instance, &err);
}

enum shmeta_status shmeta_client_next_done(struct shmeta_client *c, struct shmeta_done *ret)
{
	struct call *call;

	if (c == NULL || ret == NULL || ret->size < sizeof *ret)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__client_is_forked(c))
		return SHMETA_ERR_FORKED;
	(void)pthread_mutex_lock(&c->lock);
	shmeta__call_free(c->taken);
	c->taken = call = c->over.first;
	if (call != NULL) {
		shmeta__call_unlink(&c->over, call);
		call_gone(c, call);
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (call == NULL)
		return SHMETA_END;
	*ret = (struct shmeta_done){.size = ret->size,
	                            .arg = call->arg,
	                            .results = call->results,
	                            .count = call->count,
	                            .status = call->status,
	                            .token = call->token};
	return SHMETA_OK;
}

int shmeta_client_fd(struct shmeta_client *c)
{
	int fd;

	if (c == NULL || shmeta__client_is_forked(c))
		return -1;
	(void)pthread_mutex_lock(&c->lock);
	fd = c->fd;
	(void)pthread_mutex_unlock(&c->lock);
	return fd;
}

short shmeta_client_events(struct shmeta_client *c)
{
	short events;

	if (c == NULL || shmeta__client_is_forked(c))
		return 0;
	(void)pthread_mutex_lock(&c->lock);
	events = shmeta__link_events(c);
	(void)pthread_mutex_unlock(&c->lock);
	return events;
}

static uint32_t wait_of(const struct shmeta_client *c)
{
	uint64_t due = shmeta__link_due_ns(c), now = shmeta__monotonic_ns(), ms;

	if (c->ready.first != NULL || due <= now)
		return 0;
	ms = due == NEVER ? CALL_AGAIN_MS : (due - now + MILLION - 1) / MILLION;
	return ms < CALL_AGAIN_MS ? (uint32_t)ms : CALL_AGAIN_MS;
}

enum shmeta_status shmeta_client_process(struct shmeta_client *c, uint32_t *ret_wait_ms)
{
	struct shmeta_err err = {0};
	enum shmeta_status status = SHMETA_OK;
	uint64_t now;

	if (c == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__client_is_forked(c))
		return SHMETA_ERR_FORKED;
	(void)pthread_mutex_lock(&c->lock);
	now = shmeta__monotonic_ns();
	if (c->polling) {
		shmeta__link_send(c, now);
		shmeta__link_expire(c, now);
	} else {
		shmeta__link_step(c, now);
	}
	deliver(c);
	if (ret_wait_ms != NULL)
		*ret_wait_ms = wait_of(c);
	if (c->state != LINK_UP && c->calls.first != NULL && c->why.code != SHMETA_OK) {
		err = c->why;
		status = SHMETA_ERR_WRITER_AWAY;
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (status == SHMETA_OK)
		return SHMETA_OK;
	err.code = status;
	return shmeta__instance_fail(c->instance, &err);
}
