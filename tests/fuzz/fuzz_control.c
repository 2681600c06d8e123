/* SPDX-License-Identifier: Apache-2.0
 * Frames of hostile clients, through the daemon's control socket and its dispatch into an engine on
 * an in-memory source; all on one thread, the event loop included. Each frame that parses is
 * answered once, with its id and with a frame that parses; one that does not costs its own
 * connection and nothing else: a client that was connected all the time is still served.
 *
 * An input is a list of steps. Each begins with a byte; its lowest two bits say what it is:
 *   0  uint16_t n, n bytes: a packet as it is
 *   1  uint8_t type, uint16_t n, n bytes: a frame with a correct head
 *   2  the daemon runs until nothing is left to do
 *   3  the next two bits: use the other connection, close the connection, let the time limits pass,
 *      run the loop without the engine */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/bare_engine.h"
#include "writer/daemon/log.h"
#include "writer/daemon/mailbox.h"
#include "writer/serve/pins.h"
#include "writer/serve/serve.h"

enum { PEERS = 2, STEPS_MAX = 32, IDS_MAX = 64, TURNS_MAX = 200 };

struct peer {
	int fd; /* -1: not connected */
	uint64_t id[IDS_MAX];
	size_t ids;     /* frames that are to be answered */
	bool ends;      /* something was sent that the daemon closes a connection for */
	bool may_close; /* a time limit may have done it */
};

static struct {
	struct bare_engine engine;
	sd_event *event;
	struct registry *registry;
	struct control *control;
	struct control_counters counters;
	struct mailbox *mailbox;
	struct peer bystander, peers[PEERS];
	uint64_t last_id;
	uint64_t ahead_ns; /* of the engine's clock: nobody waits for what is due later */
	bool up, asked;    /* asked: something of the engine, since it last ran */
} w;

/* ---- the daemon's part: what daemon.c does between the control socket and the engine ---- */

static enum shmeta_status owed(enum shmeta_status status)
{
	w.asked = true;
	if (status != SHMETA_OK)
		mailbox_settle(w.mailbox);
	return status;
}

static enum shmeta_status serve_refresh(void *arg, const struct backend_key *key, uint32_t how, uint32_t uid,
                                        uint64_t deadline_ns, uint64_t ticket)
{
	(void)arg;
	require(mailbox_owe(w.mailbox));
	return owed(sync_refresh(w.engine.sync, key, how, uid, deadline_ns, ticket));
}

static enum shmeta_status serve_write(void *arg, const struct sync_write *write)
{
	(void)arg;
	require(mailbox_owe(w.mailbox));
	return owed(sync_write(w.engine.sync, write));
}

static enum shmeta_status serve_epoch_end(void *arg, const struct backend_epoch *ask, uint32_t uid,
                                          uint64_t deadline_ns, uint64_t ticket)
{
	(void)arg;
	require(mailbox_owe(w.mailbox));
	return owed(sync_epoch_end(w.engine.sync, ask, uid, deadline_ns, ticket));
}

static enum shmeta_status serve_objects(void *arg, const struct sync_object_list *list, uint64_t deadline_ns,
                                        uint64_t ticket)
{
	(void)arg;
	require(mailbox_owe(w.mailbox));
	return owed(sync_list_objects(w.engine.sync, list, deadline_ns, ticket));
}

static enum shmeta_status serve_invalidate(void *arg, const struct sync_invalidation *what, uint64_t deadline_ns,
                                           const char *who, uint64_t ticket)
{
	(void)arg;
	require(mailbox_owe(w.mailbox));
	return owed(sync_invalidate(w.engine.sync, what, deadline_ns, who, ticket));
}

static char *serve_json(void *arg)
{
	(void)arg;
	return strdup("{}");
}

