/* SPDX-License-Identifier: Apache-2.0
 * The configuration: what is refused and how it is told, what a file sets, what a reload may
 * change. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/scratch.h"
#include "writer/config/config.h"

TestSuite(config, .timeout = 30);

enum { TOLD_MAX = 64 };

struct told {
	char *sentence[TOLD_MAX];
	size_t count;
};

static char directory[SCRATCH_PATH_MAX];
static char path[SCRATCH_PATH_MAX + 16];

static void collect(void *arg, const char *sentence)
{
	struct told *told = arg;

	if (told->count < TOLD_MAX)
		told->sentence[told->count++] = strdup(sentence);
}

static void forget(struct told *told)
{
	for (size_t i = 0; i < told->count; i++)
		free(told->sentence[i]);
	told->count = 0;
}

static void begin(void)
{
	unsetenv("STATE_DIRECTORY");
	unsetenv("RUNTIME_DIRECTORY");
	cr_assert(scratch_dir("config", directory));
	snprintf(path, sizeof(path), "%s/shmeta.conf", directory);
}

static void end(void)
{
	unlink(path);
	rmdir(directory);
}

static void write_file(const char *text, size_t bytes)
{
	FILE *stream = fopen(path, "we");

	cr_assert_not_null(stream);
	cr_assert_eq(fwrite(text, 1, bytes, stream), bytes);
	cr_assert_eq(fclose(stream), 0);
}

static enum shmeta_status load_text(const char *text, struct config **ret, struct told *told)
{
	const struct config_listener listener = {.arg = told, .problem = collect};
	const struct config_flags flags = {.file = path};
	struct shmeta_err err = {0};

	write_file(text, strlen(text));
	return config_load(&flags, &listener, ret, &err);
}

/* Each file has one mistake; it is told with its line and its key. */
static const struct {
	const char *text;
	unsigned line;
	const char *key, *why;
} broken[] = {
	{"store { max_byts = 1G }", 1, "store.max_byts", "did you mean 'max_bytes'?"},
	{"\n\nstore {\n\tgrace = 1s\n}\n", 4, "store.grace", "unknown option"},
	{"[store]\nmax_bytes = 1G", 1, "[store]", "a section is written 'name { ... }'"},
	{"stor { max_bytes = 1G }", 1, "stor", "did you mean 'store'?"},
	{"stor \"x\" { a = 1 b = 2 }", 1, "stor", "unknown section"},
	{"ttl { max_bytes = 1G }", 1, "ttl.max_bytes", "in section 'store'"},
	{"max_bytes = 1G", 1, "max_bytes", "options stand in sections"},
	{"store = 5", 1, "store", "is a section"},
	{"store { max_bytes { } }", 1, "store.max_bytes", "a section within the section"},
	{"store { inner { max_bytes = 1 } }", 1, "store.inner", "a section within the section"},
	{"store \"x\" { max_bytes = 1G }", 1, "store", "takes no title"},
	{"ttl_override { ttl_ms = 5s }", 1, "ttl_override", "prefix must follow"},
	{"ttl_override \"\" { ttl_ms = 5s }", 1, "ttl_override", "1 to 249 bytes"},
	{"ttl_override \"a\" { ttl = 5s }", 1, "ttl_override.ttl", "did you mean 'ttl_ms'?"},
	{"ttl_override \"a\" { ttl_ms = 0 }", 1, "ttl_override \"a\"", "out of range"},
	{"ttl_override \"a\" { ttl_ms = 5s }\nttl_override \"a\" { ttl_ms = 6s }", 2, "ttl_override", "set in line 1"},
	{"store {\n max_bytes = 1G\n max_bytes = 2G\n}", 3, "store.max_bytes", "already set in line 2"},
	{"store { max_bytes = 1G }\nstore { max_bytes = 1G }", 2, "store.max_bytes", "already set in line 1"},
	{"store { max_bytes = 4K }", 1, "store.max_bytes", "1M to 1T are allowed"},
	{"store { max_bytes = 2T }", 1, "store.max_bytes", "out of range"},
	{"store { max_bytes = 18446744073709551616 }", 1, "store.max_bytes", "out of range"},
	{"store { max_bytes = 18014398509481984K }", 1, "store.max_bytes", "out of range"},
	{"store { max_bytes = -1 }", 1, "store.max_bytes", "is not a size"},
	{"store { max_bytes = 1.5G }", 1, "store.max_bytes", "is not a size"},
	{"store { max_bytes = 1GB }", 1, "store.max_bytes", "is not a size"},
	{"store { max_bytes = \"\" }", 1, "store.max_bytes", "is not a size"},
	{"store { grace_ms = 1G }", 1, "store.grace_ms", "is not a duration"},
	{"ttl { topic_ms = 5x }", 1, "ttl.topic_ms", "is not a duration"},
	{"feed { reconcile_s = 500ms }", 1, "feed.reconcile_s", "is not a duration"},
	{"refresh { batch_keys = 1K }", 1, "refresh.batch_keys", "is not a plain number"},
	{"source { read_only = maybe }", 1, "source.read_only", "is not on or off"},
	{"log { level = loud }", 1, "log.level", "err, warning, notice, info, debug"},
	{"source { uri = \"mysql://x\" }", 1, "source.uri", "mysql"},
	{"instance { name = \"a/b\" }", 1, "instance.name", "a/b"},
	{"instance { name = \"..\" }", 1, "instance.name", "begins with"},
	{"instance { name = \"\" }", 1, "instance.name", "must not be empty"},
	{"instance { directory = \"run/x\" }", 1, "instance.directory", "absolute"},
	{"feed {\n poll_min_ms = 2s\n poll_max_ms = 1s\n}", 3, "feed.poll_min_ms", "more than feed.poll_max_ms"},
	{"objects {\n grace_ms = 599s\n}", 2, "objects.grace_ms",
         "is less than twice the longest time to live, which is 5m (ttl.topic_ms); write 10m or more"},
	{"ttl_override \"a\" {\n ttl_ms = 1h\n}\nobjects {\n grace_ms = 1h\n}", 5, "objects.grace_ms",
         "which is 1h (ttl_override); write 2h or more"},
	{"store { mode = bounded }\nbounded { freshness = read-heavy }\nobjects { grace_ms = 1h }", 3,
         "objects.grace_ms", "which is 1h (bounded.freshness); write 2h or more"},
	{"bounded { freshness = quick }", 1, "bounded.freshness", "neither fixed nor one of the presets"},
	{"bounded { freshness = balanced\n fresh_max_ms = 20s }", 1, "bounded.freshness", "min <= base <= max"},
	{"bounded { freshness = balanced\n fresh_longer_percent = 99 }", 1, "bounded.freshness", "100 to 800 percent"},
	{"warm { file = here }", 1, "warm.file", "'here' is not an absolute path"},
	{"retry { min_ms = 30s }", 1, "retry.min_ms", "more than retry.max_ms"},
	{"control { connections_max = 8 }", 1, "control.connections_reserved", "more than control.connections_max"},
	{"store {\n max_bytes = 1G\n", 1, "store", "'}' is missing"},
	{"store { max_bytes = 1G } }", 1, "'}'", "closes nothing"},
	{"store { max_bytes 1G }", 1, "store.max_bytes", "'=' and a value"},
	{"store { max_bytes = }", 1, "store.max_bytes", "a value is missing"},
	{"store { max_bytes = { 1G } }", 1, "store.max_bytes", "not a list"},
	{"store { max_bytes += 1G }", 1, "store.max_bytes", "'=' and a value"},
	{"include(\"other.conf\")", 1, "include", "'=' and a value"},
	{"= 5", 1, "option's name must stand here", "'='"},
	{"log { level = \"info }\n", 1, "string is not closed", "on its line"},
	{"log { level = 'info }\n", 1, "string is not closed", "on its line"},
	{"log {\n level = \"info\n}\n", 2, "log.level", "string is not closed"},
	{"control { group = \"a\\129\" }", 1, "control.group", "'\\129' is not an octal escape"},
	{"control { group = \"a\\777\" }", 1, "control.group", "'\\777' is not an octal escape"},
	{"ttl_override \"\\0\" { ttl_ms = 5s }", 1, "ttl_override", "1 to 249 bytes"},
	{"ttl_override \"a\" { ttl_ms = 5s }\nttl_override \"\\x61\" { ttl_ms = 6s }", 2, "ttl_override",
         "set in line 1"},
	{"/* never closed\n store { }\n", 1, "comment", "not closed"},
	{"store { max_bytes = 1*G }", 1, "store.max_bytes", "'*' may stand in a value only within quotes"},
	{"/* two\nlines */ /* one */\n// and\n# one\nstore { max_byte = 1G }", 5, "store.max_byte", "unknown"},
	{"log { level = \x01 }", 1, "control character", "is it text?"},
	{"\xef\xbb\xbflog { level = info }", 1, "byte order mark", "without one"},
	{"\n\xef\xbb\xbflog { level = info }", 2, "\\ufefflog", "unknown section"},
	{"l\xc2\x9bog { level = info }", 1, "l\\u009bog", "unknown section"},
	{"source { uri = \"sqlite:${SHMETA_TEST_NO}/x.db\" }", 1, "source.uri", "no variable 'SHMETA_TEST_NO'"},
	{"source { uri = \"sqlite:${SHMETA_TEST_NO/x.db\" }", 1, "source.uri", "not closed by '}'"},
	{"ttl_override \"${SHMETA_TEST_NO}\" { ttl_ms = 5s }", 1, "ttl_override", "no variable"},
	{"source { uri = \"postgresql://db.example/x\" }", 1, "source.uri", "use sslmode=verify-full"},
	{"source { uri = \"postgresql:host=/tmp,db.example\" }", 1, "source.uri", "db.example would have"},
	{"source { uri = \"postgresql:///x\" read_uri = \"postgresql://replica.example/x\" }", 1, "source.uri",
         "replica.example would have"},
	{"source { uri = \"postgresql://h?nonsense=1\" }", 1, "source.uri", "is not a connection string"},
};

