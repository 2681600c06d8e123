/* SPDX-License-Identifier: Apache-2.0
 * Building blocks: strings are interned in the pool, rows kept as numbers, widths and biases known
 * before the first byte is encoded. */
#include "shm/index/builder.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { HEAD_BYTES = sizeof(struct shmeta_block_head) };

static const uint16_t NONE = 0xffff;

void shmeta__builder_reset(struct shmeta__builder *b)
{
	b->count = b->stride = b->pool_bytes = b->string_count = 0;
	memset(b->chains, 0, sizeof b->chains);
	for (int i = 0; i < SHMETA_STRINGS; i++)
		b->recent[i].literal = b->recent[i].pattern = NONE;
}

void shmeta__builder_free(struct shmeta__builder *b)
{
	free(b->rows);
	b->rows = NULL;
	b->capacity = 0;
}

static size_t encoded_bytes(uint32_t rows, uint32_t stride, uint32_t pool_bytes)
{
	return HEAD_BYTES + (size_t)rows * stride + (pool_bytes > SHMETA_BLOCK_SLACK ? pool_bytes : SHMETA_BLOCK_SLACK);
}

size_t shmeta__builder_bytes(const struct shmeta__builder *b)
{
	return b->count ? encoded_bytes(b->count, b->stride, b->pool_bytes) : 0;
}

static unsigned chain_of(const char *text, size_t bytes, int is_template)
{
	return (unsigned)(XXH3_64bits(text, bytes) + (unsigned)is_template) % SHMETA_POOL_CHAINS;
}

static struct shmeta_str pool_string(const struct shmeta__builder *b, uint32_t at, int *ret_template)
{
	uint32_t head = shmeta__ld16(b->pool + at);

	*ret_template = (head & SHMETA_STRING_TEMPLATE) != 0;
	return (struct shmeta_str){(const char *)b->pool + at + 2, head & (SHMETA_STRING_TEMPLATE - 1)};
}

static int is_at(const struct shmeta__builder *b, uint16_t at, struct shmeta_str string, int is_template)
{
	return shmeta__ld16(b->pool + at) == (string.bytes | (is_template ? SHMETA_STRING_TEMPLATE : 0)) &&
	       shmeta__runs_equal((const char *)b->pool + at + 2, string.data, string.bytes);
}

/* Find the string in the pool, or add it: its place; NONE: no room. */
static uint16_t intern(struct shmeta__builder *b, struct shmeta_str string, int is_template)
{
	unsigned chain;
	uint16_t at, head = (uint16_t)(string.bytes | (is_template ? SHMETA_STRING_TEMPLATE : 0));

	if (!string.bytes)
		string.data = "";
	chain = chain_of(string.data, string.bytes, is_template);
	for (uint16_t i = b->chains[chain]; i; i = b->strings[i - 1].next) {
		at = b->strings[i - 1].at;
		if (is_at(b, at, string, is_template))
			return at;
	}
	if (b->pool_bytes + 2 + string.bytes > sizeof b->pool || b->string_count == SHMETA_POOL_STRINGS)
		return NONE;
	at = (uint16_t)b->pool_bytes;
	memcpy(b->pool + at, &head, 2);
	memcpy(b->pool + at + 2, string.data, string.bytes);
	b->pool_bytes += 2 + (uint32_t)string.bytes;
	b->strings[b->string_count].at = at;
	b->strings[b->string_count].next = b->chains[chain];
	b->chains[chain] = (uint16_t)++b->string_count;
	return at;
}

/* Remove the newest strings, so that the pool is as it was. */
static void unwind(struct shmeta__builder *b, uint32_t string_count, uint32_t pool_bytes)
{
	while (b->string_count > string_count) {
		uint16_t i = (uint16_t)b->string_count--;

		for (unsigned chain = 0; chain < SHMETA_POOL_CHAINS; chain++) {
			if (b->chains[chain] == i)
				b->chains[chain] = b->strings[i - 1].next;
		}
	}
	b->pool_bytes = pool_bytes;
	for (int i = 0; i < SHMETA_STRINGS; i++) {
		if (b->recent[i].literal >= pool_bytes)
			b->recent[i].literal = NONE;
		if (b->recent[i].pattern >= pool_bytes)
			b->recent[i].pattern = NONE;
	}
}

static unsigned width_of(uint64_t v)
{
	return v ? (64 - (unsigned)__builtin_clzll(v) + 7) / 8 : 0;
}

