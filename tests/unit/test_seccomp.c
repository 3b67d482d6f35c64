/* SPDX-License-Identifier: MIT */
/* Filters of system calls: what they let through, by a small interpreter and by the kernel itself. */
#include "unit.h"

#include <asm/ioctls.h>
#include <linux/audit.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/seccomp/rules.h"

#define PID  1234
#define TID  1235
#define PASS 0x7f0012345678

static struct sock_filter code[SECCOMP_MAX_CODE];
static unsigned code_len, steps;

static void compile(enum seccomp_thread thread, uintptr_t pass)
{
	struct seccomp_row rows[SECCOMP_MAX_ROWS];
	const struct seccomp_env env = {.pid = PID, .tid = TID, .pass = pass};
	code_len = seccomp_compile(rows, seccomp_rows(thread, rows), &env, code, SECCOMP_MAX_CODE);
	assert_true(code_len > 0);
}

/* Runs the filter (Documentation/networking/filter.rst) over one call; counts its steps. */
static bool allowed_as(uint32_t arch, long nr, unsigned arg, uint64_t value, uint64_t ip)
{
	struct seccomp_data d = {.nr = (int)nr, .arch = arch, .instruction_pointer = ip};
	uint32_t a = 0;
	if (arg < 6)
		d.args[arg] = value;
	steps = 0;
	for (unsigned pc = 0; pc < code_len; pc++) {
		const struct sock_filter *f = &code[pc];
		bool taken;
		steps++;
		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(f->k % 4 == 0 && f->k + 4 <= sizeof(d));
			memcpy(&a, (const char *)&d + f->k, 4);
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			taken = a == f->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			taken = a >= f->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			taken = a & f->k;
			break;
		case BPF_RET | BPF_K:
			assert_true(f->k == SECCOMP_RET_ALLOW || f->k == SECCOMP_RET_TRAP);
			return f->k == SECCOMP_RET_ALLOW;
		default:
			fail_msg("instruction %u: 0x%x", pc, f->code);
			return false;
		}
		pc += taken ? f->jt : f->jf;
	}
	fail_msg("the filter has no end");
	return false;
}

static bool allowed(long nr, unsigned arg, uint64_t value)
{
	return allowed_as(arch_seccomp_audit, nr, arg, value, 0);
}

static bool row_allows(const struct seccomp_row *r, long nr)
{
	return r->nr == nr && (r->test == SECCOMP_ANY || r->test == SECCOMP_LACKS ||
			       (r->test == SECCOMP_IS && r->value == 0));
}

/* With all arguments zero: exactly what a row allows then. */
static void test_calls(void **state)
{
	for (int t = 0; t < SECCOMP_THREADS; t++) {
		struct seccomp_row rows[SECCOMP_MAX_ROWS];
		unsigned n = seccomp_rows((enum seccomp_thread)t, rows), passed = 0;
		assert_true(n > 0 && n < SECCOMP_MAX_ROWS);
		compile((enum seccomp_thread)t, 0);
		for (long nr = -1; nr < 1200; nr++) {
			bool want = false;
			for (unsigned i = 0; i < n; i++)
				want |= row_allows(&rows[i], nr);
			assert_int_equal(allowed(nr, 0, 0), want);
			passed += want;
			/* the x32 calls (bit 30) and another architecture's, whatever they are */
			assert_false(allowed(nr | 0x40000000, 0, 0));
			assert_false(allowed_as(AUDIT_ARCH_I386, nr, 0, 0, 0));
		}
		assert_true(passed > 10);
	}
}

/* Whatever else is allowed, these never are. */
static void test_never(void **state)
{
	static const long never[] = {
		SYS_openat,	 SYS_open,	   SYS_openat2,	       SYS_creat,
		SYS_execve,	 SYS_execveat,	   SYS_socket,	       SYS_connect,
		SYS_bind,	 SYS_clone,	   SYS_fork,	       SYS_vfork,
		SYS_ptrace,	 SYS_kill,	   SYS_prctl,	       SYS_seccomp,
		SYS_chdir,	 SYS_unlink,	   SYS_rename,	       SYS_link,
		SYS_symlink,	 SYS_chmod,	   SYS_chown,	       SYS_mount,
		SYS_dup2,	 SYS_memfd_create, SYS_setuid,	       SYS_process_vm_writev,
		SYS_pidfd_getfd, SYS_bpf,	   SYS_io_uring_setup, SYS_userfaultfd,
		SYS_add_key,	 SYS_getppid,
	};
	for (int t = 0; t < SECCOMP_THREADS; t++) {
		compile((enum seccomp_thread)t, 0);
		for (unsigned i = 0; i < ARRAY_LEN(never); i++)
			for (unsigned arg = 0; arg < 6; arg++)
				assert_false(allowed(never[i], arg, UINT64_MAX));
	}
}

