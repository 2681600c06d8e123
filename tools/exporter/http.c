/* SPDX-License-Identifier: Apache-2.0
 * HTTP by libmicrohttpd, driven by the caller's loop. */
#include "tools/exporter/http.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "tools/exporter/answers.h"
#include "tools/exporter/page_assets.h"

enum { CONNECTIONS = 16, CONNECTION_BYTES = 8192, SILENT_S = 2, LONGEST_WAIT_MS = 250 };
enum { CONNECTION_MS = 5000, CROWDED_MS = 100 }; /* how long one may last, and when all are taken */

struct open_connection {
	int fd; /* -1: free */
	uint64_t since_ns;
};

struct server {
	const struct serve_options *options;
	bool local;
	struct MHD_Daemon *daemon;
	struct open_connection open[CONNECTIONS];
};

/* Is the name, which a port may follow, one of ours? A page of another site that has its name point
 * to this host is not answered. */
static bool host_is_ours(const struct server *s, const char *host)
{
	static const char *const own[] = {"localhost", "127.0.0.1", "[::1]"};
	const char *colon = host != NULL ? strrchr(host, ':') : NULL;
	size_t n;

	if (s->local)
		return true;
	if (host == NULL)
		return false;
	n = colon != NULL && strspn(colon + 1, "0123456789") == strlen(colon + 1) ? (size_t)(colon - host)
	                                                                          : strlen(host);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strlen(own[i]) == n && strncasecmp(own[i], host, n) == 0)
			return true;
	for (uint32_t i = 0; i < s->options->hosts; i++)
		if (strlen(s->options->host[i]) == n && strncasecmp(s->options->host[i], host, n) == 0)
			return true;
	return false;
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type, char *text,
                             size_t bytes)
{
	static const char policy[] = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
				     "connect-src 'self'; img-src data:; style-src 'sha256-";
	struct MHD_Response *response = MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE);
	char csp[512];
	enum MHD_Result result;

	if (response == NULL) {
		free(text);
		return MHD_NO;
	}
	(void)snprintf(csp, sizeof(csp), "%s%s'; script-src 'sha256-%s'", policy, page_css_hash, page_js_hash);
	(void)MHD_add_response_header(response, "Content-Type", type);
	(void)MHD_add_response_header(response, "Content-Security-Policy", csp);
	(void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	(void)MHD_add_response_header(response, "X-Frame-Options", "DENY");
	(void)MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	(void)MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
	(void)MHD_add_response_header(response, "Cache-Control", "no-store");
	(void)MHD_add_response_header(response, "Connection", "close");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(response, "Allow", "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *sentence)
{
	char *text = strdup(sentence);

	return text == NULL ? MHD_NO : reply(connection, status, "text/plain; charset=utf-8", text, strlen(text));
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *body, size_t *body_bytes, void **state)
{
	struct server *s = arg;
	struct answer_request request = {
		.path = path,
		.accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Accept"),
		.instance = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "instance"),
		.window = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "window"),
	};
	struct answer answer;

	(void)version;
	(void)body;
	(void)body_bytes;
	(void)state;
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (!host_is_ours(s, MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host")))
		return refuse(connection, MHD_HTTP_MISDIRECTED_REQUEST,
		              "this name is not the exporter's; --host NAME admits that of a reverse proxy\n");
	instances_look(s->options->instances);
	if (!answer_make(s->options, &request, &answer))
		return refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
	return reply(connection, answer.status, answer.type, answer.text, answer.bytes);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct server *s = arg;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*context != NULL)
			((struct open_connection *)*context)->fd = -1;
		return;
	}
	for (size_t i = 0; i < CONNECTIONS; i++)
		if (s->open[i].fd < 0) {
			s->open[i] = (struct open_connection){info->connect_fd, shmeta__boottime_ns()};
			*context = &s->open[i];
			return;
		}
}

struct server *serve_start(const struct serve_options *options, struct listener *listener)
{
	struct server *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->options = options;
	s->local = listener->local;
	for (size_t i = 0; i < CONNECTIONS; i++)
		s->open[i].fd = -1;
	s->daemon =
		MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, listener->fd,
	                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	                         (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENT_S,
	                         MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
	if (s->daemon == NULL) {
		free(s);
		return NULL;
	}
	listener->fd = -1; /* closed with the daemon */
	return s;
}

int serve_fd(const struct server *server)
{
	return MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

static bool all_are_taken(const struct server *s)
{
	size_t taken = 0;

	for (size_t i = 0; i < CONNECTIONS; i++)
		taken += s->open[i].fd >= 0;
	return taken == CONNECTIONS;
}

/* Whoever sends or reads a byte at a time is not silent, and does not keep others out either: when
 * all connections are taken, a request has the time that it takes on this host. */
static void cut_off(struct server *s, uint64_t now_ns)
{
	uint64_t most_ns = (all_are_taken(s) ? CROWDED_MS : CONNECTION_MS) * UINT64_C(1000000);

	for (size_t i = 0; i < CONNECTIONS; i++)
		if (s->open[i].fd >= 0 && now_ns - s->open[i].since_ns > most_ns)
			(void)shutdown(s->open[i].fd, SHUT_RDWR);
}

int serve_run(struct server *s)
{
	int longest_ms = all_are_taken(s) ? CROWDED_MS : LONGEST_WAIT_MS;
	MHD_UNSIGNED_LONG_LONG wait_ms;

	cut_off(s, shmeta__boottime_ns());
	(void)MHD_run(s->daemon);
	if (MHD_get_timeout(s->daemon, &wait_ms) == MHD_YES && wait_ms < (unsigned)longest_ms)
		return (int)wait_ms;
	return longest_ms;
}

void serve_stop(struct server *server)
{
	if (server == NULL)
		return;
	MHD_stop_daemon(server->daemon);
	free(server);
}
