/* SPDX-License-Identifier: Apache-2.0
 * The log as those who follow it see it (ddb_log.h). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_log.h"
#include "backends/dynamodb/ddb_state.h"

/* GAP_S: a missing entry is waited for so long, then a void one takes its place. LATE_S: a request
 * that is older is refused, by clocks that are wrong by a quarter of an hour, as far as a signature
 * lets them be. LOOK_MOST: entries of one writer that one look reads. */
enum { GAP_S = 3, LATE_S = 2400, EDGE_S = 300, LOOK_MOST = 1000 };
#define SECOND_NS UINT64_C(1000000000)

static struct ddb_followed *follow(struct ddb_log *log, const char *id)
{
	struct ddb_followed *more;

	for (size_t i = 0; i < log->followed_count; i++)
		if (strcmp(log->followed[i].id, id) == 0)
			return &log->followed[i];
	more = reallocarray(log->followed, log->followed_count + 1, sizeof *more);
	if (more == NULL)
		return NULL;
	log->followed = more;
	more = &more[log->followed_count++];
	*more = (struct ddb_followed){.seq = -1, .keep_s = DDB_KEEP_LEAST_S};
	(void)snprintf(more->id, sizeof more->id, "%s", id);
	return more;
}

static bool away_for_longer(const struct ddb_state *s, int64_t keep_s)
{
	return ddb_log_now_ms(s) - s->log.synced_ms > (keep_s - EDGE_S) * 1000;
}

/* Those whose item is gone are not followed any more. Returns whether entries of one may have ended
 * that were never told. */
static bool drop_the_gone(struct ddb_state *s)
{
	struct ddb_log *log = &s->log;
	size_t kept = 0;
	bool lost = false;

	for (size_t i = 0; i < log->followed_count; i++) {
		const struct ddb_followed f = log->followed[i];
		bool gone = f.announced == INT64_MIN;

		lost |= (gone || f.announced > f.seq) && away_for_longer(s, f.keep_s);
		if (!gone)
			log->followed[kept++] = f;
	}
	log->followed_count = kept;
	return lost;
}

/* Who writes, how far, and how long each keeps its entries. */
static enum shmeta_status look_at_writers(struct ddb_state *s, bool *ret_lost, struct backend_error *err)
{
	struct ddb_log *log = &s->log;
	struct ddb_query q = {.table = DDB_WRITERS, .pk = "W"};
	enum shmeta_status status = ddb_queries(s, &q, 1, "looking for writers", err);
	size_t i;
	json_t *item;

	for (size_t k = 0; k < log->followed_count; k++)
		log->followed[k].announced = INT64_MIN;
	json_array_foreach(q.items, i, item)
	{
		const char *id = ddb_text(item, "sk");
		struct ddb_followed *f;

		if (strlen(id) != DDB_RANDOM_BYTES - 1 || strcmp(id, log->writer) == 0)
			continue;
		f = follow(log, id);
		if (f == NULL) {
			status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
		} else {
			f->announced = ddb_number(item, "seq");
			f->keep_s = ddb_has(item, "keep") ? ddb_number(item, "keep") : DDB_KEEP_LEAST_S;
		}
	}
	ddb_queries_free(&q, 1);
	if (status == SHMETA_OK)
		*ret_lost = drop_the_gone(s);
	return status;
}

static int64_t seq_of(const json_t *item)
{
	uint64_t seq = 0;
	struct shmeta_str text;

	return ddb_get_s(item, "sk", &text) && ddb_u64(text, &seq) ? (int64_t)seq : -1;
}

/* May a transaction that was sent before this entry's be done still? */
static bool is_young(const struct ddb_state *s, const json_t *entry)
{
	return ddb_log_now_ms(s) - ddb_number(entry, "at") < LATE_S * 1000;
}

/* The greatest number below which nothing is missing, or can be under way still. entries: the
 * newest, newest first. */
