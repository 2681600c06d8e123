/* SPDX-License-Identifier: Apache-2.0
 * Run a program as a user would and keep what it printed. */
#ifndef SHMETA_TESTS_SUPPORT_RUN_TOOL_H
#define SHMETA_TESTS_SUPPORT_RUN_TOOL_H

#include <jansson.h>
#include <stddef.h>

struct run_tool {
	int code; /* exit status; 128 + signal; 124: it ran longer than 20 s (in make faults 600 s)
                   * and was killed */
	char *out, *err;
	size_t out_bytes;
	double seconds;
};

/* A command line for sh, but that a first word without '/' that names a program of ours is taken
 * from the build. */
__attribute__((format(printf, 2, 3))) void run_tool(struct run_tool *ret, const char *fmt, ...);
/* The same for what is known to take long on a busy machine: 180 s instead of 20. */
__attribute__((format(printf, 2, 3))) void run_tool_slow(struct run_tool *ret, const char *fmt, ...);
/* The same with a terminal as standard output (err is empty: it goes there too). */
__attribute__((format(printf, 2, 3))) void run_tool_terminal(struct run_tool *ret, const char *fmt, ...);
void run_tool_done(struct run_tool *t);
/* Skips the test where there are no terminals; it comes first in a test, before there is anything
 * to clean up. */
void run_tool_need_terminal(void);

/* Its output as one JSON document with schema, version and time; fails the test when it is none. */
json_t *run_tool_json(const struct run_tool *t);

/* A file's text, terminated; NULL when it cannot be read. */
char *run_read_file(const char *path);

#endif
