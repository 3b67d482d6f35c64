/* SPDX-License-Identifier: MIT */
/* The rate of a vCPU's TSC, and its offset to the host's. */
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/machine.h"

static long tsc_offset(struct vcpu *cpu, unsigned long request, uint64_t *value)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)value};
	return vm_ioctl(cpu->fd, request, &attr);
}

long tsc_save(struct vcpu *cpu, struct error *err)
{
	return tsc_offset(cpu, KVM_GET_DEVICE_ATTR, &cpu->state->tsc_offset);
}

static long set_khz(struct vcpu *cpu, struct error *err)
{
	long rc = vm_ioctl(cpu->fd, KVM_SET_TSC_KHZ, (void *)(long)cpu->state->tsc_khz);
	if (rc >= 0)
		return 0;
	error_end(err, EXIT_HOST, (int)-rc,
		  "vCPU %u: KVM cannot give it the guest's TSC rate of %u kHz: %m", cpu->index,
		  cpu->state->tsc_khz);
	return error_hint(
		err, "the host takes its own TSC for faster, or slower, than when the guest was "
		     "started (dmesg | grep -i tsc), and this processor cannot scale it");
}

/* The frequency before the offset; where it is the host's own KVM needs no telling. That a new vCPU has the VM's is
 * asked of the VM, which does not load the vCPU for it (api.rst, KVM_GET_TSC_KHZ; Linux 5.16). But where KVM itself
 * could not give it to a new vCPU it says nothing, and the guest's clock would stand still (kvm_arch_vcpu_create,
 * kvm_set_tsc_khz): the rehearsal asks for it. */
long tsc_load(struct vcpu *cpu, struct error *err)
{
	long khz = vm_ioctl(cpu->m->vm.fd, KVM_GET_TSC_KHZ, NULL);
	if (khz < 0)
		khz = vm_ioctl(cpu->fd, KVM_GET_TSC_KHZ, NULL);
	if (khz != (long)cpu->state->tsc_khz || cpu->rehearsing) {
		long rc = set_khz(cpu, err);
		if (rc < 0)
			return rc;
	}
	return tsc_offset(cpu, KVM_SET_DEVICE_ATTR, &cpu->state->tsc_offset);
}
