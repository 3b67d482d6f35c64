/* SPDX-License-Identifier: MIT */
/*
 * A parent with workers that are the test: a process each that does nothing, and the other end of its socket. For the
 * tests of the parent; one file of a program includes this.
 */
#ifndef MOLT_TESTS_PARENT_WORKERS_H
#define MOLT_TESTS_PARENT_WORKERS_H

#include "tests/unit/unit.h"

#undef fail			 /* cmocka's */
#include "cpr/handover/parent.c" /* NOLINT: its table of children is looked into */

#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "cpr/handover/spawn.h"

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
	children_init(&self.all, NULL);
	self.next.exe = self.waiting_exe = self.waiting_peer = -1;
	assert_non_null(children_start(&self.all, ROLE_WORKER, program(), -1, &err));
	return 0;
}

static int teardown(void **state)
{
	children_end(&self.all);
	for (struct child *c = self.all.c; c < self.all.c + CHILDREN; c++)
		if (c->role)
			child_forget(c);
	for (unsigned i = 0; i < nworkers; i++)
		fd_close(&workers[i].link);
	fd_close(&self.next.exe);
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
		if (self.all.c[i].role)
			listen_to(&self.all.c[i]);
	reap();
	return settle();
}

static void tells(unsigned worker, uint32_t kind, int64_t value)
{
	assert_int_equal(wire_send(workers[worker].link, kind, value, NULL, 0, NULL, 0, &err), 0);
}

static inline void ends(unsigned worker, int sig)
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

static inline struct child *child_of(unsigned worker)
{
	for (struct child *c = self.all.c; c < self.all.c + CHILDREN; c++)
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
