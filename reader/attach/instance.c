/* SPDX-License-Identifier: Apache-2.0
 * shmeta_open() and what concerns an instance as a whole. */
#include "base/row_limits.h"
#include "reader/attach/attach.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long an open waits for the writer to answer its registration. A writer that is stopped costs
 * each open this much. */
static const uint64_t REGISTER_WITHIN_NS = 200 * MILLION;
static const uint64_t ALIVE_WITHIN_NS = UINT64_C(5000000000);

enum { INSTANCE_MAX = 255 /* bytes of its name */, LOOK_MS = 10 /* between looks for a writer */ };

/* ---- last error ---- */

enum shmeta_status shmeta__instance_fail(struct shmeta *instance, const struct shmeta_err *err)
{
	(void)pthread_mutex_lock(&instance->err_lock);
	instance->err = *err;
	(void)pthread_mutex_unlock(&instance->err_lock);
	return err->code;
}

enum shmeta_status shmeta__instance_tenant(const struct shmeta *instance, struct shmeta_err *err)
{
	if (!instance->no_tenant)
		return SHMETA_OK;
	return shmeta_fail(
		err, SHMETA_ERR_INVALID_ARGUMENT,
		"the instance was opened for a tenant that cannot exist: it has 1 to %d bytes of UTF-8 without "
		"control characters",
		SHMETA_TENANT_MAX);
}

const char *shmeta_last_error(struct shmeta *instance, char *ret, size_t bytes)
{
	if (bytes == 0 || ret == NULL)
		return ret;
	ret[0] = 0;
	/* The parent's lock may be held for ever in a child. */
	if (instance == NULL || shmeta__forked(instance))
		return ret;
	(void)pthread_mutex_lock(&instance->err_lock);
	(void)snprintf(ret, bytes, "%s", instance->err.text);
	(void)pthread_mutex_unlock(&instance->err_lock);
	return ret;
}

/* ---- open and close ---- */

static void process_name(char *out, size_t bytes)
{
	ssize_t n = -1;
	int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		n = read(fd, out, bytes - 1);
		(void)close(fd);
	}
	if (n <= 0) {
		(void)snprintf(out, bytes, "?");
		return;
	}
	out[n] = 0;
	out[strcspn(out, "\n")] = 0;
}

static enum shmeta_status judge_options(const struct shmeta_options *o, struct shmeta_err *err)
{
	const uint32_t flags = SHMETA_OPEN_UNREGISTERED | SHMETA_OPEN_PRECISE_CLOCK | SHMETA_OPEN_NO_FILL;

	if (o->size < sizeof *o)
		return shmeta_fail(
			err, SHMETA_ERR_INVALID_ARGUMENT,
			"options: size is %zu, this library's struct shmeta_options has %zu bytes: set it to sizeof",
			o->size, sizeof *o);
	if ((o->flags & ~flags) != 0)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "options: unknown flags 0x%x", o->flags & ~flags);
	if (o->threads > THREADS_MAX)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "options: threads is %u, at most %u are possible",
		                   o->threads, THREADS_MAX);
	if (o->directory != NULL && o->directory[0] == 0)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "options: directory is empty");
	if (o->instance != NULL && (o->instance[0] == 0 || strchr(o->instance, '/') != NULL || o->instance[0] == '.' ||
	                            strlen(o->instance) > INSTANCE_MAX))
		return shmeta_fail(
			err, SHMETA_ERR_INVALID_ARGUMENT,
			"options: instance is the name of a directory below /run/shmeta: 1 to 255 bytes, no slash, no dot "
			"in front");
	return SHMETA_OK;
}

static void wait_for_registration(struct core *core)
{
	uint64_t now = shmeta__monotonic_ns(), until = now + REGISTER_WITHIN_NS;
	int fd;

	do {
		(void)pthread_mutex_lock(&core->lock);
		shmeta__registration_step(core, now);
		fd = core->pending_fd;
		(void)pthread_mutex_unlock(&core->lock);
		/* Nobody listens, or the writer refused: readers follow the grace rules and try
		 * again. */
		if (fd < 0)
			return;
		(void)poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1,
		           (int)((until - now + MILLION - 1) / MILLION));
		now = shmeta__monotonic_ns();
	} while (now < until);
}

