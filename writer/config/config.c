/* SPDX-License-Identifier: Apache-2.0
 * Reading, judging and showing the configuration. */
#include "writer/config/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <confuse.h>

#include "base/escape.h"
#include "writer/config/config_load.h"
#include "writer/config/paths.h"
#include "writer/daemon/log.h"

enum { FILE_MAX_BYTES = 1 << 20, OVERRIDES_MAX = 256, SENTENCE = 480 };

#define WHEN_RELOAD CONFIG_AT_RELOAD
#define WHEN_RESTART CONFIG_AT_RESTART
const struct config_option config_options[CONFIG_OPTION_COUNT] = {
#define T(section_, name_, standard_, min_, max_, when_, help_) \
	{.section = #section_,                                  \
	 .name = #name_,                                        \
	 .key = #section_ "." #name_,                           \
	 .kind = CONFIG_TEXT,                                   \
	 .when = WHEN_##when_,                                  \
	 .standard = standard_,                                 \
	 .min = min_,                                           \
	 .max = max_,                                           \
	 .help = help_,                                         \
	 .at = offsetof(struct config, section_##_##name_)},
#define N(section_, name_, kind_, standard_, min_, max_, when_, help_) \
	{.section = #section_,                                         \
	 .name = #name_,                                               \
	 .key = #section_ "." #name_,                                  \
	 .kind = CONFIG_##kind_,                                       \
	 .when = WHEN_##when_,                                         \
	 .standard = standard_,                                        \
	 .min = min_,                                                  \
	 .max = max_,                                                  \
	 .help = help_,                                                \
	 .at = offsetof(struct config, section_##_##name_)},
	CONFIG_OPTIONS(T, N)
#undef T
#undef N
};
static const struct config_option override_ttl = {.section = CONFIG_OVERRIDE,
                                                  .name = "ttl_ms",
                                                  .key = CONFIG_OVERRIDE ".ttl_ms",
                                                  .kind = CONFIG_MS,
                                                  .when = CONFIG_AT_RELOAD,
                                                  .standard = "",
                                                  .min = 1,
                                                  .max = 604800000};

static bool begins_section(size_t i)
{
	return i == 0 || strcmp(config_options[i].section, config_options[i - 1].section) != 0;
}

static uint64_t *number_at(struct config *config, const struct config_option *o)
{
	return (uint64_t *)(void *)((char *)config + o->at);
}

static char **text_at(struct config *config, const struct config_option *o)
{
	return (char **)(void *)((char *)config + o->at);
}

uint64_t config_number(const struct config *config, const struct config_option *o)
{
	return *(const uint64_t *)(const void *)((const char *)config + o->at);
}

const char *config_text(const struct config *config, const struct config_option *o)
{
	return *(char *const *)(const void *)((const char *)config + o->at);
}

/* ---- values ------------------------------------------------------------------------------------------------------------- */

struct unit {
	const char *suffix;
	uint64_t factor;
};
static const struct unit bytes_units[] = {
	{"", 1}, {"K", 1024}, {"M", 1024 * 1024}, {"G", 1024 * 1024 * 1024}, {"T", UINT64_C(1) << 40}, {NULL, 0}};
static const struct unit ms_units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit sec_units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {NULL, 0}};
static const struct unit count_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum config_kind kind)
{
	return kind == CONFIG_BYTES ? bytes_units
	       : kind == CONFIG_MS  ? ms_units
	       : kind == CONFIG_SEC ? sec_units
	                            : count_units;
}

static const char *kind_text(enum config_kind kind)
{
	static const char *const texts[] = {
		[CONFIG_TEXT] = "a text",
		[CONFIG_BYTES] = "a size: a number of bytes, or one with K, M, G or T",
		[CONFIG_MS] = "a duration: a number of milliseconds, or one with ms, s, m or h",
		[CONFIG_SEC] = "a duration: a number of seconds, or one with s, m or h",
		[CONFIG_COUNT] = "a plain number",
		[CONFIG_BOOL] = "on or off",
		[CONFIG_LEVEL] = "one of err, warning, notice, info, debug",
	};

	return texts[kind];
}

static const char *when_word(const struct config_option *o)
{
	return o->when == CONFIG_AT_RELOAD ? "reload" : "restart";
}

static const char *kind_word(enum config_kind kind)
{
	static const char *const words[] = {
		[CONFIG_TEXT] = "text",   [CONFIG_BYTES] = "size",   [CONFIG_MS] = "milliseconds",
		[CONFIG_SEC] = "seconds", [CONFIG_COUNT] = "number", [CONFIG_BOOL] = "switch",
		[CONFIG_LEVEL] = "level",
	};

	return words[kind];
}

const char *config_spell(enum config_kind kind, uint64_t value, char *buffer, size_t bytes)
{
	const struct unit *units = units_of(kind), *best = &units[0];

	if (kind == CONFIG_BOOL)
		return value ? "on" : "off";
	if (kind == CONFIG_LEVEL)
		return log_level_name((int)value);
	if (kind == CONFIG_MS)
		best = &units[1];
	if (kind == CONFIG_SEC)
		best = &units[1];
	for (const struct unit *u = units; u->suffix != NULL; u++)
		if (value != 0 && value % u->factor == 0 && u->factor > best->factor)
			best = u;
	snprintf(buffer, bytes, "%" PRIu64 "%s", value / best->factor, best->suffix);
	return buffer;
}

static bool parse_bool(const char *value, uint64_t *ret)
{
	static const struct {
		const char *word;
		uint64_t value;
	} words[] = {{"on", 1}, {"true", 1}, {"yes", 1}, {"off", 0}, {"false", 0}, {"no", 0}};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (strcasecmp(words[i].word, value) == 0) {
			*ret = words[i].value;
			return true;
		}
	}
	return false;
}

static bool parse_number(enum config_kind kind, const char *value, uint64_t *ret, bool *ret_overflow)
{
	char *end;
	uint64_t number;

	*ret_overflow = false;
	if (!isdigit((unsigned char)*value))
		return false;
	errno = 0;
	number = strtoull(value, &end, 10);
	*ret_overflow = errno == ERANGE;
	for (const struct unit *u = units_of(kind); u->suffix != NULL; u++) {
		if (strcmp(u->suffix, end) != 0)
			continue;
		if (*ret_overflow || number > UINT64_MAX / u->factor)
			*ret_overflow = true;
		else
			*ret = number * u->factor;
		return true;
	}
	return false;
}

/* "" when the value is good; otherwise what is wrong with it. */
static enum shmeta_status judge(const struct config_option *o, const char *value, uint64_t *ret, char *ret_why,
                                size_t bytes)
{
	char shown[96], low[32], high[32];
	uint64_t number = 0;
	bool overflow = false;

	shmeta__escape_line(shown, sizeof(shown), value);
	if (o->kind == CONFIG_TEXT) {
		size_t length = strlen(value);

		if (length < o->min)
			snprintf(ret_why, bytes, "must not be empty");
		else if (length > o->max)
			snprintf(ret_why, bytes, "is %zu bytes long; at most %" PRIu64 " are allowed", length, o->max);
		else
			return SHMETA_OK;
		return SHMETA_ERR_CONFIG;
	}
	if (o->kind == CONFIG_LEVEL  ? (number = (uint64_t)log_level_parse(value)) == (uint64_t)-1
	    : o->kind == CONFIG_BOOL ? !parse_bool(value, &number)
	                             : !parse_number(o->kind, value, &number, &overflow)) {
		snprintf(ret_why, bytes, "'%s' is not %s", shown, kind_text(o->kind));
		return SHMETA_ERR_CONFIG;
	}
	if (overflow || number < o->min || number > o->max) {
		snprintf(ret_why, bytes, "'%s' is out of range: %s to %s are allowed", shown,
		         config_spell(o->kind, o->min, low, sizeof(low)),
		         config_spell(o->kind, o->max, high, sizeof(high)));
		return SHMETA_ERR_CONFIG;
	}
	*ret = number;
	return SHMETA_OK;
}

/* ---- one load ----------------------------------------------------------------------------------------------------------- */

/* libconfuse's callbacks carry no argument, and its scanner is global anyway: one load at a time. */
static struct config_load *loading;

void config_mistake(struct config_load *load, unsigned line, const char *fmt, ...)
{
	struct config_mistake *grown = realloc(load->mistakes, (load->count + 1) * sizeof(*grown));
	char text[SENTENCE], escaped[SENTENCE], path[4096], where[4096 + 32] = "";
	va_list args;

	if (grown == NULL) {
		load->no_memory = true;
		return;
	}
	load->mistakes = grown;
	va_start(args, fmt);
	shmeta__vsay(text, sizeof(text), fmt, args);
	va_end(args);
	if (load->path != NULL)
		(void)shmeta__escape(path, sizeof(path), load->path, strlen(load->path));
	if (line > 0)
		snprintf(where, sizeof(where), "%s:%u: ", path, line);
	else if (load->path != NULL)
		snprintf(where, sizeof(where), "%s: ", path);
	grown[load->count].line = line;
	if (asprintf(&grown[load->count].sentence, "%s%s", where,
	             shmeta__escape(escaped, sizeof(escaped), text, strlen(text))) < 0)
		load->no_memory = true;
	else
		load->count++;
}

static bool set_text(char **text, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return false;
	free(*text);
	*text = copy;
	return true;
}

static void set_origin(struct config_load *load, size_t i, const char *origin)
{
	if (!set_text(&load->config->origin[i], origin))
		load->no_memory = true;
}

static char *origin_of_line(const struct config_load *load, unsigned line)
{
	char *origin;

	return asprintf(&origin, "%s:%u", load->path, line) < 0 ? NULL : origin;
}

static void set_option(struct config_load *load, size_t i, const char *value, unsigned line)
{
	const struct config_option *o = &config_options[i];
	char why[SENTENCE];

	if (judge(o, value, number_at(load->config, o), why, sizeof(why)) != SHMETA_OK) {
		config_mistake(load, line, "%s: %s", o->key, why);
		return;
	}
	if (o->kind == CONFIG_TEXT && !set_text(text_at(load->config, o), value))
		load->no_memory = true;
	free(load->config->origin[i]);
	load->config->origin[i] = origin_of_line(load, line);
	if (load->config->origin[i] == NULL)
		load->no_memory = true;
	load->lines[i] = line;
}

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++)
		if (strcmp(config_options[i].section, cfg->name) == 0 && strcmp(config_options[i].name, opt->name) == 0)
			set_option(loading, i, value, (unsigned)cfg->line);
	*(const char **)result = value;
	return 0;
}

