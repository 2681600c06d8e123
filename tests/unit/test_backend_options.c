/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>

#include "backends/backend.h"

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
