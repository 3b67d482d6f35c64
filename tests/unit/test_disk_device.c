/* SPDX-License-Identifier: MIT */
/* A disk as a device: its options, file, queues and size, and an update's steps. */
#include "tests/unit/disk_test.h"

/* What is in flight is waited for, and nothing is taken then; what comes meanwhile is done when the threads serve. */
static void waits_for_requests(void **state)
{
	struct error err = {0};
	struct virtio_blk_outhdr head = {.type = VIRTIO_BLK_T_IN, .sector = 3};
	machine_with("");
	assert_int_equal(fake_realize(m, &err), 0);
	assert_int_equal(fake_reset(m, &err), 0);
	assert_int_equal(disk_class.spawn(m->devices[1], &err), 0);
	assert_int_equal(fake_start(m, &err), 0);
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	driver_start(disk->virtio.features);
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	desc_put(0, DATA_GPA, 16, VRING_DESC_F_NEXT, 1);
	desc_put(1, BUF_GPA, 513, VRING_DESC_F_WRITE, 0);
	offer(0);
	ring_bell(&disk->virtio, 0);
	assert_null(disk_request_take(disk)); /* not served yet */
	virtio_dev_serve(&disk->virtio);      /* but by this thread */
	struct disk_request *r = disk_request_take(disk);
	assert_non_null(r);
	assert_int_equal(disk_class.quiesce(m->devices[1], &err), -EBUSY);
	assert_non_null(strstr(err.text, "a read of 512 bytes at byte 1536, since "));
	assert_non_null(strstr(err.text, image));
	offer(0);
	ring_bell(&disk->virtio, 0);
	assert_null(disk_request_take(disk));
	disk_request_done(disk, r);
	assert_int_equal(disk_class.quiesce(m->devices[1], &err), 0);
	assert_int_equal(used_ring()->idx, 1);
	pthread_mutex_lock(&m->lock);
	assert_int_equal(disk_class.serve(m->devices[1], &err), 0);
	pthread_mutex_unlock(&m->lock);
	WAIT_UNTIL(used_ring()->idx == 2);
	/* The same with threads; and an update that is called off. */
	pthread_mutex_lock(&m->lock);
	assert_int_equal(disk_class.quiesce(m->devices[1], &err), 0);
	pthread_mutex_unlock(&m->lock);
	offer(0);
	ring_bell(&disk->virtio, 0);
	usleep(1000);
	WAIT_UNTIL(disk->virtio.in_flight == 0 && used_ring()->idx == 2);
	pthread_mutex_lock(&m->lock);
	disk_class.resume(m->devices[1]);
	pthread_mutex_unlock(&m->lock);
	WAIT_UNTIL(used_ring()->idx == 3);
}

static void one_writer(void **state)
{
	struct error err = {0};
	start_with("");
	struct disk other = {.readonly = false};
	strcpy(other.path, image);
	assert_int_equal(disk_file_open(&other, &err), -EBUSY);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_non_null(strstr(err.text, image));
	other.readonly = true;
	assert_int_equal(disk_file_open(&other, &err), -EBUSY);
	virtio_free();
	start_with(",ro");
	int fd = disk_file_open(&other, &err);
	assert_true(fd >= 0);
	close(fd);
	other.readonly = false;
	assert_int_equal(disk_file_open(&other, &err), -EBUSY);
}

static void what_is_no_disk(void **state)
{
	static const struct {
		const char *path;
		int code;
	} none[] = {{"/tmp", EISDIR}, {"/dev/null", EINVAL}, {"/nowhere/at/all", ENOENT}};
	struct error err;
	struct disk d = {0};
	for (unsigned i = 0; i < ARRAY_LEN(none); i++) {
		strcpy(d.path, none[i].path);
		assert_int_equal(disk_file_open(&d, &err), -none[i].code);
		assert_int_equal(err.exit, EXIT_CONFIG);
		assert_non_null(strstr(err.text, none[i].path));
		assert_true(err.hint[0]);
	}
	strcpy(d.path, image);
	assert_int_equal(ftruncate(image_fd, 513), 0);
	assert_int_equal(disk_file_open(&d, &err), -EINVAL);
	assert_int_equal(ftruncate(image_fd, 0), 0);
	assert_int_equal(disk_file_open(&d, &err), -EINVAL);
}

