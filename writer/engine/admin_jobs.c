/* SPDX-License-Identifier: Apache-2.0
 * What is asked of the engine beside rows and writes: pages of the source's objects, where epochs
 * end, and that keys are read again.
 *
 * Places are shared by user (shares.h). In each turn a user has a page or some ends of epochs, and
 * writes have theirs in between. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/escape.h"
#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "writer/engine/invalidate.h"
#include "writer/keys/refresh.h"
#include "writer/serve/shares.h"

enum { ADMIN_WAITING_MAX = 256 };
enum { TURN_WORK = 16, PAGE_WORK = 16, EPOCH_WORK = 1 }; /* of a user in a turn */

struct sync_admin {
	pthread_mutex_t lock;
	struct admin_job *first, *last;  /* not taken yet */
	size_t waiting;                  /* these and jobs */
	uint32_t uid[ADMIN_WAITING_MAX]; /* whose they are, in no order */
	uint32_t user_share;
	struct admin_job *jobs; /* the engine's thread: in order of arrival */
};

/* ---- taking requests (any thread) ---- */

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

/* ---- what the source answers at once (the engine's thread) ---- */

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

/* A call that met another source than was last spoken of is not answered before that one was read
 * whole. */
static bool must_wait(struct sync *s, enum shmeta_status status)
{
	return status == SHMETA_ERR_CONFLICT && origin_is_foreign(s) && !source_is_away(s);
}

static enum shmeta_status conflict_is_away(enum shmeta_status status)
{
	return status == SHMETA_ERR_CONFLICT ? SHMETA_ERR_SOURCE : status;
}

/* false: it waits, for a source that is read whole first. */
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
	else if (status == SHMETA_ABSENT)
		s->host.answer(s->host.arg, job->ticket, status, err.text, 0, end.epoch, 0);
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

/* false: it waits, for a source that is read whole first. */
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

/* ---- turns (the engine's thread) ---- */

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
			invalidate_step(s, job);
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
			invalidate_answer(s, job, status, sentence);
		if (job->outstanding == 0)
			let_go(s, at);
		else
			at = &job->next;
	}
}
