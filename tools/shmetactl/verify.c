/* SPDX-License-Identifier: Apache-2.0
 * verify: is the store sound, and does it hold what the source holds?
 *
 * Structure: every checksum, bound and reference of one commit, in a child process: LMDB trusts its own pages, so a broken file
 * may kill whoever walks it, and that too is a finding. Commits that go on meanwhile could recycle what the child reads; so this
 * process holds a registered snapshot meanwhile where the writer gives one, and otherwise judges by the grace rules.
 *
 * Contents: everything that the source's own engine reads from it, each topic compared with the store as it comes. A live source
 * moves on while it is read, so what differs is read and compared again until it agrees or the time is over; what still differs
 * then is reported. With the writer dead nothing will follow, so the first look decides. */
#include "shm/store.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backends/backend.h"
#include "tools/shmetactl/inspect.h"

enum {
	SHOWN = 50,          /* differences that are printed; all are counted */
	ROWS = 2048,         /* source segments compared at a time */
	AGAIN_TOPICS = 2000, /* differing topics that are worth a second look */
	AGAIN_PAUSE_MS = 200,
	STRUCTURE_TRIES = 5,
	CHILD_TEXT = 480
};

/* ---- what was found ----------------------------------------------------------------------------------------------------- */

struct finding {
	char *tenant, *topic; /* topic NULL: of the class as a whole */
	enum shmeta_class cls;
	char *text;
};

struct findings {
	struct finding *row;
	size_t count, capacity;
};

static void findings_cut(struct findings *f, size_t count)
{
	while (f->count > count) {
		struct finding *row = &f->row[--f->count];

		free(row->tenant);
		free(row->topic);
		free(row->text);
	}
}

struct verify {
	struct tool *tool;
	struct pages pages;
	struct findings found;
	uint64_t structure_problems;
	bool structure_checked, contents_checked, again;

	/* The pass that is running. */
	struct {
		char *tenant;
		struct session s;
	} * session;
	size_t sessions;
	struct session *s; /* of the tenant whose rows come */
	const char *tenant;
	char *topic; /* whose rows come; NULL: none */
	bool topic_in_store, partition_open, partition_in_store;
	uint32_t partition_id;
	uint64_t partition_hw;
	uint32_t *partition_ids; /* of the topic, as the source gave them */
	size_t partition_ids_count, partition_ids_capacity;
	uint32_t *seen; /* topic ids that the source has */
	size_t seen_count, seen_capacity;
	struct shmeta_segment rows[ROWS];
	char *row_strings[ROWS];
	size_t row_count;
	bool has_last; /* the base of the last row compared */
	uint64_t last;
	int code; /* an error that ends the pass, said already */

	uint64_t topics, partitions, segments, agents, groups, offsets, leases, quarantined;
	char poison[4][256];
	uint64_t progress_shown_ns;
};

__attribute__((format(printf, 5, 6))) static void differs(struct verify *v, enum shmeta_class cls, const char *tenant,
                                                          const char *topic, const char *fmt, ...)
{
	struct findings *f = &v->found;
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (f->count == f->capacity) {
		f->capacity = f->capacity > 0 ? f->capacity * 2 : 64;
		f->row = tool_grow(f->row, f->capacity * sizeof(*f->row));
	}
	f->row[f->count++] = (struct finding){
		.cls = cls,
		.tenant = tenant != NULL ? tool_copy(tenant, strlen(tenant)) : NULL,
		.topic = topic != NULL ? tool_copy(topic, strlen(topic)) : NULL,
		.text = tool_copy(text, strlen(text)),
	};
}

/* ---- structure ---------------------------------------------------------------------------------------------------------- */

enum message_kind { MESSAGE_PROBLEM = 1, MESSAGE_REPORT, MESSAGE_ERROR };

/* What the child tells: fixed size, so that a write to the pipe is whole. */
struct message {
	uint32_t kind;
	int32_t status;
	uint64_t txn;
	struct shmeta__verify_report report;
	char text[CHILD_TEXT];
};
_Static_assert(sizeof(struct message) <= 4096, "PIPE_BUF");

struct child {
	int fd;
	uint64_t problems;
};

static void tell(int fd, const struct message *message)
{
	if (write(fd, message, sizeof(*message)) != (ssize_t)sizeof(*message))
		_exit(3);
}

static void child_problem(void *arg, const char *sentence)
{
	struct child *child = arg;
	struct message message = {.kind = MESSAGE_PROBLEM};

	/* Beyond what is shown only the number matters, and the report has it. */
	if (child->problems++ >= SHOWN)
		return;
	(void)snprintf(message.text, sizeof(message.text), "%s", sentence);
	tell(child->fd, &message);
}

__attribute__((noreturn)) static void child_main(int fd, const char *path)
{
	struct child child = {.fd = fd};
	struct message message = {.kind = MESSAGE_REPORT};
	struct shmeta__store *store = NULL;
	struct shmeta__txn *txn = NULL;
	struct shmeta_err err = {0};
	enum shmeta_status status;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_DUMPABLE, 0);
	status = shmeta__store_inspect(path, &store, &err);
	if (status == SHMETA_OK)
		status = shmeta__txn_read(store, &txn, &err);
	if (status != SHMETA_OK) {
		message.kind = MESSAGE_ERROR;
		message.status = status;
		(void)snprintf(message.text, sizeof(message.text), "%s", err.text);
		tell(fd, &message);
		_exit(0);
	}
	message.txn = shmeta__txn_number(txn);
	message.status = shmeta__store_verify(txn, child_problem, &child, &message.report, &err);
	(void)snprintf(message.text, sizeof(message.text), "%s", err.text);
	tell(fd, &message);
	_exit(0);
}

struct structure {
	struct message report; /* kind 0: the child did not come so far */
	char *problem[SHOWN];
	size_t shown;
	int wait_status;
};

static void structure_free(struct structure *s)
{
	while (s->shown > 0)
		free(s->problem[--s->shown]);
	*s = (struct structure){0};
}

