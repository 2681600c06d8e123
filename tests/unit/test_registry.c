/* SPDX-License-Identifier: Apache-2.0
 * Registrations: which pins count, for whom, and for how long; what a hostile page can and cannot
 * do. */
#include <criterion/criterion.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "writer/daemon/log.h"
#include "writer/serve/pins.h"
#include "writer/serve/registry.h"
#include "writer/serve/shares.h"

TestSuite(registry, .timeout = 30);

enum { EPOCH = 7, GRACE_NS = 1000, GENERATION = 3 };

static struct shmeta_board board;
static struct registry *registry;

static void begin(void)
{
	unsetenv("NOTIFY_SOCKET");
	memset(&board, 0, sizeof(board));
	cr_assert_eq(registry_new(&board, EPOCH, GRACE_NS, &registry, NULL), SHMETA_OK);
}

static void end(void)
{
	registry_free(registry);
}

struct reader {
	struct registration *registration;
	struct shmeta_slots *page;
	uint32_t slots;
	int fd;
};

static enum shmeta_status add(struct reader *ret, uint32_t slots, uid_t uid, uint32_t per_user)
{
	const struct shmeta_frame_register request = {.slot_count = slots, .agent_name = "reader"};
	const struct registry_peer peer = {.pid = 1, .uid = uid, .gid = uid};
	struct shmeta_err err = {0};
	enum shmeta_status status = registry_add(registry, &request, &peer, -1, per_user, SHARE_PERCENT, &ret->fd,
	                                         &ret->registration, &err);

	if (status != SHMETA_OK)
		return status;
	ret->slots = registration_slots(ret->registration);
	ret->page = mmap(NULL, shmeta__slots_bytes(ret->slots), PROT_READ | PROT_WRITE, MAP_SHARED, ret->fd, 0);
	cr_assert_neq(ret->page, MAP_FAILED);
	return SHMETA_OK;
}

static void forget(struct reader *r)
{
	munmap(r->page, shmeta__slots_bytes(r->slots));
	close(r->fd);
}

static void pin(const struct reader *r, uint32_t slot, uint64_t generation, uint64_t commit)
{
	shmeta_poke(&shmeta__slot(r->page, slot)->generation, generation);
	shmeta_swap(&shmeta__slot(r->page, slot)->pin, commit);
}

Test(registry, the_oldest_pin_is_the_least_of_all_slots_of_all_readers, .init = begin, .fini = end)
{
	struct reader a, b;

	cr_assert_eq(add(&a, 4, 1, 100), SHMETA_OK);
	cr_assert_eq(add(&b, 64, 1, 100), SHMETA_OK);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), UINT64_MAX, "nobody pins");
	pin(&a, 0, GENERATION, 50);
	pin(&a, 3, GENERATION, 40);
	pin(&b, 63, GENERATION, 45);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 40);
	pin(&a, 3, GENERATION, 0);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 45);
	pin(&b, 63, GENERATION, 0);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 50);
	forget(&a);
	forget(&b);
}

Test(registry, pins_of_another_generation_hold_nothing_back, .init = begin, .fini = end)
{
	struct reader a;

	cr_assert_eq(add(&a, 4, 1, 100), SHMETA_OK);
	pin(&a, 0, GENERATION - 1, 5);
	pin(&a, 1, GENERATION, 9);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 9);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION - 1), 5);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION + 1), UINT64_MAX);
	forget(&a);
}

Test(registry, a_revoked_reader_is_honoured_for_one_grace_period_and_no_longer, .init = begin, .fini = end)
{
	struct reader a;

	cr_assert_eq(add(&a, 4, 1, 100), SHMETA_OK);
	pin(&a, 2, GENERATION, 33);
	registry_revoke(registry, a.registration, 10000);
	cr_expect_eq(shmeta_observe(&a.page->revoked), 1);
	registry_sweep(registry, 10000 + GRACE_NS - 1);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 33);
	cr_expect_eq(board.registrations, 1);
	registry_sweep(registry, 10000 + GRACE_NS);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), UINT64_MAX);
	cr_expect_eq(board.registrations, 0);
	forget(&a);
}

