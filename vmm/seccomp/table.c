/* SPDX-License-Identifier: MIT */
/* Which system calls the threads of a running guest make. Nothing here opens, connects, starts or
 * executes anything, nothing makes memory executable. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <linux/vhost.h>
#include <sys/mman.h>

#include "vmm/seccomp/rules.h"

/* malloc and free, locks, messages, the way out: any thread. */
static const struct seccomp_row any_thread[] = {
	SECCOMP_CALL(brk),
	SECCOMP_CALL_LACKS(mmap, 2, PROT_EXEC),
	SECCOMP_CALL_LACKS(mprotect, 2, PROT_EXEC),
	SECCOMP_CALL(mremap),
	SECCOMP_CALL(munmap),
	SECCOMP_CALL_IS(madvise, 2, MADV_DONTNEED),
	SECCOMP_CALL_IS(madvise, 2, MADV_FREE),
#ifdef MOLT_SANITIZED
	SECCOMP_CALL_IS(madvise, 2, MADV_DONTDUMP),
	SECCOMP_CALL_IS(madvise, 2, MADV_NOHUGEPAGE),
	SECCOMP_CALL(sigaltstack),
#endif
	SECCOMP_CALL(futex),
	SECCOMP_CALL(sched_yield),
	SECCOMP_CALL(sched_getaffinity), /* glibc, when a thread first uses malloc */
	SECCOMP_CALL(clock_gettime),	 /* where the vDSO cannot tell */
	SECCOMP_CALL(restart_syscall),
	SECCOMP_CALL(write),
	SECCOMP_CALL(writev),
	/* Of this process alone: machine_stop, raise, abort. */
	SECCOMP_CALL(getpid),
	SECCOMP_CALL(gettid),
	{SYS_tgkill, 0, SECCOMP_IS_PID, 0},
	{SYS_tkill, 0, SECCOMP_IS_PID, 0},
	{SYS_tkill, 0, SECCOMP_IS_TID, 0},
	/* A crash puts the terminal back, and then has its usual end. */
	SECCOMP_CALL(rt_sigaction),
	SECCOMP_CALL(rt_sigprocmask),
	SECCOMP_CALL(rt_sigreturn),
	SECCOMP_IOCTL(TCSETS2),
	SECCOMP_CALL(exit),
	SECCOMP_CALL(exit_group),
};

