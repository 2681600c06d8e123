/* SPDX-License-Identifier: Apache-2.0
 * verify, first half: is the store sound? Every checksum, bound and reference of one commit, in a
 * child process: a file that is cut off meanwhile, or a page that the system cannot give, ends
 * whoever walks it, and that too is a finding. Commits that go on meanwhile could recycle what the
 * child reads; so this process holds a registered snapshot meanwhile where the writer gives one,
 * and otherwise judges by the grace rules. */
#include "tools/shmetactl/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STRUCTURE_TRIES = 5, CHILD_TEXT = 480 };

enum message_kind { MESSAGE_PROBLEM = 1, MESSAGE_REPORT, MESSAGE_ERROR };

/* What the child tells: fixed size, so that a write to the pipe is whole. */
struct message {
	uint32_t kind;
	int32_t status;
	uint64_t txn;
	struct shmeta__verify_report report;
	char text[CHILD_TEXT];
};
_Static_assert(sizeof(struct message) <= 4096, "PIPE_BUF");

struct child {
	int fd;
	uint64_t problems;
};

static void tell(int fd, const struct message *message)
{
	if (write(fd, message, sizeof(*message)) != (ssize_t)sizeof(*message))
		_exit(3);
}

static void child_problem(void *arg, const char *sentence)
{
	struct child *child = arg;
	struct message message = {.kind = MESSAGE_PROBLEM};

	/* Beyond what is shown only the number matters, and the report has it. */
	if (child->problems++ >= VERIFY_SHOWN)
		return;
	(void)snprintf(message.text, sizeof(message.text), "%s", sentence);
	tell(child->fd, &message);
}

__attribute__((noreturn)) static void child_main(int fd, const char *path)
{
	struct child child = {.fd = fd};
	struct message message = {.kind = MESSAGE_REPORT};
	struct shmeta__inspected *store = NULL;
	struct shmeta_err err = {0};
	enum shmeta_status status;

	(void)signal(SIGBUS, SIG_DFL); /* the parent tells it */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_DUMPABLE, 0);
	status = shmeta__inspect_open(path, &store, &err);
	if (status != SHMETA_OK) {
		message.kind = MESSAGE_ERROR;
		message.status = status;
		(void)snprintf(message.text, sizeof(message.text), "%s", err.text);
		tell(fd, &message);
		_exit(0);
	}
	message.txn = store->txn;
	message.status = shmeta__store_verify(store, child_problem, &child, &message.report, &err);
	(void)snprintf(message.text, sizeof(message.text), "%s", err.text);
	tell(fd, &message);
	_exit(0);
}

struct structure {
	struct message report; /* kind 0: the child did not come so far */
	char *problem[VERIFY_SHOWN];
	size_t shown;
	int wait_status;
};

static void structure_free(struct structure *s)
{
	while (s->shown > 0)
		free(s->problem[--s->shown]);
	*s = (struct structure){0};
}

static int structure_run(struct tool *tool, const char *path, struct structure *ret)
{
	struct message message;
	int fd[2];
	pid_t pid;

	if (pipe(fd) != 0)
		return tool_error(tool, TOOL_UNHEALTHY, "pipe: %s", strerror(errno));
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)close(fd[0]);
		child_main(fd[1], path);
	}
	(void)close(fd[1]);
	if (pid < 0) {
		(void)close(fd[0]);
		return tool_error(tool, TOOL_UNHEALTHY, "fork: %s", strerror(errno));
	}
	for (;;) {
		size_t have = 0;

		while (have < sizeof(message)) {
			ssize_t n = read(fd[0], (char *)&message + have, sizeof(message) - have);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				break;
			have += (size_t)n;
		}
		if (have < sizeof(message))
			break;
		message.text[CHILD_TEXT - 1] = '\0';
		if (message.kind == MESSAGE_PROBLEM && ret->shown < VERIFY_SHOWN)
			ret->problem[ret->shown++] = tool_copy(message.text, strlen(message.text));
		else if (message.kind != MESSAGE_PROBLEM)
			ret->report = message;
	}
	(void)close(fd[0]);
	while (waitpid(pid, &ret->wait_status, 0) < 0 && errno == EINTR)
		;
	return 0;
}

/* A snapshot that the writer knows of keeps the pages of all later commits too, those that the
 * child reads. */
struct hold {
	struct shmeta *instance;
	struct shmeta_reader *reader;
	bool pinned;
};

