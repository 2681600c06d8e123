/* SPDX-License-Identifier: Apache-2.0
 * One load of the configuration, for the files that take part in it. */
#ifndef SHMETA_WRITER_CONFIG_CONFIG_LOAD_H
#define SHMETA_WRITER_CONFIG_CONFIG_LOAD_H

#include "writer/config/config_value.h"

enum { CONFIG_FILES_MAX = 65, CONFIG_OVERRIDES_MAX = 256, CONFIG_SENTENCE = 480 };

/* Where something stands. All zero: in the file as a whole, or nowhere. */
struct config_place {
	unsigned file; /* index of config_load.files */
	unsigned line; /* 0: of no line */
};

struct config_mistake {
	struct config_place place;
	char *sentence;
};

struct config_load {
	struct config *config;
	char *files[CONFIG_FILES_MAX]; /* the file, then its drop-ins in the order of their names;
                                     * none: no file was named */
	unsigned file_count;
	struct config_mistake *mistakes;
	size_t count;
	bool no_memory;
	struct config_place at;                          /* the file and line that are being read */
	struct config_place places[CONFIG_OPTION_COUNT]; /* where an option was set; line 0: in no
                                                          * file */
	size_t override_sections;
	struct config_place override_places[CONFIG_OVERRIDES_MAX]; /* of config->overrides */
};

/* Adds "FILE:LINE: sentence" to what is told, or "FILE: sentence" where the place has no line. */
__attribute__((format(printf, 3, 4))) void config_mistake(struct config_load *load, struct config_place place,
                                                          const char *fmt, ...);
/* Adds a sentence that belongs to no file. */
void config_mistake_of_flag(struct config_load *load, const char *sentence);
/* Tells the listener (may be NULL) of each mistake, in the order of the files and lines. OK: there
 * was none. */
enum shmeta_status config_tell_mistakes(struct config_load *load, const struct config_listener *listener,
                                        struct shmeta_err *err);

/* Options that contradict each other, and a source that would be refused. */
void config_judge_whole(struct config_load *load);

/* "; did you mean 'x'?", or "" where no name is near. */
const char *config_suggest_option(const char *section, const char *name, char *buffer, size_t bytes);
const char *config_suggest_section(const char *name, char *buffer, size_t bytes);

#endif
