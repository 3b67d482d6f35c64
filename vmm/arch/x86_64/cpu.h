/* SPDX-License-Identifier: MIT */
/* The state of one x86 vCPU, as KVM gives it. vmm/arch/x86_64/ only. */
#pragma once

#include <linux/kvm.h>

#include "cpr/state/fields.h"
#include "vmm/cpu_options.h"
#include "vmm/irq.h"
#include "vmm/vcpu.h"
#include "vmm/arch.h"

#define CPU_MAX_CPUID 256
#define CPU_MAX_MSRS  512
#define CPU_MAX_XSAVE 16384

enum { XCR0_TILE_CONFIG = 17, XCR0_TILE_DATA = 18 }; /* AMX: bits of XCR0 (Intel SDM 1, 13.1) */

struct vcpu_state {
	struct thread_sched sched;
	struct kvm_mp_state mp_state;
	uint32_t tsc_khz;
	uint64_t tsc_offset;
	uint64_t mcg_cap; /* as MSR MCG_CAP; 0: what KVM has by itself */
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	uint32_t cpuid_len;
	uint32_t msr_len;
	uint32_t xsave_len; /* bytes; of the program that started the guest */
	uint32_t msr_data_len;
	struct kvm_cpuid_entry2 cpuid[CPU_MAX_CPUID];
	uint32_t msr_index[CPU_MAX_MSRS];
	uint64_t msr_data[CPU_MAX_MSRS];
	uint8_t xsave[CPU_MAX_XSAVE];
};

extern const struct state_class cpu_state_class;

/* Of cpu->state, into KVM: CPUID. */
int cpu_set_cpuid(struct vcpu *cpu, struct error *err);

/* ---- tsc.c: of cpu->state, from KVM and into it: the offset, and before it the frequency; 0 or -errno ---- */
long tsc_save(struct vcpu *cpu, struct error *err);
long tsc_load(struct vcpu *cpu, struct error *err);

/* ---- msr.c: model-specific registers; long: 0 or -errno, and more in @err where it is known ---- */

/* Fills cpu->state->msr_index with those that a new guest's vCPU can have and that KVM gives and takes back. After
 * KVM_SET_CPUID2, on which they depend. */
int msrs_find(struct vcpu *cpu, struct error *err);

/* Takes those out of the lists that the guest cannot have used, which earlier programs carried. */
void msrs_drop_unused(struct vcpu_state *s);

long msrs_save(struct vcpu *cpu, struct error *err);
/* While cpu->rehearsing, without those by which KVM writes to guest memory. */
long msrs_load(struct vcpu *cpu, struct error *err);
/* The MTRRs alone: before memory is warmed. */
int msrs_load_mtrrs(struct vcpu *cpu, struct error *err);

/* ---- xsave.c: registers that XSAVE knows ---- */

/* Fills m->arch->caps and xsave_len. Before the first question for CPUID, and the first vCPU. */
int xsave_init(struct machine *m, struct error *err);

/* Is there room here for what was loaded into cpu->state? -EBADMSG: it is none; -EPROTO: its guest has more. */
int xsave_fit(struct vcpu *cpu, struct error *err);

long xsave_save(struct vcpu *cpu, struct error *err);

/* ---- svm.c: guests that run guests of their own (--cpus nested=on); does nothing for others. long: 0 or -errno
 * ---- */

/* Of one vCPU: state node "svm@N". */
struct svm_state {
	uint64_t vmcb_gpa; /* of the control block that VMRUN was given */
	/* KVM_STATE_NESTED_*: is it in a guest, about to enter one; the global interrupt flag */
	uint32_t flags;
	uint32_t vmcb_len; /* all of the following, or 0 where it is in none */
	uint8_t vmcb[KVM_STATE_NESTED_SVM_VMCB_SIZE];
};

extern const struct state_class svm_state_class;

/* Allocates m->arch->svm. After m->arch->caps. */
int svm_init(struct machine *m, struct error *err);
/* Registers the state of @cpu: after all its other state. */
int svm_register(struct vcpu *cpu, struct error *err);
/* Fills @err and returns its code: this host has none to give. */
int svm_missing(struct error *err);

long svm_save(struct vcpu *cpu, struct error *err);
/* First out of what was loaded before, whose registers would be written otherwise; then, when all else is loaded,
 * in. */
