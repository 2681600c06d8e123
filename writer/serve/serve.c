/* SPDX-License-Identifier: Apache-2.0
 * Serving control.sock: connections are taken and read in turns; answers of the engine find their
 * way. */
#include "writer/serve/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "writer/daemon/log.h"
#include "writer/serve/armed.h"
#include "writer/serve/connection.h"
#include "writer/serve/packet.h"
#include "writer/serve/shares.h"
#include "writer/serve/verbs.h"

/* Of one connection, before the others have their turn. */
static const uint64_t TURN_NS = 500000;
enum { AFTER_OTHERS = SD_EVENT_PRIORITY_NORMAL + 1 };

void control_answer(struct control *control, uint64_t number, enum shmeta_status status, const char *sentence,
                    uint64_t txn, uint64_t generation, uint64_t synced_at_ns)
{
	struct connection *c;
	uint64_t id;

	c = tickets_end(&control->tickets, number, &id);
	if (c != NULL) {
		c->active_ns = shmeta__boottime_ns();
		(void)connection_answer(c, id, status, sentence, txn, generation, synced_at_ns);
	}
}

void control_written(struct control *control, uint64_t number, void *frame, size_t bytes)
{
	struct shmeta_frame *head = frame;
	struct connection *c;

	c = tickets_end(&control->tickets, number, &head->id);
	/* NULL: the client has gone; what it wrote stands */
	if (c != NULL) {
		c->active_ns = shmeta__boottime_ns();
		(void)connection_send(c, frame, bytes, -1);
	}
}

bool control_committed(struct control *control, const uint64_t *touched)
{
	return armed_note(control->armed, touched);
}

void control_waited(struct control *control, uint64_t *words)
{
	armed_waited(control->armed, words);
}

void control_end_waits(struct control *control)
{
	uint64_t ticket, began = shmeta__boottime_ns();

	while (armed_take(control->armed, &ticket)) {
		control_answer(control, ticket, SHMETA_OK, NULL, 0, 0, 0);
		/* One commit may end as many as there are. */
		if (shmeta__boottime_ns() - began >= TURN_NS && control->waits_over != NULL) {
			(void)sd_event_source_set_enabled(control->waits_over, SD_EVENT_ONESHOT);
			break;
		}
	}
}

static int on_waits_over(sd_event_source *source, void *arg)
{
	(void)source;
	control_end_waits(arg);
	return 0;
}

/* False: the connection is gone. */
static bool on_frame(struct connection *c, size_t bytes)
{
	const struct shmeta_frame *head = (const void *)c->control->frame;

	if (bytes > SHMETA_FRAME_MAX) {
		connection_evict(c, &c->control->counters->bad_frames, "bad-frame", "a frame of %zu bytes", bytes);
		return false;
	}
	if (shmeta__frame_check(head, bytes) != SHMETA_OK) {
		connection_evict(c, &c->control->counters->bad_frames, "bad-frame",
		                 "a frame of %zu bytes does not parse", bytes);
		return false;
	}
	c->control->counters->frames++;
	c->spoke = true;
	c->active_ns = shmeta__boottime_ns();
	return verbs_handle(c, head);
}

/* false: there is no timer. */
static bool await_renewal(struct control *control)
{
	return sd_event_source_set_time(control->renewal, budget_renewed_ns(&control->budget) / 1000 + 1) >= 0 &&
	       sd_event_source_set_enabled(control->renewal, SD_EVENT_ONESHOT) >= 0;
}

static void park(struct connection *c)
{
	c->parked = await_renewal(c->control) && sd_event_source_set_enabled(c->source, SD_EVENT_OFF) >= 0;
}

static void yield_to_others(struct connection *c)
{
	c->yields = await_renewal(c->control) && sd_event_source_set_priority(c->source, AFTER_OTHERS) >= 0;
}

static int on_renewal(sd_event_source *source, uint64_t usec, void *arg)
{
	struct control *control = arg;

	(void)source;
	(void)usec;
	for (struct connection *c = control->connections; c != NULL; c = c->next) {
		if (c->parked)
			(void)sd_event_source_set_enabled(c->source, SD_EVENT_ON);
		if (c->yields)
			(void)sd_event_source_set_priority(c->source, SD_EVENT_PRIORITY_NORMAL);
		c->parked = c->yields = false;
	}
	return 0;
}

/* Of the loop's thread: a user pays for the work that he makes, not for the time in which other
 * processes had the processor. */