static int on_override(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	struct config *config = loading->config;
	struct config_override *grown;
	char why[SENTENCE];
	uint64_t ttl;

	(void)opt;
	*(const char **)result = value;
	if (judge(&override_ttl, value, &ttl, why, sizeof(why)) != SHMETA_OK) {
		config_mistake(loading, (unsigned)cfg->line, "%s \"%s\": ttl_ms: %s", CONFIG_OVERRIDE, cfg->title, why);
		return 0;
	}
	grown = realloc(config->overrides, (config->override_count + 1) * sizeof(*grown));
	if (grown == NULL) {
		loading->no_memory = true;
		return 0;
	}
	config->overrides = grown;
	grown += config->override_count++;
	*grown = (struct config_override){
		.prefix = strdup(cfg->title), .ttl_ms = ttl, .origin = origin_of_line(loading, (unsigned)cfg->line)};
	if (grown->prefix == NULL || grown->origin == NULL)
		loading->no_memory = true;
	return 0;
}

__attribute__((format(printf, 2, 0))) static void on_syntax(cfg_t *cfg, const char *fmt, va_list args)
{
	char text[SENTENCE];

	shmeta__vsay(text, sizeof(text), fmt, args);
	config_mistake(loading, (unsigned)cfg->line, "%s", text);
}

