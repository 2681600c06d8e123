/* SPDX-License-Identifier: Apache-2.0
 * Fields, and records of them. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/out.h"

struct field f_text(const char *name, struct shmeta_str text)
{
	return (struct field){.name = name, .kind = FIELD_TEXT, .text = text};
}
struct field f_string(const char *name, const char *text)
{
	return f_text(name, (struct shmeta_str){text, strlen(text)});
}

struct field f_word(const char *name, const char *word)
{
	return (struct field){.name = name, .kind = FIELD_WORD, .text = {word, strlen(word)}};
}
struct field f_count(const char *name, uint64_t value)
{
	return (struct field){.name = name, .kind = FIELD_COUNT, .u = value};
}
struct field f_bytes(const char *name, uint64_t value)
{
	return (struct field){.name = name, .kind = FIELD_BYTES, .u = value};
}
struct field f_time(const char *name, int64_t ms)
{
	return (struct field){.name = name, .kind = FIELD_TIME, .i = ms};
}
struct field f_time_known(const char *name, int64_t ms)
{
	return ms != 0 ? f_time(name, ms) : f_null(name);
}
struct field f_age(const char *name, uint64_t ns)
{
	return (struct field){.name = name, .kind = FIELD_AGE, .u = ns};
}
struct field f_percent(const char *name, double percent)
{
	return (struct field){.name = name, .kind = FIELD_PERCENT, .u = (uint64_t)lrint(percent * 10)};
}
struct field f_bool(const char *name, bool value)
{
	return (struct field){.name = name, .kind = FIELD_BOOL, .u = value};
}
struct field f_map(const char *name, struct shmeta_map map)
{
	return (struct field){.name = name, .kind = FIELD_MAP, .map = map};
}
struct field f_null(const char *name)
{
	return (struct field){.name = name, .kind = FIELD_NULL};
}
struct field f_hidden(struct field field)
{
	field.flags |= FIELD_JSON_ONLY;
	return field;
}

char *out_field_text(const struct field *field, bool record)
{
	const char *text = "-";
	char digits[32];
	char *joined = NULL;
	size_t bytes = 0;
	FILE *stream;

	switch (field->kind) {
	case FIELD_TEXT:
	case FIELD_WORD:
		text = out_safe(field->text.data, field->text.bytes);
		break;
	case FIELD_BYTES:
		if (record) {
			text = out_size(field->u);
			break;
		}
		__attribute__((fallthrough));
	case FIELD_COUNT:
		(void)snprintf(digits, sizeof(digits), "%" PRIu64, field->u);
		text = digits;
		break;
	case FIELD_NUMBER:
		(void)snprintf(digits, sizeof(digits), "%" PRId64, field->i);
		text = digits;
		break;
	case FIELD_TIME:
		text = out_time(field->i);
		break;
	case FIELD_AGE:
		text = out_ns(field->u);
		break;
	case FIELD_PERCENT:
		(void)snprintf(digits, sizeof(digits), "%.1f %%", (double)field->u / 10);
		text = digits;
		break;
	case FIELD_BOOL:
		text = field->u != 0 ? "yes" : "no";
		break;
	case FIELD_MAP: {
		struct shmeta_map map = field->map;
		struct shmeta_str key, value;
		size_t cursor = 0;

		stream = open_memstream(&joined, &bytes);
		if (stream == NULL)
			break;
		while (shmeta_map_next(&map, &cursor, &key, &value) == SHMETA_OK)
			(void)fprintf(stream, "%s%s=%s", ftell(stream) > 0 ? " " : "", out_safe(key.data, key.bytes),
			              out_safe(value.data, value.bytes));
		if (fclose(stream) == 0 && joined[0] != '\0')
			return joined;
		free(joined);
		break;
	}
	case FIELD_NULL:
		break;
	}
	return tool_copy(text, strlen(text));
}

const char *out_label(const struct field *field, bool record)
{
	static const char *const endings[] = {"_at_ms", "_ms"};
	size_t n = strlen(field->name);
	char *b;

	if (field->kind == FIELD_BYTES && record && n > 6 && strcmp(field->name + n - 6, "_bytes") == 0) {
		b = out_ring();
		(void)snprintf(b, OUT_RING_BYTES, "%.*s", (int)n - 6, field->name);
		return b;
	}
	if (field->kind != FIELD_TIME && field->kind != FIELD_AGE && field->kind != FIELD_NULL)
		return field->name;
	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		size_t k = strlen(endings[i]);

		if (n <= k || strcmp(field->name + n - k, endings[i]) != 0)
			continue;
		b = out_ring();
		(void)snprintf(b, OUT_RING_BYTES, "%.*s", (int)(n - k), field->name);
		return b;
	}
	return field->name;
}

void out_record(const struct tool *tool, const char *schema, const struct field *fields, size_t count)
{
	int width = 0;

	if (tool->json) {
		json_t *object = out_document(schema);

		for (size_t i = 0; i < count; i++)
			out_set_field(object, &fields[i]);
		out_json(object, 2);
		return;
	}
	for (size_t i = 0; i < count; i++)
		if ((fields[i].flags & FIELD_JSON_ONLY) == 0 && (int)strlen(out_label(&fields[i], true)) > width)
			width = (int)strlen(out_label(&fields[i], true));
	for (size_t i = 0; i < count; i++) {
		char *text;

		if ((fields[i].flags & FIELD_JSON_ONLY) != 0)
			continue;
		text = out_field_text(&fields[i], true);
		(void)printf("%-*s  %s\n", width, out_label(&fields[i], true), text);
		free(text);
	}
}
