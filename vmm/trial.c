/* SPDX-License-Identifier: MIT */
#include "vmm/trial.h"

#include <limits.h>
#include <stdbool.h>

#include "vmm/arch.h"
#include "vmm/base/reasons.h"
#include "vmm/console.h"
#include "vmm/machine.h"

/* Notes a failure. Returns whether there was none. */
static bool good(struct reasons *reasons, int rc, const struct error *err)
{
	if (rc)
		reasons_add_error(reasons, err);
	return !rc;
}

/* Nothing in a trial may reach a descriptor: their numbers are those of another process. */
static void blind(struct fdset *fds)
{
	for (unsigned i = 0; i < fds->n; i++)
		fds->e[i].fd = INT_MAX;
}

static void try_host(struct machine *m, struct reasons *reasons)
{
	struct error err;
	for (unsigned i = 0; i < vm_needs_len; i++)
		good(reasons, vm_need(m->vm.kvm_fd, i, &err), &err);
}

static bool try_vm(struct machine *m, struct state_blob *blob, struct reasons *reasons)
{
	struct state_section s = {.node = "ram", .cls = &ram_state_class, .state = &m->ram.state};
	struct error err;
	int rc = state_register(&m->tree, &s, &err);
	if (!rc)
		rc = state_load_section(blob, &s, &err);
	if (!rc)
		rc = ram_pretend(&m->ram, &err);
	if (!rc)
		rc = machine_create_vm(m, &err);
	return good(reasons, rc, &err);
}

/* Registers a section per device. Returns false when not all are there, so that nodes nobody knows mean
 * nothing. */
static bool try_devices(struct machine *m, struct reasons *reasons)
{
	struct error err;
	bool all = good(reasons, console_pretend(m, m->opt.console, &m->console, &err), &err);
	all = good(reasons, machine_create_devices(m, &err), &err) && all;
	for (unsigned i = 0; m->console && i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		int (*step)(struct device *, struct error *) =
			dev->cls->pretend ? dev->cls->pretend : dev->cls->realize;
		all = good(reasons, step ? step(dev, &err) : 0, &err) && all;
	}
	return all;
}

/* Loads what was registered. Returns whether that of the sections [first, end) is loaded. */
static bool try_state(struct machine *m, struct state_blob *blob, bool complete, unsigned first,
		      unsigned end, struct reasons *reasons)
{
	struct error err;
	bool loaded = true;
	for (unsigned i = 0; i < m->tree.n; i++) {
		const struct state_section *s = &m->tree.sections[i];
		if (!state_claimed(blob, s->node) &&
		    !good(reasons, state_load_section(blob, s, &err), &err) && i >= first &&
		    i < end)
			loaded = false;
	}
	for (unsigned at = 0; complete && state_unclaimed(blob, &at, &err);)
		reasons_add_error(reasons, &err);
	return loaded;
}

static void try_vcpus(struct machine *m, struct reasons *reasons)
{
	struct error err;
	int rc = arch_create_irqchip(m, &err);
	if (!rc)
		rc = arch_create_timers(m, &err);
	if (!rc)
		rc = vcpus_try(m, &err);
	if (!rc)
		rc = irq_routes_commit(&m->irq, &err);
	if (!rc)
		rc = arch_load(m, &err);
	good(reasons, rc, &err);
}

void trial_run(struct machine *m, struct state_blob *blob, struct reasons *reasons)
{
	struct error err;
	m->fresh = false;
	irq_init(&m->irq, &m->vm);
	blind(&m->fds);
	try_host(m, reasons);
	bool vm = try_vm(m, blob, reasons);
	unsigned first = m->tree.n;
	if (vm)
		vm = good(reasons, arch_init(m, &err), &err) &&
		     good(reasons, vcpus_init(m, &err), &err);
	unsigned end = m->tree.n;
	/* Without a VM there is no list of the vCPUs' nodes, and where the PCI windows are is the
	 * architecture's to say. */
	bool complete = vm && try_devices(m, reasons);
	if (try_state(m, blob, complete, first, end, reasons) && vm)
		try_vcpus(m, reasons);
}