static void test_arguments(void **state)
{
	compile(SECCOMP_VCPU, 0);
	assert_true(allowed(SYS_ioctl, 1, KVM_RUN));
	assert_true(allowed(SYS_ioctl, 1, KVM_IRQFD));
	/* musl passes the request as an int: bit 31 fills the upper half, which the kernel drops */
	assert_true(allowed(SYS_ioctl, 1, (uint64_t)(int64_t)(int)KVM_GET_REGS));
	assert_false(allowed(SYS_ioctl, 1, TIOCSTI));
	assert_false(allowed(SYS_ioctl, 1, KVM_CREATE_VM));
	assert_false(allowed(SYS_ioctl, 1, KVM_CREATE_DEVICE));
	assert_false(
		allowed(SYS_ioctl, 1, KVM_CREATE_VCPU)); /* threads of a guest taken over: before */
	assert_false(allowed(SYS_ioctl, 1, KVM_SET_REGS));
	assert_false(allowed(SYS_sched_setaffinity, 0, 0));
	assert_true(allowed(SYS_madvise, 2, MADV_FREE));
	assert_false(allowed(SYS_madvise, 2, MADV_HUGEPAGE));
	assert_false(allowed(SYS_ioctl, 2, KVM_RUN));
	assert_true(allowed(SYS_mmap, 2, PROT_READ | PROT_WRITE));
	assert_false(allowed(SYS_mmap, 2, PROT_READ | PROT_EXEC));
	assert_false(allowed(SYS_mprotect, 2, PROT_EXEC));
	assert_true(allowed(SYS_tgkill, 0, PID));
	assert_false(allowed(SYS_tgkill, 0, TID));
	assert_true(allowed(SYS_tkill, 0, TID));
	assert_false(allowed(SYS_tkill, 0, TID + 1));
	compile(SECCOMP_LOOP, 0);
	assert_false(allowed(SYS_ioctl, 1, KVM_RUN));
	assert_true(allowed(SYS_accept4, 0, 0));
	compile(SECCOMP_CONTROL, 0);
	assert_false(allowed(SYS_ioctl, 1, KVM_IRQFD));
	assert_false(allowed(SYS_pwrite64, 0, 0));
}

/* Mode log lets one instruction make any call; no other address will do. */
static void test_pass(void **state)
{
	compile(SECCOMP_VCPU, PASS);
	assert_true(allowed_as(arch_seccomp_audit, SYS_openat, 0, 0, PASS));
	assert_false(allowed_as(arch_seccomp_audit, SYS_openat, 0, 0, PASS + 1));
	assert_false(allowed_as(arch_seccomp_audit, SYS_openat, 0, 0, PASS & UINT32_MAX));
	compile(SECCOMP_VCPU, 0);
	assert_false(allowed_as(arch_seccomp_audit, SYS_openat, 0, 0, PASS));
}

/* Filters are put on inside the pause: their length and the way through them count (seccomp_compile.c). */
static void test_short_way(void **state)
{
	for (int t = 0; t < SECCOMP_THREADS; t++) {
		compile((enum seccomp_thread)t, 0);
		assert_in_range(code_len, 1, 160);
		/* This ends the kernel's trial runs: it differs from call to call. */
		assert_int_equal(code[0].code, BPF_LD | BPF_W | BPF_ABS);
		assert_int_equal(code[0].k, offsetof(struct seccomp_data, instruction_pointer));
		for (long nr = 0; nr < 512; nr++)
			if (nr != SYS_ioctl && nr != SYS_tkill) {
				allowed(nr, 0, 0);
				assert_in_range(steps, 1, 17);
			}
	}
	compile(SECCOMP_VCPU, 0);
	allowed(SYS_ioctl, 1, KVM_RUN);
	assert_in_range(steps, 1, 17);
}

static void test_room(void **state)
{
	struct seccomp_row rows[SECCOMP_MAX_ROWS];
	const struct seccomp_env env = {.pid = PID};
	unsigned n = seccomp_rows(SECCOMP_VCPU, rows);
	unsigned len = seccomp_compile(rows, n, &env, code, SECCOMP_MAX_CODE);
	for (unsigned room = 0; room < len; room++)
		assert_int_equal(seccomp_compile(rows, n, &env, code, room), 0);
	assert_int_equal(seccomp_compile(rows, n, &env, code, len), len);
	/* further than a jump reaches */
	for (unsigned i = 0; i < SECCOMP_MAX_ROWS; i++)
		rows[i] = (struct seccomp_row){(uint16_t)i, 0, SECCOMP_IS, 1};
	static struct sock_filter much[2048];
	assert_int_equal(seccomp_compile(rows, SECCOMP_MAX_ROWS, &env, much, ARRAY_LEN(much)), 0);
}

static void test_names(void **state)
{
	assert_string_equal(seccomp_call_name(SYS_openat), "openat");
	assert_string_equal(seccomp_call_name(SYS_ioctl), "ioctl");
	assert_string_equal(seccomp_call_name(-1), "?");
	assert_string_equal(seccomp_call_name(1 << 30), "?");
}

