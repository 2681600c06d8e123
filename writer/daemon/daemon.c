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

#include <jansson.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/escape.h"
#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "writer/daemon/limits.h"
#include "writer/daemon/log.h"
#include "writer/daemon/mailbox.h"
#include "writer/daemon/notify.h"
#include "writer/daemon/stats_writer.h"
#include "writer/daemon/takeover.h"
#include "writer/engine/phase.h"
#include "writer/engine/sync.h"
#include "writer/serve/pins.h"
#include "writer/serve/registry.h"
#include "writer/serve/serve.h"

enum {
	TICK_MS = 250,     /* heartbeat, time limits */
	STATS_TICKS = 4,   /* the stats page */
	EXTEND_TICKS = 20, /* a start that goes on is told to the service manager */
	EXTEND_S = 30
};
enum { KEPT_MEMORY = 32 << 20 };
enum { FEW_ANSWERS = 4 }; /* of a round; more are held until the last one is there, and wake the loop once */
#define MS UINT64_C(1000000)

struct daemon {
	struct config_flags flags;
	struct config *config;
	struct instance instance;
	sd_event *event;
	struct mailbox *mailbox;
	uint64_t mail_lost;
	struct registry *registry;
	struct control *control;
	struct control_counters counters;
	struct sync *sync; /* NULL before it has started and once it is being stopped */
	struct sync_counters sync_counters;
	char source[4200], source_status[SHMETA_STATS_TEXT];

	enum shmeta_phase phase; /* as far as the letters have told; the board may be ahead */
	char phase_sentence[SHMETA_STATS_TEXT];
	char failure[SHMETA_STATS_TEXT]; /* why it did not start */
	char told[SHMETA_STATS_TEXT];    /* the engine's last line in the log */
	bool ready;                      /* READY=1 was said */
	char status[1024];
	uint64_t ticks;
	uint64_t rows_done, rows_total;
	bool pin_warned, late_told;

	char reload_sentence[1024];
	enum shmeta_status reload_status;
	uint64_t reloaded_at_ns; /* 0: never */
	char restart_keys[512];

	pthread_t stopper;
	bool stopping;
	struct sync *to_stop;
};

/* ---- phases ------------------------------------------------------------------------------------------------------------- */

static void say_status(struct daemon *d)
{
	const struct sync_counters *c = &d->sync_counters;
	char text[2048], line[sizeof(d->status)];

	if (d->phase == SHMETA_PHASE_LOADING && d->rows_total > 0)
		snprintf(text, sizeof(text), "loading: %" PRIu64 " of %" PRIu64 " rows", d->rows_done, d->rows_total);
	else if (d->phase == SHMETA_PHASE_LOADING && d->rows_done > 0)
		snprintf(text, sizeof(text), "loading: %" PRIu64 " rows", d->rows_done);
	else if (d->phase == SHMETA_PHASE_SERVING)
		snprintf(text, sizeof(text),
		         "serving generation %" PRIu64 ": %" PRIu64 " topics, %" PRIu64 " partitions, %" PRIu64
		         " segments; %" PRIu64 " readers",
		         d->instance.generation_number, c->topics, c->partitions, c->segments,
		         d->counters.registrations);
	else
		snprintf(text, sizeof(text), "%s%s%s", phase_name(d->phase), d->phase_sentence[0] != '\0' ? ": " : "",
		         d->phase_sentence);
	if (d->reload_status != SHMETA_OK)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "; the last reload was refused: %s",
		         d->reload_sentence);
	shmeta__escape_line(line, sizeof(line), text);
	if (strcmp(line, d->status) == 0)
		return;
	snprintf(d->status, sizeof(d->status), "%s", line);
	notify_status(d->status);
}

static void write_stats(struct daemon *d);

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
	say_status(d);
	write_stats(d);
}

/* ---- what the engine calls, on its own thread --------------------------------------------------------------------------- */

