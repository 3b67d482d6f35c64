/* SPDX-License-Identifier: MIT */
/* The state of a vCPU that runs a guest of its own: what KVM is asked and told, and state that cannot be. KVM is a
 * fake. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <linux/kvm.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/base/error.h"
#include "vmm/base/pool.h"
#include "vmm/machine.h"

#define BLOCK KVM_STATE_NESTED_SVM_VMCB_SIZE
#define INSIDE                                                                                     \
	(KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING | KVM_STATE_NESTED_GIF_SET)

struct block {
	struct kvm_nested_state head;
	uint8_t vmcb[BLOCK];
};

static struct {
	long cap;
	uint64_t lacks; /* another capability */
	uint64_t on[2]; /* what was enabled */
	unsigned enabled;
	bool refuses;
	struct block has, got; /* what it gives, what it was given */
} kvm;

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	struct kvm_nested_state *head = arg;
	if (request == KVM_CHECK_EXTENSION)
		return (uintptr_t)arg == KVM_CAP_NESTED_STATE ? kvm.cap
							      : (uintptr_t)arg != kvm.lacks;
	if (request == KVM_ENABLE_CAP) {
		const struct kvm_enable_cap *cap = arg;
		assert_int_equal(cap->args[0], 1);
		assert_in_range(kvm.enabled, 0, 1);
		kvm.on[kvm.enabled++] = cap->cap;
		return kvm.refuses ? -EINVAL : 0;
	}
	if (request == KVM_GET_NESTED_STATE) {
		if (head->size < kvm.has.head.size)
			return -E2BIG;
		memcpy(arg, &kvm.has, kvm.has.head.size);
		return 0;
	}
	assert_int_equal(request, KVM_SET_NESTED_STATE);
	assert_true(head->size <= sizeof(kvm.got));
	memcpy(&kvm.got, arg, head->size);
	return 0;
}

static struct machine machine;
static struct arch arch;
static struct vcpu cpu;
static struct error err;

static int setup(void **state)
{
	memset(&kvm, 0, sizeof(kvm));
	kvm.cap = sizeof(struct block);
	arch = (struct arch){0};
	memset(&machine, 0, sizeof(machine));
	machine.arch = &arch;
	machine.opt.cpus = 2;
	machine.opt.cpu.nested = true;
	cpu = (struct vcpu){.m = &machine, .index = 1};
	err = (struct error){0};
	return 0;
}

static int teardown(void **state)
{
	pool_free(arch.svm);
	return 0;
}

static struct svm_state *made(void)
{
	assert_int_equal(svm_init(&machine, &err) ?: svm_register(&cpu, &err), 0);
	assert_int_equal(arch.caps, ARCH_CAP_NESTED);
	assert_string_equal(machine.tree.sections[0].node, "svm@1");
	return &arch.svm[1];
}

static void inside(void)
{
	kvm.has.head = (struct kvm_nested_state){.flags = INSIDE,
						 .format = KVM_STATE_NESTED_FORMAT_SVM,
						 .size = sizeof(struct block),
						 .hdr.svm.vmcb_pa = 0x123000};
	for (unsigned i = 0; i < BLOCK; i++)
		kvm.has.vmcb[i] = (uint8_t)(i * 7 + 1);
}

static void every_member_is_a_field(void **state)
{
	assert_int_equal(unit_uncovered(&svm_state_class), sizeof(struct svm_state));
}

static void what_is_read_is_loaded(void **state)
{
	struct svm_state *s = made();
	inside();
	assert_int_equal(svm_save(&cpu, &err), 0);
	assert_int_equal(s->vmcb_len, BLOCK);
	assert_int_equal(svm_load(&cpu, &err), 0);
	assert_memory_equal(&kvm.got, &kvm.has, sizeof(kvm.has));
	/* the block of before does not go on being the vCPU's */
	kvm.has.head = (struct kvm_nested_state){.format = KVM_STATE_NESTED_FORMAT_SVM,
						 .size = sizeof(kvm.has.head)};
	assert_int_equal(svm_save(&cpu, &err), 0);
	assert_int_equal(s->vmcb_len, 0);
	assert_int_equal(svm_load(&cpu, &err), 0);
	assert_memory_equal(&kvm.got.head, &kvm.has.head, sizeof(kvm.has.head));
}

