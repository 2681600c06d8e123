/* SPDX-License-Identifier: Apache-2.0
 * shmetactl: the table of verbs, and the command line. */
#include "tools/shmetactl/tool.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPT(name) (1u << TOOL_OPT_##name)
#define SOURCE_OPTS (OPT(SOURCE) | OPT(PASSWORD_FILE))
#define LIST_OPTS (OPT(PREFIX) | OPT(GLOB) | OPT(LIMIT) | OPT(AFTER))

const struct verb tool_verbs[] = {
	{"status", "", 0, 0, 0, 'A', "the writer, how fresh each class is, source, readers and store, in 13 lines",
         "Exits 1 when the writer is dead or the cache is degraded.\n  shmetactl status\n  shmetactl status --json | jq .phase",
         verb_status},
	{"health", "", 0, 0, 0, 'A', "what is not well, and the command that helps; exits as a monitoring plug-in",
         "Exits 0 when all is well, 1 on a warning, 2 when something is critical, 3 when it is not known.\n"
         "  shmetactl health\n  shmetactl health --json | jq -r '.checks[] | select(.status != \"ok\") | .command'",
         verb_health},
	{"stat", "", 0, 0, 0, 'A', "every counter and measurement, with its unit and meaning",
         "Counters begin anew with the writer.\n  shmetactl stat\n"
         "  shmetactl stat --json | jq '.metrics[] | select(.name == \"lag_ns\").value'",
         verb_stat},
	{"ls topics", "", 0, 0, LIST_OPTS, 'A', "topics by name",
         "  shmetactl ls topics --prefix orders.\n  shmetactl ls topics --limit 100 --after orders.17", verb_ls_topics},
	{"ls partitions", "TOPIC", 1, 1, OPT(LIMIT) | OPT(AFTER), 'A', "partitions of a topic by id",
         "  shmetactl ls partitions orders --after 99", verb_ls_partitions},
	{"ls segments", "TOPIC PARTITION", 2, 2, OPT(LIMIT) | OPT(AFTER), 'A', "segments of a partition by base offset",
         "  shmetactl ls segments orders 0 --after 149999 --limit 20", verb_ls_segments},
	{"get topic", "TOPIC", 1, 1, 0, 'A', "one topic, its sums, and how old the answer is",
         "  shmetactl get topic orders\n  shmetactl get topic orders --json", verb_get_topic},
	{"get partition", "TOPIC PARTITION", 2, 2, 0, 'A', "one partition, and how old the answer is",
         "  shmetactl get partition orders 0", verb_get_partition},
	{"find", "TOPIC PARTITION OFFSET", 3, 3, 0, 'A', "the segment that holds an offset, or why there is none",
         "Exits 5 when the offset is before the log start, in a gap, or at the end.\n  shmetactl find orders 0 15000",
         verb_find},
	{"readers", "", 0, 0, OPT(LIMIT), 'A', "registered processes, oldest snapshot first, and what they did",
         "  shmetactl readers\n  shmetactl readers --json", verb_readers},
	{"store", "", 0, 0, OPT(STORE), 'A', "limit, use, free pages and entries of the store",
         "  shmetactl store\n  shmetactl store --store /backup/store.3", verb_store},
	{"quarantine", "", 0, 0, OPT(LIMIT), 'A', "rows of the source that cannot be served, since when, and why",
         "A row leaves the list when it is good again or gone.\n  shmetactl quarantine\n"
         "  shmetactl quarantine --json | jq -r '.items[].reason'",
         verb_quarantine},
	{"groups", "", 0, 0, 0, 'A', "consumer groups, as hints", "  shmetactl groups", verb_groups},
	{"agents", "", 0, 0, 0, 'A', "agents, as hints, and which of them live", "  shmetactl agents --json",
         verb_agents},
	{"leases", "", 0, 0, 0, 'A', "partition leases, as hints, expired ones included", "  shmetactl leases",
         verb_leases},
	{"dump", "", 0, 0, OPT(PREFIX) | OPT(GLOB), 'A', "every record as JSON lines, in bounded snapshots",
         "The first line says what it is, the last one counts the records.\n  shmetactl dump > metadata.jsonl",
         verb_dump},
	{"verify", "", 0, 0, OPT(STORE) | SOURCE_OPTS, 'B', "structure, checksums, and every record against the source",
         "Exits 1 when anything differs.\n  shmetactl verify\n  shmetactl verify --store /tmp/copy-of-store.3\n"
         "  shmetactl verify --source sqlite:/var/lib/shmeta/metadata.db",
         verb_verify},
	{"export", "FILE|-", 1, 1, SOURCE_OPTS | OPT(YES), 'B', "everything the source holds, as JSON lines for import",
         "Stop the writers first. Exits 1 when quarantined rows were left out.\n  shmetactl export metadata.jsonl\n"
         "  shmetactl export - --source sqlite:/var/lib/shmeta/metadata.db | zstd > metadata.jsonl.zst",
         verb_export},
	{"import", "FILE|-", 1, 1, OPT(TARGET) | OPT(PASSWORD_FILE) | OPT(MERGE) | OPT(DRY_RUN) | OPT(YES), 'B',
         "put what export wrote into another source, as it is",
         "Judges the whole file before it writes; refuses a target that holds rows, unless told to --merge.\n"
         "  shmetactl import metadata.jsonl --target sqlite:/var/lib/shmeta/new.db --dry-run\n"
         "  shmetactl import metadata.jsonl --target sqlite:/var/lib/shmeta/new.db --yes",
         verb_import},
	{"schema status", "", 0, 0, SOURCE_OPTS, 'B',
         "what shmeta keeps in the source beside the rows, and if it is whole",
         "Exits 1 when there is no change feed.\n  shmetactl schema status --source postgresql://shmeta@db/streamhouse",
         verb_schema_status},
	{"schema apply", "", 0, 0, SOURCE_OPTS | OPT(DRY_RUN), 'B',
         "make shmeta's tables and triggers, in an empty source all tables",
         "Idempotent, in one transaction. --dry-run prints the SQL.\n"
         "  shmetactl schema apply --source postgresql://admin@db/streamhouse --dry-run",
         verb_schema_apply},
	{"schema remove", "", 0, 0, SOURCE_OPTS | OPT(DRY_RUN) | OPT(YES), 'B',
         "take shmeta's own tables and triggers out of the source",
         "Stop the daemons first, or forbid them to manage the schema. Asks first, or wants --yes.\n"
         "  shmetactl schema remove --source postgresql://admin@db/streamhouse --yes",
         verb_schema_remove},
	{"topic create", "TOPIC PARTITIONS", 2, 2, 0, 'B', "create a topic with so many partitions",
         "  shmetactl topic create orders 12", verb_topic_create},
	{"topic delete", "TOPIC", 1, 1, OPT(YES), 'B', "delete a topic with all that belongs to it",
         "Asks first, or wants --yes.\n  shmetactl topic delete orders --yes", verb_topic_delete},
	{"segments delete-before", "TOPIC PARTITION OFFSET", 3, 3, OPT(YES), 'B',
         "forget the segments that end before an offset; objects are not touched",
         "Asks first, or wants --yes.\n  shmetactl segments delete-before orders 0 150000 --yes",
         verb_segments_delete_before},
	{"refresh", "CLASS [TOPIC [PARTITION]]", 1, 3, 0, 'B',
         "have the daemon read from the source again, and wait for it",
         "CLASS: topic TOPIC; partition or segment TOPIC PARTITION; list, agent, lease or offset alone.\n"
         "  shmetactl refresh topic orders\n  shmetactl refresh partition orders 0\n  shmetactl refresh list",
         verb_refresh},
	{"invalidate", "[KIND [TOPIC [PARTITION]]]", 0, 3, OPT(PREFIX) | OPT(ALL) | OPT(DRY_RUN) | OPT(YES), 'B',
         "compare what the store holds with the source again, and wait for it",
         "KIND: topic TOPIC; partition or segment TOPIC PARTITION; agent, lease or offset alone. Or --prefix, or --all:\n"
         "these ask first, or want --yes.\n"
         "  shmetactl invalidate topic orders\n  shmetactl invalidate --prefix orders. --dry-run\n"
         "  shmetactl invalidate --all --yes --timeout 10m",
         verb_invalidate},
	{"accept-source", "[FINGERPRINT]", 0, 1, OPT(DRY_RUN) | OPT(YES), 'B',
         "publish a source that is held because it changed and lost most of its content",
         "Says what would be lost, and asks first, or wants --yes. With a FINGERPRINT only that one is accepted.\n"
         "  shmetactl accept-source --dry-run\n  shmetactl accept-source --yes",
         verb_accept_source},
	{"revoke", "READER", 1, 1, OPT(YES), 'B',
         "take back the snapshots of a registered process, which may hold back the store's room",
         "READER: a process id or a registration, as 'shmetactl readers' lists them. Its next call within a snapshot is\n"
         "told so (SHMETA_ERR_EXPIRED), and it registers anew. Asks first, or wants --yes.\n"
         "  shmetactl revoke 4711 --yes",
         verb_revoke},
	{"objects", "", 0, 0, OPT(DELETABLE) | OPT(LIMIT), 'B', "objects of many slices, and which may be deleted",
         "Without --deletable all of them. A list also marks those that it sees without slices: their grace begins.\n"
         "  shmetactl objects --deletable --json | jq -r '.items[].key'",
         verb_objects},
	{"reload", "", 0, 0, OPT(WAIT), 'B', "have the daemon read its configuration again, all of it or nothing",
         "Says what waits for a restart. Exits 2 with the reason when the configuration was refused.\n  shmetactl reload --wait",
         verb_reload},
	{"config show", "", 0, 0, OPT(CONFIG) | OPT(DEFAULTS), 'C',
         "every option of the running daemon, where it was set, and what waits for a restart",
         "Where no daemon answers: of its file in /etc/shmeta.\n"
         "  shmetactl config show\n  shmetactl config show --json | jq '.options[] | select(.pending)'",
         verb_config_show},
	{"config check", "[FILE]", 0, 1, OPT(CONFIG), 'C',
         "check a configuration file, the daemon's own by default; nothing is changed",
         "Exits 2 when there are mistakes, all of which are told.\n  shmetactl config check\n"
         "  shmetactl config check /etc/shmeta/shmeta.conf.new",
         verb_config_check},
	{"completion", "bash", 1, 1, 0, 'C', "print the completion of verbs and options for a shell",
         "'make install' puts it where bash looks. For one shell alone:\n  . <(shmetactl completion bash)",
         verb_completion},
	{"version", "", 0, 0, 0, 'C', "this program's version, and the running writer's", "  shmetactl version --json",
         verb_version},
	{"help", "[VERB]", 0, 2, 0, 'C', "this text, or one verb's", "  shmetactl help verify", verb_help},
};
const size_t tool_verb_count = sizeof(tool_verbs) / sizeof(tool_verbs[0]);

