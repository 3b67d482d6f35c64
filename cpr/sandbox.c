/* SPDX-License-Identifier: MIT */
#include "cpr/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "cpr/raw.h"
#include "vmm/base/num.h"

#if defined(__x86_64__)
#define ARCH	 AUDIT_ARCH_X86_64
#define NR_LIMIT 0x40000000u /* x32 calls lie above */
#elif defined(__aarch64__)
#define ARCH	 AUDIT_ARCH_AARCH64
#define NR_LIMIT 0x40000000u
#endif

#define WRITING (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

/* Newer than some C libraries. */
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

enum when {
	ALWAYS,
	ABSENT, /* always, as if the kernel had no such call: libraries then use an older one */
	OTHERS, /* unless argument @arg is the process itself, or 0 */
	WRITES, /* open flags in argument @arg write, make or cut off */
	NEW_PROCESSES, /* unless the clone flags in argument @arg make a thread */
};

static const struct {
	int nr;
	enum when when;
	unsigned arg;
} denied[] = {
	/* other processes */
	{SYS_kill, OTHERS, 0},
	{SYS_tkill, OTHERS, 0},
	{SYS_tgkill, OTHERS, 0},
	{SYS_rt_sigqueueinfo, OTHERS, 0},
	{SYS_rt_tgsigqueueinfo, OTHERS, 0},
	{SYS_pidfd_send_signal, ALWAYS, 0},
	{SYS_pidfd_open, ALWAYS, 0},
	{SYS_pidfd_getfd, ALWAYS, 0},
	{SYS_ptrace, ALWAYS, 0},
	{SYS_process_vm_readv, ALWAYS, 0},
	{SYS_process_vm_writev, ALWAYS, 0},
	{SYS_process_madvise, ALWAYS, 0},
	{SYS_process_mrelease, ALWAYS, 0},
	{SYS_prlimit64, OTHERS, 0},
	{SYS_setpriority, ALWAYS, 0},
	{SYS_ioprio_set, ALWAYS, 0},
	{SYS_sched_setaffinity, OTHERS, 0},
	{SYS_sched_setscheduler, OTHERS, 0},
	{SYS_sched_setparam, OTHERS, 0},
	{SYS_sched_setattr, OTHERS, 0},
	/* processes of its own; leaving the group that is ended with it */
	{SYS_clone, NEW_PROCESSES, 0},
	{SYS_clone3, ABSENT, 0},
	{SYS_setsid, ALWAYS, 0},
	{SYS_setpgid, ALWAYS, 0},
	{SYS_unshare, ALWAYS, 0},
	{SYS_setns, ALWAYS, 0},
	/* files; execveat stays, for the exec that is about to come */
	{SYS_execve, ALWAYS, 0},
	{SYS_openat, WRITES, 2},
	{SYS_openat2, ABSENT, 0},
	{SYS_open_by_handle_at, ALWAYS, 0},
	{SYS_unlinkat, ALWAYS, 0},
	{SYS_renameat2, ALWAYS, 0},
	{SYS_linkat, ALWAYS, 0},
	{SYS_symlinkat, ALWAYS, 0},
	{SYS_mkdirat, ALWAYS, 0},
	{SYS_mknodat, ALWAYS, 0},
	{SYS_fchmodat, ALWAYS, 0},
	{SYS_fchmod, ALWAYS, 0},
	{SYS_fchownat, ALWAYS, 0},
	{SYS_fchown, ALWAYS, 0},
	{SYS_utimensat, ALWAYS, 0},
	{SYS_truncate, ALWAYS, 0},
	{SYS_setxattr, ALWAYS, 0},
	{SYS_lsetxattr, ALWAYS, 0},
	{SYS_fsetxattr, ALWAYS, 0},
	{SYS_removexattr, ALWAYS, 0},
	{SYS_lremovexattr, ALWAYS, 0},
	{SYS_fremovexattr, ALWAYS, 0},
	{SYS_flock, ALWAYS, 0},
#ifdef SYS_open
	{SYS_open, WRITES, 1},
	{SYS_creat, ALWAYS, 0},
	{SYS_unlink, ALWAYS, 0},
	{SYS_rmdir, ALWAYS, 0},
	{SYS_rename, ALWAYS, 0},
	{SYS_renameat, ALWAYS, 0},
	{SYS_link, ALWAYS, 0},
	{SYS_symlink, ALWAYS, 0},
	{SYS_mkdir, ALWAYS, 0},
	{SYS_mknod, ALWAYS, 0},
	{SYS_chmod, ALWAYS, 0},
	{SYS_chown, ALWAYS, 0},
	{SYS_lchown, ALWAYS, 0},
	{SYS_utime, ALWAYS, 0},
	{SYS_utimes, ALWAYS, 0},
	{SYS_futimesat, ALWAYS, 0},
	{SYS_fork, ALWAYS, 0},
	{SYS_vfork, ALWAYS, 0},
#endif
	/* sockets, shared objects, the kernel's other ends */
	{SYS_socket, ALWAYS, 0},
	{SYS_socketpair, ALWAYS, 0},
	{SYS_connect, ALWAYS, 0},
	{SYS_shmget, ALWAYS, 0},
	{SYS_shmctl, ALWAYS, 0},
	{SYS_msgget, ALWAYS, 0},
	{SYS_msgctl, ALWAYS, 0},
	{SYS_semget, ALWAYS, 0},
	{SYS_semctl, ALWAYS, 0},
	{SYS_mq_open, ALWAYS, 0},
	{SYS_mq_unlink, ALWAYS, 0},
	{SYS_io_uring_setup, ABSENT, 0}, /* opens files without these calls */
	{SYS_userfaultfd, ALWAYS, 0},
	{SYS_perf_event_open, ALWAYS, 0},
	{SYS_bpf, ALWAYS, 0},
	{SYS_add_key, ALWAYS, 0},
	{SYS_request_key, ALWAYS, 0},
	{SYS_keyctl, ALWAYS, 0},
	{SYS_mount, ALWAYS, 0},
	{SYS_umount2, ALWAYS, 0},
	{SYS_pivot_root, ALWAYS, 0},
	{SYS_reboot, ALWAYS, 0},
};

