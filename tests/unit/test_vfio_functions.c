/* SPDX-License-Identifier: MIT */
/* Devices of several functions: their place in the guest, and their reset where a function has none of its own. */
#include <ftw.h>
#include <sys/stat.h>

#include "devices/vfio/iommufd_uapi.h"
#include "tests/unit/fake_vfio.h"

#define FN1 "0000:00:05.1"

/* Of the host: what a bus reset would reach, and what came of it. */
static struct {
	bool has_reset; /* functions have one of their own */
	int info_error;
	uint32_t info_flags;
	uint32_t owner[2]; /* of 00:05.0 and 00:05.1: group or device number */
	unsigned bus_resets, groups;
} bus;

/* The container has calls of the same numbers. */
static long bus_ioctl(int fd, unsigned long request, void *arg)
{
	bool device = fd == vf.device || fd == vf.second;
	if (device && request == VFIO_DEVICE_GET_PCI_HOT_RESET_INFO) {
		struct vfio_pci_hot_reset_info *info = arg;
		assert_true(info->argsz >= sizeof(*info) + 2 * sizeof(info->devices[0]));
		info->flags = bus.info_flags;
		info->count = 2;
		for (unsigned i = 0; i < 2; i++)
			info->devices[i] = (struct vfio_pci_dependent_device){
				.group_id = bus.owner[i], .devfn = (uint8_t)(5 << 3 | i)};
		return -bus.info_error;
	}
	if (device && request == VFIO_DEVICE_PCI_HOT_RESET) {
		const struct vfio_pci_hot_reset *reset = arg;
		assert_int_equal(reset->argsz, sizeof(*reset) + 4 * reset->count);
		for (uint32_t i = 0; i < reset->count; i++)
			assert_int_equal(reset->group_fds[i], vf.group);
		bus.groups = reset->count;
		bus.bus_resets++;
		return 0;
	}
	long rc = fake_vfio_ioctl(fd, request, arg);
	if (request == VFIO_DEVICE_GET_INFO && !bus.has_reset)
		((struct vfio_device_info *)arg)->flags &= ~(uint32_t)VFIO_DEVICE_FLAGS_RESET;
	return rc;
}

static int setup(void **state)
{
	int rc = fake_vfio_setup(state);
	memset(&bus, 0, sizeof(bus));
	bus.owner[0] = bus.owner[1] = 7;
	fake.ioctl = bus_ioctl;
	return rc;
}

static struct machine *two_functions(const char *second)
{
	struct machine *m = vfio_machine(true);
	fake_vfio_add(m, second, FN1);
	vfio_run(m);
	return m;
}

static unsigned place(struct machine *m, const char *id)
{
	return vfio_find(m, id)->state.pci.devfn;
}

/* Through the config window, as the guest finds it. */
static uint32_t config_at(struct machine *m, unsigned devfn, unsigned off, unsigned len)
{
	return (uint32_t)guest_read(&m->mmio, FAKE_ECAM + (devfn << 12) + off, len);
}

static void in_one_slot(void **state)
{
	struct machine *m = two_functions(FN1);
	assert_int_equal(place(m, BDF), 1 << 3);
	assert_int_equal(place(m, FN1), 1 << 3 | 1);
	assert_int_equal(config_at(m, 1 << 3 | 1, PCI_VENDOR_ID, 4), 0x10d38086);
	assert_int_equal(config_at(m, 1 << 3 | 2, PCI_VENDOR_ID, 4), 0xffffffff);
	/* More functions are there: each of them says so. */
	assert_int_equal(config_at(m, 1 << 3, PCI_HEADER_TYPE, 1), 0x80);
	assert_int_equal(config_at(m, 1 << 3 | 1, PCI_HEADER_TYPE, 1), 0x80);
	/* BARs in other places. */
	assert_int_not_equal(pci_bar_addr(&vfio_find(m, BDF)->pci, 0),
			     pci_bar_addr(&vfio_find(m, FN1)->pci, 0));
	vfio_machine_free(m);

	/* What comes next gets the next slot. */
	m = fake_machine(true);
	assert_int_equal(machine_add_device(m, &vfio_class, BDF, NULL), 0);
	assert_int_equal(machine_add_device(m, &vfio_class, FN1, NULL), 0);
	assert_int_equal(machine_add_device(m, &vfio_class, BDF_SECOND, NULL), 0);
	assert_int_equal(place(m, BDF_SECOND), 2 << 3);
	fake_destroy(m);
}

