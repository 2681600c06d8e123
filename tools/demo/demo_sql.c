/* SPDX-License-Identifier: Apache-2.0
 * What a program does that has no cache: the demo's lookups by SQL. */
#include <sqlite3.h>

#include "tools/demo/demo.h"

uint64_t demo_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

uint64_t demo_measure_sql(const struct demo_shared *shared, unsigned ms)
{
	static const char text[] =
		"SELECT end_offset, s3_bucket, s3_key FROM segments WHERE topic = ? AND partition_id = ? "
		"AND base_offset <= ? ORDER BY base_offset DESC LIMIT 1";
	uint64_t began = demo_now_ns(), now = began, count = 0, seed = 1;
	sqlite3_stmt *find = NULL;
	sqlite3 *db = NULL;
	int rc = sqlite3_open_v2(shared->database, &db, SQLITE_OPEN_READONLY, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(db, text, -1, &find, NULL);
	for (; rc == SQLITE_OK && now - began < ms * 1000000ull; now = demo_now_ns(), count++) {
		const struct demo_partition *p = &shared->partition[demo_random(&seed) % shared->partition_count];
		uint64_t high = atomic_load(&p->high_watermark);

		(void)sqlite3_bind_text(find, 1, shared->topic[p->topic].name, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(find, 2, p->id);
		(void)sqlite3_bind_int64(find, 3, (sqlite3_int64)(high > 0 ? demo_random(&seed) % high : 0));
		(void)sqlite3_step(find);
		rc = sqlite3_reset(find);
	}
	(void)sqlite3_finalize(find);
	(void)sqlite3_close(db);
	return rc == SQLITE_OK && now > began ? count * 1000000000u / (now - began) : 0;
}
