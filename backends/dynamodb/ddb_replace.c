/* SPDX-License-Identifier: Apache-2.0
 * Segments in place of others (ddb_replace.h). */
#include "backends/dynamodb/ddb_replace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_epochs.h"
#include "backends/dynamodb/ddb_place.h"
#include "backends/dynamodb/ddb_segment.h"
#include "backends/op_errors.h"
#include "backends/replace.h"

enum { TRIES = 12 };

/* What a query found, and the header before it. */
struct found {
	struct ddb_ledger ledger; /* the header's */
	const json_t *header;     /* NULL: none, or of a topic that is gone */
	/* The segments between the old ones' ends, and those of lower bases that may reach the new
	 * ones. */
	struct ddb_query q[2];
	struct shmeta_segment *rows;
	uint64_t log_start;
	bool reaching;
	bool moved; /* the header was another one when it was judged */
};

static void found_free(struct found *f)
{
	ddb_queries_free(f->q, 2);
	free(f->rows);
	ddb_ledger_free(&f->ledger);
	memset(f, 0, sizeof *f);
}

static enum shmeta_status find_header(struct ddb_writing *w, const struct backend_op *op, struct found *f,
                                      struct backend_error *err)
{
	struct ddb_key key;
	enum shmeta_status status;

	ddb_key_header(&key, op->tenant, op->op->name, op->op->partition_id);
	status = ddb_ledger_look(w->s, &f->ledger, &key, &f->header, err);
	if (!ddb_is_alive(f->header))
		f->header = NULL;
	return status;
}

/* Is the header still the one that was found? */
static bool is_found(struct found *f, const struct ddb_entry *header)
{
	const json_t *now = header->item != NULL && ddb_is_alive(header->item) ? header->item : NULL;

	f->moved = strcmp(ddb_text(now, "v"), ddb_text(f->header, "v")) != 0;
	return !f->moved;
}

/* Judge until the header is the one that was found. */
static enum shmeta_status find_and_judge(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                         enum shmeta_status (*find)(struct ddb_writing *, const struct backend_op *,
                                                                    struct found *, struct backend_error *),
                                         void (*judge)(struct ddb_writing *, struct ddb_step *),
                                         struct backend_error *err)
{
	struct found f = {.moved = true};
	enum shmeta_status status = SHMETA_OK;

	for (unsigned int tries = 1; status == SHMETA_OK && f.moved; tries++) {
		struct ddb_step step = {.judge = judge, .op = op, .arg = &f, .result = r};

		found_free(&f);
		if (tries > 1)
			ddb_pause(tries, w->s->deadline_ns);
		status = find_header(w, op, &f, err);
		if (status == SHMETA_OK)
			status = find(w, op, &f, err);
		if (status == SHMETA_OK)
			status = ddb_steps(w, &step, 1, err);
		if (status == SHMETA_OK && f.moved && (tries == TRIES || ddb_now_ns() >= w->s->deadline_ns)) {
			refuse(r, SHMETA_ERR_BUSY, "others change the partition again and again");
			break;
		}
	}
	found_free(&f);
	return status;
}

/* ---- REPLACE_SEGMENTS ---- */

static enum shmeta_status find_segments(struct ddb_writing *w, const struct backend_op *op, struct found *f,
                                        struct backend_error *err)
{
	const struct shmeta_replace *p = &op->op->u.replace;
	const uint64_t first = p->old_segments[0].base_offset, end = replace_end(p);
	const uint64_t reach = p->new_count > 0 ? p->new_segments[0].base_offset : UINT64_MAX;
	const char *inc = ddb_text(f->header, "inc");
	uint32_t partition = op->op->partition_id;
	uint64_t low = 0;
	struct ddb_key k[4];
	enum shmeta_status status;
	json_t *item;
	size_t i;

