/* SPDX-License-Identifier: Apache-2.0
 * The ring of changed keys: written, and copied. */
#include "shm/page/journal.h"

#include <stdlib.h>
#include <string.h>

#include "base/once.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	WORD = sizeof(uint64_t),
	FRAME = sizeof(struct shmeta_journal_frame),
	LEAST_FRAME = FRAME + WORD,
	TRIES = 4 /* of a copy that is overwritten meanwhile */
};
static const uint8_t journal_signature[8] = {'S', 'H', 'M', 'J', 'O', 'U', 'R', 'N'};

static uint64_t *word_at(const struct shmeta_journal *journal, uint64_t at)
{
	return (uint64_t *)((uintptr_t)journal + SHMETA_PAGE + at % SHMETA_JOURNAL_RING);
}

/* All that goes in and out is a multiple of 8, so a word never lies across the ring's end. */
static void ring_put(struct shmeta_journal *journal, uint64_t at, const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += WORD) {
		uint64_t word;

		memcpy(&word, (const char *)from + i, WORD);
		shmeta_poke(word_at(journal, at + i), word);
	}
}

static void ring_get(const struct shmeta_journal *journal, uint64_t at, void *to, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += WORD) {
		uint64_t word = shmeta_peek(word_at(journal, at + i));

		memcpy((char *)to + i, &word, WORD);
	}
}

static uint64_t seal_of(const struct shmeta_journal_frame *frame, const void *keys, size_t bytes)
{
	return XXH3_64bits_withSeed(keys, bytes, XXH3_64bits(&frame->txn, FRAME - sizeof frame->seal));
}

/* ---- the writer's ---- */

/* Forget all frames: what changes after commit txn is told from here on. */
static void forget(struct shmeta_journal *journal, uint64_t txn)
{
	shmeta_poke(&journal->oldest, txn);
	shmeta_poke(&journal->last, txn);
	shmeta_publish(&journal->tail, journal->head); /* PAIR 9: tail before what was behind it */
}

static bool can_go_on(const struct shmeta_journal *journal, uint64_t txn)
{
	return memcmp(journal->signature, journal_signature, sizeof journal_signature) == 0 &&
	       journal->version == SHMETA_JOURNAL_VERSION && journal->ring_bytes == SHMETA_JOURNAL_RING &&
	       journal->newest == txn && journal->oldest <= journal->last && journal->last <= txn &&
	       journal->head - journal->tail <= SHMETA_JOURNAL_RING && journal->head % WORD == 0 &&
	       journal->tail % WORD == 0;
}

void shmeta__journal_begin(struct shmeta_journal *journal, uint64_t generation, uint64_t txn,
                           const struct shmeta_journal *like)
{
	if (like != NULL && can_go_on(like, txn)) {
		memcpy((char *)journal + SHMETA_PAGE, (const char *)like + SHMETA_PAGE, SHMETA_JOURNAL_RING);
		*journal = *like;
		journal->generation = generation;
		return;
	}
	if (can_go_on(journal, txn) && journal->generation == generation && journal->first_generation <= generation)
		return;
	/* Readers may have it mapped: whatever it says until it is signed, they take nothing of
	 * it. */
	memset(journal->signature, 0, sizeof journal->signature);
	journal->version = SHMETA_JOURNAL_VERSION;
	journal->ring_bytes = SHMETA_JOURNAL_RING;
	journal->generation = journal->first_generation = generation;
	journal->head -= journal->head % WORD;
	forget(journal, txn);
	shmeta_publish(&journal->newest, txn); /* PAIR 8: a frame before its commit's number */
	memcpy(journal->signature, journal_signature, sizeof journal_signature);
}