static uint64_t host_oldest_pin(void *arg, uint64_t generation)
{
	struct daemon *d = arg;

	return registry_oldest_pin(d->registry, generation);
}

static void host_relieve(void *arg, uint64_t generation, uint64_t before)
{
	struct daemon *d = arg;

	(void)registry_relieve(d->registry, generation, before, shmeta__boottime_ns());
}

static int host_all_registrations_kept(void *arg)
{
	const struct daemon *d = arg;

	return registry_restored_all(d->registry);
}

static void host_phase(void *arg, enum shmeta_phase phase, const char *sentence)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_letter(d->mailbox, MAIL_PHASE, sentence);

	if (letter == NULL)
		return;
	letter->number = (int)phase;
	mailbox_post(d->mailbox, letter);
}

static void host_progress(void *arg, uint64_t rows_done, uint64_t rows_total)
{
	struct daemon *d = arg;

	mailbox_progress(d->mailbox, rows_done, rows_total);
}

static void host_log(void *arg, int priority, const char *event, const char *sentence)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_letter(d->mailbox, MAIL_LOG, sentence);

	if (letter == NULL) {
		if (strcmp(event, SYNC_AUDIT_EVENT) == 0)
			log_audit(sentence); /* out of its turn, rather than not at all */
		return;
	}
	letter->number = priority;
	snprintf(letter->event, sizeof(letter->event), "%s", event);
	mailbox_post(d->mailbox, letter);
}

static void host_answer(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
                        uint64_t generation, uint64_t synced_at_ns)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_letter(d->mailbox, MAIL_ANSWER, sentence);

	if (letter == NULL)
		letter = mailbox_spare(d->mailbox, MAIL_ANSWER, sentence);
	letter->number = (int)status;
	letter->ticket = ticket;
	letter->txn = txn;
	letter->generation = generation;
	letter->synced_at_ns = synced_at_ns;
	mailbox_post(d->mailbox, letter);
	mailbox_settle(d->mailbox);
}

/* The whole frame is made here, on the engine's thread: the results die with this call. Sentences that would not fit are left out. */
static void host_written(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence,
                         const struct shmeta_op *ops, const struct shmeta_result *results, size_t count, uint64_t txn,
                         uint64_t generation)
{
	struct daemon *d = arg;
	size_t bytes = sizeof(struct shmeta_frame_results), at = sizeof(struct shmeta_frame_results);
	struct shmeta_frame_results *frame;
	struct mail *letter;
	bool brief;

	if (results == NULL) {
		host_answer(arg, ticket, status, sentence, txn, generation, 0);
		return;
	}
	for (size_t i = 0; i < count; i++)
		bytes += shmeta__result_bytes(&results[i]);
	brief = bytes > SHMETA_FRAME_MAX;
	if (brief)
		bytes = sizeof(*frame) + count * ((sizeof(struct shmeta_wire_result) + 7) / 8 * 8);
	letter = mailbox_parcel(d->mailbox, MAIL_WRITTEN, bytes);
	if (letter == NULL) {
		host_answer(arg, ticket, SHMETA_ERR_OUTCOME_UNKNOWN,
		            "out of memory for the results: the operations were taken to the source", txn, generation,
		            0);
		return;
	}
	letter->ticket = ticket;
	frame = (struct shmeta_frame_results *)(void *)letter->text;
	for (size_t i = 0; i < count; i++) {
		struct shmeta_result one = results[i];

		if (brief)
			one.text[0] = '\0';
		at += shmeta__result_encode(ops[i].type, &one, letter->text + at, bytes - at);
	}
	letter->bytes = at;
	*frame = (struct shmeta_frame_results){
		.head = {.bytes = (uint32_t)at, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_RESULTS},
		.result_count = (uint32_t)count,
		.status = status,
		.txn = txn,
		.generation = generation};
	mailbox_post(d->mailbox, letter);
	mailbox_settle(d->mailbox);
}

