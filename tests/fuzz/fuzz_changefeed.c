/* SPDX-License-Identifier: Apache-2.0
 * Rows of a changefeed: the first byte chooses the table, the rest is the row's value. Any bytes
 * are the key of each image, or everything. */
#include "backends/postgres/pg_changefeed_row.h"
#include "backends/rows.h"
#include "tests/fuzz/fuzz.h"

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	volatile unsigned char sum = 0;

	require((unsigned)key->cls < SHMETA_CLASS_COUNT && key->from <= key->to);
	/* All of each text can be read. */
	for (size_t i = 0; i < key->tenant.bytes; i++)
		sum = (unsigned char)(sum + (unsigned char)key->tenant.data[i]);
	for (size_t i = 0; i < key->topic.bytes; i++)
		sum = (unsigned char)(sum + (unsigned char)key->topic.data[i]);
	for (size_t i = 0; i < key->name.bytes; i++)
		sum = (unsigned char)(sum + (unsigned char)key->name.data[i]);
	++*(size_t *)arg;
	return SHMETA_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char *const tables[] = {
		"topics",           "partitions",       "segments", "agents", "consumer_groups",
		"consumer_offsets", "partition_leases", "",         "x.y"};
	size_t told = 0;
	const struct backend_sink sink = {.arg = &told, .changed = on_changed};
	struct shmeta_str value;
	bool list = false;
	char cursor[48];

	if (bytes == 0)
		return 0;
	value = (struct shmeta_str){(const char *)data + 1, bytes - 1};
	require(pg_changefeed_row(rows_str(tables[data[0] % 9]), value, &sink, &list) == SHMETA_OK);
	require(told <= (list ? 0 : 2));
	(void)pg_changefeed_resolved(value, cursor, sizeof cursor);
	return 0;
}
