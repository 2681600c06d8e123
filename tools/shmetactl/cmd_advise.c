/* SPDX-License-Identifier: Apache-2.0
 * advise: what to change in the configuration, and the miss-ratio curve of this host's lookups. It
 * changes nothing. */
#include <inttypes.h>
#include <string.h>

#include "tools/monitor/advice.h"
#include "tools/shmetactl/inspect.h"

/* Sizes behind this one change nothing any more. */
static size_t curve_end(const struct shmeta_usage *usage)
{
	size_t end = SHMETA_USAGE_SIZES - 1;

	while (end > 0 && usage->miss[end - 1] == usage->miss[end])
		end--;
	return end;
}

static void print_json(const struct advice_facts *f, const struct advice *advice, size_t n)
{
	json_t *doc = out_document("advise"), *list = json_array(), *curve = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *one = json_object();

		out_set(one, "advice", json_string(advice[i].name));
		out_set(one, "because", json_string(advice[i].because));
		out_set(one, "change", json_string(advice[i].change));
		out_set(one, "effect", json_string(advice[i].effect));
		(void)json_array_append_new(list, one);
	}
	for (size_t i = 0; f->usage->miss[0] != 0 && i <= curve_end(f->usage); i++) {
		json_t *one = json_object();

		out_set(one, "partitions", out_json_count(SHMETA_USAGE_SIZE(i)));
		out_set(one, "miss_percent", json_real(advice_miss_at(f->usage, i) * 100));
		(void)json_array_append_new(curve, one);
	}
	out_set(doc, "advice", list);
	out_set(doc, "mode", json_string(advice_is_bounded(f) ? "bounded" : "mirror"));
	out_set(doc, "curve_samples", out_json_count(f->usage->curve_samples));
	out_set(doc, "curve_is_enough", json_boolean(advice_knows_curve(f->usage)));
	out_set(doc, "miss_ratio_curve", curve);
	out_json(doc, 2);
}

static void print_text(const struct advice_facts *f, const struct advice *advice, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)printf("%s\n    because  %s\n    change   %s\n    effect   %s\n", advice[i].name,
		             advice[i].because, advice[i].change, advice[i].effect);
	if (n == 0)
		(void)printf("nothing to change\n");
	(void)printf("\nmisses of this host's lookups by room for partitions, under LRU, of %s samples%s\n",
	             out_count(f->usage->curve_samples), advice_knows_curve(f->usage) ? "" : " (too few to go by)");
	for (size_t i = 0; f->usage->miss[0] != 0 && i <= curve_end(f->usage); i++)
		(void)printf("%12" PRIu64 "  %5.1f %%\n", SHMETA_USAGE_SIZE(i), advice_miss_at(f->usage, i) * 100);
}

int verb_advise(struct tool *tool)
{
	struct advice advice[ADVICE_MAX];
	char why[512] = "";
	struct shmeta_usage usage;
	struct pages pages;
	json_t *config;
	size_t n;
	int code = usage_open(tool, &usage);

	if (code == 0)
		code = pages_open(tool, &pages);
	if (code != 0)
		return code;
	config = tool_running_config(tool, why, sizeof(why), &code);
	if (config == NULL) {
		pages_close(&pages);
		return tool_error(tool, code, "%s", why);
	}

	struct advice_facts f = {.usage = &usage, .options = json_object_get(config, "options")};

	for (int i = 0; i < SHMETA_COUNTER_COUNT; i++)
		f.counter[i] = pages_count(&pages, (enum shmeta_counter)i);
	n = advice_judge(&f, advice);
	if (tool->json)
		print_json(&f, advice, n);
	else
		print_text(&f, advice, n);
	json_decref(config);
	pages_close(&pages);
	return TOOL_OK;
}