static int structure_run(struct tool *tool, const char *path, struct structure *ret)
{
	struct message message;
	int fd[2];
	pid_t pid;

	if (pipe(fd) != 0)
		return tool_error(tool, TOOL_UNHEALTHY, "pipe: %s", strerror(errno));
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)close(fd[0]);
		child_main(fd[1], path);
	}
	(void)close(fd[1]);
	if (pid < 0) {
		(void)close(fd[0]);
		return tool_error(tool, TOOL_UNHEALTHY, "fork: %s", strerror(errno));
	}
	for (;;) {
		size_t have = 0;

		while (have < sizeof(message)) {
			ssize_t n = read(fd[0], (char *)&message + have, sizeof(message) - have);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				break;
			have += (size_t)n;
		}
		if (have < sizeof(message))
			break;
		message.text[CHILD_TEXT - 1] = '\0';
		if (message.kind == MESSAGE_PROBLEM && ret->shown < SHOWN)
			ret->problem[ret->shown++] = tool_copy(message.text, strlen(message.text));
		else if (message.kind != MESSAGE_PROBLEM)
			ret->report = message;
	}
	(void)close(fd[0]);
	while (waitpid(pid, &ret->wait_status, 0) < 0 && errno == EINTR)
		;
	return 0;
}

/* A snapshot that the writer knows of keeps the pages of all later commits too, those that the child reads. */
struct hold {
	struct shmeta *instance;
	struct shmeta_reader *reader;
	bool pinned;
};

static void hold_begin(struct verify *v, struct hold *hold)
{
	char error[16];
	struct shmeta_options options = {
		.size = sizeof(options),
		.directory = v->tool->dir,
		.agent = "shmetactl verify",
		.threads = 1,
		.error = error,
		.error_bytes = sizeof(error),
	};
	struct shmeta_snapshot_info info;

	*hold = (struct hold){0};
	/* A stopped writer answers nobody and commits nothing. */
	if (!v->pages.alive || shmeta_open(&options, &hold->instance) != SHMETA_OK)
		return;
	if (shmeta_reader_new(hold->instance, &hold->reader) != SHMETA_OK || shmeta_begin(hold->reader) != SHMETA_OK)
		return;
	hold->pinned = shmeta_snapshot_info(hold->reader, &info) == SHMETA_OK && info.registered != 0 &&
	               info.generation == v->pages.board.generation;
}

static bool hold_end(struct hold *hold)
{
	bool kept = hold->pinned && shmeta_end(hold->reader) == SHMETA_OK;

	shmeta_reader_free(hold->reader);
	shmeta_close(hold->instance);
	return kept;
}

static int structure(struct verify *v, const char *path, bool live)
{
	struct structure s = {0};
	bool sound = false;
	int code = 0;

	for (int i = 0; i < STRUCTURE_TRIES && !sound; i++) {
		struct hold hold = {0};
		uint64_t began = tool_monotonic_ns(), took, committing;

		structure_free(&s);
		if (live)
			hold_begin(v, &hold);
		code = structure_run(v->tool, path, &s);
		took = tool_monotonic_ns() - began;
		sound = !live || hold_end(&hold);
		if (code != 0)
			goto out;
		if (!sound) {
			committing = shmeta_load(&v->pages.live->committing);
			sound = took < v->pages.generation.grace_ns / 2 ||
			        (s.report.txn != 0 && committing < s.report.txn + 2);
		}
	}
	if (!sound) {
		code = tool_error(
			v->tool, TOOL_TIMEOUT,
			"the writer commits faster than the store can be checked, and gives us no snapshot to hold; "
			"join the group that may connect to its socket");
		goto out;
	}
	if (s.report.kind == MESSAGE_ERROR) {
		struct shmeta_err err = {.code = (enum shmeta_status)s.report.status};

		(void)snprintf(err.text, sizeof(err.text), "%s", s.report.text);
		code = store_say(v->tool, path, &err);
		goto out;
	}
	for (size_t i = 0; i < s.shown; i++)
		differs(v, SHMETA_CLASS_COUNT, NULL, NULL, "%s", s.problem[i]);
	if (s.report.kind == 0 && WIFSIGNALED(s.wait_status)) {
		differs(v, SHMETA_CLASS_COUNT, NULL, NULL,
		        "the store's tree is broken: LMDB ended by signal %d (%s) in it", WTERMSIG(s.wait_status),
		        strsignal(WTERMSIG(s.wait_status)));
	} else if (s.report.kind == 0) {
		code = tool_error(v->tool, TOOL_UNHEALTHY, "the check of the structure ended early (status %d)",
		                  WEXITSTATUS(s.wait_status));
		goto out;
	} else if (s.report.status != SHMETA_OK && s.report.report.problems == 0) {
		differs(v, SHMETA_CLASS_COUNT, NULL, NULL, "the check of the structure could not go on: %s",
		        s.report.text[0] != '\0' ? s.report.text
		                                 : shmeta_strerror((enum shmeta_status)s.report.status));
	}
	v->structure_problems = s.report.report.problems > v->found.count ? s.report.report.problems : v->found.count;
	v->structure_checked = true;
	v->topics = s.report.report.topics;
	v->partitions = s.report.report.partitions;
	v->segments = s.report.report.segments;
	v->agents = s.report.report.agents;
	v->groups = s.report.report.groups;
	v->offsets = s.report.report.offsets;
	v->leases = s.report.report.leases;
out:
	structure_free(&s);
	return code;
}

/* ---- contents: the sink that compares ----------------------------------------------------------------------------------- */

static char *text_of(struct shmeta_str s)
{
	return tool_copy(s.data, s.bytes);
}

