/* SPDX-License-Identifier: MIT */
/*
 * PID 1 of the demo's Linux guest. Brings the NIC up, pings, and once a second says on the console
 * what it has seen, in lines that a script can read:
 *
 *   READY ...                     everything is up
 *   BEAT n=12 up_ms=13020 ...     once a second
 *   FAIL what=... ...             something that should not happen
 *   END sent=... ...              the account, after which the machine powers off
 */
#include "guest.h"
#include "counter.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS ((uint64_t)1000000)
/* How long the last pings may be under way before the account is closed. */
#define DRAIN_NS (10000 * NS_PER_MS)

struct guest {
	struct config cfg;
	struct ping ping;
	struct udp udp;
	struct clock_report clocks;
	uint64_t beats;
	bool pinging, listening;
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The part that BEAT and END share. */
static void account_format(const struct guest *g, char *out, size_t size)
{
	const struct ping_stats *p = &g->ping.stats;
	const struct udp_stats *u = &g->udp.stats;
	struct disk_stats d;
	struct tcp_stats c;
	struct tty_stats t;
	struct vsock_stats v;
	struct kvm_stats k;
	int len;

	len = snprintf(out, size,
		       "sent=%" PRIu64 " recv=%" PRIu64 " lost=%" PRIu64 " dup=%" PRIu64
		       " late=%" PRIu64 " bad=%" PRIu64 " senderr=%" PRIu64 " inflight=%" PRIu64
		       " overdue=%" PRIu64 " maxrtt_us=%" PRIu64 " maxgap_us=%" PRIu64
		       " back=%" PRIu64 " bootdrift_us=%" PRIu64 " irqs=%" PRIu64,
		       p->sent, p->recv, p->lost, p->dup, p->late, p->bad, p->senderr,
		       g->pinging ? ping_inflight(&g->ping) : 0,
		       g->pinging ? ping_overdue(&g->ping, clock_now_ns()) : 0,
		       p->max_rtt_ns / 1000, g->clocks.max_gap_ns / 1000, g->clocks.back,
		       g->clocks.boot_drift_ns / 1000, system_irq_count(g->cfg.irq));
	if (g->listening && len > 0 && (size_t)len < size)
		len += snprintf(out + len, size - (size_t)len,
				" udp_recv=%" PRIu64 " udp_first=%" PRIu64 " udp_last=%" PRIu64
				" udp_missing=%" PRIu64 " udp_dup=%" PRIu64 " udp_order=%" PRIu64
				" udp_bad=%" PRIu64 " udp_sockdrop=%" PRIu64,
				u->recv, u->first, u->last, udp_missing(&g->udp), u->dup, u->order,
				u->bad, u->sockdrop);
	if (g->cfg.disk[0] && len > 0 && (size_t)len < size) {
		disk_report(&d);
		len += snprintf(out + len, size - (size_t)len,
				" disk_writes=%" PRIu64 " disk_reads=%" PRIu64 " disk_bad=%" PRIu64
				" disk_errs=%" PRIu64 " disk_max_us=%" PRIu64 " disk_irqs=%" PRIu64,
				d.writes, d.reads, d.bad, d.errs, d.max_ns / 1000, d.irqs);
	}
	if (g->cfg.tcp_port && len > 0 && (size_t)len < size) {
		tcp_report(&c);
		len += snprintf(out + len, size - (size_t)len,
				" tcp_sent=%" PRIu64 " tcp_recv=%" PRIu64 " tcp_bad=%" PRIu64,
				c.sent, c.received, c.bad);
	}
	if (g->cfg.vsock_port && len > 0 && (size_t)len < size) {
		vsock_report(&v);
		len += snprintf(out + len, size - (size_t)len,
				" vsock_recv=%" PRIu64 " vsock_bad=%" PRIu64 " vsock_ends=%" PRIu64,
				v.received, v.bad, v.ends);
	}
	if (g->cfg.kvm && len > 0 && (size_t)len < size) {
		kvm_report(&k);
		len += snprintf(out + len, size - (size_t)len,
				" kvm_rounds=%" PRIu64 " kvm_bad=%" PRIu64 " kvm_errs=%" PRIu64,
				k.rounds, k.bad, k.errs);
	}
	if (!g->cfg.tty[0] || len <= 0 || (size_t)len >= size)
		return;
	tty_report(&t);
	snprintf(out + len, size - (size_t)len,
		 " tty_sent=%" PRIu64 " tty_recv=%" PRIu64 " tty_bad=%" PRIu64
		 " tty_max_us=%" PRIu64,
		 t.sent, t.received, t.bad, t.max_ns / 1000);
}

static void beat(struct guest *g)
{
	char account[640];
	uint64_t now = clock_now_ns();

	g->beats++;
	clocks_report(&g->clocks);
	account_format(g, account, sizeof(account));
	console_line("BEAT n=%" PRIu64 " up_ms=%" PRIu64 " tsc=%" PRIu64 " gap_us=%" PRIu64
		     " rtt_us=%" PRIu64 " %s",
		     g->beats, now / NS_PER_MS, clocks_tsc(), g->clocks.gap_ns / 1000,
		     g->ping.stats.beat_max_rtt_ns / 1000, account);
	g->ping.stats.beat_max_rtt_ns = 0;
}

/* Waits until @until_ns at most and serves what arrives. */
static enum order serve(struct guest *g, uint64_t until_ns)
{
	struct pollfd fds[ORDER_FDS_MAX + 2];
	int order_fds[ORDER_FDS_MAX], orders = orders_fds(order_fds), count = orders;
	uint64_t now = clock_now_ns(), left = until_ns > now ? until_ns - now : 0;
	struct timespec ts = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
	enum order order = ORDER_NONE;

