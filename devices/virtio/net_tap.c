/* SPDX-License-Identifier: MIT */
/* A tap interface of the host (Documentation/networking/tuntap.rst of the kernel). Its offloads, and the frames that
 * wait in it, belong to the open file, so an update changes neither. */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/virtio/net.h"
#include "vmm/base/users.h"
#include "vmm/vm.h"

#define TUN_PATH "/dev/net/tun"
#define KIND	 (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static int tap_next(struct net_pair *pair, struct net_frame *f)
{
	struct net *net = pair->net;
	uint32_t at, waiting = net_pair_waiting(pair, &at);
	const uint8_t *frame = waiting ? net->state.rx + at : net->frame;
	ssize_t n = waiting ?: read(pair->fd, net->frame, sizeof(net->frame));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if ((size_t)n < NET_HEADER_LEN)
		return -EPROTO;
	memcpy(&f->header, frame, NET_HEADER_LEN);
	f->data = frame + NET_HEADER_LEN;
	f->len = (size_t)n - NET_HEADER_LEN;
	return 1;
}

static void tap_done(struct net_pair *pair, const struct net_frame *f, bool waits)
{
	bool waited = f->data != pair->net->frame + NET_HEADER_LEN;
	if (waited && !waits)
		net_pair_done(pair);
	else if (!waited && waits)
		net_pair_wait(pair, f->data - NET_HEADER_LEN, (uint32_t)(f->len + NET_HEADER_LEN));
}

/* What the guest's header says is the kernel's to judge. An interface that is down takes nothing. */
static int tap_send(struct net_pair *pair, const struct iovec *iov, unsigned n)
{
	if (writev(pair->fd, iov, (int)n) >= 0 || errno == EIO)
		return 0;
	return errno == EBADFD ? -EPIPE : -errno;
}

static int tap_flush(struct net *net)
{
	return 0;
}

/* Which frames the host may leave to the guest to finish or to cut. */
static void tap_started(struct net *net)
{
	static const struct {
		unsigned feature, offload;
	} map[] = {{VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
		   {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		   {VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
		   {VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN}};
	unsigned long offload = 0;
	for (unsigned i = 0; i < ARRAY_LEN(map); i++)
		if (net->state.virtio.features >> map[i].feature & 1)
			offload |= map[i].offload;
	if (!(offload & TUN_F_CSUM))
		offload = 0; /* nothing can be cut without a checksum */
	if (ioctl(net->pair[0].fd, TUNSETOFFLOAD, offload) < 0 && log_guest_ok(&net->complaints, 5))
		log_warn("%s: offloads of the tap: %s", net->dev.name, strerror(errno));
}

const struct net_link net_tap = {
	.features = 1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM |
		    1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6 |
		    1ull << VIRTIO_NET_F_GUEST_ECN | 1ull << VIRTIO_NET_F_HOST_TSO4 |
		    1ull << VIRTIO_NET_F_HOST_TSO6 | 1ull << VIRTIO_NET_F_HOST_ECN,
	.gone = "its tap interface is gone",
	.rx_least = NET_HEADER_LEN,
	.next = tap_next,
	.done = tap_done,
	.send = tap_send,
	.flush = tap_flush,
	.started = tap_started,
};

/* ---- a new one ---- */

static int header_len_set(int fd, const char *name, struct error *err)
{
	int len = NET_HEADER_LEN;
	if (ioctl(fd, TUNSETVNETHDRSZ, &len) < 0)
		return error_end(err, EXIT_HOST, errno, "%s: length of the virtio header: %m",
				 name);
	return 0;
}

static int device_open(const char *ifname, struct error *err)
{
	int fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int rc = error_end(err, EXIT_HOST, errno, "net %s: %s: %m", ifname, TUN_PATH);
	if (rc == -ENOENT || rc == -ENODEV || rc == -ENXIO)
		return error_hint(err, "modprobe tun");
	return rc == -EACCES
		       ? error_hint(err, "chmod 666 " TUN_PATH
					 ", as it is by default: the owner of a tap is checked "
					 "when it is attached")
		       : rc;
}

static int attach_failed(const char *ifname, bool many, int code, struct error *err)
{
	int rc = error_end(err, EXIT_HOST, code, "net %s: attaching to the tap interface: %m",
			   ifname);
	switch (code) {
	case EPERM:
	case EACCES:
		return error_hint(err,
				  "molt-net-tap add %s --user NAME, as root, makes one that this "
				  "user may attach to",
				  ifname);
	case EBUSY:
		return error_hint(err, "another process has it: each guest needs a tap of its own");
	case EINVAL:
		return error_hint(err,
				  "it is no tap with %s: 'ip -d link show %s' says what "
				  "it is; molt-net-tap add %s%s makes one",
				  many ? "several queues" : "one queue", ifname, ifname,
				  many ? " --multi-queue" : "");
	case E2BIG:
		return error_hint(err,
				  "all its queues are taken: another process has some of them");
	default:
		return rc;
	}
}

int net_tap_attach(int fd, bool on)
{
	struct ifreq req = {.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
	return (int)vm_ioctl(fd, TUNSETQUEUE, &req);
}

int net_tap_open(const char *ifname, bool many, struct error *err)
{
	struct ifreq req = {.ifr_flags = (short)(KIND | (many ? IFF_MULTI_QUEUE : 0))};
	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", ifname);
	/* The kernel would make one, which nobody has set up. */
	if (!if_nametoindex(ifname)) {
		error_end(err, EXIT_CONFIG, ENODEV, "net %s: there is no such network interface",
			  ifname);
		return error_hint(err,
				  "molt-net-tap add %s --user NAME, as root, makes one; 'ip "
				  "link' lists those there are",
				  ifname);
	}
	int fd = device_open(ifname, err);
	if (fd < 0)
		return fd;
	int rc = ioctl(fd, TUNSETIFF, &req) < 0 ? attach_failed(ifname, many, errno, err)
						: header_len_set(fd, ifname, err);
	if (rc)
		close(fd);
	return rc ? rc : fd;
}

int net_tap_check(int fd, const char *name, struct error *err)
{
	struct ifreq req = {0};
	if (ioctl(fd, TUNGETIFF, &req) < 0)
		return -ENOTTY;
	if ((req.ifr_flags & KIND) != KIND) {
		error_end(err, EXIT_USAGE, EINVAL, "%s: it is not set up for a guest (flags 0x%x)",
			  name, (unsigned)(uint16_t)req.ifr_flags);
		return error_hint(err,
				  "who opens it has to set IFF_TAP, IFF_NO_PI and IFF_VNET_HDR");
	}
	return header_len_set(fd, name, err);
}
