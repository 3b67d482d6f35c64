/* SPDX-License-Identifier: MIT */
/* vCPUs: one thread each, which runs, parks, saves and loads its own. The state is the
 * architecture's. */
#pragma once

#include <pthread.h>
#include <linux/kvm.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "vmm/sched.h"
#include "vmm/vm.h"

struct vcpu {
	struct machine *m;
	uint32_t index;
	int fd;
	int stats_fd; /* what KVM counts; -1: it does not tell */
	struct kvm_run *run;
	struct vcpu_state *state; /* architecture's, allocated by vcpu_arch_init */
	pthread_t thread;
	pid_t tid;
	unsigned round;		   /* the last pause or load it took part in */
	struct thread_sched sched; /* successor: how its thread has been set up already */
	uint64_t cpuid_sum;	   /* successor: of what KVM was told */
	uint64_t mtrr_sum;	   /* of the memory types that KVM was told; 0: none */
	bool rehearsing;	   /* inside vcpu_arch_rehearse */
	/* Host addresses of guest memory that was found to be lost, 0: none. _now: by this vCPU, which waits for the
	 * page. _later: by the host, whatever the vCPU does. Set in a signal handler. */
	uint64_t lost_now, lost_later;
	/* whether the thread has its filter. TOLD: it could not get it, which was logged */
	enum { VCPU_LOOSE, VCPU_LOOSE_TOLD, VCPU_FILTERED } filtered;
};

/* Allocates m->vcpus and registers their sections "cpu@N": after all others, as they are saved
 * last. */
int vcpus_init(struct machine *m, struct error *err);

/* Fresh guests: creates the KVM vCPUs with their CPUID and maps kvm_run; after the irqchip. */
int vcpus_create(struct machine *m, struct error *err);

/* Starts the threads; unless the guest is fresh each creates its vCPU. All wait in the gate;
 * vcpus_wait_loaded returns when they are there, with the first error. vcpus_go opens it. */
int vcpus_spawn(struct machine *m, struct error *err);
void vcpus_start(struct machine *m);
int vcpus_wait_loaded(struct machine *m, struct error *err);

/* In a successor: each thread loads cpu->state; vcpus_wait_loaded returns when all have. vcpus_alert: a load comes
 * soon; threads that are awake by then are quicker. */
void vcpus_alert(struct machine *m);
void vcpus_load(struct machine *m);
/* A guest that its operator has paused (m->paused), or that has ended, stays where it is. */
void vcpus_go(struct machine *m);

/* Kicks one vCPU out of the guest, so that it looks at what is new before it goes on. May be called in a signal
 * handler. */
void vcpu_nudge(struct vcpu *cpu);

/* The leader, before a state is saved: reads how each thread is scheduled. @leader: how the leader is. */
void vcpus_read_sched(struct machine *m, const struct thread_sched *leader);

/* Kicks all out of the guest, has each finish its pending exits, and park. Then this returns, and each saves
 * itself. Resume with vcpus_go when all have: vcpus_wait_saved. */
void vcpus_pause(struct machine *m);
int vcpus_wait_saved(struct machine *m, struct error *err);

/* Has each thread put on its filter unless it has been out of the guest since it was taken over. Costs one exit. */
void vcpus_filter(struct machine *m);

/* Logs their registers, below the line before. All are parked. By the leader. */
void vcpus_tell(struct machine *m);

/* The guest runs: clears what is left of general and vector registers. By the leader. */
void vcpus_scrub(struct machine *m);
/* The same where the guest goes on here: what was saved must not be offered again, as KVM may not take it. */
void vcpus_recall(struct machine *m);

void vcpus_stop(struct machine *m);

/* Runs until a pause is asked for and every pending exit is finished: with immediate_exit set KVM_RUN
 * first completes the access the last exit stood for, and only then returns EINTR (api.rst, KVM_RUN).
 * A guest is not given up for one failure: memory may be short for a moment. */
void vcpu_run(struct vcpu *cpu);

/* Lets KVM finish what it does just before it enters the guest, as for expired timers. On the
 * parked thread. */
void vcpu_flush_pending(struct vcpu *cpu);

/* KVM_CREATE_VCPU and its kvm_run. cpu->fd: negative unless it was created. */
static inline int vcpu_open(struct vcpu *cpu, const struct vm *vm, struct error *err)
{
	int len = vm_call(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL, err, "KVM_GET_VCPU_MMAP_SIZE");
	if (len < 0)
		return len;
	cpu->fd = vm_call(vm->fd, KVM_CREATE_VCPU, (void *)(long)cpu->index, err,
			  "KVM_CREATE_VCPU %u", cpu->index);
	if (cpu->fd < 0)
		return cpu->fd;
	void *p = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	if (p == MAP_FAILED)
		return error_errno(err, errno, "vCPU %u: kvm_run", cpu->index);
	cpu->run = p;
	return 0;
}

/* The architecture's part, called on the vCPU's own thread (init: by the creator). */
int vcpu_arch_init(struct vcpu *cpu, struct error *err);   /* allocates and registers the state */
int vcpu_arch_create(struct vcpu *cpu, struct error *err); /* CPUID; fresh: reset state */
/* Serves an exit that only this architecture has. False: it is none. */
bool vcpu_arch_serve(struct vcpu *cpu);
int vcpu_arch_save(struct vcpu *cpu, struct error *err);
int vcpu_arch_load(struct vcpu *cpu, struct error *err);
/* Tries the state: without what would let KVM write to the guest's memory or arm a timer. */
int vcpu_arch_rehearse(struct vcpu *cpu, struct error *err);
/* Tells the guest, before it runs on, that the page of its memory at @gpa is lost. @now: this vCPU has just read it.
 * Where the guest would not hear of it -EOPNOTSUPP, with the reason. */
int vcpu_arch_poison(struct vcpu *cpu, uint64_t gpa, bool now, struct error *err);
void vcpu_arch_scrub(struct vcpu *cpu);	 /* clears general and vector registers */
void vcpu_arch_recall(struct vcpu *cpu); /* goes back to the state that KVM has taken last */

/* It is about to run after a long time. Tells the guest, so that its watchdogs do not take that for a hang of its
 * own. */
void vcpu_arch_stood_still(struct vcpu *cpu);

struct thread_sched *vcpu_arch_sched(struct vcpu *cpu);

/* One line with the registers of interest, for the log when a vCPU died. */
void vcpu_arch_describe(struct vcpu *cpu, char *buf, size_t size);