/* ---- names -------------------------------------------------------------------------------------------------------------- */

/* Edits from one to the other; SIZE_MAX: that many, or more. Few of all names are near enough to be worth counting to the end. */
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

static const struct config_option *find_option(const char *section, const char *name)
{
	if (strcmp(section, CONFIG_OVERRIDE) == 0 && strcmp(name, override_ttl.name) == 0)
		return &override_ttl;
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++)
		if (strcmp(config_options[i].section, section) == 0 && strcmp(config_options[i].name, name) == 0)
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

/* How far a name that was written is from one that exists: the beginning of it counts as near. */
static size_t unlike(const char *written, const char *name, size_t many)
{
	size_t length = strlen(written);

	if (length >= 3 && strncmp(written, name, length) == 0)
		return 1;
	return distance(written, name, many);
}

/* "; did you mean 'x'?" or "". */
static const char *suggest_option(const char *section, const char *name, char *buffer, size_t bytes)
{
	size_t best = 2 * (strlen(name) / 3 + 1) + 1;

	buffer[0] = '\0';
	for (size_t i = 0; i <= CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = i < CONFIG_OPTION_COUNT ? &config_options[i] : &override_ttl;
		bool elsewhere = strcmp(section, o->section) != 0;
		/* The right name in the wrong place is a better guess than a wrong name in the right one. */
		size_t far = unlike(name, o->name, (best + 1) / 2), d = 2 * far + elsewhere;

		if (far == SIZE_MAX || d >= best)
			continue;
		best = d;
		snprintf(buffer, bytes, "; did you mean '%s'%s%s%s?", o->name, elsewhere ? " in section '" : "",
		         elsewhere ? o->section : "", elsewhere ? "'" : "");
	}
	return buffer;
}

static const char *suggest_section(const char *name, char *buffer, size_t bytes)
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

/* ---- the file ----------------------------------------------------------------------------------------------------------- */

static void on_grammar(void *arg, unsigned line, const char *sentence)
{
	config_mistake(arg, line, "%s", sentence);
}

