/* SPDX-License-Identifier: Apache-2.0
 * A server on loopback that answers HTTP requests as a script says, one after the other, in a
 * process of its own. */
#ifndef SHMETA_TESTS_SUPPORT_HTTP_STUB_H
#define SHMETA_TESTS_SUPPORT_HTTP_STUB_H

#include <stdint.h>
#include <sys/types.h>

/* wants: a text that the request must hold (NULL: any); otherwise it is answered with 418. answer:
 * the body of a 200, or, where it begins with "HTTP/", the whole response; "" closes the
 * connection, NULL keeps silent. */
struct http_line {
	const char *wants, *answer;
};

struct http_stub {
	pid_t pid;
	uint16_t port;
	char url[64]; /* "http://127.0.0.1:PORT" */
};

/* Each request takes the next line; after the last one the last line is used again. Ends the test
 * when it cannot begin. */
void http_stub_start(struct http_stub *stub, const struct http_line *lines, size_t count);
void http_stub_stop(struct http_stub *stub);

#endif
