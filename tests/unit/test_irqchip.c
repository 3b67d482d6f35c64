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
	if (request == KVM_SET_PIT2)
		kvm.state = *(struct kvm_pit_state2 *)arg;
	return 0;
}

static struct machine machine;
static struct arch arch;
static struct error err;

static int setup(void **state)
{
	memset(&kvm, 0, sizeof(kvm));
	memset(&arch, 0, sizeof(arch));
	machine.arch = &arch;
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

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(missed_ticks_are_not_made_up_for),
		T(a_rehearsal_has_no_timer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
