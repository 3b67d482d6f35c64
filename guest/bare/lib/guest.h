/* SPDX-License-Identifier: MIT */
/*
 * Run-time of the bare-metal test guests: one CPL0 program per guest, no libc. A guest defines
 * guest_main(), says READY when the host's runner may begin, checks itself and ends with guest_pass()
 * or guest_fail(): one line on the serial console, then power off.
 *
 * Software implementations of KVM run guest user mode (CPL3) fast and kernel mode slowly: loops that
 * wait or measure belong into user_call().
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"
#include "x86.h"

/* Defined by each guest; runs on CPU 0 with interrupts off, local APIC enabled. */
void guest_main(void);

/* Command line (hvm_start_info): "key=value ...". */
uint64_t option_number(const char *key, uint64_t def);
bool option_is(const char *key, const char *value);

/* Console: the 16550 at 0x3f8, polled. Formats: %s %c %d %u %x with l modifier and zero padding. */
void guest_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A byte from the host, or -1 when there is none. */
int serial_poll(void);
/* Waits for a byte. */
int serial_read(void);
/* Receive interrupts through the IOAPIC's pin 4, to CPU 0 as @vector. */
void serial_irq_enable(uint8_t vector);

/* "PASS text" and power off. Waits for nothing. */
void guest_pass(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void guest_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void guest_poweroff(void) __attribute__((noreturn));
/* Resets by ACPI's register. Who returns runs on. */
void guest_reset(void);

/* Time: ticks of the TSC; guest_init takes its rate from tsc_khz= or CPUID 0x40000010. */
extern uint64_t tsc_khz;
static inline uint64_t tsc_to_ns(uint64_t ticks)
{
	return ticks / tsc_khz * 1000000 + ticks % tsc_khz * 1000000 / tsc_khz;
}
static inline uint64_t us_to_tsc(uint64_t us)
{
	return us * tsc_khz / 1000;
}

/* Traps: what the CPU and trap_common pushed. A handler may change it. */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};
typedef void trap_fn(struct trap_frame *frame);
/* A vector without a handler fails the guest. Interrupt handlers call apic_eoi() themselves. */
void trap_set(uint8_t vector, trap_fn *fn);

/* Run one instruction that may raise #GP: the return value says whether it did. */
bool rdmsr_safe(uint32_t msr, uint64_t *v);
bool wrmsr_safe(uint32_t msr, uint64_t v);

/* CPUs. APIC ids are 0 to guest_cpus - 1. */
extern unsigned guest_cpus;
unsigned cpu_index(void);
/* Boots CPU @cpu into fn(cpu) with INIT and SIPI; returns when it runs there. */
void cpu_boot(unsigned cpu, void (*fn)(unsigned cpu));
/* The same without waiting, nor checking that the CPU was not started before. */
void cpu_boot_async(unsigned cpu, void (*fn)(unsigned cpu));

/* Runs fn(arg) at CPL3, interrupts on; returns its value. Not nested, one user stack per CPU. @fn
 * shares all memory but may use no privileged instruction, so none of the functions above. */
uint64_t user_call(uint64_t (*fn)(void *arg), void *arg);
/* For user_call: wait for *flag != 0 or until the TSC reaches deadline; true: flag. */
struct user_wait {
	volatile uint64_t *flag;
	uint64_t until;
};
uint64_t user_wait_flag(void *wait);
/* user_call of that: true when *flag became nonzero within @us. */
bool wait_flag(volatile uint64_t *flag, uint64_t us);

/* Local APIC, in xAPIC mode, or x2APIC with option x2apic=1. Registers by their xAPIC offset. */
#define APIC_ID		    0x20
#define APIC_TPR	    0x80
#define APIC_EOI	    0xb0
#define APIC_SVR	    0xf0
#define APIC_ISR	    0x100
#define APIC_IRR	    0x200
#define APIC_ICR	    0x300
#define APIC_LVT_TIMER	    0x320
#define APIC_LVT_LINT0	    0x350
#define APIC_TIMER_INIT	    0x380
#define APIC_TIMER_COUNT    0x390
#define APIC_TIMER_DIV	    0x3e0
#define APIC_TIMER_PERIODIC (1u << 17)
#define APIC_TIMER_DEADLINE (2u << 17)
#define APIC_MASKED	    (1u << 16)
#define ICR_NMI		    0x400
#define ICR_INIT	    0x500
#define ICR_SIPI	    0x600
#define ICR_ASSERT	    0x4000
#define MSR_TSC_DEADLINE    0x6e0
void apic_enable(void);
uint32_t apic_read(uint32_t reg);
void apic_write(uint32_t reg, uint32_t v);
/* @command: vector, or ICR_NMI, ... */
void apic_ipi(unsigned cpu, uint32_t command);
void apic_eoi(void);

/* Timer: its rate against the TSC is measured once (5 ms), before an update can disturb it.
 * apic_timer_start: LVT value (vector, mode), time until it fires or its period. */
extern uint64_t apic_timer_khz;
void apic_timer_calibrate(void);
void apic_timer_start(uint32_t lvt, uint64_t us);

/* IOAPIC pin to the vector in @low; of CPU 0, or of the one that was named before. */
#define IOAPIC_LEVEL  (1u << 15)
#define IOAPIC_MASKED (1u << 16)
void ioapic_set(unsigned pin, uint32_t low);
extern unsigned ioapic_cpu;
uint32_t ioapic_get(unsigned pin);

/* PCI, bus 0, through ports 0xcf8 and 0xcfc. @dev: device << 3 | function. */
uint32_t pci_read(unsigned dev, unsigned reg);
void pci_write(unsigned dev, unsigned reg, uint32_t v);
/* Device with that id (device << 16 | vendor), or -1. */
int pci_find(uint32_t id);
/* Offset of a capability, or 0. */
unsigned pci_capability(unsigned dev, uint8_t id);

/* molt's test device (--testdev): its registers and interrupt, see there. */
struct testdev {
	unsigned dev; /* PCI */
	volatile uint8_t *bar;
	unsigned pin; /* of the IOAPIC, with unmask= */
};
#define TESTDEV_COUNTER 0x000 /* reads count up */
#define TESTDEV_SCRATCH 0x008 /* 64 bits */
#define TESTDEV_TOUCHED 0x010 /* accesses to the scratch register */
#define TESTDEV_RAISE	0x014 /* a write raises its interrupt */
#define TESTDEV_FORBID	0x018 /* a write makes a system call that is forbidden */
#define TESTDEV_TABLE	0x800
#define TESTDEV_PBA	0xc00
void testdev_find(struct testdev *t);
/* MSI-X vector 0 to @cpu as @vector. */
void testdev_msix_enable(const struct testdev *t, uint8_t vector, unsigned cpu);
void testdev_msix_mask(const struct testdev *t, bool masked);
static inline void testdev_write(const struct testdev *t, unsigned reg, uint32_t v)
{
	*(volatile uint32_t *)(t->bar + reg) = v;
}
static inline uint32_t testdev_read(const struct testdev *t, unsigned reg)
{
	return *(volatile uint32_t *)(t->bar + reg);
}

/* Makes the first @n MSI-X vectors of all devices, as their numbers go, interrupts of CPU 0, unmasked.
 * Returns how many there were. */
unsigned msix_enable_all(unsigned n, uint8_t vector);

/* Touches each page of RAM once, up to 16 GiB; at CPL3. Returns how many. */
uint64_t memory_touch(void);

void *memcpy(void *to, const void *from, size_t len);
void *memset(void *to, int c, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *s);

#endif
