/* SPDX-License-Identifier: Apache-2.0
 * Registration pages and the pins in them. */
#include "writer/serve/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "writer/daemon/log.h"
#include "writer/daemon/notify.h"
#include "writer/serve/registry_private.h"
#include "writer/serve/shares.h"

enum {
	NUMBER_BITS = 40, /* registrations of one epoch: more than can be given in a century */
	TOUCH_LEAST = 64, /* slots of a map that is not collected */
	COUNT_NS = 5      /* nobody looks up faster than in so many */
};

enum shmeta_status registry_new(struct shmeta_board *board, uint64_t epoch, uint64_t grace_ns, struct registry **ret,
                                struct shmeta_err *err)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	if (registry == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for the registry");
	pthread_mutex_init(&registry->lock, NULL);
	registry->board = board;
	registry->epoch = epoch;
	registry->grace_ns = grace_ns;
	registry->former = shmeta_observe(&board->registrations);
	*ret = registry;
	return SHMETA_OK;
}

static void discard(struct registration *registration)
{
	munmap(registration->page, registration->bytes);
	free(registration);
}

void registry_free(struct registry *registry)
{
	if (registry == NULL)
		return;
	while (registry->list != NULL) {
		struct registration *registration = registry->list;

		registry->list = registration->next;
		discard(registration);
	}
	pthread_mutex_destroy(&registry->lock);
	free(registry);
}

static uint64_t touch_bytes(const struct registration *registration)
{
	return registration->touch_ceiling != 0 ? touch_file_bytes(registration->touch_ceiling) : 0;
}

void registry_link(struct registry *registry, struct registration *registration)
{
	pthread_mutex_lock(&registry->lock);
	registration->next = registry->list;
	registry->list = registration;
	registry->count++;
	registry->slots += registration->slots;
	registry->touch_bytes += touch_bytes(registration);
	pthread_mutex_unlock(&registry->lock);
}

static void fd_names(uint64_t number, char *ret_page, char *ret_connection, size_t bytes)
{
	snprintf(ret_page, bytes, "page-%" PRIu64, number);
	snprintf(ret_connection, bytes, "connection-%" PRIu64, number);
}

/* The writer's part of a page; the reader can scribble on it, so nothing here is ever read back for
 * a decision. */
void registry_write_header(const struct registration *registration, uint64_t epoch)
{
	struct shmeta_slots *page = registration->page;

	memcpy(page->signature, "SHMSLOTS", 8);
	page->version = 1;
	page->slot_count = registration->slots;
	page->registration = registration->number;
	shmeta_publish(&page->epoch, epoch);
}

void registry_set_touch(struct registry *registry, uint32_t ceiling, uint64_t total)
{
	registry->touch_ceiling = ceiling;
	registry->touch_total = total;
}

void registry_collect_touched(struct registry *registry, uint32_t ceiling, uint8_t *seen)
{
	pthread_mutex_lock(&registry->lock);
	for (const struct registration *r = registry->list; r != NULL; r = r->next)
		if (r->touch_ceiling == ceiling)
			(void)touch_collect(registry_touch_map(r), ceiling, seen);
	pthread_mutex_unlock(&registry->lock);
}

void registry_take_missed(struct registry *registry, registry_missed_fn *missed, void *arg)
{
	struct shmeta_miss taken[SHMETA_MISSES];

	pthread_mutex_lock(&registry->lock);
	for (const struct registration *r = registry->list; r != NULL; r = r->next) {
		size_t count =
			r->touch_ceiling != 0 ? shmeta__miss_take(touch_misses(registry_touch_map(r)), taken) : 0;

		for (size_t i = 0; i < count; i++)
			missed(arg, r->peer.uid, &taken[i]);
	}
	pthread_mutex_unlock(&registry->lock);
}

void registry_take_samples(struct registry *registry, registry_sampled_fn *sampled, void *arg)
{
	enum { MOST = 64 * SHMETA_SAMPLES }; /* of a process */

	for (const struct registration *r = registry->list; r != NULL; r = r->next) {
		uint32_t left = MOST;

		for (uint32_t i = 0; i < r->slots; i++) {
			struct shmeta_slot *slot = shmeta__slot(r->page, i);

			for (uint32_t k = 0; k < SHMETA_SAMPLES; k++) {
				uint64_t key = shmeta_peek(&slot->sample[k]);

				if (key == 0)
					continue;
				shmeta_poke(&slot->sample[k], UINT64_C(0));
				if (left > 0) {
					left--;
					sampled(arg, key);
				}
			}
		}
	}
}

