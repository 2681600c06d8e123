/* SPDX-License-Identifier: Apache-2.0
 * The daemon's heartbeat: what it tells readers, and the engine behind it. */
#include <criterion/criterion.h>

#include "writer/daemon/takeover.h"

TestSuite(heartbeat, .timeout = 30);

Test(heartbeat, tells_once_that_the_machine_has_slept)
{
	struct shmeta_board board = {.boot_offset_ns = 0};
	struct instance instance = {.board = &board};

	(void)instance_heartbeat(&instance);
	cr_expect_not(instance_heartbeat(&instance));
	board.boot_offset_ns -= INT64_C(3600000000000); /* as it was an hour of sleep ago */
	cr_expect(instance_heartbeat(&instance));
	cr_expect_not(instance_heartbeat(&instance));
	cr_expect_geq(board.boot_offset_ns, shmeta__boot_offset_ns() - INT64_C(500000000));
}
