/* SPDX-License-Identifier: MIT */
/* Leaves and bits: Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E; for 0x40000001 Linux
 * Documentation/virt/kvm/x86/cpuid.rst. */
#include "vmm/arch/x86_64/cpu.h"

#include <asm/kvm_para.h>
#include <linux/kvm.h>

#include "vmm/machine.h"

#define BIT(n) (1u << (n))
#define ANY    0xffffffffu /* every index of a leaf */

enum reg { EAX, EBX, ECX, EDX };

/* Bits taken away: state behind them would be lost in an update. */
static const struct {
	uint32_t function, index;
	enum reg reg;
	uint32_t bits;
} hidden[] = {
	{0x1, 0, ECX, BIT(5)},			/* VMX */
	{0x80000001, 0, ECX, BIT(2) | BIT(12)}, /* SVM, SKINIT */
	{0x1, 0, ECX, BIT(2) | BIT(15)},	/* 64-bit debug store, PDCM: the PMU */
	{0x1, 0, EDX, BIT(21)},			/* debug store */
	{0x80000001, 0, ECX, BIT(23) | BIT(24) | BIT(27) | BIT(28)}, /* AMD's PMU */
	{0x7, 0, EDX, BIT(19)},					     /* last branch records */
	{0x7, 0, EBX, BIT(2) | BIT(25)},			     /* SGX, processor trace */
	{0x7, 0, ECX, BIT(30)},					     /* SGX launch control */
	{0x7, 0, EDX, BIT(22) | BIT(24) | BIT(25)},		     /* AMX: BF16, tiles, INT8 */
	{0x7, 1, EAX, BIT(21)},					     /* AMX FP16 */
	{0x7, 1, EDX, BIT(8)},					     /* AMX complex */
	{0xd, 0, EAX, BIT(17) | BIT(18)}, /* XCR0: tile configuration and data */
	{0xd, 1, EAX, BIT(4)},		  /* XFD, used with AMX only */
	{KVM_CPUID_FEATURES, 0, EAX,
	 BIT(KVM_FEATURE_ASYNC_PF) | BIT(KVM_FEATURE_ASYNC_PF_VMEXIT) |
		 BIT(KVM_FEATURE_ASYNC_PF_INT)},
};

/* Leaves that belong to them, taken away whole. */
static const struct {
	uint32_t function, index;
} hidden_leaves[] = {
	{0xa, ANY},	   /* PMU */
	{0xd, 17},	   /* XSAVE: tile configuration */
	{0xd, 18},	   /* tile data */
	{0x12, ANY},	   /* SGX */
	{0x14, ANY},	   /* processor trace */
	{0x1c, ANY},	   /* last branch records */
	{0x1d, ANY},	   /* tiles */
	{0x1e, ANY},	   /* tile multiplication */
	{0x8000000a, ANY}, /* SVM */
	{0x8000001f, ANY}, /* SEV */
	{0x80000022, ANY}, /* AMD's PMU */
	{0x80000026, ANY}, /* AMD's extended topology: 0xb says it all */
};

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, enum reg reg)
{
	return reg == EAX ? &e->eax : reg == EBX ? &e->ebx : reg == ECX ? &e->ecx : &e->edx;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

static void remove_leaf(struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function != function ||
		    (index != ANY && c->entries[i].index != index))
			c->entries[n++] = c->entries[i];
	c->nent = n;
}

/* Largest XSAVE area for what is left in XCR0, standard format: KVM does not compute this one. */
static void fix_xsave_size(struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 *main = find(c, 0xd, 0);
	uint32_t size = 576; /* legacy area and header */
	if (!main)
		return;
	for (uint32_t i = 2; i < 32; i++) {
		const struct kvm_cpuid_entry2 *e = find(c, 0xd, i);
		if (e && main->eax & BIT(i) && e->ebx + e->eax > size)
			size = e->ebx + e->eax;
	}
	main->ecx = size;
}

