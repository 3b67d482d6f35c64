/* SPDX-License-Identifier: MIT */
/* What the host does in a case: each runs from the guest's READY to its end. */
#ifndef RUNNER_DRIVES_H
#define RUNNER_DRIVES_H

#include <stdbool.h>
#include <stdint.h>

struct session;

/* @n updates, each after a random wait. */
int drive_updates(struct session *s, unsigned n);
/* Updates at random moments, then 'q'. */
int drive_plain(struct session *s, unsigned updates);
/* The same, asking the gap guest for its largest gap and its TSC around each. */
int drive_gap(struct session *s, unsigned updates);
/* One of those updates: the largest gap of any CPU. */
int gap_update(struct session *s, uint64_t *ns);
/*
 * The guest's TSC is the host's plus a constant. Each sample bounds that constant from both sides; the bounds must
 * always overlap: the TSC neither stood still nor jumped.
 */
struct tsc_bounds {
	int64_t low, high;
};
#define TSC_BOUNDS_NONE                                                                            \
	{                                                                                          \
		{INT64_MIN, INT64_MAX},                                                            \
		{                                                                                  \
			INT64_MIN, INT64_MAX                                                       \
		}                                                                                  \
	}
/* Asks the gap guest. @b: as RDTSC reads it, and as its MSR says. */
int tsc_sample(struct session *s, struct tsc_bounds b[2]);
/* kvmclock stays with the host's clock. */
int drive_clock(struct session *s, unsigned updates);
/* Numbered lines from the guest, numbered bytes to it, none lost, doubled or changed. */
int drive_stress(struct session *s, unsigned updates);
/* That, from READY on. */
int stress_run(struct session *s, unsigned updates);
/* That, and nothing molt holds grows over the updates. */
int drive_soak(struct session *s, unsigned updates);
/* Numbered lines only. */
int drive_lines(struct session *s, unsigned updates);
/* One update whenever the guest says "ARMED". */
int drive_armed(struct session *s, unsigned updates);
/* An interrupt before, inside and after each update, and one on a masked vector. */
int drive_irq(struct session *s, unsigned updates);
/* Level interrupt: asserted while masked, and while its handler runs. */
int drive_level(struct session *s, unsigned updates);
/* Frames to the net guest and back, all the time. */
int drive_net(struct session *s, unsigned updates);
/* After each update: 'k' wakes the halted vCPU, which must not have run before. */
int drive_halt(struct session *s, unsigned updates);
/* Updates that fail, each row of a table: the guest goes on in the old program. */
int drive_fault(struct session *s, unsigned updates);
/* What a row has done to the guest: the longest time that it stood still; whether it lives, and the process id. */
typedef void (*fault_seen)(const char *name, uint64_t gap_ns, bool alive, bool pid_kept);
extern fault_seen fault_on_row; /* NULL: nobody asks */
#define FAULT_IDLE "no update"	/* a name: what a guest saw that was left alone meanwhile */
/* Updates between programs whose state differs, each row of a table, there and back. */
int drive_skew(struct session *s, unsigned updates);
/* A disk under updates; whose file is too large for its process; which does not answer, so that updates are refused. */
int drive_disk_reboot(struct session *s, unsigned updates);
int drive_disk(struct session *s, unsigned updates);
int drive_disk_errors(struct session *s, unsigned updates);
int drive_disk_grow(struct session *s, unsigned updates);
int drive_disk_stuck(struct session *s, unsigned updates);
/* For others whose guest is `disk`: requests are done; at its end the image is what it has read. */
int disk_goes_on(struct session *s);
int disk_image_right(struct session *s);
/* Everything that molt's own verbs ask over the control socket, and what the supervisor is told. */
int drive_control(struct session *s, unsigned updates);
/* Signals and requests that come while an update is under way. */
int drive_busy(struct session *s, unsigned updates);
/* molt console, on terminals. */
int drive_console(struct session *s, unsigned updates);
/* What is counted, over updates and failures. */
int drive_metrics(struct session *s, unsigned updates);
/* Paused and resumed, and updated meanwhile. */
int drive_pause(struct session *s, unsigned updates);
/* molt on a terminal that is closed, and signals that end it. */
int drive_terminal(struct session *s, unsigned updates);
/* After each update: wakes all CPUs, each of which must answer once. */
int drive_many(struct session *s, unsigned updates);
/* The host loses a page of guest memory. */
int drive_poison(struct session *s, unsigned updates);
/* As process 1 of a container. */
int drive_container(struct session *s, unsigned updates);
/* States that KVM gives, and may refuse to take. */
int drive_states(struct session *s, unsigned updates);
/* Another molt takes the guest, or fails to. */
int drive_take(struct session *s, unsigned updates);
int drive_take_plain(struct session *s, unsigned updates);
/* Resets right after it was taken. */
int drive_take_reboot(struct session *s, unsigned updates);
/* The new program fails as a parent: in its rehearsal, and when the process has become it. */
int drive_parent(struct session *s, unsigned updates);
/* Updates in which one system call fails, each call with each error. */
int drive_inject(struct session *s, unsigned updates);
/* The same in the parent, and in what it starts and becomes; and where the guest resumes in place. */
int drive_inject_parent(struct session *s, unsigned updates);
int drive_inject_back(struct session *s, unsigned updates);
/* With a second vCPU and a level interrupt: the calls that those add. */
int drive_inject_2(struct session *s, unsigned updates);
int drive_inject_disk(struct session *s, unsigned updates);
int drive_inject_run(struct session *s, unsigned updates);
/* The successor is given other descriptors, or another state. */
int drive_state(struct session *s, unsigned updates);
/* Resource limits lowered before an update. */
int drive_limits(struct session *s, unsigned updates);
/* Too little room in a memory cgroup. */
int drive_memory(struct session *s, unsigned updates);
/* Signals at random moments, to each process; and requests. */
int drive_kill(struct session *s, unsigned updates);
int drive_stop(struct session *s, unsigned updates);
/* The system calls in the pause are those of a table; those of the floor program. */
int drive_calls(struct session *s, unsigned updates);
int drive_calls_floor(struct session *s, unsigned updates);
/* molt-counted: how often memory is allocated in the pause. */
int drive_calls_malloc(struct session *s, unsigned updates);

/* As an ordinary user, and on when /dev/kvm cannot be opened any more. */
int drive_user(struct session *s, unsigned updates);
/* A register's contents are nowhere in molt's memory after an update. */
int drive_secrets(struct session *s, unsigned updates);
/* Threads make system calls that the sandbox forbids, after some updates. */
int drive_forbid_kill(struct session *s, unsigned updates);
int drive_forbid_log(struct session *s, unsigned updates);
int drive_forbid_off(struct session *s, unsigned updates);
/* What molt config prints starts the same machine again. */
int drive_config(struct session *s, unsigned updates);
/* CPUID's topology, and vCPUs pinned to the first processor. */
int drive_topology(struct session *s, unsigned updates);
/* Guest memory in huge pages of the host, and on a node of it. */
int drive_huge(struct session *s, unsigned updates);
int drive_node(struct session *s, unsigned updates);
/* Messages go to a file, which is rotated. */
int drive_log(struct session *s, unsigned updates);
/* The guest resets, or crashes, and is to begin anew; and with the defaults. */
int drive_reboot(struct session *s, unsigned updates);
int drive_reset(struct session *s, unsigned updates);
int drive_crash(struct session *s, unsigned updates);
int drive_crash_kept(struct session *s, unsigned updates);
/* The guest says that its kernel has panicked. */
int drive_panic(struct session *s, unsigned updates);

#endif
