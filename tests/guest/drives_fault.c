/* SPDX-License-Identifier: MIT */
/*
 * Updates that fail: bad program files, and a faulty build of molt ($MOLT_FAULTY, cpr/fault.h) that
 * crashes, hangs or ends at each step before commit. After each the guest must go on in the old
 * program, say nothing is wrong with its clock, and a good update must work.
 */
#include "drives.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "session.h"

#define BOOT_MS 20000
#define CUT_LEN 8192

enum outcome {
	REFUSED,  /* nothing was replaced */
	SAME_PID, /* brought back by the new image itself */
	NEW_PID,  /* brought back by the keeper */
};

/* How the file comes about: a copy of another one, changed. */
enum kind { ABSENT, EMPTY, DIRECTORY, TEXT, SCRIPT, MODE, CLASS32, AARCH64, CUT, OTHER, FAULT };

static const struct {
	const char *name;
	enum kind kind;
	const char *arg; /* OTHER: program, MODE: octal, FAULT: cpr/fault.h */
	enum outcome outcome;
	const char *reason; /* part of the record's */
} rows[] = {
	{"absent", ABSENT, NULL, REFUSED, "No such file"},
	{"empty", EMPTY, NULL, REFUSED, "empty"},
	{"directory", DIRECTORY, NULL, REFUSED, "a directory"},
	{"text", TEXT, NULL, REFUSED, "not an ELF program"},
	{"script", SCRIPT, NULL, REFUSED, "not an ELF program"},
	{"not executable", MODE, "644", REFUSED, "not executable"},
	{"writable by all", MODE, "777", REFUSED, "writable by everybody"},
	{"writable by group", MODE, "775", REFUSED, "writable by its group"},
	{"32-bit", CLASS32, NULL, REFUSED, "another architecture"},
	{"aarch64", AARCH64, NULL, REFUSED, "another architecture"},
	/* How far it gets is the kernel's to decide: not to exec, or to a crash. */
	{"cut off", CUT, NULL, REFUSED, ""},
	{"true", OTHER, "/bin/true", REFUSED, "ended (status 0) without an answer"},
	{"false", OTHER, "/bin/false", REFUSED, "ended (status 1) without an answer"},
	{"sleep", OTHER, "/bin/sleep", REFUSED, "without an answer"},
	{"preflight: crash", FAULT, "preflight:crash", REFUSED,
	 "ended by signal 11 in the preflight"},
	{"preflight: abort", FAULT, "preflight:abort", REFUSED,
	 "ended by signal 6 in the preflight"},
	{"preflight: kill", FAULT, "preflight:kill", REFUSED, "ended by signal 9 in the preflight"},
	{"preflight: exit", FAULT, "preflight:exit", REFUSED, "ended (status 0) without an answer"},
	{"preflight: hang", FAULT, "preflight:hang", REFUSED, "in time"},
	{"preflight: stop", FAULT, "preflight:stop", REFUSED, "in time"},
	{"preflight: deaf", FAULT, "preflight:deaf", REFUSED, "in time"},
	{"preflight: linger", FAULT, "preflight:linger", REFUSED, "in time"},
	{"preflight: fork", FAULT, "preflight:fork", REFUSED, "without an answer"},
	{"preflight: garbage", FAULT, "preflight:garbage", REFUSED, "what is no answer"},
	{"preflight: flood", FAULT, "preflight:flood", REFUSED, "what is no answer"},
	{"preflight: close", FAULT, "preflight:close", REFUSED, "ended (status 1)"},
	{"preflight: roam", FAULT, "preflight:roam", REFUSED, "ended (status 8)"},
	{"crash at once", FAULT, "entry:segv", NEW_PID, "ended before"},
	{"hang at once", FAULT, "entry:hang", NEW_PID, ""},
	{"stop at once", FAULT, "entry:stop", NEW_PID, "in time"},
	{"build: forbidden", FAULT, "build:forbidden", SAME_PID, "a system call that it may not"},
	{"start: crash", FAULT, "start:segv", SAME_PID, "signal 11"},
	{"start: abort", FAULT, "start:abort", SAME_PID, "signal 6"},
	{"start: hang", FAULT, "start:hang", SAME_PID, "in time"},
	{"start: exit", FAULT, "start:exit", NEW_PID, "ended before"},
	{"start: close", FAULT, "start:close", NEW_PID, "ended before"},
	{"adopt: crash", FAULT, "adopt:segv", SAME_PID, "signal 11"},
	{"adopt: bus error", FAULT, "adopt:bus", SAME_PID, "signal 7"},
	{"adopt: hang", FAULT, "adopt:hang", SAME_PID, "in time"},
	{"adopt: stop", FAULT, "adopt:stop", NEW_PID, "in time"},
	{"adopt: kill", FAULT, "adopt:kill", NEW_PID, "ended before"},
	{"build: crash", FAULT, "build:segv", SAME_PID, "signal 11"},
	{"build: hang", FAULT, "build:hang", SAME_PID, "in time"},
	{"build: exit", FAULT, "build:exit", NEW_PID, "ended before"},
	{"build: close", FAULT, "build:close", NEW_PID, "Bad file descriptor"},
	{"dma: crash", FAULT, "dma:segv", SAME_PID, "signal 11"},
	{"dma: hang", FAULT, "dma:hang", SAME_PID, "in time"},
	{"dma: stop", FAULT, "dma:stop", NEW_PID, "in time"},
	{"dma: kill", FAULT, "dma:kill", NEW_PID, "ended before"},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static int file_write(struct session *s, const char *path, const void *data, size_t len,
		      mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool good = fd >= 0 && write(fd, data, len) == (ssize_t)len && !fchmod(fd, mode);
	if (fd >= 0)
		close(fd);
	return good ? 0 : session_fail(s, "write %s: %s", path, strerror(errno));
}

/* Puts @from there, with one byte of its ELF header changed, or cut off. */
static int file_copy(struct session *s, const char *from, const char *to, enum kind kind,
		     mode_t mode)
{
	static char data[64 << 20];
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof(data));
	if (fd >= 0)
		close(fd);
	if (n < (ssize_t)sizeof(Elf64_Ehdr))
		return session_fail(s, "read %s: %s", from, strerror(errno));
	Elf64_Ehdr *h = (Elf64_Ehdr *)data;
	if (kind == CLASS32)
		h->e_ident[EI_CLASS] = ELFCLASS32;
	else if (kind == AARCH64)
		h->e_machine = EM_AARCH64;
	return file_write(s, to, data, kind == CUT ? CUT_LEN : (size_t)n, mode);
}

