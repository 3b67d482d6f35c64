/* SPDX-License-Identifier: MIT */
/*
 * Which system calls the threads of a running guest make. Nothing here opens, connects, starts or
 * executes anything, nothing makes memory executable.
 */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <sys/mman.h>

#include "vmm/confine_rules.h"

/* malloc and free, locks, messages, the way out: any thread. */
static const struct confine_row any_thread[] = {
	CONFINE_CALL(brk),
	CONFINE_CALL_LACKS(mmap, 2, PROT_EXEC),
	CONFINE_CALL_LACKS(mprotect, 2, PROT_EXEC),
	CONFINE_CALL(mremap),
	CONFINE_CALL(munmap),
	CONFINE_CALL_IS(madvise, 2, MADV_DONTNEED),
	CONFINE_CALL_IS(madvise, 2, MADV_FREE),
#ifdef CONFINE_SANITIZED
	CONFINE_CALL_IS(madvise, 2, MADV_DONTDUMP),
	CONFINE_CALL_IS(madvise, 2, MADV_NOHUGEPAGE),
	CONFINE_CALL(sigaltstack),
#endif
	CONFINE_CALL(futex),
	CONFINE_CALL(sched_yield),
	CONFINE_CALL(sched_getaffinity), /* glibc, when a thread first uses malloc */
	CONFINE_CALL(clock_gettime),	 /* where the vDSO cannot tell */
	CONFINE_CALL(restart_syscall),
	CONFINE_CALL(write),
	CONFINE_CALL(writev),
	/* Of this process alone: machine_stop, raise, abort. */
	CONFINE_CALL(getpid),
	CONFINE_CALL(gettid),
	{SYS_tgkill, 0, CONFINE_IS_PID, 0},
	{SYS_tkill, 0, CONFINE_IS_PID, 0},
	{SYS_tkill, 0, CONFINE_IS_TID, 0},
	/* A crash puts the terminal back, and then has its usual end. */
	CONFINE_CALL(rt_sigaction),
	CONFINE_CALL(rt_sigprocmask),
	CONFINE_CALL(rt_sigreturn),
	CONFINE_IOCTL(TCSETS2),
	CONFINE_CALL(exit),
	CONFINE_CALL(exit_group),
};

/* Device code: from a vCPU's exits and from the event loop. */
static const struct confine_row devices[] = {
	/* registers and interrupts of passed-through devices */
	CONFINE_CALL(pread64),
	CONFINE_CALL(pwrite64),
	CONFINE_CALL(eventfd2),
	CONFINE_CALL(close),
	CONFINE_IOCTL(VFIO_DEVICE_SET_IRQS),
	CONFINE_IOCTL(KVM_IRQFD),
	CONFINE_IOCTL(KVM_SET_GSI_ROUTING),
	CONFINE_IOCTL(KVM_SIGNAL_MSI),
	CONFINE_IOCTL(KVM_IRQ_LINE),
	CONFINE_IOCTL(KVM_SET_USER_MEMORY_REGION), /* a BAR that the guest moves */
	/* fdset_keep; newfstatat is how some C libraries do it */
	CONFINE_CALL(fstat),
	CONFINE_CALL_IS(newfstatat, 3, AT_EMPTY_PATH),
	/* console */
	CONFINE_CALL(read),
	CONFINE_CALL(ppoll),
	CONFINE_CALL(epoll_ctl),
	CONFINE_IOCTL(TCFLSH),
};

static const struct confine_row vcpu[] = {
	CONFINE_IOCTL(KVM_RUN),
	/* saving itself at an update */
	CONFINE_IOCTL(KVM_SET_SIGNAL_MASK),
	CONFINE_IOCTL(KVM_GET_MP_STATE),
	CONFINE_IOCTL(KVM_GET_REGS),
	CONFINE_IOCTL(KVM_GET_VCPU_EVENTS),
	CONFINE_IOCTL(KVM_GET_DEVICE_ATTR),
	CONFINE_CALL(sched_getscheduler),
	CONFINE_CALL(sched_getparam),
};

static const struct confine_row loop[] = {
	CONFINE_CALL(epoll_pwait),
	CONFINE_CALL(accept4),
	CONFINE_CALL(sendto),
};

/* The leader reads requests; this one only sees whether a line has come. */
static const struct confine_row control[] = {
	CONFINE_CALL(epoll_pwait),
	CONFINE_CALL(epoll_ctl),
	CONFINE_CALL(accept4),
	CONFINE_CALL(getsockopt), /* who the client is */
	CONFINE_CALL(geteuid),
	CONFINE_CALL(recvfrom),
	CONFINE_CALL(sendto),
	CONFINE_CALL(close),
	CONFINE_CALL(fstat), /* fdset_keep */
	CONFINE_CALL_IS(newfstatat, 3, AT_EMPTY_PATH),
};

/* In the order in which the arguments of one call are tried: what is called most comes first. */
static const struct confine_rows sets[CONFINE_THREADS][3] = {
	[CONFINE_VCPU] = {CONFINE_ROWS(vcpu), CONFINE_ROWS(devices), CONFINE_ROWS(any_thread)},
	[CONFINE_LOOP] = {CONFINE_ROWS(loop), CONFINE_ROWS(devices), CONFINE_ROWS(any_thread)},
	[CONFINE_CONTROL] = {CONFINE_ROWS(control), CONFINE_ROWS(any_thread)},
};

static unsigned append(struct confine_row *out, unsigned n, const struct confine_rows *set)
{
	for (unsigned i = 0; i < set->n && n < CONFINE_MAX_ROWS; i++)
		out[n++] = set->row[i];
	return n;
}

unsigned confine_rows(enum confine_thread thread, struct confine_row *out)
{
	unsigned n = 0;
	for (unsigned i = 0; i < ARRAY_LEN(sets[thread]); i++)
		n = append(out, n, &sets[thread][i]);
	return append(out, n, &arch_confine_rows[thread]);
}
