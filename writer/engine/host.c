/* SPDX-License-Identifier: Apache-2.0
 * What the engine tells whoever runs it: a host that wants to hear only some of it, the log, rows that enter and leave the quarantine. */
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

#include "writer/engine/engine.h"

enum { QUARANTINE_WINDOW_S = 60 };

void sync_log(struct sync *s, int priority, const char *event, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	shmeta__vsay(text, sizeof text, fmt, args);
	va_end(args);
	s->host.log(s->host.arg, priority, event, text);
}

static uint64_t no_pin(void *arg, uint64_t generation)
{
	(void)arg;
	(void)generation;
	return UINT64_MAX;
}
static void no_relief(void *arg, uint64_t generation, uint64_t before)
{
	(void)arg;
	(void)generation;
	(void)before;
}
static int not_kept(void *arg)
{
	(void)arg;
	return 0;
}
static void no_phase(void *arg, enum shmeta_phase phase, const char *sentence)
{
	(void)arg;
	(void)phase;
	(void)sentence;
}
static void no_progress(void *arg, uint64_t rows_done, uint64_t rows_total)
{
	(void)arg;
	(void)rows_done;
	(void)rows_total;
}
static void no_log(void *arg, int priority, const char *event, const char *sentence)
{
	(void)arg;
	(void)priority;
	(void)event;
	(void)sentence;
}
static void no_answer(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
                      uint64_t generation, uint64_t synced_at_ns)
{
	(void)arg;
	(void)ticket;
	(void)status;
	(void)sentence;
	(void)txn;
	(void)generation;
	(void)synced_at_ns;
}

static void no_objects(void *arg, uint64_t ticket, const void *rows, size_t bytes, size_t count, bool more)
{
	(void)arg;
	(void)ticket;
	(void)rows;
	(void)bytes;
	(void)count;
	(void)more;
}
static void no_invalidated(void *arg, uint64_t ticket, const struct sync_invalidated *count, uint64_t txn,
                           uint64_t generation)
{
	(void)arg;
	(void)ticket;
	(void)count;
	(void)txn;
	(void)generation;
}

struct sync_host host_complete(const struct sync_host *host)
{
	struct sync_host h = *host;

	h.oldest_pin = h.oldest_pin != NULL ? h.oldest_pin : no_pin;
	h.relieve = h.relieve != NULL ? h.relieve : no_relief;
	h.all_registrations_kept = h.all_registrations_kept != NULL ? h.all_registrations_kept : not_kept;
	h.phase = h.phase != NULL ? h.phase : no_phase;
	h.progress = h.progress != NULL ? h.progress : no_progress;
	h.log = h.log != NULL ? h.log : no_log;
	h.answer = h.answer != NULL ? h.answer : no_answer;
	h.objects = h.objects != NULL ? h.objects : no_objects;
	h.invalidated = h.invalidated != NULL ? h.invalidated : no_invalidated;
	return h;
}

/* ---- quarantined rows -------------------------------------------------------------------------------------------------------------- */

void sync_quarantine_pass_begin(struct sync *s, const char *what)
{
	if (s->quarantine_pass == what && sync_now(s) < s->quarantine_window_ns)
		return;
	sync_quarantine_pass_end(s);
	s->quarantine_pass = what;
	s->quarantine_window_ns = sync_now(s) + QUARANTINE_WINDOW_S * SYNC_S;
}

static void tell_quarantined(void *arg, bool left, enum shmeta_class cls, const char *sentence, uint64_t count)
{
	static const char *const names[] = {
#define SHMETA_X(name, number, text, ttl_ms) [number] = text,
		SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
	};
	struct sync *s = arg;
	uint64_t before = s->pass_quarantined[left];

	s->pass_quarantined[left] += count;
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
	if (s->pass_quarantined[false] > QUARANTINE_SHOWN)
		sync_log(s, LOG_WARNING, "quarantined_total",
		         "%llu rows were quarantined in this %s; the first %d are above",
		         (unsigned long long)s->pass_quarantined[false], s->quarantine_pass, QUARANTINE_SHOWN);
	if (s->pass_quarantined[true] > QUARANTINE_SHOWN)
		sync_log(s, LOG_NOTICE, "quarantine_left_total",
		         "%llu rows left the quarantine in this %s; the first %d are above",
		         (unsigned long long)s->pass_quarantined[true], s->quarantine_pass, QUARANTINE_SHOWN);
	s->pass_quarantined[false] = s->pass_quarantined[true] = 0;
	s->quarantine_pass = NULL;
}

struct apply_host sync_apply_host(struct sync *s)
{
	return (struct apply_host){
		.arg = s, .ttl_ms = options_ttl_ms, .quarantined = tell_quarantined, .now_ms = sync_wall_ms(s)};
}
