/* SPDX-License-Identifier: Apache-2.0
 * shmeta-exporter: what shared memory tells of the instances of this host, over HTTP. The command
 * line and the loop. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "tools/exporter/http.h"

enum { EXIT_USAGE = 2 };

#define DEFAULT_ROOT "/run/shmeta"
#define DEFAULT_LISTEN "127.0.0.1:9837"

/* X(letter, name, argument or NULL, help) */
#define OPTION_LIST(X)                                                                                                \
	X('d', "dir", "DIR", "look at this instance; may be given again (default: all below --root)")                 \
	X('r', "root", "DIR", "look at each instance below this directory (default: " DEFAULT_ROOT ")")               \
	X('l', "listen", "WHERE",                                                                                     \
	  "127.0.0.1:PORT, [::1]:PORT or unix:PATH; may be given again (default: " DEFAULT_LISTEN ")")                \
	X('H', "host", "NAME", "answer requests under this name too: that of a reverse proxy")                        \
	X('p', "price", "AMOUNT", "what a million statements cost, as '0.20 EUR': the page then tells what is saved") \
	X('m', "print-metrics", "", "print the table of metrics as docs/metrics.md has it, and exit")                 \
	X('M', "print-manual", "", "print the entries of shmeta-metrics(7), and exit")                                \
	X('h', "help", "", "print this, and exit")                                                                    \
	X('V', "version", "", "print the version, and exit")

struct program {
	struct instances instances;
	struct serve_options options;
	struct listener listener[LISTENERS];
	struct server *server[LISTENERS];
	int listeners;
	char currency[16];
	bool only_given, done;
};

__attribute__((format(printf, 1, 2))) static int complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fputs("shmeta-exporter: ", stderr);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
	return EXIT_USAGE;
}

static void help(void)
{
	(void)puts("shmeta-exporter: metrics, health and a page of the shmeta instances of this host\n\n"
	           "Usage: shmeta-exporter [OPTION]...\n\nOptions:");
#define X(letter, name, argument, text) \
	(void)printf("  --%s %-*s  %s\n", name, (int)(18 - strlen(name)), argument, text);
	OPTION_LIST(X)
#undef X
}

/* "0.20 EUR" */
static bool parse_price(struct program *p, const char *text)
{
	char *end;

	p->options.price = strtod(text, &end);
	while (*end == ' ')
		end++;
	if (!(p->options.price > 0 && p->options.price < 1e9) || *end == '\0' || strlen(end) >= sizeof(p->currency))
		return false;
	(void)snprintf(p->currency, sizeof(p->currency), "%s", end);
	p->options.currency = p->currency;
	return true;
}

/* 0, or an exit code after having said why; done: there is nothing more to do. */
static int parse(struct program *p, int argc, char **argv)
{
	static const struct option long_options[] = {
#define X(letter, name, argument, text) {name, sizeof(argument) > 1 ? required_argument : no_argument, NULL, letter},
		OPTION_LIST(X)
#undef X
			{NULL, 0, NULL, 0}};
	char why[300];
	int letter;

	while ((letter = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		switch (letter) {
		case 'd':
			p->only_given = true;
			if (!instances_add(&p->instances, optarg))
				return complain("--dir: at most %d instances", INSTANCES);
			break;
		case 'r':
			p->instances.root = optarg;
			break;
		case 'l':
			if (p->listeners == LISTENERS)
				return complain("--listen: at most %d times", LISTENERS);
			if (listen_open(optarg, &p->listener[p->listeners], why, sizeof(why)) != 0)
				return complain("%s", why);
			p->listeners++;
			break;
		case 'H':
			if (p->options.hosts == HOSTS)
				return complain("--host: at most %d times", HOSTS);
			p->options.host[p->options.hosts++] = optarg;
			break;
		case 'p':
			if (!parse_price(p, optarg))
				return complain("--price: '%s' is not an amount and a currency, as '0.20 EUR'", optarg);
			break;
		case 'm':
			metrics_write_document(stdout);
			p->done = true;
			return 0;
		case 'M':
			metrics_write_manual(stdout);
			p->done = true;
			return 0;
		case 'h':
			help();
			p->done = true;
			return 0;
		case 'V':
			(void)puts("shmeta-exporter " SHMETA_VERSION_STRING);
			p->done = true;
			return 0;
		default:
			return EXIT_USAGE; /* getopt has said why */
		}
	return optind < argc ? complain("unexpected argument '%s'", argv[optind]) : 0;
}

static int open_listeners(struct program *p)
{
	struct listener inherited[LISTENERS];
	char why[300];
	int n = listen_inherited(inherited, why, sizeof(why));

	if (n < 0)
		return complain("%s", why);
	if (n > 0 && p->listeners > 0)
		return complain("--listen, and sockets of the service manager: one or the other");
	for (int i = 0; i < n; i++)
		p->listener[p->listeners++] = inherited[i];
	if (p->listeners == 0) {
		if (listen_open(DEFAULT_LISTEN, &p->listener[0], why, sizeof(why)) != 0)
			return complain("%s", why);
		p->listeners = 1;
	}
	for (int i = 0; i < p->listeners; i++) {
		p->server[i] = serve_start(&p->options, &p->listener[i]);
		if (p->server[i] == NULL)
			return complain("cannot serve: %s", strerror(errno));
	}
	return 0;
}

static int run(struct program *p)
{
	struct pollfd fds[LISTENERS + 1];
	sigset_t signals;
	int wait_ms = 0;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	fds[0] = (struct pollfd){.fd = signalfd(-1, &signals, SFD_CLOEXEC), .events = POLLIN};
	if (fds[0].fd < 0)
		return complain("signalfd: %s", strerror(errno));
	for (int i = 0; i < p->listeners; i++)
		fds[i + 1] = (struct pollfd){.fd = serve_fd(p->server[i]), .events = POLLIN};
	instances_look(&p->instances);
	listen_ready();
	while (poll(fds, (nfds_t)p->listeners + 1, wait_ms) >= 0 || errno == EINTR) {
		if (fds[0].revents != 0)
			break;
		wait_ms = 1000;
		for (int i = 0; i < p->listeners; i++) {
			int next = serve_run(p->server[i]);

			wait_ms = next < wait_ms ? next : wait_ms;
		}
		if (shmeta__boottime_ns() - p->instances.sampled_ns >= HISTORY_STEP_S * UINT64_C(1000000000))
			instances_look(&p->instances);
	}
	(void)close(fds[0].fd);
	return 0;
}

int main(int argc, char **argv)
{
	static struct program p = {.instances.root = DEFAULT_ROOT};
	int code;

	p.options.instances = &p.instances;
	code = parse(&p, argc, argv);
	if (p.only_given)
		p.instances.root = NULL;
	if (code == 0 && !p.done) {
		code = open_listeners(&p);
		if (code == 0)
			code = run(&p);
	}
	for (int i = 0; i < p.listeners; i++) {
		serve_stop(p.server[i]);
		listen_close(&p.listener[i]);
	}
	instances_free(&p.instances);
	if (fflush(stdout) != 0)
		return complain("cannot write the output: %s", strerror(errno));
	return code;
}
