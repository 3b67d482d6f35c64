/* SPDX-License-Identifier: MIT */
/* The verbs of `molt` that ask a running guest: request, answer, what is printed, exit status. */
#include "vmm/client.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/control_request.h"

#define EXPLAIN_S 5 /* a guest that is stopped says nothing */

/* What a verb takes, and says when it is not given that. */
struct verb {
	const char *name, *usage, *help;
	bool update; /* --check and --exe */
};

struct arguments {
	const char *target, *exe;
	bool check, json;
};

static int usage(const struct verb *v, FILE *out)
{
	fprintf(out,
		"usage: molt %s %s\n%s\n"
		"GUEST is its --name, or the path of its control socket (with a slash in it).\n",
		v->name, v->usage, v->help);
	return out == stdout ? 0 : EXIT_USAGE;
}

/* -1: go on; otherwise the exit status. */
static int parse(const struct verb *v, int argc, char *argv[], struct arguments *a)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
					      {"help", no_argument, NULL, 'h'},
					      {"check", no_argument, NULL, 'c'},
					      {"exe", required_argument, NULL, 'e'},
					      {0}};
	for (int c; (c = getopt_long(argc - 1, argv + 1, "h", longs, NULL)) != -1;) {
		if (c == 'h')
			return usage(v, stdout);
		else if (c == 'j')
			a->json = true;
		else if (c == 'c' && v->update)
			a->check = true;
		else if (c == 'e' && v->update)
			a->exe = optarg;
		else
			return usage(v, stderr);
	}
	if (optind != argc - 2)
		return usage(v, stderr);
	a->target = argv[argc - 1];
	return -1;
}

static int fail(const struct error *err)
{
	log_error(err);
	return (int)err->exit;
}

/* Connects and asks. 0, or the exit status, with the reason printed. */
static int ask(struct client_link *l, const struct arguments *a, const char *request)
{
	struct error err;
	if (client_connect(l, a->target, &err))
		return fail(&err);
	if (!client_send(l, request, &err))
		return 0;
	client_close(l);
	return fail(&err);
}

static void show_reason(const char *answer, const char *what)
{
	char text[4096];
	const char *first = json_first(json_get(answer, "reasons"));
	log_info("%s: %s", what, json_text(json_get(answer, "reason"), text, sizeof(text)));
	if (first && json_next(first)) /* more than one */
		for (const char *r = first; r; r = json_next(r))
			log_info("  reason: %s", json_text(r, text, sizeof(text)));
	if (json_text(json_get(answer, "remedy"), text, sizeof(text))[0])
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
	error_set(err, EOPNOTSUPP, "%s",
		  json_text(json_get(answer, "reason"), reason, sizeof(reason)));
	error_hint(err, "%s", json_text(json_get(answer, "remedy"), remedy, sizeof(remedy)));
	error_exit(err, EXIT_REFUSED);
}

static bool says(const char *answer, const char *key, const char *value)
{
	char text[32];
	return !strcmp(json_text(json_get(answer, key), text, sizeof(text)), value);
}

/* An answer to something that always works, unless the request was not understood. */
static int simple(const struct verb *v, int argc, char *argv[], void (*show)(const char *answer))
{
	struct arguments a = {0};
	struct client_link l;
	struct error err;
	char request[32];

	int rc = parse(v, argc, argv, &a);
	if (rc >= 0)
		return rc;
	snprintf(request, sizeof(request), "%s\n", v->name);
	rc = ask(&l, &a, request);
	if (rc)
		return rc;
	const char *answer = client_line(&l, &err);
	if (!answer) {
		rc = fail(&err);
	} else if (!says(answer, "result", "ok")) {
		show_reason(answer, v->name);
		rc = EXIT_INTERNAL;
	} else if (a.json) {
		puts(answer);
	} else {
		show(answer);
	}
	client_close(&l);
	return rc;
}

int client_status(int argc, char *argv[])
{
	static const struct verb verb = {
		.name = "status",
		.usage = "GUEST [--json]",
		.help = "Says how a guest is, and whether it can be updated now.",
	};
	return simple(&verb, argc, argv, client_show_status);
}

