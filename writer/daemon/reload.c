/* SPDX-License-Identifier: Apache-2.0
 * Taking over a configuration that has changed. */
#include "writer/daemon/daemon_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "writer/config/config_value.h"

static void tell_problem(void *arg, const char *sentence)
{
	(void)arg;
	log_unlimited(LOG_ERR, "config", sentence);
}

void daemon_limits(const struct config *config, struct control_limits *ret)
{
	*ret = (struct control_limits){
		.connections_max = (uint32_t)config->control_connections_max,
		.connections_reserved = (uint32_t)config->control_connections_reserved,
		.connections_per_user = (uint32_t)config->control_connections_per_user,
		.registrations_per_user = (uint32_t)config->control_registrations_per_user,
		.requests_per_connection = (uint32_t)config->control_requests_per_connection,
		.user_share = (uint32_t)config->control_user_share,
		.first_frame_ns = config->control_first_frame_ms * MS,
		.idle_ns = config->control_idle_s * 1000 * MS,
		.output_max = config->control_output_max_bytes,
		.admin_group = config->control_admin_group,
		.write_groups = config->control_write_groups,
		.write_users = config->control_write_users,
	};
}

static enum shmeta_status take_over(struct daemon *d, struct config *next, char *ret_sentence, size_t bytes)
{
	struct sync_ttl_override *overrides = calloc(next->override_count + 1, sizeof(*overrides));
	struct control_limits limits;
	struct sync_options options;
	char restart_keys[sizeof(d->restart_keys)];
	bool taken = false;

	/* The engine first: nothing has changed where it has no memory. */
	if (overrides != NULL) {
		config_keep_started(d->config, next, restart_keys, sizeof(restart_keys));
		config_sync_options(next, overrides, &options);
		taken = d->sync == NULL || sync_reconfigure(d->sync, &options);
		free(overrides);
	}
	if (!taken) {
		snprintf(ret_sentence, bytes, "no memory for the configuration; the one before it is in use");
		config_free(next);
		return SHMETA_ERR_NO_MEMORY;
	}
	memcpy(d->restart_keys, restart_keys, sizeof(d->restart_keys));
	config_free(d->config);
	d->config = next;
	log_set_level((int)next->log_level);
	d->level_until_ns = 0;
	registry_set_max_age(d->registry, next->snapshot_max_age * 1000 * MS);
	daemon_limits(next, &limits);
	control_set_limits(d->control, &limits);
	if (d->flags.file == NULL)
		snprintf(ret_sentence, bytes, "the daemon reads no configuration file; nothing was reloaded");
	else if (d->restart_keys[0] == '\0')
		snprintf(ret_sentence, bytes, "%s is in use", d->flags.file);
	else
		snprintf(ret_sentence, bytes, "%s is in use, except for options that wait for a restart: %s",
		         d->flags.file, d->restart_keys);
	return SHMETA_OK;
}

enum shmeta_status daemon_reload(struct daemon *d, const char *who, char *ret_sentence, size_t bytes)
{
	const struct config_listener listener = {.problem = tell_problem};
	char line[1200];
	bool audited = d->config->write_audit; /* also what turns it off is on record */
	struct config *next = NULL;
	struct shmeta_err err = {0};
	enum shmeta_status status;

	if (d->stopping) {
		snprintf(ret_sentence, bytes, "the writer is stopping");
		return SHMETA_ERR_WRITER_AWAY;
	}
	if (d->ready)
		notify_reloading();
	status = config_load(&d->flags, &listener, &next, &err);
	if (status == SHMETA_OK)
		status = take_over(d, next, ret_sentence, bytes);
	else
		snprintf(ret_sentence, bytes, "%s", err.text);
	d->reload_status = status;
	d->reloaded_at_ns = shmeta__boottime_ns();
	shmeta__say(d->reload_sentence, sizeof(d->reload_sentence), "%s", ret_sentence);
	/* Each mistake has been logged already. */
	if (status == SHMETA_OK)
		d->counters.reloads++;
	else
		d->counters.reloads_refused++;
	snprintf(line, sizeof(line), "%s: reload: %s", who,
	         status == SHMETA_OK           ? ret_sentence
	         : status == SHMETA_ERR_CONFIG ? "refused, nothing has changed"
	                                       : ret_sentence);
	if (audited || d->config->write_audit)
		log_audit(line);
	else
		log_unlimited(status == SHMETA_OK ? LOG_NOTICE : LOG_ERR, "reload", line);
	d->status[0] = '\0';
	if (d->ready)
		notify_ready(status == SHMETA_OK ? "reloaded" : "the reload was refused");
	daemon_say_status(d);
	daemon_write_stats(d); /* who is answered finds it there */
	return status;
}

