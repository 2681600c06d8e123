/* SPDX-License-Identifier: Apache-2.0
 * The table of options, and their values: read from a word of the file, and written so that they
 * read back. */
#include "writer/config/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/escape.h"
#include "writer/daemon/log.h"

#define WHEN_RELOAD CONFIG_AT_RELOAD
#define WHEN_FILE_ONLY CONFIG_BY_FILE
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
const struct config_option config_override_ttl = {.section = CONFIG_OVERRIDE,
                                                  .name = "ttl_ms",
                                                  .key = CONFIG_OVERRIDE ".ttl_ms",
                                                  .kind = CONFIG_MS,
                                                  .when = CONFIG_AT_RELOAD,
                                                  .standard = "",
                                                  .min = 1,
                                                  .max = 604800000};

uint64_t *config_number_at(struct config *config, const struct config_option *o)
{
	return (uint64_t *)(void *)((char *)config + o->at);
}

char **config_text_at(struct config *config, const struct config_option *o)
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

bool config_set_text(char **text, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return false;
	free(*text);
	*text = copy;
	return true;
}

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

bool config_parse_value(const struct config_option *o, const char *value, uint64_t *ret, char *ret_why, size_t bytes)
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
			return true;
		return false;
	}
	if (o->kind == CONFIG_LEVEL  ? (number = (uint64_t)log_level_parse(value)) == (uint64_t)-1
	    : o->kind == CONFIG_BOOL ? !parse_bool(value, &number)
	                             : !parse_number(o->kind, value, &number, &overflow)) {
		snprintf(ret_why, bytes, "'%s' is not %s", shown, kind_text(o->kind));
		return false;
	}
	if (overflow || number < o->min || number > o->max) {
		snprintf(ret_why, bytes, "'%s' is out of range: %s to %s are allowed", shown,
		         config_spell(o->kind, o->min, low, sizeof(low)),
		         config_spell(o->kind, o->max, high, sizeof(high)));
		return false;
	}
	*ret = number;
	return true;
}

const char *config_shown(const struct config *config, const struct config_option *o, char *buffer, size_t bytes)
{
	if (o->kind != CONFIG_TEXT)
		return config_spell(o->kind, config_number(config, o), buffer, bytes);
	return config_hide_secrets(config_text(config, o), buffer, bytes);
}

const char *config_freshness(const struct config *config, struct ttl_config *ret)
{
	const char *name = config->bounded_freshness;
	int preset = 0;

	*ret = (struct ttl_config){.max_ms = 0};
	if (strcmp(name, "fixed") == 0)
		return NULL;
	while (preset < TTL_PRESETS && strcmp(name, ttl_presets[preset].name) != 0)
		preset++;
	if (preset == TTL_PRESETS)
		return "it is neither fixed nor one of the presets (balanced, high-throughput, memory-constrained, write-heavy, "
		       "read-heavy)";
	*ret = ttl_presets[preset].config;
#define SET(field, value) ret->field = (value) != 0 ? (uint32_t)(value) : ret->field
	SET(min_ms, config->bounded_fresh_min_ms);
	SET(base_ms, config->bounded_fresh_base_ms);
	SET(max_ms, config->bounded_fresh_max_ms);
	SET(longer_percent, config->bounded_fresh_longer_percent);
	SET(shorter_percent, config->bounded_fresh_shorter_percent);
#undef SET
	return ttl_config_error(ret);
}

uint64_t config_effective(const struct config *config, const struct config_option *o)
{
	struct ttl_config freshness;

	if (config_number(config, o) != 0)
		return config_number(config, o);
	(void)config_freshness(config, &freshness);
	switch ((int)(o - config_options)) {
	case CONFIG_bounded_fresh_min_ms:
		return freshness.min_ms;
	case CONFIG_bounded_fresh_base_ms:
		return freshness.base_ms;
	case CONFIG_bounded_fresh_max_ms:
		return freshness.max_ms;
	case CONFIG_bounded_fresh_longer_percent:
		return freshness.longer_percent;
	case CONFIG_bounded_fresh_shorter_percent:
		return freshness.shorter_percent;
	default:
		return 0;
	}
}

uint64_t config_longest_ttl(const struct config *config, const char **ret_key)
{
	struct ttl_config freshness;
	uint64_t longest = 0;

	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++)
		if (strcmp(config_options[i].section, "ttl") == 0 &&
		    config_number(config, &config_options[i]) > longest) {
			longest = config_number(config, &config_options[i]);
			*ret_key = config_options[i].key;
		}
	for (size_t i = 0; i < config->override_count; i++)
		if (config->overrides[i].ttl_ms > longest) {
			longest = config->overrides[i].ttl_ms;
			*ret_key = CONFIG_OVERRIDE;
		}
	(void)config_freshness(config, &freshness);
	if (strcmp(config->store_mode, "bounded") == 0 && freshness.max_ms > longest) {
		longest = freshness.max_ms;
		*ret_key = config_options[CONFIG_bounded_freshness].key;
	}
	return longest;
}

void config_free(struct config *config)
{
	if (config == NULL)
		return;
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		if (config_options[i].kind == CONFIG_TEXT)
			free(*config_text_at(config, &config_options[i]));
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