static enum shmeta__build push(struct shmeta__builder *b, const uint64_t v[SHMETA_FIELDS])
{
	uint64_t low[SHMETA_FIELDS], high[SHMETA_FIELDS];
	uint8_t width[SHMETA_FIELDS];
	uint32_t stride = b->stride;

	if (!b->count) {
		memcpy(low, v, sizeof low);
		memcpy(high, v, sizeof high);
		memset(width, 0, sizeof width);
		stride = 0;
	} else {
		memcpy(low, b->low, sizeof low);
		memcpy(high, b->high, sizeof high);
		memcpy(width, b->width, sizeof width);
		for (int f = 0; f < SHMETA_FIELDS; f++) {
			unsigned w;

			if (v[f] - low[f] <= high[f] - low[f])
				continue;
			if ((int64_t)v[f] < (int64_t)low[f])
				low[f] = v[f];
			else
				high[f] = v[f];
			w = width_of(high[f] - low[f]);
			stride += w - width[f];
			width[f] = (uint8_t)w;
		}
	}
	if (encoded_bytes(b->count + 1, stride, b->pool_bytes) > SHMETA_BLOCK_BYTES)
		return SHMETA_BUILD_NO_ROOM;
	if (b->count == b->capacity) {
		uint32_t capacity = b->capacity ? 2 * b->capacity : 64;
		void *rows = realloc(b->rows, capacity * sizeof *b->rows);

		if (!rows)
			return SHMETA_BUILD_NO_MEMORY;
		b->rows = rows;
		b->capacity = capacity;
	}
	memcpy(b->low, low, sizeof low);
	memcpy(b->high, high, sizeof high);
	memcpy(b->width, width, sizeof width);
	b->stride = stride;
	memcpy(b->rows[b->count++], v, sizeof b->rows[0]);
	return SHMETA_BUILD_ADDED;
}

static uint16_t place(struct shmeta__builder *b, int kind, struct shmeta_str text, const struct shmeta__values *values)
{
	char derived[SHMETA_STRING_MAX];
	int is_template;
	uint16_t at = b->recent[kind].pattern;

	if (at != NONE && shmeta__spells(pool_string(b, at, &is_template), 1, values, text))
		return at;
	at = b->recent[kind].literal;
	if (at != NONE && shmeta__spells(pool_string(b, at, &is_template), 0, values, text))
		return at;
	size_t n = shmeta__template_of(text, values, derived, &is_template);

	at = intern(b, is_template ? (struct shmeta_str){derived, n} : text, is_template);
	if (is_template)
		b->recent[kind].pattern = at;
	else
		b->recent[kind].literal = at;
	return at;
}

static void numbers_of(const struct shmeta_segment *s, uint64_t *v)
{
	uint64_t span = s->end_offset - s->base_offset;

	v[SHMETA_FIELD_BASE] = s->base_offset;
	v[SHMETA_FIELD_SPAN] = span;
	v[SHMETA_FIELD_COUNT] = s->record_count - (span + 1);
	v[SHMETA_FIELD_SIZE] = s->size_bytes;
	v[SHMETA_FIELD_CREATED] = (uint64_t)s->created_at_ms;
	v[SHMETA_FIELD_MIN_TS] = (uint64_t)s->min_timestamp_ms;
	v[SHMETA_FIELD_TS_SPAN] = (uint64_t)s->max_timestamp_ms - (uint64_t)s->min_timestamp_ms;
}

enum shmeta__build shmeta__builder_add(struct shmeta__builder *b, const struct shmeta_segment *s,
                                       struct shmeta__values *values)
{
	uint64_t v[SHMETA_FIELDS];
	uint32_t string_count = b->string_count, pool_bytes = b->pool_bytes;
	enum shmeta__build built = SHMETA_BUILD_NO_ROOM;
	uint16_t id, bucket, key;
	char scratch[SHMETA_KEY_TEXT];

	shmeta__values_row(values, s->base_offset, s->end_offset);
	id = place(b, 0, s->id, values);
	bucket = place(b, 1, s->s3_bucket, values);
	key = place(b, 2, shmeta__key_text(s, scratch), values);
	if (id != NONE && bucket != NONE && key != NONE) {
		numbers_of(s, v);
		v[SHMETA_FIELD_ID] = id;
		v[SHMETA_FIELD_BUCKET] = bucket;
		v[SHMETA_FIELD_KEY] = key;
		built = push(b, v);
	}
	if (built != SHMETA_BUILD_ADDED)
		unwind(b, string_count, pool_bytes);
	return built;
}

