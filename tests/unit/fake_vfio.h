/* SPDX-License-Identifier: MIT */
/*
 * A passed-through device without VFIO: its regions are stretches of a memfd, the ioctls are
 * answered here, and the container behaves as the kernel's type1 does when DMA addresses are
 * renewed.
 */
#ifndef MOLT_TEST_FAKE_VFIO_H
#define MOLT_TEST_FAKE_VFIO_H

#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "devices/vfio/vfio.h"
#include "tests/unit/fake_machine.h"

#define BDF	   "0000:00:05.0"
#define BDF_SECOND "0000:00:06.0"

#define FAKE_RAM_LEN (64 * MIB)

/* Of the device: where its capabilities and regions are. */
#define PM_CAP	 0x40
#define MSI_CAP	 0x50
#define EXP_CAP	 0x70
#define MSIX_CAP 0xa0
#define NVEC	 8
#define NMSI	 4

static const struct {
	uint64_t fd_off, len;
	uint32_t flags;
} fake_regions[VFIO_PCI_NUM_REGIONS] = {
	[0] = {0x100000, 0x4000, 7}, /* read, write, mmap; MSI-X table in its page 2 */
	[1] = {0x200000, 0x20, 3},
	[2] = {0x300000, 0x10000, 15}, /* 64-bit, with sparse areas; pending bits in page 9 */
	[4] = {0x500000, 0x800, 7},    /* smaller than a page */
	[VFIO_PCI_ROM_REGION_INDEX] = {0x400000, 0x1800, 1},
	[VFIO_PCI_CONFIG_REGION_INDEX] = {0x10000, 0x1000, 3},
};

struct fake_range {
	uint64_t vaddr, iova, len;
	bool valid;
};

/* What the device was told of its interrupts. */
struct fake_irqs {
	uint32_t index; /* of the kind that is on: VFIO_PCI_*_IRQ_INDEX; ~0: none */
	unsigned fds, used;
	bool unmask_set;
};

static struct {
	int container, group, device;
	int second; /* another device of the same kind; -1: none */
	struct fake_irqs second_irqs;
	unsigned device_calls; /* ioctls on either */
	unsigned rom_calls;    /* of them, asking for the ROM's region */
	struct fake_range ranges[RAM_MAX_REGIONS];
	unsigned nranges;
	int map_error;
	uint64_t iova_end; /* last DMA address of the host; 0: of 64 bits */
	unsigned resets, set_irqs, update_vaddr;
	unsigned kvm_groups;
	uint32_t irq_index; /* of the kind that is on: VFIO_PCI_*_IRQ_INDEX; ~0: none */
	unsigned irq_fds, irq_used,
		irq_room;      /* vectors that the host gives, that have an eventfd, that it has */
	bool dynamic;	       /* it gives one at a time */
	unsigned vectors;      /* of MSI-X that the device has */
	int32_t trouble_fd[2]; /* errors, requests */
	bool unmask_set;
} vf;

static void config_le(unsigned off, uint32_t val, unsigned len)
{
	off_t at = (off_t)fake_regions[VFIO_PCI_CONFIG_REGION_INDEX].fd_off + off;
	assert_int_equal(pwrite(vf.device, &val, len, at), len);
}

static inline uint32_t hw_config(unsigned off, unsigned len)
{
	uint32_t val = 0;
	off_t at = (off_t)fake_regions[VFIO_PCI_CONFIG_REGION_INDEX].fd_off + off;
	assert_int_equal(pread(vf.device, &val, len, at), len);
	return val;
}

