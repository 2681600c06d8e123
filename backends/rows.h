/* SPDX-License-Identifier: Apache-2.0
 * What every engine does with a row before it hands it on: the limits of semantics.md C9, JSON
 * maps, and the sentence that a refused row gets. Pure but for the scratch buffer of maps. */
#ifndef SHMETA_BACKENDS_ROWS_H
#define SHMETA_BACKENDS_ROWS_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"
#include "base/escape.h"

enum { ROWS_SENTENCE_MAX = 480 };
#define ROWS_OFFSET_MAX ((uint64_t)INT64_MAX)

/* What is wrong with a row: empty until something is. The first fault found stays. */
struct rows_fault {
	char text[ROWS_SENTENCE_MAX];
};

static inline void rows_faultless(struct rows_fault *fault)
{
	fault->text[0] = '\0';
}
__attribute__((format(printf, 2, 3))) void rows_blame(struct rows_fault *fault, const char *fmt, ...);

enum { ROWS_QUOTE_MAX = 96 };
static inline char *rows_quote(char out[ROWS_QUOTE_MAX], struct shmeta_str text)
{
	return shmeta__quote(out, ROWS_QUOTE_MAX, text.data, text.bytes);
}

/* Integers that a source keeps as signed 64-bit ones: an offset or a size, a count or a number.
 * false: *fault says why not. Inline: several for each segment of a load. */
static inline bool rows_u64(const char *field, int64_t value, uint64_t *ret, struct rows_fault *fault)
{
	if (__builtin_expect(value < 0, 0)) {
		rows_blame(fault, "%s is %" PRId64 "; it must be 0 to %" PRId64, field, value, INT64_MAX);
		return false;
	}
	*ret = (uint64_t)value;
	return true;
}

static inline bool rows_u32(const char *field, int64_t value, uint32_t *ret, struct rows_fault *fault)
{
	if (__builtin_expect(value < 0 || value > UINT32_MAX, 0)) {
		rows_blame(fault, "%s is %" PRId64 "; it must be 0 to %" PRIu32, field, value, UINT32_MAX);
		return false;
	}
	*ret = (uint32_t)value;
	return true;
}

/* Each returns true, or false with *fault filled. A partition's, a segment's and a lease's place is
 * named by the caller. */
bool rows_check_tenant(struct shmeta_str tenant, struct rows_fault *fault);
bool rows_check_topic(const struct shmeta_topic *topic, struct rows_fault *fault);
bool rows_check_partition(const struct shmeta_partition *partition, struct rows_fault *fault);
bool rows_check_segment(const struct shmeta_segment *segment, struct rows_fault *fault);
bool rows_check_agent(const struct shmeta_agent *agent, struct rows_fault *fault);
bool rows_check_group(const struct shmeta_group *group, struct rows_fault *fault);
/* topic: the name that the row carries */
bool rows_check_offset(struct shmeta_str topic, const struct shmeta_committed_offset *offset, struct rows_fault *fault);
bool rows_check_lease(struct shmeta_str topic, const struct shmeta_lease *lease, struct rows_fault *fault);

/* The place of a quarantined row. Numbers are as the source has them: what no key can hold is
 * marked as unread. */
void rows_key_partition(struct backend_key *row, int64_t partition);
void rows_key_base(struct backend_key *row, int64_t base);
/* The row of this key goes to sink->quarantine() with a sentence: what it is, and the fault. */
void rows_quarantine(const struct backend_sink *sink, const struct backend_key *row, const struct rows_fault *fault);

/* A packed map (shmeta.h) from JSON text. What is no object of strings gives the empty map
 * (semantics.md 1.0); of a key that is there twice the last counts. false: it does not fit
 * SHMETA_MAP_MAX, or there is no memory: *fault says so. The map lives until the next call with the
 * same scratch. */
struct rows_scratch {
	char *map;
	size_t capacity;
};
bool rows_map(struct rows_scratch *scratch, struct shmeta_str json, struct shmeta_map *ret, struct rows_fault *fault);
/* The same from pairs. */
struct rows_pair {
	struct shmeta_str key, value;
};
bool rows_pack(struct rows_scratch *scratch, struct rows_pair *pairs, size_t count, struct shmeta_map *ret,
               struct rows_fault *fault);
void rows_scratch_free(struct rows_scratch *scratch);

/* A packed map as JSON text; freed with free(). NULL: no memory. */
char *rows_json(const struct shmeta_map *map);

static inline struct shmeta_str rows_str(const char *text)
{
	return (struct shmeta_str){text, __builtin_strlen(text)};
}

/* memcmp order, shorter first. */
static inline int rows_compare(struct shmeta_str a, struct shmeta_str b)
{
	size_t n = a.bytes < b.bytes ? a.bytes : b.bytes;
	int order = n > 0 ? __builtin_memcmp(a.data, b.data, n) : 0;

	return order != 0 ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

#endif
