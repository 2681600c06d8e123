/* SPDX-License-Identifier: Apache-2.0
 * Messages between the writer's two threads. */
#include "writer/daemon/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
	int fd;
	pthread_mutex_t lock;
	struct mail *first, **end;
	uint64_t done, total, lost;
	bool progressed;
	bool held;
	uint32_t unrung;    /* letters posted since, while held */
	struct mail *spare; /* as many as answers are owed, at least */
	size_t owed, spares;
};

enum { LETTERS_A_RING = 64, SPARE_TEXT = 200, SPARES_KEPT = 64 };

enum shmeta_status mailbox_new(struct mailbox **ret, struct shmeta_err *err)
{
	struct mailbox *box = calloc(1, sizeof(*box));

	if (box == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for the mailbox");
	box->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->fd < 0) {
		int error = errno;

		free(box);
		return shmeta_fail_errno(err, error, "cannot create an eventfd");
	}
	pthread_mutex_init(&box->lock, NULL);
	box->end = &box->first;
	*ret = box;
	return SHMETA_OK;
}

void mailbox_free(struct mailbox *box)
{
	if (box == NULL)
		return;
	for (struct mail *letter = box->first, *next; letter != NULL; letter = next) {
		next = letter->next;
		free(letter);
	}
	for (struct mail *letter = box->spare, *next; letter != NULL; letter = next) {
		next = letter->next;
		free(letter);
	}
	pthread_mutex_destroy(&box->lock);
	close(box->fd);
	free(box);
}

int mailbox_fd(const struct mailbox *box)
{
	return box->fd;
}

struct mail *mailbox_parcel(struct mailbox *box, enum mail_kind kind, size_t bytes)
{
	struct mail *letter = calloc(1, sizeof(*letter) + bytes);

	if (letter == NULL) {
		pthread_mutex_lock(&box->lock);
		box->lost++;
		pthread_mutex_unlock(&box->lock);
		return NULL;
	}
	letter->kind = kind;
	letter->bytes = bytes;
	return letter;
}

struct mail *mailbox_letter(struct mailbox *box, enum mail_kind kind, const char *text)
{
	size_t bytes = text != NULL ? strlen(text) + 1 : 1;
	struct mail *letter = mailbox_parcel(box, kind, bytes);

	if (letter != NULL && text != NULL)
		memcpy(letter->text, text, bytes);
	return letter;
}

bool mailbox_owe(struct mailbox *box)
{
	struct mail *letter = NULL;
	bool enough;

	pthread_mutex_lock(&box->lock);
	enough = box->spares > box->owed;
	box->owed += enough;
	pthread_mutex_unlock(&box->lock);
	if (enough)
		return true;
	letter = malloc(sizeof(*letter) + SPARE_TEXT);
	if (letter == NULL)
		return false;
	pthread_mutex_lock(&box->lock);
	letter->next = box->spare;
	box->spare = letter;
	box->spares++;
	box->owed++;
	pthread_mutex_unlock(&box->lock);
	return true;
}

void mailbox_settle(struct mailbox *box)
{
	struct mail *letter = NULL;

	pthread_mutex_lock(&box->lock);
	box->owed--;
	if (box->spares > box->owed && box->spares > SPARES_KEPT) {
		letter = box->spare;
		box->spare = letter->next;
		box->spares--;
	}
	pthread_mutex_unlock(&box->lock);
	free(letter);
}

struct mail *mailbox_spare(struct mailbox *box, enum mail_kind kind, const char *text)
{
	struct mail *letter;

	pthread_mutex_lock(&box->lock);
	letter = box->spare;
	box->spare = letter->next;
	box->spares--;
	pthread_mutex_unlock(&box->lock);
	memset(letter, 0, sizeof(*letter));
	letter->kind = kind;
	letter->bytes = SPARE_TEXT;
	(void)snprintf(letter->text, SPARE_TEXT, "%s", text);
	return letter;
}

static void ring(const struct mailbox *box)
{
	uint64_t one = 1;

	/* Only a full counter refuses it, and then the fd is readable anyway. */
	while (write(box->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void mailbox_post(struct mailbox *box, struct mail *letter)
{
	bool now;

	pthread_mutex_lock(&box->lock);
	/* When there is one already, it has been rung for, and whoever comes takes all. */
	now = box->held ? ++box->unrung == LETTERS_A_RING : box->first == NULL;
	if (now)
		box->unrung = 0;
	*box->end = letter;
	box->end = &letter->next;
	pthread_mutex_unlock(&box->lock);
	if (now)
		ring(box);
}

void mailbox_wake(struct mailbox *box)
{
	ring(box);
}

void mailbox_hold(struct mailbox *box)
{
	pthread_mutex_lock(&box->lock);
	box->held = true;
	pthread_mutex_unlock(&box->lock);
}

void mailbox_release(struct mailbox *box)
{
	bool now;

	pthread_mutex_lock(&box->lock);
	now = box->held && box->unrung > 0;
	box->held = false;
	box->unrung = 0;
	pthread_mutex_unlock(&box->lock);
	if (now)
		ring(box);
}

struct mail *mailbox_take(struct mailbox *box)
{
	struct mail *first;
	uint64_t rung;

	while (read(box->fd, &rung, sizeof(rung)) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&box->lock);
	first = box->first;
	box->first = NULL;
	box->end = &box->first;
	pthread_mutex_unlock(&box->lock);
	return first;
}

void mailbox_progress(struct mailbox *box, uint64_t done, uint64_t total)
{
	pthread_mutex_lock(&box->lock);
	box->done = done;
	box->total = total;
	box->progressed = true;
	pthread_mutex_unlock(&box->lock);
}

bool mailbox_take_progress(struct mailbox *box, uint64_t *ret_done, uint64_t *ret_total)
{
	bool progressed;

	pthread_mutex_lock(&box->lock);
	progressed = box->progressed;
	box->progressed = false;
	*ret_done = box->done;
	*ret_total = box->total;
	pthread_mutex_unlock(&box->lock);
	return progressed;
}

uint64_t mailbox_lost(struct mailbox *box)
{
	uint64_t lost;

	pthread_mutex_lock(&box->lock);
	lost = box->lost;
	pthread_mutex_unlock(&box->lock);
	return lost;
}
