/* SPDX-License-Identifier: Apache-2.0
 * One client used by many threads, for ThreadSanitizer: blocking writes with long and short
 * deadlines, an event loop that submits, threads that ask for the descriptor, other clients that
 * open and close, while the writer answers late, breaks connections and changes epoch. Ends with 0
 * when every answer was the caller's own. A plain program, as Criterion cannot run under
 * ThreadSanitizer. */
#include "tests/support/fake_writer.c"     /* NOLINT(bugprone-suspicious-include) */
#include "tests/support/scratch.c"         /* NOLINT(bugprone-suspicious-include) */
#include "tests/support/scripted_writer.c" /* NOLINT(bugprone-suspicious-include) */

enum { WRITERS = 6, WRITES = 400, SUBMITS = 1500, FRAMES_A_LIFE = 300 };

static struct shmeta *instance;
static struct shmeta_client *client;
static struct scripted_writer writer;
static char directory[64];
static int stop;
static uint64_t wrong, answered, unknown, late;

static void is_wrong(const char *what, int status)
{
	(void)fprintf(stderr, "wrong: %s (%d)\n", what, status);
	(void)__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

static void count(uint64_t *counter)
{
	(void)__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

/* ---- the writer ---- */

/* The answer says which partition was asked for: so each caller knows its own. */
static void echo(const struct scripted_write *write)
{
	static struct shmeta_result results[SCRIPTED_OPS];

	for (size_t i = 0; i < write->count; i++)
		results[i] = (struct shmeta_result){.partition_id = write->ops[i].partition_id,
		                                    .count = write->ops[i].offset};
	scripted_results(&writer, write, results, SHMETA_OK, 1, 1);
}

static void *serve_clients(void *arg)
{
	static struct scripted_write got;
	unsigned int frames = 0;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		int rc;

		if (writer.fd < 0 && scripted_accept(&writer, 20)) {
			scripted_take_hello(&writer);
			scripted_welcome(&writer);
		}
		if (writer.fd < 0)
			continue;
		rc = scripted_take(&writer, &got, 20);
		if (rc == 1 && ++frames % FRAMES_A_LIFE == 0) {
			/* Without an answer; every other time it is a new writer. */
			writer.epoch += frames / FRAMES_A_LIFE % 2;
			rc = -1;
		}
		if (rc == 1 && frames % 97 == 0)
			(void)poll(NULL, 0, 3);
		if (rc == 1)
			echo(&got);
		if (rc < 0)
			scripted_close(&writer);
	}
	return NULL;
}

/* ---- callers ---- */

static struct shmeta_op operation(uint32_t partition, uint64_t offset)
{
	return (struct shmeta_op){.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE,
	                          .name = {"topic", 5},
	                          .partition_id = partition,
	                          .offset = offset,
	                          .request_id = {offset % 2, offset % 2 == 0 ? 0 : partition}};
}

static void judge(enum shmeta_status status, const struct shmeta_result *results, size_t n, uint32_t partition,
                  uint64_t offset)
{
	for (size_t i = 0; i < n; i++)
		if (results[i].status == SHMETA_OK &&
		    (results[i].partition_id != partition || results[i].count != offset + i))
			is_wrong("another caller's answer", (int)results[i].partition_id);
	switch ((int)status) {
	case SHMETA_OK:
		count(&answered);
		break;
	case SHMETA_ERR_OUTCOME_UNKNOWN:
		count(&unknown);
		break;
	case SHMETA_ERR_TIMEOUT:
	case SHMETA_ERR_BUSY:
	case SHMETA_ERR_WRITER_AWAY:
		count(&late);
		break;
	default:
		is_wrong("status", status);
	}
}

static void *write_often(void *arg)
{
	uint32_t partition = (uint32_t)(uintptr_t)arg;

	for (uint64_t i = 0; i < WRITES; i++) {
		struct shmeta_op ops[3];
		struct shmeta_result results[3];
		size_t n = 1 + i % 3;

		for (size_t k = 0; k < n; k++)
			ops[k] = operation(partition, i * 3 + k);
		judge(shmeta_write(client, ops, n, i % 16 == 0 ? 1 : 20000, results, NULL), results, n, partition,
		      i * 3);
	}
	return NULL;
}

struct submitted {
	uint64_t offset;
	uint64_t times;
};

static void submitted_done(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t n,
                           const struct shmeta_token *token)
{
	struct submitted *s = arg;

	(void)token;
	s->times++;
	judge(status, results, n, WRITERS + 1, s->offset);
}

static void *loop(void *arg)
{
	struct submitted *all = arg;
	uint64_t n = 0;

	while (n < SUBMITS) {
		struct shmeta_op op = operation(WRITERS + 1, n);
		enum shmeta_status status;
		uint32_t wait_ms = 0;

		all[n].offset = n;
		status = shmeta_submit(client, &op, 1, submitted_done, &all[n]);
		if (status == SHMETA_OK)
			n++;
		else if (status != SHMETA_ERR_BUSY)
			is_wrong("submit", status);
		if (n % 8 == 0 || status == SHMETA_ERR_BUSY) {
			struct pollfd p = {.fd = shmeta_client_fd(client), .events = shmeta_client_events(client)};

			(void)poll(&p, 1, 1);
			status = shmeta_client_process(client, &wait_ms);
			if (status != SHMETA_OK && status != SHMETA_ERR_WRITER_AWAY)
				is_wrong("process", status);
		}
	}
	return NULL;
}

static void *open_and_close(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		struct shmeta_client *other;

		if (shmeta_client_open(instance, NULL, &other) != SHMETA_OK) {
			is_wrong("open", 0);
			continue;
		}
		(void)shmeta_client_fd(client);
		(void)shmeta_client_events(client);
		shmeta_client_close(other);
		(void)poll(NULL, 0, 1);
	}
	return NULL;
}

