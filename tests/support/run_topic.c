/* SPDX-License-Identifier: Apache-2.0
 * See run_topic.h. */
#include "tests/support/run_topic.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/pg_cluster.h"
#include "tests/support/run_daemon.h"

enum shmeta_status run_topic_create(struct shmeta_client *client, const char *name, uint32_t partitions,
                                    struct shmeta_result *ret)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = {name, strlen(name)}, .partition_count = partitions}};
	enum shmeta_status status;

	memset(ret, 0, sizeof *ret);
	status = shmeta_write(client, &op, 1, RUN_TOPIC_PATIENCE_S * 1000, ret, NULL);
	return status != SHMETA_OK ? status : ret->status;
}

int run_topic_cached(struct shmeta_reader *reader, const char *name)
{
	struct shmeta_topic topic;
	int found;

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	found = shmeta_get_topic(reader, name, strlen(name), NULL, &topic, NULL) == SHMETA_OK;
	(void)shmeta_end(reader);
	return found;
}

void run_topic_insert(PGconn *conn, const char *name)
{
	char text[200];

	(void)snprintf(text, sizeof text,
	               "INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES ('%s', 1, 1, "
	               "1, '{}')",
	               name);
	pg_cluster_sql(conn, text);
}

int run_topic_stored(PGconn *conn, const char *name)
{
	const char *values[] = {name};
	PGresult *result = PQexecParams(conn, "SELECT 1 FROM topics WHERE name = $1", 1, NULL, values, NULL, NULL, 0);
	int found = PQntuples(result);

	PQclear(result);
	return found;
}

void run_topic_await(struct shmeta_reader *reader, const char *name, int there)
{
	for (double end = run_now_s() + RUN_TOPIC_PATIENCE_S; run_topic_cached(reader, name) != there;
	     (void)usleep(2000))
		cr_assert_lt(run_now_s(), end, "%s is %sin the cache", name, there ? "not " : "");
}
