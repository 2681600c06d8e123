/* SPDX-License-Identifier: Apache-2.0
 * A writer without a source: an instance directory with a real store, a board, and a control socket
 * served by a thread of the test. A test fills the store by hand, moves the clocks, and does to its
 * readers what a writer may do: revoke, die, come back with another epoch, switch generations,
 * answer requests late or never.
 *
 * Functions that change the store abort the test's process (with a sentence on stderr) when the
 * store refuses: they are for what a test takes for granted. They may be called from one thread at
 * a time; the socket's thread calls back under the same lock. */
#ifndef SHMETA_TESTS_SUPPORT_FAKE_WRITER_H
#define SHMETA_TESTS_SUPPORT_FAKE_WRITER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "shm/page/board.h"
#include "shm/page/slots.h"
#include "shm/store/store.h"
#include "shm/wire/wire.h"

enum { FAKE_CLIENTS = 64 };

struct fake_client {
	int fd;    /* -1: free */
	int memfd; /* -1: not registered */
	struct shmeta_slots *page;
	uint64_t page_bytes;
};

struct fake_writer {
	char dir[64];
	int dir_fd;
	struct shmeta_board *board;
	struct shmeta__store *store;
	struct shmeta_generation *gen; /* of store */
	struct shmeta__txn *txn;
	uint64_t grace_ns;

	pthread_mutex_t lock;
	pthread_t thread;
	int serving, stop_fd, listen_fd;
	struct fake_client client[FAKE_CLIENTS];
	uint32_t registrations; /* now */
	uint64_t registered_ever;

	/* How requests are answered. Set before they come. */
	int stray;                    /* before each answer another one, to a request that nobody
                                       * made */
	int silent;                   /* take requests and do not answer */
	int refuse;                   /* answer REGISTER with ERR_BUSY */
	uint32_t slots_max;           /* give at most so many; 0: what is asked for */
	int unsealed;                 /* pass a memfd that can shrink */
	int mislabelled;              /* pass a page with a wrong signature */
	enum shmeta_status answer;    /* of REFRESH and RELOAD */
	const char *answer_text;      /* sentence of the answer */
	uint64_t answer_synced_at_ns; /* 0: now */
	uint64_t answer_txn_ahead;    /* the answer speaks of a commit that far ahead of the
                                       * newest */
	uint32_t refreshes, reloads, statuses;
	struct shmeta_frame_refresh last_refresh;
	char last_topic[SHMETA_NAME_MAX + 1], last_tenant[SHMETA_TENANT_MAX + 1], last_name[SHMETA_NAME_MAX + 1];
	const char *refuse_topic; /* a REFRESH that names it is answered ERR_SOURCE */
	/* What a refresh does to the store before it is answered; called on the socket's thread
	 * under the lock. */
	void (*on_refresh)(struct fake_writer *w, void *arg);
	void *on_refresh_arg;
};

/* A new instance with an empty generation 1, epoch 1, serving, its heart beating now. Stamps:
 * never. */
struct fake_writer *fake_writer_new(void);
struct fake_writer *fake_writer_with_grace(uint64_t grace_ns);
/* With topic "t" of one partition, everything stamped now. Returns the topic's id, if asked. */
struct fake_writer *fake_writer_with_topic(uint32_t *ret_id);
/* The directory with a board that has published nothing. */
struct fake_writer *fake_writer_unpublished(void);
/* Stops, closes and removes everything. */
void fake_writer_free(struct fake_writer *w);

/* ---- sockets ---- */
void fake_serve(struct fake_writer *w);
void fake_unserve(struct fake_writer *w); /* closes the socket and every connection, as a death
                                           * without descriptor store does */
void fake_revoke(struct fake_writer *w);  /* every page; the connections stay */
/* Wait (5 s at most) until so many clients are registered; 0 when that came true. */
int fake_wait_registered(struct fake_writer *w, uint32_t count);
uint64_t fake_oldest_pin(struct fake_writer *w); /* UINT64_MAX: none */
/* of the newest registration; NULL: none */
struct shmeta_slot *fake_slot(struct fake_writer *w, uint32_t i);

/* ---- the store: begin, change, commit ---- */
void fake_begin(struct fake_writer *w);
uint64_t fake_commit(struct fake_writer *w);

