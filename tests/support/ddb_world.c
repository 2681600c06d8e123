/* SPDX-License-Identifier: Apache-2.0
 * Another writer (ddb_world.h). */
#include "tests/support/ddb_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/recorder.h"

struct ddb_world {
	void *state;
	struct recorder recorder;
};

__attribute__((noreturn)) static void die(const char *text)
{
	(void)fprintf(stderr, "another writer: %s\n", text);
	abort();
}

struct ddb_world *ddb_world_open(const struct backend_options *options)
{
	struct ddb_world *world = calloc(1, sizeof *world);
	struct backend_error err = {.code = SHMETA_OK};

	if (world == NULL || (world->state = calloc(1, backend_dynamodb.state_bytes)) == NULL)
		die("no memory");
	recorder_init(&world->recorder);
	if (backend_dynamodb.source->open(world->state, options, &err) != SHMETA_OK)
		die(err.text);
	return world;
}

void ddb_world_close(struct ddb_world *world)
{
	if (world == NULL)
		return;
	backend_dynamodb.source->close(world->state);
	recorder_free(&world->recorder);
	free(world->state);
	free(world);
}

void ddb_world_do(struct ddb_world *world, const char *tenant, const struct shmeta_op *op, int64_t now_ms)
{
	struct backend_op one = {.op = op};
	struct backend_error err = {.code = SHMETA_OK};
	struct shmeta_result result;

	if (tenant == NULL)
		tenant = SHMETA_DEFAULT_TENANT;
	one.tenant = (struct shmeta_str){tenant, strlen(tenant)};
	if (backend_dynamodb.writer->apply(world->state, &one, 1, now_ms, &result, &world->recorder.sink, &err) !=
	    SHMETA_OK)
		die(err.text);
	if (result.status != SHMETA_OK)
		die(result.text);
}

void ddb_world_put(struct ddb_world *world, const struct backend_row *row)
{
	struct backend_error err = {.code = SHMETA_OK};
	struct shmeta_result result = {.status = SHMETA_OK};

	if (backend_dynamodb.admin->restore(world->state, row, 1, &result, &err) != SHMETA_OK)
		die(err.text);
	if (result.status != SHMETA_OK && result.status != SHMETA_ERR_ALREADY_EXISTS)
		die(result.text);
}
