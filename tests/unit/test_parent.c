/* SPDX-License-Identifier: MIT */
/*
 * The parent's rules, with workers that are the test: a process each that does nothing, and the other end of its
 * socket. Who is started, whose word counts, what becomes of signals, and whose status is the parent's.
 */
#include "tests/unit/unit.h"

#include <stdio.h>

#undef fail			 /* cmocka's */
#include "cpr/handover/parent.c" /* NOLINT: its table of children is looked into */

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/unit/fds.h"

#define REQUEST 4711 /* the number of worker 0's */

static struct {
	struct role role;
	pid_t pid;
	int link; /* the worker's end */
} workers[16];
static unsigned nworkers;
static int spawn_error;
static char notified[256];
static unsigned before;
static struct error err;
static struct wire_message msg;

/* ---- instead of spawn.c and notify.c ---- */

pid_t spawn(int exe, char **argv, const struct role *role, int *pidfd, struct error *why)
{
	pid_t parent = getpid();
	int closed[2];
	char none;
	*pidfd = -1;
	if (spawn_error)
		return error_set(why, spawn_error, "fake spawn");
	assert_true(nworkers < ARRAY_LEN(workers));
	assert_int_equal(pipe(closed), 0);
	pid_t pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		syscall(SYS_close_range, 0, ~0u, 0);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	close(closed[1]);
	assert_int_equal(read(closed[0], &none, 1), 0); /* it has none of our descriptors */
	close(closed[0]);
	workers[nworkers].role = *role;
	workers[nworkers].pid = pid;
	workers[nworkers++].link = fcntl(role->link, F_DUPFD_CLOEXEC, 0);
	*pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return pid;
}

char **spawn_environment(char *text, const struct role *role)
{
	return calloc(1, sizeof(char *));
}

void notify_forward(const char *text)
{
	snprintf(notified, sizeof(notified), "%s", text);
}

/* ---- the parent, and what the workers do ---- */

static int program(void)
{
	return fds_new(); /* nothing that could be execed */
}

static int setup(void **state)
{
	before = fds_open();
	memset(workers, 0, sizeof(workers));
	nworkers = 0;
	spawn_error = 0;
	notified[0] = 0;
	memset(&self, 0, sizeof(self));
	self.next_exe = self.waiting_exe = self.waiting_peer = -1;
	for (struct child *c = self.children; c < self.children + CHILDREN; c++)
		*c = (struct child){.pidfd = -1, .link = -1, .exe = -1};
	assert_non_null(start(ROLE_WORKER, program(), -1, &err));
	return 0;
}

static int teardown(void **state)
{
	end_all();
	for (struct child *c = self.children; c < self.children + CHILDREN; c++)
		if (c->role)
			forget(c);
	for (unsigned i = 0; i < nworkers; i++)
		fd_close(&workers[i].link);
	fd_close(&self.next_exe);
	fd_close(&self.waiting_exe);
	fd_close(&self.waiting_peer);
	if (fds_open() == before && waitpid(-1, NULL, WNOHANG) < 0)
		return 0;
	print_error("%u descriptors, %u before; or a child is left\n", fds_open(), before);
	return -1;
}

/* One round of the loop, for what is there. Returns what settle does. */
static int round_(void)
{
	for (unsigned i = 0; i < CHILDREN; i++)
		if (self.children[i].role)
			listen_to(&self.children[i]);
	reap();
	return settle();
}

static void tells(unsigned worker, uint32_t kind, int64_t value)
{
	assert_int_equal(wire_send(workers[worker].link, kind, value, NULL, 0, NULL, 0, &err), 0);
}

static void ends(unsigned worker, int sig)
{
	siginfo_t info;
	assert_true(workers[worker].pid > 0); /* 0 is the test and who started it */
	kill(workers[worker].pid, sig);
	waitid(P_PID, (id_t)workers[worker].pid, &info, WEXITED | WNOWAIT);
	fd_close(&workers[worker].link);
}

static bool hears(unsigned worker, uint32_t kind)
{
	while (!wire_recv(workers[worker].link, &msg, 0, &err)) {
		if (msg.kind == kind)
			return true;
		wire_close_fds(&msg);
	}
	return false;
}

