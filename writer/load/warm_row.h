/* SPDX-License-Identifier: Apache-2.0
 * Fields of a row of the snapshot file: numbers in as many bytes as they need, and texts without
 * what they have in common with the one before them. */
#ifndef SHMETA_WRITER_LOAD_WARM_ROW_H
#define SHMETA_WRITER_LOAD_WARM_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"

/* Seven bits a byte, the lowest first; the last one is below 128. Returns the bytes that were used,
 * at most 10. */
size_t warm_put_number(uint8_t *at, uint64_t value);
/* The number at *at, which moves on; false: what is left is none. */
bool warm_get_number(const uint8_t **at, size_t *left, uint64_t *ret);

/* Texts of segments, each like the one of the segment before. */
enum warm_text { WARM_TEXT_ID, WARM_TEXT_BUCKET, WARM_TEXT_KEY, WARM_TEXT_COUNT };
/* Zeroed: nothing came before. */
struct warm_texts {
	struct {
		size_t bytes;
		char data[SHMETA_STRING_MAX];
	} last[WARM_TEXT_COUNT];
};
/* How many bytes s begins with that the last one begins with, too. */
size_t warm_common(const struct warm_texts *texts, enum warm_text which, struct shmeta_str s);
/* s is the last one now: the same first bytes (of what was last) and then the rest. false: that is
 * no such text. */
bool warm_keep(struct warm_texts *texts, enum warm_text which, size_t common, struct shmeta_str rest);

#endif
