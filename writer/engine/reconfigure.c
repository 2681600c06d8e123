/* SPDX-License-Identifier: Apache-2.0
 * What a reload of the configuration changes in a running engine. */
#include <string.h>

#include "writer/engine/engine.h"
#include "writer/engine/failing.h"
#include "writer/keys/bounded.h"
#include "writer/keys/refresh.h"
#include "writer/load/warm.h"

static bool same_overrides(const struct sync_options *a, const struct sync_options *b)
{
	if (a->override_count != b->override_count)
		return false;
	for (size_t i = 0; i < a->override_count; i++)
		if (a->overrides[i].ttl_ms != b->overrides[i].ttl_ms ||
		    strcmp(a->overrides[i].prefix, b->overrides[i].prefix) != 0)
			return false;
	return true;
}

void next_options_init(struct sync *s)
{
	pthread_mutex_init(&s->next_options.lock, NULL);
}

void next_options_free(struct sync *s)
{
	if (s->next_options.there)
		options_free(&s->next_options.options);
	pthread_mutex_destroy(&s->next_options.lock);
}

bool sync_reconfigure(struct sync *s, const struct sync_options *options)
{
	struct sync_options copy;

	if (!options_copy(options, &copy))
		return false;
	/* Before they are the engine's thread's, which frees what it has taken. */
	refresh_set_limits(s, &copy);
	admin_set_limits(s, &copy);
	write_set_limits(s, &copy);
	pthread_mutex_lock(&s->next_options.lock);
	if (s->next_options.there)
		options_free(&s->next_options.options);
	s->next_options.options = copy;
	s->next_options.there = true;
	pthread_mutex_unlock(&s->next_options.lock);
	sync_wake(s);
	return true;
}

/* What was planned by the former options is planned anew; nothing else is, or reloads that change
 * nothing would postpone it again and again. */
static void plan_anew(struct sync *s, const struct sync_options *former, bool ttl_changed)
{
	const struct sync_options *o = &s->options;

	stamps_show_ttl(s);
	if (ttl_changed)
		retime_begin(s);
	ttl_changed |= memcmp(o->ttl_ms, former->ttl_ms, sizeof o->ttl_ms) != 0;
	if (ttl_changed)
		schedule_advisory(s);
	if (ttl_changed || o->reconcile_s != former->reconcile_s)
		schedule_reconcile(s);
	if (o->warm_interval_s != former->warm_interval_s)
		warm_interval_anew(s);
	if (o->retry_max_ms != former->retry_max_ms) {
		health_retry_anew(s);
		failing_retry_anew(s);
	}
	schedule_poll_anew(s);
}

void options_take(struct sync *s)
{
	struct sync_options next;

	pthread_mutex_lock(&s->next_options.lock);
	bool changed = s->next_options.there;

	if (changed) {
		next = s->next_options.options;
		s->next_options.there = false;
	}
	pthread_mutex_unlock(&s->next_options.lock);
	if (!changed)
		return;

	struct sync_options *o = &s->options;
	const struct sync_options former = *o; /* its strings are not looked at */
	bool ttl_changed =
		!same_overrides(o, &next) || memcmp(&o->freshness, &next.freshness, sizeof o->freshness) != 0;

	/* What a reload may change; the rest needs a restart. */
	memcpy(o->ttl_ms, next.ttl_ms, sizeof o->ttl_ms);
	o->poll_min_ms = next.poll_min_ms;
	o->poll_max_ms = next.poll_max_ms;
	o->reconcile_s = next.reconcile_s;
	o->refresh_batch_keys = next.refresh_batch_keys;
	o->refresh_queue_max = next.refresh_queue_max;
	o->refresh_queue_bytes = next.refresh_queue_bytes;
	o->refresh_user_rate = next.refresh_user_rate;
	o->refresh_user_burst = next.refresh_user_burst;
	o->refresh_queries_s = next.refresh_queries_s;
	o->refresh_rows_s = next.refresh_rows_s;
	query_budget_configure(s);
	o->write_queue_max = next.write_queue_max;
	o->write_queue_bytes = next.write_queue_bytes;
	o->write_connection_bytes = next.write_connection_bytes;
	o->user_share = next.user_share;
	o->write_batch_max = next.write_batch_max;
	o->write_linger_ms = next.write_linger_ms;
	o->audit = next.audit;
	o->accept = next.accept;
	o->object_grace_ms = next.object_grace_ms;
	o->absent_ttl_ms = next.absent_ttl_ms;
	o->absent_max = next.absent_max;
	o->warm_interval_s = next.warm_interval_s;
	o->max_topics = next.max_topics;
	o->max_partitions = next.max_partitions;
	o->max_segment_bytes = next.max_segment_bytes;
	o->max_bytes = next.max_bytes;
	o->batch_percent = next.batch_percent;
	o->hot_touches = next.hot_touches;
	o->freshness = next.freshness;
	(void)bounded_configure(s); /* it has its memory already */
	o->retry_min_ms = next.retry_min_ms;
	o->retry_max_ms = next.retry_max_ms;

	const struct sync_ttl_override *overrides = o->overrides;
	size_t count = o->override_count;

	o->overrides = next.overrides;
	o->override_count = next.override_count;
	next.overrides = overrides;
	next.override_count = count;
	options_free(&next);

	plan_anew(s, &former, ttl_changed);
}
