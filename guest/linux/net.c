/* SPDX-License-Identifier: MIT */
/* Address and link of the guest's one interface. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAIT_STEP_MS	20
#define WAIT_DEVICE_MS	20000
#define WAIT_CARRIER_MS 60000

static void sleep_ms(unsigned int ms)
{
	struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

static int if_up(int s, const char *name)
{
	struct ifreq req = {0};

	strcpy(req.ifr_name, name);
	if (ioctl(s, SIOCGIFFLAGS, &req))
		return -errno;
	req.ifr_flags |= IFF_UP;
	return ioctl(s, SIOCSIFFLAGS, &req) ? -errno : 0;
}

static int if_address(int s, const char *name, unsigned long what, uint32_t addr)
{
	struct ifreq req = {0};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = addr};

	strcpy(req.ifr_name, name);
	memcpy(&req.ifr_addr, &sin, sizeof(sin));
	return ioctl(s, (int)what, &req) ? -errno : 0;
}

static bool carrier(int s, const char *name)
{
	struct ifreq req = {0};

	strcpy(req.ifr_name, name);
	return !ioctl(s, SIOCGIFFLAGS, &req) && (req.ifr_flags & IFF_RUNNING);
}

int net_up(const struct config *cfg)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret = 0;
	unsigned int ms;

	if (s < 0)
		return -errno;
	if_up(s, "lo");
	/* The driver may still be probing the device. */
	for (ms = 0; !if_nametoindex(cfg->ifname) && ms < WAIT_DEVICE_MS; ms += WAIT_STEP_MS)
		sleep_ms(WAIT_STEP_MS);
	ret = if_address(s, cfg->ifname, SIOCSIFADDR, cfg->ip);
	if (!ret)
		ret = if_address(s, cfg->ifname, SIOCSIFNETMASK, htonl(0xffffff00u));
	if (!ret)
		ret = if_up(s, cfg->ifname);
	if (ret) {
		console_line("FAIL what=net if=%s errno=%d", cfg->ifname, -ret);
		goto out;
	}
	for (ms = 0; !carrier(s, cfg->ifname) && ms < WAIT_CARRIER_MS; ms += WAIT_STEP_MS)
		sleep_ms(WAIT_STEP_MS);
	if (ms >= WAIT_CARRIER_MS) {
		console_line("FAIL what=carrier if=%s", cfg->ifname);
		ret = -ENETDOWN;
	}
out:
	close(s);
	return ret;
}
