/* SPDX-License-Identifier: Apache-2.0
 * The last evictions (evictions.h). */
#include "writer/resident/evictions.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/secret.h"

static struct eviction *place_of(const struct evictions *e, uint64_t key)
{
	return &e->of[shmeta__secret_hash(key) % EVICTIONS_MAX];
}

void evictions_free(struct evictions *e)
{
	free(e->of);
	e->of = NULL;
}

uint64_t evictions_topic(struct shmeta_str tenant, struct shmeta_str name)
{
	uint64_t hash = hash_byte(hash_bytes(HASH_FIRST, tenant.data, tenant.bytes), 0);

	return hash_bytes(hash, name.data, name.bytes);
}

void evictions_note(struct evictions *e, uint64_t key, enum policy_why why, uint64_t now_ns)
{
	if (e->of == NULL)
		e->of = calloc(EVICTIONS_MAX, sizeof *e->of);
	if (e->of != NULL)
		*place_of(e, key) = (struct eviction){key, now_ns, why};
}

const struct eviction *evictions_find(const struct evictions *e, uint64_t key)
{
	const struct eviction *found = e->of != NULL ? place_of(e, key) : NULL;

	return found != NULL && found->key == key && found->at_ns != 0 ? found : NULL;
}
