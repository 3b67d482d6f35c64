/* SPDX-License-Identifier: MIT */
/* Which model-specific registers are carried. KVM is a fake with a few of them. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <linux/kvm.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/machine.h"

enum {
	TSC = 0x10,
	MTRR = 0x200,
	DEADLINE = 0x6e0,
	EFER = 0xc0000080,
	GUEST_OS_ID = 0x40000000,
	CRASH_CTL = 0x40000105,
	SYSTEM_TIME = 0x4b564d01,
	FUSED = 0x17, /* KVM gives it and does not take it */
};

static struct msr {
	uint32_t index;
	bool listed, taken;
	uint64_t value, refused; /* a value that is not taken either */
	unsigned gets, sets;
} msrs[] = {
	{TSC, true, true},	   {DEADLINE, true, true},  {GUEST_OS_ID, true, true},
	{EFER, true, true},	   {CRASH_CTL, true, true}, {FUSED, true, false},
	{SYSTEM_TIME, true, true}, {MTRR, false, true},
};

static struct machine machine;
static struct vcpu_state state0;
static struct vcpu cpu = {.m = &machine, .state = &state0};
static struct error err;

static struct msr *msr(uint32_t index)
{
	for (unsigned i = 0; i < ARRAY_LEN(msrs); i++)
		if (msrs[i].index == index)
			return &msrs[i];
	return NULL;
}

static long list(struct kvm_msr_list *out)
{
	out->nmsrs = 0;
	for (unsigned i = 0; i < ARRAY_LEN(msrs); i++)
		if (msrs[i].listed)
			out->indices[out->nmsrs++] = msrs[i].index;
	return 0;
}

static bool get(struct kvm_msr_entry *e)
{
	struct msr *r = msr(e->index);
	if (!r)
		return false;
	r->gets++;
	e->data = r->value;
	return true;
}

static bool set(struct kvm_msr_entry *e)
{
	struct msr *r = msr(e->index);
	if (!r || !r->taken || (r->refused && e->data == r->refused))
		return false;
	r->sets++;
	r->value = e->data;
	return true;
}

/* KVM ends at the first that it refuses, and returns how many it took. */
long vm_ioctl(int fd, unsigned long request, void *arg)
{
	struct kvm_msrs *m = arg;
	if (request == KVM_GET_MSR_INDEX_LIST)
		return list(arg);
	if (request != KVM_GET_MSRS && request != KVM_SET_MSRS)
		fail_msg("call 0x%lx", request);
	uint32_t n = 0;
	while (n < m->nmsrs &&
	       (request == KVM_GET_MSRS ? get(&m->entries[n]) : set(&m->entries[n])))
		n++;
	return n;
}

int vm_has(const struct vm *vm, unsigned cap)
{
	return 0;
}

static int setup(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(msrs); i++) {
		msrs[i].value = i + 1;
		msrs[i].refused = msrs[i].gets = msrs[i].sets = 0;
	}
	state0 = (struct vcpu_state){0};
	err = (struct error){0};
	cpu.rehearsing = false;
	cpu.mtrr_sum = 0;
	return 0;
}

static void find(void)
{
	assert_int_equal(msrs_find(&cpu, &err), 0);
	assert_int_equal(state0.msr_len, state0.msr_data_len);
}

static bool carried(uint32_t index)
{
	for (uint32_t i = 0; i < state0.msr_len; i++)
		if (state0.msr_index[i] == index)
			return true;
	return false;
}

static void show_hyperv(void)
{
	state0.cpuid_len = 2;
	state0.cpuid[0] = (struct kvm_cpuid_entry2){.function = 0x40000000};
	state0.cpuid[1] = (struct kvm_cpuid_entry2){.function = 0x40000001, .eax = 0x31237648};
}

static void test_carried(void **state)
{
	find();
	assert_true(carried(EFER));
	assert_true(carried(SYSTEM_TIME));
	assert_true(carried(MTRR)); /* though KVM's list leaves it out */
	assert_false(carried(TSC)); /* its offset is */
	assert_int_equal(state0.msr_index[state0.msr_len - 1], DEADLINE);
}

/* Else every update would be refused. */
static void test_not_taken_back(void **state)
{
	find();
	assert_false(carried(FUSED));
	assert_int_equal(msr(FUSED)->gets, 1);
	assert_int_equal(msrs_save(&cpu, &err), 0);
	assert_int_equal(msrs_load(&cpu, &err), 0);
}

