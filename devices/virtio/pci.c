/* SPDX-License-Identifier: MIT */
/*
 * Virtio over PCI (VIRTIO 1.2, 4.1): capabilities, interrupts, doorbells, and the device's life. All
 * that is in BAR 0, of which each page has one job.
 */
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "devices/virtio/virtio.h"
#include "vmm/machine.h"

#define BAR	     0
#define BAR_LEN	     0x8000
#define AT_COMMON    0x0000
#define AT_ISR	     0x1000
#define AT_DEVICE    0x2000
#define AT_DOORBELLS 0x3000
#define AT_TABLE     0x4000 /* MSI-X */
#define AT_PENDING   0x5000
#define DOORBELL_LEN 4 /* from one queue's to the next: notify_off_multiplier (4.1.4.4) */

/* Config space: capabilities one behind the other. */
#define CAP_MSIX    0x40
#define CAP_COMMON  0x50
#define CAP_ISR	    0x60
#define CAP_DEVICE  0x70
#define CAP_NOTIFY  0x80
#define CAP_ACCESS  0x94 /* VIRTIO_PCI_CAP_PCI_CFG */
#define ACCESS_DATA (CAP_ACCESS + 16)

#define PIN_INTA   1
#define DEVICE_IDS 0x1040 /* plus the type (4.1.2.1) */
#define REVISION   1

/* ---- interrupts ---- */

void virtio_line_update(struct virtio_dev *v)
{
	bool pending = v->state->isr && !v->msix.enabled;
	uint32_t status = pci_config_get(&v->pci, PCI_STATUS, 2) & ~(uint32_t)PCI_STATUS_INTERRUPT;
	pci_config_set(&v->pci, PCI_STATUS, 2, status | (pending ? PCI_STATUS_INTERRUPT : 0));
	pci_intx_set(&v->pci, pending && !(pci_config_get(&v->pci, PCI_COMMAND, 2) &
					   PCI_COMMAND_INTX_DISABLE));
}

static void signal_fd(int fd)
{
	fd_write_all(fd, &(const uint64_t){1}, sizeof(uint64_t));
}

/* With MSI-X the eventfd of the vector, which is also its pending bit; else the line, with its reason in ISR
 * (4.1.4.5.1). */
void virtio_interrupt(struct virtio_dev *v, uint32_t vector, uint32_t isr)
{
	if (!v->msix.enabled || isr == VIRTIO_ISR_CONFIG)
		v->state->isr |= isr;
	if (v->msix.enabled && vector < v->msix.vec.n)
		signal_fd(v->msix.vec.src[vector].fd);
	virtio_line_update(v);
}

