/* SPDX-License-Identifier: Apache-2.0
 * The whole daemon under ThreadSanitizer: its loop, its engine, and clients in other threads that
 * register, pin, ask for refreshes, for the status and for reloads, until it is told to stop. Plain
 * program: Criterion and ThreadSanitizer do not go together. Exit status 0: it ended as asked, and
 * every request was answered. */
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/page/slots.h"
#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "writer/daemon/daemon.h"

enum { REGISTRATIONS = 60, REFRESHES = 2000, BURST = 100, LOOKS = 60, LIVES = 20, LIFE_WRITES = 48, CLIENTS = 4 };

static char directory[] = "/dev/shm/shmeta-loop-XXXXXX";
static _Atomic int failed;

/* LMDB's write lock and the source's lock are taken in both orders, but the former by one thread
 * alone. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "detect_deadlocks=0";
}

static void check(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "not so: %s\n", what);
		failed = 1;
	}
}

static int dial(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/i/control.sock", directory);
	for (int i = 0; i < 5000; i++) {
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		usleep(2000);
	}
	close(fd);
	return -1;
}

static int answered(int fd)
{
	static _Thread_local unsigned char packet[SHMETA_FRAME_MAX];
	const struct shmeta_frame *head = (const void *)packet;

	return recv(fd, packet, sizeof(packet), 0) > 0 && head->type == SHMETA_FRAME_ANSWER;
}

/* A registration that comes, pins and goes. */
static int one_reader(int fd)
{
	struct shmeta_frame_register request = {
		.head = {.bytes = sizeof(request), .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_REGISTER},
		.slot_count = 4};
	struct shmeta_frame_registered answer = {.slot_count = 0};
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {.iov_base = &answer, .iov_len = sizeof(answer)};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	int memfd;
	void *page;

	if (send(fd, &request, sizeof(request), 0) != sizeof(request) ||
	    recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != sizeof(answer) || CMSG_FIRSTHDR(&message) == NULL)
		return 0;
	memcpy(&memfd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	page = mmap(NULL, shmeta__slots_bytes(4), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	close(memfd);
	if (page == MAP_FAILED)
		return 0;
	for (uint64_t commit = 1; commit < 200; commit++) {
		shmeta_poke(&shmeta__slot(page, 1)->generation, 1);
		shmeta_swap(&shmeta__slot(page, 1)->pin, commit);
	}
	munmap(page, shmeta__slots_bytes(4));
	return 1;
}

static void *run_readers(void *arg)
{
	int good = 1;

	(void)arg;
	for (int i = 0; i < REGISTRATIONS && good; i++) {
		int fd = dial();

		good = one_reader(fd);
		close(fd);
	}
	check(good, "each reader is registered");
	return NULL;
}

static void *run_refreshes(void *arg)
{
	int fd = dial(), good = 1;

	(void)arg;
	for (uint32_t i = 0; i < REFRESHES && good; i++) {
		struct shmeta_frame_refresh request = {.head = {.bytes = sizeof(request),
		                                                .version = SHMETA_WIRE_VERSION,
		                                                .type = SHMETA_FRAME_REFRESH,
		                                                .id = i},
		                                       .cls = i % SHMETA_CLASS_COUNT};

		good = send(fd, &request, sizeof(request), 0) == sizeof(request);
		for (int n = 0; i % BURST == BURST - 1 && n < BURST && good; n++)
			good = answered(fd);
	}
	check(good, "each refresh is answered");
	close(fd);
	return NULL;
}

static void *run_looks(void *arg)
{
	int fd = dial(), good = 1;

	(void)arg;
	for (int i = 0; i < LOOKS && good; i++) {
		struct shmeta_frame request = {.bytes = sizeof(request),
		                               .version = SHMETA_WIRE_VERSION,
		                               .type = i % 8 == 7 ? SHMETA_FRAME_RELOAD : SHMETA_FRAME_STATUS};

		good = send(fd, &request, sizeof(request), 0) == sizeof(request) && answered(fd);
		usleep(2000);
	}
	check(good, "each look is answered");
	close(fd);
	return NULL;
}

/* The answer to a write, whichever thread sends it. */
static int written(int fd)
{
	static _Thread_local unsigned char packet[SHMETA_FRAME_MAX];
	const struct shmeta_frame *head = (const void *)packet;

	return recv(fd, packet, sizeof(packet), 0) > 0 && head->type == SHMETA_FRAME_RESULTS;
}

/* One write at a time, writes in bursts, and clients that do not wait for their answers. */
static void *run_writes(void *arg)
{
	int good = 1;

	(void)arg;
	for (int life = 0; life < LIVES && good; life++) {
		struct shmeta_frame_hello hello = {
			.head = {.bytes = sizeof(hello), .version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_HELLO},
			.version_min = SHMETA_WIRE_VERSION,
			.version_max = SHMETA_WIRE_VERSION};
		struct shmeta_frame welcome[8];
		int fd = dial();

		good = send(fd, &hello, sizeof(hello), 0) == sizeof(hello) && recv(fd, welcome, sizeof(welcome), 0) > 0;
		for (int i = 0; i < LIFE_WRITES && good; i++) {
			struct {
				struct shmeta_frame_write write;
				uint64_t op[64];
			} request;
			struct shmeta_op op = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = {"group", 5}};

			memset(&request, 0, sizeof(request));
			request.write.head = (struct shmeta_frame){
				.bytes = (uint32_t)(sizeof(request.write) + shmeta__op_bytes(&op)),
				.version = SHMETA_WIRE_VERSION,
				.type = SHMETA_FRAME_WRITE,
				.id = (uint64_t)i + 1};
			request.write.op_count = 1;
			(void)shmeta__op_encode(&op, request.op, sizeof(request.op));
			good = send(fd, &request, request.write.head.bytes, 0) == (ssize_t)request.write.head.bytes;
			if (i < LIFE_WRITES / 2)
				good = good && written(fd);
			else if (i % 8 == 7 && i + 1 < LIFE_WRITES)
				for (int n = 0; n < 8 && good; n++)
					good = written(fd);
		}
		close(fd);
	}
	check(good, "each write is answered");
	return NULL;
}

/* Waits for the clients and then stops the daemon, as the service manager would. */
static void *run_stop(void *arg)
{
	pthread_t *clients = arg;

	for (int i = 0; i < CLIENTS; i++)
		pthread_join(clients[i], NULL);
	kill(getpid(), SIGTERM);
	return NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

int main(void)
{
	static void *(*const runs[])(void *) = {run_readers, run_refreshes, run_looks, run_writes};
	char instance[64], path[64];
	struct config_flags flags = {.file = path, .source = "memory:", .directory = instance};
	struct config *config = NULL;
	struct shmeta_err err = {.text = ""};
	pthread_t clients[CLIENTS], stopper;
	sigset_t signals;
	FILE *file;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	check(mkdtemp(directory) != NULL, "a directory is made");
	snprintf(instance, sizeof(instance), "%s/i", directory);
	snprintf(path, sizeof(path), "%s/conf", directory);
	file = fopen(path, "we");
	check(file != NULL && fputs("log { level = err }", file) >= 0 && fclose(file) == 0, "a file is written");
	check(config_load(&flags, NULL, &config, &err) == SHMETA_OK, err.text);
	for (int i = 0; i < CLIENTS; i++)
		pthread_create(&clients[i], NULL, runs[i], NULL);
	pthread_create(&stopper, NULL, run_stop, clients);
	check(daemon_run(&flags, config) == DAEMON_OK, "the daemon ends as asked");
	pthread_join(stopper, NULL);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return failed;
}