/* ---- options that are set until the next start ---- */

/* Which option the text begins with, and the value behind it; NULL: none, so that of the file. NULL
 * and a sentence: it cannot be set. */
static const struct config_option *find_settable(const char *text, const char **ret_value, char *ret_sentence,
                                                 size_t bytes)
{
	const char *space = strchr(text, ' ');
	const struct config_option *o;
	char key[80];

	snprintf(key, sizeof(key), "%.*s", (int)(space != NULL ? space - text : (ptrdiff_t)strlen(text)), text);
	o = config_find(key);
	*ret_value = space != NULL ? space + 1 : NULL;
	if (o == NULL)
		shmeta__say(ret_sentence, bytes, "'%s' is no option; 'shmetactl config show' lists them", key);
	else if (o->when == CONFIG_AT_RESTART)
		shmeta__say(ret_sentence, bytes, "%s takes effect at a restart: change it in the file", key);
	else if (o->when == CONFIG_BY_FILE)
		shmeta__say(ret_sentence, bytes, "%s is changed in the file alone, by a reload", key);
	return o != NULL && o->when == CONFIG_AT_RELOAD ? o : NULL;
}

static void free_setting(const struct config_setting *setting)
{
	free(setting->value);
	free(setting->origin);
}

/* The settings with one more, which is the last one (value NULL: without that of the option). The
 * others' texts stay where they are. false: no memory. */
static bool next_settings(const struct daemon *d, const struct config_option *o, const char *value, const char *who,
                          struct config_setting **ret, size_t *ret_count)
{
	struct config_setting *next = calloc(d->setting_count + 1, sizeof(*next));
	struct config_setting added = {.option = o};
	size_t n = 0;

	if (next == NULL)
		return false;
	for (size_t i = 0; i < d->setting_count; i++)
		if (d->settings[i].option != o)
			next[n++] = d->settings[i];
	if (value != NULL) {
		added.value = strdup(value);
		if (asprintf(&added.origin, "set by %s", who) < 0)
			added.origin = NULL;
		if (added.value == NULL || added.origin == NULL) {
			free_setting(&added);
			free(next);
			return false;
		}
		next[n++] = added;
	}
	*ret = next;
	*ret_count = n;
	return true;
}

static void use_settings(struct daemon *d, struct config_setting *next, size_t count, const struct config_option *o)
{
	for (size_t i = 0; i < d->setting_count; i++)
		if (d->settings[i].option == o)
			free_setting(&d->settings[i]);
	free(d->settings);
	d->settings = next;
	d->setting_count = count;
	d->flags.settings = next;
	d->flags.setting_count = count;
}

void daemon_free_settings(struct daemon *d)
{
	for (size_t i = 0; i < d->setting_count; i++)
		free_setting(&d->settings[i]);
	free(d->settings);
}

enum shmeta_status daemon_set(struct daemon *d, const char *who, const char *text, char *ret_sentence, size_t bytes)
{
	struct config_flags flags = d->flags;
	char line[1600], shown[600];
	struct config_setting *next;
	struct config *config = NULL;
	struct shmeta_err err = {0};
	const struct config_option *o;
	enum shmeta_status status;
	const char *value;
	size_t count;

	o = find_settable(text, &value, ret_sentence, bytes);
	if (o == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (!next_settings(d, o, value, who, &next, &count)) {
		snprintf(ret_sentence, bytes, "no memory for the option; nothing has changed");
		return SHMETA_ERR_NO_MEMORY;
	}
	flags.settings = next;
	flags.setting_count = count;
	status = config_load(&flags, NULL, &config, &err);
	if (status == SHMETA_OK)
		status = take_over(d, config, ret_sentence, bytes);
	else
		shmeta__say(ret_sentence, bytes, "%s", err.text);
	if (status == SHMETA_OK) {
		use_settings(d, next, count, o);
		shmeta__say(ret_sentence, bytes, "%s is %s%s", o->key, config_shown(d->config, o, shown, sizeof(shown)),
		            value != NULL ? " until the daemon is started again" : ", as configured");
	} else {
		if (value != NULL)
			free_setting(&next[count - 1]);
		free(next);
	}
	shmeta__say(line, sizeof(line), "%s: set %s: %s%s", who, text,
	            status == SHMETA_OK ? "" : "refused: ", ret_sentence);
	if (d->config->write_audit)
		log_audit(line);
	daemon_write_stats(d);
	return status;
}

int daemon_on_reload_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	char sentence[1024] = "";

	(void)source;
	(void)info;
	(void)daemon_reload(arg, "a signal", sentence, sizeof(sentence));
	return 0;
}
