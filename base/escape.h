/* SPDX-License-Identifier: Apache-2.0
 * Untrusted bytes for humans: the one escaper, for terminals, log lines and error texts. */
#ifndef SHMETA_BASE_ESCAPE_H
#define SHMETA_BASE_ESCAPE_H

#include <stddef.h>
#include <string.h>

/* Printable UTF-8 is copied; everything else (C0, C1, DEL, bidi controls, invisible characters,
 * invalid UTF-8) becomes \xNN, \uNNNN or \UNNNNNNNN, as a shell's $'...' spells them; the text is
 * cut with "..." when it does not fit. A backslash is copied, so escaping twice changes nothing,
 * and every printer may escape. Returns out, terminated. */
char *shmeta__escape(char *out, size_t capacity, const void *text, size_t bytes);

static inline char *shmeta__escape_line(char *out, size_t capacity, const char *line)
{
	return shmeta__escape(out, capacity, line, strlen(line));
}

/* The same in single quotes, with quotes inside as \x27. capacity: at least 6. */
char *shmeta__quote(char *out, size_t capacity, const void *text, size_t bytes);

#endif
