/* SPDX-License-Identifier: Apache-2.0
 * The scripted peer speaks the protocol as libpq expects it, and does what its table says. Without
 * a server behind. */
#include <criterion/criterion.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/pgwire.h"
#include "tests/support/run_daemon.h"

TestSuite(pgwire, .timeout = 30);

static const struct pgwire_rule rules[] = {
	{.pattern = "version()", .action = PGWIRE_ROWS, .text = "version:text\nCockroachDB CCL v23.2.4"},
	{.pattern = "from numbers",
         .action = PGWIRE_ROWS,
         .text = "n:int8 small:int4 yes:bool t:text\n1|2|t|a|b\n-5|-6|f|\\N"},
	{.pattern = "xid8", .action = PGWIRE_ERROR, .sqlstate = "42704", .text = "type xid8 does not exist"},
	{.pattern = "commit",
         .action = PGWIRE_ERROR,
         .sqlstate = "40001",
         .text = "restart transaction",
         .times = PGWIRE_OFF},
	{.pattern = "changefeed", .action = PGWIRE_STREAM, .text = "table:text key:text value:text"},
	{.pattern = "silence", .action = PGWIRE_HANG},
	{.pattern = "die", .action = PGWIRE_CLOSE},
	{.pattern = "insert", .action = PGWIRE_COMMAND, .text = "INSERT 0 3"},
};
enum { VERSION, NUMBERS, XID8, COMMIT, CHANGEFEED, SILENCE, DIE, INSERT };

static struct pgwire_options options = {.rules = rules, .count = sizeof rules / sizeof rules[0]};
static struct pgwire w;
static PGconn *pg;

static PGconn *connect_with(const char *more)
{
	char conninfo[256];

	(void)snprintf(conninfo, sizeof conninfo, "host=%s port=%d user=me dbname=d sslmode=prefer %s", w.host, w.port,
	               more);
	return PQconnectdb(conninfo);
}

static void setup(void)
{
	cr_assert_eq(pgwire_start(&w, &options), 0);
	pg = connect_with("");
	cr_assert_eq(PQstatus(pg), CONNECTION_OK, "%s", PQerrorMessage(pg));
}

static void end(void)
{
	PQfinish(pg);
	pgwire_end(&w);
}

static void expect(const char *sql, ExecStatusType status, const char *sqlstate)
{
	PGresult *r = PQexec(pg, sql);
	const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	cr_assert_eq(PQresultStatus(r), status, "%s: %s", sql, PQresultErrorMessage(r));
	cr_assert_str_eq(code != NULL ? code : "", sqlstate);
	PQclear(r);
}

Test(pgwire, rows_come_as_text_and_as_binary, .init = setup, .fini = end)
{
	PGresult *r = PQexec(pg, "SELECT * FROM numbers");
	uint64_t wide;
	uint32_t narrow;

	cr_assert_eq(PQntuples(r), 2);
	cr_assert_str_eq(PQgetvalue(r, 0, 0), "1");
	cr_assert_str_eq(PQgetvalue(r, 0, 3), "a|b");
	cr_assert(PQgetisnull(r, 1, 3));
	PQclear(r);
	r = PQexecParams(pg, "SELECT * FROM numbers", 0, NULL, NULL, NULL, NULL, 1);
	cr_assert_eq(PQntuples(r), 2, "%s", PQresultErrorMessage(r));
	cr_assert_eq(PQgetlength(r, 1, 0), 8);
	memcpy(&wide, PQgetvalue(r, 1, 0), 8);
	cr_assert_eq((int64_t)be64toh(wide), -5);
	memcpy(&narrow, PQgetvalue(r, 1, 1), 4);
	cr_assert_eq((int32_t)be32toh(narrow), -6);
	cr_assert_eq(PQgetvalue(r, 0, 2)[0], 1);
	cr_assert_eq(PQgetvalue(r, 1, 2)[0], 0);
	PQclear(r);
}

