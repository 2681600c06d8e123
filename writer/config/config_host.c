/* SPDX-License-Identifier: Apache-2.0
 * A configuration beside the host that it is for. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/backend.h"
#include "base/escape.h"
#include "writer/config/config_value.h"
#include "writer/serve/rights.h"

struct host {
	const struct config *config;
	const struct config_listener *listener;
	size_t count;
	enum config_index option; /* that is looked at */
};

static bool is_set(const struct config *config, enum config_index i)
{
	return strcmp(config->origin[i], "default") != 0;
}

__attribute__((format(printf, 3, 4))) static void say(struct host *host, enum config_index i, const char *fmt, ...)
{
	char text[1024], line[4096 + 1024 + 64], shown[sizeof(line)];
	const char *origin = host->config->origin[i];
	va_list args;

	va_start(args, fmt);
	shmeta__vsay(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(line, sizeof(line), "%s: %s: %s", origin, config_options[i].key, text);
	host->count++;
	if (host->listener != NULL)
		host->listener->problem(host->listener->arg, shmeta__escape(shown, sizeof(shown), line, strlen(line)));
}

static void unknown_user(void *arg, const char *name)
{
	struct host *host = arg;

	say(host, host->option, "there is no user '%s' on this host", name);
}

static void unknown_group(void *arg, const char *name)
{
	struct host *host = arg;

	say(host, host->option, "there is no group '%s' on this host", name);
}

static void judge_names(struct host *host)
{
	static const struct {
		enum config_index option;
		bool users;
	} lists[] = {
		{CONFIG_control_group, false},
		{CONFIG_control_admin_group, false},
		{CONFIG_control_write_groups, false},
		{CONFIG_control_write_users, true},
	};
	struct rights_rule rule;

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		const char *names = config_text(host->config, &config_options[lists[i].option]);

		host->option = lists[i].option;
		if (!is_set(host->config, host->option))
			continue; /* the default group is used where it is */
		rights_rule_set(&rule, lists[i].users ? names : NULL, lists[i].users ? NULL : names,
		                lists[i].users ? unknown_user : unknown_group, host);
	}
}

static void judge_files(struct host *host)
{
	const char *password = host->config->source_password_file, *uri = host->config->source_uri, *slash;
	char folder[4096];
	struct stat st;

	/* The daemon may see what whoever checks may not: only what is not there is told. */
	if (password[0] != '\0' && stat(password, &st) != 0 && errno != EACCES)
		say(host, CONFIG_source_password_file, "%s: %s", password, strerror(errno));
	else if (password[0] != '\0' && stat(password, &st) == 0 && S_ISDIR(st.st_mode))
		say(host, CONFIG_source_password_file, "%s is a directory", password);
	if (strncmp(uri, "sqlite:", 7) != 0 || !is_set(host->config, CONFIG_source_uri))
		return;
	uri += 7;
	slash = strrchr(uri, '/');
	if (slash == NULL)
		return;
	snprintf(folder, sizeof(folder), "%.*s", slash == uri ? 1 : (int)(slash - uri), uri);
	if (stat(folder, &st) != 0 && errno != EACCES)
		say(host, CONFIG_source_uri, "the directory %s: %s", folder, strerror(errno));
	else if (stat(uri, &st) != 0 && errno == ENOENT && !host->config->source_create)
		say(host, CONFIG_source_uri,
		    "%s does not exist, and source.create is off: create it with 'shmetad --create', or name another",
		    uri);
	else if (stat(uri, &st) != 0 && errno == ENOENT && lstat(uri, &st) == 0)
		say(host, CONFIG_source_uri,
		    "%s is a symbolic link that leads to no file, and none is created behind a link", uri);
	else if (stat(uri, &st) == 0 && !S_ISREG(st.st_mode))
		say(host, CONFIG_source_uri, "%s is %s, not a database file", uri,
		    S_ISDIR(st.st_mode) ? "a directory" : "something else");
}

