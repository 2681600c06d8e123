/* SPDX-License-Identifier: Apache-2.0
 * Who may do what on the control socket. Whoever may connect may read and refresh; to write or to
 * administer takes a rule that names the peer's user or one of its groups. Root and the daemon's
 * own user may do everything. */
#ifndef SHMETA_WRITER_SERVE_RIGHTS_H
#define SHMETA_WRITER_SERVE_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { RIGHTS_NAMES_MAX = 32 };

/* One rule: users and groups as the configuration lists them ("alice, 1004"). A name that nobody
 * has grants nothing. */
struct rights_rule {
	uid_t user[RIGHTS_NAMES_MAX];
	gid_t group[RIGHTS_NAMES_MAX];
	uint32_t users, groups;
};

struct rights {
	struct rights_rule write, admin;
};

/* Resolve the lists (comma-separated names or numbers; NULL or "": none). Names that do not exist
 * are told to `unknown` (may be NULL). */
void rights_rule_set(struct rights_rule *rule, const char *users, const char *groups,
                     void (*unknown)(void *arg, const char *name), void *arg);

/* SHMETA_VERB_* of the peer on this socket; supplementary groups count (SO_PEERGROUPS). */
uint32_t rights_of(const struct rights *rights, int socket, uid_t uid, gid_t gid);

#endif