int main(void)
{
	static struct submitted submitted[SUBMITS];
	const struct shmeta_client_options options = {.size = sizeof options, .requests_max = 64};
	struct fake_writer *board = fake_writer_unpublished();
	pthread_t server, event_loop, opener, writers[WRITERS];

	(void)snprintf(directory, sizeof directory, "%s", board->dir);
	instance = fake_open(board, NULL, SHMETA_OPEN_UNREGISTERED, 0);
	scripted_listen(&writer, directory);
	if (instance == NULL || shmeta_client_open(instance, &options, &client) != SHMETA_OK)
		return 1;
	granted(pthread_create(&server, NULL, serve_clients, NULL) == 0 &&
	                pthread_create(&event_loop, NULL, loop, submitted) == 0 &&
	                pthread_create(&opener, NULL, open_and_close, NULL) == 0,
	        "threads");
	for (uintptr_t i = 0; i < WRITERS; i++)
		granted(pthread_create(&writers[i], NULL, write_often, (void *)(i + 1)) == 0, "threads");
	for (int i = 0; i < WRITERS; i++)
		(void)pthread_join(writers[i], NULL);
	(void)pthread_join(event_loop, NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	(void)pthread_join(opener, NULL);
	(void)pthread_join(server, NULL);
	shmeta_client_close(client);
	for (int i = 0; i < SUBMITS; i++)
		if (submitted[i].times != 1)
			is_wrong("a callback did not run once", (int)submitted[i].times);
	shmeta_close(instance);
	scripted_stop(&writer);
	fake_writer_free(board);
	(void)printf("%llu answered, %llu unknown, %llu too late or not sent, %u connections\n",
	             (unsigned long long)answered, (unsigned long long)unknown, (unsigned long long)late,
	             writer.accepted);
	if (answered < WRITES || unknown == 0 || writer.accepted < 3)
		is_wrong("too little happened", 0);
	return wrong == 0 ? 0 : 1;
}
