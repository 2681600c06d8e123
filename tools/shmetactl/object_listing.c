/* SPDX-License-Identifier: Apache-2.0
 * Listings of buckets. */
#include "tools/shmetactl/object_listing.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/hex.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { KEY_MAX = LISTED_KEY_MAX, OBJECTS_MAX = 1 << 30 };

/* ---- the table ---- */

struct shmeta_str listing_key(const struct object_listing *l, const struct listed *object)
{
	return (struct shmeta_str){l->text + object->key_at, object->key_bytes};
}

static uint32_t *slot_of(const struct object_listing *l, struct shmeta_str key)
{
	size_t at = (size_t)XXH3_64bits_withSeed(key.data, key.bytes, l->seed) & (l->slots - 1);

	for (;; at = (at + 1) & (l->slots - 1)) {
		const struct listed *object = l->slot[at] != 0 ? &l->object[l->slot[at] - 1] : NULL;

		if (object == NULL ||
		    (object->key_bytes == key.bytes && memcmp(l->text + object->key_at, key.data, key.bytes) == 0))
			return &l->slot[at];
	}
}

struct listed *listing_find(const struct object_listing *l, struct shmeta_str key)
{
	const uint32_t *slot = l->slots > 0 ? slot_of(l, key) : NULL;

	return slot != NULL && *slot != 0 ? &l->object[*slot - 1] : NULL;
}

static bool grow_slots(struct object_listing *l)
{
	size_t slots = l->slots == 0 ? 1024 : 2 * l->slots;
	uint32_t *table = calloc(slots, sizeof *table);

	if (table == NULL)
		return false;
	if (l->slots == 0)
		/* who writes objects chooses their keys */
		(void)!getrandom(&l->seed, sizeof l->seed, GRND_NONBLOCK);
	free(l->slot);
	l->slot = table;
	l->slots = slots;
	for (size_t i = 0; i < l->count; i++)
		*slot_of(l, listing_key(l, &l->object[i])) = (uint32_t)i + 1;
	return true;
}

static bool room(void **at, size_t *capacity, size_t used, size_t more, size_t size)
{
	size_t wanted = *capacity;
	void *larger;

	while (wanted < used + more)
		wanted = wanted == 0 ? 1024 : 2 * wanted;
	if (wanted == *capacity)
		return true;
	larger = realloc(*at, wanted * size);
	if (larger == NULL)
		return false;
	*at = larger;
	*capacity = wanted;
	return true;
}

bool listing_add(struct object_listing *l, struct shmeta_str key, uint64_t size, int64_t modified_ms)
{
	struct listed *known = listing_find(l, key);

	if (known != NULL) {
		if (modified_ms > known->modified_ms)
			known->modified_ms = modified_ms;
		return true;
	}
	if (l->count >= OBJECTS_MAX || !room((void **)&l->object, &l->capacity, l->count, 1, sizeof *l->object) ||
	    !room((void **)&l->text, &l->text_capacity, l->text_bytes, key.bytes, 1) ||
	    (l->count * 2 >= l->slots && !grow_slots(l)))
		return false;
	memcpy(l->text + l->text_bytes, key.data, key.bytes);
	l->object[l->count] = (struct listed){
		.key_at = l->text_bytes, .key_bytes = key.bytes, .size = size, .modified_ms = modified_ms};
	l->text_bytes += key.bytes;
	*slot_of(l, key) = (uint32_t)++l->count;
	return true;
}

void listing_free(struct object_listing *l)
{
	free(l->object);
	free(l->text);
	free(l->slot);
	*l = (struct object_listing){.count = 0};
}

/* ---- keys that are spelled for URLs ---- */

/* Could the key be what the encoding of URLs made of another? */
static bool may_be_encoded(struct shmeta_str key)
{
	char c;

	for (size_t i = 0; i < key.bytes; i++)
		if ((unsigned char)key.data[i] <= ' ' || (unsigned char)key.data[i] >= 0x7f ||
		    (key.data[i] == '%' && shmeta__percent_read(key.data + i, key.bytes - i, &c) == 0))
			return false;
	return true;
}

