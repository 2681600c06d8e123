/* SPDX-License-Identifier: Apache-2.0
 * Requests to the writer: refresh, reload, and waiting for commits. All of it blocks, up to the caller's deadline, and
 * none of it holds a lock while it does: a request has a connection to itself, taken from the core when an idle one is there. */
#include "reader/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/limits.h"
#include "shm/wire/op.h"

static const uint64_t FUTEX_SLICE_NS = 100 * MILLION, RETIRED_SLICE_NS = 5 * MILLION;
enum { RETRY_MS = 5, ASK_TRIES = 3 };

uint64_t shmeta__monotonic_ns(void)
{
	struct timespec t = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t shmeta__deadline_of(uint32_t timeout_ms)
{
	return shmeta__monotonic_ns() + (uint64_t)timeout_ms * MILLION;
}

uint32_t shmeta__left_ms(uint64_t deadline_ns)
{
	uint64_t now = shmeta__monotonic_ns();

	return deadline_ns > now ? (uint32_t)((deadline_ns - now + MILLION - 1) / MILLION) : 1;
}

/* ---- connections -------------------------------------------------------------------------------------------------------- */

/* A path that does not fit sun_path is reached through a descriptor of its directory. */
static enum shmeta_status address_of(const struct core *core, struct sockaddr_un *ret, int *ret_dir,
                                     struct shmeta_err *err)
{
	int n = snprintf(ret->sun_path, sizeof ret->sun_path, "%s/control.sock", core->directory);

	*ret_dir = -1;
	ret->sun_family = AF_UNIX;
	if (n < (int)sizeof ret->sun_path)
		return SHMETA_OK;
	*ret_dir = open(core->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return shmeta_fail_errno(err, errno, "%s", core->directory);
	(void)snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/control.sock", *ret_dir);
	return SHMETA_OK;
}

static enum shmeta_status connect_failed(const struct core *core, int error, struct shmeta_err *err)
{
	switch (error) {
	case EAGAIN:
		return shmeta_fail(err, SHMETA_ERR_BUSY,
		                   "%s/control.sock: the writer has not taken earlier connections yet",
		                   core->directory);
	case EACCES:
	case EPERM:
		return shmeta_fail(
			err, SHMETA_ERR_DENIED,
			"%s/control.sock: this user may not connect: requests to the writer need its group: usermod -aG "
			"shmeta USER, then log in again",
			core->directory);
	case ENOENT:
	case ECONNREFUSED:
	case ECONNRESET:
	case EPROTOTYPE:
		return shmeta_fail(err, SHMETA_ERR_WRITER_AWAY, "%s/control.sock: no writer answers there",
		                   core->directory);
	default:
		return shmeta_fail_errno(err, error, "%s/control.sock: connecting", core->directory);
	}
}

/* Waits in the kernel's own queue, in which everybody has its turn, while the backlog is full. until_ns 0: not at all. -1: errno. */
static int connect_until(int fd, const struct sockaddr_un *address, uint64_t until_ns)
{
	int rc;

	do {
		uint64_t now = shmeta__monotonic_ns(), left = until_ns > now ? until_ns - now : 0;
		/* No time would mean without end. */
		struct timeval patience = {(time_t)(left / 1000000000u), (long)(left % 1000000000u / 1000u) + 1};

		if (until_ns != 0 && (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
		                      fcntl(fd, F_SETFL, 0) < 0))
			return -1;
		rc = connect(fd, (const struct sockaddr *)address, sizeof *address);
	} while (rc < 0 && errno == EINTR && until_ns != 0);
	return rc == 0 && until_ns != 0 ? fcntl(fd, F_SETFL, O_NONBLOCK) : rc;
}

enum shmeta_status shmeta__control_connect(const struct core *core, uint64_t until_ns, int *ret_fd,
                                           struct shmeta_err *err)
{
	struct sockaddr_un address = {0};
	struct ucred peer = {0};
	socklen_t peer_bytes = sizeof peer;
	enum shmeta_status status;
	int dir, rc, error, fd;

	status = address_of(core, &address, &dir, err);
	if (status != SHMETA_OK)
		return status;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	rc = fd < 0 ? -1 : connect_until(fd, &address, until_ns);
	error = errno;
	if (dir >= 0)
		(void)close(dir);
	if (fd < 0)
		return shmeta_fail_errno(err, error, "a socket");
	if (rc < 0) {
		(void)close(fd);
		return connect_failed(core, error, err);
	}
	/* Who called listen(): the owner of the board, or root (systemd's sockets). Anybody else sits there in its place. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) < 0 ||
	    (peer.uid != core->owner && peer.uid != 0)) {
		(void)close(fd);
		return shmeta_fail(err, SHMETA_ERR_DENIED,
		                   "%s/control.sock: belongs to user %u, the instance to user %u: refused",
		                   core->directory, peer.uid, core->owner);
	}
	*ret_fd = fd;
	return SHMETA_OK;
}

/* The descriptor and what proves that it is ours belong together: they are taken and put back under one lock, which is held for
 * these few stores only. */
static int take_idle(struct core *core)
{
	struct idle_connection idle;

	(void)pthread_mutex_lock(&core->idle_lock);
	idle = core->idle;
	core->idle.fd = -1;
	(void)pthread_mutex_unlock(&core->idle_lock);
	return shmeta__fd_is(idle.fd, idle.dev, idle.ino) ? idle.fd : -1;
}

/* Two at once: one is kept. */
static void keep_idle(struct core *core, int fd)
{
	struct idle_connection idle = {.fd = fd};
	int kept;

	shmeta__fd_note(fd, &idle.dev, &idle.ino);
	(void)pthread_mutex_lock(&core->idle_lock);
	kept = core->idle.fd < 0;
	if (kept)
		core->idle = idle;
	(void)pthread_mutex_unlock(&core->idle_lock);
	if (!kept)
		(void)close(fd);
}

/* 0: the deadline has passed. It is looked at first: a peer that is always ready does not keep the caller beyond it. */
static int wait_ready(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = shmeta__monotonic_ns(), left;
		struct timespec t;
		int rc;

		if (now >= deadline_ns)
			return 0;
		left = deadline_ns - now;
		t = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
		rc = ppoll(&p, 1, &t, NULL);

		if (rc > 0)
			return 1;
		if (rc == 0 || errno != EINTR)
			return 0;
	}
}

/* ---- one request, one answer --------------------------------------------------------------------------------------------- */

static enum shmeta_status timed_out(const struct core *core, struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_TIMEOUT, "%s: the writer did not answer within the time given",
	                   core->directory);
}

/* What of a frame lies on the stack: any frame's fixed part, and a sentence. The rest of a long one goes straight to the caller's
 * body. */
union packet {
	struct shmeta_frame head;
	struct shmeta_frame_answer answer;
	uint64_t align[128];
};

/* One frame. 1: *ret_bytes is its length, of which the first part is in packet; 0: try again; -1: the connection is gone; -2: it is
 * no frame, or does not fit. */
static int receive(int fd, union packet *packet, const struct answer *ret, size_t *ret_bytes)
{
	int has_rest = ret->body_room > sizeof *packet;
	struct iovec parts[2] = {
		{packet, sizeof *packet},
		{has_rest ? (char *)ret->body + sizeof *packet : NULL, has_rest ? ret->body_room - sizeof *packet : 0}};
	/* Without room for control data the kernel closes descriptors that come along. */
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = has_rest ? 2 : 1};
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
	size_t bytes;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	bytes = (size_t)n;
	/* A sentence that is too long is cut; a text that was asked for is not. */
	if ((message.msg_flags & MSG_TRUNC) != 0 && packet->head.type == SHMETA_FRAME_ANSWER &&
	    ret->body_type != SHMETA_FRAME_ANSWER) {
		bytes = sizeof *packet;
		packet->answer.text_bytes = (uint32_t)(bytes - sizeof packet->answer);
		packet->head.bytes = (uint32_t)bytes;
		message.msg_flags &= ~MSG_TRUNC;
	}
	if ((message.msg_flags & MSG_TRUNC) != 0 || shmeta__frame_check(packet, bytes) != SHMETA_OK)
		return -2;
	if (packet->head.type == ret->body_type        ? bytes > ret->body_room
	    : packet->head.type == SHMETA_FRAME_ANSWER ? bytes > sizeof *packet
	                                               : 1)
		return -2;
	*ret_bytes = bytes;
	return 1;
}