Test(pgwire, a_prepared_statement_is_described_and_run_again, .init = setup, .fini = end)
{
	PGresult *r = PQprepare(pg, "n", "SELECT n FROM numbers WHERE n = $1", 0, NULL);
	const char *values[] = {"1"};

	cr_assert_eq(PQresultStatus(r), PGRES_COMMAND_OK);
	PQclear(r);
	for (int i = 0; i < 2; i++) {
		r = PQexecPrepared(pg, "n", 1, values, NULL, NULL, 0);
		cr_assert_eq(PQntuples(r), 2, "%s", PQresultErrorMessage(r));
		PQclear(r);
	}
	cr_assert_eq(pgwire_asked(&w, "FROM numbers WHERE"), 2);
	cr_assert_eq(pgwire_asked(&w, "parse:"), 0);
}

Test(pgwire, what_follows_a_failure_in_a_pipeline_is_skipped_to_the_sync, .init = setup, .fini = end)
{
	static const char *const sql[] = {"BEGIN", "SELECT xid8", "SELECT n FROM numbers"};
	static const ExecStatusType expected[] = {PGRES_COMMAND_OK, PGRES_FATAL_ERROR, PGRES_PIPELINE_ABORTED};
	PGresult *r;

	cr_assert(PQenterPipelineMode(pg));
	for (int i = 0; i < 3; i++)
		cr_assert(PQsendQueryParams(pg, sql[i], 0, NULL, NULL, NULL, NULL, 1));
	cr_assert(PQpipelineSync(pg));
	for (int i = 0; i < 3; i++) {
		r = PQgetResult(pg);
		cr_assert_eq(PQresultStatus(r), expected[i], "%s", sql[i]);
		PQclear(r);
		cr_assert_null(PQgetResult(pg));
	}
	r = PQgetResult(pg);
	cr_assert_eq(PQresultStatus(r), PGRES_PIPELINE_SYNC);
	PQclear(r);
	cr_assert(PQexitPipelineMode(pg));
	cr_assert_eq(PQtransactionStatus(pg), PQTRANS_INERROR);
	expect("SELECT n FROM nowhere", PGRES_FATAL_ERROR, "25P02");
	expect("ROLLBACK", PGRES_COMMAND_OK, "");
	cr_assert_eq(PQtransactionStatus(pg), PQTRANS_IDLE);
}

Test(pgwire, a_storm_lasts_as_long_as_it_was_armed, .init = setup, .fini = end)
{
	expect("COMMIT", PGRES_COMMAND_OK, "");
	pgwire_arm(&w, COMMIT, 2);
	expect("COMMIT", PGRES_FATAL_ERROR, "40001");
	expect("COMMIT", PGRES_FATAL_ERROR, "40001");
	expect("COMMIT", PGRES_COMMAND_OK, "");
	cr_assert_eq(pgwire_hits(&w, COMMIT), 2);
	expect("INSERT INTO t VALUES (1)", PGRES_COMMAND_OK, "");
}

Test(pgwire, a_stream_gives_rows_as_they_are_emitted, .init = setup, .fini = end)
{
	PGresult *r;

	cr_assert(PQsendQueryParams(pg, "EXPERIMENTAL CHANGEFEED FOR t", 0, NULL, NULL, NULL, NULL, 0));
	cr_assert(PQsetSingleRowMode(pg));
	pgwire_emit(&w, "t|[1]|{\"after\": null}");
	r = PQgetResult(pg);
	cr_assert_eq(PQresultStatus(r), PGRES_SINGLE_TUPLE, "%s", PQresultErrorMessage(r));
	cr_assert_str_eq(PQgetvalue(r, 0, 1), "[1]");
	PQclear(r);
	pgwire_emit(&w, "\\N|\\N|{\"resolved\": \"1.0\"}");
	r = PQgetResult(pg);
	cr_assert_eq(PQresultStatus(r), PGRES_SINGLE_TUPLE);
	cr_assert(PQgetisnull(r, 0, 0));
	PQclear(r);
}

