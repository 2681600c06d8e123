/* SPDX-License-Identifier: Apache-2.0
 * help: the table of verbs for people and for programs; which verb a command line means, and what
 * was meant by one that there is not. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/tool.h"

/* ---- help ---- */

static void print_options(uint64_t set, bool global)
{
	for (size_t i = 0; i < TOOL_OPT_NUMBER; i++) {
		char left[48];

		if (tool_options[i].global != global || (!global && (set & UINT64_C(1) << i) == 0))
			continue;
		(void)snprintf(left, sizeof(left), "--%s%s%s", tool_options[i].flag,
		               tool_options[i].arg != NULL ? " " : "",
		               tool_options[i].arg != NULL ? tool_options[i].arg : "");
		(void)printf("  %-18s  %s\n", left, tool_options[i].help);
	}
}

static void print_exit_codes(void)
{
#define X(name, number, text) (void)printf("  %d  %s\n", number, text);
	TOOL_EXIT_LIST(X)
#undef X
}

/* "ls" of "ls topics". */
static bool begins_with(const struct verb *verb, const char *first)
{
	size_t n = strlen(first);

	return strncmp(verb->name, first, n) == 0 && verb->name[n] == ' ';
}

/* It is the verb of this name, or one of those that begin with it. */
static bool is_of(const struct verb *verb, const char *first)
{
	return strcmp(verb->name, first) == 0 || begins_with(verb, first);
}

static json_t *json_option(const struct tool_option_row *row)
{
	json_t *o = json_object();
	char flag[32];

	(void)snprintf(flag, sizeof(flag), "--%s", row->flag);
	out_set(o, "flag", json_string(flag));
	out_set(o, "argument", row->arg != NULL ? json_string(row->arg) : json_null());
	out_set(o, "help", json_string(row->help));
	return o;
}

static json_t *json_verb(const struct verb *verb)
{
	json_t *v = json_object(), *own = json_array();

	out_set(v, "name", json_string(verb->name));
	out_set(v, "arguments", json_string(verb->args));
	out_set(v, "help", json_string(verb->help));
	out_set(v, "more", verb->more != NULL ? json_string(verb->more) : json_null());
	for (size_t k = 0; k < TOOL_OPT_NUMBER; k++)
		if ((verb->options & UINT64_C(1) << k) != 0)
			(void)json_array_append_new(own, json_option(&tool_options[k]));
	out_set(v, "options", own);
	return v;
}

/* first: of one verb, or of all whose name begins with this word; NULL: of all. */
static int help_json(const struct tool *tool, const struct verb *verb, const char *first)
{
	json_t *doc = out_document("help"), *verbs = json_array(), *global = json_array(), *codes = json_array();

	for (size_t i = 0; i < tool->verb_count; i++)
		if ((verb == NULL || verb == &tool->verbs[i]) && (first == NULL || is_of(&tool->verbs[i], first)))
			(void)json_array_append_new(verbs, json_verb(&tool->verbs[i]));
	for (size_t k = 0; k < TOOL_OPT_NUMBER; k++)
		if (tool_options[k].global)
			(void)json_array_append_new(global, json_option(&tool_options[k]));
#define X(name, number, text) (void)json_array_append_new(codes, json_pack("{s:i,s:s}", "exit", number, "help", text));
	TOOL_EXIT_LIST(X)
#undef X
	out_set(doc, "verbs", verbs);
	out_set(doc, "options", global);
	out_set(doc, "exit_codes", codes);
	out_json(doc, 2);
	return TOOL_OK;
}

enum { HELP_COLUMN = 33 };

static int help_all(const struct tool *tool)
{
	static const struct {
		char group;
		const char *title;
	} groups[] = {
		{'A', "Looking (shared memory alone; works with the daemon stopped or dead):"},
		{'B', "Asking the daemon or the source:"},
		{'C', "Configuration and this program:"},
	};

	(void)puts(
		"Usage: shmetactl [OPTIONS] VERB [ARGUMENTS]\n\nLook into a metadata cache in shared memory, and ask its writer.");
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
		(void)printf("\n%s\n", groups[g].title);
		for (size_t i = 0; i < tool->verb_count; i++) {
			char left[64];

			if (tool->verbs[i].group != groups[g].group)
				continue;
			(void)snprintf(left, sizeof(left), "%s %s", tool->verbs[i].name, tool->verbs[i].args);
			if (strlen(left) > HELP_COLUMN)
				(void)printf("  %s\n  %-*s  %s\n", left, HELP_COLUMN, "", tool->verbs[i].help);
			else
				(void)printf("  %-*s  %s\n", HELP_COLUMN, left, tool->verbs[i].help);
		}
	}
	(void)puts("\nOptions:");
	print_options(0, true);
	(void)puts("\nExit status:");
	print_exit_codes();
	(void)puts("\n'shmetactl help VERB' shows a verb's own options and examples. Manual: shmetactl(1).");
	return TOOL_OK;
}