static bool same_str(struct shmeta_str a, struct shmeta_str b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

static bool same_map(struct shmeta_map a, struct shmeta_map b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* The session of a tenant, opened when its first row comes. NULL: v->code says why. */
static bool use_tenant(struct verify *v, struct shmeta_str tenant)
{
	char *name;

	if (v->tenant != NULL && strlen(v->tenant) == tenant.bytes && memcmp(v->tenant, tenant.data, tenant.bytes) == 0)
		return true;
	for (size_t i = 0; i < v->sessions; i++) {
		if (strlen(v->session[i].tenant) == tenant.bytes &&
		    memcmp(v->session[i].tenant, tenant.data, tenant.bytes) == 0) {
			v->tenant = v->session[i].tenant;
			v->s = &v->session[i].s;
			return true;
		}
	}
	name = text_of(tenant);
	v->session = tool_grow(v->session, (v->sessions + 1) * sizeof(*v->session));
	v->code = session_open(v->tool, name, &v->session[v->sessions].s);
	if (v->code != 0) {
		free(name);
		return false;
	}
	v->session[v->sessions].tenant = name;
	v->tenant = name;
	v->s = &v->session[v->sessions].s;
	v->sessions++;
	return true;
}

/* A snapshot in which something is looked up and compared. Findings of one that took too long are taken back, and the caller
 * looks again. */
struct look {
	struct verify *v;
	size_t found;
};

static bool look_begin(struct verify *v, struct look *look)
{
	*look = (struct look){.v = v, .found = v->found.count};
	v->code = session_begin(v->s);
	return v->code == 0;
}

/* true: the look counts. false: again, or v->code says why not. */
static bool look_end(struct look *look)
{
	if (session_end(look->v->s, &look->v->code))
		return true;
	findings_cut(&look->v->found, look->found);
	return false;
}

static enum shmeta_status stop(struct verify *v)
{
	return v->code != 0 ? SHMETA_ERR_SYSTEM : SHMETA_OK;
}

static void compare_row(struct verify *v, const struct shmeta_segment *want, const struct shmeta_segment *have)
{
	const char *what = NULL;

	if (want->end_offset != have->end_offset)
		what = "end_offset";
	else if (want->record_count != have->record_count)
		what = "record_count";
	else if (want->size_bytes != have->size_bytes)
		what = "size_bytes";
	else if (want->created_at_ms != have->created_at_ms)
		what = "created_at";
	else if (want->min_timestamp_ms != have->min_timestamp_ms)
		what = "min_timestamp";
	else if (want->max_timestamp_ms != have->max_timestamp_ms)
		what = "max_timestamp";
	else if (!same_str(want->id, have->id))
		what = "id";
	else if (!same_str(want->s3_bucket, have->s3_bucket))
		what = "s3_bucket";
	else if (!same_str(want->s3_key, have->s3_key))
		what = "s3_key";
	if (what != NULL)
		differs(v, SHMETA_CLASS_SEGMENT, v->tenant, v->topic,
		        "topic %s, partition %" PRIu32 ", segment at %" PRIu64 ": %s differs", v->topic,
		        v->partition_id, want->base_offset, what);
}

static void missing_row(struct verify *v, const struct shmeta_segment *want)
{
	differs(v, SHMETA_CLASS_SEGMENT, v->tenant, v->topic,
	        "topic %s, partition %" PRIu32 ", segment at %" PRIu64 ": the source has it, the store does not",
	        v->topic, v->partition_id, want->base_offset);
}

/* One snapshot's worth of the store's rows beyond *last against the source's from *at on. END: all were seen. */
static enum shmeta_status compare_slice(struct verify *v, bool final, size_t *at, bool *has_last, uint64_t *last)
{
	char strings[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_handle *handle = NULL;
	struct shmeta_iter *iter = NULL;
	struct shmeta_segment have;
	uint64_t after = *last;
	bool behind = *has_last;
	enum shmeta_status status =
		shmeta_partition_open(v->s->reader, v->topic, strlen(v->topic), v->partition_id, &handle);

	if (status == SHMETA_OK)
		status = shmeta_list_segments(handle, behind ? after + 1 : 0, UINT64_MAX, &iter);
	while (status == SHMETA_OK && (status = shmeta_next_segment(iter, &have)) == SHMETA_OK) {
		if (behind && have.base_offset <= after)
			continue;
		if (!final && have.base_offset > v->rows[v->row_count - 1].base_offset) {
			status = SHMETA_END;
			break;
		}
		for (; *at < v->row_count && v->rows[*at].base_offset < have.base_offset; (*at)++)
			missing_row(v, &v->rows[*at]);
		if (*at < v->row_count && v->rows[*at].base_offset == have.base_offset) {
			status = shmeta_segment_strings(handle, &have, strings, sizeof(strings));
			if (status != SHMETA_OK)
				break;
			compare_row(v, &v->rows[(*at)++], &have);
		} else {
			differs(v, SHMETA_CLASS_SEGMENT, v->tenant, v->topic,
			        "topic %s, partition %" PRIu32 ", segment at %" PRIu64
			        ": the store has it, the source does not",
			        v->topic, v->partition_id, have.base_offset);
		}
		*has_last = true;
		*last = have.base_offset;
		if (session_due(v->s))
			break;
	}
	shmeta_iter_free(iter);
	shmeta_partition_close(handle);
	return status;
}

static void drop_rows(struct verify *v)
{
	while (v->row_count > 0)
		free(v->row_strings[--v->row_count]);
}

/* The collected rows against the store's; final: and nothing may follow. */
static void compare_rows(struct verify *v, bool final)
{
	enum shmeta_status status = SHMETA_OK;
	size_t at = 0, next;
	struct look look;

	if (!v->partition_in_store || (v->row_count == 0 && !final)) {
		drop_rows(v);
		return;
	}
	while (v->code == 0 && status == SHMETA_OK) {
		bool has_last = v->has_last;
		uint64_t last = v->last;

		if (!look_begin(v, &look))
			return;
		next = at;
		status = compare_slice(v, final, &next, &has_last, &last);
		if (!look_end(&look)) {
			status = SHMETA_OK;
			continue;
		}
		at = next;
		v->has_last = has_last;
		v->last = last;
	}
	if (status == SHMETA_END) {
		for (; at < v->row_count; at++)
			missing_row(v, &v->rows[at]);
		if (v->row_count > 0) {
			v->has_last = true;
			v->last = v->rows[v->row_count - 1].base_offset;
		}
	} else if (v->code == 0) {
		differs(v, SHMETA_CLASS_SEGMENT, v->tenant, v->topic, "topic %s, partition %" PRIu32 ": segments: %s",
		        v->topic, v->partition_id, shmeta_strerror(status));
		v->partition_in_store = false;
	}
	drop_rows(v);
}

static void end_partition(struct verify *v)
{
	if (v->partition_open)
		compare_rows(v, true);
	v->partition_open = false;
}

/* Partitions that the store has beside those that the source gave (ascending). */
static void compare_partition_ids(struct verify *v)
{
	struct shmeta_iter *iter;
	struct shmeta_partition p;
	enum shmeta_status status;
	struct look look;

	do {
		size_t at = 0;

		if (!look_begin(v, &look))
			return;
		iter = NULL;
		status = shmeta_list_partitions(v->s->reader, v->topic, strlen(v->topic), &iter);
		while (status == SHMETA_OK && (status = shmeta_next_partition(iter, &p, NULL)) == SHMETA_OK) {
			while (at < v->partition_ids_count && v->partition_ids[at] < p.partition_id)
				at++; /* missing in the store: said when its row came */
			if (at < v->partition_ids_count && v->partition_ids[at] == p.partition_id)
				at++;
			else
				differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic,
				        "topic %s, partition %" PRIu32 ": the store has it, the source does not",
				        v->topic, p.partition_id);
		}
		shmeta_iter_free(iter);
		if (status < SHMETA_OK)
			differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic, "topic %s: partitions: %s", v->topic,
			        shmeta_strerror(status));
	} while (!look_end(&look) && v->code == 0);
}

static void end_topic(struct verify *v)
{
	end_partition(v);
	if (v->topic != NULL && v->topic_in_store && v->code == 0)
		compare_partition_ids(v);
	free(v->topic);
	v->topic = NULL;
	v->partition_ids_count = 0;
}

static enum shmeta_status sink_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *want)
{
	struct verify *v = arg;
	struct shmeta_topic have;
	struct look look;
	enum shmeta_status status;

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	v->topics++;
	v->topic = text_of(want->name);
	do {
		const char *what = NULL;

		if (!look_begin(v, &look))
			return stop(v);
		status = shmeta_get_topic(v->s->reader, want->name.data, want->name.bytes, NULL, &have, NULL);
		if (status != SHMETA_OK)
			differs(v, SHMETA_CLASS_TOPIC, v->tenant, v->topic,
			        "topic %s: the source has it, the store says: %s", v->topic, shmeta_strerror(status));
		else if (want->partition_count != have.partition_count)
			what = "partition_count";
		else if (want->has_retention != have.has_retention ||
		         (want->has_retention != 0 && want->retention_ms != have.retention_ms))
			what = "retention_ms";
		else if (want->created_at_ms != have.created_at_ms)
			what = "created_at";
		else if (want->updated_at_ms != have.updated_at_ms)
			what = "updated_at";
		else if (!same_str(want->cleanup_policy, have.cleanup_policy))
			what = "cleanup_policy";
		else if (!same_map(want->config, have.config))
			what = "config";
		if (what != NULL)
			differs(v, SHMETA_CLASS_TOPIC, v->tenant, v->topic, "topic %s: %s differs", v->topic, what);
	} while (!look_end(&look) && v->code == 0);
	v->topic_in_store = status == SHMETA_OK;
	if (status == SHMETA_OK) {
		if (v->seen_count == v->seen_capacity) {
			v->seen_capacity = v->seen_capacity > 0 ? v->seen_capacity * 2 : 1024;
			v->seen = tool_grow(v->seen, v->seen_capacity * sizeof(*v->seen));
		}
		v->seen[v->seen_count++] = have.topic_id;
	}
	return stop(v);
}

