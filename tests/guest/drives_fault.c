/* SPDX-License-Identifier: MIT */
/*
 * Updates that fail: bad program files, and a faulty build of molt ($MOLT_FAULTY, cpr/fault.h) that crashes,
 * hangs or ends at each step before commit. After each the guest must go on where it was, under the same process id,
 * say nothing is wrong with its clock, and a good update must work.
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
#include <unistd.h>

#include "cases.h"
#include "session.h"

#define BOOT_MS 20000
#define CUT_LEN 8192

/* How the file comes about: a copy of another one, changed. */
enum kind { ABSENT, EMPTY, DIRECTORY, TEXT, SCRIPT, MODE, CLASS32, AARCH64, CUT, OTHER, FAULT };

static const struct {
	const char *name;
	enum kind kind;
	const char *arg;    /* OTHER: program, MODE: octal, FAULT: cpr/fault.h */
	const char *reason; /* part of the record's */
} rows[] = {
	{"absent", ABSENT, NULL, "No such file"},
	{"empty", EMPTY, NULL, "empty"},
	{"directory", DIRECTORY, NULL, "a directory"},
	{"text", TEXT, NULL, "not an ELF program"},
	{"script", SCRIPT, NULL, "not an ELF program"},
	{"not executable", MODE, "644", "not executable"},
	{"writable by all", MODE, "777", "writable by everybody"},
	{"writable by group", MODE, "775", "writable by its group"},
	{"32-bit", CLASS32, NULL, "another architecture"},
	{"aarch64", AARCH64, NULL, "another architecture"},
	/* How far it gets is the kernel's to decide: not to exec, or to a crash. */
	{"cut off", CUT, NULL, ""},
	{"true", OTHER, "/bin/true", "ended, or said what is no message"},
	{"false", OTHER, "/bin/false", "ended, or said what is no message"},
	{"sleep", OTHER, "/bin/sleep", "ended, or said what is no message"},
	{"entry: segv", FAULT, "entry:segv", "ended, or said what is no message"},
	{"entry: abort", FAULT, "entry:abort", "ended, or said what is no message"},
	{"entry: kill", FAULT, "entry:kill", "ended, or said what is no message"},
	{"entry: exit", FAULT, "entry:exit", "ended, or said what is no message"},
	{"entry: hang", FAULT, "entry:hang", "in time"},
	{"entry: stop", FAULT, "entry:stop", "in time"},
	{"entry: deaf", FAULT, "entry:deaf", "in time"},
	{"entry: close", FAULT, "entry:close", ""},
	{"entry: garbage", FAULT, "entry:garbage", "ended, or said what is no message"},
	{"entry: flood", FAULT, "entry:flood", ""},
	{"hello: segv", FAULT, "hello:segv", "ended, or said what is no message"},
	{"hello: abort", FAULT, "hello:abort", "ended, or said what is no message"},
	{"hello: kill", FAULT, "hello:kill", "ended, or said what is no message"},
	{"hello: exit", FAULT, "hello:exit", "ended, or said what is no message"},
	{"hello: hang", FAULT, "hello:hang", "in time"},
	{"hello: stop", FAULT, "hello:stop", "in time"},
	{"hello: deaf", FAULT, "hello:deaf", "in time"},
	{"hello: close", FAULT, "hello:close", ""},
	{"hello: garbage", FAULT, "hello:garbage", "ended, or said what is no message"},
	{"hello: flood", FAULT, "hello:flood", ""},
	{"offer: segv", FAULT, "offer:segv", "ended, or said what is no message"},
	{"offer: abort", FAULT, "offer:abort", "ended, or said what is no message"},
	{"offer: kill", FAULT, "offer:kill", "ended, or said what is no message"},
	{"offer: exit", FAULT, "offer:exit", "ended, or said what is no message"},
	{"offer: hang", FAULT, "offer:hang", "in time"},
	{"offer: stop", FAULT, "offer:stop", "in time"},
	{"offer: deaf", FAULT, "offer:deaf", "in time"},
	{"offer: close", FAULT, "offer:close", ""},
	{"offer: garbage", FAULT, "offer:garbage", "ended, or said what is no message"},
	{"offer: flood", FAULT, "offer:flood", ""},
	{"build: segv", FAULT, "build:segv", "ended, or said what is no message"},
	{"build: abort", FAULT, "build:abort", "ended, or said what is no message"},
	{"build: kill", FAULT, "build:kill", "ended, or said what is no message"},
	{"build: exit", FAULT, "build:exit", "ended, or said what is no message"},
	{"build: hang", FAULT, "build:hang", "in time"},
	{"build: stop", FAULT, "build:stop", "in time"},
	{"build: deaf", FAULT, "build:deaf", "in time"},
	{"build: close", FAULT, "build:close", ""},
	{"build: garbage", FAULT, "build:garbage", "ended, or said what is no message"},
	{"build: flood", FAULT, "build:flood", ""},
	{"ready: segv", FAULT, "ready:segv", "ended, or said what is no message"},
	{"ready: abort", FAULT, "ready:abort", "ended, or said what is no message"},
	{"ready: kill", FAULT, "ready:kill", "ended, or said what is no message"},
	{"ready: exit", FAULT, "ready:exit", "ended, or said what is no message"},
	{"ready: hang", FAULT, "ready:hang", "in time"},
	{"ready: stop", FAULT, "ready:stop", "in time"},
	{"ready: deaf", FAULT, "ready:deaf", "in time"},
	{"ready: close", FAULT, "ready:close", ""},
	{"ready: garbage", FAULT, "ready:garbage", "ended, or said what is no message"},
	{"ready: flood", FAULT, "ready:flood", ""},
	{"state: segv", FAULT, "state:segv", "ended before it had taken over"},
	{"state: abort", FAULT, "state:abort", "ended before it had taken over"},
	{"state: bus", FAULT, "state:bus", "ended before it had taken over"},
	{"state: kill", FAULT, "state:kill", "ended before it had taken over"},
	{"state: exit", FAULT, "state:exit", "ended before it had taken over"},
	{"state: hang", FAULT, "state:hang", "in time"},
	{"state: stop", FAULT, "state:stop", "in time"},
	{"state: close", FAULT, "state:close", ""},
	{"state: garbage", FAULT, "state:garbage", ""},
	{"state: flood", FAULT, "state:flood", ""},
	{"load: segv", FAULT, "load:segv", "ended before it had taken over"},
	{"load: abort", FAULT, "load:abort", "ended before it had taken over"},
	{"load: bus", FAULT, "load:bus", "ended before it had taken over"},
	{"load: kill", FAULT, "load:kill", "ended before it had taken over"},
	{"load: exit", FAULT, "load:exit", "ended before it had taken over"},
	{"load: hang", FAULT, "load:hang", "in time"},
	{"load: stop", FAULT, "load:stop", "in time"},
	{"load: close", FAULT, "load:close", ""},
	{"load: garbage", FAULT, "load:garbage", ""},
	{"load: flood", FAULT, "load:flood", ""},
	{"build: forbidden", FAULT, "build:forbidden", "ended, or said what is no message"},
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
	char reason[600];
	pid_t pid = (pid_t)record_number(s->record, "pid");

	record_text(s->record, "reason", reason, sizeof(reason));
	if (!record_is(s->record, "result", "refused"))
		return session_fail(s, "unexpected record %s", s->record);
	if (pid != s->pid || kill(s->pid, 0))
		return session_fail(s, "the process id went from %d to %d", (int)s->pid, (int)pid);
	if (!strstr(reason, rows[row].reason))
		return session_fail(s, "the reason is '%s', expected '%s'", reason,
				    rows[row].reason);
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

/* The parent has its worker, that none, and we have the parent: orphans would come to us. */
static bool left_over(const struct session *s)
{
	pid_t worker = session_worker(s);
	return !worker || count_children(s->pid) != 1 || count_children(worker) ||
	       count_children(getpid()) > 1;
}

/* After a good update the process that the world knows becomes the new program. */
static bool is_program(const struct session *s)
{
	struct stat exe, program;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)s->pid);
	return !stat(path, &exe) && !stat(s->program, &program) && exe.st_dev == program.st_dev &&
	       exe.st_ino == program.st_ino;
}

