/* SPDX-License-Identifier: Apache-2.0
 * What needs no instance: texts, the version, packed maps. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "include/shmeta.h"

TestSuite(reader_texts, .timeout = 10);

Test(reader_texts, every_status_has_a_text_of_its_own)
{
	const struct {
		enum shmeta_status status;
		const char *text;
	} all[] = {
#define SHMETA_X(name, number, text) {SHMETA_##name, text},
		SHMETA_STATUS_LIST(SHMETA_X)
#undef SHMETA_X
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		cr_assert_str_eq(shmeta_strerror(all[i].status), all[i].text);
		for (size_t j = 0; j < i; j++)
			cr_assert(all[i].status != all[j].status && strcmp(all[i].text, all[j].text) != 0);
	}
	cr_assert_neq(shmeta_strerror((enum shmeta_status)1000), NULL);
}

Test(reader_texts, the_version_is_the_headers)
{
	char text[32];

	(void)snprintf(text, sizeof text, "%d.%d.%d", SHMETA_VERSION_MAJOR, SHMETA_VERSION_MINOR, SHMETA_VERSION_PATCH);
	cr_assert_str_eq(shmeta_version(), text);
}

Test(reader_texts, packed_maps_are_walked_and_what_is_none_is_corrupt)
{
	static const char good[] = "\1\0\0\0\2\0\0\0kvv\1\0\0\0\0\0\0\0z";
	struct shmeta_map map = {good, sizeof good - 1};
	struct shmeta_str k, v;
	size_t cursor = 0;

	cr_assert_eq(shmeta_map_next(&map, &cursor, &k, &v), SHMETA_OK);
	cr_assert(k.bytes == 1 && *k.data == 'k' && v.bytes == 2);
	cr_assert_eq(shmeta_map_next(&map, &cursor, &k, &v), SHMETA_OK);
	cr_assert(*k.data == 'z' && v.bytes == 0);
	cr_assert_eq(shmeta_map_next(&map, &cursor, &k, &v), SHMETA_END);
	cr_assert_eq(shmeta_map_get(&map, "z", &v), SHMETA_OK);
	cr_assert_eq(shmeta_map_get(&map, "zz", &v), SHMETA_ABSENT);
	cr_assert_eq(shmeta_map_get(&map, NULL, &v), SHMETA_ERR_INVALID_ARGUMENT);
	for (map.bytes = 1; map.bytes < sizeof good - 1; map.bytes++) {
		if (map.bytes == 11)
			continue; /* one whole pair */
		cr_assert_eq(shmeta_map_get(&map, "zz", &v), SHMETA_ERR_CORRUPT);
	}
	cursor = 1000;
	cr_assert_eq(shmeta_map_next(&map, &cursor, &k, &v), SHMETA_ERR_INVALID_ARGUMENT);
	map = (struct shmeta_map){NULL, 0};
	cursor = 0;
	cr_assert_eq(shmeta_map_next(&map, &cursor, &k, &v), SHMETA_END);
}