static enum shmeta_status sink_partition(void *arg, const struct shmeta_partition *want)
{
	struct verify *v = arg;
	struct shmeta_partition have;
	struct look look;
	enum shmeta_status status;

	end_partition(v);
	if (v->code != 0 || v->topic == NULL)
		return stop(v);
	v->partitions++;
	v->partition_open = true;
	v->partition_in_store = false;
	v->partition_id = want->partition_id;
	v->has_last = false;
	v->last = 0;
	if (!v->topic_in_store)
		return SHMETA_OK; /* said once for the topic */
	if (v->partition_ids_count == v->partition_ids_capacity) {
		v->partition_ids_capacity = v->partition_ids_capacity > 0 ? v->partition_ids_capacity * 2 : 1024;
		v->partition_ids = tool_grow(v->partition_ids, v->partition_ids_capacity * sizeof(*v->partition_ids));
	}
	v->partition_ids[v->partition_ids_count++] = want->partition_id;
	do {
		if (!look_begin(v, &look))
			return stop(v);
		status = shmeta_get_partition_named(v->s->reader, v->topic, strlen(v->topic), want->partition_id, NULL,
		                                    &have, NULL);
		if (status != SHMETA_OK)
			differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic,
			        "topic %s, partition %" PRIu32 ": the source has it, the store says: %s", v->topic,
			        want->partition_id, shmeta_strerror(status));
		else if (want->high_watermark != have.high_watermark)
			differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic,
			        "topic %s, partition %" PRIu32 ": high_watermark is %" PRIu64 " in the source, %" PRIu64
			        " in the store",
			        v->topic, want->partition_id, want->high_watermark, have.high_watermark);
		else if (want->created_at_ms != have.created_at_ms || want->updated_at_ms != have.updated_at_ms)
			differs(v, SHMETA_CLASS_PARTITION, v->tenant, v->topic,
			        "topic %s, partition %" PRIu32 ": %s differs", v->topic, want->partition_id,
			        want->created_at_ms != have.created_at_ms ? "created_at" : "updated_at");
	} while (!look_end(&look) && v->code == 0);
	v->partition_in_store = status == SHMETA_OK;
	return stop(v);
}

