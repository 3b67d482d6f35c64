/* SPDX-License-Identifier: MIT */
/* A passed-through device over an update: DMA addresses, eventfds by name, and nothing touched. */
#include <signal.h>
#include <sys/resource.h>

#include "tests/unit/fake_vfio.h"

#define SLOT 1

/* What the kernel was asked, beside what fake_vfio.h keeps of it. */
static struct {
	char calls[64];		/* "U0 M0 ": the address of range 0 goes, another comes */
	unsigned maps, failing; /* the failing'th from now on fails once, 0: none */
	bool knows_group[64];	/* by KVM-VFIO device */
	unsigned known;		/* told of a group that it knew */
} kernel;

static void note(char what, uint64_t iova)
{
	size_t n = strlen(kernel.calls);
	snprintf(kernel.calls + n, sizeof(kernel.calls) - n, "%c%d ", what, iova ? 1 : 0);
}

static long watched(int fd, unsigned long request, void *arg)
{
	const struct vfio_iommu_type1_dma_unmap *unmap = arg;
	const struct vfio_iommu_type1_dma_map *map = arg;
	const struct kvm_device_attr *attr = arg;
	if (request == VFIO_IOMMU_UNMAP_DMA) {
		assert_int_equal(unmap->flags,
				 VFIO_DMA_UNMAP_FLAG_VADDR); /* never of all at once */
		assert_non_null(range_find(unmap->iova, unmap->size));
		note('U', unmap->iova);
	} else if (request == VFIO_IOMMU_MAP_DMA && map->flags & VFIO_DMA_MAP_FLAG_VADDR) {
		note('M', map->iova);
		if (++kernel.maps == kernel.failing)
			return -ENOMEM;
	} else if (request == KVM_SET_DEVICE_ATTR) {
		bool add = attr->attr == KVM_DEV_VFIO_GROUP_ADD;
		assert_true(fd < (int)ARRAY_LEN(kernel.knows_group));
		kernel.known += add && kernel.knows_group[fd];
		if (add == kernel.knows_group[fd])
			return add ? -EEXIST : -ENOENT;
		kernel.knows_group[fd] = add;
	}
	return fake_vfio_ioctl(fd, request, arg);
}

static int setup(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	fake_vfio_setup(state);
	fake.ioctl = watched;
	return 0;
}

/* Before commit, and after it. */
static int join(struct machine *m, struct error *err)
{
	return vfio_container_class.join(&container_of(m)->dev, err);
}

static int take(struct machine *m, struct error *err)
{
	kernel.calls[0] = 0;
	return vfio_container_class.take(&container_of(m)->dev, err);
}

static void assert_ranges(const struct machine *m, bool valid)
{
	assert_int_equal(vf.nranges, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vf.ranges[i].iova, m->ram.state.gpa[i]);
		assert_int_equal(vf.ranges[i].len, m->ram.state.len[i]);
		assert_int_equal(vf.ranges[i].valid, valid);
		if (valid)
			assert_int_equal(vf.ranges[i].vaddr,
					 (uintptr_t)m->ram.hva + m->ram.state.offset[i]);
	}
}

/* MSI-X on, vectors 1 and 6 unmasked, decoding memory. */
static void guest_driver(struct machine *m)
{
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	uint64_t table = pci_bar_addr(&vfio_of(m)->pci, 0) + 0x2000;
	for (unsigned i = 1; i <= 6; i += 5) {
		guest_write(&m->mmio, table + 16 * i, 8, 0xfee00000);
		guest_write(&m->mmio, table + 16 * i + 8, 8, 0x40 + i);
	}
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static void fresh_mapping(void **state)
{
	struct machine *m = vfio_running();
	assert_ranges(m, true);
	assert_int_equal(vf.kvm_groups, 1);
	vfio_machine_free(m);
	assert_int_equal(vf.kvm_groups, 0);
}

/* Irqfds off, and the state: DMA addresses and groups stay as they are. */
static void update(struct machine *m, struct fake_blob *blob)
{
	irq_detach_all(&m->irq, NULL);
	*blob = fake_save(m);
	assert_ranges(m, true);
	assert_string_equal(kernel.calls, "");
}

/* A successor that is there: it has loaded the state and joined, and nothing of the incumbent has changed. */
static struct machine *successor(struct machine *m, const struct fake_blob *blob)
{
	struct machine *next = vfio_machine(false);
	struct error err = {0};
	if (fake_load(next, blob, &err) || join(next, &err))
		fail_msg("%s", err.text);
	assert_ranges(m, true);
	assert_string_equal(kernel.calls, "");
	assert_int_equal(vf.kvm_groups, 2);
	assert_int_equal(fake.irqfds, 0);
	return next;
}

/* The successor is sent away: the incumbent goes on as if nothing had been. */
static void called_off(void **state)
{
	struct machine *m = vfio_running();
	struct fake_blob blob;
	struct error err = {0};
	guest_driver(m);
	assert_int_equal(vfio_container_class.check(&container_of(m)->dev, &err), 0);
	update(m, &blob);
	vfio_machine_free(successor(m, &blob));
	assert_ranges(m, true);
	assert_int_equal(vf.kvm_groups, 1);
	irq_attach_all(&m->irq, IRQ_MSI);
	assert_int_equal(fake.irqfds, 2);
	vfio_machine_free(m);
	free(blob.data);
}

static void joined_again(void **state)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	int kvm_fd = container_of(m)->kvm_fd;
	assert_int_equal(join(m, &err), 0);
	assert_int_equal(kernel.known, 1);
	assert_int_equal(container_of(m)->kvm_fd, kvm_fd);
	assert_int_equal(vf.kvm_groups, 1);
	vfio_machine_free(m);
	assert_int_equal(vf.kvm_groups, 0);
}

