/* SPDX-License-Identifier: MIT */
/*
 * seeds FOLDER [KERNEL]: the inputs that each fuzz target starts from, made from what the code itself
 * declares: the tree of a real blob, the tables of fields, the areas of the guest, the options, kernel
 * images. So nothing binary is kept in the tree, and a new field or option is a seed at once.
 */
#include "tests/fuzz/machine.h"
#include "tests/fuzz/wire.h"
#include "tests/unit/boot_images.h"

#include "cpr/handover/protocol.h"
#include "vmm/options.h"

static const char *folder;
static uint8_t seed[65536];
static size_t seed_len;
static unsigned seed_count;

static void put(const void *data, size_t len)
{
	assert_true(seed_len + len <= sizeof(seed));
	memcpy(seed + seed_len, data, len);
	seed_len += len;
}

static void put_num(uint64_t value, size_t len)
{
	put(&value, len);
}

static void done(const char *target)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", folder, target);
	mkdir(path, 0777);
	snprintf(path, sizeof(path), "%s/%s/%04u", folder, target, seed_count++);
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(seed, 1, seed_len, f) != seed_len || fclose(f))
		fail_msg("%s: %s", path, strerror(errno));
	seed_len = 0;
}

/* ---- accesses (machine.h) ---- */

enum { AREA_ALL, AREA_CONFIG, AREA_PM = 3, AREA_MSI = 4, AREA_MSIX = 5, AREA_CF8 = 8 };

static const struct area *area_list(unsigned *n)
{
	static struct area areas[32];
	*n = fuzz_areas(paused[0].m, areas);
	return areas;
}

static void put_access(unsigned area, unsigned off, unsigned len, bool write, uint64_t value)
{
	unsigned n;
	const struct area *a = &area_list(&n)[area];
	unsigned kind = a->pio ? (len == 4 ? 2 : len - 1) : len - 1;
	put_num(0, 1);
	put_num(area, 1);
	put_num(kind | (write ? 8 : 0), 1);
	put_num(off, input_width(a->len));
	if (write)
		put_num(value, len);
}

static void put_update(void)
{
	put_num(0xff, 1);
}

static void pci_seeds(void)
{
	unsigned n;
	area_list(&n);
	for (unsigned area = 0; area < n; area++) {
		put_num(area % GUESTS, 1);
		for (unsigned off = 0; off < 16; off += 4) {
			put_access(area, off, 4, false, 0);
			put_access(area, off, 4, true, 0xffffffff);
			put_access(area, off, 2, true, 0);
		}
		put_update();
		done("pci");
	}
	for (unsigned kind = 0; kind < GUESTS; kind++) {
		put_num(kind, 1);
		for (unsigned bar = 0; bar < 6; bar++) { /* sizing, then another place */
			put_access(AREA_CONFIG, PCI_BASE_ADDRESS_0 + 4 * bar, 4, true, ~0u);
			put_access(AREA_CONFIG, PCI_BASE_ADDRESS_0 + 4 * bar, 4, false, 0);
			put_access(AREA_CONFIG, PCI_BASE_ADDRESS_0 + 4 * bar, 4, true,
				   LAYOUT_MMIO32_BASE + bar * MIB);
		}
		put_access(AREA_CONFIG, PCI_COMMAND, 2, true, 0);
		put_access(AREA_CONFIG, PCI_COMMAND, 2, true, 7);
		put_update();
		for (unsigned on = 0; on < 3; on++) { /* off, on, off */
			put_access(AREA_MSIX, PCI_MSIX_FLAGS, 2, true, on % 2 ? 0x8000 : 0);
			put_access(AREA_MSI, PCI_MSI_FLAGS, 2, true, on % 2 ? 0x21 : 0);
			put_access(n - 4, 16 * on + 12, 4, true, on % 2);
			put_update();
		}
		put_access(AREA_PM, PCI_PM_CTRL, 2, true, 3); /* asleep and awake */
		put_update();
		put_access(AREA_PM, PCI_PM_CTRL, 2, true, 0);
		put_access(AREA_CF8, 0, 4, true, 0x80000800);
		put_access(AREA_CF8, 4, 4, false, 0);
		done("pci");
	}
	for (unsigned refuses = 1; refuses < 4; refuses++) { /* slots, irqfds, vectors */
		put_num(GUEST_INTX, 1);
		put_num(0xe0, 1);
		put_num(refuses, 1);
		put_num(1, 1);
		for (unsigned i = 0; i < 12; i++) {
			unsigned slot = 1 + i % 3;
			put_access(AREA_ALL, (slot << 15) + PCI_COMMAND, 2, true, 0x400);
			put_access(AREA_ALL, (slot << 15) + PCI_COMMAND, 2, true, 7);
			put_access(AREA_MSIX, PCI_MSIX_FLAGS, 2, true, i & 1 ? 0x8000 : 0);
		}
		put_update();
		done("pci");
	}
}

