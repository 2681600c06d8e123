/* SPDX-License-Identifier: Apache-2.0
 * Loading a configuration from its file, the file's drop-ins and flags, and merging it into the
 * running one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "writer/config/config_load.h"
#include "writer/config/config_parse.h"
#include "writer/config/paths.h"

enum { FILE_MAX_BYTES = 1 << 20 };

static void set_origin(struct config_load *load, size_t i, const char *origin)
{
	if (!config_set_text(&load->config->origin[i], origin))
		load->no_memory = true;
}

static const char *file_of(const struct config_load *load, struct config_place place)
{
	return load->files[place.file];
}

static char *origin_of_place(const struct config_load *load, struct config_place place)
{
	char *origin;

	return asprintf(&origin, "%s:%u", file_of(load, place), place.line) < 0 ? NULL : origin;
}

/* A later file may change what an earlier one has set; within one file that is a mistake. */
static bool is_set_here(const struct config_load *load, struct config_place place)
{
	return place.line != 0 && place.file == load->at.file;
}

static void set_option(struct config_load *load, size_t i, const char *value)
{
	const struct config_option *o = &config_options[i];
	char why[CONFIG_SENTENCE];

	load->places[i] = load->at;
	if (!config_parse_value(o, value, config_number_at(load->config, o), why, sizeof(why))) {
		config_mistake(load, load->at, "%s: %s", o->key, why);
		return;
	}
	if (o->kind == CONFIG_TEXT && !config_set_text(config_text_at(load->config, o), value))
		load->no_memory = true;
	free(load->config->origin[i]);
	load->config->origin[i] = origin_of_place(load, load->at);
	if (load->config->origin[i] == NULL)
		load->no_memory = true;
}

static const struct config_option *find_option(const char *section, const char *name)
{
	if (strcmp(section, CONFIG_OVERRIDE) == 0 && strcmp(name, config_override_ttl.name) == 0)
		return &config_override_ttl;
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++)
		if (strcmp(config_options[i].section, section) == 0 && strcmp(config_options[i].name, name) == 0)
			return &config_options[i];
	return NULL;
}

const struct config_option *config_find(const char *key)
{
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++)
		if (strcmp(config_options[i].key, key) == 0)
			return &config_options[i];
	return NULL;
}

static bool is_section(const char *name)
{
	if (strcmp(name, CONFIG_OVERRIDE) == 0)
		return true;
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++)
		if (strcmp(config_options[i].section, name) == 0)
			return true;
	return false;
}

/* ---- the file's statements ---- */

static void take_section(struct config_load *load, const struct config_statement *s)
{
	bool titled = strcmp(s->name, CONFIG_OVERRIDE) == 0;
	char hint[160];

	if (!is_section(s->name))
		config_mistake(load, load->at, "%s: unknown section%s", s->name,
		               config_suggest_section(s->name, hint, sizeof(hint)));
	else if (!titled && s->title != NULL)
		config_mistake(load, load->at, "%s: this section takes no title", s->name);
	else if (titled && s->title == NULL)
		config_mistake(load, load->at, "%s: a topic-name prefix must follow: %s \"PREFIX\" { ... }",
		               CONFIG_OVERRIDE, CONFIG_OVERRIDE);
	else if (titled && (strlen(s->title) == 0 || strlen(s->title) > SHMETA_NAME_MAX))
		config_mistake(load, load->at, "%s: the prefix must have 1 to %d bytes", CONFIG_OVERRIDE,
		               SHMETA_NAME_MAX);
	if (titled && ++load->override_sections == CONFIG_OVERRIDES_MAX + 1)
		config_mistake(load, load->at, "%s: more than %d of them", CONFIG_OVERRIDE, CONFIG_OVERRIDES_MAX);
}

static void change_override(struct config_load *load, size_t i, uint64_t ttl)
{
	struct config_override *o = &load->config->overrides[i];

	load->override_places[i] = load->at;
	o->ttl_ms = ttl;
	free(o->origin);
	o->origin = origin_of_place(load, load->at);
	load->no_memory |= o->origin == NULL;
}

