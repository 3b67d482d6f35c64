/* SPDX-License-Identifier: MIT */
/* The verbs of `molt` that ask a running guest: request, answer, what is printed, exit status. */
#include "vmm/control/client.h"

#include <getopt.h>
#include <sys/socket.h>

#include "vmm/base/json.h"
#include "vmm/control/request.h"

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
	shutdown(l->fd, SHUT_WR);
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
	 "Replaces the guest's molt by the file that is now where it was started from, or\n"
	 "by FILE, and waits for the outcome. --check only says whether it could be done.\n"
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
