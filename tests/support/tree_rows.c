/* SPDX-License-Identifier: Apache-2.0
 * Rows for trees. */
#include "tests/support/tree_rows.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of 20 to 250 bytes. */
static void tree_name(int i, char (*ret)[250])
{
	(void)snprintf(*ret, sizeof *ret, "%0*d", 20 + i * 37 % 220, i);
}

void tree_topic(struct fake_writer *w, int i, size_t segments, bool group)
{
	char name[250];
	uint32_t id;

	tree_name(i, &name);
	id = fake_simple_topic(w, name, 1);
	fake_even_partition(w, id, 0, segments, 10);
	fake_lease(w, id, 0, "agent", 1000, 1);
	if (!group)
		return;
	fake_group(w, NULL, name);
	fake_offset(w, NULL, name, id, 0, 5, NULL);
}

void tree_delete_topic(struct fake_writer *w, int i)
{
	char name[250];

	tree_name(i, &name);
	fake_delete_topic(w, NULL, name);
}

size_t tree_read_file(const struct fake_writer *w, uint8_t **ret, uint8_t **ret_good)
{
	int fd = openat(w->dir_fd, "store.1/data.mdb", O_RDONLY | O_CLOEXEC);
	struct stat st;

	cr_assert_geq(fd, 0);
	cr_assert_eq(fstat(fd, &st), 0);
	free(*ret);
	free(*ret_good);
	*ret = malloc((size_t)st.st_size);
	*ret_good = malloc((size_t)st.st_size);
	cr_assert(*ret != NULL && *ret_good != NULL);
	cr_assert_eq(pread(fd, *ret_good, (size_t)st.st_size, 0), st.st_size);
	memcpy(*ret, *ret_good, (size_t)st.st_size);
	(void)close(fd);
	return (size_t)st.st_size;
}
