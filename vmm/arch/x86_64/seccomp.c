/* SPDX-License-Identifier: MIT */
/* What filters of system calls need to know of x86-64. */
#include <linux/audit.h>
#include <linux/kvm.h>
#include <ucontext.h>

#include "vmm/seccomp/rules.h"

const uint32_t arch_seccomp_audit = AUDIT_ARCH_X86_64;

static const struct seccomp_row vcpu[] = {
	SECCOMP_IOCTL(KVM_GET_SREGS2),	     SECCOMP_IOCTL(KVM_GET_XSAVE),
	SECCOMP_IOCTL(KVM_GET_XSAVE2),	     SECCOMP_IOCTL(KVM_GET_XCRS),
	SECCOMP_IOCTL(KVM_GET_MSRS),	     SECCOMP_IOCTL(KVM_GET_LAPIC),
	SECCOMP_IOCTL(KVM_GET_DEBUGREGS),    SECCOMP_CALL(poll),
	SECCOMP_IOCTL(KVM_X86_SET_MCE), /* memory that the host has lost */
	SECCOMP_IOCTL(KVM_GET_NESTED_STATE),
};

/* Calls of the older kind, which C libraries prefer here. */
static const struct seccomp_row loop[] = {
	SECCOMP_CALL(epoll_wait),
	SECCOMP_CALL(poll),
};

static const struct seccomp_row disk[] = {
	SECCOMP_CALL(epoll_wait),
};

const struct seccomp_rows arch_seccomp_rows[SECCOMP_THREADS] = {
	[SECCOMP_VCPU] = SECCOMP_ROWS(vcpu),
	[SECCOMP_LOOP] = SECCOMP_ROWS(loop),
	[SECCOMP_CONTROL] = SECCOMP_ROWS(loop),
	[SECCOMP_DISK] = SECCOMP_ROWS(disk),
};

/* Linux takes arguments in rdi, rsi, rdx, r10, r8, r9 and returns in rax (entry_64.S). */
void arch_seccomp_args(const void *ucontext, long args[6])
{
	static const int regs[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
	const ucontext_t *uc = ucontext;
	for (unsigned i = 0; i < 6; i++)
		args[i] = uc->uc_mcontext.gregs[regs[i]];
}

void arch_seccomp_return(void *ucontext, long value)
{
	ucontext_t *uc = ucontext;
	uc->uc_mcontext.gregs[REG_RAX] = value;
}

/* seccomp_call.S */
extern const char seccomp_call_pass[];

uintptr_t arch_seccomp_pass(void)
{
	return (uintptr_t)seccomp_call_pass;
}