static void keep_text(const union packet *packet, struct answer *ret)
{
	size_t room = sizeof *packet - sizeof packet->answer, bytes = packet->answer.text_bytes;

	(void)shmeta__escape(ret->text, sizeof ret->text, &packet->answer + 1, bytes < room ? bytes : room);
}

/* ERR_WRITER_AWAY: the connection is gone. */
static enum shmeta_status exchange(struct core *core, int fd, const struct shmeta_frame *request, uint64_t deadline_ns,
                                   struct answer *ret, struct shmeta_err *err)
{
	union packet packet;
	size_t bytes = 0;
	ssize_t n;

	for (;;) {
		n = send(fd, request, request->bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n == (ssize_t)request->bytes)
			break;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			break; /* closed; maybe it said why */
		if (!wait_ready(fd, POLLOUT, deadline_ns))
			return timed_out(core, err);
	}
	for (;;) {
		int got;

		if (!wait_ready(fd, POLLIN, deadline_ns))
			return timed_out(core, err);
		got = receive(fd, &packet, ret, &bytes);
		if (got == -1)
			return shmeta_fail(err, SHMETA_ERR_WRITER_AWAY, "%s: the writer closed the connection",
			                   core->directory);
		if (got < 0)
			return shmeta_fail(err, SHMETA_ERR_PROTOCOL, "%s: the writer's answer cannot be parsed",
			                   core->directory);
		if (got > 0 && packet.head.id == request->id)
			break;
		/* Under no number: the connection itself was refused. */
		if (got > 0 && packet.head.id == 0 && packet.head.type == SHMETA_FRAME_ANSWER &&
		    packet.answer.status == SHMETA_ERR_BUSY) {
			keep_text(&packet, ret);
			return shmeta_fail(err, SHMETA_ERR_BUSY, "%s: %s", core->directory, ret->text);
		}
	}
	if (packet.head.type == ret->body_type) {
		ret->body_bytes = bytes;
		memcpy(ret->body, &packet, bytes < sizeof packet ? bytes : sizeof packet);
	}
	if (packet.head.type != SHMETA_FRAME_ANSWER) {
		ret->frame = (struct shmeta_frame_answer){.status = SHMETA_OK};
		ret->text[0] = '\0';
		return SHMETA_OK;
	}
	ret->frame = packet.answer;
	keep_text(&packet, ret);
	return SHMETA_OK;
}