static enum shmeta_status serve_accept(void *arg, const char *who, uint64_t fingerprint, uint64_t *ret_fingerprint,
                                       char *ret_sentence, size_t bytes)
{
	struct sync_held held = {.held = false};

	(void)arg;
	(void)who;
	sync_read_held(w.engine.sync, &held);
	*ret_fingerprint = held.fingerprint;
	(void)snprintf(ret_sentence, bytes, "%s", held.sentence);
	return sync_accept(w.engine.sync, fingerprint);
}

static enum shmeta_status serve_revoke(void *arg, const char *who, uint64_t reader, uint64_t *ret_count,
                                       char *ret_sentence, size_t bytes)
{
	(void)arg;
	(void)who;
	return pins_revoke(w.registry, reader, ret_count, ret_sentence, bytes);
}

static enum shmeta_status serve_reload(void *arg, const char *who, char *ret_sentence, size_t bytes)
{
	(void)arg;
	(void)who;
	(void)snprintf(ret_sentence, bytes, "there is no file");
	return SHMETA_ERR_CONFIG;
}

static void on_answer(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
                      uint64_t generation, uint64_t synced_at_ns)
{
	struct mail *letter = mailbox_letter(w.mailbox, MAIL_ANSWER, sentence);

	(void)arg;
	letter->number = (int)status;
	letter->ticket = ticket;
	letter->txn = txn;
	letter->generation = generation;
	letter->synced_at_ns = synced_at_ns;
	mailbox_post(w.mailbox, letter);
	mailbox_settle(w.mailbox);
}

static void post_frame(uint64_t ticket, struct mail *letter, enum shmeta_frame_type type)
{
	struct shmeta_frame *head = (struct shmeta_frame *)(void *)letter->text;

	*head = (struct shmeta_frame){
		.bytes = (uint32_t)letter->bytes, .version = SHMETA_WIRE_VERSION, .type = (uint16_t)type};
	letter->ticket = ticket;
	mailbox_post(w.mailbox, letter);
	mailbox_settle(w.mailbox);
}

static void on_written(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence,
                       const struct shmeta_op *ops, const struct shmeta_result *results, size_t count, uint64_t txn,
                       uint64_t generation)
{
	size_t bytes = sizeof(struct shmeta_frame_results), at = bytes;
	struct shmeta_frame_results *frame;
	struct mail *letter;

	if (results == NULL) {
		on_answer(arg, ticket, status, sentence, txn, generation, 0);
		return;
	}
	for (size_t i = 0; i < count; i++)
		bytes += shmeta__result_bytes(&results[i]);
	letter = mailbox_parcel(w.mailbox, MAIL_WRITTEN, bytes);
	for (size_t i = 0; i < count; i++)
		at += shmeta__result_encode(ops[i].type, &results[i], letter->text + at, bytes - at);
	require(at == bytes);
	frame = (struct shmeta_frame_results *)(void *)letter->text;
	*frame = (struct shmeta_frame_results){
		.result_count = (uint32_t)count, .status = status, .txn = txn, .generation = generation};
	post_frame(ticket, letter, SHMETA_FRAME_RESULTS);
}

static void on_objects(void *arg, uint64_t ticket, const void *rows, size_t bytes, size_t count, bool more)
{
	struct mail *letter = mailbox_parcel(w.mailbox, MAIL_WRITTEN, sizeof(struct shmeta_frame_object_list) + bytes);
	struct shmeta_frame_object_list *frame = (struct shmeta_frame_object_list *)(void *)letter->text;

	(void)arg;
	*frame = (struct shmeta_frame_object_list){.object_count = (uint32_t)count, .more = more};
	if (bytes > 0)
		memcpy(frame + 1, rows, bytes);
	post_frame(ticket, letter, SHMETA_FRAME_OBJECT_LIST);
}

static void on_invalidated(void *arg, uint64_t ticket, const struct sync_invalidated *count, uint64_t txn,
                           uint64_t generation)
{
	struct mail *letter = mailbox_parcel(w.mailbox, MAIL_WRITTEN, sizeof(struct shmeta_frame_invalidated));

	(void)arg;
	*(struct shmeta_frame_invalidated *)(void *)letter->text =
		(struct shmeta_frame_invalidated){.topics = count->topics,
	                                          .partitions = count->partitions,
	                                          .records = count->records,
	                                          .txn = txn,
	                                          .generation = generation};
	post_frame(ticket, letter, SHMETA_FRAME_INVALIDATED);
}

