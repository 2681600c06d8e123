/* SPDX-License-Identifier: Apache-2.0
 * Arguments that make no sense: a NULL where none is allowed, lengths that nothing has. They are an
 * answer, never a crash. */
#include <criterion/criterion.h>
#include <stdint.h>

#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static struct shmeta_handle *handle;

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	fake_even_partition(w, fake_simple_topic(w, "t", 1), 0, 3, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle), SHMETA_OK);
}

static void tear_down(void)
{
	shmeta_partition_close(handle);
	(void)shmeta_end(reader);
	fake_close_all(w, instance, reader);
}

TestSuite(absurd_arguments, .init = set_up, .fini = tear_down, .timeout = 60);

#define REFUSED(call) cr_expect_eq(call, SHMETA_ERR_INVALID_ARGUMENT, #call)

Test(absurd_arguments, a_null_handle_is_refused_everywhere)
{
	struct shmeta_committed_offset offset;
	struct shmeta_snapshot_info info;
	struct shmeta_topic_stats stats;
	struct shmeta_fetch_plan plan = {.size = sizeof plan};
	struct shmeta_token token = {0};
	struct shmeta_partition p;
	struct shmeta_segment s, some[1];
	enum shmeta_status status[1];
	struct shmeta_fetch_range ranges[1];
	struct shmeta_handle *h, *none[1] = {NULL};
	struct shmeta_change change;
	struct shmeta_error error = {.size = sizeof error};
	struct shmeta_group group;
	struct shmeta_agent agent;
	struct shmeta_lease lease;
	struct shmeta_topic t;
	struct shmeta_iter *iter;
	struct shmeta_str text = {"t", 1};
	struct shmeta_find find = {NULL, 0};
	struct shmeta_find_named named = {.topic = {"t", 1}};
	struct shmeta_wait wait = {NULL, 0, 0, 0};
	uint64_t zero = 0, number;
	int32_t statuses[1];
	struct shmeta_columns columns = {.size = sizeof columns, .status = statuses};
	char buffer[64];
	struct shmeta_fetch fetch = {sizeof fetch, 0, 0, 0, 1, some, 1, ranges, buffer, sizeof buffer};

	REFUSED(shmeta_begin(NULL));
	REFUSED(shmeta_end(NULL));
	REFUSED(shmeta_snapshot_info(NULL, &info));
	REFUSED(shmeta_snapshot_info(reader, NULL));
	REFUSED(shmeta_reader_error(NULL, &error));
	REFUSED(shmeta_reader_error(reader, NULL));
	REFUSED(shmeta_reader_new(NULL, &(struct shmeta_reader *){NULL}));
	REFUSED(shmeta_reader_new(instance, NULL));
	REFUSED(shmeta_get_topic(NULL, "t", 1, NULL, &t, NULL));
	REFUSED(shmeta_get_topic(reader, "t", 1, NULL, NULL, NULL));
	REFUSED(shmeta_get_topic_by_id(NULL, 1, NULL, &t, NULL));
	REFUSED(shmeta_get_topic_by_id(reader, 1, NULL, NULL, NULL));
	REFUSED(shmeta_list_topics(NULL, NULL, 0, 0, NULL, &iter));
	REFUSED(shmeta_list_topics(reader, NULL, 0, 0, NULL, NULL));
	REFUSED(shmeta_next_topic(NULL, &t, NULL));
	REFUSED(shmeta_skip_topics(NULL, "t", 1));
	REFUSED(shmeta_iter_complete(NULL));
	REFUSED(shmeta_topic_stats(NULL, "t", 1, NULL, &stats, NULL));
	REFUSED(shmeta_topic_stats(reader, "t", 1, NULL, NULL, NULL));
	REFUSED(shmeta_get_topics(NULL, 1, &text, NULL, status, &t));
	REFUSED(shmeta_get_topics(reader, 1, NULL, NULL, status, &t));
	REFUSED(shmeta_get_topics(reader, 1, &text, NULL, NULL, &t));
	REFUSED(shmeta_get_topics(reader, 1, &text, NULL, status, NULL));
	REFUSED(shmeta_partition_open(NULL, "t", 1, 0, &h));
	REFUSED(shmeta_partition_open(reader, "t", 1, 0, NULL));
	REFUSED(shmeta_partition_open(reader, NULL, 1, 0, &h));
	REFUSED(shmeta_get_partition(NULL, NULL, &p, NULL));
	REFUSED(shmeta_get_partition(handle, NULL, NULL, NULL));
	REFUSED(shmeta_get_partition_named(NULL, "t", 1, 0, NULL, &p, NULL));
	REFUSED(shmeta_get_partition_named(reader, "t", 1, 0, NULL, NULL, NULL));
	REFUSED(shmeta_list_partitions(NULL, "t", 1, NULL, &iter));
	REFUSED(shmeta_list_partitions(reader, "t", 1, NULL, NULL));
	REFUSED(shmeta_list_partitions(reader, NULL, 1, NULL, &iter));
	REFUSED(shmeta_next_partition(NULL, &p, NULL));
	REFUSED(shmeta_get_partitions(1, none, NULL, status, &p));
	REFUSED(shmeta_get_partitions(1, NULL, NULL, status, &p));
	REFUSED(shmeta_get_partitions(1, &handle, NULL, NULL, &p));
	REFUSED(shmeta_get_partitions(1, &handle, NULL, status, NULL));
	REFUSED(shmeta_find_segment(NULL, 0, NULL, &s, NULL));
	REFUSED(shmeta_find_segment(handle, 0, NULL, NULL, NULL));
	REFUSED(shmeta_find_segment_named(NULL, "t", 1, 0, 0, NULL, &s, NULL));
	REFUSED(shmeta_find_segment_named(reader, "t", 1, 0, 0, NULL, NULL, NULL));
	REFUSED(shmeta_find_segment_for_timestamp(NULL, 0, NULL, &s, NULL));
	REFUSED(shmeta_find_segment_for_timestamp(handle, 0, NULL, NULL, NULL));
	REFUSED(shmeta_last_segment(NULL, NULL, &s, NULL));
	REFUSED(shmeta_last_segment(handle, NULL, NULL, NULL));
	REFUSED(shmeta_list_segments(NULL, 0, 1, NULL, &iter));
	REFUSED(shmeta_list_segments(handle, 0, 1, NULL, NULL));
	REFUSED(shmeta_list_segments(handle, 1, 0, NULL, &iter));
	REFUSED(shmeta_list_segments_named(NULL, "t", 1, 0, 0, 1, NULL, &iter));
	REFUSED(shmeta_list_segments_named(reader, "t", 1, 0, 0, 1, NULL, NULL));
	REFUSED(shmeta_list_segments_named(reader, NULL, 1, 0, 0, 1, NULL, &iter));
	REFUSED(shmeta_next_segment(NULL, &s));
	REFUSED(shmeta_segment_strings(NULL, &s, buffer, sizeof buffer));
	REFUSED(shmeta_segment_strings(handle, NULL, buffer, sizeof buffer));
	REFUSED(shmeta_segment_strings_named(NULL, "t", 1, &s, buffer, sizeof buffer));
	REFUSED(shmeta_segment_strings_named(reader, "t", 1, NULL, buffer, sizeof buffer));
	REFUSED(shmeta_iter_segment_strings(NULL, &s, buffer, sizeof buffer));
	REFUSED(shmeta_find_segments(1, &find, NULL, status, &s));
	REFUSED(shmeta_find_segments(1, NULL, NULL, status, &s));
	REFUSED(shmeta_find_segments_named(NULL, 1, &named, NULL, status, &s));
	REFUSED(shmeta_find_segments_named(reader, 1, NULL, NULL, status, &s));
	REFUSED(shmeta_find_columns(none, 1, NULL, &zero, 1, NULL, &columns));
	REFUSED(shmeta_find_columns(NULL, 1, NULL, &zero, 1, NULL, &columns));
	REFUSED(shmeta_find_columns(&handle, 1, NULL, NULL, 1, NULL, &columns));
	REFUSED(shmeta_find_columns(&handle, 1, NULL, &zero, 1, NULL, NULL));
	REFUSED(shmeta_plan_fetch(NULL, &fetch, NULL, &plan, NULL));
	REFUSED(shmeta_plan_fetch(handle, NULL, NULL, &plan, NULL));
	REFUSED(shmeta_plan_fetch(handle, &fetch, NULL, NULL, NULL));
	REFUSED(shmeta_get_agent(NULL, "a", 1, NULL, &agent, NULL));
	REFUSED(shmeta_get_agent(reader, "a", 1, NULL, NULL, NULL));
	REFUSED(shmeta_get_agent(reader, NULL, 1, NULL, &agent, NULL));
	REFUSED(shmeta_list_agents(NULL, NULL, 0, NULL, 0, 0, NULL, &iter));
	REFUSED(shmeta_list_agents(reader, NULL, 1, NULL, 0, 0, NULL, &iter));
	REFUSED(shmeta_list_agents(reader, NULL, 0, NULL, 1, 0, NULL, &iter));
	REFUSED(shmeta_list_agents(reader, NULL, 0, NULL, 0, 0, NULL, NULL));
	REFUSED(shmeta_next_agent(NULL, &agent, NULL));
	REFUSED(shmeta_skip_agents(NULL, "a", 1));
	REFUSED(shmeta_get_lease(NULL, "t", 1, 0, 0, NULL, &lease, NULL));
	REFUSED(shmeta_get_lease(reader, "t", 1, 0, 0, NULL, NULL, NULL));
	REFUSED(shmeta_list_leases(NULL, NULL, 0, NULL, 0, 0, NULL, &iter));
	REFUSED(shmeta_list_leases(reader, NULL, 1, NULL, 0, 0, NULL, &iter));
	REFUSED(shmeta_next_lease(NULL, &text, &lease, NULL));
	REFUSED(shmeta_get_committed_offset(NULL, "g", 1, "t", 1, 0, NULL, &offset, NULL));
	REFUSED(shmeta_get_committed_offset(reader, NULL, 1, "t", 1, 0, NULL, &offset, NULL));
	REFUSED(shmeta_get_committed_offset(reader, "g", 1, "t", 1, 0, NULL, NULL, NULL));
	REFUSED(shmeta_list_committed_offsets(NULL, "g", 1, NULL, &iter));
	REFUSED(shmeta_list_committed_offsets(reader, NULL, 0, NULL, &iter));
	REFUSED(shmeta_next_committed_offset(NULL, &text, &offset, NULL));
	REFUSED(shmeta_get_group(NULL, "g", 1, NULL, &group, NULL));
	REFUSED(shmeta_get_group(reader, "g", 1, NULL, NULL, NULL));
	REFUSED(shmeta_list_groups(NULL, NULL, &iter));
	REFUSED(shmeta_list_groups(reader, NULL, NULL));
	REFUSED(shmeta_next_group(NULL, &group, NULL));
	REFUSED(shmeta_skip_groups(NULL, "g", 1));
	REFUSED(shmeta_once_topic(NULL, "t", 1, NULL, buffer, sizeof buffer, &t, NULL));
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	REFUSED(shmeta_once_topic_by_id(reader, 1, NULL, buffer, sizeof buffer, NULL, NULL));
	REFUSED(shmeta_once_topic_stats(reader, "t", 1, NULL, NULL, NULL));
	REFUSED(shmeta_once_last_segment(reader, "t", 1, 0, NULL, buffer, sizeof buffer, NULL, NULL));
	REFUSED(shmeta_once_segment_for_timestamp(reader, NULL, 1, 0, 5, NULL, buffer, sizeof buffer, &s, NULL));
	REFUSED(shmeta_once_segment_for_timestamp(reader, "t", 1, 0, 5, NULL, buffer, sizeof buffer, NULL, NULL));
	REFUSED(shmeta_once_fetch_plan(reader, "t", 1, 0, NULL, NULL, &plan, NULL));
	REFUSED(shmeta_once_fetch_plan(reader, "t", 1, 0, &fetch, NULL, NULL, NULL));
	REFUSED(shmeta_once_group(reader, "g", 1, NULL, buffer, sizeof buffer, NULL, NULL));
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	REFUSED(shmeta_changes_since(reader, NULL, &iter));
	REFUSED(shmeta_changes_since(reader, &token, NULL));
	REFUSED(shmeta_next_change(NULL, &change));
	REFUSED(shmeta_wait_partitions(&wait, 1, 0, NULL));
	REFUSED(shmeta_wait_partitions(NULL, 1, 0, NULL));
	REFUSED(shmeta_wait_commit(NULL, 0, 0, &number));
	REFUSED(shmeta_changed_txn(NULL, SHMETA_CLASS_TOPIC, &number));
	REFUSED(shmeta_changed_txn(instance, (enum shmeta_class)7, &number));
	REFUSED(shmeta_changed_txn(instance, SHMETA_CLASS_TOPIC, NULL));
	REFUSED(shmeta_wait_token(NULL, &token, 0));
	REFUSED(shmeta_wait_token(instance, NULL, 0));
	REFUSED(shmeta_copy_topic(NULL, buffer, 1, NULL));
	REFUSED(shmeta_copy_agent(NULL, buffer, 1, NULL));
	REFUSED(shmeta_changes_since(NULL, &token, &iter));
}