bool listing_decode(struct shmeta_str key, char ret[LISTED_KEY_MAX], size_t *ret_bytes)
{
	size_t used = 0;

	if (memchr(key.data, '%', key.bytes) == NULL && memchr(key.data, '+', key.bytes) == NULL)
		return false;
	for (size_t i = 0; i < key.bytes; i++) {
		char c = key.data[i] == '+' ? ' ' : key.data[i];

		if (shmeta__percent_read(key.data + i, key.bytes - i, &c) > 0)
			i += 2;
		ret[used++] = c;
	}
	*ret_bytes = used;
	return true;
}

bool listing_decoded(const struct object_listing *l, struct object_listing *ret, char fault[240])
{
	char text[LISTED_KEY_MAX];
	size_t bytes;

	/* One key that no encoding leaves so, and none of them was encoded. */
	for (size_t i = 0; i < l->count; i++)
		if (!may_be_encoded(listing_key(l, &l->object[i])))
			return true;
	for (size_t i = 0; i < l->count; i++)
		if (listing_decode(listing_key(l, &l->object[i]), text, &bytes) &&
		    !listing_add(ret, (struct shmeta_str){text, bytes}, 0, LISTED_TIME_UNKNOWN)) {
			(void)snprintf(fault, 240, "out of memory for so many objects");
			return false;
		}
	return true;
}

/* ---- times ---- */

/* So many, and behind them this. */
static bool digits(const char *text, int count, char behind, int *ret)
{
	*ret = 0;
	for (int i = 0; i < count; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		*ret = *ret * 10 + (text[i] - '0');
	}
	return text[count] == behind;
}

/* RFC 3339, with or without a fraction, in milliseconds since the epoch. */
static bool listing_time(const char *text, size_t bytes, int64_t *ret_ms)
{
	char copy[48], zone, fraction[4] = "000";
	int year, month, day, hour, minute, second, n = sizeof "2026-01-02T03:04:05" - 1, hours = 0, minutes = 0,
						    count = 0;
	struct tm tm;

	if (bytes == 0 || bytes >= sizeof copy)
		return false;
	memcpy(copy, text, bytes);
	copy[bytes] = '\0';
	if (!digits(copy, 4, '-', &year) || !digits(copy + 5, 2, '-', &month) || !digits(copy + 8, 2, 'T', &day) ||
	    !digits(copy + 11, 2, ':', &hour) || !digits(copy + 14, 2, ':', &minute) ||
	    !digits(copy + 17, 2, copy[n], &second))
		return false;
	if (copy[n] == '.') {
		for (n++; copy[n] >= '0' && copy[n] <= '9'; n++)
			if (count < 3)
				fraction[count++] = copy[n];
		if (count == 0)
			return false;
	}
	zone = copy[n++];
	if (zone == '+' || zone == '-') {
		if (!digits(copy + n, 2, ':', &hours) || !digits(copy + n + 3, 2, '\0', &minutes))
			return false;
	} else if (zone != 'Z' || copy[n] != '\0') {
		return false;
	}
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 ||
	    hours > 23 || minutes > 59)
		return false;
	tm = (struct tm){.tm_year = year - 1900,
	                 .tm_mon = month - 1,
	                 .tm_mday = day,
	                 .tm_hour = hour,
	                 .tm_min = minute,
	                 .tm_sec = second};
	*ret_ms = ((int64_t)timegm(&tm) - (zone == '-' ? -1 : 1) * (int64_t)(hours * 60 + minutes) * 60) * 1000 +
	          strtol(fraction, NULL, 10);
	return true;
}

/* ---- JSON ---- */

