/* SPDX-License-Identifier: Apache-2.0
 * Peer credentials against the configured users and groups. */
#include "writer/serve/rights.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/wire/wire.h"

enum { GROUPS_MAX = 1024 };

static bool user_number(const char *name, uint32_t *ret)
{
	struct passwd entry, *found = NULL;
	char buffer[16384];

	if (getpwnam_r(name, &entry, buffer, sizeof buffer, &found) != 0 || found == NULL)
		return false;
	*ret = found->pw_uid;
	return true;
}

static bool group_number(const char *name, uint32_t *ret)
{
	struct group entry, *found = NULL;
	char buffer[16384];

	if (getgrnam_r(name, &entry, buffer, sizeof buffer, &found) != 0 || found == NULL)
		return false;
	*ret = found->gr_gid;
	return true;
}

static bool plain_number(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long long n;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (*end != '\0' || errno != 0 || n >= UINT32_MAX) /* (uid_t)-1 is nobody at all */
		return false;
	*ret = (uint32_t)n;
	return true;
}

static uint32_t resolve(const char *list, bool (*number)(const char *name, uint32_t *ret), uint32_t *ret_ids,
                        void (*unknown)(void *arg, const char *name), void *arg)
{
	uint32_t count = 0;

	while (list != NULL && *list != '\0' && count < RIGHTS_NAMES_MAX) {
		size_t bytes = strcspn(list, ", \t");
		char name[64];
		uint32_t id;

		if (bytes > 0) {
			(void)snprintf(name, sizeof name, "%.*s", (int)(bytes < sizeof name ? bytes : sizeof name - 1),
			               list);
			if (plain_number(name, &id) || number(name, &id))
				ret_ids[count++] = id;
			else if (unknown != NULL)
				unknown(arg, name);
		}
		list += bytes;
		list += strspn(list, ", \t");
	}
	return count;
}

void rights_rule_set(struct rights_rule *rule, const char *users, const char *groups,
                     void (*unknown)(void *arg, const char *name), void *arg)
{
	rule->users = resolve(users, user_number, rule->user, unknown, arg);
	rule->groups = resolve(groups, group_number, rule->group, unknown, arg);
}

static bool grants(const struct rights_rule *rule, uid_t uid, const gid_t *groups, size_t group_count)
{
	for (uint32_t i = 0; i < rule->users; i++)
		if (rule->user[i] == uid)
			return true;
	for (uint32_t i = 0; i < rule->groups; i++)
		for (size_t g = 0; g < group_count; g++)
			if (rule->group[i] == groups[g])
				return true;
	return false;
}

uint32_t rights_of(const struct rights *rights, int socket, uid_t uid, gid_t gid)
{
	gid_t groups[GROUPS_MAX + 1];
	socklen_t bytes = GROUPS_MAX * sizeof *groups;
	uint32_t verbs = SHMETA_VERB_READ;
	size_t count;

	if (uid == 0 || uid == geteuid())
		return SHMETA_VERB_READ | SHMETA_VERB_WRITE | SHMETA_VERB_ADMIN;
	count = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) == 0 ? bytes / sizeof *groups : 0;
	groups[count++] = gid;
	if (grants(&rights->write, uid, groups, count))
		verbs |= SHMETA_VERB_WRITE;
	if (grants(&rights->admin, uid, groups, count))
		verbs |= SHMETA_VERB_ADMIN;
	return verbs;
}
