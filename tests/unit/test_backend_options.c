/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/backend.h"
#include "tests/support/scratch.h"

Test(backend_options, a_copy_owns_every_string)
{
	char uri[] = "postgresql://one", read_uri[] = "postgresql://two", file[] = "/run/secret";
	const struct backend_options given = {
		.uri = uri, .read_uri = read_uri, .password_file = file, .timeout_ms = 7, .create = 1};
	struct backend_options copy;

	cr_assert(backend_options_copy(&given, &copy));
	memset(uri, 'x', sizeof(uri) - 1);
	memset(read_uri, 'x', sizeof(read_uri) - 1);
	memset(file, 'x', sizeof(file) - 1);
	cr_expect_str_eq(copy.uri, "postgresql://one");
	cr_expect_str_eq(copy.read_uri, "postgresql://two");
	cr_expect_str_eq(copy.password_file, "/run/secret");
	cr_expect_eq(copy.timeout_ms, 7);
	cr_expect_eq(copy.create, 1);
	backend_options_free(&copy);
	cr_expect_null(copy.uri);
	cr_expect_null(copy.read_uri);
	cr_expect_null(copy.password_file);
	backend_options_free(&copy);
}

Test(backend_options, what_is_not_given_stays_so)
{
	const struct backend_options given = {.uri = "memory:"};
	struct backend_options copy;

	cr_assert(backend_options_copy(&given, &copy));
	cr_expect_str_eq(copy.uri, "memory:");
	cr_expect_null(copy.read_uri);
	cr_expect_null(copy.password_file);
	backend_options_free(&copy);
}

/* Opening one waits for somebody who writes it. */
Test(backend_options, a_password_file_that_is_a_fifo_is_refused_at_once, .timeout = 30)
{
	char path[SCRATCH_PATH_MAX], said[200];
	const struct backend_options options = {
		.uri = "postgresql://127.0.0.1:1/x", .password_file = path, .timeout_ms = 1000};
	const struct backend_engine *engine;
	struct backend_error err = {.code = SHMETA_OK};
	void *state;

	scratch_file("password", path);
	cr_assert_eq(mkfifo(path, 0600), 0);
	engine = backend_find(options.uri, &err);
	cr_assert_not_null(engine);
	state = calloc(1, engine->state_bytes);
	cr_expect_eq(engine->source->open(state, &options, &err), SHMETA_ERR_SOURCE);
	(void)snprintf(said, sizeof(said), "the password file %s is a FIFO, not a file", path);
	cr_expect_not_null(strstr(err.text, said), "%s", err.text);
	engine->source->close(state);
	free(state);
	(void)unlink(path);
}
