/* SPDX-License-Identifier: Apache-2.0
 * `make demo`: what the driver knows, and how it prints. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "tools/demo/driver.h"

struct demo_driver driver;

const char *demo_bold(const char *text)
{
	static char buffer[4][256];
	static unsigned next;
	char *b = buffer[next++ % 4];

	if (!driver.color)
		return text;
	(void)snprintf(b, sizeof(buffer[0]), "\033[1m%s\033[0m", text);
	return b;
}

const char *demo_number(uint64_t value)
{
	static char buffer[8][40];
	static unsigned next;
	char digits[24], *b = buffer[next++ % 8];
	int n = snprintf(digits, sizeof(digits), "%" PRIu64, value), at = 0;

	for (int i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			b[at++] = ' ';
		b[at++] = digits[i];
	}
	b[at] = '\0';
	return b;
}

void demo_title(const char *text)
{
	(void)printf("\n%s\n", demo_bold(text));
	(void)fflush(stdout);
}

__attribute__((format(printf, 2, 3))) void demo_fact(const char *name, const char *fmt, ...)
{
	va_list ap;

	(void)printf("  %-30s ", name);
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
	(void)putchar('\n');
	(void)fflush(stdout);
}