static uint32_t slots_of(const struct registry *registry, uid_t uid)
{
	uint32_t slots = 0;

	for (const struct registration *r = registry->list; r != NULL; r = r->next)
		slots += r->peer.uid == uid ? r->slots : 0;
	return slots;
}

static uint32_t grant(const struct registry *registry, uint32_t wanted, uid_t uid, uint32_t user_share)
{
	uint64_t room = share_left(REGISTRY_SLOTS_TOTAL, user_share, slots_of(registry, uid), registry->slots);

	if (wanted == 0)
		wanted = SHMETA_SLOTS_DEFAULT;
	if (wanted > SHMETA_SLOTS_MAX)
		wanted = SHMETA_SLOTS_MAX;
	return wanted < room ? wanted : (uint32_t)room;
}

/* The touch map of a new page. Without room for a whole one its reader's misses are heard of, and
 * its touches are not. */
static uint32_t grant_touch(const struct registry *registry, uid_t uid, uint32_t user_share)
{
	uint64_t mine = 0;

	if (registry->touch_ceiling <= TOUCH_LEAST)
		return registry->touch_ceiling;
	for (const struct registration *r = registry->list; r != NULL; r = r->next)
		mine += r->peer.uid == uid ? touch_bytes(r) : 0;
	if (share_left(registry->touch_total, user_share, mine, registry->touch_bytes) >=
	    touch_file_bytes(registry->touch_ceiling))
		return registry->touch_ceiling;
	log_event_by(uid, LOG_NOTICE, "register",
	             "user %u has its share of the memory for what readers have used (bounded.max_partitions, "
	             "control.user_share): another process of it is not seen to use records",
	             (unsigned)uid);
	return TOUCH_LEAST;
}

struct shmeta_slots *registry_map_page(int fd, size_t bytes)
{
	void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return page != MAP_FAILED ? page : NULL;
}

/* The memfd of a new page, or -1. */
static int make_page(struct registration *registration, struct shmeta_err *err)
{
	int fd = memfd_create("shmeta-registration", MFD_CLOEXEC | MFD_ALLOW_SEALING), error;
	const char *what;

	if (fd < 0) {
		(void)shmeta_fail_errno(err, errno, "cannot create a registration page");
		return -1;
	}
	what = "fill";
	error = posix_fallocate(fd, 0, (off_t)registration->bytes);
	if (error == 0) {
		what = "map";
		registration->page = registry_map_page(fd, registration->bytes);
		error = registration->page == NULL ? ENOMEM : 0;
	}
	if (error == 0) {
		what = "seal";
		error = fcntl(fd, F_ADD_SEALS, registry_seals) < 0 ? errno : 0;
	}
	if (error == 0)
		return fd;
	if (registration->page != NULL)
		munmap(registration->page, registration->bytes);
	close(fd);
	(void)shmeta_fail_errno(err, error, "cannot %s a registration page of %zu bytes", what, registration->bytes);
	return -1;
}

static uint32_t registry_count_of(const struct registry *registry, uid_t uid)
{
	uint32_t count = 0;

	for (const struct registration *r = registry->list; r != NULL; r = r->next)
		count += r->peer.uid == uid;
	return count;
}

