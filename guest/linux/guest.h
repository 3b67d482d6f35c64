/* SPDX-License-Identifier: MIT */
/*
 * The demo's Linux guest: one static program that is PID 1 and does nothing but watch whether
 * anything is lost. Only the files in this folder include this header.
 */
#ifndef GUEST_LINUX_GUEST_H
#define GUEST_LINUX_GUEST_H

#include <stdbool.h>
#include <stdint.h>

/* ---- settings, from the kernel command line (config.c) ---- */

enum guest_mode { MODE_PING, MODE_UDP, MODE_IDLE };

struct config {
	enum guest_mode mode;	  /* molt.mode=ping|udp|idle */
	bool pings;		  /* molt.pings=0 turns pings off in any mode */
	unsigned int interval_ms; /* molt.interval_ms: between two pings, 1..10000 */
	unsigned int sample_ms;	  /* molt.sample_ms: between two looks at the clocks, 1..1000 */
	unsigned int beat_ms;	  /* molt.beat_ms: between two BEAT lines, 100..60000 */
	unsigned int beats;	  /* molt.beats: end after this many, 0 = never */
	bool counter;		  /* molt.counter=1: keep a CPU busy with counting (counter.h) */
	unsigned int port;	  /* molt.port: UDP port of mode udp */
	unsigned int
		tcp_port; /* molt.tcp: port of the peer that sends back what it gets; 0: none */
	unsigned int kvm; /* molt.kvm: so many guests of its own, up to 4 */
	unsigned int
		p2p; /* molt.p2p=1: two edu devices try each other's BARs; 2: one that of an igb; once */
	unsigned int vsock_port; /* molt.vsock: the same of the host, by AF_VSOCK */
	char ifname[16];	 /* molt.if */
	char irq[32];		 /* molt.irq: what the NIC is called in /proc/interrupts */
	char disk[32];	   /* molt.disk: write, read and check this block device all the time */
	char tty[32];	   /* molt.tty: send to this serial port all the time what it sends back */
	uint32_t ip, peer; /* molt.ip, molt.peer: network byte order */
};

/** Reads /proc/cmdline. Returns 0, or -1 after printing a FAIL line that names the bad word. */
int config_read(struct config *cfg);

/* ---- console and machine (system.c) ---- */

/** Prints one line to the console in a single write. */
void console_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** Mounts proc, sys and devtmpfs. */
void system_mount(void);

/** Loads the modules listed in /modules.list, in that order; prints a FAIL line for each that
 * refuses. */
void system_load_modules(void);

/** Sum over all CPUs of the lines of /proc/interrupts that contain @name. */
uint64_t system_irq_count(const char *name);

/** CLOCK_MONOTONIC in ns. */
uint64_t clock_now_ns(void);

/** Says goodbye to the kernel; does not return. @cmd is an RB_ constant of reboot(2). */
void system_end(int cmd) __attribute__((noreturn));

/* ---- network (net.c) ---- */

/** Brings lo and the interface up with 10.0.2.15/24 or the like and waits for its carrier. 0 or
 * -errno after a FAIL line. */
int net_up(const struct config *cfg);

/* ---- clocks (clocks.c) ---- */

struct clock_report {
	uint64_t gap_ns; /* largest distance between two looks since the last report, sleep included
			  */
	uint64_t max_gap_ns; /* the same, since the start */
	uint64_t back; /* how often a clock (MONOTONIC, BOOTTIME, REALTIME, TSC) went back, since
			  the start */
	uint64_t boot_drift_ns; /* largest change of BOOTTIME - MONOTONIC: a guest that never sleeps
				   has none */
};

/** Starts the thread that looks at the clocks every @sample_ms. */
int clocks_start(unsigned int sample_ms);

/** Takes the report and starts a new gap_ns. */
void clocks_report(struct clock_report *out);

/** The counter itself; 0 where there is none that user space may read. */
uint64_t clocks_tsc(void);

/* ---- pings (ping.c) ---- */

struct ping_stats {
	uint64_t sent, recv;
	uint64_t lost;	  /* no answer within 10 s */
	uint64_t late;	  /* answered after that; stays in lost */
	uint64_t dup;	  /* answered more than once */
	uint64_t bad;	  /* answers with a wrong content */
	uint64_t senderr; /* the kernel refused to send; not in sent */
	uint64_t max_rtt_ns, beat_max_rtt_ns;
};

struct ping {
	int fd;
	uint32_t peer;
	uint64_t next_seq;
	uint64_t oldest; /* first sequence number still undecided */
	struct ping_stats stats;
};

int ping_open(struct ping *p, const struct config *cfg);
/** Sends one echo request; never twice the same. */
void ping_send(struct ping *p, uint64_t now_ns);
/** Reads all answers that are there. */
void ping_receive(struct ping *p);
/** Gives up those that are older than 10 s. */
void ping_expire(struct ping *p, uint64_t now_ns);
uint64_t ping_inflight(const struct ping *p);
/** Of those under way: how many were sent more than a second ago. */
uint64_t ping_overdue(const struct ping *p, uint64_t now_ns);

/* ---- numbered UDP packets (udp.c) ---- */

/* A packet begins with its sequence number, 64 bits big-endian, counting from 0 or any start. */
#define UDP_SEQ_MAX (1u << 23)

struct udp_stats {
	uint64_t recv, dup, bad;
	uint64_t first, last; /* lowest and highest sequence number seen */
	uint64_t order;	      /* packets that came after a higher number */
	uint64_t sockdrop;    /* dropped in the guest for want of socket buffer */
};

