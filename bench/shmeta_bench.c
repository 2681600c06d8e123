/* SPDX-License-Identifier: Apache-2.0
 * shmeta-bench [--quick | --segments N] [--rounds N] [--json FILE] [--dir DIR] [--only GROUP]
 * [--plot FILE] */
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/churn.h"

static const struct {
	const char *name;
	void (*run)(struct bench *b);
	bool alone; /* needs neither data nor a daemon */
} groups[] = {
	{"reads", bench_reads, false},    {"names", bench_names, false},       {"scale", bench_scale, false},
	{"peers", bench_peers, false},    {"source", bench_source, false},     {"growth", bench_growth, false},
	{"writes", bench_writes, false},  {"postgres", bench_postgres, false}, {"policy", bench_policy, true},
	{"refresh", bench_refresh, true}, {"journal", bench_journal, true},    {"agents", bench_agents, true},
	{"bounded", bench_bounded, true}, {"dynamodb", bench_dynamodb, true},
};

static void on_signal(int signo)
{
	env_cleanup();
	_exit(128 + signo);
}

static void usage(void)
{
	(void)fputs(
		"usage: shmeta-bench [--quick] [--segments N] [--rounds N] [--json FILE] [--dir DIR] [--only GROUP]\n"
		"                    [--plot FILE.svg]\n"
		"groups: reads names scale peers source growth writes postgres policy refresh journal agents\n"
		"        bounded dynamodb\n",
		stderr);
	exit(2);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end != '\0')
		usage();
	return n;
}

/* Does any of the groups that are asked for? */
static bool needs_data(const char *only)
{
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if (!groups[i].alone && (only == NULL || strcmp(only, groups[i].name) == 0))
			return true;
	return false;
}

static void prepare(struct bench *b)
{
	(void)fprintf(stderr, "generating %llu segments in %u partitions of %u topics (seed %llu)\n",
	              (unsigned long long)b->segments, b->partitions, b->topics, (unsigned long long)b->seed);
	env_generate(b, b->db, b->topics, b->partitions, b->segments);
	env_read_flat(b);
	churn_prepare(b);
	b->daemon = env_start_daemon(b, b->db, b->instance, "feed { poll_min_ms = 1 }", NULL);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"quick", no_argument, NULL, 'q'},        {"segments", required_argument, NULL, 's'},
		{"rounds", required_argument, NULL, 'r'}, {"json", required_argument, NULL, 'j'},
		{"dir", required_argument, NULL, 'd'},    {"only", required_argument, NULL, 'o'},
		{"plot", required_argument, NULL, 'p'},   {NULL, 0, NULL, 0}};
	struct bench b = {.seed = 20260101, .segments = 10000000, .topics = 1000, .partitions = 10000, .rounds = 5};
	const char *json = "build/bench.json", *only = NULL, *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	char self[PATH_MAX] = "";
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'q':
			b.quick = true;
			b.segments = 1000000;
			break;
		case 's':
			b.segments = number(optarg);
			break;
		case 'r':
			b.rounds = (int)number(optarg);
			break;
		case 'j':
			json = optarg;
			break;
		case 'd':
			dir = optarg;
			break;
		case 'o':
			only = optarg;
			break;
		case 'p':
			b.plot = optarg;
			break;
		default:
			usage();
		}
	if (optind != argc || b.rounds < 1 || b.rounds > MAX_ROUNDS || b.segments < 100000)
		usage();
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		die("/proc/self/exe cannot be read");
	(void)snprintf(b.bin, sizeof b.bin, "%s", dirname(self));
	(void)snprintf(b.dir, sizeof b.dir, "%s/shmeta-bench-XXXXXX", dir);
	env_init(&b);
	(void)signal(SIGINT, on_signal);
	(void)signal(SIGTERM, on_signal);
	(void)snprintf(b.db, sizeof b.db, "%s/source.db", b.dir);
	(void)snprintf(b.instance, sizeof b.instance, "%s/instance", b.dir);
	if (needs_data(only))
		prepare(&b);
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if (only == NULL || strcmp(only, groups[i].name) == 0) {
			double start = now_s();

			groups[i].run(&b);
			(void)fprintf(stderr, "%-8s %.1f s\n", groups[i].name, now_s() - start);
		}
	if (b.daemon > 0)
		env_kill(&b.daemon, SIGTERM);
	results_print(stdout);
	if (results_json(&b, json) != 0)
		(void)fprintf(stderr, "shmeta-bench: %s could not be written\n", json);
	free(b.rows);
	free(b.bases);
	free(b.parts);
	env_cleanup();
	return 0;
}
