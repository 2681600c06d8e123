/* SPDX-License-Identifier: Apache-2.0
 * The small records and the texts of others: any bytes give either a record whose views lie in the value, or ERR_CORRUPT; what
 * decodes encodes again, and from then on to the same bytes; an escaped text is terminated and printable. */
#include <stdlib.h>
#include <string.h>

#include "shm/record.h"

static void require(int holds)
{
	if (!holds)
		abort();
}

struct input {
	const uint8_t *key, *value;
	size_t key_bytes, value_bytes;
};

static void inside(const struct input *in, const void *data, size_t bytes)
{
	const uint8_t *p = data;

	require(bytes == 0 ||
	        (p >= in->value && bytes <= in->value_bytes && (size_t)(p - in->value) <= in->value_bytes - bytes));
}
static void inside_str(const struct input *in, struct shmeta_str s)
{
	inside(in, s.data, s.bytes);
}
static void inside_map(const struct input *in, struct shmeta_map m)
{
	inside(in, m.data, m.bytes);
	(void)shmeta__map_error(&m);
}

static uint8_t once[SHMETA_TOPIC_MAX + SHMETA_AGENT_MAX], twice[sizeof once];

/* Bytes in reserved places are not kept, so the input itself need not come back. */
#define ROUND_TRIP(kind)                                                                                         \
	do {                                                                                                     \
		size_t n = shmeta__##kind##_encode(&r, &stamps, in->key, in->key_bytes, once, sizeof once);      \
                                                                                                                 \
		require(n > 0 && n <= in->value_bytes);                                                          \
		require(shmeta__##kind##_decode(once, n, in->key, in->key_bytes, 1, &r, &stamps) == SHMETA_OK);  \
		require(shmeta__##kind##_encode(&r, &stamps, in->key, in->key_bytes, twice, sizeof twice) == n); \
		require(memcmp(once, twice, n) == 0);                                                            \
	} while (0)

static void topic(const struct input *in)
{
	struct shmeta_topic r;
	struct shmeta__stamps stamps;
	char text[512];

	for (int verify = 0; verify < 2; verify++) {
		if (shmeta__topic_decode(in->value, in->value_bytes, in->key, in->key_bytes, verify, &r, &stamps) !=
		    SHMETA_OK)
			return;
		inside_str(in, r.cleanup_policy);
		inside_map(in, r.config);
		(void)shmeta__topic_error(&r, text, sizeof text);
	}
	ROUND_TRIP(topic);
}

static void agent(const struct input *in)
{
	struct shmeta_agent r;
	struct shmeta__stamps stamps;

	for (int verify = 0; verify < 2; verify++) {
		if (shmeta__agent_decode(in->value, in->value_bytes, in->key, in->key_bytes, verify, &r, &stamps) !=
		    SHMETA_OK)
			return;
		inside_str(in, r.address);
		inside_str(in, r.availability_zone);
		inside_str(in, r.agent_group);
		inside_map(in, r.metadata);
	}
	ROUND_TRIP(agent);
}

static void group(const struct input *in)
{
	struct shmeta_group r;
	struct shmeta__stamps stamps;

	for (int verify = 0; verify < 2; verify++)
		if (shmeta__group_decode(in->value, in->value_bytes, in->key, in->key_bytes, verify, &r, &stamps) !=
		    SHMETA_OK)
			return;
	ROUND_TRIP(group);
}

static void offset(const struct input *in)
{
	struct shmeta_committed_offset r;
	struct shmeta__stamps stamps;

	for (int verify = 0; verify < 2; verify++) {
		if (shmeta__offset_decode(in->value, in->value_bytes, in->key, in->key_bytes, verify, &r, &stamps) !=
		    SHMETA_OK)
			return;
		inside_str(in, r.metadata);
	}
	ROUND_TRIP(offset);
}

static void lease(const struct input *in)
{
	struct shmeta_lease r;
	struct shmeta__stamps stamps;

	for (int verify = 0; verify < 2; verify++) {
		if (shmeta__lease_decode(in->value, in->value_bytes, in->key, in->key_bytes, verify, &r, &stamps) !=
		    SHMETA_OK)
			return;
		inside_str(in, r.leader_agent_id);
	}
	ROUND_TRIP(lease);
}

static void text(const struct input *in)
{
	char small[64];
	const char *end;
	const struct shmeta_map map = {.data = in->value, .bytes = in->value_bytes};

	(void)shmeta__name_error(in->value, in->value_bytes, SHMETA_NAME_MAX);
	(void)shmeta__map_error(&map);
	require(shmeta__escape(small, sizeof small, in->value, in->value_bytes) == small);
	end = memchr(small, '\0', sizeof small);
	require(end != NULL);
	for (const char *p = small; p < end; p++)
		require((unsigned char)*p >= 0x20 && *p != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static void (*const judges[])(const struct input *) = {topic, agent, group, offset, lease, text};
	struct input in = {0};
	uint8_t *exact, *key;

	if (bytes < 2)
		return 0;
	in.key_bytes = data[1] < bytes - 2 ? data[1] : bytes - 2;
	in.value_bytes = bytes - 2 - in.key_bytes;
	key = malloc(in.key_bytes + 1);
	exact = malloc(in.value_bytes + 1);
	if (key != NULL && exact != NULL) {
		/* The value ends where its block ends, and begins at an odd place: views must not need alignment. */
		memcpy(key, data + 2, in.key_bytes);
		memcpy(exact + 1, data + 2 + in.key_bytes, in.value_bytes);
		in.key = key;
		in.value = exact + 1;
		judges[data[0] % (sizeof judges / sizeof judges[0])](&in);
	}
	free(key);
	free(exact);
	return 0;
}
