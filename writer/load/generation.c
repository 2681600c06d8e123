/* SPDX-License-Identifier: Apache-2.0
 * Which store to start from, and how one generation follows another.
 *
 * Start: the generation that the board names is served at once when it is of this boot and of this
 * source and all of it is proved to be what a writer left (shmeta__store_prove()): no copy.
 * Everything else (another format, boot or source, damage, a former start that ended over it)
 * leaves it to the readers that are in it, and a new generation is loaded beside it.
 *
 * First write: the former writer's proxies are gone, so nothing keeps LMDB from recycling pages
 * that a reader of the former writer's time still looks at. When every registration was handed
 * over, waiting for the grace period and for pins older than the current commit is enough;
 * otherwise, and when such a pin does not go away, the store is copied to a new generation. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/escape.h"
#include "writer/engine/engine.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* A pin of the former writer's time that is held for longer than this many grace periods is not
 * waited for. */
enum { GRACES_FOR_OLD_PINS = 10 };
/* Of a store's size in memory each. */
enum { LEFT_MAX = 2 };
/* A larger number was never given. */
#define GENERATIONS_MAX (UINT64_C(1) << 52)
#define REMOVE_AGAIN_NS (10 * SYNC_S)

void generation_init(struct sync *s)
{
	s->generations.next_topic_id = 1;
}

/* Say on the page of a generation that this writer has not open that readers are to leave it. */
static void retire_number(struct sync *s, uint64_t number)
{
	char name[64];
	void *map;
	struct shmeta_err err;

	snprintf(name, sizeof name, "store.%llu/generation", (unsigned long long)number);
	int fd = openat(s->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	off_t bytes = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (fd >= 0)
		close(fd);
	if (bytes < (off_t)sizeof(struct shmeta_generation) ||
	    shmeta__map_file(s->dir_fd, name, sizeof(struct shmeta_generation), 1, &map, &err) != SHMETA_OK)
		return;
	struct shmeta_generation *page = map;

	shmeta_publish(&page->retired, 1u); /* PAIR 4: new generation before retirement */
	munmap(map, sizeof(struct shmeta_generation));
}

/* How long ago it was made, opened by a writer, or left; 0 where the clock was set back since. */
static uint64_t directory_age_ns(int dir_fd, const char *name)
{
	struct timespec now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_mtim.tv_sec >= now.tv_sec)
		return 0;
	return (uint64_t)(now.tv_sec - st.st_mtim.tv_sec - 1) * SYNC_S;
}

static void add_leaving(struct sync *s, uint64_t number, uint64_t due_ns)
{
	struct generations *g = &s->generations;

	if (g->leaving_count < GENERATIONS_LEAVING)
		g->leaving[g->leaving_count++] = (struct generation_leaving){number, due_ns};
	else
		g->leaving_more = true;
}

/* Directories that former writers left. All but the current one go: at once where nobody can be
 * about to open them, which is two grace periods after they were left, or always, where they have
 * never been current. */
static void list_generations(struct sync *s, bool at_start)
{
	int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t now = sync_now(s), current = s->board->generation;
	struct dirent *entry;

	s->generations.leaving_more = false;
	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL) {
		char *end;

		if (strncmp(entry->d_name, "store.", 6) != 0 || entry->d_name[6] < '1' || entry->d_name[6] > '9')
			continue;
		errno = 0;
		uint64_t number = strtoull(entry->d_name + 6, &end, 10);

		if (errno != 0 || *end != '\0' || number >= GENERATIONS_MAX)
			continue;
		if (at_start && number > s->generations.newest_number)
			s->generations.newest_number = number;
		/* Later on, the newest one may be being loaded. */
		if (number == current || (!at_start && number == s->generations.newest_number))
			continue;
		uint64_t age = directory_age_ns(s->dir_fd, entry->d_name), keep = 2 * s->options.grace_ns;

		add_leaving(s, number, number > current || age >= keep ? now : now + keep - age);
	}
	closedir(dir);
}