static void host_objects(void *arg, uint64_t ticket, const void *rows, size_t bytes, size_t count, bool more)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_parcel(d->mailbox, MAIL_WRITTEN, sizeof(struct shmeta_frame_object_list) + bytes);
	struct shmeta_frame_object_list *frame;

	if (letter == NULL) {
		host_answer(arg, ticket, SHMETA_ERR_NO_MEMORY, "no memory for a list of objects", 0, 0, 0);
		return;
	}
	letter->ticket = ticket;
	frame = (struct shmeta_frame_object_list *)(void *)letter->text;
	*frame = (struct shmeta_frame_object_list){.head = {.bytes = (uint32_t)letter->bytes,
	                                                    .version = SHMETA_WIRE_VERSION,
	                                                    .type = SHMETA_FRAME_OBJECT_LIST},
	                                           .object_count = (uint32_t)count,
	                                           .more = more};
	memcpy(frame + 1, rows, bytes);
	mailbox_post(d->mailbox, letter);
	mailbox_settle(d->mailbox);
}

static void host_invalidated(void *arg, uint64_t ticket, const struct sync_invalidated *count, uint64_t txn,
                             uint64_t generation)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_parcel(d->mailbox, MAIL_WRITTEN, sizeof(struct shmeta_frame_invalidated));

	if (letter == NULL) {
		host_answer(arg, ticket, SHMETA_ERR_NO_MEMORY, "no memory for the answer; it was done", txn, generation,
		            0);
		return;
	}
	letter->ticket = ticket;
	*(struct shmeta_frame_invalidated *)(void *)letter->text =
		(struct shmeta_frame_invalidated){.head = {.bytes = (uint32_t)letter->bytes,
	                                                   .version = SHMETA_WIRE_VERSION,
	                                                   .type = SHMETA_FRAME_INVALIDATED},
	                                          .topics = count->topics,
	                                          .partitions = count->partitions,
	                                          .records = count->records,
	                                          .txn = txn,
	                                          .generation = generation};
	mailbox_post(d->mailbox, letter);
	mailbox_settle(d->mailbox);
}

static void host_answering(void *arg, size_t calls)
{
	struct daemon *d = arg;

	if (calls > FEW_ANSWERS)
		mailbox_hold(d->mailbox);
	else
		mailbox_release(d->mailbox);
}

/* ---- the loop ----------------------------------------------------------------------------------------------------------- */

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
	return 0;
}

static uint64_t committed_now(struct daemon *d)
{
	const struct shmeta_generation *generation = instance_look(&d->instance);

	return generation != NULL ? shmeta_load(&generation->committed) : 0;
}

/* Why the phase is what it is, how far a load is, and that a reload was refused. */
static void describe_phase(const struct daemon *d, char *ret, size_t bytes)
{
	size_t used;

	if (d->failure[0] != '\0')
		snprintf(ret, bytes, "%s", d->failure);
	else if (d->phase == SHMETA_PHASE_LOADING && d->rows_total > 0)
		snprintf(ret, bytes, "%" PRIu64 " of %" PRIu64 " rows read", d->rows_done, d->rows_total);
	else if (d->phase == SHMETA_PHASE_LOADING && d->rows_done > 0)
		snprintf(ret, bytes, "%" PRIu64 " rows read", d->rows_done);
	else
		snprintf(ret, bytes, "%s", d->phase_sentence);
	used = strlen(ret);
	if (d->reload_status != SHMETA_OK)
		shmeta__say(ret + used, bytes - used, "%sthe last reload was refused: %s", used > 0 ? "; " : "",
		            d->reload_sentence);
}

