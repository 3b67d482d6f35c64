/* SPDX-License-Identifier: MIT */
/*
 * warm [MIB [PAGES]]: what a guest pays for its memory in a VM that was made anew, cold and warmed in each way
 * (vmm/warm.h), by a guest in long mode that adds to a word of each page. PAGES: 4k; thp, where the host gives huge
 * pages of itself; 2m, from hugetlbfs. One line "WARM mode=... key=value ..." for each; exit status 1 when something is
 * not as it must be.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/machine.h"
#include "vmm/warm.h"

#define HIGH_GPA      (4 * GIB)
#define TABLES	      0x1000ull /* of the guest, and its code: in its first pages */
#define HUGE_LEN      (2 * MIB)
#define vcpu0	      vcpus[0]
#define vcpu1	      vcpus[1]
#define PORT	      0x81
#define CAP_PRE_FAULT 236L	       /* KVM_CAP_PRE_FAULT_MEMORY, Linux 6.11 */
#define TSC_AWAY      1000000000000ull /* an offset that no vCPU has by itself */

/* The guest: add dword [rdi], 1; add rdi, 4096; cmp rdi, rsi; jb; out PORT, al */
static const uint8_t guest_code[] = {0x83, 0x07, 0x01, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00,
				     0x00, 0x48, 0x39, 0xf7, 0x72, 0xf1, 0xe6, PORT};

static struct machine m;
static struct arch arch;
static struct vcpu vcpus[2]; /* the second one has a TSC, and never runs */
static struct vcpu_state state;
static bool small_pages; /* a page is 4 KiB, in the page tables as well */
static int failures;

static bool no_pre_fault; /* take the other way where both are there */
long __real_vm_ioctl(int fd, unsigned long request, void *arg);
long __wrap_vm_ioctl(int fd, unsigned long request, void *arg);
long __wrap_vm_ioctl(int fd, unsigned long request, void *arg)
{
	if (no_pre_fault && _IOC_TYPE(request) == KVMIO && _IOC_NR(request) == 0xd5)
		return -ENOTTY;
	return __real_vm_ioctl(fd, request, arg);
}

static long must(long rc, const char *what)
{
	if (rc >= 0)
		return rc;
	fprintf(stderr, "warm: %s: %s\n", what, strerror(rc == -1 ? errno : (int)-rc));
	exit(1);
}
#define MUST(x) must((long)(x), #x)

static void check(bool good, const char *what)
{
	if (good)
		return;
	failures++;
	printf("NOT OK: %s\n", what);
}

static uint64_t stat_of_vm(const char *name)
{
	struct kvm_stats_header h;
	uint64_t value = 0;
	int fd = (int)MUST(vm_ioctl(m.vm.fd, KVM_GET_STATS_FD, NULL));
	MUST(pread(fd, &h, sizeof(h), 0));
	size_t size = sizeof(struct kvm_stats_desc) + h.name_size;
	for (uint32_t i = 0; i < h.num_desc; i++) {
		char buf[512];
		struct kvm_stats_desc *d = (void *)buf;
		MUST(pread(fd, buf, size, (off_t)(h.desc_offset + i * size)));
		if (!strcmp(d->name, name))
			MUST(pread(fd, &value, sizeof(value), (off_t)(h.data_offset + d->offset)));
	}
	close(fd);
	return value;
}