static int help_verb(const struct verb *verb)
{
	(void)printf("Usage: shmetactl %s%s%s [OPTIONS]\n\n%c%s.\n", verb->name, verb->args[0] != '\0' ? " " : "",
	             verb->args, toupper((unsigned char)verb->help[0]), verb->help + 1);
	if (verb->more != NULL)
		(void)printf("\n%s\n", verb->more);
	if (verb->options != 0) {
		(void)puts("\nOptions of this verb:");
		print_options(verb->options, false);
	}
	(void)puts("\nOptions:");
	print_options(0, true);
	return TOOL_OK;
}

/* ---- finding the verb ---- */

unsigned tool_distance(const char *a, const char *b)
{
	unsigned row[64];
	size_t n = strlen(b);

	if (n >= 63)
		return 99;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1] != '\0'; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= n; j++) {
			unsigned change = diagonal + (a[i - 1] != b[j - 1]), best = row[j] + 1;

			diagonal = row[j];
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = change < best ? change : best;
		}
	}
	return row[n];
}

/* The words of the table that begin with `first`: "topics, partitions or segments". */
static const char *kinds_of(const struct tool *tool, const char *first, char *ret, size_t bytes)
{
	size_t at = 0, n = strlen(first);

	ret[0] = '\0';
	for (size_t i = 0; i < tool->verb_count; i++)
		if (begins_with(&tool->verbs[i], first) && at < bytes)
			at += (size_t)snprintf(ret + at, bytes - at, "%s%s", at > 0 ? ", " : "",
			                       tool->verbs[i].name + n + 1);
	return ret;
}

int tool_bad_verb(const struct tool *tool, const char *first, const char *second)
{
	const char *best = NULL;
	unsigned least = 3;
	char kinds[128];

	if (kinds_of(tool, first, kinds, sizeof(kinds))[0] != '\0') {
		if (second == NULL)
			return tool_error(tool, TOOL_USAGE, "'%s' needs a second word: %s", first, kinds);
		return tool_error(tool, TOOL_USAGE, "unknown verb '%s %s'; expected '%s' and one of: %s", first, second,
		                  first, kinds);
	}
	for (size_t i = 0; i < tool->verb_count; i++) {
		char word[32];
		unsigned d;

		(void)snprintf(word, sizeof(word), "%.*s", (int)strcspn(tool->verbs[i].name, " "), tool->verbs[i].name);
		d = tool_distance(first, word);
		if (d < least && d < strlen(word)) {
			least = d;
			best = tool->verbs[i].name;
		}
	}
	if (best != NULL)
		return tool_error(tool, TOOL_USAGE, "unknown verb '%s'; did you mean '%s'?", first, best);
	return tool_error(tool, TOOL_USAGE, "unknown verb '%s'; 'shmetactl help' lists them", first);
}

/* words: how many of argv the verb's name took. One of two words goes before the one of its first
 * word. */
const struct verb *tool_find_verb(const struct tool *tool, int argc, char **argv, int *ret_words)
{
	const struct verb *found = NULL;

	for (size_t i = 0; i < tool->verb_count; i++) {
		const char *name = tool->verbs[i].name, *space = strchr(name, ' ');
		size_t n = space != NULL ? (size_t)(space - name) : strlen(name);

		if (argc < 1 || strlen(argv[0]) != n || strncmp(argv[0], name, n) != 0)
			continue;
		if (space != NULL && (argc < 2 || strcmp(argv[1], space + 1) != 0))
			continue;
		if (found != NULL && space == NULL)
			continue;
		*ret_words = space != NULL ? 2 : 1;
		found = &tool->verbs[i];
	}
	return found;
}

/* How many verbs the word stands for. */
static size_t family(const struct tool *tool, const char *first)
{
	size_t n = 0;

	for (size_t i = 0; i < tool->verb_count; i++)
		n += is_of(&tool->verbs[i], first);
	return n;
}

int verb_help(struct tool *tool)
{
	const struct verb *verb;
	int words;

	if (tool->argc == 0)
		return tool->json ? help_json(tool, NULL, NULL) : help_all(tool);
	verb = tool_find_verb(tool, tool->argc, tool->argv, &words);
	if (verb != NULL && (tool->argc > 1 || family(tool, tool->argv[0]) == 1))
		return tool->json ? help_json(tool, verb, NULL) : help_verb(verb);
	if (tool->argc == 1) { /* "help ls": all of them */
		size_t shown = 0;

		for (size_t i = 0; i < tool->verb_count; i++) {
			if (!is_of(&tool->verbs[i], tool->argv[0]))
				continue;
			if (tool->json)
				return help_json(tool, NULL, tool->argv[0]);
			(void)(shown++ > 0 && putchar('\n')), (void)help_verb(&tool->verbs[i]);
		}
		if (shown > 0)
			return TOOL_OK;
	}
	return tool_bad_verb(tool, tool->argv[0], tool->argc > 1 ? tool->argv[1] : NULL);
}
