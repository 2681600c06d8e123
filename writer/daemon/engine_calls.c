/* SPDX-License-Identifier: Apache-2.0
 * What the engine calls, on its own thread: answers become letters to the loop. */
#include "writer/daemon/daemon_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "writer/serve/reply.h"

/* Of a round: so many are sent from here, where they may be (reply.h); more are held until the last
 * one is there, and wake the loop once. */
enum { FEW_ANSWERS = 4 };

static uint64_t host_oldest_pin(void *arg, uint64_t generation)
{
	struct daemon *d = arg;

	return registry_oldest_pin(d->registry, generation);
}

static void host_touched(void *arg, uint8_t *seen, uint32_t ceiling)
{
	struct daemon *d = arg;

	registry_collect_touched(d->registry, ceiling, seen);
}

static void host_waited(void *arg, uint64_t *words)
{
	struct daemon *d = arg;

	control_waited(d->control, words);
}

static void host_missed(void *arg, sync_missed_fn *missed, void *missed_arg)
{
	struct daemon *d = arg;

	registry_take_missed(d->registry, missed, missed_arg);
}

static void host_relieve(void *arg, uint64_t generation, uint64_t before)
{
	struct daemon *d = arg;

	(void)registry_relieve(d->registry, generation, before, shmeta__boottime_ns());
}

static void host_committed(void *arg, const uint64_t *touched)
{
	struct daemon *d = arg;

	if (control_committed(d->control, touched))
		mailbox_wake(d->mailbox);
}

static int host_all_registrations_kept(void *arg)
{
	const struct daemon *d = arg;

	return registry_restored_all(d->registry);
}

static void host_phase(void *arg, enum shmeta_phase phase, const char *sentence)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_letter(d->mailbox, MAIL_PHASE, sentence);

	if (letter == NULL)
		return;
	letter->number = (int)phase;
	mailbox_post(d->mailbox, letter);
}

static void host_progress(void *arg, uint64_t rows_done, uint64_t rows_total)
{
	struct daemon *d = arg;

	mailbox_progress(d->mailbox, rows_done, rows_total);
}

static void host_log(void *arg, int priority, const char *event, const char *sentence)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_letter(d->mailbox, MAIL_LOG, sentence);

	if (letter == NULL) {
		if (strcmp(event, SYNC_AUDIT_EVENT) == 0)
			log_audit(sentence); /* out of its turn, rather than not at all */
		return;
	}
	letter->number = priority;
	snprintf(letter->event, sizeof(letter->event), "%s", event);
	mailbox_post(d->mailbox, letter);
}

static void host_answer(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
                        uint64_t generation, uint64_t synced_at_ns)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_letter(d->mailbox, MAIL_ANSWER, sentence);

	if (letter == NULL)
		letter = mailbox_spare(d->mailbox, MAIL_ANSWER, sentence);
	letter->number = (int)status;
	letter->ticket = ticket;
	letter->txn = txn;
	letter->generation = generation;
	letter->synced_at_ns = synced_at_ns;
	mailbox_post(d->mailbox, letter);
	mailbox_settle(d->mailbox);
}

/* The whole frame is made on the engine's thread: the results die with this call. Sentences that
 * would not fit are left out. */
static void host_written(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence,
                         const struct shmeta_op *ops, const struct shmeta_result *results, size_t count, uint64_t txn,
                         uint64_t generation)
{
	struct daemon *d = arg;
	size_t bytes = sizeof(struct shmeta_frame_results), at = sizeof(struct shmeta_frame_results);
	struct shmeta_frame_results *frame;
	struct mail *letter;
	bool brief;

	if (results == NULL) {
		host_answer(arg, ticket, status, sentence, txn, generation, 0);
		return;
	}
	for (size_t i = 0; i < count; i++)
		bytes += shmeta__result_bytes(&results[i]);
	brief = bytes > SHMETA_FRAME_MAX;
	if (brief)
		bytes = sizeof(*frame) + count * ((sizeof(struct shmeta_wire_result) + 7) / 8 * 8);
	letter = mailbox_parcel(d->mailbox, MAIL_WRITTEN, bytes);
	if (letter == NULL) {
		host_answer(arg, ticket, SHMETA_ERR_OUTCOME_UNKNOWN,
		            "out of memory for the results: the operations were taken to the source", txn, generation,
		            0);
		return;
	}
	letter->ticket = ticket;
	frame = (struct shmeta_frame_results *)(void *)letter->text;
	for (size_t i = 0; i < count; i++) {
		struct shmeta_result one = results[i];

		if (brief)
			one.text[0] = '\0';
		at += shmeta__result_encode(ops[i].type, &one, letter->text + at, bytes - at);
	}
	letter->bytes = at;
	*frame = (struct shmeta_frame_results){
		.head = {.bytes = (uint32_t)at, .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_RESULTS},
		.result_count = (uint32_t)count,
		.status = status,
		.txn = txn,
		.generation = generation};
	if (d->few_answers && reply_is_ticket(ticket) && reply_send(ticket, letter->text, letter->bytes))
		free(letter);
	else
		mailbox_post(d->mailbox, letter);
	mailbox_settle(d->mailbox);
}

