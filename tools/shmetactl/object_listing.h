/* SPDX-License-Identifier: Apache-2.0
 * The listing of a bucket, as the tools of an object storage print it: what is in it, found by key.
 * Untrusted text.
 *
 * Either the JSON of `aws s3api list-objects-v2` (one document, or one for each page), or a line
 * for each object: its key, size and time of modification, with a tab between them. A time is RFC
 * 3339, or - where it is not known. */
#ifndef SHMETA_TOOLS_SHMETACTL_OBJECT_LISTING_H
#define SHMETA_TOOLS_SHMETACTL_OBJECT_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "include/shmeta.h"

#define LISTED_TIME_UNKNOWN INT64_MIN
enum { LISTED_KEY_MAX = 1024 };

struct listed {
	size_t key_at, key_bytes; /* in the listing's texts */
	uint64_t size;
	int64_t modified_ms; /* LISTED_TIME_UNKNOWN: nobody says */
	bool named;          /* by metadata; the caller's */
};

struct object_listing {
	const char *bucket;    /* that it is to be of; the caller's */
	struct listed *object; /* in the order of the listing */
	size_t count, capacity;
	char *text;
	size_t text_bytes, text_capacity;
	uint32_t *slot; /* by the key's hash: a number of an object and 1; 0: free */
	size_t slots;
	uint64_t seed; /* of the hash */
};

/* Reads to the end of f. false: ret_fault says what is wrong, and where; so it is where the listing
 * says itself that it is of another bucket or not of all of it. listing_free() in either case. */
bool listing_read(FILE *f, const char *bucket, struct object_listing *ret, char ret_fault[240]);
void listing_free(struct object_listing *listing);
/* One more object; of one that is there already the later time counts. false: no memory. */
bool listing_add(struct object_listing *listing, struct shmeta_str key, uint64_t size, int64_t modified_ms);
/* NULL: it is not listed. One that is listed twice is one. */
struct listed *listing_find(const struct object_listing *listing, struct shmeta_str key);
struct shmeta_str listing_key(const struct object_listing *listing, const struct listed *object);

/* The key that this one stands for where the listing spells keys for URLs (--encoding-type url);
 * false: none but itself. For keys of a listing of which listing_decoded() made some. */
bool listing_decode(struct shmeta_str key, char ret[LISTED_KEY_MAX], size_t *ret_bytes);
/* All of these, each once; none where a key of the listing shows that it is not spelled so. false:
 * no memory, fault says so. */
bool listing_decoded(const struct object_listing *listing, struct object_listing *ret, char fault[240]);

#endif
