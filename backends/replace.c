/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/replace.h"

#include "backends/op_errors.h"
#include "backends/rows.h"
#include "base/str.h"

uint64_t replace_end(const struct shmeta_replace *replace)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < replace->old_count; i++)
		end = replace->old_segments[i].end_offset > end ? replace->old_segments[i].end_offset : end;
	return end;
}

/* Are they the same record? timestamps: the source keeps them. */
static bool same_record(const struct shmeta_segment *a, const struct shmeta_segment *b, bool timestamps)
{
	return a->base_offset == b->base_offset && a->end_offset == b->end_offset && a->size_bytes == b->size_bytes &&
	       a->created_at_ms == b->created_at_ms && a->record_count == b->record_count &&
	       a->position == b->position &&
	       (!timestamps ||
	        (a->min_timestamp_ms == b->min_timestamp_ms && a->max_timestamp_ms == b->max_timestamp_ms)) &&
	       str_equal(a->id, b->id) && str_equal(a->s3_bucket, b->s3_bucket) && str_equal(a->s3_key, b->s3_key);
}

/* The one of that base in a list that ascends by it; NULL: there is none. */
static const struct shmeta_segment *at_base(const struct shmeta_segment *list, size_t count, uint64_t base)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list[middle].base_offset < base)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && list[low].base_offset == base ? &list[low] : NULL;
}

static bool has(const struct shmeta_segment *list, size_t count, const struct shmeta_segment *s, bool timestamps)
{
	const struct shmeta_segment *other = at_base(list, count, s->base_offset);

	return other != NULL && same_record(other, s, timestamps);
}

bool replace_keeps(const struct shmeta_replace *replace, const struct shmeta_segment *s, bool timestamps)
{
	return has(replace->old_segments, replace->old_count, s, timestamps) &&
	       has(replace->new_segments, replace->new_count, s, timestamps);
}

uint64_t replace_leaving(const struct shmeta_replace *replace, bool timestamps)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < replace->old_count; i++)
		count += !replace_keeps(replace, &replace->old_segments[i], timestamps);
	return count;
}

static bool is_done(const struct shmeta_replace *replace, const struct shmeta_segment *rows, size_t count,
                    bool timestamps)
{
	for (uint32_t i = 0; i < replace->new_count; i++)
		if (!has(rows, count, &replace->new_segments[i], timestamps))
			return false;
	for (uint32_t i = 0; i < replace->old_count; i++)
		if (has(rows, count, &replace->old_segments[i], timestamps) &&
		    !replace_keeps(replace, &replace->old_segments[i], timestamps))
			return false;
	return true;
}

enum replace_verdict replace_judge(const struct shmeta_op *op, const struct shmeta_segment *rows, size_t count,
                                   bool reaching, bool timestamps, struct shmeta_result *result)
{
	const struct shmeta_replace *r = &op->u.replace;
	uint64_t last = r->old_segments[r->old_count - 1].base_offset;

	if (is_done(r, rows, count, timestamps))
		return REPLACE_DONE_BEFORE;
	for (uint32_t i = 0; i < r->old_count; i++) {
		const struct shmeta_segment *s = &r->old_segments[i], *there = at_base(rows, count, s->base_offset);

		if (there == NULL || !same_record(s, there, timestamps)) {
			replace_refuse(there == NULL ? REPLACE_MISSING : REPLACE_OTHER, s->base_offset, result);
			return REPLACE_REFUSED;
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (at_base(r->old_segments, r->old_count, rows[i].base_offset) != NULL)
			continue;
		if (rows[i].base_offset <= last) {
			replace_refuse(REPLACE_BETWEEN, rows[i].base_offset, result);
			return REPLACE_REFUSED;
		}
		if (r->new_count > 0 && rows[i].base_offset <= r->new_segments[r->new_count - 1].end_offset) {
			replace_refuse(REPLACE_IN_THE_WAY, rows[i].base_offset, result);
			return REPLACE_REFUSED;
		}
	}
	if (reaching && r->new_count > 0) {
		replace_refuse(REPLACE_IN_THE_WAY, r->new_segments[0].base_offset, result);
		return REPLACE_REFUSED;
	}
	return REPLACE_GOES;
}

bool replace_refuse_new(const struct shmeta_replace *replace, const struct shmeta_segment *s,
                        const uint64_t *object_bytes, struct shmeta_result *result)
{
	char key[ROWS_QUOTE_MAX];

	if (object_bytes != NULL)
		return refuse_slice(object_bytes, s, result);
	if (s->position != 0) {
		refuse(result, SHMETA_ERR_INVALID_ARGUMENT,
		       "the new segment at offset %llu has a position, and no object of that key was committed",
		       (unsigned long long)s->base_offset);
		return true;
	}
	for (uint32_t i = 0; i < replace->old_count; i++)
		if (str_equal(replace->old_segments[i].s3_bucket, s->s3_bucket) &&
		    str_equal(replace->old_segments[i].s3_key, s->s3_key)) {
			refuse(result, SHMETA_ERR_INVALID_ARGUMENT,
			       "the new segment at offset %llu has an old one's key %s",
			       (unsigned long long)s->base_offset, rows_quote(key, s->s3_key));
			return true;
		}
	return false;
}

bool replace_id_is_free(const struct shmeta_replace *replace, uint32_t at, bool taken, bool timestamps)
{
	const struct shmeta_str id = replace->new_segments[at].id;

	for (uint32_t i = 0; i < at; i++)
		if (str_equal(replace->new_segments[i].id, id))
			return false;
	for (uint32_t i = 0; taken && i < replace->old_count; i++)
		taken = !str_equal(replace->old_segments[i].id, id) ||
		        replace_keeps(replace, &replace->old_segments[i], timestamps);
	return !taken;
}

void replace_refuse(enum replace_wrong wrong, uint64_t base, struct shmeta_result *result)
{
	const char *about = wrong == REPLACE_MISSING ? "is an old one that is not there"
	                    : wrong == REPLACE_OTHER ? "is not as the old one was given"
	                    : wrong == REPLACE_BETWEEN
	                            ? "lies between the old ones and is none of them"
	                            : "is overlapped by one that stays, or stays itself and overlaps a new one";

	refuse(result, SHMETA_ERR_CONFLICT, "the segment at offset %llu %s", (unsigned long long)base, about);
	refuse_about(result, base, 0, INT64_MAX);
}

void replace_refuse_epoch(uint64_t given, uint64_t highest, struct shmeta_result *result)
{
	refuse(result, SHMETA_ERR_FENCED, "compaction epoch %llu: the partition's highest is %llu",
	       (unsigned long long)given, (unsigned long long)highest);
	refuse_about(result, given, highest, INT64_MAX);
}

void replace_refuse_id(struct shmeta_str id, struct shmeta_result *result)
{
	char name[ROWS_QUOTE_MAX];

	refuse(result, SHMETA_ERR_CONFLICT, "the id %s is another segment's", rows_quote(name, id));
}
