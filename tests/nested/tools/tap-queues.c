/* SPDX-License-Identifier: MIT */
/* tap-queues NAME: makes a tap interface that may have several queues, and stays without any of them attached. busybox
 * has no way to. */
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include <linux/if_tun.h>

int main(int argc, char **argv)
{
	struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (argc != 2 || snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", argv[1]) < 1) {
		fprintf(stderr, "usage: tap-queues NAME\n");
		return 2;
	}
	if (fd < 0 || ioctl(fd, TUNSETIFF, &req) || ioctl(fd, TUNSETPERSIST, 1)) {
		perror("tap-queues");
		return 1;
	}
	return 0;
}
