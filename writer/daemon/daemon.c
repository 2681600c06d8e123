/* SPDX-License-Identifier: Apache-2.0
 * Wiring: what happens where, and in which order. */
#include "writer/daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/escape.h"
#include "shm/page/last_start.h"
#include "writer/daemon/daemon_private.h"
#include "writer/daemon/limits.h"
#include "writer/daemon/stats_writer.h"
#include "writer/engine/phase.h"
#include "writer/engine/wake.h"
#include "writer/serve/listen.h"
#include "writer/serve/pins.h"

enum {
	TICK_MS = 250,     /* heartbeat, time limits */
	STATS_TICKS = 4,   /* the stats page */
	EXTEND_TICKS = 20, /* a start that goes on is told to the service manager */
	EXTEND_S = 30
};
enum { KEPT_MEMORY = 32 << 20, LOG_STOP_MS = 2000 };

/* ---- phases */

/* The board has moved already; here is who has to hear of it. */
static void on_phase(struct daemon *d, enum shmeta_phase phase, const char *sentence)
{
	bool changes = phase != d->phase;

	/* Sent before the engine knew of the stop. */
	if (d->stopping && phase < SHMETA_PHASE_DRAINING)
		return;
	/* The engine has nothing to add when it says the phase's own name. */
	if (strcmp(sentence, phase_name(phase)) == 0)
		sentence = "";
	shmeta__say(d->phase_sentence, sizeof(d->phase_sentence), "%s", sentence);
	if (changes) {
		d->phase = phase;
		log_progress_end();
		/* The trouble that made the phase has just been logged in the same words. */
		if (d->phase_sentence[0] == '\0' || strcmp(d->phase_sentence, d->told) != 0)
			log_event(phase == SHMETA_PHASE_DEGRADED ? LOG_WARNING : LOG_INFO, "phase", "%s%s%s",
			          phase_name(phase), d->phase_sentence[0] != '\0' ? ": " : "", d->phase_sentence);
	}
	(void)instance_look(&d->instance);
	if (!d->ready && d->instance.generation_number != 0 &&
	    (phase == SHMETA_PHASE_SERVING || phase == SHMETA_PHASE_DEGRADED)) {
		d->ready = true;
		notify_ready(phase_name(phase));
	}
	daemon_say_status(d);
	daemon_write_stats(d);
}

/* ---- the loop */

static void show_progress(struct daemon *d)
{
	if (!mailbox_take_progress(d->mailbox, &d->rows_done, &d->rows_total))
		return;
	log_progress(d->rows_done, d->rows_total, shmeta__boottime_ns());
}

static void read_mail(struct daemon *d)
{
	for (struct mail *letter = mailbox_take(d->mailbox), *next; letter != NULL; letter = next) {
		next = letter->next;
		switch (letter->kind) {
		case MAIL_PHASE:
			on_phase(d, (enum shmeta_phase)letter->number, letter->text);
			break;
		case MAIL_LOG:
			if (strcmp(letter->event, SYNC_AUDIT_EVENT) == 0) {
				log_audit(letter->text);
				break;
			}
			log_event(letter->number, letter->event, "%s", letter->text);
			shmeta__say(d->told, sizeof(d->told), "%s", letter->text);
			break;
		case MAIL_ANSWER:
			control_answer(d->control, letter->ticket, (enum shmeta_status)letter->number, letter->text,
			               letter->txn, letter->generation, letter->synced_at_ns);
			break;
		case MAIL_WRITTEN:
			control_written(d->control, letter->ticket, letter->text, letter->bytes);
			break;
		case MAIL_STOPPED:
			(void)sd_event_exit(d->event, DAEMON_OK);
			break;
		}
		free(letter);
	}
}

static int on_mail(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void)source;
	(void)fd;
	(void)events;
	read_mail(arg);
	control_end_waits(((struct daemon *)arg)->control);
	return 0;
}

/* What the engine had to say and there was no memory for. Answers come all the same. */
static void watch_mail(struct daemon *d)
{
	uint64_t lost = mailbox_lost(d->mailbox);

	if (lost > d->mail_lost)
		log_event(LOG_WARNING, "out-of-memory",
		          "%" PRIu64 " messages of the engine were lost for want of memory", lost - d->mail_lost);
	d->mail_lost = lost;
}

/* Classes that grow old although nothing is known to fail: a pass that takes too long, a source
 * that hangs. */
