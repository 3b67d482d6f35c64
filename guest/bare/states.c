/* SPDX-License-Identifier: MIT */
/*
 * states: puts itself into states that are allowed but rare, or that KVM gives and may refuse to take, one after the
 * other. Host: 'x' goes into the next one and says "IN name", or "NONE"; any byte then leaves it: "OUT name". 'f' does
 * some things at random and says "DID n": from then on it may be in any state, but for one in which it could not talk.
 * 'q' ends.
 *
 * pae=1: also paging with PAE out of long mode, of which software KVMs know nothing. seed=N: of what is done at random.
 * ops=N: how many at a time (16).
 */
#include "guest.h"
#include "states.h"

#define MSR_APIC_BASE	  0x1b
#define MSR_TSC_AUX	  0xc0000103
#define MSR_EFER	  0xc0000080
#define MSR_ASYNC_PF_EN	  0x4b564d02
#define MSR_MISC_FEATURES 0x140
#define APIC_EXTD	  0x400
#define APIC_EN		  0x800
#define APIC_LDR	  0xd0
#define APIC_DFR	  0xe0
#define ICR_SMI		  0x200
#define NOWHERE		  (1ull << 38) /* beyond guest memory */
#define CR0_WP_ETC	  0x10022      /* WP, NE, MP */

extern uint64_t legacy_run(unsigned how);
extern const uint8_t real_code[], real_code_end[];

static uint8_t scratch[4096] __attribute__((aligned(4096)));

/* ---- states in long mode ---- */

static void async_pf_nowhere(void)
{
	/* It raises #GP, and KVM keeps the value all the same. */
	wrmsr_safe(MSR_ASYNC_PF_EN, NOWHERE | 9);
}

static void async_pf_off(void)
{
	wrmsr_safe(MSR_ASYNC_PF_EN, 0);
}

static void ap_init(void)
{
	apic_ipi(1, ICR_INIT | ICR_ASSERT);
}

/* It waits for its SIPI, and an SMI waits for it. */
static void ap_init_smi(void)
{
	ap_init();
	apic_ipi(1, ICR_SMI);
}

static void ap_sipi(void)
{
	ap_init();
	memset((void *)AP_PAGE, 0xf4, 16); /* HLT */
	*(uint8_t *)AP_PAGE = 0xfa;	   /* CLI */
	apic_ipi(1, ICR_SIPI | AP_PAGE >> 12);
}

static void apic_id_other(void)
{
	apic_write(APIC_ID, 0x21000000);
	apic_write(APIC_LDR, 0x03000000);
	apic_write(APIC_DFR, 0x0fffffff);
}

static void apic_id_own(void)
{
	apic_write(APIC_ID, 0);
	apic_write(APIC_DFR, 0xffffffff);
}

static void apic_base(uint64_t clear, uint64_t set)
{
	wrmsr_safe(MSR_APIC_BASE, (rdmsr(MSR_APIC_BASE) & ~clear) | set);
}

static void apic_off(void)
{
	apic_base(APIC_EN, 0);
}
static void apic_x2(void)
{
	apic_base(0, APIC_EN | APIC_EXTD);
}
static void apic_id_then_x2(void)
{
	apic_id_other();
	apic_x2();
}
static void apic_moved(void)
{
	apic_base(0xfffff000, 0xd0000000);
}
static void apic_on(void)
{
	apic_base(APIC_EN | APIC_EXTD, 0);
	apic_base(0xfffff000, 0xfee00000 | APIC_EN);
	apic_enable();
	apic_id_own();
}

static void caches_off(void)
{
	write_cr0((read_cr0() & ~CR0_WP_ETC) | 0x60000000);
}
static void caches_on(void)
{
	write_cr0((read_cr0() & ~0x60000000ull) | CR0_WP_ETC);
}

