/* SPDX-License-Identifier: Apache-2.0
 * Requests on control.sock: who may make them, what they mean, who does it. */
#include "writer/serve/verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writer/daemon/log.h"
#include "writer/serve/armed.h"
#include "writer/serve/shares.h"

static const uint64_t CACHE_NS = 100000000;
enum { WHO_BYTES = 64 };

/* Each answers its frame. False: the connection is gone. */
static bool on_register(struct connection *c, const void *frame)
{
	const struct shmeta_frame_register *request = frame;
	struct control *control = c->control;
	struct shmeta_frame_registered answer;
	struct shmeta_err err = {0};
	int fd;

	if (c->registration != NULL)
		return connection_answer(c, request->head.id, SHMETA_ERR_PROTOCOL,
		                         "this connection is already registered", 0, 0, 0);
	if (control->draining)
		return connection_answer(c, request->head.id, SHMETA_ERR_WRITER_AWAY, "the writer is stopping", 0, 0,
		                         0);
	if (!connection_watch_process(c)) {
		connection_close(c);
		return false;
	}
	if (registry_add(control->registry, request, &c->peer, c->fd, control->limits.registrations_per_user,
	                 peer_is_privileged(&c->peer) ? 100 : control->limits.user_share, &fd, &c->registration,
	                 &err) != SHMETA_OK) {
		log_event_by(c->peer.uid, LOG_WARNING, "register", "cannot register pid %d, uid %u: %s",
		             (int)c->peer.pid, (unsigned)c->peer.uid, err.text);
		return connection_answer(c, request->head.id, err.code, err.text, 0, 0, 0);
	}
	control->counters->registrations = registry_count(control->registry);
	answer = (struct shmeta_frame_registered){
		.head = {.bytes = sizeof(answer),
	                 .version = SHMETA_WIRE_VERSION,
	                 .type = SHMETA_FRAME_REGISTERED,
	                 .id = request->head.id},
		.registration = registration_number(c->registration),
		.epoch = registry_epoch(control->registry),
		.slot_count = registration_slots(c->registration),
	};
	return connection_send(c, &answer, sizeof(answer), fd);
}

static void forget_cached(struct cached_answer *cached)
{
	free(cached->json);
	cached->json = NULL;
}

static bool send_cached(struct connection *c, const void *frame, struct cached_answer *cached, char *(*make)(void *arg))
{
	const struct shmeta_frame *head = frame;
	uint64_t now = shmeta__boottime_ns();

	if (cached->json == NULL || now - cached->made_ns >= CACHE_NS) {
		free(cached->json);
		cached->json = make(c->control->host.arg);
		cached->made_ns = now;
	}
	return cached->json != NULL
	               ? connection_answer(c, head->id, SHMETA_OK, cached->json, 0, 0, 0)
	               : connection_answer(c, head->id, SHMETA_ERR_NO_MEMORY, "no memory for the answer", 0, 0, 0);
}

static bool on_status(struct connection *c, const void *frame)
{
	return send_cached(c, frame, &c->control->status, c->control->host.status);
}

static bool on_config(struct connection *c, const void *frame)
{
	return send_cached(c, frame, &c->control->config, c->control->host.config);
}

void verbs_forget_answers(struct control *control)
{
	forget_cached(&control->status);
	forget_cached(&control->config);
}

static bool may(const struct connection *c, uint32_t verb)
{
	return (rights_of(&c->control->rights, c->fd, c->peer.uid, c->peer.gid) & verb) != 0;
}

static bool deny(struct connection *c, uint64_t id, const char *what, const char *sentence)
{
	c->control->counters->denied++;
	log_event_by(c->peer.uid, LOG_WARNING, "denied", "pid %d, uid %u may not %s", (int)c->peer.pid,
	             (unsigned)c->peer.uid, what);
	return connection_answer(c, id, SHMETA_ERR_DENIED, sentence, 0, 0, 0);
}

/* For the audit log. */
static const char *who(const struct connection *c, char ret[WHO_BYTES])
{
	snprintf(ret, WHO_BYTES, "uid %u pid %d", (unsigned)c->peer.uid, (int)c->peer.pid);
	return ret;
}

static uint64_t deadline_of(uint32_t timeout_ms)
{
	return timeout_ms > 0 ? shmeta__boottime_ns() + timeout_ms * UINT64_C(1000000) : UINT64_MAX;
}

