/* SPDX-License-Identifier: Apache-2.0
 * Turns among users and their connections. */
#include "writer/write/turns.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "writer/serve/shares.h"

enum { QUANTUM = 64, DEBT_MAX = 4096 }; /* of work: more than a debt of so much is forgiven */
enum { ROUND_LEAST = 16, SHIFT = 10, REST_TIMES = 4, UNBOUND = 0 };
static const uint64_t REST_MAX_NS = 1000000000, TOOK_MAX_NS = 3600000000000;

/* A connection with calls that wait. */
struct turn_line {
	struct turn_line *next;
	uint64_t connection;
	struct turn *first, **end;
	size_t bytes;
	int64_t credit;
};

struct turn_user {
	struct turn_user *next;
	uint32_t uid;
	struct turn_line *first, **end;
	size_t ops, bytes;
	int64_t credit;
	uint64_t came_ns; /* the last call */
};

void turns_init(struct turns *t)
{
	*t = (struct turns){.end = &t->first};
}

static void free_user(struct turn_user *u)
{
	for (struct turn_line *line = u->first, *next; line != NULL; line = next) {
		next = line->next;
		free(line);
	}
	free(u);
}

void turns_free(struct turns *t)
{
	for (struct turn_user *u = t->first, *next; u != NULL; u = next) {
		next = u->next;
		free_user(u);
	}
	turns_init(t);
}

static void push_user(struct turns *t, struct turn_user *u)
{
	u->next = NULL;
	*t->end = u;
	t->end = &u->next;
}

static struct turn_user *pop_user(struct turns *t)
{
	struct turn_user *u = t->first;

	t->first = u->next;
	if (t->first == NULL)
		t->end = &t->first;
	return u;
}

static void push_line(struct turn_user *u, struct turn_line *line)
{
	line->next = NULL;
	*u->end = line;
	u->end = &line->next;
}

static struct turn_line *pop_line(struct turn_user *u)
{
	struct turn_line *line = u->first;

	u->first = line->next;
	if (u->first == NULL)
		u->end = &u->first;
	return line;
}

/* Those who have not written for a while no longer count. */
static void forget_users(struct turns *t, uint64_t now_ns)
{
	for (size_t left = t->users; left > 0; left--) {
		struct turn_user *u = pop_user(t);

		if (u->ops > 0 || now_ns < u->came_ns + TURNS_MEMORY_NS) {
			push_user(t, u);
			continue;
		}
		free_user(u);
		t->users--;
	}
}

static struct turn_user *find_user(const struct turns *t, uint32_t uid)
{
	struct turn_user *u = t->first;

	while (u != NULL && u->uid != uid)
		u = u->next;
	return u;
}

static struct turn_user *user_of(struct turns *t, uint32_t uid)
{
	struct turn_user *u = find_user(t, uid);

	if (u != NULL)
		return u;
	u = calloc(1, sizeof *u);
	if (u == NULL)
		return NULL;
	u->uid = uid;
	u->end = &u->first;
	push_user(t, u);
	t->users++;
	return u;
}

static struct turn_line *find_line(const struct turn_user *u, uint64_t connection)
{
	struct turn_line *line = u->first;

	while (line != NULL && line->connection != connection)
		line = line->next;
	return line;
}

static struct turn_line *line_of(struct turn_user *u, uint64_t connection)
{
	struct turn_line *line = find_line(u, connection);

	if (line != NULL)
		return line;
	line = calloc(1, sizeof *line);
	if (line == NULL)
		return NULL;
	line->connection = connection;
	line->end = &line->first;
	push_line(u, line);
	return line;
}

/* Who has nothing waiting is bound by the whole only, as a call may be larger than a share, and
 * anything when nobody has. */
static bool fits(uint64_t capacity, uint32_t percent, size_t mine, size_t all, size_t more)
{
	if (percent == UNBOUND || mine == 0)
		return all == 0 || all + more <= capacity;
	return share_left(capacity, percent, mine, all) >= more;
}

