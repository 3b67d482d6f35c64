/* SPDX-License-Identifier: MIT */
/* A disk's io_uring: what it may be asked for, a host that forbids it, and a file that answers in parts. */
#include "tests/unit/fake_virtio.h"

#include <fcntl.h>
#include <poll.h>
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

/* As far as realize: nobody works yet, and the ring is the test's. */
static int open_with(const char *words, struct error *err)
{
	static char arg[64];
	snprintf(arg, sizeof(arg), "%s%s", image, words);
	m = virtio_machine(true, &disk_class, arg, NULL);
	disk = (struct disk *)m->devices[1];
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

/* ---- requests, without a guest ---- */

static uint8_t data[8192];

static int done(enum disk_op op, uint64_t off, uint64_t len, bool through)
{
	struct iovec iov[] = {{data, 1000}, {data + 1000, len - 1000}};
	struct disk_request r = {.op = op,
				 .off = off,
				 .len = len,
				 .iov = iov,
				 .niov = 2,
				 .through = through,
				 .may_unmap = true};
	uint64_t count;
	disk_engine_submit(disk, &r);
	struct pollfd p = {.fd = disk->done_fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(read(disk->done_fd, &count, sizeof(count)), sizeof(count));
	pthread_mutex_lock(&disk->lock);
	assert_ptr_equal(disk->done, &r);
	disk->done = NULL;
	pthread_mutex_unlock(&disk->lock);
	return r.rc;
}

/* What a file has up to its end or a limit is moved; then the rest fails. */
static void parts(void **state)
{
	struct error err = {0};
	struct rlimit old, limit;
	assert_int_equal(open_with(",aio=io_uring", &err), 0);
	assert_int_equal(disk_engine_start(disk, &err), 0);
	assert_int_equal(done(DISK_READ, FILE_LEN - 4096, 4096, false), 0);
	assert_int_equal(done(DISK_READ, FILE_LEN - 4096, 8192, false), -EIO);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){FILE_LEN + 4096, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(done(DISK_WRITE, FILE_LEN, 8192, false), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(lseek(image_fd, 0, SEEK_END), FILE_LEN + 4096);
	memset(data, 7, sizeof(data));
	assert_int_equal(done(DISK_WRITE, FILE_LEN, 8192, true), 0);
	assert_int_equal(done(DISK_FLUSH, 0, 2000, false), 0);
	assert_int_equal(done(DISK_ZERO, FILE_LEN, 4096, false), 0);
	assert_int_equal(pread(image_fd, data, 8192, FILE_LEN), 8192);
	assert_int_equal(data[4095], 0);
	assert_int_equal(data[4096], 7);
	assert_int_equal(done(DISK_DISCARD, FILE_LEN, 4096, false), 0);
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