static void make_memory(uint64_t len, bool huge, bool holes)
{
	struct ram_state *s = &m.ram.state;
	*s = (struct ram_state){.size = len,
				.page_len = huge ? HUGE_LEN : PAGE_LEN,
				.nregions = 2,
				.gpa = {0, HIGH_GPA},
				.len = {len / 2, len / 2},
				.offset = {0, len / 2}};
	m.ram.fd = (int)MUST(memfd_create("ram", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0)));
	MUST(ftruncate(m.ram.fd, (off_t)len));
	if (huge)
		MUST(fallocate(m.ram.fd, 0, 0, (off_t)len));
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, m.ram.fd, 0);
	MUST(p == MAP_FAILED ? -1 : 0);
	for (uint64_t at = 0; at < len; at += holes ? 2 * PAGE_LEN : PAGE_LEN)
		p[at + 1] = 1;
	/* Page tables: the first GiB, and the first beyond 4 GiB. */
	uint64_t *t = (uint64_t *)(p + TABLES);
	memset(t, 0, 4 * PAGE_LEN);
	t[0] = (TABLES + PAGE_LEN) | 0x23;
	t[512] = (TABLES + 2 * PAGE_LEN) | 0x23;
	t[512 + 4] = (TABLES + 3 * PAGE_LEN) | 0x23;
	for (uint64_t i = 0; i < 512; i++) {
		t[1024 + i] = (i * HUGE_LEN) | 0xe3;
		t[1536 + i] = (HIGH_GPA + i * HUGE_LEN) | 0xe3;
	}
	memcpy(p, guest_code, sizeof(guest_code));
	munmap(p, len);
}