static void in_slots_of_their_own(void **state)
{
	struct machine *m = two_functions(FN1 ",slot=own");
	assert_int_equal(place(m, FN1), 2 << 3);
	assert_int_equal(config_at(m, 1 << 3, PCI_HEADER_TYPE, 1), 0);
	vfio_machine_free(m);

	/* Function 0 has to be there first. */
	m = fake_machine(true);
	assert_int_equal(machine_add_device(m, &vfio_class, FN1, NULL), 0);
	assert_int_equal(machine_add_device(m, &vfio_class, BDF, NULL), 0);
	assert_int_equal(place(m, FN1), 1 << 3);
	assert_int_equal(place(m, BDF), 2 << 3);
	fake_destroy(m);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

/* Virtual functions have numbers like functions of one device, and are none. */
static void virtual_functions(void **state)
{
	const struct vfio_host host = vfio_host;
	char root[] = "/tmp/molt-functions.XXXXXX", path[128];
	static const char *const below[] = {"bus", "bus/pci", "bus/pci/devices",
					    "bus/pci/devices/" FN1,
					    "bus/pci/devices/" FN1 "/physfn"};
	assert_non_null(mkdtemp(root));
	for (unsigned i = 0; i < ARRAY_LEN(below); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, below[i]);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	vfio_host.sys = root;
	struct machine *m = two_functions(FN1);
	assert_int_equal(place(m, FN1), 2 << 3);
	vfio_machine_free(m);
	vfio_host = host;
	nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* The guest finds devices where it found them before, wherever this program would put them. */
static void place_is_state(void **state)
{
	struct error err = {0};
	struct machine *m = two_functions(FN1);
	irq_detach_all(&m->irq, NULL);
	struct fake_blob blob = fake_save(m);
	struct machine *next = vfio_machine(false);
	fake_vfio_add(next, FN1 ",slot=own", FN1);
	assert_int_equal(place(next, FN1), 2 << 3);
	if (fake_load(next, &blob, &err))
		fail_msg("%s", err.text);
	assert_int_equal(place(next, FN1), 1 << 3 | 1);
	assert_int_equal(config_at(next, 1 << 3 | 1, PCI_HEADER_TYPE, 1), 0x80);
	assert_int_equal(config_at(next, 2 << 3, PCI_HEADER_TYPE, 1), 0xff);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

static void bus_is_reset_once(void **state)
{
	struct machine *m = two_functions(FN1);
	assert_int_equal(bus.bus_resets, 1);
	assert_int_equal(bus.groups, 1);
	assert_int_equal(vf.resets, 0);
	vfio_machine_free(m);
}

static void own_reset_comes_first(void **state)
{
	bus.has_reset = true;
	vfio_machine_free(two_functions(FN1));
	assert_int_equal(vf.resets, 2);
	assert_int_equal(bus.bus_resets, 0);
}

/* Why there is no bus reset: each starts as it was left, and the guest starts. */
static void refused(const char *second, const char *reason, const char *hint)
{
	struct error err = {0};
	struct machine *m = two_functions(second);
	assert_int_equal(bus.bus_resets, 0);
	assert_true(vfio_hot_reset(vfio_of(m), &err) < 0);
	assert_non_null(strstr(err.text, reason));
	assert_non_null(strstr(err.hint, hint));
	vfio_machine_free(m);
	fake_vfio_teardown(NULL);
	setup(NULL);
}

static void others_are_left_alone(void **state)
{
	refused(FN1 ",noreset", FN1 " too, which has noreset", "");
	bus.owner[1] = 8;
	refused(FN1, FN1 " too, which is not the guest's", "--vfio " FN1);
	bus.info_error = ENODEV;
	refused(FN1, "on no bus that can be reset", "");
}

/* The kernel says what is ours, and is given no groups. */
static void by_iommufd(void **state)
{
	struct error err = {0};
	struct machine *m = two_functions(FN1);
	container_of(m)->iommu = &vfio_iommufd;
	bus.bus_resets = 0;
	bus.groups = ~0u;
	bus.owner[0] = 3;
	bus.owner[1] = ~0u;
	assert_int_equal(vfio_hot_reset(vfio_of(m), &err), -EPERM);
	assert_int_equal(bus.bus_resets, 0);
	bus.owner[1] = 0; /* of a group of ours */
	assert_int_equal(vfio_hot_reset(vfio_of(m), &err), 0);
	assert_int_equal(bus.groups, 0);
	container_of(m)->iommu = &vfio_type1;
	vfio_machine_free(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fake_vfio_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(in_one_slot),	     TEST(in_slots_of_their_own),
		TEST(virtual_functions),     TEST(place_is_state),
		TEST(bus_is_reset_once),     TEST(own_reset_comes_first),
		TEST(others_are_left_alone), TEST(by_iommufd),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
