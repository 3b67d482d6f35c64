/* SPDX-License-Identifier: MIT */
/*
 * A whole machine without KVM and VFIO (tests/unit/fake_vfio.h) for the fuzz targets: paused guests
 * to take over from, the taking over in the order of cpr/handover/successor.c and vmm/machine.c, and a
 * guest that does what the input says. Link with --wrap=fstat.
 */
#ifndef MOLT_FUZZ_MACHINE_H
#define MOLT_FUZZ_MACHINE_H

#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "cpr/program.h"
#include "devices/pc/pc.h"
#include "tests/unit/fake_vfio.h"
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/pool.h"
#include "vmm/console/console.h"

#define FUZZ_DEVICE BDF ",unbind=eject"
#define MAX_FDS	    64
#define MAX_OPS	    64
#define MAX_UPDATES 3 /* of one input: each builds a machine */

/* ---- the kernel's side ---- */

static struct program fuzz_program;
static bool
	fuzz_adopting; /* descriptors outside fuzz_known are the fuzzer's own: closed, as to molt */
static int fuzz_known[MAX_FDS];
static unsigned fuzz_nknown;

int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);

/* Identities that are the same in every run and for a descriptor's copy. */
int __wrap_fstat(int fd, struct stat *st)
{
	bool known = !fuzz_adopting;
	for (unsigned i = 0; !known && i < fuzz_nknown; i++)
		known = fuzz_known[i] == fd;
	if (!known) {
		errno = EBADF;
		return -1;
	}
	int rc = __real_fstat(fd, st);
	st->st_dev = 13;
	st->st_ino = (ino_t)fd;
	st->st_rdev = 0;
	return rc;
}

int vm_has(const struct vm *vm, unsigned cap)
{
	return 0;
}

void machine_stop(struct machine *m, int code, const char *reason)
{
	fuzz_expect(reason && *reason, "the machine is stopped without a reason");
	m->stop_code = code;
}

void machine_end(struct machine *m, int code, const char *reason)
{
	fuzz_expect(reason && *reason, "the machine is stopped without a reason");
	m->stop_code = code;
}

void machine_access(struct machine *m, struct bus *bus, uint64_t addr, struct bus_access *access)
{
	bus_dispatch(bus, addr, access);
}

/* The fakes of the unit tests take a wrong request for a fault of molt; here it may be the blob's,
 * which gives descriptors wrong names, and gets an error as from the kernel. */
static long fuzz_ioctl(int fd, unsigned long request, void *arg)
{
	const struct vfio_irq_set *set = arg;
	const struct kvm_device_attr *attr = arg;
	const struct kvm_msrs *msrs = arg;
	switch (request) {
	case VFIO_DEVICE_GET_INFO:
	case VFIO_DEVICE_GET_REGION_INFO:
	case VFIO_DEVICE_GET_IRQ_INFO:
	case VFIO_DEVICE_RESET:
		return fd == vf.device ? fake_vfio_ioctl(fd, request, arg) : -ENOTTY;
	case VFIO_DEVICE_SET_IRQS:
		if (fd != vf.device)
			return -ENOTTY;
		if ((set->flags & VFIO_IRQ_SET_ACTION_UNMASK || !set->count) &&
		    set->index != vf.irq_index)
			return -EINVAL;
		return fake_vfio_ioctl(fd, request, arg);
	case VFIO_IOMMU_MAP_DMA:
	case VFIO_IOMMU_UNMAP_DMA:
	case VFIO_CHECK_EXTENSION:
		return fd == vf.container ? fake_vfio_ioctl(fd, request, arg) : -ENOTTY;
	case KVM_CREATE_DEVICE:
		return fake_vfio_ioctl(fd, request, arg);
	case KVM_SET_DEVICE_ATTR:
		if (attr->group != KVM_DEV_VFIO_GROUP)
			return 0;
		return *(int32_t *)(uintptr_t)attr->addr == vf.group
			       ? fake_vfio_ioctl(fd, request, arg)
			       : -EBADF;
	case KVM_SET_MSRS:
		return msrs->nmsrs;
	case KVM_GET_SUPPORTED_CPUID:
		((struct kvm_cpuid2 *)arg)->nent = 0;
		return 0;
	default:
		return 0;
	}
}

/* ---- a machine, fresh or taken over ---- */

static int fuzz_add(struct machine *m, const char *node, const struct state_class *cls, void *state,
		    struct state_blob *blob, struct error *err)
{
	struct state_section s = {.cls = cls, .state = state};
	snprintf(s.node, sizeof(s.node), "%s", node);
	int rc = state_register(&m->tree, &s, err);
	return !rc && blob ? state_load_section(blob, &s, err) : rc;
}

