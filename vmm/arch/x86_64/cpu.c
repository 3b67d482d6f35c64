/* SPDX-License-Identifier: MIT */
/* One vCPU's state: what is read and written, in the order of the tables of steps (docs/kernel-facts.md says why). */
#include "vmm/arch/x86_64/cpu.h"

#include "vmm/machine.h"

/* cpu->state + this: a copy that KVM is known to accept: what it gave before the guest ran, or what it has loaded. */
#define ACCEPTED 1

#define S struct vcpu_state
static const struct field cpu_fields[] = {
	SCHED_CPU_FIELDS(S, sched),
	FIELD_RAW(S, mp_state),
	FIELD_U(S, tsc_khz),
	FIELD_U(S, tsc_offset),
	FIELD_RAW(S, regs),
	FIELD_RAW(S, sregs),
	FIELD_RAW(S, xcrs),
	FIELD_RAW(S, debugregs),
	FIELD_RAW(S, events),
	FIELD_RAW(S, lapic),
	FIELD_OPAQUE_LEN(S, cpuid, cpuid_len),
	FIELD_ARRAY_LEN(S, msr_index, msr_len),
	FIELD_ARRAY_LEN(S, msr_data, msr_data_len),
	FIELD_OPAQUE_LEN(S, xsave, xsave_len),
	FIELD_U_SINCE(S, mcg_cap, 3, 0),
};
#undef S

STATE_CLASS(cpu_state_class, "cpu", 3, struct vcpu_state, cpu_fields);

/* ---- single steps: each returns 0 or -errno, and may say more in @err ---- */

static long get(struct vcpu *cpu, unsigned long request, void *arg)
{
	long rc = vm_ioctl(cpu->fd, request, arg);
	return rc < 0 ? rc : 0;
}

enum { LAPIC_LVTT = 0x320, LAPIC_TMICT = 0x380, LAPIC_TMCCT = 0x390 }; /* SDM 3A 11.5.4 */
#define LAPIC_LVT_MASKED 0x10000

/* A rehearsal loads the local APIC with its timer masked. The timer would fire in a vCPU that the guest does not use
 * yet, and KVM keeps a tick once it has counted it. */
static long load_lapic(struct vcpu *cpu, struct error *err)
{
	struct kvm_lapic_state copy = cpu->state->lapic;
	if (cpu->rehearsing) {
		store_le(copy.regs + LAPIC_LVTT, LAPIC_LVT_MASKED, 4);
		store_le(copy.regs + LAPIC_TMICT, 0, 4);
		store_le(copy.regs + LAPIC_TMCCT, 0, 4);
	}
	return get(cpu, KVM_SET_LAPIC, &copy);
}

/* An ioctl with a member of the state, or a function. */
struct step {
	const char *name;
	unsigned long request;
	size_t offset;
	long (*run)(struct vcpu *cpu, struct error *err);
	unsigned needs_cap; /* 0: always */
};
#define STEP(name, request, member)                                                                \
	{                                                                                          \
		name, request, offsetof(struct vcpu_state, member)                                 \
	}

static const struct step save_steps[] = {
	/* First, because reading it may apply a pending INIT or SIPI. */
	STEP("MP_STATE", KVM_GET_MP_STATE, mp_state),
	/* Before SREGS2 and DEBUGREGS, because it may write CR2 and DR6 of a pending exception. */
	STEP("VCPU_EVENTS", KVM_GET_VCPU_EVENTS, events),
	STEP("REGS", KVM_GET_REGS, regs),
	STEP("SREGS2", KVM_GET_SREGS2, sregs),
	{"XSAVE", .run = xsave_save, .needs_cap = KVM_CAP_XSAVE},
	{"XCRS", KVM_GET_XCRS, offsetof(struct vcpu_state, xcrs), .needs_cap = KVM_CAP_XCRS},
	{"MSRS", .run = msrs_save},
	STEP("LAPIC", KVM_GET_LAPIC, lapic),
	STEP("DEBUGREGS", KVM_GET_DEBUGREGS, debugregs),
	{"TSC_OFFSET", .run = tsc_save},
	{"NESTED_STATE", .run = svm_save, .needs_cap = KVM_CAP_NESTED_STATE},
};

