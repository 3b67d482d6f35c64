/* SPDX-License-Identifier: MIT */
/* Memory that is lost, as a machine check (Intel SDM 3B, 16.3 and 16.9.3; AMD APM 2, 9.3 and 9.8). */
#include "vmm/arch/x86_64/cpu.h"

#include "vmm/machine.h"

#define MSR_MCG_STATUS 0x17a
#define CR4_MCE	       0x40

#define BANKS	  10
#define BANK	  9 /* the last one: Linux leaves the first of some processors alone */
#define MCG_SER_P 0x1000000ull

enum { MCG_RIPV = 1, MCG_EIPV = 2, MCG_MCIP = 4 };
enum status_bit { AR = 55, S, PCC, ADDRV, MISCV, EN, UC, OVER, VAL, POISON = 43, DEFERRED = 44 };
#define STATUS(bit)  (1ull << (bit))
#define STATUS_ANY   (STATUS(VAL) | STATUS(EN) | STATUS(MISCV) | STATUS(ADDRV))
#define INTEL_READ   (STATUS(UC) | STATUS(S) | STATUS(AR) | 0x134) /* a data load */
#define INTEL_FOUND  (STATUS(UC) | STATUS(S) | 0xc0)		   /* by memory scrubbing */
#define AMD_READ     (STATUS(UC) | STATUS(POISON))
#define AMD_FOUND    (STATUS(DEFERRED) | STATUS(POISON))
#define MISC_PHYS_4K (2ull << 6 | 12) /* a physical address, of which 12 bits mean nothing */

uint64_t mce_cap(const struct machine *m)
{
	uint64_t supported = 0;
	if (vm_ioctl(m->vm.kvm_fd, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported) < 0)
		return 0;
	return BANKS | (supported & MCG_SER_P);
}

int mce_setup(struct vcpu *cpu, struct error *err)
{
	uint64_t cap = cpu->state->mcg_cap;
	if (!cap)
		return 0;
	return vm_call(cpu->fd, KVM_X86_SETUP_MCE, &cap, err, "vCPU %u: KVM_X86_SETUP_MCE 0x%lx",
		       cpu->index, cap);
}

/* One check after the other, and only if the guest wants any: else a processor shuts down. */
static bool takes_checks(struct vcpu *cpu, uint64_t *mcg_status)
{
	struct kvm_sregs2 sregs;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = {.head.nmsrs = 1, .entry.index = MSR_MCG_STATUS};
	if (vm_ioctl(cpu->fd, KVM_GET_SREGS2, &sregs) < 0 ||
	    vm_ioctl(cpu->fd, KVM_GET_MSRS, &one) != 1)
		return false;
	*mcg_status = one.entry.data;
	return sregs.cr4 & CR4_MCE;
}

int vcpu_arch_poison(struct vcpu *cpu, uint64_t gpa, bool now, struct error *err)
{
	bool amd = cpuid_is_amd(cpu->state->cpuid, cpu->state->cpuid_len);
	struct kvm_x86_mce mce = {
		.status = STATUS_ANY |
			  (amd ? (now ? AMD_READ : AMD_FOUND) : (now ? INTEL_READ : INTEL_FOUND)),
		.addr = align_down(gpa, PAGE_LEN),
		.misc = MISC_PHYS_4K,
		.mcg_status = MCG_MCIP | MCG_RIPV | (now ? MCG_EIPV : 0),
		.bank = BANK,
	};
	uint64_t before = 0, after = 0;
	if (!takes_checks(cpu, &before))
		return error_set(err, EOPNOTSUPP, "the guest takes no machine checks");
	if (before & MCG_MCIP)
		return error_set(err, EOPNOTSUPP, "the guest is within a machine check");
	long rc = vm_ioctl(cpu->fd, KVM_X86_SET_MCE, &mce);
	if (rc < 0)
		return error_set(err, EOPNOTSUPP, "KVM_X86_SET_MCE: %s", strerror((int)-rc));
	/* KVM says nothing where the guest has turned the bank off. */
	if (now && (!takes_checks(cpu, &after) || !(after & MCG_MCIP)))
		return error_set(err, EOPNOTSUPP, "the guest has turned machine checks off");
	return 0;
}
