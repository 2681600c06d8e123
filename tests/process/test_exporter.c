/* SPDX-License-Identifier: Apache-2.0
 * shmeta-exporter: what it answers, to whom, and within which limits; with the writer alive,
 * stopped and dead. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/forged.h"
#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_exporter.h"
#include "tests/support/run_tool.h"
#include "tests/support/scratch.h"
#include "tools/monitor/metrics.h"

TestSuite(exporter, .timeout = 120);

static struct run_daemon d;
static struct run_exporter e;
static struct forged f;

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_exporter_start(&e, "--dir %s", d.instance), 0);
}

static void end(void)
{
	run_exporter_done(&e);
	run_daemon_done(&d);
}

static void begin_forged(void)
{
	forge(&f);
	cr_assert_eq(run_exporter_start(&e, "--dir %s", f.dir), 0);
}

static void end_forged(void)
{
	run_exporter_done(&e);
	forged_done(&f);
}

static char *get(const char *path, const char *headers, int status)
{
	struct http_answer answer;
	char *body;

	run_exporter_get(&e, path, headers, &answer);
	cr_assert_eq(answer.status, status, "%s: %d instead of %d: %.300s", path, answer.status, status, answer.text);
	body = strdup(answer.body);
	http_answer_done(&answer);
	return body;
}

/* Until /metrics has this line, at most 20 s. */
static void await_metric(const char *line)
{
	double last = run_now_s() + 20;

	for (;;) {
		char *body = get("/metrics", "", 200);
		int there = strstr(body, line) != NULL;

		free(body);
		if (there)
			return;
		cr_assert(run_now_s() < last, "no %s", line);
		usleep(50000);
	}
}

/* ---- what is answered ---- */

Test(exporter, metrics_stat_and_the_documents_name_the_same_rows, .init = begin, .fini = end)
{
	char *scrape = get("/metrics", "", 200), path[4200], text[METRIC_NAME_BYTES + 40], name[METRIC_NAME_BYTES];
	char *manual, *document;
	struct run_tool t;
	json_t *doc, *rows;

	snprintf(path, sizeof(path), "%s/docs/man/shmeta-metrics.7.scd", places_source);
	manual = run_read_file(path);
	snprintf(path, sizeof(path), "%s/docs/metrics.md", places_source);
	document = run_read_file(path);
	cr_assert(manual != NULL && document != NULL);
	run_tool(&t, "shmetactl --dir %s stat --json", d.instance);
	doc = run_tool_json(&t);
	rows = json_object_get(doc, "metrics");
	cr_assert_eq(json_array_size(rows), metric_count());
	for (size_t i = 0; i < metric_count(); i++) {
		const struct metric *row = metric_row(i);
		json_t *one = json_array_get(rows, i);

		metric_name(row, name);
		cr_expect_str_eq(json_string_value(json_object_get(one, "name")), row->key);
		cr_expect_str_eq(json_string_value(json_object_get(one, "metric")), name);
		snprintf(text, sizeof(text), "# TYPE %s %s\n", name, metric_kind(row->kind));
		cr_expect_not_null(strstr(scrape, text), "no %s", text);
		snprintf(text, sizeof(text), "\n%s{shmeta_instance=\"instance\"", name);
		if (metric_is_histogram(row))
			snprintf(text, sizeof(text), "\n%s_bucket{", name);
		cr_expect_not_null(strstr(scrape, text), "no sample of %s", name);
		snprintf(text, sizeof(text), "*%s*", name);
		cr_expect_not_null(strstr(manual, text), "%s is not in the manual", name);
		snprintf(text, sizeof(text), "| `%s` |", name);
		cr_expect_not_null(strstr(document, text), "%s is not in the document", name);
	}
	json_decref(doc);
	run_tool_done(&t);
	run_tool(&t, "shmeta-exporter --print-metrics");
	cr_expect_not_null(strstr(document, t.out), "docs/metrics.md: not what --print-metrics prints");
	run_tool_done(&t);
	run_tool(&t, "shmeta-exporter --print-manual");
	cr_expect_not_null(strstr(manual, t.out), "shmeta-metrics(7): not what --print-manual prints");
	run_tool_done(&t);
	free(scrape);
	free(manual);
	free(document);
}

