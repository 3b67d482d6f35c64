/* SPDX-License-Identifier: MIT */
/* Counts numbered UDP packets that someone else sends: which came, twice, out of order, or never.
 */
#include "guest.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t seen[UDP_SEQ_MAX / 8];

int udp_open(struct udp *u, const struct config *cfg)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)cfg->port)};
	int size = 16 << 20, on = 1;

	memset(u, 0, sizeof(*u));
	u->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (u->fd < 0 || bind(u->fd, (struct sockaddr *)&at, sizeof(at))) {
		console_line("FAIL what=udp_socket port=%u errno=%d", cfg->port, errno);
		return -errno;
	}
	/* What is lost must be lost by the device, not by a short queue of ours; and if it is ours,
	 * we want to know. */
	setsockopt(u->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(u->fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on));
	return 0;
}

static void drops_account(struct udp *u, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		uint32_t drops;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL)
			continue;
		memcpy(&drops, CMSG_DATA(c), sizeof(drops));
		u->stats.sockdrop = drops;
	}
}

static void packet_account(struct udp *u, uint64_t seq)
{
	struct udp_stats *s = &u->stats;
	uint8_t bit = (uint8_t)(1u << (seq % 8));

	if (seq >= UDP_SEQ_MAX) {
		s->bad++;
		return;
	}
	if (seen[seq / 8] & bit) {
		s->dup++;
		return;
	}
	seen[seq / 8] |= bit;
	if (s->recv && seq < s->last)
		s->order++;
	if (!s->recv || seq < s->first)
		s->first = seq;
	if (!s->recv || seq > s->last)
		s->last = seq;
	s->recv++;
}

void udp_receive(struct udp *u)
{
	uint8_t data[2048], control[64];
	uint64_t seq;

	/* Bounded, so that a flood cannot keep the heartbeat from going out. */
	for (int i = 0; i < 256; i++) {
		struct iovec iov = {data, sizeof(data)};
		struct msghdr msg = {.msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = control,
				     .msg_controllen = sizeof(control)};
		ssize_t len = recvmsg(u->fd, &msg, 0);

		if (len < 0)
			return;
		drops_account(u, &msg);
		if (len < (ssize_t)sizeof(seq)) {
			u->stats.bad++;
			continue;
		}
		memcpy(&seq, data, sizeof(seq));
		packet_account(u, be64toh(seq));
	}
}

uint64_t udp_missing(const struct udp *u)
{
	return u->stats.recv ? u->stats.last - u->stats.first + 1 - u->stats.recv : 0;
}
