/* SPDX-License-Identifier: MIT */
/* The timers of a VM, as they are made and as a rehearsal leaves them. KVM is a fake. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <linux/kvm.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/machine.h"

static struct {
	bool pit, reinjects;
	unsigned long refused;
	struct kvm_pit_state2 state;
	unsigned chips; /* of PIC and IOAPIC: made, read and written */
	unsigned lacks; /* a capability */
	int x2apic;	/* flags that it offers */
	uint64_t x2apic_on, pins;
} kvm;

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == kvm.refused)
		return -ENOMEM;
	if (request == KVM_CREATE_PIT2)
		kvm.pit = kvm.reinjects = true;
	if (request == KVM_REINJECT_CONTROL) {
		if (!kvm.pit)
			return -ENXIO;
		kvm.reinjects = ((struct kvm_reinject_control *)arg)->pit_reinject;
	}
	if (request == KVM_CREATE_IRQCHIP || request == KVM_GET_IRQCHIP ||
	    request == KVM_SET_IRQCHIP)
		kvm.chips++;
	if (request == KVM_ENABLE_CAP) {
		const struct kvm_enable_cap *on = arg;
		assert_true(on->cap == KVM_CAP_X2APIC_API || on->cap == KVM_CAP_SPLIT_IRQCHIP);
		*(on->cap == KVM_CAP_X2APIC_API ? &kvm.x2apic_on : &kvm.pins) = on->args[0];
	}
	if (request == KVM_SET_PIT2)
		kvm.state = *(struct kvm_pit_state2 *)arg;
	return 0;
}

int vm_has(const struct vm *vm, unsigned cap)
{
	return cap == kvm.lacks ? 0 : cap == KVM_CAP_X2APIC_API ? kvm.x2apic : 1;
}

static struct machine machine;
static struct arch arch;
static struct error err;

static int setup(void **state)
{
	memset(&kvm, 0, sizeof(kvm));
	memset(&arch, 0, sizeof(arch));
	machine.arch = &arch;
	machine.opt.cpus = CPU_MAX_XAPIC;
	kvm.x2apic = 3;
	for (uint32_t i = 0; i < 3; i++)
		arch.state.irqchip[i].chip_id = i;
	arch.state.pit.channels[0].mode = 2;
	arch.state.pit.channels[2].mode = 3;
	return 0;
}

/* KVM's default keeps AVIC, and with it posted interrupts, off (arch/x86/kvm/i8254.c, kvm_pit_set_reinject). */
static void missed_ticks_are_not_made_up_for(void **state)
{
	assert_int_equal(arch_create_timers(&machine, &err), 0);
	assert_true(kvm.pit);
	assert_false(kvm.reinjects);
	kvm.refused = KVM_REINJECT_CONTROL;
	assert_int_equal(arch_create_timers(&machine, &err), -ENOMEM);
}

static void a_rehearsal_has_no_timer(void **state)
{
	assert_int_equal(arch_rehearse(&machine, &err), 0);
	assert_int_equal(kvm.state.channels[0].mode, 0xff);
	assert_int_equal(kvm.state.channels[2].mode, 3);
	assert_int_equal(arch_load(&machine, &err), 0);
	assert_int_equal(kvm.state.channels[0].mode, 2);
}

/* KVM's IOAPIC has 8 bits for an id, and there is no PIT without it: none is made, read or written. */
static void wide_ids_have_local_apics_alone(void **state)
{
	assert_int_equal(arch_create_irqchip(&machine, &err), 0);
	assert_int_equal(kvm.chips, 1);
	assert_int_equal(kvm.pins, 0);
	kvm.chips = 0;
	machine.opt.cpus = CPU_MAX_XAPIC + 1;
	assert_int_equal(arch_create_irqchip(&machine, &err), 0);
	assert_int_equal(kvm.pins, IRQ_PINS);
	assert_int_equal(kvm.x2apic_on, 3);
	kvm.refused = KVM_SET_PIT2;
	assert_int_equal(arch_create_timers(&machine, &err) ?: arch_save(&machine, &err), 0);
	assert_int_equal(arch_rehearse(&machine, &err) ?: arch_load(&machine, &err), 0);
	assert_int_equal(kvm.chips, 0);
	assert_false(kvm.pit);
	kvm.x2apic = 0xf; /* as newer kernels */
	assert_int_equal(arch_create_irqchip(&machine, &err), 0);
	assert_int_equal(kvm.x2apic_on, 0xb);
}

static void a_kvm_without_wide_ids_is_told(void **state)
{
	const unsigned lacks[] = {KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API};
	for (unsigned i = 0; i < ARRAY_LEN(lacks); i++) {
		kvm.lacks = lacks[i];
		machine.opt.cpus = CPU_MAX_XAPIC;
		assert_int_equal(irqchip_init(&machine, &err), 0);
		machine.opt.cpus = CPU_MAX_XAPIC + 1;
		assert_int_equal(irqchip_init(&machine, &err), -ENOTSUP);
		assert_non_null(strstr(err.text, "256 vCPUs"));
		assert_non_null(strstr(err.hint, "at most 255"));
	}
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(missed_ticks_are_not_made_up_for),
		T(a_rehearsal_has_no_timer),
		T(wide_ids_have_local_apics_alone),
		T(a_kvm_without_wide_ids_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