static int fuzz_arguments(struct error *err)
{
	static char *argv[PROGRAM_MAX_ARGS + 1];
	static struct options opt;
	int argc = program_argv(&fuzz_program, argv, err);
	if (argc < 2)
		return argc < 0 ? argc : error_set(err, EBADMSG, "%d arguments", argc);
	return options_parse(&opt, argc - 2, argv + 2, err);
}

static int fuzz_ram(struct machine *m, bool taken, struct error *err)
{
	if (!taken) {
		m->ram.fd = memfd_create("ram0", MFD_CLOEXEC);
		assert_int_equal(ftruncate(m->ram.fd, FAKE_RAM_LEN), 0);
		return fdset_keep(&m->fds, "ram0", m->ram.fd, err);
	}
	munmap(m->ram.hva, FAKE_RAM_LEN); /* what vfio_machine has put there */
	int rc = ram_adopt(&m->ram, &m->fds, err);
	return rc ? rc : ram_map(&m->ram, err);
}

/* Brings a machine up as machine_build does. */
static int fuzz_build(struct machine *m, struct state_blob *blob, struct error *err)
{
	static const struct {
		const struct device_class *cls;
		const char *arg;
	} more[] = {
		{&testdev_class, "trigger=0"},		/* MSI-X */
		{&testdev_class, "trigger=0,unmask=0"}, /* INTA */
		{&serial_class, NULL},
		{&cmos_class, NULL},
		{&power_class, NULL},
		{&panic_class, NULL},
	};
	const struct ram_state *r = &m->ram.state;
	m->opt.cpus = 1;
	m->leader = pthread_self(); /* SIGURG is ignored */
	int rc = fuzz_add(m, "program", &program_state_class, &fuzz_program, blob, err);
	if (!rc && blob)
		rc = fuzz_arguments(err);
	if (!rc)
		rc = fuzz_add(m, "ram", &ram_state_class, &m->ram.state, blob, err);
	if (!rc)
		rc = fuzz_ram(m, blob, err);
	if (!rc)
		rc = console_open(m, "none", &m->console, err);
	for (uint32_t i = 0; !rc && i < r->nregions; i++)
		rc = vm_slot_add(&m->vm, r->gpa[i], r->len[i], m->ram.hva + r->offset[i], false,
				 err);
	if (!rc)
		rc = arch_init(m, err);
	if (!rc)
		rc = vcpus_init(m, err);
	for (unsigned i = 0; !rc && i < ARRAY_LEN(more); i++)
		rc = machine_add_device(m, more[i].cls, more[i].arg, err);
	if (!rc)
		rc = fake_realize(m, err);
	if (!rc)
		rc = blob ? fake_load_devices(m, blob, err) : fake_reset(m, err);
	return rc;
}

static void fuzz_free(struct machine *m)
{
	if (m->ram.hva)
		munmap(m->ram.hva, FAKE_RAM_LEN);
	if (m->vcpus)
		pool_free(m->vcpus[0].state);
	pool_free(m->vcpus);
	pool_free(m->arch);
	struct console *con = m->console;
	vfio_devices_free(m);
	fake_destroy(m);
	pool_free(con);
}

/* As in the pause, after the rehearsal: the state that was loaded is loaded once more. */
static void fuzz_load_again(struct machine *m, struct state_blob *blob, const void *data,
			    size_t len)
{
	struct error err = {0};
	int rc = state_open(blob, data, len, &err);
	if (!rc && state_claim(blob, "fds") >= 0)
		rc = fake_load_devices(m, blob, &err);
	fuzz_expect(!rc, "loaded, but not again: %s", err.text);
}

/* Takes the guest in @data over. The machine is the caller's, whatever *rc says. */
static struct machine *fuzz_take_over(const void *data, size_t len, int *rc, struct error *err)
{
	struct machine *m = vfio_machine_of(FUZZ_DEVICE, false);
	m->leader = pthread_self();
	struct state_blob *blob = calloc(1, sizeof(*blob));
	*err = (struct error){0};
	*rc = state_open(blob, data, len, err);
	fuzz_adopting = true;
	if (!*rc)
		*rc = fdset_list(&m->fds, blob, err);
	fuzz_adopting = false;
	if (!*rc)
		*rc = fuzz_build(m, blob, err);
	if (!*rc)
		fuzz_load_again(m, blob, data, len);
	free(blob);
	if (!*rc)
		*rc = arch_load(m, err);
	if (!*rc)
		*rc = vcpu_arch_load(&m->vcpus[0], err);
	if (!*rc)
		*rc = vfio_container_class.join(&container_of(m)->dev, err);
	if (!*rc)
		*rc = vfio_container_class.take(&container_of(m)->dev, err);
	if (!*rc)
		*rc = fake_start(m, err);
	fuzz_expect(!*rc || err->text[0], "refused without a reason");
	return m;
}

