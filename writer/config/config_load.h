/* SPDX-License-Identifier: Apache-2.0
 * One load of the configuration, for the files that judge it. */
#ifndef SHMETA_WRITER_CONFIG_CONFIG_LOAD_H
#define SHMETA_WRITER_CONFIG_CONFIG_LOAD_H

#include "writer/config/config.h"

#define CONFIG_OVERRIDE "ttl_override"

struct config_mistake {
	unsigned line; /* 0: of no line */
	char *sentence;
};

struct config_load {
	struct config *config;
	const char *path;
	struct config_mistake *mistakes;
	size_t count;
	bool no_memory;
	unsigned lines[CONFIG_OPTION_COUNT]; /* where an option was set; 0: not in the file */
};

/* Adds "FILE:LINE: sentence" to what is told; line 0: of the file as a whole, or of a flag. */
__attribute__((format(printf, 3, 4))) void config_mistake(struct config_load *load, unsigned line, const char *fmt,
                                                          ...);

/* Options that contradict each other, and a source that would be refused. */
void config_judge_whole(struct config_load *load);

const char *config_text(const struct config *config, const struct config_option *o);
uint64_t config_number(const struct config *config, const struct config_option *o);
/* The shortest way to write a number that reads back the same. */
const char *config_spell(enum config_kind kind, uint64_t value, char *buffer, size_t bytes);
/* The longest time that a reader may take an answer for fresh. */
uint64_t config_longest_ttl(const struct config *config, const char **ret_key);

#endif