/* The build of molt that does @action, as @next. */
static int put_faulty(struct session *s, const char *action, const char *next)
{
	const char *faulty = getenv("MOLT_FAULTY");
	char fault[160];

	snprintf(fault, sizeof(fault), "%s/fault", s->dir);
	if (!faulty)
		return session_fail(s, "MOLT_FAULTY names no program");
	return file_write(s, fault, action, strlen(action), 0600) ||
			       file_copy(s, faulty, next, FAULT, 0755)
		       ? -1
		       : 0;
}

static int install(struct session *s, unsigned row)
{
	static const char text[] = "This is no program.\n", script[] = "#!/bin/sh\nexit 0\n";
	char next[160], molt[160];
	const char *arg = rows[row].arg;

	snprintf(next, sizeof(next), "%s/molt.new", s->dir);
	snprintf(molt, sizeof(molt), "%s/molt.a", s->dir);
	unlink(next);
	unlink(s->program);
	switch (rows[row].kind) {
	case ABSENT:
		return 0;
	case DIRECTORY:
		return mkdir(s->program, 0755) ? session_fail(s, "mkdir") : 0;
	case EMPTY:
		if (file_write(s, next, "", 0, 0755))
			return -1;
		break;
	case TEXT:
		if (file_write(s, next, text, strlen(text), 0755))
			return -1;
		break;
	case SCRIPT:
		if (file_write(s, next, script, strlen(script), 0755))
			return -1;
		break;
	case FAULT:
		if (put_faulty(s, arg, next))
			return -1;
		break;
	case OTHER:
		if (file_copy(s, arg, next, OTHER, 0755))
			return -1;
		break;
	default:
		if (file_copy(s, molt, next, rows[row].kind,
			      rows[row].kind == MODE ? (mode_t)strtoul(arg, NULL, 8) : 0755))
			return -1;
	}
	return rename(next, s->program) ? session_fail(s, "rename: %s", strerror(errno)) : 0;
}

static unsigned count_fds(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	for (int fd = 0; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		struct stat st;
		n += !lstat(path, &st);
	}
	return n;
}

static int check_row(struct session *s, unsigned row)
{
	enum outcome want = rows[row].outcome;
	char reason[600];
	bool refused = record_is(s->record, "result", "refused");
	pid_t pid = (pid_t)record_number(s->record, "pid");

	record_text(s->record, "reason", reason, sizeof(reason));
	if (!refused && !record_is(s->record, "result", "brought-back"))
		return session_fail(s, "unexpected record %s", s->record);
	if (refused != (want == REFUSED))
		return session_fail(s, "unexpected result in %s", s->record);
	if ((want == SAME_PID && pid != s->pid) || (want == NEW_PID && pid == s->pid))
		return session_fail(s, "the process id went from %d to %d", (int)s->pid, (int)pid);
	if (!strstr(reason, rows[row].reason))
		return session_fail(s, "the reason is '%s', expected '%s'", reason,
				    rows[row].reason);
	if (pid == s->pid)
		return 0;
	/* The image that failed is reaped by us, its parent; the keeper is our child now, since we
	 * are the subreaper. */
	waitpid(s->pid, NULL, 0);
	s->pid = pid;
	return 0;
}

