/* SPDX-License-Identifier: MIT */
#include "tests/unit/boot_test.h"

#include <linux/kvm.h>

#include "tests/unit/boot_images.h"

static void bzimage(void **state)
{
	uint8_t image[BZ_LEN];
	static uint8_t initrd[5000];
	bz_make(image);
	memset(initrd, 0x77, sizeof(initrd));
	file_put(initrd_fd, initrd, sizeof(initrd));
	machine.opt.initrd = initrd_path;

	assert_int_equal(load(image, BZ_LEN), 0);
	assert_int_equal(entry.mode, BOOT_LONG64);
	assert_int_equal(entry.rip, 0x1000200);
	assert_int_equal(entry.rsi, LAYOUT_BOOT_PARAMS);
	assert_memory_equal(machine.ram.hva + 0x1000000, image + BZ_CODE_OFF, BZ_LEN - BZ_CODE_OFF);

	const struct boot_params *bp = (void *)(machine.ram.hva + entry.rsi);
	assert_int_equal(bp->sentinel, 0);
	assert_int_equal(bp->hdr.header, 0x53726448);
	assert_int_equal(bp->hdr.type_of_loader, 0xff);
	assert_true(bp->acpi_rsdp_addr >= 0xe0000 && bp->acpi_rsdp_addr < 0x100000);
	assert_string_equal((char *)machine.ram.hva + bp->hdr.cmd_line_ptr, "console=ttyS0");
	assert_int_equal(bp->hdr.ramdisk_size, sizeof(initrd));
	assert_int_equal(bp->hdr.ramdisk_image, RAM_LEN - 2 * PAGE_LEN); /* as high as it goes */
	assert_memory_equal(machine.ram.hva + bp->hdr.ramdisk_image, initrd, sizeof(initrd));

	/* one to one, the last page of the first 4 GiB included */
	const uint64_t *pml4 = (void *)(machine.ram.hva + entry.cr3);
	const uint64_t *pdpt = (void *)(machine.ram.hva + (pml4[0] & ~0xfffull));
	const uint64_t *pd = (void *)(machine.ram.hva + (pdpt[3] & ~0xfffull));
	assert_int_equal(pml4[0] & 3, 3);
	assert_int_equal(pd[511], 0xffe00083);
	assert_int_equal(pml4[1], 0);
}

static void bzimage_initrd_below_its_limit(void **state)
{
	uint8_t image[BZ_LEN];
	struct setup_header *h = bz_make(image);
	const struct boot_params *bp = (void *)(machine.ram.hva + LAYOUT_BOOT_PARAMS);
	file_put(initrd_fd, "initrd", 6);
	machine.opt.initrd = initrd_path;
	h->initrd_addr_max = 0x2ffffff;
	assert_int_equal(load(image, BZ_LEN), 0);
	assert_int_equal(bp->hdr.ramdisk_image, 0x2fff000);
	h->initrd_addr_max = 0x2000000; /* the kernel ends there */
	assert_true(load(image, BZ_LEN) < 0);
	assert_non_null(strstr(err.text, initrd_path));
	assert_int_equal(err.exit, EXIT_CONFIG);
	h->initrd_addr_max = 0xffffffff;
	assert_int_equal(load(image, BZ_LEN), 0);
	assert_int_equal(bp->hdr.ramdisk_image, RAM_LEN - PAGE_LEN);
}

static void initrd_faults(void **state)
{
	uint8_t image[BZ_LEN];
	bz_make(image);
	machine.opt.initrd = initrd_path;
	file_put(initrd_fd, "", 0);
	assert_true(load(image, BZ_LEN) < 0);
	assert_non_null(strstr(err.text, "empty"));
	assert_int_equal(ftruncate(initrd_fd, RAM_LEN), 0); /* sparse */
	assert_true(load(image, BZ_LEN) < 0);
	assert_non_null(strstr(err.hint, "--mem 96M")); /* kernel up to 32 MiB, initrd 64 MiB */
	assert_int_equal(ftruncate(initrd_fd, 1ll << 45), 0);
	assert_true(load(image, BZ_LEN) < 0);
	assert_non_null(strstr(err.text, "does not fit"));
	machine.opt.initrd = "/nonexistent/initrd";
	assert_true(load(image, BZ_LEN) < 0);
	assert_non_null(strstr(err.text, "initrd /nonexistent/initrd"));
}

static void bzimage_cut_short(void **state)
{
	uint8_t image[BZ_LEN];
	bz_make(image);
	for (size_t len = 0; len <= BZ_CODE_OFF + 0x200; len++)
		assert_refused(load(image, len));
	assert_int_equal(load(image, BZ_CODE_OFF + 0x201), 0);
}