/* A value that only the guest can have put there: KVM's answer is an error that names it. */
static void test_refused_later(void **state)
{
	find();
	msr(EFER)->value = msr(EFER)->refused = 0xbad;
	assert_int_equal(msrs_save(&cpu, &err), 0);
	assert_int_equal(msrs_load(&cpu, &err), -EIO);
	assert_non_null(strstr(err.text, "0xbad for MSR 0xc0000080"));
}

/* KVM is not even asked for them: it would make what they are kept in. */
static void test_no_hyperv(void **state)
{
	find();
	assert_false(carried(GUEST_OS_ID));
	assert_false(carried(CRASH_CTL));
	assert_int_equal(msr(GUEST_OS_ID)->gets + msr(CRASH_CTL)->gets, 0);
}

static void test_hyperv(void **state)
{
	show_hyperv();
	find();
	assert_true(carried(GUEST_OS_ID));
	assert_true(carried(CRASH_CTL));
	assert_int_equal(msrs_save(&cpu, &err), 0);
	msrs_drop_unused(&state0);
	msr(GUEST_OS_ID)->value = 0;
	assert_int_equal(msrs_load(&cpu, &err), 0);
	assert_int_equal(msr(GUEST_OS_ID)->value, 3);
}

/* Another hypervisor's leaf at that address is KVM's own. */
static void test_hyperv_is_kvm(void **state)
{
	show_hyperv();
	state0.cpuid[1].eax = 0x1000007;
	find();
	assert_false(carried(GUEST_OS_ID));
}

/* Of a program that carried them whatever the guest's CPUID: what is left keeps its values. */
static void test_drop_of_older_state(void **state)
{
	static const uint32_t old[] = {EFER, GUEST_OS_ID, SYSTEM_TIME, CRASH_CTL, DEADLINE};
	state0.msr_len = state0.msr_data_len = ARRAY_LEN(old);
	for (uint32_t i = 0; i < ARRAY_LEN(old); i++) {
		state0.msr_index[i] = old[i];
		state0.msr_data[i] = 0x100 + i;
	}
	msrs_drop_unused(&state0);
	assert_int_equal(state0.msr_len, 3);
	assert_int_equal(state0.msr_data_len, 3);
	assert_int_equal(msrs_load(&cpu, &err), 0);
	assert_int_equal(msr(EFER)->value, 0x100);
	assert_int_equal(msr(SYSTEM_TIME)->value, 0x102);
	assert_int_equal(msr(DEADLINE)->value, 0x104);
	assert_int_equal(msr(GUEST_OS_ID)->sets, 0);
}

/* Setting them has KVM write to guest memory, or a timer fire. */
static void test_rehearsal(void **state)
{
	find();
	unsigned before = msr(SYSTEM_TIME)->sets + msr(DEADLINE)->sets;
	assert_int_equal(msrs_save(&cpu, &err), 0);
	cpu.rehearsing = true;
	assert_int_equal(msrs_load(&cpu, &err), 0);
	assert_int_equal(msr(SYSTEM_TIME)->sets + msr(DEADLINE)->sets, before);
	assert_true(msr(EFER)->sets > 1);
}

/* KVM throws warmed page tables away each time. */
static void test_mtrrs_once(void **state)
{
	find();
	assert_int_equal(msrs_save(&cpu, &err), 0);
	unsigned before = msr(MTRR)->sets;
	assert_int_equal(msrs_load_mtrrs(&cpu, &err), 0);
	assert_int_equal(msrs_load(&cpu, &err), 0);
	assert_int_equal(msr(MTRR)->sets, before + 1);
	state0.msr_data[0]++; /* another register has changed */
	assert_int_equal(msrs_load(&cpu, &err), 0);
	assert_int_equal(msr(MTRR)->sets, before + 1);
	for (uint32_t i = 0; i < state0.msr_len; i++)
		state0.msr_data[i] += state0.msr_index[i] == MTRR;
	assert_int_equal(msrs_load(&cpu, &err), 0);
	assert_int_equal(msr(MTRR)->sets, before + 2);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_carried),       T(test_not_taken_back),
		T(test_refused_later), T(test_no_hyperv),
		T(test_hyperv),	       T(test_hyperv_is_kvm),
		T(test_rehearsal),     T(test_drop_of_older_state),
		T(test_mtrrs_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
