/* SPDX-License-Identifier: Apache-2.0
 * The process's secret (secret.h). */
#include "base/secret.h"

#include <pthread.h>
#include <sys/random.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static uint64_t secret;

static void draw(void)
{
	struct timespec now;

	if (getrandom(&secret, sizeof secret, GRND_NONBLOCK) == (ssize_t)sizeof secret)
		return;
	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	secret = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t shmeta__secret(void)
{
	static pthread_once_t drawn = PTHREAD_ONCE_INIT;

	(void)pthread_once(&drawn, draw);
	return secret;
}

uint64_t shmeta__secret_hash(uint64_t number)
{
	return XXH3_64bits_withSeed(&number, sizeof number, shmeta__secret());
}
