/* SPDX-License-Identifier: Apache-2.0
 * Errors: a code for the program, a text for humans. Each layer may prefix what it was doing; only
 * the daemon and the tools print. */
#ifndef SHMETA_BASE_ERR_H
#define SHMETA_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"

struct shmeta_err {
	enum shmeta_status code;
	char text[480];
	/* Of a number that is out of range (most > 0): it, and its limits. */
	uint64_t value, least, most;
};

/* As snprintf(), for error texts: a text that does not fit is cut after a whole UTF-8 character and
 * ends in "...". */
__attribute__((format(printf, 3, 4))) void shmeta__say(char *ret, size_t capacity, const char *fmt, ...);
__attribute__((format(printf, 3, 0))) void shmeta__vsay(char *ret, size_t capacity, const char *fmt, va_list ap);

/* Fill err (may be NULL) and return code, so that an error site is one return. */
__attribute__((format(printf, 3, 4))) enum shmeta_status shmeta_fail(struct shmeta_err *err, enum shmeta_status code,
                                                                     const char *fmt, ...);

/* Put "prefix: " before err's sentence; returns err's code. Call it only on an error site that has
 * filled err. */
__attribute__((format(printf, 2, 3))) enum shmeta_status shmeta_fail_prefix(struct shmeta_err *err, const char *fmt,
                                                                            ...);

/* "text: strerror(error)"; EACCES and EPERM give ERR_PERMISSION, ENOMEM gives ERR_NO_MEMORY,
 * ENOSPC, EDQUOT and EFBIG give ERR_FULL, others ERR_SYSTEM. */
__attribute__((format(printf, 3, 4))) enum shmeta_status shmeta_fail_errno(struct shmeta_err *err, int error,
                                                                           const char *fmt, ...);

#endif
