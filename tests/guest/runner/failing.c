/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/failing.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/runner/session.h"

#define CUT_LEN 8192

#define GONE	 "ended, or said what is no message"
#define TOO_LATE "ended before it had taken over"

static const struct failing files[] = {
	{"absent", FAILING_ABSENT, "", "No such file"},
	{"empty", FAILING_EMPTY, "", "empty"},
	{"directory", FAILING_DIRECTORY, "", "a directory"},
	{"text", FAILING_TEXT, "", "not an ELF program"},
	{"script", FAILING_SCRIPT, "", "not an ELF program"},
	{"not executable", FAILING_MODE, "644", "not executable"},
	{"writable by all", FAILING_MODE, "777", "writable by everybody"},
	{"writable by group", FAILING_MODE, "775", "writable by its group"},
	{"32-bit", FAILING_CLASS32, "", "another architecture"},
	{"aarch64", FAILING_AARCH64, "", "another architecture"},
	/* How far it gets is the kernel's to decide: not to exec, or to a crash. */
	{"cut off", FAILING_CUT, "", ""},
	{"true", FAILING_OTHER, "/bin/true", GONE},
	{"false", FAILING_OTHER, "/bin/false", GONE},
	{"sleep", FAILING_OTHER, "/bin/sleep", GONE},
	{"another protocol", FAILING_FAULT, "entry:newer",
	 "speaks the hand-over protocol 98 to 99"},
	{"build: forbidden", FAILING_FAULT, "build:forbidden", GONE},
};

static const struct point {
	const char *name;
	bool paused;
	bool listens; /* may speak as often as it likes (PROTOCOL_PROGRESS) */
} points[] = {
	{"entry"},
	{"hello"},
	{"offer"},
	{"build", .listens = true},
	{"ready", .listens = true},
	{"state", true},
	{"load", true},
};

static const struct action {
	const char *name;
	const char *reason, *reason_paused;
	bool hangs, orphan;
} actions[] = {
	{"segv", GONE, TOO_LATE},
	{"bus", GONE, TOO_LATE},
	{"abort", GONE, TOO_LATE},
	{"kill", GONE, TOO_LATE},
	{"exit", GONE, TOO_LATE},
	{"no", "I would rather not", "I would rather not"},
	{"garbage", "no message", "no message"},
	{"wrong", "makes no sense now", "makes no sense now"},
	{"close", "", ""}, /* what it fails at next is not ours to say */
	{"hang", "in time", "in time", .hangs = true},
	{"stop", "in time", "in time", .hangs = true},
	{"deaf", "in time", "in time", .hangs = true},
	{"flood", "makes no sense now", "makes no sense now"},
	/* Its child has the sockets too. */
	{"fork", "in time", "in time", .hangs = true, .orphan = true},
	{"slow", NULL, "in time"},
};

#define LEN(a) (sizeof(a) / sizeof(a[0]))

static struct failing make(const struct point *p, const struct action *a)
{
	struct failing f = {.kind = FAILING_FAULT,
			    .reason = p->paused ? a->reason_paused : a->reason,
			    .hangs = a->hangs && !p->paused,
			    .paused = p->paused,
			    .orphan = a->orphan};
	snprintf(f.name, sizeof(f.name), "%s: %s", p->name, a->name);
	snprintf(f.arg, sizeof(f.arg), "%s:%s", p->name, a->name);
	if (!strcmp(a->name, "flood") && p->listens) {
		f.reason = "in time";
		f.hangs = true;
	}
	return f;
}

unsigned failing_rows(struct failing rows[FAILING_MAX])
{
	unsigned n = 0;
	for (unsigned i = 0; i < LEN(files); i++)
		rows[n++] = files[i];
	for (unsigned p = 0; p < LEN(points); p++)
		for (unsigned a = 0; a < LEN(actions) && n < FAILING_MAX; a++)
			rows[n++] = make(&points[p], &actions[a]);
	return n;
}

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
static int file_copy(struct session *s, const char *from, const char *to, enum failing_kind kind,
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
	if (kind == FAILING_CLASS32)
		h->e_ident[EI_CLASS] = ELFCLASS32;
	else if (kind == FAILING_AARCH64)
		h->e_machine = EM_AARCH64;
	return file_write(s, to, data, kind == FAILING_CUT ? CUT_LEN : (size_t)n, mode);
}

int failing_fault(struct session *s, const char *action, const char **path)
{
	char fault[160];

	*path = getenv("MOLT_FAULTY");
	if (!*path)
		return session_fail(s, "MOLT_FAULTY names no program");
	snprintf(fault, sizeof(fault), "%s/fault", s->dir);
	return file_write(s, fault, action, strlen(action), 0600);
}

static int make_file(struct session *s, const struct failing *f, const char *next)
{
	static const char text[] = "This is no program.\n", script[] = "#!/bin/sh\nexit 0\n";
	const char *faulty;
	char molt[160];

	snprintf(molt, sizeof(molt), "%s/molt.a", s->dir);
	switch (f->kind) {
	case FAILING_EMPTY:
		return file_write(s, next, "", 0, 0755);
	case FAILING_TEXT:
		return file_write(s, next, text, strlen(text), 0755);
	case FAILING_SCRIPT:
		return file_write(s, next, script, strlen(script), 0755);
	case FAILING_FAULT:
		return failing_fault(s, f->arg, &faulty) ||
				       file_copy(s, faulty, next, FAILING_FAULT, 0755)
			       ? -1
			       : 0;
	case FAILING_OTHER:
		return file_copy(s, f->arg, next, FAILING_OTHER, 0755);
	case FAILING_MODE:
		return file_copy(s, molt, next, f->kind, (mode_t)strtoul(f->arg, NULL, 8));
	default:
		return file_copy(s, molt, next, f->kind, 0755);
	}
}

int failing_install(struct session *s, const struct failing *f)
{
	char next[160];

	snprintf(next, sizeof(next), "%s/molt.new", s->dir);
	unlink(next);
	unlink(s->program);
	if (f->kind == FAILING_ABSENT)
		return 0;
	if (f->kind == FAILING_DIRECTORY)
		return mkdir(s->program, 0755)
			       ? session_fail(s, "mkdir %s: %s", s->program, strerror(errno))
			       : 0;
	if (make_file(s, f, next))
		return -1;
	return rename(next, s->program) ? session_fail(s, "rename: %s", strerror(errno)) : 0;
}
