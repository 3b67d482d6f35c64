/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/calls.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "tests/guest/inject/inject.h"
#include "tests/guest/runner/session.h"

/* Whether a thread has to wait for another, and so the other to wake it, is the scheduler's matter; and when the
 * guest leaves KVM_RUN for other reasons than the kick, that of its host. */
static bool is_chance(const struct inject_call *call)
{
	if (call->image == IMAGE_NEW && call->nr == SYS_rt_sigreturn)
		return true; /* another vCPU runs: this one is asked for its filters already */
	return call->nr == SYS_futex || call->nr == SYS_pause ||
	       (call->nr == SYS_ioctl && call->request == KVM_RUN);
}

/* Returns the line of that name, made if need be; NULL: no room. */
static unsigned *count_of(struct calls *c, const char *name)
{
	for (unsigned i = 0; i < c->lines; i++)
		if (!strcmp(c->line[i].name, name))
			return &c->line[i].n;
	if (c->lines == CALLS_LINES)
		return NULL;
	snprintf(c->line[c->lines].name, CALLS_NAME, "%s", name);
	return &c->line[c->lines++].n;
}

/* What a mapping is of; nothing for other calls. */
static const char *object_of(const struct inject_call *call)
{
	if (call->nr != SYS_mmap)
		return "";
	return !call->file[0] ? " memory" : " file";
}

static int add(struct calls *c, struct session *s, const struct inject_call *call)
{
	static const char *const roles[] = {
		[ROLE_LEADER] = "leader", [ROLE_LOOP] = "loop", [ROLE_VCPU] = "vcpus"};
	char name[CALLS_NAME];
	const struct inject_kind *kind = inject_kind_of(call);
	int n = snprintf(name, sizeof(name), "%s %s %s%s", call->image == IMAGE_OLD ? "old" : "new",
			 roles[call->role], call->nr == CALLS_MALLOC ? "malloc" : kind->name,
			 object_of(call));
	if (kind->nr < 0 && call->nr != CALLS_MALLOC)
		snprintf(name + n, sizeof(name) - (size_t)n, " %d:%lx", call->nr, call->request);
	unsigned *count = count_of(c, name);
	if (!count)
		return session_fail(s, "the pause has more than %d kinds of calls", CALLS_LINES);
	++*count;
	c->total++;
	return 0;
}

/* The incumbent's part begins with its leader's first kick; of a vCPU, which may notice it before, all is recorded
 * (inject.early). It ends where the leader makes itself unimportant. The successor's begins where its leader takes
 * the state, and ends, for the leader, where it gives the guest a head start, and for a vCPU at KVM_RUN, where its
 * record ends. */
int calls_in_pause(struct calls *c, struct session *s, const struct inject *in)
{
	enum { BEFORE, WITHIN, AFTER } old = BEFORE, new = BEFORE;
	*c = (struct calls){0};
	if (in->ncalls == INJECT_MAX_CALLS)
		return session_fail(s, "more than %d calls", INJECT_MAX_CALLS);
	for (unsigned i = 0; i < in->ncalls; i++) {
		const struct inject_call *call = &in->calls[i];
		bool leader = call->role == ROLE_LEADER, within = false;
		if (call->image == IMAGE_OLD) {
			if (leader && call->nr == SYS_tgkill && old == BEFORE)
				old = WITHIN;
			if (leader && call->nr == SYS_setpriority)
				old = AFTER;
			within = call->role == ROLE_VCPU || (leader && old == WITHIN);
		} else if (call->image == IMAGE_NEW) {
			/* The floor's successor has no leader that takes the state. */
			if ((leader ? call->nr == SYS_recvmsg : in->fresh) && old != BEFORE &&
			    new == BEFORE)
				new = in->fresh ? AFTER : WITHIN;
			if (leader && call->nr == SYS_nanosleep && new == WITHIN)
				new = AFTER;
			within = new == WITHIN || (new == AFTER && call->role == ROLE_VCPU);
		}
		if (within && !is_chance(call) && add(c, s, call))
			return -1;
	}
	return old == AFTER && new == AFTER
		       ? 0
		       : session_fail(s, "the calls have no whole pause in them");
}

