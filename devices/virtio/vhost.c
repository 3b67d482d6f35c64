/* SPDX-License-Identifier: MIT */
/* What the kernel is told of queues that it serves, and when. */
#include "devices/virtio/vhost.h"

#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/machine.h"
#include "vmm/sched.h"

#define NEEDS                                                                                      \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |                        \
	 1ull << VIRTIO_RING_F_EVENT_IDX)

#define NOT_TOLD     (VHOST_FILE_UNBIND - 1)
#define UNKNOWN_BASE UINT32_MAX

static long tell(const struct vhost *h, unsigned long request, void *arg)
{
	return vm_ioctl(h->fd, request, arg);
}

/* ---- a new one ---- */

int vhost_open_device(const struct device *dev, const char *kind, struct error *err)
{
	char path[32];
	snprintf(path, sizeof(path), "/dev/vhost-%s", kind);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int rc = error_end(err, EXIT_HOST, errno, "%s: %s: %m", dev->name, path);
	return rc == -EACCES || rc == -EPERM
		       ? error_hint(err,
				    "add this user to the group that has it, often kvm, or: "
				    "setfacl -m u:%d:rw %s",
				    (int)getuid(), path)
		       : error_hint(err, "modprobe vhost_%s", kind);
}

/* Since Linux 6.4 this makes a thread of this process, with the priority of the one that asks. */
static int own(struct vhost *h, uint64_t needs, struct error *err)
{
	sched_step_forward(true);
	long rc = tell(h, VHOST_SET_OWNER, NULL);
	sched_step_forward(false);
	if (rc < 0)
		return error_errno(err, (int)-rc, "%s: vhost: a thread", h->v->owner->name);
	rc = tell(h, VHOST_GET_FEATURES, &h->known);
	needs = (needs | NEEDS) & ~h->known;
	if (rc < 0 || needs)
		return error_set(err, ENOTSUP, "%s: the kernel's vhost lacks features (0x%llx)",
				 h->v->owner->name, (unsigned long long)needs);
	return 0;
}

/* All of guest memory, at this process's addresses: it does not change any more. */
static int tell_memory(struct vhost *h, struct error *err)
{
	const struct ram *ram = &h->v->owner->m->ram;
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region[RAM_MAX_REGIONS];
	} table = {.head.nregions = ram->state.nregions};
	for (uint32_t i = 0; i < ram->state.nregions; i++)
		table.region[i] = (struct vhost_memory_region){
			.guest_phys_addr = ram->state.gpa[i],
			.memory_size = ram->state.len[i],
			.userspace_addr = (uintptr_t)(ram->hva + ram->state.offset[i])};
	long rc = tell(h, VHOST_SET_MEM_TABLE, &table);
	return rc < 0 ? error_errno(err, (int)-rc, "%s: vhost: guest memory", h->v->owner->name)
		      : 0;
}

static void told_nothing(struct vhost *h)
{
	h->features = 0;
	for (unsigned i = 0; i < VHOST_QUEUES; i++)
		h->told[i] = (struct vhost_told){.call = NOT_TOLD, .base = UNKNOWN_BASE};
}

static bool was_signalled(int fd)
{
	uint64_t count;
	return read(fd, &count, sizeof(count)) == sizeof(count);
}

static void on_line(void *opaque, uint32_t events)
{
	const struct vhost *h = opaque;
	if (was_signalled(h->line_fd))
		virtio_interrupt(h->v, VIRTIO_NO_VECTOR, VIRTIO_ISR_QUEUE);
}

static void on_error(void *opaque, uint32_t events)
{
	const struct vhost *h = opaque;
	if (was_signalled(h->error_fd) && h->running)
		virtio_broken(h->v,
			      "the kernel's vhost has found rings or buffers that break the rules");
}

static int watch_new(struct vhost *h, int *fd, loop_handler handler, struct error *err)
{
	*fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (*fd < 0)
		return error_errno(err, errno, "%s: eventfd", h->v->owner->name);
	return loop_add(&h->v->owner->m->loop, *fd, EPOLLIN, handler, h, err);
}

int vhost_open(struct vhost *h, struct virtio_dev *v, unsigned first, const char *kind,
	       uint64_t needs, struct error *err)
{
	h->v = v;
	h->first = first;
	h->line_fd = h->error_fd = -1;
	told_nothing(h);
	h->fd = vhost_open_device(v->owner, kind, err);
	if (h->fd < 0)
		return h->fd;
	int rc = own(h, needs, err)
			 ?: tell_memory(h, err)
			 ?: watch_new(h, &h->line_fd, on_line, err)
			 ?: watch_new(h, &h->error_fd, on_error, err);
	if (rc)
		vhost_close(h);
	return rc;
}

void vhost_close(struct vhost *h)
{
	if (h->fd < 0)
		return;
	if (h->line_fd >= 0)
		loop_remove(&h->v->owner->m->loop, h->line_fd);
	if (h->error_fd >= 0)
		loop_remove(&h->v->owner->m->loop, h->error_fd);
	fd_close(&h->fd); /* which ends what it does */
	fd_close(&h->line_fd);
	fd_close(&h->error_fd);
	h->running = false;
}

/* ---- what it is told ---- */

