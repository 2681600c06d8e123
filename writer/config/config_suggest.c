/* SPDX-License-Identifier: Apache-2.0
 * Which name was meant. */
#include <stdio.h>
#include <string.h>

#include "writer/config/config_load.h"

/* Edits from one to the other; SIZE_MAX: that many, or more. Few of all names are near enough to be
 * worth counting to the end. */
static size_t distance(const char *a, const char *b, size_t many)
{
	size_t row[64], length = strlen(b), other = strlen(a), least = 0;

	if (length >= sizeof(row) / sizeof(*row) || (other > length ? other - length : length - other) >= many)
		return SIZE_MAX;
	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 1; i <= other && least < many; i++) {
		size_t corner = row[0];

		row[0] = least = i;
		for (size_t j = 1; j <= length; j++) {
			size_t above = row[j], best = corner + (a[i - 1] != b[j - 1]);

			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			corner = above;
			row[j] = best;
			least = best < least ? best : least;
		}
	}
	return least < many && row[length] < many ? row[length] : SIZE_MAX;
}

/* How far a name that was written is from one that exists: the beginning of it counts as near. */
static size_t unlike(const char *written, const char *name, size_t many)
{
	size_t length = strlen(written);

	if (length >= 3 && strncmp(written, name, length) == 0)
		return 1;
	return distance(written, name, many);
}

/* "; did you mean 'x'?" or "". */
const char *config_suggest_option(const char *section, const char *name, char *buffer, size_t bytes)
{
	size_t best = 2 * (strlen(name) / 3 + 1) + 1;

	buffer[0] = '\0';
	for (size_t i = 0; i <= CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = i < CONFIG_OPTION_COUNT ? &config_options[i] : &config_override_ttl;
		bool elsewhere = strcmp(section, o->section) != 0;
		/* The right name in the wrong place is a better guess than a wrong name in the
		 * right one. */
		size_t far = unlike(name, o->name, (best + 1) / 2), d = 2 * far + elsewhere;

		if (far == SIZE_MAX || d >= best)
			continue;
		best = d;
		snprintf(buffer, bytes, "; did you mean '%s'%s%s%s?", o->name, elsewhere ? " in section '" : "",
		         elsewhere ? o->section : "", elsewhere ? "'" : "");
	}
	return buffer;
}

const char *config_suggest_section(const char *name, char *buffer, size_t bytes)
{
	size_t best = strlen(name) / 3 + 2;

	buffer[0] = '\0';
	for (size_t i = 0; i <= CONFIG_OPTION_COUNT; i++) {
		const char *section = i < CONFIG_OPTION_COUNT ? config_options[i].section : CONFIG_OVERRIDE;
		size_t d = unlike(name, section, best);

		if (d >= best)
			continue;
		best = d;
		snprintf(buffer, bytes, "; did you mean '%s'?", section);
	}
	return buffer;
}
