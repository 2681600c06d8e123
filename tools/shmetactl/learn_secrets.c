/* SPDX-License-Identifier: Apache-2.0
 * Where secrets come from (learn_secrets.h). What cannot be read is not learned: then the daemon
 * could not read it either, or this user may not know. */
#include "tools/shmetactl/learn_secrets.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { FILE_MOST = 64 << 20 };

char *learn_read(const char *path, size_t *ret_bytes)
{
	/* a FIFO is not waited for */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
	char *text = NULL;
	size_t bytes = 0, capacity = 0, n;

	*ret_bytes = 0;
	if (f == NULL)
		return NULL;
	do {
		if (capacity - bytes < 4096) {
			capacity = capacity * 2 + 65536;
			text = tool_grow(text, capacity + 1);
		}
		n = fread(text + bytes, 1, capacity - bytes, f);
		bytes += n;
	} while (n > 0 && bytes < FILE_MOST);
	(void)fclose(f);
	text[bytes] = '\0';
	*ret_bytes = bytes;
	return text;
}

/* Nothing is waited for: a pipe that somebody named is no file of secrets. */
static char *read_file(const char *path, size_t *ret_bytes)
{
	struct stat st;

	*ret_bytes = 0;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? learn_read(path, ret_bytes) : NULL;
}

/* ---- environments ---- */

static const char *in_environment(const char *text, size_t bytes, const char *name, size_t name_bytes)
{
	for (const char *at = text; at != NULL && at < text + bytes; at += strlen(at) + 1)
		if (strncmp(at, name, name_bytes) == 0 && at[name_bytes] == '=')
			return at + name_bytes + 1;
	return NULL;
}

static void learn_lines(struct learn *l, char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (text[i] == '\0')
			text[i] = '\n';
	redact_know_named(l->known, text, bytes);
}

/* host:port:database:user:password, with backslashes before ':' and '\'. */
static void learn_passfile(struct learn *l, const char *path)
{
	size_t bytes, fields, n;
	char *text = read_file(path, &bytes), *save = NULL;

	for (char *line = text != NULL ? strtok_r(text, "\r\n", &save) : NULL; line != NULL;
	     line = strtok_r(NULL, "\r\n", &save)) {
		if (line[0] == '#')
			continue;
		fields = n = 0;
		for (char *at = line; *at != '\0'; at++) {
			if (*at == '\\' && at[1] != '\0')
				line[n++] = *++at;
			else if (*at == ':' && fields < 4)
				fields++, n = 0;
			else
				line[n++] = *at;
		}
		if (fields == 4)
			redact_know(l->known, line, n);
	}
	free(text);
}

/* An INI file of libpq's services or of the AWS tools. */
static void learn_ini(struct learn *l, const char *path)
{
	size_t bytes;
	char *text = read_file(path, &bytes);

	if (text != NULL)
		learn_config(l, text, bytes);
	free(text);
}

static void learn_environment(struct learn *l, const char *text, size_t bytes)
{
	static const struct {
		const char *variable, *below;
		void (*learn)(struct learn *l, const char *path);
	} files[] = {{"PGPASSFILE", "", learn_passfile},
	             {"HOME", "/.pgpass", learn_passfile},
	             {"PGSERVICEFILE", "", learn_ini},
	             {"HOME", "/.pg_service.conf", learn_ini},
	             {"PGSYSCONFDIR", "/pg_service.conf", learn_ini},
	             {"AWS_SHARED_CREDENTIALS_FILE", "", learn_ini},
	             {"AWS_CONFIG_FILE", "", learn_ini},
	             {"HOME", "/.aws/credentials", learn_ini},
	             {"HOME", "/.aws/config", learn_ini},
	             {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "", learn_password_file}};
	char *copy = text != NULL ? tool_copy(text, bytes) : NULL, path[PATH_MAX];

	for (size_t i = 0; copy != NULL && i < sizeof(files) / sizeof(files[0]); i++) {
		const char *value = in_environment(text, bytes, files[i].variable, strlen(files[i].variable));

		if (value != NULL && value[0] == '/' &&
		    snprintf(path, sizeof(path), "%s%s", value, files[i].below) < (int)sizeof(path))
			files[i].learn(l, path);
	}
	if (copy != NULL)
		learn_lines(l, copy, bytes);
	free(copy);
}

