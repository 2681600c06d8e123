/* SPDX-License-Identifier: Apache-2.0
 * What the files of the daemon share. Everything but daemon_engine_host()'s functions runs on the
 * loop's thread. */
#ifndef SHMETA_WRITER_DAEMON_DAEMON_PRIVATE_H
#define SHMETA_WRITER_DAEMON_DAEMON_PRIVATE_H

#include <pthread.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "writer/daemon/daemon.h"
#include "writer/daemon/log.h"
#include "writer/daemon/mailbox.h"
#include "writer/daemon/notify.h"
#include "writer/daemon/takeover.h"
#include "writer/engine/sync.h"
#include "writer/serve/most_used.h"
#include "writer/serve/registry.h"
#include "writer/serve/serve.h"

#define MS UINT64_C(1000000)

struct daemon {
	struct config_flags flags; /* with the settings */
	struct config_setting *settings;
	size_t setting_count;
	struct config *config;
	struct instance instance;
	sd_event *event;
	struct mailbox *mailbox;
	uint64_t mail_lost;
	bool few_answers; /* the engine's thread's: of a round that has few */
	struct registry *registry;
	struct control *control;
	struct control_counters counters;
	struct sync *sync; /* NULL before it has started and once it is being stopped */
	struct sync_counters sync_counters;
	struct shmeta_times sync_times[SHMETA_TIMED_COUNT];
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
	bool is_lost; /* the instance directory was removed under us, and that was told */
	bool is_cut;  /* control.sock was, and so was that */
	bool is_shedding;

	char reload_sentence[1024];
	enum shmeta_status reload_status;
	uint64_t reloaded_at_ns; /* 0: never */
	char restart_keys[512];
	struct most_used most_used;    /* of what readers sampled */
	pthread_mutex_t activity_lock; /* both threads tell of what they do */
	uint64_t level_until_ns;       /* then the log has its configured level again; 0: it
                                        * stays */

	pthread_t stopper;
	bool stopping;
	struct sync *to_stop;
};

/* engine_calls.c: what the engine calls, on its own thread; most of it becomes a letter to the
 * loop. */
struct sync_host daemon_engine_host(struct daemon *d);
/* control_calls.c: what the control socket asks for. */
struct control_host daemon_control_host(struct daemon *d);

/* engine_calls.c: for the page of what was done; any thread. */
void daemon_tell(struct daemon *d, const struct shmeta_event *event);

/* operate.c: what operators ask for. As control_host.operate(). */
/* Have an option another value until the next start: text is as shmeta_operate() has it for SET.
 * OK, ERR_INVALID_ARGUMENT, ERR_CONFIG or ERR_NO_MEMORY: then nothing has changed. */
enum shmeta_status daemon_set(struct daemon *d, const char *who, const char *text, char *ret_sentence, size_t bytes);
void daemon_free_settings(struct daemon *d);
enum shmeta_status daemon_operate(void *arg, const char *who, uint32_t operation, struct shmeta_str tenant,
                                  struct shmeta_str text, uint64_t number, uint64_t ticket, char *ret_sentence,
                                  size_t bytes);
/* A level of the log that was asked for a while. */
void daemon_end_level(struct daemon *d);

/* reload.c: SIGHUP and the reload frame: the configuration is read anew, judged as a whole, and
 * only then taken over. */
enum shmeta_status daemon_reload(struct daemon *d, const char *who, char *ret_sentence, size_t bytes);
int daemon_on_reload_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *arg);
void daemon_limits(const struct config *config, struct control_limits *ret);

/* report.c: the service manager hears what the daemon does, if that has changed. */
void daemon_say_status(struct daemon *d);
void daemon_write_stats(struct daemon *d);
/* The phase and its sentence, for people. */
void daemon_describe_phase(const struct daemon *d, char *ret, size_t bytes);
/* The newest commit of the current generation; 0: none. */
uint64_t daemon_committed(struct daemon *d);

#endif
