/* SPDX-License-Identifier: Apache-2.0
 * The client's connection.
 *
 *   DOWN --connect, HELLO--> GREETING --WELCOME--> UP
 *     ^                         |                   |
 *     +------- back-off --------+-------------------+  closed, not answered in time, not understood
 *
 * What was handed to the kernel and is not answered when the connection goes may have been done. It
 * is sent again only where the writer is sure to recognise it: it has a request id, and the writer
 * that answers the next HELLO is of the same epoch. A frame goes out whole or not at all
 * (SOCK_SEQPACKET), so "handed over" is a matter of what sendmsg() answered. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/escape.h"
#include "reader/client/client.h"

static const uint64_t GREETED_WITHIN_NS = UINT64_C(2000000000);
static const uint64_t BACKOFF_FIRST_NS = 5 * MILLION, BACKOFF_LAST_NS = UINT64_C(1000000000), STALL_NS = 5 * MILLION;
static const uint64_t CROWDED_LAST_NS = 20 * MILLION; /* where others only have to be taken first */
enum {
	VERSION_NUMBER = SHMETA_VERSION_MAJOR << 16 | SHMETA_VERSION_MINOR << 8 | SHMETA_VERSION_PATCH,
	FRAME_LEAST = 4096,    /* a writer that takes less is none */
	RECEIVE_AT_ONCE = 256, /* frames, before others get the lock */
	/* Answers that may be on their way: more than the writer keeps for a peer, and it takes us
	 * for one that does not read. */
	ANSWERS_MAX = 128 << 10,
	NOT_FOR_WAITS = 16, /* places on a connection, or half of them */
	LOSSES_MAX = 8      /* sent again so often, an operation is what breaks the connection */
};

static const char unknown_sentence[] =
	"the connection to the writer broke before it answered: it may have been done; ask the source, or use request ids";

/* ---- what becomes of calls ---- */

static void finish_if_done(struct shmeta_client *c, struct call *call)
{
	if (call->open == 0)
		shmeta__call_finish(c, call);
}

/* What waits of it cannot be done: it fails, and what may have been done already stays unknown. */
static void fail_call(struct shmeta_client *c, struct call *call, enum shmeta_status status, const char *sentence)
{
	for (size_t i = 0; i < call->count; i++)
		if (shmeta__op_is_exposed(call, i))
			shmeta__call_settle(call, i, i + 1, SHMETA_ERR_OUTCOME_UNKNOWN, unknown_sentence);
	shmeta__call_settle(call, 0, call->count, status, sentence);
	finish_if_done(c, call);
}

static void fail_all(struct shmeta_client *c, enum shmeta_status status, const char *sentence)
{
	struct call *next;

	for (struct call *call = c->calls.first; call != NULL; call = next) {
		next = call->next;
		fail_call(c, call, status, sentence);
	}
}

static void lose_call(struct call *call)
{
	bool lost = false;

	for (size_t i = 0; i < call->count; i++) {
		struct op *op = &call->ops[i];

		if ((op->flags & OP_SENT) == 0)
			continue;
		lost = true;
		op->flags &= (uint8_t) ~(OP_SENT | OP_HEAD);
		op->flags |= OP_AGAIN;
		if (call->kind == CALL_REFRESHES && call->losses >= LOSSES_MAX)
			shmeta__call_settle(call, i, i + 1, SHMETA_ERR_WRITER_AWAY,
			                    "the connection to the writer broke each time before it answered");
		else if ((op->flags & OP_KNOWN_BY_ID) == 0 || call->losses >= LOSSES_MAX)
			shmeta__call_settle(call, i, i + 1, SHMETA_ERR_OUTCOME_UNKNOWN, unknown_sentence);
	}
	/* which lasts for as many writers as come and go */
	call->losses += lost && call->kind != CALL_WAITS;
	call->cursor = 0;
}

/* What does not write goes on. */
static void fail_writes(struct shmeta_client *c, enum shmeta_status status, const char *sentence)
{
	struct call *next;

	for (struct call *call = c->calls.first; call != NULL; call = next) {
		next = call->next;
		if (call->kind == CALL_WRITES)
			fail_call(c, call, status, sentence);
	}
}

