/* SPDX-License-Identifier: Apache-2.0
 * The ring of events, and the slowest of each minute. */
#include "shm/page/activity.h"

#include <string.h>

enum { MINUTE_MS = 60000 };

static void put(struct shmeta_event *to, const struct shmeta_event *event, uint64_t number)
{
	shmeta_poke(&to->number, 0u);
	shmeta_fence_write(); /* PAIR 7: an event within its number */
	memcpy((char *)to + sizeof to->number, (const char *)event + sizeof event->number,
	       sizeof *to - sizeof to->number);
	to->text[sizeof to->text - 1] = '\0';
	shmeta_publish(&to->number, number); /* PAIR 7: an event within its number */
}

void shmeta__activity_begin(struct shmeta_activity *page)
{
	if (memcmp(page->signature, "SHMACTIV", sizeof page->signature) == 0 &&
	    page->version == SHMETA_ACTIVITY_VERSION)
		return;
	memset(page, 0, sizeof *page);
	page->version = SHMETA_ACTIVITY_VERSION;
	page->event_bytes = sizeof(struct shmeta_event);
	memcpy(page->signature, "SHMACTIV", sizeof page->signature);
}

/* The fastest of the minute's is replaced; what an hour ago left goes first. */
static void keep_slow(struct shmeta_event *minute, const struct shmeta_event *event, uint64_t number)
{
	struct shmeta_event *least = &minute[0];

	for (int i = 0; i < SHMETA_SLOW_EACH; i++) {
		struct shmeta_event *e = &minute[i];

		if (e->number == 0 || e->at_ms / MINUTE_MS != event->at_ms / MINUTE_MS) {
			put(e, event, number);
			return;
		}
		if (e->took_ns < least->took_ns)
			least = e;
	}
	if (event->took_ns > least->took_ns)
		put(least, event, number);
}

void shmeta__activity_add(struct shmeta_activity *page, const struct shmeta_event *event)
{
	uint64_t number = shmeta_peek(&page->newest) + 1;
	int64_t minute = event->at_ms / MINUTE_MS % SHMETA_SLOW_MINUTES;

	put(&page->event[number % SHMETA_EVENTS], event, number);
	shmeta_publish(&page->newest, number); /* PAIR 7: an event within its number */
	if (event->took_ns > 0 && event->kind != SHMETA_EVENT_LOG && minute >= 0)
		keep_slow(page->slow[event->kind == SHMETA_EVENT_COMMIT][minute], event, number);
}

enum shmeta_status shmeta__activity_check(const struct shmeta_activity *page, struct shmeta_err *err)
{
	if (memcmp(page->signature, "SHMACTIV", sizeof page->signature) != 0)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "activity: not a page of shmeta's");
	if (page->version != SHMETA_ACTIVITY_VERSION || page->event_bytes != sizeof(struct shmeta_event))
		return shmeta_fail(err, SHMETA_ERR_VERSION, "activity: version %u of its writer, version %d here",
		                   page->version, SHMETA_ACTIVITY_VERSION);
	return SHMETA_OK;
}

static bool copy(const struct shmeta_event *event, uint64_t number, struct shmeta_event *ret)
{
	*ret = *event;
	shmeta_fence_read();
	ret->number = number;
	ret->text[sizeof ret->text - 1] = '\0';
	return shmeta_peek(&event->number) == number;
}

bool shmeta__activity_event(const struct shmeta_activity *page, uint64_t number, struct shmeta_event *ret)
{
	const struct shmeta_event *event = &page->event[number % SHMETA_EVENTS];

	return number > 0 && shmeta_observe(&event->number) == number && /* PAIR 7: an event within its number */
	       copy(event, number, ret);
}

bool shmeta__activity_slow(const struct shmeta_event *event, struct shmeta_event *ret)
{
	uint64_t number = shmeta_observe(&event->number); /* PAIR 7: an event within its number */

	return number > 0 && copy(event, number, ret);
}

const char *shmeta__event_name(uint32_t kind)
{
	switch (kind) {
#define X(name, number, text, meaning) \
	case number:                   \
		return text;
		SHMETA_EVENT_LIST(X)
#undef X
	default:
		return "?";
	}
}
