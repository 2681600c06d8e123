/* SPDX-License-Identifier: Apache-2.0
 * The whole store, as one commit shows it, checked against itself: every byte that a checksum
 * covers, every reference in both directions, every count. */
#include "shm/store/store_inspect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "base/row_limits.h"
#include "base/str.h"
#include "shm/record/record.h"
#include "shm/store/store_private.h"

struct block_ref {
	uint64_t id, locator, part;
};

struct verify {
	const struct shmeta__inspected *of;
	void (*problem)(void *arg, const char *sentence);
	void *arg;
	struct shmeta__verify_report report;
	uint64_t part; /* being looked at */
	struct block_ref *refs;
	size_t ref_count, ref_room, next_ref;
	uint64_t listed;
	bool out_of_memory;
};

__attribute__((format(printf, 2, 3))) static void complain(struct verify *v, const char *fmt, ...)
{
	char text[480];
	va_list ap;

	v->report.problems++;
	if (v->problem == NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	v->problem(v->arg, text);
}

static uint64_t number_of(const struct shmeta__tree_entry *row)
{
	uint64_t number = 0;

	memcpy(&number, row->key, row->key_bytes < sizeof number ? row->key_bytes : sizeof number);
	return number;
}

/* The text behind the tenant of a key, to be shown. */
static const char *shown(char (*ret_text)[80], const void *key, size_t key_bytes)
{
	return key_bytes < 4 ? "?" : shmeta__escape(*ret_text, sizeof *ret_text, (const char *)key + 4, key_bytes - 4);
}

/* Does the key begin with a tenant that was given a number? */
static bool tenant_known(struct verify *v, const struct shmeta__tree_entry *row)
{
	uint32_t tenant = row->key_bytes < 4 ? 0 : shmeta__get_be32(row->key);

	return tenant >= 1 && tenant < v->of->counters.next_tenant;
}

/* ... and go on with exactly this text? */
static bool key_is(struct verify *v, const struct shmeta__tree_entry *row, struct shmeta_str text)
{
	return tenant_known(v, row) &&
	       str_equal(text, (struct shmeta_str){(const char *)row->key + 4, row->key_bytes - 4});
}

/* ---- one function per database: judges one row ---- */

static void verify_meta(struct verify *v, const struct shmeta__tree_entry *row)
{
	static const size_t prefix = sizeof SHMETA_META_TENANT - 1;
	char text[80];
	uint32_t number = 0;

	if (row->key_bytes == sizeof SHMETA_META_UNLISTED - 1 &&
	    memcmp(row->key, SHMETA_META_UNLISTED, row->key_bytes) == 0) {
		uint64_t unlisted[8] = {0};

		if (row->bytes == sizeof unlisted)
			memcpy(unlisted, row->value, sizeof unlisted);
		else
			complain(v, "the numbers of unlisted quarantined rows have a wrong size");
		for (int i = 0; i < 8; i++)
			v->report.quarantined += unlisted[i];
		return;
	}
	if (row->key_bytes <= prefix || memcmp(row->key, SHMETA_META_TENANT, prefix) != 0)
		return;
	if (row->bytes == sizeof number)
		memcpy(&number, row->value, sizeof number);
	if (number == 0 || number >= v->of->counters.next_tenant)
		complain(v, "tenant '%s' has number %u, which was never given (next: %llu)",
		         shmeta__escape(text, sizeof text, (const char *)row->key + prefix, row->key_bytes - prefix),
		         number, (unsigned long long)v->of->counters.next_tenant);
}

static void verify_name(struct verify *v, const struct shmeta__tree_entry *row)
{
	struct shmeta_topic topic;
	const void *back;
	size_t back_bytes;
	uint64_t id;
	char text[80], why[256];
	const char *wrong;

	v->report.topics++;
	if (shmeta__topic_decode(row->value, row->bytes, row->key, row->key_bytes, 1, &topic, NULL) != SHMETA_OK) {
		complain(v, "topic '%s': its record fails its checksum or bounds",
		         shown(&text, row->key, row->key_bytes));
		return;
	}
	if (!key_is(v, row, topic.name))
		complain(v, "topic '%s': its record belongs to another key", shown(&text, row->key, row->key_bytes));
	wrong = shmeta__topic_error(&topic, why, sizeof why);
	if (wrong != NULL)
		complain(v, "topic '%s': %s", shown(&text, row->key, row->key_bytes), wrong);
	id = topic.topic_id;
	if (id == 0 || id >= v->of->counters.next_topic_id)
		complain(v, "topic '%s' has id %llu, which was never given (next: %llu)",
		         shown(&text, row->key, row->key_bytes), (unsigned long long)id,
		         (unsigned long long)v->of->counters.next_topic_id);
	if (shmeta__inspect_get(v->of, SHMETA_DB_TOPICS, &id, sizeof id, &back, &back_bytes, NULL) != SHMETA_OK)
		complain(v, "topic '%s' has id %llu, which 'topics' does not know",
		         shown(&text, row->key, row->key_bytes), (unsigned long long)id);
	else if (back_bytes != row->key_bytes || memcmp(back, row->key, back_bytes) != 0)
		complain(v, "topic '%s' has id %llu, which 'topics' gives to another one",
		         shown(&text, row->key, row->key_bytes), (unsigned long long)id);
}

static void verify_topic(struct verify *v, const struct shmeta__tree_entry *row)
{
	struct shmeta_topic topic;
	const void *value;
	size_t bytes;
	char text[80];
	uint64_t id = number_of(row);

	if (row->bytes < 5 || row->bytes > SHMETA_KEY_MAX ||
	    shmeta__inspect_get(v->of, SHMETA_DB_NAMES, row->value, row->bytes, &value, &bytes, NULL) != SHMETA_OK)
		complain(v, "topic id %llu leads to '%s', which 'names' does not know", (unsigned long long)id,
		         shown(&text, row->value, row->bytes));
	else if (shmeta__topic_decode(value, bytes, row->value, row->bytes, 0, &topic, NULL) == SHMETA_OK &&
	         topic.topic_id != id)
		complain(v, "topic id %llu leads to '%s', which has id %u", (unsigned long long)id,
		         shown(&text, row->value, row->bytes), topic.topic_id);
}

static void collect_block(void *arg, uint64_t block_id, uint64_t locator)
{
	struct verify *v = arg;

	if (v->ref_count == v->ref_room) {
		size_t room = v->ref_room == 0 ? 1024 : 2 * v->ref_room;
		struct block_ref *refs = realloc(v->refs, room * sizeof *refs);

		if (refs == NULL) {
			v->out_of_memory = true;
			return;
		}
		v->refs = refs;
		v->ref_room = room;
	}
	v->refs[v->ref_count++] = (struct block_ref){block_id, locator, v->part};
}

static void verify_part(struct verify *v, const struct shmeta__tree_entry *row)
{
	struct shmeta__part part = {0};
	struct shmeta_err err = {0};
	const void *value;
	size_t bytes;
	uint64_t key = number_of(row), topic_id = key >> 32;
	unsigned int partition_id = (unsigned int)key;

	v->report.partitions++;
	v->part = key;
	if (shmeta__inspect_get(v->of, SHMETA_DB_TOPICS, &topic_id, sizeof topic_id, &value, &bytes, NULL) != SHMETA_OK)
		complain(v, "partition %u of topic id %llu: there is no such topic", partition_id,
		         (unsigned long long)topic_id);
	if (shmeta__part_open(&part, key, row->value, row->bytes, &v->of->pages) != SHMETA_OK) {
		complain(v, "partition %u of topic id %llu: its head fails its checksum or bounds", partition_id,
		         (unsigned long long)topic_id);
		return;
	}
	if (shmeta__part_verify(&part, &err) != SHMETA_OK)
		complain(v, "partition %u of topic id %llu: %s", partition_id, (unsigned long long)topic_id, err.text);
	v->report.segments += shmeta__part_rows(&part);
	if (shmeta__part_blocks(&part, collect_block, v) != SHMETA_OK)
		complain(v, "partition %u of topic id %llu: its blocks cannot be listed", partition_id,
		         (unsigned long long)topic_id);
	shmeta__part_close(&part);
}

static void verify_agent(struct verify *v, const struct shmeta__tree_entry *row)
{
	struct shmeta_agent agent;
	char text[80];

	v->report.agents++;
	if (shmeta__agent_decode(row->value, row->bytes, row->key, row->key_bytes, 1, &agent, NULL) != SHMETA_OK ||
	    !key_is(v, row, agent.agent_id))
		complain(v, "agent '%s': its record fails its checksum or bounds, or belongs to another key",
		         shown(&text, row->key, row->key_bytes));
}

static void verify_group(struct verify *v, const struct shmeta__tree_entry *row)
{
	struct shmeta_group group;
	char text[80];

	v->report.groups++;
	if (shmeta__group_decode(row->value, row->bytes, row->key, row->key_bytes, 1, &group, NULL) != SHMETA_OK ||
	    !key_is(v, row, group.group_id))
		complain(v, "group '%s': its record fails its checksum or bounds, or belongs to another key",
		         shown(&text, row->key, row->key_bytes));
}

static void verify_offset(struct verify *v, const struct shmeta__tree_entry *row)
{
	struct shmeta_committed_offset offset;
	uint8_t key[SHMETA_KEY_MAX];
	char text[80];
	bool good = tenant_known(v, row) &&
	            shmeta__offset_decode(row->value, row->bytes, row->key, row->key_bytes, 1, &offset, NULL) ==
	                    SHMETA_OK &&
	            offset.group_id.bytes <= SHMETA_NAME_MAX;

	v->report.offsets++;
	if (good) {
		size_t n = shmeta__offset_key(key, shmeta__get_be32(row->key), offset.group_id.data,
		                              offset.group_id.bytes, offset.topic_id, offset.partition_id);

		good = n == row->key_bytes && memcmp(key, row->key, n) == 0;
	}
	if (!good)
		complain(v, "offset of group '%s': its record fails its checksum or bounds, or belongs to another key",
		         shown(&text, row->key, row->key_bytes));
}

static void verify_lease(struct verify *v, const struct shmeta__tree_entry *row)
{
	struct shmeta_lease lease;
	uint64_t key = number_of(row);

	v->report.leases++;
	if (shmeta__lease_decode(row->value, row->bytes, row->key, row->key_bytes, 1, &lease, NULL) != SHMETA_OK ||
	    shmeta__part_key(lease.topic_id, lease.partition_id) != key)
		complain(
			v,
			"lease of partition %u of topic id %llu: its record fails its checksum or bounds, or belongs to "
			"another key",
			(unsigned int)key, (unsigned long long)(key >> 32));
}

/* The key is the one of this record, but for its number and for what stands for what cannot be
 * read. */
static void verify_quarantined(struct verify *v, const struct shmeta__tree_entry *row)
{
	struct shmeta__quarantined q;
	uint8_t prefix[SHMETA_QUARANTINE_KEY_MAX];
	const uint8_t *key = row->key;
	bool good =
		row->key_bytes >= 6 + SHMETA_QUARANTINE_PLACE && row->key_bytes <= SHMETA_QUARANTINE_KEY_MAX &&
		shmeta__quarantined_decode(row->value, row->bytes, row->key, row->key_bytes, 1, &q, NULL) == SHMETA_OK;

	v->listed++;
	if (good) {
		struct shmeta_str name = q.cls == SHMETA_CLASS_AGENT || q.cls == SHMETA_CLASS_OFFSET ? q.name : q.topic;
		uint32_t tenant = shmeta__get_be32(key + 1);

		v->report.quarantined += q.rows;
		good = name.bytes <= SHMETA_NAME_MAX && tenant < v->of->counters.next_tenant &&
		       row->key_bytes == 6 + name.bytes + SHMETA_QUARANTINE_PLACE;
		if (good) {
			size_t n =
				shmeta__quarantine_prefix(prefix, (unsigned int)q.cls, tenant, name.data, name.bytes);

			good = memcmp(prefix, key, n) == 0;
		}
	}
	if (!good)
		complain(v, "a quarantined row: its record fails its checksum or bounds, or belongs to another key");
}

static int by_id(const void *a, const void *b)
{
	const struct block_ref *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* Report the references to ids below `id`: no block has them. */
static void missing_blocks(struct verify *v, uint64_t id)
{
	for (; v->next_ref < v->ref_count && v->refs[v->next_ref].id < id; v->next_ref++)
		complain(v, "partition %u of topic id %llu refers to block %llu, which does not exist",
		         (unsigned int)v->refs[v->next_ref].part, (unsigned long long)(v->refs[v->next_ref].part >> 32),
		         (unsigned long long)v->refs[v->next_ref].id);
}

/* Blocks come in ascending order of id, and so do the references, sorted when the last partition
 * has been looked at. */
static void verify_block(struct verify *v, const struct shmeta__tree_entry *row)
{
	const struct block_ref *ref;
	uint64_t id = number_of(row);

	v->report.blocks++;
	if (id >= v->of->counters.next_block_id)
		complain(v, "block %llu has an id that was never given (next: %llu)", (unsigned long long)id,
		         (unsigned long long)v->of->counters.next_block_id);
	missing_blocks(v, id);
	if (v->next_ref == v->ref_count || v->refs[v->next_ref].id != id) {
		complain(v, "block %llu: no partition refers to it", (unsigned long long)id);
		return;
	}
	ref = &v->refs[v->next_ref++];
	if ((uint64_t)((const uint8_t *)row->value - v->of->pages.base) !=
	    ref->locator * v->of->pages.page_bytes + sizeof(struct store_page))
		complain(v, "partition %u of topic id %llu looks for block %llu on page %llu, where it is not",
		         (unsigned int)ref->part, (unsigned long long)(ref->part >> 32), (unsigned long long)id,
		         (unsigned long long)ref->locator);
	for (; v->next_ref < v->ref_count && v->refs[v->next_ref].id == id; v->next_ref++)
		complain(v, "block %llu belongs to partition %u of topic id %llu and to partition %u of topic id %llu",
		         (unsigned long long)id, (unsigned int)ref->part, (unsigned long long)(ref->part >> 32),
		         (unsigned int)v->refs[v->next_ref].part,
		         (unsigned long long)(v->refs[v->next_ref].part >> 32));
}

/* ---- all of it ---- */

static enum shmeta_status walk(struct verify *v, enum shmeta_db db,
                               void (*judge)(struct verify *v, const struct shmeta__tree_entry *row),
                               struct shmeta_err *err)
{
	struct shmeta__inspect_walk walk;
	struct shmeta__tree_entry row;
	MDB_val key = store_sentinel(db);
	enum shmeta_status status =
		shmeta__inspect_get(v->of, db, key.mv_data, key.mv_size, &row.value, &row.bytes, NULL);
	uint64_t count = 1;

	if (status != SHMETA_OK) {
		complain(v, "database '%s' has lost its sentinel", store_db_name(db));
		count = 0;
	}
	status = shmeta__inspect_first(&walk, v->of, db, NULL, 0, &row, err);
	for (; status == SHMETA_OK; status = shmeta__inspect_next(&walk, &row, err)) {
		judge(v, &row);
		count++;
	}
	if (status != SHMETA_END)
		return status;
	if (count != v->of->tree[db].entries)
		complain(v, "database '%s' is said to have %llu entries, and has %llu", store_db_name(db),
		         (unsigned long long)v->of->tree[db].entries, (unsigned long long)count);
	return SHMETA_OK;
}

static void compare(struct verify *v, const char *what, uint64_t counted, uint64_t said)
{
	if (counted != said)
		complain(v, "the counters say %llu %s, there are %llu", (unsigned long long)said, what,
		         (unsigned long long)counted);
}

enum shmeta_status shmeta__store_verify(const struct shmeta__inspected *of,
                                        void (*problem)(void *arg, const char *sentence), void *arg,
                                        struct shmeta__verify_report *ret, struct shmeta_err *err)
{
	/* Blocks after parts: verify_block() needs all references. */
	static const struct {
		enum shmeta_db db;
		void (*judge)(struct verify *v, const struct shmeta__tree_entry *row);
	} databases[] = {
		{SHMETA_DB_META, verify_meta},      {SHMETA_DB_NAMES, verify_name},
		{SHMETA_DB_TOPICS, verify_topic},   {SHMETA_DB_PARTS, verify_part},
		{SHMETA_DB_AGENTS, verify_agent},   {SHMETA_DB_GROUPS, verify_group},
		{SHMETA_DB_OFFSETS, verify_offset}, {SHMETA_DB_LEASES, verify_lease},
		{SHMETA_DB_BLOCKS, verify_block},   {SHMETA_DB_QUARANTINE, verify_quarantined},
	};
	struct verify v = {.of = of, .problem = problem, .arg = arg, .report = {.incomplete = of->counters.incomplete}};
	enum shmeta_status status = SHMETA_OK;

	_Static_assert(sizeof databases / sizeof databases[0] == SHMETA_DB_COUNT, "a database is not verified");
	for (size_t i = 0; i < SHMETA_DB_COUNT; i++) {
		if (databases[i].db == SHMETA_DB_BLOCKS && v.ref_count > 0)
			qsort(v.refs, v.ref_count, sizeof v.refs[0], by_id);
		status = walk(&v, databases[i].db, databases[i].judge, err);
		if (status == SHMETA_OK && v.out_of_memory)
			status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory after %zu blocks", v.ref_count);
		if (status != SHMETA_OK)
			break;
	}
	if (status == SHMETA_OK)
		missing_blocks(&v, UINT64_MAX);
	free(v.refs);
	if (status != SHMETA_OK)
		return status;
	compare(&v, "topics", v.report.topics, of->counters.topics);
	compare(&v, "partitions", v.report.partitions, of->counters.partitions);
	compare(&v, "segments", v.report.segments, of->counters.segments);
	compare(&v, "quarantined rows", v.report.quarantined, of->counters.quarantined);
	compare(&v, "entries in 'quarantine'", v.listed, of->counters.listed);
	*ret = v.report;
	if (v.report.problems == 0)
		return SHMETA_OK;
	return shmeta_fail(err, SHMETA_ERR_CORRUPT, "store.%llu: %llu problems", (unsigned long long)of->number,
	                   (unsigned long long)v.report.problems);
}