/* Another writer does not know what its predecessor was sent. */
static void forget_exposed(struct shmeta_client *c)
{
	struct call *next;

	for (struct call *call = c->calls.first; call != NULL; call = next) {
		next = call->next;
		for (size_t i = 0; i < call->count; i++)
			if (shmeta__op_is_exposed(call, i))
				shmeta__call_settle(call, i, i + 1, SHMETA_ERR_OUTCOME_UNKNOWN, unknown_sentence);
		finish_if_done(c, call);
	}
}

void shmeta__link_expire(struct shmeta_client *c, uint64_t now_ns)
{
	struct call *next;

	if (c->submit_timeout_ms == 0)
		return;
	for (struct call *call = c->calls.first; call != NULL; call = next) {
		next = call->next;
		if (call->waiter != NULL || call->deadline_ns == NEVER)
			continue;
		if (now_ns < call->deadline_ns)
			return; /* those behind it were submitted later */
		shmeta__call_expire(c, call);
	}
}

/* ---- going down ---- */

void shmeta__link_close(struct shmeta_client *c)
{
	if (c->fd >= 0 && shmeta__fd_is(c->fd, c->fd_dev, c->fd_ino))
		(void)close(c->fd);
	c->fd = -1;
	c->state = LINK_DOWN;
	c->frames = c->wait_frames = 0;
	c->waits_held = false;
	c->answer_bytes = 0;
	c->blocked = c->leaving = false;
	c->stalled_ns = 0;
	while (c->withdrawn.first != NULL) {
		struct call *call = c->withdrawn.first;

		shmeta__call_unlink(&c->withdrawn, call);
		shmeta__call_free(call);
	}
}

static uint64_t jitter(struct shmeta_client *c, uint64_t most)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return most / 2 + c->random % (most / 2 + 1);
}

/* At once after a connection that worked, later and later after those that did not. */
static void schedule_retry(struct shmeta_client *c, uint64_t now_ns)
{
	c->retry_ns = now_ns + (c->backoff_ns == 0 ? 0 : jitter(c, c->backoff_ns));
	c->backoff_ns = c->backoff_ns == 0 ? BACKOFF_FIRST_NS : c->backoff_ns * 2;
	if (c->backoff_ns > BACKOFF_LAST_NS)
		c->backoff_ns = BACKOFF_LAST_NS;
}

/* c->why says what happened. */
static void link_lost(struct shmeta_client *c, uint64_t now_ns)
{
	struct call *next;

	shmeta__link_close(c);
	schedule_retry(c, now_ns);
	for (struct call *call = c->calls.first; call != NULL; call = next) {
		next = call->next;
		lose_call(call);
		finish_if_done(c, call);
	}
	c->sending = c->calls.first;
}

static void not_understood(struct shmeta_client *c, uint64_t now_ns)
{
	(void)shmeta_fail(&c->why, SHMETA_ERR_PROTOCOL, "the writer's answer cannot be parsed");
	link_lost(c, now_ns);
}

/* ---- coming up ---- */

