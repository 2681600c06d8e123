/* SPDX-License-Identifier: Apache-2.0
 * Topics: by name, by id, many at once, lists. */
#include "reader/lookup/lookup.h"

#include <stdlib.h>

/* A topic that is not there: absent as far as the list of topics is known. */
enum shmeta_status shmeta__topic_absent(struct shmeta_reader *r, const char *name, size_t bytes,
                                        const struct known *known, struct shmeta_freshness *ret_fresh)
{
	if (!name_exists(r, name, bytes))
		return never_there(r, 0, ret_fresh);
	lookup_age(r, SHMETA_CLASS_LIST, 0, known, ret_fresh);
	return unless_lacking(r, &(struct missing){SHMETA_CLASS_TOPIC, .name = name, .name_bytes = bytes},
	                      absent_or_unknown(r, SHMETA_CLASS_LIST, known));
}

static enum shmeta_status get_topic(struct shmeta_reader *r, const char *name, size_t bytes, uint64_t assured_ns,
                                    struct shmeta_topic *ret, struct shmeta_freshness *ret_fresh)
{
	struct known known = {assured_ns, 0};
	enum shmeta_status status;
	struct found_topic found;

	status = find_topic(r, name, bytes, &found);
	if (likely(status == SHMETA_OK)) {
		known.ttl_ms = found.stamps.ttl_ms;
		if (found.stamps.synced_at_ns > assured_ns)
			known.synced_at_ns = found.stamps.synced_at_ns;
		*ret = found.topic;
		lookup_touch(r, shmeta__part_key(ret->topic_id, TOUCH_TOPIC));
		if (ret_fresh != NULL)
			lookup_age(r, SHMETA_CLASS_TOPIC, 0, &known, ret_fresh);
	} else if (status == SHMETA_ABSENT) {
		struct shmeta_freshness unused;

		status = shmeta__topic_absent(r, name, bytes, &known, ret_fresh != NULL ? ret_fresh : &unused);
	}
	return status;
}

static enum shmeta_status get_topic_copied(struct shmeta_reader *r, const char *name, size_t bytes,
                                           const struct shmeta_read *read, uint64_t assured_ns,
                                           struct shmeta_topic *ret, struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = get_topic(r, name, bytes, assured_ns, ret, ret_fresh);

	if (status != SHMETA_OK || read == NULL || !is_copied(read))
		return status;
	status = shmeta_copy_topic(ret, read->buffer, read->buffer_bytes, NULL);
	return status != SHMETA_ERR_BUFFER ? status : buffer_too_small(r, read, "the topic's strings");
}

struct topic_lookup {
	const char *name;
	size_t bytes;
	const struct shmeta_read *read;
	struct shmeta_topic topic;
};

static enum shmeta_status answer(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused, uint64_t assured_ns,
                                 struct shmeta_freshness *ret_fresh)
{
	struct topic_lookup *l = arg;

	(void)unused;
	return get_topic_copied(r, l->name, l->bytes, l->read, assured_ns, &l->topic, ret_fresh);
}

static enum shmeta_status get_topic_fresh(struct shmeta_reader *r, const char *name, size_t bytes,
                                          const struct shmeta_read *read, struct shmeta_topic *ret,
                                          struct shmeta_freshness *ret_fresh)
{
	const struct want want = {.cls = SHMETA_CLASS_TOPIC, .topic = name, .topic_bytes = bytes};
	struct topic_lookup lookup = {.name = name, .bytes = bytes, .read = read};
	enum shmeta_status status = shmeta__fresh_lookup(r, NULL, &want, read, answer, &lookup, ret_fresh);

	if (status == SHMETA_OK)
		*ret = lookup.topic;
	return status;
}

