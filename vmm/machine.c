/* SPDX-License-Identifier: MIT */
/* The order in which a machine is built, loaded, started and destroyed. */
#include "vmm/machine.h"

#include <signal.h>

#include "vmm/arch.h"
#include "vmm/console/console.h"
#include "vmm/console/terminal.h"
#include "vmm/poison.h"

struct device *machine_device(struct machine *m, const char *class_name, struct device *after)
{
	bool seen = !after;
	for (unsigned i = 0; i < m->ndevices; i++) {
		if (seen && !strcmp(m->devices[i]->cls->name, class_name))
			return m->devices[i];
		seen = seen || m->devices[i] == after;
	}
	return NULL;
}

/* How the machine ends: stop_code, stop_reason, paused.code. */
static pthread_mutex_t end_lock = PTHREAD_MUTEX_INITIALIZER;

static void stop(struct machine *m, int code, const char *reason, bool outside)
{
	pthread_mutex_lock(&end_lock);
	bool counts =
		outside ? m->stop_code < 0 || !m->ending : m->stop_code < 0 && !m->paused.code;
	m->ending |= outside;
	if (counts) {
		snprintf(m->stop_reason, sizeof(m->stop_reason), "%s", reason);
		__atomic_store_n(&m->stop_code, code, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&end_lock);
	if (counts)
		pthread_kill(m->leader, MACHINE_WAKE_SIGNAL);
}

void machine_stop(struct machine *m, int code, const char *reason)
{
	stop(m, code, reason, false);
}

void machine_end(struct machine *m, int code, const char *reason)
{
	stop(m, code, reason, true);
}

bool machine_keep(struct machine *m)
{
	pthread_mutex_lock(&end_lock);
	bool kept = !m->ending;
	if (kept) {
		m->paused.code = (uint8_t)m->stop_code;
		snprintf(m->paused.reason, sizeof(m->paused.reason), "%.126s", m->stop_reason);
		__atomic_store_n(&m->stop_code, -1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&end_lock);
	return kept;
}

void machine_access(struct machine *m, struct bus *bus, uint64_t addr, struct bus_access *access)
{
	pthread_mutex_lock(&m->lock);
	bus_dispatch(bus, addr, access);
	pthread_mutex_unlock(&m->lock);
}

int machine_add_device(struct machine *m, const struct device_class *cls, const char *arg,
		       struct error *err)
{
	struct device *dev;
	if (m->ndevices == MACHINE_MAX_DEVICES)
		return error_set(err, ENOSPC, "more than %d devices", MACHINE_MAX_DEVICES);
	int rc = device_create(cls, m, arg, &dev, err);
	if (rc)
		return rc;
	if (m->ndevices == MACHINE_MAX_DEVICES)
		return error_set(err, ENOSPC, "more than %d devices", MACHINE_MAX_DEVICES);
	m->devices[m->ndevices++] = dev;
	return 0;
}

/* Guest memory: the file and its mapping. */
static int build_ram(struct machine *m, struct state_blob *blob, struct error *err)
{
	struct state_section s = {.node = "ram", .cls = &ram_state_class, .state = &m->ram.state};
	int rc = state_register(&m->tree, &s, err);
	if (!rc && blob)
		rc = state_load_section(blob, &s, err);
	if (!rc)
		rc = blob ? ram_adopt(&m->ram, &m->fds, err)
			  : ram_create(&m->ram, &m->opt.mem, &m->fds, err);
	if (!rc)
		rc = ram_map(&m->ram, err);
	if (!rc && !blob)
		ram_clear(&m->ram);
	if (!rc && !blob && m->opt.mem.collapse)
		rc = ram_collapse(&m->ram, err);
	return rc;
}

int machine_create_devices(struct machine *m, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && devices_fixed[i]; i++)
		rc = machine_add_device(m, devices_fixed[i], NULL, err);
	for (unsigned i = 0; !rc && i < m->opt.ndevices; i++) {
		const struct device_class *cls = devices_find(m->opt.devices[i].cls);
		rc = cls ? machine_add_device(m, cls, m->opt.devices[i].arg, err)
			 : error_set(err, EINVAL, "no device class %s", m->opt.devices[i].cls);
	}
	return rc;
}

/* Runs one optional step of every device's life, in order; the first failure ends it. */
#define STEP(name) offsetof(struct device_class, name)

static int each_device(struct machine *m, size_t step, struct error *err)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		int (*run)(struct device * dev, struct error * err);
		memcpy(&run, (const char *)m->devices[i]->cls + step, sizeof(run));
		int rc = run ? run(m->devices[i], err) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

static int realize_devices(struct machine *m, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < m->ndevices; i++)
		rc = device_realize(m->devices[i], err);
	return rc;
}

static int create_vm(struct machine *m, struct error *err)
{
	const struct ram_state *r = &m->ram.state;
	int rc = vm_create(&m->vm, err);
	for (uint32_t i = 0; !rc && i < r->nregions; i++)
		rc = vm_slot_add(&m->vm, r->gpa[i], r->len[i], m->ram.hva + r->offset[i], false,
				 err);
	return rc;
}

int machine_load_devices(struct machine *m, struct state_blob *blob, struct error *err)
{
	struct ram_state ram = m->ram.state;
	irq_load_begin(&m->irq);
	int rc = state_load(blob, &m->tree, err);
	if (!rc && memcmp(&ram, &m->ram.state, sizeof(ram)))
		rc = error_set(err, EBADMSG, "state ram: not the memory that was offered");
	return rc ? rc : each_device(m, STEP(loaded), err);
}

