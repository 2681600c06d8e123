/* SPDX-License-Identifier: Apache-2.0
 * shmeta-exporter on a Unix socket in a scratch directory, and requests to it. */
#ifndef SHMETA_TESTS_SUPPORT_RUN_EXPORTER_H
#define SHMETA_TESTS_SUPPORT_RUN_EXPORTER_H

#include <stddef.h>
#include <sys/types.h>

struct run_exporter {
	char dir[64], socket[96];
	pid_t pid;
};
struct http_answer {
	int status;
	char *text, *body; /* the whole answer; body points into it */
	size_t bytes;      /* of the body */
	double seconds;
};

/* Start it with these options beside --listen, and wait until it answers. 0 or -1. */
__attribute__((format(printf, 2, 3))) int run_exporter_start(struct run_exporter *e, const char *fmt, ...);
void run_exporter_done(struct run_exporter *e);
/* Connected to its socket, or -1. */
int run_exporter_connect(const struct run_exporter *e);
/* What it answers to these bytes until it closes the connection. status 0: nothing. */
void run_exporter_send(const struct run_exporter *e, const char *request, size_t bytes, struct http_answer *ret);
/* GET with more header lines ("" or "Accept: x\r\n"). */
void run_exporter_get(const struct run_exporter *e, const char *path, const char *headers, struct http_answer *ret);
void http_answer_done(struct http_answer *answer);

#endif