/* As a successor maps it. */
static void make_vm(void)
{
	struct ram_state *s = &m.ram.state;
	struct error err;
	uint8_t *room = mmap(NULL, s->size + HUGE_LEN, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	m.ram.hva = (uint8_t *)align_up((uintptr_t)room, HUGE_LEN);
	MUST(mmap(m.ram.hva, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m.ram.fd,
		  0) == MAP_FAILED
		     ? -1
		     : 0);
	MUST(vm_create(&m.vm, &err));
	for (unsigned i = 0; i < s->nregions; i++)
		MUST(vm_slot_add(&m.vm, s->gpa[i], s->len[i], m.ram.hva + s->offset[i], false,
				 &err));
	MUST(vm_ioctl(m.vm.fd, KVM_CREATE_IRQCHIP, NULL));
	vcpu1 = (struct vcpu){.m = &m, .index = 1, .state = &state};
	vcpu0 = (struct vcpu){.m = &m, .state = &state};
	vcpu0.fd = (int)MUST(vm_ioctl(m.vm.fd, KVM_CREATE_VCPU, NULL));
	vcpu0.run = mmap(NULL, (size_t)MUST(vm_ioctl(m.vm.kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL)),
			 PROT_READ | PROT_WRITE, MAP_SHARED, vcpu0.fd, 0);
	vcpu1.fd = (int)MUST(vm_ioctl(m.vm.fd, KVM_CREATE_VCPU, (void *)1L));
	MUST(cpu_set_cpuid(&vcpu0, &err));
	arch.reader = NULL;
}

static void end_vm(void)
{
	if (arch.reader) /* its first member is its vCPU */
		close(((struct vcpu *)arch.reader)->fd);
	close(vcpu1.fd);
	close(vcpu0.fd);
	close(m.vm.fd);
	munmap(m.ram.hva, m.ram.state.size);
}

/* In the order of vmm/warm.h; vCPU 0 last, as KVM looks when the last one gets it, and does so where that runs. */
static void load_tsc(bool follow)
{
	struct error err = {0};
	if (follow)
		MUST(arch_warm_follow(&m, &err));
	MUST(tsc_load(&vcpu1, &err));
	MUST(tsc_load(&vcpu0, &err));
}

/* vCPU 0 as it is loaded: another mode than it was made in. */
static void load_vcpu0(uint64_t offset)
{
	struct kvm_segment seg = {.limit = 0xffffffff,
				  .selector = 16,
				  .type = 3,
				  .present = 1,
				  .s = 1,
				  .db = 1,
				  .g = 1};
	struct kvm_sregs2 s;
	MUST(vm_ioctl(vcpu0.fd, KVM_GET_SREGS2, &s));
	s.ds = s.es = s.fs = s.gs = s.ss = s.cs = seg;
	s.cs.selector = 8;
	s.cs.type = 11;
	s.cs.db = 0;
	s.cs.l = 1;
	s.cr0 = 0x80050033;
	s.cr3 = TABLES;
	s.cr4 = 0x6a0;	/* PAE, PGE, OSFXSR, OSXMMEXCPT */
	s.efer = 0xd01; /* NXE, LMA, LME, SCE */
	MUST(vm_ioctl(vcpu0.fd, KVM_SET_SREGS2, &s));
	state.tsc_offset = offset;
	load_tsc(true);
}

static double touch_region(uint64_t gpa, uint64_t from, uint64_t len)
{
	struct kvm_regs r = {.rip = 0, .rflags = 2, .rdi = gpa + from, .rsi = gpa + len};
	MUST(vm_ioctl(vcpu0.fd, KVM_SET_REGS, &r));
	uint64_t begin = now_ns();
	MUST(vm_ioctl(vcpu0.fd, KVM_RUN, NULL));
	uint64_t end = now_ns();
	if (vcpu0.run->exit_reason != KVM_EXIT_IO || vcpu0.run->io.port != PORT) {
		char regs[512];
		vcpu_arch_describe(&vcpu0, regs, sizeof(regs));
		printf("NOT OK: the guest: exit %u: %s\n", vcpu0.run->exit_reason, regs);
		exit(1);
	}
	return (double)(end - begin) / 1e6;
}

static double touch(void)
{
	const struct ram_state *s = &m.ram.state;
	return touch_region(s->gpa[0], 8 * PAGE_LEN, s->len[0]) +
	       touch_region(s->gpa[1], 0, s->len[1]);
}

static unsigned clock_flags(void)
{
	struct kvm_clock_data c = {0};
	MUST(vm_ioctl(m.vm.fd, KVM_GET_CLOCK, &c));
	return c.flags;
}

static uint64_t blocks(void)
{
	struct stat st;
	MUST(fstat(m.ram.fd, &st));
	return (uint64_t)st.st_blocks * 512;
}

/* KiB of page tables: this process's, and the VM's where the kernel counts those (6.2). */
static uint64_t tables_kib(void)
{
	static const char *const files[] = {"/proc/self/status", "/proc/meminfo"};
	static const char *const names[] = {"VmPTE:", "SecPageTables:"};
	uint64_t sum = 0;
	char line[256];
	for (unsigned i = 0; i < 2; i++) {
		FILE *f = fopen(files[i], "re");
		while (f && fgets(line, sizeof(line), f))
			if (!strncmp(line, names[i], strlen(names[i])))
				sum += strtoull(line + strlen(names[i]), NULL, 10);
		if (f)
			fclose(f);
	}
	return sum;
}

static uint64_t mapped(void)
{
	return stat_of_vm("pages_4k") * PAGE_LEN + stat_of_vm("pages_2m") * HUGE_LEN;
}

/* What the same guest has in a VM that nobody warmed. */
static double cold_ms;
static unsigned cold_flags;

static void run_cold(void)
{
	make_vm();
	load_vcpu0(TSC_AWAY);
	cold_ms = touch();
	double again = touch();
	cold_flags = clock_flags();
	printf("WARM mode=cold first_ms=%.1f again_ms=%.1f clock=%x\n", cold_ms, again, cold_flags);
	end_vm();
}

/* For whom it may concern: are page tables kept that no vCPU holds? */
static void run_roots(void)
{
	struct kvm_sregs2 s;
	make_vm();
	MUST(vm_ioctl(vcpu0.fd, KVM_GET_SREGS2, &s));
	load_vcpu0(TSC_AWAY);
	touch();
	uint64_t before = mapped();
	MUST(vm_ioctl(vcpu0.fd, KVM_SET_SREGS2, &s));
	printf("WARM mode=roots before_mib=%llu after_mib=%llu\n",
	       (unsigned long long)(before / MIB), (unsigned long long)(mapped() / MIB));
	end_vm();
}

/* The clock that needs no system calls is lost when the reader does not follow, and comes back when it does. */
static void check_clock(void)
{
	state.tsc_offset += 7777;
	load_tsc(false);
	touch();
	unsigned lost = clock_flags();
	state.tsc_offset += 7777;
	load_tsc(true);
	touch();
	unsigned back = clock_flags();
	printf("WARM mode=clock lost=%x back=%x\n", lost, back);
	check(lost != cold_flags, "another TSC offset turns the clock off");
	check(back == cold_flags, "a reader that follows turns it on again");
}

static void run_warm(const char *mode, bool reader, bool holes)
{
	struct warm_options opt = {.budget_ms = 600000};
	struct warm_result out;
	struct error err = {0};
	uint64_t there = blocks();

	make_vm();
	no_pre_fault = reader;
	state.tsc_offset = TSC_AWAY;
	uint64_t kib = tables_kib();
	if (warm_run(&m, &opt, &out, &err))
		check(false, err.text);
	uint64_t tables = mapped(), cost = tables_kib() - kib;
	check(blocks() == there, "no page of guest memory was made");
	check(out.warmed == there && out.total == there && !out.why[0], out.why);
	check(tables >= there, "the VM's page tables have it all");
	check(holes || cost * KIB <= warm_cost(there, small_pages ? PAGE_LEN : HUGE_LEN) + MIB,
	      "page tables take no more than was thought");
	load_vcpu0(TSC_AWAY);
	load_vcpu0(TSC_AWAY + 5000);
	check(mapped() == tables, "they still have it when vCPU 0 was loaded");
	printf("WARM mode=%s way=%s mib=%llu tables_mib=%llu cost_kib=%llu warm_ms=%.0f", mode,
	       warm_way_text(out.way), (unsigned long long)(out.warmed / MIB),
	       (unsigned long long)(tables / MIB), (unsigned long long)cost, (double)out.ns / 1e6);
	if (!holes) {
		double first = touch(), again = touch();
		unsigned flags = clock_flags();
		printf(" first_ms=%.1f again_ms=%.1f clock=%x\n", first, again, flags);
		/* Of huge pages there are so few that other things make the time. */
		check(!small_pages || first * 5 <= cold_ms,
		      "what is warm takes at most a fifth of what is cold");
		check(flags == cold_flags, "the clock is what it is in a VM without a reader");
		if (arch.reader && cold_flags)
			check_clock();
	} else {
		printf("\n");
	}
	end_vm();
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 128;
	bool huge = argc > 2 && !strcmp(argv[2], "2m");
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[CPU_MAX_CPUID];
	} c = {.head.nent = CPU_MAX_CPUID};

	small_pages = argc < 3 || !strcmp(argv[2], "4k");
	setvbuf(stdout, NULL, _IOLBF, 0);
	m.vm.kvm_fd = (int)MUST(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	m.vcpus = vcpus;
	m.arch = &arch;
	m.opt.cpus = 2;
	pthread_mutex_init(&m.lock, NULL);
	MUST(vm_ioctl(m.vm.kvm_fd, KVM_GET_SUPPORTED_CPUID, &c));
	state.cpuid_len = c.head.nent;
	memcpy(state.cpuid, c.entries, c.head.nent * sizeof(c.entries[0]));
	make_memory(mib * MIB, huge, false);
	/* The frequency that KVM gives a vCPU by itself. */
	MUST(vm_create(&m.vm, NULL));
	int fd = (int)MUST(vm_ioctl(m.vm.fd, KVM_CREATE_VCPU, NULL));
	state.tsc_khz = (uint32_t)MUST(vm_ioctl(fd, KVM_GET_TSC_KHZ, NULL));
	close(fd);
	close(m.vm.fd);

	run_cold();
	run_roots();
	if (vm_ioctl(m.vm.kvm_fd, KVM_CHECK_EXTENSION, (void *)CAP_PRE_FAULT) > 0)
		run_warm("pre-fault", false, false);
	run_warm("reader", true, false);
	close(m.ram.fd);
	if (small_pages) {
		make_memory(mib * MIB, false, true);
		run_warm("holes", true, true);
	}
	return failures ? 1 : 0;
}