static void asks_for_a_successor(unsigned worker)
{
	const int fds[] = {program(), eventfd(0, EFD_CLOEXEC)};
	assert_int_equal(wire_send(workers[worker].link, LINK_START, REQUEST + worker, NULL, 0, fds,
				   2, &err),
			 0);
	close(fds[0]);
	close(fds[1]);
}

static struct child *child_of(unsigned worker)
{
	for (struct child *c = self.children; c < self.children + CHILDREN; c++)
		if (c->role && c->pid == workers[worker].pid)
			return c;
	return NULL;
}

/* Workers 0 and 1 as incumbent and successor. */
static void update_begins(void)
{
	asks_for_a_successor(0);
	assert_int_equal(round_(), -1);
	assert_int_equal(nworkers, 2);
}

/* Where the worker's lines go: only its owner says so. */
static void its_log_is_the_owners(void **state)
{
	int file = memfd_create("log", MFD_CLOEXEC), number = log_file();
	char text[64] = "";
	update_begins();
	assert_int_equal(
		wire_send(workers[1].link, LINK_LOG, LOG_LEVEL_INFO, "x", 1, &file, 1, &err), 0);
	round_();
	assert_int_equal(log_file(), number);
	assert_int_equal(
		wire_send(workers[0].link, LINK_LOG, LOG_LEVEL_WARNING, "web", 3, &file, 1, &err),
		0);
	round_();
	log_info("left out");
	log_warn("seen");
	assert_true(pread(file, text, sizeof(text) - 1, 0) > 0);
	assert_non_null(strstr(text, "Z warning molt[web]: seen\n"));
	close(file);
	before += number < 0; /* the log's own */
}

static void a_successor_is_started(void **state)
{
	update_begins();
	assert_int_equal(workers[1].role.kind, ROLE_SUCCESSOR);
	assert_true(workers[1].role.peer >= 0);
	assert_int_equal(child_of(1)->role, CHILD_SUCCESSOR);
	assert_true(hears(0, LINK_ANSWERS));
	assert_int_equal(msg.value, REQUEST);
	assert_true(hears(0, LINK_STARTED));
	assert_int_equal(msg.value, workers[1].pid);
	assert_int_equal(msg.nfds, 1);
	wire_close_fds(&msg);
}

/* Its children inherit that: each interrupt vector of a device needs a descriptor in a worker. */
static void may_open_what_the_hard_limit_allows(void **state)
{
	struct rlimit was, files;
	getrlimit(RLIMIT_NOFILE, &was);
	files = was;
	files.rlim_cur = 200;
	setrlimit(RLIMIT_NOFILE, &files);
	spawn_error = ENOMEM;
	assert_int_equal(start_first(&err), -ENOMEM);
	getrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_NOFILE, &was);
	assert_int_equal(files.rlim_cur, was.rlim_max);
}

static void a_program_that_does_not_start(void **state)
{
	spawn_error = ENOEXEC;
	asks_for_a_successor(0);
	assert_int_equal(round_(), -1);
	assert_true(hears(0, LINK_ANSWERS));
	assert_int_equal(msg.value, REQUEST);
	assert_true(hears(0, LINK_STARTED));
	assert_int_equal(msg.value, -ENOEXEC);
	assert_string_equal(msg.text, "fake spawn");
	assert_null(find(CHILD_SUCCESSOR));
}

static void only_the_owner_may_ask(void **state)
{
	update_begins();
	asks_for_a_successor(1);
	assert_int_equal(round_(), -1);
	assert_int_equal(nworkers, 2);
	for (unsigned n = 0; n <= 3; n++) { /* with descriptors that are not two */
		const int fds[] = {STDERR_FILENO, STDERR_FILENO, STDERR_FILENO};
		if (n != 2)
			wire_send(workers[0].link, LINK_START, 0, NULL, 0, fds, n, &err);
	}
	assert_int_equal(round_(), -1);
	assert_int_equal(nworkers, 2);
}