static void fake_device_fill(void)
{
	config_le(PCI_VENDOR_ID, 0x10d38086, 4);
	config_le(PCI_COMMAND, PCI_COMMAND_MEMORY, 2); /* as the host left it */
	config_le(PCI_STATUS, PCI_STATUS_CAP_LIST, 2);
	config_le(PCI_CLASS_DEVICE, 0x0200, 2);
	config_le(PCI_HEADER_TYPE, 0x80, 1);
	config_le(PCI_BASE_ADDRESS_0, 0xfeb00000, 4);
	config_le(PCI_BASE_ADDRESS_1, 0xc001, 4);
	config_le(PCI_BASE_ADDRESS_2, 0x0000000c, 4);
	config_le(PCI_BASE_ADDRESS_4, 0xfeb40000, 4);
	config_le(PCI_CAPABILITY_LIST, PM_CAP, 1);
	config_le(PCI_INTERRUPT_LINE, 11, 1);
	config_le(PCI_INTERRUPT_PIN, 1, 1);
	config_le(PM_CAP, PCI_CAP_ID_PM | MSI_CAP << 8, 2);
	config_le(MSI_CAP, PCI_CAP_ID_MSI | EXP_CAP << 8, 2);
	config_le(MSI_CAP + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 2 << 1, 2);
	config_le(EXP_CAP, PCI_CAP_ID_EXP | MSIX_CAP << 8, 2);
	config_le(EXP_CAP + PCI_EXP_FLAGS, 0x0002 | PCI_EXP_TYPE_ENDPOINT << 4, 2);
	config_le(MSIX_CAP, PCI_CAP_ID_MSIX, 2);
	config_le(MSIX_CAP + PCI_MSIX_FLAGS, vf.vectors - 1, 2);
	config_le(MSIX_CAP + PCI_MSIX_TABLE, 0x2000 | 0, 4);
	config_le(MSIX_CAP + PCI_MSIX_PBA, 0x9000 | 2, 4);
	/* AER, SR-IOV, serial number, and behind it in the chain but before it in place: ARI; resizable BARs, two of
	 * them. Behind ARI and those are registers that no capability names. */
	config_le(0x100, PCI_EXT_CAP_ID_ERR | 1 << 16 | 0x180u << 20, 4);
	config_le(0x180, PCI_EXT_CAP_ID_SRIOV | 1 << 16 | 0x1c0u << 20, 4);
	config_le(0x184, 0x5a5a5a5a, 4);
	config_le(0x1c0, PCI_EXT_CAP_ID_DSN | 1 << 16 | 0x160u << 20, 4);
	config_le(0x1c4, 0x12345678, 4);
	config_le(0x160, PCI_EXT_CAP_ID_ARI | 1 << 16 | 0x200u << 20, 4);
	config_le(0x164, 0x77777777, 4);
	config_le(0x168, 0x0badcafe, 4);
	config_le(0x200, PCI_EXT_CAP_ID_REBAR | 1 << 16, 4);
	config_le(0x208, 2 << PCI_REBAR_CTRL_NBAR_SHIFT, 4);
	config_le(0x210, 0x77777777, 4);
	config_le(0x214, 0x600df00d, 4);
	assert_int_equal(ftruncate(vf.device, 0x600000), 0);
}

static struct fake_range *range_find(uint64_t iova, uint64_t len)
{
	for (unsigned i = 0; i < vf.nranges; i++)
		if (vf.ranges[i].iova == iova && vf.ranges[i].len == len)
			return &vf.ranges[i];
	return NULL;
}

static long fake_map(const struct vfio_iommu_type1_dma_map *map)
{
	struct fake_range *r = range_find(map->iova, map->size);
	if (vf.map_error)
		return -vf.map_error;
	if (map->flags & VFIO_DMA_MAP_FLAG_VADDR) {
		if (!r)
			return -ENOENT;
		if (map->flags != VFIO_DMA_MAP_FLAG_VADDR || r->valid)
			return -EINVAL;
	} else if (r) {
		return -EEXIST;
	} else {
		r = &vf.ranges[vf.nranges++];
	}
	*r = (struct fake_range){map->vaddr, map->iova, map->size, true};
	return 0;
}

static long fake_unmap(struct vfio_iommu_type1_dma_unmap *unmap)
{
	bool all = unmap->flags & VFIO_DMA_UNMAP_FLAG_ALL;
	assert_true(unmap->flags & VFIO_DMA_UNMAP_FLAG_VADDR);
	if (all && (unmap->iova || unmap->size))
		return -EINVAL;
	for (unsigned i = 0; i < vf.nranges; i++)
		if ((all || vf.ranges[i].iova == unmap->iova) && !vf.ranges[i].valid)
			return -EINVAL;
	uint64_t sum = 0;
	for (unsigned i = 0; i < vf.nranges; i++) {
		if (!all && vf.ranges[i].iova != unmap->iova)
			continue;
		vf.ranges[i].valid = false;
		sum += vf.ranges[i].len;
	}
	unmap->size = sum;
	return 0;
}