/* As the incumbent does in the pause. */
static struct fake_blob fuzz_save(struct machine *m)
{
	struct error err = {0};
	int rc = irq_detach_all(&m->irq, &err);
	fuzz_expect(!rc, "%s", err.text);
	fuzz_nknown = 0;
	for (unsigned i = 0; i < m->fds.n; i++)
		fuzz_known[fuzz_nknown++] = m->fds.e[i].fd;
	return fake_save(m);
}

/* ---- paused guests ---- */

enum { GUEST_INTX, GUEST_MSI, GUEST_MSIX, GUESTS };

static struct paused {
	struct machine *m;
	struct fake_blob blob;
	__typeof__(vf) hw;
	uint8_t config[PCI_CONFIG_LEN]; /* of the device */
	unsigned nfds;
	int fd[MAX_FDS], copy[MAX_FDS];
} paused[GUESTS];
static const struct paused *fuzz_hardware; /* that the present guest runs on */

static void fuzz_drivers(struct machine *m, unsigned kind)
{
	const unsigned command = PCI_COMMAND_MEMORY | PCI_COMMAND_IO | PCI_COMMAND_MASTER;
	config_put(m, 1, PCI_COMMAND, 2, command);
	config_put(m, 2, PCI_COMMAND, 2, command);
	config_put(m, 3, PCI_COMMAND, 2, command);
	uint64_t table = pci_bar_addr(&vfio_of(m)->pci, 0) + 0x2000;
	for (unsigned i = 0; i < 4; i++) {
		guest_write(&m->mmio, table + 16 * i, 8, 0xfee00000);
		guest_write(&m->mmio, table + 16 * i + 8, 8, 0x40 + i);
	}
	if (kind == GUEST_MSIX)
		config_put(m, 1, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	if (kind == GUEST_MSI)
		config_put(m, 1, MSI_CAP + PCI_MSI_FLAGS, 2,
			   PCI_MSI_FLAGS_ENABLE | 2 << 4 /* four vectors */);
	config_put(m, 2, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	guest_write(&m->pio, LAYOUT_SERIAL_PORT + 1, 1, 3); /* interrupts of the serial port */
}

/* What KVM would have filled in. */
static void fuzz_fill_state(struct machine *m)
{
	static const char args[] = "molt\0run\0--kernel\0k\0--console\0none\0-m\00064M";
	struct vcpu_state *s = m->vcpus[0].state;
	snprintf(fuzz_program.path, sizeof(fuzz_program.path), "/usr/bin/molt");
	memcpy(fuzz_program.args, args, sizeof(args));
	fuzz_program.args_len = sizeof(args);
	for (uint32_t i = 0; i < 3; i++)
		m->arch->state.irqchip[i].chip_id = i;
	s->cpuid_len = 3;
	s->msr_len = s->msr_data_len = 4;
	s->xsave_len = sizeof(struct kvm_xsave);
}

static void fuzz_pause(struct paused *p, unsigned kind)
{
	struct error err = {0};
	fake_vfio_setup(NULL);
	fake.ioctl = fuzz_ioctl;
	p->m = vfio_machine_of(FUZZ_DEVICE, true);
	p->m->leader = pthread_self();
	const struct {
		const char *name;
		int fd;
	} fds[] = {
		{"container0", vf.container},
		{"vfio-group:7", vf.group},
		{"vfio:" BDF, vf.device},
		{"testdev0:trigger", eventfd(0, EFD_NONBLOCK)},
		{"testdev1:trigger", eventfd(0, EFD_NONBLOCK)},
		{"testdev1:unmask", eventfd(0, EFD_NONBLOCK)},
	};
	int rc = 0;
	for (unsigned i = 0; !rc && i < ARRAY_LEN(fds); i++)
		rc = fdset_keep(&p->m->fds, fds[i].name, fds[i].fd, &err);
	if (!rc)
		rc = fuzz_build(p->m, NULL, &err);
	if (!rc)
		rc = fake_start(p->m, &err);
	fuzz_expect(!rc, "%s", err.text);
	fuzz_drivers(p->m, kind);
	fuzz_fill_state(p->m);
	p->blob = fuzz_save(p->m);
	p->hw = vf;
	assert_int_equal(pread(vf.device, p->config, sizeof(p->config), 0x10000),
			 sizeof(p->config));
	p->nfds = p->m->fds.n;
	for (unsigned i = 0; i < p->nfds; i++) {
		p->fd[i] = p->m->fds.e[i].fd;
		p->copy[i] = fcntl(p->fd[i], F_DUPFD_CLOEXEC, 512);
	}
}

/* Makes the kernel's side as it was when guest @kind was paused. */
static struct paused *fuzz_paused(unsigned kind)
{
	struct paused *p = &paused[kind % GUESTS];
	fuzz_hardware = p;
	if (!p->m)
		for (unsigned i = 0; i < GUESTS; i++)
			fuzz_pause(&paused[i], i);
	vf = p->hw;
	memset(&fake, 0, sizeof(fake));
	fake.ioctl = fuzz_ioctl;
	fuzz_nknown = p->nfds;
	for (unsigned i = 0; i < p->nfds; i++) {
		fuzz_known[i] = p->fd[i];
		dup2(p->copy[i], p->fd[i]);
	}
	assert_int_equal(pwrite(vf.device, p->config, sizeof(p->config), 0x10000),
			 sizeof(p->config));
	fuzz_log.guest = false;
	return p;
}

/* Most of config space is read-only in hardware, unlike in a memfd; COMMAND and the power state are
 * what an update finds as the guest has left them. */
static void fuzz_hardware_keep(void)
{
	uint32_t command = hw_config(PCI_COMMAND, 2), power = hw_config(PM_CAP + PCI_PM_CTRL, 2);
	assert_int_equal(pwrite(vf.device, fuzz_hardware->config, PCI_CONFIG_LEN, 0x10000),
			 PCI_CONFIG_LEN);
	config_le(PCI_COMMAND, command, 2);
	config_le(PM_CAP + PCI_PM_CTRL, power, 2);
}

/* Closes what the guest of @m made molt open since it was paused as @p, then the machine ends. */
static void fuzz_end(struct machine *m, const struct paused *p)
{
	fuzz_log.guest = false;
	for (unsigned i = 0; i < m->fds.n; i++) {
		unsigned k = 0;
		while (k < p->nfds && p->fd[k] != m->fds.e[i].fd)
			k++;
		if (k == p->nfds)
			close(m->fds.e[i].fd);
	}
	fuzz_free(m);
}

/* ---- the guest ---- */

struct area {
	bool pio;
	uint64_t base;
	uint32_t len;
};

static unsigned fuzz_areas(struct machine *m, struct area *out)
{
	static const struct area fixed[] = {
		{false, FAKE_ECAM, 4 << 15},
		{false, FAKE_ECAM + (1 << 15), 4096},
		{false, FAKE_ECAM + 0x8000, 64},
		{false, FAKE_ECAM + 0x8000 + PM_CAP, 8},
		{false, FAKE_ECAM + 0x8050, 32},
		{false, FAKE_ECAM + 0x80a0, 12},
		{false, FAKE_ECAM + 0x10000, 96},
		{false, FAKE_ECAM + 0x18000, 64},
		{true, 0xcf8, 8},
		{true, LAYOUT_SERIAL_PORT, 8},
		{true, LAYOUT_CMOS_PORT, 2},
		{true, LAYOUT_POWER_PORT, 16},
		{true, LAYOUT_PANIC_PORT, 1},
		{true, LAYOUT_KEYBOARD_PORT, 1},
	};
	const struct pci_host *host = (struct pci_host *)machine_device(m, "pci-host", NULL);
	unsigned n = ARRAY_LEN(fixed);
	memcpy(out, fixed, sizeof(fixed));
	for (unsigned i = 1; i < host->ndevs; i++) {
		const struct pci_dev *pci = host->devs[i];
		for (unsigned bar = 0; bar < PCI_BARS; bar++)
			if (pci->bars[bar].len)
				out[n++] = (struct area){pci->bars[bar].flags & PCI_BAR_IO,
							 pci_bar_addr(pci, bar),
							 (uint32_t)pci->bars[bar].len};
	}
	/* MSI-X tables and pending bits, with what is around them. */
	const struct pci_dev *vfio = &vfio_of(m)->pci, *test = host->devs[2];
	out[n++] = (struct area){false, pci_bar_addr(vfio, 0) + 0x2000, NVEC * 16 + 16};
	out[n++] = (struct area){false, pci_bar_addr(vfio, 2) + 0x9000, 16};
	out[n++] = (struct area){false, pci_bar_addr(test, 0) + 0x7f8, 32};
	out[n++] = (struct area){false, pci_bar_addr(test, 0) + 0xbf8, 24};
	return n;
}

/* One access. KVM cuts what an instruction touches at page ends and into at most 8 bytes: memory is
 * accessed in any length up to that. */
static void fuzz_access(struct machine *m, struct input *in)
{
	struct area areas[32];
	const struct area *a = &areas[input_below(in, fuzz_areas(m, areas))];
	unsigned kind = input_u8(in);
	struct bus_access access = {.len = a->pio ? 1u << (kind & 3) % 3 : (kind & 7) + 1,
				    .write = kind & 8};
	uint64_t addr = a->base + input_below(in, a->len);
	uint64_t room = PAGE_LEN - addr % PAGE_LEN;
	if (access.len > room)
		access.len = (uint32_t)room;
	access.value = access.write ? input_num(in, access.len) : 0;
	bus_dispatch(a->pio ? &m->pio : &m->mmio, addr, &access);
}

/* What happens outside: interrupts, and a kernel that refuses. */
static void fuzz_outside(struct machine *m, struct input *in)
{
	const uint64_t one = 1;
	const struct fdset_entry *e;
	switch (input_below(in, 4)) {
	case 0:
		e = m->fds.n ? &m->fds.e[input_below(in, m->fds.n)] : NULL;
		if (e && (strstr(e->name, ":msi") || strstr(e->name, ":intx") ||
			  strstr(e->name, ":trigger")))
			assert_true(write(e->fd, &one, sizeof(one)) != 0);
		break;
	case 1:
		fake.slot_error = input_u8(in) & 1 ? ENOMEM : 0;
		break;
	case 2:
		fake.irqfd_error = input_u8(in) & 1 ? EMFILE : 0;
		break;
	case 3:
		vf.irq_room = input_below(in, NVEC + 1);
		break;
	}
}

static unsigned fuzz_slots_missing(const struct vm *from, const struct vm *in)
{
	unsigned missing = 0;
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++) {
		unsigned k = 0;
		while (from->slots[i].len && k < VM_MAX_SLOTS &&
		       (in->slots[k].gpa != from->slots[i].gpa ||
			in->slots[k].len != from->slots[i].len))
			k++;
		missing += k == VM_MAX_SLOTS;
	}
	return missing;
}

static bool fuzz_same_bus(const struct bus *a, const struct bus *b)
{
	bool same = a->n == b->n;
	for (unsigned i = 0; same && i < a->n; i++)
		same = a->regions[i].base == b->regions[i].base &&
		       a->regions[i].len == b->regions[i].len;
	return same;
}

/* An update under the guest. What a guest can bring about can be taken over, finds everything where
 * it was, and is saved as the same again. */
static struct machine *fuzz_update(struct machine *m)
{
	static struct vm vm;
	static struct bus mmio, pio;
	struct error err;
	int rc;
	fuzz_log.guest = false;
	fake.slot_error = fake.irqfd_error = 0;
	fuzz_hardware_keep();
	struct fake_blob blob = fuzz_save(m);
	vm = m->vm;
	mmio = m->mmio;
	pio = m->pio;
	fuzz_free(m);
	m = fuzz_take_over(blob.data, blob.len, &rc, &err);
	fuzz_expect(!rc, "a guest that cannot be taken over: %s", err.text);
	fuzz_expect(!fuzz_slots_missing(&vm, &m->vm) && !fuzz_slots_missing(&m->vm, &vm), "slots");
	fuzz_expect(fuzz_same_bus(&mmio, &m->mmio) && fuzz_same_bus(&pio, &m->pio), "regions");
	struct fake_blob again = fake_save(m);
	fuzz_expect(blob.len == again.len && !memcmp(blob.data, again.data, blob.len), "state");
	free(again.data);
	free(blob.data);
	return m;
}

/* Does what the rest of the input says; returns the machine that the guest is in then. */
static struct machine *fuzz_guest(struct machine *m, struct input *in)
{
	unsigned updates = 0;
	for (unsigned i = 0; in->n && i < MAX_OPS; i++) {
		fuzz_guest_acts();
		unsigned what = input_u8(in);
		if (what == 0xff && updates++ < MAX_UPDATES)
			m = fuzz_update(m);
		else if (what >= 0xe0)
			fuzz_outside(m, in);
		else
			fuzz_access(m, in);
	}
	fuzz_log.guest = false;
	return m;
}

#endif
