/* SPDX-License-Identifier: Apache-2.0
 * See strict_sink.h. */
#include "tests/support/strict_sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rows.h"
#include "shm/wire/op.h"

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	(void)fprintf(stderr, "strict sink: %s\n", what);
	abort();
}

static void within(bool holds, const struct rows_fault *fault)
{
	must(holds, fault->text);
}

void strict_text(struct shmeta_str text)
{
	volatile unsigned char sum = 0;

	for (size_t i = 0; i < text.bytes; i++)
		sum = (unsigned char)(sum + (unsigned char)text.data[i]);
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct strict_sink *s = arg;
	struct rows_fault fault;

	rows_faultless(&fault);
	within(rows_check_tenant(tenant, &fault) && rows_check_topic(topic, &fault), &fault);
	strict_text((struct shmeta_str){topic->config.data, topic->config.bytes});
	s->in_topic = true;
	s->in_partition = s->has_partition = false;
	s->rows++;
	return SHMETA_OK;
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct strict_sink *s = arg;
	struct rows_fault fault;

	rows_faultless(&fault);
	within(rows_check_partition(partition, &fault), &fault);
	must(s->in_topic || s->in_key, "a partition without its topic");
	must(!s->ordered || !s->has_partition || partition->partition_id > s->partition_id, "partitions out of order");
	s->partition_id = partition->partition_id;
	s->in_partition = s->has_partition = true;
	s->has_segment = false;
	s->rows++;
	return SHMETA_OK;
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct strict_sink *s = arg;
	struct rows_fault fault;

	rows_faultless(&fault);
	within(rows_check_segment(segment, &fault), &fault);
	must(s->in_partition, "a segment without its partition");
	must(!s->ordered || segment->partition_id == s->partition_id, "a segment of another partition");
	must(!s->ordered || !s->has_segment || segment->base_offset > s->base_offset, "segments out of order");
	s->base_offset = segment->base_offset;
	s->has_segment = true;
	s->rows++;
	return SHMETA_OK;
}

static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct rows_fault fault;

	rows_faultless(&fault);
	within(rows_check_tenant(tenant, &fault) && rows_check_agent(agent, &fault), &fault);
	strict_text((struct shmeta_str){agent->metadata.data, agent->metadata.bytes});
	((struct strict_sink *)arg)->rows++;
	return SHMETA_OK;
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct rows_fault fault;

	rows_faultless(&fault);
	within(rows_check_tenant(tenant, &fault) && rows_check_group(group, &fault), &fault);
	((struct strict_sink *)arg)->rows++;
	return SHMETA_OK;
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	struct rows_fault fault;

	rows_faultless(&fault);
	within(rows_check_tenant(tenant, &fault) && rows_check_offset(topic, offset, &fault), &fault);
	((struct strict_sink *)arg)->rows++;
	return SHMETA_OK;
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	struct rows_fault fault;

	rows_faultless(&fault);
	within(rows_check_tenant(tenant, &fault) && rows_check_lease(topic, lease, &fault), &fault);
	((struct strict_sink *)arg)->rows++;
	return SHMETA_OK;
}

static void read_key(const struct backend_key *key)
{
	must((unsigned)key->cls < SHMETA_CLASS_COUNT, "a key of no class");
	strict_text(key->tenant);
	strict_text(key->topic);
	strict_text(key->name);
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	read_key(row);
	must(sentence[0] != '\0' && strlen(sentence) < 1024, "a quarantined row without a sentence");
	((struct strict_sink *)arg)->quarantined++;
}

static enum shmeta_status on_key_begin(void *arg, const struct backend_key *key)
{
	struct strict_sink *s = arg;

	read_key(key);
	s->in_topic = s->in_partition = s->has_partition = false;
	s->in_key = true;
	return SHMETA_OK;
}

static enum shmeta_status on_key_end(void *arg, const struct backend_key *key, enum shmeta_status status,
                                     const char *sentence)
{
	struct strict_sink *s = arg;

	read_key(key);
	must(s->in_key, "a key that was not begun");
	must(status == SHMETA_OK || status == SHMETA_ABSENT || (status < 0 && sentence[0] != '\0'),
	     "a key that fails without saying why");
	s->in_key = false;
	return SHMETA_OK;
}

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	read_key(key);
	must(key->from <= key->to, "a range that ends before it begins");
	((struct strict_sink *)arg)->changed++;
	return SHMETA_OK;
}

static void on_history(void *arg, const char *sentence)
{
	(void)arg;
	must(sentence[0] != '\0', "a history without a sentence");
}

struct backend_sink strict_sink_of(struct strict_sink *s)
{
	return (struct backend_sink){.arg = s,
	                             .topic = on_topic,
	                             .partition = on_partition,
	                             .segment = on_segment,
	                             .agent = on_agent,
	                             .group = on_group,
	                             .offset = on_offset,
	                             .lease = on_lease,
	                             .quarantine = on_quarantine,
	                             .key_begin = on_key_begin,
	                             .key_end = on_key_end,
	                             .changed = on_changed,
	                             .history = on_history};
}

void strict_results(const struct shmeta_result *results, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		must(shmeta__status_known((int32_t)results[i].status), "a result with a status that there is not");
		must(memchr(results[i].text, '\0', sizeof results[i].text) != NULL, "a result whose text has no end");
		must(results[i].status >= 0 || results[i].text[0] != '\0', "a refusal without a sentence");
	}
}