void generation_remove_left(struct sync *s)
{
	uint64_t now = sync_now(s);

	do {
		if (s->generations.leaving_more && s->generations.leaving_count == 0)
			list_generations(s, false);
		for (size_t i = 0; i < s->generations.leaving_count;) {
			struct generation_leaving *l = &s->generations.leaving[i];
			struct shmeta_err err;

			if (l->due_ns <= now) {
				/* Whoever is in it goes on with what it has mapped, until it
				 * looks. */
				retire_number(s, l->number);
				if (shmeta__store_remove(s->dir_fd, l->number, &err) == SHMETA_OK) {
					*l = s->generations.leaving[--s->generations.leaving_count];
					continue;
				}
				sync_log(s, LOG_WARNING, "generation_left", "the old store.%llu stays: %s",
				         (unsigned long long)l->number, err.text);
				l->due_ns = now + REMOVE_AGAIN_NS;
			}
			sync_wake_at(s, l->due_ns);
			i++;
		}
	} while (s->generations.leaving_more && s->generations.leaving_count == 0);
}

static void leave(struct sync *s, uint64_t number)
{
	char name[32];

	/* For the next start, should this one end before it has removed it. */
	snprintf(name, sizeof name, "store.%llu", (unsigned long long)number);
	(void)utimensat(s->dir_fd, name, NULL, AT_SYMLINK_NOFOLLOW);
	add_leaving(s, number, sync_now(s) + 2 * s->options.grace_ns);
}

static void take(struct sync *s, struct shmeta__store *store)
{
	s->store = store;
	s->gen = shmeta__store_generation(store);
	shmeta_poke(&s->gen->boot_offset_ns, shmeta_peek(&s->board->boot_offset_ns));
	sync_show_clock(s);
	stamps_show_ttl(s);
	const struct shmeta_store_counters *counters = shmeta__store_counters(store);

	if (counters->next_topic_id > s->generations.next_topic_id)
		s->generations.next_topic_id = counters->next_topic_id;
}

/* Why the store is not this source's; NULL: it is, as far as can be told. */
static const char *another_source(struct sync *s, char *text, size_t bytes)
{
	const struct shmeta_store_format *format = shmeta__store_format(s->store);

	if (session_is_open(&s->session)) {
		char source[sizeof format->source];

		if (format->fingerprint == s->engine->source->fingerprint(s->backend))
			return NULL;
		shmeta__say(text, bytes, "the store was filled from another source, %s",
		            shmeta__escape(source, sizeof source, format->source,
		                           strnlen(format->source, sizeof format->source)));
		return text;
	}
	/* The source is away, so nobody can ask it who it is: go by its name. */
	return saved_feed_of_this_uri(s) ? NULL : "the store was filled from a source of another name";
}

static void let_go(struct sync *s)
{
	shmeta__store_close(s->store);
	s->store = NULL;
	s->gen = NULL;
	store_move(s, STORE_NONE);
	saved_feed_forget(s);
}

/* Open the generation that the board names. Whatever ends the process meanwhile leaves a word on
 * the board, and is not tried again. */
static enum shmeta_status take_over(struct sync *s, uint64_t number, struct shmeta_err *why)
{
	struct shmeta__store *store;
	enum shmeta_status status;

	if (shmeta_peek(&s->board->taking_over) == number)
		return shmeta_fail(why, SHMETA_ERR_CORRUPT,
		                   "store.%llu: the writer that took it over last ended before it served it",
		                   (unsigned long long)number);
	shmeta_publish(&s->board->taking_over, number);
	status = shmeta__store_prove(s->dir_fd, number, s->board->boot_id, why);
	if (status == SHMETA_OK)
		status = shmeta__store_open(s->dir_fd, number, &store, why);
	if (status == SHMETA_OK) {
		take(s, store);
		store_move(s, STORE_ADOPTED);
		retime_begin(s); /* its writer may have had other times to live */
		saved_feed_read(s);
		s->generations.adopted_at_ns = sync_now(s);
	}
	shmeta_publish(&s->board->taking_over, UINT64_C(0));
	return status;
}

/* A stamp carries no checksum, and one of the future would be believed until then. */
static bool stamps_can_be(struct sync *s)
{
	uint64_t now = sync_now(s);

	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++) {
		uint64_t at = shmeta_peek(&s->gen->stamp[cls].synced_at_ns);

		if (shmeta__stamp_is_unproved(at) ? shmeta__stamp_unproved_age(now, at) == UINT64_MAX
		                                  : at > now + SYNC_S)
			return false;
	}
	return true;
}

