/* SPDX-License-Identifier: Apache-2.0
 * Text without secrets. Owns: what counts as one. */
#ifndef SHMETA_TOOLS_SHMETACTL_REDACT_H
#define SHMETA_TOOLS_SHMETACTL_REDACT_H

#include <stddef.h>

/* Texts that are secrets whatever stands around them: passwords that are known. */
struct redact_known {
	char **text;
	size_t count;
};
/* Adds one. One of less than 4 bytes counts where no letter or digit stands beside it: otherwise it
 * would be found everywhere. */
void redact_know(struct redact_known *known, const char *text, size_t bytes);
/* Adds what a text, as a file of configuration or of libpq, names as secrets. */
void redact_know_named(struct redact_known *known, const char *text, size_t bytes);
void redact_forget(struct redact_known *known);

/* A copy in which "***" stands for each secret: what is known, as it is or percent-encoded, escaped
 * with backslashes, as in JSON, or with its quotes doubled; the password of a URI
 * (scheme://user:SECRET@host), the value of a key whose name, which may be percent-encoded, says so
 * (password, passwd, secret, token, access_key, private_key, credential, sslkey, pgpass: followed
 * by '=', ':' or a quote; behind "--" by a blank), and what is between BEGIN and END of a private
 * key. Owns: the caller frees it. */
char *redact(const struct redact_known *known, const char *text, size_t bytes, size_t *ret_bytes);

#endif
