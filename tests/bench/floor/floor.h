/* SPDX-License-Identifier: MIT */
/*
 * The floor: what an update of this design costs with nothing around it. One vCPU, one memory slot, in-kernel
 * irqchip; no devices, no state format, no checks, no way back. molt's pause is compared with it.
 *
 * What must outlive exec is one struct in a memfd. Failures end the program with the line's number.
 */
#ifndef MOLT_BENCH_FLOOR_H
#define MOLT_BENCH_FLOOR_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define RAM_MIB	    256 /* unless the command line says another size */
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

struct floor_state {
	int state_fd, ram_fd, kvm_fd, exe_fd;
	uint64_t ram_len;
	uint32_t updates, done;
	uint32_t parked; /* futex: the vCPU has saved itself */
	uint32_t over;	 /* futex: the keeper may end */
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

/* The VM of this program image. */
struct floor_vm {
	int fd, vcpu_fd;
	struct kvm_run *run;
	uint8_t *ram;
	volatile int stop;
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

#endif
