/* SPDX-License-Identifier: Apache-2.0
 * What a source holds after any sequence of operations, worked out from what the operations mean
 * alone: an oracle for the engines that shares no code with any of them. A few names of each kind,
 * so that nearly every operation meets what came before it. Plain data: a struct assignment is a
 * copy. */
#ifndef SHMETA_TESTS_SUPPORT_MODEL_H
#define SHMETA_TESTS_SUPPORT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"

enum {
	MODEL_TOPICS = 4,     /* t0 .. t3 */
	MODEL_PARTITIONS = 3, /* a topic's most */
	MODEL_GROUPS = 2,     /* g0, g1 */
	MODEL_AGENTS = 3,     /* a0 .. a2 */
	MODEL_OBJECTS = 3,    /* o0 .. o2 */
	MODEL_SEGMENTS = 48,  /* of a partition */
	MODEL_OFFERS = 256,
	MODEL_EPOCHS = 64, /* of a partition, under which something was written */
	MODEL_TEXT = 48
};

/* The status of an operation that the application's own trigger or constraint refuses: engines may
 * name it as they like. */
#define MODEL_REFUSED ((enum shmeta_status)(-1000))

struct model_segment {
	uint64_t base, end, size, position;
	uint32_t records;
	int64_t created_ms;
	char id[MODEL_TEXT], key[MODEL_TEXT]; /* the bucket is always "bucket" */
};

struct model_partition {
	bool there;
	uint64_t watermark;
	/* What outlives the topic: the highest epoch that a lease of this place ever had, and a
	 * compaction. */
	uint64_t highest_lease, highest_compaction;
	struct model_segment segment[MODEL_SEGMENTS]; /* ascending by base */
	size_t segments;
	struct {
		bool there, has_metadata;
		uint64_t offset;
	} committed[MODEL_GROUPS];
	struct {
		bool there, expired;
		bool foreign; /* given by others: the daemon learns its epoch when a trigger sees it
                               * go */
		int agent;
		uint64_t epoch;
	} lease;
	struct model_epoch {
		uint64_t epoch, start;
	} epoch[MODEL_EPOCHS]; /* under which something was written, ascending; others who delete a
                                * topic leave them */
	size_t epochs;
	bool epochs_dropped; /* older ones than these are not kept any more */
};

struct model_topic {
	bool there, has_retention;
	uint32_t partitions;
	int64_t retention_ms;
	int config; /* the value of the key "k"; 0: no such key */
	struct model_partition partition[MODEL_PARTITIONS];
};

struct model_agent {
	bool there;
	char address[MODEL_TEXT];
	int64_t heartbeat_ms, started_ms;
};

enum model_offer_state { MODEL_PENDING, MODEL_ACCEPTED, MODEL_COMPLETED, MODEL_REJECTED, MODEL_FORGOTTEN };

struct model_object {
	bool there;
	uint64_t size;
	struct model_slice {
		int topic;
		uint32_t partition;
		uint64_t base;
	} slice[MODEL_SEGMENTS];
	size_t slices; /* that were ever put; those whose segment is gone do not count */
};

/* What an application's own schema does to our statements. */
struct model_schema {
	bool adding_moves_retention; /* each segment added adds 1 to its topic's retention_ms */
	bool watermark_is_checked;   /* no high_watermark whose remainder by 7 is 3 */
	bool segments_are_held;      /* a segment whose base is a multiple of 50 cannot be
                                      * deleted */
	bool segments_are_swallowed; /* an added segment whose base is an odd multiple of 30
                                      * silently does not appear */
};

struct model {
	struct model_schema schema;
	struct model_topic topic[MODEL_TOPICS];
	bool group[MODEL_GROUPS];
	struct model_agent agent[MODEL_AGENTS];
	struct model_offer {
		int topic, from, to;
		uint32_t partition;
		enum model_offer_state state;
	} offer[MODEL_OFFERS]; /* its transfer_id is the index + 1 */
	size_t offers;
	struct model_object object[MODEL_OBJECTS];
};

/* Do the operations of one call in order. transfer_id in ops and results are the model's own
 * numbers. */
void model_do(struct model *m, const struct shmeta_op *ops, size_t count, struct shmeta_result *ret_results);
/* What shmeta_leader_epoch_end() answers, of a partition that is there. */
enum shmeta_status model_epoch_end(const struct model_partition *p, uint64_t epoch, uint64_t *ret_epoch,
                                   uint64_t *ret_end_offset);
/* The number in a name: "t2" -> 2. -1: the model has no such thing. */
int model_number(struct shmeta_str name, int most);

/* What others do: they say nothing of it, and the model only keeps what follows from it (cascades,
 * epochs). */
void model_drop_topic(struct model *m, int topic);
void model_drop_group(struct model *m, int group);
void model_drop_agent(struct model *m, int agent);
/* false: no room, nothing was done. */
bool model_put_segment(struct model *m, int topic, uint32_t partition, const struct model_segment *segment);
void model_drop_segment(struct model *m, int topic, uint32_t partition, uint64_t base);
void model_set_lease(struct model *m, int topic, uint32_t partition, int agent, uint64_t epoch, bool expired);
struct model_segment *model_segment(struct model *m, int topic, uint32_t partition, uint64_t base);
bool model_watermark_allowed(const struct model *m, uint64_t watermark);

/* Lines, sorted, of all that the seven tables hold. To be freed. */
char *model_text(const struct model *m);

/* The lines of a source or a store, gathered in any order and compared with the model's. */
struct model_lines {
	char **line;
	size_t count, capacity;
};
__attribute__((format(printf, 2, 3))) void model_line(struct model_lines *lines, const char *fmt, ...);
void model_line_topic(struct model_lines *lines, const char *name, uint64_t partitions, bool has_retention,
                      int64_t retention_ms, int config);
void model_line_partition(struct model_lines *lines, const char *topic, uint64_t partition, uint64_t watermark);
void model_line_segment(struct model_lines *lines, const char *topic, uint64_t partition, uint64_t base, uint64_t end,
                        uint64_t records, uint64_t size, int64_t created_ms, const char *id, const char *key);
void model_line_group(struct model_lines *lines, const char *group);
void model_line_offset(struct model_lines *lines, const char *group, const char *topic, uint64_t partition,
                       uint64_t offset, bool has_metadata);
void model_line_agent(struct model_lines *lines, const char *agent, const char *address, int64_t heartbeat_ms,
                      int64_t started_ms);
void model_line_lease(struct model_lines *lines, const char *topic, uint64_t partition, const char *agent,
                      uint64_t epoch, bool expired);
char *model_lines_text(struct model_lines *lines); /* sorted, joined; the lines are freed */

#endif
