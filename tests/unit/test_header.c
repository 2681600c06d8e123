/* SPDX-License-Identifier: Apache-2.0
 * What programs that were compiled against include/shmeta.h rely on: sizes, places and numbers on a
 * 64-bit machine. A test that fails here means a new SONAME. */
#include <criterion/criterion.h>
#include <stddef.h>

#include "include/shmeta.h"

TestSuite(header, .timeout = 10);

Test(header, records_and_options_keep_their_sizes)
{
	cr_assert_eq(sizeof(struct shmeta_str), 16);
	cr_assert_eq(sizeof(struct shmeta_map), 16);
	cr_assert_eq(sizeof(struct shmeta_topic), 88);
	cr_assert_eq(sizeof(struct shmeta_partition), 56);
	cr_assert_eq(sizeof(struct shmeta_segment), 128);
	cr_assert_eq(sizeof(struct shmeta_agent), 96);
	cr_assert_eq(sizeof(struct shmeta_lease), 48);
	cr_assert_eq(sizeof(struct shmeta_committed_offset), 64);
	cr_assert_eq(sizeof(struct shmeta_group), 32);
	cr_assert_eq(sizeof(struct shmeta_topic_stats), 24);
	cr_assert_eq(sizeof(struct shmeta_freshness), 32);
	cr_assert_eq(sizeof(struct shmeta_read), 40);
	cr_assert_eq(sizeof(struct shmeta_options), 72);
	cr_assert_eq(sizeof(struct shmeta_snapshot_info), 32);
	cr_assert_eq(sizeof(struct shmeta_find), 16);
	cr_assert_eq(sizeof(struct shmeta_state), 112);
}

Test(header, fields_keep_their_places)
{
	cr_assert_eq(offsetof(struct shmeta_topic, retention_ms), 64);
	cr_assert_eq(offsetof(struct shmeta_topic, topic_id), 80);
	cr_assert_eq(offsetof(struct shmeta_partition, high_watermark), 8);
	cr_assert_eq(offsetof(struct shmeta_partition, segment_count), 24);
	cr_assert_eq(offsetof(struct shmeta_segment, end_offset), 8);
	cr_assert_eq(offsetof(struct shmeta_segment, record_count), 48);
	cr_assert_eq(offsetof(struct shmeta_segment, id), 56);
	cr_assert_eq(offsetof(struct shmeta_segment, locator), 104);
	cr_assert_eq(offsetof(struct shmeta_segment, position), 120);
	cr_assert_eq(offsetof(struct shmeta_options, size), 0, "structs that grow begin with their size");
	cr_assert_eq(offsetof(struct shmeta_options, flags), 40);
	cr_assert_eq(offsetof(struct shmeta_options, error_bytes), 56);
	cr_assert_eq(offsetof(struct shmeta_state, size), 0);
	cr_assert_eq(offsetof(struct shmeta_read, size), 0);
}

Test(header, numbers_keep_their_meanings)
{
	cr_assert_eq(SHMETA_OK, 0);
	cr_assert_eq(SHMETA_ABSENT, 1);
	cr_assert_eq(SHMETA_ABSENT_AT_END, 4);
	cr_assert_eq(SHMETA_UNKNOWN, 5);
	cr_assert_eq(SHMETA_END, 6);
	cr_assert_eq(SHMETA_ERR_INVALID_ARGUMENT, -1);
	cr_assert_eq(SHMETA_ERR_NOT_TENANT, -23);
	cr_assert_eq(SHMETA_CLASS_OFFSET, 6);
	cr_assert_eq(SHMETA_CLASS_COUNT, 7);
	cr_assert_eq(SHMETA_PHASE_STOPPED, 5);
	cr_assert_eq(SHMETA_OPEN_UNREGISTERED, 1);
	cr_assert_eq(SHMETA_OPEN_PRECISE_CLOCK, 2);
	cr_assert_eq(SHMETA_OPEN_NO_FILL, 4);
	cr_assert_eq(SHMETA_NAME_MAX, 249);
}