static void host_objects(void *arg, uint64_t ticket, const void *rows, size_t bytes, size_t count, bool more)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_parcel(d->mailbox, MAIL_WRITTEN, sizeof(struct shmeta_frame_object_list) + bytes);
	struct shmeta_frame_object_list *frame;

	if (letter == NULL) {
		host_answer(arg, ticket, SHMETA_ERR_NO_MEMORY, "no memory for a list of objects", 0, 0, 0);
		return;
	}
	letter->ticket = ticket;
	frame = (struct shmeta_frame_object_list *)(void *)letter->text;
	*frame = (struct shmeta_frame_object_list){.head = {.bytes = (uint32_t)letter->bytes,
	                                                    .version = SHMETA_WIRE_VERSION,
	                                                    .type = SHMETA_FRAME_OBJECT_LIST},
	                                           .object_count = (uint32_t)count,
	                                           .more = more};
	memcpy(frame + 1, rows, bytes);
	mailbox_post(d->mailbox, letter);
	mailbox_settle(d->mailbox);
}

static void host_invalidated(void *arg, uint64_t ticket, const struct sync_invalidated *count, uint64_t txn,
                             uint64_t generation)
{
	struct daemon *d = arg;
	struct mail *letter = mailbox_parcel(d->mailbox, MAIL_WRITTEN, sizeof(struct shmeta_frame_invalidated));

	if (letter == NULL) {
		host_answer(arg, ticket, SHMETA_ERR_NO_MEMORY, "no memory for the answer; it was done", txn, generation,
		            0);
		return;
	}
	letter->ticket = ticket;
	*(struct shmeta_frame_invalidated *)(void *)letter->text =
		(struct shmeta_frame_invalidated){.head = {.bytes = (uint32_t)letter->bytes,
	                                                   .version = SHMETA_WIRE_VERSION,
	                                                   .type = SHMETA_FRAME_INVALIDATED},
	                                          .topics = count->topics,
	                                          .partitions = count->partitions,
	                                          .records = count->records,
	                                          .txn = txn,
	                                          .generation = generation};
	mailbox_post(d->mailbox, letter);
	mailbox_settle(d->mailbox);
}

void daemon_tell(struct daemon *d, const struct shmeta_event *event)
{
	struct shmeta_event e = *event;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	e.at_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	pthread_mutex_lock(&d->activity_lock);
	shmeta__activity_add(d->instance.activity, &e);
	pthread_mutex_unlock(&d->activity_lock);
}

static void host_event(void *arg, const struct shmeta_event *event)
{
	daemon_tell(arg, event);
}

static void host_answering(void *arg, size_t calls)
{
	struct daemon *d = arg;

	d->few_answers = calls > 0 && calls <= FEW_ANSWERS;
	if (calls > FEW_ANSWERS)
		mailbox_hold(d->mailbox);
	else
		mailbox_release(d->mailbox);
}

struct sync_host daemon_engine_host(struct daemon *d)
{
	return (struct sync_host){
		.arg = d,
		.oldest_pin = host_oldest_pin,
		.relieve = host_relieve,
		.touched = host_touched,
		.waited = host_waited,
		.missed = host_missed,
		.committed = host_committed,
		.all_registrations_kept = host_all_registrations_kept,
		.phase = host_phase,
		.progress = host_progress,
		.log = host_log,
		.answer = host_answer,
		.answering = host_answering,
		.event = host_event,
		.written = host_written,
		.objects = host_objects,
		.invalidated = host_invalidated,
	};
}