static const struct step load_steps[] = {
	{"NESTED_STATE", .run = svm_leave, .needs_cap = KVM_CAP_NESTED_STATE},
	STEP("SREGS2", KVM_SET_SREGS2, sregs), /* APIC base and mode before LAPIC */
	STEP("REGS", KVM_SET_REGS, regs),      /* before VCPU_EVENTS: drops a pending exception */
	{"XCRS", KVM_SET_XCRS, offsetof(struct vcpu_state, xcrs), .needs_cap = KVM_CAP_XCRS},
	{"XSAVE", KVM_SET_XSAVE, offsetof(struct vcpu_state, xsave), .needs_cap = KVM_CAP_XSAVE},
	{"TSC_OFFSET", .run = tsc_load}, /* before the deadline MSR is armed against it */
	{"LAPIC", .run = load_lapic},	 /* before MSRS: an armed TSC deadline is lost otherwise */
	{"MSRS", .run = msrs_load},
	STEP("MP_STATE", KVM_SET_MP_STATE, mp_state),
	STEP("VCPU_EVENTS", KVM_SET_VCPU_EVENTS, events),
	STEP("DEBUGREGS", KVM_SET_DEBUGREGS, debugregs),
	/* Last, as in KVM's own tests (tools/testing/selftests/kvm, vcpu_load_state). It needs EFER; it takes registers
	 * and MSRs as the nested guest's; and a change of SMM by VCPU_EVENTS would leave nested mode again. */
	{"NESTED_STATE", .run = svm_load, .needs_cap = KVM_CAP_NESTED_STATE},
};

static int run_steps(struct vcpu *cpu, const struct step *steps, size_t n, const char *verb,
		     struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (steps[i].needs_cap && !(cpu->m->arch->caps & arch_cap_bit(steps[i].needs_cap)))
			continue;
		err->code = 0;
		long rc = steps[i].run ? steps[i].run(cpu, err)
				       : get(cpu, steps[i].request,
					     (char *)cpu->state + steps[i].offset);
		if (rc < 0)
			return err->code ? (int)rc
					 : error_errno(err, (int)-rc, "vCPU %u: %s %s", cpu->index,
						       verb, steps[i].name);
	}
	return 0;
}

/* ---- the local APIC's timer ----
 *
 * SET_LAPIC arms a one-shot timer with the rest of its count, so a timer that fired long ago would
 * fire a second time. It restarts a periodic timer, without a tick that KVM has counted but not
 * put into the IRR yet. So pending ticks are flushed into the IRR, and the state is read again,
 * until no tick came in between. A one-shot timer that has fired is then saved as not armed. */

enum { TIMER_ONESHOT = 0, TIMER_PERIODIC = 1 };

static uint32_t lapic_reg(const struct vcpu *cpu, unsigned off)
{
	return (uint32_t)load_le(cpu->state->lapic.regs + off, 4);
}

static unsigned timer_mode(const struct vcpu *cpu)
{
	return lapic_reg(cpu, LAPIC_LVTT) >> 17 & 3;
}

static bool timer_unclear(const struct vcpu *cpu)
{
	return lapic_reg(cpu, LAPIC_TMICT) &&
	       (timer_mode(cpu) == TIMER_PERIODIC ||
		(timer_mode(cpu) == TIMER_ONESHOT && !lapic_reg(cpu, LAPIC_TMCCT)));
}

