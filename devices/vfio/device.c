/* SPDX-License-Identifier: MIT */
/* One passed-through PCI device: its descriptor, its life cycle. */
#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

static const struct field vfio_fields[] = {
	PCI_STATE_FIELDS(struct vfio_state, pci),
	MSIX_STATE_FIELDS(struct vfio_state, msix),
	MSI_STATE_FIELDS(struct vfio_state, msi),
	FIELD_U(struct vfio_state, ident),
	FIELD_U(struct vfio_state, irq_mode),
	FIELD_U(struct vfio_state, irq_vectors),
	FIELD_RAW_SINCE(struct vfio_state, irq_unused, 2),
	FIELD_U_SINCE(struct vfio_state, unmask_by_call, 2, 0),
	FIELD_U_SINCE(struct vfio_state, trouble, 2, 0),
	VFIO_ANSWERS_FIELDS(struct vfio_state, answers, 2),
};
static STATE_CLASS(vfio_state_class, "vfio", 2, struct vfio_state, vfio_fields);

static const struct pci_ops vfio_pci_ops = {
	.config_read = vfio_config_read,
	.config_write = vfio_config_write,
	.bar_map = vfio_bar_map,
	.bar_unmap = vfio_bar_unmap,
	.eject = vfio_eject,
};

static int find_container(struct machine *m, struct vfio_container **out, struct error *err)
{
	*out = (struct vfio_container *)machine_device(m, "vfio-container", NULL);
	if (*out)
		return 0;
	int rc = machine_add_device(m, &vfio_container_class, NULL, err);
	*out = (struct vfio_container *)machine_device(m, "vfio-container", NULL);
	return rc;
}

struct vfio_dev *vfio_find(struct machine *m, const char *id)
{
	struct device *d = NULL;
	while ((d = machine_device(m, "vfio", d)) && strcmp(((struct vfio_dev *)d)->id, id))
		;
	return (struct vfio_dev *)d;
}

/* Functions of one device of the host are functions of one slot in the guest: some drivers look for the others
 * there. A slot has a function 0, so that one is given first. Virtual functions are devices of their own; what may be
 * ejected goes with its slot. */
static void join_slot(struct vfio_dev *dev)
{
	char first[VFIO_ID_LEN];
	size_t last = strlen(dev->id) - 1;
	memcpy(first, dev->id, sizeof(first));
	first[last] = '0';
	const struct vfio_dev *fn0 = vfio_find(dev->dev.m, first);
	if (fn0 && first[last - 1] == '.' && !dev->own_slot && !fn0->own_slot &&
	    fn0->unbind != VFIO_UNBIND_EJECT && !vfio_is_virtual(dev->id))
		pci_dev_join(&dev->pci, &fn0->pci, (unsigned)(dev->id[last] - '0'));
}

static int vfio_init(struct device *base, const char *arg, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	struct machine *m = base->m;
	dev->fd = dev->intx_trigger = -1;
	for (unsigned i = 0; i < VFIO_TROUBLES; i++)
		dev->trouble_fd[i] = -1;
	int rc = vfio_option(dev, arg, err);
	snprintf(base->name, sizeof(base->name), "vfio %s", dev->id);
	snprintf(base->node, sizeof(base->node), "vfio@%s", dev->id);
	for (char *c = base->node; *c; c++)
		if (*c == ':') /* no character of a device tree's names */
			*c = ',';
	if (!rc && vfio_find(m, dev->id))
		rc = error_end(err, EXIT_USAGE, EEXIST, "--vfio %s is given twice", dev->id);
	if (!rc)
		rc = find_container(m, &dev->container, err);
	if (!rc)
		rc = pci_dev_init(&dev->pci, base, &vfio_pci_ops, &dev->state.pci, err);
	if (!rc && dev->unbind == VFIO_UNBIND_EJECT)
		rc = pci_slot_may_go(&dev->pci, err);
	else if (!rc)
		join_slot(dev);
	return rc;
}

static int vfio_open(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	char name[FDSET_NAME_LEN];

	snprintf(name, sizeof(name), "vfio:%s", dev->id);
	dev->fd = fdset_get(&base->m->fds, name);
	/* Of a guest that is taken over the state says whether the device is gone, once it is loaded. */
	if (dev->fd >= 0 || !base->m->fresh || pci_slot_gone(&dev->pci))
		return 0;
	int fd = dev->container->iommu->open_device(dev->container, dev, err); /* close-on-exec */
	if (fd < 0)
		return fd;
	int rc = fdset_keep(&base->m->fds, name, fd, err);
	if (rc) {
		close(fd);
		return rc;
	}
	dev->fd = fd;
	return vfio_p2p_init(dev, err);
}

static int vfio_post_load(void *opaque, struct error *err)
{
	struct vfio_dev *dev = opaque;
	if (dev->fd < 0)
		return vfio_gone_load(dev, err);
	dev->dev.leaving = pci_slot_gone(&dev->pci);
	return vfio_answers_load(dev, err)
			 ?: pci_dev_load(&dev->pci, err)
			 ?: vfio_irq_load(dev, err)
			 ?: vfio_trouble_load(dev, err);
}

/* A new guest's device is asked what it is. For one that is taken over the state says it, once it is loaded. */
static int vfio_realize(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	int rc = base->m->fresh && dev->fd >= 0 ? vfio_answers_ask(dev, err) : 0;
	vfio_irq_init(dev);
	return rc;
}

static void reset_hardware(struct vfio_dev *dev)
{
	struct error err = {0};
	if (dev->noreset || dev->was_reset)
		return;
	if (dev->answers.traits & VFIO_TRAIT_RESET) {
		long rc = vm_ioctl(dev->fd, VFIO_DEVICE_RESET, NULL);
		if (rc < 0)
			log_warn("%s: resetting the device: %s", dev->dev.name, strerror((int)-rc));
	} else if (vfio_hot_reset(dev, &err)) {
		log_warn("%s: the device has no reset of its own, and %s: it starts as it was "
			 "left%s%s",
			 dev->dev.name, err.text, err.hint[0] ? "; remedy: " : "", err.hint);
	}
}

static int vfio_reset(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	if (dev->fd < 0) {
		base->trouble = VFIO_EJECTED;
		return 0;
	}
	reset_hardware(dev);
	return vfio_config_reset(dev, err);
}

static int vfio_check(struct device *base, struct error *err)
{
	return vfio_p2p_check((struct vfio_dev *)base, err);
}

static int vfio_start(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	int rc = vfio_irq_start(dev, err);
	return rc || !base->m->fresh || dev->fd < 0 ? rc : vfio_trouble_start(dev, err);
}

/* Closes no descriptor: the table of kept ones owns them, and a successor uses them as well. */
static void vfio_destroy(struct device *base)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	vfio_intx_remove(dev);
	vfio_trouble_end(dev);
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
	.check = vfio_check,
	.release = vfio_release,
	.destroy = vfio_destroy,
};
