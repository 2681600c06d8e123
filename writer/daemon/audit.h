/* SPDX-License-Identifier: Apache-2.0
 * Who wrote what: one line for each user and kind of operation, at most one a second. The engine's
 * thread. */
#ifndef SHMETA_WRITER_DAEMON_AUDIT_H
#define SHMETA_WRITER_DAEMON_AUDIT_H

#include "writer/engine/sync.h"

enum shmeta_status audit_init(struct sync *s, struct shmeta_err *err);
void audit_free(struct sync *s);
/* What became of the operations of one call. again: which were answered with the result of one that
 * came before, and not done. */
void audit_ops(struct sync *s, const char *who, struct shmeta_str tenant, const struct shmeta_op *ops,
               const struct shmeta_result *results, const bool *again, size_t count);
void audit_say(struct sync *s, const char *text); /* a whole line */
void audit_run(struct sync *s);
void audit_flush(struct sync *s); /* before the end */

#endif
