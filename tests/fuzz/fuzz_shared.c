/* SPDX-License-Identifier: Apache-2.0
 * Pages and frames that another process wrote: any bytes are judged without reading beyond them,
 * and what is accepted fits. The first byte of the input chooses the judge; the rest lies in a
 * block of exactly its size, so that AddressSanitizer sees a byte too far. */
#include "shm/page/board.h"
#include "shm/page/stats_page.h"
#include "shm/wire/wire.h"
#include "tests/fuzz/fuzz.h"

static void board(const uint8_t *data, size_t bytes)
{
	struct shmeta_board copy = {0};
	struct shmeta_err err = {.text = ""};
	uint64_t file_bytes = bytes < sizeof copy ? bytes : SHMETA_PAGE;

	memcpy(&copy, data, bytes < sizeof copy ? bytes : sizeof copy);
	if (shmeta__board_check(&copy, file_bytes, &err) == SHMETA_OK)
		require(copy.board_bytes <= file_bytes && copy.phase <= SHMETA_PHASE_STOPPED &&
		        (copy.incompat & ~(uint32_t)SHMETA_BOARD_INCOMPAT_KNOWN) == 0);
	else
		require(err.text[0] != '\0' && memchr(err.text, '\0', sizeof err.text) != NULL);
}

static void generation(const uint8_t *data, size_t bytes)
{
	struct shmeta_generation copy = {0};
	struct shmeta_err err = {.text = ""};
	uint64_t file_bytes = 0;

	if (bytes < sizeof file_bytes)
		return;
	memcpy(&file_bytes, data, sizeof file_bytes);
	data += sizeof file_bytes;
	bytes -= sizeof file_bytes;
	memcpy(&copy, data, bytes < sizeof copy ? bytes : sizeof copy);
	if (shmeta__generation_check(&copy, file_bytes, &err) == SHMETA_OK)
		require(copy.touched_at <= file_bytes &&
		        file_bytes - copy.touched_at >= (uint64_t)SHMETA_TOUCHED_WORDS * 8 && copy.max_bytes > 0);
	else
		require(err.text[0] != '\0');
}

static void frame(const void *packet, size_t bytes)
{
	const struct shmeta_frame *head = packet;

	if (shmeta__frame_check(packet, bytes) != SHMETA_OK)
		return;
	require(head->bytes == bytes && strcmp(shmeta__frame_name(head->type), "unknown") != 0);
	if (head->type == SHMETA_FRAME_REFRESH) {
		const struct shmeta_frame_refresh *f = packet;

		require(sizeof *f + f->name_bytes + f->tenant_bytes == bytes && f->cls < SHMETA_CLASS_COUNT);
	}
	if (head->type == SHMETA_FRAME_ANSWER)
		require(sizeof(struct shmeta_frame_answer) + ((const struct shmeta_frame_answer *)packet)->text_bytes ==
		        bytes);
}

static void stats(const uint8_t *data, size_t bytes)
{
	static struct shmeta_stats page, copy;
	struct shmeta_err err = {.text = ""};

	memset(&page, 0, sizeof page);
	memcpy(&page, data, bytes < sizeof page ? bytes : sizeof page);
	if (shmeta__stats_copy(&page, &copy, &err) == SHMETA_OK)
		require(copy.reader_count <= SHMETA_STATS_READERS && copy.counter_count <= SHMETA_STATS_COUNTERS &&
		        copy.more_count <= SHMETA_STATS_MORE);
	else
		require(err.text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t *exact;

	if (bytes < 1)
		return 0;
	exact = malloc(bytes > 1 ? bytes - 1 : 1);
	if (exact == NULL)
		return 0;
	memcpy(exact, data + 1, bytes - 1);
	switch (data[0] % 4) {
	case 0:
		board(exact, bytes - 1);
		break;
	case 1:
		generation(exact, bytes - 1);
		break;
	case 2:
		frame(exact, bytes - 1);
		break;
	default:
		stats(exact, bytes - 1);
		break;
	}
	free(exact);
	return 0;
}