#define FILTER_MAX (8 + 6 * ARRAY_LEN(denied))

struct filter {
	unsigned n;
	struct sock_filter code[FILTER_MAX];
};

RAW static void emit(struct filter *f, unsigned op, unsigned k, unsigned yes, unsigned no)
{
	struct sock_filter *at = &f->code[f->n++];
	at->code = (uint16_t)op;
	at->jt = (uint8_t)yes;
	at->jf = (uint8_t)no;
	at->k = k;
}

RAW static void emit_load(struct filter *f, unsigned off)
{
	emit(f, BPF_LD | BPF_W | BPF_ABS, off, 0, 0);
}

RAW static void emit_return(struct filter *f, unsigned action)
{
	emit(f, BPF_RET | BPF_K, action, 0, 0);
}

#define JUMP_EQ	 (BPF_JMP | BPF_JEQ | BPF_K)
#define JUMP_SET (BPF_JMP | BPF_JSET | BPF_K)
#define JUMP_GE	 (BPF_JMP | BPF_JGE | BPF_K)
#define DENY	 (SECCOMP_RET_ERRNO | EPERM)

/* The call's number is loaded; each row answers for its own and is jumped over by others. Arguments are
 * judged by their low word: all of these are int, or flags in that word (hosts are little-endian). */
