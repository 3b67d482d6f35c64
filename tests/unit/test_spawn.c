/* SPDX-License-Identifier: MIT */
/*
 * Children of the parent: what they get, what they do not, that they end with it, and that a program that cannot
 * be started leaves nothing behind. The program is this one, which reports over its link.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cpr/handover/link.h"
#include "cpr/handover/spawn.h"
#include "cpr/handover/wire.h"
#include "tests/unit/fds.h"
#include "vmm/base/error.h"

#define WAIT_MS 10000

/* ---- the child ---- */

struct report {
	int kind, link, peer, worker, ppid, pdeathsig, inherited;
	bool ignores, variable;
	char word[32];
};

static int child(char *argv[])
{
	int sig = 0;
	struct sigaction usr1;
	struct report r = {.inherited = fcntl(1000, F_GETFD) >= 0,
			   .variable = getenv("TEST_SPAWN") != NULL};
	struct role role = role_incoming();
	prctl(PR_GET_PDEATHSIG, &sig);
	sigaction(SIGUSR1, NULL, &usr1);
	r.kind = role.kind;
	r.link = role.link;
	r.peer = role.peer;
	r.worker = role.worker;
	r.ppid = getppid();
	r.pdeathsig = sig;
	r.ignores = usr1.sa_handler == SIG_IGN;
	snprintf(r.word, sizeof(r.word), "%s", argv[2]);
	if (wire_send(role.link, fds_open(), 0, &r, sizeof(r), NULL, 0, NULL))
		return 3;
	if (!strcmp(argv[2], "stay"))
		pause();
	return 42;
}

/* ---- the tests ---- */

static int ends[2], exe;
static unsigned before;
static struct error err;
static struct wire_message msg;
static char *words[] = {"test", "child", "go", NULL};

static int setup(void **state)
{
	exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	words[2] = "go";
	err = (struct error){0};
	int rc = wire_pair(ends, &err);
	before = fds_open();
	return rc;
}

static int teardown(void **state)
{
	unsigned after = fds_open();
	close(ends[0]);
	close(ends[1]);
	close(exe);
	if (after == before && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
		return 0;
	print_error("%u descriptors, %u before; or a child is left\n", after, before);
	return -1;
}

static pid_t start(int file, enum role_kind kind, int peer, int *pidfd)
{
	const struct role role = {.kind = kind, .link = ends[1], .peer = peer};
	*pidfd = 12345;
	return spawn(file, words, &role, pidfd, &err);
}

static struct report reported(void)
{
	struct report r;
	if (wire_recv(ends[0], &msg, WAIT_MS, &err))
		fail_msg("%s", err.text);
	assert_int_equal(msg.len, sizeof(r));
	memcpy(&r, msg.text, sizeof(r));
	return r;
}

static void assert_ends(pid_t pid, int pidfd, int code)
{
	int status;
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, code);
	close(pidfd);
}

static void a_worker(void **state)
{
	int pidfd, kept = fcntl(exe, F_DUPFD, 1000);
	signal(SIGUSR1, SIG_IGN);
	setenv("TEST_SPAWN", "1", 1);
	pid_t pid = start(exe, ROLE_WORKER, -1, &pidfd);
	signal(SIGUSR1, SIG_DFL);
	unsetenv("TEST_SPAWN");
	close(kept);
	assert_true(pid > 0);
	assert_int_equal(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(ends[1], F_GETFD), FD_CLOEXEC); /* open for the child alone */
	struct report r = reported();
	assert_int_equal(r.kind, ROLE_WORKER);
	assert_int_equal(r.link, ends[1]);
	assert_int_equal(r.peer, -1);
	assert_int_equal(r.ppid, getpid());
	assert_int_equal(r.pdeathsig, SIGKILL);
	assert_true(r.inherited && r.variable && !r.ignores);
	assert_string_equal(r.word, "go");
	assert_ends(pid, pidfd, 42 << 8);
}

/* Of what is close-on-exec it has its sockets, and nothing else. */
static void a_successor(void **state)
{
	int pidfd, others[8];
	for (unsigned i = 0; i < 8; i++)
		others[i] = fds_new();
	pid_t pid = start(exe, ROLE_SUCCESSOR, others[7], &pidfd);
	assert_true(pid > 0);
	struct report r = reported();
	assert_int_equal(r.kind, ROLE_SUCCESSOR);
	assert_int_equal(r.peer, others[7]);
	assert_false(r.inherited);
	unsigned inherited =
		0; /* by this process itself: stdio, and what the test runner left open */
	for (int fd = 0; fd < 1000; fd++) {
		int flags = fcntl(fd, F_GETFD);
		inherited += flags >= 0 && !(flags & FD_CLOEXEC);
	}
	assert_int_equal(msg.kind, inherited + 2 + 3); /* ".", "..", and the folder itself */
	assert_ends(pid, pidfd, 42 << 8);
	for (unsigned i = 0; i < 8; i++)
		close(others[i]);
}