enum shmeta_status registry_add(struct registry *registry, const struct shmeta_frame_register *request,
                                const struct registry_peer *peer, int connection, uint32_t per_user_max,
                                uint32_t user_share, int *ret_fd, struct registration **ret, struct shmeta_err *err)
{
	uint32_t slots = grant(registry, request->slot_count, peer->uid, user_share);
	char page_name[48], connection_name[48];
	struct registration *registration;
	int fd;

	if (registry_count_of(registry, peer->uid) >= per_user_max)
		return shmeta_fail(err, SHMETA_ERR_BUSY, "user %u has %u registrations, which is the most allowed",
		                   (unsigned)peer->uid, per_user_max);
	if (slots == 0)
		return shmeta_fail(err, SHMETA_ERR_BUSY,
		                   "user %u has its share of the readers' slots (control.user_share)",
		                   (unsigned)peer->uid);
	registration = calloc(1, sizeof(*registration));
	if (registration == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for a registration");
	registration->number = registry->epoch << NUMBER_BITS | ++registry->given;
	registration->slots = slots;
	registration->bytes = shmeta__slots_bytes(slots);
	registration->touch_ceiling = grant_touch(registry, peer->uid, user_share);
	registration->bytes += touch_bytes(registration);
	registration->peer = *peer;
	registration->connected = true;
	registration->connected_at_ns = shmeta__boottime_ns();
	registration->born_generation = registry->published.generation;
	if (registry->published.count > 0)
		registration->born = registry->published.look[registry->published.count - 1].committed;
	fd = make_page(registration, err);
	if (fd < 0) {
		free(registration);
		return err->code;
	}
	registry_write_header(registration, registry->epoch);
	if (registration->touch_ceiling != 0)
		touch_init(registry_touch_map(registration), registration->touch_ceiling, 0);
	registration->page->agent_pid = request->agent_pid;
	registration->page->agent_version = request->agent_version;
	registration->page->agent_started_ns = registration->connected_at_ns;
	memcpy(registration->page->agent_name, request->agent_name, sizeof(request->agent_name));
	registry_link(registry, registration);
	/* Counted first, kept second: a writer that dies in between leaves a count that is too
	 * high, which the next one takes as "not all came back". Never the other way round. */
	shmeta_publish(&registry->board->registrations, registry->count);
	fd_names(registration->number, page_name, connection_name, sizeof(page_name));
	notify_keep_fd(page_name, fd);
	notify_keep_fd(connection_name, connection);
	*ret_fd = fd;
	*ret = registration;
	return SHMETA_OK;
}

static void copy_name(const struct registration *registration, char ret[64])
{
	memcpy(ret, registration->page->agent_name, 64);
	ret[63] = '\0';
	for (char *p = ret; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

/* Under the lock. */
static void take_back(struct registration *r, uint64_t now_ns)
{
	if (r->revoked)
		return;
	shmeta_publish(&r->revoked, true); /* the loop's thread asks without the lock */
	r->revoked_at_ns = now_ns;
	shmeta_publish(&r->page->revoked, 1); /* PAIR 5: revocation before recycling */
}

/* Under the lock. */
static void end_grace(const struct registry *registry, struct registration *r, uint64_t now_ns)
{
	if (r->revoked && now_ns >= r->revoked_at_ns && now_ns - r->revoked_at_ns >= registry->grace_ns)
		shmeta_publish(&r->over, true); /* the loop's thread asks without the lock */
}

void registry_revoke(struct registry *registry, struct registration *registration, uint64_t now_ns)
{
	char page_name[48], connection_name[48];

	if (!registration->connected)
		return;
	registration->connected = false;
	pthread_mutex_lock(&registry->lock);
	registration->told |= !registration->revoked;
	take_back(registration, now_ns);
	pthread_mutex_unlock(&registry->lock);
	fd_names(registration->number, page_name, connection_name, sizeof(page_name));
	notify_drop_fd(connection_name);
}

static void add_up(uint64_t *sum, uint64_t counted, uint64_t possible)
{
	if (counted > possible)
		counted = possible;
	*sum = counted < UINT64_MAX - *sum ? *sum + counted : UINT64_MAX;
}

/* What a reader counted is its own word: no more of it is believed than one thread can have done
 * since it registered. */
static void add_counters(const struct registration *registration, uint64_t now_ns, struct shmeta_reader_counters *sum,
                         uint64_t lookups_ns[SHMETA_HISTOGRAM_BUCKETS])
{
	uint64_t since = registration->connected_at_ns, possible = now_ns > since ? (now_ns - since) / COUNT_NS + 1 : 1;

	for (uint32_t i = 0; i < registration->slots; i++) {
		struct shmeta_slot *slot = shmeta__slot(registration->page, i);

#define C(name, unit, help) add_up(&sum->name, shmeta_peek(&slot->counters.name), possible);
		SHMETA_READER_COUNTERS(C)
#undef C
		for (uint32_t b = 0; b < SHMETA_HISTOGRAM_BUCKETS; b++)
			add_up(&lookups_ns[b], shmeta_peek(&slot->histogram[b]), possible);
	}
}

void registry_sweep(struct registry *registry, uint64_t now_ns)
{
	for (struct registration **at = &registry->list; *at != NULL;) {
		struct registration *gone = *at;
		char page_name[48], connection_name[48];

		pthread_mutex_lock(&registry->lock);
		end_grace(registry, gone, now_ns);
		pthread_mutex_unlock(&registry->lock);
		if (gone->connected || !shmeta_observe(&gone->over)) {
			at = &gone->next;
			continue;
		}
		add_counters(gone, now_ns, &registry->left, registry->left_ns);
		pthread_mutex_lock(&registry->lock);
		*at = gone->next;
		registry->count--;
		registry->slots -= gone->slots;
		registry->touch_bytes -= touch_bytes(gone);
		pthread_mutex_unlock(&registry->lock);
		/* Dropped first, uncounted second, for the same reason as above. */
		fd_names(gone->number, page_name, connection_name, sizeof(page_name));
		notify_drop_fd(page_name);
		shmeta_publish(&registry->board->registrations, registry->count);
		discard(gone);
	}
}

struct registration *registry_find(struct registry *registry, uint64_t number)
{
	for (struct registration *r = registry->list; r != NULL; r = r->next)
		if (r->number == number)
			return r;
	return NULL;
}

/* ---- pins ---- */

static uint64_t oldest_of(const struct registration *registration, uint64_t generation)
{
	uint64_t oldest = UINT64_MAX;

	for (uint32_t i = 0; i < registration->slots; i++) {
		struct shmeta_slot *slot = shmeta__slot(registration->page, i);
		uint64_t pin = shmeta_load(
			&slot->pin); /* PAIR 1: pin before commit; once, as the reader may change it at any time */

		/* The generation was set while pin was 0, so it belongs to the pin that was just
		 * read or to a later one; in the latter case the former is gone. */
		if (pin != 0 && pin < oldest && shmeta_observe(&slot->generation) == generation)
			oldest = pin;
	}
	return oldest;
}

uint64_t registry_oldest_pin(struct registry *registry, uint64_t generation)
{
	uint64_t oldest = UINT64_MAX;

	pthread_mutex_lock(&registry->lock);
	for (const struct registration *r = registry->list; r != NULL; r = r->next) {
		uint64_t pin = r->over ? UINT64_MAX : oldest_of(r, generation);

		if (pin < r->born && generation == r->born_generation)
			pin = r->born;
		oldest = pin < oldest ? pin : oldest;
	}
	pthread_mutex_unlock(&registry->lock);
	return oldest;
}

/* Its oldest pin and the age of that; 0: none. Under the lock, or on the loop's thread. */
static uint64_t pin_of(const struct registry *registry, const struct registration *r, uint64_t now_ns,
                       uint64_t *ret_age_ns)
{
	uint64_t pin = oldest_of(r, registry->published.generation);

	*ret_age_ns = 0;
	if (pin == UINT64_MAX)
		return 0;
	*ret_age_ns = published_superseded_ns(&registry->published, pin, now_ns);
	return pin;
}

/* ---- revoking ---- */

/* Under the lock. */
static void revoke_because(struct registration *r, enum registry_why why, uint64_t pin, uint64_t age_ns,
                           uint64_t now_ns)
{
	take_back(r, now_ns);
	r->why = (struct registry_revoked){
		.number = r->number, .why = why, .pin = pin, .age_ns = age_ns, .peer = r->peer};
	copy_name(r, r->why.name);
}

void registry_set_max_age(struct registry *registry, uint64_t max_age_ns)
{
	registry->max_age_ns = max_age_ns;
}

/* Those that pin a commit before `before`, and have for `least_ns`. Under the lock. */
static size_t revoke_older(struct registry *registry, enum registry_why why, uint64_t before, uint64_t least_ns,
                           uint64_t now_ns)
{
	size_t count = 0;

	if (least_ns < registry->grace_ns)
		least_ns = registry->grace_ns;
	for (struct registration *r = registry->list; r != NULL; r = r->next) {
		uint64_t age, pin = r->revoked ? 0 : pin_of(registry, r, now_ns, &age);

		if (pin == 0 || pin >= before || age < least_ns)
			continue;
		revoke_because(r, why, pin, age, now_ns);
		count++;
	}
	return count;
}

void registry_look(struct registry *registry, uint64_t generation, uint64_t committed, uint64_t now_ns)
{
	pthread_mutex_lock(&registry->lock);
	published_note(&registry->published, generation, committed, now_ns);
	if (registry->max_age_ns > 0)
		(void)revoke_older(registry, REGISTRY_TOO_OLD, UINT64_MAX, registry->max_age_ns, now_ns);
	pthread_mutex_unlock(&registry->lock);
}

size_t registry_relieve(struct registry *registry, uint64_t generation, uint64_t before, uint64_t now_ns)
{
	size_t count = 0;

	pthread_mutex_lock(&registry->lock);
	for (struct registration *r = registry->list; r != NULL; r = r->next)
		end_grace(registry, r, now_ns);
	if (generation == registry->published.generation)
		count = revoke_older(registry, REGISTRY_NO_ROOM, before, 0, now_ns);
	pthread_mutex_unlock(&registry->lock);
	return count;
}

size_t registry_evict(struct registry *registry, uint64_t number_or_pid, uint64_t now_ns)
{
	size_t count = 0;

	pthread_mutex_lock(&registry->lock);
	for (struct registration *r = registry->list; r != NULL; r = r->next) {
		uint64_t age, pin;

		if (r->revoked || (r->number != number_or_pid && (uint64_t)r->peer.pid != number_or_pid))
			continue;
		pin = pin_of(registry, r, now_ns, &age);
		revoke_because(r, REGISTRY_ASKED, pin, age, now_ns);
		count++;
	}
	pthread_mutex_unlock(&registry->lock);
	return count;
}

bool registry_next_revoked(struct registry *registry, struct registry_revoked *ret)
{
	bool found = false;

	pthread_mutex_lock(&registry->lock);
	for (struct registration *r = registry->list; r != NULL && !found; r = r->next) {
		found = r->revoked && !r->told;
		if (found) {
			r->told = true;
			*ret = r->why;
		}
	}
	pthread_mutex_unlock(&registry->lock);
	return found;
}

bool registration_is_revoked(const struct registration *registration)
{
	return shmeta_observe(&registration->revoked);
}

uint64_t registry_epoch(const struct registry *registry)
{
	return registry->epoch;
}

uint64_t registration_number(const struct registration *registration)
{
	return registration->number;
}

uint32_t registration_slots(const struct registration *registration)
{
	return registration->slots;
}

uint32_t registry_count(const struct registry *registry)
{
	return registry->count;
}

/* ---- what is told of readers ---- */

void registry_report(struct registry *registry, struct shmeta_stats *stats, uint64_t committed, uint64_t now_ns)
{
	uint32_t rows = 0;

	stats->all_readers = registry->left;
	memcpy(stats->lookups_ns, registry->left_ns, sizeof(stats->lookups_ns));
	for (struct registration *r = registry->list; r != NULL; r = r->next) {
		struct shmeta_stats_reader row = {0};

		add_counters(r, now_ns, &row.counters, stats->lookups_ns);
#define C(name, unit, help) add_up(&stats->all_readers.name, row.counters.name, UINT64_MAX);
		SHMETA_READER_COUNTERS(C)
#undef C
		if (rows >= SHMETA_STATS_READERS)
			continue;
		row.registration = r->number;
		row.pid = (uint64_t)r->peer.pid;
		row.uid = r->peer.uid;
		row.gid = r->peer.gid;
		row.agent_pid = shmeta_peek(&r->page->agent_pid);
		row.version = shmeta_peek(&r->page->agent_version);
		row.connected_at_ns = r->connected_at_ns;
		row.oldest_pin = shmeta_observe(&r->over) ? 0 : pin_of(registry, r, now_ns, &row.pin_age_ns);
		row.pin_lag = row.oldest_pin != 0 && row.oldest_pin < committed ? committed - row.oldest_pin : 0;
		row.slots_max = r->slots;
		for (uint32_t i = 0; i < r->slots; i++)
			row.slots += shmeta_peek(&shmeta__slot(r->page, i)->in_use) == 1;
		copy_name(r, row.name);
		stats->reader[rows++] = row;
	}
	stats->reader_count = rows;
	stats->readers_total = registry->count;
}

bool registry_oldest_holder(const struct registry *registry, uint64_t now_ns, uint64_t *ret_pin_age_ns, char *ret_who,
                            size_t bytes)
{
	const struct registration *oldest = NULL;
	uint64_t age;
	char name[64];

	*ret_pin_age_ns = 0;
	for (const struct registration *r = registry->list; r != NULL; r = r->next)
		if (!shmeta_observe(&r->over) && pin_of(registry, r, now_ns, &age) != 0 && age > *ret_pin_age_ns) {
			oldest = r;
			*ret_pin_age_ns = age;
		}
	if (oldest == NULL)
		return false;
	copy_name(oldest, name);
	snprintf(ret_who, bytes, "%s (pid %d, uid %u)", name, (int)oldest->peer.pid, (unsigned)oldest->peer.uid);
	return true;
}