Test(config, every_broken_file_is_refused_with_its_line_and_key, .init = begin, .fini = end)
{
	for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++) {
		struct told told = {.count = 0};
		struct config *config = NULL;
		char where[128];

		cr_expect_eq(load_text(broken[i].text, &config, &told), SHMETA_ERR_CONFIG, "not refused: %s",
		             broken[i].text);
		cr_expect_null(config);
		cr_expect_eq(told.count, 1, "%zu sentences for: %s%s%s", told.count, broken[i].text,
		             told.count > 1 ? "\n" : "", told.count > 1 ? told.sentence[1] : "");
		if (told.count == 0)
			continue;
		snprintf(where, sizeof(where), "%s:%u: ", path, broken[i].line);
		cr_expect_eq(strncmp(told.sentence[0], where, strlen(where)), 0, "'%s' does not begin with '%s': %s",
		             told.sentence[0], where, broken[i].text);
		cr_expect_not_null(strstr(told.sentence[0], broken[i].key), "'%s' does not name '%s'", told.sentence[0],
		                   broken[i].key);
		cr_expect_not_null(strstr(told.sentence[0], broken[i].why), "'%s' does not say '%s'", told.sentence[0],
		                   broken[i].why);
		forget(&told);
	}
}

Test(config, all_mistakes_are_told_at_once_in_the_order_of_the_lines, .init = begin, .fini = end)
{
	static const char text[] = "store {\n"           /*  1 */
				   " max_bytes = lots\n" /*  2 */
				   /*  3: its value would be on the next line */
				   " grace_ms =\n"
				   "}\n"                  /*  4 */
				   "sorce { uri = x }\n"  /*  5 */
				   "log { level = \"a\n"  /*  6 */
				   "}\n"                  /*  7 */
				   "ttl { topic_ms = 0 }" /*  8 */
				   "}\n"                  /*  8 */
				   /* 9: and less than poll_min_ms */
				   "feed { x { y = 1 } poll_max_ms = 1 }\n";
	static const unsigned lines[] = {2, 3, 5, 6, 8, 8, 9, 9};
	struct told told = {.count = 0};
	struct config *config = NULL;

	cr_assert_eq(load_text(text, &config, &told), SHMETA_ERR_CONFIG);
	for (size_t i = 0; i < told.count; i++) {
		char where[128];

		cr_assert_lt(i, sizeof(lines) / sizeof(*lines), "more than expected: %s", told.sentence[i]);
		snprintf(where, sizeof(where), "%s:%u: ", path, lines[i]);
		cr_expect_eq(strncmp(told.sentence[i], where, strlen(where)), 0, "'%s' does not begin with '%s'",
		             told.sentence[i], where);
	}
	cr_assert_eq(told.count, sizeof(lines) / sizeof(*lines));
	forget(&told);
}