static int64_t contiguous(const struct ddb_state *s, const json_t *entries)
{
	size_t n = json_array_size(entries);
	const json_t *oldest = n > 0 ? json_array_get(entries, n - 1) : NULL;
	int64_t seq = seq_of(oldest);

	if (oldest == NULL)
		return -1;
	if (is_young(s, oldest)) {
		int64_t before = seq - 1 - (seq < DDB_IN_FLIGHT_MAX ? seq : DDB_IN_FLIGHT_MAX);

		/* Those before it ended, or are on their way: where this is the whole log the
		 * latter shows. */
		if (n < DDB_WINDOW && seq > 0)
			return before;
	}
	for (size_t i = n - 1; i-- > 0;) {
		const json_t *entry = json_array_get(entries, i);
		int64_t next = seq_of(entry);

		/* What misses before an old one ended, or never comes. */
		if (next != seq + 1 && is_young(s, entry))
			return next - 1 - DDB_IN_FLIGHT_MAX > seq ? next - 1 - DDB_IN_FLIGHT_MAX : seq;
		seq = next;
	}
	return seq;
}

enum shmeta_status ddb_log_baseline(struct ddb_state *s, struct backend_error *err)
{
	struct ddb_log *log = &s->log;
	struct ddb_query *queries;
	enum shmeta_status status;
	bool lost;

	log->followed_count = 0;
	log->baseline = false;
	log->synced_ms = ddb_log_now_ms(s);
	status = look_at_writers(s, &lost, err);
	if (status != SHMETA_OK)
		return status;
	queries = calloc(log->followed_count + 1, sizeof *queries);
	if (queries == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (size_t i = 0; i < log->followed_count; i++)
		queries[i] = (struct ddb_query){.table = DDB_LOG, .pk = log->followed[i].id, .newest = DDB_WINDOW};
	status = ddb_queries(s, queries, log->followed_count, "looking at the log", err);
	for (size_t i = 0; status == SHMETA_OK && i < log->followed_count; i++)
		log->followed[i].seq = contiguous(s, queries[i].items);
	ddb_queries_free(queries, log->followed_count);
	free(queries);
	log->baseline = status == SHMETA_OK;
	return status;
}

/* Tell what is new of a writer. Stops at a gap, and closes one that is old. *lost: what misses
 * there ended. */
static enum shmeta_status take_entries(struct ddb_state *s, struct ddb_followed *f, const json_t *entries,
                                       const struct backend_sink *sink, int *changed, bool *lost,
                                       struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	size_t i;
	json_t *item;

	json_array_foreach(entries, i, item)
	{
		int64_t seq = seq_of(item);

		if (seq <= f->seq)
			continue;
		while (seq > f->seq + 1) {
			if (f->gap_ns == 0)
				f->gap_ns = ddb_now_ns();
			if (ddb_now_ns() - f->gap_ns < GAP_S * SECOND_NS)
				return SHMETA_OK;
			*lost |= seq - f->seq - 1 > DDB_IN_FLIGHT_MAX;
			if (*lost)
				return SHMETA_OK;
			/* It may have come meanwhile: then its keys are the next look's. */
			status = ddb_log_settle_of(s, f->id, (uint64_t)(f->seq + 1), err);
			if (status != SHMETA_ABSENT)
				return status;
			f->seq++;
		}
		f->gap_ns = 0;
		if (!ddb_has(item, "void")) {
			*changed = 1;
			status = ddb_log_tell(json_object_get(json_object_get(item, "ks"), "L"), sink);
			if (status != SHMETA_OK)
				return status;
		}
		f->seq = seq;
	}
	return SHMETA_OK;
}

/* What there is, or a part of it from its beginning on: *ret_behind. It is a part, too, where time
 * was up, or the source away or throttling meanwhile. */
static enum shmeta_status read_logs(struct ddb_state *s, struct ddb_query *queries, size_t count, bool *ret_behind,
                                    struct backend_error *err)
{
	enum shmeta_status status = ddb_queries(s, queries, count, "reading the log", err);
	bool came = false;

