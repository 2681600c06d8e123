/* SPDX-License-Identifier: Apache-2.0
 * shmetactl: the command line. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/shmetactl/tool.h"

/* ---- options ---- */

enum { LEAST_EVERY_MS = 100 };

static bool parse_time(const char *text, uint32_t *ret_ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"", 1000}};
	size_t n = strspn(text, "0123456789");
	char digits[16];
	uint64_t value;

	if (n == 0 || n >= sizeof(digits))
		return false;
	memcpy(digits, text, n);
	digits[n] = '\0';
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text + n, units[i].unit) != 0)
			continue;
		if (!tool_parse_u64(digits, 3600000u / units[i].ms, &value))
			return false;
		*ret_ms = (uint32_t)(value * units[i].ms);
		return true;
	}
	return false;
}

/* An age of objects: minutes, hours or days, up to 30 days. */
static bool parse_age(const char *text, uint32_t *ret_ms)
{
	size_t n = strspn(text, "0123456789");
	uint64_t value, unit = text[n] == 'm' ? 60000u : text[n] == 'h' ? 3600000u : text[n] == 'd' ? 86400000u : 0;
	char digits[16];

	if (n == 0 || n >= sizeof(digits) || unit == 0 || text[n + 1] != '\0')
		return false;
	memcpy(digits, text, n);
	digits[n] = '\0';
	if (!tool_parse_u64(digits, 30u * 86400000u / unit, &value) || value == 0)
		return false;
	*ret_ms = (uint32_t)(value * unit);
	return true;
}

/* "100/s", or "100". */
static bool parse_rate(const char *text, uint64_t *ret)
{
	size_t n = strspn(text, "0123456789");
	char digits[16];

	if (n == 0 || n >= sizeof(digits) || (text[n] != '\0' && strcmp(text + n, "/s") != 0))
		return false;
	memcpy(digits, text, n);
	digits[n] = '\0';
	return tool_parse_u64(digits, 10000, ret) && *ret > 0;
}

static int set_option(struct tool *tool, enum tool_option option, const char *value)
{
	switch (option) {
	case TOOL_OPT_DIR:
		if (value[0] == '\0' || strlen(value) >= sizeof(tool->dir))
			return tool_error(tool, TOOL_USAGE, "--dir: '%s' is not the name of a directory", value);
		(void)snprintf(tool->dir, sizeof(tool->dir), "%s", value);
		break;
	case TOOL_OPT_INSTANCE:
		if (value[0] == '\0' || value[0] == '.' || strchr(value, '/') != NULL || strlen(value) > 64)
			return tool_error(tool, TOOL_USAGE,
			                  "--instance: '%s' is not a name (1..64 bytes, no '/', no leading '.')",
			                  value);
		tool->instance = value;
		break;
	case TOOL_OPT_TENANT:
		if (value[0] == '\0' || strlen(value) > SHMETA_TENANT_MAX)
			return tool_error(tool, TOOL_USAGE, "--tenant: '%s' is not a tenant (1..%d bytes)", value,
			                  SHMETA_TENANT_MAX);
		tool->tenant = value;
		tool->tenant_given = true;
		break;
	case TOOL_OPT_JSON:
		tool->json = true;
		break;
	case TOOL_OPT_TIMEOUT:
		if (!parse_time(value, &tool->timeout_ms) || tool->timeout_ms == 0)
			return tool_error(tool, TOOL_USAGE,
			                  "--timeout: '%s' is not a time: write 500ms, 5s, 2m or 1h, or a number of "
			                  "seconds; at most 1 hour",
			                  value);
		break;
	case TOOL_OPT_COLOR:
		if (strcmp(value, "always") == 0)
			tool->color = true;
		else if (strcmp(value, "never") == 0)
			tool->color = false;
		else if (strcmp(value, "auto") != 0)
			return tool_error(tool, TOOL_USAGE, "--color: '%s' is not auto, always or never", value);
		break;
	case TOOL_OPT_NO_HEADER:
		tool->no_header = true;
		break;
	case TOOL_OPT_PREFIX:
		tool->prefix = value;
		break;
	case TOOL_OPT_GLOB:
		tool->glob = value;
		break;
	case TOOL_OPT_LIMIT:
		if (!tool_parse_u64(value, UINT64_MAX - 1, &tool->limit) || tool->limit == 0)
			return tool_error(tool, TOOL_USAGE, "--limit: '%s' is not a number of rows from 1 on", value);
		break;
	case TOOL_OPT_AFTER:
		tool->after = value;
		break;
	case TOOL_OPT_STORE:
		tool->store = value;
		break;
	case TOOL_OPT_SOURCE:
		tool->source = value;
		break;
	case TOOL_OPT_PASSWORD_FILE:
		if (access(value, R_OK) != 0)
			return tool_error(tool, errno == EACCES ? TOOL_PERMISSION : TOOL_USAGE,
			                  "--password-file: %s: %s", value, strerror(errno));
		tool->password_file = value;
		break;
	case TOOL_OPT_TARGET:
		tool->target = value;
		break;
	case TOOL_OPT_MERGE:
		tool->merge = true;
		break;
	case TOOL_OPT_CONFIG:
		tool->config = value;
		break;
	case TOOL_OPT_DEFAULTS:
		tool->defaults = true;
		break;
	case TOOL_OPT_WAIT:
		tool->wait = true;
		break;
	case TOOL_OPT_YES:
		tool->yes = true;
		break;
	case TOOL_OPT_ALL:
		tool->all = true;
		break;
	case TOOL_OPT_DRY_RUN:
		tool->dry_run = true;
		break;
	case TOOL_OPT_DELETABLE:
		tool->deletable = true;
		break;
	case TOOL_OPT_EVERY:
		if (!parse_time(value, &tool->every_ms) || tool->every_ms < LEAST_EVERY_MS)
			return tool_error(tool, TOOL_USAGE,
			                  "--every: '%s' is not a time from 100ms to 1 hour: write 500ms, 5s or 2m",
			                  value);
		break;
	case TOOL_OPT_FOLLOW:
		tool->follow = true;
		break;
	case TOOL_OPT_RATE:
		if (!parse_rate(value, &tool->rate))
			return tool_error(tool, TOOL_USAGE, "--rate: '%s' is not a rate: write 100/s; from 1 to 10000",
			                  value);
		break;
	case TOOL_OPT_FOR:
		if (!parse_time(value, &tool->for_ms) || tool->for_ms == 0)
			return tool_error(tool, TOOL_USAGE,
			                  "--for: '%s' is not a time up to 1 hour: write 30s, 5m or 1h", value);
		break;
	case TOOL_OPT_MIN_AGE:
		if (!parse_age(value, &tool->min_age_ms))
			return tool_error(tool, TOOL_USAGE,
			                  "--min-age: '%s' is not an age up to 30 days: write 90m, 24h or 7d", value);
		break;
	case TOOL_OPT_COUNT:
		if (!tool_parse_u64(value, UINT64_MAX - 1, &tool->count) || tool->count == 0)
			return tool_error(tool, TOOL_USAGE, "--count: '%s' is not a number from 1 on", value);
		break;
	case TOOL_OPT_LIST:
		tool->list = true;
		break;
	case TOOL_OPT_BY:
		tool->by = value;
		break;
	case TOOL_OPT_RUNNING:
		tool->running = true;
		break;
	case TOOL_OPT_CHANGED:
		tool->changed = true;
		break;
	case TOOL_OPT_NEEDS_RESTART:
		tool->needs_restart = true;
		break;
	case TOOL_OPT_ALL_INSTANCES:
		tool->all_instances = true;
		break;
	case TOOL_OPT_NUMBER:
		break;
	}
	return 0;
}

