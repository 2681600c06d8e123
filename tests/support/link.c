/* SPDX-License-Identifier: Apache-2.0
 * See link.h. */
#include "tests/support/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/scratch.h"

enum { CONNECTIONS = 256, CHUNK = 65536 };

/* Shared by the test, which sets wishes and then asked, and the child, which answers with seen. */
struct link_page {
	_Atomic uint32_t asked, seen;
	uint32_t mode, delay_ms, cuts;
	uint32_t trap_nth; /* counts down; 0: no trap */
	enum link_loss trap_loss;
	size_t trap_bytes, first_bytes; /* first_bytes 0: behind anything */
	uint8_t trap[LINK_PATTERN_MAX], first[LINK_PATTERN_MAX];
	char server_host[108];
	int server_port;
	_Atomic uint64_t accepted, open, unreached, most_at_once, caught, up, down;
	_Atomic int64_t attempts_ns[LINK_ATTEMPTS];
};

/* Finds the messages in one direction's bytes. */
struct framing {
	int opaque;      /* encrypted, or not the protocol           */
	int untyped;     /* the next message has no type byte        */
	uint32_t have;   /* bytes of the message's head seen         */
	uint8_t head[5]; /* type, length                             */
	uint32_t left;   /* bytes of its body still to come          */
	uint32_t code;   /* first four bytes of an untyped body      */
	uint32_t body;   /* bytes of its body seen                   */
};

struct direction {
	uint8_t data[CHUNK];
	size_t used, sent;
	int64_t due_ns;
	int ended; /* the writing side has shut down; 2: and that has been passed on */
	struct framing frame;
};

enum fate { ALIVE, DOOMED, STALLED };

struct connection {
	int client, server;       /* -1: none (yet) */
	int settled;              /* the server has answered the startup */
	int tls_asked;            /* an SSLRequest's or GSSENCRequest's one byte is due */
	uint64_t asked, answered; /* ReadyForQuery: how many must come, how many came */
	uint64_t lose_from;       /* answers from the ReadyForQuery of this number on are lost; 0:
                                   * none */
	int losing;
	int armed; /* a message that the trap waits for has come */
	enum fate fate;
	enum link_loss loss;
	/* The message being read, as far as a pattern may need it. */
	uint8_t *message;
	size_t message_bytes, message_room;
	struct direction up, down;
};

struct proxy {
	struct link_page *page;
	enum link_family family;
	char host[64];
	int port;
	int listen_fd, wake_fd;
	uint32_t cuts;
	struct connection *at[CONNECTIONS];
	int count;
};

static int64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
};

static socklen_t address_of(union address *a, const char *host, int port)
{
	memset(a, 0, sizeof *a);
	if (host[0] == '/') {
		a->un.sun_family = AF_UNIX;
		(void)snprintf(a->un.sun_path, sizeof a->un.sun_path, "%.80s/.s.PGSQL.%d", host, port);
		return sizeof a->un;
	}
	a->in.sin_family = AF_INET;
	a->in.sin_port = htons((uint16_t)port);
	(void)inet_pton(AF_INET, host, &a->in.sin_addr);
	return sizeof a->in;
}

/* ---- the child ---- */

static int listen_on(const char *host, int port)
{
	union address a;
	socklen_t bytes = address_of(&a, host, port);
	int one = 1, fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if (a.any.sa_family == AF_UNIX)
		(void)unlink(a.un.sun_path);
	else
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, &a.any, bytes) != 0 || listen(fd, 64) != 0) {
		(void)close(fd);
		return -1;
	}
	if (a.any.sa_family == AF_UNIX)
		(void)chmod(a.un.sun_path, 0777);
	return fd;
}

