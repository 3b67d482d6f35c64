/* SPDX-License-Identifier: MIT */
#include "cpr/rescue.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpr/handover.h"
#include "cpr/keeper.h"
#include "vmm/base/num.h"

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};

/* Going back and committing exclude each other, whichever threads they happen on. */
enum rescue_state { RESCUE_OFF, RESCUE_ARMED, RESCUE_LEAVING };

static struct {
	int state; /* enum rescue_state */
	int old_fd;
	struct handover *page;
	enum handover_owner owner; /* of an update that this image may still go back from */
	struct program_image image;
	sigset_t mask; /* what is blocked in every image */
	bool handed;   /* a thread leaves it to the leader to go back */
	bool last;     /* no way back, but a crash is told */
} rescue;

static bool state_is(enum rescue_state state)
{
	return __atomic_load_n(&rescue.state, __ATOMIC_SEQ_CST) == (int)state;
}

static bool change_state(enum rescue_state to)
{
	int armed = RESCUE_ARMED;
	return __atomic_compare_exchange_n(&rescue.state, &armed, (int)to, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* Async-signal-safe all the way. */
static void go_back(void)
{
	struct handover *h = rescue.page;
	if (h)
		h->deadline_ns = now_ns() + h->timeout_ns;
	sigprocmask(SIG_SETMASK, &rescue.mask, NULL);
	syscall(SYS_execveat, rescue.old_fd, "", rescue.image.argv, rescue.image.envp,
		AT_EMPTY_PATH);
}

void rescue_now(const char *reason)
{
	if (!change_state(RESCUE_LEAVING)) /* once */
		return;
	if (rescue.page)
		handover_blame(rescue.page, reason);
	go_back();
}

/* The leader execs: any other thread may have a filter (vmm/confine.h), which would survive that. */
static bool is_leader(void)
{
	return syscall(SYS_gettid) == getpid();
}

/* Waits for the leader's exec, with a call that threads with a filter may make too. */
static void wait_for_exec(void)
{
	static int never;
	for (;;)
		syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void leave(int sig)
{
	char *digits = rescue.image.variable + strlen(PROGRAM_ENV "=");
	digits[0] = (char)('0' + sig / 10);
	digits[1] = (char)('0' + sig % 10);
	if (is_leader()) {
		go_back();
		return;
	}
	__atomic_store_n(&rescue.handed, true, __ATOMIC_SEQ_CST);
	syscall(SYS_tgkill, getpid(), getpid(), sig);
	wait_for_exec();
}

/* What it cannot mend kills, and then the keeper takes over. A nudge is no crash: the keeper may look at
 * the word, be kept from running, and nudge an image that has the guest by then. */
static void on_crash(int sig)
{
	if (change_state(RESCUE_LEAVING)) {
		if (!rescue.page || handover_owner(rescue.page) == rescue.owner)
			leave(sig);
	} else if (is_leader() && __atomic_exchange_n(&rescue.handed, false, __ATOMIC_SEQ_CST)) {
		go_back();
	} else if (!is_leader() && state_is(RESCUE_LEAVING)) {
		wait_for_exec(); /* on the way already */
	} else if (sig == KEEPER_NUDGE) {
		return;
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

/* On a stack of their own, which has room for a record's text and costs nothing before it is used. */
static void catch_crashes(void (*handler)(int sig), int flags)
{
	static char stack[131072];
	const stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	const struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK | flags};

	sigaltstack(&ss, NULL);
	for (unsigned i = 0; i < ARRAY_LEN(crash_signals); i++)
		sigaction(crash_signals[i], &sa, NULL);
}

void rescue_arm_last(void (*tell)(int sig))
{
	catch_crashes(tell, SA_RESETHAND);
	/* The sandbox's, which asks whom it finds there, after commit too. */
	signal(SIGSYS, SIG_DFL);
	rescue.last = true;
}

void rescue_arm(const struct program_incoming *in, char **argv)
{
	bool last = in->mode == PROGRAM_RESCUE;
	const struct program_incoming back = {.mode = last ? PROGRAM_AGAIN : PROGRAM_BACK,
					      .blob_fd = in->blob_fd,
					      .old_fd = in->old_fd};
	const struct sigaction nudged = {.sa_handler = on_crash,
					 .sa_flags = SA_ONSTACK | SA_NODEFER};

	if (program_image_back(&rescue.image, argv, &back))
		return; /* the keeper is still there */
	rescue.old_fd = in->old_fd;
	rescue.owner = last ? HANDOVER_TAKEN : HANDOVER_OPEN;
	sigprocmask(SIG_SETMASK, NULL, &rescue.mask);
	catch_crashes(on_crash, SA_NODEFER);
	sigaction(KEEPER_NUDGE, &nudged, NULL);
	rescue.state = RESCUE_ARMED;
}

void rescue_set_page(struct handover *page)
{
	rescue.page = page;
}

void rescue_disarm(void)
{
	bool caught = change_state(RESCUE_OFF) || rescue.last;
	while (state_is(RESCUE_LEAVING))
		pause(); /* another thread is about to exec */
	signal(KEEPER_NUDGE, on_crash);
	/* SIGSYS is the sandbox's by now, which asks on_crash, no longer armed. */
	for (unsigned i = 0; caught && i < ARRAY_LEN(crash_signals); i++)
		if (crash_signals[i] != SIGSYS)
			signal(crash_signals[i], SIG_DFL);
}
