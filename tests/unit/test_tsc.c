/* SPDX-License-Identifier: MIT */
/* The rate of a guest's TSC in a new VM. KVM is a fake. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <linux/kvm.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/machine.h"

#define VM_FD	3
#define VCPU_FD 4
#define KHZ	2594031

static struct {
	long vm_khz, told; /* told: by KVM_SET_TSC_KHZ; 0: nothing */
	int error;	   /* of it */
	unsigned offsets;
} kvm;

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_GET_TSC_KHZ) {
		assert_int_equal(fd, VM_FD);
		return kvm.vm_khz;
	}
	assert_int_equal(fd, VCPU_FD);
	if (request == KVM_SET_TSC_KHZ) {
		kvm.told = (long)arg;
		return -kvm.error;
	}
	assert_int_equal(request, KVM_SET_DEVICE_ATTR);
	kvm.offsets++;
	return 0;
}

static long load(long vm_khz, bool rehearsing, int error, struct error *err)
{
	static struct machine m = {.vm.fd = VM_FD};
	static struct vcpu_state state = {.tsc_khz = KHZ};
	struct vcpu cpu = {.fd = VCPU_FD, .m = &m, .state = &state, .rehearsing = rehearsing};
	memset(&kvm, 0, sizeof(kvm));
	kvm.vm_khz = vm_khz;
	kvm.error = error;
	return tsc_load(&cpu, err);
}

/* In the pause KVM is told what it does not know; in the rehearsal it is asked whether it can at all. */
static void told_where_it_matters(void **unused)
{
	struct error err = {0};
	assert_int_equal(load(KHZ, false, 0, &err), 0);
	assert_int_equal(kvm.told, 0);
	assert_int_equal(kvm.offsets, 1);
	assert_int_equal(load(KHZ + 1000, false, 0, &err), 0);
	assert_int_equal(kvm.told, KHZ);
	assert_int_equal(load(KHZ, true, 0, &err), 0);
	assert_int_equal(kvm.told, KHZ);
	assert_int_equal(kvm.offsets, 1);
}

/* A new vCPU of which KVM has said nothing: its guest's clock would stand still. */
static void a_rate_that_kvm_cannot_give(void **unused)
{
	struct error err = {0};
	assert_int_equal(load(KHZ, true, EINVAL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "TSC rate of 2594031 kHz"));
	assert_int_equal(kvm.offsets, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(told_where_it_matters),
		cmocka_unit_test(a_rate_that_kvm_cannot_give),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