/* Says what is wrong with a statement by its name alone, and true; false when its value may be judged. */
static bool misnamed(struct config_load *load, const struct config_outline *outline, size_t at)
{
	const struct config_statement *s = &outline->statements[at];
	char hint[160];

	if (s->section == NULL || s->broken)
		return true;
	if (s->is_section && s->section[0] == '\0') {
		bool titled = strcmp(s->name, CONFIG_OVERRIDE) == 0;

		if (!is_section(s->name))
			config_mistake(load, s->line, "%s: unknown section%s", s->name,
			               suggest_section(s->name, hint, sizeof(hint)));
		else if (titled && s->title == NULL)
			config_mistake(load, s->line, "%s: a topic-name prefix must follow: %s \"PREFIX\" { ... }",
			               CONFIG_OVERRIDE, CONFIG_OVERRIDE);
		else if (!titled && s->title != NULL)
			config_mistake(load, s->line, "%s: this section takes no title", s->name);
		else if (titled && (strlen(s->title) == 0 || strlen(s->title) > SHMETA_NAME_MAX))
			config_mistake(load, s->line, "%s: the prefix must have 1 to %d bytes", CONFIG_OVERRIDE,
			               SHMETA_NAME_MAX);
		else
			return false;
		return true;
	}
	if (s->section[0] == '\0') {
		if (is_section(s->name))
			config_mistake(load, s->line, "%s: is a section: write %s { ... }", s->name, s->name);
		else
			config_mistake(load, s->line, "%s: unknown option; options stand in sections%s", s->name,
			               suggest_option("", s->name, hint, sizeof(hint)));
		return true;
	}
	if (!is_section(s->section))
		return true; /* its section has been refused */
	if (find_option(s->section, s->name) == NULL) {
		config_mistake(load, s->line, "%s.%s: unknown option%s", s->section, s->name,
		               suggest_option(s->section, s->name, hint, sizeof(hint)));
		return true;
	}
	if (s->is_section) {
		config_mistake(load, s->line, "%s.%s: is an option, not a section: write %s = VALUE", s->section,
		               s->name, s->name);
		return true;
	}
	if (strcmp(s->section, CONFIG_OVERRIDE) == 0 && s->title == NULL)
		return true; /* of another section than the former without a title, which both have been refused */
	for (size_t i = 0; i < at; i++) {
		const struct config_statement *former = &outline->statements[i];

		if (former->is_section || former->section == NULL || strcmp(former->section, s->section) != 0 ||
		    strcmp(former->name, s->name) != 0)
			continue;
		if (s->title != NULL && (former->title == NULL || strcmp(former->title, s->title) != 0))
			continue;
		config_mistake(load, s->line, "%s%s%s%s.%s: is already set in line %u", s->section,
		               s->title != NULL ? " \"" : "", s->title != NULL ? s->title : "",
		               s->title != NULL ? "\"" : "", s->name, former->line);
		return true;
	}
	return false;
}

static void blank_statement(struct config_outline *outline, size_t at)
{
	const struct config_statement *s = &outline->statements[at];

	for (size_t i = s->begin; i < s->end; i++)
		if (outline->text[i] != '\n')
			outline->text[i] = ' ';
}

/* A libconfuse table made of ours. Freed by free() of the one block it is in. */
static void parse_values(struct config_load *load, const char *text)
{
	cfg_opt_t options[2 * CONFIG_OPTION_COUNT + 8], sections[CONFIG_OPTION_COUNT + 2];
	cfg_opt_t override_options[] = {CFG_STR_CB("ttl_ms", NULL, CFGF_NODEFAULT, on_override), CFG_END()};
	const cfg_opt_t end = CFG_END();
	size_t used = 0, section_count = 0;
	cfg_t *cfg;

	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];

		if (begins_section(i)) {
			const cfg_opt_t section = CFG_SEC((char *)o->section, &options[used], CFGF_NONE);

			sections[section_count++] = section;
		}
		options[used++] = (cfg_opt_t)CFG_STR_CB((char *)o->name, NULL, CFGF_NODEFAULT, on_value);
		if (i + 1 == CONFIG_OPTION_COUNT || begins_section(i + 1))
			options[used++] = end;
	}
	sections[section_count++] = (cfg_opt_t)CFG_SEC(CONFIG_OVERRIDE, override_options, CFGF_MULTI | CFGF_TITLE);
	sections[section_count] = end;
	cfg = cfg_init(sections, CFGF_NONE);
	if (cfg == NULL) {
		load->no_memory = true;
		return;
	}
	cfg_set_error_function(cfg, on_syntax);
	loading = load;
	if (cfg_parse_buf(cfg, text) != CFG_SUCCESS && load->count == 0)
		config_mistake(load, 0, "libconfuse refused the file without a reason");
	loading = NULL;
	cfg_free(cfg);
}

