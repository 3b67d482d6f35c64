/* SPDX-License-Identifier: MIT */
/* The verbs of `molt` that ask a running guest, and their side of the control socket. */
#include "vmm/control/client.h"

#include <getopt.h>

#include "vmm/base/json.h"
#include "vmm/base/config_file.h"
#include "vmm/control/fleet.h"
#include "vmm/control/request.h"

#define ANSWER_S   10 /* a client must not hang because the guest's process is stopped */
#define NUMBER_MAX 86400

struct arguments {
	const char *target, *exe;
	bool check, json, all, go_on;
	unsigned timeout_s, parallel;
};

/* What a verb takes, and what it does with a guest that was asked: returns the exit status. */
struct verb {
	const char *name, *usage, *help;
	int (*run)(const struct verb *v, struct client_link *l, const struct arguments *a);
	void (*show)(const char *answer);
	unsigned timeout_s; /* of each wait for an answer, by default; 0: as long as it takes */
	bool update;	    /* takes --check, --exe and --all */
	bool no_guest;	    /* is not about one */
	bool attach;	    /* gives the guest one end of a socket pair, l->data the other */
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

static bool number(const char *word, unsigned least, unsigned *out)
{
	char *end;
	unsigned long n = strtoul(word, &end, 10);
	*out = (unsigned)n;
	return *word >= '0' && *word <= '9' && !*end && n >= least && n <= NUMBER_MAX;
}

static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
				      {"help", no_argument, NULL, 'h'},
				      {"timeout", required_argument, NULL, 't'},
				      {"check", no_argument, NULL, 'c'},
				      {"exe", required_argument, NULL, 'e'},
				      {"all", no_argument, NULL, 'a'},
				      {"parallel", required_argument, NULL, 'p'},
				      {"keep-going", no_argument, NULL, 'k'},
				      {0}};

/* One option of this verb; 0, or the exit status. */
static int take_option(const struct verb *v, int c, struct arguments *a)
{
	switch (c) {
	case 'j':
		a->json = true;
		return 0;
	case 't':
		return number(optarg, 0, &a->timeout_s)
			       ? 0
			       : refuse(v, "--timeout: not a number of seconds: ", optarg);
	case 'c':
		a->check = true;
		return 0;
	case 'e':
		a->exe = optarg;
		return *optarg ? 0 : refuse(v, "--exe: the file's name is empty", "");
	case 'a':
		a->all = true;
		return 0;
	case 'k':
		a->go_on = true;
		return 0;
	default:
		return number(optarg, 1, &a->parallel)
			       ? 0
			       : refuse(v, "--parallel: not a number of guests: ", optarg);
	}
}

