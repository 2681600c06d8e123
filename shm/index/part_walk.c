/* SPDX-License-Identifier: Apache-2.0
 * A partition's segment index: by timestamp, in order, and the strings of a row. */
#include "shm/index/part_read.h"
#include "shm/index/row_template.h"

static int64_t max_timestamp(const struct shmeta__block *block, uint32_t row)
{
	const uint8_t *p = shmeta__block_at(block, row);

	return (int64_t)(shmeta__block_number(block, p, SHMETA_FIELD_MIN_TS) +
	                 shmeta__block_number(block, p, SHMETA_FIELD_TS_SPAN));
}

enum shmeta_status shmeta__part_find_timestamp(struct shmeta__part *part, int64_t timestamp_ms,
                                               struct shmeta_segment *ret)
{
	struct place place = {0, 0};
	struct shmeta__block block;
	struct mark mark;
	struct shmeta_part_window window;
	uint32_t count = 0;

	if (shmeta__part_window(part, &window) && timestamp_ms <= window.max_timestamp_ms)
		return SHMETA_UNKNOWN;
	while (place.top < top_count(part)) {
		const uint8_t *entry = part->dirs + PART_ENTRY_BYTES * (size_t)place.top;

		if (!place.sub && (int64_t)E64(entry, max_timestamp_ms) < timestamp_ms) {
			place.top++;
			continue;
		}
		entry = entry_at(part, place, &mark, &count);
		if (!entry)
			return SHMETA_ERR_CORRUPT;
		if ((int64_t)E64(entry, max_timestamp_ms) >= timestamp_ms) {
			uint32_t row = 0, high;

			if (!open_block(part, entry, mark, &block))
				return SHMETA_ERR_CORRUPT;
			if (E16(entry, flags) & SHMETA_ENTRY_TIME_SORTED) {
				for (high = block.rows; row < high;) {
					uint32_t middle = row + (high - row) / 2;

					if (max_timestamp(&block, middle) < timestamp_ms)
						row = middle + 1;
					else
						high = middle;
				}
			} else {
				while (row < block.rows && max_timestamp(&block, row) < timestamp_ms)
					row++;
			}
			if (row == block.rows)
				return SHMETA_ERR_CORRUPT;
			give_row(part, entry, &block, shmeta__block_at(&block, row), ret);
			return SHMETA_OK;
		}
		if (!advance(part, &place, count))
			break;
	}
	return SHMETA_ABSENT_AT_END;
}

uint64_t shmeta__part_footprint(const void *value, size_t bytes)
{
	const uint8_t *entry = (const uint8_t *)value;
	const uint64_t page = SHMETA_HEAD_PADDED + 16;
	uint64_t pages = bytes >= SHMETA_HEAD_PADDED ? (bytes + 16) / page : 0;
	uint64_t own = pages != 0 ? 0 : bytes;
	struct shmeta_part_head head;

	if (bytes < sizeof head)
		return own;
	memcpy(&head, value, sizeof head);
	if (head.entries_at + PART_ENTRY_BYTES * ((uint64_t)head.dirs + head.blocks) > bytes)
		return own + pages * page;
	entry += head.entries_at;
	for (uint32_t i = 0; i < head.dirs; i++, entry += PART_ENTRY_BYTES)
		pages += 1u + entry[offsetof(struct shmeta_part_entry, count)];
	for (uint32_t i = 0; i < head.blocks; i++, entry += PART_ENTRY_BYTES)
		pages += E32(entry, locator) != 0;
	return own + pages * page;
}

enum shmeta_status shmeta__part_narrow(struct shmeta__part *part, uint64_t min_bytes, struct shmeta_part_window *ret)
{
	struct place place = {0, 0};
	struct shmeta__block block;
	uint64_t bytes = 0;
	struct mark mark;
	uint32_t count;
	int more = 1;

