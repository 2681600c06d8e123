/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a record of each kind, a name, a map and a text to be shown. What decodes must
 * encode to the same bytes again: then no byte of a record is without meaning, and nothing is
 * lost. */
#include "base/escape.h"
#include "base/row_limits.h"
#include "base/string_map.h"
#include "shm/record/record.h"
#include "tests/fuzz/fuzz.h"

/* The checksum is 8 bytes that a fuzzer does not find: it is left out of the comparison. */
static void same(const uint8_t *data, size_t bytes, const uint8_t *again, size_t again_bytes)
{
	require(again_bytes == bytes);
	require(memcmp(data + 8, again + 8, bytes - 8) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t out[SHMETA_AGENT_MAX + SHMETA_SMALL_MAX];
	struct shmeta__stamps stamps;
	struct shmeta_topic topic;
	struct shmeta_agent agent;
	struct shmeta_group group;
	struct shmeta_committed_offset offset;
	struct shmeta_lease lease;
	struct shmeta_map map = {data, bytes};
	char shown[64], text[256];
	const char *wrong;

	for (int verify = 0; verify < 2; verify++) {
		if (shmeta__topic_decode(data, bytes, "key", 3, verify, &topic, &stamps) == SHMETA_OK) {
			wrong = shmeta__topic_error(&topic, text, sizeof text);
			require(wrong == NULL || strlen(wrong) < sizeof text);
			same(data, bytes, out, shmeta__topic_encode(&topic, &stamps, "key", 3, out, sizeof out));
		}
		if (shmeta__agent_decode(data, bytes, "key", 3, verify, &agent, &stamps) == SHMETA_OK)
			same(data, bytes, out, shmeta__agent_encode(&agent, &stamps, "key", 3, out, sizeof out));
		if (shmeta__group_decode(data, bytes, "key", 3, verify, &group, &stamps) == SHMETA_OK)
			same(data, bytes, out, shmeta__group_encode(&group, &stamps, "key", 3, out, sizeof out));
		if (shmeta__offset_decode(data, bytes, "key", 3, verify, &offset, &stamps) == SHMETA_OK)
			same(data, bytes, out, shmeta__offset_encode(&offset, &stamps, "key", 3, out, sizeof out));
		if (shmeta__lease_decode(data, bytes, "key", 3, verify, &lease, &stamps) == SHMETA_OK)
			same(data, bytes, out, shmeta__lease_encode(&lease, &stamps, "key", 3, out, sizeof out));
	}
	(void)shmeta__name_error(data, bytes, SHMETA_NAME_MAX);
	(void)shmeta__map_error(&map);
	(void)shmeta__escape(shown, sizeof shown, data, bytes);
	require(strlen(shown) < sizeof shown);
	/* What has been escaped needs no escaping. */
	for (const char *p = shown; *p != 0; p++)
		require((unsigned char)*p >= 0x20 && *p != 0x7f);
	return 0;
}