enum shmeta_status shmeta_get_topic(struct shmeta_reader *r, const char *name, size_t bytes,
                                    const struct shmeta_read *read, struct shmeta_topic *ret,
                                    struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status;
	uint64_t begun_ns = 0;
	int asks;

	if (unlikely(r == NULL || ret == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (unlikely(status != SHMETA_OK))
		return status;
	status = name_fits(r, "topic", name, bytes);
	if (likely(status == SHMETA_OK))
		status = lookup_options(r, read, &asks);
	if (unlikely(status != SHMETA_OK))
		return status == SHMETA_ABSENT ? lookup_done(r, never_there(r, 0, ret_fresh)) : status;
	if (unlikely(asks))
		return get_topic_fresh(r, name, bytes, read, ret, ret_fresh);
	if (unlikely((++r->tick & (SHMETA_SAMPLE_EVERY - 1)) == 0))
		begun_ns = shmeta__monotonic_ns();
	status = get_topic(r, name, bytes, 0, ret, ret_fresh);
	if (unlikely(begun_ns != 0))
		sample_lookup(r, begun_ns, status == SHMETA_OK ? shmeta__part_key(ret->topic_id, TOUCH_TOPIC) : 0);
	return lookup_done(r, status);
}

/* ---- by number ---- */

/* The name that a number of this tenant has in the snapshot: OK, ABSENT (another tenant's is as
 * absent as one that never was), ERR_*. */
static enum shmeta_status name_of(struct shmeta_reader *r, uint32_t topic_id, struct shmeta_str *ret)
{
	uint32_t tenant, mine;
	enum shmeta_status status = shmeta__topic_name(r, topic_id, &tenant, ret);

	if (status == SHMETA_OK)
		status = shmeta__snapshot_tenant(r, &mine);
	return status == SHMETA_OK && tenant != mine ? SHMETA_ABSENT : status;
}

static enum shmeta_status number_absent(struct shmeta_reader *r, uint64_t assured_ns,
                                        struct shmeta_freshness *ret_fresh)
{
	const struct known known = {assured_ns, 0};
	struct shmeta_freshness unused;
	enum shmeta_status status;
	int lacks;

	lookup_age(r, SHMETA_CLASS_LIST, 0, &known, ret_fresh != NULL ? ret_fresh : &unused);
	status = shmeta__incomplete(r, SHMETA_CLASS_TOPIC, &lacks);
	if (status != SHMETA_OK || lacks)
		return status != SHMETA_OK ? status : SHMETA_UNKNOWN;
	/* Nobody knows which name the number had: any topic that cannot be read may be it. */
	return unless_quarantined(r, &(struct missing){SHMETA_CLASS_TOPIC},
	                          absent_or_unknown(r, SHMETA_CLASS_LIST, &known));
}

struct number_lookup {
	uint32_t topic_id;
	const struct shmeta_read *read;
	struct shmeta_topic topic;
};

static enum shmeta_status answer_number(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused,
                                        uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	struct number_lookup *l = arg;
	struct shmeta_str name;
	enum shmeta_status status = name_of(r, l->topic_id, &name);

	(void)unused;
	if (status == SHMETA_ABSENT)
		return number_absent(r, assured_ns, ret_fresh);
	if (status == SHMETA_OK)
		status = get_topic_copied(r, name.data, name.bytes, l->read, assured_ns, &l->topic, ret_fresh);
	/* The record found by the name must have the number again. */
	if (status >= 0 && (status != SHMETA_OK || l->topic.topic_id != l->topic_id))
		return SHMETA_ERR_CORRUPT;
	return status;
}

/* What the source is asked for a number, which it does not know: the topic that has it, by its
 * name, which is copied to `name`; where none has it, the list of topics. *ret_asks is 0 where that
 * could not show it. */
static enum shmeta_status want_number(struct shmeta_reader *r, uint32_t topic_id, char name[SHMETA_NAME_MAX],
                                      struct want *ret, int *ret_asks)
{
	struct shmeta_str found;
	enum shmeta_status status = name_of(r, topic_id, &found);
	int lacks;

	if (status == SHMETA_OK) {
		memcpy(name, found.data, found.bytes);
		*ret = (struct want){.cls = SHMETA_CLASS_TOPIC, .topic = name, .topic_bytes = found.bytes};
		return SHMETA_OK;
	}
	if (status != SHMETA_ABSENT)
		return status;
	*ret = (struct want){.cls = SHMETA_CLASS_LIST};
	status = shmeta__incomplete(r, SHMETA_CLASS_TOPIC, &lacks);
	*ret_asks = !lacks;
	return status;
}

enum shmeta_status shmeta_get_topic_by_id(struct shmeta_reader *r, uint32_t topic_id, const struct shmeta_read *read,
                                          struct shmeta_topic *ret, struct shmeta_freshness *ret_fresh)
{
	struct number_lookup lookup = {.topic_id = topic_id, .read = read};
	char name[SHMETA_NAME_MAX];
	enum shmeta_status status;
	struct want want;
	int asks;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = lookup_options(r, read, &asks);
	if (status != SHMETA_OK)
		return status;
	if (r->instance->no_tenant)
		return lookup_done(r, never_there(r, 0, ret_fresh));
	if (asks)
		status = want_number(r, topic_id, name, &want, &asks);
	if (status != SHMETA_OK)
		return lookup_done(r, status);
	status = asks ? shmeta__fresh_lookup(r, NULL, &want, read, answer_number, &lookup, ret_fresh)
	              : lookup_done(r, answer_number(&lookup, r, NULL, 0, ret_fresh));
	if (status == SHMETA_OK)
		*ret = lookup.topic;
	return status;
}

/* A batch that may ask the writer. */
struct topics {
	const struct shmeta_str *names;
	const struct shmeta_read *read;
	size_t used; /* of the buffer */
	struct shmeta_topic *ret;
};

static void topics_begin(void *arg)
{
	struct topics *t = arg;

	t->used = 0;
}

static void topics_want(const void *arg, size_t i, struct want *ret)
{
	const struct topics *t = arg;

	*ret = (struct want){.cls = SHMETA_CLASS_TOPIC, .topic = t->names[i].data, .topic_bytes = t->names[i].bytes};
}

/* Each has what the others left of the buffer. */
static enum shmeta_status topics_answer(void *arg, struct shmeta_reader *r, size_t i, uint64_t assured_ns,
                                        struct shmeta_freshness *ret_fresh)
{
	struct topics *t = arg;
	struct shmeta_read rest = *t->read;
	struct shmeta_topic *topic = &t->ret[i];
	enum shmeta_status status = name_fits(r, "topic", t->names[i].data, t->names[i].bytes);

	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? never_there(r, 0, ret_fresh) : status;
	if (rest.buffer != NULL) {
		rest.buffer += t->used;
		rest.buffer_bytes -= t->used;
	}
	status = get_topic_copied(r, t->names[i].data, t->names[i].bytes, &rest, assured_ns, topic, ret_fresh);
	if (status == SHMETA_OK && rest.buffer != NULL && is_copied(&rest))
		t->used += topic->name.bytes + topic->cleanup_policy.bytes + topic->config.bytes;
	return status;
}

enum shmeta_status shmeta_get_topics(struct shmeta_reader *r, size_t count, const struct shmeta_str *names,
                                     const struct shmeta_read *read, enum shmeta_status *ret_status,
                                     struct shmeta_topic *ret)
{
	enum shmeta_status status;
	int asks;

	if (r == NULL || (count != 0 && (names == NULL || ret_status == NULL || ret == NULL)))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = lookup_options(r, read, &asks);
	if (status != SHMETA_OK)
		return status;
	if (asks) {
		struct topics topics = {names, read, 0, ret};
		const struct shmeta__many many = {count, &topics, topics_begin, topics_want, topics_answer};

		return shmeta__fresh_many(r, &many, read, ret_status);
	}
	for (size_t i = 0; i < count; i++) {
		if (i % AT_A_TIME == 0)
			for (size_t k = i; k < count && k < i + AT_A_TIME; k++)
				shmeta__name_fetch(r, &names[k]);
		ret_status[i] = shmeta_get_topic(r, names[i].data, names[i].bytes, NULL, &ret[i], NULL);
		/* The snapshot as a whole is gone: the other answers are no better. */
		if (ret_status[i] == SHMETA_ERR_EXPIRED)
			return SHMETA_ERR_EXPIRED;
	}
	return SHMETA_OK;
}

/* ---- lists ---- */

/* Anchored; only '*' is special. Backtracks to the last star, which then matches one byte more. */
static int glob_matches(const char *p, size_t p_bytes, const char *s, size_t s_bytes)
{
	size_t i = 0, j = 0, star = SIZE_MAX, swallowed = 0;

	while (j < s_bytes) {
		if (i < p_bytes && p[i] == '*') {
			star = i++;
			swallowed = j;
		} else if (i < p_bytes && p[i] == s[j]) {
			i++;
			j++;
		} else if (star != SIZE_MAX) {
			i = star + 1;
			j = ++swallowed;
		} else {
			return 0;
		}
	}
	while (i < p_bytes && p[i] == '*')
		i++;
	return i == p_bytes;
}

struct listed_topics {
	const char *pattern;
	size_t bytes;
	int glob;
};

static enum shmeta_status list_topics(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused,
                                      uint64_t assured_ns, struct shmeta_freshness *ret_fresh, struct shmeta_iter **ret)
{
	const struct listed_topics *what = arg;
	const struct known known = {assured_ns, 0};
	const char *pattern = what->pattern, *star;
	size_t pattern_bytes = what->bytes, literal = pattern == NULL ? 0 : pattern_bytes;
	struct shmeta_iter *iter;
	enum shmeta_status status;

	(void)unused;
	if (ret_fresh != NULL && r->instance->no_tenant)
		(void)never_there(r, 0, ret_fresh);
	else if (ret_fresh != NULL)
		lookup_age(r, SHMETA_CLASS_LIST, 0, &known, ret_fresh);
	/* An empty list is a statement about the source, too. */
	if (!r->instance->no_tenant && absent_or_unknown(r, SHMETA_CLASS_LIST, &known) == SHMETA_UNKNOWN)
		return SHMETA_UNKNOWN;
	status = shmeta__iter_new(r, ITER_TOPICS, SHMETA_DB_NAMES, &iter);
	if (status != SHMETA_OK)
		return status;
	if (literal != 0 && what->glob) {
		iter->filter[0].text = malloc(pattern_bytes);
		if (iter->filter[0].text == NULL) {
			shmeta_iter_free(iter);
			return SHMETA_ERR_NO_MEMORY;
		}
		memcpy(iter->filter[0].text, pattern, pattern_bytes);
		iter->filter[0].bytes = pattern_bytes;
		star = memchr(pattern, '*', pattern_bytes);
		if (star != NULL)
			literal = (size_t)(star - pattern);
	}
	/* No name begins with more than a name can have. */
	iter->never = r->instance->no_tenant || literal > SHMETA_NAME_MAX;
	iter->done = iter->tenant == 0 || iter->never;
	if (!iter->done)
		iter->prefix_bytes = shmeta__name_key(iter->prefix, iter->tenant, literal == 0 ? "" : pattern, literal);
	*ret = iter;
	return SHMETA_OK;
}

enum shmeta_status shmeta_list_topics(struct shmeta_reader *r, const char *pattern, size_t pattern_bytes, int glob,
                                      const struct shmeta_read *read, struct shmeta_iter **ret)
{
	const struct want want = {.cls = SHMETA_CLASS_LIST};
	struct listed_topics what = {pattern, pattern_bytes, glob};
	enum shmeta_status status;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	return status == SHMETA_OK ? shmeta__list(r, NULL, &want, read, list_topics, &what, ret) : status;
}

enum shmeta_status shmeta_next_topic(struct shmeta_iter *iter, struct shmeta_topic *ret,
                                     struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_TOPICS);
	const struct known none = {0};
	struct shmeta__stamps stamps;
	struct known known;
	const uint8_t *key;
	const void *value;
	size_t key_bytes, bytes;

	if (status != SHMETA_OK || ret == NULL)
		return status != SHMETA_OK ? status : SHMETA_ERR_INVALID_ARGUMENT;
	for (;;) {
		status = shmeta__iter_walk(iter, &key, &key_bytes, &value, &bytes);
		if (status != SHMETA_OK)
			break;
		if (iter->filter[0].text == NULL ||
		    glob_matches(iter->filter[0].text, iter->filter[0].bytes, (const char *)key + 4, key_bytes - 4))
			break;
	}
	if (status == SHMETA_END) {
		/* How old the list as a whole is. */
		if (ret_fresh != NULL)
			lookup_age(iter->reader, SHMETA_CLASS_LIST, 0, &none, ret_fresh);
		if (iter->reader->instance->no_tenant)
			(void)never_there(iter->reader, 0, ret_fresh);
		return list_done(iter->reader);
	}
	if (status == SHMETA_OK)
		status = shmeta__topic_decode(value, bytes, key, key_bytes, 1, ret, &stamps);
	if (status == SHMETA_OK && ret_fresh != NULL) {
		known = known_of(&stamps);
		lookup_age(iter->reader, SHMETA_CLASS_TOPIC, 0, &known, ret_fresh);
	}
	return lookup_done(iter->reader, status);
}
