/* SPDX-License-Identifier: Apache-2.0
 * The configuration as JSON and as a table; the sample file and the manual's entries, made from the
 * table of options. */
#include <stdio.h>
#include <string.h>

#include "base/escape.h"
#include "writer/config/config_value.h"

static bool begins_section(size_t i)
{
	return i == 0 || strcmp(config_options[i].section, config_options[i - 1].section) != 0;
}

static const char *when_word(const struct config_option *o)
{
	return o->when == CONFIG_AT_RESTART ? "restart" : "reload";
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

json_t *config_json(const struct config *config)
{
	json_t *root = json_object(), *options = json_array(), *overrides = json_array();
	char buffer[4096 + 64], low[32], high[32];

	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		json_t *option = json_object();

		json_object_set_new(option, "name", json_string(o->key));
		json_object_set_new(option, "value", json_string(config_shown(config, o, buffer, sizeof(buffer))));
		if (o->kind != CONFIG_TEXT && config_effective(config, o) != config_number(config, o))
			json_object_set_new(
				option, "effective",
				json_string(config_spell(o->kind, config_effective(config, o), low, sizeof(low))));
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
		json_object_set_new(option, "settable", json_boolean(o->when == CONFIG_AT_RELOAD));
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

		shmeta__escape_line(escaped, sizeof(escaped), config_shown(config, o, buffer, sizeof(buffer)));
		fprintf(stream, "%-32s %-28s %-10s %-8s %s\n", o->key, escaped[0] != '\0' ? escaped : "\"\"",
		        o->standard[0] != '\0' ? o->standard : "\"\"", when_word(o), config->origin[i]);
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
