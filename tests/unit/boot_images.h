/* SPDX-License-Identifier: MIT */
/* Smallest kernel images that are accepted: for the tests of booting and as seeds of its fuzzing. */
#ifndef MOLT_BOOT_IMAGES_H
#define MOLT_BOOT_IMAGES_H

#include <asm/bootparam.h>
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BZ_CODE_OFF 1024
#define BZ_LEN	    (BZ_CODE_OFF + 0x1000)

static inline struct setup_header *bz_make(uint8_t image[BZ_LEN])
{
	struct setup_header *h = (struct setup_header *)(image + 0x1f1);
	memset(image, 0, BZ_LEN);
	memset(image + BZ_CODE_OFF, 0xcc, BZ_LEN - BZ_CODE_OFF);
	h->setup_sects = 1;
	h->boot_flag = 0xaa55;
	h->jump = (sizeof(*h) + 0x1f1 - 0x202) << 8 | 0xeb;
	h->header = 0x53726448;
	h->version = 0x020f;
	h->xloadflags = XLF_KERNEL_64;
	h->kernel_alignment = 0x200000;
	h->relocatable_kernel = 1;
	h->pref_address = 0x1000000;
	h->init_size = 0x1000000;
	h->initrd_addr_max = 0x7fffffff;
	h->cmdline_size = 2047;
	return h;
}

struct elf {
	Elf64_Ehdr eh;
	Elf64_Phdr load, note;
	struct {
		Elf64_Nhdr other;
		char other_name[8], other_desc[4];
		Elf64_Nhdr nh;
		char name[4];
		uint32_t desc[2];
	} notes;
	uint8_t code[64];
};

static inline void elf_make(struct elf *e)
{
	memset(e, 0, sizeof(*e));
	memcpy(e->eh.e_ident, ELFMAG, SELFMAG);
	e->eh.e_ident[EI_CLASS] = ELFCLASS64;
	e->eh.e_ident[EI_DATA] = ELFDATA2LSB;
	e->eh.e_machine = EM_X86_64;
	e->eh.e_phoff = offsetof(struct elf, load);
	e->eh.e_phentsize = sizeof(Elf64_Phdr);
	e->eh.e_phnum = 2;
	e->load = (Elf64_Phdr){.p_type = PT_LOAD,
			       .p_offset = offsetof(struct elf, code),
			       .p_paddr = 0x200000,
			       .p_filesz = 64,
			       .p_memsz = 0x3000};
	e->note = (Elf64_Phdr){.p_type = PT_NOTE,
			       .p_offset = offsetof(struct elf, notes),
			       .p_filesz = sizeof(e->notes),
			       .p_align = 4};
	e->notes.other = (Elf64_Nhdr){.n_namesz = 5, .n_descsz = 3, .n_type = 18};
	memcpy(e->notes.other_name, "Xenu", 5);
	e->notes.nh = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 4, .n_type = 18};
	memcpy(e->notes.name, "Xen", 4);
	e->notes.desc[0] = 0x200010;
	memset(e->code, 0x90, sizeof(e->code));
}

#endif
