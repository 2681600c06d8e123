/* SPDX-License-Identifier: Apache-2.0
 * Request ids: how they are made, and that an operation which comes again is answered with the
 * first one's result, and nothing else is. Through the sync engine on the in-memory source, and the
 * memory of them by itself. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/sync_fixture.h"
#include "tests/support/write_ops.h"
#include "writer/write/request_ids.h"

TestSuite(request_ids, .timeout = 60);

static struct fixture f;

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void begin(void)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 2, 0, 1);
	fixture_open(&f);
	(void)fixture_run(&f);
}

static void end(void)
{
	fixture_done(&f);
}

static void submit(uint32_t uid, const struct shmeta_op *ops, size_t count)
{
	cr_assert_eq(write_ops(f.sync, str(SHMETA_DEFAULT_TENANT), ops, count, UINT64_MAX, uid, 1, "test", uid),
	             SHMETA_OK);
}

/* The first result's status. */
static enum shmeta_status do_as(uint32_t uid, const struct shmeta_op *ops, size_t count)
{
	submit(uid, ops, count);
	(void)fixture_run(&f);
	cr_assert_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	return f.write_result[0].status;
}

static struct shmeta_op add(uint64_t base, uint64_t id)
{
	static char name[16][32];
	static unsigned int next;
	char *text = name[next++ % 16];

	(void)snprintf(text, 32, "s-%llu", (unsigned long long)base);
	return (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT,
	                          .name = str("t"),
	                          .request_id = {id, 77},
	                          .u.segment = {.base_offset = base,
	                                        .end_offset = base + 9,
	                                        .record_count = 10,
	                                        .size_bytes = 100,
	                                        .id = str(text),
	                                        .s3_bucket = str("b"),
	                                        .s3_key = str(text)}};
}

static struct shmeta_op slice(uint64_t base, uint64_t id)
{
	struct shmeta_op op = add(base, id);

	op.type = SHMETA_OP_ADD_SLICE;
	op.u.segment.s3_bucket = op.u.segment.s3_key = str("");
	return op;
}

static struct shmeta_op object(const char *key, uint64_t id)
{
	return (struct shmeta_op){.type = SHMETA_OP_COMMIT_OBJECT,
	                          .request_id = {id, 77},
	                          .u.object = {.s3_bucket = str("b"), .s3_key = str(key), .size_bytes = 500}};
}

static struct shmeta_op group(const char *name, uint64_t id)
{
	return (struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = str(name), .request_id = {id, 77}};
}

/* The key of the object that the source has for it; NULL: there is no such segment. */
static const char *key_at(uint64_t base)
{
	static char key[64];
	struct shmeta_segment s;

	if (!memory_find_segment(f.db, SHMETA_DEFAULT_TENANT, "t", 0, base, &s))
		return NULL;
	(void)snprintf(key, sizeof key, "%.*s", (int)s.s3_key.bytes, s.s3_key.data);
	return key;
}

/* ---- whose and what for ---- */

Test(request_ids, another_operation_under_an_id_is_a_conflict_and_not_done, .init = begin, .fini = end)
{
	struct shmeta_op first = group("g", 5), other = add(0, 5);

	cr_assert_eq(do_as(7, &first, 1), SHMETA_OK);
	cr_expect_eq(do_as(7, &other, 1), SHMETA_ERR_CONFLICT);
	cr_expect_not_null(strstr(f.write_result[0].text, "another operation (ensure_consumer_group)"), "%s",
	                   f.write_result[0].text);
	cr_expect_null(key_at(0), "it was done");
	/* Of the same type, too: every field counts. */
	first = add(10, 6);
	other = first;
	other.u.segment.size_bytes++;
	cr_assert_eq(do_as(7, &first, 1), SHMETA_OK);
	cr_expect_eq(do_as(7, &other, 1), SHMETA_ERR_CONFLICT);
	cr_expect_eq(do_as(7, &first, 1), SHMETA_OK, "the first one is still known: %s", f.write_result[0].text);
	other.request_id[0] = 8;
	cr_expect_neq(do_as(7, &other, 1), SHMETA_OK, "with an id of its own it is judged by the source");
}

Test(request_ids, another_operation_under_an_id_that_waits_is_a_conflict, .init = begin, .fini = end)
{
	struct shmeta_op first = group("g", 5), other = add(0, 5);

	submit(7, &first, 1);
	submit(7, &other, 1);
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, 2);
	cr_expect_eq(f.write_result[0].status, SHMETA_ERR_CONFLICT);
	cr_expect_not_null(strstr(f.write_result[0].text, "another operation (ensure_consumer_group)"), "%s",
	                   f.write_result[0].text);
	cr_expect_null(key_at(0), "it was done");
}