static long fake_region_info(struct vfio_region_info *info)
{
	vf.rom_calls += info->index == VFIO_PCI_ROM_REGION_INDEX;
	info->offset = fake_regions[info->index].fd_off;
	info->size = fake_regions[info->index].len;
	info->flags = fake_regions[info->index].flags;
	if (!info->index && vf.vectors > NVEC)
		info->size = 0x10000;
	if (info->index == 2) {
		struct {
			struct vfio_region_info_cap_sparse_mmap cap;
			struct vfio_region_sparse_mmap_area area[2];
		} sparse = {
			.cap = {.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1},
				.nr_areas = 2},
			.area = {{0x1000, 0x2000}, {0x8000, 0x8000}}};
		assert_true(info->argsz >= sizeof(*info) + sizeof(sparse));
		info->cap_offset = sizeof(*info);
		memcpy(info + 1, &sparse, sizeof(sparse));
		info->argsz = sizeof(*info) + sizeof(sparse);
	}
	return 0;
}

/* As the kernel: the first call says how many there are; where they are given one at a time, later ones more. */
static long fake_set_vectors(const struct vfio_irq_set *set)
{
	int32_t fd;
	uint32_t end = set->start + set->count;
	if (vf.irq_index == ~0u) {
		if (end > vf.irq_room)
			return vf.irq_room ? (long)vf.irq_room : -ENOSPC;
		vf.irq_index = set->index;
		vf.irq_fds = end;
	} else if (vf.irq_index != set->index || (end > vf.irq_fds && !vf.dynamic)) {
		return -EINVAL; /* one kind at a time */
	} else if (end > vf.irq_fds && vf.irq_fds == vf.irq_room) {
		return -ENOSPC;
	} else if (end > vf.irq_fds) {
		vf.irq_fds++;
	}
	for (uint32_t i = 0; i < set->count; i++) {
		memcpy(&fd, set->data + i * sizeof(fd), sizeof(fd));
		vf.irq_used += fd >= 0;
	}
	return 0;
}

static long fake_set_irqs(const struct vfio_irq_set *set)
{
	if (set->index > VFIO_PCI_MSIX_IRQ_INDEX) { /* errors and requests */
		memcpy(&vf.trouble_fd[set->index - VFIO_PCI_ERR_IRQ_INDEX], set->data, 4);
		return 0;
	}
	vf.set_irqs++;
	if (set->flags & VFIO_IRQ_SET_ACTION_UNMASK) {
		assert_int_equal(set->index, VFIO_PCI_INTX_IRQ_INDEX);
		assert_int_equal(vf.irq_index, VFIO_PCI_INTX_IRQ_INDEX);
		vf.unmask_set = true;
		return 0;
	}
	if (!set->count) {
		assert_int_equal(vf.irq_index, set->index);
		vf.irq_index = ~0u;
		vf.irq_fds = vf.irq_used = 0;
		vf.unmask_set = false;
		return 0;
	}
	if (set->index != VFIO_PCI_INTX_IRQ_INDEX)
		return fake_set_vectors(set);
	if (vf.irq_index != ~0u)
		return -EINVAL;
	vf.irq_index = set->index;
	vf.irq_fds = set->count;
	return 0;
}

static long fake_device_ioctl(unsigned long request, void *arg)
{
	if (request == VFIO_DEVICE_GET_INFO) {
		struct vfio_device_info *info = arg;
		info->flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
		info->num_regions = VFIO_PCI_NUM_REGIONS;
		info->num_irqs = VFIO_PCI_NUM_IRQS;
	} else if (request == VFIO_DEVICE_GET_REGION_INFO) {
		return fake_region_info(arg);
	} else if (request == VFIO_DEVICE_GET_IRQ_INFO) {
		const unsigned count[] = {1, NMSI, vf.vectors, 1, 1};
		struct vfio_irq_info *info = arg;
		info->flags = VFIO_IRQ_INFO_EVENTFD | (vf.dynamic ? 0 : VFIO_IRQ_INFO_NORESIZE);
		info->count = count[info->index];
	} else if (request == VFIO_DEVICE_SET_IRQS) {
		return fake_set_irqs(arg);
	} else if (request == VFIO_DEVICE_RESET) {
		vf.resets++;
	} else {
		fail_msg("device ioctl 0x%lx", request);
	}
	return 0;
}