static void write_stats(struct daemon *d)
{
	char reason[2 * SHMETA_STATS_TEXT];
	uint64_t committed = committed_now(d);
	struct stats_input input = {
		.sync = &d->sync_counters,
		.control = &d->counters,
		.registry = d->registry,
		.source = d->source,
		.source_status = d->source_status,
		.reason = reason,
		.committed = committed,
	};

	registry_look(d->registry, d->instance.generation_number, committed, shmeta__boottime_ns());
	if (d->sync != NULL) {
		sync_read_counters(d->sync, &d->sync_counters);
		sync_source_status(d->sync, d->source_status, sizeof(d->source_status));
	}
	describe_phase(d, reason, sizeof(reason));
	stats_write(d->instance.stats, &input);
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

/* Classes that grow old although nothing is known to fail: a pass that takes too long, a source that hangs. */
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

static int on_tick(sd_event_source *source, uint64_t due_us, void *arg)
{
	struct daemon *d = arg;

	(void)due_us;
	instance_heartbeat(&d->instance);
	registry_look(d->registry, d->instance.generation_number, committed_now(d), shmeta__boottime_ns());
	d->counters.snapshots_revoked += pins_tell_revoked(d->registry, d->config->snapshot_max_age);
	control_sweep(d->control, shmeta__boottime_ns());
	show_progress(d);
	if (d->ticks % STATS_TICKS == 0) {
		write_stats(d);
		pins_warn(d->registry, &d->pin_warned);
		watch_age(d);
		watch_mail(d);
		say_status(d);
		log_flush_held(shmeta__boottime_ns());
	}
	if (!d->ready && !d->stopping && d->ticks % EXTEND_TICKS == 0)
		notify_extend(EXTEND_S, d->status);
	d->ticks++;
	(void)sd_event_source_set_time_relative(source, TICK_MS * UINT64_C(1000));
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

/* ---- stopping ----------------------------------------------------------------------------------------------------------- */

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
	write_stats(d);
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
		_exit(DAEMON_OK);
	}
	begin_stop(d, info->ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
	return 0;
}

/* ---- reload ------------------------------------------------------------------------------------------------------------- */

static void tell_problem(void *arg, const char *sentence)
{
	(void)arg;
	log_unlimited(LOG_ERR, "config", sentence);
}

static void fill_limits(const struct config *config, struct control_limits *ret)
{
	*ret = (struct control_limits){
		.connections_max = (uint32_t)config->control_connections_max,
		.connections_reserved = (uint32_t)config->control_connections_reserved,
		.connections_per_user = (uint32_t)config->control_connections_per_user,
		.registrations_per_user = (uint32_t)config->control_registrations_per_user,
		.requests_per_connection = (uint32_t)config->control_requests_per_connection,
		.user_share = (uint32_t)config->control_user_share,
		.first_frame_ns = config->control_first_frame_ms * MS,
		.idle_ns = config->control_idle_s * 1000 * MS,
		.output_max = config->control_output_max_bytes,
		.admin_group = config->control_admin_group,
		.write_groups = config->control_write_groups,
		.write_users = config->control_write_users,
	};
}

static enum shmeta_status take_over(struct daemon *d, struct config *next, char *ret_sentence, size_t bytes)
{
	struct sync_ttl_override *overrides = calloc(next->override_count + 1, sizeof(*overrides));
	struct control_limits limits;
	struct sync_options options;

	if (overrides == NULL) {
		snprintf(ret_sentence, bytes, "no memory for the configuration");
		config_free(next);
		return SHMETA_ERR_NO_MEMORY;
	}
	config_keep_started(d->config, next, d->restart_keys, sizeof(d->restart_keys));
	config_free(d->config);
	d->config = next;
	log_set_level((int)next->log_level);
	registry_set_max_age(d->registry, next->snapshot_max_age * 1000 * MS);
	fill_limits(next, &limits);
	control_set_limits(d->control, &limits);
	config_sync_options(next, overrides, &options);
	if (d->sync != NULL)
		sync_reconfigure(d->sync, &options);
	free(overrides);
	if (d->flags.file == NULL)
		snprintf(ret_sentence, bytes, "the daemon reads no configuration file; nothing was reloaded");
	else if (d->restart_keys[0] == '\0')
		snprintf(ret_sentence, bytes, "%s is in use", d->flags.file);
	else
		snprintf(ret_sentence, bytes, "%s is in use, except for options that wait for a restart: %s",
		         d->flags.file, d->restart_keys);
	return SHMETA_OK;
}

/* SIGHUP and the reload frame: read anew, judge whole, and only then take over. */
static enum shmeta_status reload(struct daemon *d, const char *who, char *ret_sentence, size_t bytes)
{
	const struct config_listener listener = {.problem = tell_problem};
	char line[1200];
	bool audited = d->config->write_audit; /* also what turns it off is on record */
	struct config *next = NULL;
	struct shmeta_err err = {0};
	enum shmeta_status status;

	if (d->stopping) {
		snprintf(ret_sentence, bytes, "the writer is stopping");
		return SHMETA_ERR_WRITER_AWAY;
	}
	if (d->ready)
		notify_reloading();
	status = config_load(&d->flags, &listener, &next, &err);
	if (status == SHMETA_OK)
		status = take_over(d, next, ret_sentence, bytes);
	else
		snprintf(ret_sentence, bytes, "%s", err.text);
	d->reload_status = status;
	d->reloaded_at_ns = shmeta__boottime_ns();
	shmeta__say(d->reload_sentence, sizeof(d->reload_sentence), "%s", ret_sentence);
	/* Each mistake has been logged already. */
	if (status == SHMETA_OK)
		d->counters.reloads++;
	else
		d->counters.reloads_refused++;
	snprintf(line, sizeof(line), "%s: reload: %s", who,
	         status == SHMETA_OK           ? ret_sentence
	         : status == SHMETA_ERR_CONFIG ? "refused, nothing has changed"
	                                       : ret_sentence);
	if (audited || d->config->write_audit)
		log_audit(line);
	else
		log_unlimited(status == SHMETA_OK ? LOG_NOTICE : LOG_ERR, "reload", line);
	d->status[0] = '\0';
	if (d->ready)
		notify_ready(status == SHMETA_OK ? "reloaded" : "the reload was refused");
	say_status(d);
	return status;
}

static int on_reload_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	char sentence[1024] = "";

	(void)source;
	(void)info;
	(void)reload(arg, "a signal", sentence, sizeof(sentence));
	return 0;
}

