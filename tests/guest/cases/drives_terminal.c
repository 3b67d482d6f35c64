/* SPDX-License-Identifier: MIT */
/* molt on a terminal: what is left of it, and of the guest, when the terminal is closed or a signal comes. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define WAIT_MS	   30000
#define RUNS_ON_US 500000
#define RUNS_ON	   (-1)
#define PASTE_LEN  6000

static const struct row {
	const char *name, *console;
	bool nohup, update;
	bool paste; /* more than a terminal takes, into a guest that reads nothing, and Ctrl-a x behind it */
	int sig; /* 0: the terminal is closed */
	int status;
} rows[] = {
	{"closed", "stdio", .status = 128 + SIGHUP},
	{"closed after an update", "stdio", .update = true, .status = 128 + SIGHUP},
	{"closed, with nohup", "stdio", .nohup = true, .status = RUNS_ON},
	{"closed, with nohup and an update", "stdio", .nohup = true, .update = true,
	 .status = RUNS_ON},
	{"closed, another console", "none", .status = RUNS_ON},
	{"Ctrl-a x behind a paste", "stdio", .paste = true, .status = 128 + SIGTERM},
	{"SIGHUP", "stdio", .sig = SIGHUP, .status = RUNS_ON},
	{"SIGALRM", "stdio", .sig = SIGALRM, .status = 128 + SIGALRM},
	{"SIGUSR2", "stdio", .sig = SIGUSR2, .status = 128 + SIGUSR2},
	{"SIGQUIT after an update", "stdio", .update = true, .sig = SIGQUIT,
	 .status = 128 + SIGQUIT},
};

static void become(struct session *s, const struct row *r, int master, int terminal)
{
	char kernel[512], cmdline[96];
	close(master);
	setsid();
	signal(SIGHUP, r->nohup ? SIG_IGN : SIG_DFL);
	for (int fd = 0; fd <= 2; fd++)
		dup2(terminal, fd);
	close(terminal);
	ioctl(0, TIOCSCTTY, 0);
	snprintf(kernel, sizeof(kernel), "%s/gap", s->set->guests);
	snprintf(cmdline, sizeof(cmdline), "tsc_khz=%llu%s", (unsigned long long)s->tsc_khz,
		 r->paste ? " look=3600000" : "");
	execl(s->program, s->program, "run", "--kernel", kernel, "--cmdline", cmdline, "--console",
	      r->console, "--stop-timeout", "0", NULL);
	_exit(126);
}

/* Until the guest writes, or where it cannot: until it has a process. */
static int started(struct session *s, const struct row *r, int master, pid_t pid)
{
	struct pollfd p = {.fd = master, .events = POLLIN};
	if (!strcmp(r->console, "stdio"))
		return poll(&p, 1, WAIT_MS) == 1 ? 0 : session_fail(s, "the guest says nothing");
	for (unsigned ms = 0; !process_children(pid, NULL, 0); ms += 10)
		if (ms > WAIT_MS || session_wait_us(s, 10000))
			return session_fail(s, "no worker");
	return 0;
}

/* Another worker, and the one before is gone. */
static int update(struct session *s, pid_t pid)
{
	pid_t before, now;
	process_children(pid, &before, 1);
	kill(pid, SIGUSR1);
	for (unsigned ms = 0; process_children(pid, &now, 1) != 1 || now == before; ms += 10)
		if (ms > WAIT_MS || session_wait_us(s, 10000))
			return session_fail(s, "no update");
	return session_wait_us(s, 200000); /* the parent executes itself */
}

/* @status: as a shell has it, or RUNS_ON; then it is ended here. */
static int ends(struct session *s, pid_t pid, int status)
{
	int is;
	unsigned us = 0, most = status == RUNS_ON ? RUNS_ON_US : WAIT_MS * 1000;
	while (waitpid(pid, &is, WNOHANG) != pid) {
		if (us < most && !session_wait_us(s, 10000)) {
			us += 10000;
			continue;
		}
		kill(pid, SIGKILL);
		waitpid(pid, &is, 0);
		return status == RUNS_ON ? 0 : session_fail(s, "it does not end");
	}
	is = WIFEXITED(is) ? WEXITSTATUS(is) : -WTERMSIG(is);
	return is == status ? 0 : session_fail(s, "it has ended with %d", is);
}

/* The guest may write before the terminal is raw: until then one long line loses its end. */
static int await_raw(struct session *s, int terminal)
{
	struct termios t;
	for (unsigned ms = 0; !tcgetattr(terminal, &t) && t.c_lflag & ICANON; ms += 10)
		if (ms > WAIT_MS || session_wait_us(s, 10000))
			return session_fail(s, "the terminal does not become raw");
	return 0;
}

static int paste(struct session *s, int master, int terminal)
{
	char keys[PASTE_LEN];
	if (await_raw(s, terminal))
		return -1;
	memset(keys, 'p', sizeof(keys));
	memcpy(keys + sizeof(keys) - 2, "\1x", 2);
	return write(master, keys, sizeof(keys)) == sizeof(keys)
		       ? 0
		       : session_fail(s, "the terminal does not take the paste");
}

static int row(struct session *s, const struct row *r)
{
	struct termios before, after;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), on = 0;
	if (master < 0 || ioctl(master, TIOCSPTLCK, &on))
		return session_fail(s, "no terminal");
	int terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	memset(&before, 0, sizeof(before)); /* what is between the members, too */
	memset(&after, 0, sizeof(after));
	tcgetattr(terminal, &before);
	pid_t pid = fork();
	if (!pid)
		become(s, r, master, terminal);
	int rc = started(s, r, master, pid) || (r->update && update(s, pid)) ||
				 (r->paste && paste(s, master, terminal))
			 ? -1
			 : 0;
	bool stays = r->sig || r->paste;
	if (r->sig)
		kill(pid, r->sig);
	else if (!stays)
		close(master);
	if (rc) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	} else {
		rc = ends(s, pid, r->status);
	}
	if (stays)
		tcgetattr(terminal, &after);
	if (!rc && stays && r->status != RUNS_ON && memcmp(&before, &after, sizeof(before)))
		rc = session_fail(s, "the terminal is not put back");
	close(terminal);
	if (stays)
		close(master);
	return rc;
}

int drive_terminal(struct session *s, unsigned updates)
{
	(void)updates;
	if (session_expect(s, "READY", WAIT_MS))
		return -1;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (row(s, &rows[i])) {
			char why[sizeof(s->error)];
			memcpy(why, s->error, sizeof(why));
			s->error[0] = 0;
			return session_fail(s, "row '%s': %.900s", rows[i].name, why);
		}
		printf("  row %s\n", rows[i].name);
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