	*ret_behind = false;
	for (size_t i = 0; i < count; i++) {
		came |= json_array_size(queries[i].items) > 0;
		*ret_behind |= json_array_size(queries[i].items) >= LOOK_MOST;
	}
	if ((status != SHMETA_ERR_SOURCE && status != SHMETA_ERR_BUSY) || !came)
		return status;
	*ret_behind = true;
	return SHMETA_OK;
}

static uint64_t behind_ns(const struct ddb_state *s)
{
	int64_t behind_ms = ddb_log_now_ms(s) - s->log.synced_ms;

	return SECOND_NS + (behind_ms > 0 ? (uint64_t)behind_ms * 1000000 : 0);
}

static enum shmeta_status look_at_logs(struct ddb_state *s, const struct backend_sink *sink, int *changed,
                                       uint64_t *lag_ns, bool *lost, struct backend_error *err)
{
	struct ddb_log *log = &s->log;
	struct ddb_query *queries = calloc(log->followed_count + 1, sizeof *queries);
	struct ddb_key(*from)[2] = calloc(log->followed_count + 1, sizeof *from);
	size_t *of = calloc(log->followed_count + 1, sizeof *of), n = 0;
	enum shmeta_status status = SHMETA_OK;
	bool behind = false;

	if (queries == NULL || from == NULL || of == NULL)
		status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (size_t i = 0; status == SHMETA_OK && i < log->followed_count; i++) {
		struct ddb_followed *f = &log->followed[i];

		if (f->announced <= f->seq)
			continue;
		ddb_key_log(&from[n][0], f->id, (uint64_t)(f->seq + 1));
		ddb_key_log(&from[n][1], f->id, UINT64_MAX);
		queries[n] = (struct ddb_query){
			.table = DDB_LOG, .pk = f->id, .from = from[n][0].sk, .to = from[n][1].sk, .oldest = LOOK_MOST};
		of[n++] = i;
	}
	if (status == SHMETA_OK)
		status = read_logs(s, queries, n, &behind, err);
	if (behind && behind_ns(s) > *lag_ns)
		*lag_ns = behind_ns(s);
	for (size_t i = 0; status == SHMETA_OK && i < n; i++) {
		struct ddb_followed *f = &log->followed[of[i]];
		uint64_t now_ns = ddb_now_ns();

		status = take_entries(s, f, queries[i].items, sink, changed, lost, err);
		if (f->gap_ns != 0 && now_ns - f->gap_ns + SECOND_NS > *lag_ns)
			*lag_ns = now_ns - f->gap_ns + SECOND_NS;
	}
	if (queries != NULL)
		ddb_queries_free(queries, n);
	free(queries);
	free(from);
	free(of);
	return status;
}

static enum shmeta_status begin_anew(struct ddb_state *s, const struct backend_sink *sink, struct backend_error *err)
{
	enum shmeta_status status = ddb_log_baseline(s, err);

	return status != SHMETA_OK
	               ? status
	               : sink->changed(sink->arg, &(struct backend_key){.cls = SHMETA_CLASS_LIST,
	                                                                .name = rows_str("the log was not followed")});
}

enum shmeta_status ddb_log_changes(struct ddb_state *s, const struct backend_sink *sink, int *ret_changed,
                                   uint64_t *ret_lag_ns, struct backend_error *err)
{
	int64_t now_ms = ddb_log_now_ms(s);
	/* Asleep for longer than entries are sure to be kept. */
	bool lost = !s->log.baseline || away_for_longer(s, ddb_log_keep_s(s));
	enum shmeta_status status = SHMETA_OK;
	uint64_t doubted_ns = 0;

	*ret_changed = 0;
	*ret_lag_ns = 0;
	if (!lost) {
		status = ddb_log_settle_doubts(s, sink, ret_changed, &doubted_ns);
		*ret_lag_ns = doubted_ns;
		if (status == SHMETA_OK)
			status = ddb_log_rest(s, err);
		if (status == SHMETA_OK)
			status = look_at_writers(s, &lost, err);
		if (status == SHMETA_OK && !lost)
			status = look_at_logs(s, sink, ret_changed, ret_lag_ns, &lost, err);
	}
	if (status == SHMETA_OK && lost) {
		*ret_changed = 1;
		*ret_lag_ns = doubted_ns;
		return begin_anew(s, sink, err);
	}
	if (status == SHMETA_OK && *ret_lag_ns == 0)
		s->log.synced_ms = now_ms;
	if (status != SHMETA_OK)
		*ret_changed = 0;
	return status;
}

/* ---- the position: "ddb1 FINGERPRINT SYNCED\n", a line "WRITER SEQ\n" for each writer, ourselves
 * included, and "end" ---- */

static const char last_line[] = "end";

enum shmeta_status ddb_log_position(struct ddb_state *s, void *ret, size_t capacity, size_t *ret_bytes)
{
	const struct ddb_log *log = &s->log;
	size_t room = 80 + (log->followed_count + 1) * 48, used;
	char *text = malloc(room);