struct udp {
	int fd;
	struct udp_stats stats;
};

int udp_open(struct udp *u, const struct config *cfg);
void udp_receive(struct udp *u);
/** Numbers between first and last that never came. */
uint64_t udp_missing(const struct udp *u);

/* ---- a disk under load (disk.c) ---- */

struct disk_stats {
	uint64_t writes, reads;
	uint64_t bad;  /* blocks that did not read back as they were written */
	uint64_t errs; /* the kernel refused, or gave up on, a read or a write */
	uint64_t max_ns;
	uint64_t irqs;
};

/** Starts the thread that writes and checks the device at @path. 0 or -errno after a FAIL line. */
int disk_start(const char *path);
void disk_report(struct disk_stats *out);

/* ---- a serial port under load (tty.c) ---- */

struct tty_stats {
	uint64_t sent, received;
	uint64_t bad; /* bytes that are not those that were due, or more than were sent */
	uint64_t max_ns;
};

/** Starts the thread that sends and receives by the port at @path. 0 or -errno after a FAIL line. */
int tty_start(const char *path);
void tty_report(struct tty_stats *out);

/* ---- guests in this guest (kvm.c) ---- */

struct kvm_stats {
	uint64_t rounds;
	uint64_t bad;  /* rounds whose registers or memory are not what they must be */
	uint64_t errs; /* guests that ended */
};

/** Starts threads that run a guest each, the first on the last processor, and so on. 0 or -errno after a FAIL line. */
int kvm_start(unsigned int count);
/** At the end: none of them runs any more. */
void kvm_stop(void);
void kvm_report(struct kvm_stats *out);

/* ---- DMA from one device to another (p2p.c) ---- */

/** Prints the line P2P: whether the first edu device reaches the second's BAR (there), the second the first's (back),
 * and the first the second's again once that had decoded no memory (again). */
void p2p_say(void);
/** The same line: whether an edu device reaches a network card's BAR (before), whether that has reset itself (reset),
 * and whether it is reached then (after). */
void p2p_reset_say(void);

/* ---- a BAR that is memory: on the console's orders (bar.c) ---- */

/** "FILE", a resource of sysfs: writes each eighth of it once, having checked what was written there the last time.
 * Prints "BAR round=N bad=N first_us=US all_us=US": the first access's time, and that of all of them. */
void bar_touch(char *path);

/* ---- a TCP connection under load (tcp.c) ---- */

struct tcp_stats {
	uint64_t sent, received;
	uint64_t bad; /* bytes that are not those that were due */
};

/** Connects to the peer, and starts the thread that sends and receives. 0 or -errno after a FAIL line. */
int tcp_start(const struct config *cfg);
void tcp_report(struct tcp_stats *out);

/* ---- how fast a device is: on the console's orders (load_disk.c, load_stream.c) ---- */

/* Both print "LOAD done=N us=US", or a FAIL line. The guest does nothing else meanwhile. */

/* "PATH read|write sequential|random BLOCK DEPTH MS": so many requests of BLOCK bytes (a multiple of 512, up to 4
 * MiB) were done, with DEPTH (up to 64) in flight. */
void load_disk(char *words);
/** "ADDRESS PORT send|receive|turns MS": so many bytes were moved, or one byte so many times there and back. */
void load_stream(char *words);

/* ---- sockets to the host (vsock.c) ---- */

struct vsock_stats {
	uint64_t received, bad; /* bytes; round trips with other data */
	uint64_t ends; /* connections that have ended: reset, by the guest's kernel or the host's */
};

/** Starts the thread that connects, sends and receives. 0 or -errno. */
int vsock_start(unsigned int port);
void vsock_report(struct vsock_stats *out);

/* ---- memory in use: on the console's orders (memory.c) ---- */

/** "MIB": checks what is in use, and from then on so much is. Prints "USED MIB bad=N": N MiB did not hold what was
 * written there. */
void memory_use(char *words);

/* ---- what a script may ask for while the guest runs (inspect.c) ---- */

/** From here on inspect_kernel_messages() has something to say. */
void inspect_start(void);
/** Prints the first line of a file after READ. */
void inspect_file(char *path);
/** "FILE TEXT": writes it there; prints WROTE and 0, or the error number. */
void inspect_write(char *words);
/** "FILE N": puts the device whose config space FILE is into D0 (N is 0) to D3hot (3); WROTE as above. */
void inspect_dstate(char *words);
/** "FILE OFFSET...": prints a REGS line with the 32-bit registers at these hexadecimal offsets of
 * the device memory that FILE, a resource of sysfs, maps. */
void inspect_registers(char *words);
/** "irqs NAME": IRQS and the sum that system_irq_count() counts of it. */
void inspect_irqs(char *name);
/** Prints the kernel's messages since the last time, a KMSG line each, and then KMSG_END. */
void inspect_kernel_messages(char *unused);

/* ---- orders (orders.c) ---- */

enum order { ORDER_NONE, ORDER_STOP, ORDER_REBOOT, ORDER_PANIC };

#define ORDER_FDS_MAX 9

/** Opens the console's input and every input device (the power button is one). */
int orders_open(void);
/** Puts their descriptors into @fds; returns how many. */
int orders_fds(int fds[ORDER_FDS_MAX]);
/* Reads what came: "stop", "reboot" or "panic" on the console, or the power button. "read", "write", "dstate",
 * "regs" and "kmsg" and those of loads are answered at once (inspect.c, load_disk.c, load_stream.c). */
enum order orders_read(int fd);

#endif
