/* SPDX-License-Identifier: Apache-2.0
 * The session with the source (session.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "writer/engine/engine.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* What it can do may have changed with any call. */
static void look_at_source(struct sync *s)
{
	s->session.feed_kind = backend_feed_kind(s->engine, s->backend);
	s->session.unwritable = !backend_writable(s->engine, s->backend);
}

enum shmeta_status session_init(struct sync *s, struct shmeta_err *err)
{
	struct backend_error why = {0};

	s->session.uri_hash = XXH3_64bits(s->options.source.uri, strlen(s->options.source.uri));
	s->engine = s->options.engine != NULL ? s->options.engine : backend_find(s->options.source.uri, &why);
	if (s->engine == NULL)
		return shmeta_fail(err, SHMETA_ERR_CONFIG, "%s", why.text);
	s->backend = calloc(1, s->engine->state_bytes);
	return s->backend != NULL ? SHMETA_OK
	                          : shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the source's state");
}

void session_free(struct sync *s)
{
	if (s->backend != NULL && s->session.open)
		s->engine->source->close(s->backend);
	free(s->backend);
}

void session_count(struct sync *s, const struct backend_counters *counters)
{
#define C(name, help) s->session.counted.name += counters->name;
	BACKEND_COUNTERS(C)
#undef C
}

enum shmeta_status session_open(struct sync *s, struct backend_error *err)
{
	memset(s->backend, 0, s->engine->state_bytes);
	enum shmeta_status status = s->engine->source->open(s->backend, &s->options.source, err);

	if (status != SHMETA_OK) {
		s->engine->source->close(s->backend);
		memset(s->backend, 0, s->engine->state_bytes);
		return status;
	}
	s->session.open = true;
	look_at_source(s);
	if (session_unwritable(&s->session, &s->options.source))
		health_tell_writable(s);
	return SHMETA_OK;
}

void session_close(struct sync *s)
{
	struct backend_counters counters = {0};

	if (!s->session.open)
		return;
	/* Where it cannot be kept, the one that is there is older, and more is named again than
	 * need be. */
	(void)saved_feed_keep(s);
	if (s->store != NULL)
		saved_feed_read(s);
	s->engine->source->counters(s->backend, &counters);
	session_count(s, &counters);
	s->engine->source->close(s->backend);
	memset(s->backend, 0, s->engine->state_bytes);
	s->session.open = false;
	s->session.feed_trouble[0] = '\0';
	if (feed_is_tried(s)) {
		feed_gone(s);
		feed_move(s, FEED_UNTRIED);
	}
}

bool session_look_for_feed(struct sync *s)
{
	const struct backend_feed *feed = s->engine->feed;
	const char *trouble = feed != NULL && feed->trouble != NULL ? feed->trouble(s->backend) : "";
	bool was_unwritable = session_unwritable(&s->session, &s->options.source);

	look_at_source(s);
	if (session_unwritable(&s->session, &s->options.source) != was_unwritable) {
		health_tell_writable(s);
		sync_show(s);
	}
	if (strcmp(trouble, s->session.feed_trouble) != 0) {
		if (trouble[0] != '\0')
			sync_log(s, LOG_WARNING, "feed_stopped", "%s", trouble);
		else
			sync_log(s, LOG_NOTICE, "feed_runs", "the change feed runs again");
		snprintf(s->session.feed_trouble, sizeof s->session.feed_trouble, "%s", trouble);
		sync_show(s);
	}
	if (!feed_is_followed(s) || session_has_feed(&s->session))
		return session_has_feed(&s->session);
	/* What it has told stays true, and gets older: the next pass is due as if the last one had
	 * been as old. */
	feed_gone(s);
	sync_job_forget(s, SYNC_JOB_FEED);
	schedule_pass_lagged(s, stamps_lag(&s->stamps));
	schedule_reconcile(s);
	schedule_advisory(s);
	return false;
}

/* Go on where the adopted store's feed ended; when that cannot be done, everything has to be
 * compared. */
static void resume_feed(struct sync *s)
{
	struct backend_error err = {0};
	char why[SCHEDULE_WHY];
	size_t bytes;
	const uint8_t *position = saved_feed_position(s, &bytes);
	enum shmeta_status status = SHMETA_ABSENT;

	if (bytes > 0 && s->engine->feed != NULL)
		status = s->engine->feed->resume(s->backend, position, bytes, &err);
	if (status == SHMETA_ERR_CONFLICT) {
		accept_changed(s, true, err.text);
		return;
	}
	if (status < 0) {
		sync_source_failed(s, SYNC_JOB_OPEN, status, err.text);
		return;
	}
	feed_all_read(s, status == SHMETA_OK);
	if (feed_in_step(s)) {
		/* Some feeds are there only now. */
		look_at_source(s);
		schedule_reconcile(s);
	}
	stamps_all_read(s, shmeta__store_counters(s->store)->next_topic_id);
	schedule_pass_answered(s);
	if (!feed_is_followed(s)) {
		snprintf(why, sizeof why, "the change feed could not go on where the former writer left it (%.100s)",
		         bytes == 0            ? "no position was kept"
		         : err.text[0] != '\0' ? err.text
		                               : "its position is of no use");
		schedule_ask_pass(s, true, why);
	}
	schedule_poll_now(s);
	if (feed_is_followed(s))
		sync_log(s, LOG_INFO, "feed_resumed", "the change feed goes on where the former writer left it");
	else
		sync_log(s, LOG_INFO, "feed_resumed", "%s: comparing everything", why);
}

/* true: the source may be asked now. */
bool session_ready(struct sync *s)
{
	uint64_t now = sync_now(s);

	if (pause_is_on(&s->pause))
		return false;
	if (source_is_away(s) && now < health_source_when(&s->health)) {
		sync_wake_at(s, health_source_when(&s->health));
		return false;
	}
	if (!session_is_open(&s->session)) {
		struct backend_error err = {0};
		enum shmeta_status status = session_open(s, &err);

		if (status != SHMETA_OK) {
			sync_source_failed(s, SYNC_JOB_OPEN, status, err.text);
			return false;
		}
		sync_source_works(s, SYNC_JOB_OPEN);
		generation_judge(s);
	}
	if (s->store != NULL && !origin_is_foreign(s) && !feed_is_tried(s))
		resume_feed(s);
	return s->store == NULL || origin_is_foreign(s) || feed_is_tried(s);
}

int session_wake_fd(struct sync *s)
{
	const struct backend_feed *feed = s->engine->feed;

	return feed != NULL && feed->wake_fd != NULL ? feed->wake_fd(s->backend) : -1;
}
