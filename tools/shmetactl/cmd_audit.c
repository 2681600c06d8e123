/* SPDX-License-Identifier: Apache-2.0
 * objects audit: which objects of a bucket no metadata names, and which metadata names an object
 * that is not there.
 *
 *   listing, made first ─> objects ─> everything that load() shows ─> objects again
 *     ─> what nobody named, what was not listed
 *
 * Deletion follows from this, so nothing is said that is not certain. The source itself is read,
 * all tenants of it, behind the listing. Nothing is judged where a row could not be read: it may
 * name any object. An object is judged when it was written longer than --min-age ago: until then
 * who uploaded it may still be about to commit it. One without a time of modification is never
 * judged. What metadata of the same age names and the listing lacks is missing; what is younger may
 * have been uploaded behind the listing. Nor is What a listing was asked to spell for URLs
 * (--encoding-type url) does not say so reliably: a key that can be read in both ways is judged in
 * both. Nor is anything judged where no row names an object of the bucket, or the daemon does not
 * accept its source: then all of it would be orphans.
 *
 * Opens the source as export does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/inspect.h"
#include "tools/shmetactl/move_rows.h"
#include "tools/shmetactl/object_listing.h"

enum { ROWS_AT_ONCE = 1000, SENTENCES_SHOWN = 5 };

/* The first metadata that names an object which is not listed. */
struct missing {
	char *key, *topic;
	uint32_t partition_id;
	uint64_t base_offset;
	int64_t created_at_ms;
};

struct audit {
	struct tool *tool;
	struct move_source source;
	struct object_listing listing, lacked; /* lacked: the keys that are missing, each once */
	struct object_listing decoded;         /* the keys that the listed ones may stand for
                                                * (listing_decode()) */
	struct missing *missing;               /* of lacked.object[i] */
	size_t missing_capacity;
	const char *bucket;
	int64_t before_ms; /* what was written then or later is not judged */
	char *topic;
	uint32_t partition_id;
	uint64_t named, elsewhere, young, untimed, orphans, quarantined;
	bool no_memory;
};

/* ---- what metadata names ---- */

static bool lacks(struct audit *a, struct shmeta_str key, uint64_t base_offset, int64_t created_at_ms)
{
	size_t count = a->lacked.count;

	if (!listing_add(&a->lacked, key, 0, created_at_ms))
		return false;
	if (a->lacked.count == count)
		return true;
	if (count == a->missing_capacity) {
		a->missing_capacity = count == 0 ? 64 : 2 * count;
		a->missing = tool_grow(a->missing, a->missing_capacity * sizeof *a->missing);
	}
	a->missing[count] = (struct missing){.key = tool_copy(key.data, key.bytes),
	                                     .topic = a->topic != NULL ? tool_copy(a->topic, strlen(a->topic)) : NULL,
	                                     .partition_id = a->partition_id,
	                                     .base_offset = base_offset,
	                                     .created_at_ms = created_at_ms};
	return true;
}

static enum shmeta_status name(struct audit *a, struct shmeta_str bucket, struct shmeta_str key, uint64_t base_offset,
                               int64_t created_at_ms)
{
	struct listed *object, *decoded;

	if (bucket.bytes != strlen(a->bucket) || memcmp(bucket.data, a->bucket, bucket.bytes) != 0) {
		a->elsewhere++;
		return SHMETA_OK;
	}
	a->named++;
	object = listing_find(&a->listing, key);
	decoded = listing_find(&a->decoded, key);
	if (object != NULL)
		object->named = true;
	if (decoded != NULL)
		decoded->named = true;
	if (object == NULL && decoded == NULL && created_at_ms < a->before_ms &&
	    !lacks(a, key, base_offset, created_at_ms))
		a->no_memory = true;
	return a->no_memory ? SHMETA_ERR_NO_MEMORY : SHMETA_OK;
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct audit *a = arg;

	(void)tenant;
	free(a->topic);
	a->topic = tool_copy(topic->name.data, topic->name.bytes);
	return SHMETA_OK;
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	((struct audit *)arg)->partition_id = partition->partition_id;
	return SHMETA_OK;
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct audit *a = arg;

	a->partition_id = segment->partition_id;
	return name(a, segment->s3_bucket, segment->s3_key, segment->base_offset, segment->created_at_ms);
}

