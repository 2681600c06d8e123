/* SPDX-License-Identifier: Apache-2.0
 * Conformance, the rest: what is only text stays text (C1), order within a call (C6), leases and
 * offers that run out (A 1.6, C7), strangers on the socket (C9), and sources with less than
 * everything (C10); through the public API and a real writer, on each engine. */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/conformance.h"
#include "tests/support/run_tool.h"

CONFORMANCE_SUITES

/* The wall clock moves on by itself: wait until so much of it has passed. */
static void let_pass_ms(int ms)
{
	double end = run_now_s() + ms / 1000.0;

	while (run_now_s() < end)
		;
}

/* ---- C1 ---- */

CLAIM(c1_quotes_wildcards_and_commands_in_names_are_only_text)
{
	static const char *const names[] = {"it's", "100%", "a_b", "\"x\"", "$1",       "');DROP TABLE topics;--",
	                                    "\\",   "a?b",  "{}",  "NULL",  "e\xcc\x81"};
	char address[64];
	struct shmeta_topic t;
	struct shmeta_agent a;
	struct shmeta_lease l;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *name = names[i];
		struct shmeta_op agent = api_agent(name, address);

		agent.u.agent.agent_group = S(name);
		agent.u.agent.availability_zone = S(name);
		cr_assert_eq(api_create(name, 1), SHMETA_OK, "%s: %s", name, api.result[0].text);
		cr_assert_eq(api_append(name, 0, 0, 9), SHMETA_OK, "%s: %s", name, api.result[0].text);
		cr_assert_eq(api_do(&agent, 1), SHMETA_OK, "%s: %s", name, api.result[0].text);
		cr_assert_eq(api_commit(name, name, 0, 5, name), SHMETA_OK, "%s: %s", name, api.result[0].text);
		cr_assert_eq(api_acquire(name, 0, name, 1000000), SHMETA_OK, "%s: %s", name, api.result[0].text);
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *name = names[i];

		cr_expect_eq(api_topic(name, &t), SHMETA_OK, "%s", name);
		cr_expect_eq(api_base(name, 0, 5), 0, "%s", name);
		cr_expect_eq(shmeta_get_agent(api.reader, name, strlen(name), NULL, &a, NULL), SHMETA_OK, "%s", name);
		cr_expect_str_eq(api_agents(name, name, 1000000), name, "alone in its group and zone");
		cr_expect_eq(shmeta_get_lease(api.reader, name, strlen(name), 0, 0, NULL, &l, NULL), SHMETA_OK, "%s",
		             name);
	}
	cr_assert_eq(api_drop("a_b"), SHMETA_OK);
	cr_assert_eq(api_drop("100%"), SHMETA_OK);
	cr_expect_eq(api_topic("a?b", &t), SHMETA_OK, "another one");
	cr_expect_eq(api_topic("it's", &t), SHMETA_OK);
}

CLAIM(c1_every_list_of_names_is_ordered_by_bytes)
{
	static const char *const names[] = {"b", "\xc3\xa9", "B", "a_", "a10", "a2", "A"};
	static const char *const sorted = "A B a10 a2 a_ b \xc3\xa9";
	char committed[128] = "", leases[128] = "";

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct shmeta_op group = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = S(names[i])};

		cr_assert_eq(api_create(names[i], 1), SHMETA_OK);
		cr_assert_eq(api_do(&group, 1), SHMETA_OK);
		cr_assert_eq(api_register(names[i]), SHMETA_OK);
		cr_assert_eq(api_commit("b", names[i], 0, 1, NULL), SHMETA_OK);
		cr_assert_eq(api_acquire(names[i], 0, names[i], 1000000), SHMETA_OK);
	}
	cr_expect_str_eq(api_topics(NULL, 0), sorted);
	cr_expect_str_eq(api_groups(), sorted);
	cr_expect_str_eq(api_agents(NULL, NULL, 1000000), sorted);
	for (const char *at = sorted; *at != '\0';) {
		int n = (int)strcspn(at, " ");

		(void)snprintf(committed + strlen(committed), sizeof committed - strlen(committed), "%s%.*s/0=1",
		               at == sorted ? "" : " ", n, at);
		(void)snprintf(leases + strlen(leases), sizeof leases - strlen(leases), "%s%.*s/0:%.*s@1",
		               at == sorted ? "" : " ", n, at, n, at);
		at += n + (at[n] == ' ');
	}
	cr_expect_str_eq(api_offsets("b"), committed);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), leases);
}

