/* SPDX-License-Identifier: MIT */
/* A vhost of the kernel's that takes whatever it is told, for tests of all devices, linked with --wrap=open.
 * fake_vhost.h looks closer. */
#ifndef MOLT_TEST_ANY_VHOST_H
#define MOLT_TEST_ANY_VHOST_H

#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/vhost.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
	if (!strncmp(path, "/dev/vhost-", strlen("/dev/vhost-")))
		return eventfd(0, EFD_CLOEXEC);
	return __real_open(path, flags, 0600);
}

/* Is that a request which succeeds, whatever it says? */
static inline bool takes_all(unsigned long request, void *arg)
{
	if (request == VHOST_GET_FEATURES)
		*(uint64_t *)arg = UINT64_MAX;
	return _IOC_TYPE(request) == VHOST_VIRTIO || request == KVM_IRQ_LINE ||
	       request == KVM_IOEVENTFD;
}

#endif