/* ---- in the kernel: a thread of a child is filtered and does something ---- */

static void *thread(void *opaque)
{
	void (*work)(void) = (void (*)(void))opaque;
	struct error err;
	prctl(PR_SET_NAME, "tester");
	if (seccomp_enter(SECCOMP_VCPU, &err)) {
		dprintf(STDERR_FILENO, "%s\n", err.text);
		_exit(99);
	}
	work();
	_exit(7);
}

/* Returns the child's wait status; @text: what it wrote to stderr. */
static int run(enum seccomp_mode mode, void (*work)(void), char *text, size_t size)
{
	int fds[2], status;
	pthread_t id;
	struct error err;
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(fds[1], STDERR_FILENO);
		signal(SIGSYS, SIG_DFL); /* cmocka catches it */
		if (seccomp_init(mode, &err) || pthread_create(&id, NULL, thread, (void *)work))
			_exit(98);
		pthread_join(id, NULL);
		_exit(97);
	}
	close(fds[1]);
	size_t len = 0;
	for (ssize_t n; len < size - 1 && (n = read(fds[0], text + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	text[len] = 0;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void do_allowed(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || munmap(p, 4096) || ioctl(-1, KVM_RUN, 0) != -1)
		_exit(1);
}

static void do_getppid(void)
{
	if (syscall(SYS_getppid) <= 1)
		_exit(1);
}

static void do_ioctl(void)
{
	ioctl(-1, TIOCSTI, "x");
}

static void do_exec_memory(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		_exit(1);
}

static void do_fork(void)
{
	if (syscall(SYS_fork) != -1)
		_exit(1);
}

static void do_often(void)
{
	for (int i = 0; i < 1000; i++)
		syscall(SYS_getppid);
}

static unsigned lines(const char *text)
{
	unsigned n = 0;
	for (; (text = strchr(text, '\n')); text++)
		n++;
	return n;
}

static void test_kernel(void **state)
{
	static const struct {
		enum seccomp_mode mode;
		void (*work)(void);
		int status;
		const char *says[3];
	} rows[] = {
		{SECCOMP_KILL, do_allowed, 7, {NULL}},
		{SECCOMP_KILL,
		 do_getppid,
		 159,
		 {"thread tester", "call getppid (110)", "not allowed"}},
		{SECCOMP_KILL, do_ioctl, 159, {"call ioctl (16)", "request 0x5412"}},
		{SECCOMP_KILL, do_exec_memory, 159, {"call mmap (9)", "0x0 0x1000 0x5"}},
		{SECCOMP_KILL, do_fork, 159, {"call fork (57)"}},
		{SECCOMP_LOG, do_allowed, 7, {NULL}},
		{SECCOMP_LOG, do_getppid, 7, {"call getppid (110)", "not allowed, but made"}},
		{SECCOMP_LOG, do_exec_memory, 7, {"call mmap (9)", "but made"}},
		{SECCOMP_LOG, do_fork, 7, {"call fork (57)", "ENOSYS"}},
		{SECCOMP_OFF, do_getppid, 7, {NULL}},
	};
	char text[8192];
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		int status = run(rows[i].mode, rows[i].work, text, sizeof(text));
		if (!WIFEXITED(status) || WEXITSTATUS(status) != rows[i].status)
			fail_msg("row %u: status 0x%x: %s", i, status, text);
		if (!rows[i].says[0])
			assert_string_equal(text, "");
		for (unsigned k = 0; k < 3 && rows[i].says[k]; k++)
			if (!strstr(text, rows[i].says[k]))
				fail_msg("row %u: no '%s' in: %s", i, rows[i].says[k], text);
	}
	run(SECCOMP_LOG, do_often, text, sizeof(text));
	assert_in_range(lines(text), 1, 20);
}

/* What only some machines' devices ask of the kernel: vCPUs and event loop, and nobody else. */
static void test_asked_for(void **state)
{
	const unsigned request = _IO(';', 0x8f);
	for (int t = 0; t < SECCOMP_THREADS; t++) {
		compile((enum seccomp_thread)t, 0);
		assert_false(allowed(SYS_ioctl, 1, request));
	}
	seccomp_allow_ioctl(request);
	seccomp_allow_ioctl(request);
	for (int t = 0; t < SECCOMP_THREADS; t++) {
		compile((enum seccomp_thread)t, 0);
		assert_int_equal(allowed(SYS_ioctl, 1, request),
				 t == SECCOMP_VCPU || t == SECCOMP_LOOP);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),	  cmocka_unit_test(test_never),
		cmocka_unit_test(test_arguments), cmocka_unit_test(test_pass),
		cmocka_unit_test(test_short_way), cmocka_unit_test(test_room),
		cmocka_unit_test(test_names),	  cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_asked_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