/* -1: go on; otherwise the exit status. */
static int parse(const struct verb *v, int argc, char *argv[], struct arguments *a)
{
	char **words = argv + 1;
	opterr = 0;
	for (int c, at = 0; (c = getopt_long(argc - 1, words, ":h", longs, &at)) != -1;) {
		const char letter[] = {'-', (char)optopt, 0};
		char name[32];
		snprintf(name, sizeof(name), "--%s", longs[at].name);
		if (c == 'h')
			return usage(v);
		if (c == ':')
			return refuse(v, words[optind - 1], ": what belongs to it is missing");
		if (c == '?')
			return unexpected(v, optopt && !strchr("jhtceapk", optopt)
						     ? letter
						     : words[optind - 1]);
		if (strchr("ceapk", c) && !v->update)
			return unexpected(v, name);
		int rc = take_option(v, c, a);
		if (rc)
			return rc;
	}
	bool guest = !v->no_guest && !a->all;
	if (guest && optind == argc - 1)
		return refuse(v, "GUEST is missing", "");
	if (optind < argc - 1 - guest)
		return unexpected(v, words[optind + guest]);
	if (guest && !*words[optind])
		return refuse(v, "GUEST is empty", "");
	if (!a->all && (a->go_on || a->parallel > 1))
		return refuse(v, "--parallel and --keep-going go with --all", "");
	a->target = guest ? words[optind] : NULL;
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

static bool says(const char *answer, const char *key, const char *value)
{
	char text[32];
	return !strcmp(json_get_text(answer, key, text, sizeof(text)), value);
}

/* For a verb whose answer is one record. */
static int run_simple(const struct verb *v, struct client_link *l, const struct arguments *a)
{
	struct error err;
	const char *answer = client_line(l, &err);
	if (!answer)
		return fail(&err);
	if (!says(answer, "result", "ok")) {
		show_reason(answer, v->name);
		return EXIT_REFUSED;
	}
	if (a->json)
		puts(answer);
	else
		v->show(answer);
	return 0;
}

/* "vCPU 0: triple fault, 12 s ago; exit status 33" */
static const char *crashed_text(const char *crashed, char *buf, size_t size)
{
	char reason[256];
	snprintf(buf, size, "%s, %lu s ago; exit status %lu",
		 json_get_text(crashed, "reason", reason, sizeof(reason)),
		 json_get_u64(crashed, "since_s"), json_get_u64(crashed, "code"));
	return buf;
}

static void show_stop(const char *answer)
{
	const char *crashed = json_get(answer, "crashed");
	char text[320];
	if (crashed) {
		printf("ended; it had crashed: %s\n", crashed_text(crashed, text, sizeof(text)));
		return;
	}
	printf("power button pressed; the guest has %lu s\n", json_get_u64(answer, "timeout_s"));
}

/* As `molt run --config` reads it. */
static void show_config(const char *answer)
{
	static char text[65536];
	char name[64];
	printf("# molt %s; relative paths were those of\n",
	       json_get_text(answer, "version", name, sizeof(name)));
	printf("# %s\n", json_get_text(answer, "folder", text, sizeof(text)));
	for (const char *o = json_first(json_get(answer, "options")); o; o = json_next(o)) {
		const char *value = json_get(o, "value");
		json_get_text(o, "name", name, sizeof(name));
		config_file_print(stdout, name,
				  value ? json_text(value, text, sizeof(text)) : NULL);
	}
}

/* "for 12 s, by user 0 (process 4711)" */
static const char *paused_text(const char *paused, char *buf, size_t size)
{
	int n = snprintf(buf, size, "for %lu s, by user %lu", json_get_u64(paused, "since_s"),
			 json_get_u64(paused, "uid"));
	if (json_get(paused, "pid"))
		snprintf(buf + n, size - (size_t)n, " (process %lu)", json_get_u64(paused, "pid"));
	return buf;
}

static void show_pause(const char *answer)
{
	char text[120];
	if (says(answer, "changed", "true"))
		puts("paused");
	else
		printf("was paused already, %s\n",
		       paused_text(json_get(answer, "paused"), text, sizeof(text)));
}

static void show_resume(const char *answer)
{
	if (says(answer, "changed", "true"))
		printf("runs again, after %lu s\n", json_get_u64(answer, "paused_s"));
	else
		puts("was not paused");
}

static void show_rescan(const char *answer)
{
	char name[64];
	const char *devices = json_get(answer, "devices");
	if (!json_first(devices))
		puts("the guest has no disks");
	for (const char *d = json_first(devices); d; d = json_next(d))
		printf("%s: %lu bytes%s\n", json_get_text(d, "name", name, sizeof(name)),
		       json_get_u64(d, "bytes"),
		       says(d, "changed", "true") ? ": the guest is told" : ", as before");
}

/* As Prometheus reads it. */
static void show_metrics(const char *answer)
{
	static char text[65536];
	fputs(json_get_text(answer, "text", text, sizeof(text)), stdout);
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

/* The file by its absolute path: the guest has a working directory of its own. */
static int make_request(const struct verb *v, const struct arguments *a, char *buf, size_t size,
			struct error *err)
{
	char exe[CONTROL_EXE_LEN] = "";
	int rc = a->exe ? file_absolute(a->exe, exe, sizeof(exe)) : 0;
	if (rc && rc != -ENAMETOOLONG)
		return error_errno(err, -rc, "working directory");
	int n = snprintf(buf, size, "%s%s%s%s\n", v->name, a->check ? " check" : "",
			 a->exe ? " exe=" : "", exe);
	if (rc || n < 0 || (size_t)n >= size || strcspn(buf, "\n") + 1 != (size_t)n)
		return error_end(err, EXIT_USAGE, EINVAL,
				 "--exe %.200s: too long, or a newline in it", a->exe ?: "");
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

static int run_console(const struct verb *v, struct client_link *l, const struct arguments *a)
{
	struct error err;
	const char *answer = client_line(l, &err);
	if (!answer)
		return fail(&err);
	if (!says(answer, "result", "ok")) {
		show_reason(answer, v->name);
		return EXIT_REFUSED;
	}
	return client_console(l->data, &err) ? fail(&err) : 0;
}

static const struct verb verbs[] = {
	{"list", "[--json] [--timeout S]",
	 "Lists this user's guests that have a --name: how they are, and whether they can be\n"
	 "updated now.",
	 .timeout_s = ANSWER_S, .no_guest = true},
	{"status", "GUEST [--json] [--timeout S]",
	 "Says how a guest is, and whether it can be updated now.", run_simple, client_show_status,
	 ANSWER_S},
	{"config", "GUEST [--json] [--timeout S]",
	 "Prints the options that a guest runs with, defaults too, as molt run --config reads\n"
	 "them.",
	 run_simple, show_config, ANSWER_S},
	{"metrics", "GUEST [--json] [--timeout S]",
	 "Prints what is counted of a guest, over all its updates, in the text format that\n"
	 "Prometheus reads.",
	 run_simple, show_metrics, ANSWER_S},
	{"console", "GUEST [--timeout S]",
	 "Attaches to the guest's console, beside whoever has it. Ctrl-a x or Ctrl-a d leaves it.",
	 run_console, .timeout_s = ANSWER_S, .attach = true},
	{"stop", "GUEST [--json] [--timeout S]",
	 "Presses the guest's power button, as SIGTERM does. Pressing it again does no\n"
	 "more: after --stop-timeout the guest is ended.",
	 run_simple, show_stop, ANSWER_S},
	{"pause", "GUEST [--json] [--timeout S]",
	 "Stops the guest's vCPUs until molt resume, over updates too. Devices that were given to\n"
	 "the guest go on with what they do.",
	 run_simple, show_pause, ANSWER_S},
	{"resume", "GUEST [--json] [--timeout S]", "Lets a paused guest run on.", run_simple,
	 show_resume, ANSWER_S},
	{"rescan", "GUEST [--json] [--timeout S]",
	 "Looks at the files of the guest's disks anew, and tells the guest of those that have\n"
	 "grown. Exit status: 0 done, 70 one is shorter than the guest's disk, or does not answer.",
	 run_simple, show_rescan, ANSWER_S},
	{"events", "GUEST [--timeout S]",
	 "Prints a line of JSON for everything that happens, until the guest ends.", run_events},
	{"update",
	 "GUEST|--all [--check] [--exe FILE] [--json] [--timeout S]\n"
	 "                   [--parallel N] [--keep-going]",
	 "Replaces the guest's molt by FILE, or by what is now at the path of the last --exe,\n"
	 "or where it was started from, and waits for the outcome. FILE is the program of the\n"
	 "next update as well. --check only says whether it could be done. --all: every guest\n"
	 "that molt list shows, N at a time (1), until one refuses, or all with --keep-going.\n"
	 "Exit status: 0 done, 70 refused or failed and the guest runs on.",
	 run_update, .update = true},
};

void client_usage(FILE *out)
{
	for (const struct verb *v = verbs; v < verbs + ARRAY_LEN(verbs); v++)
		fprintf(out, "       molt %s %s\n", v->name, v->usage);
}

static int run_one(const struct verb *v, const struct arguments *a, const char *request)
{
	struct client_link l;
	struct error err;
	if (client_connect(&l, a->target, a->timeout_s, &err))
		return fail(&err);
	int sent = v->attach ? client_send_pair(&l, request, &err) : client_send(&l, request, &err);
	int rc = sent ? fail(&err) : v->run(v, &l, a);
	client_close(&l);
	return rc;
}

int client_run(int argc, char *argv[])
{
	char request[CONTROL_LINE_LEN + 64];
	struct error err;
	const struct verb *v = verbs;

	while (strcmp(v->name, argv[1]))
		v++;
	struct arguments a = {.timeout_s = v->timeout_s, .parallel = 1};
	int rc = parse(v, argc, argv, &a);
	if (rc >= 0)
		return rc;
	if (v->no_guest)
		return fleet_list(a.json, a.timeout_s);
	if (make_request(v, &a, request, sizeof(request), &err))
		return fail(&err);
	if (!a.all)
		return run_one(v, &a, request);
	return fleet_update(&(struct fleet_update){.request = request,
						   .parallel = a.parallel,
						   .timeout_s = a.timeout_s,
						   .go_on = a.go_on,
						   .check = a.check,
						   .json = a.json});
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
			json_get_text(d, "served_by", text, sizeof(text));
			printf("  %-*s can be kept%s%s\n", 24, name, *text ? ", served by " : "",
			       text);
			show_trouble(name, d);
			continue;
		}
		show_trouble(name, d);
		json_get_text(d, "reason", text, sizeof(text));
		printf("  %-*s cannot be kept now: %s\n", 24, name, text);
		printf("  %-*s so since %lu s at least\n", 24, "", json_get_u64(d, "blocked_s"));
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

static void show_threads(const char *threads)
{
	char name[32];
	for (const char *t = json_first(threads); t; t = json_next(t)) {
		uint64_t ms = json_get_u64(t, "cpu_ns") / NS_PER_MS;
		printf("  %-*s tid %lu, %lu.%03lu s of CPU time\n", 24,
		       json_get_text(t, "name", name, sizeof(name)), json_get_u64(t, "tid"),
		       ms / 1000, ms % 1000);
	}
}

static void show_pages(const char *pages)
{
	for (const char *p = json_first(pages); p; p = json_next(p)) {
		uint64_t len = json_get_u64(p, "page_bytes");
		bool large = len >= MIB;
		printf("  in pages of %lu %-*s %lu MiB\n", len / (large ? MIB : KIB), 11,
		       large ? "MiB" : "KiB", json_get_u64(p, "bytes") / MIB);
	}
}

void client_show_status(const char *answer)
{
	static const char *const texts[] = {"name",    "state", "pid", "worker",
					    "version", "build", "exe"};
	char text[4096], page[64];

	for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
		if (json_get(answer, texts[i]))
			show(texts[i], json_get_text(answer, texts[i], text, sizeof(text)));
	if (json_get(answer, "paused"))
		show("paused", paused_text(json_get(answer, "paused"), text, sizeof(text)));
	if (json_get(answer, "crashed"))
		show("crashed", crashed_text(json_get(answer, "crashed"), text, sizeof(text)));
	show_time("uptime", json_get_u64(answer, "uptime_s"));
	show("vcpus", json_get_text(answer, "vcpus", text, sizeof(text)));
	show_threads(json_get(answer, "threads"));
	printf("%-*s%lu MiB, pages %s\n", COLUMN, "memory",
	       (json_get_u64(answer, "memory_bytes") / MIB),
	       json_get_text(answer, "page_size", page, sizeof(page)));
	show_pages(json_get(answer, "memory_pages"));
	show("updates", json_get_text(answer, "updates", text, sizeof(text)));
	if (json_get_u64(answer, "reboots"))
		show("reboots", json_get_text(answer, "reboots", text, sizeof(text)));
	show_last(json_get(answer, "last_update"));
	show_devices(json_get(answer, "devices"));
}