static void the_guest_changes_hands(void **state)
{
	update_begins();
	tells(1, LINK_OWNER, 0);
	assert_int_equal(round_(), -1);
	assert_int_equal(child_of(1)->role, CHILD_OWNER);
	assert_int_equal(child_of(1)->deadline_ns, 0);
	assert_int_equal(child_of(0)->role, CHILD_FORMER);
	assert_in_range(child_of(0)->deadline_ns, now_ns() + 1, now_ns() + FORMER_NS);
	tells(0, LINK_OWNER, 0); /* who has given it away does not get it back */
	assert_int_equal(round_(), -1);
	assert_int_equal(child_of(1)->role, CHILD_OWNER);
	assert_int_equal(nworkers, 2); /* the guest shares its processors with one at a time */
	ends(0, SIGTERM);
	assert_int_equal(round_(), -1);
	assert_null(child_of(0));
	assert_int_equal(nworkers, 3); /* what this process becomes next is tried */
	assert_int_equal(workers[2].role.kind, ROLE_REHEARSAL);
	tells(2, LINK_OWNER, 0);
	assert_int_equal(round_(), -1);
	assert_int_equal(child_of(1)->role, CHILD_OWNER);
}

/* The incumbent dies in the pause; its successor commits all the same, and lives on. */
static void the_heir_of_the_dead(void **state)
{
	update_begins();
	ends(0, SIGKILL);
	assert_int_equal(round_(), -1);
	assert_in_range(find(CHILD_SUCCESSOR)->deadline_ns, now_ns() + 1, now_ns() + HEIR_NS);
	tells(1, LINK_OWNER, 0);
	assert_int_equal(round_(), -1);
	assert_int_equal(find(CHILD_OWNER)->pid, workers[1].pid);
	assert_int_equal(find(CHILD_OWNER)->deadline_ns, 0); /* or it would be killed then */
	assert_null(find(CHILD_FORMER));
}

static void an_heir_that_does_not_take_over(void **state)
{
	update_begins();
	ends(0, SIGKILL);
	assert_int_equal(round_(), -1);
	find(CHILD_SUCCESSOR)->deadline_ns = 1;
	keep_deadlines();
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)workers[1].pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(info.si_status, SIGKILL);
	assert_int_equal(round_(), 128 + SIGKILL);
}

static void whose_status(void **state)
{
	update_begins();
	ends(1, SIGKILL); /* a successor's end is the worker's business */
	assert_int_equal(round_(), -1);
	assert_null(find(CHILD_SUCCESSOR));
	ends(0, SIGABRT);
	assert_int_equal(round_(), 128 + SIGABRT);
	struct child *owner = find(CHILD_OWNER);
	owner->status = 7 << 8;
	assert_int_equal(settle(), 7);
	owner->status = LINK_STATUS_HANDED << 8; /* to one that has died before it could say so */
	assert_int_equal(settle(), 128 + SIGKILL);
}

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
	self.parting_ns = now_ns();
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

/* Up to the question whether the worker can do without its parent for a moment. */
static void a_rehearsal_that_passes(void)
{
	update_begins();
	tells(1, LINK_OWNER, 0);
	ends(0, SIGKILL);
	assert_int_equal(round_(), -1);
	tells(2, LINK_READY, 0);
	ends(2, SIGKILL);
	assert_int_equal(round_(), -1);
}

static void not_rehearsed(void **state)
{
	a_rehearsal_that_passes(); /* but for its status */
	assert_false(self.rehearsed);
	assert_int_equal(self.next_exe, -1);
	assert_false(hears(1, LINK_PARTING));
}

/* It ended well, but has never said that it is a parent: `molt --help` does as much. */
static void rehearsed_without_a_word(void **state)
{
	update_begins();
	tells(1, LINK_OWNER, 0);
	ends(0, SIGKILL);
	assert_int_equal(round_(), -1);
	ends(2, SIGKILL);
	reap();
	child_of(2)->status = 0;
	assert_int_equal(settle(), -1);
	assert_false(self.rehearsed);
	assert_int_equal(self.next_exe, -1);
}

