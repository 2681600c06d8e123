/* SPDX-License-Identifier: Apache-2.0
 * Does the store hold what the source holds? One pass of `verify`, for the files that make it:
 * verify_compare.c compares what the source's engine reads with the store, verify_extra.c looks for
 * what the store has beside it, verify_passes.c goes on until both agree or the time is over. */
#ifndef SHMETA_TOOLS_SHMETACTL_VERIFY_CONTENTS_H
#define SHMETA_TOOLS_SHMETACTL_VERIFY_CONTENTS_H

#include "tools/shmetactl/source_uri.h"
#include "tools/shmetactl/verify.h"

enum { VERIFY_ROWS = 2048 }; /* source segments compared at a time */

struct group_row {
	const char *tenant; /* the session's */
	char *id;
	int64_t created_at_ms, updated_at_ms;
	bool in_store;
};

struct verify {
	struct tool *tool;
	struct pages pages;
	struct findings found;
	uint64_t structure_problems;
	bool contents_checked, again;

	/* The pass that is running. */
	struct {
		char *tenant;
		struct session s;
	} * session;
	size_t sessions;
	struct session *s; /* of the tenant whose rows come */
	const char *tenant;
	char *topic; /* whose rows come; NULL: none */
	bool topic_in_store, partition_open, partition_in_store;
	uint32_t partition_id;
	uint32_t *partition_ids; /* of the topic, as the source gave them */
	size_t partition_ids_count, partition_ids_capacity;
	uint32_t *seen; /* topic ids that the source has */
	size_t seen_count, seen_capacity;
	struct shmeta_segment rows[VERIFY_ROWS];
	char *row_strings[VERIFY_ROWS];
	size_t row_count;
	bool rows_alone; /* of partitions their own rows, and not their segments */
	bool has_last;   /* the base of the last row compared */
	uint64_t last;
	int code; /* an error that ends the pass, said already */

	uint64_t topics, partitions, segments, agents, groups, offsets, leases, quarantined;
	uint64_t incomplete;     /* 1 << class: what the store does not know of it is not missing */
	struct group_row *group; /* as the source gave them; v->groups of them */
	size_t group_capacity;
	bool groups_sorted;
	uint64_t groupless; /* of the offsets: those that the store has, too, of a group that has no
                             * row */
	char sentences[4][256];
	uint64_t progress_shown_ns;
};

#define differs(v, ...) findings_add(&(v)->found, __VA_ARGS__)

static inline char *text_of(struct shmeta_str s)
{
	return tool_copy(s.data, s.bytes);
}

/* What a callback of the sink answers. */
static inline enum shmeta_status verify_stop(const struct verify *v)
{
	return v->code != 0 ? SHMETA_ERR_SYSTEM : SHMETA_OK;
}

/* ---- verify_compare.c ---- */

/* The sink that compares; arg: struct verify. Its key_begin and key_end are the pass's. */
extern const struct backend_sink verify_sink;
/* The session of a tenant, opened when its first row comes. false: v->code says why. */
bool verify_use_tenant(struct verify *v, struct shmeta_str tenant);
/* Ends the comparison of the topic whose rows came. */
void verify_end_topic(struct verify *v);
/* Rows of one partition follow, whose topic's row is not among them; segments: its segments,
 * too. */
void verify_begin_partition(struct verify *v, struct shmeta_str topic, bool segments);
/* Ends the comparison of the rows that came, of whatever they were. Which other partitions the
 * topic has is not looked at. */
void verify_end_rows(struct verify *v);
/* Forgets rows and groups that the source gave. */
void verify_drop_rows(struct verify *v);
void verify_forget_groups(struct verify *v);
/* The row that the source gave of a group of this tenant; NULL: none. */
struct group_row *verify_find_group(struct verify *v, char *group);

/* A snapshot in which something is looked up and compared. Findings of one that took too long are
 * taken back, and the caller looks again. */
struct look {
	struct verify *v;
	size_t found;
};
bool verify_look_begin(struct verify *v, struct look *look);
/* true: the look counts. false: again, or v->code says why not. */
bool verify_look_end(struct look *look);

struct pair {
	const char *name;
	int64_t source, store;
};
/* Adds a finding for the first field that differs. */
bool verify_pairs_differ(struct verify *v, enum shmeta_class cls, const char *where, const struct pair *pairs,
                         size_t count);

/* ---- verify_extra.c ---- */

/* Topics that the source did not give, of all tenants of the store. */
void verify_extra_topics(struct verify *v);
/* Agents, groups, offsets and leases that the source did not give, of all tenants. */
void verify_extra_advisory(struct verify *v);

/* ---- verify_passes.c ---- */

/* Will the store still follow the source? */
bool verify_writer_alive(const struct verify *v);
/* Everything that a pass owns. */
void verify_close(struct verify *v);
/* Compares the store with the source. Returns 0, or an exit code, said. */
int verify_contents(struct verify *v, const char *uri);

#endif
