/* SPDX-License-Identifier: Apache-2.0
 * What the library leaves to the programs and children that its host starts: nothing. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "reader/snapshot/snapshot.h"
#include "tests/support/fake_writer.h"

enum { DESCRIPTORS = 1024 };
static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static char before[DESCRIPTORS]; /* open before the instance was */

static void set_up(void)
{
	w = fake_writer_with_topic(NULL);
	fake_serve(w);
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		before[fd] = fcntl(fd, F_GETFD) >= 0;
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(reader_host, .init = set_up, .fini = tear_down, .timeout = 30);

/* The fake writer lives in this process, too: its ends of the connections have the name of its
 * socket. */
static int is_the_librarys(int fd)
{
	struct sockaddr_un name = {0};
	socklen_t bytes = sizeof name;

	if (before[fd] || fcntl(fd, F_GETFD) < 0)
		return 0;
	if (getsockname(fd, (struct sockaddr *)&name, &bytes) == 0)
		return name.sun_path[0] == 0;
	for (int i = 0; i < FAKE_CLIENTS; i++)
		if (w->client[i].memfd == fd)
			return 0;
	return 1;
}

static int sockets_of_the_library(void)
{
	struct sockaddr_un name = {0};
	int count = 0;

	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		socklen_t bytes = sizeof name;

		count += is_the_librarys(fd) && getsockname(fd, (struct sockaddr *)&name, &bytes) == 0;
	}
	return count;
}

static void ask(void)
{
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL), SHMETA_OK);
}

Test(reader_host, no_descriptor_is_inherited_by_a_program_that_the_host_starts)
{
	int seen = 0;

	ask();
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		if (!is_the_librarys(fd))
			continue;
		seen++;
		cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0, "descriptor %d", fd);
	}
	cr_assert_geq(seen, 2, "a registration, a connection for requests");
}

static int close_everything_inherited(struct shmeta *second)
{
	shmeta_reader_free(reader);
	shmeta_close(second);
	shmeta_close(instance);
	return sockets_of_the_library();
}

/* The next step of the registration, though its time may not have come. */
static void step(void)
{
	(void)pthread_mutex_lock(&reader->core->lock);
	shmeta__registration_step(reader->core, shmeta__monotonic_ns() + 1000 * MILLION);
	(void)pthread_mutex_unlock(&reader->core->lock);
}

Test(reader_host, a_child_that_closes_what_it_inherited_keeps_no_connection_of_its_parent)
{
	struct shmeta *second;
	int status;
	pid_t pid;

	/* An idle connection; a registration that only the reader still holds, as a second open
	 * asked for more; one under way. */
	ask();
	second = fake_open(w, NULL, 0, 100);
	cr_assert_neq(second, NULL);
	for (int i = 0; i < 5000 && reader->core->membership == reader->membership; i++) {
		step();
		(void)poll(NULL, 0, 1);
	}
	cr_assert_neq(reader->core->membership, reader->membership);
	w->silent = 1;
	shmeta_close(second);
	second = fake_open(w, NULL, 0, 500);
	if (reader->core->pending_fd < 0)
		step();
	cr_assert_geq(reader->core->pending_fd, 0);
	cr_assert_eq(sockets_of_the_library(), 4);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(close_everything_inherited(second));
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "%d connections are still open in the child", WEXITSTATUS(status));
	cr_assert_eq(sockets_of_the_library(), 4, "the parent's are its own");
	w->silent = 0;
	ask();
	shmeta_close(second);
}
