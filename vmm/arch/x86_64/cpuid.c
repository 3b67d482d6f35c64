/* SPDX-License-Identifier: MIT */
/* Leaves and bits: Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E; for 0x40000001 Linux
 * Documentation/virt/kvm/x86/cpuid.rst. */
#include "vmm/arch/x86_64/cpu.h"

#include <asm/kvm_para.h>
#include <linux/kvm.h>

#include "vmm/machine.h"

#define BIT(n) (1u << (n))
#define ANY    0xffffffffu /* every index of a leaf */

/* x87, SSE, AVX, MPX, AVX-512, PKRU, AMX: bits of XCR0, and components of XSAVE */
#define XCR0_SHOWN (0x2ffu | XCR0_AMX)
#define XCR0_AMX   (BIT(XCR0_TILE_CONFIG) | BIT(XCR0_TILE_DATA))
#define XCR0_LAST  XCR0_TILE_DATA

enum reg { EAX, EBX, ECX, EDX };

/*
 * The features of KVM that a guest may see. A feature is here if it has no state, or if the saved state contains it
 * (registers, the XSAVE components below, the MSRs that KVM lists). What a newer kernel adds stays hidden until
 * somebody has checked that it can be saved. Hidden for that reason: VMX, debug store, last branch records, processor
 * trace, SGX, shadow stacks and indirect branch tracking (SSP has no MSR), FRED, user interrupts, key locker.
 * SVM and the PMU are shown only on request.
 */
