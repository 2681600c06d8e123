/* SPDX-License-Identifier: Apache-2.0
 * Snapshots in slices. One lookup reads by grace rules and never contacts the writer. A long list
 * registers where it can; where it cannot, each of its snapshots lasts for a small part of the
 * grace period, and a slice that took too long is read again. */
#include "tools/shmetactl/inspect.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	SLICE_MS = 40,
	REGISTERED_SLICE_MS = 250, /* what a slice holds is in memory, and what it pins in the
                                    * store, until it ends */
	REGISTER_MS = 300,
	SLICE_TRIES = 12,
	CONTENDED_PAUSE_US = 500
};

/* Registration goes on between snapshots: begin some, until one is pinned. A writer that does not
 * answer is not waited for. */
static void await_registration(struct session *s)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	uint64_t began = tool_monotonic_ns();

	do {
		struct shmeta_snapshot_info info = {0};

		if (shmeta_begin(s->reader) == SHMETA_OK) {
			if (shmeta_snapshot_info(s->reader, &info) == SHMETA_OK)
				s->registered = info.registered != 0;
			(void)shmeta_end(s->reader);
		}
		if (s->registered) {
			s->slice_ns = REGISTERED_SLICE_MS * 1000000u;
			return;
		}
		(void)nanosleep(&pause, NULL);
	} while (tool_monotonic_ns() - began < REGISTER_MS * 1000000u);
}

static int open_session(struct tool *tool, const char *tenant, bool registers, struct session *ret)
{
	char error[512] = "";
	struct shmeta_options options = {
		.size = sizeof(options),
		.directory = tool->dir,
		.tenant = tenant,
		.agent = "shmetactl",
		.threads = 1,
		.error = error,
		.error_bytes = sizeof(error),
	};
	struct pages pages;
	enum shmeta_status status;
	int code = pages_open(tool, &pages);

	if (code != 0)
		return code;
	*ret = (struct session){.tool = tool, .slice_ns = pages.generation.grace_ns / 8};
	if (ret->slice_ns > SLICE_MS * 1000000u)
		ret->slice_ns = SLICE_MS * 1000000u;
	if (!pages.published) {
		pages_close(&pages);
		return tool_error(tool, TOOL_NOT_RUNNING, "%s: the writer has not published anything yet", tool->dir);
	}
	registers = registers && pages.alive && faccessat(pages.dir_fd, "control.sock", W_OK, AT_EACCESS) == 0;
	pages_close(&pages);
	/* What an operator looks at is not used by it. */
	options.flags = SHMETA_OPEN_NO_FILL | (registers ? 0 : SHMETA_OPEN_UNREGISTERED);
	status = shmeta_open(&options, &ret->instance);
	if (status == SHMETA_OK)
		status = shmeta_reader_new(ret->instance, &ret->reader);
	if (status == SHMETA_OK) {
		if (registers)
			await_registration(ret);
		return 0;
	}
	if (error[0] == '\0' && ret->instance != NULL)
		(void)shmeta_last_error(ret->instance, error, sizeof(error));
	session_close(ret);
	return tool_say_not_opened(tool, status, error);
}

int session_open(struct tool *tool, const char *tenant, struct session *ret)
{
	return open_session(tool, tenant, false, ret);
}

int session_open_long(struct tool *tool, const char *tenant, struct session *ret)
{
	return open_session(tool, tenant, true, ret);
}

void session_close(struct session *session)
{
	out_progress_end();
	shmeta_reader_free(session->reader);
	shmeta_close(session->instance);
	session->reader = NULL;
	session->instance = NULL;
}

int session_say(struct session *session, enum shmeta_status status, const char *doing)
{
	char text[512] = "";

	(void)shmeta_last_error(session->instance, text, sizeof(text));
	return tool_error(session->tool, status == SHMETA_ERR_CORRUPT ? TOOL_UNHEALTHY : tool_exit_of(status),
	                  "%s: %s%s%s", doing, shmeta_strerror(status), text[0] != '\0' ? ": " : "", text);
}

int session_begin(struct session *session)
{
	const struct timespec pause = {.tv_nsec = CONTENDED_PAUSE_US * 1000};
	uint64_t began = tool_monotonic_ns();

	for (;;) {
		enum shmeta_status status = shmeta_begin(session->reader);

		session->begun_ns = tool_monotonic_ns();
		if (status == SHMETA_OK)
			return 0;
		if (status != SHMETA_ERR_CONTENDED)
			return session_say(session, status, "no snapshot");
		if (session->begun_ns - began > session->tool->timeout_ms * 1000000ull)
			return tool_error(session->tool, TOOL_TIMEOUT,
			                  "no snapshot within %s: the writer commits without a pause",
			                  out_ns(session->begun_ns - began));
		(void)nanosleep(&pause, NULL);
	}
}

void session_lists(struct session *session, const struct shmeta_iter *iter)
{
	session->lacks |= iter != NULL && shmeta_iter_complete(iter) == SHMETA_UNKNOWN;
}

void session_tell_lacks(const struct session *session)
{
	if (session->lacks && !session->tool->json)
		out_note(
			"the source has more than the store: it is bounded, or rows cannot be served ('shmetactl quarantine' "
			"lists them)");
}

bool session_due(const struct session *session)
{
	return tool_monotonic_ns() - session->begun_ns > session->slice_ns;
}

bool session_end(struct session *session, int *ret_code)
{
	enum shmeta_status status = shmeta_end(session->reader);

	*ret_code = 0;
	session->snapshots++;
	if (status == SHMETA_OK) {
		session->tries = 0;
		return true;
	}
	session->repeated++;
	if (status != SHMETA_ERR_EXPIRED)
		*ret_code = session_say(session, status, "end of snapshot");
	else if (++session->tries == SLICE_TRIES)
		*ret_code = tool_error(
			session->tool, TOOL_TIMEOUT, "the snapshot expired before the listing finished, %d times: %s",
			SLICE_TRIES,
			session->registered
				? "the writer ended the registration"
				: "the writer commits meanwhile, and gives this process no snapshot to hold; "
				  "join the group that may connect to its socket");
	session->slice_ns = session->slice_ns / 2 + 1;
	return false;
}
