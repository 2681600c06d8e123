/* SPDX-License-Identifier: Apache-2.0
 * shmetactl: what is kept in a source beside its rows: schema apply, remove, status. */
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/move_rows.h"

struct schema {
	struct tool *tool;
	bool sql; /* statements, and not words about it */
	uint64_t lines;
	json_t *items;
	bool feed; /* the status said that it is complete */
};

static enum shmeta_status told(void *arg, const char *about, const char *text)
{
	struct schema *s = arg;

	s->lines++;
	s->feed |= strcmp(about, "change feed") == 0 && strcmp(text, "complete") == 0;
	if (s->tool->json && s->sql)
		(void)json_array_append_new(s->items, out_json_text(text, strlen(text)));
	else if (s->tool->json)
		out_set(s->items, about, out_json_text(text, strlen(text)));
	else if (s->sql && s->tool->dry_run)
		(void)printf("%s;\n", text);
	else if (!s->sql)
		(void)printf("%-24s  %s\n", about, out_safez(text, strlen(text)));
	return SHMETA_OK;
}

static int run(struct tool *tool, enum backend_schema_verb verb)
{
	struct schema s = {.tool = tool, .sql = verb != BACKEND_SCHEMA_STATUS};
	struct backend_error err = {.code = SHMETA_OK};
	struct backend_options options = {.timeout_ms = tool->timeout_ms,
	                                  .password_file = tool->password_file,
	                                  /* A source that was named is made, because it was asked
	                                   * for. */
	                                  .create = verb == BACKEND_SCHEMA_APPLY && tool->source != NULL};
	char uri[SOURCE_URI_MAX];
	enum shmeta_status status;
	int code = move_source_uri(tool, uri);
	const struct backend_engine *engine;
	void *state;

	options.uri = uri;
	if (code != 0)
		return code;
	/* Whoever names a source has asked for it; a daemon's is there already. */
	options.create = tool->source != NULL && verb == BACKEND_SCHEMA_APPLY;
	engine = backend_find(options.uri, &err);
	if (engine == NULL)
		return tool_error(tool, TOOL_USAGE, "%s", err.text);
	if (engine->admin == NULL || engine->admin->schema == NULL)
		return tool_error(tool, TOOL_USAGE, "%s keeps nothing beside its rows", engine->name);
	if (verb == BACKEND_SCHEMA_REMOVE && !tool->dry_run &&
	    !tool_agreed(tool, "remove shmeta's tables and triggers from the source",
	                 "epochs of leases and objects of many slices go with them"))
		return TOOL_USAGE;
	s.items = s.sql ? json_array() : json_object();
	state = tool_alloc(engine->state_bytes);
	memset(state, 0, engine->state_bytes);
	status = engine->admin->schema(state, &options, verb, tool->dry_run, told, &s, &err);
	engine->source->close(state);
	free(state);
	if (status != SHMETA_OK) {
		json_decref(s.items);
		return tool_error(tool, source_exit(status, &err), "%s", err.text);
	}
	if (tool->json) {
		json_t *doc = out_document("schema");

		out_set(doc, s.sql ? "statements" : "status", s.items);
		if (s.sql)
			out_set(doc, "done", json_boolean(!tool->dry_run));
		out_json(doc, 2);
	} else {
		json_decref(s.items);
		if (s.sql && s.lines == 0)
			(void)puts("-- nothing to do");
		else if (s.sql && !tool->dry_run)
			(void)printf("done: %s statements\n", out_count(s.lines));
	}
	return verb == BACKEND_SCHEMA_STATUS && !s.feed ? TOOL_UNHEALTHY : TOOL_OK;
}

int verb_schema_apply(struct tool *tool)
{
	return run(tool, BACKEND_SCHEMA_APPLY);
}

int verb_schema_remove(struct tool *tool)
{
	return run(tool, BACKEND_SCHEMA_REMOVE);
}

int verb_schema_status(struct tool *tool)
{
	return run(tool, BACKEND_SCHEMA_STATUS);
}