Test(exporter, promtool_finds_nothing_wrong_while_the_cache_is_used, .init = begin, .fini = end)
{
	char path[160], *scrape;
	struct shmeta *instance;
	struct shmeta_reader *reader;
	struct run_tool t;
	FILE *file;

	run_tool(&t, "sh -c 'command -v promtool'");
	if (t.code != 0) {
		run_tool_done(&t);
		end();
		cr_skip_test("no promtool: Debian's package prometheus has it");
	}
	run_tool_done(&t);
	instance = run_daemon_open(&d, "agent", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	for (int i = 0; i < 2000; i++) {
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		{
			struct shmeta_topic topic;

			cr_assert_eq(shmeta_get_topic(reader, "nothing", 7, NULL, &topic, NULL), SHMETA_ABSENT);
		}
		(void)shmeta_end(reader);
	}
	await_metric("shmeta_reader_absent_total{shmeta_instance=\"instance\"} 2000\n");
	scrape = get("/metrics", "", 200);
	cr_expect_null(strstr(scrape, "shmeta_lookup_seconds_count{shmeta_instance=\"instance\"} 0\n"),
	               "no lookup was sampled");
	snprintf(path, sizeof(path), "%s/scrape", e.dir);
	file = fopen(path, "we");
	cr_assert_not_null(file);
	fputs(scrape, file);
	fclose(file);
	run_tool(&t, "promtool check metrics <%s", path);
	cr_expect_eq(t.code, 0, "%s%s", t.out, t.err);
	cr_expect_str_eq(t.err, "");
	run_tool_done(&t);
	remove(path);
	free(scrape);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

Test(exporter, open_metrics_is_written_to_whoever_asks_for_it, .init = begin, .fini = end)
{
	struct http_answer answer;

	run_exporter_get(&e, "/metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n",
	                 &answer);
	cr_assert_eq(answer.status, 200);
	cr_expect_not_null(
		strstr(answer.text, "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
	cr_expect_str_eq(answer.body + answer.bytes - strlen("# EOF\n"), "# EOF\n");
	cr_expect_not_null(strstr(answer.body, "# TYPE shmeta_loads counter\n"));
	cr_expect_not_null(strstr(answer.body, "\nshmeta_loads_total{"));
	cr_expect_not_null(strstr(answer.body, "# UNIT shmeta_store_used_bytes bytes\n"));
	http_answer_done(&answer);
}

Test(exporter, no_name_of_a_row_is_told, .init = begin, .fini = end)
{
	static const char *const paths[] = {"/metrics", "/health", "/ready", "/"};
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s topic create marker-of-a-topic 3", d.instance);
	cr_assert_eq(t.code, 0);
	run_tool_done(&t);
	await_metric("shmeta_topics{shmeta_instance=\"instance\"} 1\n");
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		char *body = get(paths[i], "", 200);

		cr_expect_null(strstr(body, "marker-of-a-topic"), "%s", paths[i]);
		free(body);
	}
}

Test(exporter, it_goes_on_while_the_writer_is_stopped_and_dead, .init = begin, .fini = end)
{
	char *body = get("/health", "", 200);
	struct http_answer answer;

	free(body);
	kill(d.pid, SIGSTOP);
	run_exporter_get(&e, "/metrics", "", &answer);
	cr_expect_eq(answer.status, 200);
	http_answer_done(&answer);
	kill(d.pid, SIGCONT);
	run_daemon_end(&d, SIGKILL);
	await_metric("shmeta_writer_alive{shmeta_instance=\"instance\"} 0\n");
	body = get("/health", "", 503);
	cr_expect_not_null(strstr(body, "\"critical\""));
	cr_expect_not_null(strstr(body, "journalctl -u UNIT -e"));
	free(body);
	body = get("/ready", "", 200); /* lookups go on */
	free(body);
	body = get("/", "", 200);
	cr_expect_not_null(strstr(body, "Writer: <b>dead</b>"));
	free(body);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	await_metric("shmeta_writer_alive{shmeta_instance=\"instance\"} 1\n");
}

Test(exporter, several_instances_are_one_exporter_and_new_ones_are_found)
{
	struct run_daemon second;
	char *body, options[200], root[64], link[160];

	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_init(&second), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert(scratch_dir("root", root));
	snprintf(options, sizeof(options), "--root %s", root);
	cr_assert_eq(run_exporter_start(&e, "%s", options), 0);
	body = get("/health", "", 503);
	cr_expect_not_null(strstr(body, "\"unknown\""), "%s", body);
	free(body);
	body = get("/ready", "", 503);
	free(body);
	snprintf(link, sizeof(link), "%s/eu", root);
	cr_assert_eq(symlink(d.instance, link), 0);
	await_metric("shmeta_writer_alive{shmeta_instance=\"eu\"} 1\n");
	cr_assert_eq(run_daemon_start(&second, NULL), 0);
	snprintf(link, sizeof(link), "%s/us", root);
	cr_assert_eq(symlink(second.instance, link), 0);
	await_metric("shmeta_writer_alive{shmeta_instance=\"us\"} 1\n");
	await_metric("shmeta_writer_alive{shmeta_instance=\"eu\"} 1\n");
	body = get("/?instance=us", "", 200);
	cr_expect_not_null(strstr(body, "<title>us - shmeta</title>"));
	cr_expect_not_null(strstr(body, "/?instance=eu&amp;window=10m"));
	free(body);
	body = get("/health?instance=us", "", 200);
	cr_expect_null(strstr(body, "\"eu\""));
	free(body);
	body = get("/?instance=nosuch", "", 404);
	free(body);
	unlink(link);
	await_metric("shmeta_readable{shmeta_instance=\"us\"} 0\n");
	body = get("/health?instance=us", "", 503);
	cr_expect_not_null(strstr(body, "no such directory"), "%s", body);
	free(body);
	snprintf(link, sizeof(link), "%s/eu", root);
	unlink(link);
	rmdir(root);
	run_exporter_done(&e);
	run_daemon_done(&second);
	run_daemon_done(&d);
}

Test(exporter, of_two_instances_of_one_name_the_later_one_is_called_by_its_path)
{
	char a[64], b[64], link[2][80], row[200], *body, *first;

	forge(&f);
	cr_assert(scratch_dir("a", a) && scratch_dir("b", b));
	snprintf(link[0], sizeof(link[0]), "%s/same", a);
	snprintf(link[1], sizeof(link[1]), "%s/same", b);
	cr_assert(symlink(f.dir, link[0]) == 0 && symlink(f.dir, link[1]) == 0);
	cr_assert_eq(run_exporter_start(&e, "--dir %s --dir %s --dir %s", link[0], link[1], link[1]), 0);
	body = get("/metrics", "", 200);
	snprintf(row, sizeof(row), "shmeta_readable{shmeta_instance=\"%s\"} 1\n", link[1]);
	cr_expect_not_null(strstr(body, row), "no %s", row);
	first = strstr(body, "shmeta_readable{shmeta_instance=\"same\"} 1\n");
	cr_assert_not_null(first);
	cr_expect_null(strstr(first + 1, "shmeta_readable{shmeta_instance=\"same\"}"), "two rows of one name");
	free(body);
	run_exporter_done(&e);
	for (int i = 0; i < 2; i++)
		unlink(link[i]);
	rmdir(a);
	rmdir(b);
	forged_done(&f);
}

Test(exporter, an_instance_that_was_removed_makes_room_for_a_new_one)
{
	enum { MOST = 16 };
	char root[64], link[MOST + 1][100];

	forge(&f);
	cr_assert(scratch_dir("root", root));
	for (int i = 0; i <= MOST; i++)
		snprintf(link[i], sizeof(link[i]), "%s/i%d", root, i);
	for (int i = 0; i < MOST; i++)
		cr_assert_eq(symlink(f.dir, link[i]), 0);
	cr_assert_eq(run_exporter_start(&e, "--root %s", root), 0);
	await_metric("shmeta_readable{shmeta_instance=\"i0\"} 1\n");
	unlink(link[0]);
	cr_assert_eq(symlink(f.dir, link[MOST]), 0);
	await_metric("shmeta_readable{shmeta_instance=\"i16\"} 1\n");
	run_exporter_done(&e);
	for (int i = 0; i <= MOST; i++)
		(void)unlink(link[i]);
	rmdir(root);
	forged_done(&f);
}

Test(exporter, the_page_escapes_what_others_named, .init = begin_forged, .fini = end_forged)
{
	char *body;
	double last = run_now_s() + 10;

	f.stats->reader_count = f.stats->readers_total = 1;
	f.stats->reader[0].oldest_pin = 1;
	strcpy(f.stats->reader[0].name, "\"><script>alert('x')</script>\033[31m");
	strcpy(f.stats->source, "sqlite:/<img src=x onerror=alert(1)>");
	strcpy(f.stats->source_status, "away since 2020-01-01T00:00:00.000Z: topic '</script><b>&' \xe2\x80\xae");
	while (strstr(body = get("/", "", 200), "&lt;script&gt;") == NULL && run_now_s() < last) {
		free(body);
		usleep(50000);
	}
	cr_expect_not_null(strstr(body, "&quot;&gt;&lt;script&gt;alert("));
	cr_expect_not_null(strstr(body, "/&lt;img src=x onerror=alert(1)&gt;"));
	cr_expect_not_null(strstr(body, "&lt;/script&gt;&lt;b&gt;&amp;"));
	cr_expect_null(strstr(body, "<img"));
	cr_expect_null(strchr(body, '\033'));
	cr_expect_null(strstr(body, "\xe2\x80\xae"));
	cr_expect(strlen(body) < 200000);
	free(body);
}

/* ---- who is answered, and within which limits ---- */

Test(exporter, only_get_and_head_are_answered, .init = begin_forged, .fini = end_forged)
{
	static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"};
	struct http_answer answer;
	char request[200];
	int n;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		n = snprintf(request, sizeof(request), "%s / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
		             methods[i]);
		run_exporter_send(&e, request, (size_t)n, &answer);
		cr_expect_eq(answer.status, 405, "%s: %d", methods[i], answer.status);
		cr_expect_not_null(strstr(answer.text, "Allow: GET, HEAD\r\n"));
		http_answer_done(&answer);
	}
	n = snprintf(request, sizeof(request), "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
	run_exporter_send(&e, request, (size_t)n, &answer);
	cr_expect_eq(answer.status, 200);
	cr_expect_eq(answer.bytes, 0);
	cr_expect_not_null(strstr(answer.text, "Content-Security-Policy: default-src 'none'"));
	http_answer_done(&answer);
	free(get("/nothing", "", 404));
	free(get("/metrics/../etc/passwd", "", 404));
}

Test(exporter, a_page_of_another_site_cannot_read_it, .init = begin_forged, .fini = end_forged)
{
	char port[16] = "", options[200];
	struct run_tool t;
	int tries = 0;

	/* A port that is free: taken from the kernel by trying. */
	do {
		run_exporter_done(&e);
		snprintf(port, sizeof(port), "%d", 20000 + (getpid() * 7 + tries * 131) % 20000);
		snprintf(options, sizeof(options), "--dir %s --listen 127.0.0.1:%s --host metrics.example.org", f.dir,
		         port);
	} while (run_exporter_start(&e, "%s", options) != 0 && ++tries < 3);
	for (int i = 0; i < 5; i++) {
		static const struct {
			const char *host;
			int status;
		} cases[] = {{"evil.example.org", 421},
		             {"localhost", 200},
		             {"127.0.0.1:9837", 200},
		             {"metrics.example.org", 200},
		             {"localhost.evil.example.org", 421}};
		char expected[16];

		run_tool(
			&t,
			"bash -c 'exec 3<>/dev/tcp/127.0.0.1/%s; printf \"GET /ready HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n\" >&3; head -n 1 <&3'",
			port, cases[i].host);
		snprintf(expected, sizeof(expected), "HTTP/1.1 %d", cases[i].status);
		cr_expect_eq(strncmp(t.out, expected, strlen(expected)), 0, "%s: %s%s", cases[i].host, t.out, t.err);
		run_tool_done(&t);
	}
}

Test(exporter, a_large_request_is_refused, .init = begin_forged, .fini = end_forged)
{
	static char request[64 << 10];
	struct http_answer answer;
	int n = snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ");

	memset(request + n, 'x', sizeof(request) - (size_t)n);
	run_exporter_send(&e, request, sizeof(request), &answer);
	cr_expect(answer.status == 0 || answer.status == 431 || answer.status == 413 || answer.status == 400, "%d",
	          answer.status);
	http_answer_done(&answer);
	free(get("/ready", "", 200));
}

Test(exporter, whoever_sends_a_byte_at_a_time_is_cut_off_and_others_are_served, .init = begin_forged,
     .fini = end_forged)
{
	enum { SLOW = 40 };
	int fd[SLOW];
	double began = run_now_s(), cut = 0;
	struct http_answer answer;

	for (int i = 0; i < SLOW; i++)
		fd[i] = run_exporter_connect(&e);
	/* The first of them writes on and on, and so is never silent. */
	while (cut == 0 && run_now_s() - began < 30) {
		char byte;

		if (send(fd[0], "G", 1, MSG_NOSIGNAL) < 0 || recv(fd[0], &byte, 1, MSG_DONTWAIT) == 0)
			cut = run_now_s() - began;
		usleep(100000);
	}
	cr_expect(cut > 0 && cut < 12, "cut off after %.1f s", cut);
	run_exporter_get(&e, "/ready", "", &answer);
	cr_expect_eq(answer.status, 200, "not served within %.1f s", answer.seconds);
	http_answer_done(&answer);
	for (int i = 0; i < SLOW; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

/* In a child: hold so many connections, each with half a request, and connect anew whenever one is
 * closed. */
static pid_t hold_all_connections(void)
{
	enum { HELD = 48 };
	pid_t pid = run_fork();
	int fd[HELD];

	if (pid != 0)
		return pid;
	for (int i = 0; i < HELD; i++)
		fd[i] = run_exporter_connect(&e);
	for (;;) {
		for (int i = 0; i < HELD; i++) {
			char byte;

			if (send(fd[i], "G", 1, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 &&
			    (recv(fd[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN))
				continue;
			close(fd[i]);
			fd[i] = run_exporter_connect(&e);
		}
		usleep(20000);
	}
}

Test(exporter, whoever_takes_all_connections_again_and_again_shuts_out_nobody, .init = begin_forged, .fini = end_forged)
{
	/* they would take 60 s if each connection had the time of one */
	enum { REQUESTS = 12, ALL_S = 30 };
	pid_t holder = hold_all_connections();
	double began;

	sleep(1);
	began = run_now_s();
	for (int i = 0; i < REQUESTS; i++) {
		struct http_answer answer;

		run_exporter_get(&e, "/ready", "", &answer);
		cr_expect_eq(answer.status, 200, "request %d, after %.1f s", i, answer.seconds);
		http_answer_done(&answer);
	}
	cr_expect_lt(run_now_s() - began, ALL_S);
	(void)kill(holder, SIGKILL);
	(void)run_reap(holder);
}

Test(exporter, it_serves_a_socket_that_the_service_manager_hands_over)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct http_answer answer;
	char *body;
	int fd;

	forge(&f);
	memset(&e, 0, sizeof(e));
	cr_assert(scratch_dir("exporter", e.dir));
	snprintf(e.socket, sizeof(e.socket), "%s/http", e.dir);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, e.socket, strlen(e.socket) + 1);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(fd, 8), 0);
	fflush(NULL);
	e.pid = run_fork();
	if (e.pid == 0) {
		char pid[24], program[4200];

		if (fd == 3)
			fcntl(fd, F_SETFD, 0);
		else
			dup2(fd, 3);
		snprintf(pid, sizeof(pid), "%d", (int)getpid());
		setenv("LISTEN_PID", pid, 1);
		setenv("LISTEN_FDS", "1", 1);
		snprintf(program, sizeof(program), "%sshmeta-exporter", places_bin);
		execl(program, program, "--dir", f.dir, (char *)NULL);
		_exit(127);
	}
	close(fd);
	run_exporter_get(&e, "/ready", "", &answer);
	cr_expect_eq(answer.status, 200);
	http_answer_done(&answer);
	body = get("/metrics", "", 200);
	free(body);
	run_exporter_done(&e);
	forged_done(&f);
}

Test(exporter, a_wrong_command_line_exits_2_and_names_the_mistake)
{
	static const struct {
		const char *options, *says;
	} cases[] = {
		{"--listen 0.0.0.0:9837", "only 127.0.0.1:PORT"},
		{"--listen 192.0.2.1:9837", "a reverse proxy"},
		{"--listen unix:relative", "an absolute path"},
		{"--listen [::]:9837", "only 127.0.0.1:PORT"},
		{"--listen 127.0.0.1:99999", "only 127.0.0.1:PORT"},
		{"--price cheap", "'0.20 EUR'"},
		{"--frobnicate", "frobnicate"},
		{"extra", "unexpected argument 'extra'"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run_tool t;

		run_tool(&t, "shmeta-exporter %s", cases[i].options);
		cr_expect_eq(t.code, 2, "%s: exit %d", cases[i].options, t.code);
		cr_expect_not_null(strstr(t.err, cases[i].says), "%s: %s", cases[i].options, t.err);
		run_tool_done(&t);
	}
}

Test(exporter, a_file_in_the_place_of_its_socket_stays)
{
	struct run_tool t;
	struct stat st;
	char root[64], path[100];
	int fd;

	cr_assert(scratch_dir("root", root));
	snprintf(path, sizeof(path), "%s/file", root);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && close(fd) == 0);
	run_tool(&t, "timeout 10 %s/bin/shmeta-exporter --listen unix:%s", places_build, path);
	cr_expect_eq(t.code, 2, "exit %d %s", t.code, t.err);
	cr_expect_not_null(strstr(t.err, "Address already in use"), "%s", t.err);
	run_tool_done(&t);
	cr_expect(lstat(path, &st) == 0 && S_ISREG(st.st_mode), "the file is gone");
	unlink(path);
	rmdir(root);
}