/* The directory that a path lies in. false: it cannot be used, *ret_error says why. */
static bool folder_is_there(const char *path, char *ret, size_t bytes, int *ret_error)
{
	const char *slash = strrchr(path, '/');
	struct stat st;

	snprintf(ret, bytes, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	if (stat(ret, &st) != 0)
		*ret_error = errno;
	else
		*ret_error = S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
	return *ret_error == 0 || *ret_error == EACCES;
}

/* What the daemon makes by itself: its directory with those above it, and the snapshot file in a
 * directory that is there. */
static void judge_places(struct host *host)
{
	const char *directory = host->config->instance_directory, *warm = host->config->warm_file;
	char above[4096];
	struct stat st;
	int error = 0;

	if (is_set(host->config, CONFIG_warm_file) && warm[0] == '/') {
		if (!folder_is_there(warm, above, sizeof(above), &error))
			say(host, CONFIG_warm_file, "the directory %s: %s", above, strerror(error));
		else if (stat(warm, &st) == 0 && !S_ISREG(st.st_mode))
			say(host, CONFIG_warm_file, "%s is %s, not a file", warm,
			    S_ISDIR(st.st_mode) ? "a directory" : "something else");
	}
	if (!is_set(host->config, CONFIG_instance_directory) || directory[0] != '/')
		return;
	snprintf(above, sizeof(above), "%s", directory);
	while (above[1] != '\0' && stat(above, &st) != 0 && errno == ENOENT) {
		char *slash = strrchr(above, '/');

		slash[slash == above] = '\0';
	}
	if (stat(above, &st) != 0 && errno != EACCES)
		say(host, CONFIG_instance_directory, "%s: %s", above, strerror(errno));
	else if (stat(above, &st) == 0 && !S_ISDIR(st.st_mode))
		say(host, CONFIG_instance_directory, "%s is not a directory", above);
}

/* Options of a mode that the file does not choose: whoever sets a budget and forgets the mode has
 * none. */
static void judge_mode(struct host *host)
{
	const struct config *config = host->config;
	bool bounded = strcmp(config->store_mode, "bounded") == 0,
	     fixed = strcmp(config->bounded_freshness, "fixed") == 0;

	for (size_t i = CONFIG_bounded_max_topics; i <= CONFIG_bounded_fresh_shorter_percent; i++)
		if (!is_set(config, (enum config_index)i))
			continue;
		else if (!bounded)
			say(host, (enum config_index)i, "has no effect where store.mode is %s", config->store_mode);
		else if (fixed && i >= CONFIG_bounded_fresh_min_ms)
			say(host, (enum config_index)i, "has no effect where bounded.freshness is fixed");
	if (bounded && config->warm_file[0] != '\0')
		say(host, CONFIG_warm_file, "has no effect where store.mode is bounded");
}

static void judge_unused(struct host *host)
{
	static const struct {
		enum config_index option;
		uint32_t use;
	} options[] = {
		{CONFIG_source_read_uri, BACKEND_USES_READ_URI},
		{CONFIG_source_password_file, BACKEND_USES_PASSWORD_FILE},
		{CONFIG_source_allow_insecure, BACKEND_USES_ALLOW_INSECURE},
		{CONFIG_source_follower_reads, BACKEND_USES_FOLLOWER_READS},
		{CONFIG_source_read_units_s, BACKEND_USES_UNITS},
		{CONFIG_source_write_units_s, BACKEND_USES_UNITS},
		{CONFIG_feed_notify, BACKEND_USES_NOTIFY},
		{CONFIG_feed_keep_s, BACKEND_USES_FEED_KEEP},
		{CONFIG_feed_changefeed, BACKEND_USES_CHANGEFEED},
	};
	struct backend_error err;
	const struct backend_engine *engine = backend_find(host->config->source_uri, &err);

	for (size_t i = 0; engine != NULL && i < sizeof(options) / sizeof(*options); i++) {
		const struct config_option *o = &config_options[options[i].option];
		bool off = o->kind == CONFIG_TEXT   ? config_text(host->config, o)[0] == '\0'
		           : o->kind == CONFIG_BOOL ? config_number(host->config, o) == 0
		                                    : false;

		if (is_set(host->config, options[i].option) && !off && (engine->uses & options[i].use) == 0)
			say(host, options[i].option, "has no effect with a source of %s:", engine->name);
	}
	if (engine != NULL && is_set(host->config, CONFIG_feed_keep_s) &&
	    host->config->feed_keep_s < engine->limits.keep_least_s)
		say(host, CONFIG_feed_keep_s, "a source of %s: keeps changes for %" PRIu32 " s at least", engine->name,
		    engine->limits.keep_least_s);
}

size_t config_judge_host(const struct config *config, const struct config_listener *listener)
{
	struct host host = {.config = config, .listener = listener};

	judge_names(&host);
	judge_files(&host);
	judge_places(&host);
	judge_mode(&host);
	judge_unused(&host);
	return host.count;
}