static void debug_all(void)
{
	write_dr0((uintptr_t)scratch);
	write_dr1((uintptr_t)scratch + 8);
	write_dr2(~0ull << 47);
	write_dr3(NOWHERE);
	write_dr6(0xffff0fff);
	write_dr7(0xffff07ff & ~0x2000ull); /* not GD: it is written again */
}
static void debug_none(void)
{
	write_dr7(0x400);
	write_dr6(0xffff0ff0);
}

static void segments_null(void)
{
	__asm__ volatile(
		"mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs; mov %0, %%ss; lldt %w0"
		:
		: "r"(0)
		: "memory");
}
static void segments_32(void)
{
	__asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %1, %%fs; mov %1, %%gs; mov %0, %%ss"
			 :
			 : "r"(SEL_KDATA), "r"(SEL_UCODE)
			 : "memory");
}
static void segments_data(void)
{
	__asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss; mov %1, %%fs; mov %1, %%gs"
			 :
			 : "r"(SEL_KDATA), "r"(0)
			 : "memory");
}

static void cpuid_faults(void)
{
	wrmsr_safe(MSR_MISC_FEATURES, 1);
}
static void cpuid_works(void)
{
	wrmsr_safe(MSR_MISC_FEATURES, 0);
}

/* Values at the end of what may be there. */
static const uint32_t canonical[] = {0xc0000082, 0xc0000083, 0xc0000102, 0x175, 0x176};
static void msrs_far(void)
{
	for (unsigned i = 0; i < sizeof(canonical) / sizeof(canonical[0]); i++)
		wrmsr_safe(canonical[i], ~0ull << 47);
	wrmsr_safe(0xc0000084, ~0u);	       /* SFMASK */
	wrmsr_safe(0xc0000081, ~0ull);	       /* STAR */
	wrmsr_safe(0x277, 0x0706050401000000); /* PAT, all types */
	wrmsr_safe(0x2ff, 0xc06);	       /* MTRRs on */
	wrmsr_safe(0x200, 0xfff0000006);
	wrmsr_safe(0x201, 0xffffff0800);
}
static void msrs_near(void)
{
	for (unsigned i = 0; i < sizeof(canonical) / sizeof(canonical[0]); i++)
		wrmsr_safe(canonical[i], 0);
}

static void write_xcr0(uint64_t v)
{
	__asm__ volatile("xsetbv" : : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(0));
}

/* CPL3: a software KVM knows it only there. */
static uint64_t avx_use(void *arg)
{
	(void)arg;
	__asm__ volatile("vpcmpeqd %%xmm1, %%xmm1, %%xmm1" : : : "memory");
	return 0;
}

/* AVX registers are in use, but are not enabled any more. */
static void avx_left(void)
{
	if (!(cpuid(1, 0).ecx >> 26 & 1))
		return;
	write_cr4(read_cr4() | 1 << 18);
	write_xcr0(7 & cpuid(13, 0).eax);
	if (cpuid(1, 0).ecx >> 28 & 1)
		user_call(avx_use, NULL);
	write_xcr0(1);
}
static void avx_back(void)
{
	if (cpuid(1, 0).ecx >> 26 & 1)
		write_xcr0(7 & cpuid(13, 0).eax);
}

static void pcid_on(void)
{
	if (cpuid(1, 0).ecx >> 17 & 1) {
		write_cr4(read_cr4() | 1 << 17);
		write_cr3(read_cr3() | 0x5ull | 1ull << 63);
	}
}
static void pcid_off(void)
{
	write_cr3(read_cr3() & ~0xfffull);
	write_cr4(read_cr4() & ~(1ull << 17));
}

static void nothing(void)
{
}