static uint64_t worked_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Frames of one connection, as long as its turn lasts. */
static void read_frames(struct connection *c, int fd)
{
	struct control *control = c->control;
	const uint32_t uid = c->peer.uid;
	uint64_t began = shmeta__boottime_ns(), now = began, worked;
	bool alive = true;

	if (!peer_is_privileged(&c->peer) && !budget_left(&control->budget, uid, began)) {
		park(c);
		return;
	}
	if (!c->yields && !peer_is_privileged(&c->peer) && budget_yields(&control->budget, uid, began)) {
		yield_to_others(c); /* and is read when it is called again */
		if (c->yields)
			return;
	}
	worked = worked_ns();
	while (alive && c->output == NULL && now - began < TURN_NS) {
		/* MSG_TRUNC: the packet's own length, whatever fitted. */
		ssize_t got = recv(fd, control->frame, sizeof(control->frame), MSG_DONTWAIT | MSG_TRUNC);

		if (got < 0 && (packet_would_block(errno) || errno == EINTR))
			break;
		alive = got > 0 && on_frame(c, (size_t)got);
		if (got <= 0) /* an empty packet is not a frame either */
			connection_close(c);
		now = shmeta__boottime_ns();
	}
	budget_spend(&control->budget, uid, worked_ns() - worked, now);
}

static void serve(struct connection *c, int fd, uint32_t events)
{
	if (c->output != NULL && (events & (EPOLLHUP | EPOLLERR))) {
		connection_close(c); /* nobody is left to read what waits */
		return;
	}
	if (events & EPOLLOUT) {
		connection_flush(c);
		return;
	}
	read_frames(c, fd);
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void)source;
	serve(arg, fd, events);
	return 0;
}

/* NULL: this peer may have another connection. */
static const char *over_limit(const struct control *control, const struct registry_peer *peer)
{
	const struct control_limits *limits = &control->limits;
	uint32_t shared = limits->connections_max - limits->connections_reserved, mine = 0, unregistered = 0;

	for (const struct connection *c = control->connections; c != NULL; c = c->next)
		if (c->peer.uid == peer->uid) {
			mine++;
			unregistered += c->registration == NULL;
		}
	if (control->count >= limits->connections_max)
		return "the writer has as many connections as it takes (control.connections_max)";
	if (unregistered >= limits->connections_per_user)
		return "this user has as many unregistered connections as one may have (control.connections_per_user)";
	if (peer_is_privileged(peer))
		return NULL;
	if (control->count + limits->connections_reserved >= limits->connections_max)
		return "the writer keeps its last connections for the administrator (control.connections_reserved)";
	if (share_left(shared, limits->user_share, mine, control->count) == 0)
		return "this user has its share of the connections (control.user_share)";
	return NULL;
}

/* Before it is watched or anything is kept of it: whoever is refused at a high rate costs
 * little. */
static void refuse(struct control *control, int fd, const struct registry_peer *peer, const char *why)
{
	struct {
		struct shmeta_frame_answer answer;
		char text[200];
	} frame = {.answer = {.head = {.version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_ANSWER},
	                      .status = SHMETA_ERR_BUSY}};
	int length = snprintf(frame.text, sizeof(frame.text), "%s", why);

	frame.answer.text_bytes = (uint32_t)length;
	frame.answer.head.bytes = (uint32_t)(sizeof(frame.answer) + (size_t)length);
	control->counters->refused++;
	log_event_by(peer->uid, LOG_WARNING, "refused", "refused a connection of pid %d, uid %u: %s", (int)peer->pid,
	             (unsigned)peer->uid, why);
	(void)packet_send(fd, &frame, frame.answer.head.bytes, -1);
	close(fd);
}

static void on_arrived(void *arg, int fd, const struct registry_peer *peer)
{
	struct control *control = arg;
	const char *why = over_limit(control, peer);

	if (why != NULL)
		refuse(control, fd, peer, why);
	else if (connection_add(control, fd, peer, on_connection) != NULL)
		control->counters->accepted++;
}

static const uint64_t SHED_NS = 10000000000;

static void on_shed(void *arg)
{
	struct control *control = arg;

	control->counters->refused++;
}

static void unknown_name(void *arg, const char *name)
{
	(void)arg;
	log_event(LOG_WARNING, "group", "control: there is no user or group '%s'; it grants nothing", name);
}

void control_set_limits(struct control *control, const struct control_limits *limits)
{
	control->limits = *limits;
	control->limits.admin_group = control->limits.write_groups = control->limits.write_users = NULL;
	rights_rule_set(&control->rights.admin, NULL, limits->admin_group, unknown_name, NULL);
	rights_rule_set(&control->rights.write, limits->write_users, limits->write_groups, unknown_name, NULL);
}

enum shmeta_status control_start(sd_event *event, int dir_fd, const char *path, const char *group, int passed_fd,
                                 const struct control_limits *limits, struct registry *registry,
                                 const struct control_host *host, struct control_counters *counters,
                                 struct control **ret, struct shmeta_err *err)
{
	struct control *control = aligned_alloc(_Alignof(struct control), sizeof(*control));
	const struct listen_host listen = {.arg = control, .arrived = on_arrived, .shed = on_shed};
	enum shmeta_status status;

