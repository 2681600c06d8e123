/* SPDX-License-Identifier: Apache-2.0
 * Offsets and leases that came before their topic (orphans.h). */
#include "writer/keys/orphans.h"

enum { ORPHAN_TRIES = 3 };

void orphans_found(struct orphans *o, uint64_t count, bool followed)
{
	if (count > 0 && followed && o->tries < ORPHAN_TRIES) {
		o->tries++;
		o->state = ORPHANS_WAIT;
	} else {
		o->tries = 0;
	}
}

void orphans_adoptable(struct orphans *o)
{
	o->state = ORPHANS_WAIT;
}

bool orphans_look(struct orphans *o)
{
	if (o->state != ORPHANS_WAIT)
		return false;
	o->state = ORPHANS_DUE;
	return true;
}

void orphans_are_read(struct orphans *o)
{
	if (o->state == ORPHANS_DUE)
		o->state = ORPHANS_NONE;
}
