/* SPDX-License-Identifier: Apache-2.0
 * What the control socket asks for: the engine does it, or it is answered at once. */
#include "writer/daemon/daemon_private.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "shm/wire/wire.h"
#include "writer/daemon/stats_writer.h"
#include "writer/engine/phase.h"
#include "writer/serve/pins.h"

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

static enum shmeta_status serve_write(void *arg, const struct sync_write *write)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK ? status : taken(d, sync_write(d->sync, write));
}

static enum shmeta_status serve_refresh(void *arg, const struct backend_key *key, uint32_t how, uint32_t uid,
                                        uint64_t deadline_ns, uint64_t ticket)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK ? status : taken(d, sync_refresh(d->sync, key, how, uid, deadline_ns, ticket));
}

static enum shmeta_status serve_objects(void *arg, const struct sync_object_list *list, uint64_t deadline_ns,
                                        uint64_t ticket)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK ? status : taken(d, sync_list_objects(d->sync, list, deadline_ns, ticket));
}

static enum shmeta_status serve_epoch_end(void *arg, const struct backend_epoch *ask, uint32_t uid,
                                          uint64_t deadline_ns, uint64_t ticket)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK ? status : taken(d, sync_epoch_end(d->sync, ask, uid, deadline_ns, ticket));
}

static enum shmeta_status serve_invalidate(void *arg, const struct sync_invalidation *what, uint64_t deadline_ns,
                                           const char *who, uint64_t ticket)
{
	struct daemon *d = arg;
	enum shmeta_status status = may_owe(d);

	return status != SHMETA_OK ? status : taken(d, sync_invalidate(d->sync, what, deadline_ns, who, ticket));
}

/* A word that moved for a commit that is not published yet, or failed, does not count: who waits
 * would look in vain. But what it named before that is not known any more: where there is a commit
 * to look at, it may be of that one. */
static bool serve_has_moved(void *arg, const struct shmeta_frame_wait *since)
{
	struct daemon *d = arg;
	const struct shmeta_generation *generation = instance_look(&d->instance);
	const uint32_t *words = (const uint32_t *)(since + 1);
	const uint64_t *touched;
	uint64_t committed;

	if (generation == NULL)
		return since->generation != 0;
	if (d->instance.generation_number != since->generation)
		return true;
	committed = shmeta_load(&generation->committed);
	if (committed < since->txn)
		return true; /* of a number that was given twice: by a store that was loaded anew */
	if (committed == since->txn)
		return false;
	if ((since->flags & SHMETA_WAIT_ANY) != 0)
		return true;
	touched = (const uint64_t *)(const void *)((const char *)generation + SHMETA_PAGE);
	for (uint32_t i = 0; i < since->word_count; i++)
		if (shmeta_observe(&touched[words[i]]) > since->txn) /* PAIR 2: touch before commit */
			return true;
	return false;
}

static enum shmeta_status serve_reload(void *arg, const char *who, char *ret_sentence, size_t bytes)
{
	return daemon_reload(arg, who, ret_sentence, bytes);
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

/* As text that fits into an answer: without its largest member where there are hundreds of
 * overrides. Takes root. */
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
	uint64_t now = shmeta__boottime_ns(), committed = daemon_committed(d);
	json_t *root = json_object();
	char reason[2 * SHMETA_STATS_TEXT];

	daemon_write_stats(d);
	set_number(root, "schema", 1);
	set_text(root, "version", SHMETA_VERSION_STRING);
	set_text(root, "instance", d->config->instance_name);
	set_text(root, "directory", d->config->instance_directory);
	set_number(root, "pid", (uint64_t)getpid());
	set_number(root, "epoch", d->instance.epoch);
	set_number(root, "uptime_ms", (now - board->started_at_ns) / MS);
	set_text(root, "phase", phase_name(d->phase));
	daemon_describe_phase(d, reason, sizeof(reason));
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
	set_number(root, "log_lines_lost", log_lost());
	json_object_set_new(root, "counters", stats_json(&d->sync_counters, &d->counters));
	json_object_set_new(root, "last_reload", reload_json(d));
	json_object_set_new(root, "waits_for_consent", held_json(d));
	json_object_set_new(root, "config", config_json(d->config));
	return dump_fitting(root, "config");
}

struct control_host daemon_control_host(struct daemon *d)
{
	return (struct control_host){.arg = d,
	                             .refresh = serve_refresh,
	                             .write = serve_write,
	                             .status = serve_status,
	                             .config = serve_config,
	                             .objects = serve_objects,
	                             .epoch_end = serve_epoch_end,
	                             .has_moved = serve_has_moved,
	                             .invalidate = serve_invalidate,
	                             .accept = serve_accept,
	                             .revoke = serve_revoke,
	                             .reload = serve_reload,
	                             .operate = daemon_operate};
}