/* ---- what the control socket asks for ----------------------------------------------------------------------------------- */

/* The engine will owe an answer, unless it does not take the request. */
static enum shmeta_status may_owe(struct daemon *d)
{
	if (d->sync == NULL)
		return SHMETA_ERR_WRITER_AWAY;
	return mailbox_owe(d->mailbox) ? SHMETA_OK : SHMETA_ERR_NO_MEMORY;
}

static enum shmeta_status taken(struct daemon *d, enum shmeta_status status)
{
	if (status != SHMETA_OK)
		mailbox_settle(d->mailbox);
	return status;
}

static enum shmeta_status serve_write(void *arg, struct shmeta_str tenant, const struct shmeta_op *ops, size_t count,
                                      uint64_t deadline_ns, uint32_t uid, uint64_t connection, const char *who,
                                      uint64_t ticket)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK
	               ? status
	               : taken(d, sync_write(d->sync, tenant, ops, count, deadline_ns, uid, connection, who, ticket));
}

static enum shmeta_status serve_refresh(void *arg, const struct backend_key *key, bool recent, uint32_t uid,
                                        uint64_t deadline_ns, uint64_t ticket)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK ? status : taken(d, sync_refresh(d->sync, key, recent, uid, deadline_ns, ticket));
}

static enum shmeta_status serve_objects(void *arg, const struct sync_object_list *list, uint64_t deadline_ns,
                                        uint64_t ticket)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK ? status : taken(d, sync_list_objects(d->sync, list, deadline_ns, ticket));
}

static enum shmeta_status serve_invalidate(void *arg, const struct sync_invalidation *what, uint64_t deadline_ns,
                                           const char *who, uint64_t ticket)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK ? status : taken(d, sync_invalidate(d->sync, what, deadline_ns, who, ticket));
}

