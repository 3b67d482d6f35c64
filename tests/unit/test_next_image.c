/* SPDX-License-Identifier: MIT */
/* How the parent becomes the new program: only after a rehearsal, and with the worker's word. */
#include "tests/unit/parent_workers.h"

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
	assert_false(self.next.rehearsed);
	assert_int_equal(self.next.exe, -1);
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
	assert_false(self.next.rehearsed);
	assert_int_equal(self.next.exe, -1);
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
	assert_false(self.next.rehearsed); /* it has to end as well */
	assert_true(child_of(2)->ready);
	ends(2, SIGKILL);
	reap();
	child_of(2)->status = 0;
	assert_int_equal(settle(), -1);
	assert_true(self.next.rehearsed);
	assert_true(hears(1, LINK_PARTING));
	assert_int_equal(settle(), -1);
	assert_false(hears(1, LINK_PARTING)); /* once */
	tells(1, LINK_PARTED, 0);
	assert_int_equal(round_(), -1);
	assert_true(hears(1, LINK_BACK)); /* here it still is */
	assert_int_equal(self.next.exe, -1);
	assert_int_equal(fcntl(children_find(&self.all, CHILD_OWNER)->link, F_GETFD), FD_CLOEXEC);
}

static void a_worker_that_does_not_part(void **state)
{
	self.next.exe = program();
	self.next.rehearsed = true;
	assert_int_equal(round_(), -1);
	assert_true(hears(0, LINK_PARTING));
	self.next.parting_ns = 1;
	keep_deadlines();
	assert_int_equal(self.next.parting_ns, 0);
	assert_int_equal(self.next.exe, -1);
	/* It may have been stopped, and read both later: then it is fenced again. */
	assert_true(hears(0, LINK_BACK));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(not_rehearsed),
		TEST(rehearsed_without_a_word),
		TEST(an_exec_that_is_refused),
		TEST(a_worker_that_does_not_part),
	};
	return cmocka_run_group_tests_name("next_image", tests, NULL, NULL);
}