static const struct state {
	const char *name;
	void (*enter)(void), (*leave)(void);
	unsigned how; /* legacy_run */
	bool two;     /* needs a second CPU */
	bool known;   /* not at random: it would be all that is found, or has interrupts on */
} states[] = {
	{"protected-mode", .how = 1 << 8},
	{"protected-mode-L", .how = LEGACY_L},
	{"protected-mode-L-LME", .how = LEGACY_L | LEGACY_LME},
	{"real-mode-L", .how = LEGACY_REAL | LEGACY_L},
	{"pae", .how = LEGACY_PAE},
	{"async-pf-nowhere", async_pf_nowhere, async_pf_off, .known = true},
	{"ap-init", ap_init, ap_init, .two = true},
	{"ap-init-smi", ap_init_smi, ap_init, .two = true},
	{"ap-sipi", ap_sipi, ap_init, .two = true},
	{"apic-id", apic_id_other, apic_id_own},
	{"apic-moved", apic_moved, apic_on},
	{"apic-off", apic_off, apic_on},
	{"apic-x2", apic_x2, apic_on},
	{"apic-id-x2", apic_id_then_x2, apic_on},
	{"caches-off", caches_off, caches_on},
	{"debug-registers", debug_all, debug_none},
	{"segments-null", segments_null, segments_data},
	{"segments-odd", segments_32, segments_data},
	{"cpuid-faults", cpuid_faults, cpuid_works},
	{"msrs-far", msrs_far, msrs_near},
	{"avx-left", avx_left, avx_back, .known = true},
	{"pcid", pcid_on, pcid_off},
	{"as-ever", nothing, nothing},
};
#define STATES (sizeof(states) / sizeof(states[0]))

static void state_run(const struct state *s)
{
	uint64_t wrong = 0;

	if (s->how) {
		guest_printf("IN %s\n", s->name);
		wrong = legacy_run(s->how);
	} else {
		s->enter();
		guest_printf("IN %s\n", s->name);
		serial_read();
		s->leave();
	}
	if (wrong)
		guest_fail("%s: a register has changed (%lx)", s->name, wrong);
	guest_printf("OUT %s\n", s->name);
}

/* ---- at random ---- */

static uint64_t random_state;
static uint64_t random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint64_t random_value(void)
{
	static const uint64_t some[] = {0,
					1,
					3,
					0x30,
					0x400,
					0x800,
					0xc00,
					~0ull,
					~0u,
					1ull << 47,
					~0ull << 47,
					NOWHERE,
					NOWHERE | 1,
					NOWHERE | 9,
					NOWHERE | 0xd,
					0x0007040600070406,
					0x0606060606060606};

	switch (random() % 5) {
	case 0:
		return some[random() % (sizeof(some) / sizeof(some[0]))];
	case 1:
		return 1ull << random() % 64;
	case 2:
		return (uintptr_t)scratch + random() % 4096 / 64 * 64 + random() % 16;
	case 3:
		return random() & 0xffff;
	default:
		return random();
	}
}

/* Those whose value the guest itself does not need: from, how many. */
static const struct {
	uint32_t first, n;
} msrs[] = {{0x8b, 1},	     {0x122, 2},      {0x140, 1},      {0x174, 3},	 {0x179, 3},
	    {0x186, 4},	     {0x1a0, 1},      {0x1d9, 1},      {0x200, 16},	 {0x250, 1},
	    {0x258, 2},	     {0x268, 8},      {0x277, 1},      {0x2ff, 1},	 {0x38d, 4},
	    {0x400, 40},     {0x11, 2},	      {0x4b564d00, 9}, {0xc0000081, 4},	 {0xc0000100, 4},
	    {0xc0010000, 8}, {0xc0010015, 1}, {0xc001001f, 1}, {0xc0010111, 8},	 {0xc0011020, 20},
	    {0x48, 1},	     {0x3a, 1},	      {0xda0, 1},      {0x1c4, 2},	 {0xe1, 1},
	    {0x17, 1},	     {0x40000000, 4}, {0x40000070, 4}, {0x40000080, 22}, {0x6e0, 1}};

