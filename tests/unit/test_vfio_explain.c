/* SPDX-License-Identifier: MIT */
/* What molt says about an unfit host, on a made-up one. */
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/unit/fake_machine.h"

#include "devices/vfio/vfio.h"

#define BDF "0000:00:05.0"

static char root[64], sys_dir[80], proc_dir[80], dev_dir[80];
static __attribute__((constructor)) void elsewhere(void)
{
	vfio_host = (struct vfio_host){sys_dir, proc_dir, dev_dir};
}

static void make_dir(const char *path)
{
	char full[256], *p;
	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (p = full + strlen(root) + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		mkdir(full, 0755);
		*p = '/';
	}
	mkdir(full, 0755);
}

static void make_link(const char *path, const char *target)
{
	char full[256];
	snprintf(full, sizeof(full), "%s/%s", root, path);
	assert_int_equal(symlink(target, full), 0);
}

static void make_file(const char *path, const char *text)
{
	char full[256];
	snprintf(full, sizeof(full), "%s/%s", root, path);
	FILE *f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* A device in @group (NULL: none) with @driver (NULL: none). */
static void make_device(const char *bdf, const char *group, const char *driver)
{
	char path[128], target[128];
	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s", bdf);
	make_dir(path);
	if (driver) {
		snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/driver", bdf);
		snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
		make_link(path, target);
	}
	if (!group)
		return;
	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/iommu_group", bdf);
	snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%s", group);
	make_link(path, target);
	snprintf(path, sizeof(path), "sys/kernel/iommu_groups/%s/devices/%s", group, bdf);
	make_dir(path);
}

static int setup(void **state)
{
	snprintf(root, sizeof(root), "/tmp/molt-explain-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(sys_dir, sizeof(sys_dir), "%s/sys", root);
	snprintf(proc_dir, sizeof(proc_dir), "%s/proc", root);
	snprintf(dev_dir, sizeof(dev_dir), "%s/dev", root);
	make_dir("sys/bus/pci/devices");
	make_dir("proc");
	make_dir("dev/vfio");
	make_file("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\n");
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void assert_says(const struct error *err, const char *text, const char *hint)
{
	if (!strstr(err->text, text))
		fail_msg("'%s' does not say '%s'", err->text, text);
	if (!strstr(err->hint, hint))
		fail_msg("'%s' does not advise '%s'", err->hint, hint);
}

static void device_fit(void **state)
{
	struct error err = {0};
	unsigned group = 0;
	make_device(BDF, "12", "vfio-pci");
	make_device("0000:00:06.0", "13", "mlx5-vfio-pci");
	assert_int_equal(vfio_explain_device(BDF, &group, &err), 0);
	assert_int_equal(group, 12);
	assert_int_equal(vfio_explain_device("0000:00:06.0", &group, &err), 0);
	assert_int_equal(group, 13);
}

static void device_unfit(void **state)
{
	struct error err = {0};
	unsigned group;
	assert_int_equal(vfio_explain_device(BDF, &group, &err), -ENODEV);
	assert_says(&err, "no such PCI device", "lspci");
	assert_int_equal(err.exit, EXIT_HOST);

	make_device(BDF, NULL, "vfio-pci");
	assert_int_equal(vfio_explain_device(BDF, &group, &err), -ENODEV);
	assert_says(&err, "no IOMMU group", "intel_iommu=on");
	make_file("proc/cpuinfo", "vendor_id\t: AuthenticAMD\n");
	vfio_explain_device(BDF, &group, &err);
	assert_says(&err, "no IOMMU group", "amd_iommu");

	make_device("0000:00:06.0", "3", "e1000e");
	assert_int_equal(vfio_explain_device("0000:00:06.0", &group, &err), -EBUSY);
	assert_says(&err, "driver e1000e", "molt-vfio-bind 0000:00:06.0");
	make_device("0000:00:07.0", "4", NULL);
	assert_int_equal(vfio_explain_device("0000:00:07.0", &group, &err), -ENODEV);
	assert_says(&err, "no driver", "molt-vfio-bind 0000:00:07.0");
}

static void group_not_viable(void **state)
{
	struct error err = {0};
	make_device(BDF, "9", "vfio-pci");
	make_device("0000:00:05.1", "9", "e1000e");
	make_device("0000:00:05.2", "9", "snd_hda_intel");
	make_device("0000:00:05.3", "9", NULL);
	make_device("0000:00:1c.0", "9", "pcieport");
	assert_int_equal(vfio_explain_viable(BDF, 9, &err), -EBUSY);
	assert_says(&err, "0000:00:05.1 (e1000e)", "0000:00:05.1");
	assert_says(&err, "0000:00:05.2 (snd_hda_intel)", "0000:00:05.2");
	assert_null(strstr(err.text, "00:05.3"));
	assert_null(strstr(err.hint, "00:1c.0"));
	assert_null(strstr(err.hint, BDF));
	assert_int_equal(err.exit, EXIT_HOST);
}

static void big_group(void **state)
{
	struct error err = {0};
	char bdf[16];
	make_device(BDF, "9", "vfio-pci");
	for (unsigned i = 1; i < 60; i++) {
		snprintf(bdf, sizeof(bdf), "0000:%02x:00.0", i);
		make_device(bdf, "9", "a_driver_with_a_long_name");
	}
	assert_int_equal(vfio_explain_viable(BDF, 9, &err), -EBUSY);
	assert_true(strlen(err.text) < sizeof(err.text));
}

static void group_not_opened(void **state)
{
	struct error err = {0};
	char holder[160];
	assert_int_equal(vfio_explain_group(BDF, 9, EACCES, &err), -EACCES);
	assert_says(&err, "vfio/9", "chown");
	assert_int_equal(vfio_explain_group(BDF, 9, EBUSY, &err), -EBUSY);
	assert_says(&err, "vfio/9", "fuser");
	make_dir("proc/4242/fd");
	make_file("proc/4242/comm", "qemu-system-x86\n");
	snprintf(holder, sizeof(holder), "%s/vfio/9", dev_dir);
	make_link("proc/4242/fd/17", holder);
	make_dir("proc/4243/fd");
	make_link("proc/4243/fd/0", "/dev/null");
	assert_int_equal(vfio_explain_group(BDF, 9, EBUSY, &err), -EBUSY);
	assert_says(&err, "vfio/9", "4242 (qemu-system-x86)");
	assert_null(strstr(err.hint, "4243"));
	assert_int_equal(vfio_explain_group(BDF, 9, ENOENT, &err), -ENOENT);
	assert_says(&err, "vfio/9", "modprobe vfio-pci");
}

/* By the device's own node nobody needs the group, which is refused as well. */
static void device_in_use(void **state)
{
	struct error err = {0};
	char holder[160];
	make_device(BDF, "9", "vfio-pci");
	assert_int_equal(vfio_explain_open(BDF, 9, EBUSY, &err), -EBUSY);
	assert_says(&err, BDF, "fuser -v");
	assert_int_equal(err.exit, EXIT_HOST);
	make_dir("sys/bus/pci/devices/" BDF "/vfio-dev/vfio3");
	make_dir("proc/4242/fd");
	make_file("proc/4242/comm", "qemu-system-x86\n");
	snprintf(holder, sizeof(holder), "%s/vfio/devices/vfio3", dev_dir);
	make_link("proc/4242/fd/17", holder);
	assert_int_equal(vfio_explain_open(BDF, 9, EBUSY, &err), -EBUSY);
	assert_says(&err, BDF, "process 4242 (qemu-system-x86)");
	assert_int_equal(vfio_explain_group(BDF, 9, EBUSY, &err), -EBUSY);
	assert_says(&err, BDF, "process 4242 (qemu-system-x86)");
	assert_int_equal(vfio_explain_open(BDF, 9, EIO, &err), -EIO);
	assert_says(&err, BDF, "dmesg");
}

static void container_and_iommu(void **state)
{
	struct error err = {0};
	assert_int_equal(vfio_explain_container(ENOENT, &err), -ENOENT);
	assert_says(&err, "vfio/vfio", "modprobe vfio-pci");
	assert_int_equal(vfio_explain_container(EACCES, &err), -EACCES);
	assert_says(&err, "vfio/vfio", "chmod");
	assert_int_equal(vfio_explain_iommu(BDF, EPERM, &err), -EPERM);
	assert_says(&err, BDF, "allow_unsafe_interrupts");
	assert_int_equal(err.exit, EXIT_HOST);
}

static void update_refused(void **state)
{
	struct error err = {0};
	struct vfio_container c = {.nfiles = 1};
	c.files[0].number = 9;
	make_device(BDF, "9", "vfio-pci");
	assert_int_equal(vfio_explain_update(&c, &err), -EOPNOTSUPP);
	assert_says(&err, "VFIO_UPDATE_VADDR", "5.12");
	assert_int_equal(err.exit, EXIT_REFUSED);
	make_dir("sys/kernel/iommu_groups/9/devices/83b8f4f2-509f-382f/mdev_type");
	assert_int_equal(vfio_explain_update(&c, &err), -EOPNOTSUPP);
	assert_says(&err, "83b8f4f2-509f-382f", "iommu=iommufd");
}

static void capability_counts(void **state)
{
	struct error err = {0};
	make_dir("proc/self");
	make_file("proc/self/status", "Name:\tmolt\nCapEff:\t0000000000004000\n");
	assert_int_equal(vfio_explain_memlock(UINT64_MAX, &err), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(device_fit),	   TEST(device_unfit),	   TEST(group_not_viable),
		TEST(big_group),	   TEST(group_not_opened), TEST(device_in_use),
		TEST(container_and_iommu), TEST(update_refused),   TEST(capability_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
