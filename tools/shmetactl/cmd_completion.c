/* SPDX-License-Identifier: Apache-2.0
 * completion: the scripts for the shells, and what they offer: verbs, options, kinds and classes of
 * the tables, and the names of topics of the store. The scripts only ask; that one list cannot be
 * older than the program. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tools/shmetactl/inspect.h"

static const char bash_script[] =
	"# Completion of shmetactl(1) for bash. Printed by: shmetactl completion bash\n"
	"_shmetactl() {\n"
	"\tlocal line cur=${COMP_WORDS[COMP_CWORD]}\n"
	"\tCOMPREPLY=()\n"
	"\t[ \"$cur\" != '=' ] || cur=\n"
	"\twhile IFS= read -r line; do\n"
	"\t\tcase $line in\n"
	"\t\t:directories) mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); compopt -o filenames 2>/dev/null ;;\n"
	"\t\t:files) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); compopt -o filenames 2>/dev/null ;;\n"
	"\t\t*) COMPREPLY+=(\"${line%%$'\\t'*}\") ;;\n"
	"\t\tesac\n"
	"\tdone < <(\"${1:-shmetactl}\" completion words -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
	"}\n"
	"complete -F _shmetactl shmetactl\n";

static const char zsh_script[] =
	"#compdef shmetactl\n"
	"# Completion of shmetactl(1) for zsh. Printed by: shmetactl completion zsh\n"
	"_shmetactl() {\n"
	"\tlocal line\n"
	"\tlocal -a offered\n"
	"\tcompset -P '--*='\n"
	"\tfor line in ${(f)\"$($words[1] completion words -- ${words[2,CURRENT]} 2>/dev/null)\"}; do\n"
	"\t\tcase $line in\n"
	"\t\t:directories) _files -/; return ;;\n"
	"\t\t:files) _files; return ;;\n"
	"\t\t*) offered+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\t_describe shmetactl offered\n"
	"}\n"
	"if [ \"$funcstack[1]\" = _shmetactl ]; then _shmetactl \"$@\"; else compdef _shmetactl shmetactl; fi\n";

/* ---- what is offered ---- */

struct typed {
	const char *current;                  /* the word that is being typed */
	const struct tool_option_row *option; /* whose value it is; NULL: none's */
	char line[256];                       /* the words of verb and arguments so far, one blank
                                               * between them */
	size_t words;
};

static void offer(const struct typed *t, const char *word, size_t bytes, const char *what)
{
	size_t n = strlen(t->current);

	if (bytes >= n && strncmp(word, t->current, n) == 0)
		(void)printf("%.*s%s%s\n", (int)bytes, word, what != NULL ? "\t" : "", what != NULL ? what : "");
}

static const struct tool_option_row *option_of(const char *word, size_t bytes)
{
	for (size_t k = 0; bytes > 2 && k < TOOL_OPT_NUMBER; k++)
		if (strlen(tool_options[k].flag) == bytes - 2 &&
		    strncmp(tool_options[k].flag, word + 2, bytes - 2) == 0)
			return &tool_options[k];
	return NULL;
}

static void take_value(struct tool *tool, const struct tool_option_row *option, const char *value)
{
	if (option == &tool_options[TOOL_OPT_DIR])
		(void)snprintf(tool->dir, sizeof(tool->dir), "%s", value);
	else if (option == &tool_options[TOOL_OPT_INSTANCE])
		tool->instance = value;
	else if (option == &tool_options[TOOL_OPT_TENANT])
		tool->tenant = value;
}

/* bash makes a word of '=', zsh does not. */
static void read_words(struct tool *tool, struct typed *t)
{
	int n = tool->argc - 1; /* "words" is the first argument */
	char **words = tool->argv + 1;

	*t = (struct typed){.current = n > 0 ? words[n - 1] : ""};
	for (int i = 0; i + 1 < n; i++) {
		const char *equals = strchr(words[i], '=');

		if (strcmp(words[i], "=") == 0)
			continue;
		if (t->option != NULL) {
			take_value(tool, t->option, words[i]);
			t->option = NULL;
		} else if (words[i][0] == '-') {
			const struct tool_option_row *option =
				option_of(words[i], equals != NULL ? (size_t)(equals - words[i]) : strlen(words[i]));

			if (option != NULL && option->arg != NULL && equals != NULL)
				take_value(tool, option, equals + 1);
			else if (option != NULL && option->arg != NULL)
				t->option = option;
		} else if (strlen(t->line) + strlen(words[i]) + 2 < sizeof(t->line)) {
			(void)snprintf(t->line + strlen(t->line), sizeof(t->line) - strlen(t->line), "%s%s",
			               t->words > 0 ? " " : "", words[i]);
			t->words++;
		}
	}
	if (strcmp(t->current, "=") == 0)
		t->current = "";
	if (tool->dir[0] == '\0')
		(void)snprintf(tool->dir, sizeof(tool->dir), "/run/shmeta/%s", tool->instance);
}

