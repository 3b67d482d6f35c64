/* SPDX-License-Identifier: MIT */
/* A disk in a file, with its threads, against a driver that asks for anything. */
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

static uint32_t written(void)
{
	return used_ring()->ring[(used_ring()->idx - 1) % QUEUE_LEN].len;
}

static void fill(uint8_t seed, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		mem(BUF_GPA)[i] = (uint8_t)(seed + i * 7 + i / 512);
}

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

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

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
		TEST(waits_for_requests),
		TEST(several_queues),
		TEST(grows_with_its_file),
		TEST(a_driver_without_queues),
		TEST(none_too_long),
		TEST(none_without_data),
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
