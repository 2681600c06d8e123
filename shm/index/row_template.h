/* SPDX-License-Identifier: Apache-2.0
 * The strings of a block: templates ("data/\1/\2/\4.seg"), and what their placeholders stand for in
 * a row. */
#ifndef SHMETA_SHM_INDEX_ROW_TEMPLATE_H
#define SHMETA_SHM_INDEX_ROW_TEMPLATE_H

#include <string.h>

#include "shm/index/part.h"

/* The key as it is stored. A slice's position within its object follows the key: NUL, then decimal
 * digits. So it does, as 0, behind a key that itself holds a NUL. */
enum { SHMETA_KEY_TEXT = SHMETA_STRING_MAX + 24 };
struct shmeta_str shmeta__key_text(const struct shmeta_segment *segment, char scratch[SHMETA_KEY_TEXT]);
/* What placeholders stand for. */
struct shmeta__values {
	struct shmeta_str value[6]; /* by placeholder byte; [0] unused */
	char partition[10];
	char base[20], end[20];
};
void shmeta__values_part(struct shmeta__values *values, uint64_t key, const char *topic, size_t topic_bytes);
void shmeta__values_row(struct shmeta__values *values, uint64_t base, uint64_t end);

/* Spell it from out on, not beyond end. Returns the byte after the last; NULL: it does not fit, and
 * what was written before is of no use. Judged while it is spelled: the string's bytes may change
 * meanwhile. */
char *shmeta__spell(char *out, const char *end, struct shmeta_str string, int is_template,
                    const struct shmeta__values *values);
/* Cut what shmeta__key_text() put behind a key from its string in the pool, and give the position
 * it says. */
uint64_t shmeta__key_position(struct shmeta_str *string, int is_template, const struct shmeta__values *values);
/* 1: spelling it gives text. */
int shmeta__spells(struct shmeta_str string, int is_template, const struct shmeta__values *values,
                   struct shmeta_str text);

/* The template that spells text for this row, in out (text.bytes suffice). Returns its length;
 * *ret_template 0: text holds nothing to replace, or a byte that would be taken for a placeholder,
 * and is to be stored as it is. */
size_t shmeta__template_of(struct shmeta_str text, const struct shmeta__values *values, char *out, int *ret_template);

/* Compare short runs that are mostly equal: a call to memcmp() would cost more than the
 * comparison. */
static inline int shmeta__runs_equal(const char *a, const char *b, size_t n)
{
	uint64_t x, y;

	if (n < 8) {
		for (size_t i = 0; i < n; i++) {
			if (a[i] != b[i])
				return 0;
		}
		return 1;
	}
	for (size_t i = 0; i + 8 < n; i += 8) {
		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		if (x != y)
			return 0;
	}
	memcpy(&x, a + n - 8, 8);
	memcpy(&y, b + n - 8, 8);
	return x == y;
}

#endif
