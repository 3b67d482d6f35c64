/* SPDX-License-Identifier: MIT */
/* Warming as a part of the hand-over: it ends when its time is over, on a busy host too. */
#include "tests/unit/unit.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpr/handover/protocol.h"
#include "cpr/handover/warming.h"
#include "cpr/handover/wire.h"
#include "vmm/machine.h"
#include "vmm/sched.h"
#include "vmm/warm.h"

#define NOBODY 65534

static struct machine m;
static int ends[2];
static struct error err;

/* The thread that warms, as it is at first, and what it waits for before it ends. */
static struct {
	unsigned runs;
	int policy, nice;
	bool until_called_off, until_told;
	uint64_t now_ns, tick_ns;
} fake;

/* Time stands still until the thread has begun; or passes whenever somebody looks. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	*ts = (struct timespec){
		.tv_nsec = (long)__atomic_fetch_add(&fake.now_ns, fake.tick_ns, __ATOMIC_SEQ_CST)};
	return 0;
}

static int policy_now(void)
{
	return (int)syscall(SYS_sched_getscheduler, 0);
}

/* As on a host that is always busy: a thread that is SCHED_IDLE gets nowhere. Where it is not made another one, or not
 * called off, this test does not end. */
int warm_run(struct machine *machine, const struct warm_options *opt, struct warm_result *out,
	     struct error *e)
{
	fake.runs++;
	sched_idle();
	fake.policy = policy_now();
	fake.nice = getpriority(PRIO_PROCESS, 0);
	*out = (struct warm_result){0};
	__atomic_store_n(&fake.now_ns, 1 * NS_PER_MS, __ATOMIC_SEQ_CST);
	static struct wire_message told;
	while (fake.until_told && wire_recv(ends[1], &told, -1, e))
		;
	assert_true(!fake.until_told || told.kind == PROTOCOL_PROGRESS);
	if (fake.until_told)
		sched_hurry(pthread_self());
	while (policy_now() == SCHED_IDLE ||
	       (fake.until_called_off && !__atomic_load_n(opt->cancel, __ATOMIC_ACQUIRE)))
		usleep(1000);
	return 0;
}

const char *warm_way_text(enum warm_way way)
{
	return "fake";
}

struct device *machine_device(struct machine *machine, const char *cls, struct device *after)
{
	return NULL;
}

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	m = (struct machine){.opt.warm_budget_ms = 1};
	return wire_pair(ends, &err);
}

static int teardown(void **state)
{
	close(ends[0]);
	return ends[1] < 0 ? 0 : close(ends[1]);
}

static void it_ends_when_its_time_is_over(void **state)
{
	if (setpriority(PRIO_PROCESS, 0, 1) || setpriority(PRIO_PROCESS, 0, 0)) {
		print_message("this user may not take a nice value back\n");
		skip();
	}
	assert_int_equal(warm_machine(&m, ends[0], &err), 0);
	assert_int_equal(fake.runs, 1);
	assert_int_equal(fake.policy, SCHED_IDLE);
	assert_int_equal(fake.nice, 0);
}

static void its_time_is_over_before_it_begins(void **state)
{
	fake.tick_ns = 1 * NS_PER_MS;
	assert_int_equal(warm_machine(&m, ends[0], &err), 0);
	assert_int_equal(fake.runs, 1);
}

/* A thread that gets no processor tells nothing: the incumbent, whose patience is shorter, hears of the time. */
static void it_is_told_that_time_passes(void **state)
{
	m.opt.warm_budget_ms = 3600000;
	fake.until_told = true;
	assert_int_equal(warm_machine(&m, ends[0], &err), 0);
}

static void it_ends_when_it_is_called_off(void **state)
{
	m.opt.warm_budget_ms = 3600000;
	fake.until_called_off = true;
	fd_close(&ends[1]);
	assert_int_equal(warm_machine(&m, ends[0], &err), -EPIPE);
	assert_int_equal(fake.runs, 1);
}

/* Called off after its time was over, when it is not SCHED_IDLE any more. */
static void it_is_called_off_in_its_last_step(void **state)
{
	fake.until_called_off = true;
	if (!fork()) {
		close(ends[0]);
		usleep(20000);
		_exit(0); /* with the other end */
	}
	fd_close(&ends[1]);
	assert_int_equal(warm_machine(&m, ends[0], &err), -EPIPE);
	assert_int_equal(wait(NULL) > 0, 1);
}

/* SCHED_IDLE would be for ever. */
static void without_the_right_to_take_it_back(void **state)
{
	const struct rlimit none = {0};
	int status;
	pid_t pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setrlimit(RLIMIT_NICE, &none);
		if (!geteuid() && setresuid(NOBODY, NOBODY, NOBODY))
			_exit(2);
		int rc = warm_machine(&m, ends[0], &err);
		_exit(rc || fake.policy != SCHED_OTHER || fake.nice != 19);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void not_without_a_budget(void **state)
{
	m.opt.warm_budget_ms = 0;
	assert_int_equal(warm_machine(&m, ends[0], &err), 0);
	assert_int_equal(fake.runs, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_ends_when_its_time_is_over),
		TEST(its_time_is_over_before_it_begins),
		TEST(it_is_told_that_time_passes),
		TEST(it_ends_when_it_is_called_off),
		TEST(it_is_called_off_in_its_last_step),
		TEST(without_the_right_to_take_it_back),
		TEST(not_without_a_budget),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
