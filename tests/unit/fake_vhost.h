/* SPDX-License-Identifier: MIT */
/*
 * The kernel's vhost without the kernel: open("/dev/vhost-...") gives a descriptor, the ioctls are noted as words, and
 * what its thread would do is done by the test. A test that includes this is linked with --wrap=open.
 */
#ifndef MOLT_TEST_FAKE_VHOST_H
#define MOLT_TEST_FAKE_VHOST_H

#include <fcntl.h>
#include <linux/vhost.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "devices/virtio/vhost.h"
#include "tests/unit/fake_virtio.h"

#define VHOST_OPENS 16

/* One that was opened. */
struct fake_vhost {
	int fd;
	uint64_t features, cid;
	struct vhost_memory_region low; /* the first one of memory */
	struct {
		struct vhost_vring_addr addr;
		int kick, call, error, backend;
		uint32_t base;
	} q[VHOST_QUEUES];
};

static struct {
	int open_error; /* errno value */
	struct {
		unsigned long request;
		int code; /* errno value */
	} fails;
	unsigned opens;
	struct fake_vhost at[VHOST_OPENS];
	bool cid_taken; /* by another guest, or by the former worker */
	/* The calls since said_clear(): "A:base0=7 A:backend0=on"; the first opened is A. */
	char said[2048];
} vhost_fake;

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
	if (strncmp(path, "/dev/vhost-", strlen("/dev/vhost-")))
		return __real_open(path, flags);
	if (vhost_fake.open_error) {
		errno = vhost_fake.open_error;
		return -1;
	}
	assert_true(flags & O_CLOEXEC); /* no other program can use it */
	assert_true(vhost_fake.opens < VHOST_OPENS);
	struct fake_vhost *f = &vhost_fake.at[vhost_fake.opens++];
	*f = (struct fake_vhost){.fd = eventfd(0, EFD_CLOEXEC)};
	for (unsigned i = 0; i < VHOST_QUEUES; i++)
		f->q[i].kick = f->q[i].call = f->q[i].error = f->q[i].backend = VHOST_FILE_UNBIND;
	return f->fd;
}

static inline struct fake_vhost *vhost_last(void)
{
	assert_true(vhost_fake.opens);
	return &vhost_fake.at[vhost_fake.opens - 1];
}

static inline void said_clear(void)
{
	vhost_fake.said[0] = 0;
}

static void say_call(const struct fake_vhost *f, const char *fmt, unsigned a, unsigned b)
{
	size_t n = strlen(vhost_fake.said), room = sizeof(vhost_fake.said) - n;
	char text[40];
	snprintf(text, sizeof(text), fmt, a, b);
	n = (size_t)snprintf(vhost_fake.said + n, room, "%s%c:%s", n ? " " : "",
			     (char)('A' + (f - vhost_fake.at)), text);
	assert_true(n < room);
}

/* The last one with that number: it may have been closed and come again. */
static struct fake_vhost *vhost_of(int fd)
{
	for (unsigned i = vhost_fake.opens; i-- > 0;)
		if (vhost_fake.at[i].fd == fd)
			return &vhost_fake.at[i];
	fail_msg("no vhost has descriptor %d", fd);
	return NULL;
}

static long vhost_ioctl(int fd, unsigned long request, void *arg)
{
	if (_IOC_TYPE(request) != VHOST_VIRTIO)
		return virtio_ioctl(fd, request, arg);
	struct fake_vhost *f = vhost_of(fd);
	const struct vhost_vring_file *file = arg;
	struct vhost_vring_state *num = arg;
	if (vhost_fake.fails.request == request)
		return -vhost_fake.fails.code;
	switch (request) {
	case VHOST_SET_OWNER:
		say_call(f, "owner", 0, 0);
		return 0;
	case VHOST_GET_FEATURES:
		*(uint64_t *)arg = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |
				   1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VHOST_F_LOG_ALL |
				   1ull << 15; /* VIRTIO_NET_F_MRG_RXBUF */
		return 0;
	case VHOST_SET_FEATURES:
		f->features = *(uint64_t *)arg;
		say_call(f, "features", 0, 0);
		return 0;
	case VHOST_SET_MEM_TABLE: {
		const struct vhost_memory *t = arg;
		f->low = t->regions[0];
		say_call(f, "memory%u", t->nregions, 0);
		return 0;
	}
	case VHOST_SET_VRING_NUM:
		say_call(f, "num%u=%u", num->index, num->num);
		return 0;
	case VHOST_SET_VRING_ADDR: {
		const struct vhost_vring_addr *addr = arg;
		f->q[addr->index].addr = *addr;
		say_call(f, "addr%u", addr->index, 0);
		return 0;
	}
	case VHOST_SET_VRING_BASE:
		assert_int_equal(f->q[num->index].backend, VHOST_FILE_UNBIND); /* EBUSY */
		f->q[num->index].base = num->num;
		say_call(f, "base%u=%u", num->index, num->num);
		return 0;
	case VHOST_GET_VRING_BASE:
		num->num = f->q[num->index].base;
		say_call(f, "base%u?", num->index, 0);
		return 0;
	case VHOST_SET_VRING_KICK:
		f->q[file->index].kick = file->fd;
		say_call(f, "kick%u", file->index, 0);
		return 0;
	case VHOST_SET_VRING_CALL:
		f->q[file->index].call = file->fd;
		say_call(f, "call%u", file->index, 0);
		return 0;
	case VHOST_SET_VRING_ERR:
		f->q[file->index].error = file->fd;
		say_call(f, "error%u", file->index, 0);
		return 0;
	case VHOST_VSOCK_SET_GUEST_CID:
		if (vhost_fake.cid_taken)
			return -EADDRINUSE;
		f->cid = *(uint64_t *)arg;
		say_call(f, "cid=%u", (unsigned)f->cid, 0);
		return 0;
	case VHOST_VSOCK_SET_RUNNING:
		assert_true(f->cid);
		f->q[0].backend = f->q[1].backend = *(int *)arg ? 0 : VHOST_FILE_UNBIND;
		say_call(f, *(int *)arg ? "run" : "stop", 0, 0);
		return 0;
	case VHOST_NET_SET_BACKEND:
		f->q[file->index].backend = file->fd;
		say_call(f, file->fd < 0 ? "backend%u=off" : "backend%u=on", file->index, 0);
		return 0;
	}
	fail_msg("ioctl 0x%lx", request);
	return -ENOTTY;
}

static inline void assert_said(const char *want)
{
	assert_string_equal(vhost_fake.said, want);
	said_clear();
}

/* Its thread has taken and given back @n chains more. */
static inline void vhost_serves(struct fake_vhost *f, unsigned i, uint32_t n)
{
	assert_true(f->q[i].backend >= 0);
	f->q[i].base = (uint16_t)(f->q[i].base + n);
	if (f->q[i].call >= 0)
		fd_write_all(f->q[i].call, &(const uint64_t){1}, sizeof(uint64_t));
}

static inline bool is_signalled(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, 0) == 1;
}

#endif