static unsigned count_children(pid_t pid)
{
	char path[64], text[256];
	unsigned spaces = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));
	if (fd >= 0)
		close(fd);
	for (ssize_t i = 0; i < n; i++)
		spaces += text[i] == ' '; /* one after each */
	return spaces;
}

/* molt has none, and we have molt: orphans would come to us. */
static bool left_over(const struct session *s)
{
	return count_children(s->pid) || count_children(getpid()) > 1;
}

/* The guest answers, its clock is whole, and nothing is left over once the old program has gone. */
static int check_guest(struct session *s, unsigned *fds)
{
	if (session_ask(s, 'r', "GAP ") || session_ask(s, 't', "TSC "))
		return -1;
	unsigned now = count_fds(s->pid);
	bool child = left_over(s);
	for (int i = 0; i < 2000 && (child || (*fds && now != *fds)); i++) {
		usleep(1000);
		now = count_fds(s->pid);
		child = left_over(s);
	}
	if (child)
		return session_fail(s, "a process is left over");
	if (*fds && now != *fds)
		return session_fail(s, "%u descriptors, %u before", now, *fds);
	*fds = now;
	return 0;
}

/* What is to hang gets little time, each kind in a session of its own: on a busy host good updates and
 * all other rows may take long. */
enum pass { NO_HANG, HANG_IN_PREFLIGHT, HANG_IN_IMAGE, PASSES };

static const char *const pass_args[PASSES][4] = {
	[HANG_IN_PREFLIGHT] = {"--update-timeout", "20000", "--preflight-timeout", "4000"},
	[HANG_IN_IMAGE] = {"--update-timeout", "1000", "--preflight-timeout", "20000"},
};

static enum pass pass_of(unsigned row)
{
	static const char *const hangs[] = {":hang", ":stop", ":deaf", ":linger"};
	for (unsigned i = 0; i < sizeof(hangs) / sizeof(hangs[0]); i++)
		if (rows[row].kind == FAULT && strstr(rows[row].arg, hangs[i]))
			return !strncmp(rows[row].arg, "preflight", 9) ? HANG_IN_PREFLIGHT
								       : HANG_IN_IMAGE;
	return NO_HANG;
}

static int run_row(struct session *s, unsigned row, unsigned *fds)
{
	bool good = !install(s, row) && !kill(s->pid, SIGUSR1) && !session_record(s) &&
		    !check_row(s, row) && !check_guest(s, fds);
	rmdir(s->program);
	if (!good || session_update(s) || check_guest(s, fds)) {
		char why[sizeof(s->error)];
		memcpy(why, s->error, sizeof(why));
		s->error[0] = 0;
		return session_fail(s, "row '%s': %.900s", rows[row].name, why);
	}
	printf("  row %-18s %s\n", rows[row].name,
	       rows[row].outcome == REFUSED ? "refused" : "brought back");
	return 0;
}

static int run_pass(struct session *s, enum pass pass, unsigned limit, unsigned *done)
{
	unsigned fds = 0;

	s->forbidden = true; /* in one of the rows */
	if (session_expect(s, "READY", BOOT_MS) || check_guest(s, &fds))
		return -1;
	for (unsigned row = 0; row < ROWS && row < limit; row++) {
		if (pass_of(row) != pass)
			continue;
		if (run_row(s, row, &fds))
			return -1;
		++*done;
	}
	return 0;
}

/* A guest that ends while the new program is still being asked is not carried over. */
static int end_in_preflight(struct session *s)
{
	unlink(s->program);
	return put_faulty(s, "preflight:slow", s->program) || kill(s->pid, SIGUSR1) ||
			       session_wait_us(s, 100000) || session_send(s, "q", 1) ||
			       session_finish(s)
		       ? -1
		       : 0;
}

int drive_fault(struct session *s, unsigned updates)
{
	const struct settings *set = s->set;
	static struct test_case test;
	unsigned done = 0;

	test = *s->test;
	alarm(0); /* it would end the first guest; every wait here has a deadline of its own */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (enum pass pass = 0; pass < PASSES; pass++) {
		if (pass != NO_HANG) {
			memcpy(test.args, pass_args[pass], sizeof(pass_args[pass]));
			session_end(s);
			if (session_start(s, set, &test, updates))
				return -1;
		}
		if (run_pass(s, pass, updates, &done))
			return -1;
		if (pass < PASSES - 1 && (session_send(s, "q", 1) || session_finish(s)))
			return -1;
	}
	printf("FAULT rows=%u survived=%u excepted=0\n", (unsigned)ROWS, done);
	return end_in_preflight(s);
}
