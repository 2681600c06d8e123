/* SPDX-License-Identifier: Apache-2.0
 * See pgwire.h. */
#include "tests/support/pgwire.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/scratch.h"

enum { LOG_BYTES = 4 << 20, EMIT_BYTES = 1 << 20, STATEMENTS = 256, ASKED = 4096, COLUMNS = 32 };

struct pgwire_page {
	_Atomic uint32_t left[PGWIRE_RULES_MAX]; /* PGWIRE_OFF: off; PGWIRE_ALWAYS: for ever */
	_Atomic uint64_t hits[PGWIRE_RULES_MAX];
	_Atomic uint64_t connections;
	_Atomic size_t log_used, emitted;
	_Atomic uint64_t streams, streams_ended; /* open; how often pgwire_end_streams() was
                                                  * called */
	char end_sqlstate[8], end_text[256];
	char log[LOG_BYTES];
	char rows[EMIT_BYTES]; /* of pgwire_emit_at(): the time, a space, the row, a newline */
};

struct buffer {
	uint8_t *data;
	size_t used, room;
};

/* A prepared statement or a portal. */
struct named {
	char name[64];
	char *sql;
	int rule; /* -1: the server's behind */
	int binary;
};

/* A message that the server behind will answer. */
struct due {
	char kind;
	int swallow; /* the client does not get the answer */
};

struct peer {
	const struct pgwire_options *o;
	struct pgwire_page *page;
	int client, up; /* up -1: no server behind */
	struct named statements[STATEMENTS], portals[STATEMENTS];
	struct due due[ASKED];
	size_t due_first, due_count;
	int skipping; /* until the next Sync */
	int streaming;
	char state;      /* without a server behind: I, T, E */
	char begun[128]; /* the last BEGIN */
	struct buffer out;
};

/* ---- bytes ---- */

__attribute__((noreturn)) static void over(const struct peer *p)
{
	if (p->streaming)
		atomic_fetch_sub(&p->page->streams, 1);
	(void)close(p->client);
	_exit(0);
}

static void add(struct buffer *b, const void *bytes, size_t count)
{
	if (b->used + count > b->room) {
		b->room = (b->used + count) * 2 + 64;
		b->data = realloc(b->data, b->room);
		if (b->data == NULL)
			_exit(12);
	}
	if (count > 0)
		memcpy(b->data + b->used, bytes, count);
	b->used += count;
}

static void add16(struct buffer *b, int value)
{
	uint16_t wire = htons((uint16_t)value);

	add(b, &wire, sizeof wire);
}

static void add32(struct buffer *b, int64_t value)
{
	uint32_t wire = htonl((uint32_t)value);

	add(b, &wire, sizeof wire);
}

static void add_text(struct buffer *b, const char *text)
{
	add(b, text, strlen(text) + 1);
}

