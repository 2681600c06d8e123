/* SPDX-License-Identifier: Apache-2.0
 * Pages and connections that the service manager kept while there was no writer (registry.h). */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "writer/serve/registry_private.h"

static bool number_in(const char *name, const char *prefix, uint64_t *ret)
{
	size_t length = strlen(prefix);
	char *end;

	if (strncmp(name, prefix, length) != 0 || !isdigit((unsigned char)name[length]))
		return false;
	errno = 0;
	*ret = strtoull(name + length, &end, 10);
	return errno == 0 && *end == '\0';
}

/* What of a page is slots, and what the touch map. The reader can have changed what stands there of
 * either: where it says fewer slots, only its own pins are not seen. false: no page of ours has
 * such a size. */
static bool divide_page(struct registration *r)
{
	uint64_t slots = shmeta_peek(&r->page->slot_count), rest;

	if (slots == 0 || slots > SHMETA_SLOTS_MAX || shmeta__slots_bytes((uint32_t)slots) > r->bytes)
		slots = (r->bytes - SHMETA_SLOTS_HEADER) / SHMETA_SLOT_BYTES;
	r->slots = slots < SHMETA_SLOTS_MAX ? (uint32_t)slots : SHMETA_SLOTS_MAX;
	rest = r->bytes - shmeta__slots_bytes(r->slots);
	r->touch_ceiling = 0;
	if (rest > SHMETA_TOUCH_HEADER)
		r->touch_ceiling = shmeta_peek(&((struct shmeta_touch *)registry_touch_map(r))->ceiling);
	if (r->touch_ceiling > SHMETA_TOUCH_CEILING_MAX || touch_file_bytes(r->touch_ceiling) != rest)
		r->touch_ceiling = 0;
	return rest % SHMETA_SLOT_BYTES == 0;
}

static void restore_page(struct registry *registry, uint64_t number, int fd, uint64_t now_ns)
{
	struct registration *registration;
	struct shmeta_slots *page;
	struct stat st;

	/* Only the manager could have kept it, yet its size and seals are what keeps this
	 * process from a SIGBUS. */
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < shmeta__slots_bytes(1) ||
	    (uint64_t)st.st_size > shmeta__slots_bytes(SHMETA_SLOTS_MAX) + touch_file_bytes(SHMETA_TOUCH_CEILING_MAX) ||
	    (fcntl(fd, F_GET_SEALS) & registry_seals) != registry_seals || registry_find(registry, number) != NULL)
		return;
	registration = calloc(1, sizeof(*registration));
	if (registration == NULL)
		return;
	page = registry_map_page(fd, (size_t)st.st_size);
	if (page == NULL) {
		free(registration);
		return;
	}
	registration->number = number;
	registration->page = page;
	registration->bytes = (size_t)st.st_size;
	if (!divide_page(registration)) {
		munmap(page, (size_t)st.st_size);
		free(registration);
		return;
	}
	registration->peer = (struct registry_peer){.uid = (uid_t)-1, .gid = (gid_t)-1};
	/* For display; the reader could have put anything there. */
	registration->connected_at_ns = shmeta_peek(&page->agent_started_ns);
	if (registration->connected_at_ns > now_ns)
		registration->connected_at_ns = now_ns;
	registry_link(registry, registration);
	registry->restored++;
}

enum registry_restored registry_restore(struct registry *registry, const char *name, int fd, uint64_t now_ns,
                                        uint64_t *ret_number)
{
	if (number_in(name, "connection-", ret_number))
		return REGISTRY_CONNECTION;
	if (!number_in(name, "page-", ret_number))
		return REGISTRY_NOT_OURS;
	restore_page(registry, *ret_number, fd, now_ns);
	close(fd);
	return REGISTRY_PAGE;
}

void registry_reconnect(struct registration *registration, const struct registry_peer *peer)
{
	registration->peer = *peer;
	registration->connected = true;
}

void registry_restore_end(struct registry *registry, uint64_t now_ns)
{
	for (struct registration *r = registry->list; r != NULL; r = r->next) {
		/* The new epoch first in the pages and then on the board, so that no reader
		 * registers again for nothing. */
		registry_write_header(r, registry->epoch);
		if (r->connected)
			continue;
		r->connected = true;
		registry_revoke(registry, r, now_ns);
	}
}

int registry_restored_all(const struct registry *registry)
{
	return registry->restored >= registry->former;
}
