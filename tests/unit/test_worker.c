/* SPDX-License-Identifier: MIT */
/* The leader's deadlines: what failed when the guest was taken over is tried again until it is done. And what it serves
 * between two boots. */
#include "tests/unit/unit.h"

#include <sys/socket.h>
#include <sys/wait.h>

#undef fail			      /* cmocka's */
#include "cpr/handover/worker.c"      /* NOLINT: its deadlines are looked into */
#include "cpr/handover/worker_link.c" /* NOLINT */

static unsigned failures, takes;

void vcpus_pause(struct machine *m)
{
}

int vcpus_wait_saved(struct machine *m, struct error *err)
{
	return 0;
}

static int take(struct device *dev, struct error *err)
{
	takes++;
	return takes <= failures ? error_set(err, ENOMEM, "still counted for the former process")
				 : 0;
}

static unsigned inherits;
static bool in_use;

static int inherit_it(struct device *device, struct error *error)
{
	inherits++;
	return in_use ? -EBUSY : 0;
}

static bool blocked;

static int check(struct device *dev, struct error *err)
{
	return blocked ? error_set(err, EPERM, "too little locked memory") : 0;
}

static const struct device_class container = {
	.name = "container", .take = take, .inherit = inherit_it};
static const struct device_class checked = {.name = "container", .take = take, .check = check};
static struct device dev = {.cls = &container, .node = "container", .name = "container"};
static struct machine machine = {.devices = {&dev}, .ndevices = 1, .stop_code = -1};
static struct error err;

static int setup(void **state)
{
	takes = failures = inherits = 0;
	in_use = false;
	machine.unsettled = false;
	self = (struct worker){.m = &machine, .signals = -1};
	parent.sock = -1;
	parent.out.n = 0;
	parent.parting_ns = 0;
	return 0;
}

/* As if a second had passed. Returns how long the leader sleeps now, in milliseconds; -1: until something comes. */
static int second_later(void)
{
	if (self.settle_ns)
		self.settle_ns = now_ns();
	keep_deadlines();
	return time_left_ms();
}

static void test_nothing_to_settle(void **state)
{
	assert_int_equal(machine_settle(&machine, &err), 0);
	assert_int_equal(second_later(), -1);
	assert_int_equal(takes, 1);
}

static void test_until_it_is_done(void **state)
{
	failures = 4;
	assert_int_equal(machine_settle(&machine, &err), -ENOMEM);
	for (unsigned tries = 1; tries < failures; tries++) {
		int sleep_ms = second_later();
		assert_int_equal(takes, tries);
		assert_in_range(sleep_ms, 1, 1001); /* it wakes by itself */
	}
	second_later();
	assert_int_equal(takes, 4);
	assert_int_equal(second_later(), -1);
	assert_int_equal(takes, 5);
	assert_int_equal(second_later(), -1);
	assert_int_equal(takes, 5);
}

/* Other things wake the leader, too. */
static void test_not_before_its_time(void **state)
{
	failures = 1;
	assert_int_equal(machine_settle(&machine, &err), -ENOMEM);
	for (unsigned i = 0; i < 3; i++)
		keep_deadlines();
	assert_int_equal(takes, 1);
}

/* Nobody gets any more what waits for the parent: the leader does not wake for it. */
static void test_nothing_is_said_to_a_lost_parent(void **state)
{
	parent.sock = dup(STDERR_FILENO);
	parent.out.n = 1;
	assert_in_range(time_left_ms(), 1, OUTBOX_NS / NS_PER_MS + 1);
	worker_go_alone("test");
	assert_int_equal(time_left_ms(), -1);
}

/* ---- what an update would be refused for ---- */

static void a_minute_later(void)
{
	if (self.look_ns != UINT64_MAX)
		self.look_ns = now_ns();
	keep_deadlines();
}

/* Since when, without anybody asking. */
static void test_blocked_since(void **state)
{
	dev.cls = &checked;
	a_minute_later();
	assert_int_equal(dev.blocked_s, 0);
	assert_in_range(time_left_ms(), 1, 60001); /* it wakes by itself */
	blocked = true;
	a_minute_later();
	assert_int_not_equal(dev.blocked_s, 0);
	dev.blocked_s = 1;
	a_minute_later();
	assert_int_equal(dev.blocked_s, 1);
	blocked = false;
	a_minute_later();
	assert_int_equal(dev.blocked_s, 0);
	dev.cls = &container;
	a_minute_later();
	assert_int_equal(time_left_ms(), -1); /* nothing can be in the way */
}