static const struct {
	uint32_t function, index;
	enum reg reg;
	uint32_t bits;
} shown[] = {
	/* SSE3, PCLMUL, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT, TSC deadline, AES,
	 * XSAVE, OSXSAVE, AVX, F16C, RDRAND, hypervisor */
	{0x1, 0, ECX, 0xfffa3203},
	{0x1, 0, EDX, 0x1f8bfbff},
	/* FSGSBASE, TSC_ADJUST, BMI1, HLE, AVX2, FDP_EXCPTN_ONLY, SMEP, BMI2, ERMS, INVPCID, RTM, ZERO_FCS_FDS,
	 * MPX, AVX512F, AVX512DQ, RDSEED, ADX, SMAP, AVX512IFMA, CLFLUSHOPT, CLWB, AVX512PF, AVX512ER,
	 * AVX512CD, SHA, AVX512BW, AVX512VL */
	{0x7, 0, EBX, 0xfdbf6ffb},
	/* AVX512VBMI, UMIP, PKU, OSPKE, WAITPKG, AVX512_VBMI2, GFNI, VAES, VPCLMULQDQ, AVX512_VNNI,
	 * AVX512_BITALG, AVX512_VPOPCNTDQ, LA57, RDPID, BUS_LOCK_DETECT, CLDEMOTE, MOVDIRI, MOVDIR64B */
	{0x7, 0, ECX, 0x1b415f7e},
	/* AVX512_4VNNIW, AVX512_4FMAPS, FSRM, AVX512_VP2INTERSECT, MD_CLEAR, SERIALIZE, TSXLDTRK, AVX512_FP16,
	 * AMX_BF16, AMX_TILE, AMX_INT8, SPEC_CTRL, STIBP, FLUSH_L1D, ARCH_CAPABILITIES, SSBD */
	{0x7, 0, EDX, 0xbfc1451c},
	/* SHA512, SM3, SM4, AVX_VNNI, AVX512_BF16, CMPCCXADD, FZRM, FSRS, FSRC, LKGS, WRMSRNS, AMX_FP16, AVX_IFMA,
	 * LAM, MOVRS */
	{0x7, 1, EAX, 0x84ac1cb7},
	/* MSR_IMM */
	{0x7, 1, ECX, 0x00000020},
	/* AVX_VNNI_INT8, AVX_NE_CONVERT, AMX_COMPLEX, AVX_VNNI_INT16, PREFETCHITI, AVX10 */
	{0x7, 1, EDX, 0x00084530},
	/* PSFD, IPRED_CTRL, RRSBA_CTRL, DDPD_U, BHI_CTRL, MCDT_NO */
	{0x7, 2, EDX, 0x0000003f},
	/* LAHF, CMP_LEGACY, SVM, CR8_LEGACY, ABM, SSE4A, MISALIGNSSE, 3DNOWPREFETCH, OSVW, XOP, FMA4, TBM, TOPOEXT,
	 * PERFCTR_CORE */
	{0x80000001, 0, ECX, 0x00e10bf7},
	{0x80000001, 0, EDX, 0xefd3fbff},
	/* CONSTANT_TSC */
	{0x80000007, 0, EDX, 0x00000100},
	/* CLZERO, XSAVEERPTR, WBNOINVD, IBPB, IBRS, STIBP, STIBP_ALWAYS_ON, IBRS_SAME_MODE, EFER_LMSLE_MBZ,
	 * SSBD, VIRT_SSBD, SSB_NO, PSFD, IBPB_RET */
	{0x80000008, 0, EBX, 0x571ad205},
	/* SVM: revision, number of ASIDs; NPT, NRIPS, TSCRATEMSR, VMCBCLEAN, FLUSHBYASID, DECODEASSISTS,
	 * PAUSEFILTER, PFTHRESHOLD, VGIF, SVME_ADDR_CHK */
	{0x8000000a, 0, EAX, ~0u},
	{0x8000000a, 0, EBX, ~0u},
	{0x8000000a, 0, EDX, 0x100114f9},
	/* NO_NESTED_DATA_BP, WRMSR_XX_BASE_NS, LFENCE_RDTSC, VERW_CLEAR, NULL_SEL_CLR_BASE, AUTOIBRS,
	 * NO_SMM_CTL_MSR, GP_ON_USER_CPUID, PREFETCHI, AVX512_BMM, SBPB, IBPB_BRTYPE, SRSO_NO,
	 * SRSO_USER_KERNEL_NO */
	{0x80000021, 0, EAX, 0x78920367},
	/* TSA_SQ_NO, TSA_L1_NO */
	{0x80000021, 0, ECX, 0x00000006},
	/* PERFMON_V2; how many counters a core has */
	{0x80000022, 0, EAX, 0x00000001},
	{0x80000022, 0, EBX, 0x0000000f},
	/* no part of XSS */
	{0xd, 0, EAX, XCR0_SHOWN},
	{0xd, 0, EDX, 0},
	{0xd, 1, EAX, 0x1f}, /* XSAVEOPT, XSAVEC, XGETBV1, XSAVES, XFD */
	{0xd, 1, ECX, 0},
	{0xd, 1, EDX, 0},
	{0x1e, 0, EBX, ~0u}, /* AMX: size of a tile. EAX is hidden: it counts further indices */
	/* clock sources, steal time, EOI, unhalt, TLB flush, IPIs, polling, yield, extended destination IDs, migration
	 * control; no asynchronous page faults */
	{KVM_CPUID_FEATURES, 0, EAX,
	 BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) |
		 BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) |
		 BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) |
		 BIT(KVM_FEATURE_PV_TLB_FLUSH) | BIT(KVM_FEATURE_PV_SEND_IPI) |
		 BIT(KVM_FEATURE_POLL_CONTROL) | BIT(KVM_FEATURE_PV_SCHED_YIELD) |
		 BIT(KVM_FEATURE_MSI_EXT_DEST_ID) | BIT(KVM_FEATURE_HC_MAP_GPA_RANGE) |
		 BIT(KVM_FEATURE_MIGRATION_CONTROL) | BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT)},
};

/* The leaves that are shown, each with its largest index. In leaves marked true, registers that have no row above are
 * zero: new features appear there. */