static enum shmeta_status on_object(void *arg, const struct backend_row *row)
{
	struct audit *a = arg;

	free(a->topic);
	a->topic = NULL;
	return name(a, row->u.object.s3_bucket, row->u.object.s3_key, 0, row->u.object.created_at_ms);
}

/* Agents, groups, offsets and leases name no objects. */
static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	(void)arg, (void)tenant, (void)agent;
	return SHMETA_OK;
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	(void)arg, (void)tenant, (void)group;
	return SHMETA_OK;
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	(void)arg, (void)tenant, (void)topic, (void)offset;
	return SHMETA_OK;
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	(void)arg, (void)tenant, (void)topic, (void)lease;
	return SHMETA_OK;
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	struct audit *a = arg;

	(void)row;
	if (a->quarantined++ < SENTENCES_SHOWN)
		(void)fprintf(stderr, "shmetactl: cannot be read: %s\n", out_safe(sentence, strlen(sentence)));
}

static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg, (void)total;
	out_progress("audit", done);
	return SHMETA_OK;
}

static int read_source(struct audit *a)
{
	const struct backend_engine *engine = a->source.engine;
	const struct backend_sink sink = {.arg = a,
	                                  .topic = on_topic,
	                                  .partition = on_partition,
	                                  .segment = on_segment,
	                                  .agent = on_agent,
	                                  .group = on_group,
	                                  .offset = on_offset,
	                                  .lease = on_lease,
	                                  .quarantine = on_quarantine,
	                                  .progress = on_progress};
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;

	if (engine->admin == NULL || engine->admin->extras == NULL)
		return tool_error(a->tool, TOOL_USAGE, "%s: this engine does not show its objects", engine->name);
	/* Objects may be committed while the segments are read: both lists count. */
	status = engine->admin->extras(a->source.state, BACKEND_ROW_OBJECT, on_object, a, &err);
	if (status == SHMETA_OK)
		status = engine->source->load(a->source.state, &sink, &err);
	if (status == SHMETA_OK)
		status = engine->admin->extras(a->source.state, BACKEND_ROW_OBJECT, on_object, a, &err);
	out_progress_end();
	if (a->no_memory)
		return tool_error(a->tool, TOOL_UNHEALTHY, "out of memory");
	if (status != SHMETA_OK)
		return move_failed(a->tool, "reading the source", status, &err);
	if (a->quarantined > 0)
		return tool_error(
			a->tool, TOOL_UNHEALTHY,
			"%s rows of the source cannot be read, and any of them may name any object: nothing is judged",
			out_count(a->quarantined));
	/* A name that was mistyped, or a source that was emptied: every object of the bucket would
	 * be an orphan. */
	if (a->named == 0)
		return tool_error(
			a->tool, TOOL_USAGE,
			"no row of the source names an object of bucket '%s', and %s of other buckets: is it the "
			"bucket, and the source, that was meant? Nothing is judged",
			a->bucket, a->elsewhere > 0 ? out_count(a->elsewhere) : "none one");
	return 0;
}

/* The daemon holds its source back, which may lack most of what it had: what is not named there may
 * be named yet. */
static int judge_hold(struct tool *tool)
{
	struct pages pages = {0};
	int code = pages_open(tool, &pages);
	const char *status = code == 0 && pages.stats != NULL ? pages.stats->source_status : "";
	bool held = memmem(status, strnlen(status, SHMETA_STATS_TEXT), "not accepted: ", 14) != NULL;

	if (code == 0)
		pages_close(&pages);
	return code != 0 || !held
	               ? code
	               : tool_error(
				 tool, TOOL_UNHEALTHY,
				 "the daemon does not publish this source, which changed and lost most of its content "
				 "('shmetactl status' says more): nothing is judged");
}

/* ---- what is told ---- */

/* Is the key that this one may stand for named? */
static bool named_decoded(const struct audit *a, const struct listed *object)
{
	char text[LISTED_KEY_MAX];
	size_t bytes;
	const struct listed *found;

	if (a->decoded.count == 0 || !listing_decode(listing_key(&a->listing, object), text, &bytes))
		return false;
	found = listing_find(&a->decoded, (struct shmeta_str){text, bytes});
	return found != NULL && found->named;
}

