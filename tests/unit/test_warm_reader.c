/* SPDX-License-Identifier: MIT */
/* The reader of warming: how it is made and put to rest. KVM is a fake: that it reads is seen in tests/nested. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/error.h"
#include "vmm/base/pool.h"
#include "vmm/machine.h"

static struct machine *m;
static struct arch arch;
static struct vcpu vcpu0;
static struct vcpu_state state0;
static struct error err;
static char folder[32];

static struct {
	unsigned long fail; /* this call does */
	int fd;		    /* the reader's: any */
	long id;	    /* of its vCPU */
	uint64_t slot_gpa, slot_len;
	uint8_t *pages;
	int slot_error;
	struct kvm_sregs2 sregs;
	uint32_t mp_state;
	unsigned tsc_loads, cpuids;
} fake;

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == fake.fail)
		return -EIO;
	switch (request) {
	case KVM_GET_VCPU_MMAP_SIZE:
		return 4096;
	case KVM_CREATE_VCPU:
		fake.id = (long)arg;
		fake.fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
		return fake.fd;
	case KVM_GET_SREGS2:
		memset(arg, 0, sizeof(struct kvm_sregs2));
		return 0;
	case KVM_SET_SREGS2:
		memcpy(&fake.sregs, arg, sizeof(fake.sregs));
		return 0;
	case KVM_SET_MP_STATE:
		fake.mp_state = ((struct kvm_mp_state *)arg)->mp_state;
		return 0;
	case KVM_SET_REGS:
		return 0;
	}
	fail_msg("call 0x%lx", request);
	return -ENOTTY;
}

int vm_slot_add(struct vm *vm, uint64_t gpa, uint64_t len, void *hva, bool readonly,
		struct error *e)
{
	fake.slot_gpa = gpa;
	fake.slot_len = len;
	fake.pages = hva;
	return fake.slot_error ? error_set(e, fake.slot_error, "taken") : 0;
}

int cpu_set_cpuid(struct vcpu *cpu, struct error *e)
{
	assert_ptr_equal(cpu->state, &state0); /* the others' */
	fake.cpuids++;
	return 0;
}

long tsc_load(struct vcpu *cpu, struct error *e)
{
	assert_int_equal(cpu->fd, fake.fd);
	assert_ptr_equal(cpu->state, &state0);
	fake.tsc_loads++;
	return 0;
}

