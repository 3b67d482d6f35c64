/* SPDX-License-Identifier: MIT */
/* Loads kernel, initrd, command line and tables into guest memory, and sets the first vCPU up. */
#include "vmm/arch/x86_64/boot.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

unsigned boot_memmap(const struct ram_state *ram, struct boot_range out[BOOT_MAX_RANGES])
{
	unsigned n = 0;
	out[n++] = (struct boot_range){0, LAYOUT_EBDA, BOOT_RAM};
	out[n++] = (struct boot_range){LAYOUT_EBDA, MIB - LAYOUT_EBDA, BOOT_RESERVED};
	out[n++] = (struct boot_range){MIB, ram->len[0] - MIB, BOOT_RAM};
	/* Linux believes MCFG only if the range is reserved here or in ACPI; both is safest. */
	out[n++] = (struct boot_range){LAYOUT_ECAM_BASE, LAYOUT_ECAM_LEN, BOOT_RESERVED};
	out[n++] = (struct boot_range){LAYOUT_IDENTITY_GPA, LAYOUT_SCRATCH_LEN, BOOT_RESERVED};
	for (uint32_t i = 1; i < ram->nregions; i++)
		out[n++] = (struct boot_range){ram->gpa[i], ram->len[i], BOOT_RAM};
	return n;
}

int boot_file_open(struct boot_file *file, const char *path, const char *what, struct error *err)
{
	struct stat st = {0};
	int rc = 0;
	file->path = path;
	/* O_NONBLOCK: a named pipe must not hold us up before fstat tells what it is. */
	file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (file->fd < 0 || fstat(file->fd, &st) < 0)
		rc = error_file(err, errno, "%s %s", what, path);
	else if (!S_ISREG(st.st_mode))
		rc = (error_end(err, EXIT_CONFIG, EINVAL, "%s %s: not a regular file", what, path),
		      error_file_hint(err));
	if (rc)
		fd_close(&file->fd);
	file->len = (uint64_t)st.st_size;
	return rc;
}

int boot_file_read(const struct boot_file *file, uint64_t off, void *dst, uint64_t len,
		   struct error *err)
{
	if (!range_fits(off, len, file->len)) {
		error_end(err, EXIT_CONFIG, EBADMSG,
			  "%s: is cut short: %lu bytes at %lu, the file has %lu", file->path, len,
			  off, file->len);
		return error_hint(err, "copy the file again");
	}
	int rc = fd_pread_all(file->fd, dst, len, (off_t)off);
	return rc ? error_end(err, EXIT_CONFIG, -rc, "%s: reading %lu bytes at %lu: %m", file->path,
			      len, off)
		  : 0;
}

int boot_bad_kernel(const struct boot_file *file, struct error *err, const char *fmt, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	error_end(err, EXIT_CONFIG, EBADMSG, "kernel %s: %s", file->path, text);
	return error_hint(err,
			  "give --kernel a 64-bit Linux bzImage (boot protocol 2.12 or later, "
			  "/boot/vmlinuz-*) or an ELF file with a PVH note (vmlinux built with "
			  "CONFIG_PVH)");
}

int boot_no_room(const struct machine *m, const char *what, const char *path, uint64_t need_end,
		 struct error *err)
{
	error_end(err, EXIT_CONFIG, ENOMEM, "%s %s: does not fit into guest memory of %lu MiB",
		  what, path, m->ram.state.size / MIB);
	if (need_end <= LAYOUT_RAM_LOW_END)
		return error_hint(err, "it needs at least --mem %luM", (need_end + MIB - 1) / MIB);
	return error_hint(
		err,
		"it would have to end below %llu MiB, where guest memory has its hole for "
		"devices: use a smaller file",
		LAYOUT_RAM_LOW_END / MIB);
}

static int place_initrd(struct machine *m, const struct boot_file *file, uint64_t floor_gpa,
			uint64_t ceiling_gpa, uint64_t *gpa, struct error *err)
{
	uint64_t end = m->ram.state.len[0] < ceiling_gpa ? m->ram.state.len[0] : ceiling_gpa;
	uint64_t bottom = align_up(floor_gpa, PAGE_LEN);

	if (!file->len)
		return error_end(err, EXIT_CONFIG, EINVAL, "initrd %s: is empty", file->path);
	if (bottom > end || file->len > end - bottom ||
	    align_down(end - file->len, PAGE_LEN) < bottom) {
		uint64_t need = file->len < LAYOUT_RAM_LOW_END
					? bottom + align_up(file->len, PAGE_LEN)
					: UINT64_MAX;
		if (need > ceiling_gpa)
			need = UINT64_MAX;
		return boot_no_room(m, "initrd", file->path, need, err);
	}
	*gpa = align_down(end - file->len, PAGE_LEN);
	return boot_file_read(file, 0, ram_at(&m->ram, *gpa, file->len), file->len, err);
}