static void write_all(const struct peer *p, int fd, const void *bytes, size_t count)
{
	const uint8_t *at = bytes;

	while (count > 0) {
		ssize_t n = send(fd, at, count, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			over(p);
		at += n;
		count -= (size_t)n;
	}
}

static void read_all(const struct peer *p, int fd, void *bytes, size_t count)
{
	uint8_t *at = bytes;

	while (count > 0) {
		ssize_t n = recv(fd, at, count, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			over(p);
		at += n;
		count -= (size_t)n;
	}
}

static void say(struct peer *p, int fd, char type, const struct buffer *body)
{
	struct buffer m = {.data = NULL};

	if (type != 0)
		add(&m, &type, 1);
	add32(&m, (int64_t)body->used + 4);
	add(&m, body->data, body->used);
	write_all(p, fd, m.data, m.used);
	free(m.data);
}

/* A message with its body; the type byte in the answer (0 for those without one). The body is
 * terminated behind its end. */
static char hear(struct peer *p, int fd, int typed, struct buffer *ret)
{
	char type = 0;
	uint32_t length;

	if (typed)
		read_all(p, fd, &type, 1);
	read_all(p, fd, &length, sizeof length);
	length = ntohl(length);
	if (length < 4 || length > 64u << 20)
		over(p);
	ret->used = 0;
	add(ret, "", 1);
	for (uint32_t i = 4; i < length; i += 1024)
		add(ret, (const uint8_t[1024]){0}, length - i < 1024 ? length - i : 1024);
	ret->used = length - 4;
	read_all(p, fd, ret->data, ret->used);
	ret->data[ret->used] = 0;
	return type;
}

/* ---- rules ---- */

static void note(struct peer *p, const char *what, const char *sql)
{
	size_t bytes = strlen(what) + strlen(sql) + 1, at = atomic_fetch_add(&p->page->log_used, bytes);

	if (at + bytes >= LOG_BYTES)
		return;
	memcpy(p->page->log + at, what, strlen(what));
	for (size_t i = 0; sql[i] != 0; i++)
		p->page->log[at + strlen(what) + i] = sql[i] == '\n' ? ' ' : sql[i];
	p->page->log[at + bytes - 1] = '\n';
}

static int by_execution(enum pgwire_action action)
{
	return action == PGWIRE_ERROR || action == PGWIRE_DO_THEN_ERROR || action == PGWIRE_UNDO_THEN_ERROR ||
	       action == PGWIRE_HANG || action == PGWIRE_CLOSE;
}

/* Use it once. 0: it is off. */
static int use(struct peer *p, size_t rule)
{
	uint32_t left = atomic_load(&p->page->left[rule]);

	while (left != PGWIRE_OFF && left != PGWIRE_ALWAYS)
		if (atomic_compare_exchange_weak(&p->page->left[rule], &left, left == 1 ? PGWIRE_OFF : left - 1))
			break;
	if (left == PGWIRE_OFF)
		return 0;
	atomic_fetch_add(&p->page->hits[rule], 1);
	return 1;
}

/* The first rule for this text among those that count by executions, or among the others; -1:
 * none. */
static int rule_for(struct peer *p, const char *sql, int executing)
{
	if (executing && strncasecmp(sql, "begin", 5) == 0)
		(void)snprintf(p->begun, sizeof p->begun, "%s", sql);
	for (size_t i = 0; i < p->o->count; i++) {
		const struct pgwire_rule *r = &p->o->rules[i];

		if (r->action != PGWIRE_REWRITE && by_execution(r->action) == executing &&
		    strcasestr(sql, r->pattern) != NULL && (r->holds == NULL || r->holds(sql)) &&
		    (r->behind == NULL || strcasestr(p->begun, r->behind) != NULL) && use(p, i))
			return (int)i;
	}
	return -1;
}

/* The text with all rewriting done; the caller's to free. */
static char *rewrite(struct peer *p, const char *sql)
{
	char *text = strdup(sql);

	for (size_t i = 0; text != NULL && i < p->o->count; i++) {
		const struct pgwire_rule *r = &p->o->rules[i];
		struct buffer b = {.data = NULL};
		const char *at = text, *hit;

		if (r->action != PGWIRE_REWRITE || strcasestr(text, r->pattern) == NULL || !use(p, i))
			continue;
		for (; (hit = strcasestr(at, r->pattern)) != NULL; at = hit + strlen(r->pattern)) {
			add(&b, at, (size_t)(hit - at));
			add(&b, r->text, strlen(r->text));
		}
		add_text(&b, at);
		free(text);
		text = (char *)b.data;
	}
	if (text == NULL)
		_exit(12);
	return text;
}

/* ---- answers of our own ---- */

static void say_error(struct peer *p, const char *sqlstate, const char *text)
{
	struct buffer b = {.data = NULL};

	add(&b, "SERROR", 7);
	add(&b, "VERROR", 7);
	add(&b, "C", 1);
	add_text(&b, sqlstate);
	add(&b, "M", 1);
	add_text(&b, text);
	add(&b, "", 1);
	say(p, p->client, 'E', &b);
	free(b.data);
	if (p->state == 'T')
		p->state = 'E';
}

struct columns {
	int count;
	char name[COLUMNS][64];
	int32_t type[COLUMNS]; /* OID */
};

/* Of "name:type name:type"; returns what is behind that line. */
static const char *columns_of(const char *text, struct columns *ret)
{
	const char *end = strchrnul(text, '\n');

	ret->count = 0;
	while (text < end && ret->count < COLUMNS) {
		char type[16] = "text";
		int n = 0;

		if (sscanf(text, "%63[^: \n]:%15[a-z0-9]%n", ret->name[ret->count], type, &n) < 2)
			break;
		ret->type[ret->count++] = strcmp(type, "int8") == 0    ? 20
		                          : strcmp(type, "int4") == 0  ? 23
		                          : strcmp(type, "bool") == 0  ? 16
		                          : strcmp(type, "bytea") == 0 ? 17
		                                                       : 25;
		for (text += n; *text == ' '; text++)
			;
	}
	return *end == '\n' ? end + 1 : end;
}

static void say_columns(struct peer *p, const char *text, int binary)
{
	struct buffer b = {.data = NULL};
	struct columns c;

	(void)columns_of(text, &c);
	add16(&b, c.count);
	for (int i = 0; i < c.count; i++) {
		add_text(&b, c.name[i]);
		add32(&b, 0);
		add16(&b, 0);
		add32(&b, c.type[i]);
		add16(&b, c.type[i] == 25 || c.type[i] == 17 ? -1 : c.type[i] == 20 ? 8 : c.type[i] == 23 ? 4 : 1);
		add32(&b, -1);
		add16(&b, binary);
	}
	say(p, p->client, 'T', &b);
	free(b.data);
}

static void add_cell(struct buffer *b, int32_t type, const char *cell, size_t bytes, int binary)
{
	uint64_t number = htobe64((uint64_t)strtoll(cell, NULL, 10));
	char yes = cell[0] == 't';

	if (bytes == 2 && memcmp(cell, "\\N", 2) == 0) {
		add32(b, -1);
	} else if (!binary && type == 17) {
		char digits[3];

		add32(b, 2 + 2 * (int64_t)bytes);
		add(b, "\\x", 2);
		for (size_t i = 0; i < bytes; i++) {
			(void)snprintf(digits, sizeof digits, "%02x", (unsigned char)cell[i]);
			add(b, digits, 2);
		}
	} else if (!binary || type == 25 || type == 17) {
		add32(b, (int64_t)bytes);
		add(b, cell, bytes);
	} else if (type == 16) {
		add32(b, 1);
		add(b, &yes, 1);
	} else {
		size_t width = type == 20 ? 8 : 4;

		add32(b, (int64_t)width);
		add(b, (const char *)&number + 8 - width, width);
	}
}

/* One line; returns what is behind it. */
static const char *say_row(struct peer *p, const struct columns *c, const char *line, int binary)
{
	const char *end = strchrnul(line, '\n');
	struct buffer b = {.data = NULL};

	add16(&b, c->count);
	for (int i = 0; i < c->count; i++) {
		const char *bar = memchr(line, '|', (size_t)(end - line));
		const char *stop = bar != NULL && i + 1 < c->count ? bar : end;

		add_cell(&b, c->type[i], line, (size_t)(stop - line), binary);
		line = stop < end ? stop + 1 : end;
	}
	say(p, p->client, 'D', &b);
	free(b.data);
	return *end == '\n' ? end + 1 : end;
}

static void say_done(struct peer *p, const char *tag)
{
	struct buffer b = {.data = NULL};

	add_text(&b, tag);
	say(p, p->client, 'C', &b);
	free(b.data);
}

static void say_empty(struct peer *p, char type)
{
	say(p, p->client, type, &(struct buffer){.data = NULL});
}

static void say_ready(struct peer *p)
{
	struct buffer b = {.data = NULL};

	add(&b, &p->state, 1);
	say(p, p->client, 'Z', &b);
	free(b.data);
}

/* Nanoseconds; 0: from the beginning. */
static uint64_t cursor_of(const char *sql)
{
	const char *at = strcasestr(sql, "cursor = '");

	return at != NULL ? strtoull(at + strlen("cursor = '"), NULL, 10) : 0;
}

/* Rows as they come, until the client goes, or it is ended with an error. */
static void stream(struct peer *p, const struct columns *c, int binary, uint64_t cursor)
{
	uint64_t ended = atomic_load(&p->page->streams_ended);
	size_t at = 0;

	p->streaming = 1;
	atomic_fetch_add(&p->page->streams, 1);
	while (atomic_load(&p->page->streams_ended) == ended) {
		struct pollfd fd = {.fd = p->client, .events = POLLIN};
		size_t end = atomic_load(&p->page->emitted);
		char byte;

		while (at < end) {
			char *row;
			uint64_t time = strtoull(p->page->rows + at, &row, 10);

			at = (size_t)(strchrnul(row, '\n') + 1 - p->page->rows);
			if (time == 0 || time > cursor)
				(void)say_row(p, c, row + 1, binary);
		}
		if (poll(&fd, 1, 2) > 0 && recv(p->client, &byte, 1, 0) <= 0)
			over(p);
	}
	if (p->page->end_sqlstate[0] == 0)
		over(p);
	p->streaming = 0;
	atomic_fetch_sub(&p->page->streams, 1);
	say_error(p, p->page->end_sqlstate, p->page->end_text);
}

__attribute__((noreturn)) static void hang(struct peer *p)
{
	char bytes[4096];

	while (recv(p->client, bytes, sizeof bytes, 0) > 0)
		;
	over(p);
}

static void follow_transaction(struct peer *p, const char *sql)
{
	if (strncasecmp(sql, "begin", 5) == 0 || strncasecmp(sql, "start transaction", 17) == 0)
		p->state = 'T';
	else if (strncasecmp(sql, "commit", 6) == 0 || strncasecmp(sql, "rollback", 8) == 0)
		p->state = 'I';
}

/* Without a server behind some statements need no rule. NULL: this one does. */
static const char *tag_of(const char *sql)
{
	static const char *const words[] = {"BEGIN", "COMMIT", "ROLLBACK", "SET", "RESET", "DEALLOCATE", "LISTEN"};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strncasecmp(sql, words[i], strlen(words[i])) == 0)
			return words[i];
	return NULL;
}

/* Do a statement that needs no server behind. 0: the client got an error. */
static int execute_here(struct peer *p, const char *sql, int rule, int binary, int describe)
{
	const struct pgwire_rule *r = rule >= 0 ? &p->o->rules[rule] : NULL;
	struct columns c;
	const char *line;
	char tag[32];
	int rows = 0;

	if (r == NULL && p->state == 'E' && strncasecmp(sql, "rollback", 8) != 0 &&
	    strncasecmp(sql, "commit", 6) != 0) {
		say_error(p, "25P02",
		          "current transaction is aborted, commands ignored until end of transaction block");
		return 0;
	}
	if (r == NULL) {
		const char *word = tag_of(sql);

		if (word == NULL) {
			say_error(p, "42601", "no rule of the scripted peer answers this statement");
			return 0;
		}
		say_done(p, p->state == 'E' && strcmp(word, "COMMIT") == 0 ? "ROLLBACK" : word);
		follow_transaction(p, sql);
		return 1;
	}
	if (r->action == PGWIRE_COMMAND) {
		say_done(p, r->text);
		return 1;
	}
	if (describe)
		say_columns(p, r->text, binary);
	line = columns_of(r->text, &c);
	for (; *line != 0; rows++)
		line = say_row(p, &c, line, binary);
	if (r->action == PGWIRE_STREAM) {
		stream(p, &c, binary, cursor_of(sql));
		return 0;
	}
	(void)snprintf(tag, sizeof tag, "SELECT %d", rows);
	say_done(p, tag);
	return 1;
}

/* ---- the server behind ---- */

static struct due *due_at(struct peer *p, size_t i)
{
	return &p->due[(p->due_first + i) % ASKED];
}

static void forward(struct peer *p, char type, const struct buffer *body, int swallow)
{
	say(p, p->up, type, body);
	if (p->skipping && type != 'S')
		return; /* it is not going to answer */
	if (strchr("PBDECSQ", type) == NULL)
		return;
	if (p->due_count == ASKED)
		_exit(13);
	*due_at(p, p->due_count++) = (struct due){.kind = type, .swallow = swallow};
}

static void pop(struct peer *p)
{
	if (p->due_count == 0)
		return;
	p->due_first = (p->due_first + 1) % ASKED;
	p->due_count--;
}

/* Pass on one message of the server's. */
static void answer(struct peer *p)
{
	static struct buffer body;
	char type = hear(p, p->up, 1, &body);
	char kind = p->due_count > 0 ? due_at(p, 0)->kind : 0;
	int swallow = p->due_count > 0 && due_at(p, 0)->swallow;

	switch (type) {
	case '1':
	case '2':
	case '3':
		pop(p);
		break;
	case 'T':
	case 'n':
		swallow &= kind != 'D';
		if (kind == 'D')
			pop(p);
		break;
	case 'C':
	case 'I':
	case 's':
		if (kind == 'E')
			pop(p);
		else if (p->due_count > 0)
			due_at(p, 0)->swallow = 0; /* of a query's commands the first */
		break;
	case 'D':
		break;
	case 'E':
		swallow = 0;
		if (kind == 'Q')
			break;
		while (p->due_count > 0 && due_at(p, 0)->kind != 'S')
			pop(p);
		p->skipping = p->due_count == 0;
		break;
	case 'Z':
		swallow = 0;
		pop(p);
		break;
	default:
		swallow = 0;
	}
	if (!swallow)
		say(p, p->client, type, &body);
}

/* Everything asked so far has been answered. */
static void drain(struct peer *p)
{
	if (p->up < 0 || p->due_count == 0)
		return;
	if (due_at(p, p->due_count - 1)->kind != 'S' && due_at(p, p->due_count - 1)->kind != 'Q')
		say(p, p->up, 'H', &(struct buffer){.data = NULL});
	while (p->due_count > 0)
		answer(p);
}

static void raise_text(const struct pgwire_rule *r, struct buffer *ret)
{
	char sql[512];

	(void)snprintf(sql, sizeof sql, "DO $do$BEGIN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = '%s'; END$do$",
	               r->sqlstate, r->text);
	add(ret, sql, strlen(sql));
}

/* A statement of our own for the server behind, with the extended protocol. */
static void do_there(struct peer *p, const struct buffer *text, int swallow)
{
	struct buffer b = {.data = NULL};

	add(&b, "", 1);
	add(&b, text->data, text->used);
	add(&b, "", 1);
	add16(&b, 0);
	forward(p, 'P', &b, 1);
	b.used = 0;
	add(&b, "\0", 2);
	add16(&b, 0);
	add16(&b, 0);
	add16(&b, 0);
	forward(p, 'B', &b, 1);
	b.used = 0;
	add(&b, "", 1);
	add32(&b, 0);
	forward(p, 'E', &b, swallow);
	free(b.data);
}

/* The error comes from the server behind, so that its transaction is what the client believes it to
 * be. */
static void raise_there(struct peer *p, const struct pgwire_rule *r)
{
	struct buffer b = {.data = NULL};

	if (r->action == PGWIRE_UNDO_THEN_ERROR) {
		add(&b, "ROLLBACK", 8);
		do_there(p, &b, 1);
		b.used = 0;
	}
	raise_text(r, &b);
	do_there(p, &b, 0);
	free(b.data);
}

/* ---- one connection ---- */

static struct named *find(struct named *table, const char *name)
{
	for (int i = 0; i < STATEMENTS; i++)
		if (table[i].sql != NULL && strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

static struct named *put(struct named *table, const char *name, const char *sql, int rule)
{
	struct named *n = find(table, name);

	for (int i = 0; n == NULL && i < STATEMENTS; i++)
		if (table[i].sql == NULL)
			n = &table[i];
	if (n == NULL)
		_exit(14);
	free(n->sql);
	(void)snprintf(n->name, sizeof n->name, "%s", name);
	n->sql = strdup(sql);
	n->rule = rule;
	n->binary = 0;
	return n;
}

static void fail_here(struct peer *p, const char *sqlstate, const char *text)
{
	drain(p);
	say_error(p, sqlstate, text);
	p->skipping = 1;
}

static void on_parse(struct peer *p, const struct buffer *m)
{
	const char *name = (const char *)m->data, *sql = name + strlen(name) + 1, *types = sql + strlen(sql) + 1;
	char *text = rewrite(p, sql);
	int rule = rule_for(p, text, 0);

	note(p, "parse: ", sql);
	(void)put(p->statements, name, text, rule);
	if (rule >= 0 || p->up < 0) {
		drain(p);
		if (!p->skipping)
			say_empty(p, '1');
	} else {
		struct buffer b = {.data = NULL};

		add_text(&b, name);
		add_text(&b, text);
		add(&b, types, m->used - (size_t)(types - name));
		forward(p, 'P', &b, 0);
		free(b.data);
	}
	free(text);
}

static int read16(const uint8_t *at)
{
	return (int16_t)(at[0] << 8 | at[1]);
}

static void on_bind(struct peer *p, const struct buffer *m)
{
	const char *portal = (const char *)m->data, *name = portal + strlen(portal) + 1;
	const uint8_t *at = (const uint8_t *)name + strlen(name) + 1;
	struct named *s = find(p->statements, name), *n;
	int formats, values;

	if (s == NULL) {
		if (p->up >= 0)
			forward(p, 'B', m, 0);
		else
			fail_here(p, "26000", "prepared statement does not exist");
		return;
	}
	n = put(p->portals, portal, s->sql, s->rule);
	formats = read16(at);
	at += 2 + 2 * formats;
	values = read16(at);
	at += 2;
	for (int i = 0; i < values; i++) {
		uint32_t length;

		memcpy(&length, at, 4);
		length = ntohl(length);
		at += 4 + (length == UINT32_MAX ? 0 : length);
	}
	n->binary = read16(at) > 0 && read16(at + 2) == 1;
	if (s->rule >= 0 || p->up < 0) {
		drain(p);
		if (!p->skipping)
			say_empty(p, '2');
	} else {
		forward(p, 'B', m, 0);
	}
}

static void on_describe(struct peer *p, const struct buffer *m)
{
	const char *name = (const char *)m->data + 1;
	struct named *n = find(m->data[0] == 'S' ? p->statements : p->portals, name);
	const struct pgwire_rule *r = n != NULL && n->rule >= 0 ? &p->o->rules[n->rule] : NULL;

	if (r == NULL && p->up >= 0) {
		forward(p, 'D', m, 0);
		return;
	}
	drain(p);
	if (p->skipping)
		return;
	if (m->data[0] == 'S') {
		struct buffer b = {.data = NULL};

		add16(&b, 0);
		say(p, p->client, 't', &b);
		free(b.data);
	}
	if (r != NULL && r->action != PGWIRE_COMMAND)
		say_columns(p, r->text, n->binary);
	else
		say_empty(p, 'n');
}

/* What a rule does instead of, or before, the statement. 0: the statement is to be done. */
static int interfere(struct peer *p, char type, const struct buffer *m, const char *sql)
{
	int rule = p->skipping ? -1 : rule_for(p, sql, 1);
	const struct pgwire_rule *r = rule >= 0 ? &p->o->rules[rule] : NULL;
	struct buffer b = {.data = NULL};

	if (r == NULL)
		return 0;
	if (r->action == PGWIRE_HANG || r->action == PGWIRE_CLOSE) {
		drain(p);
		if (r->action == PGWIRE_HANG)
			hang(p);
		over(p);
	}
	if (p->up < 0) {
		say_error(p, r->sqlstate, r->text);
		if (type == 'Q')
			say_ready(p);
		else
			p->skipping = 1;
		return 1;
	}
	if (type == 'E') {
		if (r->action == PGWIRE_DO_THEN_ERROR)
			forward(p, 'E', m, 1);
		raise_there(p, r);
		return 1;
	}
	if (r->action == PGWIRE_DO_THEN_ERROR)
		add(&b, sql, strlen(sql));
	else if (r->action == PGWIRE_UNDO_THEN_ERROR)
		add(&b, "ROLLBACK", 8);
	if (b.used > 0)
		add(&b, ";", 1);
	raise_text(r, &b);
	add(&b, "", 1);
	forward(p, 'Q', &b, r->action != PGWIRE_ERROR);
	free(b.data);
	return 1;
}

static void on_execute(struct peer *p, const struct buffer *m)
{
	struct named *n = find(p->portals, (const char *)m->data);

	note(p, "execute: ", n != NULL ? n->sql : "?");
	if (n == NULL) {
		if (p->up >= 0)
			forward(p, 'E', m, 0);
		else
			fail_here(p, "34000", "portal does not exist");
		return;
	}
	if (interfere(p, 'E', m, n->sql))
		return;
	if (n->rule < 0 && p->up >= 0) {
		forward(p, 'E', m, 0);
		return;
	}
	drain(p);
	if (!p->skipping && !execute_here(p, n->sql, n->rule, n->binary, 0))
		p->skipping = 1;
}

static void on_query(struct peer *p, const struct buffer *m)
{
	char *text = rewrite(p, (const char *)m->data);
	int rule;

	note(p, "query: ", (const char *)m->data);
	drain(p);
	if (!interfere(p, 'Q', m, text)) {
		rule = rule_for(p, text, 0);
		if (rule < 0 && p->up >= 0) {
			struct buffer b = {.data = NULL};

			add_text(&b, text);
			forward(p, 'Q', &b, 0);
			free(b.data);
		} else {
			(void)execute_here(p, text, rule, 0, 1);
			say_ready(p);
		}
	}
	free(text);
}

static void on_sync(struct peer *p, const struct buffer *m)
{
	if (p->up >= 0) {
		forward(p, 'S', m, 0);
		p->skipping = 0;
		return;
	}
	p->skipping = 0;
	say_ready(p);
}

static void on_message(struct peer *p, char type, const struct buffer *m)
{
	if (type == 'X')
		over(p);
	if (type == 'S')
		on_sync(p, m);
	else if (type == 'Q')
		on_query(p, m);
	else if (p->skipping && p->up < 0)
		return;
	else if (type == 'P')
		on_parse(p, m);
	else if (type == 'B')
		on_bind(p, m);
	else if (type == 'D')
		on_describe(p, m);
	else if (type == 'E')
		on_execute(p, m);
	else if (p->up >= 0)
		forward(p, type, m, 0);
	else if (type == 'C')
		say_empty(p, '3');
}

static void say_parameter(struct peer *p, const char *name, const char *value)
{
	struct buffer b = {.data = NULL};

	add_text(&b, name);
	add_text(&b, value);
	say(p, p->client, 'S', &b);
	free(b.data);
}

/* Returns 0 when the client may not come in. */
static int log_in(struct peer *p)
{
	struct buffer b = {.data = NULL}, got = {.data = NULL};
	int welcome = 1;

	if (p->o->login == PGWIRE_REFUSE_SCRAM) {
		add32(&b, 10);
		add_text(&b, "SCRAM-SHA-256");
		add(&b, "", 1);
		say(p, p->client, 'R', &b);
		(void)hear(p, p->client, 1, &got);
		welcome = 0;
	} else if (p->o->login == PGWIRE_PASSWORD) {
		add32(&b, 3);
		say(p, p->client, 'R', &b);
		welcome = hear(p, p->client, 1, &got) == 'p' && strcmp((const char *)got.data, p->o->password) == 0;
	}
	if (!welcome)
		say_error(p, "28P01", "password authentication failed");
	free(b.data);
	free(got.data);
	return welcome;
}

static void greet_here(struct peer *p)
{
	struct buffer b = {.data = NULL};

	add32(&b, 0);
	say(p, p->client, 'R', &b);
	say_parameter(p, "server_version", p->o->server_version != NULL ? p->o->server_version : "15.0");
	say_parameter(p, "server_encoding", "UTF8");
	say_parameter(p, "client_encoding", "UTF8");
	say_parameter(p, "DateStyle", "ISO, MDY");
	say_parameter(p, "integer_datetimes", "on");
	say_parameter(p, "standard_conforming_strings", "on");
	if (p->o->crdb_version != NULL)
		say_parameter(p, "crdb_version", p->o->crdb_version);
	b.used = 0;
	add32(&b, getpid());
	add32(&b, 1);
	say(p, p->client, 'K', &b);
	say_ready(p);
	free(b.data);
}

/* The greeting of the server behind, with what the options say put in its place. */
static void greet_there(struct peer *p, const struct buffer *startup)
{
	struct buffer m = {.data = NULL};
	char type;

	say(p, p->up, 0, startup);
	do {
		type = hear(p, p->up, 1, &m);
		if (type == 'Z' && p->o->crdb_version != NULL)
			say_parameter(p, "crdb_version", p->o->crdb_version);
		if (type == 'S' && strcmp((const char *)m.data, "server_version") == 0 && p->o->server_version != NULL)
			say_parameter(p, "server_version", p->o->server_version);
		else
			say(p, p->client, type, &m);
	} while (type != 'Z');
	free(m.data);
}

static int connect_up(const struct pgwire_options *o)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof a.sun_path, "%.80s/.s.PGSQL.%d", o->upstream_host, o->upstream_port);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	_exit(1);
}

__attribute__((noreturn)) static void serve(struct peer *p)
{
	struct buffer m = {.data = NULL};
	uint32_t code;

	for (;;) {
		(void)hear(p, p->client, 0, &m);
		memcpy(&code, m.data, 4);
		code = ntohl(code);
		if (code == 80877102 && p->o->upstream_host != NULL) { /* cancel */
			p->up = connect_up(p->o);
			say(p, p->up, 0, &m);
			over(p);
		}
		if (code != 80877103 && code != 80877104)
			break;
		write_all(p, p->client, "N", 1);
	}
	if (code != 196608 || !log_in(p))
		over(p);
	if (p->o->upstream_host != NULL) {
		p->up = connect_up(p->o);
		greet_there(p, &m);
	} else {
		greet_here(p);
	}
	for (;;) {
		struct pollfd fds[2] = {{.fd = p->client, .events = POLLIN}, {.fd = p->up, .events = POLLIN}};

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents != 0)
			answer(p);
		else if (fds[0].revents != 0)
			on_message(p, hear(p, p->client, 1, &m), &m);
	}
}

