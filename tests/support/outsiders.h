/* SPDX-License-Identifier: Apache-2.0
 * What a run of the differential test consists of, and what others do to its sources: changes
 * behind the daemon's back, triggers that go, tables that are swapped, databases that are put back,
 * schemas that forbid. Each changes the side's model as it changes its rows. */
#ifndef SHMETA_TESTS_SUPPORT_OUTSIDERS_H
#define SHMETA_TESTS_SUPPORT_OUTSIDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/support/model.h"
#include "tests/support/run_daemon.h"
#include "tests/support/source_world.h"

enum { RUN_ENGINES = 4, RUN_NAMES = 512 };

/* One engine: its source, its daemon, its client, and what it should hold. */
struct side {
	const char *name;
	struct world world;
	struct run_daemon daemon;
	struct shmeta *instance;
	struct shmeta_reader *reader;
	struct shmeta_client *client;
	struct model model;
	uint64_t transfer[MODEL_OFFERS]; /* the engine's own number of each of the model's offers */
	double changed_s;                /* when its source was last changed */
	struct model kept;               /* when a copy of its source was made */
	uint64_t kept_transfer[MODEL_OFFERS];
	bool has_kept;
	bool unlogged;  /* the triggers are gone: what goes now, nobody can know of */
	bool outsiders; /* others can reach its rows, and these outlive a daemon */
	bool bounded;   /* its store has room for a part of it; the rest is asked for */
};

/* What runs met with. */
struct tally {
	uint64_t done[SHMETA_OP_TYPES];
	uint64_t ended; /* epochs that were asked for and found */
};

struct run {
	uint64_t seed, random;
	uint32_t step;
	bool trace;
	struct model_schema schema; /* of the sides that have one of their own */
	struct side side[RUN_ENGINES];
	char name[RUN_NAMES][MODEL_TEXT];
	size_t names;
	struct tally *tally;
};

/* Go on with the numbers of this step and side (0: all sides): a step draws the same ones whatever
 * the steps before it met with. */
void run_draw_anew(struct run *r, uint64_t side);
uint32_t run_pick(struct run *r, uint32_t below);
/* A name that lives for the next RUN_NAMES names. */
__attribute__((format(printf, 2, 3))) struct shmeta_str run_name(struct run *r, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void run_trace(const struct run *r, const char *fmt, ...);

/* A transaction of somebody else. */
void outsiders_write(struct run *r, struct side *s);
/* Wait until the daemon, which runs, has made the feed's triggers: it may not have looked since
 * they went last. */
void outsiders_await_triggers(struct run *r, struct side *s);
/* The feed's triggers, which are there, go: by a migration that rebuilds tables, by an operator. */
void outsiders_drop_triggers(struct run *r, struct side *s);
/* Changes that the feed's triggers do not log, or that no trigger can see. */
void outsiders_bypass(struct run *r, struct side *s);
/* Make the application's own schema forbid and add what side->model.schema is set to; how: which
 * kind of RAISE. */
void outsiders_make_hostile(struct side *s, const struct model_schema *schema, uint32_t how);

#endif
