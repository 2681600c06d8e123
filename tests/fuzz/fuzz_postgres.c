/* SPDX-License-Identifier: Apache-2.0
 * What a PostgreSQL server, or whatever answers in its place, may send: results of any size, types
 * and values, rows one at a time, pieces of a COPY, failures, for each statement that loading,
 * fetching, following, listing and writing send. Each row that is shown is within its limits, each
 * call ends with a status and a sentence, and no load succeeds in which columns were missing.
 *
 * The functions that run statements (pg_wire.c) are replaced by ones that answer from the input;
 * the linker puts them in (Makefile). The first two bytes choose dialect and shape, the third the
 * call. Each answer begins with a byte:
 *   bit 7: the number of columns is in its lowest four bits, otherwise it is right; bit 6: the
 *   statement fails, with one of the SQLSTATEs;
 * then uint8_t number of rows, and of each column uint8_t kind (NULL, int8, small int8, bytes, a
 * name, JSON, int4, decimal digits) with its value. A piece of a COPY: bit 5: raw, uint16_t n, n
 * bytes; bit 4: the end; otherwise tuples of such columns. */
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>

#include "backends/postgres/pg_dialect.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_fetch.h"
#include "backends/postgres/pg_load.h"
#include "backends/postgres/pg_locked.h"
#include "backends/postgres/pg_move.h"
#include "backends/postgres/pg_objects.h"
#include "backends/postgres/pg_reading.h"
#include "backends/postgres/pg_state.h"
#include "backends/postgres/pg_statements.h"
#include "backends/postgres/pg_values.h"
#include "backends/postgres/pg_wire.h"
#include "backends/postgres/pg_write.h"
#include "backends/rows.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/strict_sink.h"

enum { ROWS_MAX = 12, SENT_MAX = 512, PIECE_MAX = 65536, COLUMNS_MAX = 32 };

static struct {
	struct fuzz_input in;
	enum pg_statement sent[SENT_MAX];
	size_t sent_first, sent_count;
	unsigned rows_left; /* of the result that streams */
	bool streaming;
	bool narrow; /* rows of fewer columns were given in a load than were asked for */
	char *piece;
} server;

/* ---- answers ---- */

static int columns_of(enum pg_statement which)
{
	switch (which) {
	case PG_LOAD_TOPIC_KEYS:
	case PG_LOAD_OTHER_KEYS:
		return 2;
	case PG_LOAD_TOPICS:
	case PG_AGENTS:
	case PG_LOAD_STATE:
	case PG_KEY_OFFSETS:
	case PG_KEY_LEASES:
		return 8;
	case PG_KEY_TOPICS:
	case PG_KEY_AGENTS:
		return 9;
	case PG_LOAD_PARTITIONS:
	case PG_FEED_STATE:
	case PG_OBJECTS:
	case PG_X_OBJECTS:
		return 6;
	case PG_KEY_PARTITIONS:
	case PG_KEY_ALL_PARTITIONS:
	case PG_OFFSETS:
	case PG_LEASES:
		return 7;
	case PG_LOAD_SEGMENTS:
		return 14;
	case PG_KEY_SEGMENTS:
	case PG_KEY_ALL_SEGMENTS:
		return 15;
	case PG_GROUPS:
	case PG_X_EPOCHS:
		return 4;
	case PG_KEY_GROUPS:
		return 5;
	default:
		return 12;
	}
}

static const char *const names[] = {"orders", "default", "a", "group", "", "orders-7", "zone", "1:9:3,4"};
static const char *const maps[] = {"{}", "{\"a\":\"b\"}", "{\"a\":1}", "[", "{\"a\":\"\\u0000\"}", "null"};

/* The bytes of one value; -1: NULL. */
static int make_value(char buffer[256])
{
	struct fuzz_input *in = &server.in;
	uint8_t kind = fuzz_u8(in);
	const uint8_t *data;
	const char *text;
	uint64_t wire;
	size_t bytes;

	switch (kind % 8) {
	case 0:
		return -1;
	case 1:
		wire = fuzz_u64(in);
		memcpy(buffer, &wire, sizeof wire);
		return sizeof wire;
	case 2:
		wire = htobe64((uint64_t)(int64_t)(int8_t)fuzz_u8(in));
		memcpy(buffer, &wire, sizeof wire);
		return sizeof wire;
	case 3:
		data = fuzz_bytes(in, fuzz_u8(in), &bytes);
		if (bytes > 0)
			memcpy(buffer, data, bytes);
		return (int)bytes;
	case 4:
		text = names[fuzz_u8(in) % (sizeof names / sizeof names[0])];
		break;
	case 5:
		text = maps[fuzz_u8(in) % (sizeof maps / sizeof maps[0])];
		break;
	case 6:
		fuzz_take(in, buffer, 4);
		return 4;
	default:
		return snprintf(buffer, 256, "%" PRId64 " %d", (int64_t)fuzz_u64(in), fuzz_u8(in));
	}
	memcpy(buffer, text, strlen(text) + 1);
	return (int)strlen(text);
}

