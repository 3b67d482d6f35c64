/* SPDX-License-Identifier: MIT */
/* The VM of a process and its state: each function is the calls to KVM that it needs, and nothing else. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "floor.h"

void vm_make(struct floor_vm *vm, const struct floor_state *s)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	vm->ram = mmap(NULL, s->ram_len, PROT_READ | PROT_WRITE, MAP_SHARED, s->ram_fd, 0);
	struct kvm_userspace_memory_region slot = {.memory_size = s->ram_len,
						   .userspace_addr = (uintptr_t)vm->ram};
	vm->fd = (int)MUST(ioctl(s->kvm_fd, KVM_CREATE_VM, 0));
	MUST(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot));
	MUST(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	MUST(ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	vm->vcpu_fd = (int)MUST(ioctl(vm->fd, KVM_CREATE_VCPU, 0));
	vm->run = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu_fd, 0);
	if (vm->ram == MAP_FAILED || vm->run == MAP_FAILED)
		MUST(-1);
	MUST(ioctl(vm->vcpu_fd, KVM_SET_CPUID2, &s->cpuid));
}

static void tsc_offset(int fd, unsigned long request, uint64_t *value)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)value};
	MUST(ioctl(fd, request, &attr));
}

void vcpu_save(int fd, struct floor_state *s)
{
	struct floor_vcpu *v = &s->vcpu;

	MUST(ioctl(fd, KVM_GET_MP_STATE, &v->mp_state));
	MUST(ioctl(fd, KVM_GET_REGS, &v->regs));
	MUST(ioctl(fd, KVM_GET_SREGS2, &v->sregs));
	MUST(ioctl(fd, s->xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, v->xsave));
	MUST(ioctl(fd, KVM_GET_XCRS, &v->xcrs));
	MUST(ioctl(fd, KVM_GET_MSRS, &v->msrs));
	MUST(ioctl(fd, KVM_GET_LAPIC, &v->lapic));
	MUST(ioctl(fd, KVM_GET_VCPU_EVENTS, &v->events));
	MUST(ioctl(fd, KVM_GET_DEBUGREGS, &v->debugregs));
	tsc_offset(fd, KVM_GET_DEVICE_ATTR, &v->tsc_offset);
}

void vcpu_load(int fd, struct floor_state *s)
{
	struct floor_vcpu *v = &s->vcpu;

	MUST(ioctl(fd, KVM_SET_SREGS2, &v->sregs));
	MUST(ioctl(fd, KVM_SET_REGS, &v->regs));
	MUST(ioctl(fd, KVM_SET_XCRS, &v->xcrs));
	MUST(ioctl(fd, KVM_SET_XSAVE, v->xsave));
	tsc_offset(fd, KVM_SET_DEVICE_ATTR, &v->tsc_offset);
	MUST(ioctl(fd, KVM_SET_LAPIC, &v->lapic));
	MUST(ioctl(fd, KVM_SET_MSRS, &v->msrs));
	MUST(ioctl(fd, KVM_SET_MP_STATE, &v->mp_state));
	MUST(ioctl(fd, KVM_SET_VCPU_EVENTS, &v->events));
	MUST(ioctl(fd, KVM_SET_DEBUGREGS, &v->debugregs));
}

void chips_save(int fd, struct floor_state *s)
{
	for (uint32_t i = 0; i < 3; i++) {
		s->irqchip[i].chip_id = i;
		MUST(ioctl(fd, KVM_GET_IRQCHIP, &s->irqchip[i]));
	}
	MUST(ioctl(fd, KVM_GET_PIT2, &s->pit));
	MUST(ioctl(fd, KVM_GET_CLOCK, &s->clock));
}

void chips_load(int fd, struct floor_state *s)
{
	struct kvm_clock_data clock = {.clock = s->clock.clock,
				       .realtime = s->clock.realtime,
				       .flags = s->clock.flags & KVM_CLOCK_REALTIME};

	for (uint32_t i = 0; i < 3; i++)
		MUST(ioctl(fd, KVM_SET_IRQCHIP, &s->irqchip[i]));
	MUST(ioctl(fd, KVM_SET_PIT2, &s->pit));
	MUST(ioctl(fd, KVM_SET_CLOCK, &clock));
}

void vm_learn(struct floor_vm *vm, struct floor_state *s)
{
	struct {
		struct kvm_msr_list head;
		uint32_t indices[1024];
	} all = {.head.nmsrs = 1024};

	MUST(ioctl(s->kvm_fd, KVM_GET_MSR_INDEX_LIST, &all));
	for (uint32_t i = 0; i < all.head.nmsrs && s->vcpu.msrs.head.nmsrs < MAX_MSRS; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = {.head.nmsrs = 1, .entry.index = all.indices[i]};
		/* The TSC itself goes with its offset. */
		if (one.entry.index != 0x10 && ioctl(vm->vcpu_fd, KVM_GET_MSRS, &one) == 1 &&
		    ioctl(vm->vcpu_fd, KVM_SET_MSRS, &one) == 1)
			s->vcpu.msrs.entries[s->vcpu.msrs.head.nmsrs++].index = one.entry.index;
	}
	s->xsave2 =
		ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) > (int)sizeof(struct kvm_xsave);
	s->tsc_khz = (uint32_t)MUST(ioctl(vm->vcpu_fd, KVM_GET_TSC_KHZ, 0));
}
