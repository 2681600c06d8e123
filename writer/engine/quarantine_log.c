/* SPDX-License-Identifier: Apache-2.0
 * Rows that enter and leave the quarantine, in the log (quarantine_log.h). */
#include <syslog.h>

#include "writer/engine/engine.h"
#include "writer/keys/bounded.h"

enum { QUARANTINE_WINDOW_S = 60 };

void sync_quarantine_pass_begin(struct sync *s, const char *what)
{
	if (s->quarantine_log.pass == what && sync_now(s) < s->quarantine_log.until_ns)
		return;
	sync_quarantine_pass_end(s);
	s->quarantine_log.pass = what;
	s->quarantine_log.until_ns = sync_now(s) + QUARANTINE_WINDOW_S * SYNC_S;
}

static void tell_quarantined(void *arg, bool left, enum shmeta_class cls, const char *sentence, uint64_t count)
{
	static const char *const names[] = {
#define SHMETA_X(name, number, text, ttl_ms) [number] = text,
		SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
	};
	struct sync *s = arg;
	uint64_t before = s->quarantine_log.rows[left];

	s->quarantine_log.rows[left] += count;
	if (!left)
		s->counters.quarantine_entered += count;
	if (sentence == NULL || before >= QUARANTINE_SHOWN)
		return;
	if (left)
		sync_log(s, LOG_NOTICE, "quarantine_left", "a row of class %s can be served again, or is gone: %s",
		         names[cls], sentence);
	else
		sync_log(s, LOG_WARNING, "quarantined", "a row of class %s cannot be served: %s", names[cls], sentence);
}

void sync_quarantine_pass_end(struct sync *s)
{
	if (s->quarantine_log.rows[false] > QUARANTINE_SHOWN)
		sync_log(s, LOG_WARNING, "quarantined_total",
		         "%llu rows were quarantined in this %s; the first %d are above",
		         (unsigned long long)s->quarantine_log.rows[false], s->quarantine_log.pass, QUARANTINE_SHOWN);
	if (s->quarantine_log.rows[true] > QUARANTINE_SHOWN)
		sync_log(s, LOG_NOTICE, "quarantine_left_total",
		         "%llu rows left the quarantine in this %s; the first %d are above",
		         (unsigned long long)s->quarantine_log.rows[true], s->quarantine_log.pass, QUARANTINE_SHOWN);
	s->quarantine_log.rows[false] = s->quarantine_log.rows[true] = 0;
	s->quarantine_log.pass = NULL;
}

static void tell_committed(void *arg, const uint64_t *touched)
{
	struct sync *s = arg;

	s->host.committed(s->host.arg, touched);
}

struct apply_host sync_apply_host(struct sync *s)
{
	return (struct apply_host){.arg = s,
	                           .committed = s->host.committed != NULL ? tell_committed : NULL,
	                           .watch = s->bounded != NULL ? &bounded_watch : NULL,
	                           .ttl_ms = options_ttl_ms,
	                           .quarantined = tell_quarantined,
	                           .now_ms = sync_wall_ms(s)};
}
