/* SPDX-License-Identifier: MIT */
/*
 * A guest in states that are rare, or that KVM gives and may refuse to take (guest/bare/states.c): it is updated, or
 * goes on where it is and is updated once it has left that state. Then the same after it has done things at random.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	   30000
#define SETTLE_US  30000 /* to come from its word into its state */
#define REASON_LEN 512
#define REASONS	   32

/* 0: done; 1: refused, with the reason; in the same process. */
static int update(struct session *s, char reason[REASON_LEN])
{
	if (session_update_begin(s) || session_record(s) || session_same_pid(s))
		return -1;
	reason[0] = 0;
	if (record_is(s->record, "result", "ok")) {
		s->running = s->asked;
		if (s->updates < s->max_updates)
			s->pauses_ns[s->updates++] = (uint64_t)record_number(s->record, "pause_ns");
		return 0;
	}
	record_text(s->record, "reason", reason, REASON_LEN);
	if (!strstr(reason, "KVM_SET") && !strstr(reason, "this host refuses"))
		return session_fail(s, "refused for another reason: %.400s", reason);
	return 1;
}

static const char *after(const char *reason)
{
	const char *what = strstr(reason, "vCPU");
	return what ?: reason;
}

static int run_state(struct session *s, const char *name)
{
	char reason[REASON_LEN], out[80];
	unsigned refused = 0;

	/* Twice: the second one is offered what the first has saved. */
	for (unsigned i = 0; i < 2; i++) {
		if (session_wait_us(s, SETTLE_US))
			return -1;
		int rc = update(s, reason);
		if (rc < 0)
			return -1;
		refused += (unsigned)rc;
		if (rc && !i)
			printf("  %-22s refused: %s\n", name, after(reason));
		else if (rc && record_number(s->record, "pause_ns"))
			printf("  %-22s and once more within the pause\n", name);
	}
	if (!refused)
		printf("  %-22s done\n", name);
	snprintf(out, sizeof(out), "OUT %s", name);
	if (session_ask(s, 'o', out))
		return -1;
	if (update(s, reason))
		return session_fail(s, "left, and not updated for %.300s", reason);
	return 0;
}

static int run_states(struct session *s)
{
	char name[64];

	for (;;) {
		if (session_send(s, "x", 1) || session_expect(s, "", 20000))
			return -1;
		if (!strcmp(s->line, "NONE"))
			return 0;
		if (sscanf(s->line, "IN %60s", name) != 1)
			return session_fail(s, "'%s'", s->line);
		if (run_state(s, name)) {
			char why[sizeof(s->error)];
			memcpy(why, s->error, sizeof(why));
			s->error[0] = 0;
			return session_fail(s, "state '%s': %.900s", name, why);
		}
	}
}

/* ---- at random ---- */

static char reasons[REASONS][REASON_LEN];
static unsigned nreasons;

static void note(const char *reason)
{
	for (unsigned i = 0; i < nreasons; i++)
		if (!strcmp(reasons[i], reason))
			return;
	if (nreasons == REASONS)
		return;
	snprintf(reasons[nreasons++], REASON_LEN, "%s", reason);
	printf("  at random: refused: %s\n", reason);
}

static int begin(struct session *s, const struct settings *set, const struct test_case *from,
		 unsigned seed, unsigned updates)
{
	static struct test_case test;
	static char cmdline[64];

	test = *from;
	snprintf(cmdline, sizeof(cmdline), "seed=%u pae=%d", seed, !set->soft_kvm);
	test.cmdline = cmdline;
	session_end(s);
	return session_start(s, set, &test, updates) || session_expect(s, "READY", BOOT_MS) ? -1
											    : 0;
}

#define ROUNDS 12 /* of a guest */

static int run_random(struct session *s, unsigned updates)
{
	const struct settings *set = s->set;
	const struct test_case *test = s->test;
	char reason[REASON_LEN];
	unsigned refused = 0, done = 0, guests = 0;

	for (; done + refused < updates; guests++) {
		unsigned seed = (unsigned)session_random(s, 1u << 30);
		if (begin(s, set, test, seed, updates))
			return -1;
		for (unsigned i = 0; i < ROUNDS && done + refused < updates; i++) {
			int rc = session_ask(s, 'f', "DID ") ? -1 : update(s, reason);
			if (rc < 0) {
				printf("  at random: seed=%u\n", seed);
				return -1;
			}
			*(rc ? &refused : &done) += 1;
			if (rc)
				note(after(reason));
		}
		if (session_send(s, "q", 1) || session_finish(s))
			return -1;
	}
	printf("  at random: %u updates done, %u refused, %u guests\n", done, refused, guests);
	return 0;
}

int drive_states(struct session *s, unsigned updates)
{
	alarm(0); /* each session has deadlines of its own */
	nreasons = 0;
	if (begin(s, s->set, s->test, 1, updates) || run_states(s) || session_send(s, "q", 1) ||
	    session_finish(s))
		return -1;
	if (!s->set->emulated)
		return run_random(s, updates);
	printf("  at random: not here: it has crashed the QEMU that emulates this host\n");
	return 0;
}