void learn_begin(struct learn *l, struct redact_known *known, const char *unit, uint64_t pid)
{
	char path[64], *text;
	size_t bytes;

	*l = (struct learn){.known = known, .unit = unit};
	l->own = learn_read("/proc/self/environ", &l->own_bytes);
	learn_environment(l, l->own, l->own_bytes);
	learn_ini(l, "/etc/postgresql-common/pg_service.conf");
	if (pid == 0)
		return;
	(void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/environ", pid);
	l->writers = learn_read(path, &l->writers_bytes);
	learn_environment(l, l->writers, l->writers_bytes);
	(void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/cmdline", pid);
	text = learn_read(path, &bytes);
	if (text != NULL)
		learn_lines(l, text, bytes);
	free(text);
}

void learn_end(struct learn *l)
{
	free(l->own);
	free(l->writers);
}

/* ---- configuration ---- */

void learn_password_file(struct learn *l, const char *path)
{
	size_t bytes;
	char *text = read_file(path, &bytes);

	if (text != NULL)
		redact_know(l->known, text, strcspn(text, "\r\n"));
	free(text);
}

/* "${NAME}" and "${NAME:-DEFAULT}" as the daemon replaces them. Owns: the caller frees it. */
static char *expand(const struct learn *l, const char *text, size_t bytes)
{
	char *ret = tool_alloc(bytes + 1);
	size_t used = 0, room = bytes + 1;

	for (size_t at = 0; at < bytes;) {
		size_t name = 2, end, n = 1;
		const char *value = text + at;

		if (bytes - at > 3 && text[at] == '$' && text[at + 1] == '{') {
			while (at + name < bytes && (isalnum((unsigned char)text[at + name]) || text[at + name] == '_'))
				name++;
			for (end = name; at + end < bytes && text[at + end] != '}' && text[at + end] != '\n'; end++)
				;
			value = in_environment(l->writers, l->writers_bytes, text + at + 2, name - 2);
			if (value == NULL)
				value = in_environment(l->own, l->own_bytes, text + at + 2, name - 2);
			n = value != NULL ? strlen(value) : 0;
			/* Whatever is in it, also what would end it: "user:${NAME}@",
			 * "password=${NAME}". */
			if (value != NULL && at > 0 &&
			    ((text[at - 1] == ':' && at + end + 1 < bytes && text[at + end + 1] == '@') ||
			     (at >= 9 && strncasecmp(text + at - 9, "password=", 9) == 0)))
				redact_know(l->known, value, n);
			if (value == NULL && end - name > 2 && text[at + name] == ':') {
				value = text + at + name + 2;
				n = end - name - 2;
			}
			at += end < bytes - at ? end : end - 1;
		}
		if (used + n + (bytes - at) + 1 > room) {
			room = 2 * room + n + 1;
			ret = tool_grow(ret, room);
		}
		memcpy(ret + used, value != NULL ? value : "", n);
		used += n;
		at++;
	}
	ret[used] = '\0';
	return ret;
}

/* The value behind "word =", "word=" or "word " up to what ends it; false: there is none. */
static bool value_of(const char *at, const char *end, char ret[PATH_MAX])
{
	char quote = '\0';
	size_t n = 0;

	at += strspn(at, " \t=:");
	if (*at == '"' || *at == '\'')
		quote = *at++;
	while (*at != '\0' && *at != '\n' && (quote != '\0' ? *at != quote : strchr(end, *at) == NULL) &&
	       n + 1 < PATH_MAX) {
		if (*at == '\\' && at[1] != '\0' && at[1] != '\n')
			at++;
		ret[n++] = *at++;
	}
	ret[n] = '\0';
	return n > 0;
}

static void learn_named_password(struct learn *l, const char *name)
{
	const char *directory = in_environment(l->writers, l->writers_bytes, "CREDENTIALS_DIRECTORY", 21),
		   *at = strchr(l->unit, '@');
	char path[2 * PATH_MAX];

	if (strchr(name, '/') != NULL) {
		learn_password_file(l, name);
		return;
	}
	if (directory != NULL && snprintf(path, sizeof(path), "%s/%s", directory, name) < (int)sizeof(path))
		learn_password_file(l, path);
	if (snprintf(path, sizeof(path), "/run/credentials/%s.service/%s", l->unit, name) < (int)sizeof(path))
		learn_password_file(l, path);
	/* Where the units have it from, as docs/install.md says: shmeta.password,
	 * shmeta.NAME.password. */
	if (snprintf(path, sizeof(path), "/etc/credstore/shmeta.%s%s%s", at != NULL ? at + 1 : "",
	             at != NULL ? "." : "", name) < (int)sizeof(path))
		learn_password_file(l, path);
}

void learn_config(struct learn *l, const char *text, size_t bytes)
{
	/* A parameter of a URI ends at '&', one of a list at a blank. That it is in a comment does
	 * not make it less of a secret. */
	static const struct {
		const char *word, *end;
		void (*learn)(struct learn *l, const char *path);
	} words[] = {{"password_file", " \t\r;,}#", learn_named_password},
	             {"passfile", " \t\r&\"'", learn_passfile},
	             {"servicefile", " \t\r&\"'", learn_ini}};
	char *whole = expand(l, text, bytes), value[PATH_MAX];

	redact_know_named(l->known, text, bytes);
	redact_know_named(l->known, whole, strlen(whole));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		for (const char *at = whole; (at = strstr(at, words[i].word)) != NULL;) {
			at += strlen(words[i].word);
			if (value_of(at, words[i].end, value))
				words[i].learn(l, value);
		}
	free(whole);
}
