/* SPDX-License-Identifier: Apache-2.0
 * What is asked of the engine beside rows and writes: pages of the source's objects, where epochs end, and that keys are read again.
 *
 * Places are shared by user (shares.h). In each turn a user has a page or some ends of epochs, and writes have theirs in between.
 *
 * An invalidation becomes keys in the refresh queue, each with a ticket of its own, and is answered when the last of them has been. One
 * that names many topics puts them in a few at a time, so that neither the rows of a batch nor those who wait behind it feel how many
 * there are. What is read begins after the request came: a read that is under way is not joined. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/escape.h"
#include "shm/record/key.h"
#include "shm/record/record.h"
#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "writer/keys/queue.h"
#include "writer/serve/shares.h"

enum { SENTENCE = 480, ADMIN_WAITING_MAX = 256, TOPICS_PER_STEP = 64, PARTITIONS_PER_STEP = 4096 };
enum { TURN_WORK = 16, PAGE_WORK = 16, EPOCH_WORK = 1 }; /* of a user in a turn */

enum admin_kind { ADMIN_INVALIDATE, ADMIN_OBJECTS, ADMIN_EPOCH_END };

struct admin_job {
	struct admin_job *next;
	enum admin_kind kind;
	uint32_t uid;
	uint64_t ticket, deadline_ns;
	char who[64];
	struct shmeta_str tenant;

	struct shmeta_str bucket, key; /* objects: those behind this one */
	bool deletable;
	size_t most;

	uint64_t epoch; /* where it ends, in topic and partition_id */

	enum shmeta_class cls; /* invalidation */
	struct shmeta_str topic;
	uint32_t partition_id;
	bool prefix, dry_run;
	bool begun, exhausted, answered;
	char after[SHMETA_NAME_MAX]; /* of topics by prefix: the last one that was asked for */
	size_t after_bytes;
	size_t outstanding; /* keys asked for and not answered */
	struct sync_invalidated count;
	enum shmeta_status status; /* the first failure */
	char sentence[SENTENCE];
	uint64_t txn;

	char text[]; /* what the views show */
};

struct sync_admin {
	pthread_mutex_t lock;
	struct admin_job *first, *last;  /* not taken yet */
	size_t waiting;                  /* these and jobs */
	uint32_t uid[ADMIN_WAITING_MAX]; /* whose they are, in no order */
	uint32_t user_share;
	struct admin_job *jobs; /* the engine's thread: in order of arrival */
};

/* ---- taking requests (any thread) ------------------------------------------------------------------------------------------------ */

enum shmeta_status admin_init(struct sync *s, struct shmeta_err *err)
{
	struct sync_admin *a = calloc(1, sizeof *a);
	int error = a != NULL ? pthread_mutex_init(&a->lock, NULL) : ENOMEM;

	if (error != 0) {
		free(a);
		return shmeta_fail_errno(err, error, "the lock of requests");
	}
	s->admin = a;
	return SHMETA_OK;
}

static void free_jobs(struct admin_job *job)
{
	for (struct admin_job *next; job != NULL; job = next) {
		next = job->next;
		free(job);
	}
}

void admin_free(struct sync *s)
{
	struct sync_admin *a = s->admin;

	if (a == NULL)
		return;
	free_jobs(a->first);
	free_jobs(a->jobs);
	(void)pthread_mutex_destroy(&a->lock);
	free(a);
	s->admin = NULL;
}

static struct shmeta_str keep(struct admin_job *job, size_t *at, struct shmeta_str text)
{
	struct shmeta_str copy = {job->text + *at, text.bytes};

	if (text.bytes > 0)
		memcpy(job->text + *at, text.data, text.bytes);
	*at += text.bytes;
	return copy;
}

static struct admin_job *job_new(uint32_t uid, size_t text_bytes, uint64_t deadline_ns, uint64_t ticket)
{
	struct admin_job *job = calloc(1, sizeof *job + text_bytes + 1);

	if (job != NULL) {
		job->uid = uid;
		job->deadline_ns = deadline_ns;
		job->ticket = ticket;
	}
	return job;
}

void admin_set_limits(struct sync *s, const struct sync_options *options)
{
	(void)pthread_mutex_lock(&s->admin->lock);
	s->admin->user_share = options->user_share;
	(void)pthread_mutex_unlock(&s->admin->lock);
}

