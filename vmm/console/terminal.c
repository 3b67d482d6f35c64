/* SPDX-License-Identifier: MIT */
/* The terminal's settings: saved, set raw, put back on every way out. */
#include "vmm/console/terminal.h"

#include <asm/ioctls.h>
#include <asm/termbits.h> /* and so not <termios.h>: struct termios2 is the kernel's */
#include <signal.h>
#include <sys/ioctl.h>

_Static_assert(sizeof(struct termios2) == TERMINAL_STATE_LEN, "termios2");

static struct termios2 saved_settings;
static int saved_fd = -1; /* -1: nothing to put back */

/* How the program may die without anybody asking. */
static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGQUIT};
static struct sigaction former[ARRAY_LEN(fatal_signals)];

bool terminal_usable(int fd)
{
	struct termios2 t;
	pid_t foreground;
	if (ioctl(fd, TCGETS2, &t) < 0)
		return false;
	/* ENOTTY: not the controlling terminal, which job control leaves alone. */
	return ioctl(fd, TIOCGPGRP, &foreground) < 0 || foreground == getpgrp();
}

void terminal_restore(void)
{
	int fd = __atomic_exchange_n(&saved_fd, -1, __ATOMIC_SEQ_CST), saved_errno = errno;
	sigset_t block, old;

	if (fd < 0)
		return;
	/* Moved to the background meanwhile: the terminal would stop us. */
	sigemptyset(&block);
	sigaddset(&block, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	ioctl(fd, TCSETS2, &saved_settings);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	log_set_raw(false);
	errno = saved_errno;
}

/* Puts the terminal back, then lets the signal do what it did before: kill, with a core dump. */
static void on_fatal_signal(int sig, siginfo_t *info, void *context)
{
	terminal_restore();
	for (unsigned i = 0; i < ARRAY_LEN(fatal_signals); i++)
		if (fatal_signals[i] == sig)
			sigaction(sig, &former[i], NULL);
	/* A fault repeats itself when this returns. Another signal is sent again, and taken on
	 * return. */
	bool fault = sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE;
	if (!fault || info->si_code <= 0)
		raise(sig);
}

static void catch_fatal_signals(void)
{
	static char stack[16384]; /* SIGSTKSZ is no constant; the handler needs little */
	static bool done;
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)}, present;
	struct sigaction sa = {.sa_sigaction = on_fatal_signal,
			       .sa_flags = SA_SIGINFO | SA_ONSTACK};

	if (done)
		return;
	done = true;
	/* Of this thread alone; on the others the handler runs on their own stacks. */
	if (!sigaltstack(NULL, &present) && (present.ss_flags & SS_DISABLE))
		sigaltstack(&ss, NULL);
	sigemptyset(&sa.sa_mask);
	for (unsigned i = 0; i < ARRAY_LEN(fatal_signals); i++)
		sigaction(fatal_signals[i], &sa, &former[i]);
	atexit(terminal_restore);
}

void terminal_adopt(int fd, const uint8_t saved[TERMINAL_STATE_LEN])
{
	memcpy(&saved_settings, saved, sizeof(saved_settings));
	catch_fatal_signals();
	__atomic_store_n(&saved_fd, fd, __ATOMIC_SEQ_CST);
	log_set_raw(true);
}

int terminal_raw(int fd, uint8_t saved[TERMINAL_STATE_LEN], struct error *err)
{
	struct termios2 t;
	if (ioctl(fd, TCGETS2, &t) < 0)
		return error_errno(err, errno, "terminal: reading its settings");
	memcpy(saved, &t, sizeof(t));
	t.c_iflag &= ~(unsigned)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	t.c_oflag &= ~(unsigned)OPOST;
	t.c_lflag &= ~(unsigned)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	t.c_cflag = (t.c_cflag & ~(unsigned)(CSIZE | PARENB)) | CS8;
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	/* Remembered first: whatever happens from here on, there is a way back. */
	terminal_adopt(fd, saved);
	if (ioctl(fd, TCSETS2, &t) < 0) {
		int code = errno;
		terminal_restore();
		return error_errno(err, code, "terminal: raw mode");
	}
	return 0;
}
