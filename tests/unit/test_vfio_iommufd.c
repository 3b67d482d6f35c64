/* SPDX-License-Identifier: MIT */
/* The IOMMU by iommufd, on a made-up host: which interface is chosen, in which order the kernel is asked, an update. */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "devices/vfio/iommufd_uapi.h"
#include "tests/unit/fake_vfio.h"

#define IOAS   5
#define RAM_FD 77
#define MDEV   "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

static char root[64], sys_dir[80], proc_dir[80], dev_dir[80];

static struct {
	char calls[128]; /* "K B A M0 M1 P ": KVM, bind, attach, map, change of process */
	bool no_files;	 /* a kernel before file mappings */
	int change_error, bind_error;
	uint64_t iova_end;   /* last DMA address of the host; 0: of 64 bits */
	uint8_t token[16];   /* that the device was bound with */
	unsigned unmasked;   /* INTx, by a call */
	bool no_unmask_fd;   /* and by nothing else */
	bool irq_kinds_fail; /* of MSI-X: EINVAL */
} kernel;

static void note(const char *what)
{
	size_t n = strlen(kernel.calls);
	snprintf(kernel.calls + n, sizeof(kernel.calls) - n, "%s ", what);
}

static void make_dir(const char *path)
{
	char full[256], *p;
	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (p = full + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = 0;
		mkdir(full, 0755);
	}
	mkdir(full, 0755);
}

static void make_link(const char *path, const char *target)
{
	char full[256];
	snprintf(full, sizeof(full), "%s/%s", root, path);
	assert_int_equal(symlink(target, full), 0);
}

static bool is_device(int fd)
{
	struct stat a, b;
	return !fstat(fd, &a) && !fstat(vf.device, &b) && a.st_ino == b.st_ino;
}

static long map_file(const struct iommufd_ioas_map_file *map)
{
	char what[8];
	if (kernel.no_files)
		return -ENOTTY;
	if (map->fd < 0) /* it only asks whether there is such a call */
		return -EBADF;
	assert_int_equal(map->size, sizeof(*map));
	assert_int_equal(map->fd, RAM_FD);
	assert_int_equal(map->ioas_id, IOAS);
	assert_int_equal(map->flags, 7);
	assert_int_equal(map->iova, map->start ? 4 * GIB : 0);
	assert_int_equal(map->start, map->iova ? 48 * MIB : 0);
	assert_int_equal(map->length, map->iova ? 16 * MIB : 48 * MIB);
	snprintf(what, sizeof(what), "M%d", map->iova ? 1 : 0);
	note(what);
	return 0;
}

static long device(unsigned long request, void *arg)
{
	const struct vfio_irq_set *set = arg;
	const struct vfio_irq_info *info = arg;
	if (request == VFIO_DEVICE_GET_IRQ_INFO && kernel.irq_kinds_fail &&
	    info->index > VFIO_PCI_INTX_IRQ_INDEX)
		return -EINVAL;
	if (request == VFIO_DEVICE_SET_IRQS && set->flags & VFIO_IRQ_SET_ACTION_UNMASK &&
	    kernel.no_unmask_fd) {
		assert_int_equal(set->count, 1);
		kernel.unmasked += !!(set->flags & VFIO_IRQ_SET_DATA_NONE);
		return set->flags & VFIO_IRQ_SET_DATA_NONE ? 0 : -ENOTTY;
	}
	return fake_device_ioctl(request, arg);
}

