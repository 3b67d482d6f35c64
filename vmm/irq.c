/* SPDX-License-Identifier: MIT */
/* GSIs, the routing table, and irqfds: attached and detached one by one or all at once. */
#include "vmm/irq.h"

#include <linux/kvm.h>
#include <poll.h>
#include <sys/epoll.h>

#include "vmm/arch.h"
#include "vmm/vm.h"

#define TRIES 3 /* of what has no way back */

/* The routing table, made anew for each upload; static, since the pause allocates nothing. A table that KVM has
 * already is not uploaded again. */
static struct table {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry entries[IRQ_MAX_GSI + 2 * IRQ_PINS];
} table, uploaded;
static const struct irq *uploaded_by;

void irq_init(struct irq *irq, struct vm *vm)
{
	memset(irq, 0, sizeof(*irq));
	irq->vm = vm;
	pthread_mutex_init(&irq->lock, NULL);
	uploaded_by = NULL;
	irq_load_begin(irq);
}

int irq_use_pins(struct irq *irq, struct arch_pins *pins, struct error *err)
{
	irq->pins = pins;
	irq->lines_fd = epoll_create1(EPOLL_CLOEXEC);
	return irq->lines_fd < 0 ? error_errno(err, errno, "interrupt lines: epoll") : 0;
}

void irq_load_begin(struct irq *irq)
{
	memset(irq->gsi_used, 0, sizeof(irq->gsi_used));
	for (uint32_t gsi = 0; gsi < IRQ_PINS; gsi++)
		irq->gsi_used[gsi / 8] |= (uint8_t)(1u << (gsi % 8));
	for (struct irq_source *s = irq->sources; s; s = s->next)
		s->wanted = false;
	irq->routes_dirty = true;
}

int irq_gsi_take(struct irq *irq, uint32_t gsi)
{
	if (gsi < IRQ_PINS || gsi >= IRQ_MAX_GSI)
		return -EINVAL;
	if (irq->gsi_used[gsi / 8] & (1u << (gsi % 8)))
		return -EBUSY;
	irq->gsi_used[gsi / 8] |= (uint8_t)(1u << (gsi % 8));
	return 0;
}

int irq_gsi_alloc(struct irq *irq)
{
	/* The routing table also holds the pins: some 40 entries of 4096. */
	for (uint32_t gsi = IRQ_PINS; gsi < IRQ_MAX_GSI - 64; gsi++)
		if (!irq_gsi_take(irq, gsi))
			return (int)gsi;
	return -ENOSPC;
}

void irq_gsi_free(struct irq *irq, uint32_t gsi)
{
	if (gsi >= IRQ_PINS && gsi < IRQ_MAX_GSI)
		irq->gsi_used[gsi / 8] &= (uint8_t) ~(1u << (gsi % 8));
}

void irq_add(struct irq *irq, struct irq_source *src)
{
	src->wanted = src->attached = src->changed = false;
	pthread_mutex_lock(&irq->lock);
	src->next = irq->sources;
	src->link = &irq->sources;
	if (src->next)
		src->next->link = &src->next;
	irq->sources = src;
	pthread_mutex_unlock(&irq->lock);
}

static int irqfd(struct irq *irq, struct irq_source *src, uint32_t flags)
{
	struct kvm_irqfd arg = {.fd = (uint32_t)src->fd, .gsi = src->gsi, .flags = flags};
	if (src->kind == IRQ_LEVEL && !(flags & KVM_IRQFD_FLAG_DEASSIGN)) {
		arg.flags |= KVM_IRQFD_FLAG_RESAMPLE;
		arg.resamplefd = (uint32_t)src->unmask_fd;
	}
	return (int)vm_ioctl(irq->vm->fd, KVM_IRQFD, &arg);
}

static bool is_line(const struct irq *irq, const struct irq_source *src)
{
	return irq->pins && src->kind == IRQ_LEVEL;
}

/* A line that is off keeps its count, as with an irqfd, and its pin as it is. */
static int line(struct irq *irq, struct irq_source *src, int op)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = src};
	return epoll_ctl(irq->lines_fd, op, src->fd, &ev) < 0 ? -errno : 0;
}

static int attach(struct irq *irq, struct irq_source *src, struct error *err)
{
	if (src->attached)
		return 0;
	int rc = is_line(irq, src) ? line(irq, src, EPOLL_CTL_ADD) : irqfd(irq, src, 0);
	if (rc < 0)
		return error_errno(err, -rc, "irqfd for GSI %u", src->gsi);
	src->attached = true;
	return 0;
}