static void watch_age(struct daemon *d)
{
	static const char *const names[] = {
#define SHMETA_X(name, number, text, ttl_ms) [number] = text,
		SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
	};
	const struct shmeta_generation *generation = instance_look(&d->instance);
	uint64_t now = shmeta__boottime_ns();
	int late = generation != NULL && d->phase == SHMETA_PHASE_SERVING ? shmeta__late_class(generation, now) : -1;

	if (late >= 0 && !d->late_told)
		log_event(LOG_WARNING, "late",
		          "class %s was last verified %" PRIu64 " s ago; its time to live is %" PRIu64 " s",
		          names[late], (now - shmeta_peek(&generation->stamp[late].synced_at_ns)) / 1000000000,
		          shmeta_peek(&generation->stamp[late].ttl_ns) / 1000000000);
	d->late_told = late >= 0;
}

/* Programs that have the instance open go on; no other one finds it, and nothing else would say
 * so. */
static void watch_directory(struct daemon *d)
{
	bool lost = !instance_is_there(&d->instance);

	if (lost && !d->is_lost)
		log_event(LOG_ERR, "directory",
		          "the instance directory %s was removed, renamed or replaced: no program can open it any "
		          "more; restart shmetad",
		          d->instance.path);
	else if (!lost && d->is_lost)
		log_event(LOG_NOTICE, "directory", "the instance directory %s is there again", d->instance.path);
	d->is_lost = lost;
}

/* Programs read on, and those that are connected stay; no other one can connect. */
static void watch_socket(struct daemon *d)
{
	bool cut = !d->is_lost && !control_is_found(d->control);

	if (cut && !d->is_cut)
		log_event(
			LOG_ERR, "directory",
			"%s/control.sock was removed, renamed or replaced: nobody can connect any more; restart shmetad "
			"and, if there is one, its socket unit",
			d->instance.path);
	else if (!cut && d->is_cut && !d->is_lost)
		log_event(LOG_NOTICE, "directory", "%s/control.sock is there again", d->instance.path);
	d->is_cut = cut;
	d->is_shedding = control_is_shedding(d->control);
}

