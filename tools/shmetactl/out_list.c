/* SPDX-License-Identifier: Apache-2.0
 * Lists: tables that fit the terminal, and JSON. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/shmetactl/out.h"

enum { CUT_LEAST = 12 }; /* a column of text is not cut below that */

/* The list whose JSON object is open on stdout: an error has to end it. */
static struct list *open_list;

/* How many columns a line may have: of a terminal; elsewhere there is no limit. */
static int line_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	uint64_t n;

	if (isatty(STDOUT_FILENO) != 1)
		return INT_MAX;
	if (columns != NULL && tool_parse_u64(columns, 10000, &n) && n > 0)
		return (int)n;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static bool is_right(const struct field *field)
{
	return (field->flags & FIELD_RIGHT) != 0 || field->kind == FIELD_COUNT || field->kind == FIELD_BYTES ||
	       field->kind == FIELD_NUMBER || field->kind == FIELD_AGE;
}

void list_begin(struct list *list, const struct tool *tool, const char *schema)
{
	*list = (struct list){.tool = tool, .schema = schema};
}

static void add_cell(struct list *list, char *text)
{
	if (list->cells == list->capacity) {
		list->capacity = list->capacity > 0 ? list->capacity * 2 : 256;
		list->cell = tool_grow(list->cell, list->capacity * sizeof(*list->cell));
	}
	list->cell[list->cells++] = text;
}