	if (control == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for the control socket");
	memset(control, 0, sizeof(*control));
	control->event = event;
	control->registry = registry;
	control->host = *host;
	control->counters = counters;
	control_set_limits(control, limits);
	control->armed = armed_new();
	if (control->armed == NULL ||
	    sd_event_add_time(event, &control->renewal, CLOCK_BOOTTIME, UINT64_MAX, 1, on_renewal, control) < 0 ||
	    sd_event_add_defer(event, &control->waits_over, on_waits_over, control) < 0 ||
	    sd_event_source_set_enabled(control->waits_over, SD_EVENT_OFF) < 0) {
		control_stop(control);
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for the control socket");
	}
	status = listen_start(&control->listener, event, dir_fd, path, group, passed_fd, &listen, err);
	if (status != SHMETA_OK) {
		control_stop(control);
		return status;
	}
	*ret = control;
	return SHMETA_OK;
}

bool control_is_found(const struct control *control)
{
	return listen_is_found(&control->listener);
}

bool control_is_shedding(const struct control *control)
{
	return control->listener.shed_ns != 0 && shmeta__boottime_ns() < control->listener.shed_ns + SHED_NS;
}

void control_adopt(struct control *control, int fd, uint64_t number)
{
	struct registration *registration = registry_find(control->registry, number);
	struct registry_peer peer;
	struct connection *c;

	/* systemd hands descriptors over with the flags of its own choice. */
	if (registration == NULL || !listen_peer_of(fd, &peer) || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		close(fd);
		return;
	}
	c = connection_add(control, fd, &peer, on_connection);
	if (c == NULL)
		return;
	c->spoke = true;
	c->registration = registration;
	registry_reconnect(registration, &peer);
	if (!connection_watch_process(c))
		connection_close(c);
}

/* What was answered meanwhile was answered later than now. */
static bool is_idle(const struct control *control, uint64_t active_ns, uint64_t now_ns)
{
	return now_ns > active_ns && now_ns - active_ns > control->limits.idle_ns;
}

void control_sweep(struct control *control, uint64_t now_ns)
{
	uint64_t answered_ns;

	for (struct connection *c = control->connections, *next; c != NULL; c = next) {
		next = c->next;
		/* What the process holds of us ends with its snapshots; it registers anew. */
		if (c->registration != NULL && registration_is_revoked(c->registration)) {
			connection_close(c);
			continue;
		}
		if (c->registration != NULL || c->requests > 0 || reply_is_out(c->reply, &answered_ns))
			continue;
		if (!c->spoke && now_ns - c->opened_ns > control->limits.first_frame_ns)
			connection_evict(c, &control->counters->silent, "silent", "no frame came within %" PRIu64 " ms",
			                 control->limits.first_frame_ns / 1000000);
		else if (is_idle(control, answered_ns > c->active_ns ? answered_ns : c->active_ns, now_ns))
			connection_evict(c, &control->counters->silent, "silent",
			                 "idle, and not registered, for %" PRIu64 " s",
			                 control->limits.idle_ns / 1000000000);
	}
	registry_sweep(control->registry, now_ns);
	control->counters->registrations = registry_count(control->registry);
}

void control_read_users(const struct control *control, struct shmeta_activity *page)
{
	struct shmeta_user user[SHMETA_USERS];
	uint32_t count = 0, total = 0;

	for (const struct connection *c = control->connections; c != NULL; c = c->next) {
		uint32_t i = 0;

		while (i < count && user[i].uid != c->peer.uid)
			i++;
		if (i == SHMETA_USERS) {
			total++; /* at most: each of theirs counts */
			continue;
		}
		if (i == count) {
			user[count++] = (struct shmeta_user){.uid = c->peer.uid, .since_ns = c->opened_ns};
			total++;
		}
		user[i].connections++;
		user[i].registered += c->registration != NULL;
		user[i].requests += c->requests;
		user[i].output += c->output_bytes;
		if (c->opened_ns < user[i].since_ns)
			user[i].since_ns = c->opened_ns;
	}
	/* Rows that tear are those of a moment ago and of now, of one user each or of two: a number
	 * of rows that is too small hides them. */
	shmeta_publish(&page->user_count, 0u);
	memcpy(page->user, user, count * sizeof(user[0]));
	shmeta_publish(&page->users_total, total);
	shmeta_publish(&page->user_count, count);
}

void control_drain(struct control *control)
{
	control->draining = true;
	listen_stop(&control->listener);
}

void control_stop(struct control *control)
{
	if (control == NULL)
		return;
	control_drain(control);
	sd_event_source_disable_unref(control->renewal);
	sd_event_source_disable_unref(control->waits_over);
	verbs_forget_answers(control);
	for (struct connection *c = control->connections, *next; c != NULL; c = next) {
		next = c->next;
		/* The process ends, not the reader: its page is not revoked. */
		c->registration = NULL;
		connection_close(c);
	}
	armed_free(control->armed);
	budget_free(&control->budget);
	tickets_free(&control->tickets);
	free(control);
}
