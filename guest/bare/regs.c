/* SPDX-License-Identifier: MIT */
/*
 * regs: every register the guest can fill keeps its value. General registers, RFLAGS, x87, SSE and AVX
 * state in a loop at CPL3; debug, control and model-specific registers, segments and tables at CPL0
 * between its rounds. On every CPU, each with its own values.
 */
#include "regs.h"
#include "guest.h"

#define SPIN 500000

#define MSR_EFER      0xc0000080
#define MSR_FS_BASE   0xc0000100
#define MSR_GS_BASE   0xc0000101
#define MSR_KERNEL_GS 0xc0000102
#define MSR_TSC_AUX   0xc0000103

/* AMD's SYSENTER_ESP and _EIP are 32 bits wide, and kept so by KVM.
 * What is written; per CPU, its number is added to values with vary set. Some values may not stick
 * (reserved bits, registers a CPU does not have): what is read back right after is what must stay. */
static const struct msr {
	const char *name;
	uint32_t index;
	bool keep; /* not written, only watched */
	bool vary;
	uint64_t value;
} msrs[] = {
	{"APIC_BASE", 0x1b, true, false, 0},
	{"EFER", MSR_EFER, true, false, 0},
	{"MISC_ENABLE", 0x1a0, false, false, 0x1},
	{"PAT", 0x277, false, false, 0x0001040500070406},
	{"SYSENTER_CS", 0x174, false, true, 0x18},
	{"SYSENTER_ESP", 0x175, false, true, 0x12345680},
	{"SYSENTER_EIP", 0x176, false, true, 0x76543210},
	{"STAR", 0xc0000081, false, true, 0x0023001000000000},
	{"LSTAR", 0xc0000082, false, true, 0xffff800012345000},
	{"CSTAR", 0xc0000083, false, true, 0xffff800054321000},
	{"FMASK", 0xc0000084, false, false, 0x47700},
	{"FS_BASE", MSR_FS_BASE, false, true, 0x00007f0012340000},
	{"GS_BASE", MSR_GS_BASE, false, true, 0xffff888056780000},
	{"KERNEL_GS_BASE", MSR_KERNEL_GS, false, true, 0xffff8880deadb000},
	{"TSC_AUX", MSR_TSC_AUX, false, true, 0x00abc000},
	{"MTRR_FIX64K_00000", 0x250, false, false, 0x0606060606060606},
	{"MTRR_FIX16K_80000", 0x258, false, false, 0x0606060606060606},
	{"MTRR_FIX4K_C0000", 0x268, false, false, 0x0505050505050505},
	{"MTRR_FIX4K_F8000", 0x26f, false, false, 0x0505050505050505},
	{"MTRR_PHYSBASE0", 0x200, false, false, 0xc0000000},
	{"MTRR_PHYSMASK0", 0x201, false, false, 0xffc0000800},
	{"MTRR_PHYSBASE7", 0x20e, false, false, 0x80000005},
	{"MTRR_PHYSMASK7", 0x20f, false, false, 0xffffe00800},
	{"MTRR_DEF_TYPE", 0x2ff, false, false, 0xc06},
};
#define MSRS (sizeof(msrs) / sizeof(msrs[0]))

struct tables {
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) gdtr, idtr;
	uint16_t ldtr, tr, cs, ss, ds, es, fs, gs;
};

struct kernel_state {
	uint64_t msr[MSRS];
	bool have[MSRS];
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t dr[4], dr7;
	struct tables tables;
};

static struct regs_image images[GUEST_MAX_CPUS];
static volatile uint64_t rounds[GUEST_MAX_CPUS], stop, done[GUEST_MAX_CPUS];

static uint64_t pattern(unsigned cpu, uint64_t round, unsigned n)
{
	uint64_t v = (round + 1) * 0x9e3779b97f4a7c15 + cpu * 0xc2b2ae3d27d4eb4f + n;

	v ^= v >> 29;
	v *= 0xbf58476d1ce4e5b9;
	return v ^ v >> 32;
}

