/* SPDX-License-Identifier: Apache-2.0
 * Output of shmetactl: text that no record can use to talk to the terminal, and JSON that any parser takes. */
#include "tools/shmetactl/tool.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/escape.h"
#include "base/utf8.h"

#define JSON_FLAGS (JSON_ENSURE_ASCII | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))

enum { CUT_LEAST = 12 }; /* a column of text is not cut below that */
enum { RING = 16, RING_BYTES = 4 * SHMETA_STRING_MAX };

static char *ring(void)
{
	static char buffers[RING][RING_BYTES];
	static unsigned next;

	return buffers[next++ % RING];
}

static _Noreturn void no_memory(void)
{
	(void)fputs("shmetactl: out of memory\n", stderr);
	exit(TOOL_UNHEALTHY);
}

void *tool_alloc(size_t bytes)
{
	return tool_grow(NULL, bytes);
}

void *tool_grow(void *old, size_t bytes)
{
	void *p = realloc(old, bytes > 0 ? bytes : 1);

	if (p == NULL)
		no_memory();
	return p;
}

char *tool_copy(const void *text, size_t bytes)
{
	char *p = tool_alloc(bytes + 1);

	if (bytes > 0)
		memcpy(p, text, bytes);
	p[bytes] = '\0';
	return p;
}

/* ---- text --------------------------------------------------------------------------------------------------------------- */

const char *out_safe(const void *text, size_t bytes)
{
	return shmeta__escape(ring(), RING_BYTES, text != NULL ? text : "", text != NULL ? bytes : 0);
}

const char *out_safez(const char *text, size_t capacity)
{
	return out_safe(text, strnlen(text, capacity));
}