static int bad_option(const struct tool *tool, const char *word)
{
	const char *best = NULL;
	unsigned least = 3;

	for (size_t i = 0; word[0] == '-' && word[1] == '-' && i < TOOL_OPT_NUMBER; i++) {
		unsigned d = tool_distance(word + 2, tool_options[i].flag);

		if (d < least) {
			least = d;
			best = tool_options[i].flag;
		}
	}
	if (best != NULL)
		return tool_error(tool, TOOL_USAGE, "unknown option '%s'; did you mean --%s?", word, best);
	if (word[1] != '-')
		return tool_error(
			tool, TOOL_USAGE,
			"unknown option '%s'; if it is an argument, write '--' before it: shmetactl ... -- %s", word,
			word);
	return tool_error(tool, TOOL_USAGE, "unknown option '%s'; 'shmetactl help' lists the options", word);
}

/* The options that have a letter, too. */
static const char *long_form(const char *word)
{
	static const struct {
		const char *letter, *word;
	} letters[] = {{"-h", "--help"}, {"-V", "--version"}, {"-l", "--list"}, {"-f", "--follow"}};

	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
		if (strcmp(word, letters[i].letter) == 0)
			return letters[i].word;
	return word;
}

/* Takes the options out of argv; what remains is the verb and its arguments. */
static int parse_options(struct tool *tool, int argc, char **argv, uint64_t *ret_used, bool *ret_help,
                         bool *ret_version)
{
	int kept = 0;

	for (int i = 1; i < argc; i++) {
		const char *word = long_form(argv[i]), *equals = strchr(word, '=');
		size_t n = equals != NULL ? (size_t)(equals - word) : strlen(word), k;
		const char *value = equals != NULL ? equals + 1 : NULL;
		int code;

		if (strcmp(word, "--") == 0) {
			while (++i < argc)
				argv[kept++] = argv[i];
			break;
		}
		if (word[0] != '-' || word[1] == '\0') {
			argv[kept++] = argv[i];
			continue;
		}
		if (strcmp(word, "--help") == 0) {
			*ret_help = true;
			continue;
		}
		if (strcmp(word, "--version") == 0) {
			*ret_version = true;
			continue;
		}
		for (k = 0; k < TOOL_OPT_NUMBER; k++)
			if (n > 2 && word[1] == '-' && strlen(tool_options[k].flag) == n - 2 &&
			    strncmp(tool_options[k].flag, word + 2, n - 2) == 0)
				break;
		if (k == TOOL_OPT_NUMBER)
			return bad_option(tool, word);
		if (tool_options[k].arg == NULL && value != NULL)
			return tool_error(tool, TOOL_USAGE, "--%s takes no value", tool_options[k].flag);
		if (tool_options[k].arg != NULL && value == NULL) {
			if (i + 1 == argc)
				return tool_error(tool, TOOL_USAGE, "--%s needs a value: %s", tool_options[k].flag,
				                  tool_options[k].arg);
			value = argv[++i];
		}
		code = set_option(tool, (enum tool_option)k, value != NULL ? value : "");
		if (code != 0)
			return code;
		*ret_used |= UINT64_C(1) << k;
	}
	tool->argc = kept;
	return 0;
}

