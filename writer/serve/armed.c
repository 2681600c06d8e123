/* SPDX-License-Identifier: Apache-2.0
 * Waits of connections (armed.h). */
#include "writer/serve/armed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "shm/page/board.h"
#include "writer/serve/connection.h"

enum { MASK_WORDS = SHMETA_TOUCHED_WORDS / 64 };

/* A word that is waited for, in the chain of those who wait for it. */
struct place {
	struct place *next, **link;
	struct wait *wait;
};

struct wait {
	struct wait *next, **link; /* in its connection's list */
	struct wait *later, **due; /* in the list of those that are over; due NULL: it is not */
	struct connection *c;
	uint64_t ticket, id;
	uint32_t count;
	struct place place[];
};

struct armed {
	pthread_mutex_t lock;
	/* Under the lock. */
	uint64_t *moved; /* since the loop last looked */
	bool committed, renewed;
	size_t waits;                                 /* that are not over */
	uint64_t held[MASK_WORDS], since[MASK_WORDS]; /* words that are waited for; that were since
                                                       * armed_waited() */

	/* The loop's. */
	uint64_t *seen;
	size_t words;
	struct wait *over, **over_end;
	struct place *any;                        /* for every commit */
	struct place *word[SHMETA_TOUCHED_WORDS]; /* a chain for each: nobody makes another's
                                                   * longer */
	uint64_t mask[2][MASK_WORDS];
};

struct armed *armed_new(void)
{
	struct armed *a = calloc(1, sizeof *a);

	if (a == NULL)
		return NULL;
	(void)pthread_mutex_init(&a->lock, NULL);
	a->moved = a->mask[0];
	a->seen = a->mask[1];
	a->over_end = &a->over;
	return a;
}

void armed_free(struct armed *a)
{
	if (a == NULL)
		return;
	(void)pthread_mutex_destroy(&a->lock);
	free(a);
}

bool armed_note(struct armed *a, const uint64_t *touched)
{
	bool waited;

	(void)pthread_mutex_lock(&a->lock);
	waited = a->waits > 0;
	if (waited) {
		a->committed = true;
		a->renewed |= touched == NULL;
		for (size_t i = 0; touched != NULL && i < MASK_WORDS; i++)
			a->moved[i] |= touched[i];
	}
	(void)pthread_mutex_unlock(&a->lock);
	return waited;
}

void armed_waited(struct armed *a, uint64_t *words)
{
	(void)pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < MASK_WORDS; i++) {
		words[i] |= a->since[i];
		a->since[i] = a->held[i];
	}
	(void)pthread_mutex_unlock(&a->lock);
}

static void hold(uint64_t *mask, uint32_t word, bool held)
{
	uint64_t bit = UINT64_C(1) << word % 64;

	mask[word / 64] = held ? mask[word / 64] | bit : mask[word / 64] & ~bit;
}

static void place_add(struct place **head, struct place *place)
{
	place->next = *head;
	place->link = head;
	if (place->next != NULL)
		place->next->link = &place->next;
	*head = place;
}

static void place_remove(struct place *place)
{
	*place->link = place->next;
	if (place->next != NULL)
		place->next->link = place->link;
}

size_t armed_words(const struct armed *a)
{
	return a->words;
}

bool armed_add(struct armed *a, struct connection *c, uint64_t ticket, const struct shmeta_frame_wait *frame)
{
	const bool any = (frame->flags & SHMETA_WAIT_ANY) != 0;
	const uint32_t *words = (const uint32_t *)(frame + 1), count = any ? 1 : frame->word_count;
	struct wait *wait = calloc(1, sizeof *wait + count * sizeof wait->place[0]);

	if (wait == NULL)
		return false;
	(void)pthread_mutex_lock(&a->lock);
	a->waits++;
	for (uint32_t i = 0; !any && i < count; i++) {
		hold(a->held, words[i], true);
		hold(a->since, words[i], true);
	}
	(void)pthread_mutex_unlock(&a->lock);
	wait->c = c;
	wait->ticket = ticket;
	wait->id = frame->head.id;
	wait->count = count;
	for (uint32_t i = 0; i < count; i++) {
		wait->place[i].wait = wait;
		place_add(any ? &a->any : &a->word[words[i]], &wait->place[i]);
	}
	wait->next = c->waits;
	wait->link = &c->waits;
	if (wait->next != NULL)
		wait->next->link = &wait->next;
	c->waits = wait;
	c->wait_words += count;
	a->words += count;
	return true;
}