int vcpu_arch_save(struct vcpu *cpu, struct error *err)
{
	int rc = run_steps(cpu, save_steps, ARRAY_LEN(save_steps), "KVM_GET", err);
	bool again = !rc && timer_unclear(cpu);
	for (unsigned tries = 0; again && tries < 8; tries++) {
		uint32_t left = lapic_reg(cpu, LAPIC_TMCCT);
		vcpu_flush_pending(cpu);
		rc = run_steps(cpu, save_steps, ARRAY_LEN(save_steps), "KVM_GET", err);
		again = !rc && timer_mode(cpu) == TIMER_PERIODIC &&
			lapic_reg(cpu, LAPIC_TMCCT) > left;
	}
	if (!rc && timer_mode(cpu) == TIMER_ONESHOT && timer_unclear(cpu))
		store_le(cpu->state->lapic.regs + LAPIC_TMICT, 0, 4);
	return rc;
}

int vcpu_arch_rehearse(struct vcpu *cpu, struct error *err)
{
	cpu->rehearsing = true;
	int rc = run_steps(cpu, load_steps, ARRAY_LEN(load_steps), "KVM_SET", err);
	cpu->rehearsing = false;
	return rc;
}

int vcpu_arch_load(struct vcpu *cpu, struct error *err)
{
	return run_steps(cpu, load_steps, ARRAY_LEN(load_steps), "KVM_SET", err);
}

static void keep_accepted(struct vcpu *cpu)
{
	memcpy(cpu->state + ACCEPTED, cpu->state, offsetof(struct vcpu_state, xsave));
}

/* Clears the registers that programs compute with, which may hold secrets. Control registers and MSRs stay: the next
 * update offers a state made from this one, and KVM must accept it. */
void vcpu_arch_scrub(struct vcpu *cpu)
{
	explicit_bzero(&cpu->state->regs, sizeof(cpu->state->regs));
	explicit_bzero(cpu->state->xsave, sizeof(cpu->state->xsave));
	svm_scrub(cpu);
	keep_accepted(cpu);
}

/* A guest can be in a state that KVM returns but does not accept (a code segment with L set outside long mode). The
 * next successor would refuse it as an offer, again and again, even when the guest has left that state long ago. So the
 * offer goes back to what KVM is known to accept. */
void vcpu_arch_recall(struct vcpu *cpu)
{
	memcpy(cpu->state, cpu->state + ACCEPTED, offsetof(struct vcpu_state, xsave));
	explicit_bzero(cpu->state->xsave, sizeof(cpu->state->xsave));
	svm_scrub(cpu);
}

/* KVM refuses it (EINVAL) if the guest does not use kvmclock, which has the flag (PVCLOCK_GUEST_STOPPED, api.rst). */
void vcpu_arch_stood_still(struct vcpu *cpu)
{
	vm_ioctl(cpu->fd, KVM_KVMCLOCK_CTRL, NULL);
}

struct thread_sched *vcpu_arch_sched(struct vcpu *cpu)
{
	return &cpu->state->sched;
}

/* ---- creation ---- */

/* The vCPU's thread saves it, while the leader writes earlier parts of the blob. */
static int pre_save(void *opaque, struct error *err)
{
	struct vcpu *cpu = opaque;
	return vcpus_wait_saved(cpu->m, err);
}

static uint64_t cpuid_sum(const struct vcpu_state *s)
{
	return state_checksum(s->cpuid, s->cpuid_len * sizeof(s->cpuid[0]));
}

static int post_load(void *opaque, struct error *err)
{
	struct vcpu *cpu = opaque;
	const struct vcpu_state *s = cpu->state;
	if (s->msr_len != s->msr_data_len || !s->cpuid_len)
		return error_set(err, EBADMSG, "state cpu@%u: the lengths of its arrays disagree",
				 cpu->index);
	msrs_drop_unused(cpu->state);
	/* KVM got the CPUID when the vCPU was created. */
	if (cpu->fd >= 0 && cpu->cpuid_sum != cpuid_sum(s))
		return error_set(err, EBADMSG, "state cpu@%u: not the CPUID that was offered",
				 cpu->index);
	cpu->cpuid_sum = cpuid_sum(s);
	return xsave_fit(cpu, err);
}