static int detach(struct irq *irq, struct irq_source *src, struct error *err)
{
	if (!src->attached)
		return 0;
	int rc = is_line(irq, src) ? line(irq, src, EPOLL_CTL_DEL)
				   : irqfd(irq, src, KVM_IRQFD_FLAG_DEASSIGN);
	if (rc < 0)
		return error_errno(err, -rc, "taking the irqfd off GSI %u", src->gsi);
	src->attached = false;
	return 0;
}

void irq_remove(struct irq *irq, struct irq_source *src)
{
	pthread_mutex_lock(&irq->lock);
	detach(irq, src, NULL);
	if (src->link) {
		*src->link = src->next;
		if (src->next)
			src->next->link = src->link;
		src->link = NULL;
		irq->routes_dirty = true;
	}
	pthread_mutex_unlock(&irq->lock);
}

int irq_routes_commit(struct irq *irq, struct error *err)
{
	if (!irq->routes_dirty)
		return 0;
	uint32_t n = arch_pin_routes(irq->pins, table.entries);
	for (struct irq_source *s = irq->sources; s; s = s->next) {
		if (s->kind != IRQ_MSI || !s->wanted)
			continue;
		if (n == ARRAY_LEN(table.entries))
			return error_set(err, E2BIG, "more than %u interrupt routes", n);
		uint64_t addr = irq->pins ? arch_pins_msi_addr(s->msi_addr) : s->msi_addr;
		table.entries[n++] = (struct kvm_irq_routing_entry){
			.gsi = s->gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = (uint32_t)addr,
				  .address_hi = (uint32_t)(addr >> 32),
				  .data = s->msi_data}};
	}
	table.head.nr = n;
	if (uploaded_by == irq && uploaded.head.nr == n &&
	    !memcmp(table.entries, uploaded.entries, n * sizeof(table.entries[0]))) {
		irq->routes_dirty = false;
		return 0;
	}
	long rc = vm_ioctl(irq->vm->fd, KVM_SET_GSI_ROUTING, &table);
	if (rc < 0)
		return error_errno(err, (int)-rc, "interrupt routes (%u)", n);
	uploaded.head.nr = n;
	memcpy(uploaded.entries, table.entries, n * sizeof(table.entries[0]));
	uploaded_by = irq;
	irq->routes_dirty = false;
	return 0;
}

void irq_want(struct irq *irq, struct irq_source *src, bool wanted)
{
	pthread_mutex_lock(&irq->lock);
	src->wanted = wanted;
	src->changed = irq->changed = true;
	if (src->kind == IRQ_MSI)
		irq->routes_dirty = true;
	pthread_mutex_unlock(&irq->lock);
}

/* A route that nobody wants any more is dropped with the next upload. */
static int apply(struct irq *irq, struct error *err)
{
	int rc = 0;
	bool on = false;
	for (struct irq_source *s = irq->sources; s; s = s->next) {
		on |= s->changed && s->wanted;
		if (s->changed && !s->wanted)
			rc = detach(irq, s, rc ? NULL : err) ?: rc;
	}
	int routes = on ? irq_routes_commit(irq, rc ? NULL : err) : 0;
	rc = rc ?: routes;
	for (struct irq_source *s = irq->sources; s && !routes; s = s->next)
		if (s->changed && s->wanted)
			rc = attach(irq, s, rc ? NULL : err) ?: rc;
	return rc;
}

int irq_apply(struct irq *irq, struct error *err)
{
	if (!irq->changed)
		return 0;
	pthread_mutex_lock(&irq->lock);
	int rc = irq->live ? apply(irq, err) : 0;
	for (struct irq_source *s = irq->sources; s; s = s->next)
		s->changed = false;
	irq->changed = false;
	pthread_mutex_unlock(&irq->lock);
	return rc;
}

bool irq_pending(const struct irq_source *src)
{
	struct pollfd p = {.fd = src->fd, .events = POLLIN};
	return !src->attached && poll(&p, 1, 0) == 1 && p.revents & POLLIN;
}

void irq_pin(struct irq *irq, uint32_t gsi, bool level)
{
	struct kvm_irq_level arg = {.irq = gsi, .level = level};
	if (irq->pins)
		arch_pins_set(irq->pins, gsi, level);
	else
		vm_ioctl(irq->vm->fd, KVM_IRQ_LINE, &arg);
}

