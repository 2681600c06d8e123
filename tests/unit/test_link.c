/* SPDX-License-Identifier: Apache-2.0
 * The link that the fault tests cut and hold does what its header says. One end of each connection
 * is played here, the other too. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/link.h"
#include "tests/support/run_daemon.h"

TestSuite(link, .timeout = 30);

enum { PATIENCE_MS = 10000, QUIET_MS = 100 };

static struct link l;
static int listen_fd = -1, client = -1, server = -1;
static int server_port;

static void listen_here(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof a;

	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listen_fd, (struct sockaddr *)&a, bytes), 0);
	cr_assert_eq(listen(listen_fd, 8), 0);
	cr_assert_eq(getsockname(listen_fd, (struct sockaddr *)&a, &bytes), 0);
	server_port = ntohs(a.sin_port);
}

static int connect_client(void)
{
	int fd, rc;

	if (l.host[0] == '/') {
		struct sockaddr_un a = {.sun_family = AF_UNIX};

		(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/.s.PGSQL.%d", l.host, l.port);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		rc = connect(fd, (struct sockaddr *)&a, sizeof a);
	} else {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l.port)};

		(void)inet_pton(AF_INET, l.host, &a.sin_addr);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		rc = connect(fd, (struct sockaddr *)&a, sizeof a);
	}
	if (rc == 0)
		return fd;
	rc = errno;
	(void)close(fd);
	return -rc;
}

static int readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

static int accept_server(void)
{
	cr_assert(readable(listen_fd, PATIENCE_MS), "the link does not connect");
	return accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
}

/* Exactly these bytes come, and (for now) no more. */
static void expect_bytes(int fd, const void *bytes, size_t count)
{
	char got[8192];
	size_t have = 0;

	cr_assert_leq(count, sizeof got);
	while (have < count) {
		ssize_t n;

		cr_assert(readable(fd, PATIENCE_MS), "%zu of %zu bytes came", have, count);
		n = recv(fd, got + have, count - have, 0);
		cr_assert_gt(n, 0, "the end came after %zu of %zu bytes", have, count);
		have += (size_t)n;
	}
	cr_assert_eq(memcmp(got, bytes, count), 0);
}

static void expect_end(int fd)
{
	char byte;

	cr_assert(readable(fd, PATIENCE_MS), "no end came");
	cr_assert_leq(recv(fd, &byte, 1, 0), 0, "a byte came instead of the end");
}

static size_t message(uint8_t *ret, char type, const char *body, size_t bytes)
{
	uint32_t length = htonl((uint32_t)bytes + 4);
	size_t at = 0;

	if (type != 0)
		ret[at++] = (uint8_t)type;
	memcpy(ret + at, &length, 4);
	memcpy(ret + at + 4, body, bytes);
	return at + 4 + bytes;
}

