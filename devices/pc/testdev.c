/* SPDX-License-Identifier: MIT */
/*
 * A PCI device for tests: does without hardware what a passed-through device does. The parent
 * process holds its interrupt; its registers show an access done twice or not at all. BAR 0, 4 KiB:
 *
 *   0x000  32 bits, read: a counter, which the read increments
 *   0x008  64 bits: keeps what was written; parts of it may be accessed
 *   0x010  32 bits, read: how many accesses were made to register 8
 *   0x014  32 bits, write: signals the trigger, as a device's own interrupt does
 *   0x018  32 bits, write: a call that the sandbox forbids (getppid; of 1: an ioctl)
 *   0x800  MSI-X table, 1 vector       0xc00  its pending bits
 *
 * trigger= alone makes MSI-X with one vector; with unmask=, INTA.
 */

#include <limits.h>
#include <linux/pci_regs.h>
#include <sys/ioctl.h>

#include "devices/pci/msi.h"
#include "devices/pci/pci.h"
#include "vmm/machine.h"

#define BAR_LEN	    4096
#define REG_COUNTER 0x000
#define REG_SCRATCH 0x008
#define REG_TOUCHED 0x010
#define REG_RAISE   0x014
#define REG_FORBID  0x018
#define TABLE_OFF   0x800
#define PBA_OFF	    0xc00
#define MSIX_CAP    0x40
#define PIN_INTA    1

struct testdev_state {
	struct pci_state pci;
	struct msix_state msix;
	uint64_t scratch;
	uint32_t counter;
	uint32_t touched;
};

static const struct field testdev_fields[] = {
	PCI_STATE_FIELDS(struct testdev_state, pci), MSIX_STATE_FIELDS(struct testdev_state, msix),
	FIELD_U(struct testdev_state, scratch),	     FIELD_U(struct testdev_state, counter),
	FIELD_U(struct testdev_state, touched),
};
static STATE_CLASS(testdev_state_class, "testdev", 1, struct testdev_state, testdev_fields);

struct testdev {
	struct device dev;
	struct pci_dev pci;
	unsigned index;
	int trigger_arg, unmask_arg; /* numbers from the option; -1: not given */
	int trigger_fd;
	bool level;
	struct msix msix;
	struct irq_source intx;
	struct testdev_state state;
};

static void registers_access(struct testdev *dev, struct bus_access *access)
{
	struct testdev_state *s = &dev->state;
	uint64_t off = access->offset;
	if (off >= REG_SCRATCH && range_fits(off - REG_SCRATCH, access->len, 8)) {
		uint8_t *bytes = (uint8_t *)&s->scratch + (off - REG_SCRATCH);
		s->touched++;
		if (access->write)
			store_le(bytes, access->value, access->len);
		else
			access->value = load_le(bytes, access->len);
	} else if (access->write) {
		if (off == REG_RAISE)
			fd_write_all(dev->trigger_fd, &(const uint64_t){1}, 8);
		else if (off == REG_FORBID && access->value == 1)
			ioctl(-1, FIONREAD, NULL);
		else if (off == REG_FORBID)
			getppid();
	} else {
		access->value = 0;
		if (off == REG_COUNTER)
			access->value = s->counter++;
		else if (off == REG_TOUCHED)
			access->value = s->touched;
	}
}

static void bar_access(void *opaque, struct bus_access *access)
{
	struct testdev *dev = opaque;
	if (dev->level || !msix_access(&dev->msix, 0, access->offset, access))
		registers_access(dev, access);
}

static int testdev_bar_map(struct pci_dev *pci, unsigned bar, uint64_t addr, struct error *err)
{
	struct bus_region r = {addr, BAR_LEN, pci->owner->name, bar_access, pci->owner};
	return bus_add(&pci->owner->m->mmio, &r, err);
}

static void testdev_bar_unmap(struct pci_dev *pci, unsigned bar, uint64_t addr)
{
	bus_remove(&pci->owner->m->mmio, addr, pci->owner);
}

