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

struct error;
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
	struct error *failure; /* of the last save or load */
};

/* Creates the KVM vCPUs and their CPUID, maps kvm_run; state sections "cpu@N" are registered. */
int vcpus_create(struct machine *m, struct error *err);

/* Starts the threads. @load: each restores its vCPU from its state first, then all wait in the gate;
 * vcpus_wait_loaded returns when all have, with the first error. vcpus_go opens the gate. */
int vcpus_start(struct machine *m, bool load, struct error *err);
int vcpus_wait_loaded(struct machine *m, struct error *err);
void vcpus_go(struct machine *m);

/* Pauses: kicks all out of the guest, has each finish its pending exits, and park. The last one to
 * park runs @quiet (irqfds off: nothing may enter a vCPU while they save), then each saves itself.
 * Returns when all have saved, or the first error. Resume with vcpus_go. */
int vcpus_pause_and_save(struct machine *m, int (*quiet)(struct machine *m, struct error *err),
			 struct error *err);

/* Ends the threads for good (machine teardown). */
void vcpus_stop(struct machine *m);

/* The architecture's part, called on the vCPU's own thread (init: by the creator). */
int vcpu_arch_init(struct vcpu *cpu, struct error *err);
int vcpu_arch_save(struct vcpu *cpu, struct error *err);
int vcpu_arch_load(struct vcpu *cpu, struct error *err);

#endif
