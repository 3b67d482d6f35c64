/* SPDX-License-Identifier: MIT */
/* panic: uses pvpanic's port as a kernel does. 'c': its crash kernel goes on, 'p': it has panicked. 'r' resets it, 'q'
 * ends it. */
#include "guest.h"

#define PORT	     0x505
#define PANICKED     1
#define CRASH_LOADED 2

void guest_main(void)
{
	guest_printf("READY\n");
	for (;;) {
		int c = serial_read();
		if ((inb(PORT) & (PANICKED | CRASH_LOADED)) != (PANICKED | CRASH_LOADED))
			guest_fail("panic: the port does not offer its events");
		if (c == 'c') {
			outb(PORT, CRASH_LOADED);
			guest_printf("GOES ON\n");
		} else if (c == 'p') {
			outb(PORT, PANICKED);
			guest_fail("panic: the guest runs on");
		} else if (c == 'r') {
			guest_reset();
		} else if (c == 'q') {
			guest_pass("panic");
		}
	}
}
