/* SPDX-License-Identifier: Apache-2.0
 * Looks at the newest commit, thinned as they age. */
#include "writer/serve/published.h"

#include <string.h>

/* The inner look whose absence makes the least error for its age. An age of a day then costs as
 * many looks as a minute and ten times a minute: the error grows with the age. */
static void thin(struct published *p, uint64_t now_ns)
{
	size_t best = 1;
	uint64_t least = UINT64_MAX;

	for (size_t i = 1; i + 1 < p->count; i++) {
		uint64_t gap = p->look[i + 1].at_ns - p->look[i - 1].at_ns;
		uint64_t error = gap / ((now_ns - p->look[i].at_ns) / 4096 + 1);

		if (error < least) {
			least = error;
			best = i;
		}
	}
	memmove(&p->look[best], &p->look[best + 1], (p->count - best - 1) * sizeof(p->look[0]));
	p->count--;
}

void published_note(struct published *p, uint64_t generation, uint64_t committed, uint64_t now_ns)
{
	if (p->generation != generation) {
		p->generation = generation;
		p->count = 0;
	}
	if (p->count > 0) {
		const struct published_look *last = &p->look[p->count - 1];

		if (committed <= last->committed)
			return;
		if (now_ns < last->at_ns)
			now_ns = last->at_ns;
	}
	if (p->count == PUBLISHED_LOOKS)
		thin(p, now_ns);
	p->look[p->count++] = (struct published_look){committed, now_ns};
}

uint64_t published_superseded_ns(const struct published *p, uint64_t commit, uint64_t now_ns)
{
	size_t from = 0, to = p->count; /* the first look that saw a later commit */

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (p->look[middle].committed > commit)
			to = middle;
		else
			from = middle + 1;
	}
	return from < p->count && now_ns > p->look[from].at_ns ? now_ns - p->look[from].at_ns : 0;
}
