/* SPDX-License-Identifier: Apache-2.0
 * Remembering absences: a hash table by key, one of lists by topic, and a list by age, whose old
 * end is what goes when there are too many. */
#include "writer/keys/absent.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "base/str.h"

enum { SLOTS_MIN = 64 };

struct absent_entry {
	struct absent_entry *chain, *older, *newer;
	struct absent_entry *of_topic, **from; /* in the list of its topic, and what points to it
                                                * there */
	uint64_t topic_hash;
	int64_t partition;
	struct absent_answer answer;
	struct shmeta_str tenant, topic; /* in text */
	char text[];
};

/* By partition, so that those of one topic are not one chain. */
static struct absent_entry **slot_of(const struct absent *a, uint64_t topic_hash, int64_t partition)
{
	return &a->slot[(size_t)shmeta__secret_hash(topic_hash + (uint64_t)partition) & (a->slots - 1)];
}

/* The list that a topic's entries are in: few other topics are. */
static struct absent_entry **topic_of(const struct absent *a, uint64_t topic_hash)
{
	return &a->topic[(size_t)shmeta__secret_hash(topic_hash) & (a->slots - 1)];
}

static void link_topic(struct absent *a, struct absent_entry *e)
{
	e->from = topic_of(a, e->topic_hash);
	e->of_topic = *e->from;
	*e->from = e;
	if (e->of_topic != NULL)
		e->of_topic->from = &e->of_topic;
}

static bool is_of(const struct absent_entry *e, uint64_t topic_hash, struct shmeta_str tenant, struct shmeta_str topic)
{
	return e->topic_hash == topic_hash && str_equal(e->topic, topic) && str_equal(e->tenant, tenant);
}

static void unlink_age(struct absent *a, struct absent_entry *e)
{
	*(e->older != NULL ? &e->older->newer : &a->oldest) = e->newer;
	*(e->newer != NULL ? &e->newer->older : &a->newest) = e->older;
}

static void link_newest(struct absent *a, struct absent_entry *e)
{
	e->older = a->newest;
	e->newer = NULL;
	*(a->newest != NULL ? &a->newest->newer : &a->oldest) = e;
	a->newest = e;
}

static void drop(struct absent *a, struct absent_entry *e)
{
	struct absent_entry **at = slot_of(a, e->topic_hash, e->partition);

	while (*at != e)
		at = &(*at)->chain;
	*at = e->chain;
	*e->from = e->of_topic;
	if (e->of_topic != NULL)
		e->of_topic->from = e->from;
	unlink_age(a, e);
	a->count--;
	free(e);
}

void absent_forget_all(struct absent *a)
{
	while (a->oldest != NULL)
		drop(a, a->oldest);
}

void absent_free(struct absent *a)
{
	absent_forget_all(a);
	free(a->slot);
	free(a->topic);
	a->slot = a->topic = NULL;
	a->slots = 0;
}

void absent_set_limits(struct absent *a, size_t most, uint64_t ttl_ns)
{
	a->most = ttl_ns > 0 ? most : 0;
	a->ttl_ns = ttl_ns;
	while (a->count > a->most)
		drop(a, a->oldest);
}

/* As many chains as entries, at least; without memory the chains are longer. */
static bool has_slots(struct absent *a)
{
	size_t slots = a->slots == 0 ? SLOTS_MIN : a->slots * 2, old_slots = a->slots;
	struct absent_entry **old = a->slot, **bigger, **topics;

	if (a->count < a->slots)
		return true;
	bigger = calloc(slots, sizeof(*bigger));
	topics = calloc(slots, sizeof(*topics));
	if (bigger == NULL || topics == NULL) {
		free(bigger);
		free(topics);
		return a->slots > 0;
	}
	free(a->topic);
	a->slot = bigger;
	a->topic = topics;
	a->slots = slots;
	for (size_t i = 0; i < old_slots; i++)
		for (struct absent_entry *e = old[i], *next; e != NULL; e = next) {
			struct absent_entry **slot = slot_of(a, e->topic_hash, e->partition);

			next = e->chain;
			e->chain = *slot;
			*slot = e;
			link_topic(a, e);
		}
	free(old);
	return true;
}

static struct absent_entry *find(const struct absent *a, uint64_t topic_hash, struct shmeta_str tenant,
                                 struct shmeta_str topic, int64_t partition)
{
	struct absent_entry *e = a->slots > 0 ? *slot_of(a, topic_hash, partition) : NULL;

	while (e != NULL && (e->partition != partition || !is_of(e, topic_hash, tenant, topic)))
		e = e->chain;
	return e;
}

static struct absent_entry *add(struct absent *a, uint64_t topic_hash, struct shmeta_str tenant,
                                struct shmeta_str topic, int64_t partition)
{
	struct absent_entry *e = has_slots(a) ? malloc(sizeof(*e) + tenant.bytes + topic.bytes) : NULL, **slot;

	if (e == NULL)
		return NULL;
	if (tenant.bytes > 0)
		memcpy(e->text, tenant.data, tenant.bytes);
	if (topic.bytes > 0)
		memcpy(e->text + tenant.bytes, topic.data, topic.bytes);
	e->tenant = (struct shmeta_str){e->text, tenant.bytes};
	e->topic = (struct shmeta_str){e->text + tenant.bytes, topic.bytes};
	e->topic_hash = topic_hash;
	e->partition = partition;
	slot = slot_of(a, topic_hash, partition);
	e->chain = *slot;
	*slot = e;
	link_topic(a, e);
	a->count++;
	return e;
}

void absent_note(struct absent *a, uint64_t topic_hash, struct shmeta_str tenant, struct shmeta_str topic,
                 int64_t partition, const struct absent_answer *answer)
{
	struct absent_entry *e = find(a, topic_hash, tenant, topic, partition);

	if (a->most == 0)
		return;
	if (e != NULL) {
		unlink_age(a, e);
	} else {
		/* What has passed its time goes first; it is at the old end. */
		while (a->oldest != NULL &&
		       (a->count >= a->most || a->oldest->answer.read_at_ns + a->ttl_ns <= answer->read_at_ns))
			drop(a, a->oldest);
		e = add(a, topic_hash, tenant, topic, partition);
		if (e == NULL)
			return;
	}
	e->answer = *answer;
	link_newest(a, e);
}

bool absent_find(const struct absent *a, uint64_t topic_hash, struct shmeta_str tenant, struct shmeta_str topic,
                 int64_t partition, uint64_t now_ns, struct absent_answer *ret)
{
	const struct absent_entry *e = find(a, topic_hash, tenant, topic, ABSENT_TOPIC);

	for (int i = 0; i < 2; i++) {
		if (e != NULL && now_ns < e->answer.read_at_ns + a->ttl_ns) {
			*ret = e->answer;
			return true;
		}
		e = partition != ABSENT_TOPIC ? find(a, topic_hash, tenant, topic, partition) : NULL;
	}
	return false;
}

void absent_forget(struct absent *a, uint64_t topic_hash, struct shmeta_str tenant, struct shmeta_str topic)
{
	struct absent_entry *e = a->slots > 0 ? *topic_of(a, topic_hash) : NULL;

	for (struct absent_entry *next; e != NULL; e = next) {
		next = e->of_topic;
		if (is_of(e, topic_hash, tenant, topic))
			drop(a, e);
	}
}
