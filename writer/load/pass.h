/* SPDX-License-Identifier: Apache-2.0
 * A pass: everything that the source has, compared with the store, while the feed is followed,
 * writes are done and readers served (reconcile.c). */
#ifndef SHMETA_WRITER_LOAD_PASS_H
#define SHMETA_WRITER_LOAD_PASS_H

#include "writer/engine/engine.h"
#include "writer/load/differences.h"
#include "writer/load/pass_window.h"

/* The topics that the store had when a pass began, ascending. */
struct pass_known {
	uint32_t *id;
	uint8_t *seen;
	size_t count;
	uint64_t segments;
};

enum shmeta_status pass_read_known(struct pass_known *k, struct shmeta__store *store, struct shmeta_err *err);
/* false: it was not there. */
bool pass_see(struct pass_known *k, uint32_t topic_id);
void pass_free_known(struct pass_known *k);

/* How a look at everything has ended. */
enum pass_end {
	PASS_DONE,      /* all of it was compared */
	PASS_BY_KEYS,   /* some row keeps load() from showing anything */
	PASS_POSTPONED, /* something else has to come first */
	PASS_SOURCE,    /* source_status, source_err */
	PASS_STORE      /* err */
};

struct pass {
	struct sync *s;
	pass_turn_fn *turn;
	bool may_lag;                    /* nobody has asked for it */
	bool rows_only;                  /* partitions have times of their own: the rows of topics
                                          * are compared, not what is below them */
	uint64_t began_ns, synced_at_ns; /* the look; what it shows of topics, partitions and
                                          * segments was so then */
	uint64_t losses;                 /* of s, when it began */
	struct pass_known known;
	struct differences found;
	/* Quarantined rows whose topic cannot be read, as they were reported: no key leads to
	 * them. */
	struct unnamed_row *unnamed;
	size_t unnamed_count;
	bool unnamed_differ;
	struct arena unnamed_memory;
	uint64_t unlisted_before[QUARANTINE_CLASSES]; /* in the store */
	enum shmeta_status source_status;
	struct backend_error source_err;
	struct shmeta_err err;
};

/* Others have their turn. PASS_DONE: go on. */
enum pass_end pass_turn(struct pass *p);
/* Have what was found read again, and what else the queue has of the pass; others have their turn
 * meanwhile. */
enum pass_end pass_bring_over(struct pass *p);
/* The store ended it, with p->err. */
enum pass_end pass_store_failed(struct pass *p, enum shmeta_status status);
/* May what a look that has ended well did not show be removed? The second time that the same is
 * missing, yes. */
enum pass_end pass_judge(struct pass *p, uint64_t topics, uint64_t segments);
void pass_forget_unnamed(struct pass *p);
/* A quarantined row of which not even the topic can be read: copied. rows: it and those that hang
 * below it. OK or ERR_NO_MEMORY. */
enum shmeta_status pass_add_unnamed(struct pass *p, const struct backend_key *row, uint64_t rows,
                                    struct shmeta_str sentence);
/* These were all, of the classes up to this one; the store is to say the same. unlisted: rows of
 * each class that it has no room for. */
enum pass_end pass_put_unnamed(struct pass *p, enum shmeta_class last, const uint64_t unlisted[QUARANTINE_CLASSES]);

/* compare.c: load() over a connection of its own against the store. What differs is in p->found. */
enum pass_end compare_all(struct pass *p, void *second);
/* reload_by_keys.c: the names of all topics, then everything read again by its keys, a few thousand
 * stored rows at a time. second NULL: over the engine's own connection, whose feed then goes on
 * from the names. */
enum pass_end pages_all(struct pass *p, void *second);

#endif