enum shmeta__build shmeta__builder_copy(struct shmeta__builder *b, const uint8_t *bytes, size_t readable,
                                        const struct shmeta__block *block, uint32_t row, int *ret_corrupt)
{
	const uint8_t *p = shmeta__block_at(block, row);
	uint32_t string_count = b->string_count, pool_bytes = b->pool_bytes;
	enum shmeta__build built = SHMETA_BUILD_ADDED;
	uint64_t v[SHMETA_FIELDS];

	*ret_corrupt = 0;
	for (unsigned f = 0; f < SHMETA_NUMBERS; f++)
		v[f] = shmeta__block_number(block, p, f);
	for (unsigned f = SHMETA_NUMBERS; f < SHMETA_FIELDS; f++) {
		struct shmeta_str string;
		uint16_t *recent;
		int is_template;

		if (!shmeta__block_string(bytes, readable, block, p, f, &string, &is_template)) {
			*ret_corrupt = 1;
			built = SHMETA_BUILD_NO_MEMORY;
			break;
		}
		recent = is_template ? &b->recent[f - SHMETA_NUMBERS].pattern : &b->recent[f - SHMETA_NUMBERS].literal;
		if (*recent == NONE || !is_at(b, *recent, string, is_template))
			*recent = intern(b, string, is_template);
		v[f] = *recent;
		if (v[f] == NONE) {
			built = SHMETA_BUILD_NO_ROOM;
			break;
		}
	}
	if (built == SHMETA_BUILD_ADDED)
		built = push(b, v);
	if (built != SHMETA_BUILD_ADDED)
		unwind(b, string_count, pool_bytes);
	return built;
}

void shmeta__builder_encode(const struct shmeta__builder *b, uint64_t key, uint64_t id, uint8_t *out,
                            struct shmeta_part_entry *ret)
{
	struct shmeta_block_head head = {.key = key, .id = id};
	struct shmeta_part_entry entry = {.base = b->rows[0][SHMETA_FIELD_BASE], .rows = b->count};
	struct {
		unsigned field, width;
	} used[SHMETA_FIELDS] = {{0, 0}};
	unsigned used_count = 0;
	uint8_t *p = out + HEAD_BYTES, *pool_at = p + (size_t)b->count * b->stride;
	int64_t previous_max = INT64_MIN;
	int sorted = 1;

	head.rows = (uint16_t)b->count;
	head.stride = (uint16_t)b->stride;
	head.pool_at = (uint16_t)(pool_at - out);
	head.pool_bytes = (uint16_t)(b->pool_bytes > SHMETA_BLOCK_SLACK ? b->pool_bytes : (uint32_t)SHMETA_BLOCK_SLACK);
	for (unsigned f = 0; f < SHMETA_FIELDS; f++) {
		if (f < SHMETA_NUMBERS) {
			head.bias[f] = b->low[f];
			head.width[f] = b->width[f];
		} else {
			head.string_bias[f - SHMETA_NUMBERS] = (uint16_t)b->low[f];
			head.string_width[f - SHMETA_NUMBERS] = b->width[f];
			head.width[SHMETA_NUMBERS] = (uint8_t)(head.width[SHMETA_NUMBERS] + b->width[f]);
		}
		if (b->width[f]) {
			used[used_count].field = f;
			used[used_count++].width = b->width[f];
		}
	}
	memcpy(out, &head, sizeof head);
	entry.max_timestamp_ms = INT64_MIN;
	for (uint32_t i = 0; i < b->count; i++) {
		const uint64_t *v = b->rows[i];
		uint64_t end = v[SHMETA_FIELD_BASE] + v[SHMETA_FIELD_SPAN];
		int64_t max = (int64_t)(v[SHMETA_FIELD_MIN_TS] + v[SHMETA_FIELD_TS_SPAN]);

		/* Eight bytes at a time: what is too much is overwritten by the next field, row or
		 * the pool. */
		for (unsigned u = 0; u < used_count; u++) {
			uint64_t delta = v[used[u].field] - b->low[used[u].field];

			memcpy(p, &delta, 8);
			p += used[u].width;
		}
		entry.size_bytes += v[SHMETA_FIELD_SIZE];
		if (i && v[SHMETA_FIELD_BASE] <= entry.max_end)
			entry.flags |= SHMETA_ENTRY_OVERLAPS;
		if (end > entry.max_end)
			entry.max_end = end;
		sorted &= max >= previous_max;
		previous_max = max;
		if (max > entry.max_timestamp_ms)
			entry.max_timestamp_ms = max;
	}
	memset(pool_at, 0, SHMETA_BLOCK_SLACK);
	if (b->pool_bytes)
		memcpy(pool_at, b->pool, b->pool_bytes);
	if (sorted)
		entry.flags |= SHMETA_ENTRY_TIME_SORTED;
	entry.id = id;
	entry.stride = (uint8_t)b->stride;
	entry.base_width = b->width[SHMETA_FIELD_BASE];
	entry.slope = shmeta__slope(b->count - 1, b->rows[b->count - 1][SHMETA_FIELD_BASE] - entry.base);
	*ret = entry;
}

