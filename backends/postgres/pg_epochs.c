/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: where an epoch ends. */
#include "backends/postgres/pg_epochs.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_reading.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"

enum shmeta_status pg_epoch_end(void *data, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                struct backend_error *err)
{
	struct pg_state *state = data;
	struct leader_epoch_facts facts;
	struct pg_params params;
	PGresult *result = NULL;
	enum shmeta_status status;

	status = pg_ensure_told(state, "reading the epochs of", err);
	if (status != SHMETA_OK)
		return status;
	if (!state->shape.epochs_readable)
		return backend_fail(
			err, SHMETA_ERR_UNSUPPORTED,
			"%s: the database keeps no leader epochs: it has no table shmeta_leader_epochs, or this "
			"role has no right to it",
			state->dialect->engine);
	if (!pg_tenant_possible(state, ask->tenant))
		return backend_fail(err, SHMETA_ERR_NOT_TENANT, "%s: the database has no such tenant",
		                    state->dialect->engine);
	pg_params_clear(&params);
	pg_param_text(&params, ask->tenant);
	pg_param_text(&params, ask->topic);
	pg_param_int(&params, ask->partition_id);
	pg_param_int(&params, ask->epoch < INT64_MAX ? (int64_t)ask->epoch : INT64_MAX);
	status = pg_query(state, &state->primary, PG_EPOCH_END, &params, &result, err);
	if (status == SHMETA_OK) {
		facts = (struct leader_epoch_facts){.topic = pg_int(result, 0, 0) != 0,
		                                    .partition = !PQgetisnull(result, 0, 1),
		                                    .high_watermark = (uint64_t)pg_int(result, 0, 1),
		                                    .current = (uint64_t)pg_int(result, 0, 2),
		                                    .recorded = !PQgetisnull(result, 0, 3),
		                                    .epoch = (uint64_t)pg_int(result, 0, 3),
		                                    .followed = !PQgetisnull(result, 0, 4),
		                                    .next_start = (uint64_t)pg_int(result, 0, 4)};
		state->counters.rows++;
		status = leader_epoch_judge(ask, &facts, ret, err);
	} else if (pg_failed_with(&state->primary, "22P05")) {
		/* The database's encoding has no such name, so it has no such topic: nothing but
		 * numbers comes back. */
		facts = (struct leader_epoch_facts){.topic = false};
		status = leader_epoch_judge(ask, &facts, ret, err);
	} else {
		status = pg_question_failed(&state->primary, status, err);
	}
	PQclear(result);
	return status;
}

/* A column whose collation takes different texts for equal is asked by its bytes as well. */
#define NAMED(column) column " = $2::text{n: AND " column " COLLATE \"C\" = $2::text}"
#define OF_TENANT(alias) "{o: AND " alias ".organization_id = $1::text{u:::uuid}}"
#define KEPT "e.tenant = $1::text AND e.topic = $2::text AND e.partition_id = $3::int8"
static const struct pg_text texts[] = {
	{PG_EPOCH_END,
         "SELECT {!w:0}{w:((SELECT true FROM topics t WHERE " NAMED("t.name") OF_TENANT(
		 "t") " LIMIT 1) IS NOT NULL)::int, (SELECT CASE WHEN p.high_watermark < "
                      "9223372036854775808 AND p.high_watermark::numeric % 1 = 0 THEN p.high_watermark::int8 ELSE -1 END FROM partitions p WHERE " NAMED(
			      "p.topic") " AND "
                                         "p.partition_id = $3::int8" OF_TENANT("p") " LIMIT 1), greatest((SELECT max(l.epoch::int8) FROM partition_leases l WHERE " NAMED(
						 "l.topic") " AND l.partition_id = $3::int8{l: AND l.organization_id = $1::text{u:::uuid}}), (SELECT "
                                                            "max(e.epoch) FROM shmeta_lease_epochs e WHERE " KEPT
                                                            "), 0), (SELECT max(e.epoch) FROM shmeta_leader_epochs e WHERE " KEPT
                                                            " AND e.epoch <= $4::int8), (SELECT e.start FROM shmeta_leader_epochs e WHERE " KEPT
                                                            " AND e.epoch > $4::int8 ORDER BY e.epoch LIMIT 1)}"},
};

bool pg_epoch_texts(struct pg_state *state)
{
	return pg_texts_of(state, texts, sizeof texts / sizeof texts[0]);
}
