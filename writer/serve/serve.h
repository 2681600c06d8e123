/* SPDX-License-Identifier: Apache-2.0
 * The server of control.sock: frames of shm/wire/wire.h over SOCK_SEQPACKET. Everything is
 * non-blocking and bounded; a client that breaks a rule loses its own connection and nothing else.
 * A registered client's open connection is its sign of life.
 *
 * Passed descriptors are never received: plain recv() lets the kernel close them. Who may do what
 * is decided by SO_PEERCRED. */
#ifndef SHMETA_WRITER_SERVE_SERVE_H
#define SHMETA_WRITER_SERVE_SERVE_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "backends/backend.h"
#include "base/err.h"
#include "shm/page/activity.h"
#include "shm/page/counters.h"
#include "shm/wire/wire.h"
#include "writer/engine/sync.h"
#include "writer/serve/registry.h"

struct control_counters {
#define C(name, kind, unit, help) uint64_t name;
	SHMETA_CONTROL_COUNTERS(C)
#undef C
};

struct control_limits {
	uint32_t connections_max, connections_reserved, connections_per_user, registrations_per_user;
	uint32_t requests_per_connection;
	uint32_t user_share; /* percent, see shares.h */
	uint64_t first_frame_ns, idle_ns;
	size_t output_max;
	/* Comma-separated names or numbers; "" or NULL: none. Copied as numbers. */
	const char *admin_group, *write_groups, *write_users;
};

/* What the control socket asks of the daemon. Loop thread. */
struct control_host {
	void *arg;
	/* OK: control_answer() will be called with the ticket. Anything else is answered at
	 * once. */
	enum shmeta_status (*refresh)(void *arg, const struct backend_key *key, uint32_t how, uint32_t uid,
	                              uint64_t deadline_ns, uint64_t ticket);
	/* OK: control_written() will be called with the ticket. ERR_PROTOCOL: it does not parse.
	 * Anything else is answered at once. */
	enum shmeta_status (*write)(void *arg, const struct sync_write *write);
	/* OK: control_written() or control_answer() will be called with the ticket. Anything else
	 * is answered at once. */
	enum shmeta_status (*objects)(void *arg, const struct sync_object_list *list, uint64_t deadline_ns,
	                              uint64_t ticket);
	enum shmeta_status (*invalidate)(void *arg, const struct sync_invalidation *what, uint64_t deadline_ns,
	                                 const char *who, uint64_t ticket);
	/* As refresh. */
	enum shmeta_status (*epoch_end)(void *arg, const struct backend_epoch *ask, uint32_t uid, uint64_t deadline_ns,
	                                uint64_t ticket);
	/* Is what this waits for so already, as far as commits are published? */
	bool (*has_moved)(void *arg, const struct shmeta_frame_wait *since);
	/* One JSON object in a block that the caller frees; NULL: no memory. */
	char *(*status)(void *arg);
	/* The same of the options in force and of what waits for a restart. */
	char *(*config)(void *arg);
	/* fingerprint 0: only tell. Answered at once. */
	enum shmeta_status (*accept)(void *arg, const char *who, uint64_t fingerprint, uint64_t *ret_fingerprint,
	                             char *ret_sentence, size_t bytes);
	/* A registration's number, or a process id. Answered at once. */
	enum shmeta_status (*revoke)(void *arg, const char *who, uint64_t reader, uint64_t *ret_count,
	                             char *ret_sentence, size_t bytes);
	enum shmeta_status (*reload)(void *arg, const char *who, char *ret_sentence, size_t bytes);
	/* OK: control_answer() will be called with the ticket, or was, before this returns.
	 * Anything else is answered at once. */
	enum shmeta_status (*operate)(void *arg, const char *who, uint32_t operation, struct shmeta_str tenant,
	                              struct shmeta_str text, uint64_t number, uint64_t ticket, char *ret_sentence,
	                              size_t bytes);
};

struct control;

/* Bind and listen. path: the instance directory, dir_fd: the same, open. group: who may connect
 * besides the daemon's group; a group that does not exist is told and passed over. passed_fd: the
 * service manager's listening socket, which is taken; -1: none. */
enum shmeta_status control_start(sd_event *event, int dir_fd, const char *path, const char *group, int passed_fd,
                                 const struct control_limits *limits, struct registry *registry,
                                 const struct control_host *host, struct control_counters *counters,
                                 struct control **ret, struct shmeta_err *err);
/* false: control.sock was removed or replaced under us, and nobody can connect any more. */
bool control_is_found(const struct control *control);
/* Was a connection closed for want of descriptors in the last ten seconds? */
bool control_is_shedding(const struct control *control);
void control_set_limits(struct control *control, const struct control_limits *limits);

/* A registered connection that the service manager kept. Takes fd. */
void control_adopt(struct control *control, int fd, uint64_t registration);

void control_answer(struct control *control, uint64_t ticket, enum shmeta_status status, const char *sentence,
                    uint64_t txn, uint64_t generation, uint64_t synced_at_ns);

/* The answer to a write, a list or an invalidation: a whole frame (8-aligned) but for its id, which
 * is filled in. */
void control_written(struct control *control, uint64_t ticket, void *frame, size_t bytes);

/* The engine's thread: a commit is published that moved these touched words, a bit for each; NULL:
 * a new generation is. true: the loop is to call control_end_waits(). */
bool control_committed(struct control *control, const uint64_t *touched);
/* Any thread: set the bits of the touched words that are waited for, or were since the last
 * call. */
void control_waited(struct control *control, uint64_t *words);
/* Answer the waits that are over. */
void control_end_waits(struct control *control);

/* Called a few times a second: time limits. */
void control_sweep(struct control *control, uint64_t now_ns);

/* Who is connected, by user; the most connections first where not all fit. Loop thread. */
void control_read_users(const struct control *control, struct shmeta_activity *page);

/* Accept nobody new; refreshes are answered ERR_WRITER_AWAY. */
void control_drain(struct control *control);
/* Close everything and remove the socket. Registrations stay as they are: their pages outlive this
 * process. Accepts NULL. */
void control_stop(struct control *control);

#endif
