/* SPDX-License-Identifier: MIT */
/* forbid: has the test device make system calls that the sandbox forbids. 'f': getppid, 'i': an ioctl;
 * an answer shows that molt went on. 'q' ends. */
#include "guest.h"

void guest_main(void)
{
	struct testdev dev;
	unsigned calls = 0;

	testdev_find(&dev);
	guest_printf("READY\n");
	for (int c; (c = serial_poll()) != 'q';) {
		if (c != 'f' && c != 'i')
			continue;
		testdev_write(&dev, TESTDEV_FORBID, c == 'i');
		guest_printf("MADE %u\n", ++calls);
	}
	guest_pass("forbid calls=%u", calls);
}