static int answer_columns(uint8_t how, enum pg_statement which, unsigned rows)
{
	int columns = (how & 0x80) != 0 ? how & 15 : columns_of(which);

	/* libpq's functions make no rows without columns. */
	server.narrow |= rows > 0 && columns > 0 && columns < columns_of(which) && which != PG_LOAD_STATE;
	return columns;
}

static PGresult *make_result(int columns, unsigned rows)
{
	PGresAttDesc attributes[COLUMNS_MAX] = {{.name = NULL}};
	PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	char buffer[256];

	for (int i = 0; i < columns; i++)
		attributes[i] = (PGresAttDesc){.name = (char *)(uintptr_t) "c", .format = 1};
	require(result != NULL && PQsetResultAttrs(result, columns, attributes));
	for (int row = 0; row < (int)rows; row++)
		for (int column = 0; column < columns; column++) {
			int bytes = make_value(buffer);

			require(PQsetvalue(result, row, column, bytes < 0 ? NULL : buffer, bytes));
		}
	return result;
}

static enum shmeta_status fail(struct pg_conn *conn, struct backend_error *err)
{
	static const char *const codes[] = {"", "22P02", "40001", "55P03", "XX001", "53100", "42P01", "P0001", "23505"};

	(void)snprintf(conn->sqlstate, sizeof conn->sqlstate, "%s",
	               codes[fuzz_u8(&server.in) % (sizeof codes / sizeof codes[0])]);
	return backend_fail(err, SHMETA_ERR_SOURCE, "the server says no");
}

static enum shmeta_status answer(struct pg_conn *conn, enum pg_statement which, PGresult **ret,
                                 struct backend_error *err)
{
	uint8_t how = fuzz_u8(&server.in);
	PGresult *result;
	unsigned rows;

	if (ret != NULL)
		*ret = NULL;
	if ((how & 0x40) != 0)
		return fail(conn, err);
	rows = fuzz_u8(&server.in) % ROWS_MAX;
	result = make_result(answer_columns(how, which, rows), rows);
	if (ret != NULL)
		*ret = result;
	else
		PQclear(result);
	return SHMETA_OK;
}

/* ---- pg_wire.c, played ---- */

