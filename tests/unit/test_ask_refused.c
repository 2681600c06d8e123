/* SPDX-License-Identifier: Apache-2.0
 * A question on a connection that the writer refuses and closes without having read it. The kernel
 * tells that (ECONNRESET) before it gives what the writer had sent: why. The writer is played by
 * the test, in the moment after the question was sent. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/support/fake_writer.h"
#include "tests/support/scripted_writer.h"

static ssize_t send_and_be_refused(int fd, const void *data, size_t bytes, int flags);
#define send send_and_be_refused
#include "reader/request/ask.c" /* NOLINT(bugprone-suspicious-include) */
#undef send

static struct scripted_writer writer;

static ssize_t send_and_be_refused(int fd, const void *data, size_t bytes, int flags)
{
	ssize_t n = send(fd, data, bytes, flags);

	cr_assert(scripted_accept(&writer, 0));
	scripted_refuse(&writer, 0, SHMETA_ERR_BUSY, "as many connections as one may have");
	scripted_close(&writer);
	return n;
}

Test(ask_refused, says_why, .timeout = 30)
{
	struct fake_writer *w = fake_writer_with_topic(NULL);
	struct shmeta *instance = fake_open(w, NULL, SHMETA_OPEN_UNREGISTERED, 0);
	char text[300];

	cr_assert_not_null(instance);
	scripted_listen(&writer, w->dir);
	cr_expect_eq(shmeta_refresh(instance, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL), SHMETA_ERR_BUSY);
	(void)shmeta_last_error(instance, text, sizeof text);
	cr_expect_not_null(strstr(text, "as many connections"), "%s", text);
	shmeta_close(instance);
	scripted_stop(&writer);
	fake_writer_free(w);
}
