/* SPDX-License-Identifier: MIT */
/* The machine: everything one guest consists of, and who may run when. */
#pragma once

#include <pthread.h>

#include "cpr/state/fdset.h"
#include "cpr/state/state.h"
#include "vmm/bus.h"
#include "vmm/counters.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/loop.h"
#include "vmm/options.h"
#include "vmm/ram.h"
#include "vmm/gate.h"
#include "vmm/paused.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define MACHINE_MAX_DEVICES 64

/* Sent to the leader: the machine shall end, or somebody asks for something. The same number in
 * every C library. */
#define MACHINE_WAKE_SIGNAL SIGURG

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
	struct state_blob
		*kept;	/* of the host's side, from the boot before this one; NULL: there is none */
	bool fresh;	/* this program created the guest; false: took it over */
	bool unsettled; /* a device's DMA addresses have not been renewed */
	bool rehearsed; /* a successor has tried an offered state: the next one is for good */
	struct paused_state paused;
	struct counters counters;

	pthread_t leader;
	/* Of the PCI bus, a bit each: where a new guest may be asked to give up what is there; and where it has. */
	uint32_t eject_slots, gone_slots;

	bool ending;   /* the guest was asked to power off: no updates any more */
	int stop_code; /* exit code asked for by machine_stop, -1 while running */
	char stop_reason[128];

	struct vm vm;
	struct ram ram;
	struct options opt;
	struct state_tree tree;
	struct bus mmio, pio;
};

struct device *machine_device(struct machine *m, const char *class_name, struct device *after);

/* Asks for the end of the machine, from any thread: the first call wins. @reason goes to the
 * log. */
void machine_stop(struct machine *m, int code, const char *reason);

/* The same on behalf of somebody outside. It wins over an end of the guest's own, after which the guest might begin
 * anew. */
void machine_end(struct machine *m, int code, const char *reason);

/* An end of the guest's own is taken back: the guest, whose vCPUs are paused, is kept as it is, and m->paused says
 * how it ended. Nothing but machine_end() counts from then on. False: somebody outside has ended it meanwhile. */
bool machine_keep(struct machine *m);

/* Access from a vCPU thread to one of the two address spaces; takes the device lock. */
void machine_access(struct machine *m, struct bus *bus, uint64_t addr, struct bus_access *access);

/* Adds a device; for classes that bring another one along (the VFIO container). */
int machine_add_device(struct machine *m, const struct device_class *cls, const char *arg,
		       struct error *err);

/* Those that every machine has, and those of m->opt; none is opened yet. */
int machine_create_devices(struct machine *m, struct error *err);

/* Builds the machine that m->opt describes, in the order of vmm/device.h: a fresh one (@blob NULL),
 * or the one in @blob, whose threads then create their vCPUs. On failure the program ends: nothing
 * is torn down. */
int machine_build(struct machine *m, struct state_blob *blob, struct error *err);

/* A successor: waits until its vCPUs are made, and ties the devices to the VM; then, when it was
 * warmed, tries the rest of the offered state. */
int machine_join(struct machine *m, struct error *err);
int machine_rehearse(struct machine *m, struct error *err);

/* Devices' own threads, which wait until machine_serve. */
int machine_spawn(struct machine *m, struct error *err);

/* In the pause: the state for good, whatever was loaded before. */
int machine_load_devices(struct machine *m, struct state_blob *blob, struct error *err);
int machine_load_cpus(struct machine *m, struct error *err);

/* After commit: DMA addresses, irqfds, and the guest runs, whatever fails. settle: tries again what has failed. */
int machine_take(struct machine *m, struct error *err);
int machine_settle(struct machine *m, struct error *err);

/* What the former worker has had alone, after its end, or before. -EBUSY: something is not free yet. */
int machine_inherit(struct machine *m, struct error *err);

/* Devices, irqfds (those of lines are left to the caller, once the guest runs), and last the vCPUs. A guest that was
 * taken over runs whatever is returned. */
int machine_start(struct machine *m, struct error *err);

/* Then what serves it from outside: console, devices, event loop. */
int machine_serve(struct machine *m, struct error *err);

/* quiesce: before the pause, while the guest runs, devices take on nothing new. -EBUSY: one of them has something
 * under way, and wakes the leader when it has not. still: in the pause, what works for devices outside of this
 * process's threads (vhost) has stopped. resume: the update does not happen. */
int machine_quiesce(struct machine *m, struct error *err);
int machine_still(struct machine *m, struct error *err);
void machine_resume(struct machine *m);

/* After the last guest instruction: vCPUs and event loop end, devices are destroyed. May be called again. -EBUSY:
 * what a device has under way does not end, so guest memory and descriptors must stay until the process ends. */
int machine_halt(struct machine *m, struct error *err);

/* machine_halt, and the console's end. */
void machine_destroy(struct machine *m);
