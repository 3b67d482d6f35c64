/* SPDX-License-Identifier: MIT */
/*
 * A guest that does anything to a virtio disk: registers, rings, requests; a back-end that ends requests in any order,
 * with any result; updates in between. No thread: the input says what happens when.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/fake_virtio.h"

#include "devices/virtio/disk.h"

#define DISK	    "disk,serial=fuzz,queues=2"
#define MAX_OPS	    96
#define MAX_UPDATES 3
#define SECTORS	    64
#define QUEUES	    2

static uint8_t *memory;
static struct machine *now;
static struct disk *disk;
static struct disk_request *under_way[QUEUES * VIRTIO_QUEUE_SIZE];
static unsigned nunder_way;

/* ---- the back-end, in the place of disk_engine.c ---- */

const struct disk_engine disk_pool_engine = {.name = "fuzz"};

const struct disk_engine *disk_engine_find(const char *name)
{
	return NULL;
}

int disk_engine_init(struct disk *d, struct error *err)
{
	return 0;
}

int disk_engine_spawn(struct disk *d, struct error *err)
{
	return 0;
}

void disk_engine_serve(struct disk *d)
{
}

bool disk_engine_end(struct disk *d)
{
	return true;
}

/* All that there is room for. */
static void take(void)
{
	struct disk_request *r;
	while ((r = disk_request_take(disk))) {
		fuzz_expect(nunder_way < ARRAY_LEN(under_way), "more requests than there are");
		fuzz_expect(r->off % DISK_SECTOR == 0 && r->len % DISK_SECTOR == 0 &&
				    range_fits(r->off, r->len, SECTORS * DISK_SECTOR),
			    "bytes %llu+%llu", (unsigned long long)r->off,
			    (unsigned long long)r->len);
		fuzz_expect(!disk->virtio.quiet, "taken though the device is quiet");
		under_way[nunder_way++] = r;
	}
}

/* What a thread does that a kick has woken. */
static void serve_kicks(void)
{
	uint64_t count;
	for (unsigned q = 0; q < QUEUES; q++)
		if (read(disk->virtio.kick[q].fd, &count, sizeof(count)) == sizeof(count))
			take();
}

volatile uint8_t fuzz_read_byte;

/* Reads fill their buffers, writes are read: a sanitizer sees what is not guest memory. */
static void end_one(unsigned which, int rc)
{
	if (!nunder_way)
		return;
	struct disk_request *r = under_way[which % nunder_way];
	nunder_way--;
	under_way[which % (nunder_way + 1)] = under_way[nunder_way];
	for (unsigned i = 0; (r->op == DISK_READ || r->op == DISK_WRITE) && i < r->niov; i++) {
		uint8_t *at = r->iov[i].iov_base;
		if (r->op == DISK_READ)
			memset(at, 0x5a, r->iov[i].iov_len);
		else
			fuzz_read_byte = (uint8_t)(at[0] + at[r->iov[i].iov_len - 1]);
	}
	r->rc = rc;
	disk_request_done(disk, r);
	disk_requests_notify(disk);
	take();
}

/* ---- the machine ---- */

