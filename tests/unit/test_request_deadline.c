/* SPDX-License-Identifier: Apache-2.0
 * A peer that is always ready, with answers to requests that nobody made, does not keep a request
 * beyond its deadline. No real peer sends without a pause, so poll and receive are this program's
 * own once the connection is made. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/support/fake_writer.h"

static int endless;       /* every look at a socket finds another stray answer */
static uint64_t received; /* of those */

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	const struct shmeta_frame_answer stray = {.head = {.bytes = sizeof stray,
	                                                   .version = SHMETA_WIRE_VERSION,
	                                                   .type = SHMETA_FRAME_ANSWER,
	                                                   .id = UINT64_MAX}};

	if (!__atomic_load_n(&endless, __ATOMIC_RELAXED)) {
		ssize_t (*real)(int, struct msghdr *, int);

		*(void **)&real = dlsym(RTLD_NEXT, "recvmsg");
		return real(fd, message, flags);
	}
	memcpy(message->msg_iov[0].iov_base, &stray, sizeof stray);
	message->msg_flags = 0;
	received++;
	return sizeof stray;
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	int (*real)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);

	if (!__atomic_load_n(&endless, __ATOMIC_RELAXED)) {
		*(void **)&real = dlsym(RTLD_NEXT, "ppoll");
		return real(fds, count, timeout, mask);
	}
	fds[0].revents = POLLIN;
	return 1;
}

Test(request_deadline, a_peer_that_never_stops_sending_does_not_keep_a_call_beyond_its_deadline, .timeout = 30)
{
	struct fake_writer *w = fake_writer_new();
	struct shmeta_reader *reader;
	struct shmeta *instance;

	fake_begin(w);
	(void)fake_simple_topic(w, "t", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL), SHMETA_OK);
	__atomic_store_n(&endless, 1, __ATOMIC_RELAXED);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 50, NULL), SHMETA_ERR_TIMEOUT);
	__atomic_store_n(&endless, 0, __ATOMIC_RELAXED);
	cr_assert_gt(received, 1);
	cr_assert_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL), SHMETA_OK);
	fake_close_all(w, instance, reader);
}