static void read_mail(void)
{
	for (struct mail *letter = mailbox_take(w.mailbox), *next; letter != NULL; letter = next) {
		next = letter->next;
		if (letter->kind == MAIL_ANSWER)
			control_answer(w.control, letter->ticket, (enum shmeta_status)letter->number, letter->text,
			               letter->txn, letter->generation, letter->synced_at_ns);
		else
			control_written(w.control, letter->ticket, letter->text, letter->bytes);
		free(letter);
	}
}

/* ---- the world ---- */

static void connect_peer(struct peer *peer)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	*peer = (struct peer){.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
	(void)snprintf(address.sun_path, sizeof address.sun_path, "%s/control.sock", w.engine.dir);
	require(peer->fd >= 0 && connect(peer->fd, (struct sockaddr *)&address, sizeof address) == 0);
}

static void disconnect_peer(struct peer *peer)
{
	if (peer->fd >= 0)
		(void)close(peer->fd);
	*peer = (struct peer){.fd = -1};
}

static bool has_moved(void *arg, const struct shmeta_frame_wait *since)
{
	(void)arg;
	return since->txn % 2 == 0;
}

static uint64_t now_ns(void *arg)
{
	(void)arg;
	return shmeta__boottime_ns() + w.ahead_ns;
}

static uint64_t oldest_pin(void *arg, uint64_t generation)
{
	(void)arg;
	return registry_oldest_pin(w.registry, generation);
}

static void world_up(void)
{
	const struct control_host host = {.refresh = serve_refresh,
	                                  .write = serve_write,
	                                  .objects = serve_objects,
	                                  .epoch_end = serve_epoch_end,
	                                  .has_moved = has_moved,
	                                  .invalidate = serve_invalidate,
	                                  .status = serve_json,
	                                  .config = serve_json,
	                                  .accept = serve_accept,
	                                  .revoke = serve_revoke,
	                                  .reload = serve_reload};
	const struct control_limits limits = {.connections_max = 64,
	                                      .connections_reserved = 4,
	                                      .connections_per_user = 32,
	                                      .registrations_per_user = 8,
	                                      .requests_per_connection = 16,
	                                      .user_share = 50,
	                                      .first_frame_ns = 1000000000,
	                                      .idle_ns = 60000000000,
	                                      .output_max = 1 << 20};
	struct shmeta_err err = {.text = ""};
	uint64_t wait;

	bare_engine_init(&w.engine);
	w.engine.host = (struct sync_host){.oldest_pin = oldest_pin,
	                                   .answer = on_answer,
	                                   .written = on_written,
	                                   .objects = on_objects,
	                                   .invalidated = on_invalidated};
	w.engine.options.clock.boottime_ns = now_ns;
	bare_engine_must(memory_create_topic(w.engine.db, NULL, "orders", 2, 1000) &&
	                         memory_create_topic(w.engine.db, NULL, "orders.late", 1, 1000),
	                 "topics", NULL);
	bare_engine_must(sd_event_new(&w.event) >= 0, "a loop", NULL);
	bare_engine_must(mailbox_new(&w.mailbox, &err) == SHMETA_OK, "a mailbox", &err);
	bare_engine_must(registry_new(w.engine.board, 1, 1000000000, &w.registry, &err) == SHMETA_OK, "a registry",
	                 &err);
	w.counters = (struct control_counters){.frames = 0};
	bare_engine_must(control_start(w.event, w.engine.dir_fd, w.engine.dir, NULL, -1, &limits, w.registry, &host,
	                               &w.counters, &w.control, &err) == SHMETA_OK,
	                 "a control socket", &err);
	bare_engine_must(bare_engine_open(&w.engine, &err) == SHMETA_OK, "an engine", &err);
	for (int i = 0; i < 3; i++)
		bare_engine_must(sync_run_once(w.engine.sync, &wait) == SHMETA_OK, "a first load", NULL);
	connect_peer(&w.bystander);
	for (int i = 0; i < PEERS; i++)
		w.peers[i].fd = -1;
	w.up = true;
}