Test(registry, a_page_full_of_noise_harms_only_its_own_reader, .init = begin, .fini = end)
{
	static struct shmeta_stats page;
	struct reader good, hostile;
	uint64_t oldest;

	cr_assert_eq(add(&good, 4, 1, 100), SHMETA_OK);
	cr_assert_eq(add(&hostile, 4, 2, 100), SHMETA_OK);
	pin(&good, 0, GENERATION, 21);
	for (int fill = 0; fill < 256; fill++) {
		memset(hostile.page, fill, shmeta__slots_bytes(hostile.slots));
		oldest = registry_oldest_pin(registry, GENERATION);
		cr_expect_eq(oldest, 21, "noise %02x makes it %lu", fill, (unsigned long)oldest);
		registry_look(registry, GENERATION, 100, 1);
		registry_report(registry, &page, 100, 1);
		cr_expect_eq(page.reader_count, 2);
		cr_expect_eq(page.reader[0].slots <= 4, 1);
		cr_expect_not_null(memchr(page.reader[0].name, '\0', sizeof(page.reader[0].name)));
	}
	/* Sealed: no noise can take the pages away from under the writer. */
	cr_expect_eq(ftruncate(hostile.fd, 0), -1);
	forget(&good);
	forget(&hostile);
}

/* Page after page, for as long as some are granted. */
static size_t take_all(struct reader *readers, size_t most, uid_t uid)
{
	size_t count = 0;

	while (count < most && add(&readers[count], SHMETA_SLOTS_MAX, uid, UINT32_MAX) == SHMETA_OK)
		count++;
	return count;
}

Test(registry, two_users_cannot_take_the_slots_of_the_others, .init = begin, .fini = end)
{
	enum { MOST = REGISTRY_SLOTS_TOTAL / SHMETA_SLOTS_MAX + 1 };
	static struct reader readers[MOST];
	size_t first = take_all(readers, MOST, 1), both = first + take_all(readers + first, MOST - first, 2);
	struct reader other;

	cr_expect_eq(first, REGISTRY_SLOTS_TOTAL / 2 / SHMETA_SLOTS_MAX);
	cr_expect_eq(both - first, REGISTRY_SLOTS_TOTAL / 4 / SHMETA_SLOTS_MAX);
	cr_assert_eq(add(&other, SHMETA_SLOTS_MAX, 3, UINT32_MAX), SHMETA_OK);
	cr_expect_eq(other.slots, SHMETA_SLOTS_MAX);
	for (size_t i = 0; i < both; i++)
		forget(&readers[i]);
	forget(&other);
}

Test(registry, a_user_has_no_more_registrations_than_allowed, .init = begin, .fini = end)
{
	struct reader a, b, other;

	cr_assert_eq(add(&a, 4, 1, 2), SHMETA_OK);
	cr_assert_eq(add(&b, 4, 1, 2), SHMETA_OK);
	cr_expect_eq(add(&other, 4, 1, 2), SHMETA_ERR_BUSY);
	cr_assert_eq(add(&other, 4, 9, 2), SHMETA_OK);
	cr_expect_eq(board.registrations, 3);
	forget(&a);
	forget(&b);
	forget(&other);
}

/* 512 registrations of a user last a grace period each: a thousand a second is more than a hundred
 * users get. */
Test(registry, numbers_do_not_run_out_in_the_life_of_a_writer, .init = begin, .fini = end)
{
	const uint64_t years_100 = UINT64_C(100) * 365 * 86400;
	struct reader a;
	uint64_t of_next_epoch;

	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	of_next_epoch = registration_number(a.registration) / EPOCH * (EPOCH + 1);
	cr_expect_gt(of_next_epoch - registration_number(a.registration), years_100 * 100);
	forget(&a);
}

