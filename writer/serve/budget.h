/* SPDX-License-Identifier: Apache-2.0
 * How long the loop works for one user while others ask, too: in each window of time a part of it.
 * Pure accounting of what the caller measures. */
#ifndef SHMETA_WRITER_SERVE_BUDGET_H
#define SHMETA_WRITER_SERVE_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUDGET_WINDOW_NS UINT64_C(10000000)
#define BUDGET_USER_NS (BUDGET_WINDOW_NS / 4)
#define BUDGET_FIRST_NS (BUDGET_USER_NS / 4)
#define BUDGET_MEMORY_NS UINT64_C(1000000000) /* so long a user counts as one who asks */

struct budget_user {
	uint32_t uid;
	uint64_t spent_ns; /* in the window */
	uint64_t asked_ns; /* the last time */
};

struct budget {
	uint64_t window_ns; /* when it began */
	struct budget_user *user;
	size_t count, room;
};

/* May this user be served now? While nobody else asks, always. */
bool budget_left(struct budget *b, uint32_t uid, uint64_t now_ns);
/* Are others to be served first? It has had more than BUDGET_FIRST_NS, and they ask, too. */
bool budget_yields(struct budget *b, uint32_t uid, uint64_t now_ns);
/* It was served until now. */
void budget_spend(struct budget *b, uint32_t uid, uint64_t took_ns, uint64_t now_ns);
/* When everybody's is whole again. */
uint64_t budget_renewed_ns(const struct budget *b);
void budget_free(struct budget *b);

#endif