static char *read_file(struct config_load *load, size_t *ret_bytes)
{
	int fd = open(load->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC); /* a FIFO without a writer too */
	FILE *stream = fd >= 0 ? fdopen(fd, "r") : NULL;
	struct stat st;
	size_t room;
	char *text;

	if (stream == NULL) {
		config_mistake(load, 0, "cannot be read: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		config_mistake(load, 0, "is %s, not a file",
		               S_ISDIR(st.st_mode)    ? "a directory"
		               : S_ISFIFO(st.st_mode) ? "a FIFO"
		                                      : "a device or socket");
		fclose(stream);
		return NULL;
	}
	room = (size_t)(st.st_size < FILE_MAX_BYTES ? st.st_size : FILE_MAX_BYTES) + 1;
	text = malloc(room);
	load->no_memory |= text == NULL;
	*ret_bytes = text != NULL ? fread(text, 1, room, stream) : 0;
	if (ferror(stream)) {
		config_mistake(load, 0, "cannot be read: %s", strerror(errno));
		free(text);
		text = NULL;
	} else if (*ret_bytes == room) {
		config_mistake(load, 0,
		               room > FILE_MAX_BYTES ? "is longer than %zu bytes"
		                                     : "has grown beyond %zu bytes while it was read",
		               room - 1);
		free(text);
		text = NULL;
	} else if (*ret_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		config_mistake(load, 1, "the file begins with a byte order mark; save it as UTF-8 without one");
		memset(text, ' ', 3);
	}
	fclose(stream);
	return text;
}

static void load_file(struct config_load *load)
{
	struct config_outline outline;
	enum shmeta_status status;
	size_t bytes, titles = 0;
	char *text = read_file(load, &bytes);

	if (text == NULL)
		return;
	status = config_outline_read(text, bytes, on_grammar, load, &outline);
	free(text);
	if (status == SHMETA_ERR_NO_MEMORY)
		load->no_memory = true;
	for (size_t i = 0; i < outline.count; i++) {
		titles += outline.statements[i].is_section && strcmp(outline.statements[i].name, CONFIG_OVERRIDE) == 0;
		if (titles > OVERRIDES_MAX) {
			config_mistake(load, outline.statements[i].line, "%s: more than %d of them", CONFIG_OVERRIDE,
			               OVERRIDES_MAX);
			break;
		}
		if (misnamed(load, &outline, i))
			blank_statement(&outline, i);
	}
	if (outline.whole && titles <= OVERRIDES_MAX)
		parse_values(load, outline.text);
	config_outline_free(&outline);
}

/* ---- judging the whole -------------------------------------------------------------------------------------------------- */

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
		char why[SENTENCE];

		if (judge(o, o->standard, number_at(load->config, o), why, sizeof(why)) != SHMETA_OK)
			config_mistake(load, 0, "the default of %s %s", o->key, why);
		if (o->kind == CONFIG_TEXT && !set_text(text_at(load->config, o), o->standard))
			load->no_memory = true;
		set_origin(load, i, "default");
	}
}

static void apply_flag(struct config_load *load, size_t i, const char *flag, const char *value)
{
	char why[SENTENCE];

	if (value == NULL)
		return;
	if (judge(&config_options[i], value, number_at(load->config, &config_options[i]), why, sizeof(why)) !=
	            SHMETA_OK ||
	    value[0] == '\0') {
		const char *path = load->path;

		load->path = NULL;
		config_mistake(load, 0, "%s: %s", flag, value[0] == '\0' ? "must not be empty" : why);
		load->path = path;
		return;
	}
	if (config_options[i].kind == CONFIG_TEXT && !set_text(text_at(load->config, &config_options[i]), value))
		load->no_memory = true;
	set_origin(load, i, flag);
	load->lines[i] = 0;
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
		if (!set_text(&config->instance_directory, path))
			load->no_memory = true;
	}
	if (config->source_uri[0] == '\0') {
		if (first_directory("STATE_DIRECTORY", directory, sizeof(directory))) {
			snprintf(path, sizeof(path), "sqlite:%s/%s.db", directory, instance);
			set_origin(load, CONFIG_source_uri, "STATE_DIRECTORY");
		} else {
			snprintf(path, sizeof(path), "sqlite:/var/lib/shmeta/%s.db", instance);
		}
		if (!set_text(&config->source_uri, path))
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
		if (!set_text(&config->source_password_file, path))
			load->no_memory = true;
	}
	if (config->source_password_file[0] != '\0' && config->source_password_file[0] != '/')
		config_mistake(load, load->lines[CONFIG_source_password_file],
		               "source.password_file: '%s' is neither an absolute path nor, since there is no "
		               "CREDENTIALS_DIRECTORY, a credential of the service manager",
		               config->source_password_file);
}

static int by_line(const void *a, const void *b)
{
	const struct config_mistake *x = a, *y = b;

	return x->line < y->line ? -1 : x->line > y->line;
}