/* A status that this library has no word for is the writer's failure, not an answer. */
static enum shmeta_status status_of(const struct answer *answer)
{
	return shmeta__status_known(answer->frame.status) ? (enum shmeta_status)answer->frame.status
	                                                  : SHMETA_ERR_PROTOCOL;
}

enum shmeta_status shmeta__ask(struct core *core, struct shmeta_frame *request, uint64_t deadline_ns,
                               struct answer *ret, struct shmeta_err *err)
{
	static uint64_t last_id;
	enum shmeta_status status;
	int fd = take_idle(core);
	int idle = fd >= 0;

	request->version = SHMETA_WIRE_VERSION;
	request->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
	for (;;) {
		if (fd < 0) {
			status = shmeta__control_connect(core, deadline_ns, &fd, err);
			if (status == SHMETA_ERR_BUSY)
				return timed_out(core, err);
			if (status != SHMETA_OK)
				return status;
		}
		status = exchange(core, fd, request, deadline_ns, ret, err);
		if (status == SHMETA_OK)
			break;
		/* An unanswered request may still be answered: the connection cannot serve another. */
		(void)close(fd);
		fd = -1;
		if (status != SHMETA_ERR_WRITER_AWAY || !idle)
			return status;
		idle = 0; /* it may have been closed long ago */
	}
	keep_idle(core, fd);
	status = status_of(ret);
	if (status == SHMETA_OK)
		return SHMETA_OK;
	return shmeta_fail(err, status, "%s", ret->text[0] != 0 ? ret->text : shmeta_strerror(status));
}

