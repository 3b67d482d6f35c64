/* SPDX-License-Identifier: MIT */
/* A device that the host wants back, and that the guest ejects (unbind=eject), or does not. */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/unit/fake_vfio.h"

#define SLOT	1
#define BIT	(1u << SLOT)
#define ASK	0x610
#define GO	0x614
#define EJECTED BDF ",unbind=eject"

static char sys_dir[64];
static volatile sig_atomic_t woken;
static unsigned pins[IRQ_PINS];
static unsigned other_irqfds; /* not the device's that goes */

static void wake(int sig)
{
	woken++;
}

static long watched(int fd, unsigned long request, void *arg)
{
	const struct kvm_irq_level *level = arg;
	if (request == KVM_IRQ_LINE) {
		pins[level->irq] = level->level;
		return 0;
	}
	return fake_vfio_ioctl(fd, request, arg);
}

static int setup(void **state)
{
	int rc = fake_vfio_setup(state);
	fake.ioctl = watched;
	woken = other_irqfds = 0;
	memset(pins, 0, sizeof(pins));
	signal(MACHINE_WAKE_SIGNAL, wake);
	strcpy(sys_dir, "/tmp/molt-eject.XXXXXX");
	assert_non_null(mkdtemp(sys_dir));
	vfio_host.sys = sys_dir;
	static const char *const dirs[] = {"bus", "bus/pci", "bus/pci/devices"};
	for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
		char path[96];
		snprintf(path, sizeof(path), "%s/%s", sys_dir, dirs[i]);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	return rc;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	nftw(sys_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return fake_vfio_teardown(state);
}

static struct machine *running(const char *arg)
{
	struct machine *m = vfio_machine_of(arg, true);
	m->leader = pthread_self();
	vfio_run(m);
	return m;
}

static void request(struct machine *m)
{
	const uint64_t one = 1;
	assert_int_equal(write(vfio_of(m)->trouble_fd[VFIO_TROUBLE_REQUEST], &one, sizeof(one)),
			 sizeof(one));
	assert_int_equal(serve_loop(m), 1);
}

/* sysfs says in which group a device is. */
static void in_group(const char *id, const char *group)
{
	char path[160], target[64];
	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s", sys_dir, id);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/iommu_group", sys_dir, id);
	snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%s", group);
	assert_int_equal(symlink(target, path), 0);
}

/* Decoding, with two vectors of MSI-X. */
static void driver(struct machine *m)
{
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	uint64_t table = pci_bar_addr(&vfio_of(m)->pci, 0) + 0x2000;
	for (unsigned i = 1; i <= 6; i += 5) {
		guest_write(&m->mmio, table + 16 * i, 8, 0xfee00000);
		guest_write(&m->mmio, table + 16 * i + 8, 8, 0x40 + i);
	}
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake.irqfds, other_irqfds + 2);
}