static enum shmeta_status serve_reload(void *arg, const char *who, char *ret_sentence, size_t bytes)
{
	return reload(arg, who, ret_sentence, bytes);
}

static enum shmeta_status serve_accept(void *arg, const char *who, uint64_t fingerprint, uint64_t *ret_fingerprint,
                                       char *ret_sentence, size_t bytes)
{
	struct daemon *d = arg;
	struct sync_held held = {.held = false};
	enum shmeta_status status = SHMETA_OK;
	char line[1100];

	if (d->sync == NULL) {
		snprintf(ret_sentence, bytes, "the writer is stopping; nothing was done");
		return SHMETA_ERR_WRITER_AWAY;
	}
	sync_read_held(d->sync, &held);
	*ret_fingerprint = held.fingerprint;
	if (fingerprint != 0)
		status = sync_accept(d->sync, fingerprint);
	else if (held.fingerprint == 0)
		status = SHMETA_ERR_NOT_FOUND;
	if (status == SHMETA_ERR_NOT_FOUND)
		snprintf(ret_sentence, bytes, "no source waits for consent");
	else if (status == SHMETA_ERR_CONFLICT)
		snprintf(ret_sentence, bytes, "the fingerprint is %016" PRIx64 " now: %s", held.fingerprint,
		         held.sentence);
	else
		snprintf(ret_sentence, bytes, "%s", held.sentence);
	if (fingerprint == 0)
		return status;
	snprintf(line, sizeof(line), "%s: accept-source %016" PRIx64 ": %s%s", who, fingerprint,
	         status == SHMETA_OK ? "done" : "failed: ", status == SHMETA_OK ? "" : ret_sentence);
	if (d->config->write_audit)
		log_audit(line);
	return status;
}

static enum shmeta_status serve_revoke(void *arg, const char *who, uint64_t reader, uint64_t *ret_count,
                                       char *ret_sentence, size_t bytes)
{
	struct daemon *d = arg;
	enum shmeta_status status = pins_revoke(d->registry, reader, ret_count, ret_sentence, bytes);
	char line[400];

	shmeta__say(line, sizeof(line), "%s: revoke %" PRIu64 ": %s%s", who, reader,
	            status == SHMETA_OK ? "done: " : "failed: ", ret_sentence);
	if (d->config->write_audit)
		log_audit(line);
	return status;
}

static void set_number(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t)value));
}

/* Bytes that came from outside may be no UTF-8, which jansson refuses. */
static void set_text(json_t *object, const char *name, const char *value)
{
	json_t *text = json_string(value);

	json_object_set_new(object, name, text != NULL ? text : json_string("(not UTF-8)"));
}

static json_t *held_json(const struct daemon *d)
{
	struct sync_held held = {.held = false};
	json_t *object = json_object();
	char fingerprint[20];

	if (d->sync != NULL)
		sync_read_held(d->sync, &held);
	if (held.fingerprint == 0) {
		json_decref(object);
		return json_null();
	}
	snprintf(fingerprint, sizeof(fingerprint), "%016" PRIx64, held.fingerprint);
	json_object_set_new(object, "held", json_boolean(held.held));
	set_text(object, "fingerprint", fingerprint);
	set_text(object, "sentence", held.sentence);
	set_number(object, "topics", held.topics);
	set_number(object, "topics_lost", held.topics_lost);
	set_number(object, "partitions", held.partitions);
	set_number(object, "partitions_lost", held.partitions_lost);
	return object;
}

static json_t *reload_json(const struct daemon *d)
{
	json_t *last = json_object();

	if (d->reloaded_at_ns == 0) {
		json_decref(last);
		return json_null();
	}
	json_object_set_new(last, "accepted", json_boolean(d->reload_status == SHMETA_OK));
	set_text(last, "sentence", d->reload_sentence);
	set_number(last, "age_ms", (shmeta__boottime_ns() - d->reloaded_at_ns) / MS);
	set_text(last, "needs_restart", d->restart_keys);
	return last;
}

