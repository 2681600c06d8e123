/* SPDX-License-Identifier: Apache-2.0
 * A damaged instance directory: the store that a former writer left, its generation page and the
 * board, changed anywhere. Either the proof refuses the store with a sentence, or LMDB and
 * everything that reads it can go on with it. A writer starts on it in any case, and when the store
 * was refused, it ends with a whole one.
 *
 * The first byte: bit 0: a writer starts on it whatever the proof says. Then changes, each a byte:
 * lowest two bits: of data.mdb, of the generation page, of the board, and data.mdb is cut (uint16_t
 * pages left); otherwise bits 2 and 3: 0 bytes (uint32_t offset, uint8_t n, n bytes), 1 a page
 * copied over another (uint8_t, uint8_t), 2 one bit (uint32_t offset, uint8_t), 3 a number added to
 * a word of 32 bits (uint16_t word, uint8_t page, int8_t). */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/once.h"
#include "shm/page/board.h"
#include "shm/store/store_inspect.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/bare_engine.h"

enum { CHANGES_MAX = 16, ROUNDS = 4 };
static const char generation_dir[] = "store.1";

/* A file as the former writer left it. */
struct image {
	char name[32]; /* in the instance directory */
	uint8_t *bytes, *now;
	size_t size;
};

static struct {
	struct bare_engine engine;
	struct image data, page;
	_Alignas(8) uint8_t board[SHMETA_PAGE];
	uint64_t number;
} w;

/* ---- the former writer's files ---- */

static void read_image(struct image *image, const char *name)
{
	struct stat st;
	int fd;

	(void)snprintf(image->name, sizeof image->name, "%s/%s", generation_dir, name);
	fd = openat(w.engine.dir_fd, image->name, O_RDONLY | O_CLOEXEC);
	require(fd >= 0 && fstat(fd, &st) == 0);
	image->size = (size_t)st.st_size;
	image->bytes = malloc(image->size);
	image->now = malloc(image->size);
	require(image->bytes != NULL && image->now != NULL &&
	        pread(fd, image->bytes, image->size, 0) == (ssize_t)image->size);
	(void)close(fd);
}

static void write_image(const struct image *image, size_t size)
{
	int fd = openat(w.engine.dir_fd, image->name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);

	require(fd >= 0 && pwrite(fd, image->now, size, 0) == (ssize_t)size && ftruncate(fd, (off_t)size) == 0);
	(void)close(fd);
}

static void run_engine(void)
{
	uint64_t wait;

	for (int i = 0; i < ROUNDS; i++)
		require(sync_run_once(w.engine.sync, &wait) == SHMETA_OK);
}

static void at_exit(void)
{
	bare_engine_done(&w.engine);
	free(w.data.bytes);
	free(w.data.now);
	free(w.page.bytes);
	free(w.page.now);
}

static void start(void)
{
	static bool begun;
	struct shmeta_err err = {.text = ""};

	if (begun)
		return;
	begun = true;
	bare_engine_init(&w.engine);
	w.engine.options.grace_ns = 1000;
	w.engine.options.store_max_bytes = 8 << 20;
	bare_engine_must(memory_fill(w.engine.db, 12, 3, 40, 7), "rows", NULL);
	bare_engine_must(memory_put_group(w.engine.db, NULL, &(struct shmeta_group){.group_id = {"group", 5}}) &&
	                         memory_put_agent(w.engine.db, NULL, &(struct shmeta_agent){.agent_id = {"agent", 5}}),
	                 "rows", NULL);
	bare_engine_must(bare_engine_open(&w.engine, &err) == SHMETA_OK, "an engine", &err);
	run_engine();
	/* Pages that were freed, and some that are used again. */
	for (int i = 0; i < 3; i++) {
		bare_engine_must(memory_create_topic(w.engine.db, NULL,
		                                     i == 0   ? "a"
		                                     : i == 1 ? "b"
		                                              : "c",
		                                     9, 1),
		                 "a topic", NULL);
		(void)usleep(20000);
		run_engine();
	}
	w.number = w.engine.board->generation;
	require(w.number == 1);
	bare_engine_close(&w.engine);
	memcpy(w.board, w.engine.board, sizeof w.board);
	read_image(&w.data, "data.mdb");
	read_image(&w.page, "generation");
	require(atexit(at_exit) == 0);
}