/* Whatever was loaded: leaving is always the same, and so is what is left when registers are cleared. */
static void out_of_the_guest(void **state)
{
	static const uint8_t clear[BLOCK];
	struct svm_state *s = made();
	inside();
	assert_int_equal(svm_save(&cpu, &err) ?: svm_leave(&cpu, &err), 0);
	assert_int_equal(kvm.got.head.flags, KVM_STATE_NESTED_GIF_SET);
	assert_int_equal(kvm.got.head.size, sizeof(kvm.got.head));
	assert_int_equal(s->flags, INSIDE);
	svm_scrub(&cpu);
	assert_int_equal(s->flags, KVM_STATE_NESTED_GIF_SET);
	assert_int_equal(s->vmcb_len, 0);
	assert_memory_equal(s->vmcb, clear, BLOCK);
}

static void hostile_state_is_refused(void **state)
{
	static const struct {
		uint32_t flags, len;
		int rc;
	} cases[] = {
		{KVM_STATE_NESTED_GIF_SET, 0, 0},
		{0, 0, 0},
		{INSIDE, BLOCK, 0},
		{INSIDE, 0, -EBADMSG},
		{INSIDE, BLOCK - 1, -EBADMSG},
		{KVM_STATE_NESTED_GIF_SET, BLOCK, -EBADMSG},
		{KVM_STATE_NESTED_GIF_SET, 1, -EBADMSG},
		{KVM_STATE_NESTED_EVMCS, 0, -EBADMSG},
		{0x10000 | KVM_STATE_NESTED_GIF_SET, 0, -EBADMSG},
	};
	struct svm_state *s = made();
	const struct state_section *section = &machine.tree.sections[0];
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		s->flags = cases[i].flags;
		s->vmcb_len = cases[i].len;
		if (section->post_load(section->opaque, &err) != cases[i].rc)
			fail_msg("flags 0x%x, %u bytes: expected %d", s->flags, s->vmcb_len,
				 cases[i].rc);
	}
}

static void another_processors_is_refused(void **state)
{
	made();
	kvm.has.head = (struct kvm_nested_state){.format = KVM_STATE_NESTED_FORMAT_VMX,
						 .size = sizeof(kvm.has.head)};
	assert_int_equal(svm_save(&cpu, &err), -ENOTSUP);
}

/* As kernels have it: the first since 4.20, the other since 6.0. */
static void what_is_pending_is_told(void **state)
{
	made();
	assert_int_equal(kvm.enabled, 2);
	assert_int_equal(kvm.on[0], KVM_CAP_EXCEPTION_PAYLOAD);
	assert_int_equal(kvm.on[1], KVM_CAP_X86_TRIPLE_FAULT_EVENT);
	pool_free(arch.svm);
	kvm.enabled = 0;
	kvm.lacks = KVM_CAP_X86_TRIPLE_FAULT_EVENT;
	assert_int_equal(svm_init(&machine, &err), 0);
	assert_int_equal(kvm.enabled, 1);
	pool_free(arch.svm);
	kvm.enabled = 0;
	kvm.refuses = true;
	assert_int_equal(svm_init(&machine, &err), -EINVAL);
}

static void hosts_without(void **state)
{
	kvm.cap = 0;
	assert_int_equal(svm_init(&machine, &err), -ENOTSUP);
	assert_int_equal(err.exit, EXIT_HOST);
	assert_non_null(strstr(err.hint, "kvm_amd"));
	kvm.cap = -EIO;
	assert_int_equal(svm_init(&machine, &err), -EIO);
}

static void guests_without(void **state)
{
	machine.opt.cpu.nested = false;
	kvm.cap = -EIO; /* nobody asks */
	assert_int_equal(svm_init(&machine, &err) ?: svm_register(&cpu, &err), 0);
	assert_int_equal(machine.tree.n, 0);
	assert_int_equal(arch.caps, 0);
	assert_int_equal(kvm.enabled, 0);
	svm_scrub(&cpu);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_member_is_a_field),
		T(what_is_read_is_loaded),
		T(out_of_the_guest),
		T(hostile_state_is_refused),
		T(another_processors_is_refused),
		T(what_is_pending_is_told),
		T(hosts_without),
		T(guests_without),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
