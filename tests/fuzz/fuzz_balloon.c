/* SPDX-License-Identifier: MIT */
/*
 * A guest that does anything to a virtio balloon: registers, rings, reports; a host that takes no memory back at times;
 * updates in between. What is cut out of guest memory are whole pages of a buffer that the guest has reported.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/fake_virtio.h"

#include <fcntl.h>

#include "devices/virtio/balloon.h"

#define MAX_OPS	    96
#define MAX_UPDATES 3
#define QUEUES	    3
#define REPORTING   2
#define RING(q)	    (RING_GPA + 0x4000ull * (q))
#define TABLE	    0x3000 /* of indirect descriptors, behind a queue's rings */
#define TABLES_LEN  0x10000ull
#define TAKES_BACK  (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* The linker's names. */
bool __real_virtq_pop(struct virtio_dev *v, unsigned q, struct virtq_chain *chain);
bool __wrap_virtq_pop(struct virtio_dev *v, unsigned q, struct virtq_chain *chain);
int __real_fallocate(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate(int fd, int mode, off_t off, off_t len);

static struct balloon *balloon;
static int ram_fd = -1;
static uint8_t *memory;
static uint8_t tables[TABLES_LEN]; /* all descriptors there are, when the last chain was taken */
static unsigned taken_from;	   /* its queue */
static bool refuses, paused;

static void machine_new(bool fresh)
{
	m = virtio_machine(fresh, &balloon_class, NULL, memory);
	m->ram.fd = ram_fd;
	balloon = (struct balloon *)m->devices[1];
}

static void begin(void)
{
	if (ram_fd < 0) {
		ram_fd = memfd_create("ram", MFD_CLOEXEC);
		fuzz_expect(!ftruncate(ram_fd, LOW_LEN + HIGH_LEN), "%s", strerror(errno));
		memory = mmap(NULL, LOW_LEN + HIGH_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd,
			      0);
		fuzz_expect(memory != MAP_FAILED, "%s", strerror(errno));
	}
	fuzz_expect(!__real_fallocate(ram_fd, TAKES_BACK, 0, LOW_LEN + HIGH_LEN), "%s",
		    strerror(errno));
	memset(&fake, 0, sizeof(fake));
	refuses = paused = false;
	machine_new(true);
	virtio_run();
}

static void end(void)
{
	for (unsigned i = 0; i < m->fds.n; i++)
		close(m->fds.e[i].fd);
	virtio_leave(m);
}

/* Nothing is in flight then, whatever the guest has done, and no memory is taken back until the successor serves. */
static void update(void)
{
	struct error err = {0};
	struct machine *old = m;
	fuzz_log.guest = false;
	paused = true;
	struct fake_blob blob = fake_save(old);
	machine_new(false);
	int rc = fake_load(m, &blob, &err);
	fuzz_expect(!rc, "a guest that cannot be taken over: %s", err.text);
	struct fake_blob again = fake_save(m);
	fuzz_expect(blob.len == again.len && !memcmp(blob.data, again.data, blob.len), "state");
	virtio_leave(old);
	rc = fake_start(m, &err);
	fuzz_expect(!rc, "%s", err.text);
	paused = false;
	fuzz_expect(!balloon_class.serve(&balloon->dev, &err), "%s", err.text);
	serve_loop();
	free(blob.data);
	free(again.data);
}

/* ---- what may be cut out of guest memory ---- */

/* What is cut out may be a table of descriptors. */
bool __wrap_virtq_pop(struct virtio_dev *v, unsigned q, struct virtq_chain *chain)
{
	memcpy(tables, memory + RING_GPA, sizeof(tables));
	taken_from = q;
	return __real_virtq_pop(v, q, chain);
}

/* A table of descriptors may begin at any byte: so this asks whether any 16 bytes are one that says it. */
static bool reported(uint64_t gpa, uint64_t len)
{
	for (uint64_t i = 0; i < TABLES_LEN; i++) {
		/* from the queue on that reports */
		uint64_t at = (i + RING(REPORTING) - RING_GPA) % TABLES_LEN;
		struct vring_desc d;
		if (at > TABLES_LEN - sizeof(d))
			continue;
		memcpy(&d, tables + at, sizeof(d));
		if (d.flags & VRING_DESC_F_WRITE && d.addr <= gpa && d.len >= len &&
		    gpa - d.addr <= d.len - len)
			return true;
	}
	return false;
}

int __wrap_fallocate(int fd, int mode, off_t off, off_t len)
{
	uint64_t from = (uint64_t)off, n = (uint64_t)len;
	fuzz_expect(fd == ram_fd && mode == TAKES_BACK, "descriptor %d, mode %d", fd, mode);
	fuzz_expect(n && !(from % PAGE_LEN) && !(n % PAGE_LEN) &&
			    range_fits(from, n, LOW_LEN + HIGH_LEN),
		    "%llx+%llx", (unsigned long long)from, (unsigned long long)n);
	uint64_t gpa = from < LOW_LEN ? from : HIGH_GPA + from - LOW_LEN;
	fuzz_expect(taken_from == REPORTING && reported(gpa, n), "queue %u, %llx+%llx", taken_from,
		    (unsigned long long)gpa, (unsigned long long)n);
	fuzz_expect(!paused, "memory is taken back in the pause");
	if (!refuses)
		return __real_fallocate(fd, mode, off, len);
	errno = EOPNOTSUPP;
	return -1;
}

/* ---- the guest ---- */

static const uint64_t places[] = {0,
				  DATA_GPA,
				  DATA_GPA + 1,
				  DATA_GPA + 0xff0,
				  RING(0),
				  RING(REPORTING),
				  LOW_LEN - 4096,
				  LOW_LEN - 16,
				  LOW_LEN,
				  HIGH_GPA,
				  HIGH_GPA - 1,
				  HIGH_GPA + HIGH_LEN - 4096,
				  UINT64_MAX - 8,
				  UINT64_MAX - 4095};
static const uint32_t lengths[] = {4096,  8192,	 1,	  4095,	   4097,     16,	0,
				   12288, 65536, 1 << 20, LOW_LEN, HIGH_LEN, UINT32_MAX};

static struct vring_desc any_desc(struct input *in)
{
	unsigned kind = input_u8(in);
	return (struct vring_desc){.addr = places[kind % ARRAY_LEN(places)] +
					   input_u8(in) * (kind & 16 ? 16u : 4096u),
				   .len = lengths[input_u8(in) % ARRAY_LEN(lengths)],
				   .flags = (uint16_t)(kind >> 5),
				   .next = (uint16_t)(input_u8(in) % (2 * QUEUE_LEN))};
}

static struct vring_avail *avail_of(unsigned q)
{
	return (struct vring_avail *)mem(RING(q) + PAGE_LEN);
}

static void offer_to(unsigned q, uint16_t head)
{
	struct vring_avail *a = avail_of(q);
	a->ring[a->idx++ % QUEUE_LEN] = head;
}

/* As Linux reports: buffers in a row, or in a table; and the input may put something else into their place. */
static void report(struct input *in, unsigned q)
{
	unsigned n = 1 + input_u8(in) % QUEUE_LEN, kind = input_u8(in);
	struct vring_desc *table = (struct vring_desc *)mem(RING(q) + (kind & 1 ? TABLE : 0));
	for (unsigned i = 0; i < n; i++)
		table[i] = (struct vring_desc){
			.addr = (kind & 2 ? HIGH_GPA : DATA_GPA) + i * 2 * PAGE_LEN,
			.len = (uint32_t)((1 + i % 2) * PAGE_LEN),
			.flags = (uint16_t)(VRING_DESC_F_WRITE |
					    (i + 1 < n ? VRING_DESC_F_NEXT : 0)),
			.next = (uint16_t)(i + 1)};
	if (kind & 4)
		table[input_below(in, n)] = any_desc(in);
	if (kind & 1)
		*(struct vring_desc *)mem(RING(q)) =
			(struct vring_desc){.addr = RING(q) + TABLE,
					    .len = (uint32_t)(n * sizeof(*table)),
					    .flags = VRING_DESC_F_INDIRECT};
	offer_to(q, 0);
}

static void write_memory(struct input *in)
{
	uint8_t bytes[16];
	unsigned n = input_u8(in) % (sizeof(bytes) + 1);
	uint64_t at = RING_GPA + input_num(in, 2) % (TABLES_LEN - sizeof(bytes));
	input_bytes(in, bytes, n);
	memcpy(memory + at, bytes, n);
}

static void access_registers(struct input *in)
{
	static const uint64_t pages[] = {AT_COMMON,    AT_COMMON, AT_ISR, AT_CONFIG,
					 AT_DOORBELLS, AT_TABLE,  0x5000, 0x7000};
	unsigned kind = input_u8(in), off = input_u8(in) & 0x7f, len = 1u << (kind >> 3) % 4;
	uint64_t at = bar() + pages[kind % 8] + off;
	if (kind & 0x20)
		guest_write(&m->mmio, at, len, input_num(in, len));
	else
		guest_read(&m->mmio, at, len);
}

/* Whether the device agrees or not, and with rings that queues share. */
static void start_driver(struct input *in)
{
	unsigned features = input_u8(in);
	negotiate((features & 1 ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0) |
		  (features & 2 ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0) |
		  (features & 4 ? 1ull << VIRTIO_F_IN_ORDER : 0) |
		  (features & 8 ? 0 : 1ull << VIRTIO_BALLOON_F_REPORTING));
	for (unsigned q = 0; q < QUEUES; q++)
		queue_set_up(q, RING(features & 16 ? 0 : q), QUEUE_LEN,
			     features & 32 ? (uint16_t)(1 + q) : VIRTIO_NO_VECTOR);
	driver_ok();
}

static void act(struct input *in)
{
	unsigned op = input_u8(in), q = op < 0x80 ? REPORTING : (op >> 4) % QUEUES;
	switch (op % 11) {
	case 0:
		access_registers(in);
		break;
	case 1:
		start_driver(in);
		break;
	case 2:
		((struct vring_desc *)mem(RING(q)))[input_u8(in) % (2 * QUEUE_LEN)] = any_desc(in);
		break;
	case 3:
		write_memory(in);
		break;
	case 4:
	case 5:
		report(in, q);
		break;
	case 6:
		offer_to(q, (uint16_t)input_u8(in));
		break;
	case 7:
		ring_bell(&balloon->virtio, q);
		break;
	case 8:
		avail_of(q)->idx = (uint16_t)input_num(in, 2);
		break;
	case 9:
		refuses = !refuses;
		break;
	case 10:
		reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
		break;
	}
	serve_loop();
	fuzz_expect(!balloon->virtio.in_flight && !balloon->virtio.resetting, "%u in flight",
		    balloon->virtio.in_flight);
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
	update();
	end();
	return 0;
}