Test(request_ids, an_id_belongs_to_its_user, .init = begin, .fini = end)
{
	struct shmeta_op first = group("g", 5), other = add(0, 5), waiting[2] = {add(10, 6), add(20, 6)};

	cr_assert_eq(do_as(7, &first, 1), SHMETA_OK);
	cr_expect_eq(do_as(8, &other, 1), SHMETA_OK, "%s", f.write_result[0].text);
	cr_expect_not_null(key_at(0), "another user's was not done");
	/* Nor do they meet while they wait. */
	submit(7, &waiting[0], 1);
	submit(8, &waiting[1], 1);
	(void)fixture_run(&f);
	cr_expect_eq(f.write_result[0].status, SHMETA_OK, "%s", f.write_result[0].text);
	cr_expect_not_null(key_at(10));
	cr_expect_not_null(key_at(20));
}

Test(request_ids, an_id_belongs_to_its_tenant)
{
	struct request_ids *ids = request_ids_new();
	const struct request first = {.id = {5, 1}, .uid = 7, .tenant = 1, .operation = 9},
			     other = {.id = {5, 1}, .uid = 7, .tenant = 2, .operation = 9};
	struct shmeta_result result = {.count = 0};

	cr_assert_not_null(ids);
	request_ids_note(ids, &first, &result);
	cr_expect_eq(request_ids_recall(ids, &other, &result), REQUEST_NEW);
	cr_expect_eq(request_ids_recall(ids, &first, &result), REQUEST_SAME);
	request_ids_free(ids);
}

Test(request_ids, what_was_not_done_keeps_its_id_for_whatever_comes_next, .init = begin, .fini = end)
{
	struct shmeta_op bad = add(0, 5), good = add(0, 5);

	bad.u.segment.end_offset = UINT64_MAX;
	cr_assert_eq(do_as(7, &bad, 1), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(do_as(7, &good, 1), SHMETA_OK, "%s", f.write_result[0].text);
}

/* Ids end with the process: the library does not send again to a writer of another epoch. */
Test(request_ids, a_restarted_writer_knows_no_ids, .init = begin, .fini = end)
{
	struct shmeta_op first = add(0, 5), other = add(10, 5);

	cr_assert_eq(do_as(7, &first, 1), SHMETA_OK);
	fixture_close(&f);
	fixture_open(&f);
	(void)fixture_run(&f);
	cr_expect_eq(do_as(7, &other, 1), SHMETA_OK, "%s", f.write_result[0].text);
	cr_expect_not_null(key_at(10));
	cr_expect_eq(do_as(7, &first, 1), SHMETA_ERR_CONFLICT);
}

/* ---- objects and slices ---- */

Test(request_ids, a_slice_of_another_object_is_another_operation, .init = begin, .fini = end)
{
	struct shmeta_op first[2] = {object("one", 1), slice(0, 2)}, other[2] = {object("two", 3), slice(0, 2)};

	cr_assert_eq(do_as(7, first, 2), SHMETA_OK);
	cr_assert_eq(f.write_result[1].status, SHMETA_OK, "%s", f.write_result[1].text);
	cr_expect_eq(do_as(7, other, 2), SHMETA_OK, "%s", f.write_result[0].text);
	cr_expect_eq(f.write_result[1].status, SHMETA_ERR_CONFLICT);
	cr_expect_eq(do_as(7, first, 2), SHMETA_OK);
	cr_expect_eq(f.write_result[1].status, SHMETA_OK, "the whole unit again");
	cr_expect_str_eq(key_at(0), "one");
}

/* Its object does not go to the source: then what stands before it there is another call's. */
Test(request_ids, a_slice_never_joins_the_object_of_another_call, .init = begin, .fini = end)
{
	struct shmeta_op theirs[2] = {object("theirs", 1), slice(0, 2)}, alone = slice(10, 3),
			 used[2] = {object("mine", 4), slice(20, 5)}, bad[2] = {object("", 6), slice(30, 7)},
			 taken = group("g", 4);

	/* In this order they have their turns from now on. */
	cr_assert_eq(do_as(7, &taken, 1), SHMETA_OK);
	cr_assert_eq(do_as(8, &taken, 1), SHMETA_OK);
	submit(7, theirs, 2);
	submit(8, &alone, 1);
	submit(8, used, 2);
	submit(8, bad, 2);
	(void)fixture_run(&f);
	cr_expect_eq(f.write_result[1].status, f.write_result[0].status, "a slice shares its object's fate");
	cr_expect_not_null(strstr(f.write_result[1].text, "its object: "), "%s", f.write_result[1].text);
	cr_expect_str_eq(key_at(0), "theirs");
	cr_expect_null(key_at(10), "a slice without an object joined one");
	cr_expect_null(key_at(20), "behind an object whose id was taken");
	cr_expect_null(key_at(30), "behind an object that was refused");
}

Test(request_ids, a_slice_that_was_kept_out_comes_again_behind_its_own_object, .init = begin, .fini = end)
{
	struct shmeta_op theirs[2] = {object("theirs", 1), slice(0, 2)}, mine[2] = {object("mine", 3), slice(10, 4)},
			 more[3] = {mine[0], mine[1], slice(20, 5)};

	cr_assert_eq(do_as(8, mine, 2), SHMETA_OK);
	submit(7, theirs, 2);
	submit(8, more, 3);
	(void)fixture_run(&f);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(f.write_result[i].status, SHMETA_OK, "%d: %s", i, f.write_result[i].text);
	cr_expect_str_eq(key_at(10), "mine");
	cr_expect_str_eq(key_at(20), "mine");
}

/* ---- how many ---- */

static struct request request_of(uint32_t uid, uint64_t id)
{
	return (struct request){.id = {id, 1}, .uid = uid, .operation = id, .type = SHMETA_OP_ENSURE_GROUP};
}

static bool knows(struct request_ids *ids, uint32_t uid, uint64_t id)
{
	const struct request request = request_of(uid, id);
	struct shmeta_result result = {.count = 0};

	return request_ids_recall(ids, &request, &result) == REQUEST_SAME && result.count == id;
}

static void note(struct request_ids *ids, uint32_t uid, uint64_t from, uint64_t to)
{
	for (uint64_t id = from; id < to; id++) {
		const struct request request = request_of(uid, id);

		request_ids_note(ids, &request, &(struct shmeta_result){.count = id});
	}
}

Test(request_ids, who_uses_many_ids_forgets_only_its_own)
{
	enum { FEW = REQUEST_IDS_MAX / 4 };
	struct request_ids *ids = request_ids_new();

	cr_assert_not_null(ids);
	note(ids, 1, 1, 1 + FEW);
	note(ids, 2, 1, 1 + 10 * REQUEST_IDS_MAX);
	for (uint64_t id = 1; id <= FEW; id++)
		cr_assert(knows(ids, 1, id), "the quiet user's id %llu is gone", (unsigned long long)id);
	/* And of the other one the newest are left. */
	for (uint64_t k = 0; k < REQUEST_IDS_MAX - FEW; k++)
		cr_assert(knows(ids, 2, 10 * REQUEST_IDS_MAX - k));
	cr_expect_not(knows(ids, 2, 10 * REQUEST_IDS_MAX - (REQUEST_IDS_MAX - FEW)));
	/* The quiet one has room for as many again before it loses any. */
	note(ids, 1, 1 + FEW, 1 + 2 * FEW);
	for (uint64_t id = 1; id <= 2 * FEW; id++)
		cr_assert(knows(ids, 1, id));
	/* Many more users than there is room for. */
	for (uint32_t uid = 100; uid < 100 + 2 * REQUEST_IDS_MAX; uid += 16)
		note(ids, uid, 1, 33);
	cr_expect(knows(ids, 100 + 2 * REQUEST_IDS_MAX - 16, 32));
	request_ids_free(ids);
}

/* ---- making them ---- */

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

Test(request_ids, no_two_made_ids_are_the_same)
{
	enum { COUNT = 20000 };
	static uint64_t id[COUNT][2];

	for (int i = 0; i < COUNT; i++)
		cr_assert_eq(shmeta_request_id(id[i]), SHMETA_OK);
	qsort(id, COUNT, sizeof id[0], by_id);
	for (int i = 1; i < COUNT; i++)
		cr_assert_neq(memcmp(id[i - 1], id[i], sizeof id[0]), 0);
	cr_expect_neq(memcmp(id[0], (uint64_t[2]){0, 0}, sizeof id[0]), 0);
	cr_expect_eq(shmeta_request_id(NULL), SHMETA_ERR_INVALID_ARGUMENT);
}

/* In this process from now on, getrandom(2) fails as on a kernel that has none. */
static bool forbid_getrandom(void)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getrandom, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof rules / sizeof rules[0], .filter = rules};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