static void tell_orphans(struct audit *a, struct list *list)
{
	for (size_t i = 0; i < a->listing.count; i++) {
		const struct listed *object = &a->listing.object[i];

		if (object->named || named_decoded(a, object))
			continue;
		if (object->modified_ms == LISTED_TIME_UNKNOWN) {
			a->untimed++;
		} else if (object->modified_ms >= a->before_ms) {
			a->young++;
		} else {
			struct field f[] = {f_word("finding", "orphan"),
			                    f_text("key", listing_key(&a->listing, object)),
			                    f_bytes("size_bytes", object->size),
			                    f_time("modified_ms", object->modified_ms),
			                    f_null("created_at_ms"),
			                    f_null("topic"),
			                    f_null("partition"),
			                    f_null("base_offset")};

			a->orphans++;
			list_row(list, f, sizeof(f) / sizeof(*f));
			if (list->waiting >= ROWS_AT_ONCE)
				list_flush(list);
		}
	}
}

static void tell_missing(struct audit *a, struct list *list)
{
	for (size_t i = 0; i < a->lacked.count; i++) {
		const struct missing *m = &a->missing[i];
		struct field f[] = {f_word("finding", "missing"),
		                    f_string("key", m->key),
		                    f_null("size_bytes"),
		                    f_null("modified_ms"),
		                    f_time("created_at_ms", m->created_at_ms),
		                    m->topic != NULL ? f_string("topic", m->topic) : f_null("topic"),
		                    m->topic != NULL ? f_count("partition", m->partition_id) : f_null("partition"),
		                    m->topic != NULL ? f_count("base_offset", m->base_offset) : f_null("base_offset")};

		list_row(list, f, sizeof(f) / sizeof(*f));
		if (list->waiting >= ROWS_AT_ONCE)
			list_flush(list);
	}
}

static int tell(struct audit *a)
{
	struct list list;

	list_begin(&list, a->tool, "audit");
	tell_orphans(a, &list);
	tell_missing(a, &list);
	list_end(&list, NULL, 0);
	list_free(&list);
	(void)fprintf(
		stderr,
		"%s objects listed: %s named by nothing, %s missing; not judged: %s younger than %s, %s without a time. "
		"%s rows name an object of this bucket, %s one of another\n",
		out_count(a->listing.count), out_count(a->orphans), out_count(a->lacked.count), out_count(a->young),
		out_ns((uint64_t)a->tool->min_age_ms * 1000000u), out_count(a->untimed), out_count(a->named),
		out_count(a->elsewhere));
	return a->orphans + a->lacked.count > 0 ? TOOL_UNHEALTHY : TOOL_OK;
}

/* ---- the verb ---- */

static int read_listing(struct audit *a, const char *file)
{
	FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
	char fault[240];
	bool ok;

	if (f == NULL)
		return tool_error(a->tool, errno == EACCES ? TOOL_PERMISSION : TOOL_USAGE, "%s: %s", file,
		                  strerror(errno));
	ok = listing_read(f, a->bucket, &a->listing, fault) && listing_decoded(&a->listing, &a->decoded, fault);
	if (f != stdin)
		(void)fclose(f);
	return ok ? 0 : tool_error(a->tool, TOOL_USAGE, "the listing: %s", fault);
}

static void audit_free(struct audit *a)
{
	for (size_t i = 0; i < a->lacked.count; i++) {
		free(a->missing[i].key);
		free(a->missing[i].topic);
	}
	free(a->missing);
	free(a->topic);
	listing_free(&a->listing);
	listing_free(&a->decoded);
	listing_free(&a->lacked);
	move_close(&a->source);
}

int verb_objects_audit(struct tool *tool)
{
	struct audit a = {.tool = tool, .bucket = tool->argv[0]};
	char uri[SOURCE_URI_MAX];
	int code = move_source_uri(tool, uri);

	if (code == 0 && tool->source == NULL)
		code = judge_hold(tool);
	if (tool->min_age_ms == 0)
		tool->min_age_ms = 24 * 3600000u;
	a.before_ms = tool_wall_ms() - (int64_t)tool->min_age_ms;
	if (code == 0)
		code = read_listing(&a, tool->argv[1]);
	if (code == 0)
		code = move_open(tool, uri, false, &a.source);
	if (code == 0)
		code = read_source(&a);
	if (code == 0)
		code = tell(&a);
	audit_free(&a);
	return code;
}
