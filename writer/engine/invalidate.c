/* SPDX-License-Identifier: Apache-2.0
 * Invalidations (invalidate.h). */
#include "writer/engine/invalidate.h"

#include <stdio.h>
#include <string.h>

#include "base/escape.h"
#include "shm/record/key.h"
#include "shm/record/record.h"
#include "writer/keys/queue.h"

enum { TOPICS_PER_STEP = 64, PARTITIONS_PER_STEP = 4096 };

static const char *describe(const struct admin_job *job, char *ret, size_t bytes)
{
	static const char *const names[] = {
#define SHMETA_X(name, number, text, ttl_ms) [number] = text,
		SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
	};
	char shown[SHMETA_NAME_MAX + 8];

	(void)shmeta__escape(shown, sizeof shown, job->topic.data, job->topic.bytes);
	if (job->cls == SHMETA_CLASS_LIST)
		(void)snprintf(ret, bytes, "everything");
	else if (job->prefix)
		(void)snprintf(ret, bytes, "topics beginning with '%s'", shown);
	else if (job->cls == SHMETA_CLASS_TOPIC)
		(void)snprintf(ret, bytes, "topic %s", shown);
	else if (job->cls <= SHMETA_CLASS_SEGMENT)
		(void)snprintf(ret, bytes, "%s %s/%u", names[job->cls], shown, job->partition_id);
	else
		(void)snprintf(ret, bytes, "class %s", names[job->cls]);
	return ret;
}

void invalidate_answer(struct sync *s, struct admin_job *job, enum shmeta_status status, const char *sentence)
{
	uint64_t generation = s->gen != NULL ? s->gen->generation : 0;
	char what[SHMETA_NAME_MAX + 80], tenant[SHMETA_TENANT_MAX * 2], line[1000];

	if (job->answered)
		return;
	job->answered = true;
	if (status == SHMETA_OK)
		s->host.invalidated(s->host.arg, job->ticket, &job->count, job->txn, generation);
	else
		s->host.answer(s->host.arg, job->ticket, status, sentence, 0, generation, 0);
	if (job->begun && !job->dry_run && status == SHMETA_OK) {
		shmeta__say(line, sizeof line,
		            "%s: invalidate %s, tenant '%s': done: %llu topics, %llu partitions, %llu other records, "
		            "commit %llu of generation %llu",
		            job->who, describe(job, what, sizeof what),
		            shmeta__escape(tenant, sizeof tenant, job->tenant.data, job->tenant.bytes),
		            (unsigned long long)job->count.topics, (unsigned long long)job->count.partitions,
		            (unsigned long long)job->count.records, (unsigned long long)job->txn,
		            (unsigned long long)generation);
		audit_say(s, line);
	} else if (job->begun && !job->dry_run) {
		/* Of what was asked for some may have been compared: none of it counts as done. */
		shmeta__say(line, sizeof line, "%s: invalidate %s, tenant '%s': failed: %s%s%s", job->who,
		            describe(job, what, sizeof what),
		            shmeta__escape(tenant, sizeof tenant, job->tenant.data, job->tenant.bytes),
		            shmeta_strerror(status), sentence != NULL && sentence[0] != '\0' ? ": " : "",
		            sentence != NULL ? sentence : "");
		audit_say(s, line);
	}
}

/* A key that the job had asked for has been answered. */
static void on_answered(struct sync *s, void *arg, enum shmeta_status status, const char *sentence, uint64_t txn)
{
	struct admin_job *job = arg;

	job->outstanding--;
	if (status != SHMETA_OK && job->status == SHMETA_OK) {
		job->status = status;
		(void)snprintf(job->sentence, sizeof job->sentence, "%s", sentence);
	}
	if (txn > job->txn)
		job->txn = txn;
	sync_wake_at(s, sync_now(s)); /* its next step */
}

/* Have it read after now, and hear of it. false: no memory. */
static bool want_key(struct sync *s, struct admin_job *job, enum entry_kind kind, struct shmeta_str topic,
                     uint32_t partition_id)
{
	const struct identity id = kind > ENTRY_PART ? queue_identity_of_class(kind)
	                                             : queue_identity(kind, job->tenant, topic, partition_id);
	const struct want want = {.segments = kind == ENTRY_TOPIC && s->bounded == NULL, .whole = kind == ENTRY_PART};

	if (!queue_ask(s, &id, &want, on_answered, job))
		return false;
	job->outstanding++;
	return true;
}

