/* SPDX-License-Identifier: MIT */
/* In-kernel PIC, IOAPIC, PIT and the paravirtual clock: created, saved, loaded. */
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

int arch_create_irqchip(struct machine *m, struct error *err)
{
	const int fd = m->vm.fd;
	uint64_t map = LAYOUT_IDENTITY_GPA;

	/* Intel hosts without unrestricted guest run real mode with these pages; elsewhere they are
	 * accepted and unused (api.rst, KVM_SET_TSS_ADDR). */
	return vm_call(fd, KVM_SET_IDENTITY_MAP_ADDR, &map, err, "KVM_SET_IDENTITY_MAP_ADDR")
		       ?: vm_call(fd, KVM_SET_TSS_ADDR, (void *)LAYOUT_TSS, err, "KVM_SET_TSS_ADDR")
		       ?: vm_call(fd, KVM_CREATE_IRQCHIP, NULL, err, "KVM_CREATE_IRQCHIP");
}

int arch_create_timers(struct machine *m, struct error *err)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	/* Ticks that a guest missed are not made up for: KVM watches each of them otherwise, and keeps AMD's AVIC,
	 * with it interrupts that devices post to the guest, off for that. */
	struct kvm_reinject_control reinject = {.pit_reinject = 0};
	return vm_call(m->vm.fd, KVM_CREATE_PIT2, &pit, err, "KVM_CREATE_PIT2")
		       ?: vm_call(m->vm.fd, KVM_REINJECT_CONTROL, &reinject, err,
				  "KVM_REINJECT_CONTROL");
}

int arch_save(struct machine *m, struct error *err)
{
	struct x86_state *s = &m->arch->state;
	for (uint32_t i = 0; i < 3; i++) {
		s->irqchip[i].chip_id = i;
		int rc = vm_call(m->vm.fd, KVM_GET_IRQCHIP, &s->irqchip[i], err,
				 "KVM_GET_IRQCHIP %u", i);
		if (rc < 0)
			return rc;
	}
	/* Channel 0 starts its count anew when this is set: count_load_time is always 0. */
	int rc = vm_call(m->vm.fd, KVM_GET_PIT2, &s->pit, err, "KVM_GET_PIT2")
			 ?: vm_call(m->vm.fd, KVM_GET_CLOCK, &s->clock, err, "KVM_GET_CLOCK");
	s->clock_boottime_ns = clock_ns(CLOCK_BOOTTIME);
	return rc;
}

/* The guest's clock goes on through the pause: KVM adds the real time that passed where it gave one
 * when it was read; else the time since boot is added here (docs/kernel-facts.md). */
static int load_clock(struct machine *m, struct error *err)
{
	const struct x86_state *s = &m->arch->state;
	struct kvm_clock_data c = {.clock = s->clock.clock};
	if (s->clock.flags & KVM_CLOCK_REALTIME) {
		c.flags = KVM_CLOCK_REALTIME;
		c.realtime = s->clock.realtime;
	} else {
		c.clock += clock_ns(CLOCK_BOOTTIME) - s->clock_boottime_ns;
	}
	return vm_call(m->vm.fd, KVM_SET_CLOCK, &c, err, "KVM_SET_CLOCK");
}

static int set_irqchips(struct machine *m, struct kvm_irqchip chips[3], struct error *err)
{
	for (uint32_t i = 0; i < 3; i++) {
		if (chips[i].chip_id != i)
			return error_set(err, EBADMSG, "state x86.irqchip: chip %u stands at %u",
					 chips[i].chip_id, i);
		int rc =
			vm_call(m->vm.fd, KVM_SET_IRQCHIP, &chips[i], err, "KVM_SET_IRQCHIP %u", i);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int arch_load(struct machine *m, struct error *err)
{
	struct x86_state *s = &m->arch->state;
	return set_irqchips(m, s->irqchip, err)
		       ?: vm_call(m->vm.fd, KVM_SET_PIT2, &s->pit, err, "KVM_SET_PIT2")
		       ?: load_clock(m, err);
}

#define PIT_MODE_NONE                                                                              \
	0xff /* as after reset: KVM stops the timer (arch/x86/kvm/i8254.c, pit_load_count) */

int arch_rehearse(struct machine *m, struct error *err)
{
	struct x86_state s = m->arch->state;
	s.irqchip[0].chip.pic.irr = s.irqchip[1].chip.pic.irr = 0;
	s.irqchip[2].chip.ioapic.irr = 0;
	s.pit.channels[0].mode = PIT_MODE_NONE;
	return set_irqchips(m, s.irqchip, err)
		       ?: vm_call(m->vm.fd, KVM_SET_PIT2, &s.pit, err, "KVM_SET_PIT2");
}