static int intx_update(struct testdev *dev, struct error *err)
{
	bool on = !(pci_config_get(&dev->pci, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);
	if (dev->intx.wanted != on)
		irq_want(&dev->dev.m->irq, &dev->intx, on);
	return irq_apply(&dev->dev.m->irq, err);
}

static void testdev_config_write(struct pci_dev *pci, unsigned off, unsigned len, uint32_t val)
{
	struct testdev *dev = (struct testdev *)pci->owner;
	struct error err = {0};
	pci_config_write(pci, off, len, val);
	if (dev->level && intx_update(dev, &err) && log_guest_ok(&pci->complaints, 5))
		log_error(&err);
}

static const struct pci_ops testdev_pci_ops = {
	.config_write = testdev_config_write,
	.bar_map = testdev_bar_map,
	.bar_unmap = testdev_bar_unmap,
};

static int usage_error(const char *arg, struct error *err)
{
	return error_end(err, EXIT_USAGE, EINVAL, "--testdev %s: expected trigger=FD[,unmask=FD]",
			 arg);
}

static int parse_arg(struct testdev *dev, const char *arg, struct error *err)
{
	int used = 0;
	dev->unmask_arg = -1;
	if (sscanf(arg, "trigger=%9d%n", &dev->trigger_arg, &used) != 1)
		return usage_error(arg, err);
	arg += used;
	if (*arg && (sscanf(arg, ",unmask=%9d%n", &dev->unmask_arg, &used) != 1 || arg[used]))
		return usage_error(arg, err);
	dev->level = *arg;
	if (dev->trigger_arg < 0 || (dev->level && dev->unmask_arg < 0))
		return usage_error(arg, err);
	return 0;
}

static int testdev_init(struct device *base, const char *arg, struct error *err)
{
	struct testdev *dev = (struct testdev *)base;
	dev->intx = (struct irq_source){.kind = IRQ_LEVEL, .fd = -1, .unmask_fd = -1};
	for (struct device *d = NULL; (d = machine_device(base->m, "testdev", d));)
		dev->index++;
	snprintf(base->name, sizeof(base->name), "testdev%u", dev->index);
	snprintf(base->node, sizeof(base->node), "testdev@%u", dev->index);
	return parse_arg(dev, arg, err)
		       ?: pci_dev_init(&dev->pci, base, &testdev_pci_ops, &dev->state.pci, err);
}

static bool eventfd_kept(struct testdev *dev, const char *what, int *fd)
{
	char name[FDSET_NAME_LEN];
	snprintf(name, sizeof(name), "%s:%s", dev->dev.name, what);
	int kept = fdset_get(&dev->dev.m->fds, name);
	if (kept >= 0)
		*fd = kept;
	return kept >= 0;
}

/* A kept descriptor, or the one the parent gave by number, which must be an eventfd. */
static int eventfd_open(struct testdev *dev, const char *what, int number, int *fd,
			struct error *err)
{
	char name[FDSET_NAME_LEN], path[64], target[PATH_MAX];
	if (eventfd_kept(dev, what, fd))
		return 0;
	snprintf(name, sizeof(name), "%s:%s", dev->dev.name, what);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = 0;
	if (strcmp(target, "anon_inode:[eventfd]"))
		return error_end(err, EXIT_USAGE, EBADF, "%s: %s=%d is not an inherited eventfd",
				 dev->dev.name, what, number);
	*fd = number;
	int rc = fd_set_cloexec(number, true) ?: fd_set_nonblock(number, true);
	if (rc)
		return error_errno(err, -rc, "%s: %s=%d", dev->dev.name, what, number);
	return fdset_keep(&dev->dev.m->fds, name, number, err);
}

static int testdev_open(struct device *base, struct error *err)
{
	struct testdev *dev = (struct testdev *)base;
	int rc = eventfd_open(dev, "trigger", dev->trigger_arg, &dev->trigger_fd, err);
	if (!rc && dev->level)
		rc = eventfd_open(dev, "unmask", dev->unmask_arg, &dev->intx.unmask_fd, err);
	dev->intx.fd = dev->trigger_fd;
	return rc;
}

/* Hands the eventfd to the interrupt code: the state says whether it is delivered. */
static int connect_irq(struct device *base, struct error *err)
{
	struct testdev *dev = (struct testdev *)base;
	if (!dev->level) {
		pci_vector_set_fd(&dev->msix.vec, 0, dev->trigger_fd);
		msix_update(&dev->msix);
		return 0;
	}
	irq_remove(&dev->dev.m->irq, &dev->intx); /* a state that is loaded again */
	dev->intx.gsi = pci_intx_gsi(&dev->pci, PIN_INTA);
	irq_add(&dev->dev.m->irq, &dev->intx);
	return intx_update(dev, err);
}

/* By name, as each state that is loaded may come with other descriptors. */
static void eventfds_take(struct testdev *dev)
{
	if (eventfd_kept(dev, "trigger", &dev->trigger_fd))
		dev->intx.fd = dev->trigger_fd;
	eventfd_kept(dev, "unmask", &dev->intx.unmask_fd);
}

static int testdev_post_load(void *opaque, struct error *err)
{
	struct testdev *dev = opaque;
	eventfds_take(dev);
	int rc = pci_dev_load(&dev->pci, err);
	if (!rc && !dev->level)
		rc = msix_load(&dev->msix, err);
	return rc ? rc : connect_irq(opaque, err);
}

static int testdev_realize(struct device *base, struct error *err)
{
	struct testdev *dev = (struct testdev *)base;
	struct pci_dev *pci = &dev->pci;
	pci_config_set(pci, PCI_VENDOR_ID, 2, PCI_VENDOR_MOLT);
	pci_config_set(pci, PCI_DEVICE_ID, 2, PCI_DEVICE_MOLT_TESTDEV);
	pci_config_set(pci, PCI_CLASS_DEVICE, 2, 0xff00); /* no defined class */
	int rc = pci_bar_add(pci, 0, 0, BAR_LEN, err);
	if (!rc && dev->level) {
		pci_config_set(pci, PCI_INTERRUPT_PIN, 1, PIN_INTA);
	} else if (!rc) {
		pci_config_set(pci, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
		pci_config_set(pci, PCI_CAPABILITY_LIST, 1, MSIX_CAP);
		msix_cap_write(pci, MSIX_CAP, 1, 0, TABLE_OFF, PBA_OFF);
		rc = msix_init(&dev->msix, pci, MSIX_CAP, &dev->state.msix, err);
	}
	return rc;
}

static void testdev_destroy(struct device *base)
{
	struct testdev *dev = (struct testdev *)base;
	irq_remove(&base->m->irq, &dev->intx);
	if (!dev->level)
		pci_vectors_free(&dev->msix.vec);
}

const struct device_class testdev_class = {
	.name = "testdev",
	.state = &testdev_state_class,
	.size = sizeof(struct testdev),
	.state_offset = offsetof(struct testdev, state),
	.init = testdev_init,
	.post_load = testdev_post_load,
	.open = testdev_open,
	.realize = testdev_realize,
	.reset = connect_irq,
	.destroy = testdev_destroy,
};