/* As text that fits into an answer: without its largest member where there are hundreds of overrides. Takes root. */
static char *dump_fitting(json_t *root, const char *largest)
{
	char *text = json_dumps(root, JSON_COMPACT);

	if (text != NULL && strlen(text) > SHMETA_FRAME_MAX - sizeof(struct shmeta_frame_answer)) {
		free(text);
		json_object_set_new(root, largest, json_null());
		text = json_dumps(root, JSON_COMPACT);
	}
	json_decref(root);
	return text;
}

static char *serve_config(void *arg)
{
	struct daemon *d = arg;
	json_t *root = config_json(d->config);

	json_object_set_new(root, "last_reload", reload_json(d));
	return dump_fitting(root, "ttl_overrides");
}

static char *serve_status(void *arg)
{
	struct daemon *d = arg;
	const struct shmeta_board *board = d->instance.board;
	uint64_t now = shmeta__boottime_ns(), committed = committed_now(d);
	json_t *root = json_object();
	char reason[2 * SHMETA_STATS_TEXT];

	write_stats(d);
	set_number(root, "schema", 1);
	set_text(root, "version", SHMETA_VERSION_STRING);
	set_text(root, "instance", d->config->instance_name);
	set_text(root, "directory", d->config->instance_directory);
	set_number(root, "pid", (uint64_t)getpid());
	set_number(root, "epoch", d->instance.epoch);
	set_number(root, "uptime_ms", (now - board->started_at_ns) / MS);
	set_text(root, "phase", phase_name(d->phase));
	describe_phase(d, reason, sizeof(reason));
	set_text(root, "phase_reason", reason);
	json_object_set_new(root, "healthy",
	                    json_boolean(d->phase == SHMETA_PHASE_SERVING && instance_look(&d->instance) != NULL &&
	                                 shmeta__late_class(instance_look(&d->instance), now) < 0));
	set_number(root, "phase_age_ms", (now - shmeta_peek(&board->phase_since_ns)) / MS);
	set_number(root, "generation", d->instance.generation_number);
	set_number(root, "committed_txn", committed);
	set_number(root, "rows_done", d->rows_done);
	set_number(root, "rows_total", d->rows_total);
	set_text(root, "source", d->source);
	set_text(root, "source_status", d->source_status);
	set_number(root, "readers", registry_count(d->registry));
	json_object_set_new(root, "counters", stats_json(&d->sync_counters, &d->counters));
	json_object_set_new(root, "last_reload", reload_json(d));
	json_object_set_new(root, "waits_for_consent", held_json(d));
	json_object_set_new(root, "config", config_json(d->config));
	return dump_fitting(root, "config");
}

/* ---- starting ----------------------------------------------------------------------------------------------------------- */

