/* SPDX-License-Identifier: Apache-2.0
 * An agent that looks up topic "t" until it is told to stop (SIGTERM), and then says how that went;
 * on SIGUSR1 it says so at once and goes on. */
#include <shmeta.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t stop, tell;

static void on_signal(int signo)
{
	if (signo == SIGTERM)
		stop = 1;
	else
		tell = 1;
}

int main(void)
{
	struct shmeta_options options = {.size = sizeof options, .agent = "reader"};
	struct shmeta_snapshot_info info = {.registered = 0};
	struct shmeta_reader *reader;
	struct shmeta_topic topic;
	struct shmeta *instance;
	unsigned long lookups = 0, failed = 0, epochs = 0, generations = 0, epoch = 0, generation = 0;
	enum shmeta_status status = shmeta_open(&options, &instance);

	signal(SIGTERM, on_signal);
	signal(SIGUSR1, on_signal);
	if (status != SHMETA_OK || (status = shmeta_reader_new(instance, &reader)) != SHMETA_OK) {
		printf("cannot open: %s\n", shmeta_strerror(status));
		return 1;
	}
	for (;;) {
		for (int tries = 0; (status = shmeta_begin(reader)) == SHMETA_ERR_CONTENDED && tries < 1000; tries++)
			;
		if (status == SHMETA_OK)
			status = shmeta_get_topic(reader, "t", 1, NULL, &topic, NULL);
		lookups++;
		failed += status != SHMETA_OK;
		if (shmeta_snapshot_info(reader, &info) == SHMETA_OK) {
			epochs += info.epoch != epoch;
			generations += info.generation != generation;
			epoch = info.epoch;
			generation = info.generation;
		}
		shmeta_end(reader);
		if (stop || tell) {
			printf("lookups=%lu failed=%lu epochs=%lu generations=%lu registered=%u\n", lookups, failed,
			       epochs, generations, info.registered);
			fflush(stdout);
			tell = 0;
		}
		if (stop)
			break;
		usleep(5000);
	}
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return 0;
}
