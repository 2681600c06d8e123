/* SPDX-License-Identifier: Apache-2.0
 * A peer that speaks PostgreSQL's protocol (version 3) and answers by a table: rows, errors,
 * silence, a closed connection. What no rule catches goes, where there is one, to a real server
 * behind it: so it plays an engine that we have no server of, CockroachDB, well enough for our
 * whole engine to work against it. Each connection is served by a child of its own. */
#ifndef SHMETA_TESTS_SUPPORT_PGWIRE_H
#define SHMETA_TESTS_SUPPORT_PGWIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum pgwire_action {
	PGWIRE_ROWS,            /* text: "name:type name:type\n" then a line for each row, cells
                                 * divided by '|', \N is NULL. Types: text, int8, int4, bool, bytea;
                                 * binary where the client asks for it */
	PGWIRE_COMMAND,         /* text: the command's tag */
	PGWIRE_ERROR,           /* sqlstate and text. In a transaction it is aborted as any error
                               * does */
	PGWIRE_DO_THEN_ERROR,   /* the server behind does it, the client gets the error */
	PGWIRE_UNDO_THEN_ERROR, /* the server behind rolls back: the transaction is over, as after a
                                 * COMMIT of CockroachDB's that fails */
	PGWIRE_REWRITE,         /* the pattern, wherever it stands in a statement, becomes text; and
                                 * on to the other rules */
	PGWIRE_STREAM,          /* text as for ROWS; the statement then never ends: rows come from
                         * pgwire_emit(), those with a time only where it is later than the
                         * statement's cursor = 'TIME', if it has one */
	PGWIRE_HANG,            /* nothing more is answered on this connection */
	PGWIRE_CLOSE            /* the connection ends at once */
};

enum { PGWIRE_ALWAYS = 0, PGWIRE_OFF = UINT32_MAX };

struct pgwire_rule {
	const char *pattern; /* in the statement's text, whatever the case; the first rule that
                              * holds is used */
	enum pgwire_action action;
	const char *text;
	const char *sqlstate;
	uint32_t times;                 /* how often, then the rule is off (errors, hang, close: by
                                         * executions) */
	const char *behind;             /* only in a transaction whose BEGIN contains this; NULL:
                                         * anywhere */
	bool (*holds)(const char *sql); /* only of statements of which this is true; NULL: of all */
};

enum pgwire_login { PGWIRE_TRUST, PGWIRE_PASSWORD, PGWIRE_REFUSE_SCRAM };

struct pgwire_options {
	const struct pgwire_rule *rules; /* at most PGWIRE_RULES_MAX; must outlive the peer */
	size_t count;
	enum pgwire_login login;
	const char *password;       /* PGWIRE_PASSWORD: sent in the clear */
	const char *server_version; /* NULL: the server's behind, or 15.0 */
	const char *crdb_version;   /* NULL: no such parameter */
	const char *upstream_host;  /* directory of a Unix socket; NULL: no server behind */
	int upstream_port;
};

enum { PGWIRE_RULES_MAX = 64 };

struct pgwire_page;
struct pgwire {
	char host[64]; /* the directory of its Unix socket */
	int port;
	pid_t pid;
	struct pgwire_page *page;
};

/* 0, or -1 after a sentence on stderr. */
int pgwire_start(struct pgwire *w, const struct pgwire_options *options);
/* Ends the acceptor and all connections. Idempotent. */
void pgwire_end(struct pgwire *w);

/* From now on so often (PGWIRE_ALWAYS, PGWIRE_OFF, or a number). rule: its place in the table. */
void pgwire_arm(struct pgwire *w, size_t rule, uint32_t times);
/* How often it was used. */
uint64_t pgwire_hits(const struct pgwire *w, size_t rule);
uint64_t pgwire_connections(const struct pgwire *w);
/* How many executed statements contained this (case matters). */
uint64_t pgwire_asked(const struct pgwire *w, const char *part);
/* Lines "parse: ...", "execute: ...", "query: ...", in order; terminated. */
const char *pgwire_log(const struct pgwire *w);
/* A row for every STREAM now and later, in the form of ROWS. */
void pgwire_emit(struct pgwire *w, const char *row);
/* The same, of this time. */
void pgwire_emit_at(struct pgwire *w, uint64_t time_ns, const char *row);
/* The streams that are open: how many, and each ends with this error; sqlstate NULL: with its
 * connection. */
uint64_t pgwire_streams(const struct pgwire *w);
void pgwire_end_streams(struct pgwire *w, const char *sqlstate, const char *text);

#endif