/* Topology leaves hold one entry a level, and their contents are ours: cpuid_for_cpu fills them. */
static void make_topology_leaf(struct kvm_cpuid2 *c, uint32_t function)
{
	const struct kvm_cpuid_entry2 *max = find(c, 0, 0);
	remove_leaf(c, function, ANY);
	if (!max || max->eax < function)
		return;
	for (uint32_t i = 0; i < 3 && c->nent < CPUID_MAX_ENTRIES; i++)
		c->entries[c->nent++] = (struct kvm_cpuid_entry2){
			.function = function, .index = i, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
}

void cpuid_filter(struct kvm_cpuid2 *c, bool tsc_deadline)
{
	for (uint32_t i = 0; i < ARRAY_LEN(hidden_leaves); i++)
		remove_leaf(c, hidden_leaves[i].function, hidden_leaves[i].index);
	for (uint32_t i = 0; i < ARRAY_LEN(hidden); i++) {
		struct kvm_cpuid_entry2 *e = find(c, hidden[i].function, hidden[i].index);
		if (e)
			*reg_of(e, hidden[i].reg) &= ~hidden[i].bits;
	}
	struct kvm_cpuid_entry2 *e = find(c, 1, 0);
	if (e) {
		e->ecx |= BIT(31); /* a hypervisor is present */
		e->ecx = tsc_deadline ? e->ecx | BIT(24) : e->ecx & ~BIT(24);
	}
	fix_xsave_size(c);
	make_topology_leaf(c, 0xb);
	make_topology_leaf(c, 0x1f);
}

/* Leaf 0x80000008, EAX: bits 7:0, and 23:16 where nested page tables reach less (0: they do not). */
unsigned cpuid_address_bits(const struct kvm_cpuid2 *c)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];
		uint32_t bits = e->eax & 0xff, guest = e->eax >> 16 & 0xff;
		if (e->function != 0x80000008)
			continue;
		if (guest && guest < bits)
			bits = guest;
		return bits < 36 ? 36 : bits;
	}
	return 36;
}

int cpuid_make(struct machine *m, struct kvm_cpuid2 *out, struct error *err)
{
	out->nent = CPUID_MAX_ENTRIES;
	int rc =
		vm_call(m->vm.kvm_fd, KVM_GET_SUPPORTED_CPUID, out, err, "KVM_GET_SUPPORTED_CPUID");
	if (rc < 0)
		return rc;
	/* KVM's list leaves this bit to us, since it depends on where the local APIC is. */
	cpuid_filter(out, vm_has(&m->vm, KVM_CAP_TSC_DEADLINE_TIMER));
	return 0;
}

/* Bits that hold a core number. */
static uint32_t core_shift(uint32_t ncpus)
{
	uint32_t shift = 0;
	while (1u << shift < ncpus)
		shift++;
	return shift;
}

/* Cache leaves 4 (Intel) and 0x8000001d (AMD): levels 1 and 2 are a core's, 3 the package's. */
static void set_cache(struct kvm_cpuid_entry2 *e, uint32_t shift)
{
	uint32_t sharing = (e->eax >> 5 & 7) >= 3 ? BIT(shift) - 1 : 0;
	if (!(e->eax & 0x1f))
		return; /* no more caches */
	e->eax = (e->eax & 0x3fff) | (sharing > 0xfff ? 0xfff : sharing) << 14;
	if (e->function == 4)
		e->eax |= (BIT(shift) - 1 > 0x3f ? 0x3f : BIT(shift) - 1) << 26;
}

/* Leaves 0xb and 0x1f: a level of threads (one a core), a level of cores, the end. */
static void set_topology(struct kvm_cpuid_entry2 *e, uint32_t index, uint32_t ncpus)
{
	const uint32_t thread_level = 1, core_level = 2;
	e->eax = e->ebx = 0;
	e->ecx = e->index;
	e->edx = index;
	if (e->index == 0) {
		e->ebx = 1;
		e->ecx |= thread_level << 8;
	} else if (e->index == 1) {
		e->eax = core_shift(ncpus);
		e->ebx = ncpus;
		e->ecx |= core_level << 8;
	}
}

void cpuid_for_cpu(struct kvm_cpuid2 *c, uint32_t index, uint32_t ncpus)
{
	uint32_t shift = core_shift(ncpus);
	uint32_t ids = BIT(shift) > 0xff ? 0xff : BIT(shift);
	const struct kvm_cpuid_entry2 *vendor = find(c, 0, 0);
	bool amd = vendor && (vendor->ecx == 0x444d4163 /* AuthenticAMD */ ||
			      vendor->ecx == 0x656e6975 /* HygonGenuine */);

	for (uint32_t i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];
		switch (e->function) {
		case 0x1: /* initial APIC id, number of ids, "more than one" */
			e->ebx = (e->ebx & 0xffff) | ids << 16 | index << 24;
			e->edx = ncpus > 1 ? e->edx | BIT(28) : e->edx & ~BIT(28);
			break;
		case 0x4:
		case 0x8000001d:
			set_cache(e, shift);
			break;
		case 0xb:
		case 0x1f:
			set_topology(e, index, ncpus);
			break;
		case 0x80000001: /* "more than one", AMD's way */
			if (amd)
				e->ecx = ncpus > 1 ? e->ecx | BIT(1) : e->ecx & ~BIT(1);
			break;
		case 0x80000008: /* size of core ids and number of cores */
			if (amd)
				e->ecx = (e->ecx & ~0xf0ffu) | shift << 12 | ((ncpus - 1) & 0xff);
			break;
		case 0x8000001e: /* APIC id, core id, one thread a core, one node */
			e->eax = index;
			e->ebx = index & 0xff;
			e->ecx = 0;
			break;
		}
	}
}