static enum shmeta_status ask_refresh(struct shmeta *instance, struct core *core, const struct want *want,
                                      uint32_t flags, uint64_t deadline_ns, struct answer *ret, struct shmeta_err *err)
{
	union {
		struct shmeta_frame_refresh frame;
		char bytes[sizeof(struct shmeta_frame_refresh) + SHMETA_NAME_MAX + SHMETA_TENANT_MAX];
	} packet;
	struct shmeta_frame_refresh *f = &packet.frame;
	size_t name = want->topic == NULL ? 0 : want->topic_bytes;

	memset(&packet, 0, sizeof packet);
	f->head.type = SHMETA_FRAME_REFRESH;
	f->head.bytes = (uint32_t)(sizeof *f + name + instance->tenant_bytes);
	f->cls = want->cls;
	f->partition_id = want->partition_id;
	f->name_bytes = (uint32_t)name;
	f->tenant_bytes = (uint32_t)instance->tenant_bytes;
	f->timeout_ms = shmeta__left_ms(deadline_ns);
	f->flags = flags;
	if (name != 0)
		memcpy(packet.bytes + sizeof *f, want->topic, name);
	memcpy(packet.bytes + sizeof *f + name, instance->tenant, instance->tenant_bytes);
	return shmeta__ask(core, &f->head, deadline_ns, ret, err);
}

uint64_t shmeta__writer_now_ns(const struct core *core)
{
	uint64_t now = shmeta__board_now_ns(core->board), beat = shmeta_observe(&core->board->heartbeat_ns);

	/* Where this process's clock is behind, the writer's last turn is the best that is known of its clock. */
	return now > beat ? now : beat;
}

enum shmeta_status shmeta__ask_since(struct shmeta *instance, struct core *core, const struct want *want,
                                     uint64_t since_ns, uint64_t deadline_ns, struct answer *ret,
                                     struct shmeta_err *err)
{
	for (int i = 0; i < ASK_TRIES; i++) {
		enum shmeta_status status = ask_refresh(
			instance, core, want, since_ns == 0 ? SHMETA_REFRESH_ASK_RECENT : 0, deadline_ns, ret, err);

		if (status != SHMETA_OK || ret->frame.synced_at_ns >= since_ns)
			return status;
	}
	return shmeta_fail(err, SHMETA_ERR_SOURCE, "%s: the writer answers with what it read before it was asked",
	                   core->directory);
}

/* ---- waiting for commits -------------------------------------------------------------------------------------------------- */

enum shmeta_status shmeta__commit_wait(const struct shmeta_generation *gen, uint64_t txn, uint64_t deadline_ns)
{
	uint32_t word = shmeta_observe(&gen->commit_futex);
	uint64_t now = shmeta__monotonic_ns(), left = FUTEX_SLICE_NS;
	struct timespec t;

