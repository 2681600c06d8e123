/* SPDX-License-Identifier: Apache-2.0
 * The engine's options: a copy of its own, times to live, and what a reload changes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writer/engine/engine.h"

enum { PASS_KEYS = 100000 };

static bool is_by_record(const struct sync *s, enum shmeta_class cls)
{
	return expiry_is_by_record(&s->expiry) && (cls == SHMETA_CLASS_PARTITION || cls == SHMETA_CLASS_SEGMENT);
}

uint64_t sync_class_ttl_ns(const struct sync *s, enum shmeta_class cls)
{
	return (is_by_record(s, cls) ? TTL_MAX_MS : s->options.ttl_ms[cls]) * SYNC_MS;
}

uint64_t sync_main_ttl_ns(const struct sync *s)
{
	const uint32_t *ttl = s->options.ttl_ms;
	uint32_t least = ttl[SHMETA_CLASS_TOPIC];

	for (int cls = SHMETA_CLASS_PARTITION; cls <= SHMETA_CLASS_LIST; cls++)
		if (ttl[cls] < least && !is_by_record(s, (enum shmeta_class)cls))
			least = ttl[cls];
	for (size_t i = 0; i < s->options.override_count; i++)
		if (s->options.overrides[i].ttl_ms > 0 && s->options.overrides[i].ttl_ms < least)
			least = s->options.overrides[i].ttl_ms;
	return least * SYNC_MS;
}

uint64_t sync_advisory_ttl_ns(const struct sync *s)
{
	const uint32_t *ttl = s->options.ttl_ms;
	uint32_t least = ttl[SHMETA_CLASS_AGENT];

	least = ttl[SHMETA_CLASS_LEASE] < least ? ttl[SHMETA_CLASS_LEASE] : least;
	least = ttl[SHMETA_CLASS_OFFSET] < least ? ttl[SHMETA_CLASS_OFFSET] : least;
	return least * SYNC_MS;
}

uint32_t options_ttl_ms(void *arg, struct shmeta_str topic)
{
	const struct sync *s = arg;
	size_t longest = 0;
	uint32_t ttl_ms = 0;

	for (size_t i = 0; i < s->options.override_count; i++) {
		const struct sync_ttl_override *o = &s->options.overrides[i];
		size_t bytes = strlen(o->prefix);

		if (bytes <= topic.bytes && memcmp(o->prefix, topic.data, bytes) == 0 && (bytes >= longest)) {
			longest = bytes;
			ttl_ms = o->ttl_ms;
		}
	}
	return ttl_ms;
}

void options_free(struct sync_options *o)
{
	for (size_t i = 0; o->overrides != NULL && i < o->override_count; i++)
		free((char *)o->overrides[i].prefix);
	free((void *)o->overrides);
	backend_options_free(&o->source);
	free((char *)o->warm_file);
	o->warm_file = NULL;
	o->overrides = NULL;
	o->override_count = 0;
}

bool options_copy(const struct sync_options *from, struct sync_options *ret)
{
	struct sync_options o = *from;

	o.overrides = NULL;
	o.override_count = 0;
	if (!backend_options_copy(&from->source, &o.source))
		return false;
	struct sync_ttl_override *overrides = calloc(from->override_count + 1, sizeof *overrides);

	if (overrides == NULL) {
		backend_options_free(&o.source);
		return false;
	}
	o.overrides = overrides;
	o.warm_file = strdup(from->warm_file != NULL ? from->warm_file : "");
	if (o.warm_file == NULL) {
		options_free(&o);
		return false;
	}
	for (size_t i = 0; i < from->override_count; i++) {
		overrides[i].ttl_ms = from->overrides[i].ttl_ms;
		overrides[i].prefix = strdup(from->overrides[i].prefix);
		if (overrides[i].prefix == NULL) {
			o.override_count = i;
			options_free(&o);
			return false;
		}
	}
	o.override_count = from->override_count;

	if (o.pass_keys == 0)
		o.pass_keys = PASS_KEYS;
	if (o.poll_max_ms < o.poll_min_ms)
		o.poll_max_ms = o.poll_min_ms;
	if (o.retry_max_ms < o.retry_min_ms)
		o.retry_max_ms = o.retry_min_ms;
	*ret = o;
	return true;
}
