/* SPDX-License-Identifier: MIT */
/* The system calls in the pause of an update, and in that of the floor program (tests/bench/floor). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"
#include "cases.h"
#include "drives.h"
#include "floor_trace.h"
#include "inject.h"
#include "session.h"

#define BOOT_MS 20000

static struct inject in;
static struct calls calls;

/* One update, traced, to program A or B of the session. */
static int trace_update(struct session *s, bool b)
{
	in = (struct inject){.recording = true, .keeper = true, .early = true};
	if (session_install(s, b) || inject_update(s, &in) || session_record(s))
		return -1;
	if (in.image != IMAGE_NEW || !record_is(s->record, "result", "ok"))
		return session_fail(s, "no update: %s", s->record);
	return calls_in_pause(&calls, s, &in);
}

/* Old VM and old address space end after the pause: until then nothing is unmapped or closed, no thread
 * ends by itself, and the keeper, which holds both, is there. The old image asks for no memory. */
static int check_teardown(struct session *s)
{
	static const char *const banned[] = {" munmap",
					     " mremap",
					     " close",
					     " exit",
					     " exit_group",
					     "old leader brk",
					     "old leader mmap memory",
					     "old leader mmap file",
					     "old vcpus brk",
					     "old vcpus mmap memory",
					     "old vcpus mmap file"};
	for (unsigned i = 0; i < sizeof(banned) / sizeof(banned[0]); i++)
		if (calls_ending(&calls, banned[i]))
			return session_fail(s, "'%s' in the pause", banned[i]);
	if (!in.keeper_met || calls.keeper_ended)
		return session_fail(s,
				    in.keeper_met ? "the keeper ended in the pause" : "no keeper");
	return 0;
}

static int check_irqchip(struct session *s)
{
	if (calls_ending(&calls, "KVM_CREATE_IRQCHIP") != 1 ||
	    calls_ending(&calls, "KVM_CREATE_PIT2") != 1 ||
	    calls_ending(&calls, "KVM_SET_IRQCHIP") != 3)
		return session_fail(s, "not a full irqchip in the kernel");
	return 0;
}

/* What has a place before or after the pause of two living processes is not in it. */
static int check_floor(struct session *s, const struct calls *c)
{
	static const char *const banned[] = {"KVM_CREATE_VM",
					     "KVM_SET_USER_MEMORY_REGION",
					     "KVM_CREATE_IRQCHIP",
					     "KVM_CREATE_PIT2",
					     "KVM_CREATE_VCPU",
					     "KVM_SET_CPUID2",
					     " clone",
					     " execveat",
					     " brk",
					     " mmap memory",
					     " mmap file",
					     " munmap",
					     " close",
					     " exit",
					     " exit_group"};
	for (unsigned i = 0; i < sizeof(banned) / sizeof(banned[0]); i++)
		if (calls_ending(c, banned[i]))
			return session_fail(s, "floor: '%s' in the pause", banned[i]);
	if (calls_ending(c, "old leader ioctl KVM_GET_IRQCHIP") != 3 ||
	    calls_ending(c, "new vcpus ioctl KVM_SET_IRQCHIP") != 3)
		return session_fail(s, "floor: not a full irqchip in the kernel");
	return 0;
}

/* Whoever dies in the pause: all processes end, and it says that it failed. */
static int lose_floor(struct session *s, const char *floor, enum floor_who victim)
{
	struct floor_trace f;
	if (floor_trace(s, floor, victim, &f))
		return -1;
	if (!f.status || !f.began)
		return session_fail(s, "floor: process %d was killed in the pause: status %#x",
				    (int)victim, (unsigned)f.status);
	return 0;
}

static int trace_floor(struct session *s)
{
	struct floor_trace f;
	const char *floor = getenv("MOLT_FLOOR");
	if (!floor)
		return session_fail(s, "MOLT_FLOOR names no program (ctest sets it)");
	if (floor_trace(s, floor, FLOOR_NONE, &f))
		return -1;
	if (f.status || !f.over || f.processes != 3)
		return session_fail(s, "floor: status %#x, %u processes, %s pause",
				    (unsigned)f.status, f.processes, f.over ? "a" : "no whole");
	if (check_floor(s, &f.calls) || calls_check(&f.calls, s, "floor.txt"))
		return -1;
	for (int who = FLOOR_PARENT; who < FLOOR_NONE; who++)
		if (lose_floor(s, floor, (enum floor_who)who))
			return -1;
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
		 (int)s->pid);
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
		    check_irqchip(s) || check_teardown(s) || check_blob(s, &bytes))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int drive_calls_floor(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (trace_floor(s))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* From here on the guest runs under molt-counted, which lies beside molt. */
static int change_to_counted(struct session *s)
{
	char program[512], copy[160];
	snprintf(program, sizeof(program), "%s-counted", s->set->molt);
	snprintf(copy, sizeof(copy), "%s/molt.b", s->dir);
	unlink(copy);
	return session_copy(s, program, "molt.b") || session_update(s) ? -1 : 0;
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