/* ---- one edit of each place in the blob, a few accesses, an update ---- */

static void put_guest(void)
{
	unsigned n;
	area_list(&n);
	for (unsigned area = 0; area < n; area++)
		put_access(area, 0, area_list(&n)[area].pio ? 1 : 4, area & 1, 1);
	put_update();
}

static void device_seeds(void)
{
	const struct state_tree *tree = &paused[GUEST_MSIX].m->tree;
	for (unsigned s = 0; s < tree->n; s++) {
		for (unsigned f = 0; f < tree->sections[s].cls->nfields; f++) {
			const struct field *field = &tree->sections[s].cls->fields[f];
			put_num(GUEST_MSIX, 1);
			put_num(1, 1); /* one edit */
			put_num(s, 1);
			put_num(f, 1);
			if (field->len_offset != FIELD_FIXED)
				put_num(0, 1);
			put_num(0, input_width(field->count)); /* its first element ... */
			put_num(f, 1);			       /* ... gets one of the edges */
			put_num(0, 1);
			put_guest();
			done("device");
		}
	}
}

static void blob_seeds(void)
{
	enum { NODES = 12, EDITS = 9, HEADER_WORDS = 10 };
	for (unsigned node = 0; node < NODES; node++) {
		for (unsigned edit = 0; edit < EDITS; edit++) {
			put_num(edit % GUESTS, 1);
			put_num(1, 1); /* one edit, no pokes */
			put_num(0, 1);
			put_num(node, 1);
			put_num(edit, 1);
			put_num(edit * 2 + node, 1);
			put_num(node * 11, 1);
			put_num(0, 2); /* of this version, all of it */
			put_guest();
			done("blob");
		}
	}
	for (unsigned word = 0; word < HEADER_WORDS; word++) {
		put_num(GUEST_MSI, 1);
		put_num(0, 1);
		put_num(1, 1); /* one poke */
		put_num(word, 1);
		put_num(0x0f + word, 2);
		put_num(0, 2);
		put_guest();
		done("blob");
	}
	for (unsigned version = 1; version < 18; version++) {
		put_num(GUEST_INTX, 1);
		put_num(0, 2);
		put_num(0xff, 1);
		put_num(version, 1);
		put_num(1, 1);
		done("blob");
	}
}

/* ---- the others ---- */

static void put_words(const char *const *words)
{
	for (; *words; words++)
		put(*words, strlen(*words) + 1);
	done("options");
}

static void options_seeds(void)
{
	static const char *const lines[][8] = {
		{"-k", "vmlinuz", "-i", "initrd", "-p", "console=ttyS0", NULL},
		{"--kernel=k", "--mem", "512M,collapse,path=/dev/shm", NULL},
		{"-kk", "-m64", "-c64", "--console", "pty:/tmp/link", NULL},
		{"-k", "k", "-m", "1G,hugetlb=2M", "--vfio", "0000:00:05.0,rom=off", NULL},
		{"-k", "k", "--vfio", "05:1f.7", "--testdev", "trigger=3,unmask=4", NULL},
		{"-k", "k", "--console", "unix:/tmp/socket", "--name", "a.b_c-1", NULL},
		{"-k", "k", "--stop-timeout", "0", "--update-timeout", "100", NULL},
		{"--kernl", "k", NULL},
		{"-k", NULL},
	};
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++)
		put_words(lines[i]);
	for (unsigned len = 4080; len < 4280; len += 10) { /* about as long as a path may be */
		char mem[4400];
		snprintf(mem, sizeof(mem), "64,path=%0*d", (int)len, 0);
		put_words((const char *[]){"-k", "k", "-m", mem, NULL});
	}
	for (unsigned i = 0; i < options_table_len; i++) {
		const struct option_entry *o = &options_table[i];
		char name[64];
		snprintf(name, sizeof(name), "--%s", o->name);
		put_words((const char *[]){"-k", "k", name, o->def ? o->def : o->arg, NULL});
	}
}

