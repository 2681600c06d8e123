/* SPDX-License-Identifier: Apache-2.0
 * What every part of the engine tells whoever runs it, or asks. */
#include <stdarg.h>
#include <stdio.h>

#include "writer/engine/engine.h"

void sync_log(struct sync *s, int priority, const char *event, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	shmeta__vsay(text, sizeof text, fmt, args);
	va_end(args);
	s->host.log(s->host.arg, priority, event, text);
}

void sync_tell(struct sync *s, enum shmeta_event_kind kind, bool failed, uint64_t rows, uint64_t took_ns, uint64_t txn,
               const char *fmt, ...)
{
	struct shmeta_event event = {.kind = kind, .failed = failed, .rows = rows, .took_ns = took_ns, .txn = txn};
	va_list args;

	if (s->host.event == NULL)
		return;
	va_start(args, fmt);
	shmeta__vsay(event.text, sizeof event.text, fmt, args);
	va_end(args);
	s->host.event(s->host.arg, &event);
}

uint64_t sync_oldest_pin(struct sync *s)
{
	return s->host.oldest_pin(s->host.arg, shmeta__store_number(s->store));
}
