/* SPDX-License-Identifier: Apache-2.0
 * Keys of items, and items as the API spells them: {"n":{"N":"5"}}.
 *
 * Parts of a key are joined by US (0x1f), which no name may hold: it needs no escape, and keeps the
 * order of the bytes. Where which record is (pk; sk):
 *   meta     T; tenant, topic                       a topic: inc, n, ret, cat, uat, cp, st, and
 *                                                   cfg, its config as JSON
 *            P, tenant, topic, partition / 64; %010u
 *                                                   header of a partition: inc, hw, ns, lg,
 *                                                   cat, uat, dead; lease: ag, exp, acq; ep;
 *                                                   offer: xid, xexp; ce, a compaction's epoch;
 *                                                   newest leader epoch: le, its start ls, lo
 *            E, tenant, inc, partition; !             leader epochs before it: es, d
 *            A; tenant, id                          an agent: ad, az, gr, hb, st, md
 *            AD, tenant, address; !                 an agent's id
 *            L, tenant, agent; topic, %010u         a lease that the agent took: where to look
 *                                                   when the agent goes
 *            G; tenant, group                       a group: gi, cat, uat
 *            O, tenant, group, shard; topic, %010u  a committed offset: gi, inc, off, at, m
 *            X, tenant; %020u                       an offer of a lease
 *            B, tenant, shard; bucket, key          an object: b, k, z, cat, refs, since
 *            I, id; !                               an id of a segment that is not made of its
 *                                                   place
 *            Z; inc                                 what a deleted topic left, to be swept: t,
 *                                                   name, n; from, hd: partitions swept,
 *                                                   headers dead
 *   seg      tenant, inc, partition; base %020u     a segment: e, c, z, i, b, k, t0, t1, o, cat, ob
 *   log      writer; seq %020u                      ks: the keys that a transaction changed; at,
 *                                                   ttl; void
 *   writers  W; writer                              seq (a hint), keep (s), ttl
 * Every item has v, another random text after each change: what a condition compares. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_ITEM_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_ITEM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/dynamodb/ddb_uri.h"

#define DDB_US "\x1f"
enum {
	DDB_PK_MAX = 2048,
	DDB_SK_MAX = 1024,
	DDB_PARTITIONS_PER_SHARD = 64,
	DDB_OFFSET_SHARDS = 4,
	DDB_OBJECT_SHARDS = 16
};
enum { DDB_RANDOM_BYTES = 17 }; /* 16 hex digits */

struct ddb_key {
	enum ddb_table table;
	char pk[DDB_PK_MAX + 1], sk[DDB_SK_MAX + 1];
	bool impossible; /* a part holds what no name may, or it is too long: no such item can be */
};

/* Keys. Names are as operations and keys have them. */
void ddb_key_topic(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str topic);
void ddb_key_header(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition);
void ddb_key_epochs(struct ddb_key *ret, struct shmeta_str tenant, const char *inc, uint32_t partition);
void ddb_key_agent(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str id);
void ddb_key_address(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str address);
void ddb_key_held(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str agent, struct shmeta_str topic,
                  uint32_t partition);
void ddb_key_group(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str group);
void ddb_key_offset(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str group, struct shmeta_str topic,
                    uint32_t partition);
void ddb_key_offer(struct ddb_key *ret, struct shmeta_str tenant, uint64_t id);
void ddb_key_object(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str bucket, struct shmeta_str key);
void ddb_key_id(struct ddb_key *ret, struct shmeta_str id);
void ddb_key_left(struct ddb_key *ret, const char *inc);
void ddb_key_segment(struct ddb_key *ret, struct shmeta_str tenant, const char *inc, uint32_t partition, uint64_t base);
void ddb_key_log(struct ddb_key *ret, const char *writer, uint64_t seq);
void ddb_key_writer(struct ddb_key *ret, const char *writer);
/* The pk of a shard of offsets (of a group) or of objects (of a tenant). */
void ddb_pk_offsets(struct ddb_key *ret, struct shmeta_str tenant, struct shmeta_str group, unsigned int shard);
void ddb_pk_objects(struct ddb_key *ret, struct shmeta_str tenant, unsigned int shard);

void ddb_random(char ret[DDB_RANDOM_BYTES]);

/* Values. NULL where there is no memory, which the next step finds. */
json_t *ddb_s(struct shmeta_str text);
json_t *ddb_n(int64_t number);
/* Add to an item. */
void ddb_put_s(json_t *item, const char *name, struct shmeta_str text);
void ddb_put_t(json_t *item, const char *name, const char *text);
void ddb_put_n(json_t *item, const char *name, int64_t number);
/* An item with its key and nothing else; {"pk":..,"sk":..} */
json_t *ddb_item_of(const struct ddb_key *key);
/* The key as one text, for comparison: its table, pk and sk. */
json_t *ddb_key_text(const struct ddb_key *key);

/* Read from an item (NULL: nothing is there). The views live as long as the item. false: it is not
 * there, or not of that kind. */
bool ddb_get_s(const json_t *item, const char *name, struct shmeta_str *ret);
bool ddb_get_n(const json_t *item, const char *name, int64_t *ret);
const char *ddb_text(const json_t *item, const char *name); /* "" where there is none */
int64_t ddb_number(const json_t *item, const char *name);   /* 0 where there is none */
bool ddb_has(const json_t *item, const char *name);

/* Split at US; how many parts there are, at most `most`. */
size_t ddb_split(struct shmeta_str text, struct shmeta_str *parts, size_t most);
bool ddb_u64(struct shmeta_str text, uint64_t *ret);

#endif
