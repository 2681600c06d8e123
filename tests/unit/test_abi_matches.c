/* SPDX-License-Identifier: Apache-2.0
 * A program is as the library is: what it asks before anything else, of libraries that are not this
 * one. */
#include <criterion/criterion.h>
#include <string.h>

#define shmeta_sizeof other_library_sizeof
#include "include/shmeta.h"
#undef shmeta_sizeof
size_t shmeta_sizeof(const char *name);

static const char *other; /* the struct that has another size there */
static int longer_by;

size_t other_library_sizeof(const char *name)
{
	size_t bytes = shmeta_sizeof(name);

	return strcmp(name, other) != 0 ? bytes : bytes + (size_t)longer_by;
}

static int matches(const char *name, int by)
{
	other = name;
	longer_by = by;
	return shmeta_abi_matches();
}

TestSuite(abi_matches, .timeout = 20);

Test(abi_matches, a_struct_that_may_grow_is_longer_in_a_later_library_and_no_other)
{
#define GROWING(name)                                        \
	cr_expect_eq(matches("shmeta_" #name, 0), 1);        \
	cr_expect_eq(matches("shmeta_" #name, 8), 1, #name); \
	cr_expect_eq(matches("shmeta_" #name, -8), 0, #name);
	SHMETA_GROWING_STRUCT_LIST(GROWING)
#define FIXED(name)                                          \
	cr_expect_eq(matches("shmeta_" #name, 8), 0, #name); \
	cr_expect_eq(matches("shmeta_" #name, -8), 0, #name);
	SHMETA_FIXED_STRUCT_LIST(FIXED)
}