/* Said of each section that lacks its prefix, and nothing more of what stands in them. */
Test(config, sections_without_a_prefix_are_no_repetition_of_each_other, .init = begin, .fini = end)
{
	struct told told = {.count = 0};
	struct config *config = NULL;

	cr_assert_eq(load_text("ttl_override {\n ttl_ms = 5s\n}\nttl_override {\n ttl_ms = 6s\n}\n", &config, &told),
	             SHMETA_ERR_CONFIG);
	cr_assert_eq(told.count, 2, "%s", told.sentence[1]);
	for (size_t i = 0; i < told.count; i++)
		cr_expect_not_null(strstr(told.sentence[i], "prefix must follow"), "%s", told.sentence[i]);
	forget(&told);
}

Test(config, variables_are_filled_in_where_they_exist_or_have_a_default, .init = begin, .fini = end)
{
	static const char text[] = "source {\n uri = \"sqlite:/${SHMETA_TEST_SET}/${SHMETA_TEST_NO:-b}\"\n"
				   " password_file = '/${SHMETA_TEST_NO}'\n}\n";
	struct told told = {.count = 0};
	struct config *config = NULL;

	setenv("SHMETA_TEST_SET", "a", 1);
	cr_assert_eq(load_text(text, &config, &told), SHMETA_OK, "%s", told.sentence[0]);
	cr_expect_str_eq(config->source_uri, "sqlite:/a/b");
	cr_expect_str_eq(config->source_password_file, "/${SHMETA_TEST_NO}");
	config_free(config);
}

Test(config, words_are_written_bare_or_in_either_quotes, .init = begin, .fini = end)
{
	static const struct {
		const char *word, *value;
	} words[] = {
		{"a-b.c:d\\/e", "a-b.c:d\\/e"},
		{"/x//y", "/x//y"},
		{"\"#{}=()+,*'\"", "#{}=()+,*'"},
		{"'#{}=()+,*\"'", "#{}=()+,*\""},
		{"\"\\a\\b\\e\\f\\n\\r\\t\\v\"", "\a\b\033\f\n\r\t\v"},
		{"\"\\\"\\\\\\q\"", "\"\\q"},
		{"\"\\x41\\x4g\\xg\\101\\1\"", "A\x04"
	                                       "gxgA\x01"},
		{"'\\'\\\\\\n\\\"'", "'\\\\n\\\""},
		{"\"$x$${SHMETA_TEST_NO:-$}\\${x}\"", "$x$$${x}"},
		{"\"${SHMETA_TEST_NO:-a\\b:-c}\"", "a\\b:-c"},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		struct told told = {.count = 0};
		struct config *config = NULL;
		char text[128];

		snprintf(text, sizeof(text), "control { write_users = %s }", words[i].word);
		cr_assert_eq(load_text(text, &config, &told), SHMETA_OK, "%s: %s", text, told.sentence[0]);
		cr_expect_str_eq(config->control_write_users, words[i].value, "%s", text);
		config_free(config);
	}
}

Test(config, what_proves_who_answers_or_stays_on_this_machine_is_accepted, .init = begin, .fini = end)
{
	static const char *const good[] = {
		"source { uri = \"postgresql://db.example/x?sslmode=verify-full\" }",
		"source { uri = \"postgresql://db.example/x\" allow_insecure = on }",
		"source { uri = \"postgresql:///x?host=/run/postgresql\" }",
		"source { uri = \"cockroachdb://127.0.0.1:26257/x\" }",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct told told = {.count = 0};
		struct config *config = NULL;

		cr_expect_eq(load_text(good[i], &config, &told), SHMETA_OK, "%s: %s", good[i], told.sentence[0]);
		config_free(config);
		forget(&told);
	}
}