static void kernel_seeds(const char *path)
{
	uint8_t bz[BZ_LEN];
	struct elf elf;
	bz_make(bz);
	elf_make(&elf);
	for (unsigned how = 0; how < 4; how++) {
		put_num(how, 1);
		put(bz, sizeof(bz));
		done("kernel");
		put_num(how, 1);
		put(&elf, sizeof(elf));
		done("kernel");
	}
	FILE *f = path ? fopen(path, "rb") : NULL;
	if (!f)
		return;
	put_num(1, 1);
	seed_len += fread(seed + seed_len, 1, sizeof(seed) - seed_len, f);
	fclose(f);
	done("kernel");
}

static void ports_seeds(void)
{
	for (unsigned which = 0; which < 5; which++) {
		for (unsigned mode = 0; mode < 4; mode++) {
			put_num(which, 1);
			for (unsigned reg = 0; reg < 16; reg++) {
				put_num(0, 1);
				put_num(reg << 4 | 8, 1); /* write a byte, then read it */
				put_num(mode == 1 ? 0xff : mode == 2 ? 1u << reg % 8 : reg, 1);
				put_num(0, 1);
				put_num(reg << 4, 1);
				put_num(0xc0, 1);
				put_num(3 + reg % 2 * 7, 1);
				put_num(reg % 4, 1);
			}
			done("ports");
		}
	}
}

/* An entry is written, its pin asserted, the interrupt served, with an update before that. */
static void ioapic_seeds(void)
{
	static const uint32_t low[] = {0x40, 0x8040, 0x10040, 0x18040, 0x8940};
	for (unsigned i = 0; i < ARRAY_LEN(low); i++) {
		for (unsigned word = 2; word-- > 0;) {
			put_num(0xa4, 2); /* select */
			put_num(0x10 + 2 * i + word, 4);
			put_num(0xac, 2); /* window */
			put_num(word ? 0x12a20000 : low[i], 4);
		}
		put_num(0xa0 | i << 8, 2); /* up */
		put_num(0xa1 | i << 8, 2); /* raised */
		put_num(3, 2);		   /* update */
		put_num(0x82, 2);	   /* EOI */
		put_num(0x40, 1);
		put_num(0x80 | i << 8, 2); /* down */
		done("ioapic");
	}
}

static void console_seeds(void)
{
	static const char *const typed[] = {"hello\r", "\1a\1\1\1?", "\1x", "a\1", "\1b\1a\1"};
	for (unsigned i = 0; i < 2 * ARRAY_LEN(typed); i++) {
		const char *text = typed[i / 2];
		put_num(i & 1, 1);
		put_num(strlen(text), 1);
		put_num(0, 1);
		put(text, strlen(text));
		for (unsigned step = 4; step > 0; step--) { /* turn, take, read, write */
			put_num(200, 1);
			put_num(step, 1);
		}
		done("console");
	}
}

