/* SPDX-License-Identifier: Apache-2.0
 * An emulator of DynamoDB of one's own, for tests: ministack (tests/requirements.txt) on loopback,
 * its tables in memory, gone when it is stopped and when the process that started it dies. */
#ifndef SHMETA_TESTS_SUPPORT_DDB_SERVER_H
#define SHMETA_TESTS_SUPPORT_DDB_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ddb_server {
	pid_t pid;
	uint16_t port;
	char dir[64]; /* its log lies here */
};

/* Is the emulator installed? */
bool ddb_server_installed(void);
/* A failure ends the program with a sentence. It sets the credentials that the emulator is asked
 * with in the environment, too. */
void ddb_server_start(struct ddb_server *server);
void ddb_server_stop(struct ddb_server *server);
/* "dynamodb://us-east-1/PREFIX?endpoint=http://127.0.0.1:PORT" */
void ddb_server_uri(uint16_t port, const char *prefix, char *ret, size_t bytes);

#endif
