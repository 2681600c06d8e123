/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a chain of operations, as it stands in a WRITE frame, and as results of every type.
 * What decodes encodes to the same bytes again, so no byte is without meaning, and is judged
 * without reading beyond it. */
#include <stdlib.h>

#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "tests/fuzz/fuzz.h"

static void objects(const uint8_t *at, size_t left, uint8_t *again)
{
	struct shmeta_object_info object;
	size_t used;

	while (shmeta__object_decode(at, left, &object, &used) == SHMETA_OK) {
		require(used <= left && shmeta__object_bytes(&object) == used);
		require(shmeta__object_encode(&object, again, used) == used && memcmp(again, at, used) == 0);
		at += used;
		left -= used;
	}
}

static void operations(const uint8_t *at, size_t left, uint8_t *again)
{
	struct shmeta_op op;
	size_t used;

	while (shmeta__op_decode(at, left, &op, &used) == SHMETA_OK) {
		struct shmeta_segment *rows = calloc(shmeta__op_rows(&op) + 1, sizeof *rows);
		struct shmeta_err err = {.text = ""};

		require(rows != NULL);
		shmeta__op_unpack(at, rows, &op);
		require(used <= left && used >= sizeof(struct shmeta_wire_op) && shmeta__op_bytes(&op) == used);
		require(shmeta__op_encode(&op, again, used) == used && memcmp(again, at, used) == 0);
		require((shmeta__op_check(&op, &err) == SHMETA_OK) == (err.text[0] == '\0'));
		free(rows);
		at += used;
		left -= used;
	}
}

static void results(enum shmeta_op_type type, const uint8_t *at, size_t left, uint8_t *again)
{
	struct shmeta_result result;
	size_t used;

	while (shmeta__result_decode(type, at, left, &result, &used) == SHMETA_OK) {
		require(used <= left && memchr(result.text, 0, sizeof result.text) != NULL);
		require(shmeta__result_bytes(&result) == used);
		require(shmeta__result_encode(type, &result, again, used) == used && memcmp(again, at, used) == 0);
		at += used;
		left -= used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t again[SHMETA_FRAME_MAX];
	uint8_t *exact;

	if (bytes < 1 || bytes > SHMETA_FRAME_MAX)
		return 0;
	exact = malloc(bytes > 1 ? bytes - 1 : 1);
	if (exact == NULL)
		return 0;
	memcpy(exact, data + 1, bytes - 1);
	if (data[0] % 2 == 0)
		operations(exact, bytes - 1, again);
	else if (data[0] == 255)
		objects(exact, bytes - 1, again);
	else
		results((enum shmeta_op_type)(data[0] / 2 % SHMETA_OP_TYPES), exact, bytes - 1, again);
	free(exact);
	return 0;
}
