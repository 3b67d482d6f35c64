/* SPDX-License-Identifier: MIT */
/* A disk's io_uring: what it may be asked for, a host that forbids it, and a file that answers in parts. */
#include "tests/unit/fake_virtio.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "devices/virtio/disk_ring.h"

#define FILE_LEN (1 * MIB)

static char image[] = "/tmp/molt-disk.XXXXXX";
static int image_fd;
static struct disk *disk;
static int forbidden; /* errno of io_uring_setup; 0: it is allowed */

int __wrap_io_uring_queue_init_params(unsigned n, struct io_uring *ring, struct io_uring_params *p);
int __real_io_uring_queue_init_params(unsigned n, struct io_uring *ring, struct io_uring_params *p);

int __wrap_io_uring_queue_init_params(unsigned n, struct io_uring *ring, struct io_uring_params *p)
{
	return forbidden ? -forbidden : __real_io_uring_queue_init_params(n, ring, p);
}

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	forbidden = 0;
	strcpy(strrchr(image, '.'), ".XXXXXX");
	image_fd = mkstemp(image);
	assert_true(image_fd >= 0);
	assert_int_equal(ftruncate(image_fd, FILE_LEN), 0);
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

static void machine_with(const char *words)
{
	static char arg[64];
	snprintf(arg, sizeof(arg), "%s%s", image, words);
	m = virtio_machine(true, &disk_class, arg, NULL);
	disk = (struct disk *)m->devices[1];
}

/* As far as realize: nobody works yet, and the ring is the test's. */
static int open_with(const char *words, struct error *err)
{
	machine_with(words);
	return fake_realize(m, err);
}

/* The result of the one entry that is in the ring. */
static int result(void)
{
	struct io_uring_cqe *cqe;
	assert_int_equal(io_uring_submit(&disk->ring->uring), 1);
	assert_int_equal(io_uring_wait_cqe(&disk->ring->uring, &cqe), 0);
	int rc = cqe->res;
	io_uring_cqe_seen(&disk->ring->uring, cqe);
	return rc;
}

/* Who takes over the thread can do no more with the ring than with the thread's own calls. */
static void does_nothing_else(void **state)
{
	static char byte;
	struct error err = {0};
	const struct iovec iov = {&byte, 1};
	assert_int_equal(open_with(",aio=io_uring", &err), 0);
	struct io_uring *uring = &disk->ring->uring;
	io_uring_prep_nop(io_uring_get_sqe(uring));
	assert_int_equal(result(), -EACCES);
	io_uring_prep_openat(io_uring_get_sqe(uring), AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	assert_int_equal(result(), -EACCES);
	io_uring_prep_write(io_uring_get_sqe(uring), image_fd, &byte, 1, 0);
	assert_int_equal(result(), -EACCES);
	io_uring_prep_writev(io_uring_get_sqe(uring), image_fd, &iov, 1, 0);
	assert_int_equal(result(), 1);
	assert_int_equal(io_uring_register_files(uring, &image_fd, 1), -EACCES);
}

static void without_it(void **state)
{
	static const int errors[] = {EPERM, ENOSYS, ENOMEM};
	struct error err = {0};
	for (unsigned i = 0; i < ARRAY_LEN(errors); i++) {
		forbidden = errors[i];
		assert_int_equal(open_with(",aio=io_uring", &err), 0);
		assert_string_equal(disk->dev.served_by, "threads");
		virtio_free();
	}
	forbidden = 0;
	assert_int_equal(open_with(",aio=io_uring", &err), 0);
	assert_string_equal(disk->dev.served_by, "io_uring");
	virtio_free();
	assert_int_equal(open_with("", &err), 0);
	assert_string_equal(disk->dev.served_by, "threads");
}

/* ---- requests ---- */

#define STATUS_GPA (DATA_GPA + 0x1000)
#define DATA	   (HIGH_GPA + 0x2000)

/* By a driver that flushes, or one that never does: its status. */
static uint8_t done(uint32_t type, uint64_t off, uint32_t len, bool flushes)
{
	struct virtio_blk_outhdr head = {.type = type, .sector = off / DISK_SECTOR};
	struct virtio_blk_discard_write_zeroes seg = {head.sector, len / DISK_SECTOR, 0};
	uint16_t write = type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0;
	bool range = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
	driver_start(disk->virtio.features & ~(flushes ? 0 : 1ull << VIRTIO_BLK_F_FLUSH));
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	memcpy(mem(DATA_GPA + 64), &seg, sizeof(seg));
	desc_put(0, DATA_GPA, 16, VRING_DESC_F_NEXT, 1);
	if (range) {
		desc_put(1, DATA_GPA + 64, sizeof(seg), VRING_DESC_F_NEXT, 3);
	} else {
		desc_put(1, DATA, 1000, VRING_DESC_F_NEXT | write, 2);
		desc_put(2, DATA + 1000, len - 1000, VRING_DESC_F_NEXT | write, 3);
	}
	desc_put(3, STATUS_GPA, 1, VRING_DESC_F_WRITE, 0);
	*mem(STATUS_GPA) = 0xee;
	offer(0);
	ring_bell(&disk->virtio, 0);
	WAIT_UNTIL(*mem(STATUS_GPA) != 0xee);
	return *mem(STATUS_GPA);
}

/* What a file has up to its end or a limit is moved; then the rest fails. */
static void parts(void **state)
{
	static uint8_t data[8192];
	struct rlimit old, limit;
	machine_with(",aio=io_uring");
	virtio_run();
	disk->state.sectors *= 2; /* of which the file has the first half */
	assert_int_equal(done(VIRTIO_BLK_T_IN, FILE_LEN - 4096, 4096, true), VIRTIO_BLK_S_OK);
	assert_int_equal(done(VIRTIO_BLK_T_IN, FILE_LEN - 4096, 8192, true), VIRTIO_BLK_S_IOERR);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){FILE_LEN + 4096, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(done(VIRTIO_BLK_T_OUT, FILE_LEN, 8192, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(lseek(image_fd, 0, SEEK_END), FILE_LEN + 4096);
	memset(mem(DATA), 7, sizeof(data));
	assert_int_equal(done(VIRTIO_BLK_T_OUT, FILE_LEN, 8192, false), VIRTIO_BLK_S_OK);
	assert_int_equal(done(VIRTIO_BLK_T_FLUSH, 0, 2000, true), VIRTIO_BLK_S_OK);
	assert_int_equal(done(VIRTIO_BLK_T_WRITE_ZEROES, FILE_LEN, 4096, true), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(image_fd, data, 8192, FILE_LEN), 8192);
	assert_int_equal(data[4095], 0);
	assert_int_equal(data[4096], 7);
	assert_int_equal(done(VIRTIO_BLK_T_DISCARD, FILE_LEN, 4096, true), VIRTIO_BLK_S_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(does_nothing_else),
		TEST(without_it),
		TEST(parts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