static void take_override(struct config_load *load, const struct config_statement *s)
{
	struct config *config = load->config;
	struct config_override *grown;
	char why[CONFIG_SENTENCE];
	uint64_t ttl = 0;
	size_t i;

	for (i = 0; i < config->override_count && strcmp(config->overrides[i].prefix, s->title) != 0; i++)
		;
	if (i < config->override_count && is_set_here(load, load->override_places[i])) {
		config_mistake(load, load->at, "%s \"%s\".%s: is already set in line %u", s->section, s->title, s->name,
		               load->override_places[i].line);
		return;
	}
	if (!config_parse_value(&config_override_ttl, s->value, &ttl, why, sizeof(why)))
		config_mistake(load, load->at, "%s \"%s\": ttl_ms: %s", CONFIG_OVERRIDE, s->title, why);
	if (i < config->override_count) {
		change_override(load, i, ttl);
		return;
	}
	if (config->override_count == CONFIG_OVERRIDES_MAX)
		return;
	grown = realloc(config->overrides, (config->override_count + 1) * sizeof(*grown));
	if (grown == NULL) {
		load->no_memory = true;
		return;
	}
	config->overrides = grown;
	load->override_places[config->override_count] = load->at;
	grown += config->override_count++;
	*grown = (struct config_override){
		.prefix = strdup(s->title), .ttl_ms = ttl, .origin = origin_of_place(load, load->at)};
	if (grown->prefix == NULL || grown->origin == NULL)
		load->no_memory = true;
}

static void take_option(struct config_load *load, const struct config_statement *s)
{
	const struct config_option *o = find_option(s->section, s->name);
	char hint[160];
	size_t i;

	if (s->section[0] == '\0' && is_section(s->name)) {
		config_mistake(load, load->at, "%s: is a section: write %s { ... }", s->name, s->name);
	} else if (s->section[0] == '\0') {
		config_mistake(load, load->at, "%s: unknown option; options stand in sections%s", s->name,
		               config_suggest_option("", s->name, hint, sizeof(hint)));
	} else if (o == NULL && is_section(s->section)) {
		config_mistake(load, load->at, "%s.%s: unknown option%s", s->section, s->name,
		               config_suggest_option(s->section, s->name, hint, sizeof(hint)));
	} else if (o == &config_override_ttl) {
		if (s->title != NULL)
			take_override(load, s);
	} else if (o != NULL) {
		i = (size_t)(o - config_options);
		if (is_set_here(load, load->places[i]))
			config_mistake(load, load->at, "%s: is already set in line %u", o->key, load->places[i].line);
		else
			set_option(load, i, s->value);
	}
}

static void take_statement(void *arg, const struct config_statement *s)
{
	struct config_load *load = arg;

	load->at.line = s->line;
	if (s->value == NULL)
		take_section(load, s);
	else
		take_option(load, s);
}

static void take_problem(void *arg, unsigned line, const char *sentence)
{
	struct config_load *load = arg;

	config_mistake(load, (struct config_place){.file = load->at.file, .line = line}, "%s", sentence);
}

/* ---- the files ---- */

