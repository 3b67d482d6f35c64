/* SPDX-License-Identifier: MIT */
/* What the parent makes of signals: none is lost, and none ends it. */
#include "tests/unit/parent_workers.h"

static void signals_are_kept_until_served(void **state)
{
	pass_on(SIGUSR1);
	pass_on(SIGUSR1);
	pass_on(SIGTERM);
	pass_on(SIGCHLD);
	assert_true(hears(0, LINK_SIGNAL));
	assert_int_equal(msg.value, SIGUSR1);
	assert_true(hears(0, LINK_SIGNAL));
	assert_int_equal(msg.value, SIGTERM);
	assert_false(hears(0, LINK_SIGNAL));
	tells(0, LINK_TAKEN, SIGUSR1);
	update_begins();
	assert_int_equal(self.pending.n, 1);
	tells(1, LINK_TAKEN, SIGTERM); /* not its to say */
	tells(1, LINK_OWNER, 0);
	assert_int_equal(round_(), -1);
	assert_true(hears(1, LINK_SIGNAL));
	assert_int_equal(msg.value, SIGTERM);
	tells(1, LINK_TAKEN, SIGTERM);
	tells(1, LINK_TAKEN, SIGTERM);
	assert_int_equal(round_(), -1);
	assert_int_equal(self.pending.n, 0);
	for (unsigned i = 0; i < 100; i++)
		pass_on(SIGTERM);
	assert_int_equal(self.pending.n, PENDING_MAX);
}

/* The worker has said that it serves the first, and that was not read yet: the second is no duplicate. */
static void a_signal_after_one_that_was_served(void **state)
{
	sigset_t set, before_set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &before_set);
	self.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	pass_on(SIGUSR1);
	assert_true(hears(0, LINK_SIGNAL));
	tells(0, LINK_TAKEN, SIGUSR1);
	raise(SIGUSR1);
	take_signals();
	assert_true(hears(0, LINK_SIGNAL));
	assert_int_equal(msg.value, SIGUSR1);
	fd_close(&self.signals);
	sigprocmask(SIG_SETMASK, &before_set, NULL);
}

/* A worker that has parted meanwhile waits until the signal is among those that are kept over exec. */
static void parted_while_a_signal_is_read(void **state)
{
	self.next.parting_ns = now_ns();
	self.reading = true;
	tells(0, LINK_PARTED, 0);
	listen_to_all();
	self.reading = false;
	assert_true(hears(0, LINK_BACK));
}

/* None ends this process by itself: the worker would be killed, and its terminal stay raw. */
static void signals_that_would_end_it(void **state)
{
	const int signals[] = {SIGTERM, SIGINT,	   SIGHUP,  SIGQUIT, SIGALRM, SIGUSR2,	SIGVTALRM,
			       SIGPROF, SIGSTKFLT, SIGPOLL, SIGPWR,  SIGXCPU, SIGRTMIN, SIGRTMAX};
	sigset_t before_set;
	sigprocmask(SIG_SETMASK, NULL, &before_set);
	assert_int_equal(block_signals(false, &err), 0);
	raise(SIGXFSZ);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++) {
		raise(signals[i]);
		take_signals();
		assert_true(hears(0, LINK_SIGNAL));
		assert_int_equal(msg.value, signals[i]);
		tells(0, LINK_TAKEN, signals[i]);
		assert_int_equal(round_(), -1);
	}
	fd_close(&self.signals);
	signal(SIGXFSZ, SIG_IGN); /* discards what is pending */
	signal(SIGXFSZ, SIG_DFL);
	sigprocmask(SIG_SETMASK, &before_set, NULL);
}

static void gets(uint32_t sig, int32_t code, pid_t from)
{
	const struct signalfd_siginfo info = {
		.ssi_signo = sig, .ssi_code = code, .ssi_pid = (uint32_t)from};
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(write(ends[1], &info, sizeof(info)), sizeof(info));
	self.signals = ends[0];
	take_signals();
	fd_close(&self.signals);
	close(ends[1]);
	assert_true(hears(0, LINK_SIGNAL));
	tells(0, LINK_TAKEN, msg.value);
	assert_int_equal(round_(), -1);
}

/* The kernel says so, or the shell, whose terminal is gone; another's SIGHUP does not, nor any with nohup. */
static void a_terminal_that_hangs_up(void **state)
{
	int input = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_int_equal(unlockpt(master), 0);
	int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_int_equal(dup2(slave, STDIN_FILENO), STDIN_FILENO);
	close(slave);
	gets(SIGHUP, SI_USER, getsid(0));
	assert_int_equal(msg.value, SIGHUP);
	gets(SIGHUP, SI_KERNEL, 0);
	assert_int_equal(msg.value, LINK_HANGUP);
	close(master);
	gets(SIGHUP, SI_USER, getsid(0));
	assert_int_equal(msg.value, LINK_HANGUP);
	gets(SIGHUP, SI_USER, getsid(0) + 1);
	assert_int_equal(msg.value, SIGHUP);
	gets(SIGTERM, SI_KERNEL, 0);
	assert_int_equal(msg.value, SIGTERM);
	signal(SIGHUP, SIG_IGN);
	gets(SIGHUP, SI_USER, getsid(0));
	assert_int_equal(msg.value, SIGHUP);
	gets(SIGHUP, SI_KERNEL, 0);
	assert_int_equal(msg.value, SIGHUP);
	signal(SIGHUP, SIG_DFL);
	dup2(input, STDIN_FILENO);
	close(input);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(signals_are_kept_until_served), TEST(a_signal_after_one_that_was_served),
		TEST(parted_while_a_signal_is_read), TEST(signals_that_would_end_it),
		TEST(a_terminal_that_hangs_up),
	};
	return cmocka_run_group_tests_name("parent_signals", tests, NULL, NULL);
}