int boot_load_initrd(struct machine *m, uint64_t floor_gpa, uint64_t ceiling_gpa, uint64_t *gpa,
		     uint64_t *len, struct error *err)
{
	struct boot_file file;
	*gpa = *len = 0;
	if (!m->opt.initrd)
		return 0;
	int rc = boot_file_open(&file, m->opt.initrd, "initrd", err);
	if (rc)
		return rc;
	rc = place_initrd(m, &file, floor_gpa, ceiling_gpa, gpa, err);
	*len = file.len;
	fd_close(&file.fd);
	return rc;
}

int boot_load_cmdline(struct machine *m, uint64_t max, struct error *err)
{
	const char *text = m->opt.cmdline ? m->opt.cmdline : "";
	uint64_t len = strlen(text);
	if (max > LAYOUT_CMDLINE_ROOM - 1)
		max = LAYOUT_CMDLINE_ROOM - 1;
	if (len > max) {
		error_end(err, EXIT_CONFIG, E2BIG,
			  "the command line has %lu characters, this kernel takes %lu", len, max);
		return error_hint(err, "shorten --cmdline");
	}
	memcpy(ram_at(&m->ram, LAYOUT_CMDLINE, len + 1), text, len + 1);
	return 0;
}

static int load_kernel(struct machine *m, const struct boot_file *kernel, uint64_t rsdp_gpa,
		       struct boot_entry *entry, struct error *err)
{
	char magic[0x206] = {0};
	uint64_t len = kernel->len < sizeof(magic) ? kernel->len : sizeof(magic);
	int rc = boot_file_read(kernel, 0, magic, len, err);
	if (rc)
		return rc;
	if (!memcmp(magic, ELFMAG, SELFMAG))
		return pvh_load(m, kernel, rsdp_gpa, entry, err);
	if (!memcmp(magic + 0x202, "HdrS", 4))
		return bzimage_load(m, kernel, rsdp_gpa, entry, err);
	return boot_bad_kernel(kernel, err, "neither a bzImage nor an ELF file");
}

int boot_load(struct machine *m, struct boot_entry *entry, struct error *err)
{
	struct boot_file kernel;
	uint64_t rsdp_gpa;

	memset(entry, 0, sizeof(*entry));
	int rc = acpi_build(m, &rsdp_gpa, err);
	if (rc)
		return rc;
	rc = boot_file_open(&kernel, m->opt.kernel, "kernel", err);
	if (rc)
		return rc;
	rc = load_kernel(m, &kernel, rsdp_gpa, entry, err);
	fd_close(&kernel.fd);
	return rc;
}

/* Flat segments of 4 GiB, present, ring 0; selectors as the 64-bit boot protocol wants them. */
static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .s = 1,
				    .g = 1};
}

void boot_set_sregs(const struct boot_entry *entry, struct kvm_sregs2 *sregs, struct kvm_regs *regs)
{
	bool long64 = entry->mode == BOOT_LONG64;
	struct kvm_segment data = flat_segment(0x18, 3); /* read, write, accessed */
	data.db = 1;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->cs = flat_segment(0x10, 11); /* execute, read, accessed */
	sregs->cs.l = long64;
	sregs->cs.db = !long64;
	/* VM entry wants a busy task state segment (SDM vol. 3, 27.3.1.2). */
	sregs->tr = (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
	sregs->ldt = (struct kvm_segment){.unusable = 1};
	sregs->gdt =
		(struct kvm_dtable){.base = entry->gdt_gpa,
				    .limit = (uint16_t)(entry->gdt_len ? entry->gdt_len - 1 : 0)};
	sregs->idt = (struct kvm_dtable){0};

	const uint64_t cr0_pe = 1 << 0, cr0_et = 1 << 4, cr0_pg = 1u << 31;
	const uint64_t cr4_pae = 1 << 5, efer_lme = 1 << 8, efer_lma = 1 << 10;
	sregs->cr0 = cr0_pe | cr0_et | (long64 ? cr0_pg : 0);
	sregs->cr3 = entry->cr3;
	sregs->cr4 = long64 ? cr4_pae : 0;
	sregs->efer = long64 ? efer_lme | efer_lma : 0;
	sregs->flags = 0; /* no PDPTRs: neither mode uses PAE paging without long mode */

	*regs = (struct kvm_regs){.rip = entry->rip,
				  .rsp = entry->rsp,
				  .rsi = entry->rsi,
				  .rbx = entry->rbx,
				  .rflags = 2};
}