/* Device code: from a vCPU's exits and from the event loop. */
static const struct seccomp_row devices[] = {
	/* registers and interrupts of passed-through devices */
	SECCOMP_CALL(pread64),
	SECCOMP_CALL(pwrite64),
	SECCOMP_CALL(eventfd2),
	SECCOMP_CALL_IS(prlimit64, 2, 0), /* reads RLIMIT_NOFILE: are descriptors left? */
	SECCOMP_CALL(close),
	SECCOMP_IOCTL(VFIO_DEVICE_SET_IRQS),
	SECCOMP_IOCTL(KVM_IRQFD),
	SECCOMP_IOCTL(KVM_IOEVENTFD), /* doorbells in a BAR that the guest moves */
	SECCOMP_IOCTL(KVM_SET_GSI_ROUTING),
	SECCOMP_IOCTL(KVM_SIGNAL_MSI),
	SECCOMP_IOCTL(KVM_IRQ_LINE),
	SECCOMP_IOCTL(KVM_SET_USER_MEMORY_REGION), /* a BAR that the guest moves */
	SECCOMP_IOCTL(TUNSETOFFLOAD),		   /* what a network driver has chosen */
	SECCOMP_IOCTL(TUNSETQUEUE),
	/* a driver that starts, resets or changes what the kernel's vhost serves */
	SECCOMP_IOCTL(VHOST_SET_FEATURES),
	SECCOMP_IOCTL(VHOST_SET_VRING_NUM),
	SECCOMP_IOCTL(VHOST_SET_VRING_ADDR),
	SECCOMP_IOCTL(VHOST_SET_VRING_BASE),
	SECCOMP_IOCTL(VHOST_GET_VRING_BASE),
	SECCOMP_IOCTL(VHOST_SET_VRING_KICK),
	SECCOMP_IOCTL(VHOST_SET_VRING_CALL),
	SECCOMP_IOCTL(VHOST_SET_VRING_ERR),
	SECCOMP_IOCTL(VHOST_NET_SET_BACKEND),
	SECCOMP_IOCTL(VHOST_VSOCK_SET_RUNNING),
	/* free memory that the guest has reported */
	SECCOMP_CALL_IS(fallocate, 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
	/* fdset_keep; newfstatat is how some C libraries do it */
	SECCOMP_CALL(fstat),
	SECCOMP_CALL_IS(newfstatat, 3, AT_EMPTY_PATH),
	SECCOMP_CALL(getrandom),
	/* console */
	SECCOMP_CALL(read),
	SECCOMP_CALL(ppoll),
	SECCOMP_CALL(epoll_ctl),
	SECCOMP_IOCTL(TCFLSH),
};

static const struct seccomp_row vcpu[] = {
	SECCOMP_IOCTL(KVM_RUN),
	/* saving itself at an update */
	SECCOMP_IOCTL(KVM_SET_SIGNAL_MASK),
	SECCOMP_IOCTL(KVM_GET_MP_STATE),
	SECCOMP_IOCTL(KVM_GET_REGS),
	SECCOMP_IOCTL(KVM_GET_VCPU_EVENTS),
	SECCOMP_IOCTL(KVM_GET_DEVICE_ATTR),
	SECCOMP_CALL(sched_getscheduler),
	SECCOMP_CALL(sched_getparam),
};

static const struct seccomp_row loop[] = {
	SECCOMP_CALL(epoll_pwait),
	SECCOMP_CALL(accept4),
	SECCOMP_CALL(sendto),
};

/* The leader reads requests; this one only sees whether a line has come. */
static const struct seccomp_row control[] = {
	SECCOMP_CALL(epoll_pwait),
	SECCOMP_CALL(epoll_ctl),
	SECCOMP_CALL(accept4),
	SECCOMP_CALL(getsockopt), /* who the client is */
	SECCOMP_CALL(geteuid),
	SECCOMP_CALL(recvfrom),
	SECCOMP_CALL(sendto),
	SECCOMP_CALL(close),
	SECCOMP_CALL(fstat), /* fdset_keep */
	SECCOMP_CALL_IS(newfstatat, 3, AT_EMPTY_PATH),
};

/* Waits for kicks, reads and writes one file, interrupts the guest. What its io_uring may be asked for is said to the
 * kernel when that is made (devices/virtio/disk_ring.c). */
static const struct seccomp_row
	disk[] =
		{
			SECCOMP_CALL(epoll_pwait),
			SECCOMP_CALL(io_uring_enter),
			SECCOMP_CALL(preadv),
			SECCOMP_CALL(pwritev),
			SECCOMP_CALL(fdatasync),
			SECCOMP_CALL(fallocate),
			SECCOMP_IOCTL(KVM_IRQ_LINE),
			SECCOMP_IOCTL(KVM_SIGNAL_MSI), /* the same, with an IOAPIC of ours */
};

/* In the order in which the arguments of one call are tried: what is called most comes first. */
static const struct seccomp_rows sets[SECCOMP_THREADS][3] = {
	[SECCOMP_VCPU] = {SECCOMP_ROWS(vcpu), SECCOMP_ROWS(devices), SECCOMP_ROWS(any_thread)},
	[SECCOMP_LOOP] = {SECCOMP_ROWS(loop), SECCOMP_ROWS(devices), SECCOMP_ROWS(any_thread)},
	[SECCOMP_CONTROL] = {SECCOMP_ROWS(control), SECCOMP_ROWS(any_thread)},
	[SECCOMP_DISK] = {SECCOMP_ROWS(disk), SECCOMP_ROWS(any_thread)},
};

static struct seccomp_row asked[8];
static unsigned nasked;

void seccomp_allow_ioctl(unsigned long request)
{
	for (unsigned i = 0; i < nasked; i++)
		if (asked[i].value == (uint32_t)request)
			return;
	if (nasked < ARRAY_LEN(asked))
		asked[nasked++] = SECCOMP_IOCTL(request);
}

static unsigned append(struct seccomp_row *out, unsigned n, const struct seccomp_rows *set)
{
	for (unsigned i = 0; i < set->n && n < SECCOMP_MAX_ROWS; i++)
		out[n++] = set->row[i];
	return n;
}

unsigned seccomp_rows(enum seccomp_thread thread, struct seccomp_row *out)
{
	unsigned n = 0;
	for (unsigned i = 0; i < ARRAY_LEN(sets[thread]); i++)
		n = append(out, n, &sets[thread][i]);
	if (thread == SECCOMP_VCPU || thread == SECCOMP_LOOP)
		n = append(out, n, &(struct seccomp_rows){asked, nasked});
	return append(out, n, &arch_seccomp_rows[thread]);
}
