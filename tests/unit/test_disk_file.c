/* SPDX-License-Identifier: MIT */
/* A disk whose file wants aligned memory, cannot flush, or does not answer; and a host that has no thread left. */
#define FAKE_LINKAGE /* the fakes, though the real ones are linked in */
#include "tests/unit/fake_virtio.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "devices/virtio/disk.h"

#define FILE_LEN   (4 * MIB)
#define STATUS_GPA (DATA_GPA + 0x1000)
#define BUF_GPA	   (DATA_GPA + 0x2000)

static char image[] = "/tmp/molt-disk.XXXXXX";
static int image_fd;
static struct disk *disk;

/* ---- the file ---- */

ssize_t __wrap_preadv(int fd, const struct iovec *iov, int n, off_t off);
ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int n, off_t off);
int __wrap_fdatasync(int fd);
int __wrap_open(const char *path, int flags, ...);
int __real_open(const char *path, int flags, ...);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t off);
ssize_t __real_pread(int fd, void *buf, size_t len, off_t off);
int __wrap_pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until);
int __real_pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until);

static bool strict;    /* wants memory that is aligned to sectors */
static size_t block;   /* and blocks of that length; 0: any */
static size_t largest; /* of the transfers */
static unsigned syncs;
static bool sync_fails;
static bool impatient; /* who waits for a thread finds that it does not end */

/* Writes come in, and go on when it is open. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool shut;
static unsigned came;

static bool takes(const struct iovec *iov, int n, off_t off)
{
	bool whole =
		!block || (iov_size(iov, (unsigned)n) % block == 0 && (size_t)off % block == 0);
	bool aligned = true;
	for (int i = 0; i < n; i++)
		aligned = aligned && (uintptr_t)iov[i].iov_base % DISK_SECTOR == 0 &&
			  iov[i].iov_len % DISK_SECTOR == 0;
	if (!whole || (strict && !aligned)) {
		errno = EINVAL;
		return false;
	}
	size_t len = iov_size(iov, (unsigned)n);
	largest = len > largest ? len : largest;
	return true;
}

/* Whether the test's file system has direct I/O does not matter. */
int __wrap_open(const char *path, int flags, ...)
{
	return __real_open(path, flags & ~O_DIRECT);
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t off)
{
	if (!block || (len % block == 0 && (size_t)off % block == 0))
		return __real_pread(fd, buf, len, off);
	errno = EINVAL;
	return -1;
}

ssize_t __wrap_preadv(int fd, const struct iovec *iov, int n, off_t off)
{
	return takes(iov, n, off) ? syscall(SYS_preadv, fd, iov, n, off, 0) : -1;
}

ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	pthread_mutex_lock(&lock);
	came++;
	pthread_cond_broadcast(&changed);
	while (shut)
		pthread_cond_wait(&changed, &lock);
	bool ok = takes(iov, n, off);
	pthread_mutex_unlock(&lock);
	return ok ? syscall(SYS_pwritev, fd, iov, n, off, 0) : -1;
}

int __wrap_fdatasync(int fd)
{
	syncs++;
	errno = EIO;
	return sync_fails ? -1 : 0;
}

int __wrap_pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *until)
{
	return impatient ? ETIMEDOUT : __real_pthread_timedjoin_np(thread, result, until);
}

static unsigned threads_left = ~0u;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
			  void *arg)
{
	return threads_left-- ? __real_pthread_create(thread, attr, start, arg) : EAGAIN;
}

