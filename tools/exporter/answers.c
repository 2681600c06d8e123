/* SPDX-License-Identifier: Apache-2.0
 * /metrics, /health, /ready; the page is in page.c. */
#include "tools/exporter/answers.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/exporter/page.h"

enum { OK = 200, NOT_FOUND = 404, UNAVAILABLE = 503 };

static const char as_json[] = "application/json; charset=utf-8";

static void write_metrics(const struct serve_options *options, const struct answer_request *request, FILE *out,
                          struct answer *ret)
{
	bool open_metrics = request->accept != NULL && strstr(request->accept, "application/openmetrics-text") != NULL;
	struct metric_view views[INSTANCES];

	for (uint32_t i = 0; i < options->instances->count; i++)
		instance_view(options->instances->list[i], &views[i]);
	ret->type = open_metrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
	                         : "text/plain; version=0.0.4; charset=utf-8";
	metrics_write(out, views, options->instances->count, open_metrics);
}

static json_t *document(const char *schema)
{
	struct timespec now;
	struct tm utc;
	char text[40], whole[64];

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &utc);
	(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(whole, sizeof(whole), "%s.%03dZ", text, (int)(now.tv_nsec / 1000000));
	return json_pack("{s:s, s:i, s:s}", "schema", schema, "version", 1, "time", whole);
}

static json_t *checks_json(const struct health *health)
{
	json_t *checks = json_array();

	for (int i = 0; i < HEALTH_CHECK_COUNT; i++) {
		const struct health_finding *f = &health->finding[i];

		(void)json_array_append_new(checks, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "check",
		                                              health_name((enum health_check)i), "what",
		                                              health_what((enum health_check)i), "status",
		                                              health_word(f->severity), "value", f->value, "thresholds",
		                                              health_thresholds((enum health_check)i), "advice",
		                                              f->advice, "command", f->command));
	}
	return checks;
}

static void put_json(json_t *doc, FILE *out)
{
	(void)json_dumpf(doc, out, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	(void)fputc('\n', out);
	json_decref(doc);
}

/* Of one instance when it is named, otherwise of all; where there is none, nothing is known. */
static void write_health(const struct serve_options *options, const struct answer_request *request, FILE *out,
                         struct answer *ret)
{
	json_t *doc = document("shmeta.health"), *list = json_array();
	enum health_severity worst = HEALTH_OK;
	uint32_t seen = 0;

	for (uint32_t i = 0; i < options->instances->count; i++) {
		const struct instance *one = options->instances->list[i];
		enum health_severity severity = one->readable ? one->health.worst : HEALTH_UNKNOWN;

		if (request->instance != NULL && strcmp(request->instance, one->name) != 0)
			continue;
		seen++;
		if (severity > worst)
			worst = severity;
		(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o}", "instance", one->name, "status",
		                                            health_word(severity), "error",
		                                            one->readable ? "" : one->why, "checks",
		                                            one->readable ? checks_json(&one->health) : json_array()));
	}
	if (seen == 0)
		worst = HEALTH_UNKNOWN;
	(void)json_object_set_new(doc, "status", json_string(health_word(worst)));
	(void)json_object_set_new(doc, "instances", list);
	ret->status = worst == HEALTH_OK || worst == HEALTH_WARNING ? OK : UNAVAILABLE;
	put_json(doc, out);
}

/* Lookups are answered: something was published. Whether it is new is what /health judges. */
static void write_ready(const struct serve_options *options, const struct answer_request *request, FILE *out,
                        struct answer *ret)
{
	json_t *doc = document("shmeta.ready"), *list = json_array();
	uint32_t seen = 0, ready = 0;

	for (uint32_t i = 0; i < options->instances->count; i++) {
		const struct instance *one = options->instances->list[i];
		bool is = one->readable && one->pages.published;

		if (request->instance != NULL && strcmp(request->instance, one->name) != 0)
			continue;
		seen++;
		ready += is;
		(void)json_array_append_new(list, json_pack("{s:s, s:b}", "instance", one->name, "ready", is));
	}
	(void)json_object_set_new(doc, "ready", json_boolean(seen > 0 && ready == seen));
	(void)json_object_set_new(doc, "instances", list);
	ret->status = seen > 0 && ready == seen ? OK : UNAVAILABLE;
	put_json(doc, out);
}

static void write_page(const struct serve_options *options, const struct answer_request *request, FILE *out,
                       struct answer *ret)
{
	ret->type = "text/html; charset=utf-8";
	if (!page_write(out, options, request->instance, request->window))
		ret->status = NOT_FOUND;
}

bool answer_make(const struct serve_options *options, const struct answer_request *request, struct answer *ret)
{
	static const struct {
		const char *path, *type;
		void (*write)(const struct serve_options *options, const struct answer_request *request, FILE *out,
		              struct answer *ret);
	} paths[] = {
		{"/metrics", NULL, write_metrics},
		{"/health", as_json, write_health},
		{"/ready", as_json, write_ready},
		{"/", NULL, write_page},
	};
	FILE *out;

	*ret = (struct answer){.status = NOT_FOUND, .type = "text/plain; charset=utf-8"};
	out = open_memstream(&ret->text, &ret->bytes);
	if (out == NULL)
		return false;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (strcmp(request->path, paths[i].path) == 0) {
			ret->status = OK;
			if (paths[i].type != NULL)
				ret->type = paths[i].type;
			paths[i].write(options, request, out, ret);
		}
	if (ret->status == NOT_FOUND && ftell(out) == 0)
		(void)fputs("not found; there are /, /metrics, /health and /ready\n", out);
	if (fclose(out) == 0)
		return true;
	free(ret->text);
	return false;
}
