/* SPDX-License-Identifier: Apache-2.0
 * Damaged files (damage.h). */
#include "tests/support/damage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/page/board.h"

enum { PAGE = SHMETA_PAGE, BEGINNING = 512, FLAGS_AT = 10, NODES_AT = 12, HEADER_BYTES = 16, TOUCHED_WORDS = 2000 };

#define PAGE_FILE_KINDS(file, text)                                                                                \
	{text " byte", file, DAMAGE_BYTE}, {text " word", file, DAMAGE_WORD}, {text " noise", file, DAMAGE_NOISE}, \
		{text " zeroed", file, DAMAGE_ZERO},                                                               \
	{                                                                                                          \
		text " cut", file, DAMAGE_CUT                                                                      \
	}

const struct damage_kind damage_kinds[DAMAGE_KINDS] = {
	{"one bit", DAMAGE_DATA, DAMAGE_BIT},
	{"16 bytes", DAMAGE_DATA, DAMAGE_BYTES},
	{"page of noise", DAMAGE_DATA, DAMAGE_NOISE},
	{"swapped page", DAMAGE_DATA, DAMAGE_SWAP},
	{"zeroed page", DAMAGE_DATA, DAMAGE_ZERO},
	{"meta page byte", DAMAGE_DATA, DAMAGE_META},
	{"tree page header", DAMAGE_DATA, DAMAGE_HEADER},
	{"tree node", DAMAGE_DATA, DAMAGE_NODE},
	{"cut at a page", DAMAGE_DATA, DAMAGE_CUT_PAGES},
	{"cut anywhere", DAMAGE_DATA, DAMAGE_CUT},
	{"touched words", DAMAGE_GENERATION, DAMAGE_TOUCHED},
	PAGE_FILE_KINDS(DAMAGE_GENERATION, "generation"),
	PAGE_FILE_KINDS(DAMAGE_BOARD, "board"),
	PAGE_FILE_KINDS(DAMAGE_STATS, "stats"),
};

/* ---- files ---- */