static enum shmeta_status sink_segment(void *arg, const struct shmeta_segment *want)
{
	struct verify *v = arg;
	struct shmeta_segment *row = &v->rows[v->row_count];
	char *p;

	v->segments++;
	if (!v->partition_open || !v->partition_in_store)
		return stop(v);
	p = tool_alloc(want->id.bytes + want->s3_bucket.bytes + want->s3_key.bytes + 1);
	v->row_strings[v->row_count] = p;
	*row = *want;
	for (struct shmeta_str *s = &row->id; s <= &row->s3_key; s++) {
		if (s->bytes > 0)
			memcpy(p, s->data, s->bytes);
		s->data = p;
		p += s->bytes;
	}
	if (++v->row_count == ROWS)
		compare_rows(v, false);
	return stop(v);
}

static enum shmeta_status sink_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *want)
{
	struct verify *v = arg;
	struct shmeta_agent have;
	struct look look;
	enum shmeta_status status;

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	v->agents++;
	do {
		if (!look_begin(v, &look))
			return stop(v);
		status = shmeta_get_agent(v->s->reader, want->agent_id.data, want->agent_id.bytes, &have, NULL);
		if (status != SHMETA_OK)
			differs(v, SHMETA_CLASS_AGENT, v->tenant, NULL,
			        "agent %s: the source has it, the store says: %s",
			        out_safe(want->agent_id.data, want->agent_id.bytes), shmeta_strerror(status));
		else if (!same_str(want->address, have.address) ||
		         !same_str(want->availability_zone, have.availability_zone) ||
		         !same_str(want->agent_group, have.agent_group) || !same_map(want->metadata, have.metadata) ||
		         want->last_heartbeat_ms != have.last_heartbeat_ms || want->started_at_ms != have.started_at_ms)
			differs(v, SHMETA_CLASS_AGENT, v->tenant, NULL, "agent %s differs",
			        out_safe(want->agent_id.data, want->agent_id.bytes));
	} while (!look_end(&look) && v->code == 0);
	return stop(v);
}

static enum shmeta_status sink_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *want)
{
	struct verify *v = arg;

	(void)want;
	end_topic(v);
	if (v->code == 0 && use_tenant(v, tenant))
		v->groups++; /* their number is compared; their offsets are, one by one */
	return stop(v);
}

static enum shmeta_status sink_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                      const struct shmeta_committed_offset *want)
{
	struct verify *v = arg;
	struct shmeta_committed_offset have;
	struct look look;
	enum shmeta_status status;
	char *group, *name;

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	v->offsets++;
	group = text_of(want->group_id);
	name = text_of(topic);
	do {
		if (!look_begin(v, &look))
			break;
		status = shmeta_get_committed_offset(v->s->reader, group, name, want->partition_id, &have, NULL);
		if (status != SHMETA_OK)
			differs(v, SHMETA_CLASS_OFFSET, v->tenant, NULL,
			        "committed offset of group %s, topic %s, partition %" PRIu32
			        ": the source has it, the store says: %s",
			        group, name, want->partition_id, shmeta_strerror(status));
		else if (want->committed_offset != have.committed_offset ||
		         want->committed_at_ms != have.committed_at_ms || want->has_metadata != have.has_metadata ||
		         (want->has_metadata != 0 && !same_str(want->metadata, have.metadata)))
			differs(v, SHMETA_CLASS_OFFSET, v->tenant, NULL,
			        "committed offset of group %s, topic %s, partition %" PRIu32 " differs", group, name,
			        want->partition_id);
	} while (!look_end(&look) && v->code == 0);
	free(group);
	free(name);
	return stop(v);
}

static enum shmeta_status sink_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                     const struct shmeta_lease *want)
{
	struct verify *v = arg;
	struct shmeta_lease have;
	struct look look;
	enum shmeta_status status;

	end_topic(v);
	if (v->code != 0 || !use_tenant(v, tenant))
		return stop(v);
	v->leases++;
	do {
		if (!look_begin(v, &look))
			return stop(v);
		/* At time 0 no lease has expired. */
		status = shmeta_get_lease(v->s->reader, topic.data, topic.bytes, want->partition_id, 0, &have, NULL);
		if (status != SHMETA_OK)
			differs(v, SHMETA_CLASS_LEASE, v->tenant, NULL,
			        "lease of topic %s, partition %" PRIu32 ": the source has it, the store says: %s",
			        out_safe(topic.data, topic.bytes), want->partition_id, shmeta_strerror(status));
		else if (!same_str(want->leader_agent_id, have.leader_agent_id) || want->epoch != have.epoch ||
		         want->lease_expires_at_ms != have.lease_expires_at_ms ||
		         want->acquired_at_ms != have.acquired_at_ms)
			differs(v, SHMETA_CLASS_LEASE, v->tenant, NULL,
			        "lease of topic %s, partition %" PRIu32 " differs", out_safe(topic.data, topic.bytes),
			        want->partition_id);
	} while (!look_end(&look) && v->code == 0);
	return stop(v);
}

static void sink_poison(void *arg, enum shmeta_class cls, const char *sentence)
{
	struct verify *v = arg;

	(void)cls;
	if (v->again)
		return;
	if (v->quarantined < sizeof(v->poison) / sizeof(v->poison[0]))
		(void)snprintf(v->poison[v->quarantined], sizeof(v->poison[0]), "%s", sentence);
	v->quarantined++;
}

static enum shmeta_status sink_progress(void *arg, uint64_t rows_done, uint64_t rows_total)
{
	struct verify *v = arg;
	uint64_t now = tool_monotonic_ns();

