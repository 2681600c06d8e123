/* SPDX-License-Identifier: Apache-2.0
 * Becoming one of the writer's registered readers: a connection, and a page of slots that both
 * sides map.
 *
 *   (nothing) --connect, REGISTER--> pending --REGISTERED + memfd--> member
 *       ^                              |                              |
 *       +--------- back-off -----------+-- no answer, refused         | page revoked, or a new
 *                                                                     writer
 *       +-------------------------------------------------------------+ without our connection
 *
 * Each step is a few system calls that do not block. Lookups never wait for it; until then they
 * follow the grace rules. */
#include "reader/attach/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/once.h"
#include "shm/wire/wire.h"

static const uint64_t ANSWER_WITHIN_NS = UINT64_C(2000000000);
static const uint64_t BACKOFF_FIRST_NS = 5 * MILLION, BACKOFF_LAST_NS = UINT64_C(1000000000);
static const uint64_t CROWDED_LAST_NS = 20 * MILLION; /* where others only have to be taken first */
static const uint64_t PENDING_STEP_NS = 2 * MILLION;
enum { VERSION_NUMBER = SHMETA_VERSION_MAJOR << 16 | SHMETA_VERSION_MINOR << 8 | SHMETA_VERSION_PATCH };

/* Accepts NULL. */
static void membership_unref(struct membership *m)
{
	if (m == NULL || !shmeta_unref(&m->refs))
		return;
	if (shmeta__fd_is(m->fd, m->fd_dev, m->fd_ino))
		(void)close(m->fd);
	(void)munmap(m->page, m->page_bytes);
	free(m);
}

static int revoked(const struct membership *m)
{
	return shmeta_observe(&m->page->revoked) != 0; /* PAIR 5: revocation before recycling */
}

static void close_pending(struct core *core)
{
	if (shmeta__fd_is(core->pending_fd, core->pending_dev, core->pending_ino))
		(void)close(core->pending_fd);
	core->pending_fd = -1;
}

static void back_off_to(struct core *core, uint64_t now_ns, uint64_t last_ns)
{
	close_pending(core);
	core->backoff_ns = core->backoff_ns == 0 ? BACKOFF_FIRST_NS : core->backoff_ns * 2;
	if (core->backoff_ns > last_ns)
		core->backoff_ns = last_ns;
	core->next_step_ns = now_ns + core->backoff_ns;
}

/* A child may be forked between any two steps: what it finds in the core is not freed. */
static void drop_current(struct core *core)
{
	struct membership *m = core->membership;

	shmeta_poke(&core->membership, NULL);
	membership_unref(m);
}

void shmeta__registration_drop(struct core *core)
{
	drop_current(core);
	close_pending(core);
}

void shmeta__membership_close(struct membership *m)
{
	if (m == NULL || !shmeta__fd_is(m->fd, m->fd_dev, m->fd_ino))
		return;
	(void)close(m->fd);
	m->fd = -1;
}

void shmeta__registration_close(struct core *core)
{
	shmeta__membership_close(core->membership);
	close_pending(core);
}

static void back_off(struct core *core, uint64_t now_ns)
{
	back_off_to(core, now_ns, BACKOFF_LAST_NS);
}

static uint32_t slots_wanted(const struct core *core)
{
	uint32_t threads = shmeta_peek(&core->threads);

	return threads < THREADS_MAX ? threads : THREADS_MAX;
}

/* Twice what there is, where that is not enough: a process that opens the instance again and again
 * asks a few times. */
static uint32_t slots_to_ask(const struct core *core)
{
	uint32_t twice = core->membership != NULL ? 2 * core->membership->slot_count : 0, wanted = slots_wanted(core);

	if (twice <= wanted)
		return wanted;
	return twice < THREADS_MAX ? twice : THREADS_MAX;
}

/* The writer that answers must be the one that owns the board, or root. A socket that systemd made
 * for it counts as root's. */
static void send_register(struct core *core, uint64_t now_ns)
{
	struct shmeta_frame_register frame = {
		.head = {.bytes = sizeof frame, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_REGISTER}};
	enum shmeta_status status;
	int fd;

	status = shmeta__control_connect(core, 0, &fd, NULL);
	if (status != SHMETA_OK) {
		back_off_to(core, now_ns, status == SHMETA_ERR_BUSY ? CROWDED_LAST_NS : BACKOFF_LAST_NS);
		return;
	}
	core->pending_fd = fd;
	shmeta__fd_note(fd, &core->pending_dev, &core->pending_ino);
	frame.head.id = ++core->pending_id;
	frame.agent_pid = (uint64_t)getpid();
	frame.agent_version = VERSION_NUMBER;
	frame.slot_count = core->pending_asked = slots_to_ask(core);
	memcpy(frame.agent_name, core->agent, strnlen(core->agent, sizeof frame.agent_name));
	if (send(fd, &frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof frame) {
		back_off(core, now_ns);
		return;
	}
	core->pending_until_ns = now_ns + ANSWER_WITHIN_NS;
	core->next_step_ns = now_ns + PENDING_STEP_NS;
}

/* Takes the one descriptor out of a received message; closes any other. -1: there was none. */
static int received_fd(struct msghdr *message)
{
	int fd = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int one;

			memcpy(&one, CMSG_DATA(c) + i * sizeof one, sizeof one);
			if (fd < 0)
				fd = one;
			else
				(void)close(one);
		}
	}
	return fd;
}

/* Accept only a page that is sealed against shrinking (a shorter one would kill the process at its
 * next access) and that agrees with the frame. */
