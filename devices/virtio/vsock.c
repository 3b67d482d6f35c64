/* SPDX-License-Identifier: MIT */
/* Sockets between guest and host: their option, who has the context id, the event after an update. */
#include "devices/virtio/vsock.h"

#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/vm_sockets.h>

#include "vmm/machine.h"

#define QUEUES	    3 /* to the guest, from it, events (5.10.2); the kernel serves two */
#define EVENTS	    2
#define CLASS_OTHER 0x078000   /* a communication controller */
#define CID_LEAST   3	       /* below are the host and what is reserved */
#define CID_MOST    0xfffffffe /* VMADDR_CID_ANY comes next */

static const struct field vsock_fields[] = {VIRTIO_STATE_FIELDS(struct vsock_state, virtio),
					    FIELD_U(struct vsock_state, cid)};
static STATE_CLASS(vsock_state_class, "vsock", 1, struct vsock_state, vsock_fields);

static int run(struct vhost *h, bool on)
{
	int running = on;
	return (int)vm_ioctl(h->fd, VHOST_VSOCK_SET_RUNNING, &running);
}

/* ---- the guest is told ---- */

/* When it can have new ones; where it has no buffer, when it gives one. */
static void tell_reset(struct vsock *s)
{
	const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct virtq_chain *c = &s->chain;
	if (!s->reset_due || !s->vhost.running || !virtq_pop(&s->virtio, EVENTS, c))
		return;
	size_t len = iov_write(c->iov + c->out, c->in, &event, sizeof(event));
	virtq_push(&s->virtio, EVENTS, c->head, (uint32_t)len);
	virtq_notify(&s->virtio, EVENTS);
	s->reset_due = false;
}

/* ---- the context id ---- */

