/* SPDX-License-Identifier: MIT */
/* hello: says so as soon as it can, and does no more: from a VMM's start to here is that VMM's own. */
#include "guest.h"

void guest_main(void)
{
	guest_printf("HELLO\n");
	for (;;)
		irq_wait();
}