	*ret_bytes = 0;
	if (text == NULL)
		return SHMETA_ERR_NO_MEMORY;
	used = (size_t)snprintf(text, room, "ddb1 %" PRIu64 " %" PRId64 "\n", s->fingerprint, log->synced_ms);
	for (size_t i = 0; i < log->followed_count; i++)
		used += (size_t)snprintf(text + used, room - used, "%s %" PRId64 "\n", log->followed[i].id,
		                         log->followed[i].seq);
	if (log->writer[0] != '\0') {
		int64_t seq = (int64_t)log->next - 1;

		for (size_t i = 0; i < log->doubt_count; i++)
			if ((int64_t)log->doubts[i].seq <= seq)
				seq = (int64_t)log->doubts[i].seq - 1;
		used += (size_t)snprintf(text + used, room - used, "%s %" PRId64 "\n", log->writer, seq);
	}
	used += (size_t)snprintf(text + used, room - used, "%s", last_line);
	*ret_bytes = used;
	if (used <= capacity)
		memcpy(ret, text, used);
	free(text);
	return used <= capacity ? SHMETA_OK : SHMETA_ERR_BUFFER;
}

static bool read_number(const char *text, int64_t *ret)
{
	char *end = NULL;

	errno = 0;
	*ret = text != NULL ? strtoll(text, &end, 10) : 0;
	return end != NULL && end != text && *end == '\0' && errno == 0;
}

/* The lines are cut up. */
static bool read_first_line(char *line, uint64_t *ret_fingerprint, int64_t *ret_synced)
{
	char *rest = NULL;
	const char *version = strtok_r(line, " ", &rest), *fingerprint = strtok_r(NULL, " ", &rest),
		   *synced = strtok_r(NULL, "", &rest);

	return version != NULL && strcmp(version, "ddb1") == 0 && fingerprint != NULL &&
	       ddb_u64(rows_str(fingerprint), ret_fingerprint) && read_number(synced, ret_synced);
}

/* NULL: it is none. */
static const char *read_writer_line(char *line, int64_t *ret_seq)
{
	char *rest = NULL;
	const char *id = strtok_r(line, " ", &rest), *seq = strtok_r(NULL, "", &rest);

	return id != NULL && strlen(id) < DDB_RANDOM_BYTES && read_number(seq, ret_seq) ? id : NULL;
}

enum shmeta_status ddb_log_resume(struct ddb_state *s, const void *position, size_t bytes, struct backend_error *err)
{
	struct ddb_log *log = &s->log;
	char *text = strndup(position, bytes), *line, *rest = NULL;
	enum shmeta_status status = SHMETA_OK;
	uint64_t fingerprint;
	int64_t synced, now_ms = ddb_log_now_ms(s);

	if (text == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	line = strlen(text) == bytes && bytes >= sizeof last_line &&
	                       strcmp(text + bytes - strlen(last_line), last_line) == 0
	               ? strtok_r(text, "\n", &rest)
	               : NULL;
	if (line == NULL || !read_first_line(line, &fingerprint, &synced)) {
		status = backend_fail(err, SHMETA_ABSENT, "dynamodb: the position cannot be read");
	} else if (fingerprint != s->fingerprint) {
		status = backend_fail(
			err, SHMETA_ERR_CONFLICT,
			"dynamodb: the position belongs to other tables: these were made anew, or are those of "
			"another account or region");
	} else if (now_ms - synced > (ddb_log_keep_s(s) - EDGE_S) * 1000) {
		status = backend_fail(err, SHMETA_ABSENT,
		                      "dynamodb: the position is %" PRId64 " s old, and the log is kept for %" PRId64
		                      " s",
		                      (now_ms - synced) / 1000, ddb_log_keep_s(s));
	}
	if (status != SHMETA_OK) {
		free(text);
		return status;
	}
	log->followed_count = 0;
	for (; status == SHMETA_OK && (line = strtok_r(NULL, "\n", &rest)) != NULL;) {
		struct ddb_followed *f;
		const char *id;
		int64_t seq;

		if (strcmp(line, last_line) == 0)
			break;
		id = read_writer_line(line, &seq);
		if (id == NULL) {
			status = backend_fail(err, SHMETA_ABSENT, "dynamodb: the position cannot be read");
			break;
		}
		if (strcmp(id, log->writer) == 0)
			continue;
		f = follow(log, id);
		if (f == NULL)
			status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
		else
			f->seq = seq;
	}
	free(text);
	log->baseline = status == SHMETA_OK;
	if (status == SHMETA_OK)
		log->synced_ms = synced;
	return status;
}