struct fake_topic {
	const char *tenant; /* NULL: the default one */
	const char *name;
	uint32_t partitions;
	const char *policy; /* NULL: empty */
	struct shmeta_map config;
	int64_t created_at_ms;
	uint64_t synced_at_ns;
	uint32_t ttl_ms;
};
/* Creates or replaces the topic's row; partitions are not made. Returns its id. */
uint32_t fake_topic(struct fake_writer *w, const struct fake_topic *topic);
uint32_t fake_simple_topic(struct fake_writer *w, const char *name, uint32_t partitions);
/* The topic with its partitions, leases and offsets. */
void fake_delete_topic(struct fake_writer *w, const char *tenant, const char *name);
/* The partition with exactly these rows. Row strings that are empty are filled in by the field's
 * conventions. */
void fake_partition(struct fake_writer *w, uint32_t topic_id, uint32_t partition_id, uint64_t high_watermark,
                    const struct shmeta_segment *rows, size_t count, uint64_t synced_at_ns, uint32_t ttl_ms);
/* `count` rows of `width` offsets each, from 0. */
void fake_even_partition(struct fake_writer *w, uint32_t topic_id, uint32_t partition_id, size_t count, uint64_t width);
void fake_agent(struct fake_writer *w, const char *tenant, const struct shmeta_agent *agent, uint64_t synced_at_ns);
void fake_group(struct fake_writer *w, const char *tenant, const char *group);
void fake_offset(struct fake_writer *w, const char *tenant, const char *group, uint32_t topic_id, uint32_t partition_id,
                 uint64_t committed, const char *metadata);
void fake_lease(struct fake_writer *w, uint32_t topic_id, uint32_t partition_id, const char *agent, int64_t expires_ms,
                uint64_t epoch);
/* Put raw bytes, for what a writer never writes. */
void fake_raw(struct fake_writer *w, enum shmeta_db db, const void *key, size_t key_bytes, const void *value,
              size_t bytes);
uint32_t fake_tenant(struct fake_writer *w, const char *tenant); /* within begin and commit */

/* ---- clocks and stamps ---- */
uint64_t fake_now_ns(const struct fake_writer *w); /* what readers take for CLOCK_BOOTTIME */
void fake_advance(struct fake_writer *w, uint64_t ns);
void fake_beat(struct fake_writer *w);
/* The class as the newest commit shows it was true now; ttl as shipped unless ttl_ns. */
void fake_stamp(struct fake_writer *w, enum shmeta_class cls, uint64_t ttl_ns);
void fake_stamp_all(struct fake_writer *w);

/* ---- lives ---- */
void fake_new_epoch(struct fake_writer *w);
/* A copy of the store becomes the current generation, the old one is retired. */
void fake_switch_generation(struct fake_writer *w);
/* An empty store, whose commits are counted from 1, becomes the current generation, the old one is
 * retired. */
void fake_load_anew(struct fake_writer *w);
/* Removes the directory's content and begins again in it with a new board and an empty generation
 * 1. */
void fake_remake(struct fake_writer *w);

/* ---- its readers ---- */
/* Open the instance for a tenant (NULL: the default one); prints the sentence and returns NULL when
 * that fails. */
struct shmeta *fake_open(struct fake_writer *w, const char *tenant, uint32_t flags, uint32_t threads);
/* A reader, or NULL. */
struct shmeta_reader *fake_reader(struct shmeta *instance);
/* Both, and registered; 0 when that came true. The second frees everything, the writer too. */
int fake_open_reader(struct fake_writer *w, struct shmeta **ret_instance, struct shmeta_reader **ret_reader);
void fake_close_all(struct fake_writer *w, struct shmeta *instance, struct shmeta_reader *reader);
/* Begin and end snapshots until one is (not) registered, 5 s at most; 0 when that came true. */
int fake_until_registered(struct shmeta_reader *reader, uint32_t registered);

struct shmeta_str fake_str(const char *text);
/* Packs pairs "a", "1", "b", "2", NULL into a map that the caller frees (data). Keys must
 * ascend. */
struct shmeta_map fake_map(const char *first, ...);

#endif