	if (f->header == NULL)
		return SHMETA_OK;
	if (ddb_has(f->header, "lg") && reach > (uint64_t)ddb_number(f->header, "lg"))
		low = reach - (uint64_t)ddb_number(f->header, "lg");
	ddb_key_segment(&k[0], op->tenant, inc, partition, first);
	ddb_key_segment(&k[1], op->tenant, inc, partition, end);
	ddb_key_segment(&k[2], op->tenant, inc, partition, low);
	ddb_key_segment(&k[3], op->tenant, inc, partition, first > 0 ? first - 1 : 0);
	for (i = 0; i < 2; i++)
		f->q[i] =
			(struct ddb_query){.table = DDB_SEG, .pk = k[0].pk, .from = k[2 * i].sk, .to = k[2 * i + 1].sk};
	status = ddb_queries(w->s, f->q, p->new_count > 0 && low < first ? 2 : 1, "reading segments", err);
	if (status != SHMETA_OK)
		return status;
	json_array_foreach(f->q[1].items, i, item) f->reaching |= (uint64_t)ddb_number(item, "e") >= reach;
	f->rows = calloc(json_array_size(f->q[0].items) + 1, sizeof *f->rows);
	if (f->rows == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	json_array_foreach(f->q[0].items, i, item)
	{
		ddb_segment_of(item, &f->rows[i]);
		ddb_key_segment(&k[0], op->tenant, inc, partition, f->rows[i].base_offset);
		ddb_ledger_prime(&w->ledger, &k[0], item);
	}
	return SHMETA_OK;
}

static struct ddb_entry *segment_at(struct ddb_writing *w, const struct backend_op *op, const json_t *header,
                                    uint64_t base)
{
	struct ddb_key key;

	ddb_key_segment(&key, op->tenant, ddb_text(header, "inc"), op->op->partition_id, base);
	return ddb_ledger_get(&w->ledger, &key);
}

static struct ddb_entry *object_of(struct ddb_writing *w, const struct backend_op *op, const struct shmeta_segment *s)
{
	struct ddb_key key;

	ddb_key_object(&key, op->tenant, s->s3_bucket, s->s3_key);
	return ddb_ledger_get(&w->ledger, &key);
}

/* false: refused, or something has to be read. */
static bool may_come(struct ddb_writing *w, const struct backend_op *op, uint32_t at, struct shmeta_result *r)
{
	const struct shmeta_replace *p = &op->op->u.replace;
	const struct shmeta_segment *s = &p->new_segments[at];
	struct ddb_entry *object = object_of(w, op, s), *id;
	bool taken = ddb_segment_id_is_taken(w, op, s, &id);
	uint64_t size;

	if (object == NULL || w->ledger.missing)
		return false;
	size = (uint64_t)ddb_number(object->item, "z");
	if (replace_refuse_new(p, s, object->item != NULL ? &size : NULL, r))
		return false;
	if (replace_id_is_free(p, at, taken, true))
		return true;
	replace_refuse_id(s->id, r);
	return false;
}

static void put_new(struct ddb_writing *w, const struct backend_op *op, const struct shmeta_segment *s, json_t *header)
{
	struct ddb_entry *e = segment_at(w, op, header, s->base_offset), *object = object_of(w, op, s), *id;
	json_t *item;

	(void)ddb_segment_id_is_taken(w, op, s, &id);
	if (e == NULL || object == NULL || w->ledger.missing)
		return;
	item = ddb_segment_item(&e->key, s);
	if (object->item != NULL) {
		ddb_object_add(w, object);
		ddb_put_n(item, "ob", 1);
	}
	ddb_write(w, e, item);
	if (id != NULL)
		ddb_write(w, id, ddb_item_of(&id->key));
	ddb_header_add(header, s);
}

static void replace_all(struct ddb_writing *w, const struct backend_op *op, json_t *header, struct shmeta_result *r)
{
	const struct shmeta_replace *p = &op->op->u.replace;

	for (uint32_t i = 0; i < p->old_count; i++) {
		struct ddb_entry *e = segment_at(w, op, header, p->old_segments[i].base_offset);

		if (replace_keeps(p, &p->old_segments[i], true) || e == NULL || e->item == NULL)
			continue;
		(void)ddb_segment_remove(w, op->tenant, op->op->name, op->op->partition_id, e);
		ddb_header_take(header);
	}
	for (uint32_t i = 0; i < p->new_count; i++)
		if (!replace_keeps(p, &p->new_segments[i], true))
			put_new(w, op, &p->new_segments[i], header);
	r->count = replace_leaving(p, true);
	ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_SEGMENT,
	                                  .tenant = op->tenant,
	                                  .topic = op->op->name,
	                                  .partition_id = op->op->partition_id,
	                                  .from = p->old_segments[0].base_offset,
	                                  .to = replace_end(p)});
}

