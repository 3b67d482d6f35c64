/* SPDX-License-Identifier: MIT */
/* The machine: everything one guest consists of, and who may run when. */
#pragma once

#include <pthread.h>

#include "cpr/state/fdset.h"
#include "cpr/state/state.h"
#include "vmm/bus.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/loop.h"
#include "vmm/options.h"
#include "vmm/ram.h"
#include "vmm/gate.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define MACHINE_MAX_DEVICES 64

/* Sent to the leader: the machine shall end, or somebody asks for something. Has the same number in
 * every C library, and does nothing where it is not blocked. */
#define MACHINE_WAKE_SIGNAL SIGURG

struct arch;
struct console;
struct control;

/* What is large and mostly empty comes last: a new program touches each page within the pause. */
struct machine {
	struct fdset fds;
	struct irq irq;
	struct loop loop;
	pthread_mutex_t lock; /* the device lock: every handler and all device state */
	struct device *devices[MACHINE_MAX_DEVICES];
	unsigned ndevices;
	struct console *console;
	struct control *control; /* NULL: none */
	struct arch *arch;	 /* vmm/arch/: boot, interrupt controller, clock */
	struct vcpu *vcpus;	 /* opt.cpus of them */
	struct gate gate;
	bool fresh;	/* this program created the guest; false: took it over */
	bool unsettled; /* a device has not been told its new addresses */
	bool rehearsed; /* a successor has tried an offered state: the next one is for good */

	pthread_t leader;
	bool ending;   /* the guest was asked to power off: no updates any more */
	int stop_code; /* exit code asked for by machine_stop, -1 while running */
	char stop_reason[128];

	struct vm vm;
	struct ram ram;
	struct options opt;
	struct state_tree tree;
	struct bus mmio, pio;
};

/* Looks for the first device of that class, or the next one after @after. NULL: none. */
struct device *machine_device(struct machine *m, const char *class_name, struct device *after);

/* Asks for the end of the machine, from any thread, once: the first call wins. The leader ends the
 * program with @code; @reason goes to the log. */
void machine_stop(struct machine *m, int code, const char *reason);

/* Access from a vCPU thread to one of the two address spaces; takes the device lock. */
void machine_pio(struct machine *m, uint64_t port, struct bus_access *access);
void machine_mmio(struct machine *m, uint64_t gpa, struct bus_access *access);

/* Adds a device; for classes that bring another one along (the VFIO container). */
int machine_add_device(struct machine *m, const struct device_class *cls, const char *arg,
		       struct error *err);

/* Builds the machine that m->opt describes, in the order of vmm/device.h: a fresh one (@blob NULL) with the
 * kernel loaded and vCPUs that exist but have not run, or the one in @blob, whose descriptors m->fds has
 * been received, with threads that create their vCPUs (machine_rehearse). On failure the program ends: nothing is
 * torn down. */
int machine_build(struct machine *m, struct state_blob *blob, struct error *err);

/* On the last vCPU to park: takes all irqfds off, so that nothing reaches an interrupt controller while it
 * is read. */
int machine_quiesce(struct machine *m, struct error *err);

/* A successor, after machine_build: waits until its vCPUs are made, and ties the devices to the VM; then (between the
 * two is the time to warm it) tries the rest of the offered state. */
int machine_join(struct machine *m, struct error *err);
int machine_rehearse(struct machine *m, struct error *err);

/* In the pause: the state for good, first of all devices, then of vCPUs and interrupt controllers. Whatever was
 * loaded before has no effect. */
int machine_load_devices(struct machine *m, struct state_blob *blob, struct error *err);
int machine_load_cpus(struct machine *m, struct error *err);

/* After commit: DMA addresses, irqfds, and the guest runs, whatever fails. machine_settle: once more what has failed
 * (m->unsettled). */
int machine_take(struct machine *m, struct error *err);
int machine_settle(struct machine *m, struct error *err);

/* Starts the guest: devices, irqfds, and last the vCPUs. A guest that was taken over runs whatever is
 * returned: what fails then is to be told only. */
int machine_start(struct machine *m, struct error *err);

/* Then what serves it from outside: console and event loop. */
int machine_serve(struct machine *m, struct error *err);

/* After the last guest instruction: vCPUs end, console is flushed, devices are destroyed. */
void machine_destroy(struct machine *m);