static void instance_free(struct shmeta *instance)
{
	(void)pthread_mutex_destroy(&instance->err_lock);
	(void)pthread_mutex_destroy(&instance->lock);
	free(instance);
}

static enum shmeta_status open_instance(const struct shmeta_options *o, struct shmeta **ret, struct shmeta_err *err)
{
	struct shmeta *instance;
	enum shmeta_status status;
	char path[sizeof "/run/shmeta/" + INSTANCE_MAX];
	const char *tenant = o->tenant != NULL ? o->tenant : SHMETA_DEFAULT_TENANT;

	status = judge_options(o, err);
	if (status != SHMETA_OK)
		return status;
	instance = calloc(1, sizeof *instance);
	if (instance == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	instance->refs = 1;
	instance->flags = o->flags;
	instance->threads = o->threads != 0 ? o->threads : THREADS_DEFAULT;
	(void)pthread_mutex_init(&instance->lock, NULL);
	(void)pthread_mutex_init(&instance->err_lock, NULL);
	instance->tenant_bytes = strnlen(tenant, SHMETA_TENANT_MAX + 1);
	/* An invalid tenant has no data, like one that does not exist. */
	if (shmeta__name_error(tenant, instance->tenant_bytes, SHMETA_TENANT_MAX) != NULL) {
		instance->no_tenant = 1;
		instance->tenant_bytes = 0;
	}
	memcpy(instance->tenant, tenant, instance->tenant_bytes);
	if (o->agent != NULL)
		(void)snprintf(instance->agent, sizeof instance->agent, "%s", o->agent);
	else
		process_name(instance->agent, sizeof instance->agent);
	(void)snprintf(path, sizeof path, "/run/shmeta/%s", o->instance != NULL ? o->instance : "default");
	if (o->directory != NULL && strlen(o->directory) >= PATH_BYTES)
		status = shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                     "options: directory has %zu bytes, at most %d fit", strlen(o->directory),
		                     PATH_BYTES - 1);
	if (status == SHMETA_OK)
		status = shmeta__fork_token(shmeta__core_forget_all, &instance->fork_word, &instance->fork_token, err);
	if (status == SHMETA_OK)
		status = shmeta__core_open(o->directory != NULL ? o->directory : path, instance->agent,
		                           instance->threads, &instance->core, err);
	if (status != SHMETA_OK) {
		instance_free(instance);
		return status;
	}
	*ret = instance;
	return SHMETA_OK;
}

static enum shmeta_status open_once(const struct shmeta_options *o, struct shmeta **ret, struct shmeta_err *err)
{
	struct shmeta *instance = NULL;
	enum shmeta_status status = open_instance(o, &instance, err);
	struct env *env = NULL;

	if (status != SHMETA_OK)
		return status;
	/* Report a store that cannot be mapped now, not at the first begin. A store that does not
	 * exist yet is no error. */
	status = shmeta__core_env(instance->core, 1, &env, err);
	shmeta__env_unref(env);
	if (status == SHMETA_OK || status == SHMETA_UNKNOWN || status == SHMETA_ERR_CONTENDED) {
		*ret = instance;
		return SHMETA_OK;
	}
	shmeta_close(instance);
	return status;
}

static int is_served(struct shmeta *instance)
{
	struct shmeta_state state = {.size = sizeof state};

	return shmeta_get_state(instance, &state) == SHMETA_OK && state.writer_alive &&
	       (state.phase == SHMETA_PHASE_SERVING || state.phase == SHMETA_PHASE_DEGRADED);
}

/* Until there is an instance, and then until its writer serves. */
static enum shmeta_status open_waiting(const struct shmeta_options *o, struct shmeta **ret, struct shmeta_err *err)
{
	uint64_t deadline = shmeta__deadline_of(o->wait_ms);
	enum shmeta_status status;

	for (;;) {
		status = open_once(o, ret, err);
		if (status == SHMETA_OK && is_served(*ret))
			return SHMETA_OK;
		/* A board that is being made is none yet. */
		if (status != SHMETA_OK && status != SHMETA_ERR_NOT_RUNNING && status != SHMETA_ERR_CORRUPT)
			return status;
		if (shmeta__monotonic_ns() >= deadline)
			break;
		/* Anew: the directory may be made again by the writer that is to come. */
		if (status == SHMETA_OK)
			shmeta_close(*ret);
		(void)poll(NULL, 0, LOOK_MS);
	}
	if (status != SHMETA_OK)
		return status;
	shmeta_fail(err, SHMETA_ERR_TIMEOUT, "%s: the writer does not serve yet", (*ret)->core->directory);
	shmeta_close(*ret);
	return SHMETA_ERR_TIMEOUT;
}

