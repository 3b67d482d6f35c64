/* SPDX-License-Identifier: MIT */
/* SIGBUS of guest memory, as the kernel sends it, and what the guest is told. KVM is a fake; a real page is lost in
 * guest/poison. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/base/error.h"
#include "vmm/machine.h"
#include "vmm/poison.h"

#define CR4_MCE	   0x40
#define HIGH	   0x100000000ull
#define PAGES	   4
#define INTEL_READ 0xbd80000000000134ull
#define INTEL_IDLE 0xbd000000000000c0ull
#define AMD_READ   0xbc00080000000000ull
#define AMD_IDLE   0x9c00180000000000ull

static uint8_t memory[PAGES * PAGE_LEN] __attribute__((aligned(4096)));
static struct vcpu_state state0;
static struct machine machine;
static struct vcpu cpu;
static struct error err;

static struct {
	const void *at;	   /* what is lost while the vCPU runs */
	uint64_t cr4, mcg; /* MCG_STATUS */
	bool silent;	   /* KVM takes it and does nothing: the guest has turned the bank off */
	uint64_t supported, setup;
	struct kvm_x86_mce mce;
	unsigned told, nudges;
} kvm;

/* cmocka takes the signal anew for each test. */
static void watch(void)
{
	signal(SIGBUS, SIG_DFL);
	poison_watch(&machine);
}

/* The kernel lets a process send itself any code. */
static void lose(const void *at, int code)
{
	watch();
	siginfo_t info = {.si_signo = SIGBUS, .si_code = code};
	info.si_addr = (void *)(uintptr_t)at;
	assert_int_equal(
		syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info), 0);
}

int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	assert_int_equal(request, KVM_RUN);
	if (kvm.at)
		lose(kvm.at, BUS_MCEERR_AR);
	errno = EINTR;
	return -1;
}

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	switch (request) {
	case KVM_X86_GET_MCE_CAP_SUPPORTED:
		memcpy(arg, &kvm.supported, sizeof(kvm.supported));
		return kvm.supported ? 0 : -ENOTTY;
	case KVM_X86_SETUP_MCE:
		memcpy(&kvm.setup, arg, sizeof(kvm.setup));
		return 0;
	case KVM_GET_SREGS2:
		*(struct kvm_sregs2 *)arg = (struct kvm_sregs2){.cr4 = kvm.cr4};
		return 0;
	case KVM_GET_MSRS:
		assert_int_equal(((struct kvm_msrs *)arg)->entries[0].index, 0x17a);
		((struct kvm_msrs *)arg)->entries[0].data = kvm.mcg;
		return 1;
	case KVM_X86_SET_MCE:
		memcpy(&kvm.mce, arg, sizeof(kvm.mce));
		kvm.told++;
		if (!kvm.silent && kvm.mce.status >> 61 & 1)
			kvm.mcg = kvm.mce.mcg_status;
		return 0;
	}
	fail_msg("call 0x%lx", request);
	return -ENOTTY;
}

int vm_has(const struct vm *vm, unsigned cap)
{
	return 0;
}

void vcpu_nudge(struct vcpu *who)
{
	assert_ptr_equal(who, &cpu);
	kvm.nudges++;
}

static void vendor(uint32_t ecx)
{
	state0.cpuid_len = 1;
	state0.cpuid[0].ecx = ecx;
}
#define AMD   0x444d4163
#define INTEL 0x6c65746e

/* Two regions, the second one's memory first in the file. */
static int setup(void **state)
{
	memset(&kvm, 0, sizeof(kvm));
	kvm.cr4 = CR4_MCE;
	state0 = (struct vcpu_state){0};
	vendor(INTEL);
	machine = (struct machine){.vcpus = &cpu};
	machine.gate.want = GATE_RUN;
	machine.ram.hva = memory;
	machine.ram.state = (struct ram_state){.nregions = 2,
					       .gpa = {0, HIGH},
					       .offset = {PAGE_LEN, 0},
					       .len = {3 * PAGE_LEN, PAGE_LEN}};
	cpu = (struct vcpu){.m = &machine, .state = &state0, .fd = -1};
	err = (struct error){0};
	return 0;
}

static int run(void)
{
	assert_int_equal(poison_run(&cpu), -1);
	assert_int_equal(errno, EINTR);
	return poison_tell(&cpu, &err);
}

