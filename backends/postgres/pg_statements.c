/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the texts of its statements. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/postgres/pg_state.h"

bool pg_text_of(struct pg_state *state, enum pg_statement which, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	free(state->sql[which]);
	state->sql[which] = text;
	return text != NULL;
}