static void offer_options(const struct typed *t, const struct verb *verb)
{
	char flag[40];

	for (size_t k = 0; k < TOOL_OPT_NUMBER; k++) {
		if (!tool_options[k].global && (verb == NULL || (verb->options >> k & 1) == 0))
			continue;
		(void)snprintf(flag, sizeof(flag), "--%s", tool_options[k].flag);
		offer(t, flag, strlen(flag), tool_options[k].help);
	}
	offer(t, "--help", strlen("--help"), "the help of a verb");
	offer(t, "--version", strlen("--version"), "the version of this program");
}

/* A name that no shell has to quote. */
static bool is_plain(struct shmeta_str name)
{
	for (size_t i = 0; i < name.bytes; i++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", name.data[i]) == NULL)
			return false;
	return name.bytes > 0 && name.data[0] != '-';
}

enum { TOPICS_OFFERED = 200 };

/* Whatever goes wrong, nothing is offered: errors have no place in a command line that is being
 * typed. */
static void offer_topics(struct tool *tool, const struct typed *t)
{
	struct shmeta_topic topic;
	struct shmeta_iter *iter = NULL;
	struct session s;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), code = 0;
	size_t n = 0;

	(void)dup2(null, STDERR_FILENO);
	if (session_open(tool, tool->tenant, &s) != 0)
		return;
	if (session_begin(&s) == 0) {
		if (shmeta_list_topics(s.reader, t->current, strlen(t->current), 0, NULL, &iter) == SHMETA_OK)
			while (n < TOPICS_OFFERED && shmeta_next_topic(iter, &topic, NULL) == SHMETA_OK) {
				if (is_plain(topic.name)) {
					(void)printf("%.*s\n", (int)topic.name.bytes, topic.name.data);
					n++;
				}
			}
		shmeta_iter_free(iter);
		(void)session_end(&s, &code);
	}
	session_close(&s);
}

#define EVENT(name, number, text, meaning) text " "
#define CLASS(name, number, text, ttl_ms) text " "
/* The words that an argument or the value of an option may be, where the verb tells which, with
 * blanks between them. verb NULL: of any verb. */
static const struct values {
	const char *verb, *name, *words;
	const char *except; /* one of the words that it may not be; NULL: it may be all of them */
} values[] = {
	{"biggest", "by", "bytes segments", NULL},
	{"hist", "WHAT", "lookup " SHMETA_EVENT_LIST(EVENT), "log"},
	{"events", "by", SHMETA_EVENT_LIST(EVENT), NULL},
	{"slow", "by", "source commits", NULL},
	{NULL, "color", "auto always never", NULL},
	{"explain", "KIND", "topic partition segment", NULL},
	{NULL, "KIND", SHMETA_CLASS_LIST(CLASS), "list"},
	{NULL, "CLASS", SHMETA_CLASS_LIST(CLASS), NULL},
	{NULL, "SHELL", "bash zsh", NULL},
	{NULL, "LEVEL", "debug info notice warning err", NULL},
};
#undef EVENT
#undef CLASS

/* NULL: it may be anything. */
static const struct values *values_of(const struct verb *verb, const char *name)
{
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (strcmp(values[i].name, name) == 0 &&
		    (values[i].verb == NULL || (verb != NULL && strcmp(values[i].verb, verb->name) == 0)))
			return &values[i];
	return NULL;
}

/* v NULL: nothing is offered. */
static void offer_values(const struct typed *t, const struct values *v)
{
	for (const char *at = v != NULL ? v->words : ""; *at != '\0'; at += *at == ' ') {
		size_t n = strcspn(at, " ");

		if (v->except == NULL || strlen(v->except) != n || strncmp(v->except, at, n) != 0)
			offer(t, at, n, NULL);
		at += n;
	}
}