static enum shmeta_status tell(struct config_load *load, const struct config_listener *listener, struct shmeta_err *err)
{
	if (load->count > 1)
		qsort(load->mistakes, load->count, sizeof(*load->mistakes), by_line);
	for (size_t i = 0; listener != NULL && i < load->count; i++)
		listener->problem(listener->arg, load->mistakes[i].sentence);
	if (load->no_memory)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory to read the configuration");
	if (load->count == 1)
		return shmeta_fail(err, SHMETA_ERR_CONFIG, "%s", load->mistakes[0].sentence);
	if (load->count > 1)
		return shmeta_fail(err, SHMETA_ERR_CONFIG, "%.400s (and %zu more)", load->mistakes[0].sentence,
		                   load->count - 1);
	return SHMETA_OK;
}

enum shmeta_status config_load(const struct config_flags *flags, const struct config_listener *listener,
                               struct config **ret, struct shmeta_err *err)
{
	struct config_load load = {.path = flags->file};
	enum shmeta_status status;

	load.config = calloc(1, sizeof(*load.config));
	if (load.config == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory to read the configuration");
	fill_standards(&load);
	if (flags->file != NULL) {
		load.config->file = path_absolute(flags->file);
		load.no_memory |= load.config->file == NULL;
		load_file(&load);
	}
	apply_flag(&load, CONFIG_instance_name, "--instance", flags->instance);
	apply_flag(&load, CONFIG_instance_directory, "--dir", flags->directory);
	apply_flag(&load, CONFIG_source_uri, "--source", flags->source);
	apply_flag(&load, CONFIG_source_create, "--create", flags->create ? "on" : NULL);
	if (!load.no_memory)
		find_credential(&load);
	if (!load.no_memory)
		config_judge_whole(&load);
	if (!load.no_memory)
		fill_paths(&load);
	if (!load.no_memory && load.count == 0)
		make_absolute(&load);
	status = tell(&load, listener, err);
	if (status == SHMETA_ERR_CONFIG && listener != NULL && listener->refused != NULL)
		listener->refused(listener->arg, load.config->instance_directory);
	for (size_t i = 0; i < load.count; i++)
		free(load.mistakes[i].sentence);
	free(load.mistakes);
	if (status == SHMETA_OK)
		*ret = load.config;
	else
		config_free(load.config);
	return status;
}

void config_free(struct config *config)
{
	if (config == NULL)
		return;
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		if (config_options[i].kind == CONFIG_TEXT)
			free(*text_at(config, &config_options[i]));
		free(config->origin[i]);
		free(config->pending[i]);
	}
	for (size_t i = 0; i < config->override_count; i++) {
		free(config->overrides[i].prefix);
		free(config->overrides[i].origin);
	}
	free(config->overrides);
	free(config->file);
	free(config);
}

/* ---- reload ------------------------------------------------------------------------------------------------------------- */

static const char *shown_value(const struct config *config, const struct config_option *o, char *buffer, size_t bytes);

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
		(void)set_text(&next->pending[i], shown_value(next, o, shown, sizeof(shown)));
		if (o->kind != CONFIG_TEXT)
			*number_at(next, o) = config_number(running, o);
		else if (!set_text(text_at(next, o), config_text(running, o)))
			continue;
		(void)set_text(&next->origin[i], running->origin[i]);
		if (used < bytes && !derived)
			used += (size_t)snprintf(ret_restart + used, bytes - used, "%s%s", used > 0 ? ", " : "",
			                         o->key);
	}
}

/* ---- showing ------------------------------------------------------------------------------------------------------------ */

static const char *shown_value(const struct config *config, const struct config_option *o, char *buffer, size_t bytes)
{
	if (o->kind != CONFIG_TEXT)
		return config_spell(o->kind, config_number(config, o), buffer, bytes);
	return config_hide_secrets(config_text(config, o), buffer, bytes);
}