static void bzimage_hostile_bytes(void **state)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	uint8_t image[BZ_LEN];
	for (size_t i = 0x1f1; i < 0x290; i++) {
		for (unsigned v = 0; v < sizeof(values); v++) {
			bz_make(image);
			image[i] = values[v];
			int rc = load(image, BZ_LEN);
			if (rc)
				assert_int_equal(err.exit, EXIT_CONFIG);
		}
	}
}

static void bzimage_refusals(void **state)
{
	uint8_t image[BZ_LEN];
	struct setup_header *h = bz_make(image);

#define REFUSED(change, words)                                                                     \
	do {                                                                                       \
		h = bz_make(image);                                                                \
		change;                                                                            \
		assert_refused_with(load(image, BZ_LEN), words);                                   \
	} while (0)
	REFUSED(h->header = 0, "neither a bzImage nor an ELF file");
	REFUSED(h->boot_flag = 0, "magic");
	REFUSED(h->version = 0x020b, "2.11 is older");
	REFUSED(h->xloadflags = 0, "32-bit kernel");
	REFUSED(h->jump = 0x10eb, "too short");
	REFUSED(h->kernel_alignment = 0, "aligned to 0x0");
	REFUSED(h->kernel_alignment = 3, "aligned to 0x3");
	REFUSED(h->pref_address = 0x1000, "0x1000");
	REFUSED(h->pref_address = 0x1001000, "0x1001000");
	REFUSED(h->pref_address = ~0ull << 21, "0xffffffff");
	REFUSED(h->init_size = 0x4000000, "--mem 80M");
	REFUSED(h->init_size = 0xffffffff, "smaller file");
	REFUSED(h->setup_sects = 0xff, "ends before");
#undef REFUSED
}

static void command_line(void **state)
{
	uint8_t image[BZ_LEN];
	static char text[3000];
	bz_make(image)->cmdline_size = 2047;
	machine.opt.cmdline = text;
	memset(text, 'x', 2047);
	assert_int_equal(load(image, BZ_LEN), 0);
	text[2047] = 'x';
	assert_int_equal(load(image, BZ_LEN), -E2BIG);
	assert_non_null(strstr(err.text, "2048"));
	assert_int_equal(err.exit, EXIT_CONFIG);
	memset(text, 0, sizeof(text));
}

static void not_a_file(void **state)
{
	machine.opt.kernel = "/";
	assert_true(boot_load(&machine, &entry, &err) < 0);
	assert_non_null(strstr(err.text, "not a regular file"));
	machine.opt.kernel = "/nonexistent/vmlinuz";
	assert_int_equal(boot_load(&machine, &entry, &err), -ENOENT);
	assert_int_equal(err.exit, EXIT_CONFIG);
}

static void memory_map(void **state)
{
	struct ram_state ram = {0};
	struct boot_range r[BOOT_MAX_RANGES];
	assert_int_equal(arch_ram_layout(&ram, 4 * GIB, NULL), 0);
	assert_int_equal(ram.nregions, 2);
	assert_int_equal(ram.len[0], 3 * GIB);
	assert_int_equal(ram.gpa[1], 4 * GIB);
	assert_int_equal(ram.len[1], GIB);
	assert_int_equal(ram.offset[1], 3 * GIB);
	unsigned n = boot_memmap(&ram, r);
	assert_int_equal(n, 6);
	uint64_t total = 0;
	for (unsigned i = 0; i < n; i++) {
		assert_true(!i || r[i].gpa >= r[i - 1].gpa + r[i - 1].len);
		total += r[i].type == BOOT_RAM ? r[i].len : 0;
	}
	assert_int_equal(total, 4 * GIB - (MIB - 0x9fc00));
	assert_int_equal(r[3].gpa, LAYOUT_ECAM_BASE);
	assert_int_equal(r[3].type, BOOT_RESERVED);

	assert_int_equal(arch_ram_layout(&ram, 3 * GIB, NULL), 0);
	assert_int_equal(ram.nregions, 1);
	assert_int_equal(arch_ram_layout(&ram, 300 * GIB, NULL), 0);
	assert_int_equal(ram.gpa[1] + ram.len[1], 301 * GIB);
	/* Around what is AMD's below 1 TiB: with not a page in it, or all that is left above it. */
	assert_int_equal(arch_ram_layout(&ram, 1011 * GIB, NULL), 0);
	assert_int_equal(ram.nregions, 2);
	assert_int_equal(ram.gpa[1] + ram.len[1], LAYOUT_HT_BASE);
	assert_int_equal(arch_ram_layout(&ram, 2048 * GIB, NULL), 0);
	assert_int_equal(ram.nregions, 3);
	assert_int_equal(ram.gpa[1] + ram.len[1], LAYOUT_HT_BASE);
	assert_int_equal(ram.offset[2], 1011 * GIB);
	assert_int_equal(ram.gpa[2], 1024 * GIB);
	assert_int_equal(ram.len[2], 1037 * GIB);
	n = boot_memmap(&ram, r);
	assert_true(n <= BOOT_MAX_RANGES);
	assert_int_equal(r[n - 1].gpa, 1024 * GIB);
	assert_true(arch_ram_layout(&ram, 4097 * GIB, NULL) < 0);
	assert_true(arch_ram_layout(&ram, 31 * MIB, &err) < 0);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_true(arch_ram_layout(&ram, 64 * MIB + 1, NULL) < 0);
	assert_true(arch_ram_layout(&ram, UINT64_MAX, NULL) < 0);
	assert_true(arch_ram_layout(&ram, 0, NULL) < 0);
}

