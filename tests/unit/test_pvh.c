/* SPDX-License-Identifier: MIT */
#include "tests/unit/boot_test.h"

#include "tests/unit/boot_images.h"

/* As in the specification of the structure: offsets in bytes. */
static uint64_t info(unsigned offset, unsigned len)
{
	return load_le(machine.ram.hva + entry.rbx + offset, len);
}

static void start_info(void **state)
{
	struct elf e;
	elf_make(&e);
	file_put(initrd_fd, "initrd", 6);
	machine.opt.initrd = initrd_path;
	assert_int_equal(load(&e, sizeof(e)), 0);
	assert_int_equal(entry.mode, BOOT_PVH32);
	assert_int_equal(entry.rip, 0x200010);
	assert_memory_equal(machine.ram.hva + 0x200000, e.code, 64);
	for (unsigned i = 64; i < 0x3000; i++)
		assert_int_equal(machine.ram.hva[0x200000 + i], 0);

	assert_int_equal(info(0, 4), 0x336ec578);
	assert_int_equal(info(4, 4), 1);
	assert_int_equal(info(12, 4), 1);
	const uint8_t *module = machine.ram.hva + info(16, 8);
	assert_memory_equal(machine.ram.hva + load_le(module, 8), "initrd", 6);
	assert_int_equal(load_le(module + 8, 8), 6);
	assert_string_equal((char *)machine.ram.hva + info(24, 8), "console=ttyS0");
	assert_memory_equal(machine.ram.hva + info(32, 8), "RSD PTR ", 8);
	assert_int_equal(info(48, 4), 5);
	const uint8_t *map = machine.ram.hva + info(40, 8);
	assert_int_equal(load_le(map, 8), 0);
	assert_int_equal(load_le(map + 8, 8), 0x9fc00);
	assert_int_equal(load_le(map + 16, 4), 1);

	machine.opt.initrd = NULL;
	assert_int_equal(load(&e, sizeof(e)), 0);
	assert_int_equal(info(12, 4), 0);
}

static void class_of_32_bits(void **state)
{
	struct {
		Elf32_Ehdr eh;
		Elf32_Phdr load, note;
		Elf32_Nhdr nh;
		char name[4];
		uint32_t desc, code;
	} e = {.eh = {.e_machine = EM_386,
		      .e_phoff = offsetof(typeof(e), load),
		      .e_phentsize = sizeof(Elf32_Phdr),
		      .e_phnum = 2},
	       .load = {.p_type = PT_LOAD,
			.p_offset = offsetof(typeof(e), code),
			.p_paddr = 0x100000,
			.p_filesz = 4,
			.p_memsz = 4},
	       .note = {.p_type = PT_NOTE, .p_offset = offsetof(typeof(e), nh), .p_filesz = 20},
	       .nh = {4, 4, 18},
	       .name = "Xen",
	       .desc = 0x100000,
	       .code = 0xfeebf4fa};
	memcpy(e.eh.e_ident, ELFMAG, SELFMAG);
	e.eh.e_ident[EI_CLASS] = ELFCLASS32;
	e.eh.e_ident[EI_DATA] = ELFDATA2LSB;
	assert_int_equal(load(&e, sizeof(e)), 0);
	assert_int_equal(entry.rip, 0x100000);
	assert_int_equal(load_le(machine.ram.hva + 0x100000, 4), e.code);
	for (size_t len = 0; len < sizeof(e); len++)
		assert_refused(load(&e, len));
}

static void note_of_8_bytes(void **state)
{
	struct elf e;
	elf_make(&e);
	e.notes.nh.n_descsz = 8;
	assert_int_equal(load(&e, sizeof(e)), 0);
	e.notes.desc[1] = 1; /* 4 GiB further */
	assert_refused(load(&e, sizeof(e)));
}

static void cut_short(void **state)
{
	struct elf e;
	elf_make(&e);
	for (size_t len = 0; len < sizeof(e); len++)
		assert_refused(load(&e, len));
}

static void notes_cut_short(void **state)
{
	struct elf e;
	elf_make(&e);
	for (uint64_t len = 0; len < sizeof(e.notes) - 4; len++) {
		e.note.p_filesz = len;
		assert_refused_with(load(&e, sizeof(e)), "without a PVH");
	}
	e.note.p_filesz = sizeof(e.notes) - 4; /* a description of 4 bytes ends here */
	assert_int_equal(load(&e, sizeof(e)), 0);
}

static void notes_too_long(void **state)
{
	struct elf e;
	elf_make(&e);
	e.note.p_filesz = 65537;
	file_put(kernel_fd, &e, sizeof(e));
	assert_int_equal(ftruncate(kernel_fd, MIB), 0);
	assert_refused_with(boot_load(&machine, &entry, &err), "notes");
}

static void hostile_bytes(void **state)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	struct elf e;
	for (size_t i = SELFMAG; i < offsetof(struct elf, code); i++) {
		for (unsigned v = 0; v < sizeof(values); v++) {
			elf_make(&e);
			((uint8_t *)&e)[i] = values[v];
			if (load(&e, sizeof(e)))
				assert_refused(-1);
		}
	}
}

static void refusals(void **state)
{
	struct elf e;
#define REFUSED(change, words)                                                                     \
	do {                                                                                       \
		elf_make(&e);                                                                      \
		change;                                                                            \
		assert_refused_with(load(&e, sizeof(e)), words);                                   \
	} while (0)
	REFUSED(e.eh.e_machine = EM_AARCH64, "not an x86-64 ELF");
	REFUSED(e.eh.e_ident[EI_DATA] = ELFDATA2MSB, "big-endian");
	REFUSED(e.eh.e_phnum = 0, "not an x86-64 ELF");
	REFUSED(e.eh.e_phnum = 0xffff, "not an x86-64 ELF");
	REFUSED(e.eh.e_phoff = UINT64_MAX - 8, "cut short");
	REFUSED(e.notes.nh.n_type = 17, "without a PVH");
	REFUSED(e.notes.nh.n_namesz = 0xffffffff, "without a PVH");
	REFUSED(e.notes.nh.n_descsz = 0xffffffff, "without a PVH");
	REFUSED(e.notes.other.n_descsz = 0xfffffffd, "without a PVH");
	REFUSED(e.notes.desc[0] = 0x1ffff0, "in no segment");
	REFUSED(e.notes.desc[0] = 0x203000, "in no segment");
	REFUSED(e.note.p_filesz = UINT64_MAX, "notes");
	REFUSED(e.note.p_offset = UINT64_MAX - 16, "notes");
	REFUSED(e.load.p_paddr = 0xff000, "between 1 MiB and 3 GiB");
	REFUSED(e.load.p_paddr = UINT64_MAX - 0x1000, "between 1 MiB and 3 GiB");
	REFUSED(e.load.p_memsz = UINT64_MAX - 0x1000, "between 1 MiB and 3 GiB");
	REFUSED(e.load.p_memsz = 63, "between 1 MiB and 3 GiB");
	REFUSED(e.load.p_memsz = 63 * MIB, "--mem 65M");
	REFUSED(e.load.p_offset = UINT64_MAX - 16, "cut short");
#undef REFUSED
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(start_info),	    T(class_of_32_bits), T(note_of_8_bytes), T(cut_short),
		T(notes_cut_short), T(notes_too_long),	 T(hostile_bytes),   T(refusals),
	};
	return run_group(tests, ARRAY_LEN(tests));
}