__attribute__((noreturn)) static void accept_all(const struct pgwire_options *o, struct pgwire_page *page,
                                                 int listen_fd)
{
	(void)signal(SIGCHLD, SIG_IGN);
	if (listen_fd > 3)
		(void)close_range(3, (unsigned)listen_fd - 1, 0);
	(void)close_range((unsigned)listen_fd + 1, ~0U, 0);
	for (;;) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		pid_t pid;

		if (fd < 0)
			continue;
		atomic_fetch_add(&page->connections, 1);
		pid = run_fork();
		if (pid == 0) {
			struct peer *p = calloc(1, sizeof *p);

			(void)close(listen_fd);
			if (p == NULL)
				_exit(12);
			*p = (struct peer){.o = o, .page = page, .client = fd, .up = -1, .state = 'I'};
			serve(p);
		}
		(void)close(fd);
	}
}

/* ---- the test's side ---- */

int pgwire_start(struct pgwire *w, const struct pgwire_options *options)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = -1;

	memset(w, 0, sizeof *w);
	w->port = 5432;
	w->page = mmap(NULL, sizeof *w->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w->page == MAP_FAILED)
		w->page = NULL;
	if (w->page == NULL || options->count > PGWIRE_RULES_MAX || !scratch_dir("peer", w->host))
		goto failed;
	(void)chmod(w->host, 0755);
	for (size_t i = 0; i < options->count; i++)
		atomic_store(&w->page->left[i], options->rules[i].times);
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%.80s/.s.PGSQL.%d", w->host, w->port);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 64) != 0)
		goto failed;
	(void)chmod(a.sun_path, 0777);
	w->pid = run_fork();
	if (w->pid == 0)
		accept_all(options, w->page, fd);
	(void)close(fd);
	return w->pid > 0 ? 0 : -1;
