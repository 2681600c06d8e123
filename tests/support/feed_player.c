/* SPDX-License-Identifier: Apache-2.0
 * See feed_player.h. */
#include "tests/support/feed_player.h"

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"

enum { TURN_MS = 2, RESOLVED_EVERY = 50 /* turns */ };

struct feed_player_page {
	_Atomic int mode, seen; /* seen: of the turn that has ended last */
};

void feed_player_install(PGconn *sql)
{
	pg_cluster_sql(
		sql, "CREATE SCHEMA IF NOT EXISTS played;"
		     "CREATE TABLE played.log(seq bigserial PRIMARY KEY, line text NOT NULL);"
		     "CREATE FUNCTION played.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
		     "INSERT INTO played.log(line) VALUES (TG_TABLE_NAME || '|[]|' || json_build_object("
		     "'after', CASE TG_OP WHEN 'DELETE' THEN NULL ELSE to_json(NEW) END, "
		     "'before', CASE TG_OP WHEN 'INSERT' THEN NULL ELSE to_json(OLD) END)::text); RETURN NULL; END$$;");
	pg_cluster_sql(sql,
	               "DO $$DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['topics', 'partitions', 'segments', "
	               "'consumer_groups', 'consumer_offsets', 'agents', 'partition_leases'] LOOP EXECUTE format("
	               "'CREATE TRIGGER played AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION "
	               "played.note()', t); END LOOP; END$$");
}

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* What has been committed before this call, and not been taken by a former one. 0: the connection
 * has gone. */
static int take(PGconn *sql, struct pgwire *w, uint64_t time_ns, int say)
{
	PGresult *rows = PQexec(sql, "WITH gone AS (DELETE FROM played.log RETURNING seq, line) "
	                             "SELECT line FROM gone ORDER BY seq");
	int ok = PQresultStatus(rows) == PGRES_TUPLES_OK;

	for (int i = 0; say && i < PQntuples(rows); i++)
		pgwire_emit_at(w, time_ns, PQgetvalue(rows, i, 0));
	PQclear(rows);
	return ok;
}

__attribute__((noreturn)) static void play(struct feed_player_page *page, struct pgwire *w, PGconn *sql,
                                           uint32_t lag_ms)
{
	char row[100];

	pg_cluster_sql(sql, "SET default_transaction_isolation = 'read committed'");
	for (uint64_t turn = 0;; turn++) {
		int mode = atomic_load(&page->mode);
		uint64_t time = now_ns(), resolved = time - lag_ms * UINT64_C(1000000);

		if (mode != FEED_STANDS && !take(sql, w, time, mode == FEED_PLAYS))
			_exit(0);
		if (mode != FEED_STANDS && turn % RESOLVED_EVERY == 0) {
			(void)snprintf(row, sizeof row, "\\N|\\N|{\"resolved\": \"%" PRIu64 ".0000000000\"}", resolved);
			pgwire_emit_at(w, resolved, row);
		}
		atomic_store(&page->seen, mode);
		(void)usleep(TURN_MS * 1000);
	}
}

int feed_player_start(struct feed_player *p, struct pgwire *w, const struct pg_cluster *server, const char *database,
                      uint32_t lag_ms)
{
	p->page = mmap(NULL, sizeof *p->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->page == MAP_FAILED)
		return -1;
	p->pid = run_fork();
	if (p->pid == 0)
		play(p->page, w, pg_cluster_connect(server, database), lag_ms);
	return p->pid > 0 ? 0 : -1;
}

void feed_player_mode(struct feed_player *p, enum feed_mode mode)
{
	atomic_store(&p->page->mode, (int)mode);
	while (atomic_load(&p->page->seen) != (int)mode)
		(void)usleep(1000);
}

void feed_player_end(struct feed_player *p)
{
	if (p->pid > 0) {
		(void)kill(p->pid, SIGKILL);
		(void)run_reap(p->pid);
	}
	if (p->page != NULL)
		(void)munmap(p->page, sizeof *p->page);
	memset(p, 0, sizeof *p);
}
