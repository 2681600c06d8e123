/* SPDX-License-Identifier: Apache-2.0
 * support-bundle: what somebody needs who is to help, as a tar file: what this program shows, the
 * configuration, the log, the host. All of it passes redact(), and nothing of the source's rows but
 * names is in it. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/shmetactl/inspect.h"
#include "tools/shmetactl/learn_secrets.h"
#include "tools/shmetactl/whole_file.h"

enum { TAR_BLOCK = 512, FILE_MOST = 64 << 20 };

struct bundle {
	struct tool *tool;
	FILE *file;
	struct redact_known known;
	json_t *names; /* of the files in it */
	int error;     /* errno of the first write that failed */
};

/* ---- tar ---- */

struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8], rest[247];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header of tar is a block");

static void put(struct bundle *b, const void *bytes, size_t count)
{
	if (fwrite(bytes, 1, count, b->file) != count && b->error == 0)
		b->error = errno;
}

/* Everything is redacted here, so that nothing gets past it. */
static void add(struct bundle *b, const char *name, const char *text, size_t bytes)
{
	static const char zeros[TAR_BLOCK];
	struct tar_header h;
	unsigned sum = 0;
	size_t n;
	char *clean = redact(&b->known, text != NULL ? text : "", text != NULL ? bytes : 0, &n);

	memset(&h, 0, sizeof(h));
	(void)snprintf(h.name, sizeof(h.name), "shmeta-support/%s", name);
	(void)snprintf(h.mode, sizeof(h.mode), "%07o", 0640u);
	(void)snprintf(h.uid, sizeof(h.uid), "%07o", 0u);
	(void)snprintf(h.gid, sizeof(h.gid), "%07o", 0u);
	(void)snprintf(h.size, sizeof(h.size), "%011zo", n);
	(void)snprintf(h.mtime, sizeof(h.mtime), "%011lo", (unsigned long)time(NULL) & 077777777777ul);
	h.type = '0';
	memcpy(h.magic, "ustar\00000", sizeof(h.magic));
	memset(h.checksum, ' ', sizeof(h.checksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((const unsigned char *)&h)[i];
	(void)snprintf(h.checksum, sizeof(h.checksum), "%06o", sum & 0777777u);
	put(b, &h, sizeof(h));
	put(b, clean, n);
	put(b, zeros, (TAR_BLOCK - n % TAR_BLOCK) % TAR_BLOCK);
	(void)json_array_append_new(b->names, json_string(name));
	free(clean);
}

static bool finish(struct bundle *b)
{
	static const char zeros[2 * TAR_BLOCK];

	put(b, zeros, sizeof(zeros));
	if (fflush(b->file) != 0 && b->error == 0)
		b->error = errno;
	return b->error == 0;
}

/* ---- what goes into it ---- */

/* All that a command prints, on both streams. */
static char *output_of(char *const argv[], size_t *ret_bytes)
{
	int fd[2];
	char *text = NULL;
	size_t bytes = 0, capacity = 0;
	ssize_t n;
	pid_t pid;

	*ret_bytes = 0;
	if (pipe2(fd, O_CLOEXEC) != 0)
		return NULL;
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		(void)dup2(null, STDIN_FILENO);
		(void)dup2(fd[1], STDOUT_FILENO);
		(void)dup2(fd[1], STDERR_FILENO);
		(void)execvp(argv[0], argv);
		(void)fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	(void)close(fd[1]);
	do {
		if (capacity - bytes < 65536) {
			capacity = capacity * 2 + 131072;
			text = tool_grow(text, capacity);
		}
		n = read(fd[0], text + bytes, capacity - bytes);
		bytes += n > 0 ? (size_t)n : 0;
	} while ((n > 0 && bytes < FILE_MOST) || (n < 0 && errno == EINTR));
	(void)close(fd[0]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	*ret_bytes = bytes;
	return text;
}

static void add_command(struct bundle *b, const char *name, char *const argv[])
{
	size_t bytes;
	char *text = output_of(argv, &bytes);

	add(b, name, text, bytes);
	free(text);
}

/* What a verb prints as JSON; `line` has at most six words, with blanks between them. */
static char *output_of_verb(struct bundle *b, const char *line, size_t *ret_bytes)
{
	char words[128], *save = NULL, self[] = "/proc/self/exe", json[] = "--json", dir_flag[] = "--dir",
			 instance_flag[] = "--instance";
	char *argv[16];
	int n = 0;

	argv[n++] = self;
	argv[n++] = json;
	argv[n++] = dir_flag;
	argv[n++] = b->tool->dir;
	argv[n++] = instance_flag;
	argv[n++] = (char *)(uintptr_t)b->tool->instance;
	(void)snprintf(words, sizeof(words), "%s", line);
	for (char *word = strtok_r(words, " ", &save); word != NULL && n < 15; word = strtok_r(NULL, " ", &save))
		argv[n++] = word;
	argv[n] = NULL;
	return output_of(argv, ret_bytes);
}

static void add_verb(struct bundle *b, const char *name, const char *line)
{
	size_t bytes;
	char *text = output_of_verb(b, line, &bytes);

	add(b, name, text, bytes);
	free(text);
}

static void add_file(struct bundle *b, const char *name, const char *path)
{
	size_t bytes;
	char *text = learn_read(path, &bytes);

	if (text != NULL)
		add(b, name, text, bytes);
	else
		add(b, name, strerror(errno), strlen(strerror(errno)));
	free(text);
}

/* The configuration file that the daemon reads, or the one that --config names, and its drop-ins.
 * What is known as a secret from then on is so in every file. */
static char *learn_all(struct bundle *b, const char *unit)
{
	const char *named = b->tool->config;
	size_t bytes;
	char *text, *file = NULL, pattern[PATH_MAX + 16];
	json_t *doc, *option;
	char refused[PAGES_NAME_BYTES];
	struct shmeta_err err = {0};
	struct pages p;
	struct learn l;
	glob_t found;
	size_t i;
	uint64_t pid = 0;

	if (pages_read(b->tool->dir, &p, refused, &err) == SHMETA_OK && p.alive)
		pid = p.board.writer_pid;
	pages_close(&p);
	learn_begin(&l, &b->known, unit, pid);
	/* The values of the running daemon, which may be of a file that is another one by now. */
	text = output_of_verb(b, "config show", &bytes);
	doc = json_loadb(text != NULL ? text : "", bytes, JSON_DISABLE_EOF_CHECK, NULL);
	free(text);
	json_array_foreach(json_object_get(doc, "options"), i, option)
	{
		const char *name = json_string_value(json_object_get(option, "name")),
			   *value = json_string_value(json_object_get(option, "value"));

		if (name != NULL && value != NULL && strcmp(name, "source.password_file") == 0)
			learn_password_file(&l, value);
	}
	if (named == NULL)
		named = json_string_value(json_object_get(doc, "file"));
	if (named != NULL)
		file = tool_copy(named, strlen(named));
	json_decref(doc);
	text = file != NULL ? learn_read(file, &bytes) : NULL;
	if (text != NULL)
		learn_config(&l, text, bytes);
	free(text);
	(void)snprintf(pattern, sizeof(pattern), "%s.d/*.conf", file != NULL ? file : "");
	if (file != NULL && glob(pattern, 0, NULL, &found) == 0) {
		for (i = 0; i < found.gl_pathc; i++) {
			text = learn_read(found.gl_pathv[i], &bytes);
			if (text != NULL)
				learn_config(&l, text, bytes);
			free(text);
		}
		globfree(&found);
	}
	if (b->tool->password_file != NULL)
		learn_password_file(&l, b->tool->password_file);
	learn_end(&l);
	return file;
}

static void add_host(struct bundle *b)
{
	struct utsname name;
	char text[1024];
	int n = 0;

	if (uname(&name) == 0)
		n = snprintf(text, sizeof(text), "%s %s %s %s\n", name.sysname, name.release, name.version,
		             name.machine);
	add(b, "host/uname", text, n > 0 ? (size_t)n : 0);
	add_file(b, "host/os-release", "/etc/os-release");
	add_file(b, "host/meminfo", "/proc/meminfo");
	add_file(b, "host/cpuinfo", "/proc/cpuinfo");
	add_file(b, "host/mounts", "/proc/mounts");
	add_file(b, "host/transparent_hugepage", "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
}

static void add_writer(struct bundle *b)
{
	struct pages p;
	char path[64];

	if (pages_open(b->tool, &p) != 0)
		return;
	(void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/limits", p.board.writer_pid);
	add_file(b, "writer/limits", path);
	(void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/status", p.board.writer_pid);
	add_file(b, "writer/status", path);
	pages_close(&p);
}

static void fill(struct bundle *b)
{
	static const struct {
		const char *name, *line;
	} verbs[] = {{"version.json", "version"},
	             {"status.json", "status"},
	             {"health.json", "health"},
	             {"stat.json", "stat"},
	             {"lag.json", "lag"},
	             {"queue.json", "queue"},
	             {"readers.json", "readers"},
	             {"store.json", "store"},
	             {"quarantine.json", "quarantine --limit 200"},
	             {"biggest.json", "biggest"},
	             {"events.json", "events --limit 2000"},
	             {"slow.json", "slow"},
	             {"clients.json", "clients"},
	             {"agents.json", "agents"},
	             {"config.json", "config show"},
	             {"config-check.json", "config check"}};
	char *file, drop_in[PATH_MAX + 8], unit[UNIT_BYTES], name[UNIT_BYTES],
		lines[] = "2000", journalctl[] = "journalctl", u[] = "-u", n[] = "-n", pager[] = "--no-pager",
		utc[] = "--utc", list[] = "/bin/ls", flags[] = "-lnR";

	(void)pages_unit(pages_name_of(b->tool->dir, name) ? name : b->tool->instance, unit);
	file = learn_all(b, unit);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		add_verb(b, verbs[i].name, verbs[i].line);
	if (file != NULL) {
		add_file(b, "configuration/file.conf", file);
		(void)snprintf(drop_in, sizeof(drop_in), "%s.d", file);
		add_command(b, "configuration/drop-ins", (char *[]){list, flags, drop_in, NULL});
	}
	add_command(b, "journal", (char *[]){journalctl, u, unit, n, lines, utc, pager, NULL});
	add_command(b, "directory", (char *[]){list, flags, b->tool->dir, NULL});
	add_writer(b);
	add_host(b);
	free(file);
}

int verb_support_bundle(struct tool *tool)
{
	const char *path = tool->argv[0];
	struct bundle b = {.tool = tool};
	struct whole_file file;
	struct stat st = {.st_size = 0};
	int code = whole_file_begin(tool, path, "a bundle", "", &file);

	if (code != 0)
		return code;
	b.file = file.out;
	b.names = json_array();
	fill(&b);
	if (!finish(&b))
		code = tool_error(tool, TOOL_UNHEALTHY, "%s: it could not be written: %s", path, strerror(b.error));
	(void)fstat(fileno(b.file), &st);
	code = whole_file_end(&file, code);
	redact_forget(&b.known);
	if (code != 0) {
		json_decref(b.names);
		return code;
	}
	if (tool->json) {
		json_t *doc = out_document("support_bundle");

		out_set(doc, "file", out_json_text(path, strlen(path)));
		out_set(doc, "bytes", out_json_count((uint64_t)st.st_size));
		out_set(doc, "files", b.names);
		out_json(doc, 2);
		return TOOL_OK;
	}
	(void)printf("%s: %zu files, %s; mode 0600. Read it before you send it: 'tar -tvf %s'\n",
	             out_safe(path, strlen(path)), json_array_size(b.names), out_size((uint64_t)st.st_size),
	             out_safe(path, strlen(path)));
	json_decref(b.names);
	return TOOL_OK;
}
