/* SPDX-License-Identifier: MIT */
/*
 * Registers that XSAVE knows, in its standard format (Intel SDM 1, 13.4.3): a component has its offset whatever the
 * others are, so an area that ends earlier has none of the later ones.
 */
#include "vmm/arch/x86_64/cpu.h"

#include <asm/prctl.h>
#include <sys/syscall.h>

#include "vmm/machine.h"

#ifndef ARCH_REQ_XCOMP_GUEST_PERM
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025
#endif

/* AMX's tiles have 8 KiB, and a process may give them to its guests only if it has asked: before KVM_CAP_XSAVE2 and
 * KVM_GET_SUPPORTED_CPUID, which then have them, and before its first vCPU (Documentation/arch/x86/xstate.rst, Linux
 * 5.17). It is the only component that is asked for. A host without it refuses; then KVM offers none, and a guest
 * that has it is refused by xsave_fit. */
static void ask_for_amx(void)
{
	syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XCR0_TILE_DATA);
}

int xsave_init(struct machine *m, struct error *err)
{
	/* A question that fails is not a no: the guest's state would be left behind. */
	static const long caps[] = {KVM_CAP_XSAVE2, KVM_CAP_XSAVE, KVM_CAP_XCRS};
	struct arch *arch = m->arch;
	int has[ARRAY_LEN(caps)];
	ask_for_amx();
	for (unsigned i = 0; i < ARRAY_LEN(caps); i++) {
		has[i] = vm_call(m->vm.fd, KVM_CHECK_EXTENSION, (void *)caps[i], err,
				 "KVM_CHECK_EXTENSION %ld", caps[i]);
		if (has[i] < 0)
			return has[i];
	}
	arch->xsave_len = has[0] > (int)sizeof(struct kvm_xsave) ? (uint32_t)has[0]
								 : sizeof(struct kvm_xsave);
	if (arch->xsave_len > CPU_MAX_XSAVE)
		return error_set(err, ENOTSUP,
				 "this host's XSAVE area has %u bytes, molt carries %d",
				 arch->xsave_len, CPU_MAX_XSAVE);
	arch->caps = (has[1] ? ARCH_CAP_XSAVE : 0) | (has[2] ? ARCH_CAP_XCRS : 0);
	return 0;
}

int xsave_fit(struct vcpu *cpu, struct error *err)
{
	struct vcpu_state *s = cpu->state;
	uint32_t room = cpu->m->arch->xsave_len;
	if (s->xsave_len < sizeof(struct kvm_xsave))
		return error_set(err, EBADMSG,
				 "state cpu@%u: XSAVE area of %u bytes, less than %zu", cpu->index,
				 s->xsave_len, sizeof(struct kvm_xsave));
	if (s->xsave_len > room) {
		error_set(err, EPROTO,
			  "state cpu@%u: XSAVE area of %u bytes, KVM gives this program %u",
			  cpu->index, s->xsave_len, room);
		return error_hint(err,
				  "the guest has a processor feature (AMX) for which that program "
				  "does not ask, or which this host has not: use one that does");
	}
	/* KVM reads as much as it has components for. */
	memset(s->xsave + s->xsave_len, 0, room - s->xsave_len);
	return 0;
}

/* KVM_GET_XSAVE ends after 4 KiB. KVM_GET_XSAVE2 gives no more than KVM_CAP_XSAVE2 has said. */
long xsave_save(struct vcpu *cpu, struct error *err)
{
	unsigned long request =
		cpu->m->arch->xsave_len > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
	long rc = vm_ioctl(cpu->fd, request, cpu->state->xsave);
	return rc < 0 ? rc : 0;
}