static void begin(void)
{
	struct error err = {0};
	if (!memory)
		memory = mmap(NULL, LOW_LEN + HIGH_LEN, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(memory + RING_GPA, 0, 4 * PAGE_LEN);
	memset(&fake, 0, sizeof(fake));
	m = now = virtio_machine(true, &disk_class, DISK, memory);
	disk = (struct disk *)m->devices[1];
	assert_int_equal(fdset_keep(&m->fds, "disk@0:file", eventfd(0, 0), &err), 0);
	disk->state.sectors = SECTORS;
	disk->state.block_len = DISK_SECTOR;
	nunder_way = 0;
	virtio_run();
}

static void end(void)
{
	fuzz_log.guest = false;
	while (nunder_way)
		end_one(0, 0);
	for (unsigned i = 0; i < m->fds.n; i++)
		close(m->fds.e[i].fd);
	virtio_leave(m);
}

/* Nothing is in flight then, whatever the guest has done; and it can be taken over. */
static void update(void)
{
	struct error err = {0};
	fuzz_log.guest = false;
	int rc = disk_class.quiesce(&disk->dev, &err);
	fuzz_expect(!rc == !nunder_way, "quiesce says %d, %u under way", rc, nunder_way);
	while (nunder_way)
		end_one(nunder_way / 2, 0);
	fuzz_expect(!disk_class.quiesce(&disk->dev, &err), "%s", err.text);
	irq_detach_all(&m->irq, NULL);
	struct fake_blob blob = fake_save(m);
	struct machine *next = virtio_machine(false, &disk_class, DISK, memory);
	rc = fake_load(next, &blob, &err);
	fuzz_expect(!rc, "a guest that cannot be taken over: %s", err.text);
	struct fake_blob again = fake_save(next);
	fuzz_expect(blob.len == again.len && !memcmp(blob.data, again.data, blob.len), "state");
	virtio_leave(m);
	m = now = next;
	disk = (struct disk *)m->devices[1];
	rc = fake_start(m, &err);
	fuzz_expect(!rc && !disk_class.serve(&disk->dev, &err), "%s", err.text);
	serve_loop();
	serve_kicks();
	free(blob.data);
	free(again.data);
}

/* ---- the guest ---- */

static const uint64_t places[] = {0,
				  RING_GPA,
				  DATA_GPA,
				  DATA_GPA + 0xff0,
				  LOW_LEN - 512,
				  LOW_LEN - 16,
				  LOW_LEN,
				  HIGH_GPA,
				  HIGH_GPA + HIGH_LEN - 1,
				  HIGH_GPA + HIGH_LEN,
				  UINT64_MAX - 8};
static const uint32_t lengths[] = {1, 16, 17, 512, 513, 1024, 4096, 0, 32, 48, 65536, UINT32_MAX};

static void write_desc(struct input *in)
{
	struct vring_desc *d = desc_at(input_u8(in) % (2 * QUEUE_LEN));
	unsigned kind = input_u8(in);
	*d = (struct vring_desc){.addr = places[kind % ARRAY_LEN(places)] + input_u8(in) * 16u,
				 .len = lengths[input_u8(in) % ARRAY_LEN(lengths)],
				 .flags = (uint16_t)(kind >> 5),
				 .next = (uint16_t)input_u8(in)};
}

static void write_memory(struct input *in)
{
	uint8_t bytes[16];
	unsigned n = input_u8(in) % (sizeof(bytes) + 1);
	uint64_t at = (input_u8(in) & 1 ? DATA_GPA : RING_GPA) + input_num(in, 2) % (3 * PAGE_LEN);
	input_bytes(in, bytes, n);
	memcpy(memory + at, bytes, n);
}

/* A whole request that makes sense, up to where the input changes it afterwards. */
static void write_request(struct input *in)
{
	struct virtio_blk_outhdr head = {.type = input_u8(in) % 15, .sector = input_u8(in)};
	uint32_t len = lengths[input_u8(in) % ARRAY_LEN(lengths)];
	bool write = input_u8(in) & 1;
	memcpy(memory + DATA_GPA, &head, sizeof(head));
	desc_put(0, DATA_GPA, 16, VRING_DESC_F_NEXT, 1);
	desc_put(1, HIGH_GPA, len, VRING_DESC_F_NEXT | (write ? 0 : VRING_DESC_F_WRITE), 2);
	desc_put(2, DATA_GPA + 0x800, 1, VRING_DESC_F_WRITE, 0);
	offer(0);
}

static void access_registers(struct input *in)
{
	static const uint64_t pages[] = {AT_COMMON,    AT_COMMON, AT_ISR, AT_CONFIG,
					 AT_DOORBELLS, AT_TABLE,  0x5000, 0x7000};
	unsigned kind = input_u8(in);
	unsigned off = input_u8(in) & 0x7f, len = 1u << (kind >> 3) % 4;
	uint64_t at = bar() + pages[kind % 8] + off;
	if (kind & 0x20)
		guest_write(&m->mmio, at, len, input_num(in, len));
	else
		guest_read(&m->mmio, at, len);
}

static void access_config(struct input *in)
{
	unsigned kind = input_u8(in);
	unsigned len = 1u << kind % 3, off = input_u8(in) & ~(len - 1);
	if (kind & 8)
		config_put(m, SLOT, off, len, (uint32_t)input_num(in, len));
	else
		config_get(m, SLOT, off, len);
}

static void start_driver(struct input *in)
{
	unsigned features = input_u8(in);
	if (!negotiate((features & 1 ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0) |
		       (features & 2 ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0)))
		return;
	/* The second queue may have the first one's rings. */
	for (unsigned q = 0; q < (features & 8 ? QUEUES : 1); q++)
		queue_set_up(q, RING_GPA, QUEUE_LEN, features & 4 ? 1 + q : VIRTIO_NO_VECTOR);
	driver_ok();
}

static void act(struct input *in)
{
	switch (input_u8(in) % 12) {
	case 0:
		access_registers(in);
		break;
	case 1:
		access_config(in);
		break;
	case 2:
		write_desc(in);
		break;
	case 3:
		write_memory(in);
		break;
	case 4:
		write_request(in);
		break;
	case 5:
		start_driver(in);
		break;
	case 6:
		offer((uint16_t)input_u8(in));
		break;
	case 7:
		ring_bell(&disk->virtio, input_u8(in) % QUEUES);
		break;
	case 8:
		end_one(input_u8(in), input_u8(in) & 1 ? -EIO : 0);
		break;
	case 9:
		avail_ring()->idx = (uint16_t)input_num(in, 2);
		break;
	case 10:
		disk_class.quiesce(&disk->dev, NULL);
		break;
	case 11:
		disk_class.resume(&disk->dev);
		break;
	}
	serve_loop();
	serve_kicks();
	fuzz_expect(disk->virtio.in_flight == nunder_way, "%u in flight, %u under way",
		    disk->virtio.in_flight, nunder_way);
	fuzz_expect(disk->virtio.resetting <= (nunder_way > 0), "a reset waits for nothing");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	unsigned updates = 0;
	begin();
	for (unsigned i = 0; in.n && i < MAX_OPS; i++) {
		fuzz_guest_acts();
		if (in.p[0] == 0xff && updates++ < MAX_UPDATES) {
			input_u8(&in);
			update();
		} else {
			act(&in);
		}
	}
	end();
	return 0;
}
