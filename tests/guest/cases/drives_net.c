/* SPDX-License-Identifier: MIT */
/* Numbered frames to a guest that sends them back, under updates: each comes back once, in order. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	 30000
#define DRAIN_MS 20000
#define AHEAD                                                                                      \
	48 /* frames under way at most: the guest has buffers for more, the socket need not have room */
#define FRAME_MIN  60
#define FRAME_MAX  2000
#define PER_UPDATE 8 /* fewer than these came back: it is not tested */

static struct {
	uint64_t sent, received;
	uint8_t in[65536]; /* what has come, from the beginning of a frame on */
	size_t len;
} net;

static size_t frame_make(uint64_t number, uint8_t *frame)
{
	size_t len = FRAME_MIN + number * 37 % (FRAME_MAX - FRAME_MIN);
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(number * 13 + i * 7);
	memcpy(frame, &number, sizeof(number));
	return len;
}

static int frames_send(struct session *s)
{
	uint8_t data[4 + FRAME_MAX];

	for (; net.sent - net.received < AHEAD; net.sent++) {
		size_t len = frame_make(net.sent, data + 4);
		uint32_t word = htonl((uint32_t)len);
		memcpy(data, &word, 4);
		ssize_t n = send(s->link, data, len + 4, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n != (ssize_t)len + 4)
			return session_fail(s, "frame %llu: %s", (unsigned long long)net.sent,
					    strerror(errno));
	}
	return 0;
}

/* Takes whole frames off the front. */
static int frames_judge(struct session *s)
{
	uint8_t frame[FRAME_MAX];
	uint32_t word;
	size_t at = 0;

	for (; net.len - at >= 4; net.received++) {
		memcpy(&word, net.in + at, 4);
		size_t len = ntohl(word), due = frame_make(net.received, frame);
		if (len != due)
			return session_fail(s, "frame %llu has %zu bytes, not %zu",
					    (unsigned long long)net.received, len, due);
		if (net.len - at - 4 < len)
			break;
		if (memcmp(net.in + at + 4, frame, len))
			return session_fail(s, "frame %llu came back changed, or is another",
					    (unsigned long long)net.received);
		at += 4 + len;
	}
	net.len -= at;
	memmove(net.in, net.in + at, net.len);
	return 0;
}

static int frames_receive(struct session *s)
{
	for (;;) {
		ssize_t n = recv(s->link, net.in + net.len, sizeof(net.in) - net.len, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return session_fail(s, "the link has ended");
		net.len += (size_t)n;
		if (frames_judge(s))
			return -1;
	}
}

static int frames_pass(struct session *s)
{
	return frames_receive(s) || frames_send(s) ? -1 : 0;
}

static int frames_back(struct session *s, uint64_t until)
{
	uint64_t end = clock_ns() + (uint64_t)DRAIN_MS * s->set->slow * 1000000;

	while (net.received < until) {
		if (session_wait_us(s, 1000) || frames_receive(s))
			return -1;
		if (clock_ns() > end)
			return session_fail(s, "frame %llu has not come back within %u ms",
					    (unsigned long long)net.received,
					    DRAIN_MS * s->set->slow);
	}
	return 0;
}

int drive_net(struct session *s, unsigned updates)
{
	const struct test_case *t = s->test;

	memset(&net, 0, sizeof(net));
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	s->on_poll = frames_pass;
	for (unsigned i = 0; i < updates; i++) {
		uint64_t before = net.received;
		if (session_wait_us(s, t->min_us + session_random(s, t->max_us - t->min_us + 1)) ||
		    session_update(s) || frames_back(s, before + PER_UPDATE))
			return -1;
	}
	s->on_poll = NULL;
	if (frames_back(s, net.sent))
		return -1;
	printf("    %llu frames there and back\n", (unsigned long long)net.received);
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
