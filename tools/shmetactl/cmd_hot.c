/* SPDX-License-Identifier: Apache-2.0
 * hot: the keys that the processes of this host look up most, as the writer has counted their
 * samples. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tools/shmetactl/inspect.h"
#include "tools/shmetactl/paging.h"

enum { USUAL_ROWS = 20 };

/* The names of the topics that the rows are of. */
struct names {
	const struct shmeta_usage *usage;
	char *name[SHMETA_USAGE_KEYS];
	size_t bytes[SHMETA_USAGE_KEYS];
};

int usage_open(struct tool *tool, struct shmeta_usage *ret)
{
	struct shmeta_err err = {0};
	struct pages pages;
	void *map = NULL;
	enum shmeta_status status;
	int code = pages_open(tool, &pages);

	if (code != 0)
		return code;
	status = shmeta__map_file(pages.dir_fd, "usage", sizeof(*ret), 0, &map, &err);
	if (status == SHMETA_OK)
		status = shmeta__usage_copy(map, ret, &err);
	if (map != NULL)
		(void)munmap(map, sizeof(*ret));
	pages_close(&pages);
	if (status == SHMETA_OK)
		return 0;
	if (status == SHMETA_ERR_NOT_RUNNING)
		return tool_error(tool, TOOL_VERSION,
		                  "%s/usage: the writer that ran here kept no such page: it is older than this program",
		                  tool->dir);
	return tool_error(tool, tool_exit_of(status), "%s/usage: %s", tool->dir, err.text);
}

static bool note_name(void *arg, const struct shmeta_topic *topic, const struct shmeta_freshness *fresh)
{
	struct names *n = arg;

	(void)fresh;
	for (uint32_t i = 0; i < n->usage->count; i++)
		if (n->usage->used[i].key >> 32 == topic->topic_id && n->name[i] == NULL) {
			n->name[i] = tool_copy(topic->name.data, topic->name.bytes);
			n->bytes[i] = topic->name.bytes;
		}
	return true;
}

static enum shmeta_status slice(struct session *s, struct page_place *at, void *arg)
{
	return page_topics(s, at, note_name, arg);
}

/* A number is given to one topic only: what a slice found stays right. */
static void nothing(void *arg)
{
	(void)arg;
}

static void print(struct tool *tool, const struct names *n)
{
	const struct shmeta_usage *u = n->usage;
	uint32_t most = tool->limit > 0 && tool->limit < u->count ? (uint32_t)tool->limit : u->count;
	struct list list;

	if (tool->limit == 0 && most > USUAL_ROWS)
		most = USUAL_ROWS;
	list_begin(&list, tool, "hot");
	for (uint32_t i = 0; i < most; i++) {
		uint32_t partition = (uint32_t)u->used[i].key;
		double percent = u->samples > 0 ? 100.0 * (double)u->used[i].samples / (double)u->samples : 0.0;
		char share[16];
		struct field f[] = {n->name[i] != NULL ? f_text("topic", (struct shmeta_str){n->name[i], n->bytes[i]})
		                                       : f_null("topic"),
		                    partition != TOUCH_TOPIC ? f_count("partition_id", partition)
		                                             : f_null("partition_id"),
		                    f_count("samples", u->used[i].samples),
		                    f_text("share", (struct shmeta_str){share, 0}),
		                    f_hidden(f_percent("share_percent", percent)),
		                    f_count("topic_id", u->used[i].key >> 32)};

		(void)snprintf(share, sizeof(share), "%.1f %%", percent < 100.0 ? percent : 100.0);
		f[3] = f_text("share", (struct shmeta_str){share, strlen(share)});
		f[3].flags |= FIELD_RIGHT;
		list_row(&list, f, sizeof(f) / sizeof(*f));
	}
	list.incomplete = most < u->count;
	list_end(&list, NULL, 0);
	list_free(&list);
	if (!tool->json)
		(void)printf("of %s samples, one of %u lookups of a thread each; halved every %u s\n",
		             out_count(u->samples), u->sample_every, u->half_life_s);
}

int verb_hot(struct tool *tool)
{
	struct shmeta_usage usage;
	struct names n = {.usage = &usage};
	struct session s;
	int code = usage_open(tool, &usage);

	if (code == 0)
		code = session_open_long(tool, tool->tenant, &s);
	if (code != 0)
		return code;
	if (usage.count > 0)
		code = page_all(&s,
		                &(struct paging){
					.slice = slice, .keep = nothing, .drop = nothing, .arg = &n, .what = "topics"});
	if (code == 0)
		print(tool, &n);
	for (uint32_t i = 0; i < SHMETA_USAGE_KEYS; i++)
		free(n.name[i]);
	session_close(&s);
	return code;
}
