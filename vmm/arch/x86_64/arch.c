/* SPDX-License-Identifier: MIT */
/* What the architecture gives a machine: addresses, boot, whether a program is for this host. */
#include "vmm/arch/x86_64/cpu.h"

#include <elf.h>

#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

#define S struct x86_state
static const struct field x86_fields[] = {
	FIELD_U(S, mmio64_base), FIELD_U(S, mmio64_len), FIELD_U(S, clock_boottime_ns),
	FIELD_RAW(S, clock),	 FIELD_RAW(S, irqchip),	 FIELD_RAW(S, pit),
};
#undef S

STATE_CLASS(x86_state_class, "x86", 1, struct x86_state, x86_fields);

const struct state_class *const arch_state_classes[] = {
	&x86_state_class, &cpu_state_class, &svm_state_class, &ioapic_state_class, NULL};

const struct vm_cap arch_needs[] = {
	VM_CAP(PIT2, "2.6"),
	VM_CAP(SREGS2, "5.14"),
	VM_CAP(VCPU_ATTRIBUTES, "5.16"),
	{0},
};
const char arch_kvm_modules[] = "kvm_intel or kvm_amd";

void arch_pci_layout(const struct machine *m, struct arch_pci_layout *out)
{
	*out = (struct arch_pci_layout){
		.ecam_base = LAYOUT_ECAM_BASE,
		.ecam_len = LAYOUT_ECAM_LEN,
		.mmio32_base = LAYOUT_MMIO32_BASE,
		.mmio32_len = LAYOUT_MMIO32_LEN,
		.mmio64_base = m->arch->state.mmio64_base,
		.mmio64_len = m->arch->state.mmio64_len,
		.address_bits = m->arch->address_bits,
		.config_port = LAYOUT_PCI_CONFIG_PORT,
		.slots_port = LAYOUT_SLOTS_PORT,
		.slots_gsi = LAYOUT_SLOTS_GSI,
		.pio_base = LAYOUT_PIO_BASE,
		.pio_len = LAYOUT_PIO_LEN,
		.intx_gsi = {LAYOUT_INTX_GSI, LAYOUT_INTX_GSI + 1, LAYOUT_INTX_GSI + 2,
			     LAYOUT_INTX_GSI + 3},
	};
}

static int choose_mmio64(struct machine *m, struct error *err)
{
	const struct ram_state *r = &m->ram.state;
	struct x86_state *s = &m->arch->state;
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[CPUID_MAX_ENTRIES];
	} c;
	int rc = cpuid_make(m, &c.head, err);
	if (rc)
		return rc;
	uint64_t end = r->gpa[r->nregions - 1] + r->len[r->nregions - 1];
	m->arch->address_bits = cpuid_address_bits(&c.head);
	if (end > 1ull << m->arch->address_bits) {
		error_end(err, EXIT_HOST, ERANGE,
			  "guest memory reaches %lu GiB, the guest's processor %llu GiB (%u "
			  "address bits)",
			  end / GIB, (1ull << m->arch->address_bits) / GIB, m->arch->address_bits);
		return error_hint(err, "less --mem, or a host with more address bits");
	}
	layout_mmio64(m->arch->address_bits, end, &s->mmio64_base, &s->mmio64_len);
	return 0;
}

int arch_init(struct machine *m, struct error *err)
{
	struct arch *arch = pool_alloc(1, sizeof(*arch));
	if (!arch)
		return error_errno(err, ENOMEM, "machine state");
	m->arch = arch;
	struct state_section s = {.node = "x86", .cls = &x86_state_class, .state = &arch->state};
	/* before CPUID is asked for, which depends on it */
	int rc = xsave_init(m, err) ?: svm_init(m, err);
	if (!rc && m->fresh)
		rc = choose_mmio64(m, err);
	return rc ?: state_register(&m->tree, &s, err) ?: irqchip_init(m, err);
}

int arch_boot(struct machine *m, struct error *err)
{
	struct boot_entry entry;
	struct vcpu *cpu = &m->vcpus[0];
	struct vcpu_state *s = cpu->state;

	int rc = boot_load(m, &entry, err);
	if (rc)
		return rc;
	long e = vm_ioctl(cpu->fd, KVM_GET_SREGS2, &s->sregs)
			 ?: vm_ioctl(cpu->fd, KVM_GET_REGS, &s->regs);
	boot_set_sregs(&entry, &s->sregs, &s->regs);
	if (!e)
		e = vm_ioctl(cpu->fd, KVM_SET_SREGS2, &s->sregs)
			    ?: vm_ioctl(cpu->fd, KVM_SET_REGS, &s->regs);
	return e < 0 ? error_errno(err, (int)-e, "vCPU 0: registers at boot") : 0;
}

int arch_check_elf(int fd, const char *path, struct error *err)
{
	Elf64_Ehdr h;
	int rc = fd_pread_all(fd, &h, sizeof(h), 0);
	if (rc && rc != -ENODATA)
		return error_errno(err, -rc, "%s", path);
	if (rc || memcmp(h.e_ident, ELFMAG, SELFMAG)) {
		error_set(err, ENOEXEC, "%s: not an ELF program", path);
	} else if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64 ||
		   h.e_ident[EI_DATA] != ELFDATA2LSB) {
		error_set(err, ENOEXEC, "%s: a program for another architecture (machine %u, %s)",
			  path, h.e_machine,
			  h.e_ident[EI_CLASS] == ELFCLASS64 ? "64-bit" : "32-bit");
	} else if (h.e_type != ET_EXEC && h.e_type != ET_DYN) {
		error_set(err, ENOEXEC, "%s: an ELF file, but not a program", path);
	} else {
		return 0;
	}
	return error_hint(err, "install an x86-64 build of molt at that path");
}