	if (isatty(STDERR_FILENO) != 1 || v->tool->json || now - v->progress_shown_ns < 100000000u)
		return stop(v);
	v->progress_shown_ns = now;
	if (rows_total > 0)
		(void)fprintf(stderr, "\rcomparing: %3.0f %% ", 100.0 * (double)rows_done / (double)rows_total);
	else
		(void)fprintf(stderr, "\rcomparing: %s rows ", out_count(rows_done));
	return stop(v);
}

static void progress_done(const struct verify *v)
{
	if (v->progress_shown_ns != 0)
		(void)fputs("\r\033[K", stderr);
}

/* ---- contents: what the store has beside the source ---------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void extra_topics(struct verify *v)
{
	struct shmeta_iter *iter;
	struct shmeta_topic topic;
	enum shmeta_status status;
	struct look look;
	char *last = NULL, *next = NULL;

	do {
		if (!look_begin(v, &look))
			break;
		iter = NULL;
		next = NULL;
		status = shmeta_list_topics(v->s->reader, NULL, 0, 0, &iter);
		if (status == SHMETA_OK && last != NULL)
			status = shmeta_skip_topics(iter, last, strlen(last));
		while (status == SHMETA_OK && (status = shmeta_next_topic(iter, &topic, NULL)) == SHMETA_OK) {
			char *name = text_of(topic.name);

			if (v->seen_count == 0 ||
			    bsearch(&topic.topic_id, v->seen, v->seen_count, sizeof(*v->seen), by_number) == NULL)
				differs(v, SHMETA_CLASS_TOPIC, v->tenant, name,
				        "topic %s: the store has it, the source does not", name);
			free(next);
			next = name;
			if (session_due(v->s))
				break;
		}
		shmeta_iter_free(iter);
		if (!look_end(&look)) {
			free(next);
			status = SHMETA_OK;
			continue;
		}
		if (next != NULL) {
			free(last);
			last = next;
		}
		if (status < SHMETA_OK)
			differs(v, SHMETA_CLASS_LIST, v->tenant, NULL, "list of topics: %s", shmeta_strerror(status));
	} while (v->code == 0 && status == SHMETA_OK);
	free(last);
}

static enum shmeta_status count_hints(struct verify *v, uint64_t *agents, uint64_t *groups, uint64_t *leases)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_agent agent;
	struct shmeta_group group;
	struct shmeta_lease lease;
	struct shmeta_str topic;
	enum shmeta_status status;

	status = shmeta_list_agents(v->s->reader, NULL, NULL, 0, &iter);
	for (; status == SHMETA_OK && (status = shmeta_next_agent(iter, &agent, NULL)) == SHMETA_OK; (*agents)++)
		;
	shmeta_iter_free(iter);
	iter = NULL;
	if (status == SHMETA_END)
		status = shmeta_list_groups(v->s->reader, &iter);
	for (; status == SHMETA_OK && (status = shmeta_next_group(iter, &group, NULL)) == SHMETA_OK; (*groups)++)
		;
	shmeta_iter_free(iter);
	iter = NULL;
	if (status == SHMETA_END)
		status = shmeta_list_leases(v->s->reader, NULL, NULL, 0, &iter);
	for (; status == SHMETA_OK && (status = shmeta_next_lease(iter, &topic, &lease, NULL)) == SHMETA_OK;
	     (*leases)++)
		;
	shmeta_iter_free(iter);
	return status;
}

/* Hints that the source gave were found one by one; so the numbers tell whether the store has others. */
static void extra_hints(struct verify *v)
{
	uint64_t agents = 0, groups = 0, leases = 0, a, g, l;
	enum shmeta_status status;
	struct look look;

	for (size_t i = 0; i < v->sessions; i++) {
		v->s = &v->session[i].s;
		v->tenant = v->session[i].tenant;
		do {
			if (!look_begin(v, &look))
				return;
			a = g = l = 0;
			status = count_hints(v, &a, &g, &l);
			if (status < SHMETA_OK)
				differs(v, SHMETA_CLASS_AGENT, v->tenant, NULL, "agents, groups and leases: %s",
				        shmeta_strerror(status));
		} while (!look_end(&look) && v->code == 0);
		agents += a;
		groups += g;
		leases += l;
	}
	if (v->code != 0)
		return;
	if (agents != v->agents)
		differs(v, SHMETA_CLASS_AGENT, NULL, NULL, "%" PRIu64 " agents in the source, %" PRIu64 " in the store",
		        v->agents, agents);
	if (groups != v->groups)
		differs(v, SHMETA_CLASS_OFFSET, NULL, NULL,
		        "%" PRIu64 " groups in the source, %" PRIu64 " in the store", v->groups, groups);
	if (leases != v->leases)
		differs(v, SHMETA_CLASS_LEASE, NULL, NULL, "%" PRIu64 " leases in the source, %" PRIu64 " in the store",
		        v->leases, leases);
}

/* ---- contents: passes --------------------------------------------------------------------------------------------------- */

struct engine {
	const struct backend_ops *ops;
	void *state;
	struct backend_sink sink;
};

static enum shmeta_status again_key_begin(void *arg, const struct backend_key *key)
{
	struct verify *v = arg;

	end_topic(v);
	if (key->cls == SHMETA_CLASS_TOPIC && v->code == 0)
		(void)use_tenant(v, key->tenant);
	return stop(v);
}

static enum shmeta_status again_key_end(void *arg, const struct backend_key *key, int found)
{
	struct verify *v = arg;
	struct shmeta_topic topic;
	enum shmeta_status status;
	struct look look;
	char *name;

	end_topic(v);
	if (v->code != 0 || key->cls != SHMETA_CLASS_TOPIC || found != 0)
		return stop(v);
	name = text_of(key->topic);
	do {
		if (!look_begin(v, &look))
			break;
		status = shmeta_get_topic(v->s->reader, name, strlen(name), NULL, &topic, NULL);
		if (status == SHMETA_OK)
			differs(v, SHMETA_CLASS_TOPIC, v->tenant, name,
			        "topic %s: the store has it, the source does not", name);
	} while (!look_end(&look) && v->code == 0);
	free(name);
	return stop(v);
}