static bool passes_epoch(const struct shmeta_replace *p, const json_t *header, struct shmeta_result *r)
{
	uint64_t highest = (uint64_t)ddb_number(header, "ce");

	if (p->compaction_epoch == 0 || p->compaction_epoch >= highest)
		return true;
	replace_refuse_epoch(p->compaction_epoch, highest, r);
	return false;
}

static void judge_replace(struct ddb_writing *w, struct ddb_step *step)
{
	const struct backend_op *op = step->op;
	const struct shmeta_replace *p = &op->op->u.replace;
	struct found *f = step->arg;
	enum replace_verdict verdict = REPLACE_REFUSED;
	struct ddb_place place;

	f->moved = false;
	if (!ddb_place_of(w, op, &place, step->result))
		return;
	if (is_found(f, place.header) && ddb_passes_fence(w, op->op, place.item, step->result) &&
	    passes_epoch(p, place.item, step->result))
		verdict =
			replace_judge(op->op, f->rows, json_array_size(f->q[0].items), f->reaching, true, step->result);
	for (uint32_t i = 0; verdict == REPLACE_GOES && i < p->new_count; i++)
		if (!replace_keeps(p, &p->new_segments[i], true) && !may_come(w, op, i, step->result))
			verdict = REPLACE_REFUSED;
	if (verdict == REPLACE_GOES)
		replace_all(w, op, place.item, step->result);
	if (verdict != REPLACE_REFUSED && p->compaction_epoch > 0)
		ddb_put_n(place.item, "ce", (int64_t)p->compaction_epoch);
	if (verdict == REPLACE_GOES || (verdict == REPLACE_DONE_BEFORE && p->compaction_epoch > 0))
		ddb_place_write(w, &place);
	json_decref(place.item);
}

enum shmeta_status ddb_replace_segments(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                        struct backend_error *err)
{
	enum shmeta_status status = find_and_judge(w, op, r, find_segments, judge_replace, err);

	if (r->status != SHMETA_OK)
		r->count = 0; /* what it would have been */
	return status;
}

/* ---- leader epochs that ended ---- */

static enum shmeta_status find_log_start(struct ddb_writing *w, const struct backend_op *op, struct found *f,
                                         struct backend_error *err)
{
	struct shmeta_segment first;
	struct ddb_key key;
	enum shmeta_status status;

	if (f->header == NULL || !ddb_has(f->header, "lo"))
		return SHMETA_OK;
	ddb_key_segment(&key, op->tenant, ddb_text(f->header, "inc"), op->op->partition_id, 0);
	f->q[0] = (struct ddb_query){.table = DDB_SEG, .pk = key.pk, .oldest = 1};
	status = ddb_queries(w->s, f->q, 1, "reading the first segment", err);
	f->log_start = (uint64_t)ddb_number(f->header, "hw");
	if (json_array_size(f->q[0].items) > 0) {
		ddb_segment_of(json_array_get(f->q[0].items, 0), &first);
		f->log_start = first.base_offset;
	}
	return status;
}

static void judge_trim(struct ddb_writing *w, struct ddb_step *step)
{
	const struct backend_op *op = step->op;
	struct found *f = step->arg;
	struct ddb_entry *header;
	struct ddb_key key;
	json_t *item;

	f->moved = false;
	ddb_key_header(&key, op->tenant, op->op->name, op->op->partition_id);
	header = ddb_ledger_get(&w->ledger, &key);
	if (header == NULL || !is_found(f, header) || f->header == NULL || !ddb_has(f->header, "lo"))
		return;
	item = json_copy(header->item);
	if (ddb_epochs_trim(w, op, item, f->log_start))
		ddb_write(w, header, json_incref(item));
	json_decref(item);
}

void ddb_drop_ended_epochs(struct ddb_writing *w, const struct backend_op *op)
{
	struct shmeta_result ignored = {.status = SHMETA_OK};
	struct backend_error err = {.code = SHMETA_OK};

	(void)find_and_judge(w, op, &ignored, find_log_start, judge_trim, &err);
}
