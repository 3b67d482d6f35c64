/* SPDX-License-Identifier: MIT */
/* Runs a vCPU and serves its exits. */
#include "vmm/machine.h"
#include "vmm/poison.h"

#define RUN_TRIES 3

static void exit_pio(struct vcpu *cpu)
{
	struct kvm_run *run = cpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		struct bus_access a = {
			.len = run->io.size,
			.write = run->io.direction == KVM_EXIT_IO_OUT,
			.value = load_le(data, run->io.size),
		};
		machine_access(cpu->m, &cpu->m->pio, run->io.port, &a);
		if (!a.write)
			store_le(data, a.value, run->io.size);
	}
}

static void exit_mmio(struct vcpu *cpu)
{
	struct kvm_run *run = cpu->run;
	struct bus_access a = {
		.len = run->mmio.len <= 8 ? run->mmio.len : 8,
		.write = run->mmio.is_write,
		.value = load_le(run->mmio.data, run->mmio.len),
	};
	machine_access(cpu->m, &cpu->m->mmio, run->mmio.phys_addr, &a);
	if (!a.write)
		store_le(run->mmio.data, a.value, a.len);
}

/* Ends the machine; the thread then waits at the gate for the process to end. */
static void died(struct vcpu *cpu, int code, const char *what)
{
	char regs[512], reason[128];
	vcpu_arch_describe(cpu, regs, sizeof(regs));
	log_warn("vCPU %u: %s; %s", cpu->index, what, regs);
	snprintf(reason, sizeof(reason), "vCPU %u: %.100s", cpu->index, what);
	machine_stop(cpu->m, code, reason);
}

/* A vCPU that has ended the machine by this access, a reset say, executes nothing after it. */
static bool goes_on(const struct vcpu *cpu)
{
	return __atomic_load_n(&cpu->m->stop_code, __ATOMIC_RELAXED) < 0;
}

/* Serves one exit. Returns false when the vCPU cannot go on. */
static bool serve(struct vcpu *cpu)
{
	char what[96];
	struct kvm_run *run = cpu->run;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		exit_pio(cpu);
		return goes_on(cpu);
	case KVM_EXIT_MMIO:
		exit_mmio(cpu);
		return goes_on(cpu);
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_UNKNOWN: /* never entered the guest */
		return true;
	case KVM_EXIT_SHUTDOWN:
		died(cpu, EXIT_CRASH, "triple fault");
		return false;
	case KVM_EXIT_SYSTEM_EVENT:
		snprintf(what, sizeof(what), "system event %u", run->system_event.type);
		died(cpu, EXIT_RESET, what);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(what, sizeof(what), "KVM internal error %u", run->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(what, sizeof(what), "KVM entry failure 0x%llx",
			 run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		if (vcpu_arch_serve(cpu))
			return goes_on(cpu);
		snprintf(what, sizeof(what), "KVM exit %u that molt does not serve",
			 run->exit_reason);
	}
	died(cpu, EXIT_INTERNAL, what);
	return false;
}

/* A guest that was taken over gets its filter with its first exit: to make a filter's code executable disturbs all
 * CPUs, and would be a tenth of the pause. Where memory is short it goes on without, and tries again. */
static void put_filter(struct vcpu *cpu)
{
	struct error err;
	if (cpu->filtered == VCPU_FILTERED)
		return;
	int rc = seccomp_enter(SECCOMP_VCPU, &err);
	if (rc && cpu->filtered == VCPU_LOOSE)
		log_error(&err);
	cpu->filtered = rc ? VCPU_LOOSE_TOLD : VCPU_FILTERED;
}

void vcpu_run(struct vcpu *cpu)
{
	struct gate *gate = &cpu->m->gate;
	for (int failed = 0;;) {
		struct error err;
		int rc = poison_run(cpu), code = errno;
		if (poison_tell(cpu, &err)) {
			died(cpu, EXIT_CRASH, err.text);
			return;
		}
		if (rc == 0) {
			failed = 0;
			put_filter(cpu);
			if (!serve(cpu))
				return;
			continue;
		}
		if (code == EINTR) {
			/* It was kicked to put on its filter, unless a pause is wanted, which may be just now. */
			cpu->run->immediate_exit = 0;
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			if (__atomic_load_n(&gate->want, __ATOMIC_ACQUIRE) != GATE_RUN)
				return;
			put_filter(cpu);
		} else if (code != EAGAIN && ++failed == RUN_TRIES) {
			char what[64];
			snprintf(what, sizeof(what), "KVM_RUN: %s", strerror(code));
			died(cpu, EXIT_INTERNAL, what);
			return;
		}
	}
}