/* Each right in itself; the host says one sentence to it, which names the line and the option. */
Test(config, what_this_host_does_not_have_and_what_the_engine_does_not_use_is_told, .init = begin, .fini = end)
{
	static const struct {
		const char *text, *said;
	} cases[] = {
		{"control { write_groups = \"root,shmeta-test-no\" }",
	         "control.write_groups: there is no group 'shmeta-test-no'"},
		{"control { admin_group = shmeta-test-no }", "control.admin_group: there is no group 'shmeta-test-no'"},
		{"control { group = shmeta-test-no }", "control.group: there is no group 'shmeta-test-no'"},
		{"control { write_users = \"root, 12, shmeta-test-no\" }",
	         "control.write_users: there is no user 'shmeta-test-no'"},
		{"source { uri = \"sqlite:/shmeta-test-no/x.db\" }",
	         "source.uri: the directory /shmeta-test-no: No such file"},
		{"source { uri = \"sqlite:/tmp/shmeta-test-no.db\" }",
	         "source.uri: /tmp/shmeta-test-no.db does not exist, and source.create is off"},
		{"source { uri = \"sqlite:/tmp/shmeta-test-no.db\" create = on }", NULL},
		{"source { uri = \"sqlite:/tmp\" }", "source.uri: /tmp is a directory"},
		{"source { uri = \"postgresql:///x\" password_file = /shmeta-test-no }",
	         "source.password_file: /shmeta-test-no: No such"},
		{"source { uri = \"sqlite:/x.db\" create = on read_uri = \"postgresql:///x\" }",
	         "source.read_uri: has no effect with a source of sqlite:"},
		{"source { uri = \"sqlite:/x.db\" create = on follower_reads = on }",
	         "source.follower_reads: has no effect"},
		{"source { uri = \"sqlite:/x.db\" create = on }\nfeed { notify = on }", "feed.notify: has no effect"},
		{"source { uri = \"sqlite:/x.db\" create = on }\nfeed { changefeed = on }",
	         "feed.changefeed: has no effect"},
		{"source { uri = \"postgresql:///x\" }\nfeed { changefeed = on }",
	         "feed.changefeed: has no effect with a source of postgresql:"},
		{"source { uri = \"sqlite:/x.db\" create = on }\nfeed { changefeed = off }", NULL},
		{"source { uri = \"dynamodb://eu-west-1/x\" }\nfeed { keep_s = 10m }",
	         "feed.keep_s: a source of dynamodb: keeps changes for 3600 s at least"},
		{"source { uri = \"dynamodb://eu-west-1/x\" }\nfeed { keep_s = 1h }", NULL},
		{"source { uri = \"postgresql:///x\" }\nfeed { keep_s = 10m }", NULL},
		{"control { write_groups = \"0\" write_users = root }", NULL},
		{"warm { file = /shmeta-test-no/x }", "warm.file: the directory /shmeta-test-no: No such file"},
		{"warm { file = /tmp }", "warm.file: /tmp is a directory"},
		{"warm { file = /tmp/shmeta-test-no }", NULL},
		{"store { mode = bounded }\nwarm { file = /tmp/shmeta-test-no }",
	         "warm.file: has no effect where store.mode is bounded"},
		{"bounded { max_topics = 7 }", "bounded.max_topics: has no effect where store.mode is mirror"},
		{"store { mode = bounded }\nbounded { max_topics = 7 }", NULL},
		{"store { mode = bounded }\nbounded { fresh_max_ms = 1h }",
	         "bounded.fresh_max_ms: has no effect where bounded.freshness is fixed"},
		{"instance { directory = /etc/passwd/x }", "instance.directory: /etc/passwd"},
		{"instance { directory = /tmp/shmeta-test-no/x }", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct told told = {.count = 0};
		const struct config_listener listener = {.arg = &told, .problem = collect};
		struct config *config = NULL;

		cr_assert_eq(load_text(cases[i].text, &config, &told), SHMETA_OK, "%s", cases[i].text);
		cr_assert_eq(config_judge_host(config, &listener), cases[i].said != NULL, "%s: %s", cases[i].text,
		             told.count > 0 ? told.sentence[0] : "nothing");
		cr_assert_eq(told.count, cases[i].said != NULL);
		if (cases[i].said != NULL) {
			cr_expect_not_null(strstr(told.sentence[0], cases[i].said), "%s", told.sentence[0]);
			cr_expect_eq(strncmp(told.sentence[0], path, strlen(path)), 0, "%s", told.sentence[0]);
		}
		config_free(config);
		forget(&told);
	}
}

Test(config, a_string_left_open_does_not_spoil_the_next_load, .init = begin, .fini = end)
{
	struct told told = {.count = 0};
	struct config *config = NULL;

	cr_assert_eq(load_text("log { level = \"info", &config, &told), SHMETA_ERR_CONFIG);
	cr_assert_eq(load_text("log { level = debug }", &config, &told), SHMETA_OK);
	cr_expect_eq(config->log_level, 7);
	config_free(config);
	forget(&told);
}

Test(config, unreadable_files_are_refused_by_name, .init = begin, .fini = end)
{
	static char long_text[(1 << 20) + 2];
	struct told told = {.count = 0};
	const struct config_listener listener = {.arg = &told, .problem = collect};
	struct config_flags flags = {.file = path};
	struct config *config = NULL;
	struct shmeta_err err;

	cr_expect_eq(config_load(&flags, &listener, &config, &err), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(told.sentence[0], "No such file"));
	memset(long_text, '\n', sizeof(long_text));
	write_file(long_text, sizeof(long_text));
	cr_expect_eq(config_load(&flags, &listener, &config, &err), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(told.sentence[1], "longer than"));
	write_file("log { level = \0 }", 17);
	cr_expect_eq(config_load(&flags, &listener, &config, &err), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(told.sentence[2], "control character"));
	flags.file = directory;
	cr_expect_eq(config_load(&flags, &listener, &config, &err), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(told.sentence[3], "is a directory, not a file"));
	unlink(path);
	/* opening it for reading would wait for somebody who writes */
	cr_assert_eq(mkfifo(path, 0600), 0);
	flags.file = path;
	cr_expect_eq(config_load(&flags, &listener, &config, &err), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(told.sentence[4], "is a FIFO, not a file"));
	cr_expect_eq(told.count, 5);
	forget(&told);
}

/* A value that differs from the default, for every option, made from the table itself. */
static const char *other_value(size_t i, char *buffer, size_t bytes)
{
	const struct config_option *o = &config_options[i];

	switch (o->kind) {
	case CONFIG_TEXT:
		return i == CONFIG_source_uri             ? "\"sqlite:/tmp/other#1.db\""
		       : i == CONFIG_source_accept        ? "00ff00ff00ff00ff"
		       : i == CONFIG_store_mode           ? "bounded"
		       : i == CONFIG_bounded_freshness    ? "balanced"
		       : i == CONFIG_instance_directory   ? "'/tmp/other'"
		       : i == CONFIG_warm_file            ? "'/tmp/other'"
		       : i == CONFIG_source_password_file ? "'/tmp/other password'"
		                                          : "other_1.x-y";
	case CONFIG_BOOL:
		return strcmp(o->standard, "on") == 0 ? "No" : "true";
	case CONFIG_LEVEL:
		return "warning";
	default:
		snprintf(buffer, bytes, "%llu", (unsigned long long)o->max);
		return buffer;
	}
}

/* ---- drop-ins ---- */

static void write_drop_in(const char *name, const char *text)
{
	char drop_in[SCRATCH_PATH_MAX + 64];
	FILE *stream;

	snprintf(drop_in, sizeof(drop_in), "%s.d", path);
	(void)mkdir(drop_in, 0755);
	snprintf(drop_in, sizeof(drop_in), "%s.d/%s", path, name);
	stream = fopen(drop_in, "we");
	cr_assert_not_null(stream);
	cr_assert_geq(fputs(text, stream), 0);
	cr_assert_eq(fclose(stream), 0);
}

static void end_with_drop_ins(void)
{
	char command[SCRATCH_PATH_MAX + 64];

	snprintf(command, sizeof(command), "rm -rf '%s.d'", path);
	cr_expect_eq(system(command), 0);
	end();
}

Test(config, drop_ins_change_the_file_in_the_order_of_their_names, .init = begin, .fini = end_with_drop_ins)
{
	struct told told = {.count = 0};
	struct config *config = NULL;
	char where[SCRATCH_PATH_MAX + 64];

	write_drop_in("20-last.conf", "ttl { topic_ms = 3s }\n\nttl_override \"a\" { ttl_ms = 5s }");
	write_drop_in("10-first.conf", "ttl { topic_ms = 2s partition_ms = 2s }");
	write_drop_in(".hidden.conf", "nonsense");
	write_drop_in("20-last.conf.dpkg-new", "nonsense");
	cr_assert_eq(load_text("ttl { topic_ms = 1s partition_ms = 1s segment_ms = 1s }\n"
	                       "ttl_override \"a\" { ttl_ms = 4s }\nttl_override \"b\" { ttl_ms = 4s }",
	                       &config, &told),
	             SHMETA_OK, "%s", told.count ? told.sentence[0] : "");
	cr_expect_eq(config->ttl_topic_ms, 3000);
	cr_expect_eq(config->ttl_partition_ms, 2000);
	cr_expect_eq(config->ttl_segment_ms, 1000);
	cr_expect_eq(config->override_count, 2);
	cr_expect_eq(config->overrides[0].ttl_ms, 5000);
	cr_expect_eq(config->overrides[1].ttl_ms, 4000);
	/* Where each comes from is told. */
	snprintf(where, sizeof(where), "%s.d/20-last.conf:1", path);
	cr_expect_str_eq(config->origin[CONFIG_ttl_topic_ms], where);
	snprintf(where, sizeof(where), "%s.d/20-last.conf:3", path);
	cr_expect_str_eq(config->overrides[0].origin, where);
	snprintf(where, sizeof(where), "%s:1", path);
	cr_expect_str_eq(config->origin[CONFIG_ttl_segment_ms], where);
	config_free(config);
}

Test(config, mistakes_of_drop_ins_name_their_file_and_line, .init = begin, .fini = end_with_drop_ins)
{
	static const char *const wanted[] = {"shmeta.conf:2: ttl.topic_ms", "a.conf:1: store.max_byts",
	                                     "a.conf:2: ttl.list_ms: is already set in line 2", "b.conf:3: stor",
	                                     "b.conf:4: feed.poll_min_ms"};
	struct told told = {.count = 0};
	struct config *config = NULL;

	/* What contradicts another file's belongs to where it was set last. */
	write_drop_in("b.conf", "\n\nstor { x = 1 }\nfeed { poll_min_ms = 9s }");
	write_drop_in("a.conf", "store { max_byts = 1 }\nttl { list_ms = 1s list_ms = 2s }");
	cr_assert_eq(load_text("feed { poll_max_ms = 2s }\nttl { topic_ms = x }", &config, &told), SHMETA_ERR_CONFIG);
	cr_expect_eq(told.count, sizeof(wanted) / sizeof(*wanted));
	for (size_t i = 0; i < told.count && i < sizeof(wanted) / sizeof(*wanted); i++)
		cr_expect_not_null(strstr(told.sentence[i], wanted[i]), "%s", told.sentence[i]);
	forget(&told);
}

Test(config, drop_ins_that_cannot_be_read_are_refused, .init = begin, .fini = end_with_drop_ins)
{
	struct told told = {.count = 0};
	struct config *config = NULL;
	char name[32], drop_in[SCRATCH_PATH_MAX + 64];
	FILE *stream;

	snprintf(drop_in, sizeof(drop_in), "%s.d", path);
	stream = fopen(drop_in, "we");
	fclose(stream);
	cr_assert_eq(load_text("", &config, &told), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(told.sentence[0], "shmeta.conf.d cannot be read: Not a directory"), "%s",
	                   told.sentence[0]);
	unlink(drop_in);
	for (int i = 0; i < 65; i++) {
		snprintf(name, sizeof(name), "%02d.conf", i);
		write_drop_in(name, "");
	}
	cr_assert_eq(load_text("", &config, &told), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(told.sentence[1], "holds 65 drop-ins; at most 64 are read"), "%s", told.sentence[1]);
	forget(&told);
}

Test(config, a_password_file_is_an_absolute_path_or_a_credential, .init = begin, .fini = end)
{
	static const char text[] = "source {\n\tpassword_file = source.password\n}\n";
	struct sync_ttl_override overrides[1];
	struct told told = {.count = 0};
	struct config *config = NULL;
	struct sync_options options;

	unsetenv("CREDENTIALS_DIRECTORY");
	cr_expect_eq(load_text(text, &config, &told), SHMETA_ERR_CONFIG);
	cr_assert_eq(told.count, 1);
	cr_expect_not_null(strstr(told.sentence[0], "source.password_file: 'source.password' is neither"));
	forget(&told);
	setenv("CREDENTIALS_DIRECTORY", "/run/credentials/shmetad.service", 1);
	cr_assert_eq(load_text(text, &config, &told), SHMETA_OK);
	config_sync_options(config, overrides, &options);
	cr_expect_str_eq(options.source.password_file, "/run/credentials/shmetad.service/source.password");
	config_free(config);
}

Test(config, a_file_with_every_option_sets_every_option, .init = begin, .fini = end)
{
	char *text = NULL, buffer[32];
	struct told told = {.count = 0};
	struct config *config = NULL;
	size_t bytes = 0;
	FILE *stream = open_memstream(&text, &bytes);

	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++)
		fprintf(stream, "%s { %s = %s } // %zu\r\n", config_options[i].section, config_options[i].name,
		        other_value(i, buffer, sizeof(buffer)), i);
	fprintf(stream, "ttl_override \"orders.\" { ttl_ms = 1500 }\nttl_override \"o\" { ttl_ms = 2m }\n");
	fclose(stream);
	cr_assert_eq(load_text(text, &config, &told), SHMETA_OK, "%s", told.count ? told.sentence[0] : "");
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		char origin[128];

		snprintf(origin, sizeof(origin), "%s:%zu", path, i + 1);
		cr_expect_str_eq(config->origin[i], origin, "%s comes from %s", o->key, config->origin[i]);
		if (o->kind != CONFIG_TEXT && o->kind != CONFIG_BOOL && o->kind != CONFIG_LEVEL)
			cr_expect_eq(*(uint64_t *)(void *)((char *)config + o->at), o->max, "%s", o->key);
	}
	cr_expect_str_eq(config->source_uri, "sqlite:/tmp/other#1.db");
	cr_expect_str_eq(config->instance_directory, "/tmp/other");
	cr_expect_str_eq(config->instance_name, "other_1.x-y");
	cr_expect_eq(config->source_manage_schema, 0);
	cr_expect_eq(config->source_read_only, 1);
	cr_expect_eq(config->log_level, 4);
	cr_assert_eq(config->override_count, 2);
	cr_expect_str_eq(config->overrides[0].prefix, "orders.");
	cr_expect_eq(config->overrides[0].ttl_ms, 1500);
	cr_expect_eq(config->overrides[1].ttl_ms, 120000);
	config_free(config);
	free(text);
}