Test(pgwire, a_stream_begins_behind_its_cursor_and_ends_as_it_is_told, .init = setup, .fini = end)
{
	PGresult *r;

	pgwire_emit_at(&w, 100, "t|[1]|at the cursor");
	pgwire_emit_at(&w, 101, "t|[2]|behind it");
	cr_assert(PQsendQuery(pg, "EXPERIMENTAL CHANGEFEED FOR t WITH cursor = '100.0000000000'"));
	cr_assert(PQsetSingleRowMode(pg));
	r = PQgetResult(pg);
	cr_assert_eq(PQresultStatus(r), PGRES_SINGLE_TUPLE, "%s", PQresultErrorMessage(r));
	cr_assert_str_eq(PQgetvalue(r, 0, 2), "behind it");
	PQclear(r);
	cr_expect_eq(pgwire_streams(&w), 1);
	pgwire_end_streams(&w, "XXUUU", "it was truncated");
	r = PQgetResult(pg);
	cr_assert_eq(PQresultStatus(r), PGRES_FATAL_ERROR);
	cr_assert_str_eq(PQresultErrorField(r, PG_DIAG_SQLSTATE), "XXUUU");
	PQclear(r);
	cr_assert_null(PQgetResult(pg));
	cr_expect_eq(pgwire_streams(&w), 0);
	expect("SELECT * FROM numbers", PGRES_TUPLES_OK, "");
	cr_assert(PQsendQuery(pg, "EXPERIMENTAL CHANGEFEED FOR t"));
	cr_assert(PQsetSingleRowMode(pg));
	for (int i = 0; i < 2; i++)
		PQclear(PQgetResult(pg));
	pgwire_end_streams(&w, NULL, NULL);
	r = PQgetResult(pg);
	cr_assert_eq(PQresultStatus(r), PGRES_FATAL_ERROR);
	PQclear(r);
	cr_assert_eq(PQstatus(pg), CONNECTION_BAD);
}

Test(pgwire, a_connection_is_closed_and_another_hangs, .init = setup, .fini = end)
{
	PGconn *other = connect_with("");

	expect("SELECT die", PGRES_FATAL_ERROR, "");
	cr_assert_eq(PQstatus(pg), CONNECTION_BAD);
	cr_assert(PQsendQuery(other, "SELECT silence"));
	(void)usleep(50000);
	cr_assert(PQconsumeInput(other));
	cr_assert(PQisBusy(other));
	PQfinish(other);
	cr_assert_eq(pgwire_connections(&w), 2);
}

Test(pgwire, a_wrong_password_is_refused_and_the_parameters_are_told, .fini = end)
{
	struct pgwire_options mine = {
		.login = PGWIRE_PASSWORD, .password = "secret", .server_version = "13.0.0", .crdb_version = "v23.2.4"};

	cr_assert_eq(pgwire_start(&w, &mine), 0);
	pg = connect_with("password=wrong");
	cr_assert_eq(PQstatus(pg), CONNECTION_BAD);
	PQfinish(pg);
	pg = connect_with("password=secret");
	cr_assert_eq(PQstatus(pg), CONNECTION_OK, "%s", PQerrorMessage(pg));
	cr_assert_eq(PQserverVersion(pg), 130000);
	cr_assert_str_eq(PQparameterStatus(pg, "crdb_version"), "v23.2.4");
}

Test(pgwire, scram_is_offered_and_then_refused, .fini = end)
{
	struct pgwire_options mine = {.login = PGWIRE_REFUSE_SCRAM};

	cr_assert_eq(pgwire_start(&w, &mine), 0);
	pg = connect_with("password=right");
	cr_assert_eq(PQstatus(pg), CONNECTION_BAD);
	cr_assert(strstr(PQerrorMessage(pg), "authentication failed"), "%s", PQerrorMessage(pg));
}
