/* SPDX-License-Identifier: Apache-2.0
 * What the daemon says of itself: to the service manager and on the stats page. */
#include "writer/daemon/daemon_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/escape.h"
#include "writer/daemon/stats_writer.h"
#include "writer/engine/phase.h"

/* Why nobody can connect; NULL: they can. */
static const char *cut_because(const struct daemon *d)
{
	return d->is_cut        ? "control.sock was removed or replaced: restart"
	       : d->is_shedding ? "new connections are closed for want of file descriptors: raise LimitNOFILE"
	                        : NULL;
}

void daemon_say_status(struct daemon *d)
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
	if (d->is_lost)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		         "; the instance directory was removed or replaced: restart");
	if (cut_because(d) != NULL)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "; %s", cut_because(d));
	shmeta__escape_line(line, sizeof(line), text);
	if (strcmp(line, d->status) == 0)
		return;
	snprintf(d->status, sizeof(d->status), "%s", line);
	notify_status(d->status);
}

uint64_t daemon_committed(struct daemon *d)
{
	const struct shmeta_generation *generation = instance_look(&d->instance);

	return generation != NULL ? shmeta_load(&generation->committed) : 0;
}

/* Why the phase is what it is, how far a load is, that a reload was refused and that nobody can
 * connect. */
void daemon_describe_phase(const struct daemon *d, char *ret, size_t bytes)
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
	used = strlen(ret);
	if (cut_because(d) != NULL)
		shmeta__say(ret + used, bytes - used, "%s%s", used > 0 ? "; " : "", cut_because(d));
}

static void note_sample(void *arg, uint64_t key)
{
	most_used_add(arg, key);
}

void daemon_write_stats(struct daemon *d)
{
	char reason[2 * SHMETA_STATS_TEXT];
	uint64_t committed = daemon_committed(d);
	struct stats_input input = {
		.sync = &d->sync_counters,
		.times = d->sync_times,
		.control = &d->counters,
		.registry = d->registry,
		.source = d->source,
		.source_status = d->source_status,
		.reason = reason,
		.committed = committed,
		.flags = (d->reload_status != SHMETA_OK ? SHMETA_STATS_RELOAD_REFUSED : 0) |
	                 (d->restart_keys[0] != '\0' ? SHMETA_STATS_RESTART_NEEDED : 0) |
	                 (cut_because(d) != NULL ? SHMETA_STATS_CUT : 0),
	};

	registry_look(d->registry, d->instance.generation_number, committed, shmeta__boottime_ns());
	if (d->sync != NULL) {
		sync_read_counters(d->sync, &d->sync_counters);
		sync_read_times(d->sync, d->sync_times);
		sync_source_status(d->sync, d->source_status, sizeof(d->source_status));
	}
	daemon_describe_phase(d, reason, sizeof(reason));
	stats_write(d->instance.stats, &input);
	registry_take_samples(d->registry, note_sample, &d->most_used);
	most_used_show(&d->most_used, d->instance.usage, shmeta__boottime_ns());
	if (d->control != NULL)
		control_read_users(d->control, d->instance.activity);
}