static uint64_t largest_gap(const char *line)
{
	uint64_t ns = 0;
	for (char *p = (char *)line + strlen("GAP "); *p; p += *p == ',') {
		uint64_t gap = strtoull(p, &p, 10);
		ns = gap > ns ? gap : ns;
	}
	return ns;
}

/* The guest answers, its clock is whole, and nothing is left over once the other worker has gone. @fds: of worker and
 * parent, 0: not known yet. */
static int check_guest(struct session *s, unsigned fds[2], uint64_t *gap_ns)
{
	if (session_ask(s, 'r', "GAP "))
		return -1;
	*gap_ns = largest_gap(s->line);
	if (session_ask(s, 't', "TSC "))
		return -1;
	unsigned now[2];
	bool child;
	for (int i = 0;; i++) {
		child = left_over(s);
		now[0] = count_fds(session_worker(s));
		now[1] = count_fds(s->pid);
		if (i == 5000 || (!child && (!fds[0] || (now[0] == fds[0] && now[1] == fds[1]))))
			break;
		usleep(1000);
	}
	if (child)
		return session_fail(s, "a process is left over");
	if (fds[0] && (now[0] != fds[0] || now[1] != fds[1]))
		return session_fail(s, "%u and %u descriptors, %u and %u before", now[0], now[1],
				    fds[0], fds[1]);
	memcpy(fds, now, sizeof(now));
	return 0;
}