enum shmeta_status shmeta_open(const struct shmeta_options *options, struct shmeta **ret)
{
	static const struct shmeta_options defaults = {.size = sizeof defaults};
	const struct shmeta_options *o = options != NULL ? options : &defaults;
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct shmeta *instance = NULL;

	if (ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = o->size >= sizeof *o && o->wait_ms != 0 ? open_waiting(o, &instance, &err)
	                                                 : open_once(o, &instance, &err);
	if (status != SHMETA_OK) {
		/* A caller built with an older header has no error field at this offset. */
		if (o->size >= sizeof *o && o->error != NULL && o->error_bytes != 0)
			(void)snprintf(o->error, o->error_bytes, "%s", err.text);
		return status;
	}
	if ((o->flags & SHMETA_OPEN_UNREGISTERED) == 0)
		wait_for_registration(instance->core);
	*ret = instance;
	return SHMETA_OK;
}

void shmeta__instance_ref(struct shmeta *instance)
{
	(void)pthread_mutex_lock(&instance->lock);
	instance->refs++;
	(void)pthread_mutex_unlock(&instance->lock);
}

/* A forked child frees only the handles themselves: the registration page was not inherited, and
 * something else may be mapped at its address; threads that the child does not have may hold the
 * locks; memory may have been in the middle of a change. The mappings stay; their pages are shared
 * anyway, and exec or exit removes them. Copies of connections are closed, so that the writer
 * notices when the parent dies. */
static void unref_in_child(struct shmeta *instance)
{
	shmeta__core_close_inherited(instance->core);
	if (--instance->refs == 0)
		free(instance);
}

void shmeta__instance_unref(struct shmeta *instance)
{
	int last;

	if (shmeta__forked(instance)) {
		unref_in_child(instance);
		return;
	}
	(void)pthread_mutex_lock(&instance->lock);
	last = --instance->refs == 0;
	(void)pthread_mutex_unlock(&instance->lock);
	if (!last)
		return;
	shmeta__core_unref(instance->core, instance->threads);
	instance_free(instance);
}

void shmeta_close(struct shmeta *instance)
{
	if (instance != NULL)
		shmeta__instance_unref(instance);
}

struct core *shmeta__instance_core(struct shmeta *instance)
{
	struct core *core;

	(void)pthread_mutex_lock(&instance->lock);
	core = shmeta__core_ref(instance->core, 0);
	(void)pthread_mutex_unlock(&instance->lock);
	return core;
}

struct core *shmeta__instance_follow(struct shmeta *instance, struct core *from)
{
	struct core *found = NULL, *unused = NULL, *now;
	struct shmeta_err err = {0};

	/* Open files without the lock. Two threads that do this at once find the same core. */
	if (shmeta__core_open(from->directory, instance->agent, instance->threads, &found, &err) != SHMETA_OK)
		(void)shmeta__instance_fail(instance, &err);
	/* In a directory such as /dev/shm anybody can take a name that became free. */
	if (found != NULL && found->owner != from->owner && found->owner != 0) {
		(void)shmeta_fail(&err, SHMETA_ERR_PERMISSION,
		                  "%s: was made anew by user %u, it was one of user %u before: not followed; open it "
		                  "again if that is meant",
		                  from->directory, found->owner, from->owner);
		(void)shmeta__instance_fail(instance, &err);
		shmeta__core_unref(found, instance->threads);
		found = NULL;
	}
	(void)pthread_mutex_lock(&instance->lock);
	if (found != NULL && instance->core == from) {
		shmeta_poke(&instance->core, found);
		unused = from;
		for (struct attached *r = instance->readers; r != NULL; r = r->next)
			shmeta_poke(&r->attention, 1);
	} else {
		unused = found;
	}
	now = shmeta__core_ref(instance->core, 0);
	(void)pthread_mutex_unlock(&instance->lock);
	if (unused != NULL)
		shmeta__core_unref(unused, instance->threads);
	return now;
}

enum shmeta_status shmeta__instance_answered(struct shmeta *instance, struct core **core, struct shmeta_err *err)
{
	struct core *asked = *core;