/* Does it hold what the configuration says that a store does? */
static bool has_its_mode(struct sync *s)
{
	const struct shmeta_store_counters *c = shmeta__store_counters(s->store);

	if (!s->options.bounded)
		return c->incomplete == 0;
	return c->topics <= s->options.max_topics && c->partitions <= s->options.max_partitions;
}

enum shmeta_status generation_adopt(struct sync *s, bool usable, struct shmeta_err *err)
{
	uint64_t number = s->board->generation;
	uint64_t began = sync_now(s);
	struct shmeta_err why;
	char text[1200];

	(void)err;
	s->generations.newest_number = number < GENERATIONS_MAX ? number : 0;
	list_generations(s, true);
	if (s->generations.newest_number == 0)
		s->generations.newest_number = s->options.generations_after;
	if (number == 0)
		return SHMETA_OK;

	enum shmeta_status status = take_over(s, number, &why);

	if (status == SHMETA_OK && !usable && !saved_feed_of_this_uri(s)) {
		let_go(s);
		return SHMETA_OK;
	}
	if (status == SHMETA_OK && !stamps_can_be(s)) {
		let_go(s);
		status = shmeta_fail(&why, SHMETA_ERR_CORRUPT, "store.%llu: its page has a stamp of the future",
		                     (unsigned long long)number);
	}
	if (status == SHMETA_OK && !has_its_mode(s)) {
		let_go(s);
		status = shmeta_fail(&why, SHMETA_ERR_CONFIG,
		                     s->options.bounded ? "store.%llu: it holds more than the budgets allow"
		                                        : "store.%llu: it lacks records, which store.mode = mirror "
		                                          "does not",
		                     (unsigned long long)number);
	}
	if (status != SHMETA_OK) {
		/* Nothing is known of its topic numbers: begin far above what it can have used. */
		s->generations.next_topic_id = 1 + ((s->generations.newest_number & 0xfff) << 20);
		sync_log(s, LOG_NOTICE, "store_refused",
		         "the store that was found cannot be used, loading a new one: %s", why.text);
		return SHMETA_OK;
	}

	const char *other = another_source(s, text, sizeof text);

	if (other != NULL)
		accept_changed(s, false, other);
	sync_log(s, LOG_INFO, "store_adopted", "serving store.%llu of the former writer, proved in %llu ms",
	         (unsigned long long)number, (unsigned long long)((s->generations.adopted_at_ns - began) / SYNC_MS));
	return SHMETA_OK;
}

void generation_judge(struct sync *s)
{
	if (s->store == NULL || !session_is_open(&s->session))
		return;
	const struct shmeta_store_format *format = shmeta__store_format(s->store);

	if (format->fingerprint == s->engine->source->fingerprint(s->backend))
		return;
	accept_changed(s, false, "the source is another one than the store was filled from");
}

static void describe_format(struct sync *s, struct shmeta_store_format *ret)
{
	char source[4400]; /* a path and what is said of it */

	*ret = (struct shmeta_store_format){.format = SHMETA_STORE_FORMAT,
	                                    .writer_version = SHMETA_VERSION_MAJOR << 16 | SHMETA_VERSION_MINOR << 8 |
	                                                      SHMETA_VERSION_PATCH,
	                                    .created_at_ns = sync_now(s)};
	memcpy(ret->boot_id, s->board->boot_id, sizeof ret->boot_id);
	ret->fingerprint = s->engine->source->fingerprint(s->backend);
	s->engine->source->describe(s->backend, source, sizeof source);
	shmeta__say(ret->source, sizeof ret->source, "%s", source);
}

enum shmeta_status generation_create(struct sync *s, struct shmeta__store **ret, struct shmeta_err *err)
{
	struct shmeta_store_format format;

	describe_format(s, &format);
	return generation_create_as(s, &format, ret, err);
}

enum shmeta_status generation_create_as(struct sync *s, const struct shmeta_store_format *format,
                                        struct shmeta__store **ret, struct shmeta_err *err)
{
	struct shmeta__store *store;

	generation_remove_left(s);
	enum shmeta_status status =
		shmeta__store_create(s->dir_fd, s->generations.newest_number + 1, s->options.store_max_bytes,
	                             s->options.grace_ns, format, &store, err);

	/* The number is used up either way: what is left of a failed attempt must not be met
	 * again. */
	s->generations.newest_number++;
	if (status == SHMETA_OK)
		*ret = store;
	else
		leave(s, s->generations.newest_number);
	return status;
}