static void gate(bool closed)
{
	pthread_mutex_lock(&lock);
	shut = closed;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void wait_for_writes(unsigned n)
{
	pthread_mutex_lock(&lock);
	while (came < n)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

/* ---- the guest ---- */

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	strict = sync_fails = impatient = shut = false;
	syncs = came = 0;
	largest = 0;
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

static void start_without(uint64_t features)
{
	m = virtio_machine(true, &disk_class, image, NULL);
	disk = (struct disk *)m->devices[1];
	virtio_run();
	driver_start(disk->virtio.features & ~features);
}

/* @n requests of one sector at once. */
static void ask(uint32_t type, unsigned n)
{
	struct virtio_blk_outhdr head = {.type = type};
	struct virtio_blk_discard_write_zeroes seg = {.num_sectors = 1};
	bool range = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	memcpy(mem(BUF_GPA), &seg, sizeof(seg));
	desc_put(0, DATA_GPA, sizeof(head), VRING_DESC_F_NEXT, 1);
	desc_put(1, BUF_GPA, range ? sizeof(seg) : DISK_SECTOR,
		 VRING_DESC_F_NEXT | (type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0), 2);
	desc_put(2, STATUS_GPA, 1, VRING_DESC_F_WRITE, 0);
	while (n--)
		offer(0);
	ring_bell(&disk->virtio, 0);
}

static uint8_t answer(uint32_t type)
{
	*mem(STATUS_GPA) = 0xee;
	ask(type, 1);
	WAIT_UNTIL(*mem(STATUS_GPA) != 0xee);
	return *mem(STATUS_GPA);
}

/* ---- tests ---- */

/* However long a request is, little memory is taken for it. */
static void bounces_in_pieces(void **state)
{
	enum { LEN = 3 * MIB + DISK_SECTOR, FIRST = 1000001, OFF = 8 * DISK_SECTOR };
	static uint8_t data[LEN + 1], got[LEN + 1];
	const struct disk d = {.fd = image_fd, .direct = true};
	struct iovec iov[] = {{data + 1, FIRST}, {data + 1 + FIRST, LEN - FIRST}};
	struct disk_request r = {.op = DISK_WRITE, .off = OFF, .len = LEN, .iov = iov, .niov = 2};
	strict = true;
	for (unsigned i = 0; i < LEN; i++)
		data[1 + i] = (uint8_t)(i * 7 + i / 4096);
	assert_int_equal(disk_file_do(&d, &r), 0);
	assert_int_equal(pread(image_fd, got, LEN, OFF), LEN);
	assert_memory_equal(got, data + 1, LEN);
	memset(got, 0, sizeof(got));
	r.op = DISK_READ;
	iov[0].iov_base = got + 1;
	iov[1].iov_base = got + 1 + FIRST;
	assert_int_equal(disk_file_do(&d, &r), 0);
	assert_memory_equal(got + 1, data + 1, LEN);
	assert_in_range(largest, 1, MIB);
}

/* A driver that does not keep to the blocks it was told gets an error, and nothing beside its request is changed. */
static void no_whole_blocks(void **state)
{
	enum { LEN = 4 * MIB };
	static uint8_t before[LEN], after[LEN], data[2 * MIB] __attribute__((aligned(PAGE_LEN)));
	static const struct {
		uint64_t off, len;
	} requests[] = {{512, 512},	     {512, PAGE_LEN},	    {PAGE_LEN, 512},
			{0, PAGE_LEN + 512}, {PAGE_LEN, MIB + 512}, {PAGE_LEN + 512, MIB}};
	const struct disk d = {.fd = image_fd, .direct = true};
	memset(before, 0x5a, LEN);
	memset(data, 0xa5, sizeof(data));
	block = PAGE_LEN;
	for (unsigned i = 0; i < ARRAY_LEN(requests); i++)
		for (unsigned op = DISK_READ; op <= DISK_WRITE; op++) {
			uint64_t off = requests[i].off, end = off + requests[i].len;
			struct iovec iov = {data, requests[i].len};
			struct disk_request r = {
				.op = op, .off = off, .len = iov.iov_len, .iov = &iov, .niov = 1};
			assert_int_equal(pwrite(image_fd, before, LEN, 0), LEN);
			assert_int_equal(disk_file_do(&d, &r), -EINVAL);
			assert_int_equal(syscall(SYS_pread64, image_fd, after, LEN, 0), LEN);
			assert_memory_equal(after, before, off);
			assert_memory_equal(after + end, before + end, LEN - end);
		}
	block = 0;
}

/* A driver that cannot flush has what it wrote on the disk when it is told so. */
static void written_through(void **state)
{
	static const uint32_t writes[] = {VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
					  VIRTIO_BLK_T_DISCARD};
	start_without(1ull << VIRTIO_BLK_F_FLUSH);
	for (unsigned i = 0; i < ARRAY_LEN(writes); i++) {
		assert_int_equal(answer(writes[i]), VIRTIO_BLK_S_OK);
		assert_int_equal(syncs, i + 1);
	}
	assert_int_equal(answer(VIRTIO_BLK_T_IN), VIRTIO_BLK_S_OK);
	assert_int_equal(syncs, ARRAY_LEN(writes));
	sync_fails = true;
	assert_int_equal(answer(VIRTIO_BLK_T_OUT), VIRTIO_BLK_S_IOERR);
}

static void flushed_when_asked(void **state)
{
	start_without(0);
	assert_int_equal(answer(VIRTIO_BLK_T_OUT), VIRTIO_BLK_S_OK);
	assert_int_equal(answer(VIRTIO_BLK_T_DISCARD), VIRTIO_BLK_S_OK);
	assert_int_equal(syncs, 0);
	assert_int_equal(answer(VIRTIO_BLK_T_FLUSH), VIRTIO_BLK_S_OK);
	assert_int_equal(syncs, 1);
}

/* While one thread is busy the guest kicks for the next request, which another takes: no flush holds up reads. */
static void one_waits_for_no_other(void **state)
{
	start_without(0);
	gate(true);
	ask(VIRTIO_BLK_T_OUT, 1);
	wait_for_writes(1);
	const uint16_t *kick_at = (uint16_t *)&used_ring()->ring[QUEUE_LEN];
	WAIT_UNTIL(*kick_at == 1);
	ask(VIRTIO_BLK_T_OUT, 1);
	wait_for_writes(2);
	WAIT_UNTIL(*kick_at == 2);
	gate(false);
	WAIT_UNTIL(used_ring()->idx == 2);
}

/* Long requests one by one make no long wait together: the rest stays in the queue. */
static void little_in_flight(void **state)
{
	enum { BUFFERS = 6 }; /* each is all of low memory: 24 MiB */
	struct virtio_blk_outhdr head = {.type = VIRTIO_BLK_T_OUT};
	assert_int_equal(ftruncate(image_fd, BUFFERS * LOW_LEN), 0);
	start_without(0);
	gate(true);
	memcpy(mem(DATA_GPA), &head, sizeof(head));
	desc_put(0, DATA_GPA, sizeof(head), VRING_DESC_F_NEXT, 1);
	for (uint16_t i = 1; i <= BUFFERS; i++)
		desc_put(i, 0, LOW_LEN, VRING_DESC_F_NEXT, i + 1);
	desc_put(BUFFERS + 1, STATUS_GPA, 1, VRING_DESC_F_WRITE, 0);
	for (unsigned i = 0; i < QUEUE_LEN; i++)
		offer(0);
	ring_bell(&disk->virtio, 0);
	wait_for_writes(3);
	/* The third makes it 72 MiB: the fourth thread has nothing to do. */
	WAIT_UNTIL(disk->virtio.in_flight == 3 && disk->idle == DISK_THREADS - 3);
	gate(false);
	WAIT_UNTIL(used_ring()->idx == QUEUE_LEN);
	assert_int_equal(disk->bytes, 0);
}

static void *open_when_it_ends(void *opaque)
{
	bool ending = false;
	while (!ending) {
		sched_yield();
		pthread_mutex_lock(&m->lock);
		ending = disk->ending;
		pthread_mutex_unlock(&m->lock);
	}
	gate(false);
	return NULL;
}

/* The machine ends: what is under way is waited for, what was only queued is not begun. */
static void ends_with_requests_in_flight(void **state)
{
	pthread_t helper;
	start_without(0);
	gate(true);
	ask(VIRTIO_BLK_T_OUT, QUEUE_LEN);
	wait_for_writes(DISK_THREADS);
	assert_int_equal(pthread_create(&helper, NULL, open_when_it_ends, NULL), 0);
	virtio_free();
	m = NULL;
	pthread_join(helper, NULL);
	assert_int_equal(came, DISK_THREADS);
}

/* What does not end keeps what it uses, and the machine does not begin anew beside it. */
static void ends_without_an_answer(void **state)
{
	struct error err;
	start_without(0);
	gate(true);
	ask(VIRTIO_BLK_T_OUT, 1);
	wait_for_writes(1);
	impatient = true;
	assert_int_equal(machine_halt(m, &err), -EBUSY);
	assert_non_null(strstr(err.text, image));
	assert_true(err.hint[0]);
	assert_int_equal(machine_halt(m, &err), 0);
	/* It answers after all. */
	gate(false);
	for (unsigned i = 0; i < DISK_THREADS; i++)
		assert_int_equal(pthread_join(disk->thread[i], NULL), 0);
	/* Nothing of the guest was touched. */
	assert_int_equal(disk->virtio.in_flight, 1);
	assert_int_equal(used_ring()->idx, 0);
	free(disk->requests);
	close(disk->epoll_fd);
	pool_free(disk);
}

/* All of its threads, or an error that says what is missing: then the next try makes the rest. */
static void has_all_threads(void **state)
{
	struct error err = {0};
	m = virtio_machine(true, &disk_class, image, NULL);
	disk = (struct disk *)m->devices[1];
	assert_int_equal(fake_realize(m, &err), 0);
	for (unsigned made = 0; made < disk->engine->threads; made++) {
		threads_left = made > 0; /* one more each time */
		assert_int_equal(disk_engine_spawn(disk, &err), -EAGAIN);
		assert_non_null(strstr(err.text, image));
		assert_true(err.hint[0]);
		assert_int_equal(disk->threads, made);
	}
	threads_left = ~0u;
	assert_int_equal(disk_engine_spawn(disk, &err), 0);
	assert_int_equal(disk->threads, disk->engine->threads);
	assert_int_equal(disk_engine_spawn(disk, &err), 0);
}

/* What the file system takes when it is read direct is what the guest is told. */
static void tells_the_block(void **state)
{
	struct error err;
	for (size_t len = 512; len <= 4096; len *= 2) {
		struct disk d = {.direct = true};
		strcpy(d.path, image);
		block = len;
		int fd = disk_file_open(&d, &err);
		assert_true(fd >= 0);
		assert_int_equal(d.state.block_len, len);
		close(fd);
		d.direct = false;
		fd = disk_file_open(&d, &err);
		assert_true(fd >= 0);
		assert_int_equal(d.state.block_len, 512);
		close(fd);
	}
	block = 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(has_all_threads),	      TEST(tells_the_block),
		TEST(bounces_in_pieces),      TEST(written_through),
		TEST(flushed_when_asked),     TEST(one_waits_for_no_other),
		TEST(little_in_flight),	      TEST(ends_with_requests_in_flight),
		TEST(ends_without_an_answer), TEST(no_whole_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
