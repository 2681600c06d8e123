/* SPDX-License-Identifier: Apache-2.0
 * Units per second, and units counted (ddb_budget.h). */
#include "backends/dynamodb/ddb_budget.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_http.h"
#include "backends/tokens.h"

/* What a bucket holds: so many seconds' units. PAGE: of a Query, 1 MB. */
enum { BURST_S = 5, PAGE_UNITS = 256, PAGE_MAX_S = 2 };

struct ddb_buckets {
	struct ddb_buckets *next;
	char *name;
	unsigned int users;
	struct tokens read, write;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list and all buckets in it */
static struct ddb_buckets *all;

static bool is_read(const char *target)
{
	return strcmp(target, "Query") == 0 || strcmp(target, "Scan") == 0 || strstr(target, "Get") != NULL;
}

static void configure(struct tokens *t, uint32_t units_s)
{
	uint64_t burst = (uint64_t)units_s * BURST_S;

	tokens_configure(t, units_s, burst == 0 ? 1 : burst < TOKENS_MAX ? (uint32_t)burst : TOKENS_MAX, ddb_now_ns());
}

bool ddb_budget_open(struct ddb_budget *b, const char *name, uint32_t read_units_s, uint32_t write_units_s)
{
	struct ddb_buckets *s;

	memset(b, 0, sizeof *b);
	if (read_units_s == 0 && write_units_s == 0)
		return true;
	(void)pthread_mutex_lock(&lock);
	for (s = all; s != NULL && strcmp(s->name, name) != 0; s = s->next)
		;
	if (s == NULL && (s = calloc(1, sizeof *s)) != NULL) {
		s->name = strdup(name);
		if (s->name == NULL) {
			free(s);
			s = NULL;
		} else {
			s->next = all;
			all = s;
		}
	}
	if (s != NULL) {
		s->users++;
		configure(&s->read, read_units_s);
		configure(&s->write, write_units_s);
	}
	(void)pthread_mutex_unlock(&lock);
	b->shared = s;
	return s != NULL;
}

void ddb_budget_close(struct ddb_budget *b)
{
	struct ddb_buckets *s = b->shared;

	b->shared = NULL;
	if (s == NULL)
		return;
	(void)pthread_mutex_lock(&lock);
	if (--s->users == 0) {
		struct ddb_buckets **at = &all;

		while (*at != s)
			at = &(*at)->next;
		*at = s->next;
		free(s->name);
		free(s);
	}
	(void)pthread_mutex_unlock(&lock);
}

/* Nearly. What it costs beyond what was taken is owed. */
static uint32_t least_of(const char *target, const json_t *body)
{
	const char *name;
	json_t *of;
	size_t units = 0;

	if (strcmp(target, "TransactWriteItems") == 0)
		units = 2 * json_array_size(json_object_get(body, "TransactItems"));
	json_object_foreach(json_object_get(body, "RequestItems"), name, of) units +=
		json_array_size(json_object_get(of, "Keys"));
	return units > 0 ? (uint32_t)units : 1;
}

/* Many begin at once, and are to owe little together. */
static uint32_t estimate_of(const struct ddb_budget *b, const char *target, const json_t *body, uint32_t least,
                            uint32_t rate)
{
	uint32_t most = rate < PAGE_UNITS / PAGE_MAX_S ? rate * PAGE_MAX_S : PAGE_UNITS;

	if (strcmp(target, "Query") != 0 || json_object_get(body, "Limit") != NULL ||
	    (b->purpose != DDB_FOR_LOAD && json_object_get(body, "ExclusiveStartKey") == NULL))
		return least;
	return most > least ? most : least;
}

bool ddb_budget_take(struct ddb_budget *b, const char *target, const json_t *body, struct ddb_units *ret,
                     uint64_t *ret_when)
{
	uint64_t now_ns = ddb_now_ns();
	struct tokens *t;
	bool granted;

	ret->taken = ret->least = least_of(target, body);
	if (b->shared == NULL)
		return true;
	(void)pthread_mutex_lock(&lock);
	t = is_read(target) ? &b->shared->read : &b->shared->write;
	ret->taken = estimate_of(b, target, body, ret->least, t->rate);
	*ret_when = tokens_when(t, ret->taken + (b->purpose == DDB_FOR_LOAD ? t->rate : 0), now_ns);
	granted = *ret_when <= now_ns && tokens_take(t, ret->taken, now_ns);
	(void)pthread_mutex_unlock(&lock);
	return granted;
}

static double units_of(const json_t *used)
{
	double units = 0;
	size_t i;
	json_t *one;

	if (!json_is_array(used))
		return json_number_value(json_object_get(used, "CapacityUnits"));
	json_array_foreach(used, i, one) units += json_number_value(json_object_get(one, "CapacityUnits"));
	return units;
}

void ddb_budget_settle(struct ddb_budget *b, const char *target, const struct ddb_units *of, const json_t *answer,
                       bool billed)
{
	const json_t *used = json_object_get(answer, "ConsumedCapacity");
	double units = !billed ? 0 : used != NULL ? units_of(used) : of->least;

	(is_read(target) ? b->read_units : b->write_units)[b->purpose] += units;
	if (b->shared == NULL)
		return;
	(void)pthread_mutex_lock(&lock);
	tokens_settle(is_read(target) ? &b->shared->read : &b->shared->write, of->taken,
	              units < TOKENS_MAX ? (uint32_t)ceil(units) : TOKENS_MAX);
	(void)pthread_mutex_unlock(&lock);
}

const char *ddb_budget_option(const char *target)
{
	return is_read(target) ? "source.read_units_s" : "source.write_units_s";
}
