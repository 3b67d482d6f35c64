/* SPDX-License-Identifier: MIT */
/* ICMP echo with an account of every single request. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PING_ID		0x6d6f
#define PING_LOST_NS	10000000000ull
#define PING_OVERDUE_NS 1000000000ull
/* More than are in flight within 10 s at 1 ms; slots are found by sequence number. */
#define PING_SLOTS 16384

enum slot_state { SLOT_FREE, SLOT_WAIT, SLOT_DONE, SLOT_LOST };

static struct {
	uint64_t seq, sent_ns;
	enum slot_state state;
} slots[PING_SLOTS];

struct echo {
	struct icmphdr icmp;
	/* ICMP's own number has 16 bits and wraps. */
	uint64_t seq;
	uint8_t fill[40];
};

static uint16_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t sum = 0;

	for (; len > 1; len -= 2, p += 2)
		sum += (uint32_t)p[0] << 8 | p[1];
	if (len)
		sum += (uint32_t)p[0] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void echo_fill(struct echo *e, uint64_t seq)
{
	memset(e, 0, sizeof(*e));
	e->icmp.type = ICMP_ECHO;
	e->icmp.un.echo.id = htons(PING_ID);
	e->icmp.un.echo.sequence = htons((uint16_t)seq);
	e->seq = seq;
	for (size_t i = 0; i < sizeof(e->fill); i++)
		e->fill[i] = (uint8_t)(seq + i);
	e->icmp.checksum = checksum(e, sizeof(*e));
}

int ping_open(struct ping *p, const struct config *cfg)
{
	memset(p, 0, sizeof(*p));
	p->peer = cfg->peer;
	p->fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
	if (p->fd < 0) {
		console_line("FAIL what=ping_socket errno=%d", errno);
		return -errno;
	}
	return 0;
}

void ping_send(struct ping *p, uint64_t now_ns)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = p->peer};
	struct echo e;
	uint64_t seq = p->next_seq;

	echo_fill(&e, seq);
	if (sendto(p->fd, &e, sizeof(e), 0, (struct sockaddr *)&to, sizeof(to)) != sizeof(e)) {
		p->stats.senderr++;
		return;
	}
	slots[seq % PING_SLOTS].seq = seq;
	slots[seq % PING_SLOTS].sent_ns = now_ns;
	slots[seq % PING_SLOTS].state = SLOT_WAIT;
	p->next_seq++;
	p->stats.sent++;
}

static void answer_account(struct ping *p, const struct echo *e)
{
	unsigned int at = e->seq % PING_SLOTS;
	struct echo expected;
	uint64_t rtt;

	echo_fill(&expected, e->seq);
	if (e->seq >= p->next_seq || slots[at].seq != e->seq ||
	    memcmp(expected.fill, e->fill, sizeof(e->fill))) {
		p->stats.bad++;
		return;
	}
	switch (slots[at].state) {
	case SLOT_WAIT:
		rtt = clock_now_ns() - slots[at].sent_ns;
		slots[at].state = SLOT_DONE;
		p->stats.recv++;
		if (rtt > p->stats.max_rtt_ns)
			p->stats.max_rtt_ns = rtt;
		if (rtt > p->stats.beat_max_rtt_ns)
			p->stats.beat_max_rtt_ns = rtt;
		break;
	case SLOT_LOST:
		slots[at].state = SLOT_DONE;
		p->stats.late++;
		break;
	default:
		p->stats.dup++;
	}
}

void ping_receive(struct ping *p)
{
	union {
		struct iphdr ip;
		uint8_t bytes[512];
	} buf;
	struct echo e;
	ssize_t len;

	while ((len = recv(p->fd, &buf, sizeof(buf), 0)) > 0) {
		size_t head = buf.ip.ihl * 4u;

		if ((size_t)len < head + sizeof(e.icmp))
			continue;
		memcpy(&e, buf.bytes + head,
		       (size_t)len - head < sizeof(e) ? (size_t)len - head : sizeof(e));
		if (e.icmp.type != ICMP_ECHOREPLY || e.icmp.un.echo.id != htons(PING_ID))
			continue;
		if ((size_t)len != head + sizeof(e))
			p->stats.bad++;
		else
			answer_account(p, &e);
	}
}

void ping_expire(struct ping *p, uint64_t now_ns)
{
	for (; p->oldest < p->next_seq; p->oldest++) {
		unsigned int at = p->oldest % PING_SLOTS;

		if (slots[at].state == SLOT_WAIT) {
			if (now_ns - slots[at].sent_ns < PING_LOST_NS)
				return;
			slots[at].state = SLOT_LOST;
			p->stats.lost++;
		}
	}
}

uint64_t ping_overdue(const struct ping *p, uint64_t now_ns)
{
	uint64_t n = 0;

	for (uint64_t seq = p->oldest; seq < p->next_seq; seq++) {
		unsigned int at = seq % PING_SLOTS;

		n += slots[at].state == SLOT_WAIT && now_ns - slots[at].sent_ns > PING_OVERDUE_NS;
	}
	return n;
}

uint64_t ping_inflight(const struct ping *p)
{
	return p->stats.sent - p->stats.recv - p->stats.lost;
}
