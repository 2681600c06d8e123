/* SPDX-License-Identifier: Apache-2.0
 * The client: calls, what becomes of their operations, and the one connection they go over.
 *
 *   client.c          the public functions: who drives, who waits, when callbacks run
 *   submit_refresh.c  calls that have a key read again: submitted, asked again, canceled
 *   submit_wait.c     calls that wait for commits: submitted
 *   client_link.c     the connection: HELLO, sending, receiving, losing it, reconnecting
 *   client_call.c     calls: operations encoded once, results put where they belong, how a call
 *                     ends
 *   client_wait.c     what a call that waits finds in the store
 *
 * Each stands on those below it. struct shmeta_client owns the calls that are not delivered and the
 * connection.
 *
 * A call's operations are encoded when it is made and sent in as many frames as they need. What is
 * known of each operation stands in its struct op: so parts of a call may be answered, lost, or
 * sent again, each by itself.
 *
 *   (queued) --sent--> SENT --answer--> DONE
 *      ^                 |
 *      +--- AGAIN -------+ connection lost, and the writer recognises it (request id, same epoch)
 *                        +--> DONE with ERR_OUTCOME_UNKNOWN otherwise
 *
 * Everything is under client->lock, except for poll(2), and callbacks, which run without it. */
#ifndef SHMETA_READER_CLIENT_CLIENT_H
#define SHMETA_READER_CLIENT_CLIENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "reader/attach/attach.h"
#include "reader/request/request.h"
#include "shm/wire/op.h"
#include "shm/wire/wire.h"

enum op_flags {
	OP_SENT = 1u << 0,        /* handed to the kernel on this connection, not answered     */
	OP_HEAD = 1u << 1,        /* SENT: the first of its frame                              */
	OP_DONE = 1u << 2,        /* has its result                                            */
	OP_AGAIN = 1u << 3,       /* was handed over on an earlier connection: may be done     */
	OP_KNOWN_BY_ID = 1u << 4, /* the writer recognises it (for an object: all of its
                                   * operations) */
	OP_FOLLOWS = 1u << 5      /* a slice: stays in the frame of the operation before it    */
};

struct op {
	uint32_t offset; /* in call->encoded */
	uint8_t type;
	uint8_t flags;
	uint16_t reserved;
};

/* What a call that waits looks at. In call->encoded. */
struct waiting {
	struct shmeta_watch *watches; /* the caller's; NULL: it waits for a commit after `since` */
	size_t count;
	struct shmeta_token since;
	struct shmeta_token looked;    /* the commit that was last looked at; generation 0: none */
	struct shmeta_handle **handle; /* of the client's reader, one for each watch; NULL: not
                                        * found yet */
	uint32_t *words;               /* room for as many */
};

enum call_kind {
	CALL_WRITES,
	CALL_REFRESHES, /* it has one key read again: encoded is its frame, and its one operation
                         * has no type */
	CALL_WAITS      /* its one operation has no type */
};

struct call {
	struct call *next, *prev;
	uint64_t id;          /* operation i of it has the number `id + i` in this client */
	uint64_t deadline_ns; /* UINT64_MAX: none */
	size_t count;
	size_t open;     /* operations without a result */
	size_t cursor;   /* nothing before it waits to be sent */
	size_t bytes;    /* of encoded */
	uint32_t losses; /* connections that were lost with something of it unanswered */
	bool finished;
	bool traced; /* operations of it have a trace id */
	enum call_kind kind;
	uint32_t asked;            /* REFRESHES: answers that were read before since_ns */
	uint64_t since_ns;         /* REFRESHES: the source is to be read then or later, as the
                                    * writer counts */
	struct waiting *waiting;   /* WAITS */
	enum shmeta_status status; /* the gravest that a frame of it met */
	struct shmeta_token token;
	struct shmeta_result *results; /* the caller's, or its own */
	pthread_cond_t *waiter;        /* of a shmeta_write() that waits: its answered; NULL:
                                        * submitted */
	pthread_cond_t answered;
	shmeta_done_fn *done;
	void *arg;
	struct shmeta_call_event event; /* what on_call is told, and when it was told of the
                                         * beginning */
	uint64_t began_ns;
	uint8_t *encoded;
	struct op ops[];
};

struct call_list {
	struct call *first, *last;
};

enum link_state { LINK_DOWN, LINK_GREETING, LINK_UP };

struct shmeta_client {
	const uint64_t *fork_word;
	uint64_t fork_token;
	struct shmeta *instance;
	uint32_t calls_max;
	uint32_t bytes_max;
	uint32_t submit_timeout_ms;
	shmeta_call_fn *on_call; /* NULL: nobody is told */
	void *on_call_arg;