int vcpu_arch_init(struct vcpu *cpu, struct error *err)
{
	cpu->state = pool_alloc(1 + ACCEPTED, sizeof(*cpu->state));
	if (!cpu->state)
		return error_errno(err, ENOMEM, "vCPU %u: state", cpu->index);
	struct state_section s = {.cls = &cpu_state_class,
				  .state = cpu->state,
				  .opaque = cpu,
				  .pre_save = pre_save,
				  .post_load = post_load};
	snprintf(s.node, sizeof(s.node), "cpu@%u", cpu->index);
	return state_register(&cpu->m->tree, &s, err) ?: svm_register(cpu, err);
}

int cpu_set_cpuid(struct vcpu *cpu, struct error *err)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[CPU_MAX_CPUID];
	} c; /* not cleared: most of its pages are never touched */
	c.head = (struct kvm_cpuid2){.nent = cpu->state->cpuid_len};
	memcpy(c.entries, cpu->state->cpuid, cpu->state->cpuid_len * sizeof(c.entries[0]));
	return vm_call(cpu->fd, KVM_SET_CPUID2, &c, err, "vCPU %u: KVM_SET_CPUID2", cpu->index);
}

static int create_fresh(struct vcpu *cpu, struct error *err)
{
	struct vcpu_state *s = cpu->state;
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[CPU_MAX_CPUID];
	} c = {0};
	int rc = cpuid_make(cpu->m, &c.head, err);
	if (rc)
		return rc;
	cpuid_for_cpu(&c.head, cpu->index, &cpu->m->opt.cpu);
	s->cpuid_len = c.head.nent;
	memcpy(s->cpuid, c.entries, c.head.nent * sizeof(c.entries[0]));
	s->xsave_len = cpu->m->arch->xsave_len;
	long khz = vm_ioctl(cpu->fd, KVM_GET_TSC_KHZ, NULL);
	s->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	s->mcg_cap = mce_cap(cpu->m);
	rc = cpu_set_cpuid(cpu, err) ?: mce_setup(cpu, err);
	if (rc)
		return rc;
	if (cpu->index) { /* the same for all */
		const struct vcpu_state *first = cpu->m->vcpus[0].state;
		s->msr_len = s->msr_data_len = first->msr_len;
		memcpy(s->msr_index, first->msr_index, sizeof(s->msr_index));
	} else {
		rc = msrs_find(cpu, err);
	}
	/* The first update offers this state to its successor, since a vCPU cannot be read while
	 * it runs. */
	if (!rc)
		rc = run_steps(cpu, save_steps, ARRAY_LEN(save_steps), "KVM_GET", err);
	keep_accepted(cpu);
	return rc;
}

int vcpu_arch_create(struct vcpu *cpu, struct error *err)
{
	if (cpu->m->fresh)
		return create_fresh(cpu, err);
	return cpu_set_cpuid(cpu, err) ?: mce_setup(cpu, err) ?: msrs_load_mtrrs(cpu, err);
}

void vcpu_arch_describe(struct vcpu *cpu, char *buf, size_t size)
{
	struct kvm_regs r = {0};
	struct kvm_sregs2 s = {0};
	get(cpu, KVM_GET_REGS, &r);
	get(cpu, KVM_GET_SREGS2, &s);
	snprintf(buf, size,
		 "rip %llx rsp %llx rflags %llx rax %llx rdi %llx cs %x:%llx cr0 %llx cr2 %llx "
		 "cr3 %llx cr4 %llx efer %llx gdt %llx idt %llx",
		 r.rip, r.rsp, r.rflags, r.rax, r.rdi, s.cs.selector, s.cs.base, s.cr0, s.cr2,
		 s.cr3, s.cr4, s.efer, s.gdt.base, s.idt.base);
}