int irq_msi_send(struct irq *irq, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data};
	return (int)vm_ioctl(irq->vm->fd, KVM_SIGNAL_MSI, &msi);
}

int irq_detach_all(struct irq *irq, struct error *err)
{
	int rc = 0;
	pthread_mutex_lock(&irq->lock);
	irq->live = false;
	for (struct irq_source *s = irq->sources; s && !rc; s = s->next)
		rc = detach(irq, s, err);
	pthread_mutex_unlock(&irq->lock);
	return rc;
}

/* After commit there is no way back: what fails once is tried again. Where KVM refuses it for now, what the source has
 * counted is injected, the operator is told, and irq_attach_missing() tries further. */
static void attach_or_inject(struct irq *irq, struct irq_source *src)
{
	struct error err;
	for (int tries = 0; tries < TRIES; tries++)
		if (!attach(irq, src, &err))
			return;
	log_error(&err);
	irq->missing = true;
	uint64_t count;
	if (is_line(irq, src) || read(src->fd, &count, sizeof(count)) != sizeof(count))
		return;
	if (src->kind == IRQ_MSI) {
		irq_msi_send(irq, irq->pins ? arch_pins_msi_addr(src->msi_addr) : src->msi_addr,
			     src->msi_data);
	} else {
		irq_pin(irq, src->gsi, true);
		irq_pin(irq, src->gsi, false);
	}
}

/* Has the device's driver unmask the line, and look at it again. Without this the device would stay mute. */
static void unmask(const struct irq_source *src)
{
	const uint64_t one = 1;
	for (int tries = 0; tries < TRIES; tries++)
		if (write(src->unmask_fd, &one, sizeof(one)) == sizeof(one))
			return;
	log_warn("GSI %u: its unmask eventfd cannot be written: %s", src->gsi, strerror(errno));
}

void irq_attach_all(struct irq *irq, enum irq_kind kind)
{
	struct error err;
	pthread_mutex_lock(&irq->lock);
	irq->live = true;
	/* The guest may have changed routes while all were off. */
	if (kind == IRQ_MSI && irq_routes_commit(irq, &err))
		log_error(&err);
	for (struct irq_source *s = irq->sources; s; s = s->next) {
		if (!s->wanted || s->kind != kind)
			continue;
		/* A line that was signalled meanwhile is unmasked by the guest's EOI. Before that it would be signalled
		 * once more, and the guest interrupted twice. */
		bool pending = kind == IRQ_LEVEL && irq_pending(s);
		attach_or_inject(irq, s);
		/* With pins of ours an update loses nothing: a pin that is raised is state. */
		if (kind == IRQ_LEVEL && !irq->pins && !(pending && s->attached))
			unmask(s);
	}
	pthread_mutex_unlock(&irq->lock);
}

void irq_attach_missing(struct irq *irq)
{
	struct error err;
	pthread_mutex_lock(&irq->lock);
	irq->missing = false;
	for (struct irq_source *s = irq->sources; s && irq->live; s = s->next) {
		if (!s->wanted || s->attached)
			continue;
		if (attach(irq, s, &err))
			irq->missing = true;
		else if (s->kind == IRQ_LEVEL && !irq->pins)
			unmask(s);
	}
	pthread_mutex_unlock(&irq->lock);
}

void irq_lines_fired(void *opaque, uint32_t events)
{
	struct irq *irq = opaque;
	struct epoll_event ev[16];
	int n = epoll_wait(irq->lines_fd, ev, ARRAY_LEN(ev), 0);
	for (int i = 0; i < n; i++) {
		const struct irq_source *src = ev[i].data.ptr;
		uint64_t count;
		if (read(src->fd, &count, sizeof(count)) == sizeof(count))
			arch_pins_raise(irq->pins, src->gsi);
	}
}

/* All devices that share the pin look again, whether they have raised it or not; KVM does the same. A source that is
 * off for an update is one of them. */
void irq_eoi(struct irq *irq, uint8_t vector)
{
	uint32_t ended = irq->pins ? arch_pins_eoi(irq->pins, vector) : 0;
	for (struct irq_source *s = irq->sources; s && ended; s = s->next)
		if (s->kind == IRQ_LEVEL && s->wanted && ended >> s->gsi & 1)
			unmask(s);
}
