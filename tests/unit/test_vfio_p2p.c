/* SPDX-License-Identifier: MIT */
/* BARs that the guest's other devices reach (p2p=on), with a made-up iommufd that has a mapping only of a device that
 * decodes memory, as Linux 7.3 does. */
#include <fcntl.h>
#include <signal.h>

#include "devices/vfio/iommufd_uapi.h"
#include "tests/unit/fake_vfio.h"

#define P2P    BDF ",p2p=on"
#define SLOT   1
#define RAM_FD 77
#define MEMORY PCI_COMMAND_MEMORY

static struct {
	unsigned n; /* mappings of BARs */
	struct {
		uint64_t iova, len, off;
		unsigned bar;
	} map[16];
	struct vfio_dma_buf_request last; /* that was asked for, as this descriptor */
	int fd;
	unsigned exports;
	int no_dma_buf, map_error;
} kernel;

static long feature(struct vfio_device_feature *f)
{
	assert_int_equal(f->argsz, sizeof(*f) + sizeof(kernel.last));
	assert_int_equal(f->flags & VFIO_DEVICE_FEATURE_MASK, 11);
	assert_true(f->flags & VFIO_DEVICE_FEATURE_GET);
	if (kernel.no_dma_buf || f->flags & VFIO_DEVICE_FEATURE_PROBE)
		return -kernel.no_dma_buf;
	memcpy(&kernel.last, f->data, sizeof(kernel.last));
	assert_int_equal(kernel.last.nr_ranges, 1);
	assert_int_equal(kernel.last.flags, 0);
	assert_true(kernel.last.open_flags & O_CLOEXEC);
	assert_int_equal((kernel.last.offset | kernel.last.length) & (PAGE_LEN - 1), 0);
	kernel.exports++;
	return kernel.fd = memfd_create("dma-buf", MFD_CLOEXEC);
}

static long map_file(const struct iommufd_ioas_map_file *map)
{
	if (map->fd == RAM_FD)
		return 0;
	assert_int_equal(map->fd, kernel.fd);
	assert_int_equal(map->flags, 7);
	assert_int_equal(map->start, 0);
	assert_int_equal(map->length, kernel.last.length);
	if (kernel.map_error || !(hw_config(PCI_COMMAND, 2) & MEMORY))
		return -(kernel.map_error ?: ENODEV);
	for (unsigned i = 0; i < kernel.n; i++)
		assert_false(ranges_overlap(map->iova, map->length, kernel.map[i].iova,
					    kernel.map[i].len));
	kernel.map[kernel.n].iova = map->iova;
	kernel.map[kernel.n].len = map->length;
	kernel.map[kernel.n].off = kernel.last.offset;
	kernel.map[kernel.n++].bar = kernel.last.region_index;
	return 0;
}

static long unmap(const struct iommufd_ioas_unmap *u)
{
	for (unsigned i = 0; i < kernel.n; i++)
		if (kernel.map[i].iova == u->iova && kernel.map[i].len == u->length) {
			kernel.map[i] = kernel.map[--kernel.n];
			return 0;
		}
	fail_msg("0x%llx is not mapped", (unsigned long long)u->iova);
	return -ENOENT;
}

static long host(int fd, unsigned long request, void *arg)
{
	if (request == VFIO_DEVICE_FEATURE)
		return feature(arg);
	if (request == IOMMUFD_IOAS_MAP_FILE)
		return map_file(arg);
	if (request == IOMMUFD_IOAS_UNMAP)
		return unmap(arg);
	if (request == IOMMUFD_IOAS_CHANGE_PROCESS)
		return kernel.n ? -EINVAL : 0;
	if (request == IOMMUFD_IOAS_IOVA_RANGES)
		return -ENOTTY;
	if (request == KVM_SET_DEVICE_ATTR)
		return 0;
	return fake_vfio_ioctl(fd, request, arg);
}

static int setup(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	kernel.fd = -1;
	fake_vfio_setup(state);
	fake.ioctl = host;
	signal(MACHINE_WAKE_SIGNAL, SIG_IGN);
	vfio_host = (struct vfio_host){"/nonexistent", "/proc", "/nonexistent"};
	return 0;
}

static struct machine *running(const char *arg)
{
	struct machine *m = vfio_machine_of(arg, true);
	struct error err = {0};
	m->ram.fd = RAM_FD;
	m->leader = pthread_self();
	assert_int_equal(fdset_keep(&m->fds, "iommufd0", vf.container, &err), 0);
	assert_int_equal(fdset_keep(&m->fds, "vfio:" BDF, vf.device, &err), 0);
	if (fake_realize(m, &err) || fake_reset(m, &err) || fake_start(m, &err))
		fail_msg("%s", err.text);
	return m;
}

static void reached(struct machine *m, unsigned bar, uint64_t off, uint64_t len)
{
	uint64_t addr = pci_bar_addr(&vfio_of(m)->pci, bar);
	for (unsigned i = 0; i < kernel.n; i++)
		if (kernel.map[i].iova == addr + off && kernel.map[i].len == len) {
			assert_int_equal(kernel.map[i].bar, bar);
			assert_int_equal(kernel.map[i].off, off);
			return;
		}
	fail_msg("BAR %u at 0x%lx is not reached", bar, off);
}

/* What is mapped into the guest and no more: neither the MSI-X table nor the pending bits. */
static void all_reached(struct machine *m)
{
	reached(m, 0, 0, 0x2000);
	reached(m, 0, 0x3000, 0x1000);
	reached(m, 2, 0x1000, 0x2000);
	reached(m, 2, 0x8000, 0x1000);
	reached(m, 2, 0xa000, 0x6000);
	assert_int_equal(kernel.n, 5);
}