	for (int i = 0; i < orders; i++)
		fds[i] = (struct pollfd){.fd = order_fds[i], .events = POLLIN};
	if (g->pinging)
		fds[count++] = (struct pollfd){.fd = g->ping.fd, .events = POLLIN};
	if (g->listening)
		fds[count++] = (struct pollfd){.fd = g->udp.fd, .events = POLLIN};
	if (ppoll(fds, (nfds_t)count, &ts, NULL) <= 0)
		return ORDER_NONE;
	if (g->pinging)
		ping_receive(&g->ping);
	if (g->listening)
		udp_receive(&g->udp);
	for (int i = 0; i < orders && order == ORDER_NONE; i++)
		if (fds[i].revents & POLLIN)
			order = orders_read(fds[i].fd);
	return order;
}

static enum order work(struct guest *g)
{
	uint64_t interval = g->cfg.interval_ms * NS_PER_MS, period = g->cfg.beat_ms * NS_PER_MS;
	uint64_t now = clock_now_ns(), next_ping = now, next_beat = now + period;
	enum order order;

	do {
		order = serve(g, g->pinging ? min_u64(next_ping, next_beat) : next_beat);
		now = clock_now_ns();
		if (g->pinging && now >= next_ping) {
			ping_send(&g->ping, now);
			next_ping += interval;
			/* After a pause go on at the old pace instead of catching up in one burst.
			 */
			if (next_ping <= now)
				next_ping = now + interval;
		}
		if (g->pinging)
			ping_expire(&g->ping, now);
		if (now >= next_beat) {
			beat(g);
			next_beat = now + period;
			if (g->cfg.beats && g->beats >= g->cfg.beats)
				order = ORDER_STOP;
		}
	} while (order == ORDER_NONE);
	return order;
}

/* The answers still under way get their time; whatever has not come then is lost. */
static void drain(struct guest *g)
{
	uint64_t now = clock_now_ns(), end = now + DRAIN_NS;

	while (g->pinging && ping_inflight(&g->ping) && now < end) {
		serve(g, min_u64(end, now + 100 * NS_PER_MS));
		now = clock_now_ns();
	}
	ping_expire(&g->ping, UINT64_MAX);
}

static int start(struct guest *g)
{
	if (config_read(&g->cfg))
		return -EINVAL;
	system_load_modules();
	orders_open();
	if (g->cfg.mode != MODE_IDLE) {
		if (net_up(&g->cfg))
			return -ENETDOWN;
		g->pinging = g->cfg.pings;
		g->listening = g->cfg.mode == MODE_UDP;
	}
	if (g->pinging && ping_open(&g->ping, &g->cfg))
		return -EIO;
	if (g->listening && udp_open(&g->udp, &g->cfg))
		return -EIO;
	if (g->cfg.disk[0] && disk_start(g->cfg.disk))
		return -EIO;
	if (g->cfg.tty[0] && tty_start(g->cfg.tty))
		return -EIO;
	if (g->cfg.tcp_port && tcp_start(&g->cfg))
		return -EIO;
	if (g->cfg.vsock_port && vsock_start(g->cfg.vsock_port))
		return -EAGAIN;
	if (g->cfg.kvm && kvm_start(g->cfg.kvm))
		return -EIO;
	if (g->cfg.p2p == 1)
		p2p_say();
	if (g->cfg.p2p == 2)
		p2p_reset_say();
	if (g->cfg.counter && counter_start())
		return -EAGAIN;
	if (clocks_start(g->cfg.sample_ms))
		return -EAGAIN;
	inspect_start();
	console_line("READY up_ms=%" PRIu64 " mode=%s interval_ms=%u", clock_now_ns() / NS_PER_MS,
		     g->listening ? "udp"
		     : g->pinging ? "ping"
				  : "idle",
		     g->cfg.interval_ms);
	return 0;
}

static void finish(struct guest *g)
{
	char account[640];

	drain(g);
	kvm_stop();
	clocks_report(&g->clocks);
	account_format(g, account, sizeof(account));
	console_line("END beats=%" PRIu64 " %s", g->beats, account);
}

int main(void)
{
	static struct guest g;
	enum order order = ORDER_STOP;

	system_mount();
	/* Ctrl-C on the console must not reach PID 1 as a signal that nobody handles. */
	reboot(RB_DISABLE_CAD);
	signal(SIGINT, SIG_IGN);
	if (!start(&g)) {
		order = work(&g);
		finish(&g);
	}
	if (order == ORDER_PANIC)
		_exit(1);
	system_end(order == ORDER_REBOOT ? RB_AUTOBOOT : RB_POWER_OFF);
}
