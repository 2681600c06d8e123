/* SPDX-License-Identifier: Apache-2.0
 * The syntax of a configuration file:
 *
 *   file    = { section | option }
 *   section = WORD [ WORD ] '{' { option } '}'       the second word is the section's title
 *   option  = WORD '=' WORD
 *
 * A word stands bare, in double quotes (escapes as in C and ${VARIABLE}, ${VARIABLE:-DEFAULT}) or
 * in single quotes (only \' and \\). Comments are # and // to the end of the line, and C's. The
 * parser knows no option: it reports statements in their order and goes on after a mistake, so that
 * all of them are reported at once. */
#ifndef SHMETA_WRITER_CONFIG_CONFIG_PARSE_H
#define SHMETA_WRITER_CONFIG_CONFIG_PARSE_H

#include <stdbool.h>
#include <stddef.h>

struct config_statement {
	const char *section; /* that it stands in; "": in none */
	const char *title;   /* of that section, or of the one that begins; NULL: none */
	const char *name;
	const char *value; /* NULL: a section begins */
	unsigned line;
};

struct config_syntax {
	void *arg;
	/* What it is given is valid during the call. Statements that were reported as a problem are
	 * left out. */
	void (*statement)(void *arg, const struct config_statement *statement);
	void (*problem)(void *arg, unsigned line, const char *sentence);
};

/* text[bytes] is 0. False: no memory. */
bool config_parse(const char *text, size_t bytes, const struct config_syntax *syntax);

#endif
