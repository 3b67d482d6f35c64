/* SPDX-License-Identifier: MIT */
/* How a thread is scheduled goes over an update: read, saved, loaded, applied, on a host with 1024 CPUs. */
#include "tests/unit/unit.h"

#include <sched.h>
#include <sys/syscall.h>

static long fake_syscall(long nr, ...);

#define syscall fake_syscall
#include "vmm/sched.c" /* NOLINT: its system calls are ours */
#undef syscall

#include "cpr/state/fdset.h"
#include "cpr/state/state.h"

#define CPUS	1024
#define OLD_TID 100 /* the incumbent's thread; ours is 0 */

static uint64_t old_mask[CPUS / 64], new_mask[CPUS / 64];
static unsigned nset;
static struct error err;

static long fake_syscall(long nr, ...)
{
	va_list ap;
	va_start(ap, nr);
	pid_t tid = va_arg(ap, pid_t);
	size_t size =
		nr == SYS_sched_getaffinity || nr == SYS_sched_setaffinity ? va_arg(ap, size_t) : 0;
	uint64_t *mask = size ? va_arg(ap, uint64_t *) : NULL, *own = tid ? old_mask : new_mask;
	va_end(ap);
	if (nr == SYS_sched_setaffinity) {
		memset(own, 0, sizeof(new_mask));
		memcpy(own, mask, size);
		nset++;
	} else if (mask && size < sizeof(new_mask)) {
		errno = EINVAL; /* as the kernel, of a mask that is too short for its CPUs */
		return -1;
	} else if (mask) {
		memcpy(mask, own, sizeof(new_mask));
	}
	return 0;
}

struct vcpu_like {
	struct thread_sched sched;
};
static const struct field fields[] = {SCHED_CPU_FIELDS(struct vcpu_like, sched)};
STATE_CLASS(like_class, "cpu", 2, struct vcpu_like, fields);

/* What an update makes of the thread's affinity. */
static void update(void)
{
	static char buf[16384];
	static struct state_blob blob;
	static const struct state_header header = {"v", "b"};
	struct vcpu_like cpu = {0};
	struct thread_sched now;
	struct fdset fds = {0};
	struct state_tree tree = {0};
	const struct state_section s = {.node = "cpu", .cls = &like_class, .state = &cpu};
	size_t len;
	sched_read(&cpu.sched, OLD_TID, NULL);
	assert_int_equal(state_register(&tree, &s, &err), 0);
	assert_int_equal(state_save(&tree, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	memset(&cpu, 0, sizeof(cpu));
	assert_int_equal(state_open(&blob, buf, len, &err), 0);
	assert_int_equal(state_load_section(&blob, &s, &err), 0);
	sched_read(&now, 0, NULL);
	sched_apply(&cpu.sched, &now, "vCPU 0");
}

static int setup(void **state)
{
	memset(old_mask, 0, sizeof(old_mask));
	memset(new_mask, 0xff, sizeof(new_mask));
	nset = 0;
	return 0;
}

static void pinned_to_any_cpu(void **state)
{
	static const unsigned cpus[] = {0, 1, 31, 32, 63, 64, 65, 127, 128, 511, CPUS - 1};
	for (unsigned i = 0; i < ARRAY_LEN(cpus); i++) {
		setup(state);
		old_mask[cpus[i] / 64] = 1ull << cpus[i] % 64;
		update();
		if (nset != 1 || memcmp(new_mask, old_mask, sizeof(new_mask)))
			fail_msg("CPU %u: dropped", cpus[i]);
	}
}

static void pinned_to_many(void **state)
{
	old_mask[0] = 0xf0;
	old_mask[1] = 0xf00000000000000f;
	old_mask[15] = 1;
	update();
	assert_memory_equal(new_mask, old_mask, sizeof(new_mask));
}

static void not_pinned(void **state)
{
	memset(old_mask, 0xff, sizeof(old_mask));
	update();
	assert_int_equal(nset, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pinned_to_any_cpu),
		TEST(pinned_to_many),
		TEST(not_pinned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
