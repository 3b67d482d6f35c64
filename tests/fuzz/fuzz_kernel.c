/* SPDX-License-Identifier: MIT */
/*
 * A kernel image: bzImage or ELF. The first byte says whether there is an initrd and a long command
 * line. Guest memory has inaccessible pages on both sides.
 */
#include "tests/fuzz/fuzz.h"
#define RAM_LEN (32 * MIB)
#include "tests/unit/boot_test.h"

#define GUARD_LEN (16 * MIB)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
	initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
	snprintf(kernel_path, sizeof(kernel_path), "/proc/self/fd/%d", kernel_fd);
	snprintf(initrd_path, sizeof(initrd_path), "/proc/self/fd/%d", initrd_fd);
	file_put(initrd_fd, "initrd", 6);
	uint8_t *room = mmap(NULL, RAM_LEN + 2 * GUARD_LEN, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(room, MAP_FAILED);
	machine.ram.hva = room + GUARD_LEN;
	return mprotect(machine.ram.hva, RAM_LEN, PROT_READ | PROT_WRITE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char cmdline[4096];
	struct input in = {data, len};
	unsigned how = input_u8(&in);
	memset(cmdline, 'c', sizeof(cmdline) - 1);
	machine.opt = (struct options){
		.cpus = 1,
		.kernel = kernel_path,
		.initrd = how & 1 ? initrd_path : NULL,
		.cmdline = how & 2 ? cmdline : "console=ttyS0",
	};
	arch_ram_layout(&machine.ram.state, RAM_LEN, NULL);
	int rc = load(in.p, in.n);
	if (rc)
		fuzz_expect(err.text[0] && err.hint[0] && err.exit == EXIT_CONFIG, "'%s' '%s' %d",
			    err.text, err.hint, err.exit);
	else
		fuzz_expect(entry.rip >= MIB && entry.rip < RAM_LEN && entry.rsp < MIB,
			    "starts at 0x%llx", (unsigned long long)entry.rip);
	madvise(machine.ram.hva, RAM_LEN, MADV_DONTNEED);
	return 0;
}
