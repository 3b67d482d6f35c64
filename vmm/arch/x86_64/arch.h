/* SPDX-License-Identifier: MIT */
/* What x86-64 keeps per machine. vmm/arch/x86_64/ only. */
#pragma once

#include <linux/kvm.h>

#include "vmm/arch.h"

/* What the guest was given and what KVM holds for the whole VM: state node "x86". */
struct x86_state {
	uint64_t mmio64_base, mmio64_len; /* PCI window above RAM */
	uint64_t clock_boottime_ns;	  /* CLOCK_BOOTTIME when the clock was read */
	struct kvm_clock_data clock;
	struct kvm_irqchip irqchip[3]; /* PIC master, PIC slave, IOAPIC */
	struct kvm_pit_state2 pit;
};

enum { ARCH_CAP_XSAVE = 1, ARCH_CAP_XCRS = 2 };

struct arch {
	struct x86_state state;
	uint32_t xsave_len;    /* bytes of the XSAVE area on this host */
	uint32_t caps;	       /* ARCH_CAP_*, looked up once */
	struct reader *reader; /* warm.c; NULL: there is none */
};

static inline uint32_t arch_cap_bit(unsigned kvm_cap)
{
	return kvm_cap == KVM_CAP_XSAVE	 ? ARCH_CAP_XSAVE
	       : kvm_cap == KVM_CAP_XCRS ? ARCH_CAP_XCRS
					 : 0;
}

extern const struct state_class x86_state_class;
