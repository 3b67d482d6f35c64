/* SPDX-License-Identifier: MIT */
/*
 * timer: arms one timer after the other, says ARMED so that the host updates before it fires, and checks that it fires
 * exactly once, not early, and not lost; periodic ones go on and never gain. Host: 'g' starts a round, 'q' ends. skip=:
 * bit mask of modes that are left out. after_us=: time from arming to firing (PIT: at most 50 ms). fired=1: the update
 * comes after that instead, and the timer must not fire again.
 */
#include "guest.h"

#define VEC_APIC  0x40
#define VEC_PIT	  0x41
#define LATE_US	  10000000
#define SETTLE_US 20000
#define UPDATE_US 60000 /* for an update to be over */
#define PIT_HZ	  1193182
#define TICKS	  6 /* of a periodic timer, each round */

static volatile uint64_t fired, fired_tsc;

static void on_timer(struct trap_frame *frame)
{
	(void)frame;
	if (!fired++)
		fired_tsc = rdtsc();
	apic_eoi();
}

static uint64_t after_us;
static bool update_after;

static void arm_oneshot(void)
{
	apic_timer_start(VEC_APIC, after_us);
}

static void arm_periodic(void)
{
	apic_timer_start(VEC_APIC | APIC_TIMER_PERIODIC, after_us);
}

/* The deadline is written as value, so what is early can be told to the tick. */
static void arm_deadline(void)
{
	apic_write(APIC_LVT_TIMER, VEC_APIC | APIC_TIMER_DEADLINE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + us_to_tsc(after_us));
}

static void disarm_apic(void)
{
	apic_write(APIC_LVT_TIMER, APIC_MASKED);
	apic_write(APIC_TIMER_INIT, 0);
}

static void pit_start(uint8_t mode)
{
	uint64_t us = after_us < 50000 ? after_us : 50000;
	uint64_t count = us * PIT_HZ / 1000000;

	/* The count of the round before may still run: it ends before the pin is let through. */
	outb(0x43, mode); /* channel 0, low byte then high byte */
	outb(0x40, (uint8_t)count);
	outb(0x40, (uint8_t)(count >> 8));
	ioapic_set(2, VEC_PIT);
}

static void arm_pit_once(void)
{
	pit_start(0x30); /* mode 0: interrupt on terminal count */
}

static void arm_pit_rate(void)
{
	pit_start(0x34); /* mode 2: rate generator */
}

/* KVM starts channel 0 anew from its count when its state is set: masked from here on. */
static void disarm_pit(void)
{
	ioapic_set(2, IOAPIC_MASKED | VEC_PIT);
}

static const struct mode {
	const char *name;
	void (*arm)(void);
	void (*disarm)(void);
	uint64_t max_us;
	unsigned ticks;
} modes[] = {
	{"oneshot", arm_oneshot, disarm_apic, UINT64_MAX, 1},
	{"periodic", arm_periodic, disarm_apic, UINT64_MAX, TICKS},
	{"pit-once", arm_pit_once, disarm_pit, 50000, 1},
	{"pit-rate", arm_pit_rate, disarm_pit, 50000, TICKS},
	{"deadline", arm_deadline, disarm_apic, UINT64_MAX, 1},
};

struct until {
	uint64_t count, tsc;
};

static uint64_t wait_fired(void *arg)
{
	const struct until *u = arg;

	while (fired < u->count)
		if (rdtsc() > u->tsc)
			return fired >= u->count;
	return 1;
}

static bool wait_count(uint64_t count, uint64_t us)
{
	struct until u = {count, rdtsc() + us_to_tsc(us)};

	return user_call(wait_fired, &u);
}

static void round_run(const struct mode *m)
{
	uint64_t period_us = after_us < m->max_us ? after_us : m->max_us;
	uint64_t before = rdtsc();

	fired = 0;
	m->arm();
	if (!update_after)
		guest_printf("ARMED %s\n", m->name);
	if (!wait_count(m->ticks, m->ticks * period_us + LATE_US * option_number("slow", 1)))
		guest_fail("%s: fired %lu times of %u", m->name, fired, m->ticks);
	/* The rates of the timers against the TSC are known to a percent. */
	if (fired_tsc - before < us_to_tsc(period_us) / 100 * 99)
		guest_fail("%s: fired after %lu us, due after %lu", m->name,
			   tsc_to_ns(fired_tsc - before) / 1000, period_us);
	if (update_after)
		guest_printf("ARMED %s\n", m->name);
	if (m->ticks == 1) {
		wait_count(2, update_after ? UPDATE_US * option_number("slow", 1) : SETTLE_US);
		if (fired != 1)
			guest_fail("%s: fired %lu times", m->name, fired);
	} else {
		uint64_t due = tsc_to_ns(rdtsc() - before) / 1000 * 101 / 100 / period_us + 1;
		if (fired > due)
			guest_fail("%s: fired %lu times, due %lu", m->name, fired, due);
	}
	m->disarm();
	uint64_t seen = fired;
	wait_count(seen + 1, 1000); /* one that was on its way */
	seen = fired;
	if (wait_count(seen + 1, SETTLE_US))
		guest_fail("%s: fires after its end", m->name);
	guest_printf("DONE %lu us late\n", tsc_to_ns(fired_tsc - before) / 1000 - period_us);
}

void guest_main(void)
{
	unsigned n = sizeof(modes) / sizeof(modes[0]), rounds = 0, next = n - 1;
	unsigned skip = option_number("skip", 0); /* bit mask of modes */

	trap_set(VEC_APIC, on_timer);
	trap_set(VEC_PIT, on_timer);
	after_us = option_number("after_us", 40000);
	update_after = option_number("fired", 0);
	apic_timer_calibrate();
	if (!(cpuid(1, 0).ecx & 1u << 24)) { /* TSC-deadline */
		guest_printf("# no TSC-deadline timer\n");
		n--;
	}
	guest_printf("READY\n");
	for (;;) {
		int c = serial_read();
		if (c == 'q')
			break;
		if (c != 'g')
			continue;
		do
			next = (next + 1) % n;
		while (skip & 1u << next);
		round_run(&modes[next]);
		rounds++;
	}
	guest_pass("timer rounds=%u modes=%u", rounds, n);
}