static const struct option_row {
	const char *flag, *arg, *help;
	bool global;
} options[TOOL_OPT_COUNT] = {
#define X(name, flag, arg, global, help) [TOOL_OPT_##name] = {flag, arg, help, global},
	TOOL_OPTION_LIST(X)
#undef X
};

/* ---- help ---- */

static void print_options(uint32_t set, bool global)
{
	for (size_t i = 0; i < TOOL_OPT_COUNT; i++) {
		char left[48];

		if (options[i].global != global || (!global && (set & 1u << i) == 0))
			continue;
		(void)snprintf(left, sizeof(left), "--%s%s%s", options[i].flag, options[i].arg != NULL ? " " : "",
		               options[i].arg != NULL ? options[i].arg : "");
		(void)printf("  %-18s  %s\n", left, options[i].help);
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

static json_t *json_option(const struct option_row *row)
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
	for (size_t k = 0; k < TOOL_OPT_COUNT; k++)
		if ((verb->options & 1u << k) != 0)
			(void)json_array_append_new(own, json_option(&options[k]));
	out_set(v, "options", own);
	return v;
}

/* first: of one verb, or of all whose name begins with this word; NULL: of all. */
static int help_json(const struct verb *verb, const char *first)
{
	json_t *doc = out_document("help"), *verbs = json_array(), *global = json_array(), *codes = json_array();

	for (size_t i = 0; i < tool_verb_count; i++)
		if ((verb == NULL || verb == &tool_verbs[i]) && (first == NULL || begins_with(&tool_verbs[i], first)))
			(void)json_array_append_new(verbs, json_verb(&tool_verbs[i]));
	for (size_t k = 0; k < TOOL_OPT_COUNT; k++)
		if (options[k].global)
			(void)json_array_append_new(global, json_option(&options[k]));
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

static int help_all(void)
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
		for (size_t i = 0; i < tool_verb_count; i++) {
			char left[64];

			if (tool_verbs[i].group != groups[g].group)
				continue;
			(void)snprintf(left, sizeof(left), "%s %s", tool_verbs[i].name, tool_verbs[i].args);
			if (strlen(left) > HELP_COLUMN)
				(void)printf("  %s\n  %-*s  %s\n", left, HELP_COLUMN, "", tool_verbs[i].help);
			else
				(void)printf("  %-*s  %s\n", HELP_COLUMN, left, tool_verbs[i].help);
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

static unsigned distance(const char *a, const char *b)
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
static const char *kinds_of(const char *first, char *ret, size_t bytes)
{
	size_t at = 0, n = strlen(first);

	ret[0] = '\0';
	for (size_t i = 0; i < tool_verb_count; i++)
		if (begins_with(&tool_verbs[i], first) && at < bytes)
			at += (size_t)snprintf(ret + at, bytes - at, "%s%s", at > 0 ? ", " : "",
			                       tool_verbs[i].name + n + 1);
	return ret;
}

static int bad_verb(const struct tool *tool, const char *first, const char *second)
{
	const char *best = NULL;
	unsigned least = 3;
	char kinds[128];

	if (kinds_of(first, kinds, sizeof(kinds))[0] != '\0') {
		if (second == NULL)
			return tool_error(tool, TOOL_USAGE, "'%s' needs a second word: %s", first, kinds);
		return tool_error(tool, TOOL_USAGE, "unknown verb '%s %s'; expected '%s' and one of: %s", first, second,
		                  first, kinds);
	}
	for (size_t i = 0; i < tool_verb_count; i++) {
		char word[32];
		unsigned d;

		(void)snprintf(word, sizeof(word), "%.*s", (int)strcspn(tool_verbs[i].name, " "), tool_verbs[i].name);
		d = distance(first, word);
		if (d < least && d < strlen(word)) {
			least = d;
			best = tool_verbs[i].name;
		}
	}
	if (best != NULL)
		return tool_error(tool, TOOL_USAGE, "unknown verb '%s'; did you mean '%s'?", first, best);
	return tool_error(tool, TOOL_USAGE, "unknown verb '%s'; 'shmetactl help' lists them", first);
}

/* words: how many of argv the verb's name took. */
static const struct verb *find_verb(int argc, char **argv, int *ret_words)
{
	for (size_t i = 0; i < tool_verb_count; i++) {
		const char *name = tool_verbs[i].name, *space = strchr(name, ' ');
		size_t n = space != NULL ? (size_t)(space - name) : strlen(name);

		if (argc < 1 || strlen(argv[0]) != n || strncmp(argv[0], name, n) != 0)
			continue;
		if (space != NULL && (argc < 2 || strcmp(argv[1], space + 1) != 0))
			continue;
		*ret_words = space != NULL ? 2 : 1;
		return &tool_verbs[i];
	}
	return NULL;
}

int verb_help(struct tool *tool)
{
	const struct verb *verb;
	int words;

	if (tool->argc == 0)
		return tool->json ? help_json(NULL, NULL) : help_all();
	verb = find_verb(tool->argc, tool->argv, &words);
	if (verb != NULL)
		return tool->json ? help_json(verb, NULL) : help_verb(verb);
	if (tool->argc == 1) { /* "help ls": all of them */
		size_t shown = 0;

		for (size_t i = 0; i < tool_verb_count; i++) {
			if (!begins_with(&tool_verbs[i], tool->argv[0]))
				continue;
			if (tool->json)
				return help_json(NULL, tool->argv[0]);
			(void)(shown++ > 0 && putchar('\n')), (void)help_verb(&tool_verbs[i]);
		}
		if (shown > 0)
			return TOOL_OK;
	}
	return bad_verb(tool, tool->argv[0], tool->argc > 1 ? tool->argv[1] : NULL);
}

int verb_completion(struct tool *tool)
{
	char *script = NULL;
	size_t bytes = 0;
	FILE *out;

	if (strcmp(tool->argv[0], "bash") != 0)
		return tool_error(tool, TOOL_USAGE, "there is no completion for '%s'; expected bash", tool->argv[0]);
	out = tool->json ? open_memstream(&script, &bytes) : stdout;
	if (out == NULL)
		return tool_error(tool, TOOL_UNHEALTHY, "out of memory");
	completion_bash(out, tool_verbs, tool_verb_count);
	if (tool->json) {
		json_t *doc = out_document("completion");

		(void)fclose(out);
		out_set(doc, "script", out_json_text(script, bytes));
		out_json(doc, 2);
		free(script);
	}
	return TOOL_OK;
}

/* ---- options ---- */

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
	case TOOL_OPT_COUNT:
		break;
	}
	return 0;
}

static int bad_option(const struct tool *tool, const char *word)
{
	const char *best = NULL;
	unsigned least = 3;

	for (size_t i = 0; word[0] == '-' && word[1] == '-' && i < TOOL_OPT_COUNT; i++) {
		unsigned d = distance(word + 2, options[i].flag);

		if (d < least) {
			least = d;
			best = options[i].flag;
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

/* Takes the options out of argv; what remains is the verb and its arguments. */
static int parse_options(struct tool *tool, int argc, char **argv, uint32_t *ret_used, bool *ret_help,
                         bool *ret_version)
{
	int kept = 0;

	for (int i = 1; i < argc; i++) {
		const char *word = argv[i], *equals = strchr(word, '=');
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
		if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
			*ret_help = true;
			continue;
		}
		if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
			*ret_version = true;
			continue;
		}
		for (k = 0; k < TOOL_OPT_COUNT; k++)
			if (n > 2 && word[1] == '-' && strlen(options[k].flag) == n - 2 &&
			    strncmp(options[k].flag, word + 2, n - 2) == 0)
				break;
		if (k == TOOL_OPT_COUNT)
			return bad_option(tool, word);
		if (options[k].arg == NULL && value != NULL)
			return tool_error(tool, TOOL_USAGE, "--%s takes no value", options[k].flag);
		if (options[k].arg != NULL && value == NULL) {
			if (i + 1 == argc)
				return tool_error(tool, TOOL_USAGE, "--%s needs a value: %s", options[k].flag,
				                  options[k].arg);
			value = argv[++i];
		}
		code = set_option(tool, (enum tool_option)k, value != NULL ? value : "");
		if (code != 0)
			return code;
		*ret_used |= 1u << k;
	}
	tool->argc = kept;
	return 0;
}

static int run(struct tool *tool, int argc, char **argv)
{
	bool help = false, version = false;
	const struct verb *verb;
	uint32_t used = 0;
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
	verb = find_verb(tool->argc, tool->argv, &words);
	if (verb == NULL)
		return bad_verb(tool, tool->argv[0], tool->argc > 1 ? tool->argv[1] : NULL);
	tool->verb = verb->name;
	tool->argc -= words;
	tool->argv += words;
	for (size_t k = 0; k < TOOL_OPT_COUNT; k++)
		if ((used & 1u << k) != 0 && !options[k].global && (verb->options & 1u << k) == 0)
			return tool_error(tool, TOOL_USAGE, "'%s' takes no option --%s; see 'shmetactl help %s'",
			                  verb->name, options[k].flag, verb->name);
	if (tool->argc < verb->min_args)
		return tool_error(tool, TOOL_USAGE, "'%s' needs %s; %d of %d given", verb->name, verb->args, tool->argc,
		                  verb->min_args);
	if (tool->argc > verb->max_args)
		return tool_error(tool, TOOL_USAGE, "unexpected argument '%s'; '%s' takes %s",
		                  tool->argv[verb->max_args], verb->name, verb->args[0] != '\0' ? verb->args : "none");
	if (tool->prefix != NULL && tool->glob != NULL)
		return tool_error(tool, TOOL_USAGE, "--prefix and --glob cannot both be given");
	if (tool->dir[0] == '\0')
		(void)snprintf(tool->dir, sizeof(tool->dir), "/run/shmeta/%s", tool->instance);
	/* What reads the store shows what its writer left, if there is none any more. status says that itself. */
	tool->tell_writer = (verb->group == 'A' && verb->run != verb_status && verb->run != verb_health) ||
	                    verb->run == verb_verify;
	return verb->run(tool);
}

/* Longer than the daemon's calls to its source (source.timeout_ms): its sentence shall arrive, not only our deadline. */
enum { TIMEOUT_MS = 10000 };

int main(int argc, char **argv)
{
	static struct tool tool = {.instance = "default", .tenant = SHMETA_DEFAULT_TENANT, .timeout_ms = TIMEOUT_MS};
	const char *no_color = getenv("NO_COLOR");
	int code;

	/* Mistakes before it are told as JSON, too. */
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		tool.json |= strcmp(argv[i], "--json") == 0;

	tool.color = isatty(STDOUT_FILENO) == 1 && (no_color == NULL || no_color[0] == '\0');
	code = run(&tool, argc, argv);
	/* A full disk behind stdout is a failure of ours. */
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == TOOL_OK)
		code = tool_error(NULL, TOOL_UNHEALTHY, "cannot write the output");
	return code;
}
