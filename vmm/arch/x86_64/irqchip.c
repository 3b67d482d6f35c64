/* SPDX-License-Identifier: MIT */
/* In-kernel PIC, IOAPIC, PIT and the paravirtual clock: created, saved, loaded. Machines with wide ids have the clock
 * alone (ioapic.c); Linux then has its ticks from the local APICs. */
#include <sys/epoll.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

static int check_host(const struct machine *m, struct error *err)
{
	const int wanted = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
	if (vm_has(&m->vm, KVM_CAP_SPLIT_IRQCHIP) &&
	    (vm_has(&m->vm, KVM_CAP_X2APIC_API) & wanted) == wanted)
		return 0;
	error_end(err, EXIT_HOST, ENOTSUP,
		  "%u vCPUs: this host's KVM has no local APIC ids of more than 8 bits "
		  "(KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API)",
		  m->opt.cpus);
	return error_hint(err, "at most %d --cpus", CPU_MAX_XAPIC);
}

int irqchip_init(struct machine *m, struct error *err)
{
	if (!cpu_ids_are_wide(m->opt.cpus))
		return 0;
	return check_host(m, err)
		       ?: ioapic_realize(m, err)
		       ?: loop_add(&m->loop, m->irq.lines_fd, EPOLLIN, irq_lines_fired, &m->irq,
				   err);
}

/* Local APICs alone. Id 255 is a vCPU, not all of them. The guest is not offered to keep EOIs from the IOAPIC, which
 * has no EOI register, where KVM lets us say so. */
static int create_local_apics(struct machine *m, struct error *err)
{
	const uint64_t no_directed_eoi = 1 << 3; /* KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST */
	uint64_t flags = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
	flags |= (uint64_t)vm_has(&m->vm, KVM_CAP_X2APIC_API) & no_directed_eoi;
	struct kvm_enable_cap ids = {.cap = KVM_CAP_X2APIC_API, .args = {flags}};
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {IRQ_PINS}};
	return vm_call(m->vm.fd, KVM_ENABLE_CAP, &ids, err, "KVM_CAP_X2APIC_API")
		       ?: vm_call(m->vm.fd, KVM_ENABLE_CAP, &split, err, "KVM_CAP_SPLIT_IRQCHIP");
}

int arch_create_irqchip(struct machine *m, struct error *err)
{
	const int fd = m->vm.fd;
	uint64_t map = LAYOUT_IDENTITY_GPA;

	/* Intel hosts without unrestricted guest run real mode with these pages; elsewhere they are
	 * accepted and unused (api.rst, KVM_SET_TSS_ADDR). */
	return vm_call(fd, KVM_SET_IDENTITY_MAP_ADDR, &map, err, "KVM_SET_IDENTITY_MAP_ADDR")
		       ?: vm_call(fd, KVM_SET_TSS_ADDR, (void *)LAYOUT_TSS, err, "KVM_SET_TSS_ADDR")
		       ?: (cpu_ids_are_wide(m->opt.cpus)
				   ? create_local_apics(m, err)
				   : vm_call(fd, KVM_CREATE_IRQCHIP, NULL, err, "KVM_CREATE_IRQCHIP"));
}

/* The EOI of an interrupt whose pin is ours. */
bool vcpu_arch_serve(struct vcpu *cpu)
{
	if (cpu->run->exit_reason != KVM_EXIT_IOAPIC_EOI)
		return false;
	pthread_mutex_lock(&cpu->m->lock);
	irq_eoi(&cpu->m->irq, cpu->run->eoi.vector);
	pthread_mutex_unlock(&cpu->m->lock);
	return true;
}

int arch_create_timers(struct machine *m, struct error *err)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	/* Ticks that a guest missed are not made up for: KVM watches each of them otherwise, and keeps AMD's AVIC,
	 * with it interrupts that devices post to the guest, off for that. */
	struct kvm_reinject_control reinject = {.pit_reinject = 0};
	if (cpu_ids_are_wide(m->opt.cpus)) /* KVM has none without its IOAPIC */
		return 0;
	return vm_call(m->vm.fd, KVM_CREATE_PIT2, &pit, err, "KVM_CREATE_PIT2")
		       ?: vm_call(m->vm.fd, KVM_REINJECT_CONTROL, &reinject, err,
				  "KVM_REINJECT_CONTROL");
}

static int save_irqchips(struct machine *m, struct error *err)
{
	struct x86_state *s = &m->arch->state;
	if (cpu_ids_are_wide(m->opt.cpus))
		return 0;
	for (uint32_t i = 0; i < 3; i++) {
		s->irqchip[i].chip_id = i;
		int rc = vm_call(m->vm.fd, KVM_GET_IRQCHIP, &s->irqchip[i], err,
				 "KVM_GET_IRQCHIP %u", i);
		if (rc < 0)
			return rc;
	}
	/* Channel 0 starts its count anew when this is set: count_load_time is always 0. */
	return vm_call(m->vm.fd, KVM_GET_PIT2, &s->pit, err, "KVM_GET_PIT2");
}

int arch_save(struct machine *m, struct error *err)
{
	struct x86_state *s = &m->arch->state;
	int rc = save_irqchips(m, err)
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

static int set_irqchips(struct machine *m, struct kvm_irqchip chips[3], struct kvm_pit_state2 *pit,
			struct error *err)
{
	if (cpu_ids_are_wide(m->opt.cpus))
		return 0;
	for (uint32_t i = 0; i < 3; i++) {
		if (chips[i].chip_id != i)
			return error_set(err, EBADMSG, "state x86.irqchip: chip %u stands at %u",
					 chips[i].chip_id, i);
		int rc =
			vm_call(m->vm.fd, KVM_SET_IRQCHIP, &chips[i], err, "KVM_SET_IRQCHIP %u", i);
		if (rc < 0)
			return rc;
	}
	return vm_call(m->vm.fd, KVM_SET_PIT2, pit, err, "KVM_SET_PIT2");
}

int arch_load(struct machine *m, struct error *err)
{
	struct x86_state *s = &m->arch->state;
	return set_irqchips(m, s->irqchip, &s->pit, err) ?: load_clock(m, err);
}

#define PIT_MODE_NONE                                                                              \
	0xff /* as after reset: KVM stops the timer (arch/x86/kvm/i8254.c, pit_load_count) */

int arch_rehearse(struct machine *m, struct error *err)
{
	struct x86_state s = m->arch->state;
	s.irqchip[0].chip.pic.irr = s.irqchip[1].chip.pic.irr = 0;
	s.irqchip[2].chip.ioapic.irr = 0;
	s.pit.channels[0].mode = PIT_MODE_NONE;
	return set_irqchips(m, s.irqchip, &s.pit, err);
}