/* fuzz_control.c: connect, a word, doorman, leader; then in pieces, with an update in between. */
static void control_seeds(void)
{
	for (unsigned word = 0; word < 14; word++)
		for (unsigned last = 7; last < 12; last++) {
			const uint8_t ops[] = {0, 0, 2, 0,  (uint8_t)word, 9, 0, 2, 0,	8, 9, 0, 10,
					       0, 2, 0, 13, (uint8_t)last, 0, 9, 0, 10, 0};
			put(ops, sizeof(ops));
			done("control");
		}
	/* update exe=/bin/moltaaa..., about as long as a line may be */
	for (unsigned n = 7; n < 10; n++) {
		put((const uint8_t[]){0, 0, 2, 0, 1, 2, 0, 6, 2, 0, 7}, 11);
		for (unsigned i = 0; i < n; i++)
			put((const uint8_t[]){6, 0}, 2);
		put((const uint8_t[]){2, 0, 8, 9, 0, 10, 0}, 7);
		done("control");
	}
}

/* ---- the hand-over (wire.h): the whole of it, each beginning of it, and one message that is another ---- */

struct said {
	uint8_t kind, shape, fds;
	bool step;
};

static const struct said by_successor[] = {
	{PROTOCOL_HELLO, WIRE_TEXT_ITS, WIRE_FDS_ITS, true},
	{PROTOCOL_GOT, WIRE_TEXT_ITS, WIRE_FDS_ITS, true},
	{PROTOCOL_PROGRESS, WIRE_TEXT_LONG | WIRE_VALUE_EDGE, WIRE_FDS_ITS, true},
	{PROTOCOL_READY, WIRE_TEXT_ITS, WIRE_FDS_ITS, false},
	{PROTOCOL_GOT, WIRE_TEXT_ITS, WIRE_FDS_ITS, true},
};

static const struct said by_incumbent[] = {
	{PROTOCOL_OFFER, WIRE_TEXT_ITS, WIRE_FDS_ITS, false},
	{PROTOCOL_FDS, WIRE_TEXT_ITS, WIRE_FDS_ITS, false},
	{PROTOCOL_BUILD, WIRE_TEXT_ITS, WIRE_FDS_ITS, false},
	{PROTOCOL_FDS, WIRE_TEXT_ITS, WIRE_FDS_ITS, false},
	{PROTOCOL_STATE, WIRE_TEXT_ITS, WIRE_FDS_ITS, false},
};

static void put_said(const struct said *s)
{
	put((const uint8_t[]){WIRE_SAY, s->kind, s->shape, s->fds}, 4);
	for (unsigned i = 0; s->fds != WIRE_FDS_ITS && i < s->fds; i++)
		put_num(3 + i, 1); /* an eventfd, a memfd */
	if ((s->shape & 3) == WIRE_TEXT_LONG)
		put_num(0x61000f, 3);
	if (s->shape & WIRE_VALUE_EDGE)
		put_num(4, 1);
	if (s->step)
		put_num(WIRE_STEP, 1);
}

static void wire_seeds(void)
{
	for (unsigned flags = 0; flags < 2 * WIRE_UNKNOWN; flags++) {
		const struct said *list = flags & WIRE_TO_SUCCESSOR ? by_incumbent : by_successor;
		for (unsigned n = 0; n <= ARRAY_LEN(by_incumbent); n++)
			for (unsigned other = 0; other < 6; other++) {
				put_num(flags, 1);
				for (unsigned i = 0; i < n; i++) {
					struct said s = list[i];
					if (i + 1 == n && other == 1)
						s.shape = WIRE_TEXT_EDIT | WIRE_VALUE_EDGE;
					if (i + 1 == n && other == 5)
						s.fds = 2;
					put_said(&s);
				}
				if (other == 2)
					put_num(WIRE_HANG_UP, 1);
				if (other == 3)
					put((const uint8_t[]){WIRE_LATE, WIRE_WORD}, 2);
				if (other == 4)
					put_said(&(struct said){PROTOCOL_NO, WIRE_TEXT_LONG,
								WIRE_FDS_ITS, true});
				done("wire");
			}
	}
}

/* A driver that offers four buffers to receive and sends a frame, a link that sends one, an update; by parts
 * (fuzz_net.c). */
