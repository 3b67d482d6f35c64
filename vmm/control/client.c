/* SPDX-License-Identifier: MIT */
/* The verbs of `molt` that ask a running guest, and their side of the control socket. */
#include "vmm/control/client.h"

#include <dirent.h>
#include <getopt.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "vmm/base/json.h"
#include "vmm/control/request.h"

#define EXPLAIN_S 5 /* a guest that is stopped says nothing */

struct arguments {
	const char *target, *exe;
	bool check, json;
};

/* What a verb takes, and what it does with a guest that was asked: returns the exit status. */
struct verb {
	const char *name, *usage, *help;
	int (*run)(const struct verb *v, struct client_link *l, const struct arguments *a);
	void (*show)(const char *answer);
	bool update; /* takes --check and --exe */
};

static int usage(const struct verb *v)
{
	printf("usage: molt %s %s\n%s\n"
	       "GUEST is its --name, or the path of its control socket (with a slash in it).\n",
	       v->name, v->usage, v->help);
	return 0;
}

static int fail(const struct error *err)
{
	log_error(err);
	return (int)err->exit;
}

static int refuse(const struct verb *v, const char *what, const char *word)
{
	struct error err;
	error_end(&err, EXIT_USAGE, EINVAL, "molt %s: %s%.200s", v->name, what, word);
	error_hint(&err, "molt %s %s", v->name, v->usage);
	return fail(&err);
}

static int unexpected(const struct verb *v, const char *word)
{
	char quoted[208];
	snprintf(quoted, sizeof(quoted), "'%.200s'", word);
	return refuse(v, "unexpected argument ", quoted);
}

/* -1: go on; otherwise the exit status. */
static int parse(const struct verb *v, int argc, char *argv[], struct arguments *a)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
					      {"help", no_argument, NULL, 'h'},
					      {"check", no_argument, NULL, 'c'},
					      {"exe", required_argument, NULL, 'e'},
					      {0}};
	char **words = argv + 1;
	opterr = 0;
	for (int c; (c = getopt_long(argc - 1, words, ":h", longs, NULL)) != -1;) {
		const char letter[] = {'-', (char)optopt, 0};
		if (c == 'h')
			return usage(v);
		else if (c == 'j')
			a->json = true;
		else if (c == 'c' && v->update)
			a->check = true;
		else if (c == 'e' && v->update && *optarg)
			a->exe = optarg;
		else if (c == 'e' && v->update)
			return refuse(v, "--exe: the file's name is empty", "");
		else if (c == 'e')
			return unexpected(v, "--exe");
		else if (c == ':')
			return refuse(v, "--exe: the file's name is missing", "");
		else if (c == '?' && optopt && !strchr("jhce", optopt))
			return unexpected(v, letter);
		else
			return unexpected(v, words[optind - 1]);
	}
	if (optind == argc - 1)
		return refuse(v, "GUEST is missing", "");
	if (optind < argc - 2)
		return unexpected(v, words[optind + 1]);
	if (!*words[optind])
		return refuse(v, "GUEST is empty", "");
	a->target = words[optind];
	return -1;
}

static void show_reason(const char *answer, const char *what)
{
	char text[4096];
	const char *first = json_first(json_get(answer, "reasons"));
	log_info("%s: %s", what, json_get_text(answer, "reason", text, sizeof(text)));
	if (first && json_next(first)) /* more than one */
		for (const char *r = first; r; r = json_next(r))
			log_info("  reason: %s", json_text(r, text, sizeof(text)));
	if (json_get_text(answer, "remedy", text, sizeof(text))[0])
		log_info("  remedy: %s", text);
}

void client_explain(struct client_link *l, struct error *err)
{
	struct error ignored;
	char reason[sizeof(err->text)], remedy[sizeof(err->hint)];
	const struct timeval long_enough = {.tv_sec = EXPLAIN_S};
	shutdown(l->fd, SHUT_WR);
	setsockopt(l->fd, SOL_SOCKET, SO_RCVTIMEO, &long_enough, sizeof(long_enough));
	const char *answer = client_line(l, &ignored);
	if (!answer || !json_get(answer, "reason"))
		return;
	error_set(err, EOPNOTSUPP, "%s", json_get_text(answer, "reason", reason, sizeof(reason)));
	error_hint(err, "%s", json_get_text(answer, "remedy", remedy, sizeof(remedy)));
	error_exit(err, EXIT_REFUSED);
}