static struct membership *map_page(int memfd, const struct shmeta_frame_registered *frame)
{
	uint64_t slots = shmeta__slots_bytes(frame->slot_count), bytes;
	struct shmeta_slots header;
	struct membership *m;
	struct stat st;
	int seals = fcntl(memfd, F_GET_SEALS);
	void *map;

	if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW) ||
	    fstat(memfd, &st) < 0 || (uint64_t)st.st_size < slots)
		return NULL;
	bytes = (uint64_t)st.st_size;
	m = calloc(1, sizeof *m);
	if (m == NULL)
		return NULL;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (map == MAP_FAILED) {
		free(m);
		return NULL;
	}
	shmeta__copy_once(&header, map, sizeof header);
	/* A child that stored pins there would unpin its parent. */
	if (memcmp(header.signature, "SHMSLOTS", sizeof header.signature) != 0 || header.version != 1 ||
	    header.slot_count != frame->slot_count || madvise(map, bytes, MADV_DONTFORK) < 0) {
		(void)munmap(map, bytes);
		free(m);
		return NULL;
	}
	m->refs = 1;
	m->fd = -1;
	m->slot_count = header.slot_count;
	m->page = map;
	m->page_bytes = bytes;
	m->touch = touch_view((char *)map + slots, bytes - slots, 0);
	return m;
}

/* The writer has no more to give than what is here already, which stays. */
static int is_no_gain(const struct core *core, const struct membership *m)
{
	return core->membership != NULL && m->slot_count <= core->membership->slot_count;
}

static void become_member(struct core *core, struct membership *m)
{
	if (is_no_gain(core, m)) {
		core->membership->asked = core->pending_asked;
		close_pending(core);
		membership_unref(m);
		return;
	}
	m->asked = core->pending_asked;
	m->fd = core->pending_fd;
	m->fd_dev = core->pending_dev;
	m->fd_ino = core->pending_ino;
	core->pending_fd = -1;
	m->page->agent_pid = (uint64_t)getpid();
	m->page->agent_started_ns = shmeta__boottime_ns();
	m->page->agent_version = VERSION_NUMBER;
	memcpy(m->page->agent_name, core->agent, strnlen(core->agent, sizeof m->page->agent_name));
	drop_current(core);
	shmeta_poke(&core->membership, m);
	core->membership_epoch = shmeta_peek(&core->board->epoch);
	core->backoff_ns = 0;
}

static void receive_answer(struct core *core, uint64_t now_ns)
{
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	union {
		struct shmeta_frame head;
		struct shmeta_frame_registered registered;
		uint64_t align[64]; /* a longer one is refused */
	} packet;
	struct iovec iov = {&packet, sizeof packet};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct membership *m = NULL;
	ssize_t n;
	int memfd;

	if (!shmeta__fd_is(core->pending_fd, core->pending_dev, core->pending_ino)) {
		core->pending_fd = -1;
		back_off(core, now_ns);
		return;
	}
	n = recvmsg(core->pending_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (now_ns >= core->pending_until_ns)
			back_off(core, now_ns);
		else
			core->next_step_ns = now_ns + PENDING_STEP_NS;
		return;
	}
	memfd = n < 0 ? -1 : received_fd(&message);
	if (n > 0 && memfd >= 0 && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
	    shmeta__frame_check(&packet, (size_t)n) == SHMETA_OK && packet.head.type == SHMETA_FRAME_REGISTERED &&
	    packet.head.id == core->pending_id && packet.registered.slot_count > 0 &&
	    packet.registered.slot_count <= SHMETA_SLOTS_MAX)
		m = map_page(memfd, &packet.registered);
	if (memfd >= 0)
		(void)close(memfd);
	if (m == NULL)
		back_off(core, now_ns); /* refused, or gone */
	else
		become_member(core, m);
}

/* The writer was restarted. Either the service manager kept our connection for it, or it does not
 * know us. */
static void check_epoch(struct core *core)
{
	struct membership *m = core->membership;
	uint64_t epoch = shmeta_peek(&core->board->epoch);
	char byte;
	ssize_t n;

	if (epoch == core->membership_epoch)
		return;
	if (!shmeta__fd_is(m->fd, m->fd_dev, m->fd_ino)) {
		drop_current(core);
		return;
	}
	n = recv(m->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		core->membership_epoch = epoch;
	else
		drop_current(core);
}

void shmeta__registration_step(struct core *core, uint64_t now_ns)
{
	uint32_t wanted;

	if (core->membership != NULL && revoked(core->membership))
		drop_current(core);
	if (core->membership != NULL)
		check_epoch(core);
	/* A second open may want more slots than the first asked for. */
	wanted = slots_wanted(core);
	if (core->membership != NULL && (core->membership->slot_count >= wanted || core->membership->asked >= wanted))
		return;
	if (core->pending_fd >= 0)
		receive_answer(core, now_ns);
	else if (now_ns >= core->next_step_ns)
		send_register(core, now_ns);
}

struct membership *shmeta__registration_join(struct core *core, uint32_t *ret_slot)
{
	struct membership *m = core->membership;

	if (m == NULL || revoked(m))
		return NULL;
	for (uint32_t i = 0; i < m->slot_count; i++) {
		if (!shmeta_take_bit(&m->taken[i / 64], UINT64_C(1) << i % 64))
			continue;
		shmeta_ref(&m->refs);
		*ret_slot = i;
		return m;
	}
	return NULL;
}

void shmeta__registration_leave(struct membership *m, struct shmeta_slot *slot)
{
	uint32_t i = (uint32_t)(slot - shmeta__slot(m->page, 0));

	shmeta_give_bit(&m->taken[i / 64], UINT64_C(1) << i % 64);
	membership_unref(m);
}
