/* SPDX-License-Identifier: MIT */
/*
 * Threads that each run a guest of their own with KVM: 16-bit code that counts, in registers and in memory, and tells
 * by a port after so many steps. What it has then is known.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CODE	0x1000
#define COUNT	0x2000 /* the counter in memory */
#define LEN	0x4000
#define STEPS	1000000 /* so long that an update finds it at them, as a rule */
#define PORT	0x10
#define VM_MAX	4
#define CPU_MAX 64

static _Atomic uint64_t rounds, bad, errs;
static atomic_bool over;
static pthread_t threads[VM_MAX];
static unsigned int running;

/* clang-format off */
static const uint8_t code[] = {
	0x66, 0xb9, STEPS & 0xff, STEPS >> 8 & 0xff, STEPS >> 16, 0, /* begin: mov ecx, STEPS */
	0x66, 0x43,                                                  /* step: inc ebx */
	0x66, 0x01, 0xd8,                                            /* add eax, ebx */
	0x66, 0xff, 0x06, 0x00, COUNT >> 8,                          /* inc dword [COUNT] */
	0x67, 0xe2, 0xf3,                                            /* loop step, by ecx */
	0xe6, PORT,                                                  /* out PORT, al */
	0xeb, 0xe9,                                                  /* jmp begin */
};
/* clang-format on */

struct inner {
	unsigned int index;
	int vcpu;
	struct kvm_run *run;
	uint8_t *mem;
};

static int inner_make(struct inner *in)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return -errno;
	in->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = {.memory_size = LEN,
						   .userspace_addr = (uintptr_t)in->mem};
	if (in->mem == MAP_FAILED || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) ||
	    (in->vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) < 0)
		return -errno;
	int len = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	in->run = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, in->vcpu, 0);
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	if (in->run == MAP_FAILED || ioctl(in->vcpu, KVM_GET_SREGS, &sregs))
		return -errno;
	sregs.cs.base = sregs.cs.selector = 0;
	memcpy(in->mem + CODE, code, sizeof(code));
	return ioctl(in->vcpu, KVM_SET_SREGS, &sregs) || ioctl(in->vcpu, KVM_SET_REGS, &regs)
		       ? -errno
		       : 0;
}

static void check(const struct inner *in, uint32_t told)
{
	struct kvm_regs r;
	uint32_t n = told * STEPS, count, sum = (uint32_t)((uint64_t)n * ((uint64_t)n + 1) / 2);
	memcpy(&count, in->mem + COUNT, sizeof(count));
	if (ioctl(in->vcpu, KVM_GET_REGS, &r) || (uint32_t)r.rbx != n || count != n ||
	    (uint32_t)r.rax != sum) {
		atomic_fetch_add(&bad, 1);
		console_line("FAIL what=kvm round=%u steps=%u counted=%u sum=%u", told,
			     (uint32_t)r.rbx, count, (uint32_t)r.rax);
	}
}

/* The first on the last processor, and so on; the kernel may have kept that one for it (isolcpus). */
static void pin(const struct inner *in)
{
	unsigned int left = in->index;
	for (size_t cpu = CPU_MAX; cpu-- > 0;) {
		cpu_set_t one;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (!sched_setaffinity(0, sizeof(one), &one) && !left--)
			return;
	}
}

static void *inner_run(void *opaque)
{
	const struct inner *in = opaque;
	const struct timespec rest = {.tv_nsec = 30000000};
	pin(in);
	for (uint32_t told = 0; !over;) {
		int rc = ioctl(in->vcpu, KVM_RUN, 0);
		if (rc && errno == EINTR)
			continue;
		if (rc || in->run->exit_reason != KVM_EXIT_IO) {
			atomic_fetch_add(&errs, 1);
			console_line("FAIL what=kvm_run rc=%d errno=%d exit=%u", rc, errno,
				     in->run->exit_reason);
			return NULL;
		}
		check(in, ++told);
		atomic_fetch_add(&rounds, 1);
		/* An emulated host has one processor, which who takes over wants as well. */
		nanosleep(&rest, NULL);
	}
	return NULL;
}

int kvm_start(unsigned int count)
{
	static struct inner inner[VM_MAX];
	for (unsigned int i = 0; i < count && i < VM_MAX; i++) {
		inner[i].index = i;
		int rc = inner_make(&inner[i]);
		if (!rc)
			rc = -pthread_create(&threads[i], NULL, inner_run, &inner[i]);
		if (rc) {
			console_line("FAIL what=kvm errno=%d", -rc);
			return rc;
		}
		running++;
	}
	return 0;
}

/* A kernel that powers off turns KVM off first, and what a guest's exit says then is of no use. */
void kvm_stop(void)
{
	over = true;
	while (running)
		pthread_join(threads[--running], NULL);
}

void kvm_report(struct kvm_stats *out)
{
	out->rounds = atomic_load(&rounds);
	out->bad = atomic_load(&bad);
	out->errs = atomic_load(&errs);
}