/* Behind another capability, two ranges of DMA addresses: with the gap for message interrupts between them. */
static long fake_iommu_info(struct vfio_iommu_type1_info *info)
{
	struct {
		struct vfio_info_cap_header other;
		uint64_t nothing;
		struct vfio_iommu_type1_info_cap_iova_range cap;
		struct vfio_iova_range range[2];
	} caps = {.other = {.id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, .version = 1},
		  .cap = {.header = {.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, .version = 1},
			  .nr_iovas = 2},
		  .range = {{0, 0xfedfffff}, {0xfef00000, vf.iova_end ?: UINT64_MAX}}};
	assert_true(info->argsz >= sizeof(*info) + sizeof(caps));
	caps.other.next = sizeof(*info) + offsetof(typeof(caps), cap);
	info->flags = VFIO_IOMMU_INFO_CAPS;
	info->cap_offset = sizeof(*info);
	memcpy(info + 1, &caps, sizeof(caps));
	info->argsz = sizeof(*info) + sizeof(caps);
	return 0;
}

/* The interrupts of vf are the first device's. */
static void fake_swap_irqs(void)
{
	struct fake_irqs first = {vf.irq_index, vf.irq_fds, vf.irq_used, vf.unmask_set};
	vf.irq_index = vf.second_irqs.index;
	vf.irq_fds = vf.second_irqs.fds;
	vf.irq_used = vf.second_irqs.used;
	vf.unmask_set = vf.second_irqs.unmask_set;
	vf.second_irqs = first;
}

static long fake_vfio_ioctl(int fd, unsigned long request, void *arg)
{
	vf.device_calls += fd == vf.device || fd == vf.second;
	if (fd == vf.device)
		return fake_device_ioctl(request, arg);
	if (fd == vf.second) {
		fake_swap_irqs();
		long rc = fake_device_ioctl(request, arg);
		fake_swap_irqs();
		return rc;
	}
	if (request == KVM_CREATE_DEVICE) {
		((struct kvm_create_device *)arg)->fd = (uint32_t)dup(vf.group);
		return 0;
	}
	if (request == KVM_SET_DEVICE_ATTR) {
		const struct kvm_device_attr *attr = arg;
		assert_int_equal(*(int32_t *)(uintptr_t)attr->addr, vf.group);
		vf.kvm_groups += attr->attr == KVM_DEV_VFIO_GROUP_ADD ? 1 : -1;
		return 0;
	}
	assert_int_equal(fd, vf.container);
	if (request == VFIO_IOMMU_MAP_DMA)
		return fake_map(arg);
	if (request == VFIO_IOMMU_UNMAP_DMA)
		return fake_unmap(arg);
	if (request == VFIO_IOMMU_GET_INFO)
		return fake_iommu_info(arg);
	if (request == VFIO_CHECK_EXTENSION)
		return (uintptr_t)arg == VFIO_UPDATE_VADDR ? vf.update_vaddr : 1;
	fail_msg("container ioctl 0x%lx", request);
	return -ENOTTY;
}

static int fake_vfio_setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	memset(&vf, 0, sizeof(vf));
	fake.ioctl = fake_vfio_ioctl;
	vf.container = eventfd(0, EFD_CLOEXEC);
	vf.group = eventfd(0, EFD_CLOEXEC);
	vf.device = memfd_create("device", MFD_CLOEXEC);
	vf.second = -1;
	vf.irq_index = ~0u;
	vf.irq_room = vf.vectors = NVEC;
	vf.update_vaddr = 1;
	fake_device_fill();
	return 0;
}

/* Before the machine runs: with so many vectors of MSI-X, up to 2048, whose table BAR 0 has room for. */
static inline void fake_vectors(unsigned n)
{
	vf.irq_room = vf.vectors = n;
	config_le(MSIX_CAP + PCI_MSIX_FLAGS, n - 1, 2);
}

/* Before the machine runs; the option's device comes with it. @id: what @arg names. */
static inline void fake_vfio_add(struct machine *m, const char *arg, const char *id)
{
	char name[FDSET_NAME_LEN];
	struct error err = {0};
	if (vf.second < 0) {
		int first = vf.device;
		vf.device = memfd_create("second device", MFD_CLOEXEC);
		vf.second_irqs.index = ~0u;
		fake_device_fill();
		vf.second = vf.device;
		vf.device = first;
	}
	snprintf(name, sizeof(name), "vfio:%s", id);
	if (machine_add_device(m, &vfio_class, arg, &err) ||
	    (m->fresh && fdset_keep(&m->fds, name, vf.second, &err)))
		fail_msg("%s", err.text);
}

