/* SPDX-License-Identifier: MIT */
/*
 * A worker's life: makes its VM, takes the guest from the worker before it (the first one boots it), runs it, and
 * gives it to the next. The pause is from the leader's kick to the successor's KVM_RUN; each side has two threads.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "floor.h"

#define KICK	  SIGUSR2
#define SETTLE_US 3000
#define YIELDS	  1000
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static struct floor_state *state;
static struct floor_vm vm;
static uint32_t me;
static pid_t vcpu_tid;

static uint32_t word_get(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

void word_set(uint32_t *word, uint32_t to)
{
	__atomic_store_n(word, to, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Until it is @to or more. */
static void word_wait(uint32_t *word, uint32_t to)
{
	uint32_t now;

	while ((now = word_get(word)) < to)
		syscall(SYS_futex, word, FUTEX_WAIT, now, NULL, NULL, 0);
}

/* The same for what comes within microseconds: to be woken takes longer. */
static void word_wait_awake(uint32_t *word, uint32_t to)
{
	for (int i = 0; i < YIELDS && word_get(word) < to; i++)
		sched_yield();
	word_wait(word, to);
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = SETTLE_US * 1000}, NULL);
}

/* ---- the vCPU's thread ---- */

/* Here and not in the leader: the vCPU may not leave KVM_RUN before the kick. */
static void on_kick(int sig)
{
	(void)sig;
	vm.run->immediate_exit = 1;
}

/* The first entry of a vCPU, and that of another thread than before, is the slow one: it is made now. */
static void enter_once(void)
{
	vm.run->immediate_exit = 1;
	if (!ioctl(vm.vcpu_fd, KVM_RUN, 0) || errno != EINTR)
		MUST(-1);
	vm.run->immediate_exit = 0;
}

static void take(void)
{
	uint32_t incumbent = me - 1;

	enter_once();
	word_set(&state->ready, me);
	word_wait(&state->given, me);
	vcpu_load(vm.vcpu_fd, state);
	chips_load(vm.fd, state);
	if (!__atomic_compare_exchange_n(&state->owner, &incumbent, me, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		MUST(-1);
}

static void *run(void *opaque)
{
	vcpu_tid = gettid();
	if (me)
		take();
	while (!vm.run->immediate_exit)
		if (!ioctl(vm.vcpu_fd, KVM_RUN, 0) ||
		    errno != EINTR) /* this guest wants nothing of us */
			MUST(-1);
	vcpu_save(vm.vcpu_fd, state);
	word_set(&state->parked, me + 1);
	for (;;)
		pause();
	return opaque;
}

/* ---- the leader ---- */

static void boot(void)
{
	vm_learn(&vm, state);
	MUST(ioctl(vm.vcpu_fd, KVM_GET_SREGS2, &state->vcpu.sregs));
	guest_boot(vm.ram, &state->vcpu.sregs, &state->vcpu.regs);
	MUST(ioctl(vm.vcpu_fd, KVM_SET_SREGS2, &state->vcpu.sregs));
	MUST(ioctl(vm.vcpu_fd, KVM_SET_REGS, &state->vcpu.regs));
}

/* Until the guest has run for a while. */
static void settle(void)
{
	const struct guest_report *g = guest_report(vm.ram);
	uint64_t loops = g->loops;

	do
		nap();
	while (g->loops == loops);
}

/* The commit wakes nobody, the guest is to run at once: so this looks from time to time. */
static void wait_taken(void)
{
	while (word_get(&state->owner) != me)
		nap();
	settle();
	state->gap_ns[me - 1] = (uint64_t)((double)guest_report(vm.ram)->largest_gap * 1e6 /
					   (double)state->tsc_khz);
	word_set(&state->over, me);
}

static void give(void)
{
	pid_t pid = getpid();

	word_wait(&state->ready, me + 1);
	settle();
	guest_report(vm.ram)->largest_gap = 0;
	settle();

	syscall(SYS_tgkill, pid, vcpu_tid, KICK);
	word_wait_awake(&state->parked, me + 1);
	chips_save(vm.fd, state);
	word_set(&state->given, me + 1);
}

void worker(struct floor_state *s, uint32_t number)
{
	pthread_t thread;

	state = s;
	me = number;
	vm_make(&vm, s);
	/* What is touched in the pause is in this process's page tables before. */
	MUST(madvise(s, sizeof(*s), MADV_POPULATE_WRITE));
	MUST(madvise(vm.ram, GUEST_LEN, MADV_POPULATE_WRITE));
	if (!me)
		boot();
	signal(KICK, on_kick);
	MUST(-pthread_create(&thread, NULL, run, NULL));
	if (me)
		wait_taken();
	if (me < s->updates)
		give();
	word_wait(&s->over, me + 1);
	/* A VM's end is long, and the guest has just begun to run again. */
	MUST(setpriority(PRIO_PROCESS, 0, 19));
	MUST(setpriority(PRIO_PROCESS, (id_t)vcpu_tid, 19));
	_exit(0);
}