	if (shmeta_observe(&gen->committed) > txn)
		return SHMETA_OK;
	if (now >= deadline_ns)
		return SHMETA_ERR_TIMEOUT;
	/* A generation may be retired a while before its successor is current: the caller looks for that one soon, not at once. */
	if (shmeta_observe(&gen->retired) != 0) /* PAIR 4 */
		left = RETIRED_SLICE_NS;
	if (left > deadline_ns - now)
		left = deadline_ns - now;
	t = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
	/* Not FUTEX_PRIVATE: the writer wakes from another process. A read-only mapping of a file is enough to wait on. */
	if (syscall(SYS_futex, &gen->commit_futex, FUTEX_WAIT, word, &t, NULL, 0) < 0 && errno != EAGAIN &&
	    errno != EINTR && errno != ETIMEDOUT)
		return SHMETA_ERR_SYSTEM;
	return SHMETA_OK;
}

/* Nothing is published, so there is no word to wait on yet; or it did not hold still while it was opened. */
static int is_to_come(enum shmeta_status status)
{
	return status == SHMETA_UNKNOWN || status == SHMETA_ERR_CONTENDED;
}

static enum shmeta_status pause_until(uint64_t deadline_ns)
{
	if (shmeta__monotonic_ns() >= deadline_ns)
		return SHMETA_ERR_TIMEOUT;
	(void)poll(NULL, 0, RETRY_MS);
	return SHMETA_OK;
}

enum shmeta_status shmeta_wait_commit(struct shmeta *instance, uint64_t txn, uint32_t timeout_ms, uint64_t *ret_txn)
{
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;
	struct env *env;
	uint64_t committed;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	do {
		committed = 0;
		status = shmeta__core_env(core, 1, &env, &err);
		if (is_to_come(status)) {
			status = pause_until(deadline);
		} else if (status == SHMETA_OK) {
			committed = shmeta_observe(&env->gen->committed);
			if (committed <= txn)
				status = shmeta__commit_wait(env->gen, txn, deadline);
			shmeta__env_unref(env);
		}
	} while (status == SHMETA_OK && committed <= txn);
	shmeta__core_unref(core, 0);
	if (status == SHMETA_ERR_TIMEOUT)
		(void)shmeta_fail(&err, status, "no commit after %llu was published in time", (unsigned long long)txn);
	else if (status == SHMETA_ERR_SYSTEM && err.code != status)
		(void)shmeta_fail(&err, status, "waiting for a commit: the kernel refused the wait");
	if (status != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	if (ret_txn != NULL)
		*ret_txn = committed;
	return SHMETA_OK;
}

enum shmeta_status shmeta__wait_shown(struct core *core, uint64_t generation, uint64_t txn, uint64_t deadline_ns,
                                      struct shmeta_err *err)
{
	enum shmeta_status status;
	struct env *env;
	int shown;

