/* SPDX-License-Identifier: MIT */
/* What a driver asks of a disk in a file: any request, well formed or not. */
#include "tests/unit/disk_test.h"

static void reads_and_writes(void **state)
{
	static uint8_t want[8192], got[8192];
	start_with("");
	assert_int_equal(reg_get(AT_CONFIG, 4), SECTORS);
	fill(3, 8192);
	memcpy(want, mem(BUF_GPA), 8192);
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, 5, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(written(), 1);
	assert_int_equal(pread(image_fd, got, 8192, 5 * DISK_SECTOR), 8192);
	assert_memory_equal(got, want, 8192);
	memset(mem(BUF_GPA), 0, 8192);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 5, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(written(), 8193);
	assert_memory_equal(mem(BUF_GPA), want, 8192);
	assert_int_equal(ask(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	/* The last sector, and the one behind it. */
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, SECTORS - 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, SECTORS, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, SECTORS - 1, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, UINT64_MAX, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, 511), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(77, 0, 512), VIRTIO_BLK_S_UNSUPP);
	struct stat st;
	assert_int_equal(fstat(image_fd, &st), 0);
	assert_int_equal(st.st_size, SECTORS * DISK_SECTOR);
}

/* Header, data and status cut in any way (2.7.4). */
static void cut_anyhow(void **state)
{
	start_with("");
	fill(9, 512);
	struct virtio_blk_outhdr head = {.type = VIRTIO_BLK_T_OUT, .sector = 8};
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	memcpy(mem(DATA_GPA + 16), mem(BUF_GPA), 100);
	desc_put(0, DATA_GPA, 5, VRING_DESC_F_NEXT, 1);
	desc_put(1, DATA_GPA + 5, 111, VRING_DESC_F_NEXT, 2); /* rest of the header, and data */
	desc_put(2, BUF_GPA + 100, 412, VRING_DESC_F_NEXT, 3);
	desc_put(3, STATUS_GPA, 1, VRING_DESC_F_WRITE, 0);
	assert_int_equal(answer(), VIRTIO_BLK_S_OK);
	uint8_t got[512];
	assert_int_equal(pread(image_fd, got, 512, 8 * DISK_SECTOR), 512);
	assert_memory_equal(got, mem(BUF_GPA), 512);
	/* And read: data and status in one buffer. */
	head.type = VIRTIO_BLK_T_IN;
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	desc_put(0, DATA_GPA, 16, VRING_DESC_F_NEXT, 1);
	desc_put(1, DATA_GPA + 0x800, 513, VRING_DESC_F_WRITE, 0);
	offer(0);
	ring_bell(&disk->virtio, 0);
	WAIT_UNTIL(used_ring()->idx == 2);
	assert_int_equal(*mem(DATA_GPA + 0x800 + 512), VIRTIO_BLK_S_OK);
	assert_memory_equal(mem(DATA_GPA + 0x800), got, 512);
}

static uint8_t ask_range(uint32_t type, uint64_t sector, uint32_t n, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes seg = {sector, n, flags};
	memcpy(mem(BUF_GPA), &seg, sizeof(seg));
	return ask(type, 0, sizeof(seg));
}

