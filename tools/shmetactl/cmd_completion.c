/* SPDX-License-Identifier: Apache-2.0
 * A completion for bash, made from the tables of verbs and options. It runs nothing while somebody types. */
#include <string.h>

#include "tools/shmetactl/tool.h"

static const struct {
	const char *flag, *arg;
	bool global;
} options[TOOL_OPT_COUNT] = {
#define X(name, flag_, arg_, global_, help) [TOOL_OPT_##name] = {.flag = (flag_), .arg = (arg_), .global = (global_)},
	TOOL_OPTION_LIST(X)
#undef X
};

static void put_line(FILE *out, const char *line)
{
	(void)fprintf(out, "%s\n", line);
}

static void print_options(FILE *out, uint32_t set, bool global)
{
	for (size_t k = 0; k < TOOL_OPT_COUNT; k++)
		if (options[k].global == global && (global || (set & 1u << k) != 0))
			(void)fprintf(out, " --%s", options[k].flag);
}

/* The options whose argument is called so, of all options with one for NULL, as a case of the shell. */
static void print_options_of(FILE *out, const char *arg, const char *then)
{
	bool first = true;

	for (size_t k = 0; k < TOOL_OPT_COUNT; k++) {
		if (options[k].arg == NULL || (arg != NULL && strcmp(options[k].arg, arg) != 0))
			continue;
		(void)fprintf(out, "%s--%s", first ? "\t" : "|", options[k].flag);
		first = false;
	}
	(void)fprintf(out, ") %s ;;\n", then);
}

/* The words that may follow: of a verb of two words, then what its first argument may be. */
static void print_words(FILE *out, const struct verb *verbs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t n = strcspn(verbs[i].name, " ");

		if (verbs[i].name[n] == '\0' || (i > 0 && strncmp(verbs[i].name, verbs[i - 1].name, n + 1) == 0))
			continue;
		(void)fprintf(out, "\t%.*s) words=\"", (int)n, verbs[i].name);
		for (size_t k = i; k < count && strncmp(verbs[i].name, verbs[k].name, n + 1) == 0; k++)
			(void)fprintf(out, "%s%s", k > i ? " " : "", verbs[k].name + n + 1);
		put_line(out, "\" ;;");
	}
	for (size_t i = 0; i < count; i++) {
		const char *args = verbs[i].args + (verbs[i].args[0] == '[');

		if (strncmp(args, "FILE", 4) == 0)
			(void)fprintf(out, "\t\"%s\") files=1 ;;\n", verbs[i].name);
		else if (strncmp(args, "CLASS", 5) == 0 || strncmp(args, "KIND", 4) == 0)
			(void)fprintf(out, "\t\"%s\") words=\"topic partition segment%s agent lease offset\" ;;\n",
			              verbs[i].name, args[0] == 'C' ? " list" : "");
		else if (strcmp(args, "bash") == 0)
			(void)fprintf(out, "\t\"%s\") words=bash ;;\n", verbs[i].name);
	}
}

void completion_bash(FILE *out, const struct verb *verbs, size_t count)
{
	put_line(out, "# Completion of shmetactl(1) for bash. Printed by: shmetactl completion bash\n"
	              "_shmetactl() {\n"
	              "\tlocal cur=${COMP_WORDS[COMP_CWORD]} verb= option= words= files= flags= word i\n"
	              "\tCOMPREPLY=()\n"
	              "\t[ \"$cur\" != '=' ] || cur=\n"
	              "\t# The verb, and the option whose value is being typed; bash makes a word of '='.\n"
	              "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	              "\t\tword=${COMP_WORDS[i]}\n"
	              "\t\tif [ \"$word\" = '=' ]; then continue; fi\n"
	              "\t\tif [ -n \"$option\" ]; then option=; continue; fi\n"
	              "\t\tcase $word in");
	print_options_of(out, NULL, "option=$word");
	put_line(out, "\t-*) ;;\n"
	              "\thelp) [ -z \"$verb\" ] || verb=\"$verb $word\" ;;\n"
	              "\t*) verb=\"$verb${verb:+ }$word\" ;;\n"
	              "\t\tesac\n"
	              "\tdone\n"
	              "\tcase $option in\n\t'') ;;");
	print_options_of(out, "DIR",
	                 "mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); compopt -o filenames 2>/dev/null; return");
	print_options_of(out, "FILE",
	                 "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); compopt -o filenames 2>/dev/null; return");
	print_options_of(out, "WHEN", "mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- \"$cur\"); return");
	put_line(out, "\t*) return ;;\n"
	              "\tesac\n"
	              "\tcase $verb in");
	for (size_t i = 0; i < count; i++) {
		if (verbs[i].options == 0)
			continue;
		(void)fprintf(out, "\t\"%s\"|\"%s \"*) flags=\"", verbs[i].name, verbs[i].name);
		print_options(out, verbs[i].options, false);
		put_line(out, "\" ;;");
	}
	put_line(out, "\tesac\n"
	              "\tcase $verb in");
	(void)fprintf(out, "\t'') words=\"");
	for (size_t i = 0; i < count; i++) {
		size_t n = strcspn(verbs[i].name, " ");

		if (i == 0 || strncmp(verbs[i].name, verbs[i - 1].name, n) != 0 || verbs[i - 1].name[n] != ' ')
			(void)fprintf(out, "%s%.*s", i > 0 ? " " : "", (int)n, verbs[i].name);
	}
	put_line(out, "\" ;;");
	print_words(out, verbs, count);
	(void)fprintf(out, "\tesac\n"
	                   "\tif [ \"${cur:0:1}\" = - ]; then\n"
	                   "\t\tmapfile -t COMPREPLY < <(compgen -W \"--help --version");
	print_options(out, 0, true);
	put_line(out, "$flags\" -- \"$cur\")\n"
	              "\telif [ -n \"$files\" ]; then\n"
	              "\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	              "\t\tcompopt -o filenames 2>/dev/null\n"
	              "\telse\n"
	              "\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	              "\tfi\n"
	              "}\n"
	              "complete -F _shmetactl shmetactl");
}