static int on_tick(sd_event_source *source, uint64_t due_us, void *arg)
{
	struct daemon *d = arg;

	(void)due_us;
	if (instance_heartbeat(&d->instance) && d->sync != NULL)
		sync_wake(d->sync);
	registry_look(d->registry, d->instance.generation_number, daemon_committed(d), shmeta__boottime_ns());
	d->counters.snapshots_revoked += pins_tell_revoked(d->registry, d->config->snapshot_max_age);
	control_sweep(d->control, shmeta__boottime_ns());
	show_progress(d);
	if (d->ticks % STATS_TICKS == 0) {
		daemon_write_stats(d);
		pins_warn(d->registry, &d->pin_warned);
		watch_age(d);
		watch_mail(d);
		watch_directory(d);
		watch_socket(d);
		daemon_end_level(d);
		daemon_say_status(d);
		log_flush_held(shmeta__boottime_ns());
	}
	if (!d->ready && !d->stopping && d->ticks % EXTEND_TICKS == 0)
		notify_extend(EXTEND_S, d->status);
	d->ticks++;
	(void)sd_event_source_set_time_relative(source, TICK_MS * UINT64_C(1000));
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

/* ---- stopping */

static void *run_stopper(void *arg)
{
	struct daemon *d = arg;
	struct mail *letter;

	sync_stop(d->to_stop);
	/* The loop must learn of it whatever the memory says. */
	while ((letter = mailbox_letter(d->mailbox, MAIL_STOPPED, NULL)) == NULL)
		usleep(10000);
	mailbox_post(d->mailbox, letter);
	return NULL;
}

static void begin_stop(struct daemon *d, const char *why)
{
	int error;

	d->stopping = true;
	notify_stopping(why);
	(void)phase_move(d->instance.board, SHMETA_PHASE_DRAINING, shmeta__boottime_ns());
	on_phase(d, SHMETA_PHASE_DRAINING, why);
	control_drain(d->control);
	daemon_write_stats(d);
	d->to_stop = d->sync;
	d->sync = NULL;
	error = pthread_create(&d->stopper, NULL, run_stopper, d);
	if (error != 0) {
		/* Then without a loop in the meantime. */
		log_event(LOG_WARNING, "thread", "cannot create a thread: %s", strerror(error));
		sync_stop(d->to_stop);
		d->to_stop = NULL;
		(void)sd_event_exit(d->event, DAEMON_OK);
	}
}

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	struct daemon *d = arg;

	(void)source;
	if (d->stopping) {
		log_event(LOG_NOTICE, "stopped", "a second signal: stopping at once");
		(void)phase_move(d->instance.board, SHMETA_PHASE_STOPPED, shmeta__boottime_ns());
		log_stop(LOG_STOP_MS);
		_exit(DAEMON_OK);
	}
	begin_stop(d, info->ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
	return 0;
}

/* ---- starting */

/* What the service manager passed to this run. */
struct passed {
	int control_fd; /* the listening socket; -1: none */
	/* Connections of registrations that it kept, and their numbers. */
	uint64_t *numbers;
	int *fds;
	size_t count;
};

static void take_passed(struct daemon *d, struct passed *ret)
{
	char **names = NULL;
	int count = sd_listen_fds_with_names(1, &names);
	uint64_t now = shmeta__boottime_ns();

	*ret = (struct passed){.control_fd = -1};
	ret->numbers = calloc((size_t)(count > 0 ? count : 0) + 1, sizeof(*ret->numbers));
	ret->fds = calloc((size_t)(count > 0 ? count : 0) + 1, sizeof(*ret->fds));
	for (int i = 0; i < count; i++) {
		int fd = SD_LISTEN_FDS_START + i;
		uint64_t number;

		switch (registry_restore(d->registry, names[i], fd, now, &number)) {
		case REGISTRY_PAGE:
			break;
		case REGISTRY_CONNECTION:
			if (ret->numbers != NULL && ret->fds != NULL) {
				ret->numbers[ret->count] = number;
				ret->fds[ret->count++] = fd;
				break;
			}
			/* fall through */
		case REGISTRY_NOT_OURS:
			if (ret->control_fd < 0 && listen_is_ours(fd)) {
				ret->control_fd = fd;
				break;
			}
			log_event(LOG_WARNING, "descriptor", "closed a descriptor of the service manager named '%s'",
			          names[i]);
			close(fd);
			break;
		}
		free(names[i]);
	}
	free(names);
}

static enum shmeta_status start_registry_and_control(struct daemon *d, struct shmeta_err *err)
{
	const struct control_host host = daemon_control_host(d);
	struct control_limits limits;
	enum shmeta_status status;
	struct passed passed;

	status = registry_new(d->instance.board, d->instance.epoch, d->config->store_grace_ms * MS, &d->registry, err);
	if (status != SHMETA_OK)
		return status;
	registry_set_max_age(d->registry, d->config->snapshot_max_age * 1000 * MS);
	registry_set_touch(d->registry, config_touch_ceiling(d->config), REGISTRY_TOUCH_TOTAL);
	take_passed(d, &passed);
	daemon_limits(d->config, &limits);
	status = control_start(d->event, d->instance.dir_fd, d->config->instance_directory, d->config->control_group,
	                       passed.control_fd, &limits, d->registry, &host, &d->counters, &d->control, err);
	for (size_t i = 0; status == SHMETA_OK && i < passed.count; i++)
		control_adopt(d->control, passed.fds[i], passed.numbers[i]);
	if (status == SHMETA_OK)
		registry_restore_end(d->registry, shmeta__boottime_ns());
	free(passed.numbers);
	free(passed.fds);
	return status;
}

static enum shmeta_status make_loop(struct daemon *d, struct shmeta_err *err)
{
	int rc = sd_event_new(&d->event);

	if (rc >= 0)
		rc = sd_event_add_signal(d->event, NULL, SIGTERM, on_stop_signal, d);
	if (rc >= 0)
		rc = sd_event_add_signal(d->event, NULL, SIGINT, on_stop_signal, d);
	if (rc >= 0)
		rc = sd_event_add_signal(d->event, NULL, SIGHUP, daemon_on_reload_signal, d);
	if (rc >= 0)
		rc = sd_event_add_io(d->event, NULL, mailbox_fd(d->mailbox), EPOLLIN, on_mail, d);
	if (rc >= 0)
		rc = sd_event_add_time_relative(d->event, NULL, CLOCK_MONOTONIC, 0, 10000, on_tick, d);
	if (rc >= 0)
		rc = sd_event_set_watchdog(d->event, true);
	return rc < 0 ? shmeta_fail_errno(err, -rc, "cannot make the event loop") : SHMETA_OK;
}

static enum shmeta_status start_engine(struct daemon *d, struct shmeta_err *err)
{
	const struct sync_host host = daemon_engine_host(d);
	struct sync_ttl_override *overrides = calloc(d->config->override_count + 1, sizeof(*overrides));
	struct shmeta_last_start paused;
	struct sync_options options;
	enum shmeta_status status;

	if (overrides == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for the configuration");
	config_sync_options(d->config, overrides, &options);
	options.paused = shmeta__paused_read(d->instance.dir_fd, &paused) ? paused.sentence : NULL;
	/* Above all that a directory that was removed can have had in this boot: 4096 for each
	 * millisecond. */
	options.generations_after = shmeta__boottime_ns() / MS << 12;
	status = sync_start(d->instance.dir_fd, d->instance.board, &options, &host, &d->sync, err);
	free(overrides);
	return status;
}

/* The store's pages and the writer's own are charged to one control group, and stay charged when
 * the writer has been killed. */
static void tell_memory_limit(const struct daemon *d)
{
	struct limits_memory limit;
	char text[512];

	if (limits_memory("/proc/self/cgroup", "/sys/fs/cgroup", &limit) &&
	    limits_memory_short(&limit, d->config->store_max_bytes, text, sizeof(text)))
		log_event(LOG_WARNING, "memory-limit", "%s", text);
}

static void on_log_line(void *arg, int priority, const char *event, const char *line)
{
	struct shmeta_event e = {.kind = SHMETA_EVENT_LOG, .failed = priority <= LOG_ERR};

	shmeta__say(e.text, sizeof(e.text), "%s: %s", event, line);
	daemon_tell(arg, &e);
}

static enum shmeta_status start(struct daemon *d, struct shmeta_err *err)
{
	enum shmeta_status status;
	sigset_t signals;

	/* Before there is a second thread, so that only the loop takes them. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit on file sizes fails with EFBIG */
	/* A batch takes megabytes and gives them back: not to the system, which would hand them out
	 * page by page again. */
	(void)mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY);
	(void)mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
	umask(0027);

	status = instance_open(d->config->instance_directory, &d->instance, err);
	if (status == SHMETA_OK)
		log_listen(on_log_line, d);
	if (status == SHMETA_OK)
		status = mailbox_new(&d->mailbox, err);
	if (status == SHMETA_OK)
		status = make_loop(d, err);
	if (status == SHMETA_OK)
		status = start_registry_and_control(d, err);
	if (status != SHMETA_OK)
		return status;
	log_event(LOG_INFO, "starting", "shmetad %s, instance '%s' in %s, source %s", SHMETA_VERSION_STRING,
	          d->config->instance_name, d->config->instance_directory, d->source);
	tell_memory_limit(d);
	instance_announce(&d->instance);
	daemon_write_stats(d); /* what the former writer said of itself is over */
	notify_extend(EXTEND_S, "starting");
	instance_start_over(&d->instance);
	return start_engine(d, err);
}

static void finish(struct daemon *d)
{
	if (d->to_stop != NULL)
		pthread_join(d->stopper, NULL);
	if (d->sync != NULL)
		sync_stop(d->sync);
	if (d->mailbox != NULL && d->control != NULL)
		read_mail(d); /* answers that came with the end */
	control_stop(d->control);
	d->control = NULL;
	if (d->instance.board != NULL && d->registry != NULL) {
		d->sync = NULL;
		daemon_write_stats(d);
		(void)phase_move(d->instance.board, SHMETA_PHASE_STOPPED, shmeta__boottime_ns());
	}
	registry_free(d->registry);
	most_used_free(&d->most_used);
	mailbox_free(d->mailbox);
	sd_event_unref(d->event);
	log_listen(NULL, NULL);
	instance_close(&d->instance);
	log_progress_end();
	log_flush_held(UINT64_MAX);
	log_stop(LOG_STOP_MS);
}

int daemon_run(const struct config_flags *flags, struct config *config)
{
	struct daemon d = {.flags = *flags,
	                   .config = config,
	                   .instance = {.dir_fd = -1, .lock_fd = -1},
	                   .activity_lock = PTHREAD_MUTEX_INITIALIZER};
	struct shmeta_err err = {0};
	bool started = true;
	int code = DAEMON_OK;

	log_open(stderr, config->instance_name, (int)config->log_level);
	if (!log_start())
		log_event(LOG_WARNING, "thread", "no thread writes the log: who does not read it holds up the daemon");
	config_hide_secrets(config->source_uri, d.source, sizeof(d.source));
	if (start(&d, &err) != SHMETA_OK) {
		started = false;
		code = err.code == SHMETA_ERR_CONFIG ? DAEMON_REFUSED
		       : err.code == SHMETA_ERR_BUSY ? DAEMON_TAKEN
		                                     : DAEMON_FAILED;
		log_event(LOG_ERR, "failed", "cannot start: %s", err.text);
		notify_status(err.text);
		snprintf(d.failure, sizeof(d.failure), "cannot start: %s", err.text);
	} else {
		code = sd_event_loop(d.event);
		if (code < 0) {
			log_event(LOG_ERR, "failed", "the event loop failed: %s", strerror(-code));
			code = DAEMON_FAILED;
		}
	}
	finish(&d);
	if (!started && code != DAEMON_TAKEN)
		instance_start_failed(d.config->instance_directory, err.text);
	config_free(d.config);
	daemon_free_settings(&d);
	return code;
}
