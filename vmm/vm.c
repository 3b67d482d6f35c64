/* SPDX-License-Identifier: MIT */
/* /dev/kvm, the VM and its memory slots. */
#include "vmm/vm.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "cpr/state/fdset.h"
#include "vmm/arch.h"

/* What molt cannot do without on any host; arch_needs has the rest. */
static const struct vm_cap needs[] = {
	VM_CAP(IRQCHIP, "2.6"),		VM_CAP(USER_MEMORY, "2.6"),
	VM_CAP(IRQFD, "2.6"),		VM_CAP(IRQFD_RESAMPLE, "3.8"),
	VM_CAP(IRQ_ROUTING, "2.6"),	VM_CAP(SIGNAL_MSI, "3.5"),
	VM_CAP(IMMEDIATE_EXIT, "4.13"), {0},
};

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	int rc;
	do
		rc = ioctl(fd, request, arg);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

static int open_kvm(struct error *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int code = errno;
	error_end(err, EXIT_HOST, code, "/dev/kvm: %m");
	if (code == EACCES)
		return error_hint(err,
				  "add this user to the group kvm, or: setfacl -m u:%d:rw /dev/kvm",
				  (int)getuid());
	return error_hint(err, "enable virtualization in the firmware and load KVM (modprobe %s)",
			  arch_kvm_modules);
}

static int check_caps(int kvm_fd, const struct vm_cap *c, struct error *err)
{
	for (; c->name; c++)
		if (vm_ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)(long)c->cap) <= 0) {
			error_end(err, EXIT_HOST, ENOTSUP, "/dev/kvm: %s is missing", c->name);
			return error_hint(err, "it came with Linux %s", c->since);
		}
	return 0;
}

int vm_open(struct vm *vm, struct fdset *fds, struct error *err)
{
	vm->fd = -1;
	vm->kvm_fd = fdset_get(fds, "kvm");
	if (vm->kvm_fd >= 0)
		return 0;
	vm->kvm_fd = open_kvm(err);
	if (vm->kvm_fd < 0)
		return vm->kvm_fd;
	int rc = fdset_keep(fds, "kvm", vm->kvm_fd, err);
	if (rc)
		return rc;
	long version = vm_ioctl(vm->kvm_fd, KVM_GET_API_VERSION, NULL);
	if (version != KVM_API_VERSION)
		return error_end(err, EXIT_HOST, ENOTSUP, "/dev/kvm: API version %ld, expected %d",
				 version, KVM_API_VERSION);
	return check_caps(vm->kvm_fd, needs, err) ?: check_caps(vm->kvm_fd, arch_needs, err);
}

int vm_create(struct vm *vm, struct error *err)
{
	memset(vm->slots, 0, sizeof(vm->slots));
	vm->fd = vm_call(vm->kvm_fd, KVM_CREATE_VM, NULL, err, "KVM_CREATE_VM");
	return vm->fd < 0 ? error_exit(err, EXIT_HOST) : 0;
}

int vm_has(const struct vm *vm, unsigned cap)
{
	long rc =
		vm_ioctl(vm->fd >= 0 ? vm->fd : vm->kvm_fd, KVM_CHECK_EXTENSION, (void *)(long)cap);
	return rc > 0 ? (int)rc : 0;
}

int vm_slot_add(struct vm *vm, uint64_t gpa, uint64_t len, void *hva, bool readonly,
		struct error *err)
{
	int slot = -1;
	if (!len || (gpa | len | (uintptr_t)hva) & (PAGE_LEN - 1) || gpa + (len - 1) < gpa)
		return error_set(err, EINVAL, "memory slot at 0x%lx: not page-aligned", gpa);
	for (int i = 0; i < VM_MAX_SLOTS; i++) {
		if (!vm->slots[i].len)
			slot = slot < 0 ? i : slot;
		else if (ranges_overlap(gpa, len, vm->slots[i].gpa, vm->slots[i].len))
			return error_set(err, EEXIST, "memory slot at 0x%lx overlaps another", gpa);
	}
	if (slot < 0)
		return error_set(err, ENOSPC, "more than %d memory slots", VM_MAX_SLOTS);
	struct kvm_userspace_memory_region r = {
		.slot = (uint32_t)slot,
		.flags = readonly ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)hva,
	};
	int rc = vm_call(vm->fd, KVM_SET_USER_MEMORY_REGION, &r, err,
			 "memory slot at 0x%lx of 0x%lx bytes", gpa, len);
	if (rc < 0)
		return rc;
	vm->slots[slot].gpa = gpa;
	vm->slots[slot].len = len;
	return 0;
}

void vm_slot_remove(struct vm *vm, uint64_t gpa)
{
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++) {
		if (!vm->slots[i].len || vm->slots[i].gpa != gpa)
			continue;
		struct kvm_userspace_memory_region r = {.slot = i, .guest_phys_addr = gpa};
		vm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r);
		vm->slots[i].len = 0;
		return;
	}
}