const char *out_ns(uint64_t ns)
{
	char *b = ring();
	uint64_t s = ns / 1000000000u;

	if (ns == UINT64_MAX)
		return "never";
	if (ns < 1000u)
		(void)snprintf(b, RING_BYTES, "%" PRIu64 " ns", ns);
	else if (ns < 1000000u)
		(void)snprintf(b, RING_BYTES, "%" PRIu64 " us", ns / 1000u);
	else if (ns < 100000000u)
		(void)snprintf(b, RING_BYTES, "%.1f ms", (double)ns / 1e6);
	else if (ns < 1000000000u)
		(void)snprintf(b, RING_BYTES, "%" PRIu64 " ms", ns / 1000000u);
	else if (s < 60)
		(void)snprintf(b, RING_BYTES, "%.1f s", (double)ns / 1e9);
	else if (s < 3600)
		(void)snprintf(b, RING_BYTES, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(b, RING_BYTES, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
	else
		(void)snprintf(b, RING_BYTES, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s % 86400 / 3600);
	return b;
}

const char *out_size(uint64_t bytes)
{
	static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	size_t u = 0;
	char *b = ring();

	for (; v >= 1024 && u < 4; u++)
		v /= 1024;
	(void)snprintf(b, RING_BYTES, u == 0 ? "%.0f %s" : "%.1f %s", v, unit[u]);
	return b;
}

const char *out_count(uint64_t value)
{
	char digits[24], *b = ring();
	int n = snprintf(digits, sizeof(digits), "%" PRIu64, value), at = 0;

	for (int i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			b[at++] = ' ';
		b[at++] = digits[i];
	}
	b[at] = '\0';
	return b;
}

const char *out_time(int64_t ms)
{
	int64_t s = ms / 1000, part = ms % 1000;
	time_t at;
	struct tm tm;
	char *b = ring();

	if (part < 0) {
		part += 1000;
		s--;
	}
	at = (time_t)s;
	if (gmtime_r(&at, &tm) == NULL || tm.tm_year + 1900 < 0 || tm.tm_year + 1900 > 9999) {
		(void)snprintf(b, RING_BYTES, "%" PRId64 " ms", ms);
		return b;
	}
	(void)snprintf(b, RING_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
	               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)part);
	return b;
}

const char *out_paint(const struct tool *tool, enum paint paint, const char *text)
{
	static const char *const code[] = {"32", "33", "31;1", "2"};
	char *b;

	if (!tool->color)
		return text;
	b = ring();
	(void)snprintf(b, RING_BYTES, "\033[%sm%s\033[0m", code[paint], text);
	return b;
}

/* ---- the terminal ------------------------------------------------------------------------------------------------------- */

enum { PROGRESS_FIRST_MS = 1000, PROGRESS_PAUSE_MS = 200 };
static struct {
	uint64_t began_ns, shown_ns;
	bool on_screen, rows_on_screen;
} progress;

void out_progress(const char *what, uint64_t done)
{
	uint64_t now = tool_monotonic_ns();

	if (progress.began_ns == 0)
		progress.began_ns = now;
	if (progress.rows_on_screen || now - progress.began_ns < PROGRESS_FIRST_MS * 1000000ull ||
	    now - progress.shown_ns < PROGRESS_PAUSE_MS * 1000000ull || isatty(STDERR_FILENO) != 1)
		return;
	progress.shown_ns = now;
	progress.on_screen = true;
	(void)fprintf(stderr, "\r\033[K%s: %s looked at", what, out_count(done));
}

void out_progress_end(void)
{
	if (progress.on_screen)
		(void)fputs("\r\033[K", stderr);
	progress.on_screen = false;
}

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

/* ---- JSON --------------------------------------------------------------------------------------------------------------- */

void out_set(json_t *object, const char *name, json_t *value)
{
	if (value == NULL || json_object_set_new(object, name, value) != 0)
		no_memory();
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

static json_t *field_json(const struct field *field)
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
	out_set(object, field->name, field_json(field));
}

static const char *writer_state;

void out_writer(const char *state)
{
	writer_state = state;
}

json_t *out_document(const char *name)
{
	struct timespec now;
	char schema[64];
	json_t *object = json_object();

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)snprintf(schema, sizeof(schema), "shmeta.%s", name);
	out_set(object, "schema", json_string(schema));
	out_set(object, "version", json_integer(1));
	out_set(object, "time", json_string(out_time((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000)));
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

static void json_to(FILE *out, const json_t *value, int indent)
{
	size_t flags = JSON_FLAGS;

	flags |= indent > 0 ? JSON_INDENT(indent) : JSON_COMPACT;
	if (json_dump_callback(value, put_json, out, flags) != 0)
		no_memory();
}

void out_json(json_t *value, int indent)
{
	json_to(stdout, value, indent);
	(void)putchar('\n');
	json_decref(value);
}

/* ---- fields ------------------------------------------------------------------------------------------------------------- */

struct field f_text(const char *name, struct shmeta_str text)
{
	return (struct field){.name = name, .kind = FIELD_TEXT, .text = text};
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

/* As text, in memory of its own. record: sizes for humans; otherwise digits that a script can add up. */
static char *field_text(const struct field *field, bool record)
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

/* What text calls a field: "created_at_ms" is a number there, and "created" a date; "size_bytes" of a record is "61.2 MiB". */
static const char *label_of(const struct field *field, bool record)
{
	static const char *const endings[] = {"_at_ms", "_ms"};
	size_t n = strlen(field->name);
	char *b;

	if (field->kind == FIELD_BYTES && record && n > 6 && strcmp(field->name + n - 6, "_bytes") == 0) {
		b = ring();
		(void)snprintf(b, RING_BYTES, "%.*s", (int)n - 6, field->name);
		return b;
	}
	if (field->kind != FIELD_TIME && field->kind != FIELD_AGE && field->kind != FIELD_NULL)
		return field->name;
	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		size_t k = strlen(endings[i]);

		if (n <= k || strcmp(field->name + n - k, endings[i]) != 0)
			continue;
		b = ring();
		(void)snprintf(b, RING_BYTES, "%.*s", (int)(n - k), field->name);
		return b;
	}
	return field->name;
}

static bool is_right(const struct field *field)
{
	return field->kind == FIELD_COUNT || field->kind == FIELD_BYTES || field->kind == FIELD_NUMBER ||
	       field->kind == FIELD_AGE;
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
		if ((fields[i].flags & FIELD_JSON_ONLY) == 0 && (int)strlen(label_of(&fields[i], true)) > width)
			width = (int)strlen(label_of(&fields[i], true));
	for (size_t i = 0; i < count; i++) {
		char *text;

		if ((fields[i].flags & FIELD_JSON_ONLY) != 0)
			continue;
		text = field_text(&fields[i], true);
		(void)printf("%-*s  %s\n", width, label_of(&fields[i], true), text);
		free(text);
	}
}

/* The list whose JSON object is open on stdout: an error has to end it. */
static struct list *open_list;

/* ---- lists -------------------------------------------------------------------------------------------------------------- */

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

/* A dump has millions of rows of which nearly all are numbers and plain text: those are written as they are, anything else by
 * jansson. */
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
			json_t *value = field_json(&fields[i]);

			if (value == NULL ||
			    json_dump_callback(value, put_callback, list, JSON_FLAGS | JSON_COMPACT) != 0)
				no_memory();
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
		text = field_text(&fields[i], false);
		width = columns_of(text);
		if (list->title[column] == NULL) {
			const char *label = label_of(&fields[i], false);

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

/* On a terminal a line of the table is one line: the widest texts are cut first, then what does not fit is left out. */
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
	out_progress_end();
	progress.rows_on_screen = isatty(STDOUT_FILENO) == 1;
	if (list->begun)
		return;
	list->begun = true;
	if (list->tool->json && !list->lines) {
		json_t *head = out_document(list->schema);
		char *text = json_dumps(head, JSON_COMPACT | JSON_ENSURE_ASCII);

		if (text == NULL)
			no_memory();
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
		             after != NULL ? "false" : "true");
		json_to(stdout, next, 0);
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

/* ---- errors ------------------------------------------------------------------------------------------------------------- */

void out_note(const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	shmeta__vsay(text, sizeof(text), fmt, ap);
	va_end(ap);
	out_progress_end();
	(void)fflush(stdout);
	(void)fprintf(stderr, "shmetactl: %s\n", out_safe(text, strlen(text)));
}

int tool_error(const struct tool *tool, int code, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	shmeta__vsay(text, sizeof(text), fmt, ap);
	va_end(ap);
	out_progress_end();
	(void)fflush(stdout);
	(void)fprintf(stderr, "shmetactl: %s\n", out_safe(text, strlen(text)));
	if (tool != NULL && tool->json && open_list != NULL) {
		json_t *sentence = out_json_text(text, strlen(text));

		(void)printf("\n],\"count\":%" PRIu64 ",\"complete\":false,\"exit\":%d,\"error\":", open_list->printed,
		             code);
		json_to(stdout, sentence, 0);
		(void)puts("}");
		json_decref(sentence);
		open_list = NULL;
	} else if (tool != NULL && tool->json) {
		json_t *object = out_document("error");

		out_set(object, "error", out_json_text(text, strlen(text)));
		out_set(object, "exit", json_integer(code));
		out_json(object, 2);
	}
	return code;
}

int tool_exit_of(enum shmeta_status status)
{
	switch (status) {
	case SHMETA_OK:
	case SHMETA_END:
		return TOOL_OK;
	case SHMETA_ABSENT:
	case SHMETA_ABSENT_BEFORE_START:
	case SHMETA_ABSENT_GAP:
	case SHMETA_ABSENT_AT_END:
	case SHMETA_ERR_NOT_TENANT:
	case SHMETA_ERR_TOPIC_NOT_FOUND:
	case SHMETA_ERR_PARTITION_NOT_FOUND:
	case SHMETA_ERR_NOT_FOUND:
		return TOOL_NOT_FOUND;
	case SHMETA_ERR_INVALID_ARGUMENT:
	case SHMETA_ERR_CONFIG:
	case SHMETA_ERR_BUFFER:
		return TOOL_USAGE;
	case SHMETA_ERR_NOT_RUNNING:
	case SHMETA_ERR_WRITER_AWAY:
		return TOOL_NOT_RUNNING;
	case SHMETA_ERR_PERMISSION:
	case SHMETA_ERR_DENIED:
	case SHMETA_ERR_READ_ONLY:
		return TOOL_PERMISSION;
	case SHMETA_ERR_VERSION:
	case SHMETA_ERR_CORRUPT:
	case SHMETA_ERR_PROTOCOL:
		return TOOL_VERSION;
	case SHMETA_ERR_TIMEOUT:
		return TOOL_TIMEOUT;
	case SHMETA_UNKNOWN:
	case SHMETA_ERR_NO_MEMORY:
	case SHMETA_ERR_FORKED:
	case SHMETA_ERR_NO_SNAPSHOT:
	case SHMETA_ERR_BUSY_SNAPSHOT:
	case SHMETA_ERR_EXPIRED:
	case SHMETA_ERR_CONTENDED:
	case SHMETA_ERR_SOURCE:
	case SHMETA_ERR_BUSY:
	case SHMETA_ERR_SYSTEM:
	case SHMETA_ERR_UNSUPPORTED:
	case SHMETA_ERR_FULL:
	case SHMETA_ERR_ALREADY_EXISTS:
	case SHMETA_ERR_CONFLICT:
	case SHMETA_ERR_FENCED:
	case SHMETA_ERR_OUTCOME_UNKNOWN:
	case SHMETA_ERR_NOT_CACHED:
		return TOOL_UNHEALTHY;
	}
	return TOOL_UNHEALTHY;
}

const char *tool_outcome(enum shmeta_status status)
{
	switch ((int)status) {
	case SHMETA_OK:
		return "found";
	case SHMETA_ABSENT:
		return "absent";
	case SHMETA_ABSENT_BEFORE_START:
		return "absent_before_start";
	case SHMETA_ABSENT_GAP:
		return "absent_gap";
	case SHMETA_ABSENT_AT_END:
		return "absent_at_end";
	case SHMETA_UNKNOWN:
		return "unknown";
	default:
		return "error";
	}
}