/* Under lock. Root and the daemon's user are bound by the whole only. */
static bool has_place(const struct sync_admin *a, uint32_t uid)
{
	size_t mine = 0;

	if (uid == 0 || uid == geteuid())
		return a->waiting < ADMIN_WAITING_MAX;
	for (size_t i = 0; i < a->waiting; i++)
		mine += a->uid[i] == uid;
	return share_left(ADMIN_WAITING_MAX, a->user_share, mine, a->waiting) > 0;
}

static void give_place_back(struct sync_admin *a, uint32_t uid)
{
	size_t i = 0;

	(void)pthread_mutex_lock(&a->lock);
	while (a->uid[i] != uid)
		i++;
	a->uid[i] = a->uid[--a->waiting];
	(void)pthread_mutex_unlock(&a->lock);
}

static enum shmeta_status submit(struct sync *s, struct admin_job *job)
{
	struct sync_admin *a = s->admin;
	bool full;

	(void)pthread_mutex_lock(&a->lock);
	full = !has_place(a, job->uid);
	if (!full) {
		*(a->last != NULL ? &a->last->next : &a->first) = job;
		a->last = job;
		a->uid[a->waiting++] = job->uid;
	}
	(void)pthread_mutex_unlock(&a->lock);
	if (full) {
		free(job);
		return SHMETA_ERR_BUSY;
	}
	sync_wake(s);
	return SHMETA_OK;
}

enum shmeta_status sync_list_objects(struct sync *s, const struct sync_object_list *list, uint64_t deadline_ns,
                                     uint64_t ticket)
{
	struct admin_job *job = job_new(
		list->uid, list->tenant.bytes + list->after_bucket.bytes + list->after_key.bytes, deadline_ns, ticket);
	size_t at = 0;

	if (job == NULL)
		return SHMETA_ERR_NO_MEMORY;
	job->kind = ADMIN_OBJECTS;
	job->tenant = keep(job, &at, list->tenant);
	job->bucket = keep(job, &at, list->after_bucket);
	job->key = keep(job, &at, list->after_key);
	job->deletable = list->deletable;
	job->most = list->most;
	return submit(s, job);
}

enum shmeta_status sync_epoch_end(struct sync *s, const struct backend_epoch *ask, uint32_t uid, uint64_t deadline_ns,
                                  uint64_t ticket)
{
	struct admin_job *job = job_new(uid, ask->tenant.bytes + ask->topic.bytes, deadline_ns, ticket);
	size_t at = 0;

	if (job == NULL)
		return SHMETA_ERR_NO_MEMORY;
	job->kind = ADMIN_EPOCH_END;
	job->tenant = keep(job, &at, ask->tenant);
	job->topic = keep(job, &at, ask->topic);
	job->partition_id = ask->partition_id;
	job->epoch = ask->epoch;
	return submit(s, job);
}

enum shmeta_status sync_invalidate(struct sync *s, const struct sync_invalidation *what, uint64_t deadline_ns,
                                   const char *who, uint64_t ticket)
{
	struct admin_job *job = job_new(what->uid, what->tenant.bytes + what->topic.bytes, deadline_ns, ticket);
	size_t at = 0;

	if (job == NULL)
		return SHMETA_ERR_NO_MEMORY;
	job->tenant = keep(job, &at, what->tenant);
	job->topic = keep(job, &at, what->topic);
	job->cls = what->cls;
	job->partition_id = what->partition_id;
	job->prefix = what->prefix;
	job->dry_run = what->dry_run;
	(void)snprintf(job->who, sizeof job->who, "%s", who);
	return submit(s, job);
}

/* ---- what the source answers at once (the engine's thread) -------------------------------------------------------------------------- */

/* The answer of a source that has no such thing, or failed. */
static void answer_failed(struct sync *s, const struct admin_job *job, enum shmeta_status status, const char *sentence)
{
	s->host.answer(s->host.arg, job->ticket, status == SHMETA_ERR_FULL ? SHMETA_ERR_SOURCE : status, sentence, 0, 0,
	               0);
	if (status == SHMETA_ERR_FULL)
		health_source_full(s, sentence);
	else if (status == SHMETA_ERR_SOURCE)
		sync_source_failed(s, SYNC_JOB_OPEN, status, sentence);
}

/* What the engine said of it. */
static void answer_error(struct sync *s, const struct admin_job *job, enum shmeta_status status,
                         const struct backend_error *err)
{
	if (status == SHMETA_ERR_SOURCE && err->alone)
		s->host.answer(s->host.arg, job->ticket, status, err->text, 0, 0, 0);
	else
		answer_failed(s, job, status, err->text);
}

