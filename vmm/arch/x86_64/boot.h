/* SPDX-License-Identifier: MIT */
/*
 * x86-64 boot: puts kernel, initrd, command line and tables into guest memory and says how the
 * first vCPU starts. bzImage by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst),
 * ELF by its PVH note (Xen docs/misc/pvh.pandoc).
 */
#pragma once

#include "vmm/base/base.h"

struct kvm_regs;
struct kvm_sregs2;
struct machine;
struct ram_state;

enum boot_mode {
	BOOT_LONG64, /* 64-bit mode, first 4 GiB mapped one to one */
	BOOT_PVH32,  /* 32-bit protected mode, flat, no paging */
};

struct boot_entry {
	enum boot_mode mode;
	uint64_t rip, rsp, rsi, rbx;
	uint64_t cr3;	  /* BOOT_LONG64 */
	uint64_t gdt_gpa; /* BOOT_LONG64 */
	uint32_t gdt_len;
};

/* Loads what m->opt names. Exit code of errors: EXIT_CONFIG. */
int boot_load(struct machine *m, struct boot_entry *entry, struct error *err);

/* Changes @sregs, as they are after reset, into those of the entry; @regs is overwritten. */
void boot_set_sregs(const struct boot_entry *entry, struct kvm_sregs2 *sregs,
		    struct kvm_regs *regs);

/* Types of the memory map, the same numbers in E820 and PVH. */
enum { BOOT_RAM = 1, BOOT_RESERVED = 2 };

struct boot_range {
	uint64_t gpa, len;
	uint32_t type;
};

#define BOOT_MAX_RANGES 16

unsigned boot_memmap(const struct ram_state *ram, struct boot_range out[BOOT_MAX_RANGES]);

struct boot_file {
	const char *path;
	int fd;
	uint64_t len;
};

int boot_file_open(struct boot_file *file, const char *path, const char *what, struct error *err);

/* Reads file bytes [off, off + len); -EBADMSG when the file is shorter. */
int boot_file_read(const struct boot_file *file, uint64_t off, void *dst, uint64_t len,
		   struct error *err);

/* Error: "kernel PATH: text", EXIT_CONFIG, with the list of what is accepted as the remedy. */
int boot_bad_kernel(const struct boot_file *file, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Error: guest memory is too small, @need_end is where low memory would have to end. */
int boot_no_room(const struct machine *m, const char *what, const char *path, uint64_t need_end,
		 struct error *err);

/* Loads the initrd, if there is one, as high as possible in [floor, ceiling) of low memory. */
int boot_load_initrd(struct machine *m, uint64_t floor_gpa, uint64_t ceiling_gpa, uint64_t *gpa,
		     uint64_t *len, struct error *err);

/* Copies the command line to LAYOUT_CMDLINE; @max: longest that the kernel takes, without NUL. */
int boot_load_cmdline(struct machine *m, uint64_t max, struct error *err);

int bzimage_load(struct machine *m, const struct boot_file *kernel, uint64_t rsdp_gpa,
		 struct boot_entry *entry, struct error *err);
int pvh_load(struct machine *m, const struct boot_file *kernel, uint64_t rsdp_gpa,
	     struct boot_entry *entry, struct error *err);

/* *rsdp_gpa: where the root pointer is. Needs m->ram mapped and m->opt.cpus. */
int acpi_build(struct machine *m, uint64_t *rsdp_gpa, struct error *err);
