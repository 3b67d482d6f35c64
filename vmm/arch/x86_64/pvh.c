/* SPDX-License-Identifier: MIT */
/* ELF kernels by their PVH note: Xen docs/misc/pvh.pandoc, elfnote.h, and start_info.h (what ebx
 * points to at entry). */
#include <elf.h>

#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

#define NOTE_PHYS32_ENTRY 18
#define NOTES_MAX_LEN	  (64 * KIB)
#define MAX_PHDRS	  128

struct start_info {
	uint32_t magic; /* 0x336ec578: "xEn3" with bit 7 of the E set */
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_gpa;
	uint64_t cmdline_gpa;
	uint64_t rsdp_gpa;
	uint64_t memmap_gpa; /* version 1 from here on */
	uint32_t memmap_entries;
	uint32_t reserved;
};

struct modlist_entry {
	uint64_t gpa, len, cmdline_gpa, reserved;
};

struct memmap_entry {
	uint64_t gpa, len;
	uint32_t type, reserved;
};

/* Everything that start_info points to but the command line, in one page. */
struct start_page {
	struct start_info info;
	struct modlist_entry module;
	struct memmap_entry memmap[BOOT_MAX_RANGES];
};

struct image {
	const struct boot_file *file;
	Elf64_Phdr phdr[MAX_PHDRS];
	unsigned nphdrs;
	bool has_entry;
	uint64_t entry_gpa, end_gpa;
};

/* Of either class of ELF: headers of both become 64-bit ones. */
#define READ_PHDRS(bits, machine, name)                                                            \
	static int read_phdrs##bits(struct image *im, struct error *err)                           \
	{                                                                                          \
		Elf##bits##_Ehdr eh;                                                               \
		Elf##bits##_Phdr ph[MAX_PHDRS];                                                    \
		int rc = boot_file_read(im->file, 0, &eh, sizeof(eh), err);                        \
		if (rc)                                                                            \
			return rc;                                                                 \
		if (eh.e_machine != machine || eh.e_phentsize != sizeof(ph[0]) || !eh.e_phnum ||   \
		    eh.e_phnum > MAX_PHDRS)                                                        \
			return boot_bad_kernel(im->file, err, "not an " name " ELF program");      \
		rc = boot_file_read(im->file, eh.e_phoff, ph, eh.e_phnum * sizeof(ph[0]), err);    \
		im->nphdrs = rc ? 0 : eh.e_phnum;                                                  \
		for (unsigned i = 0; i < im->nphdrs; i++)                                          \
			im->phdr[i] = (Elf64_Phdr){.p_type = ph[i].p_type,                         \
						   .p_offset = ph[i].p_offset,                     \
						   .p_paddr = ph[i].p_paddr,                       \
						   .p_filesz = ph[i].p_filesz,                     \
						   .p_memsz = ph[i].p_memsz,                       \
						   .p_align = ph[i].p_align};                      \
		return rc;                                                                         \
	}
READ_PHDRS(64, EM_X86_64, "x86-64")
READ_PHDRS(32, EM_386, "x86")

/* Looks for the entry note among @len bytes of notes, whose parts are padded to @align. */
static void scan_notes(struct image *im, const uint8_t *p, uint64_t len, uint64_t align)
{
	Elf64_Nhdr note; /* the same in both classes */
	uint64_t off = 0;
	while (range_fits(off, sizeof(note), len)) {
		memcpy(&note, p + off, sizeof(note));
		uint64_t name = off + sizeof(note);
		uint64_t desc = align_up(name + note.n_namesz, align);
		if (!range_fits(desc, note.n_descsz, len))
			return;
		if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == 4 &&
		    !memcmp(p + name, "Xen", 4) && (note.n_descsz == 4 || note.n_descsz == 8)) {
			im->entry_gpa = load_le(p + desc, note.n_descsz);
			im->has_entry = true;
			return;
		}
		off = align_up(desc + note.n_descsz, align);
	}
}

static int read_notes(struct image *im, const Elf64_Phdr *ph, struct error *err)
{
	if (!range_fits(ph->p_offset, ph->p_filesz, im->file->len) || ph->p_filesz > NOTES_MAX_LEN)
		return boot_bad_kernel(im->file, err, "its notes (0x%lx bytes at 0x%lx) do not fit",
				       ph->p_filesz, ph->p_offset);
	uint8_t *notes = malloc(ph->p_filesz + 1);
	if (!notes)
		return error_errno(err, ENOMEM, "kernel %s: reading its notes", im->file->path);
	int rc = boot_file_read(im->file, ph->p_offset, notes, ph->p_filesz, err);
	if (!rc)
		scan_notes(im, notes, ph->p_filesz, ph->p_align == 8 ? 8 : 4);
	free(notes);
	return rc;
}