static int call_fd(const struct vhost *h, unsigned q)
{
	const struct msix *msix = &h->v->msix;
	uint32_t vector = h->v->state->vector[q];
	if (!msix->enabled)
		return h->line_fd;
	return vector < msix->vec.n ? msix->vec.src[vector].fd : VHOST_FILE_UNBIND;
}

static long tell_call(struct vhost *h, unsigned i)
{
	struct vhost_vring_file call = {i, call_fd(h, h->first + i)};
	if (call.fd == h->told[i].call)
		return 0;
	h->told[i].call = call.fd;
	return tell(h, VHOST_SET_VRING_CALL, &call);
}

/* Addresses, and the eventfds with the first of them. */
static long tell_rings(struct vhost *h, unsigned i)
{
	struct vhost_told *told = &h->told[i];
	unsigned q = h->first + i;
	const struct virtq *at = &h->v->queue[q];
	struct vhost_vring_state size = {i, h->v->state->size[q]};
	struct vhost_vring_file kick = {i, h->v->kick[q].fd}, error = {i, h->error_fd};
	struct vhost_vring_addr addr = {.index = i,
					.desc_user_addr = (uintptr_t)at->desc,
					.avail_user_addr = (uintptr_t)at->avail,
					.used_user_addr = (uintptr_t)at->used};
	bool first = !told->at.desc;
	if (told->size == size.num && told->at.desc == at->desc && told->at.avail == at->avail &&
	    told->at.used == at->used)
		return 0;
	told->at = *at;
	told->size = size.num;
	long rc = tell(h, VHOST_SET_VRING_NUM, &size) ?: tell(h, VHOST_SET_VRING_ADDR, &addr);
	if (rc || !first)
		return rc;
	return tell(h, VHOST_SET_VRING_ERR, &error) ?: tell(h, VHOST_SET_VRING_KICK, &kick);
}

static long tell_base(struct vhost *h, unsigned i)
{
	struct vhost_vring_state base = {i, h->v->state->index[h->first + i]};
	if (h->told[i].base == base.num)
		return 0;
	h->told[i].base = base.num;
	return tell(h, VHOST_SET_VRING_BASE, &base);
}

static bool enabled(const struct vhost *h, unsigned i)
{
	return h->v->queue[h->first + i].desc;
}

int vhost_tell(struct vhost *h)
{
	long rc = 0;
	/* Of rings and buffers; the others are between the driver and what is at the other end. */
	uint64_t features = h->v->state->features & h->known;
	if (h->features != features)
		rc = tell(h, VHOST_SET_FEATURES, &features);
	h->features = features;
	for (unsigned i = 0; !rc && i < VHOST_QUEUES; i++)
		if (enabled(h, i))
			rc = tell_rings(h, i) ?: tell_call(h, i) ?: tell_base(h, i);
	if (rc)
		told_nothing(h);
	return (int)rc;
}

/* ---- start and stop ---- */

/* vhost is woken by its doorbells without reading them. */
void vhost_watch(struct vhost *h)
{
	if (h->has_kicks == h->running)
		return;
	for (unsigned i = 0; i < VHOST_QUEUES; i++)
		loop_modify(&h->v->owner->m->loop, h->v->kick[h->first + i].fd,
			    h->running ? 0 : EPOLLIN);
	h->has_kicks = h->running;
}

void vhost_start(struct vhost *h)
{
	if (h->running || h->failed)
		return;
	int rc = vhost_tell(h) ?: h->run(h, true);
	if (rc) {
		h->run(h, false);
		log_warn("%s: the kernel's vhost does not serve it: %s", h->v->owner->name,
			 strerror(-rc));
	}
	h->failed = rc;
	h->running = !rc;
	for (unsigned i = 0; i < VHOST_QUEUES; i++)
		h->told[i].base = UNKNOWN_BASE; /* it goes on from there by itself */
}

int vhost_still(struct vhost *h)
{
	if (!h->running)
		return 0;
	long rc = h->run(h, false);
	h->running = false;
	for (unsigned i = 0; i < VHOST_QUEUES; i++) {
		struct vhost_vring_state base = {i, 0};
		/* Of a device that was reset nothing is kept. */
		if (!enabled(h, i))
			continue;
		long got = tell(h, VHOST_GET_VRING_BASE, &base);
		if (!got)
			virtq_go_to(h->v, h->first + i, h->told[i].base = (uint16_t)base.num);
		rc = rc ?: got;
	}
	/* What it has signalled last may be unseen: the line is state, that eventfd is not. */
	if (!h->v->msix.enabled)
		on_line(h, EPOLLIN);
	return (int)rc;
}

void vhost_stop(struct vhost *h)
{
	int rc = vhost_still(h);
	if (rc)
		log_warn("%s: the kernel's vhost does not stop: %s", h->v->owner->name,
			 strerror(-rc));
	vhost_watch(h);
}

void vhost_routed(struct vhost *h)
{
	long rc = 0;
	for (unsigned i = 0; h->running && i < VHOST_QUEUES; i++)
		if (enabled(h, i))
			rc = rc ?: tell_call(h, i);
	if (rc && log_guest_ok(&h->v->complaints, 5))
		log_warn("%s: interrupts of the kernel's vhost: %s", h->v->owner->name,
			 strerror((int)-rc));
}
