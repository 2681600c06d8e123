/* SPDX-License-Identifier: Apache-2.0
 * JSON that any parser takes. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tools/shmetactl/out.h"

void out_set(json_t *object, const char *name, json_t *value)
{
	if (value == NULL || json_object_set_new(object, name, value) != 0)
		tool_no_memory();
}

json_t *out_json_text(const void *text, size_t bytes)
{
	const uint8_t *p = text;
	json_t *value = bytes == 0 ? json_string("") : json_stringn(text, bytes);
	uint32_t point;
	char *clean;
	size_t n = 0;

	if (value != NULL)
		return value;
	clean = tool_alloc(bytes * 3);
	for (size_t i = 0; i < bytes;) {
		size_t k = shmeta__utf8_decode(p + i, bytes - i, &point);

		memcpy(clean + n, k > 0 ? (const char *)p + i : "\xef\xbf\xbd", k > 0 ? k : 3);
		n += k > 0 ? k : 3;
		i += k > 0 ? k : 1;
	}
	value = json_stringn(clean, n);
	free(clean);
	return value;
}

json_t *out_json_count(uint64_t value)
{
	char digits[24];

	if (value <= (uint64_t)1 << 53)
		return json_integer((json_int_t)value);
	(void)snprintf(digits, sizeof(digits), "%" PRIu64, value);
	return json_string(digits);
}

static json_t *json_number(int64_t value)
{
	char digits[24];

	if (value <= (int64_t)1 << 53 && value >= -((int64_t)1 << 53))
		return json_integer(value);
	(void)snprintf(digits, sizeof(digits), "%" PRId64, value);
	return json_string(digits);
}

json_t *out_json_age(uint64_t ns)
{
	return ns == UINT64_MAX ? json_null() : json_real((double)(ns - ns % 1000) / 1e6);
}

static json_t *json_map(struct shmeta_map map)
{
	json_t *object = json_object();
	struct shmeta_str key, value;
	size_t cursor = 0;

	while (object != NULL && shmeta_map_next(&map, &cursor, &key, &value) == SHMETA_OK) {
		json_t *name = out_json_text(key.data, key.bytes);

		/* An embedded NUL would end the key early; escape it like the terminal would. */
		out_set(object,
		        memchr(key.data, '\0', key.bytes) != NULL ? out_safe(key.data, key.bytes)
		                                                  : json_string_value(name),
		        out_json_text(value.data, value.bytes));
		json_decref(name);
	}
	return object;
}

json_t *out_field_json(const struct field *field)
{
	json_t *value = NULL;

	switch (field->kind) {
	case FIELD_TEXT:
	case FIELD_WORD:
		value = out_json_text(field->text.data, field->text.bytes);
		break;
	case FIELD_COUNT:
	case FIELD_BYTES:
		value = out_json_count(field->u);
		break;
	case FIELD_NUMBER:
	case FIELD_TIME:
		value = json_number(field->i);
		break;
	case FIELD_AGE:
		value = out_json_age(field->u);
		break;
	case FIELD_PERCENT:
		value = json_real((double)field->u / 10);
		break;
	case FIELD_BOOL:
		value = json_boolean(field->u != 0);
		break;
	case FIELD_MAP:
		value = json_map(field->map);
		break;
	case FIELD_NULL:
		value = json_null();
		break;
	}
	return value;
}

void out_set_field(json_t *object, const struct field *field)
{
	out_set(object, field->name, out_field_json(field));
}

static const char *writer_state;

void out_writer(const char *state)
{
	writer_state = state;
}

json_t *out_document(const char *name)
{
	char schema[64];
	json_t *object = json_object();

	(void)snprintf(schema, sizeof(schema), "shmeta.%s", name);
	out_set(object, "schema", json_string(schema));
	out_set(object, "version", json_integer(1));
	out_set(object, "time", json_string(out_time(tool_wall_ms())));
	if (writer_state != NULL)
		out_set(object, "writer_state", json_string(writer_state));
	return object;
}

/* jansson escapes what is not ASCII, and control characters below space; DEL it leaves as it is. */
static int put_json(const char *buffer, size_t bytes, void *arg)
{
	FILE *out = arg;

	for (size_t i = 0; i < bytes; i++)
		if (buffer[i] == 0x7f)
			(void)fputs("\\u007f", out);
		else
			(void)putc(buffer[i], out);
	return 0;
}

void out_json_to(FILE *out, const json_t *value, int indent)
{
	size_t flags = OUT_JSON_FLAGS;

	flags |= indent > 0 ? JSON_INDENT(indent) : JSON_COMPACT;
	if (json_dump_callback(value, put_json, out, flags) != 0)
		tool_no_memory();
}

void out_json(json_t *value, int indent)
{
	out_json_to(stdout, value, indent);
	(void)putchar('\n');
	json_decref(value);
}