static void net_seeds(void)
{
	for (unsigned kind = 0; kind < 2; kind++)
		for (unsigned parts = 1; parts <= 4; parts++) {
			put((const uint8_t[]){(uint8_t)kind, 1, 0x20, 0x80, 0x01, 0, 1}, 7);
			for (uint8_t i = 0; i < 4; i++)
				put((const uint8_t[]){2, 0, i, 0, 2, 2, 0}, 7);
			put((const uint8_t[]){4, 3, 0, 5}, 4);
			if (parts > 1)
				put((const uint8_t[]){6, 200, 0, 1}, 4);
			if (parts > 2)
				put((const uint8_t[]){132, 0, 0, 60, 0, 0, 0, 134, 0, 0, 135}, 11);
			if (parts > 3)
				put((const uint8_t[]){11, 6, 100, 0, 1}, 5);
			done("net");
		}
	/* Two pairs: buffers for the second one, which the driver then says it uses; a frame for it, an update. */
	for (uint8_t n = 0; n < 4; n++) {
		put((const uint8_t[]){2, 1, 0x20, 0x80, 0x42, 0, 1}, 7);
		put((const uint8_t[]){2, 2, 0, 0, 0, 8, 2, 0}, 8);
		put((const uint8_t[]){4, 2, 0, 0}, 4);
		put((const uint8_t[]){12, 4, n}, 3);
		put((const uint8_t[]){6, 2, 60, 0, 0}, 5);
		put((const uint8_t[]){11, 0}, 2);
		put((const uint8_t[]){5, 2}, 2);
		done("net");
	}
}

/* ---- a virtio disk (fuzz_virtio.c): a driver that starts, asks and is answered, with each feature; then an update
 * ---- */

static void virtio_seeds(void)
{
	for (unsigned features = 0; features < 8; features++)
		for (unsigned type = 0; type < 15; type++) {
			uint8_t start = (uint8_t)(features | (type & 1) << 3);
			put((const uint8_t[]){5, start}, 2);
			for (unsigned length = 0; length < 4; length++) {
				/* a request, the doorbell, and its end */
				put((const uint8_t[]){4, (uint8_t)type, 3, (uint8_t)(3 * length),
						      type == 1},
				    5);
				put((const uint8_t[]){7, 0, 8, 0, (uint8_t)(length & 1)}, 5);
			}
			put((const uint8_t[]){10, 4, 0, 1, 3, 0, 7, 1, 0xff, 8, 0, 0, 11}, 13);
			/* one of the descriptors is another, and a reset in the middle */
			put((const uint8_t[]){4, 0, 1, 3, 0, 7, 0, 2, 1, 0xe6, 4, 3, 0, 6, 0, 7, 0},
			    17);
			put((const uint8_t[]){0, 0x20, 20, 0, 8, 0, 0, 5, start, 0xff}, 10);
			done("virtio");
		}
}

/* A driver of a balloon that starts with each feature and reports, an update; then its ring is another, a report is
 * of what is no memory, it is reset and starts again (fuzz_balloon.c). */
static void balloon_seeds(void)
{
	for (unsigned features = 0; features < 64; features++)
		for (unsigned kind = 0; kind < 8; kind++) {
			uint8_t start = (uint8_t)features, how = (uint8_t)kind;
			put((const uint8_t[]){1, start, 4, 3, (uint8_t)(kind & 3), 7, 0xff}, 7);
			put((const uint8_t[]){4, 7, how}, 3);
			if (kind & 4)
				put((const uint8_t[]){2, 0x41, 3, 1, 5}, 5);
			put((const uint8_t[]){7, 9, 4, 0, 0, 7, 9, 2, 1, 0x28, 1, 0, 0, 6, 1, 7},
			    16);
			put((const uint8_t[]){8, 200, 0, 7, 10, 1, start, 0x8f, 0, 0, 0x91, 0xff},
			    12);
			done("balloon");
		}
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	folder = argv[1];
	fuzz_paused(0);
	pci_seeds();
	device_seeds();
	blob_seeds();
	options_seeds();
	kernel_seeds(argc > 2 ? argv[2] : NULL);
	ports_seeds();
	ioapic_seeds();
	console_seeds();
	control_seeds();
	wire_seeds();
	net_seeds();
	virtio_seeds();
	balloon_seeds();
	return 0;
}
