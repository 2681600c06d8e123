/* SPDX-License-Identifier: Apache-2.0
 * What is wrong with a configuration as a whole: options that contradict each other, and a source
 * that would be refused whatever it answers. */
#include <ctype.h>
#include <string.h>

#include "backends/backend.h"
#include "writer/config/config_load.h"

static bool good_instance(const char *name)
{
	if (name[0] == '.' || name[0] == '-')
		return false;
	for (const char *p = name; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("_-.", *p) == NULL)
			return false;
	return true;
}

/* A mistake of a pair of options belongs to the place of the one that was set last. */
static struct config_place place_of(const struct config_load *load, size_t a, size_t b)
{
	const struct config_place *x = &load->places[a], *y = &load->places[b];

	if (x->line == 0 || y->line == 0)
		return x->line == 0 ? *y : *x;
	return x->file > y->file || (x->file == y->file && x->line > y->line) ? *x : *y;
}

static void judge_grace(struct config_load *load)
{
	const struct config_option *o = &config_options[CONFIG_objects_grace_ms];
	const char *key = "";
	uint64_t grace = config_number(load->config, o), longest = config_longest_ttl(load->config, &key);
	char a[32], b[32], c[32];

	if (grace != 0 && grace < 2 * longest)
		config_mistake(
			load, load->places[CONFIG_objects_grace_ms],
			"%s: %s is less than twice the longest time to live, which is %s (%s); write %s or more, or 0 for that",
			o->key, config_spell(o->kind, grace, a, sizeof(a)),
			config_spell(o->kind, longest, b, sizeof(b)), key,
			config_spell(o->kind, 2 * longest, c, sizeof(c)));
}

static void judge_accept(struct config_load *load)
{
	const char *text = load->config->source_accept;

	if (text[0] != '\0' && (strlen(text) != 16 || strspn(text, "0123456789abcdefABCDEF") != 16))
		config_mistake(load, load->places[CONFIG_source_accept],
		               "source.accept: '%s' is not a fingerprint, which has 16 hexadecimal digits", text);
}

static void judge_budgets(struct config_load *load)
{
	const struct config *c = load->config;
	const struct config_option *limit = &config_options[CONFIG_store_max_bytes],
				   *all = &config_options[CONFIG_bounded_max_bytes],
				   *segments = &config_options[CONFIG_bounded_max_segment_bytes];
	bool bounded = strcmp(c->store_mode, "bounded") == 0;
	struct ttl_config freshness;
	const char *wrong = config_freshness(c, &freshness);
	char a[32], b[32];

	if (!bounded && strcmp(c->store_mode, "mirror") != 0)
		config_mistake(load, load->places[CONFIG_store_mode], "store.mode: '%s' is neither mirror nor bounded",
		               c->store_mode);
	if (wrong != NULL)
		config_mistake(load, load->places[CONFIG_bounded_freshness], "bounded.freshness: '%s': %s",
		               c->bounded_freshness, wrong);
	if (!bounded)
		return;
	/* What leaves takes place until no reader can be in it any more. */
	if (c->store_max_bytes < 2 * c->bounded_max_bytes)
		config_mistake(load, place_of(load, CONFIG_store_max_bytes, CONFIG_bounded_max_bytes),
		               "%s: %s is less than twice %s, which is %s", limit->key,
		               config_spell(limit->kind, c->store_max_bytes, a, sizeof(a)), all->key,
		               config_spell(all->kind, c->bounded_max_bytes, b, sizeof(b)));
	if (c->bounded_max_segment_bytes > c->bounded_max_bytes)
		config_mistake(load, place_of(load, CONFIG_bounded_max_segment_bytes, CONFIG_bounded_max_bytes),
		               "%s: %s is more than %s, which is %s", segments->key,
		               config_spell(segments->kind, c->bounded_max_segment_bytes, a, sizeof(a)), all->key,
		               config_spell(all->kind, c->bounded_max_bytes, b, sizeof(b)));
}

static void judge_source(struct config_load *load)
{
	const char *uri = load->config->source_uri;
	const struct backend_engine *engine;
	struct backend_error err;
	struct sync_options options;

	if (uri[0] == '\0')
		return;
	engine = backend_find(uri, &err);
	if (engine == NULL) {
		config_mistake(load, load->places[CONFIG_source_uri], "source.uri: %s", err.text);
		return;
	}
	config_sync_options(load->config, NULL, &options);
	if (engine->source->check != NULL && engine->source->check(&options.source, &err) == SHMETA_ERR_CONFIG)
		config_mistake(load, load->places[CONFIG_source_uri], "source.uri: %s", err.text);
}

void config_judge_whole(struct config_load *load)
{
	static const struct {
		size_t low, high;
	} pairs[] = {
		{CONFIG_feed_poll_min_ms, CONFIG_feed_poll_max_ms},
		{CONFIG_retry_min_ms, CONFIG_retry_max_ms},
		{CONFIG_control_connections_reserved, CONFIG_control_connections_max},
	};
	const struct config *config = load->config;

	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		const struct config_option *low = &config_options[pairs[i].low], *high = &config_options[pairs[i].high];
		char a[32], b[32];

		if (config_number(config, low) > config_number(config, high))
			config_mistake(load, place_of(load, pairs[i].low, pairs[i].high),
			               "%s: %s is more than %s, which is %s", low->key,
			               config_spell(low->kind, config_number(config, low), a, sizeof(a)), high->key,
			               config_spell(high->kind, config_number(config, high), b, sizeof(b)));
	}
	judge_grace(load);
	judge_accept(load);
	judge_budgets(load);
	if (!good_instance(config->instance_name))
		config_mistake(
			load, load->places[CONFIG_instance_name],
			"instance.name: '%s' may have letters, digits, '_', '-' and '.', and begins with none of the last two",
			config->instance_name);
	if (load->places[CONFIG_instance_directory].line > 0 && config->instance_directory[0] != '/' &&
	    config->instance_directory[0] != '\0')
		config_mistake(load, load->places[CONFIG_instance_directory],
		               "instance.directory: '%s' is not an absolute path", config->instance_directory);
	if (config->warm_file[0] != '/' && config->warm_file[0] != '\0')
		config_mistake(load, load->places[CONFIG_warm_file], "warm.file: '%s' is not an absolute path",
		               config->warm_file);
	judge_source(load);
}