void virtio_config_changed(struct virtio_dev *v)
{
	struct virtio_state *s = v->state;
	s->generation = (uint8_t)(s->generation + 1);
	if (s->status & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_interrupt(v, s->config_vector, VIRTIO_ISR_CONFIG);
}

void virtio_broken(struct virtio_dev *v, const char *why)
{
	struct virtio_state *s = v->state;
	if (log_guest_ok(&v->complaints, 5))
		log_warn("%s: stops until the guest's driver resets it: %s", v->owner->name, why);
	if (s->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	s->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (v->ops->broken)
		v->ops->broken(v);
	virtio_config_changed(v);
}

/* ---- doorbells ---- */

void virtio_look(struct virtio_dev *v, unsigned q)
{
	if (virtq_open(v, q))
		v->ops->kick(v, q);
}

void virtio_look_again(struct virtio_dev *v, unsigned q)
{
	signal_fd(v->kick[q].fd);
}

static void on_kick(void *opaque, uint32_t events)
{
	const struct virtio_kick *kick = opaque;
	uint64_t count;
	if (read(kick->fd, &count, sizeof(count)) == sizeof(count))
		virtio_look(kick->v, (unsigned)(kick - kick->v->kick));
}

/* A doorbell that KVM does not take is an exit, and works all the same. */
static void doorbells_set(struct virtio_dev *v, uint64_t addr, bool on)
{
	struct machine *m = v->owner->m;
	for (unsigned q = 0; q < v->queues; q++) {
		struct kvm_ioeventfd bell = {.addr = addr + AT_DOORBELLS + DOORBELL_LEN * q,
					     .fd = v->kick[q].fd,
					     .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN};
		long rc = vm_ioctl(m->vm.fd, KVM_IOEVENTFD, &bell);
		if (rc < 0 && on && log_guest_ok(&v->complaints, 5))
			log_warn("%s: KVM takes no doorbell (%s): the device is slower",
				 v->owner->name, strerror((int)-rc));
	}
}

/* ---- BAR 0, and config space ---- */

static void config_access(struct virtio_dev *v, unsigned off, struct bus_access *a)
{
	if (!range_fits(off, a->len, v->config_len))
		return;
	if (!a->write)
		a->value = load_le((const uint8_t *)v->config + off, a->len);
	else if (v->ops->config_write)
		v->ops->config_write(v, off, a->len, a->value);
}

/* Reading it acknowledges the line's interrupt (4.1.4.5). */
static void isr_access(struct virtio_dev *v, unsigned off, struct bus_access *a)
{
	if (off || a->write)
		return;
	a->value = v->state->isr;
	v->state->isr = 0;
	virtio_line_update(v);
}

static void bar_access(void *opaque, struct bus_access *a)
{
	struct virtio_dev *v = opaque;
	unsigned off = a->offset & (PAGE_LEN - 1);
	if (msix_access(&v->msix, BAR, a->offset, a))
		return;
	switch (a->offset - off) {
	case AT_COMMON:
		virtio_common_access(v, off, a->len, a->write, &a->value);
		break;
	case AT_ISR:
		isr_access(v, off, a);
		break;
	case AT_DEVICE:
		config_access(v, off, a);
		break;
	case AT_DOORBELLS:
		if (a->write && off / DOORBELL_LEN < v->queues)
			virtio_look(v, off / DOORBELL_LEN);
		break;
	}
}

static struct virtio_dev *of_pci(struct pci_dev *pci)
{
	return (struct virtio_dev *)((char *)pci - offsetof(struct virtio_dev, pci));
}

static int bar_map(struct pci_dev *pci, unsigned bar, uint64_t addr, struct error *err)
{
	struct virtio_dev *v = of_pci(pci);
	struct bus_region r = {addr, BAR_LEN, v->owner->name, bar_access, v};
	int rc = bus_add(&v->owner->m->mmio, &r, err);
	if (!rc)
		doorbells_set(v, addr, true);
	return rc;
}

static void bar_unmap(struct pci_dev *pci, unsigned bar, uint64_t addr)
{
	struct virtio_dev *v = of_pci(pci);
	doorbells_set(v, addr, false);
	bus_remove(&v->owner->m->mmio, addr, v);
}

/* BAR 0 through a window in config space, for who cannot map it (4.1.4.9). */
static void window_access(struct virtio_dev *v, bool write)
{
	struct bus_access a = {.offset = pci_config_get(&v->pci, CAP_ACCESS + 8, 4),
			       .len = pci_config_get(&v->pci, CAP_ACCESS + 12, 4),
			       .write = write,
			       .value = write ? pci_config_get(&v->pci, ACCESS_DATA, 4)
					      : UINT64_MAX};
	bool fits = (a.len == 1 || a.len == 2 || a.len == 4) && !(a.offset % a.len) &&
		    range_fits(a.offset, a.len, BAR_LEN);
	if (pci_config_get(&v->pci, CAP_ACCESS + 4, 1) == BAR && fits)
		bar_access(v, &a);
	if (!write)
		pci_config_set(&v->pci, ACCESS_DATA, 4, (uint32_t)a.value);
}

static uint32_t config_read(struct pci_dev *pci, unsigned off, unsigned len)
{
	if (ranges_overlap(off, len, ACCESS_DATA, 4))
		window_access(of_pci(pci), false);
	return pci_config_read(pci, off, len);
}

/* MSI-X may be on or off now, and the line with it. */
static void config_write(struct pci_dev *pci, unsigned off, unsigned len, uint32_t value)
{
	pci_config_write(pci, off, len, value);
	if (ranges_overlap(off, len, ACCESS_DATA, 4))
		window_access(of_pci(pci), true);
	virtio_line_update(of_pci(pci));
	if (of_pci(pci)->ops->routed && ranges_overlap(off, len, CAP_MSIX, MSIX_CAP_LEN))
		of_pci(pci)->ops->routed(of_pci(pci));
}

static const struct pci_ops pci_ops = {
	.config_read = config_read,
	.config_write = config_write,
	.bar_map = bar_map,
	.bar_unmap = bar_unmap,
};

/* One capability, and the way to the next one (4.1.4). */
static void capability(struct virtio_dev *v, unsigned at, unsigned next, uint8_t kind, uint32_t off,
		       uint32_t len)
{
	unsigned cap_len = kind == VIRTIO_PCI_CAP_NOTIFY_CFG || kind == VIRTIO_PCI_CAP_PCI_CFG
				   ? sizeof(struct virtio_pci_notify_cap)
				   : sizeof(struct virtio_pci_cap);
	pci_config_set(&v->pci, at, 4,
		       PCI_CAP_ID_VNDR | next << 8 | cap_len << 16 | (uint32_t)kind << 24);
	pci_config_set(&v->pci, at + VIRTIO_PCI_CAP_BAR, 1, BAR);
	pci_config_set(&v->pci, at + VIRTIO_PCI_CAP_OFFSET, 4, off);
	pci_config_set(&v->pci, at + VIRTIO_PCI_CAP_LENGTH, 4, len);
}

static void capabilities(struct virtio_dev *v)
{
	struct pci_dev *pci = &v->pci;
	pci_config_set(pci, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	pci_config_set(pci, PCI_CAPABILITY_LIST, 1, CAP_MSIX);
	msix_cap_write(pci, CAP_MSIX, v->queues + 1, BAR, AT_TABLE, AT_PENDING);
	pci_config_set(pci, CAP_MSIX + 1, 1, CAP_COMMON);
	capability(v, CAP_COMMON, CAP_ISR, VIRTIO_PCI_CAP_COMMON_CFG, AT_COMMON,
		   sizeof(struct virtio_pci_common_cfg));
	/* What has no configuration has no capability for one: drivers refuse an empty one. */
	capability(v, CAP_ISR, v->config_len ? CAP_DEVICE : CAP_NOTIFY, VIRTIO_PCI_CAP_ISR_CFG,
		   AT_ISR, 1);
	if (v->config_len)
		capability(v, CAP_DEVICE, CAP_NOTIFY, VIRTIO_PCI_CAP_DEVICE_CFG, AT_DEVICE,
			   v->config_len);
	capability(v, CAP_NOTIFY, CAP_ACCESS, VIRTIO_PCI_CAP_NOTIFY_CFG, AT_DOORBELLS,
		   DOORBELL_LEN * v->queues);
	pci_config_set(pci, CAP_NOTIFY + VIRTIO_PCI_NOTIFY_CAP_MULT, 4, DOORBELL_LEN);
	capability(v, CAP_ACCESS, 0, VIRTIO_PCI_CAP_PCI_CFG, 0, 0);
	pci_config_allow(pci, CAP_ACCESS + VIRTIO_PCI_CAP_BAR, 1, 0xff);
	pci_config_allow(pci, CAP_ACCESS + VIRTIO_PCI_CAP_OFFSET, 4, ~0u);
	pci_config_allow(pci, CAP_ACCESS + VIRTIO_PCI_CAP_LENGTH, 4, ~0u);
	pci_config_allow(pci, ACCESS_DATA, 4, ~0u);
}

/* ---- the life of the device ---- */

int virtio_dev_init(struct virtio_dev *v, struct device *owner, const struct virtio_ops *ops,
		    struct virtio_state *state, unsigned queues, struct error *err)
{
	v->owner = owner;
	v->ops = ops;
	v->state = state;
	v->queues = queues;
	v->quiet = true;
	for (unsigned q = 0; q < queues; q++)
		v->kick[q] = (struct virtio_kick){.v = v, .fd = -1};
	return pci_dev_init(&v->pci, owner, &pci_ops, &state->pci, err);
}

/* The eventfd of that name: kept, or a new one. */
static int eventfd_open(struct virtio_dev *v, const char *what, unsigned i, struct error *err)
{
	struct machine *m = v->owner->m;
	char name[FDSET_NAME_LEN];
	snprintf(name, sizeof(name), "%.40s:%s:%u", v->owner->node, what, i);
	int fd = fdset_get(&m->fds, name);
	if (fd >= 0)
		return fd;
	if (!m->fresh)
		return error_set(err, EBADMSG, "%s: descriptor %s was not handed over",
				 v->owner->name, name);
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "%s: eventfd", v->owner->name);
	int rc = fdset_keep(&m->fds, name, fd, err);
	if (rc)
		close(fd);
	return rc ? rc : fd;
}

int virtio_dev_open(struct virtio_dev *v, struct error *err)
{
	for (unsigned q = 0; q < v->queues; q++) {
		v->kick[q].fd = eventfd_open(v, "kick", q, err);
		if (v->kick[q].fd < 0)
			return v->kick[q].fd;
		int rc = v->ops->own_threads ? 0
					     : loop_add(&v->owner->m->loop, v->kick[q].fd, EPOLLIN,
							on_kick, &v->kick[q], err);
		if (rc)
			return rc;
	}
	return 0;
}

/* Each vector has its eventfd from the start: there are few. */
static int vectors_open(struct virtio_dev *v, struct error *err)
{
	for (unsigned i = 0; i < v->msix.vec.n; i++) {
		int fd = eventfd_open(v, "msix", i, err);
		if (fd < 0)
			return fd;
		pci_vector_set_fd(&v->msix.vec, i, fd);
	}
	return 0;
}

int virtio_dev_realize(struct virtio_dev *v, uint64_t features, const void *config,
		       unsigned config_len, struct error *err)
{
	struct pci_dev *pci = &v->pci;
	v->features = features | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC |
		      1ull << VIRTIO_RING_F_EVENT_IDX;
	v->config = config;
	v->config_len = config_len;
	pci_config_set(pci, PCI_VENDOR_ID, 2, VIRTIO_PCI_VENDOR);
	pci_config_set(pci, PCI_DEVICE_ID, 2, DEVICE_IDS + v->ops->type);
	pci_config_set(pci, PCI_CLASS_REVISION, 4, v->ops->pci_class << 8 | REVISION);
	pci_config_set(pci, PCI_SUBSYSTEM_VENDOR_ID, 2, VIRTIO_PCI_VENDOR);
	pci_config_set(pci, PCI_SUBSYSTEM_ID, 2, DEVICE_IDS + v->ops->type);
	pci_config_set(pci, PCI_INTERRUPT_PIN, 1, PIN_INTA);
	capabilities(v);
	int rc = pci_bar_add(pci, BAR, 0, BAR_LEN, err)
			 ?: msix_init(&v->msix, pci, CAP_MSIX, &v->state->msix, err)
			 ?: vectors_open(v, err);
	if (!rc)
		virtio_reset_done(v);
	return rc;
}

void virtio_dev_reset(struct virtio_dev *v)
{
	msix_update(&v->msix);
}

static int bad_state(const struct virtio_dev *v, const char *what, unsigned q, struct error *err)
{
	return error_set(err, EBADMSG, "%s: queue %u: %s", v->owner->name, q, what);
}

static bool vector_valid(const struct virtio_dev *v, uint32_t vector)
{
	return vector < v->msix.vec.n || vector == VIRTIO_NO_VECTOR;
}

static int queue_load(struct virtio_dev *v, unsigned q, struct error *err)
{
	const struct virtio_state *s = v->state;
	virtq_unmap(v, q);
	if (!vector_valid(v, s->vector[q]))
		return bad_state(v, "its interrupt vector is not there", q, err);
	if (s->index[q] > UINT16_MAX)
		return bad_state(v, "its index is too large", q, err);
	if (!is_pow2(s->size[q]) || s->size[q] > VIRTIO_QUEUE_SIZE)
		return bad_state(v, "its size cannot be", q, err);
	if (s->enabled[q] && virtq_map(v, q))
		return bad_state(v, "its rings are not in guest memory", q, err);
	return 0;
}

/* What the guest uses is state: a program that does not offer it says no. */
int virtio_dev_load(struct virtio_dev *v, struct error *err)
{
	const struct virtio_state *s = v->state;
	int rc = pci_dev_load(&v->pci, err) ?: msix_load(&v->msix, err);
	if (rc)
		return rc;
	if (s->queues != v->queues)
		return error_set(err, EBADMSG, "%s: state of %u queues, it has %u", v->owner->name,
				 s->queues, v->queues);
	if (s->status & VIRTIO_CONFIG_S_FEATURES_OK && s->features & ~v->features)
		return error_set(err, EOPNOTSUPP,
				 "%s: the guest uses features that this program has not (0x%llx)",
				 v->owner->name, (unsigned long long)(s->features & ~v->features));
	if (!vector_valid(v, s->config_vector) || s->isr > UINT8_MAX || s->status > UINT8_MAX)
		return error_set(err, EBADMSG, "%s: status 0x%x, interrupt status 0x%x, vector %u",
				 v->owner->name, s->status, s->isr, s->config_vector);
	for (unsigned q = 0; !rc && q < v->queues; q++)
		rc = queue_load(v, q, err);
	if (!rc)
		rc = vectors_open(v, err);
	if (!rc)
		msix_update(&v->msix);
	return rc;
}

void virtio_dev_start(struct virtio_dev *v)
{
	virtio_line_update(v);
}

void virtio_dev_serve(struct virtio_dev *v)
{
	v->quiet = v->asked = false;
	for (unsigned q = 0; q < v->queues; q++)
		if (v->queue[q].desc)
			signal_fd(v->kick[q].fd);
}

int virtio_dev_quiesce(struct virtio_dev *v, struct error *err)
{
	char oldest[128] = "";
	v->quiet = true;
	v->asked = v->in_flight;
	if (!v->in_flight)
		return 0;
	if (v->ops->oldest)
		v->ops->oldest(v, oldest, sizeof(oldest));
	return error_set(err, EBUSY, "%s: %u requests in flight%s%s", v->owner->name, v->in_flight,
			 oldest[0] ? ", the oldest: " : "", oldest);
}

void virtio_dev_destroy(struct virtio_dev *v)
{
	for (unsigned q = 0; q < v->queues; q++)
		if (v->kick[q].fd >= 0)
			loop_remove(&v->owner->m->loop, v->kick[q].fd);
	if (v->msix.pci)
		pci_vectors_free(&v->msix.vec);
}