static const struct {
	uint32_t function, last;
	bool features; /* registers without a row above are zero */
} leaves[] = {
	{0x0, 0, false},	 /* vendor */
	{0x1, 0, false},	 /* family, features */
	{0x2, 0, false},	 /* caches */
	{0x4, ANY, false},	 /* caches */
	{0x6, 0, false},	 /* APIC timer */
	{0x7, 2, true},		 /* features; EAX of index 0 is the last index */
	{0xa, 0, false},	 /* PMU */
	{0xb, ANY, false},	 /* topology */
	{0xd, XCR0_LAST, false}, /* XSAVE */
	{0x15, 0, false},	 /* TSC frequency */
	{0x16, 0, false},	 /* processor frequency */
	{0x1d, 1, false},	 /* AMX: palettes of tiles */
	{0x1e, 0, true},	 /* AMX */
	{0x1f, ANY, false},	 /* topology */
	{0x24, 1, false},	 /* AVX10 */
	{KVM_CPUID_SIGNATURE, 0, false},
	{KVM_CPUID_FEATURES, 0, false},
	{0x80000000, 0, false},
	{0x80000001, 0, false},
	{0x80000002, 0, false},
	{0x80000003, 0, false}, /* name */
	{0x80000004, 0, false},
	{0x80000005, 0, false}, /* caches */
	{0x80000006, 0, false},
	{0x80000007, 0, true},	/* power: the TSC's */
	{0x80000008, 0, false}, /* address widths, features */
	{0x8000000a, 0, true},	/* SVM */
	{0x80000019, 0, false}, /* TLBs */
	{0x8000001a, 0, false}, /* widths of execution units */
	{0x8000001d, ANY, false},
	{0x8000001e, 0, false}, /* caches, topology */
	{0x80000020, 0, true},
	{0x80000021, 0, true},
	{0x80000022, 0, true}, /* PMU */
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

/* KVM lists AMX and XFD even if this process may not give the tiles to a guest. XCR0 tells whether it may. */
static const struct {
	uint32_t function, index;
	enum reg reg;
	uint32_t bits;
} of_amx[] = {
	{0x7, 0, EDX, BIT(22) | BIT(24) | BIT(25)},
	{0x7, 1, EAX, BIT(21)},
	{0x7, 1, EDX, BIT(8)},
	{0xd, 0, EAX, XCR0_AMX},
	{0xd, 1, EAX, BIT(4)},
};

static void hide_amx_without_tiles(struct kvm_cpuid2 *c)
{
	const struct kvm_cpuid_entry2 *main = find(c, 0xd, 0);
	if (main && (main->eax & XCR0_AMX) == XCR0_AMX)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(of_amx); i++) {
		struct kvm_cpuid_entry2 *e = find(c, of_amx[i].function, of_amx[i].index);
		if (e)
			*reg_of(e, of_amx[i].reg) &= ~of_amx[i].bits;
	}
	remove_leaf(c, 0xd, XCR0_TILE_CONFIG);
	remove_leaf(c, 0xd, XCR0_TILE_DATA);
	remove_leaf(c, 0x1d, ANY);
	remove_leaf(c, 0x1e, ANY);
}

/* The largest XSAVE area, standard format, for the components left in XCR0. KVM does not compute it. */
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

/* Topology leaves have one entry for each level; cpuid_for_cpu fills them. */
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

/* The leaf's index in the table above, or -1. Indices of XSAVE are components: those shown in XCR0. */
static int leaf_of(const struct kvm_cpuid_entry2 *e)
{
	if (e->function == 0xd && e->index > 1 &&
	    (e->index > XCR0_LAST || !(XCR0_SHOWN & BIT(e->index))))
		return -1;
	for (unsigned i = 0; i < ARRAY_LEN(leaves); i++)
		if (leaves[i].function == e->function && e->index <= leaves[i].last)
			return (int)i;
	return -1;
}

static void show(struct kvm_cpuid_entry2 *e, bool features)
{
	for (enum reg reg = EAX; reg <= EDX; reg++) {
		bool last_index = e->function == 0x7 && !e->index && reg == EAX;
		uint32_t bits = features && !last_index ? 0 : ~0u;
		for (unsigned i = 0; i < ARRAY_LEN(shown); i++)
			if (shown[i].function == e->function && shown[i].index == e->index &&
			    shown[i].reg == reg)
				bits = shown[i].bits;
		*reg_of(e, reg) &= bits;
		if (last_index && *reg_of(e, reg) > 2)
			*reg_of(e, reg) = 2;
	}
}