static void told(uint64_t status, uint64_t addr, uint64_t mcg)
{
	assert_int_equal(kvm.told, 1);
	assert_int_equal(kvm.mce.status, status);
	assert_int_equal(kvm.mce.addr, addr);
	assert_int_equal(kvm.mce.misc, 0x8c); /* a physical address, of 12 bits and more */
	assert_int_equal(kvm.mce.mcg_status, mcg);
	assert_int_equal(kvm.mce.bank, 9);
}

static void test_nothing(void **state)
{
	assert_int_equal(run(), 0);
	assert_int_equal(kvm.told, 0);
}

static void test_read_by_guest(void **state)
{
	kvm.at = memory + 2 * PAGE_LEN;
	assert_int_equal(run(), 0);
	told(INTEL_READ, PAGE_LEN, 7);
	kvm.at = NULL;
	assert_int_equal(run(), 0);
	assert_int_equal(kvm.told, 1); /* once */
}

static void test_read_by_amd(void **state)
{
	vendor(AMD);
	kvm.at = memory;
	assert_int_equal(run(), 0);
	told(AMD_READ, HIGH, 7);
}

/* The vCPU would come back to that page for ever. */
static void test_guest_does_not_hear(void **state)
{
	kvm.at = memory;
	kvm.cr4 = 0;
	assert_int_equal(run(), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "host has lost: the guest takes no machine checks"));
	assert_int_equal(kvm.told, 0);
	kvm.cr4 = CR4_MCE;
	kvm.mcg = 4;
	assert_int_equal(run(), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "within a machine check"));
	assert_int_equal(kvm.told, 0);
	kvm.mcg = 0;
	kvm.silent = true;
	assert_int_equal(run(), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "turned machine checks off"));
}

static void test_found_by_host(void **state)
{
	lose(memory + PAGE_LEN, BUS_MCEERR_AO);
	assert_int_equal(kvm.nudges, 1);
	assert_int_equal(run(), 0);
	told(INTEL_IDLE, 0, 5);
}

static void test_found_by_host_amd(void **state)
{
	vendor(AMD);
	lose(memory + PAGE_LEN, BUS_MCEERR_AO);
	assert_int_equal(run(), 0);
	told(AMD_IDLE, 0, 5);
}

/* Nobody waits for it: the guest finds it when it reads it. */
static void test_found_by_host_in_vain(void **state)
{
	kvm.cr4 = 0;
	lose(memory, BUS_MCEERR_AO);
	assert_int_equal(run(), 0);
	assert_int_equal(kvm.told, 0);
	kvm.cr4 = CR4_MCE;
	machine.gate.want = GATE_PAUSE; /* or the guest is another process's */
	lose(memory, BUS_MCEERR_AO);
	assert_int_equal(run(), 0);
	assert_int_equal(kvm.told, 0);
	assert_int_equal(kvm.nudges, 1);
}

/* How a process that does this ends. */
static int end_of(void (*act)(void))
{
	int status;
	pid_t pid = fork();
	if (!pid) {
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

/* A fault repeats itself, which a signal that is sent does not. */
static void read_by_molt(void)
{
	lose(memory, BUS_MCEERR_AR);
	raise(SIGBUS);
}

static void not_guest_memory(void)
{
	kvm.at = memory + sizeof(memory);
	poison_run(&cpu);
	raise(SIGBUS);
}

static void sent(void)
{
	watch();
	raise(SIGBUS);
}

static void test_not_of_a_guest(void **state)
{
	assert_int_equal(end_of(read_by_molt), SIGBUS);
	assert_int_equal(end_of(not_guest_memory), SIGBUS);
	assert_int_equal(end_of(sent), SIGBUS);
}

static void test_what_the_guest_has(void **state)
{
	assert_int_equal(mce_cap(&machine), 0);
	assert_int_equal(mce_setup(&cpu, &err), 0);
	assert_int_equal(kvm.setup, 0);
	kvm.supported = 0x9000120;
	state0.mcg_cap = mce_cap(&machine);
	assert_int_equal(state0.mcg_cap, 0x100000a); /* ten banks, recovery */
	assert_int_equal(mce_setup(&cpu, &err), 0);
	assert_int_equal(kvm.setup, 0x100000a);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_nothing),
		T(test_read_by_guest),
		T(test_read_by_amd),
		T(test_guest_does_not_hear),
		T(test_found_by_host),
		T(test_found_by_host_amd),
		T(test_found_by_host_in_vain),
		T(test_not_of_a_guest),
		T(test_what_the_guest_has),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
