/* SPDX-License-Identifier: Apache-2.0
 * A poll loop that writes without ever waiting for an answer: event_loop DIRECTORY. It commits an
 * offset for each of a hundred consumer groups of the topic that examples/write.c makes. */
#include <poll.h>
#include <shmeta.h>
#include <stdio.h>
#include <string.h>

enum { COMMITS = 100, ROUNDS_MAX = 600 };

struct progress {
	int done, failed;
};

/* Called by shmeta_client_process(), once for each call that was submitted. The results die when it
 * returns. */
static void committed(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                      const struct shmeta_token *token)
{
	struct progress *progress = arg;

	(void)count;
	(void)token;
	progress->done++;
	if (status == SHMETA_OK && results[0].status == SHMETA_OK)
		return;
	progress->failed++;
	printf("%s\n", results[0].text);
}

/* BUSY: too much is under way; try again after the next round. */
static enum shmeta_status commit(struct shmeta_client *client, int number, struct progress *progress)
{
	struct shmeta_op op = {.type = SHMETA_OP_COMMIT_OFFSET, .name = {"written", 7}};
	char group[16];

	op.u.committed.group_id.data = group;
	op.u.committed.group_id.bytes = (size_t)snprintf(group, sizeof group, "group-%d", number);
	op.u.committed.committed_offset = (uint64_t)number;
	return shmeta_submit(client, &op, 1, committed, progress);
}

int main(int argc, char **argv)
{
	char why[480] = "";
	struct shmeta_options options = {.size = sizeof options, .error = why, .error_bytes = sizeof why};
	struct shmeta_client_options limits = {.size = sizeof limits, .requests_max = 32, .submit_timeout_ms = 10000};
	struct progress progress = {0, 0};
	struct shmeta_client *client;
	struct shmeta *instance;
	uint32_t wait_ms;
	int next = 0;

	if (argc != 2 || argv[1][0] == '-') { /* no default: it writes */
		fprintf(stderr,
		        "usage: event_loop DIRECTORY, that of an instance in which examples/write.c has made its topic\n");
		return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	options.directory = argv[1];
	if (shmeta_open(&options, &instance) != SHMETA_OK) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	if (shmeta_client_open(instance, &limits, &client) != SHMETA_OK) {
		fprintf(stderr, "%s\n", shmeta_last_error(instance, why, sizeof why));
		return 1;
	}
	for (int round = 0; progress.done < COMMITS && round < ROUNDS_MAX; round++) {
		struct pollfd p;

		while (next < COMMITS && commit(client, next, &progress) == SHMETA_OK)
			next++;
		/* Ask anew before each wait: the descriptor changes with the connection, the events
		 * with what is unsent. */
		(void)!shmeta_client_process(client, &wait_ms);
		p = (struct pollfd){.fd = shmeta_client_fd(client), .events = shmeta_client_events(client)};
		(void)poll(&p, 1, (int)wait_ms);
		if (shmeta_client_process(client, NULL) == SHMETA_ERR_WRITER_AWAY)
			continue; /* it reconnects by itself; what was not sent waits */
	}
	shmeta_client_close(client); /* calls without an answer are told now */
	shmeta_close(instance);
	printf("%d committed, %d failed\n", progress.done - progress.failed, progress.failed);
	return progress.failed == 0 && progress.done == COMMITS ? 0 : 1;
}
