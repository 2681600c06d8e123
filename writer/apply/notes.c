/* SPDX-License-Identifier: Apache-2.0
 * Rows that enter or leave the quarantine in a transaction: noted while it is open, told when it is
 * committed. */
#include "writer/apply/apply.h"

void apply_note_quarantine(struct apply *a, bool left, enum shmeta_class cls, struct shmeta_str sentence)
{
	struct apply_notes *notes = left ? &a->left : &a->entered;
	struct apply_note *note = NULL;

	if (notes->count++ < QUARANTINE_SHOWN)
		note = arena_alloc(&a->arena, sizeof *note);
	if (note == NULL || arena_str(&a->arena, sentence, &note->sentence) != 0)
		return; /* counted with the others */
	note->next = NULL;
	note->cls = cls;
	if (notes->first == NULL)
		notes->last = &notes->first;
	*notes->last = note;
	notes->last = &note->next;
}

void apply_tell_notes(struct apply *a, bool left)
{
	struct apply_notes *notes = left ? &a->left : &a->entered;

	for (struct apply_note *note = notes->first; note != NULL; note = note->next, notes->count--)
		a->host.quarantined(a->host.arg, left, note->cls, note->sentence.data, 1);
	if (notes->count > 0)
		a->host.quarantined(a->host.arg, left, SHMETA_CLASS_LIST, NULL, notes->count);
}
