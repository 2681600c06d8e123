/* SPDX-License-Identifier: Apache-2.0
 * Keys and items (ddb_item.h). */
#include "backends/dynamodb/ddb_item.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "backends/dynamodb/ddb_http.h"
#include "backends/rows.h"
#include "base/hash.h"

/* One attribute of a key, part by part. */
struct joined {
	struct ddb_key *key;
	char *text;
	size_t room, used;
};

static void join(struct joined *j, struct shmeta_str part, bool any)
{
	size_t sep = j->used > 0;

	for (size_t i = 0; !any && i < part.bytes; i++)
		if ((unsigned char)part.data[i] < 0x20)
			j->key->impossible = true;
	if ((!any && part.bytes == 0) || part.bytes + sep >= j->room - j->used) {
		j->key->impossible = true;
		return;
	}
	if (sep)
		j->text[j->used++] = DDB_US[0];
	if (part.bytes > 0)
		memcpy(j->text + j->used, part.data, part.bytes);
	j->used += part.bytes;
	j->text[j->used] = '\0';
}

static void join_text(struct joined *j, const char *text)
{
	join(j, rows_str(text), false);
}

__attribute__((format(printf, 2, 3))) static void join_number(struct joined *j, const char *fmt, ...)
{
	char text[32];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	join_text(j, text);
}

static struct joined pk_of(struct ddb_key *key, enum ddb_table table, const char *first)
{
	struct joined j = {key, key->pk, sizeof key->pk, 0};

	key->table = table;
	key->impossible = false;
	key->pk[0] = key->sk[0] = '\0';
	if (first != NULL)
		join_text(&j, first);
	return j;
}

static struct joined sk_of(struct ddb_key *key)
{
	return (struct joined){key, key->sk, sizeof key->sk, 0};
}

static void named(struct ddb_key *ret, const char *first, struct shmeta_str tenant, struct shmeta_str name)
{
	struct joined sk;

	(void)pk_of(ret, DDB_META, first);
	sk = sk_of(ret);
	join(&sk, tenant, false);
	join(&sk, name, false);
}

void ddb_key_topic(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str topic)
{
	named(ret, "T", tenant, topic);
}

void ddb_key_epochs(struct ddb_key *ret, struct shmeta_str tenant, const char *inc, uint32_t partition)
{
	struct joined pk = pk_of(ret, DDB_META, "E"), sk = sk_of(ret);

	join(&pk, tenant, false);
	join_text(&pk, inc);
	join_number(&pk, "%" PRIu32, partition);
	join_text(&sk, "!");
}

void ddb_key_agent(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str id)
{
	named(ret, "A", tenant, id);
}

void ddb_key_group(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str group)
{
	named(ret, "G", tenant, group);
}

void ddb_key_header(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition)
{
	struct joined pk = pk_of(ret, DDB_META, "P"), sk = sk_of(ret);

	join(&pk, tenant, false);
	join(&pk, topic, false);
	join_number(&pk, "%" PRIu32, partition / DDB_PARTITIONS_PER_SHARD);
	join_number(&sk, "%010" PRIu32, partition);
}

void ddb_key_address(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str address)
{
	struct joined pk = pk_of(ret, DDB_META, "AD"), sk = sk_of(ret);

	join(&pk, tenant, false);
	join(&pk, address, true);
	join_text(&sk, "!");
}

void ddb_key_held(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str agent, struct shmeta_str topic,
                  uint32_t partition)
{
	struct joined pk = pk_of(ret, DDB_META, "L"), sk = sk_of(ret);

	join(&pk, tenant, false);
	join(&pk, agent, false);
	join(&sk, topic, false);
	join_number(&sk, "%010" PRIu32, partition);
}

void ddb_pk_offsets(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str group, unsigned int shard)
{
	struct joined pk = pk_of(ret, DDB_META, "O");

	join(&pk, tenant, false);
	join(&pk, group, false);
	join_number(&pk, "%u", shard);
}

void ddb_key_offset(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str group, struct shmeta_str topic,
                    uint32_t partition)
{
	uint64_t hash = hash_bytes(HASH_FIRST, topic.data, topic.bytes) + partition / 256;
	struct joined sk;

	ddb_pk_offsets(ret, tenant, group, (unsigned int)(hash % DDB_OFFSET_SHARDS));
	sk = sk_of(ret);
	join(&sk, topic, false);
	join_number(&sk, "%010" PRIu32, partition);
}

void ddb_key_offer(struct ddb_key *ret, struct shmeta_str tenant, uint64_t id)
{
	struct joined pk = pk_of(ret, DDB_META, "X"), sk = sk_of(ret);

	join(&pk, tenant, false);
	join_number(&sk, "%020" PRIu64, id);
}

void ddb_pk_objects(struct ddb_key *ret, struct shmeta_str tenant, unsigned int shard)
{
	struct joined pk = pk_of(ret, DDB_META, "B");

	join(&pk, tenant, false);
	join_number(&pk, "%x", shard);
}