static void options(void **state)
{
	static const char *const bad[] = {
		"",
		",ro",
		"a,rw",
		"a,",
		"a,serial=",
		"a,serial=123456789012345678901",
		"a,RO",
		"a,queues=",
		"a,queues=0",
		"a,queues=17",
		"a,queues=2x",
		"a,queues=-1",
		"a,aio=",
		"a,aio=native",
	};
	struct machine *plain = fake_machine(true);
	struct error err;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(machine_add_device(plain, &disk_class, bad[i], &err), -EINVAL);
		assert_int_equal(err.exit, EXIT_USAGE);
	}
	assert_int_equal(machine_add_device(plain, &disk_class,
					    "/x y,direct,ro,serial=12345678901234567890", &err),
			 0);
	struct disk *d = (struct disk *)plain->devices[1];
	assert_string_equal(d->path, "/x y");
	assert_true(d->direct && d->readonly);
	assert_int_equal(strlen(d->serial), 20);
	fake_destroy(plain);
}

static void grows_with_its_file(void **state)
{
	struct error err = {0};
	uint64_t bytes;
	machine_with("");
	virtio_run();
	assert_int_equal(ftruncate(image_fd, (SECTORS + 2) * DISK_SECTOR), 0);
	assert_int_equal(disk_class.rescan(&disk->dev, &bytes, &err), 1);
	/* Who has not started yet hears nothing, but reads the new size. */
	msix_on(2);
	driver_start(disk->virtio.features);
	reg_put(VIRTIO_PCI_COMMON_MSIX, 2, 0);
	assert_int_equal(counted("disk@0:msix:0"), 0);
	assert_int_equal(reg_get(AT_CONFIG, 4), SECTORS + 2);
	unsigned generation = reg_get(VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	assert_int_equal(disk_class.rescan(&disk->dev, &bytes, &err), 0);
	assert_int_equal(counted("disk@0:msix:0"), 0);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, SECTORS + 2, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ftruncate(image_fd, (SECTORS + 8) * DISK_SECTOR), 0);
	assert_int_equal(disk_class.rescan(&disk->dev, &bytes, &err), 1);
	assert_int_equal(bytes, (SECTORS + 8) * DISK_SECTOR);
	assert_int_equal(counted("disk@0:msix:0"), 1);
	assert_int_equal(reg_get(AT_CONFIG, 4), SECTORS + 8);
	assert_int_not_equal(reg_get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, SECTORS + 7, 512), VIRTIO_BLK_S_OK);
	/* It never shrinks, and nobody measures it in parts of a sector. */
	assert_int_equal(ftruncate(image_fd, (SECTORS + 7) * DISK_SECTOR), 0);
	assert_int_equal(disk_class.rescan(&disk->dev, &bytes, &err), -ERANGE);
	assert_non_null(strstr(err.text, image));
	assert_true(err.hint[0]);
	assert_int_equal(ftruncate(image_fd, (SECTORS + 9) * DISK_SECTOR + 1), 0);
	assert_int_equal(disk_class.rescan(&disk->dev, &bytes, &err), -EINVAL);
	assert_int_equal(reg_get(AT_CONFIG, 4), SECTORS + 8);
	assert_int_equal(counted("disk@0:msix:0"), 0);
}

/* The size that the guest was told is state; one that cannot be is refused. */
static void size_is_state(void **state)
{
	struct error err = {0};
	start_with("");
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	disk->state.sectors -= 8;
	for (unsigned bad = 0; bad < 2; bad++) {
		disk->state.block_len = bad ? 0 : 512;
		irq_detach_all(&m->irq, NULL);
		struct fake_blob blob = fake_save(m);
		struct machine *next = virtio_machine(false, &disk_class, image, m->ram.hva);
		assert_int_equal(fake_load(next, &blob, &err), bad ? -EBADMSG : 0);
		struct disk *d = (struct disk *)next->devices[1];
		if (!bad)
			assert_int_equal(d->config.capacity, SECTORS - 8);
		virtio_leave(next);
		free(blob.data);
	}
	assert_int_equal(unit_uncovered(disk_class.state), disk_class.state->size);
}

