/* SPDX-License-Identifier: Apache-2.0
 * One option's value; for the files of this directory. */
#ifndef SHMETA_WRITER_CONFIG_CONFIG_VALUE_H
#define SHMETA_WRITER_CONFIG_CONFIG_VALUE_H

#include "writer/config/config.h"
#include "writer/resident/ttl.h"

/* The titled section, ttl_override "PREFIX" { ttl_ms = ... }, and its only option. */
#define CONFIG_OVERRIDE "ttl_override"
extern const struct config_option config_override_ttl;

const char *config_text(const struct config *config, const struct config_option *o);
char **config_text_at(struct config *config, const struct config_option *o);
uint64_t config_number(const struct config *config, const struct config_option *o);
/* The number that is in force: where 0 stands for what the preset of bounded.freshness has, the
 * preset's. */
uint64_t config_effective(const struct config *config, const struct config_option *o);
uint64_t *config_number_at(struct config *config, const struct config_option *o);
/* Replaces *text by a copy of value. False: no memory. */
bool config_set_text(char **text, const char *value);

/* Is value, as in a file, one that the option may have? *ret: its number, unless it is a text.
 * ret_why: what is wrong. */
bool config_parse_value(const struct config_option *o, const char *value, uint64_t *ret, char *ret_why, size_t bytes);
/* The shortest way to write a number that reads back the same. */
const char *config_spell(enum config_kind kind, uint64_t value, char *buffer, size_t bytes);
/* The value as it is shown: spelled, without passwords. */
const char *config_shown(const struct config *config, const struct config_option *o, char *buffer, size_t bytes);
/* The times to live of section bounded; max_ms 0: fixed ones. Returns what is wrong with them, a
 * constant; NULL: nothing. */
const char *config_freshness(const struct config *config, struct ttl_config *ret);
/* The longest time that a reader may take an answer for fresh, and the option that says so. */
uint64_t config_longest_ttl(const struct config *config, const char **ret_key);

#endif
