/* SPDX-License-Identifier: Apache-2.0
 * What support-bundle knows of the secrets of an instance before it writes anything: all places
 * from which the daemon, or libpq for it, can have one. */
#ifndef SHMETA_TOOLS_SHMETACTL_LEARN_SECRETS_H
#define SHMETA_TOOLS_SHMETACTL_LEARN_SECRETS_H

#include <stdint.h>

#include "tools/shmetactl/redact.h"
#include "tools/shmetactl/tool.h"

struct learn {
	struct redact_known *known;
	const char *unit;    /* of the daemon; whose credentials are meant by a name without '/' */
	char *writers, *own; /* environments, as the kernel gives them */
	size_t writers_bytes, own_bytes;
};

/* Environments and command lines, and the files that they name. pid: of the writer; 0: it is not
 * known. */
void learn_begin(struct learn *l, struct redact_known *known, const char *unit, uint64_t pid);
/* A text of configuration, as its file has it or on one line: URIs, password files, services. */
void learn_config(struct learn *l, const char *text, size_t bytes);
/* A file whose first line is a password. */
void learn_password_file(struct learn *l, const char *path);
void learn_end(struct learn *l);

/* Up to 64 MiB of a file, terminated; NULL, errno: it cannot be read. Owns: the caller frees it. */
char *learn_read(const char *path, size_t *ret_bytes);

#endif