/* The oldest frame goes. */
static void drop_oldest(struct shmeta_journal *journal)
{
	struct shmeta_journal_frame frame;

	ring_get(journal, journal->tail, &frame, sizeof frame);
	/* Found in a file that was damaged. */
	if (frame.bytes < LEAST_FRAME || frame.bytes % WORD != 0 || frame.bytes > journal->head - journal->tail) {
		forget(journal, journal->newest);
		return;
	}
	shmeta_poke(&journal->oldest, frame.txn);
	shmeta_publish(&journal->tail, journal->tail + frame.bytes); /* PAIR 9: tail before what was behind it */
}

void shmeta__journal_put(struct shmeta_journal *journal, uint64_t txn, const void *keys, size_t bytes, uint32_t count)
{
	uint64_t size = LEAST_FRAME + bytes;

	if (journal->newest + 1 != txn)
		forget(journal, txn - 1);
	if (count > 0 && (keys == NULL || bytes > SHMETA_JOURNAL_KEYS_MAX)) {
		forget(journal, txn);
	} else if (count > 0) {
		struct shmeta_journal_frame frame = {
			.txn = txn, .after = journal->last, .bytes = (uint32_t)size, .count = count};

		frame.seal = seal_of(&frame, keys, bytes);
		while (journal->head - journal->tail > SHMETA_JOURNAL_RING - size)
			drop_oldest(journal);
		shmeta_fence_write();
		ring_put(journal, journal->head, &frame, sizeof frame);
		ring_put(journal, journal->head + FRAME, keys, bytes);
		ring_put(journal, journal->head + FRAME + bytes, &size, sizeof size);
		shmeta_poke(&journal->last, txn);
		shmeta_publish(&journal->head, journal->head + size); /* PAIR 8: a frame before its commit's number */
	}
	shmeta_publish(&journal->newest, txn); /* PAIR 8: a frame before its commit's number */
}

/* ---- readers' ---- */

enum shmeta_status shmeta__journal_check(const struct shmeta_journal *copy, uint64_t generation)
{
	if (memcmp(copy->signature, journal_signature, sizeof journal_signature) != 0)
		return SHMETA_ERR_CORRUPT;
	if (copy->version != SHMETA_JOURNAL_VERSION || copy->ring_bytes != SHMETA_JOURNAL_RING)
		return SHMETA_ERR_VERSION;
	return copy->generation == generation && copy->first_generation <= generation ? SHMETA_OK : SHMETA_ERR_CORRUPT;
}

/* Where the frames begin that are to be copied: with the newest one that is of `since` or older, so
 * that what is left out is known by a sealed number. What is read here is judged in the copy. */
static enum shmeta_status find_first(const struct shmeta_journal *journal, uint64_t since, uint64_t tail, uint64_t head,
                                     uint64_t *ret)
{
	uint64_t at = head;

	if (head - tail > SHMETA_JOURNAL_RING || head % WORD != 0 || tail % WORD != 0)
		return SHMETA_ERR_CORRUPT;
	while (at != tail) {
		uint64_t size = shmeta__once64(shmeta_peek(word_at(journal, at - WORD)));

		if (size < LEAST_FRAME || size > at - tail || size % WORD != 0)
			return SHMETA_ERR_CORRUPT;
		at -= size;
		if (shmeta_peek(word_at(journal, at + offsetof(struct shmeta_journal_frame, txn))) <= since)
			break;
	}
	*ret = at;
	return SHMETA_OK;
}

/* Each frame is what the writer put there, and follows the one before. ret_first: the first one's
 * head. */
static bool is_whole(const uint8_t *frames, size_t bytes, struct shmeta_journal_frame *ret_first)
{
	struct shmeta_journal_frame frame;
	uint64_t last = 0, size;

	for (size_t at = 0; at < bytes; at += frame.bytes) {
		if (bytes - at < LEAST_FRAME)
			return false;
		memcpy(&frame, frames + at, sizeof frame);
		if (frame.bytes < LEAST_FRAME || frame.bytes > bytes - at || frame.bytes % WORD != 0)
			return false;
		memcpy(&size, frames + at + frame.bytes - WORD, sizeof size);
		if (size != frame.bytes || frame.txn <= frame.after || (at > 0 && frame.after != last) ||
		    frame.seal != seal_of(&frame, frames + at + FRAME, frame.bytes - LEAST_FRAME))
			return false;
		if (at == 0)
			*ret_first = frame;
		last = frame.txn;
	}
	return true;
}