#define RINGS_1 (RING_GPA + 4 * PAGE_LEN) /* those of the second queue */

/* A request in the queue whose rings are at @rings: its status. */
static uint8_t answer_in(unsigned q, uint64_t rings, uint64_t sector)
{
	struct vring_desc *d = (struct vring_desc *)mem(rings);
	struct vring_avail *a = (struct vring_avail *)mem(rings + PAGE_LEN);
	struct virtio_blk_outhdr head = {.type = VIRTIO_BLK_T_OUT, .sector = sector};
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	d[0] = (struct vring_desc){DATA_GPA, sizeof(head), VRING_DESC_F_NEXT, 1};
	d[1] = (struct vring_desc){BUF_GPA, 512, VRING_DESC_F_NEXT, 2};
	d[2] = (struct vring_desc){STATUS_GPA, 1, VRING_DESC_F_WRITE, 0};
	*mem(STATUS_GPA) = 0xee;
	a->ring[a->idx % QUEUE_LEN] = 0;
	a->idx++;
	ring_bell(&disk->virtio, q);
	WAIT_UNTIL(*mem(STATUS_GPA) != 0xee);
	return *mem(STATUS_GPA);
}

/* Each with its own doorbell, vector and rings. */
static void several_queues(void **state)
{
	struct error err = {0};
	machine_with(",queues=2");
	virtio_run();
	msix_on(3);
	assert_true(negotiate(1ull << VIRTIO_BLK_F_MQ));
	assert_int_equal(reg_get(AT_CONFIG + offsetof(struct virtio_blk_config, num_queues), 2), 2);
	queue_set_up(0, RING_GPA, QUEUE_LEN, 1);
	queue_set_up(1, RINGS_1, QUEUE_LEN, 2);
	driver_ok();
	assert_int_equal(answer_in(1, RINGS_1, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(((struct vring_used *)mem(RINGS_1 + 2 * PAGE_LEN))->idx, 1);
	assert_int_equal(used_ring()->idx, 0);
	assert_int_equal(counted("disk@0:msix:1"), 0);
	assert_int_equal(counted("disk@0:msix:2"), 1);
	assert_int_equal(answer_in(0, RING_GPA, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(used_ring()->idx, 1);
	assert_int_equal(counted("disk@0:msix:1"), 1);
	assert_int_equal(counted("disk@0:msix:2"), 0);
	/* A program that has another number of them says no. */
	irq_detach_all(&m->irq, NULL);
	struct fake_blob blob = fake_save(m);
	struct machine *next = virtio_machine(false, &disk_class, image, m->ram.hva);
	assert_int_equal(fake_load(next, &blob, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "3 vectors"));
	virtio_leave(next);
	free(blob.data);
}

static void a_driver_without_queues(void **state)
{
	start_with("");
	assert_false(disk->virtio.features >> VIRTIO_BLK_F_MQ & 1);
	assert_int_equal(reg_get(AT_CONFIG + offsetof(struct virtio_blk_config, num_queues), 2), 1);
	virtio_free();
	machine_with(",queues=16");
	virtio_run();
	driver_start(disk->virtio.features & ~(1ull << VIRTIO_BLK_F_MQ));
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, 3, 512), VIRTIO_BLK_S_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(waits_for_requests),
		TEST(several_queues),
		TEST(grows_with_its_file),
		TEST(a_driver_without_queues),
		TEST(one_writer),
		TEST(what_is_no_disk),
		TEST(options),
		TEST(size_is_state),
	};
	engine = "threads";
	int rc = cmocka_run_group_tests_name("threads", tests, NULL, NULL);
	engine = "io_uring";
	return rc + cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
}
