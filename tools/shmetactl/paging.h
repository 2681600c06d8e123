/* SPDX-License-Identifier: Apache-2.0
 * Long lists in slices: each in a snapshot of its own, that goes on behind the last key of the one
 * before. */
#ifndef SHMETA_TOOLS_SHMETACTL_PAGING_H
#define SHMETA_TOOLS_SHMETACTL_PAGING_H

#include "tools/shmetactl/tool.h"

/* The last key that was looked at. */
struct page_place {
	bool begun;
	char name[SHMETA_NAME_MAX + 1]; /* of a topic, an agent or a group */
	size_t name_bytes;
	bool in_topic; /* leases: those of `name` up to `partition` were seen */
	uint32_t partition;
	uint64_t looked; /* keys, for the display of progress */
};

/* One snapshot's worth of rows. OK: there may be more; END: there are none; UNKNOWN; an error. */
typedef enum shmeta_status page_slice_fn(struct session *s, struct page_place *at, void *arg);

struct paging {
	page_slice_fn *slice;
	void (*keep)(void *arg); /* what the slices since the last call gave is good */
	void (*drop)(void *arg); /* it is not: the slice is read again */
	void *arg;
	const char *what;     /* "leases" */
	bool unknown_is_none; /* of a class that was never loaded there are no rows; otherwise that
                               * is an error */
};
/* All slices. Returns 0, or an exit code after having said why. */
int page_all(struct session *s, const struct paging *paging);

/* Does the pattern match all of the text? Only '*' is special. */
bool page_matches(const char *pattern, const char *text, size_t bytes);

/* The topics that --prefix or --glob asks for; names that do not match are looked at all the same,
 * so that a slice ends in time. row is called for each that does, and answers false when it wants
 * no more. */
enum shmeta_status page_topics(struct session *s, struct page_place *at,
                               bool (*row)(void *arg, const struct shmeta_topic *topic,
                                           const struct shmeta_freshness *fresh),
                               void *arg);
enum shmeta_status page_agents(struct session *s, struct page_place *at,
                               void (*row)(void *arg, const struct shmeta_agent *agent,
                                           const struct shmeta_freshness *fresh),
                               void *arg);
enum shmeta_status page_groups(struct session *s, struct page_place *at,
                               void (*row)(void *arg, const struct shmeta_group *group,
                                           const struct shmeta_freshness *fresh),
                               void *arg);
/* By topic, topics by name; expired ones too. */
enum shmeta_status page_leases(struct session *s, struct page_place *at,
                               void (*row)(void *arg, struct shmeta_str topic, const struct shmeta_lease *lease,
                                           const struct shmeta_freshness *fresh),
                               void *arg);

#endif