/* ---- between two boots ---- */

static int parent_end; /* of the link */

static int setup_reset(void **state)
{
	int ends[2];
	assert_int_equal(wire_pair(ends, &err), 0);
	setup(state);
	parent_end = ends[0];
	parent.sock = ends[1];
	machine.stop_code = EXIT_RESET;
	return 0;
}

static int teardown_reset(void **state)
{
	close(parent_end);
	fd_close(&parent.sock);
	machine.stop_code = -1;
	machine.ending = false;
	return 0;
}

static void parent_says(enum link_kind kind, int64_t value)
{
	assert_int_equal(wire_send(parent_end, kind, value, NULL, 0, NULL, 0, &err), 0);
}

static void assert_taken(int sig)
{
	static struct wire_message msg;
	assert_int_equal(wire_recv(parent_end, &msg, 0, &err), 0);
	assert_int_equal(msg.kind, LINK_TAKEN);
	assert_int_equal(msg.value, sig);
}

/* Where nobody says when the former worker has ended its things are asked for. */
static void test_what_is_in_use_still(void **state)
{
	in_use = true;
	keep_deadlines();
	assert_in_range(time_left_ms(), 0, 21);
	self.inherit_ns = now_ns();
	keep_deadlines();
	assert_int_equal(inherits, 2);
	in_use = false;
	self.inherit_ns = now_ns();
	keep_deadlines();
	keep_deadlines();
	assert_int_equal(inherits, 3);
	assert_int_equal(time_left_ms(), -1);
}

static void test_who_is_asked_to_end_does_not_begin_anew(void **state)
{
	parent_says(LINK_SIGNAL, SIGTERM);
	assert_false(await_boot());
	assert_taken(SIGTERM);
	assert_int_equal(machine.stop_code, EXIT_RESET);
}

/* Right after an update the former worker may still have what the next boot opens. */
static void test_a_boot_waits_for_the_former_worker(void **state)
{
	int ends[2];
	assert_int_equal(wire_pair(ends, &err), 0);
	former_ask(ends[0]);
	pid_t pid = fork();
	if (!pid) {
		int rc = wire_send(ends[1], 1, 0, NULL, 0, &ends[1], 1, &err);
		usleep(200000);
		_exit(rc ? 1 : 0);
	}
	former_follow(ends[0], 10000);
	/* The message is there still, and comes as any other. */
	static struct wire_message msg;
	assert_int_equal(wire_recv(ends[0], &msg, 0, &err), 0);
	assert_int_equal(msg.nfds, 1);
	wire_close_fds(&msg);
	close(ends[0]);
	close(ends[1]);
	assert_true(former_fd() >= 0);
	keep_deadlines();
	assert_int_equal(inherits, 0);
	assert_true(await_boot());
	keep_deadlines();
	assert_int_equal(inherits, 1);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), pid);
	assert_int_equal(former_fd(), -1);
	assert_int_equal(former_deadline(), 0);
}

static void test_who_is_ended_does_not_begin_anew(void **state)
{
	machine.leader = pthread_self();
	parent_says(LINK_SIGNAL, SIGQUIT);
	assert_false(await_boot());
	assert_taken(SIGQUIT);
	assert_int_equal(machine.stop_code, 128 + SIGQUIT);
}

/* The parent hears nothing of it: it is not served yet. */
static void test_an_update_waits_for_the_next_boot(void **state)
{
	static struct wire_message msg;
	parent_says(LINK_SIGNAL, SIGUSR1);
	assert_true(await_boot());
	assert_true(self.again);
	assert_int_equal(wire_recv(parent_end, &msg, 0, &err), -ETIMEDOUT);
}

#define TR(f) cmocka_unit_test_setup_teardown(f, setup_reset, teardown_reset)
#define T(f)  cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_nothing_to_settle),
		T(test_until_it_is_done),
		T(test_what_is_in_use_still),
		T(test_not_before_its_time),
		T(test_nothing_is_said_to_a_lost_parent),
		T(test_blocked_since),
		TR(test_who_is_asked_to_end_does_not_begin_anew),
		TR(test_a_boot_waits_for_the_former_worker),
		TR(test_who_is_ended_does_not_begin_anew),
		TR(test_an_update_waits_for_the_next_boot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