static int load_segment(struct machine *m, struct image *im, const Elf64_Phdr *ph,
			struct error *err)
{
	if (!ph->p_memsz)
		return 0;
	if (ph->p_filesz > ph->p_memsz || ph->p_paddr < LAYOUT_KERNEL_MIN ||
	    !range_fits(ph->p_paddr, ph->p_memsz, LAYOUT_RAM_LOW_END))
		return boot_bad_kernel(im->file, err,
				       "segment 0x%lx+0x%lx is not between 1 MiB and 3 GiB",
				       ph->p_paddr, ph->p_memsz);
	uint64_t end = ph->p_paddr + ph->p_memsz;
	uint8_t *to = ram_at(&m->ram, ph->p_paddr, ph->p_memsz);
	if (!to)
		return boot_no_room(m, "kernel", im->file->path, end, err);
	int rc = boot_file_read(im->file, ph->p_offset, to, ph->p_filesz, err);
	if (rc)
		return rc;
	/* Memory from --mem path= need not be zero. */
	memset(to + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
	if (end > im->end_gpa)
		im->end_gpa = end;
	return 0;
}

static int load_image(struct machine *m, struct image *im, struct error *err)
{
	uint8_t ident[EI_NIDENT];
	int rc = boot_file_read(im->file, 0, ident, sizeof(ident), err);
	if (rc)
		return rc;
	if (ident[EI_DATA] != ELFDATA2LSB)
		return boot_bad_kernel(im->file, err, "a big-endian ELF file");
	rc = ident[EI_CLASS] == ELFCLASS64   ? read_phdrs64(im, err)
	     : ident[EI_CLASS] == ELFCLASS32 ? read_phdrs32(im, err)
					     : boot_bad_kernel(im->file, err, "unknown ELF class");
	for (unsigned i = 0; !rc && i < im->nphdrs; i++) {
		if (im->phdr[i].p_type == PT_NOTE && !im->has_entry)
			rc = read_notes(im, &im->phdr[i], err);
		else if (im->phdr[i].p_type == PT_LOAD)
			rc = load_segment(m, im, &im->phdr[i], err);
	}
	if (rc)
		return rc;
	if (!im->has_entry)
		return boot_bad_kernel(im->file, err, "an ELF file without a PVH entry note");
	for (unsigned i = 0; i < im->nphdrs; i++)
		if (im->phdr[i].p_type == PT_LOAD &&
		    im->entry_gpa - im->phdr[i].p_paddr < im->phdr[i].p_memsz)
			return 0;
	return boot_bad_kernel(im->file, err, "its PVH entry 0x%lx lies in no segment",
			       im->entry_gpa);
}

static void fill_start_page(struct machine *m, uint64_t rsdp_gpa, uint64_t initrd_gpa,
			    uint64_t initrd_len)
{
	struct start_page *page = ram_at(&m->ram, LAYOUT_START_INFO, sizeof(*page));
	struct boot_range map[BOOT_MAX_RANGES];

	memset(page, 0, sizeof(*page));
	page->info = (struct start_info){
		.magic = 0x336ec578,
		.version = 1,
		.cmdline_gpa = LAYOUT_CMDLINE,
		.rsdp_gpa = rsdp_gpa,
		.memmap_gpa = LAYOUT_START_INFO + offsetof(struct start_page, memmap),
		.memmap_entries = boot_memmap(&m->ram.state, map),
	};
	for (unsigned i = 0; i < page->info.memmap_entries; i++)
		page->memmap[i] = (struct memmap_entry){
			.gpa = map[i].gpa, .len = map[i].len, .type = map[i].type};
	if (initrd_len) {
		page->info.nr_modules = 1;
		page->info.modlist_gpa = LAYOUT_START_INFO + offsetof(struct start_page, module);
		page->module = (struct modlist_entry){.gpa = initrd_gpa, .len = initrd_len};
	}
}

int pvh_load(struct machine *m, const struct boot_file *kernel, uint64_t rsdp_gpa,
	     struct boot_entry *entry, struct error *err)
{
	struct image im = {.file = kernel};
	uint64_t initrd_gpa, initrd_len;
	int rc;

	if ((rc = load_image(m, &im, err)) || (rc = boot_load_cmdline(m, UINT64_MAX, err)) ||
	    (rc = boot_load_initrd(m, im.end_gpa, LAYOUT_RAM_LOW_END, &initrd_gpa, &initrd_len,
				   err)))
		return rc;
	fill_start_page(m, rsdp_gpa, initrd_gpa, initrd_len);
	entry->mode = BOOT_PVH32;
	entry->rip = im.entry_gpa;
	entry->rsp = LAYOUT_STACK_TOP;
	entry->rbx = LAYOUT_START_INFO;
	return 0;
}
