/* SPDX-License-Identifier: Apache-2.0
 * The phases of a writer: which may follow which, and who wins when two move at once. */
#include <criterion/criterion.h>

#include <string.h>

#include "writer/engine/phase.h"

TestSuite(phase, .timeout = 10);

Test(phase, only_foreseen_moves_are_made_and_a_refused_one_changes_nothing)
{
	/* Rows: from; columns: to; in the order of the phases. */
	static const char may[6][7] = {"=yyyyy", ".=yyyy", "..=yyy", ".yy=yy", "....=y", ".....="};

	for (uint32_t from = 0; from < 6; from++) {
		for (uint32_t to = 0; to < 6; to++) {
			struct shmeta_board board = {.phase = from, .phase_since_ns = 5};
			enum phase_moved moved = phase_move(&board, (enum shmeta_phase)to, 9);
			enum phase_moved expected = may[from][to] == 'y'   ? PHASE_MOVED
			                            : may[from][to] == '=' ? PHASE_THERE
			                                                   : PHASE_REFUSED;

			cr_expect_eq(moved, expected, "%s to %s", phase_name((enum shmeta_phase)from),
			             phase_name((enum shmeta_phase)to));
			cr_expect_eq(board.phase, expected == PHASE_MOVED ? to : from);
			cr_expect_eq(board.phase_since_ns, expected == PHASE_MOVED ? 9 : 5);
		}
	}
}

Test(phase, a_board_with_a_phase_that_is_none_is_not_moved)
{
	struct shmeta_board board = {.phase = 77};

	cr_expect_eq(phase_move(&board, SHMETA_PHASE_SERVING, 1), PHASE_REFUSED);
	cr_expect_eq(board.phase, 77);
	cr_expect_str_eq(phase_name(phase_of(&board)), "?");
	phase_begin(&board, 3);
	cr_expect_eq(phase_of(&board), SHMETA_PHASE_STARTING);
	cr_expect_eq(board.phase_since_ns, 3);
}