static void discards_and_zeroes(void **state)
{
	static uint8_t ones[4096], got[4096], none[4096];
	memset(ones, 0xff, sizeof(ones));
	start_with("");
	for (unsigned unmap = 0; unmap < 2; unmap++) {
		assert_int_equal(pwrite(image_fd, ones, 4096, 0), 4096);
		assert_int_equal(ask_range(VIRTIO_BLK_T_WRITE_ZEROES, 1, 3, unmap),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(pread(image_fd, got, 4096, 0), 4096);
		assert_memory_equal(got, ones, 512);
		assert_memory_equal(got + 512, none, 1536);
		assert_memory_equal(got + 2048, ones, 2048);
	}
	assert_int_equal(ask_range(VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(ask_range(VIRTIO_BLK_T_DISCARD, 0, 8, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ask_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 2), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ask_range(VIRTIO_BLK_T_DISCARD, SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask_range(VIRTIO_BLK_T_DISCARD, 1, SECTORS, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask_range(VIRTIO_BLK_T_DISCARD, UINT64_MAX, UINT32_MAX, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_DISCARD, 0, 15), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_DISCARD, 0, 32), VIRTIO_BLK_S_IOERR);
}

/* As many buffers of @len bytes as it takes, in a table of their own: a driver may name the same memory again. */
static uint8_t read_many(uint64_t bytes, uint32_t len)
{
	struct vring_desc *table = (struct vring_desc *)mem(DATA_GPA + 0x2000);
	struct virtio_blk_outhdr head = {.type = VIRTIO_BLK_T_IN};
	uint16_t n = 0;
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	table[n++] = (struct vring_desc){DATA_GPA, sizeof(head), VRING_DESC_F_NEXT, 1};
	while (bytes) {
		uint32_t part = bytes < len ? (uint32_t)bytes : len;
		uint16_t flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE;
		table[n] = (struct vring_desc){HIGH_GPA, part, flags, (uint16_t)(n + 1)};
		n++;
		bytes -= part;
	}
	table[n++] = (struct vring_desc){STATUS_GPA, 1, VRING_DESC_F_WRITE, 0};
	desc_put(0, DATA_GPA + 0x2000, n * sizeof(*table), VRING_DESC_F_INDIRECT, 0);
	return answer();
}

/* An update waits for what is in flight, and no guest can make that last. */
static void none_too_long(void **state)
{
	assert_int_equal(ftruncate(image_fd, 4 * DISK_REQUEST_MAX), 0);
	start_with("");
	unsigned most = reg_get(AT_CONFIG + offsetof(struct virtio_blk_config, size_max), 4) *
			reg_get(AT_CONFIG + offsetof(struct virtio_blk_config, seg_max), 4);
	assert_in_range(most, MIB, DISK_REQUEST_MAX);
	assert_true(disk->virtio.features >> VIRTIO_BLK_F_SIZE_MAX & 1);
	assert_int_equal(read_many(DISK_REQUEST_MAX, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(written(), DISK_REQUEST_MAX + 1);
	assert_int_equal(read_many(DISK_REQUEST_MAX + DISK_SECTOR, MIB), VIRTIO_BLK_S_IOERR);
	for (uint32_t type = VIRTIO_BLK_T_DISCARD; type <= VIRTIO_BLK_T_WRITE_ZEROES; type += 2) {
		bool zero = type == VIRTIO_BLK_T_WRITE_ZEROES;
		uint32_t max = reg_get(
			AT_CONFIG +
				(zero ? offsetof(struct virtio_blk_config, max_write_zeroes_sectors)
				      : offsetof(struct virtio_blk_config, max_discard_sectors)),
			4);
		assert_int_equal(ask_range(type, 0, max, zero), VIRTIO_BLK_S_OK);
		assert_int_equal(ask_range(type, 0, max + 1, zero), VIRTIO_BLK_S_IOERR);
	}
}

/* A request of any kind whose data is missing, after one that was done: it is not done again. */
static void none_without_data(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_GET_ID,
					 VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	uint8_t first, got;
	start_with("");
	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		fill(1, 512);
		first = *mem(BUF_GPA);
		assert_int_equal(ask(VIRTIO_BLK_T_OUT, 7, 512), VIRTIO_BLK_S_OK);
		memset(mem(BUF_GPA), 0x11, 512); /* the driver has its buffer again */
		assert_int_equal(ask(types[i], 7, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(written(), 1);
		assert_int_equal(pread(image_fd, &got, 1, 7 * DISK_SECTOR), 1);
		assert_int_equal(got, first);
	}
}

static void has_its_serial(void **state)
{
	start_with(",serial=root-of-all");
	memset(mem(BUF_GPA), 0xff, 32);
	assert_int_equal(ask(VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	assert_string_equal((char *)mem(BUF_GPA), "root-of-all");
	assert_int_equal(written(), 21);
	assert_int_equal(ask(VIRTIO_BLK_T_GET_ID, 0, 4), VIRTIO_BLK_S_OK);
	assert_int_equal(written(), 5);
}

static void readonly_is_never_written(void **state)
{
	start_with(",ro");
	assert_true(disk->virtio.features >> VIRTIO_BLK_F_RO & 1);
	assert_false(disk->virtio.features >> VIRTIO_BLK_F_DISCARD & 1);
	fill(1, 512);
	assert_int_equal(ask(VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(fcntl(disk->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

/* Requests that are none: the guest gets what it can be told. */
static void malformed(void **state)
{
	start_with("");
	desc_put(0, DATA_GPA, 15, VRING_DESC_F_NEXT, 1); /* no whole header */
	desc_put(1, STATUS_GPA, 1, VRING_DESC_F_WRITE, 0);
	assert_int_equal(answer(), VIRTIO_BLK_S_IOERR);
	assert_false(needs_reset());
	desc_put(0, DATA_GPA, 16, 0, 0); /* no status */
	offer(0);
	ring_bell(&disk->virtio, 0);
	WAIT_UNTIL(needs_reset());
	assert_int_equal(disk->virtio.in_flight, 0);
	driver_start(disk->virtio.features);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
}

/* The host's errors are the guest's. */
static void host_errors(void **state)
{
	start_with("");
	assert_int_equal(ftruncate(image_fd, 512), 0);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 1, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(written(), 1);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ask(VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	assert_false(needs_reset());
}

/* More than the queue has room for, many times. */
static void many_at_once(void **state)
{
	start_with("");
	for (unsigned round = 0; round < 50; round++) {
		struct virtio_blk_outhdr head = {.type = VIRTIO_BLK_T_OUT, .sector = round};
		memcpy(mem(DATA_GPA), &head, sizeof(head));
		desc_put(0, DATA_GPA, 16, VRING_DESC_F_NEXT, 1);
		desc_put(1, BUF_GPA, 512, VRING_DESC_F_NEXT, 2);
		desc_put(2, STATUS_GPA, 1, VRING_DESC_F_WRITE, 0);
		for (unsigned i = 0; i < QUEUE_LEN; i++)
			offer(0);
		ring_bell(&disk->virtio, 0);
		WAIT_UNTIL(used_ring()->idx == (round + 1) * QUEUE_LEN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_and_writes),
		TEST(cut_anyhow),
		TEST(discards_and_zeroes),
		TEST(has_its_serial),
		TEST(readonly_is_never_written),
		TEST(malformed),
		TEST(host_errors),
		TEST(many_at_once),
		TEST(none_too_long),
		TEST(none_without_data),
	};
	engine = "threads";
	int rc = cmocka_run_group_tests_name("threads", tests, NULL, NULL);
	engine = "io_uring";
	return rc + cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
}
