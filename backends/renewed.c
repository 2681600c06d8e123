/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/renewed.h"

#include <stdlib.h>
#include <string.h>

struct renewed_lease {
	char *text; /* the tenant, then the topic */
	uint32_t tenant_bytes, topic_bytes, partition_id;
};

void renewed_add(struct renewed *r, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition_id)
{
	struct renewed_lease lease = {.tenant_bytes = (uint32_t)tenant.bytes,
	                              .topic_bytes = (uint32_t)topic.bytes,
	                              .partition_id = partition_id};

	if (r->count == r->capacity) {
		size_t capacity = r->capacity > 0 ? 2 * r->capacity : 64;
		struct renewed_lease *grown = reallocarray(r->leases, capacity, sizeof *grown);

		if (grown == NULL) {
			r->all = true;
			return;
		}
		r->leases = grown;
		r->capacity = capacity;
	}
	lease.text = malloc(tenant.bytes + topic.bytes + 1);
	if (lease.text == NULL) {
		r->all = true;
		return;
	}
	if (tenant.bytes > 0)
		memcpy(lease.text, tenant.data, tenant.bytes);
	if (topic.bytes > 0)
		memcpy(lease.text + tenant.bytes, topic.data, topic.bytes);
	r->leases[r->count++] = lease;
}

enum shmeta_status renewed_show(const struct renewed *r, size_t count, const struct backend_sink *sink)
{
	enum shmeta_status status = SHMETA_OK;

	if (r->all)
		return sink->changed(sink->arg, &(struct backend_key){.cls = SHMETA_CLASS_LEASE});
	for (size_t i = r->count - count; status == SHMETA_OK && i < r->count; i++) {
		const struct renewed_lease *lease = &r->leases[i];
		const struct backend_key key = {.cls = SHMETA_CLASS_LEASE,
		                                .tenant = {lease->text, lease->tenant_bytes},
		                                .topic = {lease->text + lease->tenant_bytes, lease->topic_bytes},
		                                .partition_id = lease->partition_id};

		status = sink->changed(sink->arg, &key);
	}
	return status;
}

static int compare(const void *a, const void *b)
{
	const struct renewed_lease *x = a, *y = b;
	const size_t bytes = (size_t)x->tenant_bytes + x->topic_bytes;
	int order;

	if (x->tenant_bytes != y->tenant_bytes)
		return x->tenant_bytes < y->tenant_bytes ? -1 : 1;
	if (x->topic_bytes != y->topic_bytes)
		return x->topic_bytes < y->topic_bytes ? -1 : 1;
	order = memcmp(x->text, y->text, bytes);
	return order != 0 ? order : (x->partition_id > y->partition_id) - (x->partition_id < y->partition_id);
}

/* An agent may be renewed twice in a batch, and a batch may be done again. */
static void keep_each_once(struct renewed *r)
{
	size_t kept = 0;

	if (r->count > 0)
		qsort(r->leases, r->count, sizeof *r->leases, compare);
	for (size_t i = 0; i < r->count; i++)
		if (kept > 0 && compare(&r->leases[kept - 1], &r->leases[i]) == 0)
			free(r->leases[i].text);
		else
			r->leases[kept++] = r->leases[i];
	r->count = kept;
}

enum shmeta_status renewed_tell(struct renewed *r, enum shmeta_status status, const struct backend_sink *sink)
{
	keep_each_once(r);
	if (status == SHMETA_OK)
		status = renewed_show(r, r->count, sink);
	renewed_forget(r);
	return status;
}

void renewed_forget(struct renewed *r)
{
	for (size_t i = 0; i < r->count; i++)
		free(r->leases[i].text);
	free(r->leases);
	*r = (struct renewed){.leases = NULL};
}
