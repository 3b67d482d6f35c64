/* SPDX-License-Identifier: MIT */
/* One passed-through PCI device: its option, its descriptor, its life cycle. */
#include <linux/pci_regs.h>

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

static const struct field vfio_fields[] = {
	PCI_STATE_FIELDS(struct vfio_state, pci),
	MSIX_STATE_FIELDS(struct vfio_state, msix),
	MSI_STATE_FIELDS(struct vfio_state, msi),
	FIELD_U(struct vfio_state, ident),
	FIELD_U(struct vfio_state, irq_mode),
	FIELD_U(struct vfio_state, irq_vectors),
	VFIO_ANSWERS_FIELDS(struct vfio_state, answers, 2),
};
static STATE_CLASS(vfio_state_class, "vfio", 2, struct vfio_state, vfio_fields);

static const struct pci_ops vfio_pci_ops = {
	.config_read = vfio_config_read,
	.config_write = vfio_config_write,
	.bar_map = vfio_bar_map,
	.bar_unmap = vfio_bar_unmap,
};

static int usage_error(const char *arg, struct error *err)
{
	error_end(err, EXIT_USAGE, EINVAL, "--vfio %s: expected BDF[,rom=on|off]", arg);
	return error_hint(err,
			  "a PCI address such as 0000:00:05.0 or 00:05.0 (lspci -D lists them)");
}

static int parse_arg(struct vfio_dev *dev, const char *arg, struct error *err)
{
	unsigned domain = 0, bus, slot, fn;
	int used = 0;
	if (sscanf(arg, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &fn, &used) != 4 || !used) {
		domain = 0;
		if (sscanf(arg, "%2x:%2x.%1x%n", &bus, &slot, &fn, &used) != 3 || !used)
			return usage_error(arg, err);
	}
	if (slot > 31 || fn > 7)
		return usage_error(arg, err);
	snprintf(dev->bdf, sizeof(dev->bdf), "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, slot,
		 fn);
	const char *rest = arg + used;
	if (!strcmp(rest, "") || !strcmp(rest, ",rom=on"))
		dev->rom = true;
	else if (strcmp(rest, ",rom=off"))
		return usage_error(arg, err);
	return 0;
}

static int find_container(struct machine *m, struct vfio_container **out, struct error *err)
{
	*out = (struct vfio_container *)machine_device(m, "vfio-container", NULL);
	if (*out)
		return 0;
	int rc = machine_add_device(m, &vfio_container_class, NULL, err);
	*out = (struct vfio_container *)machine_device(m, "vfio-container", NULL);
	return rc;
}

static int vfio_init(struct device *base, const char *arg, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	struct machine *m = base->m;
	dev->fd = -1;
	int rc = parse_arg(dev, arg, err);
	snprintf(base->name, sizeof(base->name), "vfio %s", dev->bdf);
	snprintf(base->node, sizeof(base->node), "vfio@%s", dev->bdf);
	for (char *c = base->node; *c; c++)
		if (*c == ':') /* no character of a device tree's names */
			*c = ',';
	struct device *other = NULL;
	while (!rc && (other = machine_device(m, "vfio", other)))
		if (!strcmp(((struct vfio_dev *)other)->bdf, dev->bdf))
			rc = error_end(err, EXIT_USAGE, EEXIST, "--vfio %s is given twice",
				       dev->bdf);
	if (!rc)
		rc = find_container(m, &dev->container, err);
	return rc ? rc : pci_dev_init(&dev->pci, base, &vfio_pci_ops, &dev->state.pci, err);
}

static int vfio_open(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	char name[FDSET_NAME_LEN];
	unsigned group;

	snprintf(name, sizeof(name), "vfio:%s", dev->bdf);
	dev->fd = fdset_get(&base->m->fds, name);
	if (dev->fd >= 0)
		return 0;
	if (!base->m->fresh)
		return error_set(err, EBADMSG, "%s: descriptor %s was not handed over", base->name,
				 name);
	int rc = vfio_explain_device(dev->bdf, &group, err);
	if (rc)
		return rc;
	int group_fd = vfio_container_group(dev->container, group, dev->bdf, err);
	if (group_fd < 0)
		return group_fd;
	long fd = vm_ioctl(group_fd, VFIO_GROUP_GET_DEVICE_FD, dev->bdf);
	if (fd < 0)
		return vfio_explain_open(dev->bdf, group, (int)-fd, err);
	dev->fd = (int)fd; /* the kernel opens it close-on-exec */
	return fdset_keep(&base->m->fds, name, dev->fd, err);
}

static int vfio_post_load(void *opaque, struct error *err)
{
	struct vfio_dev *dev = opaque;
	return vfio_answers_load(dev, err)
			 ?: pci_dev_load(&dev->pci, err)
			 ?: vfio_irq_load(dev, err);
}

/* A device that is taken over is made when its state is loaded, which says what it is. */
static int vfio_realize(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	int rc = base->m->fresh ? vfio_answers_ask(dev, err) : 0;
	vfio_irq_init(dev);
	return rc;
}

static int vfio_reset(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	long rc = dev->answers.can_reset ? vm_ioctl(dev->fd, VFIO_DEVICE_RESET, NULL) : 0;
	if (rc < 0)
		log_warn("%s: resetting the device: %s", base->name, strerror((int)-rc));
	else if (!dev->answers.can_reset)
		log_warn("%s: the device has no reset of its own: it starts as it was left",
			 base->name);
	return vfio_config_reset(dev, err);
}

static int vfio_start(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	return base->m->fresh ? vfio_irq_start(dev, err) : 0;
}

/* Descriptors stay: they belong to the table of kept ones, and a successor may still want them. */
static void vfio_destroy(struct device *base)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	irq_remove(&base->m->irq, &dev->intx);
	if (dev->msix.pci)
		pci_vectors_free(&dev->msix.vec);
	if (dev->msi.pci)
		pci_vectors_free(&dev->msi.vec);
	vfio_regions_free(dev);
}

const struct device_class vfio_class = {
	.name = "vfio",
	.state = &vfio_state_class,
	.size = sizeof(struct vfio_dev),
	.state_offset = offsetof(struct vfio_dev, state),
	.init = vfio_init,
	.post_load = vfio_post_load,
	.open = vfio_open,
	.realize = vfio_realize,
	.reset = vfio_reset,
	.start = vfio_start,
	.destroy = vfio_destroy,
};