static void taken_over(void **state)
{
	struct machine *m = vfio_running();
	struct fake_blob blob;
	struct error err = {0};
	guest_driver(m);
	unsigned set_irqs = vf.set_irqs;
	uint32_t command = hw_config(PCI_COMMAND, 2);
	int fd6 = vfio_of(m)->msix.vec.src[6].fd;
	update(m, &blob);

	struct machine *next = successor(m, &blob);
	assert_int_equal(take(next, &err), 0);
	assert_string_equal(kernel.calls, "U0 M0 U1 M1 ");
	assert_ranges(next, true);
	assert_int_equal(fake.irqfds, 0);
	fake_start(next, NULL);
	assert_int_equal(fake.irqfds, 2);
	assert_int_equal(fake.fds[fd6], vfio_of(next)->state.msix.gsi[6] + 1);
	assert_int_equal(vfio_of(next)->state.msix.gsi[6], vfio_of(m)->state.msix.gsi[6]);
	/* Nothing of the device was touched. */
	assert_int_equal(vf.resets, 1);
	assert_int_equal(vf.set_irqs, set_irqs);
	assert_int_equal(hw_config(PCI_COMMAND, 2), command);
	/* Mapped as it was. */
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++)
		assert_int_equal(next->vm.slots[i].gpa, m->vm.slots[i].gpa);
	assert_memory_equal(&vfio_of(next)->state, &vfio_of(m)->state, sizeof(struct vfio_state));
	for (unsigned i = 0; i < next->fds.n; i++)
		assert_true(next->fds.e[i].taken);
	/* And it lives: the guest goes back to INTx. */
	config_put(next, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(vf.irq_index, VFIO_PCI_INTX_IRQ_INDEX);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

static void taken_over_intx(void **state)
{
	struct machine *m = vfio_running();
	struct fake_blob blob;
	struct error err = {0};
	unsigned set_irqs = vf.set_irqs;
	int fd = vfio_of(m)->intx.fd;
	update(m, &blob);
	struct machine *next = successor(m, &blob);
	assert_int_equal(take(next, &err), 0);
	fake_start(next, NULL);
	assert_int_equal(fake.fds[fd], 17 + 1);
	assert_int_equal(vf.set_irqs, set_irqs);
	vfio_machine_free(m); /* the incumbent ends last: its groups go with its VM */
	assert_int_equal(vf.kvm_groups, 1);
	assert_ranges(next, true);
	vfio_machine_free(next);
	free(blob.data);
}

/* Somebody had begun: one range has no address, the other a third process's. */
static void mixed_ranges(void **state)
{
	struct machine *m = vfio_running();
	struct fake_blob blob;
	struct error err = {0};
	update(m, &blob);
	struct machine *next = successor(m, &blob);
	vf.ranges[0].valid = false;
	vf.ranges[1].vaddr = 0xdead000;
	assert_int_equal(take(next, &err), 0);
	assert_ranges(next, true);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

/* Each place where the kernel may refuse: it is told, and the next try does all that is left. */
static void taken_in_a_second_try(void **state)
{
	for (unsigned failing = 1; failing <= 2; failing++) {
		struct machine *m = vfio_running();
		struct fake_blob blob;
		struct error err = {0};
		update(m, &blob);
		struct machine *next = successor(m, &blob);
		kernel.failing = failing;
		assert_int_equal(take(next, &err), -ENOMEM);
		assert_string_equal(kernel.calls, failing == 1 ? "U0 M0 " : "U0 M0 U1 M1 ");
		assert_non_null(strstr(err.text, failing == 1 ? "0x0+" : "0x100000000+"));
		assert_false(vf.ranges[failing - 1].valid);
		err = (struct error){0};
		assert_int_equal(take(next, &err), 0);
		assert_string_equal(kernel.calls, "U0 M0 U1 M1 ");
		assert_ranges(next, true);
		vfio_machine_free(next);
		vfio_machine_free(m);
		free(blob.data);
		fake_vfio_teardown(NULL);
		setup(NULL);
	}
}

static void memlock_refuses(void **state)
{
	struct machine *m = vfio_running();
	struct rlimit was, low = {1 * MIB, 0};
	struct error err = {0};
	const struct vfio_host here = vfio_host;
	getrlimit(RLIMIT_MEMLOCK, &was);
	low.rlim_max = was.rlim_max;
	setrlimit(RLIMIT_MEMLOCK, &low);
	/* Without a way to see a capability there is none. */
	vfio_host.proc = "/nonexistent";
	int rc = vfio_explain_memlock(vfio_dma_len(container_of(m)), &err);
	vfio_host = here;
	setrlimit(RLIMIT_MEMLOCK, &was);
	assert_int_equal(rc, -ENOMEM);
	assert_int_equal(err.exit, EXIT_HOST);
	assert_non_null(strstr(err.text, "65536 KiB"));
	assert_non_null(strstr(err.hint, "LimitMEMLOCK=67108864"));
	vfio_machine_free(m);
}

static void kernel_refuses(void **state)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	vf.update_vaddr = 0;
	assert_true(vfio_container_class.check(&container_of(m)->dev, &err) < 0);
	assert_non_null(strstr(err.text, "VFIO_UPDATE_VADDR"));
	/* What fails says on what. */
	vf.map_error = EFAULT;
	err = (struct error){0};
	assert_int_equal(take(m, &err), -EFAULT);
	assert_non_null(strstr(err.text, "0x3000000"));
	vf.map_error = 0;
	vfio_machine_free(m);
}

/* Changes the state before it is saved; loading must be refused with a reason. */
static void refused(void (*spoil)(struct vfio_dev *dev, struct vfio_container *c))
{
	struct machine *m = vfio_running();
	struct fake_blob blob;
	struct error err = {0};
	guest_driver(m);
	irq_detach_all(&m->irq, NULL);
	struct vfio_state *saved = malloc(sizeof(*saved));
	assert_non_null(saved);
	*saved = vfio_of(m)->state;
	struct vfio_container_state dma = container_of(m)->state;
	spoil(vfio_of(m), container_of(m));
	blob = fake_save(m);
	struct machine *next = vfio_machine(false);
	assert_true(fake_load(next, &blob, &err) < 0);
	assert_true(err.text[0]);
	vfio_machine_free(next);
	vfio_of(m)->state = *saved;
	container_of(m)->state = dma;
	vfio_machine_free(m);
	free(saved);
	free(blob.data);
	fake_vfio_teardown(NULL);
	setup(NULL);
}

static void spoil_mode(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.irq_mode = 77;
}

static void spoil_vectors(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.irq_vectors = 0x7fffffff;
}

static void spoil_more_vectors(struct vfio_dev *dev, struct vfio_container *c)
{
	/* With the descriptor that such a state would need. */
	char name[FDSET_NAME_LEN];
	snprintf(name, sizeof(name), "vfio:" BDF ":msix:%u", NVEC);
	assert_int_equal(fdset_keep(&dev->dev.m->fds, name, eventfd(0, 0), NULL), 0);
	dev->state.irq_vectors = NVEC + 1;
}

static void spoil_intx(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.irq_mode = VFIO_IRQ_INTX; /* whose eventfds were not kept */
	dev->state.irq_vectors = 0;
}

static void spoil_msi(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.irq_mode = VFIO_IRQ_MSI; /* which is not enabled */
}

static void spoil_msi_count(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.msi.vectors = NMSI + 1;
}

static void spoil_msix_count(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.msix.vectors = NVEC - 1;
}

static void spoil_gsi_twice(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.msix.gsi[6] = dev->state.msix.gsi[1];
}

static void spoil_ident(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.ident ^= 1;
}

static void spoil_bar(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.pci.bar_len[0] = 0x8000;
}

static void spoil_range_len(struct vfio_dev *dev, struct vfio_container *c)
{
	c->state.len[1] += PAGE_LEN;
}

static void spoil_range_offset(struct vfio_dev *dev, struct vfio_container *c)
{
	c->state.offset[1] = 0;
}

static void spoil_range_count(struct vfio_dev *dev, struct vfio_container *c)
{
	c->state.nranges = 0xffffffff;
}

static void spoil_group(struct vfio_dev *dev, struct vfio_container *c)
{
	c->files[0].number = 8;
}

static void spoil_more_groups(struct vfio_dev *dev, struct vfio_container *c)
{
	assert_int_equal(fdset_keep(&dev->dev.m->fds, "vfio-group:9", eventfd(0, 0), NULL), 0);
}

static void spoil_fewer_groups(struct vfio_dev *dev, struct vfio_container *c)
{
	c->files[c->nfiles].number = 9; /* whose descriptor is not handed over */
	c->files[c->nfiles++].fd = vf.group;
}

static void hostile_state(void **state)
{
	static void (*const spoils[])(struct vfio_dev *, struct vfio_container *) = {
		spoil_mode,	   spoil_vectors,   spoil_more_vectors, spoil_intx,
		spoil_msi,	   spoil_msi_count, spoil_msix_count,	spoil_gsi_twice,
		spoil_ident,	   spoil_bar,	    spoil_range_len,	spoil_range_offset,
		spoil_range_count, spoil_group,	    spoil_more_groups,	spoil_fewer_groups,
	};
	for (unsigned i = 0; i < ARRAY_LEN(spoils); i++)
		refused(spoils[i]);
}

/* A vector that the guest wants and that had no eventfd gets one from who has the guest, not from who will have it. */
static void wanted_later(void **state)
{
	struct error err = {0};
	struct machine *m = vfio_running();
	guest_driver(m);
	vfio_of(m)->started = false; /* as if descriptors were short */
	uint64_t entry = pci_bar_addr(&vfio_of(m)->pci, 0) + 0x2000 + 16 * 4;
	guest_write(&m->mmio, entry, 8, 0xfee00000);
	guest_write(&m->mmio, entry + 8, 8, 0x44);
	assert_int_equal(vfio_of(m)->msix.vec.src[4].fd, -1);
	struct fake_blob blob;
	update(m, &blob);
	unsigned calls = vf.device_calls;
	struct machine *next = vfio_machine(false);
	if (fake_load(next, &blob, &err))
		fail_msg("%s", err.text);
	assert_int_equal(vf.device_calls, calls);
	assert_int_equal(vfio_of(next)->msix.vec.src[4].fd, -1);
	assert_int_equal(vfio_class.start(&vfio_of(next)->dev, &err), 0);
	assert_true(vfio_of(next)->msix.vec.src[4].fd >= 0);
	assert_int_equal(vf.device_calls, calls + 1);
	irq_attach_all(&next->irq, IRQ_MSI);
	assert_int_equal(fake.irqfds, 3);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

static volatile sig_atomic_t woken;
static void wake(int sig)
{
	woken++;
}

/* The host's word about a device reaches the leader once, over an update too, and the state remembers it. */
static void trouble(void **state)
{
	const uint64_t one = 1;
	struct error err = {0};
	signal(MACHINE_WAKE_SIGNAL, wake);
	woken = 0;
	struct machine *m = vfio_running();
	struct device *dev = &vfio_of(m)->dev;
	m->leader = pthread_self();
	vfio_of(m)->unbind = VFIO_UNBIND_POWEROFF;
	assert_null(dev->trouble);
	assert_int_equal(write(vf.trouble_fd[0], &one, sizeof(one)), sizeof(one));
	assert_int_equal(serve_loop(m), 1);
	assert_int_equal(woken, 1);
	assert_true(dev->told && !dev->ends_guest);
	assert_non_null(strstr(dev->trouble, "has failed"));
	assert_int_equal(write(vf.trouble_fd[0], &one, sizeof(one)), sizeof(one));
	assert_int_equal(serve_loop(m), 1);
	assert_int_equal(woken, 1);

	struct fake_blob blob;
	update(m, &blob);
	assert_int_equal(write(vf.trouble_fd[1], &one, sizeof(one)), sizeof(one));
	struct machine *next = vfio_machine(false);
	vfio_of(next)->unbind = VFIO_UNBIND_POWEROFF;
	next->leader = pthread_self();
	if (fake_load(next, &blob, &err))
		fail_msg("%s", err.text);
	assert_non_null(strstr(vfio_of(next)->dev.trouble, "has failed"));
	assert_false(vfio_of(next)->dev.told);
	assert_int_equal(serve_loop(next), 1);
	assert_int_equal(woken, 2);
	assert_true(vfio_of(next)->dev.told && vfio_of(next)->dev.ends_guest);
	assert_non_null(strstr(vfio_of(next)->dev.trouble, "wanted back"));
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

static void fields_cover(void **state)
{
	struct machine *m = vfio_running();
	for (unsigned i = 0; i < m->tree.n; i++)
		assert_int_equal(unit_uncovered(m->tree.sections[i].cls),
				 m->tree.sections[i].cls->size);
	vfio_machine_free(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fake_vfio_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fresh_mapping),   TEST(called_off),
		TEST(joined_again),    TEST(taken_over),
		TEST(taken_over_intx), TEST(mixed_ranges),
		TEST(memlock_refuses), TEST(taken_in_a_second_try),
		TEST(kernel_refuses),  TEST(hostile_state),
		TEST(wanted_later),    TEST(trouble),
		TEST(fields_cover),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
