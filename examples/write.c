/* SPDX-License-Identifier: Apache-2.0
 * Create a topic and add a segment to it: write DIRECTORY. Compile: cc write.c $(pkg-config
 * --cflags --libs shmeta) */
#include <shmeta.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TEXT(literal)                        \
	{                                    \
		literal, sizeof(literal) - 1 \
	}

int main(int argc, char **argv)
{
	char why[480] = "";
	struct shmeta_options options = {.size = sizeof options, .error = why, .error_bytes = sizeof why};
	struct shmeta_op ops[2] = {
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = TEXT("written"), .partition_count = 1}},
		{.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	         .name = TEXT("written"),
	         .u.segment = {.id = TEXT("written-0-0"),
	                       .s3_bucket = TEXT("bucket"),
	                       .s3_key = TEXT("data/written/0/00000000000000000000.seg"),
	                       .end_offset = 999,
	                       .record_count = 1000,
	                       .size_bytes = 65536,
	                       .created_at_ms = 1000LL * time(NULL)}}};
	static const char *const what[2] = {"topic 'written'", "its segment at offset 0"};
	struct shmeta_result results[2];
	struct shmeta_client *client;
	struct shmeta_token token;
	struct shmeta *instance;
	enum shmeta_status status;

	if (argc != 2 || argv[1][0] == '-') { /* no default: it writes */
		fprintf(stderr, "usage: write DIRECTORY, that of an instance, such as /dev/shm/me-shmeta\n");
		return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	options.directory = argv[1];
	if (shmeta_open(&options, &instance) != SHMETA_OK) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	if (shmeta_client_open(instance, NULL, &client) != SHMETA_OK) {
		fprintf(stderr, "%s\n", shmeta_last_error(instance, why, sizeof why));
		return 1;
	}
	/* So that the library may send them again when an answer is lost. */
	for (int i = 0; i < 2; i++)
		(void)shmeta_request_id(ops[i].request_id);
	status = shmeta_write(client, ops, 2, 5000, results, &token);
	if (status != SHMETA_OK)
		printf("%s\n", shmeta_last_error(instance, why, sizeof why));
	for (int i = 0; i < 2; i++)
		printf("%s: %s\n", what[i],
		       results[i].status == SHMETA_OK ? "made"
		       : results[i].text[0] != '\0'   ? results[i].text
		                                      : shmeta_strerror(results[i].status));
	if (status == SHMETA_OK)
		printf("shown by commit %llu\n", (unsigned long long)token.txn);
	shmeta_client_close(client);
	shmeta_close(instance);
	return status == SHMETA_OK ? 0 : 1;
}
