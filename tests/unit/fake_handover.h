/* SPDX-License-Identifier: MIT */
/*
 * What incumbent.c and successor.c need of a machine, a parent and a report, without any: it notes what it
 * was asked. State, descriptors, blob, page and messages are the real ones. One file of a program includes
 * this before the two, whose _exit() it catches.
 */
#ifndef MOLT_TESTS_FAKE_HANDOVER_H
#define MOLT_TESTS_FAKE_HANDOVER_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cpr/handover/check.h"
#include "cpr/handover/link.h"
#include "cpr/handover/report.h"
#include "cpr/handover/warming.h"
#include "cpr/handover/worker_guest.h"
#include "cpr/handover/worker_link.h"
#include "cpr/program.h"
#include "vmm/arch.h"
#include "vmm/base/error.h"
#include "vmm/base/reasons.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"
#include "vmm/sched.h"

static struct {
	/* how it shall be */
	int check_error, start_error, detach_error, still_error, save_error, build_error,
		spawn_error, load_error;
	unsigned serve_failures, control_failures; /* how often */
	void (*on_pause)(struct machine *m);
	/* the parent */
	int peer; /* what it was given for the successor, a copy */
	unsigned starts, owners;
	int64_t request; /* the number of the last LINK_START */
	/* the guest */
	bool paused, quiet;
	unsigned in_flight; /* keeps the devices from getting quiet */
	unsigned pauses, resumes, builds, loads, takes, serves, opens;
	/* what the operator was told */
	unsigned started, progresses, refusals, checks, dones;
	char text[sizeof(((struct error *)0)->text)], progress[256];
	char hint[sizeof(((struct error *)0)->hint)];
	struct reasons reasons;
	uint64_t pause_ns;
	struct machine *m; /* of worker_register */
	/* _exit */
	jmp_buf *out;
	int exit_code;
} hand;

static void hand_reset(void)
{
	memset(&hand, 0, sizeof(hand));
	hand.peer = -1;
	hand.exit_code = -1;
}

static inline _Noreturn void hand_exit(int code)
{
	hand.exit_code = code;
	if (!hand.out)
		abort();
	longjmp(*hand.out, 1);
}

static inline int hand_setpriority(int which, id_t who, int value)
{
	return 0;
}

#define _exit hand_exit
/* Nobody's to lower here. */
#define setpriority hand_setpriority

static inline int hand_fails(int code, const char *what, struct error *err)
{
	return code ? error_set(err, code, "fake %s", what) : 0;
}

/* ---- before anything starts ---- */

int check_update(struct machine *m, const char *path, struct reasons *reasons, struct error *err)
{
	int rc = hand_fails(hand.check_error, "check", err);
	return rc ? rc : open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
}

int check_devices(struct machine *m, struct reasons *reasons, struct error *err)
{
	return hand_fails(hand.check_error, "check", err);
}

int worker_send(enum link_kind kind, int64_t value, const char *text, const int *fds, unsigned nfds,
		struct error *err)
{
	if (kind != LINK_START)
		return 0;
	int rc = hand_fails(hand.start_error, "parent", err);
	if (rc)
		return rc;
	hand.starts++;
	hand.request = value;
	hand.peer = fcntl(fds[1], F_DUPFD_CLOEXEC, 0);
	return 0;
}

void worker_owns(void)
{
	hand.owners++;
}

int worker_register(struct machine *m, struct program *p, struct error *err)
{
	const struct state_section s = {.node = "program", .cls = &program_state_class, .state = p};
	return state_register(&m->tree, &s, err);
}

/* ---- the guest ---- */

int machine_quiesce(struct machine *m, struct error *err)
{
	hand.quiet = true;
	return hand.in_flight ? error_set(err, EBUSY, "disk a.raw: %u in flight", hand.in_flight)
			      : 0;
}

int machine_still(struct machine *m, struct error *err)
{
	return hand_fails(hand.still_error, "still", err);
}

void machine_resume(struct machine *m)
{
	hand.quiet = false;
}

int irq_detach_all(struct irq *irq, struct error *err)
{
	return hand_fails(hand.detach_error, "detach", err);
}

