/* SPDX-License-Identifier: Apache-2.0
 * What was done under which request id. */
#include "writer/write/request_ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shm/wire/op.h"

enum { CHAINS = 16384, USERS_MAX = 256 };
#define OTHERS UINT32_MAX /* no uid: all who come when there are so many, together */

/* Places are 1 + index in done[]; 0: none. */
struct done {
	struct request request;
	uint32_t next;  /* in the chain of the hash, or of the free ones */
	uint32_t newer; /* of the same user */
	struct shmeta_result result;
};

struct user {
	uint32_t uid, count, oldest, newest;
};

struct request_ids {
	uint64_t seed;
	struct done *done; /* REQUEST_IDS_MAX of them, when the first one is noted */
	uint32_t used;     /* the first ones, which have been in use */
	uint32_t free;
	uint32_t chain[CHAINS];
	struct user users[USERS_MAX + 1]; /* those who have any */
	size_t user_count;
};

struct request_ids *request_ids_new(void)
{
	struct request_ids *ids = calloc(1, sizeof *ids);

	/* Without it, ids can be chosen that make long chains: nothing worse. */
	if (ids != NULL && getrandom(&ids->seed, sizeof ids->seed, GRND_NONBLOCK) != (ssize_t)sizeof ids->seed)
		ids->seed = (uint64_t)(uintptr_t)ids;
	return ids;
}

void request_ids_free(struct request_ids *ids)
{
	if (ids == NULL)
		return;
	free(ids->done);
	free(ids);
}

uint64_t request_operation_hash(const void *encoded, size_t bytes, uint64_t object)
{
	struct shmeta_wire_op head;

	memcpy(&head, encoded, sizeof head);
	memset(head.request_id, 0, sizeof head.request_id);
	if ((head.flags & SHMETA_WIRE_HAS_TRACE) != 0) {
		bytes -= SHMETA_TRACE_BYTES;
		head.bytes = (uint32_t)bytes;
		head.flags &= (uint16_t)~SHMETA_WIRE_HAS_TRACE;
	}
	return XXH3_64bits_withSeed((const uint8_t *)encoded + sizeof head, bytes - sizeof head,
	                            XXH3_64bits_withSeed(&head, sizeof head, object));
}

bool request_same_id(const struct request *a, const struct request *b)
{
	return a->id[0] == b->id[0] && a->id[1] == b->id[1] && a->uid == b->uid && a->tenant == b->tenant;
}

uint64_t request_id_hash(const struct request_ids *ids, const struct request *request)
{
	const uint64_t key[4] = {request->id[0], request->id[1], request->tenant, request->uid};

	return XXH3_64bits_withSeed(key, sizeof key, ids->seed);
}

static uint32_t *chain_of(struct request_ids *ids, const struct request *request)
{
	return &ids->chain[request_id_hash(ids, request) % CHAINS];
}

void request_refuse(const struct request *first, struct shmeta_result *ret_result)
{
	*ret_result = (struct shmeta_result){.status = SHMETA_ERR_CONFLICT, .partition_id = ret_result->partition_id};
	(void)snprintf(
		ret_result->text, sizeof ret_result->text,
		"the request id was used for another operation (%s): nothing was done; give each operation an id of "
		"its own (shmeta_request_id)",
		shmeta__op_name(first->type));
}

enum request_known request_ids_recall(const struct request_ids *ids, const struct request *request,
                                      struct shmeta_result *ret_result)
{
	if (ids->done == NULL || !request_has_id(request))
		return REQUEST_NEW;
	for (uint32_t at = ids->chain[request_id_hash(ids, request) % CHAINS]; at != 0; at = ids->done[at - 1].next) {
		const struct done *d = &ids->done[at - 1];

		if (!request_same_id(&d->request, request))
			continue;
		if (d->request.operation == request->operation) {
			*ret_result = d->result;
			return REQUEST_SAME;
		}
		request_refuse(&d->request, ret_result);
		return REQUEST_OTHER;
	}
	return REQUEST_NEW;
}

static struct user *user_of(struct request_ids *ids, uint32_t uid)
{
	for (size_t i = 0; i < ids->user_count; i++)
		if (ids->users[i].uid == uid)
			return &ids->users[i];
	if (ids->user_count >= USERS_MAX && uid != OTHERS)
		return user_of(ids, OTHERS);
	ids->users[ids->user_count] = (struct user){.uid = uid};
	return &ids->users[ids->user_count++];
}

/* The oldest of who has the most. */
static void forget_one(struct request_ids *ids)
{
	struct user *most = &ids->users[0];
	uint32_t place, *at;
	struct done *d;

	for (size_t i = 1; i < ids->user_count; i++)
		if (ids->users[i].count > most->count)
			most = &ids->users[i];
	place = most->oldest;
	d = &ids->done[place - 1];
	for (at = chain_of(ids, &d->request); *at != place;)
		at = &ids->done[*at - 1].next;
	*at = d->next;
	d->next = ids->free;
	ids->free = place;
	most->oldest = d->newer;
	if (--most->count == 0)
		*most = ids->users[--ids->user_count];
}

void request_ids_note(struct request_ids *ids, const struct request *request, const struct shmeta_result *result)
{
	struct user *user;
	uint32_t place, *chain;

	if (!request_has_id(request))
		return;
	if (ids->done == NULL)
		ids->done = calloc(REQUEST_IDS_MAX, sizeof *ids->done);
	if (ids->done == NULL)
		return; /* a retry then says ALREADY_EXISTS where it can */
	if (ids->free == 0 && ids->used == REQUEST_IDS_MAX)
		forget_one(ids);
	user = user_of(ids, request->uid);
	place = ids->free != 0 ? ids->free : ++ids->used;
	if (place == ids->free)
		ids->free = ids->done[place - 1].next;
	chain = chain_of(ids, request);
	ids->done[place - 1] = (struct done){.request = *request, .next = *chain, .result = *result};
	*chain = place;
	if (user->count++ == 0)
		user->oldest = place;
	else
		ids->done[user->newest - 1].newer = place;
	user->newest = place;
}