static void op_msr(void)
{
	unsigned i = random() % (sizeof(msrs) / sizeof(msrs[0]));
	uint32_t index = msrs[i].first + (uint32_t)(random() % msrs[i].n);
	uint64_t old, v = random_value();

	if (random() & 1 && rdmsr_safe(index, &old))
		v = old ^ 1ull << random() % 64;
	/* KVM's writes go to the scratch page or nowhere, and its interrupts are off. */
	if ((index >= 0x4b564d00 || index == 0x11 || index == 0x12) && index < 0xc0000000)
		v = random() & 1 ? NOWHERE | random() % 64
				 : ((uintptr_t)scratch & ~63ull) | random() % 64;
	if (index != MSR_ASYNC_PF_EN || !(v & NOWHERE))
		wrmsr_safe(index, v);
}

static void op_apic(void)
{
	static const uint16_t regs[] = {0x80,  0xd0,  0xe0,  0xf0,  0x280, 0x2f0, 0x320,
					0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0};
	uint16_t reg = regs[random() % (sizeof(regs) / sizeof(regs[0]))];
	uint64_t base = rdmsr(MSR_APIC_BASE);

	if (!(base & APIC_EN) || base & APIC_EXTD)
		return;
	/* No NMI, no SMI, no INIT for itself. */
	*(volatile uint32_t *)(0xfee00000ull + reg) =
		(uint32_t)(random_value() & (reg >= 0x320 && reg <= 0x370 ? ~0x700ull : ~0ull)) |
		(reg >= 0x320 && reg <= 0x370 ? random() % 3 ? 1u << 16 : 0 : 0);
}

static void op_port(void)
{
	static const uint16_t ports[] = {0x20, 0x21, 0xa0,  0xa1,  0x40,  0x41,	 0x42,	0x43, 0x61,
					 0x70, 0x71, 0x4d0, 0x4d1, 0xcf8, 0xcfc, 0x3fb, 0x3ff};

	outb(ports[random() % (sizeof(ports) / sizeof(ports[0]))], (uint8_t)random_value());
	outb(0x3fb, 3); /* the console's divisor latch is off */
}

static void op_ioapic(void)
{
	*(volatile uint32_t *)0xfec00000ull = (uint32_t)random() % 0x42;
	*(volatile uint32_t *)0xfec00010ull = (uint32_t)random_value() | 1u << 16;
}

static void op_state(void)
{
	const struct state *s = &states[random() % STATES];

	if (!s->how && !s->known && (!s->two || guest_cpus > 1))
		(random() % 3 ? s->enter : s->leave)();
}

static void op_cr(void)
{
	static const uint64_t cr0[] = {1ull << 1,  1ull << 3,  1ull << 5,
				       1ull << 16, 1ull << 18, 1ull << 30};
	static const uint64_t cr4[] = {1ull << 0, 1ull << 1, 1ull << 2, 1ull << 3,
				       1ull << 4, 1ull << 6, 1ull << 7, 1ull << 8};

	if (random() & 1)
		write_cr0((read_cr0() & ~0x20000000ull) ^ cr0[random() % 6]);
	else
		write_cr4(read_cr4() ^ cr4[random() % 8]);
	write_cr8(random() % 16);
}

static void do_random(unsigned n)
{
	static void (*const ops[])(void) = {op_msr,  op_msr,	op_msr,	  op_apic,
					    op_port, op_ioapic, op_state, op_cr};

	for (unsigned i = 0; i < n; i++)
		ops[random() % (sizeof(ops) / sizeof(ops[0]))]();
	guest_printf("DID %u\n", n);
}

void guest_main(void)
{
	unsigned next = 0;
	bool pae = option_number("pae", 0);

	random_state = option_number("seed", 1) * 0x9e3779b97f4a7c15ull | 1;
	memcpy((void *)LEGACY_PAGE, real_code, (size_t)(real_code_end - real_code));
	guest_printf("READY\n");
	for (int c; (c = serial_read()) != 'q';) {
		if (c == 'f')
			do_random((unsigned)option_number("ops", 16));
		if (c != 'x')
			continue;
		while (next < STATES && ((states[next].two && guest_cpus < 2) ||
					 (states[next].how & LEGACY_PAE && !pae)))
			next++;
		if (next == STATES)
			guest_printf("NONE\n");
		else
			state_run(&states[next++]);
	}
	guest_pass("states");
}