static bool ends_in(const char *name, const char *end)
{
	size_t len = strlen(name), tail = strlen(end);
	return len >= tail && !strcmp(name + len - tail, end);
}

unsigned calls_ending(const struct calls *c, const char *end)
{
	unsigned n = 0;
	for (unsigned i = 0; i < c->lines; i++)
		n += ends_in(c->line[i].name, end) ? c->line[i].n : 0;
	return n;
}

/* ---- the table: a line "N who call" each; '#' begins a comment ---- */

static FILE *table_open(struct session *s, const char *name, const char *mode, char *path,
			size_t size)
{
	const char *dir = getenv("MOLT_CALLS");
	snprintf(path, size, "%s/%s", dir ?: "", name);
	FILE *f = dir ? fopen(path, mode) : NULL;
	if (!dir)
		session_fail(s, "MOLT_CALLS names no folder of tables (ctest sets it)");
	else if (!f && *mode == 'w')
		session_fail(s, "%s: %s", path, strerror(errno));
	return f;
}

static void table_read(FILE *f, struct calls *c)
{
	char text[CALLS_NAME + 16], name[CALLS_NAME];
	unsigned n;
	*c = (struct calls){0};
	while (f && fgets(text, sizeof(text), f)) {
		if (sscanf(text, "%u %119[^\n]", &n, name) != 2)
			continue;
		unsigned *count = count_of(c, name);
		if (count)
			*count = n;
		c->total += n;
	}
}

static int table_write(const struct calls *c, struct session *s, const char *name)
{
	char path[512];
	FILE *f = table_open(s, name, "w", path, sizeof(path));
	if (!f)
		return -1;
	fprintf(f, "# System calls in the pause, futexes aside: of the worker that has the guest "
		   "(old) "
		   "from the kick until\n# it is told that the guest runs, and of its successor "
		   "(new) from the "
		   "state's arrival to KVM_RUN.\n# Without vhost, which the machines that have "
		   "/dev/kvm for these tests lack:\n# what it is told in the pause is in "
		   "tests/unit/test_net_vhost.c.\n# Written by scripts/calls.\n");
	for (unsigned part = 0; part < 2; part++) {
		const char *who = part ? "new " : "old ";
		for (unsigned i = 0; i < c->lines; i++)
			if (!strncmp(c->line[i].name, who, 4))
				fprintf(f, "%3u %s\n", c->line[i].n, c->line[i].name);
	}
	if (fclose(f))
		return session_fail(s, "%s: %s", path, strerror(errno));
	printf("  %s: written, %u calls\n", path, c->total);
	return 0;
}

static unsigned print_difference(const struct calls *now, struct calls *want, const char *name)
{
	unsigned differ = 0;
	for (unsigned i = 0; i < now->lines; i++)
		count_of(want, now->line[i].name);
	for (unsigned i = 0; i < want->lines; i++) {
		unsigned n = 0;
		for (unsigned k = 0; k < now->lines; k++)
			if (!strcmp(now->line[k].name, want->line[i].name))
				n = now->line[k].n;
		if (n == want->line[i].n)
			continue;
		if (!differ++)
			printf("  %s: calls in the pause that differ\n    table   now\n", name);
		printf("    %5u %5u  %s\n", want->line[i].n, n, want->line[i].name);
	}
	return differ;
}

int calls_check(const struct calls *c, struct session *s, const char *name)
{
	char path[512];
	struct calls want;
	FILE *f = table_open(s, name, "r", path, sizeof(path));
	if (s->error[0])
		return -1;
	table_read(f, &want);
	if (f)
		fclose(f);
	unsigned differ = print_difference(c, &want, name);
	if (differ && getenv("MOLT_CALLS_WRITE"))
		return table_write(c, s, name);
	if (differ)
		return session_fail(s,
				    "%u calls in the pause, %u in tests/guest/calls/%s: if that "
				    "was meant, scripts/calls writes it anew",
				    c->total, want.total, name);
	printf("  %s: %u calls\n", name, c->total);
	return 0;
}
