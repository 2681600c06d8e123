/* SPDX-License-Identifier: Apache-2.0
 * Error texts. */
#include "base/err.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

void shmeta__vsay(char *ret, size_t capacity, const char *fmt, va_list ap)
{
	static const char mark[] = "...";
	int wanted = vsnprintf(ret, capacity, fmt, ap);
	size_t at;

	if (wanted < 0 || (size_t)wanted < capacity || capacity <= sizeof mark)
		return;
	at = capacity - sizeof mark;
	while (at > 0 && ((uint8_t)ret[at] & 0xc0) == 0x80) /* inside a character */
		at--;
	memcpy(ret + at, mark, sizeof mark);
}

void shmeta__say(char *ret, size_t capacity, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	shmeta__vsay(ret, capacity, fmt, ap);
	va_end(ap);
}

enum shmeta_status shmeta_fail(struct shmeta_err *err, enum shmeta_status code, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return code;
	err->code = code;
	va_start(ap, fmt);
	shmeta__vsay(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	return code;
}

enum shmeta_status shmeta_fail_prefix(struct shmeta_err *err, const char *fmt, ...)
{
	char old[sizeof err->text];
	size_t n;
	va_list ap;

	if (err == NULL)
		return SHMETA_ERR_SYSTEM;
	memcpy(old, err->text, sizeof old);
	va_start(ap, fmt);
	shmeta__vsay(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	shmeta__say(err->text + n, sizeof err->text - n, ": %s", old);
	return err->code;
}

static enum shmeta_status status_of_errno(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return SHMETA_ERR_PERMISSION;
	case ENOMEM:
		return SHMETA_ERR_NO_MEMORY;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return SHMETA_ERR_FULL;
	default:
		return SHMETA_ERR_SYSTEM;
	}
}

enum shmeta_status shmeta_fail_errno(struct shmeta_err *err, int error, const char *fmt, ...)
{
	char why[64];
	const char *reason = strerror_r(error, why, sizeof why);
	size_t room = sizeof err->text - strlen(": ") - strlen(reason), n;
	va_list ap;

	if (err == NULL)
		return status_of_errno(error);
	err->code = status_of_errno(error);
	/* A long path is cut; the reason behind it is not. */
	va_start(ap, fmt);
	shmeta__vsay(err->text, room, fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	(void)snprintf(err->text + n, sizeof err->text - n, ": %s", reason);
	return err->code;
}