static struct shmeta_str tenant_of(const char *tenant, size_t bytes)
{
	return bytes > 0 ? (struct shmeta_str){tenant, bytes}
	                 : (struct shmeta_str){SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)};
}

static bool has_too_many(const struct connection *c)
{
	uint64_t ignored;

	return c->requests + reply_is_out(c->reply, &ignored) >= c->control->limits.requests_per_connection;
}

/* An answer past the loop would overtake what the loop has still to answer, or to send. */
static bool has_nothing_out(const struct connection *c)
{
	return c->requests == 0 && c->output == NULL;
}

/* A ticket for a request that the engine will answer, past the loop where it may. false: it has
 * been answered; *ret_alive: is the connection there still? */
static bool admitted(struct connection *c, uint64_t id, bool past_loop, uint64_t *ret_ticket, bool *ret_alive)
{
	struct control *control = c->control;

	*ret_ticket = 0;
	if (control->draining)
		*ret_alive = connection_answer(c, id, SHMETA_ERR_WRITER_AWAY,
		                               "the writer is stopping; nothing was done", 0, 0, 0);
	else if (has_too_many(c))
		*ret_alive = connection_answer(c, id, SHMETA_ERR_BUSY,
		                               "this connection has too many requests in flight", 0, 0, 0);
	else if (past_loop && has_nothing_out(c) && (*ret_ticket = reply_take(c->reply, id)) != 0)
		return true;
	else if (!tickets_take(&control->tickets, c, id, ret_ticket))
		*ret_alive = connection_answer(c, id, SHMETA_ERR_NO_MEMORY,
		                               "no memory for the request; nothing was done", 0, 0, 0);
	else
		return true;
	return false;
}

/* The engine did not take it. */
static bool turned_away(struct connection *c, uint64_t ticket, enum shmeta_status status, const char *busy)
{
	uint64_t id = 0;

	(void)tickets_end(&c->control->tickets, ticket, &id);
	return connection_answer(
		c, id, status,
		status == SHMETA_ERR_BUSY ? busy : "the writer cannot take the request now; nothing was done", 0, 0, 0);
}

static bool on_reload(struct connection *c, const void *frame)
{
	const struct shmeta_frame *head = frame;
	char sentence[1024] = "", name[WHO_BYTES];
	enum shmeta_status status;

	if (!may(c, SHMETA_VERB_ADMIN))
		return deny(c, head->id, "reload the configuration",
		            "only root, the daemon's user and members of control.admin_group may reload");
	status = c->control->host.reload(c->control->host.arg, who(c, name), sentence, sizeof(sentence));
	verbs_forget_answers(c->control);
	return connection_answer(c, head->id, status, sentence, 0, 0, 0);
}