static void an_exec_that_is_refused(void **state)
{
	update_begins();
	tells(1, LINK_OWNER, 0);
	tells(1, LINK_PARTED, 0); /* nobody has asked */
	ends(0, SIGKILL);
	assert_int_equal(round_(), -1);
	tells(2, LINK_READY, 0);
	assert_int_equal(round_(), -1);
	assert_false(self.rehearsed); /* it has to end as well */
	assert_true(child_of(2)->ready);
	ends(2, SIGKILL);
	reap();
	child_of(2)->status = 0;
	assert_int_equal(settle(), -1);
	assert_true(self.rehearsed);
	assert_true(hears(1, LINK_PARTING));
	assert_int_equal(settle(), -1);
	assert_false(hears(1, LINK_PARTING)); /* once */
	tells(1, LINK_PARTED, 0);
	assert_int_equal(round_(), -1);
	assert_true(hears(1, LINK_BACK)); /* here it still is */
	assert_int_equal(self.next_exe, -1);
	assert_int_equal(fcntl(find(CHILD_OWNER)->link, F_GETFD), FD_CLOEXEC);
}

static void a_worker_that_does_not_part(void **state)
{
	self.next_exe = program();
	self.rehearsed = true;
	assert_int_equal(round_(), -1);
	assert_true(hears(0, LINK_PARTING));
	self.parting_ns = 1;
	keep_deadlines();
	assert_int_equal(self.parting_ns, 0);
	assert_int_equal(self.next_exe, -1);
	/* It may have been stopped, and read both later: then it is fenced again. */
	assert_true(hears(0, LINK_BACK));
}

/* As an orphan that ended while this process was executing itself: its SIGCHLD is gone, and it has no socket. */
static void an_end_that_nobody_was_told(void **state)
{
	self.signals = -1;
	fd_close(&find(CHILD_OWNER)->link);
	ends(0, SIGTERM);
	alarm(10); /* not for ever */
	assert_int_equal(loop(), 128 + SIGTERM);
	alarm(0);
}

static void for_the_supervisor(void **state)
{
	assert_int_equal(wire_send(workers[0].link, LINK_NOTIFY, 0, "READY=1", 7, NULL, 0, &err),
			 0);
	assert_int_equal(round_(), -1);
	assert_string_equal(notified, "READY=1");
}

/* Kinds that are not known are of another version, and ignored; what is no message as well. */
static void what_is_not_understood(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	for (uint32_t kind = 0; kind < 40; kind++)
		if (kind != LINK_NOTIFY && kind != LINK_LOG)
			wire_send(workers[0].link, kind, kind, "x", 1, &fd, 1, &err);
	close(fd);
	assert_int_equal(round_(), -1);
	assert_int_equal(send(workers[0].link, "garbage", 7, 0), 7);
	assert_int_equal(round_(), -1);
	assert_int_equal(nworkers, 1);
	update_begins(); /* it is still listened to */
}

static void a_socket_that_is_closed(void **state)
{
	fd_close(&workers[0].link);
	assert_int_equal(round_(), -1);
	assert_int_equal(find(CHILD_OWNER)->link, -1);
	pass_on(SIGTERM);
	assert_int_equal(round_(), -1); /* its end is told by its process */
	ends(0, SIGKILL);
	assert_int_equal(round_(), 128 + SIGKILL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_successor_is_started),
		TEST(may_open_what_the_hard_limit_allows),
		TEST(a_program_that_does_not_start),
		TEST(only_the_owner_may_ask),
		TEST(the_guest_changes_hands),
		TEST(the_heir_of_the_dead),
		TEST(an_heir_that_does_not_take_over),
		TEST(whose_status),
		TEST(signals_are_kept_until_served),
		TEST(a_signal_after_one_that_was_served),
		TEST(parted_while_a_signal_is_read),
		TEST(signals_that_would_end_it),
		TEST(a_terminal_that_hangs_up),
		TEST(not_rehearsed),
		TEST(rehearsed_without_a_word),
		TEST(an_exec_that_is_refused),
		TEST(a_worker_that_does_not_part),
		TEST(an_end_that_nobody_was_told),
		TEST(for_the_supervisor),
		TEST(what_is_not_understood),
		TEST(a_socket_that_is_closed),
		TEST(its_log_is_the_owners), /* last: a file stays the log's */
	};
	return cmocka_run_group_tests_name("parent", tests, NULL, NULL);
}
