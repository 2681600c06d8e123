/* SPDX-License-Identifier: Apache-2.0
 * clients: who is connected to the control socket, by user. */
#include <inttypes.h>
#include <pwd.h>
#include <string.h>

#include "tools/shmetactl/inspect.h"

static const char *name_of(uint32_t uid, char *ret, size_t bytes)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];

	if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) == 0 && found != NULL)
		(void)snprintf(ret, bytes, "%s", found->pw_name);
	else
		(void)snprintf(ret, bytes, "%s", "");
	return ret;
}

int verb_clients(struct tool *tool)
{
	const struct shmeta_activity *page;
	struct pages pages;
	struct list list;
	uint32_t count, total;
	int code = activity_open(tool, &pages, &page);

	if (code != 0)
		return code;
	total = shmeta_observe(&page->users_total);
	count = shmeta_observe(&page->user_count);
	count = count < SHMETA_USERS ? count : SHMETA_USERS;
	list_begin(&list, tool, "clients");
	for (uint32_t i = 0; pages.liveness != WRITER_DEAD && i < count; i++) {
		struct shmeta_user u = page->user[i];
		char name[64];
		struct field f[] = {f_count("uid", u.uid),
		                    f_string("user", name_of(u.uid, name, sizeof(name))),
		                    f_count("connections", u.connections),
		                    f_count("registered", u.registered),
		                    f_count("requests_waiting", u.requests),
		                    f_bytes("unread_bytes", u.output),
		                    f_age(tool->json ? "oldest_ms" : "oldest", pages_since(pages.now_ns, u.since_ns))};

		list_row(&list, f, sizeof(f) / sizeof(f[0]));
	}
	list_end(&list, NULL, 0);
	list_free(&list);
	if (!tool->json && total > count)
		(void)printf("and %" PRIu32 " more users\n", total - count);
	activity_close(&pages, page);
	return TOOL_OK;
}
