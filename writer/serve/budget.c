/* SPDX-License-Identifier: Apache-2.0
 * Time of the loop, per user. */
#include "writer/serve/budget.h"

#include <stdlib.h>

static void renew(struct budget *b, uint64_t now_ns)
{
	if (now_ns - b->window_ns < BUDGET_WINDOW_NS)
		return;
	b->window_ns = now_ns;
	for (size_t i = 0; i < b->count; i++)
		b->user[i].spent_ns = 0;
}

static bool asks(const struct budget_user *u, uint64_t now_ns)
{
	return now_ns - u->asked_ns < BUDGET_MEMORY_NS;
}

/* Has it had so much, and do others ask? */
static bool is_bound(struct budget *b, uint32_t uid, uint64_t most_ns, uint64_t now_ns)
{
	bool others = false, spent = false;

	renew(b, now_ns);
	for (size_t i = 0; i < b->count; i++)
		if (b->user[i].uid == uid)
			spent = b->user[i].spent_ns >= most_ns;
		else
			others |= asks(&b->user[i], now_ns);
	return spent && others;
}

bool budget_left(struct budget *b, uint32_t uid, uint64_t now_ns)
{
	return !is_bound(b, uid, BUDGET_USER_NS, now_ns);
}

bool budget_yields(struct budget *b, uint32_t uid, uint64_t now_ns)
{
	return is_bound(b, uid, BUDGET_FIRST_NS, now_ns);
}

static struct budget_user *user_of(struct budget *b, uint32_t uid, uint64_t now_ns)
{
	struct budget_user *unused = NULL, *grown;
	size_t room = b->room > 0 ? b->room * 2 : 16;

	for (size_t i = 0; i < b->count; i++) {
		if (b->user[i].uid == uid)
			return &b->user[i];
		if (!asks(&b->user[i], now_ns))
			unused = &b->user[i];
	}
	if (unused == NULL && b->count == b->room) {
		grown = realloc(b->user, room * sizeof *grown);
		if (grown == NULL)
			return NULL;
		b->user = grown;
		b->room = room;
	}
	if (unused == NULL)
		unused = &b->user[b->count++];
	*unused = (struct budget_user){.uid = uid};
	return unused;
}

void budget_spend(struct budget *b, uint32_t uid, uint64_t took_ns, uint64_t now_ns)
{
	struct budget_user *u = user_of(b, uid, now_ns);

	if (u == NULL)
		return; /* it is not bound for want of memory */
	u->spent_ns += took_ns;
	u->asked_ns = now_ns;
}

uint64_t budget_renewed_ns(const struct budget *b)
{
	return b->window_ns + BUDGET_WINDOW_NS;
}

void budget_free(struct budget *b)
{
	free(b->user);
	*b = (struct budget){.user = NULL};
}