static void end_fd(int *fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (*fd < 0)
		return;
	/* On TCP: a reset instead of an orderly end. */
	(void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	(void)close(*fd);
	*fd = -1;
}

static void drop(struct proxy *p, int i)
{
	struct connection *c = p->at[i];

	end_fd(&c->client);
	end_fd(&c->server);
	free(c->message);
	free(c);
	p->at[i] = p->at[--p->count];
	atomic_store(&p->page->open, (uint64_t)p->count);
}

/* Not blocking: the far end is on this machine, or it does not answer at all. 0 or -1. */
static int reach_server(struct proxy *p, struct connection *c)
{
	union address a;
	socklen_t bytes = address_of(&a, p->page->server_host, p->page->server_port);
	int one = 1;

	c->server = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->server < 0)
		return -1;
	(void)setsockopt(c->server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	(void)setsockopt(c->client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return connect(c->server, &a.any, bytes) == 0 || errno == EINPROGRESS ? 0 : -1;
}

static void take(struct proxy *p)
{
	struct link_page *page = p->page;
	uint64_t unsettled = 0;

	for (;;) {
		int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct connection *c;
		uint64_t n;

		if (fd < 0)
			break;
		n = atomic_load(&page->accepted);
		atomic_store(&page->attempts_ns[n % LINK_ATTEMPTS], now_ns());
		atomic_store(&page->accepted, n + 1);
		c = p->count < CONNECTIONS ? calloc(1, sizeof *c) : NULL;
		if (c == NULL) {
			end_fd(&fd);
			continue;
		}
		c->client = fd;
		c->server = -1;
		c->asked = 1;
		c->up.frame.untyped = 1;
		p->at[p->count++] = c;
		atomic_store(&page->open, (uint64_t)p->count);
	}
	for (int i = 0; i < p->count; i++)
		unsettled += !p->at[i]->settled && !p->at[i]->up.ended;
	if (unsettled > atomic_load(&page->most_at_once))
		atomic_store(&page->most_at_once, unsettled);
}

static uint32_t be32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void remember(struct connection *c, const uint8_t *bytes, size_t count)
{
	if (c->message_bytes + count > c->message_room) {
		size_t room = (c->message_bytes + count) * 2;
		uint8_t *larger = realloc(c->message, room);

		if (larger == NULL)
			return;
		c->message = larger;
		c->message_room = room;
	}
	memcpy(c->message + c->message_bytes, bytes, count);
	c->message_bytes += count;
}

/* A whole message of the client has been read. Returns 1 when it is caught. */
static int client_said(struct proxy *p, struct connection *c)
{
	struct link_page *page = p->page;
	uint8_t type = c->up.frame.untyped ? 0 : c->up.frame.head[0];
	int caught = 0;

	if (page->trap_nth != 0 && page->first_bytes != 0 &&
	    memmem(c->message, c->message_bytes, page->first, page->first_bytes) != NULL)
		c->armed = 1;
	if (page->trap_nth != 0 && (page->first_bytes == 0 || c->armed) &&
	    memmem(c->message, c->message_bytes, page->trap, page->trap_bytes) != NULL) {
		c->armed = 0;
		caught = --page->trap_nth == 0;
	}
	if (type == 'Q' || type == 'S' || type == 'F')
		c->asked++;
	if (c->up.frame.untyped) {
		/* SSLRequest and GSSENCRequest are answered by one byte, then comes another untyped
		 * message (or TLS). */
		c->tls_asked = c->up.frame.code == 80877103 || c->up.frame.code == 80877104;
		c->up.frame.untyped = c->tls_asked;
	}
	if (caught) {
		c->loss = page->trap_loss;
		/* Its answer ends with its own ReadyForQuery, or that of the Sync behind it. */
		c->lose_from = type == 'Q' || type == 'F' || type == 'S' ? c->asked : c->asked + 1;
		if (c->loss == LINK_LOSE_REQUEST) {
			c->fate = DOOMED;
			atomic_fetch_add(&page->caught, 1);
		}
	}
	return caught && c->loss == LINK_LOSE_REQUEST;
}

/* Look at bytes of the client before they are forwarded. Returns how many may be. */
static size_t watch_up(struct proxy *p, struct connection *c, const uint8_t *bytes, size_t count)
{
	struct framing *f = &c->up.frame;
	size_t i = 0, message = 0; /* where the message being read began */

	while (i < count && !f->opaque) {
		uint32_t head = f->untyped ? 4 : 5;

		if (f->have < head) {
			f->head[f->have++] = bytes[i];
			remember(c, bytes + i++, 1);
			if (f->have == head) {
				uint32_t length = be32(f->head + head - 4);

				f->opaque = length < 4;
				f->left = length - 4;
				f->body = f->code = 0;
			}
			if (f->have < head || f->left != 0)
				continue;
		} else {
			size_t n = count - i < f->left ? count - i : f->left;

			for (size_t k = 0; k < n && f->body < 4; k++, f->body++)
				f->code = f->code << 8 | bytes[i + k];
			remember(c, bytes + i, n);
			i += n;
			f->left -= (uint32_t)n;
			if (f->left != 0)
				break;
		}
		if (client_said(p, c))
			return message;
		message = i;
		f->have = 0;
		c->message_bytes = 0;
	}
	return count;
}

/* Look at bytes of the server. Returns how many may be forwarded. */
static size_t watch_down(struct proxy *p, struct connection *c, const uint8_t *bytes, size_t count)
{
	struct framing *f = &c->down.frame;
	size_t i = 0, may = c->losing ? 0 : count;

	if (c->tls_asked && count > 0) {
		c->tls_asked = 0;
		if (bytes[0] != 'N' && bytes[0] != 'E') {
			c->up.frame.opaque = f->opaque = 1;
			c->settled = 1;
			return count;
		}
		if (bytes[0] == 'N')
			i = 1;
	}
	while (i < count && !f->opaque) {
		if (!c->losing && c->lose_from != 0 && c->answered + 1 >= c->lose_from && f->have == 0) {
			c->losing = 1;
			may = i;
		}
		if (f->have < 5) {
			f->head[f->have++] = bytes[i++];
			if (f->have == 5) {
				uint32_t length = be32(f->head + 1);

				f->opaque = length < 4;
				f->left = length - 4;
			}
			if (f->have < 5 || f->left != 0)
				continue;
		} else {
			size_t n = count - i < f->left ? count - i : f->left;

			i += n;
			f->left -= (uint32_t)n;
			if (f->left != 0)
				break;
		}
		f->have = 0;
		if (f->head[0] != 'Z')
			continue;
		c->settled = 1;
		if (++c->answered == c->lose_from) {
			c->fate = c->loss == LINK_STALL_ANSWER ? STALLED : DOOMED;
			atomic_fetch_add(&p->page->caught, 1);
			return may;
		}
	}
	return may;
}

/* 0: try later. */
static int failed(struct proxy *p, int error)
{
	if (error == EAGAIN || error == EINTR || error == ENOTCONN)
		return 0;
	if (error == ECONNREFUSED)
		atomic_fetch_add(&p->page->unreached, 1);
	return -1;
}

/* Take from one side what there is and give it to the other, as far as it takes it. Returns -1 when
 * the connection is over. */
static int pump(struct proxy *p, struct connection *c, struct direction *d, int from, int to, int upward)
{
	if (d->used == d->sent && !d->ended) {
		ssize_t n = recv(from, d->data, sizeof d->data, 0);
		size_t may;

		if (n < 0)
			return failed(p, errno);
		if (n == 0) {
			d->ended = 1;
		} else {
			may = upward ? watch_up(p, c, d->data, (size_t)n) : watch_down(p, c, d->data, (size_t)n);
			d->sent = 0;
			d->used = may;
			d->due_ns = p->page->delay_ms != 0 ? now_ns() + (int64_t)p->page->delay_ms * 1000000 : 0;
		}
	}
	if (d->sent < d->used && (d->due_ns == 0 || now_ns() >= d->due_ns)) {
		ssize_t n = send(to, d->data + d->sent, d->used - d->sent, MSG_NOSIGNAL);

		if (n < 0)
			return failed(p, errno);
		d->sent += (size_t)n;
		atomic_fetch_add(upward ? &p->page->up : &p->page->down, (uint64_t)n);
	}
	if (d->ended == 1 && d->sent == d->used) {
		(void)shutdown(to, SHUT_WR);
		d->ended = 2;
	}
	return 0;
}

static void serve(struct proxy *p, int i)
{
	struct connection *c = p->at[i];

	if (c->fate == STALLED)
		return;
	if (c->server < 0 && reach_server(p, c) != 0) {
		atomic_fetch_add(&p->page->unreached, 1);
		drop(p, i);
		return;
	}
	if (pump(p, c, &c->up, c->client, c->server, 1) != 0) {
		/* A server that gave up has often said why before. */
		(void)pump(p, c, &c->down, c->server, c->client, 0);
		drop(p, i);
		return;
	}
	if (pump(p, c, &c->down, c->server, c->client, 0) != 0 ||
	    (c->fate == DOOMED && c->up.sent == c->up.used && c->down.sent == c->down.used) ||
	    (c->up.ended == 2 && c->down.ended == 2))
		drop(p, i);
}

/* Do what the test wishes. */
static void obey(struct proxy *p)
{
	struct link_page *page = p->page;
	uint32_t asked = atomic_load(&page->asked);

	if (asked == atomic_load(&page->seen))
		return;
	if (p->cuts != page->cuts) {
		p->cuts = page->cuts;
		while (p->count > 0)
			drop(p, 0);
	}
	/* What came before a trap was set does not count for it. */
	for (int i = 0; page->trap_nth == 0 && i < p->count; i++)
		p->at[i]->armed = 0;
	if (page->mode == LINK_REFUSE && p->listen_fd >= 0) {
		(void)close(p->listen_fd);
		p->listen_fd = -1;
	} else if (page->mode != LINK_REFUSE && p->listen_fd < 0) {
		p->listen_fd = listen_on(p->host, p->port);
		if (p->listen_fd < 0)
			_exit(3); /* the test hears that the child is gone */
	}
	atomic_store(&page->seen, asked);
}

static short wants(const struct direction *out, const struct direction *in, int64_t now, int64_t *wake_ns)
{
	short events = 0;

	if (in->used == in->sent && !in->ended)
		events |= POLLIN;
	if (out->sent < out->used) {
		if (out->due_ns == 0 || out->due_ns <= now)
			events |= POLLOUT;
		else if (out->due_ns < *wake_ns)
			*wake_ns = out->due_ns;
	}
	return events;
}

__attribute__((noreturn)) static void proxy_run(struct proxy *p)
{
	static struct pollfd fds[2 + 2 * CONNECTIONS];
	uint64_t count;

	for (;;) {
		int64_t now = now_ns(), wake_ns = INT64_MAX;
		nfds_t n = 0;
		int holds = p->page->mode == LINK_HOLD;
		struct timespec t, *timeout = NULL;

		fds[n++] = (struct pollfd){.fd = p->wake_fd, .events = POLLIN};
		fds[n++] = (struct pollfd){.fd = p->listen_fd, .events = POLLIN};
		for (int i = 0; i < p->count && !holds; i++) {
			struct connection *c = p->at[i];
			short up, down;

			if (c->fate == STALLED)
				continue;
			if (c->server < 0) {
				wake_ns = now; /* accepted while held */
				continue;
			}
			up = wants(&c->down, &c->up, now, &wake_ns);
			down = wants(&c->up, &c->down, now, &wake_ns);
			/* Without wishes not even POLLHUP: it would not let the loop sleep. */
			fds[n++] = (struct pollfd){.fd = up != 0 ? c->client : -1, .events = up};
			fds[n++] = (struct pollfd){.fd = down != 0 ? c->server : -1, .events = down};
		}
		if (wake_ns != INT64_MAX) {
			int64_t wait = wake_ns > now ? wake_ns - now : 0;

			t = (struct timespec){.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
			timeout = &t;
		}
		if (ppoll(fds, n, timeout, NULL) < 0 && errno != EINTR)
			_exit(4);
		(void)!read(p->wake_fd, &count, sizeof count);
		obey(p);
		/* First, so that an attempt that was given up before the next one does not count
		 * beside it. */
		if (p->page->mode != LINK_HOLD)
			for (int i = p->count - 1; i >= 0; i--)
				serve(p, i);
		if (p->listen_fd >= 0)
			take(p);
	}
}

/* Of what the test has open the child keeps nothing: a pipe's end kept open here would never be
 * seen closed there. */
static void keep_only(int a, int b)
{
	int low = a < b ? a : b, high = a < b ? b : a;

	if (low > 3)
		(void)close_range(3, (unsigned)low - 1, 0);
	if (high > low + 1)
		(void)close_range((unsigned)low + 1, (unsigned)high - 1, 0);
	(void)close_range((unsigned)high + 1, ~0U, 0);
}

/* ---- the test's side ---- */

static int ask(struct link *l)
{
	struct link_page *page = l->page;
	uint64_t one = 1;
	uint32_t asked;

	if (page == NULL || l->pid <= 0)
		return -1;
	asked = atomic_load(&page->asked) + 1;
	atomic_store(&page->asked, asked);
	if (write(l->wake_fd, &one, sizeof one) != (ssize_t)sizeof one)
		return -1;
	for (int64_t end = now_ns() + 10000000000; now_ns() < end; (void)usleep(200))
		if (atomic_load(&page->seen) == asked)
			return 0;
	(void)fprintf(stderr, "link: the child does not answer\n");
	return -1;
}

int link_start(struct link *l, enum link_family family, const char *server_host, int server_port)
{
	struct proxy *p = calloc(1, sizeof *p);
	union address a;
	socklen_t bytes = sizeof a;

	memset(l, 0, sizeof *l);
	l->wake_fd = -1;
	if (p == NULL)
		return -1;
	l->page = mmap(NULL, sizeof *l->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->port = family == LINK_UNIX ? server_port : 0;
	(void)snprintf(l->host, sizeof l->host, "127.0.0.1");
	if (l->page == MAP_FAILED || l->wake_fd < 0 || (family == LINK_UNIX && !scratch_dir("link", l->host))) {
		if (l->page == MAP_FAILED)
			l->page = NULL;
		goto failed;
	}
	if (family == LINK_UNIX)
		(void)chmod(l->host, 0755);
	(void)snprintf(l->page->server_host, sizeof l->page->server_host, "%s", server_host);
	l->page->server_port = server_port;
	p->listen_fd = listen_on(l->host, l->port);
	if (p->listen_fd < 0)
		goto failed;
	if (family == LINK_TCP) {
		if (getsockname(p->listen_fd, &a.any, &bytes) != 0)
			goto failed;
		l->port = ntohs(a.in.sin_port);
	}
	p->page = l->page;
	p->family = family;
	memcpy(p->host, l->host, sizeof p->host);
	p->port = l->port;
	p->wake_fd = l->wake_fd;
	l->pid = run_fork();
	if (l->pid < 0)
		goto failed;
	if (l->pid == 0) {
		keep_only(p->listen_fd, p->wake_fd);
		proxy_run(p);
	}
	(void)close(p->listen_fd);
	free(p);
	return 0;
failed:
	perror("link");
	if (p->listen_fd > 0)
		(void)close(p->listen_fd);
	free(p);
	l->pid = 0;
	link_end(l);
	return -1;
}

void link_end(struct link *l)
{
	char path[96];

	if (l->pid > 0) {
		(void)kill(l->pid, SIGKILL);
		(void)run_reap(l->pid);
	}
	if (l->page != NULL) {
		(void)munmap(l->page, sizeof *l->page);
		(void)close(l->wake_fd);
	}
	if (l->host[0] == '/') {
		(void)snprintf(path, sizeof path, "%s/.s.PGSQL.%d", l->host, l->port);
		(void)unlink(path);
		(void)rmdir(l->host);
	}
	memset(l, 0, sizeof *l);
}

int link_mode(struct link *l, enum link_mode mode)
{
	l->page->mode = mode;
	return ask(l);
}

int link_delay(struct link *l, uint32_t ms)
{
	l->page->delay_ms = ms;
	return ask(l);
}

int link_cut(struct link *l)
{
	l->page->cuts++;
	return ask(l);
}

static int trap(struct link *l, enum link_loss loss, const char *first, const void *pattern, size_t bytes, uint32_t nth)
{
	struct link_page *page = l->page;
	size_t first_bytes = first != NULL ? strlen(first) : 0;

	/* The child looks at the number alone, and first. */
	page->trap_nth = 0;
	if (ask(l) != 0 || bytes > sizeof page->trap || first_bytes > sizeof page->first)
		return -1;
	if (pattern == NULL)
		return 0;
	page->trap_loss = loss;
	page->trap_bytes = bytes;
	memcpy(page->trap, pattern, bytes);
	page->first_bytes = first_bytes;
	if (first_bytes > 0)
		memcpy(page->first, first, first_bytes);
	atomic_thread_fence(memory_order_seq_cst);
	page->trap_nth = nth;
	return ask(l);
}

int link_trap(struct link *l, enum link_loss loss, const void *pattern, size_t bytes, uint32_t nth)
{
	return trap(l, loss, NULL, pattern, bytes, nth);
}

int link_trap_behind(struct link *l, enum link_loss loss, const char *first, const char *pattern, uint32_t nth)
{
	return trap(l, loss, first, pattern, strlen(pattern), nth);
}

void link_counts(const struct link *l, struct link_counts *ret)
{
	const struct link_page *page = l->page;

	*ret = (struct link_counts){.accepted = atomic_load(&page->accepted),
	                            .open = atomic_load(&page->open),
	                            .unreached = atomic_load(&page->unreached),
	                            .most_at_once = atomic_load(&page->most_at_once),
	                            .caught = atomic_load(&page->caught),
	                            .up = atomic_load(&page->up),
	                            .down = atomic_load(&page->down)};
	for (int i = 0; i < LINK_ATTEMPTS; i++)
		ret->attempts_ns[i] = atomic_load(&page->attempts_ns[i]);
}

int link_wait_caught(const struct link *l, uint64_t caught, int timeout_ms)
{
	int64_t end = now_ns() + (int64_t)timeout_ms * 1000000;

	while (atomic_load(&l->page->caught) < caught) {
		if (now_ns() >= end)
			return -1;
		(void)usleep(500);
	}
	return 0;
}
