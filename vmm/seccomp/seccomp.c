/* SPDX-License-Identifier: MIT */
/* Puts a filter on the calling thread, and says which call one has stopped. */
#include "vmm/seccomp/seccomp.h"

#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>

#include "vmm/seccomp/rules.h"
#include "vmm/console/terminal.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code (asm-generic/siginfo.h) */
#endif
#define LOG_EACH 8 /* messages for each call in mode log: a guest may cause them */

static enum seccomp_mode mode = SECCOMP_OFF;
static struct sigaction former;
static _Thread_local char thread_name[16];
static _Thread_local bool filtered;

/* From the C library's own header (CMakeLists.txt). */
static const char *const names[] = {
#include "syscalls.h"
};

const char *seccomp_call_name(long nr)
{
	return nr >= 0 && (size_t)nr < ARRAY_LEN(names) && names[nr] ? names[nr] : "?";
}

/* ---- a call that is not allowed; async-signal-safe from here on ---- */

struct text {
	char buf[400];
	size_t len;
};

static void put(struct text *t, const char *s)
{
	while (*s && t->len < sizeof(t->buf) - 1)
		t->buf[t->len++] = *s++;
	t->buf[t->len] = 0;
}

static void put_number(struct text *t, unsigned long v, unsigned base)
{
	char digits[24], *p = digits + sizeof(digits) - 1;
	*p = 0;
	do
		*--p = "0123456789abcdef"[v % base];
	while (v /= base);
	if (base == 16)
		put(t, "0x");
	put(t, p);
}

static void describe(struct text *t, const siginfo_t *info, const long args[6])
{
	put(t, "sandbox: thread ");
	put(t, filtered ? thread_name : "of molt");
	if (info->si_arch != arch_seccomp_audit) {
		put(t, ": a system call of another architecture, number ");
		put_number(t, (unsigned)info->si_syscall, 10);
		return;
	}
	put(t, ": system call ");
	put(t, seccomp_call_name(info->si_syscall));
	put(t, " (");
	put_number(t, (unsigned)info->si_syscall, 10);
	put(t, info->si_syscall == SYS_ioctl ? "), request " : "), arguments ");
	if (info->si_syscall == SYS_ioctl)
		put_number(t, (uint32_t)args[1], 16);
	for (unsigned i = 0; info->si_syscall != SYS_ioctl && i < 6; i++) {
		put(t, i ? " " : "");
		put_number(t, (unsigned long)args[i], 16);
	}
	put(t, ", at ");
	put_number(t, (unsigned long)(uintptr_t)info->si_call_addr, 16);
}

/* Would go wrong when made from inside a signal handler. */
static bool replayable(long nr)
{
	switch (nr) {
	case SYS_clone:
#ifdef SYS_clone3
	case SYS_clone3:
#endif
#ifdef SYS_fork
	case SYS_fork:
	case SYS_vfork:
#endif
	case SYS_rt_sigreturn:
		return false;
	default:
		return true;
	}
}

static void make_it(const siginfo_t *info, void *context, const long args[6], struct text *t)
{
	static uint8_t seen[512];
	unsigned nr = (unsigned)info->si_syscall % ARRAY_LEN(seen);
	bool can = info->si_arch == arch_seccomp_audit && replayable(info->si_syscall);

	put(t, can ? ": not allowed, but made" : ": not allowed, and returns ENOSYS");
	if (__atomic_load_n(&seen[nr], __ATOMIC_RELAXED) < LOG_EACH) {
		__atomic_fetch_add(&seen[nr], 1, __ATOMIC_RELAXED);
		log_signal(t->buf);
	}
	arch_seccomp_return(context, can ? arch_seccomp_call(info->si_syscall, args) : -ENOSYS);
}

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	struct text t = {.len = 0};
	long args[6];

	if (info->si_code == SYS_SECCOMP) {
		arch_seccomp_args(context, args);
		describe(&t, info, args);
		if (mode == SECCOMP_LOG && filtered) {
			make_it(info, context, args, &t);
			errno = saved_errno;
			return;
		}
		put(&t, filtered ? ": not allowed" : ": refused by a filter that is not molt's");
		log_signal(t.buf);
	}
	terminal_restore();
	if (former.sa_handler != SIG_DFL && former.sa_handler != SIG_IGN)
		former.sa_handler(sig); /* of an update that is not committed: does not return */
	_exit(128 + sig);
}

/* ---- putting filters on ---- */

int seccomp_init(enum seccomp_mode wanted, struct error *err)
{
	struct sigaction sa = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO}, now;

	mode = wanted;
	sigaction(SIGSYS, NULL, &now);
	if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_sigsys) {
		former = now;
		sigaction(SIGSYS, &sa, NULL);
	}
	/* Without CAP_SYS_ADMIN only a thread that cannot gain privileges any more may put a filter on. */
	if (mode != SECCOMP_OFF && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "sandbox: no_new_privs");
	return 0;
}

int seccomp_enter(enum seccomp_thread thread, struct error *err)
{
	struct seccomp_row rows[SECCOMP_MAX_ROWS];
	struct sock_filter code[SECCOMP_MAX_CODE];
	const struct seccomp_env env = {
		.pid = (uint32_t)getpid(),
		.tid = (uint32_t)syscall(SYS_gettid),
		.pass = mode == SECCOMP_LOG ? arch_seccomp_pass() : 0,
	};

	if (mode == SECCOMP_OFF)
		return 0;
	prctl(PR_GET_NAME, thread_name);
	filtered = true;
	unsigned n = seccomp_compile(rows, seccomp_rows(thread, rows), &env, code, ARRAY_LEN(code));
	struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
	if (n && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
		return 0;
	filtered = false;
	error_end(err, EXIT_HOST, n ? errno : E2BIG, "sandbox: filter of thread %s: %m",
		  thread_name);
	return error_hint(err,
			  "the kernel needs CONFIG_SECCOMP_FILTER; --sandbox off does without");
}