/* It waits for nothing any more. */
static void disarm(struct armed *a, struct wait *wait)
{
	(void)pthread_mutex_lock(&a->lock);
	a->waits--;
	for (uint32_t i = 0; i < wait->count; i++) {
		struct place **head = wait->place[i].link;

		place_remove(&wait->place[i]);
		/* It was the last one of its word, which its place in the table tells. */
		if (*head == NULL && head >= a->word && head < a->word + SHMETA_TOUCHED_WORDS)
			hold(a->held, (uint32_t)(head - a->word), false);
	}
	(void)pthread_mutex_unlock(&a->lock);
	wait->c->wait_words -= wait->count;
	a->words -= wait->count;
	wait->count = 0;
}

static void end(struct armed *a, struct wait *wait)
{
	disarm(a, wait);
	wait->later = NULL;
	wait->due = a->over_end;
	*a->over_end = wait;
	a->over_end = &wait->later;
}

static void leave(struct armed *a, struct wait *wait)
{
	if (wait->due == NULL) {
		disarm(a, wait);
	} else {
		*wait->due = wait->later;
		if (wait->later != NULL)
			wait->later->due = wait->due;
		else
			a->over_end = wait->due;
	}
	*wait->link = wait->next;
	if (wait->next != NULL)
		wait->next->link = wait->link;
	free(wait);
}

bool armed_withdraw(struct armed *a, struct connection *c, uint64_t id, uint64_t *ret_ticket)
{
	struct wait *wait = c->waits;

	while (wait != NULL && wait->id != id)
		wait = wait->next;
	if (wait == NULL)
		return false;
	*ret_ticket = wait->ticket;
	leave(a, wait);
	return true;
}

bool armed_forget(struct armed *a, struct connection *c, uint64_t *ret_ticket)
{
	if (c->waits == NULL)
		return false;
	*ret_ticket = c->waits->ticket;
	leave(a, c->waits);
	return true;
}

static void end_all_of(struct armed *a, struct place **head)
{
	while (*head != NULL)
		end(a, (*head)->wait);
}

/* What the engine noted since the last call. */
static void collect(struct armed *a)
{
	uint64_t *moved;
	bool committed, renewed;

	(void)pthread_mutex_lock(&a->lock);
	committed = a->committed;
	renewed = a->renewed;
	a->committed = a->renewed = false;
	moved = a->moved;
	if (committed) {
		a->moved = a->seen;
		a->seen = moved;
	}
	(void)pthread_mutex_unlock(&a->lock);
	if (!committed)
		return;
	end_all_of(a, &a->any);
	for (size_t i = 0; renewed && i < SHMETA_TOUCHED_WORDS; i++)
		end_all_of(a, &a->word[i]);
	for (uint32_t i = 0; i < MASK_WORDS; i++)
		for (uint64_t bits = moved[i]; bits != 0; bits &= bits - 1)
			end_all_of(a, &a->word[i * 64 + (uint32_t)__builtin_ctzll(bits)]);
	memset(moved, 0, MASK_WORDS * sizeof *moved);
}

bool armed_take(struct armed *a, uint64_t *ret_ticket)
{
	struct wait *wait;

	if (a->over == NULL)
		collect(a);
	wait = a->over;
	if (wait == NULL)
		return false;
	*ret_ticket = wait->ticket;
	leave(a, wait);
	return true;
}