int shmeta__block_append(uint8_t *bytes, size_t *size, struct shmeta_part_entry *entry, const struct shmeta_segment *s,
                         struct shmeta__values *values)
{
	char scratch[SHMETA_KEY_TEXT];
	struct shmeta_str texts[SHMETA_STRINGS] = {s->id, s->s3_bucket, shmeta__key_text(s, scratch)};
	uint64_t v[SHMETA_FIELDS], bias[SHMETA_FIELDS];
	uint8_t width[SHMETA_FIELDS], row[8 * SHMETA_FIELDS + 8], *p = row;
	struct shmeta_block_head head;
	struct shmeta__block block;
	const uint8_t *last;

	memcpy(&head, bytes, sizeof head);
	if (*size + head.stride > SHMETA_BLOCK_BYTES || !head.stride ||
	    !shmeta__block_view(bytes, *size, entry->rows, entry->stride, &block) ||
	    head.pool_at != HEAD_BYTES + (size_t)block.rows * block.stride)
		return 0;
	last = shmeta__block_at(&block, block.rows - 1);
	numbers_of(s, v);
	shmeta__values_row(values, s->base_offset, s->end_offset);
	for (unsigned f = 0; f < SHMETA_STRINGS; f++) {
		struct shmeta_str string;
		int is_template;

		/* Only the last row's strings are tried. */
		if (!shmeta__block_string(bytes, *size, &block, last, SHMETA_NUMBERS + f, &string, &is_template) ||
		    !shmeta__spells(string, is_template, values, texts[f]))
			return 0;
		v[SHMETA_NUMBERS + f] = (uint64_t)(string.data - 2 - (const char *)bytes) - head.pool_at;
		bias[SHMETA_NUMBERS + f] = head.string_bias[f];
		width[SHMETA_NUMBERS + f] = head.string_width[f];
	}
	memcpy(bias, head.bias, sizeof head.bias);
	memcpy(width, head.width, SHMETA_NUMBERS);
	for (unsigned f = 0; f < SHMETA_FIELDS; f++) {
		uint64_t delta = v[f] - bias[f];

		if (delta > shmeta__masks[width[f] & 15])
			return 0;
		memcpy(p, &delta, 8);
		p += width[f];
	}
	if (s->max_timestamp_ms < (int64_t)(shmeta__block_number(&block, last, SHMETA_FIELD_MIN_TS) +
	                                    shmeta__block_number(&block, last, SHMETA_FIELD_TS_SPAN)))
		entry->flags &= (uint16_t)~SHMETA_ENTRY_TIME_SORTED;
	if (s->base_offset <= entry->max_end)
		entry->flags |= SHMETA_ENTRY_OVERLAPS;
	if (s->end_offset > entry->max_end)
		entry->max_end = s->end_offset;
	if (s->max_timestamp_ms > entry->max_timestamp_ms)
		entry->max_timestamp_ms = s->max_timestamp_ms;
	entry->size_bytes += s->size_bytes;
	entry->rows++;
	entry->slope = shmeta__slope(entry->rows - 1, s->base_offset - entry->base);

	memmove(bytes + head.pool_at + head.stride, bytes + head.pool_at, head.pool_bytes);
	memcpy(bytes + head.pool_at, row, head.stride);
	head.rows++;
	head.pool_at = (uint16_t)(head.pool_at + head.stride);
	memcpy(bytes, &head, sizeof head);
	*size += head.stride;
	return 1;
}
