/* SPDX-License-Identifier: Apache-2.0
 * What is wrong with a configuration, collected so that all of it is told at once. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "writer/config/config_load.h"

static void add(struct config_load *load, struct config_place place, const char *where, const char *text)
{
	struct config_mistake *grown = realloc(load->mistakes, (load->count + 1) * sizeof(*grown));
	char escaped[CONFIG_SENTENCE];

	if (grown == NULL) {
		load->no_memory = true;
		return;
	}
	load->mistakes = grown;
	grown[load->count].place = place;
	if (asprintf(&grown[load->count].sentence, "%s%s", where,
	             shmeta__escape(escaped, sizeof(escaped), text, strlen(text))) < 0)
		load->no_memory = true;
	else
		load->count++;
}

void config_mistake(struct config_load *load, struct config_place place, const char *fmt, ...)
{
	const char *file = load->file_count > 0 ? load->files[place.file] : NULL;
	char text[CONFIG_SENTENCE], path[4096], where[4096 + 32] = "";
	va_list args;

	va_start(args, fmt);
	shmeta__vsay(text, sizeof(text), fmt, args);
	va_end(args);
	if (file != NULL)
		(void)shmeta__escape(path, sizeof(path), file, strlen(file));
	if (file != NULL && place.line > 0)
		snprintf(where, sizeof(where), "%s:%u: ", path, place.line);
	else if (file != NULL)
		snprintf(where, sizeof(where), "%s: ", path);
	add(load, place, where, text);
}

void config_mistake_of_flag(struct config_load *load, const char *sentence)
{
	add(load, (struct config_place){.line = 0}, "", sentence);
}

static int by_place(const void *a, const void *b)
{
	const struct config_place *x = &((const struct config_mistake *)a)->place,
				  *y = &((const struct config_mistake *)b)->place;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->line < y->line ? -1 : x->line > y->line;
}

enum shmeta_status config_tell_mistakes(struct config_load *load, const struct config_listener *listener,
                                        struct shmeta_err *err)
{
	if (load->count > 1)
		qsort(load->mistakes, load->count, sizeof(*load->mistakes), by_place);
	for (size_t i = 0; listener != NULL && i < load->count; i++)
		listener->problem(listener->arg, load->mistakes[i].sentence);
	if (load->no_memory)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory to read the configuration");
	if (load->count == 1)
		return shmeta_fail(err, SHMETA_ERR_CONFIG, "%s", load->mistakes[0].sentence);
	if (load->count > 1)
		return shmeta_fail(err, SHMETA_ERR_CONFIG, "%.400s (and %zu more)", load->mistakes[0].sentence,
		                   load->count - 1);
	return SHMETA_OK;
}