static bool send_hello(struct shmeta_client *c)
{
	struct shmeta_frame_hello hello = {
		.head = {.bytes = sizeof hello, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_HELLO},
		.version_min = SHMETA_WIRE_VERSION,
		.version_max = SHMETA_WIRE_VERSION,
		.agent_version = VERSION_NUMBER};

	hello.head.id = c->hello_id = ++c->last_id;
	memcpy(hello.agent_name, c->instance->agent, strnlen(c->instance->agent, sizeof hello.agent_name));
	return send(c->fd, &hello, sizeof hello, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof hello;
}

/* A writer in another directory, or in one that cannot be told (core NULL), is another one whatever
 * its epoch. */
static void note_directory(struct shmeta_client *c, const struct core *core)
{
	if (core == NULL || core->dev != c->board_dev || core->ino != c->board_ino)
		c->epoch = 0;
	c->board_dev = core != NULL ? core->dev : 0;
	c->board_ino = core != NULL ? core->ino : 0;
}

void shmeta__link_connect(struct shmeta_client *c, uint64_t now_ns)
{
	enum shmeta_status status;
	struct core *core;

	if (c->state != LINK_DOWN || c->calls.first == NULL || now_ns < c->retry_ns)
		return;
	core = shmeta__instance_core(c->instance);
	status = shmeta__control_connect(core, 0, &c->fd, &c->why);
	/* What this writer will show is shown by its own store. */
	if (status == SHMETA_OK) {
		(void)shmeta__instance_answered(c->instance, &core, &c->why);
		note_directory(c, core);
	}
	if (core != NULL)
		shmeta__core_unref(core, 0);
	if (status != SHMETA_OK) {
		c->fd = -1;
		if (status == SHMETA_ERR_BUSY && c->backoff_ns > CROWDED_LAST_NS)
			c->backoff_ns = CROWDED_LAST_NS;
		schedule_retry(c, now_ns);
		if (status == SHMETA_ERR_DENIED)
			/* asking again changes nothing */
			fail_all(c, SHMETA_ERR_DENIED, c->why.text);
		return;
	}
	shmeta__fd_note(c->fd, &c->fd_dev, &c->fd_ino);
	c->state = LINK_GREETING;
	c->greeted_by_ns = now_ns + GREETED_WITHIN_NS;
	if (!send_hello(c)) {
		(void)shmeta_fail(&c->why, SHMETA_ERR_WRITER_AWAY, "the writer closed the connection");
		link_lost(c, now_ns);
	}
}

static void on_welcome(struct shmeta_client *c, const struct shmeta_frame_welcome *welcome, uint64_t now_ns)
{
	if (welcome->version != SHMETA_WIRE_VERSION || welcome->frame_max < FRAME_LEAST || welcome->requests_max == 0) {
		not_understood(c, now_ns);
		return;
	}
	c->frame_max = welcome->frame_max < SHMETA_FRAME_MAX ? welcome->frame_max : SHMETA_FRAME_MAX;
	c->frames_max = welcome->requests_max;
	c->takes_traces = (welcome->verbs & SHMETA_WELCOME_TRACES) != 0;
	c->takes_waits = (welcome->verbs & SHMETA_WELCOME_WAITS) != 0;
	c->state = LINK_UP;
	if (c->epoch != welcome->epoch)
		forget_exposed(c);
	c->epoch = welcome->epoch;
	c->why = (struct shmeta_err){0};
	c->sending = c->calls.first;
	if ((welcome->verbs & SHMETA_VERB_WRITE) != 0)
		return;
	(void)shmeta_fail(&c->why, SHMETA_ERR_DENIED,
	                  "this user may not write: shmeta.conf names the users and groups that may");
	fail_writes(c, SHMETA_ERR_DENIED, c->why.text);
	/* The next call asks again. */
	if (c->calls.first == NULL)
		shmeta__link_close(c);
}

static enum shmeta_status keep_answer(struct shmeta_client *c, const struct shmeta_frame_answer *answer)
{
	enum shmeta_status status =
		shmeta__status_known(answer->status) ? (enum shmeta_status)answer->status : SHMETA_ERR_PROTOCOL;
	char text[400];

	(void)shmeta__escape(text, sizeof text, answer + 1, answer->text_bytes);
	return shmeta_fail(&c->why, status, "%s", text[0] != 0 ? text : shmeta_strerror(status));
}

/* HELLO was refused. Where asking again may help, calls go on waiting. */
static void on_refusal(struct shmeta_client *c, const struct shmeta_frame_answer *answer, uint64_t now_ns)
{
	enum shmeta_status status = keep_answer(c, answer);

	if (status == SHMETA_OK) {
		not_understood(c, now_ns);
		return;
	}
	link_lost(c, now_ns);
	if (status == SHMETA_ERR_VERSION || status == SHMETA_ERR_DENIED || status == SHMETA_ERR_UNSUPPORTED)
		fail_all(c, status, c->why.text);
}

/* ---- receiving ---- */

/* Answers mostly come in the order of the calls: it is near the head of the list. */
static struct call *call_of(const struct shmeta_client *c, uint64_t frame_id, size_t *ret_op)
{
	uint64_t id = frame_id >> ID_COUNT_BITS;

	for (struct call *call = c->calls.first; call != NULL; call = call->next) {
		if (id - call->id < call->count) {
			*ret_op = (size_t)(id - call->id);
			return call;
		}
	}
	return NULL;
}

/* Nothing of this frame was done. */
static void on_frame_refused(struct shmeta_client *c, struct call *call, size_t i,
                             const struct shmeta_frame_answer *answer)
{
	enum shmeta_status status = keep_answer(c, answer);
	size_t end = shmeta__frame_end(call, i);

	if (status == SHMETA_ERR_WRITER_AWAY) {
		/* It is leaving: its successor will take it. */
		for (size_t k = i; k < end; k++)
			call->ops[k].flags &= (uint8_t) ~(OP_SENT | OP_HEAD);
		call->cursor = i < call->cursor ? i : call->cursor;
		c->leaving = true;
		return;
	}
	/* Not this time; but an earlier sending of it may have been done. */
	for (size_t k = i; k < end; k++)
		if (shmeta__op_is_exposed(call, k) && (call->ops[k].flags & OP_AGAIN) != 0)
			shmeta__call_settle(call, k, k + 1, SHMETA_ERR_OUTCOME_UNKNOWN, c->why.text);
	shmeta__call_settle(call, i, end, status, c->why.text);
}

/* If it is to one: who was passed over has a place. */
static void wait_answered(struct shmeta_client *c, uint64_t frame_id)
{
	if ((frame_id & ((1u << ID_COUNT_BITS) - 1)) != 0 || c->wait_frames == 0)
		return;
	c->wait_frames--;
	if (c->waits_held)
		c->sending = c->calls.first;
	c->waits_held = false;
}

/* false: it makes no sense. */
static bool on_answer(struct shmeta_client *c, const struct shmeta_frame *frame)
{
	size_t expected = answer_max(frame->id & ((1u << ID_COUNT_BITS) - 1)), i = 0;
	struct call *call;

	if (c->frames == 0 || c->answer_bytes < expected ||
	    (frame->type != SHMETA_FRAME_RESULTS && frame->type != SHMETA_FRAME_ANSWER))
		return false;
	c->frames--;
	c->answer_bytes -= expected;
	wait_answered(c, frame->id);
	call = call_of(c, frame->id, &i);
	if (call == NULL)
		return true; /* its caller has given up */
	if (shmeta__frame_end(call, i) == 0)
		return false;
	if (call->kind != CALL_WRITES) {
		if (frame->type != SHMETA_FRAME_ANSWER)
			return false;
		if (((const struct shmeta_frame_answer *)frame)->status == SHMETA_OK && call->kind == CALL_WAITS)
			shmeta__call_take_wait(c, call);
		else if (((const struct shmeta_frame_answer *)frame)->status == SHMETA_OK)
			shmeta__call_take_refresh(c, call, (const struct shmeta_frame_answer *)frame);
		else
			on_frame_refused(c, call, i, (const struct shmeta_frame_answer *)frame);
	} else if (frame->type == SHMETA_FRAME_RESULTS) {
		if (shmeta__call_take_results(call, i, (const struct shmeta_frame_results *)frame) != SHMETA_OK)
			return false;
	} else {
		if (((const struct shmeta_frame_answer *)frame)->status == SHMETA_OK)
			return false;
		on_frame_refused(c, call, i, (const struct shmeta_frame_answer *)frame);
	}
	if (!c->leaving)
		c->backoff_ns = 0; /* it works */
	finish_if_done(c, call);
	return true;
}

static void on_packet(struct shmeta_client *c, size_t bytes, uint64_t now_ns)
{
	const struct shmeta_frame *frame = (const struct shmeta_frame *)c->packet;

	if (shmeta__frame_check(frame, bytes) != SHMETA_OK) {
		not_understood(c, now_ns);
	} else if (c->state == LINK_UP) {
		if (!on_answer(c, frame))
			not_understood(c, now_ns);
	} else if (frame->id != c->hello_id) {
		not_understood(c, now_ns);
	} else if (frame->type == SHMETA_FRAME_WELCOME) {
		on_welcome(c, (const struct shmeta_frame_welcome *)frame, now_ns);
	} else if (frame->type == SHMETA_FRAME_ANSWER) {
		on_refusal(c, (const struct shmeta_frame_answer *)frame, now_ns);
	} else {
		not_understood(c, now_ns);
	}
}

static void receive(struct shmeta_client *c, uint64_t now_ns)
{
	for (int i = 0; i < RECEIVE_AT_ONCE && c->state != LINK_DOWN; i++) {
		/* recv, not recvmsg: descriptors that come along are closed by the kernel. */
		ssize_t n = recv(c->fd, c->packet, sizeof c->packet, MSG_DONTWAIT);

		/* ECONNRESET, told once: the writer closed with frames unread. What it had sent
		 * comes next. */
		if (n < 0 && (errno == EINTR || errno == ECONNRESET))
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			(void)shmeta_fail(&c->why, SHMETA_ERR_WRITER_AWAY, "the writer closed the connection");
			link_lost(c, now_ns);
			return;
		}
		on_packet(c, (size_t)n, now_ns);
	}
}

