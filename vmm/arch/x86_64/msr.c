/* SPDX-License-Identifier: MIT */
/* Which model-specific registers of a vCPU are carried, and in what order. */
#include "vmm/arch/x86_64/cpu.h"

#include "vmm/machine.h"

#define MSR_IA32_TSC	      0x10
#define MSR_IA32_TSC_DEADLINE 0x6e0
#define MSR_IA32_CR_PAT	      0x277

struct msr_list {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[CPU_MAX_MSRS];
};

/* A rehearsal leaves out what acts beyond the vCPU's registers: the deadline, and MSRs with
 * addresses in guest memory, to which KVM writes: KVM's own, old and new
 * (Documentation/virt/kvm/x86/msr.rst). */
static bool left_out(uint32_t index)
{
	return index == MSR_IA32_TSC_DEADLINE || index == 0x11 || index == 0x12 ||
	       (index >= 0x4b564d00 && index <= 0x4b564dff);
}

/* Hyper-V's registers: KVM refuses them to a guest whose CPUID does not show Hyper-V, but lists and gives them to
 * us, and makes what they are kept in for it (arch/x86/kvm/hyperv.c, kvm_hv_get_msr_common). Such a guest has
 * nothing in them. */
static bool is_unused(const struct vcpu_state *s, uint32_t index)
{
	return index >= 0x40000000 && index <= 0x40000fff && !cpuid_has_hyperv(s);
}

static bool is_mtrr(uint32_t index)
{
	return index >= 0x200 && index <= 0x2ff && index != MSR_IA32_CR_PAT;
}

/* Over what KVM has been told of the memory types. */
static uint64_t mtrr_sum(const struct vcpu_state *s)
{
	uint64_t sum = 1;
	for (uint32_t i = 0; i < s->msr_len; i++)
		if (is_mtrr(s->msr_index[i]))
			sum = (sum ^ s->msr_data[i]) * 0x100000001b3ull + s->msr_index[i];
	return sum;
}

void msrs_drop_unused(struct vcpu_state *s)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < s->msr_len; i++) {
		if (is_unused(s, s->msr_index[i]))
			continue;
		s->msr_index[n] = s->msr_index[i];
		s->msr_data[n++] = s->msr_data[i];
	}
	s->msr_len = s->msr_data_len = n;
}

static void msrs_add(struct msr_list *list, uint32_t index, uint64_t data)
{
	list->entries[list->head.nmsrs++] = (struct kvm_msr_entry){.index = index, .data = data};
}

long msrs_save(struct vcpu *cpu, struct error *err)
{
	struct vcpu_state *s = cpu->state;
	struct msr_list list;
	list.head = (struct kvm_msrs){0};
	for (uint32_t i = 0; i < s->msr_len; i++)
		msrs_add(&list, s->msr_index[i], 0);
	long n = vm_ioctl(cpu->fd, KVM_GET_MSRS, &list);
	if (n != (long)s->msr_len)
		return n < 0 ? n : -EIO;
	for (uint32_t i = 0; i < s->msr_len; i++)
		s->msr_data[i] = list.entries[i].data;
	return 0;
}

/* It ends at the first one that it refuses, and says which by their number. */
static long msrs_set(struct vcpu *cpu, struct msr_list *list, struct error *err)
{
	long n = vm_ioctl(cpu->fd, KVM_SET_MSRS, list);
	if (n >= 0 && n < (long)list->head.nmsrs)
		return error_set(err, EIO, "vCPU %u: this host refuses 0x%llx for MSR 0x%x",
				 cpu->index, list->entries[n].data, list->entries[n].index);
	return n < 0 ? n : 0;
}

/* Of the MTRRs KVM is told once: with a device whose DMA does not snoop caches each telling throws page tables away
 * that were warmed (arch/x86/kvm/mtrr.c, update_mtrr). */