static long host(int fd, unsigned long request, void *arg)
{
	if (request == IOMMUFD_IOAS_ALLOC) {
		((struct iommufd_ioas_alloc *)arg)->out_ioas_id = IOAS;
		return 0;
	}
	if (request == IOMMUFD_IOAS_MAP_FILE)
		return map_file(arg);
	if (request == IOMMUFD_IOAS_CHANGE_PROCESS) {
		note("P");
		return kernel.no_files ? -ENOTTY : -kernel.change_error;
	}
	if (request == IOMMUFD_IOAS_IOVA_RANGES) {
		struct iommufd_ioas_iova_ranges *r = arg;
		assert_int_equal(r->ioas_id, IOAS);
		*(struct vfio_iova_range *)(uintptr_t)r->allowed_iovas =
			(struct vfio_iova_range){0, kernel.iova_end ?: UINT64_MAX};
		r->num_iovas = 1;
		return 0;
	}
	if (request == VFIO_CDEV_BIND) {
		const struct vfio_cdev_bind *bind = arg;
		assert_true(is_device(fd));
		assert_int_equal(bind->argsz, bind->flags ? 24 : 16);
		if (bind->flags)
			memcpy(kernel.token, (void *)(uintptr_t)bind->token_uuid_ptr, 16);
		note("B");
		return -kernel.bind_error;
	}
	if (request == VFIO_CDEV_ATTACH) {
		assert_true(is_device(fd));
		assert_int_equal(((struct vfio_cdev_attach *)arg)->pt_id, IOAS);
		note("A");
		return 0;
	}
	if (request == KVM_CREATE_DEVICE) {
		((struct kvm_create_device *)arg)->fd = (uint32_t)dup(vf.group);
		return 0;
	}
	if (request == KVM_SET_DEVICE_ATTR) {
		const struct kvm_device_attr *attr = arg;
		assert_true(is_device(*(int32_t *)(uintptr_t)attr->addr));
		note(attr->attr == KVM_DEV_VFIO_GROUP_ADD ? "K" : "k");
		return 0;
	}
	if (request == KVM_IRQ_LINE)
		return 0;
	if (request == VFIO_GET_API_VERSION)
		return VFIO_API_VERSION + 1; /* type1 is tried, which is all that is asked here */
	assert_true(is_device(fd));
	return device(request, arg);
}

/* A device with a node of its own, which is the made-up device. */
static void make_device(const char *bus, const char *id, bool node)
{
	char path[160], target[32];
	snprintf(path, sizeof(path), "sys/bus/%s/devices/%s", bus, id);
	make_dir(path);
	snprintf(path, sizeof(path), "sys/bus/%s/devices/%s/iommu_group", bus, id);
	make_link(path, "../../kernel/iommu_groups/7");
	snprintf(path, sizeof(path), "sys/bus/%s/devices/%s/driver", bus, id);
	make_link(path, "../drivers/vfio-pci");
	if (!node)
		return;
	snprintf(path, sizeof(path), "sys/bus/%s/devices/%s/vfio-dev/vfio3", bus, id);
	make_dir(path);
	snprintf(target, sizeof(target), "/proc/self/fd/%d", vf.device);
	make_link("dev/vfio/devices/vfio3", target);
}

/* As CAP_IPC_LOCK says. */
static void may_lock_all(bool may)
{
	char path[160];
	make_dir("proc/self");
	snprintf(path, sizeof(path), "%s/proc/self/status", root);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "Name:\tmolt\nCapEff:\t%016x\n", may ? 0x4000 : 0);
	fclose(f);
}

