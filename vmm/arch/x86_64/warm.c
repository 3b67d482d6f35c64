/* SPDX-License-Identifier: MIT */
/*
 * The reader: a few instructions that read one word of each page, on a vCPU of their own. The reads
 * make KVM put each page into the VM's nested page tables. This is for kernels without
 * KVM_PRE_FAULT_MEMORY.
 *
 * The reader has its own vCPU for two reasons. It holds the root of the page tables while the other
 * vCPUs are loaded: a change of mode releases a vCPU's root, and a kernel may free a root that no
 * vCPU holds. And vCPU 0 need not change threads, which waits for a grace period (6.1: 8.7 ms).
 *
 * The vCPU has the CPUID of the others, because the number of levels depends on it. It runs in long
 * mode with CR0.WP and EFER.NXE, as an operating system does: kernels before 5.19 had other tables
 * for other modes. KVM cannot remove a vCPU, so it stays, uninitialised, with its local APIC
 * disabled. Its id is the next free one; an id over 255 would turn APICv off (6.1). It can affect
 * nothing of the guest but its clock (arch_warm_follow).
 *
 * Its page tables must be writable: with nested paging the processor's walks of them count as
 * writes (AMD APM 2, 15.25.5; Intel SDM 3C, 29.3.3.2). In a read-only slot KVM would emulate the
 * reads and warm nothing. The guest can write to these pages too. That is harmless: they are ours,
 * hold zeros, and are not read again.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

#define HUGE_LEN (2 * MIB)

/* The reader's pages. The first entries of the directory map what it reads, the last one maps the reader. */
enum { PAGE_CODE, PAGE_PML4, PAGE_PDPT, PAGE_DIR };
#define DIR_SELF   511ull
#define WINDOW_LEN (256 * MIB)

/* Page table entries (Intel SDM 3A 4.5). Accessed and dirty are set already. */
enum { PTE_PRESENT = 0x1, PTE_WRITE = 0x2, PTE_ACCESSED = 0x20, PTE_DIRTY = 0x40, PTE_HUGE = 0x80 };
#define PTE_TABLE (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED)
#define PTE_READ  (PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | PTE_HUGE)

#define CR0_LONG 0x80010031ull /* PG, WP, NE, ET, PE */
#define CR4_PAE	 0x20ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define EFER_NXE 0x800ull

/* The port for POST codes: an OUT to it leaves KVM, which has no device there. HLT would not leave KVM. */
#define PORT 0x80

/* rdi: the first page; rsi: the end. Loading CR3 flushes translations of the window's former content. */
static const uint8_t code[] = {
	0x0f, 0x20, 0xd8,			  /*    mov rax, cr3 */
	0x0f, 0x22, 0xd8,			  /*    mov cr3, rax */
	0x8b, 0x07,				  /* 1: mov eax, [rdi] */
	0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, /*    add rdi, 4096 */
	0x48, 0x39, 0xf7,			  /*    cmp rdi, rsi */
	0x72, 0xf2,				  /*    jb 1b */
	0xe6, PORT,				  /*    out PORT, al */
};

struct reader {
	struct vcpu cpu;  /* state: vCPU 0's */
	uint8_t *pages;	  /* in the slot */
	uint32_t tsc_khz; /* that KVM was told */
	uint64_t tsc_offset;
	bool tsc_told;
};

int arch_nested_paging(const char *root)
{
	static const char *const names[] = {"kvm_intel/parameters/ept", "kvm_amd/parameters/npt"};
	char path[4096], text[8];
	int known = -1;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/sys/module/%s", root, names[i]);
		if (file_read_text(path, text, sizeof(text)) <= 0)
			continue;
		if (text[0] == 'Y' || text[0] == '1')
			return 1;
		known = 0;
	}
	return known;
}

/* Does the guest's CPUID have that bit of 0x80000001 EDX? */
static bool has(const struct vcpu_state *s, unsigned bit)
{
	for (uint32_t i = 0; i < s->cpuid_len; i++)
		if (s->cpuid[i].function == 0x80000001)
			return s->cpuid[i].edx >> bit & 1;
	return false;
}
enum { CPUID_NX = 20, CPUID_LM = 29 };

static void put_entry(struct reader *r, unsigned page, uint64_t index, uint64_t value)
{
	store_le(r->pages + page * PAGE_LEN + index * 8, value, 8);
}

static void write_pages(struct reader *r)
{
	memcpy(r->pages, code, sizeof(code));
	put_entry(r, PAGE_PML4, 0, (LAYOUT_READER + PAGE_PDPT * PAGE_LEN) | PTE_TABLE);
	put_entry(r, PAGE_PDPT, 0, (LAYOUT_READER + PAGE_DIR * PAGE_LEN) | PTE_TABLE);
	put_entry(r, PAGE_DIR, DIR_SELF, align_down(LAYOUT_READER, HUGE_LEN) | PTE_READ);
}

static long enter_long_mode(struct reader *r)
{
	struct kvm_segment seg = {.limit = 0xffffffff,
				  .selector = 16,
				  .type = 3,
				  .present = 1,
				  .s = 1,
				  .db = 1,
				  .g = 1};
	struct kvm_sregs2 s;
	long rc = vm_ioctl(r->cpu.fd, KVM_GET_SREGS2, &s);
	if (rc < 0)
		return rc;
	s.ds = s.es = s.fs = s.gs = s.ss = s.cs = seg;
	s.cs.selector = 8;
	s.cs.type = 11;
	s.cs.db = 0;
	s.cs.l = 1;
	s.cr0 = CR0_LONG;
	s.cr3 = LAYOUT_READER + PAGE_PML4 * PAGE_LEN;
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME | EFER_LMA | (has(r->cpu.state, CPUID_NX) ? EFER_NXE : 0);
	return vm_ioctl(r->cpu.fd, KVM_SET_SREGS2, &s);
}

