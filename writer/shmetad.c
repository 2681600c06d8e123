/* SPDX-License-Identifier: Apache-2.0
 * shmetad: the command line. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "shm/store/store.h"
#include "shm/wire/wire.h"
#include "writer/config/config.h"
#include "writer/daemon/daemon.h"
#include "writer/daemon/events.h"
#include "writer/daemon/notify.h"
#include "writer/daemon/takeover.h"

enum verb { RUN, CHECK, DUMP, SAMPLE, MANUAL, CATALOG, VERSION, HELP };

/* One line makes the option, its usage and its line of --help. */
#define FLAGS(F)                                                                                            \
	F('c', "config", "FILE", "read the configuration from FILE; without it no file is read")            \
	F('s', "source", "URI", "sqlite:PATH, postgresql://..., cockroachdb://... or memory: (source.uri)") \
	F('n', "create", NULL, "make the source and its tables where there are none (source.create)")       \
	F('d', "dir", "DIR", "the instance directory (instance.directory)")                                 \
	F('i', "instance", "NAME", "the instance's name (instance.name)")                                   \
	F('C', "check-config", NULL, "print every mistake of the configuration and end: 0 none, 2 some")    \
	F('D', "dump-config", NULL, "print every option, its value and where it comes from, and end")       \
	F('j', "json", NULL, "with --check-config, --dump-config or --version: as JSON")                    \
	F('S', "print-sample", NULL, "print a commented configuration file and end")                        \
	F('M', "print-manual", NULL, "print the options as shmeta.conf(5) lists them (scdoc) and end")      \
	F('L', "print-catalog", NULL, "print the journal's catalog of the events and end")                  \
	F('V', "version", NULL, "print the version and end")                                                \
	F('h', "help", NULL, "print this and end")

struct flag {
	int letter;
	const char *name, *value, *help;
};
static const struct flag flag_table[] = {
#define F(letter, name, value, help) {letter, name, value, help},
	FLAGS(F)
#undef F
};
enum { FLAG_COUNT = sizeof(flag_table) / sizeof(*flag_table) };

static void print_help(void)
{
	printf("shmetad keeps the metadata of a source in shared memory, for every process of this host to read.\n\n"
	       "Usage: shmetad [OPTION]...\n\n");
	for (const struct flag *f = flag_table; f < flag_table + FLAG_COUNT; f++) {
		char spelled[40];

		snprintf(spelled, sizeof(spelled), "%s%s%s", f->name, f->value != NULL ? " " : "",
		         f->value != NULL ? f->value : "");
		printf("  --%-18s %s\n", spelled, f->help);
	}
	printf("\nExit status: 0 ended as asked; 1 failed; 2 a wrong command line or configuration;\n"
	       "75 another writer runs on the instance directory.\n"
	       "SIGHUP reads the configuration anew; SIGTERM stops. See shmetad(8) and shmeta.conf(5).\n");
}

static void print_version(int json)
{
	if (!json) {
		printf("shmetad %s\n", SHMETA_VERSION_STRING);
		return;
	}
	printf("{\"schema\":1,\"name\":\"shmetad\",\"version\":\"%s\",\"wire\":%d,\"store_format\":%d}\n",
	       SHMETA_VERSION_STRING, SHMETA_WIRE_VERSION, SHMETA_STORE_FORMAT);
}

/* Where mistakes go: to stderr, or with --check-config --json into a list. */
struct told {
	enum verb verb;
	const char *priority; /* the journal takes it; a terminal shall not show it */
	json_t *list;
	char *directory; /* of the instance whose configuration was refused */
};

static void print_problem(void *arg, const char *sentence)
{
	const struct told *told = arg;

	if (told->list != NULL)
		json_array_append_new(told->list, json_string(sentence));
	else
		fprintf(stderr, "%s%s\n", told->verb == RUN && !isatty(STDERR_FILENO) ? told->priority : "", sentence);
}

static void keep_directory(void *arg, const char *directory)
{
	struct told *told = arg;

	told->directory = strdup(directory);
}

static int print_check(const struct config_flags *flags, struct told *told, bool right)
{
	json_t *object;

	if (told->list == NULL) {
		if (right)
			printf("%s: no mistakes\n",
			       flags->file != NULL ? flags->file : "no file was named; the defaults");
		return right ? DAEMON_OK : DAEMON_REFUSED;
	}
	object = json_pack("{s:i,s:s?,s:b,s:O}", "schema", 1, "file", flags->file, "right", right, "mistakes",
	                   told->list);
	if (object == NULL || json_dumpf(object, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) < 0) {
		fprintf(stderr, "shmetad: cannot print the mistakes as JSON\n");
		json_decref(object);
		return DAEMON_FAILED;
	}
	putchar('\n');
	json_decref(object);
	return right ? DAEMON_OK : DAEMON_REFUSED;
}

static int dump(const struct config *config, int json)
{
	json_t *object;

	if (!json) {
		config_print(config, stdout);
		return DAEMON_OK;
	}
	object = config_json(config);
	if (object == NULL || json_dumpf(object, stdout, JSON_INDENT(2)) < 0) {
		fprintf(stderr, "shmetad: cannot print the configuration as JSON\n");
		json_decref(object);
		return DAEMON_FAILED;
	}
	putchar('\n');
	json_decref(object);
	return DAEMON_OK;
}