	if (!shmeta__core_was_replaced(asked))
		return SHMETA_OK;
	*core = shmeta__instance_follow(instance, asked);
	shmeta__core_unref(asked, 0);
	if (*core != asked)
		return SHMETA_OK;
	err->code = SHMETA_ERR_WRITER_AWAY;
	(void)shmeta_last_error(instance, err->text, sizeof err->text);
	shmeta__core_unref(*core, 0);
	*core = NULL;
	return err->code;
}

void shmeta__instance_add(struct shmeta *instance, struct attached *r, const struct core *core)
{
	(void)pthread_mutex_lock(&instance->lock);
	r->next = instance->readers;
	r->link = &instance->readers;
	if (r->next != NULL)
		r->next->link = &r->next;
	instance->readers = r;
	/* The instance may have followed since the reader was made. */
	shmeta_poke(&r->attention, instance->core != core);
	(void)pthread_mutex_unlock(&instance->lock);
}

void shmeta__instance_remove(struct shmeta *instance, struct attached *r)
{
	(void)pthread_mutex_lock(&instance->lock);
	*r->link = r->next;
	if (r->next != NULL)
		r->next->link = r->link;
	instance->reader_count--;
	(void)pthread_mutex_unlock(&instance->lock);
}

/* ---- state ---- */

static int32_t in_32_bits(int64_t ms)
{
	return ms > INT32_MAX ? INT32_MAX : ms < -INT32_MAX ? -INT32_MAX : (int32_t)ms;
}

enum shmeta_status shmeta_get_state(struct shmeta *instance, struct shmeta_state *ret)
{
	struct shmeta_state state = {.size = sizeof state};
	const struct shmeta_board *board;
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct env *env = NULL;
	struct core *core;
	uint64_t now, synced;
	uint32_t phase;

	if (instance == NULL || ret == NULL || ret->size < sizeof *ret)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	board = core->board;
	now = shmeta__board_now_ns(board);
	phase = shmeta_observe(&board->phase);
	state.phase = phase <= SHMETA_PHASE_STOPPED ? (enum shmeta_phase)phase : SHMETA_PHASE_DEGRADED;
	state.writer_pid = (uint32_t)shmeta_peek(&board->writer_pid);
	state.heartbeat_age_ns = shmeta__age(now, shmeta_observe(&board->heartbeat_ns));
	state.writer_alive = state.heartbeat_age_ns < ALIVE_WITHIN_NS && state.phase != SHMETA_PHASE_STOPPED;
	state.epoch = shmeta_peek(&board->epoch);
	status = shmeta__core_env(core, 1, &env, &err);
	if (status == SHMETA_OK) {
		state.generation = env->generation;
		state.committed_txn = shmeta_observe(&env->gen->committed);
		state.source_ahead_ms = in_32_bits(shmeta_peek(&env->gen->source_ahead_ms));
	}
	for (unsigned i = 0; i < SHMETA_CLASS_COUNT; i++) {
		synced = env == NULL || env->other_boot ? 0 : shmeta_observe(&env->gen->stamp[i].synced_at_ns);
		state.class_age_ns[i] = synced == 0                         ? UINT64_MAX
		                        : shmeta__stamp_is_unproved(synced) ? shmeta__stamp_unproved_age(now, synced)
		                                                            : shmeta__age(now, synced);
	}
	shmeta__env_unref(env);
	shmeta__core_unref(core, 0);
	if (status != SHMETA_OK && status != SHMETA_UNKNOWN)
		return shmeta__instance_fail(instance, &err);
	state.size = ret->size;
	*ret = state;
	return SHMETA_OK;
}

enum shmeta_status shmeta_changed_txn(struct shmeta *instance, enum shmeta_class cls, uint64_t *ret_txn)
{
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;
	struct env *env;

	if (instance == NULL || ret_txn == NULL || (unsigned)cls >= SHMETA_CLASS_COUNT)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	status = shmeta__core_env(core, 1, &env, &err);
	if (status == SHMETA_OK) {
		*ret_txn = shmeta_observe(&env->gen->stamp[cls].changed_txn);
		shmeta__env_unref(env);
	}
	shmeta__core_unref(core, 0);
	return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
}