static void say(int fd, char type, const char *body, size_t bytes)
{
	uint8_t m[4096];
	size_t n = message(m, type, body, bytes);

	cr_assert_eq(send(fd, m, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void expect_message(int fd, char type, const char *body, size_t bytes)
{
	uint8_t m[4096];

	expect_bytes(fd, m, message(m, type, body, bytes));
}

static const char startup[] = "\0\3\0\0user\0me\0"; /* the literal's own zero ends the list */

/* Connect, and through the startup to ReadyForQuery. */
static void greet(void)
{
	client = connect_client();
	cr_assert_geq(client, 0);
	server = accept_server();
	say(client, 0, startup, sizeof startup);
	expect_message(server, 0, startup, sizeof startup);
	say(server, 'R', "\0\0\0", 4);
	say(server, 'Z', "I", 1);
	expect_message(client, 'R', "\0\0\0", 4);
	expect_message(client, 'Z', "I", 1);
}

static void setup(void)
{
	listen_here();
	cr_assert_eq(link_start(&l, LINK_TCP, "127.0.0.1", server_port), 0);
}

static void end(void)
{
	(void)close(client);
	(void)close(server);
	(void)close(listen_fd);
	link_end(&l);
}

Test(link, passes_everything_both_ways_and_counts, .init = setup, .fini = end)
{
	struct link_counts c;

	greet();
	say(client, 'Q', "select 1", 9);
	expect_message(server, 'Q', "select 1", 9);
	say(server, 'C', "SELECT 1", 9);
	expect_message(client, 'C', "SELECT 1", 9);
	link_counts(&l, &c);
	cr_assert_eq(c.accepted, 1);
	cr_assert_eq(c.open, 1);
	cr_assert_eq(c.most_at_once, 1);
	cr_assert_gt(c.attempts_ns[0], 0);
	(void)shutdown(client, SHUT_WR);
	expect_end(server);
}

Test(link, a_unix_socket_serves_too, .fini = end)
{
	listen_here();
	cr_assert_eq(link_start(&l, LINK_UNIX, "127.0.0.1", server_port), 0);
	cr_assert_eq(l.host[0], '/');
	greet();
	cr_assert_eq(link_mode(&l, LINK_REFUSE), 0);
	cr_assert_eq(connect_client(), -ECONNREFUSED);
	cr_assert_eq(link_mode(&l, LINK_PASS), 0);
	(void)close(client);
	(void)close(server);
	greet();
}

Test(link, what_is_said_while_it_holds_arrives_afterwards, .init = setup, .fini = end)
{
	int late;

	greet();
	cr_assert_eq(link_mode(&l, LINK_HOLD), 0);
	say(client, 'Q', "select 1", 9);
	say(server, 'N', "notice", 7);
	late = connect_client();
	cr_assert_geq(late, 0, "a dead link refuses nothing");
	cr_assert_not(readable(server, QUIET_MS));
	cr_assert_not(readable(client, 0));
	cr_assert_not(readable(listen_fd, 0));
	cr_assert_eq(link_mode(&l, LINK_PASS), 0);
	expect_message(server, 'Q', "select 1", 9);
	expect_message(client, 'N', "notice", 7);
	cr_assert(readable(listen_fd, PATIENCE_MS), "the late connection is made");
	(void)close(late);
}

Test(link, a_cut_ends_both_sides_and_the_next_connection_passes, .init = setup, .fini = end)
{
	greet();
	cr_assert_eq(link_cut(&l), 0);
	expect_end(client);
	expect_end(server);
	(void)close(client);
	(void)close(server);
	greet();
}

Test(link, refused_means_refused_while_the_old_connection_goes_on, .init = setup, .fini = end)
{
	greet();
	cr_assert_eq(link_mode(&l, LINK_REFUSE), 0);
	cr_assert_eq(connect_client(), -ECONNREFUSED);
	say(client, 'Q', "select 1", 9);
	expect_message(server, 'Q', "select 1", 9);
	cr_assert_eq(link_mode(&l, LINK_PASS), 0);
	(void)close(client);
	(void)close(server);
	greet();
}

Test(link, the_nth_matching_request_is_lost_and_the_server_never_hears_it, .init = setup, .fini = end)
{
	greet();
	cr_assert_eq(link_trap(&l, LINK_LOSE_REQUEST, "COMMIT", 6, 2), 0);
	say(client, 'Q', "COMMIT", 7);
	expect_message(server, 'Q', "COMMIT", 7);
	say(server, 'Z', "I", 1);
	expect_message(client, 'Z', "I", 1);
	say(client, 'Q', "COMMIT", 7);
	expect_end(client);
	expect_end(server);
	cr_assert_eq(link_wait_caught(&l, 1, PATIENCE_MS), 0);
}

Test(link, the_answer_of_a_matching_request_is_lost_after_the_server_has_done_it, .init = setup, .fini = end)
{
	greet();
	cr_assert_eq(link_trap(&l, LINK_LOSE_ANSWER, "COMMIT", 6, 1), 0);
	/* A pipeline: its Sync is the end of the answer. */
	say(client, 'Q', "before", 7);
	say(client, 'P', "\0COMMIT\0\0", 10);
	say(client, 'E', "\0\0\0\0", 5);
	expect_message(server, 'Q', "before", 7);
	expect_message(server, 'P', "\0COMMIT\0\0", 10);
	say(server, 'Z', "I", 1);
	say(client, 'S', "", 0);
	expect_message(server, 'E', "\0\0\0\0", 5);
	expect_message(server, 'S', "", 0);
	expect_message(client, 'Z', "I", 1);
	/* In pieces, so that one of them begins inside a message. */
	cr_assert_eq(send(server,
	                  "C\0\0\0\x0b"
	                  "COM",
	                  8, MSG_NOSIGNAL),
	             8);
	(void)usleep(20000);
	cr_assert_eq(send(server, "MIT\0", 4, MSG_NOSIGNAL), 4);
	cr_assert_not(readable(client, QUIET_MS));
	say(server, 'Z', "I", 1);
	expect_end(client);
	expect_end(server);
}

Test(link, a_request_is_caught_only_behind_the_one_it_is_waited_for, .init = setup, .fini = end)
{
	greet();
	cr_assert_eq(link_trap_behind(&l, LINK_LOSE_REQUEST, "BEGIN WRITE", "COMMIT", 1), 0);
	say(client, 'Q', "BEGIN READ", 11);
	say(client, 'Q', "COMMIT", 7);
	expect_message(server, 'Q', "BEGIN READ", 11);
	expect_message(server, 'Q', "COMMIT", 7);
	say(client, 'Q', "BEGIN WRITE", 12);
	expect_message(server, 'Q', "BEGIN WRITE", 12);
	say(client, 'Q', "COMMIT", 7);
	expect_end(server);
}

Test(link, what_came_before_a_trap_was_set_does_not_count_for_it, .init = setup, .fini = end)
{
	greet();
	cr_assert_eq(link_trap_behind(&l, LINK_LOSE_REQUEST, "BEGIN WRITE", "COMMIT", 1), 0);
	say(client, 'Q', "BEGIN WRITE", 12);
	expect_message(server, 'Q', "BEGIN WRITE", 12);
	cr_assert_eq(link_trap_behind(&l, LINK_LOSE_REQUEST, "BEGIN WRITE", "COMMIT", 1), 0);
	say(client, 'Q', "COMMIT", 7);
	expect_message(server, 'Q', "COMMIT", 7);
	say(client, 'Q', "BEGIN WRITE", 12);
	expect_message(server, 'Q', "BEGIN WRITE", 12);
	say(client, 'Q', "COMMIT", 7);
	expect_end(server);
}

Test(link, a_stalled_answer_leaves_a_dead_connection, .init = setup, .fini = end)
{
	greet();
	cr_assert_eq(link_trap(&l, LINK_STALL_ANSWER, "select", 6, 1), 0);
	say(client, 'Q', "select 1", 9);
	expect_message(server, 'Q', "select 1", 9);
	say(server, 'Z', "I", 1);
	cr_assert_eq(link_wait_caught(&l, 1, PATIENCE_MS), 0);
	cr_assert_not(readable(client, QUIET_MS));
	cr_assert_eq(link_cut(&l), 0);
	expect_end(client);
}

Test(link, a_delay_is_at_least_as_long_as_asked_for, .init = setup, .fini = end)
{
	double begin;

	greet();
	cr_assert_eq(link_delay(&l, 150), 0);
	begin = run_now_s();
	say(client, 'Q', "select 1", 9);
	expect_message(server, 'Q', "select 1", 9);
	say(server, 'Z', "I", 1);
	expect_message(client, 'Z', "I", 1);
	cr_assert_geq(run_now_s() - begin, 0.3);
}

Test(link, an_encrypted_connection_passes_unread, .init = setup, .fini = end)
{
	char random[64];

	client = connect_client();
	server = accept_server();
	say(client, 0, "\x04\xd2\x16\x2f", 4); /* SSLRequest */
	expect_message(server, 0, "\x04\xd2\x16\x2f", 4);
	cr_assert_eq(send(server, "S", 1, MSG_NOSIGNAL), 1);
	expect_bytes(client, "S", 1);
	cr_assert_eq(link_trap(&l, LINK_LOSE_REQUEST, "\xff\xff", 2, 1), 0);
	memset(random, 0xff, sizeof random);
	cr_assert_eq(send(client, random, sizeof random, MSG_NOSIGNAL), sizeof random);
	expect_bytes(server, random, sizeof random);
}

Test(link, an_ssl_request_that_is_refused_leaves_the_framing_readable, .init = setup, .fini = end)
{
	client = connect_client();
	server = accept_server();
	say(client, 0, "\x04\xd2\x16\x2f", 4);
	expect_message(server, 0, "\x04\xd2\x16\x2f", 4);
	cr_assert_eq(send(server, "N", 1, MSG_NOSIGNAL), 1);
	expect_bytes(client, "N", 1);
	say(client, 0, startup, sizeof startup);
	expect_message(server, 0, startup, sizeof startup);
	say(server, 'Z', "I", 1);
	expect_message(client, 'Z', "I", 1);
	cr_assert_eq(link_trap(&l, LINK_LOSE_ANSWER, "COMMIT", 6, 1), 0);
	say(client, 'Q', "COMMIT", 7);
	expect_message(server, 'Q', "COMMIT", 7);
	say(server, 'Z', "I", 1);
	expect_end(client);
}

Test(link, a_server_that_is_not_there_ends_the_connection, .init = setup, .fini = end)
{
	struct link_counts c;

	(void)close(listen_fd);
	client = connect_client();
	cr_assert_geq(client, 0);
	expect_end(client);
	link_counts(&l, &c);
	cr_assert_eq(c.unreached, 1);
}
