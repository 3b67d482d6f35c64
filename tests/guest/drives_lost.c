/* SPDX-License-Identifier: MIT */
/*
 * The end that no failure but two may lead to: the new program ends, and the old one fails when the
 * keeper has brought it back (both are $MOLT_FAULTY, cpr/fault.h). Exit status 71, the reason in the report,
 * and the state only where --keep-failed-state was given, for its owner only; molt state dump reads it.
 * With --control it is asked for by `molt update`, which ends with 71 as well. In lost-crash the old program does not
 * fail but crash, twice.
 */
#include "drives.h"

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
#include "verb.h"

#define BOOT_MS	  20000
#define EXIT_LOST 71
#define KEEP	  "--keep-failed-state"

static bool has(const struct session *s, const char *option)
{
	const char *arg = s->test->args[0];
	return arg && !strcmp(arg, option);
}

/* Runs `molt state WORD FILE [LAST]`, its output to @out. Returns the exit status or -1. */
static int molt_state(const struct settings *set, const char *word, const char *file,
		      const char *last, const char *out)
{
	int status;
	pid_t pid = fork();
	if (!pid) {
		int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, STDOUT_FILENO);
		execl(set->molt, set->molt, "state", word, file, last, NULL);
		_exit(126);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Each line of that text is in the file. */
static int check_dump(struct session *s, const char *path)
{
	static const char *const lines[] = {"\nram: class ram version ",
					    "\ncpu@0: class cpu version ", "\n  tsc_khz 0x",
					    "\nserial@3f8: class serial version "};
	static char text[1 << 20];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (!strstr(text, lines[i]))
			return session_fail(s, "the dump has no '%s'", lines[i] + 1);
	if (strstr(text, "unknown"))
		return session_fail(s, "the dump has unknown fields: %.300s", text);
	return 0;
}

static int check_kept(struct session *s, const struct settings *plain)
{
	char kept[160], out[160];
	struct stat st;
	snprintf(kept, sizeof(kept), "%s/kept", s->dir);
	snprintf(out, sizeof(out), "%s/log", s->dir); /* molt is gone: nobody writes it */
	if (lstat(kept, &st))
		return has(s, KEEP) ? session_fail(s, "%s: %s", kept, strerror(errno)) : 0;
	if (!has(s, KEEP))
		return session_fail(s, "the state was kept, and nobody asked for it");
	if ((st.st_mode & 07777) != 0600)
		return session_fail(s, "%s has mode %o", kept, st.st_mode & 07777);
	if (molt_state(plain, "dump", kept, NULL, out) || check_dump(s, out))
		return session_fail(s, "molt state dump %s failed", kept);
	/* What was saved is what a good program takes over. */
	int rc = molt_state(plain, "diff", kept, plain->molt, out);
	return rc ? session_fail(s, "molt state diff %s ended with %d", kept, rc) : 0;
}

/* What is there already is replaced, not written to: it may be a link, or readable by others. */
static int put_stale(struct session *s)
{
	char kept[160];
	snprintf(kept, sizeof(kept), "%s/kept", s->dir);
	return has(s, KEEP) && symlink("/dev/null", kept) ? session_fail(s, "symlink") : 0;
}

static int write_fault(struct session *s, const char *fault)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/fault", s->dir);
	FILE *out = fopen(path, "w");
	if (!out || fputs(fault, out) < 0 || fclose(out))
		return session_fail(s, "write %s", path);
	return 0;
}

static bool crashes(const struct session *s)
{
	return !strcmp(s->test->name, "lost-crash");
}

/* The image that was the new program has ended; its keeper became the old one, and is ours now. */
static int check_end(struct session *s)
{
	int status;
	char reason[700];
	if (session_record(s))
		return -1;
	pid_t pid = (pid_t)record_number(s->record, "pid");
	record_text(s->record, "reason", reason, sizeof(reason));
	if (!record_is(s->record, "result", "lost") ||
	    !strstr(reason, crashes(s) ? "it crashed (signal 6)" : "fault point rescue") ||
	    !strstr(reason, "ended before it had taken over"))
		return session_fail(s, "unexpected record %s", s->record);
	if (pid <= 0 || waitpid(pid, &status, 0) != pid)
		return session_fail(s, "process %d: %s", (int)pid, strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_LOST)
		return session_fail(s, "it ended with status 0x%x, expected exit code %d", status,
				    EXIT_LOST);
	return 0;
}

/* By the signal, or as an operator does it, with the program that is shipped. */
static int ask(struct session *s, struct verb *v, const struct settings *plain)
{
	if (!has(s, "--control"))
		return session_update_begin(s);
	s->set = plain;
	return verb_start(s, v, "update", NULL, NULL);
}

static int check_answer(struct session *s, struct verb *v)
{
	if (!has(s, "--control"))
		return 0;
	int status = verb_end(v);
	return status == EXIT_LOST && strstr(v->text, "the guest has ended")
		       ? 0
		       : session_fail(s, "molt update: exit status %d: %.500s", status, v->text);
}

int drive_lost(struct session *s, unsigned updates)
{
	const struct settings *plain = s->set;
	const struct test_case *test = s->test;
	static struct settings set;
	static struct verb verb;

	set = *plain;
	set.molt = getenv("MOLT_FAULTY");
	set.molt_b = set.molt;
	if (!set.molt)
		return session_fail(s, "MOLT_FAULTY names no program");
	alarm(0); /* this session has deadlines of its own */
	session_end(s);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (session_start(s, &set, test, updates) || session_expect(s, "READY", BOOT_MS) ||
	    write_fault(s, crashes(s) ? "start:exit build:abort" : "start:exit rescue:fail") ||
	    put_stale(s) || ask(s, &verb, plain) || check_end(s) || check_answer(s, &verb) ||
	    check_kept(s, plain))
		return -1;
	snprintf(s->line, sizeof(s->line), "lost, as it should be");
	return 0;
}