enum shmeta_status __wrap_pg_ensure(struct pg_state *state, struct backend_error *err);
enum shmeta_status __wrap_pg_connect(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
enum shmeta_status __wrap_pg_send(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                                  const struct pg_params *params, struct backend_error *err);
enum shmeta_status __wrap_pg_sync(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
enum shmeta_status __wrap_pg_flush(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
enum shmeta_status __wrap_pg_next(struct pg_state *state, struct pg_conn *conn, PGresult **ret,
                                  struct backend_error *err);
enum shmeta_status __wrap_pg_next_row(struct pg_state *state, struct pg_conn *conn, PGresult **ret,
                                      struct backend_error *err);
void __wrap_pg_drop_results(struct pg_state *state, struct pg_conn *conn);
enum shmeta_status __wrap_pg_query(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                                   const struct pg_params *params, PGresult **ret, struct backend_error *err);
enum shmeta_status __wrap_pg_execute(struct pg_state *state, struct pg_conn *conn, const char *sql, PGresult **ret,
                                     struct backend_error *err);
enum shmeta_status __wrap_pg_copy_start(struct pg_state *state, struct pg_conn *conn, const char *sql,
                                        struct backend_error *err);
enum shmeta_status __wrap_pg_copy_read(struct pg_state *state, struct pg_conn *conn, const char **ret,
                                       size_t *ret_bytes, struct backend_error *err);
enum shmeta_status __wrap_pg_transaction(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                                         enum shmeta_status (*body)(void *arg, struct backend_error *err), void *arg,
                                         struct backend_error *err);
enum shmeta_status __wrap_pg_send_commit(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
enum shmeta_status __wrap_pg_send_quiet(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                                        const struct pg_params *params, struct backend_error *err);
enum shmeta_status __wrap_pg_next_is_commit(struct pg_state *state, struct pg_conn *conn, bool *ret,
                                            struct backend_error *err);

enum shmeta_status __wrap_pg_ensure(struct pg_state *state, struct backend_error *err)
{
	(void)err;
	state->attached = true;
	return SHMETA_OK;
}

enum shmeta_status __wrap_pg_connect(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	(void)state;
	(void)conn;
	(void)err;
	return SHMETA_OK;
}

enum shmeta_status __wrap_pg_send(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                                  const struct pg_params *params, struct backend_error *err)
{
	(void)state;
	(void)conn;
	(void)params;
	(void)err;
	require(server.sent_count < SENT_MAX && state->sql[which] != NULL);
	server.sent[(server.sent_first + server.sent_count++) % SENT_MAX] = which;
	return SHMETA_OK;
}

enum shmeta_status __wrap_pg_sync(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	(void)state;
	(void)conn;
	(void)err;
	return SHMETA_OK;
}

enum shmeta_status __wrap_pg_flush(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	return __wrap_pg_sync(state, conn, err);
}

static enum shmeta_status take_sent(enum pg_statement *ret, struct backend_error *err)
{
	if (server.sent_count == 0)
		return backend_fail(err, SHMETA_ERR_SOURCE, "nothing was asked");
	*ret = server.sent[server.sent_first];
	server.sent_first = (server.sent_first + 1) % SENT_MAX;
	server.sent_count--;
	return SHMETA_OK;
}

enum shmeta_status __wrap_pg_next(struct pg_state *state, struct pg_conn *conn, PGresult **ret,
                                  struct backend_error *err)
{
	enum pg_statement which = PG_STATEMENTS;
	enum shmeta_status status = take_sent(&which, err);

	(void)state;
	if (ret != NULL)
		*ret = NULL;
	return status == SHMETA_OK ? answer(conn, which, ret, err) : status;
}

enum shmeta_status __wrap_pg_next_row(struct pg_state *state, struct pg_conn *conn, PGresult **ret,
                                      struct backend_error *err)
{
	static enum pg_statement which;
	uint8_t how;

	(void)state;
	*ret = NULL;
	if (!server.streaming) {
		enum shmeta_status status = take_sent(&which, err);

		if (status != SHMETA_OK)
			return status;
		server.streaming = true;
		server.rows_left = fuzz_u8(&server.in) % ROWS_MAX;
	}
	if (server.rows_left == 0) {
		server.streaming = false;
		return SHMETA_OK;
	}
	server.rows_left--;
	how = fuzz_u8(&server.in);
	if ((how & 0x40) != 0) {
		server.streaming = false;
		return fail(conn, err);
	}
	*ret = make_result(answer_columns(how, which, 1), 1);
	return SHMETA_OK;
}

void __wrap_pg_drop_results(struct pg_state *state, struct pg_conn *conn)
{
	(void)state;
	(void)conn;
	server.sent_count = 0;
	server.streaming = false;
}

enum shmeta_status __wrap_pg_query(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                                   const struct pg_params *params, PGresult **ret, struct backend_error *err)
{
	(void)state;
	(void)params;
	return answer(conn, which, ret, err);
}

enum shmeta_status __wrap_pg_execute(struct pg_state *state, struct pg_conn *conn, const char *sql, PGresult **ret,
                                     struct backend_error *err)
{
	(void)state;
	require(sql[0] != '\0');
	if (ret == NULL)
		return SHMETA_OK;
	return answer(conn, PG_STATEMENTS, ret, err);
}

enum shmeta_status __wrap_pg_copy_start(struct pg_state *state, struct pg_conn *conn, const char *sql,
                                        struct backend_error *err)
{
	server.rows_left = 0;
	return __wrap_pg_execute(state, conn, sql, NULL, err);
}

/* The next piece, of exactly its size. */
static void make_piece(bool first, size_t *ret_bytes)
{
	static const char header[19] = "PGCOPY\n\377\r\n";
	char *buffer = malloc(PIECE_MAX);
	unsigned tuples = fuzz_u8(&server.in) % ROWS_MAX;
	size_t at = 0;

	require(buffer != NULL);
	if (first) {
		memcpy(buffer, header, sizeof header);
		at = sizeof header;
	}
	for (unsigned i = 0; i < tuples; i++) {
		uint8_t how = fuzz_u8(&server.in);
		int columns = answer_columns(how, PG_LOAD_SEGMENTS, 1);
		uint16_t count = htobe16((uint16_t)columns);

		memcpy(buffer + at, &count, sizeof count);
		at += sizeof count;
		for (int column = 0; column < columns; column++) {
			char value[256];
			int bytes = make_value(value);
			uint32_t wire = htobe32((uint32_t)bytes);

			memcpy(buffer + at, &wire, sizeof wire);
			at += sizeof wire;
			if (bytes > 0)
				memcpy(buffer + at, value, (size_t)bytes);
			at += bytes > 0 ? (size_t)bytes : 0;
		}
	}
	server.piece = malloc(at > 0 ? at : 1);
	require(server.piece != NULL);
	memcpy(server.piece, buffer, at);
	free(buffer);
	*ret_bytes = at;
}

enum shmeta_status __wrap_pg_copy_read(struct pg_state *state, struct pg_conn *conn, const char **ret,
                                       size_t *ret_bytes, struct backend_error *err)
{
	bool first = server.rows_left++ == 0;
	uint8_t how = fuzz_u8(&server.in);
	const uint8_t *raw;

	(void)state;
	free(server.piece);
	server.piece = NULL;
	*ret = NULL;
	*ret_bytes = 0;
	if ((how & 0x40) != 0)
		return fail(conn, err);
	if ((how & 0x10) != 0 || (server.in.left == 0 && !first))
		return SHMETA_OK;
	if ((how & 0x20) != 0) {
		raw = fuzz_bytes(&server.in, fuzz_u16(&server.in), ret_bytes);
		server.piece = malloc(*ret_bytes > 0 ? *ret_bytes : 1);
		require(server.piece != NULL);
		if (*ret_bytes > 0)
			memcpy(server.piece, raw, *ret_bytes);
	} else {
		make_piece(first, ret_bytes);
	}
	/* libpq gives no empty pieces. */
	if (*ret_bytes > 0)
		*ret = server.piece;
	return SHMETA_OK;
}

enum shmeta_status __wrap_pg_transaction(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                                         enum shmeta_status (*body)(void *arg, struct backend_error *err), void *arg,
                                         struct backend_error *err)
{
	enum shmeta_status status;

	(void)begin;
	__wrap_pg_drop_results(state, conn);
	conn->given_out = false;
	conn->committed = false;
	conn->sqlstate[0] = '\0';
	status = body(arg, err);
	__wrap_pg_drop_results(state, conn);
	if (status == SHMETA_OK && (fuzz_u8(&server.in) & 0x40) != 0)
		return backend_fail(err, SHMETA_ERR_OUTCOME_UNKNOWN, "the connection was lost in COMMIT");
	conn->committed = status == SHMETA_OK;
	return status;
}

enum shmeta_status __wrap_pg_send_commit(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	return __wrap_pg_sync(state, conn, err);
}

enum shmeta_status __wrap_pg_send_quiet(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                                        const struct pg_params *params, struct backend_error *err)
{
	(void)params;
	require(state->sql[which] != NULL);
	return __wrap_pg_sync(state, conn, err);
}

enum shmeta_status __wrap_pg_next_is_commit(struct pg_state *state, struct pg_conn *conn, bool *ret,
                                            struct backend_error *err)
{
	*ret = false;
	return __wrap_pg_sync(state, conn, err);
}

/* ---- calls ---- */

static void judged(enum shmeta_status status, const struct backend_error *err)
{
	require(status >= 0 || err->text[0] != '\0');
}

static enum shmeta_status on_key(void *arg, const struct backend_key *key)
{
	(void)arg;
	strict_text(key->tenant);
	strict_text(key->topic);
	return SHMETA_OK;
}

static enum shmeta_status on_row(void *arg, const struct backend_row *row)
{
	(void)arg;
	strict_text(row->tenant);
	strict_text(row->topic);
	if (row->kind == BACKEND_ROW_OBJECT)
		strict_text(row->u.object.s3_key);
	return SHMETA_OK;
}

static enum shmeta_status on_object(void *arg, const struct shmeta_object_info *info)
{
	(void)arg;
	strict_text(info->object.s3_bucket);
	strict_text(info->object.s3_key);
	return SHMETA_OK;
}

static void load(struct pg_state *state, bool keys)
{
	struct strict_sink strict = {.ordered = false};
	struct backend_sink sink = strict_sink_of(&strict);
	struct backend_error err = {.text = ""};

	enum shmeta_status status;

	sink.key = keys ? on_key : NULL;
	server.narrow = false;
	status = pg_load(state, &sink, &err);
	judged(status, &err);
	require(status != SHMETA_OK || !server.narrow);
}

static void fetch(struct pg_state *state)
{
	const struct shmeta_str tenant = rows_str(SHMETA_DEFAULT_TENANT), topic = rows_str("orders");
	const struct backend_key keys[] = {
		{.cls = SHMETA_CLASS_TOPIC, .tenant = tenant, .topic = topic, .with_segments = 1},
		{.cls = SHMETA_CLASS_TOPIC, .tenant = tenant, .topic = rows_str("a"), .row_only = 1},
		{.cls = SHMETA_CLASS_PARTITION, .tenant = tenant, .topic = topic, .partition_id = 1},
		{.cls = SHMETA_CLASS_SEGMENT, .tenant = tenant, .topic = topic, .from = 1, .to = INT64_MAX},
		{.cls = SHMETA_CLASS_AGENT, .tenant = tenant},
		{.cls = SHMETA_CLASS_LEASE, .tenant = tenant, .topic = topic},
		{.cls = SHMETA_CLASS_OFFSET, .tenant = tenant, .name = rows_str("group")},
		{.cls = SHMETA_CLASS_OFFSET, .tenant = tenant, .name = rows_str("group"), .topic = topic}};
	struct strict_sink strict = {.ordered = false};
	struct backend_sink sink = strict_sink_of(&strict);
	struct backend_error err = {.text = ""};
	size_t first = fuzz_u8(&server.in) % (sizeof keys / sizeof keys[0]);

	judged(pg_fetch(state, keys + first, sizeof keys / sizeof keys[0] - first, &sink, &err), &err);
}

static void follow(struct pg_state *state)
{
	struct strict_sink strict = {.ordered = false};
	struct backend_sink sink = strict_sink_of(&strict);
	struct backend_error err = {.text = ""};
	uint8_t position[4096];
	size_t bytes = 0;
	uint64_t lag;
	int changed;

	for (int i = 0; i < 3; i++)
		judged(pg_changes(state, &sink, &changed, &lag, &err), &err);
	if (pg_position(state, position, sizeof position, &bytes) == SHMETA_OK)
		judged(pg_resume(state, position, bytes, &err), &err);
}

static void list(struct pg_state *state)
{
	const struct backend_object_list objects = {
		.tenant = rows_str(SHMETA_DEFAULT_TENANT), .all = 1, .now_ms = 1000, .most = 100};
	struct backend_error err = {.text = ""};

	judged(pg_list_objects(state, &objects, on_object, NULL, &err), &err);
	judged(pg_extras(state, BACKEND_ROW_OBJECT, on_row, NULL, &err), &err);
	judged(pg_extras(state, BACKEND_ROW_EPOCH, on_row, NULL, &err), &err);
}

static void apply(struct pg_state *state)
{
	const struct shmeta_str name = rows_str("orders"), agent = rows_str("a"), group = rows_str("group");
	const struct shmeta_segment segment = {.base_offset = 5, .end_offset = 9, .record_count = 5, .id = agent};
	const struct shmeta_op all[] = {
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = name, .partition_count = 2}},
		{.type = SHMETA_OP_DELETE_TOPIC, .name = name},
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = name, .offset = 7},
		{.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK, .name = name, .u.segment = segment},
		{.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = name, .offset = 100},
		{.type = SHMETA_OP_ENSURE_GROUP, .group_id = group},
		{.type = SHMETA_OP_COMMIT_OFFSET, .name = name, .u.committed = {.group_id = group}},
		{.type = SHMETA_OP_DELETE_GROUP, .group_id = group},
		{.type = SHMETA_OP_REGISTER_AGENT, .u.agent = {.agent_id = agent, .address = name}},
		{.type = SHMETA_OP_RENEW_AGENT, .agent_id = agent, .duration_ms = 1000},
		{.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = agent},
		{.type = SHMETA_OP_ACQUIRE_LEASE, .name = name, .agent_id = agent, .duration_ms = 1000},
		{.type = SHMETA_OP_RELEASE_LEASE, .name = name, .agent_id = agent},
		{.type = SHMETA_OP_OFFER_LEASE,
	         .name = name,
	         .agent_id = agent,
	         .to_agent_id = name,
	         .duration_ms = 1000},
		{.type = SHMETA_OP_ACCEPT_LEASE, .agent_id = agent, .transfer_id = 1},
		{.type = SHMETA_OP_COMPLETE_LEASE, .agent_id = agent, .transfer_id = 1, .duration_ms = 1000},
		{.type = SHMETA_OP_REJECT_LEASE, .agent_id = agent, .transfer_id = 1},
		{.type = SHMETA_OP_COMMIT_OBJECT, .u.object = {.s3_bucket = agent, .s3_key = name}},
		{.type = SHMETA_OP_ADD_SLICE, .name = name, .u.segment = segment},
		{.type = SHMETA_OP_CONFIRM_OBJECT_DELETED, .u.object = {.s3_bucket = agent, .s3_key = name}}};
	enum { COUNT = sizeof all / sizeof all[0], OPS = 4 };
	struct strict_sink strict = {.ordered = false};
	struct backend_sink sink = strict_sink_of(&strict);
	struct backend_error err = {.text = ""};
	struct shmeta_result results[OPS];
	struct backend_op ops[OPS];
	enum shmeta_status status;
	size_t first = fuzz_u8(&server.in);

	for (size_t i = 0; i < OPS; i++)
		ops[i] =
			(struct backend_op){.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &all[(first + i) % COUNT]};
	memset(results, 0, sizeof results);
	status = pg_apply(state, ops, OPS, 1000, results, &sink, &err);
	judged(status, &err);
	if (status == SHMETA_OK)
		strict_results(results, OPS);
}

/* A state as it is behind open() and a first connection. The texts of statements are made once for
 * each shape. */
static struct pg_state *state_of(uint8_t dialect, uint8_t bits)
{
	static struct pg_state *states[2][256];
	struct pg_state **state = &states[dialect % 2][bits];

	if (*state == NULL) {
		*state = calloc(1, sizeof **state);
		require(*state != NULL);
		(*state)->options = (struct backend_options){.uri = "postgresql:", .timeout_ms = 1000};
		(*state)->dialect = dialect % 2 == 0 ? &pg_postgresql : &pg_cockroachdb;
		(*state)->shape = (struct pg_shape){.organization = (bits & 1) != 0,
		                                    .agents_organization = (bits & 2) != 0,
		                                    .leases_organization = (bits & 4) != 0,
		                                    .cleanup_policy = (bits & 8) != 0,
		                                    .timestamps = (bits & 16) != 0,
		                                    .own = (bits & 32) != 0,
		                                    .epochs = (bits & 32) != 0,
		                                    .feed = (bits & 96) == 96,
		                                    .segment_place = (bits & 128) != 0,
		                                    .by_index = (bits & 128) != 0};
		(*state)->primary.role = "primary";
		(*state)->replica.role = "replica";
		(*state)->writer.role = "writer";
		(*state)->seed = 1;
		for (size_t i = 0; pg_all_texts[i] != NULL; i++)
			require(pg_all_texts[i](*state));
		for (int i = 0; i < PG_STATEMENTS; i++)
			if ((*state)->sql[i] == NULL)
				require(pg_text_of(*state, (enum pg_statement)i, "SELECT 0"));
	}
	(*state)->attached = true;
	(*state)->careful_batches = (*state)->careful_next = 0;
	(*state)->busy = (struct pg_busy){.tables_until_ns = 0};
	(*state)->clock.known = false;
	return *state;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct pg_state *state;
	uint8_t dialect;

	server.in = (struct fuzz_input){data, bytes};
	dialect = fuzz_u8(&server.in);
	state = state_of(dialect, fuzz_u8(&server.in));
	switch (fuzz_u8(&server.in) % 6) {
	case 0:
		load(state, false);
		break;
	case 1:
		load(state, true);
		break;
	case 2:
		fetch(state);
		break;
	case 3:
		follow(state);
		break;
	case 4:
		list(state);
		break;
	default:
		apply(state);
		break;
	}
	free(server.piece);
	server.piece = NULL;
	server.sent_count = server.rows_left = 0;
	server.streaming = false;
	pg_feed_free(state);
	return 0;
}