/* A call that met another source than was last spoken of is not answered before that one was read aside. */
static bool must_wait(struct sync *s, enum shmeta_status status)
{
	return status == SHMETA_ERR_CONFLICT && origin_is_foreign(s) && !source_is_away(s);
}

static enum shmeta_status conflict_is_away(enum shmeta_status status)
{
	return status == SHMETA_ERR_CONFLICT ? SHMETA_ERR_SOURCE : status;
}

/* false: it waits, for a source that is read aside first. */
static bool tell_epoch_end(struct sync *s, const struct admin_job *job)
{
	const struct backend_epoch ask = {
		.tenant = job->tenant, .topic = job->topic, .partition_id = job->partition_id, .epoch = job->epoch};
	const struct backend_admin *admin = s->engine->admin;
	struct backend_epoch_end end = {.epoch = 0};
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;

	if (admin == NULL || admin->epoch_end == NULL) {
		answer_failed(s, job, SHMETA_ERR_UNSUPPORTED, "the source keeps no leader epochs");
		return true;
	}
	status = admin->epoch_end(s->backend, &ask, &end, &err);
	if (status == SHMETA_ERR_CONFLICT && refresh_meet(s))
		status = admin->epoch_end(s->backend, &ask, &end, &err);
	if (must_wait(s, status))
		return false;
	status = conflict_is_away(status);
	if (status == SHMETA_OK)
		s->host.answer(s->host.arg, job->ticket, status, "", end.end_offset, end.epoch, 0);
	else
		answer_error(s, job, status, &err);
	return true;
}

/* A page as it travels. */
struct page {
	struct sync *s;
	size_t count, most, bytes;
	bool more;
	_Alignas(8) uint8_t rows[SHMETA_FRAME_MAX - sizeof(struct shmeta_frame_object_list)];
};

static enum shmeta_status on_object(void *arg, const struct shmeta_object_info *info)
{
	struct page *page = arg;
	size_t bytes;

	if (info->object.s3_bucket.bytes > SHMETA_STRING_MAX || info->object.s3_key.bytes > SHMETA_STRING_MAX) {
		char text[160], shown[80];

		(void)snprintf(
			text, sizeof text, "an object's bucket or key is longer than %d bytes: %s", SHMETA_STRING_MAX,
			shmeta__escape(shown, sizeof shown, info->object.s3_key.data, info->object.s3_key.bytes));
		sync_log(page->s, LOG_WARNING, "object_left_out", "%s", text);
		return SHMETA_OK;
	}
	bytes = page->count < page->most
	                ? shmeta__object_encode(info, page->rows + page->bytes, sizeof page->rows - page->bytes)
	                : 0;
	if (bytes == 0) {
		page->more = true;
		return SHMETA_END;
	}
	page->bytes += bytes;
	page->count++;
	return SHMETA_OK;
}

/* false: it waits, for a source that is read aside first. */
static bool list_objects(struct sync *s, const struct admin_job *job)
{
	const struct backend_object_list list = {.tenant = job->tenant,
	                                         .all = !job->deletable,
	                                         .now_ms = sync_wall_ms(s),
	                                         .grace_ms = (int64_t)s->options.object_grace_ms,
	                                         .after_bucket = job->bucket,
	                                         .after_key = job->key,
	                                         /* One more, to learn whether there is one. */
	                                         .most = job->most > 0 ? job->most + 1 : SIZE_MAX};
	struct page *page = malloc(sizeof *page);
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;

	if (s->engine->admin == NULL || s->engine->admin->objects == NULL) {
		free(page);
		answer_failed(s, job, SHMETA_ERR_UNSUPPORTED, "the source keeps no objects");
		return true;
	}
	if (page == NULL) {
		answer_failed(s, job, SHMETA_ERR_NO_MEMORY, "no memory for a list of objects");
		return true;
	}
	page->s = s;
	page->count = page->bytes = 0;
	page->most = job->most > 0 ? job->most : SIZE_MAX;
	page->more = false;
	status = s->engine->admin->objects(s->backend, &list, on_object, page, &err);
	if (status == SHMETA_ERR_CONFLICT && refresh_meet(s))
		status = s->engine->admin->objects(s->backend, &list, on_object, page, &err);
	if (must_wait(s, status)) {
		free(page);
		return false;
	}
	status = conflict_is_away(status);
	if (status == SHMETA_OK || status == SHMETA_END)
		s->host.objects(s->host.arg, job->ticket, page->rows, page->bytes, page->count, page->more);
	else
		answer_error(s, job, status, &err);
	free(page);
	return true;
}

