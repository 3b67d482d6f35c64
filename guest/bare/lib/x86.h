/* SPDX-License-Identifier: MIT */
/* Single instructions. */
#ifndef GUEST_X86_H
#define GUEST_X86_H

#include <stdint.h>

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

/* Not before earlier loads. CPL3 only: not every software KVM knows LFENCE in kernel mode. */
static inline uint64_t rdtsc_after_loads(void)
{
	uint32_t lo, hi;
	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;
	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
			 : "memory");
}

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid r;
	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(sub));
	return r;
}

static inline void irq_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void irq_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* Waits for one interrupt: enables them, halts, disables them again. */
static inline void irq_wait(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* read_REG() and write_REG() of control and debug registers. */
#define X86_REGISTER(reg)                                                                          \
	static inline uint64_t read_##reg(void)                                                    \
	{                                                                                          \
		uint64_t v;                                                                        \
		__asm__ volatile("mov %%" #reg ", %0" : "=r"(v) : : "memory");                     \
		return v;                                                                          \
	}                                                                                          \
	static inline void write_##reg(uint64_t v)                                                 \
	{                                                                                          \
		__asm__ volatile("mov %0, %%" #reg : : "r"(v) : "memory");                         \
	}
X86_REGISTER(cr0)
X86_REGISTER(cr2)
X86_REGISTER(cr3)
X86_REGISTER(cr4)
X86_REGISTER(cr8)
X86_REGISTER(dr0)
X86_REGISTER(dr1)
X86_REGISTER(dr2)
X86_REGISTER(dr3)
X86_REGISTER(dr6)
X86_REGISTER(dr7)

#endif