Test(request_ids, where_none_can_be_made_the_operation_has_none)
{
	uint64_t id[2] = {1, 2};
	pid_t child = run_fork();

	if (child == 0) {
		if (!forbid_getrandom())
			_exit(77);
		_exit(shmeta_request_id(id) == SHMETA_ERR_SYSTEM && id[0] == 0 && id[1] == 0 ? 0 : 1);
	}
	switch (run_reap(child)) {
	case 0:
		break;
	case 77:
		cr_skip_test("seccomp filters are not allowed here");
		break;
	default:
		cr_assert_fail("an id was left, or success told");
	}
}

Test(request_ids, an_operation_that_comes_again_with_another_trace_id_is_the_same_one, .init = begin, .fini = end)
{
	struct shmeta_op op = add(0, 7);

	memset(op.trace_id, 1, sizeof op.trace_id);
	cr_expect_eq(do_as(1, &op, 1), SHMETA_OK);
	memset(op.trace_id, 2, sizeof op.trace_id);
	cr_expect_eq(do_as(1, &op, 1), SHMETA_OK);
	memset(op.trace_id, 0, sizeof op.trace_id);
	cr_expect_eq(do_as(1, &op, 1), SHMETA_OK);
	op.request_id[0] = 8;
	cr_expect_eq(do_as(1, &op, 1), SHMETA_ERR_ALREADY_EXISTS, "it was done, and not again");
}
