/* SPDX-License-Identifier: Apache-2.0
 * health: what is not well with an instance, and the command that helps. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/inspect.h"

/* How the instance is called in commands: by --instance where that leads to it, otherwise by its
 * directory, from wherever they are typed. */
static const char *called(const struct tool *tool, char ret[PATH_MAX])
{
	char name[UNIT_BYTES];

	if (pages_name_of(tool->dir, name))
		(void)snprintf(ret, PATH_MAX, "%s", name);
	else if (realpath(tool->dir, ret) == NULL)
		(void)snprintf(ret, PATH_MAX, "%s", tool->dir);
	return ret;
}

void tool_health(const struct tool *tool, const struct pages *pages, struct health *ret)
{
	char name[PATH_MAX];

	health_judge(pages, called(tool, name), ret);
}

static void health_json(const struct tool *tool, const struct health *health)
{
	json_t *doc = out_document("health"), *checks = json_array();

	out_set(doc, "directory", out_json_text(tool->dir, strlen(tool->dir)));
	out_set(doc, "status", json_string(health_word(health->worst)));
	for (int i = 0; i < HEALTH_CHECK_COUNT; i++) {
		const struct health_finding *f = &health->finding[i];
		json_t *one = json_object();

		out_set(one, "check", json_string(health_name((enum health_check)i)));
		out_set(one, "what", json_string(health_what((enum health_check)i)));
		out_set(one, "status", json_string(health_word(f->severity)));
		out_set(one, "value", out_json_text(f->value, strlen(f->value)));
		out_set(one, "thresholds", json_string(health_thresholds((enum health_check)i)));
		out_set(one, "advice", f->advice[0] != '\0' ? json_string(f->advice) : json_null());
		out_set(one, "command",
		        f->command[0] != '\0' ? out_json_text(f->command, strlen(f->command)) : json_null());
		(void)json_array_append_new(checks, one);
	}
	out_set(doc, "checks", checks);
	out_json(doc, 2);
}

static enum paint paint_of(enum health_severity severity)
{
	return severity == HEALTH_OK ? PAINT_GOOD : severity == HEALTH_CRITICAL ? PAINT_BAD : PAINT_WARN;
}

/* What is not well comes first, the worst at the top. */
static void health_text(const struct tool *tool, const struct health *health)
{
	for (int severity = HEALTH_CRITICAL; severity >= HEALTH_OK; severity--)
		for (int i = 0; i < HEALTH_CHECK_COUNT; i++) {
			const struct health_finding *f = &health->finding[i];
			const char *word = health_word(f->severity);

			if ((int)f->severity != severity)
				continue;
			(void)printf("%s%*s  %-10s  %s\n", out_paint(tool, paint_of(f->severity), word),
			             (int)(8 - strlen(word)), "", health_name((enum health_check)i), f->value);
			if (f->severity == HEALTH_OK)
				continue;
			(void)printf("%22s%s\n", "", health_thresholds((enum health_check)i));
			if (f->advice[0] != '\0')
				(void)printf("%22s%s\n", "", f->advice);
			if (f->command[0] != '\0')
				(void)printf("%22s$ %s\n", "", f->command);
		}
}

int verb_health(struct tool *tool)
{
	struct health health;
	struct pages p;

	/* Whatever keeps it from being looked at has been said; to a plug-in it is one thing. */
	if (pages_open(tool, &p) != 0)
		return health_exit(HEALTH_UNKNOWN);
	tool_health(tool, &p, &health);
	out_writer(pages_writer(&p));
	pages_close(&p);
	if (tool->json)
		health_json(tool, &health);
	else
		health_text(tool, &health);
	return health_exit(health.worst);
}
