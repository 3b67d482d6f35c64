/* SPDX-License-Identifier: MIT */
/*
 * Guests that run guests of their own with AMD's SVM (--cpus nested=on). Where the vCPU is in one, its registers are
 * that guest's. KVM then also holds the guest's own registers, which #VMEXIT gives back, and the copy of the control
 * block that VMRUN made: both come as one block, laid out as a VMCB. All else is in registers, MSRs and guest memory.
 * Documentation/virt/kvm/api.rst, KVM_GET_NESTED_STATE; arch/x86/kvm/svm/nested.c, svm_set_nested_state.
 */
#include "vmm/arch/x86_64/cpu.h"

#include "vmm/machine.h"

#define FLAGS                                                                                      \
	(KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING | KVM_STATE_NESTED_GIF_SET)

#define S struct svm_state
static const struct field svm_fields[] = {
	FIELD_U(S, vmcb_gpa),
	FIELD_U(S, flags),
	FIELD_OPAQUE_LEN(S, vmcb, vmcb_len),
};
#undef S

STATE_CLASS(svm_state_class, "svm", 1, struct svm_state, svm_fields);

/* As KVM gives and takes it. */
struct nested {
	struct kvm_nested_state head;
	uint8_t vmcb[KVM_STATE_NESTED_SVM_VMCB_SIZE];
};

static struct svm_state *state_of(const struct vcpu *cpu)
{
	return &cpu->m->arch->svm[cpu->index];
}

/* An exception or a triple fault that is still to come may be one that the guest wants to hear of, and not its own
 * guest. Without these KVM_GET_VCPU_EVENTS says that it has come to that one, or nothing (api.rst). */
static int tell_what_is_pending(struct machine *m, struct error *err)
{
	static const uint32_t caps[] = {KVM_CAP_EXCEPTION_PAYLOAD, KVM_CAP_X86_TRIPLE_FAULT_EVENT};
	for (unsigned i = 0; i < ARRAY_LEN(caps); i++) {
		struct kvm_enable_cap on = {.cap = caps[i], .args = {1}};
		if (vm_ioctl(m->vm.fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)caps[i]) <= 0)
			continue;
		int rc = vm_call(m->vm.fd, KVM_ENABLE_CAP, &on, err, "KVM_ENABLE_CAP %u", caps[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The capabilities belong to a VM: each program asks for its own. */
int svm_init(struct machine *m, struct error *err)
{
	if (!m->opt.cpu.nested)
		return 0;
	int room = vm_call(m->vm.fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_NESTED_STATE, err,
			   "KVM_CHECK_EXTENSION KVM_CAP_NESTED_STATE");
	if (room < (int)sizeof(struct nested))
		return room < 0 ? room : svm_missing(err);
	m->arch->svm = pool_alloc(m->opt.cpus, sizeof(*m->arch->svm));
	if (!m->arch->svm)
		return error_errno(err, ENOMEM, "state of SVM");
	m->arch->caps |= ARCH_CAP_NESTED;
	return tell_what_is_pending(m, err);
}

int svm_missing(struct error *err)
{
	error_end(err, EXIT_HOST, ENOTSUP, "--cpus nested=on: this host's KVM gives guests no SVM");
	return error_hint(
		err, "an AMD host with 1 in /sys/module/kvm_amd/parameters/nested; Intel's VMX "
		     "is not carried over updates");
}

/* The block is there if and only if the vCPU is in a guest. What is in it KVM judges. */
static int post_load(void *opaque, struct error *err)
{
	const struct vcpu *cpu = opaque;
	const struct svm_state *s = state_of(cpu);
	uint32_t len = s->flags & KVM_STATE_NESTED_GUEST_MODE ? sizeof(s->vmcb) : 0;
	if (s->flags & ~(uint32_t)FLAGS)
		return error_set(err, EBADMSG, "state svm@%u: unknown flags 0x%x", cpu->index,
				 s->flags);
	if (s->vmcb_len != len)
		return error_set(err, EBADMSG,
				 "state svm@%u: %u bytes of control block, expected %u", cpu->index,
				 s->vmcb_len, len);
	return 0;
}

int svm_register(struct vcpu *cpu, struct error *err)
{
	if (!cpu->m->arch->svm)
		return 0;
	struct state_section s = {.cls = &svm_state_class,
				  .state = state_of(cpu),
				  .opaque = cpu,
				  .post_load = post_load};
	snprintf(s.node, sizeof(s.node), "svm@%u", cpu->index);
	return state_register(&cpu->m->tree, &s, err);
}

long svm_save(struct vcpu *cpu, struct error *err)
{
	struct svm_state *s = state_of(cpu);
	struct nested n = {.head.size = sizeof(n)};
	long rc = vm_ioctl(cpu->fd, KVM_GET_NESTED_STATE, &n);
	if (rc < 0)
		return rc;
	if (n.head.format != KVM_STATE_NESTED_FORMAT_SVM)
		return error_set(err, ENOTSUP, "vCPU %u: nested state of format %u, expected SVM's",
				 cpu->index, n.head.format);
	s->flags = n.head.flags;
	s->vmcb_gpa = n.head.hdr.svm.vmcb_pa;
	s->vmcb_len = s->flags & KVM_STATE_NESTED_GUEST_MODE ? sizeof(s->vmcb) : 0;
	memcpy(s->vmcb, n.vmcb, s->vmcb_len);
	return 0;
}

static long set(struct vcpu *cpu, const struct svm_state *s)
{
	struct nested n = {.head = {.flags = (uint16_t)s->flags,
				    .format = KVM_STATE_NESTED_FORMAT_SVM,
				    .size = sizeof(n.head) + s->vmcb_len,
				    .hdr.svm.vmcb_pa = s->vmcb_gpa}};
	memcpy(n.vmcb, s->vmcb, s->vmcb_len);
	long rc = vm_ioctl(cpu->fd, KVM_SET_NESTED_STATE, &n);
	return rc < 0 ? rc : 0;
}

static const struct svm_state outside = {.flags = KVM_STATE_NESTED_GIF_SET};

long svm_leave(struct vcpu *cpu, struct error *err)
{
	return set(cpu, &outside);
}

long svm_load(struct vcpu *cpu, struct error *err)
{
	return set(cpu, state_of(cpu));
}

void svm_scrub(struct vcpu *cpu)
{
	struct svm_state *s = cpu->m->arch->svm ? state_of(cpu) : NULL;
	if (!s)
		return;
	explicit_bzero(s, sizeof(*s));
	s->flags = outside.flags;
}