static bool says(const char *answer, const char *key, const char *value)
{
	char text[32];
	return !strcmp(json_get_text(answer, key, text, sizeof(text)), value);
}

/* An answer to something that always works, unless the request was not understood. */
static int run_simple(const struct verb *v, struct client_link *l, const struct arguments *a)
{
	struct error err;
	const char *answer = client_line(l, &err);
	if (!answer)
		return fail(&err);
	if (!says(answer, "result", "ok")) {
		show_reason(answer, v->name);
		return EXIT_INTERNAL;
	}
	if (a->json)
		puts(answer);
	else
		v->show(answer);
	return 0;
}

static void show_stop(const char *answer)
{
	printf("power button pressed; the guest has %lu s\n", json_get_u64(answer, "timeout_s"));
}

static int run_events(const struct verb *v, struct client_link *l, const struct arguments *a)
{
	struct error err;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (bool ended = false; !ended;) {
		const char *line = client_line(l, &err);
		if (!line) {
			error_prefix(&err, "guest %.100s", a->target);
			return fail(&err);
		}
		if (puts(line) < 0)
			return EXIT_INTERNAL;
		ended = says(line, "event", "end");
	}
	return 0;
}

/* The file as the guest is to open it: our working directory is not its own. */
static int make_request(const struct verb *v, const struct arguments *a, char *buf, size_t size,
			struct error *err)
{
	char cwd[CONTROL_EXE_LEN] = "";
	const char *exe = a->exe ?: "";
	if (exe[0] && exe[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return error_errno(err, errno, "working directory");
	int n = snprintf(buf, size, "%s%s%s%s%s%s\n", v->name, a->check ? " check" : "",
			 a->exe ? " exe=" : "", cwd, cwd[0] ? "/" : "", exe);
	if (n < 0 || (size_t)n >= size || strcspn(buf, "\n") + 1 != (size_t)n)
		return error_end(err, EXIT_USAGE, EINVAL,
				 "--exe %.200s: too long, or a newline in it", exe);
	return 0;
}

static void show_update(const char *r)
{
	char old[64], new[64];
	uint64_t us = json_get_u64(r, "pause_ns") / 1000;
	printf("update %lu: %s -> %s, guest paused %lu.%03lu ms\n", json_get_u64(r, "update"),
	       json_get_text(r, "old_version", old, sizeof(old)),
	       json_get_text(r, "new_version", new, sizeof(new)), us / 1000, us % 1000);
}

static int run_update(const struct verb *v, struct client_link *l, const struct arguments *a)
{
	struct error err;
	const char *r = client_line(l, &err);
	if (!r) {
		error_prefix(&err, "guest %.100s", a->target);
		error_hint(&err, "the guest has ended, or runs on in a molt without a control "
				 "socket: see its log");
		return fail(&err);
	}
	bool good = says(r, "result", "ok");
	if (a->json)
		puts(r);
	else if (good && a->check)
		printf("yes: the update can be done\n");
	else if (good)
		show_update(r);
	else if (says(r, "event", "request"))
		show_reason(r, "update");
	else if (a->check)
		show_reason(r, "no: the update would be refused");
	else
		show_reason(r, "update refused, the guest runs on");
	return good ? 0 : EXIT_REFUSED;
}

static const struct verb verbs[] = {
	{"status", "GUEST [--json]", "Says how a guest is, and whether it can be updated now.",
	 run_simple, client_show_status},
	{"stop", "GUEST [--json]",
	 "Presses the guest's power button, as SIGTERM does. Pressing it again does no\n"
	 "more: after --stop-timeout the guest is ended.",
	 run_simple, show_stop},
	{"events", "GUEST",
	 "Prints a line of JSON for everything that happens, until the guest ends.", run_events},
	{"update", "GUEST [--check] [--exe FILE] [--json]",
	 "Replaces the guest's molt by FILE, or by what is now at the path of the last --exe,\n"
	 "or where it was started from, and waits for the outcome. FILE is the program of the\n"
	 "next update as well. --check only says whether it could be done.\n"
	 "Exit status: 0 done, 70 refused or failed and the guest runs on.",
	 run_update, .update = true},
};

int client_run(int argc, char *argv[])
{
	char request[CONTROL_LINE_LEN + 64];
	struct arguments a = {0};
	struct client_link l;
	struct error err;
	const struct verb *v = verbs;

	while (strcmp(v->name, argv[1]))
		v++;
	int rc = parse(v, argc, argv, &a);
	if (rc >= 0)
		return rc;
	if (make_request(v, &a, request, sizeof(request), &err) ||
	    client_connect(&l, a.target, &err))
		return fail(&err);
	rc = client_send(&l, request, &err) ? fail(&err) : v->run(v, &l, &a);
	client_close(&l);
	return rc;
}

/* ---- the connection: finding the socket, and whole lines ---- */

#define LINE_MAX_LEN (1 << 20)

/* Names of the sockets in the folder of named guests: "a, b, c", or "". */
static void list_guests(char *buf, size_t size)
{
	static const char end[] = ".sock";
	char dir[CONTROL_PATH_LEN];
	size_t n = 0;
	buf[0] = 0;
	DIR *d = control_rundir(dir, sizeof(dir), NULL) ? NULL : opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		size_t len = strlen(e->d_name), stem = len - strlen(end);
		if (len <= strlen(end) || strcmp(e->d_name + stem, end) || stem + n + 3 > size)
			continue;
		n += (size_t)snprintf(buf + n, size - n, "%s%.*s", n ? ", " : "", (int)stem,
				      e->d_name);
	}
	if (d)
		closedir(d);
}

static int no_guest(const char *target, const char *path, int code, struct error *err)
{
	char names[400], dir[CONTROL_PATH_LEN] = "the run directory";
	if (code == ECONNREFUSED)
		error_set(err, code, "guest %.100s: nobody listens at %s: it has ended", target,
			  path);
	else
		error_errno(err, code, "guest %.100s: %s", target, path);
	list_guests(names, sizeof(names));
	control_rundir(dir, sizeof(dir), NULL);
	if (code == EACCES)
		error_hint(err, "ask as the user who runs the guest, or as root");
	else if (names[0])
		error_hint(err, "guests with a socket in %s: %s", dir, names);
	else
		error_hint(err,
			   "no guest has a socket in %s: molt run --name NAME makes one; "
			   "for --control PATH give that path, with a slash in it",
			   dir);
	return error_exit(err, EXIT_CONFIG);
}

int client_connect(struct client_link *l, const char *target, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	*l = (struct client_link){.fd = -1};
	int rc = control_socket_path(target, addr.sun_path, err);
	if (rc)
		return rc;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return error_errno(err, errno, "socket");
	if (!connect(l->fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return 0;
	rc = no_guest(target, addr.sun_path, errno, err);
	client_close(l);
	return rc;
}

int client_send(struct client_link *l, const char *line, struct error *err)
{
	size_t len = strlen(line);
	while (len) {
		ssize_t n = send(l->fd, line, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		/* What it has to say about that can still be read. */
		if (n < 0 && errno == EPIPE)
			return 0;
		if (n < 0)
			return error_errno(err, errno, "asking the guest");
		line += n;
		len -= (size_t)n;
	}
	return 0;
}

int client_send_fd(struct client_link *l, const char *line, int fd, struct error *err)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {(void *)line, strlen(line)};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (sendmsg(l->fd, &msg, MSG_NOSIGNAL) != (ssize_t)part.iov_len)
		return error_errno(err, errno, "asking the guest");
	return 0;
}

static int make_room(struct client_link *l, struct error *err)
{
	if (l->len < l->room)
		return 0;
	size_t room = l->room ? 2 * l->room : 16384;
	if (room > LINE_MAX_LEN)
		return error_set(err, EMSGSIZE, "the guest answers with a line of over %d bytes",
				 LINE_MAX_LEN / 2);
	char *buf = realloc(l->buf, room);
	if (!buf)
		return error_errno(err, ENOMEM, "an answer of %zu bytes", room);
	l->buf = buf;
	l->room = room;
	return 0;
}

char *client_line(struct client_link *l, struct error *err)
{
	l->len -= l->used;
	if (l->used)
		memmove(l->buf, l->buf + l->used, l->len);
	l->used = 0;
	for (;;) {
		char *end = l->len ? memchr(l->buf, '\n', l->len) : NULL;
		if (end) {
			*end = 0;
			l->used = (size_t)(end - l->buf) + 1;
			return l->buf;
		}
		if (make_room(l, err))
			return NULL;
		ssize_t n = recv(l->fd, l->buf + l->len, l->room - l->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			error_set(err, EPIPE, "the connection was closed without an answer");
			return NULL;
		}
		l->len += (size_t)n;
	}
}

void client_close(struct client_link *l)
{
	fd_close(&l->fd);
	free(l->buf);
	*l = (struct client_link){.fd = -1};
}

/* ---- `molt status` for people ---- */

#define COLUMN 14

static void show(const char *label, const char *text)
{
	printf("%-*s%s\n", COLUMN, label, text);
}

static void show_time(const char *label, uint64_t s)
{
	printf("%-*s%lu d %02lu:%02lu:%02lu\n", COLUMN, label, s / 86400, s / 3600 % 24,
	       s / 60 % 60, s % 60);
}

/* What the host has said about the device. */
static void show_trouble(const char *name, const char *device)
{
	char text[200];
	if (json_get_text(device, "trouble", text, sizeof(text))[0])
		printf("  %-*s %s\n", 24, name, text);
}

static void show_devices(const char *devices)
{
	char name[64], text[1400];
	unsigned kept = 0, blocked = 0;
	for (const char *d = json_first(devices); d; d = json_next(d))
		if (!strcmp(json_get_text(d, "kept", text, sizeof(text)), "true"))
			kept++;
		else
			blocked++;
	printf("%-*s%s: %u of %u devices can be kept\n", COLUMN, "update",
	       blocked ? "would be refused" : "possible as far as devices go", kept,
	       kept + blocked);
	for (const char *d = json_first(devices); d; d = json_next(d)) {
		json_get_text(d, "name", name, sizeof(name));
		if (!strcmp(json_get_text(d, "kept", text, sizeof(text)), "true")) {
			printf("  %-*s can be kept\n", 24, name);
			show_trouble(name, d);
			continue;
		}
		show_trouble(name, d);
		json_get_text(d, "reason", text, sizeof(text));
		printf("  %-*s cannot be kept now: %s\n", 24, name, text);
		if (json_get_text(d, "remedy", text, sizeof(text))[0])
			printf("  %-*s remedy: %s\n", 24, "", text);
	}
}

static void show_last(const char *last)
{
	char result[32], reason[1400];
	if (!last)
		return;
	json_get_text(last, "result", result, sizeof(result));
	json_get_text(last, "reason", reason, sizeof(reason));
	uint64_t us = json_get_u64(last, "pause_ns") / 1000;
	if (reason[0])
		printf("%-*s%s: %s\n", COLUMN, "last update", result, reason);
	else
		printf("%-*s%s, guest paused %lu.%03lu ms\n", COLUMN, "last update", result,
		       us / 1000, us % 1000);
}

void client_show_status(const char *answer)
{
	static const char *const texts[] = {"name",    "state", "pid", "worker",
					    "version", "build", "exe"};
	char text[4096], page[64];

	for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
		if (json_get(answer, texts[i]))
			show(texts[i], json_get_text(answer, texts[i], text, sizeof(text)));
	show_time("uptime", json_get_u64(answer, "uptime_s"));
	show("vcpus", json_get_text(answer, "vcpus", text, sizeof(text)));
	printf("%-*s%lu MiB, pages %s\n", COLUMN, "memory",
	       (json_get_u64(answer, "memory_bytes") / MIB),
	       json_get_text(answer, "page_size", page, sizeof(page)));
	show("updates", json_get_text(answer, "updates", text, sizeof(text)));
	show_last(json_get(answer, "last_update"));
	show_devices(json_get(answer, "devices"));
}