static inline void fake_vfio_second(struct machine *m)
{
	fake_vfio_add(m, BDF_SECOND, BDF_SECOND);
}

static int fake_vfio_teardown(void **state)
{
	if (vf.second >= 0)
		close(vf.second);

	close(vf.container);
	close(vf.group);
	close(vf.device);
	return 0;
}

/* Memory in two regions, in a mapping of its own as every program has. */
static inline struct machine *vfio_machine_of(const char *arg, bool fresh)
{
	struct machine *m = fake_machine(fresh);
	struct error err = {0};
	m->ram.state = (struct ram_state){.size = FAKE_RAM_LEN,
					  .page_len = PAGE_LEN,
					  .nregions = 2,
					  .gpa = {0, 4 * GIB},
					  .len = {48 * MIB, 16 * MIB},
					  .offset = {0, 48 * MIB}};
	m->ram.hva = mmap(NULL, FAKE_RAM_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(m->ram.hva, MAP_FAILED);
	if (machine_add_device(m, &vfio_class, arg, &err) ||
	    loop_init(&m->loop, "test", SECCOMP_LOOP, &m->lock, &err))
		fail_msg("%s", err.text);
	return m;
}

static inline struct machine *vfio_machine(bool fresh)
{
	return vfio_machine_of(BDF, fresh);
}

/* What the machine's event loop would do now. Returns how many descriptors were served. */
static inline unsigned serve_loop(struct machine *m)
{
	struct epoll_event ev;
	unsigned n = 0;
	for (; epoll_wait(m->loop.epoll_fd, &ev, 1, 0) == 1; n++) {
		struct loop_watch *w = ev.data.ptr;
		w->handler(w->opaque, ev.events);
	}
	return n;
}

static inline struct vfio_dev *vfio_of(struct machine *m)
{
	return (struct vfio_dev *)machine_device(m, "vfio", NULL);
}

static inline struct vfio_container *container_of(struct machine *m)
{
	return (struct vfio_container *)machine_device(m, "vfio-container", NULL);
}

/* Starts a fresh guest; /dev/vfio has been opened already. */
static void vfio_run(struct machine *m)
{
	struct error err = {0};
	assert_int_equal(fdset_keep(&m->fds, "container0", vf.container, &err), 0);
	assert_int_equal(fdset_keep(&m->fds, "vfio-group:7", vf.group, &err), 0);
	assert_int_equal(fdset_keep(&m->fds, "vfio:" BDF, vf.device, &err), 0);
	if (fake_realize(m, &err) || fake_reset(m, &err) || fake_start(m, &err))
		fail_msg("%s", err.text);
}

static inline struct machine *vfio_running(void)
{
	struct machine *m = vfio_machine(true);
	vfio_run(m);
	return m;
}

/* 0.1.0 had an eventfd for each vector, used or not. */
static inline void fake_all_vectors(struct machine *m)
{
	char name[FDSET_NAME_LEN];
	struct error err = {0};
	for (unsigned i = 0; i < NVEC; i++) {
		snprintf(name, sizeof(name), "vfio:" BDF ":msix:%u", i);
		if (fdset_get(&m->fds, name) < 0)
			assert_int_equal(fdset_keep(&m->fds, name, eventfd(0, EFD_CLOEXEC), &err),
					 0);
	}
}

/* The devices, and then the loop that they were watched by. */
static void vfio_devices_free(struct machine *m)
{
	struct loop_watch *next;
	for (unsigned i = m->ndevices; i-- > 0;)
		device_destroy(m->devices[i]);
	m->ndevices = 0;
	for (struct loop_watch *w = m->loop.watches; w; w = next) {
		next = w->next;
		free(w);
	}
	close(m->loop.epoll_fd);
}

static void vfio_machine_free(struct machine *m)
{
	munmap(m->ram.hva, FAKE_RAM_LEN);
	vfio_devices_free(m);
	fake_destroy(m);
}

#endif