static void assert_present(struct machine *m)
{
	assert_int_equal(m->gone_slots, 0);
	assert_false(vfio_of(m)->dev.leaving);
	assert_int_equal(config_get(m, SLOT, PCI_VENDOR_ID, 4), 0x10d38086);
	assert_true(hw_config(PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
	assert_int_equal(fake.irqfds, other_irqfds + 2);
}

/* Nothing of the device reaches the guest, and no DMA its memory. */
static void assert_empty(struct machine *m)
{
	assert_int_equal(m->gone_slots, BIT);
	for (unsigned off = 0; off < 0x1000; off += 4)
		assert_int_equal(config_get(m, SLOT, off, 4), ~0u);
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(hw_config(PCI_COMMAND, 2), 0);
	assert_int_equal(fake.irqfds, other_irqfds);
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++)
		assert_int_equal(m->vm.slots[i].len, 0);
	for (unsigned i = 0; i < PCI_BARS; i++)
		assert_false(vfio_of(m)->pci.bars[i].mapped);
}

/* The guest is asked by a level, until it has read it; the operator is told once. */
static void asked(void **state)
{
	struct machine *m = running(EJECTED);
	driver(m);
	assert_int_equal(guest_read(&m->pio, ASK, 4), 0);
	request(m);
	assert_int_equal(pins[20], 1);
	assert_int_equal(woken, 1);
	assert_false(vfio_of(m)->dev.ends_guest);
	assert_non_null(strstr(vfio_of(m)->dev.trouble, "asked to eject"));
	assert_int_equal(guest_read(&m->pio, ASK, 4), BIT);
	guest_write(&m->pio, ASK, 4, BIT);
	assert_int_equal(pins[20], 0);
	assert_int_equal(guest_read(&m->pio, ASK, 4), 0);
	request(m); /* the host says so again */
	assert_int_equal(pins[20], 1);
	assert_int_equal(woken, 1);
	assert_present(m);
	vfio_machine_free(m);
}

/* What a guest may write that makes no sense: a device that nobody wants, slots that are empty, are not to go or do not
 * exist, accesses of other forms, and everything twice. */
static void hostile(void **state)
{
	struct machine *m = vfio_machine_of(EJECTED, true);
	m->leader = pthread_self();
	fake_vfio_second(m); /* in slot 2, and it stays */
	other_irqfds = 1;
	vfio_run(m);
	driver(m);
	guest_write(&m->pio, GO, 4, ~0u);
	guest_write(&m->pio, ASK, 4, ~0u);
	assert_present(m);
	assert_int_equal(woken, 0);
	request(m);
	guest_write(&m->pio, GO, 4, ~BIT);
	guest_write(&m->pio, GO, 1, BIT);
	guest_write(&m->pio, GO, 2, BIT);
	guest_write(&m->pio, GO + 1, 1, BIT);
	guest_write(&m->pio, GO + 2, 4, BIT);
	assert_int_equal(guest_read(&m->pio, GO, 4), 0);
	assert_int_equal(guest_read(&m->pio, GO, 1), 0xff);
	assert_present(m);
	guest_write(&m->pio, GO, 4, ~0u);
	assert_empty(m);
	assert_int_equal(config_get(m, 2, PCI_VENDOR_ID, 4), 0x10d38086);
	assert_int_equal(woken, 2);
	unsigned calls = vf.set_irqs;
	guest_write(&m->pio, GO, 4, ~0u);
	request(m);		       /* the host waits still, for the leader */
	assert_int_equal(pins[20], 1); /* from before: the guest has not read it */
	guest_write(&m->pio, ASK, 4, BIT);
	request(m);
	assert_int_equal(pins[20], 0);
	assert_int_equal(vf.set_irqs, calls);
	assert_int_equal(woken, 2);
	vfio_machine_free(m);
}

/* A guest that does not eject: told for ever, or asked to power off after the time. */
static void timeout(void **state)
{
	struct machine *m = running(EJECTED ",unbind_timeout=30");
	struct pci_slots *slots = (struct pci_slots *)machine_device(m, "pci-slots", NULL);
	request(m);
	assert_true(slots->state.asked_s[SLOT]);
	slots->state.asked_s[SLOT] -= 29;
	request(m);
	assert_false(vfio_of(m)->dev.ends_guest);
	slots->state.asked_s[SLOT] -= 1;
	request(m);
	assert_true(vfio_of(m)->dev.ends_guest);
	assert_int_equal(woken, 2);
	request(m);
	assert_int_equal(woken, 2);
	vfio_machine_free(m);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* The leader closes the device, and what was told of it. */
static void released(struct machine *m)
{
	struct vfio_dev *dev = vfio_of(m);
	int trouble_fd[] = {dev->trouble_fd[0], dev->trouble_fd[1]};
	vf.device = fcntl(vf.device, F_DUPFD_CLOEXEC, 100); /* the test's own */
	int device = dev->fd;
	assert_true(dev->dev.leaving);
	devices_release(m);
	assert_false(dev->dev.leaving);
	assert_false(is_open(device));
	assert_false(is_open(trouble_fd[0]) || is_open(trouble_fd[1]));
	assert_int_equal(fdset_get(&m->fds, "vfio:" BDF), -1);
	assert_int_equal(fdset_get(&m->fds, "vfio:" BDF ":req"), -1);
	assert_string_equal(dev->dev.trouble, "is ejected: the host has it back");
	assert_true(dev->dev.told && !dev->dev.ends_guest);
	for (unsigned i = 0; i < PCI_BARS; i++)
		assert_null(dev->regions[i].room);
	assert_empty(m);
	devices_release(m); /* once */
}

static void ejects(struct machine *m)
{
	driver(m);
	request(m);
	guest_write(&m->pio, ASK, 4, BIT);
	guest_write(&m->pio, GO, 4, BIT);
	assert_empty(m);
}

static void goes(void **state)
{
	struct machine *m = running(EJECTED);
	ejects(m);
	assert_true(vfio_of(m)->fd >= 0); /* until the leader has time */
	released(m);
	vfio_machine_free(m);
}

/* The group goes with the guest's last device of it, out of KVM as well; then no guest memory is mapped any more. */
static void group_goes(void **state)
{
	struct machine *m = running(EJECTED);
	in_group(BDF, "7");
	ejects(m);
	int group = vf.group, own = fcntl(group, F_DUPFD_CLOEXEC, 100);
	released(m);
	vf.group = own;
	assert_false(is_open(group));
	assert_int_equal(fdset_get(&m->fds, "vfio-group:7"), -1);
	assert_int_equal(vf.kvm_groups, 0);
	assert_int_equal(container_of(m)->nfiles, 0);
	assert_int_equal(container_of(m)->state.nranges, 0);
	vfio_machine_free(m);
}

static void group_stays(void **state)
{
	struct machine *m = vfio_machine_of(EJECTED, true);
	m->leader = pthread_self();
	fake_vfio_second(m);
	vfio_run(m);
	in_group(BDF, "7");
	in_group(BDF_SECOND, "7");
	other_irqfds = 1;
	ejects(m);
	released(m);
	assert_int_equal(fdset_get(&m->fds, "vfio-group:7"), vf.group);
	assert_int_equal(vf.kvm_groups, 1);
	assert_int_equal(container_of(m)->state.nranges, 2);
	vfio_machine_free(m);
}

/* What a state may say that cannot be. */
static void hostile_state(void **state)
{
	struct machine *m = running(EJECTED);
	struct pci_slots *slots = (struct pci_slots *)machine_device(m, "pci-slots", NULL);
	struct error err = {0};
	irq_detach_all(&m->irq, NULL);
	slots->state.ask = BIT << 1;
	struct fake_blob blob = fake_save(m);
	struct machine *next = vfio_machine_of(EJECTED, false);
	assert_int_equal(fake_load(next, &blob, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "asked for"));
	free(blob.data);
	vfio_machine_free(next);

	/* The device is not gone, and its descriptor missing. */
	slots->state.ask = 0;
	fdset_rename(&m->fds, "vfio:" BDF, "other");
	blob = fake_save(m);
	next = vfio_machine_of(EJECTED, false);
	assert_int_equal(fake_load(next, &blob, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "was not handed over"));
	free(blob.data);
	vfio_machine_free(next);
	vfio_machine_free(m);
}

static struct machine *successor(const struct fake_blob *blob)
{
	struct machine *next = vfio_machine_of(EJECTED, false);
	struct error err = {0};
	next->leader = pthread_self();
	if (fake_load(next, blob, &err))
		fail_msg("%s", err.text);
	return next;
}

/* Between the request and the ejection; between that and its end, which is the successor's then; and after it. */
static void over_updates(void **state)
{
	struct fake_blob blob[3];
	struct machine *m[4] = {running(EJECTED)};
	driver(m[0]);
	request(m[0]);
	irq_detach_all(&m[0]->irq, NULL);
	blob[0] = fake_save(m[0]);
	m[1] = successor(&blob[0]);
	assert_int_equal(fake_start(m[1], NULL), 0);
	assert_int_equal(pins[20], 1);
	assert_non_null(strstr(vfio_of(m[1])->dev.trouble, "asked to eject"));
	assert_present(m[1]);

	guest_write(&m[1]->pio, GO, 4, BIT);
	assert_empty(m[1]);
	blob[1] = fake_save(m[1]);
	m[2] = successor(&blob[1]);
	assert_empty(m[2]);
	released(m[2]);

	irq_detach_all(&m[2]->irq, NULL);
	blob[2] = fake_save(m[2]);
	m[3] = successor(&blob[2]);
	assert_int_equal(vfio_of(m[3])->fd, -1);
	assert_string_equal(vfio_of(m[3])->dev.trouble, "is ejected: the host has it back");
	assert_int_equal(fake_start(m[3], NULL), 0);
	assert_empty(m[3]);
	for (unsigned i = 0; i < 4; i++)
		vfio_machine_free(m[3 - i]);
	for (unsigned i = 0; i < 3; i++)
		free(blob[i].data);
}

static void options(void **state)
{
	static const char *const wrong[] = {
		BDF ",unbind=ejected",
		BDF ",unbind=",
		BDF ",unbind_timeout=5",
		BDF ",unbind=wait,unbind_timeout=5",
		BDF ",unbind=eject,unbind_timeout=0",
		BDF ",unbind=eject,unbind_timeout=",
		BDF ",unbind=eject,unbind_timeout=-1",
		BDF ",unbind=eject,unbind_timeout=5s",
	};
	struct error err = {0};
	for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
		struct vfio_dev dev = {0};
		if (vfio_option(&dev, wrong[i], &err) != -EINVAL)
			fail_msg("%s is taken", wrong[i]);
	}
	struct vfio_dev dev = {0};
	assert_int_equal(vfio_option(&dev, EJECTED ",unbind_timeout=90", &err), 0);
	assert_int_equal(dev.unbind, VFIO_UNBIND_EJECT);
	assert_int_equal(dev.unbind_timeout_s, 90);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(asked),	     TEST(hostile),	 TEST(timeout),
		TEST(goes),	     TEST(group_goes),	 TEST(group_stays),
		TEST(hostile_state), TEST(over_updates), TEST(options),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