/* Where a guest that was handed over has a slot that it was not told of as memory (warm.c). */
static void the_readers_pages_are_reserved(void **state)
{
	static const uint64_t others[][2] = {
		{LAYOUT_MMIO32_BASE, LAYOUT_MMIO32_LEN}, {LAYOUT_ECAM_BASE, LAYOUT_ECAM_LEN},
		{LAYOUT_IOAPIC_BASE, PAGE_LEN},		 {LAYOUT_LAPIC_BASE, PAGE_LEN},
		{LAYOUT_IDENTITY_GPA, PAGE_LEN},	 {LAYOUT_TSS, 3 * PAGE_LEN}};
	struct ram_state ram = {0};
	struct boot_range r[BOOT_MAX_RANGES];
	unsigned reserved = 0;
	assert_int_equal(arch_ram_layout(&ram, 1024 * GIB, NULL), 0);
	unsigned n = boot_memmap(&ram, r);
	for (unsigned i = 0; i < n; i++) {
		if (!ranges_overlap(r[i].gpa, r[i].len, LAYOUT_READER, LAYOUT_READER_LEN))
			continue;
		assert_int_equal(r[i].type, BOOT_RESERVED);
		assert_true(range_fits(LAYOUT_READER - r[i].gpa, LAYOUT_READER_LEN, r[i].len));
		reserved++;
	}
	assert_int_equal(reserved, 1);
	for (unsigned i = 0; i < ARRAY_LEN(others); i++)
		assert_false(ranges_overlap(others[i][0], others[i][1], LAYOUT_READER,
					    LAYOUT_READER_LEN));
}

static void registers(void **state)
{
	struct kvm_sregs2 s = {.apic_base = 0xfee00900, .cr8 = 3};
	struct kvm_regs r = {.rax = 1};
	struct boot_entry e = {.mode = BOOT_LONG64,
			       .rip = 0x1000200,
			       .rsi = 0x7000,
			       .cr3 = 0x9000,
			       .gdt_gpa = 0x500,
			       .gdt_len = 32};
	boot_set_sregs(&e, &s, &r);
	assert_int_equal(s.cr0, 0x80000011);
	assert_int_equal(s.cr4, 0x20);
	assert_int_equal(s.efer, 0x500);
	assert_int_equal(s.cr3, 0x9000);
	assert_true(s.cs.l && !s.cs.db && s.cs.selector == 0x10 && s.ss.selector == 0x18);
	assert_true(s.gdt.base == 0x500 && s.gdt.limit == 31);
	assert_true(s.apic_base == 0xfee00900 && s.cr8 == 3); /* not ours */
	assert_true(r.rip == 0x1000200 && r.rsi == 0x7000 && r.rflags == 2 && !r.rax);

	e = (struct boot_entry){.mode = BOOT_PVH32, .rip = 0x100000, .rbx = 0x6000};
	boot_set_sregs(&e, &s, &r);
	assert_int_equal(s.cr0, 0x11);
	assert_true(!s.cr4 && !s.efer && !s.cs.l && s.cs.db && s.cs.limit == 0xffffffff);
	assert_int_equal(r.rbx, 0x6000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bzimage),
		T(bzimage_initrd_below_its_limit),
		T(bzimage_cut_short),
		T(bzimage_hostile_bytes),
		T(bzimage_refusals),
		T(initrd_faults),
		T(command_line),
		T(not_a_file),
		T(memory_map),
		T(registers),
		T(the_readers_pages_are_reserved),
		T(registers),
	};
	return run_group(tests, ARRAY_LEN(tests));
}