/* Registrations that the service manager kept for this run. */
static void restore_registrations(struct daemon *d, uint64_t **ret_numbers, int **ret_fds, size_t *ret_count)
{
	char **names = NULL;
	int count = sd_listen_fds_with_names(1, &names);
	uint64_t now = shmeta__boottime_ns();

	*ret_count = 0;
	*ret_numbers = calloc((size_t)(count > 0 ? count : 0) + 1, sizeof(**ret_numbers));
	*ret_fds = calloc((size_t)(count > 0 ? count : 0) + 1, sizeof(**ret_fds));
	for (int i = 0; i < count; i++) {
		int fd = SD_LISTEN_FDS_START + i;
		uint64_t number;

		switch (registry_restore(d->registry, names[i], fd, now, &number)) {
		case REGISTRY_PAGE:
			break;
		case REGISTRY_CONNECTION:
			if (*ret_numbers != NULL && *ret_fds != NULL) {
				(*ret_numbers)[*ret_count] = number;
				(*ret_fds)[(*ret_count)++] = fd;
				break;
			}
			/* fall through */
		case REGISTRY_NOT_OURS:
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
	const struct control_host host = {.arg = d,
	                                  .refresh = serve_refresh,
	                                  .write = serve_write,
	                                  .status = serve_status,
	                                  .config = serve_config,
	                                  .objects = serve_objects,
	                                  .invalidate = serve_invalidate,
	                                  .accept = serve_accept,
	                                  .revoke = serve_revoke,
	                                  .reload = serve_reload};
	struct control_limits limits;
	enum shmeta_status status;
	uint64_t *numbers = NULL;
	int *fds = NULL;
	size_t count = 0;

	status = registry_new(d->instance.board, d->instance.epoch, d->config->store_grace_ms * MS, &d->registry, err);
	if (status != SHMETA_OK)
		return status;
	registry_set_max_age(d->registry, d->config->snapshot_max_age * 1000 * MS);
	restore_registrations(d, &numbers, &fds, &count);
	fill_limits(d->config, &limits);
	status = control_start(d->event, d->instance.dir_fd, d->config->instance_directory, d->config->control_group,
	                       &limits, d->registry, &host, &d->counters, &d->control, err);
	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		control_adopt(d->control, fds[i], numbers[i]);
	if (status == SHMETA_OK)
		registry_restore_end(d->registry, shmeta__boottime_ns());
	free(numbers);
	free(fds);
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
		rc = sd_event_add_signal(d->event, NULL, SIGHUP, on_reload_signal, d);
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
	const struct sync_host host = {
		.arg = d,
		.oldest_pin = host_oldest_pin,
		.relieve = host_relieve,
		.all_registrations_kept = host_all_registrations_kept,
		.phase = host_phase,
		.progress = host_progress,
		.log = host_log,
		.answer = host_answer,
		.answering = host_answering,
		.written = host_written,
		.objects = host_objects,
		.invalidated = host_invalidated,
	};
	struct sync_ttl_override *overrides = calloc(d->config->override_count + 1, sizeof(*overrides));
	struct sync_options options;
	enum shmeta_status status;

	if (overrides == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for the configuration");
	config_sync_options(d->config, overrides, &options);
	status = sync_start(d->instance.dir_fd, d->instance.board, &options, &host, &d->sync, err);
	free(overrides);
	return status;
}

/* The store's pages and the writer's own are charged to one control group, and stay charged when the writer has been killed. */
static void tell_memory_limit(const struct daemon *d)
{
	struct limits_memory limit;
	char text[512];

	if (limits_memory("/proc/self/cgroup", "/sys/fs/cgroup", &limit) &&
	    limits_memory_short(&limit, d->config->store_max_bytes, text, sizeof(text)))
		log_event(LOG_WARNING, "memory-limit", "%s", text);
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
	/* A batch takes megabytes and gives them back: not to the system, which would hand them out page by page again. */
	(void)mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY);
	(void)mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
	umask(0027);

	status = instance_open(d->config->instance_directory, &d->instance, err);
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
	write_stats(d); /* what the former writer said of itself is over */
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
	if (d->instance.board != NULL && d->registry != NULL) {
		d->sync = NULL;
		write_stats(d);
		(void)phase_move(d->instance.board, SHMETA_PHASE_STOPPED, shmeta__boottime_ns());
	}
	registry_free(d->registry);
	mailbox_free(d->mailbox);
	sd_event_unref(d->event);
	instance_close(&d->instance);
	log_progress_end();
	log_flush_held(UINT64_MAX);
}

int daemon_run(const struct config_flags *flags, struct config *config)
{
	struct daemon d = {.flags = *flags, .config = config, .instance = {.dir_fd = -1, .lock_fd = -1}};
	struct shmeta_err err = {0};
	bool started = true;
	int code = DAEMON_OK;

	log_open(stderr, config->instance_name, (int)config->log_level);
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
	return code;
}