	if (!top_count(part))
		return SHMETA_ABSENT;
	if (!shmeta__part_window(part, ret))
		*ret = (struct shmeta_part_window){.log_start = log_start(part), .max_timestamp_ms = INT64_MIN};
	while (more && bytes < min_bytes) {
		const uint8_t *entry = entry_at(part, place, &mark, &count);

		if (!entry || !open_block(part, entry, mark, &block))
			return SHMETA_ERR_CORRUPT;
		bytes += E32(entry, locator) ? SHMETA_BLOCK_BYTES : part->tail_bytes;
		ret->from = shmeta__block_base(&block, block.rows - 1) + 1;
		ret->segment_count += E32(entry, rows);
		ret->size_bytes += E64(entry, size_bytes);
		if (E64(entry, max_end) > ret->max_end)
			ret->max_end = E64(entry, max_end);
		if ((int64_t)E64(entry, max_timestamp_ms) > ret->max_timestamp_ms)
			ret->max_timestamp_ms = (int64_t)E64(entry, max_timestamp_ms);
		more = advance(part, &place, count);
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_seek(struct shmeta__part *part, uint64_t from, uint64_t to,
                                     struct shmeta__part_cursor *ret)
{
	struct place place = {0, 0};
	struct shmeta__block block;
	const uint8_t *entry;
	struct mark mark;
	uint32_t row = 0;

	/* If rows overlap, any row may be the first that reaches `from`; next() skips blocks and
	 * pages that do not reach it. */
	if (top_count(part) && from >= log_start(part) && !(part->flags & SHMETA_PART_OVERLAPS)) {
		entry = locate(part, from, &mark, &place);
		if (!entry || !open_block(part, entry, mark, &block))
			return SHMETA_ERR_CORRUPT;
		row = row_number(&block, floor_row(&block, entry, from));
	}
	*ret = (struct shmeta__part_cursor){.from = from, .to = to, .entry = place.top, .sub = place.sub, .row = row};
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_next(struct shmeta__part *part, struct shmeta__part_cursor *cursor,
                                     struct shmeta_segment *ret)
{
	struct place place = {(uint32_t)cursor->entry, cursor->sub};
	uint32_t row = cursor->row, count;
	struct shmeta__block block;
	struct mark mark;

	if (cursor->entry >= top_count(part))
		return SHMETA_END;
	do {
		const uint8_t *entry;

		if (!row && !place.sub &&
		    E64(part->dirs + PART_ENTRY_BYTES * (size_t)place.top, max_end) < cursor->from) {
			count = 1;
			continue;
		}
		entry = entry_at(part, place, &mark, &count);
		if (!entry)
			return SHMETA_ERR_CORRUPT;
		if (E64(entry, base) > cursor->to)
			break;
		if (E64(entry, max_end) < cursor->from)
			continue;
		if (!open_block(part, entry, mark, &block))
			return SHMETA_ERR_CORRUPT;
		while (row < block.rows && end_of(&block, shmeta__block_at(&block, row)) < cursor->from)
			row++;
		/* The block may have become shorter since the cursor was set: then the row lies
		 * beyond its rows. */
		if (row >= block.rows)
			continue;
		if (shmeta__block_base(&block, row) > cursor->to)
			break;
		give_row(part, entry, &block, shmeta__block_at(&block, row++), ret);
		if (row == block.rows) {
			advance(part, &place, count);
			row = 0;
		}
		cursor->entry = place.top;
		cursor->sub = place.sub;
		cursor->row = row;
		return SHMETA_OK;
	} while (row = 0, advance(part, &place, count));
	cursor->entry = UINT64_MAX;
	return SHMETA_END;
}

enum shmeta_status shmeta__part_strings(struct shmeta__part *part, const char *topic, size_t topic_bytes,
                                        struct shmeta_segment *segment, char *buffer, size_t bytes)
{
	uint64_t base = segment->base_offset, position = 0;
	struct shmeta_str spelled[SHMETA_STRINGS];
	char *end = buffer + bytes, *behind;
	struct shmeta__values values;
	struct shmeta__block block;
	const uint8_t *entry;
	struct place place;
	struct mark mark;
	const uint8_t *row;

	if (!top_count(part) || base < log_start(part))
		return SHMETA_ERR_INVALID_ARGUMENT;
	entry = locate(part, base, &mark, &place);
	if (!entry || !open_block(part, entry, mark, &block))
		return SHMETA_ERR_CORRUPT;
	row = floor_row(&block, entry, base);
	if (shmeta__block_number(&block, row, SHMETA_FIELD_BASE) != base)
		return SHMETA_ERR_INVALID_ARGUMENT;
	shmeta__values_part(&values, part->key, topic, topic_bytes);
	shmeta__values_row(&values, base, end_of(&block, row));
	for (unsigned f = 0; f < SHMETA_STRINGS; f++) {
		struct shmeta_str string;
		int is_template;

		if (!shmeta__block_string(block.bytes, block.readable, &block, row, SHMETA_NUMBERS + f, &string,
		                          &is_template))
			return SHMETA_ERR_CORRUPT;
		if (f == SHMETA_STRINGS - 1)
			position = shmeta__key_position(&string, is_template, &values);
		behind = buffer == end ? NULL : shmeta__spell(buffer, end - 1, string, is_template, &values);
		if (behind == NULL)
			return SHMETA_ERR_BUFFER;
		*behind = '\0';
		spelled[f] = (struct shmeta_str){buffer, (size_t)(behind - buffer)};
		buffer = behind + 1;
	}
	segment->id = spelled[0];
	segment->s3_bucket = spelled[1];
	segment->s3_key = spelled[2];
	segment->position = position;
	return SHMETA_OK;
}
