/* SPDX-License-Identifier: MIT */
/*
 * floor N [MIB]: updates itself N times under its guest and prints the largest gap that the guest saw in each,
 * `gap_ns A B C ...`. Every image does: make the VM, load, run, wait, and then: pause, save, exec.
 */
#include "floor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KICK	  SIGUSR2
#define SETTLE_US 3000

static struct floor_state *state;
static struct floor_vm vm;
static char stacks[2][16384] __attribute__((aligned(16)));

static void futex_wake(uint32_t *word)
{
	__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_wait(uint32_t *word)
{
	while (!__atomic_load_n(word, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

/* Holds the old address space and the old VM until the guest runs again. It shares errno with the
 * leader, which is about to be gone. */
static int keeper(void *opaque)
{
	(void)opaque;
	futex_wait(&state->over);
	_exit(0);
}

/* The vCPU's thread: runs, and when asked to stop saves. */
static __attribute__((noreturn)) int run(void *opaque)
{
	(void)opaque;
	while (ioctl(vm.vcpu_fd, KVM_RUN, 0) == 0 || !vm.stop)
		;
	vcpu_save(vm.vcpu_fd, state);
	futex_wake(&state->parked);
	for (;;)
		pause();
}

static void on_kick(int sig)
{
	(void)sig;
}

static pid_t start_thread(void)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
	signal(KICK, on_kick);
	return (pid_t)MUST(clone(run, stacks[0] + sizeof(stacks[0]), flags, NULL));
}

/* Until the guest has run for a while. */
static void settle(void)
{
	const struct timespec ts = {.tv_nsec = SETTLE_US * 1000};
	const struct guest_report *g = guest_report(vm.ram);
	uint64_t loops = g->loops;
	do
		nanosleep(&ts, NULL);
	while (g->loops == loops);
}

static void note_gap(void)
{
	state->gap_ns[state->done++] = (uint64_t)((double)guest_report(vm.ram)->largest_gap * 1e6 /
						  (double)state->tsc_khz);
}

static __attribute__((noreturn)) void update(pid_t thread)
{
	char number[16];
	char *argv[] = {"floor", "--resume", number, NULL}, *envp[] = {NULL};

	snprintf(number, sizeof(number), "%d", state->state_fd);
	state->parked = state->over = 0;
	MUST(clone(keeper, stacks[1] + sizeof(stacks[1]), CLONE_VM | SIGCHLD, NULL));
	settle();
	guest_report(vm.ram)->largest_gap = 0;
	settle();

	vm.stop = 1;
	vm.run->immediate_exit = 1;
	syscall(SYS_tgkill, getpid(), thread, KICK);
	futex_wait(&state->parked);
	chips_save(vm.fd, state);
	syscall(SYS_execveat, state->exe_fd, "", argv, envp, AT_EMPTY_PATH);
	MUST(-1);
	_exit(1);
}

static void resume(int state_fd)
{
	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
	vm_make(&vm, state);
	vcpu_load(vm.vcpu_fd, state);
	chips_load(vm.fd, state);
}

static void fresh(uint32_t updates, uint32_t mib)
{
	int fd = (int)MUST(memfd_create("floor-state", 0));
	MUST(ftruncate(fd, sizeof(*state)));
	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
		     0);
	state->updates = updates;
	state->ram_len = (uint64_t)mib << 20;
	state->state_fd = fd;
	state->ram_fd = (int)MUST(memfd_create("floor-ram", 0));
	MUST(ftruncate(state->ram_fd, (off_t)state->ram_len));
	state->kvm_fd = (int)MUST(open("/dev/kvm", O_RDWR));
	state->exe_fd = (int)MUST(open("/proc/self/exe", O_RDONLY));
	state->cpuid.head.nent = MAX_CPUID;
	MUST(ioctl(state->kvm_fd, KVM_GET_SUPPORTED_CPUID, &state->cpuid));

	vm_make(&vm, state);
	vm_learn(&vm, state);
	MUST(ioctl(vm.vcpu_fd, KVM_GET_SREGS2, &state->vcpu.sregs));
	guest_boot(vm.ram, &state->vcpu.sregs, &state->vcpu.regs);
	MUST(ioctl(vm.vcpu_fd, KVM_SET_SREGS2, &state->vcpu.sregs));
	MUST(ioctl(vm.vcpu_fd, KVM_SET_REGS, &state->vcpu.regs));
}

int main(int argc, char **argv)
{
	int updates = argc > 1 ? atoi(argv[1]) : 0, mib = argc == 3 ? atoi(argv[2]) : RAM_MIB;
	bool resumed = argc == 3 && !strcmp(argv[1], "--resume");

	if (resumed)
		resume(atoi(argv[2]));
	else if (argc < 4 && updates > 0 && updates <= MAX_UPDATES && mib > 0)
		fresh((uint32_t)updates, (uint32_t)mib);
	else
		return fprintf(stderr, "usage: floor UPDATES [MIB] (1 to %d)\n", MAX_UPDATES), 2;

	pid_t thread = start_thread();
	settle();
	if (resumed) {
		note_gap();
		futex_wake(&state->over);
		while (waitpid(-1, NULL, __WALL) < 0 && errno == EINTR)
			;
	}
	if (state->done < state->updates)
		update(thread);
	printf("gap_ns");
	for (uint32_t i = 0; i < state->done; i++)
		printf(" %llu", (unsigned long long)state->gap_ns[i]);
	printf("\n");
	fflush(stdout);
	_exit(0);
}