Test(config, defaults_are_within_their_limits_and_need_no_file)
{
	const struct config_flags flags = {0};
	struct config *config = NULL;
	struct shmeta_err err = {0};

	unsetenv("STATE_DIRECTORY");
	unsetenv("RUNTIME_DIRECTORY");
	cr_assert_eq(config_load(&flags, NULL, &config, &err), SHMETA_OK, "%s", err.text);
	cr_expect_str_eq(config->instance_directory, "/run/shmeta/default");
	cr_expect_str_eq(config->source_uri, "sqlite:/var/lib/shmeta/default.db");
	cr_expect_eq(config->store_max_bytes, 1 << 30);
	config_free(config);
}

/* The header's table of classes is where every other part takes these from. */
Test(config, default_ttls_are_those_of_the_public_header)
{
	const struct config_flags flags = {0};
	struct config *config = NULL;
	struct sync_options options;

	cr_assert_eq(config_load(&flags, NULL, &config, NULL), SHMETA_OK);
	config_sync_options(config, NULL, &options);
#define SHMETA_X(name, number, text, ttl) cr_expect_eq(options.ttl_ms[SHMETA_CLASS_##name], ttl, "%s", text);
	SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
	config_free(config);
}

Test(config, the_service_managers_directories_are_used)
{
	const struct config_flags plain = {0}, named = {.instance = "blue"};
	struct config *config = NULL;

	setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two", 1);
	setenv("RUNTIME_DIRECTORY", "/run/shmeta/default", 1);
	cr_assert_eq(config_load(&plain, NULL, &config, NULL), SHMETA_OK);
	cr_expect_str_eq(config->instance_directory, "/run/shmeta/default");
	cr_expect_str_eq(config->source_uri, "sqlite:/var/lib/one/default.db");
	cr_expect_str_eq(config->origin[CONFIG_source_uri], "STATE_DIRECTORY");
	config_free(config);
	setenv("RUNTIME_DIRECTORY", "/run/shmeta", 1);
	cr_assert_eq(config_load(&named, NULL, &config, NULL), SHMETA_OK);
	cr_expect_str_eq(config->instance_directory, "/run/shmeta/blue");
	config_free(config);
}