static int read_good(struct damage *d, enum damage_file file)
{
	int fd = open(d->file[file].path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t got;

	if (fd < 0 || fstat(fd, &st) != 0) {
		perror(d->file[file].path);
		if (fd >= 0)
			(void)close(fd);
		return -1;
	}
	d->file[file].bytes = (size_t)st.st_size;
	d->file[file].good = malloc(d->file[file].bytes);
	got = d->file[file].good != NULL ? pread(fd, d->file[file].good, d->file[file].bytes, 0) : -1;
	(void)close(fd);
	return got == st.st_size && st.st_size > PAGE / 2 ? 0 : -1;
}

int damage_init(struct damage *d, const char *instance)
{
	struct shmeta_board board;

	memset(d, 0, sizeof *d);
	(void)snprintf(d->file[DAMAGE_BOARD].path, sizeof d->file->path, "%.100s/board", instance);
	(void)snprintf(d->file[DAMAGE_STATS].path, sizeof d->file->path, "%.100s/stats", instance);
	if (read_good(d, DAMAGE_BOARD) != 0 || read_good(d, DAMAGE_STATS) != 0)
		return -1;
	memcpy(&board, d->file[DAMAGE_BOARD].good, sizeof board);
	d->generation = board.generation;
	(void)snprintf(d->file[DAMAGE_DATA].path, sizeof d->file->path, "%.100s/store.%llu/data.mdb", instance,
	               (unsigned long long)board.generation);
	(void)snprintf(d->file[DAMAGE_GENERATION].path, sizeof d->file->path, "%.100s/store.%llu/generation", instance,
	               (unsigned long long)board.generation);
	return read_good(d, DAMAGE_DATA) != 0 || read_good(d, DAMAGE_GENERATION) != 0 ? -1 : 0;
}

void damage_free(struct damage *d)
{
	for (enum damage_file file = 0; file < DAMAGE_FILES; file++)
		free(d->file[file].good);
}

static int put(const struct damage *d, enum damage_file file, const void *bytes, size_t count, size_t at)
{
	int fd = open(d->file[file].path, O_WRONLY | O_CLOEXEC);
	ssize_t put = fd >= 0 ? pwrite(fd, bytes, count, (off_t)at) : -1;

	if (fd >= 0)
		(void)close(fd);
	return put == (ssize_t)count ? 0 : -1;
}

int damage_undo(const struct damage *d, enum damage_file file)
{
	return put(d, file, d->file[file].good, d->file[file].bytes, 0);
}

/* ---- kinds ---- */

static uint64_t random_below(uint64_t *state, uint64_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % n;
}

static uint16_t word_at(const struct damage *d, size_t at)
{
	uint16_t v;

	memcpy(&v, d->file[DAMAGE_DATA].good + at, sizeof v);
	return v;
}

/* Where a branch or a leaf of LMDB's begins, also one that is in use no more. */
static size_t tree_page(const struct damage *d, uint64_t *state)
{
	size_t at;

	do
		at = PAGE * (2 + random_below(state, d->file[DAMAGE_DATA].bytes / PAGE - 2));
	while (word_at(d, at + FLAGS_AT) != 1 && word_at(d, at + FLAGS_AT) != 2);
	return at;
}

int damage_do(const struct damage *d, const struct damage_kind *kind, uint64_t seed)
{
	static const uint64_t extreme[] = {0, UINT64_MAX, INT32_MAX, UINT64_C(1) << 62, 1, INT64_MAX};
	enum damage_file file = kind->file;
	const uint8_t *good = d->file[file].good;
	size_t bytes = d->file[file].bytes, page, at, beginning = bytes < BEGINNING ? bytes : BEGINNING, room;
	uint64_t state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15), word;
	uint8_t noise[PAGE], zero[PAGE] = {0};

	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (uint8_t)(random_below(&state, 1u << 16) >> 8);
	page = random_below(&state, (bytes + PAGE - 1) / PAGE) * PAGE;
	room = bytes - page < PAGE ? bytes - page : PAGE;
	at = random_below(&state, bytes);
	switch (kind->how) {
	case DAMAGE_BIT:
		noise[0] = good[at] ^ (uint8_t)(1u << random_below(&state, 8));
		return put(d, file, noise, 1, at);
	case DAMAGE_BYTE:
		return put(d, file, noise, 1, random_below(&state, beginning));
	case DAMAGE_BYTES:
		return put(d, file, noise, 16, random_below(&state, bytes - 16));
	case DAMAGE_WORD:
		word = extreme[random_below(&state, sizeof extreme / sizeof *extreme)];
		return put(d, file, &word, sizeof word, random_below(&state, beginning / 8) * 8);
	case DAMAGE_NOISE:
		return put(d, file, noise, room, page);
	case DAMAGE_SWAP:
		return put(d, file, good + random_below(&state, bytes / PAGE) * PAGE, room, page);
	case DAMAGE_ZERO:
		return put(d, file, zero, room, page);
	case DAMAGE_META:
		return put(d, file, noise, 1, PAGE * random_below(&state, 2) + random_below(&state, 160));
	case DAMAGE_HEADER:
		return put(d, file, noise, 1, tree_page(d, &state) + random_below(&state, HEADER_BYTES));
	case DAMAGE_NODE:
		page = tree_page(d, &state);
		room = word_at(d, page + NODES_AT);
		room = room > HEADER_BYTES && room < PAGE ? room - HEADER_BYTES : 64;
		return put(d, file, noise, 2, page + HEADER_BYTES + random_below(&state, room + 1));
	case DAMAGE_TOUCHED:
		word = random_below(&state, 3) == 0 ? random_below(&state, 1000) : random_below(&state, UINT64_MAX);
		for (int i = 0; i < TOUCHED_WORDS; i++)
			if (put(d, file, &word, sizeof word, PAGE + 8 * random_below(&state, (bytes - PAGE) / 8)) != 0)
				return -1;
		return 0;
	case DAMAGE_CUT_PAGES:
		return truncate(d->file[file].path, (off_t)page);
	default:
		return truncate(d->file[file].path, (off_t)at);
	}
}
