/* SPDX-License-Identifier: MIT */
/* SIGBUS of guest memory, on its way to the guest. */
#include "vmm/poison.h"

#include <signal.h>
#include <sys/ioctl.h>

#include "vmm/machine.h"

#define MESSAGES 16 /* a guest may read such a page again and again */

static struct machine *machine;
static struct sigaction former;
static __thread struct vcpu *inside; /* that this thread has entered */

/* BUS_MCEERR_AR: the vCPU of this thread has read the page (KVM, mmu.c, kvm_send_hwpoison_signal). BUS_MCEERR_AO: a
 * page is lost that nobody waits for; the kernel tells if vm.memory_failure_early_kill says so. Then vCPU 0 tells
 * the guest, unless it does not run here, or is busy with another page: then the guest finds it later. */
static bool take(const siginfo_t *info)
{
	uint64_t gpa, at = (uintptr_t)info->si_addr;
	if (!ram_gpa(&machine->ram, info->si_addr, &gpa))
		return false;
	if (info->si_code == BUS_MCEERR_AR) {
		if (inside)
			inside->lost_now = at;
		return inside;
	}
	if (info->si_code == BUS_MCEERR_AO &&
	    __atomic_load_n(&machine->gate.want, __ATOMIC_ACQUIRE) == GATE_RUN) {
		__atomic_store_n(&machine->vcpus[0].lost_later, at, __ATOMIC_RELEASE);
		vcpu_nudge(&machine->vcpus[0]);
	}
	return info->si_code == BUS_MCEERR_AO;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	if (!take(info)) {
		/* When this returns the fault occurs again, and has its former effect. */
		sigaction(sig, &former, NULL);
		if (info->si_code <= 0)
			raise(sig);
	}
	errno = saved_errno;
}

void poison_watch(struct machine *m)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigemptyset(&sa.sa_mask);
	machine = m;
	sigaction(SIGBUS, &sa, &former);
}

int poison_run(struct vcpu *cpu)
{
	inside = cpu;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	int rc = ioctl(cpu->fd, KVM_RUN, NULL);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	inside = NULL;
	return rc;
}

static int tell(struct vcpu *cpu, uint64_t *lost, bool now, struct error *err)
{
	static unsigned messages;
	if (!__atomic_load_n(lost, __ATOMIC_RELAXED))
		return 0; /* asked at each exit */
	uint64_t gpa, at = __atomic_exchange_n(lost, 0, __ATOMIC_ACQ_REL);
	if (!ram_gpa(&cpu->m->ram, (const void *)(uintptr_t)at, &gpa))
		return 0;
	int rc = vcpu_arch_poison(cpu, gpa, now, err);
	if (log_guest_ok(&messages, MESSAGES))
		log_warn("the host has lost guest memory at 0x%lx: %s", gpa,
			 rc ? err->text : "the guest is told");
	return rc ? error_prefix(err, "guest memory that the host has lost") : 0;
}

int poison_tell(struct vcpu *cpu, struct error *err)
{
	/* What nobody waits for can be found later. */
	struct error later;
	tell(cpu, &cpu->lost_later, false, &later);
	return tell(cpu, &cpu->lost_now, true, err);
}
