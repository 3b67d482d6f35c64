/* SPDX-License-Identifier: MIT */
/* bzImage by the 64-bit boot protocol: Linux Documentation/arch/x86/boot.rst. */
#include <asm/bootparam.h>

#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

#define HEADER_OFF     offsetof(struct boot_params, hdr) /* 0x1f1, also in the file */
#define HEADER_MAX_END 0x290				 /* boot_params continue there */
#define SECTOR_LEN     512

struct bzimage {
	struct setup_header hdr;
	uint64_t hdr_len;
	uint64_t code_off, code_len; /* the protected-mode part in the file */
	uint64_t load_gpa, end_gpa;
};

static int read_header(const struct boot_file *kernel, struct bzimage *image, struct error *err)
{
	uint8_t raw[HEADER_MAX_END] = {0};
	uint64_t avail = kernel->len < sizeof(raw) ? kernel->len : sizeof(raw);
	int rc = boot_file_read(kernel, 0, raw, avail, err);
	if (rc)
		return rc;
	/* The header ends where the jump at 0x200 goes to. */
	uint64_t end = 0x202 + (uint64_t)raw[0x201];
	uint64_t need = HEADER_OFF + offsetof(struct setup_header, init_size) + 4;
	image->hdr_len = end - HEADER_OFF;
	if (image->hdr_len > sizeof(image->hdr))
		image->hdr_len = sizeof(image->hdr);
	memset(&image->hdr, 0, sizeof(image->hdr));
	memcpy(&image->hdr, raw + HEADER_OFF, image->hdr_len);

	const struct setup_header *h = &image->hdr;
	if (h->boot_flag != 0xaa55 || h->header != 0x53726448)
		return boot_bad_kernel(kernel, err, "the setup header has the wrong magic numbers");
	if (h->version < 0x020c)
		return boot_bad_kernel(kernel, err, "boot protocol %u.%u is older than 2.12",
				       h->version >> 8, h->version & 0xff);
	if (end < need)
		return boot_bad_kernel(kernel, err, "the setup header is too short");
	if (!(h->xloadflags & XLF_KERNEL_64))
		return boot_bad_kernel(kernel, err, "has no 64-bit entry: a 32-bit kernel?");
	return 0;
}

static int place(const struct machine *m, const struct boot_file *kernel, struct bzimage *image,
		 struct error *err)
{
	const struct setup_header *h = &image->hdr;
	/* 0 means 4, for ancient reasons. */
	image->code_off = (uint64_t)SECTOR_LEN * ((h->setup_sects ? h->setup_sects : 4) + 1);
	if (kernel->len <= image->code_off)
		return boot_bad_kernel(kernel, err, "ends before its protected-mode code");
	image->code_len = kernel->len - image->code_off;
	if (image->code_len <= 0x200)
		return boot_bad_kernel(kernel, err, "ends before its 64-bit entry");

	if (h->pref_address < LAYOUT_KERNEL_MIN || h->pref_address > LAYOUT_RAM_LOW_END ||
	    !is_pow2(h->kernel_alignment) || h->pref_address % h->kernel_alignment)
		return boot_bad_kernel(kernel, err, "wants to be loaded at 0x%llx, aligned to 0x%x",
				       h->pref_address, h->kernel_alignment);
	/* init_size is what the kernel needs in memory from its load address before it has read the
	 * memory map. A relocatable kernel loaded lower would move itself up again. */
	image->load_gpa = h->pref_address;
	image->end_gpa =
		image->load_gpa + (h->init_size > image->code_len ? h->init_size : image->code_len);
	if (image->end_gpa < image->load_gpa || image->end_gpa > m->ram.state.len[0])
		return boot_no_room(m, "kernel", kernel->path,
				    image->end_gpa < image->load_gpa ? UINT64_MAX : image->end_gpa,
				    err);
	return 0;
}

