/* SPDX-License-Identifier: Apache-2.0
 * Configuration files: any bytes are either refused with a sentence or give a configuration within
 * its limits, and a file that was refused does not spoil the next one. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "writer/config/config.h"

static void told(void *arg, const char *sentence)
{
	require(sentence[0] != '\0' && strchr(sentence, '\n') == NULL);
	++*(size_t *)arg;
}

static struct config *load(const void *data, size_t bytes, size_t *ret_mistakes)
{
	const struct config_listener listener = {.arg = ret_mistakes, .problem = told};
	int fd = memfd_create("config", MFD_CLOEXEC);
	struct config *config = NULL;
	struct shmeta_err err = {.text = ""};
	char path[64];
	struct config_flags flags = {.file = path};

	*ret_mistakes = 0;
	require(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (config_load(&flags, &listener, &config, &err) == SHMETA_OK)
		require(config != NULL && *ret_mistakes == 0);
	else
		require(config == NULL && *ret_mistakes > 0 && err.text[0] != '\0');
	close(fd);
	return config;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char good[] = "ttl { topic_ms = 7s }";
	static unsigned loads;
	size_t mistakes;
	struct config *config = load(data, bytes, &mistakes);

	for (size_t i = 0; config != NULL && i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		uint64_t number;

		require(config->origin[i] != NULL);
		if (o->kind == CONFIG_TEXT)
			continue;
		memcpy(&number, (const char *)config + o->at, sizeof(number));
		require(number >= o->min && number <= o->max);
	}
	config_free(config);
	/* A load costs far more than what it is given: not after each one. */
	if (loads++ % 16 != 0)
		return 0;
	config = load(good, sizeof(good) - 1, &mistakes);
	require(config != NULL && config->ttl_topic_ms == 7000);
	config_free(config);
	return 0;
}