Test(config, settings_win_over_the_file_and_are_judged_with_it, .init = begin, .fini = end)
{
	char value[4] = "7", origin[] = "set by somebody";
	struct config_setting setting = {config_find("bounded.max_topics"), value, origin};
	const struct config_flags flags = {.file = path, .settings = &setting, .setting_count = 1};
	static const char text[] = "bounded { max_topics = 5 }";
	struct config *config = NULL;
	struct shmeta_err err;

	cr_assert_not_null(setting.option);
	cr_expect_null(config_find("bounded.max_topic"));
	write_file(text, strlen(text));
	cr_assert_eq(config_load(&flags, NULL, &config, &err), SHMETA_OK, "%s", err.text);
	cr_expect_eq(config->bounded_max_topics, 7);
	cr_expect_str_eq(config->origin[CONFIG_bounded_max_topics], "set by somebody");
	config_free(config);
	value[0] = 'x';
	cr_expect_eq(config_load(&flags, NULL, &config, &err), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(err.text, "bounded.max_topics: "), "%s", err.text);
	setting = (struct config_setting){config_find("retry.min_ms"), value, origin};
	memcpy(value, "1m", 3);
	cr_expect_eq(config_load(&flags, NULL, &config, &err), SHMETA_ERR_CONFIG, "it is longer than retry.max_ms");
}

Test(config, flags_win_over_the_file_and_are_judged_too, .init = begin, .fini = end)
{
	struct config_flags flags = {.file = path, .source = "memory:", .directory = "/tmp/d", .instance = "flagged"};
	struct told told = {.count = 0};
	const struct config_listener listener = {.arg = &told, .problem = collect};
	static const char text[] = "source { uri = \"sqlite:/x\" } instance { name = filed directory = /tmp/f }";
	struct config *config = NULL;
	struct shmeta_err err;

	write_file(text, strlen(text));
	cr_assert_eq(config_load(&flags, &listener, &config, &err), SHMETA_OK);
	cr_expect_str_eq(config->source_uri, "memory:");
	cr_expect_str_eq(config->instance_directory, "/tmp/d");
	cr_expect_str_eq(config->instance_name, "flagged");
	cr_expect_str_eq(config->origin[CONFIG_source_uri], "--source");
	config_free(config);
	flags.instance = "";
	cr_expect_eq(config_load(&flags, &listener, &config, &err), SHMETA_ERR_CONFIG);
	cr_expect_str_eq(told.sentence[0], "--instance: must not be empty");
	forget(&told);
}

