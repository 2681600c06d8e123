/* SPDX-License-Identifier: Apache-2.0
 * config show, config check and reload: the configuration of the daemon that runs, and of its file.
 * There is one parser, the daemon's: for a file these verbs run the daemon that lies beside this
 * program. */
#include "tools/shmetactl/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The daemon beside this program, in the sbin beside our bin, or on the PATH. */
static int exec_daemon(struct tool *tool, char *const argv[])
{
	char self[PATH_MAX], path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	(void)fflush(stdout);
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (int i = 0; slash != NULL && i < 2; i++) {
		*slash = '\0';
		(void)snprintf(path, sizeof(path), i == 0 ? "%s/shmetad" : "%s/../sbin/shmetad", self);
		(void)execv(path, argv);
		if (errno != ENOENT)
			return tool_error(tool, TOOL_UNHEALTHY, "cannot run %s: %s", path, strerror(errno));
	}
	(void)execvp("shmetad", argv);
	return tool_error(tool, TOOL_NOT_RUNNING, "cannot run shmetad: not beside this program and not on the PATH");
}

/* What the daemon prints about a configuration as JSON, and its exit code. NULL: it printed
 * none. */
static json_t *ask_daemon(struct tool *tool, const char *what, const char *file, int *ret_code)
{
	char *argv[6];
	json_t *theirs;
	json_error_t error;
	int fd[2], status = 0, n = 0;
	FILE *from;
	pid_t pid;

	argv[n++] = (char *)(uintptr_t) "shmetad";
	if (file != NULL) {
		argv[n++] = (char *)(uintptr_t) "--config";
		argv[n++] = (char *)(uintptr_t)file;
	}
	argv[n++] = (char *)(uintptr_t)what;
	argv[n++] = (char *)(uintptr_t) "--json";
	argv[n] = NULL;
	if (pipe2(fd, O_CLOEXEC) != 0) {
		*ret_code = tool_error(tool, TOOL_UNHEALTHY, "pipe: %s", strerror(errno));
		return NULL;
	}
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)dup2(fd[1], STDOUT_FILENO);
		tool->json = false;
		_exit(exec_daemon(tool, argv));
	}
	(void)close(fd[1]);
	from = fdopen(fd[0], "r");
	if (pid < 0 || from == NULL) {
		*ret_code = tool_error(tool, TOOL_UNHEALTHY, "fork: %s", strerror(errno));
		return NULL;
	}
	theirs = json_loadf(from, JSON_DISABLE_EOF_CHECK, &error);
	(void)fclose(from);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	*ret_code = WIFEXITED(status) ? WEXITSTATUS(status) : TOOL_UNHEALTHY;
	if (json_is_object(theirs))
		return theirs;
	json_decref(theirs);
	*ret_code = tool_error(tool, *ret_code != TOOL_OK ? *ret_code : TOOL_UNHEALTHY,
	                       "shmetad does not show the configuration");
	return NULL;
}

json_t *tool_running_config(struct tool *tool, char *why, size_t bytes, int *ret_code)
{
	struct shmeta_options options = {.size = sizeof(options),
	                                 .directory = tool->dir,
	                                 .agent = "shmetactl",
	                                 .flags = SHMETA_OPEN_UNREGISTERED,
	                                 .threads = 1,
	                                 .error = why,
	                                 .error_bytes = bytes};
	struct shmeta *instance = NULL;
	enum shmeta_status status = shmeta_open(&options, &instance);
	json_t *doc = NULL;
	json_error_t error;
	char *text = NULL;

	*ret_code = tool_exit_of(status) == TOOL_PERMISSION ? TOOL_PERMISSION : TOOL_NOT_RUNNING;
	if (status != SHMETA_OK)
		return NULL;
	status = shmeta_get_config(instance, tool->timeout_ms, &text);
	*ret_code = tool_exit_of(status) == TOOL_PERMISSION ? TOOL_PERMISSION : TOOL_NOT_RUNNING;
	if (status == SHMETA_OK)
		doc = json_loads(text, 0, &error);
	else if (why != NULL)
		(void)shmeta_last_error(instance, why, bytes);
	if (doc != NULL && !json_is_object(doc)) {
		json_decref(doc);
		doc = NULL;
	}
	free(text);
	shmeta_close(instance);
	return doc;
}

/* The file of the instance where no daemon says: as the systemd units have it. NULL: there is
 * none. */