static char *read_file(struct config_load *load, size_t *ret_bytes)
{
	const struct config_place whole = {.file = load->at.file};
	/* a FIFO without a writer too */
	int fd = open(file_of(load, whole), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	FILE *stream = fd >= 0 ? fdopen(fd, "r") : NULL;
	struct stat st;
	size_t room;
	char *text;

	if (stream == NULL) {
		config_mistake(load, whole, "cannot be read: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		config_mistake(load, whole, "is %s, not a file",
		               S_ISDIR(st.st_mode)    ? "a directory"
		               : S_ISFIFO(st.st_mode) ? "a FIFO"
		                                      : "a device or socket");
		fclose(stream);
		return NULL;
	}
	room = (size_t)(st.st_size < FILE_MAX_BYTES ? st.st_size : FILE_MAX_BYTES) + 1;
	text = malloc(room + 1);
	load->no_memory |= text == NULL;
	*ret_bytes = text != NULL ? fread(text, 1, room, stream) : 0;
	if (ferror(stream)) {
		config_mistake(load, whole, "cannot be read: %s", strerror(errno));
		free(text);
		text = NULL;
	} else if (*ret_bytes == room) {
		config_mistake(load, whole,
		               room > FILE_MAX_BYTES ? "is longer than %zu bytes"
		                                     : "has grown beyond %zu bytes while it was read",
		               room - 1);
		free(text);
		text = NULL;
	} else if (*ret_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		config_mistake(load, (struct config_place){.file = whole.file, .line = 1},
		               "the file begins with a byte order mark; save it as UTF-8 without one");
		memset(text, ' ', 3);
	}
	if (text != NULL)
		text[*ret_bytes] = '\0';
	fclose(stream);
	return text;
}

static void load_file(struct config_load *load, unsigned file)
{
	const struct config_syntax syntax = {.arg = load, .statement = take_statement, .problem = take_problem};
	size_t bytes = 0;
	char *text;

	load->at = (struct config_place){.file = file};
	text = read_file(load, &bytes);

	if (text != NULL)
		load->no_memory |= !config_parse(text, bytes, &syntax);
	free(text);
}

static int is_drop_in(const struct dirent *entry)
{
	size_t bytes = strlen(entry->d_name);

	return entry->d_name[0] != '.' && bytes > strlen(".conf") &&
	       strcmp(entry->d_name + bytes - strlen(".conf"), ".conf") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* FILE.d/NAME.conf, in the order of the bytes of their names. */
static void find_drop_ins(struct config_load *load)
{
	const struct config_place whole = {.line = 0};
	struct dirent **entries = NULL;
	char directory[4096];
	int count;

	if ((size_t)snprintf(directory, sizeof(directory), "%s.d", load->files[0]) >= sizeof(directory))
		return;
	count = scandir(directory, &entries, is_drop_in, by_name);
	if (count < 0 && errno == ENOMEM)
		load->no_memory = true;
	else if (count < 0 && errno != ENOENT)
		config_mistake(load, whole, "its drop-ins in %s cannot be read: %s", directory, strerror(errno));
	if (count >= CONFIG_FILES_MAX)
		config_mistake(load, whole, "%s holds %d drop-ins; at most %d are read", directory, count,
		               CONFIG_FILES_MAX - 1);
	for (int i = 0; i < count; i++) {
		if (load->file_count < CONFIG_FILES_MAX) {
			if (asprintf(&load->files[load->file_count], "%s/%s", directory, entries[i]->d_name) < 0)
				load->no_memory = true;
			else
				load->file_count++;
		}
		free(entries[i]);
	}
	free(entries);
}

static void load_files(struct config_load *load, const char *file)
{
	load->config->file = path_absolute(file);
	load->files[0] = strdup(file);
	load->no_memory |= load->config->file == NULL || load->files[0] == NULL;
	if (load->no_memory)
		return;
	load->file_count = 1;
	find_drop_ins(load);
	for (unsigned i = 0; i < load->file_count && !load->no_memory; i++)
		load_file(load, i);
	load->at = (struct config_place){.line = 0};
}

/* ---- defaults, flags and paths ---- */

/* The first of a list that systemd separates with ':'. */
static bool first_directory(const char *variable, char *ret, size_t bytes)
{
	const char *value = getenv(variable);

	if (value == NULL || value[0] != '/')
		return false;
	return (size_t)snprintf(ret, bytes, "%.*s", (int)strcspn(value, ":"), value) < bytes;
}

static void fill_standards(struct config_load *load)
{
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		char why[CONFIG_SENTENCE];

		if (!config_parse_value(o, o->standard, config_number_at(load->config, o), why, sizeof(why)))
			config_mistake(load, (struct config_place){.line = 0}, "the default of %s %s", o->key, why);
		if (o->kind == CONFIG_TEXT && !config_set_text(config_text_at(load->config, o), o->standard))
			load->no_memory = true;
		set_origin(load, i, "default");
	}
}

/* What no file says. what: who says it. */
static void apply(struct config_load *load, size_t i, const char *what, const char *value)
{
	char why[CONFIG_SENTENCE], sentence[CONFIG_SENTENCE + 64];

	if (!config_parse_value(&config_options[i], value, config_number_at(load->config, &config_options[i]), why,
	                        sizeof(why))) {
		snprintf(sentence, sizeof(sentence), "%s: %s", what, why);
		config_mistake_of_flag(load, sentence);
		return;
	}
	if (config_options[i].kind == CONFIG_TEXT &&
	    !config_set_text(config_text_at(load->config, &config_options[i]), value))
		load->no_memory = true;
	set_origin(load, i, what);
	load->places[i] = (struct config_place){.line = 0};
}

static void apply_flag(struct config_load *load, size_t i, const char *flag, const char *value)
{
	char sentence[64];

	if (value == NULL)
		return;
	if (value[0] != '\0') {
		apply(load, i, flag, value);
		return;
	}
	snprintf(sentence, sizeof(sentence), "%s: must not be empty", flag);
	config_mistake_of_flag(load, sentence);
}

static void apply_settings(struct config_load *load, const struct config_flags *flags)
{
	for (size_t n = 0; n < flags->setting_count; n++) {
		const struct config_setting *s = &flags->settings[n];
		size_t i = (size_t)(s->option - config_options);

		apply(load, i, s->option->key, s->value);
		set_origin(load, i, s->origin);
	}
}

static void fill_paths(struct config_load *load)
{
	struct config *config = load->config;
	const char *instance = config->instance_name;
	char directory[4096], path[4096 + 128];

	if (config->instance_directory[0] == '\0') {
		if (first_directory("RUNTIME_DIRECTORY", directory, sizeof(directory))) {
			const char *last = strrchr(directory, '/');

			if (strcmp(last + 1, instance) == 0)
				snprintf(path, sizeof(path), "%s", directory);
			else
				snprintf(path, sizeof(path), "%s/%s", directory, instance);
			set_origin(load, CONFIG_instance_directory, "RUNTIME_DIRECTORY");
		} else {
			snprintf(path, sizeof(path), "/run/shmeta/%s", instance);
		}
		if (!config_set_text(&config->instance_directory, path))
			load->no_memory = true;
	}
	if (config->source_uri[0] == '\0') {
		if (first_directory("STATE_DIRECTORY", directory, sizeof(directory))) {
			snprintf(path, sizeof(path), "sqlite:%s/%s.db", directory, instance);
			set_origin(load, CONFIG_source_uri, "STATE_DIRECTORY");
		} else {
			snprintf(path, sizeof(path), "sqlite:/var/lib/shmeta/%s.db", instance);
		}
		if (!config_set_text(&config->source_uri, path))
			load->no_memory = true;
		if (strcmp(config->origin[CONFIG_source_create], "default") == 0) {
			config->source_create = 1;
			set_origin(load, CONFIG_source_create, "default path");
		}
	}
}

/* What is published, logged and compared leads to the same file from every directory. */
static void make_absolute(struct config_load *load)
{
	static const char scheme[] = "sqlite:";
	struct config *config = load->config;
	const size_t length = sizeof(scheme) - 1;
	char *directory = path_absolute(config->instance_directory), *file, *uri;

	free(config->instance_directory);
	config->instance_directory = directory;
	load->no_memory |= directory == NULL;
	if (strncmp(config->source_uri, scheme, length) != 0)
		return;
	file = path_absolute(config->source_uri + length);
	if (file == NULL || asprintf(&uri, "%s%s", scheme, file) < 0) {
		load->no_memory = true;
	} else {
		free(config->source_uri);
		config->source_uri = uri;
	}
	free(file);
}

/* A password file without a '/' is a credential: it lies where the service manager has put it. */
static void find_credential(struct config_load *load)
{
	struct config *config = load->config;
	const char *name = config->source_password_file;
	char directory[4096], path[2 * 4096];

	if (name[0] != '\0' && strchr(name, '/') == NULL &&
	    first_directory("CREDENTIALS_DIRECTORY", directory, sizeof(directory))) {
		snprintf(path, sizeof(path), "%s/%s", directory, name);
		if (!config_set_text(&config->source_password_file, path))
			load->no_memory = true;
	}
	if (config->source_password_file[0] != '\0' && config->source_password_file[0] != '/')
		config_mistake(load, load->places[CONFIG_source_password_file],
		               "source.password_file: '%s' is neither an absolute path nor, since there is no "
		               "CREDENTIALS_DIRECTORY, a credential of the service manager",
		               config->source_password_file);
}

enum shmeta_status config_load(const struct config_flags *flags, const struct config_listener *listener,
                               struct config **ret, struct shmeta_err *err)
{
	struct config_load load = {.file_count = 0};
	enum shmeta_status status;

	load.config = calloc(1, sizeof(*load.config));
	if (load.config == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory to read the configuration");
	fill_standards(&load);
	if (flags->file != NULL)
		load_files(&load, flags->file);
	apply_flag(&load, CONFIG_instance_name, "--instance", flags->instance);
	apply_flag(&load, CONFIG_instance_directory, "--dir", flags->directory);
	apply_flag(&load, CONFIG_source_uri, "--source", flags->source);
	apply_flag(&load, CONFIG_source_create, "--create", flags->create ? "on" : NULL);
	apply_settings(&load, flags);
	if (!load.no_memory)
		find_credential(&load);
	if (!load.no_memory)
		config_judge_whole(&load);
	if (!load.no_memory)
		fill_paths(&load);
	if (!load.no_memory && load.count == 0)
		make_absolute(&load);
	status = config_tell_mistakes(&load, listener, err);
	if (status == SHMETA_ERR_CONFIG && listener != NULL && listener->refused != NULL)
		listener->refused(listener->arg, load.config->instance_directory);
	for (size_t i = 0; i < load.count; i++)
		free(load.mistakes[i].sentence);
	free(load.mistakes);
	for (unsigned i = 0; i < load.file_count; i++)
		free(load.files[i]);
	if (status == SHMETA_OK)
		*ret = load.config;
	else
		config_free(load.config);
	return status;
}

/* ---- reload ---- */

static bool is_default(const char *origin)
{
	return strncmp(origin, "default", strlen("default")) == 0;
}

void config_keep_started(const struct config *running, struct config *next, char *ret_restart, size_t bytes)
{
	char shown[4096 + 64];
	size_t used = 0;

	if (bytes > 0)
		ret_restart[0] = '\0';
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		bool same = o->kind == CONFIG_TEXT ? strcmp(config_text(running, o), config_text(next, o)) == 0
		                                   : config_number(running, o) == config_number(next, o);

		/* Nobody set it, in either: it follows from another option, which is named. */
		bool derived = is_default(running->origin[i]) && is_default(next->origin[i]);

		if (o->when != CONFIG_AT_RESTART || same)
			continue;
		(void)config_set_text(&next->pending[i], config_shown(next, o, shown, sizeof(shown)));
		if (o->kind != CONFIG_TEXT)
			*config_number_at(next, o) = config_number(running, o);
		else if (!config_set_text(config_text_at(next, o), config_text(running, o)))
			continue;
		(void)config_set_text(&next->origin[i], running->origin[i]);
		if (used < bytes && !derived)
			used += (size_t)snprintf(ret_restart + used, bytes - used, "%s%s", used > 0 ? ", " : "",
			                         o->key);
	}
}
