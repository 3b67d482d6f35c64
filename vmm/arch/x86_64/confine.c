/* SPDX-License-Identifier: MIT */
/* What filters of system calls need to know of x86-64. */
#include <linux/audit.h>
#include <linux/kvm.h>
#include <ucontext.h>

#include "vmm/confine_rules.h"

const uint32_t arch_confine_audit = AUDIT_ARCH_X86_64;

static const struct confine_row vcpu[] = {
	CONFINE_IOCTL(KVM_GET_SREGS2),	  CONFINE_IOCTL(KVM_GET_XSAVE),
	CONFINE_IOCTL(KVM_GET_XSAVE2),	  CONFINE_IOCTL(KVM_GET_XCRS),
	CONFINE_IOCTL(KVM_GET_MSRS),	  CONFINE_IOCTL(KVM_GET_LAPIC),
	CONFINE_IOCTL(KVM_GET_DEBUGREGS), CONFINE_CALL(poll),
};

/* Calls of the older kind, which C libraries prefer here. */
static const struct confine_row loop[] = {
	CONFINE_CALL(epoll_wait),
	CONFINE_CALL(poll),
};

const struct confine_rows arch_confine_rows[CONFINE_THREADS] = {
	[CONFINE_VCPU] = CONFINE_ROWS(vcpu),
	[CONFINE_LOOP] = CONFINE_ROWS(loop),
	[CONFINE_CONTROL] = CONFINE_ROWS(loop),
};

/* Linux takes arguments in rdi, rsi, rdx, r10, r8, r9 and returns in rax (entry_64.S). */
void arch_confine_args(const void *ucontext, long args[6])
{
	static const int regs[6] = {REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
	const ucontext_t *uc = ucontext;
	for (unsigned i = 0; i < 6; i++)
		args[i] = uc->uc_mcontext.gregs[regs[i]];
}

void arch_confine_return(void *ucontext, long value)
{
	ucontext_t *uc = ucontext;
	uc->uc_mcontext.gregs[REG_RAX] = value;
}

/* The filter sees the address behind the instruction. */
extern const char confine_call_pass[];
__asm__(".text\n"
	"confine_call_raw:\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %r11\n"
	"	mov 0(%r11), %rdi\n"
	"	mov 8(%r11), %rsi\n"
	"	mov 16(%r11), %rdx\n"
	"	mov 24(%r11), %r10\n"
	"	mov 32(%r11), %r8\n"
	"	mov 40(%r11), %r9\n"
	"	syscall\n"
	"confine_call_pass:\n"
	"	ret\n");
long confine_call_raw(long nr, const long args[6]);

long arch_confine_call(long nr, const long args[6])
{
	return confine_call_raw(nr, args);
}

uintptr_t arch_confine_pass(void)
{
	return (uintptr_t)confine_call_pass;
}