/* The argument that follows `given` of the verb's own. */
static void offer_argument(struct tool *tool, const struct typed *t, const struct verb *verb, size_t given)
{
	const char *args = verb->args, *line = t->line + strlen(verb->name);
	char word[64] = "";

	for (size_t i = 0; i <= given; i++) {
		size_t n;

		args += strspn(args, " []");
		n = strcspn(args, " []");
		(void)snprintf(word, sizeof(word), "%.*s", (int)n, args);
		args += n;
	}
	if (strncmp(word, "FILE", 4) == 0 || strncmp(word, "LISTING", 7) == 0)
		(void)puts(":files");
	else if (values_of(verb, word) != NULL)
		offer_values(t, values_of(verb, word));
	else if (strcmp(word, "TOPIC") == 0) {
		/* Behind a class or kind that has no topic there is nothing. */
		if (strcmp(verb->name, "topic create") != 0 && strcmp(line, " list") != 0 &&
		    strcmp(line, " agent") != 0 && strcmp(line, " lease") != 0 && strcmp(line, " offset") != 0)
			offer_topics(tool, t);
	}
}

/* The next word of each verb whose name begins with what is there. */
static void offer_verbs(const struct tool *tool, const struct typed *t, const char *line)
{
	size_t n = strlen(line);
	const char *before = NULL;
	size_t before_bytes = 0;

	for (size_t i = 0; i < tool->verb_count; i++) {
		const char *name = tool->verbs[i].name, *rest;
		size_t bytes;

		if (n > 0 && (strncmp(name, line, n) != 0 || name[n] != ' '))
			continue;
		rest = name + n + (n > 0);
		bytes = strcspn(rest, " ");
		if (before != NULL && before_bytes == bytes && strncmp(before, rest, bytes) == 0)
			continue; /* "ls" of "ls topics" was offered for the row above */
		before = rest;
		before_bytes = bytes;
		offer(t, rest, bytes, rest[bytes] == '\0' ? tool->verbs[i].help : NULL);
	}
}

static void offer_all(struct tool *tool, struct typed *t)
{
	const bool help = strcmp(t->line, "help") == 0 || strncmp(t->line, "help ", 5) == 0;
	const char *line = !help ? t->line : t->line[4] == '\0' ? "" : t->line + 5;
	const struct verb *verb = NULL;
	size_t words = 0;

	for (size_t i = 0; i < tool->verb_count; i++) {
		size_t n = strlen(tool->verbs[i].name);

		if (strncmp(t->line, tool->verbs[i].name, n) == 0 && (t->line[n] == '\0' || t->line[n] == ' ') &&
		    (verb == NULL || n > strlen(verb->name))) {
			verb = &tool->verbs[i];
			words = strchr(verb->name, ' ') != NULL ? 2 : 1;
		}
	}
	if (t->option != NULL) {
		if (strcmp(t->option->arg, "DIR") == 0)
			(void)puts(":directories");
		else if (strcmp(t->option->arg, "FILE") == 0)
			(void)puts(":files");
		else
			offer_values(t, values_of(verb, t->option->flag));
	} else if (t->current[0] == '-') {
		offer_options(t, verb);
	} else if (help || verb == NULL) {
		offer_verbs(tool, t, line);
	} else {
		/* Of "objects" and "objects audit" the second may be meant. */
		if (strcmp(verb->name, line) == 0)
			offer_verbs(tool, t, line);
		offer_argument(tool, t, verb, t->words - words);
	}
}

int verb_completion(struct tool *tool)
{
	const char *what = tool->argv[0], *script = NULL;
	struct typed typed;
	json_t *doc;

	if (strcmp(what, "words") == 0) {
		read_words(tool, &typed);
		offer_all(tool, &typed);
		return TOOL_OK;
	}
	if (tool->argc > 1)
		return tool_error(tool, TOOL_USAGE, "unexpected argument '%s'; 'completion' takes bash or zsh",
		                  tool->argv[1]);
	if (strcmp(what, "bash") == 0)
		script = bash_script;
	else if (strcmp(what, "zsh") == 0)
		script = zsh_script;
	else
		return tool_error(tool, TOOL_USAGE, "there is no completion for '%s'; expected bash or zsh", what);
	if (!tool->json) {
		(void)fputs(script, stdout);
		return TOOL_OK;
	}
	doc = out_document("completion");
	out_set(doc, "script", json_string(script));
	out_json(doc, 2);
	return TOOL_OK;
}