static int with_config(enum verb verb, const struct config_flags *flags, int json)
{
	struct told told = {.verb = verb, .priority = "<3>", .list = verb == CHECK && json ? json_array() : NULL};
	const struct config_listener listener = {.arg = &told, .problem = print_problem, .refused = keep_directory};
	struct config *config = NULL;
	struct shmeta_err err;
	int code;

	if (config_load(flags, &listener, &config, &err) != SHMETA_OK) {
		code = err.code == SHMETA_ERR_CONFIG ? DAEMON_REFUSED : DAEMON_FAILED;
		if (err.code != SHMETA_ERR_CONFIG)
			fprintf(stderr, "shmetad: %s\n", err.text);
		else if (verb == CHECK)
			code = print_check(flags, &told, false);
		else if (verb == RUN && told.directory != NULL)
			instance_start_failed(told.directory, err.text);
	} else if (verb == DUMP) {
		code = dump(config, json);
	} else if (verb == CHECK) {
		code = print_check(flags, &told, config_judge_host(config, &listener) == 0);
	} else {
		told.priority = "<4>";
		(void)config_judge_host(config, &listener);
		return daemon_run(flags, config);
	}
	json_decref(told.list);
	free(told.directory);
	config_free(config);
	return code;
}

static void no_problem(void *arg, const char *sentence)
{
	(void)arg;
	(void)sentence;
}

/* A command line that a service manager gave is a start that failed; one that was typed is told to
 * who typed it. */
static int refuse_command_line(const struct config_flags *flags, const char *sentence)
{
	struct told told = {.verb = RUN};
	const struct config_listener listener = {.arg = &told, .problem = no_problem, .refused = keep_directory};
	struct config *config = NULL;

	if (!notify_listens())
		return DAEMON_REFUSED;
	(void)config_load(flags, &listener, &config, NULL);
	if (config != NULL || told.directory != NULL)
		instance_start_failed(config != NULL ? config->instance_directory : told.directory, sentence);
	free(told.directory);
	config_free(config);
	return DAEMON_REFUSED;
}

/* argument: NULL where getopt has told already, and `wrong`, the last word that it took, is the
 * one. */
static int usage(const struct config_flags *flags, const char *argument, const char *wrong)
{
	char sentence[512];

	if (argument != NULL) {
		snprintf(sentence, sizeof(sentence), "unexpected argument '%s'; 'shmetad --help' lists the options",
		         argument);
		fprintf(stderr, "shmetad: %s\n", sentence);
	} else {
		snprintf(sentence, sizeof(sentence), "wrong option '%s'; 'shmetad --help' lists the options",
		         wrong != NULL ? wrong : "");
		fprintf(stderr, "shmetad: 'shmetad --help' lists the options\n");
	}
	return refuse_command_line(flags, sentence);
}

/* A reload that is asked for while the daemon starts is done as soon as it runs. */
static void hold_reloads(void)
{
	sigset_t reload;

	sigemptyset(&reload);
	sigaddset(&reload, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &reload, NULL);
}

int main(int argc, char **argv)
{
	struct config_flags flags = {0};
	struct option options[FLAG_COUNT + 1] = {0};
	enum verb verb = RUN;
	int json = 0;

	for (size_t i = 0; i < FLAG_COUNT; i++)
		options[i] = (struct option){.name = flag_table[i].name,
		                             .has_arg = flag_table[i].value != NULL,
		                             .val = flag_table[i].letter};
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 'c':
			flags.file = optarg;
			break;
		case 's':
			flags.source = optarg;
			break;
		case 'n':
			flags.create = true;
			break;
		case 'd':
			flags.directory = optarg;
			break;
		case 'i':
			flags.instance = optarg;
			break;
		case 'C':
			verb = CHECK;
			break;
		case 'D':
			verb = DUMP;
			break;
		case 'j':
			json = 1;
			break;
		case 'S':
			verb = SAMPLE;
			break;
		case 'M':
			verb = MANUAL;
			break;
		case 'L':
			verb = CATALOG;
			break;
		case 'V':
			verb = VERSION;
			break;
		case 'h':
			verb = HELP;
			break;
		default:
			return usage(&flags, NULL, argv[optind - 1]);
		}
	}
	if (optind < argc)
		return usage(&flags, argv[optind], NULL);
	switch (verb) {
	case HELP:
		print_help();
		return DAEMON_OK;
	case VERSION:
		print_version(json);
		return DAEMON_OK;
	case SAMPLE:
		config_print_sample(stdout);
		return DAEMON_OK;
	case MANUAL:
		config_print_manual(stdout);
		return DAEMON_OK;
	case CATALOG:
		event_print_catalog(stdout);
		return DAEMON_OK;
	case RUN:
		if (json) {
			fprintf(stderr, "shmetad: --json goes with --check-config, --dump-config or --version\n");
			return DAEMON_REFUSED;
		}
		hold_reloads();
		break;
	case CHECK:
	case DUMP:
		break;
	}
	return with_config(verb, &flags, json);
}