	for (;;) {
		status = shmeta__core_env(core, 1, &env, err);
		if (is_to_come(status)) {
			if (pause_until(deadline_ns) == SHMETA_OK)
				continue;
			return shmeta_fail(err, SHMETA_ERR_TIMEOUT, "%s: nothing was published in time",
			                   core->directory);
		}
		if (status != SHMETA_OK)
			return status;
		shown = env->generation > generation ||
		        (env->generation == generation && shmeta_observe(&env->gen->committed) >= txn);
		if (!shown)
			status = shmeta__commit_wait(env->gen, env->generation == generation ? txn - 1 : UINT64_MAX,
			                             deadline_ns);
		shmeta__env_unref(env);
		if (shown)
			return SHMETA_OK;
		if (status != SHMETA_OK)
			return shmeta_fail(err, status, "commit %llu of generation %llu was not published in time",
			                   (unsigned long long)txn, (unsigned long long)generation);
	}
}

static int class_needs(enum shmeta_class cls)
{
	return cls == SHMETA_CLASS_TOPIC || cls == SHMETA_CLASS_PARTITION || cls == SHMETA_CLASS_SEGMENT;
}

enum shmeta_status shmeta_refresh(struct shmeta *instance, enum shmeta_class cls, const char *topic, size_t topic_bytes,
                                  uint32_t partition_id, uint32_t timeout_ms, uint64_t *ret_txn)
{
	struct want want = {cls, topic, topic_bytes, partition_id};
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct answer answer = {.body_type = 0};
	struct core *core;
	const char *wrong = NULL;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	if ((unsigned)cls >= SHMETA_CLASS_COUNT)
		wrong = "there is no such class";
	else if (!class_needs(cls) && topic != NULL)
		wrong = "this class is refreshed as a whole: topic must be NULL";
	else if (topic != NULL)
		wrong = shmeta__name_error(topic, topic_bytes, SHMETA_NAME_MAX);
	if (topic != NULL && wrong != NULL && class_needs(cls)) {
		char shown[80];

		(void)shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "refresh: topic '%s' %s",
		                  shmeta__escape(shown, sizeof shown, topic, topic_bytes), wrong);
		return shmeta__instance_fail(instance, &err);
	}
	if (wrong != NULL) {
		(void)shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "refresh: %s", wrong);
		return shmeta__instance_fail(instance, &err);
	}
	if (shmeta__instance_tenant(instance, &err) != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	core = shmeta__instance_core(instance);
	status = shmeta__ask_since(instance, core, &want, shmeta__writer_now_ns(core), deadline, &answer, &err);
	if (status == SHMETA_OK)
		status = shmeta__instance_answered(instance, &core, &err);
	if (status == SHMETA_OK)
		status = shmeta__wait_shown(core, answer.frame.generation, answer.frame.txn, deadline, &err);
	if (core != NULL)
		shmeta__core_unref(core, 0);
	if (status != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	if (ret_txn != NULL)
		*ret_txn = answer.frame.txn;
	return SHMETA_OK;
}

enum shmeta_status shmeta_reload(struct shmeta *instance, uint32_t timeout_ms, char *sentence, size_t sentence_bytes)
{
	struct shmeta_frame frame = {.bytes = sizeof frame, .type = SHMETA_FRAME_RELOAD};
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct answer answer = {.body_type = 0};
	struct core *core;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, &frame, shmeta__deadline_of(timeout_ms), &answer, &err);
	shmeta__core_unref(core, 0);
	if (sentence != NULL && sentence_bytes != 0)
		(void)snprintf(sentence, sentence_bytes, "%s", status == SHMETA_OK ? answer.text : err.text);
	return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
}

enum shmeta_status shmeta_get_config(struct shmeta *instance, uint32_t timeout_ms, char **ret)
{
	struct shmeta_frame frame = {.bytes = sizeof frame, .type = SHMETA_FRAME_CONFIG};
	struct shmeta_err err = {0};
	struct answer answer = {.body_type = SHMETA_FRAME_ANSWER, .body_room = SHMETA_FRAME_MAX};
	enum shmeta_status status;
	struct core *core;
	size_t bytes;

	if (instance == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	answer.body = malloc(answer.body_room + 1);
	if (answer.body == NULL)
		return SHMETA_ERR_NO_MEMORY;
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, &frame, shmeta__deadline_of(timeout_ms), &answer, &err);
	shmeta__core_unref(core, 0);
	if (status != SHMETA_OK) {
		free(answer.body);
		return shmeta__instance_fail(instance, &err);
	}
	/* The text alone, in the caller's memory. */
	bytes = answer.body_bytes - sizeof answer.frame;
	memmove(answer.body, (char *)answer.body + sizeof answer.frame, bytes);
	((char *)answer.body)[bytes] = '\0';
	*ret = answer.body;
	return SHMETA_OK;
}

enum shmeta_status shmeta_wait_token(struct shmeta *instance, const struct shmeta_token *token, uint32_t timeout_ms)
{
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;

	if (instance == NULL || token == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	/* It may be a new writer's token, and this process has asked nobody since that one came. */
	status = shmeta__instance_answered(instance, &core, &err);
	if (status == SHMETA_OK)
		status = shmeta__wait_shown(core, token->generation, token->txn, deadline, &err);
	if (core != NULL)
		shmeta__core_unref(core, 0);
	return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
}
