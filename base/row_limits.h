/* SPDX-License-Identifier: Apache-2.0
 * The limits of rows from outside (semantics C9): of names and texts by themselves, and of whole
 * rows. */
#ifndef SHMETA_BASE_ROW_LIMITS_H
#define SHMETA_BASE_ROW_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"

enum { SHMETA_PARTITIONS_MAX = 100000 }; /* of one topic: ids are 0 to 99 999 */

/* A name of 1..max bytes of UTF-8 without control characters. NULL when it is one, otherwise what
 * is wrong with it. */
const char *shmeta__name_error(const void *text, size_t bytes, size_t max);
/* Text of up to max bytes: UTF-8 without NUL (what the library spells ends in one), and, unless
 * controls, without control characters. NULL, or what is wrong with it. */
const char *shmeta__text_error(const void *text, size_t bytes, size_t max, int controls);
/* Whole rows. NULL, or what is wrong: the field, the value and the limit, built in text. */
const char *shmeta__topic_error(const struct shmeta_topic *topic, char *text, size_t bytes);
const char *shmeta__segment_error(const struct shmeta_segment *segment, char *text, size_t bytes);
const char *shmeta__partition_error(const struct shmeta_partition *partition, char *text, size_t bytes);

#endif