static void image_fill(struct regs_image *im, unsigned cpu, uint64_t round)
{
	/* CF PF AF ZF SF DF OF, and ID on top: half of the rounds each. */
	im->flags = 0x202 | (pattern(cpu, round, 99) & 0xcd5) | (round & 1) << 21;
	for (unsigned i = 0; i < 16; i++)
		im->gpr[i] = pattern(cpu, round, i);
	im->gpr[REGS_RCX] = im->gpr[REGS_RCX] >> 32 << 32 | SPIN;

	uint16_t control[2] = {round & 1 ? 0x0f7f : 0x027f, 0}; /* rounding, precision; status */
	uint32_t mxcsr = round & 1 ? 0xbf80 : 0x5fbf;		/* FZ, rounding, sticky flags */
	memset(im->fx, 0, sizeof(im->fx));
	memcpy(im->fx, control, sizeof(control));
	im->fx[4] = 0xff; /* all eight in use */
	memcpy(im->fx + 24, &mxcsr, sizeof(mxcsr));
	for (unsigned i = 0; i < 8; i++) {
		uint64_t mantissa = pattern(cpu, round, 100 + i) | 1ull << 63;
		uint16_t exponent = 0x3fff + (uint16_t)i;
		memcpy(im->fx + 32 + 16 * i, &mantissa, 8);
		memcpy(im->fx + 40 + 16 * i, &exponent, 2);
	}
	for (unsigned i = 0; i < 32; i++) {
		uint64_t low = pattern(cpu, round, 200 + i), high = pattern(cpu, round, 300 + i);
		memcpy(im->fx + 160 + 8 * i, &low, 8);
		memcpy(im->high + 8 * i, &high, 8);
	}
}

/* CPL3: one round; 0, or what differs: 1 to 16 general register, 17 flags, 1000 + byte of the FXSAVE
 * image, 2000 + byte of the upper halves. */
static uint64_t regs_round(void *arg)
{
	struct regs_image *im = arg;
	uint64_t flags = im->flags;

	regs_spin(im);
	for (unsigned i = 0; i < 16; i++) {
		uint64_t want = im->gpr[i];
		if (i == REGS_RSP)
			want = (uint64_t)im->gpr;
		if (i == REGS_RCX)
			want = want >> 32 << 32;
		if (im->got[i] != want)
			return 1 + i;
	}
	if (im->flags != flags)
		return 17;
	/* Control, status, tag words and MXCSR; then registers (80 of 128 bits each), xmm. The last
	 * instruction and operand are not compared: AMD saves them only with an exception pending. */
	for (unsigned i = 0; i < 416; i++)
		if ((i < 5 || (i >= 24 && i < 28) || (i >= 32 && i < 160 && i % 16 < 10) ||
		     i >= 160) &&
		    im->got_fx[i] != im->fx[i])
			return 1000 + i;
	for (unsigned i = 0; im->avx && i < 256; i++)
		if (im->got_high[i] != im->high[i])
			return 2000 + i;
	return 0;
}

static void tables_read(struct tables *t)
{
	__asm__ volatile("sgdt %0" : "=m"(t->gdtr));
	__asm__ volatile("sidt %0" : "=m"(t->idtr));
	__asm__ volatile("sldt %0" : "=m"(t->ldtr));
	__asm__ volatile("str %0" : "=m"(t->tr));
	__asm__ volatile("mov %%cs, %0" : "=m"(t->cs));
	__asm__ volatile("mov %%ss, %0" : "=m"(t->ss));
	__asm__ volatile("mov %%ds, %0" : "=m"(t->ds));
	__asm__ volatile("mov %%es, %0" : "=m"(t->es));
	__asm__ volatile("mov %%fs, %0" : "=m"(t->fs));
	__asm__ volatile("mov %%gs, %0" : "=m"(t->gs));
}

static void kernel_read(struct kernel_state *k)
{
	for (unsigned i = 0; i < MSRS; i++)
		if (k->have[i])
			k->msr[i] = rdmsr(msrs[i].index);
	k->cr0 = read_cr0();
	k->cr2 = read_cr2();
	k->cr3 = read_cr3();
	k->cr4 = read_cr4();
	k->cr8 = read_cr8();
	k->dr[0] = read_dr0();
	k->dr[1] = read_dr1();
	k->dr[2] = read_dr2();
	k->dr[3] = read_dr3();
	k->dr7 = read_dr7();
	tables_read(&k->tables);
}

/* CR4 bits that every 64-bit CPU has: DE, TSD off, PGE, PCE off, OSFXSR and OSXMMEXCPT stay. */
#define CR4_DE	(1u << 3)
#define CR4_PGE (1u << 7)