bool turns_room(const struct turns *t, const struct turn *call)
{
	const uint32_t percent = call->uid == 0 || call->uid == geteuid() ? UNBOUND : t->limits.user_share;
	const struct turn_user *u = find_user(t, call->uid);
	const struct turn_line *line = u != NULL ? find_line(u, call->connection) : NULL;

	return fits(t->limits.ops, percent, u != NULL ? u->ops : 0, t->ops, call->ops) &&
	       fits(t->limits.bytes, percent, u != NULL ? u->bytes : 0, t->bytes, call->bytes) &&
	       (line == NULL || line->bytes == 0 || line->bytes + call->bytes <= t->limits.connection_bytes);
}

bool turns_add(struct turns *t, struct turn *parts, uint64_t now_ns)
{
	struct turn call = {.uid = parts->uid, .connection = parts->connection};
	struct turn_user *u;
	struct turn_line *line;

	for (const struct turn *part = parts; part != NULL; part = part->next) {
		call.ops += part->ops;
		call.bytes += part->bytes;
	}
	if (t->users > 1)
		forget_users(t, now_ns);
	if (!turns_room(t, &call))
		return false;
	u = user_of(t, call.uid);
	line = u != NULL ? line_of(u, call.connection) : NULL;
	if (line == NULL)
		return false;
	if (t->ops == 0)
		t->since_ns = now_ns;
	*line->end = parts;
	while (*line->end != NULL)
		line->end = &(*line->end)->next;
	line->bytes += call.bytes;
	u->ops += call.ops;
	u->bytes += call.bytes;
	u->came_ns = now_ns;
	t->calls++;
	t->ops += call.ops;
	t->bytes += call.bytes;
	if (t->bytes > t->peak_bytes)
		t->peak_bytes = t->bytes;
	return true;
}

/* Whoever is not in debt has its turn; others come nearer to it. */
static bool has_turn(int64_t *credit)
{
	if (*credit <= 0)
		*credit += QUANTUM;
	return *credit > 0;
}

static void pay(int64_t *credit, uint64_t work)
{
	*credit = work < DEBT_MAX ? *credit - (int64_t)work : -DEBT_MAX;
	if (*credit < -DEBT_MAX)
		*credit = -DEBT_MAX;
}

static uint64_t round_ns(const struct turns *t)
{
	return t->fixed_ns > TURNS_ROUND_NS ? t->fixed_ns : TURNS_ROUND_NS;
}

/* A round's bound while several write. */
static uint64_t round_work(const struct turns *t, uint64_t most)
{
	uint64_t work = t->work_ns > 0 ? (round_ns(t) << SHIFT) / t->work_ns : most;

	work = work < ROUND_LEAST ? ROUND_LEAST : work;
	return t->users > 1 && work < most ? work : most;
}

static bool is_large(const struct turns *t, const struct turn *part)
{
	return part->open_ended || part->work > round_work(t, UINT64_MAX);
}

/* Is it not to be begun yet? */
static bool rests(const struct turns *t, const struct turn *part, uint64_t now_ns)
{
	return t->users > 1 && now_ns < t->large_from_ns && is_large(t, part);
}

static bool all_rest(const struct turns *t, const struct turn_user *u, uint64_t now_ns)
{
	for (const struct turn_line *line = u->first; line != NULL; line = line->next)
		if (!rests(t, line->first, now_ns))
			return false;
	return true;
}

/* Of a user who waits: the connection whose turn it is, of those that do not rest. It becomes the
 * first one. */
static struct turn_line *line_in_turn(const struct turns *t, struct turn_user *u, uint64_t now_ns)
{
	while (rests(t, u->first->first, now_ns) || !has_turn(&u->first->credit))
		push_line(u, pop_line(u));
	return u->first;
}

/* Of its first connection. */
static struct turn *take_part(struct turns *t, struct turn_user *u)
{
	struct turn_line *line = u->first;
	struct turn *part = line->first;

