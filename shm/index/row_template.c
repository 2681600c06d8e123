/* SPDX-License-Identifier: Apache-2.0
 * The strings of a block: spelling a template, comparing one with a text, deriving one from a text.
 * A template may lie in a page that changes meanwhile: each byte is read once. */
#include "shm/index/row_template.h"

#include "base/once.h"

enum { PLACEHOLDERS = 5 };
enum { TOPIC = 1, PARTITION, BASE, BASE20, END };

/* Eight decimal digits of v < 10^8, first digit in the lowest byte. */
static uint64_t eight_digits(uint32_t v)
{
	uint64_t fours = v / 10000 | (uint64_t)(v % 10000) << 32;
	uint64_t hundreds = (fours * 5243 >> 19) & UINT64_C(0x0000007f0000007f);
	uint64_t pairs = hundreds | (fours - hundreds * 100) << 16;
	uint64_t tens = (pairs * 103 >> 10) & UINT64_C(0x000f000f000f000f);

	return (tens | (pairs - tens * 10) << 8) | UINT64_C(0x3030303030303030);
}

/* v as %020, and where its first digit is (19 for 0). */
static unsigned twenty_digits(char *out, uint64_t v)
{
	uint64_t high = v / 100000000, digits;
	unsigned zeros;

	digits = eight_digits((uint32_t)(v % 100000000));
	memcpy(out + 12, &digits, 8);
	memset(out, '0', 12);
	if (high) {
		digits = eight_digits((uint32_t)(high % 100000000));
		memcpy(out + 4, &digits, 8);
		high /= 100000000; /* at most 1844 */
		digits = eight_digits((uint32_t)high);
		memcpy(out, (char *)&digits + 4, 4);
	}
	for (zeros = 0; zeros < 19 && out[zeros] == '0'; zeros++)
		;
	return zeros;
}

void shmeta__values_part(struct shmeta__values *values, uint64_t key, const char *topic, size_t topic_bytes)
{
	char digits[20];
	unsigned zeros = twenty_digits(digits, (uint32_t)key);

	memset(values, 0, sizeof *values);
	memcpy(values->partition, digits + zeros, 20 - zeros);
	values->value[TOPIC] = (struct shmeta_str){topic, topic_bytes};
	values->value[PARTITION] = (struct shmeta_str){values->partition, 20 - zeros};
}

void shmeta__values_row(struct shmeta__values *values, uint64_t base, uint64_t end)
{
	unsigned zeros = twenty_digits(values->base, base);

	values->value[BASE20] = (struct shmeta_str){values->base, 20};
	values->value[BASE] = (struct shmeta_str){values->base + zeros, 20 - zeros};
	zeros = twenty_digits(values->end, end);
	values->value[END] = (struct shmeta_str){values->end + zeros, 20 - zeros};
}

static int is_placeholder(char c)
{
	return (unsigned char)(c - 1) < PLACEHOLDERS;
}

/* A byte of a string that may change: read once. */
static char byte_of(struct shmeta_str string, size_t i)
{
	return (char)shmeta__once32((unsigned char)string.data[i]);
}

char *shmeta__spell(char *out, const char *end, struct shmeta_str string, int is_template,
                    const struct shmeta__values *values)
{
	if (!is_template) {
		if (string.bytes > (size_t)(end - out))
			return NULL;
		if (string.bytes)
			memcpy(out, string.data, string.bytes);
		return out + string.bytes;
	}
	for (size_t i = 0; i < string.bytes; i++) {
		char c = byte_of(string, i);

		if (is_placeholder(c)) {
			const struct shmeta_str *v = &values->value[(unsigned char)c];

			if (v->bytes > (size_t)(end - out))
				return NULL;
			if (v->bytes)
				memcpy(out, v->data, v->bytes);
			out += v->bytes;
		} else if (out == end) {
			return NULL;
		} else {
			*out++ = c;
		}
	}
	return out;
}

struct shmeta_str shmeta__key_text(const struct shmeta_segment *segment, char scratch[SHMETA_KEY_TEXT])
{
	char digits[20];
	size_t n = sizeof digits, bytes = segment->s3_key.bytes;