static void expect_create(const struct config_flags *flags, uint64_t create, const char *origin)
{
	struct sync_ttl_override overrides[1];
	struct config *config = NULL;
	struct sync_options options;

	cr_assert_eq(config_load(flags, NULL, &config, NULL), SHMETA_OK);
	config_sync_options(config, overrides, &options);
	cr_expect_eq(options.source.create, create);
	cr_expect_str_eq(config->origin[CONFIG_source_create], origin);
	config_free(config);
}

Test(config, only_the_default_path_is_created_without_being_asked_for, .init = begin, .fini = end)
{
	static const char off[] = "source { create = off }";

	unsetenv("STATE_DIRECTORY");
	expect_create(&(struct config_flags){0}, 1, "default path");
	expect_create(&(struct config_flags){.create = true}, 1, "--create");
	expect_create(&(struct config_flags){.source = "sqlite:/x/y.db"}, 0, "default");
	expect_create(&(struct config_flags){.source = "sqlite:/x/y.db", .create = true}, 1, "--create");
	setenv("STATE_DIRECTORY", "/var/lib/one", 1);
	expect_create(&(struct config_flags){0}, 1, "default path");
	write_file(off, strlen(off));
	{
		char origin[128];

		snprintf(origin, sizeof(origin), "%s:1", path);
		expect_create(&(struct config_flags){.file = path}, 0, origin);
	}
}

Test(config, relative_paths_are_made_absolute, .init = begin, .fini = end)
{
	static const struct {
		const char *given, *absolute; /* absolute: behind the temporary directory */
	} cases[] = {{"sqlite:meta.db", "/meta.db"},        {"sqlite:./meta.db", "/meta.db"},
	             {"sqlite:sub/../meta.db", "/meta.db"}, {"sqlite:link/meta.db", "/sub/meta.db"},
	             {"sqlite:sub/file", "/sub/file"},      {"sqlite:missing/meta.db", "/missing/meta.db"}};
	char dir[] = "/tmp/config-XXXXXX", before[4096], expected[256], command[128];

	cr_assert_not_null(mkdtemp(dir));
	cr_assert_not_null(getcwd(before, sizeof(before)));
	cr_assert_eq(chdir(dir), 0);
	/* A symlink as last component stays: where it leads may change. */
	cr_assert_eq(mkdir("sub", 0755) | symlink("sub", "link") | symlink("/nowhere", "sub/file"), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct config_flags flags = {.source = cases[i].given, .directory = "sub/instance"};
		struct config *config = NULL;

		cr_assert_eq(config_load(&flags, NULL, &config, NULL), SHMETA_OK);
		snprintf(expected, sizeof(expected), "sqlite:%s%s", dir, cases[i].absolute);
		cr_expect_str_eq(config->source_uri, expected, "%s -> %s", cases[i].given, config->source_uri);
		snprintf(expected, sizeof(expected), "%s/sub/instance", dir);
		cr_expect_str_eq(config->instance_directory, expected);
		config_free(config);
	}
	cr_assert_eq(chdir(before), 0);
	snprintf(command, sizeof(command), "rm -r '%s'", dir);
	cr_expect_eq(system(command), 0);
}

Test(config, a_reload_keeps_what_needs_a_restart_and_names_it, .init = begin, .fini = end)
{
	struct told told = {.count = 0};
	struct config *running = NULL, *next = NULL;
	char keys[256];

	cr_assert_eq(load_text("store { max_bytes = 1G } ttl { topic_ms = 1s }", &running, &told), SHMETA_OK);
	cr_assert_eq(
		load_text("store { max_bytes = 2G } ttl { topic_ms = 2s } source { uri = \"memory:\" }", &next, &told),
		SHMETA_OK);
	config_keep_started(running, next, keys, sizeof(keys));
	cr_expect_str_eq(keys, "source.uri, store.max_bytes");
	cr_expect_eq(next->store_max_bytes, 1 << 30);
	cr_expect_str_eq(next->source_uri, running->source_uri);
	cr_expect_eq(next->ttl_topic_ms, 2000);
	config_keep_started(running, next, keys, sizeof(keys));
	cr_expect_str_eq(keys, "", "nothing is left to report: %s", keys);
	config_free(running);
	config_free(next);
}

Test(config, values_are_shown_so_that_they_read_back, .init = begin, .fini = end)
{
	static const struct {
		const char *text, *shown;
	} values[] = {
		{"1048576", "1M"},
		{"1536K", "1536K"},
		{"1G", "1G"},
		{"1048577", "1048577"},
	};

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		struct told told = {.count = 0};
		struct config *config = NULL;
		const char *shown;
		char text[64];
		json_t *json;

		snprintf(text, sizeof(text), "store { max_bytes = %s }", values[i].text);
		cr_assert_eq(load_text(text, &config, &told), SHMETA_OK);
		json = config_json(config);
		shown = json_string_value(json_object_get(
			json_array_get(json_object_get(json, "options"), CONFIG_store_max_bytes), "value"));
		cr_expect_str_eq(shown, values[i].shown);
		json_decref(json);
		config_free(config);
	}
}

static const char *effective(const json_t *json, int option)
{
	const json_t *one = json_array_get(json_object_get(json, "options"), (size_t)option);
	const char *text = json_string_value(json_object_get(one, "effective"));

	return text != NULL ? text : "none";
}