/* ---- invalidation (the engine's thread) --------------------------------------------------------------------------------------------- */

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

/* Once. The job lives on until its last key has been answered. */
static void finish(struct sync *s, struct admin_job *job, enum shmeta_status status, const char *sentence)
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

/* Rows of the store, as count_all() counts them: not what the topic says of itself. In bounded mode these are what is read again, and
 * not all that the topic has. */
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

/* One topic or partition: what the store has of it is counted, but whatever the source has of it is read. */
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

static void work_on(struct sync *s, struct admin_job *job)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	enum shmeta_status status;

	if (job->answered)
		return;
	if (sync_now(s) >= job->deadline_ns) {
		(void)snprintf(job->sentence, sizeof job->sentence,
		               "the deadline passed; %llu topics had been asked for",
		               (unsigned long long)job->count.topics);
		finish(s, job, SHMETA_ERR_TIMEOUT, job->sentence);
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
		finish(s, job, job->status, job->sentence);
	} else if (job->exhausted) {
		if (job->txn == 0)
			job->txn = sync_committed(s);
		finish(s, job, SHMETA_OK, "");
	}
}

/* What was asked for since the last time, behind what is under way. */
static void take_new(struct sync *s)
{
	struct sync_admin *a = s->admin;
	struct admin_job **end = &a->jobs;

	while (*end != NULL)
		end = &(*end)->next;
	(void)pthread_mutex_lock(&a->lock);
	*end = a->first;
	a->first = a->last = NULL;
	(void)pthread_mutex_unlock(&a->lock);
}

static void let_go(struct sync *s, struct admin_job **at)
{
	struct admin_job *job = *at;

	*at = job->next;
	give_place_back(s->admin, job->uid);
	free(job);
}

bool admin_waiting(struct sync *s)
{
	bool waiting;

	(void)pthread_mutex_lock(&s->admin->lock);
	waiting = s->admin->waiting > 0;
	(void)pthread_mutex_unlock(&s->admin->lock);
	return waiting;
}

/* Who has had how much of a turn. */
struct turn_of {
	uint32_t uid, work;
};

/* Is this job beyond what its user has in this turn? */
static bool turn_is_over(struct turn_of *turns, size_t *count, const struct admin_job *job)
{
	size_t i = 0;

	while (i < *count && turns[i].uid != job->uid)
		i++;
	if (i == *count)
		turns[(*count)++] = (struct turn_of){.uid = job->uid};
	if (turns[i].work >= TURN_WORK)
		return true;
	turns[i].work += job->kind == ADMIN_OBJECTS ? PAGE_WORK : EPOCH_WORK;
	return false;
}

void admin_work(struct sync *s)
{
	struct turn_of turns[ADMIN_WAITING_MAX];
	size_t users = 0;
	bool one = false; /* an invalidation has its turn: one after the other */

	take_new(s);
	for (struct admin_job **at = &s->admin->jobs; *at != NULL && !source_is_away(s);) {
		struct admin_job *job = *at;

		if (job->kind != ADMIN_INVALIDATE) {
			if (sync_now(s) >= job->deadline_ns) {
				answer_failed(s, job, SHMETA_ERR_TIMEOUT, "the deadline passed before it was begun");
			} else if (turn_is_over(turns, &users, job)) {
				sync_wake_at(s, sync_now(s));
				at = &job->next;
				continue;
			} else if (!(job->kind == ADMIN_OBJECTS ? list_objects(s, job) : tell_epoch_end(s, job))) {
				break;
			}
			let_go(s, at);
			continue;
		}
		if (!one || sync_now(s) >= job->deadline_ns)
			work_on(s, job);
		one |= !job->answered;
		if (!job->answered)
			sync_wake_at(s, job->deadline_ns);
		if (job->answered && job->outstanding == 0)
			let_go(s, at);
		else
			at = &job->next;
	}
}

void admin_answer_all(struct sync *s, enum shmeta_status status, const char *sentence)
{
	take_new(s);
	for (struct admin_job **at = &s->admin->jobs; *at != NULL;) {
		struct admin_job *job = *at;

		if (job->kind != ADMIN_INVALIDATE)
			s->host.answer(s->host.arg, job->ticket, status, sentence, 0, 0, 0);
		else
			finish(s, job, status, sentence);
		if (job->outstanding == 0)
			let_go(s, at);
		else
			at = &job->next;
	}
}
