/* SPDX-License-Identifier: Apache-2.0
 * What the two halves of `verify` share: what they found (verify_findings.c). verify_structure.c
 * looks at the store alone; the other files compare it with the source (verify_contents.h). */
#ifndef SHMETA_TOOLS_SHMETACTL_VERIFY_H
#define SHMETA_TOOLS_SHMETACTL_VERIFY_H

#include "shm/store/store_inspect.h"
#include "tools/shmetactl/inspect.h"

enum { VERIFY_SHOWN = 50 }; /* differences that are printed; all are counted */

struct finding {
	char *tenant, *topic; /* topic NULL: of the class as a whole */
	enum shmeta_class cls;
	char *text;
	char *key; /* what makes it the same finding in another look; NULL: the text */
};

struct findings {
	struct finding *row;
	size_t count, capacity;
};

/* Add one. cls SHMETA_CLASS_COUNT: of the structure. tenant, topic: NULL when it is of no single
 * topic. */
__attribute__((format(printf, 5, 6))) void findings_add(struct findings *found, enum shmeta_class cls,
                                                        const char *tenant, const char *topic, const char *fmt, ...);
void findings_cut(struct findings *found, size_t count);
/* Move those from `from` on to *ret, which is emptied first. */
void findings_take(struct findings *found, size_t from, struct findings *ret);
/* Of those from `from` on keep what was found before, too: a row that moves while it is looked at,
 * and whose cache is always the same few milliseconds behind, differs in another way each time. */
void findings_keep(struct findings *found, size_t from, struct findings *before);

/* 1 << class: what the live instance's store says it lacks some of. 0, or an exit code, said. */
int verify_incomplete(struct tool *tool, const struct pages *pages, uint64_t *ret);
/* Check the structure of the generation in `path`. pages: of the live instance that it belongs to;
 * NULL: a copy. Problems are added to *found; the report has their number. Returns 0, or an exit
 * code, said. */
int verify_structure(struct tool *tool, const struct pages *pages, const char *path, struct findings *found,
                     struct shmeta__verify_report *ret);

#endif
