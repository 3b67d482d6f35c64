/* SPDX-License-Identifier: MIT */
/* What the system calls of an update can fail with: their manual pages, Documentation/virt/kvm/api.rst. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "tests/guest/inject/inject.h"

#define E(...) ((const int[]){__VA_ARGS__, 0})

/* KVM's requests share these: a signal, no memory, a value that this kernel refuses, another user of it,
 * a security module. */
#define KVM_ERRORS    E(EINTR, ENOMEM, EINVAL, EFAULT, EBUSY, EIO, EPERM, ENXIO, ENOTTY, EAGAIN)
#define KVM_FD_ERRORS E(EINTR, ENOMEM, EMFILE, ENFILE, EINVAL, EBUSY, EEXIST, EIO, EPERM, EAGAIN)
#define NEW_FD_ERRORS E(EMFILE, ENFILE, ENOMEM, EINVAL, EPERM, ENODEV)
#define CLONE_ERRORS  E(EAGAIN, ENOMEM, EPERM, EINVAL, ENOSPC, EUSERS)
#define OPEN_ERRORS   E(EMFILE, ENFILE, ENOMEM, EACCES, ENOENT, EINTR, EIO, ENXIO, ELOOP, EPERM)
#define STAT_ERRORS   E(EBADF, ENOMEM, EOVERFLOW, EIO)

#define NO_FAILURE "the kernel knows no failure of it with valid arguments"

#define KVM(request)                                                                               \
	{                                                                                          \
		SYS_ioctl, request, "ioctl " #request, KVM_ERRORS                                  \
	}
#define CALL(name, errors)                                                                         \
	{                                                                                          \
		SYS_##name, 0, #name, errors                                                       \
	}
#define NEVER(name)                                                                                \
	{                                                                                          \
		SYS_##name, 0, #name, NULL, NO_FAILURE                                             \
	}

