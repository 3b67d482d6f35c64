/* SPDX-License-Identifier: MIT */
/*
 * For tests of virtio devices: a machine with guest memory and an event loop, both without threads, and the guest's
 * driver, which may do what no driver should. The device is in slot 1.
 */
#ifndef MOLT_TEST_FAKE_VIRTIO_H
#define MOLT_TEST_FAKE_VIRTIO_H

#include "tests/unit/fake_machine.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "devices/virtio/virtio.h"

/* With the device lock held, since the device has threads. */
#define WAIT_UNTIL(condition)                                                                      \
	do {                                                                                       \
		uint64_t until_ = now_ns() + 20000 * NS_PER_MS;                                    \
		for (bool is_ = false; !is_; sched_yield()) {                                      \
			pthread_mutex_lock(&m->lock);                                              \
			is_ = (condition);                                                         \
			pthread_mutex_unlock(&m->lock);                                            \
			if (!is_ && now_ns() > until_)                                             \
				fail_msg("not in time: %s", #condition);                           \
		}                                                                                  \
	} while (0)

#define SLOT	  1
#define LOW_LEN	  (4 * MIB)
#define HIGH_GPA  (4 * GIB)
#define HIGH_LEN  (1 * MIB)
#define RING_GPA  0x10000ull /* descriptors; the other rings a page and two behind them */
#define DATA_GPA  0x20000ull
#define QUEUE_LEN 8u

#define AT_COMMON    0x0000
#define AT_ISR	     0x1000
#define AT_CONFIG    0x2000
#define AT_DOORBELLS 0x3000
#define AT_TABLE     0x4000
#define CAP_MSIX     0x40

static struct machine *m;
static unsigned bells; /* doorbells that KVM has */

/* What KVM_IRQ_LINE was told last, by GSI. */
static bool lines[IRQ_PINS];

static long virtio_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_IRQ_LINE) {
		const struct kvm_irq_level *l = arg;
		lines[l->irq] = l->level;
		return 0;
	}
	if (request == KVM_IOEVENTFD) {
		const struct kvm_ioeventfd *bell = arg;
		bells += bell->flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? -1 : 1;
		return 0;
	}
	return -ENOTTY;
}