static bool has_svm(struct kvm_cpuid2 *c)
{
	const struct kvm_cpuid_entry2 *e = find(c, 0x80000001, 0);
	return e && e->ecx & BIT(2) && find(c, 0x8000000a, 0);
}

static void hide_svm(struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 *e = find(c, 0x80000001, 0);
	if (e)
		e->ecx &= ~BIT(2);
	remove_leaf(c, 0x8000000a, ANY);
}

/*
 * The PMU of Intel (leaf 0xa, whose version is 0 where KVM gives none) and of AMD (six counters a core). KVM lists its
 * MSRs (arch/x86/kvm/x86.c, msrs_to_save_pmu), so they are saved. They may be loaded in any order, since KVM counts
 * only while the guest runs (exclude_host, arch/x86/kvm/pmu.c). PERF_CAPABILITIES is hidden, and with it PEBS and last
 * branch records. AMD's first four counters have no feature bit, and are always there.
 */
#define PERFCTR_CORE BIT(23)

static bool has_pmu(struct kvm_cpuid2 *c)
{
	const struct kvm_cpuid_entry2 *intel = find(c, 0xa, 0), *amd = find(c, 0x80000001, 0);
	return (intel && intel->eax & 0xff) || (amd && amd->ecx & PERFCTR_CORE);
}

static void hide_pmu(struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 *e = find(c, 0x80000001, 0);
	if (e)
		e->ecx &= ~PERFCTR_CORE;
	remove_leaf(c, 0xa, ANY);
	remove_leaf(c, 0x80000022, ANY);
}

static int pmu_missing(struct error *err)
{
	error_end(err, EXIT_HOST, ENOTSUP, "--cpus pmu=on: this host's KVM gives guests no PMU");
	return error_hint(err, "a host whose processor has one, with Y in "
			       "/sys/module/kvm/parameters/enable_pmu");
}

void cpuid_filter(struct kvm_cpuid2 *c, bool tsc_deadline, const struct cpu_options *opt)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < c->nent; i++) {
		int leaf = leaf_of(&c->entries[i]);
		if (leaf < 0)
			continue;
		c->entries[n] = c->entries[i];
		show(&c->entries[n++], leaves[leaf].features);
	}
	c->nent = n;
	struct kvm_cpuid_entry2 *e = find(c, 1, 0);
	if (e) {
		e->ecx |= BIT(31); /* a hypervisor is present */
		e->ecx = tsc_deadline ? e->ecx | BIT(24) : e->ecx & ~BIT(24);
	}
	e = find(c, 0x80000007, 0);
	if (e && cpuid_is_amd(c->entries, c->nent))
		e->ebx |=
			3; /* lost memory may be survived (MCA overflow recovery, SUCCOR): mce.c */
	hide_amx_without_tiles(c);
	if (!opt->nested)
		hide_svm(c);
	if (!opt->pmu)
		hide_pmu(c);
	fix_xsave_size(c);
	make_topology_leaf(c, 0xb);
	make_topology_leaf(c, 0x1f);
}

bool cpuid_is_amd(const struct kvm_cpuid_entry2 *e, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!e[i].function)
			return e[i].ecx == 0x444d4163 /* AuthenticAMD */ ||
			       e[i].ecx == 0x656e6975 /* HygonGenuine */;
	return false;
}

/* KVM checks for "Hv#1" in EAX of 0x40000001 (Hyper-V top-level functional specification 2.4.2). */
bool cpuid_has_hyperv(const struct vcpu_state *s)
{
	for (uint32_t i = 0; i < s->cpuid_len; i++)
		if (s->cpuid[i].function == 0x40000001 && s->cpuid[i].eax == 0x31237648)
			return true;
	return false;
}

/* Leaf 0x80000008, EAX: bits 7:0; if nested page tables reach less, bits 23:16 (0: they do not). */
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
	cpuid_filter(out, vm_has(&m->vm, KVM_CAP_TSC_DEADLINE_TIMER), &m->opt.cpu);
	struct kvm_cpuid_entry2 *kvm = find(out, KVM_CPUID_FEATURES, 0);
	if (kvm && cpu_ids_are_wide(m->opt.cpus)) /* ours as well: ioapic.c */
		kvm->eax |= BIT(KVM_FEATURE_MSI_EXT_DEST_ID);
	if (m->opt.cpu.nested && !has_svm(out))
		return svm_missing(err);
	return m->opt.cpu.pmu && !has_pmu(out) ? pmu_missing(err) : 0;
}