/* ---- sending ---- */

/* Each that the writer goes on holding counts for what it takes of this connection. false: no more
 * for now. */
static bool send_ends(struct shmeta_client *c, uint64_t now_ns)
{
	struct call *call;

	while (c->state == LINK_UP && (call = c->withdrawn.first) != NULL) {
		if (!shmeta__frame_send_end(c, call)) {
			c->blocked = errno == EAGAIN;
			c->stalled_ns = c->blocked ? 0 : now_ns + STALL_NS;
			return false;
		}
		shmeta__call_unlink(&c->withdrawn, call);
		shmeta__call_free(call);
	}
	return true;
}

bool shmeta__link_withdraw(struct shmeta_client *c, struct call *call)
{
	if (c->state != LINK_UP || call->kind != CALL_WAITS || (call->ops[0].flags & OP_SENT) == 0 ||
	    !shmeta__fd_is(c->fd, c->fd_dev, c->fd_ino))
		return false;
	shmeta__call_append(&c->withdrawn, call);
	if (!c->blocked && c->stalled_ns == 0)
		(void)send_ends(c, shmeta__monotonic_ns());
	return true;
}

/* How many results answer so many of its operations. */
static size_t results_of(const struct call *call, size_t count)
{
	return call->kind == CALL_WAITS ? 0 : count;
}