	pthread_mutex_t lock;
	bool closing;
	bool polling;                 /* a thread waits in poll(2) for the descriptor: it alone
                                       * receives and closes */
	struct call_list calls;       /* without all of their results, in the order they were
                                       * made */
	struct call_list ready;       /* submitted ones whose callback is due */
	struct call_list over;        /* submitted ones without a callback that are to be taken */
	struct call_list withdrawn;   /* waits that are canceled, of which the writer is still to be
                                       * told */
	struct shmeta_reader *reader; /* of the waits; NULL: there was none yet */
	struct call *taken;           /* whose results shmeta_client_next_done() gave */
	uint32_t call_count;          /* of calls */
	size_t bytes;                 /* of calls and ready */
	uint64_t last_id;
	uint64_t begun; /* calls that on_call was told of */

	/* Of the board of the writer that was last connected: in a directory that was made anew
	 * epochs begin again. */
	uint64_t board_dev, board_ino;
	enum link_state state;
	int fd;
	uint64_t fd_dev, fd_ino;
	uint64_t hello_id;
	uint64_t epoch;          /* of the writer that was last connected; 0: none */
	uint32_t frame_max;      /* of the connection */
	uint32_t frames_max;     /* unanswered at a time */
	uint32_t frames;         /* unanswered, those of forgotten calls too */
	uint32_t wait_frames;    /* of these of waits, which may last */
	bool waits_held;         /* waits were passed over, and are before `sending` */
	uint64_t waits_after_ns; /* no wait is sent before; 0: at once */
	size_t answer_bytes;     /* that their answers may have */
	struct call *sending;    /* no call before it has operations that wait to be sent */
	uint64_t stalled_ns;     /* the kernel had no memory: try again then; 0: it has */
	bool blocked;            /* the kernel took no more: wait for POLLOUT */
	bool takes_traces;       /* the writer knows trace ids */
	bool takes_waits;        /* and waits */
	bool leaving;            /* the writer takes no more writes: reconnect when the rest is
                                  * answered */
	uint64_t greeted_by_ns;
	uint64_t backoff_ns, retry_ns;
	uint64_t random;
	struct shmeta_err why; /* the link is down */
	uint64_t packet[(SHMETA_FRAME_MAX + 8) / 8];
};

static const uint64_t NEVER = UINT64_MAX;

static inline bool token_is_later(const struct shmeta_token *a, const struct shmeta_token *b)
{
	return a->generation > b->generation || (a->generation == b->generation && a->txn > b->txn);
}

/* ---- waits ---- */

/* OK: it is over, and each watch says why; ERR_TIMEOUT: not yet; ERR_*. */
enum shmeta_status shmeta__waiting_look(struct shmeta_client *client, struct call *call);
/* The touched words, each once, on which the last look depended, into call->waiting->words; 0: on
 * every commit. */
size_t shmeta__waiting_words(struct call *call);
/* What the writer tells cannot be seen here: waits are asked again after a pause, and the reader
 * looks for another directory. */
void shmeta__waiting_pause(struct shmeta_client *client);
/* It holds nothing of the client's reader any more. Accepts calls of any kind. */
void shmeta__waiting_end(struct call *call);

/* ---- calls ---- */

/* Encode operations into a new call. results NULL: the call allocates its own. unit_max: bytes of
 * operations that one frame can carry. Errors go to err. Takes no lock. */
/* Room for `bytes` encoded of so many operations; NULL: no memory. results as in
 * shmeta__call_new(). */
struct call *shmeta__call_alloc(size_t count, size_t bytes, struct shmeta_result *results);
enum shmeta_status shmeta__call_new(const struct shmeta_op *ops, size_t count, size_t unit_max, size_t bytes_max,
                                    struct shmeta_result *results, struct call **ret, struct shmeta_err *err);