Test(config, what_a_preset_sets_is_shown, .init = begin, .fini = end)
{
	struct told told = {.count = 0};
	struct config *config = NULL;
	json_t *json;

	cr_assert_eq(load_text("bounded { freshness = write-heavy\n fresh_max_ms = 5m }", &config, &told), SHMETA_OK);
	json = config_json(config);
	cr_expect_str_eq(effective(json, CONFIG_bounded_fresh_min_ms), "1s");
	cr_expect_str_eq(effective(json, CONFIG_bounded_fresh_base_ms), "10s");
	cr_expect_str_eq(effective(json, CONFIG_bounded_fresh_max_ms), "none", "the file says it");
	cr_expect_str_eq(effective(json, CONFIG_bounded_fresh_longer_percent), "125");
	cr_expect_str_eq(effective(json, CONFIG_bounded_fresh_shorter_percent), "35");
	cr_expect_str_eq(effective(json, CONFIG_bounded_batch_percent), "none");
	json_decref(json);
	config_free(config);
	cr_assert_eq(load_text("bounded { fresh_min_ms = 5s }", &config, &told), SHMETA_OK);
	json = config_json(config);
	cr_expect_str_eq(effective(json, CONFIG_bounded_fresh_min_ms), "none", "freshness is fixed");
	cr_expect_str_eq(effective(json, CONFIG_bounded_fresh_max_ms), "none");
	json_decref(json);
	config_free(config);
}

Test(config, passwords_in_uris_are_never_shown)
{
	static const struct {
		const char *uri, *shown;
	} uris[] = {
		{"postgresql://me:secret@host/db", "postgresql://me:***@host/db"},
		{"postgresql://me:sec@ret@host/db", "postgresql://me:***@host/db"},
		{"postgresql://me@host:5432/db", "postgresql://me@host:5432/db"},
		{"postgresql://me@host/db?password=secret&sslmode=require",
	         "postgresql://me@host/db?password=***&sslmode=require"},
		{"postgresql://me:one@host/db?sslpassword=two", "postgresql://me:***@host/db?sslpassword=***"},
		{"postgresql://me@host/db?pass%77ord=secret&sslmode=require",
	         "postgresql://me@host/db?pass%77ord=***&sslmode=require"},
		{"postgresql://me@host/db?user=a&%73slpasswor%64=one&%70%61%73%73%77%6f%72%64=two",
	         "postgresql://me@host/db?user=a&%73slpasswor%64=***&%70%61%73%73%77%6f%72%64=***"},
		{"postgresql://host/db?application_name=password&passfile=/x",
	         "postgresql://host/db?application_name=password&passfile=/x"},
		{"postgresql://me@host/db?password=se#cret&user=a", "postgresql://me@host/db?password=***&user=a"},
		{"postgresql:host=h password=secret dbname=d", "postgresql:host=h password=*** dbname=d"},
		{"postgresql:host=h password = sec\\ ret dbname=d", "postgresql:host=h password = *** dbname=d"},
		{"postgresql:password='se \\' ret' host=h", "postgresql:password=*** host=h"},
		{"postgresql:password='never ended", "postgresql:password=***"},
		{"postgresql:user=password", "postgresql:user=password"},
		{"sqlite:/a:b@c", "sqlite:/a:b@c"},
	};
	char shown[128];

	for (size_t i = 0; i < sizeof(uris) / sizeof(*uris); i++)
		cr_expect_str_eq(config_hide_secrets(uris[i].uri, shown, sizeof(shown)), uris[i].shown);
}

/* ---- what is generated from the table ---- */

static char *printed(void (*print)(FILE *stream))
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *stream = open_memstream(&text, &bytes);

	print(stream);
	fclose(stream);
	return text;
}

static char *file_text(const char *name)
{
	char *text = NULL, full[512];
	size_t bytes = 0;
	FILE *from, *stream;

	snprintf(full, sizeof(full), "%s/%s", places_source, name);
	from = fopen(full, "re");
	cr_assert_not_null(from, "%s", full);
	stream = open_memstream(&text, &bytes);
	for (int c; (c = fgetc(from)) != EOF;)
		fputc(c, stream);
	fclose(from);
	fclose(stream);
	return text;
}

Test(config, the_grace_of_objects_is_twice_the_longest_time_to_live_unless_it_is_set, .init = begin, .fini = end)
{
	static const struct {
		const char *text;
		uint64_t grace_ms;
	} cases[] = {
		{"", 600000},
		{"objects { grace_ms = 0 }", 600000},
		{"objects { grace_ms = 10m }", 600000},
		{"objects { grace_ms = 3h }", 10800000},
		/* agents: 5 s */
		{"ttl { topic_ms = 1s\n partition_ms = 1s\n segment_ms = 2s\n list_ms = 1s }", 10000},
		{"ttl_override \"a\" { ttl_ms = 1h }", 7200000},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct config_flags flags = {.file = path};
		struct sync_ttl_override overrides[1];
		struct sync_options options;
		struct config *config = NULL;
		struct shmeta_err err = {0};

		write_file(cases[i].text, strlen(cases[i].text));
		cr_assert_eq(config_load(&flags, NULL, &config, &err), SHMETA_OK, "%s: %s", cases[i].text, err.text);
		config_sync_options(config, overrides, &options);
		cr_expect_eq(options.object_grace_ms, cases[i].grace_ms, "%s", cases[i].text);
		config_free(config);
	}
}

Test(config, the_sample_file_is_what_the_table_says)
{
	char *sample = printed(config_print_sample), *file = file_text("systemd/shmeta.conf");

	cr_expect_str_eq(file, sample, "run: shmetad --print-sample > systemd/shmeta.conf");
	free(sample);
	free(file);
}

Test(config, the_manual_lists_the_options_as_the_table_says)
{
	char *manual = printed(config_print_manual), *file = file_text("docs/man/shmeta.conf.5.scd");

	cr_expect_not_null(strstr(file, manual), "put the output of shmetad --print-manual into the page");
	free(manual);
	free(file);
}

Test(config, the_sample_with_every_line_active_is_a_good_file, .init = begin, .fini = end)
{
	char *sample = printed(config_print_sample);
	struct told told = {.count = 0};
	struct config *config = NULL;

	/* "#name" is an option that is commented out, "# text" is a comment. */
	for (char *p = sample; *p != '\0'; p++)
		if (*p == '#' && p[1] != ' ')
			*p = ' ';
	cr_assert_eq(load_text(sample, &config, &told), SHMETA_OK, "%s", told.count ? told.sentence[0] : "");
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++)
		cr_expect_str_neq(config->origin[i], "default", "%s is not in the sample", config_options[i].key);
	cr_expect_eq(config->override_count, 1);
	config_free(config);
	free(sample);
}