/* ---- C6 ---- */

CLAIM(c6_operations_of_one_call_take_effect_in_their_order)
{
	char id[3][64];
	struct shmeta_op op[9] = {
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = S("orders"), .partition_count = 1}},
		api_segment("orders", 0, 0, 9, id[0]),
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 500},
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 300},
		{.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = S("orders"), .offset = 10},
		{.type = SHMETA_OP_DELETE_TOPIC, .name = S("orders")},
		api_segment("orders", 0, 20, 29, id[1]),
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = S("orders"), .partition_count = 2}},
		api_segment("orders", 1, 40, 49, id[2])};
	static const enum shmeta_status answers[9] = {
		SHMETA_OK, SHMETA_OK, SHMETA_OK, SHMETA_OK, SHMETA_OK, SHMETA_OK, SHMETA_ERR_TOPIC_NOT_FOUND,
		SHMETA_OK, SHMETA_OK};

	(void)api_do(op, 9);
	for (int i = 0; i < 9; i++)
		cr_expect_eq(api.result[i].status, answers[i], "operation %d: %s", i, api.result[i].text);
	cr_expect_eq(api.result[4].count, 1, "the segment before it");
	cr_expect_str_eq(api_partitions("orders"), "0 1");
	cr_expect_str_eq(api_segments("orders", 0), "");
	cr_expect_str_eq(api_segments("orders", 1), "40-49");
	cr_expect_eq(api_watermark("orders", 0), 0);
	(void)api_do(op + 2, 2);
	cr_expect_eq(api_watermark("orders", 0), 300, "the later one");
	/* Also behind one that came with a segment. */
	op[0] = api_segment("orders", 0, 60, 69, id[0]);
	op[0].type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	op[1] = (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 5};
	(void)api_do(op, 2);
	cr_expect_eq(api_watermark("orders", 0), 5);
}

/* ---- leases and offers that run out ---- */

CLAIM(a_1_6_the_holder_releases_also_what_has_expired)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 1), SHMETA_OK);
	let_pass_ms(5);
	cr_expect_eq(api_release("orders", 0, "a"), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api_release("orders", 0, "a"), SHMETA_ERR_NOT_FOUND);
}

CLAIM(a_1_6_the_same_agent_after_expiry_takes_the_next_epoch)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	for (uint64_t epoch = 1; epoch <= 5; epoch++) {
		cr_assert_eq(api_acquire("orders", 0, "a", 1), SHMETA_OK);
		cr_expect_eq(api.result[0].lease.epoch, epoch);
		let_pass_ms(3);
	}
}

CLAIM(c7_what_is_fenced_by_an_expired_lease_is_refused)
{
	struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 9, .fence = {S("a"), 1}};

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 1), SHMETA_OK);
	let_pass_ms(5);
	cr_expect_eq(api_do(&op, 1), SHMETA_ERR_FENCED, "%s", api.result[0].text);
	cr_expect_eq(api_watermark("orders", 0), 0);
}

CLAIM(c7_an_offer_that_nobody_took_times_out_and_leaves_the_lease)
{
	struct shmeta_op offer = {.type = SHMETA_OP_OFFER_LEASE,
	                          .name = S("orders"),
	                          .agent_id = S("a"),
	                          .to_agent_id = S("b"),
	                          .duration_ms = 1};
	struct shmeta_op accept = {.type = SHMETA_OP_ACCEPT_LEASE, .agent_id = S("b")};

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 1000000), SHMETA_OK);
	cr_assert_eq(api_do(&offer, 1), SHMETA_OK, "%s", api.result[0].text);
	accept.transfer_id = api.result[0].transfer_id;
	let_pass_ms(5);
	cr_expect_eq(api_do(&accept, 1), SHMETA_ERR_CONFLICT, "%s", api.result[0].text);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:a@1");
	offer.duration_ms = 1000000;
	cr_expect_eq(api_do(&offer, 1), SHMETA_OK, "another one may be made: %s", api.result[0].text);
}

