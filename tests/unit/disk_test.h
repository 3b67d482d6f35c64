/* SPDX-License-Identifier: MIT */
/*
 * A disk in a file, with its threads, and a driver that asks for anything. One file of a program includes this.
 */
#ifndef MOLT_TESTS_DISK_TEST_H
#define MOLT_TESTS_DISK_TEST_H

#include "tests/unit/fake_virtio.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "devices/virtio/disk.h"

#define SECTORS	   4096u
#define STATUS_GPA (DATA_GPA + 0x1000)
#define BUF_GPA	   (HIGH_GPA + 0x2000)

static char image[] = "/tmp/molt-disk.XXXXXX";
static int image_fd;
static struct disk *disk;
static const char *engine; /* each test is of every one */

static void machine_with(const char *words)
{
	static char arg[128];
	snprintf(arg, sizeof(arg), "%s%s,aio=%s", image, words, engine);
	m = virtio_machine(true, &disk_class, arg, NULL);
	disk = (struct disk *)m->devices[1];
}

static void start_with(const char *words)
{
	machine_with(words);
	virtio_run();
	driver_start(disk->virtio.features);
}

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	strcpy(strrchr(image, '.'), ".XXXXXX");
	image_fd = mkstemp(image);
	assert_true(image_fd >= 0);
	assert_int_equal(ftruncate(image_fd, SECTORS * DISK_SECTOR), 0);
	return 0;
}

static int teardown(void **state)
{
	if (m)
		virtio_free();
	m = NULL;
	close(image_fd);
	unlink(image);
	return 0;
}

/* Of the request whose first descriptor is 0: its status. */
static uint8_t answer(void)
{
	*mem(STATUS_GPA) = 0xee;
	offer(0);
	ring_bell(&disk->virtio, 0);
	WAIT_UNTIL(*mem(STATUS_GPA) != 0xee);
	return *mem(STATUS_GPA);
}

/* One request of @len bytes at BUF_GPA: its status. */
static uint8_t ask(uint32_t type, uint64_t sector, uint32_t len)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct virtio_blk_outhdr head = {.type = type, .sector = sector};
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	desc_put(0, DATA_GPA, sizeof(head), VRING_DESC_F_NEXT, len ? 1 : 2);
	desc_put(1, BUF_GPA, len, VRING_DESC_F_NEXT | (in ? VRING_DESC_F_WRITE : 0), 2);
	desc_put(2, STATUS_GPA, 1, VRING_DESC_F_WRITE, 0);
	return answer();
}

static inline uint32_t written(void)
{
	return used_ring()->ring[(used_ring()->idx - 1) % QUEUE_LEN].len;
}

static inline void fill(uint8_t seed, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		mem(BUF_GPA)[i] = (uint8_t)(seed + i * 7 + i / 512);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