/* Everything as it was before a writer has gone on with it. */
static void remake(void)
{
	DIR *dir = opendir(w.engine.dir);
	struct dirent *entry;
	struct shmeta_err err;

	require(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
		if (strncmp(entry->d_name, "store.", 6) == 0)
			require(shmeta__store_remove(w.engine.dir_fd, strtoull(entry->d_name + 6, NULL, 10), &err) ==
			        SHMETA_OK);
	(void)closedir(dir);
	require(mkdirat(w.engine.dir_fd, generation_dir, 0750) == 0);
	memcpy(w.data.now, w.data.bytes, w.data.size);
	memcpy(w.page.now, w.page.bytes, w.page.size);
	write_image(&w.data, w.data.size);
	write_image(&w.page, w.page.size);
}

/* ---- damage ---- */

static void change_bytes(uint8_t *bytes, size_t size, uint8_t how, struct fuzz_input *in)
{
	uint32_t at, from, to;
	const uint8_t *given;
	size_t count;

	switch (how / 4 % 4) {
	case 0:
		fuzz_take(in, &at, sizeof at);
		given = fuzz_bytes(in, fuzz_u8(in), &count);
		at %= (uint32_t)size;
		if (count > size - at)
			count = size - at;
		if (count > 0)
			memcpy(bytes + at, given, count);
		break;
	case 1:
		from = fuzz_u8(in) % (uint32_t)(size / SHMETA_PAGE);
		to = fuzz_u8(in) % (uint32_t)(size / SHMETA_PAGE);
		memmove(bytes + (size_t)to * SHMETA_PAGE, bytes + (size_t)from * SHMETA_PAGE, SHMETA_PAGE);
		break;
	case 2:
		fuzz_take(in, &at, sizeof at);
		bytes[at % size] ^= (uint8_t)(1u << fuzz_u8(in) % 8);
		break;
	default:
		from = fuzz_u16(in) % (SHMETA_PAGE / 4);
		to = fuzz_u8(in) % (uint32_t)(size / SHMETA_PAGE);
		bytes += (size_t)to * SHMETA_PAGE + (size_t)from * 4;
		memcpy(&at, bytes, sizeof at);
		at = (uint32_t)(at + (int64_t)(int8_t)fuzz_u8(in));
		memcpy(bytes, &at, sizeof at);
		break;
	}
}

/* Returns how many bytes of data.mdb are left. */
static size_t damage(struct fuzz_input *in)
{
	size_t left = w.data.size;

	for (int i = 0; i < CHANGES_MAX && in->left > 0; i++) {
		uint8_t how = fuzz_u8(in);

		switch (how % 4) {
		case 0:
			change_bytes(w.data.now, w.data.size, how, in);
			break;
		case 1:
			change_bytes(w.page.now, w.page.size, how, in);
			break;
		case 2:
			change_bytes((uint8_t *)w.engine.board, SHMETA_PAGE, how, in);
			break;
		default:
			left = fuzz_u16(in) % (w.data.size / SHMETA_PAGE + 1) * SHMETA_PAGE;
			break;
		}
	}
	return left;
}

static bool is_whole(size_t left)
{
	return left == w.data.size && memcmp(w.data.now, w.data.bytes, left) == 0 &&
	       memcmp(w.page.now, w.page.bytes, w.page.size) == 0 &&
	       memcmp(w.engine.board, w.board, sizeof w.board) == 0;
}

/* ---- what has to hold ---- */

static void ignore(void *arg, const char *sentence)
{
	(void)arg;
	require(sentence[0] != '\0');
}

static enum shmeta_status verify(struct shmeta__store *store)
{
	struct shmeta__verify_report report;
	struct shmeta__inspected *of;
	struct shmeta_err err = {.text = ""};
	enum shmeta_status status;
	char path[300];

	(void)snprintf(path, sizeof path, "%s/store.%llu", w.engine.dir,
	               (unsigned long long)shmeta__store_number(store));
	status = shmeta__inspect_open(path, &of, &err);
	if (status == SHMETA_OK) {
		status = shmeta__store_verify(of, ignore, NULL, &report, &err);
		shmeta__inspect_close(of);
	}
	require(status == SHMETA_OK || err.text[0] != '\0');
	return status;
}

/* refused: the proof has refused what is there, so that what is shown has been loaded anew. */
static void adopt(bool refused)
{
	struct shmeta_err err = {.text = ""};

	if (bare_engine_open(&w.engine, &err) != SHMETA_OK) {
		(void)fprintf(stderr, "the writer does not start: %s\n", err.text);
		abort();
	}
	run_engine();
	if (refused)
		require(sync_store(w.engine.sync) != NULL && verify(sync_store(w.engine.sync)) == SHMETA_OK);
	else if (sync_store(w.engine.sync) != NULL)
		(void)verify(sync_store(w.engine.sync));
	bare_engine_close(&w.engine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	/* clean: the files are those of the former writer; adopted: those were tried */
	static bool clean, adopted;
	struct fuzz_input in = {data, bytes};
	struct shmeta_err err = {.text = ""};
	enum shmeta_status status;
	uint8_t how;
	size_t left;

	start();
	if (!clean)
		remake();
	how = fuzz_u8(&in);
	left = damage(&in);
	if (adopted && is_whole(left)) {
		clean = true;
		return 0;
	}
	adopted |= is_whole(left);
	write_image(&w.data, left);
	write_image(&w.page, w.page.size);
	status = shmeta__store_prove(w.engine.dir_fd, w.number, ((const struct shmeta_board *)(void *)w.board)->boot_id,
	                             &err);
	require(status == SHMETA_OK || err.text[0] != '\0');
	clean = status != SHMETA_OK && how % 2 == 0;
	if (!clean)
		adopt(status != SHMETA_OK);
	memcpy(w.engine.board, w.board, sizeof w.board);
	if (clean) {
		memcpy(w.data.now, w.data.bytes, w.data.size);
		memcpy(w.page.now, w.page.bytes, w.page.size);
	}
	return 0;
}