static void hold_begin(struct tool *tool, const struct pages *pages, struct hold *hold)
{
	char error[16];
	struct shmeta_options options = {
		.size = sizeof(options),
		.directory = tool->dir,
		.agent = "shmetactl verify",
		.threads = 1,
		.error = error,
		.error_bytes = sizeof(error),
	};
	struct shmeta_snapshot_info info;

	*hold = (struct hold){0};
	/* A stopped writer answers nobody and commits nothing. */
	if (!pages->alive || shmeta_open(&options, &hold->instance) != SHMETA_OK)
		return;
	if (shmeta_reader_new(hold->instance, &hold->reader) != SHMETA_OK || shmeta_begin(hold->reader) != SHMETA_OK)
		return;
	hold->pinned = shmeta_snapshot_info(hold->reader, &info) == SHMETA_OK && info.registered != 0 &&
	               info.generation == pages->board.generation;
}

static bool hold_end(struct hold *hold)
{
	bool kept = hold->pinned && shmeta_end(hold->reader) == SHMETA_OK;

	shmeta_reader_free(hold->reader);
	shmeta_close(hold->instance);
	return kept;
}

int verify_incomplete(struct tool *tool, const struct pages *pages, uint64_t *ret)
{
	struct shmeta__inspected *store = NULL;
	struct shmeta_err err = {0};
	char path[PATH_MAX + 32];
	enum shmeta_status status;

	(void)snprintf(path, sizeof(path), "%s/store.%" PRIu64, tool->dir, pages->board.generation);
	status = shmeta__inspect_open(path, &store, &err);
	if (status != SHMETA_OK)
		return tool_error(tool, tool_exit_of(status), "%s", err.text);
	*ret = store->counters.incomplete;
	shmeta__inspect_close(store);
	return 0;
}

int verify_structure(struct tool *tool, const struct pages *pages, const char *path, struct findings *found,
                     struct shmeta__verify_report *ret)
{
	struct structure s = {0};
	bool sound = false;
	int code = 0;

	for (int i = 0; i < STRUCTURE_TRIES && !sound; i++) {
		struct hold hold = {0};
		uint64_t began = tool_monotonic_ns(), took, before, committing;

		structure_free(&s);
		before = pages != NULL ? shmeta_load(&pages->live->committing) : 0;
		if (pages != NULL)
			hold_begin(tool, pages, &hold);
		code = structure_run(tool, path, &s);
		took = tool_monotonic_ns() - began;
		sound = pages == NULL || hold_end(&hold);
		if (code != 0)
			goto out;
		if (!sound) {
			committing = shmeta_load(&pages->live->committing);
			sound = committing == before || took < pages->generation.grace_ns / 2 ||
			        (s.report.txn != 0 && committing < s.report.txn + 2);
		}
	}
	if (!sound) {
		code = tool_error(
			tool, TOOL_TIMEOUT,
			"the writer commits faster than the store can be checked, and gives us no snapshot to hold; "
			"join the group that may connect to its socket");
		goto out;
	}
	if (s.report.kind == MESSAGE_ERROR) {
		struct shmeta_err err = {.code = (enum shmeta_status)s.report.status};

		(void)snprintf(err.text, sizeof(err.text), "%s", s.report.text);
		code = store_say(tool, path, &err);
		goto out;
	}
	for (size_t i = 0; i < s.shown; i++)
		findings_add(found, SHMETA_CLASS_COUNT, NULL, NULL, "%s", s.problem[i]);
	if (s.report.kind == 0 && WIFSIGNALED(s.wait_status)) {
		findings_add(found, SHMETA_CLASS_COUNT, NULL, NULL,
		             "a page of the store could not be read: the check was ended by signal %d (%s)",
		             WTERMSIG(s.wait_status), strsignal(WTERMSIG(s.wait_status)));
	} else if (s.report.kind == 0) {
		code = tool_error(tool, TOOL_UNHEALTHY, "the check of the structure ended early (status %d)",
		                  WEXITSTATUS(s.wait_status));
		goto out;
	} else if (s.report.status != SHMETA_OK && s.report.report.problems == 0) {
		findings_add(found, SHMETA_CLASS_COUNT, NULL, NULL, "the check of the structure could not go on: %s",
		             s.report.text[0] != '\0' ? s.report.text
		                                      : shmeta_strerror((enum shmeta_status)s.report.status));
	}
	*ret = s.report.report;
	if (ret->problems < found->count)
		ret->problems = found->count;
out:
	structure_free(&s);
	return code;
}
