/* SPDX-License-Identifier: MIT */
/*
 * vCPUs: one thread each, which runs, parks, saves and restores its own vCPU. The state itself is the
 * architecture's (struct vcpu_state in vmm/arch/<arch>/cpu.h).
 */
#ifndef MOLT_VCPU_H
#define MOLT_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/error.h"
#include "vmm/sched.h"

struct kvm_run;
struct machine;
struct vcpu_state;

struct vcpu {
	struct machine *m;
	uint32_t index;
	int fd;
	struct kvm_run *run;
	struct vcpu_state *state; /* architecture's, allocated by vcpu_arch_init */
	pthread_t thread;
	pid_t tid;
	unsigned round;		   /* the last pause or load it took part in */
	struct thread_sched sched; /* successor: how the thread has been set up already */
	uint64_t cpuid_sum;	   /* successor: of what KVM was told */
	uint64_t mtrr_sum;	   /* of the memory types that KVM was told; 0: none */
	bool rehearsing;	   /* inside vcpu_arch_rehearse */
	/* has the thread its filter? TOLD: that it could not be had was logged */
	enum { VCPU_LOOSE, VCPU_LOOSE_TOLD, VCPU_CONFINED } confined;
};

/* Allocates m->vcpus and registers their state sections "cpu@N": after all others, as they are saved
 * last. */
int vcpus_init(struct machine *m, struct error *err);

/* Fresh guests: creates the KVM vCPUs with their CPUID and maps kvm_run; after the irqchip. */
int vcpus_create(struct machine *m, struct error *err);

/* Starts the threads. Unless the guest is fresh each creates and restores its vCPU first; all wait in
 * the gate; vcpus_wait_loaded returns when all are there, with the first error. vcpus_go opens it. */
int vcpus_spawn(struct machine *m, struct error *err);
void vcpus_start(struct machine *m);
int vcpus_wait_loaded(struct machine *m, struct error *err);

/* In a successor: has each thread load the state that is in cpu->state now; vcpus_wait_loaded returns when all
 * have. */
void vcpus_load(struct machine *m);
void vcpus_go(struct machine *m);

/* The leader, before a state is saved: how each thread is scheduled. @leader: the leader's own. */
void vcpus_read_sched(struct machine *m, const struct thread_sched *leader);

/* Pauses: kicks all out of the guest, has each finish its pending exits, and park. The last one to
 * park runs @quiet (irqfds off: nothing may enter a vCPU while they save); then this returns, while
 * each saves itself. vcpus_wait_saved returns when all have (at once when there is no pause), or
 * with the first error. Resume with vcpus_go, but not before they have saved. */
int vcpus_pause(struct machine *m, int (*quiet)(struct machine *m, struct error *err),
		struct error *err);
int vcpus_wait_saved(struct machine *m, struct error *err);

/* The guest that was taken over runs: has each thread put on its filter, if it was not out of the guest
 * yet, and therefore did not. Costs a running guest one exit. */
void vcpus_confine(struct machine *m);

/* The guest runs: clears what is left of general and vector registers that were saved or loaded. By the
 * leader. */
void vcpus_forget(struct machine *m);
/* The same where the guest goes on here: what was saved is nothing to offer again, KVM may not take it. */
void vcpus_recall(struct machine *m);

/* Ends the threads for good (machine teardown). */
void vcpus_stop(struct machine *m);

/* Lets KVM finish what it does just before it enters the guest (interrupts of expired timers go into
 * the local APIC), without entering it. On the vCPU's own thread, parked. */
void vcpu_flush_pending(struct vcpu *cpu);

/* The architecture's part, called on the vCPU's own thread (init: by the creator). */
int vcpu_arch_init(struct vcpu *cpu, struct error *err);   /* allocates and registers the state */
int vcpu_arch_create(struct vcpu *cpu, struct error *err); /* CPUID; fresh: reset state */
int vcpu_arch_save(struct vcpu *cpu, struct error *err);
int vcpu_arch_load(struct vcpu *cpu, struct error *err);
/* Tries the state in a VM that is to get a later one: without what would let KVM write to the guest's memory or
 * arm a timer. */
int vcpu_arch_rehearse(struct vcpu *cpu, struct error *err);
void vcpu_arch_forget(struct vcpu *cpu); /* clears general and vector registers */
void vcpu_arch_recall(struct vcpu *cpu); /* the state is what KVM has taken last */

/* The scheduling part of the state. */
struct thread_sched *vcpu_arch_sched(struct vcpu *cpu);

/* One line with the registers of interest, for the log when a vCPU died. */
void vcpu_arch_describe(struct vcpu *cpu, char *buf, size_t size);

#endif