Test(absurd_arguments, requests_of_no_instance_are_refused)
{
	struct shmeta_result result;
	struct shmeta_client *client;
	struct shmeta_objects *objects;
	struct shmeta_object_info object;
	struct shmeta_done done = {.size = sizeof done};
	struct shmeta_key key = {.cls = SHMETA_CLASS_LIST};
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"t", 1}};
	struct shmeta_state state = {.size = sizeof state};
	char *text;

	REFUSED(shmeta_get_state(NULL, &state));
	REFUSED(shmeta_get_state(instance, NULL));
	REFUSED(shmeta_refresh(NULL, SHMETA_CLASS_LIST, NULL, 0, 0, 0, NULL));
	REFUSED(shmeta_invalidate(NULL, SHMETA_CLASS_LIST, NULL, 0, 0, 0, 0, NULL));
	REFUSED(shmeta_invalidate(NULL, SHMETA_CLASS_TOPIC, NULL, 5, 0, 0, 0, NULL));
	REFUSED(shmeta_accept_source(NULL, 0, 0, NULL, NULL, 0));
	REFUSED(shmeta_revoke_reader(NULL, 0, 0, NULL));
	REFUSED(shmeta_operate(NULL, SHMETA_OPERATE_PAUSE, NULL, 0, 0, NULL));
	REFUSED(shmeta_reload(NULL, 0, NULL, 0));
	REFUSED(shmeta_get_config(NULL, 0, &text));
	REFUSED(shmeta_get_config(instance, 0, NULL));
	REFUSED(shmeta_list_objects(NULL, 0, 0, &objects));
	REFUSED(shmeta_list_objects(instance, 0, 0, NULL));
	REFUSED(shmeta_list_objects(instance, 8, 0, &objects));
	REFUSED(shmeta_next_object(NULL, &object));
	REFUSED(shmeta_leader_epoch_end(NULL, "t", 1, 0, 1, 0, NULL, NULL));
	REFUSED(shmeta_leader_epoch_end(instance, NULL, 1, 0, 1, 0, NULL, NULL));
	REFUSED(shmeta_client_open(NULL, NULL, &client));
	REFUSED(shmeta_client_open(instance, NULL, NULL));
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	REFUSED(shmeta_write(NULL, &op, 1, 0, &result, NULL));
	REFUSED(shmeta_write(client, NULL, 1, 0, &result, NULL));
	REFUSED(shmeta_write(client, &op, 1, 0, NULL, NULL));
	REFUSED(shmeta_write(client, &op, 0, 0, &result, NULL));
	REFUSED(shmeta_submit(NULL, &op, 1, NULL, NULL));
	REFUSED(shmeta_submit(client, NULL, 1, NULL, NULL));
	REFUSED(shmeta_submit(client, &op, 0, NULL, NULL));
	REFUSED(shmeta_submit_refresh(NULL, &key, 0, NULL, NULL, NULL));
	REFUSED(shmeta_submit_refresh(client, NULL, 0, NULL, NULL, NULL));
	REFUSED(shmeta_client_cancel(NULL, 1));
	REFUSED(shmeta_client_next_done(NULL, &done));
	REFUSED(shmeta_client_next_done(client, NULL));
	REFUSED(shmeta_client_process(NULL, NULL));
	cr_expect_eq(shmeta_client_fd(NULL), -1);
	cr_expect_eq(shmeta_client_events(NULL), 0);
	op.name = (struct shmeta_str){NULL, 5};
	REFUSED(shmeta_write(client, &op, 1, 0, &result, NULL));
	shmeta_client_close(client);
}