void generation_discard(struct sync *s, struct shmeta__store *store)
{
	uint64_t number = shmeta__store_number(store);
	struct shmeta_err err;

	shmeta__store_close(store);
	if (shmeta__store_remove(s->dir_fd, number, &err) != SHMETA_OK)
		leave(s, number);
}

void generation_publish(struct sync *s, struct shmeta__store *store)
{
	struct shmeta__store *old = s->store;
	uint64_t old_number = s->board->generation, dev, ino;

	take(s, store);
	shmeta__store_inode(store, &dev, &ino);
	shmeta_poke(&s->board->store_dev, dev);
	shmeta_poke(&s->board->store_ino, ino);
	shmeta_publish(&s->board->generation,
	               shmeta__store_number(store)); /* PAIR 4: new generation before retirement */
	if (old != NULL) {
		shmeta_publish(&shmeta__store_generation(old)->retired,
		               1u); /* PAIR 4: new generation before retirement */
		shmeta__store_close(old);
	} else if (old_number != 0) {
		retire_number(s, old_number);
	}
	if (old_number != 0)
		leave(s, old_number);
	store_move(s, STORE_WRITABLE);
	accept_published(s);
	s->counters.generations++;
	if (s->host.committed != NULL)
		s->host.committed(s->host.arg, NULL);
}

static bool copy_generation(struct sync *s, const char *why)
{
	struct shmeta__store *copy;
	struct shmeta_err err;
	struct shmeta__store_usage usage;
	uint64_t max_bytes = s->options.store_max_bytes, began = sync_now(s);

	/* A smaller limit than what is in use is for the next generation that is loaded anew. */
	if (shmeta__store_usage(s->store, &usage, &err) == SHMETA_OK && usage.used_bytes > max_bytes / 10 * 9)
		max_bytes = usage.max_bytes > max_bytes ? usage.max_bytes : max_bytes;

	const struct shmeta_generation *from = s->gen;
	enum shmeta_status status =
		shmeta__store_copy(s->store, s->dir_fd, ++s->generations.newest_number, max_bytes, &copy, &err);

	if (status != SHMETA_OK) {
		leave(s, s->generations.newest_number);
		sync_store_failed(s, status, err.text);
		return false;
	}
	struct shmeta_generation *to = shmeta__store_generation(copy);

	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++) {
		shmeta_poke(&to->stamp[cls].changed_txn, shmeta_peek(&from->stamp[cls].changed_txn));
		shmeta_publish(&to->stamp[cls].txn,
		               shmeta_peek(&from->stamp[cls].txn)); /* PAIR 3: a stamp's commit before its time */
		shmeta_publish(&to->stamp[cls].synced_at_ns, shmeta_peek(&from->stamp[cls].synced_at_ns));
	}
	generation_publish(s, copy);
	sync_log(s, LOG_INFO, "generation_copied", "copied the store to store.%llu in %llu ms: %s",
	         (unsigned long long)s->generations.newest_number,
	         (unsigned long long)((sync_now(s) - began) / SYNC_MS), why);
	return true;
}

bool generation_writable(struct sync *s)
{
	if (s->store == NULL || origin_is_foreign(s) || store_is_damaged(s))
		return false;
	if (store_is_writable(s))
		return true;
	generation_remove_left(s);
	/* Quick restarts must not fill the memory with copies. */
	if (s->generations.leaving_count > LEFT_MAX || s->generations.leaving_more)
		return false;
	if (s->gen->max_bytes < s->options.store_max_bytes)
		return copy_generation(s, "store.max_bytes has grown");
	if (!s->host.all_registrations_kept(s->host.arg))
		return copy_generation(s, "not every reader of the former writer is known");

	uint64_t now = sync_now(s), grace = s->gen->grace_ns;

	if (now < s->generations.adopted_at_ns + grace) {
		sync_wake_at(s, s->generations.adopted_at_ns + grace);
		return false;
	}
	if (sync_oldest_pin(s) >= sync_committed(s)) {
		store_move(s, STORE_WRITABLE);
		return true;
	}
	if (now >= s->generations.adopted_at_ns + GRACES_FOR_OLD_PINS * grace)
		return copy_generation(s, "a reader holds a snapshot of the former writer's time");
	sync_wake_at(s, now + grace / 10);
	return false;
}