void ddb_key_object(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str bucket, struct shmeta_str key)
{
	uint64_t hash = hash_bytes(hash_bytes(HASH_FIRST, bucket.data, bucket.bytes), key.data, key.bytes);
	struct joined sk;

	ddb_pk_objects(ret, tenant, (unsigned int)(hash % DDB_OBJECT_SHARDS));
	sk = sk_of(ret);
	join(&sk, bucket, true);
	sk.text[sk.used++] = DDB_US[0]; /* also behind an empty bucket */
	sk.text[sk.used] = '\0';
	if (key.bytes >= sk.room - sk.used) {
		ret->impossible = true;
		return;
	}
	if (key.bytes > 0)
		memcpy(sk.text + sk.used, key.data, key.bytes);
	sk.text[sk.used + key.bytes] = '\0';
}

void ddb_key_id(struct ddb_key *ret, struct shmeta_str id)
{
	struct joined pk = pk_of(ret, DDB_META, "I"), sk = sk_of(ret);

	join(&pk, id, true);
	join_text(&sk, "!");
}

void ddb_key_left(struct ddb_key *ret, const char *inc)
{
	struct joined sk;

	(void)pk_of(ret, DDB_META, "Z");
	sk = sk_of(ret);
	join_text(&sk, inc);
}

void ddb_key_segment(struct ddb_key *ret, struct shmeta_str tenant, const char *inc, uint32_t partition, uint64_t base)
{
	struct joined pk = pk_of(ret, DDB_SEG, NULL), sk = sk_of(ret);

	join(&pk, tenant, false);
	join_text(&pk, inc);
	join_number(&pk, "%" PRIu32, partition);
	join_number(&sk, "%020" PRIu64, base);
}

void ddb_key_log(struct ddb_key *ret, const char *writer, uint64_t seq)
{
	struct joined sk;

	(void)pk_of(ret, DDB_LOG, writer);
	sk = sk_of(ret);
	join_number(&sk, "%020" PRIu64, seq);
}

void ddb_key_writer(struct ddb_key *ret, const char *writer)
{
	struct joined sk;

	(void)pk_of(ret, DDB_WRITERS, "W");
	sk = sk_of(ret);
	join_text(&sk, writer);
}

void ddb_random(char ret[DDB_RANDOM_BYTES])
{
	static uint64_t counter;
	uint64_t bits;

	if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
		bits = ddb_now_ns() ^ ++counter << 48;
	(void)snprintf(ret, DDB_RANDOM_BYTES, "%016" PRIx64, bits);
}

/* ---- values ---- */

json_t *ddb_s(struct shmeta_str text)
{
	json_t *value = json_object();

	if (value != NULL &&
	    json_object_set_new(value, "S", json_stringn(text.bytes > 0 ? text.data : "", text.bytes)) != 0) {
		json_decref(value);
		value = NULL;
	}
	return value;
}

json_t *ddb_n(int64_t number)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%" PRId64, number);
	return json_pack("{s:s}", "N", text);
}

void ddb_put_s(json_t *item, const char *name, struct shmeta_str text)
{
	(void)json_object_set_new(item, name, ddb_s(text));
}

void ddb_put_t(json_t *item, const char *name, const char *text)
{
	ddb_put_s(item, name, rows_str(text));
}

void ddb_put_n(json_t *item, const char *name, int64_t number)
{
	(void)json_object_set_new(item, name, ddb_n(number));
}

json_t *ddb_item_of(const struct ddb_key *key)
{
	json_t *item = json_object();

	ddb_put_t(item, "pk", key->pk);
	ddb_put_t(item, "sk", key->sk);
	return item;
}

json_t *ddb_key_text(const struct ddb_key *key)
{
	return json_sprintf("%d" DDB_US "%s" DDB_US "%s", (int)key->table, key->pk, key->sk);
}

bool ddb_get_s(const json_t *item, const char *name, struct shmeta_str *ret)
{
	const json_t *value = json_object_get(json_object_get(item, name), "S");

	*ret = (struct shmeta_str){"", 0};
	if (!json_is_string(value))
		return false;
	*ret = (struct shmeta_str){json_string_value(value), json_string_length(value)};
	return true;
}

bool ddb_get_n(const json_t *item, const char *name, int64_t *ret)
{
	const char *text = json_string_value(json_object_get(json_object_get(item, name), "N"));
	char *end;
	long long value;

	*ret = 0;
	if (text == NULL)
		return false;
	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || *end != '\0' || end == text)
		return false;
	*ret = value;
	return true;
}

const char *ddb_text(const json_t *item, const char *name)
{
	struct shmeta_str text;

	(void)ddb_get_s(item, name, &text);
	return text.data;
}

int64_t ddb_number(const json_t *item, const char *name)
{
	int64_t value;

	(void)ddb_get_n(item, name, &value);
	return value;
}

bool ddb_has(const json_t *item, const char *name)
{
	return json_object_get(item, name) != NULL;
}

size_t ddb_split(struct shmeta_str text, struct shmeta_str *parts, size_t most)
{
	size_t count = 0, from = 0;

	for (size_t i = 0; i <= text.bytes && count < most; i++)
		if (i == text.bytes || text.data[i] == DDB_US[0]) {
			parts[count++] = (struct shmeta_str){text.data + from, i - from};
			from = i + 1;
		}
	return count;
}

bool ddb_u64(struct shmeta_str text, uint64_t *ret)
{
	uint64_t value = 0;

	for (size_t i = 0; i < text.bytes; i++) {
		unsigned int digit = (unsigned int)(unsigned char)text.data[i] - '0';

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	return text.bytes > 0;
}