failed:
	perror("scripted peer");
	if (fd >= 0)
		(void)close(fd);
	pgwire_end(w);
	return -1;
}

void pgwire_end(struct pgwire *w)
{
	char path[96];

	if (w->pid > 0) {
		(void)kill(w->pid, SIGKILL);
		(void)run_reap(w->pid);
	}
	if (w->page != NULL)
		(void)munmap(w->page, sizeof *w->page);
	if (w->host[0] == '/') {
		(void)snprintf(path, sizeof path, "%s/.s.PGSQL.%d", w->host, w->port);
		(void)unlink(path);
		(void)rmdir(w->host);
	}
	memset(w, 0, sizeof *w);
}

void pgwire_arm(struct pgwire *w, size_t rule, uint32_t times)
{
	atomic_store(&w->page->left[rule], times);
}

uint64_t pgwire_hits(const struct pgwire *w, size_t rule)
{
	return atomic_load(&w->page->hits[rule]);
}

uint64_t pgwire_connections(const struct pgwire *w)
{
	return atomic_load(&w->page->connections);
}

const char *pgwire_log(const struct pgwire *w)
{
	return w->page->log;
}

uint64_t pgwire_asked(const struct pgwire *w, const char *part)
{
	uint64_t count = 0;
	const char *line = w->page->log;

	while (*line != 0) {
		const char *end = strchrnul(line, '\n');

		if (*line != 'p' && memmem(line, (size_t)(end - line), part, strlen(part)) != NULL)
			count++;
		line = *end != 0 ? end + 1 : end;
	}
	return count;
}

void pgwire_emit(struct pgwire *w, const char *row)
{
	pgwire_emit_at(w, 0, row);
}

void pgwire_emit_at(struct pgwire *w, uint64_t time_ns, const char *row)
{
	size_t at = atomic_load(&w->page->emitted), room = EMIT_BYTES - at;
	int bytes = snprintf(w->page->rows + at, room, "%llu %s\n", (unsigned long long)time_ns, row);

	if (bytes > 0 && (size_t)bytes < room)
		atomic_store(&w->page->emitted, at + (size_t)bytes);
	else
		(void)fprintf(stderr, "scripted peer: no room for more rows\n");
}

uint64_t pgwire_streams(const struct pgwire *w)
{
	return atomic_load(&w->page->streams);
}

void pgwire_end_streams(struct pgwire *w, const char *sqlstate, const char *text)
{
	(void)snprintf(w->page->end_sqlstate, sizeof w->page->end_sqlstate, "%s", sqlstate != NULL ? sqlstate : "");
	(void)snprintf(w->page->end_text, sizeof w->page->end_text, "%s", text != NULL ? text : "");
	atomic_fetch_add(&w->page->streams_ended, 1);
}