static enum shmeta_status count_all(struct sync *s, struct admin_job *job, struct shmeta_err *err)
{
	const struct shmeta_store_counters *c = shmeta__store_counters(s->store);
	struct shmeta__store_usage usage;
	enum shmeta_status status = shmeta__store_usage(s->store, &usage, err);

	if (status != SHMETA_OK)
		return status;
	job->count = (struct sync_invalidated){0};
	if (job->cls == SHMETA_CLASS_LIST) {
		job->count.topics = c->topics;
		job->count.partitions = c->partitions;
	}
	if (job->cls == SHMETA_CLASS_LIST || job->cls == SHMETA_CLASS_AGENT)
		job->count.records += usage.entries[SHMETA_DB_AGENTS];
	if (job->cls == SHMETA_CLASS_LIST || job->cls == SHMETA_CLASS_LEASE)
		job->count.records += usage.entries[SHMETA_DB_LEASES];
	if (job->cls == SHMETA_CLASS_LIST || job->cls == SHMETA_CLASS_OFFSET)
		job->count.records += usage.entries[SHMETA_DB_OFFSETS] + usage.entries[SHMETA_DB_GROUPS];
	return SHMETA_OK;
}

/* Rows of the store, as count_all() counts them: not what the topic says of itself. In bounded mode
 * these are what is read again, and not all that the topic has. */
static enum shmeta_status count_partitions(struct sync *s, struct admin_job *job, struct shmeta__txn *txn,
                                           const struct shmeta_topic *topic, struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic->topic_id, 0), at;
	struct shmeta__cursor *cursor;
	const void *found, *value;
	size_t key_bytes, bytes;
	enum shmeta_status status = shmeta__cursor_open(txn, SHMETA_DB_PARTS, &key, sizeof(key), &cursor, err);

	if (status != SHMETA_OK)
		return status;
	while ((status = shmeta__cursor_next(cursor, &found, &key_bytes, &value, &bytes, err)) == SHMETA_OK) {
		if (key_bytes != sizeof(at))
			break;
		memcpy(&at, found, sizeof(at));
		if (at >> 32 != topic->topic_id)
			break;
		job->count.partitions++;
		if (s->bounded != NULL && !job->dry_run && !want_key(s, job, ENTRY_PART, topic->name, (uint32_t)at)) {
			status = SHMETA_ERR_NO_MEMORY;
			break;
		}
	}
	shmeta__cursor_close(cursor);
	return status < 0 ? status : SHMETA_OK;
}

/* One topic or partition: what the store has of it is counted, but whatever the source has of it is
 * read. */
static enum shmeta_status begin_named(struct sync *s, struct admin_job *job, struct shmeta__txn *txn,
                                      struct shmeta_err *err)
{
	struct shmeta_topic topic;
	struct shmeta_partition partition;
	enum shmeta_status status = apply_topic_get(txn, job->tenant, job->topic, &topic, NULL, err);
	uint64_t last;
	bool any;

	if (status < 0)
		return status;
	if (status == SHMETA_OK && job->cls == SHMETA_CLASS_TOPIC) {
		job->count.topics = 1;
		status = count_partitions(s, job, txn, &topic, err);
		if (status < 0)
			return status;
	} else if (status == SHMETA_OK) {
		status = apply_partition_get(txn, topic.topic_id, job->partition_id, &partition, &last, &any, err);
		if (status < 0)
			return status;
		job->count.partitions = status == SHMETA_OK;
	}
	if (job->dry_run)
		return SHMETA_OK;
	return want_key(s, job, job->cls == SHMETA_CLASS_TOPIC ? ENTRY_TOPIC : ENTRY_PART, job->topic,
	                job->partition_id)
	               ? SHMETA_OK
	               : SHMETA_ERR_NO_MEMORY;
}

/* The next topics of a prefix, in order. Behind the last one the job is exhausted. */
static enum shmeta_status next_topics(struct sync *s, struct admin_job *job, struct shmeta__txn *txn,
                                      struct shmeta_err *err)
{
	uint8_t first[SHMETA_KEY_MAX];
	struct shmeta__cursor *cursor;
	size_t topics = 0, partitions = 0, first_bytes;
	uint32_t tenant;
	enum shmeta_status status = shmeta__tenant(txn, job->tenant.data, job->tenant.bytes, 0, &tenant, err);