void vcpus_pause(struct machine *m)
{
	hand.pauses++;
	hand.paused = true;
	if (hand.on_pause)
		hand.on_pause(m);
}

int vcpus_wait_saved(struct machine *m, struct error *err)
{
	return 0;
}

void vcpus_go(struct machine *m)
{
	hand.resumes += hand.paused;
	hand.paused = false;
}

void vcpus_read_sched(struct machine *m, const struct thread_sched *leader)
{
}

void vcpus_alert(struct machine *m)
{
}

void vcpus_filter(struct machine *m)
{
}

void vcpus_scrub(struct machine *m)
{
}

void vcpus_recall(struct machine *m)
{
}

int arch_save(struct machine *m, struct error *err)
{
	return hand_fails(hand.save_error, "save", err);
}

void irq_attach_all(struct irq *irq, enum irq_kind kind)
{
}

void loop_park(struct loop *loop)
{
}

void loop_unpark(struct loop *loop)
{
}

void control_park(struct control *ctl)
{
}

void control_unpark(struct control *ctl)
{
}

int control_open(struct machine *m, struct error *err)
{
	if (hand.control_failures && hand.control_failures--)
		return error_set(err, EMFILE, "fake control socket");
	hand.opens++;
	fdset_get(&m->fds, "control");
	return 0;
}

int control_start(struct control *ctl, struct error *err)
{
	return 0;
}

void sched_step_back(void)
{
}

void sched_read(struct thread_sched *s, pid_t tid, const struct thread_sched *leader)
{
	memset(s, 0, sizeof(*s));
}

void sched_apply(const struct thread_sched *want, const struct thread_sched *now, const char *what)
{
}

int machine_build(struct machine *m, struct state_blob *blob, struct error *err)
{
	hand.builds++;
	return hand_fails(hand.build_error, "build", err);
}

int machine_join(struct machine *m, struct error *err)
{
	return 0;
}

int warm_machine(struct machine *m, int peer, struct error *err)
{
	return 0;
}

int machine_rehearse(struct machine *m, struct error *err)
{
	return 0;
}

int machine_load_devices(struct machine *m, struct state_blob *blob, struct error *err)
{
	hand.loads++;
	int rc = state_load(blob, &m->tree, err);
	return rc ? rc : hand_fails(hand.load_error, "load", err);
}

int machine_spawn(struct machine *m, struct error *err)
{
	return hand_fails(hand.spawn_error, "spawn", err);
}

int machine_load_cpus(struct machine *m, struct error *err)
{
	return 0;
}

int machine_take(struct machine *m, struct error *err)
{
	hand.takes++;
	for (unsigned i = 0; i < m->fds.n; i++) /* as its devices would have */
		m->fds.e[i].taken = strcmp(m->fds.e[i].name, "control") != 0;
	return 0;
}

int machine_serve(struct machine *m, struct error *err)
{
	if (hand.serve_failures && hand.serve_failures--)
		return error_set(err, EAGAIN, "fake thread");
	hand.serves++;
	return 0;
}

/* ---- what is told ---- */

int report_open(struct machine *m, struct error *err)
{
	return 0;
}

void report_started(struct machine *m, const char *path)
{
	hand.started++;
}

void report_progress(struct machine *m, const char *text)
{
	hand.progresses++;
	snprintf(hand.progress, sizeof(hand.progress), "%s", text);
}

static void hand_told(const struct error *why, const struct reasons *reasons)
{
	memcpy(hand.text, why->text, sizeof(hand.text));
	memcpy(hand.hint, why->hint, sizeof(hand.hint));
	hand.reasons = *reasons;
}

void report_refused(struct machine *m, const struct error *why, const struct reasons *reasons,
		    uint64_t pause_ns)
{
	hand.refusals++;
	hand.pause_ns = pause_ns;
	hand_told(why, reasons);
}

void report_checked(struct machine *m, const struct error *why, const struct reasons *reasons)
{
	hand.checks++;
	if (why)
		hand_told(why, reasons);
}

void report_done(struct machine *m, const struct report *r)
{
	hand.dones++;
}

#endif
