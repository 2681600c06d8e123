/* SPDX-License-Identifier: Apache-2.0
 * One load of the configuration, for the files that take part in it. */
#ifndef SHMETA_WRITER_CONFIG_CONFIG_LOAD_H
#define SHMETA_WRITER_CONFIG_CONFIG_LOAD_H

#include "writer/config/config_value.h"

enum { CONFIG_OVERRIDES_MAX = 256, CONFIG_SENTENCE = 480 };

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
	size_t override_sections;
	unsigned override_lines[CONFIG_OVERRIDES_MAX]; /* of config->overrides */
};

/* Adds "FILE:LINE: sentence" to what is told; line 0: of the file as a whole, or of a flag. */
__attribute__((format(printf, 3, 4))) void config_mistake(struct config_load *load, unsigned line, const char *fmt,
                                                          ...);
/* Tells the listener (may be NULL) of each mistake, in the order of the lines. OK: there was none. */
enum shmeta_status config_tell_mistakes(struct config_load *load, const struct config_listener *listener,
                                        struct shmeta_err *err);

/* Options that contradict each other, and a source that would be refused. */
void config_judge_whole(struct config_load *load);

/* "; did you mean 'x'?", or "" where no name is near. */
const char *config_suggest_option(const char *section, const char *name, char *buffer, size_t bytes);
const char *config_suggest_section(const char *name, char *buffer, size_t bytes);

#endif
