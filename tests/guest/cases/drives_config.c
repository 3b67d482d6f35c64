/* SPDX-License-Identifier: MIT */
/* What molt config prints of a guest, before and after an update, starts the same machine again. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Comments name the version; and two guests cannot share a control socket and a console. */
static bool may_differ(const char *line)
{
	return line[0] == '#' || !strncmp(line, "control = ", 10) ||
	       !strncmp(line, "console = ", 10);
}

static int compare(struct session *s, const char *a, const char *b)
{
	char line[1024];
	for (; *a && *b; a += strcspn(a, "\n") + 1, b += strcspn(b, "\n") + 1) {
		size_t n = strcspn(a, "\n") + 1;
		snprintf(line, sizeof(line), "%.*s", (int)n, a);
		if (may_differ(line) && may_differ(b))
			continue;
		if (strncmp(a, b, n))
			return session_fail(s, "'%.300s' is now '%.300s'", line, b);
	}
	return *a || *b ? session_fail(s, "more lines, or fewer: %.300s %.300s", a, b) : 0;
}

static int write_file(struct session *s, const char *path, const struct verb *v)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t n = fd < 0 ? -1 : write(fd, v->text, v->len);
	if (fd >= 0)
		close(fd);
	return n == (ssize_t)v->len ? 0 : session_fail(s, "writing %s", path);
}

/* The second machine's own answer. */
static int again(struct session *s, const char *path, const char *socket, struct verb *v)
{
	static struct verb machine;
	int rc = 1;
	if (verb_start(s, &machine, "run", "--config",
		       ARGS(path, "--control", socket, "--console", "none")))
		return -1;
	for (unsigned ms = 0; rc && ms < BOOT_MS * s->set->slow; ms += 100) {
		if (session_wait_us(s, 100000) || verb_start(s, v, "config", socket, NULL))
			break;
		rc = verb_end(v);
	}
	kill(machine.pid, SIGQUIT);
	int status = verb_end(&machine);
	if (!rc && status == 128 + SIGQUIT)
		return 0;
	return session_fail(s, "the second guest: %d, %d: %.300s", rc, status, machine.text);
}

int drive_config(struct session *s, unsigned updates)
{
	static struct verb before, after;
	char path[160], socket[160];

	snprintf(path, sizeof(path), "%s/config", s->dir);
	snprintf(socket, sizeof(socket), "%s/own.ctl", s->dir);
	if (session_expect(s, "READY", BOOT_MS) ||
	    verb_run(s, &before, 0, "\ncmdline = \"cpus=2 ", "config", NULL) ||
	    verb_run(s, &before, 0, "\ninsecure-exe\n", "config", NULL) ||
	    verb_run(s, &before, 0, "\nstop-timeout = 7\n", "config", NULL) ||
	    drive_updates(s, updates) || verb_run(s, &after, 0, "\ncpus = 2\n", "config", NULL) ||
	    compare(s, before.text, after.text) || write_file(s, path, &after) ||
	    again(s, path, socket, &after) || compare(s, before.text, after.text))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
