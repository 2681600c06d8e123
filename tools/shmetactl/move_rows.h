/* SPDX-License-Identifier: Apache-2.0
 * The format of `export` and `import`: a row of a source as one JSON object a line
 * (docs/backends.md). One table says for both directions which fields a kind has. */
#ifndef SHMETA_TOOLS_SHMETACTL_MOVE_ROWS_H
#define SHMETA_TOOLS_SHMETACTL_MOVE_ROWS_H

#include "tools/shmetactl/source_uri.h"

#define MOVE_SCHEMA "shmeta.export"
enum { MOVE_VERSION = 1 };

/* The word of a kind: "topic", ... */
const char *move_kind_name(enum backend_row_kind kind);

/* A row as a line. NULL: a map with a key that JSON text cannot hold (NUL). */
json_t *move_row_json(const struct backend_row *row);

/* A line as a row, judged against semantics.md C9. Its texts live as long as line and *ret_map,
 * which is to be freed. false: *ret_fault says what is wrong. */
bool move_row_parse(json_t *line, struct backend_row *ret, void **ret_map, char ret_fault[480]);

/* --source, or the source that the daemon names. 0, or an exit code, said. */
int move_source_uri(struct tool *tool, char ret[SOURCE_URI_MAX]);

/* The engine of a source, opened. 0, or an exit code, said. move_close() in either case. */
struct move_source {
	const struct backend_engine *engine;
	void *state;
};
int move_open(struct tool *tool, const char *uri, bool writes, struct move_source *ret);
void move_close(struct move_source *source);
/* "doing: what the engine said"; the exit code. */
int move_failed(struct tool *tool, const char *doing, enum shmeta_status status, const struct backend_error *err);

#endif