static void world_down(void)
{
	disconnect_peer(&w.bystander);
	for (int i = 0; i < PEERS; i++)
		disconnect_peer(&w.peers[i]);
	bare_engine_close(&w.engine);
	read_mail();
	control_stop(w.control);
	registry_free(w.registry);
	mailbox_free(w.mailbox);
	(void)sd_event_unref(w.event);
	bare_engine_done(&w.engine);
	w.up = false;
}

static void at_exit(void)
{
	if (w.up)
		world_down();
}

static void start(void)
{
	static FILE *sink;

	if (sink == NULL) {
		sink = fopen("/dev/null", "w");
		require(sink != NULL && atexit(at_exit) == 0);
		log_open(sink, "fuzz", LOG_DEBUG);
	}
	if (!w.up)
		world_up();
}

/* ---- clients ---- */

static void run_loop(void)
{
	for (int i = 0; i < TURNS_MAX && sd_event_run(w.event, 0) > 0; i++)
		;
}

static void run_engine(void)
{
	uint64_t wait = 0;

	w.asked = false;
	require(sync_run_once(w.engine.sync, &wait) == SHMETA_OK);
	w.ahead_ns += wait < 1000000000 ? wait : 1000000000;
	read_mail();
}

static bool is_answer(uint16_t type)
{
	return type == SHMETA_FRAME_ANSWER || type == SHMETA_FRAME_REGISTERED || type == SHMETA_FRAME_WELCOME ||
	       type == SHMETA_FRAME_RESULTS || type == SHMETA_FRAME_OBJECT_LIST || type == SHMETA_FRAME_INVALIDATED;
}

/* Take what has come. */
static void hear(struct peer *peer)
{
	static _Alignas(8) unsigned char packet[SHMETA_FRAME_MAX];
	const struct shmeta_frame *head = (const struct shmeta_frame *)(void *)packet;

	while (peer->fd >= 0) {
		ssize_t got = recv(peer->fd, packet, sizeof packet, MSG_DONTWAIT | MSG_TRUNC);
		size_t i = 0;

		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) {
			require(peer->ends || peer->may_close);
			disconnect_peer(peer);
			return;
		}
		require(shmeta__frame_check(packet, (size_t)got) == SHMETA_OK && is_answer(head->type));
		while (i < peer->ids && peer->id[i] != head->id)
			i++;
		require(i < peer->ids);
		peer->id[i] = peer->id[--peer->ids];
	}
}

static void hear_all(void)
{
	hear(&w.bystander);
	for (int i = 0; i < PEERS; i++)
		hear(&w.peers[i]);
}

static size_t unanswered(void)
{
	size_t count = w.bystander.ids;

	for (int i = 0; i < PEERS; i++)
		count += w.peers[i].ids;
	return count;
}

static void settle(void)
{
	for (int i = 0; i < TURNS_MAX; i++) {
		run_loop();
		if (w.asked || unanswered() > 0)
			run_engine();
		hear_all();
		if (unanswered() == 0 && !w.asked)
			return;
	}
	require(unanswered() == 0);
}

/* Do its operations parse? */
static bool has_ops(const struct shmeta_frame_write *frame)
{
	const uint8_t *at = (const uint8_t *)(frame + 1) + ((size_t)frame->tenant_bytes + 7) / 8 * 8,
		      *end = (const uint8_t *)frame + frame->head.bytes;
	size_t used;

	for (uint32_t i = 0; i < frame->op_count; i++, at += used) {
		struct shmeta_op op;

		if (at >= end || shmeta__op_decode(at, (size_t)(end - at), &op, &used) != SHMETA_OK)
			return false;
	}
	return at == end;
}