int machine_build(struct machine *m, struct state_blob *blob, struct error *err)
{
	m->fresh = !blob;
	irq_init(&m->irq, &m->vm);
	int rc = seccomp_init(m->opt.sandbox, err)
			 ?: loop_init(&m->loop, "molt-loop", SECCOMP_LOOP, &m->lock, err)
			 ?: vm_open(&m->vm, &m->fds, err)
			 ?: paused_register(m, err)
			 ?: counters_register(m, err)
			 ?: build_ram(m, blob, err)
			 ?: console_open(m, m->opt.console, &m->console, err)
			 ?: create_vm(m, err)
			 ?: arch_init(m, err)
			 ?: machine_create_devices(m, err)
			 ?: each_device(m, STEP(open), err)
			 ?: realize_devices(m, err)
			 ?: vcpus_init(m, err)
			 ?: vcpus_spawn(m, err);
	if (!rc)
		rc = blob ? machine_load_devices(m, blob, err) : each_device(m, STEP(reset), err);
	poison_watch(m);
	/* Last: once they exist each new memory slot waits for a grace period (docs/kernel-facts.md). */
	if (!rc)
		rc = arch_create_irqchip(m, err);
	/* vCPUs that are taken over are created from here on, on their own threads. */
	if (!rc && blob)
		vcpus_start(m);
	if (rc || blob)
		return rc;
	/* Saved once for the first update's offer, as each vCPU is when it is created. */
	return arch_create_timers(m, err)
		       ?: vcpus_create(m, err) ?: arch_boot(m, err) ?: arch_save(m, err);
}

int machine_join(struct machine *m, struct error *err)
{
	return arch_create_timers(m, err)
			 ?: vcpus_wait_loaded(m, err)
			 ?: each_device(m, STEP(join), err);
}

/* vCPUs at the same time, and routes; then interrupt controllers, which inject into the vCPUs' local APICs. */
static int load_cpus(struct machine *m, struct error *err)
{
	int rc = arch_warm_follow(m, err);
	if (rc)
		return rc;
	vcpus_load(m);
	rc = irq_routes_commit(&m->irq, err);
	int loaded = vcpus_wait_loaded(m, rc ? NULL : err);
	return rc ? rc : loaded;
}

int machine_rehearse(struct machine *m, struct error *err)
{
	int rc = load_cpus(m, err) ?: arch_rehearse(m, err);
	m->rehearsed = !rc;
	return rc;
}

int machine_spawn(struct machine *m, struct error *err)
{
	return each_device(m, STEP(spawn), err);
}

int machine_load_cpus(struct machine *m, struct error *err)
{
	return load_cpus(m, err) ?: arch_load(m, err);
}

/* There is no way back any more: what fails is told, and tried again where that may help. */
int machine_take(struct machine *m, struct error *err)
{
	struct error first;
	int rc = machine_settle(m, &first);
	int started = machine_start(m, err);
	if (!started && rc)
		*err = first;
	return started ? started : rc;
}

int machine_settle(struct machine *m, struct error *err)
{
	int rc = each_device(m, STEP(take), err);
	m->unsettled = rc != 0;
	return rc;
}

int machine_inherit(struct machine *m, struct error *err)
{
	return each_device(m, STEP(inherit), err);
}

int machine_start(struct machine *m, struct error *err)
{
	struct error routes;
	pthread_mutex_lock(&m->lock);
	int rc = each_device(m, STEP(start), err);
	if (irq_routes_commit(&m->irq, rc ? &routes : err))
		rc = rc ?: -err->code;
	/* A guest that was taken over runs all the same: nobody else could run it. */
	bool runs = !rc || !m->fresh;
	if (runs)
		irq_attach_all(&m->irq, IRQ_MSI);
	pthread_mutex_unlock(&m->lock);
	if (runs)
		vcpus_go(m);
	return rc;
}

int machine_serve(struct machine *m, struct error *err)
{
	int rc = console_start(m->console, err);
	pthread_mutex_lock(&m->lock);
	rc = rc ?: each_device(m, STEP(serve), err);
	pthread_mutex_unlock(&m->lock);
	return rc ?: loop_start(&m->loop, err);
}

/* All devices are asked, even after one was busy, so that they get quiet at the same time. */
int machine_quiesce(struct machine *m, struct error *err)
{
	int first = 0;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		int rc = dev->cls->quiesce ? dev->cls->quiesce(dev, first ? NULL : err) : 0;
		first = first ? first : rc;
	}
	pthread_mutex_unlock(&m->lock);
	return first;
}

int machine_still(struct machine *m, struct error *err)
{
	pthread_mutex_lock(&m->lock);
	int rc = each_device(m, STEP(still), err);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

void machine_resume(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->devices[i]->cls->resume)
			m->devices[i]->cls->resume(m->devices[i]);
	pthread_mutex_unlock(&m->lock);
}

int machine_halt(struct machine *m, struct error *err)
{
	int rc = 0;
	vcpus_stop(m);
	if (m->loop.running)
		loop_park(&m->loop);
	while (m->ndevices) {
		struct device *dev = m->devices[--m->ndevices];
		if (device_destroy(dev))
			continue;
		rc = error_set(err, EBUSY, "%s: what it has in flight does not end", dev->name);
		error_hint(err, "see why the host's storage does not answer");
	}
	return rc;
}

void machine_destroy(struct machine *m)
{
	struct error err;
	if (machine_halt(m, &err))
		log_error(&err);
	if (m->console)
		console_close(m->console);
	terminal_restore();
}