static int setup(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	fake_vfio_setup(state);
	fake.ioctl = host;
	strcpy(root, "/tmp/molt-iommufd.XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(sys_dir, sizeof(sys_dir), "%s/sys", root);
	snprintf(proc_dir, sizeof(proc_dir), "%s/proc", root);
	snprintf(dev_dir, sizeof(dev_dir), "%s/dev", root);
	vfio_host = (struct vfio_host){sys_dir, proc_dir, dev_dir};
	make_dir("dev/vfio/devices");
	make_link("dev/iommu", "/dev/null");
	make_link("dev/vfio/vfio", "/dev/null");
	may_lock_all(true);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return fake_vfio_teardown(state);
}

static struct machine *machine(const char *arg, bool fresh)
{
	struct machine *m = vfio_machine_of(arg, fresh);
	m->ram.fd = RAM_FD;
	return m;
}

static struct machine *running(const char *arg)
{
	struct machine *m = machine(arg, true);
	struct error err = {0};
	if (fake_realize(m, &err) || fake_reset(m, &err) || fake_start(m, &err))
		fail_msg("%s", err.text);
	return m;
}

/* KVM knows the device before it is opened; guest memory is mapped by its file; a later start tells KVM again. */
static void fresh_guest(void **state)
{
	make_device("pci", BDF, true);
	struct machine *m = running(BDF);
	assert_ptr_equal(container_of(m)->iommu, &vfio_iommufd);
	assert_string_equal(kernel.calls, "P P K B A M0 M1 K ");
	assert_int_equal(vf.resets, 1);
	kernel.calls[0] = 0;
	vfio_machine_free(m);
	assert_string_equal(kernel.calls, "k ");
}

/* Nothing is bound or attached again; the accounting moves after commit, and again where that failed. */
static void handed_over(void **state)
{
	struct error err = {0};
	make_device("pci", BDF, true);
	struct machine *m = running(BDF);
	unsigned resets = vf.resets;
	kernel.calls[0] = 0;
	assert_int_equal(vfio_container_class.check(&container_of(m)->dev, &err), 0);
	assert_string_equal(kernel.calls, "P ");
	irq_detach_all(&m->irq, NULL);
	struct fake_blob blob = fake_save(m);
	struct machine *next = machine(BDF, false);
	kernel.calls[0] = 0;
	if (fake_load(next, &blob, &err) ||
	    vfio_container_class.join(&container_of(next)->dev, &err))
		fail_msg("%s", err.text);
	assert_string_equal(kernel.calls, "K ");
	kernel.change_error = ENOMEM;
	assert_int_equal(vfio_container_class.take(&container_of(next)->dev, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "counted for the former process"));
	kernel.change_error = 0;
	assert_int_equal(vfio_container_class.take(&container_of(next)->dev, &err), 0);
	assert_string_equal(kernel.calls, "K P P ");
	assert_int_equal(vf.resets, resets);
	assert_int_equal(container_of(next)->state.ioas, IOAS);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

#define MAY_GO BDF ",unbind=eject"

static void successor_of(struct machine *m, struct machine **next)
{
	struct error err = {0};
	irq_detach_all(&m->irq, NULL);
	struct fake_blob blob = fake_save(m);
	*next = machine(MAY_GO, false);
	if (fake_load(*next, &blob, &err) ||
	    vfio_container_class.join(&container_of(*next)->dev, &err) ||
	    vfio_container_class.take(&container_of(*next)->dev, &err) || fake_start(*next, &err))
		fail_msg("%s", err.text);
	free(blob.data);
}

/* KVM and this process let go of it. Without a device nothing is asked of iommufd any more, in an update or when the
 * guest begins anew. */
static void ejected(void **state)
{
	const uint64_t one = 1;
	struct error err = {0};
	struct machine *next;
	make_device("pci", BDF, true);
	struct machine *m = running(MAY_GO);
	m->leader = pthread_self();
	signal(MACHINE_WAKE_SIGNAL, SIG_IGN);
	assert_int_equal(write(vfio_of(m)->trouble_fd[1], &one, sizeof(one)), sizeof(one));
	serve_loop(m);
	guest_write(&m->pio, 0x614, 4, 2);
	kernel.calls[0] = 0;
	int fd = vfio_of(m)->fd;
	devices_release(m);
	assert_string_equal(kernel.calls, "k ");
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(vfio_container_class.check(&container_of(m)->dev, &err), 0);
	successor_of(m, &next);
	assert_string_equal(kernel.calls, "k ");
	vfio_machine_free(next);
	vfio_machine_free(m);

	/* The host's driver has it by now, and it has no node. */
	char path[160];
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/" BDF "/vfio-dev", root);
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	m = machine(MAY_GO, true);
	m->gone_slots = 2;
	kernel.calls[0] = 0;
	if (fake_realize(m, &err) || fake_reset(m, &err) || fake_start(m, &err))
		fail_msg("%s", err.text);
	assert_ptr_equal(container_of(m)->iommu, &vfio_iommufd);
	assert_string_equal(kernel.calls, "P P ");
	assert_int_equal(config_get(m, 1, PCI_VENDOR_ID, 4), ~0u);
	assert_non_null(strstr(vfio_of(m)->dev.trouble, "is ejected"));
	successor_of(m, &next);
	assert_string_equal(kernel.calls, "P P ");
	vfio_machine_free(next);
	vfio_machine_free(m);
}

static int open_devices(const char *arg, struct error *err)
{
	struct machine *m = machine(arg, true);
	int rc = fake_realize(m, err);
	vfio_machine_free(m);
	return rc;
}

/* What is missing leads to type1 (which says that its version is another), or to the reason where iommufd is asked
 * for. */
static void chosen(void **state)
{
	struct error err = {0};
	make_device("pci", BDF, false);
	assert_int_equal(open_devices(BDF, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "API version"));
	assert_int_equal(open_devices(BDF ",iommu=iommufd", &err), -ENOENT);
	assert_non_null(strstr(err.hint, "VFIO_DEVICE_CDEV"));

	char path[160];
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/" BDF, root);
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	make_device("pci", BDF, true);
	kernel.no_files = true;
	assert_int_equal(open_devices(BDF, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "API version"));
	assert_int_equal(open_devices(BDF ",iommu=iommufd", &err), -ENOTTY);
	assert_non_null(strstr(err.text, "file mappings"));
	kernel.no_files = false;
	assert_int_equal(open_devices(BDF ",iommu=type1", &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "API version"));

	snprintf(path, sizeof(path), "%s/dev/iommu", root);
	remove(path);
	assert_int_equal(open_devices(BDF, &err), -ENOTSUP);
	assert_int_equal(open_devices(BDF ",iommu=iommufd", &err), -ENOENT);
	assert_non_null(strstr(err.hint, "CONFIG_IOMMUFD"));
}

static void two_minds(void **state)
{
	struct error err = {0};
	make_device("pci", BDF, true);
	struct machine *m = machine(BDF ",iommu=iommufd", true);
	assert_int_equal(machine_add_device(m, &vfio_class, BDF_SECOND ",iommu=type1", &err), 0);
	assert_int_equal(fake_realize(m, &err), -EINVAL);
	assert_int_equal(err.exit, EXIT_USAGE);
	vfio_machine_free(m);
}

static void device_in_use(void **state)
{
	struct error err = {0};
	make_device("pci", BDF, true);
	kernel.bind_error = EBUSY;
	assert_int_equal(open_devices(BDF, &err), -EBUSY);
	assert_non_null(strstr(err.text, "vfio/devices/vfio3"));
	assert_non_null(strstr(err.hint, "fuser"));
}

static void token(void **state)
{
	static const uint8_t expected[16] = {0xbd, 0x8d, 0x9d, 0x2b, 0x5a, 0x5f, 0x4f, 0x5a,
					     0xa2, 0x11, 0xf5, 0x91, 0x51, 0x4b, 0xa1, 0xf3};
	make_device("pci", BDF, true);
	vfio_machine_free(running(BDF ",noreset,vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3"));
	assert_memory_equal(kernel.token, expected, sizeof(expected));
	assert_int_equal(vf.resets, 0);
}

/* A host of 32 address bits has no room for what lies above 4 GiB. */
static void reserved_addresses(void **state)
{
	struct error err = {0};
	make_device("pci", BDF, true);
	kernel.iova_end = 4 * GIB - 1;
	struct machine *m = machine(BDF, true);
	if (fake_realize(m, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fake_reset(m, &err), -ERANGE);
	assert_non_null(strstr(err.text, "0x100000000"));
	assert_non_null(strstr(err.hint, "reserved_regions"));
	vfio_machine_free(m);
	kernel.iova_end = 4 * GIB + 8 * MIB - 1;
	m = machine(BDF, true);
	if (fake_realize(m, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fake_reset(m, &err), -ERANGE);
	assert_non_null(strstr(err.text, "from 0x100800000 on"));
	assert_non_null(strstr(err.hint, "--mem 56M fits"));
	vfio_machine_free(m);
}

/* Who may not lock enough is told before an update. (That twice the memory is needed: nested/iommufd.) */
static void too_little_to_lock(void **state)
{
	struct rlimit limit = {PAGE_LEN, PAGE_LEN};
	struct error err = {0};
	make_device("pci", BDF, true);
	struct machine *m = running(BDF);
	may_lock_all(false);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	assert_int_equal(vfio_container_class.check(&container_of(m)->dev, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "RLIMIT_MEMLOCK"));
	vfio_machine_free(m);
}

/* The state says one interface, what was handed over is the other's. */
static void other_interface(void **state)
{
	struct error err = {0};
	make_device("pci", BDF, true);
	struct machine *m = running(BDF);
	container_of(m)->state.kind = VFIO_TYPE1;
	struct fake_blob blob = fake_save(m);
	struct machine *next = machine(BDF, false);
	assert_int_equal(fake_load(next, &blob, &err), -EBADMSG);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

static void signal_fd(int fd)
{
	const uint64_t one = 1;
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static uint64_t taken(int fd)
{
	uint64_t count;
	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* A mediated device with a line that is unmasked by a call, and without the kinds of interrupts that others have; over
 * an update the guest's EOI waits in the eventfd. */
static void mediated(void **state)
{
	struct error err = {0};
	kernel.no_unmask_fd = kernel.irq_kinds_fail = true;
	make_device("mdev", MDEV, true);
	struct machine *m = running("mdev:" MDEV);
	struct vfio_dev *dev = vfio_of(m);
	assert_int_equal(dev->state.unmask_by_call, 1);
	assert_int_equal(dev->answers.irq_count[VFIO_PCI_MSIX_IRQ_INDEX], 0);
	/* The device fires, which raises the line; after the EOI it is unmasked, and the line is raised once more. */
	serve_loop(m); /* what attaching the line began with */
	taken(dev->intx.fd);
	kernel.unmasked = 0;
	signal_fd(dev->intx_trigger);
	assert_int_equal(serve_loop(m), 1);
	assert_int_equal(taken(dev->intx.fd), 1);
	assert_int_equal(kernel.unmasked, 0);
	signal_fd(dev->intx.unmask_fd);
	assert_int_equal(serve_loop(m), 1);
	assert_int_equal(kernel.unmasked, 1);
	assert_int_equal(taken(dev->intx.fd), 1);
	signal_fd(dev->intx.unmask_fd);
	assert_int_equal(serve_loop(m), 1);
	assert_int_equal(kernel.unmasked, 1);
	assert_int_equal(taken(dev->intx.fd), 0);

	irq_detach_all(&m->irq, NULL);
	signal_fd(dev->intx_trigger);
	signal_fd(dev->intx.unmask_fd);
	struct fake_blob blob = fake_save(m);
	struct machine *next = machine("mdev:" MDEV, false);
	if (fake_load(next, &blob, &err))
		fail_msg("%s", err.text);
	assert_int_equal(kernel.unmasked, 1);
	assert_int_equal(serve_loop(next), 2);
	assert_int_equal(kernel.unmasked, 2);
	assert_int_equal(taken(vfio_of(next)->intx.fd), 2);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fresh_guest),	  TEST(handed_over),	    TEST(chosen),   TEST(two_minds),
		TEST(device_in_use),	  TEST(other_interface),    TEST(mediated), TEST(token),
		TEST(reserved_addresses), TEST(too_little_to_lock), TEST(ejected),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