/* At the guest's addresses as long as the device decodes; no dma-buf's descriptor is left. */
static void reached_where_the_guest_has_them(void **state)
{
	struct machine *m = running(P2P);
	assert_int_equal(kernel.n, 0);
	config_put(m, SLOT, PCI_COMMAND, 2, MEMORY);
	all_reached(m);
	assert_int_equal(fcntl(kernel.fd, F_GETFD), -1);
	config_put(m, SLOT, PCI_COMMAND, 2, 0);
	assert_int_equal(kernel.n, 0);
	config_put(m, SLOT, PCI_COMMAND, 2, MEMORY);
	all_reached(m);
	config_put(m, SLOT, PCI_BASE_ADDRESS_0, 4, FAKE_MMIO32 + 128 * MIB);
	all_reached(m);
	config_put(m, SLOT, PM_CAP + PCI_PM_CTRL, 2, 3);
	assert_int_equal(kernel.n, 0);
	config_put(m, SLOT, PM_CAP + PCI_PM_CTRL, 2, 0);
	all_reached(m);
	vfio_machine_free(m);
}

/* The guest's driver resets the function, which the kernel ends the mappings for. */
static void mapped_anew_after_a_reset(void **state)
{
	struct machine *m = running(P2P);
	config_put(m, SLOT, PCI_COMMAND, 2, MEMORY);
	config_put(m, SLOT, EXP_CAP + PCI_EXP_DEVCTL, 2, 0x2810);
	assert_int_equal(kernel.exports, 5);
	config_put(m, SLOT, EXP_CAP + PCI_EXP_DEVCTL, 2, 0xa810);
	assert_int_equal(kernel.exports, 10);
	config_put(m, SLOT, EXP_CAP + PCI_EXP_DEVCTL + 1, 1, 0x80);
	assert_int_equal(kernel.exports, 15);
	all_reached(m);
	config_put(m, SLOT, PCI_COMMAND, 2, 0);
	config_put(m, SLOT, EXP_CAP + PCI_EXP_DEVCTL, 4, 0x8000);
	assert_int_equal(kernel.exports, 15);
	vfio_machine_free(m);
}

/* The processors have the BAR all the same; the operator is told, once in status. */
static void kernel_refuses(void **state)
{
	struct machine *m = running(P2P);
	kernel.map_error = EADDRINUSE;
	config_put(m, SLOT, PCI_COMMAND, 2, MEMORY);
	assert_int_equal(kernel.n, 0);
	assert_non_null(strstr(vfio_of(m)->dev.trouble, "p2p=on"));
	assert_true(vfio_of(m)->dev.told);
	assert_true(vfio_of(m)->pci.bars[0].mapped);
	kernel.map_error = 0;
	config_put(m, SLOT, PCI_COMMAND, 2, 0);
	config_put(m, SLOT, PCI_COMMAND, 2, MEMORY);
	all_reached(m);
	vfio_machine_free(m);
}

/* Whether a BAR is mapped just now or not. */
static void not_updated(void **state)
{
	struct error err = {0};
	struct machine *m = running(P2P);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vfio_class.check(&vfio_of(m)->dev, &err), -ENOTSUP);
		assert_non_null(strstr(err.text, "p2p=on"));
		assert_int_equal(err.exit, EXIT_REFUSED);
		assert_int_equal(vfio_container_class.check(&container_of(m)->dev, &err), 0);
		config_put(m, SLOT, PCI_COMMAND, 2, MEMORY);
	}
	/* But once it is ejected. */
	vfio_of(m)->fd = -1;
	assert_int_equal(vfio_class.check(&vfio_of(m)->dev, &err), 0);
	vfio_of(m)->fd = vf.device;
	vfio_machine_free(m);
}

static void nothing_without_it(void **state)
{
	struct error err = {0};
	struct machine *m = running(BDF ",p2p=off");
	config_put(m, SLOT, PCI_COMMAND, 2, MEMORY);
	config_put(m, SLOT, EXP_CAP + PCI_EXP_DEVCTL, 2, 0x8000);
	assert_int_equal(kernel.exports, 0);
	assert_int_equal(vfio_class.check(&vfio_of(m)->dev, &err), 0);
	vfio_machine_free(m);
}

/* Not by type1, asked for or not; nor by a kernel without dma-bufs of BARs. */
static void what_it_needs(void **state)
{
	static const char *const args[] = {P2P, P2P ",iommu=type1"};
	struct error err = {0};
	for (unsigned i = 0; i < ARRAY_LEN(args); i++) {
		struct machine *m = vfio_machine_of(args[i], true);
		assert_int_equal(fake_realize(m, &err), -ENOTSUP);
		assert_non_null(strstr(err.text, BDF ",p2p=on needs iommufd"));
		assert_int_equal(err.exit, i ? EXIT_USAGE : EXIT_HOST);
		vfio_machine_free(m);
	}
	struct machine *m = running(P2P);
	assert_int_equal(vfio_p2p_init(vfio_of(m), &err), 0);
	kernel.no_dma_buf = ENOTTY;
	assert_int_equal(vfio_p2p_init(vfio_of(m), &err), -ENOTTY);
	assert_non_null(strstr(err.hint, "CONFIG_VFIO_PCI_DMABUF"));
	vfio_machine_free(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fake_vfio_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reached_where_the_guest_has_them),
		TEST(mapped_anew_after_a_reset),
		TEST(kernel_refuses),
		TEST(not_updated),
		TEST(nothing_without_it),
		TEST(what_it_needs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
