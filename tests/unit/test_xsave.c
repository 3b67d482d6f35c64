/* SPDX-License-Identifier: MIT */
/* The XSAVE area's length, between hosts and programs that have AMX and such that have not. KVM is a fake. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/base/error.h"
#include "vmm/machine.h"

#define SMALL 4096
#define LARGE 11008 /* with AMX's tiles */

static struct {
	bool amx;	   /* the host has it */
	bool asked;	   /* and this process may use it */
	bool told;	   /* it was asked how long the area is */
	int len;	   /* bytes that are always needed */
	int failing;	   /* the question that fails; -1: none */
	unsigned long get; /* the call by which the area was read */
} kvm;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
	va_list args;
	long arg[3];
	va_start(args, number);
	for (unsigned i = 0; i < 3; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (number != SYS_arch_prctl)
		return __real_syscall(number, arg[0], arg[1], arg[2]);
	assert_int_equal(arg[0], 0x1025); /* ARCH_REQ_XCOMP_GUEST_PERM */
	assert_int_equal(arg[1], 18);	  /* tile data */
	assert_false(kvm.told);
	kvm.asked = kvm.amx;
	errno = EOPNOTSUPP;
	return kvm.amx ? 0 : -1;
}

static long answer(long cap)
{
	if (cap == kvm.failing)
		return -EIO;
	if (cap != KVM_CAP_XSAVE2)
		return 1;
	kvm.told = true;
	return kvm.asked ? LARGE : kvm.len;
}

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_CHECK_EXTENSION)
		return answer((long)arg);
	kvm.get = request;
	return 0;
}

static struct machine machine;
static struct arch arch;
static struct vcpu_state state0;
static struct vcpu cpu = {.m = &machine, .state = &state0};
static struct error err;

static int setup(void **state)
{
	memset(&kvm, 0, sizeof(kvm));
	kvm.failing = -1;
	kvm.len = SMALL;
	arch = (struct arch){0};
	machine.arch = &arch;
	memset(&state0, 0xee, sizeof(state0));
	err = (struct error){0};
	return 0;
}

static void test_plain_host(void **state)
{
	kvm.len = 0; /* before Linux 5.17 */
	assert_int_equal(xsave_init(&machine, &err), 0);
	assert_int_equal(arch.xsave_len, SMALL);
	assert_int_equal(arch.caps, ARCH_CAP_XSAVE | ARCH_CAP_XCRS);
	assert_int_equal(xsave_save(&cpu, &err), 0);
	assert_int_equal(kvm.get, KVM_GET_XSAVE);
}

static void test_amx(void **state)
{
	kvm.amx = true;
	assert_int_equal(xsave_init(&machine, &err), 0);
	assert_int_equal(arch.xsave_len, LARGE);
	assert_int_equal(xsave_save(&cpu, &err), 0);
	assert_int_equal(kvm.get, KVM_GET_XSAVE2);
}

static void test_too_long(void **state)
{
	kvm.len = CPU_MAX_XSAVE + 1;
	assert_int_equal(xsave_init(&machine, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "16385 bytes, molt carries 16384"));
}

/* To take it for a no would leave the guest's registers behind. */
static void test_question_fails(void **state)
{
	static const int caps[] = {KVM_CAP_XSAVE2, KVM_CAP_XSAVE, KVM_CAP_XCRS};
	for (unsigned i = 0; i < ARRAY_LEN(caps); i++) {
		kvm.failing = caps[i];
		kvm.told = false;
		assert_int_equal(xsave_init(&machine, &err), -EIO);
	}
}

/* The guest of a program that did not ask: it keeps its length, so that the way back to that program stays open. */
static void test_shorter(void **state)
{
	kvm.amx = true;
	assert_int_equal(xsave_init(&machine, &err), 0);
	state0.xsave_len = SMALL;
	assert_int_equal(xsave_fit(&cpu, &err), 0);
	assert_int_equal(state0.xsave_len, SMALL);
	for (uint32_t i = 0; i < CPU_MAX_XSAVE; i++)
		if (state0.xsave[i] != (i >= SMALL && i < LARGE ? 0 : 0xee))
			fail_msg("byte %u is 0x%x", i, state0.xsave[i]);
}

static void test_longer(void **state)
{
	assert_int_equal(xsave_init(&machine, &err), 0);
	state0.xsave_len = LARGE;
	assert_int_equal(xsave_fit(&cpu, &err), -EPROTO);
	assert_non_null(strstr(err.text, "11008 bytes, KVM gives this program 4096"));
	assert_non_null(strstr(err.hint, "AMX"));
}

static void test_nonsense(void **state)
{
	assert_int_equal(xsave_init(&machine, &err), 0);
	state0.xsave_len = SMALL - 1;
	assert_int_equal(xsave_fit(&cpu, &err), -EBADMSG);
	state0.xsave_len = SMALL;
	assert_int_equal(xsave_fit(&cpu, &err), 0);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_plain_host), T(test_amx),    T(test_too_long), T(test_question_fails),
		T(test_shorter),    T(test_longer), T(test_nonsense),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