void shmeta__call_free(struct call *call);
void shmeta__call_append(struct call_list *list, struct call *call);
void shmeta__call_unlink(struct call_list *list, struct call *call);
static inline size_t op_end(const struct call *call, size_t i)
{
	return i + 1 < call->count ? call->ops[i + 1].offset : call->bytes;
}
/* Without their trace ids. How many bytes that saves. What was sent stays sent. */
size_t shmeta__call_untrace(struct call *call);
/* Where the operations end that share a frame with operation i for certain. */
size_t shmeta__unit_end(const struct call *call, size_t i);
/* sentence "": use the text of the status, unless it is OK. */
void shmeta__result_set(struct shmeta_result *ret, enum shmeta_status status, const char *sentence);
/* A result that failed says what it is about: the operation's own bytes and numbers. */
void shmeta__result_describe(struct shmeta_result *result, const struct shmeta_op *op);
/* Give operations [from, to) that have no result this one. */
void shmeta__call_settle(struct call *call, size_t from, size_t to, enum shmeta_status status, const char *sentence);
/* The results of the frame that began with operation i: ERR_PROTOCOL when they are not its. */
enum shmeta_status shmeta__call_take_results(struct call *call, size_t i, const struct shmeta_frame_results *frame);
/* Where the frame ends that began with operation i; 0: none did. */
size_t shmeta__frame_end(const struct call *call, size_t i);
/* The operation may have been done although no answer came. */
bool shmeta__op_is_exposed(const struct call *call, size_t i);
/* The answer to a call that refreshes or waits; it may have to be asked again. */
void shmeta__call_take_refresh(struct shmeta_client *client, struct call *call,
                               const struct shmeta_frame_answer *answer);
void shmeta__call_take_wait(struct shmeta_client *client, struct call *call);
/* The frame of a call that refreshes, but for id and timeout. How many bytes of names follow it in
 * call->encoded. */
size_t shmeta__refresh_frame(const struct call *call, struct shmeta_frame_refresh *ret);

/* All results are there; nobody will wait any longer. */
void shmeta__call_finish(struct shmeta_client *client, struct call *call);
void shmeta__call_expire(struct shmeta_client *client, struct call *call);
static inline void call_gone(struct shmeta_client *client, const struct call *call)
{
	client->call_count--;
	client->bytes -= call->bytes;
}

/* ---- the public half ---- */

bool shmeta__client_is_forked(const struct shmeta_client *client);
/* The call has ended: on_call is told, if there is one. Without the lock. */
void shmeta__client_tell_end(struct shmeta_client *client, const struct call *call, enum shmeta_status status);
/* Take the call over and send or queue it; it gets its deadline here. ret_ticket may be NULL. */
enum shmeta_status shmeta__client_submit(struct shmeta_client *client, struct call *call, uint64_t *ret_ticket,
                                         struct shmeta_err *err);

/* ---- the connection ---- */

/* Everything that can be done without waiting: reconnect, receive, send. Not while another thread
 * polls. */
void shmeta__link_step(struct shmeta_client *client, uint64_t now_ns);
/* Send what can be sent. Also while another thread polls. */
void shmeta__link_send(struct shmeta_client *client, uint64_t now_ns);
/* End the submitted calls whose time is over. Also while another thread polls. */
void shmeta__link_expire(struct shmeta_client *client, uint64_t now_ns);
/* Connect and say HELLO if it is due. */
void shmeta__link_connect(struct shmeta_client *client, uint64_t now_ns);
void shmeta__link_close(struct shmeta_client *client);
short shmeta__link_events(const struct shmeta_client *client);
/* When something is due that no descriptor announces. */
uint64_t shmeta__link_due_ns(const struct shmeta_client *client);
/* The writer need not answer this call any more, which is in no list. It is told now, or with what
 * is sent next. true: the call is the link's now. */
bool shmeta__link_withdraw(struct shmeta_client *client, struct call *call);

/* ---- frames of calls (client_frame.c) ---- */

enum {
	ID_COUNT_BITS = 11
}; /* a frame's id: the number of its first operation, then how many they are; a wait has none */

/* What operations of one unit may take in a frame. */
size_t shmeta__frame_room(const struct shmeta_client *client, uint32_t frame_max);
/* What the answer to a frame of so many operations may take. */
static inline size_t answer_max(size_t count)
{
	return sizeof(struct shmeta_frame_results) +
	       count * (sizeof(struct shmeta_wire_result) + sizeof((struct shmeta_result *)NULL)->text);
}
/* Neither sent nor done. */
static inline bool op_waits(const struct op *op)
{
	return (op->flags & (OP_SENT | OP_DONE)) == 0;
}
/* Where the operations end that go into the next frame from operation i on: whole units, and so
 * many that their results fit one, too. */
size_t shmeta__frame_fill(const struct shmeta_client *client, const struct call *call, size_t i);
/* Hand the operations [i, end) to the kernel as one frame: as sendmsg(), with its errno. */
ssize_t shmeta__frame_send(struct shmeta_client *client, struct call *call, size_t i, size_t end, uint64_t now_ns);
/* The writer need not answer this wait any more. false: the kernel has no room for it now. */
bool shmeta__frame_send_end(struct shmeta_client *client, const struct call *call);

#endif