static void show_stop(const char *answer)
{
	printf("power button pressed; the guest has %llu s\n",
	       (unsigned long long)json_u64(json_get(answer, "timeout_s")));
}

int client_stop(int argc, char *argv[])
{
	static const struct verb verb = {
		.name = "stop",
		.usage = "GUEST [--json]",
		.help = "Presses the guest's power button, as SIGTERM does. Pressing it again does "
			"no\n"
			"more: after --stop-timeout the guest is ended.",
	};
	return simple(&verb, argc, argv, show_stop);
}

int client_events(int argc, char *argv[])
{
	static const struct verb verb = {
		.name = "events",
		.usage = "GUEST",
		.help = "Prints a line of JSON for everything that happens, until the guest ends.",
	};
	struct arguments a = {0};
	struct client_link l;
	struct error err;

	int rc = parse(&verb, argc, argv, &a);
	if (rc >= 0)
		return rc;
	rc = ask(&l, &a, "events\n");
	if (rc)
		return rc;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (bool ended = false; !ended && !rc;) {
		const char *line = client_line(&l, &err);
		if (!line) {
			error_prefix(&err, "guest %.100s", a.target);
			rc = fail(&err);
		} else if (puts(line) < 0) {
			rc = EXIT_INTERNAL;
		} else {
			ended = says(line, "event", "end");
		}
	}
	client_close(&l);
	return rc;
}

/* ---- update ---- */

/* The file as the guest is to open it: our working directory is not its own. */
static int make_request(const struct arguments *a, char *buf, size_t size, struct error *err)
{
	char cwd[CONTROL_EXE_LEN] = "";
	const char *exe = a->exe ?: "";
	if (exe[0] && exe[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return error_errno(err, errno, "working directory");
	int n = snprintf(buf, size, "update%s%s%s%s%s\n", a->check ? " check" : "",
			 a->exe ? " exe=" : "", cwd, cwd[0] ? "/" : "", exe);
	if (n < 0 || (size_t)n >= size || strcspn(buf, "\n") + 1 != (size_t)n) {
		error_set(err, EINVAL, "--exe %.200s: too long, or a newline in it", exe);
		return error_exit(err, EXIT_USAGE);
	}
	return 0;
}

static void show_update(const char *r)
{
	char old[64], new[64];
	unsigned long long us = json_u64(json_get(r, "pause_ns")) / 1000;
	printf("update %llu: %s -> %s, guest paused %llu.%03llu ms\n",
	       (unsigned long long)json_u64(json_get(r, "update")),
	       json_text(json_get(r, "old_version"), old, sizeof(old)),
	       json_text(json_get(r, "new_version"), new, sizeof(new)), us / 1000, us % 1000);
}

static int update_outcome(const struct arguments *a, const char *r)
{
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

int client_update(int argc, char *argv[])
{
	static const struct verb verb = {
		.name = "update",
		.usage = "GUEST [--check] [--exe FILE] [--json]",
		.help = "Replaces the guest's molt by the file that is now where it was started "
			"from, or\n"
			"by FILE, and waits for the outcome. --check only says whether it could be "
			"done.\n"
			"Exit status: 0 done, 70 refused or failed and the guest runs on.",
		.update = true,
	};
	char request[CONTROL_LINE_LEN + 64];
	struct arguments a = {0};
	struct client_link l;
	struct error err;

	int rc = parse(&verb, argc, argv, &a);
	if (rc >= 0)
		return rc;
	if (make_request(&a, request, sizeof(request), &err))
		return fail(&err);
	rc = ask(&l, &a, request);
	if (rc)
		return rc;
	const char *answer = client_line(&l, &err);
	if (answer) {
		rc = update_outcome(&a, answer);
	} else {
		error_prefix(&err, "guest %.100s", a.target);
		error_hint(&err,
			   "the guest has ended, or runs on in a molt without a control socket: "
			   "see its log");
		rc = fail(&err);
	}
	client_close(&l);
	return rc;
}
