/* SPDX-License-Identifier: Apache-2.0
 * Create a topic and add a segment to it: write [INSTANCE DIRECTORY]. Compile: cc write.c $(pkg-config --cflags --libs shmeta) */
#include <shmeta.h>
#include <stdio.h>

#define TEXT(literal)                        \
	{                                    \
		literal, sizeof(literal) - 1 \
	}

int main(int argc, char **argv)
{
	struct shmeta_options options = {.size = sizeof options, .directory = argc > 1 ? argv[1] : NULL};
	struct shmeta_op ops[2] = {
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = TEXT("written"), .partition_count = 1}},
		{.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	         .name = TEXT("written"),
	         .u.segment = {.id = TEXT("written-0-0"),
	                       .s3_bucket = TEXT("bucket"),
	                       .s3_key = TEXT("data/written/0/00000000000000000000.seg"),
	                       .end_offset = 999,
	                       .record_count = 1000,
	                       .size_bytes = 65536}}};
	struct shmeta_result results[2];
	struct shmeta_client *client;
	struct shmeta_token token;
	struct shmeta *instance;
	enum shmeta_status status;
	char why[480];

	if (shmeta_open(&options, &instance) != SHMETA_OK || shmeta_client_open(instance, NULL, &client) != SHMETA_OK)
		return 1;
	status = shmeta_write(client, ops, 2, 5000, results, &token);
	if (status != SHMETA_OK)
		printf("%s\n", shmeta_last_error(instance, why, sizeof why));
	for (int i = 0; i < 2; i++)
		printf("%s %s\n", shmeta_strerror(results[i].status), results[i].text);
	if (status == SHMETA_OK)
		printf("shown by commit %llu\n", (unsigned long long)token.txn);
	shmeta_client_close(client);
	shmeta_close(instance);
	return status == SHMETA_OK ? 0 : 1;
}
