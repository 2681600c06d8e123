/* SPDX-License-Identifier: Apache-2.0
 * The instances of this host as the exporter knows them: found, looked at, and remembered for an
 * hour. Owns: the list, the newest copy of each instance's pages, and its history. One thread. */
#ifndef SHMETA_TOOLS_EXPORTER_INSTANCES_H
#define SHMETA_TOOLS_EXPORTER_INSTANCES_H

#include <limits.h>

#include "tools/exporter/panel.h"
#include "tools/monitor/metrics.h"

enum {
	INSTANCES = 16,
	INSTANCE_NAME_BYTES = 128,
	HISTORY_STEP_S = 5,
	HISTORY_SAMPLES = 3600 / HISTORY_STEP_S + 1,
	LOOK_MS = 200 /* what is newer is not looked at again: whoever asks in a loop costs nothing
                       * more */
};

/* What panels are drawn of. Counters are as the writer has them; UINT64_MAX: not known. */
#define SAMPLE_COUNTERS(C)   \
	C(fetch_ns)          \
	C(fetches)           \
	C(apply_ns)          \
	C(commits)           \
	C(write_source_ns)   \
	C(write_batches)     \
	C(write_ops)         \
	C(source_queries)    \
	C(refresh_keys)      \
	C(refresh_coalesced) \
	C(absent_answers)    \
	C(lag_ns)            \
	C(queue_depth)       \
	C(store_used)        \
	C(store_pinned)      \
	C(store_limit)

struct sample {
	uint64_t at_ns; /* CLOCK_BOOTTIME; 0: there is none */
	uint64_t epoch; /* of the writer: its counters begin anew with it */
	uint64_t found, absent, unknown, errors, stale;
#define C(name) uint64_t name;
	SAMPLE_COUNTERS(C)
#undef C
	uint64_t free_bytes, readers, pinning, pin_age_ns;
	uint64_t class_age_ns[SHMETA_CLASS_COUNT];
	uint64_t source_time[PLOT_HEAT_ROWS]; /* bulk reads of the source, by powers of two from 4.1
                                               * us on */
	uint32_t phase;
	enum health_severity worst;
	bool readable, alive, source_up;
};

struct instance {
	char name[INSTANCE_NAME_BYTES]; /* printable */
	char dir[PATH_MAX];
	bool readable;
	char why[600]; /* not readable: a sentence, printable */
	struct pages pages;
	struct health health;
	struct sample sample[HISTORY_SAMPLES]; /* a ring */
	uint32_t newest;
};

struct instances {
	const char *root; /* looked through for instances; NULL: only those given */
	uint32_t count;
	struct instance *list[INSTANCES];
	bool told_full; /* that there are more */
	uint64_t looked_ns, sampled_ns;
};

/* An instance that is always there, readable or not. False: there are too many. */
bool instances_add(struct instances *all, const char *dir);
/* Look at all of them, if that is due, and every HISTORY_STEP_S remember what was seen. */
void instances_look(struct instances *all);
/* NULL: there is none of that name. name NULL: the first. */
struct instance *instances_find(struct instances *all, const char *name);
void instances_free(struct instances *all);
/* i steps ago; NULL: not that old. */
const struct sample *instance_sample(const struct instance *instance, uint32_t i);
void instance_view(const struct instance *instance, struct metric_view *ret);

#endif