static bool on_accept(struct connection *c, const void *frame)
{
	const struct shmeta_frame_accept *request = frame;
	char sentence[1024] = "", name[WHO_BYTES];
	uint64_t fingerprint = 0;
	enum shmeta_status status;

	if (!may(c, SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "accept a source",
		            "only root, the daemon's user and members of control.admin_group may accept a source");
	status = c->control->host.accept(c->control->host.arg, who(c, name), request->fingerprint, &fingerprint,
	                                 sentence, sizeof(sentence));
	verbs_forget_answers(c->control);
	return connection_answer(c, request->head.id, status, sentence, fingerprint, 0, 0);
}

static bool on_revoke(struct connection *c, const void *frame)
{
	const struct shmeta_frame_revoke *request = frame;
	char sentence[256] = "", name[WHO_BYTES];
	enum shmeta_status status;
	uint64_t count = 0;

	if (!may(c, SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "revoke a reader",
		            "only root, the daemon's user and members of control.admin_group may revoke a reader");
	status = c->control->host.revoke(c->control->host.arg, who(c, name), request->reader, &count, sentence,
	                                 sizeof(sentence));
	return connection_answer(c, request->head.id, status, sentence, count, 0, 0);
}

static bool on_operate(struct connection *c, const void *frame)
{
	const struct shmeta_frame_operate *request = frame;
	const char *text = (const char *)(request + 1);
	struct control *control = c->control;
	char sentence[1024] = "", name[WHO_BYTES];
	enum shmeta_status status;
	uint64_t ticket, id;
	bool alive;

	/* Whoever reads may be told why. */
	if (request->operation != SHMETA_OPERATE_EXPLAIN && !may(c, SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "operate the daemon",
		            "only root, the daemon's user and members of control.admin_group may do that");
	if (!admitted(c, request->head.id, false, &ticket, &alive))
		return alive;
	status = control->host.operate(control->host.arg, who(c, name), request->operation,
	                               tenant_of(text + request->text_bytes, request->tenant_bytes),
	                               (struct shmeta_str){text, request->text_bytes}, request->number, ticket,
	                               sentence, sizeof(sentence));
	verbs_forget_answers(control);
	if (status == SHMETA_OK)
		return true;
	(void)tickets_end(&control->tickets, ticket, &id);
	return connection_answer(c, id, status, sentence, 0, 0, 0);
}

static bool on_refresh(struct connection *c, const void *frame)
{
	const struct shmeta_frame_refresh *request = frame;
	const char *topic = (const char *)frame + sizeof(*request), *tenant = topic + request->name_bytes,
		   *name = tenant + request->tenant_bytes;
	struct backend_key key = {.cls = (enum shmeta_class)request->cls,
	                          .partition_id = request->partition_id,
	                          .topic = {topic, request->name_bytes},
	                          .tenant = tenant_of(tenant, request->tenant_bytes),
	                          .name = {name, (size_t)((const char *)frame + request->head.bytes - name)},
	                          .with_segments = (request->flags & SHMETA_REFRESH_ASK_SEGMENTS) != 0,
	                          .to = UINT64_MAX};
	const uint32_t how = ((request->flags & SHMETA_REFRESH_ASK_RECENT) != 0 ? SYNC_RECENT : 0) |
	                     ((request->flags & SHMETA_REFRESH_ASK_NO_FILL) != 0 ? SYNC_NO_FILL : 0);
	enum shmeta_status status;
	uint64_t ticket;
	bool alive;

	/* Without a name, topics, partitions and segments mean all of them. */
	if (key.topic.bytes == 0 && key.cls <= SHMETA_CLASS_LIST)
		key.cls = SHMETA_CLASS_LIST;
	if (!admitted(c, request->head.id, false, &ticket, &alive))
		return alive;
	status = c->control->host.refresh(c->control->host.arg, &key, how, c->peer.uid,
	                                  deadline_of(request->timeout_ms), ticket);
	return status == SHMETA_OK ||
	       turned_away(
		       c, ticket, status,
		       "the refresh queue is full, or so much was asked for by this user that its turn would come after "
		       "the deadline (refresh.user_rate); try again later");
}

/* Who deletes objects also confirms that they are gone: a writer, or an administrator who looks. */
static bool on_objects(struct connection *c, const void *frame)
{
	const struct shmeta_frame_objects *request = frame;
	const char *tenant = (const char *)(request + 1), *bucket = tenant + request->tenant_bytes,
		   *key = bucket + request->bucket_bytes;
	const struct sync_object_list list = {.tenant = tenant_of(tenant, request->tenant_bytes),
	                                      .after_bucket = {bucket, request->bucket_bytes},
	                                      .after_key = {key, request->key_bytes},
	                                      .deletable = (request->flags & SHMETA_OBJECTS_ASK_DELETABLE) != 0,
	                                      .most = request->most,
	                                      .uid = c->peer.uid};
	enum shmeta_status status;
	uint64_t ticket;
	bool alive;

	if (!may(c, SHMETA_VERB_WRITE | SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "list objects",
		            "only root, the daemon's user, those who may write and members of control.admin_group may "
		            "list objects");
	if (!admitted(c, request->head.id, false, &ticket, &alive))
		return alive;
	status = c->control->host.objects(c->control->host.arg, &list, deadline_of(request->timeout_ms), ticket);
	return status == SHMETA_OK ||
	       turned_away(
		       c, ticket, status,
		       "too many lists are being made, or this user has its share of them (control.user_share); try again later");
}

/* It costs the source a statement for each that asks, so it is for those who write, as the lists
 * are. */
static bool on_epoch_end(struct connection *c, const void *frame)
{
	const struct shmeta_frame_epoch_end *request = frame;
	const char *topic = (const char *)(request + 1), *tenant = topic + request->name_bytes;
	const struct backend_epoch ask = {.tenant = tenant_of(tenant, request->tenant_bytes),
	                                  .topic = {topic, request->name_bytes},
	                                  .partition_id = request->partition_id,
	                                  .epoch = request->epoch};
	enum shmeta_status status;
	uint64_t ticket;
	bool alive;

	if (!may(c, SHMETA_VERB_WRITE | SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "ask for epochs",
		            "only root, the daemon's user, those who may write and members of control.admin_group may "
		            "ask for leader epochs");
	if (!admitted(c, request->head.id, false, &ticket, &alive))
		return alive;
	status = c->control->host.epoch_end(c->control->host.arg, &ask, c->peer.uid, deadline_of(request->timeout_ms),
	                                    ticket);
	return status == SHMETA_OK ||
	       turned_away(
		       c, ticket, status,
		       "too many questions of this kind wait, or this user has its share of them (control.user_share); try again later");
}

/* Of all users' words, so many more may be this one's. */
static bool has_room_to_wait(const struct connection *c, size_t words)
{
	const struct control *control = c->control;
	size_t mine = 0, all = armed_words(control->armed);

	for (const struct connection *other = control->connections; other != NULL; other = other->next)
		if (other->peer.uid == c->peer.uid)
			mine += other->wait_words;
	return share_left(ARMED_WORDS_MAX, peer_is_privileged(&c->peer) ? 100 : control->limits.user_share, mine,
	                  all) >= words;
}

/* The wait that a frame with this id began is over. */
static bool end_wait(struct connection *c, uint64_t id, enum shmeta_status status)
{
	uint64_t ticket;

	if (!armed_withdraw(c->control->armed, c, id, &ticket))
		return true;
	(void)tickets_end(&c->control->tickets, ticket, &id);
	return connection_answer(c, id, status, NULL, 0, 0, 0);
}

/* Answered here, not by the engine: it is armed first and judged then, so that no commit falls in
 * between. */
static bool on_wait(struct connection *c, const void *frame)
{
	const struct shmeta_frame_wait *request = frame;
	struct control *control = c->control;
	uint64_t ticket, id;
	bool alive;

	if (request->flags == SHMETA_WAIT_END)
		return end_wait(c, request->head.id, SHMETA_END);
	if (!has_room_to_wait(c, request->word_count + 1))
		return connection_answer(c, request->head.id, SHMETA_ERR_BUSY,
		                         "too much is waited for, by this user or by all (control.user_share)", 0, 0,
		                         0);
	if (!admitted(c, request->head.id, false, &ticket, &alive))
		return alive;
	if (!armed_add(control->armed, c, ticket, request)) {
		(void)tickets_end(&control->tickets, ticket, &id);
		return connection_answer(c, id, SHMETA_ERR_NO_MEMORY, "no memory to wait", 0, 0, 0);
	}
	return !control->host.has_moved(control->host.arg, request) || end_wait(c, request->head.id, SHMETA_OK);
}

static bool on_invalidate(struct connection *c, const void *frame)
{
	const struct shmeta_frame_invalidate *request = frame;
	const char *name = (const char *)(request + 1), *tenant = name + request->name_bytes;
	const struct sync_invalidation what = {.cls = (enum shmeta_class)request->cls,
	                                       .tenant = tenant_of(tenant, request->tenant_bytes),
	                                       .topic = {name, request->name_bytes},
	                                       .partition_id = request->partition_id,
	                                       .prefix = (request->flags & SHMETA_INVALIDATE_ASK_PREFIX) != 0,
	                                       .dry_run = (request->flags & SHMETA_INVALIDATE_ASK_DRY_RUN) != 0,
	                                       .uid = c->peer.uid};
	enum shmeta_status status;
	char by[WHO_BYTES];
	uint64_t ticket;
	bool alive;

	if (!may(c, SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "invalidate",
		            "only root, the daemon's user and members of control.admin_group may invalidate");
	if (!admitted(c, request->head.id, false, &ticket, &alive))
		return alive;
	status = c->control->host.invalidate(c->control->host.arg, &what, deadline_of(request->timeout_ms), who(c, by),
	                                     ticket);
	return status == SHMETA_OK ||
	       turned_away(
		       c, ticket, status,
		       "too many invalidations are under way, or this user has its share of them (control.user_share); try again later");
}

/* Agree on a version, and say what this peer may do. */
static bool on_hello(struct connection *c, const void *frame)
{
	const struct shmeta_frame_hello *hello = frame;
	struct shmeta_frame_welcome welcome = {.head = {.bytes = sizeof(welcome),
	                                                .version = SHMETA_WIRE_VERSION,
	                                                .type = SHMETA_FRAME_WELCOME,
	                                                .id = hello->head.id},
	                                       .version = SHMETA_WIRE_VERSION,
	                                       .verbs =
	                                               rights_of(&c->control->rights, c->fd, c->peer.uid, c->peer.gid) |
	                                               SHMETA_WELCOME_TRACES | SHMETA_WELCOME_WAITS,
	                                       .epoch = registry_epoch(c->control->registry),
	                                       .frame_max = SHMETA_FRAME_MAX,
	                                       .requests_max = c->control->limits.requests_per_connection};
	char why[120];

	if (hello->version_min <= SHMETA_WIRE_VERSION && hello->version_max >= SHMETA_WIRE_VERSION)
		return connection_send(c, &welcome, sizeof(welcome), -1);
	snprintf(why, sizeof(why), "this writer speaks version %d, the client %u to %u; upgrade the older one",
	         SHMETA_WIRE_VERSION, hello->version_min, hello->version_max);
	if (connection_answer(c, hello->head.id, SHMETA_ERR_VERSION, why, 0, 0, 0))
		connection_close(c);
	return false;
}

static bool on_write(struct connection *c, const void *frame)
{
	const struct shmeta_frame_write *request = frame;
	const char *tenant = (const char *)(request + 1);
	const size_t before = sizeof(*request) + ((size_t)request->tenant_bytes + 7) / 8 * 8;
	struct control *control = c->control;
	enum shmeta_status status;
	char by[WHO_BYTES];
	uint64_t ticket, id;
	bool alive;

	if (!may(c, SHMETA_VERB_WRITE))
		return deny(
			c, request->head.id, "write",
			"only root, the daemon's user, control.write_users and members of control.write_groups may write");
	if (!admitted(c, request->head.id, true, &ticket, &alive))
		return alive;
	status = before < request->head.bytes
	                 ? control->host.write(control->host.arg,
	                                       &(struct sync_write){.tenant = tenant_of(tenant, request->tenant_bytes),
	                                                            .ops = (const char *)frame + before,
	                                                            .bytes = request->head.bytes - before,
	                                                            .count = request->op_count,
	                                                            .deadline_ns = deadline_of(request->timeout_ms),
	                                                            .uid = c->peer.uid,
	                                                            .connection = c->number,
	                                                            .who = who(c, by),
	                                                            .ticket = ticket})
	                 : SHMETA_ERR_PROTOCOL;
	if (status == SHMETA_ERR_PROTOCOL) {
		(void)tickets_end(&control->tickets, ticket, &id);
		connection_evict(c, &control->counters->bad_frames, "bad-frame",
		                 "the %u operations of a frame do not parse", request->op_count);
		return false;
	}
	return status == SHMETA_OK ||
	       turned_away(c, ticket, status,
	                   "the write queue is full, or holds the most of this connection or user (section write and "
	                   "control.user_share of shmeta.conf); nothing was done; try again in 10 ms");
}

static const struct {
	uint16_t type;
	bool (*handle)(struct connection *c, const void *frame);
} verbs[] = {
	{SHMETA_FRAME_HELLO, on_hello},         {SHMETA_FRAME_WRITE, on_write},
	{SHMETA_FRAME_REGISTER, on_register},   {SHMETA_FRAME_REFRESH, on_refresh},
	{SHMETA_FRAME_STATUS, on_status},       {SHMETA_FRAME_RELOAD, on_reload},
	{SHMETA_FRAME_OBJECTS, on_objects},     {SHMETA_FRAME_INVALIDATE, on_invalidate},
	{SHMETA_FRAME_CONFIG, on_config},       {SHMETA_FRAME_ACCEPT, on_accept},
	{SHMETA_FRAME_REVOKE, on_revoke},       {SHMETA_FRAME_OPERATE, on_operate},
	{SHMETA_FRAME_EPOCH_END, on_epoch_end}, {SHMETA_FRAME_WAIT, on_wait},
};

bool verbs_handle(struct connection *c, const struct shmeta_frame *frame)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (verbs[i].type == frame->type)
			return verbs[i].handle(c, frame);
	connection_evict(c, &c->control->counters->bad_frames, "bad-frame", "a client does not send %s frames",
	                 shmeta__frame_name(frame->type));
	return false;
}
