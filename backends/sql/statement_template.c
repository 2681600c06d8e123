/* SPDX-License-Identifier: Apache-2.0
 * Texts of statements that depend on what a database is like (statement_template.h). */
#include "backends/sql/statement_template.h"

#include <stdlib.h>
#include <string.h>

size_t sql_is(const char *text, const char *word)
{
	size_t bytes = strlen(word);

	return strncmp(text, word, bytes) == 0 ? bytes : 0;
}

/* The length of "{x:" or "{!x:" at the start of text; 0: it begins no condition. */
static size_t condition(const char *text, char *ret_flag, bool *ret_negated)
{
	size_t at = 1;

	if (text[0] != '{')
		return 0;
	*ret_negated = text[1] == '!';
	at += *ret_negated;
	*ret_flag = text[at];
	return text[at] >= 'a' && text[at] <= 'z' && text[at + 1] == ':' ? at + 2 : 0;
}

/* To the brace that closes the condition that text is in, or the end. out NULL: nothing is
 * written. */
static const char *expand(FILE *out, const char *text, bool inside, const struct sql_words *words)
{
	while (*text != '\0' && !(inside && *text == '}')) {
		bool negated = false;
		char flag = 0;
		size_t bytes = condition(text, &flag, &negated);

		if (bytes > 0) {
			bool holds = out != NULL && words->holds(words->arg, flag) != negated;

			text = expand(holds ? out : NULL, text + bytes, true, words);
			text += *text == '}';
			continue;
		}
		bytes = *text == '@' && out != NULL ? words->word(out, words, text) : 0;
		if (bytes == 0 && out != NULL)
			fputc(*text, out);
		text += bytes > 0 ? bytes : 1;
	}
	return text;
}

void sql_write(FILE *out, const char *template, const struct sql_words *words)
{
	(void)expand(out, template, false, words);
}

char *sql_expand(const char *template, const struct sql_words *words)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	if (out == NULL)
		return NULL;
	sql_write(out, template, words);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}
