/* SPDX-License-Identifier: Apache-2.0
 * AWS Signature Version 4 as its receiver checks it, from the bytes of a request alone. It shares
 * nothing with what it checks: not the signer's code and not its library (SHA-256 is its own). */
#ifndef SHMETA_TESTS_SUPPORT_DDB_VERIFY_H
#define SHMETA_TESTS_SUPPORT_DDB_VERIFY_H

#include <stdbool.h>
#include <stddef.h>

struct ddb_login {
	char access[64], secret[64], token[64]; /* token "": none is expected */
	bool expired;
};

enum { DDB_VERIFY_WHY = 256 };

/* head: the request line and the header lines, each ended by CR LF, terminated. NULL: the signature
 * is right, of one of the logins, of this region and of now. Otherwise the type of the error that
 * AWS answers, and why. */
const char *ddb_verify(const char *head, const void *body, size_t bytes, const char *region,
                       const struct ddb_login *logins, size_t count, char why[DDB_VERIFY_WHY]);

/* 64 hexadecimal digits, terminated. */
void ddb_verify_sha256(const void *data, size_t bytes, char ret[65]);

#endif