Test(registry, what_a_reader_claims_to_have_counted_is_bounded_by_its_time, .init = begin, .fini = end)
{
	static struct shmeta_stats stats;
	const uint64_t SECOND = 1000000000;
	struct reader honest, liar;
	uint64_t now;

	cr_assert_eq(add(&honest, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(add(&liar, 4, 2, 9), SHMETA_OK);
	now = shmeta__boottime_ns() + SECOND;
	shmeta__slot(honest.page, 0)->counters.found = 1000000;
	memset(shmeta__slot(liar.page, 0), 0xff, 4 * SHMETA_SLOT_BYTES);
	registry_report(registry, &stats, 100, now);
	cr_expect_geq(stats.all_readers.found, 1000000, "what is possible counts");
	cr_expect_leq(stats.all_readers.found, 4 * 2 * SECOND, "found: %lu", (unsigned long)stats.all_readers.found);
	cr_expect_leq(stats.all_readers.corrupt, 4 * 2 * SECOND, "corrupt: %lu",
	              (unsigned long)stats.all_readers.corrupt);
	/* Nor does it stay in the sum when it has gone. */
	registry_revoke(registry, liar.registration, now);
	registry_sweep(registry, now + GRACE_NS);
	registry_report(registry, &stats, 100, now + GRACE_NS);
	cr_expect_eq(stats.reader_count, 1);
	cr_expect_leq(stats.all_readers.found, 4 * 2 * SECOND);
	forget(&honest);
	forget(&liar);
}

Test(registry, numbers_are_never_given_twice_over_the_writers_that_follow_each_other, .init = begin, .fini = end)
{
	struct registry *next;
	struct reader a, b;

	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(registry_new(&board, EPOCH + 1, GRACE_NS, &next, NULL), SHMETA_OK);
	registry_free(registry);
	registry = next;
	b.registration = NULL;
	cr_assert_eq(add(&b, 4, 1, 9), SHMETA_OK);
	cr_expect_gt(registration_number(b.registration), a.page->registration);
	forget(&a);
	forget(&b);
}

Test(registry, a_writer_trusts_the_kept_pages_only_when_none_is_missing, .init = begin, .fini = end)
{
	struct registry *next;
	struct reader a, b;
	char name[64];
	uint64_t number;

	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(add(&b, 4, 1, 9), SHMETA_OK);
	pin(&a, 1, GENERATION, 77);
	for (int kept = 0; kept <= 2; kept++) {
		cr_assert_eq(registry_new(&board, EPOCH + 1, GRACE_NS, &next, NULL), SHMETA_OK);
		for (int i = 0; i < kept; i++) {
			const struct reader *r = i == 0 ? &a : &b;

			snprintf(name, sizeof(name), "page-%lu", (unsigned long)r->page->registration);
			cr_expect_eq(registry_restore(next, name, dup(r->fd), 5, &number), REGISTRY_PAGE);
			cr_expect_not_null(registry_find(next, number));
		}
		registry_restore_end(next, 5);
		cr_expect_eq(registry_restored_all(next), kept == 2, "%d of 2 are back", kept);
		if (kept > 0)
			cr_expect_eq(registry_oldest_pin(next, GENERATION), 77);
		registry_free(next);
		board.registrations = 2;
	}
	forget(&a);
	forget(&b);
}

Test(registry, descriptors_that_are_no_sealed_pages_are_not_taken_for_some, .init = begin, .fini = end)
{
	struct registry *next;
	uint64_t number = 0;
	int unsealed = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING), small;

	cr_assert_eq(ftruncate(unsealed, (off_t)shmeta__slots_bytes(4)), 0);
	small = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	board.registrations = 2;
	cr_assert_eq(registry_new(&board, EPOCH + 1, GRACE_NS, &next, NULL), SHMETA_OK);
	cr_expect_eq(registry_restore(next, "page-1", unsealed, 5, &number), REGISTRY_PAGE);
	cr_expect_null(registry_find(next, 1));
	cr_expect_eq(registry_restore(next, "page-2", small, 5, &number), REGISTRY_PAGE);
	cr_expect_null(registry_find(next, 2));
	cr_expect_eq(registry_restore(next, "page-", -1, 5, &number), REGISTRY_NOT_OURS);
	cr_expect_eq(registry_restore(next, "page-1x", -1, 5, &number), REGISTRY_NOT_OURS);
	cr_expect_eq(registry_restore(next, "page-99999999999999999999999", -1, 5, &number), REGISTRY_NOT_OURS);
	cr_expect_eq(registry_restore(next, "socket", -1, 5, &number), REGISTRY_NOT_OURS);
	cr_expect_eq(registry_restored_all(next), 0);
	registry_free(next);
	board.registrations = 0;
}

static struct touch_view touches_of(const struct reader *r, void **ret_map)
{
	size_t slots = shmeta__slots_bytes(r->slots), bytes = slots + touch_file_bytes(1024);

	*ret_map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	cr_assert_neq(*ret_map, MAP_FAILED);
	return touch_view((char *)*ret_map + slots, bytes - slots, 0);
}

static uint64_t page_bytes(const struct reader *r)
{
	return (uint64_t)lseek(r->fd, 0, SEEK_END) - shmeta__slots_bytes(r->slots);
}

Test(registry, touch_maps_are_shared_by_user_and_who_has_no_share_left_has_a_small_one, .init = begin, .fini = end)
{
	enum { SLOTS = 61440, MAPS = 16, READERS = 40 };
	static struct reader greedy[READERS];
	const uint64_t whole = touch_file_bytes(SLOTS);
	uint64_t bytes = 0;
	struct reader other;

	cr_assert_eq(whole, 65536);
	registry_set_touch(registry, SLOTS, MAPS * whole);
	for (int i = 0; i < READERS; i++) {
		cr_assert_eq(add(&greedy[i], 1, 7, 100), SHMETA_OK, "whoever has no share left may register");
		bytes += page_bytes(&greedy[i]);
	}
	cr_expect_eq(page_bytes(&greedy[0]), whole);
	cr_expect_lt(page_bytes(&greedy[READERS - 1]), whole / 4);
	cr_expect_leq(bytes, MAPS / 2 * whole + READERS * 8192);
	cr_assert_eq(add(&other, 1, 8, 100), SHMETA_OK);
	cr_expect_eq(page_bytes(&other), whole, "another user has a share");
	forget(&other);
	for (int i = 0; i < READERS; i++) {
		registry_revoke(registry, greedy[i].registration, 1);
		forget(&greedy[i]);
	}
	registry_sweep(registry, 1 + GRACE_NS);
	cr_assert_eq(add(&other, 1, 7, 100), SHMETA_OK);
	cr_expect_eq(page_bytes(&other), whole, "what is gone is given back");
	forget(&other);
}

Test(registry, touches_of_all_readers_are_collected_also_by_the_next_writer, .init = begin, .fini = end)
{
	struct reader plain, a, b;
	struct touch_view of_a, of_b;
	struct registry *next;
	uint8_t seen[1024] = {0};
	void *map_a, *map_b;
	char name[64];
	uint64_t number;

	cr_assert_eq(add(&plain, 4, 1, 9), SHMETA_OK);
	registry_set_touch(registry, 1024, 1 << 20);
	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(add(&b, 64, 1, 9), SHMETA_OK);
	of_a = touches_of(&a, &map_a);
	of_b = touches_of(&b, &map_b);
	cr_assert(of_a.ceiling == 1024 && of_b.ceiling == 1024);
	touch_mark(of_a, 7);
	touch_mark(of_b, 1023);
	pin(&a, 3, GENERATION, 77);
	registry_collect_touched(registry, 512, seen);
	cr_expect_null(memchr(seen, 1, sizeof seen), "maps of another size are left alone");
	registry_collect_touched(registry, 1024, seen);
	cr_expect(seen[7] == 1 && seen[1023] == 1 && memchr(seen + 8, 1, 1000) == NULL);

	cr_assert_eq(registry_new(&board, EPOCH + 1, GRACE_NS, &next, NULL), SHMETA_OK);
	for (int i = 0; i < 3; i++) {
		const struct reader *r = i == 0 ? &plain : i == 1 ? &a : &b;

		/* The second one says of its map what cannot be. */
		if (i == 1)
			((struct shmeta_touch *)(void *)((char *)map_a + shmeta__slots_bytes(4)))->ceiling = UINT32_MAX;
		(void)snprintf(name, sizeof(name), "page-%lu", (unsigned long)r->page->registration);
		cr_expect_eq(registry_restore(next, name, dup(r->fd), 5, &number), REGISTRY_PAGE);
		cr_assert_not_null(registry_find(next, number));
		cr_expect_eq(registration_slots(registry_find(next, number)), r->slots);
	}
	cr_expect_eq(registry_oldest_pin(next, GENERATION), 77);
	memset(seen, 0, sizeof seen);
	touch_mark(of_a, 9);
	touch_mark(of_b, 11);
	registry_collect_touched(next, 1024, seen);
	cr_expect(seen[9] == 0 && seen[11] == 1);
	registry_free(next);
	munmap(map_a, shmeta__slots_bytes(4) + touch_file_bytes(1024));
	munmap(map_b, shmeta__slots_bytes(64) + touch_file_bytes(1024));
	forget(&plain);
	forget(&a);
	forget(&b);
	board.registrations = 0;
}

/* Its reader may say so; what stands behind the file's end is nobody's. */
Test(registry, a_map_that_says_it_is_larger_than_its_file_is_not_read, .init = begin, .fini = end)
{
	enum { SAID = 1 << 20 };
	static uint8_t seen[SAID];
	struct registry *next;
	struct touch_view view;
	struct reader r;
	uint64_t number;
	char name[64];
	void *map;

	registry_set_touch(registry, 1024, 1 << 20);
	cr_assert_eq(add(&r, 4, 1, 9), SHMETA_OK);
	view = touches_of(&r, &map);
	touch_mark(view, 5);
	((struct shmeta_touch *)(void *)((char *)map + shmeta__slots_bytes(4)))->ceiling = SAID;
	cr_assert_eq(registry_new(&board, EPOCH + 1, GRACE_NS, &next, NULL), SHMETA_OK);
	(void)snprintf(name, sizeof(name), "page-%lu", (unsigned long)r.page->registration);
	cr_expect_eq(registry_restore(next, name, dup(r.fd), 5, &number), REGISTRY_PAGE);
	registry_collect_touched(next, SAID, seen);
	cr_expect_eq(seen[5], 0);
	registry_free(next);
	munmap(map, shmeta__slots_bytes(4) + touch_file_bytes(1024));
	forget(&r);
	board.registrations = 0;
}

/* ---- ages, and snapshots that are taken back ---- */

static struct shmeta_stats stats;

static uint64_t age_at(uint64_t committed, uint64_t now_ns)
{
	registry_look(registry, GENERATION, committed, now_ns);
	registry_report(registry, &stats, committed, now_ns);
	return stats.reader[0].pin_age_ns;
}

Test(registry, a_pin_is_as_old_as_the_commit_after_it, .init = begin, .fini = end)
{
	struct reader a;
	uint64_t age;
	char who[160];

	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	pin(&a, 0, GENERATION, 10);
	cr_expect_eq(age_at(10, 1000), 0);
	cr_expect_eq(age_at(10, 5000), 0, "a pin of the newest commit holds nothing back");
	cr_expect_not(registry_oldest_holder(registry, 5000, &age, who, sizeof(who)));
	cr_expect_eq(age_at(14, 6000), 0);
	cr_expect_eq(age_at(20, 9000), 3000);
	cr_expect_eq(stats.reader[0].pin_lag, 10);
	cr_expect(registry_oldest_holder(registry, 9500, &age, who, sizeof(who)));
	cr_expect_eq(age, 3500);
	cr_expect_str_eq(who, "reader (pid 1, uid 1)");
	pin(&a, 0, GENERATION, 15);
	cr_expect_eq(age_at(20, 9500), 500, "commit 16 was there at 9000");
	pin(&a, 0, GENERATION, 0);
	cr_expect_eq(age_at(21, 10000), 0);
	cr_expect_not(registry_oldest_holder(registry, 10000, &age, who, sizeof(who)));
	forget(&a);
}

Test(registry, a_pin_that_moves_between_old_commits_has_its_true_age, .init = begin, .fini = end)
{
	struct reader a;

	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	for (uint64_t i = 1; i <= 500; i++) {
		pin(&a, (uint32_t)(i % 4), GENERATION, 0);
		pin(&a, (uint32_t)((i + 1) % 4), GENERATION, 1 + i % 2);
		cr_expect_eq(age_at(i, i * 200), i < 3 ? 0 : (i - (2 + i % 2)) * 200, "after %lu looks",
		             (unsigned long)i);
	}
	forget(&a);
}

/* A look every 250 ms for an hour, and the ages of pins of every age. */
Test(registry, ages_stay_true_however_many_commits_there_were, .init = begin, .fini = end)
{
	static const uint64_t look_ns = 250000000, looks = 4 * 3600;
	struct reader a;

	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	for (uint64_t i = 1; i <= looks; i++)
		registry_look(registry, GENERATION, i * 1000, i * look_ns);
	for (uint64_t back = 0; back < looks; back = back * 5 / 4 + 1) {
		uint64_t published = looks - back, real = back * look_ns, age;

		pin(&a, 0, GENERATION, published * 1000 - 1);
		age = age_at(looks * 1000, looks * look_ns);
		cr_expect_leq(age, real);
		cr_expect_geq(age + age / 50 + look_ns, real, "%lu ms look like %lu ms",
		              (unsigned long)(real / 1000000), (unsigned long)(age / 1000000));
	}
	forget(&a);
}

Test(registry, the_snapshot_that_is_too_old_is_revoked_and_no_other, .init = begin, .fini = end)
{
	struct registry_revoked revoked;
	struct reader old, young, newest;

	registry_set_max_age(registry, 60000);
	cr_assert_eq(add(&old, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(add(&young, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(add(&newest, 4, 1, 9), SHMETA_OK);
	registry_look(registry, GENERATION, 10, 1000);
	pin(&old, 2, GENERATION, 10);
	registry_look(registry, GENERATION, 11, 2000);
	pin(&young, 0, GENERATION, 11);
	registry_look(registry, GENERATION, 12, 3000);
	pin(&newest, 0, GENERATION, 12);
	registry_look(registry, GENERATION, 12, 61999);
	cr_expect_not(registry_next_revoked(registry, &revoked));
	registry_look(registry, GENERATION, 12, 62000);
	cr_expect_eq(shmeta_observe(&old.page->revoked), 1);
	cr_expect_eq(shmeta_observe(&young.page->revoked), 0);
	cr_expect_eq(shmeta_observe(&newest.page->revoked), 0, "the newest commit never grows old");
	cr_expect(registry_next_revoked(registry, &revoked));
	cr_expect_eq(revoked.why, REGISTRY_TOO_OLD);
	cr_expect_eq(revoked.number, registration_number(old.registration));
	cr_expect_eq(revoked.pin, 10);
	cr_expect_eq(revoked.age_ns, 60000);
	cr_expect_str_eq(revoked.name, "reader");
	cr_expect_not(registry_next_revoked(registry, &revoked), "told once");
	/* Its process may be in the middle of a lookup: one grace period more. Its connection is
	 * still open. */
	registry_sweep(registry, 62000 + GRACE_NS - 1);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 10);
	registry_sweep(registry, 62000 + GRACE_NS);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 11);
	cr_expect_eq(registry_count(registry), 3);
	registry_revoke(registry, old.registration, 70000);
	registry_sweep(registry, 70000);
	cr_expect_eq(registry_count(registry), 2);
	cr_expect_not(registry_next_revoked(registry, &revoked));
	forget(&old);
	forget(&young);
	forget(&newest);
}

Test(registry, no_snapshot_is_revoked_before_its_grace_period, .init = begin, .fini = end)
{
	struct reader a;

	registry_set_max_age(registry, 1);
	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	registry_look(registry, GENERATION, 10, 1000);
	pin(&a, 0, GENERATION, 10);
	registry_look(registry, GENERATION, 11, 2000);
	registry_look(registry, GENERATION, 12, 2000 + GRACE_NS - 1);
	cr_expect_eq(registry_relieve(registry, GENERATION, UINT64_MAX, 2000 + GRACE_NS - 1), 0);
	cr_expect_eq(shmeta_observe(&a.page->revoked), 0);
	registry_look(registry, GENERATION, 12, 2000 + GRACE_NS);
	cr_expect_eq(shmeta_observe(&a.page->revoked), 1);
	forget(&a);
}

Test(registry, without_a_longest_age_nothing_but_want_of_room_revokes, .init = begin, .fini = end)
{
	struct registry_revoked revoked;
	struct reader old, younger;

	registry_set_max_age(registry, 0);
	cr_assert_eq(add(&old, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(add(&younger, 4, 1, 9), SHMETA_OK);
	registry_look(registry, GENERATION, 10, 1000);
	pin(&old, 0, GENERATION, 10);
	pin(&younger, 0, GENERATION, 20);
	registry_look(registry, GENERATION, 30, 2000);
	registry_look(registry, GENERATION, 31, UINT64_C(1) << 40);
	cr_expect_not(registry_next_revoked(registry, &revoked));
	cr_expect_eq(registry_relieve(registry, GENERATION + 1, 20, UINT64_C(1) << 40), 0, "another generation");
	cr_expect_eq(registry_relieve(registry, GENERATION, 20, UINT64_C(1) << 40), 1);
	cr_expect_eq(shmeta_observe(&old.page->revoked), 1);
	cr_expect_eq(shmeta_observe(&younger.page->revoked), 0);
	cr_expect(registry_next_revoked(registry, &revoked));
	cr_expect_eq(revoked.why, REGISTRY_NO_ROOM);
	forget(&old);
	forget(&younger);
}

Test(registry, an_administrator_revokes_a_registration_or_a_process, .init = begin, .fini = end)
{
	struct registry_revoked revoked;
	struct reader a, b;

	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(add(&b, 4, 1, 9), SHMETA_OK);
	cr_expect_eq(registry_evict(registry, 2, 10), 0, "nobody has this pid");
	cr_expect_eq(registry_evict(registry, registration_number(b.registration), 10), 1);
	cr_expect_eq(shmeta_observe(&b.page->revoked), 1);
	cr_expect_eq(shmeta_observe(&a.page->revoked), 0);
	cr_expect_eq(registry_evict(registry, 1, 10), 1, "of the process only what is not revoked yet");
	cr_expect(registry_next_revoked(registry, &revoked));
	cr_expect_eq(revoked.why, REGISTRY_ASKED);
	cr_expect_eq(revoked.pin, 0);
	forget(&a);
	forget(&b);
}

Test(registry, ages_begin_anew_with_a_generation, .init = begin, .fini = end)
{
	struct reader a;
	uint64_t age;
	char who[160];

	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	registry_look(registry, GENERATION, 1000, 1000);
	registry_look(registry, GENERATION + 1, 5, 2000);
	registry_look(registry, GENERATION + 1, 9, 3000);
	pin(&a, 0, GENERATION + 1, 5);
	cr_expect(registry_oldest_holder(registry, 4000, &age, who, sizeof(who)));
	cr_expect_eq(age, 1000, "not since a commit of the former generation: %lu", (unsigned long)age);
	forget(&a);
}

/* ---- what the log says of it ---- */

/* What was logged since the last call, or since `told` was opened. */
static const char *lines(FILE *told)
{
	static char text[4096];
	size_t bytes;

	cr_assert_eq(fflush(told), 0);
	rewind(told);
	bytes = fread(text, 1, sizeof(text) - 1, told);
	text[bytes] = '\0';
	rewind(told);
	cr_assert_eq(ftruncate(fileno(told), 0), 0);
	return text;
}

Test(registry, who_holds_an_old_snapshot_is_named_once_as_long_as_it_does, .init = begin, .fini = end)
{
	static const uint64_t second = UINT64_C(1000000000);
	uint64_t now = shmeta__boottime_ns();
	FILE *told = tmpfile();
	bool warned = false;
	struct reader a;

	log_open(told, "test", LOG_INFO);
	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	registry_look(registry, GENERATION, 10, now - 20 * second);
	pin(&a, 0, GENERATION, 10);
	pins_warn(registry, &warned);
	cr_expect_str_eq(lines(told), "", "a pin of the newest commit is not old");
	registry_look(registry, GENERATION, 11, now - 10 * second);
	pins_warn(registry, &warned);
	cr_expect_not_null(strstr(lines(told), "reader (pid 1, uid 1) has held one snapshot for 1"));
	pins_warn(registry, &warned);
	cr_expect_str_eq(lines(told), "", "once");
	pin(&a, 0, GENERATION, 11);
	pins_warn(registry, &warned);
	pin(&a, 0, GENERATION, 10);
	pins_warn(registry, &warned);
	cr_expect_not_null(strstr(lines(told), "has held one snapshot"), "it is another one");
	forget(&a);
}

Test(registry, who_is_revoked_is_named_with_the_reason, .init = begin, .fini = end)
{
	FILE *told = tmpfile();
	struct reader old, large, asked;
	const char *text;

	log_open(told, "test", LOG_INFO);
	registry_set_max_age(registry, 60000);
	cr_assert_eq(add(&old, 4, 1, 9), SHMETA_OK);
	cr_assert_eq(add(&large, 4, 2, 9), SHMETA_OK);
	cr_assert_eq(add(&asked, 4, 3, 9), SHMETA_OK);
	pin(&old, 0, GENERATION, 10);
	pin(&large, 0, GENERATION, 11);
	registry_look(registry, GENERATION, 10, 1000);
	registry_look(registry, GENERATION, 11, 2000);
	registry_look(registry, GENERATION, 12, 60000);
	registry_look(registry, GENERATION, 12, 62000);
	cr_expect_eq(pins_tell_revoked(registry, 60), 1);
	text = lines(told);
	cr_expect_not_null(strstr(text, "uid 1): its commit 10 has been out of date for 0.0 s"), "%s", text);
	cr_expect_not_null(strstr(text, "longer than snapshot.max_age = 60s"), "%s", text);
	cr_expect_eq(registry_relieve(registry, GENERATION, 12, 62000), 1);
	cr_expect_eq(pins_tell_revoked(registry, 60), 1);
	text = lines(told);
	cr_expect_not_null(strstr(text, "uid 2)"), "%s", text);
	cr_expect_not_null(strstr(text, "no room left for what it holds back"), "%s", text);
	cr_expect_eq(registry_evict(registry, registration_number(asked.registration), 62000), 1);
	cr_expect_eq(pins_tell_revoked(registry, 60), 1);
	text = lines(told);
	cr_expect_not_null(strstr(text, "uid 3): an administrator asked for it"), "%s", text);
	forget(&old);
	forget(&large);
	forget(&asked);
}

/* Who is cut off and comes back with the same old pin each time must not hold back what was
 * replaced before he came. */
Test(registry, a_pin_of_before_the_registration_holds_back_only_what_came_after_it, .init = begin, .fini = end)
{
	struct reader a, b;

	registry_look(registry, GENERATION, 100, 1000);
	cr_assert_eq(add(&a, 4, 1, 9), SHMETA_OK);
	pin(&a, 0, GENERATION, 1);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 100);
	registry_look(registry, GENERATION, 200, 2000);
	cr_assert_eq(add(&b, 4, 1, 9), SHMETA_OK);
	pin(&b, 0, GENERATION, 1);
	registry_revoke(registry, a.registration, 2000);
	registry_sweep(registry, 2000 + GRACE_NS);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION), 200);
	cr_expect_eq(registry_oldest_pin(registry, GENERATION + 1), UINT64_MAX);
	forget(&a);
	forget(&b);
}

/* The engine looks while the loop adds and drops; a sanitizer run shows what this cannot. */
static bool stop, looked;

static void *look(void *arg)
{
	uint64_t *least = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		uint64_t oldest = registry_oldest_pin(registry, GENERATION);

		*least = oldest < *least ? oldest : *least;
		__atomic_store_n(&looked, true, __ATOMIC_RELEASE);
	}
	return NULL;
}

Test(registry, the_engine_may_look_while_readers_come_and_go, .init = begin, .fini = end)
{
	uint64_t least = UINT64_MAX;
	struct reader constant;
	pthread_t thread;

	cr_assert_eq(add(&constant, 4, 1, 10000), SHMETA_OK);
	pin(&constant, 0, GENERATION, 1000);
	cr_assert_eq(pthread_create(&thread, NULL, look, &least), 0);
	for (uint64_t i = 0; i < 300 || !__atomic_load_n(&looked, __ATOMIC_ACQUIRE); i++) {
		struct reader r;

		cr_assert_eq(add(&r, 4, 1, 10000), SHMETA_OK);
		pin(&r, 0, GENERATION, 2000 + i);
		registry_revoke(registry, r.registration, i * GRACE_NS);
		registry_sweep(registry, i * GRACE_NS);
		forget(&r);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	cr_expect_eq(least, 1000);
	forget(&constant);
}
