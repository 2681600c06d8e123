/* SPDX-License-Identifier: Apache-2.0
 * biggest: the topics with the most segments or bytes. */
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/paging.h"

enum { USUAL_ROWS = 20 };

struct topic_size {
	char *name;
	size_t name_bytes;
	uint64_t partitions, segments, bytes;
};

/* The largest so far, the largest first; and what the slice that is being read found. */
struct ranking {
	struct session *session;
	bool by_segments;
	size_t most;
	struct topic_size *best, *found;
	size_t best_count, found_count, found_capacity;
	uint64_t topics, segments, bytes;
	enum shmeta_status status; /* of the sums; OK, or why the slice is over */
};

static uint64_t weight(const struct ranking *r, const struct topic_size *t)
{
	return r->by_segments ? t->segments : t->bytes;
}

static bool add_topic(void *arg, const struct shmeta_topic *topic, const struct shmeta_freshness *fresh)
{
	struct ranking *r = arg;
	struct shmeta_topic_stats sums;
	struct topic_size *t;

	(void)fresh;
	r->status = shmeta_topic_stats(r->session->reader, topic->name.data, topic->name.bytes, NULL, &sums, NULL);
	if (r->status < SHMETA_OK)
		return false;
	if (r->status != SHMETA_OK)
		return true; /* its partitions are not known */
	if (r->found_count == r->found_capacity) {
		r->found_capacity = r->found_capacity > 0 ? 2 * r->found_capacity : 256;
		r->found = tool_grow(r->found, r->found_capacity * sizeof(*r->found));
	}
	t = &r->found[r->found_count++];
	*t = (struct topic_size){.name = tool_copy(topic->name.data, topic->name.bytes),
	                         .name_bytes = topic->name.bytes,
	                         .partitions = topic->partition_count,
	                         .segments = sums.segment_count,
	                         .bytes = sums.size_bytes};
	return true;
}

static enum shmeta_status slice(struct session *s, struct page_place *at, void *arg)
{
	struct ranking *r = arg;
	enum shmeta_status status;

	r->status = SHMETA_OK;
	status = page_topics(s, at, add_topic, r);
	return r->status < SHMETA_OK ? r->status : status;
}

static void drop(void *arg)
{
	struct ranking *r = arg;

	while (r->found_count > 0)
		free(r->found[--r->found_count].name);
}

static void keep(void *arg)
{
	struct ranking *r = arg;

	for (size_t i = 0; i < r->found_count; i++) {
		struct topic_size *t = &r->found[i];
		size_t at = r->best_count;

		r->topics++;
		r->segments += t->segments;
		r->bytes += t->bytes;
		while (at > 0 && weight(r, &r->best[at - 1]) < weight(r, t))
			at--;
		if (at == r->most) {
			free(t->name);
			continue;
		}
		if (r->best_count == r->most)
			free(r->best[--r->best_count].name);
		memmove(&r->best[at + 1], &r->best[at], (r->best_count - at) * sizeof(*t));
		r->best[at] = *t;
		r->best_count++;
	}
	r->found_count = 0;
}

static void print(struct tool *tool, const struct ranking *r)
{
	struct list list;

	list_begin(&list, tool, "biggest");
	for (size_t i = 0; i < r->best_count; i++) {
		const struct topic_size *t = &r->best[i];
		uint64_t all = r->by_segments ? r->segments : r->bytes;
		double percent = all > 0 ? 100.0 * (double)weight(r, t) / (double)all : 0.0;
		char share[16];
		struct field f[6] = {f_text("topic", (struct shmeta_str){t->name, t->name_bytes}),
		                     f_count("partitions", t->partitions), f_count("segments", t->segments),
		                     f_bytes("size_bytes", t->bytes)};

		(void)snprintf(share, sizeof(share), "%.1f %%", percent);
		f[4] = f_text("share", (struct shmeta_str){share, strlen(share)});
		f[4].flags |= FIELD_RIGHT;
		f[5] = f_hidden(f_percent("share_percent", percent));
		list_row(&list, f, 6);
	}
	list.incomplete = r->best_count < r->topics || r->session->lacks;
	list_end(&list, NULL, 0);
	list_free(&list);
	if (!tool->json)
		(void)printf("of %s topics with %s segments and %s\n", out_count(r->topics), out_count(r->segments),
		             out_size(r->bytes));
}

int verb_biggest(struct tool *tool)
{
	struct ranking r = {.most = tool->limit > 0 ? tool->limit : USUAL_ROWS};
	struct session s;
	int code;

	if (tool->by != NULL && strcmp(tool->by, "bytes") != 0 && strcmp(tool->by, "segments") != 0)
		return tool_error(tool, TOOL_USAGE, "--by: '%s' is not bytes or segments", tool->by);
	if (r.most > 100000)
		return tool_error(tool, TOOL_USAGE, "--limit: at most 100000 topics are ranked; 'ls topics' lists all");
	r.by_segments = tool->by != NULL && strcmp(tool->by, "segments") == 0;
	code = session_open_long(tool, tool->tenant, &s);
	if (code != 0)
		return code;
	r.session = &s;
	r.best = tool_alloc((r.most + 1) * sizeof(*r.best));
	code = page_all(&s, &(struct paging){.slice = slice, .keep = keep, .drop = drop, .arg = &r, .what = "topics"});
	if (code == 0)
		print(tool, &r);
	if (code == 0)
		session_tell_lacks(&s);
	drop(&r);
	while (r.best_count > 0)
		free(r.best[--r.best_count].name);
	free(r.best);
	free(r.found);
	session_close(&s);
	return code;
}