static int source_failed(struct verify *v, const char *doing, enum shmeta_status status,
                         const struct backend_error *err)
{
	if (v->code != 0)
		return v->code;
	return tool_error(v->tool, status == SHMETA_ERR_CONFIG ? TOOL_USAGE : tool_exit_of(status), "%s: %s", doing,
	                  err->text[0] != '\0' ? err->text : shmeta_strerror(status));
}

static int first_pass(struct verify *v, struct engine *e)
{
	struct backend_error err = {0};
	char **tenants = NULL;
	size_t count = 0;
	enum shmeta_status status;

	v->topics = v->partitions = v->segments = v->agents = v->groups = v->offsets = v->leases = 0;
	status = e->ops->load(e->state, &e->sink, &err);
	if (v->code == 0 && status == SHMETA_OK)
		end_topic(v);
	progress_done(v);
	if (status != SHMETA_OK || v->code != 0)
		return source_failed(v, "reading the source", status, &err);
	qsort(v->seen, v->seen_count, sizeof(*v->seen), by_number);
	v->code = pages_tenants(v->tool, &v->pages, &tenants, &count);
	for (size_t i = 0; v->code == 0 && i < count; i++)
		if (use_tenant(v, (struct shmeta_str){tenants[i], strlen(tenants[i])}))
			extra_topics(v);
	while (count > 0)
		free(tenants[--count]);
	free(tenants);
	if (v->code == 0)
		extra_hints(v);
	return v->code;
}

/* What is to be looked at again: topics by name, and whether the hints are. */
struct todo {
	struct {
		char *tenant, *name;
	} topic[AGAIN_TOPICS];
	size_t count;
	bool hints, too_many;
};

static void todo_clear(struct todo *todo)
{
	while (todo->count > 0) {
		free(todo->topic[--todo->count].tenant);
		free(todo->topic[todo->count].name);
	}
	todo->hints = todo->too_many = false;
}

/* From the findings from `from` on, each topic once. They come topic by topic, so equal ones are neighbours but for the last
 * look at the whole list. */
static void todo_fill(struct todo *todo, const struct findings *f, size_t from)
{
	todo_clear(todo);
	for (size_t i = from; i < f->count; i++) {
		const struct finding *row = &f->row[i];
		size_t k;

		if (row->topic == NULL) {
			todo->hints = todo->hints || row->cls >= SHMETA_CLASS_AGENT;
			continue;
		}
		for (k = todo->count; k > 0; k--)
			if (strcmp(todo->topic[k - 1].name, row->topic) == 0 &&
			    strcmp(todo->topic[k - 1].tenant, row->tenant) == 0)
				break;
		if (k > 0)
			continue;
		if (todo->count == AGAIN_TOPICS) {
			todo->too_many = true;
			return;
		}
		todo->topic[todo->count].tenant = tool_copy(row->tenant, strlen(row->tenant));
		todo->topic[todo->count++].name = tool_copy(row->topic, strlen(row->topic));
	}
}

/* Afterwards the findings from `from` on are those of this look. */
static int look_again(struct verify *v, struct engine *e, size_t from, const struct todo *todo)
{
	static const struct backend_key hints[] = {
		{.cls = SHMETA_CLASS_AGENT}, {.cls = SHMETA_CLASS_LEASE}, {.cls = SHMETA_CLASS_OFFSET}};
	struct backend_error err = {0};
	struct backend_key *keys = tool_alloc(todo->count * sizeof(*keys));
	uint64_t topics = v->topics, partitions = v->partitions, segments = v->segments;
	enum shmeta_status status = SHMETA_OK;

	findings_cut(&v->found, from);
	for (size_t i = 0; i < todo->count; i++)
		keys[i] = (struct backend_key){
			.cls = SHMETA_CLASS_TOPIC,
			.with_segments = 1,
			.to = INT64_MAX,
			.tenant = {todo->topic[i].tenant, strlen(todo->topic[i].tenant)},
			.topic = {todo->topic[i].name, strlen(todo->topic[i].name)},
		};
	if (todo->count > 0)
		status = e->ops->fetch(e->state, keys, todo->count, &e->sink, &err);
	free(keys);
	if (status == SHMETA_OK && v->code == 0 && todo->hints) {
		v->agents = v->groups = v->offsets = v->leases = 0;
		status = e->ops->fetch(e->state, hints, sizeof(hints) / sizeof(hints[0]), &e->sink, &err);
		if (status == SHMETA_OK && v->code == 0)
			extra_hints(v);
	}
	v->topics = topics;
	v->partitions = partitions;
	v->segments = segments;
	return status != SHMETA_OK || v->code != 0 ? source_failed(v, "reading the source again", status, &err) : 0;
}

static bool writer_alive(const struct verify *v)
{
	uint64_t now = shmeta__boottime_ns(), beat = shmeta_observe(&v->pages.live_board->heartbeat_ns);

	return v->pages.alive && (beat >= now || now - beat < 5000000000u);
}

