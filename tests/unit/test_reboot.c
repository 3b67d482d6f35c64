/* SPDX-License-Identifier: MIT */
/* A guest that has reset: whether it begins anew, when, what an update is told, and that it executes nothing
 * meanwhile. */
#include "tests/unit/unit.h"

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
		T(wanted_until_somebody_ends_it),
		T(who_asks_for_an_update),
		T(boots_that_do_not_last),
		T(executes_nothing_more),
	};
	return cmocka_run_group_tests_name("reboot", tests, NULL, NULL);
}