static const struct inject_kind kinds[] = {
	{SYS_ioctl, KVM_CREATE_VM, "ioctl KVM_CREATE_VM", KVM_FD_ERRORS},
	{SYS_ioctl, KVM_CREATE_VCPU, "ioctl KVM_CREATE_VCPU", KVM_FD_ERRORS},
	/* ENOTTY, EINVAL: this kernel has none, and the worker goes without. */
	{SYS_ioctl, KVM_GET_STATS_FD, "ioctl KVM_GET_STATS_FD",
	 E(EINTR, EMFILE, ENFILE, ENOMEM, EPERM, EIO)},
	KVM(KVM_RUN),
	KVM(KVM_CHECK_EXTENSION),
	KVM(KVM_GET_VCPU_MMAP_SIZE),
	KVM(KVM_SET_USER_MEMORY_REGION),
	KVM(KVM_SET_IDENTITY_MAP_ADDR),
	KVM(KVM_SET_TSS_ADDR),
	KVM(KVM_CREATE_IRQCHIP),
	KVM(KVM_CREATE_PIT2),
	KVM(KVM_REINJECT_CONTROL),
	KVM(KVM_GET_IRQCHIP),
	KVM(KVM_SET_IRQCHIP),
	KVM(KVM_GET_PIT2),
	KVM(KVM_SET_PIT2),
	KVM(KVM_GET_CLOCK),
	KVM(KVM_SET_CLOCK),
	KVM(KVM_SET_GSI_ROUTING),
	KVM(KVM_IRQFD),
	KVM(KVM_IOEVENTFD),
	KVM(KVM_IRQ_LINE),
	KVM(KVM_SIGNAL_MSI),
	KVM(KVM_SET_CPUID2),
	KVM(KVM_SET_SIGNAL_MASK),
	KVM(KVM_GET_MP_STATE),
	KVM(KVM_SET_MP_STATE),
	KVM(KVM_GET_REGS),
	KVM(KVM_SET_REGS),
	KVM(KVM_GET_SREGS2),
	KVM(KVM_SET_SREGS2),
	KVM(KVM_GET_XSAVE),
	KVM(KVM_GET_XSAVE2),
	KVM(KVM_SET_XSAVE),
	KVM(KVM_GET_XCRS),
	KVM(KVM_SET_XCRS),
	KVM(KVM_GET_MSRS),
	KVM(KVM_SET_MSRS),
	KVM(KVM_GET_LAPIC),
	KVM(KVM_SET_LAPIC),
	KVM(KVM_GET_VCPU_EVENTS),
	KVM(KVM_SET_VCPU_EVENTS),
	KVM(KVM_GET_DEBUGREGS),
	KVM(KVM_SET_DEBUGREGS),
	KVM(KVM_GET_TSC_KHZ),
	KVM(KVM_SET_TSC_KHZ),
	KVM(KVM_GET_DEVICE_ATTR),
	KVM(KVM_SET_DEVICE_ATTR),
	{SYS_ioctl, TIOCGWINSZ, "ioctl TIOCGWINSZ", E(ENOTTY, EIO)},

	CALL(open, OPEN_ERRORS),
	CALL(openat, OPEN_ERRORS),
	{SYS_close, 0, "close", E(EINTR, EIO, ENOSPC, EDQUOT), .does_it = true},
	CALL(read, E(EINTR, EAGAIN, EIO, EBADF)),
	CALL(pread64, E(EINTR, EAGAIN, EIO, EBADF)),
	{SYS_write, 0, "write", E(EINTR, EAGAIN), .file = "anon_inode:[eventfd]"},
	CALL(write, E(EINTR, EAGAIN, EIO, ENOSPC, EPIPE, EFBIG, EDQUOT, EBADF)),
	CALL(pwrite64, E(EINTR, EAGAIN, EIO, ENOSPC, EFBIG, EPERM)),
	CALL(fstat, STAT_ERRORS),
	CALL(newfstatat, STAT_ERRORS),
	CALL(fstatfs, E(EINTR, ENOMEM, EIO, ENOSYS)),
	CALL(faccessat2, E(EACCES, ENOENT, ENOMEM, EIO, EPERM, ENOSYS, ELOOP)),
	CALL(memfd_create, NEW_FD_ERRORS),
	CALL(eventfd2, NEW_FD_ERRORS),
	CALL(epoll_create1, NEW_FD_ERRORS),
	CALL(io_uring_setup, NEW_FD_ERRORS),
	CALL(io_uring_register, E(EINVAL, EBUSY, ENOMEM, EPERM)),
	CALL(pidfd_open, E(EMFILE, ENFILE, ENOMEM, EINVAL, ESRCH, ENODEV)),
	CALL(epoll_ctl,
	     E(ENOMEM, ENOSPC, EINVAL, ELOOP)), /* EPERM: a kind of file, not an accident */
	CALL(fallocate, E(EINTR, ENOMEM, EIO, EFBIG, ENOSPC, EPERM, EOPNOTSUPP)),
	CALL(ftruncate, E(EINTR, ENOMEM, EIO, EFBIG, ENOSPC, EPERM, EINVAL)),
	{SYS_fcntl, F_SETFD, "fcntl F_SETFD", E(EBADF)},
	{SYS_fcntl, F_GETFD, "fcntl F_GETFD", E(EBADF)},
	{SYS_fcntl, F_DUPFD_CLOEXEC, "fcntl F_DUPFD_CLOEXEC", E(EMFILE, EINVAL, EBADF)},
	{SYS_fcntl, F_ADD_SEALS, "fcntl F_ADD_SEALS", E(EBUSY, EPERM, EINVAL)},
	{SYS_fcntl, F_GET_SEALS, "fcntl F_GET_SEALS", E(EINVAL, EBADF)},

	CALL(mmap, E(ENOMEM, EAGAIN, EACCES, ENFILE, EPERM, EINVAL, ENODEV, EOVERFLOW)),
	CALL(munmap, E(ENOMEM, EINVAL)),
	CALL(mprotect, E(ENOMEM, EACCES, EINVAL)),
	CALL(madvise, E(ENOMEM, EAGAIN, EINVAL, EIO)),
	CALL(brk, E(ENOMEM)),

	CALL(clone, CLONE_ERRORS),
	CALL(clone3, CLONE_ERRORS),
	CALL(execveat, E(ENOMEM, EACCES, E2BIG, ENOEXEC, ETXTBSY, EMFILE, ENFILE, EIO, EPERM,
			 EINVAL, ELIBBAD, ELOOP, EAGAIN, ENOENT, EINTR)),
	CALL(tgkill, E(EAGAIN, EPERM)),
	CALL(kill, E(EPERM)),
	CALL(wait4, E(EINTR, ECHILD)),
	CALL(socketpair, E(EMFILE, ENFILE, ENOMEM, EACCES)),
	CALL(setsockopt, E(ENOMEM, EPERM, ENOPROTOOPT)),
	/* Not EPIPE, ECONNRESET: the other side is gone then, which is what drives_kill.c makes come true. */
	CALL(sendmsg, E(EINTR, EAGAIN, ENOBUFS, ENOMEM, EPERM, ETOOMANYREFS)),
	CALL(recvmsg, E(EINTR, EAGAIN, ENOMEM, EPERM)),
	CALL(signalfd4, NEW_FD_ERRORS),
	CALL(pidfd_send_signal, E(EPERM, EAGAIN, EINVAL, ENOMEM)),
	CALL(poll, E(EINTR, ENOMEM)),
	CALL(ppoll, E(EINTR, ENOMEM)),
	CALL(nanosleep, E(EINTR)),
	CALL(clock_nanosleep, E(EINTR)),
	CALL(arch_prctl, E(EPERM, EINVAL)),
	CALL(seccomp, E(EACCES, EINVAL, ENOMEM, ESRCH)),
	CALL(sigaltstack, E(ENOMEM, EPERM, EINVAL)),
	CALL(setpriority, E(EACCES, EPERM)),
	CALL(getpriority, E(EPERM, ESRCH)),
	CALL(sched_getaffinity, E(EINVAL, EPERM, ENOMEM)),
	CALL(sched_getscheduler, E(EINVAL, EPERM, ESRCH)),
	CALL(sched_getparam, E(EINVAL, EPERM, ESRCH)),
	CALL(sched_setaffinity, E(EINVAL, EPERM, ENOMEM)),
	CALL(sched_setscheduler, E(EINVAL, EPERM, ESRCH)),
	{SYS_futex, FUTEX_WAKE, "futex FUTEX_WAKE", NULL, NO_FAILURE},
	{SYS_futex, FUTEX_REQUEUE, "futex FUTEX_REQUEUE", NULL, NO_FAILURE},
	{SYS_futex, 0, "futex FUTEX_WAIT", E(EINTR, EAGAIN)},
	NEVER(prctl), /* PR_SET_NAME, PR_SET_PDEATHSIG */
	NEVER(getppid),
	NEVER(geteuid),
	NEVER(rt_sigaction),
	NEVER(rt_sigprocmask),
	NEVER(rt_sigreturn),
	NEVER(set_tid_address),
	NEVER(getpid),
	NEVER(gettid),
	NEVER(getuid),
	NEVER(clock_gettime),
	NEVER(exit),
	NEVER(exit_group),
	{-1, 0, "call", E(EINTR, ENOMEM, EINVAL, EPERM, EIO)}, /* new ones */
};