static int make_slot(struct machine *m, struct reader *r, struct error *err)
{
	void *pages = mmap(NULL, LAYOUT_READER_LEN, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		return error_errno(err, errno, "warming: the reader's pages");
	r->pages = pages;
	pthread_mutex_lock(&m->lock); /* a device may have BARs to map */
	int rc = vm_slot_add(&m->vm, LAYOUT_READER, LAYOUT_READER_LEN, pages, false, err);
	pthread_mutex_unlock(&m->lock);
	if (rc)
		munmap(pages, LAYOUT_READER_LEN);
	return rc ? error_prefix(err, "warming") : 0;
}

static int make_vcpu(struct machine *m, struct reader *r, struct error *err)
{
	struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
	int rc = vcpu_open(&r->cpu, &m->vm, err);
	if (r->cpu.fd >= 0)
		m->arch->reader = r; /* from here on it has to be put to rest */
	if (!rc)
		rc = cpu_set_cpuid(&r->cpu, err);
	if (rc)
		return error_prefix(err, "warming");
	long e = enter_long_mode(r) ?: vm_ioctl(r->cpu.fd, KVM_SET_MP_STATE, &runnable);
	return e < 0 ? error_errno(err, (int)-e, "warming: the reader's registers") : 0;
}

int arch_warm_open(struct machine *m, struct error *err)
{
	struct vcpu_state *s = m->vcpus[0].state;
	if (!has(s, CPUID_LM))
		return error_set(err, ENOTSUP, "warming: a guest without long mode");
	struct reader *r = pool_alloc(1, sizeof(*r));
	if (!r)
		return error_errno(err, ENOMEM, "warming: the reader");
	r->cpu = (struct vcpu){.m = m, .index = m->opt.cpus, .fd = -1, .state = s};
	int rc = make_slot(m, r, err);
	if (!rc) {
		write_pages(r);
		rc = make_vcpu(m, r, err);
	}
	if (rc && !m->arch->reader)
		pool_free(r);
	return rc;
}

/* Runs until the OUT. A second call of KVM_RUN completes that (docs/kernel-facts.md). */
static int run_once(struct reader *r, const bool *cancel, struct error *err)
{
	struct kvm_run *run = r->cpu.run;
	while (ioctl(r->cpu.fd, KVM_RUN, NULL) < 0) {
		if (errno != EINTR)
			return error_errno(err, errno, "warming: KVM_RUN");
		if (cancel && __atomic_load_n(cancel, __ATOMIC_ACQUIRE))
			return error_set(err, ECANCELED, "it was called off");
	}
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT) {
		char regs[512];
		vcpu_arch_describe(&r->cpu, regs, sizeof(regs));
		return error_set(err, EIO, "warming: the reader ended with exit %u; %s",
				 run->exit_reason, regs);
	}
	run->immediate_exit = 1;
	ioctl(r->cpu.fd, KVM_RUN, NULL);
	run->immediate_exit = 0;
	return 0;
}

int arch_warm_read(struct machine *m, uint64_t gpa, uint64_t len, const bool *cancel,
		   struct error *err)
{
	struct reader *r = m->arch->reader;
	uint64_t self = DIR_SELF * HUGE_LEN + LAYOUT_READER % HUGE_LEN;
	int rc = 0;
	while (len && !rc) {
		uint64_t base = align_down(gpa, HUGE_LEN), most = base + WINDOW_LEN - gpa;
		uint64_t now = len < most ? len : most;
		struct kvm_regs regs = {.rip = self, .rflags = 2, .rdi = gpa - base};
		regs.rsi = regs.rdi + now;
		for (uint64_t i = 0; i * HUGE_LEN < regs.rsi; i++)
			put_entry(r, PAGE_DIR, i, (base + i * HUGE_LEN) | PTE_READ);
		rc = vm_call(r->cpu.fd, KVM_SET_REGS, &regs, err, "warming: KVM_SET_REGS")
			     ?: run_once(r, cancel, err);
		gpa += now;
		len -= now;
	}
	return rc;
}

int arch_warm_close(struct machine *m, struct error *err)
{
	struct reader *r = m->arch->reader;
	struct kvm_mp_state rest = {.mp_state = KVM_MP_STATE_UNINITIALIZED};
	if (!r)
		return 0;
	memset(r->pages, 0, LAYOUT_READER_LEN);
	return vm_call(r->cpu.fd, KVM_SET_MP_STATE, &rest, err,
		       "warming: the reader's vCPU cannot be put to rest")
		       ?: arch_warm_follow(m, err);
}

/* KVM counts vCPUs with matching TSCs, and needs all of them to match (kvm_track_tsc_matching). */
int arch_warm_follow(struct machine *m, struct error *err)
{
	struct reader *r = m->arch->reader;
	const struct vcpu_state *s = m->vcpus[0].state;
	if (!r || (r->tsc_told && r->tsc_offset == s->tsc_offset && r->tsc_khz == s->tsc_khz))
		return 0;
	long rc = tsc_load(&r->cpu, err);
	if (rc < 0)
		return error_errno(err, (int)-rc, "warming: TSC of the reader's vCPU");
	r->tsc_told = true;
	r->tsc_offset = s->tsc_offset;
	r->tsc_khz = s->tsc_khz;
	return 0;
}