void vcpu_arch_describe(struct vcpu *cpu, char *buf, size_t size)
{
	snprintf(buf, size, "registers");
}

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	memset(&arch, 0, sizeof(arch));
	memset(&err, 0, sizeof(err));
	fake.fd = -1;
	state0 = (struct vcpu_state){
		.cpuid_len = 1, .cpuid = {{.function = 0x80000001, .edx = 1u << 29 | 1u << 20}}};
	m = calloc(1, sizeof(*m));
	m->arch = &arch;
	m->vcpus = &vcpu0;
	vcpu0.state = &state0;
	m->opt.cpus = 3;
	strcpy(folder, "/tmp/molt-reader.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[64];
	if (fake.fd >= 0)
		close(fake.fd);
	pool_free(arch.reader);
	free(m);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static void put_parameter(const char *name, const char *text)
{
	char command[256];
	snprintf(command, sizeof(command),
		 "mkdir -p %s/sys/module/$(dirname %s) && echo %s >%s/sys/module/%s", folder, name,
		 text, folder, name);
	assert_int_equal(system(command), 0);
}

static void nested_paging_by_the_modules_parameters(void **state)
{
	assert_int_equal(arch_nested_paging(folder), -1);
	put_parameter("kvm_intel/parameters/ept", "N");
	assert_int_equal(arch_nested_paging(folder), 0);
	put_parameter("kvm_intel/parameters/ept", "Y");
	assert_int_equal(arch_nested_paging(folder), 1);
	put_parameter("kvm_intel/parameters/ept", "0");
	put_parameter("kvm_amd/parameters/npt", "1");
	assert_int_equal(arch_nested_paging(folder),
			 1); /* both modules are there: one is at work */
	put_parameter("kvm_amd/parameters/npt", "0");
	assert_int_equal(arch_nested_paging(folder), 0);
}

static void made_and_put_to_rest(void **state)
{
	assert_int_equal(arch_warm_open(m, &err), 0);
	assert_int_equal(fake.id, 3); /* the next id */
	assert_int_equal(fake.cpuids, 1);
	assert_int_equal(fake.slot_gpa, LAYOUT_READER);
	assert_int_equal(fake.slot_len, LAYOUT_READER_LEN);
	assert_int_equal(fake.mp_state, KVM_MP_STATE_RUNNABLE);
	assert_int_equal(fake.sregs.efer, 0xd00); /* LME, LMA, NXE */
	assert_int_equal(fake.sregs.cr0, 0x80010031);
	assert_int_equal(fake.sregs.cs.l, 1);
	assert_int_equal(fake.sregs.cr3, LAYOUT_READER + PAGE_LEN);
	assert_true(fake.pages[0]);
	assert_int_equal(arch_warm_close(m, &err), 0);
	assert_int_equal(fake.mp_state, KVM_MP_STATE_UNINITIALIZED);
	for (uint64_t i = 0; i < LAYOUT_READER_LEN; i++) /* all that a guest will find there */
		assert_int_equal(fake.pages[i], 0);
	assert_int_equal(fake.tsc_loads, 1);
}

/* EFER.NXE needs a CPUID that has NX (docs/kernel-facts.md). */
static void as_the_guests_cpuid_allows(void **state)
{
	state0.cpuid[0].edx = 1u << 29;
	assert_int_equal(arch_warm_open(m, &err), 0);
	assert_int_equal(fake.sregs.efer, 0x500);
	assert_int_equal(arch_warm_close(m, &err), 0);
	pool_free(arch.reader);
	arch.reader = NULL;
	close(fake.fd);
	fake.fd = -1;
	state0.cpuid[0].edx = 1u << 20;
	fake.id = -1;
	assert_int_equal(arch_warm_open(m, &err), -ENOTSUP);
	assert_int_equal(fake.id, -1);
}

static void it_follows_the_guests_clock(void **state)
{
	assert_int_equal(arch_warm_follow(m, &err), 0); /* no reader */
	assert_int_equal(fake.tsc_loads, 0);
	assert_int_equal(arch_warm_open(m, &err), 0);
	assert_int_equal(arch_warm_close(m, &err), 0);
	assert_int_equal(arch_warm_follow(m, &err), 0);
	assert_int_equal(fake.tsc_loads, 1); /* has not changed */
	state0.tsc_offset = 5;
	assert_int_equal(arch_warm_follow(m, &err), 0);
	assert_int_equal(fake.tsc_loads, 2);
	state0.tsc_khz = 6;
	assert_int_equal(arch_warm_follow(m, &err), 0);
	assert_int_equal(fake.tsc_loads, 3);
}

/* Before there is a vCPU nothing has happened; after that it must come to rest. */
static void failures(void **state)
{
	static const unsigned long before[] = {KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VCPU};
	for (unsigned i = 0; i < ARRAY_LEN(before); i++) {
		fake.fail = before[i];
		assert_int_equal(arch_warm_open(m, &err), -EIO);
		assert_null(arch.reader);
		assert_int_equal(arch_warm_close(m, &err), 0);
	}
	fake.fail = 0;
	fake.slot_error = EEXIST; /* a BAR that the guest has put there */
	assert_int_equal(arch_warm_open(m, &err), -EEXIST);
	assert_string_equal(err.text, "warming: taken");
	fake.slot_error = 0;
	fake.fail = KVM_SET_SREGS2;
	assert_int_equal(arch_warm_open(m, &err), -EIO);
	assert_int_equal(arch_warm_close(m, &err), 0);
	assert_int_equal(fake.tsc_loads, 1);
	fake.fail = KVM_SET_MP_STATE;
	assert_int_equal(arch_warm_close(m, &err), -EIO);
	/* KVM_RUN is no call of that file: reading fails, and does not hang. */
	fake.fail = 0;
	assert_true(arch_warm_read(m, 0, PAGE_LEN, NULL, &err) < 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nested_paging_by_the_modules_parameters),
		TEST(made_and_put_to_rest),
		TEST(as_the_guests_cpuid_allows),
		TEST(it_follows_the_guests_clock),
		TEST(failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