/* Guest memory is @hva, or new. */
static struct machine *virtio_machine(bool fresh, const struct device_class *cls, const char *arg,
				      uint8_t *hva)
{
	struct machine *made = fake_machine(fresh);
	struct error err = {0};
	fake.ioctl = virtio_ioctl;
	made->leader = pthread_self(); /* SIGURG is ignored */
	pthread_mutex_init(&made->lock, NULL);
	made->ram.state = (struct ram_state){.size = LOW_LEN + HIGH_LEN,
					     .page_len = PAGE_LEN,
					     .nregions = 2,
					     .gpa = {0, HIGH_GPA},
					     .len = {LOW_LEN, HIGH_LEN},
					     .offset = {0, LOW_LEN}};
	made->ram.hva = hva
				?: mmap(NULL, LOW_LEN + HIGH_LEN, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(made->ram.hva, MAP_FAILED);
	if (loop_init(&made->loop, "test", SECCOMP_LOOP, &made->lock, &err) ||
	    machine_add_device(made, cls, arg, &err))
		fail_msg("%s", err.text);
	return made;
}

static inline void virtio_run(void)
{
	struct error err = {0};
	struct device *dev = m->devices[1];
	if (fake_realize(m, &err) || fake_reset(m, &err) ||
	    (dev->cls->spawn && dev->cls->spawn(dev, &err)) || fake_start(m, &err) ||
	    (dev->cls->serve && dev->cls->serve(dev, &err)))
		fail_msg("%s", err.text);
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* The machine, less its memory and kept descriptors, which another may have. */
static void virtio_leave(struct machine *left)
{
	struct loop_watch *next;
	irq_detach_all(&left->irq, NULL);
	for (unsigned i = left->ndevices; i-- > 0;)
		device_destroy(left->devices[i]);
	left->ndevices = 0;
	for (struct loop_watch *w = left->loop.watches; w; w = next) {
		next = w->next;
		free(w);
	}
	close(left->loop.epoll_fd);
	fake_destroy(left);
}

static inline void virtio_free(void)
{
	uint8_t *hva = m->ram.hva;
	int fd[64];
	unsigned n = m->fds.n;
	assert_true(n <= ARRAY_LEN(fd));
	for (unsigned i = 0; i < n; i++)
		fd[i] = m->fds.e[i].fd;
	virtio_leave(m); /* whose devices use them to the end */
	while (n)
		close(fd[--n]);
	munmap(hva, LOW_LEN + HIGH_LEN);
}

/* What the event loop would do now. Returns how many descriptors were served. */
static inline unsigned serve_loop(void)
{
	struct epoll_event ev;
	unsigned n = 0;
	for (; epoll_wait(m->loop.epoll_fd, &ev, 1, 0) == 1; n++) {
		struct loop_watch *w = ev.data.ptr;
		w->handler(w->opaque, ev.events);
	}
	return n;
}

/* ---- the driver ---- */

static inline uint64_t bar(void)
{
	const struct pci_host *host = (struct pci_host *)m->devices[0];
	return pci_bar_addr(host->devs[SLOT], 0);
}

static inline uint32_t reg_get(unsigned off, unsigned len)
{
	return (uint32_t)guest_read(&m->mmio, bar() + off, len);
}

static inline void reg_put(unsigned off, unsigned len, uint32_t val)
{
	guest_write(&m->mmio, bar() + off, len, val);
}

static inline uint8_t *mem(uint64_t gpa)
{
	uint8_t *p = ram_at(&m->ram, gpa, 1);
	assert_non_null(p);
	return p;
}

/* Accepts @features and VERSION_1. Returns whether the device agrees. */
static inline bool negotiate(uint64_t features)
{
	features |= 1ull << VIRTIO_F_VERSION_1;
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 3);
	for (uint32_t i = 0; i < 2; i++) {
		reg_put(VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		reg_put(VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> 32 * i));
	}
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	return reg_get(VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static inline void queue_set_up(unsigned q, uint64_t gpa, uint32_t size, uint16_t vector)
{
	memset(mem(gpa), 0, 3 * PAGE_LEN);
	reg_put(VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
	reg_put(VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
	reg_put(VIRTIO_PCI_COMMON_Q_MSIX, 2, vector);
	for (unsigned ring = 0; ring < 3; ring++) {
		uint64_t at = gpa + ring * PAGE_LEN;
		reg_put(VIRTIO_PCI_COMMON_Q_DESCLO + 8 * ring, 4, (uint32_t)at);
		reg_put(VIRTIO_PCI_COMMON_Q_DESCHI + 8 * ring, 4, (uint32_t)(at >> 32));
	}
	reg_put(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static inline void driver_ok(void)
{
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 15);
}

static inline void driver_start(uint64_t features)
{
	assert_true(negotiate(features));
	queue_set_up(0, RING_GPA, QUEUE_LEN, VIRTIO_NO_VECTOR);
	driver_ok();
}

static inline struct vring_desc *desc_at(unsigned i)
{
	return (struct vring_desc *)mem(RING_GPA) + i;
}

static inline void desc_put(unsigned i, uint64_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
	*desc_at(i) = (struct vring_desc){.addr = gpa, .len = len, .flags = flags, .next = next};
}

static inline struct vring_avail *avail_ring(void)
{
	return (struct vring_avail *)mem(RING_GPA + PAGE_LEN);
}

static inline struct vring_used *used_ring(void)
{
	return (struct vring_used *)mem(RING_GPA + 2 * PAGE_LEN);
}

static inline void offer(uint16_t head)
{
	struct vring_avail *a = avail_ring();
	a->ring[a->idx % QUEUE_LEN] = head;
	a->idx++;
}

/* As KVM does: the doorbell's eventfd. */
static inline void ring_bell(const struct virtio_dev *v, unsigned q)
{
	fd_write_all(v->kick[q].fd, &(const uint64_t){1}, sizeof(uint64_t));
}

static inline bool needs_reset(void)
{
	return reg_get(VIRTIO_PCI_COMMON_STATUS, 1) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* Takes what an eventfd has counted. */
static inline uint64_t counted(const char *name)
{
	uint64_t count = 0;
	int fd = fdset_get(&m->fds, name);
	assert_true(fd >= 0);
	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static inline void msix_on(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		guest_write(&m->mmio, bar() + AT_TABLE + 16 * i, 8, 0xfee00000);
		guest_write(&m->mmio, bar() + AT_TABLE + 16 * i + 8, 8, 0x40 + i);
	}
	config_put(m, SLOT, CAP_MSIX + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

#endif
