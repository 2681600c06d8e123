/* SPDX-License-Identifier: Apache-2.0
 * A batch: keys that were taken from the queue, and the rows that the source answered, kept until
 * they are applied. */
#ifndef SHMETA_WRITER_KEYS_FETCH_RESULT_H
#define SHMETA_WRITER_KEYS_FETCH_RESULT_H

#include "writer/keys/queue.h"

struct fetched_part {
	struct shmeta_partition record;
	size_t row_at, row_count;
};

enum fetched_kind { FETCHED_AGENT, FETCHED_GROUP, FETCHED_OFFSET, FETCHED_LEASE };

struct fetched_small {
	enum fetched_kind kind;
	struct shmeta_str tenant, topic;
	union {
		struct shmeta_agent agent;
		struct shmeta_group group;
		struct shmeta_committed_offset offset;
		struct shmeta_lease lease;
	};
};

struct fetched_bad { /* a row that cannot be served, and rows - 1 others below it */
	struct backend_key row;
	uint64_t rows;
	const char *sentence;
};

struct fetched_key { /* one key */
	struct sync_entry *entry;
	bool found, has_topic;
	enum shmeta_status failed; /* it could not be read, and b->unread is the first sentence that
                                    * says why */
	struct shmeta_topic topic;
	size_t part_at, part_count, small_at, small_count, bad_at, bad_count;
};

struct batch {
	struct sync *s;
	struct sync_entry **entry; /* in the order of applying; the caller's */
	size_t entry_count;
	size_t all_count; /* and those behind them that could not be read */
	struct backend_key *key;
	struct fetched_key *fetched;
	size_t key_count, key_capacity;
	struct fetched_part *part;
	size_t part_count, part_capacity;
	struct shmeta_segment *row;
	size_t row_count, row_capacity, text_bytes;
	struct fetched_small *small;
	size_t small_count, small_capacity;
	struct fetched_bad *bad;
	size_t bad_count, bad_capacity;
	struct quarantine quarantine; /* of the key that is being applied */
	struct arena arena;
	size_t at; /* key being answered */
	bool in_key;
	size_t row_mark, text_mark; /* before the key's rows */
	enum shmeta_status unread;  /* of the first key that could not be read; OK: all could */
	char unread_sentence[480];
	enum shmeta_status failed; /* not the source but this side ended the read */
	bool store_failed;         /* not what was to be applied but the store ended the commit */
	uint64_t read_at_ns, sequence;
	uint64_t repaired; /* rows that a comparison found */
};

/* Segments that a batch may hold, and bytes of their strings: a fetch() of more is ended with
 * ERR_BUFFER in `failed`. */
enum { FETCHED_ROWS_MAX = 32768, FETCHED_TEXT_MAX = 16 << 20 };

/* A row of the key b->at cannot be served: OK, or ERR_NO_MEMORY. */
enum shmeta_status fetched_bad(struct batch *b, const struct backend_key *row, const char *sentence);
/* The key b->at could not be read. */
void fetched_unread(struct batch *b, enum shmeta_status status, const char *sentence);
/* The sink that fills b. */
struct backend_sink fetched_sink(struct batch *b);
void fetched_free(struct batch *b);

#endif
