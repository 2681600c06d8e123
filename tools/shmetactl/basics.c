/* SPDX-License-Identifier: Apache-2.0
 * Memory, time, numbers and names of classes; the table of options. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/shmetactl/out.h"

void tool_no_memory(void)
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
		tool_no_memory();
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

uint64_t tool_monotonic_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t tool_wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool tool_parse_u64(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		uint64_t digit = (uint64_t)(*text - '0');

		if (*text < '0' || *text > '9' || value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	if (value > max)
		return false;
	*ret = value;
	return true;
}

const struct tool_option_row tool_options[TOOL_OPT_NUMBER] = {
#define X(name, flag, arg, global, help) [TOOL_OPT_##name] = {flag, arg, help, global},
	TOOL_OPTION_LIST(X)
#undef X
};

const char *const tool_classes[SHMETA_CLASS_COUNT] = {
#define X(name, number, text, ttl_ms) [SHMETA_CLASS_##name] = text,
	SHMETA_CLASS_LIST(X)
#undef X
};

enum shmeta_class tool_class(const char *name)
{
	int cls = 0;

	while (cls < SHMETA_CLASS_COUNT && strcmp(name, tool_classes[cls]) != 0)
		cls++;
	return (enum shmeta_class)cls;
}