static void mark_sent(struct shmeta_client *c, struct call *call, size_t i, size_t end)
{
	for (size_t k = i; k < end; k++)
		call->ops[k].flags |= OP_SENT;
	call->ops[i].flags |= OP_HEAD;
	call->cursor = end;
	c->frames++;
	c->wait_frames += call->kind == CALL_WAITS;
	c->answer_bytes += answer_max(results_of(call, end - i));
}

/* false: no more for now. */
static bool send_part(struct shmeta_client *c, struct call *call, size_t i, uint64_t now_ns)
{
	size_t end;

	if (call->traced && !c->takes_traces)
		c->bytes -= shmeta__call_untrace(call);
	if (call->kind == CALL_WAITS && !c->takes_waits) {
		shmeta__call_settle(call, 0, 1, SHMETA_ERR_UNSUPPORTED,
		                    "the writer is of an earlier version, which knows no waits of event loops");
		finish_if_done(c, call);
		return true;
	}
	end = call->kind == CALL_WRITES ? shmeta__frame_fill(c, call, i) : 1;
	if (c->frames > 0 && c->answer_bytes + answer_max(results_of(call, end - i)) > ANSWERS_MAX)
		return false;
	if (end == i) {
		/* It fitted a frame when it was made; this writer takes smaller ones. */
		end = shmeta__unit_end(call, i);
		(void)shmeta_fail(&c->why, SHMETA_ERR_INVALID_ARGUMENT,
		                  "%zu bytes: the writer takes frames of %u bytes at most",
		                  op_end(call, end - 1) - call->ops[i].offset, c->frame_max);
		shmeta__call_settle(call, i, end,
		                    (call->ops[i].flags & OP_AGAIN) != 0 ? SHMETA_ERR_OUTCOME_UNKNOWN
		                                                         : SHMETA_ERR_INVALID_ARGUMENT,
		                    c->why.text);
		finish_if_done(c, call);
		return true;
	}
	if (shmeta__frame_send(c, call, i, end, now_ns) >= 0) {
		mark_sent(c, call, i, end);
		return true;
	}
	switch (errno) {
	case EINTR:
		return true;
	case EAGAIN:
		c->blocked = true;
		return false;
	case ENOBUFS:
	case ENOMEM:
		c->stalled_ns = now_ns + STALL_NS;
		return false;
	case EMSGSIZE:
		/* The socket's buffer is smaller than the frame. */
		if (c->frame_max / 2 < FRAME_LEAST)
			break;
		c->frame_max /= 2;
		return true;
	case EPIPE:
	case ECONNRESET:
		/* The writer is gone. Its last answers may wait to be taken in; behind them comes
		 * the end, which the descriptor announces. */
		return false;
	default:
		break;
	}
	/* A thread that polls sees it, too, and is the one to close the descriptor. */
	if (!c->polling) {
		(void)shmeta_fail(&c->why, SHMETA_ERR_WRITER_AWAY, "the writer closed the connection");
		link_lost(c, now_ns);
	}
	return false;
}