static const char *usual_file(struct tool *tool, char path[PATH_MAX])
{
	char usual_dir[PATH_MAX];

	(void)snprintf(usual_dir, sizeof(usual_dir), "/run/shmeta/%s", tool->instance);
	(void)snprintf(path, PATH_MAX, "/etc/shmeta/%s.conf",
	               strcmp(tool->instance, "default") == 0 ? "shmeta" : tool->instance);
	return strcmp(tool->dir, usual_dir) == 0 && access(path, F_OK) == 0 ? path : NULL;
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

static const char *quoted_if_empty(const char *text)
{
	return text[0] != '\0' ? text : "\"\"";
}

/* Does the command line ask for this option? */
static bool wanted(const struct tool *tool, const json_t *option)
{
	/* One value may be spelled in two ways ("60s", "1m"); a preset changes others. */
	if (tool->changed && json_object_get(option, "effective") == NULL &&
	    (strcmp(text_of(option, "origin"), "default") == 0 ||
	     strcmp(text_of(option, "value"), text_of(option, "default")) == 0))
		return false;
	return !tool->needs_restart || json_is_string(json_object_get(option, "pending"));
}

static void print_options(struct tool *tool, const json_t *config)
{
	const json_t *option;
	struct list list;
	size_t i;

	list_begin(&list, tool, "options");
	json_array_foreach(json_object_get(config, "options"), i, option)
	{
		const char *pending = json_string_value(json_object_get(option, "pending"));

		if (!wanted(tool, option))
			continue;

		/* What a preset has in its place. */
		const char *effective = json_string_value(json_object_get(option, "effective"));
		struct field f[] = {
			f_string("name", text_of(option, "name")),
			f_string("value", effective != NULL ? effective : quoted_if_empty(text_of(option, "value"))),
			f_string("default", quoted_if_empty(text_of(option, "default"))),
			f_string("changes", text_of(option, "changeable")),
			f_string("from", text_of(option, "origin")),
			pending != NULL ? f_string("waits_for_restart", pending) : f_null("waits_for_restart")};

		list_row(&list, f, 6);
	}
	if (!tool->needs_restart)
		json_array_foreach(json_object_get(config, "ttl_overrides"), i, option)
		{
			char name[SHMETA_NAME_MAX + 32], value[32];
			struct field f[6];

			(void)snprintf(name, sizeof(name), "ttl_override \"%s\"", text_of(option, "prefix"));
			(void)snprintf(value, sizeof(value), "%lldms",
			               (long long)json_integer_value(json_object_get(option, "ttl_ms")));
			f[0] = f_string("name", name);
			f[1] = f_string("value", value);
			f[2] = f_null("default");
			f[3] = f_string("changes", "reload");
			f[4] = f_string("from", text_of(option, "origin"));
			f[5] = f_null("waits_for_restart");
			list_row(&list, f, 6);
		}
	list_end(&list, NULL, 0);
	list_free(&list);
}

static json_t *wanted_options(const struct tool *tool, const json_t *options)
{
	json_t *list = json_array(), *option;
	size_t i;

	json_array_foreach(options, i, option)
	{
		if (wanted(tool, option))
			(void)json_array_append(list, option);
	}
	return list;
}

/* The daemon's own JSON, in the frame that every verb's JSON has. of: "daemon", "file" or
 * "defaults". */
static void print_config(struct tool *tool, const json_t *config, const char *of, bool denied)
{
	const char *file = json_string_value(json_object_get(config, "file")), *key;
	json_t *doc, *value;

	if (!tool->json) {
		if (!tool->no_header)
			(void)printf("# %s%s%s\n",
			             strcmp(of, "daemon") == 0                         ? "the running daemon"
			             : strcmp(of, "file") == 0 && tool->config != NULL ? "the file"
			             : strcmp(of, "file") == 0 && denied ? "this user may not ask the daemon; the file"
			             : strcmp(of, "file") == 0           ? "no daemon answers; the file"
			                                                 : "the defaults",
			             strcmp(of, "defaults") == 0 ? ""
			             : file == NULL              ? ", which reads no file"
			             : strcmp(of, "file") == 0   ? " "
			                                         : ", file ",
			             file != NULL ? out_safe(file, strlen(file)) : "");
		print_options(tool, config);
		return;
	}
	doc = out_document("config");
	out_set(doc, "of", json_string(of));
	json_object_foreach((json_t *)(uintptr_t)config, key, value)
	{
		if (strcmp(key, "options") == 0)
			out_set(doc, key, wanted_options(tool, value));
		else if (strcmp(key, "schema") != 0 && strcmp(key, "version") != 0 && strcmp(key, "time") != 0)
			out_set(doc, key, json_incref(value));
	}
	out_json(doc, 2);
}

int verb_config_show(struct tool *tool)
{
	char path[PATH_MAX], why[512] = "";
	const char *file = tool->config;
	json_t *config = NULL;
	int code = TOOL_OK, unasked = TOOL_NOT_RUNNING;

	if (file != NULL && tool->defaults)
		return tool_error(tool, TOOL_USAGE, "--config and --defaults cannot both be given");
	if ((file != NULL || tool->defaults) && (tool->running || tool->needs_restart))
		return tool_error(tool, TOOL_USAGE, "%s is about the running daemon: it cannot be given with %s",
		                  tool->running ? "--running" : "--needs-restart",
		                  file != NULL ? "--config" : "--defaults");
	if (file == NULL && !tool->defaults)
		config = tool_running_config(tool, why, sizeof(why), &unasked);
	if (config == NULL && (tool->running || tool->needs_restart))
		return tool_error(tool, unasked, "%s", why);
	if (config != NULL) {
		print_config(tool, config, "daemon", false);
		json_decref(config);
		return TOOL_OK;
	}
	if (file == NULL && !tool->defaults)
		file = usual_file(tool, path);
	if (file == NULL && !tool->defaults)
		return tool_error(tool, unasked, "%s; name a file with --config, or say --defaults", why);
	config = ask_daemon(tool, "--dump-config", file, &code);
	if (config != NULL)
		print_config(tool, config, tool->defaults ? "defaults" : "file", unasked == TOOL_PERMISSION);
	json_decref(config);
	return code;
}

int verb_config_check(struct tool *tool)
{
	const char *file = tool->argc == 1 ? tool->argv[0] : tool->config, *sentence;
	char path[PATH_MAX], why[512] = "";
	json_t *running = NULL, *found, *doc, *mistakes;
	size_t i;
	int code = TOOL_OK, unasked = TOOL_NOT_RUNNING;

	if (tool->argc == 1 && tool->config != NULL)
		return tool_error(tool, TOOL_USAGE, "the file is given twice: '%s' and --config '%s'", tool->argv[0],
		                  tool->config);
	if (file == NULL) {
		running = tool_running_config(tool, why, sizeof(why), &unasked);
		file = json_string_value(json_object_get(running, "file"));
	}
	if (file == NULL && running != NULL) {
		json_decref(running);
		return tool_error(tool, TOOL_USAGE,
		                  "the running daemon reads no configuration file; name one to check");
	}
	if (file == NULL)
		file = usual_file(tool, path);
	if (file == NULL)
		return tool_error(tool, unasked, "%s; name a file to check", why);
	found = ask_daemon(tool, "--check-config", file, &code);
	mistakes = json_object_get(found, "mistakes");
	if (found != NULL && tool->json) {
		doc = out_document("config_check");
		out_set(doc, "file", out_json_text(file, strlen(file)));
		out_set(doc, "right", json_boolean(code == TOOL_OK));
		out_set(doc, "mistakes", json_incref(mistakes));
		out_json(doc, 2);
	} else if (found != NULL && code == TOOL_OK) {
		(void)printf("%s: no mistakes\n", out_safe(file, strlen(file)));
	} else if (found != NULL) {
		for (i = 0; i < json_array_size(mistakes); i++) {
			sentence = json_string_value(json_array_get(mistakes, i));
			(void)fprintf(stderr, "%s\n", sentence != NULL ? out_safe(sentence, strlen(sentence)) : "?");
		}
	}
	json_decref(found);
	json_decref(running);
	return code;
}

/* ---- reload ---- */

/* What the file has now, and a restart will bring. */
static json_t *waiting(struct tool *tool)
{
	int unasked;
	json_t *config = tool_running_config(tool, NULL, 0, &unasked), *list = json_array(), *option;
	size_t i;

	json_array_foreach(json_object_get(config, "options"), i, option)
	{
		json_t *row;

		if (!json_is_string(json_object_get(option, "pending")))
			continue;
		row = json_object();
		out_set(row, "name", json_incref(json_object_get(option, "name")));
		out_set(row, "value", json_incref(json_object_get(option, "value")));
		out_set(row, "pending", json_incref(json_object_get(option, "pending")));
		(void)json_array_append_new(list, row);
	}
	json_decref(config);
	return list;
}

int verb_reload(struct tool *tool)
{
	char sentence[1024] = "";
	struct shmeta *instance;
	enum shmeta_status status;
	json_t *list, *row, *doc;
	size_t i;
	int code = tool_open_control(tool, &instance);

	if (code != 0)
		return code;
	/* The daemon judges the file before it answers, so there is nothing to be gained from not
	 * waiting; --wait is accepted for systemd's ExecReload=, where it says what is meant. */
	status = shmeta_reload(instance, tool->timeout_ms, sentence, sizeof(sentence));
	if (status == SHMETA_ERR_CONFIG)
		code = tool_error(tool, TOOL_USAGE, "the configuration was refused, the old one stays: %s", sentence);
	else if (status != SHMETA_OK)
		code = tool_say_failed(tool, instance, status, "reload");
	shmeta_close(instance);
	if (code != 0)
		return code;
	list = waiting(tool);
	if (tool->json) {
		doc = out_document("reload");
		out_set(doc, "reloaded", json_boolean(true));
		out_set(doc, "said", out_json_text(sentence, strlen(sentence)));
		out_set(doc, "wait_for_restart", list);
		out_json(doc, 2);
		return TOOL_OK;
	}
	(void)printf("reloaded%s%s\n", sentence[0] != '\0' ? ": " : "", out_safez(sentence, sizeof(sentence)));
	json_array_foreach(list, i, row)
	{
		const char *value = text_of(row, "value"), *pending = text_of(row, "pending");

		(void)printf("waits for a restart: %s = %s (running: %s)\n", text_of(row, "name"),
		             out_safe(pending, strlen(pending)), out_safe(value, strlen(value)));
	}
	json_decref(list);
	return TOOL_OK;
}
