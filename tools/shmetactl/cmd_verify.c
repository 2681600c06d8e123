/* SPDX-License-Identifier: Apache-2.0
 * verify: is the store sound (verify_structure.c), and does it hold what the source holds
 * (verify_contents.h)? */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/verify_contents.h"

static void report(struct verify *v, const char *uri)
{
	char differences[64];
	uint64_t total = v->structure_problems;
	size_t own = v->structure_problems < VERIFY_SHOWN ? (size_t)v->structure_problems : VERIFY_SHOWN;

	total += v->found.count > own ? v->found.count - own : 0;
	(void)snprintf(differences, sizeof(differences), "%s difference%s", out_count(total), total == 1 ? "" : "s");
	if (v->tool->json) {
		json_t *doc = out_document("verify"), *items = json_array();

		for (size_t i = 0; i < v->found.count && i < VERIFY_SHOWN; i++)
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
	for (size_t i = 0; i < v->found.count && i < VERIFY_SHOWN; i++)
		(void)printf("%s\n", out_safe(v->found.row[i].text, strlen(v->found.row[i].text)));
	if (total > VERIFY_SHOWN)
		(void)printf("... and %s more\n", out_count(total - VERIFY_SHOWN));
	for (uint64_t i = 0; i < v->quarantined && i < sizeof(v->sentences) / sizeof(v->sentences[0]); i++)
		(void)printf("quarantined: %s\n", out_safez(v->sentences[i], sizeof(v->sentences[i])));
	if (v->quarantined > 0)
		(void)printf("%s rows of the source are quarantined; 'shmetactl quarantine' lists them\n",
		             out_count(v->quarantined));
	if (!v->contents_checked)
		(void)puts("structure only; contents were not compared with a source");
	(void)printf("verified %s topics, %s partitions, %s segments: %s\n", out_count(v->topics),
	             out_count(v->partitions), out_count(v->segments),
	             out_paint(v->tool, total == 0 ? PAINT_GOOD : PAINT_BAD, differences));
}

int verb_verify(struct tool *tool)
{
	struct verify *v = tool_alloc(sizeof(*v));
	char path[PATH_MAX + 32], uri[SOURCE_URI_MAX] = "";
	const char *source = tool->source;
	struct shmeta__verify_report structure = {0};
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
	code = verify_structure(tool, tool->store == NULL ? &v->pages : NULL, path, &v->found, &structure);
	if (code != 0)
		goto out;
	v->structure_problems = structure.problems;
	v->topics = structure.topics;
	v->partitions = structure.partitions;
	v->segments = structure.segments;
	v->agents = structure.agents;
	v->groups = structure.groups;
	v->offsets = structure.offsets;
	v->leases = structure.leases;
	v->incomplete = structure.incomplete;
	/* What lives in the daemon's memory cannot be opened here. */
	if (tool->store == NULL && source == NULL)
		source = source_uri(tool, &v->pages, uri) ? uri : NULL;
	if (tool->store == NULL && source != NULL)
		code = source_judge(tool, source);
	/* A store that is not sound cannot be read through the library either. */
	if (code == 0 && tool->store == NULL && source != NULL && v->structure_problems == 0)
		code = verify_contents(v, source);
	if (code == 0) {
		report(v, source);
		code = v->found.count > 0 || v->structure_problems > 0 ? TOOL_UNHEALTHY : TOOL_OK;
	}
out:
	verify_close(v);
	free(v);
	return code;
}