static bool add_json(struct object_listing *l, const json_t *item, size_t number, char fault[240])
{
	const json_t *key = json_object_get(item, "Key"), *size = json_object_get(item, "Size"),
		     *modified = json_object_get(item, "LastModified");
	int64_t ms = LISTED_TIME_UNKNOWN;

	if (!json_is_string(key) || json_string_length(key) == 0 || json_string_length(key) > KEY_MAX) {
		(void)snprintf(fault, 240, "object %zu has no Key of 1 to %d bytes", number, KEY_MAX);
		return false;
	}
	if (json_is_string(modified) && !listing_time(json_string_value(modified), json_string_length(modified), &ms)) {
		(void)snprintf(fault, 240, "object %zu: its LastModified is no time in RFC 3339", number);
		return false;
	}
	if (!listing_add(l, (struct shmeta_str){json_string_value(key), json_string_length(key)},
	                 json_is_integer(size) && json_integer_value(size) > 0 ? (uint64_t)json_integer_value(size) : 0,
	                 ms)) {
		(void)snprintf(fault, 240, "out of memory for so many objects");
		return false;
	}
	return true;
}

/* Why a page is not one of the whole bucket, as far as it says that itself; NULL: nothing is known
 * against it. */
static const char *not_whole(const json_t *document)
{
	static const struct {
		const char *field, *why;
	} narrowed[] = {{"Prefix", "it has the keys of one prefix only"},
	                {"StartAfter", "it begins in the middle of the bucket"},
	                {"Delimiter", "it is grouped by a delimiter, and does not have every key"}};
	const json_t *groups = json_object_get(document, "CommonPrefixes");

	for (size_t i = 0; i < sizeof narrowed / sizeof narrowed[0]; i++) {
		const json_t *value = json_object_get(document, narrowed[i].field);

		if (json_is_string(value) && json_string_length(value) > 0)
			return narrowed[i].why;
	}
	if (json_is_array(groups) && json_array_size(groups) > 0)
		return narrowed[2].why;
	return NULL;
}

/* Where the pages before end, as far as they say that themselves. */
struct end {
	char *token; /* NULL: the last one says none */
	bool cut;    /* something comes behind it */
};

/* Does the page go on where the one before ended? Tokens are in what the service itself answers;
 * tools that put pages together leave them out. */
static bool goes_on(const json_t *document, size_t page, struct end *end, char fault[240])
{
	const char *from = json_string_value(json_object_get(document, "ContinuationToken")),
		   *to = json_string_value(json_object_get(document, "NextContinuationToken"));
	const bool known = page == 1 || !end->cut || end->token != NULL;
	bool ok = from == NULL || !known || (end->token != NULL && strcmp(from, end->token) == 0);

	if (!ok)
		(void)snprintf(fault, 240,
		               page == 1 ? "document %zu begins in the middle of the bucket"
		                         : "document %zu does not go on where the one before ended: a page is missing",
		               page);
	free(end->token);
	end->token = to != NULL ? strdup(to) : NULL;
	end->cut = json_is_true(json_object_get(document, "IsTruncated")) || to != NULL ||
	           json_is_string(json_object_get(document, "NextToken"));
	if (to != NULL && end->token == NULL) {
		(void)snprintf(fault, 240, "out of memory");
		ok = false;
	}
	return ok;
}

