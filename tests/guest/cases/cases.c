/* SPDX-License-Identifier: MIT */
#include "tests/guest/cases/cases.h"

#include <stddef.h>

#include "tests/guest/cases/drives.h"

#define TESTDEV	      "--testdev", "trigger=%T"
#define TESTDEV_LEVEL "--testdev", "trigger=%T,unmask=%U"
#define CONTROL	      "--control", "%D/ctl"
#define SANDBOX(mode) "--sandbox", #mode
/* Where no row is meant to hang. */
#define PATIENT	 "--update-timeout", "20000", "--prepare-timeout", "20000"
#define HOLD(ms) "--debug-hold", #ms

#define NO_SOFT                                                                                    \
	"no INT n in user mode, and RIP is past an INT3 that is still pending, which "             \
	"KVM_GET_VCPU_EVENTS then hides"
#define NO_DEBUG "no break- and watchpoints"

/* tests.cmake takes the names from the lines that begin with one. */
const struct test_case test_cases[] = {
	/* Software KVMs give the guest the host's TSC as it is: an offset that gets lost shows only on
	 * real ones. */
	{"gap-1", "gap", drive_gap, 1, 100, 1000, 10000},
	{"gap-2", "gap", drive_gap, 2, 100, 1000, 10000},
	{"gap-4", "gap", drive_gap, 4, 100, 1000, 10000},
	{"clock-1", "clock", drive_clock, 1, 100, 0, 10000},
	{"clock-2", "clock", drive_clock, 2, 100, 0, 10000},
	{"stress-1", "stress", drive_stress, 1, 400, 0, 8000},
	{"stress-2", "stress", drive_stress, 2, 400, 0, 8000},
	{"stress-4", "stress", drive_stress, 4, 200, 0, 8000},
	{"stress-8", "stress", drive_stress, 8, 50, 0, 8000},
	{"stress-x2apic", "stress", drive_stress, 2, 200, 0, 8000, {0}, "x2apic=1"},
	{"soak", "stress", drive_soak, 2, 200, 0, 2000, .long_updates = 10000},
	{"regs-1", "regs", drive_plain, 1, 200, 0, 5000},
	{"regs-2", "regs", drive_plain, 2, 200, 0, 5000},
	{"timer", "timer", drive_armed, 1, 50, 0, 20000},
	/* The moment to fire lies inside the pause. */
	{"timer-hold", "timer", drive_armed, 1, 50, 0, 5000, {HOLD(60)}},
	/* It has fired: no update may make it fire again. */
	/* Without the PIT, which KVM_SET_PIT2 starts anew: KVM does not tell when it was loaded. */
	{"timer-fired", "timer", drive_armed, 1, 50, 0, 1000, {0}, "fired=1 after_us=5000 skip=4"},
	{"halt", "halt", drive_halt, 3, 100, 0, 5000},
	{"events", "events", drive_plain, 1, 200, 0, 5000},
	{"events-soft", "events", drive_plain, 1, 200, 0, 5000, {0}, "soft=1", NO_SOFT},
	{"events-debug", "events", drive_plain, 1, 200, 0, 5000, {0}, "debug=1", NO_DEBUG},
	{"pio", "pio", drive_lines, 1, 200, 0, 5000, {TESTDEV}},
	{"smp", "smp", drive_plain, 2, 200, 0, 5000},
	{"states", "states", drive_states, 2, 200, 0, 0, {"--warm-budget", "0"}},
	{"irq", "irq", drive_irq, 1, 200, 0, 3000, {TESTDEV}},
	/* The random wait falls inside the pause. */
	{"irq-hold", "irq", drive_irq, 1, 49, 5000, 15000, {TESTDEV, HOLD(30)}},
	{"level", "level", drive_level, 1, 60, 0, 3000, {TESTDEV_LEVEL}},
	{"level-hold", "level", drive_level, 1, 48, 5000, 15000, {TESTDEV_LEVEL, HOLD(30)}},
	{"mem-file", "gap", drive_plain, 1, 20, 0, 5000, {"--mem", "64M,path=%D/memory"}},
	{"mem-node", "gap", drive_plain, 1, 20, 0, 5000, {"--mem", "64M,node=0"}},
	{"control", "gap", drive_control, 1, 3, 0, 0, {CONTROL}},
	{"control-busy", "gap", drive_busy, 1, 4, 0, 0, {CONTROL, "--stop-timeout", "0"}},
	{"config",
	 "gap",
	 drive_config,
	 2,
	 2,
	 0,
	 5000,
	 {CONTROL, "--stop-timeout", "7", "--insecure-exe"}},
	{"pause-1", "gap", drive_pause, 1, 10, 0, 0, {CONTROL, SANDBOX(kill)}},
	{"pause-2", "gap", drive_pause, 2, 10, 0, 0, {CONTROL, SANDBOX(kill)}},
	{"terminal", "gap", drive_terminal, 1, 1, 0, 0},
	{"parent", "gap", drive_parent, 1, 100, 0, 0, {CONTROL}},
	{"take",
	 "gap",
	 drive_take,
	 1,
	 200,
	 0,
	 0,
	 {CONTROL, "--prepare-timeout", "2000", SANDBOX(kill)}},
	{"take-regs", "regs", drive_take_plain, 2, 20, 0, 0, {CONTROL, "--stop-timeout", "0"}},
	{"container",
	 "gap",
	 drive_container,
	 1,
	 20,
	 0,
	 5000,
	 {CONTROL, "--stop-timeout", "0"},
	 .container = true},
	/* One row of drives_fault.c per "update". */
	{"fault", "gap", drive_fault, 1, 200, 0, 1000, {[2] = SANDBOX(kill)}},
	{"fault-2", "gap", drive_fault, 2, 200, 0, 1000, {[2] = SANDBOX(kill)}},
	/* The same of drives_skew.c, two guests each. */
	{"skew", "gap", drive_skew, 1, 100, 0, 1000},
	{"user", "gap", drive_user, 2, 50, 0, 5000, {SANDBOX(kill)}, .user = true},
	{"secrets", "secret", drive_secrets, 2, 10, 0, 5000, {"--mem", "32M"}},
	{"sandbox-kill", "forbid", drive_forbid_kill, 2, 5, 0, 5000, {TESTDEV, SANDBOX(kill)}},
	{"sandbox-log", "forbid", drive_forbid_log, 2, 5, 0, 5000, {TESTDEV, SANDBOX(log)}},
	{"sandbox-off", "forbid", drive_forbid_off, 2, 5, 0, 5000, {TESTDEV, SANDBOX(off)}},
	{"topology-4",
	 "topology",
	 drive_topology,
	 4,
	 20,
	 0,
	 5000,
	 {"--cpus", "4,cores=2,threads=2,affinity=0"},
	 "cores=2 threads=2"},
	{"topology-8",
	 "topology",
	 drive_topology,
	 8,
	 5,
	 0,
	 5000,
	 {"--cpus", "8,sockets=2"},
	 "cores=4"},
	{"log",
	 "gap",
	 drive_log,
	 1,
	 10,
	 0,
	 5000,
	 {"--log", "%D/own.log", "--name", "logged", "--control", "none"}},
	{"panic", "panic", drive_panic, 1, 10, 0, 5000},
	/* Exact tests of what makes the pause (calls.h). */
	{"calls-1", "gap", drive_calls, 1, 5, 0, 0, {"--mem", "256M", PATIENT}, .shipped = true},
	{"calls-2", "gap", drive_calls, 2, 5, 0, 0, {"--mem", "256M", PATIENT}, .shipped = true},
	{"calls-malloc",
	 "gap",
	 drive_calls_malloc,
	 1,
	 3,
	 0,
	 0,
	 {"--mem", "256M", PATIENT, SANDBOX(off)},
	 .shipped = true},
	{"calls-floor", "gap", drive_calls_floor, 1, 5, 0, 0},
	/* The fault matrix (matrix.h). Calls that are made to fail have no number, which no filter lets pass. */
	{"inject", "gap", drive_inject, 1, 100000, 0, 1000, {PATIENT, SANDBOX(off)}},
	{"inject-parent", "gap", drive_inject_parent, 1, 100000, 0, 1000, {PATIENT, SANDBOX(off)}},
	{"inject-back", "gap", drive_inject_back, 1, 100000, 0, 1000, {PATIENT, SANDBOX(off)}},
	{"inject-2",
	 "level",
	 drive_inject_2,
	 2,
	 100000,
	 0,
	 1000,
	 {PATIENT, SANDBOX(off), TESTDEV_LEVEL}},
	{"inject-run", "pio", drive_inject_run, 1, 500, 0, 0, {PATIENT, SANDBOX(off), TESTDEV}},
	/* These with the deadlines of every day: so long, and no longer, may the guest stand still. */
	{"fault-state", "gap", drive_state, 1, 100000, 0, 1000},
	{"fault-limits", "gap", drive_limits, 1, 100000, 0, 1000},
	{"fault-memory",
	 "gap",
	 drive_memory,
	 1,
	 100000,
	 0,
	 1000,
	 {PATIENT, "--mem", "64M,collapse"},
	 .cgroup = true},
	{"fault-kill", "gap", drive_kill, 1, 100000, 0, 1000, {PATIENT, "--stop-timeout", "0"}},
	{"fault-stop",
	 "gap",
	 drive_stop,
	 1,
	 100000,
	 0,
	 1000,
	 {"--prepare-timeout", "2000", CONTROL}},
};
const unsigned test_cases_len = sizeof(test_cases) / sizeof(test_cases[0]);
