/* SPDX-License-Identifier: MIT */
/* The pause against virtio devices, at rest and with requests in flight: machines in turn, in rounds, as hosts are
 * noisy. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/guest/runner/bench.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	  30000
#define SETTLE_US 5000
#define MOST	  4
#define ROUNDS	  5

enum kind { DISK, NET, RANDOM };

static const struct series {
	const char *name;
	enum kind kind;
	bool busy;
	unsigned most; /* devices: none, 1, 2 and so on up to that many */
} all_series[] = {
	{"disks_rest_ns", DISK, false, MOST}, {"disks_busy_ns", DISK, true, MOST},
	{"nets_rest_ns", NET, false, MOST},   {"nets_busy_ns", NET, true, MOST},
	{"rng_rest_ns", RANDOM, false, 1},
};

static const struct series *series_now;
static unsigned devices_now;
static int links[MOST][2]; /* of each interface: its other end, and molt's */

/* What the guest sends goes nowhere. */
static int links_drain(struct session *s)
{
	static char frames[65536];

	(void)s;
	for (unsigned i = 0; i < devices_now; i++)
		while (recv(links[i][0], frames, sizeof(frames), MSG_DONTWAIT) > 0)
			;
	return 0;
}

static int requests_done(struct session *s, uint64_t *requests)
{
	unsigned devices;

	if (session_ask(s, 'r', "LOAD "))
		return -1;
	if (sscanf(s->line, "LOAD %u %" SCNu64, &devices, requests) != 2 || devices != devices_now)
		return session_fail(s, "'%s' with %u devices", s->line, devices_now);
	return 0;
}

static int drive(struct session *s, unsigned updates)
{
	uint64_t before, after;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	s->on_poll = series_now->kind == NET ? links_drain : NULL;
	for (unsigned i = 0; i < updates; i++) {
		if (requests_done(s, &before) || session_wait_us(s, SETTLE_US) ||
		    session_update(s) || requests_done(s, &after))
			return -1;
		if (series_now->busy && devices_now && after == before)
			return session_fail(s, "no request was done over an update");
		bench_sample(series_now->name, devices_now, s->pauses_ns[i]);
	}
	s->on_poll = NULL;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

static int links_open(void)
{
	for (unsigned i = 0; i < devices_now; i++)
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, links[i]) ||
		    fcntl(links[i][1], F_SETFD, 0)) {
			printf("bench: socket: %s\n", strerror(errno));
			return -1;
		}
	return 0;
}

static void links_close(void)
{
	for (unsigned i = 0; i < devices_now; i++) {
		close(links[i][0]);
		close(links[i][1]);
	}
}

static int machine_run(const struct settings *set, unsigned updates)
{
	char words[MOST][32];
	/* It measures: a host that is late is waited for. */
	struct test_case test = {
		"bench",
		"load",
		drive,
		1,
		0,
		0,
		0,
		{"--mem", "256M", "--prepare-timeout", "60000", "--update-timeout", "20000"},
		series_now->busy ? "busy=1" : NULL};
	unsigned n = 6;

	for (unsigned i = 0; i < devices_now; i++)
		switch (series_now->kind) {
		case DISK: /* one image, which they share */
			test.disk_mib = 8;
			test.args[n++] = "--disk";
			test.args[n++] = "%D/disk,ro";
			break;
		case NET:
			snprintf(words[i], sizeof(words[i]), "fd=%d", links[i][1]);
			test.args[n++] = "--net";
			test.args[n++] = words[i];
			break;
		case RANDOM:
			test.args[n++] = "--rng";
			break;
		}
	return bench_guest(set, &test, updates);
}

int bench_virtio(const struct settings *set, const char *floor, unsigned updates)
{
	unsigned rounds = updates < ROUNDS ? 1 : ROUNDS;
	int rc = 0;

	(void)floor;
	for (unsigned r = 0; r < rounds && !rc; r++)
		for (unsigned i = 0; i < sizeof(all_series) / sizeof(all_series[0]) && !rc; i++) {
			unsigned n = updates / rounds + (r < updates % rounds);
			series_now = &all_series[i];
			for (devices_now = 0; n && devices_now <= series_now->most && !rc;
			     devices_now += devices_now ?: 1) {
				rc = series_now->kind == NET ? links_open() : 0;
				rc = rc ?: machine_run(set, n);
				if (series_now->kind == NET)
					links_close();
			}
		}
	return rc;
}
