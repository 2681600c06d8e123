/* SPDX-License-Identifier: Apache-2.0
 * What clients may ask on control.sock: one function a frame type. Private to writer/serve/. */
#ifndef SHMETA_WRITER_SERVE_VERBS_H
#define SHMETA_WRITER_SERVE_VERBS_H

#include "writer/serve/connection.h"

/* Answer a frame that was checked, or have the engine answer it later. false: the connection is
 * gone. */
bool verbs_handle(struct connection *c, const struct shmeta_frame *frame);
/* Answers that are kept for a moment are made anew: what an administrator has changed shows at
 * once. */
void verbs_forget_answers(struct control *control);

#endif
