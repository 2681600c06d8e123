/* SPDX-License-Identifier: Apache-2.0
 * Texts of statements that depend on what a database is like. In a template
 *
 *   {x:TEXT}    stands for TEXT where flag x, a lower-case letter, holds; {!x:TEXT} for TEXT where
 *               it does not. They may be nested
 *   @word       stands for what the engine writes in its place
 *
 * and all the rest, other braces included, stands for itself. */
#ifndef SHMETA_BACKENDS_SQL_STATEMENT_TEMPLATE_H
#define SHMETA_BACKENDS_SQL_STATEMENT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct sql_words {
	const void *arg;
	bool (*holds)(const void *arg, char flag);
	/* Write what the word at the start of text stands for ('@' is its first byte). Returns the
	 * word's length; 0: it is none. */
	size_t (*word)(FILE *out, const struct sql_words *words, const char *text);
};

/* The caller frees it. NULL: out of memory. */
char *sql_expand(const char *template, const struct sql_words *words);
/* The same behind what was written, for words that are templates themselves. */
void sql_write(FILE *out, const char *template, const struct sql_words *words);
/* The length of the word if it is what text begins with, otherwise 0. */
size_t sql_is(const char *text, const char *word);

#endif
