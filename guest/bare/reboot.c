/* SPDX-License-Identifier: MIT */
/*
 * reboot: each boot must find the machine as the first did. The guest looks at what it can, says so as one number, and
 * then leaves everything changed. 'r', 'k', 't', 'p': resets by ACPI's register, by the keyboard controller, crashes
 * with a triple fault, says that it has panicked; 'q' ends.
 */
#include "guest.h"

#define MARK_GPA  0x1800000ul
#define MARK_LEN  0x100000ul
#define IOAPIC	  24
#define PAGES	  (MARK_LEN / sizeof(uint64_t))
#define PANIC	  0x505
#define PIT_READ  0xe2 /* latch the status of channel 0 */
#define CPU1_MARK ((volatile uint64_t *)(MARK_GPA + MARK_LEN))

static const uint32_t msrs[] = {
	0x1b,	    0x174,	0x175,	    0x176,	0x277,	    0x2ff,	0xc0000080,
	0xc0000081, 0xc0000082, 0xc0000084, 0xc0000102, 0x250,	    0x200,	0x201,
	0x6e0,	    0x1a0,	0x4b564d00, 0x4b564d01, 0x4b564d03, 0x4b564d04,
};

static uint64_t digest;

static void add(uint64_t v)
{
	digest = (digest ^ v) * 0x100000001b3ull;
}

static void look_msrs(void)
{
	uint64_t v;

	for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		add(rdmsr_safe(msrs[i], &v) ? ~0ull : v);
}

static void look_ports(void)
{
	for (unsigned i = 0; i < 8; i++)
		if (i != 5 && i != 6) /* line and modem status: the host's side */
			add(inb((uint16_t)(0x3f8 + i)));
	add(inb(0x70));
	add(inb(0x21) | inb(0xa1) << 8);
	outb(0x43, PIT_READ);
	add(inb(0x40) & 0x3f); /* how it counts; not how far */
	add(inl(0x600));
	add(inl(0x604) & 0xffff);
}

static void look_interrupts(void)
{
	for (unsigned pin = 0; pin < IOAPIC; pin++)
		add(ioapic_get(pin));
	for (unsigned reg = APIC_LVT_TIMER; reg <= APIC_TIMER_INIT; reg += 0x10)
		add(apic_read(reg));
	add(apic_read(APIC_TPR));
}

static void look_memory(void)
{
	const uint64_t *p = (const uint64_t *)MARK_GPA;

	for (unsigned i = 0; i < PAGES; i++)
		if (p[i])
			guest_fail("reboot: memory holds what was there before: %lx", p[i]);
	if (*CPU1_MARK)
		guest_fail("reboot: CPU 1 runs already");
}

static void on_cpu1(unsigned cpu)
{
	for (;; cpu_pause())
		*CPU1_MARK += cpu;
}

/* Nothing but a new machine makes this undone. */
static void change(const struct testdev *dev)
{
	memset((void *)MARK_GPA, 0xa5, MARK_LEN);
	for (unsigned i = 1; i < guest_cpus; i++)
		cpu_boot(i, on_cpu1);
	wrmsr_safe(0x174, 0x1234);
	wrmsr_safe(0xc0000081, 0x1234ull << 32);
	wrmsr_safe(0xc0000102, 0x123456);
	wrmsr_safe(0x277, 0x0007040600070406ull ^ 1);
	outb(0x3f8 + 7, 0x5a);
	outb(0x3f8 + 4, 0x0b);
	outb(0x70, 0x17);
	outb(0x43, 0x34);
	outb(0x40, 0x10);
	outb(0x40, 0x27);
	outw(0x602, 0x100);
	ioapic_set(11, 0x55);
	apic_write(APIC_TPR, 0x20);
	testdev_msix_enable(dev, 0x41, 0);
	testdev_write(dev, TESTDEV_SCRATCH, 0xdeadbeef);
	apic_timer_start(0x40 | APIC_TIMER_PERIODIC | APIC_MASKED, 1000);
}

static void triple_fault(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = {0, 0};

	__asm__ volatile("lidt %0; ud2" ::"m"(none));
}

void guest_main(void)
{
	struct testdev dev;

	look_msrs();
	look_ports();
	look_interrupts();
	for (unsigned reg = 0; reg < 256; reg += 4) /* slot 1: the test device */
		add(pci_read(1 << 3, reg));
	testdev_find(&dev);
	add(testdev_read(&dev, TESTDEV_SCRATCH));
	for (unsigned i = 0; i < 4; i++)
		add(testdev_read(&dev, TESTDEV_TABLE + 4 * i));
	look_memory();
	guest_printf("READY %lx\n", digest);
	change(&dev);
	for (;;) {
		switch (serial_read()) {
		case 'r':
			guest_reset();
			break;
		case 'k':
			outb(0x64, 0xfe);
			break;
		case 't':
			triple_fault();
			break;
		case 'p':
			outb(PANIC, 1);
			break;
		case 's':
			guest_printf("STAYS\n");
			continue;
		case 'q':
			guest_pass("reboot");
		default:
			continue;
		}
		guest_fail("reboot: the guest runs on");
	}
}
