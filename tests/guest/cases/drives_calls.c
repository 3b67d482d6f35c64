/* SPDX-License-Identifier: MIT */
/* The system calls in the pause of an update, and in that of the floor program (tests/bench/floor). */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/runner/calls.h"
#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/inject/inject.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS 20000

static struct inject in;
static struct calls calls;

/* One update, traced, to program A or B of the session. */
static int trace_update(struct session *s, bool b)
{
	in = (struct inject){.recording = true, .early = true};
	if (session_install(s, b) || inject_update(s, &in) || session_record(s))
		return -1;
	if (in.image != IMAGE_NEW || !record_is(s->record, "result", "ok"))
		return session_fail(s, "no update: %s", s->record);
	return calls_in_pause(&calls, s, &in);
}

/* Old VM and old address space end after the pause, with the incumbent: until then nothing is unmapped or closed and
 * no thread ends, on either side. Nor asks either for memory. */
static int check_teardown(struct session *s)
{
	static const char *const banned[] = {" munmap",	    " mremap", " close",  " exit",
					     " exit_group", " brk",    " memory", " file"};
	for (unsigned i = 0; i < sizeof(banned) / sizeof(banned[0]); i++)
		if (calls_ending(&calls, banned[i]))
			return session_fail(s, "'%s' in the pause", banned[i]);
	return 0;
}

/* What is made anew costs the most: all of it was there before. */
static int check_built(struct session *s, const char *whose)
{
	static const char *const banned[] = {"KVM_CREATE_VM",
					     "KVM_CREATE_VCPU",
					     "KVM_CREATE_IRQCHIP",
					     "KVM_CREATE_PIT2",
					     "KVM_SET_USER_MEMORY_REGION",
					     " clone",
					     " execveat"};
	for (unsigned i = 0; i < sizeof(banned) / sizeof(banned[0]); i++)
		if (calls_ending(&calls, banned[i]))
			return session_fail(s, "%s: '%s' in the pause", whose, banned[i]);
	if (calls_ending(&calls, "KVM_SET_IRQCHIP") != 3)
		return session_fail(s, "%s: not the three controllers of a full irqchip", whose);
	return 0;
}

/* Stopped at its first instruction. */
static pid_t floor_start(struct session *s, const char *floor)
{
	int status;
	pid_t pid = fork();
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 1);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execl(floor, floor, "1", NULL);
		_exit(126);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_DETACH, pid, 0, SIGSTOP))
		return session_fail(s, "the floor program %s does not start", floor);
	return pid;
}

static int trace_floor(struct session *s)
{
	const char *floor = getenv("MOLT_FLOOR");
	if (!floor)
		return session_fail(s, "MOLT_FLOOR names no program (ctest sets it)");
	struct session f = {.set = s->set, .test = s->test, .pid = floor_start(s, floor)};
	in = (struct inject){.recording = true, .fresh = true};
	if (f.pid < 0)
		return -1;
	if (inject_update(&f, &in) || calls_in_pause(&calls, &f, &in))
		return session_fail(s, "floor: %s", f.error);
	return 0;
}

/* vCPUs that were taken over get their filters once they run: that is not to fall into the next update. */
static int wait_filtered(struct session *s)
{
	uint64_t until = clock_ns() + BOOT_MS * 1000000ull;
	char command[160];
	snprintf(command, sizeof(command),
		 "for t in /proc/%d/task/*; do grep -q ^molt-cpu $t/comm || continue; "
		 "grep -q 'Seccomp:.*2' $t/status || exit 1; done",
		 (int)inject_worker(s->pid));
	while (system(command))
		if (clock_ns() > until)
			return session_fail(s, "a vCPU has no filter");
	return 0;
}

/* Of one machine it is always the same; what it is of a given one, unit/test_golden says. */
static int check_blob(struct session *s, long *bytes)
{
	long now = record_number(s->record, "blob_bytes");
	if (now <= 0 || (*bytes && now != *bytes))
		return session_fail(s, "a state of %ld bytes, before of %ld", now, *bytes);
	*bytes = now;
	return 0;
}

int drive_calls(struct session *s, unsigned updates)
{
	long bytes = 0;
	char name[32];
	snprintf(name, sizeof(name), "molt-%u.txt", s->test->cpus);
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (wait_filtered(s) || trace_update(s, false) || calls_check(&calls, s, name) ||
		    check_built(s, "molt") || check_teardown(s) || check_blob(s, &bytes))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int drive_calls_floor(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (trace_floor(s) || check_built(s, "floor") ||
		    calls_check(&calls, s, "floor.txt"))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* From here on the guest runs under molt-counted, which lies beside molt. The parent's new image is waited for. */
static int change_to_counted(struct session *s)
{
	char program[512], copy[160];
	snprintf(program, sizeof(program), "%s-counted", s->set->molt);
	snprintf(copy, sizeof(copy), "%s/molt.b", s->dir);
	unlink(copy);
	return session_copy(s, program, "molt.b") || trace_update(s, true) ? -1 : 0;
}

/* In all of the update. */
static unsigned allocations_seen(void)
{
	unsigned n = 0;
	for (unsigned i = 0; i < in.ncalls; i++)
		n += in.calls[i].nr == CALLS_MALLOC;
	return n;
}

int drive_calls_malloc(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS) || change_to_counted(s))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (trace_update(s, true))
			return -1;
		if (!allocations_seen())
			return session_fail(s, "molt-counted does not count");
		if (calls_ending(&calls, " malloc"))
			return session_fail(s, "%u allocations in the pause",
					    calls_ending(&calls, " malloc"));
		printf("  %u allocations, none in the pause\n", allocations_seen());
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