json_t *config_json(const struct config *config)
{
	json_t *root = json_object(), *options = json_array(), *overrides = json_array();
	char buffer[4096 + 64], low[32], high[32];

	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		json_t *option = json_object();

		json_object_set_new(option, "name", json_string(o->key));
		json_object_set_new(option, "value", json_string(shown_value(config, o, buffer, sizeof(buffer))));
		if (o->kind == CONFIG_BOOL)
			json_object_set_new(option, "number", json_boolean(config_number(config, o) != 0));
		else if (o->kind != CONFIG_TEXT)
			json_object_set_new(option, "number", json_integer((json_int_t)config_number(config, o)));
		json_object_set_new(option, "default", json_string(o->standard));
		json_object_set_new(option, "unit", json_string(kind_word(o->kind)));
		if (o->kind != CONFIG_TEXT && o->kind != CONFIG_BOOL) {
			json_object_set_new(option, "min",
			                    json_string(config_spell(o->kind, o->min, low, sizeof(low))));
			json_object_set_new(option, "max",
			                    json_string(config_spell(o->kind, o->max, high, sizeof(high))));
		}
		json_object_set_new(option, "changeable", json_string(when_word(o)));
		json_object_set_new(option, "origin", json_string(config->origin[i]));
		json_object_set_new(option, "pending",
		                    config->pending[i] != NULL ? json_string(config->pending[i]) : json_null());
		json_object_set_new(option, "help", json_string(o->help));
		json_array_append_new(options, option);
	}
	for (size_t i = 0; i < config->override_count; i++) {
		json_t *override = json_object();

		json_object_set_new(override, "prefix", json_string(config->overrides[i].prefix));
		json_object_set_new(override, "ttl_ms", json_integer((json_int_t)config->overrides[i].ttl_ms));
		json_object_set_new(override, "origin", json_string(config->overrides[i].origin));
		json_array_append_new(overrides, override);
	}
	json_object_set_new(root, "schema", json_integer(1));
	json_object_set_new(root, "version", json_string(SHMETA_VERSION_STRING));
	json_object_set_new(root, "file", config->file != NULL ? json_string(config->file) : json_null());
	json_object_set_new(root, "options", options);
	json_object_set_new(root, "ttl_overrides", overrides);
	return root;
}

void config_print(const struct config *config, FILE *stream)
{
	char buffer[4096 + 64], escaped[4096 + 64];

	fprintf(stream, "%-32s %-28s %-10s %-8s %s\n", "NAME", "VALUE", "DEFAULT", "CHANGES", "FROM");
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];

		shmeta__escape_line(escaped, sizeof(escaped), shown_value(config, o, buffer, sizeof(buffer)));
		fprintf(stream, "%-32s %-28s %-10s %-8s %s\n", o->key, escaped[0] != '\0' ? escaped : "\"\"",
		        o->standard[0] != '\0' ? o->standard : "\"\"",
		        o->when == CONFIG_AT_RELOAD ? "reload" : "restart", config->origin[i]);
	}
	for (size_t i = 0; i < config->override_count; i++) {
		char ttl[32], name[SHMETA_NAME_MAX * 4 + 64];

		snprintf(name, sizeof(name), "%s \"%s\"", CONFIG_OVERRIDE,
		         shmeta__escape_line(escaped, sizeof(escaped), config->overrides[i].prefix));
		fprintf(stream, "%-32s %-28s %-10s %-8s %s\n", name,
		        config_spell(CONFIG_MS, config->overrides[i].ttl_ms, ttl, sizeof(ttl)), "-", "reload",
		        config->overrides[i].origin);
	}
}

/* Words of text, broken at width, each line after prefix. */
static void print_wrapped(FILE *stream, const char *prefix, const char *text, size_t width)
{
	size_t column = 0;

	for (const char *p = text; *p != '\0';) {
		size_t length = strcspn(p, " ");

		if (column > 0 && column + 1 + length > width) {
			fputc('\n', stream);
			column = 0;
		}
		column += (size_t)fprintf(stream, "%s%.*s", column == 0 ? prefix : " ", (int)length, p);
		p += length;
		p += strspn(p, " ");
	}
	fputc('\n', stream);
}

/* "From 1ms to 1s. Changes at reload." */
static void print_limits(FILE *stream, const char *prefix, const struct config_option *o)
{
	char low[32], high[32];

	fputs(prefix, stream);
	if (o->kind != CONFIG_TEXT && o->kind != CONFIG_BOOL && o->kind != CONFIG_LEVEL)
		fprintf(stream, "From %s to %s. ", config_spell(o->kind, o->min, low, sizeof(low)),
		        config_spell(o->kind, o->max, high, sizeof(high)));
	fprintf(stream, "Changes at %s.\n", when_word(o));
}

void config_print_sample(FILE *stream)
{
	fprintf(stream, "# shmeta.conf: the configuration of shmetad(8). shmeta.conf(5) explains it.\n"
	                "# Every option is shown with its default. Check with: shmetad --config FILE --check-config\n");
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		const char *quote = o->kind == CONFIG_TEXT ? "\"" : "";

		if (begins_section(i))
			fprintf(stream, "\n%s {\n", o->section);
		else
			fputc('\n', stream);
		print_wrapped(stream, "\t# ", o->help, 100);
		print_limits(stream, "\t# ", o);
		fprintf(stream, "\t#%s = %s%s%s\n", o->name, quote, o->standard, quote);
		if (i + 1 == CONFIG_OPTION_COUNT || begins_section(i + 1))
			fputs("}\n", stream);
	}
	fprintf(stream,
	        "\n# Topics whose names begin with the prefix, their partitions and segments, have a time to live of\n"
	        "# their own; the longest matching prefix wins. Changes at reload.\n"
	        "#%s \"orders.\" {\n#\tttl_ms = 5s\n#}\n",
	        CONFIG_OVERRIDE);
}

