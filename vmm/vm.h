/* SPDX-License-Identifier: MIT */
/* The KVM VM: /dev/kvm, the VM descriptor, memory slots. Rebuilt by every update. */
#pragma once

#include "vmm/base/base.h"

struct fdset;

#define VM_MAX_SLOTS 256

struct vm {
	int kvm_fd; /* kept: "kvm" */
	int fd;	    /* of this VM */
	struct {
		uint64_t gpa, len;
	} slots[VM_MAX_SLOTS]; /* len 0: free */
};

/* Opens /dev/kvm (or takes "kvm") and checks version and required capabilities. */
int vm_open(struct vm *vm, struct fdset *fds, struct error *err);
int vm_create(struct vm *vm, struct error *err);
int vm_has(const struct vm *vm, unsigned cap);

/* All page-aligned. -EEXIST when it overlaps another slot, which a guest may program. */
int vm_slot_add(struct vm *vm, uint64_t gpa, uint64_t len, void *hva, bool readonly,
		struct error *err);
void vm_slot_remove(struct vm *vm, uint64_t gpa);

/* ioctl through EINTR: result >= 0 or -errno. vm_call also makes a failure an error with a text. */
long vm_ioctl(int fd, unsigned long request, void *arg);
#define vm_call(fd, request, arg, err, ...)                                                        \
	({                                                                                         \
		long rc_ = vm_ioctl(fd, request, arg);                                             \
		rc_ < 0 ? error_errno(err, (int)-rc_, __VA_ARGS__) : (int)rc_;                     \
	})