/* Bits that hold a number below @n. */
static uint32_t bits_for(uint32_t n)
{
	uint32_t bits = 0;
	while (1u << bits < n)
		bits++;
	return bits;
}

/* An APIC id is, from its lowest bit, the thread's number, the core's and the socket's. */
struct place {
	uint32_t id;
	uint32_t threads, package;	    /* how many in a core, in a socket */
	uint32_t thread_bits, package_bits; /* of the id, for a number among these */
};

static uint32_t at_most(uint32_t value, uint32_t max)
{
	return value < max ? value : max;
}

/* Cache leaves 4 (Intel) and 0x8000001d (AMD): levels 1 and 2 are a core's, 3 the package's. */
static void set_cache(struct kvm_cpuid_entry2 *e, const struct place *p)
{
	bool shared = (e->eax >> 5 & 7) >= 3;
	uint32_t cores = BIT(p->package_bits - p->thread_bits);
	if (!(e->eax & 0x1f))
		return; /* no more caches */
	e->eax = (e->eax & 0x3fff) |
		 at_most(BIT(shared ? p->package_bits : p->thread_bits) - 1, 0xfff) << 14;
	if (e->function == 4)
		e->eax |= at_most(cores - 1, 0x3f) << 26;
}

/* Leaves 0xb and 0x1f: a level of threads, a level of cores, the end. */
static void set_topology(struct kvm_cpuid_entry2 *e, const struct place *p)
{
	const uint32_t thread_level = 1, core_level = 2;
	e->eax = e->ebx = 0;
	e->ecx = e->index;
	e->edx = p->id;
	if (e->index == 0) {
		e->eax = p->thread_bits;
		e->ebx = p->threads;
		e->ecx |= thread_level << 8;
	} else if (e->index == 1) {
		e->eax = p->package_bits;
		e->ebx = p->package;
		e->ecx |= core_level << 8;
	}
}

static uint32_t with_bit(uint32_t reg, unsigned bit, bool on)
{
	return on ? reg | BIT(bit) : reg & ~BIT(bit);
}

void cpuid_for_cpu(struct kvm_cpuid2 *c, uint32_t index, const struct cpu_options *opt)
{
	const struct place p = {.id = index,
				.threads = opt->threads,
				.package = opt->threads * opt->cores,
				.thread_bits = bits_for(opt->threads),
				.package_bits = bits_for(opt->threads) + bits_for(opt->cores)};
	bool several = p.package > 1;
	bool amd = cpuid_is_amd(c->entries, c->nent);

	for (uint32_t i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];
		switch (e->function) {
		case 0x1: /* initial APIC id, number of ids in a package, "more than one" */
			e->ebx = (e->ebx & 0xffff) | at_most(BIT(p.package_bits), 0xff) << 16 |
				 index << 24;
			e->edx = with_bit(e->edx, 28, several);
			break;
		case 0x4:
		case 0x8000001d:
			set_cache(e, &p);
			break;
		case 0xb:
		case 0x1f:
			set_topology(e, &p);
			break;
		case 0x80000001: /* "more than one", AMD's way */
			if (amd)
				e->ecx = with_bit(e->ecx, 1, several);
			break;
		case 0x80000008: /* of a package: bits of an id, and number of threads */
			if (amd)
				e->ecx = (e->ecx & ~0xf0ffu) | p.package_bits << 12 |
					 at_most(p.package - 1, 0xff);
			break;
		case 0x8000001e: /* APIC id; threads of a core, core in its package; a package is a node */
			e->eax = index;
			e->ebx = at_most(p.threads - 1, 0xff) << 8 |
				 ((index & (BIT(p.package_bits) - 1)) >> p.thread_bits & 0xff);
			e->ecx = index >> p.package_bits & 0xff;
			break;
		}
	}
}
