/* SPDX-License-Identifier: MIT */
/* The parent's rules: who is started, whose word counts, and whose status is the parent's. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/unit/parent_workers.h"

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
	assert_null(children_find(&self.all, CHILD_SUCCESSOR));
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
	assert_in_range(children_find(&self.all, CHILD_SUCCESSOR)->deadline_ns, now_ns() + 1,
			now_ns() + HEIR_NS);
	tells(1, LINK_OWNER, 0);
	assert_int_equal(round_(), -1);
	assert_int_equal(children_find(&self.all, CHILD_OWNER)->pid, workers[1].pid);
	assert_int_equal(children_find(&self.all, CHILD_OWNER)->deadline_ns,
			 0); /* or it would be killed then */
	assert_null(children_find(&self.all, CHILD_FORMER));
}

static void an_heir_that_does_not_take_over(void **state)
{
	update_begins();
	ends(0, SIGKILL);
	assert_int_equal(round_(), -1);
	children_find(&self.all, CHILD_SUCCESSOR)->deadline_ns = 1;
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
	assert_null(children_find(&self.all, CHILD_SUCCESSOR));
	ends(0, SIGABRT);
	assert_int_equal(round_(), 128 + SIGABRT);
	struct child *owner = children_find(&self.all, CHILD_OWNER);
	owner->status = 7 << 8;
	assert_int_equal(settle(), 7);
	owner->status = LINK_STATUS_HANDED << 8; /* to one that has died before it could say so */
	assert_int_equal(settle(), 128 + SIGKILL);
}

/* As an orphan that ended while this process was executing itself: its SIGCHLD is gone, and it has no socket. */
static void an_end_that_nobody_was_told(void **state)
{
	self.signals = -1;
	fd_close(&children_find(&self.all, CHILD_OWNER)->link);
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
	assert_int_equal(children_find(&self.all, CHILD_OWNER)->link, -1);
	pass_on(SIGTERM);
	assert_int_equal(round_(), -1); /* its end is told by its process */
	ends(0, SIGKILL);
	assert_int_equal(round_(), 128 + SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_successor_is_started),	       TEST(may_open_what_the_hard_limit_allows),
		TEST(a_program_that_does_not_start),   TEST(only_the_owner_may_ask),
		TEST(the_guest_changes_hands),	       TEST(the_heir_of_the_dead),
		TEST(an_heir_that_does_not_take_over), TEST(whose_status),
		TEST(an_end_that_nobody_was_told),     TEST(for_the_supervisor),
		TEST(what_is_not_understood),	       TEST(a_socket_that_is_closed),
		TEST(its_log_is_the_owners), /* last: a file stays the log's */
	};
	return cmocka_run_group_tests_name("parent", tests, NULL, NULL);
}