/* What is to hang gets little time, in a session of its own: on a busy host good updates and all other rows may take
 * long. In the pause it has what is the default. */
enum pass { NO_HANG, HANG, PASSES };

static const char *const pass_args[PASSES][2] = {
	[NO_HANG] = {"--prepare-timeout", "20000"},
	[HANG] = {"--prepare-timeout", "2000"},
};

static enum pass pass_of(unsigned row)
{
	static const char *const hangs[] = {":hang", ":stop", ":deaf", ":flood"};
	for (unsigned i = 0; i < sizeof(hangs) / sizeof(hangs[0]); i++)
		if (rows[row].kind == FAULT && strstr(rows[row].arg, hangs[i]))
			return HANG;
	return NO_HANG;
}

fault_seen fault_on_row;

static int run_row(struct session *s, unsigned row, unsigned fds[2])
{
	uint64_t gap_ns = 0, ignored;
	bool good = !session_ask(s, 'r', "GAP ") && !install(s, row) && !kill(s->pid, SIGUSR1) &&
		    !session_record(s) && !check_row(s, row) && !check_guest(s, fds, &gap_ns);
	if (fault_on_row)
		fault_on_row(rows[row].name, gap_ns, good, !kill(s->pid, 0));
	rmdir(s->program);
	if (good && (row % 4 || fault_on_row))
		good = true;
	else if (good)
		good = !session_update(s) && !check_guest(s, fds, &ignored);
	for (int i = 0; good && !(row % 4) && !fault_on_row && !is_program(s); i++) {
		usleep(1000);
		if (i == 10000)
			good = !session_fail(s, "the parent does not become the new program");
	}
	if (!good) {
		char why[sizeof(s->error)];
		memcpy(why, s->error, sizeof(why));
		s->error[0] = 0;
		return session_fail(s, "row '%s': %.900s", rows[row].name, why);
	}
	printf("  row %-18s refused, the guest saw a gap of %.1f ms\n", rows[row].name,
	       (double)gap_ns / 1e6);
	return 0;
}

static int run_pass(struct session *s, enum pass pass, unsigned limit, unsigned *done)
{
	unsigned fds[2] = {0, 0};
	uint64_t ignored;

	s->forbidden = true; /* in one of the rows */
	if (session_expect(s, "READY", BOOT_MS) || check_guest(s, fds, &ignored))
		return -1;
	for (unsigned row = 0; row < ROWS && row < limit; row++) {
		if (pass_of(row) != pass)
			continue;
		if (run_row(s, row, fds))
			return -1;
		++*done;
	}
	return 0;
}

/* A guest that ends while the new program builds is not carried over. */
static int end_in_build(struct session *s)
{
	unlink(s->program);
	return put_faulty(s, "build:slow", s->program) || kill(s->pid, SIGUSR1) ||
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
		memcpy(test.args, pass_args[pass], sizeof(pass_args[pass]));
		session_end(s);
		if (session_start(s, set, &test, updates))
			return -1;
		if (run_pass(s, pass, updates, &done))
			return -1;
		if (pass < PASSES - 1 && (session_send(s, "q", 1) || session_finish(s)))
			return -1;
	}
	printf("FAULT rows=%u survived=%u excepted=0\n", (unsigned)ROWS, done);
	return end_in_build(s);
}
