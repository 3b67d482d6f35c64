/* SPDX-License-Identifier: MIT */
/* A guest that has reset: whether it begins anew, when, what an update is told, and that it executes nothing
 * meanwhile. */
#include "tests/unit/unit.h"

#include <signal.h>

#include "cpr/handover/reboot.h"
#include "vmm/machine.h"

#define S 1000000000ull

static struct machine m;
static struct error err;

static int setup(void **state)
{
	memset(&m, 0, sizeof(m));
	m.stop_code = EXIT_RESET;
	return 0;
}

static void wanted_until_somebody_ends_it(void **state)
{
	assert_true(reboot_wanted(&m));
	m.opt.on_reset = ON_RESET_EXIT;
	assert_false(reboot_wanted(&m));
	m.opt.on_reset = ON_RESET_REBOOT;
	m.ending = true;
	assert_false(reboot_wanted(&m));
}

static void kept_until_somebody_ends_it(void **state)
{
	m.opt.on_crash = ON_CRASH_PAUSE;
	assert_false(reboot_instead_kept(&m)); /* it has reset */
	static const int crashes[] = {EXIT_CRASH, EXIT_PANIC, EXIT_INTERNAL};
	for (unsigned i = 0; i < ARRAY_LEN(crashes); i++) {
		m.stop_code = crashes[i];
		assert_true(reboot_instead_kept(&m));
		assert_false(reboot_wanted(&m));
	}
	assert_int_equal(reboot_explain(&m, &err), -ECANCELED);
	assert_string_equal(err.text, "the guest has crashed and stays as it is");
	m.stop_code = EXIT_POWEROFF;
	assert_false(reboot_instead_kept(&m));
	m.stop_code = EXIT_CRASH;
	m.ending = true;
	assert_false(reboot_instead_kept(&m));
}

/* What counts as its end, in whatever order it comes. */
static void its_end_is_from_outside(void **state)
{
	m.leader = pthread_self();
	signal(MACHINE_WAKE_SIGNAL, SIG_IGN);
	m.stop_code = -1;
	machine_stop(&m, EXIT_CRASH, "triple fault");
	machine_stop(&m, EXIT_PANIC, "the first end counts");
	assert_true(machine_keep(&m));
	assert_int_equal(m.stop_code, -1);
	assert_int_equal(m.paused.code, EXIT_CRASH);
	assert_string_equal(m.paused.reason, "triple fault");
	machine_stop(&m, EXIT_POWEROFF, "it has ended already");
	assert_int_equal(m.stop_code, -1);
	machine_end(&m, EXIT_CRASH, "outside");
	assert_int_equal(m.stop_code, EXIT_CRASH);

	m.stop_code = -1;
	m.ending = false;
	m.paused.code = 0;
	machine_stop(&m, EXIT_CRASH, "triple fault");
	machine_end(&m, 130, "just before it was kept");
	assert_false(machine_keep(&m));
	assert_int_equal(m.stop_code, 130);
}

static void who_asks_for_an_update(void **state)
{
	assert_int_equal(reboot_explain(&m, &err), -ECANCELED);
	assert_string_equal(err.text, "the guest has reset and begins anew");
	assert_string_equal(err.hint, "ask again");
	m.stop_code = EXIT_PANIC;
	assert_int_equal(reboot_explain(&m, &err), -ECANCELED);
	assert_string_equal(err.text, "the guest has crashed and begins anew");
	m.stop_code = EXIT_POWEROFF;
	assert_int_equal(reboot_explain(&m, &err), -ECANCELED);
	assert_string_equal(err.text, "the guest has ended");
	assert_string_equal(err.hint, "");
}

static void boots_that_do_not_last(void **state)
{
	static const unsigned waits_s[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
	uint32_t quick = 0;
	for (unsigned i = 0; i < ARRAY_LEN(waits_s); i++)
		assert_int_equal(reboot_backoff_ns(&quick, 9 * S), waits_s[i] * S);
	assert_int_equal(reboot_backoff_ns(&quick, 10 * S), 0);
	assert_int_equal(reboot_backoff_ns(&quick, 0), 1 * S);
}

/* The pause of an update may meet the reset. */
static void executes_nothing_more(void **state)
{
	static struct kvm_run run;
	static struct vcpu cpu = {.run = &run};
	m.opt.cpus = 1;
	m.vcpus = &cpu;
	gate_init(&m.gate, 1);
	m.gate.want = GATE_PAUSE;
	run.immediate_exit = 1;
	vcpus_go(&m);
	assert_int_equal(m.gate.want, GATE_PAUSE);
	assert_int_equal(run.immediate_exit, 1);
	m.stop_code = -1;
	vcpus_go(&m);
	assert_int_equal(m.gate.want, GATE_RUN);
	assert_int_equal(run.immediate_exit, 0);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(wanted_until_somebody_ends_it), T(kept_until_somebody_ends_it),
		T(its_end_is_from_outside),	  T(who_asks_for_an_update),
		T(boots_that_do_not_last),	  T(executes_nothing_more),
	};
	return cmocka_run_group_tests_name("reboot", tests, NULL, NULL);
}
