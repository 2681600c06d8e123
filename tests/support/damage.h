/* SPDX-License-Identifier: Apache-2.0
 * Damage to the files of an instance directory that no daemon runs on: what a bad memory, a torn or
 * short file, or somebody with root does. Functions return a status instead of asserting, so that
 * forked children can use them. */
#ifndef SHMETA_TESTS_SUPPORT_DAMAGE_H
#define SHMETA_TESTS_SUPPORT_DAMAGE_H

#include <stddef.h>
#include <stdint.h>

enum damage_file { DAMAGE_DATA, DAMAGE_GENERATION, DAMAGE_BOARD, DAMAGE_STATS, DAMAGE_FILES };

enum damage_how {
	DAMAGE_BIT,       /* one bit is another                                       */
	DAMAGE_BYTE,      /* one byte of what the file begins with is another         */
	DAMAGE_BYTES,     /* 16 bytes of noise                                        */
	DAMAGE_WORD,      /* an extreme number in what the file begins with           */
	DAMAGE_NOISE,     /* a page of noise                                          */
	DAMAGE_SWAP,      /* a page in place of another                               */
	DAMAGE_ZERO,      /* a page of zeros                                          */
	DAMAGE_META,      /* one byte of a meta page                                  */
	DAMAGE_HEADER,    /* one byte of the header of a page of a tree               */
	DAMAGE_NODE,      /* two bytes of the offsets of a page's nodes, or behind    */
	DAMAGE_TOUCHED,   /* one number in 2 000 words of the generation page         */
	DAMAGE_CUT_PAGES, /* the file ends earlier, at a page                         */
	DAMAGE_CUT        /* the file ends earlier                                    */
};

/* Everything of data.mdb comes first. */
struct damage_kind {
	const char *name;
	enum damage_file file;
	enum damage_how how;
};
enum {
	DAMAGE_KINDS = 26,
	DAMAGE_KINDS_OF_STATS = 5
}; /* the last ones are those of the stats page, which only a writer reads */
extern const struct damage_kind damage_kinds[DAMAGE_KINDS];

struct damage {
	struct {
		char path[160];
		uint8_t *good;
		size_t bytes;
	} file[DAMAGE_FILES];
	uint64_t generation; /* the store that the board names */
};

/* Remember the files as they are. 0, or -1 (printed). Free it whatever is returned. */
int damage_init(struct damage *d, const char *instance);
void damage_free(struct damage *d);
/* Do it to the files; the seed alone decides where. 0 or -1. */
int damage_do(const struct damage *d, const struct damage_kind *kind, uint64_t seed);
/* Put that file back in place, for those who have it mapped as well. 0 or -1. */
int damage_undo(const struct damage *d, enum damage_file file);

#endif