RAW static void emit_row(struct filter *f, unsigned row, unsigned self)
{
	unsigned arg = (unsigned)offsetof(struct seccomp_data, args) + 8 * denied[row].arg;
	unsigned nr = (unsigned)denied[row].nr;

	switch (denied[row].when) {
	case ALWAYS:
	case ABSENT:
		emit(f, JUMP_EQ, nr, 0, 1);
		emit_return(f, denied[row].when == ABSENT ? SECCOMP_RET_ERRNO | ENOSYS : DENY);
		return;
	case OTHERS:
		emit(f, JUMP_EQ, nr, 0, 5);
		emit_load(f, arg);
		emit(f, JUMP_EQ, self, 1, 0);
		emit(f, JUMP_EQ, 0, 0, 1);
		emit_return(f, SECCOMP_RET_ALLOW);
		emit_return(f, DENY);
		return;
	case WRITES:
	case NEW_PROCESSES:
		emit(f, JUMP_EQ, nr, 0, 4);
		emit_load(f, arg);
		if (denied[row].when == WRITES)
			emit(f, JUMP_SET, WRITING, 1, 0);
		else
			emit(f, JUMP_SET, CLONE_THREAD, 0, 1);
		emit_return(f, SECCOMP_RET_ALLOW);
		emit_return(f, DENY);
		return;
	}
}

RAW static long install_filter(unsigned self)
{
	struct filter f;
	struct sock_fprog prog;

	f.n = 0;
	emit_load(&f, offsetof(struct seccomp_data, arch));
	emit(&f, JUMP_EQ, ARCH, 1, 0);
	emit_return(&f, SECCOMP_RET_KILL_PROCESS);
	emit_load(&f, offsetof(struct seccomp_data, nr));
	emit(&f, JUMP_GE, NR_LIMIT, 0, 1);
	emit_return(&f, DENY);
	for (unsigned i = 0; i < ARRAY_LEN(denied); i++)
		emit_row(&f, i, self);
	emit_return(&f, SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)f.n;
	prog.filter = f.code;
	return raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&prog, 0, 0);
}

/* No core dump, no byte to a file. Address space is not limited: what the program really needs for
 * this guest it must be able to have. */
RAW static long limit(int resource, unsigned value)
{
	struct {
		uint64_t now, most;
	} l;
	long rc = raw_syscall(SYS_prlimit64, 0, resource, 0, (long)&l, 0);
	l.now = l.most = l.most < value ? l.most : value;
	return rc ? rc : raw_syscall(SYS_prlimit64, 0, resource, (long)&l, 0, 0);
}

/* Where memory is short the kernel ends a process, and takes the largest: the guest's, unless one offers
 * itself (proc(5), oom_score_adj; of a vfork child it is its own). Whether that worked is asked before
 * any memory is tried (limits_try_room). */
RAW static void first_to_be_ended(void)
{
	long fd = raw_syscall(SYS_openat, AT_FDCWD, (long)SANDBOX_OOM_FILE, O_WRONLY, 0, 0);
	if (fd < 0)
		return;
	raw_syscall(SYS_write, fd, (long)SANDBOX_OOM_FIRST, sizeof(SANDBOX_OOM_FIRST) - 1, 0, 0);
	raw_syscall(SYS_close, fd, 0, 0, 0, 0);
}

RAW long sandbox_enter(struct sandbox *s)
{
	long rc;
	first_to_be_ended();
	s->step = "session";
	rc = raw_syscall(SYS_setsid, 0, 0, 0, 0, 0);
	if (rc >= 0) {
		s->step = "end with its parent";
		rc = raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	}
	if (rc >= 0 && raw_syscall(SYS_getppid, 0, 0, 0, 0, 0) != s->parent)
		rc = -ESRCH;
	if (rc >= 0) {
		s->step = "limits";
		rc = limit(RLIMIT_CORE, 0) | limit(RLIMIT_FSIZE, 0) | limit(RLIMIT_CPU, s->cpu_s) |
		     limit(RLIMIT_NOFILE, s->files);
	}
	if (rc >= 0) {
		s->step = "no_new_privs";
		rc = raw_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	}
	if (rc >= 0) {
		s->step = "seccomp filter";
		rc = install_filter((unsigned)raw_syscall(SYS_getpid, 0, 0, 0, 0, 0));
	}
	return rc;
}