const struct inject_kind *inject_kind_of(const struct inject_call *c)
{
	const struct inject_kind *k = kinds;
	while (k->nr != -1 && (k->nr != c->nr || (k->request && k->request != c->request) ||
			       (k->file && strncmp(k->file, c->file, strlen(k->file)))))
		k++;
	return k;
}

const char *inject_call_name(const struct inject_call *c)
{
	static const char *const images[IMAGES] = {"none", "old",	"parent", "child",
						   "new",  "rehearsal", "next"};
	static char text[160];
	const struct inject_kind *k = inject_kind_of(c);
	char who[24], number[40] = "";

	if (c->role == ROLE_VCPU)
		snprintf(who, sizeof(who), "cpu%u", c->cpu);
	else
		snprintf(who, sizeof(who), "%s", c->role == ROLE_LOOP ? "loop" : "leader");
	if (k->nr < 0)
		snprintf(number, sizeof(number), " %d:%lx", c->nr, c->request);
	snprintf(text, sizeof(text), "%s %s %s%s #%u%s%s", images[c->image], who, k->name, number,
		 c->n, c->file[0] ? " " : "", c->file);
	return text;
}

static const struct {
	int error;
	const char *name, *other; /* other: glibc's words, where musl's differ */
} errors[] = {
#define X(name, other)                                                                             \
	{                                                                                          \
		name, #name, other                                                                 \
	}
	X(EINTR, NULL),
	X(ENOMEM, "Cannot allocate memory"),
	X(EINVAL, NULL),
	X(EFAULT, NULL),
	X(EBUSY, "Device or resource busy"),
	X(EIO, "Input/output error"),
	X(EPERM, NULL),
	X(ENXIO, NULL),
	X(ENOTTY, "Inappropriate ioctl for device"),
	X(EAGAIN, NULL),
	X(EMFILE, "Too many open files"),
	X(ENFILE, NULL),
	X(EEXIST, NULL),
	X(EACCES, NULL),
	X(ENOENT, NULL),
	X(ELOOP, "Too many levels of symbolic links"),
	X(EBADF, NULL),
	X(EOVERFLOW, NULL),
	X(ENOSYS, NULL),
	X(ENODEV, NULL),
	X(ESRCH, NULL),
	X(ENOSPC, NULL),
	X(EFBIG, NULL),
	X(EDQUOT, NULL),
	X(EPIPE, NULL),
	X(EUSERS, NULL),
	X(E2BIG, NULL),
	X(ENOEXEC, NULL),
	X(ETXTBSY, NULL),
	X(ELIBBAD, NULL),
	X(ECHILD, NULL),
	X(ENOBUFS, NULL),
	X(EMSGSIZE, NULL),
	X(ETOOMANYREFS, NULL),
	X(ECONNRESET, NULL),
	X(ENOPROTOOPT, NULL),
	X(EOPNOTSUPP, NULL),
#undef X
};

const char *inject_error_name(int error)
{
	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].error == error)
			return errors[i].name;
	return strerror(error);
}

bool inject_error_in(int error, const char *text)
{
	if (strstr(text, strerror(error)))
		return true;
	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].error == error && errors[i].other && strstr(text, errors[i].other))
			return true;
	return false;
}
