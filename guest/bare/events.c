/* SPDX-License-Identifier: MIT */
/*
 * events: exceptions, NMIs and interrupt shadows, each counted: whatever is pending when the vCPU is
 * caught happens exactly once. What one round raises is taken from the first, before any update.
 * 'q' ends. soft=1: INT3 and INT n too; debug=1: break- and watchpoints.
 */
#include "guest.h"

#define VEC_SHADOW    0x40
#define NOWHERE	      0x100000000ul /* not mapped */
#define CAUSELESS_MAX 3		    /* one in some thousand updates was seen */

uint64_t raise_bp(void *), raise_ud(void *), raise_pf(void *), raise_int(void *);
uint64_t raise_step(void *), raise_break(void *);
void shadow_sti(void);
extern uint8_t break_here[], shadow_sti_end[];

enum { BP, UD, PF, INT, STEP, BREAK, WATCH, NMI, SHADOW, KINDS };
static const char *const names[KINDS] = {"#BP",	       "#UD",	      "#PF",
					 "INT n",      "single step", "breakpoint",
					 "watchpoint", "NMI",	      "interrupt after STI"};
static volatile uint64_t count[KINDS];
static volatile uint64_t nmi_again, early, causeless;
static bool with_soft, with_debug, emulated, software;
static uint8_t watched;

static void on_bp(struct trap_frame *frame)
{
	(void)frame;
	count[BP]++;
}

static void on_ud(struct trap_frame *frame)
{
	count[UD]++;
	frame->rip += 2;
}

static void on_pf(struct trap_frame *frame)
{
	if (read_cr2() != NOWHERE || frame->error != 6) /* write, CPL3, not present */
		guest_fail("page fault at %lx error %lx rip %lx", read_cr2(), frame->error,
			   frame->rip);
	count[PF]++;
	frame->rip += 2;
}

static void on_int(struct trap_frame *frame)
{
	(void)frame;
	count[INT]++;
}

/* A KVM in software loses DR6 when the vCPU's thread is preempted or moved just then, update or not
 * (docs/kernel-facts.md): a few are let pass there. Only single steps come on such a KVM. */
static void on_db(struct trap_frame *frame)
{
	uint64_t dr6 = read_dr6();

	write_dr6(0xffff0ff0);
	if (dr6 & 1u << 14)
		count[STEP]++;
	if (dr6 & 1) {
		count[BREAK]++;
		if (frame->rip != (uint64_t)break_here)
			guest_fail("breakpoint at %lx", frame->rip);
		frame->rflags |= 1u << 16; /* RF: go on past it */
	}
	if (dr6 & 2)
		count[WATCH]++;
	if (dr6 & 0x4003)
		return;
	if (!software || with_debug || causeless == CAUSELESS_MAX)
		guest_fail("debug exception without a cause: DR6 %lx rip %lx", dr6, frame->rip);
	count[STEP]++;
	causeless++;
}

/* While an NMI is handled the next one waits for the IRET. */
static void on_nmi(struct trap_frame *frame)
{
	uint64_t seen = ++count[NMI];

	(void)frame;
	if (!nmi_again)
		return;
	nmi_again = 0;
	apic_ipi(0, ICR_NMI);
	for (uint64_t until = rdtsc() + us_to_tsc(300); rdtsc() < until;)
		if (count[NMI] != seen)
			guest_fail("NMI inside the handler of another");
}

/* Emulated SVM (QEMU 7.2) lets it in too early now and then, update or not: counted there. */
static void on_shadow(struct trap_frame *frame)
{
	count[SHADOW]++;
	if (frame->rip != (uint64_t)shadow_sti_end) {
		if (!emulated)
			guest_fail("interrupt at %lx, in the shadow of STI", frame->rip);
		early++;
		frame->rip = (uint64_t)shadow_sti_end;
	}
	apic_eoi();
}

struct nmi_wait {
	uint64_t want, until;
};

static uint64_t wait_nmi(void *arg)
{
	const struct nmi_wait *w = arg;

	while (count[NMI] < w->want && rdtsc() < w->until)
		;
	return 0;
}

static void round_run(void)
{
	struct nmi_wait w = {count[NMI] + 2, rdtsc() + us_to_tsc(10000000)};

	user_call(raise_ud, NULL);
	user_call(raise_pf, (void *)NOWHERE);
	if (with_soft) {
		user_call(raise_bp, NULL);
		user_call(raise_int, NULL);
	}
	user_call(raise_step, NULL);
	if (with_debug) {
		write_dr7(0x00100400 | 5); /* DR0: execution, DR1: one byte written */
		user_call(raise_break, &watched);
		write_dr7(0x400);
	}

	nmi_again = 1;
	apic_ipi(0, ICR_NMI);
	user_call(wait_nmi, &w);

	apic_ipi(0, VEC_SHADOW);
	shadow_sti();
}

static void events_trap(void)
{
	trap_set(3, on_bp);
	trap_set(6, on_ud);
	trap_set(14, on_pf);
	trap_set(VEC_USER_INT, on_int);
	trap_set(1, on_db);
	trap_set(2, on_nmi);
	trap_set(VEC_SHADOW, on_shadow);
	write_dr0((uint64_t)break_here);
	write_dr1((uint64_t)&watched);
	write_dr6(0xffff0ff0);
}

void guest_main(void)
{
	/* Steps: ten NOPs and what ends it, a little more or less. */
	static const uint64_t expect[KINDS] = {8, 8, 8, 8, 0, 8, 8, 2, 1};
	uint64_t each[KINDS], rounds = 1;

	with_soft = option_number("soft", 0);
	with_debug = option_number("debug", 0);
	emulated = option_number("emulated", 0);
	software = option_number("software", 0);
	events_trap();
	round_run();
	for (unsigned i = 0; i < KINDS; i++) {
		each[i] = count[i];
		if (((i == INT || i == BP) && !with_soft) ||
		    ((i == BREAK || i == WATCH) && !with_debug))
			continue;
		if (expect[i] ? each[i] != expect[i] : each[i] < 10)
			guest_fail("%s: %lu in the first round, not %lu", names[i], each[i],
				   expect[i]);
	}
	guest_printf("READY\n");
	for (; serial_poll() != 'q'; rounds++) {
		round_run();
		for (unsigned i = 0; i < KINDS; i++)
			if (count[i] != each[i] * (rounds + 1))
				guest_fail("%s: %lu after %lu rounds of %lu", names[i], count[i],
					   rounds + 1, each[i]);
	}
	guest_pass("events rounds=%lu steps=%lu early=%lu causeless=%lu", rounds, each[STEP], early,
		   causeless);
}