/* The host may have closed the descriptor, and its number may be in use again: then the connection
 * is lost, which a thread that polls has to see for itself. */
static bool has_descriptor(struct shmeta_client *c, uint64_t now_ns)
{
	if (shmeta__fd_is(c->fd, c->fd_dev, c->fd_ino))
		return true;
	if (!c->polling) {
		(void)shmeta_fail(&c->why, SHMETA_ERR_WRITER_AWAY, "the connection's descriptor was closed under it");
		link_lost(c, now_ns);
	}
	return false;
}

/* Waits last for as long as nothing happens: what is answered soon always has a place beside
 * them. */
static bool has_place_to_wait(const struct shmeta_client *c)
{
	uint32_t others = c->frames_max < 2 * NOT_FOR_WAITS ? c->frames_max / 2 : NOT_FOR_WAITS;

	return c->waits_after_ns == 0 && c->wait_frames < c->frames_max - others;
}

static void pass_over(struct shmeta_client *c, const struct call *call)
{
	c->waits_held = true;
	c->sending = call->next;
}

static void end_pause(struct shmeta_client *c, uint64_t now_ns)
{
	if (c->waits_after_ns == 0 || now_ns < c->waits_after_ns)
		return;
	c->waits_after_ns = 0;
	if (c->waits_held)
		c->sending = c->calls.first;
	c->waits_held = false;
}

void shmeta__link_send(struct shmeta_client *c, uint64_t now_ns)
{
	c->blocked = false;
	end_pause(c, now_ns);
	if (now_ns < c->stalled_ns)
		return;
	c->stalled_ns = 0;
	if (c->state == LINK_UP && (c->sending != NULL || c->withdrawn.first != NULL) && !has_descriptor(c, now_ns))
		return;
	if (!send_ends(c, now_ns))
		return;
	while (c->state == LINK_UP && !c->leaving && c->frames < c->frames_max && c->sending != NULL) {
		struct call *call = c->sending;

		while (call->cursor < call->count && !op_waits(&call->ops[call->cursor]))
			call->cursor++;
		if (call->cursor == call->count)
			c->sending = call->next;
		else if (call->kind == CALL_WAITS && !has_place_to_wait(c))
			pass_over(c, call);
		else if (!send_part(c, call, call->cursor, now_ns))
			return;
	}
}

/* ---- all of it ---- */

void shmeta__link_step(struct shmeta_client *c, uint64_t now_ns)
{
	if (c->state != LINK_DOWN)
		(void)has_descriptor(c, now_ns);
	shmeta__link_connect(c, now_ns);
	receive(c, now_ns);
	if (c->state == LINK_GREETING && now_ns >= c->greeted_by_ns) {
		(void)shmeta_fail(&c->why, SHMETA_ERR_WRITER_AWAY, "the writer takes connections but does not answer");
		link_lost(c, now_ns);
	}
	if (c->leaving && c->frames == 0)
		link_lost(c, now_ns);
	shmeta__link_send(c, now_ns);
	shmeta__link_expire(c, now_ns);
}

short shmeta__link_events(const struct shmeta_client *c)
{
	if (c->state == LINK_DOWN)
		return 0;
	return (short)(POLLIN | (c->blocked ? POLLOUT : 0));
}

uint64_t shmeta__link_due_ns(const struct shmeta_client *c)
{
	uint64_t due = NEVER;

	if (c->state == LINK_DOWN && c->calls.first != NULL)
		due = c->retry_ns;
	else if (c->state == LINK_GREETING)
		due = c->greeted_by_ns;
	else if (c->stalled_ns != 0)
		due = c->stalled_ns;
	if (c->waits_after_ns != 0 && c->waits_after_ns < due)
		due = c->waits_after_ns;
	if (c->submit_timeout_ms == 0)
		return due;
	for (const struct call *call = c->calls.first; call != NULL; call = call->next) {
		if (call->waiter == NULL && call->deadline_ns != NEVER)
			return call->deadline_ns < due ? call->deadline_ns : due;
	}
	return due;
}