	line->first = part->next;
	if (line->first == NULL)
		line->end = &line->first;
	line->bytes -= part->bytes;
	pay(&line->credit, part->work);
	pay(&u->credit, part->work);
	u->ops -= part->ops;
	u->bytes -= part->bytes;
	t->calls -= part->last;
	t->ops -= part->ops;
	t->bytes -= part->bytes;
	(void)pop_line(u);
	if (line->first == NULL)
		free(line);
	else if (line->credit <= 0)
		push_line(u, line);
	else { /* it goes on */
		line->next = u->first;
		u->first = line;
		if (line->next == NULL)
			u->end = &line->next;
	}
	part->next = NULL;
	return part;
}

/* What a part takes of a round; a large one all of it, while several write. */
static uint64_t cost(const struct turns *t, const struct turn *part, uint64_t most)
{
	return t->users > 1 && part->work < most && most < UINT64_MAX && is_large(t, part) ? most : part->work;
}

struct turn *turns_take(struct turns *t, uint64_t most, bool all, uint64_t now_ns)
{
	const uint64_t at_ns = all ? UINT64_MAX : now_ns; /* at the end nobody rests */
	struct turn *first = NULL, **end = &first;
	struct turn_user *next = NULL; /* did not fit in */
	uint64_t taken = 0;

	forget_users(t, now_ns);
	most = all ? UINT64_MAX : round_work(t, most);
	/* Until nobody is left who may be served in this round; who does not fit in begins the next
	 * one. */
	for (size_t passed = 0; passed < t->users;) {
		struct turn_user *u = t->first;

		if (u->ops == 0 || all_rest(t, u, at_ns)) {
			passed++;
		} else if (!has_turn(&u->credit)) {
			passed = 0;
		} else if (first != NULL && cost(t, line_in_turn(t, u, at_ns)->first, most) > most - taken) {
			next = next != NULL ? next : u;
			passed++;
		} else {
			uint64_t takes = cost(t, line_in_turn(t, u, at_ns)->first, most);

			*end = take_part(t, u);
			taken += takes < most - taken ? takes : most - taken;
			end = &(*end)->next;
			passed = 0;
			if (u->ops > 0 && u->credit > 0)
				continue;
		}
		push_user(t, pop_user(t));
	}
	while (next != NULL && t->first != next)
		push_user(t, pop_user(t));
	t->since_ns = now_ns;
	return first;
}

static void learn(uint64_t *mean, uint64_t value)
{
	*mean = *mean == 0 ? value : *mean - *mean / 8 + value / 8;
}

void turns_took(struct turns *t, uint64_t work, const struct turn *largest, uint64_t took_ns, uint64_t now_ns)
{
	const uint64_t bound_ns = took_ns < TOOK_MAX_NS ? took_ns : TOOK_MAX_NS;
	const uint64_t work_ns = bound_ns > t->fixed_ns ? bound_ns - t->fixed_ns : 0;

	/* An open-ended call says nothing of what other work takes, and neither does a round that
	 * was shorter than those without work. */
	if (work < ROUND_LEAST && !largest->open_ended)
		learn(&t->fixed_ns, bound_ns);
	else if (work_ns > 0 && !largest->open_ended)
		learn(&t->work_ns, (work_ns << SHIFT) / work);
	if (is_large(t, largest) && work_ns > round_ns(t))
		t->large_from_ns = now_ns + REST_TIMES * (took_ns < REST_MAX_NS ? took_ns : REST_MAX_NS);
}

uint64_t turns_when(const struct turns *t, uint64_t now_ns)
{
	uint64_t when = UINT64_MAX;

	for (const struct turn_user *u = t->first; u != NULL; u = u->next) {
		if (u->ops > 0 && !all_rest(t, u, now_ns))
			return now_ns;
		if (u->ops > 0)
			when = t->large_from_ns;
	}
	return when;
}

size_t turns_at_rest(struct turns *t)
{
	size_t peak = t->peak_bytes;

	t->peak_bytes = 0;
	return peak;
}
