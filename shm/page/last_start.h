/* SPDX-License-Identifier: Apache-2.0
 * <instance>/last_start: why the newest start of a writer failed, for whoever looks at what the
 * writer before it left. A text file of one line, "MILLISECONDS SENTENCE\n": CLOCK_REALTIME in
 * milliseconds, and the sentence. It is replaced as a whole, only by who holds writer.lock, and
 * removed by the next start that succeeds.
 *
 * <instance>/paused: a file of the same form, there while the source is to be left alone: since
 * when and why. Made and removed by the writer alone, which obeys the one that it finds at its
 * start. */
#ifndef SHMETA_SHM_PAGE_LAST_START_H
#define SHMETA_SHM_PAGE_LAST_START_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define SHMETA_LAST_START "last_start"
#define SHMETA_PAUSED "paused"

struct shmeta_last_start {
	int64_t failed_at_ms;
	char sentence[1024];
};

/* false: the newest start did not fail, or the file is not of this form. The sentence is text of
 * others: escape it. */
bool shmeta__last_start_read(int dir_fd, struct shmeta_last_start *ret);
/* Errors: ERR_FULL, ERR_PERMISSION, ERR_SYSTEM; an older record then stays. */
enum shmeta_status shmeta__last_start_write(int dir_fd, int64_t failed_at_ms, const char *sentence,
                                            struct shmeta_err *err);
void shmeta__last_start_remove(int dir_fd);

/* The same of a pause; failed_at_ms: since when. */
bool shmeta__paused_read(int dir_fd, struct shmeta_last_start *ret);
enum shmeta_status shmeta__paused_write(int dir_fd, int64_t since_ms, const char *sentence, struct shmeta_err *err);
void shmeta__paused_remove(int dir_fd);

#endif
