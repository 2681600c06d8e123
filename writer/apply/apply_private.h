/* SPDX-License-Identifier: Apache-2.0
 * What the files of the applier share. Private to writer/apply/. */
#ifndef SHMETA_WRITER_APPLY_APPLY_PRIVATE_H
#define SHMETA_WRITER_APPLY_APPLY_PRIVATE_H

#include "writer/apply/apply.h"

static inline bool apply_failed(enum shmeta_status status)
{
	return status < 0;
}

enum shmeta_status apply_no_memory(struct shmeta_err *err);
/* A row that apply itself refuses is quarantined. */
enum shmeta_status apply_refuse_row(struct apply *a, const struct backend_key *row, const char *sentence,
                                    struct shmeta_err *err);
/* The topic, or the partition of it, died in this transaction: committed offsets follow before it
 * ends. UINT32_MAX: the whole topic. */
enum shmeta_status apply_mark_dead(struct apply *a, uint32_t topic_id, uint32_t partition_id, struct shmeta_err *err);
/* The tenant's number. A tenant that nobody has named is made only when create says so. */
enum shmeta_status apply_tenant_number(struct apply *a, struct shmeta_str tenant, bool create, uint32_t *ret,
                                       struct shmeta_err *err);
/* NULL: the tenant's name is good. */
const char *apply_tenant_error(struct shmeta_str tenant);
/* The partition with its segments. OK or ABSENT. */
enum shmeta_status apply_drop_segments(struct apply *a, uint32_t topic_id, uint32_t partition_id, const char *topic,
                                       size_t topic_bytes, struct shmeta_err *err);
/* The same, with its lease. */
enum shmeta_status apply_drop_partition(struct apply *a, uint32_t topic_id, uint32_t partition_id, const char *topic,
                                        size_t topic_bytes, struct shmeta_err *err);
/* a->old_ids: the partitions that the store has of the topic, ascending. */
enum shmeta_status apply_list_partitions(struct apply *a, uint32_t topic_id, struct shmeta_err *err);

/* record_changes.c: a record is stored, or taken away, and readers look again at what it is about.
 * cls: whose record it is. apply_delete(): ABSENT where there is none. */
enum shmeta_status apply_put(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes, const void *value,
                             size_t bytes, enum shmeta_class cls, struct shmeta_err *err);
/* The same where only its stamp or time to live is another one, or a lease was renewed: the journal
 * does not tell of it. */
enum shmeta_status apply_restamp(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes,
                                 const void *value, size_t bytes, enum shmeta_class cls, struct shmeta_err *err);
/* The same of a partition, whose head is given; its stamp and its time to live become these. */
/* A partition's time to live from now on (struct apply_watch). */
static inline uint32_t apply_partition_ttl(const struct apply *a, uint32_t topic_ttl_ms, uint32_t before_ms,
                                           enum apply_learned learned)
{
	return a->host.watch == NULL ? topic_ttl_ms
	                             : a->host.watch->ttl_ms(a->host.arg, topic_ttl_ms, before_ms, learned);
}
enum shmeta_status apply_restamp_partition(struct apply *a, uint64_t key, struct shmeta_str topic, const void *head,
                                           size_t bytes, uint64_t synced_at_ns, uint32_t ttl_ms,
                                           struct shmeta_err *err);
enum shmeta_status apply_delete(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes,
                                enum shmeta_class cls, struct shmeta_err *err);

#endif