/* scdoc takes '_' and '*' for emphasis. */
static const char *escape_manual(const char *text, char *ret, size_t bytes)
{
	size_t at = 0;

	for (const char *p = text; *p != '\0' && at + 3 < bytes; p++) {
		if (strchr("_*\\", *p) != NULL)
			ret[at++] = '\\';
		ret[at++] = *p;
	}
	ret[at] = '\0';
	return ret;
}

void config_print_manual(FILE *stream)
{
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		const char *quote = o->kind == CONFIG_TEXT ? "\"" : "";
		char help[512];

		if (begins_section(i))
			fprintf(stream, "## Section %s\n\n", o->section);
		fprintf(stream, "*%s* = _%s_ (default: %s%s%s)\n", o->name, kind_word(o->kind), quote, o->standard,
		        quote);
		print_wrapped(stream, "\t", escape_manual(o->help, help, sizeof(help)), 100);
		print_limits(stream, "\t", o);
		fputc('\n', stream);
	}
}

/* ---- the engine's view -------------------------------------------------------------------------------------------------- */

void config_sync_options(const struct config *config, struct sync_ttl_override *overrides, struct sync_options *ret)
{
	const char *key = "";

	*ret = (struct sync_options){
		.source = {.uri = config->source_uri,
	                   .timeout_ms = (uint32_t)config->source_timeout_ms,
	                   .read_only = (uint32_t)config->source_read_only,
	                   .manage_schema = (uint32_t)config->source_manage_schema,
	                   .create = (uint32_t)config->source_create,
	                   .read_uri = config->source_read_uri,
	                   .password_file = config->source_password_file,
	                   .allow_insecure = (uint32_t)config->source_allow_insecure,
	                   .follower_reads = (uint32_t)config->source_follower_reads,
	                   .notify = (uint32_t)config->feed_notify,
	                   .changefeed = (uint32_t)config->feed_changefeed,
	                   .feed_keep_s = (uint32_t)config->feed_keep_s},
		.store_max_bytes = config->store_max_bytes,
		.grace_ns = config->store_grace_ms * UINT64_C(1000000),
		.ttl_ms = {[SHMETA_CLASS_TOPIC] = (uint32_t)config->ttl_topic_ms,
	                   [SHMETA_CLASS_PARTITION] = (uint32_t)config->ttl_partition_ms,
	                   [SHMETA_CLASS_SEGMENT] = (uint32_t)config->ttl_segment_ms,
	                   [SHMETA_CLASS_LIST] = (uint32_t)config->ttl_list_ms,
	                   [SHMETA_CLASS_AGENT] = (uint32_t)config->ttl_agent_ms,
	                   [SHMETA_CLASS_LEASE] = (uint32_t)config->ttl_lease_ms,
	                   [SHMETA_CLASS_OFFSET] = (uint32_t)config->ttl_offset_ms},
		.overrides = overrides,
		.override_count = overrides != NULL ? config->override_count : 0,
		.poll_min_ms = (uint32_t)config->feed_poll_min_ms,
		.poll_max_ms = (uint32_t)config->feed_poll_max_ms,
		.reconcile_s = (uint32_t)config->feed_reconcile_s,
		.refresh_batch_keys = (uint32_t)config->refresh_batch_keys,
		.refresh_queue_max = (uint32_t)config->refresh_queue_max,
		.refresh_queue_bytes = config->refresh_queue_bytes,
		.refresh_user_rate = (uint32_t)config->refresh_user_rate,
		.refresh_user_burst = (uint32_t)config->refresh_user_burst,
		.absent_ttl_ms = (uint32_t)config->refresh_absent_ttl_ms,
		.absent_max = (uint32_t)config->refresh_absent_max,
		.write_queue_max = (uint32_t)config->write_queue_max,
		.write_queue_bytes = config->write_queue_bytes,
		.write_connection_bytes = config->write_connection_bytes,
		.user_share = (uint32_t)config->control_user_share,
		.write_batch_max = (uint32_t)config->write_batch_max,
		.write_linger_ms = (uint32_t)config->write_linger_ms,
		.accept = strtoull(config->source_accept, NULL, 16),
		.audit = config->write_audit != 0,
		.object_grace_ms =
			config->objects_grace_ms != 0 ? config->objects_grace_ms : 2 * config_longest_ttl(config, &key),
		.retry_min_ms = (uint32_t)config->retry_min_ms,
		.retry_max_ms = (uint32_t)config->retry_max_ms,
		.commit_rows = (uint32_t)config->load_commit_rows,
	};
	for (size_t i = 0; overrides != NULL && i < config->override_count; i++)
		overrides[i] = (struct sync_ttl_override){.prefix = config->overrides[i].prefix,
		                                          .ttl_ms = (uint32_t)config->overrides[i].ttl_ms};
}