/* ---- C9 ---- */

CLAIM(c9_a_frame_that_does_not_parse_closes_its_connection_alone)
{
	static const char *const frames[] = {"", "x", "0123456789abcdef", "0123456789abcdef0123456789abcdef"};
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	cr_assert_lt(snprintf(at.sun_path, sizeof at.sun_path, "%s/control.sock", api.d.instance),
	             (int)sizeof at.sun_path);
	for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
		struct pollfd p = {.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), .events = POLLIN};
		char answer[512];
		ssize_t n = 1;

		cr_assert_eq(connect(p.fd, (struct sockaddr *)&at, sizeof at), 0);
		cr_assert_geq(send(p.fd, frames[i], strlen(frames[i]), MSG_NOSIGNAL), 0);
		while (n > 0 && poll(&p, 1, 10000) == 1)
			n = recv(p.fd, answer, sizeof answer, 0);
		cr_expect_leq(n, 0, "frame %zu", i);
		(void)close(p.fd);
		cr_expect_neq(api_create("orders", 1), SHMETA_ERR_WRITER_AWAY, "ours goes on");
	}
	cr_expect_str_eq(api_topics(NULL, 0), "orders");
}

/* ---- C10 ---- */

/* The writer again, with another configuration. */
static void restart_with(const char *config)
{
	FILE *f = fopen(api.d.config, "we");

	cr_assert_not_null(f);
	(void)fputs(config, f);
	(void)fclose(f);
	api_restart();
}

CLAIM(c10_a_source_that_may_not_be_written_is_served_and_writes_are_refused)
{
	struct shmeta_read read = {.size = sizeof read, .consistency = SHMETA_SOURCE, .timeout_ms = API_WAIT_MS};
	struct shmeta_partition p;

	if (api.engine->sql == NULL)
		NOT_HERE("its rows die with the writer");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	restart_with("source { read_only = on }\n");
	cr_expect_str_eq(api_segments("orders", 0), "0-9");
	cr_expect_eq(api_create("more", 1), SHMETA_ERR_READ_ONLY);
	cr_expect_eq(api_append("orders", 0, 10, 19), SHMETA_ERR_READ_ONLY);
	cr_assert_eq(api_sql("UPDATE partitions SET high_watermark = 77"), 0);
	cr_assert_eq(shmeta_get_partition_named(api.reader, "orders", 6, 0, &read, &p, NULL), SHMETA_OK);
	cr_expect_eq(p.high_watermark, 77);
	cr_expect_str_eq(api_topics(NULL, 0), "orders");
}

CLAIM(c10_without_shmetas_own_tables_everything_is_read_and_plain_writes_work)
{
	struct shmeta_read read = {.size = sizeof read, .consistency = SHMETA_SOURCE, .timeout_ms = API_WAIT_MS};
	struct shmeta_op offer = {.type = SHMETA_OP_OFFER_LEASE,
	                          .name = S("orders"),
	                          .agent_id = S("a"),
	                          .to_agent_id = S("a"),
	                          .duration_ms = 1000};
	struct shmeta_partition p;
	struct run_tool t;

	if (api.engine->sql == NULL)
		NOT_HERE("its rows die with the writer");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	restart_with("source { manage_schema = off }\n");
	run_tool(&t, "shmetactl schema remove --source '%s' --yes", api.source);
	cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
	run_tool_done(&t);
	api_restart();
	cr_expect_str_eq(api_topics(NULL, 0), "orders");
	cr_expect_eq(api_append("orders", 0, 0, 9), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(api_segments("orders", 0), "0-9");
	cr_assert_eq(api_register("a"), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api_commit("g", "orders", 0, 5, NULL), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api_do(&offer, 1), SHMETA_ERR_UNSUPPORTED, "%s", api.result[0].text);
	cr_assert_eq(api_sql("UPDATE partitions SET high_watermark = 77"), 0);
	cr_assert_eq(shmeta_get_partition_named(api.reader, "orders", 6, 0, &read, &p, NULL), SHMETA_OK);
	cr_expect_eq(p.high_watermark, 77);
}