static bool is_answered(const void *packet, size_t bytes)
{
	const struct shmeta_frame *head = packet;

	return shmeta__frame_check(packet, bytes) == SHMETA_OK && !is_answer(head->type) &&
	       (head->type != SHMETA_FRAME_WRITE || has_ops(packet));
}

static bool ends_connection(const void *packet)
{
	const struct shmeta_frame_hello *hello = packet;

	return hello->head.type == SHMETA_FRAME_HELLO &&
	       (hello->version_min > SHMETA_WIRE_VERSION || hello->version_max < SHMETA_WIRE_VERSION);
}

static void say(struct peer *peer, const void *packet, size_t bytes)
{
	bool answered = is_answered(packet, bytes), last = !answered || ends_connection(packet);

	if (peer->fd < 0)
		connect_peer(peer);
	if (peer->ids == IDS_MAX || send(peer->fd, packet, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)bytes)
		return;
	/* What comes behind the end of a connection is not read. */
	if (answered && !peer->ends)
		peer->id[peer->ids++] = ((const struct shmeta_frame *)packet)->id;
	peer->ends |= last;
}

static void say_frame(struct peer *peer, uint16_t type, const uint8_t *body, size_t bytes)
{
	static _Alignas(8) uint8_t packet[SHMETA_FRAME_MAX];
	const struct shmeta_frame head = {.bytes = (uint32_t)(sizeof head + bytes),
	                                  .version = SHMETA_WIRE_VERSION,
	                                  .type = type,
	                                  .id = ++w.last_id};

	memcpy(packet, &head, sizeof head);
	if (bytes > 0)
		memcpy(packet + sizeof head, body, bytes);
	say(peer, packet, sizeof head + bytes);
}

static void say_bytes(struct peer *peer, const uint8_t *bytes, size_t count)
{
	static _Alignas(8) uint8_t packet[UINT16_MAX];

	if (count > 0)
		memcpy(packet, bytes, count);
	if (count >= sizeof(struct shmeta_frame))
		say(peer, packet, count);
}

static void step(struct fuzz_input *in, struct peer **peer)
{
	uint8_t what = fuzz_u8(in), type;
	const uint8_t *body;
	size_t bytes;

	switch (what % 4) {
	case 0:
		body = fuzz_bytes(in, fuzz_u16(in), &bytes);
		say_bytes(*peer, body, bytes);
		return;
	case 1:
		type = fuzz_u8(in);
		body = fuzz_bytes(in, fuzz_u16(in), &bytes);
		say_frame(*peer, type, body, bytes);
		return;
	case 2:
		settle();
		return;
	default:
		break;
	}
	switch (what / 4 % 4) {
	case 0:
		*peer = *peer == &w.peers[0] ? &w.peers[1] : &w.peers[0];
		break;
	case 1:
		disconnect_peer(*peer);
		break;
	case 2:
		for (int i = 0; i < PEERS; i++)
			w.peers[i].may_close = true;
		control_sweep(w.control, shmeta__boottime_ns() + UINT64_C(3000000000));
		break;
	default:
		run_loop();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz_input in = {data, bytes};
	struct peer *peer = &w.peers[0];
	struct sync_counters counters;

	start();
	/* Whoever has not spoken may be closed by the time limits. */
	say_frame(&w.bystander, SHMETA_FRAME_CONFIG, NULL, 0);
	settle();
	for (int i = 0; i < STEPS_MAX && in.left > 0; i++)
		step(&in, &peer);
	settle();
	for (int i = 0; i < PEERS; i++)
		disconnect_peer(&w.peers[i]);
	say_frame(&w.bystander, SHMETA_FRAME_STATUS, NULL, 0);
	settle();
	/* Registrations outlive their connections by a grace period. */
	control_sweep(w.control, shmeta__boottime_ns() + UINT64_C(1500000000));
	/* What was written would be there for the next input. */
	sync_read_counters(w.engine.sync, &counters);
	if (counters.write_ops > 0)
		world_down();
	return 0;
}
