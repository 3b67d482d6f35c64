/* SPDX-License-Identifier: MIT */
/*
 * The floor: what a hand-over of this design costs with nothing around it. The guest goes from one living process
 * (the incumbent) to another (the successor), which has made its VM before. One vCPU, one memory slot, in-kernel
 * irqchip; no devices, no state format, no checks, no way back. molt's pause is compared with it.
 *
 * Three kinds of processes: the parent, which starts and reaps the others and has no VM (floor.c), and the two
 * workers of a hand-over (worker.c). What they have in common is one struct in shared memory. Failures end a
 * process with the line's number, and the parent then ends all of them.
 */
#ifndef MOLT_BENCH_FLOOR_H
#define MOLT_BENCH_FLOOR_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define RAM_MIB	    256	    /* unless the command line says another size */
#define GUEST_LEN   0x10000 /* all that the guest touches of it */
#define MAX_MSRS    512
#define MAX_CPUID   256
#define MAX_XSAVE   16384
#define MAX_UPDATES 10000

#define MUST(call)                                                                                 \
	({                                                                                         \
		long rc_ = (long)(call);                                                           \
		if (rc_ < 0) {                                                                     \
			fprintf(stderr, "floor: %s:%d: %s failed: %m\n", __FILE__, __LINE__,       \
				#call);                                                            \
			_exit(1);                                                                  \
		}                                                                                  \
		rc_;                                                                               \
	})

struct floor_vcpu {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	uint64_t tsc_offset;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[MAX_MSRS];
	} msrs;
	uint8_t xsave[MAX_XSAVE] __attribute__((aligned(64)));
};

/* Worker 0 boots the guest, worker i takes it from worker i - 1. The words say how far the hand-overs have come, by
 * the successor's number, so none of them is ever set back. */
struct floor_state {
	int ram_fd, kvm_fd;
	uint64_t ram_len;
	uint32_t updates;
	uint32_t ready;	 /* the successor is built and waits */
	uint32_t parked; /* the vCPU has saved itself */
	uint32_t given;	 /* the state is whole */
	uint32_t owner;	 /* the worker that has the guest: the commit is a swap of this word */
	uint32_t over;	 /* the guest has run for a while: the incumbent may end */
	int xsave2;
	uint32_t tsc_khz;
	struct floor_vcpu vcpu;
	struct kvm_irqchip irqchip[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[MAX_CPUID];
	} cpuid;
	uint64_t gap_ns[MAX_UPDATES];
};

/* The VM of this process. */
struct floor_vm {
	int fd, vcpu_fd;
	struct kvm_run *run;
	uint8_t *ram;
};

/* What the guest writes: it runs at CPL3 and reads the TSC in a loop. */
struct guest_report {
	volatile uint64_t loops, last, largest_gap; /* TSC */
};
struct guest_report *guest_report(uint8_t *ram);

/* Writes program and page tables into @ram and sets the registers to run it. */
void guest_boot(uint8_t *ram, struct kvm_sregs2 *sregs, struct kvm_regs *regs);

/* VM, memory slot, irqchip, vCPU, CPUID; @s has descriptors and CPUID. */
void vm_make(struct floor_vm *vm, const struct floor_state *s);

/* The state, in the order of molt's tables (vmm/arch/x86_64/cpu.c, irqchip.c). The vCPU's part on its
 * thread when it saves. */
void vcpu_save(int fd, struct floor_state *s);
void vcpu_load(int fd, struct floor_state *s);
void chips_save(int fd, struct floor_state *s);
void chips_load(int fd, struct floor_state *s);

/* Which MSRs and CPUID leaves there are, once. */
void vm_learn(struct floor_vm *vm, struct floor_state *s);

/* Sets one of the words above and wakes who waits for it. */
void word_set(uint32_t *word, uint32_t to);

/* All of the life of worker @number. */
__attribute__((noreturn)) void worker(struct floor_state *s, uint32_t number);

#endif
