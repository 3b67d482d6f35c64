/* SPDX-License-Identifier: MIT */
/* Console, formatted output, and the end. */
#include <stdarg.h>

#include "guest.h"

#define SERIAL	   0x3f8
#define SERIAL_IER (SERIAL + 1)
#define SERIAL_MCR (SERIAL + 4)
#define SERIAL_LSR (SERIAL + 5)
#define LSR_DR	   0x01
#define LSR_THRE   0x20

static volatile unsigned console_lock;

static void lock(void)
{
	while (__atomic_exchange_n(&console_lock, 1, __ATOMIC_ACQUIRE))
		cpu_pause();
}

static void unlock(void)
{
	__atomic_store_n(&console_lock, 0, __ATOMIC_RELEASE);
}

static void put(char c)
{
	while (!(inb(SERIAL_LSR) & LSR_THRE))
		cpu_pause();
	outb(SERIAL, (uint8_t)c);
}

static void put_number(uint64_t v, unsigned base, unsigned width, char pad, bool negative)
{
	char digits[24];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	if (negative)
		put('-');
	while (width-- > n)
		put(pad);
	while (n)
		put(digits[--n]);
}

static void print(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		unsigned width = 0;
		char pad = ' ';
		bool is_long = false;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		if (*++fmt == '0')
			pad = *fmt++;
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + (unsigned)(*fmt++ - '0');
		while (*fmt == 'l') {
			is_long = true;
			fmt++;
		}
		if (*fmt == 's') {
			const char *s = va_arg(ap, const char *);
			while (*s)
				put(*s++);
		} else if (*fmt == 'c') {
			put((char)va_arg(ap, int));
		} else if (*fmt == 'd') {
			int64_t v = is_long ? va_arg(ap, int64_t) : va_arg(ap, int);
			put_number(v < 0 ? -(uint64_t)v : (uint64_t)v, 10, width, pad, v < 0);
		} else if (*fmt == 'u' || *fmt == 'x') {
			uint64_t v = is_long ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
			put_number(v, *fmt == 'x' ? 16 : 10, width, pad, false);
		} else {
			put(*fmt);
		}
	}
}

void guest_printf(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	lock();
	print(fmt, ap);
	unlock();
	va_end(ap);
}

int serial_poll(void)
{
	return inb(SERIAL_LSR) & LSR_DR ? inb(SERIAL) : -1;
}

int serial_read(void)
{
	int c;

	while ((c = serial_poll()) < 0)
		cpu_pause();
	return c;
}

void serial_irq_enable(uint8_t vector)
{
	ioapic_set(4, vector);
	outb(SERIAL_MCR, 0x0b); /* DTR, RTS, OUT2: lets the interrupt out */
	outb(SERIAL_IER, 0x01);
}

void guest_poweroff(void)
{
	outw(0x604, 1u << 13 | 5u << 10); /* PM1a control: SLP_EN, SLP_TYP of \_S5 */
	for (;;)
		__asm__ volatile("cli; hlt");
}

void guest_reset(void)
{
	outb(0x60c, 6);
}

void guest_pass(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	lock();
	print("PASS ", ap);
	print(fmt, ap);
	put('\n');
	guest_poweroff();
}

/* Takes the lock if it can be had soon: the holder may be what failed. */
void guest_fail(const char *fmt, ...)
{
	va_list ap;

	irq_off();
	for (int i = 0; i < 100000; i++)
		if (!__atomic_exchange_n(&console_lock, 1, __ATOMIC_ACQUIRE))
			break;
	va_start(ap, fmt);
	print("\nFAIL ", ap);
	print(fmt, ap);
	put('\n');
	guest_poweroff();
}
