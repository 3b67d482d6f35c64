/* SPDX-License-Identifier: MIT */
/* What an architecture provides; one folder under vmm/arch/ is linked in. Nothing else knows
 * x86. */
#pragma once

#include "vmm/base/base.h"

struct machine;

/* State that every machine of this architecture has; ends with NULL. */
extern const struct state_class *const arch_state_classes[];

/* Guest physical layout of @size bytes of RAM: fills state->gpa/len/offset/nregions. */
struct ram_state;
int arch_ram_layout(struct ram_state *state, uint64_t size, struct error *err);

/* A capability of KVM that molt cannot do without, and the kernel that brought it; a table of them
 * ends with no name. */
struct vm_cap {
	unsigned cap;
	const char *name, *since;
};
#define VM_CAP(cap, since)                                                                         \
	{                                                                                          \
		KVM_CAP_##cap, "KVM_CAP_" #cap, since                                              \
	}
extern const struct vm_cap arch_needs[];
extern const char arch_kvm_modules[]; /* "kvm_a or kvm_b": what is to be loaded */

/* The interrupt controller that has the pins, where that is one of ours: of machines for which KVM's does not do. All
 * functions: device lock held. */
struct arch_pins;

/* Writes the routes of GSI 0 to IRQ_PINS - 1, at most two each. Returns how many. @p NULL: KVM's controllers have
 * them. */
struct kvm_irq_routing_entry;
uint32_t arch_pin_routes(const struct arch_pins *p, struct kvm_irq_routing_entry *e);

/* Sets a pin. raise: until the guest has served it. */
void arch_pins_set(struct arch_pins *p, uint32_t gsi, bool level);
void arch_pins_raise(struct arch_pins *p, uint32_t gsi);

/* The guest has served @vector. Returns a bit mask of the GSIs that were raised, and are not any more. */
uint32_t arch_pins_eoi(struct arch_pins *p, uint8_t vector);
/* Is any served? */
bool arch_pins_in_service(const struct arch_pins *p);

/* What KVM is told as the address of a message that the guest has given that one. */
uint64_t arch_pins_msi_addr(uint64_t addr);

struct arch_pci_layout {
	uint64_t ecam_base, ecam_len; /* bus 0 only: 1 MiB */
	uint64_t mmio32_base, mmio32_len;
	uint64_t mmio64_base, mmio64_len; /* len 0: none */
	unsigned address_bits; /* they bound a new guest's mmio64; 0: it was taken over */
	uint64_t pio_base, pio_len;
	uint64_t config_port; /* address register of configuration mechanism 1; data 4 above it */
	uint64_t slots_port;  /* registers of slots that may be given up (devices/pci/slots.c), */
	uint32_t slots_gsi;   /* and their interrupt */
	uint32_t intx_gsi[4]; /* GSI of INTA..INTD of slot 0; slot s pin p uses [(s + p) % 4] */
};
void arch_pci_layout(const struct machine *m, struct arch_pci_layout *out);

/* Allocates m->arch and registers its state sections (before anything is loaded). */
int arch_init(struct machine *m, struct error *err);

/* In-kernel interrupt controllers: after the memory slots, before the vCPUs (docs/kernel-facts.md);
 * then the timers that belong to no vCPU. */
int arch_create_irqchip(struct machine *m, struct error *err);
int arch_create_timers(struct machine *m, struct error *err);

/* Initial register state of a vCPU and what the guest finds in memory: kernel, initrd, tables. */
int arch_boot(struct machine *m, struct error *err);

/* Interrupt controllers and clock: with all vCPUs parked; loading comes after theirs, and injects
 * into them. */
int arch_save(struct machine *m, struct error *err);
int arch_load(struct machine *m, struct error *err);

/* Tries that state in a VM that is to get a later one: without timers and pending interrupts. */
int arch_rehearse(struct machine *m, struct error *err);

/* Warming (vmm/warm.h). Does KVM use nested page tables? 1, 0, or -1: not known. @root: before
 * /sys. */
int arch_nested_paging(const char *root);

/* The reader: makes it (a vCPU and a memory slot, which stay as long as the VM), has it read a word of each page
 * of [gpa, gpa + len), and puts it to rest for good. Before the vCPUs are loaded. Failing to open means no more
 * than that there is no reader; when arch_warm_close fails no guest should have the VM. */
int arch_warm_open(struct machine *m, struct error *err);
int arch_warm_read(struct machine *m, uint64_t gpa, uint64_t len, const bool *cancel,
		   struct error *err);
int arch_warm_close(struct machine *m, struct error *err);
/* Before any vCPU is loaded: the reader's vCPU gets vCPU 0's TSC offset. KVM's master clock wants
 * the same one of all, and looks when the last of those that run gets it. */
int arch_warm_follow(struct machine *m, struct error *err);

/* Is @fd (an executable, opened for reading) a program this machine can run? */
int arch_check_elf(int fd, const char *path, struct error *err);
