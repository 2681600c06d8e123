/* SPDX-License-Identifier: Apache-2.0
 * A reader of a fixture's store. */
#include "tests/support/fixture_reader.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/support/boot_id.h"
#include "writer/engine/engine.h"

void fixture_prepare_reader(struct fixture *f)
{
	f->now_ns += shmeta__boottime_ns();
	boot_id_read(f->board->boot_id);
}

void fixture_open_reader(struct fixture *f, struct shmeta **ret_instance, struct shmeta_reader **ret_reader)
{
	char why[200] = "";
	struct shmeta_options options = {.size = sizeof options,
	                                 .directory = f->dir,
	                                 .flags = SHMETA_OPEN_UNREGISTERED | SHMETA_OPEN_PRECISE_CLOCK,
	                                 .error = why,
	                                 .error_bytes = sizeof why};

	f->board->incompat = SHMETA_BOARD_INCOMPAT_V1;
	f->board->board_bytes = sizeof *f->board;
	memcpy(f->board->signature, "SHMBOARD", 8);
	cr_assert_eq(shmeta_open(&options, ret_instance), SHMETA_OK, "%s", why);
	cr_assert_eq(shmeta_reader_new(*ret_instance, ret_reader), SHMETA_OK);
}

void fixture_begin_reading(struct fixture *f, struct shmeta_reader *reader)
{
	f->sync->gen->boot_offset_ns = (int64_t)f->now_ns - (int64_t)shmeta__boottime_ns() + shmeta__boot_offset_ns();
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
}

void fixture_end_reading(struct fixture *f, struct shmeta *instance, struct shmeta_reader *reader)
{
	shmeta_reader_free(reader);
	shmeta_close(instance);
	fixture_done(f);
}
