/* SPDX-License-Identifier: MIT */
/* One passed-through PCI device: its option, its descriptor, its life cycle. */
#include <ctype.h>
#include <limits.h>
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
};

static int usage_error(const char *arg, struct error *err)
{
	error_end(err, EXIT_USAGE, EINVAL,
		  "--vfio %.200s: expected DEVICE[,rom=on|off][,iommu=type1|iommufd][,noreset]"
		  "[,unbind=wait|poweroff][,vf_token=UUID]",
		  arg);
	return error_hint(err,
			  "DEVICE is a PCI address such as 0000:00:05.0 or 00:05.0 (lspci -D lists "
			  "them), or mdev:UUID (ls /sys/bus/mdev/devices)");
}

/* A PCI address, with or without its domain, which may have more than four digits behind some bridges. */
static bool parse_bdf(struct vfio_dev *dev, const char *word)
{
	unsigned domain = 0, bus, slot, fn;
	int used = 0;
	if (sscanf(word, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &fn, &used) != 4 || !used) {
		domain = 0;
		if (sscanf(word, "%2x:%2x.%1x%n", &bus, &slot, &fn, &used) != 3 || !used)
			return false;
	}
	snprintf(dev->id, sizeof(dev->id), "%04x:%02x:%02x.%x", domain, bus & 0xff, slot, fn);
	return !word[used] && slot <= 31 && fn <= 7;
}

static bool is_uuid(const char *word)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	unsigned i = 0;
	while (form[i] && (form[i] == '-' ? word[i] == '-' : isxdigit((uint8_t)word[i])))
		i++;
	return !form[i] && !word[i];
}

/* A mediated device's UUID, in lower case as sysfs has it. */
static bool parse_uuid(struct vfio_dev *dev, const char *word)
{
	unsigned i = 0;
	if (!is_uuid(word))
		return false;
	for (; word[i]; i++)
		dev->id[i] = (char)tolower(word[i]);
	dev->id[i] = 0;
	return true;
}

static bool parse_token(struct vfio_dev *dev, const char *word)
{
	if (!is_uuid(word))
		return false;
	for (unsigned i = 0; i < sizeof(dev->token); word += 2) {
		word += *word == '-';
		sscanf(word, "%2hhx", &dev->token[i++]);
	}
	dev->has_token = true;
	return true;
}

/* The device as --vfio names it: an address, a UUID, or a path in sysfs, whose last part is either. */
static bool parse_device(struct vfio_dev *dev, char *word)
{
	size_t len = strlen(word);
	if (word[0] == '/') {
		while (len > 1 && word[len - 1] == '/')
			word[--len] = 0;
		word = strrchr(word, '/') + 1;
		return parse_uuid(dev, word) || parse_bdf(dev, word);
	}
	if (!strncmp(word, "mdev:", strlen("mdev:")))
		return parse_uuid(dev, word + strlen("mdev:"));
	return parse_bdf(dev, word);
}

static bool parse_word(struct vfio_dev *dev, const char *word)
{
	if (!strcmp(word, "rom=on") || !strcmp(word, "rom=off")) {
		dev->rom = !strcmp(word, "rom=on");
		return true;
	}
	if (!strcmp(word, "noreset")) {
		dev->noreset = true;
		return true;
	}
	if (!strcmp(word, "unbind=wait") || !strcmp(word, "unbind=poweroff")) {
		dev->give_back = !strcmp(word, "unbind=poweroff");
		return true;
	}
	if (!strncmp(word, "vf_token=", strlen("vf_token=")))
		return parse_token(dev, word + strlen("vf_token="));
	for (int i = 0; i < VFIO_IOMMU_KINDS; i++) {
		if (strncmp(word, "iommu=", strlen("iommu=")) ||
		    strcmp(word + strlen("iommu="), vfio_iommus[i]->name))
			continue;
		dev->iommu = i;
		return true;
	}
	return false;
}

static int parse_arg(struct vfio_dev *dev, const char *arg, struct error *err)
{
	char text[PATH_MAX], *rest = text;
	dev->rom = true;
	dev->iommu = -1;
	if ((size_t)snprintf(text, sizeof(text), "%s", arg) >= sizeof(text) ||
	    !parse_device(dev, strsep(&rest, ",")))
		return usage_error(arg, err);
	while (rest)
		if (!parse_word(dev, strsep(&rest, ",")))
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
	dev->fd = dev->intx_trigger = -1;
	for (unsigned i = 0; i < VFIO_TROUBLES; i++)
		dev->trouble_fd[i] = -1;
	int rc = parse_arg(dev, arg, err);
	snprintf(base->name, sizeof(base->name), "vfio %s", dev->id);
	snprintf(base->node, sizeof(base->node), "vfio@%s", dev->id);
	for (char *c = base->node; *c; c++)
		if (*c == ':') /* no character of a device tree's names */
			*c = ',';
	struct device *other = NULL;
	while (!rc && (other = machine_device(m, "vfio", other)))
		if (!strcmp(((struct vfio_dev *)other)->id, dev->id))
			rc = error_end(err, EXIT_USAGE, EEXIST, "--vfio %s is given twice",
				       dev->id);
	if (!rc)
		rc = find_container(m, &dev->container, err);
	return rc ? rc : pci_dev_init(&dev->pci, base, &vfio_pci_ops, &dev->state.pci, err);
}

static int vfio_open(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	char name[FDSET_NAME_LEN];

	snprintf(name, sizeof(name), "vfio:%s", dev->id);
	dev->fd = fdset_get(&base->m->fds, name);
	if (dev->fd >= 0)
		return 0;
	if (!base->m->fresh)
		return error_set(err, EBADMSG, "%s: descriptor %s was not handed over", base->name,
				 name);
	int fd = dev->container->iommu->open_device(dev->container, dev, err); /* close-on-exec */
	if (fd < 0)
		return fd;
	int rc = fdset_keep(&base->m->fds, name, fd, err);
	if (rc)
		close(fd);
	else
		dev->fd = fd;
	return rc;
}

static int vfio_post_load(void *opaque, struct error *err)
{
	struct vfio_dev *dev = opaque;
	return vfio_answers_load(dev, err)
			 ?: pci_dev_load(&dev->pci, err)
			 ?: vfio_irq_load(dev, err)
			 ?: vfio_trouble_load(dev, err);
}

/* A new guest's device is asked what it is. One that is taken over is made when its state is loaded, which says it. */
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
	bool reset = (dev->answers.traits & VFIO_TRAIT_RESET) && !dev->noreset;
	long rc = reset ? vm_ioctl(dev->fd, VFIO_DEVICE_RESET, NULL) : 0;
	if (rc < 0)
		log_warn("%s: resetting the device: %s", base->name, strerror((int)-rc));
	else if (!(dev->answers.traits & VFIO_TRAIT_RESET) && !dev->noreset)
		log_warn("%s: the device has no reset of its own: it starts as it was left",
			 base->name);
	return vfio_config_reset(dev, err);
}

static int vfio_start(struct device *base, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	int rc = vfio_irq_start(dev, err);
	return rc || !base->m->fresh ? rc : vfio_trouble_start(dev, err);
}

/* Closes no descriptor: they belong to the table of kept ones, and are a successor's as well. */
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
	.destroy = vfio_destroy,
};