/* The environment of this process is not touched. */
static void its_role_is_its_own(void **state)
{
	int pidfd;
	unsetenv(ROLE_ENV);
	pid_t pid = start(exe, ROLE_REHEARSAL, -1, &pidfd);
	assert_true(pid > 0);
	assert_int_equal(reported().kind, ROLE_REHEARSAL);
	assert_null(getenv(ROLE_ENV));
	assert_ends(pid, pidfd, 42 << 8);
}

static void assert_refused(int file, int code, const char *what)
{
	unsigned n = fds_open();
	int pidfd;
	pid_t pid = start(file, ROLE_WORKER, -1, &pidfd);
	if (pid != -code || pidfd != -1 || !err.text[0])
		fail_msg("%s: %d, pidfd %d: %s", what, (int)pid, pidfd, err.text);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(fds_open(), n);
	assert_int_equal(wire_recv(ends[0], &msg, 0, &err), -ETIMEDOUT);
}

static int file_of(const char *text, size_t len, mode_t mode)
{
	char path[] = "/tmp/molt-spawn.XXXXXX", again[64];
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	fchmod(fd, mode);
	snprintf(again, sizeof(again), "/proc/self/fd/%d", fd);
	int file = open(again, O_RDONLY | O_CLOEXEC); /* one that is open for writing is not run */
	close(fd);
	unlink(path);
	return file;
}

static void refused_file(const char *text, size_t len, mode_t mode, int code)
{
	int file = file_of(text, len, mode);
	assert_refused(file, code, text);
	close(file);
}

static void programs_that_are_none(void **state)
{
	int folder = open("/", O_RDONLY | O_CLOEXEC);
	assert_refused(-1, EBADF, "no descriptor");
	assert_refused(99999, EBADF, "a descriptor that is not open");
	assert_refused(folder, EACCES, "a folder");
	close(folder);
	refused_file("", 0, 0700, ENOEXEC);
	refused_file("\177ELF", 4, 0700, ENOEXEC);
	refused_file("hello\n", 6, 0700, ENOEXEC);
	refused_file("#!/nonexistent\n", 15, 0700, ENOENT);
	refused_file("\177ELF", 4, 0600, EACCES);
}

static void a_socket_that_is_none(void **state)
{
	int keep = ends[1];
	ends[1] = 99999;
	assert_refused(exe, EBADF, "link");
	ends[1] = keep;
	int pidfd;
	assert_int_equal(start(exe, ROLE_SUCCESSOR, 99999, &pidfd), -EBADF);
	assert_int_equal(pidfd, -1);
}

static void no_descriptor_is_left(void **state)
{
	struct rlimit was, low;
	getrlimit(RLIMIT_NOFILE, &was);
	low = was;
	low.rlim_cur = (rlim_t)ends[1] + 1;
	setrlimit(RLIMIT_NOFILE, &low);
	int pidfd;
	pid_t pid = start(exe, ROLE_WORKER, -1, &pidfd);
	setrlimit(RLIMIT_NOFILE, &was);
	assert_int_equal(pid, -EMFILE);
	assert_int_equal(pidfd, -1);
}

/* `kill -9` of the process that the user knows ends the guest. A process in between is that one here. */
static void ends_with_its_parent(void **state)
{
	int alive[2], pidfd;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, alive), 0);
	words[2] = "stay";
	pid_t between = fork();
	if (!between) {
		close(alive[0]);
		close(ends[0]);
		if (start(exe, ROLE_SUCCESSOR, alive[1], &pidfd) < 0)
			_exit(1);
		pause();
	}
	close(alive[1]);
	assert_int_equal(reported().ppid, between);
	kill(between, SIGKILL);
	assert_int_equal(waitpid(between, NULL, 0), between);
	struct pollfd p = {.fd = alive[0], .events = POLLIN};
	assert_int_equal(poll(&p, 1, 3000), 1); /* it has closed its end: it has ended */
	close(alive[0]);
}

/* A hundred at once: the stack of each is given back. */
static void again_and_again(void **state)
{
	for (unsigned i = 0; i < 100; i++) {
		int pidfd;
		pid_t pid = start(exe, ROLE_WORKER, -1, &pidfd);
		assert_true(pid > 0);
		assert_int_equal(reported().kind, ROLE_WORKER);
		assert_ends(pid, pidfd, 42 << 8);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char *argv[])
{
	if (argc > 2 && !strcmp(argv[1], "child"))
		return child(argv);
	const struct CMUnitTest tests[] = {
		TEST(a_worker),
		TEST(a_successor),
		TEST(its_role_is_its_own),
		TEST(programs_that_are_none),
		TEST(a_socket_that_is_none),
		TEST(no_descriptor_is_left),
		TEST(ends_with_its_parent),
		TEST(again_and_again),
	};
	return cmocka_run_group_tests_name("spawn", tests, NULL, NULL);
}