static void kernel_fill(struct kernel_state *k, unsigned cpu)
{
	extern uint64_t gdt[];
	static const uint64_t ldt[2] = {0, 0x00cff3000000ffff};

	/* LDT: SDM vol. 3, 7.2.3. The same descriptor for all. */
	gdt[SEL_LDT / 8] = (sizeof(ldt) - 1) | ((uint64_t)ldt & 0xffffff) << 16 | 0x82ull << 40 |
			   ((uint64_t)ldt >> 24 & 0xff) << 56;
	gdt[SEL_LDT / 8 + 1] = (uint64_t)ldt >> 32;
	__asm__ volatile("lldt %w0" : : "r"(SEL_LDT));
	__asm__ volatile("mov %w0, %%ds; mov %w0, %%es; mov %w0, %%fs; mov %w1, %%gs"
			 :
			 : "r"(SEL_UDATA), "r"(0x0f)); /* gs: LDT entry 1, CPL3 */
	for (unsigned i = 0; i < MSRS; i++) {
		uint64_t v = msrs[i].value + (msrs[i].vary ? cpu * 0x10 : 0);
		k->have[i] = rdmsr_safe(msrs[i].index, &k->msr[i]);
		if (k->have[i] && !msrs[i].keep)
			wrmsr_safe(msrs[i].index, v);
	}
	write_cr4(read_cr4() | CR4_DE | CR4_PGE);
	write_cr2(0x00007abcdef01000 + cpu);
	write_cr8(2);
	write_dr0(0x30000000 + cpu * 0x1000);
	write_dr1(0x31000008 + cpu * 0x1000);
	write_dr2(0x32000010 + cpu * 0x1000);
	write_dr3(0x33000018 + cpu * 0x1000);
	/* Local, on execution and access of addresses not used. QEMU 7.2 may crash when it emulates a
	 * nested guest's breakpoints: there none is enabled. */
	write_dr7(0x9d910400 | (option_number("emulated", 0) ? 0 : 0x55));
	memset(&k->tables, 0, sizeof(k->tables));
}

static void same(unsigned cpu, const char *name, uint64_t got, uint64_t want)
{
	if (got != want)
		guest_fail("cpu %u round %lu: %s is %lx, was %lx", cpu, rounds[cpu], name, got,
			   want);
}

static void kernel_check(unsigned cpu, const struct kernel_state *want)
{
	struct kernel_state k;

	memcpy(&k, want, sizeof(k)); /* which MSRs there are */
	kernel_read(&k);
	for (unsigned i = 0; i < MSRS; i++)
		if (k.have[i])
			same(cpu, msrs[i].name, k.msr[i], want->msr[i]);
	same(cpu, "CR0", k.cr0, want->cr0);
	same(cpu, "CR2", k.cr2, want->cr2);
	same(cpu, "CR3", k.cr3, want->cr3);
	same(cpu, "CR4", k.cr4, want->cr4);
	same(cpu, "CR8", k.cr8, want->cr8);
	for (unsigned i = 0; i < 4; i++)
		same(cpu, "a debug address", k.dr[i], want->dr[i]);
	same(cpu, "DR7", k.dr7, want->dr7);
	for (unsigned i = 0; i < sizeof(k.tables); i++)
		same(cpu, "a table or segment register", ((uint8_t *)&k.tables)[i],
		     ((const uint8_t *)&want->tables)[i]);
}

/* XCR0: x87, SSE and AVX, where the CPU has AVX and lets us. */
static bool avx_enable(void)
{
	struct cpuid c = cpuid(1, 0);

	if (!(c.ecx & 1u << 26) || !(c.ecx & 1u << 28))
		return false;
	write_cr4(read_cr4() | 1u << 18); /* OSXSAVE */
	__asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
	return true;
}

static void regs_cpu(unsigned cpu)
{
	struct regs_image *im = &images[cpu];
	struct kernel_state want;

	memset(&want, 0, sizeof(want));
	im->avx = avx_enable();
	kernel_fill(&want, cpu);
	kernel_read(&want);
	for (; !stop; rounds[cpu]++) {
		image_fill(im, cpu, rounds[cpu]);
		uint64_t wrong = user_call(regs_round, im);
		if (wrong && wrong <= 16)
			same(cpu, "a general register", im->got[wrong - 1], im->gpr[wrong - 1]);
		if (wrong)
			guest_fail("cpu %u round %lu: state %lu (17: flags %lx) differs", cpu,
				   rounds[cpu], wrong, im->flags);
		kernel_check(cpu, &want);
		if (cpu == 0 && serial_poll() == 'q')
			stop = 1;
	}
	done[cpu] = 1;
}

void guest_main(void)
{
	uint64_t total = 0;

	for (unsigned i = 1; i < guest_cpus; i++)
		cpu_boot(i, regs_cpu);
	guest_printf("READY\n");
	regs_cpu(0);
	for (unsigned i = 0; i < guest_cpus; i++) {
		if (!wait_flag(&done[i], 20000000))
			guest_fail("cpu %u does not end", i);
		total += rounds[i];
	}
	guest_pass("regs rounds=%lu avx=%lu", total, images[0].avx);
}