	job->exhausted = status == SHMETA_ABSENT;
	if (status != SHMETA_OK)
		return status < 0 ? status : SHMETA_OK;
	if (job->after_bytes > 0)
		first_bytes = shmeta__name_key(first, tenant, job->after, job->after_bytes);
	else
		first_bytes = shmeta__name_key(first, tenant, job->topic.data, job->topic.bytes);
	status = shmeta__cursor_open(txn, SHMETA_DB_NAMES, first, first_bytes, &cursor, err);
	if (status != SHMETA_OK)
		return status;
	while (job->dry_run || (topics < TOPICS_PER_STEP && partitions < PARTITIONS_PER_STEP)) {
		const void *key, *value;
		size_t key_bytes, bytes;
		struct shmeta_topic topic;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK)
			break;
		if (key_bytes == first_bytes && memcmp(key, first, key_bytes) == 0 && job->after_bytes > 0)
			continue;
		if (key_bytes < 4 + job->topic.bytes || shmeta__get_be32(key) != tenant ||
		    (job->topic.bytes > 0 &&
		     memcmp((const uint8_t *)key + 4, job->topic.data, job->topic.bytes) != 0)) {
			status = SHMETA_END;
			break;
		}
		status = shmeta__topic_decode(value, bytes, key, key_bytes, 1, &topic, NULL);
		if (status != SHMETA_OK) {
			(void)shmeta_fail(err, status, "the stored record of a topic is damaged");
			break;
		}
		if (!job->dry_run && !want_key(s, job, ENTRY_TOPIC, topic.name, 0)) {
			status = SHMETA_ERR_NO_MEMORY;
			break;
		}
		memcpy(job->after, topic.name.data, topic.name.bytes);
		job->after_bytes = topic.name.bytes;
		job->count.topics++;
		status = count_partitions(s, job, txn, &topic, err);
		if (status < 0)
			break;
		topics++;
		partitions += topic.partition_count;
	}
	shmeta__cursor_close(cursor);
	job->exhausted = status == SHMETA_END;
	return status < 0 ? status : SHMETA_OK;
}

static enum shmeta_status step(struct sync *s, struct admin_job *job, struct shmeta_err *err)
{
	struct shmeta__txn *txn;
	enum shmeta_status status;

	if (job->cls >= SHMETA_CLASS_LIST) {
		job->exhausted = true;
		status = count_all(s, job, err);
		if (status != SHMETA_OK || job->dry_run)
			return status;
		if (job->cls == SHMETA_CLASS_LIST) {
			if (!queue_ask_list(s, on_answered, job))
				return SHMETA_ERR_NO_MEMORY;
			job->outstanding++;
			return SHMETA_OK;
		}
		return want_key(s, job, queue_kind(job->cls), (struct shmeta_str){"", 0}, 0) ? SHMETA_OK
		                                                                             : SHMETA_ERR_NO_MEMORY;
	}
	status = shmeta__txn_read(s->store, &txn, err);
	if (status != SHMETA_OK)
		return status;
	if (job->prefix) {
		/* A name that was found absent may begin so, too. */
		if (!job->dry_run && job->after_bytes == 0)
			queue_forget_absences(s);
		status = next_topics(s, job, txn, err);
	} else {
		job->exhausted = true;
		status = begin_named(s, job, txn, err);
	}
	shmeta__txn_abort(txn);
	return status;
}

void invalidate_step(struct sync *s, struct admin_job *job)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	enum shmeta_status status;

	if (job->answered)
		return;
	if (sync_now(s) >= job->deadline_ns) {
		(void)snprintf(job->sentence, sizeof job->sentence,
		               "the deadline passed; %llu topics had been asked for",
		               (unsigned long long)job->count.topics);
		invalidate_answer(s, job, SHMETA_ERR_TIMEOUT, job->sentence);
		return;
	}
	if (job->outstanding > 0)
		return;
	if (job->status == SHMETA_OK && !job->exhausted) {
		job->begun = true;
		status = step(s, job, &err);
		if (status != SHMETA_OK) {
			job->status = status;
			(void)snprintf(job->sentence, sizeof job->sentence, "%s",
			               err.text[0] != '\0' ? err.text : "out of memory");
		}
	}
	if (job->outstanding > 0)
		return;
	if (job->status != SHMETA_OK) {
		invalidate_answer(s, job, job->status, job->sentence);
	} else if (job->exhausted) {
		if (job->txn == 0)
			job->txn = sync_committed(s);
		invalidate_answer(s, job, SHMETA_OK, "");
	}
}
