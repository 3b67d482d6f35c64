/* SPDX-License-Identifier: MIT */
/* What KVM counts of each vCPU (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD; Linux 5.14). */
#pragma once

#include "vmm/base/base.h"

/* For a vCPU that does not run: else the ioctl would wait for it. @fd: the caller's, close-on-exec; -1: this kernel
 * has no such counters, which is no error. -errno: memory or descriptors are short. */
int kvm_stats_open(int vcpu_fd, int *fd);

/* At any time: the values of @names, @n of them. 0, or -errno: one is not there, @fd may be -1. */
int kvm_stats_read(int fd, const char *const names[], unsigned n, uint64_t *values);
