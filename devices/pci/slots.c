/* SPDX-License-Identifier: MIT */
/*
 * Slots that the guest may be asked to give up. Two registers of a bit for each slot, which the guest's ACPI code uses
 * (vmm/arch/x86_64/slot.asl). ASK: the host wants the device back. A bit in it raises the interrupt, until the guest
 * has passed it on to its kernel, and cleared it. GO: written by the guest when its driver has let go of the device.
 * From then on the slot is empty, also after a reboot of the guest.
 */
#include "devices/pci/pci.h"
#include "vmm/machine.h"

enum { ASK = 0, GO = 4, LEN = 8 };

#define S struct pci_slots_state
static const struct field slots_fields[] = {
	FIELD_U(S, ask),
	FIELD_U(S, gone),
	FIELD_ARRAY(S, asked_s),
};
#undef S
static STATE_CLASS(slots_state_class, "pci-slots", 1, struct pci_slots_state, slots_fields);

static unsigned slot_of(const struct pci_dev *dev)
{
	return dev->state->devfn >> 3 & (PCI_SLOTS - 1);
}

static struct pci_slots *slots_of(struct machine *m)
{
	return (struct pci_slots *)machine_device(m, "pci-slots", NULL);
}

/* A level: levels of pins are not in the state of KVM's interrupt controllers. */
static void update_pin(struct pci_slots *slots)
{
	struct arch_pci_layout l;
	arch_pci_layout(slots->dev.m, &l);
	irq_pin(&slots->dev.m->irq, l.slots_gsi, slots->state.ask);
}

int pci_slot_may_go(struct pci_dev *dev, struct error *err)
{
	struct machine *m = dev->owner->m;
	dev->may_go = true;
	m->eject_slots |= 1u << slot_of(dev);
	return slots_of(m) ? 0 : machine_add_device(m, &pci_slots_class, NULL, err);
}

bool pci_slot_gone(const struct pci_dev *dev)
{
	return dev->may_go && dev->owner->m->gone_slots >> slot_of(dev) & 1;
}

uint64_t pci_slot_ask(struct pci_dev *dev)
{
	struct pci_slots *slots = slots_of(dev->owner->m);
	uint64_t *asked_s = &slots->state.asked_s[slot_of(dev)];
	if (!*asked_s)
		*asked_s = boot_s();
	slots->state.ask |= 1u << slot_of(dev);
	update_pin(slots);
	return boot_s() - *asked_s;
}

/* The guest gives up @slots. Those that nobody wants stay. */
static void give_up(struct machine *m, uint32_t slots)
{
	struct pci_host *host = (struct pci_host *)machine_device(m, "pci-host", NULL);
	for (unsigned i = 0; i < host->ndevs; i++) {
		struct pci_dev *dev = host->devs[i];
		uint32_t bit = 1u << slot_of(dev);
		if (dev->may_go && slots & bit & ~m->gone_slots && dev->ops->eject(dev))
			m->gone_slots |= bit;
	}
}

static void slots_access(void *opaque, struct bus_access *access)
{
	struct pci_slots *slots = opaque;
	if (access->len != 4 || access->offset & 3)
		return;
	if (!access->write) {
		access->value = access->offset == ASK ? slots->state.ask : 0;
	} else if (access->offset == ASK) {
		slots->state.ask &= ~(uint32_t)access->value;
		update_pin(slots);
	} else {
		give_up(slots->dev.m, (uint32_t)access->value);
	}
}

static int slots_realize(struct device *dev, struct error *err)
{
	struct arch_pci_layout l;
	arch_pci_layout(dev->m, &l);
	struct bus_region regs = {l.slots_port, LEN, "pci-slots", slots_access, dev};
	return bus_add(&dev->m->pio, &regs, err);
}

static int slots_pre_save(void *opaque, struct error *err)
{
	struct pci_slots *slots = opaque;
	slots->state.gone = slots->dev.m->gone_slots;
	return 0;
}

static int slots_post_load(void *opaque, struct error *err)
{
	struct pci_slots *slots = opaque;
	slots->dev.m->gone_slots = slots->state.gone;
	return 0;
}

/* Where the devices are is in their own states. */
static int slots_loaded(struct device *base, struct error *err)
{
	const struct pci_slots *slots = (struct pci_slots *)base;
	struct pci_host *host = (struct pci_host *)machine_device(base->m, "pci-host", NULL);
	uint32_t may_go = 0;
	for (unsigned i = 0; i < host->ndevs; i++)
		may_go |= (uint32_t)host->devs[i]->may_go << slot_of(host->devs[i]);
	if (!((slots->state.ask | slots->state.gone) & ~may_go))
		return 0;
	return error_set(err, EBADMSG, "pci-slots: slots 0x%x asked for, 0x%x gone of 0x%x",
			 slots->state.ask, slots->state.gone, may_go);
}

static int slots_start(struct device *dev, struct error *err)
{
	update_pin((struct pci_slots *)dev);
	return 0;
}

const struct device_class pci_slots_class = {
	.name = "pci-slots",
	.state = &slots_state_class,
	.size = sizeof(struct pci_slots),
	.state_offset = offsetof(struct pci_slots, state),
	.realize = slots_realize,
	.pre_save = slots_pre_save,
	.post_load = slots_post_load,
	.loaded = slots_loaded,
	.start = slots_start,
};