static int contents(struct verify *v, const char *uri)
{
	static struct todo todo;
	const struct timespec pause = {.tv_nsec = AGAIN_PAUSE_MS * 1000000};
	struct engine e = {
		.sink = {.arg = v,
	                 .topic = sink_topic,
	                 .partition = sink_partition,
	                 .segment = sink_segment,
	                 .agent = sink_agent,
	                 .group = sink_group,
	                 .offset = sink_offset,
	                 .lease = sink_lease,
	                 .poison = sink_poison,
	                 .key_begin = again_key_begin,
	                 .key_end = again_key_end,
	                 .progress = sink_progress},
	};
	struct backend_options options = {.uri = uri, .timeout_ms = v->tool->timeout_ms, .read_only = 1};
	struct backend_error err = {0};
	uint64_t deadline;
	size_t from = v->found.count;
	int code = 0;

	e.ops = backend_find(uri, &err);
	if (e.ops == NULL)
		return tool_error(v->tool, TOOL_USAGE, "%s", err.text);
	e.state = tool_alloc(e.ops->state_bytes);
	memset(e.state, 0, e.ops->state_bytes);
	if (e.ops->open(e.state, &options, &err) != SHMETA_OK)
		code = source_failed(v, "opening the source", err.code, &err);
	if (code == 0)
		code = first_pass(v, &e);
	deadline = tool_monotonic_ns() + v->tool->timeout_ms * 1000000ull;
	v->again = true;
	while (code == 0 && v->found.count > from && writer_alive(v) && tool_monotonic_ns() < deadline) {
		todo_fill(&todo, &v->found, from);
		if (todo.too_many || (todo.count == 0 && !todo.hints))
			break;
		(void)nanosleep(&pause, NULL);
		code = look_again(v, &e, from, &todo);
	}
	todo_clear(&todo);
	e.ops->close(e.state);
	free(e.state);
	v->contents_checked = code == 0;
	return code;
}

/* ---- the verb ------------------------------------------------------------------------------------------------------------ */

static void report(struct verify *v, const char *uri)
{
	char differences[64];
	uint64_t total = v->structure_problems;
	size_t own = v->structure_problems < SHOWN ? (size_t)v->structure_problems : SHOWN;

	total += v->found.count > own ? v->found.count - own : 0;
	(void)snprintf(differences, sizeof(differences), "%s difference%s", out_count(total), total == 1 ? "" : "s");
	if (v->tool->json) {
		json_t *doc = out_document("verify"), *items = json_array();

		for (size_t i = 0; i < v->found.count && i < SHOWN; i++)
			(void)json_array_append_new(items,
			                            out_json_text(v->found.row[i].text, strlen(v->found.row[i].text)));
		out_set(doc, "structure_problems", out_json_count(v->structure_problems));
		out_set(doc, "source", uri != NULL ? out_json_text(uri, strlen(uri)) : json_null());
		out_set(doc, "compared_with_source", json_boolean(v->contents_checked));
		out_set(doc, "quarantined_rows", out_json_count(v->quarantined));
		out_set(doc, "topics", out_json_count(v->topics));
		out_set(doc, "partitions", out_json_count(v->partitions));
		out_set(doc, "segments", out_json_count(v->segments));
		out_set(doc, "agents", out_json_count(v->agents));
		out_set(doc, "groups", out_json_count(v->groups));
		out_set(doc, "committed_offsets", out_json_count(v->offsets));
		out_set(doc, "leases", out_json_count(v->leases));
		out_set(doc, "differences", out_json_count(total));
		out_set(doc, "items", items);
		out_json(doc, 2);
		return;
	}
	for (size_t i = 0; i < v->found.count && i < SHOWN; i++)
		(void)printf("%s\n", out_safe(v->found.row[i].text, strlen(v->found.row[i].text)));
	if (total > SHOWN)
		(void)printf("... and %s more\n", out_count(total - SHOWN));
	for (uint64_t i = 0; i < v->quarantined && i < sizeof(v->poison) / sizeof(v->poison[0]); i++)
		(void)printf("quarantined: %s\n", out_safez(v->poison[i], sizeof(v->poison[i])));
	if (v->quarantined > 0)
		(void)printf("%s rows of the source are quarantined: nobody can use them\n", out_count(v->quarantined));
	if (!v->contents_checked)
		(void)puts("structure only; contents were not compared with a source");
	(void)printf("verified %s topics, %s partitions, %s segments: %s\n", out_count(v->topics),
	             out_count(v->partitions), out_count(v->segments),
	             out_paint(v->tool, total == 0 ? PAINT_GOOD : PAINT_BAD, differences));
}

int verb_verify(struct tool *tool)
{
	struct verify *v = tool_alloc(sizeof(*v));
	char path[PATH_MAX + 32], uri[sizeof(v->pages.stats->source) + 1] = "";
	const char *source = tool->source;
	int code;

	memset(v, 0, sizeof(*v));
	v->tool = tool;
	v->pages.dir_fd = -1;
	if (tool->store != NULL && source != NULL) {
		code = tool_error(tool, TOOL_USAGE,
		                  "--store looks at a store alone; it cannot be compared with --source");
		goto out;
	}
	code = tool->store != NULL ? store_path(tool, tool->store, path) : pages_open(tool, &v->pages);
	if (code == 0 && tool->store == NULL && !v->pages.published)
		code = tool_error(tool, TOOL_NOT_RUNNING, "%s: the writer has not published anything yet", tool->dir);
	if (code != 0)
		goto out;
	if (tool->store == NULL)
		(void)snprintf(path, sizeof(path), "%s/store.%" PRIu64, tool->dir, v->pages.board.generation);
	code = structure(v, path, tool->store == NULL);
	if (code != 0)
		goto out;
	if (tool->store == NULL && source == NULL && v->pages.stats != NULL) {
		(void)snprintf(uri, sizeof(uri), "%.*s", (int)sizeof(v->pages.stats->source), v->pages.stats->source);
		/* What lives in the daemon's memory cannot be opened here. */
		source = uri[0] != '\0' && strncmp(uri, "memory:", 7) != 0 ? uri : NULL;
	}
	/* A store that is not sound cannot be read through the library either. */
	if (tool->store == NULL && source != NULL && v->structure_problems == 0)
		code = contents(v, source);
	if (code == 0) {
		report(v, source);
		code = v->found.count > 0 || v->structure_problems > 0 ? TOOL_UNHEALTHY : TOOL_OK;
	}
out:
	for (size_t i = 0; i < v->sessions; i++) {
		session_close(&v->session[i].s);
		free(v->session[i].tenant);
	}
	drop_rows(v);
	findings_cut(&v->found, 0);
	free(v->found.row);
	free(v->session);
	free(v->topic);
	free(v->partition_ids);
	free(v->seen);
	pages_close(&v->pages);
	free(v);
	return code;
}