	if (bytes > SHMETA_STRING_MAX ||
	    (segment->position == 0 && (!bytes || memchr(segment->s3_key.data, 0, bytes) == NULL)))
		return segment->s3_key;
	for (uint64_t v = segment->position; v != 0 || n == sizeof digits; v /= 10)
		digits[--n] = (char)('0' + v % 10);
	if (bytes)
		memcpy(scratch, segment->s3_key.data, bytes);
	scratch[bytes++] = '\0';
	memcpy(scratch + bytes, digits + n, sizeof digits - n);
	return (struct shmeta_str){scratch, bytes + sizeof digits - n};
}

uint64_t shmeta__key_position(struct shmeta_str *string, int is_template, const struct shmeta__values *values)
{
	const char *nul = string->bytes ? memrchr(string->data, 0, string->bytes) : NULL;
	char digits[20];
	struct shmeta_str rest;
	uint64_t position = 0;
	const char *end;

	if (nul == NULL)
		return 0;
	rest = (struct shmeta_str){nul + 1, (size_t)(string->data + string->bytes - nul) - 1};
	string->bytes = (size_t)(nul - string->data);
	end = shmeta__spell(digits, digits + sizeof digits, rest, is_template, values);
	for (const char *p = digits; end != NULL && p < end; p++)
		position = position * 10 + (uint64_t)(*p - '0');
	return position;
}

int shmeta__spells(struct shmeta_str string, int is_template, const struct shmeta__values *values,
                   struct shmeta_str text)
{
	const char *p = text.bytes ? text.data : "", *end = p + text.bytes;

	if (!is_template)
		return string.bytes == text.bytes && shmeta__runs_equal(string.data, text.data, text.bytes);
	for (size_t i = 0; i < string.bytes; i++) {
		char c = byte_of(string, i);

		if (is_placeholder(c)) {
			const struct shmeta_str *v = &values->value[(unsigned char)c];

			if ((size_t)(end - p) < v->bytes || !shmeta__runs_equal(p, v->data, v->bytes))
				return 0;
			p += v->bytes;
		} else if (p == end || *p++ != c) {
			return 0;
		}
	}
	return p == end;
}

static int is_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

static int is_word(char c)
{
	return is_digit(c) || (unsigned char)((c | 0x20) - 'a') < 26;
}

static int starts_with(const char *p, const char *end, struct shmeta_str s)
{
	return s.bytes && (size_t)(end - p) >= s.bytes && !memcmp(p, s.data, s.bytes);
}

size_t shmeta__template_of(struct shmeta_str text, const struct shmeta__values *values, char *out, int *ret_template)
{
	const char *p = text.bytes ? text.data : "", *begin = p, *end = p + text.bytes;
	const struct shmeta_str *value = values->value;
	int had[PLACEHOLDERS + 1] = {0};
	size_t n = 0;

	*ret_template = 0;
	for (size_t i = 0; i < text.bytes; i++) {
		if (is_placeholder(text.data[i]))
			return text.bytes;
	}
	while (p < end) {
		int kind = 0;

		if (starts_with(p, end, value[TOPIC]) && (p == begin || !is_word(p[-1])) &&
		    (p + value[TOPIC].bytes == end || !is_word(p[value[TOPIC].bytes]))) {
			kind = TOPIC;
		} else if (is_digit(*p)) {
			struct shmeta_str run = {p, 0};

			/* Whole numbers only, so that what stands for one row's number stands for
			 * the next one's too. */
			while (p + run.bytes < end && is_digit(p[run.bytes]))
				run.bytes++;
			/* Where several fit: the partition comes first in all spellings known, then
			 * base, then end. */
			for (int k = PARTITION; k <= END; k++) {
				if (run.bytes == value[k].bytes && !memcmp(p, value[k].data, run.bytes) &&
				    (!kind || had[kind]))
					kind = k;
			}
			if (!kind) {
				memcpy(out + n, p, run.bytes);
				n += run.bytes;
				p += run.bytes;
				continue;
			}
		}
		if (kind) {
			had[kind] = 1;
			out[n++] = (char)kind;
			p += value[kind].bytes;
			*ret_template = 1;
		} else {
			out[n++] = *p++;
		}
	}
	return n;
}
