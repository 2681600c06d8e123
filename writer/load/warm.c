/* SPDX-License-Identifier: Apache-2.0
 * When the snapshot file is written (warm.h). */
#include "writer/load/warm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "writer/engine/engine.h"
#include "writer/load/warm_file.h"
#include "writer/load/warm_save.h"

struct warm {
	uint64_t due_ns;
	uint64_t number, txn; /* of the store and its newest commit when the file was begun that was
                               * written last */
	/* The same of the file that is there, and when its first row was read; at first 0, and when
	 * the writer started. */
	uint64_t saved_number, saved_txn, saved_ns;
	/* The file being synced. */
	bool ending;
	uint32_t ended;
	pthread_t thread;
	struct sync *s;
	struct warm_out out;
	uint64_t began_ns, took_ns, rows;
	enum shmeta_status status;
	struct shmeta_err err;
	char told[sizeof((struct shmeta_err *)0)->text]; /* why it was not written; "": it was */
};

static bool configured(const struct sync *s)
{
	return s->options.warm_file != NULL && s->options.warm_file[0] != '\0';
}

/* Is what the store shows worth a file? Not of another source, not damaged, with all rows, and
 * verified since the start. */
static bool store_is_whole(struct sync *s)
{
	if (s->options.bounded || s->store == NULL || store_is_damaged(s) || origin_is_foreign(s) ||
	    failing_count(s) > 0 || shmeta__store_counters(s->store)->incomplete != 0)
		return false;
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if (shmeta__stamp_is_unproved(shmeta_peek(&s->gen->stamp[cls].synced_at_ns)))
			return false;
	return true;
}

static void tell(struct warm *w, const char *why)
{
	if (w->status != SHMETA_OK) {
		/* Once, however many intervals pass: the check snapshot_file goes on saying it. */
		if (strcmp(why, w->told) != 0)
			sync_log(w->s, LOG_WARNING, "warm_not_saved", "the snapshot file %s was not written: %s",
			         w->s->options.warm_file, why);
		snprintf(w->told, sizeof w->told, "%s", why);
		return;
	}
	w->told[0] = '\0';
	w->saved_number = w->number;
	w->saved_txn = w->txn;
	w->saved_ns = w->began_ns;
	sync_log(w->s, LOG_INFO, "warm_saved", "wrote %llu rows to the snapshot file in %llu ms",
	         (unsigned long long)w->rows, (unsigned long long)(w->took_ns / SYNC_MS));
}

static void *run_end(void *arg)
{
	struct warm *w = arg;

	w->status = warm_out_end(&w->out, 1, &w->err);
	shmeta_publish(&w->ended, 1u);
	sync_wake(w->s);
	return NULL;
}

/* The thread, if there is one, is over. */
static void settle(struct warm *w)
{
	if (!w->ending)
		return;
	pthread_join(w->thread, NULL);
	w->ending = false;
	tell(w, w->err.text);
}

/* The rows, into a file that is not synced yet. false: there is none, and that was told. */
static bool write_rows(struct sync *s, bool (*meanwhile)(struct sync *s))
{
	struct warm *w = s->warm;

	w->began_ns = sync_now(s);
	w->number = shmeta__store_number(s->store);
	w->txn = sync_committed(s);
	w->status = warm_out_begin(&w->out, s->options.warm_file, &w->err);
	if (w->status == SHMETA_OK) {
		w->status = warm_save_rows(s, meanwhile, &w->out, &w->rows, &w->err);
		if (w->status != SHMETA_OK)
			(void)warm_out_end(&w->out, 0, NULL);
	}
	w->took_ns = sync_now(s) - w->began_ns;
	if (w->status == SHMETA_OK)
		return true;
	w->txn = 0;
	if (w->status != SHMETA_ERR_BUSY)
		tell(w, w->err.text);
	return false;
}

void warm_interval_anew(struct sync *s)
{
	if (s->warm != NULL)
		s->warm->due_ns = sync_now(s) + sync_jitter(s, s->options.warm_interval_s * SYNC_S, 500, 1000);
}

static struct warm *have(struct sync *s)
{
	if (s->warm == NULL && configured(s) && (s->warm = calloc(1, sizeof *s->warm)) != NULL) {
		s->warm->s = s;
		s->warm->saved_ns = sync_now(s);
		if (s->options.bounded)
			sync_log(s, LOG_WARNING, "warm_not_saved",
			         "the snapshot file is not written: a store with budgets has none");
		warm_interval_anew(s);
	}
	return s->warm;
}

uint64_t warm_when(struct sync *s)
{
	struct warm *w = have(s);

	return w == NULL || w->ending || s->options.bounded || s->options.warm_interval_s == 0 ? SYNC_NEVER : w->due_ns;
}

void warm_run(struct sync *s, bool (*meanwhile)(struct sync *s))
{
	struct warm *w = have(s);

	if (w == NULL)
		return;
	if (w->ending && shmeta_observe(&w->ended) != 0)
		settle(w);
	if (sync_now(s) < warm_when(s))
		return;
	/* At most a twentieth of the time. */
	w->due_ns = sync_now(s) + sync_jitter(s, s->options.warm_interval_s * SYNC_S, 850, 1000) + 20 * w->took_ns;
	if (!store_is_whole(s) || (shmeta__store_number(s->store) == w->number && sync_committed(s) == w->txn))
		return;
	if (!write_rows(s, meanwhile))
		return;
	w->ended = 0;
	w->ending = pthread_create(&w->thread, NULL, run_end, w) == 0;
	if (!w->ending) {
		w->status = warm_out_end(&w->out, 1, &w->err);
		tell(w, w->err.text);
	}
}

void warm_stop(struct sync *s)
{
	struct warm *w = have(s);

	if (w == NULL)
		return;
	settle(w);
	if (!store_is_whole(s) || !write_rows(s, NULL))
		return;
	w->status = warm_out_end(&w->out, 1, &w->err);
	tell(w, w->err.text);
}

void warm_count(struct sync *s, struct sync_counters *ret)
{
	const struct warm *w = s->warm;
	const uint64_t every_ns = s->options.warm_interval_s * SYNC_S;
	bool lacks = w != NULL && !s->options.bounded && s->store != NULL &&
	             (w->saved_number != shmeta__store_number(s->store) || w->saved_txn != sync_committed(s));

	ret->snapshot_file_lag =
		lacks && every_ns > 0 ? (uint64_t)(100.0 * (double)(sync_now(s) - w->saved_ns) / (double)every_ns) : 0;
}

void warm_free(struct sync *s)
{
	if (s->warm == NULL)
		return;
	if (s->warm->ending)
		pthread_join(s->warm->thread, NULL);
	free(s->warm);
	s->warm = NULL;
}
