/* SPDX-License-Identifier: MIT */
/*
 * floor N [MIB]: hands its guest over N times and prints the largest gap that the guest saw in each,
 * `gap_ns A B C ...`. This is the parent: it starts a worker for each hand-over, and reaps.
 */
#include "floor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct floor_state *make_state(uint32_t updates, uint32_t mib)
{
	struct floor_state *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		MUST(-1);
	s->updates = updates;
	s->ram_len = (uint64_t)mib << 20;
	s->ram_fd = (int)MUST(memfd_create("floor-ram", MFD_CLOEXEC));
	MUST(ftruncate(s->ram_fd, (off_t)s->ram_len));
	s->kvm_fd = (int)MUST(open("/dev/kvm", O_RDWR | O_CLOEXEC));
	s->cpuid.head.nent = MAX_CPUID;
	MUST(ioctl(s->kvm_fd, KVM_GET_SUPPORTED_CPUID, &s->cpuid));
	return s;
}

/* In an address space of its own, where no VM is and no guest memory. It ends with the parent, however that
 * ends. */
static pid_t start(struct floor_state *s, uint32_t number)
{
	pid_t parent = getpid(), pid = (pid_t)MUST(fork());

	if (pid)
		return pid;
	MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
	if (getppid() != parent)
		_exit(1);
	worker(s, number);
}

/* Waits for the end of @pid, which is the next to end, and well. Otherwise ends @other, too, and all. */
static void reap(pid_t pid, pid_t other)
{
	int status;
	pid_t ended;

	while ((ended = waitpid(-1, &status, 0)) < 0 && errno == EINTR)
		;
	if (ended == pid && !status)
		return;
	fprintf(stderr, "floor: a worker's wait status is %#x\n", (unsigned)status);
	if (ended != pid)
		kill(pid, SIGKILL);
	if (other && ended != other)
		kill(other, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	exit(1);
}

int main(int argc, char **argv)
{
	int updates = argc > 1 ? atoi(argv[1]) : 0, mib = argc == 3 ? atoi(argv[2]) : RAM_MIB;

	if (argc > 3 || updates <= 0 || updates > MAX_UPDATES || mib <= 0)
		return fprintf(stderr, "usage: floor UPDATES [MIB] (1 to %d)\n", MAX_UPDATES), 2;
	struct floor_state *s = make_state((uint32_t)updates, (uint32_t)mib);
	pid_t incumbent = start(s, 0);
	/* A successor is started once the incumbent's own predecessor is gone: no worker's beginning or end falls
	 * into the hand-over between two others. */
	for (uint32_t i = 1; i <= s->updates; i++) {
		pid_t successor = start(s, i);
		reap(incumbent, successor);
		incumbent = successor;
	}
	word_set(&s->over, s->updates + 1);
	reap(incumbent, 0);
	printf("gap_ns");
	for (uint32_t i = 0; i < s->updates; i++)
		printf(" %llu", (unsigned long long)s->gap_ns[i]);
	printf("\n");
	return fflush(stdout) ? 1 : 0;
}
