/* SPDX-License-Identifier: Apache-2.0
 * What the files of the output share among themselves; verbs use tool.h. */
#ifndef SHMETA_TOOLS_SHMETACTL_OUT_H
#define SHMETA_TOOLS_SHMETACTL_OUT_H

#include "tools/shmetactl/tool.h"

enum { OUT_RING_BYTES = 4 * SHMETA_STRING_MAX };
#define OUT_JSON_FLAGS (JSON_ENSURE_ASCII | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))

/* Ends the program with a sentence. */
__attribute__((noreturn)) void tool_no_memory(void);
/* A buffer of OUT_RING_BYTES that stays good for a few calls. */
char *out_ring(void);
/* Rows follow on stdout: on a terminal no progress is shown any more. */
void out_progress_rows(void);
json_t *out_field_json(const struct field *field);
void out_json_to(FILE *out, const json_t *value, int indent);
/* As text, in memory of its own. record: sizes for humans; otherwise digits that a script can add
 * up. */
char *out_field_text(const struct field *field, bool record);
/* What text calls a field: "created_at_ms" is a number there, and "created" a date; "size_bytes" of
 * a record is "61.2 MiB". */
const char *out_label(const struct field *field, bool record);
/* Ends the list whose JSON is open on stdout with an error. False: there is none. */
bool list_end_by_error(int code, const char *text);

#endif