static int run(struct tool *tool, int argc, char **argv)
{
	bool help = false, version = false;
	const struct verb *verb;
	uint64_t used = 0;
	int words, code = parse_options(tool, argc, argv, &used, &help, &version);

	if (code != 0)
		return code;
	tool->argv = argv;
	if (version && tool->argc == 0 && !help) {
		tool->verb = "version";
		return verb_version(tool);
	}
	if (help)
		return verb_help(tool);
	if (tool->argc == 0)
		return tool_error(tool, TOOL_USAGE,
		                  "a verb is missing; 'shmetactl help' lists them, 'shmetactl status' is a good start");
	verb = tool_find_verb(tool, tool->argc, tool->argv, &words);
	if (verb == NULL)
		return tool_bad_verb(tool, tool->argv[0], tool->argc > 1 ? tool->argv[1] : NULL);
	tool->verb = verb->name;
	tool->argc -= words;
	tool->argv += words;
	for (size_t k = 0; k < TOOL_OPT_NUMBER; k++)
		if ((used & UINT64_C(1) << k) != 0 && !tool_options[k].global &&
		    (verb->options & UINT64_C(1) << k) == 0)
			return tool_error(tool, TOOL_USAGE, "'%s' takes no option --%s; see 'shmetactl help %s'",
			                  verb->name, tool_options[k].flag, verb->name);
	if (tool->argc < verb->min_args)
		return tool_error(tool, TOOL_USAGE, "'%s' needs %s; %d of %d given", verb->name, verb->args, tool->argc,
		                  verb->min_args);
	if (tool->argc > verb->max_args)
		return tool_error(tool, TOOL_USAGE, "unexpected argument '%s'; '%s' takes %s",
		                  tool->argv[verb->max_args], verb->name, verb->args[0] != '\0' ? verb->args : "none");
	if (tool->prefix != NULL && tool->glob != NULL)
		return tool_error(tool, TOOL_USAGE, "--prefix and --glob cannot both be given");
	/* What reads the store shows what its writer left, if there is none any more. status says
	 * that itself. */
	tool->tell_writer = (verb->group == 'A' && verb->run != verb_status && verb->run != verb_health) ||
	                    verb->run == verb_verify || verb->run == verb_compare;
	if (tool->all_instances && tool->every_ms > 0)
		return tool_error(tool, TOOL_USAGE, "--all-instances and --every cannot both be given");
	if (tool->all_instances)
		return tool_each_instance(tool, verb->run);
	if (verb->run != verb_completion && tool->dir[0] == '\0')
		(void)snprintf(tool->dir, sizeof(tool->dir), "/run/shmeta/%s", tool->instance);
	return verb->run(tool);
}

/* Longer than the daemon's calls to its source (source.timeout_ms): its sentence shall arrive, not
 * only our deadline. */
enum { TIMEOUT_MS = 10000 };

/* Whoever has a file mapped that becomes shorter is ended by the system: say why, and which status
 * that is. */
static void on_sigbus(int signal)
{
	static const char text[] = "shmetactl: a file of the instance was cut off, or could not be read, while it was "
				   "looked at: try again; a writer that starts makes a damaged store anew\n";

	(void)signal;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(TOOL_UNHEALTHY);
}

int main(int argc, char **argv)
{
	static struct tool tool = {.instance = "default", .tenant = SHMETA_DEFAULT_TENANT, .timeout_ms = TIMEOUT_MS};
	const char *no_color = getenv("NO_COLOR");
	int code;

	/* Mistakes before it are told as JSON, too. */
	tool.verbs = tool_all_verbs(&tool.verb_count);
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		tool.json |= strcmp(argv[i], "--json") == 0;

	(void)signal(SIGBUS, on_sigbus);
	/* a write beyond the limit on file sizes fails with EFBIG */
	(void)signal(SIGXFSZ, SIG_IGN);
	tool.color = isatty(STDOUT_FILENO) == 1 && (no_color == NULL || no_color[0] == '\0');
	code = run(&tool, argc, argv);
	return out_end(code); /* a full disk behind stdout is a failure of ours */
}