static void fill_boot_params(struct machine *m, const struct bzimage *image, uint64_t rsdp_gpa,
			     uint64_t initrd_gpa, uint64_t initrd_len)
{
	struct boot_params *bp = ram_at(&m->ram, LAYOUT_BOOT_PARAMS, sizeof(*bp));
	memset(bp, 0, sizeof(*bp));
	memcpy(&bp->hdr, &image->hdr, image->hdr_len);
	bp->hdr.type_of_loader = 0xff; /* no assigned number */
	bp->hdr.loadflags |= LOADED_HIGH | CAN_USE_HEAP;
	bp->hdr.heap_end_ptr = 0xfe00;
	bp->hdr.vid_mode = 0xffff; /* normal */
	bp->hdr.code32_start = (uint32_t)image->load_gpa;
	bp->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	bp->hdr.ramdisk_image = (uint32_t)initrd_gpa;
	bp->hdr.ramdisk_size = (uint32_t)initrd_len;
	bp->acpi_rsdp_addr = rsdp_gpa;

	struct boot_range map[BOOT_MAX_RANGES];
	bp->e820_entries = (uint8_t)boot_memmap(&m->ram.state, map);
	for (unsigned i = 0; i < bp->e820_entries; i++)
		bp->e820_table[i] = (struct boot_e820_entry){map[i].gpa, map[i].len, map[i].type};
}

/* Four tables of 2 MiB pages map the first 4 GiB one to one: kernel, boot_params and command line
 * must be mapped at entry, and all of them lie there. */
static uint64_t fill_page_tables(struct machine *m)
{
	enum { PRESENT = 1, WRITE = 2, LARGE = 0x80 };
	const uint64_t pml4_gpa = LAYOUT_PAGE_TABLES, pdpt_gpa = pml4_gpa + PAGE_LEN;
	const uint64_t pd_gpa = pdpt_gpa + PAGE_LEN;
	uint64_t *table = ram_at(&m->ram, pml4_gpa, 6 * PAGE_LEN);
	memset(table, 0, 6 * PAGE_LEN);
	table[0] = pdpt_gpa | PRESENT | WRITE;
	for (uint64_t i = 0; i < 4; i++)
		table[512 + i] = (pd_gpa + i * PAGE_LEN) | PRESENT | WRITE;
	for (uint64_t i = 0; i < 4 * 512; i++)
		table[1024 + i] = (i * 2 * MIB) | PRESENT | WRITE | LARGE;
	return pml4_gpa;
}

/* __BOOT_CS 0x10 and __BOOT_DS 0x18, flat. */
static uint32_t fill_gdt(struct machine *m)
{
	static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};
	memcpy(ram_at(&m->ram, LAYOUT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
	return sizeof(gdt);
}

int bzimage_load(struct machine *m, const struct boot_file *kernel, uint64_t rsdp_gpa,
		 struct boot_entry *entry, struct error *err)
{
	struct bzimage image;
	uint64_t initrd_gpa, initrd_len;
	int rc;

	if ((rc = read_header(kernel, &image, err)) || (rc = place(m, kernel, &image, err)) ||
	    (rc = boot_load_cmdline(m, image.hdr.cmdline_size, err)) ||
	    (rc = boot_file_read(kernel, image.code_off,
				 ram_at(&m->ram, image.load_gpa, image.code_len), image.code_len,
				 err)) ||
	    (rc = boot_load_initrd(m, image.end_gpa, (uint64_t)image.hdr.initrd_addr_max + 1,
				   &initrd_gpa, &initrd_len, err)))
		return rc;
	fill_boot_params(m, &image, rsdp_gpa, initrd_gpa, initrd_len);

	entry->mode = BOOT_LONG64;
	entry->rip = image.load_gpa + 0x200;
	entry->rsp = LAYOUT_STACK_TOP;
	entry->rsi = LAYOUT_BOOT_PARAMS;
	entry->cr3 = fill_page_tables(m);
	entry->gdt_gpa = LAYOUT_GDT;
	entry->gdt_len = fill_gdt(m);
	return 0;
}