Test(absurd_arguments, a_key_whose_names_have_a_length_but_no_bytes_is_refused)
{
	struct shmeta_client *client;
	struct shmeta_key key = {.cls = SHMETA_CLASS_TOPIC, .topic = {NULL, 5}};
	char text[200];

	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	REFUSED(shmeta_submit_refresh(client, &key, 0, NULL, NULL, NULL));
	cr_expect_not_null(strstr(shmeta_last_error(instance, text, sizeof text), "NULL"), "%s", text);
	key = (struct shmeta_key){.cls = SHMETA_CLASS_AGENT, .name = {NULL, 5}};
	REFUSED(shmeta_submit_refresh(client, &key, 0, NULL, NULL, NULL));
	shmeta_client_close(client);
}

Test(absurd_arguments, a_list_by_a_name_longer_than_any_is_empty_whatever_its_length)
{
	static const size_t lengths[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 64, 100000};
	static char much[100000];
	struct shmeta_committed_offset o;
	struct shmeta_agent a;
	struct shmeta_iter *iter;
	struct shmeta_lease l;
	struct shmeta_topic t;
	struct shmeta_str name;

	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		cr_assert_eq(shmeta_list_leases(reader, much, lengths[i], NULL, 0, 0, NULL, &iter), SHMETA_OK);
		cr_assert_eq(shmeta_next_lease(iter, &name, &l, NULL), SHMETA_END);
		shmeta_iter_free(iter);
		cr_assert_eq(shmeta_list_leases(reader, NULL, 0, much, lengths[i], 0, NULL, &iter), SHMETA_OK);
		cr_assert_eq(shmeta_next_lease(iter, &name, &l, NULL), SHMETA_END);
		shmeta_iter_free(iter);
		cr_assert_eq(shmeta_list_committed_offsets(reader, much, lengths[i], NULL, &iter), SHMETA_OK);
		cr_assert_eq(shmeta_next_committed_offset(iter, &name, &o, NULL), SHMETA_END);
		shmeta_iter_free(iter);
		cr_assert_eq(shmeta_list_agents(reader, much, lengths[i], NULL, 0, 0, NULL, &iter), SHMETA_OK);
		cr_assert_eq(shmeta_next_agent(iter, &a, NULL), SHMETA_END);
		shmeta_iter_free(iter);
		cr_assert_eq(shmeta_list_agents(reader, NULL, 0, much, lengths[i], 0, NULL, &iter), SHMETA_OK);
		cr_assert_eq(shmeta_next_agent(iter, &a, NULL), SHMETA_END);
		shmeta_iter_free(iter);
		cr_assert_eq(shmeta_list_topics(reader, much, lengths[i], 0, NULL, &iter), SHMETA_OK);
		cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_END);
		shmeta_iter_free(iter);
	}
}