/* Columns that a terminal will give the text, near enough for names: code points. */
static int columns_of(const char *text)
{
	int n = 0;

	for (; *text != '\0'; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static void put(struct list *list, const void *text, size_t bytes)
{
	if (list->json_capacity - list->json_bytes < bytes) {
		list->json_capacity = (list->json_capacity + bytes) * 2 + 4096;
		list->json = tool_grow(list->json, list->json_capacity);
	}
	memcpy(list->json + list->json_bytes, text, bytes);
	list->json_bytes += bytes;
}

static int put_callback(const char *buffer, size_t bytes, void *arg)
{
	for (size_t i = 0; i < bytes; i++) /* as put_json() */
		put(arg, buffer[i] == 0x7f ? "\\u007f" : &buffer[i], buffer[i] == 0x7f ? 6 : 1);
	return 0;
}

/* A dump has millions of rows of which nearly all are numbers and plain text: those are written as
 * they are, anything else by jansson. */
static bool put_plain(struct list *list, const struct field *field)
{
	char number[48];
	int n = -1;

	switch (field->kind) {
	case FIELD_TEXT:
	case FIELD_WORD:
		for (size_t i = 0; i < field->text.bytes; i++) {
			char c = field->text.data[i];

			if (c < ' ' || c > '~' || c == '"' || c == '\\')
				return false;
		}
		put(list, "\"", 1);
		if (field->text.bytes > 0)
			put(list, field->text.data, field->text.bytes);
		put(list, "\"", 1);
		return true;
	case FIELD_COUNT:
	case FIELD_BYTES:
		if (field->u <= (uint64_t)1 << 53)
			n = snprintf(number, sizeof(number), "%" PRIu64, field->u);
		break;
	case FIELD_NUMBER:
	case FIELD_TIME:
		if (field->i <= (int64_t)1 << 53 && field->i >= -((int64_t)1 << 53))
			n = snprintf(number, sizeof(number), "%" PRId64, field->i);
		break;
	case FIELD_BOOL:
		n = snprintf(number, sizeof(number), "%s", field->u != 0 ? "true" : "false");
		break;
	case FIELD_NULL:
		n = snprintf(number, sizeof(number), "null");
		break;
	case FIELD_AGE:
	case FIELD_PERCENT:
	case FIELD_MAP:
		break;
	}
	if (n < 0)
		return false;
	put(list, number, (size_t)n);
	return true;
}

static void put_row(struct list *list, const struct field *fields, size_t count)
{
	if (!list->lines)
		put(list, list->printed + list->waiting > 1 ? ",\n" : "\n", list->printed + list->waiting > 1 ? 2 : 1);
	for (size_t i = 0; i < count; i++) {
		put(list, i == 0 ? "{\"" : ",\"", 2);
		put(list, fields[i].name, strlen(fields[i].name));
		put(list, "\":", 2);
		if (!put_plain(list, &fields[i])) {
			json_t *value = out_field_json(&fields[i]);

			if (value == NULL ||
			    json_dump_callback(value, put_callback, list, OUT_JSON_FLAGS | JSON_COMPACT) != 0)
				tool_no_memory();
			json_decref(value);
		}
	}
	put(list, "}\n", list->lines ? 2 : 1);
}

void list_row(struct list *list, const struct field *fields, size_t count)
{
	size_t column = 0;

	list->waiting++;
	if (list->tool->json || list->lines) {
		put_row(list, fields, count);
		return;
	}
	for (size_t i = 0; i < count && column < LIST_COLUMNS; i++) {
		char *text;
		int width;

		if ((fields[i].flags & FIELD_JSON_ONLY) != 0)
			continue;
		text = out_field_text(&fields[i], false);
		width = columns_of(text);
		if (list->title[column] == NULL) {
			const char *label = out_label(&fields[i], false);

			list->title[column] = tool_copy(label, strlen(label));
			list->right[column] = is_right(&fields[i]);
			list->width[column] = (int)strlen(label);
		}
		if (width > list->width[column])
			list->width[column] = width;
		add_cell(list, text);
		column++;
	}
	list->columns = column;
}

/* On a terminal a line of the table is one line: the widest texts are cut first, then what does not
 * fit is left out. */
static void fit(struct list *list)
{
	int limit = line_width(), total = 0;

	for (size_t c = 0; c < list->columns; c++)
		total += list->width[c] + (c > 0 ? 2 : 0);
	while (total > limit) {
		size_t widest = 0;

		for (size_t c = 1; c < list->columns; c++)
			if (!list->right[c] && (list->right[widest] || list->width[c] > list->width[widest]))
				widest = c;
		if (list->right[widest] || list->width[widest] <= CUT_LEAST)
			break;
		list->width[widest]--;
		total--;
	}
	for (list->shown = list->columns; list->shown > 1 && total > limit; list->shown--)
		total -= list->width[list->shown - 1] + 2;
}

/* The first bytes of text that have at most so many columns. */
static int bytes_of(const char *text, int columns)
{
	int n = 0;

	for (; text[n] != '\0' && columns > 0; columns--)
		do
			n++;
		while ((text[n] & 0xc0) == 0x80);
	return n;
}

static void print_cell(const struct list *list, size_t column, const char *text)
{
	int width = list->width[column], has = columns_of(text), pad = width - has;
	bool last = column + 1 == list->shown, cut = has > width && width >= CUT_LEAST && line_width() != INT_MAX;

	if (column >= list->shown)
		return;
	if (pad < 0 || (last && !list->right[column]))
		pad = 0;
	(void)printf("%*s%.*s%s%*s%s", list->right[column] ? pad : 0, "", cut ? bytes_of(text, width - 3) : INT_MAX,
	             text, cut ? "..." : "", list->right[column] ? 0 : pad, "", last ? "\n" : "  ");
}

static void begin_output(struct list *list)
{
	out_progress_rows();
	if (list->begun)
		return;
	list->begun = true;
	if (list->tool->json && !list->lines) {
		json_t *head = out_document(list->schema);
		char *text = json_dumps(head, JSON_COMPACT | JSON_ENSURE_ASCII);

		if (text == NULL)
			tool_no_memory();
		text[strlen(text) - 1] = '\0'; /* the list goes on inside this object */
		(void)printf("%s,\"items\":[", text);
		open_list = list;
		free(text);
		json_decref(head);
	} else if (!list->tool->json && !list->lines && !list->tool->no_header) {
		for (size_t c = 0; c < list->columns; c++)
			print_cell(list, c, list->title[c]);
	}
}

void list_flush(struct list *list)
{
	if (list->waiting == 0)
		return;
	if (!list->lines && !list->tool->json)
		fit(list);
	begin_output(list);
	if (list->lines || list->tool->json) {
		(void)fwrite(list->json, 1, list->json_bytes, stdout);
	} else {
		for (size_t i = 0; i < list->cells; i++)
			print_cell(list, i % list->columns, list->cell[i]);
	}
	list->printed += list->waiting;
	list_drop(list);
}

void list_drop(struct list *list)
{
	for (size_t i = 0; i < list->cells; i++)
		free(list->cell[i]);
	list->cells = 0;
	list->json_bytes = 0;
	list->waiting = 0;
}

void list_end(struct list *list, const char *after, size_t after_bytes)
{
	list_flush(list);
	if (list->tool->json && !list->lines) {
		json_t *next = after != NULL ? out_json_text(after, after_bytes) : json_null();

		begin_output(list);
		(void)printf("\n],\"count\":%" PRIu64 ",\"complete\":%s,\"next_after\":", list->printed,
		             after != NULL || list->incomplete ? "false" : "true");
		out_json_to(stdout, next, 0);
		(void)puts("}");
		json_decref(next);
		open_list = NULL;
	} else if (!list->tool->json && list->printed == 0 && isatty(STDOUT_FILENO) == 1) {
		(void)printf("no %s\n", list->schema);
	}
}

void list_free(struct list *list)
{
	list_drop(list);
	for (size_t c = 0; c < LIST_COLUMNS; c++)
		free(list->title[c]);
	free(list->cell);
	free(list->json);
	list->cell = NULL;
	list->json = NULL;
	list->json_capacity = 0;
	if (open_list == list)
		open_list = NULL;
}

bool list_end_by_error(int code, const char *text)
{
	json_t *sentence;

	if (open_list == NULL)
		return false;
	sentence = out_json_text(text, strlen(text));
	(void)printf("\n],\"count\":%" PRIu64 ",\"complete\":false,\"exit\":%d,\"error\":", open_list->printed, code);
	out_json_to(stdout, sentence, 0);
	(void)puts("}");
	json_decref(sentence);
	open_list = NULL;
	return true;
}