static bool driver_runs(const struct vsock *s)
{
	const uint32_t status = s->state.virtio.status;
	return status & VIRTIO_CONFIG_S_DRIVER_OK && !(status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void start(struct vsock *s)
{
	if (!s->has_cid || !driver_runs(s))
		return;
	vhost_start(&s->vhost);
	vhost_watch(&s->vhost);
	for (unsigned q = 0; q < VHOST_QUEUES; q++)
		virtio_look_again(&s->virtio, q);
	tell_reset(s);
}

static int take_cid(struct vsock *s, int fd, struct error *err)
{
	long rc = vm_ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &s->state.cid);
	if (!rc)
		return 0;
	error_end(err, EXIT_CONFIG, (int)-rc, "%s: %m", s->dev.name);
	return rc == -EADDRINUSE ? error_hint(err, "another guest of this host has that context id")
				 : (int)rc;
}

/* The former worker has it until it has ended. Taken at once it might hide from the kernel, which still closes that
 * one's descriptor, that these connections have lost their guest. */
static int vsock_inherit(struct device *base, struct error *err)
{
	struct vsock *s = (struct vsock *)base;
	if (s->sweep_fd < 0)
		return 0;
	int rc = take_cid(s, s->sweep_fd, err);
	if (rc == -EADDRINUSE)
		return -EBUSY;
	fd_close(&s->sweep_fd);
	rc = rc ?: take_cid(s, s->vhost.fd, err);
	if (rc)
		log_error(err); /* the guest has no sockets any more */
	pthread_mutex_lock(&base->m->lock);
	s->has_cid = !rc;
	start(s);
	pthread_mutex_unlock(&base->m->lock);
	return rc;
}

/* ---- the driver ---- */

static void kick(struct virtio_dev *v, unsigned q)
{
	struct vsock *s = (struct vsock *)v->owner;
	if (q == EVENTS)
		tell_reset(s);
	else if (s->vhost.running)
		virtio_look_again(v, q);
}

static void started(struct virtio_dev *v)
{
	start((struct vsock *)v->owner);
}

/* A driver that begins anew has no connections to be reset. */
static void stopped(struct virtio_dev *v)
{
	struct vsock *s = (struct vsock *)v->owner;
	vhost_stop(&s->vhost);
	s->vhost.failed = s->reset_due = false;
}

static void broken(struct virtio_dev *v)
{
	vhost_stop(&((struct vsock *)v->owner)->vhost);
}

static void routed(struct virtio_dev *v)
{
	vhost_routed(&((struct vsock *)v->owner)->vhost);
}

static const struct virtio_ops vsock_ops = {
	.type = VIRTIO_ID_VSOCK,
	.pci_class = CLASS_OTHER,
	.kick = kick,
	.started = started,
	.stopped = stopped,
	.broken = broken,
	.routed = routed,
};

/* ---- its life ---- */

static int vsock_init(struct device *base, const char *arg, struct error *err)
{
	struct vsock *s = (struct vsock *)base;
	unsigned long long cid = 0;
	int used = 0;
	s->vhost.fd = s->sweep_fd = -1;
	s->vhost.run = run;
	snprintf(base->name, sizeof(base->name), "vsock %.30s", arg);
	if (machine_device(base->m, "vsock", NULL))
		return error_end(err, EXIT_USAGE, EEXIST, "--vsock is given twice");
	if (sscanf(arg, "cid=%10llu%n", &cid, &used) != 1 || arg[used] || cid < CID_LEAST ||
	    cid > CID_MOST) {
		error_end(err, EXIT_USAGE, EINVAL, "--vsock %.100s: expected cid=N", arg);
		return error_hint(err, "N is from %u to %u, another one for each guest of the host",
				  CID_LEAST, CID_MOST);
	}
	s->state.cid = cid;
	return virtio_dev_init(&s->virtio, base, &vsock_ops, &s->state.virtio, QUEUES, err);
}

/* The incumbent's guest has its context id as long as the incumbent lives. */
static int vsock_open(struct device *base, struct error *err)
{
	struct vsock *s = (struct vsock *)base;
	int rc = vhost_open(&s->vhost, &s->virtio, 0, "vsock", 0, err);
	if (!rc && base->m->fresh)
		rc = take_cid(s, s->vhost.fd, err);
	s->has_cid = !rc && base->m->fresh;
	if (!rc && !base->m->fresh) {
		s->sweep_fd = vhost_open_device(base, "vsock", err);
		rc = s->sweep_fd < 0 ? s->sweep_fd : 0;
	}
	return rc ?: virtio_dev_open(&s->virtio, err);
}

static int vsock_realize(struct device *base, struct error *err)
{
	struct vsock *s = (struct vsock *)base;
	s->config.guest_cid = s->state.cid;
	return virtio_dev_realize(&s->virtio, s->vhost.known & 1ull << VIRTIO_VSOCK_F_SEQPACKET,
				  &s->config, sizeof(s->config), err);
}

static int vsock_reset(struct device *base, struct error *err)
{
	virtio_dev_reset(&((struct vsock *)base)->virtio);
	return 0;
}

static int vsock_post_load(void *opaque, struct error *err)
{
	struct vsock *s = opaque;
	if (s->state.cid < CID_LEAST || s->state.cid > CID_MOST)
		return error_set(err, EBADMSG, "%s: context id %llu", s->dev.name,
				 (unsigned long long)s->state.cid);
	s->config.guest_cid = s->state.cid;
	int rc = virtio_dev_load(&s->virtio, err);
	if (rc || !driver_runs(s))
		return rc;
	rc = vhost_tell(&s->vhost);
	return rc ? error_errno(err, -rc, "%s: vhost: rings", s->dev.name) : 0;
}

static int vsock_start(struct device *base, struct error *err)
{
	virtio_dev_start(&((struct vsock *)base)->virtio);
	return 0;
}

static int vsock_serve(struct device *base, struct error *err)
{
	struct vsock *s = (struct vsock *)base;
	virtio_dev_serve(&s->virtio);
	s->reset_due = !s->has_cid && driver_runs(s);
	return 0;
}

static int vsock_still(struct device *base, struct error *err)
{
	int rc = vhost_still(&((struct vsock *)base)->vhost);
	return rc ? error_errno(err, -rc, "%s: stopping vhost", base->name) : 0;
}

static void vsock_resume(struct device *base)
{
	start((struct vsock *)base);
}

static void vsock_destroy(struct device *base)
{
	struct vsock *s = (struct vsock *)base;
	fd_close(&s->sweep_fd);
	vhost_close(&s->vhost);
	virtio_dev_destroy(&s->virtio);
}

const struct device_class vsock_class = {
	.name = "vsock",
	.state = &vsock_state_class,
	.size = sizeof(struct vsock),
	.state_offset = offsetof(struct vsock, state),
	.init = vsock_init,
	.open = vsock_open,
	.realize = vsock_realize,
	.reset = vsock_reset,
	.post_load = vsock_post_load,
	.start = vsock_start,
	.serve = vsock_serve,
	.still = vsock_still,
	.resume = vsock_resume,
	.inherit = vsock_inherit,
	.destroy = vsock_destroy,
};
