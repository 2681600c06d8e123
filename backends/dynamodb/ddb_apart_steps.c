/* SPDX-License-Identifier: Apache-2.0
 * What operations of several steps have in common (ddb_apart.h). */
#include "backends/dynamodb/ddb_apart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum shmeta_status ddb_apart_each(struct ddb_writing *w, const struct backend_op *op, struct shmeta_str tenant,
                                  const json_t *items, void (*judge)(struct ddb_writing *, struct ddb_step *),
                                  struct shmeta_result *r, uint64_t *ret_count, struct backend_error *err)
{
	size_t count = json_array_size(items);
	struct apart *of = calloc(count + 1, sizeof *of);
	struct ddb_step *steps = calloc(count + 1, sizeof *steps);
	enum shmeta_status status = SHMETA_OK;

	if (of == NULL || steps == NULL)
		status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		of[i].op = op;
		of[i].tenant = tenant;
		of[i].item = json_array_get(items, i);
		steps[i] = (struct ddb_step){.judge = judge, .arg = &of[i], .result = &of[i].result};
	}
	if (status == SHMETA_OK && count > 0)
		status = ddb_steps(w, steps, count, err);
	for (size_t i = 0; of != NULL && i < count; i++) {
		if (of[i].result.status != SHMETA_OK && r->status == SHMETA_OK) {
			r->status = of[i].result.status;
			memcpy(r->text, of[i].result.text, sizeof r->text);
		} else if (of[i].result.status == SHMETA_OK && ret_count != NULL) {
			*ret_count += of[i].count;
		}
	}
	free(of);
	free(steps);
	return status;
}

enum shmeta_status ddb_apart_once(struct ddb_writing *w, const struct backend_op *op,
                                  void (*judge)(struct ddb_writing *, struct ddb_step *), void *arg,
                                  struct shmeta_result *r, struct backend_error *err)
{
	struct ddb_step step = {.judge = judge, .op = op, .arg = arg, .result = r};

	return ddb_steps(w, &step, 1, err);
}

void ddb_apart_prime(struct ddb_writing *w, enum ddb_table table, const json_t *items)
{
	struct ddb_key key = {.table = table};
	size_t i;
	json_t *item;

	json_array_foreach(items, i, item)
	{
		(void)snprintf(key.pk, sizeof key.pk, "%s", ddb_text(item, "pk"));
		(void)snprintf(key.sk, sizeof key.sk, "%s", ddb_text(item, "sk"));
		ddb_ledger_prime(&w->ledger, &key, item);
	}
}

struct ddb_entry *ddb_apart_entry(struct ddb_writing *w, enum ddb_table table, const json_t *item)
{
	struct ddb_key key = {.table = table};

	(void)snprintf(key.pk, sizeof key.pk, "%s", ddb_text(item, "pk"));
	(void)snprintf(key.sk, sizeof key.sk, "%s", ddb_text(item, "sk"));
	return ddb_ledger_get(&w->ledger, &key);
}

uint64_t ddb_apart_half_time(const struct ddb_state *s)
{
	uint64_t now_ns = ddb_now_ns();

	return s->deadline_ns > now_ns ? now_ns + (s->deadline_ns - now_ns) / 2 : now_ns;
}
