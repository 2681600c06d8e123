/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: which files the source is. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_FILES_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_FILES_H

#include "backends/sqlite/sqlite_state.h"

enum sqlite_files_verdict {
	SQLITE_FILES_SAME,   /* those that the connection has open                              */
	SQLITE_FILES_OTHER,  /* others, and nothing of the old set among them                   */
	SQLITE_FILES_BESIDE, /* the same database with other side files, or none                */
	SQLITE_FILES_MIXED,  /* of both; err says what to do                                    */
	SQLITE_FILES_GONE,   /* there is no database                                            */
	SQLITE_FILES_UNKNOWN /* the paths cannot be looked at                                   */
};
/* What lies at the paths now. err is filled for the last three. */
enum sqlite_files_verdict sqlite_files_judge(struct sqlite_state *state, struct backend_error *err);
/* OK while it is SAME: asked before and after each commit. */
enum shmeta_status sqlite_files_check(struct sqlite_state *state, struct backend_error *err);
/* Before they are opened: does another connection of this process have a set open that they would
 * be mixed with? A second connection, of an online comparison, would otherwise open the new
 * database with the -wal that the first one knows to be old. */
enum shmeta_status sqlite_files_before_open(const struct sqlite_state *state, struct backend_error *err);
/* Keep the identities of the files that are at the paths, just after they were opened. Not OK:
 * something was exchanged meanwhile. */
enum shmeta_status sqlite_files_opened(struct sqlite_state *state, struct backend_error *err);
/* What file it is, whatever is in it: its path, inode and time of birth. */
uint64_t sqlite_place(const struct sqlite_state *state);

#endif
