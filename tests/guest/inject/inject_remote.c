/* SPDX-License-Identifier: MIT */
/* System calls made by a traced process that stands at the entry of one of its own: that one is put
 * aside, and entered anew afterwards. x86-64. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/inject/inject.h"

#define SYSCALL_LEN 2	 /* of the instruction */
#define TEXT_ROOM   1024 /* below the stack pointer, past the red zone */

/* From one stop at a call's entry or exit to the next. */
static long step(pid_t pid)
{
	int status;
	if (ptrace(PTRACE_SYSCALL, pid, 0, 0) || waitpid(pid, &status, __WALL) != pid ||
	    !WIFSTOPPED(status))
		return -ESRCH;
	return 0;
}

long inject_call_in(pid_t pid, long nr, long a, long b, long c)
{
	struct user_regs_struct own, regs;

	if (ptrace(PTRACE_GETREGS, pid, 0, &own))
		return -errno;
	regs = own;
	regs.orig_rax = (unsigned long)nr;
	regs.rdi = (unsigned long)a;
	regs.rsi = (unsigned long)b;
	regs.rdx = (unsigned long)c;
	if (ptrace(PTRACE_SETREGS, pid, 0, &regs) || step(pid) ||
	    ptrace(PTRACE_GETREGS, pid, 0, &regs))
		return -ESRCH;
	long rc = (long)regs.rax;
	own.rax = own.orig_rax;
	own.rip -= SYSCALL_LEN;
	if (ptrace(PTRACE_SETREGS, pid, 0, &own) || step(pid)) /* to its own call's entry again */
		return -ESRCH;
	return rc;
}

long inject_text_in(pid_t pid, const char *text)
{
	struct user_regs_struct regs;
	if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
		return -errno;
	long at = (long)(regs.rsp - TEXT_ROOM);
	return inject_write(pid, (uint64_t)at, text, strlen(text) + 1) ? -EFAULT : at;
}