long svm_leave(struct vcpu *cpu, struct error *err);
long svm_load(struct vcpu *cpu, struct error *err);
/* Clears registers. What is left is that of a vCPU in no guest. */
void svm_scrub(struct vcpu *cpu);

/* ---- mce.c: machine checks ---- */

/* What a new guest has of them; 0: KVM has none to give. */
uint64_t mce_cap(const struct machine *m);

/* Gives the vCPU what its state has. Before its MSRs are set, which are cleared. */
int mce_setup(struct vcpu *cpu, struct error *err);

/* ---- cpuid.c: of a new guest, what KVM supports on this host, less what an update does not carry
 * ---- */

#define CPUID_MAX_ENTRIES 256

/* Fills @out, which has room for CPUID_MAX_ENTRIES. The same for all vCPUs. */
int cpuid_make(struct machine *m, struct kvm_cpuid2 *out, struct error *err);

/* Makes it that of vCPU @index, which is its APIC id, in the arrangement of @opt. */
void cpuid_for_cpu(struct kvm_cpuid2 *c, uint32_t index, const struct cpu_options *opt);

/* The pure part of cpuid_make, for its test: hides features in @c, and what @opt does not ask for. */
void cpuid_filter(struct kvm_cpuid2 *c, bool tsc_deadline, const struct cpu_options *opt);

/* Of AMD or Hygon? */
bool cpuid_is_amd(const struct kvm_cpuid_entry2 *e, uint32_t n);

/* Does it show Hyper-V's interface? */
bool cpuid_has_hyperv(const struct vcpu_state *s);

/* Width of the physical addresses that a guest with it can use; 36: it does not say. */
unsigned cpuid_address_bits(const struct kvm_cpuid2 *c);

/* ---- ioapic.c: of machines whose local APIC ids have more than 8 bits. Its other functions are in vmm/arch.h ---- */

#define CPU_MAX_XAPIC 255 /* vCPUs; id 255 means all of them */

static inline bool cpu_ids_are_wide(uint32_t cpus)
{
	return cpus > CPU_MAX_XAPIC;
}

struct ioapic_state {
	uint32_t id, index;
	uint32_t lines;	 /* bit mask of pins that devices of ours assert */
	uint32_t raised; /* the same for those of eventfds, until the guest's EOI */
	uint64_t entry[IRQ_PINS];
};

extern const struct state_class ioapic_state_class;

/* The machine has it from now on, at its address, in its state and as m->irq.pins. */
int ioapic_realize(struct machine *m, struct error *err);

/* ---- irqchip.c ---- */

/* Whose interrupt controllers the machine has. Before its devices. */
int irqchip_init(struct machine *m, struct error *err);

/* ---- what x86-64 keeps per machine ---- */

/* What the guest was given and what KVM holds for the whole VM: state node "x86". */
struct x86_state {
	uint64_t mmio64_base, mmio64_len; /* PCI window above RAM */
	uint64_t clock_boottime_ns;	  /* CLOCK_BOOTTIME when the clock was read */
	struct kvm_clock_data clock;
	struct kvm_irqchip irqchip[3]; /* PIC master, PIC slave, IOAPIC; zeros where ids are wide */
	struct kvm_pit_state2 pit;     /* the same */
};

enum { ARCH_CAP_XSAVE = 1, ARCH_CAP_XCRS = 2, ARCH_CAP_NESTED = 4 };

struct arch {
	struct x86_state state;
	uint32_t xsave_len;    /* bytes of the XSAVE area that KVM gives this process at most */
	uint32_t caps;	       /* ARCH_CAP_*, looked up once */
	uint32_t address_bits; /* of a new guest's physical addresses */
	struct reader *reader; /* warm.c; NULL: there is none */
	struct svm_state *svm; /* one for each vCPU; NULL: the guest has no SVM */
};

static inline uint32_t arch_cap_bit(unsigned kvm_cap)
{
	return kvm_cap == KVM_CAP_XSAVE		 ? ARCH_CAP_XSAVE
	       : kvm_cap == KVM_CAP_XCRS	 ? ARCH_CAP_XCRS
	       : kvm_cap == KVM_CAP_NESTED_STATE ? ARCH_CAP_NESTED
						 : 0;
}

extern const struct state_class x86_state_class;