/* ret_first: where what was copied began. */
static enum shmeta_status copy_since(const struct shmeta_journal *journal, uint64_t tail,
                                     struct shmeta__journal_part *part, uint64_t *ret_first)
{
	uint64_t head = shmeta_observe(&journal->head); /* PAIR 8: a frame before its commit's number */
	struct shmeta_journal_frame first = {0};
	enum shmeta_status status = find_first(journal, part->since, tail, head, ret_first);

	if (status != SHMETA_OK)
		return status;
	if (*ret_first == head)
		return shmeta_observe(&journal->oldest) > part->since ? SHMETA_TOO_OLD : SHMETA_OK;
	part->bytes = head - *ret_first;
	part->frames = malloc(part->bytes);
	if (part->frames == NULL)
		return SHMETA_ERR_NO_MEMORY;
	ring_get(journal, *ret_first, part->frames, part->bytes);
	if (!is_whole(part->frames, part->bytes, &first))
		return SHMETA_ERR_CORRUPT;
	if (first.txn <= part->since || first.after <= part->since)
		return SHMETA_OK;
	return *ret_first == tail ? SHMETA_TOO_OLD : SHMETA_ERR_CORRUPT;
}

enum shmeta_status shmeta__journal_since(const struct shmeta_journal *journal, uint64_t since, uint64_t until,
                                         struct shmeta__journal_part *ret)
{
	enum shmeta_status status;
	int overwritten = 0;

	*ret = (struct shmeta__journal_part){.since = since, .until = until};
	/* The writer tells of a commit before it publishes it, unless it keeps no journal. */
	if (shmeta_observe(&journal->newest) < until) /* PAIR 8: a frame before its commit's number */
		return SHMETA_TOO_OLD;
	if (since >= until)
		return SHMETA_OK;
	if (shmeta_observe(&journal->oldest) > since)
		return SHMETA_TOO_OLD;
	for (;;) {
		uint64_t tail = shmeta_observe(&journal->tail),
			 first = tail; /* PAIR 9: tail before what was behind it */

		status = copy_since(journal, tail, ret, &first);
		shmeta_fence_read();
		if (status == SHMETA_OK && shmeta_peek(&journal->tail) <= first)
			return SHMETA_OK;
		free(ret->frames);
		ret->frames = NULL;
		ret->bytes = 0;
		/* What was found wrong may be what came over it meanwhile. */
		if (status == SHMETA_TOO_OLD || status == SHMETA_ERR_NO_MEMORY || shmeta_peek(&journal->tail) == tail)
			return status;
		if (++overwritten == TRIES)
			return SHMETA_TOO_OLD;
	}
}

bool shmeta__journal_next(struct shmeta__journal_part *part, struct shmeta_journal_key *ret, const char **ret_text)
{
	struct shmeta_journal_frame frame;

	for (;;) {
		if (part->at < part->frame_end) {
			size_t left = part->frame_end - part->at;

			if (left < sizeof *ret)
				return false;
			memcpy(ret, part->frames + part->at, sizeof *ret);
			if (ret->bytes < sizeof *ret || ret->bytes > left ||
			    (size_t)ret->topic_bytes + ret->name_bytes > ret->bytes - sizeof *ret)
				return false;
			*ret_text = (const char *)part->frames + part->at + sizeof *ret;
			part->at += ret->bytes;
			return true;
		}
		if (part->frame_end > 0)
			part->at = part->frame_end + WORD;
		if (part->at >= part->bytes)
			return false;
		memcpy(&frame, part->frames + part->at, sizeof frame);
		part->txn = frame.txn;
		part->frame_end = part->at + frame.bytes - WORD;
		part->at = frame.txn > part->since && frame.txn <= part->until ? part->at + FRAME : part->frame_end;
	}
}