long msrs_load(struct vcpu *cpu, struct error *err)
{
	const struct vcpu_state *s = cpu->state;
	struct msr_list list;
	bool told = cpu->mtrr_sum == mtrr_sum(s);
	list.head = (struct kvm_msrs){0};
	for (uint32_t i = 0; i < s->msr_len; i++)
		if ((!cpu->rehearsing || !left_out(s->msr_index[i])) &&
		    (!told || !is_mtrr(s->msr_index[i])))
			msrs_add(&list, s->msr_index[i], s->msr_data[i]);
	long rc = msrs_set(cpu, &list, err);
	if (!rc)
		cpu->mtrr_sum = mtrr_sum(s);
	return rc;
}

int msrs_load_mtrrs(struct vcpu *cpu, struct error *err)
{
	const struct vcpu_state *s = cpu->state;
	struct msr_list list;
	list.head = (struct kvm_msrs){0};
	err->code = 0;
	for (uint32_t i = 0; i < s->msr_len; i++)
		if (is_mtrr(s->msr_index[i]))
			msrs_add(&list, s->msr_index[i], s->msr_data[i]);
	long rc = msrs_set(cpu, &list, err);
	if (rc && !err->code)
		return error_errno(err, (int)-rc, "vCPU %u: KVM_SET_MSRS", cpu->index);
	cpu->mtrr_sum = mtrr_sum(s);
	return (int)rc;
}

/* MSRs that KVM holds for a vCPU but leaves out of its list (SDM 3A 12.11, 3B 16.3). */
static const struct {
	uint32_t first, count, step;
} unlisted_msrs[] = {
	{0x200, 16, 1},	    /* MTRRs, variable ranges: base and mask */
	{0x250, 1, 1},	    /* fixed ranges: 64 KiB */
	{0x258, 2, 1},	    /* 16 KiB */
	{0x268, 8, 1},	    /* 4 KiB */
	{0x2ff, 1, 1},	    /* MTRRdefType */
	{0x400, 128, 1},    /* machine check banks */
	{0xc0010114, 1, 1}, /* VM_CR (AMD APM 2, 15.30.1) */
};

/* Carries an MSR that can be read and written back, once. */
static void try_msr(struct vcpu *cpu, uint32_t index)
{
	struct vcpu_state *s = cpu->state;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = {.head.nmsrs = 1, .entry.index = index};

	if (is_unused(s, index))
		return;
	for (uint32_t i = 0; i < s->msr_len; i++)
		if (s->msr_index[i] == index)
			return;
	if (s->msr_len < CPU_MAX_MSRS && vm_ioctl(cpu->fd, KVM_GET_MSRS, &one) == 1 &&
	    vm_ioctl(cpu->fd, KVM_SET_MSRS, &one) == 1)
		s->msr_index[s->msr_len++] = index;
}

/* Which MSRs to carry. The TSC itself is carried by its offset. The deadline goes last. */
int msrs_find(struct vcpu *cpu, struct error *err)
{
	struct vcpu_state *s = cpu->state;
	struct {
		struct kvm_msr_list head;
		uint32_t indices[1024];
	} all = {.head.nmsrs = 1024};
	int rc = vm_call(cpu->m->vm.kvm_fd, KVM_GET_MSR_INDEX_LIST, &all, err,
			 "KVM_GET_MSR_INDEX_LIST");
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < all.head.nmsrs; i++)
		if (all.indices[i] != MSR_IA32_TSC && all.indices[i] != MSR_IA32_TSC_DEADLINE)
			try_msr(cpu, all.indices[i]);
	for (unsigned i = 0; i < ARRAY_LEN(unlisted_msrs); i++)
		for (uint32_t k = 0; k < unlisted_msrs[i].count; k++)
			try_msr(cpu, unlisted_msrs[i].first + k * unlisted_msrs[i].step);
	try_msr(cpu, MSR_IA32_TSC_DEADLINE);
	s->msr_data_len = s->msr_len;
	return 0;
}