/* A document for each page, one behind the other. The last one says that nothing is missing. */
static bool read_json(FILE *f, struct object_listing *l, char fault[240], struct end *end)
{
	for (size_t page = 1;; page++) {
		json_error_t error;
		json_t *document, *contents, *item;
		const char *why, *bucket;
		size_t i;
		int c;
		bool ok = true;

		do
			c = fgetc(f);
		while (c == ' ' || c == '\t' || c == '\r' || c == '\n');
		if (c == EOF)
			break;
		(void)ungetc(c, f);
		document = json_loadf(f, JSON_DISABLE_EOF_CHECK, &error);
		if (document == NULL) {
			(void)snprintf(fault, 240, "document %zu is no JSON: %.100s", page, error.text);
			return false;
		}
		contents = json_object_get(document, "Contents");
		bucket = json_string_value(json_object_get(document, "Name"));
		why = not_whole(document);
		if (!json_is_object(document) || (contents != NULL && !json_is_array(contents))) {
			(void)snprintf(fault, 240,
			               "document %zu is not what list-objects-v2 prints: it has no array \"Contents\"",
			               page);
			ok = false;
		} else if (why != NULL) {
			(void)snprintf(fault, 240, "document %zu is no listing of the whole bucket: %s", page, why);
			ok = false;
		} else if (bucket != NULL && strcmp(bucket, l->bucket) != 0) {
			(void)snprintf(fault, 240, "document %zu is of the bucket '%.64s', and not of '%.64s'", page,
			               bucket, l->bucket);
			ok = false;
		} else {
			json_array_foreach(contents, i, item) if (ok) ok = add_json(l, item, l->count + 1, fault);
		}
		ok = ok && goes_on(document, page, end, fault);
		json_decref(document);
		if (!ok)
			return false;
	}
	if (end->cut)
		(void)snprintf(fault, 240, "the listing says that it goes on: give all of its pages");
	return !end->cut;
}

/* ---- lines ---- */

static bool add_line(struct object_listing *l, const char *line, size_t bytes, size_t number, char fault[240])
{
	const char *tab = memchr(line, '\t', bytes), *last = tab != NULL ? strchr(tab + 1, '\t') : NULL;
	int64_t ms = LISTED_TIME_UNKNOWN;
	char *end;
	unsigned long long size;

	if (last == NULL || tab == line || tab - line > KEY_MAX) {
		(void)snprintf(fault, 240,
		               "line %zu is not a key of 1 to %d bytes, a size and a time, with tabs between them",
		               number, KEY_MAX);
		return false;
	}
	size = strtoull(tab + 1, &end, 10);
	if (end == tab + 1 || end != last) {
		(void)snprintf(fault, 240, "line %zu: the size is no number", number);
		return false;
	}
	if (strcmp(last + 1, "-") != 0 && !listing_time(last + 1, strlen(last + 1), &ms)) {
		(void)snprintf(fault, 240, "line %zu: the time is neither RFC 3339 nor -", number);
		return false;
	}
	if (!listing_add(l, (struct shmeta_str){line, (size_t)(tab - line)}, size, ms)) {
		(void)snprintf(fault, 240, "out of memory for so many objects");
		return false;
	}
	return true;
}

static bool read_lines(FILE *f, struct object_listing *l, char fault[240])
{
	char *line = NULL;
	size_t capacity = 0, number = 0;
	ssize_t n;
	bool ok = true;

	while (ok && (n = getline(&line, &capacity, f)) > 0) {
		number++;
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			line[--n] = '\0';
		if (n > 0 && memchr(line, '\0', (size_t)n) != NULL) {
			(void)snprintf(fault, 240, "line %zu has a NUL byte", number);
			ok = false;
		} else if (n > 0) {
			ok = add_line(l, line, (size_t)n, number, fault);
		}
	}
	free(line);
	return ok;
}

bool listing_read(FILE *f, const char *bucket, struct object_listing *ret, char ret_fault[240])
{
	struct end end = {NULL, false};
	bool ok;
	int c;

	*ret = (struct object_listing){.bucket = bucket};
	do
		c = fgetc(f);
	while (c == '\n' || c == '\r');
	if (c != EOF)
		(void)ungetc(c, f);
	ok = c == '{' ? read_json(f, ret, ret_fault, &end) : read_lines(f, ret, ret_fault);
	free(end.token);
	if (ok && ferror(f) != 0) {
		(void)snprintf(ret_fault, 240, "it cannot be read to its end");
		return false;
	}
	if (ok && ret->count == 0) {
		(void)snprintf(ret_fault, 240, "it lists no object: every object would be missing");
		return false;
	}
	return ok;
}
