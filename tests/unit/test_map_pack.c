/* SPDX-License-Identifier: Apache-2.0
 * Packing string maps. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/string_map.h"

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

Test(map_pack, pairs_of_any_order_become_a_map_in_order)
{
	struct shmeta_pair pairs[] = {
		{str("b"), str("2")}, {str(""), str("0")}, {str("a"), str("")}, {str("ab"), str("1")}};
	static const char *const keys[] = {"", "a", "ab", "b"}, *const values[] = {"0", "", "1", "2"};
	struct shmeta_str key, value;
	struct shmeta_map map;
	size_t cursor = 0, need;
	char buffer[64];

	cr_assert_eq(shmeta_map_pack(pairs, 4, NULL, 0, &map, &need), SHMETA_ERR_BUFFER);
	cr_expect_eq(need, 4 * 8 + 4 + 3);
	cr_assert_eq(shmeta_map_pack(pairs, 4, buffer, need - 1, &map, NULL), SHMETA_ERR_BUFFER);
	cr_assert_eq(shmeta_map_pack(pairs, 4, buffer, need, &map, NULL), SHMETA_OK);
	cr_expect_eq(map.bytes, need);
	cr_expect_null(shmeta__map_error(&map));
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(shmeta_map_next(&map, &cursor, &key, &value), SHMETA_OK);
		cr_expect(key.bytes == strlen(keys[i]) && memcmp(key.data, keys[i], key.bytes) == 0);
		cr_expect(value.bytes == strlen(values[i]) && memcmp(value.data, values[i], value.bytes) == 0);
	}
	cr_expect_eq(shmeta_map_next(&map, &cursor, &key, &value), SHMETA_END);
	cr_assert_eq(shmeta_map_pack(NULL, 0, NULL, 0, &map, &need), SHMETA_OK);
	cr_expect(map.bytes == 0 && need == 0);
}

Test(map_pack, what_is_no_map_is_refused)
{
	static char large[SHMETA_MAP_MAX], room[SHMETA_MAP_MAX + 64];
	struct shmeta_pair twice[] = {{str("a"), str("1")}, {str("b"), str("2")}, {str("a"), str("3")}};
	struct shmeta_pair big = {str(""), {large, SHMETA_MAP_MAX - 8}};
	struct shmeta_map map;

	cr_expect_eq(shmeta_map_pack(twice, 3, room, sizeof room, &map, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_map_pack(&big, 1, room, sizeof room, &map, NULL), SHMETA_OK);
	cr_expect_eq(map.bytes, SHMETA_MAP_MAX);
	big.value.bytes++;
	cr_expect_eq(shmeta_map_pack(&big, 1, room, sizeof room, &map, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	big.value = (struct shmeta_str){NULL, 1};
	cr_expect_eq(shmeta_map_pack(&big, 1, room, sizeof room, &map, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_map_pack(NULL, 1, room, sizeof room, &map, NULL), SHMETA_ERR_INVALID_ARGUMENT);
}
